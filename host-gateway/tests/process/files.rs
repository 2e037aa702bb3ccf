//! Files that a closed day hands out, and the way back in.

use super::*;
use wavepass_protocol::tap::{ClockQuality, Decision, Direction, OdaMethod, OdaResult, Tap, Timings};
use wavepass_protocol::token::{Expiry, Token};

/// 2026-11-23T08:00:00+08:00.
const MORNING: u64 = 1_795_392_000_000;
const LAYOUT: &str = include_str!("../../files/layouts/charges.toml");

/// An opened tap of a card whose cryptograms nobody here can check: another bank's.
fn tap(gate: &mut Sealer, number: &str, at_ms: u64, atc: u16) -> Vec<u8> {
    let mut values = [0; 33];
    values[29..31].copy_from_slice(&atc.to_be_bytes());
    let tap = Tap {
        time: UnixMs(MORNING + at_ms),
        clock: ClockQuality::Synchronised,
        station: "A1",
        direction: Direction::Entry,
        decision: Decision::Open,
        aid: &[0xF0, 0x57, 0x41, 0x56, 0x45, 0x50, 0x41, 0x53, 0x53, 1],
        token: Some(Token::from_digits(number).unwrap()),
        expiry: Some(Expiry::new(31, 5).unwrap()),
        expiry_signed: true,
        psn: Some(0),
        atc: Some(atc),
        cid: Some(0x80),
        cryptogram: Some([0, atc as u8, 0, 0, 0, 0, 0, 1]),
        iad: &[6, 1, 0x12, 3, 0xA0, 0, 0],
        aip: Some([0x21, 0]),
        track2: &[],
        pdol: &[0x9F, 0x37, 4],
        pdol_values: &values,
        oda_method: Some(OdaMethod::Ecc),
        oda_result: OdaResult::Passed,
        timings: Timings { exchange_us: 200_000, gate_us: 900 },
    };
    gate.seal(&Entry::Tap(tap)).unwrap()
}

/// A house whose two riders tapped on 2026-11-23, of whom one has no money, and one tapped again after the close: two batches.
fn closed() -> (House, Gateway) {
    let house = House::new();
    let numbers = ["6222021200000001", "6222021200000002"];
    for (number, account) in numbers.into_iter().zip(["ACC-1", "ACC-2"]) {
        house.says(&["account", "open", account]);
        house.says(&["token", "register", "--number", number, "--expiry", "2031-05", "--account", account]);
    }
    house.says(&["account", "deposit", "ACC-1", "--fen", "100000", "--name", "first"]);
    let mut gate = house.gate("1");
    let city = include_str!("../../tariffs/wavepass-city.toml").replace("\"HB\"", "\"A1\"");
    std::fs::write(house.path("city.toml"), city).unwrap();
    std::fs::write(house.path("net.toml"), LAYOUT).unwrap();
    std::fs::write(house.path("manual.toml"), "[clearing]\nclose = 'manual'\n").unwrap();
    let gateway = house.serve_with(&[
        "--config",
        "manual.toml",
        "--tariff",
        "city.toml",
        "--clock-at",
        "2027-12-01T12:00:00+08:00",
    ]);
    house.write_entries("taps", &numbers.map(|number| tap(&mut gate, number, 0, 1)));
    house.says(&["import", "taps"]);
    house.says(&["close-day", "2026-11-23"]);
    house.write_entries("late", &[tap(&mut gate, numbers[0], 7_200_000, 2)]);
    house.says(&["import", "late"]);
    house.says(&["close-day", "2026-11-23", "--late"]);
    assert_eq!(house.json(&["report", "2026-11-23"])["batches"].as_array().unwrap().len(), 2);
    (house, gateway)
}

impl House {
    /// The charges of a batch of the day, by a layout.
    fn charges(&self, rank: &str, out: &str) -> Vec<u8> {
        let args = ["file", "charges", "2026-11-23", "--rank", rank, "--layout", "net.toml", "--out", out];
        self.says(&args);
        std::fs::read(self.path(out)).unwrap()
    }
}

#[test]
fn what_is_written_by_a_layout_is_read_back_by_it_and_everything_is_matched() {
    let (house, gateway) = closed();
    let first = house.charges("0", "net-0.txt");
    let late = house.charges("1", "net-1.txt");
    assert_eq!((first.split(|b| *b == b'\n').count(), late.split(|b| *b == b'\n').count()), (5, 4));
    assert_eq!(mode_of(&house.path("net-0.txt")), 0o600);
    let network =
        |file: &str| house.json(&["reconcile", "2026-11-23", "--network", file, "--layout", "net.toml"]);
    let stands = network("net-0.txt");
    assert_eq!((&stands["lines"]["matched"], &stands["lines"]["missing_theirs"]), (&2.into(), &1.into()));
    let stands = network("net-1.txt");
    let expected = serde_json::json!({
        "matched": 3, "amount_diff": 0, "missing_ours": 0, "missing_theirs": 0, "duplicate": 0, "cutoff_slip": 0,
    });
    assert_eq!(stands["lines"], expected);
    assert_eq!((&stands["suspense_fen"], &stands["balanced"]), (&0.into(), &true.into()));
    assert_eq!(stands["ours_fen"], house.json(&["report", "2026-11-23"])["charged_fen"]);
    assert!(stands["ours_fen"].as_i64().unwrap() > 0);

    // Over HTTP, and by a command that takes the folder itself, the bytes are the same.
    let running = Running::read(house.dir.path()).unwrap();
    let token = std::fs::read_to_string(house.path("admin-token")).unwrap();
    let mut answer = ureq::post(format!("http://{}/v1/days/2026-11-23/files/charges", running.http))
        .header("authorization", format!("Bearer {}", token.trim()))
        .header("content-type", "application/json")
        .send(serde_json::json!({ "layout": LAYOUT, "rank": 1 }).to_string())
        .unwrap();
    assert_eq!(answer.body_mut().read_to_vec().unwrap(), late);
    assert!(gateway.end());
    assert_eq!(house.charges("0", "again.txt"), first);
}

#[test]
fn a_layout_by_which_nothing_can_be_written_is_named_and_no_file_is_left() {
    let (house, _gateway) = closed();
    let layout = |from: &str, to: &str| {
        assert!(LAYOUT.contains(from), "{from}");
        std::fs::write(house.path("other.toml"), LAYOUT.replacen(from, to, 1)).unwrap();
    };
    let args = ["file", "charges", "2026-11-23", "--layout", "other.toml", "--out", "net.txt"];
    let narrow = "start = 45, width = 3, kind = \"amount\", signed = true },\n    \
                  { name = \"filler\", start = 48, width = 9, kind = \"constant\", value = \"\" }";
    for (from, to, told) in [
        (
            "start = 45, width = 12, kind = \"amount\", signed = true }",
            narrow,
            "record 2, amount: is longer than 2",
        ),
        ("{ name = \"charge\"", "{ name = \"name\"", "the layout: there is no detail with a text `charge`"),
        (
            "\"part\"",
            "\"station\"",
            "the layout: record `charge`, field `station`: has a name and kind for which",
        ),
        ("format = 1", "format = 2", "the layout: format is not 1"),
    ] {
        layout(from, to);
        let said = house.refuses(&args);
        assert!(said.contains(told), "{said}\n{told}");
        assert!(!house.path("net.txt").exists(), "{told}");
    }
    assert!(
        house
            .refuses(&["file", "charges", "2026-11-23", "--layout", "none.toml", "--out", "net.txt"])
            .contains("none.toml: ")
    );
}
