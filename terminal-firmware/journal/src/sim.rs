//! NOR flash in software, with NOR's rules: erased units are ones, a write only clears bits, units are aligned.
//!
//! [`FileFlash`] keeps its bytes in a file, so that killing the process is a power cut. [`RamFlash`] is for
//! tests: it can be cut at any written word or inside an erase.

use embedded_storage_async::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::vec::Vec;

/// Erase unit, bytes.
pub const ERASE: usize = 4096;
/// Write unit, bytes.
pub const WRITE: usize = 4;

/// What a simulated flash refuses or suffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlashError {
    /// Not on a unit's boundary.
    NotAligned,
    /// Beyond the end.
    OutOfBounds,
    /// A write that would set a bit from zero to one.
    SetsBits {
        /// Where.
        at: usize,
    },
    /// The power is gone.
    Cut,
    /// The file behind it failed.
    Io(io::ErrorKind),
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

fn check(capacity: usize, from: usize, len: usize, unit: usize) -> Result<(), FlashError> {
    if !from.is_multiple_of(unit) || !len.is_multiple_of(unit) {
        return Err(FlashError::NotAligned);
    }
    if from.checked_add(len).is_none_or(|end| end > capacity) { Err(FlashError::OutOfBounds) } else { Ok(()) }
}

fn program(old: &mut [u8], new: &[u8], at: usize) -> Result<(), FlashError> {
    if let Some(i) = (0..new.len()).find(|&i| !old[i] & new[i] != 0) {
        return Err(FlashError::SetsBits { at: at + i });
    }
    old.copy_from_slice(new);
    Ok(())
}

/// A flash whose bytes are a file. Reads come from memory; writes go to the file at once, without waiting for
/// the disk: they survive the end of the process, as a chip's survive the end of power.
pub struct FileFlash {
    bytes: Vec<u8>,
    file: File,
}

impl FileFlash {
    /// Opens or makes the file; a new one is erased, and its owner's alone, since gates keep keys in flash. The length
    /// is rounded up to erase units.
    pub fn open(path: &Path, bytes: usize) -> io::Result<Self> {
        let len = bytes.next_multiple_of(ERASE);
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path)?;
        let mut content = std::vec![0xFF; len];
        let found = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        if found > len {
            let why = std::format!("{} is {found} bytes, more than the flash's {len}", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        file.read_exact_at(&mut content[..found], 0)?;
        if found < len {
            file.write_all_at(&content[found..], found as u64)?;
        }
        Ok(Self { bytes: content, file })
    }

    fn persist(&self, from: usize, len: usize) -> Result<(), FlashError> {
        self.file
            .write_all_at(&self.bytes[from..from + len], from as u64)
            .map_err(|e| FlashError::Io(e.kind()))
    }
}

impl ErrorType for FileFlash {
    type Error = FlashError;
}

impl ReadNorFlash for FileFlash {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        let from = offset as usize;
        check(self.bytes.len(), from, bytes.len(), 1)?;
        bytes.copy_from_slice(&self.bytes[from..from + bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl NorFlash for FileFlash {
    const WRITE_SIZE: usize = WRITE;
    const ERASE_SIZE: usize = ERASE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        let (from, to) = (from as usize, to as usize);
        check(self.bytes.len(), from, to.saturating_sub(from), ERASE)?;
        self.bytes[from..to].fill(0xFF);
        self.persist(from, to - from)
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        let from = offset as usize;
        check(self.bytes.len(), from, bytes.len(), WRITE)?;
        program(&mut self.bytes[from..from + bytes.len()], bytes, from)?;
        self.persist(from, bytes.len())
    }
}

/// When the power goes, counted in words written; an erase counts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Words that are still written whole.
    pub after: u64,
    /// Which bits of the word in flight (or, in an erase, of each word of the unit) change all the same.
    pub flips: u64,
}

struct Ram {
    bytes: Vec<u8>,
    words: u64,
    erases: Vec<u32>,
    cut: Option<Cut>,
    dead: bool,
    /// The next write fails after so many bytes have landed; then the chip works again.
    failing: Option<usize>,
}

/// A flash in memory. Clones are handles to the same chip, so that it can be opened again after a cut.
#[derive(Clone)]
pub struct RamFlash(Arc<Mutex<Ram>>);

impl RamFlash {
    /// An erased chip.
    pub fn new(bytes: usize) -> Self {
        Self::with(std::vec![0xFF; bytes.next_multiple_of(ERASE)])
    }

