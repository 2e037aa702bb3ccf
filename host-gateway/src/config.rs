//! The gateway's configuration: a TOML file, over it environment variables `WAVEPASS_*`, over both the flags.
//!
//! Parts that belong to one module (bank, tariff, settlement) are sections of the same file that the module reads
//! itself with [`Config::section`].

use crate::input;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use wavepass_fares::DayClock;

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not TOML, or a value is not of its form.
    ///
    /// Told without the line itself and without the value: either may be the admin token.
    #[error("{path}{place}: {why}")]
    Form {
        /// The file.
        path: PathBuf,
        /// Line and key, as far as they are known, such as `:12: admin_token`.
        place: String,
        /// Why.
        why: String,
    },
    /// A section whose values do not go together.
    #[error("[{name}]: {why}")]
    Section {
        /// Which.
        name: &'static str,
        /// Why.
        why: String,
    },
    /// A value that cannot be.
    #[error("{name} = `{value}`: {why}")]
    Value {
        /// Which.
        name: &'static str,
        /// What was given.
        value: String,
        /// What it should be.
        why: String,
    },
}

/// The configuration in force.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data folder: database, lock, admin token.
    pub data: PathBuf,
    /// `sqlite:PATH`, a path, or `postgres://USER@HOST/DATABASE?sslmode=…`.
    pub database: String,
    /// Where the key files are.
    pub keys: PathBuf,
    /// What the file says.
    pub file: File,
    day_clock: DayClock,
    sections: toml::Table,
    source: PathBuf,
}

/// The file's own sections.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// The data folder.
    pub data: Option<PathBuf>,
    /// The database, if not `wavepass.db` in the data folder.
    pub database: Option<String>,
    /// The folder of the key files, if not `keys` in the data folder.
    pub keys: Option<PathBuf>,
    /// File whose first line is the passphrase of the key files; else `--passphrase-file`, the variable
    /// WAVEPASS_PASSPHRASE, or the terminal.
    pub passphrase_file: Option<PathBuf>,
    /// The service day.
    pub day: DaySection,
    /// The link to the gates.
    pub link: LinkSection,
    /// HTTP.
    pub http: HttpSection,
    /// Intake.
    pub intake: IntakeSection,
    /// Signed batches of operators' own concentrators.
    pub concentrators: ConcentratorSection,
    /// Risk.
    pub risk: RiskSection,
    // Those that modules read themselves, so that any other name is a fault.
    authorisation: IgnoredAny,
    bank: IgnoredAny,
    clearing: IgnoredAny,
    collection: IgnoredAny,
    corrections: IgnoredAny,
    reconcile: IgnoredAny,
    recovery: IgnoredAny,
    retention: IgnoredAny,
    settlement: IgnoredAny,
}

/// A number that may not be without end or at once: its name, the least, the most, and of what.
type Bounded = (&'static str, i64, std::ops::RangeInclusive<i64>, &'static str);

/// Refuses the first number that is out of bounds.
pub(crate) fn bounded(numbers: impl IntoIterator<Item = Bounded>) -> Result<(), ConfigError> {
    match numbers.into_iter().find(|(_, value, range, _)| !range.contains(value)) {
        None => Ok(()),
        Some((name, value, range, of)) => Err(ConfigError::Value {
            name,
            value: value.to_string(),
            why: format!("{of}, {} to {}", range.start(), range.end()),
        }),
    }
}

impl File {
    fn check(&self) -> Result<(), ConfigError> {
        let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let count = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        let (connections, limit) = (1..=MAX_CONNECTIONS, 1..=MAX_LIMIT_S);
        let (link, http) = (&self.link, &self.http);
        bounded([
            ("link.max_connections", count(link.max_connections), connections.clone(), "a number"),
            ("link.hello_s", whole(link.hello_s), limit.clone(), "seconds"),
            ("link.idle_s", whole(link.idle_s), limit.clone(), "seconds"),
            ("link.stall_s", whole(link.stall_s), limit.clone(), "seconds"),
            ("link.time_s", whole(link.time_s), limit.clone(), "seconds"),
            ("http.max_body", count(http.max_body), MIN_BODY..=MAX_BODY, "bytes"),
            ("http.max_connections", count(http.max_connections), connections, "a number"),
            ("http.head_s", whole(http.head_s), limit.clone(), "seconds"),
            ("http.body_s", whole(http.body_s), limit.clone(), "seconds"),
            ("http.request_s", whole(http.request_s), limit.clone(), "seconds"),
            ("http.idle_s", whole(http.idle_s), limit.clone(), "seconds"),
            ("concentrators.window_s", whole(self.concentrators.window_s), 1..=MAX_WINDOW_S, "seconds"),
            ("intake.set_aside_a_day", self.intake.set_aside_a_day, 0..=MAX_SET_ASIDE, "entries"),
            ("risk.every_s", whole(self.risk.every_s), limit, "seconds"),
        ])
    }
}

