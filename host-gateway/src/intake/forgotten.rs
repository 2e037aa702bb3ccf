//! What rule 3 still needs of entries and taps that were deleted: which places and counters of a gate were taken, which
//! service days are gone, and how far a token's ATC had come.
//!
//! A deleted entry that comes again is acknowledged as known. An opened tap of a day that is gone, or with an ATC that its
//! token had used before, is kept and never counts.

use super::prepare::TapRow;
use crate::keys::TokenKey;
use crate::store::db::{Conn, One, Row, query, read_many, write_many};
use crate::store::{Break, StoreError, raise_break_in, sql};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use wavepass_protocol::dukpt::KeyId;
use wavepass_protocol::time::UnixMs;

/// Bit of `withheld`: the taps that would tell whether this one counts are deleted.
pub(super) const FORGOTTEN: u8 = 16;

/// The last service day whose taps are deleted, or are being: so are all before it.
pub(crate) async fn last_deleted_day_in(conn: &mut Conn) -> Result<Option<i64>, StoreError> {
    Ok(query("SELECT max(service_day) FROM deleted_days").scalar(conn).await?)
}

/// Of places of gates' journals, those whose entries were here and are deleted.
pub(super) async fn places_in(
    conn: &mut Conn,
    places: impl Iterator<Item = (KeyId, u32)>,
) -> Result<Vec<(KeyId, u32)>, StoreError> {
    let places: Vec<(KeyId, u32)> = places.collect();
    let text = "SELECT v.column1, v.column2 FROM (VALUES ??) AS v CROSS JOIN forgotten_entries AS f \
                WHERE f.key_id = v.column1 AND f.from_sequence <= v.column2 AND f.upto_sequence >= v.column2";
    let rows = read_many(conn, text, places.iter().map(|(key_id, sequence)| (&key_id.0, *sequence))).await?;
    let place = |row: &Row| -> Result<(KeyId, u32), StoreError> {
        let key_id: &[u8] = row.try_get(0)?;
        let key_id = key_id.try_into().map_err(|_| StoreError::Damaged { what: "key id" })?;
        Ok((KeyId(key_id), row.try_get(1)?))
    };
    rows.iter().map(place).collect()
}

/// What taps that come are held against.
pub(super) struct Gone {
    last_day: Option<i64>,
    atcs: HashMap<TokenKey, u16>,
}

impl Gone {
    /// Reads what bears on some taps; next to nothing where no day was ever deleted.
    pub(super) async fn load(
        conn: &mut Conn,
        taps: impl Iterator<Item = &TapRow>,
    ) -> Result<Self, StoreError> {
        let last_day = last_deleted_day_in(conn).await?;
        let mut atcs = HashMap::new();
        if last_day.is_some() {
            let tokens: BTreeSet<TokenKey> = taps.filter_map(|tap| tap.token_key).collect();
            let text = "SELECT token_key, atc FROM forgotten_atcs WHERE token_key IN ??";
            for row in read_many(conn, text, tokens.iter().map(|key| One(key.as_slice()))).await? {
                let key = TokenKey::from_slice(row.try_get(0)?);
                atcs.insert(key.ok_or(StoreError::Damaged { what: "token key" })?, row.try_get(1)?);
            }
        }
        Ok(Self { last_day, atcs })
    }

    /// The day of a tap, if it is gone.
    fn day(&self, tap: &TapRow) -> Option<i64> {
        tap.service_day.filter(|day| self.last_day.is_some_and(|last| *day <= last))
    }

    fn has_used(&self, tap: &TapRow) -> bool {
        let mark = tap.token_key.and_then(|key| self.atcs.get(&key));
        tap.atc.zip(mark).is_some_and(|(atc, mark)| atc <= *mark)
    }

    /// Whether a tap must not count.
    pub(super) fn withholds(&self, tap: &TapRow) -> bool {
        tap.opened && (self.day(tap).is_some() || self.has_used(tap))
    }

    /// Raises a break for what is withheld: one of a gate and day, one of a token's ATC.
    pub(super) async fn raise_in<'a>(
        &self,
        conn: &mut Conn,
        taps: impl Iterator<Item = (KeyId, &'a TapRow)>,
        at: UnixMs,
    ) -> Result<(), StoreError> {
        let mut found = BTreeSet::new();
        for (key_id, tap) in taps.filter(|(_, tap)| self.withholds(tap)) {
            found.insert(match (self.day(tap), tap.token_key, tap.atc) {
                (None, Some(key), Some(atc)) => {
                    let detail = format!("ATC {atc}, although taps with as high a one are deleted");
                    ("forgotten_atc", key.to_hex(), tap.service_day, detail)
                }
                (day, ..) => {
                    ("deleted_day", sql::hex(&key_id.0), day, "taps of a day whose taps are deleted".into())
                }
            });
        }
        for (kind, subject, service_day, detail) in &found {
            let (subject, service_day) = (subject.as_str(), *service_day);
            raise_break_in(conn, &Break { kind, subject, service_day, detail, at }).await?;
        }
        Ok(())
    }
}

