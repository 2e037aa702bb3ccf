//! The phases of a test run, each timed, and the other commands' work.

use crate::{pcsc, setup};
use anstyle::{AnsiColor, Style};
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The gate's processor: Cortex-M4F.
pub(crate) const TARGET: &str = "thumbv7em-none-eabihf";
pub(crate) const RED: Style = AnsiColor::Red.on_default().bold();
const BOLD: Style = Style::new().bold();
const NO_STD: [&str; 7] = [
    "wavepass-protocol",
    "wavepass-kernel",
    "wavepass-journal",
    "wavepass-p256-verify",
    "wavepass-pn532",
    "wavepass-gate",
    "wavepass-terminal",
];
/// The boards, each with the features of its build, and the name under which its firmware is kept where the next build
/// would take its place. They are built one by one: a board's clock sets the tick of the whole build.
const BOARDS: [(&str, &str, Option<&str>); 3] = [
    ("wavepass-mps2-an386", "", Some("wavepass-mps2-an386-without-entropy")),
    ("wavepass-mps2-an386", "host-entropy,faults", None),
    ("wavepass-nrf52840-dk", "", None),
];

/// Why a command of ours did not succeed.
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(what: &str, why: impl fmt::Display) -> Self {
        Self(format!("{what}: {why}"))
    }

    pub(crate) fn said(what: String) -> Self {
        Self(what)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args);
    command
}

fn run(mut command: Command) -> Result<(), Failure> {
    let shown = format!("{command:?}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure(format!("{shown}: {status}"))),
        Err(e) => Err(Failure::new(&shown, e)),
    }
}

/// Passed and failed tests, as cargo's own summary lines count them.
#[derive(Default, Clone, Copy)]
struct Count {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Count {
    /// Counts a line of a test's output, if it is a summary.
    fn take(&mut self, line: &str) {
        let Some(summary) = line.strip_prefix("test result: ") else { return };
        let number = |word: &str| -> u64 {
            let part = summary.split([';', '.']).find(|p| p.trim_end().ends_with(word));
            part.and_then(|p| p.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        self.passed += number("passed");
        self.failed += number("failed");
        self.ignored += number("ignored");
    }
}

/// Runs a command and gives each line that it prints to standard output to `each`.
fn run_lines(mut command: Command, each: &mut dyn FnMut(String)) -> Result<(), Failure> {
    let shown = format!("{command:?}");
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|e| Failure::new(&shown, e))?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            each(line.map_err(|e| Failure::new(&shown, e))?);
        }
    }
    let status = child.wait().map_err(|e| Failure::new(&shown, e))?;
    if status.success() { Ok(()) } else { Err(Failure(format!("{shown}: {status}"))) }
}

/// Runs a test command, passes its output on, and adds up its summary lines.
fn run_tests(command: Command, count: &mut Count) -> Result<(), Failure> {
    run_lines(command, &mut |line| {
        count.take(&line);
        println!("{line}");
    })
}

/// The name of the module whose tests wait for QEMU's clock more than they compute, and run beside others.
const IN_QEMU: &str = "in_qemu::";
/// How many of them at once: as many as end with the others.
const GATES: &str = "--test-threads=3";

/// Tests that run beside others; what they print is kept until they are waited for.
struct Beside(JoinHandle<(Vec<String>, Result<(), Failure>)>);

impl Beside {
    fn start(mut command: Command) -> Self {
        command.stderr(Stdio::null());
        Self(std::thread::spawn(move || {
            let mut lines = Vec::new();
            let result = run_lines(command, &mut |line| lines.push(line));
            (lines, result)
        }))
    }

    /// Waits for their end and prints what they said.
    fn end(self, count: &mut Count) -> Result<(), Failure> {
        let (lines, result) =
            self.0.join().map_err(|_| Failure("the thread that reads the tests' output".into()))?;
        for line in lines {
            count.take(&line);
            println!("{line}");
        }
        result
    }
}

