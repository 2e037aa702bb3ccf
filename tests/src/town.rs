//! A small town for gates under test: the city's cards, accounts and keys, and a gateway process whose time is driven.

use city::admin::Admin;
use city::data::Folder;
use city::setup;
use city::supervisor::Gateway;
use city::world::{Kind, Size, World};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use wavepass_fares::Tariff;
use wavepass_gateway::keys::{Passphrase, Role, TokenKey, open_clearing};
use wavepass_gateway::lists::deny::{self, Addition, Cause};
use wavepass_gateway::store::Store;
use wavepass_hce::card::{Answer, Card, CardFault};
use wavepass_protocol::time::UnixMs;
use wavepass_protocol::token::{Expiry, Token};

const TARIFF: &str = include_str!("../../host-gateway/tariffs/wavepass-city.toml");
/// 04:00 in Shanghai on 2026-11-23.
const DAY_START: UnixMs = UnixMs(1_795_377_600_000);
/// When the tests begin: 08:00.
pub const MORNING: UnixMs = UnixMs(DAY_START.0 + 4 * 3_600_000);

/// Why a town could not be made.
pub type TownError = Box<dyn std::error::Error + Send + Sync>;

/// A card that stays the test's while a reader has it.
#[derive(Clone)]
pub struct SharedCard(Arc<Mutex<Box<dyn Card + Send>>>);

impl SharedCard {
    /// Shares this card.
    pub fn new(card: Box<dyn Card + Send>) -> Self {
        Self(Arc::new(Mutex::new(card)))
    }
}

impl Card for SharedCard {
    fn enter_field(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).enter_field();
    }

    fn transmit(&mut self, command: &[u8]) -> Result<Answer, CardFault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).transmit(command)
    }
}

/// The town.
pub struct Town {
    folder: Folder,
    program: PathBuf,
    /// The gateway.
    pub gateway: Gateway,
    /// Its administration.
    pub admin: Admin,
    /// Each card and what is wrong with it.
    pub cards: Vec<(Kind, SharedCard)>,
    _lock: std::fs::File,
}

impl Town {
    /// Makes everything in an empty folder and starts the gateway. `program` takes the word `gateway` as `city` does.
    pub fn found(root: &Path, program: &Path, phones: u32, seed: u64) -> Result<Self, TownError> {
        Self::found_denying(root, program, phones, seed, 0)
    }

    /// [`Town::found`], with so many tokens on the deny list that no card of the town has.
    pub fn found_denying(
        root: &Path,
        program: &Path,
        phones: u32,
        seed: u64,
        denied: u64,
    ) -> Result<Self, TownError> {
        let size = Size { taps: 1, phones, gates: 2, seed };
        let tariff = Tariff::parse("wavepass-city.toml", TARIFF)?.compile()?;
        let world = World::plan(size, tariff.stations().len(), DAY_START)?;
        let (folder, _, lock) = Folder::open(root, size)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let database = folder.database();
        runtime.block_on(setup::make(&folder, &database, &world, tariff.stations(), seed, TARIFF))?;
        runtime.block_on(deny_many(&folder, &database, denied))?;
        let taken = setup::phones(&folder, &world)?;
        let cards = world.cards.iter().zip(taken).filter_map(|(planned, card)| {
            let card = card.into_inner().unwrap_or_else(PoisonError::into_inner)?;
            Some((planned.kind, SharedCard::new(card)))
        });
        let cards = cards.collect();
        let gateway = Gateway::start_by(program.to_owned(), &folder, database)?;
        let admin = Admin::new(&folder)?;
        let town = Self { folder, program: program.to_owned(), gateway, admin, cards, _lock: lock };
        town.admin.end_step(town.gateway.addresses().http, MORNING)?;
        Ok(town)
    }

    /// The data folder.
    pub fn root(&self) -> &Path {
        self.folder.root()
    }

    /// Gives a command to the gateway, as an operator does; gives what it prints.
    pub fn command(&self, arguments: &[&str]) -> Result<String, TownError> {
        let mut command = Command::new(&self.program);
        command.arg("gateway").args(arguments);
        command.arg("--data").arg(self.folder.root()).arg("--keys").arg(self.folder.keys());
        command.args(["--database", &self.folder.database()]);
        let done = command.output()?;
        if !done.status.success() {
            return Err(format!("{arguments:?}: {}", String::from_utf8_lossy(&done.stderr)).into());
        }
        Ok(String::from_utf8(done.stdout)?)
    }

