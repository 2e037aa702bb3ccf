//! `wavepass-gateway debt`: list, recover, waive and write off debts.

use std::fmt::Write;

use clap::{Args, Subcommand};
use wavepass_fares::ServiceDay;

use super::{DebtId, DebtState, Debts, Wanted};
use crate::cli::{App, CommandError, Output};
use crate::cursor;
use crate::keys::TokenKey;
use crate::tokens::cli::parse_key;

/// List, recover, waive and write off debts.
#[derive(Debug, Args)]
pub struct DebtArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List debts by token, day and part.
    List {
        /// Only this token's.
        #[arg(long, value_parser = parse_key, value_name = "KEY")]
        token: Option<TokenKey>,
        /// Only those.
        #[arg(long, value_enum)]
        state: Option<DebtState>,
        /// From the debt after this one.
        #[arg(long, value_name = "ID", value_parser = cursor::parse::<DebtId>)]
        after: Option<DebtId>,
        /// How many at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Ask the bank again, now, for everything that a token owes.
    Recover {
        /// The token's key, as `debt list` shows it.
        #[arg(long, value_parser = parse_key, value_name = "KEY")]
        token: TokenKey,
    },
    /// Give a debt up for the rider's sake. The token leaves the deny list once it owes nothing. With --part also end a credit that the
    /// bank declined: given in another way, or not at all.
    Waive(Ending),
    /// Give a debt up as lost. The token stays on the deny list, for `written_off`, until it is readmitted.
    WriteOff {
        #[command(flatten)]
        ending: Ending,
        /// Take the token off the deny list, as far as write-offs keep it there.
        #[arg(long)]
        readmit: bool,
    },
}

#[derive(Debug, Args)]
struct Ending {
    /// The token's key, as `debt list` shows it.
    #[arg(long, value_parser = parse_key, value_name = "KEY")]
    token: TokenKey,
    /// The service day, YYYY-MM-DD.
    #[arg(long)]
    day: ServiceDay,
    /// Only this part of the day; by default all that are open.
    #[arg(long, value_name = "N")]
    part: Option<u32>,
    /// Why, for the audit log; no numbers of cards, no names.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Runs a `debt` command as `user`. A change of the deny list is published at once.
pub async fn run(args: DebtArgs, app: &App, user: &str) -> Result<Output, CommandError> {
    let text = match args.command {
        Command::List { token, state, after, limit, json } => {
            let debts = super::list(app, Wanted { token_key: token, state, after, limit }).await?;
            if json { serde_json::to_string_pretty(&debts)? } else { table(&debts) }
        }
        Command::Recover { token } => serde_json::to_string_pretty(&super::recover(app, user, token).await?)?,
        Command::Waive(Ending { token, day, part, reason }) => {
            serde_json::to_string_pretty(&super::waive(app, user, (token, day, part), &reason).await?)?
        }
        Command::WriteOff { ending: Ending { token, day, part, reason }, readmit } => {
            let done = super::write_off(app, user, (token, day, part), &reason, readmit).await?;
            serde_json::to_string_pretty(&done)?
        }
    };
    Ok(Output::text(text))
}

fn table(debts: &Debts) -> String {
    let mut out = format!(
        "{:<32} {:<4} {:<10} {:>4} {:>10} {:<11} {:<15} asked",
        "token", "last", "day", "part", "fen", "state", "reason"
    );
    for debt in &debts.debts {
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "\n{} {:<4} {} {:>4} {:>10} {:<11} {:<15} {}",
            debt.token_key,
            debt.last_four.as_deref().unwrap_or("-"),
            debt.service_day,
            debt.part,
            debt.amount_fen.0,
            debt.state.as_str(),
            debt.reason,
            debt.attempts
        );
    }
    if let Some(standing) = &debts.deny_list {
        let _ = write!(out, "\n{standing}");
    }
    out
}
