//! A gate that cannot start or go on: it shows so, keeps obeying the emergency input, and may be started again.

use crate::hardware::{Panel, PanelEvent, Sign};
use core::future::{Future, pending};
use embassy_futures::select::{Either, select};
use embassy_time::{Duration, Instant, Timer};

/// How often whatever waits feeds the watchdog.
pub(crate) const FEED: Duration = Duration::from_secs(1);
/// How long a start may take, as long as it goes on: a full journal is read and checked in some seconds.
const START_S: u32 = 60;

/// Stays out of service and follows the emergency input. Returns after `pause`, where there is one, but never while the
/// emergency input is on: a restart closes the barrier for a moment. `alive` feeds the watchdog.
pub async fn out_of_service(panel: &mut impl Panel, pause: Option<Duration>, mut alive: impl FnMut()) {
    let end = pause.map(|pause| Instant::now() + pause);
    let mut emergency = panel.emergency();
    show(panel, emergency);
    while emergency || end.is_none_or(|end| Instant::now() < end) {
        alive();
        if let Either::First(PanelEvent::Emergency { active }) =
            select(panel.event(), Timer::after(FEED)).await
        {
            emergency = active;
            show(panel, emergency);
        }
    }
}

fn show(panel: &mut impl Panel, emergency: bool) {
    panel.barrier(emergency);
    panel.show(if emergency { Sign::Emergency } else { Sign::OutOfService });
}

/// Feeds the watchdog while a start goes on, but no longer than a sound start takes. A start that hangs and lets nothing
/// else run feeds nothing.
pub async fn while_starting<T>(start: impl Future<Output = T>, alive: impl FnMut()) -> T {
    fed(start, FEED, START_S, alive).await
}

async fn fed<T>(work: impl Future<Output = T>, every: Duration, times: u32, mut alive: impl FnMut()) -> T {
    let feed = async {
        for _ in 0..times {
            alive();
            Timer::after(every).await;
        }
        pending().await
    };
    match select(work, feed).await {
        Either::First(done) | Either::Second(done) => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;
    use core::future::poll_fn;
    use core::task::Poll;
    use std::collections::VecDeque;
    use std::vec::Vec;
    use wavepass_journal::sim::block_on;

    #[derive(Debug, PartialEq)]
    enum Did {
        Barrier(bool),
        Show(Sign),
    }

    struct Inputs {
        emergency: bool,
        events: VecDeque<PanelEvent>,
        did: Vec<Did>,
    }

    impl Panel for Inputs {
        fn show(&mut self, sign: Sign) {
            self.did.push(Did::Show(sign));
        }

        fn barrier(&mut self, open: bool) {
            self.did.push(Did::Barrier(open));
        }

        fn emergency(&self) -> bool {
            self.emergency
        }

        async fn event(&mut self) -> PanelEvent {
            match self.events.pop_front() {
                Some(event) => event,
                None => pending().await,
            }
        }
    }

    #[test]
    fn out_of_service_the_emergency_input_is_obeyed_and_no_restart_comes_while_it_is_on() {
        let events = [PanelEvent::Passed, PanelEvent::Emergency { active: false }].into();
        let mut panel = Inputs { emergency: true, events, did: Vec::new() };
        let mut fed = 0;
        block_on(out_of_service(&mut panel, Some(Duration::from_ticks(0)), || fed += 1));
        let (open, closed) = (Did::Barrier(true), Did::Barrier(false));
        assert_eq!(panel.did, [open, Did::Show(Sign::Emergency), closed, Did::Show(Sign::OutOfService)]);
        assert_eq!(fed, 2, "every wait feeds the watchdog");
    }

    #[test]
    fn without_a_pause_it_stays_so() {
        let mut panel = Inputs { emergency: false, events: VecDeque::new(), did: Vec::new() };
        let fed = Cell::new(0);
        let stay = out_of_service(&mut panel, None, || fed.set(fed.get() + 1));
        // Two feeds, and it is still there.
        let seen = poll_fn(|_| if fed.get() >= 2 { Poll::Ready(()) } else { Poll::Pending });
        assert!(matches!(block_on(select(stay, seen)), Either::Second(())));
        assert_eq!(panel.did, [Did::Barrier(false), Did::Show(Sign::OutOfService)]);
    }

    #[test]
    fn a_start_is_fed_while_it_goes_on_but_not_for_ever() {
        let tick = Duration::from_millis(1);
        let fed_so_far = Cell::new(0);
        let alive = || fed_so_far.set(fed_so_far.get() + 1);
        let start = poll_fn(|_| if fed_so_far.get() >= 3 { Poll::Ready(7) } else { Poll::Pending });
        assert_eq!(block_on(fed(start, tick, 100, alive)), 7);
        fed_so_far.set(0);
        block_on(fed(Timer::after_millis(50), tick, 4, alive));
        assert_eq!(fed_so_far.get(), 4);
    }
}
