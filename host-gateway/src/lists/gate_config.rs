//! How gates work, as an operator writes it: TOML, in the units people use.
//!
//! [`parse`] takes what gates take and nothing else; [`ConfigFile`] writes what [`parse`] reads.

use super::ListsError;
use super::file::{FileError, Source};
use super::registry::check_config;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use toml::Spanned;
use wavepass_hce::hex;
use wavepass_kernel::ConfigError;
use wavepass_protocol::lists::{Application, GateConfig, RelayLimits, Suite, TAP_LIMIT_MS};

/// The largest authorisation amount: 9F02 has 12 digits.
const MAX_AMOUNT_FEN: u64 = 999_999_999_999;
/// How far civil time may be from UTC, minutes.
const MAX_OFFSET_MIN: i16 = 840;

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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SuiteWord {
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

fn aid(text: &str) -> Option<heapless::Vec<u8, 16>> {
    let bytes = hex::decode(text).ok().filter(|bytes| bytes.len() >= 5)?;
    heapless::Vec::from_slice(&bytes).ok()
}

fn array<const N: usize>(text: &str) -> Option<[u8; N]> {
    hex::decode(text).ok()?.try_into().ok()
}

/// Minutes east of UTC.
fn offset(text: &str) -> Option<i16> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let two = |text: &str| (text.len() == 2).then(|| text.parse::<u8>().ok()).flatten().map(i16::from);
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes) = (two(hours)?, two(minutes).filter(|minutes| *minutes < 60)?);
    let offset = hours * 60 + minutes;
    (offset <= MAX_OFFSET_MIN).then_some(sign * offset)
}

fn offset_text(minutes: i16) -> String {
    let sign = if minutes < 0 { '-' } else { '+' };
    let minutes = minutes.unsigned_abs();
    format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}

/// A number of ISO 4217 or 3166 as packed decimal, with its leading zero or without.
fn code(text: &str) -> Option<u16> {
    let digits = matches!(text.len(), 3 | 4) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| u16::from_str_radix(text, 16).ok()).flatten()
}

fn milliseconds(text: &str) -> Option<u64> {
    let duration: SignedDuration = text.parse().ok()?;
    let whole = duration.subsec_nanos() % 1_000_000 == 0;
    whole.then(|| u64::try_from(duration.as_millis()).ok()).flatten()
}

fn short(text: &str) -> Option<u32> {
    milliseconds(text).and_then(|ms| u32::try_from(ms).ok())
}

fn tap_limit(text: &str) -> Option<u32> {
    short(text).filter(|ms| TAP_LIMIT_MS.contains(ms))
}

fn time_text(ms: u64) -> String {
    // Beyond 292 million years every time is the same.
    format!("{:#}", SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX)))
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
mod tests {
    use super::*;
    use crate::lists::default_config;
    use proptest::prelude::*;

    const RELAY: RelayLimits = RelayLimits { overhead_us: 2_000, grace_us: 300, cap_us: 10_000 };

    fn text(config: &GateConfig) -> String {
        ConfigFile::of(config).to_toml().unwrap()
    }

    fn error(text: &str) -> String {
        parse("g.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn every_field_is_written_in_the_units_people_use() {
        let text = text(&GateConfig { relay: Some(RELAY), ..default_config() });
        for line in [
            "utc_offset = \"+08:00\"",
            "amount_fen = 100",
            "currency = \"0156\"",
            "country = \"0156\"",
            "passback = \"5m\"",
            "tap_limit = \"1s\"",
            "max_age = \"72h\"",
            "when_stale = \"refuse\"",
            "[relay]\noverhead_us = 2000\ngrace_us = 300\ncap_us = 10000",
            "aid = \"F0574156455041535301\"",
            "suites = [\"p256\"]",
            "ttq = \"21800080\"",
            "formats = [\"05\", \"95\"]",
            "domain_required = true",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line} in:\n{text}");
        }
    }

