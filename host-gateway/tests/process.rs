//! The gateway as a process: started, spoken to by a second one, killed, started again.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use wavepass_gateway::intake::sealer::Sealer;
use wavepass_gateway::serve::Running;
use wavepass_protocol::tap::{Entry, Outcome, Passage};
use wavepass_protocol::time::UnixMs;

struct House {
    dir: tempfile::TempDir,
}

impl House {
    /// A data folder with key files.
    fn new() -> Self {
        let house = Self { dir: tempfile::tempdir().unwrap() };
        for more in [&["root"][..], &["bank"], &["clearing", "--root", "keys/root.key"]] {
            house.says(&[&["keys", "init", "--dir", "keys", "--role"], more].concat());
        }
        house
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wavepass-gateway"));
        command.args(args).current_dir(self.dir.path()).env_clear();
        command
            .env("WAVEPASS_DATA", self.dir.path())
            .env("WAVEPASS_PASSPHRASE", "correct horse battery staple");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must succeed; gives what it printed.
    fn says(&self, args: &[&str]) -> String {
        let out = self.run(args);
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    fn serve(&self) -> Gateway {
        let ready = self.path("ready.json");
        let _ = std::fs::remove_file(&ready);
        let addresses = ["--listen-link", "127.0.0.1:0", "--listen-http", "127.0.0.1:0"];
        let mut args =
            vec!["serve", "--clock", "driven", "--exit-on-stdin-eof", "--ready-file", "ready.json"];
        args.extend(addresses);
        let log = std::fs::File::options().append(true).create(true).open(self.path("log")).unwrap();
        let child =
            self.command(&args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let mut gateway = Gateway { child };
        let began = Instant::now();
        while !ready.exists() {
            assert!(began.elapsed() < Duration::from_secs(60), "the gateway does not start");
            assert!(gateway.child.try_wait().unwrap().is_none(), "{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        gateway
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn gate(&self, id: &str) -> Sealer {
        let file = format!("gate-{id}.wpg");
        self.says(&["gate", "add", "--id", id, "--station", "A1", "--direction", "entry", "--out", &file]);
        Sealer::new(&std::fs::read(self.path(&file)).unwrap()).unwrap()
    }

    fn write_entries(&self, name: &str, entries: &[Vec<u8>]) {
        let mut file = std::fs::File::create(self.path(name)).unwrap();
        for entry in entries {
            let hex: String = entry.iter().map(|b| format!("{b:02x}")).collect();
            writeln!(file, "{{\"sealed\":\"{hex}\"}}").unwrap();
        }
    }
}

struct Gateway {
    child: Child,
}

impl Gateway {
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it as its parent's end would.
    fn end(mut self) -> bool {
        drop(self.child.stdin.take());
        self.child.wait().unwrap().success()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn entries(gate: &mut Sealer, n: u32) -> Vec<Vec<u8>> {
    let passage = |of| Entry::Passage(Passage { time: UnixMs(1), of, outcome: Outcome::Passed });
    (0..n).map(|i| gate.seal(&passage(i + 1)).unwrap()).collect()
}

fn mode_of(path: &Path) -> u32 {
    std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(path).unwrap()) & 0o777
}

#[test]
fn commands_go_through_the_gateway_that_owns_the_folder_and_their_files_stay_with_the_caller() {
    let house = House::new();
    // Nobody runs: the command takes the folder itself.
    house.gate("1");
    let gateway = house.serve();
    let mut gate = house.gate("2");
    assert_eq!(mode_of(&house.path("gate-2.wpg")), 0o600);
    assert_eq!(mode_of(&house.path("admin-token")), 0o600);
    assert!(house.says(&["gate", "list"]).lines().count() >= 2);
    house.write_entries("taps.jsonl", &entries(&mut gate, 5));
    assert_eq!(house.says(&["import", "taps.jsonl"]).trim(), "5 entries: 5 accepted");
    assert_eq!(house.says(&["import", "taps.jsonl"]).trim(), "5 entries: 5 repeated");
    assert!(gateway.end());
    assert!(Running::read(house.dir.path()).is_err());
    // And takes it again.
    assert_eq!(house.says(&["import", "taps.jsonl"]).trim(), "5 entries: 5 repeated");
}

#[test]
fn a_file_in_the_way_is_refused_before_anything_is_entered() {
    let house = House::new();
    let file = house.path("gate-7.bin");
    std::fs::write(&file, "somebody's").unwrap();
    let add = [
        "gate",
        "add",
        "--id",
        "7",
        "--station",
        "A1",
        "--direction",
        "entry",
        "--out",
        file.to_str().unwrap(),
    ];
    let refused = house.run(&add);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("exists already"));
    assert_eq!(std::fs::read(&file).unwrap(), b"somebody's");
    std::fs::remove_file(&file).unwrap();
    house.says(&add);
    assert!(file.exists());
}

#[test]
fn a_place_that_cannot_be_written_is_refused_before_anything_is_entered() {
    let house = House::new();
    let gate =
        ["gate", "add", "--id", "7", "--station", "A1", "--direction", "entry", "--out", "nowhere/gate.wpg"];
    let token = ["token", "issue", "--account", "ACC-1", "--out", "nowhere/anna.json"];
    house.says(&["account", "open", "ACC-1"]);
    for running in [false, true] {
        let gateway = running.then(|| house.serve());
        for command in [&gate[..], &token] {
            let refused = house.run(command);
            let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert_eq!(refused.status.code(), Some(1), "{stderr}");
            assert!(stderr.contains("nowhere/") && stderr.contains("nothing was entered"), "{stderr}");
        }
        assert!(!house.says(&["gate", "list"]).contains("A1"));
        assert!(!house.says(&["token", "list"]).contains("ACC-1"));
        drop(gateway);
    }
    // What is refused for another reason leaves no empty file behind.
    let twice = ["gate", "add", "--id", "0", "--station", "A1", "--direction", "entry", "--out", "zero.wpg"];
    assert_eq!(house.run(&twice).status.code(), Some(1));
    assert!(!house.path("zero.wpg").exists());
}

#[test]
fn an_account_is_opened_and_filled_once_and_a_token_is_issued_for_it_alone() {
    let house = House::new();
    let refused = |args: &[&str], told: &str| {
        let out = house.run(args);
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{args:?}");
        assert!(stderr.contains(told), "{args:?}: {stderr}");
    };
    refused(&["account", "deposit", "ACC-1", "--fen", "5000", "--name", "first"], "no e-account `ACC-1`");
    house.says(&["account", "open", "ACC-1", "--user", "anna"]);
    for _ in 0..2 {
        let said = house.says(&["account", "deposit", "ACC-1", "--fen", "5000", "--name", "first"]);
        assert!(said.contains("holds 50.00 CNY"), "{said}");
    }
    refused(&["account", "open", "ACC-1", "--class", "iii"], "there already, of class ii");
    assert!(house.says(&["account", "list"]).contains("ACC-1"));
    refused(&["token", "issue", "--account", "ACC-NOPE", "--out", "p.json"], "no e-account `ACC-NOPE`");
    let martian = ["token", "issue", "--account", "ACC-1", "--category", "martian", "--out", "p.json"];
    refused(&martian, "no category `martian`");
    refused(&["account", "list", "--user", "anna\nroot"], "--user: a user's name");
    refused(&["account", "list", "--user", "6217000012345678901"], "may be a card's number");
    assert!(!house.path("p.json").exists());
    let gateway = house.serve();
    house.says(&["token", "issue", "--account", "ACC-1", "--out", "p.json"]);
    assert!(house.path("p.json").exists());
    assert!(house.says(&["account", "show", "ACC-1"]).contains("50.00"));
    drop(gateway);
}

#[test]
fn a_driven_clock_begins_where_the_store_stopped() {
    let house = House::new();
    house.gate("1");
    let _gateway = house.serve();
    let running = Running::read(house.dir.path()).unwrap();
    let token = std::fs::read_to_string(house.path("admin-token")).unwrap();
    let url = format!("http://{}/v1/clock", running.http);
    let mut answer =
        ureq::get(url).header("authorization", format!("Bearer {}", token.trim())).call().unwrap();
    let clock: serde_json::Value =
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
    // 2025-01-01: the gate was added by the system's clock.
    assert!(clock["now_ms"].as_u64().unwrap() > 1_735_689_600_000, "{clock}");
}

#[test]
#[cfg(unix)]
fn a_device_without_an_end_is_refused_where_a_file_is_read() {
    let house = House::new();
    for args in [
        &["keys", "show", "/dev/zero"][..],
        &["--config", "/dev/zero", "gate", "list"],
        &["price", "--tariff", "/dev/zero", "--taps", "/dev/zero"],
        &["import", "/dev/zero"],
    ] {
        let out = house.run(args);
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{args:?}");
        assert!(stderr.contains("/dev/zero"), "{stderr}");
    }
}

#[test]
fn tariffs_are_tried_checked_compared_and_imported_without_a_store() {
    let house = House::new();
    let city = include_str!("../tariffs/wavepass-city.toml");
    let write = |name: &str, text: &str| {
        std::fs::write(house.path(name), text).unwrap();
        house.path(name).display().to_string()
    };
    let old = write("old.toml", city);
    let new = write("new.toml", &city.replace("base_fen = 200", "base_fen = 300"));
    let taps = write(
        "taps.jsonl",
        "{\"token\":\"t\",\"time\":\"2026-11-23T08:00:00+08:00\",\"station\":\"HB\",\"kind\":\"entry\"}\n\
         {\"token\":\"t\",\"time\":\"2026-11-23T08:20:00+08:00\",\"station\":\"QS\",\"kind\":\"exit\"}\n",
    );
    let json = |args: &[&str]| -> serde_json::Value { serde_json::from_str(&house.says(args)).unwrap() };
    let priced = json(&["price", "--tariff", &old, "--taps", &taps, "--json"]);
    assert_eq!(priced[0]["charge_fen"], 200);
    let found = json(&["tariff", "diff", &old, &new, "--taps", &taps, "--json"]);
    assert_eq!((&found["total"]["change_fen"], &found["days"][0]["new_fen"]), (&100.into(), &300.into()));
    assert!(house.says(&["tariff", "check", &old]).contains("24 stations, no fault"));
    let bad =
        write("bad.toml", &city.replace("\"CNY\"", "\"EUR\"").replace("every_m = 8_000", "every_m = 0"));
    let refused = house.run(&["tariff", "check", &old, &bad]);
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr.contains(&format!("{bad}:9: currency")) && stderr.contains("every_m is 0"), "{stderr}");

    let feed = concat!(env!("CARGO_MANIFEST_DIR"), "/gtfs/tests/feed");
    let out = house.path("imported.toml").display().to_string();
    let import = ["tariff", "import-gtfs", feed, "--out", &out, "--effective-from", "2026-12-01"];
    assert!(house.says(&import).contains("timeframes.txt is not taken"));
    assert!(house.says(&["tariff", "check", &out]).contains("from 2026-12-01: 5 stations, no fault"));
    let again = house.run(&import);
    assert!(String::from_utf8_lossy(&again.stderr).contains("exists already"));
}

#[test]
fn a_tariff_that_cannot_be_used_keeps_the_gateway_from_starting() {
    let house = House::new();
    let serve = |tariff: &str| {
        house.run(&[
            "serve",
            "--listen-link",
            "127.0.0.1:0",
            "--listen-http",
            "127.0.0.1:0",
            "--tariff",
            tariff,
        ])
    };
    std::fs::write(house.path("broken.toml"), "version = 3\nnetwork = {").unwrap();
    for (tariff, told) in [("missing.toml", "missing.toml"), ("broken.toml", "broken.toml:")] {
        let refused = serve(tariff);
        let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success(), "{stderr}");
        assert!(stderr.contains(told), "{stderr}");
    }
}

#[test]
fn a_second_gateway_on_the_same_folder_is_refused_by_name() {
    let house = House::new();
    let gateway = house.serve();
    let second = house.run(&["serve", "--listen-link", "127.0.0.1:0", "--listen-http", "127.0.0.1:0"]);
    let message = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1));
    assert!(
        message.contains("is in use by another process") && message.contains(&gateway.child.id().to_string()),
        "{message}"
    );
}

#[test]
fn what_was_accepted_survives_a_kill_and_counts_once() {
    let house = House::new();
    let mut gate = house.gate("1");
    let all = entries(&mut gate, 200);
    house.write_entries("all.jsonl", &all);
    let mut accepted = 0;
    for round in 0..4usize {
        let gateway = house.serve();
        house.write_entries("part.jsonl", &all[..(round + 1) * 50]);
        let said = house.says(&["import", "part.jsonl"]);
        assert!(said.contains("50 accepted"), "{said}");
        accepted += 50;
        gateway.kill();
    }
    // The killed gateway leaves its address behind, and no lock.
    assert_eq!(house.says(&["import", "all.jsonl"]).trim(), format!("200 entries: {accepted} repeated"));
}

#[test]
fn misuse_is_told_from_failure() {
    let house = House::new();
    assert_eq!(house.run(&["fly"]).status.code(), Some(2));
    assert_eq!(house.run(&["--help"]).status.code(), Some(0));
    let out = house.run(&["--database", "postgres://u:p@host/db", "gate", "list"]);
    let message = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1));
    assert!(message.contains("postgres:") && !message.contains("u:p"), "{message}");
    let out = house.run(&["import", "/nowhere"]);
    assert_eq!(out.status.code(), Some(1));
}
