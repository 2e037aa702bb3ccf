//! Transcripts: what a terminal and a card said in one tap, with the authorities' keys and the day, as JSON.
//!
//! A transcript holds the whole card number. It is written for its owner only, and no error repeats what is in it.

use crate::files;
use crate::keys::{AuthorityKey, KeyError, NO_EXPIRY};
use crate::tap::Tap;
use crate::terminal::Terminal;
use crate::text;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use wavepass_hce::hex;
use wavepass_kernel::Lost;
use wavepass_protocol::lists::Suite;
use wavepass_protocol::sm2::Convention;
use wavepass_protocol::tap::OdaMethod;
use wavepass_protocol::time::Date;

/// The longest file taken, bytes: a tap with the longest certificates has some 10 KB.
const MAX_FILE: u64 = 1 << 20;
/// The most exchanges: eight times as many as the kernel's own.
const MAX_EXCHANGES: usize = 256;
/// The most authority keys.
const MAX_KEYS: usize = 256;
/// The longest command and the longest answer, bytes: extended APDUs.
const MAX_APDU: usize = 65_544;

/// Why a transcript cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TranscriptError {
    /// Reading or writing failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// More bytes than a transcript has.
    #[error("a transcript has at most {MAX_FILE} bytes")]
    TooLong,
    /// Not the JSON of a transcript.
    #[error("no transcript: line {line}, column {column}: {kind}")]
    Json {
        /// The line, from 1.
        line: usize,
        /// The column.
        column: usize,
        /// In what way.
        kind: &'static str,
    },
    /// A field with a value that it cannot have.
    #[error("{place}: {why}")]
    Field {
        /// Which.
        place: String,
        /// What it must be.
        why: String,
    },
    /// A key that cannot be used.
    #[error("ca_keys[{place}]: {why}")]
    Key {
        /// Its place in the list, from 0.
        place: usize,
        /// What is wrong.
        why: KeyError,
    },
}

fn field(place: impl Into<String>, why: impl Into<String>) -> TranscriptError {
    TranscriptError::Field { place: place.into(), why: why.into() }
}

#[derive(Serialize, Deserialize)]
struct Wire {
    ca_keys: Vec<WireKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sm2: Option<WireSm2>,
    date: String,
    exchange: Vec<WireExchange>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lost: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct WireKey {
    rid: String,
    index: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    suite: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modulus: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exponent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<String>,
    /// Not written; lists of keys that gates are told of have it.
    #[serde(skip_serializing)]
    check_value: Option<String>,
}

/// How SM2 cards sign; what is left out is as usual.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct WireSm2 {
    user_id: Option<String>,
    counter_prefix: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct WireExchange {
    c: String,
    r: String,
}

/// One command and its answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Exchange {
    /// The command as it was sent.
    pub command: Vec<u8>,
    /// Data and status word; empty where the card answered nothing.
    pub answer: Vec<u8>,
}

/// A transcript. No `Debug`: it names a rider.
#[derive(Clone, PartialEq, Eq)]
pub struct Transcript {
    /// Whom the terminal trusted.
    pub keys: Vec<AuthorityKey>,
    /// How SM2 cards sign, as the terminal had it; of other cards' taps as usual.
    pub sm2: Convention,
    /// The day of the tap.
    pub date: Date,
    /// What was said, in order.
    pub exchanges: Vec<Exchange>,
    /// Why the card gave no further answer, where the exchange broke off.
    pub lost: Option<Lost>,
}

impl Transcript {
    /// The transcript of a tap. Of the terminal's keys it has those of the application's provider.
    pub fn of(tap: &Tap, terminal: &Terminal, date: Date) -> Self {
        let answered = |e: &crate::tap::Exchanged| {
            Some(Exchange { command: e.command.clone(), answer: e.answer.clone()? })
        };
        let provider = tap.known.aid.get(..5);
        let is_sm2 = tap.verdict.method == Some(OdaMethod::Sm2);
        Self {
            keys: terminal.keys.iter().filter(|key| provider == Some(&key.rid[..])).cloned().collect(),
            sm2: if is_sm2 { terminal.config.sm2 } else { Convention::DEFAULT },
            date,
            exchanges: tap.exchanges.iter().filter_map(answered).collect(),
            lost: tap.lost,
        }
    }

    /// Reads a transcript's file.
    pub fn load(path: &Path) -> Result<Self, TranscriptError> {
        let io = |source| TranscriptError::Io { path: path.to_owned(), source };
        let mut text = Vec::new();
        std::fs::File::open(path).map_err(io)?.take(MAX_FILE + 1).read_to_end(&mut text).map_err(io)?;
        Self::parse(&text)
    }

    /// Reads a transcript's text.
    pub fn parse(text: &[u8]) -> Result<Self, TranscriptError> {
        if text.len() as u64 > MAX_FILE {
            return Err(TranscriptError::TooLong);
        }
        // The parser's own message may quote a value, so only place and kind are kept.
        let wire: Wire = serde_json::from_slice(text).map_err(|e| TranscriptError::Json {
            line: e.line(),
            column: e.column(),
            kind: match e.classify() {
                serde_json::error::Category::Eof => "it ends too early",
                serde_json::error::Category::Data => "not what should stand there",
                _ => "not JSON",
            },
        })?;
        check_keys(text)?;
        wire.read()
    }

