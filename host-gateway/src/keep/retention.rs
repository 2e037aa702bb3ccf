//! Deletes what is kept of service days that are long over: entries, taps, journeys, corrections, alerts and what was set
//! aside. The books stay: charges, batches, attempts, the ledger, settlements, the audit log.
//!
//! Whole days, the oldest first, each only once nothing of it is open, and only while every day that is not over for so long
//! can still be priced from its taps. A day is begun in one transaction, from which on nothing prices it any more; its rows go
//! in bounded ones; killed on the way, the next run goes on with it.

use crate::clearing::deleted::first_needed;
use crate::clearing::{ClearingError, tariffs};
use crate::cli::App;
use crate::config::ConfigError;
use crate::intake::forgotten::{Forgotten, forget_atcs_in, forget_in};
use crate::keys::TokenKey;
use crate::ledger::{Account, balances_in};
use crate::store::db::{Conn, Row, query, query_made, write_many};
use crate::store::{Audit, StoreError, audit_in, sql};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use wavepass_fares::{DayClock, Fen, ServiceDay, Tariffs};

/// Rows deleted in one transaction: some tens of milliseconds, so that intake never waits long.
const ROWS: i64 = 2_000;

/// `[retention]`
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    /// How many days after its end a service day's taps are kept; 0: for ever.
    pub days: u32,
}

/// What was deleted, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Retained {
    /// True where nothing was deleted.
    pub dry_run: bool,
    /// The days, the oldest first.
    #[schema(value_type = Vec<String>)]
    pub days: Vec<ServiceDay>,
    /// Rows by table.
    #[schema(value_type = std::collections::BTreeMap<String, u64>)]
    pub rows: BTreeMap<&'static str, u64>,
    /// The first day with taps that is old enough and stays.
    pub stays: Option<Stays>,
}

/// A day that is old enough and stays, and all after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Stays {
    /// The day.
    #[schema(value_type = String)]
    pub service_day: ServiceDay,
    /// `not_closed`, `unchecked_taps`, `debts_open`, `charges_unfinished`, `disputes_open`, `holds_standing`, `not_settled`,
    /// `breaks_open`, or `needed`: a day that stays, or may, is priced from its taps.
    pub why: &'static str,
}

impl Retained {
    fn count(&mut self, table: &'static str, rows: u64) {
        *self.rows.entry(table).or_default() += rows;
    }
}

/// What would be deleted now.
pub async fn plan(app: &App) -> Result<Retained, ClearingError> {
    let mut would = Retained { dry_run: true, ..Retained::default() };
    let Some(keep) = Keep::of(app, config(app)?).await? else { return Ok(would) };
    // What lies between the taps of two days goes with the first.
    let mut counted = BTreeMap::new();
    let begun = keep.begun(app).await?;
    if let Some(begun) = begun {
        keep.count(app, begun, &mut counted, &mut would).await?;
    }
    let mut from_ms = keep.after(begun);
    while let Some(day) = keep.next(app, from_ms, &mut would).await? {
        let mut snapshot = app.store.pool().begin().await?;
        if let Some(why) = keep.open_in(&mut snapshot, day).await? {
            would.stays = Some(Stays { service_day: day, why });
            break;
        }
        drop(snapshot);
        keep.count(app, day, &mut counted, &mut would).await?;
        from_ms = keep.clock().end_ms(day);
    }
    Ok(would)
}

/// Deletes every day that is due.
pub async fn run(app: &App, user: &str) -> Result<Retained, ClearingError> {
    delete(app, user, config(app)?, usize::MAX).await
}

/// Deletes one day that is due: the next round goes on.
pub(crate) async fn round(app: &App, user: &str, config: RetentionConfig) -> Result<(), ClearingError> {
    if config.days == 0 {
        return Ok(());
    }
    match delete(app, user, config, 1).await {
        Ok(done) => {
            for day in &done.days {
                tracing::info!(%day, "the taps of a service day are deleted");
            }
            Ok(())
        }
        // Nothing was ever closed.
        Err(ClearingError::NoTariff) => Ok(()),
        Err(error) => Err(error),
    }
}

