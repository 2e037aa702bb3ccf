//! The taps of tokens of which something came that may contradict them: a counter that was used, or one that runs against time.

use super::RiskError;
use super::arrivals::{Stations, seen};
use super::atcs::Atcs;
use super::days::tapped_utc_days_in;
use super::rules::Seen;
use crate::keys::TokenKey;
use crate::store::db::{Conn, read_many};
use crate::store::sql::{UTC_DAY_MS, utc_day_ms};
use std::collections::{BTreeMap, BTreeSet};

/// Tokens whose taps are in memory at once: of some of them, all that they ever made.
const TOKENS: usize = 256;

/// A token that has to be looked at closely.
pub(super) struct Doubtful<'a> {
    pub(super) token: TokenKey,
    /// What came.
    pub(super) taps: &'a [Seen],
    /// One of its counters was used before, or may have been: all of the token's taps are looked through.
    pub(super) unsure: bool,
}

/// What is judged of a token.
pub(super) struct Around {
    pub(super) token: TokenKey,
    /// What came, what is near it, and whatever has the same ATC as one of these.
    pub(super) taps: Vec<Seen>,
    /// The ATCs of all the token's taps before, if all were read.
    pub(super) atcs: Option<Atcs>,
}

/// Reads what is judged of some tokens: their taps within so many milliseconds of what came, and those with the same ATC
/// at any distance.
pub(super) async fn around_in(
    conn: &mut Conn,
    doubtful: &[Doubtful<'_>],
    window_ms: i64,
) -> Result<Vec<Around>, RiskError> {
    if doubtful.is_empty() {
        return Ok(Vec::new());
    }
    let days = tapped_utc_days_in(conn).await?;
    let mut found = Vec::with_capacity(doubtful.len());
    for doubtful in doubtful.chunks(TOKENS) {
        let spans: Vec<(TokenKey, i64, i64)> = doubtful.iter().map(|d| span(d, window_ms)).collect();
        let mut near = read(conn, &days, &spans).await?;
        let through: Vec<(TokenKey, i64, i64)> = doubtful
            .iter()
            .filter(|d| d.unsure || near.get(&d.token).is_some_and(|t| t.iter().any(Seen::shares_its_atc)))
            .map(|d| (d.token, i64::MIN, i64::MAX))
            .collect();
        let mut all = read(conn, &days, &through).await?;
        for (d, (token, lo, hi)) in doubtful.iter().zip(spans) {
            let mut taps = near.remove(&token).unwrap_or_default();
            let is_through = through.iter().any(|(other, ..)| *other == token);
            let all = all.remove(&token).unwrap_or_default();
            let mut atcs = Atcs::default();
            for (atc, time_ms) in all.iter().filter_map(|tap| Some((tap.used()?, tap.time_ms))) {
                atcs.insert(atc, time_ms);
            }
            taps.extend(d.taps.iter().cloned());
            let used: BTreeSet<u16> = taps.iter().filter_map(|tap| tap.atc).collect();
            let far = all.into_iter().filter(|tap| tap.time_ms < lo || tap.time_ms > hi);
            let same = far.filter(|tap| tap.atc.is_some_and(|atc| used.contains(&atc)));
            taps.extend(same.map(|tap| Seen { near: false, rest: None, ..tap }));
            found.push(Around { token, taps, atcs: is_through.then_some(atcs) });
        }
    }
    Ok(found)
}

/// The times near what came of a token.
fn span(doubtful: &Doubtful<'_>, window_ms: i64) -> (TokenKey, i64, i64) {
    let first = doubtful.taps.first().map_or(0, |tap| tap.time_ms);
    let last = doubtful.taps.last().map_or(0, |tap| tap.time_ms);
    (doubtful.token, first.saturating_sub(window_ms), last.saturating_add(window_ms))
}

/// The taps of tokens on UTC days, from one time of each to another.
pub(super) const NEAR: &str = "SELECT t.key_id, t.sequence, t.token_key, t.time_ms, t.clock, t.service_day, t.atc, t.cryptogram, \
    t.card_digest, t.withheld, t.station, t.direction, t.passage FROM (VALUES ??) AS v CROSS JOIN token_taps AS t WHERE t.utc_day = v.column1 \
    AND t.token_key = v.column2 AND t.time_ms BETWEEN v.column3 AND v.column4";

/// Reads tokens' taps from one time to another, both included.
pub(super) async fn read(
    conn: &mut Conn,
    days: &[i64],
    spans: &[(TokenKey, i64, i64)],
) -> Result<BTreeMap<TokenKey, Vec<Seen>>, RiskError> {
    let rows = spans.iter().flat_map(|(token, lo, hi)| {
        let range = lo.div_euclid(UTC_DAY_MS)..=hi.div_euclid(UTC_DAY_MS);
        let days = days.iter().filter(move |day| range.contains(day));
        days.map(move |day| {
            let (first, last) = utc_day_ms(*day);
            (*day, token.as_slice(), first.max(*lo), last.min(*hi))
        })
    });
    let mut taps: BTreeMap<TokenKey, Vec<Seen>> = BTreeMap::new();
    let mut stations = Stations::default();
    for row in read_many(conn, NEAR, rows).await? {
        let seen = seen(&row, &mut stations)?;
        taps.entry(seen.token).or_default().push(seen);
    }
    Ok(taps)
}
