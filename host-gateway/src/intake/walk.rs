//! A group on its way through the checks of sequences and counters.
//!
//! The watermark of a key id rises over what is accepted, what its gate sent and could not be opened, and what is known to be lost, so
//! that "acknowledged up to n" is true of every number. What somebody else brings and cannot be opened never moves it. Below it the store
//! tells what is there: an entry that was set aside or lost and arrives after all is accepted late.

use super::brought::Brought;
use super::forgotten;
use super::prepare::{Body, Content, Prepared};
use super::rows::{self, Accepted};
use super::watermarks::{self, Mark, key_id, number};
use super::{Item, Source, Verdict};
use crate::gates;
use crate::store::db::{Conn, query, read_many};
use crate::store::{StoreError, content_id, sql};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use wavepass_protocol::dukpt::KeyId;
use wavepass_protocol::seal::{Chain, Header, Sealed};
use wavepass_protocol::time::UnixMs;

/// When a group is written, and how many entries that do not open are kept of whoever brings them on such a day.
#[derive(Clone, Copy)]
pub(super) struct At {
    pub(super) now: UnixMs,
    pub(super) day: i64,
    pub(super) set_aside_a_day: i64,
}

/// Per key id, the number that was missing when an entry after it came. Only a hint against taking a damaged entry for the
/// missing one; losing it costs a question to the gate.
#[derive(Default)]
pub(super) struct OpenGaps(Mutex<HashMap<KeyId, u32>>);

impl OpenGaps {
    fn locked(&self) -> MutexGuard<'_, HashMap<KeyId, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One group on its way through the checks. Rows are gathered and written at the end.
pub(super) struct Walk<'a> {
    directory: &'a gates::Directory,
    open_gaps: &'a OpenGaps,
    now: UnixMs,
    marks: HashMap<KeyId, Mark>,
    /// What the store has of numbers at or below the watermark that came again; nothing of what was forgotten.
    known: HashMap<(KeyId, u32), Vec<u8>>,
    pub(super) accepted: Vec<Accepted<'a>>,
    by_place: HashMap<(KeyId, u32), usize>,
    pub(super) brought: Brought,
}

impl<'a> Walk<'a> {
    pub(super) async fn begin(
        conn: &mut Conn,
        jobs: &[Prepared],
        directory: &'a gates::Directory,
        open_gaps: &'a OpenGaps,
        At { now, day, set_aside_a_day }: At,
    ) -> Result<Self, StoreError> {
        let mut keys: Vec<KeyId> = jobs.iter().flat_map(keys_of).collect();
        keys.sort_unstable();
        keys.dedup();
        let marks = watermarks::lock_in(conn, &keys, directory).await?;
        let mut below = Vec::new();
        for header in jobs.iter().flat_map(|j| &j.contents).filter_map(|c| match c {
            Content::Open { header, .. } | Content::Shut { header: Some(header), .. } => Some(header),
            _ => None,
        }) {
            if marks.get(&header.ksn.key_id).is_some_and(|m| header.sequence <= m.acked) {
                below.push((header.ksn.key_id, header.sequence));
            }
        }
        let mut known = load_known(conn, &below).await?;
        let missing = below.iter().copied().filter(|place| !known.contains_key(place));
        for place in forgotten::places_in(conn, missing).await? {
            known.insert(place, Vec::new());
        }
        let brought = Brought::begin(conn, jobs, (day, set_aside_a_day)).await?;
        let (accepted, by_place) = (Vec::new(), HashMap::new());
        Ok(Self { directory, open_gaps, now, marks, known, accepted, by_place, brought })
    }

    fn acked(&self, key_id: KeyId) -> u32 {
        self.marks.get(&key_id).map_or(0, |m| m.acked)
    }

    /// Raises the watermark to `to`; `tail` is what the next entry must say of that one, where it is known.
    fn advance(&mut self, key_id: KeyId, to: u32, tail: Option<Chain>) {
        let mark = self.marks.entry(key_id).or_default();
        if to > mark.acked || to == mark.acked && tail.is_some() {
            mark.tail = tail;
        }
        mark.acked = mark.acked.max(to);
        mark.changed = true;
        self.open_gaps.locked().remove(&key_id);
    }

