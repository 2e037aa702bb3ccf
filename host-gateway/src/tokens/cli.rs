//! `wavepass-gateway token`: issue tokens to phones, register cards, list, suspend, resume and delete.

use super::{IssueRequest, Registration, State, TokenRow};
use crate::bank::AccountName;
use crate::clearing::authorisation::show::{TokenRisk, risk_of};
use crate::cli::{App, CommandError, Output};
use crate::cursor;
use crate::input::no_number;
use crate::keys::{TokenKey, TokenKeyError};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;
use wavepass_protocol::time::Date;
use wavepass_protocol::token::{Expiry, Token};
use zeroize::Zeroizing;

/// Minutes east of UTC in which "today" is the first day of a new token: China's time zone, which has no other.
const UTC_OFFSET_MIN: i16 = 480;
/// The categories of riders that a token is issued for: the words that a tariff prices riders by. A slip of the pen, whose
/// rider would pay as everybody, is caught here.
const CATEGORIES: [&str; 6] = ["adult", "child", "student", "senior", "disabled", "staff"];
/// How long a new token is good by default.
const YEARS: u16 = 5;

/// Issue tokens for e-accounts, and change their state.
#[derive(Debug, Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    command: Command,
}

impl TokenArgs {
    /// The file that the command would write. It must not exist: what it holds is made once.
    pub fn output(&self) -> Option<&std::path::Path> {
        match &self.command {
            Command::Issue(issue) => Some(&issue.out),
            _ => None,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Issue a token for an e-account, and write the phone file that carries it.
    Issue(IssueArgs),
    /// Register a plastic card as a token.
    Register(RegisterArgs),
    /// List tokens: of an account, or all by pages.
    List(ListArgs),
    /// Show a token as JSON, with what it has at risk and why gates refuse it.
    Show {
        /// The token's key, as `token list` shows it.
        #[arg(value_parser = parse_key)]
        key: TokenKey,
    },
    /// Suspend a token: gates refuse it until it is resumed.
    Suspend {
        /// The token's key, as `token list` shows it.
        #[arg(value_parser = parse_key)]
        key: TokenKey,
    },
    /// Resume a suspended token.
    Resume {
        /// The token's key.
        #[arg(value_parser = parse_key)]
        key: TokenKey,
    },
    /// Delete a token for good.
    Delete {
        /// The token's key.
        #[arg(value_parser = parse_key)]
        key: TokenKey,
    },
}

#[derive(Debug, Args)]
struct IssueArgs {
    /// The e-account.
    #[arg(long)]
    account: String,
    /// The rider's category in the tariff.
    #[arg(long, default_value = "adult")]
    category: String,
    /// The first day it is good, YYYY-MM-DD; by default today.
    #[arg(long, value_parser = parse_date)]
    effective: Option<Date>,
    /// The last month it is good, YYYY-MM; by default five years on.
    #[arg(long, value_parser = parse_month)]
    expiry: Option<Expiry>,
    /// The network it is for, four characters.
    #[arg(long, default_value = "WAVE", value_parser = crate::gates::cli::parse_network)]
    network: [u8; 4],
    /// The operator it is for; 0 for any of the network.
    #[arg(long, default_value_t = 0)]
    operator: u16,
    /// Where the phone file goes; it must not exist.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Args)]
struct RegisterArgs {
    /// The card's number.
    #[arg(long, value_name = "DIGITS")]
    number: String,
    /// Its last month, YYYY-MM.
    #[arg(long, value_parser = parse_month)]
    expiry: Expiry,
    /// Its sequence number.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=99))]
    psn: u8,
    /// The e-account it will stand for.
    #[arg(long)]
    account: String,
    /// The rider's category in the tariff.
    #[arg(long, default_value = "adult")]
    category: String,
}

// Without the number.
impl std::fmt::Debug for RegisterArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegisterArgs").finish_non_exhaustive()
    }
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only this account's.
    #[arg(long)]
    account: Option<AccountName>,
    /// From the token after this key; with --account one of its tokens.
    #[arg(long, value_name = "KEY", value_parser = cursor::parse::<TokenKey>)]
    after: Option<TokenKey>,
    /// How many at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

pub(crate) fn parse_key(text: &str) -> Result<TokenKey, TokenKeyError> {
    text.parse()
}

pub(crate) fn parse_month(text: &str) -> Result<Expiry, String> {
    let form = || "a month is YYYY-MM, from 2000 to 2099".to_owned();
    let (year, month) = text.split_once('-').ok_or_else(form)?;
    let year: u8 =
        year.strip_prefix("20").filter(|y| y.len() == 2).and_then(|y| y.parse().ok()).ok_or_else(form)?;
    Expiry::new(year, month.parse().map_err(|_| form())?).map_err(|e| e.to_string())
}

fn parse_date(text: &str) -> Result<Date, String> {
    let form = || "a date is YYYY-MM-DD".to_owned();
    let mut parts = text.splitn(3, '-');
    let mut next = || parts.next().ok_or_else(form);
    let (year, month, day) = (next()?, next()?, next()?);
    let number = |text: &str| text.parse::<u16>().map_err(|_| form());
    let small = |n: u16| u8::try_from(n).map_err(|_| form());
    Date::new(number(year)?, small(number(month)?)?, small(number(day)?)?).map_err(|_| form())
}

/// Runs a `token` command as `user`.
pub async fn run(args: TokenArgs, app: &App, user: &str) -> Result<Output, CommandError> {
    match args.command {
        Command::Issue(args) => issue(args, app, user).await,
        Command::Register(args) => {
            check(app, &args.account, &args.category).await?;
            let card = Registration {
                // Read here and not by clap, whose errors repeat what was typed.
                token: Token::from_digits(&args.number)?,
                expiry: args.expiry,
                psn: args.psn,
                account_id: args.account,
                category: args.category,
            };
            let mut tx = app.store.begin().await?;
            let keys = super::register_in(&mut tx, app.clearing.as_ref(), &[card], user, app.now()?).await?;
            tx.commit().await?;
            Ok(Output::text(format!("registered as {}", keys[0])))
        }
        Command::List(args) => {
            let mut conn = app.store.pool().acquire().await?;
            let rows = match &args.account {
                Some(account) => {
                    let account = account.as_str();
                    super::account_page_in(&mut conn, account, args.after, args.limit).await?
                }
                None => super::page_in(&mut conn, args.after, args.limit).await?,
            };
            Ok(Output::text(table(&rows)))
        }
        Command::Show { key } => show(app, key).await,
        Command::Suspend { key } => change(app, key, State::Suspended, user).await,
        Command::Resume { key } => change(app, key, State::Active, user).await,
        Command::Delete { key } => change(app, key, State::Deleted, user).await,
    }
}

async fn check(app: &App, account: &str, category: &str) -> Result<(), CommandError> {
    no_number("a category", category)?;
    if !CATEGORIES.contains(&category) {
        let known = CATEGORIES.join(", ");
        return Err(format!("there is no category `{category}`; there are {known}").into());
    }
    crate::bank::cli::find_usable(app, account).await
}

async fn issue(args: IssueArgs, app: &App, user: &str) -> Result<Output, CommandError> {
    let now = app.now()?;
    check(app, &args.account, &args.category).await?;
    let today = Date::at(now, UTC_OFFSET_MIN);
    let request = IssueRequest {
        account_id: args.account,
        category: args.category,
        effective: args.effective.unwrap_or(today),
        expiry: args.expiry.unwrap_or(Date { year: today.year + YEARS, ..today }.expiry()),
        network: args.network,
        operator: args.operator,
    };
    let (clearing, bank) = (app.clearing.as_ref(), app.bank.as_ref());
    let issued = super::issue_many(&app.store, clearing, bank, &[request], user, now).await?;
    let [issued] = issued.try_into().map_err(|_| "one token was asked for")?;
    let text = format!("token {} ending {} is in {}", issued.token_key, issued.last_four, args.out.display());
    let file = Zeroizing::new(issued.phone.to_json().as_bytes().to_vec());
    Ok(Output::text(text).file(args.out, file))
}

async fn change(app: &App, key: TokenKey, state: State, user: &str) -> Result<Output, CommandError> {
    let mut tx = app.store.begin().await?;
    let row = super::set_state_in(&mut tx, app.clearing.as_ref(), key, state, user, app.now()?).await?;
    tx.commit().await?;
    app.publish_lists().await?;
    Ok(Output::text(format!("token {key} ending {} is {}", row.last_four, row.state.word())))
}

/// A token, as `token show` prints it.
#[derive(Serialize)]
struct Shown {
    token_key: String,
    last_four: String,
    expiry: String,
    state: &'static str,
    carrier: &'static str,
    category: String,
    account_id: String,
    risk: Option<TokenRisk>,
}

async fn show(app: &App, key: TokenKey) -> Result<Output, CommandError> {
    let mut conn = app.store.pool().acquire().await?;
    let row = super::find_in(&mut conn, &[key]).await?.into_iter().flatten().next();
    drop(conn);
    let row = row.ok_or(super::TokensError::Unknown(key))?;
    let shown = Shown {
        token_key: key.to_hex(),
        state: row.state_word(),
        last_four: row.last_four,
        expiry: format!("20{:02}-{:02}", row.expiry.year, row.expiry.month),
        carrier: row.carrier.word(),
        category: row.category,
        account_id: row.account_id,
        risk: risk_of(app, key).await?,
    };
    Ok(Output::text(serde_json::to_string_pretty(&shown)?))
}

fn table(rows: &[TokenRow]) -> String {
    let mut out = format!(
        "{:<32} {:<4} {:<7} {:<9} {:<5} {:<12} account",
        "token", "last", "expiry", "state", "on", "category"
    );
    for row in rows {
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "\n{} {:<4} 20{:02}-{:02} {:<9} {:<5} {:<12} {}",
            row.token_key,
            row.last_four,
            row.expiry.year,
            row.expiry.month,
            row.state_word(),
            row.carrier.word(),
            row.category,
            row.account_id
        );
    }
    out
}
