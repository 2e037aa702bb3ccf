//! Numbers attempts: an attempt's number is durable before the bank hears of it.

use std::collections::BTreeSet;

use wavepass_fares::{Fen, ServiceDay};

use super::book::set_charges_in;
use super::{Attempt, Clearing, ClearingError};
use crate::bank::{AttemptId, Decline, DeductionRequest, HoldId};
use crate::clearing::authorisation::holds::free_holds_in;
use crate::clearing::debts::contested::is_uncontested;
use crate::clearing::set_off::may_be_credited;
use crate::clearing::{day_number, token_key};
use crate::keys::TokenKey;
use crate::store::again_if_met;
use crate::store::db::{Conn, Row, query, read_many, write_many};
use crate::store::shards::{AFTER_ALL, NUMBERING};

/// Which charges a page takes.
#[derive(Clone, Copy)]
pub(super) enum State {
    Sent,
    InDoubt,
    Open,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::InDoubt => "in_doubt",
            Self::Open => "open",
        }
    }
}

/// A day's charges of one state, page by page in the order of tokens and parts.
pub(super) struct Pages {
    pub(super) day: ServiceDay,
    state: State,
    /// Where the last page ended: token and part.
    after: (Vec<u8>, i64),
    up_to: Vec<u8>,
    ended: bool,
}

impl Pages {
    pub(super) fn of(day: ServiceDay, state: State) -> Self {
        Self { day, state, after: (Vec::new(), 0), up_to: AFTER_ALL.to_vec(), ended: false }
    }

    /// Of one token alone.
    pub(super) fn of_token(day: ServiceDay, state: State, token: TokenKey) -> Self {
        let key = token.as_slice().to_vec();
        Self { after: (key.clone(), 0), up_to: key, ..Self::of(day, state) }
    }
}

/// Charges of day 1 and state 2 that may be asked for, after a token and part.
const TO_NUMBER: &str = concat!(
    "SELECT c.token_key, c.part, c.attempts + 1, COALESCE(t.account_id, ''), c.amount_fen + c.offset_fen, t.state \
     FROM charges AS c INDEXED BY charges_unfinished LEFT JOIN tokens AS t ON t.token_key = c.token_key \
     WHERE c.service_day = ? AND c.state = ? AND c.state IN ('open', 'sent', 'in_doubt', 'declined') \
     AND (c.token_key, c.part) > (?, ?) \
     AND EXISTS (SELECT 1 FROM batches AS b WHERE b.service_day = c.service_day AND b.rank = c.rank) AND ",
    may_be_credited!(),
    " ORDER BY c.token_key, c.part LIMIT ?"
);

impl Clearing {
    /// The next page: attempts that are numbered now, or that were and wait for an answer.
    pub(super) async fn next_page(&self, pages: &mut Pages) -> Result<Option<Vec<Attempt>>, ClearingError> {
        if pages.ended {
            return Ok(None);
        }
        let attempts = match pages.state {
            State::Sent | State::InDoubt => self.unanswered(pages).await?,
            State::Open => again_if_met(|| self.number(pages)).await?,
        };
        pages.ended = attempts.len() < self.deduct_page;
        let Some(last) = attempts.last() else { return Ok(None) };
        pages.after = (last.request.id.token_key.to_vec(), i64::from(last.request.id.part));
        Ok(Some(attempts))
    }

    /// The last attempts of a day's charges that the bank declined, in the order of tokens and parts.
    pub(super) async fn declined(&self, day: ServiceDay) -> Result<Vec<AttemptId>, ClearingError> {
        let mut declined: Vec<AttemptId> = Vec::new();
        loop {
            let after = declined.last().map_or((Vec::new(), 0), |id| (id.token_key.to_vec(), id.part));
            let rows: Vec<(Vec<u8>, u32, u32)> = query(
                "SELECT token_key, part, attempts FROM charges INDEXED BY charges_unfinished WHERE service_day = ? \
                 AND state = 'declined' AND state IN ('open', 'sent', 'in_doubt', 'declined') \
                 AND (token_key, part) > (?, ?) ORDER BY token_key, part LIMIT ?",
            )
            .bind(day.number())
            .bind(after.0)
            .bind(after.1)
            .bind(self.deduct_page as i64)
            .rows(self.store.pool())
            .await?;
            let ended = rows.len() < self.deduct_page;
            for (key, part, attempt) in rows {
                let token_key = token_key(&key)?.0;
                declined.push(AttemptId { service_day: day_number(day), token_key, part, attempt });
            }
            if ended {
                return Ok(declined);
            }
        }
    }

