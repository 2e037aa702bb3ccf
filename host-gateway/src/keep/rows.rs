//! The rows of a service day that is deleted: counted, or deleted in bounded transactions.

use super::due::Keep;
use super::retention::{Retained, Stays};
use crate::clearing::ClearingError;
use crate::cli::App;
use crate::intake::forgotten::{Forgotten, forget_atcs_in, forget_in};
use crate::keys::TokenKey;
use crate::risk::{drop_day, forget_recent_in, is_in_pass};
use crate::store::db::{Query, Row, query, query_made, write_many};
use crate::store::sql::UTC_DAY_MS;
use crate::store::{Audit, StoreError, audit_in};
use std::collections::BTreeMap;
use wavepass_fares::ServiceDay;

/// Rows deleted in one transaction: some tens of milliseconds, so that intake never waits long.
const ROWS: i64 = 2_000;

/// A day's rows of a table that is found by the day.
struct ByDay {
    table: &'static str,
    key: &'static str,
    of_day: &'static str,
    by: By,
}

/// What of a day a statement is given.
#[derive(Clone, Copy)]
enum By {
    Number,
    End,
}

const BY_DAY: [ByDay; 4] = [
    ByDay {
        table: "journeys",
        key: "service_day, token_key, first_key, first_sequence, part",
        of_day: "service_day = ?",
        by: By::Number,
    },
    ByDay {
        table: "corrections",
        key: "token_key, service_day, first_key, first_sequence",
        of_day: "service_day = ?",
        by: By::Number,
    },
    ByDay { table: "alerts", key: "id", of_day: "event_ms < ?", by: By::End },
    // What an open break speaks of is looked at first.
    ByDay {
        table: "set_aside",
        key: "id",
        of_day: "received_ms < ? AND NOT EXISTS (SELECT 1 FROM breaks AS b WHERE b.service_day IS NULL \
                 AND b.closed_ms IS NULL AND b.detail LIKE '%' || set_aside.id)",
        by: By::End,
    },
];

/// A gate's journal between two taps that stay.
struct Stretch {
    key_id: [u8; 8],
    /// The place of the one before.
    after: i64,
    /// The place of the next one.
    before: i64,
}

/// What was deleted of a stretch.
enum Deleted {
    Some,
    /// All that there was.
    Rest,
    /// Nothing: a pass of risk is open.
    Waits,
}

/// Of a gate's passages that wait for their taps, those that came before what is deleted: right after the place of the tap, no
/// entry is left before the first that is gone.
const PASSAGES_WAITING: &str = "DELETE FROM passages_waiting WHERE key_id = ? AND EXISTS (SELECT 1 FROM forgotten_entries AS f \
    WHERE f.key_id = passages_waiting.key_id AND f.upto_sequence > passages_waiting.of AND NOT EXISTS \
    (SELECT 1 FROM entries AS e WHERE e.key_id = f.key_id AND e.sequence > passages_waiting.of \
    AND e.sequence < f.from_sequence))";

/// The entries of a stretch that go with a day: its taps, and what is no tap and came long ago.
macro_rules! entries_of_day {
    () => {
        "FROM entries AS e LEFT JOIN taps AS t ON t.key_id = e.key_id AND t.sequence = e.sequence WHERE e.key_id = ? \
         AND e.sequence > ? AND e.sequence < ? AND ((e.kind = 1 AND t.time_ms >= ? AND t.time_ms < ?) \
         OR (e.kind <> 1 AND e.received_ms < ?))"
    };
}

