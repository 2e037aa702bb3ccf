//! Pairs one token's taps into journeys and prices them.
//!
//! Taps are put in order of (time, station, kind, id) first, so that the order of their arrival changes nothing. Then:
//!
//! 1. **Pairing** (`pairing.rs`) looks at two neighbours at a time and makes journeys with two taps or one.
//! 2. **Nominal fare**: what the tariff of the journey's day says for its stations, the rider's category and the time
//!    of its first tap. Leaving where one entered has rules of its own. Half a journey costs the maximum fare, unless
//!    an emergency forgives it, the rider told the missing station in time (a [`Correction`]), or the next tap shows
//!    it.
//! 3. **Adjustments** (`adjust.rs`), journey by journey in order, each making it cheaper at most: transfer discount,
//!    daily cap, weekly cap, caps of several days, discount by what was paid.
//!
//! So a journey's charge is its nominal fare less its adjustments, and a day's charge the sum of its journeys' charges.
//! The maximum fare of half a journey, or of leaving very late where one entered, is never reduced and counts towards
//! nothing. What a day costs depends on the taps of its [`Tariffs::window`] and [`Tariffs::reach_ms`] around it, and on
//! no other.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use crate::adjust::{Adjuster, Off, Ride};
use crate::day::{DayError, ServiceDay};
use crate::emergency::Periods;
use crate::fen::{Fen, Overflow};
use crate::pairing::{Pair, Shape, pairs};
use crate::period::Period;
use crate::tariff::{Category, Compiled, StationIndex, Tariffs, Terms};

/// What a tap was for, in the order that equal times are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Into the paid area.
    Entry,
    /// Out of it.
    Exit,
    /// On a vehicle with one tap a ride: the flat fare.
    Single,
}

impl Kind {
    /// The word that files and reports use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::Exit => "exit",
            Self::Single => "single",
        }
    }
}

/// What the barrier saw after the opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Passage {
    /// Nothing was told: counted as passed, because the gate had opened.
    #[default]
    Unknown,
    /// Somebody passed.
    Passed,
    /// Nobody passed: the tap does not count.
    NotPassed,
}

/// A tap's name: the initial key id it was sealed under and its sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TapId {
    /// The initial key id.
    pub key: [u8; 8],
    /// The sequence number under it.
    pub sequence: u32,
}

/// An opened tap that counts (refusals and repeats never reach pricing).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tap {
    /// When, in milliseconds since 1970-01-01 UTC.
    pub time_ms: i64,
    /// Where.
    pub station: StationIndex,
    /// What for.
    pub kind: Kind,
    /// Which.
    pub id: TapId,
    /// What the barrier saw.
    pub passage: Passage,
}

/// How a journey came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Status {
    /// Entry and exit, or a single tap.
    Complete,
    /// Exit where the entry was.
    SameStation,
    /// The exit or the entry is missing: the maximum fare.
    Incomplete,
    /// The exit or the entry is missing, and the rider told where it was.
    Corrected,
    /// The exit or the entry is missing, and the tap after or before it shows where it was.
    AutoCompleted,
    /// The exit or the entry is missing, and an emergency may be why: nothing is charged.
    Forgiven,
    /// The day has no tariff, or its tariff no such station or fare: nothing is charged, and somebody must look.
    Unpriced,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 7] = [
        Self::Complete,
        Self::SameStation,
        Self::Incomplete,
        Self::Corrected,
        Self::AutoCompleted,
        Self::Forgiven,
        Self::Unpriced,
    ];

    /// The word that stores, files and reports use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::SameStation => "same_station",
            Self::Incomplete => "incomplete",
            Self::Corrected => "corrected",
            Self::AutoCompleted => "auto_completed",
            Self::Forgiven => "forgiven",
            Self::Unpriced => "unpriced",
        }
    }
}

