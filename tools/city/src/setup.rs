//! Everything that must exist before the day: keys, accounts, tokens, phones, gates.
//!
//! It is made through the gateway's own library, the way its commands do, before the gateway runs. A set-up
//! that was cut short is cleared away and made again.

use crate::data::{DataError, Folder, make_private};
use crate::player::commission;
use crate::world::{Kind, World};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use std::fmt::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use wavepass_fares::{Fen, StationId, Tariff};
use wavepass_gateway::bank::embedded::{Class, Deposit, Limits, NewAccount, deposit_in, open_in};
use wavepass_gateway::clearing::tariffs;
use wavepass_gateway::gates::{self, NewGate};
use wavepass_gateway::keys::{BankKeys, CardOrder, Cost, KeyOptions, KeySet, Passphrase, TokenKey};
use wavepass_gateway::lists::{self, deny};
use wavepass_gateway::store::Store;
use wavepass_gateway::tokens::{self, IssueRequest, Registration};
use wavepass_hce::card::Card;
use wavepass_hce::faults::{Broken, Fault, recording};
use wavepass_hce::issue::{
    AuthorityOrder, Domain, HouseAuthority, HouseOrder, RSA_DEBIT_AID, RsaAuthority, RsaAuthorityOrder,
    RsaKeyPool, RsaOrder,
};
use wavepass_hce::phone::{Phone, PhoneFile};
use wavepass_hce::reader::Values;
use wavepass_hce::state::{Counters, Durability, SharedCounters};
use wavepass_protocol::time::{Date, UnixMs};
use wavepass_protocol::token::{Expiry, Token};

/// The network that the city's tokens are for.
pub const NETWORK: [u8; 4] = *b"WAVE";
/// The operator of the city's gates.
pub const OPERATOR: u16 = 1;
/// How many different RSA keys the plastic cards share: making one is slow.
const PLASTIC_KEYS: usize = 4;
/// How long the slow card takes for each answer, µs.
const SLOW_US: u64 = 900_000;
/// What faults of the tariff are told with.
const TARIFF_NAME: &str = "wavepass-city.toml";
/// Who acts, in the audit log.
const USER: &str = "city";

/// Any failure on the way; each says what and where.
pub type SetupError = Box<dyn std::error::Error + Send + Sync>;

/// Makes everything. `today` is the day's date.
pub async fn make(
    folder: &Folder,
    database: &str,
    world: &World,
    stations: &[StationId],
    seed: u64,
    tariff: &str,
) -> Result<(), SetupError> {
    folder.clear()?;
    let mut rng = ChaCha12Rng::seed_from_u64(seed ^ 0x5E7_0000);
    let passphrase = passphrase(folder)?;
    let keys = KeySet::generate(&mut rng, &KeyOptions::house(2040).with_rsa())?;
    keys.write(&folder.keys(), &passphrase, Cost::Test, &mut rng)?;
    let (bank, clearing) = (keys.bank(), keys.clearing());
    let store = Store::open(database, folder.root()).await?;
    let now = world.start;

    let mut tx = store.begin().await?;
    lists::set_ca_keys_in(&mut tx, &bank.ca_keys()).await?;
    lists::set_config_in(&mut tx, &lists::default_config()).await?;
    let day_clock = Tariff::parse(TARIFF_NAME, tariff)?.clock;
    let publication =
        tariffs::Publication { file: TARIFF_NAME, text: tariff, day_clock: &day_clock, by: USER, now };
    tariffs::publish_in(&mut tx, publication).await?;
    let accounts = accounts(world);
    open_in(&mut tx, &accounts).await?;
    deposit_in(&mut tx, &Limits::default(), &deposits(world)).await?;
    let mut cast = Cast::new(&mut rng, bank.as_ref(), now)?;
    let issue = cast.requests(world);
    let issued = tokens::issue_many_in(&mut tx, clearing.as_ref(), bank.as_ref(), &issue, USER, now).await?;
    let mut token_keys = Vec::with_capacity(issued.len());
    let mut phones = Vec::with_capacity(world.cards.len());
    for (card, issued) in issued.into_iter().enumerate() {
        token_keys.push(issued.token_key);
        phones.push(cast.shape(world.cards[card].kind, card, issued.phone)?);
    }
    tokens::register_in(&mut tx, clearing.as_ref(), &cast.registrations, USER, now).await?;
    let denied: Vec<deny::Addition> = denied(world, &token_keys);
    deny::add_in(&mut tx, clearing.as_ref(), &denied, USER, now).await?;
    let mut provisioning = Vec::with_capacity(world.gates.len());
    for gate in &world.gates {
        let new = NewGate {
            gate_id: gate.id,
            station: stations[gate.station].to_string(),
            direction: gate.direction,
            operator: OPERATOR,
            network: NETWORK,
        };
        provisioning.push(gates::add_in(&mut tx, clearing.as_ref(), &new, USER, now).await?.1);
    }
    lists::publish(&mut tx, clearing.as_ref(), now).await?;
    tx.commit().await?;
    store.close().await;
    drop(store);

    for (gate, file) in world.gates.iter().zip(&provisioning) {
        commission(folder, gate.id, file).await?;
    }
    make_private(&folder.phones())?;
    for (card, planned) in world.cards.iter().enumerate() {
        let file = match planned.copies {
            Some(original) => phones[original].clone(),
            None => phones[card].clone(),
        };
        file.save(&phone_path(folder, card))?;
    }
    Ok(())
}

