//! Profiles: small data files from which phones are made. Copy one, change it, and give its path.
//!
//! A profile says which applications a phone has and how it shows itself; tokens, dates and keys are made when it is
//! issued. What is wrong with what is signed, such as an expired date, goes in there too ([`IssueFault`]).

use crate::application::{HOUSE_AID, RSA_DEBIT_AID, RsaFlow};
use crate::authorities::{Authorities, AuthorityError};
use crate::contactless::Surface;
use crate::faults::{AnyFault, Cards, IssueFault, certificate_of, recording};
use crate::hex;
use crate::issue::{Domain, HouseOrder, IssueError, RsaKind, RsaOrder};
use crate::phone::{Phone, PhoneError, PhoneFile};
use crate::reader::{ReadError, Values};
use crate::state::{Counters, MAX_APPLICATIONS};
use crate::text::{self, Misplaced};
use rand::CryptoRng;
use serde::Deserialize;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use wavepass_protocol::cryptogram::master_key_option_c;
use wavepass_protocol::select::Aid;
use wavepass_protocol::time::Date;
use wavepass_protocol::token::{Expiry, Token, TokenError};
use zeroize::Zeroizing;

/// The longest profile, in bytes.
const MAX_FILE: u64 = 1 << 16;
/// How many digits a token has that is made here.
const DIGITS: usize = 16;
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
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No profile of that name, and no file.
    #[error("there is no profile `{0}`; `phone list --profiles` lists them, and a path may be given")]
    Unknown(String),
    /// More bytes than a profile has.
    #[error("a profile has at most {MAX_FILE} bytes")]
    TooLong,
    /// A key or value that does not belong there.
    #[error(transparent)]
    Text(#[from] Misplaced),
    /// What cannot be in a profile, or not there.
    #[error("{0}")]
    Content(String),
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

/// What kind of application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    /// P-256, the house's own.
    House,
    /// RSA with fDDA.
    Rsa,
    /// RSA of an older card: INTERNAL AUTHENTICATE and GENERATE AC.
    RsaOlder,
    /// The same, with answers in template 80.
    RsaOlderPlain,
    /// SM2, the national suite.
    Sm2,
}

