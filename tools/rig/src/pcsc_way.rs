//! Cards on readers of the system: PC/SC, through pcscd.

use crate::arrivals::{Arrivals, Slot};
use crate::way::{MAX_ANSWER, Way};
use pcsc::{Context, Disposition, Error, Protocols, ReaderState, Scope, ShareMode, State};
use std::ffi::CString;
use std::time::{Duration, Instant};
use wavepass_kernel::Lost;

/// How long a card may be gone from pcscd's view after it broke off: pcscd looks a few times a second.
const NOTICE: Duration = Duration::from_millis(1_200);
/// How often the list of readers is looked at while none fits.
const LOOK: Duration = Duration::from_millis(200);
/// The same while a card on any reader is waited for: a card is told at once, a new reader within this time.
const LOOK_FOR_READERS: Duration = Duration::from_secs(1);

/// Why there is no card to tap.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReaderError {
    /// pcscd does not run.
    #[error("pcscd does not answer ({0}): start it with `pcscd --foreground` as root, or let systemd do it")]
    NoService(Error),
    /// No reader at all.
    #[error("no reader is connected")]
    NoReaders,
    /// None whose name holds the wanted text.
    #[error("no reader's name holds `{wanted}`; there is: {}", known.join(", "))]
    NotFound {
        /// What was wanted.
        wanted: String,
        /// What there is.
        known: Vec<String>,
    },
    /// No card in time, or one that does not leave.
    #[error("{} card on {reader} in time", if *wanted { "no" } else { "still a" })]
    NotInTime {
        /// Where.
        reader: String,
        /// True if a card was waited for, false if it was to leave.
        wanted: bool,
    },
    /// Anything else that PC/SC says.
    #[error("{reader}: {source}")]
    Other {
        /// Where.
        reader: String,
        /// What.
        source: Error,
    },
}

/// A reader and what is on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// Its name.
    pub name: String,
    /// The card's answer to reset; none where there is no card.
    pub atr: Option<Vec<u8>>,
}

/// The readers of this system.
pub struct Readers {
    context: Context,
}

impl Readers {
    /// Asks pcscd.
    pub fn open() -> Result<Self, ReaderError> {
        Context::establish(Scope::User).map(|context| Self { context }).map_err(ReaderError::NoService)
    }

    fn names(&self) -> Result<Vec<CString>, ReaderError> {
        match self.context.list_readers_owned() {
            Ok(names) => Ok(names),
            Err(Error::NoReadersAvailable) => Ok(Vec::new()),
            Err(e) => Err(ReaderError::NoService(e)),
        }
    }

    /// The readers as they are now.
    fn states(&self) -> Result<Vec<ReaderState>, ReaderError> {
        let mut states: Vec<_> =
            self.names()?.into_iter().map(|name| ReaderState::new(name, State::UNAWARE)).collect();
        if !states.is_empty() {
            let now = Some(Duration::ZERO);
            self.context
                .get_status_change(now, &mut states)
                .or_else(quiet)
                .map_err(ReaderError::NoService)?;
        }
        Ok(states)
    }

    /// What there is now.
    pub fn list(&self) -> Result<Vec<Reader>, ReaderError> {
        let reader = |state: &ReaderState| Reader {
            name: name(state),
            atr: present(state).then(|| state.atr().to_vec()),
        };
        Ok(self.states()?.iter().map(reader).collect())
    }

    /// The first reader whose name holds this text.
    pub fn find(&self, wanted: &str) -> Result<String, ReaderError> {
        let states = self.fitting(Some(wanted))?;
        states.first().map(name).ok_or(ReaderError::NoReaders)
    }

    /// The readers whose names hold this text, or all of them; an error where there are none.
    fn fitting(&self, wanted: Option<&str>) -> Result<Vec<ReaderState>, ReaderError> {
        let mut states = self.states()?;
        let known: Vec<String> = states.iter().map(name).collect();
        if let Some(text) = wanted {
            states.retain(|state| name(state).contains(text));
        }
        match wanted {
            _ if !states.is_empty() => Ok(states),
            Some(text) if !known.is_empty() => Err(ReaderError::NotFound { wanted: text.to_owned(), known }),
            _ => Err(ReaderError::NoReaders),
        }
    }

    /// Waits for the next card that comes on a reader whose name holds this text, or on any reader; without patience
    /// for ever. `waiting` is told the readers' names once, where there is none yet. Gives the reader's name.
    pub fn arrival(
        &self,
        wanted: Option<&str>,
        arrivals: &mut Arrivals,
        patience: Option<Duration>,
        waiting: &mut dyn FnMut(&[String]),
    ) -> Result<String, ReaderError> {
        let begin = Instant::now();
        let mut told = false;
        loop {
            let mut states = self.fitting(wanted)?;
            let slot = |state: &ReaderState| Slot {
                reader: name(state),
                card: present(state).then(|| state.event_count()),
            };
            if let Some(reader) = arrivals.next(&states.iter().map(slot).collect::<Vec<_>>()) {
                return Ok(reader);
            }
            let names: Vec<String> = states.iter().map(name).collect();
            if !std::mem::replace(&mut told, true) {
                waiting(&names);
            }
            let left = patience.map(|patience| patience.saturating_sub(begin.elapsed()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(ReaderError::NotInTime { reader: names.join(", "), wanted: true });
            }
            states.iter_mut().for_each(ReaderState::sync_current_state);
            let pause = left.unwrap_or(LOOK_FOR_READERS).min(LOOK_FOR_READERS);
            let changed = self.context.get_status_change(Some(pause), &mut states);
            changed.or_else(quiet).map_err(ReaderError::NoService)?;
        }
    }

    /// Waits until there is a card on this reader, or none.
    pub fn wait(&self, reader: &str, present: bool, patience: Duration) -> Result<(), ReaderError> {
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let there = self.list()?.iter().any(|r| r.name == reader && r.atr.is_some());
            if there == present {
                return Ok(());
            }
            if left.is_zero() {
                return Err(ReaderError::NotInTime { reader: reader.to_owned(), wanted: present });
            }
            let current = if present { State::EMPTY } else { State::PRESENT };
            let mut states = [self.state(reader, current)?];
            self.context
                .get_status_change(Some(left.min(LOOK)), &mut states)
                .or_else(quiet)
                .map_err(|source| ReaderError::Other { reader: reader.to_owned(), source })?;
        }
    }

