//! What must not go back: the versions of the lists, and how far the journal had come.
//!
//! Lists and journal may lie on a chip beside the processor, where somebody with a programmer can put yesterday's bytes
//! back, signatures and all. The floor lies inside, with the keys. It follows in idle time, and in steps where following
//! at once would wear its flash out; so it tells that a list or the journal went back by more than a step.

use crate::GateError;
use embedded_storage_async::nor_flash::NorFlash;
use wavepass_journal::cells::Cell;
use wavepass_protocol::lists::{Kind, Version};

/// Entries that the journal goes on before its floor follows.
const ENTRIES: u32 = 4096;
/// Versions that the deny list goes on before its floor follows: an issue a minute for four hours.
const DENY_VERSIONS: u32 = 256;
const BYTES: usize = 4 * 8 + 4;

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// In the order of [`Kind::ALL`].
    pub(crate) lists: [Version; 4],
    /// The journal's next number.
    pub(crate) next: u32,
}

impl Kept {
    fn to_bytes(self) -> [u8; BYTES] {
        let mut out = [0; BYTES];
        let (lists, next) = out.split_at_mut(4 * 8);
        for (at, version) in lists.as_chunks_mut::<8>().0.iter_mut().zip(self.lists) {
            at[..4].copy_from_slice(&version.epoch.to_be_bytes());
            at[4..].copy_from_slice(&version.version.to_be_bytes());
        }
        next.copy_from_slice(&self.next.to_be_bytes());
        out
    }

    fn from_bytes(bytes: &[u8; BYTES]) -> Self {
        let number = |at: usize| u32::from_be_bytes(core::array::from_fn(|i| bytes[at + i]));
        Self {
            lists: core::array::from_fn(|i| Version { epoch: number(i * 8), version: number(i * 8 + 4) }),
            next: number(4 * 8),
        }
    }

    /// Whether the floor is to follow to `now`.
    fn is_behind(&self, now: &Self) -> bool {
        let lists = Kind::ALL.iter().zip(self.lists.iter().zip(&now.lists)).any(|(kind, (kept, now))| {
            let step = if *kind == Kind::Deny && kept.epoch == now.epoch && kept.version != 0 {
                DENY_VERSIONS
            } else {
                1
            };
            now > kept && (now.epoch > kept.epoch || now.version - kept.version >= step)
        });
        lists || now.next > 1 && (self.next <= 1 || now.next.saturating_sub(self.next) >= ENTRIES)
    }
}

pub(crate) struct Floor<F> {
    cell: Cell<F>,
    /// `None` where it cannot be read: then nothing is known of what was before, and nothing is written over it.
    kept: Option<Kept>,
}

impl<F: NorFlash> Floor<F> {
    /// The floor of a gate that has nothing yet.
    pub(crate) async fn commission(flash: F) -> Result<(), GateError<F::Error>> {
        let mut cell = Cell::open(flash).await?;
        Ok(cell.store(&Kept::default().to_bytes()).await?)
    }

    pub(crate) async fn open(flash: F) -> Result<Self, GateError<F::Error>> {
        let mut cell = Cell::open(flash).await?;
        let mut bytes = [0; BYTES];
        let sound = cell.len() == Some(BYTES);
        if sound {
            cell.load(&mut bytes).await?;
        }
        Ok(Self { cell, kept: sound.then(|| Kept::from_bytes(&bytes)) })
    }

    /// What is kept; `None` where it is damaged.
    pub(crate) const fn kept(&self) -> Option<&Kept> {
        self.kept.as_ref()
    }

    /// Follows, where it is time to. Never goes back.
    pub(crate) async fn follow(&mut self, now: Kept) -> Result<(), GateError<F::Error>> {
        let Some(kept) = self.kept.filter(|kept| kept.is_behind(&now)) else { return Ok(()) };
        let higher = Kept {
            lists: core::array::from_fn(|i| kept.lists[i].max(now.lists[i])),
            next: kept.next.max(now.next),
        };
        self.cell.store(&higher.to_bytes()).await?;
        self.kept = Some(higher);
        Ok(())
    }
}
