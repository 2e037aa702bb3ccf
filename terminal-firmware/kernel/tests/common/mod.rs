//! Cards, authorities and a gate for the kernel's tests. The cards are built from `protocol`'s issuing functions and
//! answer real APDUs; an attack wraps a card and changes what it says, or what it is asked.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

pub mod p256;
pub mod rsa;

use wavepass_kernel::{
    AidConfig, Asked, Config, Decision, Environment, Kernel, Passback, Step, TapInput, Work, limits,
};
use wavepass_protocol::apdu::{Command, PPSE};
use wavepass_protocol::ecc::P256Verifier;
use wavepass_protocol::lists::{Application, CaKey, GateConfig, RelayLimits, Revocation, Suite};
use wavepass_protocol::select::Aid;
use wavepass_protocol::tap::Reason;
use wavepass_protocol::time::{Date, UnixMs};
use wavepass_protocol::tlv::{Tag, Writer};
use wavepass_protocol::token::{Expiry, Token};

pub const HOUSE_AID: [u8; 10] = [0xF0, 0x57, 0x41, 0x56, 0x45, 0x50, 0x41, 0x53, 0x53, 0x01];
pub const UNIONPAY_AID: [u8; 8] = [0xA0, 0x00, 0x00, 0x03, 0x33, 0x01, 0x01, 0x01];
pub const TOKEN: &str = "6212345678901234";
pub const OPEN: Decision = Decision::Open { again: false };

pub fn refused(reason: Reason) -> Decision {
    Decision::Refuse(reason)
}

pub fn token() -> Token {
    Token::from_digits(TOKEN).unwrap()
}

pub fn tlv(tag: u32, value: &[u8]) -> Vec<u8> {
    let mut buf = vec![0; value.len() + 8];
    let mut writer = Writer::new(&mut buf);
    writer.tlv(Tag(tag), value).unwrap();
    writer.finish().to_vec()
}

pub fn ok(data: &[u8]) -> Vec<u8> {
    [data, &[0x90, 0x00]].concat()
}

pub fn ppse(entries: &[(&[u8], u8)]) -> Vec<u8> {
    let entries: Vec<u8> = entries
        .iter()
        .flat_map(|(aid, priority)| tlv(0x61, &[tlv(0x4F, aid), tlv(0x87, &[*priority])].concat()))
        .collect();
    tlv(0x6F, &[tlv(0x84, PPSE), tlv(0xA5, &tlv(0xBF0C, &entries))].concat())
}

/// 2026-11-24, 08:00 at the gate, which is midnight in UTC.
pub fn morning() -> UnixMs {
    at(Date::new(2026, 11, 24).unwrap())
}

pub fn at(date: Date) -> UnixMs {
    UnixMs(date.to_days() as u64 * 86_400_000)
}

pub fn input(now: UnixMs) -> TapInput {
    TapInput {
        now,
        utc_offset_min: 480,
        unpredictable: [0xC0, 0xFF, 0xEE, 0x01],
        start_us: 1_000,
        relay_entropy: [[0xA1; 4], [0xB2; 4]],
    }
}

pub fn application(aid: &[u8], suite: Suite) -> Application {
    Application {
        aid: heapless::Vec::from_slice(aid).unwrap(),
        partial: false,
        suite,
        ttq: [0x21, 0x80, 0x00, 0x80],
        preference: 0,
        formats: heapless::Vec::from_slice(&[0x05, 0x95]).unwrap(),
        domain_required: suite == Suite::P256,
    }
}

pub fn gate_config() -> GateConfig {
    let mut applications = heapless::Vec::new();
    applications.push(application(&HOUSE_AID, Suite::P256)).unwrap();
    applications.push(application(&UNIONPAY_AID, Suite::Rsa)).unwrap();
    GateConfig {
        utc_offset_min: 480,
        amount_fen: 300,
        currency: 0x0156,
        country: 0x0156,
        passback_ms: 60_000,
        tap_limit_ms: 1_000,
        list_max_age_ms: 0,
        stale_opens: false,
        applications,
        relay: None,
    }
}

pub fn config() -> Config {
    Config::new(&gate_config(), *b"WAVE", 7).unwrap()
}

pub fn aid_config(config: &mut Config, aid: &[u8]) -> usize {
    let aid = Aid::new(aid).unwrap();
    config.applications.iter().position(|a: &AidConfig| a.aid == aid).unwrap()
}

