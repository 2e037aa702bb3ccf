//! Between which taps of a token there can have been no ride: the same way in or out at two gates at once, and stations farther
//! apart than the time between the taps.
//!
//! How far stations are apart is what the tariff in force says: metres of the shortest way over its lines, walks included. Where
//! it gives none, nothing is said.

use super::RiskError;
use super::rules::{AlertKind, Finding, Seen, Tolerance};
use crate::store::StoreError;
use crate::store::db::{Conn, query};
use std::collections::{BTreeSet, HashMap};
use wavepass_fares::{ServiceDay, Tariff};
use wavepass_protocol::tap::Outcome;

/// How many earlier taps of a token a tap is held against: more than anybody makes within a ride.
const LOOK_BACK: usize = 256;
/// No ride takes longer, whatever distances a tariff has.
const LONGEST_MS: i64 = 6 * 3_600_000;

/// A station as it is remembered and compared: a hash of its code. Of the stations of a city, hardly ever do two share one.
pub(super) fn place(station: &str) -> u64 {
    fnv(station.bytes())
}

/// FNV-1a.
pub(super) fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

/// What the tariff in force says of the times between taps.
#[derive(Debug, Default)]
pub(super) struct Ways {
    /// From which service day the tariff is in force; none where there is no tariff.
    from: Option<i64>,
    /// Within this the same station again, the same way, is one tap of one rider.
    passback_ms: i64,
    stations: HashMap<u64, usize>,
    /// The shortest times between stations, row by row.
    least_ms: Vec<u32>,
    /// How far apart two taps can be of which anything is said.
    window_ms: i64,
}

/// A tap as these rules see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    pub(super) time_ms: i64,
    pub(super) place: u64,
    pub(super) direction: u8,
}

impl At {
    /// Of a tap that tells where its card was, and when.
    pub(super) fn of(tap: &Seen) -> Option<Self> {
        let rest = tap.rest.as_ref()?;
        let tells = tap.clock != 0 && !tap.is_refuted();
        tells.then(|| Self { time_ms: tap.time_ms, place: place(&rest.station), direction: rest.direction })
    }
}

impl Ways {
    /// Of the tariff in force on a day, where it is another than the one of these; rides are at most so fast.
    pub(super) async fn in_force_in(
        &self,
        conn: &mut Conn,
        day: ServiceDay,
        kmh: u32,
    ) -> Result<Option<Self>, RiskError> {
        let text = "SELECT effective_from FROM tariffs WHERE effective_from <= ? ORDER BY effective_from DESC LIMIT 1";
        let from: Option<i64> = query(text).bind(day.number()).optional(&mut *conn).await?;
        // A tariff that is in force never changes.
        if from == self.from {
            return Ok(None);
        }
        let Some(number) = from else { return Ok(Some(Self::default())) };
        let text = "SELECT version, text FROM tariffs WHERE effective_from = ?";
        let (version, text): (String, String) = query(text).bind(number).row(&mut *conn).await?;
        // The shortest ways of a large network take a while.
        let read =
            tokio::task::spawn_blocking(move || Tariff::parse(&version, &text).map(|t| Self::of(&t, kmh)));
        let ways = read.await.map_err(|_| RiskError::Worker)?;
        let ways = ways.map_err(|error| {
            tracing::error!(%error, "a published tariff");
            StoreError::Damaged { what: "tariff" }
        })?;
        Ok(Some(Self { from, ..ways }))
    }

    /// By a tariff, with rides that are at most so fast; 0: however fast.
    fn of(tariff: &Tariff, kmh: u32) -> Self {
        let n = if kmh == 0 { 0 } else { tariff.stations.len() };
        let stations: HashMap<u64, usize> = tariff.stations[..n]
            .iter()
            .enumerate()
            .map(|(i, station)| (place(station.code.as_str()), i))
            .collect();
        let least_ms = |metres: &u32| match *metres {
            u32::MAX => 0,
            metres => (i64::from(metres) * 3_600 / i64::from(kmh)).min(LONGEST_MS) as u32,
        };
        let least_ms: Vec<u32> =
            (0..n).flat_map(|from| tariff.distances_m(from).iter().map(least_ms)).collect();
        let longest = least_ms.iter().max().map_or(0, |ms| i64::from(*ms));
        Self {
            from: None,
            passback_ms: tariff.passback_ms,
            stations,
            least_ms,
            window_ms: longest.max(tariff.passback_ms),
        }
    }