/// `cargo x test`.
pub(crate) fn test(long: bool) -> Result<(), Failure> {
    let mut times: Vec<(&str, Duration)> = Vec::new();
    let mut count = Count::default();
    let result = test_phases(long, &mut times, &mut count);
    println!();
    for (name, time) in &times {
        println!("{:>7.1} s  {name}", time.as_secs_f64());
    }
    let total: Duration = times.iter().map(|t| t.1).sum();
    println!("{:>7.1} s  in all", total.as_secs_f64());
    // The line that says whether anything ran; kept last and plain.
    println!("{} passed, {} failed, {} skipped", count.passed, count.failed, count.ignored);
    result?;
    if count.passed == 0 { Err(Failure("no test ran".into())) } else { Ok(()) }
}

fn test_phases(
    long: bool,
    times: &mut Vec<(&'static str, Duration)>,
    count: &mut Count,
) -> Result<(), Failure> {
    let mut phase = |name: &'static str, work: &mut dyn FnMut() -> Result<(), Failure>| {
        anstream::println!("\n{BOLD}== {name}{BOLD:#}");
        std::io::stdout().flush().map_err(|e| Failure::new("standard output", e))?;
        let begin = Instant::now();
        let result = work();
        times.push((name, begin.elapsed()));
        result
    };
    // What cannot be had is named, and the rest is tested all the same.
    let mut library = Ok(());
    let mut python = Err(Failure(String::new()));
    let mut postgres = Ok(());
    phase("set-up", &mut || {
        setup::c_compiler()?;
        setup::components()?;
        setup::target()?;
        setup::qemu()?;
        library = pcsc::library();
        python = pcsc::programs();
        postgres = setup::postgres();
        Ok(())
    })?;
    let mut left_out = Vec::new();
    let mut without = Vec::new();
    if let Err(why) = &library {
        left_out.push(format!("rig with PC/SC ({why})"));
        without.extend(["--exclude", "rig"]);
    }
    phase("format", &mut || run(cargo(&["fmt", "--all", "--check"])))?;
    phase("licences and sources", &mut || {
        let mut deny = Command::new(setup::cargo_deny()?);
        deny.args(["--log-level", "error", "check", "bans", "licenses", "sources"]);
        run(deny)
    })?;
    phase("the gate's target", &mut firmware)?;
    phase("lints", &mut || {
        let mut workspace = cargo(&["clippy", "--quiet", "--profile", "ci", "--workspace", "--all-targets"]);
        workspace.args(&without);
        run(warnings_denied(workspace))?;
        let rig = ["clippy", "--quiet", "--profile", "ci", "--package", "rig", "--all-targets"];
        let mut bare = cargo(&rig);
        bare.arg("--no-default-features");
        run(warnings_denied(bare))?;
        if library.is_ok() {
            let mut with_pcscd = cargo(&rig);
            with_pcscd.args(["--features", "system-tests"]);
            run(warnings_denied(with_pcscd))?;
        }
        for (board, features, _) in BOARDS {
            let mut lint = cargo(&["clippy", "--quiet", "--profile", "firmware", "--target", TARGET]);
            lint.args(["--package", board, "--features", features]);
            run(warnings_denied(lint))?;
        }
        Ok(())
    })?;
    let tests = |what: &[&str]| {
        let mut tests = cargo(&["test", "--profile", "ci", "--workspace", "--no-fail-fast"]);
        tests.args(&without).args(what);
        if long {
            tests.env("WAVEPASS_LONG", "1");
        }
        tests
    };
    phase("building the tests", &mut || run(tests(&["--no-run", "--quiet"])))?;
    let gates = Beside::start(tests(&["--test", "firmware", "--", IN_QEMU, GATES]));
    // What runs beside is waited for, whatever becomes of the others.
    let others = phase("tests", &mut || {
        run_tests(tests(&["--", "--skip", IN_QEMU]), count)?;
        if without.is_empty() {
            return Ok(());
        }
        run_tests(cargo(&["test", "--profile", "ci", "--package", "rig", "--no-default-features"]), count)
    })
    .and_then(|()| match &postgres {
        Ok(()) => phase("the gateway's tests on PostgreSQL", &mut || {
            // The whole workspace again, whose other unit tests take seconds: a package by itself has other features of
            // its dependencies, and would be built anew for minutes.
            let mut on_postgres = tests(&["--lib", "--test", "process"]);
            on_postgres.env_remove("WAVEPASS_LONG").env("WAVEPASS_TEST_STORE", "postgres");
            run_tests(on_postgres, count)
        }),
        Err(why) => {
            left_out.push(format!("tests on PostgreSQL ({why})"));
            Ok(())
        }
    });
    let mut gates = Some(gates);
    let firmware = phase("the gate's firmware in QEMU, begun beside the tests above", &mut || {
        gates.take().map_or(Ok(()), |gates| gates.end(count))
    });
    others.and(firmware)?;
    match (&library, &python) {
        (Ok(()), Ok(python)) => phase("tests with pcscd, which has fixed ports", &mut || {
            let _pcscd = pcsc::Pcscd::start()?;
            // Of the whole workspace, whose dependencies are built with these features.
            let mut tests =
                cargo(&["test", "--profile", "ci", "--workspace", "--features", "rig/system-tests"]);
            tests.args(["--test", "pcscd", "--", "--test-threads=1", "--nocapture"]);
            run_tests(with_python(tests, python), count)
        })?,
        (Ok(()), Err(why)) => left_out.push(format!("tests with pcscd ({why})")),
        (Err(_), _) => {}
    }
    if left_out.is_empty() { Ok(()) } else { Err(Failure(format!("left out: {}", left_out.join("; ")))) }
}

