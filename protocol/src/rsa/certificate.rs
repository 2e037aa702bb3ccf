//! Issuer and card certificates with message recovery.
//!
//! A recovered block is `6A | format | … | hash 20 | BC`. The key in it is cut where the block ends; the rest, if
//! any, is the remainder, which is joined to it in the caller's buffer.

use super::RsaError;
use super::public::{Exponent, MAX_MODULUS, MIN_MODULUS, RsaKey, recover};
use crate::time::Date;
use crate::token::{Expiry, Token};
use sha1::{Digest, Sha1};

const SHA1: u8 = 0x01;
const RSA: u8 = 0x01;
const PAD: u8 = 0xBB;
/// Bytes after the part with the key: hash and trailer.
const TAIL: usize = 21;

/// A genuine issuer certificate and the key in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuerCert<'b> {
    /// The first 3 to 8 digits of the issuer's tokens, packed, padded with F.
    pub issuer_id: [u8; 4],
    /// The last month in which the certificate is good.
    pub expiry: Expiry,
    /// Serial number, which a revocation list names.
    pub serial: [u8; 3],
    /// The issuer's key; its modulus lies in the caller's buffer.
    pub key: RsaKey<'b>,
}

impl<'b> IssuerCert<'b> {
    /// Recovers and checks a certificate (tag 90) with the authority's key: one public key operation. `remainder` is
    /// tag 92 (empty where absent), `exponent` 9F32. The buffer should have [`super::BUFFER`] bytes.
    pub fn recover(
        ca: &RsaKey<'_>,
        certificate: &[u8],
        remainder: &[u8],
        exponent: &[u8],
        buf: &'b mut [u8],
    ) -> Result<Self, RsaError> {
        const KEY_AT: usize = 15;
        let len = open(ca, certificate, 0x02, &[remainder, exponent], buf)?;
        let [issuer_id @ .., month, year, s0, s1, s2, hash, algorithm, key_len, exponent_len] =
            array::<13>(buf, 2)?;
        check_algorithms(hash, algorithm)?;
        if !is_issuer_id(&issuer_id) {
            return Err(RsaError::IssuerId);
        }
        let expiry = Expiry::from_mmyy([month, year]).map_err(|_| RsaError::Date)?;
        let exponent = certified_exponent(exponent, exponent_len)?;
        let modulus = join(buf, KEY_AT, len, key_len, remainder)?;
        Ok(Self { issuer_id, expiry, serial: [s0, s1, s2], key: RsaKey::new(modulus, exponent)? })
    }

    /// Checks that the issuer identifier begins the token.
    pub fn check_token(&self, token: &Token) -> Result<(), RsaError> {
        if token.starts_with_bcd(&self.issuer_id) { Ok(()) } else { Err(RsaError::PanMismatch) }
    }

    /// Checks the expiry: good through the last day of its month.
    pub fn check_date(&self, today: Date) -> Result<(), RsaError> {
        check_date(self.expiry, today)
    }
}

/// A genuine card certificate and the key in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IccCert<'b> {
    /// The token that the issuer certified.
    pub pan: Token,
    /// The last month in which the certificate is good.
    pub expiry: Expiry,
    /// Serial number.
    pub serial: [u8; 3],
    /// The card's key; its modulus lies in the caller's buffer.
    pub key: RsaKey<'b>,
}

impl<'b> IccCert<'b> {
    /// Recovers and checks a certificate (9F46) with the issuer's key: one public key operation. `remainder` is 9F48
    /// (empty where absent), `exponent` 9F47. `static_data`, joined, are the records for offline data
    /// authentication, then the AIP's value where tag 9F4A is `82`. The buffer should have [`super::BUFFER`] bytes.
    pub fn recover(
        issuer: &RsaKey<'_>,
        certificate: &[u8],
        remainder: &[u8],
        exponent: &[u8],
        static_data: &[&[u8]],
        buf: &'b mut [u8],
    ) -> Result<Self, RsaError> {
        const KEY_AT: usize = 21;
        // The hash takes the static data after the exponent; `open` takes a fixed head and a list.
        let len = open_with(issuer, certificate, 0x04, &[remainder, exponent], static_data, buf)?;
        let pan: [u8; 10] = array(buf, 2)?;
        let [month, year, s0, s1, s2, hash, algorithm, key_len, exponent_len] = array::<9>(buf, 12)?;
        check_algorithms(hash, algorithm)?;
        let pan = Token::from_bcd(&pan).map_err(|_| RsaError::Pan)?;
        let expiry = Expiry::from_mmyy([month, year]).map_err(|_| RsaError::Date)?;
        let exponent = certified_exponent(exponent, exponent_len)?;
        let modulus = join(buf, KEY_AT, len, key_len, remainder)?;
        Ok(Self { pan, expiry, serial: [s0, s1, s2], key: RsaKey::new(modulus, exponent)? })
    }

