//! Prices a file of taps without a database: how an operator tries a tariff before publishing it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wavepass_fares::{
    Fen, Journey, Kind, Passage, Periods, PriceError, ServiceDay, Tap, TapId, Tariff, TariffError, Tariffs,
    Window, price,
};

/// The most lines a file may have: what a desk prices at once in memory.
const MAX_LINES: usize = 10_000_000;
/// The longest line.
const MAX_LINE_BYTES: usize = 4_096;

/// Why the file cannot be priced.
#[derive(Debug, thiserror::Error)]
pub enum PriceFileError {
    /// The tariff.
    #[error(transparent)]
    Tariff(#[from] TariffError),
    /// A line of the taps.
    #[error("{file}:{line}: {fault}")]
    Tap {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        fault: String,
    },
    /// A token's taps cannot be priced.
    #[error("token `{token}`: {error}")]
    Price {
        /// The token, as the file names it.
        token: String,
        /// Why.
        error: PriceError,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow)]
    token: std::borrow::Cow<'a, str>,
    time: Timestamp,
    #[serde(borrow)]
    station: std::borrow::Cow<'a, str>,
    kind: LineKind,
    #[serde(default)]
    passed: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum LineKind {
    Entry,
    Exit,
    Single,
}

/// A token's day, as `price --json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PricedDay {
    /// The token, as the file names it.
    pub token: String,
    /// The day.
    pub service_day: ServiceDay,
    /// Its journeys.
    pub journeys: Vec<PricedJourney>,
    /// Its adjustments.
    pub adjustments: Vec<PricedAdjustment>,
    /// What it costs.
    pub charge_fen: Fen,
}

/// A journey, as `price --json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PricedJourney {
    /// The station of entry; `null` where it is missing.
    pub from: Option<String>,
    /// The station of exit; `null` where it is missing, and for a single tap.
    pub to: Option<String>,
    /// When it began, in the operator's time.
    pub entered: Option<String>,
    /// When it ended.
    pub left: Option<String>,
    /// The tariff's fare.
    pub nominal_fen: Fen,
    /// What is charged.
    pub charged_fen: Fen,
    /// How it came out.
    pub status: &'static str,
}

/// An adjustment, as `price --json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PricedAdjustment {
    /// What for.
    pub kind: &'static str,
    /// How much.
    pub fen: Fen,
}

/// Prices the lines of `taps_text` by the tariff in `tariff_text`; the names are what faults are told with. Days come
/// by token, then by date.
pub fn price_file(
    tariff_file: &str,
    tariff_text: &str,
    taps_file: &str,
    taps_text: &str,
) -> Result<Vec<PricedDay>, PriceFileError> {
    let tariffs = Tariff::parse(tariff_file, tariff_text)?.compile()?;
    let mut days = Vec::new();
    for (token, mut taps) in read_taps(&tariffs, taps_file, taps_text)? {
        let fail = |error| PriceFileError::Price { token: token.clone(), error };
        let day_of = |time_ms| tariffs.clock().day_of(time_ms).map_err(|e| fail(e.into()));
        let times = || taps.iter().map(|tap| tap.time_ms);
        let (Some(first), Some(last)) = (times().min(), times().max()) else { continue };
        let window = day_of(first)?..=day_of(last)?;
        let priced = price(&tariffs, Window { taps: &mut taps, days: window, emergencies: &Periods::NONE })
            .map_err(fail)?;
        for day in &priced.days {
            let journeys = &priced.journeys[day.journeys.clone()];
            days.push(PricedDay {
                token: token.clone(),
                service_day: day.day,
                journeys: journeys.iter().map(|j| journey(&tariffs, j)).collect(),
                adjustments: day
                    .adjustments
                    .iter()
                    .map(|a| PricedAdjustment { kind: a.kind, fen: a.fen })
                    .collect(),
                charge_fen: day.charge,
            });
        }
    }
    Ok(days)
}

