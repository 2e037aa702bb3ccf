//! Suites: named cases of a phone, what is wrong with it, what the terminal knows, and what must come of it.

use crate::files::at;
use crate::verdict::method_word;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use wavepass_hce::faults::{AnyFault, CATALOGUE, Cards, UnknownFault};
use wavepass_hce::profile::Profile;
use wavepass_protocol::lists::TAP_LIMIT_MS;
use wavepass_protocol::tap::{OdaMethod, Reason};

/// The suite for this project's kernel.
pub const KERNEL: &str = include_str!("../suites/kernel.toml");
/// The longest file taken, bytes.
const MAX_FILE: u64 = 1 << 20;
/// The words of the ways in which a card is proven genuine.
const METHODS: [&str; 4] = [
    method_word(OdaMethod::Fdda),
    method_word(OdaMethod::Dda),
    method_word(OdaMethod::Ecc),
    method_word(OdaMethod::Sm2),
];
/// The most cases of a suite, profiles counted one by one.
const MAX_CASES: usize = 10_000;

/// Why a suite cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SuiteError {
    /// Reading failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// More bytes than a suite has.
    #[error("a suite has at most {MAX_FILE} bytes")]
    TooLong,
    /// Not the TOML of a suite; the message names line and column.
    #[error("{0}")]
    Toml(#[from] toml::de::Error),
    /// A case that cannot be run.
    #[error("case {place} ({name}): {why}")]
    Case {
        /// Its place in the file, from 1.
        place: usize,
        /// Its name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// A cross that cannot be run.
    #[error("cross {place}: {why}")]
    Cross {
        /// Its place in the file, from 1.
        place: usize,
        /// What is wrong.
        why: String,
    },
    /// A tap's limit that no gate takes.
    #[error("tap_limit_ms: from {} to {}, as at a gate", TAP_LIMIT_MS.start(), TAP_LIMIT_MS.end())]
    TapLimit,
    /// More cases than are run.
    #[error("a suite has 1 to {MAX_CASES} cases")]
    Count,
    /// Two cases with one name.
    #[error("two cases are called `{0}`")]
    Twice(String),
}

/// A way to the kernel under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WayName {
    /// The kernel and the phone in one process.
    Process,
    /// The kernel, pcscd, a virtual reader, the phone.
    Pcscd,
    /// The gate's firmware in QEMU, a simulated PN532, the phone.
    Qemu,
    /// Somebody else's kernel.
    Command,
}

impl WayName {
    /// Those on which the terminal is this project's.
    const OWN: [Self; 3] = [Self::Process, Self::Pcscd, Self::Qemu];

    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Pcscd => "pcscd",
            Self::Qemu => "qemu",
            Self::Command => "command",
        }
    }
}

/// What the terminal knows, beyond the authorities' keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Terminal {
    /// Nothing.
    #[default]
    Plain,
    /// The card's token is on the deny list.
    Denied,
    /// The token with another expiry is on the deny list.
    DeniedBefore,
    /// The issuer's certificate is revoked.
    Revoked,
    /// It has no authority's key.
    NoKeys,
    /// Its authorities' keys have expired.
    OldKeys,
    /// It is in another network.
    OtherNetwork,
    /// It accepts none of the card's applications.
    AcceptsNothing,
    /// Of the formats of signed data it accepts 05 alone, and no card that signs in 95.
    OnlyFormat05,
    /// Somebody has just gone through with the card.
    Passback,
    /// The card has opened it, and nobody has gone through.
    SameTap,
    /// Its deny list is too old.
    OldList,
    /// It times cards that can be timed.
    Timed,
}

/// What must come of a case: the gate opens, or refuses for one of these reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// It opens.
    Open,
    /// It refuses.
    Refuse(Vec<Reason>),
}

impl Expected {
    fn parse(words: &[String]) -> Result<Self, String> {
        match words {
            [] => Err("`expect` names nothing".to_owned()),
            [word] if word == "open" => Ok(Self::Open),
            words => words
                .iter()
                .map(|word| {
                    let known = Reason::ALL.into_iter().find(|reason| reason.word() == word);
                    known.ok_or_else(|| format!("`{word}` is neither `open` nor a reason to refuse"))
                })
                .collect::<Result<_, _>>()
                .map(Self::Refuse),
        }
    }

