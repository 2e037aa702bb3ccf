//! The tariff file: read, checked, and compiled into a table of fares.
//!
//! A tariff is data (TOML). Everything that a city may decide otherwise is in it: distances and steps of the fare, what
//! an incomplete journey costs, how long a journey may last. A file that breaks a rule is refused with the fault's name, the
//! file and, where one line is to blame, the line. Several tariffs, each from a date, make [`Tariffs`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use serde::Deserialize;
use toml::Spanned;

use crate::day::{DayClock, ServiceDay};
use crate::fen::{Fen, Overflow};
use crate::network::{Graph, MAX_LINES, MAX_SEGMENT_M, MAX_STATIONS, StationId};

/// The largest tariff file that is read: 2,000 stations need less than a tenth.
pub const MAX_FILE_BYTES: usize = 4 << 20;
/// The dearest fare a tariff may set, in fen. With it no day's sum comes near 64 bits.
pub const MAX_FARE_FEN: i64 = 100_000_000;
/// The longest journey a tariff may allow: one day, so that a day's journeys end within the next.
pub const MAX_JOURNEY_MINUTES: u32 = 24 * 60;
/// The longest passback window: an hour.
pub const MAX_PASSBACK_SECONDS: u32 = 3_600;

/// What is wrong with a tariff.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Fault {
    /// The file is longer than [`MAX_FILE_BYTES`].
    #[error("the file has {0} bytes; the limit is {MAX_FILE_BYTES}")]
    TooLong(usize),
    /// Not TOML, a field missing, misspelt or of the wrong type.
    #[error("{0}")]
    Syntax(String),
    /// Not a time zone of the IANA database.
    #[error("`{0}` is not a time zone of the IANA database")]
    TimeZone(String),
    /// Not a local time of day.
    #[error("`{0}` is not a time of day like 04:00")]
    DayStart(String),
    /// Only CNY, whose hundredth part is the fen, is supported.
    #[error("currency `{0}`: only CNY is supported")]
    Currency(String),
    /// A number outside what its field allows.
    #[error("{field} is {value}; it must lie between {least} and {most}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// What the file says.
        value: i64,
        /// The least it may be.
        least: i64,
        /// The most it may be.
        most: i64,
    },
    /// The bands of the distance fare do not rise, or only the last may lack `to_m`.
    #[error("band {0} of the distance fare: `to_m` must rise, and only the last band has none")]
    Bands(usize),
    /// Two stations with one code.
    #[error("station `{0}` is there twice")]
    DuplicateStation(StationId),
    /// Two lines with one code.
    #[error("line `{0}` is there twice")]
    DuplicateLine(String),
    /// A line or transfer names a station that is not in the list.
    #[error("there is no station `{0}`")]
    UnknownStation(StationId),
    /// A transfer names a line that is not in the list, or that does not call at the station.
    #[error("line `{line}` does not call at station `{station}`")]
    NotOnLine {
        /// The line.
        line: String,
        /// The station.
        station: StationId,
    },
    /// A line calls twice at one station in a row, or a transfer joins a line to itself.
    #[error("`{0}` is joined to itself")]
    Loop(String),
    /// A line needs two stations, and one distance less than stations.
    #[error(
        "line `{line}` has {stations} stations and {segments} distances; it needs at least 2, and one distance less"
    )]
    Segments {
        /// The line.
        line: String,
        /// Its stations.
        stations: usize,
        /// Its distances.
        segments: usize,
    },
    /// No way leads from one station to the other: no fare could be told.
    #[error("no way leads from station `{0}` to station `{1}`")]
    NotConnected(StationId, StationId),
    /// A fare would be above the maximum fare, so that forgetting to tap out would pay.
    #[error("the fare from `{from}` to `{to}` is {fare_fen} fen, above maximum_fare_fen {maximum_fen}")]
    AboveMaximum {
        /// From.
        from: StationId,
        /// To.
        to: StationId,
        /// Its fare.
        fare_fen: i64,
        /// The maximum.
        maximum_fen: i64,
    },
    /// Two tariffs begin on one day.
    #[error("two tariffs are effective from {0}")]
    DuplicateDate(ServiceDay),
    /// All versions of a city's tariff share the time zone and the start of the day, or days would gap or overlap.
    #[error("version {0} has another time zone or start of the service day than the version before")]
    OtherDay(String),
    /// There is no tariff at all.
    #[error("there is no tariff")]
    None,
}

