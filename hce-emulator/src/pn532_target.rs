//! A card played by a PN532 on a serial line: the chip is the antenna, and the card's answers are made here.
//!
//! [`Target`] is sans-IO: it is handed what came from the chip and the time, and says what to send and what happened.
//! [`serve`] runs it over any stream, a serial port or TCP. The chip answers anticollision and RATS itself and asks the
//! reader for more time while an answer is being made.
//!
//! It follows NXP UM0701-02 and published open drivers as far as they show: SetParameters `12 30`, TgInitAsTarget
//! `8C 05 …` answered `8D 08 E0 80`, TgGetData `86`, TgSetData `8E`, and TgSetMetaData `94` for all but the last part
//! of a longer answer. **It has not been tried on hardware yet**: its tests are against a simulated chip. In this role the
//! chip has a UID of four bytes of which the first is `08`; a card's own longer UID cannot be shown.

use crate::card::{Card, CardFault};
use crate::contactless::Identity;
use crate::tcp::{self, is_quiet, wait};
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use wavepass_pn532::command::{AUTO_RATS, ISO14443_4_PICC, MAX_EXCHANGE, SAM_NORMAL, code};
use wavepass_pn532::frame::{ACK, Decoder, Direction, Event as FrameEvent, MAX_FRAME, NACK, encode};
use wavepass_pn532::response::answer_code;
use wavepass_pn532::status::MORE;

/// The speed of the chip's serial line after power-up.
pub const BAUD: u32 = 115_200;
/// Wakes the chip from power-down: `55 55`, and time for its clock to start.
const WAKE_UP: [u8; 16] = [0x55, 0x55, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// TgSetMetaData: a part of an answer that is not the last.
const TG_SET_META_DATA: u8 = 0x94;
/// TgInitAsTarget: passive only, ISO/IEC 14443-4 card only.
const PASSIVE_PICC: u8 = 0x05;
/// ATQA and SAK of a card of ISO/IEC 14443-4 with a UID of 4 bytes.
const SENS_RES: [u8; 2] = [0x04, 0x00];
const SEL_RES: u8 = 0x20;
/// In the answer to TgInitAsTarget: activated as an ISO/IEC 14443-4 card.
const ACTIVATED_PICC: u8 = 0x08;
/// The most bytes of an answer in one frame.
const PART: usize = MAX_EXCHANGE;
/// The most bytes of a command, parts joined.
const MAX_COMMAND: usize = tcp::MAX_COMMAND;
/// How long the chip may take to acknowledge: milliseconds at any load.
const ACK_TIME: Duration = Duration::from_millis(250);
/// How long it may take to answer what does not wait for a reader.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// How often a broken frame is asked for again.
const MAX_NACKS: u8 = 3;
/// How long to wait before an unresponsive chip is woken again.
const RETRY: Duration = Duration::from_secs(1);
/// How long a phone that lost the field stays away.
const AWAY: Duration = Duration::from_millis(1_500);

/// What happened at the chip.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A reader activated the card: what was selected before is forgotten.
    Activated,
    /// A command arrived; the chip waits for [`Target::answer`].
    Command(Vec<u8>),
    /// The reader let the card go, or went. [`Target::wait_for_reader`] makes the chip a card again.
    Released,
    /// The chip broke the rules of its line, or fell silent, and is begun with again.
    Fault(Trouble),
}

/// What can be wrong with the chip or its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// No acknowledgement: there is no chip, or it sleeps.
    #[error("the PN532 does not acknowledge; check power, wires and that its switches say HSU")]
    Silent,
    /// It acknowledged and did not answer.
    #[error("the PN532 does not answer command {0:02X}")]
    NoAnswer(u8),
    /// It refused a command.
    #[error("the PN532 refuses command {0:02X}")]
    Refused(u8),
    /// An answer that is not the command's.
    #[error("the PN532 answers command {0:02X} with something else")]
    Unexpected(u8),
    /// Broken frames again and again.
    #[error("the line to the PN532 is disturbed")]
    Disturbed,
    /// A command of the reader longer than any that a card here knows.
    #[error("a command of more than {MAX_COMMAND} bytes")]
    TooLong,
}

/// Where the conversation with the chip stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was sent yet.
    Off,
    /// This command was sent.
    Asked { code: u8, acknowledged: bool },
    /// The card is making its answer.
    Working,
}

/// The conversation with a chip that plays a card.
pub struct Target {
    decoder: Decoder,
    state: State,
    uid: [u8; 3],
    historical: Vec<u8>,
    out: Vec<u8>,
    /// The command so far, where the reader sends it in parts.
    command: Vec<u8>,
    /// What of the answer is not sent yet.
    answer: Vec<u8>,
    deadline: Option<Duration>,
    nacks: u8,
}

