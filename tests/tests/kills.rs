//! Days that are played while one process after another is killed: gateways, PostgreSQL, the bank.
//!
//! Each round is a day, with one kill (SIGKILL) in one of its phases: while taps come in, in the close, in the deduction or in the
//! settlement. The moment is random, within as long as that phase took on the same day without a kill; whether the phase was
//! still under way is printed and counted. After it, what was acknowledged is there, the bank's books and ours agree, and the
//! ledger balances; at the end everything is as in a run without kills. `WAVEPASS_LONG=1` kills 120 times in all, and each test
//! must then have found each phase under way; `WAVEPASS_KILLS_SEED` gives the seed that a failure printed.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

#[path = "kills/holds.rs"]
mod holds;
#[path = "kills/links.rs"]
mod links;
#[path = "kills/phases.rs"]
mod phases;

use std::sync::Arc;
use std::time::Duration;

use phases::{OfEach, PHASES, Phase, Stage, Strike};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use serde_json::{Value, json};
use wavepass_fares::ServiceDay;
use wavepass_gateway::intake::sealer::Sealer;
use wavepass_protocol::tap::{ClockQuality, Decision, Direction, Entry, OdaMethod, OdaResult, Tap, Timings};
use wavepass_protocol::time::UnixMs;
use wavepass_protocol::token::{Expiry, Token};
use wavepass_test_postgres::{Options, Server};
use wavepass_tests::books::{balanced, settled};
use wavepass_tests::processes::{House, Plan, Programs, Victim};

const TARIFF: &str = include_str!("../../host-gateway/tariffs/wavepass-city.toml");
/// 2026-11-23T08:00:00+08:00.
const MORNING: u64 = 1_795_392_000_000;
const DAY_MS: u64 = 86_400_000;
/// 2026-11-23 in days since 1970-01-01.
const FIRST_DAY: i32 = 20_780;
const CARDS: u32 = 24;
/// Cards whose e-account soon has nothing left.
const POOR: u32 = 4;
const PLENTY: i64 = 1_000_000;
const LITTLE: i64 = 1_500;
const OPERATORS: u32 = 200;

fn digits(card: u32) -> String {
    format!("62220212{card:08}")
}

fn filling(card: u32) -> i64 {
    if card < POOR { LITTLE } else { PLENTY }
}

/// A card's tap of a day, sealed.
fn tap(gate: &mut Sealer, card: u32, day: u32) -> String {
    let time = UnixMs(MORNING + u64::from(day) * DAY_MS + u64::from(card) * 60_000);
    let sealed = seal(gate, card, time, u16::try_from(day + 1).unwrap(), day * CARDS + card);
    sealed.iter().map(|b| format!("{b:02x}")).collect()
}

/// A card's tap, sealed; `number` tells what the card answered from any other answer.
fn seal(gate: &mut Sealer, card: u32, time: UnixMs, atc: u16, number: u32) -> Vec<u8> {
    let [a, b, c, d] = number.to_be_bytes();
    let mut values = [0; 33];
    values[29..].copy_from_slice(&[a, b, c, d]);
    let sealed = gate.seal(&Entry::Tap(Tap {
        time,
        clock: ClockQuality::Synchronised,
        station: "A1",
        direction: Direction::Entry,
        decision: Decision::Open,
        aid: &[0xF0, 0x57, 0x41, 0x56, 0x45, 0x50, 0x41, 0x53, 0x53, 1],
        token: Some(Token::from_digits(&digits(card)).unwrap()),
        expiry: Some(Expiry::new(31, 5).unwrap()),
        expiry_signed: true,
        psn: Some(0),
        atc: Some(atc),
        cid: Some(0x80),
        cryptogram: Some([a, b, c, d, 0, 0, 0, 1]),
        iad: &[6, 1, 0x12, 3, 0xA0, 0, 0],
        aip: Some([0x21, 0]),
        track2: &[],
        pdol: &[0x9F, 0x37, 4],
        pdol_values: &values,
        oda_method: Some(OdaMethod::Ecc),
        oda_result: OdaResult::Passed,
        timings: Timings { exchange_us: 200_000, gate_us: 900 },
    }));
    sealed.unwrap()
}

/// So many operators that a settlement is more than a moment.
fn operators() -> String {
    let operator = |n| format!("{{ operator = {n}, share = {n} }}");
    let all: Vec<String> = (1..=OPERATORS).map(operator).collect();
    format!("[settlement]\noperators = [{}]\n", all.join(", "))
}

fn date(day: u32) -> String {
    ServiceDay::from_number(i64::from(number(day))).unwrap().to_string()
}

/// A day in days since 1970-01-01.
fn number(day: u32) -> i32 {
    FIRST_DAY + i32::try_from(day).unwrap()
}

