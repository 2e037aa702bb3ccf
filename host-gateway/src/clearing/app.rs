//! Clearing inside the running gateway: with its clock, its deny list, its configuration and its audit log.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::store::db::{Conn, query};
use serde::Serialize;
use wavepass_fares::ServiceDay;
use wavepass_protocol::time::UnixMs;

use super::api::CloseBody;
use super::deny::Change;
use super::{
    Clearing, ClearingError, CloseOptions, CloseSummary, Debtors, DebtorsError, DeductOptions, DeductSummary,
    tariffs,
};
use crate::cli::App;
use crate::keys::{ClearingKeys, TokenKey};
use crate::lists::deny::{Addition, Cause, add_in, registered_in, remove_in};
use crate::reconcile::{Reconciliation, reconcile_day};
use crate::settlement::{Settlement, SettlementConfig, SettlementError, settle_day};
use crate::store::{Audit, audit_in, sql};

/// Whom the deny list's audit lines name for what a close does.
const BY: &str = "clearing";

/// What closing a day came to, deduction and all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Closed {
    /// The close.
    pub close: CloseSummary,
    /// The deductions that were asked for now, of all these days; none where they were not wanted.
    pub deduct: DeductSummary,
    /// Closed days after it that were priced again, because caps or discounts count over several days.
    pub repriced: Vec<CloseSummary>,
}

/// The gateway's deny list.
struct DenyList {
    keys: Arc<dyn ClearingKeys>,
    now: UnixMs,
}

impl Debtors for DenyList {
    fn deny<'a>(&'a self, conn: &'a mut Conn, tokens: &'a [TokenKey]) -> Change<'a> {
        Box::pin(async move {
            let addition =
                |&token_key| Addition { token_key, number: None, cause: Cause::Debt, note: String::new() };
            let additions: Vec<Addition> = tokens.iter().map(addition).collect();
            add_in(conn, &*self.keys, &additions, BY, self.now).await.map_err(|e| DebtorsError(e.into()))?;
            Ok(())
        })
    }

    fn release<'a>(&'a self, conn: &'a mut Conn, tokens: &'a [TokenKey], why: &'static str) -> Change<'a> {
        Box::pin(async move {
            let entries: Vec<(TokenKey, Cause)> = tokens.iter().map(|&key| (key, Cause::Debt)).collect();
            remove_in(conn, &entries, BY, why, self.now).await.map_err(|e| DebtorsError(e.into()))?;
            Ok(())
        })
    }

    fn deny_written_off<'a>(
        &'a self,
        conn: &'a mut Conn,
        token: TokenKey,
        by: &'a str,
        why: &'a str,
    ) -> Change<'a> {
        Box::pin(async move {
            let registered = registered_in(conn, &BTreeSet::from([token])).await;
            let registered = registered.map_err(|e| DebtorsError(e.into()))?;
            let (cause, note) = (Cause::WrittenOff, why.to_owned());
            let addition = |token_key| Addition { token_key, number: None, cause, note: note.clone() };
            let additions: Vec<Addition> = registered.into_iter().map(addition).collect();
            add_in(conn, &*self.keys, &additions, by, self.now).await.map_err(|e| DebtorsError(e.into()))?;
            Ok(())
        })
    }

    fn readmit<'a>(&'a self, conn: &'a mut Conn, token: TokenKey, by: &'a str, why: &'a str) -> Change<'a> {
        Box::pin(async move {
            let entry = [(token, Cause::WrittenOff)];
            remove_in(conn, &entry, by, why, self.now).await.map_err(|e| DebtorsError(e.into()))?;
            Ok(())
        })
    }

    fn distrust<'a>(&'a self, conn: &'a mut Conn, tokens: &'a [(TokenKey, &'static str)]) -> Change<'a> {
        Box::pin(async move {
            let addition = |&(token_key, word): &(TokenKey, &str)| {
                let (cause, note) = (Cause::Authorisation, word.to_owned());
                Addition { token_key, number: None, cause, note }
            };
            let additions: Vec<Addition> = tokens.iter().map(addition).collect();
            add_in(conn, &*self.keys, &additions, BY, self.now).await.map_err(|e| DebtorsError(e.into()))?;
            Ok(())
        })
    }

    fn trust<'a>(&'a self, conn: &'a mut Conn, tokens: &'a [TokenKey]) -> Change<'a> {
        Box::pin(async move {
            let entries: Vec<(TokenKey, Cause)> =
                tokens.iter().map(|&key| (key, Cause::Authorisation)).collect();
            let why = "the bank vouches for it";
            remove_in(conn, &entries, BY, why, self.now).await.map_err(|e| DebtorsError(e.into()))?;
            Ok(())
        })
    }
}

