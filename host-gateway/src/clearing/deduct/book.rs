//! Books what the bank answered: attempts, charges, ledger, debts and deny list agree at every commit.
//!
//! Answers that are the end of the matter, a page's most, change rows that others leave alone meanwhile, and are booked in the
//! turn of booking. Those that make a debt or end one change the deny list and what waivers, refunds and riders' tries go by:
//! they are booked in the turn of all writers.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use wavepass_fares::{Fen, ServiceDay};
use wavepass_protocol::time::UnixMs;

use super::{Answered, Attempt, Clearing, ClearingError, DeductSummary};
use crate::bank::{Answer, AttemptId, DeductionRequest, HoldId};
use crate::clearing::authorisation::holds::complete_in;
use crate::clearing::{day_number, token_key};
use crate::keys::TokenKey;
use crate::ledger::{Account, Entries, Event, Name};
use crate::risk::state::note_paid_in;
use crate::store::db::{Conn, One, query, read_many, write_many};
use crate::store::shards::{BOOKING, Part};
use crate::store::{Break, StoreError, WriteTx, again_if_met, raise_breaks_in};

/// Who else writes while answers are booked.
#[derive(Clone, Copy)]
enum Turn {
    /// Those of other stages, and of parts in which nobody was paid for.
    Booking,
    /// Nobody.
    Alone,
}

impl Clearing {
    /// Books answers, each whole or not at all: first those that concern debts, then the others.
    pub(in crate::clearing) async fn record(
        &self,
        day: ServiceDay,
        answered: Answered,
        summary: &mut DeductSummary,
    ) -> Result<(), ClearingError> {
        let (debts, others): (Answered, Answered) = answered.into_iter().partition(concerns_debts);
        for (answered, turn) in [(debts, Turn::Alone), (others, Turn::Booking)] {
            if !answered.is_empty() {
                summary.add(again_if_met(|| self.record_once(day, &answered, turn)).await?);
            }
        }
        Ok(())
    }

    async fn record_once(
        &self,
        day: ServiceDay,
        answered: &[(Attempt, Answer)],
        turn: Turn,
    ) -> Result<DeductSummary, ClearingError> {
        let mut summary = DeductSummary::default();
        let mut tx = match turn {
            Turn::Alone => self.store.begin().await?,
            Turn::Booking => self.begin_booking(answered).await?,
        };
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

    /// Begins to book what concerns no debt, beside those who number attempts, those who answer them, and those who work on
    /// parts of the tokens.
    ///
    /// Nobody of these changes an attempt or charge that waits for an answer, or a hold that is active; what they enter (a part's
    /// charges and journeys, the ledger's transactions of other names) does not meet what is entered here. A token that is
    /// paid for has two things besides: its entry on the deny list for want of authorisation, which those who ask for holds
    /// make in the turn of all writers; and its state at risk, which risk reads, works out and writes back in the turn of the
    /// token's part. So that turn is waited for, too; whoever has it waits for no other.
    async fn begin_booking(&self, answered: &[(Attempt, Answer)]) -> Result<WriteTx, StoreError> {
        let paid = answered.iter().filter(|(attempt, answer)| is_paid(attempt, *answer));
        let tokens: BTreeSet<TokenKey> = paid.map(|(a, _)| TokenKey(a.request.id.token_key)).collect();
        let mut turns = vec![BOOKING];
        turns.extend(Part::numbers_of(&tokens));
        self.store.begin_shards(&turns).await
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
        let subjects: Vec<String> = outcome.unregistered.iter().map(TokenKey::to_hex).collect();
        let found = subjects.iter().map(|subject| Break {
            kind: "unregistered_token",
            subject,
            service_day: Some(day.number()),
            detail: "a charge of a token that belongs to no e-account",
            at,
        });
        raise_breaks_in(tx, &found.collect::<Vec<_>>()).await?;
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

/// True if the token pays something.
fn is_paid(attempt: &Attempt, answer: Answer) -> bool {
    answer == Answer::Approved && attempt.request.amount > Fen::ZERO
}

/// True if an answer may make a debt or end one: a second attempt is made of what was declined.
fn concerns_debts((attempt, answer): &(Attempt, Answer)) -> bool {
    match answer {
        Answer::Approved => attempt.request.id.attempt > 1,
        Answer::Declined(_) => true,
        Answer::NoAnswer => false,
    }
}

/// An attempt, and what becomes of its charge.
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
                if is_paid(attempt, answer) {
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
    ids: impl Iterator<Item = AttemptId> + Send,
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

pub(super) async fn set_charges_in(conn: &mut Conn, charges: &[Changed]) -> Result<(), StoreError> {
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
pub(in crate::clearing) async fn without_debts_in(
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
