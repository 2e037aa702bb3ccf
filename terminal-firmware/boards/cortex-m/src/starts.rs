//! How often a gate starts: each start wears the flash, so one that comes after a run that soon ended waits.

/// Seconds before the gate starts again. Each further time it is twice as long, up to ten minutes.
const PAUSE_S: u64 = 10;
const DOUBLINGS: u32 = 6;
/// After so many seconds a run is a good one, and what was before it no longer counts.
pub const GOOD_S: u64 = 60;

/// The runs so far, since power came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Starts {
    /// Runs in a row, this one included, that have not turned for [`GOOD_S`].
    short: u32,
    /// Not zero where the last run has waited before its reset.
    rested: u32,
}

impl Starts {
    /// None yet.
    pub const NONE: Self = Self { short: 0, rested: 0 };

    /// A run begins, be it after a panic, a fault, the watchdog or a lock-up. Gives the seconds that it has to wait
    /// first: none after a good run, nor where the run before has waited.
    pub fn begin(&mut self) -> u64 {
        let waits = self.short > 0 && self.rested == 0;
        let pause = if waits { self.pause_s() } else { 0 };
        *self = Self { short: self.short.saturating_add(1), rested: 0 };
        pause
    }

    /// The run stops by itself, and waits for the seconds that this gives before its reset.
    pub fn stop(&mut self) -> u64 {
        self.rested = 1;
        self.pause_s()
    }

    /// The run has turned for [`GOOD_S`]. True where that is new.
    pub fn good(&mut self) -> bool {
        core::mem::take(&mut self.short) > 0
    }

    fn pause_s(&self) -> u64 {
        PAUSE_S << self.short.saturating_sub(1).min(DOUBLINGS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_in_a_row_wait_longer_and_longer_and_a_good_run_ends_that() {
        let mut starts = Starts::NONE;
        let pauses: [u64; 10] = core::array::from_fn(|_| starts.begin());
        assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 320, 640, 640, 640]);
        assert!(starts.good() && !starts.good());
        assert_eq!(core::array::from_fn(|_| starts.begin()), [0, 10, 20], "after a good run at once");
    }

    #[test]
    fn a_run_that_stops_waits_before_its_reset_and_not_again_after_it() {
        let mut starts = Starts::NONE;
        assert_eq!([starts.begin(), starts.stop()], [0, 10]);
        assert_eq!([starts.begin(), starts.stop()], [0, 20]);
        assert_eq!([starts.begin(), starts.begin()], [0, 40], "resets and stops count together");
        starts.good();
        assert_eq!([starts.stop(), starts.begin(), starts.stop()], [10, 0, 10]);
    }
}
