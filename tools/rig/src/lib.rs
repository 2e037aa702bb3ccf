//! The rig: a bench that shows what a card or phone answers on a reader, and why a gate would open or refuse.
//!
//! It runs the gate's own kernel ([`tap`]) for a [`terminal`] of its own over a [`way`] to a card: in process, or a
//! PC/SC reader. It records [`transcript`]s and runs authentication over them again ([`replay`]). It decides nothing
//! itself, and moves no money.

pub mod arrivals;
pub mod bench;
pub mod chain;
pub mod cli;
mod files;
pub mod foreign;
pub mod keys;
#[cfg(feature = "pcsc")]
pub mod pcsc_way;
#[cfg(feature = "pcsc")]
pub mod pcscd_bench;
pub mod relay;
pub mod replay;
pub mod report;
mod scheme;
pub mod seen;
pub mod show;
pub mod suite;
pub mod tap;
pub mod terminal;
mod text;
pub mod timing;
pub mod transcript;
pub mod verdict;
pub mod way;
pub mod words;
