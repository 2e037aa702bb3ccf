//! Test authorities, one of each suite, made when first needed: in a folder, or in memory from a seed.
//!
//! In a folder what was made is used ever after; `ca-keys.json` there is what gates must know. Authorities of one's
//! own may stand in the place of those made here. They are for tests: whoever has the folder can make phones.

use crate::files;
use crate::hex;
use crate::issue::{
    AuthorityOrder, CARD_BITS, HouseAuthority, IssueError, RsaAuthority, RsaAuthorityOrder, RsaCardKey,
    Sm2Authority, Sm2AuthorityOrder, Sm2Kind,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use wavepass_protocol::lists::{CaKey, Suite};
use wavepass_protocol::rsa::ca_check_value;
use wavepass_protocol::time::Date;
use zeroize::Zeroizing;

/// RID of the house.
pub const HOUSE_RID: [u8; 5] = [0xF0, 0x57, 0x41, 0x56, 0x45];
/// RID of UnionPay, whose AIDs the test cards have.
pub const UNIONPAY_RID: [u8; 5] = [0xA0, 0x00, 0x00, 0x03, 0x33];
/// Indices that no published key has: nobody takes a test phone for a real one.
const HOUSE_INDEX: u8 = 0xF0;
const RSA_INDEX: u8 = 0xF1;
const SM2_INDEX: u8 = 0xF2;
/// What tokens of a self-made issuer begin with.
const HOUSE_PREFIX: &str = "62990009";
const RSA_PREFIX: &str = "62990008";
const SM2_PREFIX: &str = "62990007";
/// How long a self-made issuer is good, in years.
const YEARS: u16 = 10;

const HOUSE_FILE: &str = "house.json";
const RSA_FILE: &str = "rsa.json";
const SM2_FILE: &str = "sm2.json";
const MASTER_FILE: &str = "card-master.hex";
const PUBLIC_FILE: &str = "ca-keys.json";

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// Reading or writing failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the folder is not what was written there.
    #[error("{}: {source}; move the file away to have a new authority", path.display())]
    Spoilt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: IssueError,
    },
    /// No authorities in this folder, or no such folder.
    #[error("{}: no test authorities are there; `phone issue --authorities {}` makes them", .0.display(), .0.display())]
    None(PathBuf),
    /// A file that was given is no authority of any suite.
    #[error("{}: no authority of a suite known here; those in an authorities folder are", .0.display())]
    Unknown(PathBuf),
    /// The SM2 authority certified its issuer in another way than the cards that it is to have.
    #[error(
        "the SM2 authority signs by user ID `{theirs}` with key parameters {}, not by `{wanted}` with {}; another \
         folder of authorities makes one that does",
        hex::encode(their_parameters),
        hex::encode(wanted_parameters)
    )]
    Sm2Kind {
        /// The authority's user ID.
        theirs: String,
        /// The two bytes before the issuer's key.
        their_parameters: [u8; 2],
        /// The cards' user ID.
        wanted: String,
        /// The two bytes before the cards' keys.
        wanted_parameters: [u8; 2],
    },
    /// The folder's master key is no key.
    #[error("{}: a master key is 32 hexadecimal digits", .0.display())]
    Master(PathBuf),
    /// An authority could not be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Randomness(getrandom::Error),
}

/// An authority's public key, as gates are told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// Registered application provider.
    pub rid: [u8; 5],
    /// Index.
    pub index: u8,
    /// What kind of key it is.
    pub suite: Suite,
    /// The last day on which it is good.
    pub expiry: Date,
    /// RSA: the modulus. P-256: x. SM2: x ‖ y.
    pub key: Vec<u8>,
    /// RSA: the exponent. Else empty.
    pub exponent: Vec<u8>,
    /// SHA-1 over RID, index, key and exponent.
    pub check_value: [u8; 20],
}

impl PublicKey {
    fn new(rid: [u8; 5], index: u8, suite: Suite, expiry: Date, key: Vec<u8>, exponent: Vec<u8>) -> Self {
        let check_value = ca_check_value(&rid, index, &key, &exponent);
        Self { rid, index, suite, expiry, key, exponent, check_value }
    }

