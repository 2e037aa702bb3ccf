//! A tariff file that breaks a rule is refused with the fault's name and its line.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use wavepass_fares::{Fault, Tariff, TariffError, Tariffs};

const CITY: &str = include_str!("../../tariffs/wavepass-city.toml");

/// The fault of the city's tariff with one text in the place of another, and the text of the line it names.
fn fault(old: &str, new: &str) -> (Fault, String) {
    assert!(CITY.contains(old), "{old}");
    let text = CITY.replacen(old, new, 1);
    let TariffError { file, line, fault } = Tariff::parse("city.toml", &text).unwrap_err();
    assert_eq!(file, "city.toml");
    let line = line.map(|line| text.lines().nth(line - 1).unwrap().trim().to_owned());
    (fault, line.unwrap_or_default())
}

#[test]
fn the_citys_own_tariff_is_good() {
    let tariff = Tariff::parse("city.toml", CITY).unwrap();
    assert_eq!((tariff.lines.len(), tariff.stations.len()), (3, 24));
    let tariffs = tariff.compile().unwrap();
    assert_eq!(tariffs.reach_ms(), 4 * 3_600_000);
    let harbour = tariffs.station("HB").unwrap();
    assert_eq!(tariffs.code(harbour).as_str(), "HB");
    assert!(tariffs.station("nowhere").is_none());
}

#[test]
fn what_is_not_toml_or_not_a_tariff_is_told_with_its_line() {
    let (f, line) = fault("currency = \"CNY\"", "currency = CNY");
    assert!(matches!(f, Fault::Syntax(_)));
    assert_eq!(line, "currency = CNY");
    let (f, line) = fault("passback_seconds = 20", "pasback_seconds = 20");
    assert!(matches!(f, Fault::Syntax(ref m) if m.contains("pasback_seconds")), "{f}");
    assert_eq!(line, "pasback_seconds = 20");
    let (f, _) = fault("passback_seconds = 20", "");
    assert!(matches!(f, Fault::Syntax(ref m) if m.contains("passback_seconds")), "{f}");
}

#[test]
fn every_fault_has_its_name() {
    let (f, line) = fault("Asia/Shanghai", "Asia/Atlantis");
    assert_eq!(f, Fault::TimeZone("Asia/Atlantis".into()));
    assert_eq!(line, "time_zone = \"Asia/Atlantis\"");
    assert_eq!(fault("04:00", "4 am").0, Fault::DayStart("4 am".into()));
    assert_eq!(fault("\"CNY\"", "\"EUR\"").0, Fault::Currency("EUR".into()));
    let (f, line) = fault("maximum_journey_minutes = 240", "maximum_journey_minutes = 0");
    assert_eq!(f, Fault::OutOfRange { field: "maximum_journey_minutes", value: 0, least: 1, most: 1440 });
    assert_eq!(line, "maximum_journey_minutes = 0");
    let (f, _) = fault("single_fare_fen = 200", "single_fare_fen = 901");
    assert!(matches!(f, Fault::OutOfRange { field: "single_fare_fen", .. }));
    let (f, _) = fault("cheapest_minutes = 30", "cheapest_minutes = 1");
    assert!(matches!(f, Fault::OutOfRange { field: "free_minutes", .. }));
    assert_eq!(fault("to_m = 12_000", "to_m = 4_000").0, Fault::Bands(1));
    assert_eq!(fault("to_m = 12_000, ", "").0, Fault::Bands(1));
    assert!(matches!(fault("every_m = 8_000", "every_m = 0").0, Fault::OutOfRange { field: "every_m", .. }));
    assert!(matches!(fault("code = \"QS\"", "code = \"Q S\"").0, Fault::Syntax(_)));
    let (f, line) = fault("code = \"QS\"", "code = \"HB\"");
    assert!(matches!(f, Fault::DuplicateStation(_)));
    assert_eq!(line, "code = \"HB\"");
    assert_eq!(fault("code = \"2\"", "code = \"1\"").0, Fault::DuplicateLine("1".into()));
    assert!(matches!(fault("\"QS\", \"MG\"", "\"XX\", \"MG\"").0, Fault::UnknownStation(_)));
    assert!(matches!(fault("\"QS\", \"MG\"", "\"QS\", \"QS\"").0, Fault::Loop(_)));
    assert!(matches!(fault("[1400, ", "[").0, Fault::Segments { stations: 10, segments: 8, .. }));
    assert!(matches!(fault("[1400, ", "[0, ").0, Fault::OutOfRange { field: "segments_m", .. }));
    assert!(matches!(fault("lines = [\"1\", \"2\"]", "lines = [\"1\", \"3\"]").0, Fault::NotOnLine { .. }));
    assert!(matches!(fault("lines = [\"1\", \"2\"]", "lines = [\"1\", \"1\"]").0, Fault::Loop(_)));
    let (f, line) = fault("maximum_fare_fen = 900", "maximum_fare_fen = 500");
    assert!(matches!(f, Fault::AboveMaximum { .. }), "{f}");
    assert_eq!(line, "maximum_fare_fen = 500");
    let cut = &CITY[..CITY.find("[[transfer]]").unwrap()];
    assert!(matches!(Tariff::parse("t", cut).unwrap_err().fault, Fault::NotConnected(..)));
    let long = format!("{CITY}{}", "#".repeat(5 << 20));
    assert!(matches!(Tariff::parse("t", &long).unwrap_err().fault, Fault::TooLong(_)));
}

#[test]
fn versions_must_agree_on_the_day_and_differ_in_date() {
    let city = Tariff::parse("t", CITY).unwrap();
    assert_eq!(Tariffs::new(Vec::new()).unwrap_err().fault, Fault::None);
    let twice = Tariffs::new(vec![city.clone(), city.clone()]).unwrap_err();
    assert!(matches!(twice.fault, Fault::DuplicateDate(_)));
    let other = CITY.replace("04:00", "03:00").replace("2026-01-01", "2027-01-01");
    let other = Tariffs::new(vec![city, Tariff::parse("t", &other).unwrap()]).unwrap_err();
    assert!(matches!(other.fault, Fault::OtherDay(_)));
}

#[test]
fn no_text_makes_the_reader_panic() {
    // Every prefix, and every line left out: faults, never a panic.
    for end in (0..CITY.len()).filter(|&i| CITY.is_char_boundary(i)).step_by(7) {
        let _ = Tariff::parse("t", &CITY[..end]);
    }
    let lines: Vec<&str> = CITY.lines().collect();
    for gone in 0..lines.len() {
        let text: String =
            lines.iter().enumerate().filter(|(i, _)| *i != gone).map(|(_, l)| format!("{l}\n")).collect();
        let _ = Tariff::parse("t", &text);
    }
}
