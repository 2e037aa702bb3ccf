//! The key file: a JSON envelope around a payload that a passphrase seals.
//!
//! `sealed` is AES-256-GCM over the secrets, `nonce 12 ‖ ciphertext ‖ tag 16`; Argon2id makes 64 bytes of the
//! passphrase: 32 for the cipher, 32 for `check`. Everything else in the envelope is associated data. `check` tells
//! a wrong passphrase from a damaged file; `sum`, a SHA-256 of the envelope, finds damage before a passphrase is
//! tried. Files are made with mode 0600 and never overwritten.

use super::hex;
use super::passphrase::{MIN_LEN, Passphrase};
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use argon2::{Algorithm, Argon2, Params, Version};
use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const FORMAT: &str = "wavepass key file";
const VERSION_1: u32 = 1;
/// The longest key file that is read: the largest holds an RSA authority of a few kilobytes.
pub(super) const MAX_FILE: u64 = 1 << 20;
/// The most memory a file may ask Argon2id for, so that a forged file cannot exhaust the machine.
const MAX_MEMORY_KIB: u32 = 1 << 20;
const MAX_PASSES: u32 = 16;

/// Whose keys a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The root signing key. It stays off line.
    Root,
    /// CA and issuer keys, the cards' master key.
    Bank,
    /// DUKPT base key, list key, link, index and storage keys.
    Clearing,
}

impl Role {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Bank => "bank",
            Self::Clearing => "clearing",
        }
    }

    /// Where its file lies in a key folder.
    pub fn path(self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.key", self.word()))
    }
}

/// How hard a passphrase is to guess from the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// 64 MiB, three passes: a fraction of a second.
    Interactive,
    /// The least that Argon2id takes: for tests and simulations, whose keys protect nothing.
    Test,
}

impl Cost {
    const fn memory_kib_and_passes(self) -> (u32, u32) {
        match self {
            Self::Interactive => (65_536, 3),
            Self::Test => (8, 1),
        }
    }
}

/// Why keys cannot be made, read or installed.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file system refused.
    #[error("key file {path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A key file is never overwritten.
    #[error("{0} exists; a key file is never overwritten")]
    Exists(PathBuf),
    /// The envelope is altered, cut short, or not a key file at all.
    #[error("{path} is damaged or no key file: {what}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A format that this program does not read.
    #[error("{path} has key file version {version}; this program reads version 1")]
    Version {
        /// Which file.
        path: PathBuf,
        /// The version it claims.
        version: u32,
    },
    /// The file is whole; the passphrase is another one.
    #[error("wrong passphrase for {0}")]
    WrongPassphrase(PathBuf),
    /// Another role's file.
    #[error("{path} holds {found} keys, not {expected} keys")]
    Role {
        /// Which file.
        path: PathBuf,
        /// The role asked for.
        expected: &'static str,
        /// The role found.
        found: &'static str,
    },
    /// A new passphrase that is too short.
    #[error("a passphrase has at least {MIN_LEN} characters")]
    WeakPassphrase,
    /// The root has not signed the list key yet.
    #[error("{0}: the root has not signed its list key; see `keys list-request`")]
    ListKeyUnsigned(PathBuf),
    /// The signature is not the root's over this list key.
    #[error("that is not the root's signature over this list key")]
    ListKeySignature,
    /// A request or certificate of a list key that is not one.
    #[error("{0} is not a list key request or certificate")]
    ListKeyFile(PathBuf),
    /// Something that keys were to be made with is unusable.
    #[error("{0}")]
    Option(String),
    /// No randomness from the operating system.
    #[error("the operating system gives no randomness: {0}")]
    Randomness(getrandom::Error),
    /// No passphrase.
    #[error(transparent)]
    Passphrase(#[from] super::PassphraseError),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kdf {
    name: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    format: String,
    version: u32,
    role: Role,
    /// What the file says without a passphrase: public keys and signatures, never secrets.
    public: serde_json::Value,
    kdf: Kdf,
    check: String,
    sealed: String,
    #[serde(default)]
    sum: String,
}