/// Hands in entries, through one gateway after another; gives what was acknowledged.
fn hand_in(house: &House, through: usize, entries: Vec<String>) -> Vec<String> {
    for (n, piece) in entries.chunks(6).enumerate() {
        let answer = house.post(through + n, "/v1/taps/batches", &json!({ "entries": piece })).unwrap();
        for verdict in answer["verdicts"].as_array().unwrap() {
            let word = verdict["verdict"].as_str().unwrap();
            assert!(["accepted", "repeated"].contains(&word), "{answer}");
        }
    }
    entries
}

fn programs() -> Programs {
    Programs { town: env!("CARGO_BIN_EXE_town-gateway").into(), bank: env!("CARGO_BIN_EXE_town-bank").into() }
}

/// The city's tariff with the gates' station in it.
fn tariff() -> String {
    TARIFF.replace("\"HB\"", "\"A1\"")
}

/// A server whose commits are on disk.
fn server() -> Arc<Server> {
    let options = Options { durable: true, tcp: true, ..Options::default() };
    Arc::new(Server::start(options).unwrap())
}

struct Play {
    house: House,
    gate: Sealer,
    acknowledged: Vec<String>,
}

impl Play {
    /// With gateways under further settings.
    fn under(settings: &str, gateways: usize, postgres: bool, like: Option<&Play>) -> Self {
        let keys = like.map(|play| play.house.keys());
        let (tariff, server) = (tariff(), postgres.then(server));
        let plan =
            Plan { postgres: server, sandbox_bank: true, tariff: &tariff, settings, keys: keys.as_deref() };
        let mut house = House::lay(programs(), &plan).unwrap();
        house.open(gateways).unwrap();
        let add = ["gate", "add", "--id", "1", "--station", "A1", "--direction", "entry", "--out", "g.wpg"];
        let gate = Sealer::new(&house.file(&add).unwrap()).unwrap();
        let account = |n: u32| json!({ "account": format!("ACC-{n}"), "class": "ii" });
        let accounts: Vec<Value> = (0..CARDS).map(account).collect();
        house.bank("POST", "/v1/accounts", &json!({ "accounts": accounts }).to_string()).unwrap();
        let deposit =
            |n: u32| json!({ "account": format!("ACC-{n}"), "name": "first", "amount_fen": filling(n) });
        let deposits: Vec<Value> = (0..CARDS).map(deposit).collect();
        house.bank("POST", "/v1/deposits", &json!({ "deposits": deposits }).to_string()).unwrap();
        for n in 0..CARDS {
            let (number, account) = (digits(n), format!("ACC-{n}"));
            let register =
                ["token", "register", "--number", &number, "--expiry", "2031-05", "--account", &account];
            house.command(0, &register).unwrap();
        }
        Self { house, gate, acknowledged: Vec::new() }
    }

    /// Hands in the day's taps, closes it, deducts it until nothing is in doubt, and settles it, while one is killed where that
    /// is asked for. Gives how long each phase took, and whether the kill found its phase under way.
    fn day(&mut self, day: u32, through: usize, strike: Option<Strike>) -> (OfEach<Duration>, bool) {
        let Self { house, gate, acknowledged } = self;
        let (house, date): (&House, String) = (house, date(day));
        let entries: Vec<String> = (0..CARDS).map(|card| tap(gate, card, day)).collect();
        let stage = &Stage::default();
        let found = std::thread::scope(|threads| {
            let phase = strike.map(|strike| strike.phase);
            let mut blow = strike.map(|strike| threads.spawn(move || strike.land(house, stage)));
            stage.enter(Phase::Taps);
            acknowledged.extend(hand_in(house, through, entries));
            house.post(through, "/v1/risk/run", &json!({})).unwrap();

            stage.enter(Phase::Close);
            threads.spawn(|| stage.watch_close(house, &date));
            house.command(through, &["close-day", &date, "--force"]).unwrap();
            stage.enter(Phase::Doubt);
            let over = phase.is_none_or(|phase| phase < Phase::Settlement);
            let mut found = over.then(|| blow.take()).flatten().is_some_and(|blow| blow.join().unwrap());
            // The trouble is over, or yet to come: each attempt gets its answer now.
            house.command(through, &["deduct", &date]).unwrap();
            let left: Value =
                serde_json::from_str(&house.command(through, &["deduct", &date]).unwrap()).unwrap();
            assert_eq!(left, json!({ "approved": 0, "declined": 0, "in_doubt": 0 }));

            stage.enter(Phase::Settlement);
            house.command(through, &["settle", &date]).unwrap();
            stage.enter(Phase::Over);
            found |= blow.is_some_and(|blow| blow.join().unwrap());
            found
        });
        (stage.lengths(), found)
    }

