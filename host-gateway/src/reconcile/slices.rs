//! Time slices: what came in, what counts and what became of it, held stage to stage while the day goes on.
//!
//! A slice is a stretch of event time, a quarter of an hour by default. Taps are those of the slice; journeys are those that a
//! tap of the slice names; charges and postings are the journeys that a charge and the ledger carry, in number and sum, so
//! that the stages of a slice in order are the same. Before the day is closed there are taps alone. Intake marks the slices
//! of what comes ([`marks`](crate::intake::marks)), so that a late tap opens its slice again, and a slice is read by its index and no further.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wavepass_fares::{DayClock, Fen, ServiceDay};

use super::breaks::{Found, Scope, record_in};
use crate::clearing::ClearingError;
use crate::clearing::app::audit;
use crate::clearing::deleted::has_all_taps;
use crate::cli::App;
use crate::config::{Config, ConfigError};
use crate::intake::marks::MARK_MS;
use crate::store::db::{Conn, query};
use crate::store::sql;

/// Widths that divide an hour.
const WIDTHS: [u32; 6] = [5, 10, 15, 20, 30, 60];
/// Marks looked at in one round, the oldest first: more than a month in which every slice disagrees.
const MOST_MARKS: i64 = 10_000;
/// The longest passback window that a tariff may have: taps of one rider at one station within it are one.
const SAME_TAP_MS: i64 = wavepass_fares::tariff::MAX_PASSBACK_SECONDS as i64 * 1_000;

/// Kinds of breaks.
const KINDS: [&str; 5] =
    ["slice_entries", "slice_unchecked", "slice_journeys", "slice_charges", "slice_postings"];
/// Why one that is gone ends.
const GONE: &str = "the stages of the slice agree now";

/// `[reconcile]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Section {
    slice_minutes: u32,
}

impl Default for Section {
    fn default() -> Self {
        Self { slice_minutes: 15 }
    }
}

/// How long a slice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Width(i64);

impl Width {
    /// Reads `[reconcile]`.
    pub fn of(config: &Config) -> Result<Self, ConfigError> {
        let Section { slice_minutes } = config.section("reconcile")?;
        if !WIDTHS.contains(&slice_minutes) {
            return Err(ConfigError::Value {
                name: "reconcile.slice_minutes",
                value: slice_minutes.to_string(),
                why: "one of 5, 10, 15, 20, 30 and 60".into(),
            });
        }
        Ok(Self(i64::from(slice_minutes) * 60_000))
    }
}

/// How many, and their sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct Stage {
    /// How many.
    pub count: i64,
    /// Their sum.
    #[schema(value_type = i64)]
    pub fen: Fen,
}

/// A slice, stage by stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Slice {
    /// When it begins, in the operator's time.
    pub from: String,
    /// Whether it has ended.
    pub over: bool,
    /// Taps that are here, refusals too.
    pub taps: i64,
    /// Those that opened.
    pub opened: i64,
    /// Those that count.
    pub counted: i64,
    /// Journeys that a tap of the slice names, and what they are charged; absent until the day is closed.
    pub journeys: Option<Stage>,
    /// Those of them whose token's fares are the sum of its journeys; what was given back of a journey may stay in them.
    pub charges: Option<Stage>,
    /// Those of them whose token's charges are posted.
    pub postings: Option<Stage>,
    /// Where stages disagree: kind, and how often.
    #[schema(value_type = std::collections::BTreeMap<String, i64>)]
    pub differences: BTreeMap<&'static str, i64>,
}

/// The slices of a day in which there are taps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Slices {
    /// The day.
    #[schema(value_type = String)]
    pub service_day: ServiceDay,
    /// How long a slice is.
    pub slice_minutes: i64,
    /// Whether the day is closed.
    pub closed: bool,
    /// In order of time.
    pub slices: Vec<Slice>,
}

/// A slice's place in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    from_ms: i64,
    until_ms: i64,
    day: ServiceDay,
}

impl Span {
    /// The slice of an instant; none outside the calendar.
    fn of(clock: &DayClock, width: Width, time_ms: i64) -> Option<Self> {
        let day = clock.day_of(time_ms).ok()?;
        let start = clock.start_ms(day);
        let from_ms = start + (time_ms - start).div_euclid(width.0) * width.0;
        Some(Self { from_ms, until_ms: (from_ms + width.0).min(clock.end_ms(day)), day })
    }
}

