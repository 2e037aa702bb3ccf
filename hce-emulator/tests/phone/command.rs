//! The command `phone`, as a person and a script use it.

use crate::cast::{TODAY, gate};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use wavepass_hce::card::Card;
use wavepass_hce::hex;
use wavepass_hce::phone::{PhoneFile, state_path};
use wavepass_hce::reader::{Values, read};
use wavepass_hce::state;
use wavepass_hce::tcp::TcpCard;
use wavepass_protocol::tags;
use wavepass_protocol::token::MAX_DIGITS;

pub(crate) fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_phone"));
    command.args(args).current_dir(folder);
    command
}

pub(crate) fn run(folder: &Path, args: &[&str]) -> Output {
    command(folder, args).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

pub(crate) struct Served {
    pub(crate) child: Child,
    address: SocketAddr,
}

pub(crate) fn serve(folder: &Path, file: &str) -> Served {
    let args = ["serve", file, "--tcp", "127.0.0.1:0", "--json", "--quiet"];
    let mut child = command(folder, &args).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let said: Value = serde_json::from_str(&line).unwrap();
    Served { child, address: said["listening"].as_str().unwrap().parse().unwrap() }
}

#[test]
fn help_helps_however_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    for args in [&["help", "--help"][..], &["help"], &["--help"], &["help", "issue", "-h"]] {
        let out = run(folder.path(), args);
        assert!(out.status.success() && text(&out.stdout).contains("Usage: phone"), "{args:?}");
    }
}

#[test]
fn a_phone_is_made_shown_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let made = run(folder, &["issue", "--out", "anna.json", "--fault", "slow=5"]);
    assert_eq!((made.status.code(), text(&made.stderr)), (Some(0), ""));
    assert!(!text(&made.stdout).contains('\u{1b}'), "colours only on a terminal");
    let file = PhoneFile::load(&folder.join("anna.json")).unwrap();
    let digits = file.token().write_digits(&mut [0; MAX_DIGITS]).to_owned();

    let shown = run(folder, &["show", "anna.json"]);
    assert!(text(&shown.stdout).contains(&digits[digits.len() - 4..]));
    assert!(!text(&shown.stdout).contains(&digits));
    let revealed = run(folder, &["show", "anna.json", "--reveal", "--json"]);
    let revealed: Value = serde_json::from_slice(&revealed.stdout).unwrap();
    assert_eq!(revealed["applications"][0]["token"], digits);
    assert_eq!(revealed["faults"][0], "slow=5");
    let listed: Value = serde_json::from_slice(&run(folder, &["list", "--json"]).stdout).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["applications"][0]["atc"], 0);
    let keys = std::fs::read_to_string(folder.join("wavepass-authorities/ca-keys.json")).unwrap();
    let keys: Value = serde_json::from_str(&keys).unwrap();
    assert_eq!(
        (&keys["ca_keys"][0]["suite"], keys["ca_keys"][0]["x"].as_str().unwrap().len()),
        (&"10".into(), 64)
    );
}

#[test]
fn a_second_application_is_added_and_nothing_is_overwritten_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert!(run(folder, &["issue", "--out", "a.json"]).status.success());
    let refused = run(folder, &["issue", "--out", "a.json"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("give --add or --force"));
    assert!(run(folder, &["issue", "--out", "a.json", "--add", "--profile", "rsa"]).status.success());
    let file = PhoneFile::load(&folder.join("a.json")).unwrap();
    assert_eq!(file.applications.len(), 2);
    let twice = run(folder, &["issue", "--out", "a.json", "--add"]);
    assert!(text(&twice.stderr).contains("there twice"));
    assert!(run(folder, &["issue", "--out", "a.json", "--force"]).status.success());
}

