//! Closes a service day: prices its taps in token order, books the charges and seals the batch.
//!
//! The first close has rank 0. A further one (`late`) prices the whole day again and books only what differs from the
//! charges there are: new parts, positive or negative. A day is priced from the taps of every day that its caps count
//! over; closing it may change closed days after it ([`Clearing::close_again_after`]). On PostgreSQL a day is closed in
//! parts, ranges of tokens, that several tasks and gateways share. Every chunk is one transaction that also moves its
//! part's cursor, so that a crash loses at most the chunk that was not committed, and nothing is booked twice. A transaction
//! that met another's is done again ([`again_if_met`]). What a chunk changes, and the rows of it, are in [`super::changes`].

#[cfg(test)]
mod tests;

use serde::Serialize;
use wavepass_fares::ServiceDay;

use super::changes::{Change, changes, write_breaks_in};
use super::taps::{Chunk, UnknownStation};
use super::{Batch, Clearing, ClearingError, batch};
use crate::settlement::Method;
use crate::settlement::shares::{self, Sharing};
use crate::store::again_if_met;
use crate::store::db::{Row, query, write_many};
use crate::store::shards::{Part, on_each};

/// How to close.
#[derive(Debug, Clone, Copy, Default)]
pub struct CloseOptions {
    /// The present time, in milliseconds since 1970-01-01 UTC: only to refuse a day that is not over.
    pub now_ms: i64,
    /// Close although journeys may still come, or taps are not checked.
    pub force: bool,
    /// The day is closed: price it again and close what came late.
    pub late: bool,
}

/// What a close did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct CloseSummary {
    /// The day.
    #[schema(value_type = String)]
    pub service_day: ServiceDay,
    /// True if the day was closed already and nothing was to be done.
    pub already_closed: bool,
    /// The batch that was sealed, or that there is.
    pub batch: Option<Batch>,
}

impl Clearing {
    /// Closes a day, or goes on with a close that was interrupted. A closed day stays as it is unless `late` is asked.
    pub async fn close_day(
        &self,
        day: ServiceDay,
        options: CloseOptions,
    ) -> Result<CloseSummary, ClearingError> {
        let (rank, method) = match again_if_met(|| self.begin(day, options)).await? {
            Begun::Closed(batch) => {
                return Ok(CloseSummary { service_day: day, already_closed: true, batch: Some(batch) });
            }
            Begun::Open { rank, method } => (rank, method),
        };
        let of = Of { day, rank, force: options.force, sharing: self.sharing(method, day)? };
        self.close_parts(&of).await?;
        let batch = batch::seal(self, day, rank).await?;
        Ok(CloseSummary { service_day: day, already_closed: false, batch })
    }

    /// Closes what is not closed of a day's parts, several at a time; others may do the same.
    async fn close_parts(&self, of: &Of) -> Result<(), ClearingError> {
        let parts = self.open_parts(of).await?;
        on_each(parts, self.store.lanes(), |part| self.close_part(of, part)).await.map(drop)
    }

    /// Prices and books one part from where it stands, the next chunk being read while one is written.
    async fn close_part(&self, of: &Of, mut part: Part) -> Result<(), ClearingError> {
        loop {
            let mut next = Some(self.price_chunk(of, &part, &part.cursor).await?);
            let mut moved = true;
            while let Some(chunk) = next.take()
                && moved
            {
                let after = chunk.after.clone();
                if after == part.until {
                    moved = again_if_met(|| self.write_chunk(of, &part, &chunk)).await?;
                } else {
                    let following = self.price_chunk(of, &part, &after);
                    let written = again_if_met(|| self.write_chunk(of, &part, &chunk));
                    let (written, priced) = tokio::join!(written, following);
                    moved = written?;
                    next = Some(priced?);
                }
                part.cursor = after;
            }
            if moved {
                return Ok(());
            }
            // Somebody else works on this part: from where they are.
            let parts = self.open_parts(of).await?;
            match parts.into_iter().find(|p| p.shard == part.shard) {
                Some(there) => part = there,
                None => return Ok(()),
            }
        }
    }

    /// The parts of a close that are not priced to their ends.
    async fn open_parts(&self, of: &Of) -> Result<Vec<Part>, ClearingError> {
        let rows = query(
            "SELECT shard, cursor, until FROM day_close WHERE service_day = ? AND rank = ? AND cursor <> until \
             AND state = 'pricing' ORDER BY shard",
        )
        .bind(of.day.number())
        .bind(of.rank)
        .fetch_all(self.store.pool())
        .await?;
        let part = |row: &Row| -> Result<Part, ClearingError> {
            Ok(Part { shard: row.try_get(0)?, cursor: row.try_get(1)?, until: row.try_get(2)? })
        };
        rows.iter().map(part).collect()
    }

