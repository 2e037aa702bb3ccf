//! From the file's text to a checked tariff.
//!
//! A reader that finds a fault notes it, takes something harmless in the place of what is wrong and goes on, so that
//! one run names them all. What depends on several parts (ways, fares) is checked only when the parts are sound.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use toml::Spanned;

use super::file::{
    CapFile, DistanceFile, File, MissingTapFile, PeriodWord, SpendFile, TransferDiscountFile, WeekdayWord,
};
use super::tables::{MAX_FARES, NO_FARE, Rules, part};
use super::{
    Band, Cap, CategoryRule, DayType, DistanceFare, Fault, Line, MAX_AUTO_COMPLETE_HOURS, MAX_FARE_FEN,
    MAX_FILE_BYTES, MAX_GRACE_HOURS, MAX_JOURNEY_MINUTES, MAX_PASSBACK_SECONDS, MAX_ZONE, MissingTap,
    Network, Only, Operator, PairFare, STANDARD_CATEGORY, SameStation, SpendDiscount, Station, Tariff,
    TariffError, TimeBand, TransferDiscount, TransferOff, ZoneFare, Zones,
};
use crate::day::{DayClock, ServiceDay};
use crate::fen::Fen;
use crate::network::{Graph, MAX_LINES, MAX_SEGMENT_M, MAX_STATIONS, StationId};
use crate::period::{MAX_PERIOD_DAYS, Period};

/// The most faults that are told of one file: who has more has one cause.
const MAX_FAULTS: usize = 200;
/// The most networks, operators, categories, day types, time bands and transfer discounts: far beyond any city.
const MAX_KINDS: usize = 32;
/// The most caps.
const MAX_CAPS: usize = 64;
/// The most fares between zones.
const MAX_ZONE_FARES: usize = 4_096;

/// The share of a fare that a rule may set, in per cent.
const PERCENT: RangeInclusive<i64> = 0..=100;
const MONEY: RangeInclusive<i64> = 0..=MAX_FARE_FEN;

/// Gathers faults, and knows the file's name and text, to turn a place in it into a line.
struct Checks<'a> {
    file: &'a str,
    text: &'a str,
    faults: RefCell<Vec<TariffError>>,
}

impl Checks<'_> {
    fn fault(&self, span: Option<Range<usize>>, fault: Fault) {
        let line = span.map(|s| self.text.bytes().take(s.start).filter(|&b| b == b'\n').count() + 1);
        let mut faults = self.faults.borrow_mut();
        if faults.len() < MAX_FAULTS {
            faults.push(TariffError { file: self.file.to_owned(), line, fault });
        }
    }

    fn sound(&self) -> bool {
        self.faults.borrow().is_empty()
    }

    /// The value, which is told if it is out of range.
    fn range<T: Copy + Into<i64>>(
        &self,
        field: &'static str,
        value: &Spanned<T>,
        allowed: RangeInclusive<i64>,
    ) -> T {
        self.number(field, value.span(), (*value.get_ref()).into(), allowed);
        *value.get_ref()
    }

    fn number(&self, field: &'static str, span: Range<usize>, value: i64, allowed: RangeInclusive<i64>) {
        if !allowed.contains(&value) {
            let (least, most) = (*allowed.start(), *allowed.end());
            self.fault(Some(span), Fault::OutOfRange { field, value, least, most });
        }
    }

    /// Tells what is in a list beyond its limit.
    fn count(&self, field: &'static str, span: Option<Range<usize>>, count: usize, most: usize) {
        if count > most {
            let fault = Fault::OutOfRange { field, value: count as i64, least: 0, most: most as i64 };
            self.fault(span, fault);
        }
    }

    /// Finds a name in its list.
    fn find(&self, what: &'static str, names: &[&str], name: &Spanned<String>) -> Option<usize> {
        let found = names.iter().position(|known| known == name.get_ref());
        if found.is_none() {
            self.fault(Some(name.span()), Fault::Unknown { what, name: short(name.get_ref()) });
        }
        found
    }

    /// Names as bits; none named: all of them.
    fn mask(&self, what: &'static str, names: &[&str], wanted: &[Spanned<String>]) -> u64 {
        if wanted.is_empty() {
            return u64::MAX;
        }
        wanted.iter().filter_map(|name| self.find(what, names, name)).fold(0, |mask, i| mask | bit(i))
    }

    fn indices(&self, what: &'static str, names: &[&str], wanted: &[Spanned<String>]) -> Vec<usize> {
        wanted.iter().filter_map(|name| self.find(what, names, name)).collect()
    }

    /// Tells names that are empty or there twice, and lists longer than any city needs.
    fn unique<'n>(&self, what: &'static str, names: impl Iterator<Item = &'n Spanned<String>>) {
        let mut seen = BTreeSet::new();
        for (i, name) in names.enumerate() {
            if !seen.insert(name.get_ref().as_str()) {
                self.fault(Some(name.span()), Fault::Duplicate { what, name: short(name.get_ref()) });
            }
            let length = name.get_ref().chars().count() as i64;
            self.number("length of a name", name.span(), length, 1..=40);
            if i == MAX_KINDS {
                self.count(what, Some(name.span()), MAX_KINDS + 1, MAX_KINDS);
            }
        }
    }

    fn zones(&self, zones: &[Spanned<u32>]) -> u64 {
        zones.iter().fold(0, |mask, zone| {
            let zone = self.range("zone", zone, 0..=i64::from(MAX_ZONE));
            mask | bit(zone as usize)
        })
    }
}

