//! The deny list in flash: looked up there, and replaced there.
//!
//! The list is larger than memory, so that only its [`Shape`] is held. A new one comes whole, written as its parts
//! arrive, or as a delta, merged with the old list; either way it is written beside the old one, read back, hashed
//! and checked in slices of idle time, and then put in force by one record. Until then taps are decided by the old
//! list, and a cut leaves the old one or the new one. Stored are the signed head and the content, so that a start
//! verifies both again.

use crate::GateError;
use embedded_storage_async::nor_flash::NorFlash;
use sha2::{Digest, Sha256};
use wavepass_journal::cells::Cell;
use wavepass_kernel::Asked;
use wavepass_protocol::deny::{self, Delta, MAX_BLOCK, MAX_READ, Merge, Shape, Walk, Want};
use wavepass_protocol::ecc::{PublicKey, Verifier};
use wavepass_protocol::lists::{HEAD, Kind, ListError, SignedHead, Version};
use wavepass_protocol::time::UnixMs;

/// Bytes that one slice of idle time writes or checks: less than a unit of flash, so that a card in the field waits for
/// one erasure at most.
const SLICE: usize = 2048;
/// Bytes read or written at once.
const CHUNK: usize = MAX_READ;
const _: () = assert!(CHUNK >= Merge::STEP && CHUNK >= MAX_BLOCK);

struct InForce {
    version: Version,
    issued: UnixMs,
    shape: Shape,
}

/// A new list between its arrival and its coming into force.
enum Work {
    /// The delta is merged with the list in force.
    Merging(SignedHead, Merge),
    /// What was written is hashed, up to this place of the content.
    Hashing { head: SignedHead, hash: Sha256, at: usize, merged: bool },
    /// What came whole is checked for its form; a merge has no other result.
    Walking(SignedHead, Walk),
}

/// What became of a new list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    InForce,
    Refused(Version, ListError),
}

pub(crate) struct Deny<F> {
    cell: Cell<F>,
    in_force: Option<InForce>,
    work: Option<Work>,
}

impl<F: NorFlash> Deny<F> {
    /// Takes the stored list up. One that no longer verifies, or is an older one than the gate has had, is as good as
    /// none: the host sends it again.
    pub(crate) async fn open<V: Verifier>(
        cell: Cell<F>,
        not_below: Version,
        root: &PublicKey,
        verifier: &mut V,
    ) -> Result<Self, GateError<F::Error>> {
        let mut deny = Self { cell, in_force: None, work: None };
        let Some(content) = deny.cell.len().and_then(|len| len.checked_sub(HEAD)) else { return Ok(deny) };
        let mut head = [0; HEAD];
        deny.cell.read(0, &mut head).await?;
        let Ok(head) = SignedHead::verify(&head, root, verifier) else { return Ok(deny) };
        if head.header().kind != Kind::Deny || head.content_len() as usize != content {
            return Ok(deny);
        }
        let mut hash = Sha256::new();
        let mut chunk = [0; CHUNK];
        let mut at = 0;
        while at < content {
            let n = CHUNK.min(content - at);
            deny.cell.read(HEAD + at, &mut chunk[..n]).await?;
            hash.update(&chunk[..n]);
            at += n;
        }
        if head.check(hash).is_ok() && head.header().version >= not_below {
            deny.put_in_force(&head).await?;
        }
        Ok(deny)
    }

    /// Makes the content in the cell the list in force, where it is one.
    async fn put_in_force(&mut self, head: &SignedHead) -> Result<(), GateError<F::Error>> {
        let mut header = [0; deny::HEADER];
        let content = head.content_len() as usize;
        if content < header.len() {
            return Ok(());
        }
        self.cell.read(HEAD, &mut header).await?;
        self.in_force = Shape::parse(&header)
            .ok()
            .filter(|shape| shape.content_len() == content)
            .map(|shape| InForce { version: head.header().version, issued: head.header().issued, shape });
        Ok(())
    }

    /// The version in force; zero where there is none.
    pub(crate) fn version(&self) -> Version {
        self.in_force.as_ref().map_or_else(Version::default, |list| list.version)
    }