fn outside(what: &'static str) -> impl Fn(Box<dyn std::error::Error + Send + Sync>) -> ClearingError {
    move |source| ClearingError::Outside { what, source }
}

/// A section of the configuration that cannot be.
pub(super) fn outside_configuration(error: crate::config::ConfigError) -> ClearingError {
    outside("configuration")(error.into())
}

impl Clearing {
    /// Clearing over the gateway's parts: the published tariffs and the bank that is configured.
    pub async fn of(app: &App) -> Result<Self, ClearingError> {
        let now = app.now()?;
        let mut conn = app.store.pool().acquire().await?;
        let tariffs = tariffs::load_in(&mut conn).await?;
        drop(conn);
        if tariffs.clock() != app.config.day_clock() {
            return Err(ClearingError::OtherDay);
        }
        let bank = crate::bank::http::connect(&app.config, &app.store, sql::ms(now))?;
        let debtors = DenyList { keys: app.clearing.clone(), now };
        let settlement: SettlementConfig = app.config.section("settlement").map_err(outside_configuration)?;
        Ok(Self {
            store: app.store.clone(),
            tariffs,
            bank,
            debtors: Arc::new(debtors),
            settlement: Arc::new(settlement),
            now_ms: sql::ms(now),
            deduct_page: super::deduct::PAGE,
        })
    }
}

/// Publishes a tariff file's text; the same text again changes nothing.
pub async fn publish_tariff(app: &App, user: &str, file: &str, text: &str) -> Result<(), ClearingError> {
    let day_clock = app.config.day_clock();
    let publication = tariffs::Publication { file, text, day_clock, by: user, now: app.now()? };
    let mut tx = app.store.begin().await?;
    tariffs::publish_in(&mut tx, publication).await?;
    tx.commit().await?;
    Ok(())
}

/// Says of a day that is not closed that it is not.
pub(crate) async fn closed(app: &App, day: ServiceDay) -> Result<(), ClearingError> {
    let sealed: i64 = query("SELECT count(*) FROM batches WHERE service_day = ?")
        .bind(day.number())
        .scalar(app.store.pool())
        .await?;
    if sealed == 0 { Err(ClearingError::NotClosed { day }) } else { Ok(()) }
}

/// How often a close waits for risk to look at taps that come while it works.
const LOOKS: u32 = 100;

async fn look(app: &App) -> Result<(), ClearingError> {
    crate::risk::run(app).await.map(drop).map_err(|e| outside("risk")(e.into()))
}

/// Closes. Taps that bear on it may come meanwhile: risk looks at them, and the close goes on where it was.
async fn looking<T, F>(app: &App, close: impl Fn() -> F) -> Result<T, ClearingError>
where
    F: Future<Output = Result<T, ClearingError>>,
{
    for _ in 0..LOOKS {
        match close().await {
            Err(ClearingError::Unchecked { .. }) => look(app).await?,
            other => return other,
        }
    }
    close().await
}

/// Lets risk look at what came, closes a day, deducts it and publishes what that changed of the deny list.
pub async fn close(
    app: &App,
    user: &str,
    day: ServiceDay,
    force: bool,
    late: bool,
) -> Result<Closed, ClearingError> {
    carry_out(app, user, day, CloseBody { force, late, no_deduct: false }).await
}

/// Closes a day as the caller wants it.
pub(super) async fn carry_out(
    app: &App,
    user: &str,
    day: ServiceDay,
    wanted: CloseBody,
) -> Result<Closed, ClearingError> {
    let CloseBody { force, late, no_deduct } = wanted;
    app.now()?;
    look(app).await?;
    let clearing = Clearing::of(app).await?;
    let options = CloseOptions { now_ms: sql::ms(app.now()?), force, late };
    let close = looking(app, || clearing.close_day(day, options)).await?;
    let mut deduct = DeductSummary::default();
    if !no_deduct {
        deduct.add(clearing.deduct_day(day, DeductOptions::default()).await?);
    }
    let repriced = match close.already_closed {
        true => Vec::new(),
        false => looking(app, || clearing.close_again_after(day, force)).await?,
    };
    if !no_deduct {
        for again in &repriced {
            deduct.add(clearing.deduct_day(again.service_day, DeductOptions::default()).await?);
        }
    }
    app.publish_lists().await?;
    let asked = match no_deduct {
        true => "not deducted".to_owned(),
        false => {
            let DeductSummary { approved, declined, in_doubt } = deduct;
            format!("approved {approved}, declined {declined}, in doubt {in_doubt}")
        }
    };
    let detail = format!(
        "force {force}, late {late}, already closed {}, days priced again {}, {asked}",
        close.already_closed,
        repriced.len()
    );
    audit(app, user, "day.close", day, &detail).await?;
    Ok(Closed { close, deduct, repriced })
}

