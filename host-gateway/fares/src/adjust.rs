//! What makes journeys cheaper: transfers, caps, and discounts by what was paid.
//!
//! Journeys come in order, and each is reduced by what those before it of the same period cost. Later journeys never
//! change earlier ones. A cap is the most that the journeys it speaks of are charged in its period; a journey pays what
//! the tightest of its caps leaves. Each cap counts what is left of a journey after it, not after later steps: so a day
//! hangs on the days of its periods, step by step, and not on every day before. Where a new version of the tariff
//! begins inside a period, its caps and discounts count what was charged in the end. A chain of transfers lies within
//! one service day.

use std::ops::RangeInclusive;

use crate::day::ServiceDay;
use crate::fen::{Fen, Overflow};
use crate::period::Period;
use crate::price::{Adjustment, AdjustmentKind, Journey, Kind, Place, Status, Tap};
use crate::tariff::{
    Category, Compiled, MeasuredFrom, SpendDiscount, StationIndex, Tariffs, Terms, TransferDiscount,
    TransferOff, part,
};

/// What was taken off, by cause: amounts that are not negative.
#[derive(Debug, Default)]
pub(crate) struct Off([Fen; AdjustmentKind::ALL.len()]);

impl Off {
    pub(crate) fn add(&mut self, kind: AdjustmentKind, fen: Fen) -> Result<(), Overflow> {
        let slot = &mut self.0[kind as usize];
        *slot = slot.plus(fen)?;
        Ok(())
    }

    pub(crate) fn merge(&mut self, other: &Self) -> Result<(), Overflow> {
        for (kind, &fen) in AdjustmentKind::ALL.into_iter().zip(&other.0) {
            self.add(kind, fen)?;
        }
        Ok(())
    }

    pub(crate) fn adjustments(self) -> Result<Vec<Adjustment>, Overflow> {
        let some = AdjustmentKind::ALL.into_iter().zip(self.0).filter(|(_, fen)| !fen.is_zero());
        some.map(|(kind, fen)| Ok(Adjustment { kind, fen: fen.negated()? })).collect()
    }
}

/// Where and when a journey led, as rules about it ask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ride {
    day: ServiceDay,
    from: StationIndex,
    to: StationIndex,
    start_ms: i64,
    end_ms: i64,
    /// It led somewhere, so that a journey may follow it.
    led: bool,
}

impl Ride {
    pub(crate) fn new(journey: &Journey, first: &Tap, second: Option<&Tap>) -> Self {
        let station = |place: Option<Place>| place.map_or(first.station, |place| place.station);
        let from = station(journey.entered);
        Self {
            day: journey.day,
            from,
            to: if first.kind == Kind::Single { from } else { station(journey.left) },
            start_ms: first.time_ms,
            end_ms: second.map_or(first.time_ms, |tap| tap.time_ms),
            led: journey.status != Status::SameStation,
        }
    }
}

/// A sum over the period that the last journey lay in.
#[derive(Debug, Clone, Default)]
struct Bucket {
    days: Option<RangeInclusive<ServiceDay>>,
    charged: Fen,
}

impl Bucket {
    fn on(&mut self, period: Period, day: ServiceDay) -> &mut Fen {
        if !self.days.as_ref().is_some_and(|days| days.contains(&day)) {
            *self = Self { days: Some(period.around(day)), charged: Fen::ZERO };
        }
        &mut self.charged
    }
}

/// Journeys that followed one another.
#[derive(Debug, Clone, Copy)]
struct Chain {
    begun_ms: i64,
    last_start_ms: i64,
    last_end_ms: i64,
    discounted: u32,
    dearest: Fen,
}

/// Reduces one token's journeys in order.
pub(crate) struct Adjuster<'t> {
    tariffs: &'t Tariffs,
    category: Category,
    /// The version that buckets and chains belong to.
    version: Option<&'t Compiled>,
    caps: Vec<Bucket>,
    spend: Bucket,
    chains_of: Option<ServiceDay>,
    chains: Vec<Option<Chain>>,
    /// What was charged so far: another version of the tariff counts it anew.
    charged: Vec<(Ride, Fen)>,
}

impl<'t> Adjuster<'t> {
    pub(crate) const fn new(tariffs: &'t Tariffs, category: Category) -> Self {
        Self {
            tariffs,
            category,
            version: None,
            caps: Vec::new(),
            spend: Bucket { days: None, charged: Fen::ZERO },
            chains_of: None,
            chains: Vec::new(),
            charged: Vec::new(),
        }
    }

