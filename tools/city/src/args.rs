//! The command line.

use crate::world::Size;
use clap::Parser;
use std::path::PathBuf;

/// A city's day: phones at gates, taps to the gateway, fares, charges, deductions, books that balance.
///
/// Phones answer real APDUs, gates verify them offline and journal each tap before they open, the taps travel
/// sealed over TCP to a running gateway with a real database, and at the end of the day it is priced, closed,
/// deducted, settled and reconciled. The same seed plays the same day.
///
/// A day that was cut short goes on where it stopped when it is run again on the same data folder; a finished
/// day prints its report again.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "city",
    version,
    after_help = "\
Examples:
  cargo run --release                                  10,000 taps of 2,000 phones at 20 gates
  cargo run --release -- --taps 50000 --phones 8000 --gates 40 --seed 7 --data /tmp/day
  cargo run --release -- --report report.json --serve  leave the gateway running afterwards

The gateway's own commands are in the same program. Beside a day with --serve they go to its gateway:
  cargo run --release -- gateway --help
  cargo run --release -- gateway gate list             with --data DIR where the day has one

Exit status: 0 the day is balanced and every card was treated as planned; 1 it is not; 2 it could not be played."
)]
pub struct Arguments {
    /// How many times a card is presented
    #[arg(long, default_value_t = 10_000)]
    pub taps: u64,
    /// How many phones and cards there are
    #[arg(long, default_value_t = 2_000)]
    pub phones: u32,
    /// How many gates there are
    #[arg(long, default_value_t = 20)]
    pub gates: u32,
    /// Where all chance comes from
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where gates, phones, keys and the database live
    #[arg(long, value_name = "DIR", default_value = "./wavepass-data", env = "WAVEPASS_CITY_DATA")]
    pub data: PathBuf,
    /// The gateway's database [default: an SQLite file in the data folder]
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Leave the gateway running until Ctrl-C
    #[arg(long)]
    pub serve: bool,
}

impl Arguments {
    /// What determines the day.
    pub fn size(&self) -> Size {
        Size { taps: self.taps, phones: self.phones, gates: self.gates, seed: self.seed }
    }
}