    /// As a gate's list of keys has it.
    pub fn listed(&self) -> CaKey<'_> {
        CaKey {
            rid: self.rid,
            index: self.index,
            suite: self.suite,
            expiry: self.expiry.to_yyyymmdd(),
            key: &self.key,
            exponent: &self.exponent,
            check_value: self.check_value,
        }
    }

    /// As transcripts have it.
    pub fn to_json(&self) -> Value {
        let (rid, index) = (hex::encode(&self.rid), hex::encode(&[self.index]));
        match self.suite {
            Suite::P256 => json!({ "rid": rid, "index": index, "suite": "10", "x": hex::encode(&self.key) }),
            Suite::Sm2 => {
                let (x, y) = self.key.split_at(self.key.len() / 2);
                json!({
                    "rid": rid, "index": index, "suite": "sm2",
                    "x": hex::encode(x), "y": hex::encode(y),
                })
            }
            Suite::Rsa => json!({
                "rid": rid,
                "index": index,
                "modulus": hex::encode(&self.key),
                "exponent": hex::encode(&self.exponent),
                "check_value": hex::encode(&self.check_value),
            }),
        }
    }
}

/// Where authorities come from that are not there yet.
enum Source {
    Folder(PathBuf),
    Seed(Zeroizing<[u8; 32]>),
}

/// Test authorities.
pub struct Authorities {
    source: Source,
    today: Date,
    house: OnceLock<HouseAuthority>,
    rsa: OnceLock<RsaAuthority>,
    sm2: OnceLock<Sm2Authority>,
    master: OnceLock<Zeroizing<[u8; 16]>>,
    card_key: OnceLock<RsaCardKey>,
    strangers: OnceLock<Box<Authorities>>,
}

impl Authorities {
    fn new(source: Source, today: Date) -> Self {
        Self {
            source,
            today,
            house: OnceLock::new(),
            rsa: OnceLock::new(),
            sm2: OnceLock::new(),
            master: OnceLock::new(),
            card_key: OnceLock::new(),
            strangers: OnceLock::new(),
        }
    }

    /// Authorities in memory: the same seed and day give the same. RSA takes seconds when first asked for, so all RSA
    /// cards that are made with them share one key.
    pub fn generate(seed: [u8; 32], today: Date) -> Self {
        Self::new(Source::Seed(Zeroizing::new(seed)), today)
    }

    /// The authorities of a folder that has some. Those of other suites are made there when needed.
    pub fn existing(folder: &Path, today: Date) -> Result<Self, AuthorityError> {
        let files = [HOUSE_FILE, RSA_FILE, SM2_FILE, PUBLIC_FILE];
        if files.iter().any(|name| folder.join(name).is_file()) {
            Self::open(folder, today)
        } else {
            Err(AuthorityError::None(folder.to_owned()))
        }
    }

