//! Gates that return after an outage, each with an hour's sealed taps, beside gates that go on: how long it takes until all
//! is drained, and what riders' taps wait for their acknowledgement meanwhile.
//!
//! The gateway is a process of its own, and the gates speak the link's real protocol to it over TCP. Everything is sealed
//! beforehand. Gates that go on tap at fixed times, whether or not the tap before was acknowledged. They begin alone, which
//! gives the figures without a backlog; then all the others connect at once. In the end the store must hold each tap once.

use crate::ours::{forget_peak, peak_rss_bytes};
use crate::town::{make, rider};
use crate::{Failure, START, TAPS_EACH, TARIFF, keys};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use rayon::prelude::*;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use wavepass_fares::Tariff;
use wavepass_gateway::gates::NewGate;
use wavepass_gateway::intake::sealer::Sealer;
use wavepass_gateway::keys::{ClearingKeys, Cost, KeySet, Passphrase};
use wavepass_gateway::open_files;
use wavepass_gateway::store::Store;
use wavepass_gateway::store::db::query;
use wavepass_hce::phone::PhoneFile;
use wavepass_protocol::tap::{Decision, Direction, Entry};
use wavepass_test_postgres::Server;
use wavepass_tests::line::{Line, WINDOW};
use wavepass_tests::processes::{House, PASSPHRASE, Plan, Programs};
use wavepass_tests::riders::{Rider, Told, Town, found_network, register};

/// How often a gate that goes on is tapped at.
const PACE: Duration = Duration::from_millis(250);
/// Taps of such a gate before the others return.
const ALONE: usize = 16;
/// Taps that such a gate has at most: 100 seconds of them.
const STOCK: usize = 400;
/// Riders registered in one transaction.
const RIDERS: usize = 5_000;
/// How often a gate whose line broke connects again, and how long it waits before it does.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(500);

/// How many gates return, with how many taps each, and how many go on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    gates: usize,
    taps_each: usize,
    live: usize,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split(':').map(str::parse).collect::<Result<Vec<usize>, _>>();
        match numbers.as_deref() {
            Ok(&[gates, taps_each, live]) if gates > 0 && taps_each > 0 && live > 0 => {
                Ok(Self { gates, taps_each, live })
            }
            _ => Err("not of the form GATES:TAPS_EACH:LIVE_GATES, all above 0".into()),
        }
    }
}

impl Size {
    /// Taps that wait in the gates that return.
    const fn waiting(self) -> usize {
        self.gates * self.taps_each
    }
}

/// A gate with what its journal holds.
struct Gate {
    gate_id: u32,
    entries: Vec<Vec<u8>>,
    sealer: Sealer,
}

/// What the gates that go on are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Alone,
    Beside,
    Over,
}

