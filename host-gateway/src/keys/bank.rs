//! The bank's keys in memory: what personalises cards and verifies their cryptograms.
//!
//! The CA's private key signs one issuer certificate when the file is made; it is not kept in memory afterwards.

use super::{BankKeys, CryptogramCheck, CryptogramResult, Secret, hmac};
use rand::CryptoRng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use wavepass_hce::issue::{
    Domain, HouseIssuer, HouseOrder, IssueError, RsaAuthority, RsaAuthorityOrder, RsaCardKey, RsaOrder,
};
use wavepass_hce::phone::PhoneFile;
use wavepass_protocol::cryptogram::{application_cryptogram, master_key_option_c, session_key};
use wavepass_protocol::ecc::{IssuerCertificate, IssuerFields, SigningKey};
use wavepass_protocol::lists::{CaKey, Suite};
use wavepass_protocol::rsa::ca_check_value;
use wavepass_protocol::time::Date;
use wavepass_protocol::token::{Expiry, MAX_DIGITS, Token};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// How many cryptograms one core verifies before it looks for more.
const CHUNK: usize = 256;

/// A CA's public key that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedCaKey {
    /// Registered application provider identifier.
    pub rid: [u8; 5],
    /// The key's index under it.
    pub index: u8,
    /// What kind of key it is.
    pub suite: Suite,
    /// The last day it is good.
    pub expiry: [u8; 4],
    /// RSA: the modulus. P-256: x. SM2: x ‖ y.
    pub key: Vec<u8>,
    /// RSA: the exponent, 1 or 3 bytes. Else empty.
    pub exponent: Vec<u8>,
    /// SHA-1 over RID ‖ index ‖ key ‖ exponent.
    pub check_value: [u8; 20],
}

impl OwnedCaKey {
    /// A key with the check value that it should have.
    pub fn new(rid: [u8; 5], index: u8, suite: Suite, expiry: Date, key: &[u8], exponent: &[u8]) -> Self {
        Self {
            rid,
            index,
            suite,
            expiry: expiry.to_yyyymmdd(),
            key: key.to_vec(),
            exponent: exponent.to_vec(),
            check_value: ca_check_value(&rid, index, key, exponent),
        }
    }

    /// The key as lists carry it.
    pub fn as_ca_key(&self) -> CaKey<'_> {
        CaKey {
            rid: self.rid,
            index: self.index,
            suite: self.suite,
            expiry: self.expiry,
            key: &self.key,
            exponent: &self.exponent,
            check_value: self.check_value,
        }
    }
}

/// A token to be put on a phone.
#[derive(Debug, Clone, Copy)]
pub struct PhoneOrder {
    /// Its number.
    pub token: Token,
    /// The last month it is good.
    pub expiry: Expiry,
    /// The first day it is good.
    pub effective: Date,
    /// Its sequence number.
    pub psn: u8,
    /// Which network it is for.
    pub network: [u8; 4],
    /// Which operator it is for; 0 for any of the network.
    pub operator: u16,
}

/// A number to be put on an RSA test card.
pub struct CardOrder<'a> {
    /// The card's number.
    pub token: Token,
    /// The last month it is good.
    pub expiry: Expiry,
    /// The first day it is good.
    pub effective: Date,
    /// Its sequence number.
    pub psn: u8,
    /// The application's name.
    pub aid: &'a [u8],
    /// The card's own key: slow to make, so that test cards may share a few.
    pub key: &'a RsaCardKey,
}

/// What a bank's keys are made from.
pub(super) struct BankOptions {
    pub(super) rid: [u8; 5],
    pub(super) ca_index: u8,
    pub(super) ca_expiry: Date,
    pub(super) iin: String,
    /// IIN of RSA test cards, where an RSA authority is wanted.
    pub(super) rsa_iin: Option<String>,
    pub(super) rsa_rid: [u8; 5],
    pub(super) rsa_index: u8,
}

/// The secrets of a bank key file, as sealed there.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(super) struct BankSecrets {
    ca_key: [u8; 32],
    issuer_key: [u8; 32],
    card_master: [u8; 16],
    number_key: [u8; 32],
    card_seed: [u8; 32],
    rsa_authority: Option<String>,
}

#[cfg(test)]
impl BankSecrets {
    pub(super) fn card_master(&self) -> &[u8; 16] {
        &self.card_master
    }
}

/// What a bank key file says without its passphrase.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct BankPublic {
    pub(super) rid: String,
    pub(super) ca_index: u8,
    pub(super) ca_expiry: String,
    pub(super) ca_key: String,
    pub(super) iin: String,
    pub(super) rsa_iin: Option<String>,
    pub(super) issuer_certificate: String,
}

/// The issuer identifier of certificates: the IIN, padded with F to five bytes.
fn issuer_id(iin: &str) -> Option<[u8; 5]> {
    super::hex::array(&format!("{iin:f<10}"))
}

