//! Prices lines of taps: how an operator tries a tariff before publishing it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::day::ServiceDay;
use crate::emergency::Periods;
use crate::fen::{Fen, Overflow};
use crate::price::{
    Adjustment, Journey, Kind, Passage, Place, PriceError, Priced, Tap, TapId, Window, price,
};
use crate::tariff::{Category, Tariff, TariffError, Tariffs};

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
    /// A sum of many tokens is beyond 64 bits.
    #[error(transparent)]
    Overflow(#[from] Overflow),
}

/// A file's name, as faults are told with it, and its text.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    /// The name.
    pub file: &'a str,
    /// The text.
    pub text: &'a str,
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
    #[serde(default, borrow)]
    category: Option<std::borrow::Cow<'a, str>>,
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
    /// Why they are charged less than their nominal fares.
    pub adjustments: Vec<PricedAdjustment>,
    /// What the day costs: the sum of what its journeys are charged.
    pub charge_fen: Fen,
    /// What of it each operator gets, where the tariff names operators.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<PricedShare>,
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
    /// What is charged after adjustments.
    pub charged_fen: Fen,
    /// How it came out.
    pub status: &'static str,
}

/// An adjustment, as `price --json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PricedAdjustment {
    /// What for.
    pub kind: &'static str,
    /// How much; negative: in the rider's favour.
    pub fen: Fen,
}

/// An operator's share, as `price --json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PricedShare {
    /// The operator's code.
    pub operator: String,
    /// How much.
    pub fen: Fen,
}

