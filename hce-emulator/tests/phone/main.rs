//! The phone as a reader, an independent implementation and a thief see it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod apdus;
mod cast;
mod command;
mod faults;
mod files;
mod misuse;
mod oracle;
mod pn532;
mod pn532_target;
mod profiles;
mod verdicts;
mod vpcd;