    /// When it was issued; long ago where there is none.
    pub(crate) fn issued(&self) -> UnixMs {
        self.in_force.as_ref().map_or(UnixMs(0), |list| list.issued)
    }

    /// The longest content there is room for.
    pub(crate) fn room(&self) -> usize {
        self.cell.room().saturating_sub(HEAD)
    }

    /// The gate's look-up: two short reads. `None` where there is no list, or where its flash gives something else than
    /// was checked when it came into force: then there is none any more, and the host sends it again.
    pub(crate) async fn denies(&mut self, asked: &Asked) -> Result<Option<bool>, GateError<F::Error>> {
        let Some(list) = &self.in_force else { return Ok(None) };
        let look_up = list.shape.look_up(&asked.token, asked.expiry);
        let mut read = [0; CHUNK];
        let block = look_up.block();
        let bytes = &mut read[..block.len()];
        self.cell.read(HEAD + block.start, bytes).await?;
        let bucket = look_up.bucket(bytes).ok().filter(|bucket| bucket.len() <= read.len());
        let Some(bucket) = bucket else {
            self.in_force = None;
            return Ok(None);
        };
        let bytes = &mut read[..bucket.len()];
        self.cell.read(HEAD + bucket.start, bytes).await?;
        Ok(Some(look_up.hits(bytes)))
    }

    /// The version that is being made, if any.
    pub(crate) fn in_work(&self) -> Option<Version> {
        self.work.as_ref().map(|work| match work {
            Work::Merging(head, _) | Work::Hashing { head, .. } | Work::Walking(head, _) => {
                head.header().version
            }
        })
    }

    /// True while the delta is still needed.
    pub(crate) fn needs_delta(&self) -> bool {
        matches!(self.work, Some(Work::Merging(..)))
    }

    /// Gives up what is being made or written; the list in force stays.
    pub(crate) fn give_up(&mut self) {
        self.work = None;
        self.cell.discard();
    }

    /// Begins to write a list that comes whole.
    pub(crate) async fn begin(
        &mut self,
        head: &SignedHead,
        bytes: &[u8; HEAD],
    ) -> Result<(), GateError<F::Error>> {
        self.work = None;
        self.cell.begin(HEAD + head.content_len() as usize)?;
        Ok(self.cell.append(bytes).await?)
    }

    /// Writes the next bytes of its content.
    pub(crate) async fn append(&mut self, part: &[u8]) -> Result<(), GateError<F::Error>> {
        Ok(self.cell.append(part).await?)
    }

    /// Erases ahead of them; true if there was something to erase.
    pub(crate) async fn erase_ahead(&mut self) -> Result<bool, GateError<F::Error>> {
        Ok(self.cell.prepare().await?)
    }

    /// All of it is there: its check begins.
    pub(crate) fn complete(&mut self, head: SignedHead) {
        self.work = Some(Work::Hashing { head, hash: Sha256::new(), at: 0, merged: false });
    }

    /// Begins to merge a delta on the list in force.
    pub(crate) async fn merge(
        &mut self,
        head: SignedHead,
        bytes: &[u8; HEAD],
        delta: &Delta<'_>,
    ) -> Result<Result<(), ListError>, GateError<F::Error>> {
        let Some(list) = &self.in_force else { return Ok(Err(ListError::Base)) };
        let merge = match Merge::new(list.shape, delta) {
            Ok(merge) if merge.result().content_len() == head.content_len() as usize => merge,
            Ok(_) => return Ok(Err(ListError::Hash)),
            Err(why) => return Ok(Err(why)),
        };
        self.begin(&head, bytes).await?;
        self.work = Some(Work::Merging(head, merge));
        Ok(Ok(()))
    }