fn config(app: &App) -> Result<RetentionConfig, ClearingError> {
    let outside = |e: ConfigError| ClearingError::Outside { what: "configuration", source: e.into() };
    app.config.section("retention").map_err(outside)
}

async fn delete(
    app: &App,
    user: &str,
    config: RetentionConfig,
    most: usize,
) -> Result<Retained, ClearingError> {
    let mut done = Retained::default();
    let Some(keep) = Keep::of(app, config).await? else { return Ok(done) };
    if let Some(begun) = keep.begun(app).await? {
        keep.delete_day(app, user, begun, &mut done).await?;
    }
    let mut from_ms = keep.from_ms;
    while done.days.len() < most
        && let Some(day) = keep.next(app, from_ms, &mut done).await?
    {
        if let Some(why) = keep.begin(app, day).await? {
            done.stays = Some(Stays { service_day: day, why });
            break;
        }
        keep.delete_day(app, user, day, &mut done).await?;
        from_ms = keep.clock().end_ms(day);
    }
    if !done.days.is_empty() {
        app.store.fold().await?;
    }
    Ok(done)
}

/// Which days are due.
struct Keep {
    tariffs: std::sync::Arc<Tariffs>,
    /// Where the first day begins that can have been closed.
    from_ms: i64,
    /// The first day that is not old enough.
    fresh: ServiceDay,
    /// The first day that must stay, because it, or a day after it that is not old enough or not closed, is priced from it.
    until: ServiceDay,
    /// A day that is old enough and not closed.
    not_closed: Option<ServiceDay>,
}

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

impl Keep {
    /// `None` where everything is kept for ever.
    async fn of(app: &App, config: RetentionConfig) -> Result<Option<Self>, ClearingError> {
        if config.days == 0 {
            return Ok(None);
        }
        let now_ms = sql::ms(app.now()?);
        let mut conn = app.store.pool().acquire().await?;
        let tariffs = tariffs::load_in(&mut conn).await?;
        let clock = app.config.day_clock();
        if tariffs.clock() != clock {
            return Err(ClearingError::OtherDay);
        }
        let today = clock.day_of(now_ms).map_err(|_| ClearingError::damaged("clock"))?;
        let fresh = today.plus(-i64::from(config.days));
        let first: i64 = query("SELECT min(effective_from) FROM tariffs").scalar(&mut conn).await?;
        let first = day(first)?;
        let not_closed: Option<i64> = query(
            "SELECT min(t.service_day) FROM tapped_days AS t WHERE t.service_day >= ? AND t.service_day < ? \
             AND NOT EXISTS (SELECT 1 FROM batches AS b WHERE b.service_day = t.service_day AND b.rank = 0)",
        )
        .bind(first.number())
        .bind(fresh.number())
        .scalar(&mut conn)
        .await?;
        let not_closed = not_closed.map(day).transpose()?;
        let needed = [Some(fresh), not_closed].into_iter().flatten().map(|day| first_needed(&tariffs, day));
        let until = needed.fold(fresh, ServiceDay::min);
        let from_ms = clock.start_ms(first);
        Ok(Some(Self { tariffs, from_ms, fresh, until, not_closed }))
    }

    /// From where on days are looked for after one that was begun before all others.
    fn after(&self, begun: Option<ServiceDay>) -> i64 {
        begun.map_or(self.from_ms, |day| self.clock().end_ms(day).max(self.from_ms))
    }

    fn clock(&self) -> &DayClock {
        self.tariffs.clock()
    }

    /// A day that was begun and not finished.
    async fn begun(&self, app: &App) -> Result<Option<ServiceDay>, ClearingError> {
        let begun: Option<i64> = query("SELECT min(service_day) FROM deleted_days WHERE state = 'deleting'")
            .scalar(app.store.pool())
            .await?;
        begun.map(day).transpose()
    }

