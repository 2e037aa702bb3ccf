//! P-256: authority, issuer, and the house's phones.

use super::{IssueError, json_error};
use crate::application::{CardData, HOUSE_AID, HouseFile, static_hash};
use crate::hex::Secret;
use crate::phone::{ApplicationFile, PhoneFile};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wavepass_protocol::ecc::{
    CARD_CERTIFICATE_LEN, CardCertificate, CardFields, ISSUER_CERTIFICATE_LEN, IssuerCertificate,
    IssuerFields, P256Verifier, PublicKey, SIGNATURE_LEN, SUITE, SigningKey,
};
use wavepass_protocol::select::Aid;
use wavepass_protocol::time::Date;
use wavepass_protocol::token::{Expiry, Token};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// What a phone calls the house's application.
const LABEL: &str = "Wavepass";

/// Signs the parts of a message joined, EC-SDSA `r ‖ s`, with the issuer's key, which stays with whoever signs.
pub type Sign<'a> = dyn Fn(&[&[u8]]) -> [u8; SIGNATURE_LEN] + 'a;

/// Where a token is good: record DF71, version 01, domain 01 (transit).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Domain {
    /// The network, four ASCII letters.
    pub network: [u8; 4],
    /// The operator, 0 for any of the network.
    pub operator: u16,
}

impl Domain {
    fn value(self) -> Vec<u8> {
        [&[0x01, 0x01][..], &self.network, &self.operator.to_be_bytes()].concat()
    }
}

/// What a phone is to be made of. Its keys are wiped when dropped. No `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct HouseOrder {
    /// The token.
    #[zeroize(skip)]
    pub token: Token,
    /// The last month in which it is good.
    #[zeroize(skip)]
    pub expiry: Expiry,
    /// The first day on which it is good.
    #[zeroize(skip)]
    pub effective: Date,
    /// Its sequence number.
    pub psn: u8,
    /// Where it is good; `None` leaves the record out, and no gate of the house accepts it.
    #[zeroize(skip)]
    pub domain: Option<Domain>,
    /// Serial number of the card certificate.
    pub serial: [u8; 6],
    /// Random bytes from which the card's key derives.
    pub card_key: [u8; 32],
    /// The card's master key (option C), derived by the caller from the issuer's.
    pub master_key: [u8; 16],
}

/// A P-256 issuer, as its certificate says; it holds no key.
#[derive(Clone)]
pub struct HouseIssuer {
    certificate: [u8; ISSUER_CERTIFICATE_LEN],
    fields: IssuerFields,
}

impl HouseIssuer {
    /// Reads an issuer's certificate, 117 bytes, as tag 90 has it.
    pub fn new(certificate: &[u8]) -> Result<Self, IssueError> {
        let parsed = IssuerCertificate::parse(certificate).map_err(IssueError::Certificate)?;
        Ok(Self { certificate: *parsed.raw(), fields: parsed.fields })
    }

    /// Registered application provider.
    pub const fn rid(&self) -> [u8; 5] {
        self.fields.rid
    }

    /// Index of the authority's key.
    pub const fn ca_index(&self) -> u8 {
        self.fields.ca_index
    }

    /// The first digits of the issuer's tokens, packed, padded with F.
    pub const fn issuer_id(&self) -> [u8; 5] {
        self.fields.issuer_id
    }

    /// The last day on which the certificate is good.
    pub const fn expiry(&self) -> Date {
        self.fields.expiry
    }

    /// The certificate.
    pub const fn certificate(&self) -> &[u8; ISSUER_CERTIFICATE_LEN] {
        &self.certificate
    }

    /// Makes a phone that can be timed: its key, its certificate, its file. The signature that `sign` gives is verified.
    pub fn personalise(&self, order: &HouseOrder, sign: &Sign<'_>) -> Result<PhoneFile, IssueError> {
        self.personalise_as(true, order, sign)
    }

