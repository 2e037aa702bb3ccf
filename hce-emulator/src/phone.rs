//! A phone: its file, and how it answers.
//!
//! The file is JSON, readable by its owner only. It holds keys in the clear: a phone here is a test instrument.
//! What changes from tap to tap, the transaction counter, lies beside it (see [`crate::state`]).

use crate::application::{
    Application, CardData, House, HouseFile, Lists, MAX_LABEL, Quirks, Rsa, RsaFile, RsaKeyError, Sm2,
    Sm2File, TIMED_ANSWER, Tap,
};
use crate::card::{Answer, Card, CardFault};
use crate::contactless::{HISTORICAL_EXTENDED, Identity, MAX_HISTORICAL, Surface};
use crate::faults::{self, Astray, Fault, MAX_EXCHANGES, MAX_FAULTS, Step};
use crate::files;
use crate::ppse;
use crate::state::{Counters, Durability, MAX_APPLICATIONS, StateError};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use wavepass_protocol::apdu::{Command, PPSE, Status};
use wavepass_protocol::dol::Dol;
use wavepass_protocol::ecc::CertError;
use wavepass_protocol::select::Aid;
use wavepass_protocol::sm2::Sm2Error;
use wavepass_protocol::tags;
use wavepass_protocol::tlv::{self, Tag, TlvError, Writer};
use wavepass_protocol::token::{LastFour, Token};
use zeroize::Zeroizing;

/// The first line of what a phone's file says of itself.
const FORMAT: &str = "wavepass-phone-1";
/// The longest file: four RSA applications and a recording fit several times.
const MAX_FILE: u64 = 1 << 20;

/// Why a phone's file cannot be read or written. It never carries what is in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// Reading or writing failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// More bytes than a phone's file has.
    #[error("a phone's file has at most {MAX_FILE} bytes, not {0}")]
    TooLong(u64),
    /// Not the JSON of a phone.
    #[error("no phone's file: line {line}, column {column} is not what should stand there")]
    Json {
        /// The line, from 1.
        line: usize,
        /// The column.
        column: usize,
    },
    /// Another format than `wavepass-phone-1`.
    #[error("the file's format is not `{FORMAT}`; issue the phone again with this version")]
    Format,
    /// No application, or more than 4.
    #[error("a phone has 1 to {MAX_APPLICATIONS} applications, not {0}")]
    Applications(usize),
    /// Two applications with the same identifier.
    #[error("application {0} is there twice; a phone has each identifier once")]
    Twice(Aid),
    /// A UID or historical bytes that no reader takes.
    #[error("a UID has 4, 7 or 10 bytes, and at most {MAX_HISTORICAL} historical bytes follow")]
    Surface,
    /// More faults than 16, or a recording longer than 64 exchanges.
    #[error("a phone has at most {MAX_FAULTS} faults and recordings at most {MAX_EXCHANGES} exchanges")]
    Faults,
}

/// One application in a phone's file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "profile", rename_all = "snake_case")]
pub enum ApplicationFile {
    /// The house's own, P-256.
    House(HouseFile),
    /// As RSA cards in circulation, fDDA.
    Rsa(Box<RsaFile>),
    /// As cards of the national suite, SM2.
    Sm2(Box<Sm2File>),
}

impl ApplicationFile {
    /// What every application has.
    pub const fn card(&self) -> &CardData {
        match self {
            Self::House(file) => &file.card,
            Self::Rsa(file) => &file.card,
            Self::Sm2(file) => &file.card,
        }
    }

    /// The same, to be changed.
    pub const fn card_mut(&mut self) -> &mut CardData {
        match self {
            Self::House(file) => &mut file.card,
            Self::Rsa(file) => &mut file.card,
            Self::Sm2(file) => &mut file.card,
        }
    }
}

/// What makes a phone: its applications and what is wrong with it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct PhoneFile {
    /// Its applications, 1 to 4, no identifier twice.
    pub applications: Vec<ApplicationFile>,
    /// How it shows itself in the field.
    pub surface: Surface,
    /// Its faults, at most 16.
    pub faults: Vec<Fault>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    format: String,
    applications: Vec<ApplicationFile>,
    #[serde(default, skip_serializing_if = "Surface::is_default")]
    surface: Surface,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    faults: Vec<Fault>,
}

impl TryFrom<Wire> for PhoneFile {
    type Error = FileError;

