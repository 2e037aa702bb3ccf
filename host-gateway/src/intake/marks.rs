//! Marks: in which stretches of time a gate's taps came that nobody has held against what became of them.
//!
//! Reconciliation takes a mark away once it has looked; a tap that comes late, or a passage, makes it again.

use std::collections::BTreeSet;

use crate::store::StoreError;
use crate::store::db::{Conn, write_many};

/// The stretch of time that is marked: time slices of any width are made of whole ones, and a gate has few of them a day.
pub(crate) const MARK_MS: i64 = 5 * 60_000;

/// Marks what came, in the transaction that books it: gate's key id and time of each tap.
pub(crate) async fn mark_in(
    conn: &mut Conn,
    taps: impl Iterator<Item = ([u8; 8], i64)>,
) -> Result<(), StoreError> {
    let marks: BTreeSet<(i64, [u8; 8])> =
        taps.map(|(key_id, time_ms)| (time_ms.div_euclid(MARK_MS) * MARK_MS, key_id)).collect();
    let text = "INSERT INTO open_slices (start_ms, key_id) VALUES ?? ON CONFLICT DO NOTHING";
    write_many(conn, text, marks.iter().map(|(start, key_id)| (*start, key_id))).await?;
    Ok(())
}