    /// The same of a phone that can be timed (relay resistance), or cannot.
    pub fn personalise_as(
        &self,
        relay_resistance: bool,
        order: &HouseOrder,
        sign: &Sign<'_>,
    ) -> Result<PhoneFile, IssueError> {
        let expiry = Date::last_of(order.expiry);
        check_dates(order.effective, expiry)?;
        if !order.token.starts_with_bcd(&self.fields.issuer_id) {
            return Err(IssueError::NotOurToken);
        }
        let card = CardData {
            aid: Aid::new(HOUSE_AID).ok_or(IssueError::Aid(HOUSE_AID.len()))?,
            label: LABEL.to_owned(),
            priority: 1,
            token: order.token,
            expiry,
            effective: order.effective,
            psn: order.psn,
            master_key: Secret::new(order.master_key),
        };
        let domain = order.domain.map(Domain::value).unwrap_or_default();
        let (number, key) = card_key(&order.card_key);
        let fields = CardFields {
            // The certificate of a card bounds nothing that its issuer's does not.
            expiry: expiry.min(self.fields.expiry),
            expiry_time: [0x23, 0x59],
            serial: order.serial,
            static_hash: static_hash(&card, &domain, relay_resistance)?,
            key: key.public_key(),
        };
        let certificate = self.certify(&fields, sign)?;
        let file = HouseFile {
            card,
            domain,
            relay_resistance,
            ca_index: self.fields.ca_index,
            issuer_certificate: self.certificate.to_vec(),
            card_certificate: certificate.to_vec(),
            card_key: Secret::new(*number),
        };
        Ok(PhoneFile::of(ApplicationFile::House(file)))
    }

    /// The card certificate. The body is written here, because the signing key is elsewhere; that it is well formed
    /// and verifies is checked by reading it back as a gate does.
    fn certify(
        &self,
        fields: &CardFields,
        sign: &Sign<'_>,
    ) -> Result<[u8; CARD_CERTIFICATE_LEN], IssueError> {
        const BODY: usize = CARD_CERTIFICATE_LEN - SIGNATURE_LEN;
        const SHA256: u8 = 0x02;
        let mut out = [0; CARD_CERTIFICATE_LEN];
        let parts: [&[u8]; 7] = [
            &[0x14, 0x00, SUITE],
            &fields.expiry.to_yyyymmdd(),
            &fields.expiry_time,
            &fields.serial,
            &[0x00, SHA256],
            &fields.static_hash,
            fields.key.x(),
        ];
        let mut at = 0;
        for part in parts {
            out[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        let (body, signature) = out.split_at_mut(BODY);
        signature.copy_from_slice(&sign(&[body]));
        let read = CardCertificate::parse(&out).map_err(IssueError::Certificate)?;
        if read.fields != *fields {
            return Err(IssueError::Inconsistent);
        }
        read.verify(&mut P256Verifier, &self.fields.key).map_err(|_| IssueError::WrongSigner)?;
        Ok(out)
    }
}

/// Refuses dates that cards cannot write or that leave no day.
pub(super) fn check_dates(effective: Date, expiry: Date) -> Result<(), IssueError> {
    for date in [effective, expiry] {
        if !(2000..2100).contains(&date.year) {
            return Err(IssueError::Year(date.year));
        }
    }
    if effective <= expiry { Ok(()) } else { Err(IssueError::Dates) }
}

/// The card's private number and key: the first of the seed's hashes that is a key.
fn card_key(seed: &[u8; 32]) -> (Zeroizing<[u8; 32]>, SigningKey) {
    for attempt in 0u32.. {
        let hash = Sha256::new_with_prefix(b"Wavepass card key")
            .chain_update(seed)
            .chain_update(attempt.to_be_bytes());
        let number = Zeroizing::new(<[u8; 32]>::from(hash.finalize()));
        if let Some(key) = SigningKey::from_bytes(&number) {
            return (number, key);
        }
    }
    unreachable!("one hash in 2^32 is no key; 2^32 in a row do not happen")
}

/// What a self-made authority and its issuer are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthorityOrder {
    /// Registered application provider.
    pub rid: [u8; 5],
    /// Index of the authority's key.
    pub ca_index: u8,
    /// The first 3 to 10 digits of the issuer's tokens, packed, padded with F.
    pub issuer_id: [u8; 5],
    /// The last day of the issuer's certificate.
    pub expiry: Date,
    /// Serial number of the issuer's certificate.
    pub serial: [u8; 3],
}

/// A self-made P-256 authority with one issuer: for tests, and for phones that no bank knows.
pub struct HouseAuthority {
    ca: PublicKey,
    issuer: HouseIssuer,
    issuer_number: Secret<32>,
    key: SigningKey,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(with = "crate::hex")]
    ca_key: [u8; 32],
    #[serde(with = "crate::hex")]
    issuer_certificate: Vec<u8>,
    #[serde(with = "crate::hex")]
    issuer_key: Secret<32>,
}

