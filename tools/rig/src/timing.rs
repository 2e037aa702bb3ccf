//! What a tap and the reader cost: the same phone in this process and through pcscd.

use crate::bench::Own;
use crate::way::Way;
use serde_json::{Value, json};
use wavepass_kernel::Decision;

/// Taps before the first that counts.
const WARM: usize = 3;

/// One tap's times, microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Of each command in order.
    pub commands: Vec<u64>,
    /// From the first command to the decision.
    pub total: u64,
}

/// Taps a sound phone again and again.
pub fn sample(own: &mut Own, way: &mut dyn Way, taps: usize) -> Result<Vec<Sample>, String> {
    let mut samples = Vec::with_capacity(taps);
    for i in 0..WARM + taps {
        let tap = own.tap_plain(way);
        let Decision::Open { .. } = tap.decision else {
            let word = crate::tap::decision_word(tap.decision);
            return Err(format!("the phone that is timed was refused: {word}"));
        };
        if i >= WARM {
            let commands = tap.exchanges.iter().map(|e| e.took_us).collect();
            samples.push(Sample { commands, total: tap.total_us });
        }
    }
    Ok(samples)
}

/// The middle value; 0 of none.
fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

/// What the virtual reader adds, and what a tap takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Taps on each way.
    pub taps: usize,
    /// What the reader adds to a command: the median over all of them, microseconds.
    pub added_us: u64,
    /// A tap through the reader: median, microseconds.
    pub tap_us: u64,
    /// The slowest, microseconds.
    pub slowest_us: u64,
    /// A tap in process: median, microseconds.
    pub process_us: u64,
}

impl Timing {
    /// Compares taps in process with taps through a reader.
    pub fn of(process: &[Sample], reader: &[Sample]) -> Self {
        let position = |samples: &[Sample], i: usize| {
            median(samples.iter().filter_map(|s| s.commands.get(i).copied()).collect())
        };
        let added = reader.iter().flat_map(|sample| {
            let over = |(i, us): (usize, &u64)| us.saturating_sub(position(process, i));
            sample.commands.iter().enumerate().map(over).collect::<Vec<_>>()
        });
        let totals = |samples: &[Sample]| samples.iter().map(|s| s.total).collect::<Vec<_>>();
        Self {
            taps: reader.len(),
            added_us: median(added.collect()),
            tap_us: median(totals(reader)),
            slowest_us: totals(reader).into_iter().max().unwrap_or(0),
            process_us: median(totals(process)),
        }
    }

    /// For machines.
    pub fn to_json(&self) -> Value {
        json!({
            "taps": self.taps,
            "reader_adds_us": self.added_us,
            "tap_us": self.tap_us,
            "slowest_tap_us": self.slowest_us,
            "process_tap_us": self.process_us,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reader_adds_is_what_a_command_takes_beyond_the_card_itself() {
        let sample =
            |commands: [u64; 3]| Sample { commands: commands.to_vec(), total: commands.iter().sum() };
        let process = [sample([1, 50, 2]), sample([2, 60, 2]), sample([1, 55, 90])];
        let reader = [sample([101, 175, 152]), sample([111, 155, 102]), sample([95, 180, 202])];
        let timing = Timing::of(&process, &reader);
        assert_eq!((timing.added_us, timing.taps), (110, 3));
        assert_eq!((timing.tap_us, timing.slowest_us, timing.process_us), (428, 477, 64));
        assert_eq!(Timing::of(&[], &[]).added_us, 0);
    }
}