    /// Numbers new attempts for declined charges, each named by its last attempt.
    pub(super) async fn number_declined(
        &self,
        day: ServiceDay,
        declined: &[AttemptId],
    ) -> Result<Vec<Attempt>, ClearingError> {
        let text = concat!(
            "SELECT c.token_key, c.part, c.attempts + 1, COALESCE(t.account_id, ''), c.amount_fen + c.offset_fen, t.state \
                    FROM (VALUES ??) AS v CROSS JOIN charges AS c LEFT JOIN tokens AS t ON t.token_key = c.token_key \
                    WHERE c.service_day = v.column1 AND c.token_key = v.column2 AND c.part = v.column3 \
                    AND c.attempts = v.column4 AND c.state = 'declined' AND ",
            may_be_credited!(),
            " AND ",
            is_uncontested!()
        );
        let mut tx = self.store.begin_shard(NUMBERING).await?;
        let names = declined.iter().map(|id| (day.number(), &id.token_key, id.part, id.attempt));
        let rows = read_many(&mut tx, text, names).await?;
        let attempts = self.number_in(&mut tx, day, &rows).await?;
        tx.commit().await?;
        Ok(attempts)
    }

    /// The last attempts of charges that wait for an answer.
    async fn unanswered(&self, pages: &Pages) -> Result<Vec<Attempt>, ClearingError> {
        let day = pages.day;
        let rows = query(
            "SELECT c.token_key, c.part, a.attempt_no, a.account_id, a.amount_fen, a.hold_number, a.unasked \
             FROM charges AS c INDEXED BY charges_unfinished JOIN attempts AS a ON a.service_day = c.service_day \
             AND a.token_key = c.token_key AND a.part = c.part AND a.attempt_no = c.attempts \
             WHERE c.service_day = ? AND c.state = ? AND c.state IN ('open', 'sent', 'in_doubt', 'declined') \
             AND (c.token_key, c.part) > (?, ?) AND c.token_key <= ? ORDER BY c.token_key, c.part LIMIT ?",
        )
        .bind(day.number())
        .bind(pages.state.as_str())
        .bind(&pages.after.0)
        .bind(pages.after.1)
        .bind(&pages.up_to)
        .bind(self.deduct_page as i64)
        .fetch_all(self.store.pool())
        .await?;
        let attempt = |row: &Row| -> Result<Attempt, ClearingError> {
            let request = self.request(day, row)?;
            let hold = row.try_get::<Option<u32>>(5)?;
            let hold = hold.map(|number| HoldId { token_key: request.id.token_key, number });
            let word = row.try_get::<Option<&str>>(6)?;
            let unasked = word.map(|word| Decline::parse(word).ok_or(())).transpose();
            let unasked = unasked.map_err(|()| ClearingError::damaged("why the bank is not asked"))?;
            Ok(Attempt { request, in_doubt: matches!(pages.state, State::InDoubt), hold, unasked })
        };
        rows.iter().map(attempt).collect()
    }

    /// Numbers new attempts and makes them durable, before anything is sent.
    ///
    /// A charge that may be asked for, open or declined, changes by numbering alone, or in the turn of all writers: those who
    /// book answers change charges that wait for one, and those who close a day enter new ones. So whoever has the turn of
    /// numbering finds such a charge as it stays.
    async fn number(&self, pages: &Pages) -> Result<Vec<Attempt>, ClearingError> {
        let day = pages.day;
        let mut tx = self.store.begin_shard(NUMBERING).await?;
        // Read inside the transaction, so that two callers never number the same charge.
        let rows = query(TO_NUMBER)
            .bind(day.number())
            .bind(pages.state.as_str())
            .bind(&pages.after.0)
            .bind(pages.after.1)
            .bind(self.deduct_page as i64)
            .fetch_all(&mut *tx)
            .await?;
        let attempts = self.number_in(&mut tx, day, &rows).await?;
        tx.commit().await?;
        Ok(attempts)
    }

