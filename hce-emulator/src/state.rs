//! Transaction counters (ATC) that survive: a phone's counter is kept before the phone answers with it.
//!
//! One file holds the counters of one phone or of many, a fixed slot each, so that a city of phones needs one
//! file and one lock. A counter is written in place, in turns to one of two halves of its slot: a cut in the
//! middle of a write spoils the half being written, whose value was in no answer yet, and leaves the other.
//!
//! ```text
//! header 64: "WAVEPASS ATC 1\n" | zeros | number of phones, u32 big-endian
//! a phone 64: 4 applications × 2 halves × 8: "W" | application | ATC 2 | first 4 of SHA-256 over those
//! ```

use crate::files;
use sha2::{Digest, Sha256};
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The most applications on a phone; a slot has room for as many counters.
pub const MAX_APPLICATIONS: usize = 4;
/// The most phones in one file, 64 MiB of it.
pub const MAX_PHONES: u32 = 1 << 20;

const SLOT: u64 = 64;
const HALF: usize = 8;
const MAGIC: &[u8] = b"WAVEPASS ATC 1\n";
const PHONES_AT: usize = 60;

/// What a counter survives once the phone answered with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The end of this process, however sudden: it is written.
    #[default]
    Process,
    /// A power cut: it is written and synchronised.
    PowerCut,
}

/// Why a counter cannot be kept or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Reading or writing failed.
    #[error("{}: {source}; check that the folder exists and can be written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process, or another phone of this one, has the counters.
    #[error("{} is in use by another phone; end it first", .0.display())]
    InUse(PathBuf),
    /// The file is something else.
    #[error("{} is no counter file of this version; move it away", .0.display())]
    Format(PathBuf),
    /// Both halves of a counter are spoilt. Going on would repeat a counter, so the phone does not.
    #[error("the counter of application {application} of phone {phone} is spoilt; issue the phone again")]
    Spoilt {
        /// The phone's place in the file.
        phone: u32,
        /// The application's place on the phone.
        application: usize,
    },
    /// The counter has reached 65,535: the application is used up, as EMV has it.
    #[error("application {0} has used up its transaction counter; issue the phone again")]
    UsedUp(usize),
    /// There is no such application or phone in the file.
    #[error("there is no slot {0}")]
    NoSlot(usize),
}

/// The counters of many phones in one file, locked while it is open. Clones share it.
#[derive(Debug, Clone)]
pub struct SharedCounters {
    file: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    file: File,
    durability: Durability,
    /// Which slots a [`Counters`] holds: two with the same slot would repeat a counter.
    taken: Mutex<Vec<bool>>,
}

impl SharedCounters {
    /// Opens the file, or makes it with counters at 0. A file for fewer phones grows.
    pub fn open(path: &Path, phones: u32, durability: Durability) -> Result<Self, StateError> {
        if phones == 0 || phones > MAX_PHONES {
            return Err(StateError::NoSlot(phones as usize));
        }
        let io = |source| StateError::Io { path: path.to_owned(), source };
        let file =
            files::private().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StateError::InUse(path.to_owned())),
            Err(TryLockError::Error(e)) => return Err(io(e)),
        }
        let len = file.metadata().map_err(io)?.len();
        let mut header = [0; SLOT as usize];
        let mut held = 0;
        if len >= SLOT {
            read_at(&file, &mut header, 0).map_err(io)?;
            held = u32::from_be_bytes([header[60], header[61], header[62], header[63]]);
        }
        // A header of zeros is a file whose making was cut: no phone answered from it yet.
        let foreign = header.iter().any(|&b| b != 0) && !header.starts_with(MAGIC);
        if foreign || (1..SLOT).contains(&len) {
            return Err(StateError::Format(path.to_owned()));
        }
        if held < phones {
            // Slots first, then the header that promises them.
            file.set_len(SLOT * (1 + u64::from(phones))).map_err(io)?;
            header = [0; SLOT as usize];
            header[..MAGIC.len()].copy_from_slice(MAGIC);
            header[PHONES_AT..].copy_from_slice(&phones.to_be_bytes());
            file.sync_all().map_err(io)?;
            write_at(&file, &header, 0).map_err(io)?;
            file.sync_all().map_err(io)?;
            files::sync_folder_of(path).map_err(io)?;
        } else if held > MAX_PHONES || len < SLOT * (1 + u64::from(held)) {
            return Err(StateError::Format(path.to_owned()));
        }
        let taken = Mutex::new(vec![false; held.max(phones) as usize]);
        Ok(Self { file: Arc::new(Inner { path: path.to_owned(), file, durability, taken }) })
    }

    /// The counters of the phone at this place. Nobody else may hold them.
    pub fn phone(&self, index: u32) -> Result<Counters, StateError> {
        let inner = Arc::clone(&self.file);
        {
            let mut taken = inner.taken.lock().unwrap_or_else(PoisonError::into_inner);
            let slot = taken.get_mut(index as usize).ok_or(StateError::NoSlot(index as usize))?;
            if std::mem::replace(slot, true) {
                return Err(StateError::InUse(inner.path.clone()));
            }
        }
        let slot = Slot { inner, index };
        let atc = slot.load()?;
        Ok(Counters { atc, slot: Some(slot) })
    }
}

