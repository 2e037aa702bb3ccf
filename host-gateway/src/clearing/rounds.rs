//! What clearing does by itself, at regular times with the system's clock: authorises what is new, closes the service days that are due,
//! finishes what was closed and not deducted, asks the bank again for debts, holds the time slices that have ended, and deletes
//! the taps of days that are long over.
//!
//! All of it may be done by hand at the same time, or by another gateway on the same database: each step is the one that
//! the commands take, and happens once.

use crate::store::db::query;
use serde::Deserialize;
use wavepass_fares::ServiceDay;

use super::debts::Recovery;
use super::{Clearing, ClearingError, DeductOptions, DeductSummary, app, authorisation};
use crate::cli::App;
use crate::config::{Config, ConfigError, bounded};
use crate::keep::retention::{self, RetentionConfig};
use crate::reconcile::slices::{self, Width};
use crate::risk::Authorisation;
use crate::store::{Store, sql};

/// Who acts, in the audit log.
const BY: &str = "clearing";
/// Days looked at in one round, the oldest first; the next round goes on. More than two months of days that cannot be
/// closed would keep those after them waiting.
const MOST_DAYS: i64 = 62;

/// What nobody waits for any more, days: ten years.
const MAX_DAYS: i64 = 3_660;
/// The most tries for a debt: one an hour for two weeks.
const MAX_TRIES: i64 = 336;

/// `[clearing]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Section {
    close: Close,
}

/// Who closes service days.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Close {
    /// The gateway, once a tariff is published.
    #[default]
    Auto,
    /// A person.
    Manual,
}

/// What is done by itself, as it is configured.
#[derive(Debug, Clone)]
pub struct Rounds {
    close: Close,
    recovery: Recovery,
    slices: Width,
    retention: RetentionConfig,
}

impl Rounds {
    /// Reads `[clearing]`, `[recovery]`, `[reconcile]` and `[retention]`, and refuses an `[authorisation]` that cannot be.
    pub fn of(config: &Config) -> Result<Self, ConfigError> {
        Authorisation::of(config)?;
        let Section { close } = config.section("clearing")?;
        let recovery: Recovery = config.section("recovery")?;
        let retention: RetentionConfig = config.section("retention")?;
        bounded([
            ("recovery.tries", recovery.tries.into(), 0..=MAX_TRIES, "a number"),
            ("recovery.within_days", recovery.within_days.into(), 0..=MAX_DAYS, "days"),
            ("recovery.every_h", recovery.every_h.into(), 1..=MAX_DAYS * 24, "hours"),
            ("recovery.retap_min", recovery.retap_min.into(), 0..=MAX_DAYS * 24 * 60, "minutes"),
            ("retention.days", retention.days.into(), 0..=MAX_DAYS, "days"),
        ])?;
        Ok(Self { close, recovery, slices: Width::of(config)?, retention })
    }

    /// Does what is due now. A day that cannot be closed is logged, and the others are closed all the same: what it bears
    /// on is priced again once it is.
    pub async fn run(&self, app: &App) -> Result<(), ClearingError> {
        // Days are closed all the same: the close books what is left.
        if let Err(error) = authorisation::run(app).await {
            tracing::error!(%error, "authorisation");
        }
        if self.close == Close::Auto {
            self.close_days(app).await?;
            finish_days(app).await?;
        }
        self.recover(app).await?;
        slices::held(app, self.slices).await?;
        retention::round(app, BY, self.retention).await
    }

    async fn close_days(&self, app: &App) -> Result<(), ClearingError> {
        let now_ms = sql::ms(app.now()?);
        let ended = ended_days(app, now_ms).await?;
        if ended.is_empty() {
            return Ok(());
        }
        let tariffs = Clearing::of(app).await?.tariffs;
        let due = |day: &ServiceDay| tariffs.clock().end_ms(*day) + tariffs.maximum_journey_ms() <= now_ms;
        for day in ended.into_iter().filter(due) {
            match app::close(app, BY, day, false, false).await {
                Ok(closed) => {
                    let charges = closed.close.batch.map_or(0, |batch| batch.charges);
                    tracing::info!(%day, charges, "the service day is closed");
                }
                Err(error) => tracing::error!(%error, %day, "the service day is not closed"),
            }
        }
        Ok(())
    }