/// A deleted entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forgotten {
    /// Its place in the gate's journal.
    pub(crate) sequence: i64,
    /// The counter of the key that sealed it.
    pub(crate) counter: i64,
}

/// Places and counters that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    sequences: (i64, i64),
    counters: (i64, i64),
}

/// Remembers entries of one gate that are being deleted, in the caller's transaction. Runs that touch become one, so
/// that a gate whose days are all deleted has one row.
pub(crate) async fn forget_in(
    conn: &mut Conn,
    key_id: &[u8; 8],
    entries: &[Forgotten],
) -> Result<(), StoreError> {
    let (Some(first), Some(last)) =
        (entries.iter().map(|e| e.sequence).min(), entries.iter().map(|e| e.sequence).max())
    else {
        return Ok(());
    };
    let rows = query(
        "SELECT from_sequence, upto_sequence, from_counter, upto_counter FROM forgotten_entries \
         WHERE key_id = ? AND from_sequence <= ? AND upto_sequence >= ?",
    )
    .bind(key_id)
    .bind(last + 1)
    .bind(first - 1)
    .fetch_all(&mut *conn)
    .await?;
    let mut runs = Vec::with_capacity(rows.len() + entries.len());
    for row in &rows {
        runs.push(Run {
            sequences: (row.try_get(0)?, row.try_get(1)?),
            counters: (row.try_get(2)?, row.try_get(3)?),
        });
    }
    let known: Vec<i64> = runs.iter().map(|run| run.sequences.0).collect();
    runs.extend(entries.iter().map(|entry| Run {
        sequences: (entry.sequence, entry.sequence),
        counters: (entry.counter, entry.counter),
    }));
    let text = "DELETE FROM forgotten_entries WHERE (key_id, from_sequence) IN (VALUES ??)";
    write_many(conn, text, known.iter().map(|from| (key_id, *from))).await?;
    let joined = joined(runs);
    let rows =
        joined.iter().map(|run| (key_id, run.sequences.0, run.sequences.1, run.counters.0, run.counters.1));
    let text = "INSERT INTO forgotten_entries (key_id, from_sequence, upto_sequence, from_counter, upto_counter) \
                VALUES ??";
    write_many(conn, text, rows).await?;
    Ok(())
}

/// Runs without those that touch.
fn joined(mut runs: Vec<Run>) -> Vec<Run> {
    runs.sort_unstable_by_key(|run| run.sequences);
    let mut out: Vec<Run> = Vec::new();
    for run in runs {
        match out.last_mut() {
            Some(last) if run.sequences.0 <= last.sequences.1 + 1 => {
                last.sequences.1 = last.sequences.1.max(run.sequences.1);
                let (a, b) = (last.counters, run.counters);
                last.counters = (a.0.min(b.0), a.1.max(b.1));
            }
            _ => out.push(run),
        }
    }
    out
}

/// Remembers how far tokens' ATCs had come in counted taps that are being deleted, in the caller's transaction.
pub(crate) async fn forget_atcs_in(
    conn: &mut Conn,
    atcs: &BTreeMap<TokenKey, u16>,
) -> Result<(), StoreError> {
    let text = "INSERT INTO forgotten_atcs (token_key, atc) VALUES ?? ON CONFLICT (token_key) DO UPDATE SET \
                atc = CASE WHEN excluded.atc > forgotten_atcs.atc THEN excluded.atc ELSE forgotten_atcs.atc END";
    write_many(conn, text, atcs.iter().map(|(key, atc)| (key.as_slice(), *atc))).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_touch_become_one_and_a_place_that_never_came_stays_apart() {
        let run = |from, upto| Run { sequences: (from, upto), counters: (from + 10, upto + 10) };
        assert_eq!(joined(vec![run(4, 4), run(1, 2), run(3, 3)]), [run(1, 4)]);
        assert_eq!(joined(vec![run(6, 9), run(1, 4)]), [run(1, 4), run(6, 9)]);
        assert_eq!(joined(vec![run(2, 3), run(1, 5)]), [run(1, 5)]);
    }
}