/// Deducts what of a closed day is not deducted, and publishes what that changed of the deny list.
pub async fn deduct(
    app: &App,
    user: &str,
    day: ServiceDay,
    options: DeductOptions,
) -> Result<DeductSummary, ClearingError> {
    let clearing = Clearing::of(app).await?;
    closed(app, day).await?;
    let summary = clearing.deduct_day(day, options).await?;
    app.publish_lists().await?;
    let detail = format!(
        "retry {}, approved {}, declined {}, in doubt {}",
        options.retry_declined, summary.approved, summary.declined, summary.in_doubt
    );
    audit(app, user, "day.deduct", day, &detail).await?;
    Ok(summary)
}

/// Settles a closed day. Returns every settlement of the day, those of before and of now.
pub async fn settle(app: &App, user: &str, day: ServiceDay) -> Result<Vec<Settlement>, SettlementError> {
    let clearing = Clearing::of(app).await?;
    let new = settle_day(&clearing, day, &clearing.settlement).await?;
    audit(app, user, "day.settle", day, &format!("{} settlements", new.len())).await?;
    Ok(crate::settlement::of_day(&app.store, day).await?)
}

/// Reconciles a closed day.
pub async fn reconcile(app: &App, user: &str, day: ServiceDay) -> Result<Reconciliation, ClearingError> {
    look(app).await?;
    let found = reconcile_day(&Clearing::of(app).await?, day, sql::ms(app.now()?)).await?;
    let count: usize = found.differences.values().sum();
    audit(app, user, "day.reconcile", day, &format!("{count} differences, {} closed", found.closed)).await?;
    Ok(found)
}

