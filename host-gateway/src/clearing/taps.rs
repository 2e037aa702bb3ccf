//! Reads a day's taps token by token: in the order of token keys, a bounded number of rows at a time.

use std::ops::Range;

use crate::store::db::{Pool, Row, query};
use crate::store::sql::{UTC_DAY_MS, utc_day_ms};
use wavepass_fares::{Kind, Passage, ServiceDay, Tap, TapId, Tariffs};

use super::{ClearingError, token_key};
use crate::keys::TokenKey;

/// Rows read at a time from each UTC day: about 4,000 tokens, a few megabytes.
const ROWS: usize = 16_384;
/// The most taps one token may have around a day: one every two seconds for a day.
const MAX_TAPS: usize = 65_536;

/// One token's counted taps that bear on what a day costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenTaps {
    pub(crate) key: TokenKey,
    pub(crate) taps: Vec<Tap>,
}

/// A tap at a station that no tariff has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnknownStation {
    pub(crate) key: TokenKey,
    pub(crate) tap: TapId,
    pub(crate) time_ms: i64,
    pub(crate) station: String,
}

/// A run of tokens, complete with their taps.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// In the order of their keys.
    pub(crate) tokens: Vec<TokenTaps>,
    pub(crate) unknown: Vec<UnknownStation>,
    /// The last token this chunk speaks for; `None`: all the rest.
    pub(crate) up_to: Option<TokenKey>,
    /// True if risk has not looked at all of these tokens' taps.
    pub(crate) unchecked: bool,
}

/// Reads the tokens after `cursor` up to `end`.
pub(crate) async fn read_chunk(
    pool: &Pool,
    tariffs: &Tariffs,
    day: ServiceDay,
    cursor: &[u8],
    end: &[u8],
) -> Result<Chunk, ClearingError> {
    let mut limit = ROWS;
    loop {
        let chunk = read(pool, tariffs, day, (cursor, end), limit).await?;
        if let Some(chunk) = chunk {
            return Ok(chunk);
        }
        // One token alone has more taps than were read.
        limit *= 2;
        if limit > 4 * MAX_TAPS {
            let first = first_after(pool, tariffs, day, cursor).await?;
            let first = first.ok_or_else(|| ClearingError::damaged("the taps of a token"))?;
            return Err(ClearingError::TooManyTaps { token_key: token_key(&first)?, day, limit: MAX_TAPS });
        }
    }
}

/// The first token after `cursor` with taps that bear on a day.
async fn first_after(
    pool: &Pool,
    tariffs: &Tariffs,
    day: ServiceDay,
    cursor: &[u8],
) -> Result<Option<Vec<u8>>, ClearingError> {
    let mut first: Option<Vec<u8>> = None;
    for (bucket, from_ms, upto_ms) in buckets(tariffs, day) {
        let least = query(
            "SELECT token_key FROM token_taps WHERE utc_day = ? AND token_key > ? AND time_ms BETWEEN ? AND ? \
             ORDER BY token_key LIMIT 1",
        );
        let least: Option<Vec<u8>> =
            least.bind(bucket).bind(cursor).bind(from_ms).bind(upto_ms).optional(pool).await?;
        first = [first, least].into_iter().flatten().min();
    }
    Ok(first)
}

/// Reads one token alone.
pub(super) async fn read_token(
    pool: &Pool,
    tariffs: &Tariffs,
    day: ServiceDay,
    key: TokenKey,
) -> Result<Vec<Tap>, ClearingError> {
    // What comes right before the key in the order of bytes: all shorter than it are before it.
    let mut before = key.0.to_vec();
    match before.iter().rposition(|&byte| byte > 0) {
        Some(at) => {
            before[at] -= 1;
            before.truncate(at + 1);
            before.resize(17, 0xFF);
        }
        None => before.truncate(15),
    }
    let chunk = read(pool, tariffs, day, (&before, key.as_slice()), MAX_TAPS).await?;
    let too_many = ClearingError::TooManyTaps { token_key: key, day, limit: MAX_TAPS };
    Ok(chunk.ok_or(too_many)?.tokens.into_iter().next().map(|token| token.taps).unwrap_or_default())
}

/// Taps of a UTC day in the order of tokens, after one up to another, from one time to another.
const PAGE: &str = "SELECT token_key, key_id, sequence, time_ms, station, direction, passage, withheld \
    FROM token_taps WHERE utc_day = ? AND token_key > ? AND token_key <= ? AND time_ms BETWEEN ? AND ? \
    ORDER BY token_key LIMIT ?";

/// Whether risk has not looked at a tap of tokens after 3, up to 4, before 1 and from 2 on. It goes by what waits for risk, which is
/// little: joined, PostgreSQL may turn it round and go through all taps of the day, once it has learnt how many there are.
const ARRIVED: &str = "SELECT 1 FROM arrivals AS a WHERE a.from_ms < ?1 AND a.upto_ms >= ?2 AND (SELECT 1 FROM taps AS t \
    WHERE t.key_id = a.key_id AND t.sequence BETWEEN a.from_sequence AND a.upto_sequence AND t.opened = 1 \
    AND t.token_key > ?3 AND t.token_key <= ?4 AND t.time_ms < ?1 AND t.time_ms >= ?2 LIMIT 1) IS NOT NULL LIMIT 1";
