//! What can be wrong with a card. Faults compose with each other and with every profile.
//!
//! [`Fault`]s are of a card's answers and live in the phone's file. [`IssueFault`]s are of what is signed and are made
//! into the phone when it is issued ([`crate::profile`]). [`CATALOGUE`] says of each what it does, and what a sound
//! gate says to it.

use crate::application::Quirks;
use crate::card::{Answer, Card};
use crate::phone::{ApplicationFile, PhoneFile};
use crate::profile::Profile;
use crate::reader::{self, ReadError, Values};
use serde::{Deserialize, Serialize};
use wavepass_protocol::apdu::PPSE;
use wavepass_protocol::tags;
use wavepass_protocol::tap::Reason;
use wavepass_protocol::tlv::{self, Writer};

/// The most faults of one phone.
pub const MAX_FAULTS: usize = 16;
/// The most exchanges of a recording.
pub const MAX_EXCHANGES: usize = 64;

/// Something wrong with a card.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Fault {
    /// The dynamic signature is well formed and verifies under no key.
    ForgedSignature,
    /// The dynamic signature covers another transaction counter than the one in the answer.
    WrongAtc,
    /// The counter in the answer is always 0, as of a card that was never used.
    Unused,
    /// The card declines: an AAC instead of an ARQC.
    NoCryptogram,
    /// The card is a recording of another: it gives the answers that the other gave to the same commands.
    Replay {
        /// What was recorded, in order.
        exchanges: Vec<Exchange>,
    },
    /// The card answers nonsense.
    Broken {
        /// Of which kind.
        kind: Broken,
    },
    /// Every answer takes longer.
    Slow {
        /// By so many microseconds.
        delay_us: u64,
    },
    /// Somebody relays between the gate and this card, which is elsewhere: every exchange takes longer, the timed one
    /// too.
    Relay {
        /// By so many microseconds.
        delay_us: u64,
    },
    /// The card leaves the field.
    FieldLost {
        /// After so many answers; the next command is still carried out, and its answer lost.
        after: u8,
    },
    /// The card leaves the field at a command, which is still carried out, and its answer lost.
    FieldLostAt {
        /// At the first of these.
        step: Step,
    },
    /// The first answer in a field takes longer: a phone that wakes up.
    SlowFirst {
        /// By so many microseconds.
        delay_us: u64,
    },
    /// The card asks for more time before its signature: so many waiting-time extensions of 77 ms (FWI 8).
    Wtx {
        /// How many.
        count: u8,
    },
    /// A command gets a status word and nothing else.
    StatusWord {
        /// Which status word.
        #[serde(with = "crate::hex")]
        status: [u8; 2],
        /// In answer to which commands.
        step: Step,
    },
    /// The file locator leads astray.
    Afl {
        /// Where.
        kind: Astray,
    },
    /// The card drops the link after so many error status words, until the next field.
    ErrorLimit {
        /// How many it forgives, and the last of them.
        errors: u8,
    },
    /// A record with certificates is longer than a short answer: it comes whole to a command with an extended length
    /// and in parts to a short one.
    Extended,
    /// Answers come in parts of at most so many bytes, with 61xx.
    Chained {
        /// Bytes of a part, from 1.
        bytes: u8,
    },
    /// The phone is locked: it refuses GET PROCESSING OPTIONS with 6986.
    Locked,
    /// The PDOL asks for an unknown tag where the unpredictable number stood, so that a gate sends zeros there.
    StaleDol,
}

/// Kinds of nonsense, each in answer to every command after SELECT PPSE, but for [`Broken::Directory`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Broken {
    /// Random bytes under status 9000.
    Noise,
    /// Half of the right answer under status 9000.
    Truncated,
    /// Nothing at all, not even a status word.
    Empty,
    /// Always more to come: status 61FF.
    Endless,
    /// An answer of 2,048 bytes.
    Oversized,
    /// Random bytes already in answer to SELECT PPSE.
    Directory,
    /// Status 9000 and no data.
    NoData,
    /// The right answer with a first length far beyond its end.
    OverLong,
    /// Templates nested a hundred deep.
    Nested,
    /// The right answer with a first length of the indefinite form, which EMV does not know.
    Indefinite,
}

/// Where a file locator can lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Astray {
    /// To sixteen thousand records, all of which are there.
    Endless,
    /// To a file that is not there.
    Nowhere,
}

