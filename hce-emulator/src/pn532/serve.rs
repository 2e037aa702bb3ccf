//! A chip as a serial line over TCP: one connection at a time, on threads of its own.

use super::chip::Chip;
use super::field::Presented;
use super::switches::{Counters, Switches};
use crate::card::Card;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a thread that waits looks whether it should stop.
const POLL: Duration = Duration::from_millis(50);
/// How long the host may take to read what the chip sent.
const WRITE_TIME: Duration = Duration::from_secs(10);

struct Shared {
    chip: Mutex<Chip>,
    /// The chip has changed: there may be something to send, or to see.
    changed: Condvar,
    stop: AtomicBool,
    begun: Instant,
}

impl Shared {
    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn chip(&self) -> MutexGuard<'_, Chip> {
        // A card that panicked leaves the chip as it was between two commands.
        self.chip.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A simulated PN532 that serves a serial line over TCP until it is dropped.
///
/// Every connection begins with the chip's power coming on: it sleeps until it is woken. Cards stay in the field.
pub struct SimulatedChip {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for SimulatedChip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimulatedChip({})", self.address)
    }
}

impl SimulatedChip {
    /// Serves the chip on this listener. `seed` decides when chances come true.
    pub fn start(listener: TcpListener, seed: u64) -> io::Result<Self> {
        Self::serve(listener, Chip::new(seed))
    }

    /// As [`SimulatedChip::start`], with these switches and these cards in the field from the first byte on: who
    /// connected to the listener before this call finds no other chip either.
    pub fn start_with(
        listener: TcpListener,
        seed: u64,
        switches: Switches,
        cards: Vec<Presented>,
    ) -> io::Result<Self> {
        let mut chip = Chip::new(seed);
        chip.set_switches(switches);
        chip.set_field(cards);
        Self::serve(listener, chip)
    }

    fn serve(listener: TcpListener, chip: Chip) -> io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            chip: Mutex::new(chip),
            changed: Condvar::new(),
            stop: AtomicBool::new(false),
            begun: Instant::now(),
        });
        let thread = std::thread::Builder::new().name("pn532".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || serve(&listener, &shared)
        })?;
        Ok(Self { shared, address, thread: Some(thread) })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Holds a phone to the reader, in the place of whatever was there.
    pub fn present(&self, card: Box<dyn Card + Send>) {
        self.set_field(vec![Presented::phone(card)]);
    }

    /// Holds two phones to the reader.
    pub fn present_two(&self, first: Box<dyn Card + Send>, second: Box<dyn Card + Send>) {
        self.set_field(vec![Presented::phone(first), Presented::phone(second)]);
    }

    /// Takes everything away.
    pub fn remove(&self) {
        self.set_field(Vec::new());
    }

    /// These cards are in the field from now on.
    pub fn set_field(&self, cards: Vec<Presented>) {
        self.with(|chip| chip.set_field(cards));
    }

    /// How the chip behaves from now on.
    pub fn set_switches(&self, switches: Switches) {
        self.with(|chip| chip.set_switches(switches));
    }

    /// Power goes and comes.
    pub fn reset(&self) {
        self.with(Chip::power_on);
    }

    /// What has happened so far.
    pub fn counters(&self) -> Counters {
        self.shared.chip().counters().clone()
    }

    /// Waits until the counters are as wanted, and says whether they came to be before `timeout`.
    pub fn wait_for(&self, timeout: Duration, mut wanted: impl FnMut(&Counters) -> bool) -> bool {
        let chip = self.shared.chip();
        let waited = self.shared.changed.wait_timeout_while(chip, timeout, |chip| !wanted(chip.counters()));
        let (chip, _) = waited.unwrap_or_else(PoisonError::into_inner);
        wanted(chip.counters())
    }

    /// Waits until the reader has released its card and searched again without finding one: take the card away
    /// first. Says whether it came to be before `timeout`.
    pub fn wait_empty(&self, timeout: Duration) -> bool {
        let empty = self.counters().empty;
        // The search that is running may have begun before the card was taken away.
        self.wait_for(timeout, |counters| counters.empty >= empty + 2)
    }

    fn with(&self, change: impl FnOnce(&mut Chip)) {
        change(&mut self.shared.chip());
        self.shared.changed.notify_all();
    }
}

impl Drop for SimulatedChip {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It ended by itself if it panicked; there is nobody to tell here.
            let _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, shared: &Shared) {
    while !shared.stop.load(Ordering::Relaxed) {
        match listener.accept() {
            // A connection that fails ends; the next one is served.
            Ok((stream, _)) => drop(serve_one(stream, shared)),
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

fn serve_one(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(POLL))?;
    stream.set_write_timeout(Some(WRITE_TIME))?;
    let writer = stream.try_clone()?;
    let is_over = AtomicBool::new(false);
    shared.chip().power_on();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = send(writer, shared, &is_over); // the reading side sees the end too
        });
        let result = read(&mut stream, shared);
        is_over.store(true, Ordering::Relaxed);
        shared.changed.notify_all();
        let _ = stream.shutdown(Shutdown::Both); // it may be closed already
        result
    })
}

/// Hands what the host sends to the chip.
fn read(stream: &mut TcpStream, shared: &Shared) -> io::Result<()> {
    let mut buffer = [0; 512];
    while !shared.stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => {
                shared.chip().receive(shared.now(), &buffer[..len]);
                shared.changed.notify_all();
            }
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
                ) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Sends what the chip says when it is due.
fn send(mut stream: TcpStream, shared: &Shared, is_over: &AtomicBool) -> io::Result<()> {
    let mut chip = shared.chip();
    while !shared.stop.load(Ordering::Relaxed) && !is_over.load(Ordering::Relaxed) {
        let now = shared.now();
        if let Some(bytes) = chip.output(now) {
            drop(chip);
            shared.changed.notify_all(); // counters have moved
            stream.write_all(&bytes)?;
            chip = shared.chip();
            continue;
        }
        let wait = chip.next_event(now).map_or(POLL, |at| at.saturating_sub(now).min(POLL));
        // Sleeping for less than the system's timers can do would only burn time.
        let waited = shared.changed.wait_timeout(chip, wait.max(Duration::from_micros(200)));
        chip = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
    Ok(())
}
