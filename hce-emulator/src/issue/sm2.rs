//! SM2: authority, issuer, and test cards of the national suite.

use super::house::check_dates;
use super::{IssueError, RsaOrder, json_error};
use crate::application::{CardData, Sm2File, sm2_static_data};
use crate::hex::Secret;
use crate::phone::{ApplicationFile, PhoneFile};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wavepass_protocol::rsa::ca_check_value;
use wavepass_protocol::select::Aid;
use wavepass_protocol::sm2::{
    CardCertificate, CardFields, Convention, ISSUER_CERTIFICATE_LEN, IssuerCertificate, IssuerFields,
    KEY_LEN, PublicKey, SigningKey, unverified,
};
use wavepass_protocol::time::Date;
use wavepass_protocol::token::Expiry;
use zeroize::Zeroizing;

/// What a phone calls such an application.
const LABEL: &str = "SM2 test card";

/// What no source settles of SM2 cards; the default is what is assumed of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sm2Kind {
    /// How signatures are made.
    pub convention: Convention,
    /// The two bytes before the key in certificates.
    pub key_parameters: [u8; 2],
}

impl Default for Sm2Kind {
    fn default() -> Self {
        Self { convention: Convention::DEFAULT, key_parameters: unverified::KEY_PARAMETERS }
    }
}

/// What a self-made SM2 authority and its issuer are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sm2AuthorityOrder {
    /// Registered application provider.
    pub rid: [u8; 5],
    /// Index of the authority's key: one that no published key has.
    pub ca_index: u8,
    /// The first 3 to 8 digits of the issuer's numbers, packed, padded with F.
    pub iin: [u8; 4],
    /// The last month of the issuer's certificate.
    pub expiry: Expiry,
    /// Serial number of the issuer's certificate.
    pub serial: [u8; 3],
}

/// An authority's public key, as gates load it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sm2CaKey {
    /// Registered application provider.
    pub rid: [u8; 5],
    /// Index.
    pub index: u8,
    /// x ‖ y.
    pub key: [u8; KEY_LEN],
    /// SHA-1 over RID, index and key.
    pub check_value: [u8; 20],
}

/// A self-made SM2 authority with one issuer.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sm2Authority {
    #[serde(with = "crate::hex")]
    rid: [u8; 5],
    ca_index: u8,
    #[serde(with = "crate::hex")]
    iin: [u8; 4],
    #[serde(with = "crate::hex")]
    ca_key: Vec<u8>,
    #[serde(with = "crate::hex")]
    certificate: Vec<u8>,
    #[serde(with = "crate::hex")]
    issuer_key: Secret<32>,
    /// The identifier by which authority and issuer sign; left out where it is the usual one.
    #[serde(default = "usual_user_id", skip_serializing_if = "is_usual_user_id")]
    user_id: String,
}

impl Sm2Authority {
    /// Makes an authority and an issuer. The authority's private key signs the issuer's certificate and is then
    /// forgotten.
    pub fn generate(
        rng: &mut (impl rand::CryptoRng + ?Sized),
        order: Sm2AuthorityOrder,
    ) -> Result<Self, IssueError> {
        Self::generate_as(&Sm2Kind::default(), rng, order)
    }

    /// The same, of another kind. The same randomness gives the same keys, whatever the kind.
    pub fn generate_as(
        kind: &Sm2Kind,
        rng: &mut (impl rand::CryptoRng + ?Sized),
        order: Sm2AuthorityOrder,
    ) -> Result<Self, IssueError> {
        let mut number = || {
            let mut seed = Zeroizing::new([0; 32]);
            rng.fill_bytes(seed.as_mut_slice());
            derive(&seed, &kind.convention)
        };
        let (_, ca) = number();
        let (issuer_number, issuer) = number();
        let fields = IssuerFields {
            issuer_id: order.iin,
            expiry: order.expiry,
            serial: order.serial,
            key_parameters: kind.key_parameters,
            key: issuer.public_key(),
        };
        let certificate = IssuerCertificate::issue(&fields, &ca).map_err(IssueError::Sm2)?;
        Ok(Self {
            rid: order.rid,
            ca_index: order.ca_index,
            iin: order.iin,
            ca_key: ca.public_key().as_bytes().to_vec(),
            certificate: certificate.to_vec(),
            issuer_key: Secret::new(*issuer_number),
            user_id: kind.convention.user_id().to_owned(),
        })
    }

    /// The identifier by which it signs.
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// The two bytes before the key in the issuer's certificate.
    pub fn key_parameters(&self) -> [u8; 2] {
        // The certificate was made or verified here.
        IssuerCertificate::parse(&self.certificate).map(|c| c.fields.key_parameters).unwrap_or_default()
    }

    /// The authority's public key.
    pub fn ca_key(&self) -> Sm2CaKey {
        let mut key = [0; KEY_LEN];
        // As long as that, or the authority would not have been made or read.
        key.copy_from_slice(&self.ca_key);
        Sm2CaKey {
            rid: self.rid,
            index: self.ca_index,
            key,
            check_value: ca_check_value(&self.rid, self.ca_index, &key, &[]),
        }
    }

