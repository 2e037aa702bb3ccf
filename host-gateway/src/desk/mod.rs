//! The desk: what a person must look at, and what they say of it. Breaks are assigned, noted and ended, alerts ended, each
//! by name and with a reason in the audit log, which is read here.
//!
//! Nothing is deleted here and no money moves. A break that was ended and that reconciliation finds again is open again.

pub mod alerts;
pub mod api;
pub mod audit;
pub mod breaks;
pub mod cli;
#[cfg(test)]
mod tests;

use crate::cli::{App, AppError};
use crate::input::TextError;
use crate::keys::hex;
use crate::store::db::{Conn, Query, query};
use crate::store::{Audit, Store, StoreError, audit_in};
use std::str::FromStr;

/// Why a break or an alert is not shown or changed. What was asked for is not repeated: it may be a card's number.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// No such break.
    #[error("there is no break of this id; `break list --all` shows what there is")]
    NoBreak,
    /// No such alert.
    #[error("there is no alert of this id; `alert list --all` shows what there is")]
    NoAlert,
    /// A name, note or reason that is not taken.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The gateway does not know the time.
    #[error(transparent)]
    App(#[from] AppError),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for DeskError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// What has a kind.
#[derive(Debug, Clone, Copy)]
enum Kinds {
    Breaks,
    Alerts,
}

/// What to say where none of a kind are found: that there never was one, and which kinds there were. It may be mistyped, and what
/// was asked for is not repeated.
async fn never_of(store: &Store, what: Kinds, kind: Option<&str>) -> Result<Option<String>, DeskError> {
    let Some(kind) = kind else { return Ok(None) };
    let (name, text) = match what {
        Kinds::Breaks => ("a break", "SELECT DISTINCT kind FROM breaks"),
        Kinds::Alerts => ("an alert", "SELECT DISTINCT kind FROM alerts"),
    };
    let mut there: Vec<String> = query(text).column(store.pool()).await?;
    there.sort();
    if there.iter().any(|other| other == kind) {
        return Ok(None);
    }
    Ok(Some(match there.is_empty() {
        true => format!("there never was {name} of any kind"),
        false => format!("there never was {name} of this kind; there were {}", there.join(", ")),
    }))
}

/// The id of a break or an alert: 32 hexadecimal digits, from its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowId(String);

/// Text that is no such id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id of a break or an alert has 32 hexadecimal digits, as `break list` and `alert list` show it")]
pub struct RowIdError;

impl RowId {
    /// As the store has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RowId {
    type Err = RowIdError;

    fn from_str(text: &str) -> Result<Self, RowIdError> {
        let digits: [u8; 16] = hex::array(text).ok_or(RowIdError)?;
        Ok(Self(hex::encode(&digits)))
    }
}

/// What is done to a break or an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// This person looks at the break from now on.
    AssignBreak(&'a str),
    /// This is said of the break, instead of what was said before.
    NoteBreak(&'a str),
    /// The break needs nobody any more, for this reason.
    EndBreak(&'a str),
    /// The alert needs nobody any more, for this reason.
    EndAlert(&'a str),
}

/// Changes a break or an alert and enters it in the audit log, in one transaction. False: it was so already.
pub async fn change(app: &App, user: &str, id: &str, change: Change<'_>) -> Result<bool, DeskError> {
    let at = app.now()?;
    let line = |action, detail| Audit { at, user, action, subject: id, detail };
    let mut tx = app.store.begin().await?;
    let changed = match change {
        Change::AssignBreak(to) => breaks::assign_in(&mut tx, id, to, &line("break.assign", to)).await?,
        Change::NoteBreak(text) => breaks::note_in(&mut tx, id, text, &line("break.note", text)).await?,
        Change::EndBreak(reason) => breaks::end_in(&mut tx, id, &line("break.end", reason)).await?,
        Change::EndAlert(reason) => alerts::end_in(&mut tx, id, &line("alert.end", reason)).await?,
    };
    tx.commit().await?;
    Ok(changed)
}

/// Runs a statement that changes one row unless the row is so already, and audits it where it did. `None`: no such row.
async fn apply(
    conn: &mut Conn,
    update: Query<'_>,
    there: Query<'_>,
    line: &Audit<'_>,
) -> Result<Option<bool>, StoreError> {
    if update.execute(&mut *conn).await? > 0 {
        audit_in(conn, line).await?;
        return Ok(Some(true));
    }
    let rows: i64 = there.scalar(conn).await?;
    Ok((rows > 0).then_some(false))
}
