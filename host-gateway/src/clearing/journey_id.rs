//! The name of a journey: the tap that it begins with, as files and screens have it.

use std::fmt;
use std::str::FromStr;

use wavepass_fares::{ServiceDay, TapId};

use super::ClearingError;
use crate::keys::TokenKey;
use crate::store::db::Query;
use crate::store::sql;

/// A journey's name: `KEYID-SEQUENCE` of its first tap. `KEYID:SEQUENCE`, as the file of journeys has it, is read, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct JourneyId(pub TapId);

/// Text that names no journey.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a journey's name is the key id and the sequence number of its first tap, such as 0102030405060708-17"
)]
pub struct JourneyIdError;

impl fmt::Display for JourneyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", sql::hex(&self.0.key), self.0.sequence)
    }
}

impl FromStr for JourneyId {
    type Err = JourneyIdError;

    fn from_str(text: &str) -> Result<Self, JourneyIdError> {
        let (digits, sequence) = text.split_once(['-', ':']).ok_or(JourneyIdError)?;
        if digits.len() != 16 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(JourneyIdError);
        }
        let number = u64::from_str_radix(digits, 16).map_err(|_| JourneyIdError)?;
        let sequence = sequence.parse().map_err(|_| JourneyIdError)?;
        Ok(Self(TapId { key: number.to_be_bytes(), sequence }))
    }
}

impl JourneyId {
    /// Binds what rows about a token's journey are found by: token, day, key id and sequence number, in this order.
    pub(crate) fn bind(self, query: Query<'static>, token: TokenKey, day: ServiceDay) -> Query<'static> {
        let Self(tap) = self;
        query.bind(token.0.to_vec()).bind(day.number()).bind(tap.key.to_vec()).bind(tap.sequence)
    }

    /// Reads the two columns that name a journey.
    pub(crate) fn stored(key: &[u8], sequence: u32) -> Result<Self, ClearingError> {
        let key = key.try_into().map_err(|_| ClearingError::damaged("a journey's tap"))?;
        Ok(Self(TapId { key, sequence }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journeys_name_is_read_as_it_is_written() {
        let id = JourneyId(TapId { key: [1, 2, 3, 4, 5, 6, 7, 0xA8], sequence: 17 });
        assert_eq!(id.to_string(), "01020304050607a8-17");
        for text in ["01020304050607a8-17", "01020304050607a8:17", "01020304050607A8-17"] {
            assert_eq!(text.parse(), Ok(id));
        }
        for bad in ["", "17", "0102-17", "01020304050607a8", "01020304050607a8-", "+1020304050607a8-1"] {
            assert_eq!(bad.parse::<JourneyId>(), Err(JourneyIdError), "{bad}");
        }
    }
}
