//! Making the three key files, and opening them.

use super::bank::{self, Bank, BankOptions, BankPublic, BankSecrets};
use super::clearing::{Clearing, ClearingSecrets, RootVoucher};
use super::file::{self, Contents, Cost, KeysError, Role};
use super::{BankKeys, ClearingKeys, Passphrase, Secret, hex};
use rand::CryptoRng;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use wavepass_protocol::ecc::SigningKey;
use wavepass_protocol::lists::ListKey;
use wavepass_protocol::time::Date;
use zeroize::Zeroizing;

/// What keys are made from.
#[derive(Debug, Clone)]
pub struct KeyOptions {
    /// Registered application provider identifier of the house's certificates: the first five bytes of its AID.
    pub rid: [u8; 5],
    /// Index of the P-256 CA key under it.
    pub ca_index: u8,
    /// The last day of CA keys and issuer certificates.
    pub ca_expiry: Date,
    /// The 3 to 8 digits that the bank's tokens begin with.
    pub iin: String,
    /// Where RSA test cards are wanted: the 3 to 8 digits that their numbers begin with. Making the keys of their
    /// authority takes seconds.
    pub rsa_iin: Option<String>,
}

impl KeyOptions {
    /// The house's options: RID `F057415645`, CA key 1, good until the end of that year.
    pub fn house(last_year: u16) -> Self {
        Self {
            rid: [0xF0, 0x57, 0x41, 0x56, 0x45],
            ca_index: 1,
            ca_expiry: Date { year: last_year, month: 12, day: 31 },
            iin: "62990001".to_owned(),
            rsa_iin: None,
        }
    }

    /// The same with an authority for RSA test cards.
    pub fn with_rsa(self) -> Self {
        Self { rsa_iin: Some("62990002".to_owned()), ..self }
    }

    pub(super) fn bank(&self) -> BankOptions {
        BankOptions {
            rid: self.rid,
            ca_index: self.ca_index,
            ca_expiry: self.ca_expiry,
            iin: self.iin.clone(),
            rsa_iin: self.rsa_iin.clone(),
            rsa_rid: RSA_RID,
            rsa_index: RSA_TEST_INDEX,
        }
    }
}

/// The RID of the RSA AIDs that gates accept (docs/formats.md).
const RSA_RID: [u8; 5] = [0xA0, 0x00, 0x00, 0x03, 0x33];
/// An index that no published key of that RID has: test cards cannot be taken for real ones.
const RSA_TEST_INDEX: u8 = 0xF1;

/// A random number that is a P-256 signing key.
pub(super) fn signing_number(rng: &mut (impl CryptoRng + ?Sized)) -> [u8; 32] {
    let mut number = Zeroizing::new([0; 32]);
    // One in 2^32 is no key; then the next one is taken.
    while SigningKey::from_bytes(&number).is_none() {
        rng.fill_bytes(number.as_mut_slice());
    }
    *number
}

/// What the root key file holds.
pub(super) struct Root(Secret);

#[derive(Serialize, Deserialize)]
pub(super) struct RootPublic {
    pub(super) root_key: String,
}

impl Root {
    pub(super) fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self(Zeroizing::new(signing_number(rng)))
    }

    fn signer(&self) -> SigningKey {
        // Made by `signing_number`, or checked by `open`.
        SigningKey::from_bytes(&self.0).expect("a root key is in range")
    }

    /// Makes a key the list key.
    pub(super) fn vouch(&self, list_key: &[u8; 32], nonce: [u8; 32]) -> RootVoucher {
        let signer = self.signer();
        let signature = signer.sign(&ListKey::message(list_key), nonce);
        RootVoucher { root_key: *signer.public_key().x(), signature }
    }

    pub(super) fn open(path: &Path, passphrase: &Passphrase) -> Result<Self, KeysError> {
        let contents = file::open(path, Role::Root, passphrase)?;
        let number: [u8; 32] = contents.secret.as_slice().try_into().map_err(|_| unlike(path))?;
        SigningKey::from_bytes(&number).ok_or_else(|| unlike(path))?;
        Ok(Self(Zeroizing::new(number)))
    }

    fn contents(&self) -> Contents {
        let public = RootPublic { root_key: hex::encode(self.signer().public_key().x()) };
        Contents { public: value(&public), secret: Zeroizing::new(self.0.to_vec()) }
    }
}

