//! Issuer certificate (tag 90, 117 bytes), card certificate (9F46, 145 bytes), the hash of the static card data and
//! the dynamic signature (9F4B, 65 bytes).

use super::SUITE;
use super::sdsa::{PublicKey, SIGNATURE_LEN, SigningKey, Verifier};
use crate::time::{Date, UnixMs, time_of_day};
use crate::token::{Token, decimal};
use core::fmt;
use sha2::{Digest, Sha256};

/// Bytes of an issuer certificate.
pub const ISSUER_CERTIFICATE_LEN: usize = 117;
/// Bytes of a card certificate.
pub const CARD_CERTIFICATE_LEN: usize = 145;
/// Bytes of a dynamic signature with its format byte.
pub const DYNAMIC_SIGNATURE_LEN: usize = 1 + SIGNATURE_LEN;
/// The most parts in which the response may be handed to the dynamic signature.
pub const MAX_DYNAMIC_PARTS: usize = 8;

const ISSUER_FORMAT: u8 = 0x12;
const CARD_FORMAT: u8 = 0x14;
const DYNAMIC_FORMAT: u8 = 0x15;
const HASH_SHA256: u8 = 0x02;

/// Why a certificate or a dynamic signature is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertError {
    /// Not as long as its format says.
    Length(usize),
    /// Another format byte.
    Format(u8),
    /// Another certificate encoding than 00.
    Encoding(u8),
    /// Another algorithm suite than 10.
    Suite(u8),
    /// An issuer identifier that is not 3 to 10 digits padded with F.
    IssuerId,
    /// An expiry that is no date or no time of day.
    Date,
    /// Another encoding of the hashed card data than 00.
    HashEncoding(u8),
    /// Another hash over the card data than SHA-256.
    HashAlgorithm(u8),
    /// The certificate names another authority key.
    Authority,
    /// Past its expiry.
    Expired,
    /// The issuer identifier does not begin the token.
    NotThisToken,
    /// The card's static data are not those of the certificate.
    StaticHash,
    /// The response was handed over in more than [`MAX_DYNAMIC_PARTS`] parts.
    TooManyParts,
    /// The signature is not the key's over these data, or the key is no point of the curve.
    Signature,
}

impl fmt::Display for CertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(n) => write!(f, "{n} bytes are not the length of this format"),
            Self::Format(b) => write!(f, "format {b:02X} is not the one expected"),
            Self::Encoding(b) => write!(f, "certificate encoding {b:02X} is unknown"),
            Self::Suite(b) => write!(f, "algorithm suite {b:02X} is not supported"),
            Self::IssuerId => f.write_str("the issuer identifier is not 3 to 10 digits"),
            Self::Date => f.write_str("the certificate's expiry is no date and time"),
            Self::HashEncoding(b) => write!(f, "encoding {b:02X} of the hashed card data is unknown"),
            Self::HashAlgorithm(b) => write!(f, "hash algorithm {b:02X} is not supported"),
            Self::Authority => f.write_str("the certificate names another authority key"),
            Self::Expired => f.write_str("the certificate has expired"),
            Self::NotThisToken => f.write_str("the issuer identifier does not begin the token"),
            Self::StaticHash => f.write_str("the card's static data are not those of its certificate"),
            Self::TooManyParts => write!(f, "the response has more than {MAX_DYNAMIC_PARTS} parts"),
            Self::Signature => f.write_str("the signature does not verify"),
        }
    }
}

impl core::error::Error for CertError {}

/// What an authority certifies of an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuerFields {
    /// The first 3 to 10 digits of the issuer's tokens, packed, padded with F.
    pub issuer_id: [u8; 5],
    /// The last day (UTC) on which the certificate is good.
    pub expiry: Date,
    /// Serial number, which a revocation list names.
    pub serial: [u8; 3],
    /// Registered application provider.
    pub rid: [u8; 5],
    /// Index of the authority's key.
    pub ca_index: u8,
    /// The issuer's key.
    pub key: PublicKey,
}

