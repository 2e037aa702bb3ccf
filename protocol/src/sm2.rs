//! The SM2 suite (feature `sm2`): certificates and dynamic signatures of the national suite, SM2 with SM3, after PBOC
//! 3.0 as deployed code has it (`docs/formats.md`). Signatures are those of GM/T 0003.2; the arithmetic is crate
//! `sm2`'s.
//!
//! No card was at hand. What no source settles and is a plain value is a [`Convention`]; what is assumed of it stands in
//! [`unverified`] and nowhere else.

use crate::rsa::{Fdda, is_issuer_id};
use crate::token::{Expiry, Token};
use core::fmt;
use sm2::dsa::signature::{MultipartSigner, MultipartVerifier};
use sm2::dsa::{self, Signature};

/// What is assumed where the sources at hand leave it open: unverified for real cards.
pub mod unverified {
    /// The signer's identifier, which every signature covers by its hash: the usual default.
    pub const USER_ID: &str = "1234567812345678";
    /// The two bytes between signature algorithm and key length of a certificate, as issued here. They are covered by
    /// the signature; any are accepted.
    pub const KEY_PARAMETERS: [u8; 2] = [0x00, 0x11];
    /// What stands before the transaction counter in the ICC dynamic data of a quick signature: the length of a dynamic
    /// number that is the counter, as RSA's have it.
    pub const COUNTER_PREFIX: &[u8] = &[2];
}

mod convention;

pub use convention::{Convention, MAX_COUNTER_PREFIX, MAX_USER_ID};

/// Bytes of an issuer certificate.
pub const ISSUER_CERTIFICATE_LEN: usize = 142;
/// Bytes of a card certificate.
pub const CARD_CERTIFICATE_LEN: usize = 148;
/// Bytes of a key: x ‖ y.
pub const KEY_LEN: usize = 64;
/// Bytes of a signature: r ‖ s.
pub const SIGNATURE_LEN: usize = 64;
/// The most bytes of a quick dynamic signature: format, length, data, signature.
pub const MAX_QUICK_SIGNATURE: usize = 2 + MAX_COUNTER_PREFIX + 2 + SIGNATURE_LEN;

const ISSUER_FORMAT: u8 = 0x12;
const CARD_FORMAT: u8 = 0x14;
const DYNAMIC_FORMAT: u8 = 0x15;
/// Signature algorithm: SM2 with SM3.
const ALGORITHM: u8 = 0x04;
/// Where the signature algorithm stands in the certificates; two bytes, the key's length and the key follow.
const ISSUER_ALGORITHM_AT: usize = 10;
const CARD_ALGORITHM_AT: usize = 16;

/// Why an SM2 key, certificate or signature is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sm2Error {
    /// Not as long as its format says.
    Length(usize),
    /// Another format byte.
    Format(u8),
    /// Another signature algorithm than 04.
    Algorithm(u8),
    /// A key of another length than 64 bytes.
    KeyLength(u8),
    /// An issuer identifier that is not 3 to 8 digits padded with F.
    IssuerId,
    /// A certified card number that is no token.
    Pan,
    /// An expiry that is no month and year.
    Date,
    /// The signature is not the key's over these data, or the key is no point of the curve.
    Signature,
    /// Dynamic data of another form.
    DynamicData,
    /// Card authentication related data (9F69) that do not have 5 to 16 bytes.
    CardData(usize),
    /// An fDDA version other than 01.
    FddaVersion(u8),
    /// The signed transaction counter is not the one in the response.
    AtcMismatch,
    /// A signer's identifier of more than [`MAX_USER_ID`] bytes.
    UserId(usize),
    /// More than [`MAX_COUNTER_PREFIX`] bytes before the transaction counter.
    CounterPrefix(usize),
}