/// A bit; none for what lies beyond a limit that is told elsewhere.
fn bit(number: usize) -> u64 {
    u32::try_from(number).ok().and_then(|number| 1_u64.checked_shl(number)).unwrap_or(0)
}

fn short(name: &str) -> String {
    name.chars().take(40).collect()
}

/// Reads and checks a file's text.
pub(super) fn read(file: &str, text: &str) -> Result<Tariff, Vec<TariffError>> {
    let checks = Checks { file, text, faults: RefCell::default() };
    let tariff = read_sound(&checks);
    let mut faults = checks.faults.into_inner();
    match tariff {
        Some(tariff) if faults.is_empty() => Ok(tariff),
        _ => {
            faults.sort_by_key(|fault| fault.line);
            Err(faults)
        }
    }
}

/// `None` only after a fault.
fn read_sound(checks: &Checks<'_>) -> Option<Tariff> {
    if checks.text.len() > MAX_FILE_BYTES {
        checks.fault(None, Fault::TooLong(checks.text.len()));
        return None;
    }
    let raw: File = match toml::from_str(checks.text) {
        Ok(raw) => raw,
        Err(e) => {
            checks.fault(e.span(), Fault::Syntax(e.message().to_owned()));
            return None;
        }
    };
    let clock = read_clock(checks, &raw);
    if raw.currency.get_ref() != "CNY" {
        let fault = Fault::Currency(short(raw.currency.get_ref()));
        checks.fault(Some(raw.currency.span()), fault);
    }
    let names = Names::read(checks, &raw);
    let networks = read_networks(checks, &raw);
    let longest = networks.iter().map(|network| network.maximum_journey_ms / 60_000).max().unwrap_or(0);
    let cheapest = checks.range("cheapest_minutes", &raw.same_station.cheapest_minutes, 0..=longest);
    let free = checks.range("free_minutes", &raw.same_station.free_minutes, 0..=i64::from(cheapest));
    let minutes = |minutes: u32| i64::from(minutes) * 60_000;
    let passback =
        checks.range("passback_seconds", &raw.passback_seconds, 0..=i64::from(MAX_PASSBACK_SECONDS));
    let round_to_fen =
        raw.round_to_fen.as_ref().map_or(1, |step| checks.range("round_to_fen", step, 1..=10_000));
    let stations = read_stations(checks, &raw, &names);
    let (graph, lines) = read_lines(checks, &raw, &names);
    let day_types = read_day_types(checks, &raw);
    let time_bands = read_time_bands(checks, &raw, &names);
    let categories = read_categories(checks, &raw);
    let mut caps: Vec<Cap> = raw.cap.iter().filter_map(|cap| read_cap(checks, cap, &names)).collect();
    checks.count("number of caps", raw.cap.last().map(Spanned::span), caps.len(), MAX_CAPS);
    caps.sort_by_key(|cap| match cap.period {
        Period::Day => 0,
        Period::Week { .. } => 1,
        Period::Days { .. } => 2,
        Period::Month => 3,
    });
    let discounts = raw.transfer_discount.iter();
    let transfer_discounts =
        discounts.filter_map(|discount| read_transfer(checks, discount, &names)).collect();
    let last = raw.transfer_discount.last().map(Spanned::span);
    checks.count("number of transfer discounts", last, raw.transfer_discount.len(), MAX_KINDS);
    let mut tariff = Tariff {
        version: raw.version.clone(),
        effective_from: *raw.effective_from.get_ref(),
        clock: clock?,
        passback_ms: i64::from(passback) * 1_000,
        round_to_fen,
        same_station: SameStation { free_ms: minutes(free), cheapest_ms: minutes(cheapest) },
        missing_tap: raw.missing_tap.as_ref().map(|raw| read_missing_tap(checks, raw)).unwrap_or_default(),
        networks,
        operators: raw
            .operator
            .iter()
            .map(|operator| Operator { code: operator.code.get_ref().clone(), name: operator.name.clone() })
            .collect(),
        zone_fares: read_zone_fares(checks, &raw, &names),
        pair_fares: read_pair_fares(checks, &raw, &names, &stations),
        stations,
        lines,
        day_types,
        time_bands,
        categories,
        transfer_discounts,
        caps,
        spend_discount: raw.spend_discount.as_ref().and_then(|raw| read_spend(checks, raw, &names)),
        graph: Arc::new(graph),
        distances_m: Arc::default(),
        tables: Arc::default(),
    };
    if checks.sound() {
        make_tables(checks, &raw, &mut tariff);
    }
    Some(tariff)
}

