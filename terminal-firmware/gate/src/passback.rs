//! Which tokens opened this gate lately: so that a second wave is the same tap, or is refused.
//!
//! Held in memory, bounded, and rebuilt from the journal's local headers at start.

use crate::CORRECTION_MS;
use heapless::Deque;
use wavepass_protocol::tap::Outcome;
use wavepass_protocol::time::UnixMs;

/// How many openings are remembered: at one every two seconds, more than eight minutes.
const REMEMBERED: usize = 256;

/// What identifies a token at this gate only: a keyed hash.
pub(crate) type TokenTag = [u8; 8];

struct Opening {
    tag: TokenTag,
    sequence: u32,
    time: UnixMs,
    outcome: Option<Outcome>,
}

/// The latest openings, oldest first.
pub(crate) struct Passback {
    openings: Deque<Opening, REMEMBERED>,
}

/// What the latest opening of a token means for a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Not lately.
    No,
    /// It opened the gate and nobody has gone through since: the same tap.
    Waiting(u32),
    /// It opened the gate and somebody went through.
    Passed,
}

impl Passback {
    pub(crate) const fn new() -> Self {
        Self { openings: Deque::new() }
    }

    pub(crate) fn clear(&mut self) {
        self.openings.clear();
    }

    pub(crate) fn opened(&mut self, tag: TokenTag, sequence: u32, time: UnixMs) {
        if self.openings.is_full() {
            self.openings.pop_front();
        }
        // There is room: the oldest has just gone.
        let _ = self.openings.push_back(Opening { tag, sequence, time, outcome: None });
    }

    pub(crate) fn passage(&mut self, of: u32, outcome: Outcome) {
        if let Some(opening) = self.openings.iter_mut().rev().find(|o| o.sequence == of) {
            opening.outcome = Some(outcome);
        }
    }

    pub(crate) fn seen(&self, tag: &TokenTag, now: UnixMs, window_ms: u32) -> Seen {
        let latest = self.openings.iter().rev().find(|o| o.tag == *tag);
        match latest {
            // One from far ahead had a wrong time.
            Some(o) if o.time.0 > now.0.saturating_add(CORRECTION_MS) => Seen::No,
            Some(o) if now.0 <= o.time.0.saturating_add(u64::from(window_ms)) => match o.outcome {
                None | Some(Outcome::NotPassed) => Seen::Waiting(o.sequence),
                Some(Outcome::Passed | Outcome::Unknown) => Seen::Passed,
            },
            _ => Seen::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rider_who_did_not_pass_taps_again_as_the_same_tap() {
        let mut passback = Passback::new();
        passback.opened([1; 8], 5, UnixMs(1_000));
        assert_eq!(passback.seen(&[1; 8], UnixMs(2_000), 60_000), Seen::Waiting(5));
        passback.passage(5, Outcome::NotPassed);
        assert_eq!(passback.seen(&[1; 8], UnixMs(3_000), 60_000), Seen::Waiting(5));
        passback.passage(5, Outcome::Passed);
        assert_eq!(passback.seen(&[1; 8], UnixMs(4_000), 60_000), Seen::Passed);
        assert_eq!(passback.seen(&[1; 8], UnixMs(61_001), 60_000), Seen::No);
        assert_eq!(passback.seen(&[2; 8], UnixMs(4_000), 60_000), Seen::No);
    }

    #[test]
    fn the_oldest_opening_is_forgotten_first() {
        let mut passback = Passback::new();
        for sequence in 0..=REMEMBERED as u32 {
            let mut tag = [0; 8];
            tag[..4].copy_from_slice(&sequence.to_be_bytes());
            passback.opened(tag, sequence, UnixMs(0));
        }
        assert_eq!(passback.seen(&[0; 8], UnixMs(0), 1), Seen::No);
        let mut second = [0; 8];
        second[3] = 1;
        assert_eq!(passback.seen(&second, UnixMs(0), 1), Seen::Waiting(1));
    }
}