    async fn recover(&self, app: &App) -> Result<(), ClearingError> {
        let due = self.recovery.due(&app.store, app.config.day_clock(), sql::ms(app.now()?)).await?;
        if due.is_empty() {
            return Ok(());
        }
        let clearing = Clearing::of(app).await?;
        for (day, declined) in due {
            let mut summary = DeductSummary::default();
            clearing.ask_again(day, &declined, &mut summary).await?;
            // Another gateway may have asked first.
            if summary != DeductSummary::default() {
                audit(app, "debt.recover", day, "by schedule", &summary).await?;
            }
        }
        app.publish_lists().await?;
        Ok(())
    }
}

/// Asks for what of closed days has no answer yet, or was never asked for: the bank was silent, or a process died.
async fn finish_days(app: &App) -> Result<(), ClearingError> {
    let days = unfinished_days(&app.store).await?;
    if days.is_empty() {
        return Ok(());
    }
    let clearing = Clearing::of(app).await?;
    for day in days {
        let summary = clearing.deduct_day(day, DeductOptions::default()).await?;
        // While the bank is silent, every round asks, and only an answer is worth a line.
        if summary.approved + summary.declined > 0 {
            audit(app, "day.deduct", day, "without an answer before", &summary).await?;
        }
    }
    app.publish_lists().await?;
    Ok(())
}

async fn audit(
    app: &App,
    action: &str,
    day: ServiceDay,
    why: &str,
    summary: &DeductSummary,
) -> Result<(), ClearingError> {
    let DeductSummary { approved, declined, in_doubt } = summary;
    let detail = format!("{why}: approved {approved}, declined {declined}, in doubt {in_doubt}");
    app::audit(app, BY, action, day, &detail).await
}

/// Days with taps that have ended and are not closed, the oldest first, from the first tariff's on: a tap from before
/// it comes from a gate whose clock was wrong, and is for a person to look at.
async fn ended_days(app: &App, now_ms: i64) -> Result<Vec<ServiceDay>, ClearingError> {
    // A clock outside the calendar has ended no day.
    let Ok(today) = app.config.day_clock().day_of(now_ms) else { return Ok(Vec::new()) };
    // From each day with taps to the next: the index is read at as many places as there are days.
    let numbers: Vec<i64> = query(
        "WITH RECURSIVE tapped(day) AS (SELECT min(service_day) FROM tapped_days \
         WHERE service_day >= (SELECT min(effective_from) FROM tariffs) UNION ALL \
         SELECT (SELECT min(t.service_day) FROM tapped_days AS t WHERE t.service_day > tapped.day) \
         FROM tapped WHERE tapped.day < ?1) SELECT tapped.day FROM tapped WHERE tapped.day < ?1 \
         AND (NOT EXISTS (SELECT 1 FROM batches AS b WHERE b.service_day = tapped.day AND b.rank = 0) \
         OR EXISTS (SELECT 1 FROM day_close AS d WHERE d.service_day = tapped.day AND d.state = 'pricing')) \
         ORDER BY tapped.day LIMIT ?2",
    )
    .bind(today.number())
    .bind(MOST_DAYS)
    .column(app.store.pool())
    .await?;
    days(numbers)
}

/// Days with charges that are not asked for, or have no answer.
async fn unfinished_days(store: &Store) -> Result<Vec<ServiceDay>, ClearingError> {
    let numbers: Vec<i64> = query(
        "SELECT DISTINCT c.service_day FROM charges AS c INDEXED BY charges_unfinished \
         WHERE c.state IN ('open', 'sent', 'in_doubt', 'declined') AND c.state <> 'declined' \
         AND EXISTS (SELECT 1 FROM batches AS b WHERE b.service_day = c.service_day AND b.rank = c.rank) \
         ORDER BY c.service_day",
    )
    .column(store.pool())
    .await?;
    days(numbers)
}

