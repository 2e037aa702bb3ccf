//! Bytes, dates and words as the rig's files have them.

use serde::{Deserialize, Deserializer, de};
use wavepass_hce::hex;
use wavepass_protocol::lists::Suite;
use wavepass_protocol::sm2::{Convention, Sm2Error};
use wavepass_protocol::time::Date;

/// Hexadecimal text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hex(pub(crate) Vec<u8>);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        hex::decode(&text).map(Self).map_err(de::Error::custom)
    }
}

impl Hex {
    /// The bytes, where there are exactly `N`.
    pub(crate) fn array<const N: usize>(&self) -> Option<[u8; N]> {
        self.0.as_slice().try_into().ok()
    }
}

/// A date `YYYY-MM-DD`.
pub(crate) fn date(text: &str) -> Option<Date> {
    let mut parts = text.split('-').map(|part| {
        let digits = part.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| part.parse::<u16>().ok()).flatten()
    });
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let fits = parts.next().is_none() && (2000..2100).contains(&year);
    let small = |n: u16| u8::try_from(n).ok();
    if fits { Date::new(year, small(month)?, small(day)?).ok() } else { None }
}

/// A date as [`date`] reads it.
pub(crate) fn show_date(date: Date) -> String {
    format!("{:04}-{:02}-{:02}", date.year, date.month, date.day)
}

/// A suite's word; transcripts call P-256 by its EMV number.
pub(crate) fn suite(word: &str) -> Option<Suite> {
    Some(match word {
        "rsa" => Suite::Rsa,
        "p256" | "10" => Suite::P256,
        "sm2" => Suite::Sm2,
        _ => return None,
    })
}

/// A suite's word in terminal files.
pub(crate) const fn suite_word(suite: Suite) -> &'static str {
    match suite {
        Suite::Rsa => "rsa",
        Suite::P256 => "p256",
        Suite::Sm2 => "sm2",
    }
}

/// How SM2 cards sign, by who signs and what stands before the counter; what is left out is as usual.
pub(crate) fn convention(
    user_id: Option<&str>,
    counter_prefix: Option<&[u8]>,
) -> Result<Convention, Sm2Error> {
    let usual = Convention::DEFAULT;
    Convention::new(user_id.unwrap_or(usual.user_id()), counter_prefix.unwrap_or(usual.counter_prefix()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_they_are_shown() {
        let day = Date { year: 2026, month: 2, day: 28 };
        assert_eq!(date(&show_date(day)), Some(day));
        for bad in ["2026-02-29", "2026-2", "26-02-28", "2026-02-28-1", "2026-+2-28", "2100-01-01", ""] {
            assert_eq!(date(bad), None, "{bad}");
        }
    }
}
