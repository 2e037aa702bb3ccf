//! The house's own card, as the design fixes its profile.

use super::{Authority, Files, HOUSE_AID, ok, tlv, token};
use std::cell::Cell;
use wavepass_protocol::ecc::{
    CardCertificate, CardFields, IssuerCertificate, IssuerFields, SigningKey, StaticHash, sign_dynamic,
};
use wavepass_protocol::lists::Suite;
use wavepass_protocol::select::Aid;
use wavepass_protocol::time::Date;
use wavepass_protocol::token::Token;

pub const PDOL: &[u8] = &[
    0x9F, 0x66, 4, 0x9F, 0x02, 6, 0x9F, 0x03, 6, 0x9F, 0x1A, 2, 0x95, 5, 0x5F, 0x2A, 2, 0x9A, 3, 0x9C, 1,
    0x9F, 0x37, 4,
];
pub const RID: [u8; 5] = [0xF0, 0x57, 0x41, 0x56, 0x45];
pub const SERIAL: [u8; 3] = [0, 0, 9];
const AFL: &[u8] = &[0x08, 1, 2, 0, 0x10, 1, 1, 1];

pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32]).unwrap()
}

pub fn authority() -> Authority {
    Authority::new(RID, 1, Suite::P256, key(1).public_key().x(), &[])
}

/// What a card is made from; `issue` makes it.
#[derive(Clone)]
pub struct Spec {
    pub token: Token,
    pub expiry: [u8; 3],
    pub effective: [u8; 3],
    pub domain: Option<Vec<u8>>,
    pub pdol: Vec<u8>,
    pub atc: u16,
    pub cid: Option<u8>,
    pub iad: Vec<u8>,
    pub afl: Vec<u8>,
    pub issuer_id: [u8; 5],
    pub issuer_seed: u8,
    pub issuer_expiry: Date,
    pub card_seed: u8,
    pub card_expiry: Date,
    /// More objects in the signed record, before it is certified.
    pub more_signed: Vec<u8>,
    /// More objects in the answer to GET PROCESSING OPTIONS, under its signature.
    pub more_options: Vec<u8>,
    /// Signed record without these objects.
    pub without: Vec<u32>,
    /// True if the card can be timed.
    pub timed: bool,
}

impl Spec {
    pub fn new() -> Self {
        Self {
            token: token(),
            expiry: [0x30, 0x12, 0x31],
            effective: [0x26, 0x01, 0x01],
            domain: Some([&[1, 1][..], b"WAVE", &[0, 0]].concat()),
            pdol: PDOL.to_vec(),
            atc: 5,
            cid: Some(0x80),
            iad: vec![0x06, 0x01, 0x12, 0x03, 0xA0, 0x00, 0x00],
            afl: AFL.to_vec(),
            issuer_id: [0x62, 0x12, 0x34, 0xFF, 0xFF],
            issuer_seed: 2,
            issuer_expiry: Date::new(2035, 12, 31).unwrap(),
            card_seed: 3,
            card_expiry: Date::new(2031, 1, 1).unwrap(),
            more_signed: vec![],
            more_options: vec![],
            without: vec![],
            timed: false,
        }
    }

    pub fn issue(self) -> Card {
        let (ca, issuer, card) = (key(1), key(self.issuer_seed), key(self.card_seed));
        let mut issuer_certificate = [0; 117];
        let fields = IssuerFields {
            issuer_id: self.issuer_id,
            expiry: self.issuer_expiry,
            serial: SERIAL,
            rid: RID,
            ca_index: 1,
            key: issuer.public_key(),
        };
        IssuerCertificate::issue(&fields, &ca, [0; 32], &mut issuer_certificate);

        let mut signed = vec![];
        let mut put = |tag: u32, value: &[u8]| {
            if !self.without.contains(&tag) {
                signed.extend(tlv(tag, value));
            }
        };
        put(0x5A, self.token.bcd_short());
        put(0x5F24, &self.expiry);
        put(0x5F25, &self.effective);
        put(0x5F34, &[1]);
        put(0x9F07, &[0xFF, 0x00]);
        if let Some(domain) = &self.domain {
            put(0xDF71, domain);
        }
        signed.extend(&self.more_signed);

        let pdol_tlv = tlv(0x9F38, &self.pdol);
        let mut hash = StaticHash::new();
        hash.record(&signed);
        let aid = Aid::new(&HOUSE_AID).unwrap();
        let static_hash = hash.finish(&tlv(0x82, &[0x21, u8::from(self.timed)]), &aid.tlv(), &pdol_tlv);
        let mut card_certificate = [0; 145];
        let fields = CardFields {
            expiry: self.card_expiry,
            expiry_time: [0x23, 0x59],
            serial: [0, 0, 0, 0, 0, self.card_seed],
            static_hash,
            key: card.public_key(),
        };
        CardCertificate::issue(&fields, &issuer, [0; 32], &mut card_certificate);

        let offer = if self.timed { tlv(0xBF0C, &tlv(0xDF72, &[1])) } else { vec![] };
        let fci = tlv(
            0x6F,
            &[tlv(0x84, &HOUSE_AID), tlv(0xA5, &[tlv(0x50, b"WAVEPASS"), pdol_tlv, offer].concat())].concat(),
        );
        let records = vec![
            (1, 1, tlv(0x70, &[tlv(0x8F, &[1]), tlv(0x90, &issuer_certificate)].concat())),
            (1, 2, tlv(0x70, &tlv(0x9F46, &card_certificate))),
            (2, 1, tlv(0x70, &signed)),
        ];
        Card { files: Files { aid: HOUSE_AID.to_vec(), fci, records }, spec: self, exchange: Cell::default() }
    }
}

#[derive(Clone)]
pub struct Card {
    pub files: Files,
    pub spec: Spec,
    /// The last timed exchange: the gate's entropy, then the answer.
    exchange: Cell<Option<[u8; 14]>>,
}

impl Card {
    pub fn answer(&self, command: &[u8]) -> Vec<u8> {
        match command {
            [0x80, 0xEA, 0, 0, 4, entropy @ .., 0] if self.spec.timed => {
                // Entropy of its own, then 0.1 ms at least, 2 ms at most, 1 ms to send it.
                let answer = [0xE1, 0xE2, 0xE3, entropy[0], 0, 1, 0, 20, 0, 10];
                self.exchange.set([entropy, &answer].concat().try_into().ok());
                return ok(&tlv(0x80, &answer));
            }
            [0x00, 0xA4, ..] => self.exchange.set(None),
            _ => {}
        }
        self.files.answer(command, |values| self.options(values))
    }

    /// The answer to GET PROCESSING OPTIONS, signed by the card.
    pub fn options(&self, values: &[u8]) -> Vec<u8> {
        let spec = &self.spec;
        let mut content = [
            tlv(0x82, &[0x21, u8::from(spec.timed)]),
            tlv(0x94, &spec.afl),
            tlv(0x9F36, &spec.atc.to_be_bytes()),
            spec.cid.map_or(vec![], |cid| tlv(0x9F27, &[cid])),
            tlv(0x9F26, &[0xAC; 8]),
            tlv(0x9F10, &spec.iad),
            tlv(0x9F6C, &[0, 0]),
            self.exchange.get().map_or(vec![], |exchange| tlv(0xDF73, &exchange)),
            spec.more_options.clone(),
        ]
        .concat();
        let signature = sign_dynamic(&key(spec.card_seed), values, &[&content], [0; 32]).unwrap();
        content.extend(tlv(0x9F4B, &signature));
        tlv(0x77, &content)
    }
}

pub fn card() -> Card {
    Spec::new().issue()
}
