//! The deny list's table: which tokens gates must refuse, and why. One row for each cause; a token is denied while it
//! has any. Gates, API and console all read what [`super::publish`] makes of it.

use crate::keys::{ClearingKeys, TokenKey};
use crate::store::db::{Conn, One, Row, query, read_many};
use crate::store::{Audit, StoreError, audit_all_in, sql};
use crate::tokens::{expiry_number, expiry_of, last_four};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use wavepass_protocol::time::UnixMs;
use wavepass_protocol::token::{Expiry, Token};

/// The longest note, bytes.
pub const MAX_NOTE: usize = 500;

/// Why the deny list is not changed.
#[derive(Debug, thiserror::Error)]
pub enum DenyError {
    /// A token that is not registered can only be denied by its number and expiry.
    #[error("no token {0} is registered; give its number and expiry")]
    Unknown(TokenKey),
    /// Number and expiry are another token's.
    #[error("number and expiry are not those of token {0}")]
    OtherToken(TokenKey),
    /// A note that is too long.
    #[error("a note has at most {MAX_NOTE} bytes")]
    Note,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for DenyError {
    fn from(e: sqlx::Error) -> Self {
        Self::Store(e.into())
    }
}

/// Why a token is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub enum Cause {
    /// It owes a debt.
    Debt,
    /// A copy of it is about.
    Clone,
    /// Its phone is lost, or it is suspended.
    Lost,
    /// A person decided so.
    Manual,
    /// It was deleted.
    Deleted,
    /// The bank does not vouch for it: it declined to hold an amount, or more is at risk than may be before it first paid.
    Authorisation,
    /// It let two through a station's gates at once.
    Passback,
    /// It was tapped at stations too far apart for the time between.
    Travel,
    /// What it owed was written off.
    #[value(name = "written_off")]
    WrittenOff,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 9] = [
        Self::Debt,
        Self::Clone,
        Self::Lost,
        Self::Manual,
        Self::Deleted,
        Self::Authorisation,
        Self::Passback,
        Self::Travel,
        Self::WrittenOff,
    ];

    /// The word for it, in the store and on screens.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Debt => "debt",
            Self::Clone => "clone",
            Self::Lost => "lost",
            Self::Manual => "manual",
            Self::Deleted => "deleted",
            Self::Authorisation => "authorisation",
            Self::Passback => "passback",
            Self::Travel => "travel",
            Self::WrittenOff => "written_off",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.word() == word)
    }
}

/// A token to be denied.
#[derive(Debug, Clone)]
pub struct Addition {
    /// Which token.
    pub token_key: TokenKey,
    /// Its number and expiry. `None` takes them from the registry, for a registered token.
    pub number: Option<(Token, Expiry)>,
    /// Why.
    pub cause: Cause,
    /// Anything more; never a number or a name.
    pub note: String,
}

/// A denied token and one of its causes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DenyRow {
    /// Which token.
    pub token_key: TokenKey,
    /// Why.
    pub cause: Cause,
    /// The last four digits of its number.
    pub last_four: String,
    /// Its expiry.
    pub expiry: Expiry,
    /// Since when.
    pub since: UnixMs,
    /// Anything more.
    pub note: String,
    /// Who did it.
    pub by: String,
}

#[derive(Clone)]
struct Sealed {
    token: Vec<u8>,
    last_four: String,
    expiry_yymm: u16,
}

