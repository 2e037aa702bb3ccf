//! Authorities' keys: owned, checked, and handed to the kernel.

use std::fmt;
use wavepass_hce::hex;
use wavepass_protocol::lists::{CaKey, Suite};
use wavepass_protocol::rsa::{MAX_MODULUS, MIN_MODULUS, ca_check_value};

/// The last day of a key that states none.
pub(crate) const NO_EXPIRY: [u8; 4] = [0x20, 0x99, 0x12, 0x31];

/// The check values that UnionPay publishes for its keys with exponent 3 (RID A000000333), by index.
const UNIONPAY: [(u8, &str); 8] = [
    (0x01, "E881E390675D44C2DD81234DCE29C3F5AB2297A0"),
    (0x02, "03BB335A8549A03B87AB089D006F60852E4B8060"),
    (0x03, "87F0CD7C0E86F38F89A66F8C47071A8B88586F26"),
    (0x04, "F527081CF371DD7E1FD4FA414A665036E0F5E6E5"),
    (0x08, "EE23B616C95C02652AD18860E48787C079E8E85A"),
    (0x09, "A075306EAB0045BAF72CDD33B3B678779DE1F527"),
    (0x0A, "C88BE6B2417C4F941C9371EA35A377158767E4E3"),
    (0x0B, "BD331F9996A490B33C13441066A09AD3FEB5F66C"),
];

/// UnionPay's provider identifier.
pub const UNIONPAY_RID: [u8; 5] = [0xA0, 0x00, 0x00, 0x03, 0x33];

/// The check value that the scheme publishes for one of its RSA keys, as far as it is known here.
pub fn published(rid: [u8; 5], index: u8) -> Option<[u8; 20]> {
    let (_, value) = UNIONPAY.iter().find(|(known, _)| rid == UNIONPAY_RID && *known == index)?;
    hex::decode(value).ok()?.try_into().ok()
}

/// An authority's public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityKey {
    /// Registered application provider.
    pub rid: [u8; 5],
    /// Its index under that provider.
    pub index: u8,
    /// What kind of key it is.
    pub suite: Suite,
    /// The last day it is good, packed decimal `YYYYMMDD`.
    pub expiry: [u8; 4],
    /// RSA: modulus. P-256: x. SM2: x ‖ y.
    pub key: Vec<u8>,
    /// RSA: exponent. Else empty.
    pub exponent: Vec<u8>,
}

/// Why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A key of another length than its kind has.
    #[error("a {kind} key has {wanted} bytes, not {found}")]
    Length {
        /// Its kind.
        kind: &'static str,
        /// What it should have.
        wanted: &'static str,
        /// What it has.
        found: usize,
    },
    /// An RSA exponent other than 3 and 65537.
    #[error("the exponent is neither 3 nor 65537")]
    Exponent,
    /// An RSA modulus that is even or begins with zeros.
    #[error("the modulus is no RSA modulus: its first bit must be 1 and its last one too")]
    Modulus,
    /// The stated check value is not the key's.
    #[error("the check value is {stated}, but the key's is {actual}: a digit of the key is wrong")]
    CheckValue {
        /// What the file states.
        stated: String,
        /// What the key gives.
        actual: String,
    },
    /// Neither the file nor the scheme states a check value.
    #[error("no check value: give the one that the scheme publishes as `check_value` (this key gives {0})")]
    NoCheckValue(String),
}

impl AuthorityKey {
    /// Checks that the key has the form of its kind.
    pub fn check(&self) -> Result<(), KeyError> {
        let found = self.key.len();
        let length = |kind, wanted| Err(KeyError::Length { kind, wanted, found });
        match self.suite {
            Suite::P256 if found != 32 => length("P-256", "32"),
            Suite::Sm2 if found != 64 => length("SM2", "64"),
            Suite::P256 | Suite::Sm2 => Ok(()),
            Suite::Rsa if !(MIN_MODULUS..=MAX_MODULUS).contains(&found) => length("RSA", "128 to 256"),
            Suite::Rsa if self.key[0] & 0x80 == 0 || self.key[found - 1] & 1 == 0 => Err(KeyError::Modulus),
            Suite::Rsa if !matches!(self.exponent[..], [3] | [1, 0, 1]) => Err(KeyError::Exponent),
            Suite::Rsa => Ok(()),
        }
    }

    /// Checks the key against a stated check value, or against the published one.
    pub fn verify(&self, stated: Option<[u8; 20]>) -> Result<(), KeyError> {
        self.check()?;
        let actual = self.check_value();
        let published = published(self.rid, self.index).filter(|_| self.suite == Suite::Rsa);
        let (stated, published) = match (stated, published) {
            (None, None) => return Err(KeyError::NoCheckValue(hex::encode(&actual))),
            (Some(stated), published) => (stated, published.unwrap_or(stated)),
            (None, Some(published)) => (published, published),
        };
        match [stated, published].into_iter().find(|value| *value != actual) {
            None => Ok(()),
            Some(other) => {
                Err(KeyError::CheckValue { stated: hex::encode(&other), actual: hex::encode(&actual) })
            }
        }
    }

    /// SHA-1 over RID, index, key and exponent.
    pub fn check_value(&self) -> [u8; 20] {
        ca_check_value(&self.rid, self.index, &self.key, &self.exponent)
    }

    /// As the kernel takes it.
    pub fn as_ca_key(&self) -> CaKey<'_> {
        CaKey {
            rid: self.rid,
            index: self.index,
            suite: self.suite,
            expiry: self.expiry,
            key: &self.key,
            exponent: &self.exponent,
            check_value: self.check_value(),
        }
    }
}

impl fmt::Display for AuthorityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:02X}", hex::encode(&self.rid), self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unionpay() -> AuthorityKey {
        let key = [0xFF; 144].to_vec();
        AuthorityKey {
            rid: UNIONPAY_RID,
            index: 0x08,
            suite: Suite::Rsa,
            expiry: NO_EXPIRY,
            key,
            exponent: vec![3],
        }
    }

    #[test]
    fn a_key_under_a_published_index_has_the_published_check_value() {
        let key = unionpay();
        let own = key.check_value();
        assert!(matches!(key.verify(Some(own)), Err(KeyError::CheckValue { .. })));
        assert!(matches!(key.verify(None), Err(KeyError::CheckValue { .. })));
    }

    #[test]
    fn another_key_needs_a_check_value_of_its_own() {
        let key = AuthorityKey { index: 0x70, ..unionpay() };
        assert!(matches!(key.verify(None), Err(KeyError::NoCheckValue(_))));
        assert_eq!(key.verify(Some(key.check_value())), Ok(()));
        assert!(matches!(key.verify(Some([0; 20])), Err(KeyError::CheckValue { .. })));
    }

    #[test]
    fn a_key_has_the_form_of_its_kind() {
        let short = AuthorityKey { key: vec![0xFF; 100], ..unionpay() };
        assert!(matches!(short.check(), Err(KeyError::Length { found: 100, .. })));
        let even = AuthorityKey { key: [vec![0xFF; 143], vec![0xFE]].concat(), ..unionpay() };
        assert_eq!(even.check(), Err(KeyError::Modulus));
        assert_eq!(AuthorityKey { exponent: vec![5], ..unionpay() }.check(), Err(KeyError::Exponent));
    }
}
