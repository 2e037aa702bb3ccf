//! What a run works on: tokens with e-accounts, gates, a tariff, and a day's taps of real phones, sealed. The same number of
//! taps gives the same town.

use crate::{Failure, START, TAPS_EACH, TARIFF};
use rayon::prelude::*;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use wavepass_fares::{Fen, Tariff};
use wavepass_gateway::bank::embedded::{Class, Deposit, Limits, NewAccount, deposit_in, open_in};
use wavepass_gateway::clearing::tariffs;
use wavepass_gateway::gates::{self, NewGate};
use wavepass_gateway::intake::sealer::Sealer;
use wavepass_gateway::keys::KeySet;
use wavepass_gateway::lists;
use wavepass_gateway::store::Store;
use wavepass_gateway::tokens::{self, IssueRequest};
use wavepass_hce::phone::{Phone, PhoneFile};
use wavepass_hce::reader::{Values, read};
use wavepass_hce::state::Counters;
use wavepass_protocol::tags;
use wavepass_protocol::tap::{ClockQuality, Decision, Direction, Entry, OdaMethod, OdaResult, Tap, Timings};
use wavepass_protocol::time::{Date, UnixMs};
use wavepass_protocol::token::{Expiry, Token};

const GATES: usize = 20;
/// Concentrators that bring entries at once.
pub(crate) const LANES: usize = 5;
/// Riders that are registered in one transaction, and whose day is made in memory at once.
const RIDERS: usize = 10_000;

/// How large a town is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Taps of its day.
    pub(crate) taps: usize,
    /// Registered tokens, at least as many as ride.
    pub(crate) tokens: usize,
}

impl Size {
    /// A town of which every token rides.
    pub(crate) const fn of(taps: usize) -> Self {
        Self { taps, tokens: taps.div_ceil(TAPS_EACH) }
    }
}

/// Sealed taps on disk, as concentrators hold them: each gate's in order.
pub(crate) struct Spool {
    folder: TempDir,
    /// How many there are.
    pub(crate) taps: usize,
}

impl Spool {
    fn path(folder: &Path, lane: usize) -> PathBuf {
        folder.join(format!("lane-{lane}"))
    }

    /// One concentrator's taps, a batch at a time.
    pub(crate) fn lane(&self, lane: usize, batch: usize) -> io::Result<Batches> {
        let file = File::open(Self::path(self.folder.path(), lane))?;
        Ok(Batches { file: BufReader::with_capacity(1 << 20, file), batch })
    }

    /// All of them.
    pub(crate) fn all(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut all = Vec::with_capacity(self.taps);
        for lane in 0..LANES {
            for batch in self.lane(lane, self.taps)? {
                all.extend(batch?);
            }
        }
        Ok(all)
    }
}

/// Reads sealed taps, each behind its length.
pub(crate) struct Batches {
    file: BufReader<File>,
    batch: usize,
}

impl Iterator for Batches {
    type Item = io::Result<Vec<Vec<u8>>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut read = || -> io::Result<Vec<Vec<u8>>> {
            let mut batch = Vec::new();
            while batch.len() < self.batch && !self.file.fill_buf()?.is_empty() {
                let mut length = [0; 2];
                self.file.read_exact(&mut length)?;
                let mut entry = vec![0; usize::from(u16::from_be_bytes(length))];
                self.file.read_exact(&mut entry)?;
                batch.push(entry);
            }
            Ok(batch)
        };
        match read() {
            Ok(batch) if batch.is_empty() => None,
            other => Some(other),
        }
    }
}

/// Fills an empty store, and makes the day's taps as gates sealed them.
pub(crate) async fn found(store: &Store, keys: &KeySet, size: Size) -> Result<Spool, Failure> {
    let mut sealers = found_network(store, keys).await?;
    let folder = tempfile::tempdir()?;
    let lane = |lane| File::create(Spool::path(folder.path(), lane)).map(BufWriter::new);
    let mut lanes = (0..LANES).map(lane).collect::<io::Result<Vec<_>>>()?;
    let mut made = 0;
    for first in (0..size.tokens).step_by(RIDERS) {
        let riders = first..size.tokens.min(first + RIDERS);
        let phones = register(store, keys, riders.clone()).await?;
        let taps = seal_all(riders.start, &phones, size.taps - made, &mut sealers)?;
        made += taps.len();
        for (gate, sealed) in taps {
            let file = &mut lanes[gate % LANES];
            file.write_all(&u16::try_from(sealed.len())?.to_be_bytes())?;
            file.write_all(&sealed)?;
        }
    }
    for mut file in lanes {
        file.flush()?;
    }
    if made != size.taps {
        return Err(format!("{} tokens make {made} taps, not {}", size.tokens, size.taps).into());
    }
    Ok(Spool { folder, taps: made })
}

/// Registers riders with an e-account and a token each; gives their phones.
async fn register(store: &Store, keys: &KeySet, riders: Range<usize>) -> Result<Vec<PhoneFile>, Failure> {
    let account = |rider: usize| format!("E{rider:08}");
    let mut tx = store.begin().await?;
    let accounts: Vec<NewAccount> =
        riders.clone().map(|r| NewAccount { account_id: account(r), class: Class::Ii }).collect();
    open_in(&mut tx, &accounts).await?;
    let deposits: Vec<Deposit> = riders
        .clone()
        .map(|r| Deposit {
            account_id: account(r),
            name: "opening".into(),
            amount: Fen(50_000),
            at_ms: START.0 as i64,
        })
        .collect();
    for part in deposits.chunks(1_000) {
        deposit_in(&mut tx, &Limits::default(), part).await?;
    }
    let requests: Vec<IssueRequest> = riders
        .map(|r| IssueRequest {
            account_id: account(r),
            category: "adult".into(),
            effective: Date { year: 2026, month: 1, day: 1 },
            expiry: Expiry { year: 31, month: 12 },
            network: *b"WAVE",
            operator: 0,
        })
        .collect();
    let (clearing_keys, bank_keys) = (keys.clearing(), keys.bank());
    let mut phones = Vec::with_capacity(requests.len());
    for part in requests.chunks(1_000) {
        let issued =
            tokens::issue_many_in(&mut tx, clearing_keys.as_ref(), bank_keys.as_ref(), part, "bench", START)
                .await?;
        phones.extend(issued.into_iter().map(|i| i.phone));
    }
    tx.commit().await?;
    Ok(phones)
}