/// A fault and where it is.
#[derive(Debug, Clone, PartialEq)]
pub struct TariffError {
    /// The file's name as it was given.
    pub file: String,
    /// The line, from 1, where one is to blame.
    pub line: Option<usize>,
    /// What is wrong.
    pub fault: Fault,
}

impl std::fmt::Display for TariffError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.fault),
            None => write!(f, "{}: {}", self.file, self.fault),
        }
    }
}

impl std::error::Error for TariffError {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: String,
    effective_from: Spanned<ServiceDay>,
    time_zone: Spanned<String>,
    service_day_start: Spanned<String>,
    currency: Spanned<String>,
    maximum_fare_fen: Spanned<i64>,
    single_fare_fen: Spanned<i64>,
    maximum_journey_minutes: Spanned<u32>,
    passback_seconds: Spanned<u32>,
    same_station: SameStationFile,
    distance_fare: DistanceFile,
    station: Vec<StationFile>,
    line: Vec<LineFile>,
    #[serde(default)]
    transfer: Vec<TransferFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SameStationFile {
    free_minutes: Spanned<u32>,
    cheapest_minutes: Spanned<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DistanceFile {
    base_fen: Spanned<i64>,
    base_to_m: Spanned<u32>,
    band: Vec<Spanned<BandFile>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BandFile {
    to_m: Option<u32>,
    every_m: u32,
    add_fen: i64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StationFile {
    code: Spanned<StationId>,
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LineFile {
    code: Spanned<String>,
    name: String,
    stations: Vec<Spanned<StationId>>,
    segments_m: Vec<Spanned<u32>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TransferFile {
    station: Spanned<StationId>,
    lines: [Spanned<String>; 2],
    walk_m: Spanned<u32>,
}

/// A station as riders know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Station {
    /// Its code, as gates and taps name it.
    pub code: StationId,
    /// Its name.
    pub name: String,
}

/// A line: its stations in order, and the metres from each to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its code.
    pub code: String,
    /// Its name.
    pub name: String,
    /// The stations it calls at, in order.
    pub stations: Vec<StationId>,
    /// Metres from each station to the next: one less than stations.
    pub segments_m: Vec<u32>,
}

/// A part of the distance fare: beyond the band before, each `every_m` metres begun add `add_fen`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Band {
    /// Where the band ends, in metres; the last has no end.
    pub to_m: u32,
    /// The step, in metres.
    pub every_m: u32,
    /// What each step begun adds, in fen.
    pub add_fen: i64,
}

/// The fare by distance, in steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DistanceFare {
    /// The fare up to `base_to_m`.
    pub base_fen: i64,
    /// How far it takes a rider, in metres.
    pub base_to_m: u32,
    /// What comes beyond.
    pub bands: Vec<Band>,
}

impl DistanceFare {
    /// The fare for a distance in metres. A distance on a boundary still belongs to the cheaper side.
    pub fn fare(&self, metres: u32) -> Result<Fen, Overflow> {
        let mut fare = Fen(self.base_fen);
        let mut from = self.base_to_m;
        for band in &self.bands {
            if metres <= from {
                break;
            }
            let steps = (metres.min(band.to_m) - from).div_ceil(band.every_m);
            fare = fare.plus(Fen(band.add_fen).times(i64::from(steps))?)?;
            from = band.to_m;
        }
        Ok(fare)
    }
}

/// What leaving by the station of entry costs, by the time since entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SameStation {
    /// Up to this long after entry: nothing.
    pub free_ms: i64,
    /// Then, up to this long: the cheapest fare. Beyond it: the maximum fare.
    pub cheapest_ms: i64,
}

/// One version of a city's tariff: checked, not yet compiled.
#[derive(Debug, Clone, PartialEq)]
pub struct Tariff {
    /// The operator's name for the version.
    pub version: String,
    /// The first service day it prices.
    pub effective_from: ServiceDay,
    /// The operator's time zone and the start of the service day.
    pub clock: DayClock,
    /// What an incomplete journey costs, and the most that any journey may.
    pub maximum_fare: Fen,
    /// A `single` tap's flat fare.
    pub single_fare: Fen,
    /// An exit later than this after its entry is none of its journey, in milliseconds.
    pub maximum_journey_ms: i64,
    /// The same station again within this is the same tap, in milliseconds.
    pub passback_ms: i64,
    /// Leaving where one entered.
    pub same_station: SameStation,
    /// The fare by distance.
    pub distance_fare: DistanceFare,
    /// The stations, in the file's order.
    pub stations: Vec<Station>,
    /// The lines, in the file's order.
    pub lines: Vec<Line>,
    /// Metres of the shortest way from each station to each, row by row in the order of `stations`.
    distances_m: Vec<u32>,
}

/// Gathers what the checks need: the file's name and text, to turn a place in it into a line.
struct Checks<'a> {
    file: &'a str,
    text: &'a str,
}

