//! Intake: sealed entries in, durable rows out, then the acknowledgement.
//!
//! Whoever brings entries (a gate's link, HTTP, a file) hands batches to one queue ([`waiting`]) before a pipeline of two
//! stages that run side by side: [`prepare`] opens and verifies what is next, on all cores; [`commit`] checks sequences and counters
//! ([`walk`]) and writes each group in one transaction, on PostgreSQL several at the same time. Only then is each batch answered, so that an
//! acknowledged entry is on disk (rule 2). What cannot be opened is set aside whole and raises a break. Over a gate's own link it stands in the gate's
//! journal, and is acknowledged so that it never stands in the way of the next; from anybody else it may be damaged on its way or
//! made up, and its place stays due: the gate must not be told that the store has what it has not.

pub mod board;
mod brought;
mod commit;
pub(crate) mod forgotten;
mod gaps;
pub mod link;
#[cfg(test)]
mod link_tests;
pub(crate) mod marks;
mod prepare;
mod rows;
pub mod sealer;
mod session;
#[cfg(test)]
mod tests;
mod waiting;
mod walk;
mod watermarks;

pub use board::Board;

use crate::clock::Clock;
use crate::concentrators::ConcentratorId;
use crate::gates::{self, GatesError};
use crate::keys::{BankKeys, ClearingKeys};
use crate::store::db::{Conn, query};
use crate::store::{Store, StoreError};
use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};
use tokio::sync::{mpsc, oneshot};
use wavepass_fares::DayClock;
use wavepass_protocol::dukpt::KeyId;

/// Entries in one transaction: enough that the disk's flush no longer shows, little enough that an answer takes
/// tens of milliseconds.
const MAX_GROUP: usize = 4096;
/// Batches that may wait beside each gate's first; more make their senders wait.
const MAX_WAITING: usize = 1024;
/// Entries in one batch.
pub const MAX_BATCH: usize = 4096;

/// Why a batch could not be taken. Nothing of it is acknowledged; it may be sent again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IntakeError {
    /// The store failed.
    #[error("intake: {0}")]
    Store(Arc<StoreError>),
    /// The gateway is stopping.
    #[error("intake has stopped")]
    Stopped,
    /// Too many entries at once.
    #[error("a batch has at most {MAX_BATCH} entries, not {0}")]
    TooLarge(usize),
}

/// Who brings a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A gate over its own link: in the order of its journal, nothing but its own key id.
    Gate(KeyId),
    /// A concentrator, with entries of its own gates.
    Concentrator(ConcentratorId),
    /// The holder of an API key, a file, a test: entries of any gates.
    Batch,
}

impl Source {
    /// The concentrator, if it is one.
    pub(crate) const fn concentrator(self) -> Option<ConcentratorId> {
        match self {
            Self::Concentrator(id) => Some(id),
            Self::Gate(_) | Self::Batch => None,
        }
    }
}

/// One thing in a batch.
pub(crate) enum Item {
    /// A sealed entry.
    Entry(Vec<u8>),
    /// A sealed entry that came again after the host had asked for number `place`: what stands at that place of
    /// the journal does not name it, or `place` is gone.
    InPlaceOf { place: u32, sealed: Vec<u8> },
    /// A sealed entry of which a person says that whatever is missing before it is lost.
    PastGap(Vec<u8>),
    /// The gate has these no longer.
    Lost { key_id: KeyId, from: u32, upto: u32 },
}

impl Item {
    fn sealed(&self) -> &[u8] {
        match self {
            Self::Entry(sealed) | Self::PastGap(sealed) | Self::InPlaceOf { sealed, .. } => sealed,
            Self::Lost { .. } => &[],
        }
    }
}

/// What became of one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Written, for the first time.
    Accepted,
    /// It was there already.
    Repeated,
    /// It was kept whole for a person to look at; the word says why.
    SetAside(&'static str),
    /// The same, but it was not kept: whoever brings it has brought too many of that kind today. Its place stays due.
    NotKept {
        /// Why it would be.
        why: &'static str,
        /// How many are kept on a day.
        limit: i64,
    },
    /// Not taken: an earlier number is missing.
    Gap {
        /// The number that is due.
        due: u32,
    },
    /// The loss was noted.
    Noted,
}

impl Verdict {
    /// Its word in the API.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Repeated => "repeated",
            Self::SetAside(_) => "set_aside",
            Self::NotKept { .. } => "not_kept",
            Self::Gap { .. } => "gap",
            Self::Noted => "noted",
        }
    }
}

/// The answer to a batch, given after its transaction is durable.
#[derive(Debug, Clone, Default)]
pub struct Receipt {
    /// One for each item, in order.
    pub verdicts: Vec<Verdict>,
    /// For each key id in the batch: every number up to this one is durable.
    pub acknowledged: BTreeMap<KeyId, u32>,
    /// The first entry that came before its turn.
    pub gap: Option<Gap>,
}

/// A number is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The number that is due.
    pub due: u32,
    /// The sealed entry that came instead.
    pub instead: Vec<u8>,
}

