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

const EVERYTHING: &str = include_str!("tariffs/everything.toml");

/// The first fault of the tariff that has every rule, with one text in the place of another, and its line's text.
fn fault_of_all(old: &str, new: &str) -> (Fault, String) {
    assert!(EVERYTHING.contains(old), "{old}");
    let text = EVERYTHING.replacen(old, new, 1);
    let TariffError { line, fault, .. } = Tariff::parse("t", &text).unwrap_err();
    (fault, line.map(|line| text.lines().nth(line - 1).unwrap().trim().to_owned()).unwrap_or_default())
}

#[test]
fn every_fault_of_the_further_rules_has_its_name() {
    let unknown = |what, name: &str| Fault::Unknown { what, name: name.into() };
    let out = |f: &Fault, name: &str| matches!(f, Fault::OutOfRange { field, .. } if *field == name);
    let (f, line) = fault_of_all("network = \"tram\"\nzones = [1]", "network = \"ferry\"\nzones = [1]");
    assert_eq!((f, line.as_str()), (unknown("network", "ferry"), "network = \"ferry\""));
    assert_eq!(fault_of_all("operator = \"west\"", "operator = \"north\"").0, unknown("operator", "north"));
    assert_eq!(
        fault_of_all("category = \"student\"", "category = \"pupil\"").0,
        unknown("category", "pupil")
    );
    assert_eq!(
        fault_of_all("time_band = \"off-peak\"", "time_band = \"peak\"").0,
        unknown("time band", "peak")
    );
    assert_eq!(
        fault_of_all("day_types = [\"weekend\"]", "day_types = [\"fair\"]").0,
        unknown("day type", "fair")
    );
    assert!(matches!(fault_of_all("network = \"bus\"\noperator", "operator").0, Fault::NoNetwork(_)));
    assert!(matches!(
        fault_of_all("name = \"staff\"", "name = \"student\"").0,
        Fault::Duplicate { what: "category", .. }
    ));
    assert!(out(&fault_of_all("zones = [1, 2]", "zones = [1, 64]").0, "zone"));
    assert_eq!(fault_of_all("crossed = 1", "crossed = 1\nto = 1").0, Fault::ZoneFare);
    assert_eq!(fault_of_all("category = \"student\"", "").0, Fault::DuplicateFare);
    assert!(matches!(fault_of_all("to = \"D\"", "to = \"X\"").0, Fault::TwoNetworks(..)));
    let (f, line) = fault_of_all("period = \"week\"", "period = \"week\"\ndays = 3");
    assert_eq!((f, line.as_str()), (Fault::Period, "period = \"week\""));
    let (f, line) = fault_of_all("period = \"week\"", "period = \"week\"\nweek_starts = \"someday\"");
    assert!(matches!(f, Fault::Syntax(ref m) if m.contains("someday") && m.contains("sunday")), "{f}");
    assert_eq!(line, "week_starts = \"someday\"");
    let (f, _) = fault_of_all("days = 3\n", "week_starts = \"sunday\"\ndays = 3\n");
    assert_eq!(f, Fault::Period);
    assert_eq!(fault_of_all("days = 3\n", "").0, Fault::Period);
    assert!(out(&fault_of_all("days = 3\n", "days = 32\n").0, "days"));
    assert_eq!(fault_of_all("take_off_fen = 100", "").0, Fault::TransferOff);
    assert_eq!(
        fault_of_all("percent_off = 100", "percent_off = 100\npay_dearest = true").0,
        Fault::TransferOff
    );
    assert_eq!(fault_of_all("from_fen = 2_500", "from_fen = 1_200").0, Fault::Steps(2));
    assert_eq!(
        fault_of_all("grace_hours = 96\n", "").0,
        Fault::Together("grace_hours", "corrections_per_month")
    );
    assert!(out(
        &fault_of_all("auto_complete_hours = 24", "auto_complete_hours = 97").0,
        "auto_complete_hours"
    ));
    assert!(out(&fault_of_all("percent = 90", "percent = 1_001").0, "percent"));
    assert_eq!(fault_of_all("from = \"20:00\"", "from = \"8 pm\"").0, Fault::DayStart("8 pm".into()));
    let tram = "[[zone_fare]]\nfrom = 1\nto = 2\nfen = 350\nnetwork = \"tram\"\n";
    assert!(matches!(fault_of_all(tram, "").0, Fault::NoFare(..)));
    let (f, line) = fault_of_all("maximum_fare_fen = 700", "maximum_fare_fen = 400");
    assert!(matches!(f, Fault::AboveMaximum { fare_fen: 500, maximum_fen: 400, .. }), "{f}");
    assert_eq!(line, "maximum_fare_fen = 400");
}

#[test]
fn all_faults_are_told_at_once_in_the_order_of_lines() {
    let text = CITY
        .replace("\"CNY\"", "\"EUR\"")
        .replace("free_minutes = 2", "free_minutes = 31")
        .replace("code = \"QS\"", "code = \"HB\"")
        .replace("every_m = 8_000", "every_m = 0");
    let faults = Tariff::check("city.toml", &text).unwrap_err();
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let lines: Vec<usize> = faults.iter().filter_map(|fault| fault.line).collect();
    assert!(lines.is_sorted());
    for part in
        ["currency `EUR`", "free_minutes is 31", "every_m is 0", "`HB` is there twice", "no station `QS`"]
    {
        let found = told.iter().any(|line| line.starts_with("city.toml:") && line.contains(part));
        assert!(found, "{part}: {told:#?}");
    }
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
    for text in [CITY, EVERYTHING] {
        damaged(text);
    }
}

/// Every prefix, and every line left out: faults, never a panic.
fn damaged(whole: &str) {
    for end in (0..whole.len()).filter(|&i| whole.is_char_boundary(i)).step_by(7) {
        let _ = Tariff::parse("t", &whole[..end]);
    }
    let lines: Vec<&str> = whole.lines().collect();
    for gone in 0..lines.len() {
        let text: String =
            lines.iter().enumerate().filter(|(i, _)| *i != gone).map(|(_, l)| format!("{l}\n")).collect();
        let _ = Tariff::parse("t", &text);
    }
}
