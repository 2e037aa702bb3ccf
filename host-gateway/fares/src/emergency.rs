//! When emergencies held barriers open: what the gates' inputs told, as periods.
//!
//! An emergency anywhere forgives missing taps everywhere, because riders who are led out of one station, or past it,
//! leave by another one or not at all. So the periods of all gates are one list.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use crate::day::DayClock;
use crate::price::TapId;

/// A gate's emergency input went on or off, at a time that can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Switch {
    /// Which journal entry told so.
    pub id: TapId,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub time_ms: i64,
    /// On, or off.
    pub active: bool,
}

/// Times of emergency, half-open, in milliseconds since 1970-01-01 UTC: sorted, apart from each other, none empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Periods(Vec<Range<i64>>);

impl Periods {
    /// No emergency.
    pub const NONE: Self = Self(Vec::new());

    /// The periods that some ranges cover together.
    pub fn new(mut ranges: Vec<Range<i64>>) -> Self {
        ranges.retain(|range| !range.is_empty());
        ranges.sort_unstable_by_key(|range| (range.start, range.end));
        let mut periods: Vec<Range<i64>> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match periods.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => periods.push(range),
            }
        }
        Self(periods)
    }

    /// The periods that gates told of, in any order. One whose end was not told lasts until the close of the service
    /// day it began on: an input that hangs, or a gate that is gone, does not forgive for ever. An end without a
    /// beginning, and a time outside the calendar, make no period.
    pub fn of_switches(clock: &DayClock, switches: &[Switch]) -> Self {
        let mut gates: BTreeMap<[u8; 8], Vec<Switch>> = BTreeMap::new();
        for &switch in switches {
            gates.entry(switch.id.key).or_default().push(switch);
        }
        let mut ranges = Vec::new();
        for mut switches in gates.into_values() {
            switches.sort_unstable_by_key(|switch| switch.id.sequence);
            switches.dedup_by_key(|switch| switch.id.sequence);
            for (i, on) in switches.iter().enumerate().filter(|(_, switch)| switch.active) {
                let Ok(day) = clock.day_of(on.time_ms) else { continue };
                let end = match switches.get(i + 1) {
                    Some(off) if !off.active => off.time_ms,
                    _ => clock.end_ms(day),
                };
                ranges.push(on.time_ms..end);
            }
        }
        Self::new(ranges)
    }

    /// True if any instant of `window` lies in a period.
    pub(crate) fn meet(&self, window: &RangeInclusive<i64>) -> bool {
        // The first period that is not over when the window begins: those before it end too early.
        let first = self.0.partition_point(|period| period.end <= *window.start());
        self.0.get(first).is_some_and(|period| period.start <= *window.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;

    /// 2026-11-23 04:00 in Hangzhou: the start of the service day.
    const START: i64 = 1_795_377_600_000;
    const HOUR: i64 = 3_600_000;

    fn clock() -> DayClock {
        DayClock::new(TimeZone::get("Asia/Shanghai").unwrap(), jiff::civil::time(4, 0, 0, 0))
    }

    fn switch(gate: u8, sequence: u32, hours: i64, active: bool) -> Switch {
        Switch { id: TapId { key: [gate; 8], sequence }, time_ms: START + hours * HOUR, active }
    }

    fn hours(periods: &Periods) -> Vec<(i64, i64)> {
        periods.0.iter().map(|p| ((p.start - START) / HOUR, (p.end - START) / HOUR)).collect()
    }

    #[test]
    fn on_and_off_of_each_gate_make_its_periods_and_all_of_them_one_list() {
        let switches = [
            switch(2, 8, 4, false),
            switch(1, 5, 1, true),
            switch(1, 9, 3, false),
            switch(2, 7, 2, true),
            switch(1, 10, 6, true),
            switch(1, 11, 7, false),
            switch(2, 7, 2, true),
        ];
        assert_eq!(hours(&Periods::of_switches(&clock(), &switches)), [(1, 4), (6, 7)]);
    }

    #[test]
    fn a_period_whose_end_is_not_told_lasts_until_its_service_day_s_close() {
        let of = |switches: &[Switch]| hours(&Periods::of_switches(&clock(), switches));
        assert_eq!(of(&[switch(1, 5, 20, true)]), [(20, 24)]);
        assert_eq!(of(&[switch(1, 5, 20, true), switch(1, 9, 30, false)]), [(20, 30)], "a told end counts");
        assert_eq!(of(&[switch(1, 5, 2, true), switch(1, 9, 26, true)]), [(2, 24), (26, 48)]);
        assert_eq!(of(&[switch(1, 5, 2, false)]), [], "an end without a beginning");
        assert_eq!(of(&[switch(1, 5, 5, true), switch(1, 9, 4, false)]), [], "a clock set back");
        let nowhere = Switch { time_ms: i64::MAX, ..switch(1, 5, 0, true) };
        assert_eq!(of(&[nowhere]), []);
    }

    #[test]
    fn a_window_meets_a_period_in_any_instant_but_its_end() {
        let periods = Periods::new(vec![40..50, 10..20, 20..20, 15..25]);
        let meets: Vec<i64> = (0..60).filter(|&at| periods.meet(&(at..=at))).collect();
        assert_eq!(meets, (10..25).chain(40..50).collect::<Vec<_>>());
        assert!(periods.meet(&(0..=10)) && !periods.meet(&(0..=9)));
        assert!(periods.meet(&(30..=45)) && !periods.meet(&(25..=39)) && !periods.meet(&(50..=99)));
        assert!(!Periods::NONE.meet(&(i64::MIN..=i64::MAX)));
    }
}
