//! `wavepass-gateway reconcile`.

use std::path::{Path, PathBuf};

use super::days::Given;
use super::matching;
use super::slices;
use super::theirs::Form;
use crate::clearing::{app, cli};
use crate::cli::{App, CommandError, Output};
use crate::spool::Spooled;
use crate::taken::TakenError;
use clap::Args;

/// Reconcile a day; every difference becomes a break.
///
/// Without an option, a closed day is priced again and compared with everything that the gateway keeps of it. Several days are
/// given as FIRST..LAST, with the bank's statement of all of them.
#[derive(Debug, Args)]
pub struct ReconcileArgs {
    /// The day, YYYY-MM-DD; with --statement also days, YYYY-MM-DD..YYYY-MM-DD, at most 31.
    #[arg(value_name = "DAY")]
    days: Given,
    /// Hold the closed day against the bank's statement, ISO 20022 camt.053; of several days, each line against its own.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["network", "slices"])]
    statement: Option<PathBuf>,
    /// Hold the closed day against the clearing network's file: the house's charges CSV, or after a layout.
    #[arg(long, value_name = "FILE", conflicts_with = "slices")]
    network: Option<PathBuf>,
    /// The layout of the network's file, where it has records of fixed width.
    #[arg(long, value_name = "LAYOUT.toml", requires = "network")]
    layout: Option<PathBuf>,
    /// Hold taps, journeys, charges and postings against each other slice by slice; the day need not be closed.
    #[arg(long)]
    slices: bool,
    /// Print slices as JSON; everything else is JSON anyway.
    #[arg(long)]
    json: bool,
}

impl ReconcileArgs {
    /// The file of the bank's or the network's.
    pub fn file(&self) -> Option<&Path> {
        self.statement.as_deref().or(self.network.as_deref())
    }

    /// The layout that is read with it.
    pub fn layout(&self) -> Option<&Path> {
        self.layout.as_deref()
    }
}

/// Runs `reconcile` as `user`; `layout` is the text of the layout, `file` the file that is taken in.
pub async fn run(
    args: ReconcileArgs,
    app: &App,
    user: &str,
    layout: Option<&str>,
    file: Option<Spooled>,
) -> Result<Output, CommandError> {
    let ReconcileArgs { days, slices, json, .. } = args;
    let day = match days {
        Given::Day(day) => day,
        Given::Days(days) if args.statement.is_some() => {
            let file = file.ok_or(TakenError::NoFile)?;
            return cli::json(&matching::take_days(app, user, days, &file).await?);
        }
        Given::Days(_) => return Err("several days go with --statement alone".into()),
    };
    if slices {
        let found = slices::day(app, user, day).await?;
        return if json { cli::json(&found) } else { Ok(Output::text(slices::table(&found))) };
    }
    if args.file().is_none() {
        return cli::json(&app::reconcile(app, user, day).await?);
    }
    let form = match (args.statement.is_some(), layout) {
        (true, _) => matching::statement(app)?,
        (false, None) => Form::Charges,
        (false, Some(text)) => Form::fixed(text)?,
    };
    cli::json(&matching::take(app, user, day, form, &file.ok_or(TakenError::NoFile)?).await?)
}
