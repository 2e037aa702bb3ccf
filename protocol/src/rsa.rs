//! The RSA suite: certificates with message recovery and the signed dynamic data (EMV Book 2 sections 5 and 6;
//! fDDA as `docs/formats.md` has it). Public operations only; nothing here is secret.
//!
//! Moduli have 128 to 256 bytes, exponents are 3 or 65537, the hash is SHA-1 as the cards in circulation have it.

mod arithmetic;
mod certificate;
mod public;
mod sdad;

#[cfg(feature = "sm2")]
pub(crate) use certificate::is_issuer_id;
pub use certificate::{IccCert, IssuerCert};
pub use public::{Exponent, MAX_MODULUS, MIN_MODULUS, RsaKey, ca_check_value, check_ca_key, recover};
pub use sdad::{Fdda, Sdad};

use core::fmt;

/// How large a buffer the recovering functions need at most: a recovered block whose key's remainder is joined
/// to it in place.
pub const BUFFER: usize = MAX_MODULUS + 20;

/// Why an RSA key, certificate or signature is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RsaError {
    /// A modulus outside 128 to 256 bytes.
    ModulusLength(usize),
    /// A modulus that is even or begins with a zero byte.
    Modulus,
    /// An exponent other than 3 (`03`) and 65537 (`010001`).
    Exponent,
    /// A CA key whose check value is not its own.
    CheckValue,
    /// A block that is not as long as the modulus.
    Length {
        /// Bytes wanted.
        expected: usize,
        /// Bytes given.
        got: usize,
    },
    /// A block that is no number below the modulus.
    OutOfRange,
    /// The caller's buffer is too small; [`BUFFER`] bytes always suffice.
    Buffer(usize),
    /// The recovered header is not 6A.
    Header,
    /// The recovered trailer is not BC.
    Trailer,
    /// A format byte that is not the expected or an accepted one.
    Format(u8),
    /// A hash or key algorithm other than SHA-1 (01) and RSA (01).
    Algorithm(u8),
    /// The recovered hash is not that of the data.
    Hash,
    /// Something other than BB where padding should be.
    Padding,
    /// A certified key whose length field is outside what is supported, or exceeds the signer's.
    KeyLength(u8),
    /// A remainder that is not as long as the key's rest.
    Remainder {
        /// Bytes wanted.
        expected: usize,
        /// Bytes given.
        got: usize,
    },
    /// An issuer identifier that is not 3 to 8 digits padded with F.
    IssuerId,
    /// A certified card number that is no token.
    Pan,
    /// The issuer identifier does not begin the token, or the certified number is another one.
    PanMismatch,
    /// An expiry that is no month and year.
    Date,
    /// Past its expiry.
    Expired,
    /// ICC dynamic data without a dynamic number of 2 to 8 bytes, or for fDDA without the counter alone.
    DynamicData,
    /// Card authentication related data (9F69) that do not have 5 to 16 bytes.
    CardData(usize),
    /// An fDDA version other than 01.
    FddaVersion(u8),
    /// The signed transaction counter is not the one in the response.
    AtcMismatch,
}

impl fmt::Display for RsaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ModulusLength(n) => write!(f, "a modulus of {n} bytes is not supported"),
            Self::Modulus => f.write_str("the modulus is even or begins with zeros"),
            Self::Exponent => f.write_str("the exponent is neither 3 nor 65537"),
            Self::CheckValue => f.write_str("the check value is not that of the key"),
            Self::Length { expected, got } => write!(f, "the block has {got} bytes, the modulus {expected}"),
            Self::OutOfRange => f.write_str("the block is not below the modulus"),
            Self::Buffer(n) => write!(f, "a buffer of {n} bytes is too small"),
            Self::Header => f.write_str("the recovered header is not 6A"),
            Self::Trailer => f.write_str("the recovered trailer is not BC"),
            Self::Format(b) => write!(f, "format {b:02X} is not accepted"),
            Self::Algorithm(b) => write!(f, "algorithm {b:02X} is not supported"),
            Self::Hash => f.write_str("the recovered hash is not that of the data"),
            Self::Padding => f.write_str("the padding is not BB"),
            Self::KeyLength(n) => write!(f, "a certified key of {n} bytes is not supported"),
            Self::Remainder { expected, got } => write!(f, "the remainder has {got} bytes, not {expected}"),
            Self::IssuerId => f.write_str("the issuer identifier is not 3 to 8 digits"),
            Self::Pan => f.write_str("the certified number is no token"),
            Self::PanMismatch => f.write_str("the certificate is another token's"),
            Self::Date => f.write_str("the certificate's expiry is no month and year"),
            Self::Expired => f.write_str("the certificate has expired"),
            Self::DynamicData => f.write_str("the signed dynamic data are malformed"),
            Self::CardData(n) => write!(f, "card authentication data cannot have {n} bytes"),
            Self::FddaVersion(b) => write!(f, "fDDA version {b:02X} is not accepted"),
            Self::AtcMismatch => f.write_str("the signed transaction counter is another one"),
        }
    }
}

impl core::error::Error for RsaError {}

#[cfg(test)]
mod tests;