    fn try_from(wire: Wire) -> Result<Self, FileError> {
        if wire.format != FORMAT {
            return Err(FileError::Format);
        }
        let file = Self { applications: wire.applications, surface: wire.surface, faults: wire.faults };
        file.check()?;
        Ok(file)
    }
}

impl From<PhoneFile> for Wire {
    fn from(file: PhoneFile) -> Self {
        let PhoneFile { applications, surface, faults } = file;
        Self { format: FORMAT.to_owned(), applications, surface, faults }
    }
}

// Names a rider and holds keys, so only the last four digits are shown.
impl fmt::Debug for PhoneFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PhoneFile(")?;
        for application in &self.applications {
            write!(f, "{} {} ", application.card().aid, application.card().token.last_four())?;
        }
        write!(f, "{:?})", self.faults)
    }
}

impl PhoneFile {
    /// A phone with one application, and nothing wrong with it.
    pub fn of(application: ApplicationFile) -> Self {
        Self { applications: vec![application], surface: Surface::default(), faults: Vec::new() }
    }

    /// Reads a file's text.
    pub fn from_json(text: &str) -> Result<Self, FileError> {
        // The parser's own message may quote a value, so only the place is kept.
        let wire: Wire =
            serde_json::from_str(text).map_err(|e| FileError::Json { line: e.line(), column: e.column() })?;
        wire.try_into()
    }

    /// The file's text.
    pub fn to_json(&self) -> Zeroizing<String> {
        // Every field is text, a number or a list of them, so nothing can fail.
        let mut text = Zeroizing::new(serde_json::to_string_pretty(self).unwrap_or_default());
        text.push('\n');
        text
    }

    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let io = |source| FileError::Io { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        let mut text = Zeroizing::new(String::new());
        // A device says that it has no bytes, and may have no end.
        file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(io)?;
        if text.len() as u64 > MAX_FILE {
            return Err(FileError::TooLong(len.max(text.len() as u64)));
        }
        Self::from_json(&text)
    }

    /// Writes a file that only its owner may read, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        self.check()?;
        files::replace(path, self.to_json().as_bytes())
            .map_err(|source| FileError::Io { path: path.to_owned(), source })
    }

    /// The same phone with the applications and faults of another as well.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        self.applications.extend(other.applications);
        self.faults.extend(other.faults);
        self
    }

    /// The same phone with one more fault.
    #[must_use]
    pub fn with_fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// How the phone shows itself in the field. `seed` is for random UIDs.
    pub fn identity(&self, seed: [u8; 32]) -> Identity {
        let mut surface = self.surface.clone();
        if surface.historical.is_empty() && self.faults.contains(&Fault::Extended) {
            surface.historical = HISTORICAL_EXTENDED.to_vec();
        }
        Identity::new(&surface, seed)
    }

    /// The token of the first application.
    ///
    /// # Panics
    /// If there is none, which no file that was read or issued has.
    pub fn token(&self) -> Token {
        self.applications[0].card().token
    }

    /// The last four digits of the first application's token.
    ///
    /// # Panics
    /// As [`Self::token`].
    pub fn last_four(&self) -> LastFour {
        self.token().last_four()
    }

    fn check(&self) -> Result<(), FileError> {
        let count = self.applications.len();
        if count == 0 || count > MAX_APPLICATIONS {
            return Err(FileError::Applications(count));
        }
        let aid = |i: usize| self.applications[i].card().aid;
        if let Some(i) = (1..count).find(|&i| (0..i).any(|j| aid(i) == aid(j))) {
            return Err(FileError::Twice(aid(i)));
        }
        if !self.surface.is_sound() {
            return Err(FileError::Surface);
        }
        let too_long =
            |f: &Fault| matches!(f, Fault::Replay { exchanges } if exchanges.len() > MAX_EXCHANGES);
        if self.faults.len() > MAX_FAULTS || self.faults.iter().any(too_long) {
            return Err(FileError::Faults);
        }
        Ok(())
    }
}