fn days(numbers: Vec<i64>) -> Result<Vec<ServiceDay>, ClearingError> {
    let day = |n| ServiceDay::from_number(n).map_err(|_| ClearingError::damaged("a service day"));
    numbers.into_iter().map(day).collect()
}

#[cfg(test)]
mod tests {
    use wavepass_fares::Fen;
    use wavepass_protocol::time::UnixMs;

    use super::*;
    use crate::clearing::app::publish_tariff;
    use crate::clearing::debts;
    use crate::clearing::testing::{day, deposit, house_tariff, penniless};
    use crate::clearing::{CloseOptions, report};
    use crate::keys::TokenKey;
    use crate::testing::{Card, House, MORNING};

    /// Moves the clock to so many hours after [`MORNING`], and does what is due.
    async fn at(house: &House, hours: u64) {
        house.app.clock.driven().unwrap().set(UnixMs(MORNING + hours * 3_600_000)).unwrap();
        Rounds::of(&house.app.config).unwrap().run(&house.app).await.unwrap();
    }

    const BATCHES: &str = "SELECT count(*) FROM batches";
    const ATTEMPTS: &str = "SELECT count(*) FROM attempts";
    const LINES: &str = "SELECT count(*) FROM audit_log WHERE \"user\" = 'clearing' AND action LIKE 'day.%'";

    #[tokio::test]
    async fn a_day_is_closed_and_deducted_by_itself_once_it_is_due() {
        let (house, _, account) = penniless("").await;
        deposit(&house.app.store, &account, 900).await;
        // The day ends at 04:00, twenty hours after the tap; journeys may take four more.
        at(&house, 23).await;
        assert_eq!(house.count("SELECT count(*) FROM day_close").await, 0);
        for hours in [24, 25, 100] {
            at(&house, hours).await;
            // Days on which nobody tapped make no batch.
            assert_eq!((house.count(BATCHES).await, house.count(ATTEMPTS).await), (1, 1));
            assert_eq!(house.count(LINES).await, 1);
        }
        assert_eq!(report(&house.app.store, Some(day())).await.unwrap().deducted_fen, Fen(900));
    }

    #[tokio::test]
    async fn a_day_is_left_to_a_person_where_that_is_configured_and_where_no_tariff_is_published() {
        let (house, ..) = penniless("[clearing]\nclose = 'manual'").await;
        at(&house, 30).await;
        assert_eq!(house.count(BATCHES).await, 0);

        let house = House::new().await;
        let mut gate = house.gate(1).await;
        house.ingest(&[Card::new(1).tap(0, 1).seal(&mut gate)]).await;
        at(&house, 30).await;
        assert_eq!(house.count("SELECT count(*) FROM day_close").await, 0);
    }

    #[tokio::test]
    async fn days_are_closed_oldest_first_and_none_from_before_the_tariff() {
        let house = House::new().await;
        let from = house_tariff().replace("2026-01-01", "2026-11-24");
        publish_tariff(&house.app, "anna", "t.toml", &from).await.unwrap();
        let mut gate = house.gate(1).await;
        // Two days on, and then what comes late of the days before.
        for (days, atc) in [(2, 1), (0, 2), (1, 3)] {
            let tap = Card::new(1).tap(days * 24 * 3_600_000, atc);
            house.ingest(&[tap.seal(&mut gate)]).await;
        }
        at(&house, 100).await;
        let days = house.texts("SELECT CAST(service_day AS TEXT) FROM batches ORDER BY number").await;
        let expected = [day().plus(1), day().plus(2)].map(|day| day.number().to_string());
        assert_eq!(days, expected);
    }

