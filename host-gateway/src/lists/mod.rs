//! The signed lists that gates are sent: deny list, CA keys, revocations, configuration.
//!
//! [`publish`] makes each list from its table and issues a new version when the content has changed; the same tables
//! give the same bytes. [`Published`] keeps the issues in force in memory, for the link server and for look-ups
//! through the gate's own search.

pub mod cli;
pub mod deny;
mod registry;

pub use registry::{
    MAX_CA_KEYS, MAX_REVOCATIONS, ca_keys_in, config_in, default_config, revocations_in, revoke_in,
    set_ca_keys_in, set_config_in,
};

use crate::keys::{AtRestError, ClearingKeys, TokenKey};
use crate::store::{Audit, StoreError, audit_in, sql};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use sqlx::{Row, SqliteConnection};
use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};
use wavepass_protocol::lists::{
    self as format, DenyEntry, DenyList, Header, Kind, ListError, PREFIX, SUFFIX, Version, deny_entry,
};
use wavepass_protocol::time::UnixMs;
use wavepass_protocol::token::{Expiry, Token};

/// The most tokens on the deny list: 8 MB of it, which a gate's flash takes.
pub const MAX_DENIED: usize = 1_000_000;
/// How many issues of each list are kept: enough to see what a gate had yesterday.
const KEPT_ISSUES: u32 = 8;
/// How many salts are tried before a list is given up: two in a row do not happen.
const MAX_SALTS: u32 = 16;
/// How many tokens are read at a time when they are checked against a new list.
const PAGE: u32 = 50_000;

/// Why a list is not published.
#[derive(Debug, thiserror::Error)]
pub enum ListsError {
    /// Content that gates would not take.
    #[error("{0}")]
    Format(ListError),
    /// More entries than gates have room for.
    #[error("more than {most} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        most: usize,
    },
    /// No salt was found under which no good token is hit.
    #[error("no salt leaves every good token off the deny list")]
    Salt,
    /// A sealed token does not open.
    #[error(transparent)]
    AtRest(#[from] AtRestError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ListError> for ListsError {
    fn from(e: ListError) -> Self {
        Self::Format(e)
    }
}

impl From<sqlx::Error> for ListsError {
    fn from(e: sqlx::Error) -> Self {
        Self::Store(e.into())
    }
}

struct Latest {
    version: Version,
    issued: UnixMs,
    source: Vec<u8>,
}

/// Publishes what has changed: signs and enters the next version of each such list, and gives them. A deny list that
/// is half as old as gates allow is issued again unchanged, so that it never goes stale.
pub async fn publish(
    conn: &mut SqliteConnection,
    keys: &dyn ClearingKeys,
    now: UnixMs,
) -> Result<Vec<(Kind, Version)>, ListsError> {
    let epoch: u32 = sqlx::query_scalar("SELECT epoch FROM list_epoch").fetch_one(&mut *conn).await?;
    let mut issued = Vec::new();
    for kind in Kind::ALL {
        let latest = latest_in(conn, kind).await?;
        let version = match &latest {
            Some(latest) if latest.version.epoch >= epoch => {
                let last = latest.version;
                Version {
                    epoch: last.epoch,
                    version: last.version.checked_add(1).ok_or(ListError::TooLarge)?,
                }
            }
            _ => Version { epoch, version: 1 },
        };
        // Another epoch makes every list new.
        let latest = latest.filter(|latest| latest.version.epoch == version.epoch);
        let made = match kind {
            Kind::Deny => deny_content(conn, keys, version, latest.as_ref(), now).await?,
            _ => plain_content(conn, kind, latest.as_ref()).await?,
        };
        if let Some((content, source)) = made {
            issue(conn, keys, &Header { kind, version, base: 0, issued: now }, &content, &source).await?;
            issued.push((kind, version));
        }
    }
    Ok(issued)
}

async fn latest_in(conn: &mut SqliteConnection, kind: Kind) -> Result<Option<Latest>, ListsError> {
    let row = sqlx::query(
        "SELECT epoch, version, issued_ms, source FROM lists WHERE kind = ? ORDER BY epoch DESC, version DESC LIMIT 1",
    )
    .bind(kind as u8)
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        Ok(Latest {
            version: Version { epoch: row.try_get("epoch")?, version: row.try_get("version")? },
            // Written from a UnixMs, never negative.
            issued: UnixMs(row.try_get::<i64, _>("issued_ms")?.unsigned_abs()),
            source: row.try_get("source")?,
        })
    })
    .transpose()
}

