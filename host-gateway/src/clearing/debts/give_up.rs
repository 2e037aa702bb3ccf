//! Debts that a person ends, and says why: waived for the rider's sake, or written off as lost.
//!
//! Either is for good: the bank is not asked again. They differ in the books, and at the gates. A token whose debts are
//! waived leaves the deny list. One whose debt is written off stays on it, by a cause of its own, until a person readmits it.

use std::collections::BTreeSet;

use serde::Serialize;
use utoipa::ToSchema;
use wavepass_fares::{Fen, ServiceDay};
use wavepass_protocol::time::UnixMs;

use super::super::deduct::without_debts_in;
use super::super::{Clearing, ClearingError};
use super::DebtState;
use crate::cli::App;
use crate::input;
use crate::keys::TokenKey;
use crate::ledger::{Account, Entries, Event, Name};
use crate::store::db::{Conn, query, write_many};
use crate::store::{Audit, again_if_met, audit_all_in};

/// Which debt ends, by whose word and why.
#[derive(Debug, Clone, Copy)]
pub struct Ending<'a> {
    /// Whose debt.
    pub token_key: TokenKey,
    /// Of which day.
    pub day: ServiceDay,
    /// Which part of the day; `None`: all that are open.
    pub part: Option<u32>,
    /// Why.
    pub reason: &'a str,
    /// Who ends it.
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

/// What was written off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct WrittenOff {
    /// The token's key.
    pub token_key: String,
    /// The day.
    #[schema(value_type = String)]
    pub service_day: ServiceDay,
    /// The parts that were written off now; none where they were before.
    pub parts: Vec<u32>,
    /// Their sum.
    #[schema(value_type = i64)]
    pub written_off_fen: Fen,
    /// Whether the token was readmitted: no write-off keeps it on the deny list.
    pub readmitted: bool,
}

/// How debts end.
struct How {
    /// The state of charge and debt.
    state: DebtState,
    account: Account,
    event: Event,
    action: &'static str,
    /// What the deny list is told where the token owes nothing any more.
    released: &'static str,
}

const WAIVED: How = How {
    state: DebtState::Waived,
    account: Account::Waived,
    event: Event::Waived,
    action: "debt.waive",
    released: "the debt is waived",
};

const WRITTEN_OFF: How = How {
    state: DebtState::WrittenOff,
    account: Account::WrittenOff,
    event: Event::WrittenOff,
    action: "debt.write_off",
    released: "the debt is written off",
};

impl Clearing {
    /// Waives a token's debt of a day in the caller's transaction: charge, debt, ledger, deny list and audit log. What is
    /// waived already stays as it is; what the bank may still have taken, or has, or what is written off, is refused. A credit that
    /// the bank declined, named by its part, ends in the same way: it is owed to nobody any more.
    pub async fn waive_in(&self, conn: &mut Conn, ending: Ending<'_>) -> Result<Waived, ClearingError> {
        let ended = self.end_in(conn, &ending, &WAIVED).await?;
        Ok(Waived {
            token_key: ending.token_key.to_hex(),
            service_day: ending.day,
            waived_fen: sum(&ended)?,
            parts: parts(&ended),
        })
    }

    /// Writes a token's debt of a day off in the caller's transaction, as [`Self::waive_in`] waives one. The token is then
    /// denied for that; to `readmit` it lifts whatever a write-off, this or an earlier one, keeps on the deny list.
    pub async fn write_off_in(
        &self,
        conn: &mut Conn,
        ending: Ending<'_>,
        readmit: bool,
    ) -> Result<WrittenOff, ClearingError> {
        let ended = self.end_in(conn, &ending, &WRITTEN_OFF).await?;
        let Ending { token_key, day, reason, by, .. } = ending;
        if readmit {
            self.debtors.readmit(conn, token_key, by, reason).await?;
        } else if !ended.is_empty() {
            // Only then: a token that was readmitted since is not denied again by a command that is repeated.
            self.debtors.deny_written_off(conn, token_key, by, reason).await?;
        }
        Ok(WrittenOff {
            token_key: token_key.to_hex(),
            service_day: day,
            written_off_fen: sum(&ended)?,
            parts: parts(&ended),
            readmitted: readmit,
        })
    }

    /// Ends the open parts of a debt; returns them, with what was owed.
    async fn end_in(
        &self,
        conn: &mut Conn,
        ending: &Ending<'_>,
        how: &How,
    ) -> Result<Vec<(u32, Fen)>, ClearingError> {
        input::sentence("a reason", ending.reason)?;
        let open = open_parts_in(conn, ending, how.state).await?;
        if open.is_empty() {
            return Ok(open);
        }
        let &Ending { token_key, day, reason, by, at, .. } = ending;
        let mut entries = Entries::default();
        for &(part, amount) in &open {
            let name = Name {
                service_day: day.number(),
                shard: token_key.0,
                part: i64::from(part),
                event: how.event,
                at_ms: self.value_ms(day),
            };
            entries.transfer(name, amount, Account::Owed, how.account)?;
        }
        entries.write_in(conn).await?;
        for text in [
            "UPDATE charges SET state = v.column4 FROM (VALUES ??) AS v WHERE service_day = v.column1 \
             AND token_key = v.column2 AND part = v.column3",
            "UPDATE debts SET state = v.column4 FROM (VALUES ??) AS v WHERE service_day = v.column1 \
             AND token_key = v.column2 AND part = v.column3",
        ] {
            let parts =
                open.iter().map(|(part, _)| (day.number(), token_key.as_slice(), *part, how.state.as_str()));
            write_many(conn, text, parts).await?;
        }
        let released = without_debts_in(conn, BTreeSet::from([token_key])).await?;
        self.debtors.release(conn, &released, how.released).await?;
        let subject = token_key.to_hex();
        let detail = |(part, amount): &(u32, Fen)| format!("{day}, part {part}, {} fen: {reason}", amount.0);
        let details: Vec<String> = open.iter().map(detail).collect();
        let line = |detail| Audit { at, user: by, action: how.action, subject: &subject, detail };
        let lines: Vec<Audit<'_>> = details.iter().map(|detail| line(detail)).collect();
        audit_all_in(conn, &lines).await?;
        Ok(open)
    }
}