impl fmt::Display for Sm2Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(n) => write!(f, "{n} bytes are not the length of this format"),
            Self::Format(b) => write!(f, "format {b:02X} is not the one expected"),
            Self::Algorithm(b) => write!(f, "signature algorithm {b:02X} is not SM2"),
            Self::KeyLength(n) => write!(f, "a key cannot have {n} bytes"),
            Self::IssuerId => f.write_str("the issuer identifier is not 3 to 8 digits"),
            Self::Pan => f.write_str("the certified number is no token"),
            Self::Date => f.write_str("the certificate's expiry is no month and year"),
            Self::Signature => f.write_str("the signature does not verify"),
            Self::DynamicData => f.write_str("the signed dynamic data are malformed"),
            Self::CardData(n) => write!(f, "card authentication data cannot have {n} bytes"),
            Self::FddaVersion(b) => write!(f, "fDDA version {b:02X} is not accepted"),
            Self::AtcMismatch => f.write_str("the signed transaction counter is another one"),
            Self::UserId(n) => {
                write!(f, "a signer's identifier has at most {MAX_USER_ID} bytes, not {n}")
            }
            Self::CounterPrefix(n) => {
                write!(f, "at most {MAX_COUNTER_PREFIX} bytes stand before the counter, not {n}")
            }
        }
    }
}

impl core::error::Error for Sm2Error {}

/// A public key: x ‖ y. Whether that is a point of the curve shows when it is used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; KEY_LEN]);

impl PublicKey {
    /// The key with these coordinates, big-endian, x first.
    pub const fn from_bytes(xy: [u8; KEY_LEN]) -> Self {
        Self(xy)
    }

    /// Both coordinates, x first.
    pub const fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// Verifies a signature over the parts of `message` joined: one public key operation.
    pub fn verify(
        &self,
        message: &[&[u8]],
        signature: &[u8; SIGNATURE_LEN],
        convention: &Convention,
    ) -> Result<(), Sm2Error> {
        let mut sec1 = [0x04; 1 + KEY_LEN];
        sec1[1..].copy_from_slice(&self.0);
        let key = dsa::VerifyingKey::from_sec1_bytes(convention.user_id(), &sec1);
        let signature = Signature::from_bytes(&(*signature).into());
        match (key, signature) {
            (Ok(key), Ok(signature)) => {
                key.multipart_verify(message, &signature).map_err(|_| Sm2Error::Signature)
            }
            _ => Err(Sm2Error::Signature),
        }
    }
}

// A card's key tells riders apart, so it is not shown.
impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(…)")
    }
}

/// A signing key, which is not wiped when dropped: only test cards have one. No `Debug`.
#[derive(Clone)]
pub struct SigningKey(dsa::SigningKey);

impl SigningKey {
    /// The key with this private number, big-endian, that signs by this convention; `None` outside 1 to n − 2.
    pub fn from_bytes(d: &[u8; 32], convention: &Convention) -> Option<Self> {
        dsa::SigningKey::from_slice(convention.user_id(), d).ok().map(Self)
    }

    /// The public key.
    pub fn public_key(&self) -> PublicKey {
        use sm2::elliptic_curve::point::AffineCoordinates;
        let point = self.0.verifying_key().as_affine();
        let mut xy = [0; KEY_LEN];
        xy[..32].copy_from_slice(&point.x());
        xy[32..].copy_from_slice(&point.y());
        PublicKey(xy)
    }

    /// Signs the parts of `message` joined. The secret multiplier derives from key and message (RFC 6979).
    pub fn sign(&self, message: &[&[u8]]) -> Result<[u8; SIGNATURE_LEN], Sm2Error> {
        let signature = self.0.try_multipart_sign(message).map_err(|_| Sm2Error::Signature)?;
        Ok(signature.to_bytes().into())
    }
}

/// What an authority certifies of an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuerFields {
    /// The first 3 to 8 digits of the issuer's tokens, packed, padded with F.
    pub issuer_id: [u8; 4],
    /// The last month in which the certificate is good.
    pub expiry: Expiry,
    /// Serial number, which a revocation list names.
    pub serial: [u8; 3],
    /// Two bytes before the key, of unknown meaning ([`unverified::KEY_PARAMETERS`]).
    pub key_parameters: [u8; 2],
    /// The issuer's key.
    pub key: PublicKey,
}

