//! The city's program under a name of this package, so that its tests can start the gateway as a process.

use std::process::ExitCode;

fn main() -> ExitCode {
    city::main()
}
