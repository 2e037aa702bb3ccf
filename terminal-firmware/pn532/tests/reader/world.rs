//! A chip, a clock that stands still until somebody waits, and an executor that moves it. A reader that waits for
//! nothing at all would stand still for ever, and is found out.

use embedded_io_async::{ErrorType, Read, Write};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use wavepass_hce::card::{Answer, Card, CardFault};
use wavepass_hce::pn532::{Chip, Presented, Switches};
use wavepass_pn532::transport::Hsu;
use wavepass_pn532::{Pn532, Settings, Timer};

pub struct World {
    pub chip: RefCell<Chip>,
    now: Cell<Duration>,
    /// The earliest time that a timer waits for.
    deadline: Cell<Option<Duration>>,
    inbox: RefCell<VecDeque<u8>>,
    /// How likely a byte from host to chip is turned into another.
    pub host_noise: Cell<f64>,
    random: RefCell<ChaCha8Rng>,
}

impl World {
    pub fn new(seed: u64) -> Rc<Self> {
        Rc::new(Self {
            chip: RefCell::new(Chip::new(seed)),
            now: Cell::new(Duration::ZERO),
            deadline: Cell::new(None),
            inbox: RefCell::default(),
            host_noise: Cell::new(0.0),
            random: RefCell::new(ChaCha8Rng::seed_from_u64(seed ^ 0xA5)),
        })
    }

    pub fn now(&self) -> Duration {
        self.now.get()
    }

    pub fn present(&self, seen: &Seen) {
        self.chip.borrow_mut().set_field(vec![Presented::phone(Box::new(Echo(seen.clone())))]);
    }

    pub fn set_field(&self, cards: Vec<Presented>) {
        self.chip.borrow_mut().set_field(cards);
    }

    pub fn switch(&self, switches: Switches) {
        self.chip.borrow_mut().set_switches(switches);
    }

    pub fn wait_until(&self, at: Duration) -> impl Future<Output = ()> + '_ {
        poll_fn(move |_| {
            if self.now() >= at {
                return Poll::Ready(());
            }
            self.deadline.set(Some(self.deadline.get().map_or(at, |d| d.min(at))));
            Poll::Pending
        })
    }

    /// Runs a future; where it waits, time moves to the next thing that happens.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            self.deadline.set(None);
            if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
                return done;
            }
            let next = [self.chip.borrow().next_event(self.now()), self.deadline.get()];
            let next = next.into_iter().flatten().min().expect("the reader waits for something");
            self.now.set(next.max(self.now() + Duration::from_micros(1)));
        }
    }
}

pub struct Clock(pub Rc<World>);

impl Timer for Clock {
    fn now_ms(&self) -> u64 {
        self.0.now().as_millis() as u64
    }

    async fn wait_until(&mut self, at_ms: u64) {
        self.0.wait_until(Duration::from_millis(at_ms)).await;
    }
}

impl embedded_hal_async::delay::DelayNs for Clock {
    async fn delay_ns(&mut self, ns: u32) {
        let at = self.0.now() + Duration::from_nanos(ns.into());
        self.0.wait_until(at).await;
    }
}

/// The serial line in memory. It takes a few bytes at a time, as a buffered UART that is nearly full does.
pub struct Serial(Rc<World>);

impl ErrorType for Serial {
    type Error = Infallible;
}

impl Read for Serial {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        poll_fn(|_| {
            let mut inbox = self.0.inbox.borrow_mut();
            while let Some(bytes) = self.0.chip.borrow_mut().output(self.0.now()) {
                inbox.extend(bytes);
            }
            let len = inbox.len().min(buffer.len()).min(20);
            if len == 0 {
                return Poll::Pending;
            }
            buffer.iter_mut().zip(inbox.drain(..len)).for_each(|(place, byte)| *place = byte);
            Poll::Ready(Ok(len))
        })
        .await
    }
}

impl Write for Serial {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        let mut part = bytes[..bytes.len().min(7)].to_vec();
        let mut random = self.0.random.borrow_mut();
        for byte in &mut part {
            if random.random_bool(self.0.host_noise.get()) {
                *byte = random.random();
            }
        }
        self.0.chip.borrow_mut().receive(self.0.now(), &part);
        Ok(part.len())
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

pub type Reader = Pn532<Hsu<Serial>, Clock>;

pub fn reader(world: &Rc<World>) -> Reader {
    reader_with(world, Settings::default())
}

/// The same, told otherwise.
pub fn reader_with(world: &Rc<World>, settings: Settings) -> Reader {
    Pn532::new(Hsu::new(Serial(Rc::clone(world))), Clock(Rc::clone(world)), settings)
}

/// The commands that reached a card, in order.
pub type Seen = Arc<Mutex<Vec<Vec<u8>>>>;

/// Answers each command with bytes that no other command gets.
pub struct Echo(pub Seen);

/// A command that no other equals, and asks for so many bytes.
pub fn command(number: u32, answer_len: u16) -> Vec<u8> {
    [&number.to_be_bytes()[..], &answer_len.to_be_bytes()].concat()
}

/// What [`Echo`] answers.
pub fn answer_to(command: &[u8]) -> Vec<u8> {
    let len = usize::from(u16::from_be_bytes([command[4], command[5]]));
    // `00 FF` among them looks like the start of a frame.
    let body = (0..len).map(|i| match i % 5 {
        0 => 0x00,
        1 => 0xFF,
        _ => (i as u8).wrapping_mul(31) ^ command[i % command.len()],
    });
    command.iter().copied().chain(body).chain([0x90, 0x00]).collect()
}

impl Card for Echo {
    fn enter_field(&mut self) {}

    fn transmit(&mut self, command: &[u8]) -> Result<Answer, CardFault> {
        self.0.lock().unwrap().push(command.to_vec());
        Ok(Answer { data: answer_to(command), delay_us: 2_000 })
    }
}

/// True for a full run.
pub fn is_long() -> bool {
    std::env::var_os("WAVEPASS_LONG").is_some()
}
