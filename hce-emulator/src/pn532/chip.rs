//! The chip: frames in, frames out, one command at a time.

use super::field::{Field, Presented};
use super::switches::{Counters, Injected, Switches};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::VecDeque;
use std::time::Duration;
use wavepass_pn532::command::{self, Command, FOR_EVER, Modulation, RfItem, TEST_LINE, TEST_PRESENCE};
use wavepass_pn532::frame::{ACK, Decoder, Direction, Event, MAX_FRAME, NACK, SYNTAX_ERROR, encode};
use wavepass_pn532::response::{FirmwareVersion, answer_code};
use wavepass_pn532::status::{Status, StatusError};

/// As the chip answers in drivers' own examples: PN532, firmware 1.6, type A, type B and ISO/IEC 18092.
const VERSION: FirmwareVersion = FirmwareVersion { ic: 0x32, version: 1, revision: 6, support: 7 };
/// How long one search on the air takes.
const SEARCH: Duration = Duration::from_millis(5);
/// How long the chip waits for a card that is gone.
const CARD_TIMEOUT: Duration = Duration::from_millis(20);
/// The longest command for a card that arrives in parts: an extended APDU several times as long as any in use.
const MAX_COMMAND: usize = 4096;
/// The longest run of random bytes before a frame.
const MAX_GARBAGE: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    /// Only the wake-up bytes are heard.
    Asleep,
    /// Awake; the field waits for SAMConfiguration.
    Awake,
    /// Set up.
    Ready,
}

enum Running {
    /// The answer is known and due at that time.
    Answer { at: Duration, data: Vec<u8> },
    /// A search. Without an end it stays silent until a card comes.
    Search { modulation: Modulation, max: u8, until: Option<Duration> },
}

struct Output {
    at: Duration,
    bytes: Vec<u8>,
}

/// What the host gets: the data of an answer, or the error frame.
#[derive(Clone)]
enum Said {
    Data(Vec<u8>),
    SyntaxError,
}

/// A simulated PN532. All times are of one clock that only rises.
pub struct Chip {
    switches: Switches,
    random: ChaCha8Rng,
    counters: Counters,
    field: Field,
    decoder: Decoder,
    power: Power,
    /// How often a search is repeated.
    retries: u8,
    running: Option<Running>,
    /// What a NACK asks for. A new command takes its place in the chip's only buffer.
    last: Option<Said>,
    outputs: VecDeque<Output>,
    /// The parts of a command for a card that have arrived.
    arrived: Vec<u8>,
    /// The rest of a card's answer, and whose.
    rest: Option<(u8, VecDeque<u8>)>,
}

impl std::fmt::Debug for Chip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chip({:?}, {:?})", self.power, self.counters)
    }
}

impl Chip {
    /// A chip as it is after power came on: asleep. `seed` decides when chances come true.
    pub fn new(seed: u64) -> Self {
        Self {
            switches: Switches::default(),
            random: ChaCha8Rng::seed_from_u64(seed),
            counters: Counters::default(),
            field: Field::default(),
            decoder: Decoder::new(),
            power: Power::Asleep,
            retries: FOR_EVER,
            running: None,
            last: None,
            outputs: VecDeque::new(),
            arrived: Vec::new(),
            rest: None,
        }
    }

    /// How it behaves from now on.
    pub fn set_switches(&mut self, switches: Switches) {
        self.switches = switches;
    }

    /// The cards in the field from now on: none, one or two.
    pub fn set_field(&mut self, cards: Vec<Presented>) {
        self.field.set(cards);
    }

    /// What has happened.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Power goes and comes: everything is forgotten but what is in the field.
    pub fn power_on(&mut self) {
        self.power = Power::Asleep;
        self.decoder = Decoder::new();
        self.retries = FOR_EVER;
        self.running = None;
        self.last = None;
        self.outputs.clear();
        self.arrived.clear();
        self.rest = None;
        self.field.release_all();
    }

