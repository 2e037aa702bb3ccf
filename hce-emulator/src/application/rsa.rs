//! The application of RSA cards in circulation: certificates with message recovery, quick dynamic authentication
//! (fDDA) version 01, or an older card's dynamic authentication (DDA) by INTERNAL AUTHENTICATE and cryptogram by
//! GENERATE AC. The private operation is crate `rsa`'s; cards of this kind are test cards.

use super::{CTQ, CardData, Lists, Quirks, Record, Tap, write};
use crate::hex::SecretNumber;
use crate::phone::PhoneError;
use rsa::hazmat::rsa_decrypt_and_check;
use rsa::traits::{PrivateKeyParts, PublicKeyParts};
use rsa::{BoxedUint, PrivateKey};
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};
use wavepass_protocol::dol::Dol;
use wavepass_protocol::rsa::{MAX_MODULUS, MIN_MODULUS};
use wavepass_protocol::tags;
use wavepass_protocol::tlv::{Tag, TlvError, Writer};
use wavepass_protocol::token::to_bcd;

/// UnionPay, debit.
pub const RSA_DEBIT_AID: &[u8] = &[0xA0, 0x00, 0x00, 0x03, 0x33, 0x01, 0x01, 0x01];
/// UnionPay, credit.
pub const RSA_CREDIT_AID: &[u8] = &[0xA0, 0x00, 0x00, 0x03, 0x33, 0x01, 0x01, 0x02];
/// UnionPay, quasi-credit.
pub const RSA_QUASI_CREDIT_AID: &[u8] = &[0xA0, 0x00, 0x00, 0x03, 0x33, 0x01, 0x01, 0x03];
/// UnionPay, debit of another market.
pub const RSA_OTHER_DEBIT_AID: &[u8] = &[0xA0, 0x00, 0x00, 0x03, 0x33, 0x01, 0x01, 0x06];
/// What these cards ask of a gate: 33 bytes of values.
pub const RSA_PDOL: &[u8] = super::HOUSE_PDOL;

/// Application interchange profile: dynamic data authentication.
pub(super) const AIP: [u8; 2] = [0x20, 0x00];
/// SFI 1: certificates (the issuer's fills a record of its own). SFI 2: signed data. SFI 3: the dynamic signature.
const AFL: [u8; 12] = [0x08, 1, 3, 0, 0x10, 1, 1, 1, 0x18, 1, 1, 0];
/// The same of an older card: its signature is no record.
const STANDARD_AFL: [u8; 8] = [0x08, 1, 3, 0, 0x10, 1, 1, 1];
/// What an older card wants signed (DDOL): the unpredictable number.
const DDOL: &[u8] = &[0x9F, 0x37, 4];
/// What an older card wants its cryptogram to cover (CDOL1): 52 bytes of values.
const CDOL1: &[u8] = &[
    0x9F, 0x02, 6, 0x9F, 0x03, 6, 0x9F, 0x1A, 2, 0x95, 5, 0x5F, 0x2A, 2, 0x9A, 3, 0x9C, 1, 0x9F, 0x37, 4,
    0x9F, 0x21, 3, 0x9F, 0x4E, 20,
];
/// ICC dynamic number of an older card, bytes.
const DYNAMIC_NUMBER: usize = 8;
/// fDDA version.
pub(super) const FDDA_01: u8 = 0x01;
/// Service code of track 2: international, authorised by the issuer, no restriction.
const SERVICE_CODE: [u8; 3] = [2, 2, 0];

/// Why an RSA key cannot be used. It never carries the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RsaKeyError {
    /// A size that certificates do not take.
    #[error("an RSA key has 1024 to 2048 bits in whole bytes, not {0}")]
    Bits(usize),
    /// The primes and the exponent are no key.
    #[error("the primes and the exponent are no RSA key")]
    NoKey,
    /// The private operation failed.
    #[error("the private operation failed")]
    Operation,
}

/// An RSA key pair with exponent 3 or 65537.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "KeyText", into = "KeyText")]
pub struct RsaCardKey {
    key: PrivateKey,
}

/// A key as files have it: two primes and the exponent.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyText {
    #[serde(with = "crate::hex")]
    p: SecretNumber,
    #[serde(with = "crate::hex")]
    q: SecretNumber,
    e: u32,
}

