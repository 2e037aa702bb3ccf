//! The reader: finds a card and exchanges APDUs with it.
//!
//! It never blocks, never waits without end, and never takes an answer for that of another command. Looking for
//! cards ([`Pn532::poll`], [`Pn532::wait_card`], [`Pn532::wait_gone`], [`Pn532::release`]) may be dropped at any
//! await and called again: all progress is kept in the driver. An exchange is driven to its end.
//!
//! How it keeps answers apart, the chip answering in order:
//! - An answer counts after the acknowledgement of its command. One without it (the acknowledgement was lost on the
//!   line) counts only if no repetition can be on its way.
//! - A command for a card is never sent twice, for the card would carry it out twice. All other commands may be.
//! - A broken answer is asked for again by a NACK, after a pause in which nothing came: noise in front of a sound
//!   answer is no broken answer. If what then comes is the last answer once more, it does not count.
//!
//! What fails is tried again with bounds; then the chip is taken through abort, wake-up and set-up; where that fails
//! too there is an error with a name, and the next call tries anew.

mod exchange;
mod talk;

use crate::command::{AUTO_RATS, Command, Modulation, RfItem, SAM_NORMAL};
use crate::error::{LineFault, Pn532Error};
use crate::frame::{Decoder, FrameError, MAX_DATA, MAX_FRAME};
use crate::response::{FirmwareVersion, Found, parse_targets};
use crate::transport::Transport;

/// The chip's number in its answer to GetFirmwareVersion.
const IC_PN532: u8 = 0x32;
/// Failures in a row, each followed by abort, wake-up and set-up, before a call gives up: a chip that was reset
/// needs one, a line with noise a few.
const MAX_RECOVERIES: u8 = 5;
/// After an abort the chip may still be sending what it had: one frame takes 24 ms at 115,200 baud.
const SETTLE_MS: u64 = 25;
/// The field stays off for so long between cards, so that every card starts anew; ISO/IEC 14443-3 asks for 5 ms.
const FIELD_OFF_MS: u64 = 6;

/// A clock, and a way to wait by it. The host's executor has one.
#[expect(async_fn_in_trait, reason = "one task owns the reader; nothing is sent between threads here")]
pub trait Timer {
    /// Milliseconds of a clock that only rises.
    fn now_ms(&self) -> u64;
    /// Returns once that clock shows at least this. Dropping it loses nothing.
    async fn wait_until(&mut self, at_ms: u64);
}

/// What a reader may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Settings {
    /// How often a search is repeated on the air before it answers "none". 255 never does; 1 is taken for it. All repeats
    /// must fit into `answer_ms`.
    pub activation_retries: u8,
    /// How long an acknowledgement may take. The chip needs a few milliseconds; a host that is busy, more.
    pub ack_ms: u32,
    /// How long set-up commands and a search may take.
    pub answer_ms: u32,
    /// How long the exchange of one APDU may take, all its frames together.
    pub exchange_ms: u32,
    /// How often a command other than for a card is sent again, and an answer asked for again.
    pub repeats: u8,
    /// RFConfiguration's timing of an exchange, 100 µs · 2^(n − 1): `0D` is 410 ms.
    pub card_timeout: u8,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            activation_retries: 1,
            ack_ms: 100,
            answer_ms: 500,
            exchange_ms: 1_000,
            repeats: 3,
            card_timeout: 0x0D,
        }
    }
}

/// A card that was found. It is good until the next search.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Target {
    number: u8,
    session: u32,
    /// What the chip says of it.
    pub card: Found,
}

/// What is in the field.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Detected {
    /// Nothing.
    None,
    /// One card.
    One(Target),
    /// More than one card, of one type or of both.
    Several,
}

/// What the looks for type B cards have shown. The chip forgets a card when it searches for the other type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TypeB {
    /// None is known of.
    None,
    /// One, and type A is still to be searched for.
    Seen,
    /// One, and no card of type A: the next search may take it.
    Alone,
}

/// What is being done, or to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Abort,
    WakeUp,
    Sam,
    Version,
    Parameters,
    Retries,
    Timings,
    Release,
    FieldOff,
    Pause,
    FieldOn,
    List(Modulation),
    Exchange,
}

/// What is being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outgoing {
    Abort,
    WakeUp,
    Command,
    Nack,
}

/// How far the talk about one command has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    Sending {
        what: Outgoing,
        sent: usize,
        until: u64,
    },
    Acknowledgement {
        until: u64,
    },
    Answer {
        until: u64,
    },
    /// What comes is thrown away.
    Silence {
        until: u64,
    },
}

/// The reader.
pub struct Pn532<T, C> {
    transport: T,
    timer: C,
    settings: Settings,
    version: Option<FirmwareVersion>,