    /// The next day with taps that is due; says of one that is old enough and not due why it stays.
    async fn next(
        &self,
        app: &App,
        from_ms: i64,
        done: &mut Retained,
    ) -> Result<Option<ServiceDay>, ClearingError> {
        let next: Option<i64> =
            query("SELECT min(time_ms) FROM taps INDEXED BY taps_time WHERE time_ms >= ?")
                .bind(from_ms)
                .scalar(app.store.pool())
                .await?;
        let Some(day) = next.and_then(|ms| self.clock().day_of(ms).ok()) else { return Ok(None) };
        if day < self.until {
            return Ok(Some(day));
        }
        if day < self.fresh {
            let why = if self.not_closed == Some(day) { "not_closed" } else { "needed" };
            done.stays = Some(Stays { service_day: day, why });
        }
        Ok(None)
    }

    /// What of a day is open.
    async fn open_in(&self, conn: &mut Conn, day: ServiceDay) -> Result<Option<&'static str>, ClearingError> {
        for (why, text) in [
            (
                "not_closed",
                "SELECT count(*) FROM tapped_days AS t WHERE t.service_day = ? AND NOT EXISTS \
                 (SELECT 1 FROM batches AS b WHERE b.service_day = t.service_day AND b.rank = 0)",
            ),
            ("not_closed", "SELECT count(*) FROM day_close WHERE service_day = ? AND state = 'pricing'"),
            (
                "debts_open",
                "SELECT count(*) FROM debts INDEXED BY debts_open WHERE state = 'open' AND service_day = ?",
            ),
            (
                "charges_unfinished",
                "SELECT count(*) FROM charges AS c INDEXED BY charges_unfinished \
                 WHERE c.state IN ('open', 'sent', 'in_doubt', 'declined') AND c.service_day = ?",
            ),
            ("disputes_open", "SELECT count(*) FROM disputes WHERE state = 'open' AND service_day = ?"),
            (
                "holds_standing",
                "SELECT count(*) FROM holds WHERE state IN ('asked', 'in_doubt', 'active') AND service_day = ?",
            ),
            ("breaks_open", "SELECT count(*) FROM breaks WHERE closed_ms IS NULL AND service_day = ?"),
        ] {
            let open: i64 = query(text).bind(day.number()).scalar(&mut *conn).await?;
            if open > 0 {
                return Ok(Some(why));
            }
        }
        let (start_ms, end_ms) = (self.clock().start_ms(day), self.clock().end_ms(day));
        let unchecked: i64 = query("SELECT count(*) FROM unchecked WHERE from_ms < ? AND upto_ms >= ?")
            .bind(end_ms)
            .bind(start_ms)
            .scalar(&mut *conn)
            .await?;
        if unchecked > 0 {
            return Ok(Some("unchecked_taps"));
        }
        let balances = balances_in(conn, Some(day.number())).await?;
        let of = [Account::Deducted, Account::Sponsored, Account::Covered, Account::Settled, Account::Fees];
        // What was settled and the fees are what is due, with the other sign.
        let not_settled = Fen::sum(of.map(|account| balances.of(account)))? != Fen::ZERO;
        Ok(not_settled.then_some("not_settled"))
    }

    /// Begins to delete a day, unless something of it is open. From then on nothing prices it.
    async fn begin(&self, app: &App, day: ServiceDay) -> Result<Option<&'static str>, ClearingError> {
        let mut tx = app.store.begin().await?;
        if let Some(why) = self.open_in(&mut tx, day).await? {
            return Ok(Some(why));
        }
        // Another run may have begun it, and taps of a day that is gone may have come late.
        query("INSERT INTO deleted_days (service_day, state) VALUES (?, 'deleting') ON CONFLICT (service_day) DO UPDATE SET state = 'deleting'")
            .bind(day.number())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(None)
    }

    /// Deletes the rows of a day that was begun.
    async fn delete_day(
        &self,
        app: &App,
        user: &str,
        day: ServiceDay,
        done: &mut Retained,
    ) -> Result<(), ClearingError> {
        let mut own = Retained::default();
        for stretch in self.stretches(app, day).await? {
            while self.delete_entries(app, day, &stretch, &mut own).await? {}
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
        Ok(())
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
            stretches.push(Stretch {
                key_id,
                after: before.unwrap_or(0),
                before: next.unwrap_or(i64::MAX),
                last,
            });
        }
        Ok(stretches)
    }

    /// Deletes some entries of a stretch with their taps, and remembers what rule 3 needs of them. False: there are no more.
    async fn delete_entries(
        &self,
        app: &App,
        day: ServiceDay,
        stretch: &Stretch,
        own: &mut Retained,
    ) -> Result<bool, ClearingError> {
        let mut tx = app.store.begin().await?;
        let text = concat!(
            "SELECT e.sequence, e.counter, e.kind, t.token_key, t.atc, COALESCE(t.counted, 0) ",
            entries_of_day!(),
            " ORDER BY e.sequence LIMIT ?"
        );
        let rows = self.bind(query(text), day, stretch).bind(ROWS).fetch_all(&mut *tx).await?;
        let (mut entries, mut taps) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        let mut atcs: BTreeMap<TokenKey, u16> = BTreeMap::new();
        for row in &rows {
            let entry = Forgotten { sequence: row.try_get(0)?, counter: row.try_get(1)? };
            entries.push(entry);
            if row.try_get::<i64>(2)? == 1 {
                taps.push(entry.sequence);
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
        let text = "DELETE FROM taps WHERE (key_id, sequence) IN (VALUES ??)";
        let places = taps.iter().map(|sequence| (&stretch.key_id, *sequence));
        own.count("taps", write_many(&mut tx, text, places).await?);
        query("DELETE FROM passages_waiting WHERE key_id = ? AND of <= ?")
            .bind(&stretch.key_id)
            .bind(stretch.last)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(rows.len() as i64 == ROWS)
    }

    fn bind<'a>(
        &self,
        query: crate::store::db::Query<'a>,
        day: ServiceDay,
        stretch: &'a Stretch,
    ) -> crate::store::db::Query<'a> {
        let (start_ms, end_ms) = (self.clock().start_ms(day), self.clock().end_ms(day));
        let query = query.bind(&stretch.key_id).bind(stretch.after).bind(stretch.before);
        // What came since the last day that is old enough is no such day's.
        query.bind(start_ms).bind(end_ms).bind(self.clock().start_ms(self.fresh))
    }

    /// Counts what would be deleted of a day.
    async fn count(
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

/// A gate's journal between two taps that stay.
struct Stretch {
    key_id: [u8; 8],
    /// The place of the one before.
    after: i64,
    /// The place of the next one.
    before: i64,
    /// The last tap of the day.
    last: i64,
}

/// The entries of a stretch that go with a day: its taps, and what is no tap and came long ago.
macro_rules! entries_of_day {
    () => {
        "FROM entries AS e LEFT JOIN taps AS t ON t.key_id = e.key_id AND t.sequence = e.sequence WHERE e.key_id = ? \
         AND e.sequence > ? AND e.sequence < ? AND ((e.kind = 1 AND t.time_ms >= ? AND t.time_ms < ?) \
         OR (e.kind <> 1 AND e.received_ms < ?))"
    };
}
use entries_of_day;

/// Whose ATC a deleted tap used, where it counted.
fn used(row: &Row) -> Result<Option<(TokenKey, u16)>, ClearingError> {
    let (key, atc): (Option<&[u8]>, Option<u16>) = (row.try_get(3)?, row.try_get(4)?);
    if row.try_get::<i64>(5)? == 0 {
        return Ok(None);
    }
    let key = key.map(crate::clearing::token_key).transpose()?;
    Ok(key.zip(atc))
}

fn day(number: i64) -> Result<ServiceDay, ClearingError> {
    ServiceDay::from_number(number).map_err(|_| ClearingError::damaged("a service day"))
}