    /// Finds or makes the rows that say how far the day's close has come.
    async fn begin(&self, day: ServiceDay, options: CloseOptions) -> Result<Begun, ClearingError> {
        let mut tx = self.store.begin().await?;
        let last = query(
            "SELECT rank, state, shares FROM day_close WHERE service_day = ? ORDER BY rank DESC, shard LIMIT 1",
        )
        .bind(day.number())
        .fetch_optional(&mut *tx)
        .await?;
        let clock = self.tariffs.clock();
        let from_ms = clock.end_ms(day) + self.tariffs.maximum_journey_ms();
        // Asked of what would begin, not of what stands or was begun: that was decided then.
        let in_time = || match options.now_ms {
            now_ms if now_ms < clock.start_ms(day) => Err(ClearingError::NotBegun { day }),
            now_ms if now_ms < from_ms && !options.force => {
                Err(ClearingError::TooEarly { day, from: clock.rfc3339(from_ms) })
            }
            _ => Ok(()),
        };
        // The first close decides how the day's charges are shared.
        let (rank, method) = match last {
            None if options.late => return Err(ClearingError::NotClosed { day }),
            None => {
                in_time()?;
                // Fares that were asked for early have fixed it. Whoever asks for more waits for this transaction.
                let early = shares::early_method_in(&mut tx, day).await?;
                let method = early.unwrap_or(self.settlement.method);
                // Refused before anything is begun.
                self.sharing(method, day)?;
                (0, method)
            }
            Some(row) => {
                let rank: i64 = row.try_get(0)?;
                let method = Method::stored(row.try_get(2)?)?;
                if row.try_get::<&str>(1)? == "pricing" {
                    return Ok(Begun::Open { rank, method });
                }
                if !options.late {
                    let sealed = batch::find_in(&mut tx, day, rank).await?;
                    return Ok(Begun::Closed(
                        sealed.ok_or_else(|| ClearingError::damaged("a sealed batch"))?,
                    ));
                }
                in_time()?;
                (rank + 1, method)
            }
        };
        self.not_deleted_in(&mut tx, day).await?;
        let parts = Part::of_all(self.store.is_shared());
        let (force, shares) = (options.force, method.as_str());
        let rows = parts
            .iter()
            .map(|p| (day.number(), rank, p.shard, "pricing", &p.cursor, &p.until, force, shares));
        let text = "INSERT INTO day_close (service_day, rank, shard, state, cursor, until, forced, shares) VALUES ??";
        write_many(&mut tx, text, rows).await?;
        tx.commit().await?;
        Ok(Begun::Open { rank, method })
    }

    /// How the charges of a day are shared; `None` where shares are fixed.
    pub(super) fn sharing(&self, method: Method, day: ServiceDay) -> Result<Option<Sharing>, ClearingError> {
        Sharing::of(method, &self.settlement, &self.tariffs, day)
            .map_err(|e| ClearingError::Sharing(e.into()))
    }

    /// Reads and prices the chunk after a cursor.
    async fn price_chunk(&self, of: &Of, part: &Part, cursor: &[u8]) -> Result<Ready, ClearingError> {
        let day = of.day;
        let Chunk { tokens, unknown, up_to, unchecked } = self.read_taps(day, cursor, &part.until).await?;
        if unchecked && !of.force {
            return Err(ClearingError::Unchecked { day });
        }
        let after = up_to.map_or_else(|| part.until.clone(), |key| key.as_slice().to_vec());
        let priced = self.price_tokens(day, tokens, of.sharing.as_ref()).await?;
        // Before its first close a day may have charges, too: those whose fares were asked for early.
        let booked = self.booked(day, cursor, &after).await?;
        let changes = changes(&self.tariffs, priced, booked)?;
        Ok(Ready { cursor: cursor.to_vec(), after, changes, unknown })
    }

    /// Books a chunk and moves the part's cursor over it in one transaction; false where somebody else did.
    async fn write_chunk(&self, of: &Of, part: &Part, chunk: &Ready) -> Result<bool, ClearingError> {
        let Of { day, rank, .. } = *of;
        let mut tx = self.store.begin_shard(part.shard).await?;
        let moved = query(
            "UPDATE day_close SET cursor = ? WHERE service_day = ? AND rank = ? AND shard = ? AND state = 'pricing' \
             AND cursor = ?",
        )
        .bind(&chunk.after)
        .bind(day.number())
        .bind(rank)
        .bind(part.shard)
        .bind(&chunk.cursor)
        .execute(&mut *tx)
        .await?;
        if moved != 1 {
            return Ok(false);
        }
        self.write_changes_in(&mut tx, (day, rank), &chunk.changes).await?;
        write_breaks_in(&mut tx, self, day, &chunk.changes, &chunk.unknown).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Closes late the closed days after a day that its journeys bear on, because something counts over several days.
    pub async fn close_again_after(
        &self,
        day: ServiceDay,
        force: bool,
    ) -> Result<Vec<CloseSummary>, ClearingError> {
        let numbers: Vec<i64> = query(
            "SELECT DISTINCT service_day FROM day_close WHERE service_day > ? AND service_day <= ? ORDER BY service_day",
        )
        .bind(day.number())
        .bind(self.tariffs.window(day).end().number())
        .column(self.store.pool())
        .await?;
        // They are closed: whether it was time for that was decided then.
        let options = CloseOptions { now_ms: i64::MAX, force, late: true };
        let mut closed = Vec::with_capacity(numbers.len());
        for number in numbers {
            let day = ServiceDay::from_number(number).map_err(|_| ClearingError::damaged("a closed day"))?;
            closed.push(self.close_day(day, options).await?);
        }
        Ok(closed)
    }
}

enum Begun {
    Closed(Batch),
    Open { rank: i64, method: Method },
}

/// What a close works on.
struct Of {
    day: ServiceDay,
    rank: i64,
    force: bool,
    sharing: Option<Sharing>,
}

/// A chunk that is priced and not yet booked.
struct Ready {
    cursor: Vec<u8>,
    after: Vec<u8>,
    changes: Vec<Change>,
    unknown: Vec<UnknownStation>,
}
