//! Calendar dates and instants as gate, card and host exchange them. No clock: instants are handed in.

use crate::token::{Expiry, TokenError, decimal, to_bcd};
use serde::{Deserialize, Serialize};

/// An instant: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct UnixMs(pub u64);

/// A day of the Gregorian calendar, 2000-01-01 to 2099-12-31 where it comes from a two-digit year.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    /// Four-digit year.
    pub year: u16,
    /// Month, 1 to 12.
    pub month: u8,
    /// Day, 1 to the month's last.
    pub day: u8,
}

impl Date {
    /// A date, if the calendar has it.
    pub fn new(year: u16, month: u8, day: u8) -> Result<Self, TokenError> {
        if !(1..=12).contains(&month) {
            return Err(TokenError::Month(month));
        }
        if day == 0 || day > days_in(year, month) {
            return Err(TokenError::NotDecimal);
        }
        Ok(Self { year, month, day })
    }

    /// Reads packed decimal `YYMMDD`, as tags 5F24, 5F25 and 9A have it.
    pub fn from_yymmdd(bytes: [u8; 3]) -> Result<Self, TokenError> {
        Self::new(2000 + u16::from(decimal(bytes[0])?), decimal(bytes[1])?, decimal(bytes[2])?)
    }

    /// Reads packed decimal `YYYYMMDD`, as ECC certificates have it.
    pub fn from_yyyymmdd(bytes: [u8; 4]) -> Result<Self, TokenError> {
        let year = u16::from(decimal(bytes[0])?) * 100 + u16::from(decimal(bytes[1])?);
        Self::new(year, decimal(bytes[2])?, decimal(bytes[3])?)
    }

    /// Packed decimal `YYMMDD`.
    pub const fn to_yymmdd(self) -> [u8; 3] {
        [to_bcd((self.year % 100) as u8), to_bcd(self.month), to_bcd(self.day)]
    }

    /// Packed decimal `YYYYMMDD`.
    pub const fn to_yyyymmdd(self) -> [u8; 4] {
        [
            to_bcd((self.year / 100) as u8),
            to_bcd((self.year % 100) as u8),
            to_bcd(self.month),
            to_bcd(self.day),
        ]
    }

    /// The last day of an expiry's month: a token is good through it.
    pub fn last_of(expiry: Expiry) -> Self {
        let year = 2000 + u16::from(expiry.year);
        Self { year, month: expiry.month, day: days_in(year, expiry.month) }
    }

    /// The month this day falls in, as an expiry (the century is dropped).
    pub const fn expiry(self) -> Expiry {
        Expiry { year: (self.year % 100) as u8, month: self.month }
    }

    /// The civil date at an instant, `offset_min` minutes east of UTC.
    pub fn at(instant: UnixMs, offset_min: i16) -> Self {
        let (days, _) = split(instant, offset_min);
        Self::from_days(days)
    }

    /// The date that many days after 1970-01-01 (proleptic Gregorian; years 0 to 65535).
    // Days are counted in 400-year eras that begin on 1 March, so that the leap day ends a year.
    pub fn from_days(days: i64) -> Self {
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let of_era = z.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Self { year: year.clamp(0, 65_535) as u16, month: month as u8, day: day as u8 }
    }

    /// Days after 1970-01-01; negative before.
    pub fn to_days(self) -> i64 {
        let year = i64::from(self.year) - i64::from(self.month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let march_month = i64::from((self.month + 9) % 12);
        let of_year = (153 * march_month + 2) / 5 + i64::from(self.day) - 1;
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
    }
}

/// The civil time of day at an instant as packed decimal `HHMMSS` (tag 9F21).
pub fn time_of_day(instant: UnixMs, offset_min: i16) -> [u8; 3] {
    let (_, seconds) = split(instant, offset_min);
    [to_bcd((seconds / 3600) as u8), to_bcd((seconds / 60 % 60) as u8), to_bcd((seconds % 60) as u8)]
}

fn split(instant: UnixMs, offset_min: i16) -> (i64, i64) {
    // u64 milliseconds as seconds always fit i64.
    let seconds = (instant.0 / 1000) as i64 + i64::from(offset_min) * 60;
    (seconds.div_euclid(86_400), seconds.rem_euclid(86_400))
}

/// How many days a month has.
pub const fn days_in(year: u16, month: u8) -> u8 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_agree_over_a_century() {
        let mut date = Date { year: 1999, month: 12, day: 31 };
        for days in date.to_days()..date.to_days() + 36_600 {
            assert_eq!(Date::from_days(days), date);
            assert_eq!(date.to_days(), days);
            date = if date.day < days_in(date.year, date.month) {
                Date { day: date.day + 1, ..date }
            } else if date.month < 12 {
                Date { month: date.month + 1, day: 1, ..date }
            } else {
                Date { year: date.year + 1, month: 1, day: 1 }
            };
        }
    }

    #[test]
    fn shanghai_is_a_day_ahead_in_the_evening_of_utc() {
        let instant = UnixMs(1_795_478_399_000); // 2026-11-23T23:59:59Z
        assert_eq!(Date::at(instant, 0), Date { year: 2026, month: 11, day: 23 });
        assert_eq!(Date::at(instant, 480), Date { year: 2026, month: 11, day: 24 });
        assert_eq!(time_of_day(instant, 480), [0x07, 0x59, 0x59]);
    }

    #[test]
    fn a_date_the_calendar_lacks_is_refused() {
        assert!(Date::from_yymmdd([0x26, 0x02, 0x29]).is_err());
        assert!(Date::from_yymmdd([0x28, 0x02, 0x29]).is_ok());
        assert!(Date::from_yymmdd([0x2A, 0x01, 0x01]).is_err());
    }
}
