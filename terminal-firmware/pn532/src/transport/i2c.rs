//! I²C: what is read begins with a byte that says whether the chip is ready.

use super::{Expect, Ready, Transport};
use crate::error::LineFault;
use crate::frame::{ACK, MAX_FRAME};
use embedded_hal_async::i2c::{self, Error, ErrorKind};

/// The chip's 7-bit address.
pub const ADDRESS: u8 = 0x24;

const READY: u8 = 0x01;

/// An I²C bus.
#[derive(Debug)]
pub struct I2c<B, R> {
    bus: B,
    ready: R,
    /// The ready byte and a frame.
    buffer: [u8; 1 + MAX_FRAME],
}

impl<B: i2c::I2c, R: Ready> I2c<B, R> {
    /// Over this bus.
    pub const fn new(bus: B, ready: R) -> Self {
        Self { bus, ready, buffer: [0; 1 + MAX_FRAME] }
    }
}

/// True where the chip has only not answered to its address: it sleeps, or is busy.
fn is_absent(e: &impl Error) -> bool {
    matches!(e.kind(), ErrorKind::NoAcknowledge(_))
}

impl<B: i2c::I2c, R: Ready> Transport for I2c<B, R> {
    /// Its address wakes the chip.
    const WAKE_UP: &'static [u8] = &[];

    async fn send(&mut self, bytes: &[u8]) -> Result<usize, LineFault> {
        match self.bus.write(ADDRESS, bytes).await {
            // A chip that was woken by this has lost the frame; it is sent again when no acknowledgement comes.
            Err(e) if !is_absent(&e) => Err(LineFault::I2c(e.kind())),
            _ => Ok(bytes.len()),
        }
    }

    async fn receive(&mut self, expect: Expect, out: &mut [u8]) -> Result<usize, LineFault> {
        let wanted = match expect {
            Expect::Ack => ACK.len(),
            Expect::Answer => MAX_FRAME,
        };
        let wanted = wanted.min(out.len());
        loop {
            self.ready.worth_asking().await;
            // The chip gives a frame in one transfer or not at all, so everything that a frame can have is read.
            // While it is not ready one byte is enough.
            let mut status = [0];
            match self.bus.read(ADDRESS, &mut status).await {
                Ok(()) if status[0] & READY != 0 => {}
                Err(e) if !is_absent(&e) => return Err(LineFault::I2c(e.kind())),
                _ => continue,
            }
            let Some(buffer) = self.buffer.get_mut(..=wanted) else { continue };
            match self.bus.read(ADDRESS, buffer).await {
                Ok(()) => {}
                Err(e) if is_absent(&e) => continue,
                Err(e) => return Err(LineFault::I2c(e.kind())),
            }
            if let [status, frame @ ..] = &*buffer
                && status & READY != 0
                && let Some(out) = out.get_mut(..frame.len())
            {
                out.copy_from_slice(frame);
                return Ok(frame.len());
            }
        }
    }
}
