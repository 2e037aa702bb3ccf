//! Commissioning, once in a gate's life, and start-up, each time power comes.

use crate::apart::{apart, apart_into};
use crate::floor::{Floor, Kept};
use crate::keys::{Keys, KeysError};
use crate::lists::Lists;
use crate::record::{Last, Local};
use crate::{Gate, GateError, Identity, Memory, Room, Trouble};
use core::pin::pin;
use embedded_storage_async::nor_flash::NorFlash;
use heapless::String;
use sha2::{Digest, Sha256};
use wavepass_journal::cells::Cell;
use wavepass_journal::keylog::KeyLog;
use wavepass_journal::{Journal, Limits};
use wavepass_protocol::dukpt::{Key, KeyId};
use wavepass_protocol::ecc::{PublicKey, Verifier as _};
use wavepass_protocol::link::LinkKey;
use wavepass_protocol::provisioning::{MAX_FILE, Provisioning, ProvisioningError};
use wavepass_protocol::seal::{Chain, Sealed};
use wavepass_protocol::time::UnixMs;
use zeroize::Zeroize;

/// The flash areas of a gate, each its own: a partition of one chip, or a file.
pub struct Areas<F> {
    /// The tap journal.
    pub journal: F,
    /// The DUKPT registers.
    pub keys: F,
    /// What must not go back; inside the processor, as the keys and the identity are.
    pub floor: F,
    /// Who the gate is.
    pub identity: F,
    /// The signed lists, in the order of [`wavepass_protocol::lists::Kind::ALL`].
    pub lists: [F; 4],
}

/// Whether a gate has more to do in idle time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// A new deny list is being written or checked.
    More,
    /// Nothing until the next tap or message.
    Done,
}

/// Why a gate was not commissioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommissionError<E> {
    /// It has been before. A second time with the same file would use its keys again.
    Already,
    /// The provisioning file cannot be used.
    File(ProvisioningError),
    /// The gate's flash cannot be used.
    Gate(GateError<E>),
}

impl<E> CommissionError<E> {
    fn store(why: wavepass_journal::Error<E>) -> Self {
        Self::Gate(why.into())
    }
}

impl<F: NorFlash> Areas<F> {
    /// Whether the gate has an identity. One without may have had one that is damaged since: its key log tells.
    pub async fn is_commissioned(self) -> Result<bool, GateError<F::Error>> {
        Ok(!Cell::open(self.identity).await?.is_empty())
    }

    /// Takes a provisioning file over. The initial key is not kept: only the registers derived from it.
    ///
    /// The identity is stored last, so that a cut before it leaves a gate that can be commissioned again with
    /// the same file, and nothing sealed yet.
    pub async fn commission(self, file: &[u8]) -> Result<(), CommissionError<F::Error>> {
        let provisioning = Provisioning::parse(file).map_err(CommissionError::File)?;
        let mut identity = Cell::open(self.identity).await.map_err(CommissionError::store)?;
        let mut stored = [0; MAX_FILE];
        let found = identity.load(&mut stored).await.map_err(CommissionError::store)?;
        stored.zeroize();
        if found.is_some() {
            return Err(CommissionError::Already);
        }
        let log = KeyLog::open(self.keys).await.map_err(CommissionError::store)?;
        // Entries of an earlier life would be sent under the new key id, whose numbers begin at 1.
        let journal =
            Journal::open(self.journal, Limits::default(), |_| {}).await.map_err(CommissionError::store)?;
        if log.counter() != 0 || journal.next_sequence() != 1 {
            return Err(CommissionError::Already);
        }
        let initial = Key::new(provisioning.initial_key);
        Keys::commission(log, provisioning.key_id, &initial).await.map_err(CommissionError::Gate)?;
        Floor::commission(self.floor).await.map_err(CommissionError::Gate)?;
        let kept = Provisioning { initial_key: [0; 16], ..provisioning };
        let bytes = kept.write(&mut stored).map_err(CommissionError::File)?;
        let done = identity.store(bytes).await.map_err(CommissionError::store);
        stored.zeroize();
        done
    }
}

