//! The sandbox bank under a name of this package, so that its tests can start and kill it as a process.

use std::process::ExitCode;

fn main() -> ExitCode {
    sandbox_bank::main()
}
