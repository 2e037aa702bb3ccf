//! Openings whose outcome is not known yet, oldest first.
//!
//! Riders follow each other closely: the next card opens before the sensors have told of the rider before. They go
//! through in the order in which they were let in, so what a sensor tells is of the oldest. But one on whom the barrier
//! has closed is passed over, as soon as the next has had time to walk to the sensor. Where two were let in and one
//! passage was seen, nobody can be sure whose it was; then the other, should no sensor tell of it, is not known to have
//! stayed out.

use crate::hardware::Sign;
use embassy_time::{Duration, Instant};
use heapless::Vec;
use wavepass_protocol::tap::Outcome;

/// How long the way stays free for a rider who was let in.
const PASSAGE: Duration = Duration::from_secs(8);
/// How much later a sensor may still tell of it.
const LATE: Duration = Duration::from_secs(4);
/// What nobody is faster than from the opening to the sensor.
const WALK: Duration = Duration::from_millis(1_500);
/// How many may wait: riders a second apart, for as long as an opening waits at most, are not more than fit a passage.
const MOST: usize = 4;

struct Opening {
    sequence: u32,
    again: bool,
    opened: Instant,
    /// The barrier is still open for it.
    is_open: bool,
    /// A passage that was taken for another's may have been this one's.
    is_doubtful: bool,
}

impl Opening {
    fn closes(&self) -> Instant {
        self.opened + PASSAGE
    }

    const fn unseen(&self) -> (u32, Outcome) {
        (self.sequence, if self.is_doubtful { Outcome::Unknown } else { Outcome::NotPassed })
    }
}

/// The openings of one barrier.
#[derive(Default)]
pub(crate) struct Openings(Vec<Opening, MOST>);

impl Openings {
    /// The gate has opened for a tap. Gives what is to be journaled of one for which there is no more room.
    pub(crate) fn opened(&mut self, sequence: u32, again: bool, now: Instant) -> Option<(u32, Outcome)> {
        let full = self.0.is_full() && self.0.iter().all(|o| o.sequence != sequence);
        let given_up = full.then(|| (self.0.remove(0).sequence, Outcome::Unknown));
        self.0.retain(|o| o.sequence != sequence);
        let opening = Opening { sequence, again, opened: now, is_open: true, is_doubtful: false };
        // There is room: where there was none, the oldest has gone.
        let _ = self.0.push(opening);
        given_up
    }

    /// A sensor told of somebody: the tap it counts for; `None` where nobody was let in.
    pub(crate) fn sensed(&mut self, now: Instant) -> Option<u32> {
        let walked = self.0.iter().position(|o| o.is_open && now >= o.opened + WALK);
        let at = walked.or_else(|| (!self.0.is_empty()).then_some(0))?;
        let seen = self.0.remove(at);
        self.0.iter_mut().skip(at).for_each(|o| o.is_doubtful = true);
        Some(seen.sequence)
    }

    /// Lets the way be closed for those whose time is over; true if one of them was still open.
    pub(crate) fn close(&mut self, now: Instant) -> bool {
        let over = self.0.iter_mut().filter(|o| now >= o.closes());
        over.filter_map(|o| core::mem::take(&mut o.is_open).then_some(())).count() > 0
    }

    /// The next one of which no sensor has told for too long, with its outcome.
    pub(crate) fn overdue(&mut self, now: Instant) -> Option<(u32, Outcome)> {
        let at = self.0.iter().position(|o| now >= o.closes() + LATE)?;
        Some(self.0.remove(at).unseen())
    }

    /// Whether the way is open for anybody.
    pub(crate) fn is_open(&self) -> bool {
        self.0.iter().any(|o| o.is_open)
    }

    /// What shows that the way is open: the newest.
    pub(crate) fn sign(&self) -> Option<Sign> {
        let newest = self.0.iter().rfind(|o| o.is_open)?;
        Some(Sign::Open { sequence: newest.sequence, again: newest.again })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Instant {
        Instant::from_secs(seconds)
    }

    #[test]
    fn passages_belong_to_openings_in_their_order() {
        let mut openings = Openings::default();
        assert_eq!(openings.sensed(at(0)), None);
        for (sequence, second) in [(1, 0), (2, 1), (4, 2)] {
            assert_eq!(openings.opened(sequence, false, at(second)), None);
        }
        assert_eq!(openings.sensed(at(2)), Some(1));
        assert!(openings.is_open(), "for the others");
        let seen = [3, 3, 4].map(|second| openings.sensed(at(second)));
        assert_eq!(seen, [Some(2), Some(4), None]);
        assert!(!openings.is_open());
    }

    #[test]
    fn an_opening_closes_waits_for_a_late_sensor_and_is_then_known_not_to_be_used() {
        let mut openings = Openings::default();
        openings.opened(7, false, at(0));
        assert!(!openings.close(at(7)) && openings.is_open());
        assert!(openings.close(at(8)) && !openings.close(at(8)) && !openings.is_open());
        assert_eq!(openings.overdue(at(11)), None);
        assert_eq!(openings.overdue(at(12)), Some((7, Outcome::NotPassed)));
        assert_eq!(openings.overdue(at(12)), None);
    }

    #[test]
    fn a_late_passage_of_the_one_before_does_not_close_the_way_of_the_next() {
        let mut openings = Openings::default();
        openings.opened(1, false, at(0));
        openings.close(at(8));
        openings.opened(2, false, at(9));
        assert_eq!(openings.sensed(at(10)), Some(1), "nobody walks so fast");
        assert!(openings.is_open());
        assert_eq!(openings.sign(), Some(Sign::Open { sequence: 2, again: false }));
        // It may have been the second one's after all.
        assert_eq!(openings.overdue(at(21)), Some((2, Outcome::Unknown)));
    }

    #[test]
    fn one_on_whom_the_barrier_has_closed_is_passed_over_once_the_next_has_had_time_to_walk() {
        let mut openings = Openings::default();
        openings.opened(1, false, at(0));
        openings.close(at(8));
        openings.opened(2, false, at(9));
        assert_eq!(openings.sensed(at(11)), Some(2));
        assert!(!openings.is_open());
        assert_eq!(openings.overdue(at(12)), Some((1, Outcome::NotPassed)));
    }

    #[test]
    fn the_same_tap_again_is_one_opening() {
        let mut openings = Openings::default();
        openings.opened(1, false, at(0));
        openings.opened(1, true, at(6));
        assert!(!openings.close(at(10)));
        assert_eq!(openings.sign(), Some(Sign::Open { sequence: 1, again: true }));
        assert_eq!((openings.sensed(at(9)), openings.sensed(at(9))), (Some(1), None));
    }

    #[test]
    fn of_more_than_fit_the_oldest_is_given_up_as_unknown() {
        let mut openings = Openings::default();
        for sequence in 1..=4 {
            assert_eq!(openings.opened(sequence, false, at(0)), None);
        }
        assert_eq!(openings.opened(4, true, at(1)), None);
        assert_eq!(openings.opened(5, false, at(1)), Some((1, Outcome::Unknown)));
        assert_eq!(openings.sensed(at(1)), Some(2));
    }
}
