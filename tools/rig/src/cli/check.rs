//! `rig check`: a suite on one way or several, and what came of it.

use super::source;
use crate::bench::{self, Maker, Own, Process};
use crate::files::{at, check_writable, same_file};
use crate::report::{self, Report};
use crate::show::{BAD, BOLD, GOOD};
use crate::suite::{Case, Suite, WayName};
use crate::terminal::Terminal;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use wavepass_hce::authorities::Authorities;
use wavepass_protocol::time::Date;

/// Run a suite of cases against a kernel, and report
///
/// A case is a phone of the emulator, what is wrong with it, and what must come of it. `kernel` is the suite that
/// comes with the rig. The kernel under test is the gate's own, or with --command somebody else's.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rig check kernel                                   in this process; needs no reader
  rig check kernel --way process --way pcscd --report report.md --junit report.xml
  rig check --merge a.json b.json --report report.md what --json printed before, side by side
  rig check kernel --timing                          what a virtual reader and a tap cost
  rig check my.toml --authorities FOLDER --command './my-kernel \"$RIG_READER\"'

The command of --command is run once for each case, with the phone in the virtual reader: RIG_READER is the \
reader's name, RIG_CASE the case's, RIG_CA_KEYS the file with the public keys of the phones' authorities. Its last \
line says `open`, or a reason to refuse. A case fails if it ends with another status than 0, or takes longer than \
--case-timeout.")]
pub(super) struct CheckArgs {
    /// A suite's file, or `kernel`
    #[arg(default_value = "kernel")]
    suite: String,
    /// How the phones are brought to the kernel; may be given once for each
    #[arg(long, value_enum)]
    way: Vec<Way>,
    /// Somebody else's kernel, in front of the virtual reader of pcscd
    #[arg(long, value_name = "COMMAND", conflicts_with = "way", requires = "authorities")]
    command: Option<String>,
    /// How long the command may take for a case; then it is killed
    #[arg(long, value_name = "SECONDS", requires = "command", default_value_t = 30,
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    case_timeout: u64,
    /// Put what --json printed of earlier runs side by side instead of running anything
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["suite", "way", "command", "only", "timing"])]
    merge: Vec<PathBuf>,
    /// Only cases whose names hold this text
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// A text that the virtual reader's name holds
    #[arg(long, value_name = "TEXT", default_value = "Virtual PCD")]
    reader: String,
    /// Where that reader's vpcd listens
    #[arg(long, value_name = "HOST:PORT", default_value = wavepass_hce::vpcd::ADDRESS)]
    vpcd: String,
    /// The terminal's file [default: the one that comes with the rig]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder of test authorities that `phone issue` made [default: made anew, which takes seconds]
    #[arg(long, value_name = "FOLDER")]
    authorities: Option<PathBuf>,
    /// Write a table for people (Markdown)
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Write JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Measure what the virtual reader adds to a command, and what a tap takes
    #[arg(long)]
    timing: bool,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    /// In this process
    Process,
    /// Through pcscd and a virtual reader
    Pcscd,
}

/// How often the phone that is timed is tapped on each way.
#[cfg(feature = "pcsc")]
const TIMED_TAPS: usize = 50;

pub(super) fn run(args: &CheckArgs) -> Result<bool, String> {
    check_ways(&args.way)?;
    check_places(args)?;
    if !args.merge.is_empty() {
        return merge(args);
    }
    let mut suite = Suite::find(&args.suite).map_err(|e| at(&args.suite, &e))?;
    if let Some(text) = &args.only {
        suite.cases.retain(|case| case.name.contains(text));
        if suite.cases.is_empty() {
            return Err(format!("no case's name holds `{text}`"));
        }
    }
    let terminal = terminal(args, &suite)?;
    let today = source::today(&terminal);
    let maker = Maker::new(authorities(args.authorities.as_deref(), today)?, today);
    let keys = maker.keys().map_err(|e| e.to_string())?;
    let own = || Own::new(terminal.clone(), keys.clone(), &suite, source::now());
    if args.timing {
        return timing(args, &maker, own);
    }
    let ways = match (&args.command, args.way.as_slice()) {
        (Some(_), _) => vec![WayName::Command],
        (None, []) => vec![WayName::Process],
        (None, ways) => ways
            .iter()
            .map(|way| match way {
                Way::Process => WayName::Process,
                Way::Pcscd => WayName::Pcscd,
            })
            .collect(),
    };
    let mut reports = Vec::new();
    for way in ways {
        let bar = bar(args, suite.cases.len());
        let mut progress = |i: usize, case: &Case| {
            bar.set_position(i as u64);
            bar.set_message(case.name.clone());
        };
        let report = match way {
            WayName::Process => bench::run(&suite, &maker, &mut Process(own()), &mut progress),
            _ => on_pcscd(args, &suite, &maker, own(), &mut progress)?,
        };
        bar.finish_and_clear();
        if !args.json {
            tell(&report);
        }
        reports.push(report);
    }
    end(args, &reports)
}