#[derive(Debug)]
struct Slot {
    inner: Arc<Inner>,
    index: u32,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.inner.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken[self.index as usize] = false;
    }
}

impl Slot {
    fn io(&self, source: io::Error) -> StateError {
        StateError::Io { path: self.inner.path.clone(), source }
    }

    fn at(&self) -> u64 {
        SLOT * (1 + u64::from(self.index))
    }

    fn load(&self) -> Result<[u16; MAX_APPLICATIONS], StateError> {
        let mut bytes = [0; SLOT as usize];
        read_at(&self.inner.file, &mut bytes, self.at()).map_err(|e| self.io(e))?;
        read_slot(&bytes, self.index)
    }

    fn store(&self, application: usize, atc: u16) -> Result<(), StateError> {
        let half = usize::from(atc & 1);
        let at = self.at() + (HALF * (2 * application + half)) as u64;
        write_at(&self.inner.file, &write_half(application, atc), at).map_err(|e| self.io(e))?;
        if self.inner.durability == Durability::PowerCut {
            self.inner.file.sync_data().map_err(|e| self.io(e))?;
        }
        Ok(())
    }
}

fn write_half(application: usize, atc: u16) -> [u8; HALF] {
    let [high, low] = atc.to_be_bytes();
    // At most MAX_APPLICATIONS.
    let value = [b'W', application as u8, high, low];
    let mut half = [0; HALF];
    half[..4].copy_from_slice(&value);
    // A hash, not the complement: a mixture of two counters with their complements may be a third one with its own.
    half[4..].copy_from_slice(&Sha256::digest(value)[..4]);
    half
}

fn read_slot(bytes: &[u8; SLOT as usize], phone: u32) -> Result<[u16; MAX_APPLICATIONS], StateError> {
    let mut atc = [0; MAX_APPLICATIONS];
    for (application, (halves, atc)) in bytes.as_chunks::<{ 2 * HALF }>().0.iter().zip(&mut atc).enumerate() {
        let (even, odd) = halves.split_at(HALF);
        *atc = match (read_half(even, application, 0), read_half(odd, application, 1)) {
            (Some(a), Some(b)) => a.max(b),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return Err(StateError::Spoilt { phone, application }),
        };
    }
    Ok(atc)
}

/// The counters in a file of one phone, looked at without taking them: also while a phone has them. All 0 where
/// there is no file yet.
pub fn peek(path: &Path) -> Result<[u16; MAX_APPLICATIONS], StateError> {
    let io = |source| StateError::Io { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok([0; MAX_APPLICATIONS]),
        Err(e) => return Err(io(e)),
    };
    let mut bytes = [0; 2 * SLOT as usize];
    read_at(&file, &mut bytes, 0).map_err(|_| StateError::Format(path.to_owned()))?;
    match bytes.as_chunks::<{ SLOT as usize }>().0 {
        [header, slot] if header.starts_with(MAGIC) => read_slot(slot, 0),
        _ => Err(StateError::Format(path.to_owned())),
    }
}

/// The value of a half, 0 where it was never written; `None` where it is spoilt.
fn read_half(half: &[u8], application: usize, parity: u16) -> Option<u16> {
    if half == [0; HALF] {
        return Some(0);
    }
    let atc = u16::from_be_bytes([*half.get(2)?, *half.get(3)?]);
    (half == write_half(application, atc) && atc & 1 == parity).then_some(atc)
}