/// Makes a bank's keys. `Err` says which option is unusable.
pub(super) fn generate(
    rng: &mut impl CryptoRng,
    options: &BankOptions,
) -> Result<(BankSecrets, BankPublic), String> {
    let valid = |iin: &str| (3..=8).contains(&iin.len()) && iin.bytes().all(|b| b.is_ascii_digit());
    if !valid(&options.iin) || options.rsa_iin.as_deref().is_some_and(|iin| !valid(iin)) {
        return Err("an issuer identification number has 3 to 8 digits".to_owned());
    }
    let mut secrets = BankSecrets {
        ca_key: super::set::signing_number(rng),
        issuer_key: super::set::signing_number(rng),
        card_master: [0; 16],
        number_key: [0; 32],
        card_seed: [0; 32],
        rsa_authority: None,
    };
    rng.fill_bytes(&mut secrets.card_master);
    rng.fill_bytes(&mut secrets.number_key);
    rng.fill_bytes(&mut secrets.card_seed);
    let mut serial = [0; 3];
    rng.fill_bytes(&mut serial);
    // `signing_number` gives numbers that are keys.
    let key = |number| SigningKey::from_bytes(number).ok_or("a signing key out of range");
    let (ca, issuer) = (key(&secrets.ca_key)?, key(&secrets.issuer_key)?);
    let fields = IssuerFields {
        issuer_id: issuer_id(&options.iin).ok_or("an issuer identification number has 3 to 8 digits")?,
        expiry: options.ca_expiry,
        serial,
        rid: options.rid,
        ca_index: options.ca_index,
        key: issuer.public_key(),
    };
    let mut certificate = [0; 117];
    let mut nonce = [0; 32];
    rng.fill_bytes(&mut nonce);
    IssuerCertificate::issue(&fields, &ca, nonce, &mut certificate);
    if let Some(iin) = &options.rsa_iin {
        let order = RsaAuthorityOrder {
            rid: options.rsa_rid,
            ca_index: options.rsa_index,
            iin: super::hex::array(&format!("{iin:f<8}")).ok_or("an RSA IIN has 3 to 8 digits")?,
            expiry: options.ca_expiry.expiry(),
            serial,
        };
        let authority = RsaAuthority::generate(rng, order).map_err(|e| e.to_string())?;
        secrets.rsa_authority = Some(authority.to_json().to_string());
    }
    let public = BankPublic {
        rid: super::hex::encode(&options.rid),
        ca_index: options.ca_index,
        ca_expiry: super::hex::encode(&options.ca_expiry.to_yyyymmdd()),
        ca_key: super::hex::encode(ca.public_key().x()),
        iin: options.iin.clone(),
        rsa_iin: options.rsa_iin.clone(),
        issuer_certificate: super::hex::encode(&certificate),
    };
    Ok((secrets, public))
}

/// The bank's keys, ready to compute.
pub(super) struct Bank {
    issuer_key: SigningKey,
    issuer: HouseIssuer,
    certificate: [u8; 117],
    card_master: Zeroizing<[u8; 16]>,
    number_key: Secret,
    card_seed: Secret,
    ca_key: OwnedCaKey,
    iin: String,
    rsa: Option<(String, RsaAuthority, Date)>,
}

impl Bank {
    /// `None` if the two parts of the file are not of one piece.
    pub(super) fn new(secrets: &BankSecrets, public: &BankPublic) -> Option<Self> {
        let certificate: [u8; 117] = super::hex::array(&public.issuer_certificate)?;
        let expiry = Date::from_yyyymmdd(super::hex::array(&public.ca_expiry)?).ok()?;
        let ca_x: [u8; 32] = super::hex::array(&public.ca_key)?;
        let rid = super::hex::array(&public.rid)?;
        let rsa = match (&secrets.rsa_authority, &public.rsa_iin) {
            (Some(json), Some(iin)) => Some((iin.clone(), RsaAuthority::from_json(json).ok()?, expiry)),
            _ => None,
        };
        Some(Self {
            issuer_key: SigningKey::from_bytes(&secrets.issuer_key)?,
            issuer: HouseIssuer::new(&certificate).ok()?,
            certificate,
            card_master: Zeroizing::new(secrets.card_master),
            number_key: Zeroizing::new(secrets.number_key),
            card_seed: Zeroizing::new(secrets.card_seed),
            ca_key: OwnedCaKey::new(rid, public.ca_index, Suite::P256, expiry, &ca_x, &[]),
            iin: public.iin.clone(),
            rsa,
        })
    }

    fn holds_key_of(&self, token: &Token) -> bool {
        let begins = |iin: &str| issuer_id(iin).is_some_and(|id| token.starts_with_bcd(&id));
        begins(&self.iin) || self.rsa.as_ref().is_some_and(|(iin, ..)| begins(iin))
    }

