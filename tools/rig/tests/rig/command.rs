//! The command line: exit statuses, output for machines, and suites.

use crate::cast::{TODAY, debit, house, terminal};
use crate::replays::recorded;
use rig::bench::trusted;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use wavepass_hce::authorities::Authorities;
use wavepass_hce::faults::Fault;
use wavepass_hce::hex;
use wavepass_protocol::lists::Suite;

fn rig(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rig")).args(arguments).output().unwrap()
}

fn said(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

/// A terminal's file that trusts the authorities of these tests.
fn config(folder: &Path) -> String {
    let mut text = rig::terminal::BUILTIN.to_owned();
    for key in terminal().keys {
        let fields = match key.suite {
            Suite::Rsa => {
                format!(
                    "modulus = \"{}\"\nexponent = \"{}\"",
                    hex::encode(&key.key),
                    hex::encode(&key.exponent)
                )
            }
            Suite::P256 => format!("suite = \"p256\"\nx = \"{}\"", hex::encode(&key.key)),
            Suite::Sm2 => {
                let (x, y) = key.key.split_at(32);
                format!("suite = \"sm2\"\nx = \"{}\"\ny = \"{}\"", hex::encode(x), hex::encode(y))
            }
        };
        text += &format!(
            "\n[[ca_key]]\nrid = \"{}\"\nindex = \"{:02X}\"\n{fields}\ncheck_value = \"{}\"\n",
            hex::encode(&key.rid),
            key.index,
            hex::encode(&key.check_value())
        );
    }
    let file = path(folder, "terminal.toml");
    std::fs::write(&file, text).unwrap();
    file
}

/// A folder with test authorities of every suite.
fn authorities(folder: &Path) -> String {
    let made = path(folder, "authorities");
    trusted(&Authorities::open(Path::new(&made), TODAY).unwrap()).unwrap();
    made
}

#[test]
fn a_phone_is_tapped_recorded_and_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let (phone, transcript) = (path(folder.path(), "phone.json"), path(folder.path(), "card.json"));
    house().save(Path::new(&phone)).unwrap();
    let output = rig(&["tap", "--phone", &phone, "--config", &config]);
    let (status, text) = said(&output);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("OPEN  The card is genuine"), "{text}");
    let output = rig(&["tap", "--phone", &phone, "--config", &config, "--json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["decision"], &json["reason"]), (&"open".into(), &Value::Null));
    assert_eq!(json["authentication"]["oda"], "passed");
    assert_eq!(json["card"]["number"], "…0001");

    let output = rig(&["record", &transcript, "--phone", &phone, "--config", &config]);
    let (status, text) = said(&output);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("the whole number of the card; only you may read"), "{text}");
    let again = rig(&["record", &transcript, "--phone", &phone, "--config", &config]);
    assert_eq!(again.status.code(), Some(2), "a transcript is not replaced unasked");
    let output = rig(&["replay", &transcript, "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&verdict["oda"], &verdict["method"]), (&"passed".into(), &"ecc".into()));
}

#[test]
fn a_recording_without_the_authority_s_key_is_told_which_one_and_where_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    let (phone, transcript) = (path(folder.path(), "phone.json"), path(folder.path(), "card.json"));
    for (file, kind, key, entry) in [
        (house(), "P-256", "F057415645 01", r#"{"rid":"F057415645","index":"01","suite":"10","x":"…"}"#),
        (
            debit(),
            "RSA",
            "A000000333 F1",
            r#"{"rid":"A000000333","index":"F1","modulus":"…","exponent":"03"}"#,
        ),
    ] {
        file.save(Path::new(&phone)).unwrap();
        let output = rig(&["record", &transcript, "--force", "--phone", &phone]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output).1);
        let (status, text) = said(&rig(&["replay", &transcript]));
        assert_eq!(status, Some(1), "{text}");
        let named = format!("{key}: not in this transcript");
        let missing = format!("The transcript has no {kind} key {key} of an authority");
        for part in [named.as_str(), &missing, entry] {
            assert!(text.contains(part), "`{part}` is not in:\n{text}");
        }
        std::fs::remove_file(&phone).unwrap();
    }
}

#[test]
fn where_a_recording_cannot_go_is_found_before_the_tap() {
    let folder = tempfile::tempdir().unwrap();
    let there = path(folder.path(), "there.json");
    std::fs::write(&there, "before").unwrap();
    let (missing, beside) = (path(folder.path(), "none/card.json"), path(folder.path(), "."));
    for (arguments, why) in [
        (&[there.as_str()][..], format!("{there}: a file is there already; --force replaces it")),
        (&[&missing], format!("{missing}: No such file or directory (os error 2)")),
        (&[&beside, "--force"], format!("{beside}: not a regular file; it stays")),
    ] {
        // There is no such phone: it is not even looked for.
        let (status, text) = said(&rig(&[&["record", "--phone", "none.json"], arguments].concat()));
        assert_eq!((status, text), (Some(2), format!("error: {why}\n")));
    }
    let (_, text) = said(&rig(&["record", "--phone", "none.json", "--force", &there]));
    assert!(text.contains("error: none.json: "), "{text}");
    assert_eq!(std::fs::read(&there).unwrap(), b"before");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn the_status_tells_passed_failed_and_unusable_apart() {
    let folder = tempfile::tempdir().unwrap();
    let file = path(folder.path(), "card.json");
    let save = |text: &str| std::fs::write(&file, text).unwrap();
    save(&recorded(&debit()).1.to_json());
    assert_eq!(rig(&["replay", &file]).status.code(), Some(0));
    save(&recorded(&debit().with_fault(Fault::ForgedSignature)).1.to_json());
    let (status, text) = said(&rig(&["replay", &file]));
    assert_eq!(status, Some(1));
    assert!(text.contains("FAILED  at dynamic_signature"), "{text}");
    save("{}");
    let (status, text) = said(&rig(&["replay", &file, "--json"]));
    assert_eq!(status, Some(2));
    assert!(text.contains("error: no transcript: line 1, column 2: not what should stand there"), "{text}");
    assert_eq!(rig(&["replay", &path(folder.path(), "none.json")]).status.code(), Some(2));
}

#[test]
fn a_profile_s_phone_is_tapped_without_a_file() {
    let (status, text) = said(&rig(&["tap", "--phone", "house", "--fault", "forged-signature"]));
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("REFUSED authentication_failed"), "{text}");
    let (status, text) = said(&rig(&["tap", "--phone", "no-such-phone"]));
    assert_eq!(status, Some(2));
    assert!(text.contains("there is no profile `no-such-phone`"), "{text}");
}

#[test]
fn a_phone_in_this_process_cannot_be_watched() {
    for option in [&["--phone", "house"][..], &["--fault", "expired"], &["--wait", "1"]] {
        let (status, text) = said(&rig(&[&["watch"], option].concat()));
        assert_eq!(status, Some(2), "{text}");
        assert!(text.contains(&format!("unexpected argument '{}'", option[0])), "{text}");
    }
}

#[test]
fn a_mistyped_folder_of_authorities_is_named_and_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let (missing, empty) = (path(folder.path(), "authorites"), path(folder.path(), "empty"));
    std::fs::create_dir(&empty).unwrap();
    for wrong in [&missing, &empty] {
        for command in [&["check", "kernel"][..], &["tap", "--phone", "house"]] {
            let (status, text) = said(&rig(&[command, &["--authorities", wrong]].concat()));
            assert_eq!(status, Some(2));
            let wanted = format!(
                "error: {wrong}: no test authorities are there; `phone issue --authorities {wrong}` makes"
            );
            assert!(text.starts_with(&wanted), "{text}");
        }
    }
    assert!(!Path::new(&missing).exists());
    assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0);
}

