//! The tariff: read from a file, checked, and compiled into tables of fares.
//!
//! A tariff is data (TOML). Everything that a city may decide otherwise is in it: what a journey costs by distance,
//! zones, pairs of stations or flat, by rider and by time of day; what an incomplete journey costs and how long a
//! journey may last; transfers, caps and discounts. A file that breaks a rule is refused with every fault's name, the
//! file and, where one line is to blame, the line ([`Tariff::check`]). Several tariffs, each from a date, make
//! [`Tariffs`].

mod compiled;
mod fault;
mod file;
mod read;
mod shares;
mod tables;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use compiled::{Category, CorrectionRules, StationIndex, Tariffs};
pub(crate) use compiled::{Compiled, Terms};
pub use fault::{Fault, TariffError};
pub use file::MeasuredFrom;
pub use shares::{Share, ShareMethod, Sharer};
use tables::Tables;
pub(crate) use tables::part;

use crate::day::{DayClock, ServiceDay};
use crate::fen::{Fen, Overflow};
use crate::network::{Graph, StationId};
use crate::period::Period;

/// The largest tariff file that is read: 2,000 stations need less than a tenth.
pub const MAX_FILE_BYTES: usize = 4 << 20;
/// The dearest fare a tariff may set, in fen. With it no day's sum comes near 64 bits.
pub const MAX_FARE_FEN: i64 = 100_000_000;
/// The longest journey a tariff may allow: one day, so that a day's journeys end within the next.
pub const MAX_JOURNEY_MINUTES: u32 = 24 * 60;
/// The longest passback window: an hour.
pub const MAX_PASSBACK_SECONDS: u32 = 3_600;
/// The longest that a missing tap may still be told or found: eight weeks.
pub const MAX_GRACE_HOURS: u32 = 56 * 24;
/// The longest time within which the next tap completes a journey: four days.
pub const MAX_AUTO_COMPLETE_HOURS: u32 = 96;
/// The highest zone: zones of a station are bits of a word.
pub const MAX_ZONE: u32 = 63;
/// The category that a rider without another has; a tariff need not name it.
pub const STANDARD_CATEGORY: &str = "adult";

/// A station as riders know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Station {
    /// Its code, as gates and taps name it.
    pub code: StationId,
    /// Its name.
    pub name: String,
    /// Its network, as an index of [`Tariff::networks`].
    pub network: usize,
    /// Who runs it, as an index of [`Tariff::operators`].
    pub operator: Option<usize>,
    /// The zones it lies in, a bit each; none where the tariff gives none.
    pub zones: u64,
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
    /// Who runs it, as an index of [`Tariff::operators`].
    pub operator: Option<usize>,
}

/// A network: stations between which one ticket takes a rider. A tariff without networks has one, without a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its code.
    pub code: String,
    /// Its name.
    pub name: String,
    /// What an incomplete journey costs, and the most that any journey may.
    pub maximum_fare: Fen,
    /// A `single` tap's flat fare.
    pub single_fare: Fen,
    /// An exit later than this after its entry is none of its journey, in milliseconds.
    pub maximum_journey_ms: i64,
    /// The fare between any two stations that no other rule prices.
    pub flat_fare: Option<Fen>,
    /// The fare by distance.
    pub distance_fare: Option<DistanceFare>,
}

/// One of several operators that riders' fares are shared among.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// Its code.
    pub code: String,
    /// Its name.
    pub name: String,
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

/// A fare between zones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneFare {
    /// Between which zones.
    pub zones: Zones,
    /// The fare.
    pub fare: Fen,
    /// Only in this network, an index of [`Tariff::networks`].
    pub network: Option<usize>,
    /// For whom and when.
    pub only: Only,
}

/// Which zones a fare is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zones {
    /// Between two zones, either way; the same twice is a fare within it.
    Between(u32, u32),
    /// However many zones, those of both ends counted.
    Crossed(u32),
}

/// A fare between two stations, one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairFare {
    /// From, an index of [`Tariff::stations`].
    pub from: usize,
    /// To.
    pub to: usize,
    /// The fare.
    pub fare: Fen,
    /// For whom and when.
    pub only: Only,
}

/// Whom and when a fare is for; nothing named: everybody, always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Only {
    /// An index of [`Tariff::categories`].
    pub category: Option<usize>,
    /// An index of [`Tariff::time_bands`].
    pub time_band: Option<usize>,
}

/// Days that fares and caps tell from others.
#[derive(Debug, Clone, PartialEq)]
pub struct DayType {
    /// Its name.
    pub name: String,
    /// Weekdays of it.
    pub weekdays: Vec<jiff::civil::Weekday>,
    /// Single days of it, in order.
    pub dates: BTreeSet<ServiceDay>,
}

/// A time of day in which journeys begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeBand {
    /// Its name.
    pub name: String,
    /// On which days, as indices of [`Tariff::day_types`]; none named: on every day.
    pub day_types: Vec<usize>,
    /// From this second of the local day on.
    pub from_s: u32,
    /// Before this one. Not after `from_s`: the band goes past midnight.
    pub to_s: u32,
    /// What part of a fare is paid.
    pub percent: u32,
    /// What is added to that, in fen.
    pub add_fen: i64,
}

/// What riders of a kind pay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CategoryRule {
    /// Its name.
    pub name: String,
    /// What part of a fare is paid.
    pub percent: u32,
    /// What an incomplete journey costs; otherwise the same part of the network's.
    pub maximum_fare: Option<Fen>,
}

