//! `cargo x bench host`: the host's work, from sealed taps to a settled day, on a real SQLite file with
//! `synchronous=FULL` and on a PostgreSQL server of its own with `fsync` on.
//!
//! The taps are made beforehand by real phones (their cryptograms verify) and sealed by stand-ins of gates; then
//! each stage is timed: intake (sealed tap to durable row), close (risk, pricing, charges, batch), deduction at the
//! embedded bank, settlement. Rates are taps a second; `overall` is all these stages together. The settled day is then
//! reconciled, as a whole and slice by slice, which is timed for itself. Beside it, in the same run:
//! the same work row at a time (`baseline`), and `pgbench` on the same server. `peak_rss_bytes` is this process's while it
//! works, without PostgreSQL's; the taps to be handed in wait on disk.
//!
//! With `--growth` it measures towns of several sizes instead, each on a new database, to show what a tap costs in each. With
//! `--backlog` it measures gates that return after an outage, beside gates that go on.

mod backlog;
mod baseline;
mod ours;
mod town;

use clap::{Parser, ValueEnum};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use town::Size;
use wavepass_gateway::keys::{KeyOptions, KeySet};
use wavepass_gateway::store::Store;
use wavepass_protocol::time::UnixMs;
use wavepass_test_postgres::{Options, Server};

const TARIFF: &str = include_str!("../../../../host-gateway/tariffs/wavepass-city.toml");
const START: UnixMs = UnixMs(1_795_377_600_000);
/// Taps of one token in the day.
const TAPS_EACH: usize = 10;
/// Connections of the wider baseline.
const WIDE: u32 = 8;

