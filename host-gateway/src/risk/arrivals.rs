//! What has come and was not looked at: runs of gates' entries. Once looked at, their opened taps are entered among those of
//! their tokens, in the order of days and tokens, so that much at once touches few places of the table.

use super::RiskError;
use super::passages::Turned;
use super::rules::{Rest, Seen};
use crate::intake::marks::mark_in;
use crate::keys::TokenKey;
use crate::store::db::{Conn, Row, query, read_many, write_many};
use crate::store::sql::UTC_DAY_MS;
use crate::store::{Store, StoreError};
use futures_util::future::try_join_all;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wavepass_protocol::dukpt::KeyId;

/// Over how many connections much is read.
const CONNECTIONS: usize = 2;

/// A run of one gate's entries.
pub(super) struct Run {
    from_ms: i64,
    key_id: [u8; 8],
    from: i64,
    upto: i64,
    taps: i64,
}

/// What is to be looked at together.
pub(super) struct Arrived {
    pub(super) runs: Vec<Run>,
    /// Opened ones with a token.
    pub(super) taps: i64,
    /// There were no more runs.
    pub(super) is_all: bool,
}

/// The columns of a run.
macro_rules! runs {
    ($rest:literal) => {
        concat!("SELECT from_ms, key_id, from_sequence, upto_sequence, taps FROM arrivals ", $rest)
    };
}

type RunRow = (i64, Vec<u8>, i64, i64, i64);

fn run((from_ms, key_id, from, upto, taps): RunRow) -> Result<Run, StoreError> {
    let key_id = key_id.try_into().map_err(|_| StoreError::Damaged { what: "key id" })?;
    Ok(Run { from_ms, key_id, from, upto, taps })
}

/// The earliest runs: at least one, if there is any, and of more no more than so many taps.
pub(super) async fn next_in(conn: &mut Conn, runs: i64, taps: i64) -> Result<Arrived, RiskError> {
    let rows: Vec<RunRow> =
        query(runs!("ORDER BY from_ms, key_id, from_sequence LIMIT ?")).bind(runs).rows(conn).await?;
    let mut arrived = Arrived { runs: Vec::new(), taps: 0, is_all: (rows.len() as i64) < runs };
    for row in rows {
        let run = run(row)?;
        if arrived.taps + run.taps > taps && !arrived.runs.is_empty() {
            arrived.is_all = false;
            break;
        }
        arrived.taps += run.taps;
        arrived.runs.push(run);
    }
    Ok(arrived)
}

/// The runs that are looked at in a pass.
pub(super) async fn in_pass(conn: &mut Conn) -> Result<Vec<Run>, RiskError> {
    let rows: Vec<RunRow> =
        query(runs!("WHERE in_pass = 1 ORDER BY from_ms, key_id, from_sequence")).rows(conn).await?;
    Ok(rows.into_iter().map(run).collect::<Result<_, _>>()?)
}

/// Puts runs into the pass.
pub(super) async fn into_pass_in(conn: &mut Conn, runs: &[Run]) -> Result<(), StoreError> {
    let text = "UPDATE arrivals SET in_pass = 1 FROM (VALUES ??) AS v WHERE from_ms = v.column1 \
                AND key_id = v.column2 AND from_sequence = v.column3";
    write_many(conn, text, runs.iter().map(|run| (run.from_ms, &run.key_id, run.from))).await?;
    Ok(())
}

/// Takes runs away whose taps are entered.
pub(super) async fn looked_at_in(conn: &mut Conn, runs: &[Run]) -> Result<(), StoreError> {
    let text = "DELETE FROM arrivals WHERE (from_ms, key_id, from_sequence) IN (VALUES ??)";
    write_many(conn, text, runs.iter().map(|run| (run.from_ms, &run.key_id, run.from))).await?;
    Ok(())
}

/// Reads the opened taps of runs, in the order of tokens and each token's in the order of events; with one statement up to so many,
/// unless one run has more.
pub(super) async fn taps_of_in(conn: &mut Conn, runs: &[Run], rows: i64) -> Result<Vec<Seen>, RiskError> {
    let mut taps = Vec::with_capacity(taps_in(runs));
    let mut stations = Stations::default();
    for runs in read_at_once(runs, rows) {
        read_in(conn, runs, &mut stations, &mut taps).await?;
    }
    taps.sort_unstable_by_key(|tap| (tap.token, tap.order()));
    Ok(taps)
}