    /// One slice of the work on a new list; `delta` is the one that [`Deny::merge`] began with. `None` while there is
    /// more to do, or nothing.
    pub(crate) async fn slice(&mut self, delta: &[u8]) -> Result<Option<Outcome>, GateError<F::Error>> {
        let Some(work) = self.work.take() else { return Ok(None) };
        let version = match &work {
            Work::Merging(head, _) | Work::Hashing { head, .. } | Work::Walking(head, _) => {
                head.header().version
            }
        };
        let done = match work {
            Work::Merging(head, merge) => self.merge_slice(head, merge, delta).await?,
            Work::Hashing { head, hash, at, merged } => self.hash_slice(head, hash, at, merged).await?,
            Work::Walking(head, walk) => self.walk_slice(head, walk).await?,
        };
        Ok(match done {
            Ok(Some(work)) => {
                self.work = Some(work);
                None
            }
            Ok(None) => Some(Outcome::InForce),
            Err(why) => {
                self.give_up();
                Some(Outcome::Refused(version, why))
            }
        })
    }

    async fn merge_slice(&mut self, head: SignedHead, mut merge: Merge, delta: &[u8]) -> Sliced<F> {
        let delta = match Delta::parsed(delta) {
            Ok(delta) => delta,
            Err(why) => return Ok(Err(why)),
        };
        let (mut read, mut out) = ([0; CHUNK], [0; CHUNK]);
        let mut done = 0;
        while done < SLICE {
            let Some(range) = merge.want() else {
                return Ok(Ok(Some(Work::Hashing { head, hash: Sha256::new(), at: 0, merged: true })));
            };
            let n = range.len().min(CHUNK);
            self.cell.read(HEAD + range.start, &mut read[..n]).await?;
            match merge.step(&delta, &read[..n], &mut out) {
                Ok(len) => self.cell.append(&out[..len]).await?,
                Err(why) => return Ok(Err(why)),
            }
            done += n.max(1);
        }
        Ok(Ok(Some(Work::Merging(head, merge))))
    }

    async fn hash_slice(&mut self, head: SignedHead, hash: Sha256, at: usize, merged: bool) -> Sliced<F> {
        let (mut hash, mut at) = (hash, at);
        let len = head.content_len() as usize;
        let end = len.min(at + SLICE);
        let mut chunk = [0; CHUNK];
        while at < end {
            let n = CHUNK.min(end - at);
            self.cell.read_new(HEAD + at, &mut chunk[..n]).await?;
            hash.update(&chunk[..n]);
            at += n;
        }
        if at < len {
            return Ok(Ok(Some(Work::Hashing { head, hash, at, merged })));
        }
        if let Err(why) = head.check(hash) {
            return Ok(Err(why));
        }
        if merged {
            return self.commit(&head).await;
        }
        let mut header = [0; deny::HEADER];
        if len < header.len() {
            return Ok(Err(ListError::Content));
        }
        self.cell.read_new(HEAD, &mut header).await?;
        Ok(match Shape::parse(&header) {
            Ok(shape) if shape.content_len() == len => Ok(Some(Work::Walking(head, Walk::new(shape)))),
            Ok(_) => Err(ListError::Content),
            Err(why) => Err(why),
        })
    }

    async fn walk_slice(&mut self, head: SignedHead, mut walk: Walk) -> Sliced<F> {
        let mut read = [0; CHUNK];
        let mut done = 0;
        while done < SLICE {
            let (range, is_block) = match walk.want() {
                Want::Block(range) => (range, true),
                Want::Entries(range) => (range, false),
                Want::Nothing => return self.commit(&head).await,
            };
            let bytes = &mut read[..range.len().min(CHUNK)];
            self.cell.read_new(HEAD + range.start, bytes).await?;
            let sound = if is_block {
                walk.block(bytes)
            } else {
                bytes.as_chunks().0.iter().try_for_each(|entry| walk.entry(*entry).map(drop))
            };
            if let Err(why) = sound {
                return Ok(Err(why));
            }
            done += bytes.len();
        }
        Ok(Ok(Some(Work::Walking(head, walk))))
    }

    async fn commit(&mut self, head: &SignedHead) -> Sliced<F> {
        self.cell.commit().await?;
        self.put_in_force(head).await?;
        Ok(Ok(None))
    }
}

/// What a slice leaves to do; `None`: the list is in force.
type Sliced<F> = Result<
    Result<Option<Work>, ListError>,
    GateError<<F as embedded_storage_async::nor_flash::ErrorType>::Error>,
>;
