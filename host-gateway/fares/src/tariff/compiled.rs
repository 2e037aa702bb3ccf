//! Tariffs of several dates, ready for pricing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::tables::{NO_FARE, Tables, bits, part};
use super::{
    Cap, CategoryRule, DayType, Fault, MissingTap, STANDARD_CATEGORY, SameStation, SpendDiscount, Tariff,
    TariffError, TimeBand, TransferDiscount,
};
use crate::day::{DayClock, ServiceDay};
use crate::fen::Fen;
use crate::network::{Graph, MAX_STATIONS, StationId};
use crate::period::Period;

/// A station's place in the tables of [`Tariffs`]: what taps carry instead of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StationIndex(pub(crate) u16);

/// A kind of rider, as [`Tariffs::category`] gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Category(u16);

impl Category {
    /// A rider without another category.
    pub const STANDARD: Self = Self(0);
}

/// How riders may tell where a missing tap was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CorrectionRules {
    /// So often in the calendar month of the journey.
    pub per_month: u32,
    /// So long after the tap that there is, in milliseconds.
    pub within_ms: i64,
}

/// What pricing asks of a network.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) maximum_fare: Fen,
    pub(crate) single_fare: Fen,
    pub(crate) maximum_journey_ms: i64,
    /// The cheapest fare of each table.
    cheapest: Vec<Fen>,
}

/// One tariff, ready for pricing.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) effective_from: ServiceDay,
    pub(crate) passback_ms: i64,
    pub(crate) same_station: SameStation,
    pub(crate) missing_tap: MissingTap,
    pub(crate) transfer_discounts: Vec<TransferDiscount>,
    pub(crate) caps: Vec<Cap>,
    pub(crate) spend_discount: Option<SpendDiscount>,
    networks: Vec<Network>,
    day_types: Vec<DayType>,
    time_bands: Vec<TimeBand>,
    categories: Vec<CategoryRule>,
    /// For each category of all versions, this version's.
    own_category: Vec<usize>,
    /// For each station of all versions, this version's.
    own_station: Vec<Option<usize>>,
    pub(super) stations: Vec<super::Station>,
    tables: Arc<Tables>,
    round_to_fen: i64,
    pub(super) operators: Vec<String>,
    pub(super) graph: Arc<Graph>,
}

/// The rider's category and the journey's time band in one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    category: usize,
    band: Option<usize>,
}

impl Compiled {
    pub(super) fn own(&self, station: StationIndex) -> Option<usize> {
        self.own_station[usize::from(station.0)]
    }

    /// The network of a station, as an index; `None` where this version lacks the station.
    pub(crate) fn network_index(&self, station: StationIndex) -> Option<usize> {
        self.own(station).map(|own| self.stations[own].network)
    }

    /// The network of a station; `None` where this version lacks the station.
    pub(crate) fn network(&self, station: StationIndex) -> Option<&Network> {
        self.network_index(station).map(|network| &self.networks[network])
    }

    /// What parts of fares are rounded to.
    pub(crate) const fn round_to_fen(&self) -> i64 {
        self.round_to_fen
    }

    /// What decides a fare besides its stations.
    pub(crate) fn terms(&self, clock: &DayClock, category: Category, day: ServiceDay, time_ms: i64) -> Terms {
        let category = self.own_category[usize::from(category.0)];
        if self.time_bands.is_empty() {
            return Terms { category, band: None };
        }
        let weekday = day.date().weekday();
        let fits = |kind: &DayType| kind.dates.contains(&day) || kind.weekdays.contains(&weekday);
        let kind = self.day_types.iter().position(fits);
        let second = clock.second_of_day(time_ms);
        let band = self.time_bands.iter().position(|band| {
            let on_day = band.day_types.is_empty() || kind.is_some_and(|kind| band.day_types.contains(&kind));
            let in_time = match band.from_s < band.to_s {
                true => (band.from_s..band.to_s).contains(&second),
                false => second >= band.from_s || second < band.to_s,
            };
            on_day && in_time
        });
        Terms { category, band }
    }

    fn slots(&self, terms: Terms) -> (usize, usize) {
        let band = terms.band.map_or(0, |band| self.tables.slot_of_band[band]);
        (self.tables.slot_of_category[terms.category], band)
    }

    /// What of a fare of a table, or of a flat fare where no table says more, is paid.
    fn paid(&self, fare: Fen, terms: Terms, (category_slot, band_slot): (usize, usize)) -> Fen {
        let fare = match terms.band {
            Some(band) if band_slot == 0 => self.time_bands[band].apply(fare, self.round_to_fen),
            _ => fare,
        };
        match category_slot {
            0 => part(fare, self.categories[terms.category].percent, self.round_to_fen),
            _ => fare,
        }
    }

    /// The fare between two stations; `None` where this version lacks one of them, or no journey joins them.
    pub(crate) fn fare(&self, terms: Terms, from: StationIndex, to: StationIndex) -> Option<Fen> {
        self.own_fare(terms, self.own(from)?, self.own(to)?)
    }

