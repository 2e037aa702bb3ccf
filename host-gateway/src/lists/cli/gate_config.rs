//! `wavepass-gateway gate-config`: show, check and set how gates work.

use super::publish;
use crate::cli::{App, CommandError, Output};
use crate::input;
use crate::lists::gate_config::{ConfigFile, parse};
use crate::lists::{change_config_in, config_in};
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use wavepass_protocol::lists::Kind;

/// Show, check and set how gates work.
#[derive(Debug, Args)]
pub struct GateConfigArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the configuration: a file that `set` takes.
    Show {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check a file as a gate does, and change nothing.
    Check {
        /// The configuration (TOML).
        file: PathBuf,
    },
    /// Set the configuration of every gate.
    Set {
        /// The configuration (TOML).
        file: PathBuf,
    },
}

impl GateConfigArgs {
    /// The file that the command reads.
    pub fn input(&self) -> Option<&Path> {
        match &self.command {
            Command::Show { .. } => None,
            Command::Check { file } | Command::Set { file } => Some(file),
        }
    }

    /// The file that is only to be checked, for which no store is needed.
    pub fn check(&self) -> Option<&Path> {
        match &self.command {
            Command::Check { file } => Some(file),
            _ => None,
        }
    }
}

/// `gate-config check`: reads the file itself; it needs no store.
pub fn check(file: &Path) -> Result<Output, CommandError> {
    let name = file.display().to_string();
    let text = input::read_text(file, input::MAX_CONFIG).map_err(|e| format!("{name}: {e}"))?;
    sound(&name, &text)
}

fn sound(name: &str, text: &str) -> Result<Output, CommandError> {
    let config = parse(name, text)?;
    let relay = if config.relay.is_some_and(|limits| limits.cap_us > 0) { "timed" } else { "not timed" };
    let number = ConfigFile::of(&config).applications();
    Ok(Output::text(format!("{name} is sound: gates take it; applications: {number}, cards are {relay}")))
}

/// Runs a `gate-config` command as `user`; `text` is that of its file. A change is published at once.
pub async fn run(
    args: GateConfigArgs,
    app: &App,
    user: &str,
    text: Option<&str>,
) -> Result<Output, CommandError> {
    let needed = || text.ok_or("the command came without its file");
    match args.command {
        Command::Show { json } => {
            let mut conn = app.store.pool().acquire().await?;
            let file = ConfigFile::of(&config_in(&mut conn).await?);
            Ok(Output::text(if json { serde_json::to_string_pretty(&file)? } else { file.to_toml()? }))
        }
        Command::Check { file } => sound(&file.display().to_string(), needed()?),
        Command::Set { file } => {
            let config = parse(&file.display().to_string(), needed()?)?;
            let mut tx = app.store.begin().await?;
            let changed = change_config_in(&mut tx, &config, user, app.now()?).await?;
            tx.commit().await?;
            let published = publish(app, Kind::Config).await?;
            let what = match &changed[..] {
                [] => "the configuration is this one already".to_owned(),
                changed => format!("the configuration is set, with other {}", changed.join(", ")),
            };
            Ok(Output::text(format!("{what}; {published}")))
        }
    }
}
