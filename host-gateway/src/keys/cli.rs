//! `wavepass-gateway keys`: making key files, and the root's signature over the list key, on one machine or two.

use super::file::{self, Cost, KeysError, Role};
use super::set::{self, ClearingPublic, Root};
use super::{KeyOptions, Passphrase, PassphraseArgs, bank, clearing, hex};
use crate::cli::{CommandError, Output};
use clap::{Args, Subcommand};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use wavepass_protocol::time::Date;
use zeroize::Zeroize;

/// Make and inspect key files.
#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the key file of a role.
    Init(InitArgs),
    /// Print what the root must sign, as JSON: the clearing file's list key.
    ListRequest {
        /// Folder of the clearing key file.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// With the root's file: sign a request, and print the certificate as JSON.
    SignListKey {
        /// Folder of the root key file.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// What `list-request` printed.
        #[arg(long, value_name = "FILE")]
        request: PathBuf,
        #[command(flatten)]
        passphrase: PassphraseArgs,
    },
    /// Put the root's certificate into the clearing key file.
    InstallListKey {
        /// Folder of the clearing key file.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// What `sign-list-key` printed.
        #[arg(long, value_name = "FILE")]
        certificate: PathBuf,
        #[command(flatten)]
        passphrase: PassphraseArgs,
    },
    /// Show what a key file says without its passphrase.
    Show {
        /// The key file.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
struct InitArgs {
    /// Whose keys.
    #[arg(long, value_enum)]
    role: Role,
    /// Folder of the key file; made if it is missing.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Role clearing: the root's key file, where it is on this machine. Without it, the root signs later.
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// File whose first line is the root's passphrase; by default it is the same passphrase.
    #[arg(long, value_name = "FILE", requires = "root")]
    root_passphrase_file: Option<PathBuf>,
    /// Role bank: the 3 to 8 digits that the bank's tokens begin with.
    #[arg(long, value_name = "DIGITS", default_value = "62990001")]
    iin: String,
    /// Role bank: the last year of CA key and issuer certificate.
    #[arg(long, value_name = "YEAR", default_value_t = 2045)]
    last_year: u16,
    /// Role bank: also make an authority for RSA test cards, whose numbers begin with these digits.
    #[arg(long, value_name = "DIGITS")]
    rsa_iin: Option<String>,
}

/// What the root is asked to sign.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListKeyRequest {
    list_key: String,
}

/// What the root signed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListKeyCertificate {
    list_key: String,
    root_key: String,
    root_signature: String,
}

/// Runs a `keys` command. It may ask for a passphrase on the terminal.
pub fn run(args: KeysArgs) -> Result<Output, CommandError> {
    let text = match args.command {
        Command::Init(args) => init(&args)?,
        Command::ListRequest { dir } => list_request(&dir)?,
        Command::SignListKey { dir, request, passphrase } => sign_list_key(&dir, &request, &passphrase)?,
        Command::InstallListKey { dir, certificate, passphrase } => {
            install_list_key(&dir, &certificate, &passphrase)?
        }
        Command::Show { file } => show(&file)?,
    };
    Ok(Output::text(text))
}

fn init(args: &InitArgs) -> Result<String, KeysError> {
    let path = args.role.path(&args.dir);
    if path.exists() {
        return Err(KeysError::Exists(path));
    }
    // The root's passphrase first: a typing error there should not cost two new ones.
    let root = match (&args.root, args.role) {
        (Some(root), Role::Clearing) => {
            let passphrase = match &args.root_passphrase_file {
                Some(file) => Passphrase::from_file(file)?,
                None => Passphrase::from_args(&args.passphrase)?,
            };
            Some(Root::open(root, &passphrase)?)
        }
        (Some(_), role) => {
            return Err(KeysError::Option(format!("--root is for role clearing, not {}", role.word())));
        }
        (None, _) => None,
    };
    let passphrase = Passphrase::from_args_new(&args.passphrase)?;
    let mut rng = os_rng()?;
    set::make_folder(&args.dir)?;
    let cost = Cost::Interactive;
    let mut next = "";
    match args.role {
        Role::Root => set::write_root(&args.dir, &Root::generate(&mut rng), &passphrase, cost, &mut rng)?,
        Role::Bank => {
            let year = args.last_year;
            let ca_expiry =
                Date::new(year, 12, 31).ok().filter(|_| (2000..=2099).contains(&year)).ok_or_else(|| {
                    KeysError::Option(format!("the last year is between 2000 and 2099, not {year}"))
                })?;
            let options = KeyOptions {
                ca_expiry,
                iin: args.iin.clone(),
                rsa_iin: args.rsa_iin.clone(),
                ..KeyOptions::house(year)
            };
            let keys = bank::generate(&mut rng, &options.bank()).map_err(KeysError::Option)?;
            set::write_bank(&args.dir, &keys, &passphrase, cost, &mut rng)?;
        }
        Role::Clearing => {
            let secrets = clearing::ClearingSecrets::generate(&mut rng);
            let list_key = secrets.list_key_x().ok_or(KeysError::ListKeySignature)?;
            let voucher = root.map(|root| root.vouch(&list_key, nonce(&mut rng)));
            set::write_clearing(&args.dir, &secrets, voucher.as_ref(), &passphrase, cost, &mut rng)?;
            if voucher.is_none() {
                next = "\nThe root has yet to sign its list key: keys list-request, sign-list-key, install-list-key.";
            }
        }
    }
    Ok(format!("made {}{next}", path.display()))
}