/// An issuer certificate. Until [`verify`](Self::verify) said yes, its fields are only claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuerCertificate<'a> {
    signed: Signed<'a>,
    /// What it certifies.
    pub fields: IssuerFields,
}

impl<'a> IssuerCertificate<'a> {
    /// True if the value of tag 90 is such a certificate by its length and format; an RSA certificate is as long as an
    /// authority's modulus and a random number.
    pub const fn is_one(value: &[u8]) -> bool {
        value.len() == ISSUER_CERTIFICATE_LEN && value[0] == ISSUER_FORMAT
    }

    /// Reads the value of tag 90.
    pub fn parse(value: &'a [u8]) -> Result<Self, Sm2Error> {
        let raw: &[u8; ISSUER_CERTIFICATE_LEN] =
            value.try_into().map_err(|_| Sm2Error::Length(value.len()))?;
        let signed = Signed::new(raw, ISSUER_FORMAT)?;
        let [_, id @ .., month, year, s0, s1, s2] = field::<10>(raw, 0);
        if !is_issuer_id(&id) {
            return Err(Sm2Error::IssuerId);
        }
        let fields = IssuerFields {
            issuer_id: id,
            expiry: Expiry::from_mmyy([month, year]).map_err(|_| Sm2Error::Date)?,
            serial: [s0, s1, s2],
            key_parameters: field(raw, ISSUER_ALGORITHM_AT + 1),
            key: certified_key(raw, ISSUER_ALGORITHM_AT)?,
        };
        Ok(Self { signed, fields })
    }

    /// Checks the signature with the authority's key: one public key operation.
    pub fn verify(&self, ca_key: &PublicKey, convention: &Convention) -> Result<(), Sm2Error> {
        ca_key.verify(&[self.signed.body], self.signed.signature, convention)
    }

    /// Issues a certificate.
    pub fn issue(
        fields: &IssuerFields,
        signer: &SigningKey,
    ) -> Result<[u8; ISSUER_CERTIFICATE_LEN], Sm2Error> {
        let mut out = [0; ISSUER_CERTIFICATE_LEN];
        let [year, month] = fields.expiry.to_yymm();
        out[0] = ISSUER_FORMAT;
        out[1..5].copy_from_slice(&fields.issuer_id);
        out[5..7].copy_from_slice(&[month, year]);
        out[7..10].copy_from_slice(&fields.serial);
        seal(&mut out, ISSUER_ALGORITHM_AT, fields.key_parameters, &fields.key, signer, &[])?;
        Ok(out)
    }
}

/// What an issuer certifies of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CardFields {
    /// The token.
    pub token: Token,
    /// The last month in which the certificate is good.
    pub expiry: Expiry,
    /// Serial number.
    pub serial: [u8; 3],
    /// Two bytes before the key, of unknown meaning ([`unverified::KEY_PARAMETERS`]).
    pub key_parameters: [u8; 2],
    /// The card's key.
    pub key: PublicKey,
}

/// A card certificate. Until [`verify`](Self::verify) said yes, its fields are only claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CardCertificate<'a> {
    signed: Signed<'a>,
    /// What it certifies.
    pub fields: CardFields,
}

impl<'a> CardCertificate<'a> {
    /// Reads the value of tag 9F46.
    pub fn parse(value: &'a [u8]) -> Result<Self, Sm2Error> {
        let raw: &[u8; CARD_CERTIFICATE_LEN] = value.try_into().map_err(|_| Sm2Error::Length(value.len()))?;
        let signed = Signed::new(raw, CARD_FORMAT)?;
        let [_, pan @ .., month, year, s0, s1, s2] = field::<16>(raw, 0);
        let fields = CardFields {
            token: Token::from_bcd(&pan).map_err(|_| Sm2Error::Pan)?,
            expiry: Expiry::from_mmyy([month, year]).map_err(|_| Sm2Error::Date)?,
            serial: [s0, s1, s2],
            key_parameters: field(raw, CARD_ALGORITHM_AT + 1),
            key: certified_key(raw, CARD_ALGORITHM_AT)?,
        };
        Ok(Self { signed, fields })
    }

