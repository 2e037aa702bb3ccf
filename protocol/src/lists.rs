//! The signed lists that the host sends to gates: deny list, CA keys, revocations, configuration.
//!
//! An issue is a signed head, then what brings the content. The signature covers the head alone, and the head names
//! the content by length and hash: so a gate knows whom to believe before it erases anything, and the content may
//! come whole or as a delta on what the gate has. Numbers are big-endian; the layout stands in `docs/formats.md`.
//! Signatures are EC-SDSA over P-256, so that a gate needs one verifier.

use crate::ecc::{PublicKey, Verifier};
use crate::time::{Date, UnixMs};
use core::fmt;
use heapless::Vec;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes of the signed head.
pub const HEAD: usize = SIGNED + 64;
/// Bytes of an issue before its body: the head, and the version that a delta builds on.
pub const PREFIX: usize = HEAD + 4;
/// The longest issue that every gate takes in memory: a whole list of the small kinds, or a delta of the deny list.
/// A dozen CA keys of 1984 bits, or some 550 changes of the deny list.
pub const MAX_ISSUE: usize = 4096;
/// The most revoked issuer certificates that a list names: every gate holds so many.
pub const MAX_REVOCATIONS: usize = 64;
/// Bytes of the head under the signature.
const SIGNED: usize = 152;
const FORMAT: u8 = 2;
const LIST_KEY_LABEL: &[u8] = b"wavepass list key v1";

/// Which list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum Kind {
    /// Tokens to refuse.
    Deny = 1,
    /// Certification authorities' public keys.
    CaKeys = 2,
    /// Issuer certificates that are no longer good.
    Revocations = 3,
    /// How the gate works.
    Config = 4,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Deny, Self::CaKeys, Self::Revocations, Self::Config];

    /// Its word in logs and the API.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::CaKeys => "ca_keys",
            Self::Revocations => "revocations",
            Self::Config => "config",
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|k| *k as u8 == code)
    }
}

/// Which issue of a list. An older one than the gate holds is refused; a new epoch follows a restored host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct Version {
    /// Counts restorations of the host.
    pub epoch: u32,
    /// Counts issues within an epoch, from 1.
    pub version: u32,
}

/// Why a list is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListError {
    /// Too short, too long, or its length field disagrees.
    Length,
    /// Not a list, or of a format this code does not read.
    Format,
    /// The root did not sign the list key.
    ListKey,
    /// The list key did not sign the list.
    Signature,
    /// Not newer than the list in force.
    Older,
    /// A delta on a version that is not in force.
    Base,
    /// The content is not of its kind's form.
    Content,
    /// A CA key whose check value differs.
    CheckValue,
    /// More than the gate has room for.
    TooLarge,
    /// The content is not the one that was signed.
    Hash,
}

impl ListError {
    /// The word for it in logs and breaks.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Format => "format",
            Self::ListKey => "list_key",
            Self::Signature => "signature",
            Self::Older => "older",
            Self::Base => "base",
            Self::Content => "content",
            Self::CheckValue => "check_value",
            Self::TooLarge => "too_large",
            Self::Hash => "hash",
        }
    }
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "the list's length is wrong",
            Self::Format => "not a signed list of a known format",
            Self::ListKey => "the root did not sign the list key",
            Self::Signature => "the list's signature does not verify",
            Self::Older => "the list is not newer than the one in force",
            Self::Base => "the delta is for another version",
            Self::Content => "the list's content is malformed",
            Self::CheckValue => "a CA key's check value differs",
            Self::TooLarge => "the list is larger than this gate can hold",
            Self::Hash => "the list's content is not the one that was signed",
        })
    }
}

impl core::error::Error for ListError {}

/// What a list says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Which list.
    pub kind: Kind,
    /// Which issue of it.
    pub version: Version,
    /// When it was issued.
    pub issued: UnixMs,
}

/// The list key with the root's signature over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListKey {
    /// The key (x).
    pub x: [u8; 32],
    /// The root's signature over [`ListKey::message`].
    pub root_signature: [u8; 64],
}

impl ListKey {
    /// What the root signs to make a key the list key.
    pub fn message(x: &[u8; 32]) -> [&[u8]; 2] {
        [LIST_KEY_LABEL, x]
    }
}

/// A head whose signatures verified: what is to come, and what it must hash to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedHead {
    header: Header,
    len: u32,
    hash: [u8; 32],
}