async fn issue(
    conn: &mut SqliteConnection,
    keys: &dyn ClearingKeys,
    header: &Header,
    content: &[u8],
    source: &[u8],
) -> Result<(), ListsError> {
    let mut bytes = vec![0; PREFIX + content.len() + SUFFIX];
    format::write(header, &keys.list_key(), content, |message| keys.sign_list(message), &mut bytes)?;
    let Version { epoch, version } = header.version;
    sqlx::query(
        "INSERT INTO lists (kind, epoch, version, issued_ms, source, bytes) VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(header.kind as u8)
    .bind(epoch)
    .bind(version)
    .bind(sql::ms(header.issued))
    .bind(source)
    .bind(bytes)
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "DELETE FROM lists WHERE kind = ?1 AND (epoch, version) NOT IN \
         (SELECT epoch, version FROM lists WHERE kind = ?1 ORDER BY epoch DESC, version DESC LIMIT ?2)",
    )
    .bind(header.kind as u8)
    .bind(KEPT_ISSUES)
    .execute(conn)
    .await?;
    Ok(())
}

/// Begins a new epoch: to be done once after this database was restored from a backup, since gates may hold versions
/// that it does not know. Every list is issued anew at the next [`publish`].
pub async fn begin_epoch_in(conn: &mut SqliteConnection, by: &str, now: UnixMs) -> Result<u32, ListsError> {
    let epoch: u32 = sqlx::query_scalar("UPDATE list_epoch SET epoch = epoch + 1 RETURNING epoch")
        .fetch_one(&mut *conn)
        .await?;
    let detail = format!("epoch {epoch}");
    audit_in(conn, &Audit { at: now, user: by, action: "lists.epoch", subject: "lists", detail: &detail })
        .await?;
    Ok(epoch)
}

type Made = Option<(Vec<u8>, Vec<u8>)>;

// CA keys, revocations, configuration: their bytes are their content, and change only with it.
async fn plain_content(
    conn: &mut SqliteConnection,
    kind: Kind,
    latest: Option<&Latest>,
) -> Result<Made, ListsError> {
    let mut content = Vec::new();
    match kind {
        Kind::CaKeys => {
            for key in ca_keys_in(conn).await? {
                append(&mut content, &key.as_ca_key())?;
            }
            format::check_ca_keys(&content)?;
        }
        Kind::Revocations => {
            for revocation in revocations_in(conn).await? {
                append(&mut content, &revocation)?;
            }
        }
        Kind::Config => content = registry::encode(&config_in(conn).await?)?,
        Kind::Deny => return Ok(None),
    }
    let source = Sha256::digest(&content).to_vec();
    let changed = latest.is_none_or(|latest| latest.source != source);
    Ok(changed.then_some((content, source)))
}

/// The longest entry of a CA key list: a 2048-bit key with its fields.
const MAX_ENTRY: usize = 512;

fn append(content: &mut Vec<u8>, item: &impl serde::Serialize) -> Result<(), ListsError> {
    let mut buffer = [0; MAX_ENTRY];
    content.extend_from_slice(postcard::to_slice(item, &mut buffer).map_err(|_| ListError::TooLarge)?);
    Ok(())
}

async fn deny_content(
    conn: &mut SqliteConnection,
    keys: &dyn ClearingKeys,
    version: Version,
    latest: Option<&Latest>,
    now: UnixMs,
) -> Result<Made, ListsError> {
    let denied: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT DISTINCT token_key FROM deny_entries ORDER BY token_key")
            .fetch_all(&mut *conn)
            .await?;
    if denied.len() > MAX_DENIED {
        return Err(ListsError::TooMany { what: "denied tokens", most: MAX_DENIED });
    }
    // A token key stands for number and expiry, so the keys in order stand for the content under any salt.
    let source = denied.iter().fold(Sha256::new(), |hash, key| hash.chain_update(key)).finalize().to_vec();
    let max_age = config_in(conn).await?.list_max_age_ms;
    if let Some(latest) = latest.filter(|latest| latest.source == source) {
        let fresh = max_age == 0 || now.0.saturating_sub(latest.issued.0) < max_age / 2;
        if fresh && !new_token_is_hit(conn, keys, latest).await? {
            return Ok(None);
        }
    }
    let denied = Denied::load(conn, keys).await?;
    for attempt in 0..MAX_SALTS {
        let content = denied.content(&salt(version, attempt));
        let list = DenyList::parse(&content)?;
        if !hits_known_token(conn, keys, &denied, &list, UnixMs(0)).await? {
            return Ok(Some((content, source)));
        }
    }
    Err(ListsError::Salt)
}

