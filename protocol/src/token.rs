//! The payment token's number and its expiry, as cards give them: packed decimal, padded with `F`.

use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The fewest digits a token has (ISO/IEC 7812, with the 13-digit numbers still in circulation).
pub const MIN_DIGITS: usize = 13;
/// The most digits a token has.
pub const MAX_DIGITS: usize = 19;

/// Why bytes are not a token or an expiry. It never carries the digits themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenError {
    /// Fewer than 13 or more than 19 digits.
    Length(usize),
    /// Something other than a decimal digit before the padding, or after it anything but `F`.
    NotDecimal,
    /// A month outside 1 to 12.
    Month(u8),
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(n) => write!(f, "a token has 13 to 19 digits, not {n}"),
            Self::NotDecimal => f.write_str("a token has decimal digits only"),
            Self::Month(m) => write!(f, "an expiry has a month from 1 to 12, not {m}"),
        }
    }
}

impl core::error::Error for TokenError {}

/// A token number of 13 to 19 digits, or a plastic card's number used as one.
///
/// Kept as EMV tag 5A has it, padded with `F` to ten bytes, so that equal numbers are equal bytes.
/// Its `Debug` and `Display` show the last four digits and nothing more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token {
    bcd: [u8; 10],
}

impl Token {
    /// Reads the value of tag 5A, or the number field of an RSA card certificate: up to ten bytes.
    pub fn from_bcd(bytes: &[u8]) -> Result<Self, TokenError> {
        if bytes.len() > 10 {
            return Err(TokenError::Length(bytes.len() * 2));
        }
        let mut bcd = [0xFF; 10];
        bcd[..bytes.len()].copy_from_slice(bytes);
        let token = Self { bcd };
        let digits = (0..20).take_while(|&i| token.nibble(i) < 10).count();
        if (digits..20).any(|i| token.nibble(i) != 0xF) {
            return Err(TokenError::NotDecimal);
        }
        if (MIN_DIGITS..=MAX_DIGITS).contains(&digits) { Ok(token) } else { Err(TokenError::Length(digits)) }
    }

    /// Reads decimal text.
    pub fn from_digits(text: &str) -> Result<Self, TokenError> {
        let text = text.as_bytes();
        if !(MIN_DIGITS..=MAX_DIGITS).contains(&text.len()) {
            return Err(TokenError::Length(text.len()));
        }
        let mut bcd = [0xFF; 10];
        for (i, c) in text.iter().enumerate() {
            if !c.is_ascii_digit() {
                return Err(TokenError::NotDecimal);
            }
            let shift = if i % 2 == 0 { 4 } else { 0 };
            bcd[i / 2] = bcd[i / 2] & !(0xF << shift) | (c - b'0') << shift;
        }
        Ok(Self { bcd })
    }

    fn nibble(&self, i: usize) -> u8 {
        let byte = self.bcd[i / 2];
        if i.is_multiple_of(2) { byte >> 4 } else { byte & 0xF }
    }

    /// The number in packed decimal, padded with `F` to ten bytes.
    pub const fn bcd(&self) -> &[u8; 10] {
        &self.bcd
    }

    /// The shortest packed form, as tag 5A carries it (an odd number of digits ends in one `F`).
    pub fn bcd_short(&self) -> &[u8] {
        &self.bcd[..self.len().div_ceil(2)]
    }

    /// How many digits the number has.
    #[expect(clippy::len_without_is_empty, reason = "a token is never empty")]
    pub fn len(&self) -> usize {
        self.digits().count()
    }

    /// The digits, most significant first, each 0 to 9.
    pub fn digits(&self) -> impl Iterator<Item = u8> + '_ {
        (0..20).map(|i| self.nibble(i)).take_while(|&d| d < 10)
    }

    /// Writes the whole number as text: for files that are sealed, never for a log.
    pub fn write_digits<'b>(&self, out: &'b mut [u8; MAX_DIGITS]) -> &'b str {
        let mut len = 0;
        for d in self.digits() {
            out[len] = b'0' + d;
            len += 1;
        }
        // Only ASCII digits were written.
        core::str::from_utf8(&out[..len]).unwrap_or_default()
    }

    /// The last four digits, the only part that screens show.
    pub fn last_four(&self) -> LastFour {
        let n = self.len();
        let mut four = [0; 4];
        for (i, slot) in four.iter_mut().enumerate() {
            *slot = self.nibble(n - 4 + i);
        }
        LastFour(four)
    }

    /// True if the digits before the padding of `prefix` (packed decimal) begin this number.
    pub fn starts_with_bcd(&self, prefix: &[u8]) -> bool {
        let len = prefix.len() * 2;
        let digit = |i: usize| if i.is_multiple_of(2) { prefix[i / 2] >> 4 } else { prefix[i / 2] & 0xF };
        let significant = (0..len).take_while(|&i| digit(i) != 0xF).count();
        significant > 0 && significant <= self.len() && (0..significant).all(|i| digit(i) == self.nibble(i))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.last_four())
    }
}