/// The names that other parts of the file refer to.
struct Names<'a> {
    networks: Vec<&'a str>,
    operators: Vec<&'a str>,
    day_types: Vec<&'a str>,
    time_bands: Vec<&'a str>,
    categories: Vec<&'a str>,
    stations: BTreeMap<&'a str, usize>,
}

impl<'a> Names<'a> {
    fn read(checks: &Checks<'_>, raw: &'a File) -> Self {
        checks.unique("network", raw.network.iter().map(|x| &x.code));
        checks.unique("operator", raw.operator.iter().map(|x| &x.code));
        checks.unique("day type", raw.day_type.iter().map(|x| &x.name));
        checks.unique("time band", raw.time_band.iter().map(|x| &x.name));
        checks.unique("category", raw.category.iter().map(|x| &x.name));
        let mut stations = BTreeMap::new();
        for (i, station) in raw.station.iter().enumerate() {
            if stations.insert(station.code.get_ref().as_str(), i).is_some() {
                let fault = Fault::DuplicateStation(station.code.get_ref().clone());
                checks.fault(Some(station.code.span()), fault);
            }
        }
        let first = raw.station.first().map_or(0..0, |station| station.code.span());
        checks.number("number of stations", first, raw.station.len() as i64, 1..=MAX_STATIONS as i64);
        let named = |category: &&'a str| *category != STANDARD_CATEGORY;
        let others = raw.category.iter().map(|x| x.name.get_ref().as_str()).filter(named);
        Self {
            networks: raw.network.iter().map(|x| x.code.get_ref().as_str()).collect(),
            operators: raw.operator.iter().map(|x| x.code.get_ref().as_str()).collect(),
            day_types: raw.day_type.iter().map(|x| x.name.get_ref().as_str()).collect(),
            time_bands: raw.time_band.iter().map(|x| x.name.get_ref().as_str()).collect(),
            categories: std::iter::once(STANDARD_CATEGORY).chain(others).collect(),
            stations,
        }
    }

    fn station(&self, checks: &Checks<'_>, code: &Spanned<StationId>) -> Option<usize> {
        let found = self.stations.get(code.get_ref().as_str()).copied();
        if found.is_none() {
            checks.fault(Some(code.span()), Fault::UnknownStation(code.get_ref().clone()));
        }
        found
    }

    fn operator(&self, checks: &Checks<'_>, name: Option<&Spanned<String>>) -> Option<usize> {
        name.and_then(|name| checks.find("operator", &self.operators, name))
    }

    /// `None` after a name that is not in its list.
    fn only(
        &self,
        checks: &Checks<'_>,
        category: Option<&Spanned<String>>,
        time_band: Option<&Spanned<String>>,
    ) -> Option<Only> {
        let find = |what, names: &[&str], name: Option<&Spanned<String>>| match name {
            Some(name) => checks.find(what, names, name).map(Some),
            None => Some(None),
        };
        let category = find("category", &self.categories, category);
        let time_band = find("time band", &self.time_bands, time_band);
        Some(Only { category: category?, time_band: time_band? })
    }
}

fn read_clock(checks: &Checks<'_>, raw: &File) -> Option<DayClock> {
    let name = raw.time_zone.get_ref();
    let zone = TimeZone::get(name).ok();
    if zone.is_none() {
        checks.fault(Some(raw.time_zone.span()), Fault::TimeZone(name.chars().take(60).collect()));
    }
    let starts = read_time(checks, &raw.service_day_start);
    Some(DayClock::new(zone?, starts?))
}

/// A time of day, HH:MM.
fn read_time(checks: &Checks<'_>, text: &Spanned<String>) -> Option<Time> {
    let time = (text.get_ref().len() == 5).then(|| text.get_ref().parse::<Time>().ok()).flatten();
    if time.is_none() {
        checks.fault(Some(text.span()), Fault::DayStart(short(text.get_ref())));
    }
    time
}

