//! Lines of the log that whoever is outside can cause: a few at once, then one now and again, and how many were held back.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many lines at once: enough to see what a burst is made of.
const AT_ONCE: u32 = 20;
/// After them, one in so long: twenty lines a minute at most.
const EVERY: Duration = Duration::from_secs(3);

/// Decides which of many like lines are written.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Lines of the burst that are used up, as of `since`.
    used: u32,
    since: Option<Instant>,
    held_back: u64,
}

impl Seldom {
    /// Whether the next line is written; with it goes how many were not since the last.
    pub(crate) fn admits(&self) -> Option<u64> {
        self.admits_at(Instant::now())
    }

    fn admits_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *state.since.get_or_insert(now);
        let back = now.saturating_duration_since(since).as_secs() / EVERY.as_secs();
        if back > 0 {
            state.used = state.used.saturating_sub(u32::try_from(back).unwrap_or(u32::MAX));
            state.since = Some(now);
        }
        if state.used == AT_ONCE {
            state.held_back += 1;
            return None;
        }
        state.used += 1;
        Some(std::mem::take(&mut state.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_written_then_one_now_and_again_with_how_many_were_not() {
        let (seldom, begin) = (Seldom::default(), Instant::now());
        let admitted = (0..100).filter(|_| seldom.admits_at(begin).is_some()).count();
        assert_eq!(admitted, AT_ONCE as usize);
        assert_eq!(seldom.admits_at(begin + EVERY), Some(80));
        assert_eq!(seldom.admits_at(begin + EVERY), None);
        // After a long silence there is room for a burst again, and no more.
        let later = begin + Duration::from_secs(86_400);
        assert_eq!(seldom.admits_at(later), Some(1));
        assert_eq!((1..100).filter(|_| seldom.admits_at(later).is_some()).count(), AT_ONCE as usize - 1);
    }
}
