//! The command line.

mod check;
mod live;
#[cfg(feature = "pcsc")]
mod readers;
mod source;

use crate::replay::replay;
use crate::show::{self, BAD, BOLD, DIM, GOOD};
use crate::tap::{Tap, decision_word};
use crate::transcript::Transcript;
use clap::{Args, Parser, Subcommand};
use source::{Front, Source};
use std::path::PathBuf;
use std::process::ExitCode;
use wavepass_kernel::Decision;

/// A bench for contactless cards, phones, readers and kernels
///
/// Shows what a card answers on a reader and why a gate would open or refuse. It runs the gate's own kernel, and it
/// moves no money.
#[derive(Parser)]
#[command(
    name = "rig",
    version,
    after_help = "\
Examples:
  rig list                                  the readers of this system
  rig tap                                   wait for a card, and show everything
  rig tap --json                            the same for machines
  rig tap --phone house                     a phone of the emulator, without a reader
  rig record card.json                      keep what a card said
  rig replay card.json                      verify it again
  rig check kernel                          the suite of cases that comes with the rig

Exit status: 0 opened, passed, or done; 1 refused or failed; 2 it could not be tried."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the readers and what is on them
    List(ListArgs),
    /// Tap one card and show all of it
    Tap(Source),
    /// Tap every card that comes on any reader, until Ctrl-C
    Watch(Front),
    /// Tap one card and keep what was said
    Record(RecordArgs),
    /// Verify a recorded tap again
    Replay(ReplayArgs),
    /// Run a suite of cases against a kernel, and report
    Check(check::CheckArgs),
}

#[derive(Args)]
struct ListArgs {
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

/// Tap one card and keep what was said
///
/// The file holds the whole number of the card; only its owner may read it.
#[derive(Args)]
struct RecordArgs {
    /// Where to
    file: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    source: Source,
}

/// Verify a recorded tap again
///
/// Runs the kernel's own authentication over the recorded bytes, whatever the card's scheme; the authorities' keys
/// come from the file.
#[derive(Args)]
struct ReplayArgs {
    /// The transcript
    file: PathBuf,
    /// One line of JSON
    #[arg(long)]
    json: bool,
    /// Show the exchange, with whole card numbers
    #[arg(long)]
    show_numbers: bool,
}

/// Runs the command line.
pub fn main() -> ExitCode {
    wavepass_hce::console::end_where_output_fails();
    match run(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(why) => {
            anstream::eprintln!("{BAD}error:{BAD:#} {why}");
            ExitCode::from(2)
        }
    }
}

/// True for a good end, false for a bad one; an error where it could not be tried.
fn run(command: Command) -> Result<bool, String> {
    match command {
        Command::List(args) => source::list(args.json),
        Command::Tap(source) => {
            let live::Tapped { tap, reader, .. } = live::tap(&source)?;
            live::tell(&tap, reader.as_deref(), &source.front)?;
            Ok(opens(&tap))
        }
        Command::Watch(front) => live::watch(&front),
        Command::Record(args) => record(&args),
        Command::Replay(args) => run_replay(&args),
        Command::Check(args) => check::run(&args),
    }
}

fn opens(tap: &Tap) -> bool {
    matches!(tap.decision, Decision::Open { .. })
}

fn record(args: &RecordArgs) -> Result<bool, String> {
    Transcript::check_place(&args.file, args.force).map_err(|e| e.to_string())?;
    anstream::eprintln!(
        "{BOLD}careful:{BOLD:#} the transcript will hold the whole number of the card; only you may read {}",
        args.file.display()
    );
    let live::Tapped { tap, terminal, .. } = live::tap(&args.source.without_limit())?;
    let transcript = Transcript::of(&tap, &terminal, source::today(&terminal));
    if transcript.exchanges.is_empty() {
        return Err("the card said nothing, so there is nothing to keep".to_owned());
    }
    transcript.save(&args.file, args.force).map_err(|e| e.to_string())?;
    if args.source.front.json {
        anstream::println!("{}", tap.verdict.to_json());
    } else {
        anstream::println!(
            "{} exchanges in {}; the gate would say {BOLD}{}{BOLD:#}",
            transcript.exchanges.len(),
            args.file.display(),
            decision_word(tap.decision)
        );
    }
    Ok(true)
}

fn run_replay(args: &ReplayArgs) -> Result<bool, String> {
    let transcript = Transcript::load(&args.file).map_err(|e| e.to_string())?;
    let tap = replay(&transcript);
    if args.json {
        anstream::println!("{}", tap.verdict.to_json());
        return Ok(tap.verdict.passed());
    }
    let mut text = String::new();
    live::replayed(&mut text, &tap, show::Options { numbers: args.show_numbers })
        .map_err(|e| e.to_string())?;
    anstream::print!("{text}");
    match &tap.verdict.failure {
        None => {
            anstream::println!("\n{GOOD}PASSED{GOOD:#}  The card was genuine, on {}.", shown(&transcript))
        }
        Some(failure) => {
            anstream::println!("\n{BAD}FAILED{BAD:#}  at {}: {}", failure.step, failure.reason);
            if let Some(advice) = live::advice(&tap) {
                anstream::println!("{DIM}{advice}{DIM:#}");
            }
        }
    }
    Ok(tap.verdict.passed())
}

fn shown(transcript: &Transcript) -> String {
    crate::text::show_date(transcript.date)
}
