//! The token service: issues tokens for e-accounts and puts them on phones, registers plastic cards as tokens, and
//! keeps their state.
//!
//! A token's number and expiry are stored sealed, and found by their [`TokenKey`]. A token that is suspended or
//! deleted enters the deny list in the same transaction: an offline gate knows nothing else of its state.

pub mod cli;
mod issue;

use crate::input::TextError;
use crate::keys::{AtRestError, ClearingKeys, TokenKey};
use crate::lists::deny::{self, Addition, Cause, DenyError};
use crate::store::db::{Conn, One, Row, query, read_many};
use crate::store::{Audit, StoreError, audit_in};
use std::collections::HashMap;
use wavepass_hce::issue::IssueError;
use wavepass_protocol::time::UnixMs;
use wavepass_protocol::token::{Expiry, Token};

pub use issue::{IssueRequest, Issued, Registration, issue_many, issue_many_in, register_in};

/// The most tokens one account may have: phones, watches and their replacements over many years.
pub const MAX_PER_ACCOUNT: u32 = 1_000;
/// The longest name of an account or a category, bytes.
const MAX_NAME: usize = 64;

/// Why a token is not issued, registered or changed.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// An account or category name that is empty, too long or not printable.
    #[error("{0} is 1 to {MAX_NAME} printable ASCII characters")]
    Name(&'static str),
    /// Text that may hold a card's number.
    #[error(transparent)]
    Text(#[from] TextError),
    /// An account with as many tokens as it may have.
    #[error("account {0} has {MAX_PER_ACCOUNT} tokens, the most it may have")]
    TooMany(String),
    /// An account whose person was erased. Its tokens' numbers derive from its name, and would be those of the erased ones.
    #[error("the person of an account of this name was erased: a new account takes another name")]
    Erased,
    /// No free number was found.
    #[error("the number range is as good as full")]
    RangeFull,
    /// A card that is registered, or listed twice in one call.
    #[error("the card ending {0} is registered")]
    Registered(String),
    /// No such token.
    #[error("no token {0}")]
    Unknown(TokenKey),
    /// A list of one account's tokens goes on after one of them.
    #[error("the account has no token {0} to go on after")]
    NotOfAccount(TokenKey),
    /// A token whose person was erased has no state to change.
    #[error("token {0} was erased with its person: there is nothing of it to change any more")]
    ErasedToken(TokenKey),
    /// A token that was deleted stays deleted.
    #[error("token {0} was deleted")]
    Deleted(TokenKey),
    /// The phone could not be personalised.
    #[error("personalisation: {0}")]
    Issue(#[from] IssueError),
    /// A sealed token does not open.
    #[error(transparent)]
    AtRest(#[from] AtRestError),
    /// The deny list.
    #[error(transparent)]
    Deny(#[from] DenyError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for TokensError {
    fn from(e: sqlx::Error) -> Self {
        Self::Store(e.into())
    }
}

/// Whether a token may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It may.
    Active,
    /// Not for now: the phone is lost, or the rider asked.
    Suspended,
    /// Never again.
    Deleted,
}

impl State {
    /// The word for it, in the store and on screens.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deleted => "deleted",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Active, Self::Suspended, Self::Deleted].into_iter().find(|state| state.word() == word)
    }
}

/// What carries a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// A phone that this service personalised.
    Phone,
    /// A plastic card that was registered.
    Card,
}

impl Carrier {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Phone => "phone",
            Self::Card => "card",
        }
    }
}

/// A token as the registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// What finds it.
    pub token_key: TokenKey,
    /// The e-account it stands for.
    pub account_id: String,
    /// Which of the account's tokens it is, from 0.
    pub rank: u32,
    /// The last four digits of its number.
    pub last_four: String,
    /// The last month it is good.
    pub expiry: Expiry,
    /// Its sequence number.
    pub psn: u8,
    /// Whether it may be used.
    pub state: State,
    /// The rider's category in the tariff.
    pub category: String,
    /// What carries it.
    pub carrier: Carrier,
    /// When it was issued or registered.
    pub issued: UnixMs,
}

impl TokenRow {
    /// Whether its person was erased: nothing says any more whose it was.
    pub fn is_erased(&self) -> bool {
        self.account_id.is_empty()
    }

    /// The word for its state on screens.
    pub fn state_word(&self) -> &'static str {
        if self.is_erased() { "erased" } else { self.state.word() }
    }
}

/// The last four digits, bare.
pub(crate) fn last_four(token: &Token) -> String {
    token.last_four().to_string().chars().filter(char::is_ascii_digit).collect()
}

/// Finds tokens; one answer each, in the same order.
pub async fn find_in(conn: &mut Conn, keys: &[TokenKey]) -> Result<Vec<Option<TokenRow>>, TokensError> {
    let mut found = HashMap::with_capacity(keys.len());
    let text = "SELECT * FROM tokens WHERE token_key IN ??";
    for row in read_many(conn, text, keys.iter().map(|key| One(key.as_slice()))).await? {
        let row = row_of(&row)?;
        found.insert(row.token_key, row);
    }
    Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
}

