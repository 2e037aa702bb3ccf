//! Deduction: asks the bank for a day's charges, at most once each.
//!
//! An attempt's number is durable before it is sent (rule 5). Attempts that a crash or a silent bank left without an answer
//! are sent again under their own name first, and the bank replays what it answered; only a charge whose last attempt was
//! finally declined gets a new one. A transaction that met another's is done again ([`again_if_met`]), and is a store's error
//! beyond that, never a decline. The database itself refuses a second open or approved attempt of a charge. A decline
//! makes a debt and puts the token on the deny list; a debt that is paid takes it off.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::store::db::{Conn, One, Row, query, read_many, write_many};
use serde::Serialize;
use wavepass_fares::{Fen, ServiceDay};
use wavepass_protocol::time::UnixMs;

use super::authorisation::holds::{active_holds_in, complete_in};
use super::{Clearing, ClearingError, day_number, token_key};
use crate::bank::{Answer, AttemptId, BankError, Completion, Decline, DeductionRequest, HoldId};
use crate::keys::TokenKey;
use crate::ledger::{Account, Entries, Event, Name};
use crate::risk::state::note_paid_in;
use crate::store::{Break, StoreError, again_if_met, raise_break_in};

/// Attempts in one call of the bank, and in one transaction here.
pub(super) const PAGE: i64 = 4_000;

/// What to ask for.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeductOptions {
    /// Make new attempts for what the bank declined before: the scheduled recovery of debts.
    pub retry_declined: bool,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, utoipa::ToSchema)]
pub struct DeductSummary {
    /// Attempts answered with yes.
    pub approved: u64,
    /// Attempts answered with no.
    pub declined: u64,
    /// Attempts without an answer.
    pub in_doubt: u64,
}

impl DeductSummary {
    /// Counts another day's attempts too.
    pub(crate) const fn add(&mut self, other: Self) {
        self.approved += other.approved;
        self.declined += other.declined;
        self.in_doubt += other.in_doubt;
    }
}

/// An attempt that was or will be sent.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) request: DeductionRequest,
    /// True if the ledger has it in doubt.
    pub(super) in_doubt: bool,
    /// The hold that it completes.
    pub(super) hold: Option<HoldId>,
}

impl Attempt {
    pub(super) const fn new(request: DeductionRequest) -> Self {
        Self { request, in_doubt: false, hold: None }
    }
}

/// Which charges a page takes.
#[derive(Clone, Copy)]
enum State {
    Sent,
    InDoubt,
    Open,
    Declined,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::InDoubt => "in_doubt",
            Self::Open => "open",
            Self::Declined => "declined",
        }
    }
}

/// Where a page ended: token and part.
type Cursor = (Vec<u8>, i64);

impl Clearing {
    /// Deducts what of a closed day is sealed and not deducted. May be called again at any time, by anybody.
    pub async fn deduct_day(
        &self,
        day: ServiceDay,
        options: DeductOptions,
    ) -> Result<DeductSummary, ClearingError> {
        let mut summary = DeductSummary::default();
        self.ask_unanswered(day, None, &mut summary).await?;
        let states: &[State] =
            if options.retry_declined { &[State::Open, State::Declined] } else { &[State::Open] };
        for &state in states {
            let mut after: Cursor = (Vec::new(), 0);
            loop {
                let attempts = again_if_met(|| self.prepare(day, state, &after)).await?;
                let Some(last) = attempts.last() else { break };
                after = (last.request.id.token_key.to_vec(), i64::from(last.request.id.part));
                self.ask(day, attempts, &mut summary).await?;
            }
        }
        Ok(summary)
    }

    /// Sends the attempts of a day, or of one token in it, that wait for an answer again, under their own names.
    pub(super) async fn ask_unanswered(
        &self,
        day: ServiceDay,
        token: Option<TokenKey>,
        summary: &mut DeductSummary,
    ) -> Result<(), ClearingError> {
        let up_to = token.map_or_else(|| vec![0xFF; 17], |key| key.as_slice().to_vec());
        for state in [State::Sent, State::InDoubt] {
            let mut after: Cursor = (token.map_or_else(Vec::new, |key| key.as_slice().to_vec()), 0);
            loop {
                let attempts = self.unanswered(day, state, &after, &up_to).await?;
                let Some(last) = attempts.last() else { break };
                after = (last.request.id.token_key.to_vec(), i64::from(last.request.id.part));
                self.ask(day, attempts, summary).await?;
            }
        }
        Ok(())
    }

