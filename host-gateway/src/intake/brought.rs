//! What concentrators bring: how much of it each day, and which runs of a gate's entries, in the transaction that takes them.
//!
//! Neither grows with the taps: a concentrator has a row for each day on which it asks, and its entries of a gate that follow each
//! other are one run. Of API keys and files together it is counted by day how many of their entries do not open: all who bring
//! what gates sealed have a bound on what is kept of that, since anybody can make it up.

use super::prepare::{Content, Prepared};
use super::{Source, Verdict};
use crate::concentrators::ConcentratorId;
use crate::store::db::{Conn, query, read_many, write_many};
use crate::store::{Break, StoreError, raise_break_in, sql};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use wavepass_protocol::dukpt::KeyId;
use wavepass_protocol::time::UnixMs;

/// Whose entries that do not open are counted together. A gate's own stand in its journal, which bounds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Bringer {
    /// A concentrator.
    Concentrator(ConcentratorId),
    /// All API keys and files.
    Others,
}

impl Bringer {
    fn of(source: Source) -> Option<Self> {
        match source {
            Source::Gate(_) => None,
            Source::Concentrator(id) => Some(Self::Concentrator(id)),
            Source::Batch => Some(Self::Others),
        }
    }
}

/// What a break says of them.
impl fmt::Display for Bringer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Concentrator(id) => id.fmt(f),
            Self::Others => f.write_str("API keys and files"),
        }
    }
}

/// What one of them brought, in numbers of entries.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    requests: i64,
    accepted: i64,
    repeated: i64,
    set_aside: i64,
    not_kept: i64,
    gaps: i64,
}

/// Entries of a gate that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    key_id: KeyId,
    from: u32,
    upto: u32,
    by: ConcentratorId,
}

/// What a group is brought on a service day.
#[derive(Default)]
pub(super) struct Brought {
    day: i64,
    /// How many entries of each that do not open are set aside on a day.
    limit: i64,
    counts: BTreeMap<Bringer, Counts>,
    /// Those whose entries were set aside on that day before, and how many.
    before: HashMap<Bringer, i64>,
    runs: Vec<Run>,
}

impl Brought {
    /// Reads what was set aside on the day.
    pub(super) async fn begin(
        conn: &mut Conn,
        jobs: &[Prepared],
        (day, limit): (i64, i64),
    ) -> Result<Self, StoreError> {
        let mut brought = Self { day, limit, ..Self::default() };
        for by in jobs.iter().filter_map(|job| Bringer::of(job.source)) {
            brought.counts.entry(by).or_default().requests += 1;
        }
        let text = "SELECT concentrator, set_aside FROM concentrator_days \
                    WHERE (concentrator, service_day) IN (VALUES ??)";
        let rows = read_many(conn, text, brought.concentrators().map(|(id, _)| (id, day))).await?;
        for row in rows {
            let id = row.try_get::<&str>(0)?.parse();
            let id: ConcentratorId = id.map_err(|_| StoreError::Damaged { what: "concentrator" })?;
            brought.before.insert(Bringer::Concentrator(id), row.try_get(1)?);
        }
        // Most groups have nothing that does not open, and need not know.
        let shut = |content: &Content| matches!(content, Content::Shut { .. });
        if jobs.iter().any(|job| job.source == Source::Batch && job.contents.iter().any(shut)) {
            let text = "SELECT set_aside FROM batch_days WHERE service_day = ?";
            let before: Option<i64> = query(text).bind(day).optional(conn).await?;
            brought.before.insert(Bringer::Others, before.unwrap_or(0));
        }
        Ok(brought)
    }

    /// The concentrators among them, by their key ids.
    fn concentrators(&self) -> impl Iterator<Item = (String, &Counts)> {
        self.counts.iter().filter_map(|(by, counts)| match by {
            Bringer::Concentrator(id) => Some((id.to_string(), counts)),
            Bringer::Others => None,
        })
    }

    /// The limit, where no other entry of this source that does not open is set aside any more.
    pub(super) fn full(&self, source: Source) -> Option<i64> {
        let by = Bringer::of(source)?;
        let now = self.counts.get(&by).map_or(0, |counts| counts.set_aside);
        (self.before.get(&by).copied().unwrap_or(0) + now >= self.limit).then_some(self.limit)
    }

    /// An entry was set aside that was not before.
    pub(super) fn set_aside(&mut self, source: Source) {
        if let Some(by) = Bringer::of(source) {
            self.counts.entry(by).or_default().set_aside += 1;
        }
    }