fn read_networks(checks: &Checks<'_>, raw: &File) -> Vec<Network> {
    let minutes = 1..=i64::from(MAX_JOURNEY_MINUTES);
    let maximum = checks.range("maximum_fare_fen", &raw.maximum_fare_fen, MONEY);
    let single = checks.range("single_fare_fen", &raw.single_fare_fen, 0..=maximum.max(0));
    let journey = checks.range("maximum_journey_minutes", &raw.maximum_journey_minutes, minutes.clone());
    let flat = |fen: Option<&Spanned<i64>>| fen.map(|fen| Fen(checks.range("flat_fare_fen", fen, MONEY)));
    let whole = Network {
        code: String::new(),
        name: String::new(),
        maximum_fare: Fen(maximum),
        single_fare: Fen(single),
        maximum_journey_ms: i64::from(journey) * 60_000,
        flat_fare: flat(raw.flat_fare_fen.as_ref()),
        distance_fare: raw.distance_fare.as_ref().map(|raw| read_distance_fare(checks, raw)),
    };
    if raw.network.is_empty() {
        return vec![whole];
    }
    let networks = raw.network.iter().map(|raw| {
        let maximum = raw.maximum_fare_fen.as_ref();
        let maximum =
            maximum.map_or(whole.maximum_fare.0, |fen| checks.range("maximum_fare_fen", fen, MONEY));
        let single = raw.single_fare_fen.as_ref();
        let single = single
            .map_or(whole.single_fare.0, |fen| checks.range("single_fare_fen", fen, 0..=maximum.max(0)));
        let journey = raw.maximum_journey_minutes.as_ref();
        let journey = journey.map_or(whole.maximum_journey_ms, |own| {
            i64::from(checks.range("maximum_journey_minutes", own, minutes.clone())) * 60_000
        });
        let own = raw.flat_fare_fen.is_some() || raw.distance_fare.is_some();
        let (flat_fare, distance_fare) = match own {
            true => (
                flat(raw.flat_fare_fen.as_ref()),
                raw.distance_fare.as_ref().map(|raw| read_distance_fare(checks, raw)),
            ),
            false => (whole.flat_fare, whole.distance_fare.clone()),
        };
        Network {
            code: raw.code.get_ref().clone(),
            name: raw.name.clone(),
            maximum_fare: Fen(maximum),
            single_fare: Fen(single),
            maximum_journey_ms: journey,
            flat_fare,
            distance_fare,
        }
    });
    networks.collect()
}

fn read_distance_fare(checks: &Checks<'_>, raw: &DistanceFile) -> DistanceFare {
    let base_fen = checks.range("base_fen", &raw.base_fen, MONEY);
    let base_to_m = checks.range("base_to_m", &raw.base_to_m, 0..=i64::from(u32::MAX));
    let mut bands = Vec::with_capacity(raw.band.len());
    let mut from = base_to_m;
    for (i, spanned) in raw.band.iter().enumerate() {
        let band = spanned.get_ref();
        let last = i + 1 == raw.band.len();
        if last != band.to_m.is_none() || band.to_m.is_some_and(|to| to <= from) {
            checks.fault(Some(spanned.span()), Fault::Bands(i + 1));
            break;
        }
        checks.number("every_m", spanned.span(), i64::from(band.every_m), 1..=i64::from(u32::MAX));
        checks.number("add_fen", spanned.span(), band.add_fen, MONEY);
        from = band.to_m.unwrap_or(u32::MAX);
        bands.push(Band { to_m: from, every_m: band.every_m, add_fen: band.add_fen });
    }
    DistanceFare { base_fen, base_to_m, bands }
}

fn read_stations(checks: &Checks<'_>, raw: &File, names: &Names<'_>) -> Vec<Station> {
    let station = |raw: &super::file::StationFile| {
        let network = match &raw.network {
            Some(name) => checks.find("network", &names.networks, name).unwrap_or(0),
            None => {
                if !names.networks.is_empty() {
                    let fault = Fault::NoNetwork(raw.code.get_ref().clone());
                    checks.fault(Some(raw.code.span()), fault);
                }
                0
            }
        };
        Station {
            code: raw.code.get_ref().clone(),
            name: raw.name.clone(),
            network,
            operator: names.operator(checks, raw.operator.as_ref()),
            zones: checks.zones(&raw.zones),
        }
    };
    raw.station.iter().map(station).collect()
}

