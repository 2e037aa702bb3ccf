//! `wavepass-gateway account`: open, fill, show and list e-accounts of the embedded bank.
//!
//! For a house without a bank of its own. With another bank behind the gateway, accounts are that bank's business.

use super::AccountName;
use super::embedded::{self, AccountState, Class, Deposit, EAccount, Limits, NewAccount};
use super::http::{BankSection, ConnectorKind};
use crate::cli::{App, CommandError, Output};
use crate::cursor;
use crate::input::no_number;
use crate::store::{Audit, audit_in, sql};
use clap::{Args, Subcommand, ValueEnum};
use std::fmt::Write;
use wavepass_fares::Fen;

/// The longest name of an account or a deposit, bytes; an attempt's has 28 bytes and is no printable text.
const MAX_NAME: usize = 64;
/// The length of an attempt's name in the bank's books, which no deposit may have.
const ATTEMPT_BYTES: usize = 28;

/// Open, fill, show and list e-accounts of the embedded bank.
#[derive(Debug, Args)]
pub struct AccountArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Open an e-account; one that is there already stays as it is.
    Open {
        /// Its name: a name of the house's own, not a card's or a person's number.
        account: String,
        /// Its class.
        #[arg(long, value_enum, default_value_t = ClassWord::Ii)]
        class: ClassWord,
    },
    /// Fill an e-account from its owner's bound account.
    Deposit {
        /// The account.
        account: String,
        /// How much, fen.
        #[arg(long, value_name = "FEN", value_parser = clap::value_parser!(i64).range(1..))]
        fen: i64,
        /// The deposit's name: given again, it moves nothing.
        #[arg(long, value_name = "NAME")]
        name: String,
    },
    /// Show an e-account.
    Show {
        /// The account.
        account: String,
    },
    /// List e-accounts, by name.
    List {
        /// From the account after this one.
        #[arg(long, value_name = "ACCOUNT", value_parser = cursor::parse::<AccountName>)]
        after: Option<AccountName>,
        /// How many at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ClassWord {
    Ii,
    Iii,
}

fn check(what: &'static str, name: &str) -> Result<(), CommandError> {
    if !(1..=MAX_NAME).contains(&name.len()) || !name.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!("{what} is 1 to {MAX_NAME} printable ASCII characters without spaces").into());
    }
    Ok(no_number(what, name)?)
}

/// Where the accounts are, if not in this store.
fn outside(app: &App) -> Result<Option<String>, CommandError> {
    let section = BankSection::of(&app.config)?;
    Ok((section.connector == ConnectorKind::Http).then_some(section.url))
}

/// Runs an `account` command as `user`.
pub async fn run(args: AccountArgs, app: &App, user: &str) -> Result<Output, CommandError> {
    if let Some(url) = outside(app)? {
        return Err(format!(
            "e-accounts are kept by the bank at {url}, not here ([bank] connector = \"http\"): open, fill and list them there"
        )
        .into());
    }
    match args.command {
        Command::Open { account, class } => open(app, account, class, user).await,
        Command::Deposit { account, fen, name } => deposit(app, account, Fen(fen), name, user).await,
        Command::Show { account } => {
            Ok(Output::text(table(&[find(app, &account).await?], sql::ms(app.clock.now()))?))
        }
        Command::List { after, limit } => {
            let mut conn = app.store.pool().acquire().await?;
            let after = after.as_ref().map_or("", AccountName::as_str);
            let accounts = embedded::page_in(&mut conn, after, limit).await?;
            Ok(Output::text(table(&accounts, sql::ms(app.clock.now()))?))
        }
    }
}

async fn open(app: &App, account_id: String, class: ClassWord, user: &str) -> Result<Output, CommandError> {
    check("an account's name", &account_id)?;
    let at = app.now()?;
    let class = match class {
        ClassWord::Ii => Class::Ii,
        ClassWord::Iii => Class::Iii,
    };
    let mut tx = app.store.begin().await?;
    if let Some(found) = embedded::find_in(&mut tx, &[&account_id]).await?.into_iter().flatten().next() {
        return match found.class == class {
            true => Ok(Output::text(format!("e-account {account_id} is there already"))),
            false => {
                Err(format!("e-account {account_id} is there already, of class {}", class_word(&found))
                    .into())
            }
        };
    }
    embedded::open_in(&mut tx, &[NewAccount { account_id: account_id.clone(), class }]).await?;
    audit_in(&mut tx, &Audit { at, user, action: "account.open", subject: &account_id, detail: "" }).await?;
    tx.commit().await?;
    Ok(Output::text(format!("e-account {account_id} is open")))
}

async fn deposit(
    app: &App,
    account_id: String,
    amount: Fen,
    name: String,
    user: &str,
) -> Result<Output, CommandError> {
    check("a deposit's name", &name)?;
    if name.len() == ATTEMPT_BYTES {
        return Err(format!("a deposit's name is not {ATTEMPT_BYTES} characters long: attempts' are").into());
    }
    let at = app.now()?;
    let limits: Limits = app.config.section("bank")?;
    let mut tx = app.store.begin().await?;
    let before = embedded::find_in(&mut tx, &[&account_id]).await?.into_iter().flatten().next();
    let deposit = Deposit { account_id: account_id.clone(), name: name.clone(), amount, at_ms: sql::ms(at) };
    embedded::deposit_in(&mut tx, &limits, &[deposit]).await?;
    let after = embedded::find_in(&mut tx, &[&account_id]).await?.into_iter().flatten().next();
    let holds = after.as_ref().map_or(Fen::ZERO, |account| account.balance);
    if before == after {
        return Ok(Output::text(format!("deposit {name} came before; {account_id} holds {holds} CNY")));
    }
    let detail = format!("{name}: {} fen", amount.0);
    audit_in(&mut tx, &Audit { at, user, action: "account.deposit", subject: &account_id, detail: &detail })
        .await?;
    tx.commit().await?;
    Ok(Output::text(format!("e-account {account_id} holds {holds} CNY")))
}

/// The account of this name, for a command that needs one.
pub(crate) async fn find(app: &App, account_id: &str) -> Result<EAccount, CommandError> {
    no_number("an account's name", account_id)?;
    let mut conn = app.store.pool().acquire().await?;
    let found = embedded::find_in(&mut conn, &[account_id]).await?.into_iter().flatten().next();
    Ok(found.ok_or_else(|| format!("there is no e-account `{account_id}`: open it with `account open`"))?)
}

/// The same, for a token that is to stand for it. An outside bank knows its accounts itself: the name is taken as it is
/// given, and a charge on one that is not there is declined as `unknown_account`.
pub(crate) async fn find_usable(app: &App, account_id: &str) -> Result<(), CommandError> {
    if outside(app)?.is_some() {
        return check("an account's name", account_id);
    }
    match find(app, account_id).await?.state {
        AccountState::Closed => Err(format!("e-account `{account_id}` is closed").into()),
        AccountState::Open | AccountState::Frozen => Ok(()),
    }
}

const fn class_word(account: &EAccount) -> &'static str {
    match account.class {
        Class::Ii => "ii",
        Class::Iii => "iii",
    }
}

fn table(accounts: &[EAccount], now_ms: i64) -> Result<String, CommandError> {
    let mut out =
        format!("{:<24} {:<5} {:<6} {:>14} {:>14}", "account", "class", "state", "holds, CNY", "of it held");
    for account in accounts {
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "\n{:<24} {:<5} {:<6} {:>14} {:>14}",
            account.account_id,
            class_word(account),
            account.state.as_str(),
            account.balance.to_string(),
            account.held(now_ms)?.to_string()
        );
    }
    Ok(out)
}
