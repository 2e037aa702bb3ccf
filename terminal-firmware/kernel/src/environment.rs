//! What the kernel is handed: the tap's circumstances, and what the gate knows of keys, lists and recent taps.

use wavepass_protocol::lists::{CaKey, Revocation, Suite};
use wavepass_protocol::tap::Reason;
use wavepass_protocol::time::UnixMs;
use wavepass_protocol::token::{Expiry, Token};

/// The circumstances of one tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TapInput {
    /// When the card was presented.
    pub now: UnixMs,
    /// The gate's civil time, minutes east of UTC.
    pub utc_offset_min: i16,
    /// The unpredictable number (9F37): fresh randomness for every tap.
    pub unpredictable: [u8; 4],
    /// The gate's running time at the start, microseconds.
    pub start_us: u64,
    /// What a second and a third timed exchange send, should they be needed: as fresh and as hard to guess as
    /// [`Self::unpredictable`], which the first one sends, even for one who has seen that.
    pub relay_entropy: [[u8; 4]; 2],
}

/// What the gate knows. Every question is answered from memory, without waiting.
pub trait Environment {
    /// The authority's key with this provider and index; one whose check value was wrong is never held.
    fn ca_key(&self, rid: &[u8; 5], index: u8, suite: Suite) -> Option<CaKey<'_>>;
    /// True if the issuer certificate is on the revocation list.
    fn is_revoked(&self, issuer: &Revocation) -> bool;
    /// Whether the deny list names what [`crate::Kernel::asks`] asked for. `None` where the host has not looked it up:
    /// then there is no decision yet. The list is larger than memory, so that looking up may wait for flash.
    fn denied(&self, asked: &Asked) -> Option<bool>;
    /// What the gate remembers of the token's last tap here.
    fn passback(&self, token: &Token, now: UnixMs) -> Passback;
    /// True if the deny list is so old that the gate's policy refuses.
    fn list_stale(&self, now: UnixMs) -> bool;
}

/// What the kernel asks of the deny list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The certified token.
    pub token: Token,
    /// Its expiry; `None` where the card does not sign its own: then any listed one is meant.
    pub expiry: Option<Expiry>,
}

/// What the gate remembers of a token's last tap here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passback {
    /// Nothing that matters now.
    Clear,
    /// It opened a moment ago and nobody went through: the same tap again.
    SameTap,
    /// Somebody went through with it within the window.
    Refuse,
}

/// Why an exchange cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The card left the field.
    Removed,
    /// A second card came into the field.
    SeveralCards,
    /// The card broke the transmission protocol.
    Protocol,
    /// The card stopped answering.
    Timeout,
}

impl Lost {
    pub(crate) const fn reason(self) -> Reason {
        match self {
            Self::Removed => Reason::CardRemoved,
            Self::SeveralCards => Reason::SeveralCards,
            Self::Protocol => Reason::CardError,
            Self::Timeout => Reason::TooSlow,
        }
    }
}
