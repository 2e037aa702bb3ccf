//! Days that cannot be priced any more: their taps, or those of days that their caps count over, are deleted.

use wavepass_fares::{ServiceDay, Tariffs};

use super::{Clearing, ClearingError, tariffs};
use crate::cli::App;
use crate::intake::forgotten::last_deleted_day_in;
use crate::store::db::Conn;

/// The first service day whose taps bear on what a day costs.
pub(crate) fn first_needed(tariffs: &Tariffs, day: ServiceDay) -> ServiceDay {
    let clock = tariffs.clock();
    let first = *tariffs.window(day).start();
    // Outside the calendar there are no taps.
    clock.day_of(clock.start_ms(first) - tariffs.reach_ms()).unwrap_or(first)
}

impl Clearing {
    /// Refuses to price a day whose taps are not all there.
    pub(super) async fn not_deleted_in(&self, conn: &mut Conn, day: ServiceDay) -> Result<(), ClearingError> {
        let last = last_deleted_day_in(conn).await?;
        match last.is_some_and(|last| last >= first_needed(&self.tariffs, day).number()) {
            true => Err(ClearingError::Deleted { day }),
            false => Ok(()),
        }
    }

    /// The same, on a connection of its own.
    pub(super) async fn not_deleted(&self, day: ServiceDay) -> Result<(), ClearingError> {
        let mut conn = self.store.pool().acquire().await?;
        self.not_deleted_in(&mut conn, day).await
    }
}

/// Refuses to hold the stages of a day against each other whose taps, or journeys that end in it, are not all there. Where
/// nothing was ever deleted, no tariff is asked for.
pub(crate) async fn has_all_taps(app: &App, day: ServiceDay) -> Result<(), ClearingError> {
    let mut conn = app.store.pool().acquire().await?;
    let Some(last) = last_deleted_day_in(&mut conn).await? else { return Ok(()) };
    let tariffs = tariffs::load_in(&mut conn).await?;
    match last >= first_needed(&tariffs, day).number() {
        true => Err(ClearingError::Deleted { day }),
        false => Ok(()),
    }
}

/// Refuses what speaks of a journey of a day whose journeys are deleted.
pub(super) async fn has_journeys_in(conn: &mut Conn, day: ServiceDay) -> Result<(), ClearingError> {
    let last = last_deleted_day_in(conn).await?;
    match last.is_some_and(|last| last >= day.number()) {
        true => Err(ClearingError::Deleted { day }),
        false => Ok(()),
    }
}