#[test]
fn a_reader_taps_a_served_phone_and_the_log_names_what_it_saw() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert!(run(folder, &["issue", "--out", "a.json"]).status.success());
    let args = ["serve", "a.json", "--tcp", "127.0.0.1:0"];
    let mut child = command(folder, &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.split_once(" on ").unwrap().1.split_once(';').unwrap().0.parse().unwrap();
    let mut card = TcpCard::connect(address, Duration::from_secs(5)).unwrap();
    for tap in 1..=2 {
        assert_eq!(read(&mut card, &gate(1)).unwrap().value(tags::ATC).unwrap(), [0, tap]);
    }
    let busy = run(folder, &["serve", "a.json", "--tcp", "127.0.0.1:0"]);
    assert_eq!(busy.status.code(), Some(1));
    assert!(text(&busy.stderr).contains("in use"), "{}", text(&busy.stderr));
    let shown: Value = serde_json::from_slice(&run(folder, &["show", "a.json", "--json"]).stdout).unwrap();
    assert_eq!(shown["applications"][0]["atc"], 2, "also while it is served");

    end_gracefully(&child);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0));
    let log = text(&ended.stderr);
    for seen in [
        "SELECT 2PAY.SYS.DDF01",
        "          4F application identifier: F0",
        "READ RECORD 1 of file 2",
        "5A token: …",
        "9F36 transaction counter: 0002",
        ">   9F37 unpredictable number: 01020304",
        "9F27 cryptogram information: 80 ARQC",
    ] {
        assert!(log.contains(seen), "{seen} is not in\n{log}");
    }
    let digits = PhoneFile::load(&folder.join("a.json"))
        .unwrap()
        .token()
        .write_digits(&mut [0; MAX_DIGITS])
        .to_owned();
    assert!(!log.contains(&digits));
}

#[test]
fn machines_get_an_object_a_line_and_numbers_only_where_they_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert!(run(folder, &["issue", "--out", "a.json"]).status.success());
    let digits = PhoneFile::load(&folder.join("a.json"))
        .unwrap()
        .token()
        .write_digits(&mut [0; MAX_DIGITS])
        .to_owned();
    std::fs::write(
        folder.join("s.toml"),
        "[[answer]]\nmatch = \"00B2??14\"\nanswer = \"6A83\"\nonce = true\n",
    )
    .unwrap();
    for shown in [false, true] {
        let mut args = vec!["serve", "a.json", "--tcp", "127.0.0.1:0", "--json", "--script", "s.toml"];
        if shown {
            args.push("--show-numbers");
        }
        let mut child = command(folder, &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        let address = said["listening"].as_str().unwrap().parse().unwrap();
        let mut card = TcpCard::connect(address, Duration::from_secs(5)).unwrap();
        assert!(read(&mut card, &gate(1)).is_err(), "the script's answer comes once");
        assert!(read(&mut card, &gate(1)).is_ok());
        end_gracefully(&child);
        let lines: Vec<String> = out.lines().map(Result::unwrap).collect();
        assert_eq!(text(&child.wait_with_output().unwrap().stderr), "");
        let events: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let exchanges: Vec<_> = events.iter().filter(|event| event["event"] == "exchange").collect();
        assert_eq!(exchanges[0]["name"], "SELECT 2PAY.SYS.DDF01");
        let refused = exchanges.iter().filter(|exchange| exchange["status"] == "6A83").count();
        assert_eq!((refused, &events[0]["event"]), (1, &"connected".into()));
        let all = lines.concat();
        assert_eq!(all.contains(&digits), shown);
        assert_eq!(exchanges[0]["answer"].is_string(), shown);
    }
}

