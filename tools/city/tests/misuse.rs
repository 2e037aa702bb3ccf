//! What the command line refuses, and when: before anything is made or played, and by name.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const DAY: [&str; 6] = ["--taps", "40", "--phones", "40", "--gates", "2"];
/// 34 hours after the beginning of the service day that is played.
const CLOSE_AT: u64 = 1_795_377_600_000 + 34 * 3_600_000;

fn city(data: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_city"));
    command.args(args).arg("--data").arg(data);
    command
}

fn refused(data: &Path, args: &[&str]) -> String {
    let Output { status, stderr, .. } = city(data, args).output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{args:?}: {stderr}");
    stderr
}

#[test]
fn what_cannot_come_off_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("day");
    let report = folder.path().join("nowhere/report.json");
    let report = report.to_str().unwrap();
    for (args, told) in [
        (&["--report", report][..], "nowhere/report.json"),
        (&["--database", "postgres://user:secret@host:port/db"], "postgres://USER"),
        (&["--database", "mysql://user:secret@host/db"], "mysql:"),
        (&["--gates", "4000000000"], "at most 1000 gates"),
        (&["--phones", "4000000000"], "at most 1000000 phones"),
    ] {
        let stderr = refused(&data, args);
        assert!(stderr.contains(told) && !stderr.contains("secret") && !stderr.contains(".part"), "{stderr}");
        assert!(!data.exists(), "{args:?}");
    }
    let stderr = refused(Path::new("/dev/null"), &DAY);
    assert!(stderr.contains("/dev/null is no folder: choose one with --data"), "{stderr}");
}

#[test]
fn a_damaged_file_of_the_day_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    for content in [&b"{"[..], b"\xFF\xFE"] {
        fs::write(folder.path().join("city.json"), content).unwrap();
        let stderr = refused(folder.path(), &DAY);
        assert!(stderr.contains("city.json is damaged") && stderr.contains("--data"), "{stderr}");
    }
}

fn check_private(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        // The gateway, whose parent is gone, is closing its database and takes files away.
        let metadata = match entry.metadata() {
            Err(gone) if gone.kind() == std::io::ErrorKind::NotFound => continue,
            there => there.unwrap(),
        };
        let mode = metadata.permissions().mode() & 0o777;
        if metadata.is_dir() {
            assert_eq!(mode, 0o700, "{}", entry.path().display());
            check_private(&entry.path());
        } else if entry.path().extension().is_some_and(|e| e == "flash") {
            assert_eq!(mode, 0o600, "{}", entry.path().display());
        }
    }
}

#[test]
fn a_day_keeps_its_keys_to_its_owner_and_its_gateway_knows_the_time_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("day");
    let mut child = city(&data, &DAY).arg("--serve").stdout(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    let ask = || -> Option<serde_json::Value> {
        fs::metadata(data.join("report.json")).ok()?;
        let ready: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(data.join("gateway-ready.json")).ok()?).ok()?;
        let token = fs::read_to_string(data.join("admin-token")).ok()?;
        let url = format!("http://{}/v1/clock", ready["http"].as_str()?);
        let call = ureq::get(url).header("authorization", format!("Bearer {}", token.trim())).call();
        serde_json::from_str(&call.ok()?.body_mut().read_to_string().ok()?).ok()
    };
    let clock = loop {
        assert!(child.try_wait().unwrap().is_none(), "the day ends by itself");
        if let Some(clock) = ask() {
            break clock;
        }
        assert!(begun.elapsed() < Duration::from_secs(300), "the gateway does not answer");
        std::thread::sleep(Duration::from_millis(50));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(clock["now_ms"], CLOSE_AT);
    check_private(&data);
    assert!(!fs::read(data.join("gateway.log")).unwrap().contains(&0x1B), "colours in a file");
}
