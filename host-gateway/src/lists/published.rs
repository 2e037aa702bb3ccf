//! The lists in force, in memory: for the link server, which sends them whole or as deltas, and for look-ups.

use super::denied::write_delta;
use super::{KEPT_DELTAS, ListsError, bytes_in, content_of, latest_in};
use crate::store::db::{Conn, query};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use wavepass_protocol::deny::{Change, Delta, DenyKey, DenyList};
use wavepass_protocol::lists::{HEAD, Kind, Version};
use wavepass_protocol::time::UnixMs;
use wavepass_protocol::token::{Expiry, Token};

#[derive(Clone)]
struct Issue {
    version: Version,
    issued: UnixMs,
    bytes: Arc<[u8]>,
    /// Deltas of the deny list, newest first: the first leads to this version, each to the one before the last.
    deltas: Arc<[Vec<u8>]>,
}

/// A list as a gate is sent it.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Which issue.
    pub version: Version,
    /// Its bytes.
    pub bytes: Arc<[u8]>,
    /// True if it comes as a delta on what the gate has.
    pub is_delta: bool,
}

/// The lists in force, in memory. Share it; look-ups never wait for the store.
pub struct Published {
    issues: RwLock<[Option<Issue>; 4]>,
}

impl Published {
    /// Reads the newest issue of each list.
    pub async fn load(conn: &mut Conn) -> Result<Self, ListsError> {
        let published = Self { issues: RwLock::new([const { None }; 4]) };
        published.refresh(conn).await?;
        Ok(published)
    }

    /// Takes over what was published since; the kinds that changed. Call it after the transaction of
    /// [`publish`](super::publish) is committed.
    pub async fn refresh(&self, conn: &mut Conn) -> Result<Vec<Kind>, ListsError> {
        let mut changed = Vec::new();
        for (slot, kind) in Kind::ALL.into_iter().enumerate() {
            let Some(latest) = latest_in(conn, kind).await? else { continue };
            if self.current(kind).is_some_and(|(version, _)| version >= latest.version) {
                continue;
            }
            let bytes: Arc<[u8]> = bytes_in(conn, kind, latest.version).await?.into();
            let content = content_of(&bytes)?;
            let mut deltas = Vec::new();
            if kind == Kind::Deny {
                DenyList::parse(content)?;
                deltas = deltas_in(conn, latest.version).await?;
            }
            let (version, issued) = (latest.version, latest.issued);
            let issue = Issue { version, issued, bytes, deltas: deltas.into() };
            // A writer never panics half-way: the slot is replaced whole.
            self.issues.write().unwrap_or_else(PoisonError::into_inner)[slot] = Some(issue);
            changed.push(kind);
        }
        Ok(changed)
    }

    fn issue(&self, kind: Kind) -> Option<Issue> {
        let issues = self.issues.read().unwrap_or_else(PoisonError::into_inner);
        Kind::ALL.iter().position(|k| *k == kind).and_then(|slot| issues[slot].clone())
    }

    /// The newest issue of a list, whole and signed.
    pub fn current(&self, kind: Kind) -> Option<(Version, Arc<[u8]>)> {
        self.issue(kind).map(|issue| (issue.version, issue.bytes))
    }

    /// What brings a gate that has this version to the newest: a delta of the deny list if there is one that gates
    /// take, else the whole list. `None` if the gate has the newest.
    pub fn to_send(&self, kind: Kind, at_gate: Version, as_delta: bool) -> Option<Outgoing> {
        let issue = self.issue(kind)?;
        if issue.version <= at_gate {
            return None;
        }
        let delta = as_delta.then(|| delta(&issue, at_gate)).flatten();
        let (bytes, is_delta) = delta.map_or((issue.bytes, false), |delta| (delta, true));
        Some(Outgoing { version: issue.version, bytes, is_delta })
    }

    /// When the newest issue was made.
    pub fn issued(&self, kind: Kind) -> Option<UnixMs> {
        self.issue(kind).map(|issue| issue.issued)
    }

    /// True if a gate with the newest deny list refuses this token: the gate's own look-up.
    pub fn denies(&self, token: &Token, expiry: Option<Expiry>) -> bool {
        self.with_deny_list(|list| list.denies(token, expiry)).unwrap_or(false)
    }

    /// How many entries the newest deny list has.
    pub fn denied(&self) -> usize {
        self.with_deny_list(|list| list.shape().entries() as usize).unwrap_or(0)
    }

    fn with_deny_list<T>(&self, look_up: impl FnOnce(&DenyList<'_>) -> T) -> Option<T> {
        let issue = self.issue(Kind::Deny)?;
        let list = DenyList::parsed(content_of(&issue.bytes).ok()?).ok()?;
        Some(look_up(&list))
    }
}

/// The deltas that lead to this version without a gap, newest first.
async fn deltas_in(conn: &mut Conn, newest: Version) -> Result<Vec<Vec<u8>>, ListsError> {
    let rows: Vec<(u32, Vec<u8>)> = query(
        "SELECT version, delta FROM list_deltas WHERE epoch = ? AND version <= ? ORDER BY version DESC LIMIT ?",
    )
    .bind(newest.epoch)
    .bind(newest.version)
    .bind(KEPT_DELTAS)
    .rows(conn)
    .await?;
    let unbroken = rows.into_iter().zip((1..=newest.version).rev());
    Ok(unbroken.take_while(|((version, _), due)| version == due).map(|((_, delta), _)| delta).collect())
}

/// The issue as one delta on what the gate has.
fn delta(issue: &Issue, at_gate: Version) -> Option<Arc<[u8]>> {
    if at_gate.epoch != issue.version.epoch || at_gate.version == 0 {
        return None;
    }
    let behind = (issue.version.version - at_gate.version) as usize;
    let deltas = issue.deltas.get(..behind)?;
    let mut changes: BTreeMap<DenyKey, Change> = BTreeMap::new();
    for delta in deltas.iter().rev() {
        for (key, change) in Delta::parsed(delta).ok()?.changes() {
            match changes.remove(&key) {
                None => drop(changes.insert(key, change)),
                Some(before) if before != change => {} // it came and went, or went and came back
                Some(_) => return None,
            }
        }
    }
    let of = |wanted| changes.iter().filter(move |(_, c)| **c == wanted).map(|(key, _)| *key);
    let (removed, added): (Vec<_>, Vec<_>) = (of(Change::Removed).collect(), of(Change::Added).collect());
    let delta = write_delta(&removed, &added)?;
    Some([issue.bytes.get(..HEAD)?, &at_gate.version.to_be_bytes(), &delta].concat().into())
}