/// The transaction counters of one phone.
#[derive(Debug)]
pub struct Counters {
    atc: [u16; MAX_APPLICATIONS],
    slot: Option<Slot>,
}

impl Counters {
    /// Counters at 0 that nothing survives.
    pub const fn memory() -> Self {
        Self { atc: [0; MAX_APPLICATIONS], slot: None }
    }

    /// The counters in a file of their own.
    pub fn file(path: &Path, durability: Durability) -> Result<Self, StateError> {
        SharedCounters::open(path, 1, durability)?.phone(0)
    }

    /// The last counter that an application used; 0 for one that was never used.
    pub fn atc(&self, application: usize) -> Result<u16, StateError> {
        self.atc.get(application).copied().ok_or(StateError::NoSlot(application))
    }

    /// Moves on by one and gives the new counter, once it is kept. After an error the counter is not used.
    pub fn advance(&mut self, application: usize) -> Result<u16, StateError> {
        let next = self.atc(application)?.checked_add(1).ok_or(StateError::UsedUp(application))?;
        if let Some(slot) = &self.slot {
            slot.store(application, next)?;
        }
        self.atc[application] = next;
        Ok(next)
    }
}

#[cfg(unix)]
fn read_at(file: &File, buf: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buf, at)
}

#[cfg(unix)]
fn write_at(file: &File, buf: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, buf, at)
}

#[cfg(windows)]
fn read_at(file: &File, buf: &mut [u8], at: u64) -> io::Result<()> {
    let read = std::os::windows::fs::FileExt::seek_read(file, buf, at)?;
    if read == buf.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(windows)]