    fn state(&self, reader: &str, current: State) -> Result<ReaderState, ReaderError> {
        Ok(ReaderState::new(self.name(reader)?, current))
    }

    fn name(&self, reader: &str) -> Result<CString, ReaderError> {
        // pcscd's names hold no NUL.
        CString::new(reader).map_err(|_| ReaderError::NoReaders)
    }

    /// Takes the card on this reader, waiting for one.
    pub fn connect(&self, reader: &str, patience: Duration) -> Result<PcscWay<'_>, ReaderError> {
        let end = Instant::now() + patience;
        let other = |source| ReaderError::Other { reader: reader.to_owned(), source };
        loop {
            self.wait(reader, true, end.saturating_duration_since(Instant::now()))?;
            let name = self.name(reader)?;
            let connect = |mode| self.context.connect(&name, mode, Protocols::ANY);
            let card = connect(ShareMode::Exclusive).or_else(|e| match e {
                Error::SharingViolation => connect(ShareMode::Shared),
                e => Err(e),
            });
            match card {
                Ok(card) => {
                    let atr = card.status2_owned().map_err(other)?.atr().to_vec();
                    return Ok(PcscWay {
                        readers: self,
                        reader: reader.to_owned(),
                        card,
                        atr,
                        fresh: true,
                        broken: false,
                        begin: Instant::now(),
                        buffer: vec![0; MAX_ANSWER],
                    });
                }
                // It left again, or is being looked at.
                Err(
                    Error::NoSmartcard
                    | Error::RemovedCard
                    | Error::UnpoweredCard
                    | Error::UnresponsiveCard
                    | Error::ResetCard
                    | Error::SharingViolation
                    | Error::ReaderUnavailable,
                ) if Instant::now() < end => std::thread::sleep(LOOK / 4),
                Err(source) => return Err(other(source)),
            }
        }
    }
}

/// Time that passed without a change is no error, nor is a reader that was unplugged since it was listed.
fn quiet(e: Error) -> Result<(), Error> {
    match e {
        Error::Timeout | Error::UnknownReader | Error::ReaderUnavailable => Ok(()),
        e => Err(e),
    }
}

fn name(state: &ReaderState) -> String {
    state.name().to_string_lossy().into_owned()
}

fn present(state: &ReaderState) -> bool {
    state.event_state().contains(State::PRESENT)
}

/// A card on a reader.
pub struct PcscWay<'r> {
    readers: &'r Readers,
    reader: String,
    card: pcsc::Card,
    atr: Vec<u8>,
    /// True until the first tap: the card was reset when it was connected.
    fresh: bool,
    /// True once the card was lost: it must be connected anew.
    broken: bool,
    begin: Instant,
    buffer: Vec<u8>,
}

impl PcscWay<'_> {
    /// The card's answer to reset.
    pub fn atr(&self) -> &[u8] {
        &self.atr
    }

    /// The reader's name.
    pub fn reader(&self) -> &str {
        &self.reader
    }

    /// Resets the card for the next tap. False where it is gone.
    pub fn reset(&mut self) -> bool {
        self.fresh = false;
        let there = self.field().is_ok();
        self.fresh = there;
        there
    }

    /// True once the card was lost: [`Readers::connect`] gives another way.
    pub const fn is_broken(&self) -> bool {
        self.broken
    }

    /// The card's UID, where the reader tells it (GET DATA of PC/SC part 3).
    pub fn uid(&mut self) -> Option<Vec<u8>> {
        let answer = self.card.transmit(&[0xFF, 0xCA, 0x00, 0x00, 0x00], &mut self.buffer).ok()?;
        answer.strip_suffix(&[0x90, 0x00]).map(<[u8]>::to_vec)
    }

    /// What an error of PC/SC says of the card.
    fn lost(&mut self, e: Error) -> Lost {
        self.broken = true;
        match e {
            Error::RemovedCard
            | Error::NoSmartcard
            | Error::UnpoweredCard
            | Error::UnresponsiveCard
            | Error::ReaderUnavailable => Lost::Removed,
            Error::Timeout => Lost::Timeout,
            // Drivers say so of a card that broke the protocol and of one that went; pcscd knows a little later.
            _ => match self.readers.wait(&self.reader, false, NOTICE) {
                Ok(()) => Lost::Removed,
                Err(_) => Lost::Protocol,
            },
        }
    }
}

impl Way for PcscWay<'_> {
    fn field(&mut self) -> Result<(), Lost> {
        if std::mem::replace(&mut self.fresh, false) {
            return Ok(());
        }
        let again = self.card.reconnect(ShareMode::Exclusive, Protocols::ANY, Disposition::ResetCard);
        again.map_err(|e| self.lost(e))
    }

    fn exchange(&mut self, command: &[u8]) -> Result<Vec<u8>, Lost> {
        match self.card.transmit(command, &mut self.buffer).map(<[u8]>::to_vec) {
            // A driver's way to say that there was nobody: a card's answer has a status word at least.
            Ok(answer) if answer.is_empty() => Err(self.lost(Error::NotTransacted)),
            Ok(answer) => Ok(answer),
            Err(e) => Err(self.lost(e)),
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}
