//! Debts: what the bank declined, until it is recovered or waived.
//!
//! A debt is recovered by a new attempt that the bank approves ([`Clearing::recover_token`]), or given up by a person
//! who says why ([`Clearing::waive_in`]). The first also happens by schedule ([`Recovery`]). Either takes the token off the deny list once it owes nothing. Deduction itself,
//! which makes debts and books what the bank answers, is in [`super::deduct`].

pub mod api;
pub mod cli;
mod list;
mod recovery;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::store::db::{Conn, Row, query, write_many};
use serde::Serialize;
use utoipa::ToSchema;
use wavepass_fares::{Fen, ServiceDay};
use wavepass_protocol::time::UnixMs;

use super::authorisation::HoldSummary;
use super::deduct::without_debts_in;
use super::{Clearing, ClearingError, DeductSummary, day_number, token_key};
use crate::bank::AttemptId;
use crate::cli::App;
use crate::input;
use crate::keys::TokenKey;
use crate::ledger::{Account, Entries, Event, Name};
use crate::store::{Audit, Store, audit_all_in, audit_in};

pub use list::{Debt, DebtId, DebtIdError, DebtState, Debts, Wanted, list};
pub use recovery::Recovery;

/// Declined charges read at a time.
const PAGE: i64 = 4_000;

/// What asking the bank again for a token's debts came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Recovered {
    /// The token's key.
    pub token_key: String,
    /// The attempts that were answered now.
    pub deduct: DeductSummary,
    /// The hold that was asked for anew, where the last one was declined.
    pub holds: HoldSummary,
    /// What the token still owes.
    #[schema(value_type = i64)]
    pub owed_fen: Fen,
}

/// What is to be waived, and why.
#[derive(Debug, Clone, Copy)]
pub struct Waiver<'a> {
    /// Whose debt.
    pub token_key: TokenKey,
    /// Of which day.
    pub day: ServiceDay,
    /// Which part of the day; `None`: all that are open.
    pub part: Option<u32>,
    /// Why.
    pub reason: &'a str,
    /// Who waives it.
    pub by: &'a str,
    /// When.
    pub at: UnixMs,
}

/// What was waived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Waived {
    /// The token's key.
    pub token_key: String,
    /// The day.
    #[schema(value_type = String)]
    pub service_day: ServiceDay,
    /// The parts that were waived now; none where they were waived before.
    pub parts: Vec<u32>,
    /// Their sum.
    #[schema(value_type = i64)]
    pub waived_fen: Fen,
}

/// A declined charge with an open debt.
struct Declined {
    /// Its last attempt.
    last: AttemptId,
    /// When the bank declined it, where that is known.
    asked_ms: Option<i64>,
}

impl Clearing {
    /// Asks the bank now for everything that a token owes: for attempts without an answer again, and for what it declined
    /// by new attempts. A token that owes nothing is asked for nothing.
    pub async fn recover_token(&self, token: TokenKey) -> Result<DeductSummary, ClearingError> {
        let numbers: Vec<i64> = query(
            "SELECT DISTINCT service_day FROM debts WHERE token_key = ? AND state = 'open' ORDER BY service_day",
        )
        .bind(token.as_slice())
        .column(self.store.pool())
        .await?;
        let mut summary = DeductSummary::default();
        for number in numbers {
            let day = debt_day(number)?;
            // Read first: what turns out declined only now is not asked for twice.
            let before = (token.as_slice().to_vec(), 0);
            let declined = declined(&self.store, day, &before, token.as_slice()).await?;
            let declined: Vec<AttemptId> = declined.into_iter().map(|charge| charge.last).collect();
            self.ask_unanswered(day, Some(token), &mut summary).await?;
            self.ask_again(day, &declined, &mut summary).await?;
        }
        Ok(summary)
    }

    /// Gives up a token's debt of a day in the caller's transaction: charge, debt, ledger, deny list and audit log. What
    /// is waived already stays as it is; what the bank may still have taken, or has, is refused.
    pub async fn waive_in(&self, conn: &mut Conn, waiver: Waiver<'_>) -> Result<Waived, ClearingError> {
        input::sentence("a reason", waiver.reason)?;
        let open = open_parts_in(conn, &waiver).await?;
        let Waiver { token_key, day, .. } = waiver;
        let mut entries = Entries::default();
        for &(part, amount) in &open {
            let name = Name {
                service_day: day.number(),
                shard: token_key.0,
                part: i64::from(part),
                event: Event::Waived,
                at_ms: self.value_ms(day),
            };
            entries.transfer(name, amount, Account::Owed, Account::Waived)?;
        }
        entries.write_in(conn).await?;
        for text in [
            "UPDATE charges SET state = 'waived' FROM (VALUES ??) AS v WHERE service_day = v.column1 \
             AND token_key = v.column2 AND part = v.column3",
            "UPDATE debts SET state = 'waived' FROM (VALUES ??) AS v WHERE service_day = v.column1 \
             AND token_key = v.column2 AND part = v.column3",
        ] {
            let parts = open.iter().map(|(part, _)| (day.number(), token_key.as_slice(), *part));
            write_many(conn, text, parts).await?;
        }
        if !open.is_empty() {
            let released = without_debts_in(conn, BTreeSet::from([token_key])).await?;
            self.debtors.release(conn, &released, "the debt is waived").await?;
        }
        let subject = token_key.to_hex();
        let detail =
            |(part, amount): &(u32, Fen)| format!("{day}, part {part}, {} fen: {}", amount.0, waiver.reason);
        let details: Vec<String> = open.iter().map(detail).collect();
        let line = |detail| Audit {
            at: waiver.at,
            user: waiver.by,
            action: "debt.waive",
            subject: &subject,
            detail,
        };
        let lines: Vec<Audit<'_>> = details.iter().map(|detail| line(detail)).collect();
        audit_all_in(conn, &lines).await?;
        Ok(Waived {
            token_key: subject,
            service_day: day,
            parts: open.iter().map(|(part, _)| *part).collect(),
            waived_fen: Fen::sum(open.iter().map(|(_, amount)| *amount))?,
        })
    }
}

