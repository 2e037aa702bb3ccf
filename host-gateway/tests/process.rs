//! The gateway as a process: started, spoken to by a second one, killed, started again.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

#[path = "process/concentrators.rs"]
mod concentrators;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use wavepass_gateway::intake::sealer::Sealer;
use wavepass_gateway::serve::Running;
use wavepass_protocol::tap::{Entry, Outcome, Passage};
use wavepass_protocol::time::UnixMs;
use wavepass_test_postgres::{Options, Server};

struct House {
    dir: tempfile::TempDir,
    /// The URL of its database, where that is not a file in its folder.
    database: Option<String>,
}

/// The server of this run's databases, with `WAVEPASS_TEST_STORE=postgres` in the environment.
fn postgres() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    let start = || match std::env::var("WAVEPASS_TEST_STORE").as_deref() {
        // Over TCP, as in a house.
        Ok("postgres") => Some(Server::start(Options { tcp: true, ..Options::default() }).unwrap()),
        Ok("sqlite") | Err(_) => None,
        Ok(other) => panic!("WAVEPASS_TEST_STORE is {other}; it is sqlite or postgres"),
    };
    SERVER.get_or_init(start).as_ref()
}

impl House {
    /// A data folder with key files.
    fn new() -> Self {
        let database = postgres().map(|server| server.url(&server.new_database().unwrap()));
        let house = Self { dir: tempfile::tempdir().unwrap(), database };
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
        command.envs(self.database.iter().map(|url| ("WAVEPASS_DATABASE", url)));
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
        self.serve_with(&[])
    }

