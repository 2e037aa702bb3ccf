//! The signed lists that the host sends to gates: deny list, CA keys, revocations, configuration.
//!
//! Layout, numbers big-endian:
//! `W L` | format 1 | kind 1 | epoch 4 | version 4 | base version 4 (0: the whole list) | issued, Unix ms, 8 |
//! content length 4 | list key x 32 | root's signature over that key 64 | content | list key's signature over
//! all before it 64. Signatures are EC-SDSA over P-256, so that a gate needs one verifier.

use crate::ecc::{PublicKey, Verifier};
use crate::time::{Date, UnixMs};
use crate::token::{Expiry, Token};
use core::fmt;
use heapless::Vec;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes before the content.
pub const PREFIX: usize = 28 + 32 + 64;
/// Bytes after it.
pub const SUFFIX: usize = 64;
const FORMAT: u8 = 1;
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
    /// The version that a delta builds on; 0 for a whole list.
    pub base: u32,
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

/// A list whose signatures verified. Nothing else gives its content.
#[derive(Debug, Clone, Copy)]
pub struct SignedList<'a> {
    /// What it says of itself.
    pub header: Header,
    /// Its content, by kind: [`DenyList`], [`ca_keys`], [`revocations`], [`GateConfig`].
    pub content: &'a [u8],
}

impl<'a> SignedList<'a> {
    /// Verifies a list under the root key; two public-key operations.
    pub fn verify<V: Verifier>(
        bytes: &'a [u8],
        root: &PublicKey,
        verifier: &mut V,
    ) -> Result<Self, ListError> {
        let header = peek(bytes)?;
        let content_end = bytes.len() - SUFFIX;
        let mut list_key = [0; 32];
        list_key.copy_from_slice(&bytes[28..60]);
        let mut signature = [0; 64];
        signature.copy_from_slice(&bytes[60..PREFIX]);
        if !verifier.verify(root, &ListKey::message(&list_key), &signature) {
            return Err(ListError::ListKey);
        }
        signature.copy_from_slice(&bytes[content_end..]);
        if !verifier.verify(&PublicKey::from_x(list_key), &[&bytes[..content_end]], &signature) {
            return Err(ListError::Signature);
        }
        Ok(Self { header, content: &bytes[PREFIX..content_end] })
    }
}

/// Reads a list's header without trusting it: to know what is coming, and to name what was refused.
pub fn peek(bytes: &[u8]) -> Result<Header, ListError> {
    if bytes.len() < PREFIX + SUFFIX {
        return Err(ListError::Length);
    }
    if &bytes[..2] != b"WL" || bytes[2] != FORMAT {
        return Err(ListError::Format);
    }
    let number = |at: usize, len: usize| bytes[at..at + len].iter().fold(0u64, |n, &b| n << 8 | u64::from(b));
    let kind = Kind::from_code(bytes[3]).ok_or(ListError::Format)?;
    if number(24, 4) != (bytes.len() - PREFIX - SUFFIX) as u64 {
        return Err(ListError::Length);
    }
    Ok(Header {
        kind,
        version: Version { epoch: number(4, 4) as u32, version: number(8, 4) as u32 },
        base: number(12, 4) as u32,
        issued: UnixMs(number(16, 8)),
    })
}

/// Writes a signed list into `out`; `sign` is the list key's signature over the message it is given.
pub fn write<'b>(
    header: &Header,
    key: &ListKey,
    content: &[u8],
    sign: impl FnOnce(&[&[u8]]) -> [u8; 64],
    out: &'b mut [u8],
) -> Result<&'b [u8], ListError> {
    let end = PREFIX + content.len();
    let total = end + SUFFIX;
    let out = out.get_mut(..total).ok_or(ListError::TooLarge)?;
    out[..2].copy_from_slice(b"WL");
    out[2] = FORMAT;
    out[3] = header.kind as u8;
    out[4..8].copy_from_slice(&header.version.epoch.to_be_bytes());
    out[8..12].copy_from_slice(&header.version.version.to_be_bytes());
    out[12..16].copy_from_slice(&header.base.to_be_bytes());
    out[16..24].copy_from_slice(&header.issued.0.to_be_bytes());
    let len = u32::try_from(content.len()).map_err(|_| ListError::TooLarge)?;
    out[24..28].copy_from_slice(&len.to_be_bytes());
    out[28..60].copy_from_slice(&key.x);
    out[60..PREFIX].copy_from_slice(&key.root_signature);
    out[PREFIX..end].copy_from_slice(content);
    let signature = sign(&[&out[..end]]);
    out[end..].copy_from_slice(&signature);
    Ok(out)
}

/// One entry of the deny list: six bytes of the token's salted hash, two of the hash with the expiry.
pub type DenyEntry = [u8; 8];

