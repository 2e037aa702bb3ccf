//! A card in circulation, with RSA and quick dynamic authentication: an issuer key with a remainder, a token that
//! the card certificate names, and the signature in the last record.

use super::{Authority, Files, UNIONPAY_AID, ok, p256, tlv, token};
use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{Odd, U2048};
use rand_chacha::rand_core::SeedableRng;
use rsa::traits::{PrivateKeyParts, PublicKeyParts};
use sha1::{Digest, Sha1};
use std::sync::LazyLock;
use wavepass_protocol::apdu::Command;
use wavepass_protocol::dol::Dol;
use wavepass_protocol::lists::Suite;
use wavepass_protocol::tags;
use wavepass_protocol::token::Token;

pub const RID: [u8; 5] = [0xA0, 0x00, 0x00, 0x03, 0x33];
pub const SERIAL: [u8; 3] = [0, 1, 7];
const AFL: &[u8] = &[0x08, 1, 2, 0, 0x10, 1, 2, 1];
/// All the records of a card with the longest keys.
const LARGE_AFL: &[u8] = &[0x08, 1, 4, 0, 0x10, 1, 1, 1];
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
static LARGE: LazyLock<[Key; 3]> =
    LazyLock::new(|| [Key::generate(1984, 5), Key::generate(1984, 6), Key::generate(1152, 7)]);
static OTHER: LazyLock<Key> = LazyLock::new(|| Key::generate(1024, 4));

pub fn authority() -> Authority {
    Authority::new(RID, 8, Suite::Rsa, &CA.n, &[3])
}

/// The authority of cards with the longest keys.
pub fn large_authority() -> Authority {
    Authority::new(RID, 0xB, Suite::Rsa, &LARGE[0].n, &[3])
}