    /// Makes new attempts for charges of a day that the bank declined, each named by its last attempt. A charge that was
    /// asked for again since, or waived, is left alone.
    pub(super) async fn ask_again(
        &self,
        day: ServiceDay,
        declined: &[AttemptId],
        summary: &mut DeductSummary,
    ) -> Result<(), ClearingError> {
        for page in declined.chunks(PAGE as usize) {
            let attempts = again_if_met(|| self.prepare_declined(day, page)).await?;
            if !attempts.is_empty() {
                self.ask(day, attempts, summary).await?;
            }
        }
        Ok(())
    }

    async fn prepare_declined(
        &self,
        day: ServiceDay,
        declined: &[AttemptId],
    ) -> Result<Vec<Attempt>, ClearingError> {
        let text = "SELECT c.token_key, c.part, c.attempts + 1, COALESCE(t.account_id, ''), c.amount_fen + c.offset_fen \
                    FROM (VALUES ??) AS v CROSS JOIN charges AS c LEFT JOIN tokens AS t ON t.token_key = c.token_key \
                    WHERE c.service_day = v.column1 AND c.token_key = v.column2 AND c.part = v.column3 \
                    AND c.attempts = v.column4 AND c.state = 'declined'";
        let mut tx = self.store.begin().await?;
        let names = declined.iter().map(|id| (day.number(), &id.token_key, id.part, id.attempt));
        let rows = read_many(&mut tx, text, names).await?;
        let attempts = self.number_in(&mut tx, day, &rows).await?;
        tx.commit().await?;
        Ok(attempts)
    }

    /// The last attempts of charges that wait for an answer, of tokens up to one.
    async fn unanswered(
        &self,
        day: ServiceDay,
        state: State,
        after: &Cursor,
        up_to: &[u8],
    ) -> Result<Vec<Attempt>, ClearingError> {
        let rows = query(
            "SELECT c.token_key, c.part, a.attempt_no, a.account_id, a.amount_fen, a.hold_number \
             FROM charges AS c INDEXED BY charges_unfinished JOIN attempts AS a ON a.service_day = c.service_day \
             AND a.token_key = c.token_key AND a.part = c.part AND a.attempt_no = c.attempts \
             WHERE c.service_day = ? AND c.state = ? AND c.state IN ('open', 'sent', 'in_doubt', 'declined') \
             AND (c.token_key, c.part) > (?, ?) AND c.token_key <= ? ORDER BY c.token_key, c.part LIMIT ?",
        )
        .bind(day.number())
        .bind(state.as_str())
        .bind(&after.0)
        .bind(after.1)
        .bind(up_to)
        .bind(PAGE)
        .fetch_all(self.store.pool())
        .await?;
        let attempt = |row: &Row| -> Result<Attempt, ClearingError> {
            let id = AttemptId {
                service_day: day_number(day),
                token_key: token_key(row.try_get(0)?)?.0,
                part: row.try_get(1)?,
                attempt: row.try_get(2)?,
            };
            let amount = Fen(row.try_get(4)?);
            let request =
                DeductionRequest { id, account_id: row.try_get(3)?, amount, value_ms: self.value_ms(day) };
            let hold = row.try_get::<Option<u32>>(5)?;
            let hold = hold.map(|number| HoldId { token_key: id.token_key, number });
            Ok(Attempt { request, in_doubt: matches!(state, State::InDoubt), hold })
        };
        rows.iter().map(attempt).collect()
    }

    /// Numbers new attempts and makes them durable, before anything is sent.
    async fn prepare(
        &self,
        day: ServiceDay,
        state: State,
        after: &Cursor,
    ) -> Result<Vec<Attempt>, ClearingError> {
        let mut tx = self.store.begin().await?;
        // Read inside the writer's transaction, so that two callers never number the same charge.
        let rows = query(
            "SELECT c.token_key, c.part, c.attempts + 1, COALESCE(t.account_id, ''), c.amount_fen + c.offset_fen \
             FROM charges AS c INDEXED BY charges_unfinished LEFT JOIN tokens AS t ON t.token_key = c.token_key \
             WHERE c.service_day = ? AND c.state = ? AND c.state IN ('open', 'sent', 'in_doubt', 'declined') \
             AND (c.token_key, c.part) > (?, ?) \
             AND EXISTS (SELECT 1 FROM batches AS b WHERE b.service_day = c.service_day AND b.rank = c.rank) \
             ORDER BY c.token_key, c.part LIMIT ?",
        )
        .bind(day.number())
        .bind(state.as_str())
        .bind(&after.0)
        .bind(after.1)
        .bind(PAGE)
        .fetch_all(&mut *tx)
        .await?;
        let attempts = self.number_in(&mut tx, day, &rows).await?;
        tx.commit().await?;
        Ok(attempts)
    }

