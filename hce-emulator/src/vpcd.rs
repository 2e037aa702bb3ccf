//! A card in a virtual PC/SC reader: the card's side of vsmartcard's vpcd, so that it appears in a real pcscd.
//!
//! vpcd listens, the card connects, and vpcd begins every exchange. Messages are as in [`crate::tcp`]. While the
//! connection stands the card is in the reader; closing it takes the card away. An answer without any byte cannot be
//! said: see [`sayable`].

use crate::card::Card;
use crate::contactless::Identity;
use crate::tcp::{
    Event, FrameError, GET_ATR, MAX_COMMAND, POWER_OFF, POWER_ON, RESET, open, read_message, wait,
    write_message,
};
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Where vpcd listens unless it was told otherwise.
pub const ADDRESS: &str = "127.0.0.1:35963";
/// How long a reader that is not there at the start is waited for, unless it is said otherwise.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long a card that lost the field stays away.
pub const AWAY: Duration = Duration::from_millis(1_500);

/// How long to wait before looking for the reader again.
const RETRY: Duration = Duration::from_millis(500);
/// How long connecting may take.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// The reader, and what the card does in it.
#[derive(Debug, Clone)]
pub struct Slot {
    /// HOST:PORT of vpcd.
    pub address: String,
    /// A card that was tapped leaves the reader for so long as it is powered off; else it stays.
    pub pause: Option<Duration>,
}

impl Default for Slot {
    fn default() -> Self {
        Self { address: ADDRESS.to_owned(), pause: None }
    }
}

/// Why there is no reader to hold a card to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoReader {
    /// Its name leads nowhere.
    #[error("{address}: the name has no address ({source}); correct it, or leave it out for {ADDRESS}")]
    Name {
        /// HOST:PORT as it was given.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// It did not come.
    #[error("no reader at {address} within {} s ({source})", patience.as_secs())]
    Absent {
        /// HOST:PORT as it was given.
        address: String,
        /// How long it was waited for.
        patience: Duration,
        /// What the system said last.
        source: io::Error,
    },
}

/// The addresses of HOST:PORT; an error at once where the name has none.
pub fn resolve(address: &str) -> Result<Vec<SocketAddr>, NoReader> {
    let name = |source| NoReader::Name { address: address.to_owned(), source };
    let found: Vec<_> = address.to_socket_addrs().map_err(name)?.collect();
    if found.is_empty() { Err(name(io::ErrorKind::NotFound.into())) } else { Ok(found) }
}

/// Holds a card to the reader until `stop` is set. The reader may come and go. Modelled delays are waited for.
pub fn serve(
    slot: &Slot,
    card: &mut dyn Card,
    identity: &mut Identity,
    stop: &AtomicBool,
    log: &mut dyn FnMut(Event<'_>),
) {
    // There is no error without an end of the patience.
    let _ = hold(slot, None, card, identity, stop, log);
}

/// As [`serve`], where the reader must be there within `patience`. Once it was, it may come and go.
pub fn serve_from_start(
    slot: &Slot,
    patience: Duration,
    card: &mut dyn Card,
    identity: &mut Identity,
    stop: &AtomicBool,
    log: &mut dyn FnMut(Event<'_>),
) -> Result<(), NoReader> {
    resolve(&slot.address)?;
    hold(slot, Some(patience), card, identity, stop, log)
}

fn hold(
    slot: &Slot,
    mut patience: Option<Duration>,
    card: &mut dyn Card,
    identity: &mut Identity,
    stop: &AtomicBool,
    log: &mut dyn FnMut(Event<'_>),
) -> Result<(), NoReader> {
    let begun = Instant::now();
    let mut is_told = false;
    while !stop.load(Ordering::Relaxed) {
        let (mut stream, from) = match connect(&slot.address) {
            Ok(connected) => connected,
            Err(source) => {
                let left = patience.map(|all| (all, all.saturating_sub(begun.elapsed())));
                if let Some((patience, Duration::ZERO)) = left {
                    return Err(NoReader::Absent { address: slot.address.clone(), patience, source });
                }
                if !std::mem::replace(&mut is_told, true) {
                    log(Event::NoReader { why: &source, patience });
                }
                wait(left.map_or(RETRY, |(_, left)| left.min(RETRY)), stop);
                continue;
            }
        };
        (is_told, patience) = (false, None);
        log(Event::Connected(from));
        identity.enter_field();
        let away = match talk(&mut stream, slot, card, identity, stop, log) {
            Ok(()) => slot.pause.unwrap_or(AWAY),
            Err(e) => {
                log(Event::Ended(&e));
                RETRY
            }
        };
        drop(stream);
        wait(away, stop);
    }
    Ok(())
}

fn connect(address: &str) -> io::Result<(TcpStream, SocketAddr)> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIME) {
            Ok(stream) => {
                open(&stream)?;
                return Ok((stream, address));
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// The answer as it is said to vpcd, which waits for ever for the bytes of an empty one: a single zero in its place, which
/// is no status word either.
fn sayable(answer: Vec<u8>) -> Vec<u8> {
    if answer.is_empty() { vec![0] } else { answer }
}

/// Returns when the card leaves the reader.
fn talk(
    stream: &mut TcpStream,
    slot: &Slot,
    card: &mut dyn Card,
    identity: &Identity,
    stop: &AtomicBool,
    log: &mut dyn FnMut(Event<'_>),
) -> Result<(), FrameError> {
    let mut is_tapped = false;
    card.enter_field();
    loop {
        let command = read_message(stream, MAX_COMMAND, stop)?;
        match *command.as_slice() {
            [POWER_OFF] if is_tapped && slot.pause.is_some() => return Ok(()),
            [POWER_OFF] => {}
            [POWER_ON | RESET] => {
                card.enter_field();
                log(Event::Field);
            }
            [GET_ATR] => write_message(stream, &identity.atr())?,
            [other] => return Err(FrameError::Control(other)),
            _ => {
                let begun = Instant::now();
                let (answer, delay) = match identity.pseudo(&command) {
                    Some(answer) => (answer, 0),
                    None => {
                        is_tapped = true;
                        match card.transmit(&command) {
                            Ok(answer) => (sayable(answer.data), answer.delay_us),
                            Err(fault) => {
                                log(Event::Lost(&fault));
                                return Ok(());
                            }
                        }
                    }
                };
                wait(Duration::from_micros(delay), stop);
                log(Event::Exchange { command: &command, answer: &answer, took: begun.elapsed() });
                write_message(stream, &answer)?;
            }
        }
    }
}