/// Why a file gives no phone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PhoneError {
    /// The file itself.
    #[error(transparent)]
    File(#[from] FileError),
    /// The counters.
    #[error(transparent)]
    State(#[from] StateError),
    /// A certificate that has not even the form of one.
    #[error("a certificate: {0}")]
    Certificate(CertError),
    /// A P-256 card key outside its range.
    #[error("the card's key is no P-256 key")]
    CardKey,
    /// An SM2 card key outside its range.
    #[error("the card's key is no SM2 key")]
    Sm2Key,
    /// What its SM2 signatures are made by has no place there.
    #[error("{0}")]
    Convention(Sm2Error),
    /// An RSA card key that cannot be used.
    #[error(transparent)]
    RsaKey(#[from] RsaKeyError),
    /// A domain longer than 32 bytes.
    #[error("a domain has at most 32 bytes, not {0}")]
    Domain(usize),
    /// A field that no record holds.
    #[error("the {name} cannot have {len} bytes")]
    Length {
        /// Which.
        name: &'static str,
        /// Its bytes.
        len: usize,
    },
    /// A label that is not 1 to 16 characters of ASCII, or a priority that is not 1 to 15.
    #[error("application {0}: a label has 1 to {MAX_LABEL} ASCII characters, a priority is 1 to 15")]
    Label(Aid),
    /// A record or answer does not fit.
    #[error("the application's data do not fit its records: {0}")]
    Tlv(#[from] TlvError),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Randomness(String),
}

/// Where the phone stands in its conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Session {
    /// No application selected.
    Idle,
    /// This one is selected.
    Selected(usize),
    /// This one has processed its options; its records may be read.
    Processed(usize),
}

/// A phone at work.
pub struct Phone {
    applications: Vec<Application>,
    directory: Vec<u8>,
    surface: Surface,
    faults: Vec<Fault>,
    quirks: Quirks,
    counters: Counters,
    random: ChaCha20Rng,
    session: Session,
    /// The last timed exchange with the application that is selected: the gate's entropy, then the answer.
    timed: Option<[u8; 4 + TIMED_ANSWER]>,
    /// What of an answer did not fit the length that the command asked for.
    pending: Vec<u8>,
    /// Answers since the field came on.
    answered: u32,
    /// Error status words among them.
    errors: u32,
    removed: bool,
}

impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Phone({} applications, {:?})", self.applications.len(), self.faults)
    }
}

impl Phone {
    /// A phone from its file and its counters. `seed` feeds the random numbers of signatures and answers; the same
    /// seed gives the same answers to the same taps.
    pub fn new(file: &PhoneFile, counters: Counters, seed: [u8; 32]) -> Result<Self, PhoneError> {
        file.check()?;
        let mut applications = Vec::with_capacity(file.applications.len());
        for application in &file.applications {
            let card = application.card();
            let printable = card.label.bytes().all(|b| (0x20..0x7F).contains(&b));
            if !printable
                || !(1..=MAX_LABEL).contains(&card.label.len())
                || !(1..=15).contains(&card.priority)
            {
                return Err(PhoneError::Label(card.aid));
            }
            applications.push(match application {
                ApplicationFile::House(file) => Application::House(Box::new(House::new(file)?)),
                ApplicationFile::Rsa(file) => Application::Rsa(Box::new(Rsa::new(file)?)),
                ApplicationFile::Sm2(file) => Application::Sm2(Box::new(Sm2::new(file)?)),
            });
        }
        Ok(Self {
            directory: ppse::directory(applications.iter().map(Application::card))?,
            applications,
            surface: file.surface.clone(),
            faults: file.faults.clone(),
            quirks: faults::quirks(&file.faults),
            counters,
            random: ChaCha20Rng::from_seed(seed),
            session: Session::Idle,
            timed: None,
            pending: Vec::new(),
            answered: 0,
            errors: 0,
            removed: false,
        })
    }

