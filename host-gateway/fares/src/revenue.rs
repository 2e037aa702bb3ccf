//! What another tariff would have made of the same taps: revenue by day, journeys that change, riders whom it moves
//! most.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::day::ServiceDay;
use crate::fen::{Fen, Overflow};
use crate::price::{Journey, Priced, TapId};
use crate::price_file::{PriceFileError, Text, price_rider, read_taps};
use crate::tariff::{Fault, Tariff, TariffError, Tariffs};

/// How many of the riders whom it moves most are told.
const MOVERS: usize = 10;

/// What one tariff charges, what another would, and the difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Change {
    /// By the old tariff.
    pub old_fen: Fen,
    /// By the new one.
    pub new_fen: Fen,
    /// New less old.
    pub change_fen: Fen,
}

impl Change {
    fn add(&mut self, old: Fen, new: Fen) -> Result<(), Overflow> {
        self.old_fen = self.old_fen.plus(old)?;
        self.new_fen = self.new_fen.plus(new)?;
        self.change_fen = self.new_fen.minus(self.old_fen)?;
        Ok(())
    }
}

/// A day's revenue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DayChange {
    /// The day.
    pub service_day: ServiceDay,
    /// Its revenue.
    #[serde(flatten)]
    pub change: Change,
}

/// A rider's charges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mover {
    /// The token, as the file names it.
    pub token: String,
    /// Its charges.
    #[serde(flatten)]
    pub change: Change,
}

/// What `tariff diff --json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The old tariff's version.
    pub old: String,
    /// The new tariff's.
    pub new: String,
    /// By day.
    pub days: Vec<DayChange>,
    /// All days together.
    pub total: Change,
    /// Journeys by either tariff: one that only one of them pairs so counts too.
    pub journeys: u64,
    /// Those that cost another amount, or are there by one tariff only.
    pub journeys_changed: u64,
    /// Riders whose charges change.
    pub tokens_changed: u64,
    /// The riders whose charges change most, at most ten.
    pub movers: Vec<Mover>,
}

/// Prices taps by two tariffs as if each had always been in force.
pub fn difference(old: Text<'_>, new: Text<'_>, taps: Text<'_>) -> Result<Difference, PriceFileError> {
    let old = always(old)?;
    let new = to_try(new, &old.1)?;
    let (old_riders, mut new_riders) = (read_taps(&old.1, taps)?, read_taps(&new.1, taps)?);
    let mut found = Comparison::default();
    for (token, rider) in old_riders {
        let Some(again) = new_riders.remove(&token) else { continue };
        let before = price_rider(&old.1, &token, rider)?;
        let after = price_rider(&new.1, &token, again)?;
        found.rider(token, &before, &after)?;
    }
    Ok(found.finish(old.0, new.0))
}

/// A tariff to be tried in the place of others, as if it had always been in force; its version, too. One of another
/// service day than theirs is refused.
pub fn to_try(text: Text<'_>, others: &Tariffs) -> Result<(String, Tariffs), TariffError> {
    let new = always(text)?;
    if others.clock() != new.1.clock() {
        let fault = Fault::OtherDay(new.0.clone());
        return Err(TariffError { file: new.0, line: None, fault });
    }
    Ok(new)
}

/// A tariff alone, in force from the first day that there is.
fn always(text: Text<'_>) -> Result<(String, Tariffs), TariffError> {
    let mut tariff = Tariff::parse(text.file, text.text)?;
    tariff.effective_from = ServiceDay::FIRST;
    Ok((tariff.version.clone(), tariff.compile()?))
}

/// A comparison on its way, rider by rider, in bounded memory.
#[derive(Debug, Default)]
pub struct Comparison {
    days: BTreeMap<ServiceDay, Change>,
    total: Change,
    journeys: u64,
    journeys_changed: u64,
    tokens_changed: u64,
    movers: Vec<Mover>,
}