/// One run on an empty database: of a file, or of a server.
pub(crate) async fn run(name: &str, server: Option<Arc<Server>>, size: Size) -> Result<Value, Failure> {
    let connections = size.gates + size.live;
    open_files::raise(connections)?;
    let folder = tempfile::tempdir()?;
    let (keys, key_files) = (keys()?, folder.path().join("keys"));
    let mut random = ChaCha12Rng::seed_from_u64(8);
    keys.write(&key_files, &Passphrase::new(PASSPHRASE), Cost::Test, &mut random)?;
    let program = std::env::current_exe()?;
    let programs = Programs { town: program.clone(), bank: program };
    // One that is served anew may stand beside the one that it takes the place of.
    let settings = format!("[link]\nmax_connections = {}\n", connections * 2);
    let plan = Plan {
        postgres: server,
        sandbox_bank: false,
        tariff: TARIFF,
        settings: &settings,
        keys: Some(&key_files),
    };
    let mut house = House::lay(programs, &plan)?;
    let (url, data) = house.store();
    eprintln!("{name}: {} gates seal {} taps each …", size.gates, size.taps_each);
    let store = Store::open(&url, &data).await?;
    let mut gates = seal(&store, &keys, size).await?;
    store.close().await;
    drop(store);

    house.open(1)?;
    let (at, process) = (house.link(0)?, house.pid(0).to_string());
    let (phase, told) = watch::channel(Phase::Alone);
    let clearing = keys.clearing();
    let mut live = JoinSet::new();
    for (n, gate) in gates.drain(size.gates..).enumerate() {
        let begin = Instant::now() + PACE * n as u32 / size.live as u32;
        live.spawn(go_on(at, clearing.clone(), gate, begin, told.clone()));
    }
    tokio::time::sleep(PACE * ALONE as u32).await;

    eprintln!("{name}: they return beside {} that go on …", size.live);
    forget_peak(&process);
    phase.send_replace(Phase::Beside);
    let begin = Instant::now();
    let mut returning = JoinSet::new();
    for gate in gates {
        returning.spawn(drain(at, clearing.clone(), gate));
    }
    let mut reconnections = 0;
    while let Some(done) = returning.join_next().await {
        reconnections += done??;
    }
    let seconds = begin.elapsed().as_secs_f64();
    phase.send_replace(Phase::Over);
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    while let Some(done) = live.join_next().await {
        for (phase, wait) in done?? {
            if phase == Phase::Alone { alone.push(wait) } else { beside.push(wait) }
        }
    }
    let peak = peak_rss_bytes(&process);
    house.close();
    let expected = size.waiting() + alone.len() + beside.len();
    each_once(&Store::open(&url, &data).await?, expected).await?;

    let (without, during) = (Waits::of(alone)?, Waits::of(beside)?);
    let rate = size.waiting() as f64 / seconds;
    eprintln!(
        "{name}: {} entries of {} gates in {seconds:.1} s, {rate:.0}/s; peak {} MB\n\
         taps meanwhile   p50 {:.0} ms, p95 {:.0} ms, p99 {:.0} ms, at most {:.0} ms ({})\n\
         taps before      p50 {:.0} ms, p95 {:.0} ms, p99 {:.0} ms, at most {:.0} ms ({})",
        size.waiting(),
        size.gates,
        peak.unwrap_or(0) >> 20,
        during.p50,
        during.p95,
        during.p99,
        during.max,
        during.taps,
        without.p50,
        without.p95,
        without.p99,
        without.max,
        without.taps,
    );
    Ok(json!({ "backlog": {
        "gates": size.gates,
        "taps_each": size.taps_each,
        "live_gates": size.live,
        "entries": size.waiting(),
        "taps_in_store": expected,
        "seconds": seconds,
        "entries_per_second": rate.round(),
        "reconnections": reconnections,
        "live_ms": during.json(),
        "live_ms_without_backlog": without.json(),
        "ratio": { "p50": during.p50 / without.p50, "p99": during.p99 / without.p99 },
        "peak_rss_bytes": peak,
    }}))
}

/// Fills an empty store, and seals what the gates hold: first those that return, then those that go on.
async fn seal(store: &Store, keys: &KeySet, size: Size) -> Result<Vec<Gate>, Failure> {
    let tariff = Tariff::parse("wavepass-city.toml", TARIFF)?.compile()?;
    let stations = tariff.stations();
    let new = |gate: usize| NewGate {
        gate_id: gate as u32 + 1,
        station: stations[gate / 2 % stations.len()].to_string(),
        direction: if gate.is_multiple_of(2) { Direction::Entry } else { Direction::Exit },
        operator: 1,
        network: *b"WAVE",
    };
    let new: Vec<NewGate> = (0..size.gates + size.live).map(new).collect();
    let town = Town { tariff_file: "wavepass-city.toml", tariff: TARIFF, gates: &new, now: START };
    let sealers = found_network(store, keys, &town).await?;
    let mut gates: Vec<Gate> = sealers
        .into_iter()
        .zip(&new)
        .map(|(sealer, new)| Gate { gate_id: new.gate_id, entries: Vec::new(), sealer })
        .collect();
    // Each phone's taps go to gates side by side, so that risk has nothing to say of them.
    let taps = size.waiting() + size.live * STOCK;
    let gate_of = |tap: usize| match tap.checked_sub(size.waiting()) {
        None => tap % size.gates,
        Some(tap) => size.gates + tap % size.live,
    };
    let mut made = 0;
    let riders = taps.div_ceil(TAPS_EACH);
    for first in (0..riders).step_by(RIDERS) {
        let some: Vec<Rider> = (first..riders.min(first + RIDERS)).map(rider).collect();
        let issued = register(store, keys, &some, START).await?;
        let phones: Vec<PhoneFile> = issued.into_iter().map(|issued| issued.phone).collect();
        let read = phones.par_iter().enumerate().map(|(n, phone)| make(first + n, phone));
        let told: Vec<_> = read.collect::<Result<Vec<_>, Failure>>()?.into_iter().flatten().collect();
        let mut piles: Vec<Vec<(wavepass_protocol::time::UnixMs, Told)>> =
            gates.iter().map(|_| Vec::new()).collect();
        for tap in told.into_iter().take(taps - made) {
            piles[gate_of(made)].push((tap.time, tap.told));
            made += 1;
        }
        let seal = |((gate, pile), new): ((&mut Gate, Vec<_>), &NewGate)| -> Result<(), Failure> {
            for (time, told) in &pile {
                let tap = Told::tap(told, *time, &new.station, new.direction, Decision::Open);
                gate.entries.push(gate.sealer.seal(&Entry::Tap(tap))?);
            }
            Ok(())
        };
        gates.par_iter_mut().zip(piles).zip(&new).try_for_each(seal)?;
    }
    Ok(gates)
}