/// An issuer certificate. Until [`verify`](Self::verify) said yes, its fields are only claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuerCertificate<'a> {
    raw: &'a [u8; ISSUER_CERTIFICATE_LEN],
    /// What it certifies.
    pub fields: IssuerFields,
}

impl<'a> IssuerCertificate<'a> {
    /// True if the value of tag 90 is such a certificate by its length and format; an RSA one is longer.
    pub const fn is_one(value: &[u8]) -> bool {
        value.len() == ISSUER_CERTIFICATE_LEN && value[0] == ISSUER_FORMAT
    }

    /// Reads the value of tag 90.
    pub fn parse(value: &'a [u8]) -> Result<Self, CertError> {
        let raw: &[u8; ISSUER_CERTIFICATE_LEN] =
            value.try_into().map_err(|_| CertError::Length(value.len()))?;
        expect(raw[0], ISSUER_FORMAT, CertError::Format)?;
        expect(raw[1], 0x00, CertError::Encoding)?;
        expect(raw[7], SUITE, CertError::Suite)?;
        let issuer_id = field(raw, 2);
        if !is_issuer_id(&issuer_id) {
            return Err(CertError::IssuerId);
        }
        let fields = IssuerFields {
            issuer_id,
            expiry: Date::from_yyyymmdd(field(raw, 8)).map_err(|_| CertError::Date)?,
            serial: field(raw, 12),
            rid: field(raw, 15),
            ca_index: raw[20],
            key: PublicKey::from_x(field(raw, 21)),
        };
        Ok(Self { raw, fields })
    }

    /// The certificate as it was read.
    pub const fn raw(&self) -> &'a [u8; ISSUER_CERTIFICATE_LEN] {
        self.raw
    }

    /// Checks the signature with the authority's key: one public key operation.
    pub fn verify<V: Verifier + ?Sized>(
        &self,
        verifier: &mut V,
        ca_key: &PublicKey,
    ) -> Result<(), CertError> {
        verify_tail(verifier, ca_key, self.raw)
    }

    /// Checks that it names this authority key.
    pub fn check_authority(&self, rid: &[u8; 5], ca_index: u8) -> Result<(), CertError> {
        if self.fields.rid == *rid && self.fields.ca_index == ca_index {
            Ok(())
        } else {
            Err(CertError::Authority)
        }
    }

    /// Checks that the issuer identifier begins the token.
    pub fn check_token(&self, token: &Token) -> Result<(), CertError> {
        if token.starts_with_bcd(&self.fields.issuer_id) { Ok(()) } else { Err(CertError::NotThisToken) }
    }

    /// Checks the expiry.
    pub fn check_time(&self, now: UnixMs) -> Result<(), CertError> {
        if Date::at(now, 0) <= self.fields.expiry { Ok(()) } else { Err(CertError::Expired) }
    }

    /// Issues a certificate. `nonce` should be random.
    pub fn issue(
        fields: &IssuerFields,
        signer: &SigningKey,
        nonce: [u8; 32],
        out: &mut [u8; ISSUER_CERTIFICATE_LEN],
    ) {
        out[0] = ISSUER_FORMAT;
        out[1] = 0x00;
        out[2..7].copy_from_slice(&fields.issuer_id);
        out[7] = SUITE;
        out[8..12].copy_from_slice(&fields.expiry.to_yyyymmdd());
        out[12..15].copy_from_slice(&fields.serial);
        out[15..20].copy_from_slice(&fields.rid);
        out[20] = fields.ca_index;
        out[21..53].copy_from_slice(fields.key.x());
        sign_tail(signer, nonce, out);
    }
}

/// What an issuer certifies of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CardFields {
    /// The last day (UTC) on which the certificate is good.
    pub expiry: Date,
    /// The last minute of that day on which it is good: packed decimal HHMM, UTC.
    pub expiry_time: [u8; 2],
    /// Serial number.
    pub serial: [u8; 6],
    /// [`StaticHash`] of the card.
    pub static_hash: [u8; 32],
    /// The card's key.
    pub key: PublicKey,
}

