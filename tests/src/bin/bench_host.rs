//! `cargo x bench host`: the host's work, from sealed taps to a settled day, on a real SQLite file with
//! `synchronous=FULL`.
//!
//! The taps are made beforehand by real phones (their cryptograms verify) and sealed by stand-ins of gates; then
//! each stage is timed: intake (sealed tap to durable row), close (risk, pricing, charges, batch, deduction at
//! the embedded bank), settlement. Rates are taps a second; `overall` is all stages together.

use clap::Parser;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use rayon::prelude::*;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use wavepass_fares::{Fen, Tariff};
use wavepass_gateway::bank::embedded::{Class, Deposit, Limits, NewAccount, deposit_in, open_in};
use wavepass_gateway::clearing::{app as clearing, tariffs};
use wavepass_gateway::cli::App;
use wavepass_gateway::clock::Driven;
use wavepass_gateway::config::Config;
use wavepass_gateway::gates::{self, NewGate};
use wavepass_gateway::intake::sealer::Sealer;
use wavepass_gateway::intake::{IntakeError, Verdict};
use wavepass_gateway::keys::{KeyOptions, KeySet};
use wavepass_gateway::lists;
use wavepass_gateway::store::Store;
use wavepass_gateway::tokens::{self, IssueRequest};
use wavepass_hce::phone::{Phone, PhoneFile};
use wavepass_hce::reader::{Values, read};
use wavepass_hce::state::Counters;
use wavepass_protocol::seal::Sealed;
use wavepass_protocol::tags;
use wavepass_protocol::tap::{ClockQuality, Decision, Direction, Entry, OdaMethod, OdaResult, Tap, Timings};
use wavepass_protocol::time::{Date, UnixMs};
use wavepass_protocol::token::{Expiry, Token};

const TARIFF: &str = include_str!("../../../host-gateway/tariffs/wavepass-city.toml");
const START: UnixMs = UnixMs(1_795_377_600_000);
const GATES: usize = 20;
/// Taps of one token in the day.
const TAPS_EACH: usize = 10;
/// Concentrators that bring entries at once.
const LANES: usize = 5;
/// Entries handed in at once, as gates' sessions do together.
const BATCH: usize = 4096;

#[derive(Parser)]
#[command(name = "cargo x bench host")]
struct Arguments {
    /// How many taps
    #[arg(long, default_value_t = 100_000)]
    taps: usize,
    /// Also write the figures to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let figures = runtime.block_on(run(arguments.taps))?;
    let text = serde_json::to_string_pretty(&json!({ "sqlite": figures }))?;
    println!("{text}");
    if let Some(file) = arguments.json {
        std::fs::write(file, text)?;
    }
    Ok(())
}

async fn run(taps: usize) -> Result<serde_json::Value, Failure> {
    let folder = tempfile::tempdir()?;
    let mut rng = ChaCha12Rng::seed_from_u64(7);
    let keys = KeySet::generate(&mut rng, &KeyOptions::house(2040))?;
    let url = format!("sqlite:{}", folder.path().join("bench.sqlite").display());
    let store = Store::open(&url, folder.path()).await?;
    let riders = taps.div_ceil(TAPS_EACH);
    eprintln!("making {riders} tokens and {taps} taps …");
    let account = |rider: usize| format!("E{rider:08}");
    let mut tx = store.begin().await?;
    lists::set_ca_keys_in(&mut tx, &keys.bank().ca_keys()).await?;
    let file = "wavepass-city.toml";
    let day_clock = Tariff::parse(file, TARIFF)?.clock;
    let publication =
        tariffs::Publication { file, text: TARIFF, day_clock: &day_clock, by: "bench", now: START };
    tariffs::publish_in(&mut tx, publication).await?;
    let accounts: Vec<NewAccount> =
        (0..riders).map(|r| NewAccount { account_id: account(r), class: Class::Ii }).collect();
    open_in(&mut tx, &accounts).await?;
    let deposits: Vec<Deposit> = (0..riders)
        .map(|r| Deposit {
            account_id: account(r),
            name: "opening".into(),
            amount: Fen(50_000),
            at_ms: START.0 as i64,
        })
        .collect();
    for part in deposits.chunks(1_000) {
        deposit_in(&mut tx, &Limits::default(), part).await?;
    }
    let requests: Vec<IssueRequest> = (0..riders)
        .map(|r| IssueRequest {
            account_id: account(r),
            category: "adult".into(),
            effective: Date { year: 2026, month: 1, day: 1 },
            expiry: Expiry { year: 31, month: 12 },
            network: *b"WAVE",
            operator: 0,
        })
        .collect();
    let (clearing_keys, bank_keys) = (keys.clearing(), keys.bank());
    let mut phones = Vec::with_capacity(riders);
    for part in requests.chunks(1_000) {
        let issued =
            tokens::issue_many_in(&mut tx, clearing_keys.as_ref(), bank_keys.as_ref(), part, "bench", START)
                .await?;
        phones.extend(issued.into_iter().map(|i| i.phone));
    }
    let tariff = Tariff::parse("wavepass-city.toml", TARIFF)?.compile()?;
    let mut sealers = Vec::new();
    for gate in 0..GATES {
        let direction = if gate % 2 == 0 { Direction::Entry } else { Direction::Exit };
        let station = tariff.stations()[gate / 2].to_string();
        let new = NewGate {
            gate_id: gate as u32 + 1,
            station: station.clone(),
            direction,
            operator: 1,
            network: *b"WAVE",
        };
        let (_, file) = gates::add_in(&mut tx, clearing_keys.as_ref(), &new, "bench", START).await?;
        sealers.push((Sealer::new(&file)?, station, direction));
    }
    tx.commit().await?;
    let sealed = seal_all(&phones, taps, &mut sealers)?;

    let clock = Arc::new(Driven::new(START));
    let app = App::start(store.clone(), clearing_keys, bank_keys, Config::of(folder.path())?, clock.clone())
        .await?;
    clock.set(UnixMs(START.0 + 34 * 3_600_000))?;
    let begin = Instant::now();
    let mut waiting = tokio::task::JoinSet::new();
    // As concentrators bring them: each gate's entries in order, several gates at once.
    let mut lanes = vec![Vec::new(); LANES];
    for entry in sealed {
        let gate = Sealed::parse(&entry)?.header.ksn.key_id.0[7];
        lanes[usize::from(gate) % LANES].push(entry);
    }
    for lane in lanes {
        let intake = app.intake.clone();
        waiting.spawn(async move {
            let mut accepted = 0;
            for part in lane.chunks(BATCH) {
                let receipt = intake.ingest(part.to_vec()).await?;
                accepted += receipt.verdicts.iter().filter(|v| matches!(v, Verdict::Accepted)).count();
            }
            Ok::<_, IntakeError>(accepted)
        });
    }
    let mut accepted = 0;
    while let Some(done) = waiting.join_next().await {
        accepted += done??;
    }
    if accepted != taps {
        return Err(format!("{accepted} of {taps} taps were accepted").into());
    }
    let intake_s = begin.elapsed().as_secs_f64();
    let day = tariff.clock().day_of(START.0 as i64)?;
    let begin = Instant::now();
    clearing::close(&app, "bench", day, false, false).await?;
    let close_s = begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    clearing::settle(&app, "bench", day).await?;
    let settle_s = begin.elapsed().as_secs_f64();
    let report = wavepass_gateway::clearing::report(&store, Some(day)).await?;
    if report.charged_fen.0 == 0 || report.ledger_sum_fen.0 != 0 {
        return Err(format!("the day is not balanced: charged {:?}", report.charged_fen).into());
    }
    let rate = |seconds: f64| (taps as f64 / seconds).round();
    Ok(json!({
        "taps": taps,
        "tokens": riders,
        "charged_fen": report.charged_fen.0,
        "deducted_fen": report.deducted_fen.0,
        "taps_per_second": {
            "intake": rate(intake_s),
            "close_and_deduct": rate(close_s),
            "settle": rate(settle_s),
            "overall": rate(intake_s + close_s + settle_s),
        },
    }))
}

