//! The gate's flash: what is secret in the processor's own, the rest in the board's QSPI chip (Macronix MX25R6435F,
//! 8 MB), one after the other under one address, as [`Layout`](wavepass_terminal::layout::Layout) divides it.
//!
//! The processor's flash: pages of 4,096 bytes and words of 4. A page erase stops the processor for about 85 ms, so the
//! gate erases in idle time only; a word may be written twice between erases (n_WRITE), which is what the key log does.
//! Only where a cut tears the zeros over a used key it writes them a third time: programming goes beyond the
//! specification then, and what is meant by it are zeros in any case. The chip: units of 4,096 bytes. Its controller
//! reads and writes whole words between word-aligned memory, so everything goes through one aligned buffer, and what
//! was written is durable when the chip says that it is done. Facts: nRF52840 product specification (NVMC, QSPI) and
//! the chip's data sheet.

use super::{Irqs, PRIORITY};
use embassy_futures::yield_now;
use embassy_nrf::Peri;
use embassy_nrf::interrupt::{self, InterruptExt};
use embassy_nrf::nvmc::{FLASH_SIZE, Nvmc};
use embassy_nrf::peripherals::{NVMC, P0_17, P0_19, P0_20, P0_21, P0_22, P0_23, QSPI};
use embassy_nrf::qspi::{self, Qspi};
use embassy_time::Timer;
use embedded_storage::nor_flash::{NorFlash as _, ReadNorFlash as _};
use embedded_storage_async::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};
use wavepass_terminal::layout::{ERASE, INSIDE};

/// Bytes of the chip.
const CHIP: u32 = 8 << 20;
/// Bytes of both together.
pub(super) const CAPACITY: u32 = INSIDE + CHIP;
/// Where the secret areas begin: they are the last pages of the processor's flash.
const INSIDE_AT: u32 = FLASH_SIZE as u32 - INSIDE;
/// Bytes of a write unit of both.
const WORD: u32 = 4;
/// Bytes that the chip programs in one go.
const PAGE: usize = 256;
/// JEDEC's number of the chip: Macronix, MX25R, 64 Mbit.
const CHIP_ID: [u8; 3] = [0xC2, 0x28, 0x17];
const READ_ID: u8 = 0x9F;
const READ_STATUS: u8 = 0x05;
const WRITE_STATUS: u8 = 0x01;
const BUSY: u8 = 1;
const QUAD_ENABLED: u8 = 1 << 6;
/// How often the chip is asked, a millisecond apart, before it counts as broken: an erase takes at most 240 ms.
const PATIENCE: u32 = 1000;

/// What the flash refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FlashError {
    NotAligned,
    OutOfBounds,
    /// The chip does not become ready.
    Stuck,
}

impl NorFlashError for FlashError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::NotAligned => NorFlashErrorKind::NotAligned,
            Self::OutOfBounds => NorFlashErrorKind::OutOfBounds,
            Self::Stuck => NorFlashErrorKind::Other,
        }
    }
}

impl From<qspi::Error> for FlashError {
    fn from(_: qspi::Error) -> Self {
        Self::OutOfBounds
    }
}

impl From<embassy_nrf::nvmc::Error> for FlashError {
    fn from(why: embassy_nrf::nvmc::Error) -> Self {
        match why {
            embassy_nrf::nvmc::Error::OutOfBounds => Self::OutOfBounds,
            embassy_nrf::nvmc::Error::Unaligned => Self::NotAligned,
        }
    }
}

/// The controller and its pins.
pub(super) struct ChipParts {
    pub(super) qspi: Peri<'static, QSPI>,
    pub(super) sck: Peri<'static, P0_19>,
    pub(super) csn: Peri<'static, P0_17>,
    pub(super) io: (Peri<'static, P0_20>, Peri<'static, P0_21>, Peri<'static, P0_22>, Peri<'static, P0_23>),
}

#[repr(C, align(4))]
struct Aligned([u8; PAGE]);

/// The flash.
pub(super) struct BoardFlash {
    inside: Nvmc<'static>,
    chip: Qspi<'static>,
    buffer: Aligned,
}

/// Which of the two, and where in it.
enum Place {
    Inside(u32),
    Chip(u32),
}