    fn verify(&self, check: &CryptogramCheck<'_>) -> CryptogramResult {
        if !self.holds_key_of(&check.token) {
            return CryptogramResult::NoKey;
        }
        let master = Zeroizing::new(master_key_option_c(&self.card_master, &check.token, check.psn));
        let session = Zeroizing::new(session_key(&master, check.atc));
        let data: [&[u8]; 4] = [check.pdol_values, &check.aip, &check.atc.to_be_bytes(), check.iad];
        let expected = application_cryptogram(&session, &data);
        if bool::from(expected.ct_eq(&check.cryptogram)) {
            CryptogramResult::Valid
        } else {
            CryptogramResult::Invalid
        }
    }
}

impl BankKeys for Bank {
    fn verify_cryptograms(&self, checks: &[CryptogramCheck<'_>]) -> Vec<CryptogramResult> {
        if checks.len() <= CHUNK {
            return checks.iter().map(|check| self.verify(check)).collect();
        }
        checks.par_iter().with_min_len(CHUNK).map(|check| self.verify(check)).collect()
    }

    fn ca_keys(&self) -> Vec<OwnedCaKey> {
        let mut keys = vec![self.ca_key.clone()];
        if let Some((_, authority, expiry)) = &self.rsa {
            let ca = authority.ca_key();
            let exponent = ca.exponent.to_be_bytes();
            let leading = exponent.iter().take_while(|b| **b == 0).count();
            keys.push(OwnedCaKey::new(
                ca.rid,
                ca.index,
                Suite::Rsa,
                *expiry,
                &ca.modulus,
                &exponent[leading..],
            ));
        }
        keys
    }

    fn issuer_certificate(&self) -> [u8; 117] {
        self.certificate
    }

    fn iin(&self) -> &str {
        &self.iin
    }

    fn token_number(&self, account_id: &str, rank: u32, attempt: u32) -> Token {
        let parts: [&[u8]; 4] =
            [b"number", &rank.to_be_bytes(), &attempt.to_be_bytes(), account_id.as_bytes()];
        let hash = hmac(self.number_key.as_slice(), &parts);
        let mut number = hash[..16].iter().fold(0u128, |n, &b| n << 8 | u128::from(b));
        // 19 digits: the IIN, then what the hash gives, then the check digit. An IIN of at least 3 digits leaves 15,
        // whose bias out of 128 bits is nothing.
        let mut digits = Zeroizing::new(self.iin.clone().into_bytes());
        while digits.len() < MAX_DIGITS - 1 {
            digits.push(b'0' + (number % 10) as u8);
            number /= 10;
        }
        let check_digit = b'0' + luhn(&digits);
        digits.push(check_digit);
        let text = std::str::from_utf8(&digits).unwrap_or_default();
        // 19 decimal digits are a token.
        Token::from_digits(text).expect("19 decimal digits")
    }

    fn personalise(&self, order: &PhoneOrder) -> Result<PhoneFile, IssueError> {
        let name: [&[u8]; 4] =
            [b"card", order.token.bcd(), &order.expiry.to_yymm(), std::slice::from_ref(&order.psn)];
        let seed = hmac(self.card_seed.as_slice(), &name);
        let mut serial = [0; 6];
        serial.copy_from_slice(&hmac(self.card_seed.as_slice(), &[b"serial", seed.as_slice()])[..6]);
        let order = HouseOrder {
            token: order.token,
            expiry: order.expiry,
            effective: order.effective,
            psn: order.psn,
            domain: Some(Domain { network: order.network, operator: order.operator }),
            serial,
            card_key: *seed,
            master_key: master_key_option_c(&self.card_master, &order.token, order.psn),
        };
        // The certificate's multiplier derives from issuer key and message: the same order makes the same phone.
        self.issuer.personalise(&order, &|message| self.issuer_key.sign(message, [0; 32]))
    }

    fn issue_card(&self, order: &CardOrder<'_>) -> Option<Result<PhoneFile, IssueError>> {
        let (_, authority, _) = self.rsa.as_ref()?;
        let mut serial = [0; 3];
        serial.copy_from_slice(&hmac(self.card_seed.as_slice(), &[b"rsa serial", order.token.bcd()])[..3]);
        let order_with_keys = RsaOrder {
            token: order.token,
            expiry: order.expiry,
            effective: order.effective,
            psn: order.psn,
            aid: order.aid.to_vec(),
            serial,
            master_key: master_key_option_c(&self.card_master, &order.token, order.psn),
        };
        Some(authority.issue(&order_with_keys, order.key))
    }
}

/// The check digit that completes these decimal digits (ISO/IEC 7812-1, annex B).
pub(super) fn luhn(digits: &[u8]) -> u8 {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, c)| {
            let digit = u32::from(c - b'0');
            if i % 2 == 1 { digit } else { digit * 2 / 10 + digit * 2 % 10 }
        })
        .sum();
    // Below ten.
    ((10 - sum % 10) % 10) as u8
}