    /// A phone from its file; its counters are in a file of the same name with `.state` after it.
    pub fn from_files(path: &Path, durability: Durability) -> Result<Self, PhoneError> {
        let file = PhoneFile::load(path)?;
        let counters = Counters::file(&state_path(path), durability)?;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|e| PhoneError::Randomness(e.to_string()))?;
        Self::new(&file, counters, seed)
    }

    /// The last counter that an application used.
    pub fn atc(&self, application: usize) -> Result<u16, StateError> {
        self.counters.atc(application)
    }

    /// Carries out a command and gives data and status word.
    fn carry_out(&mut self, bytes: &[u8]) -> Result<(Vec<u8>, Status), StateError> {
        let Ok(command) = Command::parse(bytes) else { return Ok((Vec::new(), Status::WrongLength)) };
        if command.ins != 0xC0 {
            self.pending.clear();
        }
        let result = match (command.cla, command.ins) {
            (0x00, 0xA4) => self.select(&command),
            (0x80, 0xA8) => return self.processing_options(&command),
            (0x00, 0xB2) => self.read_record(&command),
            (0x00, 0xC0) => self.get_response(&command),
            (0x00, 0x88) => self.authenticate(&command),
            (0x80, 0xAE) => self.generate(&command),
            (0x80, 0xEA) => self.timed(&command),
            (_, 0x88 | 0xA4 | 0xA8 | 0xAE | 0xB2 | 0xC0 | 0xEA) => Err(Status::ClassNotSupported),
            _ => Err(Status::InstructionNotSupported),
        };
        Ok(match result {
            Ok(data) => self.fit(data, command.le),
            Err(status) => (Vec::new(), status),
        })
    }

    /// Gives what the command's length allows; the rest waits for GET RESPONSE (ISO/IEC 7816-4 section 5.3.4).
    fn fit(&mut self, mut data: Vec<u8>, le: Option<u32>) -> (Vec<u8>, Status) {
        let part = self.faults.iter().find_map(|fault| match *fault {
            Fault::Chained { bytes } => Some(usize::from(bytes)),
            _ => None,
        });
        let asked = le.map_or(0, |le| le as usize);
        let room = part.map_or(asked, |part| asked.min(part));
        if data.len() <= room {
            return (data, Status::Success);
        }
        self.pending = data.split_off(room);
        // 256 and more are written as 0.
        let waiting = u8::try_from(self.pending.len()).unwrap_or(0);
        (data, Status::MoreData(waiting))
    }

    fn get_response(&mut self, command: &Command<'_>) -> Result<Vec<u8>, Status> {
        match (command.p1, command.p2) {
            (0, 0) if self.pending.is_empty() => Err(Status::ConditionsNotSatisfied),
            (0, 0) => Ok(std::mem::take(&mut self.pending)),
            _ => Err(Status::WrongParameters),
        }
    }

    fn select(&mut self, command: &Command<'_>) -> Result<Vec<u8>, Status> {
        if (command.p1, command.p2) != (0x04, 0x00) {
            return Err(Status::WrongParameters);
        }
        // A name: 5 to 16 bytes, of which the first ones suffice (partial selection).
        if !(5..=16).contains(&command.data.len()) {
            return Err(Status::WrongLength);
        }
        self.timed = None;
        if command.data == PPSE {
            self.session = Session::Idle;
            return Ok(self.directory.clone());
        }
        let begins = |a: &Application| a.card().aid.as_slice().starts_with(command.data);
        let found = self.applications.iter().position(begins).ok_or(Status::FileNotFound)?;
        let answer = self.applications[found].select(self.quirks).map_err(|_| Status::NoDiagnosis)?;
        self.session = Session::Selected(found);
        Ok(answer)
    }

    fn processing_options(&mut self, command: &Command<'_>) -> Result<(Vec<u8>, Status), StateError> {
        let refuse = |status| Ok((Vec::new(), status));
        let Session::Selected(selected) = self.session else { return refuse(Status::ConditionsNotSatisfied) };
        if (command.p1, command.p2) != (0, 0) {
            return refuse(Status::WrongParameters);
        }
        let Ok(values) = tlv::get(command.data, tags::COMMAND_TEMPLATE) else {
            return refuse(Status::WrongData);
        };
        let pdol = self.applications[selected].pdol(self.quirks);
        if Dol::parse(&pdol).map(|dol| dol.total_len()) != Ok(values.len()) {
            return refuse(Status::WrongLength);
        }
        if self.faults.contains(&Fault::Locked) {
            return refuse(Status::CommandNotAllowed);
        }
        if !self.applications[selected].accepts(&pdol, values) {
            return refuse(Status::ConditionsNotSatisfied);
        }
        // Kept before anything is said: whatever happens from here on, this counter is not used again.
        let atc = match self.counters.advance(selected) {
            Ok(atc) => atc,
            Err(StateError::UsedUp(_)) => return refuse(Status::ConditionsNotSatisfied),
            Err(e) => return Err(e),
        };
        let timed = self.timed.take();
        let tap = Tap { values, atc, nonce: self.noise(), timed, quirks: self.quirks };
        Ok(match self.applications[selected].process(&tap) {
            Ok(answer) => {
                self.session = Session::Processed(selected);
                let astray = self.astray().and_then(|kind| faults::lead_astray(&answer, kind));
                self.fit(astray.unwrap_or(answer), command.le)
            }
            Err(_) => (Vec::new(), Status::NoDiagnosis),
        })
    }

    fn read_record(&mut self, command: &Command<'_>) -> Result<Vec<u8>, Status> {
        let Session::Processed(selected) = self.session else { return Err(Status::ConditionsNotSatisfied) };
        // Bits 3 to 1 of P2 say that P1 is a record number.
        if command.p2 & 0x07 != 0x04 {
            return Err(Status::WrongParameters);
        }
        if !command.data.is_empty() {
            return Err(Status::WrongLength);
        }
        let place = (command.p2 >> 3, command.p1);
        match self.applications[selected].record(place.0, place.1) {
            Some(record) if place == (1, 1) && self.faults.contains(&Fault::Extended) => {
                Ok(lengthened(record))
            }
            Some(record) => Ok(record.to_vec()),
            None if self.astray() == Some(Astray::Endless) => Ok(vec![0x70, 0x00]),
            None => Err(Status::RecordNotFound),
        }
    }

    fn astray(&self) -> Option<Astray> {
        self.faults.iter().find_map(|fault| match *fault {
            Fault::Afl { kind } => Some(kind),
            _ => None,
        })
    }

    /// How long the modelled card takes for a step.
    fn time_us(&self, step: Option<Step>) -> u64 {
        let signs = match (step, self.session) {
            (Some(Step::Options), Session::Processed(i)) => self.applications[i].lists().is_none(),
            (Some(Step::Authenticate), Session::Processed(_)) => true,
            _ => false,
        };
        // A timed exchange is answered at once, as the card says there of itself.
        let mut time = if step == Some(Step::Timed) { 0 } else { self.surface.answer_us };
        for fault in &self.faults {
            time = time.saturating_add(match *fault {
                Fault::Slow { delay_us } | Fault::Relay { delay_us } => delay_us,
                Fault::SlowFirst { delay_us } if self.answered == 0 => delay_us,
                Fault::Wtx { count } if signs => u64::from(count) * WAITING_TIME_US,
                _ => 0,
            });
        }
        if signs { time.saturating_add(self.surface.sign_us) } else { time }
    }

    /// EXCHANGE RELAY RESISTANCE DATA: the card answers at once, and says later what it was asked and answered.
    fn timed(&mut self, command: &Command<'_>) -> Result<Vec<u8>, Status> {
        let noise = self.noise();
        let selected = match self.session {
            Session::Selected(selected) => selected,
            Session::Idle | Session::Processed(_) => return Err(Status::ConditionsNotSatisfied),
        };
        let answer =
            self.applications[selected].timed_answer(&noise).ok_or(Status::InstructionNotSupported)?;
        if (command.p1, command.p2) != (0, 0) {
            return Err(Status::WrongParameters);
        }
        let entropy: [u8; 4] = command.data.try_into().map_err(|_| Status::WrongLength)?;
        let mut timed = [0; 4 + TIMED_ANSWER];
        timed[..4].copy_from_slice(&entropy);
        timed[4..].copy_from_slice(&answer);
        self.timed = Some(timed);
        Ok([&[tags::RESPONSE_1.0 as u8, TIMED_ANSWER as u8][..], &answer].concat())
    }

    fn authenticate(&mut self, command: &Command<'_>) -> Result<Vec<u8>, Status> {
        let (selected, Lists { ddol, .. }) = self.older()?;
        if (command.p1, command.p2) != (0, 0) {
            return Err(Status::WrongParameters);
        }
        let tap = self.later(command.data, ddol)?;
        let answer = self.applications[selected].authenticate(&tap).ok_or(Status::InstructionNotSupported)?;
        answer.map_err(|_| Status::NoDiagnosis)
    }

    fn generate(&mut self, command: &Command<'_>) -> Result<Vec<u8>, Status> {
        let (selected, Lists { cdol, .. }) = self.older()?;
        // Bits 8 and 7 name the cryptogram asked for, and 11 is none. The card gives an ARQC whichever it is.
        if command.p1 & 0xC0 == 0xC0 || command.p2 != 0 {
            return Err(Status::WrongParameters);
        }
        let tap = self.later(command.data, cdol)?;
        let answer = self.applications[selected].generate(&tap).ok_or(Status::ConditionsNotSatisfied)?;
        answer.map_err(|_| Status::NoDiagnosis)
    }

    /// The application that goes an older card's way, after its processing options, and its lists.
    fn older(&self) -> Result<(usize, Lists), Status> {
        if self.applications.iter().all(|a| a.lists().is_none()) {
            return Err(Status::InstructionNotSupported);
        }
        let Session::Processed(selected) = self.session else { return Err(Status::ConditionsNotSatisfied) };
        let lists = self.applications[selected].lists().ok_or(Status::InstructionNotSupported)?;
        Ok((selected, lists))
    }

    /// What a command after GET PROCESSING OPTIONS brings, whose values must be as long as its list asks for.
    fn later<'v>(&mut self, values: &'v [u8], list: &[u8]) -> Result<Tap<'v>, Status> {
        if Dol::parse(list).map(|list| list.total_len()) != Ok(values.len()) {
            return Err(Status::WrongLength);
        }
        Ok(Tap { values, atc: 0, nonce: self.noise(), timed: None, quirks: self.quirks })
    }

    fn noise(&mut self) -> [u8; 32] {
        let mut noise = [0; 32];
        self.random.fill_bytes(&mut noise);
        noise
    }

    fn right_answer(&mut self, command: &[u8]) -> Result<Vec<u8>, StateError> {
        let recorded = self.faults.iter().find_map(|fault| match fault {
            Fault::Replay { exchanges } => Some(faults::replayed(exchanges, command)),
            _ => None,
        });
        if let Some(recorded) = recorded {
            return Ok(recorded.map_or_else(|| Status::FileNotFound.to_bytes().to_vec(), <[u8]>::to_vec));
        }
        let (mut data, status) = self.carry_out(command)?;
        data.extend_from_slice(&status.to_bytes());
        Ok(data)
    }
}

