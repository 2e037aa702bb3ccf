//! Debts: what the bank declined, until it is recovered, waived or written off.
//!
//! A debt is recovered by a new attempt that the bank approves ([`Clearing::recover_token`]), or given up by a person
//! who says why ([`Clearing::waive_in`], [`Clearing::write_off_in`]). The first also happens by schedule ([`Recovery`]). Deduction
//! itself, which makes debts and books what the bank answers, is in [`super::deduct`].

pub mod api;
pub mod cli;
pub(super) mod contested;
mod give_up;
mod list;
mod recovery;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::store::db::{Conn, Row, query, read_many};
use serde::Serialize;
use utoipa::ToSchema;
use wavepass_fares::{Fen, ServiceDay};

use super::authorisation::HoldSummary;
use super::deduct::without_debts_in;
use super::{Clearing, ClearingError, DeductSummary, day_number, token_key};
use crate::bank::AttemptId;
use crate::cli::App;
use crate::keys::TokenKey;
use crate::store::{Audit, Store, again_if_met, audit_in};

use contested::{contested_in, is_uncontested};
pub use give_up::{Ending, Waived, Which, WrittenOff, waive, write_off};
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
    /// Debts that were left alone: the bank's own files say that it took them, and a break of that is open.
    pub contested: u64,
}

/// A declined charge with an open debt.
struct Declined {
    /// Its last attempt.
    last: AttemptId,
    /// When the bank declined it, where that is known.
    asked_ms: Option<i64>,
    /// Whether its token is suspended.
    suspended: bool,
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
}

/// A page of a day's declined charges with open debts, of tokens up to one, after a token and part.
async fn declined(
    store: &Store,
    day: ServiceDay,
    after: &(Vec<u8>, i64),
    up_to: &[u8],
) -> Result<Vec<Declined>, ClearingError> {
    let rows = query(concat!(
        "SELECT d.token_key, d.part, c.attempts, d.asked_ms, t.state FROM debts AS d JOIN charges AS c \
         ON c.service_day = d.service_day AND c.token_key = d.token_key AND c.part = d.part \
         LEFT JOIN tokens AS t ON t.token_key = d.token_key \
         WHERE d.service_day = ? AND d.state = 'open' AND c.state = 'declined' \
         AND (d.token_key, d.part) > (?, ?) AND d.token_key <= ? AND ",
        is_uncontested!(),
        " ORDER BY d.token_key, d.part LIMIT ?"
    ))
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
        let suspended = row.try_get::<Option<&str>>(4)? == Some("suspended");
        Ok(Declined { last, asked_ms: row.try_get(3)?, suspended })
    };
    rows.iter().map(declined).collect()
}

pub(super) fn debt_day(number: i64) -> Result<ServiceDay, ClearingError> {
    ServiceDay::from_number(number).map_err(|_| ClearingError::damaged("a debt's service day"))
}

/// Asks the bank again, now, for what a token owes, and publishes what that changed of the deny list.
pub async fn recover(app: &App, user: &str, token: TokenKey) -> Result<Recovered, ClearingError> {
    let clearing = Clearing::of(app).await?;
    let known: i64 = query(
        "SELECT (SELECT count(*) FROM tokens WHERE token_key = ?1) + (SELECT count(*) FROM debts WHERE token_key = ?1)",
    )
    .bind(token.as_slice())
    .scalar(app.store.pool())
    .await?;
    if known == 0 {
        return Err(ClearingError::NoToken(token));
    }
    let deduct = clearing.recover_token(token).await?;
    let holds = clearing.hold_again(token).await?;
    app.publish_lists().await?;
    again_if_met(|| recovered(app, user, token, deduct, holds)).await
}

/// Tells what asking the bank came to, and writes it into the audit log.
async fn recovered(
    app: &App,
    user: &str,
    token: TokenKey,
    deduct: DeductSummary,
    holds: HoldSummary,
) -> Result<Recovered, ClearingError> {
    let mut tx = app.store.begin().await?;
    let owed_fen = query(
        "SELECT CAST(COALESCE(SUM(amount_fen), 0) AS BIGINT) FROM debts WHERE token_key = ? AND state = 'open'",
    )
    .bind(token.as_slice())
    .scalar(&mut *tx)
    .await?;
    let contested = contested_in(&mut tx, token).await?;
    let recovered =
        Recovered { token_key: token.to_hex(), deduct, holds, owed_fen: Fen(owed_fen), contested };
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

/// Makes debts less, each to what is left of its charge. An open one of which nothing is left is waived: nobody owes it. Gives
/// the tokens that owe nothing any more because of that.
pub(super) async fn shrink_debts_in(
    conn: &mut Conn,
    day: ServiceDay,
    left: &[(TokenKey, u32, Fen)],
) -> Result<Vec<TokenKey>, ClearingError> {
    let rows = left.iter().map(|(token, part, left)| (token.as_slice(), day.number(), *part, left.0));
    let text = "UPDATE debts SET state = CASE WHEN state = 'open' AND v.column4 = 0 THEN 'waived' ELSE state END, \
                amount_fen = CASE WHEN state = 'open' AND v.column4 = 0 THEN amount_fen ELSE v.column4 END \
                FROM (VALUES ??) AS v WHERE token_key = v.column1 AND service_day = v.column2 AND part = v.column3 \
                AND state <> 'recovered' RETURNING token_key, state";
    let mut released = BTreeSet::new();
    for row in read_many(&mut *conn, text, rows).await? {
        if row.try_get::<&str>(1)? == "waived" {
            released.insert(token_key(row.try_get(0)?)?);
        }
    }
    without_debts_in(conn, released).await
}