/// The salt of a version's deny list; `attempt` counts those that hit a good token.
fn salt(version: Version, attempt: u32) -> [u8; 8] {
    let hash = Sha256::new_with_prefix(b"wavepass deny salt")
        .chain_update(version.epoch.to_be_bytes())
        .chain_update(version.version.to_be_bytes())
        .chain_update(attempt.to_be_bytes())
        .finalize();
    std::array::from_fn(|i| hash[i])
}

/// The denied tokens, opened.
struct Denied {
    keys: HashSet<TokenKey>,
    numbers: HashSet<Token>,
    tokens: Vec<(Token, Expiry)>,
}

impl Denied {
    async fn load(conn: &mut SqliteConnection, keys: &dyn ClearingKeys) -> Result<Self, ListsError> {
        let sealed: Vec<(Vec<u8>, Vec<u8>)> = sqlx::query_as(
            "SELECT token_key, min(sealed_token) FROM deny_entries GROUP BY token_key ORDER BY token_key",
        )
        .fetch_all(conn)
        .await?;
        let opened = open_all(keys, &sealed)?;
        Ok(Self {
            keys: opened.iter().map(|(key, ..)| *key).collect(),
            numbers: opened.iter().map(|(_, token, _)| *token).collect(),
            tokens: opened.into_iter().map(|(_, token, expiry)| (token, expiry)).collect(),
        })
    }

    fn content(&self, salt: &[u8; 8]) -> Vec<u8> {
        let mut entries: Vec<DenyEntry> =
            self.tokens.par_iter().map(|(token, expiry)| deny_entry(salt, token, *expiry)).collect();
        entries.par_sort_unstable();
        entries.dedup();
        let mut content = salt.to_vec();
        content.extend(entries.into_iter().flatten());
        content
    }

    /// True if the list refuses a good token. Where the card does not sign its expiry, a token is refused with any
    /// listed expiry of its own number, and that is meant; any other hit is chance.
    fn hits(&self, list: &DenyList<'_>, key: &TokenKey, token: &Token, expiry: Expiry) -> bool {
        if self.keys.contains(key) {
            return false;
        }
        list.denies(token, self.numbers.contains(token).then_some(expiry))
    }
}

fn open_all(
    keys: &dyn ClearingKeys,
    sealed: &[(Vec<u8>, Vec<u8>)],
) -> Result<Vec<(TokenKey, Token, Expiry)>, ListsError> {
    let open = |(key, sealed): &(Vec<u8>, Vec<u8>)| {
        let key = TokenKey::from_slice(key).ok_or(StoreError::Damaged { what: "token key" })?;
        let (token, expiry) = keys.open_token(&key, sealed)?;
        Ok((key, token, expiry))
    };
    sealed.par_iter().with_min_len(256).map(open).collect()
}

// A token that was issued after the list in force may be hit by it by chance; then the list is issued under another
// salt.
async fn new_token_is_hit(
    conn: &mut SqliteConnection,
    keys: &dyn ClearingKeys,
    latest: &Latest,
) -> Result<bool, ListsError> {
    let newer: Option<i64> = sqlx::query_scalar("SELECT 1 FROM tokens WHERE issued_ms >= ? LIMIT 1")
        .bind(sql::ms(latest.issued))
        .fetch_optional(&mut *conn)
        .await?;
    if newer.is_none() {
        return Ok(false);
    }
    let bytes = bytes_in(conn, Kind::Deny, latest.version).await?;
    let list = DenyList::parse(content_of(&bytes)?)?;
    if list.is_empty() {
        return Ok(false);
    }
    let denied = Denied::load(conn, keys).await?;
    hits_known_token(conn, keys, &denied, &list, latest.issued).await
}

