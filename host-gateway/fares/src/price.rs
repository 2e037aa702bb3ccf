//! Pairs one token's taps into journeys and prices them.
//!
//! Taps are put in order of (time, station, kind, id) first, so that the order of their arrival changes nothing. Then
//! every decision looks at two neighbours only: an entry and the exit right after it make a journey if the exit is not
//! too late; of the same tap again at the same station within the passback window, the last entry and the first exit
//! count, because the rider went through between them. So a tap changes only the journeys it touches, and a day is
//! priced right from the taps within [`Tariffs::reach_ms`] of it. Single taps (a bus) stand beside: they end nothing.
//!
//! Where a tap is missing that could have been given while an emergency held barriers open, the journey is forgiven: the
//! missing exit of an entry from the entry on for the maximum journey time, the missing entry of an exit for as long
//! before it.

use std::ops::{Range, RangeInclusive};

use crate::day::{DayError, ServiceDay};
use crate::emergency::Periods;
use crate::fen::{Fen, Overflow};
use crate::tariff::{Compiled, StationIndex, Tariffs};

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
    /// The exit or the entry is missing, and an emergency may be why: nothing is charged.
    Forgiven,
    /// The day's tariff has no such station: nothing is charged, and somebody must look.
    Unpriced,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 5] =
        [Self::Complete, Self::SameStation, Self::Incomplete, Self::Forgiven, Self::Unpriced];

    /// The word that stores, files and reports use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::SameStation => "same_station",
            Self::Incomplete => "incomplete",
            Self::Forgiven => "forgiven",
            Self::Unpriced => "unpriced",
        }
    }
}

/// One or two taps, paired and priced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Journey {
    /// The service day of its first tap.
    pub day: ServiceDay,
    /// Where and when it began; `None` where the entry is missing. A single tap is an entry here.
    pub entered: Option<(StationIndex, i64)>,
    /// Where and when it ended; `None` where the exit is missing, and for a single tap.
    pub left: Option<(StationIndex, i64)>,
    /// The tap that names the journey: its first.
    pub first: TapId,
    /// Its second tap.
    pub second: Option<TapId>,
    /// The tariff's fare.
    pub nominal: Fen,
    /// What is charged after the journey's adjustments.
    pub charged: Fen,
    /// How it came out.
    pub status: Status,
}

/// A change to a day's charge that is no journey's own: a cap, a transfer discount, a correction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjustment {
    /// What for, in the words of reports.
    pub kind: &'static str,
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
    /// Its adjustments.
    pub adjustments: Vec<Adjustment>,
    /// The sum of its journeys' charges and its adjustments.
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

/// One token's taps, and the days that are asked for.
#[derive(Debug)]
pub struct Window<'a> {
    /// Every counted tap of the token from [`Tariffs::reach_ms`] before the first day to as much after the last, in
    /// any order. They are sorted in place.
    pub taps: &'a mut [Tap],
    /// The days to price.
    pub days: RangeInclusive<ServiceDay>,
    /// The emergencies of the whole network from [`Tariffs::maximum_journey_ms`] before the first day to as much after
    /// the last.
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
    let Window { taps, days, emergencies } = window;
    taps.sort_unstable();
    let journeys = Vec::with_capacity(taps.len());
    let mut pairing = Pairing { days: Days::new(tariffs), wanted: days, emergencies, journeys };
    pairing.rides(taps)?;
    pairing.singles(taps)?;
    let mut journeys = pairing.journeys;
    journeys.sort_unstable_by_key(|&(at, journey)| (journey.day, at));
    let journeys: Vec<Journey> = journeys.into_iter().map(|(_, journey)| journey).collect();
    let days = charge_days(&journeys)?;
    Ok(Priced { journeys, days })
}

fn charge_days(journeys: &[Journey]) -> Result<Vec<DayCharge>, PriceError> {
    let mut days = Vec::with_capacity(1);
    let mut start = 0;
    for group in journeys.chunk_by(|a, b| a.day == b.day) {
        let charge = Fen::sum(group.iter().map(|j| j.charged))?;
        let end = start + group.len();
        days.push(DayCharge { day: group[0].day, journeys: start..end, adjustments: Vec::new(), charge });
        start = end;
    }
    Ok(days)
}

/// The day of an instant, remembering the last: sorted taps mostly share it, and calendars cost more than fares.
struct Days<'t> {
    tariffs: &'t Tariffs,
    last: Option<(ServiceDay, Range<i64>, &'t Compiled)>,
}

impl<'t> Days<'t> {
    const fn new(tariffs: &'t Tariffs) -> Self {
        Self { tariffs, last: None }
    }

    fn of(&mut self, time_ms: i64) -> Result<(ServiceDay, &'t Compiled), DayError> {
        match &self.last {
            Some((day, span, tariff)) if span.contains(&time_ms) => Ok((*day, tariff)),
            _ => {
                let clock = self.tariffs.clock();
                let day = clock.day_of(time_ms)?;
                let tariff = self.tariffs.on(day);
                self.last = Some((day, clock.start_ms(day)..clock.end_ms(day), tariff));
                Ok((day, tariff))
            }
        }
    }
}

struct Pairing<'t> {
    days: Days<'t>,
    wanted: RangeInclusive<ServiceDay>,
    emergencies: &'t Periods,
    /// Each with the place of its first tap among the sorted taps.
    journeys: Vec<(usize, Journey)>,
}