/// The tokens of an account, by rank.
pub async fn of_account_in(conn: &mut Conn, account_id: &str) -> Result<Vec<TokenRow>, TokensError> {
    let rows = query("SELECT * FROM tokens WHERE account_id = ? ORDER BY rank")
        .bind(account_id)
        .fetch_all(conn)
        .await?;
    rows.iter().map(row_of).collect()
}

/// A page of the tokens of an account, by rank, from the one after `after`.
pub async fn account_page_in(
    conn: &mut Conn,
    account_id: &str,
    after: Option<TokenKey>,
    limit: u32,
) -> Result<Vec<TokenRow>, TokensError> {
    let from = match after {
        Some(key) => {
            let last = find_in(conn, &[key]).await?.into_iter().flatten().next();
            let last = last.filter(|row| row.account_id == account_id);
            i64::from(last.ok_or(TokensError::NotOfAccount(key))?.rank) + 1
        }
        None => 0,
    };
    let rows = query("SELECT * FROM tokens WHERE account_id = ? AND rank >= ? ORDER BY rank LIMIT ?")
        .bind(account_id)
        .bind(from)
        .bind(limit)
        .fetch_all(conn)
        .await?;
    rows.iter().map(row_of).collect()
}

/// A page of all tokens in the order of their keys, from the one after `after`.
pub async fn page_in(
    conn: &mut Conn,
    after: Option<TokenKey>,
    limit: u32,
) -> Result<Vec<TokenRow>, TokensError> {
    let rows = query("SELECT * FROM tokens WHERE token_key > ? ORDER BY token_key LIMIT ?")
        .bind(after.map_or_else(Vec::new, |key| key.0.to_vec()))
        .bind(limit)
        .fetch_all(conn)
        .await?;
    rows.iter().map(row_of).collect()
}

/// Changes a token's state, and with it the deny list: suspended and deleted tokens are on it, an active one is not
/// (for this cause). A deleted token stays deleted.
pub async fn set_state_in(
    conn: &mut Conn,
    clearing: &dyn ClearingKeys,
    key: TokenKey,
    state: State,
    by: &str,
    now: UnixMs,
) -> Result<TokenRow, TokensError> {
    let mut row =
        find_in(conn, &[key]).await?.into_iter().flatten().next().ok_or(TokensError::Unknown(key))?;
    if row.is_erased() {
        return Err(TokensError::ErasedToken(key));
    }
    if row.state == state {
        return Ok(row);
    }
    if row.state == State::Deleted {
        return Err(TokensError::Deleted(key));
    }
    query("UPDATE tokens SET state = ? WHERE token_key = ?")
        .bind(state.word())
        .bind(key.as_slice())
        .execute(&mut *conn)
        .await?;
    let detail = format!("{} to {}", row.state.word(), state.word());
    let line = Audit { at: now, user: by, action: "token.state", subject: &key.to_hex(), detail: &detail };
    audit_in(conn, &line).await?;
    let deny = |cause| Addition { token_key: key, number: None, cause, note: "the token's state".to_owned() };
    match state {
        State::Active => {
            deny::remove_in(conn, &[(key, Cause::Lost)], by, "the token is active again", now).await?;
        }
        State::Suspended => {
            deny::add_in(conn, clearing, &[deny(Cause::Lost)], by, now).await?;
        }
        State::Deleted => {
            deny::add_in(conn, clearing, &[deny(Cause::Deleted)], by, now).await?;
        }
    }
    row.state = state;
    Ok(row)
}

/// An expiry as a number, `YYMM` in decimal: 2805 is May 2028.
pub(crate) fn expiry_number(expiry: Expiry) -> u16 {
    u16::from(expiry.year) * 100 + u16::from(expiry.month)
}

/// The expiry of such a number.
pub(crate) fn expiry_of(number: u16) -> Result<Expiry, StoreError> {
    // Both parts of a number up to 9912 fit a byte; larger ones are damage.
    u8::try_from(number / 100)
        .ok()
        .and_then(|year| Expiry::new(year, (number % 100) as u8).ok())
        .ok_or(StoreError::Damaged { what: "expiry" })
}

fn row_of(row: &Row) -> Result<TokenRow, TokensError> {
    let damaged = || StoreError::Damaged { what: "token" };
    let carrier = match row.try_get::<&str>("kind")? {
        "phone" => Carrier::Phone,
        "card" => Carrier::Card,
        _ => return Err(damaged().into()),
    };
    Ok(TokenRow {
        token_key: TokenKey::from_slice(row.try_get("token_key")?).ok_or_else(damaged)?,
        account_id: row.try_get("account_id")?,
        rank: row.try_get("rank")?,
        last_four: row.try_get("last_four")?,
        expiry: expiry_of(row.try_get("expiry_yymm")?)?,
        psn: row.try_get("psn")?,
        state: State::from_word(row.try_get("state")?).ok_or_else(damaged)?,
        category: row.try_get("category")?,
        carrier,
        // Written from a UnixMs, never negative.
        issued: UnixMs(row.try_get::<i64>("issued_ms")?.unsigned_abs()),
    })
}

#[cfg(test)]
mod tests;
