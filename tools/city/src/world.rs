//! The day as it will be: who rides, with which card, when and where, and what each gate ought to answer.
//!
//! Everything follows from the seed. Nothing is played here; the plan is pure, so that a day that was cut
//! short is planned again and goes on where it stopped.

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use wavepass_protocol::tap::{Direction, Outcome, Reason};
use wavepass_protocol::time::UnixMs;

/// Length of a step, ms. Alerts and lists take effect at a step's end.
pub const STEP_MS: u64 = 600_000;
/// The first tap of the day comes no earlier than 06:00, the last entry no later than 22:00.
const FIRST_STEP: u64 = 12;
const LAST_ENTRY_STEP: u64 = 108;
/// The last step of the day's play ends at 23:30.
pub const STEPS: u64 = 117;
/// Two presentations at one gate are at least this far apart, ms.
const SPACING_MS: u64 = 500;
/// The most gates: each has some megabytes of flash, in memory and on disk.
const MAX_GATES: u32 = 1_000;
/// The most phones: a file and some kilobytes of memory each.
const MAX_PHONES: u32 = 1_000_000;
/// A rider who did not get through waves again this much later, ms.
const AGAIN_MS: u64 = 4_000;

/// What is wrong with a card, or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A good phone of the house.
    Phone,
    /// A good plastic card with RSA.
    Plastic,
    /// The token's month has passed.
    Expired,
    /// The token's first day has not come.
    NotYetValid,
    /// Its dynamic signature is made up.
    ForgedSignature,
    /// Its issuer is certified by an authority nobody knows.
    ForeignAuthority,
    /// It replays what a genuine phone answered earlier.
    Replayed,
    /// On the deny list since before the day.
    Denied,
    /// Its counter never moved.
    Unused,
    /// It answers nonsense.
    Broken,
    /// It answers too late.
    Slow,
    /// It gives no ARQC.
    NoCryptogram,
    /// It leaves the field half-way.
    Removed,
    /// Two cards at once.
    TwoAtOnce,
    /// It has no application for transit.
    Stranger,
    /// Its domain is another network.
    OtherNetwork,
    /// A good phone that somebody copied, keys and all.
    Victim,
    /// The copy.
    Clone,
    /// A good phone whose owner walks through and hands it back over the gate.
    HandedBack,
}

/// The planted kinds with what a gate must answer, and their share of all cards in one part of 10,000.
const PLANTED: [(Kind, u32); 17] = [
    (Kind::Plastic, 300),
    (Kind::Expired, 40),
    (Kind::NotYetValid, 40),
    (Kind::ForgedSignature, 40),
    (Kind::ForeignAuthority, 40),
    (Kind::Replayed, 40),
    (Kind::Denied, 40),
    (Kind::Unused, 40),
    (Kind::Broken, 40),
    (Kind::Slow, 40),
    (Kind::NoCryptogram, 40),
    (Kind::Removed, 40),
    (Kind::TwoAtOnce, 20),
    (Kind::Stranger, 40),
    (Kind::OtherNetwork, 40),
    (Kind::Victim, 20),
    (Kind::HandedBack, 40),
];

impl Kind {
    /// The reason for which a gate refuses such a card whenever it is presented; none for those that open.
    pub fn refusal(self) -> Option<Reason> {
        match self {
            Self::Phone | Self::Plastic | Self::Victim | Self::Clone | Self::HandedBack => None,
            Self::Expired => Some(Reason::Expired),
            Self::NotYetValid => Some(Reason::NotYetValid),
            Self::ForgedSignature | Self::ForeignAuthority | Self::Replayed => {
                Some(Reason::AuthenticationFailed)
            }
            Self::Denied => Some(Reason::Denied),
            Self::Unused => Some(Reason::UnusedCard),
            Self::Broken => Some(Reason::CardError),
            Self::Slow => Some(Reason::TooSlow),
            Self::NoCryptogram => Some(Reason::NoCryptogram),
            Self::Removed => Some(Reason::CardRemoved),
            Self::TwoAtOnce => Some(Reason::SeveralCards),
            Self::Stranger => Some(Reason::NoApplication),
            Self::OtherNetwork => Some(Reason::NotAcceptedHere),
        }
    }
}

/// One card of the city.
#[derive(Debug, Clone)]
pub struct Card {
    /// What it is.
    pub kind: Kind,
    /// The card it copies, for a [`Kind::Clone`].
    pub copies: Option<usize>,
    /// Fen on its e-account in the morning.
    pub balance_fen: i64,
}