#[derive(Clone)]
pub struct Authority {
    pub rid: [u8; 5],
    pub index: u8,
    pub suite: Suite,
    pub expiry: [u8; 4],
    pub key: Vec<u8>,
    pub exponent: Vec<u8>,
    pub check_value: [u8; 20],
}

impl Authority {
    pub fn new(rid: [u8; 5], index: u8, suite: Suite, key: &[u8], exponent: &[u8]) -> Self {
        let check_value = wavepass_protocol::rsa::ca_check_value(&rid, index, key, exponent);
        let (key, exponent) = (key.to_vec(), exponent.to_vec());
        Self { rid, index, suite, expiry: [0x20, 0x40, 0x12, 0x31], key, exponent, check_value }
    }
}

/// What the gate of a test knows.
#[derive(Clone)]
pub struct World {
    pub authorities: Vec<Authority>,
    pub revoked: Vec<Revocation>,
    pub denied: Vec<(Token, Expiry)>,
    /// True if the host has looked up what the kernel asked for.
    pub looked_up: bool,
    pub passback: Passback,
    pub stale: bool,
}

impl World {
    pub fn new() -> Self {
        Self {
            authorities: vec![p256::authority(), rsa::authority()],
            revoked: vec![],
            denied: vec![],
            looked_up: true,
            passback: Passback::Clear,
            stale: false,
        }
    }
}

impl Environment for World {
    fn ca_key(&self, rid: &[u8; 5], index: u8, suite: Suite) -> Option<CaKey<'_>> {
        let a = self.authorities.iter().find(|a| a.rid == *rid && a.index == index && a.suite == suite)?;
        Some(CaKey {
            rid: a.rid,
            index: a.index,
            suite: a.suite,
            expiry: a.expiry,
            key: &a.key,
            exponent: &a.exponent,
            check_value: a.check_value,
        })
    }

    fn is_revoked(&self, issuer: &Revocation) -> bool {
        self.revoked.contains(issuer)
    }

    fn denied(&self, asked: &Asked) -> Option<bool> {
        let is_meant = |(token, expiry): &(Token, Expiry)| {
            *token == asked.token && asked.expiry.is_none_or(|asked| asked == *expiry)
        };
        self.looked_up.then(|| self.denied.iter().any(is_meant))
    }

    fn passback(&self, _: &Token, _: UnixMs) -> Passback {
        self.passback
    }

    fn list_stale(&self, _: UnixMs) -> bool {
        self.stale
    }
}

/// When a host verifies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Host {
    /// While the card answers.
    Eager,
    /// After its last answer.
    Late,
}

pub type Gate = Kernel<P256Verifier>;

pub fn gate() -> Gate {
    Kernel::new(P256Verifier)
}

/// One tap; asserts that it ends within the command limit. Gives the decision and the commands.
pub fn tap_by(
    host: Host,
    kernel: &mut Gate,
    config: &Config,
    world: &World,
    input: TapInput,
    card: &mut dyn FnMut(&[u8]) -> Vec<u8>,
) -> (Decision, Vec<Vec<u8>>) {
    let mut commands = vec![];
    let mut now_us = input.start_us;
    let mut next = own(kernel.begin(config, input));
    while let Some(command) = next {
        assert_eq!(kernel.decision(config, world), None, "no decision before the last answer");
        let answer = card(&command);
        commands.push(command);
        assert!(commands.len() <= usize::from(limits::MAX_APDUS), "the exchange ends");
        if host == Host::Eager {
            work_off(kernel, world);
        }
        now_us += 2_000;
        next = own(kernel.answer(config, &answer, now_us));
    }
    work_off(kernel, world);
    (kernel.decision(config, world).expect("a decision after the work"), commands)
}

/// A configuration that times cards: what they claim up to 5 ms, and 2.3 ms for the reader.
pub fn timing_config() -> Config {
    let relay = Some(RelayLimits { overhead_us: 2_000, grace_us: 300, cap_us: 5_000 });
    Config::new(&GateConfig { relay, ..gate_config() }, *b"WAVE", 7).unwrap()
}

/// A card that answers, and says how many microseconds it took.
pub type TimedCard<'a> = dyn FnMut(&[u8]) -> (Vec<u8>, u32) + 'a;

