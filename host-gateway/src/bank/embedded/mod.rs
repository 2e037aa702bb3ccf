//! A bank of our own: class II and III e-accounts with their limits, and a double-entry ledger.
//!
//! What an account may do is in 银发〔2018〕16号 (known from secondary sources, hence [`Limits`]); counters turn
//! over on the Asia/Shanghai calendar, by the value date of a request. Every entry moves money between two sides and
//! sums to zero. An entry's answer is stored with its postings in one transaction, and a repeated entry gets it again.

mod accounts;
mod book;
mod decide;
mod holds;
mod limits;
pub mod pay_out;

use std::sync::Arc;

use crate::store::db::query;
use jiff::tz::TimeZone;
use wavepass_fares::{Fen, Overflow};

use super::{
    Answer, AttemptId, BankConnector, BankError, Completion, Decline, DeductionRequest, HoldId, HoldRequest,
    Release, Reply, StatementLine,
};
use crate::store::shards::BANK;
use crate::store::{Store, StoreError, WriteTx, again_if_met};
use book::{Book, answers_in};
use decide::{calendar, decide};

pub use accounts::{
    AccountError, AccountState, Deposit, EAccount, ERASED, NewAccount, deposit_in, deposited_in, find_in,
    open_in, page_in, rename_in, set_state_in,
};
pub use limits::{Class, ClassLimits, Limits};

/// The most requests in one call: one transaction of the writer, a few milliseconds.
pub const MAX_REQUESTS: usize = 10_000;

/// The embedded bank, in the gateway's own store.
#[derive(Clone)]
pub struct EmbeddedBank {
    store: Store,
    limits: Limits,
    zone: TimeZone,
    /// The bank's own time: by it, holds expire.
    now_ms: i64,
    refuses: Option<Refuses>,
}

/// Which attempts a bank under test declines, whatever the account holds. Asked once for each, before its answer is stored.
pub type Refuses = Arc<dyn Fn(&AttemptId) -> bool + Send + Sync>;

impl EmbeddedBank {
    /// A bank with these limits.
    pub fn new(store: Store, limits: Limits) -> Result<Self, BankError> {
        let zone = TimeZone::get("Asia/Shanghai").map_err(|e| BankError(e.to_string()))?;
        Ok(Self { store, limits, zone, now_ms: 0, refuses: None })
    }

    /// The same bank, declining debits of these attempts for want of funds.
    #[must_use]
    pub fn refusing(self, refuses: Refuses) -> Self {
        Self { refuses: Some(refuses), ..self }
    }

