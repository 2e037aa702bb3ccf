//! A city's day with the real parts, from the phones to the settled books: the command `city`, and what tests that
//! span processes take from it.

pub mod admin;
mod args;
pub mod conduct;
pub mod data;
pub mod field;
pub mod player;
pub mod report;
pub mod setup;
pub mod supervisor;
pub mod world;

use args::Arguments;
use clap::Parser;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// The command.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let program = arguments.next();
    if std::env::args_os().nth(1).is_some_and(|word| word == "gateway") {
        // The gateway as a child of this program: one build is enough for both.
        return wavepass_gateway::cli::main_from(program.into_iter().chain(arguments.skip(1)));
    }
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match conduct::play(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            let red = anstyle::AnsiColor::Red.on_default().bold();
            anstream::eprintln!("{red}error:{red:#} {why}");
            ExitCode::from(2)
        }
    }
}