/// A kind of command in a tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Step {
    /// SELECT PPSE.
    Directory,
    /// SELECT of an application.
    Select,
    /// GET PROCESSING OPTIONS.
    Options,
    /// READ RECORD.
    Record,
    /// INTERNAL AUTHENTICATE.
    Authenticate,
    /// GENERATE AC.
    Generate,
    /// EXCHANGE RELAY RESISTANCE DATA.
    Timed,
}

impl Step {
    const ALL: [Self; 7] = [
        Self::Directory,
        Self::Select,
        Self::Options,
        Self::Record,
        Self::Authenticate,
        Self::Generate,
        Self::Timed,
    ];

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Directory => "ppse",
            Self::Select => "select",
            Self::Options => "gpo",
            Self::Record => "record",
            Self::Authenticate => "authenticate",
            Self::Generate => "generate",
            Self::Timed => "timed",
        }
    }

    /// Which step of a tap a command is, by its header; `None` for one that belongs to none.
    pub fn of(command: &[u8]) -> Option<Self> {
        let ins = command.get(1)?;
        Some(match ins {
            0xA4 if command.windows(PPSE.len()).any(|w| w == PPSE) => Self::Directory,
            0xA4 => Self::Select,
            0xA8 => Self::Options,
            0xB2 => Self::Record,
            0x88 => Self::Authenticate,
            0xAE => Self::Generate,
            0xEA => Self::Timed,
            _ => return None,
        })
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.word() == text)
    }
}

/// One command and its answer, as transcripts have them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// The command.
    #[serde(with = "crate::hex")]
    pub c: Vec<u8>,
    /// The answer with its status word.
    #[serde(with = "crate::hex")]
    pub r: Vec<u8>,
}

// A recording names a rider, so only its size is shown.
impl std::fmt::Debug for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ForgedSignature => f.write_str("forged-signature"),
            Self::WrongAtc => f.write_str("wrong-atc"),
            Self::Unused => f.write_str("unused"),
            Self::NoCryptogram => f.write_str("no-cryptogram"),
            Self::Replay { exchanges } => write!(f, "replay={}", exchanges.len()),
            Self::Broken { kind } => write!(f, "broken={}", kind.word()),
            Self::Slow { delay_us } => write!(f, "slow={delay_us}"),
            Self::Relay { delay_us } => write!(f, "relay={delay_us}"),
            Self::FieldLost { after } => write!(f, "field-lost={after}"),
            Self::Locked => f.write_str("locked"),
            Self::StaleDol => f.write_str("stale-dol"),
            Self::FieldLostAt { step } => write!(f, "field-lost={}", step.word()),
            Self::SlowFirst { delay_us } => write!(f, "slow-first={delay_us}"),
            Self::Wtx { count } => write!(f, "wtx={count}"),
            Self::StatusWord { status: [a, b], step } => {
                write!(f, "status-words={a:02X}{b:02X}@{}", step.word())
            }
            Self::Afl { kind: Astray::Endless } => f.write_str("afl=endless"),
            Self::Afl { kind: Astray::Nowhere } => f.write_str("afl=nowhere"),
            Self::ErrorLimit { errors } => write!(f, "error-limit={errors}"),
            Self::Extended => f.write_str("extended"),
            Self::Chained { bytes } => write!(f, "chained={bytes}"),
        }
    }
}

impl Broken {
    const ALL: [Self; 10] = [
        Self::Noise,
        Self::Truncated,
        Self::Empty,
        Self::Endless,
        Self::Oversized,
        Self::Directory,
        Self::NoData,
        Self::OverLong,
        Self::Nested,
        Self::Indefinite,
    ];

    const fn word(self) -> &'static str {
        match self {
            Self::Noise => "noise",
            Self::Truncated => "truncated",
            Self::Empty => "empty",
            Self::Endless => "endless",
            Self::Oversized => "oversized",
            Self::Directory => "directory",
            Self::NoData => "no-data",
            Self::OverLong => "over-long",
            Self::Nested => "nested",
            Self::Indefinite => "indefinite",
        }
    }
}

/// Why text names no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no fault; {hint}", text = .0, hint = rightly(.0))]
pub struct UnknownFault(String);

/// How what was meant is written, where the name is right.
fn rightly(text: &str) -> String {
    let name = |text: &'static str| text.split_once('=').map_or(text, |(name, _)| name);
    let meant = text.split_once('=').map_or(text, |(name, _)| name);
    let known: Vec<_> = CATALOGUE.iter().filter(|entry| name(entry.name) == meant).collect();
    match known[..] {
        [] => "`phone list --faults` lists them".to_owned(),
        [one] if one.example == one.name => format!("it is written {}", one.name),
        [one] => format!("it is written {}, as {}", one.name, one.example),
        _ => {
            let names: Vec<_> = known.iter().map(|entry| entry.name).collect();
            format!("it is one of {}", names.join(", "))
        }
    }
}