impl Checks<'_> {
    fn error(&self, span: Option<Range<usize>>, fault: Fault) -> TariffError {
        let line = span.map(|s| self.text.bytes().take(s.start).filter(|&b| b == b'\n').count() + 1);
        TariffError { file: self.file.to_owned(), line, fault }
    }

    fn range<T: Copy + Into<i64>>(
        &self,
        field: &'static str,
        value: &Spanned<T>,
        allowed: std::ops::RangeInclusive<i64>,
    ) -> Result<T, TariffError> {
        let number: i64 = (*value.get_ref()).into();
        if allowed.contains(&number) {
            return Ok(*value.get_ref());
        }
        let (least, most) = (*allowed.start(), *allowed.end());
        Err(self.error(Some(value.span()), Fault::OutOfRange { field, value: number, least, most }))
    }
}

impl Tariff {
    /// Reads and checks a tariff file's text; `file` is the name that faults are told with.
    pub fn parse(file: &str, text: &str) -> Result<Self, TariffError> {
        let checks = Checks { file, text };
        if text.len() > MAX_FILE_BYTES {
            return Err(checks.error(None, Fault::TooLong(text.len())));
        }
        let raw: File = toml::from_str(text)
            .map_err(|e| checks.error(e.span(), Fault::Syntax(e.message().to_owned())))?;
        let clock = read_clock(&checks, &raw)?;
        if raw.currency.get_ref() != "CNY" {
            let fault = Fault::Currency(raw.currency.get_ref().clone());
            return Err(checks.error(Some(raw.currency.span()), fault));
        }
        let money = 0..=MAX_FARE_FEN;
        let maximum_fare = Fen(checks.range("maximum_fare_fen", &raw.maximum_fare_fen, money.clone())?);
        let single_fare = Fen(checks.range("single_fare_fen", &raw.single_fare_fen, 0..=maximum_fare.0)?);
        let minutes = 1..=i64::from(MAX_JOURNEY_MINUTES);
        let journey = checks.range("maximum_journey_minutes", &raw.maximum_journey_minutes, minutes)?;
        let passback =
            checks.range("passback_seconds", &raw.passback_seconds, 0..=i64::from(MAX_PASSBACK_SECONDS))?;
        let cheapest =
            checks.range("cheapest_minutes", &raw.same_station.cheapest_minutes, 0..=i64::from(journey))?;
        let free = checks.range("free_minutes", &raw.same_station.free_minutes, 0..=i64::from(cheapest))?;
        let distance_fare = read_distance_fare(&checks, &raw.distance_fare)?;
        let (stations, lines, distances_m) = read_network(&checks, &raw)?;
        let tariff = Self {
            version: raw.version,
            effective_from: *raw.effective_from.get_ref(),
            clock,
            maximum_fare,
            single_fare,
            maximum_journey_ms: i64::from(journey) * 60_000,
            passback_ms: i64::from(passback) * 1_000,
            same_station: SameStation {
                free_ms: i64::from(free) * 60_000,
                cheapest_ms: i64::from(cheapest) * 60_000,
            },
            distance_fare,
            stations,
            lines,
            distances_m,
        };
        tariff.check_fares(&checks, &raw.maximum_fare_fen)?;
        Ok(tariff)
    }

    /// No fare may be above the maximum, or forgetting to tap out would pay.
    fn check_fares(&self, checks: &Checks<'_>, maximum: &Spanned<i64>) -> Result<(), TariffError> {
        let Some((pair, &metres)) = self.distances_m.iter().enumerate().max_by_key(|&(_, metres)| metres)
        else {
            return Ok(());
        };
        // Steps only add, so the longest way is the dearest.
        let fare_fen = self.distance_fare.fare(metres).map_or(i64::MAX, |fare| fare.0);
        if fare_fen <= self.maximum_fare.0 {
            return Ok(());
        }
        let n = self.stations.len();
        let fault = Fault::AboveMaximum {
            from: self.stations[pair / n].code.clone(),
            to: self.stations[pair % n].code.clone(),
            fare_fen,
            maximum_fen: self.maximum_fare.0,
        };
        Err(checks.error(Some(maximum.span()), fault))
    }