    pub(super) async fn take(
        &mut self,
        conn: &mut Conn,
        source: Source,
        item: &'a Item,
        content: &'a Content,
    ) -> Result<Verdict, StoreError> {
        let place = match (item, content) {
            (Item::InPlaceOf { place, .. }, _) => Some(*place),
            (Item::PastGap(_), Content::Open { header, .. }) => {
                Some(self.acked(header.ksn.key_id).saturating_add(1))
            }
            _ => None,
        };
        match (item, content) {
            (Item::Lost { key_id, from, upto }, _) => self.lost(conn, *key_id, *from, *upto).await,
            (_, Content::Open { header, body }) => {
                self.open(conn, source, item.sealed(), header, body, place).await
            }
            (_, Content::Shut { header, why }) => {
                self.shut(conn, source, item.sealed(), header.as_ref(), why.word(), place).await
            }
            // Entries always have a content of their own.
            (_, Content::Notice) => Ok(Verdict::Noted),
        }
    }

    async fn lost(
        &mut self,
        conn: &mut Conn,
        key_id: KeyId,
        from: u32,
        upto: u32,
    ) -> Result<Verdict, StoreError> {
        let due = self.acked(key_id).saturating_add(1);
        if from > due {
            return Ok(Verdict::Gap { due });
        }
        if upto >= due {
            self.gap(conn, key_id, due, upto).await?;
            self.advance(key_id, upto, None);
        }
        Ok(Verdict::Noted)
    }

    async fn gap(&self, conn: &mut Conn, key_id: KeyId, from: u32, upto: u32) -> Result<(), StoreError> {
        tracing::warn!(key_id = sql::hex(&key_id.0), from, upto, "entries of a gate are lost");
        self.raise(conn, "gap", key_id, &format!("{from}-{upto}")).await
    }

    async fn raise(
        &self,
        conn: &mut Conn,
        kind: &str,
        key_id: KeyId,
        detail: &str,
    ) -> Result<(), StoreError> {
        rows::raise(conn, kind, key_id, detail, self.now).await
    }

    /// An entry that opened: genuine, and sealed by the gate whose key id it names.
    async fn open(
        &mut self,
        conn: &mut Conn,
        source: Source,
        sealed: &'a [u8],
        header: &Header,
        body: &'a Body,
        place: Option<u32>,
    ) -> Result<Verdict, StoreError> {
        let key_id = header.ksn.key_id;
        if let Some(why) = self.is_foreign(source, key_id) {
            return self.set_aside(conn, source, sealed, Some(header), why).await;
        }
        let due = self.acked(key_id).saturating_add(1);
        if header.sequence > due {
            if place != Some(due) {
                self.open_gaps.locked().insert(key_id, due);
                return Ok(Verdict::Gap { due });
            }
            // Asked for, and the gate has gone on without it, or a person says so: it is gone.
            self.gap(conn, key_id, due, header.sequence - 1).await?;
        } else if header.sequence < due
            && let Some(verdict) = self.below(conn, source, header, sealed).await?
        {
            return Ok(verdict);
        }
        let late = header.sequence < due;
        if self.counter_is_used(conn, header, late).await? {
            let verdict = self.set_aside(conn, source, sealed, Some(header), "counter_repeat").await?;
            self.advance(key_id, header.sequence, None);
            return Ok(verdict);
        }
        self.compare_chain(conn, header, sealed, late).await?;
        self.by_place.insert((key_id, header.sequence), self.accepted.len());
        self.accepted.push(Accepted { header: *header, sealed, body, late });
        self.advance(key_id, header.sequence, Some(Chain::after(sealed)));
        if let Some(mark) = self.marks.get_mut(&key_id) {
            mark.last_counter = mark.last_counter.max(header.ksn.counter);
        }
        Ok(Verdict::Accepted)
    }