impl Receipt {
    /// How many items have this verdict's word.
    pub fn count(&self, word: &str) -> usize {
        self.verdicts.iter().filter(|v| v.word() == word).count()
    }
}

type Reply = oneshot::Sender<Result<Receipt, IntakeError>>;

struct Job {
    source: Source,
    items: Vec<Item>,
    reply: Reply,
}

/// What the pipeline works with.
#[derive(Clone)]
pub struct Parts {
    /// Where it writes.
    pub store: Store,
    /// Opens entries.
    pub clearing: Arc<dyn ClearingKeys>,
    /// Verifies cryptograms.
    pub bank: Arc<dyn BankKeys>,
    /// The time of receipt.
    pub clock: Arc<dyn Clock>,
    /// Which service day a tap falls on.
    pub day_clock: DayClock,
    /// Which gates there are.
    pub directory: Arc<Directory>,
    /// How many entries that do not open are kept on a service day of each concentrator, and of all API keys and files.
    pub set_aside_a_day: i64,
}

/// The pipeline's mouth. Clones feed the same one; it ends when the last is gone.
#[derive(Clone)]
pub struct Intake {
    mouth: Arc<waiting::Mouth>,
}

impl Intake {
    /// Starts the pipeline on the running tokio runtime.
    pub fn start(parts: Parts) -> Self {
        let queue = waiting::Queue::new();
        // One group is prepared, or waits, while others are written: more would only make answers late.
        let (ready, groups) = mpsc::channel(1);
        tokio::spawn(prepare::stage(parts.clone(), queue.clone(), ready));
        tokio::spawn(commit::stage(parts, groups));
        Self { mouth: Arc::new(waiting::Mouth(queue)) }
    }

    /// Takes sealed entries of any gates; answers when they are durable. What the bench measures.
    pub async fn ingest(&self, entries: Vec<Vec<u8>>) -> Result<Receipt, IntakeError> {
        self.ingest_from(Source::Batch, entries).await
    }

    /// The same from somebody in particular.
    pub(crate) async fn ingest_from(
        &self,
        source: Source,
        entries: Vec<Vec<u8>>,
    ) -> Result<Receipt, IntakeError> {
        self.submit_and_wait(source, entries.into_iter().map(Item::Entry).collect()).await
    }

    /// Hands a batch in and waits until it is durable.
    pub(crate) async fn submit_and_wait(
        &self,
        source: Source,
        items: Vec<Item>,
    ) -> Result<Receipt, IntakeError> {
        self.submit(source, items).await?.await.map_err(stopped)?
    }

    /// Hands a batch in and gives where its answer will come. Waits while the queue is full.
    pub(crate) async fn submit(
        &self,
        source: Source,
        items: Vec<Item>,
    ) -> Result<oneshot::Receiver<Result<Receipt, IntakeError>>, IntakeError> {
        if items.len() > MAX_BATCH {
            return Err(IntakeError::TooLarge(items.len()));
        }
        let (reply, answer) = oneshot::channel();
        self.mouth.0.push(source, items, reply).await?;
        Ok(answer)
    }
}

fn stopped(_: oneshot::error::RecvError) -> IntakeError {
    IntakeError::Stopped
}

/// The gates that are commissioned, as intake sees them. Read anew after a change.
pub struct Directory {
    current: RwLock<(Stamp, Arc<gates::Directory>)>,
}

/// Tells one state of the registry of gates from every later one.
type Stamp = (i64, i64);

impl Directory {
    /// Reads them.
    pub async fn load(store: &Store) -> Result<Self, GatesError> {
        Ok(Self { current: RwLock::new(read(store).await?) })
    }

    /// Reads them again.
    pub async fn refresh(&self, store: &Store) -> Result<(), GatesError> {
        let fresh = read(store).await?;
        *self.current.write().unwrap_or_else(std::sync::PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// Reads them again if another process has changed them; true if it has.
    pub async fn refresh_if_changed(&self, store: &Store) -> Result<bool, GatesError> {
        let there = stamp(&mut store.pool().acquire().await.map_err(StoreError::from)?).await?;
        let changed = self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner).0 != there;
        if changed {
            self.refresh(store).await?;
        }
        Ok(changed)
    }

    /// As last read.
    pub fn current(&self) -> Arc<gates::Directory> {
        self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner).1.clone()
    }
}

async fn read(store: &Store) -> Result<(Stamp, Arc<gates::Directory>), GatesError> {
    let mut conn = store.pool().acquire().await.map_err(StoreError::from)?;
    // Taken first: what changes in between is read again.
    let stamp = stamp(&mut conn).await?;
    Ok((stamp, Arc::new(gates::Directory::load(&mut conn).await?)))
}

/// Rows are added and retired, never changed otherwise.
async fn stamp(conn: &mut Conn) -> Result<Stamp, GatesError> {
    Ok(query("SELECT count(*), count(retired_ms) FROM gates").row(conn).await.map_err(StoreError::from)?)
}
