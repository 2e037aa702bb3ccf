//! Operators' own concentrators: machines that gather the sealed entries of some gates and hand them in over HTTP.
//!
//! Each has a key of its own, made once into its key file, under which it signs what it sends, and gates of its own: a batch with
//! another gate's entry is refused whole. The store keeps the key sealed under clearing's storage key. A concentrator is looked up for
//! each request: a batch costs a flush of the disk anyway, and one that was retired is refused from then on by every gateway on the database.

pub(crate) mod api;
pub mod cli;
mod gate_set;

pub use gate_set::{GateSet, GateSetError};

use crate::api::codec::base64;
use crate::cli::{App, AppError};
use crate::gates::Directory;
use crate::input;
use crate::keys::{ClearingKeys, hex};
use crate::store::db::{Conn, One, Row, query, read_many};
use crate::store::{Audit, Store, StoreError, audit_in, sql};
use serde::Serialize;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use utoipa::ToSchema;
use wavepass_fares::ServiceDay;
use wavepass_protocol::dukpt::KeyId;
use wavepass_protocol::seal::Sealed;
use wavepass_protocol::time::UnixMs;
use zeroize::Zeroizing;

/// What the name of every concentrator's key begins with.
const KEY_PREFIX: &str = "wpc-";
/// Keeps the sealed keys of concentrators apart from everything else that is sealed.
const SEALED_FOR: &[u8] = b"concentrator key ";

/// Why a concentrator is not added, retired or found.
#[derive(Debug, thiserror::Error)]
pub enum ConcentratorError {
    /// Its name cannot be.
    #[error(transparent)]
    Name(#[from] input::TextError),
    /// One of that name is in service.
    #[error("a concentrator of that name is in service; retire it first, or give this one another name")]
    InService,
    /// None of that name is in service.
    #[error("no concentrator of that name is in service")]
    Unknown,
    /// A page after one that there never was.
    #[error("no concentrator has the key id to go on after; `concentrator list --all` shows what there is")]
    NoAfter,
    /// The system gives no random bytes.
    #[error("no random bytes for a key: {0}")]
    Random(getrandom::Error),
    /// Its key file cannot be written as JSON.
    #[error("the key file: {0}")]
    File(serde_json::Error),
    /// The application.
    #[error(transparent)]
    App(#[from] AppError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for ConcentratorError {
    fn from(e: sqlx::Error) -> Self {
        Self::Store(e.into())
    }
}

/// The id of a concentrator's key, which signatures name: `wpc-` and 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConcentratorId([u8; 8]);

/// Text that is no such name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a concentrator's key id is `{KEY_PREFIX}` and 16 hexadecimal digits, as `concentrator list` shows it"
)]
pub struct ConcentratorIdError;

impl FromStr for ConcentratorId {
    type Err = ConcentratorIdError;

    fn from_str(text: &str) -> Result<Self, ConcentratorIdError> {
        text.strip_prefix(KEY_PREFIX).and_then(hex::array).map(Self).ok_or(ConcentratorIdError)
    }
}

impl fmt::Display for ConcentratorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KEY_PREFIX}{}", sql::hex(&self.0))
    }
}

/// A concentrator, without its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Concentrator {
    /// The name of its key, as signatures give it in `keyid`.
    #[serde(rename = "key_id", serialize_with = "as_text")]
    #[schema(value_type = String)]
    pub id: ConcentratorId,
    /// Its own name.
    pub name: String,
    /// The gates whose entries it brings.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String)]
    pub gates: GateSet,
    /// When it was added, in milliseconds since 1970-01-01 UTC.
    pub added_ms: i64,
    /// When it was retired.
    pub retired_ms: Option<i64>,
}

fn as_text<S: serde::Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// What a concentrator has brought so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Heard {
    /// When it last asked with a signature of its own; absent if it never did.
    pub last_ms: Option<i64>,
    /// Its requests.
    pub requests: i64,
    /// Those of them that were refused whole.
    pub refused: i64,
    /// Entries that were taken.
    pub accepted: i64,
    /// Entries that were here already.
    pub repeated: i64,
    /// Entries that did not open or fit and were kept for a person to look at, each once.
    pub set_aside: i64,
    /// Entries that did not open after too many of a day had been kept.
    pub not_kept: i64,
    /// Entries that were not taken because one before them was missing.
    pub gaps: i64,
}

/// A concentrator and what it has brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Listed {
    /// Which.
    #[serde(flatten)]
    pub concentrator: Concentrator,
    /// What it has brought.
    pub heard: Heard,
}

/// Concentrators, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Concentrators {
    /// The concentrators.
    pub concentrators: Vec<Listed>,
}

/// Which concentrators.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Retired ones, too.
    pub all: bool,
    /// Only those after the one of this key id: the next page.
    pub after: Option<ConcentratorId>,
    /// At most so many.
    pub limit: u32,
}

/// What a concentrator signs with, as its file has it.
#[derive(Serialize)]
struct KeyFile<'a> {
    name: &'a str,
    gates: String,
    key_id: &'a str,
    algorithm: &'static str,
    key: &'a str,
}