impl<F: NorFlash, M: Room> Gate<F, M> {
    /// Starts a commissioned gate: recovers journal and keys, verifies the stored lists, and learns again
    /// which tokens opened it lately. What the memory held before is forgotten.
    pub async fn start(areas: Areas<F>, limits: Limits, memory: M) -> Result<Self, GateError<F::Error>> {
        let mut place = None;
        Self::start_in(&mut place, areas, limits, memory).await?;
        place.ok_or(GateError::NotCommissioned) // it is there where start_in succeeds
    }

    /// [`Gate::start`] in the place where the gate stays, so that it is never moved: a few KiB of stack less. The
    /// place is empty where the gate did not start.
    pub async fn start_in(
        place: &mut Option<Self>,
        areas: Areas<F>,
        limits: Limits,
        mut memory: M,
    ) -> Result<&mut Self, GateError<F::Error>> {
        *place = None;
        let Memory { kernel, passback, lists: list_memory } = {
            memory.clear();
            &mut *memory
        };
        let identity = apart(pin!(stored_identity(areas.identity))).await?;
        let mut parts = Parts { keys: None, floor: None, lists: None, journal: None };
        apart_into(&mut parts.floor, pin!(Floor::open(areas.floor))).await?;
        let floor = parts.floor.as_ref().and_then(Floor::kept).copied();
        apart_into(&mut parts.keys, pin!(Keys::open(areas.keys, identity.key_id))).await?;
        let not_below = floor.unwrap_or_default().lists;
        let lists = Lists::open(list_memory, areas.lists, not_below, &identity.root, kernel.verifier());
        apart_into(&mut parts.lists, pin!(lists)).await?;

        let mut last: Option<Last> = None;
        let mut newest = UnixMs::default();
        let mut emergency = false;
        let mut chain = ChainCheck { key_id: identity.key_id, previous: None, broken: None };
        let journal = Journal::open(areas.journal, limits, |entry| {
            chain.entry(&entry);
            let sequence = entry.sequence;
            let Some((local, in_emergency)) = Local::from_bytes(entry.local) else { return };
            emergency = in_emergency;
            newest = local.time();
            match local {
                Local::Tap { time, decision, tag } => {
                    if decision == wavepass_protocol::tap::Decision::Open {
                        passback.opened(tag, sequence, time);
                    }
                    last = Some(Last { time, sequence, decision, outcome: None });
                }
                Local::Passage { of, outcome, .. } => {
                    passback.passage(of, outcome);
                    if let Some(last) = last.as_mut().filter(|l| l.sequence == of) {
                        last.outcome = Some(outcome);
                    }
                }
                Local::Emergency { .. } => {}
            }
        });
        apart_into(&mut parts.journal, pin!(journal)).await?;

        let gate = parts.join(place, identity, memory).ok_or(GateError::NotCommissioned)?; // all parts are there
        (gate.last, gate.newest, gate.emergency) = (last, newest, emergency);
        gate.trouble = match (chain.broken, floor) {
            (Some(sequence), _) => Some(Trouble::Tampered(sequence)),
            (None, None) => Some(Trouble::FloorDamaged),
            (None, Some(floor)) if gate.next_sequence() < floor.next => Some(Trouble::JournalLost),
            _ => None,
        };
        gate.configure();
        apart(pin!(gate.get_ahead())).await?;
        Ok(gate)
    }

    /// The work that no rider should wait for: the next key, the next page, tables for a new issuer's key, and a slice
    /// of a new deny list. Call it between taps, as long as there is more.
    pub async fn idle(&mut self) -> Result<Idle, GateError<F::Error>> {
        self.get_ahead().await?;
        // All slices at once, for they take less time than erasing a page does.
        while self.memory.verifier().prepare() {}
        Ok(if self.lists.slice(&self.memory.lists).await? { Idle::More } else { Idle::Done })
    }
}