/// One application of a profile. What is left out is as most cards have it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApplicationProfile {
    kind: Kind,
    aid: Option<String>,
    label: Option<String>,
    priority: Option<u8>,
    psn: Option<u8>,
    years: Option<u16>,
    /// House only.
    network: Option<String>,
    /// House only.
    operator: Option<u16>,
    /// RSA only.
    signed_format: Option<String>,
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
        Self::parse(Self::text(name).ok_or_else(|| ProfileError::Unknown(name.to_owned()))?)
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

    /// A profile that is built in, or else a file.
    pub fn find(name: &str) -> Result<Self, ProfileError> {
        match Self::text(name) {
            Some(text) => Self::parse(text),
            None if Path::new(name).exists() => Self::load(Path::new(name)),
            None => Err(ProfileError::Unknown(name.to_owned())),
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

impl ApplicationProfile {
    /// Refuses what does not belong to the kind.
    fn check(&self) -> Result<(), String> {
        let is_house = self.kind == Kind::House;
        if !is_house && (self.network.is_some() || self.operator.is_some()) {
            return Err("`network` and `operator` belong to kind `house`".into());
        }
        if self.kind != Kind::Rsa && self.signed_format.is_some() {
            return Err("`signed_format` belongs to kind `rsa`".into());
        }
        if is_house && self.aid.is_some() {
            return Err("kind `house` has an `aid` of its own".into());
        }
        if self.years.is_some_and(|years| !(1..=20).contains(&years)) {
            return Err("`years` is 1 to 20".into());
        }
        self.aid()?;
        self.format()?;
        self.domain().map(drop)
    }

    fn aid(&self) -> Result<Vec<u8>, String> {
        let Some(text) = &self.aid else {
            return Ok(if self.kind == Kind::House { HOUSE_AID } else { RSA_DEBIT_AID }.to_vec());
        };
        let bytes = hex::decode(text).map_err(|e| format!("`aid`: {e}"))?;
        Aid::new(&bytes).map(|_| bytes).ok_or_else(|| "`aid` has 5 to 16 bytes".into())
    }

    fn format(&self) -> Result<u8, String> {
        match self.signed_format.as_deref() {
            None | Some("05") => Ok(0x05),
            Some("95") => Ok(0x95),
            Some(_) => Err("`signed_format` is \"05\" or \"95\"".into()),
        }
    }

    fn domain(&self) -> Result<Option<Domain>, String> {
        let Some(name) = &self.network else { return Ok(None) };
        let network = <[u8; 4]>::try_from(name.as_bytes()).ok();
        let network = network.filter(|n| n.iter().all(u8::is_ascii_alphanumeric));
        let network = network.ok_or("`network` has four letters or digits")?;
        Ok(Some(Domain { network, operator: self.operator.unwrap_or_default() }))
    }

    fn make(
        &self,
        authorities: &Authorities,
        signing: &Authorities,
        order: &Order,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<PhoneFile, ProfileError> {
        let prefix = match self.kind {
            Kind::House => prefix(&signing.house()?.issuer().issuer_id()),
            Kind::Rsa | Kind::RsaOlder | Kind::RsaOlderPlain => prefix(&signing.rsa()?.iin()),
            Kind::Sm2 => prefix(&signing.sm2()?.iin()),
        };
        let token = match order.token {
            Some(token) => token,
            None => random_token(&prefix, rng)?,
        };
        let psn = order.psn.or(self.psn).unwrap_or_default();
        let years = self.years.unwrap_or(YEARS);
        let last = Date { year: (order.today.year + years).min(2099), ..order.today };
        let expiry = order.expiry.unwrap_or_else(|| last.expiry());
        let effective = order.effective.unwrap_or(order.today);
        let master_key = master_key_option_c(authorities.master()?, &token, psn);
        let made = if self.kind == Kind::House {
            let domain = match order.domain {
                DomainOrder::Profile => self.domain().map_err(ProfileError::Content)?,
                DomainOrder::At(domain) => Some(domain),
                DomainOrder::Without => None,
            };
            let (serial, card_key) = ([0; 6], [0; 32]);
            let mut order =
                HouseOrder { token, expiry, effective, psn, domain, serial, card_key, master_key };
            rng.fill_bytes(&mut order.serial);
            rng.fill_bytes(&mut order.card_key);
            signing.house()?.issue(&order)
        } else {
            let aid = self.aid().map_err(ProfileError::Content)?;
            let mut order = RsaOrder { token, expiry, effective, psn, aid, serial: [0; 3], master_key };
            rng.fill_bytes(&mut order.serial);
            let flow = match self.kind {
                Kind::RsaOlder => RsaFlow::Standard,
                Kind::RsaOlderPlain => RsaFlow::StandardPlain,
                Kind::House | Kind::Rsa | Kind::Sm2 => RsaFlow::Quick,
            };
            if self.kind == Kind::Sm2 {
                let mut card_key = Zeroizing::new([0; 32]);
                rng.fill_bytes(card_key.as_mut_slice());
                signing.sm2()?.issue(&order, &card_key)
            } else {
                let signed_format = self.format().map_err(ProfileError::Content)?;
                let key = authorities.card_key()?;
                signing.rsa()?.issue_as(RsaKind { flow, signed_format }, &order, &key)
            }
        };
        let mut file = made.map_err(|e| match e {
            IssueError::NotOurToken => ProfileError::NotOurToken(prefix),
            other => other.into(),
        })?;
        // Neither is certified.
        for application in &mut file.applications {
            let card = application.card_mut();
            if let Some(label) = &self.label {
                card.label.clone_from(label);
            }
            card.priority = self.priority.unwrap_or(card.priority);
        }
        Ok(file)
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

/// The digits before the padding.
fn prefix(packed: &[u8]) -> String {
    let digits = packed.iter().flat_map(|byte| [byte >> 4, byte & 0xF]);
    digits.take_while(|digit| *digit < 10).map(|digit| char::from(b'0' + digit)).collect()
}

/// A token of the issuer's with a right check digit.
fn random_token(prefix: &str, rng: &mut (impl CryptoRng + ?Sized)) -> Result<Token, TokenError> {
    let mut text = prefix.to_owned();
    while text.len() < DIGITS - 1 {
        // A bias of 6 in 256 does no harm to a number that only has to be new.
        text.push(char::from(b'0' + (rng.next_u32() % 10) as u8));
    }
    let sum: u32 = text
        .bytes()
        .rev()
        .enumerate()
        .map(|(i, c)| {
            let digit = u32::from(c - b'0');
            if i % 2 == 1 { digit } else { digit * 2 / 10 + digit * 2 % 10 }
        })
        .sum();
    // Below ten.
    text.push(char::from(b'0' + ((10 - sum % 10) % 10) as u8));
    Token::from_digits(&text)
}
