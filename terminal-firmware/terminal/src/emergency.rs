//! The emergency input between interrupt and loop, the same on every board.
//!
//! The board's interrupt opens the barrier by what it latched here; the loop then finds when to tell the gate, and when
//! to take the barrier back. An edge counts however short the pulse was: an interrupt may come late, when the input is
//! off again, and somebody has pressed it all the same.

use core::sync::atomic::{AtomicBool, Ordering};
use embassy_time::{Duration, Instant};

/// What the interrupt sets: the barrier is held open.
#[derive(Default)]
pub struct EmergencyLatch(AtomicBool);

impl EmergencyLatch {
    /// Not set.
    pub const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// In the interrupt: whether the input had an edge since the last one, and whether it is on. True where the barrier
    /// must open now.
    pub fn strike(&self, edge: bool, on: bool) -> bool {
        let strikes = edge || on;
        if strikes {
            self.0.store(true, Ordering::Release);
        }
        strikes
    }

    /// True while the barrier is held open.
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Lets it go, where the interrupt cannot come between this and a look at the input.
    pub fn clear(&self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The loop's side: what the gate has been told.
#[derive(Default)]
pub struct EmergencyWatch {
    told: bool,
    /// Since when the input has been off.
    quiet: Option<Instant>,
}

impl EmergencyWatch {
    /// How long the input must be off before it counts as off: contacts bounce for some milliseconds.
    pub const QUIET: Duration = Duration::from_millis(100);

    /// What to tell the gate now, if anything. `on` is the input as it is; `release` lets latch and barrier go if the
    /// input is still off, and says whether it did.
    pub fn look(
        &mut self,
        latch: &EmergencyLatch,
        on: bool,
        now: Instant,
        release: impl FnOnce() -> bool,
    ) -> Option<bool> {
        if !self.told {
            self.quiet = None;
            self.told = latch.is_on();
            return self.told.then_some(true);
        }
        if on {
            self.quiet = None;
            return None;
        }
        let since = *self.quiet.get_or_insert(now);
        if now.saturating_duration_since(since) < Self::QUIET || !release() {
            return None;
        }
        self.told = false;
        Some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulse_that_was_over_before_the_interrupt_came_opens_and_is_told_on_and_off() {
        let (latch, mut watch) = (EmergencyLatch::new(), EmergencyWatch::default());
        let at = Instant::from_millis;
        let never = || -> bool { panic!("released too early") };
        assert_eq!(watch.look(&latch, false, at(0), never), None);
        assert!(latch.strike(true, false), "the barrier opens");
        assert!(latch.is_on());
        assert_eq!(watch.look(&latch, false, at(5), never), Some(true));
        assert_eq!(watch.look(&latch, false, at(10), never), None);
        assert_eq!(watch.look(&latch, false, at(109), never), None);
        let release = || {
            latch.clear();
            true
        };
        assert_eq!(watch.look(&latch, false, at(110), release), Some(false));
        assert_eq!(watch.look(&latch, false, at(300), never), None);
    }

    #[test]
    fn the_level_decides_once_the_edge_was_seen() {
        let (latch, mut watch) = (EmergencyLatch::new(), EmergencyWatch::default());
        let at = Instant::from_millis;
        assert!(!latch.strike(false, false), "another input's interrupt");
        assert!(latch.strike(false, true));
        assert_eq!(watch.look(&latch, true, at(0), || false), Some(true));
        assert_eq!(watch.look(&latch, true, at(1_000), || panic!("it is on")), None);
        assert_eq!(watch.look(&latch, false, at(1_010), || panic!("it may bounce")), None);
        assert_eq!(watch.look(&latch, true, at(1_050), || panic!("it bounced")), None);
        assert_eq!(watch.look(&latch, false, at(1_060), || panic!("anew")), None);
        assert_eq!(watch.look(&latch, false, at(1_160), || false), None, "it came on just then");
        assert!(latch.is_on());
    }
}
