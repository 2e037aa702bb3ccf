//! How gates work, as an operator writes it: TOML, in the units people use.
//!
//! [`parse`] takes what gates take and nothing else; [`ConfigFile`] writes what [`parse`] reads.

mod values;

use super::ListsError;
use super::file::{FileError, Source};
use super::registry::check_config;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use toml::Spanned;
use values::{aid, array, code, milliseconds, offset, offset_text, short, tap_limit, time_text};
use wavepass_hce::hex;
use wavepass_kernel::ConfigError;
use wavepass_protocol::lists::{Application, GateConfig, RelayLimits, Suite};

/// The largest authorisation amount: 9F02 has 12 digits.
const MAX_AMOUNT_FEN: u64 = 999_999_999_999;

/// A configuration, as its file has it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    utc_offset: Spanned<String>,
    amount_fen: Spanned<u64>,
    currency: Spanned<String>,
    country: Spanned<String>,
    passback: Spanned<String>,
    tap_limit: Spanned<String>,
    deny_list: DenyListEntry,
    #[serde(skip_serializing_if = "Option::is_none")]
    relay: Option<RelayEntry>,
    application: Spanned<Vec<ApplicationEntry>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DenyListEntry {
    max_age: Spanned<String>,
    when_stale: WhenStale,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WhenStale {
    Refuse,
    Open,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RelayEntry {
    overhead_us: u32,
    grace_us: u32,
    cap_us: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApplicationEntry {
    aid: Spanned<String>,
    #[serde(default)]
    partial: bool,
    suites: Spanned<Vec<SuiteWord>>,
    ttq: Spanned<String>,
    #[serde(default)]
    preference: u8,
    #[serde(default = "no_formats", skip_serializing_if = "is_empty")]
    formats: Spanned<Vec<String>>,
    domain_required: bool,
}

fn no_formats() -> Spanned<Vec<String>> {
    placed(Vec::new())
}

fn is_empty(formats: &Spanned<Vec<String>>) -> bool {
    formats.get_ref().is_empty()
}

/// A suite, as files and commands name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SuiteWord {
    P256,
    Rsa,
    Sm2,
}

impl From<SuiteWord> for Suite {
    fn from(word: SuiteWord) -> Self {
        match word {
            SuiteWord::P256 => Self::P256,
            SuiteWord::Rsa => Self::Rsa,
            SuiteWord::Sm2 => Self::Sm2,
        }
    }
}

impl From<Suite> for SuiteWord {
    fn from(suite: Suite) -> Self {
        match suite {
            Suite::P256 => Self::P256,
            Suite::Rsa => Self::Rsa,
            Suite::Sm2 => Self::Sm2,
        }
    }
}

/// A value that is written, not read: it has no place.
fn placed<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

/// Reads a configuration and checks it as a gate does. `name` is the file's, for what is wrong.
pub fn parse(name: &str, text: &str) -> Result<GateConfig, FileError> {
    let source = Source { name, text };
    let file: ConfigFile = source.toml()?;
    let mut applications = heapless::Vec::new();
    let mut entries = Vec::new();
    for entry in file.application.get_ref() {
        for application in entry.applications(&source)? {
            let again =
                |other: &Application| (&other.aid, other.suite) == (&application.aid, application.suite);
            if applications.iter().any(again) {
                return Err(
                    source.error(Some(entry.aid.span()), "this AID is there already, with this suite")
                );
            }
            let most = applications.capacity();
            applications.push(application).map_err(|_| {
                let why = format!("at most {most} applications; one with two suites counts twice");
                source.error(Some(entry.aid.span()), why)
            })?;
            entries.push(entry);
        }
    }
    if applications.is_empty() {
        return Err(source.error(Some(file.application.span()), "at least one application"));
    }
    let amount_fen = *file.amount_fen.get_ref();
    if amount_fen > MAX_AMOUNT_FEN {
        let why = format!("amount_fen: at most {MAX_AMOUNT_FEN}");
        return Err(source.error(Some(file.amount_fen.span()), why));
    }
    let config = GateConfig {
        utc_offset_min: source.read(
            &file.utc_offset,
            offset,
            "utc_offset: from -14:00 to +14:00, as \"+08:00\"",
        )?,
        amount_fen,
        currency: source.read(&file.currency, code, "currency: its ISO 4217 number, as \"0156\"")?,
        country: source.read(&file.country, code, "country: its ISO 3166 number, as \"0156\"")?,
        passback_ms: source.read(
            &file.passback,
            short,
            "passback: a time such as \"5m\", at most 49 days",
        )?,
        tap_limit_ms: source.read(
            &file.tap_limit,
            tap_limit,
            "tap_limit: a time from \"100ms\" to \"5s\"",
        )?,
        list_max_age_ms: source.read(
            &file.deny_list.max_age,
            milliseconds,
            "deny_list.max_age: a time such as \"72h\"; \"0s\": a list is never too old",
        )?,
        stale_opens: file.deny_list.when_stale == WhenStale::Open,
        applications,
        relay: file.relay.map(|relay| RelayLimits {
            overhead_us: relay.overhead_us,
            grace_us: relay.grace_us,
            cap_us: relay.cap_us,
        }),
    };
    check_config(&config).map_err(|why| {
        let (span, why) = blamed(&why, &entries);
        source.error(span, why)
    })?;
    Ok(config)
}

impl Source<'_> {
    /// A value in a form of its own; `form` says in which.
    fn read<T>(
        &self,
        text: &Spanned<String>,
        read: impl FnOnce(&str) -> Option<T>,
        form: &str,
    ) -> Result<T, FileError> {
        read(text.get_ref()).ok_or_else(|| self.error(Some(text.span()), form))
    }
}

/// What of the file the gate's check does not take, and why.
fn blamed(why: &ListsError, entries: &[&ApplicationEntry]) -> (Option<Range<usize>>, String) {
    let entry = |place: &usize| entries.get(*place).copied();
    match why {
        ListsError::Config(ConfigError::Ttq(place)) => (
            entry(place).map(|entry| entry.ttq.span()),
            "ttq: RSA and SM2 need fDDA version 01: bit 8 of the last byte".into(),
        ),
        ListsError::Config(ConfigError::Formats(place)) => (
            entry(place).map(|entry| entry.suites.span()),
            "formats: RSA needs those of signed data that are accepted, as [\"05\", \"95\"]".into(),
        ),
        other => (None, other.to_string()),
    }
}

impl ApplicationEntry {
    /// The entry as gates have it: one for each suite.
    fn applications(&self, source: &Source<'_>) -> Result<Vec<Application>, FileError> {
        let suites: Vec<Suite> = self.suites.get_ref().iter().map(|word| Suite::from(*word)).collect();
        if !matches!(suites[..], [_] | [Suite::Rsa, Suite::Sm2] | [Suite::Sm2, Suite::Rsa]) {
            let why = "suites: one of \"p256\", \"rsa\" and \"sm2\", or \"rsa\" and \"sm2\"";
            return Err(source.error(Some(self.suites.span()), why));
        }
        let formats = self.formats.get_ref().iter().map(|format| array(format).map(|[byte]| byte));
        let formats: Option<Vec<u8>> = formats.collect();
        let formats =
            formats.and_then(|formats| heapless::Vec::from_slice(&formats).ok()).ok_or_else(|| {
                source.error(Some(self.formats.span()), "formats: at most 4, of one byte each, as \"05\"")
            })?;
        if !formats.is_empty() && !suites.contains(&Suite::Rsa) {
            return Err(source.error(Some(self.formats.span()), "formats: RSA's only"));
        }
        let aid = source.read(&self.aid, aid, "aid: 5 to 16 bytes, hexadecimal")?;
        let ttq = source.read(&self.ttq, array, "ttq: four bytes, hexadecimal")?;
        let application = |suite| Application {
            aid: aid.clone(),
            partial: self.partial,
            suite,
            ttq,
            preference: self.preference,
            formats: if suite == Suite::Rsa { formats.clone() } else { heapless::Vec::new() },
            domain_required: self.domain_required,
        };
        Ok(suites.into_iter().map(application).collect())
    }
}

impl ConfigFile {
    /// The file of a configuration.
    pub fn of(config: &GateConfig) -> Self {
        let mut entries: Vec<ApplicationEntry> = Vec::new();
        for application in &config.applications {
            let entry = ApplicationEntry::of(application);
            match entries.last_mut() {
                Some(last) if last.pairs_with(&entry) => last.join(entry),
                _ => entries.push(entry),
            }
        }
        Self {
            utc_offset: placed(offset_text(config.utc_offset_min)),
            amount_fen: placed(config.amount_fen),
            currency: placed(format!("{:04X}", config.currency)),
            country: placed(format!("{:04X}", config.country)),
            passback: placed(time_text(config.passback_ms.into())),
            tap_limit: placed(time_text(config.tap_limit_ms.into())),
            deny_list: DenyListEntry {
                max_age: placed(time_text(config.list_max_age_ms)),
                when_stale: if config.stale_opens { WhenStale::Open } else { WhenStale::Refuse },
            },
            relay: config.relay.map(|limits| RelayEntry {
                overhead_us: limits.overhead_us,
                grace_us: limits.grace_us,
                cap_us: limits.cap_us,
            }),
            application: placed(entries),
        }
    }

    /// How many applications it has.
    pub fn applications(&self) -> usize {
        self.application.get_ref().len()
    }

    /// Its text.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

impl ApplicationEntry {
    fn of(application: &Application) -> Self {
        // Of other suites the kernel does not read them.
        let formats: &[u8] = if application.suite == Suite::Rsa { &application.formats } else { &[] };
        Self {
            aid: placed(hex::encode(&application.aid)),
            partial: application.partial,
            suites: placed(vec![application.suite.into()]),
            ttq: placed(hex::encode(&application.ttq)),
            preference: application.preference,
            formats: placed(formats.iter().map(|format| hex::encode(&[*format])).collect()),
            domain_required: application.domain_required,
        }
    }

    /// True if the two are one application with RSA and SM2.
    fn pairs_with(&self, other: &Self) -> bool {
        let same = |entry: &Self| {
            let (aid, ttq) = (entry.aid.get_ref().clone(), entry.ttq.get_ref().clone());
            (aid, ttq, entry.partial, entry.preference, entry.domain_required)
        };
        let suites = [&self.suites.get_ref()[..], other.suites.get_ref()].concat();
        let two = matches!(suites[..], [SuiteWord::Rsa, SuiteWord::Sm2] | [SuiteWord::Sm2, SuiteWord::Rsa]);
        two && same(self) == same(other)
    }

    fn join(&mut self, other: Self) {
        self.suites.get_mut().extend(other.suites.into_inner());
        self.formats.get_mut().extend(other.formats.into_inner());
    }
}

/// What differs between two configurations, by the names that the file has for it.
pub fn differences(old: &GateConfig, new: &GateConfig) -> Vec<&'static str> {
    let list = |config: &GateConfig| (config.list_max_age_ms, config.stale_opens);
    [
        ("utc_offset", old.utc_offset_min != new.utc_offset_min),
        ("amount_fen", old.amount_fen != new.amount_fen),
        ("currency", old.currency != new.currency),
        ("country", old.country != new.country),
        ("passback", old.passback_ms != new.passback_ms),
        ("tap_limit", old.tap_limit_ms != new.tap_limit_ms),
        ("deny_list", list(old) != list(new)),
        ("relay", old.relay != new.relay),
        ("application", old.applications != new.applications),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}

#[cfg(test)]
mod tests;
