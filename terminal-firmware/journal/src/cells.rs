//! A blob that is replaced whole: a cut leaves the old one or the new one.
//!
//! The flash is two halves. A half begins with: magic `WPC1` 4 | generation 4 | length 4 | CRC-32 of the blob
//! 4 | CRC-32 of these 4 | ones 4; the blob follows. The header is written last. The sound half with the
//! higher generation counts.
//!
//! A blob may be larger than memory. The old one is read at any place while the new one is written from its
//! beginning to its end, erase unit by erase unit; the old header in the way is erased first.

use crate::Error;
use crate::words::{Running, UNIT, check_geometry, crc, round_up, u32_at};
use embedded_storage_async::nor_flash::NorFlash;

const MAGIC: &[u8; 4] = b"WPC1";
const HEADER: usize = 24;
/// Bytes read at once where the place or the length is not aligned.
const CHUNK: usize = 64;

#[derive(Clone, Copy)]
struct Current {
    half: usize,
    generation: u32,
    len: usize,
    crc: u32,
}

/// A blob that is being written.
struct New {
    half: usize,
    generation: u32,
    len: usize,
    /// Bytes of the half that are erased, or erased and written since.
    erased: usize,
    /// Bytes of the blob that were given, the last few of which may still be in `tail`.
    given: usize,
    tail: [u8; UNIT],
    crc: Running,
}

/// A blob on a flash of its own.
pub struct Cell<F> {
    flash: F,
    half: usize,
    current: Option<Current>,
    new: Option<New>,
}