    /// The first digits of the issuer's numbers, packed, padded with F.
    pub const fn iin(&self) -> [u8; 4] {
        self.iin
    }

    /// Makes a card, after the order of an RSA card. `card_key` are random bytes from which its key derives.
    pub fn issue(&self, order: &RsaOrder, card_key: &[u8; 32]) -> Result<PhoneFile, IssueError> {
        let convention =
            Convention::new(&self.user_id, unverified::COUNTER_PREFIX).map_err(IssueError::Sm2)?;
        self.issue_as(&Sm2Kind { convention, ..Sm2Kind::default() }, order, card_key)
    }

    /// The same, of another kind, whose user ID must be the authority's.
    pub fn issue_as(
        &self,
        kind: &Sm2Kind,
        order: &RsaOrder,
        card_key: &[u8; 32],
    ) -> Result<PhoneFile, IssueError> {
        let convention = &kind.convention;
        if convention.user_id() != self.user_id {
            return Err(IssueError::UserId);
        }
        let expiry = Date::last_of(order.expiry);
        check_dates(order.effective, expiry)?;
        if !order.token.starts_with_bcd(&self.iin) {
            return Err(IssueError::NotOurToken);
        }
        let card = CardData {
            aid: Aid::new(&order.aid).ok_or(IssueError::Aid(order.aid.len()))?,
            label: LABEL.to_owned(),
            priority: 2,
            token: order.token,
            expiry,
            effective: order.effective,
            psn: order.psn,
            master_key: Secret::new(order.master_key),
        };
        let (number, key) = derive(card_key, convention);
        let fields = CardFields {
            token: order.token,
            expiry: order.expiry,
            serial: order.serial,
            key_parameters: kind.key_parameters,
            key: key.public_key(),
        };
        let issuer =
            SigningKey::from_bytes(self.issuer_key.bytes(), convention).ok_or(IssueError::Inconsistent)?;
        let (records, aip) = sm2_static_data(&card)?;
        let certificate =
            CardCertificate::issue(&fields, &issuer, &records, &aip).map_err(IssueError::Sm2)?;
        let file = Sm2File {
            card,
            ca_index: self.ca_index,
            issuer_certificate: self.certificate.clone(),
            card_certificate: certificate.to_vec(),
            card_key: Secret::new(*number),
            user_id: self.user_id.clone(),
            counter_prefix: convention.counter_prefix().to_vec(),
        };
        Ok(PhoneFile::of(ApplicationFile::Sm2(Box::new(file))))
    }

    /// The authority as a file has it. It holds the issuer's key.
    pub fn to_json(&self) -> Zeroizing<String> {
        // Only text and numbers, so nothing can fail.
        Zeroizing::new(serde_json::to_string_pretty(self).unwrap_or_default())
    }

    /// Reads what [`Self::to_json`] wrote.
    pub fn from_json(text: &str) -> Result<Self, IssueError> {
        let authority: Self = serde_json::from_str(text).map_err(json_error)?;
        let ca: [u8; KEY_LEN] =
            authority.ca_key.as_slice().try_into().map_err(|_| IssueError::Inconsistent)?;
        let certificate: &[u8; ISSUER_CERTIFICATE_LEN] =
            authority.certificate.as_slice().try_into().map_err(|_| IssueError::Inconsistent)?;
        let convention =
            Convention::new(&authority.user_id, unverified::COUNTER_PREFIX).map_err(IssueError::Sm2)?;
        let issuer = SigningKey::from_bytes(authority.issuer_key.bytes(), &convention)
            .ok_or(IssueError::Inconsistent)?;
        let certificate = IssuerCertificate::parse(certificate).map_err(IssueError::Sm2)?;
        certificate.verify(&PublicKey::from_bytes(ca), &convention).map_err(IssueError::Sm2)?;
        let fields = certificate.fields;
        if fields.key != issuer.public_key() || fields.issuer_id != authority.iin {
            return Err(IssueError::Inconsistent);
        }
        Ok(authority)
    }
}

/// The user ID of a file that names none.
pub(crate) fn usual_user_id() -> String {
    unverified::USER_ID.to_owned()
}

pub(crate) fn is_usual_user_id(user_id: &str) -> bool {
    user_id == unverified::USER_ID
}

/// The private number and key of a seed: the first of its hashes that is a key.
fn derive(seed: &[u8; 32], convention: &Convention) -> (Zeroizing<[u8; 32]>, SigningKey) {
    for attempt in 0u32.. {
        let hash = Sha256::new_with_prefix(b"Wavepass SM2 key")
            .chain_update(seed)
            .chain_update(attempt.to_be_bytes());
        let number = Zeroizing::new(<[u8; 32]>::from(hash.finalize()));
        if let Some(key) = SigningKey::from_bytes(&number, convention) {
            return (number, key);
        }
    }
    unreachable!("one hash in 2^32 is no key; 2^32 in a row do not happen")
}