    /// Numbers the first attempts of charges that were made in the caller's transaction, each named by token and part.
    pub(super) async fn number_first_in(
        &self,
        tx: &mut Conn,
        day: ServiceDay,
        charges: &[(TokenKey, i64)],
    ) -> Result<Vec<Attempt>, ClearingError> {
        let text = "SELECT c.token_key, c.part, c.attempts + 1, COALESCE(t.account_id, ''), c.amount_fen \
                    FROM (VALUES ??) AS v CROSS JOIN charges AS c LEFT JOIN tokens AS t ON t.token_key = c.token_key \
                    WHERE c.service_day = v.column1 AND c.token_key = v.column2 AND c.part = v.column3 AND c.state = 'open'";
        let names = charges.iter().map(|(key, part)| (day.number(), key.as_slice(), *part));
        let rows = read_many(&mut *tx, text, names).await?;
        self.number_in(tx, day, &rows).await
    }

    /// Enters attempts under their numbers in the caller's transaction. Rows: token, part, number, e-account, amount.
    async fn number_in(
        &self,
        tx: &mut Conn,
        day: ServiceDay,
        rows: &[Row],
    ) -> Result<Vec<Attempt>, ClearingError> {
        let mut attempts = Vec::with_capacity(rows.len());
        for row in rows {
            let id = AttemptId {
                service_day: day_number(day),
                token_key: token_key(row.try_get(0)?)?.0,
                part: row.try_get(1)?,
                attempt: row.try_get(2)?,
            };
            let amount = Fen(row.try_get(4)?);
            let request =
                DeductionRequest { id, account_id: row.try_get(3)?, amount, value_ms: self.value_ms(day) };
            attempts.push(Attempt::new(request));
        }
        give_holds_in(tx, &mut attempts).await?;
        let rows = attempts.iter().map(|Attempt { request: r, hold, .. }| {
            let AttemptId { token_key, part, attempt, .. } = &r.id;
            let hold = hold.map(|hold| hold.number);
            (day.number(), token_key, *part, *attempt, &r.account_id, r.amount.0, "sent", hold)
        });
        let text = "INSERT INTO attempts (service_day, token_key, part, attempt_no, account_id, amount_fen, state, \
                    hold_number) VALUES ??";
        write_many(tx, text, rows).await?;
        let changed: Vec<Changed> = attempts.iter().map(|a| (a.request.id, "sent")).collect();
        set_charges_in(tx, &changed).await?;
        Ok(attempts)
    }

    /// Sends attempts and records what came back.
    pub(super) async fn ask(
        &self,
        day: ServiceDay,
        attempts: Vec<Attempt>,
        summary: &mut DeductSummary,
    ) -> Result<(), ClearingError> {
        // A token that belongs to no e-account is nobody's to ask for.
        let (known, unknown): (Vec<Attempt>, Vec<Attempt>) =
            attempts.into_iter().partition(|a| !a.request.account_id.is_empty());
        let mut answered: Vec<(Attempt, Answer)> =
            unknown.into_iter().map(|a| (a, Answer::Declined(Decline::UnknownAccount))).collect();
        let (held, free): (Vec<Attempt>, Vec<Attempt>) = known.into_iter().partition(|a| a.hold.is_some());
        if !held.is_empty() {
            let completion = |a: &Attempt| Some(Completion { hold: a.hold?, deduction: a.request.clone() });
            let completions: Vec<Completion> = held.iter().filter_map(completion).collect();
            let answers = answers(held.len(), self.bank.complete(&completions).await)?;
            answered.extend(held.into_iter().zip(answers));
        }
        if !free.is_empty() {
            let requests: Vec<DeductionRequest> = free.iter().map(|a| a.request.clone()).collect();
            let answers = answers(free.len(), self.bank.deduct(&requests).await)?;
            answered.extend(free.into_iter().zip(answers));
        }
        self.record(day, answered, summary).await
    }