/// A gate's seal, its station and direction.
type Gate = (Sealer, String, Direction);

/// Publishes keys and tariff, and adds the gates.
async fn found_network(store: &Store, keys: &KeySet) -> Result<Vec<Gate>, Failure> {
    let mut tx = store.begin().await?;
    lists::set_ca_keys_in(&mut tx, &keys.bank().ca_keys()).await?;
    let file = "wavepass-city.toml";
    let day_clock = Tariff::parse(file, TARIFF)?.clock;
    let publication =
        tariffs::Publication { file, text: TARIFF, day_clock: &day_clock, by: "bench", now: START };
    tariffs::publish_in(&mut tx, publication).await?;
    let clearing_keys = keys.clearing();
    let tariff = Tariff::parse(file, TARIFF)?.compile()?;
    let mut sealers = Vec::new();
    for gate in 0..GATES {
        let direction = if gate % 2 == 0 { Direction::Entry } else { Direction::Exit };
        let station = tariff.stations()[gate / 2].to_string();
        let new = NewGate {
            gate_id: gate as u32 + 1,
            station: station.clone(),
            direction,
            operator: 1,
            network: *b"WAVE",
        };
        let (_, file) = gates::add_in(&mut tx, clearing_keys.as_ref(), &new, "bench", START).await?;
        sealers.push((Sealer::new(&file)?, station, direction));
    }
    tx.commit().await?;
    Ok(sealers)
}

/// What a gate keeps of one tap, owned.
struct Made {
    gate: usize,
    time: UnixMs,
    aid: Vec<u8>,
    token: Token,
    atc: u16,
    cid: u8,
    cryptogram: [u8; 8],
    iad: Vec<u8>,
    aip: [u8; 2],
    pdol_values: Vec<u8>,
}

/// The day of some riders, up to so many taps, in the order of time: the gate's place and what it sealed.
fn seal_all(
    first: usize,
    phones: &[PhoneFile],
    taps: usize,
    sealers: &mut [Gate],
) -> Result<Vec<(usize, Vec<u8>)>, Failure> {
    let riding = taps.div_ceil(TAPS_EACH).min(phones.len());
    let mut made: Vec<Made> = phones[..riding]
        .par_iter()
        .enumerate()
        .map(|(rider, file)| make(first + rider, file))
        .collect::<Result<Vec<_>, Failure>>()?
        .into_iter()
        .flatten()
        .collect();
    made.truncate(taps);
    made.sort_by_key(|m| m.time);
    made.iter()
        .map(|m| {
            let (sealer, station, direction) = &mut sealers[m.gate];
            let tap = Tap {
                time: m.time,
                clock: ClockQuality::Synchronised,
                station,
                direction: *direction,
                decision: Decision::Open,
                aid: &m.aid,
                token: Some(m.token),
                expiry: Some(Expiry { year: 31, month: 12 }),
                expiry_signed: true,
                psn: Some(0),
                atc: Some(m.atc),
                cid: Some(m.cid),
                cryptogram: Some(m.cryptogram),
                iad: &m.iad,
                aip: Some(m.aip),
                track2: &[],
                pdol: wavepass_hce::issue::HOUSE_PDOL,
                pdol_values: &m.pdol_values,
                oda_method: Some(OdaMethod::Ecc),
                oda_result: OdaResult::Passed,
                timings: Timings::default(),
            };
            Ok((m.gate, sealer.seal(&Entry::Tap(tap))?))
        })
        .collect()
}

/// The day of one rider: in at an entry gate, out at an exit gate of another station, half an hour apart.
fn make(rider: usize, file: &PhoneFile) -> Result<Vec<Made>, Failure> {
    let mut phone = Phone::new(file, Counters::memory(), [rider as u8; 32])?;
    let mut taps = Vec::with_capacity(TAPS_EACH);
    for i in 0..TAPS_EACH {
        let unpredictable = ((rider * TAPS_EACH + i) as u32).to_be_bytes();
        let values = Values::gate(Date { year: 2026, month: 11, day: 23 }, unpredictable);
        let reading = read(&mut phone, &values)?;
        let field = |tag| reading.value(tag).ok_or("the card left out a field");
        let gate = (rider * 2 + i / 2 * 6) % GATES / 2 * 2;
        let gate = if i % 2 == 0 { gate } else { (gate + 5) % GATES };
        taps.push(Made {
            gate,
            time: UnixMs(START.0 + 7_200_000 + (i as u64) * 1_800_000 + (rider as u64 % 1_000_000)),
            aid: reading.aid.as_slice().to_vec(),
            token: file.token(),
            atc: u16::from_be_bytes(field(tags::ATC)?.as_slice().try_into()?),
            cid: field(tags::CID)?.first().copied().ok_or("an empty CID")?,
            cryptogram: field(tags::CRYPTOGRAM)?.as_slice().try_into()?,
            iad: field(tags::IAD)?,
            aip: field(tags::AIP)?.as_slice().try_into()?,
            pdol_values: reading.pdol_values.clone(),
        });
    }
    Ok(taps)
}
