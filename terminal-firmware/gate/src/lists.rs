//! The signed lists in force, and a new one while its parts arrive.
//!
//! A list's head comes first: whose list it is, is known before anything is erased. A small list is gathered in
//! memory, checked, stored whole in its own cell and only then put in force; the deny list is [`Deny`]'s. A cut leaves
//! the old list or the new one, and what is refused changes nothing that is in force. At start the stored lists are
//! checked again.

use crate::GateError;
use crate::deny::{Deny, Outcome};
use core::ops::Range;
use embedded_storage_async::nor_flash::NorFlash;
use heapless::Vec;
use wavepass_journal::cells::Cell;
use wavepass_kernel::Asked;
use wavepass_protocol::deny::Delta;
use wavepass_protocol::ecc::{PublicKey, Verifier};
use wavepass_protocol::lists::{
    self, CaKey, GateConfig, HEAD, Header, Kind, ListError, MAX_ISSUE, MAX_REVOCATIONS, PREFIX, Revocation,
    SignedHead, SignedList, Suite, Version,
};
use wavepass_protocol::time::UnixMs;

/// A list that is arriving.
struct Arriving {
    kind: Kind,
    version: Version,
    total: usize,
    received: usize,
    place: Place,
}

/// Where the next bytes of a list go.
#[derive(Clone, Copy)]
enum Place {
    /// Into memory: who signed it is not known yet.
    Head,
    /// Into memory: a small list, or a delta.
    Memory(SignedHead),
    /// Into flash: a whole deny list.
    Flash(SignedHead),
}

pub(crate) struct Lists<F> {
    deny: Deny<F>,
    /// CA keys, revocations, configuration: see [`slot`].
    cells: [Cell<F>; 3],
    versions: [Version; 3],
    config: Option<GateConfig>,
    /// Older ones are not taken, although none may be in force: the gate has had these.
    not_below: [Version; 4],
    arriving: Option<Arriving>,
    /// The delta's end in the buffer.
    delta_end: usize,
    /// A deny list that was refused after it had arrived.
    refused: Option<(Version, ListError)>,
}

/// What is large of them: apart, since it is not moved.
pub(crate) struct ListMemory {
    ca: [u8; MAX_ISSUE],
    ca_len: usize,
    revocations: Vec<Revocation, MAX_REVOCATIONS>,
    /// A list that is arriving, or the delta that is being merged.
    buffer: [u8; MAX_ISSUE],
}

impl ListMemory {
    pub(crate) const fn new() -> Self {
        Self { ca: [0; MAX_ISSUE], ca_len: 0, revocations: Vec::new(), buffer: [0; MAX_ISSUE] }
    }

    /// Forgets what was in force.
    pub(crate) fn clear(&mut self) {
        self.ca_len = 0;
        self.revocations.clear();
    }

    pub(crate) fn ca_key(&self, rid: &[u8; 5], index: u8, suite: Suite) -> Option<CaKey<'_>> {
        let mut keys = lists::ca_keys(&self.ca[..self.ca_len]).map_while(Result::ok);
        keys.find(|k| k.rid == *rid && k.index == index && k.suite == suite)
    }

    pub(crate) fn is_revoked(&self, revocation: &Revocation) -> bool {
        self.revocations.contains(revocation)
    }
}

/// A small list in the buffer that may be put in force: everything about it has been checked.
struct Checked {
    header: Header,
    content: Range<usize>,
}

/// What a part of a list led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// More parts are due, or what came is being worked on.
    More,
    /// The list is in force.
    InForce(Kind),
    /// The list was refused; the one in force stays.
    Refused(ListError),
}

/// The place of a small list among its like; `None` for the deny list.
const fn slot(kind: Kind) -> Option<usize> {
    match kind {
        Kind::Deny => None,
        Kind::CaKeys => Some(0),
        Kind::Revocations => Some(1),
        Kind::Config => Some(2),
    }
}