/// A discount on a journey that follows another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferDiscount {
    /// Networks that a chain of journeys may begin in, a bit each.
    pub from: u64,
    /// Networks that the discounted journey may be in, a bit each.
    pub to: u64,
    /// The journey must begin within this, in milliseconds.
    pub within_ms: i64,
    /// Of what.
    pub measured_from: MeasuredFrom,
    /// How many journeys of a chain may be discounted.
    pub times: u32,
    /// By how much.
    pub off: TransferOff,
}

/// By how much a transfer makes a journey cheaper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferOff {
    /// By this part of its fare.
    Percent(u32),
    /// By so much, at most its fare.
    Amount(Fen),
    /// The chain costs as much as its dearest journey.
    PayDearest,
}

/// The most that a rider's journeys of a period cost together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cap {
    /// Its name.
    pub name: String,
    /// Over which days.
    pub period: Period,
    /// The most.
    pub limit: Fen,
    /// Only journeys within these zones, a bit each; 0: all.
    pub zones: u64,
    /// Only journeys in these networks, a bit each.
    pub networks: u64,
    /// Only these categories, as indices of [`Tariff::categories`]; none named: all.
    pub categories: Vec<usize>,
    /// Only journeys that begin in these time bands; none named: always.
    pub time_bands: Vec<usize>,
}

/// Discounts that grow with what a rider has paid in a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpendDiscount {
    /// Over which days.
    pub period: Period,
    /// Only journeys in these networks, a bit each.
    pub networks: u64,
    /// From what was paid on, and what part of a fare is paid then: rising.
    pub steps: Vec<(Fen, u32)>,
}

/// What is done for a rider who forgot to tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MissingTap {
    /// How long after the tap that there is the other may be told, in milliseconds.
    pub grace_ms: i64,
    /// How many a calendar month may be told.
    pub corrections_per_month: u32,
    /// How soon the next tap must come to stand for the missing one, in milliseconds.
    pub auto_complete_ms: i64,
    /// How many a calendar month may be completed so.
    pub auto_completions_per_month: u32,
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
    /// The same station again within this is the same tap, in milliseconds.
    pub passback_ms: i64,
    /// Parts of a fare are rounded to a multiple of this, halves up, in fen.
    pub round_to_fen: i64,
    /// Leaving where one entered.
    pub same_station: SameStation,
    /// Missing taps.
    pub missing_tap: MissingTap,
    /// The networks, in the file's order; at least one.
    pub networks: Vec<Network>,
    /// The operators, in the file's order.
    pub operators: Vec<Operator>,
    /// The stations, in the file's order.
    pub stations: Vec<Station>,
    /// The lines, in the file's order.
    pub lines: Vec<Line>,
    /// Fares between zones.
    pub zone_fares: Vec<ZoneFare>,
    /// Fares between stations.
    pub pair_fares: Vec<PairFare>,
    /// Kinds of days; the first that fits is a day's.
    pub day_types: Vec<DayType>,
    /// Times of day; the first that fits is a journey's.
    pub time_bands: Vec<TimeBand>,
    /// Kinds of riders; the first is [`STANDARD_CATEGORY`].
    pub categories: Vec<CategoryRule>,
    /// Transfers; the first that gives something is a journey's.
    pub transfer_discounts: Vec<TransferDiscount>,
    /// Caps, those of shorter periods first.
    pub caps: Vec<Cap>,
    /// The discount by what was paid.
    pub spend_discount: Option<SpendDiscount>,
    /// Platforms and ways between them.
    graph: Arc<Graph>,
    /// Metres of the shortest way from each station to each, row by row in the order of `stations`; `u32::MAX` where no
    /// way leads.
    distances_m: Arc<[u32]>,
    /// Fares of all pairs of stations.
    tables: Arc<Tables>,
}

impl Tariff {
    /// Reads and checks a tariff file's text; `file` is the name that faults are told with. Of several faults the
    /// first.
    pub fn parse(file: &str, text: &str) -> Result<Self, TariffError> {
        Self::check(file, text).map_err(|faults| {
            let none = TariffError { file: file.to_owned(), line: None, fault: Fault::None };
            faults.into_iter().next().unwrap_or(none)
        })
    }

    /// Reads and checks a tariff file's text, and names every fault it finds, in the order of lines; never none. What
    /// is not TOML, or lacks a field, ends the search.
    pub fn check(file: &str, text: &str) -> Result<Self, Vec<TariffError>> {
        read::read(file, text)
    }

    /// Metres of the shortest way between two stations; `None` for a code that is not in the network, and where no way
    /// leads.
    pub fn distance_m(&self, from: &str, to: &str) -> Option<u32> {
        let index = |code: &str| self.stations.iter().position(|s| s.code.as_str() == code);
        let metres = self.distances_m[index(from)? * self.stations.len() + index(to)?];
        (metres != u32::MAX).then_some(metres)
    }

    /// Metres of the shortest ways from a station to each, by their indices in [`stations`](Self::stations); `u32::MAX` where
    /// no way leads. Nothing for an index beyond them.
    pub fn distances_m(&self, from: usize) -> &[u32] {
        let n = self.stations.len();
        self.distances_m.get(from * n..(from + 1) * n).unwrap_or_default()
    }

    /// This tariff alone, compiled.
    pub fn compile(self) -> Result<Tariffs, TariffError> {
        Tariffs::new(vec![self])
    }
}
