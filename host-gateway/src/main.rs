//! The command `wavepass-gateway`.

use std::process::ExitCode;

fn main() -> ExitCode {
    wavepass_gateway::cli::main_from(std::env::args_os())
}
