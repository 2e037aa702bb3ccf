//! What is kept how long: a person is erased on request ([`erase`]), and the taps of service days that are long over are
//! deleted ([`retention`]).
//!
//! The books are never touched: ledger, charges, batches, settlements and the bank's postings stay, by the keys of tokens,
//! which are pseudonyms. What rule 3 needs of what is gone stays with intake (`intake::forgotten`).

pub mod api;
pub mod cli;
mod due;
pub mod erase;
pub mod preview;
pub mod retention;
mod rows;
#[cfg(test)]
mod tests;

pub use erase::{EraseError, Erased, erase};
pub(crate) use erase::{erased_ms_in, index_of};
pub use preview::preview;
pub use retention::{Retained, RetentionConfig};