/// A page of a day's declined charges with open debts, of tokens up to one, after a token and part.
async fn declined(
    store: &Store,
    day: ServiceDay,
    after: &(Vec<u8>, i64),
    up_to: &[u8],
) -> Result<Vec<Declined>, ClearingError> {
    let rows = query(
        "SELECT d.token_key, d.part, c.attempts, d.asked_ms FROM debts AS d JOIN charges AS c \
         ON c.service_day = d.service_day AND c.token_key = d.token_key AND c.part = d.part \
         WHERE d.service_day = ? AND d.state = 'open' AND c.state = 'declined' \
         AND (d.token_key, d.part) > (?, ?) AND d.token_key <= ? ORDER BY d.token_key, d.part LIMIT ?",
    )
    .bind(day.number())
    .bind(&after.0)
    .bind(after.1)
    .bind(up_to)
    .bind(PAGE)
    .fetch_all(store.pool())
    .await?;
    let declined = |row: &Row| -> Result<Declined, ClearingError> {
        let last = AttemptId {
            service_day: day_number(day),
            token_key: token_key(row.try_get(0)?)?.0,
            part: row.try_get(1)?,
            attempt: row.try_get(2)?,
        };
        Ok(Declined { last, asked_ms: row.try_get(3)? })
    };
    rows.iter().map(declined).collect()
}

pub(super) fn debt_day(number: i64) -> Result<ServiceDay, ClearingError> {
    ServiceDay::from_number(number).map_err(|_| ClearingError::damaged("a debt's service day"))
}

/// The parts that a waiver means and that are still open, with what they are charged.
async fn open_parts_in(conn: &mut Conn, waiver: &Waiver<'_>) -> Result<Vec<(u32, Fen)>, ClearingError> {
    let &Waiver { token_key, day, part, .. } = waiver;
    let rows = query(
        "SELECT d.part, d.state, c.state, c.amount_fen + c.offset_fen FROM debts AS d JOIN charges AS c \
         ON c.service_day = d.service_day AND c.token_key = d.token_key AND c.part = d.part \
         WHERE d.token_key = ?1 AND d.service_day = ?2 AND (?3 IS NULL OR d.part = ?3) ORDER BY d.part",
    )
    .bind(token_key.as_slice())
    .bind(day.number())
    .bind(part)
    .fetch_all(conn)
    .await?;
    if rows.is_empty() {
        return Err(ClearingError::NoDebt { token_key, day, part });
    }
    let (mut open, mut waived) = (Vec::new(), false);
    for row in &rows {
        let part: u32 = row.try_get(0)?;
        match (row.try_get::<&str>(1)?, row.try_get::<&str>(2)?) {
            ("open", "declined") => open.push((part, Fen(row.try_get(3)?))),
            ("open", _) => return Err(ClearingError::DebtUnanswered { token_key, day, part }),
            (state, _) => waived |= state == "waived",
        }
    }
    if open.is_empty() && !waived {
        return Err(ClearingError::DebtPaid { token_key, day });
    }
    Ok(open)
}

/// Asks the bank again, now, for what a token owes, and publishes what that changed of the deny list.
pub async fn recover(app: &App, user: &str, token: TokenKey) -> Result<Recovered, ClearingError> {
    let clearing = Clearing::of(app).await?;
    let deduct = clearing.recover_token(token).await?;
    let holds = clearing.hold_again(token).await?;
    app.publish_lists().await?;
    let mut tx = app.store.begin().await?;
    let owed_fen = query(
        "SELECT CAST(COALESCE(SUM(amount_fen), 0) AS BIGINT) FROM debts WHERE token_key = ? AND state = 'open'",
    )
    .bind(token.as_slice())
    .scalar(&mut *tx)
    .await?;
    let recovered = Recovered { token_key: token.to_hex(), deduct, holds, owed_fen: Fen(owed_fen) };
    let detail = format!(
        "asked for by hand: approved {}, declined {}, in doubt {}; still owed {owed_fen} fen",
        deduct.approved, deduct.declined, deduct.in_doubt
    );
    let subject = &recovered.token_key;
    audit_in(&mut tx, &Audit { at: app.now()?, user, action: "debt.recover", subject, detail: &detail })
        .await?;
    tx.commit().await?;
    Ok(recovered)
}

/// Waives a debt, and publishes what that changed of the deny list.
pub async fn waive(
    app: &App,
    user: &str,
    (token_key, day, part): (TokenKey, ServiceDay, Option<u32>),
    reason: &str,
) -> Result<Waived, ClearingError> {
    let clearing = Clearing::of(app).await?;
    let mut tx = app.store.begin().await?;
    let waiver = Waiver { token_key, day, part, reason, by: user, at: app.now()? };
    let waived = clearing.waive_in(&mut tx, waiver).await?;
    tx.commit().await?;
    app.publish_lists().await?;
    Ok(waived)
}