/// Holds every slice of a day that has begun; a day whose taps are deleted is refused.
pub async fn day(app: &App, user: &str, day: ServiceDay) -> Result<Slices, ClearingError> {
    let now_ms = sql::ms(app.now()?);
    has_all_taps(app, day).await?;
    let width = Width::of(&app.config)
        .map_err(|e| ClearingError::Outside { what: "configuration", source: e.into() })?;
    let clock = app.config.day_clock();
    let (start, end) = (clock.start_ms(day), clock.end_ms(day));
    let closed = is_closed(app, day).await?;
    let mut slices = Vec::new();
    let mut from_ms = start;
    while from_ms < end.min(now_ms) {
        let span = Span { from_ms, until_ms: (from_ms + width.0).min(end), day };
        let slice = hold(app, span, closed, now_ms).await?;
        if slice.over && slice.taps > 0 {
            record(app, span, &slice, start, now_ms).await?;
        }
        slices.extend((slice.taps > 0).then_some(slice));
        from_ms = span.until_ms;
    }
    let differences: i64 = slices.iter().flat_map(|slice| slice.differences.values()).sum();
    audit(app, user, "day.slices", day, &format!("{} slices, {differences} differences", slices.len()))
        .await?;
    Ok(Slices { service_day: day, slice_minutes: width.0 / 60_000, closed, slices })
}

/// Holds the slices that have ended and in which something came since they were held last.
pub(crate) async fn held(app: &App, width: Width) -> Result<(), ClearingError> {
    let now_ms = sql::ms(app.now()?);
    let clock = app.config.day_clock();
    let marks: Vec<i64> =
        query("SELECT DISTINCT start_ms FROM open_slices WHERE start_ms < ? ORDER BY start_ms LIMIT ?")
            .bind(now_ms - MARK_MS)
            .bind(MOST_MARKS)
            .column(app.store.pool())
            .await?;
    let mut spans = BTreeSet::new();
    for mark in marks {
        // A day that begins at an odd minute has slices that begin within a mark.
        let (first, last) = (Span::of(clock, width, mark), Span::of(clock, width, mark + MARK_MS - 1));
        if last.is_some_and(|span| span.until_ms <= now_ms) {
            spans.extend([first, last].into_iter().flatten());
        }
    }
    for span in spans {
        let closed = is_closed(app, span.day).await?;
        let slice = hold(app, span, closed, now_ms).await?;
        record(app, span, &slice, i64::MIN, now_ms).await?;
    }
    Ok(())
}

async fn is_closed(app: &App, day: ServiceDay) -> Result<bool, ClearingError> {
    let sealed: i64 = query("SELECT count(*) FROM batches WHERE service_day = ?")
        .bind(day.number())
        .scalar(app.store.pool())
        .await?;
    Ok(sealed > 0)
}

/// Reads a slice.
async fn hold(app: &App, span: Span, closed: bool, now_ms: i64) -> Result<Slice, ClearingError> {
    let mut snapshot = app.store.pool().begin().await?;
    let taps = query(
        "SELECT count(*), CAST(COALESCE(SUM(t.opened), 0) AS BIGINT), CAST(COALESCE(SUM(t.counted), 0) AS BIGINT), \
         CAST(COALESCE(SUM(CASE WHEN EXISTS (SELECT 1 FROM entries AS e WHERE e.key_id = t.key_id \
         AND e.sequence = t.sequence) THEN 0 ELSE 1 END), 0) AS BIGINT), \
         CAST(COALESCE(SUM(CASE WHEN t.opened = 1 AND t.token_key IS NOT NULL AND NOT EXISTS (SELECT 1 FROM token_taps AS i \
         WHERE i.utc_day = t.time_ms / 86400000 AND i.token_key = t.token_key AND i.time_ms = t.time_ms \
         AND i.key_id = t.key_id AND i.sequence = t.sequence AND i.withheld = t.withheld AND COALESCE(i.passage, -1) \
         = COALESCE(t.passage, -1)) THEN 1 ELSE 0 END), 0) AS BIGINT) \
         FROM taps AS t INDEXED BY taps_time WHERE t.time_ms >= ? AND t.time_ms < ?",
    )
    .bind(span.from_ms)
    .bind(span.until_ms)
    .fetch_one(&mut *snapshot)
    .await?;
    let mut slice = Slice {
        from: app.config.day_clock().rfc3339(span.from_ms),
        over: span.until_ms <= now_ms,
        taps: taps.try_get(0)?,
        opened: taps.try_get(1)?,
        counted: taps.try_get(2)?,
        journeys: None,
        charges: None,
        postings: None,
        differences: BTreeMap::new(),
    };
    let mut differs = vec![("slice_entries", taps.try_get::<i64>(3)?), ("slice_unchecked", taps.try_get(4)?)];
    if closed && slice.counted > 0 {
        differs.push(("slice_journeys", astray_in(&mut snapshot, span).await?));
        let [journeys, charges, postings] = carried_in(&mut snapshot, span).await?;
        differs.push(("slice_charges", journeys.count - charges.count));
        differs.push(("slice_postings", charges.count - postings.count));
        (slice.journeys, slice.charges, slice.postings) = (Some(journeys), Some(charges), Some(postings));
    }
    slice.differences = differs.into_iter().filter(|(_, count)| *count != 0).collect();
    Ok(slice)
}

