//! The names that messages and their lines carry: made from the batch and the charge alone, and read back into them.
//!
//! ISO 20022 gives both 35 characters. A charge's name fills them: `W`, then in base 32 the service day (4), the token's key (26), the
//! part (2) and the attempt (2). The digits are Crockford's, `0` to `9` and `A` to `Z` without I, L, O and U: they sort like the
//! numbers they stand for, and no bank's character set lacks them.

use std::fmt;

use wavepass_fares::ServiceDay;

use crate::error::Fault;

const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The largest part and the largest attempt that a name has room for.
pub const MAX_PART: u32 = 1_023;

/// The characters of an attempt's name, each of one byte: `W` and 34 digits.
pub const NAME_LEN: usize = 35;

/// An attempt to collect a charge. A retry keeps its name; a new attempt has the next number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttemptId {
    /// The charge's service day, from 1970 on.
    pub service_day: ServiceDay,
    /// The token's key: a keyed hash, never the token's number.
    pub token_key: [u8; 16],
    /// The part of the day's charge, at most [`MAX_PART`].
    pub part: u32,
    /// The attempt's number, at most [`MAX_PART`].
    pub attempt: u32,
}

/// As [`AttemptId::parse`] says what it wants.
const ATTEMPT: &str = "W and 34 digits of base 32";

impl AttemptId {
    /// The name, as `EndToEndId` carries it: 35 characters, whose order is the order of attempts.
    pub fn end_to_end_id(&self) -> Result<String, Fault> {
        let day = u128::try_from(self.service_day.number())
            .map_err(|_| Fault::Date("1970-01-01 or later".into()))?;
        if self.part > MAX_PART || self.attempt > MAX_PART {
            return Err(Fault::TooLarge);
        }
        let mut name = String::from("W");
        let fields = [
            (day, 4),
            (u128::from_be_bytes(self.token_key), 26),
            (self.part.into(), 2),
            (self.attempt.into(), 2),
        ];
        for (value, digits) in fields {
            // A day before the year 3000 has 19 bits, so every value fits its digits.
            name.extend((0..digits).rev().map(|at| char::from(DIGITS[(value >> (5 * at) & 31) as usize])));
        }
        Ok(name)
    }

    /// Reads a name; any other text is not of ours.
    pub fn parse(name: &str) -> Result<Self, Fault> {
        let fault = Fault::Identifier(ATTEMPT);
        let digits = name.strip_prefix('W').filter(|rest| rest.len() == 34).ok_or(fault.clone())?;
        let mut values = Vec::with_capacity(34);
        for byte in digits.bytes() {
            values.push(DIGITS.iter().position(|&d| d == byte).ok_or(fault.clone())? as u128);
        }
        let number = |part: &[u128]| part.iter().fold(0_u128, |sum, digit| sum << 5 | digit);
        // 26 digits have two bits more than a key.
        if values[4] > 7 {
            return Err(fault);
        }
        let day = number(&values[..4]) as i64;
        Ok(Self {
            service_day: ServiceDay::from_number(day).map_err(|_| fault)?,
            token_key: number(&values[4..30]).to_be_bytes(),
            part: number(&values[30..32]) as u32,
            attempt: number(&values[32..]) as u32,
        })
    }
}

impl fmt::Debug for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end_to_end_id() {
            Ok(name) => f.write_str(&name),
            Err(fault) => write!(f, "an attempt whose name {fault}"),
        }
    }
}

/// A message to the bank: a batch, and how often something was sent for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageId {
    /// The batch's number, from 1.
    pub batch: u64,
    /// 1 for the batch itself, then one for each message with new attempts of its charges.
    pub submission: u32,
}

/// As `MsgId` carries it: `WP-B42-1`.
impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WP-B{}-{}", self.batch, self.submission)
    }
}

impl MessageId {
    /// Reads a name; any other text is not of ours.
    pub fn parse(name: &str) -> Result<Self, Fault> {
        let numbers = name.strip_prefix("WP-B").and_then(|rest| rest.split_once('-'));
        let id = numbers.and_then(|(batch, submission)| {
            Some(Self { batch: batch.parse().ok()?, submission: submission.parse().ok()? })
        });
        // `+1` and `01` are numbers too, but no names that we give.
        id.filter(|id| id.to_string() == name).ok_or(Fault::Identifier("WP-B<batch>-<submission>"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(day: i64, key: u8, part: u32, attempt: u32) -> AttemptId {
        let service_day = ServiceDay::from_number(day).unwrap();
        AttemptId { service_day, token_key: [key; 16], part, attempt }
    }

    #[test]
    fn a_charges_name_is_read_back_and_sorts_like_the_charge() {
        let ids = [id(0, 0, 1, 1), id(20_780, 9, 1, 2), id(20_780, 9, 2, 1), id(20_780, 0xFF, 1_023, 1_023)];
        let names: Vec<String> = ids.iter().map(|id| id.end_to_end_id().unwrap()).collect();
        assert!(names.is_sorted() && ids.is_sorted());
        for (id, name) in ids.iter().zip(&names) {
            assert_eq!(name.len(), NAME_LEN);
            assert_eq!(AttemptId::parse(name).as_ref(), Ok(id));
        }
        assert_eq!(names[1], "W0M9C09144GJ289144GJ289144GJ2890102");
    }

    #[test]
    fn what_has_no_room_is_refused() {
        assert_eq!(id(1, 0, 1_024, 1).end_to_end_id(), Err(Fault::TooLarge));
        assert_eq!(id(1, 0, 1, 1_024).end_to_end_id(), Err(Fault::TooLarge));
        assert!(matches!(id(-1, 0, 1, 1).end_to_end_id(), Err(Fault::Date(_))));
    }

    #[test]
    fn a_name_that_is_not_of_ours_is_no_charge() {
        let good = id(20_780, 9, 1, 1).end_to_end_id().unwrap();
        let key_too_large = good.replacen("W0M9C0", "W0M9C8", 1);
        let day_too_late = good.replacen("W0M9C", "WZZZZ", 1);
        for name in ["", "NOTPROVIDED", &good[1..], &good.to_lowercase(), &key_too_large, &day_too_late] {
            assert_eq!(AttemptId::parse(name), Err(Fault::Identifier(ATTEMPT)), "{name}");
        }
    }

    #[test]
    fn a_messages_name_is_read_back_and_no_other() {
        let id = MessageId { batch: 42, submission: 3 };
        assert_eq!(id.to_string(), "WP-B42-3");
        assert_eq!(MessageId::parse("WP-B42-3"), Ok(id));
        for name in ["WP-B42", "WP-B+42-3", "WP-B042-3", "WP-B42-3 ", "B42-3"] {
            assert!(MessageId::parse(name).is_err(), "{name}");
        }
        let longest = MessageId { batch: u64::MAX, submission: u32::MAX };
        assert!(longest.to_string().len() <= 35);
    }
}
