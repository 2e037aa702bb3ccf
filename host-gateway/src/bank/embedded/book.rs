//! The bank's books: what a call reads of accounts and answers, and what it changes, written at once.

use std::collections::{BTreeSet, HashMap};

use wavepass_fares::Fen;

use super::accounts::{AccountState, EAccount};
use super::holds;
use super::limits::Class;
use crate::bank::HoldId;
use crate::store::StoreError;
use crate::store::db::{Conn, One, read_many, write_many};

pub(super) type Answered = HashMap<(String, Vec<u8>), (Fen, String)>;

pub(super) async fn answers_in(conn: &mut Conn, keys: &[(&str, &[u8])]) -> Result<Answered, StoreError> {
    let mut answered = HashMap::new();
    let text = "SELECT a.account_id, a.entry, a.amount_fen, a.answer FROM (VALUES ??) AS v CROSS JOIN bank_answers AS a \
                WHERE a.account_id = v.column1 AND a.entry = v.column2";
    for row in read_many(conn, text, keys.iter().copied()).await? {
        let key = (row.try_get(0)?, row.try_get(1)?);
        answered.insert(key, (Fen(row.try_get(2)?), row.try_get(3)?));
    }
    Ok(answered)
}

/// One side of an entry.
struct Line {
    account_id: String,
    entry: Vec<u8>,
    line: i64,
    side: &'static str,
    amount: Fen,
    at_ms: i64,
}

/// The answer to an entry.
struct Given {
    account_id: String,
    entry: Vec<u8>,
    service_day: i64,
    amount: Fen,
    answer: &'static str,
}

/// The accounts that a call touches, and what it changes.
pub(super) struct Book {
    pub(super) accounts: HashMap<String, EAccount>,
    postings: Vec<Line>,
    answers: Vec<Given>,
    /// Holds that deductions have used up.
    pub(super) ended: Vec<(String, HoldId)>,
}

impl Book {
    pub(super) async fn load(conn: &mut Conn, names: &[&str]) -> Result<Self, StoreError> {
        let mut accounts = HashMap::with_capacity(names.len());
        let text = "SELECT account_id, class, state, balance_fen, spent_on, day_spent_fen, spent_in, year_spent_fen \
             FROM bank_accounts WHERE account_id IN ??";
        for row in read_many(conn, text, names.iter().map(|&name| One(name))).await? {
            let account_id: String = row.try_get(0)?;
            let damaged = StoreError::Damaged { what: "an e-account's class or state" };
            let (Some(class), Some(state)) =
                (Class::from_number(row.try_get(1)?), AccountState::parse(row.try_get(2)?))
            else {
                return Err(damaged);
            };
            let account = EAccount {
                account_id: account_id.clone(),
                class,
                state,
                balance: Fen(row.try_get(3)?),
                held: Vec::new(),
                spent_on: row.try_get(4)?,
                day_spent: Fen(row.try_get(5)?),
                spent_in: row.try_get(6)?,
                year_spent: Fen(row.try_get(7)?),
            };
            accounts.insert(account_id, account);
        }
        holds::load_in(conn, &mut accounts).await?;
        Ok(Self { accounts, postings: Vec::new(), answers: Vec::new(), ended: Vec::new() })
    }

    pub(super) fn post(
        &mut self,
        account_id: &str,
        entry: &[u8],
        lines: [(&'static str, Fen); 2],
        at_ms: i64,
    ) {
        for ((side, amount), line) in lines.into_iter().zip(0..) {
            let (account_id, entry) = (account_id.to_owned(), entry.to_vec());
            self.postings.push(Line { account_id, entry, line, side, amount, at_ms });
        }
    }

    pub(super) fn answer(
        &mut self,
        account_id: &str,
        entry: &[u8],
        service_day: i64,
        amount: Fen,
        answer: &'static str,
    ) {
        let (account_id, entry) = (account_id.to_owned(), entry.to_vec());
        self.answers.push(Given { account_id, entry, service_day, amount, answer });
    }

    pub(super) async fn write_in(self, conn: &mut Conn) -> Result<(), StoreError> {
        let postings = self.postings.iter();
        let postings =
            postings.map(|p| (&p.account_id, p.entry.as_slice(), p.line, p.side, p.amount.0, p.at_ms));
        let text = "INSERT INTO bank_postings (account_id, entry, line, side, amount_fen, at_ms) VALUES ??";
        write_many(conn, text, postings).await?;
        let answers = self.answers.iter();
        let answers =
            answers.map(|a| (&a.account_id, a.entry.as_slice(), a.service_day, a.amount.0, a.answer));
        let text = "INSERT INTO bank_answers (account_id, entry, service_day, amount_fen, answer) VALUES ??";
        write_many(conn, text, answers).await?;
        holds::end_in(conn, "completed", self.ended.iter().map(|(account, hold)| (account.as_str(), *hold)))
            .await?;
        let touched: BTreeSet<&str> = self.postings.iter().map(|p| p.account_id.as_str()).collect();
        let touched = touched
            .into_iter()
            .filter_map(|name| self.accounts.get(name))
            .map(|a| (&a.account_id, a.balance.0, a.spent_on, a.day_spent.0, a.spent_in, a.year_spent.0));
        let text = "UPDATE bank_accounts SET balance_fen = v.column2, spent_on = v.column3, day_spent_fen = v.column4, \
             spent_in = v.column5, year_spent_fen = v.column6 FROM (VALUES ??) AS v WHERE account_id = v.column1";
        write_many(conn, text, touched).await?;
        Ok(())
    }
}
