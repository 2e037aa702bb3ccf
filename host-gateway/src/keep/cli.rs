//! `wavepass-gateway person | retention`.

use super::retention;
use crate::clearing::cli::json;
use crate::cli::{App, CommandError, Output};
use clap::{Args, Subcommand};

/// What is said of a retention that does nothing.
const OFF: &str = "retention is off: `[retention] days` is 0, and every day is kept for ever";

/// Erase a person.
#[derive(Debug, Args)]
pub struct PersonArgs {
    #[command(subcommand)]
    command: PersonCommand,
}

#[derive(Debug, Subcommand)]
enum PersonCommand {
    /// Make everything that opens to the numbers of an e-account's tokens, or says whose they were, unreadable for good.
    ///
    /// The books stay, by the keys of tokens. Refused while anything of the person is open: days, charges, debts, disputes,
    /// holds; and while their e-account at the embedded bank holds money (`account pay-out`).
    Erase {
        /// The e-account.
        #[arg(long, value_name = "ID")]
        account: String,
        /// Only say what would be erased, and what stands against it.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Delete the taps of service days that are long over.
#[derive(Debug, Args)]
pub struct RetentionArgs {
    /// Only say what would be deleted.
    #[arg(long)]
    dry_run: bool,
}

/// Runs a `person` command as `user`.
pub async fn person(args: PersonArgs, app: &App, user: &str) -> Result<Output, CommandError> {
    match args.command {
        PersonCommand::Erase { account, dry_run: true } => json(&super::preview(app, &account).await?),
        PersonCommand::Erase { account, dry_run: false } => json(&super::erase(app, user, &account).await?),
    }
}

/// Runs `retention` as `user`.
pub async fn retention(args: RetentionArgs, app: &App, user: &str) -> Result<Output, CommandError> {
    let retained = match args.dry_run {
        true => retention::plan(app).await?,
        false => retention::run(app, user).await?,
    };
    let off = retained.off.then(|| OFF.to_owned());
    Ok(json(&retained)?.warning(off))
}