impl Keep {
    /// Deletes the rows of a day that was begun. False: a pass of risk is open that may have read a tap of it, and would enter it
    /// beside its token when it is gone; the next run goes on.
    pub(super) async fn delete_day(
        &self,
        app: &App,
        user: &str,
        day: ServiceDay,
        done: &mut Retained,
    ) -> Result<bool, ClearingError> {
        let mut own = Retained::default();
        // The rows of tokens that are left are deleted with their taps.
        drop_day(&app.store, self.clock(), day).await?;
        for stretch in self.stretches(app, day).await? {
            loop {
                match self.delete_entries(app, day, &stretch, &mut own).await? {
                    Deleted::Some => {}
                    Deleted::Rest => break,
                    Deleted::Waits => {
                        done.stays = Some(Stays { service_day: day, why: "unchecked_taps" });
                        return Ok(false);
                    }
                }
            }
        }
        for rows in &BY_DAY {
            let ByDay { table, key, of_day, by } = rows;
            let text = format!(
                "DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE {of_day} LIMIT {ROWS})"
            );
            loop {
                let mut tx = app.store.begin().await?;
                let gone = query_made(text.clone()).bind(self.given(*by, day)).execute(&mut *tx).await?;
                tx.commit().await?;
                own.count(table, gone);
                if gone < ROWS as u64 {
                    break;
                }
            }
        }
        let at = app.now()?;
        let mut tx = app.store.begin().await?;
        query("DELETE FROM tapped_days WHERE service_day = ?").bind(day.number()).execute(&mut *tx).await?;
        query("DELETE FROM open_slices WHERE start_ms >= ? AND start_ms < ?")
            .bind(self.clock().start_ms(day))
            .bind(self.clock().end_ms(day))
            .execute(&mut *tx)
            .await?;
        let ended =
            query("UPDATE deleted_days SET state = 'deleted' WHERE service_day = ? AND state = 'deleting'")
                .bind(day.number())
                .execute(&mut *tx)
                .await?;
        if ended > 0 {
            let counts: Vec<String> =
                own.rows.iter().map(|(table, rows)| format!("{table} {rows}")).collect();
            let subject = &day.to_string();
            let line = Audit { at, user, action: "day.delete", subject, detail: &counts.join(", ") };
            audit_in(&mut tx, &line).await?;
        }
        tx.commit().await?;
        done.days.push(day);
        for (table, rows) in own.rows {
            done.count(table, rows);
        }
        Ok(true)
    }

    fn given(&self, by: By, day: ServiceDay) -> i64 {
        match by {
            By::Number => day.number(),
            By::End => self.clock().end_ms(day),
        }
    }

    /// Where in gates' journals the taps of a day are: from after the last tap before them that stays to before the next that
    /// does, so that what lies between taps, passages and emergencies, goes with them.
    async fn stretches(&self, app: &App, day: ServiceDay) -> Result<Vec<Stretch>, ClearingError> {
        let mut snapshot = app.store.pool().begin().await?;
        let gates: Vec<(Vec<u8>, i64, i64)> = query(
            "SELECT key_id, min(sequence), max(sequence) FROM taps INDEXED BY taps_time WHERE time_ms >= ? AND time_ms < ? \
             GROUP BY key_id ORDER BY key_id",
        )
        .bind(self.clock().start_ms(day))
        .bind(self.clock().end_ms(day))
        .rows(&mut *snapshot)
        .await?;
        let mut stretches = Vec::with_capacity(gates.len());
        for (key_id, first, last) in gates {
            let before: Option<i64> =
                query("SELECT max(sequence) FROM taps WHERE key_id = ? AND sequence < ?")
                    .bind(&key_id)
                    .bind(first)
                    .scalar(&mut *snapshot)
                    .await?;
            let next: Option<i64> = query("SELECT min(sequence) FROM taps WHERE key_id = ? AND sequence > ?")
                .bind(&key_id)
                .bind(last)
                .scalar(&mut *snapshot)
                .await?;
            let key_id = key_id.try_into().map_err(|_| StoreError::Damaged { what: "key id" })?;
            stretches.push(Stretch { key_id, after: before.unwrap_or(0), before: next.unwrap_or(i64::MAX) });
        }
        Ok(stretches)
    }

