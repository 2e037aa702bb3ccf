//! A delta of the deny list, and how it is merged with the content it builds on: in one pass over both, with the
//! result written from beginning to end. Salt and number of buckets stay; what changes them comes as a whole list.
//!
//! Layout, numbers big-endian: keys removed 4 | keys added 4 | the removed, ascending, 7 bytes each | the added.

use super::{BLOCK_BUCKETS, DenyKey, ENTRY, MAX_BLOCK, Shape, Walk, Want, bucket_count};
use crate::lists::{ListError, MAX_ISSUE, PREFIX};
use core::ops::Range;

const KEY: usize = 7;
const COUNTS: usize = 8;
/// How many keys a delta that every gate takes may remove and add in all.
pub const MAX_CHANGES: usize = (MAX_ISSUE - PREFIX - COUNTS) / KEY;

/// What a delta does to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It leaves the list.
    Removed,
    /// It comes onto it.
    Added,
}

/// A delta's keys.
#[derive(Debug, Clone, Copy)]
pub struct Delta<'a> {
    removed: &'a [[u8; KEY]],
    added: &'a [[u8; KEY]],
}

impl<'a> Delta<'a> {
    /// Reads a delta and checks the order of its keys.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ListError> {
        let delta = Self::parsed(bytes)?;
        let ascends = |keys: &[[u8; KEY]]| keys.is_sorted_by(|a, b| a < b);
        if ascends(delta.removed) && ascends(delta.added) { Ok(delta) } else { Err(ListError::Content) }
    }

    /// Takes bytes that [`Delta::parse`] has accepted before.
    pub fn parsed(bytes: &'a [u8]) -> Result<Self, ListError> {
        let (counts, keys) = bytes.split_first_chunk::<COUNTS>().ok_or(ListError::Content)?;
        let [a, b, c, d, added @ ..] = *counts;
        let (removed, added) =
            (u32::from_be_bytes([a, b, c, d]) as usize, u32::from_be_bytes(added) as usize);
        let (keys, []) = keys.as_chunks::<KEY>() else { return Err(ListError::Content) };
        if removed.checked_add(added) != Some(keys.len()) {
            return Err(ListError::Content);
        }
        let (removed, added) = keys.split_at(removed);
        Ok(Self { removed, added })
    }

    /// Its changes, the removed first.
    pub fn changes(&self) -> impl Iterator<Item = (DenyKey, Change)> + 'a {
        let removed = self.removed.iter().map(|key| (DenyKey(*key), Change::Removed));
        removed.chain(self.added.iter().map(|key| (DenyKey(*key), Change::Added)))
    }

    /// Bytes of a delta of so many changes.
    pub const fn len_of(changes: usize) -> usize {
        COUNTS + changes * KEY
    }

    /// Writes a delta into `out`, which has [`Delta::len_of`] bytes.
    pub fn write(removed: &[DenyKey], added: &[DenyKey], out: &mut [u8]) -> Result<(), ListError> {
        let Some((counts, keys)) = out.split_first_chunk_mut::<COUNTS>() else {
            return Err(ListError::TooLarge);
        };
        if keys.len() != (removed.len() + added.len()) * KEY {
            return Err(ListError::TooLarge);
        }
        counts[..4].copy_from_slice(&(removed.len() as u32).to_be_bytes());
        counts[4..].copy_from_slice(&(added.len() as u32).to_be_bytes());
        for (place, key) in keys.as_chunks_mut().0.iter_mut().zip(removed.iter().chain(added)) {
            *place = key.0;
        }
        Ok(())
    }

    fn removed(&self, at: usize) -> Option<DenyKey> {
        self.removed.get(at).copied().map(DenyKey)
    }

    fn added(&self, at: usize) -> Option<DenyKey> {
        self.added.get(at).copied().map(DenyKey)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Header,
    /// The next block, and the number of its first entry in the result.
    Directory(u32, u32),
    Entries,
    Done,
}

/// A merge under way. Until [`Merge::want`] gives `None`, the caller reads that place of the base, hands it in, and
/// appends what comes out; what was not taken of it is asked for again. The delta is the same at every call.
#[derive(Debug, Clone)]
pub struct Merge {
    base: Shape,
    result: Shape,
    phase: Phase,
    walk: Walk,
    /// A key of the base that has been read and not yet written.
    held: Option<DenyKey>,
    removed: usize,
    added: usize,
}

impl Merge {
    /// The least room for what comes out of one step, and for what is read for it.
    pub const STEP: usize = MAX_BLOCK;

    /// Begins a merge; an error where the result's number of entries is impossible.
    pub fn new(base: Shape, delta: &Delta<'_>) -> Result<Self, ListError> {
        let entries = (base.entries as usize)
            .checked_add(delta.added.len())
            .and_then(|n| n.checked_sub(delta.removed.len()))
            .and_then(|n| u32::try_from(n).ok())
            .ok_or(ListError::Content)?;
        let result = Shape::new(base.salt, entries, base.bits)?;
        let walk = Walk::new(base);
        Ok(Self { base, result, phase: Phase::Header, walk, held: None, removed: 0, added: 0 })
    }

