//! From sorted taps to pairs of entry and exit.
//!
//! Every decision looks at two neighbours only: an entry and the exit right after it make a journey if the exit is in
//! the same network and not too late; of the same tap again at the same station within the passback window, the last
//! entry and the first exit count, because the rider went through between them. So a tap changes only the journeys it
//! touches. Single taps (a bus) stand beside: they end nothing.
//!
//! Where a tap is missing that could have been given while an emergency held barriers open, the journey is forgiven:
//! the missing exit of an entry from the entry on for the maximum journey time, the missing entry of an exit for as
//! long before it. Where the next tap is an entry elsewhere soon enough, it shows where a missing exit was; likewise
//! the exit before an exit.

use std::ops::{Range, RangeInclusive};

use crate::day::{DayError, ServiceDay};
use crate::emergency::Periods;
use crate::price::{Kind, Passage, Tap, since};
use crate::tariff::{Compiled, StationIndex, Tariffs};

/// What taps make together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Entry and exit.
    Whole,
    /// One of them.
    Half,
    /// A single tap.
    Single,
}

/// One or two taps, by their places among the sorted ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair<'t> {
    pub(crate) day: ServiceDay,
    pub(crate) first: usize,
    pub(crate) second: Option<usize>,
    pub(crate) shape: Shape,
    /// The version in force on the day.
    pub(crate) tariff: &'t Compiled,
    /// Half a journey: an emergency may be why.
    pub(crate) forgiven: bool,
    /// Half a journey: where a neighbouring tap shows the missing one.
    pub(crate) shown: Option<StationIndex>,
}

/// Pairs sorted taps; gives what belongs to the wanted days, by day and then by first tap.
pub(crate) fn pairs<'t>(
    tariffs: &'t Tariffs,
    taps: &[Tap],
    wanted: RangeInclusive<ServiceDay>,
    emergencies: &Periods,
) -> Result<Vec<Pair<'t>>, DayError> {
    let days = Days { tariffs, last: None };
    let mut pairing = Pairing { days, taps, wanted, emergencies, pairs: Vec::with_capacity(taps.len()) };
    pairing.rides()?;
    pairing.singles()?;
    let mut pairs = pairing.pairs;
    pairs.sort_unstable_by_key(|pair| (pair.day, pair.first));
    Ok(pairs)
}

/// The day of an instant, remembering the last: sorted taps mostly share it, and calendars cost more than fares.
struct Days<'t> {
    tariffs: &'t Tariffs,
    last: Option<(ServiceDay, Range<i64>, &'t Compiled)>,
}

impl<'t> Days<'t> {
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

struct Pairing<'t, 'a> {
    days: Days<'t>,
    taps: &'a [Tap],
    wanted: RangeInclusive<ServiceDay>,
    emergencies: &'a Periods,
    pairs: Vec<Pair<'t>>,
}

impl Pairing<'_, '_> {
    /// Entries and exits.
    fn rides(&mut self) -> Result<(), DayError> {
        let mut previous: Option<usize> = None;
        for (i, tap) in self.taps.iter().enumerate() {
            if tap.kind == Kind::Single || tap.passage == Passage::NotPassed {
                continue;
            }
            let before = previous.replace(i).map(|at| (at, &self.taps[at]));
            let open = before.filter(|(_, t)| t.kind == Kind::Entry);
            match (tap.kind, open) {
                (Kind::Entry, Some((at, entry))) if !self.again(entry, tap)? => self.half(at, Some(tap))?,
                (Kind::Exit, Some((at, entry))) if self.joined(entry, tap)? => {
                    self.push(at, Some(i), Shape::Whole)?;
                }
                (Kind::Exit, Some((at, _))) => {
                    self.half(at, None)?;
                    self.half(i, None)?;
                }
                (Kind::Exit, None) => {
                    let again = match before {
                        Some((_, exit)) => self.again(exit, tap)?,
                        None => false,
                    };
                    if !again {
                        self.half(i, before.map(|(_, exit)| exit))?;
                    }
                }
                _ => {}
            }
        }
        match previous {
            Some(at) if self.taps[at].kind == Kind::Entry => self.half(at, None),
            _ => Ok(()),
        }
    }

    /// Taps on vehicles.
    fn singles(&mut self) -> Result<(), DayError> {
        let mut previous: Option<&Tap> = None;
        for (i, tap) in self.taps.iter().enumerate() {
            if tap.kind != Kind::Single || tap.passage == Passage::NotPassed {
                continue;
            }
            let again = match previous.replace(tap) {
                Some(before) => self.again(before, tap)?,
                None => false,
            };
            if !again {
                self.push(i, None, Shape::Single)?;
            }
        }
        Ok(())
    }

    /// True if the later tap repeats the earlier: the very same, or at the same station within the passback window.
    fn again(&mut self, before: &Tap, tap: &Tap) -> Result<bool, DayError> {
        if before.id == tap.id {
            return Ok(true);
        }
        let (_, tariff) = self.days.of(before.time_ms)?;
        let same = before.station == tap.station && before.kind == tap.kind;
        Ok(same && tariff.passback_ms > 0 && since(before, tap) <= tariff.passback_ms)
    }

    /// True if an entry and an exit make a journey. Where the tariff lacks a station they do, for somebody to look at.
    fn joined(&mut self, entry: &Tap, exit: &Tap) -> Result<bool, DayError> {
        let (_, tariff) = self.days.of(entry.time_ms)?;
        let networks = (tariff.network_index(entry.station), tariff.network_index(exit.station));
        let one_network = match networks {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        Ok(one_network && since(entry, exit) <= self.maximum_journey_ms(tariff, entry))
    }

    fn maximum_journey_ms(&self, tariff: &Compiled, tap: &Tap) -> i64 {
        let network = tariff.network(tap.station);
        network.map_or(self.days.tariffs.maximum_journey_ms(), |network| network.maximum_journey_ms)
    }

    /// A tap without its other half. A neighbour of the same kind may show where that was.
    fn half(&mut self, at: usize, neighbour: Option<&Tap>) -> Result<(), DayError> {
        let tap = &self.taps[at];
        let (day, tariff) = self.days.of(tap.time_ms)?;
        if !self.wanted.contains(&day) {
            return Ok(());
        }
        let journey_ms = self.maximum_journey_ms(tariff, tap);
        let missing = match tap.kind {
            Kind::Exit => tap.time_ms.saturating_sub(journey_ms)..=tap.time_ms,
            _ => tap.time_ms..=tap.time_ms.saturating_add(journey_ms),
        };
        let soon = |other: &&Tap| {
            other.kind == tap.kind
                && tap.time_ms.abs_diff(other.time_ms) <= tariff.missing_tap.auto_complete_ms.unsigned_abs()
        };
        let shown = neighbour.filter(soon).map(|other| other.station);
        let forgiven = self.emergencies.meet(&missing);
        let shape = Shape::Half;
        self.pairs.push(Pair { day, first: at, second: None, shape, tariff, forgiven, shown });
        Ok(())
    }

    fn push(&mut self, first: usize, second: Option<usize>, shape: Shape) -> Result<(), DayError> {
        let (day, tariff) = self.days.of(self.taps[first].time_ms)?;
        if self.wanted.contains(&day) {
            self.pairs.push(Pair { day, first, second, shape, tariff, forgiven: false, shown: None });
        }
        Ok(())
    }
}
