//! Batches that wait for the pipeline, and who of them goes next.
//!
//! A thousand gates that return after an outage hand in more than a minute's work at once, and riders go on tapping at
//! the others. So batches wait in lanes, one for each gate, and a group is made of two halves. The first goes to the
//! lanes with the fewest entries, the shortest first: a tap that was just made is in the next group, whatever waits
//! beside it. The rest is given in turn, a batch at a time, so that no lane waits for ever. Within a lane the order is
//! that of the gate.

use super::{IntakeError, Item, Job, MAX_WAITING, Reply, Source};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use wavepass_protocol::dukpt::KeyId;

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Lane {
    /// A gate's: its batches go in order.
    Gate(KeyId),
    /// That of one batch of a concentrator, a file or a test: whoever needs an order waits for the answer.
    Batch(u64),
}

struct Waiting {
    job: Job,
    /// None for a gate's first batch.
    _place: Option<OwnedSemaphorePermit>,
}

/// What waits in one lane.
#[derive(Default)]
struct Line {
    batches: VecDeque<Waiting>,
    entries: usize,
}

#[derive(Default)]
struct State {
    lines: HashMap<Lane, Line>,
    /// Every lane once, the one that has waited longest for its turn first.
    turns: VecDeque<Lane>,
    /// Batches that had no gate so far.
    named: u64,
    closed: bool,
}

/// The queue between whoever brings entries and the pipeline's first stage.
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Notify,
    /// For all batches but a gate's first: a gate that has one tap never waits for a place behind those with thousands.
    places: Arc<Semaphore>,
}

impl Queue {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            filled: Notify::new(),
            places: Arc::new(Semaphore::new(MAX_WAITING)),
        })
    }

    /// Takes a batch in, once there is a place for it.
    pub(super) async fn push(
        &self,
        source: Source,
        items: Vec<Item>,
        reply: Reply,
    ) -> Result<(), IntakeError> {
        let job = Job { source, items, reply };
        let place = match source {
            Source::Gate(key_id) if !self.locked().lines.contains_key(&Lane::Gate(key_id)) => None,
            _ => Some(self.places.clone().acquire_owned().await.map_err(|_| IntakeError::Stopped)?),
        };
        let mut state = self.locked();
        if state.closed {
            return Err(IntakeError::Stopped);
        }
        state.push(Waiting { job, _place: place });
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// The next group, of about so many entries; `None` once nobody hands in any more and nothing waits.
    pub(super) async fn next(&self, about: usize) -> Option<Vec<Job>> {
        loop {
            let filled = self.filled.notified();
            {
                let mut state = self.locked();
                let group = state.take(about);
                if !group.is_empty() {
                    return Some(group);
                }
                if state.closed {
                    return None;
                }
            }
            filled.await;
        }
    }

    /// Nothing more is taken in; what waits is still given out.
    pub(super) fn close(&self) {
        self.locked().closed = true;
        self.places.close();
        self.filled.notify_one();
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, waiting: Waiting) {
        let lane = match waiting.job.source {
            Source::Gate(key_id) => Lane::Gate(key_id),
            Source::Batch => {
                self.named += 1;
                Lane::Batch(self.named)
            }
        };
        let line = self.lines.entry(lane).or_insert_with(|| {
            self.turns.push_back(lane);
            Line::default()
        });
        line.entries += waiting.job.items.len();
        line.batches.push_back(waiting);
    }

    /// Takes a group of `about` entries. The last of its batches may go beyond that: one is taken in turn, however large.
    fn take(&mut self, about: usize) -> Vec<Job> {
        let mut group = Vec::new();
        let mut size = 0;
        for lane in self.shortest(about / 2) {
            let Some(line) = self.lines.remove(&lane) else { continue };
            size += line.entries;
            group.extend(line.batches.into_iter().map(|waiting| waiting.job));
        }
        let Self { lines, turns, .. } = self;
        turns.retain(|lane| lines.contains_key(lane));
        let mut in_turn = 0;
        while let Some(lane) = turns.pop_front() {
            let Some(line) = lines.get_mut(&lane) else { continue };
            let Some(next) = line.batches.front() else { continue };
            let len = next.job.items.len();
            if size + len > about && in_turn > 0 {
                turns.push_front(lane);
                break;
            }
            in_turn += 1;
            size += len;
            line.entries -= len;
            group.extend(line.batches.pop_front().map(|waiting| waiting.job));
            if line.batches.is_empty() {
                lines.remove(&lane);
            } else {
                turns.push_back(lane);
            }
        }
        group
    }

    /// The lanes with the fewest entries that have at most so many together; of equals, those that wait longer.
    fn shortest(&self, most: usize) -> Vec<Lane> {
        let entries = |lane: &Lane| self.lines.get(lane).map_or(0, |line| line.entries);
        let mut lanes: Vec<(usize, Lane)> = self.turns.iter().map(|lane| (entries(lane), *lane)).collect();
        // Stable: equals stay in the order of their turns.
        lanes.sort_by_key(|(entries, _)| *entries);
        let mut sum = 0;
        let fits = |(entries, _): &(usize, Lane)| {
            sum += entries;
            sum <= most
        };
        lanes.into_iter().take_while(fits).map(|(_, lane)| lane).collect()
    }
}

/// Those who hand in: the queue is closed with the last of them.
pub(super) struct Mouth(pub(super) Arc<Queue>);