/// Tells the tests which Python has pyscard.
fn with_python(mut tests: Command, python: &std::path::Path) -> Command {
    tests.env("WAVEPASS_PYSCARD", python);
    tests
}

fn warnings_denied(mut lint: Command) -> Command {
    lint.args(["--", "-D", "warnings"]);
    lint
}

/// `cargo x firmware`: the portable crates for the gate's processor, and the boards.
pub(crate) fn firmware() -> Result<(), Failure> {
    let mut crates = cargo(&["build", "--quiet", "--profile", "firmware", "--target", TARGET]);
    for package in NO_STD {
        crates.args(["--package", package]);
    }
    run(crates)?;
    BOARDS.into_iter().try_for_each(board)
}

fn board((board, features, kept): (&str, &str, Option<&str>)) -> Result<(), Failure> {
    let mut firmware = cargo(&["build", "--quiet", "--profile", "firmware", "--target", TARGET]);
    firmware.args(["--package", board, "--features", features]);
    run(firmware)?;
    let Some(kept) = kept else { return Ok(()) };
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let folder = target.join(TARGET).join("firmware");
    let copied = std::fs::copy(folder.join(board), folder.join(kept));
    copied.map(drop).map_err(|e| Failure::new(kept, e))
}

/// `cargo x bench gate`: the board's programs are built first, for QEMU runs them.
pub(crate) fn bench_gate(json: Option<PathBuf>) -> Result<(), Failure> {
    setup::target()?;
    setup::qemu()?;
    BOARDS.into_iter().try_for_each(board)?;
    bench("bench-gate", json, &[])
}

/// `cargo x bench host`: on PostgreSQL it needs a server's programs.
pub(crate) fn bench_host(
    json: Option<PathBuf>,
    taps: u32,
    growth: Option<String>,
    backlog: Option<String>,
    database: Option<String>,
) -> Result<(), Failure> {
    if database.as_deref() != Some("sqlite") {
        setup::postgres()?;
    }
    let mut more = vec!["--taps".to_owned(), taps.to_string()];
    more.extend(growth.into_iter().flat_map(|sizes| ["--growth".to_owned(), sizes]));
    more.extend(backlog.into_iter().flat_map(|size| ["--backlog".to_owned(), size]));
    more.extend(database.into_iter().flat_map(|database| ["--database".to_owned(), database]));
    bench("bench-host", json, &more)
}

/// `cargo x bench …`: the measuring programs live with the tests that span crates.
pub(crate) fn bench(binary: &str, json: Option<PathBuf>, more: &[String]) -> Result<(), Failure> {
    let mut command =
        cargo(&["run", "--quiet", "--release", "--package", "wavepass-tests", "--bin", binary, "--"]);
    command.args(more);
    if let Some(file) = json {
        command.arg("--json").arg(file);
    }
    run(command)
}
