//! What has come and was not looked at: runs of gates' entries. Once looked at, their opened taps are entered among those of
//! their tokens, in the order of days and tokens, so that a large batch touches few places of the table.

use super::rules::Seen;
use super::{RiskError, token_key};
use crate::keys::TokenKey;
use crate::store::StoreError;
use crate::store::db::{Conn, Row, query, read_many, write_many};
use crate::store::sql::UTC_DAY_MS;
use std::collections::BTreeMap;
use wavepass_protocol::dukpt::KeyId;

/// A run of one gate's entries.
pub(super) struct Run {
    from_ms: i64,
    key_id: [u8; 8],
    from: i64,
    upto: i64,
}

/// What is looked at in one transaction.
pub(super) struct Arrived {
    pub(super) runs: Vec<Run>,
    /// There were no more runs.
    pub(super) is_all: bool,
    /// Each token's in the order of events.
    pub(super) taps: BTreeMap<TokenKey, Vec<Seen>>,
}

/// Reads the earliest runs with their taps: at least one, if there is any, and of more no more than so many taps.
pub(super) async fn next_in(conn: &mut Conn, runs: i64, taps: i64) -> Result<Arrived, RiskError> {
    let rows: Vec<(i64, Vec<u8>, i64, i64, i64)> = query(
        "SELECT from_ms, key_id, from_sequence, upto_sequence, taps FROM arrivals \
         ORDER BY from_ms, key_id, from_sequence LIMIT ?",
    )
    .bind(runs)
    .rows(&mut *conn)
    .await?;
    let mut found = Vec::with_capacity(rows.len());
    let mut left = taps;
    let mut is_all = (rows.len() as i64) < runs;
    for (from_ms, key_id, from, upto, taps) in rows {
        left -= taps;
        if left < 0 && !found.is_empty() {
            is_all = false;
            break;
        }
        let key_id = key_id.try_into().map_err(|_| StoreError::Damaged { what: "key id" })?;
        found.push(Run { from_ms, key_id, from, upto });
    }
    let text = "SELECT t.key_id, t.sequence, t.token_key, t.time_ms, t.clock, t.service_day, t.atc, t.cryptogram, \
                t.card_digest, t.withheld FROM (VALUES ??) AS v CROSS JOIN taps AS t WHERE t.key_id = v.column1 \
                AND t.sequence BETWEEN v.column2 AND v.column3 AND t.opened = 1 AND t.token_key IS NOT NULL";
    let rows = read_many(conn, text, found.iter().map(|run| (&run.key_id, run.from, run.upto))).await?;
    let mut taps: BTreeMap<TokenKey, Vec<Seen>> = BTreeMap::new();
    for row in &rows {
        let (token, seen) = seen(row)?;
        taps.entry(token).or_default().push(seen);
    }
    for taps in taps.values_mut() {
        taps.sort_unstable_by_key(Seen::order);
    }
    Ok(Arrived { runs: found, is_all, taps })
}

/// A tap of a row with key id, sequence, token, time, clock, service day, ATC, cryptogram, digest and withheld.
pub(super) fn seen(row: &Row) -> Result<(TokenKey, Seen), RiskError> {
    let key_id: &[u8] = row.try_get(0)?;
    let seen = Seen {
        key_id: KeyId(key_id.try_into().map_err(|_| StoreError::Damaged { what: "key id" })?),
        sequence: row.try_get(1)?,
        time_ms: row.try_get(3)?,
        clock: row.try_get(4)?,
        service_day: row.try_get(5)?,
        atc: row.try_get(6)?,
        cryptogram: row.try_get(7)?,
        digest: row.try_get::<Option<Vec<u8>>>(8)?.unwrap_or_default(),
        withheld: row.try_get(9)?,
        near: true,
    };
    Ok((token_key(row.try_get(2)?)?, seen))
}

/// Enters taps among those of their tokens, and takes the runs away.
pub(super) async fn looked_at_in(conn: &mut Conn, arrived: &Arrived) -> Result<(), RiskError> {
    let mut rows: Vec<_> = arrived
        .taps
        .iter()
        .flat_map(|(token, taps)| taps.iter().map(move |tap| (token, tap)))
        .map(|(token, tap)| {
            (tap.time_ms.div_euclid(UTC_DAY_MS), token.as_slice(), tap.time_ms, &tap.key_id.0, tap.sequence)
        })
        .collect();
    rows.sort_unstable();
    let text = "INSERT INTO token_taps (utc_day, token_key, time_ms, key_id, sequence) VALUES ??";
    write_many(conn, text, rows).await?;
    let text = "DELETE FROM arrivals WHERE (from_ms, key_id, from_sequence) IN (VALUES ??)";
    write_many(conn, text, arrived.runs.iter().map(|run| (run.from_ms, &run.key_id, run.from))).await?;
    Ok(())
}