/// What an older card does after its records.
#[derive(Clone)]
pub struct Older {
    /// What it asks for with INTERNAL AUTHENTICATE; `None`: it gives no list.
    pub ddol: Option<Vec<u8>>,
    /// What it asks for with GENERATE AC.
    pub cdol: Vec<u8>,
    /// Whether it answers in template 80, values without tags.
    pub plain: bool,
    /// Answers GET PROCESSING OPTIONS without a list.
    pub no_pdol: bool,
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
    pub older: Option<Older>,
    /// The longest keys: authority and issuer 1984 bits, card 1152; all records of the file 1 and 2 one by one.
    pub large: bool,
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
            older: None,
            large: false,
        }
    }

    /// A card that does not sign in the quick flow.
    pub fn older() -> Self {
        let cdol = [&p256::PDOL[3..], &[0x9F, 0x21, 3, 0x9F, 0x4E, 20]].concat();
        let ddol = Some(vec![0x9F, 0x37, 4, 0x9F, 0x1A, 2]);
        let older = Older { ddol, cdol, plain: false, no_pdol: false };
        Self { df61: None, format: 0x05, older: Some(older), ..Self::new() }
    }

    fn key(&self) -> &'static Key {
        match (self.large, self.other_key) {
            (true, _) => &LARGE[2],
            (_, true) => &OTHER,
            _ => &CARD,
        }
    }

    pub fn issue(self) -> Card {
        let card_key = self.key();
        let (ca, issuer): (&Key, &Key) = if self.large { (&LARGE[0], &LARGE[1]) } else { (&CA, &ISSUER) };
        let (field, issuer_remainder) = split(issuer, ca.n.len() - 36);
        let mut head = vec![0x02];
        head.extend(self.issuer_id);
        head.extend(self.issuer_expiry_mmyy);
        head.extend(SERIAL);
        head.extend([1, 1, issuer.n.len() as u8, 1]);
        head.extend(field);
        let issuer_certificate = ca.seal(&head, &[&issuer_remainder, &[3]]);

        let mut signed = tlv(0x5A, self.token.bcd_short());
        if self.expiry_signed {
            signed.extend(tlv(0x5F24, &self.expiry));
        }
        signed.extend([tlv(0x5F25, &[0x26, 1, 1]), tlv(0x5F34, &[1]), tlv(0x5F28, &[0x01, 0x56])].concat());
        if let Some(list) = &self.tag_list {
            signed.extend(tlv(0x9F4A, list));
        }
        if let Some(older) = &self.older {
            signed.extend(tlv(0x8C, &older.cdol));
            signed.extend(older.ddol.as_ref().map_or(vec![], |ddol| tlv(0x9F49, ddol)));
        }
        let aip: &[u8] = if self.tag_list.is_some() { &AIP } else { &[] };
        let (field, card_remainder) = split(card_key, issuer.n.len() - 42);
        let mut head = vec![0x04];
        head.extend(self.token.bcd());
        head.extend(self.card_expiry_mmyy);
        head.extend([4, 5, 6, 1, 1, card_key.n.len() as u8, 1]);
        head.extend(field);
        let card_certificate = issuer.seal(&head, &[&card_remainder, &[3], &signed, aip]);

        let discretionary = self.df61.map_or(vec![], |byte| tlv(0xBF0C, &tlv(0xDF61, &[byte])));
        let no_pdol = self.older.as_ref().is_some_and(|older| older.no_pdol);
        let pdol = if no_pdol { vec![] } else { tlv(0x9F38, &self.pdol) };
        let proprietary = tlv(0xA5, &[tlv(0x50, b"DEBIT"), pdol, discretionary].concat());
        let fci = tlv(0x6F, &[tlv(0x84, &UNIONPAY_AID), proprietary].concat());
        let mut last = vec![];
        if !self.expiry_signed {
            last.extend(tlv(0x5F24, &self.expiry));
        }
        let issuer_record = [
            tlv(0x8F, &[if self.large { 0xB } else { 8 }]),
            tlv(0x90, &issuer_certificate),
            tlv(0x9F32, &[3]),
            tlv(0x92, &issuer_remainder),
        ];
        let card_record = [tlv(0x9F46, &card_certificate), tlv(0x9F47, &[3]), tlv(0x9F48, &card_remainder)];
        let mut records = vec![
            (1, 1, tlv(0x70, &issuer_record.concat())),
            (1, 2, tlv(0x70, &card_record.concat())),
            (2, 1, tlv(0x70, &signed)),
            (2, 2, tlv(0x70, &last)),
        ];
        if self.large {
            // Short answers: one long object a record; and what a gate does not use.
            let long = [&issuer_record[1], &card_record[0], &tlv(0x93, &[0x93; 248])].map(|o| tlv(0x70, o));
            let short = [&issuer_record[0][..], &issuer_record[2..].concat(), &card_record[1..].concat()];
            records[0].2 = tlv(0x70, &short.concat());
            records[1].2 = long[0].clone();
            records.extend([(1, 3, long[1].clone()), (1, 4, long[2].clone())]);
        }
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
        if let Some(older) = self.spec.older.clone() {
            return self.answer_older(&older, command);
        }
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

    fn answer_older(&self, older: &Older, command: &[u8]) -> Vec<u8> {
        let spec = &self.spec;
        let parsed = Command::parse(command).unwrap();
        let length_of = |list: &[u8]| Dol::parse(list).unwrap().total_len();
        let answer = |objects: &[(u32, &[u8])]| {
            let values: Vec<u8> = objects.iter().flat_map(|(_, value)| value.to_vec()).collect();
            let content: Vec<u8> = objects.iter().flat_map(|(tag, value)| tlv(*tag, value)).collect();
            ok(&if older.plain { tlv(0x80, &values) } else { tlv(0x77, &content) })
        };
        match parsed.ins {
            0xA8 => {
                let afl = if spec.large { LARGE_AFL } else { &[0x08, 1, 2, 0, 0x10, 1, 1, 1] };
                answer(&[(0x82, &AIP), (0x94, afl)])
            }
            0x88 => {
                assert_eq!(parsed.data.len(), length_of(older.ddol.as_deref().unwrap_or(&[0x9F, 0x37, 4])));
                let key = spec.key();
                let mut head = vec![spec.format, 0x01, 5, 4, 0xD1, 0xD2, 0xD3, 0xD4];
                head.resize(key.n.len() - 22, 0xBB);
                answer(&[(0x9F4B, &key.seal(&head, &[parsed.data]))])
            }
            0xAE => {
                assert_eq!((parsed.p1, parsed.data.len()), (0x80, length_of(&older.cdol)));
                let (cid, atc) = ([spec.cid.unwrap_or(0x80)], spec.atc.to_be_bytes());
                answer(&[(0x9F27, &cid), (0x9F36, &atc), (0x9F26, &[0xAC; 8]), (0x9F10, &spec.iad)])
            }
            _ => self.files.answer(command, |_| unreachable!("answered above")),
        }
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