    /// The transcript's text.
    pub fn to_json(&self) -> String {
        let wire = Wire {
            ca_keys: self.keys.iter().map(WireKey::of).collect(),
            sm2: (self.sm2 != Convention::DEFAULT).then(|| WireSm2::of(&self.sm2)),
            date: text::show_date(self.date),
            exchange: self
                .exchanges
                .iter()
                .map(|e| WireExchange { c: hex::encode(&e.command), r: hex::encode(&e.answer) })
                .collect(),
            lost: self.lost.map(|lost| lost_word(lost).to_owned()),
        };
        // Only text and lists of it, so nothing can fail.
        let mut text = serde_json::to_string_pretty(&wire).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Checks that [`Transcript::save`] can write there, before there is anything to write.
    pub fn check_place(path: &Path, replace: bool) -> Result<(), TranscriptError> {
        let io = |source| TranscriptError::Io { path: path.to_owned(), source };
        let checked = match std::fs::symlink_metadata(path) {
            Ok(there) if replace && !there.is_file() => Err(not_regular()),
            // The new one stands beside it until it is whole.
            Ok(_) if replace => files::check_writable(&beside(path)),
            Ok(_) => {
                let why = "a file is there already; --force replaces it";
                Err(io::Error::new(io::ErrorKind::AlreadyExists, why))
            }
            Err(_) => files::check_writable(path),
        };
        checked.map_err(io)
    }

    /// Writes a new file that only its owner may read; with `replace` in the place of one that is there, once the new
    /// one is whole. Only a regular file is replaced.
    pub fn save(&self, path: &Path, replace: bool) -> Result<(), TranscriptError> {
        let io = |source| TranscriptError::Io { path: path.to_owned(), source };
        let there = std::fs::symlink_metadata(path).ok().filter(|_| replace);
        let Some(there) = there else { return self.write_new(path).map_err(io) };
        if !there.is_file() {
            return Err(io(not_regular()));
        }
        let beside = beside(path);
        let done = self.write_new(&beside).and_then(|()| std::fs::rename(&beside, path));
        if done.is_err() {
            // What was half written; the error that counts is the first.
            let _ = std::fs::remove_file(&beside);
        }
        done.map_err(io)
    }

    fn write_new(&self, path: &Path) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        file.write_all(self.to_json().as_bytes())?;
        file.sync_all()
    }
}

/// The keys of a transcript, of one of its authority's keys, of how SM2 cards sign, and of an exchange.
const KEYS: [&str; 5] = ["ca_keys", "sm2", "date", "exchange", "lost"];
const CA_KEYS: [&str; 8] = ["rid", "index", "suite", "modulus", "exponent", "x", "y", "check_value"];
const SM2: [&str; 2] = ["user_id", "counter_prefix"];
const EXCHANGE: [&str; 2] = ["c", "r"];

/// Refuses a key that a transcript does not have: what was meant by it would be passed over in silence.
fn check_keys(text: &[u8]) -> Result<(), TranscriptError> {
    // It has been read as a transcript, so that nothing of it is malformed.
    let whole: Value = serde_json::from_slice(text).unwrap_or_default();
    only(&whole, "", &KEYS)?;
    only(&whole["sm2"], "sm2.", &SM2)?;
    for (list, known) in [("ca_keys", &CA_KEYS[..]), ("exchange", &EXCHANGE)] {
        for (i, one) in whole[list].as_array().into_iter().flatten().enumerate() {
            only(one, &format!("{list}[{i}]."), known)?;
        }
    }
    Ok(())
}

fn only(object: &Value, place: &str, known: &[&str]) -> Result<(), TranscriptError> {
    let mut keys = object.as_object().into_iter().flat_map(|object| object.keys());
    match keys.find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            // A name is told, but nothing that may be a card's number or its data.
            let word =
                key.len() <= 32 && key.bytes().all(|b| b.is_ascii_alphabetic() || matches!(b, b'_' | b'-'));
            let key = if word { key } else { "…" };
            Err(field(format!("{place}{key}"), format!("no such key; there are {}", known.join(", "))))
        }
    }
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file; it stays")
}

/// Where a file stands until it takes the place of another.
fn beside(path: &Path) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    beside.into()
}

const LOST: [(Lost, &str); 4] = [
    (Lost::Removed, "removed"),
    (Lost::SeveralCards, "several_cards"),
    (Lost::Protocol, "protocol"),
    (Lost::Timeout, "timeout"),
];

fn lost_word(lost: Lost) -> &'static str {
    LOST.iter().find(|(known, _)| *known == lost).map_or("removed", |(_, word)| word)
}

