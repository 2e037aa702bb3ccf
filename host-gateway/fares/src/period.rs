//! Over how many days an amount is gathered: what a cap, a spend discount or a monthly count looks back on.
//!
//! Every period lies fixed in the calendar. One that began with a rider's first tap would depend on all taps before it,
//! and a tap that comes late could move every period after it.

use std::ops::RangeInclusive;

use jiff::civil::Weekday;

use crate::day::ServiceDay;

/// The longest a period may be, in days: a month. What a day is priced from stays within it.
pub const MAX_PERIOD_DAYS: u16 = 31;

/// A run of service days that one amount counts over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// One service day.
    Day,
    /// Seven days from a weekday on.
    Week {
        /// The weekday.
        starts: Weekday,
    },
    /// So many days, one period after the other; one of them begins on `from`.
    Days {
        /// How many: 2 to [`MAX_PERIOD_DAYS`].
        days: u16,
        /// The first day of one of them.
        from: ServiceDay,
    },
    /// A calendar month of service days.
    Month,
}

impl Period {
    /// The days of the period that a day lies in.
    pub fn around(&self, day: ServiceDay) -> RangeInclusive<ServiceDay> {
        match *self {
            Self::Day => day..=day,
            Self::Week { starts } => {
                let into = day.date().weekday().since(starts);
                day.plus(-i64::from(into))..=day.plus(6 - i64::from(into))
            }
            Self::Days { days, from } => {
                let days = i64::from(days.max(1));
                let into = (day.number() - from.number()).rem_euclid(days);
                day.plus(-into)..=day.plus(days - 1 - into)
            }
            Self::Month => {
                let date = day.date();
                let (into, all) = (i64::from(date.day()) - 1, i64::from(date.days_in_month()));
                day.plus(-into)..=day.plus(all - 1 - into)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(period: Period, day: &str) -> (String, String) {
        let days = period.around(day.parse().unwrap());
        (days.start().to_string(), days.end().to_string())
    }

    fn pair(a: &str, b: &str) -> (String, String) {
        (a.into(), b.into())
    }

    #[test]
    fn a_week_begins_on_the_day_of_choice() {
        // 2026-11-23 is a Monday.
        let monday = Period::Week { starts: Weekday::Monday };
        assert_eq!(around(monday, "2026-11-23"), pair("2026-11-23", "2026-11-29"));
        assert_eq!(around(monday, "2026-11-29"), pair("2026-11-23", "2026-11-29"));
        let sunday = Period::Week { starts: Weekday::Sunday };
        assert_eq!(around(sunday, "2026-11-23"), pair("2026-11-22", "2026-11-28"));
        assert_eq!(around(sunday, "2026-11-22"), pair("2026-11-22", "2026-11-28"));
    }

    #[test]
    fn periods_of_days_follow_each_other_before_and_after_their_date() {
        let three = Period::Days { days: 3, from: "2026-11-23".parse().unwrap() };
        assert_eq!(around(three, "2026-11-25"), pair("2026-11-23", "2026-11-25"));
        assert_eq!(around(three, "2026-11-26"), pair("2026-11-26", "2026-11-28"));
        assert_eq!(around(three, "2026-11-22"), pair("2026-11-20", "2026-11-22"));
    }

    #[test]
    fn a_month_is_the_calendars() {
        assert_eq!(around(Period::Month, "2028-02-29"), pair("2028-02-01", "2028-02-29"));
        assert_eq!(around(Period::Month, "2026-12-01"), pair("2026-12-01", "2026-12-31"));
        assert_eq!(around(Period::Day, "2026-12-01"), pair("2026-12-01", "2026-12-01"));
    }
}
