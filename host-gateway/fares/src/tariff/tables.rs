//! Fares of all pairs of stations, worked out once.
//!
//! There is a table for each category and time band that a fare in the file names, and one for all others. Of several
//! fares for a journey the nearest counts: stations before zones before the number of zones before distance before
//! flat; among those, one for the rider's category before one for the time band before one for everybody.

use std::collections::BTreeMap;

use super::{CategoryRule, Network, Only, PairFare, Station, TimeBand, ZoneFare, Zones};
use crate::fen::Fen;

/// The most fares that all tables of a version may hold: 64 MiB.
pub(super) const MAX_FARES: usize = 16 << 20;
/// A fare that a version does not know.
pub(super) const NO_FARE: i32 = -1;

/// Tables of fares, in fen, row by row in the order of the version's stations; [`NO_FARE`] between networks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Tables {
    /// For each category, its row of tables; 0 where no fare names it.
    pub(super) slot_of_category: Vec<usize>,
    /// For each time band, its column of tables; 0 where no fare names it.
    pub(super) slot_of_band: Vec<usize>,
    /// Columns of tables.
    pub(super) bands: usize,
    pub(super) fares: Vec<Vec<i32>>,
}

/// What tables are made from.
pub(super) struct Rules<'a> {
    pub(super) networks: &'a [Network],
    pub(super) stations: &'a [Station],
    pub(super) zone_fares: &'a [ZoneFare],
    pub(super) pair_fares: &'a [PairFare],
    pub(super) categories: &'a [CategoryRule],
    pub(super) time_bands: &'a [TimeBand],
    pub(super) distances_m: &'a [u32],
    pub(super) round_to_fen: i64,
}

/// Numbers the categories or bands that fares name from 1; the others share 0.
fn slots(count: usize, named: impl Iterator<Item = Option<usize>>) -> (Vec<usize>, Vec<Option<usize>>) {
    let mut slot_of = vec![0; count];
    let mut of_slot = vec![None];
    for name in named.flatten() {
        if slot_of[name] == 0 {
            slot_of[name] = of_slot.len();
            of_slot.push(Some(name));
        }
    }
    (slot_of, of_slot)
}

impl Rules<'_> {
    fn onlys(&self) -> impl Iterator<Item = Only> + '_ {
        let zones = self.zone_fares.iter().map(|fare| fare.only);
        zones.chain(self.pair_fares.iter().map(|fare| fare.only))
    }

    /// How many tables there will be.
    pub(super) fn tables(&self) -> usize {
        let categories = slots(self.categories.len(), self.onlys().map(|only| only.category)).1.len();
        let bands = slots(self.time_bands.len(), self.onlys().map(|only| only.time_band)).1.len();
        categories * bands
    }

    /// Makes the tables. Pairs without a fare are left [`NO_FARE`].
    pub(super) fn make(&self) -> Tables {
        let (slot_of_category, categories) =
            slots(self.categories.len(), self.onlys().map(|only| only.category));
        let (slot_of_band, bands) = slots(self.time_bands.len(), self.onlys().map(|only| only.time_band));
        let mut pairs: BTreeMap<(usize, usize), Vec<&PairFare>> = BTreeMap::new();
        for fare in self.pair_fares {
            pairs.entry((fare.from, fare.to)).or_default().push(fare);
        }
        let mut fares = Vec::with_capacity(categories.len() * bands.len());
        for &category in &categories {
            for &time_band in &bands {
                fares.push(self.table(Only { category, time_band }, &pairs));
            }
        }
        Tables { slot_of_category, slot_of_band, bands: bands.len(), fares }
    }

    fn table(&self, only: Only, pairs: &BTreeMap<(usize, usize), Vec<&PairFare>>) -> Vec<i32> {
        let n = self.stations.len();
        let zones: Vec<ZoneTable> =
            (0..self.networks.len()).map(|network| ZoneTable::new(self.zone_fares, network, only)).collect();
        let mut table = Vec::with_capacity(n * n);
        for from in 0..n {
            for to in 0..n {
                let fare = self.fare(only, from, to, pairs, &zones);
                // Above what 32 bits hold: above every maximum, which the check then says.
                table.push(fare.map_or(NO_FARE, |fare| i32::try_from(fare.0).unwrap_or(i32::MAX)));
            }
        }
        table
    }

    fn fare(
        &self,
        only: Only,
        from: usize,
        to: usize,
        pairs: &BTreeMap<(usize, usize), Vec<&PairFare>>,
        zones: &[ZoneTable],
    ) -> Option<Fen> {
        let (a, b) = (&self.stations[from], &self.stations[to]);
        if a.network != b.network {
            return None;
        }
        let pair = pairs.get(&(from, to)).and_then(|fares| {
            let fits = fares.iter().filter(|fare| fits(fare.only, only));
            // Of equal ones the first; the check lets none be equal.
            fits.rev().max_by_key(|fare| weight(fare.only)).map(|fare| (fare.fare, fare.only))
        });
        let found = pair.or_else(|| zones[a.network].cheapest(a.zones, b.zones)).or_else(|| {
            let network = &self.networks[a.network];
            let metres = self.distances_m[from * self.stations.len() + to];
            let distance = network.distance_fare.as_ref().filter(|_| metres != u32::MAX);
            let fare = match distance {
                Some(distance) => distance.fare(metres).unwrap_or(Fen(i64::MAX)),
                None => network.flat_fare?,
            };
            Some((fare, Only::default()))
        })?;
        let (mut fare, of) = found;
        if let (Some(band), None) = (only.time_band, of.time_band) {
            fare = self.time_bands[band].apply(fare, self.round_to_fen);
        }
        if let (Some(category), None) = (only.category, of.category) {
            fare = part(fare, self.categories[category].percent, self.round_to_fen);
        }
        Some(fare)
    }
}