/// Checks lines and the ways between them.
fn read_lines(checks: &Checks<'_>, raw: &File, names: &Names<'_>) -> (Graph, Vec<Line>) {
    let last = raw.line.last().map(|line| line.code.span());
    checks.count("number of lines", last, raw.line.len(), MAX_LINES);
    let mut graph = Graph::default();
    // The platform of a line at a station.
    let mut platforms: BTreeMap<(&str, usize), usize> = BTreeMap::new();
    let mut lines = Vec::with_capacity(raw.line.len());
    let mut codes = BTreeSet::new();
    for line in &raw.line {
        let code = line.code.get_ref();
        if !codes.insert(code) {
            checks.fault(Some(line.code.span()), Fault::DuplicateLine(short(code)));
        }
        let operator = names.operator(checks, line.operator.as_ref());
        let (stations, segments) = (line.stations.len(), line.segments_m.len());
        if stations < 2 || segments + 1 != stations {
            let fault = Fault::Segments { line: short(code), stations, segments };
            checks.fault(Some(line.code.span()), fault);
            continue;
        }
        let found: Vec<Option<usize>> =
            line.stations.iter().map(|code| names.station(checks, code)).collect();
        // A line that calls twice at a station (a ring closing) has one platform there.
        let stops: Vec<Option<usize>> = found
            .into_iter()
            .map(|at| at.map(|at| *platforms.entry((code, at)).or_insert_with(|| graph.platform(at))))
            .collect();
        for (pair, segment) in stops.windows(2).zip(&line.segments_m) {
            let metres = checks.range("segments_m", segment, 1..=i64::from(MAX_SEGMENT_M));
            match (pair[0], pair[1]) {
                (Some(a), Some(b)) if a == b => checks.fault(Some(segment.span()), Fault::Loop(short(code))),
                (Some(a), Some(b)) => graph.join(a, b, metres, operator),
                _ => {}
            }
        }
        lines.push(Line {
            code: code.clone(),
            name: line.name.clone(),
            stations: line.stations.iter().map(|s| s.get_ref().clone()).collect(),
            segments_m: line.segments_m.iter().map(|s| *s.get_ref()).collect(),
            operator,
        });
    }
    for transfer in &raw.transfer {
        let Some(at) = names.station(checks, &transfer.station) else { continue };
        let platform = |line: &Spanned<String>| {
            let found = platforms.get(&(line.get_ref().as_str(), at)).copied();
            if found.is_none() {
                let (line_code, station) = (short(line.get_ref()), transfer.station.get_ref().clone());
                checks.fault(Some(line.span()), Fault::NotOnLine { line: line_code, station });
            }
            found
        };
        let walk_m = checks.range("walk_m", &transfer.walk_m, 0..=10_000);
        match (platform(&transfer.lines[0]), platform(&transfer.lines[1])) {
            (Some(a), Some(b)) if a == b => {
                let fault = Fault::Loop(short(transfer.lines[0].get_ref()));
                checks.fault(Some(transfer.lines[1].span()), fault);
            }
            (Some(a), Some(b)) => graph.join(a, b, walk_m, None),
            _ => {}
        }
    }
    (graph, lines)
}

fn read_zone_fares(checks: &Checks<'_>, raw: &File, names: &Names<'_>) -> Vec<ZoneFare> {
    let last = raw.zone_fare.last().map(Spanned::span);
    checks.count("number of zone fares", last, raw.zone_fare.len(), MAX_ZONE_FARES);
    let mut seen = BTreeSet::new();
    let mut fares = Vec::with_capacity(raw.zone_fare.len());
    for spanned in &raw.zone_fare {
        let raw = spanned.get_ref();
        let zone = |zone: &Spanned<u32>| checks.range("zone", zone, 0..=i64::from(MAX_ZONE));
        let zones = match (&raw.from, &raw.to, &raw.crossed) {
            (Some(from), Some(to), None) => {
                let (from, to) = (zone(from), zone(to));
                Zones::Between(from.min(to), from.max(to))
            }
            (None, None, Some(crossed)) => {
                Zones::Crossed(checks.range("crossed", crossed, 1..=i64::from(MAX_ZONE) + 1))
            }
            _ => {
                checks.fault(Some(raw.fen.span()), Fault::ZoneFare);
                continue;
            }
        };
        let fare = Fen(checks.range("fen", &raw.fen, MONEY));
        let network = raw.network.as_ref().and_then(|name| checks.find("network", &names.networks, name));
        let Some(only) = names.only(checks, raw.category.as_ref(), raw.time_band.as_ref()) else { continue };
        let key = match zones {
            Zones::Between(from, to) => (from, to),
            Zones::Crossed(count) => (u32::MAX, count),
        };
        if !seen.insert((key, network, only)) {
            checks.fault(Some(raw.fen.span()), Fault::DuplicateFare);
        }
        fares.push(ZoneFare { zones, fare, network, only });
    }
    fares
}