impl SignedHead {
    /// Verifies a head under the root key; two public-key operations.
    pub fn verify<V: Verifier>(
        head: &[u8; HEAD],
        root: &PublicKey,
        verifier: &mut V,
    ) -> Result<Self, ListError> {
        let (header, len) = read(head)?;
        let field = |at: usize| core::array::from_fn(|i| head[at + i]);
        let list_key: [u8; 32] = field(56);
        let signature: [u8; 64] = core::array::from_fn(|i| head[88 + i]);
        if !verifier.verify(root, &ListKey::message(&list_key), &signature) {
            return Err(ListError::ListKey);
        }
        let signature: [u8; 64] = core::array::from_fn(|i| head[SIGNED + i]);
        if !verifier.verify(&PublicKey::from_x(list_key), &[&head[..SIGNED]], &signature) {
            return Err(ListError::Signature);
        }
        Ok(Self { header, len, hash: field(24) })
    }

    /// What the list says of itself.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Length of the content, bytes.
    pub const fn content_len(&self) -> u32 {
        self.len
    }

    /// Checks what a hash over the whole content came to.
    pub fn check(&self, content: Sha256) -> Result<(), ListError> {
        if content.finalize()[..] == self.hash { Ok(()) } else { Err(ListError::Hash) }
    }
}

/// A whole list whose signatures and hash verified. Nothing else gives its content.
#[derive(Debug, Clone, Copy)]
pub struct SignedList<'a> {
    /// What it says of itself.
    pub header: Header,
    /// Its content, by kind: [`crate::deny`], [`ca_keys`], [`revocations`], [`GateConfig`].
    pub content: &'a [u8],
}

impl<'a> SignedList<'a> {
    /// Verifies a whole list under the root key; two public-key operations.
    pub fn verify<V: Verifier>(
        issue: &'a [u8],
        root: &PublicKey,
        verifier: &mut V,
    ) -> Result<Self, ListError> {
        let (head, rest) = issue.split_first_chunk().ok_or(ListError::Length)?;
        let head = SignedHead::verify(head, root, verifier)?;
        let (base, content) = rest.split_first_chunk().ok_or(ListError::Length)?;
        if *base != [0; 4] {
            return Err(ListError::Base);
        }
        if content.len() != head.len as usize {
            return Err(ListError::Length);
        }
        head.check(Sha256::new_with_prefix(content))?;
        Ok(Self { header: head.header, content })
    }
}

/// Reads an issue's head without trusting it: to know what is coming, and to name what was refused.
pub fn peek(issue: &[u8]) -> Result<Header, ListError> {
    read(issue.first_chunk().ok_or(ListError::Length)?).map(|(header, _)| header)
}

fn read(head: &[u8; HEAD]) -> Result<(Header, u32), ListError> {
    if &head[..2] != b"WL" || head[2] != FORMAT {
        return Err(ListError::Format);
    }
    let number = |at: usize, len: usize| head[at..at + len].iter().fold(0u64, |n, &b| n << 8 | u64::from(b));
    let kind = Kind::from_code(head[3]).ok_or(ListError::Format)?;
    let version = Version { epoch: number(4, 4) as u32, version: number(8, 4) as u32 };
    Ok((Header { kind, version, issued: UnixMs(number(12, 8)) }, number(20, 4) as u32))
}

/// Writes a whole signed list into `out`; `sign` is the list key's signature over the message it is given.
///
/// A delta of the same content is the issue's first [`HEAD`] bytes, its base's version, and [`crate::deny::Delta`].
pub fn write<'b>(
    header: &Header,
    key: &ListKey,
    content: &[u8],
    sign: impl FnOnce(&[&[u8]]) -> [u8; 64],
    out: &'b mut [u8],
) -> Result<&'b [u8], ListError> {
    let out = out.get_mut(..PREFIX + content.len()).ok_or(ListError::TooLarge)?;
    out[..2].copy_from_slice(b"WL");
    out[2] = FORMAT;
    out[3] = header.kind as u8;
    out[4..8].copy_from_slice(&header.version.epoch.to_be_bytes());
    out[8..12].copy_from_slice(&header.version.version.to_be_bytes());
    out[12..20].copy_from_slice(&header.issued.0.to_be_bytes());
    let len = u32::try_from(content.len()).map_err(|_| ListError::TooLarge)?;
    out[20..24].copy_from_slice(&len.to_be_bytes());
    out[24..56].copy_from_slice(&Sha256::digest(content));
    out[56..88].copy_from_slice(&key.x);
    out[88..SIGNED].copy_from_slice(&key.root_signature);
    let signature = sign(&[&out[..SIGNED]]);
    out[SIGNED..HEAD].copy_from_slice(&signature);
    out[HEAD..PREFIX].fill(0);
    out[PREFIX..].copy_from_slice(content);
    Ok(out)
}