    /// True if this is what came of it.
    pub fn is(&self, word: &str) -> bool {
        match self {
            Self::Open => word == "open",
            Self::Refuse(reasons) => reasons.iter().any(|reason| reason.word() == word),
        }
    }

    /// In words.
    pub fn words(&self) -> String {
        match self {
            Self::Open => "open".to_owned(),
            Self::Refuse(reasons) => reasons.iter().map(|r| r.word()).collect::<Vec<_>>().join(" or "),
        }
    }
}

/// One case.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name, unlike any other of the suite.
    pub name: String,
    /// The phone's profile: a name, or a path from where the rig runs.
    pub profile: String,
    /// What is wrong with it.
    pub faults: Vec<AnyFault>,
    /// What the terminal knows.
    pub terminal: Terminal,
    /// What must come of it.
    pub expected: Expected,
    /// How the card must have been proven genuine, where that is asked.
    pub method: Option<String>,
    /// The ways on which it can be run; empty: all.
    pub ways: Vec<WayName>,
    /// Why not on others.
    pub why: Option<String>,
}

impl Case {
    /// True if it can be run on a way.
    pub fn applies(&self, way: WayName) -> bool {
        self.ways.is_empty() || self.ways.contains(&way)
    }
}

/// A suite.
#[derive(Debug, Clone)]
pub struct Suite {
    /// What it is called.
    pub name: String,
    /// The limit of a tap, milliseconds.
    pub tap_limit_ms: u32,
    /// The cases, in the file's order.
    pub cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    tap_limit_ms: u32,
    #[serde(default)]
    case: Vec<Entry>,
    #[serde(default)]
    cross: Vec<Cross>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    One(String),
    Several(Vec<String>),
}

impl Words {
    fn list(&self) -> &[String] {
        match self {
            Self::One(word) => std::slice::from_ref(word),
            Self::Several(words) => words,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    profiles: Words,
    #[serde(default)]
    faults: Vec<String>,
    #[serde(default)]
    terminal: Terminal,
    expect: Words,
    /// For these profiles something else must come of it.
    #[serde(default)]
    except: BTreeMap<String, Words>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    ways: Vec<WayName>,
    #[serde(default)]
    why: Option<String>,
}

/// Each fault of the catalogue on each of these profiles.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cross {
    profiles: Words,
    #[serde(default)]
    ways: Vec<WayName>,
    #[serde(default)]
    why: Option<String>,
}

impl Suite {
    /// The suite that comes with the rig under this name, or else a file.
    pub fn find(name: &str) -> Result<Self, SuiteError> {
        if Self::is_builtin(name) { Self::parse(KERNEL) } else { Self::load(Path::new(name)) }
    }

    /// True for the name of the suite that comes with the rig.
    pub fn is_builtin(name: &str) -> bool {
        name == "kernel"
    }

    /// Reads a suite's file. Its profiles' paths count from its folder.
    pub fn load(path: &Path) -> Result<Self, SuiteError> {
        let io = |source| SuiteError::Io { path: path.to_owned(), source };
        let mut text = String::new();
        std::fs::File::open(path).map_err(io)?.take(MAX_FILE + 1).read_to_string(&mut text).map_err(io)?;
        if text.len() as u64 > MAX_FILE {
            return Err(SuiteError::TooLong);
        }
        Self::parse_in(&text, path.parent().unwrap_or(Path::new("")))
    }

    /// Reads a suite's text. Its profiles' paths count from where the rig runs.
    pub fn parse(text: &str) -> Result<Self, SuiteError> {
        Self::parse_in(text, Path::new(""))
    }

    fn parse_in(text: &str, folder: &Path) -> Result<Self, SuiteError> {
        let file: File = toml::from_str(text)?;
        if !TAP_LIMIT_MS.contains(&file.tap_limit_ms) {
            return Err(SuiteError::TapLimit);
        }
        let mut cases: Vec<Case> = Vec::new();
        for (i, entry) in file.case.iter().enumerate() {
            let wrong = |why| SuiteError::Case { place: i + 1, name: entry.name.clone(), why };
            cases.extend(entry.cases(folder).map_err(wrong)?);
        }
        for (i, cross) in file.cross.iter().enumerate() {
            let wrong = |why| SuiteError::Cross { place: i + 1, why };
            cases.extend(cross.cases(folder).map_err(wrong)?);
        }
        if cases.is_empty() || cases.len() > MAX_CASES {
            return Err(SuiteError::Count);
        }
        let mut names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(SuiteError::Twice(twice[0].to_owned()));
        }
        Ok(Self { name: file.name, tap_limit_ms: file.tap_limit_ms, cases })
    }
}