/// Adds a concentrator; gives it with its key file (JSON), which is made this once. Spaces around its name are not of it.
pub async fn add_in(
    conn: &mut Conn,
    keys: &dyn ClearingKeys,
    (name, gates): (&str, GateSet),
    by: &str,
    now: UnixMs,
) -> Result<(Concentrator, Zeroizing<Vec<u8>>), ConcentratorError> {
    let name = name.trim();
    input::name("a concentrator's name", name)?;
    let there = query("SELECT count(*) FROM concentrators WHERE name = ? AND retired_ms IS NULL").bind(name);
    if there.scalar::<i64>(&mut *conn).await? > 0 {
        return Err(ConcentratorError::InService);
    }
    let mut id = [0; 8];
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(&mut id).map_err(ConcentratorError::Random)?;
    getrandom::fill(key.as_mut_slice()).map_err(ConcentratorError::Random)?;
    let id = ConcentratorId(id);
    let key_id = id.to_string();
    query("INSERT INTO concentrators (key_id, name, gates, sealed_key, added_ms) VALUES (?, ?, ?, ?, ?)")
        .bind(&key_id)
        .bind(name)
        .bind(gates.to_string())
        .bind(keys.seal_at_rest(&bound_to(&key_id), key.as_slice()))
        .bind(sql::ms(now))
        .execute(&mut *conn)
        .await?;
    let added = Concentrator { id, name: name.to_owned(), gates, added_ms: sql::ms(now), retired_ms: None };
    audit(conn, "concentrator.add", &added, by, now).await?;
    let file = KeyFile {
        name,
        gates: added.gates.to_string(),
        key_id: &key_id,
        algorithm: "hmac-sha256",
        key: &Zeroizing::new(base64(key.as_slice())),
    };
    let mut file = Zeroizing::new(serde_json::to_vec_pretty(&file).map_err(ConcentratorError::File)?);
    file.push(b'\n');
    Ok((added, file))
}

/// Takes a concentrator out of service: what it signs is refused from now on.
pub async fn retire_in(
    conn: &mut Conn,
    name: &str,
    by: &str,
    now: UnixMs,
) -> Result<Concentrator, ConcentratorError> {
    let row =
        query("UPDATE concentrators SET retired_ms = ? WHERE name = ? AND retired_ms IS NULL RETURNING *")
            .bind(sql::ms(now))
            .bind(name.trim())
            .fetch_optional(&mut *conn)
            .await?
            .ok_or(ConcentratorError::Unknown)?;
    let retired = concentrator_of(&row)?;
    audit(conn, "concentrator.retire", &retired, by, now).await?;
    Ok(retired)
}

/// The same in a transaction of its own.
pub async fn retire(app: &App, name: &str, by: &str) -> Result<Concentrator, ConcentratorError> {
    let now = app.now()?;
    let mut tx = app.store.begin().await?;
    let retired = retire_in(&mut tx, name, by, now).await?;
    tx.commit().await?;
    Ok(retired)
}

async fn audit(
    conn: &mut Conn,
    action: &str,
    of: &Concentrator,
    by: &str,
    at: UnixMs,
) -> Result<(), StoreError> {
    let detail = format!("{}, gates {}", of.name, of.gates);
    let subject = of.id.to_string();
    audit_in(conn, &Audit { at, user: by, action, subject: &subject, detail: &detail }).await
}

/// A page of concentrators, by name; of one name, by key id.
pub async fn list(store: &Store, wanted: &Wanted) -> Result<Concentrators, ConcentratorError> {
    let after = wanted.after.map(|id| id.to_string());
    if let Some(after) = &after {
        let there = query("SELECT count(*) FROM concentrators WHERE key_id = ?").bind(after);
        if there.scalar::<i64>(store.pool()).await? == 0 {
            return Err(ConcentratorError::NoAfter);
        }
    }
    let rows = query(
        "SELECT * FROM concentrators WHERE (?1 = 1 OR retired_ms IS NULL) AND (?2 IS NULL OR \
         (name, key_id) > (SELECT name, key_id FROM concentrators WHERE key_id = ?2)) \
         ORDER BY name, key_id LIMIT ?3",
    )
    .bind(wanted.all)
    .bind(after)
    .bind(wanted.limit)
    .fetch_all(store.pool())
    .await?;
    let found = rows.iter().map(concentrator_of).collect::<Result<Vec<_>, _>>()?;
    let mut heard = heard_of(store, &found).await?;
    let listed = |concentrator: Concentrator| {
        let heard = heard.remove(&concentrator.id).unwrap_or_default();
        Listed { concentrator, heard }
    };
    Ok(Concentrators { concentrators: found.into_iter().map(listed).collect() })
}

