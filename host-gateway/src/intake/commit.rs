//! The second stage: checks sequences and counters, and writes a whole group in one transaction.
//!
//! The watermark of a key id rises over what is accepted, what its gate sent and could not be opened, and what is known to be lost, so
//! that "acknowledged up to n" is true of every number. What somebody else brings and cannot be opened never moves it. Below it the store
//! tells what is there: an entry that was set aside or lost and arrives after all is accepted late.

use super::brought::Brought;
use super::forgotten::{self, FORGOTTEN, Gone};
use super::marks;
use super::prepare::{Body, Content, Group, Prepared, TapRow};
use super::{Gap, IntakeError, Item, Parts, Receipt, Source, Verdict};
use crate::gates;
use crate::keys::TokenKey;
use crate::store::db::{Conn, One, Row, query, read_many, write_many};
use crate::store::{Break, Store, StoreError, again_if_met, content_id, raise_break_in, sql};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use wavepass_fares::ServiceDay;
use wavepass_protocol::dukpt::KeyId;
use wavepass_protocol::seal::{Chain, Header, Sealed};
use wavepass_protocol::tap::{Outcome, Reason};
use wavepass_protocol::time::UnixMs;

/// Writes groups until there are no more, as many at the same time as the store takes, in the order of each gate's batches.
pub(super) async fn stage(parts: Parts, mut groups: mpsc::Receiver<Group>) {
    let gaps = Arc::new(OpenGaps::default());
    let mut writing = JoinSet::new();
    // The key ids of each group that is being written.
    let mut written: HashMap<Id, HashSet<KeyId>> = HashMap::new();
    while let Some(group) = groups.recv().await {
        let keys: HashSet<KeyId> = group.keys().collect();
        let meets = |other: &HashSet<KeyId>| !other.is_disjoint(&keys);
        while written.len() >= parts.store.lanes() || written.values().any(meets) {
            let Some(done) = writing.join_next_with_id().await else { break };
            written.remove(&ended(done));
        }
        let task = writing.spawn(write_group(parts.clone(), group, gaps.clone()));
        written.insert(task.id(), keys);
    }
    while let Some(done) = writing.join_next_with_id().await {
        ended(done);
    }
}

/// Which group it was. One that panicked has dropped its replies, which their senders see as "stopped".
fn ended(done: Result<(Id, ()), JoinError>) -> Id {
    match done {
        Ok((id, ())) => id,
        Err(error) => {
            tracing::error!(%error, "intake: a group could not be written");
            error.id()
        }
    }
}

async fn write_group(parts: Parts, group: Group, gaps: Arc<OpenGaps>) {
    let now = parts.clock.now();
    let began = std::time::Instant::now();
    let mut directory = parts.directory.current();
    if group.keys().any(|id| directory.by_key(id).is_none()) {
        // A gate commissioned since. Where the store fails, so will the transaction below.
        let _ = parts.directory.refresh(&parts.store).await;
        directory = parts.directory.current();
    }
    // Only what is brought is counted by it: where the calendar ends, on one day.
    let day = parts.day_clock.day_of(sql::ms(now)).map_or(0, ServiceDay::number);
    let at = At { now, day, set_aside_a_day: parts.set_aside_a_day };
    let outcome = again_if_met(|| write(&parts.store, &group.jobs, &directory, &gaps, at)).await;
    metrics::histogram!("wavepass_intake_commit_seconds").record(began.elapsed().as_secs_f64());
    answer(group.jobs, outcome);
}

/// Per key id, the number that was missing when an entry after it came. Only a hint against taking a damaged entry for the
/// missing one; losing it costs a question to the gate.
#[derive(Default)]
struct OpenGaps(Mutex<HashMap<KeyId, u32>>);

impl OpenGaps {
    fn locked(&self) -> MutexGuard<'_, HashMap<KeyId, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answer(jobs: Vec<Prepared>, outcome: Result<Vec<Receipt>, StoreError>) {
    match outcome {
        Ok(receipts) => {
            for (job, receipt) in jobs.into_iter().zip(receipts) {
                for verdict in &receipt.verdicts {
                    metrics::counter!("wavepass_intake_entries_total", "verdict" => verdict.word())
                        .increment(1);
                }
                // Whoever has gone away sends again and is told "repeated".
                let _ = job.reply.send(Ok(receipt));
            }
        }
        Err(error) => {
            tracing::error!(%error, "intake: a group could not be written");
            let error = IntakeError::Store(Arc::new(error));
            for job in jobs {
                let _ = job.reply.send(Err(error.clone()));
            }
        }
    }
}