async fn hits_known_token(
    conn: &mut SqliteConnection,
    keys: &dyn ClearingKeys,
    denied: &Denied,
    list: &DenyList<'_>,
    since: UnixMs,
) -> Result<bool, ListsError> {
    if list.is_empty() {
        return Ok(false);
    }
    let mut after = Vec::new();
    loop {
        let page: Vec<(Vec<u8>, Vec<u8>)> = sqlx::query_as(
            "SELECT token_key, sealed_token FROM tokens \
             WHERE token_key > ? AND state = 'active' AND issued_ms >= ? ORDER BY token_key LIMIT ?",
        )
        .bind(&after)
        .bind(sql::ms(since))
        .bind(PAGE)
        .fetch_all(&mut *conn)
        .await?;
        let Some((last, _)) = page.last() else { return Ok(false) };
        after.clone_from(last);
        let opened = open_all(keys, &page)?;
        if opened.par_iter().any(|(key, token, expiry)| denied.hits(list, key, token, *expiry)) {
            return Ok(true);
        }
    }
}

async fn bytes_in(conn: &mut SqliteConnection, kind: Kind, version: Version) -> Result<Vec<u8>, ListsError> {
    Ok(sqlx::query_scalar("SELECT bytes FROM lists WHERE kind = ? AND epoch = ? AND version = ?")
        .bind(kind as u8)
        .bind(version.epoch)
        .bind(version.version)
        .fetch_one(conn)
        .await?)
}

fn content_of(bytes: &[u8]) -> Result<&[u8], ListsError> {
    format::peek(bytes)?;
    Ok(&bytes[PREFIX..bytes.len() - SUFFIX])
}

#[derive(Clone)]
struct Issue {
    version: Version,
    issued: UnixMs,
    bytes: Arc<[u8]>,
}

/// The lists in force, in memory. Share it; look-ups never wait for the store.
pub struct Published {
    issues: RwLock<[Option<Issue>; 4]>,
}

impl Published {
    /// Reads the newest issue of each list.
    pub async fn load(conn: &mut SqliteConnection) -> Result<Self, ListsError> {
        let published = Self { issues: RwLock::new([const { None }; 4]) };
        published.refresh(conn).await?;
        Ok(published)
    }

    /// Takes over what was published since; the kinds that changed. Call it after the transaction of [`publish`] is
    /// committed.
    pub async fn refresh(&self, conn: &mut SqliteConnection) -> Result<Vec<Kind>, ListsError> {
        let mut changed = Vec::new();
        for (slot, kind) in Kind::ALL.into_iter().enumerate() {
            let Some(latest) = latest_in(conn, kind).await? else { continue };
            if self.current(kind).is_some_and(|(version, _)| version >= latest.version) {
                continue;
            }
            let bytes: Arc<[u8]> = bytes_in(conn, kind, latest.version).await?.into();
            let content = content_of(&bytes)?;
            if kind == Kind::Deny {
                DenyList::parse(content)?;
            }
            let issue = Issue { version: latest.version, issued: latest.issued, bytes };
            // A writer never panics half-way: the slot is replaced whole.
            self.issues.write().unwrap_or_else(PoisonError::into_inner)[slot] = Some(issue);
            changed.push(kind);
        }
        Ok(changed)
    }

    fn issue(&self, kind: Kind) -> Option<Issue> {
        let issues = self.issues.read().unwrap_or_else(PoisonError::into_inner);
        Kind::ALL.iter().position(|k| *k == kind).and_then(|slot| issues[slot].clone())
    }

    /// The newest issue of a list, signed, as gates are sent it.
    pub fn current(&self, kind: Kind) -> Option<(Version, Arc<[u8]>)> {
        self.issue(kind).map(|issue| (issue.version, issue.bytes))
    }

    /// When that issue was made.
    pub fn issued(&self, kind: Kind) -> Option<UnixMs> {
        self.issue(kind).map(|issue| issue.issued)
    }

    /// True if a gate with the newest deny list refuses this token: the gate's own look-up.
    pub fn denies(&self, token: &Token, expiry: Option<Expiry>) -> bool {
        self.with_deny_list(|list| list.denies(token, expiry))
    }

    /// How many entries the newest deny list has.
    pub fn denied(&self) -> usize {
        self.with_deny_list(|list| list.len())
    }

    fn with_deny_list<T>(&self, look_up: impl FnOnce(&DenyList<'_>) -> T) -> T {
        let issue = self.issue(Kind::Deny);
        let list = issue.as_ref().and_then(|issue| {
            let content = content_of(&issue.bytes).ok()?;
            DenyList::parsed(content)
        });
        look_up(&list.unwrap_or(DenyList::EMPTY))
    }
}

#[cfg(test)]
mod tests;
