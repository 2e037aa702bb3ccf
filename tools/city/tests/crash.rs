//! The day survives being killed: the gateway or the whole city dies by SIGKILL at random moments, the day is
//! run again on the same folder, and the report is, but for times, that of an undisturbed day.

#![allow(clippy::unwrap_used, missing_docs)]

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const DAY: [&str; 8] = ["--taps", "2000", "--phones", "400", "--gates", "8", "--seed", "5"];

fn city(data: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_city"));
    command.args(DAY).arg("--data").arg(data).args(more).stdout(Stdio::null());
    let said = fs::File::options().create(true).append(true).open(said(data)).unwrap();
    command.stderr(said);
    command
}

/// What a city says on its standard error, beside its data folder.
fn said(data: &Path) -> PathBuf {
    data.with_extension("err")
}

/// The report without what depends on time.
fn report(path: &Path) -> Value {
    let mut report: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let fields = report.as_object_mut().unwrap();
    assert!(fields.remove("gate_us").is_some() && fields.remove("taps_per_second").is_some());
    report
}

fn kill(pid: &str) {
    // The process may be gone already.
    let _ = Command::new("kill").args(["-9", pid]).stderr(Stdio::null()).status();
}

/// The gateway's process, as it wrote it into its lock.
fn gateway_process(data: &Path) -> Option<String> {
    let text = fs::read_to_string(data.join("lock")).ok()?;
    text.trim().strip_prefix("process ").map(str::to_owned)
}

fn ended(child: &mut Child, within: Duration) -> Option<std::process::ExitStatus> {
    let begin = Instant::now();
    while begin.elapsed() < within {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

#[test]
fn a_day_killed_at_random_moments_ends_like_an_undisturbed_one() {
    let folder = tempfile::tempdir().unwrap();
    let calm = folder.path().join("calm");
    let expected = folder.path().join("calm.json");
    let status = city(&calm, &["--report", expected.to_str().unwrap()]).status().unwrap();
    assert!(status.success(), "the undisturbed day: {status}");
    let expected = report(&expected);
    assert_eq!(expected["breaks"], 0);
    assert_eq!(expected["surprises"], 0);

    let kills = if std::env::var_os("WAVEPASS_LONG").is_some() { 100 } else { 24 };
    let seed = 20_261_123;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut days = 0;
    let (mut cities, mut gateways) = (0, 0);
    while cities + gateways < kills {
        let data = folder.path().join(format!("stormy-{days}"));
        let found = folder.path().join(format!("stormy-{days}.json"));
        days += 1;
        let mut child = city(&data, &["--report", found.to_str().unwrap()]).spawn().unwrap();
        let status = loop {
            let pause = Duration::from_millis(rng.random_range(20..900));
            if let Some(status) = ended(&mut child, pause) {
                break status;
            }
            if cities + gateways >= kills {
                break child.wait().unwrap();
            }
            if rng.random_bool(0.5) {
                // While things are being made it is the city itself that holds the folder.
                let mine = child.id().to_string();
                let Some(process) = gateway_process(&data).filter(|p| *p != mine) else { continue };
                kill(&process);
                gateways += 1;
            } else {
                child.kill().unwrap();
                child.wait().unwrap();
                cities += 1;
                child = city(&data, &["--report", found.to_str().unwrap()]).spawn().unwrap();
            }
        };
        let log = fs::read_to_string(data.join("gateway.log")).unwrap_or_default();
        let said = fs::read_to_string(said(&data)).unwrap_or_default();
        let tail: String = log.lines().rev().take(10).collect::<Vec<_>>().join("\n");
        assert!(
            status.success(),
            "day {days}, seed {seed}, after {cities} + {gateways} kills: {status}\n{said}\n{tail}"
        );
        assert_eq!(report(&found), expected, "day {days}, seed {seed}, after {cities} + {gateways} kills");
    }
    println!("{days} days, the city killed {cities} times, the gateway {gateways} times");
}

#[test]
fn the_same_seed_gives_the_same_report_and_a_finished_day_prints_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    for name in ["a", "b"] {
        let status =
            city(&file(name), &["--report", file(&format!("{name}.json")).to_str().unwrap()]).status();
        assert!(status.unwrap().success());
    }
    assert_eq!(report(&file("a.json")), report(&file("b.json")));
    let begin = Instant::now();
    let again = city(&file("a"), &["--report", file("again.json").to_str().unwrap()]).status().unwrap();
    assert!(again.success());
    assert_eq!(
        fs::read(file("again.json")).unwrap(),
        fs::read(file("a.json")).unwrap(),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn a_folder_of_another_day_or_of_something_else_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("letter.txt"), "keep me").unwrap();
    let foreign = city(folder.path(), &[]).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(foreign.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&foreign.stderr).contains("holds files but no city"));
    assert_eq!(fs::read_to_string(folder.path().join("letter.txt")).unwrap(), "keep me");

    let data = folder.path().join("day");
    assert!(city(&data, &[]).status().unwrap().success());
    let other = city(&data, &[]).args(["--gates", "9"]).stderr(Stdio::piped()).output().unwrap();
    // The last value of a repeated option would be a surprise; clap refuses it.
    assert_eq!(other.status.code(), Some(2));
    let mut other = Command::new(env!("CARGO_BIN_EXE_city"));
    other.args(["--taps", "10", "--phones", "10", "--gates", "2", "--data"]).arg(&data);
    let other = other.output().unwrap();
    assert_eq!(other.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&other.stderr).contains("holds a day of --taps 2000"));
}