    /// Deletes some entries of a stretch with their taps, and remembers what rule 3 needs of them.
    async fn delete_entries(
        &self,
        app: &App,
        day: ServiceDay,
        stretch: &Stretch,
        own: &mut Retained,
    ) -> Result<Deleted, ClearingError> {
        let mut tx = app.store.begin().await?;
        if is_in_pass(&mut tx).await? {
            return Ok(Deleted::Waits);
        }
        let text = concat!(
            "SELECT e.sequence, e.counter, e.kind, t.token_key, t.atc, COALESCE(t.counted, 0), t.time_ms, t.opened ",
            entries_of_day!(),
            " ORDER BY e.sequence LIMIT ?"
        );
        let rows = self.bind(query(text), day, stretch).bind(ROWS).fetch_all(&mut *tx).await?;
        let (mut entries, mut taps) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        let mut of_tokens: Vec<(i64, TokenKey, i64, i64)> = Vec::new();
        let mut atcs: BTreeMap<TokenKey, u16> = BTreeMap::new();
        for row in &rows {
            let entry = Forgotten { sequence: row.try_get(0)?, counter: row.try_get(1)? };
            entries.push(entry);
            if row.try_get::<i64>(2)? == 1 {
                taps.push(entry.sequence);
                if let Some((token, time_ms)) = opened(row)? {
                    of_tokens.push((time_ms.div_euclid(UTC_DAY_MS), token, time_ms, entry.sequence));
                }
            }
            if let Some((key, atc)) = used(row)? {
                let mark = atcs.entry(key).or_insert(atc);
                *mark = (*mark).max(atc);
            }
        }
        forget_in(&mut tx, &stretch.key_id, &entries).await?;
        forget_atcs_in(&mut tx, &atcs).await?;
        let places = entries.iter().map(|entry| (&stretch.key_id, entry.sequence));
        let text = "DELETE FROM entries WHERE (key_id, sequence) IN (VALUES ??)";
        own.count("entries", write_many(&mut tx, text, places).await?);
        let places = || taps.iter().map(|sequence| (&stretch.key_id, *sequence));
        let text = "DELETE FROM taps WHERE (key_id, sequence) IN (VALUES ??)";
        own.count("taps", write_many(&mut tx, text, places()).await?);
        // A gate's other taps may be of days that stay.
        let text = "DELETE FROM late_passages WHERE (key_id, of) IN (VALUES ??)";
        write_many(&mut tx, text, places()).await?;
        let text =
            "DELETE FROM token_taps WHERE (utc_day, token_key, time_ms, key_id, sequence) IN (VALUES ??)";
        let rows_of = of_tokens.iter().map(|(utc_day, token, time_ms, sequence)| {
            (*utc_day, token.as_slice(), *time_ms, &stretch.key_id, *sequence)
        });
        write_many(&mut tx, text, rows_of).await?;
        let tokens = of_tokens.iter().map(|(_, token, ..)| *token).collect();
        forget_recent_in(&mut tx, &tokens, self.clock().end_ms(day)).await?;
        query(PASSAGES_WAITING).bind(&stretch.key_id).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(if rows.len() as i64 == ROWS { Deleted::Some } else { Deleted::Rest })
    }

    fn bind<'a>(&self, query: Query<'a>, day: ServiceDay, stretch: &'a Stretch) -> Query<'a> {
        let (start_ms, end_ms) = (self.clock().start_ms(day), self.clock().end_ms(day));
        let query = query.bind(&stretch.key_id).bind(stretch.after).bind(stretch.before);
        // What came since the last day that is old enough is no such day's.
        query.bind(start_ms).bind(end_ms).bind(self.clock().start_ms(self.fresh))
    }

    /// Counts what would be deleted of a day.
    pub(super) async fn count(
        &self,
        app: &App,
        day: ServiceDay,
        counted: &mut BTreeMap<[u8; 8], i64>,
        would: &mut Retained,
    ) -> Result<(), ClearingError> {
        let mut stretches = self.stretches(app, day).await?;
        let mut snapshot = app.store.pool().begin().await?;
        for stretch in &mut stretches {
            let before = counted.insert(stretch.key_id, stretch.before);
            stretch.after = stretch.after.max(before.map_or(0, |before| before - 1));
            let text = concat!(
                "SELECT count(*), CAST(COALESCE(SUM(CASE WHEN e.kind = 1 THEN 1 ELSE 0 END), 0) AS BIGINT) ",
                entries_of_day!()
            );
            let (entries, taps): (i64, i64) =
                self.bind(query(text), day, stretch).row(&mut *snapshot).await?;
            would.count("entries", entries.unsigned_abs());
            would.count("taps", taps.unsigned_abs());
        }
        for ByDay { table, of_day, by, .. } in &BY_DAY {
            let text = format!("SELECT count(*) FROM {table} WHERE {of_day}");
            let rows: i64 = query_made(text).bind(self.given(*by, day)).scalar(&mut *snapshot).await?;
            // What is found by a time is counted from the beginning of time on: the last day's count holds all.
            match by {
                By::Number => would.count(table, rows.unsigned_abs()),
                By::End => drop(would.rows.insert(table, rows.unsigned_abs())),
            }
        }
        would.days.push(day);
        Ok(())
    }
}

/// Whose ATC a deleted tap used, where it counted.
fn used(row: &Row) -> Result<Option<(TokenKey, u16)>, ClearingError> {
    let (key, atc): (Option<&[u8]>, Option<u16>) = (row.try_get(3)?, row.try_get(4)?);
    if row.try_get::<i64>(5)? == 0 {
        return Ok(None);
    }
    let key = key.map(crate::clearing::token_key).transpose()?;
    Ok(key.zip(atc))
}

/// Whose opened a deleted tap was, and when.
fn opened(row: &Row) -> Result<Option<(TokenKey, i64)>, ClearingError> {
    let key: Option<&[u8]> = row.try_get(3)?;
    let key = key.map(crate::clearing::token_key).transpose()?;
    let time_ms: Option<i64> = row.try_get(6)?;
    let is_opened = row.try_get::<Option<i64>>(7)? == Some(1);
    Ok(key.zip(time_ms).filter(|_| is_opened))
}
