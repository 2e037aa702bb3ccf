//! The service day: the operator's working day, which begins in the small hours and not at midnight.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, Time, date};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A service day, counted in days from 1970-01-01. Written as an ISO 8601 date.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceDay(i32);

/// Why text or a number is not a service day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DayError {
    /// The text is not an ISO date.
    #[error("`{0}` is not a date like 2026-11-23")]
    NotADate(String),
    /// The number or instant lies outside the years 1900 to 2999.
    #[error("day {0} lies outside the years 1900 to 2999")]
    OutOfRange(i64),
}

/// The first and the last day we compute with: far inside what the calendar library can do, so that no sum overflows.
const FIRST: i32 = -25_567;
const LAST: i32 = 376_199;

impl ServiceDay {
    /// The first day of all.
    pub(crate) const FIRST: Self = Self(FIRST);

    /// The day that is so many days after 1970-01-01 (negative: before).
    pub fn from_number(days: i64) -> Result<Self, DayError> {
        match i32::try_from(days) {
            Ok(day) if (FIRST..=LAST).contains(&day) => Ok(Self(day)),
            _ => Err(DayError::OutOfRange(days)),
        }
    }

    /// Days since 1970-01-01, as stores keep it.
    pub const fn number(self) -> i64 {
        self.0 as i64
    }

    /// The calendar date on which the service day begins.
    pub fn date(self) -> Date {
        // FIRST..=LAST lies within the calendar's years -9999 to 9999, so the sum never saturates.
        date(1970, 1, 1).saturating_add(i64::from(self.0).days())
    }

    /// The day that begins on a date.
    pub fn from_date(date: Date) -> Result<Self, DayError> {
        let days = date.duration_since(jiff::civil::date(1970, 1, 1)).as_hours() / 24;
        Self::from_number(days)
    }

    /// The day so many days later (negative: earlier), within the years 1900 to 2999.
    pub fn plus(self, days: i64) -> Self {
        let number = self.number().saturating_add(days).clamp(i64::from(FIRST), i64::from(LAST));
        // Clamped to what 32 bits hold.
        Self(number as i32)
    }

    /// The next service day; the last day of all is its own.
    pub fn next(self) -> Self {
        Self((self.0 + 1).min(LAST))
    }

    /// The service day before; the first day of all is its own.
    pub fn previous(self) -> Self {
        Self((self.0 - 1).max(FIRST))
    }
}

impl fmt::Display for ServiceDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.date())
    }
}

impl fmt::Debug for ServiceDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceDay({self})")
    }
}

impl FromStr for ServiceDay {
    type Err = DayError;

    fn from_str(text: &str) -> Result<Self, DayError> {
        // Exactly yyyy-mm-dd: the calendar library alone would also take a date with a time behind it.
        let date = (text.len() == 10).then(|| text.parse::<Date>().ok()).flatten();
        Self::from_date(date.ok_or_else(|| DayError::NotADate(text.chars().take(40).collect()))?)
    }
}

impl Serialize for ServiceDay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ServiceDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Which service day an instant belongs to: a time zone, and the local time at which a day begins.
#[derive(Debug, Clone, PartialEq)]
pub struct DayClock {
    zone: TimeZone,
    starts: Time,
}

impl DayClock {
    /// A clock for days that begin at `starts`, local time of `zone`.
    pub const fn new(zone: TimeZone, starts: Time) -> Self {
        Self { zone, starts }
    }

    /// The first instant of a day, in milliseconds since 1970-01-01 UTC.
    ///
    /// Where the clocks change over the day's start, a start that does not exist moves later by the gap, and the
    /// earlier of two is taken.
    pub fn start_ms(&self, day: ServiceDay) -> i64 {
        let local = day.date().to_datetime(self.starts);
        // `day` lies within the years 1900 to 2999, where every local time has an instant.
        self.zone.to_ambiguous_timestamp(local).compatible().map_or(0, Timestamp::as_millisecond)
    }

    /// The first instant after a day, which is the first of the next.
    pub fn end_ms(&self, day: ServiceDay) -> i64 {
        self.start_ms(day.next())
    }

    /// The service day of an instant (milliseconds since 1970-01-01 UTC).
    pub fn day_of(&self, time_ms: i64) -> Result<ServiceDay, DayError> {
        let out_of_range = || DayError::OutOfRange(time_ms / 86_400_000);
        let instant = Timestamp::from_millisecond(time_ms).map_err(|_| out_of_range())?;
        let local = self.zone.to_datetime(instant);
        let mut day = ServiceDay::from_date(local.date()).map_err(|_| out_of_range())?;
        if local.time() < self.starts {
            day = day.previous();
        }
        // A change of the clocks at the very start of a day can leave the local time on the wrong side of it.
        if time_ms < self.start_ms(day) {
            day = day.previous();
        } else if time_ms >= self.end_ms(day) {
            day = day.next();
        }
        Ok(day)
    }

