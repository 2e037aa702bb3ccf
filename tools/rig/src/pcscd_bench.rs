//! Suites through a real pcscd: each phone in turn in a virtual reader (vpcd), the kernel in front of it.

use crate::bench::{Bench, Own, Said};
use crate::foreign::Foreign;
use crate::pcsc_way::{PcscWay, ReaderError, Readers};
use crate::suite::{Case, WayName};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use wavepass_hce::card::{Answer, Card, CardFault};
use wavepass_hce::contactless::{Identity, Surface};
use wavepass_hce::phone::{Phone, PhoneFile};
use wavepass_hce::state::Counters;
use wavepass_hce::vpcd::{self, Slot};

/// How long a phone may need to appear on its reader, or to be gone from it: pcscd looks a few times a second.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often a phone that does not appear is taken out and put there again: pcscd may miss one that came just as it
/// noticed that another had gone.
const TRIES: usize = 5;

/// The phone that is in the reader now; it is exchanged under the reader's eyes.
#[derive(Clone, Default)]
struct Held(Arc<Mutex<Option<Phone>>>);

impl Held {
    fn with<T>(&self, then: impl FnOnce(&mut Option<Phone>) -> T) -> T {
        then(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Card for Held {
    fn enter_field(&mut self) {
        self.with(|phone| {
            if let Some(phone) = phone {
                phone.enter_field();
            }
        });
    }

    fn transmit(&mut self, command: &[u8]) -> Result<Answer, CardFault> {
        self.with(|phone| match phone {
            Some(phone) => phone.transmit(command),
            None => Err(CardFault::Removed),
        })
    }
}

/// A phone in a virtual reader of pcscd, until it is dropped.
pub struct VirtualReader {
    name: String,
    address: String,
    held: Held,
    stop: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
}

impl VirtualReader {
    /// Takes the reader with this name, whose vpcd listens there.
    pub fn take(name: String, address: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        Self { name, address: address.to_owned(), held: Held::default(), stop, serving: None }
    }

    /// Puts another phone there, and waits until pcscd sees it.
    pub fn hold(&mut self, readers: &Readers, phone: Phone) -> Result<(), ReaderError> {
        self.held.with(|held| *held = Some(phone));
        let mut last = self.seat(readers);
        for _ in 1..TRIES {
            if last.is_ok() {
                break;
            }
            self.leave();
            last = self.seat(readers);
        }
        last
    }

    fn seat(&mut self, readers: &Readers) -> Result<(), ReaderError> {
        if self.serving.is_none() {
            // Whoever was there before is gone only once pcscd has noticed.
            readers.wait(&self.name, false, PATIENCE)?;
            self.stop = Arc::new(AtomicBool::new(false));
            let slot = Slot { address: self.address.clone(), pause: None };
            let (mut card, stop) = (self.held.clone(), Arc::clone(&self.stop));
            self.serving = Some(std::thread::spawn(move || {
                let mut identity = Identity::new(&Surface::default(), [3; 32]);
                vpcd::serve(&slot, &mut card, &mut identity, &stop, &mut |_| {});
            }));
        }
        readers.wait(&self.name, true, PATIENCE)
    }

    fn leave(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(serving) = self.serving.take() {
            // It has nothing to tell but that it ended.
            let _ = serving.join();
        }
    }
}

impl Drop for VirtualReader {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The kernel, pcscd, a virtual reader, the phone.
pub struct Pcscd<'r> {
    own: Own,
    readers: &'r Readers,
    name: String,
    reader: VirtualReader,
    way: Option<PcscWay<'r>>,
}

impl<'r> Pcscd<'r> {
    /// A bench on the reader with this name, whose vpcd listens at this address.
    pub fn new(own: Own, readers: &'r Readers, name: String, address: &str) -> Self {
        let reader = VirtualReader::take(name.clone(), address);
        Self { own, readers, name, reader, way: None }
    }

    /// The way to this phone, which is in the reader from now on.
    pub fn way(&mut self, file: &PhoneFile) -> Result<&mut PcscWay<'r>, String> {
        if self.way.as_ref().is_some_and(PcscWay::is_broken) {
            self.way = None;
        }
        let phone = Phone::new(file, Counters::memory(), [7; 32]).map_err(|e| e.to_string())?;
        self.reader.hold(self.readers, phone).map_err(|e| e.to_string())?;
        if !self.way.as_mut().is_some_and(|way| way.reset()) {
            self.way = None;
            self.way = Some(self.readers.connect(&self.name, PATIENCE).map_err(|e| e.to_string())?);
        }
        self.way.as_mut().ok_or_else(|| "the reader is gone".to_owned())
    }

    /// The rig's own kernel.
    pub const fn own(&mut self) -> &mut Own {
        &mut self.own
    }

    /// Taps a phone; a way that broke is taken anew for the next one.
    fn tap(&mut self, case: &Case, file: &PhoneFile) -> Result<Said, String> {
        self.way(file)?;
        let way = self.way.as_mut().ok_or("the reader is gone")?;
        Ok(self.own.tap(case, file, way))
    }
}

impl Bench for Pcscd<'_> {
    fn way(&self) -> WayName {
        WayName::Pcscd
    }

    fn present(&mut self, case: &Case, file: &PhoneFile) -> Result<Said, String> {
        self.tap(case, file)
    }
}

/// Somebody else's kernel, with the phone in the virtual reader.
pub struct ForeignBench<'r> {
    readers: &'r Readers,
    reader: VirtualReader,
    foreign: Foreign,
}

impl<'r> ForeignBench<'r> {
    /// A bench on the reader that the command is told of, whose vpcd listens at this address.
    pub fn new(readers: &'r Readers, address: &str, foreign: Foreign) -> Self {
        Self { readers, reader: VirtualReader::take(foreign.reader.clone(), address), foreign }
    }
}

impl Bench for ForeignBench<'_> {
    fn way(&self) -> WayName {
        WayName::Command
    }

    fn present(&mut self, case: &Case, file: &PhoneFile) -> Result<Said, String> {
        let phone = Phone::new(file, Counters::memory(), [7; 32]).map_err(|e| e.to_string())?;
        self.reader.hold(self.readers, phone).map_err(|e| e.to_string())?;
        self.foreign.ask(&case.name)
    }
}