/// A gate of the city.
#[derive(Debug, Clone)]
pub struct GatePlan {
    /// Its number, from 1.
    pub id: u32,
    /// Index of its station.
    pub station: usize,
    /// Which way.
    pub direction: Direction,
}

/// What the gate must answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// It opens with a new tap.
    Open,
    /// It opens as the same tap.
    Again,
    /// It refuses.
    Refuse(Reason),
}

/// One presentation.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    /// When.
    pub time: UnixMs,
    /// Which card.
    pub card: usize,
    /// What must come of it.
    pub expected: Expected,
    /// What the barrier's sensors see afterwards, where it opened.
    pub passage: Option<Outcome>,
}

/// The whole day.
pub struct World {
    /// Every card; the last ones are clones.
    pub cards: Vec<Card>,
    /// Every gate.
    pub gates: Vec<GatePlan>,
    /// Each gate's presentations, in order of time.
    pub events: Vec<Vec<Event>>,
    /// The start of the service day.
    pub start: UnixMs,
}

/// Why a day cannot be planned.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlanError {
    /// Fewer than two gates.
    #[error("a city needs at least 2 gates, not {0}: riders go in at one and out at another")]
    Gates(u32),
    /// No phones.
    #[error("a city needs at least 1 phone")]
    Phones,
    /// More gates than a city has.
    #[error(
        "a city has at most {MAX_GATES} gates, not {0}: each has some megabytes of flash, in memory and on disk"
    )]
    TooManyGates(u32),
    /// More phones than one process holds.
    #[error("a city has at most {MAX_PHONES} phones, not {0}: each is a file and is held in memory")]
    TooManyPhones(u32),
    /// More presentations than the riders can make.
    #[error("{phones} phones make {planned} taps in a day at the most, not {taps}: use more phones")]
    TooFewPhones {
        /// As asked.
        taps: u64,
        /// As asked.
        phones: u32,
        /// What they came to.
        planned: u64,
    },
    /// More presentations than the gates have time for.
    #[error("{taps} taps are more than {gates} gates have time for in a day: use at least {enough} gates")]
    TooManyTaps {
        /// As asked.
        taps: u64,
        /// As asked.
        gates: u32,
        /// What would do.
        enough: u64,
    },
}

/// What is asked of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Size {
    /// Presentations.
    pub taps: u64,
    /// Cards, clones aside.
    pub phones: u32,
    /// Gates.
    pub gates: u32,
    /// Where all chance comes from.
    pub seed: u64,
}

impl World {
    /// Plans a day that begins at `start` (04:00) on a network of `stations`.
    pub fn plan(size: Size, stations: usize, start: UnixMs) -> Result<Self, PlanError> {
        if size.gates < 2 {
            return Err(PlanError::Gates(size.gates));
        }
        if size.phones == 0 {
            return Err(PlanError::Phones);
        }
        if size.gates > MAX_GATES {
            return Err(PlanError::TooManyGates(size.gates));
        }
        if size.phones > MAX_PHONES {
            return Err(PlanError::TooManyPhones(size.phones));
        }
        // Half of a gate's slots may be used: rush hours and re-taps need the rest.
        let per_gate = (LAST_ENTRY_STEP - FIRST_STEP) * (STEP_MS / SPACING_MS) / 2;
        if size.taps > per_gate * u64::from(size.gates) {
            let enough = size.taps.div_ceil(per_gate);
            return Err(PlanError::TooManyTaps { taps: size.taps, gates: size.gates, enough });
        }
        let mut rng = ChaCha12Rng::seed_from_u64(size.seed);
        let cards = cards(size.phones, &mut rng);
        let gates = gates(size.gates, stations);
        let mut planner = Planner {
            rng,
            gates: &gates,
            slots: vec![Vec::new(); gates.len()],
            left: size.taps,
            pace: Pace::of(size),
        };
        planner.fill(&cards);
        if planner.left > 0 {
            let planned = size.taps - planner.left;
            return Err(PlanError::TooFewPhones { taps: size.taps, phones: size.phones, planned });
        }
        let slots = planner.slots;
        let events = slots.into_iter().map(|s| settle_times(s, start)).collect::<Option<_>>();
        let events = events.ok_or(PlanError::TooManyTaps {
            taps: size.taps,
            gates: size.gates,
            enough: u64::from(size.gates) * 2,
        })?;
        Ok(Self { cards, gates, events, start })
    }