fn read_pair_fares(
    checks: &Checks<'_>,
    raw: &File,
    names: &Names<'_>,
    stations: &[Station],
) -> Vec<PairFare> {
    let mut seen = BTreeSet::new();
    let mut fares = Vec::with_capacity(raw.pair_fare.len());
    for raw in &raw.pair_fare {
        let fare = Fen(checks.range("fen", &raw.fen, MONEY));
        let only = names.only(checks, raw.category.as_ref(), raw.time_band.as_ref());
        let (from, to) = (names.station(checks, &raw.from), names.station(checks, &raw.to));
        let (Some(from), Some(to), Some(only)) = (from, to, only) else { continue };
        if stations[from].network != stations[to].network {
            let fault = Fault::TwoNetworks(raw.from.get_ref().clone(), raw.to.get_ref().clone());
            checks.fault(Some(raw.from.span()), fault);
        }
        let back = (!raw.one_way && from != to).then_some((to, from));
        for (from, to) in [(from, to)].into_iter().chain(back) {
            if !seen.insert((from, to, only)) {
                checks.fault(Some(raw.fen.span()), Fault::DuplicateFare);
            }
            fares.push(PairFare { from, to, fare, only });
        }
    }
    fares
}

fn read_day_types(checks: &Checks<'_>, raw: &File) -> Vec<DayType> {
    let kind = |raw: &super::file::DayTypeFile| {
        let days = (raw.weekdays.len() + raw.dates.len()) as i64;
        checks.number("number of weekdays and dates", raw.name.span(), days, 1..=4_000);
        DayType {
            name: raw.name.get_ref().clone(),
            weekdays: raw.weekdays.iter().map(|&day| day.into()).collect(),
            dates: raw.dates.iter().copied().collect(),
        }
    };
    raw.day_type.iter().map(kind).collect()
}

fn read_time_bands(checks: &Checks<'_>, raw: &File, names: &Names<'_>) -> Vec<TimeBand> {
    let second = |text: &Spanned<String>| {
        let time = read_time(checks, text).unwrap_or(Time::midnight());
        let field = |value: i8| u32::try_from(value).unwrap_or(0);
        (field(time.hour()) * 60 + field(time.minute())) * 60
    };
    let band = |raw: &super::file::TimeBandFile| {
        let percent = raw.percent.as_ref();
        let add = raw.add_fen.as_ref();
        TimeBand {
            name: raw.name.get_ref().clone(),
            day_types: checks.indices("day type", &names.day_types, &raw.day_types),
            from_s: second(&raw.from),
            to_s: second(&raw.to),
            percent: percent.map_or(100, |percent| checks.range("percent", percent, 0..=1_000)),
            add_fen: add.map_or(0, |add| checks.range("add_fen", add, -MAX_FARE_FEN..=MAX_FARE_FEN)),
        }
    };
    raw.time_band.iter().map(band).collect()
}

fn read_categories(checks: &Checks<'_>, raw: &File) -> Vec<CategoryRule> {
    let standard = CategoryRule { name: STANDARD_CATEGORY.to_owned(), percent: 100, maximum_fare: None };
    let mut categories = vec![standard];
    for raw in &raw.category {
        let maximum = raw.maximum_fare_fen.as_ref();
        let rule = CategoryRule {
            name: raw.name.get_ref().clone(),
            percent: raw.percent.as_ref().map_or(100, |percent| checks.range("percent", percent, PERCENT)),
            maximum_fare: maximum.map(|fen| Fen(checks.range("maximum_fare_fen", fen, MONEY))),
        };
        match rule.name == STANDARD_CATEGORY {
            true => categories[0] = rule,
            false => categories.push(rule),
        }
    }
    categories
}

fn read_missing_tap(checks: &Checks<'_>, raw: &MissingTapFile) -> MissingTap {
    let together = |a: (&'static str, Option<&Spanned<u32>>), b: (&'static str, Option<&Spanned<u32>>)| {
        if let (Some(there), None) | (None, Some(there)) = (a.1, b.1) {
            checks.fault(Some(there.span()), Fault::Together(a.0, b.0));
        }
    };
    let (grace, corrections) = (raw.grace_hours.as_ref(), raw.corrections_per_month.as_ref());
    together(("grace_hours", grace), ("corrections_per_month", corrections));
    let (hours, times) = (raw.auto_complete_hours.as_ref(), raw.auto_completions_per_month.as_ref());
    together(("auto_complete_hours", hours), ("auto_completions_per_month", times));
    let number = |field, value: Option<&Spanned<u32>>, most: u32| {
        value.map_or(0, |value| checks.range(field, value, 0..=i64::from(most)))
    };
    MissingTap {
        grace_ms: i64::from(number("grace_hours", grace, MAX_GRACE_HOURS)) * 3_600_000,
        corrections_per_month: number("corrections_per_month", corrections, 1_000),
        auto_complete_ms: i64::from(number("auto_complete_hours", hours, MAX_AUTO_COMPLETE_HOURS))
            * 3_600_000,
        auto_completions_per_month: number("auto_completions_per_month", times, 1_000),
    }
}