    /// Checks that the certificate is this token's.
    pub fn check_token(&self, token: &Token) -> Result<(), RsaError> {
        if self.pan == *token { Ok(()) } else { Err(RsaError::PanMismatch) }
    }

    /// Checks the expiry: good through the last day of its month.
    pub fn check_date(&self, today: Date) -> Result<(), RsaError> {
        check_date(self.expiry, today)
    }
}

/// Recovers a block into `buf` and checks header, trailer, format and hash. Returns the block's length.
pub(super) fn open(
    key: &RsaKey<'_>,
    block: &[u8],
    format: u8,
    hashed: &[&[u8]],
    buf: &mut [u8],
) -> Result<usize, RsaError> {
    open_with(key, block, format, hashed, &[], buf)
}

fn open_with(
    key: &RsaKey<'_>,
    block: &[u8],
    format: u8,
    hashed: &[&[u8]],
    more: &[&[u8]],
    buf: &mut [u8],
) -> Result<usize, RsaError> {
    let len = recover(key, block, buf)?;
    check_frame(&buf[..len], |found| found == format)?;
    check_hash(&buf[..len], hashed.iter().chain(more))?;
    Ok(len)
}

/// Checks header, trailer and format of a recovered block.
pub(super) fn check_frame(block: &[u8], accepts: impl FnOnce(u8) -> bool) -> Result<(), RsaError> {
    let [0x6A, format, .., trailer] = *block else { return Err(RsaError::Header) };
    if trailer != 0xBC {
        return Err(RsaError::Trailer);
    }
    if accepts(format) { Ok(()) } else { Err(RsaError::Format(format)) }
}

/// Checks the hash in a recovered block: over all between header and hash, then what was not in the block.
pub(super) fn check_hash<'a>(
    block: &[u8],
    rest: impl IntoIterator<Item = &'a &'a [u8]>,
) -> Result<(), RsaError> {
    let (signed, tail) = block.split_last_chunk::<TAIL>().ok_or(RsaError::Hash)?;
    let mut hash = Sha1::new_with_prefix(signed.get(1..).unwrap_or_default());
    rest.into_iter().for_each(|part| hash.update(part));
    if hash.finalize()[..] == tail[..TAIL - 1] { Ok(()) } else { Err(RsaError::Hash) }
}

/// Joins the key's part in the block with its remainder, over the hash that is no longer needed.
fn join<'b>(
    buf: &'b mut [u8],
    key_at: usize,
    block_len: usize,
    key_len: u8,
    remainder: &[u8],
) -> Result<&'b [u8], RsaError> {
    let wanted = usize::from(key_len);
    if !(MIN_MODULUS..=MAX_MODULUS).contains(&wanted) || wanted > block_len {
        return Err(RsaError::KeyLength(key_len));
    }
    let room = block_len - TAIL - key_at;
    let expected = wanted.saturating_sub(room);
    if remainder.len() != expected {
        return Err(RsaError::Remainder { expected, got: remainder.len() });
    }
    let capacity = buf.len();
    if expected == 0 {
        let padding = &buf[key_at + wanted..key_at + room];
        if padding.iter().any(|&byte| byte != PAD) {
            return Err(RsaError::Padding);
        }
    } else {
        let slot = buf.get_mut(key_at + room..key_at + wanted).ok_or(RsaError::Buffer(capacity))?;
        slot.copy_from_slice(remainder);
    }
    buf.get(key_at..key_at + wanted).ok_or(RsaError::Buffer(capacity))
}

pub(super) fn check_algorithms(hash: u8, algorithm: u8) -> Result<(), RsaError> {
    match (hash, algorithm) {
        (SHA1, RSA) => Ok(()),
        (SHA1, other) | (other, _) => Err(RsaError::Algorithm(other)),
    }
}

fn certified_exponent(exponent: &[u8], certified_len: u8) -> Result<Exponent, RsaError> {
    if exponent.len() != usize::from(certified_len) {
        return Err(RsaError::Exponent);
    }
    Exponent::from_bytes(exponent)
}

fn check_date(expiry: Expiry, today: Date) -> Result<(), RsaError> {
    if today <= Date::last_of(expiry) { Ok(()) } else { Err(RsaError::Expired) }
}

/// `N` bytes of a recovered block.
fn array<const N: usize>(block: &[u8], at: usize) -> Result<[u8; N], RsaError> {
    block.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(RsaError::Buffer(block.len()))
}

/// True for 3 to 8 digits, packed, padded with F.
pub(crate) fn is_issuer_id(id: &[u8; 4]) -> bool {
    let nibble = |i: usize| if i.is_multiple_of(2) { id[i / 2] >> 4 } else { id[i / 2] & 0xF };
    let digits = (0..8).take_while(|&i| nibble(i) < 10).count();
    digits >= 3 && (digits..8).all(|i| nibble(i) == 0xF)
}