/// Reads the taps of many runs, as [`taps_of_in`] does, over several connections: the database gathers some while others are
/// taken apart here.
pub(super) async fn taps_of(store: &Store, runs: &[Run], rows: i64) -> Result<Vec<Seen>, RiskError> {
    let taps = Mutex::new(Vec::with_capacity(taps_in(runs)));
    let left = Mutex::new(read_at_once(runs, rows));
    let next = || locked(&left).next();
    let read = async || -> Result<(), RiskError> {
        let mut conn = store.pool().acquire().await?;
        let mut stations = Stations::default();
        let mut some = Vec::new();
        while let Some(runs) = next() {
            read_in(&mut conn, runs, &mut stations, &mut some).await?;
            locked(&taps).append(&mut some);
        }
        Ok(())
    };
    try_join_all((0..CONNECTIONS).map(|_| read())).await?;
    let mut taps = taps.into_inner().unwrap_or_else(PoisonError::into_inner);
    // Millions: not where taps are taken in.
    let sorted = tokio::task::spawn_blocking(move || {
        taps.sort_unstable_by_key(|tap| (tap.token, tap.order()));
        taps
    });
    sorted.await.map_err(|_| RiskError::Worker)
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn taps_in(runs: &[Run]) -> usize {
    runs.iter().map(|run| run.taps.max(0) as usize).sum()
}

/// The runs that are read by each statement: of so many taps, unless one alone has more.
fn read_at_once(runs: &[Run], rows: i64) -> impl Iterator<Item = &[Run]> {
    let mut left = runs;
    std::iter::from_fn(move || {
        let mut room = rows;
        let most = left.iter().take_while(|run| {
            room -= run.taps;
            room >= 0
        });
        let (now, later) = left.split_at_checked(most.count().max(1))?;
        left = later;
        Some(now)
    })
}

/// Each station's name once: there are few and of taps many.
#[derive(Default)]
pub(super) struct Stations(HashSet<Arc<str>>);

impl Stations {
    fn shared(&mut self, station: &str) -> Arc<str> {
        if let Some(known) = self.0.get(station) {
            return known.clone();
        }
        let new: Arc<str> = station.into();
        self.0.insert(new.clone());
        new
    }
}

async fn read_in(
    conn: &mut Conn,
    runs: &[Run],
    stations: &mut Stations,
    taps: &mut Vec<Seen>,
) -> Result<(), RiskError> {
    let text = "SELECT t.key_id, t.sequence, t.token_key, t.time_ms, t.clock, t.service_day, t.atc, t.cryptogram, \
                t.card_digest, t.withheld, t.station, t.direction, t.passage FROM (VALUES ??) AS v CROSS JOIN taps AS t \
                WHERE t.key_id = v.column1 AND t.sequence BETWEEN v.column2 AND v.column3 AND t.opened = 1 \
                AND t.token_key IS NOT NULL";
    for row in read_many(conn, text, runs.iter().map(|run| (&run.key_id, run.from, run.upto))).await? {
        taps.push(seen(&row, stations)?);
    }
    Ok(())
}

/// A tap of a row with key id, sequence, token, time, clock, service day, ATC, cryptogram, digest, withheld, station, direction
/// and passage.
pub(super) fn seen(row: &Row, stations: &mut Stations) -> Result<Seen, RiskError> {
    let rest = Rest {
        station: stations.shared(row.try_get(10)?),
        direction: row.try_get(11)?,
        passage: row.try_get(12)?,
    };
    let key_id: &[u8] = row.try_get(0)?;
    let digest: Option<&[u8]> = row.try_get(8)?;
    let digest = digest.map(|bytes| bytes.try_into()).transpose();
    Ok(Seen {
        token: TokenKey::from_slice(row.try_get(2)?).ok_or(StoreError::Damaged { what: "token key" })?,
        key_id: KeyId(key_id.try_into().map_err(|_| StoreError::Damaged { what: "key id" })?),
        sequence: row.try_get(1)?,
        time_ms: row.try_get(3)?,
        clock: row.try_get(4)?,
        service_day: row.try_get(5)?,
        atc: row.try_get(6)?,
        cryptogram: row.try_get(7)?,
        digest: digest.map_err(|_| StoreError::Damaged { what: "card digest" })?,
        withheld: row.try_get(9)?,
        near: true,
        rest: Some(rest),
    })
}

/// Enters taps among those of their tokens.
pub(super) async fn enter_in(conn: &mut Conn, taps: &[Seen]) -> Result<(), StoreError> {
    let mut rows: Vec<(i64, &Seen, &Rest)> = taps
        .iter()
        .filter_map(|tap| Some((tap.time_ms.div_euclid(UTC_DAY_MS), tap, tap.rest.as_ref()?)))
        .collect();
    // Tokens are in order, but for the days on which they tapped.
    rows.sort_by_key(|(day, ..)| *day);
    let rows = rows.into_iter().map(|(day, tap, rest)| {
        (
            day,
            tap.token.as_slice(),
            tap.time_ms,
            &tap.key_id.0,
            tap.sequence,
            tap.clock,
            tap.service_day,
            &*rest.station,
            rest.direction,
            tap.atc,
            tap.cryptogram,
            tap.digest.as_ref().map(|digest| &digest[..]),
            rest.passage,
            tap.withheld,
        )
    });
    let text = "INSERT INTO token_taps (utc_day, token_key, time_ms, key_id, sequence, clock, service_day, station, \
                direction, atc, cryptogram, card_digest, passage, withheld) VALUES ??";
    write_many(conn, text, rows).await?;
    Ok(())
}

/// Enters passages that came after their taps, up to so many, and marks when these taps were: what became of them may be
/// otherwise now. Gives those that were judged as if it had been otherwise whether somebody went, and whether there may be more
/// passages. In the writer's turn: beside intake, one that comes between reading the tap and
/// forgetting the passage would be lost.
pub(super) async fn enter_passages_in(conn: &mut Conn, most: i64) -> Result<(Vec<Turned>, bool), RiskError> {
    // A tap that is not among its token's yet is entered with the passage that it has by then; a deleted one not at all.
    let rows = query(
        "SELECT p.key_id, p.of, t.token_key, t.time_ms, t.passage FROM (SELECT key_id, of FROM late_passages \
         ORDER BY key_id, of LIMIT ?) AS p LEFT JOIN taps AS t ON t.key_id = p.key_id AND t.sequence = p.of",
    )
    .bind(most)
    .fetch_all(&mut *conn)
    .await?;
    let mut places = Vec::with_capacity(rows.len());
    let mut taps = Vec::with_capacity(rows.len());
    let mut when = Vec::with_capacity(rows.len());
    for row in &rows {
        let (key_id, of): (&[u8], i64) = (row.try_get(0)?, row.try_get(1)?);
        places.push((key_id, of));
        if let (Some(token), Some(time_ms)) =
            (row.try_get::<Option<&[u8]>>(2)?, row.try_get::<Option<i64>>(3)?)
        {
            let passage: Option<u8> = row.try_get(4)?;
            taps.push((time_ms.div_euclid(UTC_DAY_MS), token, time_ms, key_id, of, passage));
            when.push((key_id.try_into().map_err(|_| StoreError::Damaged { what: "key id" })?, time_ms));
        }
    }
    taps.sort_unstable();
    // 0 is that nobody passed.
    let text = "SELECT t.token_key, t.time_ms, t.key_id, t.sequence FROM (VALUES ??) AS v CROSS JOIN token_taps AS t \
                WHERE t.utc_day = v.column1 AND t.token_key = v.column2 AND t.time_ms = v.column3 AND t.key_id = v.column4 \
                AND t.sequence = v.column5 AND (COALESCE(t.passage, 1) = 0) <> (v.column6 = 0)";
    let mut turned = Vec::new();
    for row in read_many(conn, text, taps.iter().copied()).await? {
        let key_id: &[u8] = row.try_get(2)?;
        turned.push(Turned {
            token: TokenKey::from_slice(row.try_get(0)?).ok_or(StoreError::Damaged { what: "token key" })?,
            time_ms: row.try_get(1)?,
            key_id: KeyId(key_id.try_into().map_err(|_| StoreError::Damaged { what: "key id" })?),
            sequence: row.try_get(3)?,
        });
    }
    let text = "UPDATE token_taps SET passage = v.column6 FROM (VALUES ??) AS v WHERE utc_day = v.column1 \
                AND token_key = v.column2 AND time_ms = v.column3 AND token_taps.key_id = v.column4 AND sequence = v.column5";
    write_many(conn, text, taps).await?;
    mark_in(conn, when.into_iter()).await?;
    let text = "DELETE FROM late_passages WHERE (key_id, of) IN (VALUES ??)";
    write_many(conn, text, places).await?;
    Ok((turned, rows.len() as i64 == most))
}
