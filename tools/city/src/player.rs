//! One gate of the city at work: it plays its presentations, keeps what came of each, and brings its journal
//! to the gateway.
//!
//! What came of a presentation is one line in the gate's folder. A city that was killed finds the lines and,
//! for the presentation that was under way, asks the gate's own journal.

use crate::data::{DataError, Folder, make_private};
use crate::field::Field;
use crate::world::{Card as Planned, Event, Expected, GatePlan, Kind};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wavepass_gate::{Areas, Gate, GateError, Idle, Link, LinkState, Memory, Now};
use wavepass_hce::card::Card;
use wavepass_journal::Limits;
use wavepass_journal::sim::{FileFlash, FlashError};
use wavepass_protocol::ecc::P256Verifier;
use wavepass_protocol::link::MAX_FRAME;
use wavepass_protocol::lists::Version;
use wavepass_protocol::tap::{ClockQuality, Decision, Outcome, Reason};
use wavepass_protocol::time::UnixMs;

/// Flash for the journal: far more than a day's entries between two steps.
const JOURNAL_BYTES: usize = 1 << 20;
/// The key log wears sooner than the journal: docs/formats.md, Wear and life.
const KEYS_BYTES: usize = 16 * 4096;
const CELL_BYTES: usize = 2 * 4096;
/// The deny list twice: 100,000 tokens of five bytes, as a gate's flash has room for.
const DENY_BYTES: usize = 2 * 512 * 1024;
/// Two halves of each other list.
const LIST_BYTES: usize = 4 * 4096;
/// How long the gateway may keep a gate waiting before the line counts as broken.
const PATIENCE: Duration = Duration::from_secs(20);

type CityGate = Gate<FileFlash, Box<Memory<P256Verifier>>>;

/// Every card, each taken out while it is held to a gate.
pub type Cards = Vec<Mutex<Option<Box<dyn Card + Send>>>>;

/// Why a gate could not play on.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// The gate itself failed.
    #[error("gate {gate}: {why:?}")]
    Gate {
        /// Which.
        gate: u32,
        /// Why.
        why: GateError<FlashError>,
    },
    /// Its folder failed.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The way to the gateway broke; the taps stay in the journal.
    #[error("gate {gate}: no way to the gateway: {why}")]
    Link {
        /// Which.
        gate: u32,
        /// Why.
        why: String,
    },
    /// A card is held to two gates at once: the plan excludes it.
    #[error("card {0} is at two gates at once")]
    CardElsewhere(usize),
    /// No randomness from the operating system.
    #[error("no randomness from the operating system: {0}")]
    Random(#[from] getrandom::Error),
}

/// What came of a presentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Played {
    /// None where the gate opened, else the number of the reason.
    #[serde(rename = "r", skip_serializing_if = "Option::is_none")]
    refused: Option<u8>,
    /// Opened again as the same tap.
    #[serde(rename = "a", default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
    /// The journal entry, where there is one.
    #[serde(rename = "s", skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u32>,
    /// The gate's own work, µs; none where the city was killed before it was noted.
    #[serde(rename = "us", skip_serializing_if = "Option::is_none")]
    pub gate_us: Option<u32>,
}

impl Played {
    /// Why the gate refused, if it did.
    pub fn refusal(&self) -> Option<Reason> {
        self.refused.and_then(Reason::from_code)
    }

    /// True if the gate did what the plan asks.
    pub fn is_as(&self, expected: Expected) -> bool {
        match (expected, self.refusal()) {
            (Expected::Open, None) => !self.again,
            (Expected::Again, None) => self.again,
            (Expected::Refuse(planned), Some(reason)) => planned == reason,
            _ => false,
        }
    }
}

struct Connection {
    stream: TcpStream,
    link: Link,
}

/// A gate and its day.
pub struct Player {
    plan: GatePlan,
    gate: Box<CityGate>,
    events: Vec<Event>,
    played: Vec<Played>,
    log: fs::File,
    connection: Option<Connection>,
}

fn areas(folder: &Path) -> Result<Areas<FileFlash>, DataError> {
    let open = |name: &str, bytes: usize| {
        let path = folder.join(name);
        FileFlash::open(&path, bytes).map_err(DataError::at(&path))
    };
    Ok(Areas {
        journal: open("journal.flash", JOURNAL_BYTES)?,
        keys: open("keys.flash", KEYS_BYTES)?,
        identity: open("identity.flash", CELL_BYTES)?,
        floor: open("floor.flash", CELL_BYTES)?,
        lists: [
            open("deny.flash", DENY_BYTES)?,
            open("ca-keys.flash", LIST_BYTES)?,
            open("revocations.flash", LIST_BYTES)?,
            open("config.flash", LIST_BYTES)?,
        ],
    })
}

