//! The audit log: who did what, the newest first.

use super::DeskError;
use crate::store::Store;
use crate::store::db::query;
use serde::Serialize;
use utoipa::ToSchema;

/// A line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AuditRow {
    /// Its number, greater than those of all lines before it.
    pub number: i64,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// Who acted: a user, or the part of the gateway that did it by itself.
    pub user: String,
    /// What was done, such as `debt.waive`.
    pub action: String,
    /// On what: a token's key, a gate's number, a day, an id.
    pub subject: String,
    /// Anything more.
    pub detail: String,
}

/// Lines of the audit log, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Lines {
    /// The lines.
    pub lines: Vec<AuditRow>,
}

/// Which lines.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Only what this one did.
    pub by: Option<String>,
    /// Only this action; `debt` stands for every `debt.…`.
    pub action: Option<String>,
    /// Only what was done to this.
    pub subject: Option<String>,
    /// Only lines before this number: the next page.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: u32,
}

/// Lines before number 1, by 2, of action 3, at most 4, and what else is asked.
macro_rules! lines {
    ($also:literal) => {
        concat!(
            "SELECT id, at_ms, \"user\", action, subject, detail FROM audit_log WHERE id < ?1 AND (?2 IS NULL OR \"user\" = ?2) \
             AND (?3 IS NULL OR action = ?3 OR substr(action, 1, length(?3) + 1) = ?3 || '.')",
            $also,
            " ORDER BY id DESC LIMIT ?4"
        )
    };
}

/// A page of lines, the newest first.
pub async fn list(store: &Store, wanted: Wanted) -> Result<Lines, DeskError> {
    let Wanted { by, action, subject, before, limit } = wanted;
    // What was done to something is found by its index, and all else from the end of the log back.
    let rows = query(if subject.is_some() { lines!(" AND subject = ?5") } else { lines!("") })
        .bind(before.unwrap_or(i64::MAX))
        .bind(by)
        .bind(action)
        .bind(limit);
    let rows = match subject {
        Some(subject) => rows.bind(subject),
        None => rows,
    };
    let line = |(number, at_ms, user, action, subject, detail)| AuditRow {
        number,
        at_ms,
        user,
        action,
        subject,
        detail,
    };
    Ok(Lines { lines: rows.rows(store.pool()).await?.into_iter().map(line).collect() })
}