    /// Wakes it, as its address or select line does on a bus.
    pub fn wake(&mut self) {
        if self.power == Power::Asleep {
            self.power = Power::Awake;
        }
    }

    /// Takes bytes from the host.
    pub fn receive(&mut self, now: Duration, bytes: &[u8]) {
        for &byte in bytes {
            if self.power == Power::Asleep {
                if byte == 0x55 {
                    self.wake();
                }
                continue;
            }
            match self.decoder.push(byte) {
                Some(Event::Ack) => self.abort(),
                Some(Event::Nack) => self.say_again(now),
                Some(Event::Frame(Direction::ToChip)) => {
                    let data = self.decoder.data().to_vec();
                    self.command(now, &data);
                }
                Some(Event::Broken(_)) => self.counters.broken += 1,
                Some(Event::Frame(Direction::FromChip) | Event::SyntaxError) | None => {}
            }
        }
        self.tick(now);
    }

    /// The next bytes for the host that are due: a frame, or over a split line a piece of one.
    pub fn output(&mut self, now: Duration) -> Option<Vec<u8>> {
        self.tick(now);
        self.outputs.pop_front_if(|output| output.at <= now).map(|output| output.bytes)
    }

    /// True where a frame can be read.
    pub fn is_ready(&mut self, now: Duration) -> bool {
        self.tick(now);
        self.outputs.front().is_some_and(|output| output.at <= now)
    }

    /// When something happens without the host's doing.
    pub fn next_event(&self, now: Duration) -> Option<Duration> {
        let output = self.outputs.front().map(|output| output.at);
        let running = match &self.running {
            Some(Running::Answer { at, .. }) => Some(*at),
            Some(Running::Search { modulation, .. }) if self.field.has(*modulation, now) => Some(now),
            Some(Running::Search { until, .. }) => {
                [*until, self.field.next_return(now)].into_iter().flatten().min()
            }
            None => None,
        };
        [output, running].into_iter().flatten().min()
    }

    fn abort(&mut self) {
        self.counters.aborts += 1;
        self.running = None;
    }

    fn command(&mut self, now: Duration, data: &[u8]) {
        let command = Command::parse(data);
        let needs_set_up = !matches!(
            command,
            Ok(Command::SamConfiguration { .. }
                | Command::GetFirmwareVersion
                | Command::SetParameters(_)
                | Command::Diagnose { .. })
        );
        if self.power == Power::Awake && needs_set_up {
            return;
        }
        if self.strikes(Injected::Reset) {
            self.power_on();
            return;
        }
        self.counters.commands += 1;
        // A command ends the one before.
        self.running = None;
        if !self.switches.keeps_last_answer {
            self.last = None;
        }
        self.acknowledge(now);
        if self.switches.never_answers {
            return;
        }
        match command {
            Ok(command) => self.run(now, &command),
            Err(_) => {
                self.counters.syntax_errors += 1;
                self.say(now, Said::SyntaxError);
            }
        }
    }

    fn run(&mut self, now: Duration, command: &Command<'_>) {
        if !matches!(command, Command::InDataExchange { .. }) {
            self.arrived.clear();
            self.rest = None;
        }
        let (mut wait, mut data) = (Duration::ZERO, vec![answer_code(command.code())]);
        match *command {
            Command::Diagnose { test: TEST_LINE, parameters } => {
                data.push(TEST_LINE);
                data.extend(parameters);
            }
            Command::Diagnose { test: TEST_PRESENCE, .. } => {
                let status = if self.field.is_present(1, now) { 0 } else { StatusError::Timeout.code() };
                data.push(status);
            }
            Command::Diagnose { .. } => data.push(0),
            Command::GetFirmwareVersion => data = VERSION.to_bytes().to_vec(),
            Command::SamConfiguration { .. } => {
                self.counters.set_ups += 1;
                self.power = Power::Ready;
            }
            Command::RfConfiguration(RfItem::Retries { activation, .. }) => self.retries = activation,
            Command::RfConfiguration(RfItem::Field { on: false, .. }) => self.field.release_all(),
            Command::InListPassiveTarget { max, modulation } => {
                self.field.release_all();
                let tries = u32::from(self.retries) + 1;
                let until = (self.retries != FOR_EVER).then(|| now + SEARCH * tries);
                self.running = Some(Running::Search { modulation, max, until });
                return;
            }
            Command::InDataExchange { target, more, data: part } => {
                let (took, status, answer) = self.exchange(now, target, more, part);
                wait = took;
                data.push(status.to_byte());
                data.extend(answer);
            }
            Command::InDeselect(target) | Command::InRelease(target) => {
                self.counters.releases += u64::from(command.code() == command::code::IN_RELEASE);
                if let Some(ms) = self.switches.tapped_away_ms {
                    self.field.pull_tapped(now + Duration::from_millis(ms));
                }
                let known = target == 0 || self.field.is_known(target);
                self.field.release_all();
                data.push(if known { 0 } else { StatusError::Context.code() });
            }
            _ => {}
        }
        self.running = Some(Running::Answer { at: now + wait, data });
    }