/// The public part of a clearing key file; the voucher is missing until the root has signed.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct ClearingPublic {
    pub(super) list_key: String,
    pub(super) root_key: Option<String>,
    pub(super) root_signature: Option<String>,
}

impl ClearingPublic {
    pub(super) fn new(list_key: &[u8; 32], voucher: Option<&RootVoucher>) -> Self {
        Self {
            list_key: hex::encode(list_key),
            root_key: voucher.map(|v| hex::encode(&v.root_key)),
            root_signature: voucher.map(|v| hex::encode(&v.signature)),
        }
    }

    pub(super) fn voucher(&self) -> Option<RootVoucher> {
        Some(RootVoucher {
            root_key: hex::array(self.root_key.as_deref()?)?,
            signature: hex::array(self.root_signature.as_deref()?)?,
        })
    }
}

/// The keys of all three roles, before they go into their files. No `Debug`.
pub struct KeySet {
    root: Root,
    bank: (BankSecrets, BankPublic),
    clearing: ClearingSecrets,
    voucher: RootVoucher,
}

impl KeySet {
    /// Makes the keys of all roles. The same random numbers make the same keys.
    pub fn generate(rng: &mut impl CryptoRng, options: &KeyOptions) -> Result<Self, KeysError> {
        let root = Root::generate(rng);
        let clearing = ClearingSecrets::generate(rng);
        let mut nonce = [0; 32];
        rng.fill_bytes(&mut nonce);
        // `generate` has made a list key.
        let voucher = root.vouch(&clearing.list_key_x().expect("a new list key is in range"), nonce);
        let bank = bank::generate(rng, &options.bank()).map_err(KeysError::Option)?;
        Ok(Self { root, bank, clearing, voucher })
    }

    /// Writes the three files; none may exist. The folder is made if it is missing.
    pub fn write(
        &self,
        dir: &Path,
        passphrase: &Passphrase,
        cost: Cost,
        rng: &mut impl CryptoRng,
    ) -> Result<(), KeysError> {
        make_folder(dir)?;
        if let Some(path) =
            [Role::Root, Role::Bank, Role::Clearing].map(|r| r.path(dir)).into_iter().find(|p| p.exists())
        {
            return Err(KeysError::Exists(path));
        }
        write_root(dir, &self.root, passphrase, cost, rng)?;
        write_bank(dir, &self.bank, passphrase, cost, rng)?;
        write_clearing(dir, &self.clearing, Some(&self.voucher), passphrase, cost, rng)
    }

    /// The bank's keys, ready to compute.
    pub fn bank(&self) -> Arc<dyn BankKeys> {
        // Both halves were made together.
        Arc::new(Bank::new(&self.bank.0, &self.bank.1).expect("new bank keys are whole"))
    }

    /// Clearing's keys, ready to compute.
    pub fn clearing(&self) -> Arc<dyn ClearingKeys> {
        // The root signed this very list key.
        Arc::new(Clearing::new(&self.clearing, &self.voucher).expect("new clearing keys are whole"))
    }
}

/// Opens a bank key file.
pub fn open_bank(path: &Path, passphrase: &Passphrase) -> Result<Arc<dyn BankKeys>, KeysError> {
    let contents = file::open(path, Role::Bank, passphrase)?;
    let (secrets, public) = (parse_secret(path, &contents)?, parse_public(path, &contents.public)?);
    Ok(Arc::new(Bank::new(&secrets, &public).ok_or_else(|| unlike(path))?))
}