impl Target {
    /// A conversation that has not begun.
    pub fn new(identity: &Identity) -> Self {
        let mut target = Self {
            decoder: Decoder::new(),
            state: State::Off,
            uid: [0; 3],
            historical: Vec::new(),
            out: Vec::new(),
            command: Vec::new(),
            answer: Vec::new(),
            deadline: None,
            nacks: 0,
        };
        target.show(identity);
        target
    }

    /// From the next activation on the card shows itself so. Of a UID only the three bytes after `08` are the card's.
    pub fn show(&mut self, identity: &Identity) {
        // Every UID has four bytes and more.
        let own = identity.uid().get(1..4).and_then(|bytes| bytes.try_into().ok());
        self.uid = own.unwrap_or_default();
        self.historical = identity.historical().to_vec();
    }

    /// Wakes the chip and sets it up, whatever went before.
    pub fn start(&mut self, now: Duration) {
        self.decoder = Decoder::new();
        self.command.clear();
        self.answer.clear();
        self.out = WAKE_UP.to_vec();
        self.send(now, &[code::SAM_CONFIGURATION, SAM_NORMAL, 0x00, 0x01]);
    }

    /// Makes the chip a card that waits for a reader. It ends what the chip is doing, and so takes the card away from a
    /// reader that has it.
    pub fn wait_for_reader(&mut self, now: Duration) {
        self.command.clear();
        self.answer.clear();
        if !matches!(self.state, State::Off) {
            self.out.extend(ACK);
        }
        let mut data = vec![code::TG_INIT_AS_TARGET, PASSIVE_PICC];
        data.extend(SENS_RES);
        data.extend(self.uid);
        data.push(SEL_RES);
        // FeliCa parameters and NFCID3, of which such a card has none; no general bytes.
        data.extend([0; 18 + 10 + 1]);
        data.push(self.historical.len() as u8); // at most 15
        data.extend(&self.historical);
        self.send(now, &data);
    }

    /// What is to be sent now.
    pub fn output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Gives the answer to the command that arrived.
    pub fn answer(&mut self, now: Duration, answer: &[u8]) {
        if self.state == State::Working {
            self.answer = answer.to_vec();
            self.send_part(now);
        }
    }

    /// Takes what came from the chip.
    pub fn receive(&mut self, now: Duration, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for &byte in bytes {
            if let Some(found) = self.decoder.push(byte) {
                events.extend(self.frame(now, found));
            }
        }
        events
    }

    /// Looks whether the chip has been silent for too long. Then it is to be started again.
    pub fn check(&mut self, now: Duration) -> Option<Event> {
        self.deadline.filter(|deadline| now >= *deadline)?;
        Some(self.trouble(match self.state {
            State::Asked { code, acknowledged: true } => Trouble::NoAnswer(code),
            _ => Trouble::Silent,
        }))
    }

    fn trouble(&mut self, trouble: Trouble) -> Event {
        self.state = State::Off;
        self.deadline = None;
        Event::Fault(trouble)
    }

    fn send(&mut self, now: Duration, data: &[u8]) {
        let mut frame = [0; MAX_FRAME];
        match encode(Direction::ToChip, data, &mut frame) {
            Ok(len) => self.out.extend(&frame[..len]),
            Err(_) => unreachable!("parts of an answer have at most 262 bytes, all else has fewer"),
        }
        self.state = State::Asked { code: data[0], acknowledged: false };
        self.deadline = Some(now + ACK_TIME);
        self.nacks = 0;
    }

    fn send_part(&mut self, now: Duration) {
        let rest = self.answer.split_off(self.answer.len().min(PART));
        let code = if rest.is_empty() { code::TG_SET_DATA } else { TG_SET_META_DATA };
        let part = std::mem::replace(&mut self.answer, rest);
        self.send(now, &[&[code], part.as_slice()].concat());
    }

    fn frame(&mut self, now: Duration, found: FrameEvent) -> Option<Event> {
        let State::Asked { code, acknowledged } = self.state else { return None };
        match found {
            FrameEvent::Ack => {
                self.state = State::Asked { code, acknowledged: true };
                // These wait for a reader, for as long as it takes.
                let waits = matches!(code, code::TG_INIT_AS_TARGET | code::TG_GET_DATA);
                self.deadline = (!waits).then(|| now + ANSWER_TIME);
                None
            }
            FrameEvent::Frame(Direction::FromChip) if acknowledged => {
                let data = self.decoder.data().to_vec();
                self.answered(now, code, &data)
            }
            FrameEvent::SyntaxError if acknowledged => Some(self.trouble(Trouble::Refused(code))),
            FrameEvent::Broken(_) if self.nacks == MAX_NACKS => Some(self.trouble(Trouble::Disturbed)),
            FrameEvent::Broken(_) => {
                self.nacks += 1;
                self.out.extend(NACK);
                None
            }
            // An answer to a command before this one.
            _ => None,
        }
    }