/// What a gate keeps of one tap, owned.
struct Made {
    gate: usize,
    time: UnixMs,
    aid: Vec<u8>,
    token: Token,
    atc: u16,
    cid: u8,
    cryptogram: [u8; 8],
    iad: Vec<u8>,
    aip: [u8; 2],
    pdol_values: Vec<u8>,
}

fn seal_all(
    phones: &[PhoneFile],
    taps: usize,
    sealers: &mut [(Sealer, String, Direction)],
) -> Result<Vec<Vec<u8>>, Failure> {
    let mut made: Vec<Made> = phones
        .par_iter()
        .enumerate()
        .map(|(rider, file)| make(rider, file))
        .collect::<Result<Vec<_>, Failure>>()?
        .into_iter()
        .flatten()
        .collect();
    made.truncate(taps);
    made.sort_by_key(|m| m.time);
    made.iter()
        .map(|m| {
            let (sealer, station, direction) = &mut sealers[m.gate];
            let tap = Tap {
                time: m.time,
                clock: ClockQuality::Synchronised,
                station,
                direction: *direction,
                decision: Decision::Open,
                aid: &m.aid,
                token: Some(m.token),
                expiry: Some(Expiry { year: 31, month: 12 }),
                expiry_signed: true,
                psn: Some(0),
                atc: Some(m.atc),
                cid: Some(m.cid),
                cryptogram: Some(m.cryptogram),
                iad: &m.iad,
                aip: Some(m.aip),
                track2: &[],
                pdol: wavepass_hce::issue::HOUSE_PDOL,
                pdol_values: &m.pdol_values,
                oda_method: Some(OdaMethod::Ecc),
                oda_result: OdaResult::Passed,
                timings: Timings::default(),
            };
            Ok(sealer.seal(&Entry::Tap(tap))?)
        })
        .collect()
}

/// The day of one rider: in at an entry gate, out at an exit gate of another station, half an hour apart.
fn make(rider: usize, file: &PhoneFile) -> Result<Vec<Made>, Failure> {
    let mut phone = Phone::new(file, Counters::memory(), [rider as u8; 32])?;
    let mut taps = Vec::with_capacity(TAPS_EACH);
    for i in 0..TAPS_EACH {
        let unpredictable = ((rider * TAPS_EACH + i) as u32).to_be_bytes();
        let values = Values::gate(Date { year: 2026, month: 11, day: 23 }, unpredictable);
        let reading = read(&mut phone, &values)?;
        let field = |tag| reading.value(tag).ok_or("the card left out a field");
        let gate = (rider * 2 + i / 2 * 6) % GATES / 2 * 2;
        let gate = if i % 2 == 0 { gate } else { (gate + 5) % GATES };
        taps.push(Made {
            gate,
            time: UnixMs(START.0 + 7_200_000 + (i as u64) * 1_800_000 + (rider as u64 % 1_000_000)),
            aid: reading.aid.as_slice().to_vec(),
            token: file.token(),
            atc: u16::from_be_bytes(field(tags::ATC)?.as_slice().try_into()?),
            cid: field(tags::CID)?.first().copied().ok_or("an empty CID")?,
            cryptogram: field(tags::CRYPTOGRAM)?.as_slice().try_into()?,
            iad: field(tags::IAD)?,
            aip: field(tags::AIP)?.as_slice().try_into()?,
            pdol_values: reading.pdol_values.clone(),
        });
    }
    Ok(taps)
}