// Only sealed bodies serialise a token; the wire form is the ten bytes of `bcd`.
impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.bcd.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bcd = <[u8; 10]>::deserialize(deserializer)?;
        Self::from_bcd(&bcd).map_err(de::Error::custom)
    }
}

/// The last four digits of a token. Shown as `…1234`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastFour([u8; 4]);

impl fmt::Display for LastFour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.0;
        write!(f, "…{a}{b}{c}{d}")
    }
}

/// The last month in which a token is good: the month and two digits of the year (2000 to 2099).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Expiry {
    /// Year, 0 to 99, of the 21st century.
    pub year: u8,
    /// Month, 1 to 12.
    pub month: u8,
}

impl Expiry {
    /// An expiry from a two-digit year and a month.
    pub fn new(year: u8, month: u8) -> Result<Self, TokenError> {
        match (year, month) {
            (0..=99, 1..=12) => Ok(Self { year, month }),
            (_, 1..=12) => Err(TokenError::NotDecimal),
            (_, month) => Err(TokenError::Month(month)),
        }
    }

    /// Reads packed decimal `YYMM`, as track 2 has it.
    pub fn from_yymm(bytes: [u8; 2]) -> Result<Self, TokenError> {
        Self::new(decimal(bytes[0])?, decimal(bytes[1])?)
    }

    /// Reads packed decimal `MMYY`, as RSA certificates have it.
    pub fn from_mmyy(bytes: [u8; 2]) -> Result<Self, TokenError> {
        Self::from_yymm([bytes[1], bytes[0]])
    }

    /// Packed decimal `YYMM`.
    pub const fn to_yymm(self) -> [u8; 2] {
        [to_bcd(self.year), to_bcd(self.month)]
    }
}

impl<'de> Deserialize<'de> for Expiry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (year, month) = <(u8, u8)>::deserialize(deserializer)?;
        Self::new(year, month).map_err(de::Error::custom)
    }
}

/// One byte of packed decimal as a number, 0 to 99.
pub fn decimal(byte: u8) -> Result<u8, TokenError> {
    let (high, low) = (byte >> 4, byte & 0xF);
    if high < 10 && low < 10 { Ok(high * 10 + low) } else { Err(TokenError::NotDecimal) }
}

/// A number below 100 as one byte of packed decimal.
pub const fn to_bcd(n: u8) -> u8 {
    ((n / 10 % 10) << 4) | (n % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_same_however_it_is_written() {
        let text = Token::from_digits("6222021234567890").unwrap();
        assert_eq!(Token::from_bcd(&[0x62, 0x22, 0x02, 0x12, 0x34, 0x56, 0x78, 0x90]), Ok(text));
        assert_eq!(text.bcd_short().len(), 8);
        assert_eq!(text.write_digits(&mut [0; 19]), "6222021234567890");
    }

    #[test]
    fn odd_lengths_end_in_one_filler() {
        let token = Token::from_digits("6222021234567890123").unwrap();
        assert_eq!(token.bcd()[9], 0x3F);
        assert_eq!(Token::from_bcd(token.bcd()), Ok(token));
    }

    #[test]
    fn what_is_no_token_is_named() {
        assert_eq!(Token::from_bcd(&[0x12; 6]), Err(TokenError::Length(12)));
        assert_eq!(Token::from_bcd(&[0x12, 0x3F, 0x45]), Err(TokenError::NotDecimal));
        assert_eq!(Token::from_digits("12345678901x34"), Err(TokenError::NotDecimal));
        assert_eq!(Token::from_bcd(&[0x11; 11]), Err(TokenError::Length(22)));
        assert_eq!(Expiry::from_yymm([0x26, 0x13]), Err(TokenError::Month(13)));
    }

    #[test]
    fn only_the_last_four_are_shown() {
        extern crate std;
        let token = Token::from_digits("6222021234567890").unwrap();
        assert_eq!(std::format!("{token:?} {}", token.last_four()), "Token(…7890) …7890");
    }

    #[test]
    fn an_issuer_identifier_is_a_prefix() {
        let token = Token::from_digits("6222021234567890").unwrap();
        assert!(token.starts_with_bcd(&[0x62, 0x22, 0x02, 0xFF]));
        assert!(!token.starts_with_bcd(&[0x62, 0x22, 0x03, 0xFF]));
        assert!(!token.starts_with_bcd(&[0xFF; 4]));
    }
}