impl std::str::FromStr for Fault {
    type Err = UnknownFault;

    /// Reads a fault as the command line has it. A replay needs its recording and is not among them.
    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let fault = match value {
            None => match name {
                "forged-signature" => Some(Self::ForgedSignature),
                "wrong-atc" => Some(Self::WrongAtc),
                "unused" => Some(Self::Unused),
                "no-cryptogram" => Some(Self::NoCryptogram),
                "locked" => Some(Self::Locked),
                "stale-dol" => Some(Self::StaleDol),
                "extended" => Some(Self::Extended),
                _ => None,
            },
            Some(value) => Self::with_value(name, value),
        };
        fault.ok_or_else(|| UnknownFault(text.to_owned()))
    }
}

impl Fault {
    fn with_value(name: &str, value: &str) -> Option<Self> {
        Some(match name {
            "slow" => Self::Slow { delay_us: value.parse().ok()? },
            "relay" => Self::Relay { delay_us: value.parse().ok()? },
            "slow-first" => Self::SlowFirst { delay_us: value.parse().ok()? },
            "wtx" => Self::Wtx { count: value.parse().ok()? },
            "field-lost" => match Step::parse(value) {
                Some(step) => Self::FieldLostAt { step },
                None => Self::FieldLost { after: value.parse().ok()? },
            },
            "status-words" => {
                let (status, step) = value.split_once('@')?;
                let status = crate::hex::decode(status).ok()?.try_into().ok()?;
                Self::StatusWord { status, step: Step::parse(step)? }
            }
            "afl" => Self::Afl {
                kind: match value {
                    "endless" => Astray::Endless,
                    "nowhere" => Astray::Nowhere,
                    _ => return None,
                },
            },
            "error-limit" => Self::ErrorLimit { errors: value.parse().ok().filter(|n| *n > 0)? },
            "chained" => Self::Chained { bytes: value.parse().ok().filter(|n| *n > 0)? },
            "broken" => Self::Broken { kind: Broken::ALL.into_iter().find(|kind| kind.word() == value)? },
            _ => return None,
        })
    }
}

/// What can be wrong with what is signed. It is made into a phone when it is issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum IssueFault {
    /// Its last month is over.
    Expired,
    /// Its first day is next year.
    NotYetValid,
    /// The issuer certificate is of another authority with the same names.
    OtherAuthority,
    /// The card certificate is of another number than the record's.
    OtherNumber,
    /// It is a recording of the phone that it would be: a clone.
    Replay,
}

impl IssueFault {
    const ALL: [Self; 5] =
        [Self::Expired, Self::NotYetValid, Self::OtherAuthority, Self::OtherNumber, Self::Replay];

    const fn word(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NotYetValid => "not-yet-valid",
            Self::OtherAuthority => "other-authority",
            Self::OtherNumber => "other-number",
            Self::Replay => "replay",
        }
    }
}

/// A fault of either kind, as `--fault` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyFault {
    /// Of what is signed.
    Issue(IssueFault),
    /// Of the answers.
    Phone(Fault),
}

impl From<IssueFault> for AnyFault {
    fn from(fault: IssueFault) -> Self {
        Self::Issue(fault)
    }
}

impl From<Fault> for AnyFault {
    fn from(fault: Fault) -> Self {
        Self::Phone(fault)
    }
}

impl std::fmt::Display for AnyFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Issue(fault) => f.write_str(fault.word()),
            Self::Phone(fault) => fault.fmt(f),
        }
    }
}

impl std::str::FromStr for AnyFault {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        match IssueFault::ALL.into_iter().find(|fault| fault.word() == text) {
            Some(fault) => Ok(Self::Issue(fault)),
            None => text.parse().map(Self::Phone),
        }
    }
}

/// What a fault is called, what it does, and what comes of it.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Its name, with its value where it has one.
    pub name: &'static str,
    /// What it does.
    pub what: &'static str,
    /// An example that can be given to `--fault`.
    pub example: &'static str,
    /// What a sound gate says to the example: a refusal with one of these reasons; it opens where there is none.
    pub gate: &'static [Reason],
    /// Which cards it changes; the others open as before.
    pub cards: Cards,
}

