//! A card in circulation, with RSA and quick dynamic authentication: an issuer key with a remainder, a token that
//! the card certificate names, and the signature in the last record.

use super::{Authority, Files, UNIONPAY_AID, p256, tlv, token};
use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{Odd, U2048};
use rand_chacha::rand_core::SeedableRng;
use rsa::traits::{PrivateKeyParts, PublicKeyParts};
use sha1::{Digest, Sha1};
use std::sync::LazyLock;
use wavepass_protocol::dol::Dol;
use wavepass_protocol::lists::Suite;
use wavepass_protocol::tags;
use wavepass_protocol::token::Token;

pub const RID: [u8; 5] = [0xA0, 0x00, 0x00, 0x03, 0x33];
pub const SERIAL: [u8; 3] = [0, 1, 7];
const AFL: &[u8] = &[0x08, 1, 2, 0, 0x10, 1, 2, 1];
const AIP: [u8; 2] = [0x7D, 0x00];

/// A private key: modulus, private exponent; the public exponent is 3.
pub struct Key {
    n: Vec<u8>,
    d: Vec<u8>,
}

impl Key {
    fn generate(bits: usize, seed: u64) -> Self {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let key = rsa::PrivateKey::new_with_exp(&mut rng, bits, 3u64.into()).unwrap();
        Self { n: key.n_bytes().to_vec(), d: key.d().to_be_bytes_trimmed_vartime().to_vec() }
    }

    /// Signs `6A ‖ head ‖ hash ‖ BC`, where the hash goes on over `rest`.
    fn seal(&self, head: &[u8], rest: &[&[u8]]) -> Vec<u8> {
        assert_eq!(head.len(), self.n.len() - 22);
        let mut hash = Sha1::new_with_prefix(head);
        rest.iter().for_each(|part| hash.update(part));
        let block = [&[0x6A], head, &hash.finalize()[..], &[0xBC]].concat();
        let number = |bytes: &[u8]| {
            let mut wide = [0; 256];
            wide[256 - bytes.len()..].copy_from_slice(bytes);
            U2048::from_be_slice(&wide)
        };
        let params = FixedMontyParams::new_vartime(Odd::new(number(&self.n)).unwrap());
        let power = FixedMontyForm::new(&number(&block), &params).pow_vartime(&number(&self.d)).retrieve();
        power.to_be_bytes()[256 - self.n.len()..].to_vec()
    }
}

static CA: LazyLock<Key> = LazyLock::new(|| Key::generate(1152, 1));
static ISSUER: LazyLock<Key> = LazyLock::new(|| Key::generate(1152, 2));
static CARD: LazyLock<Key> = LazyLock::new(|| Key::generate(1024, 3));
static OTHER: LazyLock<Key> = LazyLock::new(|| Key::generate(1024, 4));

pub fn authority() -> Authority {
    Authority::new(RID, 8, Suite::Rsa, &CA.n, &[3])
}

/// The certified key's field, and what is left of the key.
fn split(key: &Key, room: usize) -> (Vec<u8>, Vec<u8>) {
    let mut field = key.n.clone();
    let remainder = if field.len() > room { field.split_off(room) } else { vec![] };
    field.resize(room, 0xBB);
    (field, remainder)
}

#[derive(Clone)]
pub struct Spec {
    pub token: Token,
    pub pdol: Vec<u8>,
    pub df61: Option<u8>,
    pub atc: u16,
    /// The counter that the card signs.
    pub signed_atc: u16,
    pub format: u8,
    pub version: u8,
    pub cid: Option<u8>,
    pub iad: Vec<u8>,
    pub expiry: [u8; 3],
    /// Where the expiry stands in a record that the certificate covers.
    pub expiry_signed: bool,
    pub card_expiry_mmyy: [u8; 2],
    pub issuer_expiry_mmyy: [u8; 2],
    pub issuer_id: [u8; 4],
    pub track2: Vec<u8>,
    pub other_key: bool,
    pub tag_list: Option<Vec<u8>>,
}

impl Spec {
    pub fn new() -> Self {
        Self {
            token: token(),
            pdol: p256::PDOL.to_vec(),
            df61: Some(0x40),
            atc: 0x0102,
            signed_atc: 0x0102,
            format: 0x95,
            version: 1,
            cid: Some(0x80),
            iad: vec![0x07, 0x01, 0x01, 0x03, 0xA0, 0x00, 0x00],
            expiry: [0x30, 0x12, 0x31],
            expiry_signed: true,
            card_expiry_mmyy: [0x12, 0x29],
            issuer_expiry_mmyy: [0x12, 0x32],
            issuer_id: [0x62, 0x12, 0x34, 0xFF],
            track2: vec![0x62, 0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0xD3, 0x01, 0x22, 0x01, 0x00],
            other_key: false,
            tag_list: Some(vec![0x82]),
        }
    }

