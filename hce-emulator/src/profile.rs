//! Profiles: small data files from which phones are made. Copy one, change it, and give its path.
//!
//! A profile says which applications a phone has and how it shows itself; tokens, dates and keys are made when it is
//! issued. What is wrong with what is signed, such as an expired date, goes in there too ([`IssueFault`]).

mod application;

use crate::authorities::{Authorities, AuthorityError};
use crate::contactless::Surface;
use crate::faults::{AnyFault, Cards, IssueFault, certificate_of, recording};
use crate::issue::{Domain, IssueError};
use crate::phone::{Phone, PhoneError, PhoneFile};
use crate::reader::{ReadError, Values};
use crate::state::{Counters, MAX_APPLICATIONS};
use crate::text::{self, Misplaced};
use application::{ApplicationProfile, Kind};
use rand::CryptoRng;
use serde::Deserialize;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use wavepass_protocol::time::Date;
use wavepass_protocol::token::{Expiry, Token, TokenError};

/// The longest profile, in bytes.
const MAX_FILE: u64 = 1 << 16;
/// How long a token is good, in years.
const YEARS: u16 = 3;

macro_rules! builtin {
    ($($name:literal),+ $(,)?) => {
        const BUILTIN: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../profiles/", $name, ".toml")))),+];
    };
}

builtin!(
    "house",
    "unionpay-debit",
    "unionpay-debit-95",
    "unionpay-older",
    "unionpay-older-plain",
    "unionpay-credit",
    "unionpay-quasi-credit",
    "sm2",
    "wallet",
    "plastic",
);

/// Names that profiles had before.
const ALIASES: &[(&str, &str)] = &[
    ("rsa", "unionpay-debit"),
    ("rsa-credit", "unionpay-credit"),
    ("rsa-quasi-credit", "unionpay-quasi-credit"),
];

/// Why a profile gives no phone. It never carries a number.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The file cannot be read.
    #[error("there is no profile to read at `{}` ({source}); {}", path.display(), choices())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No profile of that name is built in.
    #[error("there is no profile `{name}`; {}{}", choices(), here(name, *is_file))]
    Unknown {
        /// The name.
        name: String,
        /// True if a file of that name is in the current folder.
        is_file: bool,
    },
    /// More bytes than a profile has.
    #[error("a profile has at most {MAX_FILE} bytes")]
    TooLong,
    /// A key or value that does not belong there.
    #[error(transparent)]
    Text(#[from] Misplaced),
    /// What cannot be in a profile, or not there.
    #[error("{0}")]
    Content(String),
    /// A domain was given for a phone without an application of the house.
    #[error("only a token of the house has a network and an operator, and this profile has none")]
    NoDomain,
    /// A token was given for several applications.
    #[error("a token can be given to a phone with one application; this profile has {0}")]
    SeveralTokens(usize),
    /// The authorities.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// An application could not be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// A number is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The token is of another issuer.
    #[error("the token is not of this issuer, whose tokens begin with {0}")]
    NotOurToken(String),
    /// The phone that was to be recorded does not work.
    #[error(transparent)]
    Phone(#[from] PhoneError),
    /// It could not be read.
    #[error("the phone to be copied: {0}")]
    Read(#[from] ReadError),
}

/// How a profile is named.
fn choices() -> String {
    let names = Profile::names().collect::<Vec<_>>().join(", ");
    format!("built in are {names}; one of your own is given by its path, as ./mine.toml")
}

fn here(name: &str, is_file: bool) -> String {
    if is_file { format!("; if you mean the file {name}, give ./{name}") } else { String::new() }
}

/// A profile as its file has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    about: String,
    #[serde(default)]
    surface: Surface,
    #[serde(default)]
    faults: Vec<String>,
    application: Vec<ApplicationProfile>,
}

/// Where a token of the house is good, against what the profile says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DomainOrder {
    /// As the profile says.
    #[default]
    Profile,
    /// There.
    At(Domain),
    /// Nowhere: the record is left out.
    Without,
}

/// What is asked for beyond the profile.
#[derive(Debug, Clone)]
pub struct Order {
    /// The day of issue.
    pub today: Date,
    /// The token; else a random one of the issuer's.
    pub token: Option<Token>,
    /// The last month in which it is good; else as many years on as the profile says.
    pub expiry: Option<Expiry>,
    /// The first day on which it is good; else today.
    pub effective: Option<Date>,
    /// Sequence number; else the profile's.
    pub psn: Option<u8>,
    /// Where it is good.
    pub domain: DomainOrder,
    /// What is to be wrong, beyond the profile's own faults.
    pub faults: Vec<AnyFault>,
}

impl Order {
    /// A sound phone of today.
    pub const fn new(today: Date) -> Self {
        Self {
            today,
            token: None,
            expiry: None,
            effective: None,
            psn: None,
            domain: DomainOrder::Profile,
            faults: Vec::new(),
        }
    }

    /// The same with a fault.
    #[must_use]
    pub fn with_fault(mut self, fault: impl Into<AnyFault>) -> Self {
        self.faults.push(fault.into());
        self
    }
}

/// A profile.
#[derive(Debug, Clone)]
pub struct Profile {
    about: String,
    surface: Surface,
    faults: Vec<AnyFault>,
    applications: Vec<ApplicationProfile>,
}