fn read_taps(
    tariffs: &Tariffs,
    file: &str,
    text: &str,
) -> Result<BTreeMap<String, Vec<Tap>>, PriceFileError> {
    let mut tokens: BTreeMap<String, Vec<Tap>> = BTreeMap::new();
    for (number, text) in (1..).zip(text.lines()) {
        let fault = |fault: String| PriceFileError::Tap { file: file.to_owned(), line: number, fault };
        if number > MAX_LINES {
            return Err(fault(format!("more than {MAX_LINES} lines")));
        }
        if text.len() > MAX_LINE_BYTES {
            return Err(fault(format!("longer than {MAX_LINE_BYTES} bytes")));
        }
        if text.trim().is_empty() {
            continue;
        }
        let line: Line<'_> = serde_json::from_str(text).map_err(|e| fault(e.to_string()))?;
        if line.token.is_empty() {
            return Err(fault("`token` is empty".into()));
        }
        let time_ms = line.time.as_millisecond();
        let day = tariffs.clock().day_of(time_ms).map_err(|e| fault(e.to_string()))?;
        if let Some(first) = tariffs.first_day().filter(|first| day < *first) {
            return Err(fault(format!(
                "service day {day} is before the tariff is in force, from {first} on"
            )));
        }
        let station = tariffs
            .station(&line.station)
            .ok_or_else(|| fault(format!("the tariff has no station `{}`", line.station)))?;
        let kind = match line.kind {
            LineKind::Entry => Kind::Entry,
            LineKind::Exit => Kind::Exit,
            LineKind::Single => Kind::Single,
        };
        let passage = match line.passed {
            None => Passage::Unknown,
            Some(true) => Passage::Passed,
            Some(false) => Passage::NotPassed,
        };
        // Taps that agree in all else are interchangeable, so that numbering them by line keeps the order out of it.
        let id = TapId { key: [0; 8], sequence: u32::try_from(number).unwrap_or(u32::MAX) };
        let tap = Tap { time_ms, station, kind, id, passage };
        tokens.entry(line.token.into_owned()).or_default().push(tap);
    }
    Ok(tokens)
}

fn journey(tariffs: &Tariffs, journey: &Journey) -> PricedJourney {
    let code = |place: Option<(wavepass_fares::StationIndex, i64)>| {
        place.map(|(station, _)| tariffs.code(station).as_str().to_owned())
    };
    let time = |place: Option<(_, i64)>| place.map(|(_, ms)| tariffs.clock().rfc3339(ms));
    PricedJourney {
        from: code(journey.entered),
        to: code(journey.left),
        entered: time(journey.entered),
        left: time(journey.left),
        nominal_fen: journey.nominal,
        charged_fen: journey.charged,
        status: journey.status.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CITY: &str = include_str!("../../tariffs/wavepass-city.toml");

    fn line(token: &str, time: &str, station: &str, kind: &str) -> String {
        format!(
            r#"{{"token":"{token}","time":"2026-11-23T{time}+08:00","station":"{station}","kind":"{kind}"}}"#
        )
    }

    #[test]
    fn a_file_of_taps_is_priced_by_token_and_day() {
        let taps = [
            line("t2", "09:00:00", "HB", "entry"),
            line("t1", "08:31:00", "UN", "exit"),
            String::new(),
            line("t1", "08:01:00", "HB", "entry"),
        ];
        let priced = price_file("city", CITY, "taps", &taps.join("\n")).unwrap();
        let json = serde_json::to_value(&priced).unwrap();
        let expected = serde_json::json!([
            {"token": "t1", "service_day": "2026-11-23", "journeys": [{"from": "HB", "to": "UN",
              "entered": "2026-11-23T08:01:00+08:00", "left": "2026-11-23T08:31:00+08:00",
              "nominal_fen": 300, "charged_fen": 300, "status": "complete"}], "adjustments": [], "charge_fen": 300},
            {"token": "t2", "service_day": "2026-11-23", "journeys": [{"from": "HB", "to": null,
              "entered": "2026-11-23T09:00:00+08:00", "left": null,
              "nominal_fen": 900, "charged_fen": 900, "status": "incomplete"}], "adjustments": [], "charge_fen": 900},
        ]);
        assert_eq!(json, expected);
        let reversed: Vec<String> = taps.into_iter().rev().collect();
        assert_eq!(price_file("city", CITY, "taps", &reversed.join("\n")).unwrap(), priced);
    }

    #[test]
    fn a_bad_line_is_told_with_file_and_line() {
        let bad = [
            "{".to_owned(),
            line("t", "08:01:00", "XX", "entry"),
            line("t", "08:01:00", "HB", "enter"),
            line("t", "25:01:00", "HB", "entry"),
            line("t", "08:01:00", "HB", "entry").replace("kind", "kynd"),
            line("", "08:01:00", "HB", "entry"),
            line("t", "08:01:00", "HB", "entry").replace("2026-11-23", "2025-12-31"),
        ];
        for bad in bad {
            let text = format!("{}\n{bad}", line("t", "08:00:00", "HB", "entry"));
            let error = price_file("city", CITY, "taps.jsonl", &text).unwrap_err().to_string();
            assert!(error.starts_with("taps.jsonl:2: "), "{error}");
        }
        assert!(
            price_file("city.toml", "x", "taps", "").unwrap_err().to_string().starts_with("city.toml:1: ")
        );
    }
}
