//! Which service days are due to be deleted, and what stands in the way of one.

use super::retention::{Retained, RetentionConfig, Stays};
use crate::clearing::deleted::first_needed;
use crate::clearing::{ClearingError, tariffs};
use crate::cli::App;
use crate::ledger::{Account, balances_in};
use crate::risk::is_in_pass;
use crate::store::db::{Conn, query};
use crate::store::sql;
use std::sync::Arc;
use wavepass_fares::{DayClock, Fen, ServiceDay, Tariffs};

/// Which days are due.
pub(super) struct Keep {
    tariffs: Arc<Tariffs>,
    /// Where the first day begins that can have been closed.
    from_ms: i64,
    /// The first day that is not old enough.
    pub(super) fresh: ServiceDay,
    /// The first day that must stay, because it, or a day after it that is not old enough or not closed, is priced from it.
    until: ServiceDay,
    /// A day that is old enough and not closed.
    not_closed: Option<ServiceDay>,
}

impl Keep {
    /// `None` where everything is kept for ever.
    pub(super) async fn of(app: &App, config: RetentionConfig) -> Result<Option<Self>, ClearingError> {
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
    pub(super) fn after(&self, begun: Option<ServiceDay>) -> i64 {
        begun.map_or(self.from_ms, |day| self.clock().end_ms(day).max(self.from_ms))
    }

    pub(super) fn clock(&self) -> &DayClock {
        self.tariffs.clock()
    }

    /// A day that was begun and not finished.
    pub(super) async fn begun(&self, app: &App) -> Result<Option<ServiceDay>, ClearingError> {
        let begun: Option<i64> = query("SELECT min(service_day) FROM deleted_days WHERE state = 'deleting'")
            .scalar(app.store.pool())
            .await?;
        begun.map(day).transpose()
    }

    /// The next day with taps that is due; says of one that is old enough and not due why it stays.
    pub(super) async fn next(
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
    pub(super) async fn open_in(
        &self,
        conn: &mut Conn,
        day: ServiceDay,
    ) -> Result<Option<&'static str>, ClearingError> {
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
        let unchecked: i64 = query("SELECT count(*) FROM arrivals WHERE from_ms < ? AND upto_ms >= ?")
            .bind(end_ms)
            .bind(start_ms)
            .scalar(&mut *conn)
            .await?;
        if unchecked > 0 || is_in_pass(conn).await? {
            return Ok(Some("unchecked_taps"));
        }
        let balances = balances_in(conn, Some(day.number())).await?;
        let of = [Account::Deducted, Account::Sponsored, Account::Covered, Account::Settled, Account::Fees];
        // What was settled and the fees are what is due, with the other sign.
        let not_settled = Fen::sum(of.map(|account| balances.of(account)))? != Fen::ZERO;
        Ok(not_settled.then_some("not_settled"))
    }

    /// Begins to delete a day, unless something of it is open. From then on nothing prices it.
    pub(super) async fn begin(
        &self,
        app: &App,
        day: ServiceDay,
    ) -> Result<Option<&'static str>, ClearingError> {
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
}

fn day(number: i64) -> Result<ServiceDay, ClearingError> {
    ServiceDay::from_number(number).map_err(|_| ClearingError::damaged("a service day"))
}