/// Where a journey began or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The station.
    pub station: StationIndex,
    /// When, in milliseconds since 1970-01-01 UTC; `None` where no tap tells.
    pub time_ms: Option<i64>,
}

/// One or two taps, paired and priced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Journey {
    /// The service day of its first tap.
    pub day: ServiceDay,
    /// Where and when it began; `None` where the entry is missing. A single tap is an entry here.
    pub entered: Option<Place>,
    /// Where and when it ended; `None` where the exit is missing, and for a single tap.
    pub left: Option<Place>,
    /// The tap that names the journey: its first.
    pub first: TapId,
    /// Its second tap.
    pub second: Option<TapId>,
    /// The tariff's fare.
    pub nominal: Fen,
    /// What is charged after adjustments.
    pub charged: Fen,
    /// How it came out.
    pub status: Status,
}

/// Why journeys of a day are charged less than their nominal fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AdjustmentKind {
    /// An emergency.
    Forgiven,
    /// Journeys that follow one another.
    Transfer,
    /// A cap of one day.
    DailyCap,
    /// A cap of a week.
    WeeklyCap,
    /// A cap of several days or a month.
    MultiDayCap,
    /// What was paid before.
    SpendDiscount,
}

impl AdjustmentKind {
    /// Every kind, in the order in which they apply.
    pub const ALL: [Self; 6] = [
        Self::Forgiven,
        Self::Transfer,
        Self::DailyCap,
        Self::WeeklyCap,
        Self::MultiDayCap,
        Self::SpendDiscount,
    ];

    /// The word that stores, files and reports use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forgiven => "forgiven",
            Self::Transfer => "transfer",
            Self::DailyCap => "daily_cap",
            Self::WeeklyCap => "weekly_cap",
            Self::MultiDayCap => "multi_day_cap",
            Self::SpendDiscount => "spend_discount",
        }
    }
}

/// What one cause takes off a day's nominal fares. The journeys' charges hold it already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adjustment {
    /// The cause.
    pub kind: AdjustmentKind,
    /// Negative: in the rider's favour.
    pub fen: Fen,
}

/// What a token owes for one service day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayCharge {
    /// The day.
    pub day: ServiceDay,
    /// Its journeys, as a range of [`Priced::journeys`].
    pub journeys: Range<usize>,
    /// Why they are charged less than their nominal fares, a line for each cause.
    pub adjustments: Vec<Adjustment>,
    /// The sum of its journeys' charges; likewise the sum of their nominal fares and the adjustments.
    pub charge: Fen,
}

/// One token's journeys and charges.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Priced {
    /// By day, then by first tap.
    pub journeys: Vec<Journey>,
    /// The days that have journeys, in order.
    pub days: Vec<DayCharge>,
}

/// A rider told where the tap was given that a journey lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Correction {
    /// The tap that there is.
    pub tap: TapId,
    /// When the rider told, in milliseconds since 1970-01-01 UTC.
    pub asked_ms: i64,
    /// Where the other one was.
    pub station: StationIndex,
}

/// One token's taps, and the days that are asked for.
#[derive(Debug)]
pub struct Window<'a> {
    /// Every counted tap of the token from [`Tariffs::reach_ms`] before the first day of the [`Tariffs::window`] of the
    /// first day to as much after the last day, in any order. They are sorted in place.
    pub taps: &'a mut [Tap],
    /// What the rider told of journeys of these days, in any order. Of several for a tap the earliest counts.
    pub corrections: &'a [Correction],
    /// The rider's category.
    pub category: Category,
    /// The days to price.
    pub days: RangeInclusive<ServiceDay>,
    /// The emergencies of the whole network from [`Tariffs::maximum_journey_ms`] before the first day of taps to as
    /// much after the last.
    pub emergencies: &'a Periods,
}