    /// The step, from 0, in which an instant falls.
    #[cfg(test)]
    fn step_of(&self, time: UnixMs) -> u64 {
        (time.0 - self.start.0) / STEP_MS
    }

    /// When a step ends.
    pub fn step_end(&self, step: u64) -> UnixMs {
        UnixMs(self.start.0 + (step + 1) * STEP_MS)
    }

    /// How many presentations the day has.
    pub fn presentations(&self) -> u64 {
        self.events.iter().map(|e| e.len() as u64).sum()
    }
}

fn cards(phones: u32, rng: &mut ChaCha12Rng) -> Vec<Card> {
    let mut kinds = Vec::with_capacity(phones as usize);
    for (kind, share) in PLANTED {
        // At least one of each where there is room for all and most cards stay good.
        let count = if phones >= 100 { (u64::from(phones) * u64::from(share) / 10_000).max(1) } else { 0 };
        kinds.extend((0..count).map(|_| kind));
    }
    kinds.resize(phones as usize, Kind::Phone);
    kinds.shuffle(rng);
    let mut cards: Vec<Card> = kinds
        .into_iter()
        .map(|kind| {
            // One good rider in a hundred has no money, and as many have too little.
            let balance_fen = match (kind, rng.random_range(0..100)) {
                (Kind::Phone, 0) => 0,
                (Kind::Phone, 1) => 100,
                _ => rng.random_range(5_000..150_000),
            };
            Card { kind, copies: None, balance_fen }
        })
        .collect();
    let victims: Vec<usize> = (0..cards.len()).filter(|&i| cards[i].kind == Kind::Victim).collect();
    cards.extend(victims.into_iter().map(|i| Card { kind: Kind::Clone, copies: Some(i), balance_fen: 0 }));
    cards
}

fn gates(count: u32, stations: usize) -> Vec<GatePlan> {
    let directions = [Direction::Entry, Direction::Exit];
    (0..count)
        .map(|i| GatePlan {
            id: i + 1,
            station: (i / 2) as usize % stations,
            direction: directions[(i % 2) as usize],
        })
        .collect()
}

/// A presentation before its exact time within the step is settled.
#[derive(Debug, Clone, Copy)]
struct Slot {
    step: u64,
    offset_ms: u64,
    event: Event,
}

/// How dense a rider's day is.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Most steps between journeys.
    wait: u64,
    /// Most steps of a journey.
    ride: u64,
}

impl Pace {
    fn of(size: Size) -> Self {
        let journeys = size.taps.div_ceil(2 * u64::from(size.phones)).max(1);
        let room = (LAST_ENTRY_STEP - FIRST_STEP) * 3 / 4 / journeys;
        Self { wait: (room.saturating_sub(5) * 2).clamp(1, 24), ride: (room / 2).clamp(1, 7) }
    }
}

struct Planner<'g> {
    pace: Pace,
    rng: ChaCha12Rng,
    gates: &'g [GatePlan],
    slots: Vec<Vec<Slot>>,
    left: u64,
}

