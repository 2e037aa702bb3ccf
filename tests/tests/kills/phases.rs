//! Which phase of a day runs, told to whoever kills in one of them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use wavepass_tests::processes::{House, Victim};

/// How often it is looked which phase runs.
const LOOK: Duration = Duration::from_micros(100);

/// What of a day is going on, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Taps come in, and risk looks at them.
    Taps,
    /// They are priced, and the batch is sealed.
    Close,
    /// The bank is asked.
    Deduction,
    /// What was left in doubt is asked again: nobody is killed then.
    Doubt,
    /// The operators are settled.
    Settlement,
    /// The day is done.
    Over,
}

/// Those in which one is killed.
pub const PHASES: [Phase; 4] = [Phase::Taps, Phase::Close, Phase::Deduction, Phase::Settlement];
/// Something for each phase, by its place in the day.
pub type OfEach<T> = [T; Phase::Over as usize + 1];

/// A day that is being played.
#[derive(Default)]
pub struct Stage {
    running: AtomicUsize,
    began: Mutex<OfEach<Option<Instant>>>,
}

impl Stage {
    /// A phase begins; one that is over does not come back.
    pub fn enter(&self, phase: Phase) {
        let mut began = self.began.lock().unwrap();
        if self.running.fetch_max(phase as usize, Ordering::SeqCst) <= phase as usize {
            began[phase as usize] = Some(Instant::now());
        }
    }

    fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    /// How long each phase took that both began and was followed by another.
    pub fn lengths(&self) -> OfEach<Duration> {
        let began = self.began.lock().unwrap();
        let next = |place: usize| began[place + 1..].iter().flatten().next();
        std::array::from_fn(|place| match (began[place], next(place)) {
            (Some(from), Some(upto)) => upto.duration_since(from),
            _ => Duration::ZERO,
        })
    }

    /// One command closes and deducts: what lies between the two is the day's batch, sealed. Ends with the close.
    pub fn watch_close(&self, house: &House, date: &str) {
        let path = format!("/v1/days/{date}/report");
        for n in (0..house.gateways()).cycle() {
            if self.running() > Phase::Close as usize {
                return;
            }
            // A gateway that was killed says nothing; another does, or the same one later.
            let report = house.get_once(n, &path);
            if report.is_ok_and(|report| report["batches"].as_array().is_some_and(|all| !all.is_empty())) {
                self.enter(Phase::Deduction);
            }
        }
    }
}

/// Whom to kill, in which phase, and how long after its beginning.
#[derive(Debug, Clone, Copy)]
pub struct Strike {
    /// Whom.
    pub victim: Victim,
    /// In which phase.
    pub phase: Phase,
    /// How long after it began.
    pub wait: Duration,
}

impl Strike {
    /// Waits for the moment, and kills; true if it found its phase under way.
    pub fn land(self, house: &House, stage: &Stage) -> bool {
        while stage.running() < self.phase as usize {
            std::thread::sleep(LOOK);
        }
        std::thread::sleep(self.wait);
        let found = stage.running() == self.phase as usize;
        house.kill(self.victim).unwrap();
        found
    }
}
