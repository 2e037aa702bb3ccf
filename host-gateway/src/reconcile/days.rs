//! The days that a file of theirs is of: one, or several one after the other.

use std::fmt;
use std::str::FromStr;

use wavepass_fares::ServiceDay;

/// The most days of one file: a month's statement.
pub const MAX_DAYS: i64 = 31;

/// Days one after the other, both ends among them: 1 to [`MAX_DAYS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days {
    first: ServiceDay,
    last: ServiceDay,
}

/// Why text is not days.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DaysError {
    /// One of them is no day.
    #[error("`{0}` is not a day YYYY-MM-DD, nor days FIRST..LAST")]
    Day(String),
    /// They end before they begin, or are too many.
    #[error("{first}..{last} are not 1 to {MAX_DAYS} days, the first before the last")]
    Number {
        /// The first.
        first: ServiceDay,
        /// The last.
        last: ServiceDay,
    },
}

impl Days {
    /// Days from the first to the last.
    pub fn new(first: ServiceDay, last: ServiceDay) -> Result<Self, DaysError> {
        match (0..MAX_DAYS).contains(&(last.number() - first.number())) {
            true => Ok(Self { first, last }),
            false => Err(DaysError::Number { first, last }),
        }
    }

    /// One day.
    pub const fn one(day: ServiceDay) -> Self {
        Self { first: day, last: day }
    }

    /// The first.
    pub const fn first(self) -> ServiceDay {
        self.first
    }

    /// The last.
    pub const fn last(self) -> ServiceDay {
        self.last
    }

    /// Each of them, in order.
    pub fn each(self) -> impl Iterator<Item = ServiceDay> {
        (0..=self.last.number() - self.first.number()).map(move |n| self.first.plus(n))
    }

    /// Whether a day is one of them.
    pub fn contains(self, day: ServiceDay) -> bool {
        (self.first..=self.last).contains(&day)
    }

    /// The one of them that is nearest to a day, in days since 1970-01-01.
    pub fn nearest(self, day: i64) -> i64 {
        day.clamp(self.first.number(), self.last.number())
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => self.first.fmt(f),
            false => write!(f, "{}..{}", self.first, self.last),
        }
    }
}

/// What a command is given: a day, or days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// `YYYY-MM-DD`
    Day(ServiceDay),
    /// `YYYY-MM-DD..YYYY-MM-DD`
    Days(Days),
}

impl FromStr for Given {
    type Err = DaysError;

    fn from_str(text: &str) -> Result<Self, DaysError> {
        let day = |text: &str| text.parse().map_err(|_| DaysError::Day(text.chars().take(40).collect()));
        match text.split_once("..") {
            Some((first, last)) => Ok(Self::Days(Days::new(day(first)?, day(last)?)?)),
            None => Ok(Self::Day(day(text)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read_and_what_cannot_be_is_named() {
        let days = |text: &str| text.parse::<Given>();
        assert_eq!(days("2026-11-23"), Ok(Given::Day("2026-11-23".parse().unwrap())));
        let Ok(Given::Days(month)) = days("2026-10-01..2026-10-31") else { panic!("a month is too long") };
        assert_eq!((month.each().count(), month.to_string()), (31, "2026-10-01..2026-10-31".into()));
        let inside: ServiceDay = "2026-10-09".parse().unwrap();
        assert!(month.contains(inside) && !month.contains(month.last().next()));
        assert_eq!(month.nearest(inside.number()), inside.number());
        assert_eq!(month.nearest(i64::MAX), month.last().number());
        for (text, why) in [
            ("2026-10-01..2026-11-01", "1 to 31 days"),
            ("2026-10-02..2026-10-01", "1 to 31 days"),
            ("2026-10-02..", "`` is not a day"),
            ("tomorrow", "`tomorrow` is not a day"),
        ] {
            let refused = days(text).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
    }
}