    /// The authorities of a folder, which is made if need be.
    pub fn open(folder: &Path, today: Date) -> Result<Self, AuthorityError> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder).map_err(|source| AuthorityError::Io { path: folder.to_owned(), source })?;
        Ok(Self::new(Source::Folder(folder.to_owned()), today))
    }

    /// Takes an authority from a file, in the place of the one of its suite.
    pub fn take(&mut self, path: &Path) -> Result<(), AuthorityError> {
        let text = read(path)?;
        if let Ok(house) = HouseAuthority::from_json(&text) {
            self.house = OnceLock::from(house);
        } else if let Ok(rsa) = RsaAuthority::from_json(&text) {
            self.rsa = OnceLock::from(rsa);
        } else if let Ok(sm2) = Sm2Authority::from_json(&text) {
            self.sm2 = OnceLock::from(sm2);
        } else {
            return Err(AuthorityError::Unknown(path.to_owned()));
        }
        Ok(())
    }

    /// Authorities with the same names and other keys, in memory.
    pub fn strangers(&self) -> Result<&Self, AuthorityError> {
        let strangers = once(&self.strangers, || {
            let mut seed = [0; 32];
            self.random("strangers")?.fill_bytes(&mut seed);
            Ok(Box::new(Self::generate(seed, self.today)))
        })?;
        Ok(strangers)
    }

    /// A key for an RSA card.
    pub fn card_key(&self) -> Result<RsaCardKey, AuthorityError> {
        let make = || {
            let key = RsaCardKey::generate(&mut self.random("card key")?, CARD_BITS);
            key.map_err(|e| IssueError::RsaKey(e).into())
        };
        match &self.source {
            Source::Folder(_) => make(),
            Source::Seed(_) => once(&self.card_key, make).cloned(),
        }
    }

    /// The P-256 authority and its issuer.
    pub fn house(&self) -> Result<&HouseAuthority, AuthorityError> {
        let order = AuthorityOrder {
            rid: HOUSE_RID,
            ca_index: HOUSE_INDEX,
            issuer_id: digits(HOUSE_PREFIX),
            expiry: self.expiry(),
            serial: [0, 0, 1],
        };
        let make = || Ok(HouseAuthority::generate(&mut self.random(HOUSE_FILE)?, order).to_json());
        once(&self.house, || self.kept(HOUSE_FILE, make, HouseAuthority::from_json))
    }

    /// The RSA authority and its issuer.
    pub fn rsa(&self) -> Result<&RsaAuthority, AuthorityError> {
        let order = RsaAuthorityOrder {
            rid: UNIONPAY_RID,
            ca_index: RSA_INDEX,
            iin: digits(RSA_PREFIX),
            expiry: self.expiry().expiry(),
            serial: [0, 0, 1],
        };
        let make = || Ok(RsaAuthority::generate(&mut self.random(RSA_FILE)?, order)?.to_json());
        once(&self.rsa, || self.kept(RSA_FILE, make, RsaAuthority::from_json))
    }

    /// The SM2 authority and its issuer, of whatever kind; as usual, if it is made now.
    pub fn sm2(&self) -> Result<&Sm2Authority, AuthorityError> {
        self.sm2_first(&Sm2Kind::default())
    }

    /// The SM2 authority for cards of this kind. One in memory certifies its issuer for each kind; one of a folder was
    /// made for one kind, for its own key is gone.
    pub fn sm2_as(&self, kind: &Sm2Kind) -> Result<Cow<'_, Sm2Authority>, AuthorityError> {
        let serves = |authority: &Sm2Authority| {
            authority.user_id() == kind.convention.user_id()
                && authority.key_parameters() == kind.key_parameters
        };
        let first = self.sm2_first(kind)?;
        if serves(first) {
            return Ok(Cow::Borrowed(first));
        }
        if matches!(self.source, Source::Seed(_)) {
            let again = self.make_sm2(kind)?;
            // One that was taken from a file has another key.
            if again.ca_key() == first.ca_key() {
                return Ok(Cow::Owned(again));
            }
        }
        Err(AuthorityError::Sm2Kind {
            theirs: first.user_id().to_owned(),
            their_parameters: first.key_parameters(),
            wanted: kind.convention.user_id().to_owned(),
            wanted_parameters: kind.key_parameters,
        })
    }

    /// The SM2 authority, made for this kind if there is none yet.
    fn sm2_first(&self, kind: &Sm2Kind) -> Result<&Sm2Authority, AuthorityError> {
        let make = || Ok(self.make_sm2(kind)?.to_json());
        once(&self.sm2, || self.kept(SM2_FILE, make, Sm2Authority::from_json))
    }

    fn make_sm2(&self, kind: &Sm2Kind) -> Result<Sm2Authority, AuthorityError> {
        let order = Sm2AuthorityOrder {
            rid: UNIONPAY_RID,
            ca_index: SM2_INDEX,
            iin: digits(SM2_PREFIX),
            expiry: self.expiry().expiry(),
            serial: [0, 0, 1],
        };
        Ok(Sm2Authority::generate_as(kind, &mut self.random(SM2_FILE)?, order)?)
    }

    /// The key from which the master keys of phones derive.
    pub fn master(&self) -> Result<&[u8; 16], AuthorityError> {
        let make = || {
            let mut key = Zeroizing::new([0; 16]);
            self.random(MASTER_FILE)?.fill_bytes(key.as_mut_slice());
            Ok(Zeroizing::new(hex::encode(key.as_slice())))
        };
        let parse = |text: &str| {
            let bytes = hex::decode(text.trim()).ok().map(Zeroizing::new);
            bytes.and_then(|b| <[u8; 16]>::try_from(b.as_slice()).ok()).map(Zeroizing::new)
        };
        let key = once(&self.master, || {
            parse(&self.text(MASTER_FILE, make)?)
                .ok_or_else(|| AuthorityError::Master(self.path(MASTER_FILE)))
        })?;
        Ok(key)
    }

    /// The public keys of the authorities that are there so far.
    pub fn public_keys(&self) -> Result<Vec<PublicKey>, AuthorityError> {
        let mut keys = Vec::new();
        if self.house.get().is_some() || self.is_kept(HOUSE_FILE) {
            let (house, none) = (self.house()?, Vec::new());
            let (rid, index) = (house.issuer().rid(), house.issuer().ca_index());
            let x = house.ca_public_key().to_vec();
            keys.push(PublicKey::new(rid, index, Suite::P256, self.expiry(), x, none));
        }
        if self.rsa.get().is_some() || self.is_kept(RSA_FILE) {
            let ca = self.rsa()?.ca_key();
            let exponent = if ca.exponent == 3 { vec![3] } else { vec![1, 0, 1] };
            keys.push(PublicKey::new(ca.rid, ca.index, Suite::Rsa, self.expiry(), ca.modulus, exponent));
        }
        if self.sm2.get().is_some() || self.is_kept(SM2_FILE) {
            let (ca, none) = (self.sm2()?.ca_key(), Vec::new());
            let (expiry, key) = (self.expiry(), ca.key.to_vec());
            keys.push(PublicKey::new(ca.rid, ca.index, Suite::Sm2, expiry, key, none));
        }
        Ok(keys)
    }

    /// Writes the public keys into the folder, for gates and transcripts, and says where. Authorities in memory have no
    /// folder.
    pub fn publish(&self) -> Result<Option<PathBuf>, AuthorityError> {
        let Source::Folder(folder) = &self.source else { return Ok(None) };
        let path = folder.join(PUBLIC_FILE);
        let keys: Vec<Value> = self.public_keys()?.iter().map(PublicKey::to_json).collect();
        let text = format!("{:#}\n", json!({ "ca_keys": keys }));
        files::replace(&path, text.as_bytes())
            .map_err(|source| AuthorityError::Io { path: path.clone(), source })?;
        Ok(Some(path))
    }

    fn expiry(&self) -> Date {
        Date { year: (self.today.year + YEARS).min(2099), month: 12, day: 31 }
    }

    fn path(&self, name: &str) -> PathBuf {
        match &self.source {
            Source::Folder(folder) => folder.join(name),
            Source::Seed(_) => PathBuf::from(name),
        }
    }

    fn is_kept(&self, name: &str) -> bool {
        matches!(&self.source, Source::Folder(folder) if folder.join(name).exists())
    }

    /// Randomness for what has this name.
    fn random(&self, name: &str) -> Result<ChaCha20Rng, AuthorityError> {
        let mut seed = Zeroizing::new([0; 32]);
        match &self.source {
            Source::Folder(_) => {
                getrandom::fill(seed.as_mut_slice()).map_err(AuthorityError::Randomness)?;
            }
            Source::Seed(own) => {
                let hash = Sha256::new_with_prefix(own.as_slice()).chain_update(name).finalize();
                seed.copy_from_slice(&hash);
            }
        }
        Ok(ChaCha20Rng::from_seed(*seed))
    }

    /// What a file of the folder says; made once, never written over. In memory it is made and nothing else.
    fn text(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<Zeroizing<String>, AuthorityError>,
    ) -> Result<Zeroizing<String>, AuthorityError> {
        let Source::Folder(folder) = &self.source else { return make() };
        let path = folder.join(name);
        if !path.exists() {
            let text = make()?;
            let io = |source| AuthorityError::Io { path: path.clone(), source };
            let mut file = files::private().write(true).create_new(true).open(&path).map_err(io)?;
            file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
        }
        read(&path)
    }

    fn kept<T>(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<Zeroizing<String>, AuthorityError>,
        parse: impl FnOnce(&str) -> Result<T, IssueError>,
    ) -> Result<T, AuthorityError> {
        let text = self.text(name, make)?;
        parse(&text).map_err(|source| AuthorityError::Spoilt { path: self.path(name), source })
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, AuthorityError> {
    let io = |source| AuthorityError::Io { path: path.to_owned(), source };
    fs::read_to_string(path).map(Zeroizing::new).map_err(io)
}

fn once<T>(
    cell: &OnceLock<T>,
    make: impl FnOnce() -> Result<T, AuthorityError>,
) -> Result<&T, AuthorityError> {
    if let Some(made) = cell.get() {
        return Ok(made);
    }
    let made = make()?;
    Ok(cell.get_or_init(|| made))
}

/// Packed digits, padded with F.
fn digits<const N: usize>(text: &str) -> [u8; N] {
    let mut out = [0xFF; N];
    for (slot, pair) in out.iter_mut().zip(text.as_bytes().as_chunks::<2>().0) {
        *slot = (pair[0] - b'0') << 4 | (pair[1] - b'0');
    }
    out
}