    /// The same, with further arguments.
    fn serve_with(&self, more: &[&str]) -> Gateway {
        let ready = self.path("ready.json");
        let _ = std::fs::remove_file(&ready);
        let addresses = ["--listen-link", "127.0.0.1:0", "--listen-http", "127.0.0.1:0"];
        let mut args =
            vec!["serve", "--clock", "driven", "--exit-on-stdin-eof", "--ready-file", "ready.json"];
        args.extend(addresses);
        args.extend(more);
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
fn a_database_is_copied_while_it_is_served_and_put_back_only_where_there_is_none() {
    let house = House::new();
    let mut gate = house.gate("1");
    let gateway = house.serve();
    house.write_entries("first", &entries(&mut gate, 3));
    house.says(&["import", "first"]);
    if postgres().is_some() {
        assert!(house.refuses(&["backup", "--out", "copy.db"]).contains("pg_dump"));
        assert!(house.refuses(&["restore", "copy.db"]).contains("pg_restore"));
        assert!(!house.path("copy.db").exists(), "nothing is left of what was not made");
        return;
    }
    assert!(house.says(&["backup", "--out", "copy.db"]).contains("checked"));
    assert_eq!(mode_of(&house.path("copy.db")), 0o600);
    assert!(house.refuses(&["backup", "--out", "copy.db"]).contains("exists already"));
    house.write_entries("second", &entries(&mut gate, 2));
    house.says(&["import", "second"]);
    assert!(house.refuses(&["restore", "copy.db"]).contains("wavepass.db exists already"));
    gateway.kill();

    for (name, bytes, why) in
        [("noise", &b"no database"[..], "no sound copy"), ("empty", b"", "not a database")]
    {
        std::fs::write(house.path(name), bytes).unwrap();
        let refused = house.refuses(&["--data", "elsewhere", "--keys", "keys", "restore", name]);
        assert!(refused.contains(why), "{refused}");
        assert!(!house.path("elsewhere/wavepass.db").exists());
    }
    let elsewhere = ["--data", "elsewhere", "--keys", "keys"];
    let back = house.says(&[&elsewhere[..], &["restore", "copy.db", "--json"]].concat());
    let back: serde_json::Value = serde_json::from_str(&back).unwrap();
    assert_eq!(back["list_epoch"], 2);
    assert!(!house.path("elsewhere/wavepass.db.restoring").exists());
    // The three that the copy has are there, the two after it come for the first time.
    let again = house.says(&[&elsewhere[..], &["import", "first"]].concat());
    assert!(again.contains("3 repeated"), "{again}");
    let again = house.says(&[&elsewhere[..], &["import", "second"]].concat());
    assert!(again.contains("2 accepted"), "{again}");
}

#[test]
fn a_tariff_is_tried_on_a_closed_day_of_the_gateway_s_own_alone() {
    let house = House::new();
    std::fs::write(house.path("city.toml"), include_str!("../tariffs/wavepass-city.toml")).unwrap();
    let args = ["tariff", "diff", "city.toml", "--day", "2026-11-23"];
    assert!(house.refuses(&args).contains("tariff"), "none is published");
    let gateway = house.serve();
    // It is the gateway that answers: its clock was never told the time.
    assert!(house.refuses(&args).contains("clock"));
    for misused in [&[&args[..], &["--taps", "taps.jsonl"]].concat()[..], &args[..3]] {
        assert_eq!(house.run(misused).status.code(), Some(2), "{misused:?}");
    }
    gateway.kill();
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

impl House {
    /// Runs a command that must fail; gives what it told.
    fn refuses(&self, args: &[&str]) -> String {
        let out = self.run(args);
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{args:?}: {stderr}");
        stderr
    }

    fn json(&self, args: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.says(args)).unwrap()
    }
}

#[test]
fn the_configuration_that_is_shown_is_a_file_to_be_changed_and_set() {
    let house = House::new();
    // Nobody runs: the command takes the folder itself.
    let shown = house.says(&["gate-config", "show"]);
    std::fs::write(house.path("g.toml"), shown.replace("\"5m\"", "\"90s\"")).unwrap();
    let said = house.says(&["gate-config", "set", "g.toml"]);
    assert_eq!(
        said.trim(),
        "the configuration is set, with other passback; published as version 1 of epoch 1"
    );

    let _gateway = house.serve();
    let shown = house.says(&["gate-config", "show"]);
    assert!(shown.contains("passback = \"1m 30s\"") && !shown.contains("relay"), "{shown}");
    let timed = format!("{shown}\n[relay]\noverhead_us = 2000\ngrace_us = 300\ncap_us = 10000\n");
    std::fs::write(house.path("g.toml"), &timed).unwrap();
    let said = house.says(&["gate-config", "check", "g.toml"]);
    assert!(said.starts_with("g.toml is sound: gates take it; applications: 4, cards are timed"), "{said}");
    assert_eq!(house.says(&["gate-config", "show"]), shown, "a check changes nothing");
    let said = house.says(&["gate-config", "set", "g.toml", "--user", "anna"]);
    assert!(said.contains("with other relay; published as version 2 of epoch 1"), "{said}");
    let set = house.json(&["gate-config", "show", "--json"]);
    assert_eq!(set["relay"], serde_json::json!({ "overhead_us": 2000, "grace_us": 300, "cap_us": 10000 }));
    assert!(house.says(&["gate-config", "set", "g.toml"]).contains("this one already; no gate's list"));

    std::fs::write(house.path("g.toml"), timed.replace("tap_limit", "tap_limits")).unwrap();
    for command in ["check", "set"] {
        let told = house.refuses(&["gate-config", command, "g.toml"]);
        assert!(told.starts_with("error: g.toml:6:1: unknown field `tap_limits`"), "{told}");
        let told = house.refuses(&["gate-config", command, "nowhere.toml"]);
        assert!(told.contains("nowhere.toml: "), "{told}");
    }
    assert_eq!(house.json(&["gate-config", "show", "--json"]), set);
}

#[test]
fn a_file_of_the_bank_s_is_taken_in_by_the_gateway_or_by_the_caller_and_not_kept() {
    let house = House::new();
    house.gate("1");
    // More than a request may have otherwise.
    std::fs::write(house.path("letter.xml"), "<Letter>".repeat(2 << 20)).unwrap();
    let refused = "error: the file is not taken in, and nothing is done: line 1, column ";
    let told = house.refuses(&["answers", "letter.xml"]);
    assert!(told.starts_with(refused), "{told}");
    let _gateway = house.serve();
    let told = house.refuses(&["answers", "letter.xml"]);
    assert!(told.starts_with(refused), "{told}");
    let told = house.refuses(&["reconcile", "2026-11-23", "--statement", "letter.xml"]);
    assert!(told.contains("service day 2026-11-23 is not closed"), "{told}");
    assert!(house.refuses(&["answers", "nowhere.xml"]).contains("nowhere.xml: "));
    assert_eq!(std::fs::read_dir(house.path("spool")).unwrap().count(), 0);
    let misused = house.run(&["reconcile", "2026-11-23", "--slices", "--statement", "letter.xml"]);
    assert_eq!(misused.status.code(), Some(2));
}

#[test]
fn an_issuer_is_revoked_listed_and_lifted() {
    let house = House::new();
    // A driven clock begins at the time in the store.
    house.gate("1");
    let _gateway = house.serve();
    let which = ["--rid", "a000000333", "--index", "08", "--serial", "00012F"];
    let add =
        [&["revocation", "add", "--note", "by the scheme's letter", "--user", "anna"], &which[..]].concat();
    let out = house.run(&add);
    let (said, warned) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(said.starts_with("issuer certificate 00012F under CA key A000000333 08 is revoked; published"));
    assert!(out.status.success() && warned.contains("gates have no such CA key"), "{warned}");
    assert!(house.says(&add).contains("is already revoked; no gate's list changes"));
    let list = house.json(&["revocation", "list", "--json"]);
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!((&list[0]["serial"], &list[0]["by"]), (&"00012F".into(), &"anna".into()));
    assert_eq!(list[0]["note"], "by the scheme's letter");
    assert!(house.says(&["revocation", "list"]).starts_with("revocations: 1 of 64"));
    let remove = [&["revocation", "remove"], &which[..]].concat();
    assert!(house.says(&remove).contains("is no longer revoked; published"));
    assert!(house.says(&remove).contains("was not revoked; no gate's list changes"));
    assert_eq!(house.json(&["revocation", "list", "--json"]), serde_json::json!([]));
    let misused = house.run(&["revocation", "add", "--rid", "A0", "--index", "08", "--serial", "00012F"]);
    assert_eq!(misused.status.code(), Some(2));
}

#[test]
fn a_scheme_s_ca_key_is_added_with_its_check_value_and_the_own_bank_s_stays() {
    let (rid, modulus) = ([0xA0, 0, 0, 3, 0x33], "C7".repeat(144));
    let value = wavepass_protocol::rsa::ca_check_value(&rid, 8, &[0xC7; 144], &[3]);
    let value: String = value.iter().map(|b| format!("{b:02X}")).collect();
    let entry = format!(
        "[[ca_key]]\nrid = \"A000000333\"\nindex = \"08\"\nmodulus = \"{modulus}\"\nexponent = \"03\"\n"
    );
    let house = House::new();
    // A driven clock begins at the time in the store.
    house.gate("1");
    let _gateway = house.serve();
    let good = format!("{entry}check_value = \"{value}\"\nexpires = \"2040-12-31\"\n");
    std::fs::write(house.path("wrong.toml"), good.replace("C7C7\"", "C7C5\"")).unwrap();
    let told = house.refuses(&["ca-key", "add", "wrong.toml"]);
    assert!(told.starts_with("error: wrong.toml:1:1: CA key 1: the check value is not the key's"), "{told}");
    std::fs::write(house.path("past.toml"), good.replace("2040", "2020")).unwrap();
    assert!(house.refuses(&["ca-key", "add", "past.toml"]).contains("its last day, 2020-12-31, is past"));
    std::fs::write(house.path("keys.toml"), &good).unwrap();
    let said = house.says(&["ca-key", "add", "keys.toml"]);
    assert!(said.starts_with("added: CA key A000000333 08 (rsa); published as version "), "{said}");
    assert!(house.says(&["ca-key", "add", "keys.toml"]).contains("is there already; no gate's list"));
    let list = house.json(&["ca-key", "list", "--json"]);
    let rows: Vec<_> = list.as_array().unwrap().iter().map(|row| (&row["rid"], &row["own"])).collect();
    assert_eq!(rows, [(&"A000000333".into(), &false.into()), (&"F057415645".into(), &true.into())]);
    assert_eq!((&list[0]["bits"], &list[0]["expires"]), (&1152.into(), &"2040-12-31".into()));
    assert_eq!(list[0]["check_value"], value);

    // A transcript states neither check value nor last day.
    let transcript = serde_json::json!({
        "ca_keys": [{ "rid": "A000000333", "index": "08", "modulus": modulus, "exponent": "03" }],
        "date": "2026-11-23",
        "exchange": [],
    });
    std::fs::write(house.path("t.json"), transcript.to_string()).unwrap();
    assert!(house.refuses(&["ca-key", "add", "t.json"]).contains(&value));
    let stated = ["ca-key", "add", "t.json", "--check-value", &value, "--expires", "2041-12-31"];
    assert!(house.says(&stated).starts_with("added: "));
    assert_eq!(house.json(&["ca-key", "list", "--json"])[0]["expires"], "2041-12-31");

    // Another key in the own bank's place, and one of the same index with another suite.
    let point = |rid: [u8; 5], index: u8, suite: &str, y: &str, key: &[u8]| {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02X}")).collect::<String>();
        let value = hex(&wavepass_protocol::rsa::ca_check_value(&rid, index, key, &[]));
        format!(
            "[[ca_key]]\nrid = \"{}\"\nindex = \"{index:02X}\"\nsuite = \"{suite}\"\nx = \"{}\"\n{y}\
             check_value = \"{value}\"\nexpires = \"2040-12-31\"\n",
            hex(&rid),
            "11".repeat(32)
        )
    };
    let own = u8::from_str_radix(list[1]["index"].as_str().unwrap(), 16).unwrap();
    let other = point([0xF0, 0x57, 0x41, 0x56, 0x45], own, "p256", "", &[0x11; 32]);
    std::fs::write(house.path("own.toml"), other).unwrap();
    assert!(house.refuses(&["ca-key", "add", "own.toml"]).contains("this place is the own bank's"));
    let y = format!("y = \"{}\"\n", "11".repeat(32));
    std::fs::write(house.path("sm2.toml"), point(rid, 8, "sm2", &y, &[0x11; 64])).unwrap();
    house.says(&["ca-key", "add", "sm2.toml"]);

    let remove = ["ca-key", "remove", "--rid", "A000000333", "--index", "08"];
    assert!(house.refuses(&remove).contains("say which with --suite"));
    house.says(&[&remove[..], &["--suite", "sm2"]].concat());
    assert!(house.says(&remove).starts_with("removed: CA key A000000333 08 (rsa); published"));
    assert!(house.refuses(&remove).contains("there is no such CA key A000000333 08"));
    let own = house.json(&["ca-key", "list", "--json"])[0].clone();
    let (rid, index) = (own["rid"].as_str().unwrap(), own["index"].as_str().unwrap());
    let told = house.refuses(&["ca-key", "remove", "--rid", rid, "--index", index]);
    assert!(told.contains("the last CA key stays"), "{told}");
}

#[test]
fn a_gateway_whose_bank_is_away_takes_taps_and_says_where_accounts_are() {
    let house = House::new();
    let config =
        |key: &str| format!("[bank]\nconnector = 'http'\nurl = 'http://127.0.0.1:1'\nkey_file = '{key}'\n");
    std::fs::write(house.path("bank.key"), "5a".repeat(32)).unwrap();
    std::fs::write(house.path("bank.toml"), config("bank.key")).unwrap();
    std::fs::write(house.path("lost.toml"), config("lost.key")).unwrap();
    std::fs::write(house.path("bad.toml"), config("bank.key").replace("http://", "ftp://")).unwrap();
    let told = house.refuses(&["--config", "lost.toml", "serve"]);
    assert!(told.contains("[bank]: lost.key: "), "{told}");
    let told = house.refuses(&["--config", "bad.toml", "serve"]);
    assert!(told.contains("bank.url") && !told.contains("ftp:"), "{told}");

    let mut gate = house.gate("1");
    let _gateway = house.serve_with(&["--config", "bank.toml"]);
    house.write_entries("taps.jsonl", &entries(&mut gate, 5));
    assert_eq!(house.says(&["import", "taps.jsonl"]).trim(), "5 entries: 5 accepted");
    for command in [
        &["account", "open", "ACC-1"][..],
        &["account", "deposit", "ACC-1", "--fen", "1", "--name", "n"],
        &["account", "pay-out", "ACC-1", "--name", "n"],
        &["account", "list"],
    ] {
        let told = house.refuses(command);
        assert!(told.contains("kept by the bank at http://127.0.0.1:1, not here"), "{told}");
    }
    // The bank itself knows whether there is such an account.
    house.says(&["token", "issue", "--account", "ACC-1", "--out", "p.json"]);
    assert!(house.path("p.json").exists());
}

#[test]
fn misuse_is_told_from_failure() {
    let house = House::new();
    assert_eq!(house.run(&["fly"]).status.code(), Some(2));
    assert_eq!(house.run(&["--help"]).status.code(), Some(0));
    for (url, told) in
        [("mysql://u:p@host/db", "mysql:"), ("postgres://u:p@127.0.0.1:1/db", "db at 127.0.0.1:1")]
    {
        let out = house.run(&["--database", url, "gate", "list"]);
        let message = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1));
        assert!(message.contains(told) && !message.contains("u:p"), "{message}");
    }
    let out = house.run(&["import", "/nowhere"]);
    assert_eq!(out.status.code(), Some(1));
}