impl<F: NorFlash, M: Room> Gate<F, M> {
    /// Makes the next key and the next page ready, and lets the floor follow.
    async fn get_ahead(&mut self) -> Result<(), GateError<F::Error>> {
        match self.keys.prepare().await {
            Ok(()) => {}
            Err(KeysError::Store(why)) => return Err(why.into()),
            Err(KeysError::Keys(why)) => self.troubled(Trouble::Keys(why)),
        }
        self.journal.prepare().await?;
        if self.trouble.is_some() {
            return Ok(());
        }
        let now = Kept { lists: self.lists.versions(), next: self.journal.next_sequence() };
        self.floor.follow(now).await
    }
}

/// What a start has recovered so far, each in its place.
struct Parts<F> {
    keys: Option<Keys<F>>,
    floor: Option<Floor<F>>,
    lists: Option<Lists<F>>,
    journal: Option<Journal<F>>,
}

impl<F: NorFlash> Parts<F> {
    /// Puts them together in the gate's place; `None` where one is missing. A function of its own, so that the copies
    /// it makes are on the stack by themselves.
    #[inline(never)]
    fn join<'g, M: Room>(
        &mut self,
        place: &'g mut Option<Gate<F, M>>,
        identity: Identity,
        memory: M,
    ) -> Option<&'g mut Gate<F, M>> {
        Some(place.insert(Gate {
            identity,
            journal: self.journal.take()?,
            keys: self.keys.take()?,
            memory,
            lists: self.lists.take()?,
            floor: self.floor.take()?,
            config: None,
            last: None,
            newest: UnixMs::default(),
            emergency: false,
            trouble: None,
            uncounted_refusals: 0,
        }))
    }
}

/// Checks, while the journal is read at start, that each entry follows the one before it. An entry whose neighbour is
/// gone or has rotted is taken as it is: the host compares with what it has.
struct ChainCheck {
    key_id: KeyId,
    previous: Option<(u32, Chain)>,
    broken: Option<u32>,
}

impl ChainCheck {
    fn entry(&mut self, entry: &wavepass_journal::Entry<'_>) {
        let expected = match self.previous {
            Some((sequence, chain)) if sequence.checked_add(1) == Some(entry.sequence) => Some(chain),
            None if entry.sequence == 1 => Some(Chain::START),
            _ => None,
        };
        let fits = Sealed::parse(entry.payload).is_ok_and(|Sealed { header, .. }| {
            header.sequence == entry.sequence
                && header.ksn.key_id == self.key_id
                && expected.is_none_or(|chain| chain == header.chain)
        });
        if !fits {
            self.broken = self.broken.or(Some(entry.sequence));
        }
        self.previous = Some((entry.sequence, Chain::after(entry.payload)));
    }
}

async fn stored_identity<F: NorFlash>(flash: F) -> Result<Identity, GateError<F::Error>> {
    let mut cell = Cell::open(flash).await?;
    let mut file = [0; MAX_FILE];
    let len = cell.load(&mut file).await?.ok_or(GateError::NotCommissioned)?;
    let identity = identity(&file[..len]);
    file.zeroize();
    identity.ok_or(GateError::NotCommissioned)
}

fn identity(file: &[u8]) -> Option<Identity> {
    let p = Provisioning::parse(file).ok()?;
    let local = Sha256::new().chain_update(b"wavepass gate local key").chain_update(p.link_key).finalize();
    Some(Identity {
        gate_id: p.gate_id,
        key_id: p.key_id,
        station: String::try_from(p.station).ok()?,
        direction: p.direction,
        operator: p.operator,
        network: p.network,
        link_key: LinkKey::new(p.link_key),
        local_key: core::array::from_fn(|i| local[i]),
        root: PublicKey::from_x(p.root_key),
    })
}
