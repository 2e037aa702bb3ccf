//! What card, gate and host agree on: the byte formats of the card application, of the sealed tap and of
//! the link, with the cryptography that protects them.
//!
//! Nothing here knows a socket, a clock, a board or a database. Every parser borrows, is bounded and returns
//! a named error on bad input; none panics. Facts about formats and their sources are in `docs/formats.md`.
#![no_std]

pub mod apdu;
pub mod cryptogram;
pub mod deny;
pub mod dol;
pub mod dukpt;
pub mod ecc;
pub mod link;
pub mod lists;
pub mod provisioning;
pub mod rsa;
pub mod seal;
pub mod select;
#[cfg(feature = "sm2")]
pub mod sm2;
pub mod tags;
pub mod tap;
pub mod time;
pub mod tlv;
pub mod token;