/// A card certificate. Until [`verify`](Self::verify) said yes, its fields are only claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CardCertificate<'a> {
    raw: &'a [u8; CARD_CERTIFICATE_LEN],
    /// What it certifies.
    pub fields: CardFields,
}

impl<'a> CardCertificate<'a> {
    /// Reads the value of tag 9F46.
    pub fn parse(value: &'a [u8]) -> Result<Self, CertError> {
        let raw: &[u8; CARD_CERTIFICATE_LEN] =
            value.try_into().map_err(|_| CertError::Length(value.len()))?;
        expect(raw[0], CARD_FORMAT, CertError::Format)?;
        expect(raw[1], 0x00, CertError::Encoding)?;
        expect(raw[2], SUITE, CertError::Suite)?;
        expect(raw[15], 0x00, CertError::HashEncoding)?;
        expect(raw[16], HASH_SHA256, CertError::HashAlgorithm)?;
        let expiry_time: [u8; 2] = field(raw, 7);
        let [hours, minutes] = expiry_time;
        if !matches!((decimal(hours), decimal(minutes)), (Ok(..24), Ok(..60))) {
            return Err(CertError::Date);
        }
        let fields = CardFields {
            expiry: Date::from_yyyymmdd(field(raw, 3)).map_err(|_| CertError::Date)?,
            expiry_time,
            serial: field(raw, 9),
            static_hash: field(raw, 17),
            key: PublicKey::from_x(field(raw, 49)),
        };
        Ok(Self { raw, fields })
    }

    /// The certificate as it was read.
    pub const fn raw(&self) -> &'a [u8; CARD_CERTIFICATE_LEN] {
        self.raw
    }

    /// Checks the signature with the issuer's key: one public key operation.
    pub fn verify<V: Verifier + ?Sized>(
        &self,
        verifier: &mut V,
        issuer_key: &PublicKey,
    ) -> Result<(), CertError> {
        verify_tail(verifier, issuer_key, self.raw)
    }

    /// The hash of the static card data that the issuer certified.
    pub const fn static_hash(&self) -> &[u8; 32] {
        &self.fields.static_hash
    }

    /// Checks that the card's static data are the certified ones.
    pub fn check_static(&self, hash: &[u8; 32]) -> Result<(), CertError> {
        if self.fields.static_hash == *hash { Ok(()) } else { Err(CertError::StaticHash) }
    }

    /// Checks the expiry.
    pub fn check_time(&self, now: UnixMs) -> Result<(), CertError> {
        let [hours, minutes, _] = time_of_day(now, 0);
        // Packed decimal compares as the numbers do.
        let good = (Date::at(now, 0), [hours, minutes]) <= (self.fields.expiry, self.fields.expiry_time);
        if good { Ok(()) } else { Err(CertError::Expired) }
    }

    /// Issues a certificate. `nonce` should be random.
    pub fn issue(
        fields: &CardFields,
        signer: &SigningKey,
        nonce: [u8; 32],
        out: &mut [u8; CARD_CERTIFICATE_LEN],
    ) {
        out[0] = CARD_FORMAT;
        out[1] = 0x00;
        out[2] = SUITE;
        out[3..7].copy_from_slice(&fields.expiry.to_yyyymmdd());
        out[7..9].copy_from_slice(&fields.expiry_time);
        out[9..15].copy_from_slice(&fields.serial);
        out[15] = 0x00;
        out[16] = HASH_SHA256;
        out[17..49].copy_from_slice(&fields.static_hash);
        out[49..81].copy_from_slice(fields.key.x());
        sign_tail(signer, nonce, out);
    }
}

/// The hash of the static card data, built while the records arrive. It covers the PDOL and the AID: without
/// them a card is cloned by asking the gate for a zero-filled stand-in of the unpredictable number.
#[derive(Debug, Clone, Default)]
pub struct StaticHash(Sha256);

impl StaticHash {
    /// Nothing hashed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the part of a record that offline data authentication covers ([`crate::select::oda_part`]), in the
    /// order of the file locator.
    pub fn record(&mut self, oda_part: &[u8]) {
        self.0.update(oda_part);
    }