/// The same of a passage that came late.
const PASSED: &str = "SELECT 1 FROM late_passages AS p WHERE (SELECT 1 FROM taps AS t WHERE t.key_id = p.key_id \
    AND t.sequence = p.of AND t.time_ms < ?1 AND t.time_ms >= ?2 AND t.token_key > ?3 AND t.token_key <= ?4 LIMIT 1) \
    IS NOT NULL LIMIT 1";

/// Reads the tokens after `cursor` up to `end`.
async fn read(
    pool: &Pool,
    tariffs: &Tariffs,
    day: ServiceDay,
    (cursor, end): (&[u8], &[u8]),
    limit: usize,
) -> Result<Option<Chunk>, ClearingError> {
    let clock = tariffs.clock();
    let near = clock.start_ms(day) - tariffs.reach_ms()..clock.end_ms(day) + tariffs.reach_ms();
    let span = span(tariffs, day);
    let mut rows = Vec::new();
    // The last token of every bucket that was not read to its end: its taps, and those of what follows, may be missing.
    let mut broken_off: Option<TokenKey> = None;
    let mut snapshot = pool.begin().await?;
    for (bucket, from_ms, upto_ms) in buckets(tariffs, day) {
        let page = query(PAGE).bind(bucket).bind(cursor).bind(end).bind(from_ms).bind(upto_ms);
        let read = page.bind(limit as i64).fetch_all(&mut *snapshot).await?;
        if read.len() == limit
            && let Some(last) = read.last()
        {
            let last = token_key(last.try_get(0)?)?;
            broken_off = Some(broken_off.map_or(last, |other| other.min(last)));
        }
        rows.extend(read);
    }

    let mut found: Vec<(TokenKey, Tap)> = Vec::with_capacity(rows.len());
    let mut chunk = Chunk { tokens: Vec::new(), unknown: Vec::new(), up_to: None, unchecked: false };
    for row in &rows {
        let key = token_key(row.try_get(0)?)?;
        if broken_off.is_some_and(|end| key >= end) {
            continue;
        }
        chunk.up_to = chunk.up_to.max(Some(key));
        let time_ms: i64 = row.try_get(3)?;
        if row.try_get::<i64>(7)? != 0 {
            continue;
        }
        match tap(row, tariffs)? {
            Ok(tap) => found.push((key, tap)),
            Err(unknown) if near.contains(&time_ms) => chunk.unknown.push(unknown),
            Err(_) => {}
        }
    }
    if broken_off.is_some() && chunk.up_to.is_none() {
        return Ok(None);
    }
    if broken_off.is_none() {
        chunk.up_to = None;
    }
    let last = chunk.up_to.map_or_else(|| end.to_vec(), |key| key.as_slice().to_vec());
    for waiting in [ARRIVED, PASSED] {
        let waiting = query(waiting).bind(span.end).bind(span.start).bind(cursor).bind(&last);
        chunk.unchecked |= waiting.fetch_optional(&mut *snapshot).await?.is_some();
    }
    drop(snapshot);
    // Each bucket came in token order; together they are so only after a sort.
    found.sort_unstable();
    for run in found.chunk_by(|a, b| a.0 == b.0) {
        chunk.tokens.push(TokenTaps { key: run[0].0, taps: run.iter().map(|&(_, tap)| tap).collect() });
    }
    Ok(Some(chunk))
}

/// A tap of a row whose first columns are token, key id, sequence, time, station, direction and passage.
fn tap(row: &Row, tariffs: &Tariffs) -> Result<Result<Tap, UnknownStation>, ClearingError> {
    let id = TapId {
        key: row.try_get::<&[u8]>(1)?.try_into().map_err(|_| ClearingError::damaged("a tap's key id"))?,
        sequence: row.try_get(2)?,
    };
    let time_ms = row.try_get(3)?;
    let station: &str = row.try_get(4)?;
    let Some(station) = tariffs.station(station) else {
        let station = station.chars().take(20).collect();
        return Ok(Err(UnknownStation { key: token_key(row.try_get(0)?)?, tap: id, time_ms, station }));
    };
    let kind = match row.try_get::<i64>(5)? {
        0 => Kind::Entry,
        1 => Kind::Exit,
        2 => Kind::Single,
        _ => return Err(ClearingError::damaged("a tap's direction")),
    };
    let passage = match row.try_get::<Option<i64>>(6)? {
        Some(0) => Passage::NotPassed,
        Some(1) => Passage::Passed,
        _ => Passage::Unknown,
    };
    Ok(Ok(Tap { time_ms, station, kind, id, passage }))
}