    /// Books answers in one transaction: attempts, charges, ledger, debts and deny list agree at every commit.
    pub(super) async fn record(
        &self,
        day: ServiceDay,
        answered: Vec<(Attempt, Answer)>,
        summary: &mut DeductSummary,
    ) -> Result<(), ClearingError> {
        summary.add(again_if_met(|| self.record_once(day, &answered)).await?);
        Ok(())
    }

    async fn record_once(
        &self,
        day: ServiceDay,
        answered: &[(Attempt, Answer)],
    ) -> Result<DeductSummary, ClearingError> {
        let mut summary = DeductSummary::default();
        let mut tx = self.store.begin().await?;
        let waiting = waiting_in(&mut tx, day, answered.iter().map(|(a, _)| a.request.id)).await?;
        let mut outcome = Outcome::default();
        for (attempt, answer) in answered {
            // Somebody else may have asked under the same name meanwhile, and recorded the same answer.
            let Some(&in_doubt) = waiting.get(&attempt.request.id) else { continue };
            let attempt = Attempt { in_doubt, ..attempt.clone() };
            outcome.add(day, self.value_ms(day), &attempt, *answer, &mut summary)?;
        }
        set_attempts_in(&mut tx, &outcome.attempts).await?;
        set_charges_in(&mut tx, &outcome.charges).await?;
        outcome.entries.write_in(&mut tx).await?;
        self.record_debts_in(&mut tx, day, &outcome).await?;
        complete_in(&mut tx, &outcome.completed).await?;
        self.record_paid_in(&mut tx, day, &outcome.paid).await?;
        tx.commit().await?;
        Ok(summary)
    }

    async fn record_debts_in(
        &self,
        tx: &mut Conn,
        day: ServiceDay,
        outcome: &Outcome,
    ) -> Result<(), ClearingError> {
        let debts = outcome.debts.iter().map(|(id, amount, reason)| {
            (&id.token_key, day.number(), id.part, amount.0, *reason, "open", self.now_ms)
        });
        let text = "INSERT INTO debts (token_key, service_day, part, amount_fen, reason, state, asked_ms) VALUES ?? \
                    ON CONFLICT (token_key, service_day, part) \
                    DO UPDATE SET reason = excluded.reason, asked_ms = excluded.asked_ms";
        write_many(tx, text, debts).await?;
        // Nobody can be denied by a key alone that no token is registered under.
        let at = UnixMs(u64::try_from(self.value_ms(day)).unwrap_or(0));
        for key in &outcome.unregistered {
            let (subject, service_day) = (key.to_hex(), Some(day.number()));
            let detail = "a charge of a token that belongs to no e-account";
            let found = Break { kind: "unregistered_token", subject: &subject, service_day, detail, at };
            raise_break_in(tx, &found).await?;
        }
        let debtors: Vec<TokenKey> = outcome.debtors.iter().copied().collect();
        if !debtors.is_empty() {
            self.debtors.deny(tx, &debtors).await?;
        }
        let released = recover_in(tx, day, &outcome.recovered).await?;
        if !released.is_empty() {
            self.debtors.release(tx, &released, "the debt is paid").await?;
        }
        Ok(())
    }

    /// Takes note of whom the bank paid for, and up to which tap: of a closed day, up to its end.
    async fn record_paid_in(
        &self,
        tx: &mut Conn,
        day: ServiceDay,
        paid: &[AttemptId],
    ) -> Result<(), ClearingError> {
        if paid.is_empty() {
            return Ok(());
        }
        let tokens: BTreeSet<TokenKey> = paid.iter().map(|id| TokenKey(id.token_key)).collect();
        let closed = query("SELECT 1 FROM batches WHERE service_day = ? AND rank = 0")
            .bind(day.number())
            .fetch_optional(&mut *tx)
            .await?;
        let mut upto: BTreeMap<TokenKey, i64> = BTreeMap::new();
        if closed.is_some() {
            let end_ms = self.value_ms(day) - 1;
            upto.extend(tokens.iter().map(|key| (*key, end_ms)));
        } else {
            let text = "SELECT j.token_key, max(COALESCE(j.left_ms, j.entered_ms)) FROM (VALUES ??) AS v \
                        CROSS JOIN journeys AS j WHERE j.service_day = v.column1 AND j.token_key = v.column2 \
                        AND j.part <= v.column3 GROUP BY j.token_key";
            let names = paid.iter().map(|id| (day.number(), &id.token_key, id.part));
            for row in read_many(&mut *tx, text, names).await? {
                if let Some(ms) = row.try_get::<Option<i64>>(1)? {
                    let last = upto.entry(token_key(row.try_get(0)?)?).or_insert(ms);
                    *last = (*last).max(ms);
                }
            }
        }
        note_paid_in(tx, &upto, self.now_ms).await?;
        let tokens: Vec<TokenKey> = tokens.into_iter().collect();
        self.debtors.trust(tx, &tokens).await?;
        Ok(())
    }
}

