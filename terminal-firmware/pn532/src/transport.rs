//! The ways to the chip: a serial line ([`Hsu`]), I²C ([`I2c`]) and SPI ([`Spi`]).
//!
//! A transport moves bytes and knows no command. Over HSU bytes come as they come; over I²C and SPI the host asks
//! whether the chip is ready and then reads a whole frame. Facts: NXP UM0701-02 chapter 6.2, and published open
//! drivers.

mod hsu;
mod i2c;
mod ready;
mod spi;

pub use hsu::Hsu;
pub use i2c::{ADDRESS, I2c};
pub use ready::{Blocking, Every, Irq, Ready};
pub use spi::Spi;

use crate::error::LineFault;

/// What the driver waits for. A line that needs to know how much to read takes the hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// An acknowledgement, 6 bytes.
    Ack,
    /// An answer, up to [`crate::frame::MAX_FRAME`] bytes.
    Answer,
}

/// A way to the chip.
#[expect(async_fn_in_trait, reason = "one task owns the reader; nothing is sent between threads here")]
pub trait Transport {
    /// What wakes the chip, sent before the first frame.
    const WAKE_UP: &'static [u8];

    /// Sends bytes from the front of `bytes` and gives how many were taken: at least one.
    async fn send(&mut self, bytes: &[u8]) -> Result<usize, LineFault>;

    /// Waits for bytes and gives how many came: at least one. A future that is dropped before it is done should
    /// have taken nothing; where it has, the driver asks the chip to send again.
    async fn receive(&mut self, expect: Expect, buffer: &mut [u8]) -> Result<usize, LineFault>;
}
