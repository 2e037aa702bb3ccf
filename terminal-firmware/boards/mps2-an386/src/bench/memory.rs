//! Flash in the board's large memory (16 MB at 0x2100_0000), so that no instruction is spent on the host's files.

use core::ops::Range;
use embedded_storage_async::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash};

const BASE: usize = 0x2100_0000;
/// Where the flash image lies in it.
pub(super) const FLASH: Range<usize> = 0..4 << 20;
/// Where the script lies.
pub(super) const SCRIPT: Range<usize> = 4 << 20..5 << 20;

/// Loads a file that an argument names; each place is loaded once.
pub(super) fn load(name: &str, place: Range<usize>) -> Option<&'static mut [u8]> {
    // SAFETY: the board's PSRAM holds nothing else, and no two places overlap.
    let into = unsafe { core::slice::from_raw_parts_mut((BASE + place.start) as *mut u8, place.len()) };
    let len = super::read_named(name, into)?;
    Some(&mut into[..len])
}

/// The flash.
pub(super) struct MemoryFlash {
    bytes: &'static mut [u8],
}

impl MemoryFlash {
    pub(super) fn new(bytes: &'static mut [u8]) -> Self {
        Self { bytes }
    }

    fn place(&self, from: u32, len: usize) -> Result<Range<usize>, NorFlashErrorKind> {
        let from = from as usize;
        let end = from.checked_add(len).filter(|&end| end <= self.bytes.len());
        Ok(from..end.ok_or(NorFlashErrorKind::OutOfBounds)?)
    }
}

impl ErrorType for MemoryFlash {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for MemoryFlash {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        let place = self.place(offset, bytes.len())?;
        bytes.copy_from_slice(&self.bytes[place]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl NorFlash for MemoryFlash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4096;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        let place = self.place(from, to.saturating_sub(from) as usize)?;
        self.bytes[place].fill(0xFF);
        Ok(())
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        let place = self.place(offset, bytes.len())?;
        for (old, new) in self.bytes[place].iter_mut().zip(bytes) {
            if !*old & new != 0 {
                return Err(NorFlashErrorKind::Other);
            }
            *old = *new;
        }
        Ok(())
    }
}
