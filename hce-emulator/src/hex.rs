//! Bytes as hexadecimal text, in files and on the command line.

use serde::{Deserializer, Serializer, de};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Why text is not bytes. It never carries the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HexError {
    /// An odd number of digits.
    #[error("hexadecimal text has an even number of digits, not {0}")]
    Odd(usize),
    /// Something else than a hexadecimal digit.
    #[error("character {0} is no hexadecimal digit")]
    Digit(usize),
}

/// Upper-case digits, two a byte.
pub fn encode(bytes: &[u8]) -> String {
    let digit = |n: u8| char::from(if n < 10 { b'0' + n } else { b'A' + n - 10 });
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 0xF)]).collect()
}

/// Reads digits of either case, two a byte, without separators.
pub fn decode(text: &str) -> Result<Vec<u8>, HexError> {
    let text = text.as_bytes();
    if !text.len().is_multiple_of(2) {
        return Err(HexError::Odd(text.len()));
    }
    let digit = |i: usize| match text[i] {
        c @ b'0'..=b'9' => Ok(c - b'0'),
        c @ b'A'..=b'F' => Ok(c - b'A' + 10),
        c @ b'a'..=b'f' => Ok(c - b'a' + 10),
        _ => Err(HexError::Digit(i + 1)),
    };
    (0..text.len()).step_by(2).map(|i| Ok(digit(i)? << 4 | digit(i + 1)?)).collect()
}

/// For `#[serde(with)]`: any bytes as text.
pub(crate) fn serialize<S: Serializer, T: AsRef<[u8]>>(bytes: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&Zeroizing::new(encode(bytes.as_ref())))
}

/// For `#[serde(with)]`: text as bytes of the field's length.
pub(crate) fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: for<'a> TryFrom<&'a [u8]>,
{
    let text = Zeroizing::new(<String as serde::Deserialize>::deserialize(deserializer)?);
    let bytes = Zeroizing::new(decode(&text).map_err(de::Error::custom)?);
    T::try_from(&bytes)
        .map_err(|_| de::Error::custom(format_args!("{} bytes are not its length", bytes.len())))
}

/// Secret bytes of a fixed length: wiped when dropped, without `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret<const N: usize>([u8; N]);

impl<const N: usize> Secret<N> {
    /// Takes the bytes.
    pub const fn new(bytes: [u8; N]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn bytes(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> AsRef<[u8]> for Secret<N> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl<const N: usize> TryFrom<&[u8]> for Secret<N> {
    type Error = std::array::TryFromSliceError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes.try_into().map(Self)
    }
}

/// A secret number of any length, big-endian: wiped when dropped, without `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretNumber(Vec<u8>);

impl AsRef<[u8]> for SecretNumber {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for SecretNumber {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_text() {
        assert_eq!(encode(&[0x00, 0x9F, 0xAB]), "009FAB");
        assert_eq!(decode("009fAB"), Ok(vec![0x00, 0x9F, 0xAB]));
    }

    #[test]
    fn what_is_not_hexadecimal_is_named() {
        assert_eq!(decode("009"), Err(HexError::Odd(3)));
        assert_eq!(decode("0g"), Err(HexError::Digit(2)));
    }
}