/// Taps of a slice that count and are in no journey, nor the same tap as one that is; and those behind which nobody passed, and
/// that are in one: that became known after the close.
async fn astray_in(conn: &mut Conn, span: Span) -> Result<i64, ClearingError> {
    let astray = query(
        "SELECT count(*) FROM taps AS t INDEXED BY taps_time WHERE t.time_ms >= ? AND t.time_ms < ? AND t.counted = 1 \
         AND CASE COALESCE(t.passage, 2) WHEN 0 THEN EXISTS (SELECT 1 FROM journeys AS j WHERE j.service_day IN (?, ?) \
         AND j.token_key = t.token_key AND j.superseded_by IS NULL AND ((j.first_key = t.key_id \
         AND j.first_sequence = t.sequence) OR (j.second_key = t.key_id AND j.second_sequence = t.sequence))) \
         ELSE NOT EXISTS (SELECT 1 FROM journeys AS j WHERE j.service_day IN (?, ?) \
         AND j.token_key = t.token_key AND j.superseded_by IS NULL AND ((j.first_key = t.key_id \
         AND j.first_sequence = t.sequence) OR (j.second_key = t.key_id AND j.second_sequence = t.sequence) \
         OR (j.from_station = t.station AND ABS(j.entered_ms - t.time_ms) <= ?) \
         OR (j.to_station = t.station AND ABS(j.left_ms - t.time_ms) <= ?))) END",
    );
    let mut astray = astray.bind(span.from_ms).bind(span.until_ms);
    for _ in 0..2 {
        astray = astray.bind(span.day.previous().number()).bind(span.day.number());
    }
    Ok(astray.bind(SAME_TAP_MS).bind(SAME_TAP_MS).scalar(conn).await?)
}

/// A slice's journeys, those of them that charges carry and those that the ledger carries: how many, and fen. A tap's journey is
/// looked up by a subquery: joined, PostgreSQL may read all journeys of the day for each slice. Sums of its token are reckoned
/// once, and not for each time they are named.
const CARRIED: &str = "WITH begun AS MATERIALIZED (SELECT t.token_key AS token_key, \
    (SELECT CAST(SUM(j.charged_fen) AS BIGINT) FROM journeys AS j WHERE j.service_day = ?3 AND j.token_key = t.token_key \
    AND j.first_key = t.key_id AND j.first_sequence = t.sequence AND j.superseded_by IS NULL) AS fen \
    FROM taps AS t INDEXED BY taps_time WHERE t.time_ms >= ?1 AND t.time_ms < ?2 AND t.counted = 1), \
    held AS MATERIALIZED (SELECT b.fen AS fen, \
    (SELECT COALESCE(SUM(c.amount_fen), 0) FROM charges AS c WHERE c.service_day = ?3 AND c.token_key = b.token_key \
    AND c.kind = 'fare') AS fares, \
    (SELECT COALESCE(SUM(j.charged_fen), 0) FROM journeys AS j WHERE j.service_day = ?3 AND j.token_key = b.token_key \
    AND j.superseded_by IS NULL) AS journeys, \
    (SELECT COALESCE(SUM(-c.amount_fen), 0) FROM charges AS c WHERE c.service_day = ?3 AND c.token_key = b.token_key \
    AND c.kind = 'refund') AS refunds, \
    (SELECT COALESCE(SUM(c.amount_fen), 0) FROM charges AS c WHERE c.service_day = ?3 AND c.token_key = b.token_key) \
    AS charges, \
    (SELECT COALESCE(SUM(p.amount_fen), 0) FROM ledger_postings AS p WHERE p.service_day = ?3 AND p.shard = b.token_key \
    AND p.account = 'fares') AS postings FROM begun AS b WHERE b.fen IS NOT NULL) \
    SELECT count(*), CAST(COALESCE(SUM(x.fen), 0) AS BIGINT), CAST(COALESCE(SUM(x.charged), 0) AS BIGINT), \
    CAST(COALESCE(SUM(x.fen * x.charged), 0) AS BIGINT), CAST(COALESCE(SUM(x.charged * x.posted), 0) AS BIGINT), \
    CAST(COALESCE(SUM(x.fen * x.charged * x.posted), 0) AS BIGINT) FROM (SELECT h.fen AS fen, \
    CASE WHEN h.fares - h.journeys BETWEEN 0 AND h.refunds THEN 1 ELSE 0 END AS charged, \
    CASE WHEN h.charges = -h.postings THEN 1 ELSE 0 END AS posted FROM held AS h) AS x";

