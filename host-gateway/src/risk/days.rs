//! The days by which taps beside their tokens are apart. On PostgreSQL `token_taps` has a partition for each service day, which
//! goes as a whole when the day is deleted; SQLite keeps one table, and of all this looks up days alone.
//!
//! Partitions follow the gateway's clock and never that of a tap, so that no clock of a gate makes any. A tap of a day without
//! one is in `token_taps_rest`, where everything finds it as well; a day of which taps are there stays there for good, since to
//! move them would hold up all writers for a time that nothing bounds. What an older store had is in `token_taps_before`.
//!
//! To make or drop a partition needs the table for itself. A copy by `pg_dump` has hold of it for long, and whoever comes
//! after must not queue behind us: it is waited for shortly, and done without.

use super::RiskError;
use crate::cli::App;
use crate::intake::forgotten::last_deleted_day_in;
use crate::keys::TokenKey;
use crate::store::db::{Conn, query, query_made, read_many};
use crate::store::sql::{UTC_DAY_MS, ms, utc_day_ms};
use crate::store::{Store, StoreError};
use std::collections::BTreeSet;
use wavepass_fares::{DayClock, ServiceDay};

/// How many days before today have a partition from the start: gates that were cut off for some days bring taps of them.
const BACK: i64 = 7;
/// How many days after today have one: so long may whatever has hold of the table be in the way, and so far may a gate's clock
/// be ahead.
const AHEAD: i64 = 2;
/// How much there may be.
#[derive(Clone, Copy)]
struct Bounds {
    /// Partitions. A statement that goes by rows of several days opens every one of them, and holds a lock for each and for its
    /// index: of PostgreSQL's default of 6,400 at a time, two gateways at work leave some.
    partitions: usize,
    /// Bytes of the rest, which PostgreSQL reads through whenever a partition is made, while everybody waits. Where more than
    /// some hundred thousand taps are there, new days are, too.
    rest: i64,
}

const BOUNDS: Bounds = Bounds { partitions: 200, rest: 64 << 20 };
/// How long everybody may wait for a partition to be made or dropped.
const TURN: &str = "SET LOCAL lock_timeout = '500ms'";
/// What PostgreSQL says when that was not enough.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// A partition: from when on, and up to before when.
struct Partition {
    name: String,
    /// `None`: from ever.
    from_ms: Option<i64>,
    /// `None`: with `from_ms`, for ever; else it is what no other has.
    upto_ms: Option<i64>,
}

impl Partition {
    /// Of its bounds as PostgreSQL tells them: `FOR VALUES FROM ('1') TO ('2')`, `MINVALUE` in place of a number, or `DEFAULT`.
    fn of((name, bounds): (String, String)) -> Self {
        let mut bounds = bounds.split(['(', ')']).skip(1).step_by(2);
        let mut next = || bounds.next().and_then(|bound| bound.trim_matches('\'').parse().ok());
        Self { name, from_ms: next(), upto_ms: next() }
    }

    fn overlaps(&self, span: &Span) -> bool {
        self.upto_ms
            .is_some_and(|upto| upto > span.from_ms && self.from_ms.is_none_or(|from| from < span.upto_ms))
    }
}

/// The times of a service day.
struct Span {
    day: ServiceDay,
    from_ms: i64,
    upto_ms: i64,
}

impl Span {
    fn of(clock: &DayClock, day: ServiceDay) -> Self {
        Self { day, from_ms: clock.start_ms(day), upto_ms: clock.end_ms(day) }
    }
}

/// In the order of times, what is older and the rest last.
async fn partitions_in(conn: &mut Conn) -> Result<Vec<Partition>, StoreError> {
    let text = "SELECT CAST(c.relname AS TEXT), pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits AS i \
                CROSS JOIN pg_class AS c WHERE i.inhparent = CAST('token_taps' AS regclass) AND c.oid = i.inhrelid \
                ORDER BY c.relname";
    Ok(query(text).rows(conn).await?.into_iter().map(Partition::of).collect())
}

/// Makes the partitions of the days around today, where there are none: once a day, `ready` being the day for which it was done.
pub(super) async fn make_ready(app: &App, ready: &mut Option<ServiceDay>) -> Result<(), RiskError> {
    let clock = app.config.day_clock();
    // Of a clock that was never told the time, or is outside the calendar, no day is near.
    let today = app.now().ok().and_then(|now| clock.day_of(ms(now)).ok());
    let Some(today) = today.filter(|today| app.store.is_shared() && *ready != Some(*today)) else {
        return Ok(());
    };
    let near: Vec<Span> = (-BACK..=AHEAD).map(|days| Span::of(clock, today.plus(days))).collect();
    let mut conn = app.store.pool().acquire().await?;
    let missing = missing_in(&mut conn, near, BOUNDS).await?;
    drop(conn);
    *ready = match missing.is_empty() || make(&app.store, missing).await? {
        true => Some(today),
        false => None,
    };
    Ok(())
}