/// A cryptographic suite for offline data authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Suite {
    /// P-256, EC-SDSA, SHA-256: EMV suite 10.
    P256,
    /// RSA with SHA-1.
    Rsa,
    /// SM2 with SM3.
    Sm2,
}

/// A certification authority's public key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaKey<'a> {
    /// Registered application provider identifier.
    pub rid: [u8; 5],
    /// The key's index under it.
    pub index: u8,
    /// What kind of key it is.
    pub suite: Suite,
    /// The last day it is good, packed decimal `YYYYMMDD`.
    pub expiry: [u8; 4],
    /// RSA: the modulus. P-256: x. SM2: x ‖ y.
    pub key: &'a [u8],
    /// RSA: the exponent, 1 or 3 bytes. Else empty.
    pub exponent: &'a [u8],
    /// SHA-1 over RID ‖ index ‖ key ‖ exponent.
    pub check_value: [u8; 20],
}

impl CaKey<'_> {
    /// The last day it is good; `None` if the field is no date, and then the key is not good at all.
    pub fn last_day(&self) -> Option<Date> {
        Date::from_yyyymmdd(self.expiry).ok()
    }

    /// True if the check value is the key's own.
    pub fn check_value_matches(&self) -> bool {
        self.check_value == crate::rsa::ca_check_value(&self.rid, self.index, self.key, self.exponent)
    }
}

/// The CA keys of a list's content: postcard, one after the other. Stops at the first malformed one.
pub fn ca_keys(content: &[u8]) -> impl Iterator<Item = Result<CaKey<'_>, ListError>> {
    sequence(content)
}

/// Checks the whole content of a CA key list, check values included.
pub fn check_ca_keys(content: &[u8]) -> Result<usize, ListError> {
    let mut count = 0;
    for key in ca_keys(content) {
        let key = key?;
        if !key.check_value_matches() {
            return Err(ListError::CheckValue);
        }
        key.last_day().ok_or(ListError::Content)?;
        count += 1;
    }
    Ok(count)
}

/// An issuer certificate that is no longer good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Revocation {
    /// The CA's RID.
    pub rid: [u8; 5],
    /// The CA key's index.
    pub index: u8,
    /// The issuer certificate's serial number.
    pub serial: [u8; 3],
}

/// The revocations of a list's content: postcard, one after the other.
pub fn revocations(content: &[u8]) -> impl Iterator<Item = Result<Revocation, ListError>> {
    sequence(content)
}

fn sequence<'a, T: Deserialize<'a> + 'a>(
    content: &'a [u8],
) -> impl Iterator<Item = Result<T, ListError>> + 'a {
    let mut rest = content;
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        match postcard::take_from_bytes(rest) {
            Ok((item, after)) if after.len() < rest.len() => {
                rest = after;
                Some(Ok(item))
            }
            _ => {
                rest = &[];
                Some(Err(ListError::Content))
            }
        }
    })
}

/// An application that the gate accepts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    /// AID, 5 to 16 bytes; a card's longer AID that begins with it is selected too where `partial`.
    pub aid: Vec<u8, 16>,
    /// Partial selection allowed.
    pub partial: bool,
    /// How its cards are proven genuine.
    pub suite: Suite,
    /// Terminal transaction qualifiers (9F66).
    pub ttq: [u8; 4],
    /// The gate's preference, lower first; 0 leaves the choice to the card's priority.
    pub preference: u8,
    /// Accepted formats of signed dynamic data, RSA only (05, 95).
    pub formats: Vec<u8, 4>,
    /// True if the card must carry a signed domain that includes this gate.
    pub domain_required: bool,
}

/// What a gate allows the timed exchange with a card to take, as calibrated with a card at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayLimits {
    /// What the gate's own reader takes, with the shortest exchange it can have, microseconds.
    pub overhead_us: u32,
    /// What may come on top, microseconds: how far exchanges of genuine cards scatter.
    pub grace_us: u32,
    /// The most of what a card says of its own time that is believed, microseconds; 0: cards are not timed.
    pub cap_us: u32,
}

impl RelayLimits {
    /// The longest that an exchange may take, microseconds, where the card says that it takes `max` for its answer and
    /// `transmission` for sending it, both in units of 100 µs.
    pub fn allowed_us(&self, max: u16, transmission: u16) -> u32 {
        let claimed = (u32::from(max) + u32::from(transmission)) * 100;
        self.overhead_us.saturating_add(self.grace_us).saturating_add(claimed.min(self.cap_us))
    }
}

