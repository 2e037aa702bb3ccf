//! The signed lists that gates are sent: deny list, CA keys, revocations, configuration.
//!
//! [`publish`] makes each list from its table and issues a new version when the content has changed; the same tables
//! give the same bytes. [`Published`] keeps the issues in force in memory, for the link server and for look-ups
//! through the gate's own search.

pub mod cli;
mod denied;
pub mod deny;
mod file;
pub mod gate_config;
pub mod key_file;
mod published;
mod registry;
pub mod standing;

pub use file::FileError;
pub use published::{Outgoing, Published};
pub use registry::{
    MAX_CA_KEYS, RevocationRow, add_ca_keys_in, adopt_ca_keys_in, ca_keys_in, change_config_in, config_in,
    default_config, lift_in, remove_ca_key_in, revocations_in, revoke_in, set_ca_keys_in, set_config_in,
    suite_word,
};

use crate::keys::{AtRestError, ClearingKeys};
use crate::store::db::{Conn, query};
use crate::store::{Audit, StoreError, audit_in, sql};
use sha2::{Digest, Sha256};
use wavepass_protocol::lists::{self as format, Header, Kind, ListError, MAX_ISSUE, PREFIX, Version};
use wavepass_protocol::time::UnixMs;

/// The most tokens on the deny list: 5 MB of it, twice in a gate's flash.
pub const MAX_DENIED: usize = 1_000_000;
/// How many issues of each list are kept: enough to see what a gate had yesterday.
const KEPT_ISSUES: u32 = 8;
/// How many deltas of the deny list are kept, each to the version before: five days of one an hour. A gate that has
/// been away longer gets the whole list.
const KEPT_DELTAS: u32 = 128;

/// Why a list is not published.
#[derive(Debug, thiserror::Error)]
pub enum ListsError {
    /// Content that gates would not take.
    #[error("{0}")]
    Format(ListError),
    /// More entries than gates have room for.
    #[error("a gate holds at most {most} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        most: usize,
    },
    /// CA keys that are too long together.
    #[error("the CA keys take {bytes} bytes together, and a gate holds at most {most}")]
    Room {
        /// What they take.
        bytes: usize,
        /// The limit.
        most: usize,
    },
    /// A configuration by which a gate cannot work.
    #[error(transparent)]
    Config(#[from] wavepass_kernel::ConfigError),
    /// A note that is too long.
    #[error("a note has at most {} bytes", deny::MAX_NOTE)]
    Note,
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

/// What goes into an issue.
struct Made {
    content: Vec<u8>,
    /// A hash of what the content was made from.
    source: Vec<u8>,
    /// The deny list's delta to the version before, where there is one that gates take.
    delta: Option<Vec<u8>>,
}

struct Latest {
    version: Version,
    issued: UnixMs,
    source: Vec<u8>,
}

/// Publishes what has changed: signs and enters the next version of each such list, and gives them. A deny list that
/// is half as old as gates allow is issued again unchanged, so that it never goes stale.
pub async fn publish(
    conn: &mut Conn,
    keys: &dyn ClearingKeys,
    now: UnixMs,
) -> Result<Vec<(Kind, Version)>, ListsError> {
    let epoch: u32 = query("SELECT epoch FROM list_epoch").scalar(&mut *conn).await?;
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
            Kind::Deny => denied::content(conn, keys, version, latest.as_ref(), now).await?,
            _ => plain_content(conn, kind, latest.as_ref()).await?,
        };
        if let Some(made) = made {
            issue(conn, keys, &Header { kind, version, issued: now }, &made).await?;
            issued.push((kind, version));
        }
    }
    Ok(issued)
}

async fn latest_in(conn: &mut Conn, kind: Kind) -> Result<Option<Latest>, ListsError> {
    let row = query(
        "SELECT epoch, version, issued_ms, source FROM lists WHERE kind = ? ORDER BY epoch DESC, version DESC LIMIT 1",
    )
    .bind(kind as u8)
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        Ok(Latest {
            version: Version { epoch: row.try_get("epoch")?, version: row.try_get("version")? },
            // Written from a UnixMs, never negative.
            issued: UnixMs(row.try_get::<i64>("issued_ms")?.unsigned_abs()),
            source: row.try_get("source")?,
        })
    })
    .transpose()
}