impl Pairing<'_> {
    /// Entries and exits.
    fn rides(&mut self, taps: &[Tap]) -> Result<(), PriceError> {
        let mut previous: Option<(usize, &Tap)> = None;
        for (i, tap) in taps.iter().enumerate() {
            if tap.kind == Kind::Single || tap.passage == Passage::NotPassed {
                continue;
            }
            let before = previous.replace((i, tap));
            let open = before.filter(|(_, t)| t.kind == Kind::Entry);
            match (tap.kind, open) {
                (Kind::Entry, Some((at, entry))) if !self.again(entry, tap)? => self.incomplete(at, entry)?,
                (Kind::Exit, Some((at, entry))) if !self.complete(at, entry, tap)? => {
                    self.incomplete(at, entry)?;
                    self.incomplete(i, tap)?;
                }
                (Kind::Exit, None) => {
                    let again = match before {
                        Some((_, exit)) => self.again(exit, tap)?,
                        None => false,
                    };
                    if !again {
                        self.incomplete(i, tap)?;
                    }
                }
                _ => {}
            }
        }
        match previous {
            Some((at, entry)) if entry.kind == Kind::Entry => self.incomplete(at, entry),
            _ => Ok(()),
        }
    }

    /// Taps on vehicles.
    fn singles(&mut self, taps: &[Tap]) -> Result<(), PriceError> {
        let mut previous: Option<&Tap> = None;
        for (i, tap) in taps.iter().enumerate() {
            if tap.kind != Kind::Single || tap.passage == Passage::NotPassed {
                continue;
            }
            let again = match previous.replace(tap) {
                Some(before) => self.again(before, tap)?,
                None => false,
            };
            if !again {
                let (_, tariff) = self.days.of(tap.time_ms)?;
                let fare = tariff.has(tap.station).then_some(tariff.single_fare);
                self.push(i, tap, None, fare, Status::Complete)?;
            }
        }
        Ok(())
    }

    /// True if a tap is the one before it once more: the same kind at the same station within the passback window.
    fn again(&mut self, before: &Tap, tap: &Tap) -> Result<bool, PriceError> {
        if before.id == tap.id {
            return Ok(true);
        }
        let (_, tariff) = self.days.of(before.time_ms)?;
        let same = before.station == tap.station && before.kind == tap.kind;
        Ok(same && tariff.passback_ms > 0 && since(before, tap) <= tariff.passback_ms)
    }

    /// Entry and exit make a journey, unless the exit comes too late: then false.
    fn complete(&mut self, at: usize, entry: &Tap, exit: &Tap) -> Result<bool, PriceError> {
        let (_, tariff) = self.days.of(entry.time_ms)?;
        let took_ms = since(entry, exit);
        if took_ms > tariff.maximum_journey_ms {
            return Ok(false);
        }
        let mut fare = tariff.fare(entry.station, exit.station);
        let mut status = Status::Complete;
        if entry.station == exit.station {
            status = Status::SameStation;
            fare = fare.map(|_| match took_ms {
                t if t <= tariff.same_station.free_ms => Fen::ZERO,
                t if t <= tariff.same_station.cheapest_ms => tariff.cheapest_fare,
                _ => tariff.maximum_fare,
            });
        }
        self.push(at, entry, Some(exit), fare, status)?;
        Ok(true)
    }

    /// A tap without its other half: the maximum fare, unless an emergency may have swallowed the other half.
    fn incomplete(&mut self, at: usize, tap: &Tap) -> Result<(), PriceError> {
        let (_, tariff) = self.days.of(tap.time_ms)?;
        let fare = tariff.has(tap.station).then_some(tariff.maximum_fare);
        let missing = match tap.kind {
            Kind::Exit => tap.time_ms.saturating_sub(tariff.maximum_journey_ms)..=tap.time_ms,
            _ => tap.time_ms..=tap.time_ms.saturating_add(tariff.maximum_journey_ms),
        };
        let forgiven = self.emergencies.meet(&missing);
        self.push(at, tap, None, fare, if forgiven { Status::Forgiven } else { Status::Incomplete })
    }

    fn push(
        &mut self,
        at: usize,
        first: &Tap,
        second: Option<&Tap>,
        fare: Option<Fen>,
        status: Status,
    ) -> Result<(), PriceError> {
        let (day, _) = self.days.of(first.time_ms)?;
        if !self.wanted.contains(&day) {
            return Ok(());
        }
        let place = |tap: &Tap| (tap.station, tap.time_ms);
        let (entered, left) = match first.kind {
            Kind::Exit => (None, Some(place(first))),
            Kind::Entry | Kind::Single => (Some(place(first)), second.map(place)),
        };
        let nominal = fare.unwrap_or(Fen::ZERO);
        let status = if fare.is_some() { status } else { Status::Unpriced };
        let charged = if status == Status::Forgiven { Fen::ZERO } else { nominal };
        let second = second.map(|tap| tap.id);
        let journey = Journey { day, entered, left, first: first.id, second, nominal, charged, status };
        self.journeys.push((at, journey));
        Ok(())
    }
}

/// Milliseconds from one tap to a later one. Both have a service day, so the difference cannot overflow.
const fn since(before: &Tap, tap: &Tap) -> i64 {
    tap.time_ms.saturating_sub(before.time_ms)
}