/// True if a fare for `of` is one for `wanted`.
fn fits(of: Only, wanted: Only) -> bool {
    (of.category.is_none() || of.category == wanted.category)
        && (of.time_band.is_none() || of.time_band == wanted.time_band)
}

/// How near a fare is to the rider.
fn weight(of: Only) -> u8 {
    2 * u8::from(of.category.is_some()) + u8::from(of.time_band.is_some())
}

/// Fares between zones in one network.
struct ZoneTable {
    between: BTreeMap<(u32, u32), (Fen, Only)>,
    crossed: BTreeMap<u32, (Fen, Only)>,
}

impl ZoneTable {
    fn new(fares: &[ZoneFare], network: usize, wanted: Only) -> Self {
        let mut table = Self { between: BTreeMap::new(), crossed: BTreeMap::new() };
        let nearness = |fare: &&ZoneFare| (weight(fare.only), fare.network.is_some());
        let mut fitting: Vec<&ZoneFare> = fares
            .iter()
            .filter(|fare| fare.network.is_none_or(|only| only == network) && fits(fare.only, wanted))
            .collect();
        // The nearest comes last and stays.
        fitting.sort_by_key(nearness);
        for fare in fitting {
            match fare.zones {
                Zones::Between(a, b) => table.between.insert((a.min(b), a.max(b)), (fare.fare, fare.only)),
                Zones::Crossed(count) => table.crossed.insert(count, (fare.fare, fare.only)),
            };
        }
        table
    }

    /// The cheapest fare between any zone of the one station and any of the other.
    fn cheapest(&self, from: u64, to: u64) -> Option<(Fen, Only)> {
        let mut cheapest: Option<(Fen, Only)> = None;
        for a in bits(from) {
            for b in bits(to) {
                let (low, high) = (a.min(b), a.max(b));
                let fare = self.between.get(&(low, high)).or_else(|| self.crossed.get(&(high - low + 1)));
                if let Some(&fare) = fare
                    && cheapest.is_none_or(|known| fare.0 < known.0)
                {
                    cheapest = Some(fare);
                }
            }
        }
        cheapest
    }
}

/// The numbers of the bits that are set.
pub(super) fn bits(word: u64) -> impl Iterator<Item = u32> {
    (0..u64::BITS).filter(move |bit| word >> bit & 1 == 1)
}

impl TimeBand {
    /// A fare in this time band.
    pub(super) fn apply(&self, fare: Fen, round_to_fen: i64) -> Fen {
        let part = part(fare, self.percent, round_to_fen);
        Fen(part.0.saturating_add(self.add_fen).max(0))
    }
}

/// So many per cent of an amount that is not negative, rounded to a multiple of `round_to_fen`, halves up.
pub(crate) fn part(amount: Fen, percent: u32, round_to_fen: i64) -> Fen {
    if percent == 100 {
        return amount;
    }
    let step = i128::from(round_to_fen.max(1)) * 100;
    let exact = i128::from(amount.0) * i128::from(percent);
    let rounded = (exact + step / 2).div_euclid(step) * i128::from(round_to_fen.max(1));
    Fen(i64::try_from(rounded).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_rounded_to_the_step_halves_up() {
        assert_eq!(part(Fen(305), 50, 1), Fen(153));
        assert_eq!(part(Fen(305), 50, 10), Fen(150));
        assert_eq!(part(Fen(310), 50, 10), Fen(160));
        assert_eq!(part(Fen(305), 100, 10), Fen(305));
        assert_eq!(part(Fen(305), 0, 10), Fen(0));
    }
}
