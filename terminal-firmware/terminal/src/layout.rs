//! How a gate's flash is divided: one table for every board whose journal and lists share a chip.
//!
//! All offsets and lengths are whole erase units of 4,096 bytes.

use core::ops::Range;
use wavepass_gate::Areas;

/// Bytes of an erase unit.
pub const ERASE: u32 = 4096;

/// The areas of a gate, as ranges of one flash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// DUKPT registers.
    pub keys: Range<u32>,
    /// Who the gate is.
    pub identity: Range<u32>,
    /// State of the random number generator.
    pub drbg: Range<u32>,
    /// What must not go back.
    pub floor: Range<u32>,
    /// The signed lists, in the order of [`wavepass_protocol::lists::Kind::ALL`]: two halves each.
    pub lists: [Range<u32>; 4],
    /// The tap journal.
    pub journal: Range<u32>,
}

/// Units of keys, identity, generator, floor, and the four lists. Half of the deny list's area holds 100,000 entries of
/// 5 bytes with its heads, and a fifth more.
const UNITS: [u32; 8] = [16, 2, 2, 2, 2 * 128, 2 * 2, 2 * 2, 2 * 2];

/// Bytes from the beginning, keys, identity, generator and floor, that hold secrets or must not be put back. A board with a chip beside the processor
/// keeps these inside the processor and the rest on the chip.
pub const INSIDE: u32 = (UNITS[0] + UNITS[1] + UNITS[2] + UNITS[3]) * ERASE;

impl Layout {
    /// The areas as a gate takes them, each made by `area`.
    pub fn areas<F>(&self, area: impl Fn(&Range<u32>) -> F) -> Areas<F> {
        Areas {
            journal: area(&self.journal),
            keys: area(&self.keys),
            identity: area(&self.identity),
            floor: area(&self.floor),
            lists: [0, 1, 2, 3].map(|i| area(&self.lists[i])),
        }
    }

    /// The areas on a flash of so many bytes: the journal has what the others leave. `None` where that is less
    /// than 64 units, a few hundred taps.
    pub const fn of(capacity: u32) -> Option<Self> {
        let mut at = [0; UNITS.len() + 1];
        let mut i = 0;
        while i < UNITS.len() {
            at[i + 1] = at[i] + UNITS[i] * ERASE;
            i += 1;
        }
        let end = capacity / ERASE * ERASE;
        if end < at[UNITS.len()] + 64 * ERASE {
            return None;
        }
        Some(Self {
            keys: at[0]..at[1],
            identity: at[1]..at[2],
            drbg: at[2]..at[3],
            floor: at[3]..at[4],
            lists: [at[4]..at[5], at[5]..at[6], at[6]..at[7], at[7]..at[8]],
            journal: at[8]..end,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_follow_each_other_without_gap_or_overlap() {
        let layout = Layout::of(4 << 20).unwrap();
        let [deny, ca, revocations, config] = layout.lists.clone();
        let areas = [
            layout.keys,
            layout.identity,
            layout.drbg,
            layout.floor,
            deny,
            ca,
            revocations,
            config,
            layout.journal,
        ];
        assert_eq!(areas[0].start, 0);
        assert!(areas.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert!(areas.iter().all(|a| a.start % ERASE == 0 && a.end % ERASE == 0 && a.start < a.end));
        assert_eq!(areas[8].end, 4 << 20);
        assert_eq!(Layout::of(1 << 20), None);
    }

    #[test]
    fn what_is_secret_or_must_not_go_back_comes_first() {
        let layout = Layout::of(INSIDE + (8 << 20)).unwrap();
        assert_eq!(layout.floor.end, INSIDE);
        assert_eq!(layout.lists[0].start, INSIDE);
    }
}