impl Group {
    /// Every key id that the group names, with repetitions.
    fn keys(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.jobs.iter().flat_map(keys_of)
    }
}

fn keys_of(job: &Prepared) -> impl Iterator<Item = KeyId> + '_ {
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

/// When a group is written, and how many entries that do not open are kept of whoever brings them on such a day.
#[derive(Clone, Copy)]
struct At {
    now: UnixMs,
    day: i64,
    set_aside_a_day: i64,
}

/// Whether all of it opened and nothing of it is told to be lost: then it concerns its own gates' rows alone.
fn is_plain(job: &Prepared) -> bool {
    let plain = |(item, content): (&Item, &Content)| {
        matches!(item, Item::Entry(_)) && matches!(content, Content::Open { .. })
    };
    job.items.iter().zip(&job.contents).all(plain)
}

async fn write(
    store: &Store,
    jobs: &[Prepared],
    directory: &gates::Directory,
    open_gaps: &OpenGaps,
    at: At,
) -> Result<Vec<Receipt>, StoreError> {
    // Groups are written beside each other, each behind the locks on its gates' watermarks. What others share, such as how
    // much may be set aside today, is for one at a time.
    let mut tx = match jobs.iter().all(is_plain) {
        true => store.begin_beside().await?,
        false => store.begin().await?,
    };
    let mut walk = Walk::begin(&mut tx, jobs, directory, open_gaps, at).await?;
    let mut receipts = Vec::with_capacity(jobs.len());
    for job in jobs {
        let (mut receipt, first) = (Receipt::default(), walk.accepted.len());
        for (item, content) in job.items.iter().zip(&job.contents) {
            let verdict = walk.take(&mut tx, job.source, item, content).await?;
            if let Verdict::Gap { due } = verdict
                && receipt.gap.is_none()
            {
                receipt.gap = Some(Gap { due, instead: item.sealed().into() });
            }
            receipt.verdicts.push(verdict);
        }
        let accepted = walk.accepted[first..].iter().map(|a| (a.header.ksn.key_id, a.header.sequence));
        walk.brought.batch(job.source, &receipt.verdicts, accepted);
        receipts.push(receipt);
    }
    walk.write(&mut tx).await?;
    for (job, receipt) in jobs.iter().zip(&mut receipts) {
        receipt.acknowledged = walk.acknowledged(job);
    }
    tx.commit().await?;
    Ok(receipts)
}

/// How far a key id has come.
#[derive(Clone, Copy)]
struct Mark {
    acked: u32,
    last_counter: u32,
    /// What the entry after `acked` must say of it; none where that entry is not here.
    tail: Option<Chain>,
    changed: bool,
}

impl Default for Mark {
    fn default() -> Self {
        Self { acked: 0, last_counter: 0, tail: Some(Chain::START), changed: false }
    }
}

/// An entry that will be written.
struct Accepted<'a> {
    header: Header,
    sealed: &'a [u8],
    body: &'a Body,
    late: bool,
}

/// One group on its way through the checks. Rows are gathered and written at the end.
struct Walk<'a> {
    directory: &'a gates::Directory,
    open_gaps: &'a OpenGaps,
    now: UnixMs,
    marks: HashMap<KeyId, Mark>,
    /// What the store has of numbers at or below the watermark that came again; nothing of what was forgotten.
    known: HashMap<(KeyId, u32), Vec<u8>>,
    accepted: Vec<Accepted<'a>>,
    by_place: HashMap<(KeyId, u32), usize>,
    brought: Brought,
}

