//! RSA: authority, issuer, and test cards as those in circulation are.

use super::house::check_dates;
use super::{IssueError, json_error};
use crate::application::{CardData, RsaCardKey, RsaFile, RsaFlow, RsaKeyError, seal, static_data};
use crate::hex::Secret;
use crate::phone::{ApplicationFile, PhoneFile};
use serde::{Deserialize, Serialize};
use wavepass_protocol::rsa::ca_check_value;
use wavepass_protocol::select::Aid;
use wavepass_protocol::time::Date;
use wavepass_protocol::token::{Expiry, Token};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bits of a self-made authority's key: the largest whose certificates fit a record.
pub const CA_BITS: usize = 1984;
/// Bits of its issuer's key.
pub const ISSUER_BITS: usize = 1408;
/// Bits of a card's key.
pub const CARD_BITS: usize = 1152;

/// Bytes of an issuer certificate that are not the issuer's modulus.
const ISSUER_OVERHEAD: usize = 36;
/// Bytes of a card certificate that are not the card's modulus.
const CARD_OVERHEAD: usize = 42;
/// Hash SHA-1, algorithm RSA.
const ALGORITHMS: [u8; 2] = [0x01, 0x01];
/// The format of signed data that every scheme accepts.
const SIGNED_FORMAT: u8 = 0x05;
/// What a phone calls such an application.
const LABEL: &str = "Test card";

/// What a self-made RSA authority and its issuer are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RsaAuthorityOrder {
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
pub struct RsaCaKey {
    /// Registered application provider.
    pub rid: [u8; 5],
    /// Index.
    pub index: u8,
    /// Modulus, big-endian.
    pub modulus: Vec<u8>,
    /// Exponent.
    pub exponent: u32,
    /// SHA-1 over RID, index, modulus and exponent.
    pub check_value: [u8; 20],
}

/// What a test card is to be made of. Its master key is wiped when dropped. No `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct RsaOrder {
    /// The card's number, used as a token.
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
    /// Application identifier, 5 to 16 bytes.
    pub aid: Vec<u8>,
    /// Serial number of the card certificate.
    pub serial: [u8; 3],
    /// The card's master key (option C), derived by the caller from the issuer's.
    pub master_key: [u8; 16],
}

/// What kind of card is made. The default is one that signs in the quick flow, in the format that every scheme
/// accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RsaKind {
    /// How the card is proven genuine.
    pub flow: RsaFlow,
    /// The format of its signed data: 05, or 95 as some schemes' cards have it with an ARQC. An older card's is 05.
    pub signed_format: u8,
}

impl Default for RsaKind {
    fn default() -> Self {
        Self { flow: RsaFlow::Quick, signed_format: SIGNED_FORMAT }
    }
}

/// A self-made RSA authority with one issuer.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RsaAuthority {
    #[serde(with = "crate::hex")]
    rid: [u8; 5],
    ca_index: u8,
    #[serde(with = "crate::hex")]
    iin: [u8; 4],
    #[serde(with = "crate::hex")]
    ca_modulus: Vec<u8>,
    ca_exponent: u32,
    #[serde(with = "crate::hex")]
    certificate: Vec<u8>,
    #[serde(with = "crate::hex", default)]
    remainder: Vec<u8>,
    issuer_key: RsaCardKey,
}

impl RsaAuthority {
    /// Makes an authority (1984 bits) and an issuer (1408 bits): seconds of work. The authority's private key signs
    /// the issuer's certificate and is then forgotten.
    pub fn generate(
        rng: &mut (impl rand::CryptoRng + ?Sized),
        order: RsaAuthorityOrder,
    ) -> Result<Self, IssueError> {
        let ca = RsaCardKey::generate(rng, CA_BITS)?;
        let issuer_key = RsaCardKey::generate(rng, ISSUER_BITS)?;
        let (modulus, exponent) = (issuer_key.modulus(), issuer_key.exponent_bytes());
        let mut head = vec![0x02];
        head.extend(order.iin);
        head.extend(mmyy(order.expiry));
        head.extend(order.serial);
        head.extend(ALGORITHMS);
        let (certificate, remainder) = certify(&ca, head, ISSUER_OVERHEAD, &modulus, &exponent, &[])?;
        Ok(Self {
            rid: order.rid,
            ca_index: order.ca_index,
            iin: order.iin,
            ca_modulus: ca.modulus(),
            ca_exponent: ca.exponent(),
            certificate,
            remainder,
            issuer_key,
        })
    }

    /// The authority's public key.
    pub fn ca_key(&self) -> RsaCaKey {
        let exponent: &[u8] = if self.ca_exponent == 3 { &[3] } else { &[1, 0, 1] };
        RsaCaKey {
            rid: self.rid,
            index: self.ca_index,
            modulus: self.ca_modulus.clone(),
            exponent: self.ca_exponent,
            check_value: ca_check_value(&self.rid, self.ca_index, &self.ca_modulus, exponent),
        }
    }

