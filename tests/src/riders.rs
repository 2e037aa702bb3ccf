//! Riders with e-accounts and phones, and the gates that they tap at: what a store holds before a day begins, and what a
//! gate keeps of a phone. The same requests on an empty store give the same tokens, phones and gates.

use wavepass_fares::{Fen, Tariff};
use wavepass_gateway::bank::embedded::{Class, Deposit, Limits, NewAccount, deposit_in, open_in};
use wavepass_gateway::clearing::tariffs;
use wavepass_gateway::gates::{self, NewGate};
use wavepass_gateway::intake::sealer::Sealer;
use wavepass_gateway::keys::KeySet;
use wavepass_gateway::lists;
use wavepass_gateway::store::Store;
use wavepass_gateway::tokens::{self, IssueRequest, Issued};
use wavepass_hce::phone::Phone;
use wavepass_hce::reader::{Values, read};
use wavepass_protocol::tags;
use wavepass_protocol::tap::{ClockQuality, Decision, Direction, OdaMethod, OdaResult, Tap, Timings};
use wavepass_protocol::time::{Date, UnixMs};
use wavepass_protocol::token::{Expiry, Token};

use crate::processes::Failure;

/// Deposits that the bank takes at a time.
const DEPOSITS: usize = 1_000;
/// Who does all of it, in the audit log.
const BY: &str = "test";
/// When every phone's token expires.
const EXPIRY: Expiry = Expiry { year: 31, month: 12 };

/// A rider with one phone.
pub struct Rider {
    /// The e-account.
    pub account: String,
    /// The tariff's category.
    pub category: &'static str,
    /// What is in the account at first.
    pub filling: Fen,
}

/// Where riders ride.
pub struct Town<'a> {
    /// The name that faults of the tariff are told with.
    pub tariff_file: &'a str,
    /// The tariff's text.
    pub tariff: &'a str,
    /// The gates.
    pub gates: &'a [NewGate],
    /// When all of it is entered.
    pub now: UnixMs,
}

/// Begins an empty store: the authorities' keys, the tariff and the gates. Gives the gates' seals.
pub async fn found_network(store: &Store, keys: &KeySet, town: &Town<'_>) -> Result<Vec<Sealer>, Failure> {
    let mut tx = store.begin().await?;
    lists::set_ca_keys_in(&mut tx, &keys.bank().ca_keys()).await?;
    let day_clock = Tariff::parse(town.tariff_file, town.tariff)?.clock;
    let (file, text) = (town.tariff_file, town.tariff);
    let publication = tariffs::Publication { file, text, day_clock: &day_clock, by: BY, now: town.now };
    tariffs::publish_in(&mut tx, publication).await?;
    let clearing = keys.clearing();
    let mut sealers = Vec::with_capacity(town.gates.len());
    for new in town.gates {
        let (_, file) = gates::add_in(&mut tx, clearing.as_ref(), new, BY, town.now).await?;
        sealers.push(Sealer::new(&file)?);
    }
    tx.commit().await?;
    Ok(sealers)
}

/// Registers riders with an e-account and a token each; gives their phones.
pub async fn register(
    store: &Store,
    keys: &KeySet,
    riders: &[Rider],
    now: UnixMs,
) -> Result<Vec<Issued>, Failure> {
    let mut tx = store.begin().await?;
    let account = |r: &Rider| NewAccount { account_id: r.account.clone(), class: Class::Ii };
    open_in(&mut tx, &riders.iter().map(account).collect::<Vec<_>>()).await?;
    let deposit = |r: &Rider| Deposit {
        account_id: r.account.clone(),
        name: "opening".into(),
        amount: r.filling,
        at_ms: now.0 as i64,
    };
    let deposits: Vec<Deposit> = riders.iter().map(deposit).collect();
    for part in deposits.chunks(DEPOSITS) {
        deposit_in(&mut tx, &Limits::default(), part).await?;
    }
    let request = |r: &Rider| IssueRequest {
        account_id: r.account.clone(),
        category: r.category.into(),
        effective: Date { year: 2026, month: 1, day: 1 },
        expiry: EXPIRY,
        network: *b"WAVE",
        operator: 0,
    };
    let requests: Vec<IssueRequest> = riders.iter().map(request).collect();
    let (clearing, bank) = (keys.clearing(), keys.bank());
    let issued = tokens::issue_many_in(&mut tx, clearing.as_ref(), bank.as_ref(), &requests, BY, now).await?;
    tx.commit().await?;
    Ok(issued)
}

/// What a phone told a gate, as the gate keeps it.
pub struct Told {
    aid: Vec<u8>,
    token: Token,
    atc: u16,
    cid: u8,
    cryptogram: [u8; 8],
    iad: Vec<u8>,
    aip: [u8; 2],
    pdol_values: Vec<u8>,
}

impl Told {
    /// Reads a phone, whose counter moves on.
    pub fn by(phone: &mut Phone, token: Token, date: Date, unpredictable: [u8; 4]) -> Result<Self, Failure> {
        let reading = read(phone, &Values::gate(date, unpredictable))?;
        let field = |tag| reading.value(tag).ok_or("the card left out a field");
        Ok(Self {
            aid: reading.aid.as_slice().to_vec(),
            token,
            atc: u16::from_be_bytes(field(tags::ATC)?.as_slice().try_into()?),
            cid: field(tags::CID)?.first().copied().ok_or("an empty CID")?,
            cryptogram: field(tags::CRYPTOGRAM)?.as_slice().try_into()?,
            iad: field(tags::IAD)?,
            aip: field(tags::AIP)?.as_slice().try_into()?,
            pdol_values: reading.pdol_values.clone(),
        })
    }

    /// The tap that a gate seals.
    pub fn tap<'a>(
        &'a self,
        time: UnixMs,
        station: &'a str,
        direction: Direction,
        decision: Decision,
    ) -> Tap<'a> {
        Tap {
            aid: &self.aid,
            token: Some(self.token),
            expiry: Some(EXPIRY),
            expiry_signed: true,
            psn: Some(0),
            atc: Some(self.atc),
            cid: Some(self.cid),
            cryptogram: Some(self.cryptogram),
            iad: &self.iad,
            aip: Some(self.aip),
            pdol: wavepass_hce::issue::HOUSE_PDOL,
            pdol_values: &self.pdol_values,
            oda_method: Some(OdaMethod::Ecc),
            oda_result: OdaResult::Passed,
            ..unread(time, station, direction, decision)
        }
    }
}

/// A tap of a card that told nothing.
pub fn unread(time: UnixMs, station: &str, direction: Direction, decision: Decision) -> Tap<'_> {
    Tap {
        time,
        clock: ClockQuality::Synchronised,
        station,
        direction,
        decision,
        aid: &[],
        token: None,
        expiry: None,
        expiry_signed: false,
        psn: None,
        atc: None,
        cid: None,
        cryptogram: None,
        iad: &[],
        aip: None,
        track2: &[],
        pdol: &[],
        pdol_values: &[],
        oda_method: None,
        oda_result: OdaResult::NotDone,
        timings: Timings::default(),
    }
}