impl<F: NorFlash> Lists<F> {
    pub(crate) async fn open<V: Verifier>(
        memory: &mut ListMemory,
        areas: [F; 4],
        not_below: [Version; 4],
        root: &PublicKey,
        verifier: &mut V,
    ) -> Result<Self, GateError<F::Error>> {
        let [deny, ca, revocations, config] = areas;
        let mut lists = Self {
            deny: Deny::open(Cell::open(deny).await?, not_below[0], root, verifier).await?,
            cells: [Cell::open(ca).await?, Cell::open(revocations).await?, Cell::open(config).await?],
            versions: [Version::default(); 3],
            config: None,
            not_below,
            arriving: None,
            delta_end: PREFIX,
            refused: None,
        };
        for kind in Kind::ALL {
            let Some(slot) = slot(kind) else { continue };
            let len = match lists.cells[slot].load(&mut memory.buffer).await {
                Ok(Some(len)) => len,
                // Stored by a gate with more room.
                Ok(None) | Err(wavepass_journal::Error::TooLong) => continue,
                Err(why) => return Err(why.into()),
            };
            // A list that no longer verifies is as good as none: the host sends it again.
            if let Ok(checked) = lists.check(memory, kind, len, root, verifier) {
                lists.put_in_force(memory, slot, checked);
            }
        }
        Ok(lists)
    }

    pub(crate) fn versions(&self) -> [Version; 4] {
        Kind::ALL.map(|kind| self.version(kind))
    }

    pub(crate) fn version(&self, kind: Kind) -> Version {
        slot(kind).map_or_else(|| self.deny.version(), |slot| self.versions[slot])
    }

    pub(crate) fn config(&self) -> Option<&GateConfig> {
        self.config.as_ref()
    }

    /// Whether an issue of a list is newer than the one in force, and not older than what the gate has had.
    fn is_news(&self, kind: Kind, version: Version) -> bool {
        let had = Kind::ALL.iter().zip(self.not_below).any(|(of, had)| *of == kind && version < had);
        !had && version > self.version(kind)
    }

    pub(crate) async fn denies(&mut self, asked: &Asked) -> Result<Option<bool>, GateError<F::Error>> {
        let had = self.deny.version();
        let denied = self.deny.denies(asked).await?;
        if denied.is_none() {
            self.not_below[0] = self.not_below[0].max(had);
        }
        Ok(denied)
    }

    /// True if the deny list is older than the configuration allows and the policy is to refuse.
    pub(crate) fn stale(&self, now: UnixMs) -> bool {
        self.config.as_ref().is_some_and(|config| {
            let age = now.0.saturating_sub(self.deny.issued().0);
            config.list_max_age_ms != 0 && age > config.list_max_age_ms && !config.stale_opens
        })
    }

    /// A deny list that was refused after it had arrived. Taken out by the call.
    pub(crate) fn take_refused(&mut self) -> Option<(Version, ListError)> {
        self.refused.take()
    }

    /// One slice of the work on a new deny list; true if there is more.
    pub(crate) async fn slice(&mut self, memory: &ListMemory) -> Result<bool, GateError<F::Error>> {
        if let Some(Arriving { place: Place::Flash(_), .. }) = self.arriving {
            return self.deny.erase_ahead().await;
        }
        let outcome = self.deny.slice(&memory.buffer[PREFIX..self.delta_end]).await?;
        if let Some(Outcome::Refused(version, why)) = outcome {
            self.refused = Some((version, why));
        }
        Ok(self.deny.in_work().is_some())
    }

    /// Takes one part. Parts come in order; anything else drops what has been gathered.
    pub(crate) async fn part<V: Verifier>(
        &mut self,
        memory: &mut ListMemory,
        kind: Kind,
        version: Version,
        place: (u32, u32),
        part: &[u8],
        (root, verifier): (&PublicKey, &mut V),
    ) -> Result<Taken, GateError<F::Error>> {
        let (total, offset) = (place.0 as usize, place.1 as usize);
        if offset == 0
            && let Err(taken) = self.begin(kind, version, total)
        {
            return Ok(taken);
        }
        let Some(arriving) = &self.arriving else { return Ok(Taken::More) };
        let fits = (arriving.kind, arriving.version, arriving.total, arriving.received)
            == (kind, version, total, offset)
            && part.len() <= total - offset;
        let taken =
            if fits { self.take(memory, part, root, verifier).await? } else { Err(ListError::Length) };
        Ok(taken.unwrap_or_else(|why| {
            // Of a list that came into force or is in work nothing is arriving any more.
            if self.arriving.take().is_some_and(|a| matches!(a.place, Place::Flash(_))) {
                self.deny.give_up();
            }
            Taken::Refused(why)
        }))
    }

