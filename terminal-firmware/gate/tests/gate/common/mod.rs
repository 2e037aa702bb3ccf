//! A gate on one chip of simulated flash, and the host that commissioned it: it signs lists, answers the link in
//! process and opens what the gate sealed, as the real one does.

mod chip;
mod host;
mod line;

pub use chip::{Area, Chip, Place};
pub use host::{Host, LIST_AGE_MS, TOKENS_EXPIRE, WAIT_MS, config, encode, last_day};
pub use line::{Heard, Line, frames, welcome};

use core::future::poll_fn;
use core::task::Poll;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use wavepass_gate::{CommissionError, Contact, Gate, GateError, Idle, Memory, Now, Presented};
use wavepass_hce::card::Card;
use wavepass_hce::phone::{Phone, PhoneFile};
use wavepass_hce::state::Counters;
use wavepass_journal::sim::{FlashError, block_on};
use wavepass_journal::{Error, Limits};
use wavepass_kernel::Lost;
use wavepass_protocol::dukpt::Ksn;
use wavepass_protocol::ecc::P256Verifier;
use wavepass_protocol::lists::{Kind, Version};
use wavepass_protocol::seal::{Chain, Sealed};
use wavepass_protocol::tap::{ClockQuality, Decision, Outcome, Reason};
use wavepass_protocol::time::UnixMs;

pub type TestGate = Box<Gate<Area, Box<Memory<P256Verifier>>>>;

pub fn memory() -> Box<Memory<P256Verifier>> {
    Box::new(Memory::new(P256Verifier))
}

pub type Failure = GateError<FlashError>;

/// 2026-11-24, 08:00 UTC.
pub const MORNING: u64 = 1_795_507_200_000;
pub const SECOND: u64 = 1_000;
/// What a gate says when its chip has lost power.
pub const POWER_CUT: Failure = GateError::Store(Error::Flash(FlashError::Cut));

pub fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

pub fn synchronised(at: u64) -> Now {
    Now { time: UnixMs(at), quality: ClockQuality::Synchronised }
}

pub fn version(version: u32) -> Version {
    Version { epoch: 1, version }
}

pub fn refused(reason: Reason) -> Decision {
    Decision::Refuse(reason)
}

pub fn commission(chip: &Chip, file: &[u8]) -> Result<(), CommissionError<FlashError>> {
    block_on(chip.areas().commission(file))
}

pub fn start_with(chip: &Chip, limits: Limits) -> Result<TestGate, Failure> {
    block_on(Gate::start(chip.areas(), limits, memory())).map(Box::new)
}

pub fn start(chip: &Chip) -> Result<TestGate, Failure> {
    start_with(chip, Limits::default())
}

/// Idle time, until the gate has nothing more to do.
pub fn idle(gate: &mut TestGate) {
    try_idle(gate).unwrap();
}

pub fn try_idle(gate: &mut TestGate) -> Result<(), Failure> {
    while block_on(gate.idle())? == Idle::More {}
    Ok(())
}

pub fn passage(gate: &mut TestGate, of: u32, outcome: Outcome, at: u64) -> Option<u32> {
    block_on(gate.passage(of, outcome, synchronised(at))).unwrap()
}

/// A gate that has been commissioned and has every list.
pub fn working_gate(host: &mut Host, chip: &Chip) -> TestGate {
    commission(chip, &host.provisioning()).unwrap();
    let mut gate = start(chip).unwrap();
    host.send_all_lists(&mut gate);
    gate
}

/// A card in the field. It keeps what was said, and makes the gate wait a turn for each answer.
pub struct InField<'a> {
    card: &'a mut dyn Card,
    us: u64,
    pub said: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<'a> InField<'a> {
    pub fn new(card: &'a mut dyn Card) -> Self {
        card.enter_field();
        Self { card, us: 0, said: vec![] }
    }
}