/// Brings all that a gate holds, over as many lines as it takes; gives how often it had to connect again.
async fn drain(at: SocketAddr, keys: Arc<dyn ClearingKeys>, gate: Gate) -> Result<u32, Failure> {
    let mut acknowledged = 0;
    for tries in 0..TRIES {
        match bring(at, &*keys, &gate, &mut acknowledged).await {
            Ok(()) => return Ok(tries),
            Err(error) if tries + 1 == TRIES => return Err(format!("gate {}: {error}", gate.gate_id).into()),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
    Ok(TRIES)
}

async fn bring(
    at: SocketAddr,
    keys: &dyn ClearingKeys,
    gate: &Gate,
    acknowledged: &mut u32,
) -> Result<(), Failure> {
    let last = u32::try_from(gate.entries.len())?;
    let mut line = Line::open(at, keys, gate.gate_id, gate.sealer.key_id).await?;
    line.status(*acknowledged, last + 1);
    let mut sent = *acknowledged;
    while *acknowledged < last {
        // As a gate does: no more than a window is on its way.
        while sent < last && sent - *acknowledged < WINDOW {
            line.entry(&gate.entries[sent as usize]);
            sent += 1;
        }
        line.flush().await?;
        if let Some(upto) = line.hear().await? {
            *acknowledged = upto.max(*acknowledged);
        }
    }
    Ok(())
}

/// Taps at fixed times until it is over; gives what each waited for its acknowledgement, and beside what.
async fn go_on(
    at: SocketAddr,
    keys: Arc<dyn ClearingKeys>,
    gate: Gate,
    begin: Instant,
    phase: watch::Receiver<Phase>,
) -> Result<Vec<(Phase, Duration)>, Failure> {
    let mut line = Line::open(at, &*keys, gate.gate_id, gate.sealer.key_id).await?;
    let mut due = tokio::time::interval_at(begin, PACE);
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut waits = Vec::new();
    let mut on_their_way: VecDeque<(Phase, Instant)> = VecDeque::new();
    let mut entries = (1..).zip(&gate.entries);
    let mut acknowledged = 0;
    loop {
        let over = *phase.borrow() == Phase::Over;
        if over && on_their_way.is_empty() {
            return Ok(waits);
        }
        tokio::select! {
            tapped = due.tick(), if !over => {
                let Some((sequence, sealed)) = entries.next() else { continue };
                on_their_way.push_back((*phase.borrow(), tapped));
                line.status(acknowledged, sequence + 1);
                line.entry(sealed);
                line.flush().await?;
            }
            upto = line.hear() => {
                let upto: u32 = upto?.unwrap_or(acknowledged).max(acknowledged);
                for _ in acknowledged..upto {
                    let (phase, tapped) = on_their_way.pop_front().ok_or("an acknowledgement of nothing")?;
                    waits.push((phase, tapped.elapsed()));
                }
                acknowledged = upto;
            }
        }
    }
}

/// Refuses figures of taps that are missing or there twice.
async fn each_once(store: &Store, expected: usize) -> Result<(), Failure> {
    let text = "SELECT count(*), CAST(sum(counted) AS BIGINT), (SELECT CAST(sum(acked) AS BIGINT) FROM watermarks) FROM taps";
    let found: (i64, i64, i64) = query(text).row(store.pool()).await?;
    let expected = i64::try_from(expected)?;
    match found == (expected, expected, expected) {
        true => Ok(()),
        false => Err(format!("(taps, counted, acknowledged) are {found:?}, {expected} were sent").into()),
    }
}

/// What taps waited for their acknowledgements, in milliseconds.
struct Waits {
    taps: usize,
    p50: f64,
    p95: f64,
    p99: f64,
    max: f64,
}

impl Waits {
    fn of(mut waits: Vec<Duration>) -> Result<Self, Failure> {
        waits.sort_unstable();
        let taps = waits.len();
        let at = |share: usize| {
            let rank = (taps * share).div_ceil(100).max(1);
            waits.get(rank - 1).map(|wait| wait.as_secs_f64() * 1e3).ok_or("no gate was tapped at")
        };
        Ok(Self { taps, p50: at(50)?, p95: at(95)?, p99: at(99)?, max: at(100)? })
    }

    fn json(&self) -> Value {
        json!({ "taps": self.taps, "p50": self.p50, "p95": self.p95, "p99": self.p99, "max": self.max })
    }
}