/// Denies tokens; how many (token, cause) pairs are new. One that is there already stays as it was. All or none.
pub async fn add_in(
    conn: &mut Conn,
    keys: &dyn ClearingKeys,
    additions: &[Addition],
    by: &str,
    now: UnixMs,
) -> Result<usize, DenyError> {
    if additions.iter().any(|addition| addition.note.len() > MAX_NOTE) {
        return Err(DenyError::Note);
    }
    let registered: Vec<TokenKey> =
        additions.iter().filter(|a| a.number.is_none()).map(|a| a.token_key).collect();
    let registered = sealed_tokens_in(conn, &registered).await?;
    let mut sealed = Vec::with_capacity(additions.len());
    for addition in additions {
        let key = addition.token_key;
        sealed.push(match &addition.number {
            Some((token, expiry)) if keys.token_key(token, *expiry) == key => Sealed {
                token: keys.seal_token(token, *expiry),
                last_four: last_four(token),
                expiry_yymm: expiry_number(*expiry),
            },
            Some(_) => return Err(DenyError::OtherToken(key)),
            None => registered.get(&key).cloned().ok_or(DenyError::Unknown(key))?,
        });
    }
    let rows = additions.iter().zip(&sealed).map(|(addition, sealed)| {
        (
            addition.token_key.as_slice(),
            addition.cause.word(),
            sealed.token.as_slice(),
            sealed.last_four.as_str(),
            sealed.expiry_yymm,
            sql::ms(now),
            addition.note.as_str(),
            by,
        )
    });
    let text = "INSERT INTO deny_entries (token_key, cause, sealed_token, last_four, expiry_yymm, since_ms, note, by) \
                VALUES ?? ON CONFLICT DO NOTHING RETURNING token_key, cause";
    let mut added = pairs(&read_many(conn, text, rows).await?)?;
    let count = added.len();
    let new = additions.iter().filter(|a| added.remove(&(a.token_key, a.cause)));
    audit(conn, "deny.add", new.map(|a| (a.token_key, a.cause, a.note.as_str())), by, now).await?;
    Ok(count)
}

/// Lifts causes; how many were there. A token that keeps another cause stays denied.
pub async fn remove_in(
    conn: &mut Conn,
    entries: &[(TokenKey, Cause)],
    by: &str,
    note: &str,
    now: UnixMs,
) -> Result<usize, DenyError> {
    if note.len() > MAX_NOTE {
        return Err(DenyError::Note);
    }
    let rows = entries.iter().map(|(key, cause)| (key.as_slice(), cause.word()));
    let text = "DELETE FROM deny_entries WHERE (token_key, cause) IN (VALUES ??) RETURNING token_key, cause";
    let mut removed = pairs(&read_many(conn, text, rows).await?)?;
    let count = removed.len();
    let gone = entries.iter().filter(|&&entry| removed.remove(&entry));
    audit(conn, "deny.remove", gone.map(|&(key, cause)| (key, cause, note)), by, now).await?;
    Ok(count)
}

fn pairs(rows: &[Row]) -> Result<HashSet<(TokenKey, Cause)>, StoreError> {
    let pair = |row: &Row| {
        let key = TokenKey::from_slice(row.try_get(0)?).ok_or(StoreError::Damaged { what: "token key" })?;
        let cause = Cause::from_word(row.try_get(1)?).ok_or(StoreError::Damaged { what: "deny cause" })?;
        Ok((key, cause))
    };
    rows.iter().map(pair).collect()
}

async fn audit<'a>(
    conn: &mut Conn,
    action: &str,
    changes: impl Iterator<Item = (TokenKey, Cause, &'a str)>,
    by: &str,
    at: UnixMs,
) -> Result<(), StoreError> {
    let texts = changes.map(|(key, cause, note)| {
        let note = if note.is_empty() { String::new() } else { format!(": {note}") };
        (key.to_hex(), format!("{}{note}", cause.word()))
    });
    let texts: Vec<(String, String)> = texts.collect();
    let lines: Vec<Audit<'_>> =
        texts.iter().map(|(subject, detail)| Audit { at, user: by, action, subject, detail }).collect();
    audit_all_in(conn, &lines).await
}

/// For what some tokens were ever denied, whatever became of it. It reads through the audit log: for few, and seldom.
pub(crate) async fn ever_added_in(
    conn: &mut Conn,
    keys: &BTreeSet<TokenKey>,
) -> Result<HashSet<(TokenKey, Cause)>, DenyError> {
    let subjects: BTreeMap<String, TokenKey> = keys.iter().map(|key| (key.to_hex(), *key)).collect();
    let text = "SELECT subject, detail FROM audit_log WHERE action = 'deny.add' AND subject IN ??";
    let mut added = HashSet::new();
    for row in read_many(conn, text, subjects.keys().map(|subject| One(subject.as_str()))).await? {
        let (subject, detail): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let cause = Cause::from_word(detail.split(':').next().unwrap_or(detail));
        added.extend(subjects.get(subject).copied().zip(cause));
    }
    Ok(added)
}

/// Those of some tokens that are in the registry with their numbers, by which they can be denied.
pub(crate) async fn registered_in(
    conn: &mut Conn,
    keys: &BTreeSet<TokenKey>,
) -> Result<HashSet<TokenKey>, DenyError> {
    let keys: Vec<TokenKey> = keys.iter().copied().collect();
    Ok(sealed_tokens_in(conn, &keys).await?.into_keys().collect())
}