impl BoardFlash {
    /// Sets the chip up; `None` if it is not there or is another one.
    pub(super) async fn open(nvmc: Peri<'static, NVMC>, parts: ChipParts) -> Option<Self> {
        let mut config = qspi::Config::default();
        config.capacity = CHIP;
        config.frequency = qspi::Frequency::M16;
        interrupt::QSPI.set_priority(PRIORITY);
        let (io0, io1, io2, io3) = parts.io;
        let chip = Qspi::new(parts.qspi, Irqs, parts.sck, parts.csn, io0, io1, io2, io3, config);
        let mut flash = Self { inside: Nvmc::new(nvmc), chip, buffer: Aligned([0; PAGE]) };

        // An erase that a reset cut into may still run.
        let status = flash.ready().await.ok()?;
        let mut id = [0; 3];
        flash.chip.custom_instruction(READ_ID, &[], &mut id).await.ok()?;
        if id != CHIP_ID {
            defmt::error!("the flash chip's number is {=[u8]:02x}", id);
            return None;
        }
        if status & QUAD_ENABLED == 0 {
            flash.chip.custom_instruction(WRITE_STATUS, &[status | QUAD_ENABLED], &mut []).await.ok()?;
            flash.ready().await.ok()?;
        }
        Some(flash)
    }

    /// Waits until the chip has done what it was told; gives its status.
    async fn ready(&mut self) -> Result<u8, FlashError> {
        for _ in 0..PATIENCE {
            let mut status = [0];
            self.chip.custom_instruction(READ_STATUS, &[], &mut status).await?;
            if status[0] & BUSY == 0 {
                return Ok(status[0]);
            }
            Timer::after_millis(1).await;
        }
        Err(FlashError::Stuck)
    }

    /// Where `len` bytes from `from` are: wholly in the one or in the other.
    fn place(from: u32, len: u32, unit: u32) -> Result<Place, FlashError> {
        if !from.is_multiple_of(unit) || !len.is_multiple_of(unit) {
            return Err(FlashError::NotAligned);
        }
        let end = from.checked_add(len).filter(|&end| end <= CAPACITY).ok_or(FlashError::OutOfBounds)?;
        if end <= INSIDE {
            Ok(Place::Inside(INSIDE_AT + from))
        } else if from >= INSIDE {
            Ok(Place::Chip(from - INSIDE))
        } else {
            Err(FlashError::OutOfBounds)
        }
    }

    async fn read_chip(&mut self, mut at: u32, mut into: &mut [u8]) -> Result<(), FlashError> {
        while !into.is_empty() {
            let skip = (at % WORD) as usize;
            let len = (PAGE - skip).min(into.len());
            let words = &mut self.buffer.0[..(skip + len).next_multiple_of(WORD as usize)];
            self.chip.read(at - skip as u32, words).await?;
            let (now, rest) = into.split_at_mut(len);
            now.copy_from_slice(&words[skip..skip + len]);
            into = rest;
            at += len as u32;
        }
        Ok(())
    }

    async fn write_chip(&mut self, mut at: u32, mut bytes: &[u8]) -> Result<(), FlashError> {
        while !bytes.is_empty() {
            let len = (PAGE - at as usize % PAGE).min(bytes.len());
            let (now, rest) = bytes.split_at(len);
            let words = &mut self.buffer.0[..len];
            words.copy_from_slice(now);
            self.chip.write(at, words).await?;
            self.ready().await?;
            bytes = rest;
            at += len as u32;
        }
        Ok(())
    }
}

impl ErrorType for BoardFlash {
    type Error = FlashError;
}

impl ReadNorFlash for BoardFlash {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        match Self::place(offset, bytes.len() as u32, 1)? {
            Place::Inside(at) => Ok(self.inside.read(at, bytes)?),
            Place::Chip(at) => self.read_chip(at, bytes).await,
        }
    }

    fn capacity(&self) -> usize {
        CAPACITY as usize
    }
}

impl NorFlash for BoardFlash {
    const WRITE_SIZE: usize = WORD as usize;
    const ERASE_SIZE: usize = ERASE as usize;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        for unit in (from..to).step_by(ERASE as usize) {
            match Self::place(unit, (to - unit).min(ERASE), ERASE)? {
                Place::Inside(at) => {
                    self.inside.erase(at, at + ERASE)?;
                    // The processor stood still; let what waits go on before the next page.
                    yield_now().await;
                }
                Place::Chip(at) => {
                    self.chip.erase(at).await?;
                    self.ready().await?;
                }
            }
        }
        Ok(())
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        match Self::place(offset, bytes.len() as u32, WORD)? {
            Place::Inside(at) => Ok(self.inside.write(at, bytes)?),
            Place::Chip(at) => self.write_chip(at, bytes).await,
        }
    }
}