    /// A part of a command for a card, or the next part of its answer.
    fn exchange(
        &mut self,
        now: Duration,
        target: u8,
        more: bool,
        part: &[u8],
    ) -> (Duration, Status, Vec<u8>) {
        let failed = |error| (CARD_TIMEOUT, Status { error: Some(error), ..Status::OK }, Vec::new());
        if !self.field.is_known(target) {
            return failed(StatusError::Context);
        }
        if !self.field.is_present(target, now) {
            return failed(StatusError::Timeout);
        }
        if let Some((of, rest)) = self.rest.take()
            && of == target
            && part.is_empty()
            && !more
        {
            return self.fragment(now, target, rest, Duration::ZERO);
        }
        self.arrived.extend(part);
        if self.arrived.len() > MAX_COMMAND {
            self.arrived.clear();
            return failed(StatusError::CommunicationBuffer);
        }
        if more {
            return (Duration::ZERO, Status::OK, Vec::new());
        }
        let apdu = std::mem::take(&mut self.arrived);
        if self.switches.pull_at_apdu == Some(self.field.apdus(target)) {
            self.note(Injected::Pull);
            self.field.pull(target, None);
            return failed(StatusError::Timeout);
        }
        if self.strikes(Injected::Pull) {
            self.pull(now, target);
            return failed(StatusError::Timeout);
        }
        self.counters.apdus += 1;
        match self.field.transmit(target, &apdu) {
            Ok(answer) => {
                let took = Duration::from_micros(answer.delay_us) + self.switches.apdu_delay();
                self.fragment(now, target, answer.data.into(), took)
            }
            Err(_) => {
                self.pull(now, target);
                failed(StatusError::Timeout)
            }
        }
    }

    /// The next part of a card's answer; the rest waits to be asked for.
    fn fragment(
        &mut self,
        now: Duration,
        target: u8,
        mut rest: VecDeque<u8>,
        took: Duration,
    ) -> (Duration, Status, Vec<u8>) {
        if self.strikes(Injected::PullMidAnswer) {
            self.pull(now, target);
            return (CARD_TIMEOUT, Status { error: Some(StatusError::Timeout), ..Status::OK }, Vec::new());
        }
        let len = rest.len().min(self.switches.fragment.clamp(1, 262));
        let part = rest.drain(..len).collect();
        let more = !rest.is_empty();
        if more {
            self.rest = Some((target, rest));
        }
        (took, Status { more, ..Status::OK }, part)
    }

    fn pull(&mut self, now: Duration, target: u8) {
        let until = self.switches.away_ms.map(|ms| now + Duration::from_millis(ms));
        self.field.pull(target, until);
    }