async fn sealed_tokens_in(
    conn: &mut Conn,
    keys: &[TokenKey],
) -> Result<HashMap<TokenKey, Sealed>, DenyError> {
    let mut found = HashMap::with_capacity(keys.len());
    let text = "SELECT token_key, sealed_token, last_four, expiry_yymm FROM tokens WHERE token_key IN ?? \
                AND length(sealed_token) > 0";
    for row in read_many(conn, text, keys.iter().map(|key| One(key.as_slice()))).await? {
        let key = TokenKey::from_slice(row.try_get("token_key")?)
            .ok_or(StoreError::Damaged { what: "token key" })?;
        let sealed = Sealed {
            token: row.try_get("sealed_token")?,
            last_four: row.try_get("last_four")?,
            expiry_yymm: row.try_get("expiry_yymm")?,
        };
        found.insert(key, sealed);
    }
    Ok(found)
}

/// A page of the deny list in the order of token keys, from the token after `after`. A token's causes are never cut
/// apart: a page may be longer than `limit` by them.
pub async fn list_in(
    conn: &mut Conn,
    after: Option<TokenKey>,
    limit: u32,
) -> Result<Vec<DenyRow>, DenyError> {
    let rows = query(
        "SELECT * FROM deny_entries WHERE token_key IN \
         (SELECT DISTINCT token_key FROM deny_entries WHERE token_key > ? ORDER BY token_key LIMIT ?) \
         ORDER BY token_key, cause",
    )
    .bind(after.map_or_else(Vec::new, |key| key.0.to_vec()))
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter().map(row_of).collect()
}

/// Why a token is denied; empty if it is not.
pub async fn causes_in(conn: &mut Conn, key: &TokenKey) -> Result<Vec<DenyRow>, DenyError> {
    let rows = query("SELECT * FROM deny_entries WHERE token_key = ? ORDER BY cause")
        .bind(key.as_slice())
        .fetch_all(conn)
        .await?;
    rows.iter().map(row_of).collect()
}

/// The causes of several tokens, by token.
pub(super) async fn rows_in(conn: &mut Conn, keys: &[TokenKey]) -> Result<Vec<DenyRow>, DenyError> {
    let text = "SELECT * FROM deny_entries WHERE token_key IN ??";
    let rows = read_many(conn, text, keys.iter().map(|key| One(key.as_slice()))).await?;
    let mut rows = rows.iter().map(row_of).collect::<Result<Vec<_>, _>>()?;
    rows.sort_by_key(|row| (row.expiry.year, row.expiry.month, row.cause.word()));
    Ok(rows)
}

/// The number and expiry of a token that is registered or denied.
pub async fn number_in(
    conn: &mut Conn,
    keys: &dyn ClearingKeys,
    key: &TokenKey,
) -> Result<Option<(Token, Expiry)>, super::ListsError> {
    let sealed: Option<Vec<u8>> = query(
        "SELECT sealed_token FROM tokens WHERE token_key = ?1 AND length(sealed_token) > 0 \
         UNION ALL SELECT sealed_token FROM deny_entries WHERE token_key = ?1 LIMIT 1",
    )
    .bind(key.as_slice())
    .optional(conn)
    .await?;
    Ok(sealed.map(|sealed| keys.open_token(key, &sealed)).transpose()?)
}

/// How many tokens are denied.
pub async fn count_in(conn: &mut Conn) -> Result<u64, DenyError> {
    let count: i64 = query("SELECT count(DISTINCT token_key) FROM deny_entries").scalar(conn).await?;
    // A count is never negative.
    Ok(count.unsigned_abs())
}

fn row_of(row: &Row) -> Result<DenyRow, DenyError> {
    let damaged = || StoreError::Damaged { what: "deny list entry" };
    Ok(DenyRow {
        token_key: TokenKey::from_slice(row.try_get("token_key")?).ok_or_else(damaged)?,
        cause: Cause::from_word(row.try_get("cause")?).ok_or_else(damaged)?,
        last_four: row.try_get("last_four")?,
        expiry: expiry_of(row.try_get("expiry_yymm")?)?,
        // Written from a UnixMs, never negative.
        since: UnixMs(row.try_get::<i64>("since_ms")?.unsigned_abs()),
        note: row.try_get("note")?,
        by: row.try_get("by")?,
    })
}
