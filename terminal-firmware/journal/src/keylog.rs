//! The DUKPT registers: a small log of keys whose used ones are overwritten with zeros where they stand.
//!
//! The flash is two halves of one erase unit each or more. A half: magic `WPK1` 4 | generation 4 | CRC-32 of
//! these 4 | ones 4 | ones 8, then slots of 24 bytes: kind 1 (1 key, 2 counter) | register 1 | ones 2 |
//! CRC-32 of kind, register and value 4 | value 16 (a key; a counter little-endian in the first 4 bytes).
//! A slot of zeros is used up. The half's header is written last, when live slots have been copied over.
//!
//! A cut tears at most the slot being written or overwritten; start-up overwrites every slot that is neither
//! blank nor sound, so that no half-erased key stays. A word is written at most twice between erasures, but that a cut
//! in the middle of an overwriting makes start-up write this slot's words once more, and each further cut there again.

use crate::Error;
use crate::words::{check_geometry, crc, is_blank, u32_at};
use embedded_storage_async::nor_flash::NorFlash;

const MAGIC: &[u8; 4] = b"WPK1";
const HEADER: usize = 24;
const SLOT: usize = 24;
/// How many registers there are.
pub const REGISTERS: usize = 32;
/// Slots that the largest step of the device writes: 31 keys and a counter.
const STEP_SLOTS: usize = 32;
const KEY: u8 = 1;
const COUNTER: u8 = 2;

/// The register log on a flash of its own, whose words may be written a second time, and after a cut again (to zeros).
pub struct KeyLog<F> {
    flash: F,
    half_size: usize,
    half: usize,
    generation: u32,
    /// Offset of the next slot in the half.
    offset: usize,
    /// Offset of each register's slot; 0 where the register is empty.
    places: [u32; REGISTERS],
    counter: u32,
    stale_half: bool,
}

impl<F: NorFlash> KeyLog<F> {
    /// Takes the registers up after power came, whatever a cut left.
    pub async fn open(flash: F) -> Result<Self, Error<F::Error>> {
        check_geometry(&flash, 2)?;
        let half_size = flash.capacity() / F::ERASE_SIZE / 2 * F::ERASE_SIZE;
        if half_size < HEADER + (REGISTERS + 2 * STEP_SLOTS) * SLOT {
            return Err(Error::Geometry);
        }
        let mut log = Self {
            flash,
            half_size,
            half: 0,
            generation: 0,
            offset: HEADER,
            places: [0; REGISTERS],
            counter: 0,
            stale_half: false,
        };
        for half in 0..2 {
            if let Some(generation) = log.header(half).await?
                && generation > log.generation
            {
                (log.half, log.generation) = (half, generation);
            }
        }
        if log.generation == 0 {
            log.begin(0, 1).await?;
        }
        let other = (1 - log.half) * log.half_size;
        log.stale_half = !is_blank(&mut log.flash, other, log.half_size).await?;
        log.replay().await?;
        Ok(log)
    }

    async fn header(&mut self, half: usize) -> Result<Option<u32>, Error<F::Error>> {
        let mut header = [0; HEADER];
        self.flash.read((half * self.half_size) as u32, &mut header).await.map_err(Error::Flash)?;
        let sound = &header[..4] == MAGIC && crc(&[&header[..8]]) == u32_at(&header, 8);
        Ok(sound.then(|| u32_at(&header, 4)))
    }

    /// Makes a half the current one: an erased half for a new log.
    async fn begin(&mut self, half: usize, generation: u32) -> Result<(), Error<F::Error>> {
        let base = (half * self.half_size) as u32;
        self.flash.erase(base, base + self.half_size as u32).await.map_err(Error::Flash)?;
        self.write_header(half, generation).await?;
        (self.half, self.generation, self.offset) = (half, generation, HEADER);
        Ok(())
    }

    async fn write_header(&mut self, half: usize, generation: u32) -> Result<(), Error<F::Error>> {
        let mut header = [0xFF; HEADER];
        header[..4].copy_from_slice(MAGIC);
        header[4..8].copy_from_slice(&generation.to_le_bytes());
        let check = crc(&[&header[..8]]);
        header[8..12].copy_from_slice(&check.to_le_bytes());
        self.flash.write((half * self.half_size) as u32, &header).await.map_err(Error::Flash)
    }

    async fn replay(&mut self) -> Result<(), Error<F::Error>> {
        let mut offset = HEADER;
        let mut end = HEADER;
        while offset + SLOT <= self.half_size {
            let mut slot = [0; SLOT];
            self.flash.read(self.at(self.half, offset), &mut slot).await.map_err(Error::Flash)?;
            if slot != [0xFF; SLOT] {
                end = offset + SLOT;
            }
            match parse(&slot) {
                Some((COUNTER, _, value)) => self.counter = self.counter.max(u32_at(&value, 0)),
                Some((_, register, _)) => {
                    let old = core::mem::replace(&mut self.places[register], offset as u32);
                    if old != 0 {
                        self.overwrite(old as usize).await?;
                    }
                }
                None if slot == [0xFF; SLOT] || slot == [0; SLOT] => {}
                None => self.overwrite(offset).await?,
            }
            offset += SLOT;
        }
        self.offset = end;
        Ok(())
    }