impl Contact for InField<'_> {
    async fn exchange(&mut self, command: &[u8], answer: &mut [u8]) -> Result<usize, Lost> {
        let mut waited = false;
        poll_fn(|_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }).await;
        let given = self.card.transmit(command).map_err(|_| Lost::Removed)?;
        self.us += given.delay_us + 1_000;
        answer.get_mut(..given.data.len()).ok_or(Lost::Protocol)?.copy_from_slice(&given.data);
        self.said.push((command.to_vec(), given.data.clone()));
        Ok(given.data.len())
    }

    fn now_us(&self) -> u64 {
        self.us
    }
}

pub fn try_tap(gate: &mut TestGate, card: &mut dyn Card, now: Now) -> Result<Presented, Failure> {
    let unpredictable = ((now.time.0 ^ 0x5EED) as u32).to_be_bytes();
    block_on(gate.present(&mut InField::new(card), now, unpredictable))
}

/// Presents a card and does the idle work that follows.
pub fn tap(gate: &mut TestGate, card: &mut dyn Card, at: u64) -> Presented {
    let presented = try_tap(gate, card, synchronised(at)).unwrap();
    idle(gate);
    presented
}

pub fn decide(gate: &mut TestGate, card: &mut dyn Card, at: u64) -> Decision {
    tap(gate, card, at).decision
}

pub fn phone(file: &PhoneFile) -> Phone {
    Phone::new(file, Counters::memory(), [7; 32]).unwrap()
}

/// What a host has received, by sequence number. It refuses what no good gate sends.
#[derive(Default)]
pub struct Store {
    pub entries: BTreeMap<u32, Vec<u8>>,
    counters: BTreeMap<u32, u32>,
}

impl Store {
    /// Takes an entry: it opens, it is the one already held under its number, and its key sealed no other.
    pub fn take(&mut self, host: &Host, sealed: &[u8]) {
        let Ksn { counter, .. } = Sealed::parse(sealed).unwrap().header.ksn;
        let sequence = host.open(sealed, |header, _| header.sequence);
        if let Some(held) = self.entries.insert(sequence, sealed.to_vec()) {
            assert_eq!(held, sealed, "entry {sequence} came twice, and not the same");
        }
        let other = self.counters.insert(counter, sequence);
        assert!(other.is_none_or(|o| o == sequence), "key {counter} sealed {other:?} and {sequence}");
    }

    /// The counters of the keys rise with the sequence numbers, no number is missing, and each entry names the tag of
    /// the one before it.
    pub fn check(&self) {
        let numbers: Vec<u32> = self.entries.keys().copied().collect();
        if let (Some(&first), Some(&last)) = (numbers.first(), numbers.last()) {
            assert_eq!(numbers, (first..=last).collect::<Vec<_>>(), "a gap in the sequence numbers");
        }
        assert!(self.counters.values().is_sorted(), "a key out of order");
        let mut before: Option<Chain> = None;
        for (sequence, sealed) in &self.entries {
            let expected = if *sequence == 1 { Some(Chain::START) } else { before };
            let chain = Sealed::parse(sealed).unwrap().header.chain;
            assert!(
                expected.is_none_or(|e| e == chain),
                "entry {sequence} does not follow the one before it"
            );
            before = Some(Chain::after(sealed));
        }
    }
}

/// Every entry that is still in the gate's journal, in order, as a host asks for it.
pub fn journal(host: &mut Host, gate: &mut TestGate) -> Store {
    let mut line = host.connect(gate);
    line.hear(gate);
    line.resend(gate, 1);
    let mut store = Store::default();
    for heard in line.hear(gate) {
        if let Heard::Entry(sealed) = heard {
            store.take(host, &sealed);
        }
    }
    store.check();
    store
}

/// All kinds of list, as the host has issued them.
pub fn versions_in_force(gate: &TestGate) -> [u32; 4] {
    Kind::ALL.map(|kind| gate.version(kind).version)
}