    #[test]
    fn relay_limits_of_a_file_are_the_kernel_s() {
        let config = parse("g.toml", &text(&GateConfig { relay: Some(RELAY), ..default_config() })).unwrap();
        let kernel = wavepass_kernel::Config::new(&config, *b"WAVE", 1).unwrap();
        assert_eq!(kernel.relay, Some(RELAY));
        let off = text(&GateConfig { relay: Some(RelayLimits { cap_us: 0, ..RELAY }), ..default_config() });
        let kernel = wavepass_kernel::Config::new(&parse("g.toml", &off).unwrap(), *b"WAVE", 1).unwrap();
        assert_eq!(kernel.relay, None, "a cap of 0 times no card");
    }

    #[test]
    fn two_suites_of_an_application_are_two_of_the_gate_s() {
        let file = text(&default_config()).replacen("suites = [\"rsa\"]", "suites = [\"rsa\", \"sm2\"]", 1);
        let config = parse("g.toml", &file).unwrap();
        assert_eq!(config.applications.len(), 5);
        let [_, rsa, sm2, ..] = &config.applications[..] else { panic!("{config:?}") };
        assert_eq!((rsa.suite, sm2.suite, &rsa.aid), (Suite::Rsa, Suite::Sm2, &sm2.aid));
        assert_eq!((&rsa.formats[..], &sm2.formats[..]), (&[0x05, 0x95][..], &[][..]));
        assert!(text(&config).contains("suites = [\"rsa\", \"sm2\"]"));
        let kernel = wavepass_kernel::Config::new(&config, *b"WAVE", 1).unwrap();
        assert_eq!((kernel.applications.len(), kernel.applications[1].sm2), (4, true));
    }

    #[test]
    fn what_gates_would_refuse_is_named_with_line_and_column() {
        let good = text(&GateConfig { relay: Some(RELAY), ..default_config() });
        for (from, to, told) in [
            ("passback = ", "pasback = ", "1: unknown field `pasback`"),
            ("cap_us = ", "cap = ", "1: unknown field `cap`"),
            ("partial = ", "partly = ", "1: unknown field `partly`"),
            ("\"+08:00\"", "\"+14:01\"", "14: utc_offset: from -14:00"),
            ("\"+08:00\"", "\"8\"", "14: utc_offset: from -14:00"),
            ("amount_fen = 100", "amount_fen = 1000000000000", "14: amount_fen: at most"),
            ("amount_fen = 100", "amount_fen = -1", "14: invalid value: integer"),
            ("currency = \"0156\"", "currency = \"CNY\"", "12: currency: its ISO 4217"),
            ("country = \"0156\"", "country = \"01A6\"", "11: country: its ISO 3166"),
            ("\"5m\"", "\"5 parsecs\"", "12: passback: a time"),
            ("\"5m\"", "\"-5m\"", "12: passback: a time"),
            ("\"5m\"", "\"50000h\"", "12: passback: a time"),
            ("\"1s\"", "\"6s\"", "13: tap_limit: a time from"),
            ("\"1s\"", "\"99ms\"", "13: tap_limit: a time from"),
            ("\"72h\"", "\"1us\"", "11: deny_list.max_age: a time"),
            ("\"refuse\"", "\"shrug\"", "14: unknown variant, expected"),
            ("grace_us = 300", "grace_us = -300", "12: invalid value: integer"),
            ("F0574156455041535301", "F0574156", "7: aid: 5 to 16 bytes"),
            ("\"p256\"", "\"p256\", \"rsa\"", "10: suites: one of"),
            ("\"p256\"", "\"dsa\"", "11: unknown variant, expected"),
            ("formats = [\"05\", \"95\"]", "formats = [\"0595\"]", "11: formats: at most 4"),
            ("formats = [\"05\", \"95\"]\n", "", "10: formats: RSA needs"),
            ("[\"p256\"]", "[\"p256\"]\nformats = [\"05\"]", "11: formats: RSA's only"),
            ("A000000333010102", "A000000333010101", "7: this AID is there already"),
        ] {
            let bad = good.replacen(from, to, 1);
            let line = bad.lines().zip(good.lines()).take_while(|(bad, good)| bad == good).count() + 1;
            let found = error(&bad);
            assert!(found.starts_with("g.toml:") && found.contains(told), "{to}: {found}");
            // Of formats that are missing the suite is blamed, of those too many their own line.
            let near = found.split(':').nth(1).unwrap().parse::<usize>().unwrap().abs_diff(line);
            assert!(near <= 4 && (near == 0 || told.contains("formats")), "{to}: line {line}: {found}");
        }
        let ttq = good.replace("21800080", "21800000");
        assert!(error(&ttq).contains("7: ttq: RSA and SM2 need fDDA version 01"), "{}", error(&ttq));
        let (head, applications) = good.split_once("[[application]]").unwrap();
        assert!(error(&format!("application = []\n{head}")).contains("at least one application"));
        let one = applications.split("[[").next().unwrap();
        let more = |n: u8| format!("[[application]]{}", one.replacen("5301", &format!("53{n:02X}"), 1));
        let more: String = (0x10..0x15).map(more).collect();
        assert!(error(&format!("{good}{more}")).contains("at most 8 applications"));
        assert!(error(&good.replacen("amount_fen = 100\n", "", 1)).contains("missing field `amount_fen`"));
    }

