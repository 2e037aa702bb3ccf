//! RSA public keys, the public operation, and the check value of an authority's key.

use super::RsaError;
use super::arithmetic::{self, Modulus};
use core::fmt;
use sha1::{Digest, Sha1};

/// The fewest bytes a modulus has (1024 bits).
pub const MIN_MODULUS: usize = 128;
/// The most bytes a modulus has (2048 bits).
pub const MAX_MODULUS: usize = 256;

/// A public exponent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exponent {
    /// 3.
    Three,
    /// 65537.
    F4,
}

impl Exponent {
    /// Reads an exponent as certificates and key lists have it: `03` or `010001`.
    pub const fn from_bytes(bytes: &[u8]) -> Result<Self, RsaError> {
        match bytes {
            [0x03] => Ok(Self::Three),
            [0x01, 0x00, 0x01] => Ok(Self::F4),
            _ => Err(RsaError::Exponent),
        }
    }

    /// The exponent in as few bytes as it needs.
    pub const fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Three => &[0x03],
            Self::F4 => &[0x01, 0x00, 0x01],
        }
    }
}

/// A public key: an odd modulus of [`MIN_MODULUS`] to [`MAX_MODULUS`] bytes without leading zeros.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RsaKey<'a> {
    modulus: &'a [u8],
    exponent: Exponent,
}

impl<'a> RsaKey<'a> {
    /// A key from a big-endian modulus.
    pub const fn new(modulus: &'a [u8], exponent: Exponent) -> Result<Self, RsaError> {
        let len = modulus.len();
        if len < MIN_MODULUS || len > MAX_MODULUS {
            return Err(RsaError::ModulusLength(len));
        }
        if modulus[0] == 0 || modulus[len - 1] & 1 == 0 {
            return Err(RsaError::Modulus);
        }
        Ok(Self { modulus, exponent })
    }

    /// The modulus, big-endian.
    pub const fn modulus(&self) -> &'a [u8] {
        self.modulus
    }

    /// The exponent.
    pub const fn exponent(&self) -> Exponent {
        self.exponent
    }
}

// A card's key tells riders apart, so it is not shown.
impl fmt::Debug for RsaKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RsaKey({} bits, {:?})", self.modulus.len() * 8, self.exponent)
    }
}

/// SHA-1 over RID, index, modulus and exponent: what lists of authority keys call the check value.
pub fn ca_check_value(rid: &[u8; 5], index: u8, modulus: &[u8], exponent: &[u8]) -> [u8; 20] {
    Sha1::new_with_prefix(rid)
        .chain_update([index])
        .chain_update(modulus)
        .chain_update(exponent)
        .finalize()
        .into()
}

/// Takes an authority's key into use: checks its form and its check value.
pub fn check_ca_key<'a>(
    rid: &[u8; 5],
    index: u8,
    modulus: &'a [u8],
    exponent: &[u8],
    check_value: &[u8; 20],
) -> Result<RsaKey<'a>, RsaError> {
    let key = RsaKey::new(modulus, Exponent::from_bytes(exponent)?)?;
    if ca_check_value(rid, index, modulus, exponent) != *check_value {
        return Err(RsaError::CheckValue);
    }
    Ok(key)
}

/// The public operation: `block^e mod n`, big-endian, as many bytes as the modulus, at the start of `out`.
/// Returns how many. `block` must have the length of the modulus and be below it.
pub fn recover(key: &RsaKey<'_>, block: &[u8], out: &mut [u8]) -> Result<usize, RsaError> {
    let len = key.modulus.len();
    if block.len() != len {
        return Err(RsaError::Length { expected: len, got: block.len() });
    }
    let capacity = out.len();
    let out = out.get_mut(..len).ok_or(RsaError::Buffer(capacity))?;
    if !arithmetic::is_below(block, key.modulus) {
        return Err(RsaError::OutOfRange);
    }
    let modulus = Modulus::new(key.modulus).ok_or(RsaError::Modulus)?;
    let mut number = arithmetic::from_bytes(block);
    let squarings = match key.exponent {
        Exponent::Three => 1,
        Exponent::F4 => 16,
    };
    modulus.power(&mut number, squarings);
    arithmetic::to_bytes(&number, out);
    Ok(len)
}