    /// Takes up what became of a batch, and which of its entries were accepted, in their order.
    pub(super) fn batch(
        &mut self,
        source: Source,
        verdicts: &[Verdict],
        accepted: impl Iterator<Item = (KeyId, u32)>,
    ) {
        let Some(by) = Bringer::of(source) else { return };
        let counts = self.counts.entry(by).or_default();
        for verdict in verdicts {
            match verdict {
                Verdict::Accepted => counts.accepted += 1,
                Verdict::Repeated => counts.repeated += 1,
                Verdict::NotKept { .. } => counts.not_kept += 1,
                Verdict::Gap { .. } => counts.gaps += 1,
                // Counted where it is written, once however often it comes.
                Verdict::SetAside(_) | Verdict::Noted => {}
            }
        }
        let Bringer::Concentrator(by) = by else { return };
        for (key_id, sequence) in accepted {
            match self.runs.last_mut() {
                Some(run)
                    if (run.key_id, run.by) == (key_id, by) && run.upto.checked_add(1) == Some(sequence) =>
                {
                    run.upto = sequence;
                }
                _ => self.runs.push(Run { key_id, from: sequence, upto: sequence, by }),
            }
        }
    }

    /// Writes it down.
    pub(super) async fn write(&self, conn: &mut Conn, now: UnixMs) -> Result<(), StoreError> {
        let day = self.day;
        let rows = self.concentrators().map(|(id, counts)| {
            let Counts { requests, accepted, repeated, set_aside, not_kept, gaps } = *counts;
            (id, day, sql::ms(now), requests, accepted, repeated, set_aside, not_kept, gaps)
        });
        write_many(conn, COUNT, rows).await?;
        let others = self.counts.get(&Bringer::Others).map(|c| (day, c.set_aside, c.not_kept));
        write_many(conn, COUNT_OTHERS, others.filter(|(_, set_aside, not_kept)| set_aside + not_kept > 0))
            .await?;
        for (by, _) in self.counts.iter().filter(|(_, counts)| counts.not_kept > 0) {
            let limit = self.limit;
            let detail =
                format!("more than {limit} entries of the day do not open: the rest are counted only");
            let found = Break {
                kind: "set_aside_full",
                subject: &by.to_string(),
                service_day: Some(day),
                detail: &detail,
                at: now,
            };
            raise_break_in(conn, &found).await?;
        }
        self.write_runs(conn).await
    }

    /// A run that follows one of the same concentrator's is one with it.
    async fn write_runs(&self, conn: &mut Conn) -> Result<(), StoreError> {
        let text = "SELECT key_id, upto_sequence, from_sequence, concentrator FROM brought \
                    WHERE (key_id, upto_sequence) IN (VALUES ??)";
        let ends = self.runs.iter().filter_map(|run| Some((&run.key_id.0, run.from.checked_sub(1)?)));
        let mut begun: HashMap<([u8; 8], u32), (u32, String)> = HashMap::new();
        for row in read_many(conn, text, ends).await? {
            let key_id: &[u8] = row.try_get(0)?;
            let key_id = key_id.try_into().map_err(|_| StoreError::Damaged { what: "key id" })?;
            begun.insert((key_id, row.try_get(1)?), (row.try_get(2)?, row.try_get(3)?));
        }
        let rows = self.runs.iter().map(|Run { key_id, from, upto, by }| {
            let by = by.to_string();
            let before = begun.get(&(key_id.0, from.wrapping_sub(1))).filter(|(_, of)| *of == by);
            (&key_id.0, before.map_or(*from, |(first, _)| *first), *upto, by)
        });
        let text = "INSERT INTO brought (key_id, from_sequence, upto_sequence, concentrator) VALUES ?? \
                    ON CONFLICT (key_id, from_sequence) DO UPDATE SET upto_sequence = excluded.upto_sequence";
        write_many(conn, text, rows).await?;
        Ok(())
    }
}

const COUNT_OTHERS: &str = "INSERT INTO batch_days (service_day, set_aside, not_kept) VALUES ?? \
     ON CONFLICT (service_day) DO UPDATE SET set_aside = batch_days.set_aside + excluded.set_aside, \
     not_kept = batch_days.not_kept + excluded.not_kept";

const COUNT: &str = "INSERT INTO concentrator_days (concentrator, service_day, last_ms, requests, accepted, repeated, set_aside, \
     not_kept, gaps) VALUES ?? ON CONFLICT (concentrator, service_day) DO UPDATE SET \
     last_ms = CASE WHEN excluded.last_ms > concentrator_days.last_ms THEN excluded.last_ms ELSE concentrator_days.last_ms END, \
     requests = concentrator_days.requests + excluded.requests, \
     accepted = concentrator_days.accepted + excluded.accepted, \
     repeated = concentrator_days.repeated + excluded.repeated, \
     set_aside = concentrator_days.set_aside + excluded.set_aside, \
     not_kept = concentrator_days.not_kept + excluded.not_kept, gaps = concentrator_days.gaps + excluded.gaps";