/// Those days that are to have a partition and have none.
async fn missing_in(conn: &mut Conn, mut days: Vec<Span>, bounds: Bounds) -> Result<Vec<Span>, StoreError> {
    let there = partitions_in(conn).await?;
    let rest = query("SELECT pg_relation_size(CAST('token_taps_rest' AS regclass))");
    if rest.scalar::<i64>(&mut *conn).await? > bounds.rest {
        return Ok(Vec::new());
    }
    let deleted = last_deleted_day_in(conn).await?;
    days.retain(|span| {
        deleted.is_none_or(|last| span.day.number() > last) && !there.iter().any(|other| other.overlaps(span))
    });
    days.truncate(bounds.partitions.saturating_sub(there.len()));
    let text = "SELECT v.column1 FROM (VALUES ??) AS v WHERE EXISTS (SELECT 1 FROM token_taps_rest AS r \
                WHERE r.utc_day BETWEEN v.column4 AND v.column5 AND r.time_ms >= v.column2 AND r.time_ms < v.column3)";
    let rows = days.iter().map(|Span { day, from_ms, upto_ms }| {
        let utc_days = (from_ms.div_euclid(UTC_DAY_MS), (upto_ms - 1).div_euclid(UTC_DAY_MS));
        (day.number(), *from_ms, *upto_ms, utc_days.0, utc_days.1)
    });
    let mut begun = BTreeSet::new();
    for row in read_many(conn, text, rows).await? {
        begun.insert(row.try_get::<i64>(0)?);
    }
    days.retain(|span| !begun.contains(&span.day.number()));
    Ok(days)
}

/// Makes the partitions of some days; false where the table could not be had for it.
async fn make(store: &Store, days: Vec<Span>) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    // Another gateway may have been at it.
    let days = missing_in(&mut tx, days, BOUNDS).await?;
    query(TURN).execute(&mut *tx).await?;
    for Span { day, from_ms, upto_ms } in days {
        let name = day.to_string().replace('-', "_");
        let text = format!(
            "CREATE TABLE token_taps_{name} PARTITION OF token_taps FOR VALUES FROM ({from_ms}) TO ({upto_ms})"
        );
        if !had(query_made(text).execute(&mut *tx).await)? {
            tracing::warn!(%day, "the table of taps is in use: its partitions are made later");
            return Ok(false);
        }
    }
    tx.commit().await?;
    Ok(true)
}

/// Drops the partition of a day that is deleted, and empty ones of days before it; what cannot be had for it stays, and is
/// deleted row by row.
pub(crate) async fn drop_day(store: &Store, clock: &DayClock, day: ServiceDay) -> Result<(), StoreError> {
    if !store.is_shared() {
        return Ok(());
    }
    let of = Span::of(clock, day);
    let mut tx = store.begin().await?;
    let mut gone = Vec::new();
    for Partition { name, from_ms, upto_ms } in partitions_in(&mut tx).await? {
        if upto_ms.is_none_or(|upto| upto > of.upto_ms) {
            continue;
        }
        let is_own = from_ms.is_some_and(|from| from >= of.from_ms);
        let any = query_made(format!("SELECT 1 FROM {name} LIMIT 1"));
        if is_own || any.fetch_optional(&mut *tx).await?.is_none() {
            gone.push(name);
        }
    }
    if gone.is_empty() {
        return Ok(());
    }
    query(TURN).execute(&mut *tx).await?;
    if had(query_made(format!("DROP TABLE {}", gone.join(", "))).execute(&mut *tx).await)? {
        tx.commit().await?;
    } else {
        tracing::warn!(%day, "the table of taps is in use: the day is deleted row by row");
    }
    Ok(())
}

/// Whether a statement had what it waited for in time.
fn had(done: Result<u64, sqlx::Error>) -> Result<bool, StoreError> {
    match done {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(LOCK_NOT_AVAILABLE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// From day to day by the primary key, not through every tap.
macro_rules! days_of {
    ($table:expr) => {
        concat!(
            "WITH RECURSIVE days (day) AS (SELECT min(utc_day) FROM ",
            $table,
            " UNION ALL SELECT (SELECT min(t.utc_day) FROM ",
            $table,
            " AS t WHERE t.utc_day > days.day) FROM days WHERE days.day IS NOT NULL) SELECT day FROM days \
             WHERE day IS NOT NULL"
        )
    };
}

/// The UTC days on which any token has opened taps that risk has looked at, and perhaps others.
pub(crate) async fn tapped_utc_days_in(conn: &mut Conn) -> Result<Vec<i64>, StoreError> {
    if !conn.is_postgres() {
        return Ok(query(days_of!("token_taps")).column(conn).await?);
    }
    let mut days: BTreeSet<i64> = BTreeSet::new();
    for partition in partitions_in(conn).await? {
        match (partition.from_ms, partition.upto_ms) {
            (Some(from), Some(upto)) => {
                days.extend(from.div_euclid(UTC_DAY_MS)..=(upto - 1).div_euclid(UTC_DAY_MS));
            }
            (None, Some(_)) => {
                days.extend(query(days_of!("token_taps_before")).column::<i64>(&mut *conn).await?)
            }
            _ => days.extend(query(days_of!("token_taps_rest")).column::<i64>(&mut *conn).await?),
        }
    }
    Ok(days.into_iter().collect())
}

/// Every token on every one of these UTC days, with the day's first and last millisecond: how a token's opened taps are found.
pub(crate) fn on_days<'a>(
    days: &'a [i64],
    tokens: &'a [TokenKey],
) -> impl Iterator<Item = (i64, &'a [u8], i64, i64)> + Clone {
    days.iter().flat_map(move |day| {
        let (first, last) = utc_day_ms(*day);
        tokens.iter().map(move |token| (*day, token.as_slice(), first, last))
    })
}

#[cfg(test)]
mod tests;
