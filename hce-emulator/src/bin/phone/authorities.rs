//! A folder with authorities of our own. They are made when first needed and used ever after.

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use wavepass_hce::hex;
use wavepass_hce::issue::{AuthorityOrder, HouseAuthority, RsaAuthority, RsaAuthorityOrder};
use wavepass_protocol::time::Date;
use wavepass_protocol::token::Expiry;
use zeroize::Zeroizing;

/// RID of the house.
const HOUSE_RID: [u8; 5] = [0xF0, 0x57, 0x41, 0x56, 0x45];
/// RID of UnionPay, whose AIDs the RSA test cards have.
const RSA_RID: [u8; 5] = [0xA0, 0x00, 0x00, 0x03, 0x33];
/// Indices that no published key has: nobody takes a test phone for a real one.
const HOUSE_INDEX: u8 = 0xF0;
const RSA_INDEX: u8 = 0xF1;
/// What tokens of a self-made issuer begin with.
pub(crate) const HOUSE_PREFIX: &str = "62990009";
pub(crate) const RSA_PREFIX: &str = "62990008";
/// How long a self-made issuer is good, in years.
const YEARS: u16 = 10;

/// The folder.
pub(crate) struct Authorities {
    folder: PathBuf,
    today: Date,
}

impl Authorities {
    pub(crate) fn open(folder: &Path, today: Date) -> Result<Self, String> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder
            .create(folder)
            .map_err(|e| format!("{}: {e}; give another --authorities", folder.display()))?;
        Ok(Self { folder: folder.to_owned(), today })
    }

    fn expiry(&self) -> Date {
        Date { year: (self.today.year + YEARS).min(2099), month: 12, day: 31 }
    }

    /// The key from which the master keys of phones derive.
    pub(crate) fn master(&self) -> Result<Zeroizing<[u8; 16]>, String> {
        let text = self.kept("card-master.hex", || {
            let mut key = Zeroizing::new([0; 16]);
            rand::Rng::fill_bytes(&mut random()?, key.as_mut_slice());
            Ok(Zeroizing::new(hex::encode(key.as_slice())))
        })?;
        let bytes = Zeroizing::new(hex::decode(text.trim()).map_err(|e| self.bad("card-master.hex", &e))?);
        let key =
            bytes.as_slice().try_into().map_err(|_| self.bad("card-master.hex", &"a key has 16 bytes"))?;
        Ok(Zeroizing::new(key))
    }

    pub(crate) fn house(&self) -> Result<HouseAuthority, String> {
        let text = self.kept("house.json", || {
            let order = AuthorityOrder {
                rid: HOUSE_RID,
                ca_index: HOUSE_INDEX,
                issuer_id: digits(HOUSE_PREFIX),
                expiry: self.expiry(),
                serial: [0, 0, 1],
            };
            Ok(HouseAuthority::generate(&mut random()?, order).to_json())
        })?;
        HouseAuthority::from_json(&text).map_err(|e| self.bad("house.json", &e))
    }

    pub(crate) fn rsa(&self) -> Result<RsaAuthority, String> {
        let text = self.kept("rsa.json", || {
            let end = self.expiry();
            let order = RsaAuthorityOrder {
                rid: RSA_RID,
                ca_index: RSA_INDEX,
                iin: digits(RSA_PREFIX),
                expiry: Expiry { year: (end.year % 100) as u8, month: end.month },
                serial: [0, 0, 1],
            };
            let authority = RsaAuthority::generate(&mut random()?, order).map_err(|e| e.to_string())?;
            Ok(authority.to_json())
        })?;
        RsaAuthority::from_json(&text).map_err(|e| self.bad("rsa.json", &e))
    }

    /// Writes the public keys for gates and transcripts, of the authorities that were made so far.
    pub(crate) fn publish(&self) -> Result<PathBuf, String> {
        let mut keys = Vec::new();
        if self.folder.join("house.json").exists() {
            let house = self.house()?;
            keys.push(serde_json::json!({
                "rid": hex::encode(&house.issuer().rid()),
                "index": hex::encode(&[house.issuer().ca_index()]),
                "suite": "10",
                "x": hex::encode(&house.ca_public_key()),
            }));
        }
        if self.folder.join("rsa.json").exists() {
            let ca = self.rsa()?.ca_key();
            keys.push(serde_json::json!({
                "rid": hex::encode(&ca.rid),
                "index": hex::encode(&[ca.index]),
                "modulus": hex::encode(&ca.modulus),
                "exponent": if ca.exponent == 3 { "03" } else { "010001" },
                "check_value": hex::encode(&ca.check_value),
            }));
        }
        let path = self.folder.join("ca-keys.json");
        let text = format!("{:#}\n", serde_json::json!({ "ca_keys": keys }));
        fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(path)
    }

    /// A file of the folder; made once, never written over.
    fn kept(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<Zeroizing<String>, String>,
    ) -> Result<Zeroizing<String>, String> {
        let path = self.folder.join(name);
        let io = |e: std::io::Error| format!("{}: {e}", path.display());
        if !path.exists() {
            let text = make()?;
            let mut options = OpenOptions::new();
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.write(true).create_new(true).open(&path).map_err(io)?;
            file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
        }
        fs::read_to_string(&path).map(Zeroizing::new).map_err(io)
    }

    fn bad(&self, name: &str, e: &dyn std::fmt::Display) -> String {
        format!("{}: {e}; move the file away to have a new authority", self.folder.join(name).display())
    }
}

/// Packed digits, padded with F.
fn digits<const N: usize>(text: &str) -> [u8; N] {
    let mut out = [0xFF; N];
    for (slot, pair) in out.iter_mut().zip(text.as_bytes().as_chunks::<2>().0) {
        *slot = (pair[0] - b'0') << 4 | (pair[1] - b'0');
    }
    out
}

/// Randomness from the system.
pub(crate) fn random() -> Result<ChaCha20Rng, String> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(|e| format!("the system gives no random numbers: {e}"))?;
    Ok(ChaCha20Rng::from_seed(*seed))
}