impl Planner<'_> {
    fn fill(&mut self, cards: &[Card]) {
        let mut next_free = vec![FIRST_STEP; cards.len()];
        for (card, planted) in cards.iter().enumerate() {
            match planted.kind {
                Kind::Clone => self.clone_attack(card, planted.copies.unwrap_or(card), &mut next_free),
                Kind::HandedBack => self.handed_back(card, &mut next_free),
                kind => {
                    let Some(reason) = kind.refusal() else { continue };
                    for _ in 0..self.rng.random_range(1..=2) {
                        let step = self.rng.random_range(FIRST_STEP..LAST_ENTRY_STEP);
                        if step >= next_free[card] {
                            next_free[card] = step + 1;
                            let gate = self.any_gate(None);
                            self.place(gate, step, card, Expected::Refuse(reason), None);
                        }
                    }
                }
            }
        }
        let riders: Vec<usize> =
            (0..cards.len()).filter(|&c| matches!(cards[c].kind, Kind::Phone | Kind::Plastic)).collect();
        // Journeys in waves over all riders until the day is full; a rider's day ends when it is late.
        let mut order = riders;
        order.shuffle(&mut self.rng);
        while self.left > 0 {
            let before = self.left;
            for &card in &order {
                if self.left == 0 {
                    break;
                }
                self.journey(card, &mut next_free);
            }
            if self.left == before {
                // Every rider's day is over: what is left falls to refused cards, else the day is shorter.
                if !self.more_refusals(cards, &mut next_free) {
                    break;
                }
            }
        }
    }

    fn any_gate(&mut self, direction: Option<Direction>) -> usize {
        let fitting: Vec<usize> = (0..self.gates.len())
            .filter(|&g| direction.is_none_or(|d| self.gates[g].direction == d))
            .collect();
        fitting.choose(&mut self.rng).copied().unwrap_or(0)
    }

    fn place(&mut self, gate: usize, step: u64, card: usize, expected: Expected, passage: Option<Outcome>) {
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        let offset_ms = self.rng.random_range(0..STEP_MS / 2);
        let event = Event { time: UnixMs(0), card, expected, passage };
        self.slots[gate].push(Slot { step, offset_ms, event });
    }

    /// In at one station, out at another at least one step later; now and then an end is missing.
    fn journey(&mut self, card: usize, next_free: &mut [u64]) {
        let free = next_free[card];
        if free >= LAST_ENTRY_STEP {
            return;
        }
        let wait = self.rng.random_range(0..(LAST_ENTRY_STEP - free).min(self.pace.wait));
        let enter = free + wait;
        let leave = enter + self.rng.random_range(1..=self.pace.ride);
        next_free[card] = leave + 1;
        let entry = self.any_gate(Some(Direction::Entry));
        match self.rng.random_range(0..200) {
            0 => self.opening(entry, enter, card), // forgot to tap out
            1 => {
                let exit = self.any_gate(Some(Direction::Exit));
                self.opening(exit, leave, card); // slipped in behind somebody
            }
            _ => {
                // Now and then a rider turns round and leaves where he came in.
                let mut exit = self.any_gate(Some(Direction::Exit));
                if self.gates[exit].station == self.gates[entry].station && self.rng.random_bool(0.95) {
                    exit = self.any_gate(Some(Direction::Exit));
                }
                self.opening(entry, enter, card);
                self.opening(exit, leave, card);
            }
        }
    }

    /// An opening and what follows it: mostly a passage, now and then a second wave.
    fn opening(&mut self, gate: usize, step: u64, card: usize) {
        match self.rng.random_range(0..100) {
            0 if self.left >= 2 => {
                self.place(gate, step, card, Expected::Open, Some(Outcome::NotPassed));
                self.again(gate, Expected::Again, Some(Outcome::Passed));
            }
            1 => self.place(gate, step, card, Expected::Open, Some(Outcome::Unknown)),
            _ => self.place(gate, step, card, Expected::Open, Some(Outcome::Passed)),
        }
    }

    /// The same card at the same gate a moment later.
    fn again(&mut self, gate: usize, expected: Expected, passage: Option<Outcome>) {
        if self.left == 0 {
            return;
        }
        let Some(first) = self.slots[gate].last().copied() else { return };
        self.left -= 1;
        let event = Event { expected, passage, ..first.event };
        self.slots[gate].push(Slot { step: first.step, offset_ms: first.offset_ms + AGAIN_MS, event });
    }

    fn handed_back(&mut self, card: usize, next_free: &mut [u64]) {
        let step = self.rng.random_range(FIRST_STEP..LAST_ENTRY_STEP);
        next_free[card] = LAST_ENTRY_STEP;
        let gate = self.any_gate(Some(Direction::Entry));
        self.place(gate, step, card, Expected::Open, Some(Outcome::Passed));
        self.again(gate, Expected::Refuse(Reason::Passback), None);
        let exit = self.any_gate(Some(Direction::Exit));
        self.place(exit, step + 2, card, Expected::Open, Some(Outcome::Passed));
    }

    /// The victim makes a journey, then the copy is used, then both are tried again.
    fn clone_attack(&mut self, clone: usize, victim: usize, next_free: &mut [u64]) {
        let start = self.rng.random_range(FIRST_STEP..LAST_ENTRY_STEP - 20);
        next_free[victim] = LAST_ENTRY_STEP;
        next_free[clone] = LAST_ENTRY_STEP;
        let (entry, exit) = (self.any_gate(Some(Direction::Entry)), self.any_gate(Some(Direction::Exit)));
        self.place(entry, start, victim, Expected::Open, Some(Outcome::Passed));
        self.place(exit, start + 3, victim, Expected::Open, Some(Outcome::Passed));
        let other = self.any_gate(Some(Direction::Entry));
        self.place(other, start + 6, clone, Expected::Open, Some(Outcome::Passed));
        let later = self.any_gate(Some(Direction::Entry));
        self.place(later, start + 9, clone, Expected::Refuse(Reason::Denied), None);
        let home = self.any_gate(Some(Direction::Entry));
        self.place(home, start + 12, victim, Expected::Refuse(Reason::Denied), None);
    }

    fn more_refusals(&mut self, cards: &[Card], next_free: &mut [u64]) -> bool {
        let mut placed = false;
        for (card, planted) in cards.iter().enumerate() {
            if let Some(reason) = planted.kind.refusal()
                && next_free[card] < LAST_ENTRY_STEP
                && self.left > 0
            {
                let gate = self.any_gate(None);
                self.place(gate, next_free[card], card, Expected::Refuse(reason), None);
                next_free[card] += 1;
                placed = true;
            }
        }
        placed
    }
}

