//! A token's newest taps, as far as [`Ways`] goes by them: what tells that a tap has no other near it, without reading any.

use super::rules::Seen;
use super::ways::{At, Ways, fnv};

/// How many are kept: those of a rider's day, mostly.
const MOST: usize = 4;
/// For how long before the token's newest tap of any kind any is, so that where a rider was is not known here for longer than
/// from the taps themselves.
pub(super) const KEPT_MS: i64 = 7 * 86_400_000;
const BYTES: usize = 17;
/// What is before the taps: a version, the mark and from when on they are.
const HEAD: usize = 17;
const VERSION: u8 = 1;
/// An older gateway wrote from when on they are, and no mark.
const UNMARKED_HEAD: usize = 8;

/// What a gateway changes of a token that knows nothing of its newest taps: they are all that there are while this is as they were
/// written under. A late tap leaves the time of the newest and brings a new ATC.
pub(super) fn mark(last_tap_ms: Option<i64>, atcs: Option<&[u8]>) -> u64 {
    let last = last_tap_ms.unwrap_or(i64::MIN).to_be_bytes();
    fnv(last.into_iter().chain(atcs.into_iter().flatten().copied()))
}

/// A token's newest taps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recent {
    /// All that the token made from this time on are here; `i64::MIN`: all that it ever made.
    from_ms: i64,
    /// In the order of times.
    taps: Vec<At>,
}

impl Recent {
    /// Of a token that never tapped.
    pub(super) const fn none() -> Self {
        Self { from_ms: i64::MIN, taps: Vec::new() }
    }

    /// Of a token of which nothing is kept, but the time of its newest tap.
    pub(super) fn unknown(last_tap_ms: Option<i64>) -> Self {
        Self { from_ms: last_tap_ms.map_or(i64::MIN, |last| last.saturating_add(1)), taps: Vec::new() }
    }

    /// Reads what [`Self::to_bytes`] wrote of a token with this mark and newest tap. What was written under another mark, or by an
    /// older gateway, tells nothing. `None` where it is damaged.
    pub(super) fn from_bytes(bytes: &[u8], mark: u64, last_tap_ms: Option<i64>) -> Option<Self> {
        if bytes.len() % BYTES == UNMARKED_HEAD {
            return Some(Self::unknown(last_tap_ms));
        }
        let (head, taps) = bytes.split_first_chunk::<HEAD>()?;
        let [VERSION, numbers @ ..] = *head else { return None };
        let numbers = u128::from_be_bytes(numbers);
        let (written_under, from_ms) = ((numbers >> 64) as u64, numbers as i64);
        let (taps, rest) = taps.as_chunks::<BYTES>();
        let at = |tap: &[u8; BYTES]| {
            let [time @ .., direction] = *tap;
            let both = u128::from_be_bytes(time);
            At { time_ms: (both >> 64) as i64, place: both as u64, direction }
        };
        let recent = Self { from_ms, taps: taps.iter().map(at).collect() };
        let sound = recent.taps.len() <= MOST
            && recent.taps.is_sorted()
            && recent.taps.first().is_none_or(|first| first.time_ms >= recent.from_ms);
        if !rest.is_empty() || !sound {
            return None;
        }
        Some(if written_under == mark { recent } else { Self::unknown(last_tap_ms) })
    }

    /// One byte of the version, eight of the mark and eight from when on, then for each tap eight of its time, eight of its station's
    /// hash and one of its direction.
    pub(super) fn to_bytes(&self, mark: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + BYTES * self.taps.len());
        bytes.push(VERSION);
        bytes.extend(mark.to_be_bytes());
        bytes.extend(self.from_ms.to_be_bytes());
        for At { time_ms, place, direction } in &self.taps {
            bytes.extend(time_ms.to_be_bytes());
            bytes.extend(place.to_be_bytes());
            bytes.push(*direction);
        }
        bytes
    }

    /// Whether some of these taps, in the order of events, may be ruled out by one another, by one that is here, or by one that
    /// may be elsewhere.
    pub(super) fn may_contradict(&self, taps: &[Seen], ways: &Ways) -> bool {
        let window_ms = ways.window_ms();
        if window_ms == 0 {
            return false;
        }
        let mut all: Vec<(At, bool)> = self.taps.iter().map(|at| (*at, false)).collect();
        for at in taps.iter().filter_map(At::of) {
            if self.from_ms != i64::MIN && at.time_ms.saturating_sub(window_ms) < self.from_ms {
                return true;
            }
            all.push((at, true));
        }
        all.sort_unstable();
        all.iter().enumerate().any(|(i, (later, is_new))| {
            let near = all[..i].iter().rev().take_while(|(at, _)| later.time_ms - at.time_ms <= window_ms);
            near.clone()
                .any(|(earlier, was_new)| (*is_new || *was_new) && ways.may_rule_out(*earlier, *later))
        })
    }

    /// Takes note of taps, where with them the token's newest of any kind is at this time.
    pub(super) fn note(&mut self, taps: &[Seen], last_tap_ms: Option<i64>) {
        let newer = |at: &At| at.time_ms >= self.from_ms;
        self.taps.extend(taps.iter().filter_map(At::of).filter(newer));
        self.taps.sort_unstable();
        let over = self.taps.len().saturating_sub(MOST);
        let old = last_tap_ms.map_or(i64::MIN, |last| last.saturating_sub(KEPT_MS));
        let over = over.max(self.taps.partition_point(|at| at.time_ms < old));
        let last = self.taps.drain(..over).next_back();
        if let Some(last) = last {
            self.from_ms = last.time_ms.saturating_add(1);
            // Of those of its time, others may have gone.
            self.taps.retain(|at| at.time_ms > last.time_ms);
        }
    }
}
