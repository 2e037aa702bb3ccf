//! The journals of the gates of [`days`](crate::days) on disk, made once by real phones, and handed in over HTTP again
//! and again: in the order of time or shuffled, through one gateway or several. A gate's own entries keep their order,
//! which intake needs; nothing else does. Memory holds a gate's day at most.

use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use rayon::prelude::*;
use serde_json::json;
use wavepass_gateway::intake::sealer::Sealer;
use wavepass_gateway::keys::{KeySet, TokenKey};
use wavepass_gateway::store::{Store, sql};
use wavepass_gateway::tokens::Issued;
use wavepass_hce::phone::Phone;
use wavepass_hce::state::Counters;
use wavepass_protocol::tap::{Decision, Entry, MAX_BODY, Outcome, Passage};
use wavepass_protocol::time::UnixMs;

use crate::days::{self, DAY_MS, DAYS, Presented, START, What};
use crate::processes::{Failure, House};
use crate::riders::{Rider, Told, Town, found_network, register, unread};

/// Entries in one request.
const BATCH: usize = 1_000;
/// Gates in one shuffled request.
const TOGETHER: usize = 4;
/// Of shuffled requests, each so manieth is handed in a second time.
const REPEAT: usize = 8;
/// Riders registered in one transaction, and whose days are made in memory at once.
const PIECE: u32 = 1_000;
/// How long after an opening its sensors tell, milliseconds.
const PASSAGE_MS: u64 = 1_500;

/// The journals.
pub struct Journals {
    folder: PathBuf,
    gates: usize,
    /// Riders' tokens, by number.
    pub tokens: Vec<TokenKey>,
    /// How many taps there are, refusals and all.
    pub taps: u64,
    /// How many of them come late.
    pub late: u64,
}

/// A tap that is not sealed yet.
struct Unsealed {
    at: UnixMs,
    rider: u32,
    /// Its place among the rider's.
    rank: u16,
    outcomes: Vec<Outcome>,
    body: Vec<u8>,
}

impl Unsealed {
    fn write(&self, out: &mut impl Write) -> Result<(), Failure> {
        out.write_all(&self.at.0.to_le_bytes())?;
        out.write_all(&self.rider.to_le_bytes())?;
        out.write_all(&self.rank.to_le_bytes())?;
        let outcomes: Vec<u8> = self.outcomes.iter().map(|outcome| *outcome as u8).collect();
        write_short(out, &outcomes)?;
        write_short(out, &self.body)
    }

    /// The next one of a file; none at its end.
    fn read(from: &mut impl Read) -> Result<Option<Self>, Failure> {
        let Some(at) = read_number(from)? else { return Ok(None) };
        let (mut rider, mut rank) = ([0; 4], [0; 2]);
        from.read_exact(&mut rider)?;
        from.read_exact(&mut rank)?;
        let outcome = |byte: &u8| match byte {
            0 => Ok(Outcome::NotPassed),
            1 => Ok(Outcome::Passed),
            2 => Ok(Outcome::Unknown),
            _ => Err("no outcome".into()),
        };
        let outcomes = read_short(from)?.iter().map(outcome).collect::<Result<_, Failure>>()?;
        let (rider, rank) = (u32::from_le_bytes(rider), u16::from_le_bytes(rank));
        Ok(Some(Self { at: UnixMs(at), rider, rank, outcomes, body: read_short(from)? }))
    }
}

fn write_short(out: &mut impl Write, bytes: &[u8]) -> Result<(), Failure> {
    out.write_all(&u16::try_from(bytes.len())?.to_le_bytes())?;
    Ok(out.write_all(bytes)?)
}

fn read_short(from: &mut impl Read) -> Result<Vec<u8>, Failure> {
    let mut length = [0; 2];
    from.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::from(u16::from_le_bytes(length))];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The number that a record begins with; none at the file's end.
