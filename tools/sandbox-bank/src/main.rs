//! `sandbox-bank`: a stand-in for a bank's core, for trials and tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    sandbox_bank::main()
}