    #[tokio::test]
    async fn what_a_dead_process_closed_and_did_not_deduct_is_deducted() {
        let (house, _, account) = penniless("").await;
        deposit(&house.app.store, &account, 900).await;
        crate::risk::run(&house.app).await.unwrap();
        let options = CloseOptions { now_ms: i64::MAX, ..CloseOptions::default() };
        Clearing::of(&house.app).await.unwrap().close_day(day(), options).await.unwrap();
        assert_eq!(house.count(ATTEMPTS).await, 0);
        at(&house, 24).await;
        assert_eq!(report(&house.app.store, Some(day())).await.unwrap().deducted_fen, Fen(900));
        assert_eq!((house.count(BATCHES).await, house.count(LINES).await), (1, 1));
    }

    #[tokio::test]
    async fn a_debt_is_asked_for_by_schedule_until_the_tries_are_used_up() {
        let (house, card, account) = penniless("[recovery]\ntries = 3\nevery_h = 2").await;
        let token = house.texts("SELECT lower(hex(token_key)) FROM tokens").await.remove(0);
        let token = TokenKey::from_hex(&token).unwrap();
        at(&house, 24).await;
        for (hours, attempts) in [(25, 1), (26, 2), (27, 2)] {
            at(&house, hours).await;
            assert_eq!(house.count(ATTEMPTS).await, attempts, "{hours} hours");
        }
        // A try by hand counts, and the next one waits for it.
        debts::recover(&house.app, "anna", token).await.unwrap();
        for (hours, attempts) in [(28, 3), (29, 4), (31, 4), (50, 4)] {
            at(&house, hours).await;
            assert_eq!(house.count(ATTEMPTS).await, attempts, "{hours} hours");
        }
        let scheduled =
            "SELECT count(*) FROM audit_log WHERE \"user\" = 'clearing' AND action = 'debt.recover'";
        assert_eq!(house.count(scheduled).await, 2);
        // By hand there is always another.
        deposit(&house.app.store, &account, 900).await;
        assert_eq!(debts::recover(&house.app, "anna", token).await.unwrap().deduct.approved, 1);
        assert!(!house.app.lists.denies(&card.token, Some(card.expiry)));
    }

    #[tokio::test]
    async fn a_debt_that_is_paid_by_schedule_leaves_the_published_list() {
        let (house, card, account) = penniless("").await;
        at(&house, 24).await;
        assert!(house.app.lists.denies(&card.token, Some(card.expiry)));
        deposit(&house.app.store, &account, 900).await;
        at(&house, 48).await;
        assert!(!house.app.lists.denies(&card.token, Some(card.expiry)));
        assert!(report(&house.app.store, None).await.unwrap().balances().unwrap());
    }

    #[tokio::test]
    async fn a_late_close_that_was_left_in_the_middle_is_gone_on_with() {
        let (house, ..) = penniless("").await;
        at(&house, 24).await;
        let mut tx = house.app.store.begin().await.unwrap();
        let begun = "INSERT INTO day_close (service_day, rank, shard, state, cursor, until, forced, shares) \
                     SELECT service_day, rank + 1, shard, 'pricing', x'', until, forced, shares FROM day_close WHERE shard = 0";
        query(begun).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        at(&house, 25).await;
        assert_eq!(house.count("SELECT count(*) FROM day_close WHERE state = 'pricing'").await, 0);
        assert_eq!(house.count(BATCHES).await, 1);
    }

    #[tokio::test]
    async fn the_gateways_rounds_close_days() {
        let (house, ..) = penniless("").await;
        house.app.clock.driven().unwrap().set(UnixMs(MORNING + 24 * 3_600_000)).unwrap();
        crate::serve::round(&house.app, &Rounds::of(&house.app.config).unwrap()).await;
        assert_eq!(house.count(BATCHES).await, 1);
    }

    #[tokio::test]
    async fn a_section_that_cannot_be_is_named() {
        for (text, name) in [
            ("[clearing]\nclose = 'sometimes'", "[clearing]"),
            ("[recovery]\ntires = 4", "tires"),
            ("[reconcile]\nslice_minutes = 7", "slice_minutes"),
            ("[retention]\nday = 30", "[retention]"),
        ] {
            let house = House::with(text).await;
            let refused = Rounds::of(&house.app.config).unwrap_err().to_string();
            assert!(refused.contains(name), "{refused}");
        }
    }
}