    /// Ends what is due.
    fn tick(&mut self, now: Duration) {
        match self.running.take() {
            Some(Running::Answer { at, data }) if at <= now => self.say(at, Said::Data(data)),
            Some(Running::Search { modulation, max, .. }) if self.field.has(modulation, now) => {
                let found = self.field.activate(modulation, max, now, &mut self.random);
                self.counters.found += 1;
                let count = found.len() as u8; // at most 2
                let mut data = vec![answer_code(command::code::IN_LIST_PASSIVE_TARGET), count];
                for (number, card) in found {
                    let mut bytes = [0; 128];
                    let len = card.write(&mut bytes).unwrap_or(0);
                    data.push(number);
                    data.extend(&bytes[..len]);
                }
                self.say(now, Said::Data(data));
            }
            Some(Running::Search { until: Some(at), .. }) if at <= now => {
                self.counters.empty += 1;
                self.say(at, Said::Data(vec![answer_code(command::code::IN_LIST_PASSIVE_TARGET), 0]));
            }
            running => self.running = running,
        }
    }

    fn acknowledge(&mut self, now: Duration) {
        if self.strikes(Injected::MissingAck) {
            return;
        }
        let mut bytes = ACK.to_vec();
        if self.strikes(Injected::CorruptAck) {
            // Of the three bytes that make it an acknowledgement.
            let at = self.random.random_range(2..5);
            bytes[at] ^= 1 << self.random.random_range(0..8);
        }
        let late = self.strikes(Injected::LateAck);
        let at = if late { now + Duration::from_millis(self.switches.late_ack_ms) } else { now };
        self.send(at, bytes);
    }

    fn say_again(&mut self, now: Duration) {
        self.counters.nacks += 1;
        if let Some(last) = self.last.clone() {
            self.say(now, last);
        }
    }

    /// Puts bytes on the line that nobody sent.
    pub fn babble(&mut self, now: Duration, bytes: &[u8]) {
        self.send(now, bytes.to_vec());
    }

    fn say(&mut self, now: Duration, what: Said) {
        let mut frame = match &what {
            Said::SyntaxError => SYNTAX_ERROR.to_vec(),
            Said::Data(data) => {
                let mut frame = [0; MAX_FRAME];
                // The parts of an answer are cut to fit.
                let len = encode(Direction::FromChip, data, &mut frame).unwrap_or(0);
                frame[..len].to_vec()
            }
        };
        self.last = Some(what);
        if self.strikes(Injected::LostAnswer) {
            return;
        }
        if self.strikes(Injected::WrongLcs) {
            frame[4] ^= 1 << self.random.random_range(0..8);
        }
        if self.strikes(Injected::WrongDcs) {
            let at = frame.len() - 2;
            frame[at] ^= 1 << self.random.random_range(0..8);
        }
        if self.strikes(Injected::Garbage) {
            let mut garbage = vec![0; self.random.random_range(1..=MAX_GARBAGE)];
            self.random.fill_bytes(&mut garbage);
            frame.splice(0..0, garbage);
        }
        if self.strikes(Injected::SpuriousNack) {
            self.send(now, NACK.to_vec());
        }
        if !self.strikes(Injected::Split) {
            self.send(now, frame);
            return;
        }
        let mut at = now;
        while !frame.is_empty() {
            let len = self.random.random_range(1..=frame.len());
            self.send(at, frame.drain(..len).collect());
            at += Duration::from_millis(self.switches.split_pause_ms);
        }
    }

    /// Bytes leave in order, however late the ones before are.
    fn send(&mut self, at: Duration, bytes: Vec<u8>) {
        let at = self.outputs.back().map_or(at, |last| last.at.max(at));
        self.outputs.push_back(Output { at, bytes });
    }

    /// Whether this fault happens now; counts it.
    fn strikes(&mut self, fault: Injected) -> bool {
        let chance = self.switches.chance(fault);
        // No number is drawn for what cannot happen, so that a seed means the same with other switches.
        let strikes = chance > 0.0 && self.random.random_bool(chance.min(1.0));
        if strikes {
            self.note(fault);
        }
        strikes
    }

    fn note(&mut self, fault: Injected) {
        *self.counters.injected.entry(fault).or_default() += 1;
    }
}