/// Commissions a new gate: writes its flash files.
pub async fn commission(folder: &Folder, id: u32, provisioning: &[u8]) -> Result<(), String> {
    let folder = folder.gate(id);
    make_private(&folder).map_err(|e| e.to_string())?;
    let areas = areas(&folder).map_err(|e| e.to_string())?;
    areas.commission(provisioning).await.map_err(|e| format!("gate {id}: {e:?}"))
}

impl Player {
    /// Powers a gate up where its day stopped.
    pub async fn start(folder: &Folder, plan: GatePlan, events: Vec<Event>) -> Result<Self, PlayError> {
        let root = folder.gate(plan.id);
        let limits = Limits::default();
        let gate = CityGate::start(areas(&root)?, limits, Box::new(Memory::new(P256Verifier)))
            .await
            .map_err(|why| PlayError::Gate { gate: plan.id, why })?;
        let (played, log) = open_log(&root.join("played.jsonl"))?;
        Ok(Self { plan, gate: Box::new(gate), events, played, log, connection: None })
    }

    /// The gate's number.
    pub fn id(&self) -> u32 {
        self.plan.id
    }

    /// What came of the presentations so far, in order, with what was planned.
    pub fn played(&self) -> impl Iterator<Item = (&Event, &Played)> {
        self.events.iter().zip(&self.played)
    }

    /// Plays every presentation before an instant. Gives how many.
    pub async fn play(
        &mut self,
        until: UnixMs,
        cards: &Cards,
        planned: &[Planned],
    ) -> Result<u64, PlayError> {
        let mut count = 0;
        while let Some(&event) = self.events.get(self.played.len()).filter(|e| e.time < until) {
            let played = match self.journaled(&event).await? {
                Some(played) => played,
                None => self.present(&event, cards, planned[event.card].kind).await?,
            };
            self.note(played)?;
            count += 1;
        }
        Ok(count)
    }

    fn failed(&self) -> impl Fn(GateError<FlashError>) -> PlayError + use<> {
        let gate = self.plan.id;
        move |why| PlayError::Gate { gate, why }
    }

    /// What the journal knows of a presentation that was under way when the city was killed.
    async fn journaled(&mut self, event: &Event) -> Result<Option<Played>, PlayError> {
        let Some(last) = self.gate.last() else { return Ok(None) };
        if event.expected == Expected::Again && last.outcome.is_some_and(|o| o != Outcome::NotPassed) {
            let before = self.played.last().and_then(|p| p.sequence);
            let done = Played { refused: None, again: true, sequence: Some(last.sequence), gate_us: None };
            return Ok((before == Some(last.sequence)).then_some(done));
        }
        if last.time != event.time {
            return Ok(None);
        }
        let refused = match last.decision {
            Decision::Open => None,
            Decision::Refuse(reason) => Some(reason as u8),
        };
        if refused.is_none() && last.outcome.is_none() {
            self.passage(event, last.sequence).await?;
        }
        Ok(Some(Played { refused, again: false, sequence: Some(last.sequence), gate_us: None }))
    }

    async fn present(&mut self, event: &Event, cards: &Cards, kind: Kind) -> Result<Played, PlayError> {
        let slot = &cards[event.card];
        let taken = slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let mut card = taken.ok_or(PlayError::CardElsewhere(event.card))?;
        let mut unpredictable = [0; 4];
        getrandom::fill(&mut unpredictable)?;
        let now = Now { time: event.time, quality: ClockQuality::Synchronised };
        let mut field = Field::new(&mut *card, kind);
        let presented = self.gate.present(&mut field, now, unpredictable).await;
        *slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(card);
        let presented = presented.map_err(self.failed())?;
        if let (Decision::Open, Some(sequence)) = (presented.decision, presented.sequence) {
            self.passage(event, sequence).await?;
        }
        self.idle().await?;
        Ok(Played {
            refused: match presented.decision {
                Decision::Open => None,
                Decision::Refuse(reason) => Some(reason as u8),
            },
            again: presented.again,
            sequence: presented.sequence,
            gate_us: Some(presented.timings.gate_us),
        })
    }

    /// Idle time, until the gate has nothing more to do.
    async fn idle(&mut self) -> Result<(), PlayError> {
        while self.gate.idle().await.map_err(self.failed())? == Idle::More {}
        Ok(())
    }

