//! Alerts of risk: listed and ended. Ending one changes nothing of the deny list nor of what counts.

use super::{DeskError, RowId, apply};
use crate::input;
use crate::store::db::{Conn, Row, query};
use crate::store::{Audit, Store, sql};
use serde::Serialize;
use utoipa::ToSchema;
use wavepass_fares::ServiceDay;

/// What risk found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AlertRow {
    /// Its id, from its content.
    pub id: String,
    /// Its kind.
    pub kind: String,
    /// The token's key, 32 hexadecimal digits.
    pub token_key: Option<String>,
    /// Its day.
    #[schema(value_type = Option<String>)]
    pub service_day: Option<ServiceDay>,
    /// What was found.
    pub detail: String,
    /// When it happened, in milliseconds since 1970-01-01 UTC.
    pub event_ms: i64,
    /// When it was found.
    pub raised_ms: i64,
    /// When it was ended.
    pub cleared_ms: Option<i64>,
}

/// Alerts, by id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Alerts {
    /// The alerts.
    pub alerts: Vec<AlertRow>,
}

/// Which alerts.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Only of this kind.
    pub kind: Option<String>,
    /// Those that were ended, too.
    pub ended: bool,
    /// Only those after this id: the next page.
    pub after: Option<RowId>,
    /// At most so many.
    pub limit: u32,
}

/// A page of alerts, by id.
pub async fn list(store: &Store, wanted: Wanted) -> Result<Alerts, DeskError> {
    let rows = query(
        "SELECT id, kind, token_key, service_day, detail, event_ms, raised_ms, cleared_ms FROM alerts \
         WHERE id > ?1 AND (?2 IS NULL OR kind = ?2) AND (?3 = 1 OR cleared_ms IS NULL) ORDER BY id LIMIT ?4",
    )
    .bind(wanted.after.as_ref().map_or("", RowId::as_str))
    .bind(wanted.kind)
    .bind(wanted.ended)
    .bind(wanted.limit)
    .fetch_all(store.pool())
    .await?;
    let row = |row: &Row| -> Result<AlertRow, DeskError> {
        let service_day: Option<i64> = row.try_get(3)?;
        Ok(AlertRow {
            id: row.try_get(0)?,
            kind: row.try_get(1)?,
            token_key: row.try_get::<Option<&[u8]>>(2)?.map(sql::hex),
            // A gate's clock may have been wrong by centuries: such a day has no date.
            service_day: service_day.and_then(|day| ServiceDay::from_number(day).ok()),
            detail: row.try_get(4)?,
            event_ms: row.try_get(5)?,
            raised_ms: row.try_get(6)?,
            cleared_ms: row.try_get(7)?,
        })
    };
    Ok(Alerts { alerts: rows.iter().map(row).collect::<Result<_, _>>()? })
}

/// Ends an alert in the caller's transaction; the audit line's detail says why. False: it is ended already.
pub async fn end_in(conn: &mut Conn, id: &str, line: &Audit<'_>) -> Result<bool, DeskError> {
    input::sentence("a reason", line.detail)?;
    let update = query("UPDATE alerts SET cleared_ms = ? WHERE id = ? AND cleared_ms IS NULL");
    let there = query("SELECT count(*) FROM alerts WHERE id = ?").bind(id);
    apply(conn, update.bind(sql::ms(line.at)).bind(id), there, line).await?.ok_or(DeskError::NoAlert)
}
