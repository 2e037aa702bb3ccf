//! A stand-in for a bank's core: e-accounts of class II and III behind a socket, in an SQLite file of its own.
//!
//! Accounts, limits and books are `wavepass_gateway::bank::embedded`'s, and so are the answers: durable before they are given,
//! and given again for the same attempt. The messages are `bank::wire`'s (docs/bank.md). [`Trouble`] makes it a bad bank.

mod cli;
mod serve;
mod trouble;

pub use cli::main;
pub use serve::{Bank, Running};
pub use trouble::Trouble;

/// Why the bank does not run.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