    /// Checks the signature with the issuer's key: one public key operation. `records`, joined, are those for offline
    /// data authentication; the AIP's value is always covered.
    pub fn verify(
        &self,
        issuer: &PublicKey,
        records: &[u8],
        aip: &[u8; 2],
        convention: &Convention,
    ) -> Result<(), Sm2Error> {
        issuer.verify(&[self.signed.body, records, aip], self.signed.signature, convention)
    }

    /// Issues a certificate.
    pub fn issue(
        fields: &CardFields,
        signer: &SigningKey,
        records: &[u8],
        aip: &[u8; 2],
    ) -> Result<[u8; CARD_CERTIFICATE_LEN], Sm2Error> {
        let mut out = [0; CARD_CERTIFICATE_LEN];
        let [year, month] = fields.expiry.to_yymm();
        out[0] = CARD_FORMAT;
        out[1..11].copy_from_slice(fields.token.bcd());
        out[11..13].copy_from_slice(&[month, year]);
        out[13..16].copy_from_slice(&fields.serial);
        seal(&mut out, CARD_ALGORITHM_AT, fields.key_parameters, &fields.key, signer, &[records, aip])?;
        Ok(out)
    }
}

/// Verifies the value of 9F4B with the card's key: one public key operation. `terminal_data`, joined, are the terminal
/// dynamic data. Gives the signed data: the ICC dynamic number with its length before it, and what follows it.
pub fn verify_dynamic<'a>(
    key: &PublicKey,
    value: &'a [u8],
    terminal_data: &[u8],
    convention: &Convention,
) -> Result<&'a [u8], Sm2Error> {
    let data = verify_signed_data(key, value, terminal_data, convention)?;
    match data.split_first() {
        Some((&number, rest)) if (2..=8).contains(&number) && usize::from(number) <= rest.len() => Ok(data),
        _ => Err(Sm2Error::DynamicData),
    }
}

/// Checks quick offline authentication, version 01: the signature over 9F37, 9F02, 5F2A and 9F69, with the transaction
/// counter of the response, after what the convention puts before it, as the only dynamic data.
pub fn verify_fdda(
    key: &PublicKey,
    value: &[u8],
    fdda: &Fdda<'_>,
    convention: &Convention,
) -> Result<(), Sm2Error> {
    match fdda.version() {
        None => return Err(Sm2Error::CardData(fdda.card_data.len())),
        Some(0x01) => {}
        // Version 00 signs the unpredictable number alone, not the amount.
        Some(other) => return Err(Sm2Error::FddaVersion(other)),
    }
    let mut joined = heapless::Vec::<u8, 28>::new();
    for part in fdda.terminal_data() {
        joined.extend_from_slice(part).map_err(|_| Sm2Error::CardData(fdda.card_data.len()))?;
    }
    let data = verify_signed_data(key, value, &joined, convention)?;
    match *data.strip_prefix(convention.counter_prefix()).ok_or(Sm2Error::DynamicData)? {
        [high, low] if u16::from_be_bytes([high, low]) == fdda.atc => Ok(()),
        [_, _] => Err(Sm2Error::AtcMismatch),
        _ => Err(Sm2Error::DynamicData),
    }
}

