//! A blob that is replaced whole: a cut leaves the old one or the new one.
//!
//! The flash is two halves. A half begins with: magic `WPC1` 4 | generation 4 | length 4 | CRC-32 of the blob
//! 4 | CRC-32 of these 4 | ones 4; the blob follows. The header is written last. The sound half with the
//! higher generation counts.

use crate::Error;
use crate::words::{UNIT, check_geometry, crc, round_up, u32_at};
use embedded_storage_async::nor_flash::NorFlash;

const MAGIC: &[u8; 4] = b"WPC1";
const HEADER: usize = 24;

#[derive(Clone, Copy)]
struct Current {
    half: usize,
    generation: u32,
    len: usize,
    crc: u32,
}

/// A blob on a flash of its own.
pub struct Cell<F> {
    flash: F,
    half: usize,
    current: Option<Current>,
}

impl<F: NorFlash> Cell<F> {
    /// Takes the cell up.
    pub async fn open(flash: F) -> Result<Self, Error<F::Error>> {
        check_geometry(&flash, 2)?;
        let half = flash.capacity() / F::ERASE_SIZE / 2 * F::ERASE_SIZE;
        let mut cell = Self { flash, half, current: None };
        for half in 0..2 {
            let Some(found) = cell.header(half).await? else { continue };
            if cell.current.is_none_or(|c| found.generation > c.generation) && cell.is_sound(&found).await? {
                cell.current = Some(found);
            }
        }
        Ok(cell)
    }

    async fn header(&mut self, half: usize) -> Result<Option<Current>, Error<F::Error>> {
        let mut header = [0; HEADER];
        self.flash.read((half * self.half) as u32, &mut header).await.map_err(Error::Flash)?;
        let len = u32_at(&header, 8) as usize;
        let sound =
            &header[..4] == MAGIC && crc(&[&header[..16]]) == u32_at(&header, 16) && len <= self.room();
        Ok(sound.then(|| Current { half, generation: u32_at(&header, 4), len, crc: u32_at(&header, 12) }))
    }

    async fn is_sound(&mut self, current: &Current) -> Result<bool, Error<F::Error>> {
        let mut digest = crate::words::Running::new();
        let mut chunk = [0; 64];
        let mut done = 0;
        while done < current.len {
            let n = chunk.len().min(round_up(current.len - done));
            let at = current.half * self.half + HEADER + done;
            self.flash.read(at as u32, &mut chunk[..n]).await.map_err(Error::Flash)?;
            digest.update(&chunk[..n.min(current.len - done)]);
            done += n;
        }
        Ok(digest.finish() == current.crc)
    }

    /// The longest blob, bytes.
    pub fn room(&self) -> usize {
        self.half - HEADER
    }

    /// Reads the blob into `out`; gives its length, or `None` where none was ever stored.
    pub async fn load(&mut self, out: &mut [u8]) -> Result<Option<usize>, Error<F::Error>> {
        let Some(current) = self.current else { return Ok(None) };
        let out = out.get_mut(..current.len).ok_or(Error::TooLong)?;
        let base = current.half * self.half + HEADER;
        let whole = out.len() / UNIT * UNIT;
        self.flash.read(base as u32, &mut out[..whole]).await.map_err(Error::Flash)?;
        if whole < out.len() {
            let mut last = [0; UNIT];
            self.flash.read((base + whole) as u32, &mut last).await.map_err(Error::Flash)?;
            let rest = out.len() - whole;
            out[whole..].copy_from_slice(&last[..rest]);
        }
        Ok(Some(current.len))
    }

    /// Replaces the blob; durable on return. Erases a half: not for the time between a card and its opening.
    pub async fn store(&mut self, blob: &[u8]) -> Result<(), Error<F::Error>> {
        if blob.len() > self.room() {
            return Err(Error::TooLong);
        }
        let (half, generation) = match self.current {
            None => (0, 1),
            Some(c) => (1 - c.half, c.generation.checked_add(1).ok_or(Error::Sequence)?),
        };
        let base = half * self.half;
        self.flash.erase(base as u32, (base + self.half) as u32).await.map_err(Error::Flash)?;
        let whole = blob.len() / UNIT * UNIT;
        self.flash.write((base + HEADER) as u32, &blob[..whole]).await.map_err(Error::Flash)?;
        if whole < blob.len() {
            let mut last = [0xFF; UNIT];
            last[..blob.len() - whole].copy_from_slice(&blob[whole..]);
            self.flash.write((base + HEADER + whole) as u32, &last).await.map_err(Error::Flash)?;
        }
        let mut header = [0xFF; HEADER];
        let check = crc(&[blob]);
        header[..4].copy_from_slice(MAGIC);
        header[4..8].copy_from_slice(&generation.to_le_bytes());
        header[8..12].copy_from_slice(&(blob.len() as u32).to_le_bytes());
        header[12..16].copy_from_slice(&check.to_le_bytes());
        let own = crc(&[&header[..16]]);
        header[16..20].copy_from_slice(&own.to_le_bytes());
        self.flash.write(base as u32, &header).await.map_err(Error::Flash)?;
        self.current = Some(Current { half, generation, len: blob.len(), crc: check });
        Ok(())
    }
}