/// What a tap may be allowed to take: no less than a quick phone needs, and no more than a gate can wait without being
/// taken for dead.
pub const TAP_LIMIT_MS: core::ops::RangeInclusive<u32> = 100..=5_000;

/// How a gate works: the content of a configuration list, postcard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateConfig {
    /// Minutes east of UTC.
    pub utc_offset_min: i16,
    /// The authorisation amount (9F02), fen.
    pub amount_fen: u64,
    /// ISO 4217 numeric, as in tag 5F2A: 0x0156.
    pub currency: u16,
    /// ISO 3166 numeric, as in tag 9F1A: 0x0156.
    pub country: u16,
    /// The same token at the same gate within this time, after a passage, is refused.
    pub passback_ms: u32,
    /// A tap that takes longer is refused; within [`TAP_LIMIT_MS`].
    pub tap_limit_ms: u32,
    /// A deny list older than this is stale; 0: never.
    pub list_max_age_ms: u64,
    /// With a stale list: true opens, false refuses.
    pub stale_opens: bool,
    /// What is accepted.
    pub applications: Vec<Application, 8>,
    /// What timed exchanges may take; `None`: cards are not timed. Left out of the content then, as it was before there
    /// was such a field.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub relay: Option<RelayLimits>,
}

impl GateConfig {
    /// Reads a configuration and checks its limits.
    pub fn parse(content: &[u8]) -> Result<Self, ListError> {
        let (mut config, rest) =
            postcard::take_from_bytes::<Self>(content).map_err(|_| ListError::Content)?;
        config.relay = match rest {
            [] => None,
            rest => match postcard::take_from_bytes(rest) {
                Ok((relay, [])) => relay,
                _ => return Err(ListError::Content),
            },
        };
        let sound = config.amount_fen <= 999_999_999_999
            && TAP_LIMIT_MS.contains(&config.tap_limit_ms)
            && (-840..=840).contains(&config.utc_offset_min)
            && config.applications.iter().all(|a| a.aid.len() >= 5);
        if sound { Ok(config) } else { Err(ListError::Content) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(relay: Option<RelayLimits>) -> GateConfig {
        GateConfig {
            utc_offset_min: 480,
            amount_fen: 300,
            currency: 0x0156,
            country: 0x0156,
            passback_ms: 60_000,
            tap_limit_ms: 1_000,
            list_max_age_ms: 0,
            stale_opens: false,
            applications: Vec::new(),
            relay,
        }
    }

    #[test]
    fn a_configuration_without_relay_limits_is_written_as_before_and_one_with_them_reads_back() {
        // Written before there was such a field: offset, amount, currency, country, passback, limit, age, stale,
        // applications.
        let old =
            [0xC0, 0x07, 0xAC, 0x02, 0xD6, 0x02, 0xD6, 0x02, 0xE0, 0xD4, 0x03, 0xE8, 0x07, 0x00, 0x00, 0x00];
        let mut buffer = [0; 64];
        assert_eq!(postcard::to_slice(&config(None), &mut buffer).unwrap(), old);
        assert_eq!(GateConfig::parse(&old), Ok(config(None)));
        let timed = config(Some(RelayLimits { overhead_us: 2_000, grace_us: 300, cap_us: 10_000 }));
        let content = postcard::to_slice(&timed, &mut buffer).unwrap();
        assert_eq!(GateConfig::parse(content), Ok(timed));
        let len = content.len();
        for cut in old.len() + 1..len {
            assert_eq!(GateConfig::parse(&buffer[..cut]), Err(ListError::Content), "cut at {cut}");
        }
        assert_eq!(GateConfig::parse(&buffer[..len + 1]), Err(ListError::Content), "a byte too many");
    }

    #[test]
    fn what_a_card_claims_counts_up_to_the_cap() {
        let limits = RelayLimits { overhead_us: 2_000, grace_us: 300, cap_us: 5_000 };
        assert_eq!(limits.allowed_us(20, 10), 2_000 + 300 + 3_000);
        assert_eq!(limits.allowed_us(20, 0xFFFF), 2_000 + 300 + 5_000);
        let endless = RelayLimits { overhead_us: u32::MAX, ..limits };
        assert_eq!(endless.allowed_us(0xFFFF, 0xFFFF), u32::MAX);
    }
}