    step: Step,
    type_b: TypeB,
    /// Targets of earlier searches are forgotten.
    session: u32,
    /// Recoveries since the last search that came to its end.
    recoveries: u8,

    stage: Stage,
    frame: [u8; MAX_FRAME],
    frame_len: usize,
    command: u8,
    may_repeat: bool,
    repeats: u8,
    nacks: u8,
    strays: u8,
    /// How long the answer may take: a limit from now or a fixed end.
    answer_by: u64,
    /// The last broken frame, and when to ask for it again.
    broken: Option<(FrameError, u64)>,
    /// Something broken came where the acknowledgement should have been.
    was_ack_broken: bool,
    /// A repetition of the last answer may be on its way.
    is_doubtful: bool,
    /// What the last answer was, so that it is not taken for the next one.
    last_answer: Option<u64>,

    received: [u8; MAX_FRAME],
    received_len: usize,
    received_at: usize,
    last_byte_ms: u64,
    decoder: Decoder,
}

impl<T: Transport, C: Timer> Pn532<T, C> {
    /// A reader over this way to a chip. Nothing is sent yet.
    pub const fn new(transport: T, timer: C, settings: Settings) -> Self {
        Self {
            transport,
            timer,
            settings,
            version: None,
            step: Step::Abort,
            type_b: TypeB::None,
            session: 0,
            recoveries: 0,
            stage: Stage::Idle,
            frame: [0; MAX_FRAME],
            frame_len: 0,
            command: 0,
            may_repeat: false,
            repeats: 0,
            nacks: 0,
            strays: 0,
            answer_by: 0,
            broken: None,
            was_ack_broken: false,
            is_doubtful: false,
            last_answer: None,
            received: [0; MAX_FRAME],
            received_len: 0,
            received_at: 0,
            last_byte_ms: 0,
            decoder: Decoder::new(),
        }
    }

    /// What the chip said of itself at the last set-up.
    pub const fn version(&self) -> Option<FirmwareVersion> {
        self.version
    }

    /// Searches once, type B and then type A, and says what is in the field. A card of type B that is alone is searched
    /// for again, after the field was off. Sets the chip up where that is still to be done. May be dropped and called
    /// again.
    pub async fn poll(&mut self) -> Result<Detected, Pn532Error> {
        loop {
            if let Some(detected) = self.advance().await? {
                return Ok(detected);
            }
        }
    }

    /// Waits until something is in the field. May be dropped and called again.
    pub async fn wait_card(&mut self) -> Result<Detected, Pn532Error> {
        loop {
            match self.poll().await? {
                Detected::None => {}
                found => return Ok(found),
            }
        }
    }

    /// Waits until nothing is in the field. May be dropped and called again.
    pub async fn wait_gone(&mut self) -> Result<(), Pn532Error> {
        while self.poll().await? != Detected::None {}
        Ok(())
    }

    /// Puts the card to rest and switches the field off and on again. May be dropped and called again.
    pub async fn release(&mut self) -> Result<(), Pn532Error> {
        if self.stage == Stage::Idle && matches!(self.step, Step::List(_)) {
            (self.step, self.type_b) = (Step::Release, TypeB::None);
        }
        while !matches!(self.step, Step::List(_)) {
            self.advance().await?;
        }
        Ok(())
    }

    /// Takes the chip through abort, wake-up and set-up, whatever state it is in. May be dropped; a call begins
    /// anew.
    pub async fn recover(&mut self) -> Result<(), Pn532Error> {
        self.forget(Step::Abort);
        while !matches!(self.step, Step::List(_)) {
            self.advance().await?;
        }
        Ok(())
    }

    /// Ends the talk, whatever it was, and forgets targets.
    fn forget(&mut self, next: Step) {
        self.stage = Stage::Idle;
        self.session = self.session.wrapping_add(1);
        (self.step, self.type_b) = (next, TypeB::None);
    }

    /// One step further.
    async fn advance(&mut self) -> Result<Option<Detected>, Pn532Error> {
        if self.step == Step::Exchange {
            // An exchange was dropped half-way; the chip may be waiting for the card.
            self.forget(Step::Abort);
        }
        if self.stage == Stage::Idle {
            self.begin_step()?;
        }
        let result = match self.talk().await {
            Ok(()) => self.digest(),
            Err(e) => Err(e),
        };
        self.stage = Stage::Idle;
        result.or_else(|e| self.retry_after(e))
    }