impl<F: NorFlash> Cell<F> {
    /// Takes the cell up.
    pub async fn open(flash: F) -> Result<Self, Error<F::Error>> {
        check_geometry(&flash, 2)?;
        let half = flash.capacity() / F::ERASE_SIZE / 2 * F::ERASE_SIZE;
        let mut cell = Self { flash, half, current: None, new: None };
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
        let mut digest = Running::new();
        let mut chunk = [0; CHUNK];
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

    /// The blob's length; `None` where there is none that is sound.
    pub fn len(&self) -> Option<usize> {
        self.current.map(|current| current.len)
    }

    /// True if there is none that is sound.
    pub fn is_empty(&self) -> bool {
        self.current.is_none()
    }

    /// Reads the blob into `out`; gives its length, or `None` where there is none that is sound.
    pub async fn load(&mut self, out: &mut [u8]) -> Result<Option<usize>, Error<F::Error>> {
        let Some(current) = self.current else { return Ok(None) };
        let out = out.get_mut(..current.len).ok_or(Error::TooLong)?;
        self.read_half(current.half, 0, out).await?;
        Ok(Some(current.len))
    }

    /// Reads a part of the blob, from `at`; what lies beyond its end is [`Error::TooLong`].
    pub async fn read(&mut self, at: usize, out: &mut [u8]) -> Result<(), Error<F::Error>> {
        let current = self.current.ok_or(Error::TooLong)?;
        if at.checked_add(out.len()).is_none_or(|end| end > current.len) {
            return Err(Error::TooLong);
        }
        self.read_half(current.half, at, out).await
    }

    /// Reads a part of a half at any place, in aligned portions.
    async fn read_half(&mut self, half: usize, at: usize, out: &mut [u8]) -> Result<(), Error<F::Error>> {
        let base = half * self.half + HEADER;
        let mut done = 0;
        while done < out.len() {
            let from = base + at + done;
            let rest = out.len() - done;
            let skip = from % UNIT;
            if skip == 0 && rest >= UNIT {
                let n = rest / UNIT * UNIT;
                self.flash.read(from as u32, &mut out[done..done + n]).await.map_err(Error::Flash)?;
                done += n;
            } else {
                let mut unit = [0; UNIT];
                self.flash.read((from - skip) as u32, &mut unit).await.map_err(Error::Flash)?;
                let n = rest.min(UNIT - skip);
                out[done..done + n].copy_from_slice(&unit[skip..skip + n]);
                done += n;
            }
        }
        Ok(())
    }

    /// Replaces the blob; durable on return. Erases units: not for the time between a card and its opening.
    pub async fn store(&mut self, blob: &[u8]) -> Result<(), Error<F::Error>> {
        self.begin(blob.len())?;
        self.append(blob).await?;
        self.commit().await
    }

    /// Begins a new blob of this length, in place of one that was begun and not committed. Changes nothing yet.
    pub fn begin(&mut self, len: usize) -> Result<(), Error<F::Error>> {
        self.new = None;
        if len > self.room() {
            return Err(Error::TooLong);
        }
        let (half, generation) = match self.current {
            None => (0, 1),
            Some(c) => (1 - c.half, c.generation.checked_add(1).ok_or(Error::Sequence)?),
        };
        let (tail, crc) = ([0xFF; UNIT], Running::new());
        self.new = Some(New { half, generation, len, erased: 0, given: 0, tail, crc });
        Ok(())
    }

    /// Gives up the blob that was begun; the old one stays.
    pub fn discard(&mut self) {
        self.new = None;
    }

    /// Erases one unit ahead of what is written, if there is one to erase: idle-time work, so that
    /// [`Cell::append`] seldom has to. True if it did.
    pub async fn prepare(&mut self) -> Result<bool, Error<F::Error>> {
        let Some(new) = &self.new else { return Ok(false) };
        let (written, end) = (HEADER + new.given, HEADER + round_up(new.len));
        if new.erased >= end.min(written + F::ERASE_SIZE) {
            return Ok(false);
        }
        self.erase_next().await?;
        Ok(true)
    }

    async fn erase_next(&mut self) -> Result<(), Error<F::Error>> {
        let Some(new) = &mut self.new else { return Ok(()) };
        let from = new.half * self.half + new.erased;
        self.flash.erase(from as u32, (from + F::ERASE_SIZE) as u32).await.map_err(Error::Flash)?;
        new.erased += F::ERASE_SIZE;
        Ok(())
    }

    /// Writes the next bytes of the new blob; more than were announced are [`Error::TooLong`]. After a failure of the
    /// flash the new blob is given up.
    pub async fn append(&mut self, bytes: &[u8]) -> Result<(), Error<F::Error>> {
        let new = self.new.as_mut().ok_or(Error::Unfinished)?;
        if bytes.len() > new.len - new.given {
            return Err(Error::TooLong);
        }
        new.crc.update(bytes);
        let done = self.append_units(bytes).await;
        if done.is_err() {
            self.new = None;
        }
        done
    }

    async fn append_units(&mut self, bytes: &[u8]) -> Result<(), Error<F::Error>> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let new = self.new.as_mut().ok_or(Error::Unfinished)?;
            let (at, filled) = (new.given, new.given % UNIT);
            if filled == 0 && rest.len() >= UNIT {
                let (whole, after) = rest.split_at(rest.len() / UNIT * UNIT);
                (new.given, rest) = (at + whole.len(), after);
                self.write_units(at, whole).await?;
                continue;
            }
            let (part, after) = rest.split_at(rest.len().min(UNIT - filled));
            new.tail[filled..filled + part.len()].copy_from_slice(part);
            (new.given, rest) = (at + part.len(), after);
            if new.given.is_multiple_of(UNIT) || new.given == new.len {
                let unit = core::mem::replace(&mut new.tail, [0xFF; UNIT]);
                self.write_units(at - filled, &unit).await?;
            }
        }
        Ok(())
    }

    async fn write_units(&mut self, at: usize, units: &[u8]) -> Result<(), Error<F::Error>> {
        let end = HEADER + at + units.len();
        while self.new.as_ref().is_some_and(|new| new.erased < end) {
            self.erase_next().await?;
        }
        let new = self.new.as_ref().ok_or(Error::Unfinished)?;
        let from = new.half * self.half + HEADER + at;
        self.flash.write(from as u32, units).await.map_err(Error::Flash)
    }

    /// Reads a part of the new blob as it stands in flash, once all of it was given.
    pub async fn read_new(&mut self, at: usize, out: &mut [u8]) -> Result<(), Error<F::Error>> {
        let new = self.new.as_ref().filter(|new| new.given == new.len).ok_or(Error::Unfinished)?;
        if at.checked_add(out.len()).is_none_or(|end| end > new.len) {
            return Err(Error::TooLong);
        }
        self.read_half(new.half, at, out).await
    }

    /// Puts the new blob, all of which was given, in the place of the old one; durable on return.
    pub async fn commit(&mut self) -> Result<(), Error<F::Error>> {
        let new = self.new.take_if(|new| new.given == new.len).ok_or(Error::Unfinished)?;
        let base = new.half * self.half;
        let mut header = [0xFF; HEADER];
        let crc_of_blob = new.crc.finish();
        header[..4].copy_from_slice(MAGIC);
        header[4..8].copy_from_slice(&new.generation.to_le_bytes());
        header[8..12].copy_from_slice(&(new.len as u32).to_le_bytes());
        header[12..16].copy_from_slice(&crc_of_blob.to_le_bytes());
        let own = crc(&[&header[..16]]);
        header[16..20].copy_from_slice(&own.to_le_bytes());
        if new.erased == 0 {
            // An empty blob: nothing has made room for the header yet.
            self.flash.erase(base as u32, (base + F::ERASE_SIZE) as u32).await.map_err(Error::Flash)?;
        }
        self.flash.write(base as u32, &header).await.map_err(Error::Flash)?;
        let New { half, generation, len, .. } = new;
        self.current = Some(Current { half, generation, len, crc: crc_of_blob });
        Ok(())
    }
}