fn read_period(
    checks: &Checks<'_>,
    word: &Spanned<PeriodWord>,
    week_starts: Option<WeekdayWord>,
    days: Option<&Spanned<u32>>,
    from: Option<ServiceDay>,
) -> Option<Period> {
    match (word.get_ref(), week_starts, days, from) {
        (PeriodWord::Day, None, None, None) => Some(Period::Day),
        (PeriodWord::Month, None, None, None) => Some(Period::Month),
        (PeriodWord::Week, starts, None, None) => {
            Some(Period::Week { starts: starts.unwrap_or(WeekdayWord::Monday).into() })
        }
        (PeriodWord::Days, None, Some(days), Some(from)) => {
            let days = checks.range("days", days, 2..=i64::from(MAX_PERIOD_DAYS));
            Some(Period::Days { days: u16::try_from(days).unwrap_or(MAX_PERIOD_DAYS), from })
        }
        _ => {
            checks.fault(Some(word.span()), Fault::Period);
            None
        }
    }
}

fn read_cap(checks: &Checks<'_>, spanned: &Spanned<CapFile>, names: &Names<'_>) -> Option<Cap> {
    let raw = spanned.get_ref();
    let cap = Cap {
        name: raw.name.clone(),
        limit: Fen(checks.range("limit_fen", &raw.limit_fen, MONEY)),
        zones: checks.zones(&raw.zones),
        networks: checks.mask("network", &names.networks, &raw.networks),
        categories: checks.indices("category", &names.categories, &raw.categories),
        time_bands: checks.indices("time band", &names.time_bands, &raw.time_bands),
        period: read_period(checks, &raw.period, raw.week_starts, raw.days.as_ref(), raw.from)?,
    };
    Some(cap)
}

fn read_spend(checks: &Checks<'_>, raw: &Spanned<SpendFile>, names: &Names<'_>) -> Option<SpendDiscount> {
    let raw = raw.get_ref();
    let mut steps: Vec<(Fen, u32)> = Vec::with_capacity(raw.step.len());
    checks.number("number of steps", raw.period.span(), raw.step.len() as i64, 1..=MAX_KINDS as i64);
    for (i, spanned) in raw.step.iter().enumerate() {
        let step = spanned.get_ref();
        // A month's sum of journeys may be far above the dearest fare.
        checks.number("from_fen", spanned.span(), step.from_fen, 0..=1_000 * MAX_FARE_FEN);
        checks.number("percent", spanned.span(), i64::from(step.percent), PERCENT);
        if steps.last().is_some_and(|before| step.from_fen <= before.0.0) {
            checks.fault(Some(spanned.span()), Fault::Steps(i + 1));
        }
        steps.push((Fen(step.from_fen), step.percent));
    }
    let networks = checks.mask("network", &names.networks, &raw.networks);
    let period = read_period(checks, &raw.period, raw.week_starts, raw.days.as_ref(), raw.from)?;
    Some(SpendDiscount { period, networks, steps })
}

fn read_transfer(
    checks: &Checks<'_>,
    spanned: &Spanned<TransferDiscountFile>,
    names: &Names<'_>,
) -> Option<TransferDiscount> {
    let raw = spanned.get_ref();
    let off = match (&raw.percent_off, &raw.take_off_fen, raw.pay_dearest) {
        (Some(percent), None, false) => {
            Some(TransferOff::Percent(checks.range("percent_off", percent, PERCENT)))
        }
        (None, Some(fen), false) => Some(TransferOff::Amount(Fen(checks.range("take_off_fen", fen, MONEY)))),
        (None, None, true) => Some(TransferOff::PayDearest),
        _ => {
            checks.fault(Some(raw.within_minutes.span()), Fault::TransferOff);
            None
        }
    };
    let minutes = 1..=i64::from(MAX_JOURNEY_MINUTES);
    let discount = TransferDiscount {
        from: checks.mask("network", &names.networks, &raw.from),
        to: checks.mask("network", &names.networks, &raw.to),
        within_ms: i64::from(checks.range("within_minutes", &raw.within_minutes, minutes)) * 60_000,
        measured_from: raw.measured_from,
        times: checks.range("times", &raw.times, 1..=1_000),
        off: off?,
    };
    Some(discount)
}