fn read_number(from: &mut impl Read) -> Result<Option<u64>, Failure> {
    let mut bytes = [0; 8];
    match from.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(u64::from_le_bytes(bytes))),
        Err(end) if end.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Fills an empty store for so many riders. `each` is given their phones, with the number of the first, a piece at a time.
/// Gives the gates' seals.
pub async fn found_for_days(
    store: &Store,
    keys: &KeySet,
    tariff: &str,
    riders: u32,
    mut each: impl FnMut(u32, Vec<Issued>) -> Result<(), Failure>,
) -> Result<Vec<Sealer>, Failure> {
    let gates = days::gates();
    let town = Town { tariff_file: "days.toml", tariff, gates: &gates, now: START };
    let sealers = found_network(store, keys, &town).await?;
    for first in (0..riders).step_by(PIECE as usize) {
        let piece: Vec<Rider> = (first..riders.min(first + PIECE)).map(days::rider).collect();
        each(first, register(store, keys, &piece, START).await?)?;
    }
    Ok(sealers)
}

impl Journals {
    /// Makes them in a folder: so many riders' days.
    pub async fn make(
        folder: &Path,
        keys: &KeySet,
        tariff: &str,
        riders: u32,
        seed: u64,
    ) -> Result<Self, Failure> {
        let store = Store::open(&format!("sqlite:{}", folder.join("t.db").display()), folder).await?;
        let gates = days::gates();
        let bucket = |gate: usize, day: u64| folder.join(format!("taps-{gate}-{day}"));
        let mut buckets = Vec::new();
        for gate in 0..gates.len() {
            for day in 0..DAYS {
                buckets.push(BufWriter::new(File::create(bucket(gate, day))?));
            }
        }
        let (mut tokens, mut taps, mut late) = (Vec::new(), 0, 0);
        let sealers = found_for_days(&store, keys, tariff, riders, |first, issued| {
            let made = issued.par_iter().zip(first..first + PIECE);
            let made = made.map(|(issued, rider)| ride(seed, rider, issued));
            for (gate, tap) in made.collect::<Result<Vec<_>, Failure>>()?.into_iter().flatten() {
                taps += 1;
                late += u64::from(tap.at >= days::off_line_from(gate));
                let day = (tap.at.0 - START.0) / DAY_MS;
                tap.write(&mut buckets[gate * DAYS as usize + day as usize])?;
            }
            tokens.extend(issued.iter().map(|issued| issued.token_key));
            Ok(())
        })
        .await?;
        store.close().await;
        buckets.into_iter().try_for_each(|mut file| file.flush())?;
        let seal = |(gate, mut sealer): (usize, Sealer)| -> Result<(), Failure> {
            let mut out = BufWriter::new(File::create(journal(folder, gate))?);
            for day in 0..DAYS {
                seal_day(&bucket(gate, day), &mut sealer, &mut out)?;
            }
            Ok(out.flush()?)
        };
        sealers.into_par_iter().enumerate().try_for_each(seal)?;
        Ok(Self { folder: folder.to_owned(), gates: gates.len(), tokens, taps, late })
    }

    /// Hands part of the journals in through all gateways of a house at once, and holds each entry's verdict against what it
    /// must be. A gate's entries go through one gateway after another.
    pub fn hand_in(&self, house: &House, part: Part, order: Order) -> Result<(), Failure> {
        let feed = Feed::open(self, part, order)?;
        let work = &|n: usize| -> Result<(), Failure> {
            let mut count = 0;
            while let Some(batch) = feed.take()? {
                count += 1;
                let mut sent = send(house, n, &batch.entries, "accepted");
                if sent.is_ok() && order != Order::ByTime && count % REPEAT == 0 {
                    sent = send(house, n + 1, &batch.entries, "repeated");
                }
                // Before an error is told, too: others wait for these gates.
                feed.give_back(batch);
                sent?;
            }
            Ok(())
        };
        let lanes = if order == Order::ByTime { 1 } else { house.gateways() };
        std::thread::scope(|threads| {
            let lanes: Vec<_> = (0..lanes).map(|n| threads.spawn(move || work(n))).collect();
            lanes.into_iter().try_for_each(|lane| lane.join().map_err(|_| "a lane panicked")?)
        })
    }
}