fn write_at(file: &File, buf: &[u8], at: u64) -> io::Result<()> {
    let written = std::os::windows::fs::FileExt::seek_write(file, buf, at)?;
    if written == buf.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_goes_on_where_it_stood() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("phone.state");
        for durability in [Durability::Process, Durability::PowerCut] {
            let mut counters = Counters::file(&path, durability).unwrap();
            let before = counters.atc(1).unwrap();
            for n in 1..=5 {
                assert_eq!(counters.advance(1).unwrap(), before + n);
            }
        }
        let counters = Counters::file(&path, Durability::Process).unwrap();
        assert_eq!([0, 1, 2, 3].map(|i| counters.atc(i).unwrap()), [0, 10, 0, 0]);
    }

    #[test]
    fn phones_of_one_file_do_not_touch_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("phones.state");
        {
            let shared = SharedCounters::open(&path, 3, Durability::Process).unwrap();
            let mut phones: Vec<_> = (0..3).map(|i| shared.phone(i).unwrap()).collect();
            for (i, phone) in phones.iter_mut().enumerate() {
                (0..=i).for_each(|_| assert!(phone.advance(3).is_ok()));
            }
        }
        let shared = SharedCounters::open(&path, 5, Durability::Process).unwrap();
        let atc: Vec<_> = (0..5).map(|i| shared.phone(i).unwrap().atc(3).unwrap()).collect();
        assert_eq!(atc, [1, 2, 3, 0, 0]);
        assert!(matches!(shared.phone(5), Err(StateError::NoSlot(5))));
    }

    #[test]
    fn counters_have_one_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("phones.state");
        let shared = SharedCounters::open(&path, 2, Durability::Process).unwrap();
        let held = shared.phone(0).unwrap();
        assert!(matches!(shared.phone(0), Err(StateError::InUse(_))));
        assert!(matches!(Counters::file(&path, Durability::Process), Err(StateError::InUse(_))));
        drop(held);
        assert!(shared.phone(0).is_ok());
    }

    /// A cut may leave any mixture of old and new bytes in the half being written.
    #[test]
    fn a_torn_write_never_takes_back_a_counter_that_was_answered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("phone.state");
        for answered in [1u16, 2, 255, 256] {
            {
                std::fs::remove_file(&path).ok();
                let mut counters = Counters::file(&path, Durability::Process).unwrap();
                (0..answered).for_each(|_| assert!(counters.advance(0).is_ok()));
            }
            let good = std::fs::read(&path).unwrap();
            let next = answered + 1;
            let at = 64 + HALF * usize::from(next & 1);
            for torn in 0..1u16 << HALF {
                let mut bytes = good.clone();
                for (i, new) in write_half(0, next).into_iter().enumerate() {
                    if torn >> i & 1 == 1 {
                        bytes[at + i] = new;
                    }
                }
                std::fs::write(&path, &bytes).unwrap();
                let found = Counters::file(&path, Durability::Process).unwrap().atc(0).unwrap();
                assert!(found == answered || found == next, "{found} after {answered}, torn {torn:08b}");
            }
        }
    }

    #[test]
    fn a_spoilt_or_foreign_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("phone.state");
        std::fs::write(&path, [7; 128]).unwrap();
        assert!(matches!(Counters::file(&path, Durability::Process), Err(StateError::Format(_))));
        std::fs::remove_file(&path).unwrap();
        drop(Counters::file(&path, Durability::Process).unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[64 + 16..64 + 32].fill(0xEE);
        std::fs::write(&path, &bytes).unwrap();
        let result = Counters::file(&path, Durability::Process);
        assert!(matches!(result, Err(StateError::Spoilt { phone: 0, application: 1 })));
    }

    fn phone_with(counters: Counters) -> crate::phone::Phone {
        use crate::issue::{AuthorityOrder, HouseAuthority, HouseOrder};
        use rand::SeedableRng;
        use wavepass_protocol::time::Date;
        use wavepass_protocol::token::{Expiry, Token};
        let date = |year| Date { year, month: 1, day: 1 };
        let order = AuthorityOrder {
            rid: [0xF0; 5],
            ca_index: 1,
            issuer_id: [0x62, 0x99, 0xFF, 0xFF, 0xFF],
            expiry: date(2036),
            serial: [1; 3],
        };
        let authority = HouseAuthority::generate(&mut rand_chacha::ChaCha20Rng::from_seed([1; 32]), order);
        let order = HouseOrder {
            token: Token::from_digits("6299000000000001").unwrap(),
            expiry: Expiry { year: 30, month: 1 },
            effective: date(2026),
            psn: 0,
            domain: None,
            serial: [1; 6],
            card_key: [1; 32],
            master_key: [1; 16],
        };
        crate::phone::Phone::new(&authority.issue(&order).unwrap(), counters, [1; 32]).unwrap()
    }

    fn read(phone: &mut crate::phone::Phone) -> Result<crate::reader::Reading, crate::reader::ReadError> {
        let date = wavepass_protocol::time::Date { year: 2026, month: 1, day: 1 };
        crate::reader::read(phone, &crate::reader::Values::gate(date, [1; 4]))
    }

    #[test]
    fn a_used_up_counter_stops_and_the_phone_refuses() {
        use crate::reader::ReadError;
        use wavepass_protocol::apdu::Status;
        let mut counters = Counters::memory();
        counters.atc[0] = u16::MAX - 1;
        let mut phone = phone_with(counters);
        assert!(read(&mut phone).is_ok());
        let refused = read(&mut phone).err().unwrap();
        assert!(
            matches!(refused, ReadError::Status { status: Status::ConditionsNotSatisfied, .. }),
            "{refused}"
        );
        assert_eq!(phone.atc(0).unwrap(), u16::MAX);
    }

    #[test]
    fn a_phone_whose_counter_cannot_be_kept_stays_silent() {
        use crate::card::CardFault;
        use crate::reader::ReadError;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("phone.state");
        drop(Counters::file(&path, Durability::Process).unwrap());
        // A file that can be read and not written.
        let file = File::open(&path).unwrap();
        let taken = Mutex::new(vec![true]);
        let inner = Inner { path, file, durability: Durability::Process, taken };
        let slot = Slot { inner: Arc::new(inner), index: 0 };
        let mut phone = phone_with(Counters { atc: [0; MAX_APPLICATIONS], slot: Some(slot) });
        for _ in 0..2 {
            let failed = read(&mut phone).err().unwrap();
            assert!(matches!(failed, ReadError::Card(CardFault::State(StateError::Io { .. }))), "{failed}");
            assert_eq!(phone.atc(0).unwrap(), 0);
        }
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_reads_the_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("phone.state");
        drop(Counters::file(&path, Durability::Process).unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