#[derive(Parser)]
#[command(name = "cargo x bench host")]
struct Arguments {
    /// How many taps
    #[arg(long, default_value_t = 100_000)]
    taps: usize,
    /// Taps of the baselines, which are slow
    #[arg(long, default_value_t = 2_000)]
    baseline_taps: usize,
    /// Only on this database
    #[arg(long, value_enum)]
    database: Option<Database>,
    /// Instead, towns of these sizes: taps in the day and registered tokens
    #[arg(long, value_name = "TAPS:TOKENS,…", value_delimiter = ',', value_parser = size)]
    growth: Vec<Size>,
    /// Instead, gates that return after an outage with so many taps each, beside so many that go on
    #[arg(long, value_name = "GATES:TAPS_EACH:LIVE_GATES", conflicts_with = "growth")]
    backlog: Option<backlog::Size>,
    /// Also write the figures to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

fn size(text: &str) -> Result<Size, String> {
    let (taps, tokens) = text.split_once(':').ok_or("not of the form TAPS:TOKENS")?;
    let number = |text: &str| text.parse::<usize>().map_err(|e| format!("{text}: {e}"));
    let (taps, tokens) = (number(taps)?, number(tokens)?);
    let least = Size::of(taps).tokens;
    if taps == 0 || tokens < least {
        return Err(format!("{taps} taps need at least {least} tokens, of {TAPS_EACH} taps each"));
    }
    Ok(Size { taps, tokens })
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Database {
    Sqlite,
    Postgres,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    // A gateway to be measured from outside is this program again.
    if std::env::args().nth(1).as_deref() == Some("gateway") {
        return city::main();
    }
    match measure(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut figures = Map::new();
    let wanted = |kind| arguments.database.is_none_or(|only| only == kind);
    if wanted(Database::Sqlite) {
        figures.insert("sqlite".into(), runtime.block_on(on_sqlite(arguments))?);
    }
    if wanted(Database::Postgres) {
        figures.insert("postgres".into(), runtime.block_on(on_postgres(arguments))?);
    }
    let text = serde_json::to_string_pretty(&figures)?;
    println!("{text}");
    if let Some(file) = &arguments.json {
        std::fs::write(file, text)?;
    }
    Ok(())
}

fn keys() -> Result<KeySet, Failure> {
    Ok(KeySet::generate(&mut ChaCha12Rng::seed_from_u64(7), &KeyOptions::house(2040))?)
}

/// One run of ours, on an empty database.
async fn run(name: &str, url: &str, data: &Path, size: Size) -> Result<ours::Figures, Failure> {
    eprintln!("{name}: {} taps of {} tokens …", size.taps, size.tokens);
    let store = Store::open(url, data).await?;
    let keys = keys()?;
    let spool = town::found(&store, &keys, size).await?;
    let figures = ours::run(&store, &keys, data, &spool).await?;
    store.close().await;
    Ok(figures)
}

/// One run row at a time, on an empty database.
async fn run_baseline(
    name: &str,
    url: &str,
    data: &Path,
    taps: usize,
    connections: u32,
) -> Result<baseline::Figures, Failure> {
    eprintln!("{name}: {taps} taps, row at a time over {connections} …");
    let store = Store::open(url, data).await?;
    let keys = keys()?;
    let spool = town::found(&store, &keys, Size::of(taps)).await?;
    store.close().await;
    drop(store);
    Box::pin(baseline::run(url, &keys, spool.all()?, connections)).await
}

/// Refuses figures of work that was not the same.
fn compare(ours: &ours::Figures, baseline: &baseline::Figures) -> Result<(), Failure> {
    match ours.charged_fen == baseline.charged_fen {
        true => Ok(()),
        false => Err(format!(
            "row at a time, riders are charged {} fen, ours charges {}",
            baseline.charged_fen, ours.charged_fen
        )
        .into()),
    }
}

/// What a tap costs in towns of several sizes.
async fn grow(
    name: &str,
    sizes: &[Size],
    database: impl Fn(&Path) -> Result<String, Failure>,
) -> Result<Value, Failure> {
    let mut rows = Vec::new();
    let mut table = String::from("      taps    tokens  taps/s  us/tap  peak MB\n");
    for &size in sizes {
        let folder = tempfile::tempdir()?;
        let figures = run(name, &database(folder.path())?, folder.path(), size).await?;
        let mut row = figures.json();
        row["tokens"] = json!(size.tokens);
        let megabytes = figures.peak_rss_bytes.map_or_else(|| "-".into(), |bytes| (bytes >> 20).to_string());
        let (taps, tokens, rate) = (size.taps, size.tokens, figures.rate);
        table += &format!("{taps:>10}{tokens:>10}{rate:>8.0}{:>8.1}{megabytes:>9}\n", 1e6 / rate);
        rows.push(row);
    }
    eprintln!("{name}\n{table}");
    Ok(json!({ "growth": rows }))
}

async fn on_sqlite(arguments: &Arguments) -> Result<Value, Failure> {
    if let Some(size) = arguments.backlog {
        return backlog::run("SQLite", None, size).await;
    }
    let folder = || tempfile::tempdir();
    let url = |folder: &tempfile::TempDir| format!("sqlite:{}", folder.path().join("bench.sqlite").display());
    if !arguments.growth.is_empty() {
        let file = |folder: &Path| Ok(format!("sqlite:{}", folder.join("bench.sqlite").display()));
        return grow("SQLite", &arguments.growth, file).await;
    }
    let (small, own, row, wide) = (folder()?, folder()?, folder()?, folder()?);
    let same = run("SQLite", &url(&small), small.path(), Size::of(arguments.baseline_taps)).await?;
    let figures = run("SQLite", &url(&own), own.path(), Size::of(arguments.taps)).await?;
    let baseline = run_baseline("SQLite", &url(&row), row.path(), arguments.baseline_taps, 1).await?;
    compare(&same, &baseline)?;
    // Its writers take turns.
    let wider = run_baseline("SQLite", &url(&wide), wide.path(), arguments.baseline_taps, WIDE).await?;
    compare(&same, &wider)?;
    Ok(beside(&figures, &baseline, &wider))
}

/// The figures of one database: ours, and beside them the baseline's over one connection and over [`WIDE`].
fn beside(ours: &ours::Figures, baseline: &baseline::Figures, wider: &baseline::Figures) -> Value {
    let mut figures = ours.json();
    figures["baseline_taps_per_second"] = json!(baseline.rate.round());
    figures["ratio"] = json!(ours.rate / baseline.rate);
    figures["baseline"] = baseline.json();
    figures["baseline_over_8"] = wider.json();
    figures["ratio_over_8"] = json!(ours.rate / wider.rate);
    figures
}

/// How the server is set up, as docs/operating.md advises.
fn settings() -> Vec<String> {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
    let quarter = total.unwrap_or(4 << 20_u64) / 4 / 1024;
    vec![
        format!("shared_buffers={}MB", quarter.clamp(128, 4096)),
        "max_wal_size=16GB".into(),
        "wal_compression=lz4".into(),
        "checkpoint_timeout=15min".into(),
    ]
}

async fn on_postgres(arguments: &Arguments) -> Result<Value, Failure> {
    let settings = settings();
    eprintln!("PostgreSQL with {}", settings.join(", "));
    let server = Arc::new(Server::start(Options { durable: true, settings, ..Options::default() })?);
    if let Some(size) = arguments.backlog {
        return backlog::run("PostgreSQL", Some(server), size).await;
    }
    let folder = || tempfile::tempdir();
    let (small, own, row, wide) = (folder()?, folder()?, folder()?, folder()?);
    let database = || Ok::<_, Failure>(server.url(&server.new_database()?));
    let name = "PostgreSQL";
    if !arguments.growth.is_empty() {
        return grow(name, &arguments.growth, |_| database()).await;
    }
    let same = run(name, &database()?, small.path(), Size::of(arguments.baseline_taps)).await?;
    let figures = run(name, &database()?, own.path(), Size::of(arguments.taps)).await?;
    let baseline = run_baseline(name, &database()?, row.path(), arguments.baseline_taps, 1).await?;
    compare(&same, &baseline)?;
    let wider = run_baseline(name, &database()?, wide.path(), arguments.baseline_taps, WIDE).await?;
    compare(&same, &wider)?;
    let tpc_b = server.new_database()?;
    pgbench(&server, &tpc_b, &["-i", "-q", "-s", "10"])?;
    let tps = |clients: &str| pgbench(&server, &tpc_b, &["-c", clients, "-j", "2", "-T", "10"]);
    let mut told = beside(&figures, &baseline, &wider);
    told["pgbench_tps"] = json!(tps("1")?);
    told["pgbench_tps_over_8"] = json!(tps("8")?);
    Ok(told)
}

/// Runs `pgbench`; gives its transactions a second where it prints them.
fn pgbench(server: &Server, database: &str, arguments: &[&str]) -> Result<f64, Failure> {
    eprintln!("pgbench {} …", arguments.join(" "));
    let mut command = Command::new(server.program("pgbench"));
    command.args(arguments).args(["-U", "postgres", "-p", &server.port().to_string(), "-h"]);
    let output = command.arg(server.socket()).arg(database).output()?;
    if !output.status.success() {
        return Err(format!("pgbench: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // Filling its tables gives no rate.
    let tps = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    Ok(tps.unwrap_or_default())
}