/// Which cards a fault changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cards {
    /// All.
    Every,
    /// Those that sign in answer to GET PROCESSING OPTIONS. An older card's signature covers neither counter nor PDOL.
    Signing,
    /// Those that can be timed.
    Timed,
}

impl Entry {
    const fn new(
        name: &'static str,
        example: &'static str,
        what: &'static str,
        gate: &'static [Reason],
    ) -> Self {
        Self { name, what, example, gate, cards: Cards::Every }
    }

    const fn only(self, cards: Cards) -> Self {
        Self { cards, ..self }
    }

    /// What a sound gate says to the example on a phone of this profile: the reasons to refuse; it opens where there is
    /// none.
    pub fn verdict(&self, profile: &Profile) -> &'static [Reason] {
        if profile.is_among(self.cards) { self.gate } else { &[] }
    }
}

/// Every fault that `--fault` takes.
pub const CATALOGUE: &[Entry] = &[
    Entry::new("expired", "expired", "its last month is over", &[Reason::Expired]),
    Entry::new("not-yet-valid", "not-yet-valid", "its first day is next year", &[Reason::NotYetValid]),
    Entry::new(
        "other-authority",
        "other-authority",
        "the issuer's certificate is of another authority of the same name",
        &[Reason::AuthenticationFailed],
    ),
    Entry::new(
        "other-number",
        "other-number",
        "the card's certificate is of another number than the record's",
        &[Reason::AuthenticationFailed],
    ),
    Entry::new(
        "replay",
        "replay",
        "a recording of the phone that it would be: a clone",
        &[Reason::AuthenticationFailed],
    ),
    Entry::new(
        "forged-signature",
        "forged-signature",
        "the dynamic signature is well formed and nobody's",
        &[Reason::AuthenticationFailed],
    ),
    Entry::new(
        "wrong-atc",
        "wrong-atc",
        "the signed counter is another than the answered one",
        &[Reason::AuthenticationFailed],
    )
    .only(Cards::Signing),
    Entry::new(
        "stale-dol",
        "stale-dol",
        "the PDOL asks for an unknown tag where the unpredictable number stood",
        &[Reason::AuthenticationFailed],
    )
    .only(Cards::Signing),
    Entry::new("unused", "unused", "the counter is always 0", &[Reason::UnusedCard]),
    Entry::new("no-cryptogram", "no-cryptogram", "an AAC instead of an ARQC", &[Reason::NoCryptogram]),
    Entry::new("locked", "locked", "GET PROCESSING OPTIONS gets 6986: see phone", &[Reason::CardError]),
    Entry::new(
        "status-words=SW@STEP",
        "status-words=6985@gpo",
        "the step (ppse, select, gpo, record, authenticate, generate, timed) gets this status word",
        &[Reason::CardError],
    ),
    Entry::new(
        "broken=noise",
        "broken=noise",
        "random bytes under 9000, after SELECT PPSE",
        &[Reason::CardError],
    ),
    Entry::new("broken=truncated", "broken=truncated", "half of each answer", &[Reason::CardError]),
    Entry::new(
        "broken=empty",
        "broken=empty",
        "nothing at all, not even a status word",
        &[Reason::CardError],
    ),
    Entry::new("broken=no-data", "broken=no-data", "9000 alone", &[Reason::CardError]),
    Entry::new("broken=endless", "broken=endless", "always more to come: 61FF", &[Reason::CardError]),
    Entry::new("broken=oversized", "broken=oversized", "answers of 2,048 bytes", &[Reason::CardError]),
    Entry::new(
        "broken=directory",
        "broken=directory",
        "random bytes already for SELECT PPSE",
        &[Reason::CardError],
    ),
    Entry::new(
        "broken=over-long",
        "broken=over-long",
        "the first TLV is said to be far longer than it is",
        &[Reason::CardError],
    ),
    Entry::new("broken=nested", "broken=nested", "templates nested a hundred deep", &[Reason::CardError]),
    Entry::new(
        "broken=indefinite",
        "broken=indefinite",
        "the first TLV has a length of the indefinite form",
        &[Reason::CardError],
    ),
    Entry::new(
        "afl=endless",
        "afl=endless",
        "the file locator names sixteen thousand records, and they are there",
        &[Reason::CardError],
    ),
    Entry::new(
        "afl=nowhere",
        "afl=nowhere",
        "the file locator names a file that is not there",
        &[Reason::CardError],
    ),
    Entry::new(
        "field-lost=N|STEP",
        "field-lost=record",
        "the phone leaves after N answers, or at the step",
        &[Reason::CardRemoved],
    ),
    Entry::new(
        "error-limit=N",
        "error-limit=1",
        "after N error status words it drops the link until the next field",
        &[],
    ),
    Entry::new("slow=US", "slow=400000", "each answer takes so many microseconds longer", &[Reason::TooSlow]),
    Entry::new(
        "relay=US",
        "relay=50000",
        "somebody relays: each answer takes so much longer, the timed one too",
        &[Reason::RelaySuspected],
    )
    .only(Cards::Timed),
    Entry::new("slow-first=US", "slow-first=200000", "the first answer in a field takes so much longer", &[]),
    Entry::new("wtx=N", "wtx=3", "N waiting-time extensions of 77 ms before the signature", &[]),
    Entry::new(
        "extended",
        "extended",
        "a record longer than a short answer, whole only to an extended length",
        &[],
    ),
    Entry::new("chained=N", "chained=100", "answers in parts of N bytes, with 61xx", &[]),
];