/// Prices the lines of `taps` by a city's tariffs, each from its date. Days come by token, then by date.
pub fn price_file(tariffs: &[Text<'_>], taps: Text<'_>) -> Result<Vec<PricedDay>, PriceFileError> {
    let versions = tariffs.iter().map(|text| Tariff::parse(text.file, text.text));
    let tariffs = Tariffs::new(versions.collect::<Result<_, _>>()?)?;
    let mut days = Vec::new();
    for (token, rider) in read_taps(&tariffs, taps)? {
        let priced = price_rider(&tariffs, &token, rider)?;
        for day in &priced.days {
            let journeys = &priced.journeys[day.journeys.clone()];
            days.push(PricedDay {
                token: token.clone(),
                service_day: day.day,
                journeys: journeys.iter().map(|j| journey(&tariffs, j)).collect(),
                adjustments: day.adjustments.iter().map(adjustment).collect(),
                charge_fen: day.charge,
                shares: shares(&tariffs, journeys)?,
            });
        }
    }
    Ok(days)
}

/// A token's taps and its rider's category.
pub(crate) struct Rider {
    category: Option<String>,
    taps: Vec<Tap>,
}

/// Prices every day of one token's taps.
pub(crate) fn price_rider(
    tariffs: &Tariffs,
    token: &str,
    mut rider: Rider,
) -> Result<Priced, PriceFileError> {
    let fail = |error| PriceFileError::Price { token: token.to_owned(), error };
    let day_of = |time_ms| tariffs.clock().day_of(time_ms).map_err(|e| fail(e.into()));
    let times = || rider.taps.iter().map(|tap| tap.time_ms);
    let (Some(first), Some(last)) = (times().min(), times().max()) else { return Ok(Priced::default()) };
    let window = Window {
        days: day_of(first)?..=day_of(last)?,
        taps: &mut rider.taps,
        corrections: &[],
        category: rider.category.and_then(|name| tariffs.category(&name)).unwrap_or(Category::STANDARD),
        emergencies: &Periods::NONE,
    };
    price(tariffs, window).map_err(fail)
}

/// Reads lines of taps, by token.
pub(crate) fn read_taps(
    tariffs: &Tariffs,
    taps: Text<'_>,
) -> Result<BTreeMap<String, Rider>, PriceFileError> {
    let mut riders: BTreeMap<String, Rider> = BTreeMap::new();
    for (number, text) in (1..).zip(taps.text.lines()) {
        let fault = |fault: String| PriceFileError::Tap { file: taps.file.to_owned(), line: number, fault };
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
        let tap = read_tap(tariffs, number, &line).map_err(fault)?;
        let new = || Rider { category: None, taps: Vec::new() };
        let rider = riders.entry(line.token.into_owned()).or_insert_with(new);
        if let Some(category) = line.category {
            if rider.category.as_ref().is_some_and(|known| *known != category) {
                return Err(fault(format!(
                    "the token has another category than `{category}` on an earlier line"
                )));
            }
            rider.category = Some(category.into_owned());
        }
        rider.taps.push(tap);
    }
    Ok(riders)
}

fn read_tap(tariffs: &Tariffs, number: usize, line: &Line<'_>) -> Result<Tap, String> {
    if line.token.is_empty() {
        return Err("`token` is empty".into());
    }
    let time_ms = line.time.as_millisecond();
    let day = tariffs.clock().day_of(time_ms).map_err(|e| e.to_string())?;
    if let Some(first) = tariffs.first_day().filter(|first| day < *first) {
        return Err(format!("service day {day} is before the tariff is in force, from {first} on"));
    }
    let station = tariffs
        .station(&line.station)
        .ok_or_else(|| format!("the tariff has no station `{}`", line.station))?;
    if let Some(category) = &line.category
        && tariffs.category(category).is_none()
    {
        return Err(format!("the tariff has no category `{category}`"));
    }
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
    Ok(Tap { time_ms, station, kind, id, passage })
}

fn journey(tariffs: &Tariffs, journey: &Journey) -> PricedJourney {
    let code = |place: Option<Place>| place.map(|place| tariffs.code(place.station).as_str().to_owned());
    let time =
        |place: Option<Place>| place.and_then(|place| place.time_ms).map(|ms| tariffs.clock().rfc3339(ms));
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

fn adjustment(adjustment: &Adjustment) -> PricedAdjustment {
    PricedAdjustment { kind: adjustment.kind.as_str(), fen: adjustment.fen }
}

fn shares(tariffs: &Tariffs, journeys: &[Journey]) -> Result<Vec<PricedShare>, Overflow> {
    let mut sums: BTreeMap<&str, Fen> = BTreeMap::new();
    for (operator, fen) in journeys.iter().flat_map(|journey| tariffs.shares(journey)) {
        let sum = sums.entry(operator).or_default();
        *sum = sum.plus(fen)?;
    }
    Ok(sums.into_iter().map(|(operator, fen)| PricedShare { operator: operator.to_owned(), fen }).collect())
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

    fn priced(taps: &str) -> Result<Vec<PricedDay>, PriceFileError> {
        price_file(&[Text { file: "city", text: CITY }], Text { file: "taps.jsonl", text: taps })
    }

    #[test]
    fn a_file_of_taps_is_priced_by_token_and_day() {
        let taps = [
            line("t2", "09:00:00", "HB", "entry"),
            line("t1", "08:31:00", "UN", "exit"),
            String::new(),
            line("t1", "08:01:00", "HB", "entry"),
        ];
        let priced = self::priced(&taps.join("\n")).unwrap();
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
        assert_eq!(self::priced(&reversed.join("\n")).unwrap(), priced);
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
            let error = priced(&text).unwrap_err().to_string();
            assert!(error.starts_with("taps.jsonl:2: "), "{error}");
        }
        let two = [
            line("t", "08:01:00", "HB", "entry").replace("\"kind", "\"category\":\"adult\",\"kind"),
            line("t", "08:02:00", "HB", "entry").replace("\"kind", "\"category\":\"child\",\"kind"),
        ];
        let error = priced(&two.join("\n")).unwrap_err().to_string();
        assert_eq!(error, "taps.jsonl:2: the tariff has no category `child`");
        let bad = Text { file: "city.toml", text: "x" };
        let error = price_file(&[bad], Text { file: "taps", text: "" }).unwrap_err().to_string();
        assert!(error.starts_with("city.toml:1: "), "{error}");
    }
}
