//! The sealed tap: what a gate stores and sends, so that nothing in the clear identifies a rider.
//!
//! Layout: version 2 | KSN 12 | sequence number 4, big-endian | chain 8 | body, AES-128-CCM | tag 16. The header is
//! the associated data. The nonce is 13 zero bytes: a DUKPT key (usage 3000) seals one body and no other.
//!
//! The chain is the first half of the tag of the entry before it in the gate's journal. So each tag authenticates
//! the one before it: an entry that is replaced, even by one under the right key, does not fit its successor.

use crate::dukpt::{Key, Ksn};
use crate::tap::{Entry, MAX_BODY};
use aes::Aes128;
use ccm::aead::{AeadInOut, KeyInit};
use ccm::consts::{U13, U16};
use core::fmt;

type Cipher = ccm::Ccm<Aes128, U16, U13>;

/// The format that this code writes.
pub const VERSION: u8 = 2;
/// Bytes of the clear header.
pub const HEADER: usize = 25;
/// Bytes of the authentication tag.
pub const TAG: usize = 16;
/// The longest sealed entry.
pub const MAX_SEALED: usize = HEADER + MAX_BODY + TAG;

/// Why bytes are not a sealed entry, or do not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealError {
    /// Shorter than header and tag, or longer than [`MAX_SEALED`].
    Length(usize),
    /// A format version that this code does not read.
    Version(u8),
    /// A counter that the key scheme never uses.
    Counter(u32),
    /// The tag does not match: altered, forged, or another key.
    Forged,
    /// It opened, but the body is not an entry.
    Body,
    /// The body does not fit [`MAX_BODY`].
    TooLong,
}

impl SealError {
    /// The word for it in breaks and logs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Length(_) => "length",
            Self::Version(_) => "version",
            Self::Counter(_) => "counter",
            Self::Forged => "forged",
            Self::Body => "body",
            Self::TooLong => "too_long",
        }
    }
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(n) => write!(f, "a sealed entry of {n} bytes"),
            Self::Version(v) => write!(f, "sealed format version {v}"),
            Self::Counter(c) => write!(f, "key counter {c:#x} is none of the scheme's"),
            Self::Forged => f.write_str("the authentication tag does not match"),
            Self::Body => f.write_str("the opened body is not an entry"),
            Self::TooLong => f.write_str("the entry is too long to seal"),
        }
    }
}

impl core::error::Error for SealError {}

/// What an entry says of the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain(pub [u8; 8]);

impl Chain {
    /// Before the first entry.
    pub const START: Self = Self([0; 8]);

    /// What the entry after this one says: the first half of its tag.
    pub fn after(sealed: &[u8]) -> Self {
        let mut chain = [0; 8];
        if let Some(tag) = sealed.len().checked_sub(TAG).and_then(|at| sealed.get(at..at + chain.len())) {
            chain.copy_from_slice(tag);
        }
        Self(chain)
    }
}

/// The clear header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Which key sealed it.
    pub ksn: Ksn,
    /// Its place in the gate's journal, from 1, without gaps.
    pub sequence: u32,
    /// The entry that it follows.
    pub chain: Chain,
}

impl Header {
    fn to_bytes(self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[0] = VERSION;
        out[1..13].copy_from_slice(&self.ksn.to_bytes());
        out[13..17].copy_from_slice(&self.sequence.to_be_bytes());
        out[17..].copy_from_slice(&self.chain.0);
        out
    }
}

/// A sealed entry whose form has been checked; its seal has not.
#[derive(Debug, Clone, Copy)]
pub struct Sealed<'a> {
    /// The clear header.
    pub header: Header,
    bytes: &'a [u8],
}