impl Card for Phone {
    fn enter_field(&mut self) {
        self.session = Session::Idle;
        self.timed = None;
        self.pending.clear();
        self.answered = 0;
        self.errors = 0;
        self.removed = false;
    }

    fn transmit(&mut self, command: &[u8]) -> Result<Answer, CardFault> {
        if self.removed {
            return Err(CardFault::Removed);
        }
        let step = Step::of(command);
        let data = self.right_answer(command)?;
        let mut answer = Answer { data, delay_us: self.time_us(step) };
        let noise = self.noise();
        for fault in &self.faults {
            match *fault {
                Fault::Broken { kind } => {
                    answer = faults::broken(kind, answer, noise, step == Some(Step::Directory));
                }
                Fault::StatusWord { status, step: at } if step == Some(at) => answer.data = status.to_vec(),
                Fault::FieldLost { after } if self.answered >= u32::from(after) => self.removed = true,
                Fault::FieldLostAt { step: at } if step == Some(at) => self.removed = true,
                Fault::ErrorLimit { errors } if self.errors >= u32::from(errors) => self.removed = true,
                _ => {}
            }
        }
        if self.removed {
            return Err(CardFault::Removed);
        }
        self.answered += 1;
        // 90, 61 to 63: done, more to come, warnings.
        let is_error = answer.data.last_chunk().is_some_and(|[sw1, _]| !matches!(sw1, 0x90 | 0x61..=0x63));
        self.errors += u32::from(is_error);
        Ok(answer)
    }
}

/// A waiting-time extension with FWI 8: 256 · 16 / 13.56 MHz · 2^8.
const WAITING_TIME_US: u64 = 77_330;

/// The record with a value of an unknown tag that makes it longer than a short answer.
fn lengthened(record: &[u8]) -> Vec<u8> {
    const STUFFING: Tag = Tag(0xDF7E);
    let mut buf = [0; 1024];
    let mut w = Writer::new(&mut buf);
    let lengthened = w.nested(tags::RECORD, |w| {
        w.bytes(tlv::get(record, tags::RECORD)?)?;
        w.tlv(STUFFING, &[0; 256])
    });
    // What is no record stays as it is.
    if lengthened.is_ok() { w.finish().to_vec() } else { record.to_vec() }
}

/// Where the counters of a phone's file are.
pub fn state_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".state");
    name.into()
}