    /// Numbers the first attempts of charges that were made in the caller's transaction, each named by token and part.
    pub(in crate::clearing) async fn number_first_in(
        &self,
        tx: &mut Conn,
        day: ServiceDay,
        charges: &[(TokenKey, i64)],
    ) -> Result<Vec<Attempt>, ClearingError> {
        let text = "SELECT c.token_key, c.part, c.attempts + 1, COALESCE(t.account_id, ''), c.amount_fen, t.state \
                    FROM (VALUES ??) AS v CROSS JOIN charges AS c LEFT JOIN tokens AS t ON t.token_key = c.token_key \
                    WHERE c.service_day = v.column1 AND c.token_key = v.column2 AND c.part = v.column3 AND c.state = 'open'";
        let names = charges.iter().map(|(key, part)| (day.number(), key.as_slice(), *part));
        let rows = read_many(&mut *tx, text, names).await?;
        self.number_in(tx, day, &rows).await
    }

    /// A row as a request: token, part, number, e-account, amount.
    fn request(&self, day: ServiceDay, row: &Row) -> Result<DeductionRequest, ClearingError> {
        let id = AttemptId {
            service_day: day_number(day),
            token_key: token_key(row.try_get(0)?)?.0,
            part: row.try_get(1)?,
            attempt: row.try_get(2)?,
        };
        let (account_id, amount) = (row.try_get(3)?, Fen(row.try_get(4)?));
        Ok(DeductionRequest { id, account_id, amount, value_ms: self.value_ms(day) })
    }

    /// Enters attempts under their numbers in the caller's transaction. Rows: token, part, number, e-account, amount, and the
    /// token's state, none where nobody registered it.
    async fn number_in(
        &self,
        tx: &mut Conn,
        day: ServiceDay,
        rows: &[Row],
    ) -> Result<Vec<Attempt>, ClearingError> {
        let mut attempts = Vec::with_capacity(rows.len());
        for row in rows {
            let request = self.request(day, row)?;
            // What a deleted token owes is asked for: it would never be again. So is what a suspended one gets back.
            let suspended =
                row.try_get::<Option<&str>>(5)? == Some("suspended") && request.amount > Fen::ZERO;
            let unasked = suspended.then_some(Decline::TokenSuspended);
            attempts.push(Attempt { unasked, ..Attempt::new(request) });
        }
        give_holds_in(tx, day, &mut attempts).await?;
        let rows = attempts.iter().map(|Attempt { request: r, hold, unasked, .. }| {
            let AttemptId { token_key, part, attempt, .. } = &r.id;
            let hold = hold.map(|hold| hold.number);
            let unasked = unasked.map(Decline::as_str);
            (day.number(), token_key, *part, *attempt, &r.account_id, r.amount.0, "sent", hold, unasked)
        });
        let text = "INSERT INTO attempts (service_day, token_key, part, attempt_no, account_id, amount_fen, state, \
                    hold_number, unasked) VALUES ??";
        write_many(tx, text, rows).await?;
        let changed: Vec<_> = attempts.iter().map(|a| (a.request.id, "sent")).collect();
        set_charges_in(tx, &changed).await?;
        Ok(attempts)
    }
}

/// Gives the first debit of each token that has a hold, and that the bank is asked for, that hold.
async fn give_holds_in(
    conn: &mut Conn,
    day: ServiceDay,
    attempts: &mut [Attempt],
) -> Result<(), ClearingError> {
    let tokens: BTreeSet<TokenKey> = attempts.iter().map(|a| TokenKey(a.request.id.token_key)).collect();
    let mut holds = free_holds_in(conn, day, &tokens).await?;
    let debit = |attempt: &&mut Attempt| attempt.request.amount > Fen::ZERO && attempt.unasked.is_none();
    for attempt in attempts.iter_mut().filter(debit) {
        attempt.hold = holds.remove(&TokenKey(attempt.request.id.token_key));
    }
    Ok(())
}