    /// Compares an entry with its neighbours: each names the tag of the one before it. One that does not fit is genuine
    /// all the same, since its seal has proven it; but somebody has changed what the gate holds.
    async fn compare_chain(
        &self,
        conn: &mut Conn,
        header: &Header,
        sealed: &[u8],
        late: bool,
    ) -> Result<(), StoreError> {
        let (key_id, sequence) = (header.ksn.key_id, header.sequence);
        // In order, the entry before it is the watermark's, and none comes after it. Only what is late asks the store.
        let before = if !late {
            let mark = self.marks.get(&key_id).copied().unwrap_or_default();
            mark.tail.filter(|_| mark.acked.checked_add(1) == Some(sequence))
        } else if sequence == 1 {
            Some(Chain::START)
        } else {
            self.sealed_at(conn, key_id, sequence - 1).await?.map(|sealed| Chain::after(&sealed))
        };
        if before.is_some_and(|before| before != header.chain) {
            self.broken_chain(conn, key_id, sequence).await?;
        }
        if late && let Some(next) = self.sealed_at(conn, key_id, sequence.saturating_add(1)).await? {
            let follows = Sealed::parse(&next).is_ok_and(|s| s.header.chain == Chain::after(sealed));
            if !follows {
                self.broken_chain(conn, key_id, sequence.saturating_add(1)).await?;
            }
        }
        Ok(())
    }

    async fn broken_chain(&self, conn: &mut Conn, key_id: KeyId, sequence: u32) -> Result<(), StoreError> {
        tracing::warn!(key_id = sql::hex(&key_id.0), sequence, "an entry does not follow the one before it");
        let detail = format!("{sequence} does not follow the {} that is here", sequence - 1);
        self.raise(conn, "chain", key_id, &detail).await
    }

    /// The entry at a place, from this group or the store; none where it was made unreadable.
    async fn sealed_at(
        &self,
        conn: &mut Conn,
        key_id: KeyId,
        sequence: u32,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(&i) = self.by_place.get(&(key_id, sequence)) {
            return Ok(Some(self.accepted[i].sealed.to_vec()));
        }
        let found: Option<Vec<u8>> = query("SELECT sealed FROM entries WHERE key_id = ? AND sequence = ?")
            .bind(&key_id.0[..])
            .bind(i64::from(sequence))
            .optional(conn)
            .await?;
        Ok(found.filter(|sealed| !sealed.is_empty()))
    }

    /// What to say of a number at or below the watermark; `None` where nothing stands in its place.
    async fn below(
        &mut self,
        conn: &mut Conn,
        source: Source,
        header: &Header,
        sealed: &[u8],
    ) -> Result<Option<Verdict>, StoreError> {
        let place = (header.ksn.key_id, header.sequence);
        let there = match self.by_place.get(&place) {
            Some(&i) => Some(self.accepted[i].sealed),
            None => self.known.get(&place).map(Vec::as_slice),
        };
        match there {
            None => Ok(None),
            // Where an entry stood and was forgotten, nothing counts any more, and what came cannot be compared.
            Some(there) if there.is_empty() || there == sealed => Ok(Some(Verdict::Repeated)),
            Some(_) => self.set_aside(conn, source, sealed, Some(header), "conflict").await.map(Some),
        }
    }

    /// Rule 3: a KSN counts once. Counters rise with sequence numbers, so that only the exception asks the store.
    async fn counter_is_used(
        &self,
        conn: &mut Conn,
        header: &Header,
        late: bool,
    ) -> Result<bool, StoreError> {
        let last = self.marks.get(&header.ksn.key_id).map_or(0, |m| m.last_counter);
        if !late && header.ksn.counter > last {
            return Ok(false);
        }
        if self.accepted.iter().any(|a| a.header.ksn == header.ksn) {
            return Ok(true);
        }
        let found = query(
            "SELECT 1 FROM entries WHERE key_id = ?1 AND counter = ?2 UNION ALL SELECT 1 FROM forgotten_entries \
             WHERE key_id = ?1 AND from_counter <= ?2 AND upto_counter >= ?2",
        )
        .bind(&header.ksn.key_id.0[..])
        .bind(i64::from(header.ksn.counter))
        .fetch_optional(conn)
        .await?;
        Ok(found.is_some())
    }