    /// The first part of a list.
    fn begin(&mut self, kind: Kind, version: Version, total: usize) -> Result<(), Taken> {
        if !self.is_news(kind, version) {
            return Err(Taken::Refused(ListError::Older));
        }
        if kind == Kind::Deny && self.deny.in_work() == Some(version) {
            // Sent again after a break of the line; it will be told when it is in force.
            self.arriving = None;
            return Err(Taken::More);
        }
        let most =
            slot(kind).map_or(PREFIX + self.deny.room(), |slot| self.cells[slot].room().min(MAX_ISSUE));
        if total > most {
            return Err(Taken::Refused(ListError::TooLarge));
        }
        if total < PREFIX {
            return Err(Taken::Refused(ListError::Length));
        }
        // A newer list takes the place of one that is still in work, and so does what needs its memory.
        let in_flash = matches!(self.arriving, Some(Arriving { place: Place::Flash(_), .. }));
        if kind == Kind::Deny || in_flash || self.deny.needs_delta() {
            self.deny.give_up();
        }
        self.arriving = Some(Arriving { kind, version, total, received: 0, place: Place::Head });
        Ok(())
    }

    /// Puts the bytes of a part where they belong.
    async fn take<V: Verifier>(
        &mut self,
        memory: &mut ListMemory,
        part: &[u8],
        root: &PublicKey,
        verifier: &mut V,
    ) -> Result<Result<Taken, ListError>, GateError<F::Error>> {
        let mut rest = part;
        loop {
            let Some(arriving) = &mut self.arriving else { return Ok(Ok(Taken::More)) };
            let received = arriving.received;
            match arriving.place {
                Place::Head => {
                    let (head, after) = rest.split_at(rest.len().min(PREFIX - received));
                    memory.buffer[received..received + head.len()].copy_from_slice(head);
                    (arriving.received, rest) = (received + head.len(), after);
                    if arriving.received < PREFIX {
                        return Ok(Ok(Taken::More));
                    }
                    match self.place(memory, root, verifier).await? {
                        Ok(place) => self.arriving.as_mut().into_iter().for_each(|a| a.place = place),
                        Err(why) => return Ok(Err(why)),
                    }
                }
                Place::Memory(head) => {
                    memory.buffer[received..received + rest.len()].copy_from_slice(rest);
                    arriving.received += rest.len();
                    if arriving.received < arriving.total {
                        return Ok(Ok(Taken::More));
                    }
                    let (kind, total) = (arriving.kind, arriving.total);
                    return match slot(kind) {
                        None => self.delta(memory, head, total).await,
                        Some(slot) => self.small(memory, slot, kind, total, root, verifier).await,
                    };
                }
                Place::Flash(head) => {
                    arriving.received += rest.len();
                    let complete = arriving.received == arriving.total;
                    self.deny.append(rest).await?;
                    if complete {
                        self.arriving = None;
                        self.deny.complete(head);
                    }
                    return Ok(Ok(Taken::More));
                }
            }
        }
    }

    /// The head and the base are there: verifies them, and tells where the rest goes.
    async fn place<V: Verifier>(
        &mut self,
        memory: &ListMemory,
        root: &PublicKey,
        verifier: &mut V,
    ) -> Result<Result<Place, ListError>, GateError<F::Error>> {
        let place = self.head(memory, root, verifier);
        if let Ok(Place::Flash(head)) = &place
            && let Some(bytes) = memory.buffer.first_chunk()
        {
            self.deny.begin(head, bytes).await?;
        }
        Ok(place)
    }

    fn head<V: Verifier>(
        &self,
        memory: &ListMemory,
        root: &PublicKey,
        verifier: &mut V,
    ) -> Result<Place, ListError> {
        let arriving = self.arriving.as_ref().ok_or(ListError::Length)?;
        let bytes = memory.buffer.first_chunk().ok_or(ListError::Length)?;
        let head = SignedHead::verify(bytes, root, verifier)?;
        let (header, content) = (head.header(), head.content_len() as usize);
        if header.kind != arriving.kind {
            return Err(ListError::Format);
        }
        if !self.is_news(header.kind, header.version) {
            return Err(ListError::Older);
        }
        if header.kind == Kind::Deny && content > self.deny.room() {
            return Err(ListError::TooLarge);
        }
        let base = memory.buffer[HEAD..PREFIX].iter().fold(0, |n, &b| n << 8 | u32::from(b));
        if base == 0 {
            let whole = PREFIX.checked_add(content) == Some(arriving.total);
            return match header.kind {
                _ if !whole => Err(ListError::Length),
                Kind::Deny => Ok(Place::Flash(head)),
                _ => Ok(Place::Memory(head)),
            };
        }
        let is_base = Version { epoch: header.version.epoch, version: base } == self.deny.version();
        if header.kind != Kind::Deny || !is_base {
            return Err(ListError::Base);
        }
        if arriving.total > MAX_ISSUE { Err(ListError::TooLarge) } else { Ok(Place::Memory(head)) }
    }