    async fn passage(&mut self, event: &Event, of: u32) -> Result<(), PlayError> {
        let now = Now { time: UnixMs(event.time.0 + 200), quality: ClockQuality::Synchronised };
        // A gate that opens against the plan lets the rider through.
        let outcome = event.passage.unwrap_or(Outcome::Passed);
        self.gate.passage(of, outcome, now).await.map(drop).map_err(self.failed())
    }

    fn note(&mut self, played: Played) -> Result<(), PlayError> {
        let at = |why: std::io::Error| DataError::File {
            path: format!("gate {} played.jsonl", self.plan.id),
            why,
        };
        let mut line = serde_json::to_vec(&played).map_err(|e| at(e.into()))?;
        line.push(b'\n');
        self.log.write_all(&line).map_err(at)?;
        self.played.push(played);
        Ok(())
    }

    /// Brings every journaled entry to the gateway and takes the lists it has, up to `lists` at least.
    pub async fn synchronise(&mut self, gateway: SocketAddr, lists: &[Version; 4]) -> Result<(), PlayError> {
        let done = self.try_synchronise(gateway, lists).await;
        if done.is_err() {
            self.connection = None;
        }
        done
    }

    fn is_synchronised(&self, lists: &[Version; 4]) -> bool {
        let caught_up = self.gate.acknowledged().saturating_add(1) == self.gate.next_sequence();
        caught_up && self.gate.versions().iter().zip(lists).all(|(have, want)| have >= want)
    }

    async fn try_synchronise(&mut self, gateway: SocketAddr, lists: &[Version; 4]) -> Result<(), PlayError> {
        let gate = self.plan.id;
        let broken = |why: String| PlayError::Link { gate, why };
        if self.is_synchronised(lists) {
            return Ok(());
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect(gateway).await?,
        };
        let mut received = [0; 4096];
        let mut out = Vec::with_capacity(4096);
        loop {
            out.clear();
            let mut frame = [0; MAX_FRAME];
            while let Some(frame) =
                self.gate.link_next(&mut connection.link, &mut frame).await.map_err(self.failed())?
            {
                out.extend_from_slice(frame);
            }
            if !out.is_empty() {
                connection.stream.write_all(&out).await.map_err(|e| broken(e.to_string()))?;
            }
            if self.is_synchronised(lists) {
                self.connection = Some(connection);
                return Ok(());
            }
            let read = tokio::time::timeout(PATIENCE, connection.stream.read(&mut received)).await;
            let len =
                read.map_err(|_| broken("no answer in time".into()))?.map_err(|e| broken(e.to_string()))?;
            if len == 0 {
                return Err(broken("the gateway closed the line".into()));
            }
            let taken = self
                .gate
                .link_receive(&mut connection.link, &received[..len])
                .await
                .map_err(self.failed())?;
            taken.map_err(|e| broken(e.to_string()))?;
            self.idle().await?;
            if connection.link.state() == LinkState::Unknown {
                return Err(broken("the gateway does not know this gate".into()));
            }
        }
    }

    async fn connect(&mut self, gateway: SocketAddr) -> Result<Connection, PlayError> {
        let gate = self.plan.id;
        let broken = |why: String| PlayError::Link { gate, why };
        let mut stream = TcpStream::connect(gateway).await.map_err(|e| broken(e.to_string()))?;
        stream.set_nodelay(true).map_err(|e| broken(e.to_string()))?;
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce)?;
        let mut frame = [0; MAX_FRAME];
        let (link, hello) = self.gate.link_begin(nonce, &mut frame).map_err(|e| broken(e.to_string()))?;
        stream.write_all(hello).await.map_err(|e| broken(e.to_string()))?;
        Ok(Connection { stream, link })
    }
}

/// Reads the lines of what was played; a line that a kill cut off is dropped.
fn open_log(path: &Path) -> Result<(Vec<Played>, fs::File), DataError> {
    let file = fs::File::options().create(true).truncate(false).read(true).write(true).open(path);
    let mut file = file.map_err(DataError::at(path))?;
    let mut played = Vec::new();
    let mut good = 0;
    let mut reader = BufReader::new(&file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let len = reader.read_until(b'\n', &mut line).map_err(DataError::at(path))?;
        match serde_json::from_slice(&line) {
            Ok(entry) if line.ends_with(b"\n") => played.push(entry),
            _ => break,
        }
        good += len as u64;
    }
    drop(reader);
    file.set_len(good).map_err(DataError::at(path))?;
    std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).map_err(DataError::at(path))?;
    Ok((played, file))
}