impl TryFrom<KeyText> for RsaCardKey {
    type Error = RsaKeyError;

    fn try_from(text: KeyText) -> Result<Self, RsaKeyError> {
        let prime = |bytes: &SecretNumber| {
            let bytes = bytes.as_ref();
            // Primes of the largest modulus have half its length.
            if bytes.len() > MAX_MODULUS / 2 {
                return Err(RsaKeyError::NoKey);
            }
            BoxedUint::from_be_slice(bytes, bytes.len().next_multiple_of(8) as u32 * 8)
                .map_err(|_| RsaKeyError::NoKey)
        };
        let key = PrivateKey::from_p_q(prime(&text.p)?, prime(&text.q)?, u64::from(text.e).into());
        Self::checked(key.map_err(|_| RsaKeyError::NoKey)?)
    }
}

impl From<RsaCardKey> for KeyText {
    fn from(key: RsaCardKey) -> Self {
        let number = |i: usize| {
            let bytes = zeroize::Zeroizing::new(key.key.primes()[i].to_be_bytes());
            let zeros = bytes.iter().take_while(|&&b| b == 0).count();
            SecretNumber::from(&bytes[zeros..])
        };
        Self { p: number(0), q: number(1), e: key.exponent() }
    }
}

impl RsaCardKey {
    /// Makes a key with exponent 3, as the authorities' published keys have; the same randomness gives the same key.
    /// Takes tens of milliseconds for a card's 1152 bits.
    pub fn generate(rng: &mut (impl rand::CryptoRng + ?Sized), bits: usize) -> Result<Self, RsaKeyError> {
        Self::generate_with_exponent(rng, bits, 3)
    }

    /// Makes a key with exponent 3 or 65537.
    pub fn generate_with_exponent(
        rng: &mut (impl rand::CryptoRng + ?Sized),
        bits: usize,
        exponent: u32,
    ) -> Result<Self, RsaKeyError> {
        if !bits.is_multiple_of(8) || !(MIN_MODULUS..=MAX_MODULUS).contains(&(bits / 8)) {
            return Err(RsaKeyError::Bits(bits));
        }
        let key = PrivateKey::new_with_exp(rng, bits, u64::from(exponent).into());
        Self::checked(key.map_err(|_| RsaKeyError::NoKey)?)
    }

    fn checked(key: PrivateKey) -> Result<Self, RsaKeyError> {
        let bits = key.n().bit_width() as usize;
        let key = Self { key };
        if !(MIN_MODULUS..=MAX_MODULUS).contains(&key.modulus().len()) || !bits.is_multiple_of(8) {
            return Err(RsaKeyError::Bits(bits));
        }
        if matches!(key.exponent(), 3 | 65_537) { Ok(key) } else { Err(RsaKeyError::NoKey) }
    }

    /// The modulus, big-endian, without leading zeros.
    pub fn modulus(&self) -> Vec<u8> {
        let bytes = self.key.n().to_be_bytes();
        let zeros = bytes.iter().take_while(|&&b| b == 0).count();
        bytes[zeros..].to_vec()
    }

    /// The public exponent, 3 or 65537.
    pub fn exponent(&self) -> u32 {
        self.key.e().to_be_bytes().iter().fold(0, |n, &b| n << 8 | u32::from(b))
    }

    /// The public exponent in as few bytes as it needs.
    pub fn exponent_bytes(&self) -> Vec<u8> {
        if self.exponent() == 3 { vec![3] } else { vec![1, 0, 1] }
    }

    /// The private operation on a block of the modulus' length.
    fn private(&self, block: &[u8]) -> Result<Vec<u8>, RsaKeyError> {
        let number = BoxedUint::from_be_slice(block, self.key.n_bits_precision())
            .map_err(|_| RsaKeyError::Operation)?;
        let none: Option<&mut rand_chacha::ChaCha8Rng> = None;
        // No blinding: a test card's key needs no guard against this computer's other users.
        let signed = rsa_decrypt_and_check(&self.key, none, &number).map_err(|_| RsaKeyError::Operation)?;
        let bytes = signed.to_be_bytes();
        bytes.get(bytes.len() - block.len()..).map(<[u8]>::to_vec).ok_or(RsaKeyError::Operation)
    }
}

