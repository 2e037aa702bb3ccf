//! What a gate records: the tap with its decision and the card's data, the passage that followed, and the times
//! when an emergency held the barrier open.
//!
//! These bodies are only ever stored and sent sealed (see [`crate::seal`]). They are encoded with postcard;
//! fields are only added at the end, under a new format version of the sealed header.

use crate::time::UnixMs;
use crate::token::{Expiry, Token};
use core::fmt;
use serde::{Deserialize, Serialize};

/// The longest encoded body, bytes: every card field at its limit, with room to spare.
pub const MAX_BODY: usize = 512;
/// The longest station code, bytes of ASCII.
pub const MAX_STATION: usize = 16;

/// Why a gate refused. The words are the same in firmware, host, API and console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum Reason {
    /// No application that the gate accepts.
    NoApplication = 1,
    /// The card answered an error, nonsense, or too much.
    CardError = 2,
    /// The card left the field before it was done.
    CardRemoved = 3,
    /// More than one card in the field.
    SeveralCards = 4,
    /// Offline data authentication failed.
    AuthenticationFailed = 5,
    /// The token's expiry, or a certificate's, has passed.
    Expired = 6,
    /// The effective date has not come.
    NotYetValid = 7,
    /// The token is on the deny list.
    Denied = 8,
    /// The same token again within the passback window.
    Passback = 9,
    /// ATC 0: a card never used.
    UnusedCard = 10,
    /// The card gave no ARQC, so the fare could not be collected later.
    NoCryptogram = 11,
    /// A suite or card type that this gate does not serve.
    Unsupported = 12,
    /// The token's domain does not include this gate.
    NotAcceptedHere = 13,
    /// The card answered too late for a card that is really there.
    RelaySuspected = 14,
    /// The card took longer than the tap's limit.
    TooSlow = 15,
    /// The deny list is older than the gate's policy allows.
    ListStale = 16,
    /// The gate does not know the time.
    ClockUnset = 17,
    /// The journal holds as much unacknowledged as it can.
    JournalFull = 18,
    /// The gate failed its self-test.
    OutOfService = 19,
}

impl Reason {
    /// Every reason, in the order of its number.
    pub const ALL: [Self; 19] = [
        Self::NoApplication,
        Self::CardError,
        Self::CardRemoved,
        Self::SeveralCards,
        Self::AuthenticationFailed,
        Self::Expired,
        Self::NotYetValid,
        Self::Denied,
        Self::Passback,
        Self::UnusedCard,
        Self::NoCryptogram,
        Self::Unsupported,
        Self::NotAcceptedHere,
        Self::RelaySuspected,
        Self::TooSlow,
        Self::ListStale,
        Self::ClockUnset,
        Self::JournalFull,
        Self::OutOfService,
    ];

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::NoApplication => "no_application",
            Self::CardError => "card_error",
            Self::CardRemoved => "card_removed",
            Self::SeveralCards => "several_cards",
            Self::AuthenticationFailed => "authentication_failed",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Denied => "denied",
            Self::Passback => "passback",
            Self::UnusedCard => "unused_card",
            Self::NoCryptogram => "no_cryptogram",
            Self::Unsupported => "unsupported",
            Self::NotAcceptedHere => "not_accepted_here",
            Self::RelaySuspected => "relay_suspected",
            Self::TooSlow => "too_slow",
            Self::ListStale => "list_stale",
            Self::ClockUnset => "clock_unset",
            Self::JournalFull => "journal_full",
            Self::OutOfService => "out_of_service",
        }
    }

    /// The reason of a number, 1 to 19.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// How far the gate's clock can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClockQuality {
    /// Never set since power came.
    Unset,
    /// Running on since the last time from the host.
    Free,
    /// Set by the host within the day.
    Synchronised,
}

/// Which way a gate lets riders through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum Direction {
    /// Into the paid area.
    Entry = 0,
    /// Out of it.
    Exit = 1,
    /// One tap is the whole ride: a validator on a bus.
    Single = 2,
}

