//! What the gateway knows of its gates' present state: kept in memory, told by the gates, gone at a restart.

use crate::store::sql::hex;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use wavepass_protocol::dukpt::KeyId;
use wavepass_protocol::lists::{Kind, ListError, Version};
use wavepass_protocol::time::UnixMs;

/// Every gate that has connected since the start.
#[derive(Default)]
pub struct Board {
    gates: Mutex<BTreeMap<u32, Slot>>,
}

struct Slot {
    state: GateState,
    /// Tells the connection in force that a newer one has taken its place.
    replaced: Arc<Notify>,
    connection: u64,
}

/// The state of one gate.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct GateState {
    /// The gate's number.
    pub gate_id: u32,
    /// The key id of its journal, hexadecimal.
    pub key_id: String,
    /// A proven connection stands.
    pub connected: bool,
    /// From where.
    pub address: String,
    /// What it runs.
    pub firmware: String,
    /// When it was last heard, Unix milliseconds.
    pub seen_ms: u64,
    /// The oldest sequence number in its journal.
    pub oldest: u32,
    /// The next it will write.
    pub next: u32,
    /// The highest acknowledged, by its own word.
    pub gate_acknowledged: u32,
    /// The highest acknowledged, by ours.
    pub acknowledged: u32,
    /// True if its next number is one that it has sent before: its journal was erased, or an older state of it put
    /// back.
    pub journal_back: bool,
    /// Version in force of each list.
    pub lists: Vec<ListState>,
    /// What it last told of its own health, on this connection or an earlier one.
    pub health: Option<GateHealth>,
}

/// How a gate itself is, by its own word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct GateHealth {
    /// The most stack used since its start, bytes.
    pub stack_used: u32,
    /// The stack there is, bytes.
    pub stack_bytes: u32,
    /// How often its reader had to be reset since its start.
    pub reader_recoveries: u32,
    /// Refusals since its start that its journal had no room for.
    pub uncounted_refusals: u32,
    /// Why it runs and opens for nobody: `tampered`, `journal_lost`, `floor_damaged`, `keys_exhausted` or
    /// `keys_damaged`.
    pub trouble: Option<String>,
    /// What its firmware panicked with before its start.
    pub panic: Option<String>,
}

/// One list at a gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ListState {
    /// `deny`, `ca_keys`, `revocations` or `config`.
    pub kind: &'static str,
    /// Its epoch; 0 where the gate has none.
    pub epoch: u32,
    /// Its version.
    pub version: u32,
    /// Why the gate last refused one.
    pub refused: Option<&'static str>,
}

impl Board {
    /// Every gate, by number.
    pub fn all(&self) -> Vec<GateState> {
        self.lock().values().map(|slot| slot.state.clone()).collect()
    }

    /// How many have a proven connection.
    pub fn connected(&self) -> usize {
        self.lock().values().filter(|slot| slot.state.connected).count()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Slot>> {
        // States are replaced whole or field by field; a panic elsewhere leaves nothing half-written to fear.
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection has proven itself: it takes the place of an older one, which is told to end. Gives what tells
    /// this one the same later.
    pub(super) fn enter(
        &self,
        connection: u64,
        gate_id: u32,
        key_id: KeyId,
        address: SocketAddr,
        firmware: &str,
        now: UnixMs,
    ) -> Arc<Notify> {
        let replaced = Arc::new(Notify::new());
        let lists = Kind::ALL.map(|k| ListState { kind: k.word(), epoch: 0, version: 0, refused: None });
        let mut gates = self.lock();
        let older = gates.remove(&gate_id);
        let state = GateState {
            gate_id,
            key_id: hex(&key_id.0),
            connected: true,
            address: address.to_string(),
            firmware: firmware.into(),
            seen_ms: now.0,
            oldest: 0,
            next: 0,
            gate_acknowledged: 0,
            acknowledged: 0,
            journal_back: false,
            lists: lists.into(),
            health: older.as_ref().and_then(|slot| slot.state.health.clone()),
        };
        gates.insert(gate_id, Slot { state, replaced: replaced.clone(), connection });
        if let Some(older) = older {
            older.replaced.notify_one();
        }
        replaced
    }

    /// Changes a gate's state, if this connection is the one in force.
    pub(super) fn update(&self, connection: u64, gate_id: u32, change: impl FnOnce(&mut GateState)) {
        if let Some(slot) = self.lock().get_mut(&gate_id)
            && slot.connection == connection
        {
            change(&mut slot.state);
        }
    }
}

impl GateState {
    pub(super) fn in_force(&mut self, versions: &[Version; 4]) {
        for (list, version) in self.lists.iter_mut().zip(versions) {
            if (list.epoch, list.version) != (version.epoch, version.version) {
                (list.epoch, list.version, list.refused) = (version.epoch, version.version, None);
            }
        }
    }

    pub(super) fn refused(&mut self, kind: Kind, why: ListError) {
        if let Some(list) = self.lists.iter_mut().find(|l| l.kind == kind.word()) {
            list.refused = Some(why.word());
        }
    }
}