    /// Metres of the shortest way between two stations; `None` for a code that is not in the network.
    pub fn distance_m(&self, from: &str, to: &str) -> Option<u32> {
        let index = |code: &str| self.stations.iter().position(|s| s.code.as_str() == code);
        Some(self.distances_m[index(from)? * self.stations.len() + index(to)?])
    }

    /// This tariff alone, compiled.
    pub fn compile(self) -> Result<Tariffs, TariffError> {
        Tariffs::new(vec![self])
    }
}

fn read_clock(checks: &Checks<'_>, raw: &File) -> Result<DayClock, TariffError> {
    let zone_name = raw.time_zone.get_ref();
    let zone = TimeZone::get(zone_name).map_err(|_| {
        checks.error(Some(raw.time_zone.span()), Fault::TimeZone(zone_name.chars().take(60).collect()))
    })?;
    let start = raw.service_day_start.get_ref();
    let time = (start.len() == 5).then(|| start.parse::<Time>().ok()).flatten().ok_or_else(|| {
        let fault = Fault::DayStart(start.chars().take(40).collect());
        checks.error(Some(raw.service_day_start.span()), fault)
    })?;
    Ok(DayClock::new(zone, time))
}

fn read_distance_fare(checks: &Checks<'_>, raw: &DistanceFile) -> Result<DistanceFare, TariffError> {
    let base_fen = checks.range("base_fen", &raw.base_fen, 0..=MAX_FARE_FEN)?;
    let base_to_m = checks.range("base_to_m", &raw.base_to_m, 0..=i64::from(u32::MAX))?;
    let mut bands = Vec::with_capacity(raw.band.len());
    let mut from = base_to_m;
    for (i, spanned) in raw.band.iter().enumerate() {
        let band = spanned.get_ref();
        let last = i + 1 == raw.band.len();
        if last != band.to_m.is_none() || band.to_m.is_some_and(|to| to <= from) {
            return Err(checks.error(Some(spanned.span()), Fault::Bands(i + 1)));
        }
        let place = |value: i64| Spanned::new(spanned.span(), value);
        checks.range("every_m", &place(i64::from(band.every_m)), 1..=i64::from(u32::MAX))?;
        checks.range("add_fen", &place(band.add_fen), 0..=MAX_FARE_FEN)?;
        from = band.to_m.unwrap_or(u32::MAX);
        bands.push(Band { to_m: from, every_m: band.every_m, add_fen: band.add_fen });
    }
    Ok(DistanceFare { base_fen, base_to_m, bands })
}

type Network = (Vec<Station>, Vec<Line>, Vec<u32>);

