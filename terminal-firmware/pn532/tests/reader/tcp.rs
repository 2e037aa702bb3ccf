//! Over TCP, in real time, as QEMU's serial line connects.

use crate::world::{Echo, Seen, answer_to, command, is_long};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};
use wavepass_hce::pn532::{SimulatedChip, Switches};
use wavepass_pn532::transport::Hsu;
use wavepass_pn532::{Detected, Pn532, Settings, Timer};

/// Longer than anything here takes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls when woken, and every millisecond for the timers.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
            return done;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

struct Clock(Instant);

impl Timer for Clock {
    fn now_ms(&self) -> u64 {
        self.0.elapsed().as_millis() as u64
    }

    async fn wait_until(&mut self, at_ms: u64) {
        poll_fn(|_| if self.now_ms() >= at_ms { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}

#[derive(Default)]
struct Inbox {
    bytes: VecDeque<u8>,
    closed: bool,
    waker: Option<Waker>,
}

/// A socket whose bytes a thread collects, as an interrupt does for a UART.
struct Serial {
    stream: TcpStream,
    inbox: Arc<Mutex<Inbox>>,
}

impl Serial {
    fn connect(chip: &SimulatedChip) -> Self {
        let stream = TcpStream::connect(chip.address()).unwrap();
        stream.set_nodelay(true).unwrap();
        let inbox = Arc::new(Mutex::new(Inbox::default()));
        let (mut reading, shared) = (stream.try_clone().unwrap(), Arc::clone(&inbox));
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            loop {
                let len = reading.read(&mut buffer).unwrap_or(0);
                let mut inbox = shared.lock().unwrap();
                inbox.bytes.extend(&buffer[..len]);
                inbox.closed = len == 0;
                if let Some(waker) = inbox.waker.take() {
                    waker.wake();
                }
                if len == 0 {
                    return;
                }
            }
        });
        Self { stream, inbox }
    }
}

impl Drop for Serial {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both); // the chip may have closed it already
    }
}

impl ErrorType for Serial {
    type Error = ErrorKind;
}

impl Read for Serial {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        poll_fn(|context| {
            let mut inbox = self.inbox.lock().unwrap();
            let len = inbox.bytes.len().min(buffer.len());
            if len == 0 && !inbox.closed {
                inbox.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            buffer.iter_mut().zip(inbox.bytes.drain(..len)).for_each(|(place, byte)| *place = byte);
            Poll::Ready(Ok(len))
        })
        .await
    }
}

impl Write for Serial {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        self.stream.write(bytes).map_err(|_| ErrorKind::BrokenPipe)
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

fn served(seed: u64) -> (SimulatedChip, Pn532<Hsu<Serial>, Clock>) {
    let chip = SimulatedChip::start(TcpListener::bind("127.0.0.1:0").unwrap(), seed).unwrap();
    let reader = connected(&chip);
    (chip, reader)
}

fn connected(chip: &SimulatedChip) -> Pn532<Hsu<Serial>, Clock> {
    Pn532::new(Hsu::new(Serial::connect(chip)), Clock(Instant::now()), Settings::default())
}

#[test]
fn a_phone_comes_answers_and_goes() {
    let (chip, mut reader) = served(1);
    let seen = Seen::default();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(chip.wait_for(PATIENCE, |c| c.empty >= 4), "the reader searches");
            chip.present(Box::new(Echo(seen.clone())));
            assert!(chip.wait_for(PATIENCE, |c| c.apdus == 3));
            chip.remove();
            assert!(chip.wait_empty(PATIENCE));
        });
        let Detected::One(target) = block_on(reader.wait_card()).unwrap() else { panic!("one card") };
        let mut answer = [0; 258];
        for number in 0..3 {
            let len = block_on(reader.exchange(&target, &command(number, 200), &mut answer)).unwrap();
            assert_eq!(answer[..len], answer_to(&command(number, 200)));
        }
        block_on(reader.wait_gone()).unwrap();
    });
    assert_eq!(seen.lock().unwrap().len(), 3);
}

#[test]
fn two_phones_are_several_and_another_reader_may_connect() {
    let (chip, mut reader) = served(2);
    chip.present_two(Box::new(Echo(Seen::default())), Box::new(Echo(Seen::default())));
    assert_eq!(block_on(reader.wait_card()).unwrap(), Detected::Several);
    drop(reader);
    let mut reader = connected(&chip);
    assert_eq!(block_on(reader.wait_card()).unwrap(), Detected::Several);
    assert!(chip.counters().set_ups >= 2, "a new connection finds the chip asleep");
}

#[test]
fn a_line_that_ends_is_named() {
    let (chip, mut reader) = served(3);
    assert_eq!(block_on(reader.poll()).unwrap(), Detected::None);
    drop(chip);
    let error = block_on(reader.wait_card()).unwrap_err();
    assert!(matches!(error, wavepass_pn532::Pn532Error::Line(_)), "{error}");
}

#[test]
fn noise_in_real_time_never_gives_a_wrong_answer() {
    let (chip, mut reader) = served(4);
    let seen = Seen::default();
    chip.present(Box::new(Echo(seen.clone())));
    // Short times, so that faults cost little of the test's own time.
    chip.set_switches(Switches { away_ms: Some(10), late_ack_ms: 5, fragment: 60, ..Switches::noise(0.01) });
    let exchanges = if is_long() { 600 } else { 60 };
    let (mut number, mut right, mut failures) = (0, 0, 0);
    while number < exchanges {
        let Ok(Detected::One(target)) = block_on(reader.wait_card()) else {
            failures += 1;
            assert!(failures < exchanges, "the reader never finds its way back");
            continue;
        };
        let mut answer = [0; 258];
        for _ in 0..6 {
            number += 1;
            let Ok(len) = block_on(reader.exchange(&target, &command(number, 150), &mut answer)) else {
                break;
            };
            assert_eq!(answer[..len], answer_to(&command(number, 150)));
            right += 1;
        }
    }
    assert!(right * 2 > number, "{right} of {number}");
    let seen = seen.lock().unwrap();
    let distinct: std::collections::HashSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "a card got a command twice");
}
