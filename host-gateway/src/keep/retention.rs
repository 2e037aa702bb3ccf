//! Deletes what is kept of service days that are long over: entries, taps, journeys, corrections, alerts and what was set
//! aside. The books stay: charges, batches, attempts, the ledger, settlements, the audit log.
//!
//! Whole days, the oldest first, each only once nothing of it is open, and only while every day that is not over for so long
//! can still be priced from its taps. A day is begun in one transaction, from which on nothing prices it any more; its rows go
//! in bounded ones; killed on the way, the next run goes on with it.

use super::due::Keep;
use crate::clearing::ClearingError;
use crate::cli::App;
use crate::config::ConfigError;
use crate::risk::is_in_pass;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use wavepass_fares::ServiceDay;

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
    /// True where `[retention] days` is 0: no day is ever due.
    pub off: bool,
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
    pub(super) fn count(&mut self, table: &'static str, rows: u64) {
        *self.rows.entry(table).or_default() += rows;
    }
}

/// What would be deleted now.
pub async fn plan(app: &App) -> Result<Retained, ClearingError> {
    let mut would = Retained { dry_run: true, ..Retained::default() };
    let Some(keep) = Keep::of(app, config(app)?).await? else { return Ok(Retained { off: true, ..would }) };
    // What lies between the taps of two days goes with the first.
    let mut counted = BTreeMap::new();
    let begun = keep.begun(app).await?;
    if let Some(begun) = begun {
        if is_in_pass(&mut app.store.pool().acquire().await?).await? {
            would.stays = Some(Stays { service_day: begun, why: "unchecked_taps" });
            return Ok(would);
        }
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
    let Some(keep) = Keep::of(app, config).await? else { return Ok(Retained { off: true, ..done }) };
    let begun = keep.begun(app).await?;
    if let Some(begun) = begun
        && !keep.delete_day(app, user, begun, &mut done).await?
    {
        return Ok(done);
    }
    let mut from_ms = keep.after(begun);
    while done.days.len() < most
        && let Some(day) = keep.next(app, from_ms, &mut done).await?
    {
        if let Some(why) = keep.begin(app, day).await? {
            done.stays = Some(Stays { service_day: day, why });
            break;
        }
        if !keep.delete_day(app, user, day, &mut done).await? {
            break;
        }
        from_ms = keep.clock().end_ms(day);
    }
    if !done.days.is_empty() {
        app.store.fold().await?;
    }
    Ok(done)
}
