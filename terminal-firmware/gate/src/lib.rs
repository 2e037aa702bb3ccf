//! The gate application: what every gate does, whatever its board.
//!
//! It joins the kernel (decides), the key log (one key a tap), the journal (durable before the gate opens),
//! the signed lists and the link to the host. A board gives it flash areas, a card contact, the time and
//! randomness; it never touches a register, a socket or a clock itself.
//!
//! Rules it keeps (docs/architecture.md, Rules that always hold):
//! - [`Gate::present`] answers "open" only after the sealed tap is durable in the journal;
//! - a key seals one entry: the counter has moved on durably before the key is used;
//! - lists and configuration are taken only when signed and newer, and the old one stands until the new one is whole;
//! - each entry names the tag of the one before it, and a journal where one does not is not added to by taps;
//! - nobody is let through while deny list or revocations are missing, or older than what the gate has had;
//! - the acknowledgement of a number that was never written changes nothing.
//!
//! One task owns a [`Gate`]. Its futures are driven to the end, never dropped half-way: the journal counts
//! on that.
#![no_std]

#[cfg(test)]
extern crate std;

mod apart;
mod commission;
mod deny;
mod floor;
mod keys;
mod link;
mod lists;
mod memory;
mod passback;
mod present;
mod record;

pub use apart::apart;
pub use commission::{Areas, CommissionError, Idle};
pub use link::{Health, Link, LinkState};
pub use memory::{Memory, Room};
pub use present::{Contact, Presented};
pub use record::Last;

use floor::Floor;
use heapless::String;
use lists::Lists;
use wavepass_journal::Journal;
use wavepass_protocol::dukpt::{DukptError, KeyId};
use wavepass_protocol::ecc::PublicKey;
use wavepass_protocol::link::LinkKey;
use wavepass_protocol::lists::{Kind, Version};
use wavepass_protocol::tap::{ClockQuality, Direction, MAX_STATION, Reason};
use wavepass_protocol::time::UnixMs;

/// Why a gate cannot go on. Every one means `out_of_service` to the rider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateError<E> {
    /// A store in flash failed, or is not one this code can use.
    Store(wavepass_journal::Error<E>),
    /// The gate was never commissioned, or its identity is damaged.
    NotCommissioned,
    /// An entry did not fit its seal; the limits of [`wavepass_protocol::tap`] exclude it.
    Seal,
}

impl<E> From<wavepass_journal::Error<E>> for GateError<E> {
    fn from(why: wavepass_journal::Error<E>) -> Self {
        Self::Store(why)
    }
}

/// What a gate cannot work with, although it runs: it opens for nobody until somebody has seen to it, and still sends
/// the host what its journal holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// This entry does not follow the one before it, or is not this gate's: no power cut does that, somebody has
    /// written to the flash.
    Tampered(u32),
    /// The journal has lost entries: it was erased, or an older state of it was put back.
    JournalLost,
    /// The record of what must not go back is damaged.
    FloorDamaged,
    /// The key log lost a key, or every key has been used.
    Keys(DukptError),
}

impl Trouble {
    /// A word for it, as the host is told.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tampered(_) => "tampered",
            Self::JournalLost => "journal_lost",
            Self::FloorDamaged => "floor_damaged",
            Self::Keys(DukptError::Exhausted) => "keys_exhausted",
            Self::Keys(DukptError::RegisterEmpty(_)) => "keys_damaged",
        }
    }
}

/// Who the gate is, as commissioned.
pub struct Identity {
    /// The gate's number.
    pub gate_id: u32,
    /// The DUKPT key id of its journal.
    pub key_id: KeyId,
    /// Station code.
    pub station: String<MAX_STATION>,
    /// Which way it lets riders through.
    pub direction: Direction,
    /// Its operator.
    pub operator: u16,
    /// Its network.
    pub network: [u8; 4],
    link_key: LinkKey,
    local_key: [u8; 16],
    root: PublicKey,
}