fn phone_path(folder: &Folder, card: usize) -> PathBuf {
    folder.phones().join(format!("{card:06}.json"))
}

/// Takes the phones up, each with its counter.
pub fn phones(folder: &Folder, world: &World) -> Result<crate::player::Cards, SetupError> {
    let count = u32::try_from(world.cards.len())?;
    let counters = SharedCounters::open(&folder.phones().join("counters"), count, Durability::Process)?;
    let mut cards: crate::player::Cards = Vec::with_capacity(world.cards.len());
    for card in 0..count {
        let file = PhoneFile::load(&phone_path(folder, card as usize))?;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        let phone: Box<dyn Card + Send> = Box::new(Phone::new(&file, counters.phone(card)?, seed)?);
        cards.push(std::sync::Mutex::new(Some(phone)));
    }
    Ok(cards)
}

fn passphrase(folder: &Folder) -> Result<Passphrase, SetupError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}")?;
    }
    let path = folder.passphrase();
    let mut options = std::fs::File::options();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
    let mut file = file.map_err(DataError::at(&path))?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(DataError::at(&path))?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(DataError::at(&path))?;
    Ok(Passphrase::new(&text))
}

/// The e-account of a card.
pub fn account(card: usize) -> String {
    format!("E{card:08}")
}

/// Every card but the copies has an e-account.
fn originals(world: &World) -> impl Iterator<Item = (usize, &crate::world::Card)> {
    world.cards.iter().enumerate().filter(|(_, c)| c.copies.is_none())
}

fn accounts(world: &World) -> Vec<NewAccount> {
    let class = |card: usize| if card.is_multiple_of(2) { Class::Ii } else { Class::Iii };
    originals(world).map(|(card, _)| NewAccount { account_id: account(card), class: class(card) }).collect()
}

fn deposits(world: &World) -> Vec<Deposit> {
    originals(world)
        .filter(|(_, c)| c.balance_fen > 0)
        .map(|(card, c)| Deposit {
            account_id: account(card),
            name: "opening".into(),
            amount: Fen(c.balance_fen),
            at_ms: i64::try_from(world.start.0).unwrap_or(i64::MAX),
        })
        .collect()
}

fn denied(world: &World, token_keys: &[TokenKey]) -> Vec<deny::Addition> {
    originals(world)
        .filter(|(_, c)| c.kind == Kind::Denied)
        .map(|(card, _)| deny::Addition {
            token_key: token_keys[card],
            number: None,
            cause: deny::Cause::Lost,
            note: "reported lost before the day".into(),
        })
        .collect()
}

/// What the planted cards are made of.
struct Cast<'b> {
    bank: &'b dyn BankKeys,
    today: Date,
    foreign: HouseAuthority,
    stranger: RsaAuthority,
    plastic: RsaKeyPool,
    registrations: Vec<Registration>,
    rng: ChaCha12Rng,
}

const GOOD: Expiry = Expiry { year: 31, month: 12 };

impl<'b> Cast<'b> {
    fn new(rng: &mut ChaCha12Rng, bank: &'b dyn BankKeys, now: UnixMs) -> Result<Self, SetupError> {
        let issuer = wavepass_hce::issue::HouseIssuer::new(&bank.issuer_certificate())?;
        let expiry = Date { year: 2040, month: 12, day: 31 };
        let order = AuthorityOrder {
            rid: issuer.rid(),
            ca_index: issuer.ca_index(),
            issuer_id: issuer.issuer_id(),
            expiry,
            serial: [9; 3],
        };
        let foreign = HouseAuthority::generate(rng, order);
        let order = RsaAuthorityOrder {
            rid: [0xA0, 0, 0, 0, 4],
            ca_index: 1,
            iin: [0x54, 0x00, 0x00, 0xFF],
            expiry: GOOD,
            serial: [8; 3],
        };
        let stranger = RsaAuthority::generate(rng, order)?;
        let plastic = RsaKeyPool::generate(rng, PLASTIC_KEYS)?;
        Ok(Self {
            bank,
            today: Date::at(now, 480),
            foreign,
            stranger,
            plastic,
            registrations: Vec::new(),
            rng: ChaCha12Rng::from_rng(rng),
        })
    }

