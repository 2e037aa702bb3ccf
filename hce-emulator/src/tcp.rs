//! A phone over TCP: blocking, one connection at a time.
//!
//! A message is a length (u16, big-endian) and so many bytes, as the virtual PC/SC reader vpcd has it. One byte
//! is for the card's power: `00` off, `01` on, `02` reset (no answer), `04` asks for the ATR. Longer ones are APDUs,
//! each answered by one message. A connection that closes is a card that left the field, or a reader that went.

use crate::card::{Answer, Card, CardFault};
use crate::pn532_target::Trouble;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The longest command taken, in bytes: an extended APDU several times as long as any that a card here knows.
pub const MAX_COMMAND: usize = 2048;
/// The longest answer taken, in bytes: the largest that a phone makes, broken ones included, and more.
pub const MAX_ANSWER: usize = 4096;
/// The ATR of a contactless card with T=1 (PC/SC part 3).
pub const ATR: [u8; 10] = [0x3B, 0x85, 0x80, 0x01, 0x80, 0x31, 0x80, 0x40, 0x80, 0xF5];

pub(crate) const POWER_OFF: u8 = 0x00;
pub(crate) const POWER_ON: u8 = 0x01;
pub(crate) const RESET: u8 = 0x02;
pub(crate) const GET_ATR: u8 = 0x04;

/// How often a waiting server looks whether it should stop.
const POLL: Duration = Duration::from_millis(50);
/// How long the rest of a message may take once it began.
const MESSAGE_TIME: Duration = Duration::from_secs(10);

/// Why a message is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Reading or writing failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The other side closed the connection between messages.
    #[error("the connection was closed")]
    Closed,
    /// It closed the connection inside one.
    #[error("the connection was closed inside a message")]
    Torn,
    /// A message without bytes.
    #[error("a message of 0 bytes")]
    Empty,
    /// A message longer than this side takes.
    #[error("a message of {len} bytes; at most {max} are taken")]
    TooLong {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// A byte of power control that is none.
    #[error("control byte {0:02X} is unknown")]
    Control(u8),
    /// The rest of a message did not come in time.
    #[error("the rest of a message did not come within 10 s")]
    Stalled,
    /// The server was told to stop.
    #[error("the server stops")]
    Stopped,
}

