//! The PN532 reader chip: its frames, its commands, and a driver that turns it into a reader.
//!
//! - [`frame`] finds and writes frames, [`command`], [`response`] and [`status`] say what is in them. They know no
//!   line and no time, so the simulated chip in `wavepass-hce` speaks through the same code.
//! - [`driver`] looks for cards and exchanges APDUs with one, over a [`transport`]: HSU (serial), I²C or SPI.
//!
//! It decides nothing about cards: it says what is in the field, and what came of an exchange. It needs no allocator
//! and no executor. Facts: NXP UM0701-02 (the chip's user manual) and published open drivers; the page
//! `docs/formats.md` says which and how sure they are.
//!
//! ```no_run
//! # async fn gate<S, T>(serial: S, timer: T) -> Result<(), wavepass_pn532::Pn532Error>
//! # where S: embedded_io_async::Read + embedded_io_async::Write, T: wavepass_pn532::Timer {
//! use wavepass_pn532::{Detected, Pn532, Settings, transport::Hsu};
//!
//! let mut reader = Pn532::new(Hsu::new(serial), timer, Settings::default());
//! // May be dropped and called again at any time: nothing is lost.
//! if let Detected::One(card) = reader.wait_card().await? {
//!     let mut answer = [0; 258];
//!     let len = reader.exchange(&card, &[0x00, 0xA4, 0x04, 0x00, 0x00], &mut answer).await?;
//!     assert!(len >= 2);
//! }
//! reader.wait_gone().await
//! # }
//! ```
#![no_std]

#[cfg(test)]
extern crate std;

pub mod command;
pub mod driver;
mod error;
pub mod frame;
pub mod response;
pub mod status;
pub mod transport;

pub use driver::{Detected, Pn532, Settings, Target, Timer};
pub use error::{LineFault, Pn532Error};