/// Journeys of a slice; those of them that charges carry; those of them that the ledger carries.
async fn carried_in(conn: &mut Conn, span: Span) -> Result<[Stage; 3], ClearingError> {
    let row =
        query(CARRIED).bind(span.from_ms).bind(span.until_ms).bind(span.day.number()).fetch_one(conn).await?;
    let stage = |at: usize| -> Result<Stage, ClearingError> {
        Ok(Stage { count: row.try_get(at)?, fen: Fen(row.try_get(at + 1)?) })
    };
    Ok([stage(0)?, stage(2)?, stage(4)?])
}

/// Opens and ends the breaks of a slice, and where it agrees takes its marks away, those from an instant on, unless more came
/// meanwhile.
async fn record(
    app: &App,
    span: Span,
    slice: &Slice,
    from_ms: i64,
    now_ms: i64,
) -> Result<(), ClearingError> {
    let mut found = Found::default();
    for (&kind, count) in &slice.differences {
        let (taps, none) = (slice.counted, Stage::default());
        let (journeys, charges) = (slice.journeys.unwrap_or(none).count, slice.charges.unwrap_or(none).count);
        let detail = match kind {
            "slice_entries" => format!("{count} of {} taps without the entry they came in", slice.taps),
            "slice_unchecked" => {
                format!("{count} of {} opened taps that risk has not looked at", slice.opened)
            }
            "slice_journeys" => {
                format!("{count} of {taps} counted taps are in no journey, or in one although nobody passed")
            }
            "slice_charges" => format!("{count} of {journeys} journeys are not what their charges sum to"),
            _ => format!("{count} of {charges} charged journeys are not posted so"),
        };
        found.add(kind, &slice.from, detail);
    }
    let scope =
        Scope { day: span.day, kinds: &KINDS, subject: Some(&slice.from), gone: GONE, kept_ended: false };
    let mut tx = app.store.begin().await?;
    let taps: i64 =
        query("SELECT count(*) FROM taps AS t INDEXED BY taps_time WHERE t.time_ms >= ? AND t.time_ms < ?")
            .bind(span.from_ms)
            .bind(span.until_ms)
            .scalar(&mut *tx)
            .await?;
    // One that disagrees stays open: the next round looks whether it agrees by then.
    if taps == slice.taps && slice.differences.is_empty() {
        // A mark goes with the slice that it ends in: the one before has been held by then.
        query("DELETE FROM open_slices WHERE start_ms > ? AND start_ms <= ? AND start_ms >= ?")
            .bind(span.from_ms - MARK_MS)
            .bind(span.until_ms - MARK_MS)
            .bind(from_ms)
            .execute(&mut *tx)
            .await?;
    }
    record_in(&mut tx, &scope, found, now_ms).await?;
    tx.commit().await?;
    Ok(())
}

/// The slices as a person reads them.
pub(super) fn table(slices: &Slices) -> String {
    let mut out = format!(
        "{:<25} {:>8} {:>8} {:>8} {:>9} {:>11} {:>9} {:>9}  differences",
        "from", "taps", "opened", "counted", "journeys", "fen", "charges", "postings"
    );
    for slice in &slices.slices {
        let count = |stage: Option<Stage>| stage.map_or("-".to_owned(), |stage| stage.count.to_string());
        let differences: Vec<String> =
            slice.differences.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let differences = match (slice.over, differences.is_empty()) {
            (false, _) => "not over".to_owned(),
            (true, true) => "none".to_owned(),
            (true, false) => differences.join(", "),
        };
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "\n{:<25} {:>8} {:>8} {:>8} {:>9} {:>11} {:>9} {:>9}  {differences}",
            slice.from,
            slice.taps,
            slice.opened,
            slice.counted,
            count(slice.journeys),
            slice.journeys.map_or("-".to_owned(), |stage| stage.fen.0.to_string()),
            count(slice.charges),
            count(slice.postings)
        );
    }
    out
}

#[cfg(test)]
mod tests;