impl Drop for Mouth {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The stage that takes out. Once it is gone, what waits is dropped, and so its senders are told.
pub(super) struct Outlet(pub(super) Arc<Queue>);

impl Drop for Outlet {
    fn drop(&mut self) {
        self.0.close();
        let mut state = self.0.locked();
        state.lines.clear();
        state.turns.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use tokio::sync::oneshot;

    /// As intake makes them.
    const ABOUT: usize = super::super::MAX_GROUP;

    fn gate(n: u8) -> Source {
        Source::Gate(KeyId([n; 8]))
    }

    /// Hands in a batch of so many entries, which all say `mark`.
    fn hand_in(state: &mut State, source: Source, entries: usize, mark: u8) {
        let items = (0..entries).map(|_| Item::Entry(vec![mark])).collect();
        let job = Job { source, items, reply: oneshot::channel().0 };
        state.push(Waiting { job, _place: None });
    }

    /// What a group holds: source, entries and mark of each batch.
    fn told(group: &[Job]) -> Vec<(Source, usize, u8)> {
        group.iter().map(|job| (job.source, job.items.len(), job.items[0].sealed()[0])).collect()
    }

    #[test]
    fn a_tap_that_comes_behind_a_thousand_large_batches_is_in_the_next_group() {
        let mut state = State::default();
        for n in 0..1_000_u16 {
            let [high, low] = n.to_be_bytes();
            hand_in(&mut state, Source::Gate(KeyId([1, high, low, 0, 0, 0, 0, 0])), 150, 0);
        }
        hand_in(&mut state, gate(9), 1, 7);
        let group = state.take(ABOUT);
        assert!(told(&group).contains(&(gate(9), 1, 7)));
        // It is no group of its own: the others go on as well.
        let entries: usize = group.iter().map(|job| job.items.len()).sum();
        assert!((ABOUT - 150..=ABOUT).contains(&entries), "{entries}");
    }

    #[test]
    fn a_large_batch_has_its_turn_however_many_small_ones_keep_coming() {
        let mut state = State::default();
        hand_in(&mut state, Source::Batch, super::super::MAX_BATCH, 7);
        for n in 0..255 {
            hand_in(&mut state, gate(n), 40, 1);
        }
        let groups: Vec<_> = (0..2).map(|_| told(&state.take(ABOUT))).collect();
        assert!(groups[0].len() > 1, "the small ones go on beside it");
        assert!(groups.iter().flatten().any(|(_, _, mark)| *mark == 7), "{groups:?}");
    }

    #[test]
    fn those_that_return_are_served_in_turn_a_batch_at_a_time() {
        let mut state = State::default();
        for _ in 0..20 {
            hand_in(&mut state, gate(1), 150, 0);
        }
        for n in 2..=40 {
            hand_in(&mut state, gate(n), 150, 0);
            hand_in(&mut state, gate(n), 150, 0);
        }
        let first = told(&state.take(ABOUT));
        let of_the_first = first.iter().filter(|(source, ..)| *source == gate(1)).count();
        assert_eq!(of_the_first, 1, "{first:?}");
    }

    #[test]
    fn a_gate_s_batches_keep_their_order_and_each_is_given_out_once() {
        let mut state = State::default();
        let mut given: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
        let mut note = |group: Vec<Job>| {
            for (source, _, mark) in told(&group) {
                let Source::Gate(KeyId([n, ..])) = source else { panic!("{source:?}") };
                given.entry(n).or_default().push(mark);
            }
        };
        for mark in 0..20_u8 {
            for n in 0..50_u8 {
                // Small and large ones of each gate, mixed.
                let entries = 1 + usize::from(mark) * (usize::from(n) * 7 % 13) * 4;
                hand_in(&mut state, gate(n), entries, mark);
            }
            note(state.take(ABOUT));
        }
        loop {
            let group = state.take(ABOUT);
            if group.is_empty() {
                break;
            }
            note(group);
        }
        assert_eq!(given.len(), 50);
        assert!(given.values().all(|marks| *marks == (0..20).collect::<Vec<u8>>()), "{given:?}");
        assert!(state.turns.is_empty() && state.lines.is_empty());
    }

    #[tokio::test]
    async fn a_gate_s_first_batch_is_let_in_where_all_places_are_taken_and_no_further_one() {
        let queue = Queue::new();
        let push = |source| queue.push(source, vec![Item::Entry(vec![0])], oneshot::channel().0);
        for _ in 0..MAX_WAITING {
            push(Source::Batch).await.unwrap();
        }
        push(gate(1)).await.unwrap();
        let mut second = std::pin::pin!(push(gate(1)));
        let mut other = std::pin::pin!(push(Source::Batch));
        let polled = std::future::poll_fn(|context| {
            let waits = |poll: std::task::Poll<_>| poll.is_pending();
            std::task::Poll::Ready((
                waits(second.as_mut().poll(context)),
                waits(other.as_mut().poll(context)),
            ))
        });
        assert_eq!(polled.await, (true, true));
        assert_eq!(queue.next(ABOUT).await.unwrap().len(), MAX_WAITING + 1);
        second.await.unwrap();
        other.await.unwrap();
        queue.close();
        assert!(push(gate(2)).await.is_err());
        assert_eq!(queue.next(ABOUT).await.unwrap().len(), 2, "what was taken in is still given out");
        assert!(queue.next(ABOUT).await.is_none());
    }
}