/// Why taps cannot be priced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// A day's charge is beyond 64 bits.
    #[error(transparent)]
    Overflow(#[from] Overflow),
    /// A tap's time is on no service day.
    #[error(transparent)]
    Day(#[from] DayError),
}

/// Prices one token's taps.
pub fn price(tariffs: &Tariffs, window: Window<'_>) -> Result<Priced, PriceError> {
    let Window { taps, corrections, category, days, emergencies } = window;
    taps.sort_unstable();
    let from = *tariffs.window(*days.start()).start();
    let pairs = pairs(tariffs, taps, from..=*days.end(), emergencies)?;
    let mut pricing = Pricing {
        tariffs,
        category,
        corrections: Corrections::new(corrections),
        adjuster: Adjuster::new(tariffs, category),
        priced: Priced { journeys: Vec::with_capacity(pairs.len()), days: Vec::with_capacity(1) },
        off: Off::default(),
    };
    for pair in &pairs {
        pricing.journey(taps, pair, days.contains(&pair.day))?;
    }
    pricing.end_day()?;
    Ok(pricing.priced)
}

/// What riders told, and how many completions a month has seen.
struct Corrections {
    told: BTreeMap<TapId, Correction>,
    month: Option<RangeInclusive<ServiceDay>>,
    corrected: u32,
    completed: u32,
}

impl Corrections {
    fn new(corrections: &[Correction]) -> Self {
        let mut told: BTreeMap<TapId, Correction> = BTreeMap::new();
        for &correction in corrections {
            let kept = told.entry(correction.tap).or_insert(correction);
            *kept = correction.min(*kept);
        }
        Self { told, month: None, corrected: 0, completed: 0 }
    }

    /// Where the missing tap of half a journey was, if the tariff lets that be known.
    fn other_half(
        &mut self,
        tariff: &Compiled,
        tap: &Tap,
        pair: &Pair<'_>,
    ) -> Option<(StationIndex, Status)> {
        let rules = &tariff.missing_tap;
        if rules.corrections_per_month == 0 && rules.auto_completions_per_month == 0 {
            return None;
        }
        if !self.month.as_ref().is_some_and(|month| month.contains(&pair.day)) {
            self.month = Some(Period::Month.around(pair.day));
            (self.corrected, self.completed) = (0, 0);
        }
        let in_time = tap.time_ms..=tap.time_ms.saturating_add(rules.grace_ms);
        let told = self.told.get(&tap.id).filter(|told| in_time.contains(&told.asked_ms));
        let fits = |station: &StationIndex| {
            *station != tap.station && tariff.network_index(*station) == tariff.network_index(tap.station)
        };
        if let Some(station) = told.map(|told| told.station).filter(fits)
            && self.corrected < rules.corrections_per_month
        {
            self.corrected += 1;
            return Some((station, Status::Corrected));
        }
        let station = pair.shown.filter(fits)?;
        (self.completed < rules.auto_completions_per_month).then(|| {
            self.completed += 1;
            (station, Status::AutoCompleted)
        })
    }
}

struct Pricing<'t> {
    tariffs: &'t Tariffs,
    category: Category,
    corrections: Corrections,
    adjuster: Adjuster<'t>,
    priced: Priced,
    /// What was taken off the day that is being priced.
    off: Off,
}

