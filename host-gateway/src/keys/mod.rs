//! The host's keys by role: root (off line), bank, clearing.
//!
//! Code asks [`BankKeys`] and [`ClearingKeys`], which compute and never return key bytes; the only key material
//! that leaves is what a gate or a phone must be given, inside its provisioning or phone file. The key files are
//! sealed by a passphrase ([`file`]). What holds keys has no `Debug` and is wiped when dropped.

mod bank;
mod clearing;
pub mod cli;
mod file;
pub(crate) mod hex;
mod passphrase;
mod set;

pub use bank::{CardOrder, OwnedCaKey, PhoneOrder};
pub use file::{Cost, KeysError, Role};
pub use passphrase::{Passphrase, PassphraseArgs, PassphraseError};
pub use set::{KeyOptions, KeySet, open_bank, open_clearing};

use std::fmt;
use std::str::FromStr;
use wavepass_hce::issue::IssueError;
use wavepass_hce::phone::PhoneFile;
use wavepass_protocol::dukpt::KeyId;
use wavepass_protocol::link::LinkKey;
use wavepass_protocol::lists::ListKey;
use wavepass_protocol::provisioning::ProvisioningError;
use wavepass_protocol::seal::{Header, SealError, Sealed};
use wavepass_protocol::tap::{Direction, Entry, MAX_BODY, Tap};
use wavepass_protocol::token::{Expiry, Token, TokenError};
use zeroize::{Zeroize, Zeroizing};

/// What finds a token in the store: the first 16 bytes of an HMAC-SHA256 over its digits and expiry, under a key
/// that is not in the store. Without that key it identifies nobody.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenKey(pub [u8; 16]);

impl TokenKey {
    /// The 16 bytes, as the store has them.
    pub const fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// Reads a column of the store; `None` if it does not have 16 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Reads 32 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        hex::array(text).map(Self)
    }

    /// 32 hexadecimal digits, lower case.
    pub fn to_hex(&self) -> String {
        hex::encode(&self.0)
    }
}

/// Text that is no token's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token key has 32 hexadecimal digits")]
pub struct TokenKeyError;

impl FromStr for TokenKey {
    type Err = TokenKeyError;

    fn from_str(text: &str) -> Result<Self, TokenKeyError> {
        Self::from_hex(text).ok_or(TokenKeyError)
    }
}

impl fmt::Display for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({self})")
    }
}

/// A sealed entry that has been opened. Its bytes are wiped when it is dropped. No `Debug`: it identifies a rider.
pub struct Opened {
    /// The clear header: which key, which place in the gate's journal.
    pub header: Header,
    plain: Zeroizing<Box<[u8]>>,
}

impl Opened {
    fn open(sealed: &Sealed<'_>, key: &wavepass_protocol::dukpt::Key) -> Result<Self, SealError> {
        let mut buffer = Zeroizing::new([0; MAX_BODY]);
        sealed.open(key, &mut buffer)?;
        let len = sealed.bytes().len() - wavepass_protocol::seal::HEADER - wavepass_protocol::seal::TAG;
        Ok(Self { header: sealed.header, plain: Zeroizing::new(buffer[..len].into()) })
    }

    /// The tap or the passage.
    pub fn entry(&self) -> Entry<'_> {
        // `Sealed::open` has read an entry from these very bytes.
        postcard::from_bytes(&self.plain).expect("an opened body is an entry")
    }
}

/// Why a sealed value of the store does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AtRestError {
    /// Too short to be a sealed value.
    #[error("a sealed value of {0} bytes")]
    Length(usize),
    /// Altered, sealed under another key, or for another row.
    #[error("a sealed value was altered, or belongs to another key or row")]
    Forged,
    /// It opened, but is no token.
    #[error("a sealed value is not a token")]
    Token(TokenError),
}

/// Which gate is commissioned, and where it stands.
#[derive(Debug, Clone, Copy)]
pub struct GateIdentity<'a> {
    /// The gate's number.
    pub gate_id: u32,
    /// The id of the initial key it is given.
    pub key_id: KeyId,
    /// Station code.
    pub station: &'a str,
    /// Which way it lets riders through.
    pub direction: Direction,
    /// Whose gate it is.
    pub operator: u16,
    /// Which network it belongs to.
    pub network: [u8; 4],
}

/// What clearing's keys can do.
pub trait ClearingKeys: Send + Sync {
    /// Opens sealed entries of any gates; one answer each, in the same order. Spreads large batches over cores.
    fn unseal(&self, sealed: &[&[u8]]) -> Vec<Result<Opened, SealError>>;

    /// What finds this token in the store.
    fn token_key(&self, token: &Token, expiry: Expiry) -> TokenKey;

    /// The same for a batch, in the same order.
    fn token_keys(&self, cards: &[(Token, Expiry)]) -> Vec<TokenKey> {
        cards.iter().map(|(token, expiry)| self.token_key(token, *expiry)).collect()
    }

