//! `city`: plays a city's day.

use std::process::ExitCode;

fn main() -> ExitCode {
    city::main()
}
