//! `cargo x bench gate`: the gate's own work for one tap, on this machine's core.
//!
//! The gate is the real application over flash in memory; the phones are real; their own time is left out. These
//! are times on a desktop core, not on a gate's processor.

use clap::Parser;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;
use wavepass_gate::{Areas, Contact, Gate, Idle, Memory, Now};
use wavepass_gateway::gates::{self, NewGate};
use wavepass_gateway::keys::{BankKeys, CardOrder, KeyOptions, KeySet, PhoneOrder};
use wavepass_gateway::lists;
use wavepass_gateway::store::Store;
use wavepass_hce::card::Card;
use wavepass_hce::issue::{RSA_DEBIT_AID, RsaCardKey};
use wavepass_hce::phone::{Phone, PhoneFile};
use wavepass_hce::state::Counters;
use wavepass_journal::Limits;
use wavepass_journal::sim::RamFlash;
use wavepass_kernel::Lost;
use wavepass_protocol::ecc::P256Verifier;
use wavepass_protocol::link::{FromHost, MAX_FRAME, MAX_PART, Side, send_clear};
use wavepass_protocol::lists::Kind;
use wavepass_protocol::tap::{ClockQuality, Decision, Direction};
use wavepass_protocol::time::{Date, UnixMs};
use wavepass_protocol::token::{Expiry, Token};

const START: UnixMs = UnixMs(1_795_400_000_000);
const GOOD: Expiry = Expiry { year: 31, month: 12 };
const SINCE: Date = Date { year: 2026, month: 1, day: 1 };

#[derive(Parser)]
#[command(name = "cargo x bench gate")]
struct Arguments {
    /// How many taps of each kind
    #[arg(long, default_value_t = 300)]
    taps: u32,
    /// Also write the figures to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;
type BenchGate = Gate<RamFlash, Box<Memory<P256Verifier>>>;

struct Field<'c> {
    card: &'c mut Phone,
    begun: Instant,
}

impl Contact for Field<'_> {
    async fn exchange(&mut self, command: &[u8], answer: &mut [u8]) -> Result<usize, Lost> {
        let got = self.card.transmit(command).map_err(|_| Lost::Removed)?;
        answer.get_mut(..got.data.len()).ok_or(Lost::Protocol)?.copy_from_slice(&got.data);
        Ok(got.data.len())
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let figures = runtime.block_on(run(arguments.taps))?;
    let text = serde_json::to_string_pretty(&figures)?;
    println!("{text}");
    if let Some(file) = arguments.json {
        std::fs::write(file, text)?;
    }
    Ok(())
}

/// A commissioned gate with its lists, brought over a real link session in memory.
async fn gate(keys: &KeySet, folder: &std::path::Path) -> Result<BenchGate, Failure> {
    let store = Store::open(&format!("sqlite:{}", folder.join("bench.sqlite").display()), folder).await?;
    let clearing = keys.clearing();
    let mut tx = store.begin().await?;
    lists::set_ca_keys_in(&mut tx, &keys.bank().ca_keys()).await?;
    let new = NewGate {
        gate_id: 1,
        station: "A1".into(),
        direction: Direction::Entry,
        operator: 1,
        network: *b"WAVE",
    };
    let (identity, file) = gates::add_in(&mut tx, clearing.as_ref(), &new, "bench", START).await?;
    lists::publish(&mut tx, clearing.as_ref(), START).await?;
    tx.commit().await?;
    let areas = || Areas {
        journal: RamFlash::new(1 << 20),
        keys: RamFlash::new(4 * 4096),
        identity: RamFlash::new(2 * 4096),
        lists: std::array::from_fn(|_| RamFlash::new(4 * 4096)),
    };
    let flash = areas();
    let again = Areas {
        journal: flash.journal.clone(),
        keys: flash.keys.clone(),
        identity: flash.identity.clone(),
        lists: flash.lists.clone(),
    };
    flash.commission(&file).await.map_err(|e| format!("{e:?}"))?;
    let memory = Box::new(Memory::new(P256Verifier));
    let mut gate = BenchGate::start(again, Limits::default(), memory).await.map_err(|e| format!("{e:?}"))?;

    let mut frame = [0; MAX_FRAME];
    let (mut link, _) = gate.link_begin([1; 16], &mut frame).map_err(|e| e.to_string())?;
    let link_key = clearing.link_key(1, identity.key_id);
    let nonce = [2; 16];
    let proof = link_key.proof(1, &[1; 16], &nonce);
    let mut out = [0; MAX_FRAME];
    let welcome = send_clear(&FromHost::Welcome { nonce, proof }, &mut out)?.to_vec();
    gate.link_receive(&mut link, &welcome).await.map_err(|e| format!("{e:?}"))??;
    let mut host = link_key.session(Side::Host, 1, &[1; 16], &nonce);
    let mut conn = store.pool().acquire().await?;
    let published = lists::Published::load(&mut conn).await?;
    for kind in Kind::ALL {
        let Some((version, bytes)) = published.current(kind) else { continue };
        for (i, part) in bytes.chunks(MAX_PART).enumerate() {
            let (total, offset) = (bytes.len() as u32, (i * MAX_PART) as u32);
            let message = FromHost::ListPart { kind, version, total, offset, part };
            let sent = host.send(&message, &mut out)?.to_vec();
            gate.link_receive(&mut link, &sent).await.map_err(|e| format!("{e:?}"))??;
        }
        while gate.idle().await.map_err(|e| format!("{e:?}"))? == Idle::More {}
    }
    Ok(gate)
}