impl Wire {
    fn read(self) -> Result<Transcript, TranscriptError> {
        let too_many = |name: &str, most: usize| Err(field(name, format!("at most {most}")));
        if self.exchange.len() > MAX_EXCHANGES {
            return too_many("exchange", MAX_EXCHANGES);
        }
        if self.exchange.is_empty() {
            return Err(field("exchange", "nothing was exchanged"));
        }
        if self.ca_keys.len() > MAX_KEYS {
            return too_many("ca_keys", MAX_KEYS);
        }
        let keys = self.ca_keys.iter().enumerate().map(|(i, key)| key.read(i)).collect::<Result<_, _>>()?;
        let sm2 = self.sm2.unwrap_or_default().read()?;
        let date =
            text::date(&self.date).ok_or_else(|| field("date", "a date YYYY-MM-DD of this century"))?;
        let apdu = |i: usize, name: &str, text: &str| {
            let place = format!("exchange[{i}].{name}");
            let bytes = hex::decode(text).map_err(|e| field(place.clone(), e.to_string()))?;
            if bytes.len() > MAX_APDU {
                return Err(field(place, format!("at most {MAX_APDU} bytes")));
            }
            Ok(bytes)
        };
        let exchanges = self.exchange.iter().enumerate().map(|(i, e)| {
            let (command, answer) = (apdu(i, "c", &e.c)?, apdu(i, "r", &e.r)?);
            if command.len() < 4 {
                return Err(field(format!("exchange[{i}].c"), "a command has at least 4 bytes"));
            }
            Ok(Exchange { command, answer })
        });
        let exchanges = exchanges.collect::<Result<_, _>>()?;
        let lost = match &self.lost {
            None => None,
            Some(text) => {
                let known = LOST.iter().find(|(_, word)| word == text);
                Some(known.ok_or_else(|| field("lost", "removed, several_cards, protocol or timeout"))?.0)
            }
        };
        Ok(Transcript { keys, sm2, date, exchanges, lost })
    }
}

impl WireSm2 {
    fn of(convention: &Convention) -> Self {
        Self {
            user_id: Some(convention.user_id().to_owned()),
            counter_prefix: Some(hex::encode(convention.counter_prefix())),
        }
    }

    fn read(&self) -> Result<Convention, TranscriptError> {
        let prefix = self.counter_prefix.as_deref().map(hex::decode).transpose();
        let prefix = prefix.map_err(|e| field("sm2.counter_prefix", e.to_string()))?;
        text::convention(self.user_id.as_deref(), prefix.as_deref()).map_err(|e| field("sm2", e.to_string()))
    }
}

impl WireKey {
    fn of(key: &AuthorityKey) -> Self {
        let half = key.key.len() / 2;
        let hex = |bytes: &[u8]| Some(hex::encode(bytes));
        let common =
            Self { rid: hex::encode(&key.rid), index: format!("{:02X}", key.index), ..Self::default() };
        match key.suite {
            Suite::Rsa => Self { modulus: hex(&key.key), exponent: hex(&key.exponent), ..common },
            Suite::P256 => Self { suite: Some("10".to_owned()), x: hex(&key.key), ..common },
            Suite::Sm2 => Self {
                suite: Some("sm2".to_owned()),
                x: hex(&key.key[..half]),
                y: hex(&key.key[half..]),
                ..common
            },
        }
    }

    fn read(&self, place: usize) -> Result<AuthorityKey, TranscriptError> {
        let at = |name: &str| format!("ca_keys[{place}].{name}");
        let bytes = |name: &str, text: &str| hex::decode(text).map_err(|e| field(at(name), e.to_string()));
        let need = |name: &str, text: &Option<String>| match text {
            Some(text) => bytes(name, text),
            None => Err(field(at(name), "is missing")),
        };
        let suite = match &self.suite {
            None => Suite::Rsa,
            Some(word) => text::suite(word)
                .ok_or_else(|| field(at("suite"), "\"10\" (P-256), \"sm2\", or none for RSA"))?,
        };
        let (key, exponent) = match suite {
            Suite::Rsa => {
                let mut exponent = need("exponent", &self.exponent)?;
                // Some write it with leading zeros.
                let zeros = exponent.iter().take_while(|&&b| b == 0).count();
                exponent.drain(..zeros);
                (need("modulus", &self.modulus)?, exponent)
            }
            Suite::P256 => (need("x", &self.x)?, Vec::new()),
            Suite::Sm2 => ([need("x", &self.x)?, need("y", &self.y)?].concat(), Vec::new()),
        };
        let rid = bytes("rid", &self.rid)?;
        let index = bytes("index", &self.index)?;
        let key = AuthorityKey {
            rid: rid.try_into().map_err(|_| field(at("rid"), "five bytes"))?,
            index: *index
                .first()
                .filter(|_| index.len() == 1)
                .ok_or_else(|| field(at("index"), "one byte"))?,
            suite,
            expiry: NO_EXPIRY,
            key,
            exponent,
        };
        let checked = match &self.check_value {
            None => key.check(),
            Some(text) => {
                let stated = bytes("check_value", text)?;
                let stated = stated.try_into().map_err(|_| field(at("check_value"), "20 bytes"))?;
                key.verify(Some(stated))
            }
        };
        checked.map_err(|why| TranscriptError::Key { place, why })?;
        Ok(key)
    }
}