/// Works out ways and fares of all pairs of stations, and checks that there is a fare wherever a journey can lead, and
/// none above the maximum, or forgetting to tap out would pay.
fn make_tables(checks: &Checks<'_>, raw: &File, tariff: &mut Tariff) {
    let n = tariff.stations.len();
    let distances = (0..n).flat_map(|from| tariff.graph.distances(from, n));
    tariff.distances_m = distances.map(|metres| metres.unwrap_or(u32::MAX)).collect();
    let rules = Rules {
        networks: &tariff.networks,
        stations: &tariff.stations,
        zone_fares: &tariff.zone_fares,
        pair_fares: &tariff.pair_fares,
        categories: &tariff.categories,
        time_bands: &tariff.time_bands,
        distances_m: &tariff.distances_m,
        round_to_fen: tariff.round_to_fen,
    };
    let tables = rules.tables();
    if n * n * tables > MAX_FARES {
        let fault = Fault::TooManyFares { stations: n, tables, most: MAX_FARES };
        return checks.fault(raw.station.first().map(|station| station.code.span()), fault);
    }
    tariff.tables = Arc::new(rules.make());
    check_there(checks, raw, tariff);
    if checks.sound() {
        check_maximum(checks, raw, tariff);
    }
}

/// Tells, for each station, the first that no fare leads to.
fn check_there(checks: &Checks<'_>, raw: &File, tariff: &Tariff) {
    let n = tariff.stations.len();
    for (to, station) in tariff.stations.iter().enumerate() {
        let missing = (0..n).find(|&from| {
            let pair = from != to && tariff.stations[from].network == station.network;
            pair && tariff.tables.fares.iter().any(|table| table[from * n + to] == NO_FARE)
        });
        let Some(from) = missing else { continue };
        let (from, to_code) = (tariff.stations[from].code.clone(), station.code.clone());
        let span = Some(raw.station[to].code.span());
        if tariff.networks[station.network].distance_fare.is_some() {
            // One gap in the lines cuts off everything behind it: told once.
            return checks.fault(span, Fault::NotConnected(from, to_code));
        }
        checks.fault(span, Fault::NoFare(from, to_code));
    }
}

/// Tells the dearest fare of a network that is above the maximum of some category.
fn check_maximum(checks: &Checks<'_>, raw: &File, tariff: &Tariff) {
    let n = tariff.stations.len();
    let (round, tables) = (tariff.round_to_fen, &tariff.tables);
    let maximum_span = |network: usize, category: usize| {
        let name = &tariff.categories[category].name;
        let own = raw.category.iter().find(|raw| raw.name.get_ref() == name);
        let own = own.and_then(|raw| raw.maximum_fare_fen.as_ref());
        let networks = raw.network.get(network).and_then(|raw| raw.maximum_fare_fen.as_ref());
        own.or(networks).unwrap_or(&raw.maximum_fare_fen).span()
    };
    let bands = std::iter::once(None).chain((0..tariff.time_bands.len()).map(Some));
    let terms: Vec<(usize, Option<usize>)> =
        bands.flat_map(|band| (0..tariff.categories.len()).map(move |category| (category, band))).collect();
    for (i, network) in tariff.networks.iter().enumerate() {
        let dearest: Vec<Option<(usize, i32)>> = tables
            .fares
            .iter()
            .map(|table| {
                let pairs = (0..n * n).filter(|pair| tariff.stations[pair / n].network == i);
                pairs.map(|pair| (pair, table[pair])).max_by_key(|&(_, fare)| fare)
            })
            .collect();
        for &(category, band) in &terms {
            let rule = &tariff.categories[category];
            let maximum =
                rule.maximum_fare.unwrap_or_else(|| part(network.maximum_fare, rule.percent, round));
            let slots = (tables.slot_of_category[category], band.map_or(0, |band| tables.slot_of_band[band]));
            let paid = |fare: Fen, band_done: bool, category_done: bool| {
                let fare = match band {
                    Some(band) if !band_done => tariff.time_bands[band].apply(fare, round),
                    _ => fare,
                };
                if category_done { fare } else { part(fare, rule.percent, round) }
            };
            let single = paid(network.single_fare, false, false);
            if single > maximum {
                let fault = Fault::OutOfRange {
                    field: "single_fare_fen for some riders and times",
                    value: single.0,
                    least: 0,
                    most: maximum.0,
                };
                return checks.fault(Some(maximum_span(i, category)), fault);
            }
            let Some((pair, fare)) = dearest[slots.0 * tables.bands + slots.1] else { continue };
            let fare = paid(Fen(i64::from(fare)), slots.1 > 0, slots.0 > 0);
            if fare > maximum {
                let fault = Fault::AboveMaximum {
                    from: tariff.stations[pair / n].code.clone(),
                    to: tariff.stations[pair % n].code.clone(),
                    fare_fen: fare.0,
                    maximum_fen: maximum.0,
                };
                return checks.fault(Some(maximum_span(i, category)), fault);
            }
        }
    }
}