impl<'a> Walk<'a> {
    async fn begin(
        conn: &mut Conn,
        jobs: &[Prepared],
        directory: &'a gates::Directory,
        open_gaps: &'a OpenGaps,
        At { now, day, set_aside_a_day }: At,
    ) -> Result<Self, StoreError> {
        let mut keys: Vec<KeyId> = jobs.iter().flat_map(keys_of).collect();
        keys.sort_unstable();
        keys.dedup();
        let marks = lock_marks(conn, &keys, directory).await?;
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

    async fn take(
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
        metrics::counter!("wavepass_intake_breaks_total", "kind" => kind.to_owned()).increment(1);
        let found = Break { kind, subject: &sql::hex(&key_id.0), service_day: None, detail, at: self.now };
        raise_break_in(conn, &found).await?;
        Ok(())
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

    /// Tells risk what it has to look at, and clearing which days have taps and which denied tokens were tapped.
    async fn write_opened(&self, conn: &mut Conn) -> Result<(), StoreError> {
        let mut days = BTreeSet::new();
        let mut denied: BTreeMap<TokenKey, i64> = BTreeMap::new();
        for Accepted { header, body, .. } in &self.accepted {
            let Body::Tap(row) = body else { continue };
            if !row.opened {
                if let Some(key) = row.token_key.filter(|_| row.reason == Some(Reason::Denied as u8)) {
                    let last = denied.entry(key).or_insert(row.time_ms);
                    *last = (*last).max(row.time_ms);
                }
                continue;
            }
            days.extend(row.service_day.map(|day| (day, header.ksn.key_id)));
            if row.token_key.is_none() {
                let (subject, detail) = (sql::hex(&header.ksn.key_id.0), header.sequence.to_string());
                let (service_day, at) = (row.service_day, self.now);
                let found = Break { kind: "no_token", subject: &subject, service_day, detail: &detail, at };
                raise_break_in(conn, &found).await?;
            }
        }
        let runs = arrivals(&self.accepted);
        let text =
            "INSERT INTO arrivals (key_id, from_sequence, upto_sequence, taps, from_ms, upto_ms) VALUES ??";
        let rows = runs.iter().map(|r| (&r.key_id.0, r.from, r.upto, r.taps, r.from_ms, r.upto_ms));
        write_many(conn, text, rows).await?;
        let text = "INSERT INTO tapped_days (service_day, key_id) VALUES ?? ON CONFLICT DO NOTHING";
        write_many(conn, text, days.iter().map(|(day, key_id)| (*day, &key_id.0))).await?;
        let taps = self.accepted.iter().filter_map(|Accepted { header, body, .. }| match body {
            // A tap of no day was made by a clock that nobody believes.
            Body::Tap(row) if row.service_day.is_some() => Some((header.ksn.key_id.0, row.time_ms)),
            _ => None,
        });
        marks::mark_in(conn, taps).await?;
        let text = "INSERT INTO retaps (token_key, at_ms) VALUES ?? ON CONFLICT (token_key) DO UPDATE SET \
                    at_ms = CASE WHEN excluded.at_ms > retaps.at_ms THEN excluded.at_ms ELSE retaps.at_ms END";
        write_many(conn, text, denied.iter().map(|(key, at_ms)| (key.as_slice(), *at_ms))).await?;
        Ok(())
    }

    /// Writes the emergencies of the group: rare enough for a statement each.
    async fn write_emergencies(&self, conn: &mut Conn) -> Result<(), StoreError> {
        for Accepted { header, body, .. } in &self.accepted {
            let Body::Emergency { time_ms, clock, active } = body else { continue };
            let key_id = header.ksn.key_id;
            tracing::warn!(key_id = sql::hex(&key_id.0), active, "the emergency input of a gate");
            let statement = "INSERT INTO emergencies (key_id, sequence, time_ms, clock, active, received_ms) \
                             VALUES (?, ?, ?, ?, ?, ?)";
            query(statement)
                .bind(&key_id.0[..])
                .bind(i64::from(header.sequence))
                .bind(*time_ms)
                .bind(*clock)
                .bind(*active)
                .bind(sql::ms(self.now))
                .execute(&mut *conn)
                .await?;
            if *clock == 0 {
                // Its time is worth nothing: no period can be made of it without a person.
                let detail = format!("{} at {time_ms}", header.sequence);
                self.raise(conn, "emergency_time", key_id, &detail).await?;
            }
        }
        Ok(())
    }

    fn acknowledged(&self, job: &Prepared) -> BTreeMap<KeyId, u32> {
        let mut keys: Vec<KeyId> = keys_of(job).collect();
        keys.dedup();
        keys.into_iter()
            .filter_map(|k| self.marks.get(&k).map(|m| (k, m.acked)))
            .filter(|(_, acked)| *acked > 0)
            .collect()
    }

    async fn write(&mut self, conn: &mut Conn) -> Result<(), StoreError> {
        write_entries(conn, &self.accepted, self.now).await?;
        let gone = Gone::load(conn, taps_of(&self.accepted).map(|(_, tap)| tap)).await?;
        let late_taps = write_taps_and_passages(conn, &self.accepted, &gone, self.now).await?;
        gone.raise_in(conn, taps_of(&self.accepted), self.now).await?;
        self.write_opened(conn).await?;
        adopt_waiting_passages(conn, &late_taps).await?;
        self.write_emergencies(conn).await?;
        self.brought.write(conn, self.now).await?;
        let changed = self.marks.iter().filter(|(_, mark)| mark.changed).map(|(key_id, mark)| {
            (&key_id.0, mark.acked, mark.last_counter, mark.tail.map(|tail| tail.0.to_vec()))
        });
        let text = "INSERT INTO watermarks (key_id, acked, last_counter, tail) VALUES ?? ON CONFLICT (key_id) DO UPDATE \
                    SET acked = excluded.acked, last_counter = excluded.last_counter, tail = excluded.tail";
        write_many(conn, text, changed).await?;
        Ok(())
    }
}

fn taps_of<'a>(accepted: &'a [Accepted<'a>]) -> impl Iterator<Item = (KeyId, &'a TapRow)> {
    accepted.iter().filter_map(|entry| match entry.body {
        Body::Tap(row) => Some((entry.header.ksn.key_id, &**row)),
        _ => None,
    })
}

/// Entries of one gate that follow each other, with opened taps for risk to look at.
struct Arrival {
    key_id: KeyId,
    from: u32,
    upto: u32,
    taps: u32,
    from_ms: i64,
    upto_ms: i64,
}

/// The runs of what was accepted; those without an opened tap of a token are left out.
fn arrivals(accepted: &[Accepted<'_>]) -> Vec<Arrival> {
    let mut entries: Vec<(KeyId, u32, Option<i64>)> = accepted
        .iter()
        .map(|Accepted { header, body, .. }| {
            let time_ms = match body {
                Body::Tap(row) if row.opened && row.token_key.is_some() => Some(row.time_ms),
                _ => None,
            };
            (header.ksn.key_id, header.sequence, time_ms)
        })
        .collect();
    entries.sort_unstable();
    let follow = |a: &(KeyId, u32, _), b: &(KeyId, u32, _)| a.0 == b.0 && a.1.checked_add(1) == Some(b.1);
    let runs = entries.chunk_by(follow).filter_map(|run| {
        let times = || run.iter().filter_map(|entry| entry.2);
        Some(Arrival {
            key_id: run[0].0,
            from: run[0].1,
            upto: run[run.len() - 1].1,
            taps: times().count() as u32,
            from_ms: times().min()?,
            upto_ms: times().max()?,
        })
    });
    runs.collect()
}

async fn is_set_aside(conn: &mut Conn, sealed: &[u8]) -> Result<bool, StoreError> {
    let found = query("SELECT 1 FROM set_aside WHERE id = ?")
        .bind(content_id(&[sealed]))
        .fetch_optional(conn)
        .await?;
    Ok(found.is_some())
}

/// Reads how far these key ids have come, in ascending order, and locks that for the transaction. One of a gate that never sent
/// anything is written down first, as what it is, so that it can be locked.
async fn lock_marks(
    conn: &mut Conn,
    keys: &[KeyId],
    directory: &gates::Directory,
) -> Result<HashMap<KeyId, Mark>, StoreError> {
    let mut marks = load_marks(conn, keys).await?;
    let new: Vec<KeyId> = keys
        .iter()
        .copied()
        .filter(|&id| !marks.contains_key(&id) && directory.by_key(id).is_some())
        .collect();
    if !new.is_empty() {
        let Mark { acked, last_counter, tail, .. } = Mark::default();
        let rows = new.iter().map(|id| (&id.0, acked, last_counter, tail.map(|tail| tail.0.to_vec())));
        let text =
            "INSERT INTO watermarks (key_id, acked, last_counter, tail) VALUES ?? ON CONFLICT DO NOTHING";
        write_many(conn, text, rows).await?;
        marks.extend(load_marks(conn, &new).await?);
    }
    Ok(marks)
}

async fn load_marks(conn: &mut Conn, keys: &[KeyId]) -> Result<HashMap<KeyId, Mark>, StoreError> {
    let mut marks = HashMap::with_capacity(keys.len());
    let text = "SELECT key_id, acked, last_counter, tail FROM watermarks WHERE key_id IN ?? ORDER BY key_id FOR UPDATE";
    for row in read_many(conn, text, keys.iter().map(|key_id| One(&key_id.0))).await? {
        let tail: Option<&[u8]> = row.try_get(3)?;
        let tail = tail.map(|bytes| bytes.try_into().map(Chain)).transpose();
        let tail = tail.map_err(|_| StoreError::Damaged { what: "chain" })?;
        let mark = Mark { acked: number(&row, 1)?, last_counter: number(&row, 2)?, tail, changed: false };
        marks.insert(key_id(&row, 0)?, mark);
    }
    Ok(marks)
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

fn key_id(row: &Row, column: usize) -> Result<KeyId, StoreError> {
    let bytes: &[u8] = row.try_get(column)?;
    bytes.try_into().map(KeyId).map_err(|_| StoreError::Damaged { what: "key id" })
}

fn number(row: &Row, column: usize) -> Result<u32, StoreError> {
    u32::try_from(row.try_get::<i64>(column)?).map_err(|_| StoreError::Damaged { what: "sequence number" })
}

async fn write_entries(conn: &mut Conn, accepted: &[Accepted<'_>], now: UnixMs) -> Result<(), StoreError> {
    let rows = accepted.iter().map(|entry| {
        let kind = match entry.body {
            Body::Tap(_) => 1_u8,
            Body::Passage { .. } => 2,
            Body::Emergency { .. } => 3,
        };
        let Header { ksn, sequence, .. } = &entry.header;
        (&ksn.key_id.0, *sequence, ksn.counter, kind, sql::ms(now), entry.sealed)
    });
    let text = "INSERT INTO entries (key_id, sequence, counter, kind, received_ms, sealed) VALUES ??";
    write_many(conn, text, rows).await?;
    Ok(())
}

/// A tap as written here.
const INSERT_TAPS: &str = "INSERT INTO taps (key_id, sequence, token_key, time_ms, clock, service_day, station, direction, \
     opened, reason, atc, cryptogram, oda, card_digest, passage, withheld, gate_us, received_ms) VALUES ??";
/// Bit of `withheld`: an opened tap without a token, which no gate of ours makes, and for which nobody can be charged.
const NO_TOKEN: u8 = 8;

/// Which of two passages of one tap stands: somebody passed, then unknown, then nobody; whatever came first.
const fn stronger(a: Outcome, b: Outcome) -> Outcome {
    match (a, b) {
        (Outcome::Passed, _) | (_, Outcome::Passed) => Outcome::Passed,
        (Outcome::Unknown, _) | (_, Outcome::Unknown) => Outcome::Unknown,
        _ => Outcome::NotPassed,
    }
}

type Place = (KeyId, u32);

/// Writes taps, with the passages of the same group; gives the taps that came late.
async fn write_taps_and_passages(
    conn: &mut Conn,
    accepted: &[Accepted<'_>],
    gone: &Gone,
    now: UnixMs,
) -> Result<Vec<Place>, StoreError> {
    let mut passages: HashMap<Place, Outcome> = HashMap::new();
    let mut taps: Vec<(&Header, &TapRow)> = Vec::with_capacity(accepted.len());
    let mut late = Vec::new();
    for entry in accepted {
        let key_id = entry.header.ksn.key_id;
        match entry.body {
            Body::Tap(row) => {
                taps.push((&entry.header, row));
                if entry.late {
                    late.push((key_id, entry.header.sequence));
                }
            }
            Body::Passage { of, outcome } => {
                passages.entry((key_id, *of)).and_modify(|o| *o = stronger(*o, *outcome)).or_insert(*outcome);
            }
            Body::Emergency { .. } => {}
        }
    }
    let rows = taps.iter().map(|(header, row)| {
        let passage = passages.remove(&(header.ksn.key_id, header.sequence));
        (
            &header.ksn.key_id.0,
            header.sequence,
            row.token_key.as_ref().map(|key| &key.0),
            row.time_ms,
            row.clock,
            row.service_day,
            row.station.as_str(),
            row.direction,
            row.opened,
            row.reason,
            row.atc,
            row.cryptogram,
            row.oda,
            row.card_digest.as_ref().map(|digest| &digest[..]),
            passage.map(|outcome| outcome as u8),
            (if row.opened && row.token_key.is_none() { NO_TOKEN } else { 0 })
                | (if gone.withholds(row) { FORGOTTEN } else { 0 }),
            row.gate_us,
            sql::ms(now),
        )
    });
    write_many(conn, INSERT_TAPS, rows).await?;
    let mut rest: Vec<(Place, Outcome)> = passages.into_iter().collect();
    rest.sort_unstable_by_key(|(place, _)| *place);
    write_passages(conn, &rest).await?;
    Ok(late)
}

/// The stronger of the passage in `a` and the one in `b`, in SQL: see [`stronger`].
macro_rules! stronger_sql {
    ($a:literal, $b:literal) => {
        concat!(
            "CASE WHEN ",
            $a,
            " = 1 OR ",
            $b,
            " = 1 THEN 1 WHEN ",
            $a,
            " = 2 OR ",
            $b,
            " = 2 THEN 2 ELSE 0 END"
        )
    };
}

/// Folds passages into taps that are there; the others wait for theirs.
async fn write_passages(conn: &mut Conn, passages: &[(Place, Outcome)]) -> Result<(), StoreError> {
    const FOLD: &str = concat!(
        "UPDATE taps SET passage = ",
        stronger_sql!("coalesce(taps.passage, 0)", "v.column3"),
        " FROM (VALUES ??) AS v WHERE taps.key_id = v.column1 AND taps.sequence = v.column2"
    );
    const WAIT: &str = concat!(
        "INSERT INTO passages_waiting (key_id, of, outcome) \
         SELECT column1, column2, column3 FROM (VALUES ??) AS v WHERE NOT EXISTS \
         (SELECT 1 FROM taps WHERE taps.key_id = v.column1 AND taps.sequence = v.column2) \
         ON CONFLICT (key_id, of) DO UPDATE SET outcome = ",
        stronger_sql!("passages_waiting.outcome", "excluded.outcome")
    );
    /// Risk enters them beside the tokens of these taps.
    const ENTER: &str = "INSERT INTO late_passages (key_id, of) SELECT column1, column2 FROM (VALUES ??) AS v \
         WHERE EXISTS (SELECT 1 FROM taps WHERE taps.key_id = v.column1 AND taps.sequence = v.column2 \
         AND taps.opened = 1 AND taps.token_key IS NOT NULL) ON CONFLICT DO NOTHING";
    let rows = || passages.iter().map(|((key_id, of), outcome)| (&key_id.0, *of, *outcome as u8));
    let folded = write_many(conn, FOLD, rows()).await?;
    if folded > 0 {
        let places = passages.iter().map(|((key_id, of), _)| (&key_id.0, *of));
        write_many(conn, ENTER, places).await?;
    }
    if folded < passages.len() as u64 {
        write_many(conn, WAIT, rows()).await?;
    }
    Ok(())
}

/// Gives taps that came late the passages that waited for them.
async fn adopt_waiting_passages(conn: &mut Conn, late: &[Place]) -> Result<(), StoreError> {
    const FOLD: &str = concat!(
        "UPDATE taps SET passage = ",
        stronger_sql!("coalesce(taps.passage, 0)", "w.outcome"),
        " FROM passages_waiting AS w WHERE taps.key_id = w.key_id AND taps.sequence = w.of \
         AND (taps.key_id, taps.sequence) IN (VALUES ??)"
    );
    const FORGET: &str = "DELETE FROM passages_waiting WHERE (key_id, of) IN (VALUES ??)";
    for text in [FOLD, FORGET] {
        write_many(conn, text, late.iter().map(|(key_id, sequence)| (&key_id.0, *sequence))).await?;
    }
    Ok(())
}
