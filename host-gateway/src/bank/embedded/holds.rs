//! Holds of the embedded bank: what of a balance is spoken for until it is deducted, released or expired.
//!
//! A hold is decided like a debit of that moment, and moves no money: available is the balance less what is held. Its answer is
//! stored with it, and a repeated request gets it again.

use std::collections::HashMap;

use crate::store::StoreError;
use crate::store::db::{Conn, One, read_many, write_many};
use wavepass_fares::Fen;

use super::{
    Answer, BankError, Book, Decline, EAccount, EmbeddedBank, HoldId, HoldRequest, Release, Unanswered,
    again_if_met, calendar, decide, no_more_than_limit, overflow, replayed,
};

/// An amount that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    hold: Vec<u8>,
    amount: Fen,
    expires_ms: i64,
}

impl Held {
    /// The amount, unless it has expired.
    pub(super) fn at(&self, now_ms: i64) -> Option<Fen> {
        (self.expires_ms > now_ms).then_some(self.amount)
    }
}

/// Reads what is held of accounts.
pub(super) async fn load_in(
    conn: &mut Conn,
    accounts: &mut HashMap<String, EAccount>,
) -> Result<(), StoreError> {
    let names: Vec<String> = accounts.keys().cloned().collect();
    let text = "SELECT account_id, hold, amount_fen, expires_ms FROM bank_holds \
                WHERE state = 'held' AND account_id IN ??";
    for row in read_many(conn, text, names.iter().map(|name| One(name.as_str()))).await? {
        if let Some(account) = accounts.get_mut(row.try_get::<&str>(0)?) {
            let held =
                Held { hold: row.try_get(1)?, amount: Fen(row.try_get(2)?), expires_ms: row.try_get(3)? };
            account.held.push(held);
        }
    }
    Ok(())
}

/// Ends a hold of an account; false if it holds nothing.
pub(super) fn end(account: &mut EAccount, hold: HoldId) -> bool {
    let before = account.held.len();
    account.held.retain(|held| held.hold != hold.to_bytes());
    account.held.len() < before
}

/// Writes that holds have ended. Those that hold nothing stay as they are.
pub(super) async fn end_in(
    conn: &mut Conn,
    state: &'static str,
    holds: impl Iterator<Item = (&str, HoldId)> + Send,
) -> Result<(), StoreError> {
    let text = "UPDATE bank_holds SET state = v.column1 FROM (VALUES ??) AS v \
                WHERE account_id = v.column2 AND hold = v.column3 AND bank_holds.state = 'held'";
    write_many(conn, text, holds.map(|(account, hold)| (state, account, hold.to_bytes().to_vec()))).await?;
    Ok(())
}

/// A hold that was answered.
struct Given<'a> {
    request: &'a HoldRequest,
    answer: &'static str,
}

impl EmbeddedBank {
    pub(super) async fn hold(&self, requests: &[HoldRequest]) -> Result<Vec<Answer>, BankError> {
        no_more_than_limit(requests.len())?;
        Ok(again_if_met(|| self.hold_once(requests)).await?)
    }

    async fn hold_once(&self, requests: &[HoldRequest]) -> Result<Vec<Answer>, Unanswered> {
        let mut tx = self.begin().await?;
        let mut answered = answered_in(&mut tx, requests).await?;
        let names: Vec<&str> = requests.iter().map(|request| request.account_id.as_str()).collect();
        let mut book = Book::load(&mut tx, &names).await?;
        let date = calendar(&self.zone, self.now_ms)?;
        let mut answers = Vec::with_capacity(requests.len());
        let mut given = Vec::new();
        for request in requests {
            let key = (request.account_id.clone(), request.id.to_bytes().to_vec());
            if let Some((amount, word)) = answered.get(&key) {
                answers.push(replayed(*amount, request.amount, word));
                continue;
            }
            let decision = match book.accounts.get_mut(&request.account_id) {
                Some(account) => {
                    let held = account.held(self.now_ms).map_err(overflow)?;
                    // Decided on a copy: nothing is debited yet.
                    let decision = decide(
                        &mut account.clone(),
                        self.limits.of(account.class),
                        request.amount,
                        date,
                        held,
                    );
                    if decision.is_ok() {
                        let (hold, amount) = (key.1.clone(), request.amount);
                        account.held.push(Held { hold, amount, expires_ms: request.expires_ms });
                    }
                    decision
                }
                None => Err(Decline::UnknownAccount),
            };
            let (answer, word) = match decision {
                Ok(()) => (Answer::Approved, "approved"),
                Err(decline) => (Answer::Declined(decline), decline.as_str()),
            };
            given.push(Given { request, answer: word });
            answered.insert(key, (request.amount, word.to_owned()));
            answers.push(answer);
        }
        write_in(&mut tx, &given).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(answers)
    }

    pub(super) async fn let_go(&self, releases: &[Release]) -> Result<(), BankError> {
        no_more_than_limit(releases.len())?;
        Ok(again_if_met(|| self.let_go_once(releases)).await?)
    }

    async fn let_go_once(&self, releases: &[Release]) -> Result<(), Unanswered> {
        let mut tx = self.begin().await?;
        let holds = releases.iter().map(|release| (release.account_id.as_str(), release.hold));
        end_in(&mut tx, "released", holds).await?;
        Ok(tx.commit().await.map_err(StoreError::from)?)
    }
}

