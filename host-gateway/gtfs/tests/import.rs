//! A made-up feed becomes a tariff that prices taps, and what the tariff cannot say is named.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::path::{Path, PathBuf};

use wavepass_fares::price_file::{Text, price_file};
use wavepass_gtfs::{GtfsError, Imported, import};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/feed")
}

fn imported(feed: &Path) -> Result<Imported, GtfsError> {
    import(feed, "t.toml", "2026-01-01".parse().unwrap())
}

/// A copy of the feed with one file otherwise.
fn altered(file: &str, text: Option<&str>) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    std::fs::remove_file(copy.path().join(file)).unwrap();
    if let Some(text) = text {
        std::fs::write(copy.path().join(file), text).unwrap();
    }
    copy
}

#[test]
fn a_feed_prices_journeys_by_areas_networks_riders_and_transfers() {
    let made = imported(&folder()).unwrap();
    assert!(made.faults.is_empty(), "{:?}\n{}", made.faults, made.text);
    // Token, time, station, kind, category.
    let taps = [
        ("centre-outer", "08:00", "HB", "entry", "adult"),
        ("centre-outer", "08:20", "QS", "exit", "adult"),
        ("short", "08:00", "HB", "entry", "student"),
        ("short", "08:25", "HB", "exit", "student"),
        ("transfer", "08:00", "GTFS-6", "entry", "adult"),
        ("transfer", "08:20", "BX", "exit", "adult"),
        ("transfer", "09:50", "HB", "entry", "adult"),
        ("transfer", "10:10", "QS", "exit", "adult"),
        ("transfer", "10:40", "GTFS-6", "entry", "adult"),
        ("transfer", "11:00", "BX", "exit", "adult"),
    ];
    let line = |&(token, time, station, kind, category): &(&str, &str, &str, &str, &str)| {
        format!(
            "{{\"token\":\"{token}\",\"time\":\"2026-11-23T{time}:00+08:00\",\"station\":\"{station}\",\
             \"kind\":\"{kind}\",\"category\":\"{category}\"}}\n"
        )
    };
    let taps: String = taps.iter().map(line).collect();
    let tariff = Text { file: "t.toml", text: &made.text };
    let days = price_file(&[tariff], Text { file: "taps", text: &taps }).unwrap();
    let charged: Vec<(&str, Vec<i64>)> = days
        .iter()
        .map(|day| (day.token.as_str(), day.journeys.iter().map(|journey| journey.charged_fen.0).collect()))
        .collect();
    // Metro 5 yuan between the areas; a student's cheapest 1.50; after a bus a yuan less, and the bus after the metro
    // free.
    let expected = [("centre-outer", vec![500]), ("short", vec![150]), ("transfer", vec![200, 400, 0])];
    assert_eq!(charged, expected);
}

#[test]
fn what_a_tariff_cannot_say_is_named() {
    let notes = imported(&folder()).unwrap().notes.join("\n");
    for part in [
        "timeframes.txt is not taken",
        "rule 5 (product `night`) is not taken: it holds at certain times only",
        "product `short` has several prices",
        "fare_transfer_rules.txt, rule 3 is not taken: type 2",
        "rule 2: its time runs to the next leg's arrival",
        "stop `SH` is in networks bus, metro",
        "stop `DEPOT` is not taken",
        "stop `a-stop-with-a-long-id` has the code GTFS-6",
        "area `centre` is zone 1",
        "what an incomplete journey costs",
    ] {
        assert!(notes.contains(part), "{part}: {notes}");
    }
}

#[test]
fn an_archive_is_read_like_a_folder() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("feed.zip");
    let mut archive = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    for entry in std::fs::read_dir(folder()).unwrap() {
        let entry = entry.unwrap();
        let options = zip::write::SimpleFileOptions::default();
        archive.start_file(entry.file_name().to_str().unwrap(), options).unwrap();
        archive.write_all(&std::fs::read(entry.path()).unwrap()).unwrap();
    }
    archive.finish().unwrap();
    assert_eq!(imported(&path).unwrap(), imported(&folder()).unwrap());
}

#[test]
fn a_feed_without_fares_or_with_bad_ones_is_refused() {
    let none = altered("fare_leg_rules.txt", None);
    assert!(matches!(imported(none.path()), Err(GtfsError::NoFares)));
    let header = "fare_product_id,amount,currency\n";
    for amount in ["1.234", "1,00", "free", ""] {
        let bad = altered("fare_products.txt", Some(&format!("{header}short,\"{amount}\",CNY\n")));
        let refused = imported(bad.path()).unwrap_err().to_string();
        assert!(refused.contains("`short`"), "{refused}");
    }
    let short = altered("fare_leg_rules.txt", Some("network_id\nmetro\n"));
    let refused = imported(short.path()).unwrap_err().to_string();
    assert!(refused.starts_with("fare_leg_rules.txt: ") && refused.contains("line: 2"), "{refused}");
    assert!(matches!(imported(Path::new("/nowhere")), Err(GtfsError::File { .. } | GtfsError::Archive(_))));
}

#[test]
fn what_is_no_tariff_yet_is_told_with_its_faults() {
    // Nothing says what the metro costs between the areas.
    let gap = altered(
        "fare_leg_rules.txt",
        Some(
            "leg_group_id,network_id,from_area_id,to_area_id,fare_product_id\nrail,metro,centre,centre,short\n",
        ),
    );
    let made = imported(gap.path()).unwrap();
    assert!(made.faults.iter().all(|fault| fault.line.is_some()) && !made.faults.is_empty());
}