#[test]
fn a_report_that_cannot_be_written_is_found_before_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let report = path(folder.path(), "none/report");
    for option in ["--report", "--junit"] {
        // Were the suite run first, it would be the one that is told of.
        let (status, text) = said(&rig(&["check", "no-such-suite", option, &report]));
        assert_eq!(status, Some(2));
        assert_eq!(text, format!("error: {report}: No such file or directory (os error 2)\n"));
    }
}

#[test]
fn a_report_takes_the_place_of_nothing_that_the_run_needs() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| path(folder.path(), name);
    for name in ["suite.toml", "terminal.toml", "run.json"] {
        std::fs::write(file(name), "before").unwrap();
    }
    let (suite, config, run, new) =
        (file("suite.toml"), file("terminal.toml"), file("run.json"), file("new"));
    let read = |path: &str| format!("error: {path}: it is read in this run, so no report goes there\n");
    for (arguments, why) in [
        (&["check", &suite, "--report", &suite][..], read(&suite)),
        (&["check", &suite, "--junit", &suite], read(&suite)),
        (&["check", "--config", &config, "--report", &config], read(&config)),
        (&["check", "--merge", &run, "--report", &run], read(&run)),
        (
            &["check", &suite, "--report", &new, "--junit", &new],
            format!("error: {new}: --report and --junit name the same file\n"),
        ),
    ] {
        assert_eq!(said(&rig(arguments)), (Some(2), why));
    }
    for name in ["suite.toml", "terminal.toml", "run.json"] {
        assert_eq!(std::fs::read(file(name)).unwrap(), b"before");
    }
    assert!(!Path::new(&new).exists());
}

#[test]
fn what_makes_no_sense_together_is_refused() {
    let (status, text) = said(&rig(&["check", "--way", "process", "--way", "process"]));
    assert_eq!((status, text.as_str()), (Some(2), "error: --way process is given twice\n"));
    let (status, text) = said(&rig(&["check", "kernel", "--merge", "none.json"]));
    assert_eq!(status, Some(2));
    assert!(text.contains("'[SUITE]' cannot be used with '--merge <FILE>...'"), "{text}");
}