/// Gives the first debit of each token that has a hold that hold.
async fn give_holds_in(conn: &mut Conn, attempts: &mut [Attempt]) -> Result<(), ClearingError> {
    let tokens: BTreeSet<TokenKey> = attempts.iter().map(|a| TokenKey(a.request.id.token_key)).collect();
    let mut holds = active_holds_in(conn, &tokens).await?;
    for attempt in attempts.iter_mut().filter(|attempt| attempt.request.amount > Fen::ZERO) {
        attempt.hold = holds.remove(&TokenKey(attempt.request.id.token_key));
    }
    Ok(())
}

/// The bank's answers to so many attempts. No answer is in doubt, never a decline.
fn answers(attempts: usize, reply: Result<Vec<Answer>, BankError>) -> Result<Vec<Answer>, ClearingError> {
    match reply {
        Ok(answers) if answers.len() == attempts => Ok(answers),
        Ok(answers) => Err(ClearingError::Answers { answers: answers.len(), requests: attempts }),
        Err(error) => {
            tracing::warn!(%error, attempts, "attempts are in doubt");
            Ok(vec![Answer::NoAnswer; attempts])
        }
    }
}

type Changed = (AttemptId, &'static str);

/// What answers change.
#[derive(Default)]
struct Outcome {
    attempts: Vec<(AttemptId, &'static str, Option<&'static str>)>,
    charges: Vec<Changed>,
    entries: Entries,
    debts: Vec<(AttemptId, Fen, &'static str)>,
    debtors: BTreeSet<TokenKey>,
    unregistered: BTreeSet<TokenKey>,
    /// Charges of second and later attempts that are paid now.
    recovered: Vec<AttemptId>,
    /// Debits that the bank did.
    paid: Vec<AttemptId>,
    /// Holds that are used up.
    completed: Vec<HoldId>,
}

impl Outcome {
    fn add(
        &mut self,
        day: ServiceDay,
        at_ms: i64,
        attempt: &Attempt,
        answer: Answer,
        summary: &mut DeductSummary,
    ) -> Result<(), ClearingError> {
        let DeductionRequest { id, amount, account_id, .. } = &attempt.request;
        let (id, amount) = (*id, *amount);
        let name = |event| Name {
            service_day: day.number(),
            shard: id.token_key,
            part: i64::from(id.part),
            event,
            at_ms,
        };
        if answer != Answer::NoAnswer {
            self.completed.extend(attempt.hold);
        }
        let from = if attempt.in_doubt { Account::InDoubt } else { Account::Owed };
        match answer {
            Answer::Approved => {
                summary.approved += 1;
                self.attempts.push((id, "approved", None));
                self.charges.push((id, "deducted"));
                self.entries.transfer(name(Event::Deducted(id.attempt)), amount, from, Account::Deducted)?;
                if id.attempt > 1 {
                    self.recovered.push(id);
                }
                if amount > Fen::ZERO {
                    self.paid.push(id);
                }
            }
            Answer::Declined(decline) => {
                summary.declined += 1;
                self.attempts.push((id, "declined", Some(decline.as_str())));
                self.charges.push((id, "declined"));
                if attempt.in_doubt {
                    let event = name(Event::Declined(id.attempt));
                    self.entries.transfer(event, amount, Account::InDoubt, Account::Owed)?;
                }
                // A refund that the bank declined is owed to the rider: no debt.
                if amount > Fen::ZERO {
                    self.debts.push((id, amount, decline.as_str()));
                    let list = if account_id.is_empty() { &mut self.unregistered } else { &mut self.debtors };
                    list.insert(TokenKey(id.token_key));
                }
            }
            Answer::NoAnswer => {
                summary.in_doubt += 1;
                if !attempt.in_doubt {
                    self.attempts.push((id, "in_doubt", None));
                    self.charges.push((id, "in_doubt"));
                    self.entries.transfer(
                        name(Event::InDoubt(id.attempt)),
                        amount,
                        Account::Owed,
                        Account::InDoubt,
                    )?;
                }
            }
        }
        Ok(())
    }
}

/// Which of these attempts still wait for an answer, and whether the ledger has them in doubt.
async fn waiting_in(
    conn: &mut Conn,
    day: ServiceDay,
    ids: impl Iterator<Item = AttemptId>,
) -> Result<HashMap<AttemptId, bool>, ClearingError> {
    let mut waiting = HashMap::new();
    let text = "SELECT a.token_key, a.part, a.attempt_no, a.state FROM (VALUES ??) AS v CROSS JOIN attempts AS a \
                WHERE a.service_day = v.column1 AND a.token_key = v.column2 AND a.part = v.column3 \
                AND a.attempt_no = v.column4 AND a.state IN ('sent', 'in_doubt')";
    let ids = ids.map(|id| (day.number(), id.token_key.to_vec(), id.part, id.attempt));
    for row in read_many(conn, text, ids).await? {
        let id = AttemptId {
            service_day: day_number(day),
            token_key: token_key(row.try_get(0)?)?.0,
            part: row.try_get(1)?,
            attempt: row.try_get(2)?,
        };
        waiting.insert(id, row.try_get::<&str>(3)? == "in_doubt");
    }
    Ok(waiting)
}

async fn set_attempts_in(
    conn: &mut Conn,
    attempts: &[(AttemptId, &'static str, Option<&'static str>)],
) -> Result<(), StoreError> {
    let rows = attempts
        .iter()
        .map(|(id, state, reason)| (id.service_day, &id.token_key, id.part, id.attempt, *state, *reason));
    let text = "UPDATE attempts SET state = v.column5, reason = v.column6 FROM (VALUES ??) AS v \
         WHERE service_day = v.column1 AND token_key = v.column2 AND part = v.column3 AND attempt_no = v.column4";
    write_many(conn, text, rows).await?;
    Ok(())
}

async fn set_charges_in(conn: &mut Conn, charges: &[Changed]) -> Result<(), StoreError> {
    let rows = charges.iter().map(|(id, state)| (id.service_day, &id.token_key, id.part, *state, id.attempt));
    let text = "UPDATE charges SET state = v.column4, attempts = v.column5 FROM (VALUES ??) AS v \
                WHERE service_day = v.column1 AND token_key = v.column2 AND part = v.column3";
    write_many(conn, text, rows).await?;
    Ok(())
}

/// Closes the debts of charges that are paid now. Returns the tokens that owe nothing any more.
async fn recover_in(
    conn: &mut Conn,
    day: ServiceDay,
    paid: &[AttemptId],
) -> Result<Vec<TokenKey>, ClearingError> {
    let rows = paid.iter().map(|id| (&id.token_key, day.number(), id.part));
    let text = "UPDATE debts SET state = 'recovered' FROM (VALUES ??) AS v WHERE token_key = v.column1 \
         AND service_day = v.column2 AND part = v.column3 AND state = 'open' RETURNING token_key";
    let recovered = read_many(conn, text, rows).await?;
    let mut released = BTreeSet::new();
    for row in &recovered {
        released.insert(token_key(row.try_get(0)?)?);
    }
    without_debts_in(conn, released).await
}

/// Those of these tokens that owe nothing any more.
pub(super) async fn without_debts_in(
    conn: &mut Conn,
    mut tokens: BTreeSet<TokenKey>,
) -> Result<Vec<TokenKey>, ClearingError> {
    let text = "SELECT DISTINCT token_key FROM debts WHERE state = 'open' AND token_key IN ??";
    let candidates: Vec<TokenKey> = tokens.iter().copied().collect();
    for row in read_many(conn, text, candidates.iter().map(|key| One(key.as_slice()))).await? {
        tokens.remove(&token_key(row.try_get(0)?)?);
    }
    Ok(tokens.into_iter().collect())
}