    fn at(&self, half: usize, offset: usize) -> u32 {
        // The geometry check has bounded the capacity to u32.
        (half * self.half_size + offset) as u32
    }

    async fn overwrite(&mut self, offset: usize) -> Result<(), Error<F::Error>> {
        self.flash.write(self.at(self.half, offset), &[0; SLOT]).await.map_err(Error::Flash)
    }

    /// The last counter made durable; 0 for a new device.
    pub fn counter(&self) -> u32 {
        self.counter
    }

    /// The key in a register.
    pub async fn key(&mut self, register: u8) -> Result<Option<[u8; 16]>, Error<F::Error>> {
        let place = *self.places.get(usize::from(register)).ok_or(Error::TooLong)?;
        if place == 0 {
            return Ok(None);
        }
        let mut slot = [0; SLOT];
        self.flash.read(self.at(self.half, place as usize), &mut slot).await.map_err(Error::Flash)?;
        Ok(parse(&slot).map(|(_, _, value)| value))
    }

    /// Puts a key into a register, whose old one is overwritten; durable on return.
    pub async fn put(&mut self, register: u8, key: &[u8; 16]) -> Result<(), Error<F::Error>> {
        let index = usize::from(register);
        if index >= REGISTERS {
            return Err(Error::TooLong);
        }
        let place = self.append(KEY, register, key).await?;
        let old = core::mem::replace(&mut self.places[index], place);
        if old != 0 { self.overwrite(old as usize).await } else { Ok(()) }
    }

    /// Moves the counter on; durable on return. It never goes back.
    pub async fn advance(&mut self, counter: u32) -> Result<(), Error<F::Error>> {
        if counter <= self.counter {
            return Err(Error::Sequence);
        }
        let mut value = [0; 16];
        value[..4].copy_from_slice(&counter.to_le_bytes());
        self.append(COUNTER, 0, &value).await?;
        self.counter = counter;
        Ok(())
    }

    /// Overwrites a register's key with zeros where it stands.
    pub async fn erase(&mut self, register: u8) -> Result<(), Error<F::Error>> {
        let place = self.places.get_mut(usize::from(register)).ok_or(Error::TooLong)?;
        let old = core::mem::take(place);
        if old != 0 { self.overwrite(old as usize).await } else { Ok(()) }
    }

    async fn append(&mut self, kind: u8, register: u8, value: &[u8; 16]) -> Result<u32, Error<F::Error>> {
        if self.offset + SLOT > self.half_size {
            return Err(Error::Full);
        }
        let offset = self.offset;
        self.offset += SLOT;
        self.flash
            .write(self.at(self.half, offset), &slot(kind, register, value))
            .await
            .map_err(Error::Flash)?;
        Ok(offset as u32)
    }

    /// The work of idle time: erases what a move left behind, and moves to the other half while there is
    /// still room for the largest step.
    pub async fn prepare(&mut self) -> Result<(), Error<F::Error>> {
        if self.stale_half {
            let base = self.at(1 - self.half, 0);
            self.flash.erase(base, base + self.half_size as u32).await.map_err(Error::Flash)?;
            self.stale_half = false;
        }
        if self.offset + STEP_SLOTS * SLOT <= self.half_size {
            return Ok(());
        }
        let target = 1 - self.half;
        let mut offset = HEADER;
        let mut places = [0; REGISTERS];
        for (register, moved) in places.iter_mut().enumerate() {
            let Some(key) = self.key(register as u8).await? else { continue };
            let bytes = slot(KEY, register as u8, &key);
            self.flash.write(self.at(target, offset), &bytes).await.map_err(Error::Flash)?;
            *moved = offset as u32;
            offset += SLOT;
        }
        let mut value = [0; 16];
        value[..4].copy_from_slice(&self.counter.to_le_bytes());
        self.flash.write(self.at(target, offset), &slot(COUNTER, 0, &value)).await.map_err(Error::Flash)?;
        let generation = self.generation.checked_add(1).ok_or(Error::Sequence)?;
        self.write_header(target, generation).await?;
        let left = self.half;
        (self.half, self.generation, self.offset, self.places) = (target, generation, offset + SLOT, places);
        // The keys left behind must not outlive this call.
        let base = self.at(left, 0);
        self.stale_half = true;
        self.flash.erase(base, base + self.half_size as u32).await.map_err(Error::Flash)?;
        self.stale_half = false;
        Ok(())
    }
}

fn slot(kind: u8, register: u8, value: &[u8; 16]) -> [u8; SLOT] {
    let mut slot = [0xFF; SLOT];
    slot[0] = kind;
    slot[1] = register;
    slot[4..8].copy_from_slice(&crc(&[&[kind, register], value]).to_le_bytes());
    slot[8..].copy_from_slice(value);
    slot
}

fn parse(slot: &[u8; SLOT]) -> Option<(u8, usize, [u8; 16])> {
    let mut value = [0; 16];
    value.copy_from_slice(&slot[8..]);
    let sound = crc(&[&slot[..2], &value]) == u32_at(slot, 4)
        && (slot[0] == KEY || slot[0] == COUNTER)
        && usize::from(slot[1]) < REGISTERS;
    sound.then_some((slot[0], usize::from(slot[1]), value))
}