    fn report(&self, date: &str) -> Value {
        serde_json::from_str(&self.house.command(0, &["report", date]).unwrap()).unwrap()
    }

    fn check(&self, day: u32) {
        for piece in self.acknowledged.chunks(500) {
            let answer = self.house.post(0, "/v1/taps/batches", &json!({ "entries": piece })).unwrap();
            let verdicts = answer["verdicts"].as_array().unwrap();
            assert!(verdicts.iter().all(|v| v["verdict"] == "repeated"), "acknowledged, and not there");
        }
        let date = date(day);
        let report = self.report(&date);
        let fen = |name: &str| report[name].as_i64().unwrap();
        assert_eq!(fen("taps_counted"), i64::from(CARDS), "{report}");
        assert_eq!(fen("in_doubt_fen"), 0, "{report}");
        balanced(&report).unwrap();
        let taken = self.house.statement(number(day)).unwrap();
        assert_eq!(taken.values().sum::<i64>(), fen("deducted_fen"), "{report}");
        // Without its last eight digits, the attempt's number, a name is the charge's.
        let charges: std::collections::BTreeSet<&str> = taken.keys().map(|name| &name[..48]).collect();
        assert_eq!(charges.len(), taken.len(), "a charge was deducted twice");
        let found: Value =
            serde_json::from_str(&self.house.command(0, &["reconcile", &date]).unwrap()).unwrap();
        assert_eq!(found["differences"], json!({}), "{found}");
        let books = self.house.bank("GET", "/v1/differences", "").unwrap();
        assert_eq!(books["differences"], json!([]));
    }

    /// What must be the same however often something was killed.
    fn result(&self, days: u32) -> Vec<String> {
        let mut all = Vec::new();
        for day in 0..days {
            let date = date(day);
            all.push(self.report(&date)["batches"].to_string());
            for kind in ["charges", "journeys", "collection", "settlement"] {
                let file = self.house.file(&["file", kind, &date, "--out", "f"]).unwrap();
                all.push(String::from_utf8(file).unwrap());
            }
            all.push(format!("{:?}", self.house.statement(number(day)).unwrap()));
        }
        all.push(self.house.bank("GET", "/v1/accounts?limit=100", "").unwrap().to_string());
        all
    }
}

fn days_with_kills(gateways: usize, postgres: bool, plain: u32) {
    let seed = std::env::var("WAVEPASS_KILLS_SEED").ok().map_or_else(rand::random, |s| s.parse().unwrap());
    println!("seed {seed}: WAVEPASS_KILLS_SEED={seed} plays it again");
    let long = std::env::var_os("WAVEPASS_LONG").is_some_and(|v| v == "1");
    let kills = if long { 40 } else { plain };
    let mut random = ChaCha20Rng::seed_from_u64(seed);
    let mut play = Play::under(&operators(), gateways, postgres, None);
    let mut calm = Play::under(&operators(), gateways, postgres, Some(&play));
    let victims = play.house.victims();
    let (mut phases, mut hits) = (PHASES, OfEach::<u32>::default());
    for day in 0..kills {
        let (lengths, _) = calm.day(day, 0, None);
        // Each of both in turn, the phases in another order each time.
        let turn = day as usize % phases.len();
        if turn == 0 {
            phases.shuffle(&mut random);
        }
        let (phase, victim) = (phases[turn], victims[day as usize % victims.len()]);
        let length = lengths[phase as usize];
        let wait = length.mul_f64(random.random_range(0.0..1.0));
        let through = random.random_range(0..gateways);
        let (_, found) = play.day(day, through, Some(Strike { victim, phase, wait }));
        let how = if found { "under way" } else { "over" };
        println!("day {day}: {victim:?} after {wait:?} of {phase:?}, calm {length:?}: found it {how}");
        hits[phase as usize] += u32::from(found);
        play.check(day);
        settled(&play.report(&date(day))).unwrap();
    }
    for phase in PHASES {
        println!("{phase:?}: {} kills found it under way", hits[phase as usize]);
        assert!(!long || hits[phase as usize] > 0, "no kill fell into {phase:?}");
    }
    calm.check(kills - 1);
    assert_eq!(play.result(kills), calm.result(kills));
}

#[test]
fn a_gateway_on_sqlite_and_its_bank_are_killed_and_nothing_is_lost_or_taken_twice() {
    days_with_kills(1, false, 4);
}

#[test]
fn a_gateway_on_postgresql_is_killed_and_nothing_is_lost_or_taken_twice() {
    days_with_kills(1, true, 3);
}

#[test]
fn three_gateways_on_postgresql_are_killed_and_nothing_is_lost_or_taken_twice() {
    days_with_kills(3, true, 5);
}