    /// Adds the AIP (82) as the card gave it, the AID (9F06) as selected and the PDOL (9F38) as the card gave it,
    /// each a whole TLV.
    pub fn finish(self, aip_tlv: &[u8], aid_tlv: &[u8], pdol_tlv: &[u8]) -> [u8; 32] {
        self.0.chain_update(aip_tlv).chain_update(aid_tlv).chain_update(pdol_tlv).finalize().into()
    }
}

/// Signs one tap: the value of 9F4B over the PDOL values as received and the response's TLVs without 9F4B, in
/// parts that are joined. More than [`MAX_DYNAMIC_PARTS`] parts are an error.
pub fn sign_dynamic(
    key: &SigningKey,
    pdol_values: &[u8],
    response: &[&[u8]],
    nonce: [u8; 32],
) -> Result<[u8; DYNAMIC_SIGNATURE_LEN], CertError> {
    let message = dynamic_message(pdol_values, response)?;
    let mut out = [DYNAMIC_FORMAT; DYNAMIC_SIGNATURE_LEN];
    out[1..].copy_from_slice(&key.sign(&message, nonce));
    Ok(out)
}

/// Checks the value of 9F4B over the PDOL values as sent and the response's TLVs without 9F4B
/// ([`crate::tlv::split_around`]): one public key operation.
pub fn verify_dynamic<V: Verifier + ?Sized>(
    verifier: &mut V,
    key: &PublicKey,
    pdol_values: &[u8],
    response: &[&[u8]],
    signature: &[u8],
) -> Result<(), CertError> {
    let value: &[u8; DYNAMIC_SIGNATURE_LEN] =
        signature.try_into().map_err(|_| CertError::Length(signature.len()))?;
    let [format, signature @ ..] = value;
    expect(*format, DYNAMIC_FORMAT, CertError::Format)?;
    let message = dynamic_message(pdol_values, response)?;
    if verifier.verify(key, &message, signature) { Ok(()) } else { Err(CertError::Signature) }
}

fn dynamic_message<'a>(
    pdol_values: &'a [u8],
    response: &[&'a [u8]],
) -> Result<heapless::Vec<&'a [u8], { MAX_DYNAMIC_PARTS + 2 }>, CertError> {
    let mut message = heapless::Vec::new();
    let head: [&[u8]; 2] = [&[DYNAMIC_FORMAT], pdol_values];
    message
        .extend_from_slice(&head)
        .and_then(|()| message.extend_from_slice(response))
        .map_err(|_| CertError::TooManyParts)?;
    Ok(message)
}

fn expect(byte: u8, wanted: u8, error: impl FnOnce(u8) -> CertError) -> Result<(), CertError> {
    if byte == wanted { Ok(()) } else { Err(error(byte)) }
}

/// `M` bytes of a certificate at a place that its format fixes.
fn field<const N: usize, const M: usize>(raw: &[u8; N], at: usize) -> [u8; M] {
    let mut out = [0; M];
    out.copy_from_slice(&raw[at..at + M]);
    out
}

fn is_issuer_id(id: &[u8; 5]) -> bool {
    let nibble = |i: usize| if i.is_multiple_of(2) { id[i / 2] >> 4 } else { id[i / 2] & 0xF };
    let digits = (0..10).take_while(|&i| nibble(i) < 10).count();
    digits >= 3 && (digits..10).all(|i| nibble(i) == 0xF)
}

/// The signature is the certificate's tail, over all before it.
fn verify_tail<V: Verifier + ?Sized>(verifier: &mut V, key: &PublicKey, raw: &[u8]) -> Result<(), CertError> {
    let (signed, signature) = raw.split_last_chunk::<SIGNATURE_LEN>().ok_or(CertError::Length(raw.len()))?;
    if verifier.verify(key, &[signed], signature) { Ok(()) } else { Err(CertError::Signature) }
}

fn sign_tail(signer: &SigningKey, nonce: [u8; 32], out: &mut [u8]) {
    if let Some((signed, signature)) = out.split_last_chunk_mut::<SIGNATURE_LEN>() {
        *signature = signer.sign(&[signed], nonce);
    }
}