/// `[day]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DaySection {
    /// IANA name of the operator's time zone.
    pub zone: String,
    /// Local time at which a service day begins, `HH:MM`.
    pub starts: String,
}

impl Default for DaySection {
    fn default() -> Self {
        Self { zone: "Asia/Shanghai".into(), starts: "04:00".into() }
    }
}

/// `[link]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinkSection {
    /// Where gates connect.
    pub listen: SocketAddr,
    /// Connections at a time; more are closed at once. One gate has one, so this is the network's size with room.
    pub max_connections: usize,
    /// A connection must have proven itself within this time, seconds.
    pub hello_s: u64,
    /// A gate that says nothing for so long is let go; it connects again when it has something. Seconds.
    pub idle_s: u64,
    /// A gate that takes nothing for so long is let go. Seconds.
    pub stall_s: u64,
    /// Gates are told the time this often, seconds (system clock only; a driven clock tells each move).
    pub time_s: u64,
}

impl Default for LinkSection {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7700)),
            max_connections: 4096,
            hello_s: 10,
            idle_s: 900,
            stall_s: 30,
            time_s: 60,
        }
    }
}

/// `[http]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSection {
    /// Where the API is served. TLS is the business of a proxy in front of it.
    pub listen: SocketAddr,
    /// The admin bearer token, if not the one made at first start in the data folder.
    pub admin_token: Option<String>,
    /// API keys of concentrators that may hand in taps.
    pub api_keys: Vec<ApiKey>,
    /// The largest request body, bytes.
    pub max_body: usize,
    /// Connections at a time; more are answered 503 and closed. Each holds a file handle and up to 64 KiB.
    pub max_connections: usize,
    /// A request's head must be whole so long after its first byte, and the first byte so long after the connection was made, seconds.
    pub head_s: u64,
    /// A body of which nothing more comes for so long is given up, seconds.
    pub body_s: u64,
    /// A whole request may take so long, with its body and the work on it, seconds: the close of a large day is one.
    pub request_s: u64,
    /// A connection between two requests is kept so long, seconds; longer than proxies keep theirs by default.
    pub idle_s: u64,
}

/// The longest limit on a connection, seconds: after a day nobody waits for it.
const MAX_LIMIT_S: i64 = 86_400;
/// The most connections: a process has no more file handles than about that.
const MAX_CONNECTIONS: i64 = 65_536;
/// The least and the most bytes of a body: a short command, and what a machine holds in memory many times.
const MIN_BODY: i64 = 128;
const MAX_BODY: i64 = 1 << 30;

/// One API key. Only its SHA-256 is configured, so that the file gives nobody access.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// Who has it.
    pub name: String,
    /// SHA-256 of the key, 64 hexadecimal digits.
    pub sha256: String,
}

impl Default for HttpSection {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7780)),
            admin_token: None,
            api_keys: Vec::new(),
            max_body: 8 << 20,
            max_connections: 1024,
            head_s: 10,
            body_s: 30,
            request_s: 3_600,
            idle_s: 75,
        }
    }
}

/// The longest window, seconds: with a day of it, a clock that is wrong by a day is not noticed.
const MAX_WINDOW_S: i64 = 86_400;

/// `[concentrators]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConcentratorSection {
    /// How far a signature's time may be from the gateway's clock, either way, seconds.
    pub window_s: u64,
    /// With which scheme concentrators ask, where they sign the whole URI: a proxy that ends TLS leaves `http` here.
    pub scheme: Scheme,
}

/// How a URI begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

impl Scheme {
    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl Default for ConcentratorSection {
    fn default() -> Self {
        Self { window_s: 300, scheme: Scheme::Http }
    }
}

/// The most entries that do not open and are kept of somebody on a service day: half a gigabyte.
const MAX_SET_ASIDE: i64 = 1_000_000;

/// `[intake]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IntakeSection {
    /// Entries that do not open and are set aside on a service day, of each concentrator, and of all API keys and files
    /// together. Each is half a kilobyte and a break that a person looks at; further ones are counted only.
    pub set_aside_a_day: i64,
}

