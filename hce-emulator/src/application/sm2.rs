//! The application of cards of the national suite: SM2 certificates, quick dynamic authentication. Such a card answers
//! only a gate that says in DF69 that it knows the suite. Its cryptogram is the other test cards' (AES), not SM4's.

use super::rsa::{AIP, FDDA_01, certified_content, record, track2};
use super::{CTQ, CardData, RsaFlow, Tap, write};
use super::{RSA_PDOL, Record};
use crate::hex::Secret;
use crate::issue::{is_usual_user_id, usual_user_id};
use crate::phone::PhoneError;
use serde::{Deserialize, Serialize};
use wavepass_protocol::dol::Dol;
use wavepass_protocol::sm2::{
    CARD_CERTIFICATE_LEN, Convention, ISSUER_CERTIFICATE_LEN, SigningKey, sign_fdda, unverified,
};
use wavepass_protocol::tags;
use wavepass_protocol::tlv::TlvError;

/// What these cards ask of a gate: what RSA cards do, and whether it knows the suite. 34 bytes of values.
pub const SM2_PDOL: &[u8] = &[
    0x9F, 0x66, 4, 0x9F, 0x02, 6, 0x9F, 0x03, 6, 0x9F, 0x1A, 2, 0x95, 5, 0x5F, 0x2A, 2, 0x9A, 3, 0x9C, 1,
    0x9F, 0x37, 4, 0xDF, 0x69, 1,
];
const _: () = assert!(SM2_PDOL.len() == RSA_PDOL.len() + 3);

/// SFI 1: certificates. SFI 2: signed data. SFI 3: the dynamic signature.
const AFL: [u8; 12] = [0x08, 1, 2, 0, 0x10, 1, 1, 1, 0x18, 1, 1, 0];
/// The gate knows the suite (DF69).
const KNOWS_SM2: &[u8] = &[0x01];

/// The file of an SM2 application.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sm2File {
    /// What every application has.
    pub card: CardData,
    /// Index of the authority's key that signed the issuer certificate.
    pub ca_index: u8,
    /// Issuer certificate, 142 bytes.
    #[serde(with = "crate::hex")]
    pub issuer_certificate: Vec<u8>,
    /// Card certificate, 148 bytes.
    #[serde(with = "crate::hex")]
    pub card_certificate: Vec<u8>,
    /// The card's signing key.
    #[serde(with = "crate::hex")]
    pub card_key: Secret<32>,
    /// The identifier by which it signs; left out where it is the usual one.
    #[serde(default = "usual_user_id", skip_serializing_if = "is_usual_user_id")]
    pub user_id: String,
    /// What stands before the counter in what it signs; left out where it is as usual.
    #[serde(default = "usual_prefix", skip_serializing_if = "is_usual_prefix", with = "crate::hex")]
    pub counter_prefix: Vec<u8>,
}

fn usual_prefix() -> Vec<u8> {
    unverified::COUNTER_PREFIX.to_vec()
}

fn is_usual_prefix(prefix: &[u8]) -> bool {
    prefix == unverified::COUNTER_PREFIX
}

/// An SM2 application at work.
pub(crate) struct Sm2 {
    pub(crate) file: Sm2File,
    key: SigningKey,
    convention: Convention,
    /// The last one is made anew at each tap.
    pub(crate) records: Vec<Record>,
}

impl Sm2 {
    pub(crate) fn new(file: &Sm2File) -> Result<Self, PhoneError> {
        for (name, value, wanted) in [
            ("issuer certificate", &file.issuer_certificate, ISSUER_CERTIFICATE_LEN),
            ("card certificate", &file.card_certificate, CARD_CERTIFICATE_LEN),
        ] {
            if value.len() != wanted {
                return Err(PhoneError::Length { name, len: value.len() });
            }
        }
        let issuer = record(|w| {
            w.tlv(tags::CA_INDEX, &[file.ca_index])?;
            w.tlv(tags::ISSUER_CERTIFICATE, &file.issuer_certificate)
        })?;
        let records = vec![
            (1, 1, issuer),
            (1, 2, record(|w| w.tlv(tags::CARD_CERTIFICATE, &file.card_certificate))?),
            (2, 1, record(|w| w.bytes(&certified_content(&file.card, RsaFlow::Quick)?))?),
        ];
        let convention =
            Convention::new(&file.user_id, &file.counter_prefix).map_err(PhoneError::Convention)?;
        let key = SigningKey::from_bytes(file.card_key.bytes(), &convention).ok_or(PhoneError::Sm2Key)?;
        Ok(Self { file: file.clone(), key, convention, records })
    }

    /// True if the gate that sent these values knows the suite.
    pub(super) fn accepts(pdol: &[u8], values: &[u8]) -> bool {
        Dol::parse(pdol).is_ok_and(|pdol| pdol.locate(values, tags::SM_SUPPORT) == Some(KNOWS_SM2))
    }

    pub(super) fn process(&mut self, tap: &Tap<'_>) -> Result<Vec<u8>, TlvError> {
        let (card, quirks) = (&self.file.card, tap.quirks);
        let atc = quirks.stated_atc(tap.atc);
        let [n0, n1, n2, n3, ..] = tap.nonce;
        let card_data = [FDDA_01, n0, n1, n2, n3, CTQ[0], CTQ[1]];
        let pdol = quirks.pdol(SM2_PDOL);
        let dol = Dol::parse(&pdol)?;
        let value = |tag| dol.locate(tap.values, tag).unwrap_or_default();
        let signed =
            [value(tags::UNPREDICTABLE_NUMBER), value(tags::AMOUNT), value(tags::CURRENCY), &card_data];
        let mut signature = sign_fdda(&self.key, quirks.signed_atc(tap.atc), &signed, &self.convention)
            .map_err(|_| TlvError::Full)?;
        if quirks.forged_signature
            && let Some(last) = signature.last_mut()
        {
            // A signature that is well formed and nobody's.
            *last ^= 0x01;
        }
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
}