/// Checks stations, lines and transfers, and computes the shortest way between every two stations.
fn read_network(checks: &Checks<'_>, raw: &File) -> Result<Network, TariffError> {
    let place = raw.station.first().map(|s| s.code.span());
    let count = Spanned::new(place.unwrap_or(0..0), raw.station.len() as i64);
    checks.range("number of stations", &count, 2..=MAX_STATIONS as i64)?;
    let place = raw.line.first().map(|l| l.code.span());
    checks.range(
        "number of lines",
        &Spanned::new(place.unwrap_or(0..0), raw.line.len() as i64),
        1..=MAX_LINES as i64,
    )?;

    let mut index = BTreeMap::new();
    for (i, station) in raw.station.iter().enumerate() {
        if index.insert(station.code.get_ref().as_str(), i).is_some() {
            let fault = Fault::DuplicateStation(station.code.get_ref().clone());
            return Err(checks.error(Some(station.code.span()), fault));
        }
    }
    let station_index = |code: &Spanned<StationId>| {
        index
            .get(code.get_ref().as_str())
            .copied()
            .ok_or_else(|| checks.error(Some(code.span()), Fault::UnknownStation(code.get_ref().clone())))
    };

    let mut graph = Graph::default();
    // The platform of a line at a station.
    let mut platforms: BTreeMap<(&str, usize), usize> = BTreeMap::new();
    let mut lines = Vec::with_capacity(raw.line.len());
    let mut line_codes = BTreeSet::new();
    for line in &raw.line {
        let code = line.code.get_ref();
        let at_line = |fault| checks.error(Some(line.code.span()), fault);
        if !line_codes.insert(code) {
            return Err(at_line(Fault::DuplicateLine(code.clone())));
        }
        let (stations, segments) = (line.stations.len(), line.segments_m.len());
        if stations < 2 || segments + 1 != stations {
            return Err(at_line(Fault::Segments { line: code.clone(), stations, segments }));
        }
        let mut stops = Vec::with_capacity(stations);
        for station in &line.stations {
            let at = station_index(station)?;
            // A line that calls twice at a station (a ring closing) has one platform there.
            stops.push(*platforms.entry((code, at)).or_insert_with(|| graph.platform(at)));
        }
        for (pair, segment) in stops.windows(2).zip(&line.segments_m) {
            if pair[0] == pair[1] {
                return Err(checks.error(Some(segment.span()), Fault::Loop(code.clone())));
            }
            let metres = checks.range("segments_m", segment, 1..=i64::from(MAX_SEGMENT_M))?;
            graph.join(pair[0], pair[1], metres);
        }
        lines.push(Line {
            code: code.clone(),
            name: line.name.clone(),
            stations: line.stations.iter().map(|s| s.get_ref().clone()).collect(),
            segments_m: line.segments_m.iter().map(|s| *s.get_ref()).collect(),
        });
    }
    for transfer in &raw.transfer {
        let at = station_index(&transfer.station)?;
        let platform = |line: &Spanned<String>| {
            platforms.get(&(line.get_ref().as_str(), at)).copied().ok_or_else(|| {
                let (line_code, station) = (line.get_ref().clone(), transfer.station.get_ref().clone());
                checks.error(Some(line.span()), Fault::NotOnLine { line: line_code, station })
            })
        };
        let (a, b) = (platform(&transfer.lines[0])?, platform(&transfer.lines[1])?);
        if a == b {
            let fault = Fault::Loop(transfer.lines[0].get_ref().clone());
            return Err(checks.error(Some(transfer.lines[1].span()), fault));
        }
        graph.join(a, b, checks.range("walk_m", &transfer.walk_m, 0..=10_000)?);
    }

    let n = raw.station.len();
    let mut distances_m = Vec::with_capacity(n * n);
    for from in 0..n {
        for (to, metres) in graph.distances(from, n).into_iter().enumerate() {
            let Some(metres) = metres else {
                let code = |i: usize| raw.station[i].code.get_ref().clone();
                let fault = Fault::NotConnected(code(from), code(to));
                return Err(checks.error(Some(raw.station[to].code.span()), fault));
            };
            distances_m.push(metres);
        }
    }
    let stations =
        raw.station.iter().map(|s| Station { code: s.code.get_ref().clone(), name: s.name.clone() });
    Ok((stations.collect(), lines, distances_m))
}

/// A station's place in the tables of [`Tariffs`]: what taps carry instead of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StationIndex(pub(crate) u16);

/// One tariff, ready for pricing: fares of all pairs of stations in one table.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) effective_from: ServiceDay,
    pub(crate) maximum_fare: Fen,
    pub(crate) cheapest_fare: Fen,
    pub(crate) single_fare: Fen,
    pub(crate) maximum_journey_ms: i64,
    pub(crate) passback_ms: i64,
    pub(crate) same_station: SameStation,
    /// Row by row over all stations of all versions, in fen; negative where this version lacks a station.
    fares: Vec<i32>,
    stations: usize,
}

/// A fare that a version does not know, because it lacks one of the stations.
const NO_FARE: i32 = -1;

impl Compiled {
    /// The fare between two stations, `None` where this version lacks one of them.
    pub(crate) fn fare(&self, from: StationIndex, to: StationIndex) -> Option<Fen> {
        let fare = self.fares[usize::from(from.0) * self.stations + usize::from(to.0)];
        (fare != NO_FARE).then(|| Fen(i64::from(fare)))
    }

    /// True if this version has the station.
    pub(crate) fn has(&self, station: StationIndex) -> bool {
        self.fare(station, station).is_some()
    }
}

/// A city's tariffs by date, compiled. The first also prices what came before it, so that no tap is ever without a tariff.
#[derive(Debug)]
pub struct Tariffs {
    clock: DayClock,
    /// Every station of every version, by code.
    stations: Vec<StationId>,
    by_code: BTreeMap<StationId, StationIndex>,
    /// By date, the earliest first; never empty.
    versions: Vec<Compiled>,
    reach_ms: i64,
    maximum_journey_ms: i64,
}

