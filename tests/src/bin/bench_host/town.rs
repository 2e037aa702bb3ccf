//! What a run works on: tokens with e-accounts, gates, a tariff, and a day's taps of real phones, sealed. The same number of
//! taps gives the same town.

use crate::{Failure, START, TAPS_EACH, TARIFF};
use rayon::prelude::*;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use wavepass_fares::{Fen, Tariff};
use wavepass_gateway::gates::NewGate;
use wavepass_gateway::intake::sealer::Sealer;
use wavepass_gateway::keys::KeySet;
use wavepass_gateway::store::Store;
use wavepass_hce::phone::{Phone, PhoneFile};
use wavepass_hce::state::Counters;
use wavepass_protocol::seal::MAX_SEALED;
use wavepass_protocol::tap::{Decision, Direction, Entry};
use wavepass_protocol::time::{Date, UnixMs};
use wavepass_tests::riders::{Rider, Told, Town, found_network, register};

const GATES: usize = 20;
/// Concentrators that bring entries at once.
pub(crate) const LANES: usize = 5;
/// Riders whose day is made in memory at once.
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
            while batch.len() < self.batch
                && let Some(entry) = read_one(&mut self.file)?
            {
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

fn write_one(file: &mut impl Write, bytes: &[u8]) -> Result<(), Failure> {
    file.write_all(&u16::try_from(bytes.len())?.to_be_bytes())?;
    Ok(file.write_all(bytes)?)
}

/// The next record; none at the end.
fn read_one(file: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    if file.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let mut length = [0; 2];
    file.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    file.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

/// Fills an empty store, and makes the day's taps as gates sealed them.
pub(crate) async fn found(store: &Store, keys: &KeySet, size: Size) -> Result<Spool, Failure> {
    let gates = gates()?;
    let town = Town { tariff_file: "wavepass-city.toml", tariff: TARIFF, gates: &gates, now: START };
    let mut sealers = found_network(store, keys, &town).await?;
    // Riders tap in rounds, one after the other, so that a file of each round is in the order of time, as gates' journals are.
    let mut rounds =
        (0..TAPS_EACH).map(|_| tempfile::tempfile().map(BufWriter::new)).collect::<io::Result<Vec<_>>>()?;
    let mut made = 0;
    for first in (0..size.tokens).step_by(RIDERS) {
        let riders: Vec<Rider> = (first..size.tokens.min(first + RIDERS)).map(rider).collect();
        let issued = register(store, keys, &riders, START).await?;
        let phones: Vec<PhoneFile> = issued.into_iter().map(|i| i.phone).collect();
        for (round, Made { gate, time, told }) in make_all(first, &phones, size.taps - made)? {
            let NewGate { station, direction, .. } = &gates[gate];
            let tap = Entry::Tap(told.tap(time, station, *direction, Decision::Open));
            let file = &mut rounds[round];
            file.write_all(&[u8::try_from(gate)?])?;
            write_one(file, postcard::to_slice(&tap, &mut [0; MAX_SEALED])?)?;
            made += 1;
        }
    }
    if made != size.taps {
        return Err(format!("{} tokens make {made} taps, not {}", size.tokens, size.taps).into());
    }
    let folder = tempfile::tempdir()?;
    seal_all(rounds, &mut sealers, folder.path())?;
    Ok(Spool { folder, taps: made })
}

/// Seals the rounds' taps as their gates do, into a file of each lane.
fn seal_all(rounds: Vec<BufWriter<File>>, sealers: &mut [Sealer], folder: &Path) -> Result<(), Failure> {
    let lane = |lane| File::create(Spool::path(folder, lane)).map(BufWriter::new);
    let mut lanes = (0..LANES).map(lane).collect::<io::Result<Vec<_>>>()?;
    for round in rounds {
        let mut file = round.into_inner()?;
        file.rewind()?;
        let mut file = BufReader::with_capacity(1 << 20, file);
        let mut gate = [0];
        while !file.fill_buf()?.is_empty() {
            file.read_exact(&mut gate)?;
            let gate = usize::from(gate[0]);
            let tap = read_one(&mut file)?.ok_or("a tap is missing behind its gate")?;
            write_one(&mut lanes[gate % LANES], &sealers[gate].seal(&postcard::from_bytes(&tap)?)?)?;
        }
    }
    // On disk before anything is measured, or the system writes it out in the middle of that.
    for file in lanes {
        file.into_inner()?.sync_all()?;
    }
    Ok(())
}

pub(crate) fn rider(rider: usize) -> Rider {
    Rider { account: format!("E{rider:08}"), category: "adult", filling: Fen(50_000) }
}

/// Two gates at a station: in and out.
fn gates() -> Result<Vec<NewGate>, Failure> {
    let tariff = Tariff::parse("wavepass-city.toml", TARIFF)?.compile()?;
    let gate = |gate: usize| NewGate {
        gate_id: gate as u32 + 1,
        station: tariff.stations()[gate / 2].to_string(),
        direction: if gate.is_multiple_of(2) { Direction::Entry } else { Direction::Exit },
        operator: 1,
        network: *b"WAVE",
    };
    Ok((0..GATES).map(gate).collect())
}

/// What a gate keeps of one tap.
pub(crate) struct Made {
    gate: usize,
    pub(crate) time: UnixMs,
    pub(crate) told: Told,
}

/// The day of some riders, up to so many taps: each with its round.
fn make_all(
    first: usize,
    phones: &[PhoneFile],
    taps: usize,
) -> Result<impl Iterator<Item = (usize, Made)>, Failure> {
    let riding = taps.div_ceil(TAPS_EACH).min(phones.len());
    let days = phones[..riding]
        .par_iter()
        .enumerate()
        .map(|(rider, file)| make(first + rider, file))
        .collect::<Result<Vec<_>, Failure>>()?;
    Ok(days.into_iter().flat_map(|day| day.into_iter().enumerate()).take(taps))
}

/// The day of one rider: in at an entry gate, out at an exit gate of another station, half an hour apart.
pub(crate) fn make(rider: usize, file: &PhoneFile) -> Result<Vec<Made>, Failure> {
    let mut phone = Phone::new(file, Counters::memory(), [rider as u8; 32])?;
    let mut taps = Vec::with_capacity(TAPS_EACH);
    for i in 0..TAPS_EACH {
        let unpredictable = ((rider * TAPS_EACH + i) as u32).to_be_bytes();
        let date = Date { year: 2026, month: 11, day: 23 };
        let gate = (rider * 2 + i / 2 * 6) % GATES / 2 * 2;
        taps.push(Made {
            gate: if i % 2 == 0 { gate } else { (gate + 5) % GATES },
            time: UnixMs(START.0 + 7_200_000 + (i as u64) * 1_800_000 + (rider as u64 % 1_000_000)),
            told: Told::by(&mut phone, file.token(), date, unpredictable)?,
        });
    }
    Ok(taps)
}
