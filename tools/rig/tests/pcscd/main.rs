//! The phone in a real pcscd: every profile and fault through it, and programs that nobody here wrote.
//!
//! These tests own vpcd's fixed port and need a running pcscd; `cargo x test` starts one and runs them one by one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use rig::pcsc_way::Readers;
use rig::pcscd_bench::VirtualReader;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tempfile::TempDir;
use wavepass_hce::authorities::Authorities;
use wavepass_hce::contactless::{Identity, Surface};
use wavepass_hce::faults::Fault;
use wavepass_hce::hex;
use wavepass_hce::phone::{Phone, PhoneFile};
use wavepass_hce::profile::{Order, Profile};
use wavepass_hce::reader::{self, Values};
use wavepass_hce::state::Counters;
use wavepass_protocol::time::Date;
use wavepass_protocol::tlv;

const READER: &str = "Virtual PCD 00 00";
const PATIENCE: Duration = Duration::from_secs(20);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let authorities = Authorities::open(&folder.path().join("authorities"), today()).unwrap();
    rig::bench::trusted(&authorities).unwrap();
    folder
});

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

fn authorities() -> PathBuf {
    FOLDER.path().join("authorities")
}

fn today() -> Date {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
    Date::at(wavepass_protocol::time::UnixMs(u64::try_from(now).unwrap()), 480)
}

fn issue(profile: &str) -> PhoneFile {
    use rand::SeedableRng;
    let authorities = Authorities::open(&authorities(), today()).unwrap();
    let mut rng = rand_chacha::ChaCha20Rng::from_seed([5; 32]);
    Profile::builtin(profile).unwrap().issue(&authorities, &Order::new(today()), &mut rng).unwrap()
}

fn phone(file: &PhoneFile) -> Phone {
    Phone::new(file, Counters::memory(), [9; 32]).unwrap()
}

/// A phone of this profile in the reader of pcscd, and its file.
fn in_reader(profile: &str) -> (VirtualReader, PhoneFile) {
    let file = issue(profile);
    let mut reader = VirtualReader::take(READER.to_owned(), wavepass_hce::vpcd::ADDRESS);
    reader.hold(&Readers::open().unwrap(), phone(&file)).unwrap();
    (reader, file)
}

fn rig(arguments: &[&str]) -> Output {
    let folder = authorities();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rig"));
    command.args(arguments);
    if arguments[0] != "list" && arguments[0] != "replay" {
        command.arg("--authorities").arg(folder);
    }
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn atr() -> Vec<u8> {
    Identity::new(&Surface::default(), [0; 32]).atr()
}

#[test]
fn every_profile_and_fault_gets_its_decision_through_a_real_pcscd() {
    let _alone = alone();
    let output = rig(&["check", "kernel", "--way", "process", "--way", "pcscd", "--json"]);
    assert!(output.status.success(), "{}", text(&output));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["ways"][1]["way"], "pcscd");
    assert!(json["ways"][1]["passed"].as_u64().unwrap() >= 350);
}

#[test]
fn the_virtual_reader_is_timed() {
    let _alone = alone();
    let output = rig(&["check", "--timing"]);
    assert!(output.status.success(), "{}", text(&output));
    println!("{}", text(&output));
    let json: Value = serde_json::from_slice(&rig(&["check", "--timing", "--json"]).stdout).unwrap();
    assert!(json["reader_adds_us"].is_u64() && json["tap_us"].as_u64() > Some(0), "{json}");
}

#[test]
fn a_card_on_the_reader_is_listed_tapped_and_recorded() {
    let _alone = alone();
    let (_reader, _) = in_reader("unionpay-debit");
    let listed = rig(&["list", "--json"]);
    let readers: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let there = readers.as_array().unwrap().iter().find(|r| r["name"] == READER).unwrap();
    assert_eq!(there["atr"], hex::encode(&atr()));
    let tapped = rig(&["tap", "--reader", READER]);
    assert!(tapped.status.success(), "{}", text(&tapped));
    assert!(text(&rig(&["tap"])).contains(READER), "the reader on which the card is is named");
    let told: Value = serde_json::from_slice(&rig(&["tap", "--json"]).stdout).unwrap();
    assert_eq!((&told["reader"], &told["decision"]), (&READER.into(), &"open".into()));
    assert!(text(&tapped).contains("OPEN  The card is genuine"), "{}", text(&tapped));
    let file = FOLDER.path().join("card.json");
    let file = file.to_str().unwrap();
    assert!(rig(&["record", file, "--force", "--reader", READER]).status.success());
    let replayed = rig(&["replay", file, "--json"]);
    let verdict: Value = serde_json::from_slice(&replayed.stdout).unwrap();
    assert_eq!((&verdict["oda"], &verdict["method"]), (&"passed".into(), &"fdda".into()));
}

