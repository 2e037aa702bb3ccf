//! `wavepass-gateway deny`: add to, remove from, list and check the deny list.

use crate::cli::{App, CommandError, Output};
use crate::cursor;
use crate::input::no_number;
use crate::keys::{ClearingKeys, TokenKey};
use crate::lists::deny::{self, Addition, Cause, DenyRow};
use crate::lists::standing::standing_in;
use crate::tokens::cli::{parse_key, parse_month};
use clap::{Args, Subcommand};
use std::fmt::{self, Write};
use wavepass_protocol::token::{Expiry, Token};

/// Add to, remove from, list and check the deny list.
#[derive(Debug, Args)]
pub struct DenyArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Deny a token at every gate.
    Add {
        #[command(flatten)]
        which: Which,
        /// Why.
        #[arg(long, value_enum, default_value_t = Cause::Manual)]
        cause: Cause,
        /// Anything more; no numbers, no names.
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Lift a cause. A token that keeps another stays denied.
    Remove {
        #[command(flatten)]
        which: Which,
        /// Which cause. A debt is lifted by its recovery, waiver or write-off, not here.
        #[arg(long, value_enum, default_value_t = Cause::Manual)]
        cause: Cause,
        /// Why.
        #[arg(long, default_value = "")]
        note: String,
    },
    /// List denied tokens with their causes.
    List {
        /// From the token after this key.
        #[arg(long, value_name = "KEY", value_parser = cursor::parse::<TokenKey>)]
        after: Option<TokenKey>,
        /// How many tokens at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Say whether a token is denied: by the table, and by the list that gates hold.
    Check {
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Args)]
struct Which {
    /// The token's key, as `token list` and `deny list` show it.
    #[arg(long, value_parser = parse_key, conflicts_with_all = ["number", "expiry"], required_unless_present = "number")]
    token: Option<TokenKey>,
    /// The token's or card's number.
    #[arg(long, value_name = "DIGITS", requires = "expiry")]
    number: Option<String>,
    /// Its expiry, YYYY-MM.
    #[arg(long, value_parser = parse_month, requires = "number")]
    expiry: Option<Expiry>,
}

// Without the number.
impl fmt::Debug for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Which").field("token", &self.token).finish_non_exhaustive()
    }
}

type Named = (TokenKey, Option<(Token, Expiry)>);

impl Which {
    // The number is read here and not by clap, whose errors repeat what was typed.
    fn read(&self, keys: &dyn ClearingKeys) -> Result<Named, CommandError> {
        match (&self.token, &self.number, self.expiry) {
            (Some(key), ..) => Ok((*key, None)),
            (None, Some(number), Some(expiry)) => {
                let token = Token::from_digits(number)?;
                Ok((keys.token_key(&token, expiry), Some((token, expiry))))
            }
            _ => Err("give --token, or --number with --expiry".into()),
        }
    }
}

/// Runs a `deny` command as `user`. A change is published at once.
pub async fn run(args: DenyArgs, app: &App, user: &str) -> Result<Output, CommandError> {
    let keys = app.clearing.as_ref();
    match args.command {
        Command::Add { which, cause, note } => {
            no_number("a note", &note)?;
            let (token_key, number) = which.read(keys)?;
            let mut tx = app.store.begin().await?;
            let added =
                deny::add_in(&mut tx, keys, &[Addition { token_key, number, cause, note }], user, app.now()?)
                    .await?;
            tx.commit().await?;
            app.publish_lists().await?;
            let already = if added == 0 { " already" } else { "" };
            Ok(Output::text(format!("token {token_key} is{already} denied: {}", cause.word())))
        }
        Command::Remove { cause: cause @ (Cause::Debt | Cause::Deleted), .. } => {
            Err(format!("the cause `{}` is not lifted by hand", cause.word()).into())
        }
        Command::Remove { which, cause, note } => {
            no_number("a note", &note)?;
            let (token_key, _) = which.read(keys)?;
            let mut tx = app.store.begin().await?;
            let removed = deny::remove_in(&mut tx, &[(token_key, cause)], user, &note, app.now()?).await?;
            let left = deny::causes_in(&mut tx, &token_key).await?;
            tx.commit().await?;
            app.publish_lists().await?;
            let was = if removed == 0 { "was not denied for" } else { "is no longer denied for" };
            let still =
                if left.is_empty() { String::new() } else { format!("; it stays denied: {}", words(&left)) };
            Ok(Output::text(format!("token {token_key} {was} `{}`{still}", cause.word())))
        }
        Command::List { after, limit } => {
            let mut conn = app.store.pool().acquire().await?;
            let rows = deny::list_in(&mut conn, after, limit).await?;
            let count = deny::count_in(&mut conn).await?;
            Ok(Output::text(table(&rows, count)))
        }
        Command::Check { which } => {
            let (token_key, number) = which.read(keys)?;
            let mut conn = app.store.pool().acquire().await?;
            let standing = standing_in(&mut conn, keys, &app.lists, token_key, number).await?;
            Ok(Output::text(standing.to_string()))
        }
    }
}

fn words(rows: &[DenyRow]) -> String {
    rows.iter().map(|row| row.cause.word()).collect::<Vec<_>>().join(", ")
}

fn table(rows: &[DenyRow], count: u64) -> String {
    let mut out = format!(
        "denied tokens: {count}\n{:<32} {:<4} {:<7} {:<7} {:<12} note",
        "token", "last", "expiry", "cause", "by"
    );
    for row in rows {
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "\n{} {:<4} 20{:02}-{:02} {:<7} {:<12} {}",
            row.token_key,
            row.last_four,
            row.expiry.year,
            row.expiry.month,
            row.cause.word(),
            row.by,
            row.note
        );
    }
    out
}