/// Refuses a way that is given twice: its results would stand side by side with themselves.
fn check_ways(ways: &[Way]) -> Result<(), String> {
    match ways.iter().enumerate().find(|(i, way)| ways[..*i].contains(way)) {
        None => Ok(()),
        Some((_, way)) => {
            let name = way.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
            Err(format!("--way {name} is given twice"))
        }
    }
}

/// Checks that what is asked for can be written, and that it takes the place neither of the other nor of what is read.
fn check_places(args: &CheckArgs) -> Result<(), String> {
    let suite = PathBuf::from(&args.suite);
    // A suite that comes with the rig is no file.
    let suite = (!Suite::is_builtin(&args.suite)).then_some(&suite);
    let read: Vec<&PathBuf> = suite.into_iter().chain(&args.config).chain(&args.merge).collect();
    let mut taken: Vec<&PathBuf> = Vec::new();
    for path in [&args.report, &args.junit].into_iter().flatten() {
        let wrong = |e: &dyn std::fmt::Display| at(&path.display().to_string(), e);
        if read.iter().any(|other| same_file(path, other)) {
            return Err(wrong(&"it is read in this run, so no report goes there"));
        }
        if taken.iter().any(|other| same_file(path, other)) {
            return Err(wrong(&"--report and --junit name the same file"));
        }
        check_writable(path).map_err(|e| wrong(&e))?;
        taken.push(path);
    }
    Ok(())
}

/// The terminal. Where its file has other limits than the suite, it is said whose count.
fn terminal(args: &CheckArgs, suite: &Suite) -> Result<Terminal, String> {
    let Some(path) = &args.config else { return Terminal::builtin().map_err(|e| e.to_string()) };
    let place = path.display().to_string();
    let terminal = Terminal::load(path).map_err(|e| at(&place, &e))?;
    let (limit_ms, suites_ms) = (terminal.config.tap_limit_us / 1000, suite.tap_limit_ms);
    if limit_ms != u64::from(suites_ms) && args.command.is_none() {
        anstream::eprintln!(
            "{BOLD}note:{BOLD:#} the suite counts on taps of at most {suites_ms} ms, which is what is tried; {place} says \
             {limit_ms} ms"
        );
    }
    if terminal.config.relay.is_some() && args.command.is_none() {
        anstream::eprintln!(
            "{BOLD}note:{BOLD:#} cards are timed in cases with `terminal = \"timed\"` alone, with the rig's own limits; \
             {place} has others"
        );
    }
    Ok(terminal)
}

/// Writes what was asked for; true if everything passed.
fn end(args: &CheckArgs, reports: &[Report]) -> Result<bool, String> {
    write(args, reports)?;
    if args.json {
        anstream::println!("{}", report::to_json(reports));
    }
    Ok(reports.iter().all(Report::passed))
}

/// Puts reports of runs before side by side.
fn merge(args: &CheckArgs) -> Result<bool, String> {
    let mut reports = Vec::new();
    for path in &args.merge {
        let wrong = |e: &dyn std::fmt::Display| at(&path.display().to_string(), e);
        let text = std::fs::read_to_string(path).map_err(|e| wrong(&e))?;
        reports.extend(report::from_json(&text).map_err(|e| wrong(&e))?);
    }
    let reports = report::merge(reports).map_err(|e| e.to_string())?;
    if reports.is_empty() {
        return Err("there is nothing in these reports".to_owned());
    }
    if !args.json {
        reports.iter().for_each(tell);
    }
    end(args, &reports)
}

/// Authorities of a folder that has some, or new ones that are forgotten.
pub(super) fn authorities(folder: Option<&std::path::Path>, today: Date) -> Result<Authorities, String> {
    match folder {
        Some(folder) => Authorities::existing(folder, today).map_err(|e| e.to_string()),
        None => {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(|e| format!("the system gives no random numbers: {e}"))?;
            Ok(Authorities::generate(seed, today))
        }
    }
}

