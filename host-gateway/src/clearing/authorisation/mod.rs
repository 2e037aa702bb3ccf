//! Authorisation before the close: fares that are asked for early, holds, limits on unpaid first rides, and tries that riders
//! ask for by tapping again.
//!
//! A token under other terms than `day` is looked at after each of its taps, and again when its fares are old enough. What
//! its finished journeys of the day cost and nothing was booked for becomes a numbered part of its charge, booked and
//! asked for at once ([`early`]); the close books the rest, so that the day's total is the same under any terms. Into which parts
//! it falls depends on when the taps arrived. Terms are in [`crate::risk::authorisation`].

pub mod api;
mod early;
pub(super) mod holds;
mod retaps;
mod round;
pub mod show;
#[cfg(test)]
mod tests;

use serde::Serialize;
use utoipa::ToSchema;

use super::{Clearing, ClearingError, DeductSummary, app};
use crate::cli::App;
use crate::risk::Authorisation;
use crate::store::db::query;
use crate::store::sql;
use round::Authoriser;

/// Who acts, in the audit log.
const BY: &str = "clearing";

/// What came of holds that were asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct HoldSummary {
    /// Holds answered with yes.
    pub approved: u64,
    /// Holds answered with no.
    pub declined: u64,
    /// Holds without an answer.
    pub in_doubt: u64,
}

impl HoldSummary {
    const fn add(&mut self, other: Self) {
        self.approved += other.approved;
        self.declined += other.declined;
        self.in_doubt += other.in_doubt;
    }
}

/// What a round of authorisation did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Authorised {
    /// Early parts of charges that were asked for.
    pub early: DeductSummary,
    /// Holds that were asked for.
    pub holds: HoldSummary,
    /// Tokens newly denied because more is at risk than may be before they first paid.
    pub over_first_ride_limit: u64,
    /// Debts that were asked for again because their riders tapped again.
    pub by_tap: DeductSummary,
}

/// Does what is due now, of every token; safe to call at any time, and twice. The deny list is not published.
pub async fn run(app: &App) -> Result<Authorised, ClearingError> {
    let terms = Authorisation::of(&app.config).map_err(app::outside_configuration)?;
    let recovery = app.config.section("recovery").map_err(app::outside_configuration)?;
    if !is_anything_due(app).await? {
        return Ok(Authorised::default());
    }
    let clearing = match Clearing::of(app).await {
        // Nothing can be priced, and nothing is owed.
        Err(ClearingError::NoTariff) => return Ok(Authorised::default()),
        clearing => clearing?,
    };
    let gates = app.directory.current();
    let done = Authoriser { clearing: &clearing, terms: &terms, recovery: &recovery, gates }.run().await?;
    if done != Authorised::default() {
        tracing::info!(?done, "authorisation");
    }
    Ok(done)
}

/// Most rounds find nothing, and end here.
async fn is_anything_due(app: &App) -> Result<bool, ClearingError> {
    let found = query(
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM authorisation_due WHERE due_ms <= ?) OR EXISTS (SELECT 1 FROM retaps) \
         OR EXISTS (SELECT 1 FROM holds WHERE state IN ('asked', 'in_doubt', 'active')) \
         OR EXISTS (SELECT 1 FROM charges AS c WHERE c.state IN ('open', 'sent', 'in_doubt', 'declined') \
         AND c.state IN ('sent', 'in_doubt'))",
    )
    .bind(sql::ms(app.now()?))
    .fetch_optional(app.store.pool())
    .await?;
    Ok(found.is_some())
}