impl<'t> Pricing<'t> {
    /// Prices a journey; it is kept only if its day is asked for.
    fn journey(&mut self, taps: &[Tap], pair: &Pair<'t>, wanted: bool) -> Result<(), PriceError> {
        let (tap, tariff) = (&taps[pair.first], pair.tariff);
        let second = pair.second.map(|second| &taps[second]);
        let terms = tariff.terms(self.tariffs.clock(), self.category, pair.day, tap.time_ms);
        let place = |tap: &Tap| Place { station: tap.station, time_ms: Some(tap.time_ms) };
        let (mut entered, mut left) = match tap.kind {
            Kind::Exit => (None, Some(place(tap))),
            Kind::Entry | Kind::Single => (Some(place(tap)), second.map(place)),
        };
        let (fare, status, reducible) = match pair.shape {
            Shape::Single => (tariff.single_fare(terms, tap.station), Status::Complete, true),
            Shape::Whole => {
                let exit = second.unwrap_or(tap);
                let (fare, reducible) = whole(tariff, terms, tap, exit);
                let same = tap.station == exit.station;
                (fare, if same { Status::SameStation } else { Status::Complete }, reducible)
            }
            Shape::Half if pair.forgiven => {
                (tariff.maximum_fare(terms, tap.station), Status::Forgiven, false)
            }
            Shape::Half => match self.corrections.other_half(tariff, tap, pair) {
                Some((station, status)) => {
                    let other = Some(Place { station, time_ms: None });
                    let (from, to) = match tap.kind {
                        Kind::Exit => {
                            entered = other;
                            (station, tap.station)
                        }
                        _ => {
                            left = other;
                            (tap.station, station)
                        }
                    };
                    (tariff.fare(terms, from, to), status, true)
                }
                None => (tariff.maximum_fare(terms, tap.station), Status::Incomplete, false),
            },
        };
        let fare = fare.filter(|_| self.tariffs.prices(pair.day));
        let nominal = fare.unwrap_or(Fen::ZERO);
        let status = if fare.is_some() { status } else { Status::Unpriced };
        let mut journey = Journey {
            day: pair.day,
            entered,
            left,
            first: tap.id,
            second: second.map(|tap| tap.id),
            nominal,
            charged: nominal,
            status,
        };
        let mut off = Off::default();
        if status == Status::Forgiven {
            off.add(AdjustmentKind::Forgiven, nominal)?;
            journey.charged = Fen::ZERO;
        } else if reducible && status != Status::Unpriced {
            let ride = Ride::new(&journey, tap, second);
            journey.charged = self.adjuster.adjust(tariff, terms, ride, nominal, &mut off)?;
        }
        if wanted {
            self.keep(journey, &off)?;
        }
        Ok(())
    }

    fn keep(&mut self, journey: Journey, off: &Off) -> Result<(), PriceError> {
        if self.priced.journeys.last().is_some_and(|last| last.day != journey.day) {
            self.end_day()?;
        }
        self.off.merge(off)?;
        self.priced.journeys.push(journey);
        Ok(())
    }

    /// Sums up the day whose journeys were kept last.
    fn end_day(&mut self) -> Result<(), PriceError> {
        let start = self.priced.days.last().map_or(0, |day| day.journeys.end);
        let journeys = &self.priced.journeys[start..];
        let Some(first) = journeys.first() else { return Ok(()) };
        let charge = Fen::sum(journeys.iter().map(|journey| journey.charged))?;
        let adjustments = std::mem::take(&mut self.off).adjustments()?;
        let end = self.priced.journeys.len();
        self.priced.days.push(DayCharge { day: first.day, journeys: start..end, adjustments, charge });
        Ok(())
    }
}

/// The fare of a journey with both taps, and whether it can be reduced and counts towards caps.
fn whole(tariff: &Compiled, terms: Terms, entry: &Tap, exit: &Tap) -> (Option<Fen>, bool) {
    if entry.station != exit.station {
        return (tariff.fare(terms, entry.station, exit.station), true);
    }
    let there = tariff.network_index(entry.station).map(|_| Fen::ZERO);
    match since(entry, exit) {
        took_ms if took_ms <= tariff.same_station.free_ms => (there, true),
        took_ms if took_ms <= tariff.same_station.cheapest_ms => {
            (tariff.cheapest_fare(terms, entry.station), true)
        }
        _ => (tariff.maximum_fare(terms, entry.station), false),
    }
}

/// Milliseconds from one tap to a later one. Both have a service day, so the difference cannot overflow.
pub(crate) const fn since(before: &Tap, tap: &Tap) -> i64 {
    tap.time_ms.saturating_sub(before.time_ms)
}
