//! Worked examples after published rules: each folder of `examples` has a tariff, taps, what they must cost, and the
//! source.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use wavepass_fares::price_file::{Text, price_file};

fn folders() -> Vec<PathBuf> {
    let all = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/examples")).unwrap();
    let mut folders: Vec<PathBuf> = all.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

fn priced(folder: &Path, reversed: bool) -> Value {
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let (tariff, mut taps) = (read("tariff.toml"), read("taps.jsonl"));
    if reversed {
        taps = taps.lines().rev().flat_map(|line| [line, "\n"]).collect();
    }
    let file = folder.join("tariff.toml").display().to_string();
    let days = price_file(&[Text { file: &file, text: &tariff }], Text { file: "taps.jsonl", text: &taps });
    serde_json::to_value(days.unwrap()).unwrap()
}

/// Tells where `actual` is not what is expected. Objects may hold more than the example speaks of.
fn compare(place: &str, expected: &Value, actual: &Value) {
    match (expected, actual) {
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{place}: {actual:#}");
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{place}[{i}]"), a, b);
            }
        }
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in a {
                compare(&format!("{place}.{key}"), value, b.get(key).unwrap_or(&Value::Null));
            }
        }
        _ => assert_eq!(expected, actual, "{place}"),
    }
}

#[test]
fn each_example_costs_what_its_source_says() {
    let folders = folders();
    assert_eq!(folders.len(), 9);
    for folder in folders {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let expected: Value =
            serde_json::from_str(&fs::read_to_string(folder.join("expected.json")).unwrap()).unwrap();
        compare(&name, &expected, &priced(&folder, false));
        compare(&name, &expected, &priced(&folder, true));
        assert!(
            fs::read_to_string(folder.join("source.md")).unwrap().contains("http"),
            "{name} has no source"
        );
    }
}