    /// One token for each e-account, as the token service is asked for it.
    fn requests(&self, world: &World) -> Vec<IssueRequest> {
        originals(world)
            .map(|(card, planned)| {
                let (effective, expiry) = match planned.kind {
                    Kind::Expired => (Date { year: 2021, month: 1, day: 1 }, Expiry { year: 25, month: 12 }),
                    Kind::NotYetValid => (Date { year: 2027, month: 6, day: 1 }, GOOD),
                    _ => (Date { year: 2026, month: 1, day: 1 }, GOOD),
                };
                let network = if planned.kind == Kind::OtherNetwork { *b"ELSE" } else { NETWORK };
                IssueRequest {
                    account_id: account(card),
                    category: "adult".into(),
                    effective,
                    expiry,
                    network,
                    operator: 0,
                }
            })
            .collect()
    }

    /// Makes the card that the plan wants of a phone that the token service issued.
    fn shape(&mut self, kind: Kind, card: usize, phone: PhoneFile) -> Result<PhoneFile, SetupError> {
        Ok(match kind {
            Kind::Phone
            | Kind::Expired
            | Kind::NotYetValid
            | Kind::Denied
            | Kind::OtherNetwork
            | Kind::Victim
            | Kind::Clone
            | Kind::TwoAtOnce
            | Kind::HandedBack => phone,
            Kind::ForgedSignature => phone.with_fault(Fault::ForgedSignature),
            Kind::Unused => phone.with_fault(Fault::Unused),
            Kind::Broken => phone.with_fault(Fault::Broken { kind: Broken::Noise }),
            Kind::Slow => phone.with_fault(Fault::Slow { delay_us: SLOW_US }),
            Kind::NoCryptogram => phone.with_fault(Fault::NoCryptogram),
            Kind::Removed => phone.with_fault(Fault::FieldLost { after: 3 }),
            Kind::Replayed => {
                let mut seed = [0; 32];
                self.rng.fill_bytes(&mut seed);
                let mut genuine = Phone::new(&phone, Counters::memory(), seed)?;
                let stolen = recording(&mut genuine, &Values::gate(self.today, [0x5A; 4]))?;
                phone.with_fault(stolen)
            }
            Kind::ForeignAuthority => {
                let order = HouseOrder {
                    token: phone.token(),
                    expiry: GOOD,
                    effective: Date { year: 2026, month: 1, day: 1 },
                    psn: 0,
                    domain: Some(Domain { network: NETWORK, operator: 0 }),
                    serial: [7; 6],
                    card_key: self.rng.random(),
                    master_key: self.rng.random(),
                };
                self.foreign.issue(&order)?
            }
            Kind::Stranger => {
                let order =
                    self.rsa_order(card, 5_400_000_000_000_000, vec![0xA0, 0, 0, 0, 4, 0x10, 0x10])?;
                self.stranger.issue(&order, self.plastic.get(0).ok_or("no RSA keys")?)?
            }
            Kind::Plastic => self.plastic(card)?,
        })
    }

    fn rsa_order(&mut self, card: usize, base: u64, aid: Vec<u8>) -> Result<RsaOrder, SetupError> {
        Ok(RsaOrder {
            token: Token::from_digits(&(base + card as u64).to_string())?,
            expiry: GOOD,
            effective: Date { year: 2026, month: 1, day: 1 },
            psn: 0,
            aid,
            serial: self.rng.random(),
            master_key: self.rng.random(),
        })
    }

    /// A plastic card, its number bound to the rider's e-account.
    fn plastic(&mut self, card: usize) -> Result<PhoneFile, SetupError> {
        let token = Token::from_digits(&(6_299_000_200_000_000 + card as u64).to_string())?;
        let order = CardOrder {
            token,
            expiry: GOOD,
            effective: Date { year: 2026, month: 1, day: 1 },
            psn: 0,
            aid: RSA_DEBIT_AID,
            key: self.plastic.get(card % PLASTIC_KEYS).ok_or("no RSA keys")?,
        };
        let file = self.bank.issue_card(&order).ok_or("the bank's keys have no RSA authority")??;
        self.registrations.push(Registration {
            token,
            expiry: GOOD,
            psn: 0,
            account_id: account(card),
            category: "adult".into(),
        });
        Ok(file)
    }
}