async fn issue(
    conn: &mut Conn,
    keys: &dyn ClearingKeys,
    header: &Header,
    Made { content, source, delta }: &Made,
) -> Result<(), ListsError> {
    let mut bytes = vec![0; PREFIX + content.len()];
    format::write(header, &keys.list_key(), content, |message| keys.sign_list(message), &mut bytes)?;
    let Version { epoch, version } = header.version;
    query("INSERT INTO lists (kind, epoch, version, issued_ms, source, bytes) VALUES (?, ?, ?, ?, ?, ?)")
        .bind(header.kind as u8)
        .bind(epoch)
        .bind(version)
        .bind(sql::ms(header.issued))
        .bind(source)
        .bind(bytes)
        .execute(&mut *conn)
        .await?;
    query(
        "DELETE FROM lists WHERE kind = ?1 AND (epoch, version) NOT IN \
         (SELECT epoch, version FROM lists WHERE kind = ?1 ORDER BY epoch DESC, version DESC LIMIT ?2)",
    )
    .bind(header.kind as u8)
    .bind(KEPT_ISSUES)
    .execute(&mut *conn)
    .await?;
    let Some(delta) = delta else { return Ok(()) };
    query("INSERT INTO list_deltas (epoch, version, delta) VALUES (?, ?, ?)")
        .bind(epoch)
        .bind(version)
        .bind(delta)
        .execute(&mut *conn)
        .await?;
    query(
        "DELETE FROM list_deltas WHERE (epoch, version) NOT IN \
         (SELECT epoch, version FROM list_deltas ORDER BY epoch DESC, version DESC LIMIT ?)",
    )
    .bind(KEPT_DELTAS)
    .execute(conn)
    .await?;
    Ok(())
}

/// Begins a new epoch: to be done once after this database was restored from a backup, since gates may hold versions
/// that it does not know. Every list is issued anew at the next [`publish`].
pub async fn begin_epoch_in(conn: &mut Conn, by: &str, now: UnixMs) -> Result<u32, ListsError> {
    let epoch: u32 =
        query("UPDATE list_epoch SET epoch = epoch + 1 RETURNING epoch").scalar(&mut *conn).await?;
    let detail = format!("epoch {epoch}");
    audit_in(conn, &Audit { at: now, user: by, action: "lists.epoch", subject: "lists", detail: &detail })
        .await?;
    Ok(epoch)
}

// CA keys, revocations, configuration: their bytes are their content, and change only with it.
async fn plain_content(
    conn: &mut Conn,
    kind: Kind,
    latest: Option<&Latest>,
) -> Result<Option<Made>, ListsError> {
    let mut content = Vec::new();
    match kind {
        Kind::CaKeys => content = registry::ca_key_content(&ca_keys_in(conn).await?)?,
        Kind::Revocations => {
            for row in revocations_in(conn).await? {
                append(&mut content, &row.revocation)?;
            }
        }
        Kind::Config => content = registry::encode(&config_in(conn).await?)?,
        Kind::Deny => return Ok(None),
    }
    if PREFIX + content.len() > MAX_ISSUE {
        return Err(ListError::TooLarge.into());
    }
    let source = Sha256::digest(&content).to_vec();
    let changed = latest.is_none_or(|latest| latest.source != source);
    Ok(changed.then_some(Made { content, source, delta: None }))
}

/// The longest entry of a CA key list: a 2048-bit key with its fields.
const MAX_ENTRY: usize = 512;

fn append(content: &mut Vec<u8>, item: &impl serde::Serialize) -> Result<(), ListsError> {
    let mut buffer = [0; MAX_ENTRY];
    content.extend_from_slice(postcard::to_slice(item, &mut buffer).map_err(|_| ListError::TooLarge)?);
    Ok(())
}

async fn bytes_in(conn: &mut Conn, kind: Kind, version: Version) -> Result<Vec<u8>, ListsError> {
    Ok(query("SELECT bytes FROM lists WHERE kind = ? AND epoch = ? AND version = ?")
        .bind(kind as u8)
        .bind(version.epoch)
        .bind(version.version)
        .scalar(conn)
        .await?)
}

/// The content of a whole issue.
fn content_of(issue: &[u8]) -> Result<&[u8], ListsError> {
    format::peek(issue)?;
    Ok(issue.get(PREFIX..).ok_or(ListError::Length)?)
}

#[cfg(test)]
mod gate_tests;
#[cfg(test)]
mod tests;