/// Progress on a terminal, nothing elsewhere.
fn bar(args: &CheckArgs, cases: usize) -> ProgressBar {
    if args.json {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30.cyan} {pos}/{len} {msg}");
    ProgressBar::new(cases as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn tell(report: &Report) {
    for row in &report.rows {
        if let Some(complaint) = row.complaint() {
            anstream::println!("{BAD}✗{BAD:#} {}: {complaint}", row.case);
        }
    }
    let style = if report.passed() { GOOD } else { BAD };
    anstream::println!("{style}{}{style:#}", report.summary());
}

fn write(args: &CheckArgs, reports: &[Report]) -> Result<(), String> {
    let save = |path: &PathBuf, text: String| {
        std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
    };
    if let Some(path) = &args.report {
        let mut text = String::new();
        report::table(&mut text, reports).map_err(|e| e.to_string())?;
        save(path, text)?;
    }
    if let Some(path) = &args.junit {
        save(path, report::junit(reports).map_err(|e| e.to_string())?)?;
    }
    Ok(())
}

#[cfg(feature = "pcsc")]
fn on_pcscd(
    args: &CheckArgs,
    suite: &Suite,
    maker: &Maker,
    own: Own,
    progress: &mut dyn FnMut(usize, &Case),
) -> Result<Report, String> {
    use crate::foreign::Foreign;
    use crate::pcsc_way::Readers;
    use crate::pcscd_bench::{ForeignBench, Pcscd};
    let readers = Readers::open().map_err(|e| e.to_string())?;
    let name = readers.find(&args.reader).map_err(|e| e.to_string())?;
    let Some(command) = &args.command else {
        return Ok(bench::run(suite, maker, &mut Pcscd::new(own, &readers, name, &args.vpcd), progress));
    };
    let keys = maker.publish().map_err(|e| e.to_string())?.ok_or("--command needs --authorities")?;
    let keys = keys.canonicalize().map_err(|e| at(&keys.display().to_string(), &e))?;
    let limit = std::time::Duration::from_secs(args.case_timeout);
    let foreign = Foreign { command: command.clone(), reader: name, keys, limit };
    Ok(bench::run(suite, maker, &mut ForeignBench::new(&readers, &args.vpcd, foreign), progress))
}

#[cfg(not(feature = "pcsc"))]
fn on_pcscd(
    _: &CheckArgs,
    _: &Suite,
    _: &Maker,
    _: Own,
    _: &mut dyn FnMut(usize, &Case),
) -> Result<Report, String> {
    Err(source::NO_PCSC.to_owned())
}

#[cfg(feature = "pcsc")]
fn timing(args: &CheckArgs, maker: &Maker, own: impl Fn() -> Own) -> Result<bool, String> {
    use crate::pcsc_way::Readers;
    use crate::pcscd_bench::Pcscd;
    use crate::timing::{Timing, sample};
    use crate::way::InProcess;
    use wavepass_hce::phone::Phone;
    use wavepass_hce::state::Counters;
    let file = maker.sound("house")?;
    let mut phone = Phone::new(&file, Counters::memory(), [7; 32]).map_err(|e| e.to_string())?;
    let process = sample(&mut own(), &mut InProcess::new(&mut phone), TIMED_TAPS)?;
    let readers = Readers::open().map_err(|e| e.to_string())?;
    let name = readers.find(&args.reader).map_err(|e| e.to_string())?;
    let mut bench = Pcscd::new(own(), &readers, name, &args.vpcd);
    let timing = Timing::of(&process, &sample(&mut own(), bench.way(&file)?, TIMED_TAPS)?);
    show_timing(args, &timing);
    Ok(true)
}

#[cfg(not(feature = "pcsc"))]
fn timing(_: &CheckArgs, _: &Maker, _: impl Fn() -> Own) -> Result<bool, String> {
    Err(source::NO_PCSC.to_owned())
}

#[cfg(feature = "pcsc")]
fn show_timing(args: &CheckArgs, timing: &crate::timing::Timing) {
    use crate::show::DIM;
    if args.json {
        anstream::println!("{}", timing.to_json());
        return;
    }
    let millis = |us: u64| format!("{}.{:02} ms", us / 1000, us % 1000 / 10);
    let rows = [
        ("the reader adds to a command", timing.added_us, "median"),
        ("a P-256 tap through the reader", timing.tap_us, "median"),
        ("", timing.slowest_us, "slowest"),
        ("the same tap in this process", timing.process_us, "median"),
    ];
    anstream::println!("{BOLD}{} taps on each way{BOLD:#}", timing.taps);
    for (what, us, which) in rows {
        anstream::println!("  {what:<32} {:>9}  {DIM}{which}{DIM:#}", millis(us));
    }
}