fn send(house: &House, n: usize, entries: &[String], expected: &str) -> Result<(), Failure> {
    let answer = house.post(n, "/v1/taps/batches", &json!({ "entries": entries }))?;
    let verdicts = answer["verdicts"].as_array().ok_or("no verdicts")?;
    match verdicts.iter().find(|verdict| verdict["verdict"] != expected) {
        None if verdicts.len() == entries.len() => Ok(()),
        other => Err(format!("an entry should be {expected}: {other:?}").into()),
    }
}

fn journal(folder: &Path, gate: usize) -> PathBuf {
    folder.join(format!("journal-{gate}"))
}

/// A rider's taps, each with its gate.
fn ride(seed: u64, rider: u32, issued: &Issued) -> Result<Vec<(usize, Unsealed)>, Failure> {
    let gates = days::gates();
    let mut random = [0; 32];
    random[..4].copy_from_slice(&rider.to_le_bytes());
    let mut phone = Phone::new(&issued.phone, Counters::memory(), random)?;
    let token = issued.phone.token();
    let mut taps = Vec::new();
    for (rank, Presented { at, gate, what }) in days::days(seed, rider).into_iter().enumerate() {
        let mut told = None;
        for reading in 0..what.readings() {
            let [a, b, c, d] = rider.to_be_bytes();
            let unpredictable = [a ^ reading as u8, b ^ rank as u8, c, d];
            // Waved again, the first reading is what was sealed.
            let read = Told::by(&mut phone, token, days::date(at), unpredictable)?;
            told.get_or_insert(read);
        }
        let (station, direction) = (&gates[gate].station, gates[gate].direction);
        let (decision, outcomes) = match what {
            What::Opened(outcomes) => (Decision::Open, outcomes),
            What::Refused(reason) | What::Unread(reason) => (Decision::Refuse(reason), &[][..]),
        };
        let tap = match &told {
            Some(told) => told.tap(at, station, direction, decision),
            None => unread(at, station, direction, decision),
        };
        let mut buffer = [0; MAX_BODY];
        let body = postcard::to_slice(&Entry::Tap(tap), &mut buffer)?.to_vec();
        let rank = u16::try_from(rank)?;
        taps.push((gate, Unsealed { at, rider, rank, outcomes: outcomes.to_vec(), body }));
    }
    Ok(taps)
}

/// Seals a gate's day in the order of time: each tap, and what the sensors told of it.
fn seal_day(from: &Path, sealer: &mut Sealer, out: &mut impl Write) -> Result<(), Failure> {
    let mut file = BufReader::new(File::open(from)?);
    let mut taps = Vec::new();
    while let Some(tap) = Unsealed::read(&mut file)? {
        taps.push(tap);
    }
    taps.sort_unstable_by_key(|tap| (tap.at, tap.rider, tap.rank));
    let mut write = |at: UnixMs, sealed: &[u8]| {
        out.write_all(&at.0.to_le_bytes())?;
        write_short(out, sealed)
    };
    for tap in taps {
        let of = sealer.next_sequence();
        write(tap.at, &sealer.seal(&postcard::from_bytes(&tap.body)?)?)?;
        for outcome in tap.outcomes {
            let passage = Passage { time: UnixMs(tap.at.0 + PASSAGE_MS), of, outcome };
            write(tap.at, &sealer.seal(&Entry::Passage(passage))?)?;
        }
    }
    Ok(std::fs::remove_file(from)?)
}

/// Which entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All.
    All,
    /// Those from before their gates were off line.
    OnTime,
    /// The others.
    Late,
}