/// Signs with message recovery: `6A | head | BB… | SHA-1 | BC`, the hash over head, padding and `rest`.
pub(crate) fn seal(key: &RsaCardKey, head: &[u8], rest: &[&[u8]]) -> Result<Vec<u8>, RsaKeyError> {
    let block = frame(key.modulus().len(), head, rest)?;
    key.private(&block)
}

fn frame(len: usize, head: &[u8], rest: &[&[u8]]) -> Result<Vec<u8>, RsaKeyError> {
    const HASH_AND_TRAILER: usize = 21;
    if 1 + head.len() + HASH_AND_TRAILER > len {
        return Err(RsaKeyError::Operation);
    }
    let mut block = vec![0xBB; len];
    block[0] = 0x6A;
    block[1..=head.len()].copy_from_slice(head);
    let hash_at = len - HASH_AND_TRAILER;
    let mut hash = Sha1::new_with_prefix(&block[1..hash_at]);
    rest.iter().for_each(|part| hash.update(part));
    block[hash_at..len - 1].copy_from_slice(&hash.finalize());
    block[len - 1] = 0xBC;
    Ok(block)
}

/// How a card is proven genuine, and in which form it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RsaFlow {
    /// It says in DF61 that it signs in the quick flow (fDDA).
    #[default]
    Quick,
    /// An older card: INTERNAL AUTHENTICATE and GENERATE AC, answers in template 77.
    Standard,
    /// The same with answers in template 80: values without tags.
    StandardPlain,
}

impl RsaFlow {
    fn is_quick(&self) -> bool {
        *self == Self::Quick
    }
}

/// The file of an RSA application.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RsaFile {
    /// What every application has.
    pub card: CardData,
    /// Index of the authority's key that signed the issuer certificate.
    pub ca_index: u8,
    /// Issuer certificate, as long as the authority's modulus.
    #[serde(with = "crate::hex")]
    pub issuer_certificate: Vec<u8>,
    /// What of the issuer's modulus did not fit its certificate.
    #[serde(with = "crate::hex", default, skip_serializing_if = "Vec::is_empty")]
    pub issuer_remainder: Vec<u8>,
    /// The issuer's exponent.
    #[serde(with = "crate::hex")]
    pub issuer_exponent: Vec<u8>,
    /// Card certificate, as long as the issuer's modulus.
    #[serde(with = "crate::hex")]
    pub card_certificate: Vec<u8>,
    /// What of the card's modulus did not fit its certificate.
    #[serde(with = "crate::hex", default, skip_serializing_if = "Vec::is_empty")]
    pub card_remainder: Vec<u8>,
    /// The card's key.
    pub card_key: RsaCardKey,
    /// The signed data format: 05, or 95 as some schemes' cards have it with an ARQC.
    pub signed_format: u8,
    /// How it is proven genuine.
    #[serde(default, skip_serializing_if = "RsaFlow::is_quick")]
    pub flow: RsaFlow,
}

/// An RSA application at work.
pub(crate) struct Rsa {
    pub(crate) file: RsaFile,
    /// In the quick flow the last one is made anew at each tap.
    pub(crate) records: Vec<Record>,
    /// The counter of the tap whose cryptogram an older card still has to give.
    owed: Option<u16>,
}