impl Envelope {
    // What the cipher binds: all but the ciphertext itself and what is computed after it. serde_json keeps the order
    // of a map that it has read, so a file that is read gives the bytes that were sealed.
    fn associated_data(&self) -> Vec<u8> {
        let kdf = &self.kdf;
        format!(
            "{FORMAT}\n{}\n{}\n{}\n{} {} {} {} {}",
            self.version,
            self.role.word(),
            self.public,
            kdf.name,
            kdf.memory_kib,
            kdf.passes,
            kdf.lanes,
            kdf.salt
        )
        .into_bytes()
    }

    fn sum(&self) -> String {
        let hash = Sha256::new()
            .chain_update(self.associated_data())
            .chain_update(&self.check)
            .chain_update(&self.sealed)
            .finalize();
        hex::encode(&hash)
    }
}

/// What a key file gives once it is open.
pub(super) struct Contents {
    pub(super) public: serde_json::Value,
    pub(super) secret: Zeroizing<Vec<u8>>,
}

/// Writes a new key file.
pub(super) fn create(
    path: &Path,
    role: Role,
    contents: &Contents,
    passphrase: &Passphrase,
    cost: Cost,
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<(), KeysError> {
    if passphrase.as_bytes().len() < MIN_LEN {
        return Err(KeysError::WeakPassphrase);
    }
    write_new(path, seal(role, contents, passphrase, cost, rng).as_bytes())
}

/// Puts another content in place of a key file's, all or nothing.
pub(super) fn replace(
    path: &Path,
    role: Role,
    contents: &Contents,
    passphrase: &Passphrase,
    cost: Cost,
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<(), KeysError> {
    let next = path.with_extension("key.next");
    // One left by a cut before the rename holds nothing that is not in `path`, or will be again.
    match std::fs::remove_file(&next) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => return Err(io(&next, source)),
        _ => {}
    }
    write_new(&next, seal(role, contents, passphrase, cost, rng).as_bytes())?;
    std::fs::rename(&next, path).map_err(|source| io(path, source))?;
    sync_folder(path)
}

fn seal(
    role: Role,
    contents: &Contents,
    passphrase: &Passphrase,
    cost: Cost,
    rng: &mut (impl CryptoRng + ?Sized),
) -> String {
    let (memory_kib, passes) = cost.memory_kib_and_passes();
    let (mut salt, mut nonce) = ([0; 16], [0; 12]);
    rng.fill_bytes(&mut salt);
    rng.fill_bytes(&mut nonce);
    let kdf = Kdf { name: "argon2id".to_owned(), memory_kib, passes, lanes: 1, salt: hex::encode(&salt) };
    // The parameters are constants that Argon2id takes.
    let keys = stretch(&kdf, passphrase).expect("our own parameters are valid");
    let mut envelope = Envelope {
        format: FORMAT.to_owned(),
        version: VERSION_1,
        role,
        public: contents.public.clone(),
        kdf,
        check: String::new(),
        sealed: String::new(),
        sum: String::new(),
    };
    let aad = envelope.associated_data();
    envelope.check = hex::encode(&check(&keys));
    let mut sealed = nonce.to_vec();
    sealed.extend_from_slice(&contents.secret);
    let tag = cipher(&keys)
        .encrypt_inout_detached(&Nonce::from(nonce), &aad, (&mut sealed[12..]).into())
        // The cipher's only limit is 64 GiB.
        .expect("a key file is short");
    sealed.extend_from_slice(&tag);
    envelope.sealed = hex::encode(&sealed);
    envelope.sum = envelope.sum();
    // An envelope is strings and numbers, all of which JSON can carry.
    serde_json::to_string_pretty(&envelope).expect("an envelope is JSON") + "\n"
}

/// Opens a key file of that role.
pub(super) fn open(path: &Path, role: Role, passphrase: &Passphrase) -> Result<Contents, KeysError> {
    let envelope = read(path)?;
    if envelope.role != role {
        return Err(KeysError::Role {
            path: path.to_owned(),
            expected: role.word(),
            found: envelope.role.word(),
        });
    }
    let damaged = |what| KeysError::Damaged { path: path.to_owned(), what };
    let keys = stretch(&envelope.kdf, passphrase).ok_or_else(|| damaged("key derivation parameters"))?;
    let aad = envelope.associated_data();
    let expected = hex::decode(&envelope.check).ok_or_else(|| damaged("check"))?;
    if !bool::from(check(&keys)[..].ct_eq(&expected)) {
        return Err(KeysError::WrongPassphrase(path.to_owned()));
    }
    let sealed = hex::decode(&envelope.sealed).ok_or_else(|| damaged("sealed payload"))?;
    let (Some((nonce, rest)), true) = (sealed.split_first_chunk::<12>(), sealed.len() >= 28) else {
        return Err(damaged("sealed payload"));
    };
    let (body, tag) = rest.split_at(rest.len() - 16);
    let tag: [u8; 16] = tag.try_into().map_err(|_| damaged("sealed payload"))?;
    let mut secret = Zeroizing::new(body.to_vec());
    cipher(&keys)
        .decrypt_inout_detached(&Nonce::from(*nonce), &aad, secret.as_mut_slice().into(), &tag.into())
        .map_err(|_| damaged("sealed payload"))?;
    Ok(Contents { public: envelope.public, secret })
}

/// What a key file says without its passphrase: its role and its public part. Nothing of it is proven.
pub(super) fn peek(path: &Path) -> Result<(Role, serde_json::Value), KeysError> {
    read(path).map(|envelope| (envelope.role, envelope.public))
}

fn read(path: &Path) -> Result<Envelope, KeysError> {
    let damaged = |what| KeysError::Damaged { path: path.to_owned(), what };
    let text = crate::input::read_text(path, MAX_FILE).map_err(|source| match source.kind() {
        std::io::ErrorKind::FileTooLarge => damaged("longer than a key file"),
        std::io::ErrorKind::InvalidData => damaged("not text"),
        _ => io(path, source),
    })?;
    let envelope: Envelope =
        serde_json::from_str(&text).map_err(|_| damaged("not the JSON of a key file"))?;
    if envelope.format != FORMAT {
        return Err(damaged("another format"));
    }
    if envelope.version != VERSION_1 {
        return Err(KeysError::Version { path: path.to_owned(), version: envelope.version });
    }
    if envelope.sum() != envelope.sum {
        return Err(damaged("its checksum differs"));
    }
    Ok(envelope)
}

fn stretch(kdf: &Kdf, passphrase: &Passphrase) -> Option<Zeroizing<[u8; 64]>> {
    if kdf.name != "argon2id" || kdf.memory_kib > MAX_MEMORY_KIB || kdf.passes > MAX_PASSES || kdf.lanes != 1
    {
        return None;
    }
    let salt = hex::array::<16>(&kdf.salt)?;
    let params = Params::new(kdf.memory_kib, kdf.passes, kdf.lanes, Some(64)).ok()?;
    let mut keys = Zeroizing::new([0; 64]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), &salt, keys.as_mut_slice())
        .ok()?;
    Some(keys)
}

fn check(keys: &[u8; 64]) -> [u8; 16] {
    super::first_half(&super::hmac(&keys[32..], &[b"passphrase check"]))
}

fn cipher(keys: &[u8; 64]) -> Aes256Gcm {
    let mut key = Zeroizing::new([0; 32]);
    key.copy_from_slice(&keys[..32]);
    Aes256Gcm::new((&*key).into())
}

/// Writes a file that must not exist yet, readable by its owner only, durable when it returns. A file whose writing
/// failed half-way is removed.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), KeysError> {
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(KeysError::Exists(path.to_owned()));
        }
        Err(source) => return Err(io(path, source)),
    };
    if let Err(source) = file.write_all(bytes).and_then(|()| file.sync_all()) {
        let _ = std::fs::remove_file(path);
        return Err(io(path, source));
    }
    sync_folder(path)
}

fn sync_folder(path: &Path) -> Result<(), KeysError> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| io(folder, source))
}

pub(super) fn io(path: &Path, source: std::io::Error) -> KeysError {
    KeysError::Io { path: path.to_owned(), source }
}
