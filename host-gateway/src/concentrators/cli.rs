//! `wavepass-gateway concentrator`: add, list and retire operators' own concentrators.

use super::{Concentrator, ConcentratorKey, GateSet, Wanted};
use crate::cli::{App, CommandError, Output};
use crate::cursor;
use clap::{Args, Subcommand};
use std::fmt::Write;
use std::path::PathBuf;

/// Add, list and retire concentrators: machines that hand in the sealed entries of their gates over HTTP.
#[derive(Debug, Args)]
pub struct ConcentratorArgs {
    #[command(subcommand)]
    command: Command,
}

impl ConcentratorArgs {
    /// The file that the command would write. It must not exist: what it holds is made once.
    pub fn output(&self) -> Option<&std::path::Path> {
        match &self.command {
            Command::Add { out, .. } => Some(out),
            _ => None,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Add a concentrator and write its key file, which is made this once: what it signs its batches with.
    Add {
        /// Its name, 1 to 64 bytes; one in service at a time has it.
        name: String,
        /// The gates whose entries it brings: numbers and ranges.
        #[arg(long, value_name = "1,2,7-9")]
        gates: GateSet,
        /// Where the key file goes; it must not exist.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// List concentrators by name.
    List {
        /// Retired ones too.
        #[arg(long)]
        all: bool,
        /// From the one after this key id.
        #[arg(long, value_name = "KEY-ID", value_parser = cursor::parse::<ConcentratorKey>)]
        after: Option<ConcentratorKey>,
        /// How many at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take a concentrator out of service: what it signs is refused from then on, by every gateway on the database.
    Retire {
        /// Its name.
        name: String,
    },
}

/// Runs a `concentrator` command as `user`.
pub async fn run(args: ConcentratorArgs, app: &App, user: &str) -> Result<Output, CommandError> {
    match args.command {
        Command::Add { name, gates, out } => {
            let mut tx = app.store.begin().await?;
            let keys = app.clearing.as_ref();
            let (added, file) = super::add_in(&mut tx, keys, (&name, gates), user, app.now()?).await?;
            tx.commit().await?;
            let Concentrator { key_id, gates, .. } = added;
            let text = format!(
                "concentrator {name} signs as {key_id} for gates {gates}; {} holds its key",
                out.display()
            );
            Ok(Output::text(text).file(out, file))
        }
        Command::List { all, after, limit, json } => {
            let found = super::list(&app.store, &Wanted { all, after, limit }).await?;
            Ok(Output::text(if json {
                serde_json::to_string_pretty(&found)?
            } else {
                table(&found.concentrators)
            }))
        }
        Command::Retire { name } => {
            let retired = super::retire(app, &name, user).await?;
            Ok(Output::text(format!(
                "concentrator {name} is out of service; its key {} is refused",
                retired.key_id
            )))
        }
    }
}

fn table(rows: &[Concentrator]) -> String {
    let mut out = format!("{:<20} {:<24} {:<10} gates", "key id", "name", "state");
    for row in rows {
        let state = if row.retired_ms.is_some() { "retired" } else { "in service" };
        // Writing to a string cannot fail.
        let _ = write!(out, "\n{:<20} {:<24} {state:<10} {}", row.key_id, row.name, row.gates);
    }
    out
}
