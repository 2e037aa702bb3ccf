//! One chip of flash with a gate's areas as partitions, so that one power cut is a cut for all of them.

use embedded_storage_async::nor_flash::{ErrorType, NorFlash, ReadNorFlash};
use wavepass_gate::Areas;
use wavepass_journal::sim::{Cut, ERASE, FlashError, RamFlash, WRITE};

/// Which area, in the order in which they lie on the chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Keys,
    Identity,
    Floor,
    Deny,
    CaKeys,
    Revocations,
    Config,
    Journal,
}

/// Pages of the deny list's area where a test does not ask for more.
const DENY_PAGES: usize = 4;

#[derive(Clone)]
pub struct Chip {
    flash: RamFlash,
    /// Pages of each area.
    pages: [usize; 8],
}

impl Chip {
    pub fn new(journal_pages: usize) -> Self {
        Self::with_deny(journal_pages, DENY_PAGES)
    }

    pub fn with_deny(journal_pages: usize, deny_pages: usize) -> Self {
        let pages = [2, 2, 2, deny_pages, 2, 2, 2, journal_pages];
        Self { flash: RamFlash::new(pages.iter().sum::<usize>() * ERASE), pages }
    }

    /// Another chip with the same content, and with power.
    pub fn copy(&self) -> Self {
        Self { flash: RamFlash::with(self.flash.content()), pages: self.pages }
    }

    pub fn range(&self, place: Place) -> (usize, usize) {
        let index = place as usize;
        let from = self.pages[..index].iter().sum::<usize>();
        (from * ERASE, (from + self.pages[index]) * ERASE)
    }

    pub fn area(&self, place: Place) -> Area {
        let (from, to) = self.range(place);
        Area { flash: self.flash.clone(), from: from as u32, len: to - from, reads: None }
    }

    pub fn areas(&self) -> Areas<Area> {
        Areas {
            journal: self.area(Place::Journal),
            keys: self.area(Place::Keys),
            identity: self.area(Place::Identity),
            floor: self.area(Place::Floor),
            lists: [Place::Deny, Place::CaKeys, Place::Revocations, Place::Config].map(|p| self.area(p)),
        }
    }

    pub fn content(&self) -> Vec<u8> {
        self.flash.content()
    }

    pub fn content_of(&self, place: Place) -> Vec<u8> {
        let (from, to) = self.range(place);
        self.content()[from..to].to_vec()
    }

    pub fn cut(&self, after: u64, flips: u64) {
        self.flash.cut(Cut { after, flips });
    }

    pub fn power_on(&self) -> bool {
        self.flash.power_on()
    }

    pub fn fail_next_write(&self, landed: usize) {
        self.flash.fail_next_write(landed);
    }

    /// How often any page has been erased.
    pub fn erases(&self) -> u32 {
        self.flash.erases().iter().sum()
    }

    pub fn words(&self) -> u64 {
        self.flash.words()
    }
}

/// A partition of the chip.
pub struct Area {
    flash: RamFlash,
    from: u32,
    len: usize,
    /// Reads that still succeed.
    reads: Option<u32>,
}

impl Area {
    /// The same, on a chip that fails after so many reads.
    pub fn dying_after(self, reads: u32) -> Self {
        Self { reads: Some(reads), ..self }
    }

    fn inside(&self, from: u32, len: usize) -> Result<(), FlashError> {
        if from as usize + len > self.len { Err(FlashError::OutOfBounds) } else { Ok(()) }
    }
}

impl ErrorType for Area {
    type Error = FlashError;
}

impl ReadNorFlash for Area {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        self.inside(offset, bytes.len())?;
        if let Some(reads) = &mut self.reads {
            *reads = reads.checked_sub(1).ok_or(FlashError::Cut)?;
        }
        self.flash.read(self.from + offset, bytes).await
    }

    fn capacity(&self) -> usize {
        self.len
    }
}

impl NorFlash for Area {
    const WRITE_SIZE: usize = WRITE;
    const ERASE_SIZE: usize = ERASE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        self.inside(from, to.saturating_sub(from) as usize)?;
        self.flash.erase(self.from + from, self.from + to).await
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.inside(offset, bytes.len())?;
        self.flash.write(self.from + offset, bytes).await
    }
}