    /// How far apart two taps can be of which anything is said, ms.
    pub(super) const fn window_ms(&self) -> i64 {
        self.window_ms
    }

    /// The shortest time between two stations; 0 where nothing is known of one, or no way leads.
    fn least_ms(&self, from: u64, to: u64) -> i64 {
        let way = self.stations.get(&from).zip(self.stations.get(&to));
        way.map_or(0, |(from, to)| i64::from(self.least_ms[from * self.stations.len() + to]))
    }

    fn is_passback(&self, earlier: At, later: At) -> bool {
        earlier.place == later.place
            && earlier.direction == later.direction
            && later.time_ms - earlier.time_ms <= self.passback_ms
    }

    /// Whether these may be found to be no taps of one ride or two: so it is for every pair that [`judge`](Self::judge) finds.
    pub(super) fn may_rule_out(&self, earlier: At, later: At) -> bool {
        let apart = later.time_ms - earlier.time_ms;
        self.passback_ms > 0 && self.is_passback(earlier, later)
            || apart < self.least_ms(earlier.place, later.place)
    }

    /// Judges the taps of one token, in the order of events. One alert of a kind for each service day and station, so that it
    /// is the same one whichever pair is found first.
    pub(super) fn judge(&self, taps: &[&Seen], tolerance: Tolerance, findings: &mut Vec<Finding>) {
        let told: Vec<(&Seen, At)> =
            taps.iter().filter(|tap| tap.near).filter_map(|tap| Some((*tap, At::of(tap)?))).collect();
        let mut found: BTreeSet<(AlertKind, String)> = BTreeSet::new();
        for (i, (tap, at)) in told.iter().enumerate() {
            let day = tap.service_day.map_or_else(|| "?".into(), |day| day.to_string());
            for (earlier, before) in told[i.saturating_sub(LOOK_BACK)..i].iter().rev() {
                if at.time_ms - before.time_ms > self.window_ms {
                    break;
                }
                let same_answer = tap.used().is_some() && tap.used() == earlier.used();
                if same_answer || !self.may_rule_out(*before, *at) {
                    continue;
                }
                let off = tap.tolerance_ms(tolerance).zip(earlier.tolerance_ms(tolerance));
                let found_now = match self.is_passback(*before, *at) {
                    true => passed_twice(earlier, tap).then(|| {
                        let station = tap.rest.as_ref().map_or("", |rest| &rest.station);
                        (
                            AlertKind::Passback,
                            format!(
                                "let through twice the same way at {station} on service day number {day}"
                            ),
                        )
                    }),
                    false => off
                        .is_some_and(|(a, b)| {
                            at.time_ms - before.time_ms + a + b < self.least_ms(before.place, at.place)
                        })
                        .then(|| {
                            (
                                AlertKind::ImpossibleTravel,
                                format!(
                                    "stations too far apart for the time between on service day number {day}"
                                ),
                            )
                        }),
                };
                if let Some((kind, detail)) = found_now
                    && found.insert((kind, detail.clone()))
                {
                    findings.push(Finding::of(kind, tap, detail));
                }
            }
        }
    }

    /// What there is of kind `passback` among the taps of one token, in whatever order they are given.
    pub(super) fn passbacks(&self, taps: &[Seen], tolerance: Tolerance) -> Vec<Finding> {
        let mut taps: Vec<&Seen> = taps.iter().collect();
        taps.sort_unstable_by_key(|tap| tap.order());
        let mut findings = Vec::new();
        self.judge(&taps, tolerance, &mut findings);
        findings.retain(|finding| finding.kind == AlertKind::Passback);
        findings
    }
}

/// Two gates, and at neither of them did the barrier see nobody go.
fn passed_twice(earlier: &Seen, later: &Seen) -> bool {
    let went =
        |tap: &Seen| tap.rest.as_ref().is_some_and(|rest| rest.passage != Some(Outcome::NotPassed as u8));
    earlier.key_id != later.key_id && went(earlier) && went(later)
}

#[cfg(test)]
mod tests;
