//! `wavepass-gateway concentrator`: add, list and retire operators' own concentrators.

use super::{Concentrator, ConcentratorId, GateSet, Listed, Wanted};
use crate::cli::{App, CommandError, Output};
use crate::cursor;
use clap::{Args, Subcommand};
use jiff::Timestamp;
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
        /// Its name, 1 to 64 bytes that can be seen; one in service at a time has it.
        name: String,
        /// The gates whose entries it brings: numbers and ranges.
        #[arg(long, value_name = "1,2,7-9")]
        gates: GateSet,
        /// Where the key file goes; it must not exist, and is never standard output.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// List concentrators by name, and what each has brought.
    List {
        /// Retired ones too.
        #[arg(long)]
        all: bool,
        /// From the one after this key id.
        #[arg(long, value_name = "KEY-ID", value_parser = cursor::parse::<ConcentratorId>)]
        after: Option<ConcentratorId>,
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
            let Concentrator { id, name, gates, .. } = added;
            let text = format!(
                "concentrator {name} signs as {id} for gates {gates}; {} holds its key",
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
            let Concentrator { id, name, .. } = retired;
            Ok(Output::text(format!("concentrator {name} is out of service; its key {id} is refused")))
        }
    }
}

/// What the list shows of what a concentrator brought; JSON has more.
const HEARD: &str = "last heard                requests  refused  accepted  set aside";

fn table(rows: &[Listed]) -> String {
    let mut out = format!("{:<20} {:<24} {:<10} {HEARD}  gates", "key id", "name", "state");
    for Listed { concentrator: Concentrator { id, name, gates, retired_ms, .. }, heard } in rows {
        let state = if retired_ms.is_some() { "retired" } else { "in service" };
        let last = heard.last_ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let last = last.map_or_else(|| "never".to_owned(), |last| format!("{last:.0}"));
        let set_aside = heard.set_aside + heard.not_kept;
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "\n{:<20} {name:<24} {state:<10} {last:<24} {:>9} {:>8} {:>9} {set_aside:>10}  {gates}",
            id.to_string(),
            heard.requests,
            heard.refused,
            heard.accepted,
        );
    }
    out
}