/// The entry of a token and expiry under a salt.
pub fn deny_entry(salt: &[u8; 8], token: &Token, expiry: Expiry) -> DenyEntry {
    let mut entry = [0; 8];
    entry[..6].copy_from_slice(&token_part(salt, token));
    entry[6..].copy_from_slice(&expiry_part(salt, token, expiry));
    entry
}

fn token_part(salt: &[u8; 8], token: &Token) -> [u8; 6] {
    let hash = Sha256::new().chain_update(salt).chain_update(token.bcd()).finalize();
    core::array::from_fn(|i| hash[i])
}

fn expiry_part(salt: &[u8; 8], token: &Token, expiry: Expiry) -> [u8; 2] {
    let hash =
        Sha256::new().chain_update(salt).chain_update(token.bcd()).chain_update(expiry.to_yymm()).finalize();
    [hash[0], hash[1]]
}

/// The deny list: salt 8 | entries, 8 bytes each, strictly ascending.
///
/// A token that is not listed matches by chance with probability n / 2^48 where its expiry is unsigned, and
/// n / 2^64 where it is signed.
#[derive(Debug, Clone, Copy)]
pub struct DenyList<'a> {
    salt: &'a [u8; 8],
    entries: &'a [DenyEntry],
}

impl<'a> DenyList<'a> {
    /// The list without entries.
    pub const EMPTY: DenyList<'static> = DenyList { salt: &[0; 8], entries: &[] };

    /// Reads the content of a deny list and checks its order.
    pub fn parse(content: &'a [u8]) -> Result<Self, ListError> {
        let (salt, rest) = content.split_first_chunk().ok_or(ListError::Content)?;
        let (entries, []) = rest.as_chunks::<8>() else { return Err(ListError::Content) };
        if entries.is_sorted_by(|a, b| a < b) { Ok(Self { salt, entries }) } else { Err(ListError::Content) }
    }

    /// Takes content that [`DenyList::parse`] has accepted before, without checking its order again.
    pub fn parsed(content: &'a [u8]) -> Option<Self> {
        let (salt, rest) = content.split_first_chunk()?;
        Some(Self { salt, entries: rest.as_chunks::<8>().0 })
    }

    /// How many entries it has.
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if it denies nobody.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// True if the token is listed: with this expiry, or with any where the card signs none.
    pub fn denies(&self, token: &Token, expiry: Option<Expiry>) -> bool {
        if self.is_empty() {
            return false;
        }
        let mut from = [0; 8];
        from[..6].copy_from_slice(&token_part(self.salt, token));
        let start = self.entries.partition_point(|e| *e < from);
        let same_token = self.entries[start..].iter().take_while(|e| e[..6] == from[..6]);
        match expiry {
            None => same_token.count() > 0,
            Some(expiry) => {
                let part = expiry_part(self.salt, token, expiry);
                same_token.into_iter().any(|e| e[6..] == part)
            }
        }
    }
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
    /// A tap that takes longer is refused.
    pub tap_limit_ms: u32,
    /// A deny list older than this is stale; 0: never.
    pub list_max_age_ms: u64,
    /// With a stale list: true opens, false refuses.
    pub stale_opens: bool,
    /// What is accepted.
    pub applications: Vec<Application, 8>,
}

impl GateConfig {
    /// Reads a configuration and checks its limits.
    pub fn parse(content: &[u8]) -> Result<Self, ListError> {
        match postcard::take_from_bytes::<Self>(content) {
            Ok((config, []))
                if config.amount_fen <= 999_999_999_999
                    && (-840..=840).contains(&config.utc_offset_min)
                    && config.applications.iter().all(|a| a.aid.len() >= 5) =>
            {
                Ok(config)
            }
            _ => Err(ListError::Content),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Token {
        Token::from_digits(text).unwrap()
    }

    fn expiry(year: u8, month: u8) -> Expiry {
        Expiry::new(year, month).unwrap()
    }

    #[test]
    fn a_renewed_token_is_not_denied_but_an_unsigned_expiry_is() {
        let salt = [9; 8];
        let listed = token("6222021234567890");
        let mut content = std::vec::Vec::from(salt);
        content.extend(deny_entry(&salt, &listed, expiry(28, 5)));
        let list = DenyList::parse(&content).unwrap();
        assert!(list.denies(&listed, Some(expiry(28, 5))));
        assert!(!list.denies(&listed, Some(expiry(31, 5))));
        assert!(list.denies(&listed, None));
        assert!(!list.denies(&token("6222021234567891"), None));
    }

    #[test]
    fn a_list_out_of_order_is_refused() {
        let mut content = std::vec![0; 8];
        content.extend([2; 8]);
        content.extend([1; 8]);
        assert_eq!(DenyList::parse(&content).err(), Some(ListError::Content));
        content.truncate(15);
        assert_eq!(DenyList::parse(&content).err(), Some(ListError::Content));
        assert_eq!(DenyList::parse(&[0; 7]).err(), Some(ListError::Content));
    }

    extern crate std;
}