    /// A chip with this content, extended by ones to whole erase units.
    pub fn with(mut bytes: Vec<u8>) -> Self {
        bytes.resize(bytes.len().next_multiple_of(ERASE), 0xFF);
        let erases = std::vec![0; bytes.len() / ERASE];
        Self(Arc::new(Mutex::new(Ram { bytes, words: 0, erases, cut: None, dead: false, failing: None })))
    }

    fn ram(&self) -> std::sync::MutexGuard<'_, Ram> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plans a power cut.
    pub fn cut(&self, cut: Cut) {
        let mut ram = self.ram();
        (ram.cut, ram.words) = (Some(cut), 0);
    }

    /// Makes the next write fail after so many bytes have landed, without a loss of power.
    pub fn fail_next_write(&self, landed: usize) {
        self.ram().failing = Some(landed);
    }

    /// Power comes back. True if it had gone.
    pub fn power_on(&self) -> bool {
        let mut ram = self.ram();
        ram.cut = None;
        core::mem::take(&mut ram.dead)
    }

    /// Words written (erases count one) since the last planned cut, or since it was made.
    pub fn words(&self) -> u64 {
        self.ram().words
    }

    /// How often each unit has been erased.
    pub fn erases(&self) -> Vec<u32> {
        self.ram().erases.clone()
    }

    /// A copy of the content.
    pub fn content(&self) -> Vec<u8> {
        self.ram().bytes.clone()
    }
}

impl Ram {
    /// Counts one word or erase; tells which bits of it change if the power goes now.
    fn tick(&mut self) -> Option<u64> {
        let now = self.words;
        self.words += 1;
        let cut = self.cut.filter(|c| c.after == now)?;
        self.dead = true;
        Some(cut.flips)
    }
}

impl ErrorType for RamFlash {
    type Error = FlashError;
}

impl ReadNorFlash for RamFlash {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        let ram = self.ram();
        if ram.dead {
            return Err(FlashError::Cut);
        }
        let from = offset as usize;
        check(ram.bytes.len(), from, bytes.len(), 1)?;
        bytes.copy_from_slice(&ram.bytes[from..from + bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.ram().bytes.len()
    }
}

impl NorFlash for RamFlash {
    const WRITE_SIZE: usize = WRITE;
    const ERASE_SIZE: usize = ERASE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        let mut ram = self.ram();
        if ram.dead {
            return Err(FlashError::Cut);
        }
        let (from, to) = (from as usize, to as usize);
        check(ram.bytes.len(), from, to.saturating_sub(from), ERASE)?;
        for unit in (from..to).step_by(ERASE) {
            ram.erases[unit / ERASE] += 1;
            let flips = ram.tick();
            for (i, byte) in ram.bytes[unit..unit + ERASE].iter_mut().enumerate() {
                *byte |= flips.map_or(0xFF, |f| (f.rotate_left(i as u32) & 0xFF) as u8);
            }
            if flips.is_some() {
                return Err(FlashError::Cut);
            }
        }
        Ok(())
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        let mut ram = self.ram();
        if ram.dead {
            return Err(FlashError::Cut);
        }
        let from = offset as usize;
        check(ram.bytes.len(), from, bytes.len(), WRITE)?;
        if let Some(landed) = ram.failing.take() {
            let landed = (landed / WRITE * WRITE).min(bytes.len());
            program(&mut ram.bytes[from..from + landed], &bytes[..landed], from)?;
            return Err(FlashError::Io(io::ErrorKind::Other));
        }
        for (i, word) in bytes.chunks(WRITE).enumerate() {
            let at = from + i * WRITE;
            let flips = ram.tick();
            let old = &mut ram.bytes[at..at + WRITE];
            let Some(flips) = flips else {
                program(old, word, at)?;
                continue;
            };
            for (j, byte) in old.iter_mut().enumerate() {
                *byte &= word[j] | !((flips >> (8 * j)) as u8);
            }
            return Err(FlashError::Cut);
        }
        Ok(())
    }
}

/// Runs a future that never waits, as those over simulated flash do.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = core::pin::pin!(future);
    let mut context = core::task::Context::from_waker(core::task::Waker::noop());
    loop {
        if let core::task::Poll::Ready(done) = future.as_mut().poll(&mut context) {
            return done;
        }
    }
}