impl Rsa {
    pub(crate) fn new(file: &RsaFile) -> Result<Self, PhoneError> {
        for (name, value) in [
            ("issuer certificate", &file.issuer_certificate),
            ("issuer remainder", &file.issuer_remainder),
            ("card certificate", &file.card_certificate),
            ("card remainder", &file.card_remainder),
        ] {
            if value.len() > MAX_MODULUS {
                return Err(PhoneError::Length { name, len: value.len() });
            }
        }
        let optional = |w: &mut Writer<'_>, tag, value: &[u8]| {
            if value.is_empty() { Ok(()) } else { w.tlv(tag, value) }
        };
        let records = vec![
            (
                1,
                1,
                record(|w| {
                    w.tlv(tags::CA_INDEX, &[file.ca_index])?;
                    w.tlv(tags::ISSUER_EXPONENT, &file.issuer_exponent)?;
                    optional(w, tags::ISSUER_REMAINDER, &file.issuer_remainder)
                })?,
            ),
            (1, 2, record(|w| w.tlv(tags::ISSUER_CERTIFICATE, &file.issuer_certificate))?),
            (
                1,
                3,
                record(|w| {
                    w.tlv(tags::CARD_CERTIFICATE, &file.card_certificate)?;
                    w.tlv(tags::CARD_EXPONENT, &file.card_key.exponent_bytes())?;
                    optional(w, tags::CARD_REMAINDER, &file.card_remainder)
                })?,
            ),
            (2, 1, record(|w| w.bytes(&certified_content(&file.card, file.flow)?))?),
        ];
        Ok(Self { file: file.clone(), records, owed: None })
    }

    /// The answer of an older card, in the form that it has.
    fn answer(&self, objects: &[(Tag, &[u8])]) -> Result<Vec<u8>, TlvError> {
        if self.file.flow == RsaFlow::StandardPlain {
            let values: Vec<u8> = objects.iter().flat_map(|(_, value)| value.to_vec()).collect();
            return write(|w| w.tlv(tags::RESPONSE_1, &values));
        }
        write(|w| {
            w.nested(tags::RESPONSE_2, |w| objects.iter().try_for_each(|(tag, value)| w.tlv(*tag, value)))
        })
    }

    /// The answer to INTERNAL AUTHENTICATE: a signature over the values sent. `None` from a card without the command.
    pub(super) fn authenticate(&self, tap: &Tap<'_>) -> Option<Result<Vec<u8>, TlvError>> {
        if self.file.flow.is_quick() {
            return None;
        }
        let mut head = vec![self.file.signed_format, 0x01, DYNAMIC_NUMBER as u8 + 1, DYNAMIC_NUMBER as u8];
        head.extend_from_slice(&tap.nonce[..DYNAMIC_NUMBER]);
        let signature = self.sign_block(&head, &[tap.values], tap.quirks);
        Some(
            signature
                .map_err(|_| TlvError::Full)
                .and_then(|signature| self.answer(&[(tags::SDAD, &signature)])),
        )
    }

    /// The answer to GENERATE AC: a cryptogram over the values sent, once a tap. `None` from a card that owes none.
    pub(super) fn generate(&mut self, tap: &Tap<'_>) -> Option<Result<Vec<u8>, TlvError>> {
        let (card, quirks) = (&self.file.card, tap.quirks);
        let atc = quirks.stated_atc(self.owed.take()?);
        let cryptogram = card.cryptogram(tap, &AIP, atc);
        Some(self.answer(&[
            (tags::CID, &[quirks.cid()]),
            (tags::ATC, &atc.to_be_bytes()),
            (tags::CRYPTOGRAM, &cryptogram),
            (tags::IAD, &quirks.iad()),
        ]))
    }

    /// What the card asks for with GENERATE AC and INTERNAL AUTHENTICATE, if it knows them.
    pub(super) const fn lists(&self) -> Option<Lists> {
        match self.file.flow {
            RsaFlow::Quick => None,
            RsaFlow::Standard | RsaFlow::StandardPlain => Some(Lists { cdol: CDOL1, ddol: DDOL }),
        }
    }

    pub(super) fn process(&mut self, tap: &Tap<'_>) -> Result<Vec<u8>, TlvError> {
        if !self.file.flow.is_quick() {
            self.owed = Some(tap.atc);
            return self.answer(&[(tags::AIP, &AIP), (tags::AFL, &STANDARD_AFL)]);
        }
        let (card, quirks) = (&self.file.card, tap.quirks);
        let atc = quirks.stated_atc(tap.atc);
        let [n0, n1, n2, n3, ..] = tap.nonce;
        let card_data = [FDDA_01, n0, n1, n2, n3, CTQ[0], CTQ[1]];
        let signature = self.sign(tap, &card_data).map_err(|_| TlvError::Full)?;
        let cryptogram = card.cryptogram(tap, &AIP, atc);
        let answer = write(|w| {
            w.nested(tags::RESPONSE_2, |w| {
                w.tlv(tags::AIP, &AIP)?;
                w.tlv(tags::AFL, &AFL)?;
                w.tlv(tags::ATC, &atc.to_be_bytes())?;
                w.tlv(tags::CID, &[quirks.cid()])?;
                w.tlv(tags::CRYPTOGRAM, &cryptogram)?;
                w.tlv(tags::IAD, &quirks.iad())?;
                w.tlv(tags::TRACK2, &track2(card))?;
                w.tlv(tags::PSN, &[card.psn])?;
                w.tlv(tags::CTQ, &CTQ)
            })
        })?;
        let last = record(|w| {
            w.tlv(tags::SDAD, &signature)?;
            w.tlv(tags::CARD_AUTHENTICATION_DATA, &card_data)
        })?;
        self.records.retain(|r| r.0 != 3);
        self.records.push((3, 1, last));
        Ok(answer)
    }

    fn sign(&self, tap: &Tap<'_>, card_data: &[u8]) -> Result<Vec<u8>, RsaKeyError> {
        let [high, low] = tap.quirks.signed_atc(tap.atc).to_be_bytes();
        let head = [self.file.signed_format, 0x01, 3, 2, high, low];
        let pdol = tap.quirks.pdol(RSA_PDOL);
        let value =
            |tag| Dol::parse(&pdol).ok().and_then(|dol| dol.locate(tap.values, tag)).unwrap_or_default();
        let sent = [tags::UNPREDICTABLE_NUMBER, tags::AMOUNT, tags::CURRENCY].map(value);
        self.sign_block(&head, &[sent[0], sent[1], sent[2], card_data], tap.quirks)
    }

    /// Signs with the card's key: `6A | head | BB… | SHA-1 | BC`.
    fn sign_block(&self, head: &[u8], rest: &[&[u8]], quirks: Quirks) -> Result<Vec<u8>, RsaKeyError> {
        let mut block = frame(self.file.card_key.modulus().len(), head, rest)?;
        if quirks.forged_signature {
            // A block that recovers well and whose hash is of something else.
            let hash_at = block.len() - 2;
            block[hash_at] ^= 0x01;
        }
        self.file.card_key.private(&block)
    }
}