    /// The same at a time, in milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn at(self, now_ms: i64) -> Self {
        Self { now_ms, ..self }
    }

    /// Answers deductions, each with the hold that it completes, if any, as [`BankConnector::deduct`] and
    /// [`BankConnector::complete`] do.
    pub async fn answer(
        &self,
        requests: &[(Option<HoldId>, &DeductionRequest)],
    ) -> Result<Vec<Answer>, BankError> {
        no_more_than_limit(requests.len())?;
        Ok(again_if_met(|| self.answer_once(requests)).await?)
    }

    /// Waits for the bank's turn and begins a transaction. Deductions and holds touch the bank's own tables alone, and whoever
    /// else writes to them has the writers' turn: the gateway's work goes on beside the bank's.
    async fn begin(&self) -> Result<WriteTx, StoreError> {
        self.store.begin_shard(BANK).await
    }

    async fn answer_once(
        &self,
        requests: &[(Option<HoldId>, &DeductionRequest)],
    ) -> Result<Vec<Answer>, Unanswered> {
        let entries: Vec<[u8; 28]> = requests.iter().map(|(_, r)| r.id.to_bytes()).collect();
        let keys: Vec<(&str, &[u8])> = requests
            .iter()
            .zip(&entries)
            .map(|((_, r), entry)| (r.account_id.as_str(), &entry[..]))
            .collect();
        let names: Vec<&str> = keys.iter().map(|key| key.0).collect();

        let mut tx = self.begin().await?;
        let mut answered = answers_in(&mut tx, &keys).await?;
        let mut book = Book::load(&mut tx, &names).await?;
        let mut answers = Vec::with_capacity(requests.len());
        for ((hold, request), entry) in requests.iter().zip(&entries) {
            let key = (request.account_id.clone(), entry.to_vec());
            if let Some((amount, word)) = answered.get(&key) {
                answers.push(replayed(*amount, request.amount, word));
                continue;
            }
            let date = calendar(&self.zone, request.value_ms)?;
            let refused = request.amount > Fen::ZERO && self.refuses.as_ref().is_some_and(|r| r(&request.id));
            let decision = match book.accounts.get_mut(&request.account_id) {
                Some(_) if refused => Err(Decline::NoFunds),
                Some(account) => {
                    if let Some(hold) = hold
                        && holds::end(account, *hold)
                    {
                        book.ended.push((request.account_id.clone(), *hold));
                    }
                    let held = account.held(self.now_ms).map_err(overflow)?;
                    decide(account, self.limits.of(account.class), request.amount, date, held)
                }
                None => Err(Decline::UnknownAccount),
            };
            let (answer, word) = match decision {
                Ok(()) => {
                    let taken = request.amount.negated().map_err(overflow)?;
                    let lines = [("account", taken), ("transit", request.amount)];
                    book.post(&request.account_id, entry, lines, request.value_ms);
                    (Answer::Approved, "approved")
                }
                Err(decline) => (Answer::Declined(decline), decline.as_str()),
            };
            let service_day = i64::from(request.id.service_day);
            book.answer(&request.account_id, entry, service_day, request.amount, word);
            answered.insert(key, (request.amount, word.to_owned()));
            answers.push(answer);
        }
        book.write_in(&mut tx).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(answers)
    }

    async fn lines(
        &self,
        day: i32,
        after: Option<AttemptId>,
        limit: u32,
    ) -> Result<Vec<StatementLine>, BankError> {
        let after = after.map(|id| id.to_bytes().to_vec()).unwrap_or_default();
        // What the postings say, not what was answered: a posting that is missing is a difference.
        let rows = query(
            "SELECT a.entry, p.amount_fen FROM bank_answers AS a INDEXED BY bank_answers_by_day JOIN bank_postings AS p \
             ON p.account_id = a.account_id AND p.entry = a.entry AND p.side = 'transit' \
             WHERE a.answer = 'approved' AND a.service_day = ? AND a.entry > ? ORDER BY a.entry LIMIT ?",
        )
        .bind(day)
        .bind(after)
        .bind(limit)
        .fetch_all(self.store.pool())
        .await
        .map_err(|e| BankError(e.to_string()))?;
        rows.iter()
            .map(|row| {
                let entry: &[u8] = row.try_get(0).map_err(|e| BankError(e.to_string()))?;
                let id = AttemptId::from_bytes(entry)
                    .ok_or_else(|| BankError("an entry has no attempt".into()))?;
                let amount = Fen(row.try_get(1).map_err(|e| BankError(e.to_string()))?);
                Ok(StatementLine { id, amount })
            })
            .collect()
    }

    async fn differences(&self) -> Result<Vec<String>, BankError> {
        let entries = "SELECT 'entry ' || lower(hex(entry)) || ' sums to ' || SUM(amount_fen) AS t FROM bank_postings \
                       GROUP BY account_id, entry HAVING SUM(amount_fen) <> 0 LIMIT 100";
        let balances = "SELECT 'e-account ' || a.account_id || ' holds ' || a.balance_fen || ', its postings say ' || \
                        COALESCE((SELECT SUM(p.amount_fen) FROM bank_postings AS p \
                        WHERE p.account_id = a.account_id AND p.side = 'account'), 0) AS t FROM bank_accounts AS a \
                        WHERE a.balance_fen <> COALESCE((SELECT SUM(p.amount_fen) FROM bank_postings AS p \
                        WHERE p.account_id = a.account_id AND p.side = 'account'), 0) LIMIT 100";
        let mut found = Vec::new();
        for text in [entries, balances] {
            let lines: Vec<String> =
                query(text).column(self.store.pool()).await.map_err(|e| BankError(e.to_string()))?;
            found.extend(lines);
        }
        Ok(found)
    }
}

/// Why a piece of the bank's own work came to nothing.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Anything else.
    #[error(transparent)]
    Bank(#[from] BankError),
}

impl From<Unanswered> for BankError {
    fn from(why: Unanswered) -> Self {
        match why {
            Unanswered::Store(error) => Self(error.to_string()),
            Unanswered::Bank(error) => error,
        }
    }
}

fn overflow(error: Overflow) -> BankError {
    BankError(error.to_string())
}

fn no_more_than_limit(requests: usize) -> Result<(), BankError> {
    match requests > MAX_REQUESTS {
        true => Err(BankError(format!("{requests} requests at once; the limit is {MAX_REQUESTS}"))),
        false => Ok(()),
    }
}

fn replayed(before: Fen, now: Fen, word: &str) -> Answer {
    match Decline::parse(word) {
        _ if before != now => Answer::Declined(Decline::Mismatch),
        Some(decline) => Answer::Declined(decline),
        None => Answer::Approved,
    }
}

impl BankConnector for EmbeddedBank {
    fn deduct<'a>(&'a self, requests: &'a [DeductionRequest]) -> Reply<'a, Vec<Answer>> {
        Box::pin(async move {
            let requests: Vec<_> = requests.iter().map(|request| (None, request)).collect();
            self.answer(&requests).await
        })
    }

    fn authorise<'a>(&'a self, requests: &'a [HoldRequest]) -> Reply<'a, Vec<Answer>> {
        Box::pin(self.hold(requests))
    }

    fn complete<'a>(&'a self, completions: &'a [Completion]) -> Reply<'a, Vec<Answer>> {
        Box::pin(async move {
            let requests: Vec<_> = completions.iter().map(|c| (Some(c.hold), &c.deduction)).collect();
            self.answer(&requests).await
        })
    }

    fn release<'a>(&'a self, releases: &'a [Release]) -> Reply<'a, Vec<bool>> {
        Box::pin(async move {
            self.let_go(releases).await?;
            Ok(vec![true; releases.len()])
        })
    }

    fn statement(
        &self,
        service_day: i32,
        after: Option<AttemptId>,
        limit: u32,
    ) -> Reply<'_, Vec<StatementLine>> {
        Box::pin(self.lines(service_day, after, limit))
    }

    fn own_differences(&self) -> Reply<'_, Vec<String>> {
        Box::pin(self.differences())
    }
}

#[cfg(test)]
mod tests;