    /// An entry that does not open.
    async fn shut(
        &mut self,
        conn: &mut Conn,
        source: Source,
        sealed: &'a [u8],
        header: Option<&Header>,
        why: &'static str,
        place: Option<u32>,
    ) -> Result<Verdict, StoreError> {
        let Source::Gate(own) = source else {
            return self.shut_in_batch(conn, source, sealed, header, why).await;
        };
        // A damaged header may name any key; the entry stands in the gate's own journal.
        let due = self.acked(own).saturating_add(1);
        let named = header.filter(|h| h.ksn.key_id == own).map(|h| h.sequence);
        let stands_at = match (named, place) {
            (_, Some(place)) if place == due => due,
            (Some(sequence), _) if sequence < due => {
                return self.shut_again(conn, source, sealed, header, why).await;
            }
            (Some(sequence), _) if sequence == due => due,
            (None, _) if !self.open_gaps.locked().contains_key(&own) => due,
            _ => {
                self.open_gaps.locked().insert(own, due);
                return Ok(Verdict::Gap { due });
            }
        };
        let verdict = self.set_aside(conn, source, sealed, header, why).await?;
        self.advance(own, stands_at, None);
        Ok(verdict)
    }

    /// An entry that does not open and that its gate did not bring. It may be damaged on its way, or made up, and says nothing of what
    /// stands in the gate's journal: its place stays due, so that the gate keeps what it has there until the store has it.
    async fn shut_in_batch(
        &mut self,
        conn: &mut Conn,
        source: Source,
        sealed: &[u8],
        header: Option<&Header>,
        why: &'static str,
    ) -> Result<Verdict, StoreError> {
        let key_id = header.map(|h| h.ksn.key_id);
        let why = key_id.and_then(|key_id| self.is_foreign(source, key_id)).unwrap_or(why);
        let due = key_id.map_or(0, |key_id| self.acked(key_id).saturating_add(1));
        match header {
            Some(header) if why != "unknown_key" && header.sequence > due => Ok(Verdict::Gap { due }),
            Some(header) if why != "unknown_key" && header.sequence < due => {
                self.shut_again(conn, source, sealed, Some(header), why).await
            }
            _ => self.set_aside_or_count(conn, source, sealed, header, why).await,
        }
    }

    /// One that claims a place that is taken or settled: where those very bytes were set aside, it came again.
    async fn shut_again(
        &mut self,
        conn: &mut Conn,
        source: Source,
        sealed: &[u8],
        header: Option<&Header>,
        why: &'static str,
    ) -> Result<Verdict, StoreError> {
        let again = is_set_aside(conn, sealed).await?;
        let verdict = self.set_aside_or_count(conn, source, sealed, header, why).await?;
        Ok(if again { Verdict::Repeated } else { verdict })
    }

    /// Keeps bytes that do not open, unless whoever brings them has brought too many of them today.
    async fn set_aside_or_count(
        &mut self,
        conn: &mut Conn,
        source: Source,
        sealed: &[u8],
        header: Option<&Header>,
        why: &'static str,
    ) -> Result<Verdict, StoreError> {
        if let Some(limit) = self.brought.full(source)
            && !is_set_aside(conn, sealed).await?
        {
            return Ok(Verdict::NotKept { why, limit });
        }
        self.set_aside(conn, source, sealed, header, why).await
    }