/// The clock as the board has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The time.
    pub time: UnixMs,
    /// How far it can be trusted.
    pub quality: ClockQuality,
}

/// So far may a synchronised clock lie behind the journal before it is believed: more than crystals drift between two
/// times that the host tells, and far less than a wrong day.
const CORRECTION_MS: u64 = 10 * 60 * 1000;

/// A gate at work. `F` is its flash, `M` where its [`Memory`] lies.
pub struct Gate<F, M> {
    identity: Identity,
    journal: Journal<F>,
    keys: keys::Keys<F>,
    memory: M,
    lists: Lists<F>,
    floor: Floor<F>,
    /// The configuration in force, as the kernel wants it.
    config: Option<wavepass_kernel::Config>,
    last: Option<Last>,
    /// The time of the newest entry of any kind.
    newest: UnixMs,
    /// The emergency input, as the journal last recorded it.
    emergency: bool,
    trouble: Option<Trouble>,
    /// Refusals that the journal had no room for since start: counted, not kept.
    uncounted_refusals: u32,
}

impl<F: embedded_storage_async::nor_flash::NorFlash, M: Room> Gate<F, M> {
    /// Who the gate is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The version in force of each list, in the order of [`Kind::ALL`].
    pub fn versions(&self) -> [Version; 4] {
        self.lists.versions()
    }

    /// The version in force of one list.
    pub fn version(&self, kind: Kind) -> Version {
        self.lists.version(kind)
    }

    /// The newest tap in the journal, as its clear local header tells.
    pub fn last(&self) -> Option<Last> {
        self.last
    }

    /// The sequence number that the next entry will have.
    pub fn next_sequence(&self) -> u32 {
        self.journal.next_sequence()
    }

    /// The highest sequence number that the host has acknowledged.
    pub fn acknowledged(&self) -> u32 {
        self.journal.acknowledged()
    }

    /// Refusals since start for which the journal had no room.
    pub fn uncounted_refusals(&self) -> u32 {
        self.uncounted_refusals
    }

    /// Why the gate opens for nobody although it runs. The first reason counts.
    pub fn trouble(&self) -> Option<Trouble> {
        self.trouble
    }

    /// True while the emergency input is on, as the journal has it.
    pub fn in_emergency(&self) -> bool {
        self.emergency
    }

    /// Whether a card may be presented now; else what every card would be refused with.
    pub fn ready(&self, now: Now) -> Result<(), Reason> {
        self.refusal_before_card(now).map_or(Ok(()), Err)
    }

    /// What the deny list in force says of a token: the question that every tap asks. `None` where there is no list.
    pub async fn denies(
        &mut self,
        asked: &wavepass_kernel::Asked,
    ) -> Result<Option<bool>, GateError<F::Error>> {
        self.lists.denies(asked).await
    }

    /// The time of a new entry: not behind the newest one in the journal. But where a synchronised clock is far behind
    /// it, the host has told a wrong time before, and the clock is right: else every card would be judged, and every
    /// tap booked, in that future until it has come.
    fn time(&self, now: Now) -> UnixMs {
        let is_corrected = now.quality == ClockQuality::Synchronised
            && self.newest.0.saturating_sub(now.time.0) > CORRECTION_MS;
        if is_corrected { now.time } else { self.newest.max(now.time) }
    }

    fn configure(&mut self) {
        let identity = &self.identity;
        self.config = self
            .lists
            .config()
            .and_then(|c| wavepass_kernel::Config::new(c, identity.network, identity.operator).ok());
    }

    fn refusal_before_card(&self, now: Now) -> Option<Reason> {
        if self.trouble.is_some() {
            return Some(Reason::OutOfService);
        }
        if now.quality == ClockQuality::Unset {
            return Some(Reason::ClockUnset);
        }
        if self.config.is_none() {
            return Some(Reason::OutOfService);
        }
        // Without one of them a card that must be refused would not be.
        let lacks = |kind| self.version(kind) == Version::default();
        (lacks(Kind::Deny) || lacks(Kind::Revocations)).then_some(Reason::ListStale)
    }
}
