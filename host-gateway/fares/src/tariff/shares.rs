//! Who gets what of a charge: shares of the operators, by what the rider did.
//!
//! Each journey's nominal fare is divided among the operators whose lines its shortest way takes. What a day's charge is
//! less than its nominal fares (transfers, caps, discounts) is taken off all of them in proportion: the charge is split
//! by what of the nominal fares each has. Every division is by largest remainder, so that shares add up.

use std::collections::BTreeMap;
use std::collections::HashMap;

use super::compiled::{Category, Compiled, Tariffs};
use crate::day::ServiceDay;
use crate::fen::{Fen, Overflow, split};
use crate::network::Stretch;
use crate::price::{Journey, Status};

/// Ways that a [`Sharer`] remembers: those of a few hundred busy stations, some megabytes.
const MAX_WAYS: usize = 65_536;

/// What a journey's nominal fare is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShareMethod {
    /// What each operator's stretch of the way would cost alone.
    Nominal,
    /// The metres on each operator's lines.
    PassengerKm,
}

/// What an operator gets of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share<'t> {
    /// The operator's code; `None`: the tariff does not say whose it is.
    pub operator: Option<&'t str>,
    /// How much.
    pub fen: Fen,
}

/// Shares the charges of many riders, remembering the ways that they take.
#[derive(Debug)]
pub struct Sharer<'t> {
    tariffs: &'t Tariffs,
    method: ShareMethod,
    /// The version that the ways belong to.
    version: Option<&'t Compiled>,
    ways: HashMap<(usize, usize), Vec<Stretch>>,
}

impl Tariffs {
    /// The codes of the operators that a day's tariff names.
    pub fn operators(&self, day: ServiceDay) -> &[String] {
        &self.on(day).operators
    }

    /// What of a journey's charge each operator gets, by code, split by largest remainder; none where the day's tariff
    /// names no operators. By the metres of the shortest way on each operator's lines; where no lines tell, all goes to
    /// the operator of its first station.
    pub fn shares(&self, journey: &Journey) -> Vec<(&str, Fen)> {
        let mut sharer = Sharer::new(self, ShareMethod::PassengerKm);
        let version = self.on(journey.day);
        let weights = sharer.weights(version, Category::STANDARD, journey);
        let Ok(shares) = split(journey.charged, &weights) else { return Vec::new() };
        let shares = version.operators.iter().map(String::as_str).zip(shares).zip(weights);
        shares.filter(|(_, weight)| *weight > 0).map(|(share, _)| share).collect()
    }
}

impl<'t> Sharer<'t> {
    /// Shares by these tariffs.
    pub fn new(tariffs: &'t Tariffs, method: ShareMethod) -> Self {
        Self { tariffs, method, version: None, ways: HashMap::new() }
    }