impl Tariffs {
    /// Compiles versions, given in any order.
    pub fn new(mut versions: Vec<Tariff>) -> Result<Self, TariffError> {
        versions.sort_by_key(|t| t.effective_from);
        let error = |version: &str, fault| TariffError { file: version.to_owned(), line: None, fault };
        let Some(first) = versions.first() else { return Err(error("tariffs", Fault::None)) };
        let clock = first.clock.clone();
        for pair in versions.windows(2) {
            if pair[0].effective_from == pair[1].effective_from {
                return Err(error(&pair[1].version, Fault::DuplicateDate(pair[1].effective_from)));
            }
            if pair[1].clock != clock {
                return Err(error(&pair[1].version, Fault::OtherDay(pair[1].version.clone())));
            }
        }
        let codes: BTreeSet<&StationId> =
            versions.iter().flat_map(|t| t.stations.iter().map(|s| &s.code)).collect();
        if codes.len() > MAX_STATIONS {
            let (value, most) = (codes.len() as i64, MAX_STATIONS as i64);
            let fault = Fault::OutOfRange { field: "stations of all versions", value, least: 2, most };
            return Err(error("tariffs", fault));
        }
        let stations: Vec<StationId> = codes.into_iter().cloned().collect();
        // At most MAX_STATIONS, which fits 16 bits.
        let by_code: BTreeMap<_, _> =
            stations.iter().enumerate().map(|(i, code)| (code.clone(), StationIndex(i as u16))).collect();
        let compiled = versions.iter().map(|t| {
            compile(t, &by_code).map_err(|_| error(&t.version, Fault::Syntax(Overflow.to_string())))
        });
        let compiled = compiled.collect::<Result<Vec<_>, _>>()?;
        let maximum_journey_ms = versions.iter().map(|t| t.maximum_journey_ms).max().unwrap_or(0);
        let reach_ms = versions.iter().map(|t| t.passback_ms).max().unwrap_or(0).max(maximum_journey_ms);
        Ok(Self { clock, stations, by_code, versions: compiled, reach_ms, maximum_journey_ms })
    }

    /// The operator's days.
    pub const fn clock(&self) -> &DayClock {
        &self.clock
    }

    /// The index that taps carry for a station's code; `None` for a station that no version has.
    pub fn station(&self, code: &str) -> Option<StationIndex> {
        self.by_code.get(code).copied()
    }

    /// The code of a station.
    pub fn code(&self, station: StationIndex) -> &StationId {
        &self.stations[usize::from(station.0)]
    }

    /// The first day that any version prices; taps before it have no tariff.
    pub fn first_day(&self) -> Option<ServiceDay> {
        self.versions.first().map(|version| version.effective_from)
    }

    /// Every station of every version, by code.
    pub fn stations(&self) -> &[StationId] {
        &self.stations
    }

    /// How far a tap's effect reaches, in milliseconds: no pairing joins taps further apart. To price a day, hand in
    /// the taps from so much before its start to so much after its end.
    pub const fn reach_ms(&self) -> i64 {
        self.reach_ms
    }

    /// The longest journey of any version: a day closes only so long after its end.
    pub const fn maximum_journey_ms(&self) -> i64 {
        self.maximum_journey_ms
    }

    /// The version in force on a day.
    pub(crate) fn on(&self, day: ServiceDay) -> &Compiled {
        let after = self.versions.partition_point(|v| v.effective_from <= day);
        &self.versions[after.saturating_sub(1)]
    }
}

fn compile(tariff: &Tariff, by_code: &BTreeMap<StationId, StationIndex>) -> Result<Compiled, Overflow> {
    let n = by_code.len();
    let mut fares = vec![NO_FARE; n * n];
    let own: Vec<usize> = tariff.stations.iter().map(|s| usize::from(by_code[&s.code].0)).collect();
    for (from, row) in own.iter().zip(tariff.distances_m.chunks(own.len())) {
        for (to, &metres) in own.iter().zip(row) {
            // No fare is above the maximum, and that fits 32 bits (MAX_FARE_FEN).
            fares[from * n + to] = tariff.distance_fare.fare(metres)?.0 as i32;
        }
    }
    Ok(Compiled {
        effective_from: tariff.effective_from,
        maximum_fare: tariff.maximum_fare,
        cheapest_fare: tariff.distance_fare.fare(0)?,
        single_fare: tariff.single_fare,
        maximum_journey_ms: tariff.maximum_journey_ms,
        passback_ms: tariff.passback_ms,
        same_station: tariff.same_station,
        fares,
        stations: n,
    })
}