fn parts(ended: &[(u32, Fen)]) -> Vec<u32> {
    ended.iter().map(|(part, _)| *part).collect()
}

fn sum(ended: &[(u32, Fen)]) -> Result<Fen, ClearingError> {
    Ok(Fen::sum(ended.iter().map(|(_, amount)| *amount))?)
}

/// The parts that an ending means and that are still open, with what they are charged. None where all ended so before.
async fn open_parts_in(
    conn: &mut Conn,
    ending: &Ending<'_>,
    wanted: DebtState,
) -> Result<Vec<(u32, Fen)>, ClearingError> {
    let &Ending { token_key, day, part, .. } = ending;
    if wanted == DebtState::Waived
        && let Some(credit) = declined_credit_in(conn, ending).await?
    {
        return Ok(credit);
    }
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
    let (mut open, mut ended) = (Vec::new(), BTreeSet::new());
    for row in &rows {
        let part: u32 = row.try_get(0)?;
        match (row.try_get::<&str>(1)?, row.try_get::<&str>(2)?) {
            ("open", "declined") => open.push((part, Fen(row.try_get(3)?))),
            ("open", _) => return Err(ClearingError::DebtUnanswered { token_key, day, part }),
            (state, _) => _ = ended.insert(DebtState::stored(state)?.as_str()),
        }
    }
    if !open.is_empty() || ended.contains(wanted.as_str()) {
        return Ok(open);
    }
    let given_up = [DebtState::Waived, DebtState::WrittenOff].map(DebtState::as_str);
    match given_up.into_iter().find(|state| ended.contains(state)) {
        Some(state) => Err(ClearingError::DebtGivenUp { token_key, day, state }),
        None => Err(ClearingError::DebtPaid { token_key, day }),
    }
}

/// The part that an ending names, if it is a credit that the bank declined: its account is closed, or nobody's any more. Not among
/// them where it is waived already. Only by its number: who waives what a rider owes of a day does not mean what the rider is to get.
async fn declined_credit_in(
    conn: &mut Conn,
    ending: &Ending<'_>,
) -> Result<Option<Vec<(u32, Fen)>>, ClearingError> {
    let Some(part) = ending.part else { return Ok(None) };
    let credits: Vec<(i64, String)> = query(
        "SELECT amount_fen + offset_fen, state FROM charges WHERE service_day = ? AND token_key = ? AND part = ? \
         AND state IN ('declined', 'waived') AND amount_fen + offset_fen < 0",
    )
    .bind(ending.day.number())
    .bind(ending.token_key.as_slice())
    .bind(part)
    .rows(conn)
    .await?;
    let open = |(amount, state): &(i64, String)| (state == "declined").then_some((part, Fen(*amount)));
    Ok((!credits.is_empty()).then(|| credits.iter().filter_map(open).collect()))
}

/// Which debt a person means: token, day, and part or all.
pub type Which = (TokenKey, ServiceDay, Option<u32>);

fn ending<'a>(
    app: &App,
    by: &'a str,
    (token_key, day, part): Which,
    reason: &'a str,
) -> Result<Ending<'a>, ClearingError> {
    Ok(Ending { token_key, day, part, reason, by, at: app.now()? })
}

/// Waives a debt, and publishes what that changed of the deny list.
pub async fn waive(app: &App, user: &str, which: Which, reason: &str) -> Result<Waived, ClearingError> {
    let clearing = Clearing::of(app).await?;
    let ending = ending(app, user, which, reason)?;
    let waive = || async {
        let mut tx = app.store.begin().await?;
        let waived = clearing.waive_in(&mut tx, ending).await?;
        tx.commit().await?;
        Ok::<_, ClearingError>(waived)
    };
    let waived = again_if_met(waive).await?;
    app.publish_lists().await?;
    Ok(waived)
}

/// Writes a debt off, and publishes what that changed of the deny list.
pub async fn write_off(
    app: &App,
    user: &str,
    which: Which,
    reason: &str,
    readmit: bool,
) -> Result<WrittenOff, ClearingError> {
    let clearing = Clearing::of(app).await?;
    let ending = ending(app, user, which, reason)?;
    let write_off = || async {
        let mut tx = app.store.begin().await?;
        let written_off = clearing.write_off_in(&mut tx, ending, readmit).await?;
        tx.commit().await?;
        Ok::<_, ClearingError>(written_off)
    };
    let written_off = again_if_met(write_off).await?;
    app.publish_lists().await?;
    Ok(written_off)
}