async fn answered_in(
    conn: &mut Conn,
    requests: &[HoldRequest],
) -> Result<HashMap<(String, Vec<u8>), (Fen, String)>, StoreError> {
    let text = "SELECT h.account_id, h.hold, h.amount_fen, h.answer FROM (VALUES ??) AS v CROSS JOIN bank_holds AS h \
                WHERE h.account_id = v.column1 AND h.hold = v.column2";
    let keys = requests.iter().map(|r| (r.account_id.as_str(), r.id.to_bytes().to_vec()));
    let mut answered = HashMap::new();
    for row in read_many(conn, text, keys).await? {
        answered.insert((row.try_get(0)?, row.try_get(1)?), (Fen(row.try_get(2)?), row.try_get(3)?));
    }
    Ok(answered)
}

async fn write_in(conn: &mut Conn, given: &[Given<'_>]) -> Result<(), StoreError> {
    let rows = given.iter().map(|Given { request: r, answer }| {
        let state = if *answer == "approved" { "held" } else { "declined" };
        (r.account_id.as_str(), r.id.to_bytes().to_vec(), r.amount.0, *answer, state, r.expires_ms)
    });
    let text = "INSERT INTO bank_holds (account_id, hold, amount_fen, answer, state, expires_ms) VALUES ??";
    write_many(conn, text, rows).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{balance, bank, request};
    use super::super::{AccountState, Class, set_state_in};
    use super::*;
    use crate::bank::{BankConnector, Completion};

    fn hold(account: &str, number: u32, fen: i64) -> HoldRequest {
        let id = HoldId { token_key: [7; 16], number };
        HoldRequest { id, account_id: account.into(), amount: Fen(fen), expires_ms: 1_000 }
    }

    const NO_FUNDS: Answer = Answer::Declined(Decline::NoFunds);

    #[tokio::test]
    async fn what_is_held_is_not_available_and_is_answered_again_by_its_name() {
        let (scratch, bank) = bank(&[("a", Class::Ii, 1_000)]).await;
        let asked = [hold("a", 1, 600), hold("a", 2, 600), hold("nobody", 3, 1)];
        let unknown = Answer::Declined(Decline::UnknownAccount);
        for _ in 0..2 {
            assert_eq!(bank.authorise(&asked).await.unwrap(), [Answer::Approved, NO_FUNDS, unknown]);
        }
        let other = Answer::Declined(Decline::Mismatch);
        assert_eq!(bank.authorise(&[hold("a", 1, 601)]).await.unwrap(), [other]);
        let deductions = [request("a", 1, 1, 401, 0), request("a", 2, 1, 400, 0)];
        assert_eq!(bank.deduct(&deductions).await.unwrap(), [NO_FUNDS, Answer::Approved]);
        assert_eq!(balance(&scratch, "a").await, 600);
        assert!(bank.own_differences().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_hold_is_completed_released_or_expires_and_is_then_available_again() {
        let (scratch, bank) = bank(&[("a", Class::Ii, 1_000)]).await;
        assert_eq!(bank.authorise(&[hold("a", 1, 900)]).await.unwrap(), [Answer::Approved]);
        let completion = Completion { hold: hold("a", 1, 900).id, deduction: request("a", 1, 1, 1_000, 0) };
        // The answer is lost, and the completion asked for again.
        for _ in 0..2 {
            assert_eq!(bank.complete(std::slice::from_ref(&completion)).await.unwrap(), [Answer::Approved]);
        }
        assert_eq!(balance(&scratch, "a").await, 0);

        let back = request("a", 9, 1, -500, 0);
        bank.deduct(&[back]).await.unwrap();
        assert_eq!(bank.authorise(&[hold("a", 2, 500)]).await.unwrap(), [Answer::Approved]);
        assert_eq!(bank.deduct(&[request("a", 2, 1, 1, 0)]).await.unwrap(), [NO_FUNDS]);
        let release = [Release { hold: hold("a", 2, 500).id, account_id: "a".into() }];
        for _ in 0..2 {
            bank.release(&release).await.unwrap();
        }
        assert_eq!(bank.deduct(&[request("a", 3, 1, 100, 0)]).await.unwrap(), [Answer::Approved]);

        assert_eq!(bank.authorise(&[hold("a", 3, 400)]).await.unwrap(), [Answer::Approved]);
        assert_eq!(bank.deduct(&[request("a", 4, 1, 1, 0)]).await.unwrap(), [NO_FUNDS]);
        let later = bank.at(1_000);
        assert_eq!(later.deduct(&[request("a", 5, 1, 400, 0)]).await.unwrap(), [Answer::Approved]);
    }

    #[tokio::test]
    async fn a_hold_is_declined_as_a_deduction_would_be() {
        let accounts = [("f", Class::Ii, 500), ("c", Class::Ii, 0), ("s", Class::Iii, 200_000)];
        let (scratch, bank) = bank(&accounts).await;
        let mut tx = scratch.begin().await.unwrap();
        set_state_in(&mut tx, "f", AccountState::Frozen).await.unwrap();
        set_state_in(&mut tx, "c", AccountState::Closed).await.unwrap();
        tx.commit().await.unwrap();
        let asked = [hold("f", 1, 1), hold("c", 2, 1), hold("s", 3, 200_001)];
        let declined = [Decline::Frozen, Decline::Closed, Decline::OverLimit].map(Answer::Declined);
        assert_eq!(bank.authorise(&asked).await.unwrap(), declined);
    }
}