    fn answered(&mut self, now: Duration, code: u8, data: &[u8]) -> Option<Event> {
        let body = match data.split_first() {
            Some((first, body)) if *first == answer_code(code) => body,
            _ => return Some(self.trouble(Trouble::Unexpected(code))),
        };
        match (code, body) {
            (code::SAM_CONFIGURATION, _) => {
                self.send(now, &[code::SET_PARAMETERS, AUTO_RATS | ISO14443_4_PICC]);
                None
            }
            (code::SET_PARAMETERS, _) => {
                self.wait_for_reader(now);
                None
            }
            (code::TG_INIT_AS_TARGET, [mode, ..]) if mode & ACTIVATED_PICC != 0 => {
                self.send(now, &[code::TG_GET_DATA]);
                Some(Event::Activated)
            }
            // Activated as something else, as by a reader that looks for peers.
            (code::TG_INIT_AS_TARGET, _) => Some(self.released()),
            (code::TG_GET_DATA, [status, part @ ..]) if status & !MORE == 0 => {
                self.command.extend(part);
                if self.command.len() > MAX_COMMAND {
                    return Some(self.trouble(Trouble::TooLong));
                }
                if status & MORE != 0 {
                    self.send(now, &[code::TG_GET_DATA]);
                    return None;
                }
                self.state = State::Working;
                self.deadline = None;
                Some(Event::Command(std::mem::take(&mut self.command)))
            }
            (TG_SET_META_DATA, [0x00]) => {
                self.send_part(now);
                None
            }
            (code::TG_SET_DATA, [0x00]) => {
                self.send(now, &[code::TG_GET_DATA]);
                None
            }
            // Any other status: the reader is gone.
            _ => Some(self.released()),
        }
    }

    fn released(&mut self) -> Event {
        // The chip is idle: there is nothing to end.
        self.state = State::Off;
        self.deadline = None;
        Event::Released
    }
}

/// Plays a card on a chip until `stop` is set. Reading from `line` must end after a short time without bytes, as with a
/// read timeout of 50 ms or less. Modelled delays are waited for. `pause`: how long a card that was tapped stays away;
/// `None`: it stays.
pub fn serve<L: Read + Write>(
    line: &mut L,
    pause: Option<Duration>,
    card: &mut dyn Card,
    identity: &mut Identity,
    stop: &AtomicBool,
    log: &mut dyn FnMut(tcp::Event<'_>),
) -> io::Result<()> {
    let begun = Instant::now();
    let mut target = Target::new(identity);
    let mut last_trouble = None;
    let mut is_tapped = false;
    let mut buffer = [0; 512];
    target.start(begun.elapsed());
    while !stop.load(Ordering::Relaxed) {
        let bytes = target.output();
        if !bytes.is_empty() {
            line.write_all(&bytes)?;
            line.flush()?;
        }
        let mut events = match line.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => target.receive(begun.elapsed(), &buffer[..len]),
            Err(e) if is_quiet(&e) => Vec::new(),
            Err(e) => return Err(e),
        };
        events.extend(target.check(begun.elapsed()));
        for event in events {
            match event {
                Event::Activated => {
                    last_trouble = None;
                    card.enter_field();
                    log(tcp::Event::Field);
                }
                Event::Command(command) => {
                    let asked = Instant::now();
                    match card.transmit(&command) {
                        Ok(answer) => {
                            is_tapped = true;
                            wait(Duration::from_micros(answer.delay_us), stop);
                            let took = asked.elapsed();
                            log(tcp::Event::Exchange { command: &command, answer: &answer.data, took });
                            target.answer(begun.elapsed(), &answer.data);
                        }
                        Err(fault) => {
                            log(tcp::Event::Lost(&fault));
                            wait(pause.unwrap_or(AWAY), stop);
                            come_back(&mut target, identity, begun);
                        }
                    }
                }
                Event::Released => {
                    log(tcp::Event::Lost(&CardFault::Removed));
                    let tapped = std::mem::take(&mut is_tapped);
                    wait(pause.filter(|_| tapped).unwrap_or_default(), stop);
                    come_back(&mut target, identity, begun);
                }
                Event::Fault(trouble) => {
                    if last_trouble.replace(trouble) != Some(trouble) {
                        log(tcp::Event::Chip(&trouble));
                    }
                    wait(RETRY, stop);
                    target.start(begun.elapsed());
                }
            }
        }
    }
    Ok(())
}

/// The card is in the field again. Where the chip still has a command of the reader's, it has been asking the reader
/// for time, and drops it now.
fn come_back(target: &mut Target, identity: &mut Identity, begun: Instant) {
    identity.enter_field();
    target.show(identity);
    target.wait_for_reader(begun.elapsed());
}