/// One tap at a gate that has seen no card, where the card says how many microseconds it took.
pub fn timed_tap(config: &Config, input: TapInput, card: &mut TimedCard<'_>) -> (Decision, Vec<Vec<u8>>) {
    timed_tap_in(&World::new(), config, input, card)
}

/// The same where the gate knows another world.
pub fn timed_tap_in(
    world: &World,
    config: &Config,
    input: TapInput,
    card: &mut TimedCard<'_>,
) -> (Decision, Vec<Vec<u8>>) {
    let mut kernel = gate();
    let mut commands = vec![];
    let mut now_us = input.start_us;
    let mut step = kernel.begin(config, input);
    loop {
        let (command, is_timed) = match step {
            Step::Send(command) => (command.to_vec(), false),
            Step::Timed(command) => (command.to_vec(), true),
            Step::Last => break,
        };
        let (answer, took_us) = card(&command);
        assert_eq!(is_timed, command[1] == 0xEA);
        commands.push(command);
        now_us += u64::from(took_us);
        step = match is_timed {
            true => kernel.timed_answer(config, &answer, took_us, now_us),
            false => kernel.answer(config, &answer, now_us),
        };
    }
    work_off(&mut kernel, world);
    (kernel.decision(config, world).expect("a decision after the work"), commands)
}

/// The command of a step, if it has one.
pub fn own(step: Step<'_>) -> Option<Vec<u8>> {
    match step {
        Step::Send(command) | Step::Timed(command) => Some(command.to_vec()),
        Step::Last => None,
    }
}

/// Works until idle; gives the number of slices.
pub fn work_off(kernel: &mut Gate, world: &World) -> usize {
    let mut slices = 0;
    while kernel.work(world) == Work::More {
        slices += 1;
        assert!(slices < 8, "work ends");
    }
    slices
}

pub fn tap(kernel: &mut Gate, world: &World, card: &mut dyn FnMut(&[u8]) -> Vec<u8>) -> Decision {
    tap_by(Host::Eager, kernel, &config(), world, input(morning()), card).0
}

/// One tap at a gate that has seen no card.
pub fn first_tap(world: &World, card: &mut dyn FnMut(&[u8]) -> Vec<u8>) -> Decision {
    tap(&mut gate(), world, card)
}

/// A card of one application: answers by command.
#[derive(Clone)]
pub struct Files {
    pub aid: Vec<u8>,
    pub fci: Vec<u8>,
    /// Data fields by file and record number.
    pub records: Vec<(u8, u8, Vec<u8>)>,
}

impl Files {
    /// Answers everything but GET PROCESSING OPTIONS, for which it gives the PDOL values.
    pub fn answer(&self, command: &[u8], options: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let command = Command::parse(command).unwrap();
        match command.ins {
            0xA4 if command.data == PPSE => ok(&ppse(&[(&self.aid, 1)])),
            0xA4 if command.data == self.aid => ok(&self.fci),
            0xA8 => {
                let values = wavepass_protocol::tlv::get(command.data, Tag(0x83)).unwrap();
                ok(&options(values))
            }
            0xB2 => self
                .records
                .iter()
                .find(|(sfi, record, _)| (*sfi << 3 | 4, *record) == (command.p2, command.p1))
                .map_or(vec![0x6A, 0x83], |(_, _, data)| ok(data)),
            _ => vec![0x6A, 0x82],
        }
    }
}

/// Where the value of `tag` lies in an answer, looked for inside the templates that carry it.
pub fn find_value(answer: &[u8], tag: u32) -> Option<std::ops::Range<usize>> {
    let body = answer.get(..answer.len().checked_sub(2)?)?;
    let outer = wavepass_protocol::tlv::iter(body).next()?.ok()?;
    let value = if matches!(outer.tag.0, 0x70 | 0x77) {
        wavepass_protocol::tlv::find(outer.value, Tag(tag)).ok()??
    } else {
        return None;
    };
    let at = value.as_ptr() as usize - answer.as_ptr() as usize;
    Some(at..at + value.len())
}

/// Replaces the value of a tag in an answer by one of the same length.
pub fn patch(mut answer: Vec<u8>, tag: u32, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    if let Some(range) = find_value(&answer, tag) {
        change(&mut answer[range]);
    }
    answer
}