/// Gives each presentation of a gate its time: in order, apart, and inside its step; `None` where a step has
/// no room for all of them.
fn settle_times(mut slots: Vec<Slot>, start: UnixMs) -> Option<Vec<Event>> {
    slots.sort_by_key(|s| (s.step, s.offset_ms));
    let mut last = 0;
    slots
        .into_iter()
        .map(|slot| {
            let begin = start.0 + slot.step * STEP_MS;
            last = (begin + slot.offset_ms).max(last + SPACING_MS);
            (last < begin + STEP_MS).then_some(Event { time: UnixMs(last), ..slot.event })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const SIZE: Size = Size { taps: 10_000, phones: 2_000, gates: 20, seed: 1 };
    const START: UnixMs = UnixMs(1_795_464_000_000);

    #[test]
    fn the_same_seed_plans_the_same_day() {
        let times = |world: &World| -> Vec<u64> { world.events.iter().flatten().map(|e| e.time.0).collect() };
        let (a, b) = (World::plan(SIZE, 24, START).unwrap(), World::plan(SIZE, 24, START).unwrap());
        assert_eq!(times(&a), times(&b));
        let other = World::plan(Size { seed: 2, ..SIZE }, 24, START).unwrap();
        assert_ne!(times(&a), times(&other));
    }

    #[test]
    fn a_day_has_as_many_presentations_as_asked() {
        for (taps, phones, gates) in
            [(10_000, 2_000, 20), (1, 1, 2), (500, 100, 3), (4_000, 100, 10), (60_000, 9_000, 40)]
        {
            let size = Size { taps, phones, gates, seed: 7 };
            assert_eq!(World::plan(size, 24, START).unwrap().presentations(), taps, "{size:?}");
        }
    }

    #[test]
    fn a_card_is_at_one_gate_only_in_a_step() {
        let world = World::plan(SIZE, 24, START).unwrap();
        let mut seen = HashSet::new();
        for (gate, events) in world.events.iter().enumerate() {
            let mut here = HashSet::new();
            for event in events {
                here.insert((world.step_of(event.time), event.card));
            }
            for at in here {
                assert!(seen.insert(at), "card {} is at gate {gate} and at another in step {}", at.1, at.0);
            }
        }
    }

    #[test]
    fn every_planted_kind_is_presented() {
        let world = World::plan(SIZE, 24, START).unwrap();
        let presented: HashSet<Kind> =
            world.events.iter().flatten().map(|e| world.cards[e.card].kind).collect();
        for (kind, _) in PLANTED {
            assert!(presented.contains(&kind), "{kind:?}");
        }
        assert!(presented.contains(&Kind::Clone));
    }

    #[test]
    fn what_cannot_be_planned_is_named() {
        let plan = |taps, phones, gates| World::plan(Size { taps, phones, gates, seed: 1 }, 24, START).err();
        assert_eq!(plan(10, 10, 1), Some(PlanError::Gates(1)));
        assert_eq!(plan(10, 0, 2), Some(PlanError::Phones));
        assert_eq!(plan(10, 10, u32::MAX), Some(PlanError::TooManyGates(u32::MAX)));
        assert_eq!(plan(10, u32::MAX, 2), Some(PlanError::TooManyPhones(u32::MAX)));
        assert!(matches!(plan(10_000, 10, 20), Some(PlanError::TooFewPhones { .. })));
        assert!(matches!(plan(10_000_000, 1_000_000, 2), Some(PlanError::TooManyTaps { .. })));
    }
}