    /// The shape of the result.
    pub const fn result(&self) -> &Shape {
        &self.result
    }

    /// The place of the base that the next step reads, from its beginning: a block of the directory is read whole,
    /// of entries as many as there is room for. It may be empty.
    pub fn want(&self) -> Option<Range<usize>> {
        match self.phase {
            Phase::Header => Some(0..0),
            Phase::Directory(block, _) => Some(self.base.block(block)),
            Phase::Entries => Some(match self.walk.want() {
                Want::Block(range) | Want::Entries(range) => range,
                Want::Nothing => 0..0,
            }),
            Phase::Done => None,
        }
    }

    /// One step; gives how many bytes of `out` are to be appended to the result. `out` has room for [`Merge::STEP`].
    pub fn step(&mut self, delta: &Delta<'_>, read: &[u8], out: &mut [u8]) -> Result<usize, ListError> {
        match self.phase {
            Phase::Header => {
                let header = self.result.to_bytes();
                out.get_mut(..header.len()).ok_or(ListError::TooLarge)?.copy_from_slice(&header);
                self.phase = Phase::Directory(0, 0);
                Ok(header.len())
            }
            Phase::Directory(block, first) => self.directory(block, first, delta, read, out),
            Phase::Entries if matches!(self.walk.want(), Want::Block(_)) => self.walk.block(read).map(|()| 0),
            Phase::Entries => self.entries(delta, read, out),
            Phase::Done => Ok(0),
        }
    }

    fn directory(
        &mut self,
        block: u32,
        first: u32,
        delta: &Delta<'_>,
        read: &[u8],
        out: &mut [u8],
    ) -> Result<usize, ListError> {
        let len = self.base.block(block).len();
        let (Some(read), Some(out)) = (read.get(4..len), out.get_mut(..len)) else {
            return Err(ListError::Content);
        };
        let mut next = first;
        for (i, (new, &old)) in out[4..].iter_mut().zip(read).enumerate() {
            let bucket = block * BLOCK_BUCKETS as u32 + i as u32;
            let mut count = usize::from(old);
            while delta.added(self.added).is_some_and(|key| key.bucket() == bucket) {
                (count, self.added) = (count + 1, self.added + 1);
            }
            while delta.removed(self.removed).is_some_and(|key| key.bucket() == bucket) {
                count = count.checked_sub(1).ok_or(ListError::Content)?;
                self.removed += 1;
            }
            *new = bucket_count(count)?;
            next += count as u32;
        }
        out[..4].copy_from_slice(&first.to_be_bytes());
        self.phase = Phase::Directory(block + 1, next);
        if block + 1 == self.base.blocks() {
            // A key of a bucket that the list does not have was in no block's turn.
            let all = self.removed == delta.removed.len() && self.added == delta.added.len();
            if !all || next != self.result.entries {
                return Err(ListError::Content);
            }
            (self.phase, self.removed, self.added) = (Phase::Entries, 0, 0);
        }
        Ok(len)
    }

    fn entries(&mut self, delta: &Delta<'_>, read: &[u8], out: &mut [u8]) -> Result<usize, ListError> {
        let mut read = read.as_chunks::<ENTRY>().0.iter();
        let mut used = 0;
        for place in out.as_chunks_mut::<ENTRY>().0 {
            let Some(key) = self.next(delta, &mut read)? else { break };
            *place = key.entry();
            used += ENTRY;
        }
        Ok(used)
    }

    /// The next key of the result; `None` where the next block must be read first, or all is done.
    fn next<'r>(
        &mut self,
        delta: &Delta<'_>,
        read: &mut impl Iterator<Item = &'r [u8; ENTRY]>,
    ) -> Result<Option<DenyKey>, ListError> {
        loop {
            if self.held.is_none() {
                match (read.next(), self.walk.want()) {
                    (Some(entry), Want::Entries(_)) => self.held = Some(self.walk.entry(*entry)?),
                    (_, Want::Nothing) => {}
                    _ => return Ok(None),
                }
            }
            if let Some(removed) = delta.removed(self.removed) {
                if self.held == Some(removed) {
                    (self.held, self.removed) = (None, self.removed + 1);
                    continue;
                }
                if self.held.is_none_or(|held| removed < held) {
                    return Err(ListError::Content); // it was not on the list
                }
            }
            return match (self.held, delta.added(self.added)) {
                (Some(held), Some(added)) if held == added => Err(ListError::Content),
                (Some(held), added) if added.is_none_or(|added| held < added) => Ok(self.held.take()),
                (_, Some(added)) => {
                    self.added += 1;
                    Ok(Some(added))
                }
                (_, None) => {
                    self.phase = Phase::Done;
                    Ok(None)
                }
            };
        }
    }
}
