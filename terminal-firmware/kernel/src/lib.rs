//! The kernel: the part of a gate that talks EMV contactless with a card and decides, from the first SELECT to
//! open or refuse.
//!
//! Sans-IO: bytes in, bytes out; time and randomness are handed in, and what the gate knows of the world comes
//! through [`Environment`]. It never allocates, never waits, and knows no reader, clock or store. One tap:
//!
//! ```text
//! begin ──► Send(command) ──► answer ──► Send(command) ──► … ──► Last
//!               └── work, work … while the card answers              └── work until Idle, then decision
//! ```
//!
//! Verification is work of its own: [`Kernel::work`] does at most one public key operation per call, as soon as its
//! inputs have arrived. What it finds never changes the exchange, so every host sends a card the same commands.
//!
//! # Limits
//! A card that answers nonsense, too much, too slowly or for ever is refused: [`limits`] bounds commands, answers,
//! records and data of one tap, and the configuration bounds its time.
//!
//! # What is trusted
//! What decides comes from bytes that a verified signature covers: token, expiry, effective date and domain from
//! the data under the card certificate, the counter from the card's own signature. An older card signs neither its
//! counter nor its cryptogram; there only the bank's check tells a false one. Facts about the formats and their
//! sources are in `docs/formats.md`.
#![no_std]

#[cfg(test)]
extern crate std;

mod card;
mod config;
mod decide;
mod environment;
mod exchange;
mod facts;
mod kernel;
pub mod limits;
mod oda;
mod path;
mod selection;
mod track2;

pub use config::{AidConfig, Config, ConfigError};
pub use decide::Decision;
pub use environment::{Asked, Environment, Lost, Passback, TapInput};
pub use facts::Facts;
pub use kernel::{Kernel, Step, Work};
pub use oda::{OdaFault, SuiteError};
pub use path::{Fate, Phase};