/// The dynamic data of the value of 9F4B, once its signature is found to be the key's.
fn verify_signed_data<'a>(
    key: &PublicKey,
    value: &'a [u8],
    terminal_data: &[u8],
    convention: &Convention,
) -> Result<&'a [u8], Sm2Error> {
    let (body, signature) = value.split_last_chunk::<SIGNATURE_LEN>().ok_or(Sm2Error::Length(value.len()))?;
    let &[format, len, ref data @ ..] = body else { return Err(Sm2Error::Length(value.len())) };
    if format != DYNAMIC_FORMAT {
        return Err(Sm2Error::Format(format));
    }
    if data.len() != usize::from(len) {
        return Err(Sm2Error::DynamicData);
    }
    key.verify(&[body, terminal_data], signature, convention)?;
    Ok(data)
}

/// Makes the value of 9F4B for quick offline authentication; `terminal_data`, joined, are the terminal dynamic data.
pub fn sign_fdda(
    signer: &SigningKey,
    atc: u16,
    terminal_data: &[&[u8]; 4],
    convention: &Convention,
) -> Result<heapless::Vec<u8, MAX_QUICK_SIGNATURE>, Sm2Error> {
    let prefix = convention.counter_prefix();
    let too_long = || Sm2Error::CounterPrefix(prefix.len());
    let mut out = heapless::Vec::new();
    // At most MAX_COUNTER_PREFIX and two bytes of data.
    for part in [&[DYNAMIC_FORMAT, prefix.len() as u8 + 2][..], prefix, &atc.to_be_bytes()] {
        out.extend_from_slice(part).map_err(|_| too_long())?;
    }
    let [a, b, c, d] = *terminal_data;
    let signature = signer.sign(&[&out, a, b, c, d])?;
    out.extend_from_slice(&signature).map_err(|_| too_long())?;
    Ok(out)
}

/// A certificate's bytes under its signature, and the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Signed<'a> {
    body: &'a [u8],
    signature: &'a [u8; SIGNATURE_LEN],
}

impl<'a> Signed<'a> {
    fn new(raw: &'a [u8], format: u8) -> Result<Self, Sm2Error> {
        let (body, signature) = raw.split_last_chunk::<SIGNATURE_LEN>().ok_or(Sm2Error::Length(raw.len()))?;
        match body.first() {
            Some(&found) if found == format => Ok(Self { body, signature }),
            Some(&found) => Err(Sm2Error::Format(found)),
            None => Err(Sm2Error::Length(raw.len())),
        }
    }
}

/// The key of a certificate, after its algorithm, two bytes and its length.
fn certified_key(raw: &[u8], at: usize) -> Result<PublicKey, Sm2Error> {
    let [algorithm, _, _, len] = field(raw, at);
    if algorithm != ALGORITHM {
        return Err(Sm2Error::Algorithm(algorithm));
    }
    if usize::from(len) != KEY_LEN {
        return Err(Sm2Error::KeyLength(len));
    }
    Ok(PublicKey(field(raw, at + 4)))
}

/// Writes algorithm, key and signature into a certificate; the signature goes on over `rest`.
fn seal(
    out: &mut [u8],
    at: usize,
    [p0, p1]: [u8; 2],
    key: &PublicKey,
    signer: &SigningKey,
    rest: &[&[u8]],
) -> Result<(), Sm2Error> {
    out[at..at + 4].copy_from_slice(&[ALGORITHM, p0, p1, KEY_LEN as u8]);
    out[at + 4..at + 4 + KEY_LEN].copy_from_slice(&key.0);
    let (body, signature) = out.split_at_mut(at + 4 + KEY_LEN);
    let mut message = heapless::Vec::<&[u8], 4>::new();
    // A certificate is signed with at most two parts more.
    let _ = message.push(body);
    let _ = message.extend_from_slice(rest);
    signature.copy_from_slice(&signer.sign(&message)?);
    Ok(())
}

/// `N` bytes at a place that the format's length has made sure of.
fn field<const N: usize>(raw: &[u8], at: usize) -> [u8; N] {
    core::array::from_fn(|i| raw[at + i])
}

#[cfg(test)]
mod tests;