    fn key(&self) -> &'static Key {
        if self.other_key { &OTHER } else { &CARD }
    }

    pub fn issue(self) -> Card {
        let card_key = self.key();
        let (field, issuer_remainder) = split(&ISSUER, CA.n.len() - 36);
        let mut head = vec![0x02];
        head.extend(self.issuer_id);
        head.extend(self.issuer_expiry_mmyy);
        head.extend(SERIAL);
        head.extend([1, 1, ISSUER.n.len() as u8, 1]);
        head.extend(field);
        let issuer_certificate = CA.seal(&head, &[&issuer_remainder, &[3]]);

        let mut signed = tlv(0x5A, self.token.bcd_short());
        if self.expiry_signed {
            signed.extend(tlv(0x5F24, &self.expiry));
        }
        signed.extend([tlv(0x5F25, &[0x26, 1, 1]), tlv(0x5F34, &[1]), tlv(0x5F28, &[0x01, 0x56])].concat());
        if let Some(list) = &self.tag_list {
            signed.extend(tlv(0x9F4A, list));
        }
        let aip: &[u8] = if self.tag_list.is_some() { &AIP } else { &[] };
        let (field, card_remainder) = split(card_key, ISSUER.n.len() - 42);
        let mut head = vec![0x04];
        head.extend(self.token.bcd());
        head.extend(self.card_expiry_mmyy);
        head.extend([4, 5, 6, 1, 1, card_key.n.len() as u8, 1]);
        head.extend(field);
        let card_certificate = ISSUER.seal(&head, &[&card_remainder, &[3], &signed, aip]);

        let discretionary = self.df61.map_or(vec![], |byte| tlv(0xBF0C, &tlv(0xDF61, &[byte])));
        let proprietary = tlv(0xA5, &[tlv(0x50, b"DEBIT"), tlv(0x9F38, &self.pdol), discretionary].concat());
        let fci = tlv(0x6F, &[tlv(0x84, &UNIONPAY_AID), proprietary].concat());
        let mut last = vec![];
        if !self.expiry_signed {
            last.extend(tlv(0x5F24, &self.expiry));
        }
        let issuer_record = [
            tlv(0x8F, &[8]),
            tlv(0x90, &issuer_certificate),
            tlv(0x9F32, &[3]),
            tlv(0x92, &issuer_remainder),
        ];
        let card_record = [tlv(0x9F46, &card_certificate), tlv(0x9F47, &[3]), tlv(0x9F48, &card_remainder)];
        let records = vec![
            (1, 1, tlv(0x70, &issuer_record.concat())),
            (1, 2, tlv(0x70, &card_record.concat())),
            (2, 1, tlv(0x70, &signed)),
            (2, 2, tlv(0x70, &last)),
        ];
        Card { files: Files { aid: UNIONPAY_AID.to_vec(), fci, records }, spec: self }
    }
}

#[derive(Clone)]
pub struct Card {
    pub files: Files,
    pub spec: Spec,
}

impl Card {
    pub fn answer(&mut self, command: &[u8]) -> Vec<u8> {
        let mut values = None;
        let answer = self.files.answer(command, |sent| {
            values = Some(sent.to_vec());
            self.options()
        });
        if let Some(values) = values {
            self.sign(&values);
        }
        answer
    }

    fn options(&self) -> Vec<u8> {
        let spec = &self.spec;
        let content = [
            tlv(0x82, &AIP),
            tlv(0x94, AFL),
            tlv(0x9F36, &spec.atc.to_be_bytes()),
            spec.cid.map_or(vec![], |cid| tlv(0x9F27, &[cid])),
            tlv(0x9F26, &[0xAC; 8]),
            tlv(0x9F10, &spec.iad),
            tlv(0x57, &spec.track2),
            tlv(0x5F34, &[1]),
            tlv(0x9F6C, &[0, 0]),
        ];
        tlv(0x77, &content.concat())
    }

    /// Signs the tap at GET PROCESSING OPTIONS; the last record carries the signature.
    fn sign(&mut self, values: &[u8]) {
        let spec = &self.spec;
        let pdol = Dol::parse(&spec.pdol).unwrap();
        let sent = |tag| pdol.locate(values, tag).unwrap_or_default();
        let related = [&[spec.version, 0xC1, 0xC2, 0xC3, 0xC4][..], &[0, 0]].concat();
        let hashed = [sent(tags::UNPREDICTABLE_NUMBER), sent(tags::AMOUNT), sent(tags::CURRENCY), &related];
        // Version 00 signs the unpredictable number alone.
        let hashed = if spec.version == 0 { &hashed[..1] } else { &hashed[..] };
        let [high, low] = spec.signed_atc.to_be_bytes();
        let key = spec.key();
        let mut head = vec![spec.format, 0x01, 3, 2, high, low];
        head.resize(key.n.len() - 22, 0xBB);
        let signature = key.seal(&head, hashed);
        let mut content = tlv(0x9F4B, &signature);
        content.extend(tlv(0x9F69, &related));
        if !spec.expiry_signed {
            content.extend(tlv(0x5F24, &spec.expiry));
        }
        self.files.records[3].2 = tlv(0x70, &content);
    }
}

pub fn card() -> Card {
    Spec::new().issue()
}