impl Profile {
    /// The names of the profiles that are built in.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILTIN.iter().map(|(name, _)| *name)
    }

    /// The text of a profile that is built in, to be copied and changed.
    pub fn text(name: &str) -> Option<&'static str> {
        let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
        BUILTIN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
    }

    /// A profile that is built in.
    pub fn builtin(name: &str) -> Result<Self, ProfileError> {
        let unknown = || ProfileError::Unknown { name: name.to_owned(), is_file: false };
        Self::parse(Self::text(name).ok_or_else(unknown)?)
    }

    /// A profile's file.
    pub fn load(path: &Path) -> Result<Self, ProfileError> {
        let io = |source| ProfileError::Io { path: path.to_owned(), source };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(io)?;
        file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(io)?;
        if text.len() as u64 > MAX_FILE {
            return Err(ProfileError::TooLong);
        }
        Self::parse(&text)
    }

    /// A profile by its name or its path. A path is what holds a separator or ends in `.toml`, so that a mistyped name is
    /// not taken for a file.
    pub fn find(name: &str) -> Result<Self, ProfileError> {
        let path = Path::new(name);
        let is_path = name.contains(std::path::is_separator) || path.extension().is_some_and(|e| e == "toml");
        match Self::text(name) {
            Some(text) => Self::parse(text),
            None if is_path => Self::load(path),
            None => Err(ProfileError::Unknown { name: name.to_owned(), is_file: path.is_file() }),
        }
    }

    /// Reads a profile's text.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let read: Text = text::parse(text)?;
        let content = |message: String| Err(ProfileError::Content(message));
        let count = read.application.len();
        if count == 0 || count > MAX_APPLICATIONS {
            return content(format!("a phone has 1 to {MAX_APPLICATIONS} applications, not {count}"));
        }
        if !read.surface.is_sound() {
            return content(
                "surface: a UID has 4, 7 or 10 bytes, and there are at most 15 historical bytes".into(),
            );
        }
        for (i, application) in read.application.iter().enumerate() {
            application.check().map_err(|e| ProfileError::Content(format!("application {}: {e}", i + 1)))?;
        }
        let faults = read.faults.iter().map(|text| text.parse());
        let faults =
            faults.collect::<Result<_, _>>().map_err(|e| ProfileError::Content(format!("faults: {e}")))?;
        Ok(Self { about: read.about, surface: read.surface, faults, applications: read.application })
    }

    /// What it is, in a line.
    pub fn about(&self) -> &str {
        &self.about
    }

    /// True if a fault of these cards changes the phone: what counts is the application that comes first.
    pub fn is_among(&self, cards: Cards) -> bool {
        // As phones are issued; priority 0 is none, so it comes last.
        let priority =
            |a: &ApplicationProfile| a.priority.unwrap_or(if a.kind == Kind::House { 1 } else { 2 });
        let first = self.applications.iter().min_by_key(|a| priority(a).wrapping_sub(1));
        let Some(first) = first else { return false };
        match cards {
            Cards::Every => true,
            Cards::Signing => !matches!(first.kind, Kind::RsaOlder | Kind::RsaOlderPlain),
            Cards::Timed => first.kind == Kind::House,
        }
    }

    /// Makes a phone. Faults of what is signed are made into it, the others written into its file.
    pub fn issue(
        &self,
        authorities: &Authorities,
        order: &Order,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<PhoneFile, ProfileError> {
        if order.token.is_some() && self.applications.len() > 1 {
            return Err(ProfileError::SeveralTokens(self.applications.len()));
        }
        if order.domain != DomainOrder::Profile && self.applications.iter().all(|a| a.kind != Kind::House) {
            return Err(ProfileError::NoDomain);
        }
        let faults = || self.faults.iter().chain(&order.faults);
        let is_wrong = |fault| faults().any(|f| *f == AnyFault::Issue(fault));
        let mut order = order.clone();
        if is_wrong(IssueFault::Expired) {
            // The month before the last: wherever the gate is, it is over.
            order.expiry = Some(months_on(order.today, -2).expiry());
            order.effective = Some(Date { year: order.today.year - YEARS, day: 1, ..order.today });
        }
        if is_wrong(IssueFault::NotYetValid) {
            order.effective = Some(Date { year: order.today.year + 1, day: 1, ..order.today });
            order.expiry.get_or_insert(Date { year: order.today.year + 1 + YEARS, ..order.today }.expiry());
        }
        let strangers = is_wrong(IssueFault::OtherAuthority).then(|| authorities.strangers()).transpose()?;
        let signing = strangers.unwrap_or(authorities);
        let mut file = self.make(authorities, signing, &order, rng)?;
        if is_wrong(IssueFault::OtherNumber) {
            let other = self.make(authorities, signing, &Order { token: None, ..order.clone() }, rng)?;
            file = certificate_of(file, &other);
        }
        for fault in faults() {
            if let AnyFault::Phone(fault) = fault {
                file.faults.push(fault.clone());
            }
        }
        if is_wrong(IssueFault::Replay) {
            let mut seed = [0; 32];
            rng.fill_bytes(&mut seed);
            let mut original = Phone::new(&file, Counters::memory(), seed)?;
            let unpredictable = rng.next_u32().to_be_bytes();
            let recorded = recording(&mut original, &Values::gate(order.today, unpredictable))?;
            file.faults.push(recorded);
        }
        file.surface = self.surface.clone();
        Ok(file)
    }

    fn make(
        &self,
        authorities: &Authorities,
        signing: &Authorities,
        order: &Order,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<PhoneFile, ProfileError> {
        let mut made: Option<PhoneFile> = None;
        for application in &self.applications {
            let one = application.make(authorities, signing, order, rng)?;
            made = Some(match made {
                Some(before) => before.with(one),
                None => one,
            });
        }
        made.ok_or_else(|| ProfileError::Content("a profile without applications".into()))
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.about)
    }
}

/// The first day of a month so many months on.
fn months_on(date: Date, months: i32) -> Date {
    let month = i32::from(date.year) * 12 + i32::from(date.month) - 1 + months;
    // Cards have four-digit years.
    Date { year: (month / 12) as u16, month: (month % 12 + 1) as u8, day: 1 }
}