    /// What a journey with a fare is charged; what is taken off it is added to `off`.
    pub(crate) fn adjust(
        &mut self,
        tariff: &'t Compiled,
        terms: Terms,
        ride: Ride,
        fare: Fen,
        off: &mut Off,
    ) -> Result<Fen, Overflow> {
        if !self.tariffs.adjusts() {
            return Ok(fare);
        }
        if !self.version.is_some_and(|version| std::ptr::eq(version, tariff)) {
            self.turn_to(tariff)?;
        }
        let mut left = fare;
        let mut take = |kind, fen: Fen, left: &mut Fen| -> Result<(), Overflow> {
            let fen = fen.clamp(Fen::ZERO, *left);
            *left = left.minus(fen)?;
            off.add(kind, fen)
        };
        take(AdjustmentKind::Transfer, self.transfer(tariff, ride, fare)?, &mut left)?;
        for (cap, bucket) in tariff.caps.iter().zip(&mut self.caps) {
            if tariff.caps(cap, terms, ride.from, ride.to) {
                let sum = bucket.on(cap.period, ride.day);
                take(cap_kind(cap.period), left.minus(cap.limit.minus(*sum)?)?, &mut left)?;
                *sum = sum.plus(left)?;
            }
        }
        if let Some(discount) = &tariff.spend_discount
            && covers(tariff, discount, ride)
        {
            let sum = self.spend.on(discount.period, ride.day);
            let paid = part(left, percent_after(discount, *sum), tariff.round_to_fen());
            take(AdjustmentKind::SpendDiscount, left.minus(paid)?, &mut left)?;
            *sum = sum.plus(left)?;
        }
        self.charged.push((ride, left));
        Ok(left)
    }

    /// Begins to count by another version: what was charged before is counted by its rules.
    fn turn_to(&mut self, tariff: &'t Compiled) -> Result<(), Overflow> {
        self.version = Some(tariff);
        self.caps = vec![Bucket::default(); tariff.caps.len()];
        self.spend = Bucket::default();
        self.chains = vec![None; tariff.transfer_discounts.len()];
        let charged = std::mem::take(&mut self.charged);
        for &(ride, fen) in &charged {
            let terms = tariff.terms(self.tariffs.clock(), self.category, ride.day, ride.start_ms);
            self.count(tariff, terms, ride, fen)?;
        }
        self.charged = charged;
        Ok(())
    }

    /// Adds what a journey was charged under another version to every sum that speaks of it.
    fn count(&mut self, tariff: &Compiled, terms: Terms, ride: Ride, charged: Fen) -> Result<(), Overflow> {
        for (cap, bucket) in tariff.caps.iter().zip(&mut self.caps) {
            if tariff.caps(cap, terms, ride.from, ride.to) {
                let sum = bucket.on(cap.period, ride.day);
                *sum = sum.plus(charged)?;
            }
        }
        if let Some(discount) = &tariff.spend_discount
            && covers(tariff, discount, ride)
        {
            let sum = self.spend.on(discount.period, ride.day);
            *sum = sum.plus(charged)?;
        }
        Ok(())
    }

    /// The discount for following other journeys: that of the first rule that gives one.
    fn transfer(&mut self, tariff: &Compiled, ride: Ride, fare: Fen) -> Result<Fen, Overflow> {
        if self.chains_of.replace(ride.day) != Some(ride.day) {
            self.chains.fill(None);
        }
        let Some(network) = tariff.network_index(ride.from).filter(|_| ride.led) else {
            return Ok(Fen::ZERO);
        };
        let mut given = Fen::ZERO;
        for (rule, chain) in tariff.transfer_discounts.iter().zip(&mut self.chains) {
            let follows = chain.as_mut().filter(|chain| continues(rule, chain, network, ride));
            match follows {
                Some(chain) if given.is_zero() => {
                    given = discount(rule, chain, fare)?;
                    chain.discounted += 1;
                    chain.dearest = chain.dearest.max(fare);
                    (chain.last_start_ms, chain.last_end_ms) = (ride.start_ms, ride.end_ms);
                }
                _ if rule.from >> network & 1 == 1 => {
                    *chain = Some(Chain {
                        begun_ms: ride.start_ms,
                        last_start_ms: ride.start_ms,
                        last_end_ms: ride.end_ms,
                        discounted: 0,
                        dearest: fare,
                    });
                }
                _ => {}
            }
        }
        Ok(given)
    }
}

fn cap_kind(period: Period) -> AdjustmentKind {
    match period {
        Period::Day => AdjustmentKind::DailyCap,
        Period::Week { .. } => AdjustmentKind::WeeklyCap,
        Period::Days { .. } | Period::Month => AdjustmentKind::MultiDayCap,
    }
}

fn covers(tariff: &Compiled, discount: &SpendDiscount, ride: Ride) -> bool {
    tariff.network_index(ride.from).is_some_and(|network| discount.networks >> network & 1 == 1)
}

/// What part of a fare is paid by who has paid so much.
fn percent_after(discount: &SpendDiscount, charged: Fen) -> u32 {
    let reached = discount.steps.iter().rev().find(|(from, _)| charged >= *from);
    reached.map_or(100, |&(_, percent)| percent)
}

fn continues(rule: &TransferDiscount, chain: &Chain, network: usize, ride: Ride) -> bool {
    let since_ms = match rule.measured_from {
        MeasuredFrom::ChainStart => chain.begun_ms,
        MeasuredFrom::Start => chain.last_start_ms,
        MeasuredFrom::End => chain.last_end_ms,
    };
    rule.to >> network & 1 == 1
        && chain.discounted < rule.times
        && ride.start_ms.saturating_sub(since_ms) <= rule.within_ms
}

fn discount(rule: &TransferDiscount, chain: &Chain, fare: Fen) -> Result<Fen, Overflow> {
    match rule.off {
        TransferOff::Percent(percent) => Ok(part(fare, percent, 1)),
        TransferOff::Amount(fen) => Ok(fen.min(fare)),
        TransferOff::PayDearest => Ok(chain.dearest.min(fare)),
    }
}
