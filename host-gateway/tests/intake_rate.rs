//! How fast sealed taps become durable. A measurement, not a gate on a busy machine: run it with
//! `cargo test --release -p wavepass-gateway --test intake_rate -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use std::sync::Arc;
use std::time::Instant;

use rand::SeedableRng;
use wavepass_gateway::cli::App;
use wavepass_gateway::clock::System;
use wavepass_gateway::config::Config;
use wavepass_gateway::gates::{self, NewGate};
use wavepass_gateway::intake::sealer::Sealer;
use wavepass_gateway::keys::{KeyOptions, KeySet};
use wavepass_gateway::store::Store;
use wavepass_gateway::tokens::{self, Registration};
use wavepass_protocol::tap::{
    ClockQuality, Decision, Direction, Entry, OdaMethod, OdaResult, Outcome, Passage, Tap, Timings,
};
use wavepass_protocol::time::UnixMs;
use wavepass_protocol::token::{Expiry, Token};

const TAPS: u32 = 100_000;
const GATES: u32 = 20;
const BATCH: usize = 512;
/// 2026-11-23T08:00:00+08:00
const MORNING: u64 = 1_795_392_000_000;

fn number(n: u32) -> Token {
    Token::from_digits(&format!("62220212{:08}", n % (TAPS / 4))).unwrap()
}

fn tap(gate: &mut Sealer, n: u32) -> Vec<u8> {
    let entry = Entry::Tap(Tap {
        time: UnixMs(MORNING + u64::from(n) * 300),
        clock: ClockQuality::Synchronised,
        station: "S07",
        direction: Direction::Entry,
        decision: Decision::Open,
        aid: &[0xF0, 0x57, 0x41, 0x56, 0x45, 0x50, 0x41, 0x53, 0x53, 1],
        token: Some(number(n)),
        expiry: Some(Expiry::new(31, 5).unwrap()),
        expiry_signed: true,
        psn: Some(0),
        atc: Some((n / (TAPS / 4) + 1) as u16),
        cid: Some(0x80),
        cryptogram: Some([1; 8]),
        iad: &[6, 1, 0x12, 3, 0xA0, 0, 0],
        aip: Some([0x21, 0]),
        track2: &[],
        pdol: &[
            0x9F, 0x66, 4, 0x9F, 2, 6, 0x9F, 3, 6, 0x9F, 0x1A, 2, 0x95, 5, 0x5F, 0x2A, 2, 0x9A, 3, 0x9C, 1,
            0x9F, 0x37, 4,
        ],
        pdol_values: &[7; 33],
        oda_method: Some(OdaMethod::Ecc),
        oda_result: OdaResult::Passed,
        timings: Timings { exchange_us: 180_000, gate_us: 800 },
    });
    gate.seal(&entry).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn intake_rate() {
    let dir = tempfile::tempdir().unwrap();
    let keys =
        KeySet::generate(&mut rand_chacha::ChaCha20Rng::seed_from_u64(1), &KeyOptions::house(2036)).unwrap();
    let config = Config::of(dir.path()).unwrap();
    let store = Store::open(&config.database, &config.data).await.unwrap();
    let app = App::start(store, keys.clearing(), keys.bank(), config, Arc::new(System)).await.unwrap();
    let mut batches: Vec<Vec<Vec<Vec<u8>>>> = Vec::new();
    for gate_id in 1..=GATES {
        let new = NewGate {
            gate_id,
            station: "S07".into(),
            direction: Direction::Entry,
            operator: 1,
            network: *b"WAVE",
        };
        let mut tx = app.store.begin().await.unwrap();
        let (_, file) = gates::add_in(&mut tx, &*app.clearing, &new, "bench", UnixMs(MORNING)).await.unwrap();
        tx.commit().await.unwrap();
        let mut gate = Sealer::new(&file).unwrap();
        let mut entries = Vec::new();
        for n in (0..TAPS).filter(|n| n % GATES == gate_id - 1) {
            entries.push(tap(&mut gate, n));
            let of = gate.next_sequence() - 1;
            let passed = Passage { time: UnixMs(MORNING), of, outcome: Outcome::Passed };
            entries.push(gate.seal(&Entry::Passage(passed)).unwrap());
        }
        batches.push(entries.chunks(BATCH).map(<[_]>::to_vec).collect());
    }
    let card = |n: u32| Registration {
        token: number(n),
        expiry: Expiry::new(31, 5).unwrap(),
        psn: 0,
        account_id: format!("account-{n}"),
        category: "adult".into(),
    };
    let cards: Vec<Registration> = (0..TAPS / 4).map(card).collect();
    let mut tx = app.store.begin().await.unwrap();
    tokens::register_in(&mut tx, &*app.clearing, &cards, "bench", UnixMs(MORNING)).await.unwrap();
    tx.commit().await.unwrap();
    let began = Instant::now();
    let mut senders = tokio::task::JoinSet::new();
    for gate in batches {
        let intake = app.intake.clone();
        senders.spawn(async move {
            for batch in gate {
                let n = batch.len();
                assert_eq!(intake.ingest(batch).await.unwrap().count("accepted"), n);
            }
        });
    }
    senders.join_all().await;
    let intake_s = began.elapsed().as_secs_f64();
    let began = Instant::now();
    let summary = wavepass_gateway::risk::run(&app).await.unwrap();
    let risk_s = began.elapsed().as_secs_f64();
    println!(
        "intake: {TAPS} taps with their passages in {intake_s:.2} s: {:.0} taps/s; risk: {:.0} taps/s, {summary:?}",
        f64::from(TAPS) / intake_s,
        f64::from(TAPS) / risk_s
    );
    app.store.close().await;
}