    /// Commissions a gate of the city: leaves its provisioning file and an erased flash in a folder of its own.
    pub fn add_gate(&self, id: u32) -> Result<PathBuf, TownError> {
        self.add_gate_of(id, "WAVE")
    }

    /// [`Town::add_gate`] in another network.
    pub fn add_gate_of(&self, id: u32, network: &str) -> Result<PathBuf, TownError> {
        let folder = self.folder.root().join(format!("qemu-{id}"));
        std::fs::create_dir_all(&folder)?;
        let file = folder.join("gate.wpg");
        let (id, file) = (id.to_string(), file.display().to_string());
        self.command(&[
            "gate",
            "add",
            "--id",
            &id,
            "--station",
            "HB",
            "--direction",
            "entry",
            "--operator",
            "1",
            "--network",
            network,
            "--out",
            &file,
        ])?;
        crate::qemu::blank_flash(&folder.join("flash.bin"))?;
        Ok(folder)
    }

    /// What the gateway says of a gate.
    pub fn gate(&self, id: u32) -> Result<Option<Value>, TownError> {
        let gates = self.admin.get(self.gateway.addresses().http, "/v1/gates")?;
        let list = gates.as_array().or_else(|| gates.get("gates").and_then(Value::as_array));
        Ok(list.and_then(|l| l.iter().find(|g| g["gate_id"] == id)).cloned())
    }

    /// Asks about a gate until what is said of it is as wanted.
    pub fn wait_gate(&self, id: u32, mut wanted: impl FnMut(&Value) -> bool) -> Result<Value, TownError> {
        let end = Instant::now() + crate::qemu::PATIENCE;
        loop {
            let found = self.gate(id)?;
            match found {
                Some(gate) if wanted(&gate) => return Ok(gate),
                found if Instant::now() > end => {
                    return Err(format!("the gateway says of gate {id} only: {found:?}").into());
                }
                _ => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// The key of a card's token, as the operator's commands take it.
    pub fn token_key(&self, card: usize) -> Result<String, TownError> {
        let listed = self.command(&["token", "list", "--account", &setup::account(card)])?;
        let key =
            listed.split_whitespace().find(|w| w.len() == 32 && w.bytes().all(|b| b.is_ascii_hexdigit()));
        Ok(key.ok_or_else(|| format!("no token of card {card} in: {listed}"))?.to_owned())
    }

    /// The version in force of a list.
    pub fn list_version(&self, kind: &str) -> Result<u64, TownError> {
        let lists = self.admin.get(self.gateway.addresses().http, "/v1/lists")?;
        let current = lists["current"].as_array().into_iter().flatten();
        let version = current.filter(|l| l["kind"] == kind).find_map(|l| l["version"].as_u64());
        Ok(version.ok_or_else(|| format!("no {kind} list in {lists}"))?)
    }
}

/// Puts so many tokens on the deny list, which is published with the next change.
async fn deny_many(folder: &Folder, database: &str, count: u64) -> Result<(), TownError> {
    if count == 0 {
        return Ok(());
    }
    let passphrase = Passphrase::new(&std::fs::read_to_string(folder.passphrase())?);
    let keys = open_clearing(&Role::Clearing.path(&folder.keys()), &passphrase)?;
    let expiry = Expiry { year: 31, month: 12 };
    let tokens = (0..count).map(|n| Token::from_digits(&(6_299_000_300_000_000 + n).to_string()));
    let cards = tokens.map(|token| Ok((token?, expiry))).collect::<Result<Vec<_>, TownError>>()?;
    let addition = |(card, token_key): (&(Token, Expiry), TokenKey)| Addition {
        token_key,
        number: Some(*card),
        cause: Cause::Lost,
        note: String::new(),
    };
    let additions: Vec<_> = cards.iter().zip(keys.token_keys(&cards)).map(addition).collect();
    let store = Store::open(database, folder.root()).await?;
    let mut tx = store.begin().await?;
    deny::add_in(&mut tx, keys.as_ref(), &additions, "test", DAY_START).await?;
    tx.commit().await?;
    store.close().await;
    Ok(())
}