    /// The shares of what a rider is charged for the journeys of one day: those that are not zero, in the order of
    /// operators' codes, first what is nobody's. They add up to the sum of the journeys' charges.
    pub fn day(&mut self, category: Category, journeys: &[Journey]) -> Result<Vec<Share<'t>>, Overflow> {
        let Some(first) = journeys.first() else { return Ok(Vec::new()) };
        let version = self.tariffs.on(first.day);
        let mut nominal: BTreeMap<Option<&'t str>, Fen> = BTreeMap::new();
        // What an emergency forgives was never anybody's.
        for journey in journeys.iter().filter(|journey| journey.status != Status::Forgiven) {
            let weights = self.weights(version, category, journey);
            match split(journey.nominal, &weights) {
                Ok(parts) => {
                    for (operator, part) in version.operators.iter().zip(parts) {
                        let sum = nominal.entry(Some(operator)).or_default();
                        *sum = sum.plus(part)?;
                    }
                }
                Err(_) => {
                    let sum = nominal.entry(None).or_default();
                    *sum = sum.plus(journey.nominal)?;
                }
            }
        }
        let charge = Fen::sum(journeys.iter().map(|journey| journey.charged))?;
        // No fare is below zero.
        let weights: Vec<u64> = nominal.values().map(|fen| fen.0.unsigned_abs()).collect();
        let Ok(shares) = split(charge, &weights) else {
            let all = Share { operator: None, fen: charge };
            return Ok(if charge.is_zero() { Vec::new() } else { vec![all] });
        };
        let shares = nominal.into_keys().zip(shares).filter(|(_, fen)| !fen.is_zero());
        Ok(shares.map(|(operator, fen)| Share { operator, fen }).collect())
    }

    /// What each operator of a version has of a journey; all zero where nothing tells.
    fn weights(&mut self, version: &'t Compiled, category: Category, journey: &Journey) -> Vec<u64> {
        let mut weights = vec![0; version.operators.len()];
        let (first, last) = (journey.entered.or(journey.left), journey.left.or(journey.entered));
        let Some((first, last)) = first.zip(last) else { return weights };
        let Some(from) = version.own(first.station) else { return weights };
        if let Some(to) = version.own(last.station) {
            let time_ms = first.time_ms.or(last.time_ms).unwrap_or(0);
            let terms = version.terms(self.tariffs.clock(), category, journey.day, time_ms);
            let method = self.method;
            let way = self.way(version, from, to);
            // A stretch that no fare is known for tells nothing of the others' worth either: then metres do.
            let fare = |stretch: &Stretch| version.own_fare(terms, stretch.from, stretch.to);
            let fares: Option<Vec<Fen>> = match method {
                ShareMethod::Nominal => way.iter().map(fare).collect(),
                ShareMethod::PassengerKm => None,
            };
            match fares {
                Some(fares) if fares.iter().any(|fare| !fare.is_zero()) => {
                    for (stretch, fare) in way.iter().zip(fares) {
                        weights[stretch.operator] += fare.0.unsigned_abs();
                    }
                }
                _ => way.iter().for_each(|stretch| weights[stretch.operator] += u64::from(stretch.metres)),
            }
        }
        if weights.iter().all(|&weight| weight == 0)
            && let Some(operator) = version.stations[from].operator
        {
            weights[operator] = 1;
        }
        weights
    }

    fn way(&mut self, version: &'t Compiled, from: usize, to: usize) -> &[Stretch] {
        if !self.version.is_some_and(|known| std::ptr::eq(known, version)) || self.ways.len() >= MAX_WAYS {
            self.version = Some(version);
            self.ways.clear();
        }
        self.ways.entry((from, to)).or_insert_with(|| version.graph.stretches(from, to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emergency::Periods;
    use crate::price::{Kind, Passage, Tap, TapId, Window, price};
    use crate::tariff::Tariff;

    const EVERYTHING: &str = include_str!("../../tests/tariffs/everything.toml");

    fn shared(method: ShareMethod, taps: &[(i64, &str, Kind)], from: &str, to: &str) -> Vec<(String, i64)> {
        let tariffs = Tariff::parse("t", &EVERYTHING.replace(from, to)).unwrap().compile().unwrap();
        let day: ServiceDay = "2026-11-23".parse().unwrap();
        let start = tariffs.clock().start_ms(day) + 4 * 3_600_000;
        let tap = |(i, &(minutes, station, kind)): (usize, &(i64, &str, Kind))| {
            let id = TapId { key: [1; 8], sequence: i as u32 };
            let (time_ms, station) = (start + minutes * 60_000, tariffs.station(station).unwrap());
            Tap { time_ms, station, kind, id, passage: Passage::Passed }
        };
        let mut taps: Vec<Tap> = taps.iter().enumerate().map(tap).collect();
        let (category, emergencies) = (Category::STANDARD, &Periods::NONE);
        let window = Window { taps: &mut taps, corrections: &[], category, days: day..=day, emergencies };
        let priced = price(&tariffs, window).unwrap();
        let shares = Sharer::new(&tariffs, method).day(category, &priced.journeys).unwrap();
        shares.iter().map(|s| (s.operator.unwrap_or("nobody").to_owned(), s.fen.0)).collect()
    }

    fn of<'a>(shares: &'a [(&'a str, i64)]) -> Vec<(String, i64)> {
        shares.iter().map(|&(operator, fen)| (operator.to_owned(), fen)).collect()
    }

    /// A to D costs 700: 8,000 m on the east's line, 7,000 m on the west's.
    const RIDE: [(i64, &str, Kind); 2] = [(0, "A", Kind::Entry), (40, "D", Kind::Exit)];

    #[test]
    fn a_ride_over_two_operators_lines_is_shared_by_metres_or_by_what_each_stretch_costs() {
        assert_eq!(shared(ShareMethod::PassengerKm, &RIDE, "", ""), of(&[("east", 373), ("west", 327)]));
        // A to C, and C to D, would cost 300 each.
        assert_eq!(shared(ShareMethod::Nominal, &RIDE, "", ""), of(&[("east", 350), ("west", 350)]));
    }

    #[test]
    fn what_a_cap_takes_off_is_taken_off_all_in_proportion() {
        let day = [&RIDE[..], &[(90, "X", Kind::Entry), (110, "Y", Kind::Exit)]].concat();
        // 700 and 350, capped at 1,000: the west carried 350 of the first and all of the second.
        let shares = shared(ShareMethod::Nominal, &day, "", "");
        assert_eq!(shares, of(&[("east", 333), ("west", 667)]));
    }

    #[test]
    fn half_a_journey_goes_to_the_operator_of_its_station_and_what_is_nobodys_is_told() {
        let half = [(0, "D", Kind::Exit)];
        assert_eq!(shared(ShareMethod::Nominal, &half, "", ""), of(&[("west", 900)]));
        let bus = [(0, "BUS", Kind::Single)];
        let (from, to) = ("network = \"bus\"\noperator = \"east\"", "network = \"bus\"");
        assert_eq!(shared(ShareMethod::Nominal, &bus, from, to), of(&[("nobody", 200)]));
    }
}