impl Entry {
    /// A case for each profile.
    fn cases(&self, folder: &Path) -> Result<Vec<Case>, String> {
        let profiles = self.profiles.list();
        if let Some(stranger) = self.except.keys().find(|name| !profiles.contains(name)) {
            return Err(format!("`except` names `{stranger}`, which is not among the profiles"));
        }
        check_ways(&self.ways, self.why.as_deref())?;
        let faults = self.faults.iter().map(|text| text.parse::<AnyFault>().map_err(|e| e.to_string()));
        let faults = faults.collect::<Result<Vec<_>, _>>()?;
        if let Some(method) = self.method.as_deref().filter(|method| !METHODS.contains(method)) {
            return Err(format!("`{method}` is no method; there are {}", METHODS.join(", ")));
        }
        profiles
            .iter()
            .map(|profile| {
                let expect = self.except.get(profile).unwrap_or(&self.expect);
                Ok(Case {
                    name: format!("{}: {profile}", self.name),
                    profile: find(folder, profile)?.0,
                    faults: faults.clone(),
                    terminal: self.terminal,
                    expected: Expected::parse(expect.list())?,
                    method: self.method.clone(),
                    ways: self.ways.clone(),
                    why: self.why.clone(),
                })
            })
            .collect()
    }
}

impl Cross {
    /// A case for each fault and profile, by faults.
    fn cases(&self, folder: &Path) -> Result<Vec<Case>, String> {
        check_ways(&self.ways, self.why.as_deref())?;
        let profiles = self.profiles.list().iter().map(|name| Ok((name, find(folder, name)?)));
        let profiles = profiles.collect::<Result<Vec<_>, String>>()?;
        let mut cases = Vec::with_capacity(CATALOGUE.len() * profiles.len());
        for entry in CATALOGUE {
            let fault: AnyFault = entry.example.parse().map_err(|e: UnknownFault| e.to_string())?;
            let timed = entry.cards == Cards::Timed;
            let (terminal, ways, why) = if timed { self.timed() } else { self.plain() };
            cases.extend(profiles.iter().map(|(name, (path, profile))| Case {
                name: format!("{}: {name}", entry.example),
                profile: path.clone(),
                faults: vec![fault.clone()],
                terminal,
                expected: match entry.verdict(profile) {
                    [] => Expected::Open,
                    reasons => Expected::Refuse(reasons.to_vec()),
                },
                method: None,
                ways: ways.clone(),
                why: why.clone(),
            }));
        }
        Ok(cases)
    }

    fn plain(&self) -> (Terminal, Vec<WayName>, Option<String>) {
        (Terminal::Plain, self.ways.clone(), self.why.clone())
    }

    /// For a terminal that times cards.
    fn timed(&self) -> (Terminal, Vec<WayName>, Option<String>) {
        let allows = |way: &WayName| self.ways.is_empty() || self.ways.contains(way);
        let ways = WayName::OWN.into_iter().filter(allows).collect();
        let why =
            self.why.clone().unwrap_or_else(|| "what somebody else's kernel knows is its own".to_owned());
        (Terminal::Timed, ways, Some(why))
    }
}

/// A profile that is built in, or else the file at this path from a folder; its name or path, and itself.
fn find(folder: &Path, name: &str) -> Result<(String, Profile), String> {
    let place = match Profile::text(name) {
        Some(_) => name.to_owned(),
        None => folder.join(name).display().to_string(),
    };
    let profile = Profile::find(&place).map_err(|e| at(&place, &e))?;
    Ok((place, profile))
}