impl<'a> Sealed<'a> {
    /// Checks form and header.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SealError> {
        if !(HEADER + TAG..=MAX_SEALED).contains(&bytes.len()) {
            return Err(SealError::Length(bytes.len()));
        }
        if bytes[0] != VERSION {
            return Err(SealError::Version(bytes[0]));
        }
        let mut ksn = [0; 12];
        ksn.copy_from_slice(&bytes[1..13]);
        let ksn = Ksn::from_bytes(&ksn);
        if !ksn.is_valid() {
            return Err(SealError::Counter(ksn.counter));
        }
        let sequence = bytes[13..17].iter().fold(0, |n, &b| n << 8 | u32::from(b));
        let mut chain = Chain::START;
        chain.0.copy_from_slice(&bytes[17..HEADER]);
        Ok(Self { header: Header { ksn, sequence, chain }, bytes })
    }

    /// The whole sealed entry, as received.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Opens it into `plain` and reads the entry there.
    pub fn open<'p>(&self, key: &Key, plain: &'p mut [u8; MAX_BODY]) -> Result<Entry<'p>, SealError> {
        let (header, rest) = self.bytes.split_at(HEADER);
        let (body, tag) = rest.split_at(rest.len() - TAG);
        let plain = &mut plain[..body.len()];
        plain.copy_from_slice(body);
        let tag: &[u8; TAG] = tag.try_into().map_err(|_| SealError::Length(self.bytes.len()))?;
        cipher(key)
            .decrypt_inout_detached(&[0; 13].into(), header, (&mut *plain).into(), tag.into())
            .map_err(|_| SealError::Forged)?;
        match postcard::take_from_bytes(plain) {
            Ok((entry, [])) => Ok(entry),
            _ => Err(SealError::Body),
        }
    }
}

/// Seals an entry with a key that has sealed nothing else; gives the sealed bytes.
pub fn seal<'b>(
    key: &Key,
    header: Header,
    entry: &Entry<'_>,
    out: &'b mut [u8; MAX_SEALED],
) -> Result<&'b [u8], SealError> {
    let clear = header.to_bytes();
    out[..HEADER].copy_from_slice(&clear);
    let len =
        postcard::to_slice(entry, &mut out[HEADER..HEADER + MAX_BODY]).map_err(|_| SealError::TooLong)?.len();
    let tag = cipher(key)
        .encrypt_inout_detached(&[0; 13].into(), &clear, (&mut out[HEADER..HEADER + len]).into())
        .map_err(|_| SealError::TooLong)?;
    let end = HEADER + len + TAG;
    out[HEADER + len..end].copy_from_slice(&tag);
    Ok(&out[..end])
}

fn cipher(key: &Key) -> Cipher {
    Cipher::new(key.bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dukpt::KeyId;
    use crate::tap::{Outcome, Passage};
    use crate::time::UnixMs;

    const HEAD: Header =
        Header { ksn: Ksn { key_id: KeyId([7; 8]), counter: 5 }, sequence: 9, chain: Chain([3; 8]) };

    fn sealed(out: &mut [u8; MAX_SEALED]) -> &[u8] {
        let entry =
            Entry::Passage(Passage { time: UnixMs(1_795_478_399_000), of: 8, outcome: Outcome::Passed });
        seal(&Key::new([1; 16]), HEAD, &entry, out).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_again() {
        let mut out = [0; MAX_SEALED];
        let parsed = Sealed::parse(sealed(&mut out)).unwrap();
        assert_eq!(parsed.header, HEAD);
        let mut plain = [0; MAX_BODY];
        let entry = parsed.open(&Key::new([1; 16]), &mut plain).unwrap();
        assert!(matches!(entry, Entry::Passage(Passage { of: 8, .. })));
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let mut out = [0; MAX_SEALED];
        let len = sealed(&mut out).len();
        for bit in 0..len * 8 {
            let mut changed = out;
            changed[bit / 8] ^= 1 << (bit % 8);
            let opened = Sealed::parse(&changed[..len])
                .and_then(|s| s.open(&Key::new([1; 16]), &mut [0; MAX_BODY]).map(drop));
            assert!(opened.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn the_chain_after_an_entry_is_half_its_tag() {
        let mut out = [0; MAX_SEALED];
        let whole = sealed(&mut out);
        assert_eq!(Chain::after(whole).0, whole[whole.len() - 16..whole.len() - 8]);
        assert_eq!(Chain::after(&[1; 15]), Chain::START);
    }

    #[test]
    fn another_key_does_not_open_it() {
        let mut out = [0; MAX_SEALED];
        let opened =
            Sealed::parse(sealed(&mut out)).unwrap().open(&Key::new([2; 16]), &mut [0; MAX_BODY]).map(drop);
        assert_eq!(opened, Err(SealError::Forged));
    }
}