impl HouseAuthority {
    /// Makes an authority and an issuer. The authority's private key signs the issuer's certificate and is then
    /// forgotten.
    pub fn generate(rng: &mut (impl rand::CryptoRng + ?Sized), order: AuthorityOrder) -> Self {
        let mut number = || {
            let mut seed = Zeroizing::new([0; 32]);
            rng.fill_bytes(seed.as_mut_slice());
            card_key(&seed)
        };
        let (_, ca) = number();
        let (issuer_number, key) = number();
        let fields = IssuerFields {
            issuer_id: order.issuer_id,
            expiry: order.expiry,
            serial: order.serial,
            rid: order.rid,
            ca_index: order.ca_index,
            key: key.public_key(),
        };
        let mut certificate = [0; ISSUER_CERTIFICATE_LEN];
        let mut nonce = [0; 32];
        rng.fill_bytes(&mut nonce);
        IssuerCertificate::issue(&fields, &ca, nonce, &mut certificate);
        let issuer = HouseIssuer { certificate, fields };
        Self { ca: ca.public_key(), issuer, issuer_number: Secret::new(*issuer_number), key }
    }

    /// The authority's public key: x.
    pub const fn ca_public_key(&self) -> [u8; 32] {
        *self.ca.x()
    }

    /// The issuer.
    pub const fn issuer(&self) -> &HouseIssuer {
        &self.issuer
    }

    /// Signs with the issuer's key.
    pub fn sign(&self, message: &[&[u8]]) -> [u8; SIGNATURE_LEN] {
        self.key.sign(message, [0; 32])
    }

    /// Makes a phone.
    pub fn issue(&self, order: &HouseOrder) -> Result<PhoneFile, IssueError> {
        self.issue_as(true, order)
    }

    /// Makes a phone that can be timed (relay resistance), or cannot.
    pub fn issue_as(&self, relay_resistance: bool, order: &HouseOrder) -> Result<PhoneFile, IssueError> {
        self.issuer.personalise_as(relay_resistance, order, &|message| self.sign(message))
    }

    /// The authority as a file has it. It holds the issuer's key.
    pub fn to_json(&self) -> Zeroizing<String> {
        let text = Text {
            ca_key: self.ca_public_key(),
            issuer_certificate: self.issuer.certificate.to_vec(),
            issuer_key: self.issuer_number.clone(),
        };
        // Only text, so nothing can fail.
        Zeroizing::new(serde_json::to_string_pretty(&text).unwrap_or_default())
    }

    /// Reads what [`Self::to_json`] wrote.
    pub fn from_json(text: &str) -> Result<Self, IssueError> {
        let text: Text = serde_json::from_str(text).map_err(json_error)?;
        let issuer = HouseIssuer::new(&text.issuer_certificate)?;
        let ca = PublicKey::from_x(text.ca_key);
        let key = SigningKey::from_bytes(text.issuer_key.bytes()).ok_or(IssueError::Inconsistent)?;
        let certificate = IssuerCertificate::parse(&issuer.certificate).map_err(IssueError::Certificate)?;
        certificate.verify(&mut P256Verifier, &ca).map_err(IssueError::Certificate)?;
        if key.public_key() != issuer.fields.key {
            return Err(IssueError::Inconsistent);
        }
        Ok(Self { ca, issuer, issuer_number: text.issuer_key, key })
    }
}