impl Default for IntakeSection {
    /// Enough to see what is wrong.
    fn default() -> Self {
        Self { set_aside_a_day: 1_000 }
    }
}

/// `[risk]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RiskSection {
    /// With a system clock, risk runs this often, seconds.
    pub every_s: u64,
    /// A clone alert puts the token on the deny list.
    pub deny_clones: bool,
    /// So does an alert of a token that let two through a station's gates at once.
    pub deny_passback: bool,
    /// And one of taps at stations too far apart for the time between.
    pub deny_travel: bool,
    /// The fastest that anybody gets from station to station, km/h over the tariff's distances; 0: no travel is impossible.
    pub travel_kmh: u32,
    /// By how much a synchronised gate's clock may be off, ms.
    pub synchronised_ms: u64,
    /// By how much a free-running gate's clock may be off, ms.
    pub free_ms: u64,
}

impl Default for RiskSection {
    fn default() -> Self {
        Self {
            every_s: 30,
            deny_clones: true,
            deny_passback: false,
            deny_travel: false,
            travel_kmh: 200,
            synchronised_ms: 5_000,
            free_ms: 120_000,
        }
    }
}

/// What flags and environment say; each wins over the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// The data folder.
    pub data: Option<PathBuf>,
    /// The database.
    pub database: Option<String>,
    /// The folder of the key files.
    pub keys: Option<PathBuf>,
}

impl Config {
    /// Reads the file, if one is given, and puts the overrides over it. The default data folder is
    /// `./wavepass-data`.
    pub fn load(overrides: &Overrides) -> Result<Self, ConfigError> {
        let source = overrides.config.clone().unwrap_or_else(|| "(defaults)".into());
        let text = match &overrides.config {
            Some(path) => input::read_text(path, input::MAX_CONFIG)
                .map_err(|source| ConfigError::Read { path: path.clone(), source })?,
            None => String::new(),
        };
        Self::from_text(&text, &source, overrides)
    }

    /// The default configuration of a data folder.
    pub fn of(data: &Path) -> Result<Self, ConfigError> {
        Self::load(&Overrides { data: Some(data.to_path_buf()), ..Overrides::default() })
    }

    fn from_text(text: &str, source: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let form = |e: toml::de::Error| form(source, place(text, e.span()), &e);
        let sections: toml::Table = text.parse().map_err(form)?;
        let file: File = toml::from_str(text).map_err(form)?;
        let day_clock = day_clock(&file.day)?;
        for key in &file.http.api_keys {
            if key.sha256.len() != 64 || !key.sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
                let why = "the SHA-256 of the key, 64 hexadecimal digits".into();
                return Err(ConfigError::Value {
                    name: "http.api_keys.sha256",
                    value: key.name.clone(),
                    why,
                });
            }
        }
        file.check()?;
        let data = overrides
            .data
            .clone()
            .or_else(|| file.data.clone())
            .unwrap_or_else(|| PathBuf::from("wavepass-data"));
        let database = overrides
            .database
            .clone()
            .or_else(|| file.database.clone())
            .unwrap_or_else(|| format!("sqlite:{}", data.join("wavepass.db").display()));
        let keys = overrides.keys.clone().or_else(|| file.keys.clone()).unwrap_or_else(|| data.join("keys"));
        Ok(Self { data, database, keys, file, day_clock, sections, source: source.to_path_buf() })
    }

    /// Which service day an instant belongs to.
    pub const fn day_clock(&self) -> &DayClock {
        &self.day_clock
    }

    /// A module's own section of the file; its default where the file has none.
    pub fn section<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T, ConfigError> {
        match self.sections.get(name) {
            None => Ok(T::default()),
            Some(value) => value
                .clone()
                .try_into()
                .map_err(|e: toml::de::Error| form(&self.source, format!(": [{name}]"), &e)),
        }
    }
}

fn form(path: &Path, place: String, error: &toml::de::Error) -> ConfigError {
    ConfigError::Form { path: path.to_owned(), place, why: input::without_values(error.message()) }
}

/// The line of a span, and the key whose value begins there.
fn place(text: &str, span: Option<std::ops::Range<usize>>) -> String {
    let Some(before) = span.and_then(|span| text.get(..span.start)) else { return String::new() };
    let line = before.bytes().filter(|&b| b == b'\n').count() + 1;
    let begun = before.rsplit('\n').next().unwrap_or_default();
    let key = begun.trim_end().strip_suffix('=').map(str::trim).unwrap_or_default();
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    match !key.is_empty() && key.chars().all(bare) {
        true => format!(":{line}: {key}"),
        false => format!(":{line}"),
    }
}