impl Comparison {
    /// Takes one rider's charges by either tariff. Each rider comes once.
    pub fn rider(&mut self, token: String, before: &Priced, after: &Priced) -> Result<(), Overflow> {
        let mut change = Change::default();
        let old = before.days.iter().map(|day| (day.day, day.charge, Fen::ZERO));
        let new = after.days.iter().map(|day| (day.day, Fen::ZERO, day.charge));
        for (day, old, new) in old.chain(new) {
            self.days.entry(day).or_default().add(old, new)?;
            self.total.add(old, new)?;
            change.add(old, new)?;
        }
        let by_name = |priced: &Priced| -> BTreeMap<TapId, Journey> {
            priced.journeys.iter().map(|journey| (journey.first, *journey)).collect()
        };
        let (before, after) = (by_name(before), by_name(after));
        let names: BTreeSet<TapId> = before.keys().chain(after.keys()).copied().collect();
        for name in names {
            self.journeys += 1;
            let terms = |journeys: &BTreeMap<TapId, Journey>| {
                journeys.get(&name).map(|journey| (journey.charged, journey.status, journey.second))
            };
            self.journeys_changed += u64::from(terms(&before) != terms(&after));
        }
        if !change.change_fen.is_zero() {
            self.tokens_changed += 1;
            self.movers.push(Mover { token, change });
            if self.movers.len() >= 8 * MOVERS {
                self.keep_most();
            }
        }
        Ok(())
    }

    fn keep_most(&mut self) {
        let size = |mover: &Mover| Reverse(mover.change.change_fen.0.unsigned_abs());
        self.movers.sort_by(|a, b| size(a).cmp(&size(b)).then_with(|| a.token.cmp(&b.token)));
        self.movers.truncate(MOVERS);
    }

    /// What all riders together came to; `old` and `new` name the tariffs.
    pub fn finish(mut self, old: String, new: String) -> Difference {
        self.keep_most();
        let days = self.days.into_iter().map(|(service_day, change)| DayChange { service_day, change });
        Difference {
            old,
            new,
            days: days.collect(),
            total: self.total,
            journeys: self.journeys,
            journeys_changed: self.journeys_changed,
            tokens_changed: self.tokens_changed,
            movers: self.movers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CITY: &str = include_str!("../../tariffs/wavepass-city.toml");

    #[test]
    fn a_new_version_is_tried_on_a_past_day() {
        let tap = |token: &str, time: &str, station: &str, kind: &str| {
            format!(
                "{{\"token\":\"{token}\",\"time\":\"2026-11-{time}+08:00\",\"station\":\"{station}\",\"kind\":\"{kind}\"}}\n"
            )
        };
        let taps = [
            tap("a", "23T08:00:00", "HB", "entry"),
            tap("a", "23T08:30:00", "AP", "exit"),
            tap("b", "23T08:00:00", "HB", "entry"),
            tap("b", "23T08:10:00", "QS", "exit"),
            tap("b", "24T08:00:00", "HB", "entry"),
            tap("b", "24T11:00:00", "QS", "exit"),
        ]
        .concat();
        // It comes into force later, its base fare is dearer, and journeys may last two hours only.
        let new = CITY
            .replace("wavepass-city-1", "wavepass-city-2")
            .replace("2026-01-01", "2027-01-01")
            .replace("base_fen = 200", "base_fen = 300")
            .replace("maximum_journey_minutes = 240", "maximum_journey_minutes = 120");
        let text = |file, text| Text { file, text };
        let found = difference(text("old", CITY), text("new", &new), text("taps", &taps)).unwrap();
        let change = |old, new| Change { old_fen: Fen(old), new_fen: Fen(new), change_fen: Fen(new - old) };
        let day = |day: &str, change| DayChange { service_day: day.parse().unwrap(), change };
        assert_eq!(
            found.days,
            [day("2026-11-23", change(800, 1_000)), day("2026-11-24", change(200, 1_800))]
        );
        assert_eq!(found.total, change(1_000, 2_800));
        assert_eq!((found.journeys, found.journeys_changed, found.tokens_changed), (4, 4, 2));
        let movers = [("b", change(400, 2_100)), ("a", change(600, 700))];
        let movers = movers.map(|(token, change)| Mover { token: token.into(), change });
        assert_eq!(found.movers, movers);
        let same = difference(text("old", CITY), text("new", CITY), text("taps", &taps)).unwrap();
        assert_eq!((same.journeys_changed, same.tokens_changed, same.total.change_fen), (0, 0, Fen::ZERO));
    }

    #[test]
    fn tariffs_of_other_days_are_not_compared() {
        let new = CITY.replace("04:00", "03:00");
        let text = |file, text| Text { file, text };
        let refused = difference(text("old", CITY), text("new", &new), text("taps", "")).unwrap_err();
        assert!(refused.to_string().contains("start of the service day"), "{refused}");
    }
}