/// What happens at a served phone.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A reader connected.
    Connected(SocketAddr),
    /// The reader to connect to is not there; it is looked for again and again, and told of once.
    NoReader {
        /// What the system said.
        why: &'a io::Error,
        /// How long it is waited for in all; `None`: until it comes.
        patience: Option<Duration>,
    },
    /// The field came on.
    Field,
    /// The chip that plays the card is in trouble, and is begun with again; told of once.
    Chip(&'a Trouble),
    /// A command was answered.
    Exchange {
        /// The command.
        command: &'a [u8],
        /// The answer.
        answer: &'a [u8],
        /// How long the phone took, modelled delay included.
        took: Duration,
    },
    /// The phone left the field; the connection is closed.
    Lost(&'a CardFault),
    /// The connection ended, or was ended for this reason.
    Ended(&'a FrameError),
}

/// Serves a phone until `stop` is set. A connection that breaks the rules is closed and told of; the next one is
/// served. Modelled delays are waited for.
pub fn serve(
    listener: &TcpListener,
    card: &mut dyn Card,
    stop: &AtomicBool,
    log: &mut dyn FnMut(Event<'_>),
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, from)) => {
                log(Event::Connected(from));
                if let Err(e) = serve_one(stream, card, stop, log) {
                    log(Event::Ended(&e));
                }
            }
            Err(e) if is_quiet(&e) => std::thread::sleep(POLL),
            // A connection that was gone before it was taken is no reason to end.
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn serve_one(
    mut stream: TcpStream,
    card: &mut dyn Card,
    stop: &AtomicBool,
    log: &mut dyn FnMut(Event<'_>),
) -> Result<(), FrameError> {
    stream.set_nonblocking(false)?;
    open(&stream)?;
    card.enter_field();
    loop {
        let command = read_message(&mut stream, MAX_COMMAND, stop)?;
        match *command.as_slice() {
            [POWER_OFF] => {}
            [POWER_ON | RESET] => {
                card.enter_field();
                log(Event::Field);
            }
            [GET_ATR] => write_message(&mut stream, &ATR)?,
            [other] => return Err(FrameError::Control(other)),
            _ => {
                let begun = Instant::now();
                match card.transmit(&command) {
                    Ok(answer) => {
                        wait(Duration::from_micros(answer.delay_us), stop);
                        log(Event::Exchange {
                            command: &command,
                            answer: &answer.data,
                            took: begun.elapsed(),
                        });
                        write_message(&mut stream, &answer.data)?;
                    }
                    Err(fault) => {
                        log(Event::Lost(&fault));
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// Prepares a stream for messages.
pub(crate) fn open(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(POLL))?;
    stream.set_write_timeout(Some(MESSAGE_TIME))
}

/// Has what arrived acknowledged at once. vpcd writes length and payload apart and holds the payload back until the
/// length is acknowledged, which else takes 40 ms a message. The system takes it back by itself, so it is said before
/// each read.
fn acknowledge_quickly(stream: &TcpStream) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    std::os::linux::net::TcpStreamExt::set_quickack(stream, true)?;
    let _ = stream; // elsewhere it costs the time and nothing else
    Ok(())
}

/// Waits as a slow card does, a minute at most, but not past the end of the server.
pub(crate) fn wait(delay: Duration, stop: &AtomicBool) {
    let end = Instant::now() + delay.min(Duration::from_secs(60));
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        std::thread::sleep(left.min(POLL));
    }
}

pub(crate) fn is_quiet(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

pub(crate) fn read_message(
    stream: &mut TcpStream,
    max: usize,
    stop: &AtomicBool,
) -> Result<Vec<u8>, FrameError> {
    let mut header = [0; 2];
    read_all(stream, &mut header, stop, None)?;
    let len = usize::from(u16::from_be_bytes(header));
    if len == 0 {
        return Err(FrameError::Empty);
    }
    if len > max {
        return Err(FrameError::TooLong { len, max });
    }
    let mut message = vec![0; len];
    read_all(stream, &mut message, stop, Some(Instant::now()))?;
    Ok(message)
}

/// Fills `buf`. `begun`: when the message began; `None` if its first byte is still awaited, for as long as it takes.
fn read_all(
    stream: &mut TcpStream,
    buf: &mut [u8],
    stop: &AtomicBool,
    mut begun: Option<Instant>,
) -> Result<(), FrameError> {
    let mut filled = 0;
    while filled < buf.len() {
        if stop.load(Ordering::Relaxed) {
            return Err(FrameError::Stopped);
        }
        if begun.is_some_and(|begun| begun.elapsed() > MESSAGE_TIME) {
            return Err(FrameError::Stalled);
        }
        acknowledge_quickly(stream)?;
        match stream.read(&mut buf[filled..]) {
            Ok(0) if begun.is_none() => return Err(FrameError::Closed),
            Ok(0) => return Err(FrameError::Torn),
            Ok(n) => {
                filled += n;
                begun.get_or_insert_with(Instant::now);
            }
            Err(e) if is_quiet(&e) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

pub(crate) fn write_message(stream: &mut TcpStream, message: &[u8]) -> Result<(), FrameError> {
    let too_long = FrameError::TooLong { len: message.len(), max: usize::from(u16::MAX) };
    let len = u16::try_from(message.len()).map_err(|_| too_long)?;
    // One write: a header of its own would wait for the other side's delayed acknowledgement.
    let mut frame = len.to_be_bytes().to_vec();
    frame.extend_from_slice(message);
    Ok(stream.write_all(&frame)?)
}

/// A phone at the other end of a TCP connection.
#[derive(Debug)]
pub struct TcpCard {
    address: SocketAddr,
    timeout: Duration,
    stream: Option<TcpStream>,
}

impl TcpCard {
    /// Connects. `timeout` is for connecting and for each answer.
    pub fn connect(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let mut card = Self { address, timeout, stream: None };
        card.stream = Some(card.open()?);
        Ok(card)
    }

    fn open(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, self.timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        Ok(stream)
    }

    fn exchange(&mut self, command: &[u8]) -> Result<Vec<u8>, FrameError> {
        let stream = self.stream.as_mut().ok_or(FrameError::Closed)?;
        write_message(stream, command)?;
        let mut header = [0; 2];
        stream.read_exact(&mut header).map_err(closed)?;
        let len = usize::from(u16::from_be_bytes(header));
        if len > MAX_ANSWER {
            return Err(FrameError::TooLong { len, max: MAX_ANSWER });
        }
        let mut answer = vec![0; len];
        stream.read_exact(&mut answer).map_err(closed)?;
        Ok(answer)
    }
}

fn closed(e: io::Error) -> FrameError {
    match e.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => FrameError::Closed,
        _ => FrameError::Io(e),
    }
}

impl Card for TcpCard {
    /// Connects again if the card was lost. Failure to shows at the next command.
    fn enter_field(&mut self) {
        if self.stream.is_none() {
            self.stream = self.open().ok();
        }
        let switched = self.stream.as_mut().map(|stream| write_message(stream, &[POWER_ON]));
        if !matches!(switched, Some(Ok(()))) {
            self.stream = self.open().ok();
        }
    }

    fn transmit(&mut self, command: &[u8]) -> Result<Answer, CardFault> {
        // One byte would be taken for power control.
        if command.len() < 2 || command.len() > MAX_COMMAND {
            return Err(CardFault::Link(format!("a command of {} bytes is not sent", command.len())));
        }
        match self.exchange(command) {
            Ok(data) => Ok(Answer { data, delay_us: 0 }),
            Err(e) => {
                // Whatever arrives later would answer another command.
                self.stream = None;
                Err(match e {
                    FrameError::Closed => CardFault::Removed,
                    other => CardFault::Link(other.to_string()),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread::JoinHandle;

    /// Answers with the command and 9000; leaves the field at `00FF`.
    struct Echo {
        fields: usize,
    }

    impl Card for Echo {
        fn enter_field(&mut self) {
            self.fields += 1;
        }

        fn transmit(&mut self, command: &[u8]) -> Result<Answer, CardFault> {
            if command == [0x00, 0xFF] {
                return Err(CardFault::Removed);
            }
            Ok(Answer { data: [command, &[0x90, 0x00]].concat(), delay_us: 0 })
        }
    }

    struct Served {
        address: SocketAddr,
        stop: Arc<AtomicBool>,
        thread: JoinHandle<(usize, Vec<String>)>,
    }

    fn served() -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut ends = Vec::new();
                let mut card = Echo { fields: 0 };
                let mut log = |event: Event<'_>| {
                    if let Event::Ended(e) = event {
                        ends.push(e.to_string());
                    }
                };
                serve(&listener, &mut card, &stop, &mut log).unwrap();
                (card.fields, ends)
            }
        });
        Served { address, stop, thread }
    }

    impl Served {
        fn end(self) -> (usize, Vec<String>) {
            self.stop.store(true, Ordering::Relaxed);
            self.thread.join().unwrap()
        }
    }

    const TIMEOUT: Duration = Duration::from_secs(5);

    #[test]
    fn commands_and_answers_pass() {
        let served = served();
        let mut card = TcpCard::connect(served.address, TIMEOUT).unwrap();
        for len in [2, 5, 261, MAX_COMMAND] {
            let command = vec![0xA5; len];
            let answer = card.transmit(&command).unwrap().data;
            assert_eq!((&answer[..len], &answer[len..]), (&command[..], &[0x90, 0x00][..]));
        }
        card.enter_field();
        assert!(card.transmit(&[1, 2]).is_ok());
        assert!(matches!(card.transmit(&vec![0; MAX_COMMAND + 1]), Err(CardFault::Link(_))));
        assert_eq!(served.end().0, 2);
    }

    #[test]
    fn a_phone_that_leaves_closes_the_connection_and_comes_back() {
        let served = served();
        let mut card = TcpCard::connect(served.address, TIMEOUT).unwrap();
        assert!(matches!(card.transmit(&[0x00, 0xFF]), Err(CardFault::Removed)));
        assert!(matches!(card.transmit(&[1, 2]), Err(CardFault::Removed)));
        card.enter_field();
        assert!(card.transmit(&[1, 2]).is_ok());
        served.end();
    }

    #[test]
    fn messages_against_the_rules_are_refused_by_name_and_the_next_reader_is_served() {
        let served = served();
        let send = |bytes: &[u8]| {
            let mut stream = TcpStream::connect(served.address).unwrap();
            stream.write_all(bytes).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut rest = Vec::new();
            // The server may close before it read everything.
            let _ = stream.read_to_end(&mut rest);
            rest
        };
        send(&[0x08, 0x01]);
        send(&[0xFF, 0xFF, 1, 2, 3]);
        send(&[0, 0]);
        send(&[0, 1, 9]);
        send(&[0, 5, 1, 2]);
        send(&[0]);
        assert_eq!(send(&[0, 1, GET_ATR]), [&[0, 10][..], &ATR].concat());
        let mut card = TcpCard::connect(served.address, TIMEOUT).unwrap();
        assert!(card.transmit(&[1, 2]).is_ok());
        drop(card);
        let (_, ends) = served.end();
        let wanted = [
            "a message of 2049 bytes; at most 2048 are taken",
            "a message of 65535 bytes; at most 2048 are taken",
            "a message of 0 bytes",
            "control byte 09 is unknown",
            "the connection was closed inside a message",
            "the connection was closed inside a message",
            "the connection was closed",
        ];
        assert_eq!(ends[..wanted.len()], wanted);
    }

    #[test]
    fn a_server_ends_while_a_reader_is_connected() {
        let served = served();
        let mut card = TcpCard::connect(served.address, TIMEOUT).unwrap();
        assert!(card.transmit(&[1, 2]).is_ok());
        let begun = Instant::now();
        assert_eq!(served.end().1, ["the server stops"]);
        assert!(begun.elapsed() < Duration::from_secs(2));
        assert!(card.transmit(&[1, 2]).is_err());
    }
}