/// In which order gates' entries are mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As they were tapped.
    ByTime,
    /// By chance, of this seed.
    Shuffled(u64),
}

/// Journals that are read by several.
struct Feed {
    order: Order,
    pool: Mutex<Pool>,
    returned: Condvar,
}

struct Pool {
    readers: Vec<Reader>,
    /// How many others have.
    away: usize,
    random: ChaCha12Rng,
}

/// A gate's journal, and how far it was read.
struct Reader {
    file: BufReader<File>,
    next: Option<(u64, Vec<u8>)>,
    until: u64,
}

impl Reader {
    fn advance(&mut self) -> Result<(), Failure> {
        self.next = match read_number(&mut self.file)? {
            Some(at) if at < self.until => Some((at, read_short(&mut self.file)?)),
            _ => None,
        };
        Ok(())
    }
}

/// What is handed in at once. Nobody else has these gates meanwhile, so that their order is kept.
struct Batch {
    entries: Vec<String>,
    readers: Vec<Reader>,
}

impl Feed {
    fn open(journals: &Journals, part: Part, order: Order) -> Result<Self, Failure> {
        let mut readers = Vec::new();
        for gate in 0..journals.gates {
            let off_line = days::off_line_from(gate).0;
            let (from, until) = match part {
                Part::All => (0, u64::MAX),
                Part::OnTime => (0, off_line),
                Part::Late => (off_line, u64::MAX),
            };
            let file = BufReader::new(File::open(journal(&journals.folder, gate))?);
            let mut reader = Reader { file, next: None, until };
            reader.advance()?;
            while reader.next.as_ref().is_some_and(|(at, _)| *at < from) {
                reader.advance()?;
            }
            readers.extend(reader.next.is_some().then_some(reader));
        }
        let seed = match order {
            Order::ByTime => 0,
            Order::Shuffled(seed) => seed,
        };
        let pool = Pool { readers, away: 0, random: ChaCha12Rng::seed_from_u64(seed) };
        Ok(Self { order, pool: Mutex::new(pool), returned: Condvar::new() })
    }

    /// The next batch; none once everything was taken and came back.
    fn take(&self) -> Result<Option<Batch>, Failure> {
        let pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let all_away = |pool: &mut Pool| pool.readers.is_empty() && pool.away > 0;
        let mut pool = self.returned.wait_while(pool, all_away).unwrap_or_else(PoisonError::into_inner);
        if pool.readers.is_empty() {
            return Ok(None);
        }
        let together = if self.order == Order::ByTime { usize::MAX } else { TOGETHER };
        let mut readers = Vec::new();
        while !pool.readers.is_empty() && readers.len() < together {
            let many = pool.readers.len();
            let at = pool.random.random_range(0..many);
            readers.push(pool.readers.swap_remove(at));
        }
        pool.away += readers.len();
        let mut entries = Vec::with_capacity(BATCH);
        while entries.len() < BATCH {
            let open = readers.iter_mut().filter(|reader| reader.next.is_some());
            let reader = match self.order {
                Order::ByTime => open.min_by_key(|reader| reader.next.as_ref().map(|(at, _)| *at)),
                Order::Shuffled(_) => {
                    let mut open: Vec<&mut Reader> = open.collect();
                    match open.len() {
                        0 => None,
                        many => Some(open.swap_remove(pool.random.random_range(0..many))),
                    }
                }
            };
            let Some(reader) = reader else { break };
            entries.extend(reader.next.take().map(|(_, sealed)| sql::hex(&sealed)));
            reader.advance()?;
        }
        Ok(Some(Batch { entries, readers }))
    }

    fn give_back(&self, batch: Batch) {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        pool.away -= batch.readers.len();
        pool.readers.extend(batch.readers.into_iter().filter(|reader| reader.next.is_some()));
        drop(pool);
        self.returned.notify_all();
    }
}