    /// The local time of day of an instant, in seconds since midnight.
    pub(crate) fn second_of_day(&self, time_ms: i64) -> u32 {
        let Ok(instant) = Timestamp::from_millisecond(time_ms) else { return 0 };
        let time = self.zone.to_datetime(instant).time();
        let field = |value: i8| u32::try_from(value).unwrap_or(0);
        (field(time.hour()) * 60 + field(time.minute())) * 60 + field(time.second())
    }

    /// An instant as RFC 3339 text with the zone's offset, to the millisecond where it has one.
    pub fn rfc3339(&self, time_ms: i64) -> String {
        let Ok(instant) = Timestamp::from_millisecond(time_ms) else { return String::new() };
        instant.display_with_offset(self.zone.to_offset(instant)).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(zone: &str) -> DayClock {
        DayClock::new(TimeZone::get(zone).unwrap(), jiff::civil::time(4, 0, 0, 0))
    }

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn day(text: &str) -> ServiceDay {
        text.parse().unwrap()
    }

    #[test]
    fn a_service_day_runs_from_four_to_four() {
        let clock = clock("Asia/Shanghai");
        assert_eq!(clock.day_of(ms("2026-11-23T03:59:59.999+08:00")), Ok(day("2026-11-22")));
        assert_eq!(clock.day_of(ms("2026-11-23T04:00:00+08:00")), Ok(day("2026-11-23")));
        assert_eq!(clock.day_of(ms("2026-11-24T03:59:59+08:00")), Ok(day("2026-11-23")));
        assert_eq!(clock.start_ms(day("2026-11-23")), ms("2026-11-23T04:00:00+08:00"));
        assert_eq!(clock.rfc3339(ms("2026-11-23T08:01:00+08:00")), "2026-11-23T08:01:00+08:00");
    }

    #[test]
    fn where_clocks_change_a_service_day_has_23_or_25_hours_and_no_gap() {
        let clock = clock("Europe/London");
        // Clocks go forward in the small hours of 2026-03-29, which still belong to the 28th, and back on 2026-10-25.
        let hours = |d: &str| (clock.end_ms(day(d)) - clock.start_ms(day(d))) / 3_600_000;
        assert_eq!(hours("2026-03-28"), 23);
        assert_eq!(hours("2026-10-24"), 25);
        assert_eq!(hours("2026-11-23"), 24);
        for half_hour in 0..(400 * 48) {
            let at = ms("2026-01-01T00:00:00Z") + half_hour * 1_800_000;
            let d = clock.day_of(at).unwrap();
            assert!(clock.start_ms(d) <= at && at < clock.end_ms(d));
        }
    }

    #[test]
    fn a_change_of_clocks_at_the_start_of_the_day_loses_no_instant() {
        // New York's clocks skip 02:00 to 03:00 on 2026-03-08 and repeat 01:00 to 02:00 on 2026-11-01.
        for start in [1, 2, 3] {
            let clock =
                DayClock::new(TimeZone::get("America/New_York").unwrap(), jiff::civil::time(start, 30, 0, 0));
            for (from, hours) in [("2026-03-07T00:00:00Z", 72), ("2026-10-31T00:00:00Z", 72)] {
                for minute in 0..hours * 60 {
                    let at = ms(from) + minute * 60_000;
                    let d = clock.day_of(at).unwrap();
                    assert!(clock.start_ms(d) <= at && at < clock.end_ms(d));
                }
            }
        }
    }

    #[test]
    fn days_are_dates_and_numbers() {
        assert_eq!(day("1970-01-01").number(), 0);
        assert_eq!(day("2026-11-23").number(), 20_780);
        assert_eq!(ServiceDay::from_number(20_780).unwrap().to_string(), "2026-11-23");
        assert_eq!(day("2026-11-23").next(), day("2026-11-24"));
        assert_eq!("2026-02-30".parse::<ServiceDay>(), Err(DayError::NotADate("2026-02-30".into())));
        assert!("2026-11-23T10:00:00".parse::<ServiceDay>().is_err());
        assert!(ServiceDay::from_number(10_000_000).is_err());
        assert_eq!(day("1900-01-01").number(), i64::from(FIRST));
        assert_eq!(day("2999-12-31").number(), i64::from(LAST));
    }
}
