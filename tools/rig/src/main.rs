//! `rig`: the bench on the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    rig::cli::main()
}