    /// The first digits of the issuer's numbers, packed, padded with F.
    pub const fn iin(&self) -> [u8; 4] {
        self.iin
    }

    /// Makes a card of the default kind with a key that was made before, for making one takes long.
    pub fn issue(&self, order: &RsaOrder, key: &RsaCardKey) -> Result<PhoneFile, IssueError> {
        self.issue_as(RsaKind::default(), order, key)
    }

    /// Makes a card of a kind, as [`Self::issue`] does.
    pub fn issue_as(
        &self,
        kind: RsaKind,
        order: &RsaOrder,
        key: &RsaCardKey,
    ) -> Result<PhoneFile, IssueError> {
        let expiry = Date::last_of(order.expiry);
        check_dates(order.effective, expiry)?;
        if !order.token.starts_with_bcd(&self.iin) {
            return Err(IssueError::NotOurToken);
        }
        let (modulus, exponent) = (key.modulus(), key.exponent_bytes());
        let issuer_len = self.issuer_key.modulus().len();
        if modulus.len() > issuer_len {
            return Err(IssueError::KeySize { card: modulus.len() * 8, issuer: issuer_len * 8 });
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
        let mut head = vec![0x04];
        head.extend(order.token.bcd());
        head.extend(mmyy(order.expiry));
        head.extend(order.serial);
        head.extend(ALGORITHMS);
        let covered = static_data(&card, kind.flow)?;
        let (card_certificate, card_remainder) =
            certify(&self.issuer_key, head, CARD_OVERHEAD, &modulus, &exponent, &covered)?;
        let file = RsaFile {
            card,
            ca_index: self.ca_index,
            issuer_certificate: self.certificate.clone(),
            issuer_remainder: self.remainder.clone(),
            issuer_exponent: self.issuer_key.exponent_bytes(),
            card_certificate,
            card_remainder,
            card_key: key.clone(),
            signed_format: kind.signed_format,
            flow: kind.flow,
        };
        Ok(PhoneFile::of(ApplicationFile::Rsa(Box::new(file))))
    }

    /// The authority as a file has it. It holds the issuer's key.
    pub fn to_json(&self) -> Zeroizing<String> {
        // Only text and numbers, so nothing can fail.
        Zeroizing::new(serde_json::to_string_pretty(self).unwrap_or_default())
    }

    /// Reads what [`Self::to_json`] wrote.
    pub fn from_json(text: &str) -> Result<Self, IssueError> {
        let authority: Self = serde_json::from_str(text).map_err(json_error)?;
        let sound = matches!(authority.ca_exponent, 3 | 65_537)
            && authority.certificate.len() == authority.ca_modulus.len()
            && (128..=256).contains(&authority.ca_modulus.len());
        if sound { Ok(authority) } else { Err(IssueError::Inconsistent) }
    }
}

/// A certificate with message recovery and the remainder of the certified modulus. `head` goes up to the algorithms.
fn certify(
    signer: &RsaCardKey,
    mut head: Vec<u8>,
    overhead: usize,
    modulus: &[u8],
    exponent: &[u8],
    rest: &[u8],
) -> Result<(Vec<u8>, Vec<u8>), RsaKeyError> {
    // Moduli have at most 256 bytes and the largest is never certified; exponents have 1 or 3.
    let len = u8::try_from(modulus.len()).map_err(|_| RsaKeyError::Bits(modulus.len() * 8))?;
    head.extend([len, exponent.len() as u8]);
    let room = signer.modulus().len() - overhead;
    let (inside, remainder) = modulus.split_at(room.min(modulus.len()));
    head.extend_from_slice(inside);
    let certificate = seal(signer, &head, &[remainder, exponent, rest])?;
    Ok((certificate, remainder.to_vec()))
}

/// Packed decimal MMYY, as certificates have it.
fn mmyy(expiry: Expiry) -> [u8; 2] {
    let [year, month] = expiry.to_yymm();
    [month, year]
}

/// Card keys made beforehand. Test cards may share them.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RsaKeyPool {
    keys: Vec<RsaCardKey>,
}

impl RsaKeyPool {
    /// Makes `count` card keys of 1152 bits.
    pub fn generate(rng: &mut (impl rand::CryptoRng + ?Sized), count: usize) -> Result<Self, RsaKeyError> {
        let keys = (0..count).map(|_| RsaCardKey::generate(rng, CARD_BITS)).collect::<Result<_, _>>()?;
        Ok(Self { keys })
    }

    /// The key for the card of that number: they are given round.
    pub fn get(&self, card: usize) -> Option<&RsaCardKey> {
        self.keys.get(card.checked_rem(self.keys.len())?)
    }

    /// The pool as a file has it. It holds private keys.
    pub fn to_json(&self) -> Zeroizing<String> {
        // Only text and numbers, so nothing can fail.
        Zeroizing::new(serde_json::to_string(self).unwrap_or_default())
    }

    /// Reads what [`Self::to_json`] wrote.
    pub fn from_json(text: &str) -> Result<Self, IssueError> {
        serde_json::from_str(text).map_err(json_error)
    }
}
