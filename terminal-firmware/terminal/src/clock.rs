//! The wall clock of a gate: what the host last told, run on by the board's own timer.

use embassy_time::{Duration, Instant};
use wavepass_gate::Now;
use wavepass_protocol::tap::ClockQuality;
use wavepass_protocol::time::UnixMs;

/// How long a time from the host counts as synchronised: crystals of 20 ppm drift 1.7 s in a day.
const SYNCHRONISED: Duration = Duration::from_secs(24 * 3600);

/// The clock. It is unset until the host has told the time once since power came.
#[derive(Default)]
pub struct Clock {
    told: Option<(UnixMs, Instant)>,
}

impl Clock {
    /// The host told the time.
    pub fn set(&mut self, time: UnixMs, at: Instant) {
        self.told = Some((time, at));
    }

    /// The time, and how far it can be trusted.
    pub fn now(&self, at: Instant) -> Now {
        let Some((told, when)) = self.told else {
            return Now { time: UnixMs(0), quality: ClockQuality::Unset };
        };
        let since = at.saturating_duration_since(when);
        let quality = if since <= SYNCHRONISED { ClockQuality::Synchronised } else { ClockQuality::Free };
        Now { time: UnixMs(told.0.saturating_add(since.as_millis())), quality }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_unset_until_told_then_synchronised_for_a_day_then_free() {
        let at = |s| Instant::from_secs(s);
        let mut clock = Clock::default();
        assert_eq!(clock.now(at(5)).quality, ClockQuality::Unset);
        clock.set(UnixMs(1_000_000), at(10));
        let now = clock.now(at(12));
        assert_eq!((now.time, now.quality), (UnixMs(1_002_000), ClockQuality::Synchronised));
        assert_eq!(clock.now(at(10 + 24 * 3600)).quality, ClockQuality::Synchronised);
        assert_eq!(clock.now(at(11 + 24 * 3600)).quality, ClockQuality::Free);
        assert_eq!(clock.now(at(0)).time, UnixMs(1_000_000), "time never runs backwards from what was told");
    }
}
