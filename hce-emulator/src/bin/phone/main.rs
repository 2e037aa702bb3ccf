//! `phone`: makes phones, shows them, and serves one to a reader.

mod issue;
mod log;
mod serve;
mod show;

use anstyle::{AnsiColor, Style};
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

/// How errors begin on a terminal.
const ERROR: Style = AnsiColor::Red.on_default().bold();
/// What is not the point of a line.
const DIM: Style = Style::new().dimmed();
/// What is.
const BOLD: Style = Style::new().bold();

#[derive(Parser)]
#[command(
    name = "phone",
    version,
    about = "A contactless payment phone in software: make one, look at it, hold it to a reader",
    after_help = "Exit codes: 0 done, 1 it failed (the message says what to do), 2 wrong usage.\n\n\
        Examples:\n  \
        phone issue --out anna.json\n  \
        phone issue --out bad.json --fault forged-signature\n  \
        phone list --profiles\n  \
        phone list --faults\n  \
        phone list .\n  \
        phone serve anna.json --vpcd\n  \
        phone serve anna.json --tcp 127.0.0.1:35000\n  \
        phone serve anna.json --pn532 127.0.0.1:35532\n\n\
        A phone's file holds its keys in the clear and only its owner may read it: it is a test instrument."
)]
struct Cli {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    Issue(issue::Args),
    List(show::ListArgs),
    Show(show::ShowArgs),
    Serve(serve::Args),
}

/// Why a command did not do what it was asked.
enum Failure {
    /// It was not asked rightly.
    Usage(String),
    /// It failed.
    Failed(String),
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Failed(message)
    }
}

/// `help --help` asks for help, and clap knows no such option there.
fn arguments() -> impl Iterator<Item = OsString> {
    let asks = std::env::args_os().nth(1).is_some_and(|word| word == "help");
    std::env::args_os().filter(move |word| !(asks && (word == "--help" || word == "-h")))
}

fn main() -> ExitCode {
    wavepass_hce::console::end_where_output_fails();
    let result = match Cli::parse_from(arguments()).command {
        Action::Issue(args) => issue::run(&args),
        Action::List(args) => show::list(&args).map_err(Failure::from),
        Action::Show(args) => show::show(&args).map_err(Failure::from),
        Action::Serve(args) => serve::run(&args).map_err(Failure::from),
    };
    let (message, code) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => {
            (format!("{message}\n\nFor more information, try '--help'."), ExitCode::from(2))
        }
        Err(Failure::Failed(message)) => (message, ExitCode::FAILURE),
    };
    anstream::eprintln!("{ERROR}error:{ERROR:#} {message}");
    code
}
