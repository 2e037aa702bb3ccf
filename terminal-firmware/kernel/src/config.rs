//! What a gate is told of the applications it accepts and of itself.

use crate::limits::MAX_APPLICATIONS;
use core::fmt;
use heapless::Vec;
use wavepass_protocol::lists::{Application, GateConfig, RelayLimits, Suite};
use wavepass_protocol::select::Aid;

/// Bit 8 of byte 4 of the terminal transaction qualifiers: fDDA version 01, whose signature covers the amount.
const TTQ_FDDA_01: u8 = 0x80;

/// An application that the gate accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AidConfig {
    /// Its identifier.
    pub aid: Aid,
    /// True if a card's longer identifier that begins with this one is accepted too.
    pub partial: bool,
    /// How its cards are proven genuine.
    pub suite: Suite,
    /// With RSA: true if SM2 cards of the same identifier are accepted too. The gate's list has then two applications
    /// of that identifier; of the second one only the suite and, if it is required, the domain count.
    pub sm2: bool,
    /// Terminal transaction qualifiers (9F66).
    pub ttq: [u8; 4],
    /// The gate's preference, lower first; 0: after the preferred ones, by the card's priority.
    pub preference: u8,
    /// Accepted formats of signed dynamic data, RSA only.
    pub formats: Vec<u8, 4>,
    /// True if the card must carry a signed domain that includes this gate.
    pub domain_required: bool,
}

/// What the kernel needs to know of its gate. Amounts are authorisation amounts; the charge may differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What is accepted.
    pub applications: Vec<AidConfig, MAX_APPLICATIONS>,
    /// Amount, authorised (9F02), fen: at most 12 digits.
    pub amount_fen: u64,
    /// Transaction currency (5F2A), as packed decimal: 0x0156.
    pub currency: u16,
    /// Terminal country (9F1A), as packed decimal: 0x0156.
    pub country: u16,
    /// The network of the gate, against which a token's domain is checked.
    pub network: [u8; 4],
    /// The operator of the gate.
    pub operator: u16,
    /// A tap whose exchange takes longer is refused.
    pub tap_limit_us: u64,
    /// What the timed exchange may take; `None`: cards are not timed.
    pub relay: Option<RelayLimits>,
    /// How SM2 cards sign where no source settles it; as usual, unless it is set. Issuers that were verified by another
    /// convention are remembered until [`Kernel::forget_issuers`](crate::Kernel::forget_issuers).
    #[cfg(feature = "sm2")]
    pub sm2: wavepass_protocol::sm2::Convention,
}

/// Why a configuration cannot be used. Places in the list are from 0; for people they are shown from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// An identifier that does not have 5 to 16 bytes; its place in the list.
    Aid(usize),
    /// An RSA or SM2 application whose qualifiers do not announce fDDA version 01; its place in the list.
    Ttq(usize),
    /// An RSA application that accepts no format of signed data; its place in the list.
    Formats(usize),
    /// An authorisation amount of more than 12 digits.
    Amount,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aid(i) => write!(f, "application {}: an AID has 5 to 16 bytes", i + 1),
            Self::Ttq(i) => write!(f, "application {}: the TTQ do not announce fDDA version 01", i + 1),
            Self::Formats(i) => {
                write!(f, "application {}: no format of signed dynamic data is accepted", i + 1)
            }
            Self::Amount => f.write_str("the authorisation amount has more than 12 digits"),
        }
    }
}

impl core::error::Error for ConfigError {}

impl Config {
    /// The kernel's configuration from the gate's list and from what its provisioning fixes.
    pub fn new(gate: &GateConfig, network: [u8; 4], operator: u16) -> Result<Self, ConfigError> {
        if gate.amount_fen > 999_999_999_999 {
            return Err(ConfigError::Amount);
        }
        let mut applications = Vec::new();
        for (i, application) in gate.applications.iter().enumerate() {
            let next = AidConfig::new(i, application)?;
            let first = applications.iter_mut().find(|first: &&mut AidConfig| first.aid == next.aid);
            match first {
                Some(first) if first.pairs_with(&next) => first.join(next),
                // Both lists have the same capacity.
                _ => {
                    let _ = applications.push(next);
                }
            }
        }
        Ok(Self {
            applications,
            amount_fen: gate.amount_fen,
            currency: gate.currency,
            country: gate.country,
            network,
            operator,
            tap_limit_us: u64::from(gate.tap_limit_ms) * 1000,
            relay: gate.relay.filter(|limits| limits.cap_us > 0),
            #[cfg(feature = "sm2")]
            sm2: wavepass_protocol::sm2::Convention::DEFAULT,
        })
    }
}

impl AidConfig {
    fn new(place: usize, application: &Application) -> Result<Self, ConfigError> {
        if application.suite != Suite::P256 && application.ttq[3] & TTQ_FDDA_01 == 0 {
            return Err(ConfigError::Ttq(place));
        }
        if application.suite == Suite::Rsa && application.formats.is_empty() {
            return Err(ConfigError::Formats(place));
        }
        Ok(Self {
            aid: Aid::new(&application.aid).ok_or(ConfigError::Aid(place))?,
            partial: application.partial,
            suite: application.suite,
            sm2: false,
            ttq: application.ttq,
            preference: application.preference,
            formats: application.formats.clone(),
            domain_required: application.domain_required,
        })
    }

    /// True if this kernel proves SM2 cards of this identifier.
    pub(crate) fn serves_sm2(&self) -> bool {
        cfg!(feature = "sm2") && (self.sm2 || self.suite == Suite::Sm2)
    }

    /// True if the two are RSA and SM2.
    fn pairs_with(&self, other: &Self) -> bool {
        matches!((self.suite, other.suite), (Suite::Rsa, Suite::Sm2) | (Suite::Sm2, Suite::Rsa))
    }

    /// Takes the second application of the same identifier in.
    fn join(&mut self, other: Self) {
        if self.suite == Suite::Sm2 {
            self.suite = other.suite;
            self.formats = other.formats;
        }
        self.sm2 = true;
        self.domain_required |= other.domain_required;
    }
}