fn day_clock(day: &DaySection) -> Result<DayClock, ConfigError> {
    let wrong = |name, value: &str, why: String| ConfigError::Value { name, value: value.into(), why };
    let zone = jiff::tz::TimeZone::get(&day.zone).map_err(|e| wrong("day.zone", &day.zone, e.to_string()))?;
    let starts: jiff::civil::Time =
        day.starts.parse().map_err(|_| wrong("day.starts", &day.starts, "a time like 04:00".into()))?;
    Ok(DayClock::new(zone, starts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        Config::from_text(text, Path::new("test.toml"), &Overrides::default())
    }

    #[test]
    fn flags_win_over_the_file_and_modules_read_their_own_sections() {
        #[derive(Deserialize, Default, PartialEq, Debug)]
        struct Bank {
            fee: u32,
        }
        let overrides = Overrides { database: Some("sqlite:x.db".into()), ..Overrides::default() };
        let text = "data = 'd'\ndatabase = 'y.db'\n[bank]\nfee = 3\n";
        let config = Config::from_text(text, Path::new("t"), &overrides).unwrap();
        assert_eq!((config.database.as_str(), config.data.to_str()), ("sqlite:x.db", Some("d")));
        assert_eq!(config.section::<Bank>("bank").unwrap(), Bank { fee: 3 });
        assert_eq!(config.section::<Bank>("other").unwrap(), Bank::default());
    }

    #[test]
    fn neither_a_line_nor_a_value_of_the_file_is_repeated() {
        for text in [
            "[http]\nadmin_token = hush-hush-12",
            "[http]\nadmin_token = 'hush-hush-12",
            "[http]\nadmin_token 'hush-hush-12'",
            "[http]\nadmin_token = ['hush-hush-12']",
            "[http]\nmax_body = 'hush-hush-12'",
            "[http]\nadmin_token = 'hush-hush-12' 'again'",
            "[http]\nlisten = 'hush-hush-12'",
        ] {
            let error = load(text).unwrap_err();
            assert!(error.to_string().starts_with("test.toml:2"), "{error}");
            assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
        }
        let error = load("[http]\nadmin_token = 123456789012").unwrap_err().to_string();
        assert_eq!(error, "test.toml:2: admin_token: invalid type: integer, expected a string");
    }

    #[test]
    fn what_cannot_be_is_named_with_its_place() {
        let error = |text: &str| load(text).unwrap_err().to_string();
        assert!(error("[day]\nzone = 'Mars/Base'").contains("day.zone"));
        assert!(error("[day]\nstarts = '25:00'").contains("day.starts"));
        assert!(error("[link]\nlisten = 'nowhere'").contains("test.toml"));
        assert!(error("[link]\nlitsen = '127.0.0.1:1'").contains("litsen"));
        assert!(error("[link]\nlisten = 'nowhere'").starts_with("test.toml:2: listen: "));
        let told = error("[intake]\nset_aside_a_day = -1");
        assert!(told.contains("intake.set_aside_a_day = `-1`: entries, 0 to 1000000"), "{told}");
        assert!(
            error("[concentrators]\nwindow_s = 0")
                .contains("concentrators.window_s = `0`: seconds, 1 to 86400")
        );
        assert!(error("[concentrators]\nscheme = 'ftp'").starts_with("test.toml:2: scheme: "));
        for (section, limit) in
            [("link", "max_connections"), ("link", "stall_s"), ("risk", "every_s"), ("http", "max_body")]
        {
            let told = error(&format!("[{section}]\n{limit} = 0"));
            assert!(told.starts_with(&format!("{section}.{limit} = `0`: ")), "{told}");
        }
        for limit in ["max_connections", "head_s", "body_s", "request_s", "idle_s"] {
            for value in [0, 86_401] {
                let told = error(&format!("[http]\n{limit} = {value}"));
                assert!(told.starts_with(&format!("http.{limit} = `{value}`: ")), "{told}");
            }
        }
        assert!(error("[[http.api_keys]]\nname = 'a'\nsha256 = 'b'").contains("sha256"));
        assert!(
            error("[day]\nzone = 'UTC'\n[clearng]\nclose = 'manual'")
                .contains("test.toml:3: unknown field `clearng`")
        );
        assert!(
            error("databse = 'sqlite:x.db'").contains("test.toml:1"),
            "{}",
            error("databse = 'sqlite:x.db'")
        );
    }
}