/// What the faults of a phone do to the answers that it makes.
pub(crate) fn quirks(faults: &[Fault]) -> Quirks {
    Quirks {
        forged_signature: faults.contains(&Fault::ForgedSignature),
        wrong_atc: faults.contains(&Fault::WrongAtc),
        unused: faults.contains(&Fault::Unused),
        no_cryptogram: faults.contains(&Fault::NoCryptogram),
        stale_dol: faults.contains(&Fault::StaleDol),
    }
}

/// The recorded answer to a command. What carries the gate's values differs at each tap and matches by its first two
/// bytes.
pub(crate) fn replayed<'e>(exchanges: &'e [Exchange], command: &[u8]) -> Option<&'e [u8]> {
    let step = Step::of(command);
    let is_fresh = matches!(step, Some(Step::Options | Step::Authenticate | Step::Generate | Step::Timed));
    let matches = |e: &&Exchange| if is_fresh { e.c.get(..2) == command.get(..2) } else { e.c == command };
    exchanges.iter().find(matches).map(|e| e.r.as_slice())
}

/// Reads a card once, as a thief with a reader of his own does, and gives the fault that replays what it said.
pub fn recording(card: &mut dyn Card, values: &Values) -> Result<Fault, ReadError> {
    let reading = reader::read_timed(card, values)?;
    Ok(Fault::Replay { exchanges: reading.exchanges })
}

/// A phone that shows its own data with the card certificate and the key of another number: for each application
/// of `phone` the certificate of the first of `other` with the same suite.
pub fn certificate_of(mut phone: PhoneFile, other: &PhoneFile) -> PhoneFile {
    for application in &mut phone.applications {
        for theirs in &other.applications {
            match (&mut *application, theirs) {
                (ApplicationFile::House(mine), ApplicationFile::House(theirs)) => {
                    mine.card_certificate.clone_from(&theirs.card_certificate);
                    mine.card_key = theirs.card_key.clone();
                }
                (ApplicationFile::Rsa(mine), ApplicationFile::Rsa(theirs)) => {
                    mine.card_certificate.clone_from(&theirs.card_certificate);
                    mine.card_remainder.clone_from(&theirs.card_remainder);
                    mine.card_key = theirs.card_key.clone();
                }
                (ApplicationFile::Sm2(mine), ApplicationFile::Sm2(theirs)) => {
                    mine.card_certificate.clone_from(&theirs.card_certificate);
                    mine.card_key = theirs.card_key.clone();
                }
                _ => continue,
            }
            break;
        }
    }
    phone
}

/// Nonsense instead of an answer; `noise` is random.
pub(crate) fn broken(kind: Broken, right: Answer, noise: [u8; 32], is_directory: bool) -> Answer {
    let data = match kind {
        _ if is_directory && kind != Broken::Directory => return right,
        Broken::Noise | Broken::Directory => [&noise[..], &[0x90, 0x00]].concat(),
        Broken::Truncated => {
            let half = right.data.len().saturating_sub(2).div_ceil(2);
            [&right.data[..half], &[0x90, 0x00]].concat()
        }
        Broken::Empty => Vec::new(),
        Broken::Endless => [&noise[..], &[0x61, 0xFF]].concat(),
        Broken::Oversized => {
            let mut data = noise.repeat(64);
            data.extend([0x90, 0x00]);
            data
        }
        Broken::NoData => vec![0x90, 0x00],
        Broken::OverLong => with_length(&right.data, &[0x84, 0x7F, 0xFF, 0xFF, 0xFF]),
        Broken::Indefinite => with_length(&right.data, &[0x80]),
        Broken::Nested => nested(),
    };
    Answer { data, ..right }
}