    /// The same of stations by their places in this version.
    pub(super) fn own_fare(&self, terms: Terms, from: usize, to: usize) -> Option<Fen> {
        let slots = self.slots(terms);
        let fare = self.tables.fares[slots.0 * self.tables.bands + slots.1][from * self.stations.len() + to];
        (fare != NO_FARE).then(|| self.paid(Fen(i64::from(fare)), terms, slots))
    }

    /// The cheapest fare of a station's network.
    pub(crate) fn cheapest_fare(&self, terms: Terms, station: StationIndex) -> Option<Fen> {
        let network = self.network(station)?;
        let slots = self.slots(terms);
        Some(self.paid(network.cheapest[slots.0 * self.tables.bands + slots.1], terms, slots))
    }

    /// The fare of a `single` tap.
    pub(crate) fn single_fare(&self, terms: Terms, station: StationIndex) -> Option<Fen> {
        Some(self.paid(self.network(station)?.single_fare, terms, (0, 0)))
    }

    /// What an incomplete journey costs.
    pub(crate) fn maximum_fare(&self, terms: Terms, station: StationIndex) -> Option<Fen> {
        let network = self.network(station)?;
        let category = &self.categories[terms.category];
        let share = || part(network.maximum_fare, category.percent, self.round_to_fen);
        Some(category.maximum_fare.unwrap_or_else(share))
    }

    /// True if a cap speaks of a journey.
    pub(crate) fn caps(&self, cap: &Cap, terms: Terms, from: StationIndex, to: StationIndex) -> bool {
        let (Some(a), Some(b)) = (self.own(from), self.own(to)) else { return false };
        let (a, b) = (&self.stations[a], &self.stations[b]);
        let category = cap.categories.is_empty() || cap.categories.contains(&terms.category);
        let band = cap.time_bands.is_empty() || terms.band.is_some_and(|band| cap.time_bands.contains(&band));
        let network = cap.networks >> a.network & 1 == 1;
        category && band && network && (cap.zones == 0 || within(a.zones, b.zones, cap.zones))
    }
}

/// True if a way from some zone of the one station to some of the other stays within zones.
fn within(from: u64, to: u64, zones: u64) -> bool {
    let inside = |low: u32, high: u32| (low..=high).all(|zone| zones >> zone & 1 == 1);
    bits(from).any(|a| bits(to).any(|b| inside(a.min(b), a.max(b))))
}

/// A city's tariffs by date, compiled. The first also prices what came before it, so that no tap is ever without a
/// tariff.
#[derive(Debug)]
pub struct Tariffs {
    clock: DayClock,
    /// Every station of every version, by code.
    stations: Vec<StationId>,
    by_code: BTreeMap<StationId, StationIndex>,
    /// Every category of every version; the first is the standard.
    categories: Vec<String>,
    /// By date, the earliest first; never empty.
    versions: Vec<Compiled>,
    reach_ms: i64,
    maximum_journey_ms: i64,
    adjusts: bool,
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
        let names: BTreeSet<&str> =
            versions.iter().flat_map(|t| t.categories.iter().map(|c| c.name.as_str())).collect();
        let others = names.into_iter().filter(|name| *name != STANDARD_CATEGORY);
        let categories: Vec<String> =
            std::iter::once(STANDARD_CATEGORY).chain(others).map(str::to_owned).collect();
        let longest = |of: fn(&Tariff) -> i64| versions.iter().map(of).max().unwrap_or(0);
        let maximum_journey_ms = longest(Tariff::maximum_journey_ms);
        let reach_ms = maximum_journey_ms
            .max(longest(|t| t.passback_ms))
            .max(longest(|t| t.missing_tap.auto_complete_ms));
        let adjusts = versions
            .iter()
            .any(|t| !t.caps.is_empty() || !t.transfer_discounts.is_empty() || t.spend_discount.is_some());
        let versions = versions.into_iter().map(|t| compile(t, &stations, &categories)).collect();
        Ok(Self { clock, stations, by_code, categories, versions, reach_ms, maximum_journey_ms, adjusts })
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

    /// A rider's category by its name; `None` for one that no version names, whose riders pay as everybody.
    pub fn category(&self, name: &str) -> Option<Category> {
        // Categories of all versions are few: 16 a version, and mostly the same.
        self.categories.iter().position(|known| known == name).map(|i| Category(i as u16))
    }

    /// Every category of every version; the first is [`STANDARD_CATEGORY`].
    pub fn categories(&self) -> &[String] {
        &self.categories
    }

    /// The first day that any version prices; taps before it have no tariff.
    pub fn first_day(&self) -> Option<ServiceDay> {
        self.versions.first().map(|version| version.effective_from)
    }

    /// Whether any version is in force on a day.
    pub fn prices(&self, day: ServiceDay) -> bool {
        self.first_day().is_some_and(|first| first <= day)
    }

    /// Every station of every version, by code.
    pub fn stations(&self) -> &[StationId] {
        &self.stations
    }