    /// Goes on after a failure, within bounds.
    fn retry_after(&mut self, error: Pn532Error) -> Result<Option<Detected>, Pn532Error> {
        self.forget(Step::Abort);
        self.recoveries += 1;
        let is_final = matches!(
            error,
            Pn532Error::Line(LineFault::Closed | LineFault::Stuck) | Pn532Error::NotPn532 { .. }
        );
        if is_final || self.recoveries > MAX_RECOVERIES {
            self.recoveries = 0;
            return Err(error);
        }
        Ok(None)
    }

    /// Begins what is to be done next.
    fn begin_step(&mut self) -> Result<(), Pn532Error> {
        let now = self.timer.now_ms();
        let by = now.saturating_add(self.settings.answer_ms.into());
        // Every step ends what was before.
        self.session = self.session.wrapping_add(1);
        let command = match self.step {
            Step::Abort => return self.begin_bytes(Outgoing::Abort),
            Step::WakeUp => return self.begin_bytes(Outgoing::WakeUp),
            Step::Pause => {
                self.stage = Stage::Silence { until: now.saturating_add(FIELD_OFF_MS) };
                return Ok(());
            }
            Step::Sam => Command::SamConfiguration { mode: SAM_NORMAL, timeout: 0, irq: true },
            Step::Version => Command::GetFirmwareVersion,
            Step::Parameters => Command::SetParameters(AUTO_RATS),
            Step::Retries => Command::RfConfiguration(RfItem::Retries {
                atr: 0,
                psl: 1,
                activation: match self.settings.activation_retries {
                    crate::command::FOR_EVER => Settings::default().activation_retries,
                    retries => retries,
                },
            }),
            Step::Timings => {
                Command::RfConfiguration(RfItem::Timings { atr: 0x0B, retry: self.settings.card_timeout })
            }
            Step::Release => Command::InRelease(0),
            Step::FieldOff => Command::RfConfiguration(RfItem::Field { on: false, avoid_collision: false }),
            Step::FieldOn => Command::RfConfiguration(RfItem::Field { on: true, avoid_collision: false }),
            // Two are asked for, so that a second card shows.
            Step::List(modulation) => Command::InListPassiveTarget { max: 2, modulation },
            Step::Exchange => return Err(Pn532Error::TargetForgotten), // begun by `exchange` alone
        };
        self.begin_command(&command, by, true)
    }

    /// Takes in what came of a step, and chooses the next one.
    fn digest(&mut self) -> Result<Option<Detected>, Pn532Error> {
        let malformed = Pn532Error::Malformed { command: self.command };
        let next = match self.step {
            Step::Abort => Step::WakeUp,
            Step::WakeUp => Step::Sam,
            Step::Sam => Step::Version,
            Step::Version => {
                let version = FirmwareVersion::parse(self.decoder.data()).map_err(|_| malformed)?;
                if version.ic != IC_PN532 {
                    return Err(Pn532Error::NotPn532 { ic: version.ic });
                }
                self.version = Some(version);
                Step::Parameters
            }
            Step::Parameters => Step::Retries,
            Step::Retries => Step::Timings,
            Step::Timings | Step::Release => Step::FieldOff,
            Step::FieldOff => Step::Pause,
            Step::Pause => Step::FieldOn,
            Step::FieldOn => Step::List(Modulation::B),
            Step::List(modulation) => {
                let targets = parse_targets(self.decoder.data(), modulation).map_err(|_| malformed)?;
                let before = core::mem::replace(&mut self.type_b, TypeB::None);
                let detected = match (targets.as_slice(), modulation) {
                    ([], Modulation::B) => {
                        self.step = Step::List(Modulation::A);
                        return Ok(None);
                    }
                    ([_], Modulation::B) if before != TypeB::Alone => {
                        (self.step, self.type_b) = (Step::List(Modulation::A), TypeB::Seen);
                        return Ok(None);
                    }
                    ([], Modulation::A) if before == TypeB::Seen => {
                        (self.step, self.type_b) = (Step::Release, TypeB::Alone);
                        return Ok(None);
                    }
                    ([], Modulation::A) => Detected::None,
                    ([(number, card)], _) if before != TypeB::Seen => {
                        Detected::One(Target { number: *number, session: self.session, card: card.clone() })
                    }
                    _ => Detected::Several,
                };
                self.step =
                    if detected == Detected::None { Step::List(Modulation::B) } else { Step::Release };
                self.recoveries = 0;
                return Ok(Some(detected));
            }
            Step::Exchange => Step::Abort,
        };
        self.step = next;
        Ok(None)
    }
}

/// The data of a command, written to a buffer of its own.
fn write_command(command: &Command<'_>, data: &mut [u8; MAX_DATA]) -> Result<usize, Pn532Error> {
    command.write(data).map_err(|_| Pn532Error::TooManyParts)
}
