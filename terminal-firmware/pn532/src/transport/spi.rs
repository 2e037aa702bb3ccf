//! SPI: each transfer begins with a byte that says what it is. The chip sends the lowest bit first, most
//! controllers the highest, so that bytes are turned round here.

use super::{Expect, Ready, Transport};
use crate::error::LineFault;
use crate::frame::{ACK, MAX_FRAME};
use embedded_hal_async::spi::{Error, Operation, SpiDevice};

const DATA_WRITE: u8 = 0x01;
const STATUS_READ: u8 = 0x02;
const DATA_READ: u8 = 0x03;
const READY: u8 = 0x01;

/// An SPI device, mode 0, at most 5 MHz, highest bit first.
#[derive(Debug)]
pub struct Spi<D, R> {
    device: D,
    ready: R,
    /// A frame turned round.
    buffer: [u8; MAX_FRAME],
}

impl<D: SpiDevice, R: Ready> Spi<D, R> {
    /// Over this device.
    pub const fn new(device: D, ready: R) -> Self {
        Self { device, ready, buffer: [0; MAX_FRAME] }
    }
}

fn fault(e: impl Error) -> LineFault {
    LineFault::Spi(e.kind())
}

impl<D: SpiDevice, R: Ready> Transport for Spi<D, R> {
    /// Being selected wakes the chip; a frame that it misses meanwhile is sent again.
    const WAKE_UP: &'static [u8] = &[];

    async fn send(&mut self, bytes: &[u8]) -> Result<usize, LineFault> {
        let len = bytes.len().min(self.buffer.len());
        for (turned, byte) in self.buffer.iter_mut().zip(bytes) {
            *turned = byte.reverse_bits();
        }
        let frame = self.buffer.get(..len).unwrap_or_default();
        let head = [DATA_WRITE.reverse_bits()];
        let mut operations = [Operation::Write(&head), Operation::Write(frame)];
        self.device.transaction(&mut operations).await.map_err(fault)?;
        Ok(len)
    }

    async fn receive(&mut self, expect: Expect, out: &mut [u8]) -> Result<usize, LineFault> {
        loop {
            self.ready.worth_asking().await;
            let head = [STATUS_READ.reverse_bits()];
            let mut status = [0];
            let mut operations = [Operation::Write(&head), Operation::Read(&mut status)];
            self.device.transaction(&mut operations).await.map_err(fault)?;
            if status[0].reverse_bits() & READY == 0 {
                continue;
            }
            // A frame is read in one transfer, so everything that it can have is.
            let wanted = match expect {
                Expect::Ack => ACK.len(),
                Expect::Answer => MAX_FRAME,
            };
            let len = wanted.min(out.len());
            let out = out.get_mut(..len).unwrap_or_default();
            let head = [DATA_READ.reverse_bits()];
            let mut operations = [Operation::Write(&head), Operation::Read(out)];
            self.device.transaction(&mut operations).await.map_err(fault)?;
            for byte in &mut *out {
                *byte = byte.reverse_bits();
            }
            return Ok(len);
        }
    }
}