#[test]
fn a_file_that_is_not_there_is_named_once() {
    for command in [
        &["check", "none.toml"][..],
        &["check", "kernel", "--config", "none.toml"],
        &["tap", "--phone", "house", "--config", "none.toml"],
        &["replay", "none.toml"],
    ] {
        let (status, text) = said(&rig(command));
        assert_eq!(
            (status, text.as_str()),
            (Some(2), "error: none.toml: No such file or directory (os error 2)\n")
        );
    }
    let (_, text) = said(&rig(&["tap", "--phone", "none.json"]));
    assert_eq!(text, "error: none.json: No such file or directory (os error 2)\n");
    let (_, text) = said(&rig(&["tap", "--phone", "none"]));
    assert!(text.starts_with("error: there is no profile `none`"), "{text}");
}

#[test]
fn somebody_else_s_kernel_is_told_the_authorities_keys() {
    let (status, text) = said(&rig(&["check", "kernel", "--command", "true"]));
    assert_eq!(status, Some(2));
    assert!(text.contains("--authorities <FOLDER>"), "{text}");
}

#[test]
fn other_limits_than_the_suite_s_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let config = path(folder.path(), "terminal.toml");
    let text = rig::terminal::BUILTIN.replacen("tap_limit_ms = 2000", "tap_limit_ms = 300", 1);
    let relay = "relay = { overhead_us = 1, grace_us = 1, cap_us = 1 }\n\n[[application]]";
    std::fs::write(&config, text.replacen("[[application]]", relay, 1)).unwrap();
    // A phone that is timed elsewhere is not in a plain case.
    let case = ["check", "kernel", "--only", "a phone of the house opens: house"];
    let (status, text) = said(&rig(&[&case[..], &["--config", &config]].concat()));
    assert_eq!(status, Some(0), "{text}");
    assert!(
        text.contains(&format!("at most 1000 ms, which is what is tried; {config} says 300 ms")),
        "{text}"
    );
    assert!(text.contains("cards are timed in cases with `terminal = \"timed\"` alone"), "{text}");
    let (status, text) = said(&rig(&case));
    assert_eq!(status, Some(0), "{text}");
    assert!(!text.contains("note:"), "{text}");
}

#[test]
fn the_suite_that_comes_with_the_rig_passes_in_process_and_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let (table, xml) = (path(folder.path(), "report.md"), path(folder.path(), "report.xml"));
    let authorities = authorities(folder.path());
    let output = rig(&[
        "check",
        "kernel",
        "--authorities",
        &authorities,
        "--report",
        &table,
        "--junit",
        &xml,
        "--json",
    ]);
    let (status, text) = said(&output);
    assert_eq!(status, Some(0), "{text}");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(json["ways"][0]["passed"].as_u64().unwrap() >= 350, "{}", json["ways"][0]["passed"]);
    assert_eq!(json["ways"][0]["skipped"], 1, "what only the firmware says");
    let saved = path(folder.path(), "process.json");
    std::fs::write(&saved, &output.stdout).unwrap();
    assert!(
        std::fs::read_to_string(&table)
            .unwrap()
            .contains("| a phone of the house opens: house | open | ok |")
    );
    assert!(std::fs::read_to_string(&xml).unwrap().contains("failures=\"0\""));

    // What was printed is put beside what was run elsewhere.
    let elsewhere = path(folder.path(), "pcscd.json");
    std::fs::write(&elsewhere, json.to_string().replace("\"process\"", "\"pcscd\"")).unwrap();
    let (status, text) = said(&rig(&["check", "--merge", &saved, &elsewhere, "--report", &table]));
    assert_eq!(status, Some(0), "{text}");
    assert!(
        std::fs::read_to_string(&table)
            .unwrap()
            .contains("| a phone of the house opens: house | open | ok | ok |")
    );
    let (status, text) = said(&rig(&["check", "--merge", &saved, &saved]));
    assert_eq!((status, text.trim()), (Some(2), "error: process is there twice"));

    // A kernel that lets everybody in is found out.
    let suite = path(folder.path(), "lax.toml");
    let text = "name = \"lax\"\ntap_limit_ms = 1000\n[[case]]\nname = \"late\"\nprofiles = \"house\"\nfaults = [\"expired\"]\nexpect = \"open\"\n";
    std::fs::write(&suite, text).unwrap();
    let (status, text) = said(&rig(&["check", &suite, "--authorities", &authorities]));
    assert_eq!(status, Some(1));
    assert!(text.contains("late: house: expired instead of open"), "{text}");
}

#[test]
fn a_reader_that_went_away_is_no_failure_and_a_full_disk_is_one_without_a_panic() {
    for arguments in [&["tap", "--phone", "house", "--json"][..], &["tap", "--phone", "house"]] {
        let rig = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_rig"));
            command.args(arguments).stderr(std::process::Stdio::piped());
            command
        };
        let (reads, writes) = std::io::pipe().unwrap();
        drop(reads);
        let out = rig().stdout(writes).output().unwrap();
        assert_eq!((out.status.code(), String::from_utf8(out.stderr).unwrap()), (Some(0), String::new()));

        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let out = rig().stdout(full).output().unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.starts_with("error: standard output: No space left"), "{arguments:?}: {said}");
    }
}
