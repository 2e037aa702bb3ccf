//! NOR flash in a file of the host's, reached by semihosting, with NOR's rules: erased units are ones, a write only
//! clears bits, units are aligned. A write goes to the file word by word, as a chip programs, so that the end of
//! QEMU may come between any two.

use core::ffi::CStr;
use embassy_futures::yield_now;
use embedded_storage_async::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};
use semihosting::fs::{File, OpenOptions};
use semihosting::io::{Read, Seek, SeekFrom, Write};
use wavepass_terminal::layout::ERASE;

/// Bytes of a write unit.
const WORD: usize = 4;
/// Bytes that go to the file at once: no more than a chip programs in one go.
const STEP: usize = 16;

/// What the flash refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FlashError {
    NotAligned,
    OutOfBounds,
    /// A write that would set a bit from zero to one.
    SetsBits,
    /// The file failed.
    File,
}

impl NorFlashError for FlashError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::NotAligned => NorFlashErrorKind::NotAligned,
            Self::OutOfBounds => NorFlashErrorKind::OutOfBounds,
            _ => NorFlashErrorKind::Other,
        }
    }
}

/// The flash.
pub(super) struct HostFlash {
    file: File,
    len: u32,
    #[cfg(feature = "faults")]
    is_slow: bool,
}

impl HostFlash {
    /// Opens the file, which exists; its length is the flash's.
    pub(super) fn open(path: &CStr) -> Option<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path).ok()?;
        let len = u32::try_from(file.metadata().ok()?.len()).ok()?;
        Some(Self {
            file,
            len: len / ERASE * ERASE,
            #[cfg(feature = "faults")]
            is_slow: false,
        })
    }

    /// Takes a millisecond for each read.
    #[cfg(feature = "faults")]
    pub(super) fn slow(self) -> Self {
        Self { is_slow: true, ..self }
    }

    /// Bytes of the flash.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    fn check(&self, from: u32, len: usize, unit: usize) -> Result<(), FlashError> {
        if !(from as usize).is_multiple_of(unit) || !len.is_multiple_of(unit) {
            return Err(FlashError::NotAligned);
        }
        let end = (from as usize).checked_add(len);
        if end.is_none_or(|end| end > self.len as usize) { Err(FlashError::OutOfBounds) } else { Ok(()) }
    }

    fn get(&mut self, from: u32, into: &mut [u8]) -> Result<(), FlashError> {
        self.file.seek(SeekFrom::Start(u64::from(from))).map_err(|_| FlashError::File)?;
        self.file.read_exact(into).map_err(|_| FlashError::File)
    }

    fn put(&mut self, from: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.file.seek(SeekFrom::Start(u64::from(from))).map_err(|_| FlashError::File)?;
        self.file.write_all(bytes).map_err(|_| FlashError::File)
    }
}

impl ErrorType for HostFlash {
    type Error = FlashError;
}

impl ReadNorFlash for HostFlash {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        self.check(offset, bytes.len(), 1)?;
        // The host has it at once; as with a chip, what waits goes on meanwhile.
        yield_now().await;
        #[cfg(feature = "faults")]
        if self.is_slow {
            embassy_time::Timer::after_millis(1).await;
        }
        self.get(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.len as usize
    }
}

impl NorFlash for HostFlash {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = ERASE as usize;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        self.check(from, to.saturating_sub(from) as usize, ERASE as usize)?;
        let blank = [0xFF; 512];
        for at in (from..to).step_by(blank.len()) {
            self.put(at, &blank)?;
        }
        Ok(())
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.check(offset, bytes.len(), WORD)?;
        let mut at = offset;
        for new in bytes.chunks(STEP) {
            let mut old = [0; STEP];
            let old = &mut old[..new.len()];
            self.get(at, old)?;
            if old.iter().zip(new).any(|(old, new)| !old & new != 0) {
                return Err(FlashError::SetsBits);
            }
            self.put(at, new)?;
            at += new.len() as u32;
        }
        Ok(())
    }
}