/// The answer with another length in its first TLV, whose tag has one byte.
fn with_length(right: &[u8], length: &[u8]) -> Vec<u8> {
    let Some((tag, rest)) = right.split_first().filter(|_| right.len() > 2) else { return right.to_vec() };
    // Lengths of a first byte of 81 or 82 are followed by as many bytes.
    let of_length = rest.first().map_or(0, |first| if *first > 0x80 { usize::from(first & 0x7F) } else { 0 });
    [&[*tag], length, rest.get(1 + of_length..).unwrap_or_default()].concat()
}

/// Templates in templates, a hundred of them.
fn nested() -> Vec<u8> {
    let mut data = Vec::new();
    for _ in 0..100 {
        let mut outer = vec![0x70];
        match data.len() {
            // Below 128, and below 256 as a hundred times three bytes end before.
            len @ ..128 => outer.push(len as u8),
            len @ ..256 => outer.extend([0x81, len as u8]),
            len => outer.extend([&[0x82][..], &(len as u16).to_be_bytes()].concat()),
        }
        outer.append(&mut data);
        data = outer;
    }
    data.extend([0x90, 0x00]);
    data
}

/// A file locator that leads astray.
pub(crate) fn locator(kind: Astray) -> Vec<u8> {
    match kind {
        // Entries of files 1 to 30, twice, each with all the records that a file can have.
        Astray::Endless => (0..60).flat_map(|i: u8| [(i % 30 + 1) << 3, 1, 255, 0]).collect(),
        Astray::Nowhere => vec![29 << 3, 7, 7, 0],
    }
}

/// The answer to GET PROCESSING OPTIONS with another file locator: a TLV of template 77, or what follows the profile in
/// template 80.
pub(crate) fn lead_astray(answer: &[u8], kind: Astray) -> Option<Vec<u8>> {
    let mut buf = [0; 1024];
    let mut w = Writer::new(&mut buf);
    let locator = locator(kind);
    if let Ok(plain) = tlv::get(answer, tags::RESPONSE_1) {
        w.tlv(tags::RESPONSE_1, &[plain.get(..2)?, &locator].concat()).ok()?;
    } else {
        let options = tlv::get(answer, tags::RESPONSE_2).ok()?;
        w.nested(tags::RESPONSE_2, |w| {
            tlv::iter(options).try_for_each(|object| {
                let object = object?;
                let value = if object.tag == tags::AFL { &locator } else { object.value };
                w.tlv(object.tag, value)
            })
        })
        .ok()?;
    }
    Some(w.finish().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_as_it_is_written() {
        for entry in CATALOGUE {
            assert_eq!(entry.example.parse::<AnyFault>().unwrap().to_string(), entry.example);
            let name = entry.name.split('=').next().unwrap();
            assert!(entry.example.starts_with(name), "{name}");
        }
        for text in ["slow=250000", "field-lost=3", "field-lost=ppse", "status-words=6283@select"] {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "slow",
            "slow=x",
            "broken=glass",
            "replay=3",
            "field-lost=256",
            "chained=0",
            "error-limit=0",
            "status-words=6985",
            "status-words=69@gpo",
            "afl",
            "expired=1",
            "extended=1",
        ] {
            assert_eq!(text.parse::<AnyFault>(), Err(UnknownFault(text.to_owned())));
        }
    }

    #[test]
    fn a_fault_that_is_written_wrongly_is_told_how_it_is_written() {
        for (text, wanted) in [
            ("glass", "`glass` is no fault; `phone list --faults` lists them"),
            ("slow", "`slow` is no fault; it is written slow=US, as slow="),
            ("expired=1", "`expired=1` is no fault; it is written expired"),
            ("afl=up", "`afl=up` is no fault; it is one of afl=endless, afl=nowhere"),
        ] {
            let said = text.parse::<AnyFault>().unwrap_err().to_string();
            assert!(said.starts_with(wanted), "{said}");
        }
    }

    #[test]
    fn every_kind_of_nonsense_is_in_the_catalogue() {
        for kind in Broken::ALL {
            let name = format!("broken={}", kind.word());
            assert!(CATALOGUE.iter().any(|entry| entry.name == name), "{name}");
        }
        for fault in IssueFault::ALL {
            assert!(CATALOGUE.iter().any(|entry| entry.name == fault.word()), "{}", fault.word());
        }
    }
}