/// Reads the counted taps of some tokens that bear on a day, in the order of their keys. Tokens without any are left
/// out, and so are taps at stations that no tariff has.
pub(crate) async fn read_tokens(
    pool: &Pool,
    tariffs: &Tariffs,
    day: ServiceDay,
    tokens: &[TokenKey],
) -> Result<Vec<TokenTaps>, ClearingError> {
    let mut found: Vec<(TokenKey, Tap)> = Vec::new();
    let mut snapshot = pool.begin().await?;
    for (bucket, from_ms, upto_ms) in buckets(tariffs, day) {
        let rows = query(
            "SELECT token_key, key_id, sequence, time_ms, station, direction, passage FROM token_taps \
             WHERE utc_day = ? AND token_key IN ?? AND time_ms BETWEEN ? AND ? AND withheld = 0",
        )
        .bind(bucket)
        .bind_list(tokens.iter().map(|key| key.as_slice()))
        .bind(from_ms)
        .bind(upto_ms)
        .fetch_all(&mut *snapshot)
        .await?;
        for row in &rows {
            if let Ok(tap) = tap(row, tariffs)? {
                found.push((token_key(row.try_get(0)?)?, tap));
            }
        }
    }
    drop(snapshot);
    found.sort_unstable();
    let runs = found.chunk_by(|a, b| a.0 == b.0);
    Ok(runs.map(|run| TokenTaps { key: run[0].0, taps: run.iter().map(|&(_, tap)| tap).collect() }).collect())
}

/// The times of the taps that bear on a day: near it, and, where caps count over several days, from the first of them on.
fn span(tariffs: &Tariffs, day: ServiceDay) -> Range<i64> {
    let clock = tariffs.clock();
    let from_ms = clock.start_ms(*tariffs.window(day).start()) - tariffs.reach_ms();
    from_ms..clock.end_ms(day) + tariffs.reach_ms()
}

/// Those times by UTC days: each day, and the first and the last of its milliseconds that are among them.
fn buckets(tariffs: &Tariffs, day: ServiceDay) -> impl Iterator<Item = (i64, i64, i64)> {
    let span = span(tariffs, day);
    let days = span.start.div_euclid(UTC_DAY_MS)..=(span.end - 1).div_euclid(UTC_DAY_MS);
    days.map(move |day| {
        let (first, last) = utc_day_ms(day);
        (day, first.max(span.start), last.min(span.end - 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clearing::testing::{World, at, day, key};
    use crate::store::db::query_made;
    use crate::store::shards::AFTER_ALL;
    use crate::store::testing::looked_into;
    use crate::testing::{Card, House};

    #[tokio::test]
    async fn a_token_with_too_many_taps_is_the_first_that_is_left() {
        let world = World::new(3, 0).await;
        world.taps(1, &[(0, 8, 0, "HB", 0), (1, 8, 1, "HB", 0), (2, 9, 0, "HB", 0)]).await;
        let mut keys = [key(0), key(1), key(2)];
        keys.sort_unstable();
        let first = async |cursor: &[u8]| {
            first_after(world.scratch.pool(), &world.clearing.tariffs, day(), cursor).await.unwrap()
        };
        assert_eq!(first(&[]).await.as_deref(), Some(keys[0].as_slice()));
        assert_eq!(first(keys[0].as_slice()).await.as_deref(), Some(keys[1].as_slice()));
        assert_eq!(first(keys[2].as_slice()).await, None);
    }

    #[tokio::test]
    async fn a_page_of_a_utc_day_is_read_from_the_partitions_of_its_times_alone() {
        let house = House::on_postgres().await;
        let mut gate = house.gate(1).await;
        house.ingest(&[Card::new(1).tap(0, 5).seal(&mut gate)]).await;
        crate::risk::run(&house.app).await.unwrap();
        let page =
            query_made(format!("EXPLAIN {PAGE}")).bind(day().number()).bind(&b""[..]).bind(&AFTER_ALL[..]);
        let page = page.bind(at(8, 0)).bind(at(32, 0) - 1).bind(100_i64);
        let both = ["token_taps_2026_11_23", "token_taps_2026_11_24"];
        assert_eq!(looked_into(page, &house.app.store).await, both);
    }

    #[tokio::test]
    async fn what_waits_for_risk_is_found_without_going_through_the_taps_of_the_day() {
        let world = World::on_postgres(2, 0).await;
        let taps: Vec<_> = (0..1_000).map(|n| ((n % 2) as u32, 8, n % 60, "HB", 0)).collect();
        world.taps(1, &taps).await;
        // Whatever the server knows of their number: by default it learns of it within minutes.
        world.tamper("ANALYZE taps").await;
        for text in [ARRIVED, PASSED] {
            let explain = query_made(format!("EXPLAIN {text}")).bind(at(32, 0)).bind(at(4, 0));
            let explain = explain.bind(&b""[..]).bind(&AFTER_ALL[..]);
            let plan: Vec<String> = explain.column(world.scratch.pool()).await.unwrap();
            let scans: Vec<&String> = plan.iter().filter(|line| line.contains(" Scan ")).collect();
            let of_taps = scans.iter().position(|scan| scan.contains(" using taps_pkey on taps t "));
            assert_eq!((scans.len(), of_taps), (2, Some(1)), "{plan:#?}");
            assert!(plan.iter().any(|line| line.contains("SubPlan")), "{plan:#?}");
        }
    }
}