    /// How far a tap's effect reaches, in milliseconds: no pairing joins taps further apart. To price days, hand in
    /// the taps from so much before the start of their [`window`](Self::window) to so much after its end.
    pub const fn reach_ms(&self) -> i64 {
        self.reach_ms
    }

    /// The longest journey of any version: a day closes only so long after its end.
    pub const fn maximum_journey_ms(&self) -> i64 {
        self.maximum_journey_ms
    }

    /// The days that bear on each other: what a day costs depends on the journeys from the first on, and its own
    /// journeys change what days cost up to the last. Only the day itself where nothing counts over several days.
    pub fn window(&self, day: ServiceDay) -> RangeInclusive<ServiceDay> {
        let own = self.index_on(day);
        let mut first = day;
        for version in self.versions[..=own].iter().rev() {
            // Each step counts what the steps before it left on the days of its period.
            first = version.periods().rev().fold(first, |first, period| *period.around(first).start());
            if first >= version.effective_from {
                break;
            }
        }
        let last = self.versions[own].periods().fold(day, |last, period| *period.around(last).end());
        let last = self.versions[own + 1..].iter().fold(last, |last, version| {
            let further = version.periods().fold(last, |last, period| *period.around(last).end());
            if further >= version.effective_from { further } else { last }
        });
        first..=last
    }

    /// How riders of a day may tell where a missing tap was.
    pub fn correction_rules(&self, day: ServiceDay) -> CorrectionRules {
        let rules = &self.on(day).missing_tap;
        CorrectionRules { per_month: rules.corrections_per_month, within_ms: rules.grace_ms }
    }

    /// True if a day's tariff has a station.
    pub fn has(&self, day: ServiceDay, station: StationIndex) -> bool {
        self.on(day).network_index(station).is_some()
    }

    /// True if any version makes journeys cheaper for the sake of others.
    pub(crate) const fn adjusts(&self) -> bool {
        self.adjusts
    }

    /// The version in force on a day.
    pub(crate) fn on(&self, day: ServiceDay) -> &Compiled {
        &self.versions[self.index_on(day)]
    }

    fn index_on(&self, day: ServiceDay) -> usize {
        self.versions.partition_point(|v| v.effective_from <= day).saturating_sub(1)
    }
}

impl Compiled {
    /// Every period that something counts over, in the order of the steps.
    fn periods(&self) -> impl DoubleEndedIterator<Item = Period> + '_ {
        let missing = &self.missing_tap;
        let monthly = missing.corrections_per_month > 0 || missing.auto_completions_per_month > 0;
        let caps = self.caps.iter().map(|cap| cap.period);
        let spend = self.spend_discount.iter().map(|discount| discount.period);
        monthly.then_some(Period::Month).into_iter().chain(caps).chain(spend)
    }
}

impl Tariff {
    fn maximum_journey_ms(&self) -> i64 {
        self.networks.iter().map(|network| network.maximum_journey_ms).max().unwrap_or(0)
    }
}

fn compile(tariff: Tariff, stations: &[StationId], categories: &[String]) -> Compiled {
    let own: BTreeMap<&StationId, usize> =
        tariff.stations.iter().enumerate().map(|(i, station)| (&station.code, i)).collect();
    let own_station = stations.iter().map(|code| own.get(code).copied()).collect();
    let own_category = |name: &String| tariff.categories.iter().position(|c| c.name == *name).unwrap_or(0);
    let own_category = categories.iter().map(own_category).collect();
    let networks = tariff.networks.iter().enumerate().map(|(i, network)| Network {
        maximum_fare: network.maximum_fare,
        single_fare: network.single_fare,
        maximum_journey_ms: network.maximum_journey_ms,
        cheapest: tariff.tables.fares.iter().map(|table| cheapest(&tariff.stations, table, i)).collect(),
    });
    Compiled {
        effective_from: tariff.effective_from,
        passback_ms: tariff.passback_ms,
        same_station: tariff.same_station,
        missing_tap: tariff.missing_tap,
        networks: networks.collect(),
        transfer_discounts: tariff.transfer_discounts,
        caps: tariff.caps,
        spend_discount: tariff.spend_discount,
        day_types: tariff.day_types,
        time_bands: tariff.time_bands,
        categories: tariff.categories,
        own_category,
        own_station,
        stations: tariff.stations,
        tables: tariff.tables,
        round_to_fen: tariff.round_to_fen,
        operators: tariff.operators.into_iter().map(|operator| operator.code).collect(),
        graph: tariff.graph,
    }
}

/// The cheapest fare of a network in a table; nothing where the network has no fares.
fn cheapest(stations: &[super::Station], table: &[i32], network: usize) -> Fen {
    let rows = stations.iter().zip(table.chunks(stations.len().max(1)));
    let fares = rows.filter(|(station, _)| station.network == network).flat_map(|(_, row)| row);
    fares.filter(|&&fare| fare != NO_FARE).min().map_or(Fen::ZERO, |&fare| Fen(i64::from(fare)))
}