/// What some concentrators have brought on all days together.
async fn heard_of(
    store: &Store,
    concentrators: &[Concentrator],
) -> Result<HashMap<ConcentratorId, Heard>, StoreError> {
    let text = "SELECT concentrator, max(last_ms), CAST(sum(requests) AS BIGINT), CAST(sum(refused) AS BIGINT), \
                CAST(sum(accepted) AS BIGINT), CAST(sum(repeated) AS BIGINT), CAST(sum(set_aside) AS BIGINT), \
                CAST(sum(not_kept) AS BIGINT), CAST(sum(gaps) AS BIGINT) \
                FROM concentrator_days WHERE concentrator IN ?? GROUP BY concentrator";
    let mut conn = store.pool().acquire().await?;
    let ids = concentrators.iter().map(|concentrator| One(concentrator.id.to_string()));
    let mut heard = HashMap::with_capacity(concentrators.len());
    for row in read_many(&mut conn, text, ids).await? {
        heard.insert(
            id_of(row.try_get(0)?)?,
            Heard {
                last_ms: row.try_get(1)?,
                requests: row.try_get(2)?,
                refused: row.try_get(3)?,
                accepted: row.try_get(4)?,
                repeated: row.try_get(5)?,
                set_aside: row.try_get(6)?,
                not_kept: row.try_get(7)?,
                gaps: row.try_get(8)?,
            },
        );
    }
    Ok(heard)
}

/// Writes down that a concentrator's own request was refused whole. One that is not believed is not written down: anybody can send
/// it, and each would cost a flush of the disk.
pub(crate) async fn note_refused(app: &App, id: ConcentratorId) -> Result<(), StoreError> {
    let now = sql::ms(app.clock.now());
    let day = app.config.day_clock().day_of(now).map_or(0, ServiceDay::number);
    let mut tx = app.store.begin().await?;
    query(
        "INSERT INTO concentrator_days (concentrator, service_day, last_ms, requests, refused) VALUES (?, ?, ?, 1, 1) \
         ON CONFLICT (concentrator, service_day) DO UPDATE SET last_ms = excluded.last_ms, \
         requests = concentrator_days.requests + 1, refused = concentrator_days.refused + 1",
    )
    .bind(id.to_string())
    .bind(day)
    .bind(now)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(())
}

/// The concentrator of a key id, and its key; `None` if that key was never given out.
pub async fn find(
    store: &Store,
    keys: &dyn ClearingKeys,
    key_id: &str,
) -> Result<Option<(Concentrator, Zeroizing<Vec<u8>>)>, StoreError> {
    let row = query("SELECT * FROM concentrators WHERE key_id = ?")
        .bind(key_id)
        .fetch_optional(store.pool())
        .await?;
    let Some(row) = row else { return Ok(None) };
    let key = keys.open_at_rest(&bound_to(key_id), row.try_get("sealed_key")?);
    let key = key.map_err(|_| StoreError::Damaged { what: "key of a concentrator" })?;
    Ok(Some((concentrator_of(&row)?, key)))
}

fn bound_to(key_id: &str) -> Vec<u8> {
    [SEALED_FOR, key_id.as_bytes()].concat()
}

fn id_of(text: &str) -> Result<ConcentratorId, StoreError> {
    text.parse().map_err(|_| StoreError::Damaged { what: "concentrator" })
}

fn concentrator_of(row: &Row) -> Result<Concentrator, StoreError> {
    let gates: &str = row.try_get("gates")?;
    Ok(Concentrator {
        id: id_of(row.try_get("key_id")?)?,
        name: row.try_get("name")?,
        gates: gates.parse().map_err(|_| StoreError::Damaged { what: "concentrator" })?,
        added_ms: row.try_get("added_ms")?,
        retired_ms: row.try_get("retired_ms")?,
    })
}

/// Why a batch is not this concentrator's to bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotOwn {
    /// It does not say whose it is.
    #[error("entry {0} is no sealed entry, so that it cannot be told whose it is; nothing was taken")]
    Unreadable(usize),
    /// No gate seals under its key id.
    #[error("entry {0} is of no gate that was ever commissioned; nothing was taken")]
    NoGate(usize),
    /// It is of a gate of others.
    #[error("entry {entry} is of gate {gate_id}, which is none of this concentrator's; nothing was taken")]
    OtherGate {
        /// Its place in the batch, from 0.
        entry: usize,
        /// Whose it is.
        gate_id: u32,
    },
}

/// Checks that every entry is of one of these gates, by the key id in its clear header. A forged entry of its own gates does not open: it is
/// set aside with a break, in a place that stays due and that the gate's own entry takes. `known` is asked once for each run of entries under one key id.
pub fn check_own(gates: &GateSet, known: &Directory, entries: &[Vec<u8>]) -> Result<(), NotOwn> {
    let mut last: Option<KeyId> = None;
    for (i, entry) in entries.iter().enumerate() {
        let key_id = Sealed::parse(entry).map_err(|_| NotOwn::Unreadable(i))?.header.ksn.key_id;
        if last == Some(key_id) {
            continue;
        }
        let gate = known.by_key(key_id).ok_or(NotOwn::NoGate(i))?;
        if !gates.contains(gate.gate_id) {
            return Err(NotOwn::OtherGate { entry: i, gate_id: gate.gate_id });
        }
        last = Some(key_id);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