    /// A gate speaks for its own key only; a batch only for keys that were given out.
    fn is_foreign(&self, source: Source, key_id: KeyId) -> Option<&'static str> {
        match source {
            Source::Gate(own) if own != key_id => Some("foreign_key"),
            Source::Gate(_) => None,
            Source::Concentrator(_) | Source::Batch => {
                self.directory.by_key(key_id).is_none().then_some("unknown_key")
            }
        }
    }

    /// Keeps bytes whole, once, and raises a break.
    async fn set_aside(
        &mut self,
        conn: &mut Conn,
        source: Source,
        sealed: &[u8],
        header: Option<&Header>,
        why: &'static str,
    ) -> Result<Verdict, StoreError> {
        let key_id = header.map(|h| h.ksn.key_id);
        let id = content_id(&[sealed]);
        let by = source.concentrator();
        let statement = "INSERT INTO set_aside (id, key_id, sequence, why, received_ms, sealed, concentrator) \
             VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
        let kept = query(statement)
            .bind(&id)
            .bind(key_id.map(|k| k.0.to_vec()))
            .bind(header.map(|h| i64::from(h.sequence)))
            .bind(why)
            .bind(sql::ms(self.now))
            .bind(sealed)
            .bind(by.map(|id| id.to_string()))
            .execute(&mut *conn)
            .await?;
        if kept > 0 {
            self.brought.set_aside(source);
        } else {
            // Whoever brought it first is in the break.
            return Ok(Verdict::SetAside(why));
        }
        let kind = match why {
            "counter_repeat" | "conflict" | "foreign_key" | "unknown_key" => why,
            _ => "unopened",
        };
        let place = header.map(|h| format!(" {}", h.sequence)).unwrap_or_default();
        let by = by.map(|id| format!(" by {id}")).unwrap_or_default();
        let detail = format!("{why}{place}{by} {id}");
        self.raise(conn, kind, key_id.unwrap_or(KeyId([0; 8])), &detail).await?;
        Ok(Verdict::SetAside(why))
    }

    /// Up to which number everything of each gate in a job is durable, once the transaction is.
    pub(super) fn acknowledged(&self, job: &Prepared) -> BTreeMap<KeyId, u32> {
        let mut keys: Vec<KeyId> = keys_of(job).collect();
        keys.dedup();
        keys.into_iter()
            .filter_map(|k| self.marks.get(&k).map(|m| (k, m.acked)))
            .filter(|(_, acked)| *acked > 0)
            .collect()
    }

    /// Writes what the walk came to.
    pub(super) async fn write(&mut self, conn: &mut Conn) -> Result<(), StoreError> {
        rows::write(conn, &self.accepted, self.now).await?;
        self.brought.write(conn, self.now).await?;
        watermarks::write_in(conn, &self.marks).await
    }
}

/// Every key id that a job names, with repetitions.
pub(super) fn keys_of(job: &Prepared) -> impl Iterator<Item = KeyId> + '_ {
    let own = match job.source {
        Source::Gate(key_id) => Some(key_id),
        Source::Concentrator(_) | Source::Batch => None,
    };
    let named = job.contents.iter().filter_map(|content| match content {
        Content::Open { header, .. } | Content::Shut { header: Some(header), .. } => Some(header.ksn.key_id),
        _ => None,
    });
    own.into_iter().chain(named)
}

async fn is_set_aside(conn: &mut Conn, sealed: &[u8]) -> Result<bool, StoreError> {
    let found = query("SELECT 1 FROM set_aside WHERE id = ?")
        .bind(content_id(&[sealed]))
        .fetch_optional(conn)
        .await?;
    Ok(found.is_some())
}

async fn load_known(
    conn: &mut Conn,
    places: &[(KeyId, u32)],
) -> Result<HashMap<(KeyId, u32), Vec<u8>>, StoreError> {
    let mut known = HashMap::with_capacity(places.len());
    let text = "SELECT key_id, sequence, sealed FROM entries WHERE (key_id, sequence) IN (VALUES ??)";
    let places = places.iter().map(|(key_id, sequence)| (&key_id.0, *sequence));
    for row in read_many(conn, text, places).await? {
        known.insert((key_id(&row, 0)?, number(&row, 1)?), row.try_get(2)?);
    }
    Ok(known)
}