fn check_ways(ways: &[WayName], why: Option<&str>) -> Result<(), String> {
    if !ways.is_empty() && why.is_none() {
        return Err("what is not for all ways says `why`".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(case: &str) -> String {
        let text = format!("name = \"t\"\ntap_limit_ms = 1000\n[[case]]\nname = \"n\"\n{case}\n");
        Suite::parse(&text).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_suite_that_comes_with_the_rig_has_every_fault_on_every_profile() {
        let suite = Suite::parse(KERNEL).unwrap();
        let case = |profile: &str, faults: &[AnyFault]| {
            suite.cases.iter().find(|case| case.profile == profile && case.faults == faults)
        };
        for profile in Profile::names() {
            assert_eq!(case(profile, &[]).map(|case| &case.expected), Some(&Expected::Open), "{profile}");
            for entry in CATALOGUE {
                let faults = [entry.example.parse().unwrap()];
                let found = case(profile, &faults);
                assert!(found.is_some(), "{}: {profile}", entry.example);
            }
        }
        let forged = case("sm2", &["forged-signature".parse().unwrap()]).unwrap();
        assert_eq!(forged.expected, Expected::Refuse(vec![Reason::AuthenticationFailed]));
        let older = case("unionpay-older", &["wrong-atc".parse().unwrap()]).unwrap();
        assert_eq!(older.expected, Expected::Open, "its signature does not cover the counter");
        let relay = case("house", &["relay=50000".parse().unwrap()]).unwrap();
        assert_eq!((relay.terminal, relay.expected.words().as_str()), (Terminal::Timed, "relay_suspected"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_case() {
        let good = "profiles = \"house\"\nexpect = \"open\"";
        assert_eq!(error(good), "");
        assert_eq!(
            error("profiles = \"house\"\nexpect = \"opens\""),
            "case 1 (n): `opens` is neither `open` nor a reason to refuse"
        );
        assert_eq!(
            error(&format!("{good}\nfaults = [\"rust\"]")),
            "case 1 (n): `rust` is no fault; `phone list --faults` lists them"
        );
        assert_eq!(
            error(&format!("{good}\nexcept = {{ plastic = \"open\" }}")),
            "case 1 (n): `except` names `plastic`, which is not among the profiles"
        );
        assert_eq!(
            error(&format!("{good}\nways = [\"process\"]")),
            "case 1 (n): what is not for all ways says `why`"
        );
        assert_eq!(
            error(&format!("{good}\nmethod = \"fdaa\"")),
            "case 1 (n): `fdaa` is no method; there are fdda, dda, ecc, sm2"
        );
        assert!(
            error(&format!("{good}\nexpects = 1")).contains("line 7"),
            "{}",
            error(&format!("{good}\nexpects = 1"))
        );
        let unknown = error(&format!("{good}\n[[cross]]\nprofiles = \"no-such\""));
        assert!(
            unknown.starts_with("cross 1: there is no profile `no-such`; built in are house, "),
            "{unknown}"
        );
        assert_eq!(
            error("profiles = [\"house\", \"house\"]\nexpect = \"open\""),
            "two cases are called `n: house`"
        );
        let limit =
            |ms| Suite::parse(&format!("name = \"t\"\ntap_limit_ms = {ms}\n")).err().map(|e| e.to_string());
        assert_eq!(limit(0).as_deref(), Some("tap_limit_ms: from 100 to 5000, as at a gate"));
        assert_eq!(limit(60_000), limit(0));
    }

    #[test]
    fn a_profile_s_path_counts_from_its_suite_s_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mine.toml"), Profile::text("house").unwrap()).unwrap();
        let suite = folder.path().join("suite.toml");
        let save = |profile: &str| {
            let case = format!("[[case]]\nname = \"n\"\nprofiles = \"{profile}\"\nexpect = \"open\"\n");
            std::fs::write(&suite, format!("name = \"t\"\ntap_limit_ms = 1000\n{case}")).unwrap();
            Suite::load(&suite)
        };
        let read = save("mine.toml").unwrap();
        assert_eq!(read.cases[0].name, "n: mine.toml");
        assert!(Profile::find(&read.cases[0].profile).is_ok());
        assert_eq!(save("house").unwrap().cases[0].profile, "house");
        let missing = save("none.toml").unwrap_err().to_string();
        assert!(
            missing.starts_with("case 1 (n): there is no profile to read at `")
                && missing.contains("none.toml`"),
            "{missing}"
        );
    }
}
