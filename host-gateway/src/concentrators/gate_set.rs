//! Which gates: numbers and ranges, as a person writes them and as the store keeps them.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// The most ranges of a set: a concentrator stands in one depot, or few. A row of the store stays below 12 KiB.
const MAX_RANGES: usize = 500;

/// What is no set of gates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateSetError {
    /// A part that is neither a number nor a range.
    #[error("part {0} is neither a gate's number (from 1) nor a range such as 7-9")]
    Part(usize),
    /// More than is kept.
    #[error("more than {MAX_RANGES} numbers and ranges")]
    TooMany,
}

/// A set of gates' numbers: ranges in order, none of which touches the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateSet(Vec<RangeInclusive<u32>>);

impl GateSet {
    /// Whether a gate is one of them.
    pub fn contains(&self, gate_id: u32) -> bool {
        let after = self.0.partition_point(|range| *range.start() <= gate_id);
        self.0[..after].last().is_some_and(|range| range.contains(&gate_id))
    }
}

impl FromStr for GateSet {
    type Err = GateSetError;

    fn from_str(text: &str) -> Result<Self, GateSetError> {
        let mut ranges = Vec::new();
        for (i, part) in text.split(',').enumerate() {
            if i == MAX_RANGES {
                return Err(GateSetError::TooMany);
            }
            ranges.push(range(part.trim()).ok_or(GateSetError::Part(i + 1))?);
        }
        ranges.sort_by_key(|range| *range.start());
        let mut joined: Vec<RangeInclusive<u32>> = Vec::new();
        for range in ranges {
            match joined.last_mut() {
                Some(last) if *range.start() <= last.end().saturating_add(1) => {
                    *last = *last.start()..=*last.end().max(range.end());
                }
                _ => joined.push(range),
            }
        }
        Ok(Self(joined))
    }
}

fn range(text: &str) -> Option<RangeInclusive<u32>> {
    let number = |text: &str| {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u32>().ok().filter(|&number| digits && number > 0)
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    (first <= last).then_some(first..=last)
}

impl fmt::Display for GateSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{comma}{first}")?,
                (first, last) => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_person_writes_is_kept_in_order_and_joined() {
        for (text, kept) in [
            ("1", "1"),
            ("1,2,7-9", "1-2,7-9"),
            (" 9 , 7-8,1-3,2", "1-3,7-9"),
            ("4294967295,1-4294967294", "1-4294967295"),
        ] {
            assert_eq!(text.parse::<GateSet>().unwrap().to_string(), kept, "{text}");
        }
        for (text, part) in
            [("", 1), ("1,", 2), ("0", 1), ("1,9-7", 2), ("+1", 1), ("1-2-3", 1), ("4294967296", 1), ("a", 1)]
        {
            assert_eq!(text.parse::<GateSet>(), Err(GateSetError::Part(part)), "{text}");
        }
        assert_eq!("1,".repeat(501).parse::<GateSet>(), Err(GateSetError::TooMany));
    }

    proptest! {
        #[test]
        fn a_set_holds_its_numbers_and_no_other(numbers in prop::collection::btree_set(1..60_u32, 1..30)) {
            let text = numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
            let set: GateSet = text.parse().unwrap();
            prop_assert_eq!(set.to_string().parse::<GateSet>().unwrap(), set.clone());
            for number in 0..70 {
                prop_assert_eq!(set.contains(number), numbers.contains(&number));
            }
        }
    }
}
