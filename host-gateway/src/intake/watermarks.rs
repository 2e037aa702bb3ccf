//! How far each gate's entries have come, locked by the transaction that takes more of them.

use crate::gates;
use crate::store::StoreError;
use crate::store::db::{Conn, One, Row, read_many, write_many};
use std::collections::HashMap;
use wavepass_protocol::dukpt::KeyId;
use wavepass_protocol::seal::Chain;

/// How far a key id has come.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    pub(super) acked: u32,
    pub(super) last_counter: u32,
    /// What the entry after `acked` must say of it; none where that entry is not here.
    pub(super) tail: Option<Chain>,
    pub(super) changed: bool,
}

impl Default for Mark {
    fn default() -> Self {
        Self { acked: 0, last_counter: 0, tail: Some(Chain::START), changed: false }
    }
}

/// Reads how far these key ids have come, in ascending order, and locks that for the transaction. One of a gate that never sent
/// anything is written down first, as what it is, so that it can be locked.
pub(super) async fn lock_in(
    conn: &mut Conn,
    keys: &[KeyId],
    directory: &gates::Directory,
) -> Result<HashMap<KeyId, Mark>, StoreError> {
    let mut marks = load_in(conn, keys).await?;
    let new: Vec<KeyId> = keys
        .iter()
        .copied()
        .filter(|&id| !marks.contains_key(&id) && directory.by_key(id).is_some())
        .collect();
    if !new.is_empty() {
        let Mark { acked, last_counter, tail, .. } = Mark::default();
        let rows = new.iter().map(|id| (&id.0, acked, last_counter, tail.map(|tail| tail.0.to_vec())));
        let text =
            "INSERT INTO watermarks (key_id, acked, last_counter, tail) VALUES ?? ON CONFLICT DO NOTHING";
        write_many(conn, text, rows).await?;
        marks.extend(load_in(conn, &new).await?);
    }
    Ok(marks)
}

async fn load_in(conn: &mut Conn, keys: &[KeyId]) -> Result<HashMap<KeyId, Mark>, StoreError> {
    let mut marks = HashMap::with_capacity(keys.len());
    let text = "SELECT key_id, acked, last_counter, tail FROM watermarks WHERE key_id IN ?? ORDER BY key_id FOR UPDATE";
    for row in read_many(conn, text, keys.iter().map(|key_id| One(&key_id.0))).await? {
        let tail: Option<&[u8]> = row.try_get(3)?;
        let tail = tail.map(|bytes| bytes.try_into().map(Chain)).transpose();
        let tail = tail.map_err(|_| StoreError::Damaged { what: "chain" })?;
        let mark = Mark { acked: number(&row, 1)?, last_counter: number(&row, 2)?, tail, changed: false };
        marks.insert(key_id(&row, 0)?, mark);
    }
    Ok(marks)
}

/// Writes those that have changed.
pub(super) async fn write_in(conn: &mut Conn, marks: &HashMap<KeyId, Mark>) -> Result<(), StoreError> {
    let changed = marks.iter().filter(|(_, mark)| mark.changed).map(|(key_id, mark)| {
        (&key_id.0, mark.acked, mark.last_counter, mark.tail.map(|tail| tail.0.to_vec()))
    });
    let text = "INSERT INTO watermarks (key_id, acked, last_counter, tail) VALUES ?? ON CONFLICT (key_id) DO UPDATE \
                SET acked = excluded.acked, last_counter = excluded.last_counter, tail = excluded.tail";
    write_many(conn, text, changed).await?;
    Ok(())
}

pub(super) fn key_id(row: &Row, column: usize) -> Result<KeyId, StoreError> {
    let bytes: &[u8] = row.try_get(column)?;
    bytes.try_into().map(KeyId).map_err(|_| StoreError::Damaged { what: "key id" })
}

pub(super) fn number(row: &Row, column: usize) -> Result<u32, StoreError> {
    u32::try_from(row.try_get::<i64>(column)?).map_err(|_| StoreError::Damaged { what: "sequence number" })
}