/// Presents a card `taps` times, each at a time of its own; gives the gate's own work in µs, sorted. The
/// journal has room for all of them.
async fn measure(
    gate: &mut BenchGate,
    file: &PhoneFile,
    taps: u32,
    clock: &mut u64,
) -> Result<Vec<u32>, Failure> {
    let mut phone = Phone::new(file, Counters::memory(), [3; 32])?;
    let mut times = Vec::new();
    for i in 0..taps {
        *clock += 301_000; // beyond the passback window; all of them within the deny list's age
        phone.enter_field();
        let mut field = Field { card: &mut phone, begun: Instant::now() };
        let now = Now { time: UnixMs(*clock), quality: ClockQuality::Synchronised };
        let done = gate.present(&mut field, now, i.to_be_bytes()).await.map_err(|e| format!("{e:?}"))?;
        if done.decision != Decision::Open {
            return Err(format!("tap {i}: {:?}", done.decision).into());
        }
        times.push(done.timings.gate_us);
        gate.idle().await.map_err(|e| format!("{e:?}"))?;
    }
    times.sort_unstable();
    Ok(times)
}

async fn run(taps: u32) -> Result<serde_json::Value, Failure> {
    let folder = tempfile::tempdir()?;
    let mut rng = ChaCha12Rng::seed_from_u64(11);
    let keys = KeySet::generate(&mut rng, &KeyOptions::house(2040).with_rsa())?;
    let bank = keys.bank();
    let mut gate = gate(&keys, folder.path()).await?;
    let token = bank.token_number("E1", 0, 0);
    let order = PhoneOrder { token, expiry: GOOD, effective: SINCE, psn: 0, network: *b"WAVE", operator: 0 };
    let phone = bank.personalise(&order)?;
    let plastic = plastic(bank.as_ref(), &mut rng)?;
    let mut clock = START.0;
    let first = measure(&mut gate, &phone, 1, &mut clock).await?;
    let warm = measure(&mut gate, &phone, taps, &mut clock).await?;
    let rsa = measure(&mut gate, &plastic, taps, &mut clock).await?;
    let at = |times: &[u32], percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    Ok(json!({
        "unit": "microseconds of the gate's own work on this machine's core, the card's time left out",
        "taps": taps,
        "p256_first_tap_us": first[0],
        "p256_warm_us": { "p50": at(&warm, 50), "p99": at(&warm, 99) },
        "rsa_us": { "p50": at(&rsa, 50), "p99": at(&rsa, 99) },
        "p256_warm_taps_per_second": (1e6 / f64::from(at(&warm, 50))).round(),
    }))
}

fn plastic(bank: &dyn BankKeys, rng: &mut ChaCha12Rng) -> Result<PhoneFile, Failure> {
    let token = Token::from_digits("6299000200000017")?;
    let key = RsaCardKey::generate(rng, 1152)?;
    let order = CardOrder { token, expiry: GOOD, effective: SINCE, psn: 0, aid: RSA_DEBIT_AID, key: &key };
    Ok(bank.issue_card(&order).ok_or("no RSA authority")??)
}
