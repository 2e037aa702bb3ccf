//! The gate over a simulated flash, clock and card: what it decides, what it keeps, and what it tells its host.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod chain;
mod commissioning;
mod common;
mod deny;
mod emergency;
mod journal_full;
mod link;
mod lists;
mod passback;
mod power_cut;
mod relay;
mod sealed_tap;
mod trouble;
