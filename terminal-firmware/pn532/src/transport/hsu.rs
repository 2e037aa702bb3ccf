//! The high-speed UART: 115,200 baud, 8N1 as the chip starts.

use super::{Expect, Transport};
use crate::error::LineFault;
use embedded_io_async::{Error, Read, Write};

/// A serial line, split into one value that reads and writes. A buffered UART keeps what arrives while nobody reads.
#[derive(Debug)]
pub struct Hsu<S> {
    serial: S,
}

impl<S: Read + Write> Hsu<S> {
    /// Over this line.
    pub const fn new(serial: S) -> Self {
        Self { serial }
    }
}

fn fault(e: impl Error) -> LineFault {
    LineFault::Serial(e.kind())
}

impl<S: Read + Write> Transport for Hsu<S> {
    /// Two bytes that wake it, and the time of fourteen more until its clock is stable.
    const WAKE_UP: &'static [u8] = &[0x55, 0x55, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    async fn send(&mut self, bytes: &[u8]) -> Result<usize, LineFault> {
        match self.serial.write(bytes).await.map_err(fault)? {
            0 => Err(LineFault::Closed),
            sent => Ok(sent),
        }
    }

    async fn receive(&mut self, _: Expect, buffer: &mut [u8]) -> Result<usize, LineFault> {
        match self.serial.read(buffer).await.map_err(fault)? {
            0 => Err(LineFault::Closed),
            received => Ok(received),
        }
    }
}