pub(super) fn record(
    content: impl FnOnce(&mut Writer<'_>) -> Result<(), TlvError>,
) -> Result<Vec<u8>, TlvError> {
    write(|w| w.nested(tags::RECORD, content))
}

/// What stands in the signed record.
pub(super) fn certified_content(card: &CardData, flow: RsaFlow) -> Result<Vec<u8>, TlvError> {
    write(|w| {
        card.write_identity(w)?;
        w.tlv(tags::ISSUER_COUNTRY, &[0x01, 0x56])?;
        w.tlv(tags::SDA_TAG_LIST, &[0x82])?;
        if flow.is_quick() {
            return Ok(());
        }
        w.tlv(tags::CDOL1, CDOL1)?;
        w.tlv(tags::DDOL, DDOL)
    })
}

/// The static data that the issuer certifies: the signed record, then the AIP.
pub(crate) fn static_data(card: &CardData, flow: RsaFlow) -> Result<Vec<u8>, TlvError> {
    let mut data = certified_content(card, flow)?;
    data.extend_from_slice(&AIP);
    Ok(data)
}

/// What the issuer of an SM2 card certifies: the signed record, and the AIP.
pub(crate) fn sm2_static_data(card: &CardData) -> Result<(Vec<u8>, [u8; 2]), TlvError> {
    Ok((certified_content(card, RsaFlow::Quick)?, AIP))
}

/// Track 2 equivalent data: number, `D`, expiry, service code, padded with `F` to whole bytes.
pub(super) fn track2(card: &CardData) -> Vec<u8> {
    let [year, month] = card.expiry.expiry().to_yymm();
    let mut nibbles: Vec<u8> = card.token.digits().collect();
    nibbles.push(0xD);
    nibbles.extend([year >> 4, year & 0xF, month >> 4, month & 0xF]);
    nibbles.extend(SERVICE_CODE);
    // Discretionary data: the sequence number, so that two cards of one number differ here.
    let psn = to_bcd(card.psn % 100);
    nibbles.extend([psn >> 4, psn & 0xF]);
    nibbles.resize(nibbles.len().next_multiple_of(2), 0xF);
    nibbles.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low).collect()
}