/// Opens a clearing key file whose list key the root has signed.
pub fn open_clearing(path: &Path, passphrase: &Passphrase) -> Result<Arc<dyn ClearingKeys>, KeysError> {
    let (secrets, public) = open_clearing_parts(path, passphrase)?;
    let voucher = public.voucher().ok_or_else(|| KeysError::ListKeyUnsigned(path.to_owned()))?;
    Ok(Arc::new(Clearing::new(&secrets, &voucher).ok_or(KeysError::ListKeySignature)?))
}

pub(super) fn open_clearing_parts(
    path: &Path,
    passphrase: &Passphrase,
) -> Result<(ClearingSecrets, ClearingPublic), KeysError> {
    let contents = file::open(path, Role::Clearing, passphrase)?;
    Ok((parse_secret(path, &contents)?, parse_public(path, &contents.public)?))
}

/// Makes a folder that only its owner can read, if it is missing.
pub(super) fn make_folder(dir: &Path) -> Result<(), KeysError> {
    use std::os::unix::fs::DirBuilderExt;
    if dir.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|source| file::io(dir, source))
}

pub(super) fn write_root(
    dir: &Path,
    root: &Root,
    passphrase: &Passphrase,
    cost: Cost,
    rng: &mut impl CryptoRng,
) -> Result<(), KeysError> {
    file::create(&Role::Root.path(dir), Role::Root, &root.contents(), passphrase, cost, rng)
}

pub(super) fn write_bank(
    dir: &Path,
    (secrets, public): &(BankSecrets, BankPublic),
    passphrase: &Passphrase,
    cost: Cost,
    rng: &mut impl CryptoRng,
) -> Result<(), KeysError> {
    let contents = Contents { public: value(public), secret: secret_bytes(secrets) };
    file::create(&Role::Bank.path(dir), Role::Bank, &contents, passphrase, cost, rng)
}

pub(super) fn write_clearing(
    dir: &Path,
    secrets: &ClearingSecrets,
    voucher: Option<&RootVoucher>,
    passphrase: &Passphrase,
    cost: Cost,
    rng: &mut impl CryptoRng,
) -> Result<(), KeysError> {
    let contents = clearing_contents(secrets, voucher);
    file::create(&Role::Clearing.path(dir), Role::Clearing, &contents, passphrase, cost, rng)
}

pub(super) fn clearing_contents(secrets: &ClearingSecrets, voucher: Option<&RootVoucher>) -> Contents {
    // Made by `signing_number`, or opened from a file that was.
    let list_key = secrets.list_key_x().expect("a list key is in range");
    Contents { public: value(&ClearingPublic::new(&list_key, voucher)), secret: secret_bytes(secrets) }
}

fn value(public: &impl Serialize) -> serde_json::Value {
    // Strings and numbers under string keys are JSON.
    serde_json::to_value(public).expect("a public part is JSON")
}

// The secrets' encoding is postcard: nothing of it lingers in a JSON writer's buffers.
fn secret_bytes(secrets: &impl Serialize) -> Zeroizing<Vec<u8>> {
    let mut buffer = Zeroizing::new(vec![0; MAX_SECRETS]);
    // An RSA authority, by far the largest part, has a few kilobytes.
    let len = postcard::to_slice(secrets, &mut buffer).expect("secrets fit their buffer").len();
    buffer.truncate(len);
    buffer
}

/// The longest payload of a key file, bytes.
const MAX_SECRETS: usize = 64 * 1024;

fn parse_secret<T: DeserializeOwned>(path: &Path, contents: &Contents) -> Result<T, KeysError> {
    postcard::from_bytes(&contents.secret).map_err(|_| unlike(path))
}

pub(super) fn parse_public<T: DeserializeOwned>(
    path: &Path,
    public: &serde_json::Value,
) -> Result<T, KeysError> {
    T::deserialize(public).map_err(|_| unlike(path))
}

fn unlike(path: &Path) -> KeysError {
    KeysError::Damaged { path: path.to_owned(), what: "its content is not that of its role" }
}
