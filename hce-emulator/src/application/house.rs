//! The house's own application: P-256 certificates, EC-SDSA over each tap, an AES cryptogram.

use super::{CTQ, CardData, Record, TIMED_ANSWER, Tap, write};
use crate::hex::Secret;
use crate::phone::PhoneError;
use serde::{Deserialize, Serialize};
use wavepass_protocol::ecc::{CardCertificate, IssuerCertificate, SigningKey, StaticHash, sign_dynamic};
use wavepass_protocol::tags;
use wavepass_protocol::tlv::{TlvError, Writer};

/// The house's application identifier.
pub const HOUSE_AID: &[u8] = b"\xF0WAVEPASS\x01";
/// What the house's phones ask of a gate: 33 bytes of values.
pub const HOUSE_PDOL: &[u8] = &[
    0x9F, 0x66, 4, 0x9F, 0x02, 6, 0x9F, 0x03, 6, 0x9F, 0x1A, 2, 0x95, 5, 0x5F, 0x2A, 2, 0x9A, 3, 0x9C, 1,
    0x9F, 0x37, 4,
];

/// Application interchange profile.
const AIP: [u8; 2] = [0x21, 0x00];
/// The same of a card that can be timed.
const TIMED_AIP: [u8; 2] = [0x21, 0x01];
/// What the card says of its own time, in units of 100 µs: shortest and longest for an answer, transmission.
const TIMES: [u8; 6] = [0, 1, 0, 20, 0, 10];
/// SFI 1 records 1 and 2: certificates. SFI 2 record 1: signed data. The issuer's certificate comes first, so that
/// the gate verifies it while the phone sends on.
const AFL: [u8; 8] = [0x08, 1, 2, 0, 0x10, 1, 1, 1];
/// Application usage control: valid at terminals other than cash machines, at home and abroad.
const AUC: [u8; 2] = [0xFF, 0x00];

/// The file of a house application.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HouseFile {
    /// What every application has.
    pub card: CardData,
    /// The value of the domain record (DF71), where the token is of a domain.
    #[serde(with = "crate::hex", default, skip_serializing_if = "Vec::is_empty")]
    pub domain: Vec<u8>,
    /// True if the card can be timed (relay resistance).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub relay_resistance: bool,
    /// Index of the authority's key that signed the issuer certificate.
    pub ca_index: u8,
    /// Issuer certificate, 117 bytes.
    #[serde(with = "crate::hex")]
    pub issuer_certificate: Vec<u8>,
    /// Card certificate, 145 bytes.
    #[serde(with = "crate::hex")]
    pub card_certificate: Vec<u8>,
    /// The card's signing key.
    #[serde(with = "crate::hex")]
    pub card_key: Secret<32>,
}

/// A house application at work.
pub(crate) struct House {
    pub(crate) file: HouseFile,
    key: SigningKey,
    pub(crate) records: Vec<Record>,
}

impl House {
    pub(crate) fn new(file: &HouseFile) -> Result<Self, PhoneError> {
        let key = SigningKey::from_bytes(file.card_key.bytes()).ok_or(PhoneError::CardKey)?;
        // Whether they verify is the gate's question: a bad phone is a phone too.
        IssuerCertificate::parse(&file.issuer_certificate).map_err(PhoneError::Certificate)?;
        CardCertificate::parse(&file.card_certificate).map_err(PhoneError::Certificate)?;
        if file.domain.len() > 32 {
            return Err(PhoneError::Domain(file.domain.len()));
        }
        let mut records = vec![
            (
                1,
                1,
                record(|w| {
                    w.tlv(tags::CA_INDEX, &[file.ca_index])?;
                    w.tlv(tags::ISSUER_CERTIFICATE, &file.issuer_certificate)
                })?,
            ),
            (1, 2, record(|w| w.tlv(tags::CARD_CERTIFICATE, &file.card_certificate))?),
        ];
        records.extend(certified_records(&file.card, &file.domain)?);
        Ok(Self { file: file.clone(), key, records })
    }

    /// The answer to a timed exchange: the card's entropy and what it says of its own time. `None` from a card that
    /// cannot be timed.
    pub(super) fn timed_answer(&self, nonce: &[u8; 32]) -> Option<[u8; TIMED_ANSWER]> {
        let mut answer = [0; TIMED_ANSWER];
        answer[..4].copy_from_slice(&nonce[..4]);
        answer[4..].copy_from_slice(&TIMES);
        self.file.relay_resistance.then_some(answer)
    }

    pub(super) fn process(&mut self, tap: &Tap<'_>) -> Result<Vec<u8>, TlvError> {
        let quirks = tap.quirks;
        let aip = aip(self.file.relay_resistance);
        let cryptogram = self.file.card.cryptogram(tap, &aip, quirks.stated_atc(tap.atc));
        let content = |atc: u16| {
            write(|w| {
                w.tlv(tags::AIP, &aip)?;
                w.tlv(tags::AFL, &AFL)?;
                w.tlv(tags::ATC, &atc.to_be_bytes())?;
                w.tlv(tags::CID, &[quirks.cid()])?;
                w.tlv(tags::CRYPTOGRAM, &cryptogram)?;
                w.tlv(tags::IAD, &quirks.iad())?;
                w.tlv(tags::CTQ, &CTQ)?;
                tap.timed.as_ref().map_or(Ok(()), |timed| w.tlv(tags::TIMED_EXCHANGE, timed))
            })
        };
        let signed = content(quirks.signed_atc(tap.atc))?;
        let mut signature =
            sign_dynamic(&self.key, tap.values, &[&signed], tap.nonce).map_err(|_| TlvError::Full)?;
        if quirks.forged_signature {
            // A signature that is well formed and nobody's.
            signature[64] ^= 0x01;
        }
        write(|w| {
            w.nested(tags::RESPONSE_2, |w| {
                w.bytes(&content(quirks.stated_atc(tap.atc))?)?;
                w.tlv(tags::SDAD, &signature)
            })
        })
    }
}

fn record(content: impl FnOnce(&mut Writer<'_>) -> Result<(), TlvError>) -> Result<Vec<u8>, TlvError> {
    write(|w| w.nested(tags::RECORD, content))
}

const fn aip(relay_resistance: bool) -> [u8; 2] {
    if relay_resistance { TIMED_AIP } else { AIP }
}

/// The records that the card certificate covers.
fn certified_records(card: &CardData, domain: &[u8]) -> Result<Vec<Record>, TlvError> {
    let signed = record(|w| {
        card.write_identity(w)?;
        w.tlv(tags::AUC, &AUC)?;
        if domain.is_empty() { Ok(()) } else { w.tlv(tags::DOMAIN, domain) }
    })?;
    Ok(vec![(2, 1, signed)])
}

/// The hash of the static data that the issuer certifies: signed records, AIP, AID and PDOL.
pub(crate) fn static_hash(
    card: &CardData,
    domain: &[u8],
    relay_resistance: bool,
) -> Result<[u8; 32], TlvError> {
    let mut hash = StaticHash::new();
    for (sfi, _, data) in certified_records(card, domain)? {
        hash.record(wavepass_protocol::select::oda_part(sfi, &data)?);
    }
    let aip = write(|w| w.tlv(tags::AIP, &aip(relay_resistance)))?;
    let pdol = write(|w| w.tlv(tags::PDOL, HOUSE_PDOL))?;
    Ok(hash.finish(&aip, &card.aid.tlv(), &pdol))
}