#[test]
fn a_reader_that_is_not_there_is_named() {
    let _alone = alone();
    let output = rig(&["tap", "--reader", "No such reader"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output).contains("no reader's name holds `No such reader`; there is: "),
        "{}",
        text(&output)
    );
    Readers::open().unwrap().wait(READER, false, PATIENCE).unwrap();
    let output = rig(&["tap", "--reader", READER, "--wait", "1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("no card on Virtual PCD 00 00"), "{}", text(&output));
}

/// The program until the test ends, however it ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_card_that_leaves_does_not_end_the_watch() {
    let _alone = alone();
    let bad = issue("house").with_fault(Fault::FieldLost { after: 2 });
    let mut watch = Command::new(env!("CARGO_BIN_EXE_rig"));
    watch.args(["watch", "--json", "--authorities"]).arg(authorities()).stdout(Stdio::piped());
    let mut watch = Running(watch.spawn().unwrap());
    let mut lines = BufReader::new(watch.0.stdout.take().unwrap()).lines();
    for (file, reason) in [(bad, Value::from("card_removed")), (issue("house"), Value::Null)] {
        let readers = Readers::open().unwrap();
        readers.wait(READER, false, PATIENCE).unwrap();
        let mut reader = VirtualReader::take(READER.to_owned(), wavepass_hce::vpcd::ADDRESS);
        // The bad one may have left again before it is seen here, and come again.
        let held = reader.hold(&readers, phone(&file));
        assert!(held.is_ok() || reason != Value::Null, "{held:?}");
        let mut told = lines.by_ref().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        let told = told.find(|told| told["reason"] == reason).unwrap();
        assert_eq!(told["reader"], READER, "{told}");
    }
}

#[test]
fn somebody_else_s_kernel_is_judged_by_what_it_says() {
    let _alone = alone();
    let only = "expired: house";
    let check = |command: &str| rig(&["check", "kernel", "--only", only, "--command", command]);
    assert!(
        check("echo \"a line before\"; test -s \"$RIG_CA_KEYS\" && echo refuse expired").status.success()
    );
    let failing = check("echo refuse expired; exit 3");
    assert!(
        text(&failing).contains("failed with exit status: 3 after `refuse expired` instead"),
        "{}",
        text(&failing)
    );
    let lax = check("test \"$RIG_READER\" = 'Virtual PCD 00 00' && echo open");
    assert_eq!(lax.status.code(), Some(1));
    assert!(text(&lax).contains("open instead of expired"), "{}", text(&lax));
}

#[test]
fn opensc_tool_and_pcsc_scan_see_the_phone() {
    let _alone = alone();
    let (_reader, _) = in_reader("house");
    let spaced =
        |separator: &str| atr().iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(separator);
    let seen = Command::new("opensc-tool").args(["--reader", READER, "--atr"]).output().unwrap();
    assert!(text(&seen).contains(&spaced(":")), "{}", text(&seen));
    let select = "00:A4:04:00:0E:32:50:41:59:2E:53:59:53:2E:44:44:46:30:31:00";
    let seen =
        Command::new("opensc-tool").args(["--reader", READER, "--send-apdu", select]).output().unwrap();
    let said = text(&seen);
    assert!(said.contains("SW1=0x90, SW2=0x00"), "{said}");
    // Lines of 16 bytes, each with its characters after them.
    let bytes: String = said.lines().filter_map(|line| line.get(..48)).collect::<Vec<_>>().join(" ");
    let bytes = bytes.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(bytes.contains("F0 57 41 56 45 50 41 53 53 01"), "the house's application: {said}");
    // It looks for ever unless it is told not to.
    let seen = Command::new("timeout").args(["5", "pcsc_scan", "-n"]).output().unwrap();
    let said = text(&seen);
    assert!(said.contains("Card inserted") && said.contains(&spaced(" ").to_uppercase()), "{said}");
}

#[test]
fn pyscard_reads_the_phone_s_records() {
    let _alone = alone();
    let python = std::env::var_os("WAVEPASS_PYSCARD").expect("cargo x test says which Python has pyscard");
    for profile in ["house", "unionpay-debit", "unionpay-older"] {
        let (_reader, file) = in_reader(profile);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pcscd/read.py");
        let date = hex::encode(&today().to_yymmdd());
        let output = Command::new(&python).args([script, READER, &date]).output().unwrap();
        assert!(output.status.success(), "{profile}: {}", text(&output));
        let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(seen["atr"], hex::encode(&atr()));
        assert!(seen["uid"].as_str().unwrap().starts_with("08"), "a phone's UID is random: {seen}");
        let reading = reader::read(&mut phone(&file), &Values::gate(today(), [1, 2, 3, 4])).unwrap();
        assert_eq!(seen["aid"], hex::encode(reading.aid.as_slice()));
        let tags =
            |content: &[u8]| tlv::iter(content).map(|o| o.unwrap().tag.to_string()).collect::<Vec<_>>();
        let mut expected = tags(&reading.options);
        for (_, record) in &reading.records {
            expected.extend(tags(tlv::get(record, wavepass_protocol::tags::RECORD).unwrap()));
        }
        let found: Vec<&str> = seen["tags"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
        assert_eq!(found, expected, "{profile}");
    }
}
