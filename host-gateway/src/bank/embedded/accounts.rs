//! E-accounts: opened, filled, frozen, found and listed.

use serde::{Deserialize, Serialize};
use wavepass_fares::{Fen, Overflow};

use super::book::{Book, answers_in};
use super::holds::Held;
use super::limits::{Class, Limits};
use crate::store::StoreError;
use crate::store::db::{Conn, query, write_many};

/// Whether an account can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccountState {
    /// In use.
    Open,
    /// Nothing may leave it; credits are taken.
    Frozen,
    /// Gone.
    Closed,
}

impl AccountState {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Frozen => "frozen",
            Self::Closed => "closed",
        }
    }

    pub(super) fn parse(word: &str) -> Option<Self> {
        [Self::Open, Self::Frozen, Self::Closed].into_iter().find(|state| state.as_str() == word)
    }
}

/// Why the bank refuses to open or fill an account.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Nobody by that name.
    #[error("there is no e-account `{0}`")]
    Unknown(String),
    /// The account is not open, or its class may not hold so much.
    #[error("e-account `{account_id}` refuses the deposit: {why}")]
    Refused {
        /// The account.
        account_id: String,
        /// Why.
        why: &'static str,
    },
    /// A sum beyond 64 bits.
    #[error(transparent)]
    Overflow(#[from] Overflow),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for AccountError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// An account to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAccount {
    /// Its name.
    pub account_id: String,
    /// Its class.
    pub class: Class,
}

/// Money into an account from its owner's bound class I account. Its name makes it count once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deposit {
    /// The account.
    pub account_id: String,
    /// The deposit's name, unique for the account; not 28 bytes long, which attempts are.
    pub name: String,
    /// How much; above zero.
    pub amount: Fen,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
}

/// An account as the bank keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EAccount {
    /// Its name.
    pub account_id: String,
    /// Its class.
    pub class: Class,
    /// Its state.
    pub state: AccountState,
    /// What it holds.
    pub balance: Fen,
    /// What of it is held for somebody.
    pub(super) held: Vec<Held>,
    pub(super) spent_on: i64,
    pub(super) day_spent: Fen,
    pub(super) spent_in: i64,
    pub(super) year_spent: Fen,
}

/// What the name of every e-account begins with whose person was erased; no other may be opened by such a name.
pub const ERASED: &str = "erased-";

impl EAccount {
    /// Whether this is what is left of the e-account of a person who was erased.
    pub fn is_erased(&self) -> bool {
        self.state == AccountState::Closed && self.account_id.starts_with(ERASED)
    }

    /// What of the balance is held at a time, in milliseconds since 1970-01-01 UTC, and so not available.
    pub fn held(&self, now_ms: i64) -> Result<Fen, Overflow> {
        Fen::sum(self.held.iter().filter_map(|held| held.at(now_ms)))
    }
}

/// Opens accounts in the caller's transaction; one that is there already stays as it is.
pub async fn open_in(conn: &mut Conn, accounts: &[NewAccount]) -> Result<(), AccountError> {
    let text =
        "INSERT INTO bank_accounts (account_id, class, state, balance_fen) VALUES ?? ON CONFLICT DO NOTHING";
    let rows = accounts.iter().map(|a| (&a.account_id, a.class.number(), AccountState::Open.as_str(), 0));
    write_many(conn, text, rows).await?;
    Ok(())
}

/// Freezes, closes or opens an account again.
pub async fn set_state_in(
    conn: &mut Conn,
    account_id: &str,
    state: AccountState,
) -> Result<(), AccountError> {
    let changed = query("UPDATE bank_accounts SET state = ? WHERE account_id = ?")
        .bind(state.as_str())
        .bind(account_id)
        .execute(conn)
        .await?;
    if changed == 1 { Ok(()) } else { Err(AccountError::Unknown(account_id.to_owned())) }
}