    #[test]
    fn the_guide_s_example_is_sound() {
        let guide = include_str!("../../../docs/operating.md");
        let mut examples = guide.split("```toml\n").map(|rest| rest.split("```").next().unwrap());
        let example = examples.find(|text| text.starts_with("utc_offset")).unwrap();
        let config = parse("operating.md", example).unwrap();
        assert_eq!((config.relay, config.applications.len()), (Some(RELAY), 2));
    }

    #[test]
    fn differences_have_the_file_s_names() {
        let new = GateConfig { relay: Some(RELAY), passback_ms: 1, ..default_config() };
        assert_eq!(differences(&default_config(), &new), ["passback", "relay"]);
        assert!(differences(&new, &new).is_empty());
    }

    fn application() -> impl Strategy<Value = Application> {
        let suite = prop_oneof![Just(Suite::P256), Just(Suite::Rsa), Just(Suite::Sm2)];
        let aid = prop::collection::vec(any::<u8>(), 5..=16);
        let formats = prop::collection::vec(any::<u8>(), 1..=4);
        (aid, suite, any::<[u8; 3]>(), any::<(bool, u8, bool)>(), formats).prop_map(
            |(aid, suite, [a, b, c], (partial, preference, domain_required), formats)| Application {
                aid: heapless::Vec::from_slice(&aid).unwrap(),
                partial,
                suite,
                ttq: [a, b, c, 0x80],
                preference,
                formats: match suite {
                    Suite::Rsa => heapless::Vec::from_slice(&formats).unwrap(),
                    Suite::P256 | Suite::Sm2 => heapless::Vec::new(),
                },
                domain_required,
            },
        )
    }

    fn config() -> impl Strategy<Value = GateConfig> {
        let code = (0..=9u16, 0..=9u16, 0..=9u16).prop_map(|(a, b, c)| a << 8 | b << 4 | c);
        let relay = prop::option::of(any::<(u32, u32, u32)>());
        let times = (any::<u32>(), TAP_LIMIT_MS, 0..=u64::from(u32::MAX) * 1_000, any::<bool>());
        (-840..=840i16, 0..=MAX_AMOUNT_FEN, code, times, prop::collection::vec(application(), 1..=4), relay)
            .prop_map(|(utc_offset_min, amount_fen, code, times, applications, relay)| GateConfig {
                utc_offset_min,
                amount_fen,
                currency: code,
                country: code,
                passback_ms: times.0,
                tap_limit_ms: times.1,
                list_max_age_ms: times.2,
                stale_opens: times.3,
                // RSA and SM2 of one identifier, too.
                applications: applications
                    .iter()
                    .flat_map(|a| {
                        let sm2 =
                            Application { suite: Suite::Sm2, formats: heapless::Vec::new(), ..a.clone() };
                        [Some(a.clone()), (a.suite == Suite::Rsa).then_some(sm2)]
                    })
                    .flatten()
                    .collect(),
                relay: relay.map(|(overhead_us, grace_us, cap_us)| RelayLimits {
                    overhead_us,
                    grace_us,
                    cap_us,
                }),
            })
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back_as_the_same(config in config()) {
            prop_assert_eq!(parse("g.toml", &text(&config)), Ok(config));
        }
    }
}
