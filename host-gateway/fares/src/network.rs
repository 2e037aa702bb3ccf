//! The network: stations, lines with the distances between their stations, and where one changes between lines.
//!
//! A station served by several lines has one platform for each; walking between them needs a transfer in the file.
//! Distances are in metres, and the shortest way decides the fare, whichever way the rider took.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The most stations a tariff may have: the table of all pairs of fares then stays under 16 MiB.
pub const MAX_STATIONS: usize = 2_000;
/// The most lines: far beyond any city, and platforms stay within 16 bits.
pub const MAX_LINES: usize = 200;
/// The longest a segment may be, in metres; sums over a shortest way then fit 32 bits.
pub const MAX_SEGMENT_M: u32 = 1_000_000;

/// A station's code: 1 to 12 letters, digits, `-` or `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StationId(Box<str>);

/// Why text is not a station code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a station code: 1 to 12 letters, digits, `-` or `_`")]
pub struct StationIdError(String);

impl StationId {
    /// Checks and keeps a code.
    pub fn new(code: &str) -> Result<Self, StationIdError> {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if (1..=12).contains(&code.len()) && code.chars().all(good) {
            Ok(Self(code.into()))
        } else {
            Err(StationIdError(code.chars().take(40).collect()))
        }
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for StationId {
    type Error = StationIdError;

    fn try_from(code: String) -> Result<Self, StationIdError> {
        Self::new(&code)
    }
}

impl From<StationId> for String {
    fn from(id: StationId) -> Self {
        id.0.into()
    }
}

impl fmt::Display for StationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl std::borrow::Borrow<str> for StationId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A way from one platform to a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    to: usize,
    metres: u32,
    /// Whose line it is; none for a walk.
    operator: Option<usize>,
}

/// A part of a way that one operator's lines make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) operator: usize,
    /// The stations where it begins and ends.
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) metres: u32,
}

/// Platforms and ways between them: what shortest ways are computed on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Graph {
    /// For each platform, the station it belongs to.
    station_of: Vec<usize>,
    /// For each platform, the ways to its neighbours.
    ways: Vec<Vec<Way>>,
}

impl Graph {
    /// Adds a platform of a station and returns its number.
    pub(crate) fn platform(&mut self, station: usize) -> usize {
        self.station_of.push(station);
        self.ways.push(Vec::new());
        self.station_of.len() - 1
    }

    /// Joins two platforms both ways.
    pub(crate) fn join(&mut self, a: usize, b: usize, metres: u32, operator: Option<usize>) {
        self.ways[a].push(Way { to: b, metres, operator });
        self.ways[b].push(Way { to: a, metres, operator });
    }

    /// The metres of the shortest way from one station to each platform (Dijkstra), `u32::MAX` where no way leads, and
    /// the platform and way it comes by.
    fn shortest(&self, from: usize) -> (Vec<u32>, Vec<Option<(usize, Way)>>) {
        let mut best = vec![u32::MAX; self.ways.len()];
        let mut by = vec![None; self.ways.len()];
        let mut queue = BinaryHeap::new();
        for (platform, &station) in self.station_of.iter().enumerate() {
            if station == from {
                best[platform] = 0;
                queue.push(Reverse((0_u32, platform)));
            }
        }
        while let Some(Reverse((metres, platform))) = queue.pop() {
            if metres > best[platform] {
                continue;
            }
            for &way in &self.ways[platform] {
                let there = metres.saturating_add(way.metres);
                if there < best[way.to] {
                    best[way.to] = there;
                    by[way.to] = Some((platform, way));
                    queue.push(Reverse((there, way.to)));
                }
            }
        }
        (best, by)
    }

    /// The metres of the shortest way from one station to each; `None` where no way leads.
    pub(crate) fn distances(&self, from: usize, stations: usize) -> Vec<Option<u32>> {
        let (best, _) = self.shortest(from);
        let mut to = vec![None; stations];
        for (platform, &metres) in best.iter().enumerate() {
            let station = &mut to[self.station_of[platform]];
            if metres < u32::MAX && station.is_none_or(|known| metres < known) {
                *station = Some(metres);
            }
        }
        to
    }

    /// The shortest way between two stations, by whose lines it takes. Walks and lines of nobody are left out; where a walk
    /// inside a station joins two lines of one operator, they are one stretch.
    pub(crate) fn stretches(&self, from: usize, to: usize) -> Vec<Stretch> {
        let (best, by) = self.shortest(from);
        let platforms = (0..best.len()).filter(|&platform| self.station_of[platform] == to);
        let mut at = platforms.min_by_key(|&platform| best[platform]);
        let mut stretches: Vec<Stretch> = Vec::new();
        // From the end to the beginning: each way comes before the one that was looked at last.
        while let Some((platform, (before, way))) = at.and_then(|platform| Some((platform, by[platform]?))) {
            if let Some(operator) = way.operator {
                let (from, to) = (self.station_of[before], self.station_of[platform]);
                match stretches.last_mut().filter(|next| next.operator == operator && next.from == to) {
                    Some(next) => {
                        next.from = from;
                        next.metres = next.metres.saturating_add(way.metres);
                    }
                    None => stretches.push(Stretch { operator, from, to, metres: way.metres }),
                }
            }
            at = Some(before);
        }
        stretches.reverse();
        stretches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_way_changes_lines_only_where_a_transfer_is() {
        // Line 1: A - B - C, line 2: A - C (short), both at A and C; no transfer yet.
        let mut graph = Graph::default();
        let [a1, b1, c1] = [0, 1, 2].map(|s| graph.platform(s));
        let [c2, d2] = [2, 3].map(|s| graph.platform(s));
        graph.join(a1, b1, 1000, None);
        graph.join(b1, c1, 1500, None);
        graph.join(c2, d2, 700, None);
        assert_eq!(graph.distances(0, 4), [Some(0), Some(1000), Some(2500), None]);
        graph.join(c1, c2, 90, None);
        assert_eq!(graph.distances(0, 4), [Some(0), Some(1000), Some(2500), Some(3290)]);
        // From C one may start on either platform, so no transfer is walked.
        assert_eq!(graph.distances(2, 4)[3], Some(700));
    }

    #[test]
    fn the_stretches_of_the_shortest_way_go_to_whose_lines_it_takes() {
        let mut graph = Graph::default();
        let [a, b, c] = [0, 1, 2].map(|s| graph.platform(s));
        let c2 = graph.platform(2);
        let d = graph.platform(3);
        let d2 = graph.platform(3);
        let e = graph.platform(4);
        graph.join(a, b, 1000, Some(0));
        graph.join(b, c, 500, Some(0));
        graph.join(c, c2, 90, None);
        graph.join(c2, d, 700, Some(1));
        graph.join(d, d2, 60, None);
        graph.join(d2, e, 300, Some(1));
        let stretch = |operator, from, to, metres| Stretch { operator, from, to, metres };
        assert_eq!(graph.stretches(0, 3), [stretch(0, 0, 2, 1500), stretch(1, 2, 3, 700)]);
        assert_eq!(graph.stretches(3, 1), [stretch(1, 3, 2, 700), stretch(0, 2, 1, 500)]);
        // A walk between lines of one operator ends no stretch.
        assert_eq!(graph.stretches(2, 4), [stretch(1, 2, 4, 1000)]);
        assert_eq!(graph.stretches(1, 1), []);
    }

    #[test]
    fn station_codes_are_short_and_plain() {
        assert!(StationId::new("W01").is_ok());
        for bad in ["", "a b", "0123456789abc", "站"] {
            assert!(StationId::new(bad).is_err());
        }
    }
}