pub(crate) async fn audit(
    app: &App,
    user: &str,
    action: &str,
    day: ServiceDay,
    detail: &str,
) -> Result<(), ClearingError> {
    let mut tx = app.store.begin().await?;
    let line = Audit { at: app.now()?, user, action, subject: &day.to_string(), detail };
    audit_in(&mut tx, &line).await?;
    tx.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use wavepass_fares::Fen;

    use super::*;
    use crate::clearing::testing::{day, deposit, house_tariff, penniless};
    use crate::testing::{House, MORNING};

    #[tokio::test]
    async fn a_sealed_tap_becomes_a_debt_on_the_published_deny_list_and_leaves_it_when_paid() {
        let (house, card, account_id) = penniless("").await;
        let app = &house.app;
        assert!(matches!(close(app, "anna", day(), false, false).await, Err(ClearingError::TooEarly { .. })));
        app.clock.driven().unwrap().set(UnixMs(MORNING + 24 * 3_600_000)).unwrap();
        let closed = close(app, "anna", day(), false, false).await.unwrap();
        assert_eq!((closed.deduct.declined, closed.deduct.approved), (1, 0));
        assert!(app.lists.denies(&card.token, Some(card.expiry)));
        let report = crate::clearing::report(&app.store, Some(day())).await.unwrap();
        assert_eq!((report.owed_fen, report.taps_counted, report.deny_list), (Fen(900), Some(1), 1));

        // Asked again with an earlier clock: what stands is told, whatever the time.
        let earlier = CloseOptions { now_ms: 1, force: false, late: false };
        let again = Clearing::of(app).await.unwrap().close_day(day(), earlier).await.unwrap();
        assert!(again.already_closed);
        assert_eq!(again.batch, closed.close.batch);

        deposit(&app.store, &account_id, 900).await;
        let retry = DeductOptions { retry_declined: true };
        assert_eq!(deduct(app, "anna", day(), retry).await.unwrap().approved, 1);
        assert!(!app.lists.denies(&card.token, Some(card.expiry)));
        assert_eq!(settle(app, "anna", day()).await.unwrap()[0].settled_fen, Fen(898));
        let found = reconcile(app, "anna", day()).await.unwrap();
        assert!(found.differences.is_empty(), "{found:?}");
        assert!(crate::clearing::report(&app.store, None).await.unwrap().balances().unwrap());
        let actions = house
            .texts("SELECT DISTINCT action FROM audit_log WHERE \"user\" = 'anna' ORDER BY action")
            .await;
        assert_eq!(actions, ["day.close", "day.deduct", "day.reconcile", "day.settle", "tariff.publish"]);
    }

    #[tokio::test]
    async fn a_day_is_closed_without_asking_the_bank_and_held_against_its_statement_before_it_is() {
        let (house, card, _) = penniless("").await;
        let app = &house.app;
        app.clock.driven().unwrap().set(UnixMs(MORNING + 24 * 3_600_000)).unwrap();
        let wanted = || CloseBody { no_deduct: true, ..CloseBody::default() };
        for already in [false, true] {
            let closed = carry_out(app, "anna", day(), wanted()).await.unwrap();
            assert_eq!((closed.close.already_closed, closed.deduct), (already, DeductSummary::default()));
        }
        assert_eq!(house.count("SELECT count(*) FROM attempts").await, 0);
        let found = reconcile(app, "anna", day()).await.unwrap();
        assert!(found.differences.is_empty(), "{found:?}");
        assert_eq!(deduct(app, "anna", day(), DeductOptions::default()).await.unwrap().declined, 1);
        assert!(app.lists.denies(&card.token, Some(card.expiry)));
        let lines = house.texts("SELECT detail FROM audit_log WHERE action = 'day.close' ORDER BY id").await;
        assert!(lines.iter().all(|line| line.ends_with("days priced again 0, not deducted")), "{lines:?}");
    }

    #[tokio::test]
    async fn a_close_goes_on_when_risk_has_looked_at_what_came_meanwhile() {
        let (house, ..) = penniless("").await;
        let clearing = Clearing::of(&house.app).await.unwrap();
        let options = CloseOptions { now_ms: i64::MAX, force: false, late: false };
        let refused = clearing.close_day(day(), options).await;
        assert!(matches!(refused, Err(ClearingError::Unchecked { .. })), "{refused:?}");
        let closed = looking(&house.app, || clearing.close_day(day(), options)).await.unwrap();
        assert_eq!(closed.batch.unwrap().charges, 1);
    }

    #[tokio::test]
    async fn a_tariff_with_another_day_than_the_gateways_is_not_published() {
        let house = House::new().await;
        for (mine, other) in [("04:00", "03:00"), ("Asia/Shanghai", "Asia/Tokyo")] {
            let text = house_tariff().replace(mine, other);
            let refused = publish_tariff(&house.app, "anna", "t.toml", &text).await.unwrap_err().to_string();
            assert!(refused.starts_with("t.toml: its time_zone"), "{refused}");
        }
        assert_eq!(house.count("SELECT count(*) FROM tariffs").await, 0);
    }

    #[tokio::test]
    async fn a_tariff_in_force_is_not_swapped_and_one_to_come_may_be() {
        let house = House::new().await;
        let publish = async |text: &str| publish_tariff(&house.app, "anna", "t.toml", text).await;
        publish(&house_tariff()).await.unwrap();
        publish(&house_tariff()).await.unwrap();
        let dearer = house_tariff().replace("single_fare_fen = 200", "single_fare_fen = 300");
        let refused = publish(&dearer).await.unwrap_err().to_string();
        assert!(refused.starts_with("t.toml: another tariff is in force from 2026-01-01"), "{refused}");
        for text in [house_tariff(), dearer] {
            publish(&text.replace("2026-01-01", "2026-12-01")).await.unwrap();
        }
        let stands = house.texts("SELECT text FROM tariffs ORDER BY effective_from").await;
        assert!(stands[0].contains("single_fare_fen = 200") && stands[1].contains("single_fare_fen = 300"));
        let audited = house.texts("SELECT action || ' ' || subject FROM audit_log ORDER BY id").await;
        let expected =
            ["tariff.publish 2026-01-01", "tariff.publish 2026-12-01", "tariff.replace 2026-12-01"];
        assert_eq!(audited, expected);
    }

    #[tokio::test]
    async fn a_day_is_not_closed_without_a_tariff_nor_deducted_before_it_is_closed() {
        let house = House::new().await;
        let refused = close(&house.app, "anna", day(), true, false).await;
        assert!(matches!(refused, Err(ClearingError::NoTariff)));
        publish_tariff(&house.app, "anna", "t.toml", &house_tariff()).await.unwrap();
        let refused = deduct(&house.app, "anna", day(), DeductOptions::default()).await;
        assert!(matches!(refused, Err(ClearingError::NotClosed { .. })));
        assert_eq!(house.count("SELECT count(*) FROM audit_log WHERE action = 'day.deduct'").await, 0);
    }
}
