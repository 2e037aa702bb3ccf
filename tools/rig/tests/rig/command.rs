//! The command line: exit statuses, output for machines, and suites.

use crate::cast::{debit, house, terminal};
use crate::replays::recorded;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
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
fn the_suite_that_comes_with_the_rig_passes_in_process_and_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let (table, xml) = (path(folder.path(), "report.md"), path(folder.path(), "report.xml"));
    let authorities = path(folder.path(), "authorities");
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
