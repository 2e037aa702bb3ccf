//! The terminal that the rig plays, from its file: what it accepts, what it says of itself, whose keys it trusts.

use crate::keys::{AuthorityKey, KeyError, NO_EXPIRY};
use crate::relay::MAX_CLAIM_US;
use crate::text::{self, Hex};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use wavepass_kernel::{Asked, Config, ConfigError, Environment, Passback};
use wavepass_protocol::lists::{
    Application, CaKey, GateConfig, RelayLimits, Revocation, Suite, TAP_LIMIT_MS,
};
use wavepass_protocol::sm2::Convention;
use wavepass_protocol::time::UnixMs;
use wavepass_protocol::token::{Expiry, Token};

/// The terminal that is used where no file is given.
pub const BUILTIN: &str = include_str!("../terminal.toml");
/// The formats of signed dynamic data that there are; each application says which of them it accepts.
pub(crate) const FORMATS: [u8; 2] = [0x05, 0x95];
/// The longest file taken, bytes: hundreds of keys.
const MAX_FILE: u64 = 1 << 20;

/// Why a terminal's file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TerminalError {
    /// Reading failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// More bytes than such a file has.
    #[error("a terminal's file has at most {MAX_FILE} bytes")]
    TooLong,
    /// Not the TOML of a terminal; the message names line and column.
    #[error("{0}")]
    Toml(#[from] toml::de::Error),
    /// A field with a value that it cannot have.
    #[error("{place}: {why}")]
    Field {
        /// Which.
        place: String,
        /// What it must be.
        why: String,
    },
    /// A key that cannot be used.
    #[error("ca_key {place} ({key}): {why}")]
    Key {
        /// Its place in the list, from 1.
        place: usize,
        /// Provider and index.
        key: String,
        /// What is wrong.
        why: KeyError,
    },
    /// The kernel does not take it.
    #[error("{0}")]
    Config(#[from] ConfigError),
}

fn field(place: impl Into<String>, why: impl Into<String>) -> TerminalError {
    TerminalError::Field { place: place.into(), why: why.into() }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    network: String,
    #[serde(default)]
    operator: u16,
    utc_offset_min: i16,
    #[serde(default)]
    amount_fen: u64,
    currency: String,
    country: String,
    tap_limit_ms: u32,
    #[serde(default)]
    relay: Option<RelayEntry>,
    #[serde(default)]
    sm2: Sm2Entry,
    application: Vec<ApplicationEntry>,
    #[serde(default)]
    ca_key: Vec<KeyEntry>,
    #[serde(default)]
    revoked: Vec<RevokedEntry>,
    #[serde(default)]
    denied: Vec<DeniedEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RelayEntry {
    overhead_us: u32,
    grace_us: u32,
    cap_us: u32,
}

/// How SM2 cards sign; what is left out is as usual.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sm2Entry {
    user_id: Option<String>,
    counter_prefix: Option<Hex>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ApplicationEntry {
    aid: Hex,
    #[serde(default)]
    partial: bool,
    suite: String,
    ttq: Hex,
    #[serde(default)]
    preference: u8,
    #[serde(default)]
    formats: Vec<Hex>,
    #[serde(default)]
    domain_required: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    rid: Hex,
    index: Hex,
    #[serde(default)]
    suite: Option<String>,
    #[serde(default)]
    modulus: Option<Hex>,
    #[serde(default)]
    exponent: Option<Hex>,
    #[serde(default)]
    x: Option<Hex>,
    #[serde(default)]
    y: Option<Hex>,
    #[serde(default)]
    check_value: Option<Hex>,
    #[serde(default)]
    expires: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokedEntry {
    rid: Hex,
    index: Hex,
    serial: Hex,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeniedEntry {
    token: String,
    #[serde(default)]
    expiry: Option<String>,
}

/// A terminal: the kernel's configuration, and all that it asks of its gate.
#[derive(Clone)]
pub struct Terminal {
    /// What the kernel is told.
    pub config: Config,
    /// Civil time, minutes east of UTC.
    pub utc_offset_min: i16,
    /// Whom it trusts.
    pub keys: Vec<AuthorityKey>,
    /// Issuer certificates that are no longer good.
    pub revoked: Vec<Revocation>,
    /// Tokens to refuse; without an expiry whatever theirs is.
    pub denied: Vec<(Token, Option<Expiry>)>,
    /// What the terminal remembers of the card's last tap.
    pub passback: Passback,
    /// True if the deny list counts as too old.
    pub list_stale: bool,
}

impl Terminal {
    /// The terminal that comes with the rig; it trusts nobody yet.
    pub fn builtin() -> Result<Self, TerminalError> {
        Self::parse(BUILTIN)
    }

    /// Reads a terminal's file.
    pub fn load(path: &Path) -> Result<Self, TerminalError> {
        Self::parse(&read(path)?)
    }

    /// Reads a terminal's text.
    pub fn parse(text: &str) -> Result<Self, TerminalError> {
        let file: File = toml::from_str(text)?;
        let network = <[u8; 4]>::try_from(file.network.as_bytes())
            .map_err(|_| field("network", "four ASCII characters"))?;
        let number = |name: &str, standard: &str, text: &str| {
            let form = format!("the three digits of a number of {standard}, as \"156\" or \"0156\"");
            code(text).ok_or_else(|| field(name, form))
        };
        if !(-840..=840).contains(&file.utc_offset_min) {
            return Err(field("utc_offset_min", "from -840 to 840"));
        }
        if !TAP_LIMIT_MS.contains(&file.tap_limit_ms) {
            let (least, most) = (TAP_LIMIT_MS.start(), TAP_LIMIT_MS.end());
            return Err(field("tap_limit_ms", format!("from {least} to {most}, as at a gate")));
        }
        let relay = file.relay.as_ref().map(|relay| relay.read(file.tap_limit_ms)).transpose()?;
        let mut applications = heapless::Vec::new();
        for (i, entry) in file.application.iter().enumerate() {
            let application = entry.read(&format!("application {}", i + 1))?;
            applications.push(application).map_err(|_| field("application", "at most 8"))?;
        }
        let gate = GateConfig {
            utc_offset_min: file.utc_offset_min,
            amount_fen: file.amount_fen,
            currency: number("currency", "ISO 4217", &file.currency)?,
            country: number("country", "ISO 3166", &file.country)?,
            passback_ms: 0,
            tap_limit_ms: file.tap_limit_ms,
            list_max_age_ms: 0,
            stale_opens: false,
            applications,
            relay,
        };
        let keys =
            file.ca_key.iter().enumerate().map(|(i, entry)| entry.read(i + 1)).collect::<Result<_, _>>()?;
        let revoked =
            file.revoked.iter().enumerate().map(|(i, entry)| entry.read(i + 1)).collect::<Result<_, _>>()?;
        let denied =
            file.denied.iter().enumerate().map(|(i, entry)| entry.read(i + 1)).collect::<Result<_, _>>()?;
        let mut config = Config::new(&gate, network, file.operator)?;
        config.sm2 = file.sm2.read()?;
        Ok(Self {
            config,
            utc_offset_min: file.utc_offset_min,
            keys,
            revoked,
            denied,
            passback: Passback::Clear,
            list_stale: false,
        })
    }

    /// The key of this kind with this provider and index.
    pub fn key(&self, rid: &[u8; 5], index: u8, suite: Suite) -> Option<&AuthorityKey> {
        self.keys.iter().find(|key| key.rid == *rid && key.index == index && key.suite == suite)
    }
}

fn read(path: &Path) -> Result<String, TerminalError> {
    use std::io::Read;
    let io = |source| TerminalError::Io { path: path.to_owned(), source };
    let mut text = String::new();
    std::fs::File::open(path).map_err(io)?.take(MAX_FILE + 1).read_to_string(&mut text).map_err(io)?;
    if text.len() as u64 > MAX_FILE { Err(TerminalError::TooLong) } else { Ok(text) }
}

impl Sm2Entry {
    fn read(&self) -> Result<Convention, TerminalError> {
        let prefix = self.counter_prefix.as_ref().map(|hex| hex.0.as_slice());
        text::convention(self.user_id.as_deref(), prefix).map_err(|e| field("sm2", e.to_string()))
    }
}

/// A number of ISO 4217 or 3166 as packed decimal, with a leading zero or without.
fn code(text: &str) -> Option<u16> {
    let digits = text.strip_prefix('0').filter(|rest| rest.len() == 3).unwrap_or(text);
    let number = digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit());
    number.then(|| u16::from_str_radix(digits, 16).ok()).flatten().filter(|code| *code != 0)
}

impl RelayEntry {
    /// Limits that can be of use beside the limit of the whole tap.
    fn read(&self, tap_limit_ms: u32) -> Result<RelayLimits, TerminalError> {
        let &Self { overhead_us, grace_us, cap_us } = self;
        if cap_us > MAX_CLAIM_US {
            let why = format!("at most {MAX_CLAIM_US}, for a card cannot claim more; 0: cards are not timed");
            return Err(field("relay: cap_us", why));
        }
        let longest_us = [overhead_us, grace_us, cap_us].map(u64::from).iter().sum::<u64>();
        if cap_us > 0 && longest_us > u64::from(tap_limit_ms) * 1000 {
            let why =
                format!("a timed exchange may take {longest_us} µs, but a whole tap only {tap_limit_ms} ms");
            return Err(field("relay", why));
        }
        Ok(RelayLimits { overhead_us, grace_us, cap_us })
    }
}

impl ApplicationEntry {
    fn read(&self, place: &str) -> Result<Application, TerminalError> {
        let formats = self.formats.iter().map(|f| match f.0[..] {
            [format] if FORMATS.contains(&format) => Ok(format),
            [format] => {
                let why = format!("{format:02X} is no format of signed data; there are 05 and 95");
                Err(field(format!("{place}: formats"), why))
            }
            _ => Err(field(format!("{place}: formats"), "one byte each, as \"05\"")),
        });
        let formats = formats.collect::<Result<Vec<_>, _>>()?;
        Ok(Application {
            aid: heapless::Vec::from_slice(&self.aid.0)
                .map_err(|_| field(format!("{place}: aid"), "5 to 16 bytes"))?,
            partial: self.partial,
            suite: suite(&self.suite, place)?,
            ttq: self.ttq.array().ok_or_else(|| field(format!("{place}: ttq"), "four bytes"))?,
            preference: self.preference,
            formats: heapless::Vec::from_slice(&formats)
                .map_err(|_| field(format!("{place}: formats"), "at most 4"))?,
            domain_required: self.domain_required,
        })
    }
}

fn suite(word: &str, place: &str) -> Result<Suite, TerminalError> {
    text::suite(word).ok_or_else(|| field(format!("{place}: suite"), "\"rsa\", \"p256\" or \"sm2\""))
}

impl KeyEntry {
    fn read(&self, place: usize) -> Result<AuthorityKey, TerminalError> {
        let at = format!("ca_key {place}");
        let need = |name: &str, value: &Option<Hex>| {
            value.as_ref().map(|v| v.0.clone()).ok_or_else(|| field(&at, format!("`{name}` is missing")))
        };
        let suite = self.suite.as_deref().map_or(Ok(Suite::Rsa), |word| suite(word, &at))?;
        let (key, exponent) = match suite {
            Suite::Rsa => (need("modulus", &self.modulus)?, need("exponent", &self.exponent)?),
            Suite::P256 => (need("x", &self.x)?, Vec::new()),
            Suite::Sm2 => ([need("x", &self.x)?, need("y", &self.y)?].concat(), Vec::new()),
        };
        let expiry = match &self.expires {
            None => NO_EXPIRY,
            Some(text) => text::date(text)
                .ok_or_else(|| field(format!("{at}: expires"), "a date YYYY-MM-DD of this century"))?
                .to_yyyymmdd(),
        };
        let key = AuthorityKey {
            rid: self.rid.array().ok_or_else(|| field(format!("{at}: rid"), "five bytes"))?,
            index: one(&self.index).ok_or_else(|| field(format!("{at}: index"), "one byte, as \"08\""))?,
            suite,
            expiry,
            key,
            exponent,
        };
        let stated = match &self.check_value {
            None => None,
            Some(value) => {
                Some(value.array().ok_or_else(|| field(format!("{at}: check_value"), "20 bytes"))?)
            }
        };
        key.verify(stated).map_err(|why| TerminalError::Key { place, key: key.to_string(), why })?;
        Ok(key)
    }
}

fn one(hex: &Hex) -> Option<u8> {
    hex.array().map(|[byte]| byte)
}

impl RevokedEntry {
    fn read(&self, place: usize) -> Result<Revocation, TerminalError> {
        let at = |name: &str| format!("revoked {place}: {name}");
        Ok(Revocation {
            rid: self.rid.array().ok_or_else(|| field(at("rid"), "five bytes"))?,
            index: one(&self.index).ok_or_else(|| field(at("index"), "one byte"))?,
            serial: self.serial.array().ok_or_else(|| field(at("serial"), "three bytes"))?,
        })
    }
}

impl DeniedEntry {
    fn read(&self, place: usize) -> Result<(Token, Option<Expiry>), TerminalError> {
        let at = |name: &str| format!("denied {place}: {name}");
        let token = Token::from_digits(&self.token).map_err(|e| field(at("token"), e.to_string()))?;
        let expiry = match &self.expiry {
            None => None,
            Some(text) => Some(
                wavepass_hce::hex::decode(text)
                    .ok()
                    .and_then(|bytes| Expiry::from_yymm(bytes.try_into().ok()?).ok())
                    .ok_or_else(|| field(at("expiry"), "a month YYMM"))?,
            ),
        };
        Ok((token, expiry))
    }
}

impl Environment for Terminal {
    fn ca_key(&self, rid: &[u8; 5], index: u8, suite: Suite) -> Option<CaKey<'_>> {
        self.key(rid, index, suite).map(AuthorityKey::as_ca_key)
    }

    fn is_revoked(&self, issuer: &Revocation) -> bool {
        self.revoked.contains(issuer)
    }

    fn denied(&self, asked: &Asked) -> Option<bool> {
        let listed = |(token, expiry): &(Token, Option<Expiry>)| {
            *token == asked.token && (expiry.is_none() || asked.expiry.is_none() || *expiry == asked.expiry)
        };
        Some(self.denied.iter().any(listed))
    }

    fn passback(&self, _: &Token, _: UnixMs) -> Passback {
        self.passback
    }

    fn list_stale(&self, _: UnixMs) -> bool {
        self.list_stale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Terminal::parse(text).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_terminal_that_comes_with_the_rig_is_sound() {
        let terminal = Terminal::builtin().unwrap();
        assert_eq!(terminal.config.applications.len(), 6);
        assert_eq!(terminal.config.currency, 0x0156);
        assert!(terminal.keys.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let unknown = BUILTIN.replace("utc_offset_min", "utc_offset");
        assert!(error(&unknown).contains("line 8"), "{}", error(&unknown));
        let ttq = BUILTIN.replacen("21800080\"\nformats", "218000\"\nformats", 1);
        assert_eq!(error(&ttq), "application 2: ttq: four bytes");
        for (key, value, wanted) in [
            (
                "currency",
                "\"ABCD\"",
                "currency: the three digits of a number of ISO 4217, as \"156\" or \"0156\"",
            ),
            (
                "currency",
                "\"1560\"",
                "currency: the three digits of a number of ISO 4217, as \"156\" or \"0156\"",
            ),
            (
                "country",
                "\"0000\"",
                "country: the three digits of a number of ISO 3166, as \"156\" or \"0156\"",
            ),
            ("tap_limit_ms", "0", "tap_limit_ms: from 100 to 5000, as at a gate"),
            ("tap_limit_ms", "60000", "tap_limit_ms: from 100 to 5000, as at a gate"),
        ] {
            let line = BUILTIN.lines().find(|line| line.starts_with(key)).unwrap();
            assert_eq!(error(&BUILTIN.replacen(line, &format!("{key} = {value}"), 1)), wanted);
        }
        let first = BUILTIN.replacen("suite = \"rsa\"\nttq = \"2180", "suite = \"rsa\"\nttq = \"2100", 1);
        let first = first.replacen("21000080", "21800000", 1);
        assert_eq!(error(&first), "application 2: the TTQ do not announce fDDA version 01");
        let format = BUILTIN.replacen("formats = [\"05\", \"95\"]", "formats = [\"05\", \"07\"]", 1);
        assert_eq!(
            error(&format),
            "application 2: formats: 07 is no format of signed data; there are 05 and 95"
        );
        let key = "\n[[ca_key]]\nrid = \"A000000333\"\nindex = \"08\"\nexponent = \"03\"\n";
        assert_eq!(error(&format!("{BUILTIN}{key}")), "ca_key 1: `modulus` is missing");
        let modulus = format!("modulus = \"{}\"\n", "FF".repeat(144));
        let wrong = error(&format!("{BUILTIN}{key}{modulus}"));
        assert!(wrong.starts_with("ca_key 1 (A000000333 08): the check value is EE23B616"), "{wrong}");
    }

    #[test]
    fn how_sm2_cards_sign_is_the_terminal_s_to_say() {
        assert_eq!(Terminal::builtin().unwrap().config.sm2, Convention::DEFAULT);
        let with = |line: &str| format!("{BUILTIN}\n[sm2]\n{line}\n");
        let terminal = Terminal::parse(&with("user_id = \"ALICE\"")).unwrap();
        assert_eq!(terminal.config.sm2, Convention::new("ALICE", &[2]).unwrap());
        let terminal = Terminal::parse(&with("counter_prefix = \"\"")).unwrap();
        assert_eq!(terminal.config.sm2, Convention::new("1234567812345678", &[]).unwrap());
        let long = error(&with(&format!("user_id = \"{}\"", "x".repeat(33))));
        assert_eq!(long, "sm2: a signer's identifier has at most 32 bytes, not 33");
    }

    #[test]
    fn relay_limits_make_sense_beside_the_tap_s_or_are_refused() {
        let with = |relay: &str| {
            BUILTIN.replacen("[[application]]", &format!("relay = {relay}\n[[application]]"), 1)
        };
        let good = Terminal::parse(&with("{ overhead_us = 2000, grace_us = 300, cap_us = 10000 }")).unwrap();
        assert_eq!(good.config.relay.map(|limits| limits.cap_us), Some(10_000));
        let off = Terminal::parse(&with("{ overhead_us = 2000, grace_us = 300, cap_us = 0 }")).unwrap();
        assert_eq!(off.config.relay, None, "a cap of 0: not timed, as at a gate");
        assert_eq!(
            error(&with("{ overhead_us = 2000, grace_us = 300, cap_us = 13107001 }")),
            "relay: cap_us: at most 13107000, for a card cannot claim more; 0: cards are not timed"
        );
        assert_eq!(
            error(&with("{ overhead_us = 1990000, grace_us = 1, cap_us = 10000 }")),
            "relay: a timed exchange may take 2000001 µs, but a whole tap only 2000 ms"
        );
    }

    #[test]
    fn a_number_of_a_currency_has_three_digits() {
        assert_eq!(["156", "0156", "978"].map(code), [Some(0x0156), Some(0x0156), Some(0x0978)]);
        assert_eq!(["56", "00156", "1156", "15a", "", "000", "0000"].map(code), [None; 7]);
    }

    #[test]
    fn a_denied_token_is_asked_for_with_its_expiry() {
        let text = format!("{BUILTIN}\n[[denied]]\ntoken = \"6299000000000001\"\nexpiry = \"2911\"\n");
        let terminal = Terminal::parse(&text).unwrap();
        let token = Token::from_digits("6299000000000001").unwrap();
        let asked = |expiry| Asked { token, expiry };
        let month = |year| Some(Expiry::new(year, 11).unwrap());
        assert_eq!(terminal.denied(&asked(month(29))), Some(true));
        assert_eq!(terminal.denied(&asked(month(30))), Some(false));
        assert_eq!(terminal.denied(&asked(None)), Some(true));
    }
}
