//! The gateway's clock: the system's, or one that an operator of a simulation moves by hand.
//!
//! A driven clock begins at the newest time that the store knows of (`Store::newest_time`). Over an empty store it was
//! never told the time, and reads [`NEVER_TOLD`]: nothing is signed, booked or audited until it is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use wavepass_protocol::time::UnixMs;

/// What a clock reads that was never told the time.
pub const NEVER_TOLD: UnixMs = UnixMs(0);

/// Where the gateway takes the time from.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> UnixMs;
    /// The clock that can be moved, if this is one.
    fn driven(&self) -> Option<&Driven> {
        None
    }
}

/// The system's clock.
pub struct System;

impl Clock for System {
    fn now(&self) -> UnixMs {
        // A clock before 1970 was never set.
        UnixMs(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |d| d.as_millis().try_into().unwrap_or(u64::MAX)),
        )
    }
}

/// A clock that stands still until it is set.
pub struct Driven {
    now: AtomicU64,
}

/// The clock was asked to go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the clock stands at {stands} ms and does not go back to {asked} ms")]
pub struct Backwards {
    /// Where it stands.
    pub stands: u64,
    /// What was asked.
    pub asked: u64,
}

impl Driven {
    /// A clock that stands at `start`; [`NEVER_TOLD`] for one that waits to be told.
    pub const fn new(start: UnixMs) -> Self {
        Self { now: AtomicU64::new(start.0) }
    }

    /// Moves it on; the same time again is no move.
    pub fn set(&self, to: UnixMs) -> Result<(), Backwards> {
        let stands = self.now.fetch_max(to.0, Ordering::AcqRel);
        if stands > to.0 { Err(Backwards { stands, asked: to.0 }) } else { Ok(()) }
    }
}

impl Clock for Driven {
    fn now(&self) -> UnixMs {
        UnixMs(self.now.load(Ordering::Acquire))
    }

    fn driven(&self) -> Option<&Driven> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driven_clock_never_goes_back() {
        let clock = Driven::new(UnixMs(10));
        clock.set(UnixMs(20)).unwrap();
        assert_eq!(clock.set(UnixMs(19)), Err(Backwards { stands: 20, asked: 19 }));
        assert_eq!(clock.now(), UnixMs(20));
    }
}
