//! `wavepass-gateway account`: open, fill, pay out, show and list e-accounts of the embedded bank.
//!
//! For a house without a bank of its own. With another bank behind the gateway, accounts are that bank's business.

use super::AccountName;
use super::embedded::{self, AccountState, Class, Deposit, EAccount, NewAccount};
use super::http::{BankSection, elsewhere};
use crate::clearing::pay_out::{PaidOut, pay_out};
use crate::cli::{App, CommandError, Output};
use crate::cursor;
use crate::input;
use crate::keep::erased_ms_in;
use crate::store::db::Conn;
use crate::store::{Audit, audit_in, sql};
use crate::tokens::TokensError;
use clap::{Args, Subcommand, ValueEnum};
use std::fmt::Write;
use wavepass_fares::Fen;
use wavepass_files::iso20022::check_account;

/// The length of an attempt's name in the bank's books, which no deposit may have: it is no printable text.
const ATTEMPT_BYTES: usize = 28;

/// Open, fill, pay out, show and list e-accounts of the embedded bank.
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
    /// Pay out all that an e-account holds to its owner's bound account.
    ///
    /// Refused while anything of its tokens is open: days, charges, debts, disputes, holds.
    PayOut {
        /// The account.
        account: String,
        /// The pay-out's name: given again, it moves nothing.
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
        /// Those too whose persons were erased: what is left of them in the bank's books.
        #[arg(long)]
        all: bool,
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

/// Runs an `account` command as `user`.
pub async fn run(args: AccountArgs, app: &App, user: &str) -> Result<Output, CommandError> {
    if let Some(url) = elsewhere(&app.config)? {
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
        Command::PayOut { account, name } => {
            let PaidOut { account, name, paid_fen, already } = pay_out(app, user, &account, &name).await?;
            Ok(Output::text(match already {
                true => format!("pay-out {name} came before: {paid_fen} CNY of e-account {account}"),
                false => format!("{paid_fen} CNY of e-account {account} are paid out to its bound account"),
            }))
        }
        Command::List { all, after, limit } => {
            let mut conn = app.store.pool().acquire().await?;
            let after = after.as_ref().map_or("", AccountName::as_str);
            let accounts = embedded::page_in(&mut conn, after, limit, all).await?;
            Ok(Output::text(table(&accounts, sql::ms(app.clock.now()))?))
        }
    }
}

async fn open(app: &App, account_id: String, class: ClassWord, user: &str) -> Result<Output, CommandError> {
    new_name(&account_id)?;
    if account_id.starts_with(embedded::ERASED) {
        return Err(format!(
            "no e-account is opened by a name that begins with `{}`: those are of persons who were erased",
            embedded::ERASED
        )
        .into());
    }
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
    not_erased_in(&mut tx, app, &account_id).await?;
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
    input::word("a deposit's name", &name)?;
    if name.len() == ATTEMPT_BYTES {
        return Err(format!("a deposit's name is not {ATTEMPT_BYTES} characters long: attempts' are").into());
    }
    let at = app.now()?;
    let limits = BankSection::of(&app.config)?.limits();
    let mut tx = app.store.begin().await?;
    let before = embedded::find_in(&mut tx, &[&account_id]).await?.into_iter().flatten().next();
    if before.is_none() {
        not_erased_in(&mut tx, app, &account_id).await?;
    }
    let deposit = Deposit { account_id: account_id.clone(), name: name.clone(), amount, at_ms: sql::ms(at) };
    embedded::deposit_in(&mut tx, &limits, &[deposit]).await?;
    let after = embedded::find_in(&mut tx, &[&account_id]).await?.into_iter().flatten().next();
    let holds = after.as_ref().map_or(Fen::ZERO, |account| account.balance);
    if before == after {
        // Under another sum it is somebody's mistake, whichever of the two was meant.
        return match embedded::deposited_in(&mut tx, &account_id, &name).await? {
            Some(came) if came != amount => Err(format!(
                "deposit {name} came before, of {came} CNY and not of {amount}: nothing was moved; {account_id} holds {holds} CNY"
            )
            .into()),
            _ => Ok(Output::text(format!("deposit {name} came before; {account_id} holds {holds} CNY"))),
        };
    }
    let detail = format!("{name}: {} fen", amount.0);
    audit_in(&mut tx, &Audit { at, user, action: "account.deposit", subject: &account_id, detail: &detail })
        .await?;
    tx.commit().await?;
    Ok(Output::text(format!("e-account {account_id} holds {holds} CNY")))
}

/// Refuses a name that a collection does not carry: one such account would stop the day's file.
fn new_name(account_id: &str) -> Result<(), CommandError> {
    let told = |fault| {
        format!("an account's name {fault}: the bank's files take 1 to 34 letters, digits and /-?:().,'+")
    };
    check_account(account_id).map_err(told)?;
    if account_id.contains(' ') {
        return Err("an account's name holds a space: it is 1 to 34 letters, digits and /-?:().,'+".into());
    }
    Ok(input::word("an account's name", account_id)?)
}

/// The account of this name, for a command that needs one.
pub(crate) async fn find(app: &App, account_id: &str) -> Result<EAccount, CommandError> {
    input::no_number("an account's name", account_id)?;
    let mut conn = app.store.pool().acquire().await?;
    if let Some(found) = embedded::find_in(&mut conn, &[account_id]).await?.into_iter().flatten().next() {
        return Ok(found);
    }
    not_erased_in(&mut conn, app, account_id).await?;
    Err(format!("there is no e-account `{account_id}`: open it with `account open`").into())
}

/// Says of an account that is not there if it is not because its person was erased.
async fn not_erased_in(conn: &mut Conn, app: &App, account_id: &str) -> Result<(), CommandError> {
    match erased_ms_in(conn, &*app.clearing, account_id).await? {
        Some(_) => Err(TokensError::Erased.into()),
        None => Ok(()),
    }
}

/// The same, for a token that is to stand for it. An outside bank knows its accounts itself: the name is taken as it is
/// given, and a charge on one that is not there is declined as `unknown_account`.
pub(crate) async fn find_usable(app: &App, account_id: &str) -> Result<(), CommandError> {
    if elsewhere(&app.config)?.is_some() {
        return new_name(account_id);
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
            if account.is_erased() { "erased" } else { account.state.as_str() },
            account.balance.to_string(),
            account.held(now_ms)?.to_string()
        );
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use crate::testing::House;

    #[tokio::test]
    async fn no_account_is_opened_that_a_collection_cannot_carry() {
        let house = House::new().await;
        for bad in ["", "ACC_1", "A".repeat(35).as_str(), "anna@home"] {
            let told = house.refusal(&["account", "open", bad]).await;
            assert!(told.contains("1 to 34 letters, digits and"), "{told}");
        }
        house.command(&["account", "open", &"A".repeat(34)]).await;
        assert_eq!(house.count("SELECT count(*) FROM bank_accounts").await, 1);
    }

    #[tokio::test]
    async fn a_deposit_that_comes_again_with_another_sum_is_told_and_moves_nothing() {
        let house = House::new().await;
        house.command(&["account", "open", "ACC-1"]).await;
        let first = ["account", "deposit", "ACC-1", "--name", "first", "--fen"];
        house.command(&[&first[..], &["500"]].concat()).await;
        let again = house.command(&[&first[..], &["500"]].concat()).await;
        assert_eq!(again, "deposit first came before; ACC-1 holds 5.00 CNY");
        let told = house.refusal(&[&first[..], &["700"]].concat()).await;
        assert!(told.contains("of 5.00 CNY and not of 7.00: nothing was moved"), "{told}");
        assert_eq!(house.count("SELECT balance_fen FROM bank_accounts").await, 500);
    }
}
