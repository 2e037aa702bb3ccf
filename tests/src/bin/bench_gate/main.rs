//! `cargo x bench gate`: the gate's own work for one tap. On the gate's processor in instructions, counted by QEMU with
//! `-icount shift=0`; on this machine's core in microseconds.
//!
//! The gate is the real application; the phones are real, and their answers are replayed on the board, so that their own
//! time is left out. `cargo x bench gate` builds the board's program first.

mod budget;
mod house;
mod size;
mod target;

use clap::Parser;
use house::{BenchGate, START, idle, present};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use serde_json::{Value, json};
use std::path::PathBuf;
use target::Script;
use wavepass_gateway::keys::{KeyOptions, KeySet};
use wavepass_hce::phone::{Phone, PhoneFile};
use wavepass_hce::state::Counters;
use wavepass_protocol::tap::Decision;
use wavepass_protocol::time::UnixMs;

/// A tap of its own: beyond the passback window.
const APART_MS: u64 = 301_000;

#[derive(Parser)]
#[command(name = "cargo x bench gate")]
struct Arguments {
    /// How many taps of each kind on this machine's core
    #[arg(long, default_value_t = 300)]
    taps: u32,
    /// Also write the figures to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

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

struct Bench {
    gate: BenchGate,
    script: Script,
    clock: u64,
    turn: u32,
}

impl Bench {
    /// One tap here, and the same on the board.
    async fn tap(&mut self, name: &str, card: &mut Phone) -> Result<house::Said, Failure> {
        self.clock += APART_MS;
        self.turn += 1;
        let (time, unpredictable) = (UnixMs(self.clock), self.turn.to_be_bytes());
        let (presented, said) = present(&mut self.gate, card, time, unpredictable).await?;
        if presented.decision != Decision::Open {
            return Err(format!("{name}: {:?}", presented.decision).into());
        }
        self.script.tap(name, time, unpredictable, &said);
        idle(&mut self.gate).await?;
        Ok(said)
    }

    /// Taps on this machine's core: microseconds of the gate's own work, sorted.
    async fn desktop(&mut self, file: &PhoneFile, taps: u32) -> Result<Vec<u32>, Failure> {
        let mut phone = Phone::new(file, Counters::memory(), [4; 32])?;
        let mut times = Vec::new();
        for _ in 0..taps {
            self.clock += APART_MS;
            self.turn += 1;
            let time = UnixMs(self.clock);
            let (presented, _) = present(&mut self.gate, &mut phone, time, self.turn.to_be_bytes()).await?;
            if presented.decision != Decision::Open {
                return Err(format!("tap {}: {:?}", self.turn, presented.decision).into());
            }
            times.push(presented.timings.gate_us);
            idle(&mut self.gate).await?;
        }
        times.sort_unstable();
        Ok(times)
    }
}

async fn run(taps: u32) -> Result<Value, Failure> {
    let folder = tempfile::tempdir()?;
    let mut rng = ChaCha12Rng::seed_from_u64(11);
    let keys = KeySet::generate(&mut rng, &KeyOptions::house(2040).with_rsa())?;
    let bank = keys.bank();
    eprintln!("making a gate with {} denied tokens …", house::DENIED);
    let (gate, flash) = Box::pin(house::gate(&keys, folder.path())).await?;
    let image = flash.content();
    let (phone_file, plastic_file) = (house::phone(bank.as_ref())?, house::plastic(bank.as_ref(), &mut rng)?);
    let mut phone = Phone::new(&phone_file, Counters::memory(), [3; 32])?;
    let mut plastic = Phone::new(&plastic_file, Counters::memory(), [3; 32])?;

    let mut bench = Bench { gate, script: Script::default(), clock: START.0, turn: 0 };
    bench.script.idle("ready");
    bench.tap("p256_cold", &mut phone).await?;
    bench.script.idle("p256_tables");
    let said = bench.tap("p256_warm", &mut phone).await?;
    bench.script.idle("after");
    bench.tap("rsa_cold", &mut plastic).await?;
    bench.script.idle("after_rsa");
    bench.tap("rsa_warm", &mut plastic).await?;
    bench.script.idle("after_rsa");
    let listed = house::denied(house::DENIED / 2)?;
    bench.script.look_up("deny_hit", &listed, house::GOOD);
    bench.script.look_up("deny_miss", &house::denied(house::DENIED + 7)?, house::GOOD);
    bench.script.verification("one")?;

    let elf = size::bench_program();
    let counts = target::play(&elf, folder.path(), &image, &bench.script)?;
    for tap in ["p256_cold", "p256_warm", "rsa_cold", "rsa_warm"] {
        if counts.get(tap, "decision")? != 0 {
            return Err(format!("{tap}: the board refused").into());
        }
    }
    if (counts.get("deny_hit", "denied")?, counts.get("deny_miss", "denied")?) != (1, 0) {
        return Err("the board's deny list answers wrongly".into());
    }
    let warm = counts.get("p256_warm", "whole")?;
    let program = size::measure(&size::firmware())?;
    let bought = size::measure(&size::nrf52840())?;
    let desktop = bench.desktop(&phone_file, taps).await?;
    let rsa = bench.desktop(&plastic_file, taps).await?;
    let at = |times: &[u32], percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    let budget = budget::tap(&said, warm);
    Ok(json!({
        "p256_warm_instructions": warm,
        "p256_cold_instructions": counts.get("p256_cold", "whole")?,
        "rsa_instructions": counts.get("rsa_cold", "whole")?,
        "rsa_warm_instructions": counts.get("rsa_warm", "whole")?,
        "other_instructions": warm - counts.get("p256_warm", "verify")?,
        "deny_lookup_instructions": counts.get("deny_hit", "whole")?.max(counts.get("deny_miss", "whole")?),
        "p256_crate_verify_instructions": counts.get("one", "p256_crate")?,
        "verify_remembered_instructions": counts.get("one", "remembered_key")?,
        "verify_unknown_instructions": counts.get("one", "unknown_key")?,
        "tables_instructions": counts.get("one", "tables")?,
        "start_instructions": counts.get("start", "whole")?,
        "tap_ms": budget["tap_ms"],
        "tap_budget": budget,
        "flash_bytes": program.flash,
        "ram_bytes": program.ram,
        "nrf52840_dk": { "flash_bytes": bought.flash, "ram_bytes": bought.ram },
        "stack_bytes": counts.get("stack", "used")?,
        "denied_tokens": house::DENIED,
        "desktop": {
            "unit": "microseconds of the gate's own work on this machine's core, the card's time left out",
            "taps": taps,
            "p256_warm_us": { "p50": at(&desktop, 50), "p99": at(&desktop, 99) },
            "rsa_us": { "p50": at(&rsa, 50), "p99": at(&rsa, 99) },
        },
    }))
}
