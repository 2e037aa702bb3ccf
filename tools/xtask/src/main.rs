//! `cargo x …`: the project's own commands for building, testing and measuring.
//!
//! It depends on little, so that it starts at once and can say what is missing before anything large is
//! compiled.

mod pcsc;
mod phases;
mod setup;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo x", bin_name = "cargo x", about = "Build, test and measure Wavepass")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install or name what is missing, then run every check and every test
    Test {
        /// Run each test with its full count (crash rounds, fuzz inputs, random cases)
        #[arg(long)]
        long: bool,
    },
    /// Build the no_std crates and the boards' firmware for the gate's processor
    Firmware,
    /// Measure, and print rates
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
}

#[derive(Subcommand)]
enum Bench {
    /// The gate's work for one tap
    Gate {
        /// Also write the figures to this file
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// The host's work from sealed tap to closed day
    Host {
        /// Also write the figures to this file
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// How many taps
        #[arg(long, default_value_t = 100_000)]
        taps: u32,
        /// Instead, what a tap costs in towns of several sizes: taps in the day and registered tokens
        #[arg(
            long,
            value_name = "TAPS:TOKENS,…",
            num_args = 0..=1,
            default_missing_value = "100000:10000,1000000:100000,1000000:3000000,10000000:1000000"
        )]
        growth: Option<String>,
        /// Instead, gates that return after an outage with so many taps each, beside so many that go on
        #[arg(
            long,
            value_name = "GATES:TAPS_EACH:LIVE_GATES",
            num_args = 0..=1,
            default_missing_value = "2000:100:20",
            conflicts_with = "growth"
        )]
        backlog: Option<String>,
        /// Only on this database
        #[arg(long, value_parser = ["sqlite", "postgres"])]
        database: Option<String>,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Test { long } => phases::test(long),
        Command::Firmware => setup::target().and_then(|()| phases::firmware()),
        Command::Bench { what: Bench::Gate { json } } => phases::bench_gate(json),
        Command::Bench { what: Bench::Host { json, taps, growth, backlog, database } } => {
            phases::bench_host(json, taps, growth, backlog, database)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            anstream::eprintln!("{red}error:{red:#} {why}", red = phases::RED);
            ExitCode::FAILURE
        }
    }
}