/// How the card was proven genuine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OdaMethod {
    /// RSA dynamic data within the answer to GET PROCESSING OPTIONS.
    Fdda,
    /// RSA by INTERNAL AUTHENTICATE.
    Dda,
    /// P-256 certificates and EC-SDSA.
    Ecc,
    /// SM2 certificates and signatures.
    Sm2,
}

/// How offline data authentication ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OdaResult {
    /// It was not reached.
    NotDone,
    /// Every certificate and signature verified.
    Passed,
    /// One did not.
    Failed,
}

/// What the gate decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// The gate opened.
    Open,
    /// It did not.
    Refuse(Reason),
}

/// How long the phases of a tap took, in microseconds of the gate's own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Timings {
    /// From the first command to the last answer, card included.
    pub exchange_us: u32,
    /// The gate's own work: parsing, verification, decision.
    pub gate_us: u32,
}

/// One card presented at one gate. Card fields are present only where the card gave them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tap<'a> {
    /// When the card was presented, by the gate's clock.
    pub time: UnixMs,
    /// How good that clock was.
    pub clock: ClockQuality,
    /// Station code, at most [`MAX_STATION`] bytes.
    pub station: &'a str,
    /// The gate's direction.
    pub direction: Direction,
    /// Opened, or refused and why.
    pub decision: Decision,
    /// The application that was selected.
    pub aid: &'a [u8],
    /// The token.
    pub token: Option<Token>,
    /// The token's expiry.
    pub expiry: Option<Expiry>,
    /// True where the card's own signature covers the expiry.
    pub expiry_signed: bool,
    /// Sequence number of the token (5F34).
    pub psn: Option<u8>,
    /// Application transaction counter (9F36).
    pub atc: Option<u16>,
    /// Cryptogram information data (9F27).
    pub cid: Option<u8>,
    /// Application cryptogram (9F26).
    pub cryptogram: Option<[u8; 8]>,
    /// Issuer application data (9F10), at most 32 bytes.
    pub iad: &'a [u8],
    /// Application interchange profile (82).
    pub aip: Option<[u8; 2]>,
    /// Track 2 equivalent data (57), at most 19 bytes.
    pub track2: &'a [u8],
    /// The list whose values the cryptogram covers, as the card gave it: the PDOL, or CDOL1 where GENERATE AC was sent.
    pub pdol: &'a [u8],
    /// The values the gate sent for it.
    pub pdol_values: &'a [u8],
    /// How the card was to be proven genuine, where that was known.
    pub oda_method: Option<OdaMethod>,
    /// How that ended.
    pub oda_result: OdaResult,
    /// How long it took.
    pub timings: Timings,
}

/// What the barrier's sensors saw after an opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Outcome {
    /// Nobody went through before the barrier closed.
    NotPassed = 0,
    /// Somebody did.
    Passed = 1,
    /// The sensors could not tell.
    Unknown = 2,
}

/// The passage after an opening: a journal entry of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passage {
    /// When it was seen.
    pub time: UnixMs,
    /// Sequence number of the tap that opened the gate.
    pub of: u32,
    /// What was seen.
    pub outcome: Outcome,
}

/// The gate's emergency input went on or off. While it is on, the input itself holds the barrier open, whatever
/// the kernel would decide: riders pass without a tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emergency {
    /// When it was seen, by the gate's clock.
    pub time: UnixMs,
    /// How good that clock was: an emergency is recorded even where the gate does not know the time.
    pub clock: ClockQuality,
    /// On, or off again.
    pub active: bool,
}

/// One entry of a gate's journal, as sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry<'a> {
    /// A tap.
    #[serde(borrow)]
    Tap(Tap<'a>),
    /// A passage.
    Passage(Passage),
    /// The emergency input went on or off.
    Emergency(Emergency),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_found_by_its_number() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason as u8), Some(reason));
        }
        assert_eq!(Reason::from_code(0), None);
        assert_eq!(Reason::from_code(20), None);
    }
}
