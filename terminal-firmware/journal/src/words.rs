//! Aligned access and checksums, shared by the three stores.

use crate::Error;
use crc::{CRC_32_ISO_HDLC, Crc, Table};
use embedded_storage_async::nor_flash::NorFlash;

/// Everything begins and ends on a multiple of this, which every supported write and read unit divides.
pub(crate) const UNIT: usize = 8;
const CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);

pub(crate) fn crc(parts: &[&[u8]]) -> u32 {
    let mut digest = CRC.digest();
    for part in parts {
        digest.update(part);
    }
    digest.finalize()
}

pub(crate) const fn round_up(len: usize) -> usize {
    len.next_multiple_of(UNIT)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |n, &b| n << 8 | u32::from(b))
}

pub(crate) fn check_geometry<F: NorFlash>(flash: &F, units: usize) -> Result<(), Error<F::Error>> {
    let fits = UNIT.is_multiple_of(F::WRITE_SIZE)
        && UNIT.is_multiple_of(F::READ_SIZE)
        && F::ERASE_SIZE >= 1024
        && F::ERASE_SIZE.is_multiple_of(UNIT)
        && flash.capacity() >= units * F::ERASE_SIZE
        && u32::try_from(flash.capacity()).is_ok();
    if fits { Ok(()) } else { Err(Error::Geometry) }
}

/// True if `len` bytes from `at` are all ones.
pub(crate) async fn is_blank<F: NorFlash>(
    flash: &mut F,
    at: usize,
    len: usize,
) -> Result<bool, Error<F::Error>> {
    let mut chunk = [0; 64];
    let mut done = 0;
    while done < len {
        let n = chunk.len().min(len - done);
        flash.read((at + done) as u32, &mut chunk[..n]).await.map_err(Error::Flash)?;
        if chunk[..n].iter().any(|&b| b != 0xFF) {
            return Ok(false);
        }
        done += n;
    }
    Ok(true)
}

/// A checksum over parts that come one after the other.
pub(crate) struct Running(crc::Digest<'static, u32, Table<1>>);

impl Running {
    pub(crate) fn new() -> Self {
        Self(RUNNING.digest())
    }

    pub(crate) fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    pub(crate) fn finish(self) -> u32 {
        self.0.finalize()
    }
}

static RUNNING: Crc<u32, Table<1>> = CRC;