/// What a terminal sends is logged too, whatever it is: here a card asks for its own number in the PDOL.
#[test]
fn a_number_that_a_terminal_sends_is_in_no_log_unless_it_is_asked_for() {
    const NUMBER: &str = "6299000912345675";
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert!(run(folder, &["issue", "--out", "a.json"]).status.success());
    let script = "[[answer]]\nmatch = \"00A40400\"\nanswer = \"6F098400A5059F38025A089000\"\n";
    std::fs::write(folder.join("s.toml"), script).unwrap();
    for (json, shown) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut args = vec!["serve", "a.json", "--tcp", "127.0.0.1:0", "--script", "s.toml"];
        args.extend(json.then_some("--json"));
        args.extend(shown.then_some("--show-numbers"));
        let mut child = command(folder, &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let port = line.split_once("127.0.0.1:").unwrap().1;
        let port = port.split_once(|c: char| !c.is_ascii_digit()).unwrap().0.parse().unwrap();
        let mut card =
            TcpCard::connect(SocketAddr::from(([127, 0, 0, 1], port)), Duration::from_secs(5)).unwrap();
        for sent in ["00A4040005F000000001", "80A800000A8308NUMBER", "0088000008NUMBER", "80AE800008NUMBER"] {
            let sent = hex::decode(&sent.replace("NUMBER", NUMBER)).unwrap();
            card.transmit(&sent).unwrap();
        }
        end_gracefully(&child);
        let mut log = out.lines().map(Result::unwrap).collect::<String>();
        log.push_str(text(&child.wait_with_output().unwrap().stderr));
        assert_eq!(log.contains(NUMBER), shown, "{log}");
        assert_eq!(log.contains("…5675"), !shown, "{log}");
        assert!(log.contains("GENERATE AC 80, 8 bytes"), "{log}");
    }
}

#[test]
fn profiles_and_faults_are_listed_and_made_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let listed = run(folder, &["list", "--profiles"]);
    assert!(text(&listed.stdout).contains("unionpay-quasi-credit"));
    let faults: Value = serde_json::from_slice(&run(folder, &["list", "--faults", "--json"]).stdout).unwrap();
    let one = faults.as_array().unwrap().iter().find(|fault| fault["name"] == "expired").unwrap();
    assert_eq!(one["gate"], "expired");
    assert!(text(&run(folder, &["list", "--faults"]).stdout).contains("status-words=SW@STEP"));
    let args = ["issue", "--out", "a.json", "--fault", "expired", "--fault", "afl=endless", "--json"];
    let made: Value = serde_json::from_slice(&run(folder, &args).stdout).unwrap();
    assert_eq!(made["faults"], serde_json::json!(["afl=endless"]));
    let older = run(folder, &["issue", "--out", "o.json", "--profile", "unionpay-older", "--json"]);
    let older: Value = serde_json::from_slice(&older.stdout).unwrap();
    assert_eq!(
        (&older["applications"][0]["flow"], &older["surface"]["uid"]),
        (&"standard".into(), &"04A1B2C3D4E5F6".into())
    );
    std::fs::write(folder.join("mine.toml"), "about = 1\n").unwrap();
    let wrong = run(folder, &["issue", "--out", "b.json", "--profile", "mine.toml"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(
        text(&wrong.stderr).contains("mine.toml: line 1, column 9: invalid type"),
        "{}",
        text(&wrong.stderr)
    );
}

#[cfg(unix)]
pub(crate) fn end_gracefully(child: &Child) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
}

/// Killed at any moment, the phone never answers twice with one counter.
#[test]
fn a_phone_that_is_killed_never_repeats_a_counter() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert!(run(folder, &["issue", "--out", "a.json"]).status.success());
    let mut last = 0;
    for round in 0..10 {
        let mut served = serve(folder, "a.json");
        let killer = std::thread::spawn({
            let delay = Duration::from_micros(700 * (round % 5) + 300);
            move || {
                std::thread::sleep(delay);
                served.child.kill().unwrap();
                served.child.wait().unwrap();
            }
        });
        if let Ok(mut card) = TcpCard::connect(served.address, Duration::from_secs(5)) {
            while let Ok(reading) = read(&mut card, &Values::gate(TODAY, [round as u8; 4])) {
                let atc = u16::from_be_bytes(reading.value(tags::ATC).unwrap().try_into().unwrap());
                assert!(atc > last, "{atc} after {last}");
                last = atc;
            }
        }
        killer.join().unwrap();
        let kept = state::peek(&state_path(&folder.join("a.json"))).unwrap()[0];
        assert!(kept >= last && kept <= last + 1, "{kept} kept, {last} answered");
        last = kept;
    }
}