    /// A delta of the deny list is there.
    async fn delta(
        &mut self,
        memory: &ListMemory,
        head: SignedHead,
        total: usize,
    ) -> Result<Result<Taken, ListError>, GateError<F::Error>> {
        let Some(bytes) = memory.buffer.first_chunk() else { return Ok(Err(ListError::Length)) };
        let delta = match Delta::parse(&memory.buffer[PREFIX..total]) {
            Ok(delta) => delta,
            Err(why) => return Ok(Err(why)),
        };
        self.delta_end = total;
        let begun = self.deny.merge(head, bytes, &delta).await?;
        Ok(begun.map(|()| {
            self.arriving = None;
            Taken::More
        }))
    }

    /// A small list is there.
    async fn small<V: Verifier>(
        &mut self,
        memory: &mut ListMemory,
        slot: usize,
        kind: Kind,
        total: usize,
        root: &PublicKey,
        verifier: &mut V,
    ) -> Result<Result<Taken, ListError>, GateError<F::Error>> {
        let checked = match self.check(memory, kind, total, root, verifier) {
            Ok(checked) => checked,
            Err(why) => return Ok(Err(why)),
        };
        self.arriving = None;
        self.cells[slot].store(&memory.buffer[..total]).await?;
        self.put_in_force(memory, slot, checked);
        Ok(Ok(Taken::InForce(kind)))
    }

    /// Checks the small list in the buffer wholly: signatures, version, content, room.
    fn check<V: Verifier>(
        &self,
        memory: &ListMemory,
        kind: Kind,
        len: usize,
        root: &PublicKey,
        verifier: &mut V,
    ) -> Result<Checked, ListError> {
        let bytes = memory.buffer.get(..len).ok_or(ListError::TooLarge)?;
        let SignedList { header, content } = SignedList::verify(bytes, root, verifier)?;
        if header.kind != kind {
            return Err(ListError::Format);
        }
        if !self.is_news(kind, header.version) {
            return Err(ListError::Older);
        }
        match kind {
            Kind::Deny => return Err(ListError::Format),
            Kind::CaKeys => {
                lists::check_ca_keys(content)?;
            }
            Kind::Revocations => {
                let mut number = 0;
                for revocation in lists::revocations(content) {
                    revocation?;
                    number += 1;
                }
                if number > MAX_REVOCATIONS {
                    return Err(ListError::TooLarge);
                }
            }
            Kind::Config => works(&GateConfig::parse(content)?)?,
        }
        Ok(Checked { header, content: PREFIX..len })
    }

    /// Takes a checked list over.
    fn put_in_force(&mut self, memory: &mut ListMemory, slot: usize, Checked { header, content }: Checked) {
        let content = &memory.buffer[content];
        match header.kind {
            Kind::Deny => {} // has no slot
            Kind::CaKeys => {
                memory.ca_len = content.len();
                memory.ca[..content.len()].copy_from_slice(content);
            }
            Kind::Revocations => {
                // They were checked: sound, and no more than there is room for.
                memory.revocations.clear();
                let sound = lists::revocations(content).map_while(Result::ok);
                memory.revocations.extend(sound.take(MAX_REVOCATIONS));
            }
            Kind::Config => self.config = GateConfig::parse(content).ok(),
        }
        self.versions[slot] = header.version;
    }
}

/// A configuration that the kernel cannot work by must not replace one that it can. Network and operator are the gate's
/// own and not in question here.
#[inline(never)]
fn works(config: &GateConfig) -> Result<(), ListError> {
    wavepass_kernel::Config::new(config, [0; 4], 0).map_err(|_| ListError::Content)?;
    Ok(())
}