/// Fills accounts from their owners' bound accounts, in the caller's transaction. A deposit whose name came before
/// moves nothing. One that is refused refuses them all.
pub async fn deposit_in(conn: &mut Conn, limits: &Limits, deposits: &[Deposit]) -> Result<(), AccountError> {
    let keys: Vec<(&str, &[u8])> =
        deposits.iter().map(|d| (d.account_id.as_str(), d.name.as_bytes())).collect();
    let mut answered = answers_in(conn, &keys).await?;
    let names: Vec<&str> = deposits.iter().map(|d| d.account_id.as_str()).collect();
    let mut book = Book::load(conn, &names).await?;
    for deposit in deposits {
        let entry = deposit.name.as_bytes();
        let key = (deposit.account_id.clone(), entry.to_vec());
        if answered.insert(key, (deposit.amount, String::new())).is_some() {
            continue;
        }
        let refused = |why| AccountError::Refused { account_id: deposit.account_id.clone(), why };
        let account = book
            .accounts
            .get_mut(&deposit.account_id)
            .ok_or_else(|| AccountError::Unknown(deposit.account_id.clone()))?;
        if account.state == AccountState::Closed {
            return Err(refused("it is closed"));
        }
        if deposit.amount <= Fen::ZERO {
            return Err(refused("a deposit is above zero"));
        }
        let balance = account.balance.plus(deposit.amount)?;
        if limits.of(account.class).balance_fen.is_some_and(|most| balance.0 > most) {
            return Err(refused("its class may not hold so much"));
        }
        account.balance = balance;
        let lines = [("account", deposit.amount), ("bound", deposit.amount.negated()?)];
        book.post(&deposit.account_id, entry, lines, deposit.at_ms);
        book.answer(&deposit.account_id, entry, 0, deposit.amount.negated()?, "approved");
    }
    book.write_in(conn).await?;
    Ok(())
}

/// What the deposit of this name moved; `None`: there was none.
pub async fn deposited_in(conn: &mut Conn, account_id: &str, name: &str) -> Result<Option<Fen>, StoreError> {
    let key = (account_id, name.as_bytes());
    // What the books have is what left the account.
    Ok(answers_in(conn, &[key]).await?.into_values().next().map(|(amount, _)| Fen(-amount.0)))
}

/// Accounts by name; `None` for a name that there is not.
pub async fn find_in(conn: &mut Conn, names: &[&str]) -> Result<Vec<Option<EAccount>>, StoreError> {
    let book = Book::load(conn, names).await?;
    Ok(names.iter().map(|&name| book.accounts.get(name).cloned()).collect())
}

/// A page of accounts by name, from the one after `after`; with `erased`, those too whose persons were erased.
pub async fn page_in(
    conn: &mut Conn,
    after: &str,
    limit: u32,
    erased: bool,
) -> Result<Vec<EAccount>, StoreError> {
    let names: Vec<String> = query(
        "SELECT account_id FROM bank_accounts WHERE account_id > ?1 AND (?2 = 1 OR state <> 'closed' \
         OR substr(account_id, 1, length(?3)) <> ?3) ORDER BY account_id LIMIT ?4",
    )
    .bind(after)
    .bind(erased)
    .bind(ERASED)
    .bind(limit)
    .column(&mut *conn)
    .await?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Ok(find_in(conn, &names).await?.into_iter().flatten().collect())
}

/// Gives an e-account another name in all of the bank's books, closes it, and tells what it holds; `None`: there is none.
/// The name begins with [`ERASED`]: the books take no other.
pub async fn rename_in(conn: &mut Conn, from: &str, to: &str) -> Result<Option<Fen>, StoreError> {
    let held: Option<i64> = query("SELECT balance_fen FROM bank_accounts WHERE account_id = ?")
        .bind(from)
        .optional(&mut *conn)
        .await?;
    for text in [
        "UPDATE bank_accounts SET account_id = ?1, state = 'closed' WHERE account_id = ?2",
        "UPDATE bank_postings SET account_id = ?1 WHERE account_id = ?2",
        "UPDATE bank_answers SET account_id = ?1 WHERE account_id = ?2",
        "UPDATE bank_holds SET account_id = ?1 WHERE account_id = ?2",
    ] {
        query(text).bind(to).bind(from).execute(&mut *conn).await?;
    }
    Ok(held.map(Fen))
}