fn list_request(dir: &Path) -> Result<String, KeysError> {
    let public = clearing_public(&Role::Clearing.path(dir))?;
    Ok(json(&ListKeyRequest { list_key: public.list_key }))
}

fn sign_list_key(dir: &Path, request: &Path, passphrase: &PassphraseArgs) -> Result<String, KeysError> {
    let not_one = || KeysError::ListKeyFile(request.to_owned());
    let request: ListKeyRequest = serde_json::from_str(&read(request)?).map_err(|_| not_one())?;
    let list_key: [u8; 32] = hex::array(&request.list_key).ok_or_else(not_one)?;
    let root = Root::open(&Role::Root.path(dir), &Passphrase::from_args(passphrase)?)?;
    let voucher = root.vouch(&list_key, nonce(&mut os_rng()?));
    Ok(json(&ListKeyCertificate {
        list_key: request.list_key,
        root_key: hex::encode(&voucher.root_key),
        root_signature: hex::encode(&voucher.signature),
    }))
}

fn install_list_key(
    dir: &Path,
    certificate: &Path,
    passphrase: &PassphraseArgs,
) -> Result<String, KeysError> {
    let path = Role::Clearing.path(dir);
    let not_one = || KeysError::ListKeyFile(certificate.to_owned());
    let certificate: ListKeyCertificate = serde_json::from_str(&read(certificate)?).map_err(|_| not_one())?;
    let voucher = clearing::RootVoucher {
        root_key: hex::array(&certificate.root_key).ok_or_else(not_one)?,
        signature: hex::array(&certificate.root_signature).ok_or_else(not_one)?,
    };
    let passphrase = Passphrase::from_args(passphrase)?;
    let (secrets, public) = set::open_clearing_parts(&path, &passphrase)?;
    let list_key = secrets.list_key_x().ok_or(KeysError::ListKeySignature)?;
    if !voucher.vouches_for(&list_key) {
        return Err(KeysError::ListKeySignature);
    }
    // Gates in the field trust the root they were given: another one would make every list useless to them.
    if let Some(installed) = public.voucher()
        && installed.root_key != voucher.root_key
    {
        return Err(KeysError::Option("the clearing key file trusts another root".to_owned()));
    }
    let contents = set::clearing_contents(&secrets, Some(&voucher));
    file::replace(&path, Role::Clearing, &contents, &passphrase, Cost::Interactive, &mut os_rng()?)?;
    Ok(format!("{} now trusts root {}", path.display(), certificate.root_key))
}

fn show(path: &Path) -> Result<String, KeysError> {
    let (role, public) = file::peek(path)?;
    Ok(format!("{} keys, not proven without the passphrase:\n{public:#}", role.word()))
}

fn clearing_public(path: &Path) -> Result<ClearingPublic, KeysError> {
    let (role, public) = file::peek(path)?;
    if role != Role::Clearing {
        return Err(KeysError::Role { path: path.to_owned(), expected: "clearing", found: role.word() });
    }
    set::parse_public(path, &public)
}

fn read(path: &Path) -> Result<String, KeysError> {
    crate::input::read_text(path, file::MAX_FILE).map_err(|source| file::io(path, source))
}

fn json(value: &impl Serialize) -> String {
    // Strings under string keys are JSON.
    serde_json::to_string_pretty(value).expect("strings are JSON")
}

fn nonce(rng: &mut ChaCha20Rng) -> [u8; 32] {
    use rand::Rng;
    let mut nonce = [0; 32];
    rng.fill_bytes(&mut nonce);
    nonce
}

/// A generator seeded by the operating system.
pub(crate) fn os_rng() -> Result<ChaCha20Rng, KeysError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(KeysError::Randomness)?;
    let rng = ChaCha20Rng::from_seed(seed);
    seed.zeroize();
    Ok(rng)
}
