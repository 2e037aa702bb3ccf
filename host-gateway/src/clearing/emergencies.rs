//! Reads the emergencies that bear on a service day. What a gate told without knowing the time is left out: intake has
//! raised a break for it.

use crate::store::db::{Pool, query};
use wavepass_fares::{Periods, ServiceDay, Switch, TapId, Tariffs};

use super::ClearingError;

/// The periods in which a journey may lack a tap that bears on what the day costs. Of each gate also the last switch before that time and the
/// first after it are read: a period may reach in from days before, and end days after.
const SWITCHES: &str = "SELECT key_id, sequence, time_ms, active FROM emergencies \
     WHERE clock > 0 AND (time_ms BETWEEN ?1 AND ?2 \
     OR (key_id, sequence) IN (SELECT key_id, MAX(sequence) FROM emergencies WHERE clock > 0 AND time_ms < ?1 GROUP BY key_id) \
     OR (key_id, sequence) IN (SELECT key_id, MIN(sequence) FROM emergencies WHERE clock > 0 AND time_ms > ?2 GROUP BY key_id))";

pub(super) async fn read_emergencies(
    pool: &Pool,
    tariffs: &Tariffs,
    day: ServiceDay,
) -> Result<Periods, ClearingError> {
    let (clock, reach_ms) = (tariffs.clock(), tariffs.maximum_journey_ms());
    let rows = query(SWITCHES)
        .bind(clock.start_ms(*tariffs.window(day).start()) - reach_ms)
        .bind(clock.end_ms(day) + reach_ms)
        .fetch_all(pool)
        .await?;
    let mut switches = Vec::with_capacity(rows.len());
    for row in &rows {
        let key = row.try_get::<&[u8]>(0)?.try_into();
        let key = key.map_err(|_| ClearingError::damaged("an emergency's key id"))?;
        let id = TapId { key, sequence: row.try_get(1)? };
        switches.push(Switch { id, time_ms: row.try_get(2)?, active: row.try_get(3)? });
    }
    Ok(Periods::of_switches(clock, &switches))
}
