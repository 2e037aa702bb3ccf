//! The gateway: intake of sealed taps, risk, tokens, the bank, clearing, settlement and reconciliation.
//!
//! One process owns the data folder ([`store`]). Gates speak to [`intake`] over the link; everything else goes
//! through [`api`] or the command line ([`cli`]). Dependencies point inward: api and cli, then clearing and bank,
//! then fares; nothing points back.

mod answer;
pub mod api;
pub mod bank;
pub mod clearing;
pub mod cli;
pub mod clock;
pub mod concentrators;
pub mod config;
pub mod cursor;
pub mod desk;
pub mod gates;
pub mod input;
pub mod intake;
pub mod keep;
pub mod keys;
pub mod ledger;
pub mod lists;
pub mod open_files;
pub mod reconcile;
pub mod risk;
mod seldom;
pub mod serve;
pub mod settlement;
#[cfg(test)]
mod side_by_side;
pub mod spool;
pub mod store;
pub mod taken;
#[cfg(test)]
pub(crate) mod testing;
pub mod tokens;

/// Rows are made on one thread and let go on another, by the hundred thousand: the C library's allocator spends a fifth of a
/// day's work on that. On Linux it serves SQLite, too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