    /// What finds anything else that identifies a person: a name, an ID number. `kind` keeps indexes apart.
    fn index_of(&self, kind: &'static str, value: &[u8]) -> [u8; 16];

    /// Seals a value for the store, bound to `aad` (its row's key). The same value gives the same bytes: the nonce
    /// derives from key, `aad` and value. 28 bytes longer than `plain`.
    fn seal_at_rest(&self, aad: &[u8], plain: &[u8]) -> Vec<u8>;

    /// Opens what [`ClearingKeys::seal_at_rest`] sealed for the same `aad`.
    fn open_at_rest(&self, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, AtRestError>;

    /// Seals a token and its expiry for the row of its token key.
    fn seal_token(&self, token: &Token, expiry: Expiry) -> Vec<u8> {
        let mut plain = Zeroizing::new([0; 12]);
        plain[..10].copy_from_slice(token.bcd());
        plain[10..].copy_from_slice(&expiry.to_yymm());
        self.seal_at_rest(&self.token_key(token, expiry).0, plain.as_slice())
    }

    /// Opens a token of the store.
    fn open_token(&self, key: &TokenKey, sealed: &[u8]) -> Result<(Token, Expiry), AtRestError> {
        let plain = self.open_at_rest(&key.0, sealed)?;
        let Some((bcd, &[year, month])) = plain.split_first_chunk::<10>() else {
            return Err(AtRestError::Length(sealed.len()));
        };
        let token = Token::from_bcd(bcd).map_err(AtRestError::Token)?;
        Ok((token, Expiry::from_yymm([year, month]).map_err(AtRestError::Token)?))
    }

    /// The key of a gate's link. Derived, never stored; it gives no bytes.
    fn link_key(&self, gate_id: u32, key_id: KeyId) -> LinkKey;

    /// The provisioning file of a gate: the one place where a gate's keys leave this trait.
    fn provision(&self, gate: &GateIdentity<'_>) -> Result<Zeroizing<Vec<u8>>, ProvisioningError>;

    /// The list key with the root's signature over it.
    fn list_key(&self) -> ListKey;

    /// The root's public key (x), as gates are given it.
    fn root_key(&self) -> [u8; 32];

    /// The list key's signature over the parts of `message` joined.
    fn sign_list(&self, message: &[&[u8]]) -> [u8; 64];
}

/// A cryptogram with all that it covers, as a tap carries them.
#[derive(Clone, Copy)]
pub struct CryptogramCheck<'a> {
    /// The application that computed it.
    pub aid: &'a [u8],
    /// Whose it should be.
    pub token: Token,
    /// The token's sequence number; 0 where the card gave none.
    pub psn: u8,
    /// The transaction counter.
    pub atc: u16,
    /// The cryptogram.
    pub cryptogram: [u8; 8],
    /// The values that the gate sent for the PDOL.
    pub pdol_values: &'a [u8],
    /// Application interchange profile.
    pub aip: [u8; 2],
    /// Issuer application data.
    pub iad: &'a [u8],
}

impl<'a> CryptogramCheck<'a> {
    /// The check that a tap calls for; `None` where it carries no cryptogram, or lacks what one covers.
    pub fn of(tap: &Tap<'a>) -> Option<Self> {
        Some(Self {
            aid: tap.aid,
            token: tap.token?,
            psn: tap.psn.unwrap_or(0),
            atc: tap.atc?,
            cryptogram: tap.cryptogram?,
            pdol_values: tap.pdol_values,
            aip: tap.aip?,
            iad: tap.iad,
        })
    }
}

/// How a cryptogram check ended. The numbers are those of the store; 0 there stands for a tap without cryptogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum CryptogramResult {
    /// It is the token's, over these data.
    Valid = 1,
    /// It is not.
    Invalid = 2,
    /// The bank has no key for this token: it is carried through.
    NoKey = 3,
}

/// What the bank's keys can do.
pub trait BankKeys: Send + Sync {
    /// Verifies cryptograms; one answer each, in the same order. Spreads large batches over cores.
    fn verify_cryptograms(&self, checks: &[CryptogramCheck<'_>]) -> Vec<CryptogramResult>;

    /// The public keys of the bank's certification authorities, for the gates' list.
    fn ca_keys(&self) -> Vec<OwnedCaKey>;

    /// The P-256 issuer certificate that every phone carries.
    fn issuer_certificate(&self) -> [u8; 117];

    /// The digits that this bank's tokens begin with.
    fn iin(&self) -> &str;

    /// The token number of an account's token by its rank: unpredictable, and the same each time. A number already
    /// taken gives way to the next `attempt`.
    fn token_number(&self, account_id: &str, rank: u32, attempt: u32) -> Token;

    /// Puts a token on a phone: its certificate, its keys and its signed records, as a phone file.
    fn personalise(&self, order: &PhoneOrder) -> Result<PhoneFile, IssueError>;

    /// Puts a token on an RSA test card, under the bank's RSA authority; `None` if it was made without one.
    fn issue_card(&self, order: &CardOrder<'_>) -> Option<Result<PhoneFile, IssueError>>;
}

/// 32 bytes of key, wiped when dropped.
type Secret = Zeroizing<[u8; 32]>;

fn hmac(key: &[u8], parts: &[&[u8]]) -> Secret {
    use hmac::{Hmac, KeyInit, Mac};
    // HMAC takes keys of any length.
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).expect("HMAC takes any key");
    for part in parts {
        mac.update(part);
    }
    let mut full = mac.finalize().into_bytes();
    let out = Zeroizing::new(full.into());
    full.as_mut_slice().zeroize();
    out
}

fn first_half(full: &Secret) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&full[..16]);
    out
}

#[cfg(test)]
mod tests;
