//! Breaks: listed, assigned, noted and ended.

use super::{DeskError, RowId, apply};
use crate::input;
use crate::store::db::{Conn, Query, Row, query};
use crate::store::{Audit, Store, sql};
use serde::Serialize;
use utoipa::ToSchema;
use wavepass_fares::{Fen, ServiceDay};

/// A difference that somebody must look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct BreakRow {
    /// Its id, from its content.
    pub id: String,
    /// Its kind.
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// Its day.
    #[schema(value_type = Option<String>)]
    pub service_day: Option<ServiceDay>,
    /// What differs.
    pub detail: String,
    /// When it was opened, in milliseconds since 1970-01-01 UTC.
    pub opened_ms: i64,
    /// When it was closed.
    pub closed_ms: Option<i64>,
    /// Who looks at it; empty: nobody.
    pub assigned_to: String,
    /// What was last said of it.
    pub note: String,
    /// By how much the sums differ for it, where it is about money.
    #[schema(value_type = Option<i64>)]
    pub amount_fen: Option<Fen>,
    /// Who ended it, where it has ended: a user, or `reconciliation`; empty for one that ended before this was kept.
    pub ended_by: String,
    /// Why it ended.
    pub end_reason: String,
}

/// Breaks, by id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Breaks {
    /// The breaks.
    pub breaks: Vec<BreakRow>,
}

/// Which breaks.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Only this day's.
    pub day: Option<ServiceDay>,
    /// Only of this kind.
    pub kind: Option<String>,
    /// Those that were closed, too.
    pub closed: bool,
    /// Only those after this id: the next page.
    pub after: Option<RowId>,
    /// At most so many.
    pub limit: u32,
}

/// A page of breaks, by id.
pub async fn list(store: &Store, wanted: Wanted) -> Result<Breaks, DeskError> {
    let rows = query(
        "SELECT id, kind, subject, service_day, detail, opened_ms, closed_ms, assigned_to, note, amount_fen, ended_by, end_reason FROM breaks \
         WHERE id > ?1 AND (?2 IS NULL OR service_day = ?2) AND (?3 IS NULL OR kind = ?3) \
         AND (?4 = 1 OR closed_ms IS NULL) ORDER BY id LIMIT ?5",
    )
    .bind(wanted.after.as_ref().map_or("", RowId::as_str))
    .bind(wanted.day.map(ServiceDay::number))
    .bind(wanted.kind)
    .bind(wanted.closed)
    .bind(wanted.limit)
    .fetch_all(store.pool())
    .await?;
    let row = |row: &Row| -> Result<BreakRow, DeskError> {
        let service_day: Option<i64> = row.try_get(3)?;
        Ok(BreakRow {
            id: row.try_get(0)?,
            kind: row.try_get(1)?,
            subject: row.try_get(2)?,
            // A gate's clock may have been wrong by centuries: such a day has no date.
            service_day: service_day.and_then(|day| ServiceDay::from_number(day).ok()),
            detail: row.try_get(4)?,
            opened_ms: row.try_get(5)?,
            closed_ms: row.try_get(6)?,
            assigned_to: row.try_get(7)?,
            note: row.try_get(8)?,
            amount_fen: row.try_get::<Option<i64>>(9)?.map(Fen),
            ended_by: row.try_get(10)?,
            end_reason: row.try_get(11)?,
        })
    };
    Ok(Breaks { breaks: rows.iter().map(row).collect::<Result<_, _>>()? })
}

async fn change_in(
    conn: &mut Conn,
    id: &str,
    update: Query<'_>,
    line: &Audit<'_>,
) -> Result<bool, DeskError> {
    let there = query("SELECT count(*) FROM breaks WHERE id = ?").bind(id);
    apply(conn, update, there, line).await?.ok_or(DeskError::NoBreak)
}

/// Says who looks at a break, in the caller's transaction. False: they do already.
pub async fn assign_in(conn: &mut Conn, id: &str, to: &str, line: &Audit<'_>) -> Result<bool, DeskError> {
    input::user(to)?;
    let update = query("UPDATE breaks SET assigned_to = ?1 WHERE id = ?2 AND assigned_to <> ?1");
    change_in(conn, id, update.bind(to).bind(id), line).await
}

/// Says something of a break instead of what was said before, in the caller's transaction. False: it was said already.
pub async fn note_in(conn: &mut Conn, id: &str, text: &str, line: &Audit<'_>) -> Result<bool, DeskError> {
    input::sentence("a note", text)?;
    let update = query("UPDATE breaks SET note = ?1 WHERE id = ?2 AND note <> ?1");
    change_in(conn, id, update.bind(text).bind(id), line).await
}

/// Ends a break in the caller's transaction; the audit line's detail says why. False: it is closed already.
pub async fn end_in(conn: &mut Conn, id: &str, line: &Audit<'_>) -> Result<bool, DeskError> {
    input::sentence("a reason", line.detail)?;
    let update = query(
        "UPDATE breaks SET closed_ms = ?, ended_by = ?, end_reason = ? WHERE id = ? AND closed_ms IS NULL",
    );
    let update = update.bind(sql::ms(line.at)).bind(line.user).bind(line.detail).bind(id);
    change_in(conn, id, update, line).await
}
