//! Pay-outs: all that an e-account holds goes to its owner's bound class I account, once under a name.
//!
//! Money that goes to the bound account is not spent: it counts against no limit of the class.

use super::{AccountState, Book, answers_in};
use crate::store::StoreError;
use crate::store::db::Conn;
use wavepass_fares::{Fen, Overflow};

/// What the entries of pay-outs begin with. A deposit's name has no space in it, and an attempt's name would be of a service
/// day in five million years.
const ENTRY: &[u8] = b"pay-out ";

/// Why nothing is paid out. The account's name is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody by that name.
    #[error("there is no e-account of this name: `account list` shows what there is")]
    Unknown,
    /// Nothing may leave it.
    #[error("the e-account is frozen: nothing may leave it")]
    Frozen,
    /// It is gone.
    #[error("the e-account is closed")]
    Closed,
    /// There is nothing.
    #[error("the e-account holds nothing")]
    Empty,
    /// Some of it is spoken for.
    #[error("{0} CNY of what the e-account holds are held: the hold is completed or expires first")]
    Held(Fen),
}

/// Why nothing is paid out, or the store fails.
#[derive(Debug, thiserror::Error)]
pub enum PayOutError {
    /// The bank refuses.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A sum beyond 64 bits.
    #[error(transparent)]
    Overflow(#[from] Overflow),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn entry(name: &str) -> Vec<u8> {
    [ENTRY, name.as_bytes()].concat()
}

/// What was paid out of an account under a name; `None`: nothing was.
pub async fn paid_in(conn: &mut Conn, account_id: &str, name: &str) -> Result<Option<Fen>, StoreError> {
    let answers = answers_in(conn, &[(account_id, &entry(name))]).await?;
    Ok(answers.into_values().next().map(|(amount, _)| amount))
}

/// Pays out what an account holds, in the caller's transaction; how much. Under a name that came before, nothing moves
/// and the answer is the same.
pub async fn pay_out_in(
    conn: &mut Conn,
    account_id: &str,
    name: &str,
    at_ms: i64,
) -> Result<Fen, PayOutError> {
    if let Some(paid) = paid_in(conn, account_id, name).await? {
        return Ok(paid);
    }
    let mut book = Book::load(conn, &[account_id]).await?;
    let account = book.accounts.get_mut(account_id).ok_or(Refusal::Unknown)?;
    let held = account.held(at_ms)?;
    let amount = account.balance;
    match account.state {
        AccountState::Closed => return Err(Refusal::Closed.into()),
        AccountState::Frozen => return Err(Refusal::Frozen.into()),
        AccountState::Open if held > Fen::ZERO => return Err(Refusal::Held(held).into()),
        AccountState::Open if amount <= Fen::ZERO => return Err(Refusal::Empty.into()),
        AccountState::Open => {}
    }
    account.balance = Fen::ZERO;
    let entry = entry(name);
    book.post(account_id, &entry, [("account", amount.negated()?), ("bound", amount)], at_ms);
    book.answer(account_id, &entry, 0, amount, "approved");
    book.write_in(conn).await?;
    Ok(amount)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{balance, bank};
    use super::super::{Class, Deposit, Limits, deposit_in, set_state_in};
    use super::*;
    use crate::bank::{BankConnector, HoldId, HoldRequest};
    use crate::store::testing::Scratch;

    async fn pay_out(scratch: &Scratch, account: &str, name: &str) -> Result<i64, PayOutError> {
        let mut tx = scratch.begin().await.unwrap();
        let paid = pay_out_in(&mut tx, account, name, 5).await?;
        tx.commit().await.unwrap();
        Ok(paid.0)
    }

    #[tokio::test]
    async fn what_an_account_holds_is_paid_out_once_however_often_it_is_asked_for() {
        let (scratch, bank) = bank(&[("a", Class::Iii, 150_000), ("b", Class::Ii, 70)]).await;
        for _ in 0..3 {
            assert_eq!(pay_out(&scratch, "a", "first").await.unwrap(), 150_000);
            assert_eq!((balance(&scratch, "a").await, balance(&scratch, "b").await), (0, 70));
        }
        // What comes later is another pay-out's; a deposit may have the name of one.
        let more =
            |name: &str| Deposit { account_id: "a".into(), name: name.into(), amount: Fen(900), at_ms: 0 };
        let mut tx = scratch.begin().await.unwrap();
        deposit_in(&mut tx, &Limits::default(), &[more("second")]).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(pay_out(&scratch, "a", "first").await.unwrap(), 150_000);
        assert_eq!(balance(&scratch, "a").await, 900);
        assert_eq!(pay_out(&scratch, "a", "second").await.unwrap(), 900);
        assert_eq!(balance(&scratch, "a").await, 0);
        // Every entry sums to zero, the balances are those of the postings, and clearing's statement knows nothing of it.
        assert_eq!(bank.own_differences().await.unwrap(), [""; 0]);
        assert!(bank.statement(0, None, 10).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn nothing_leaves_an_account_that_is_frozen_closed_held_empty_or_not_there() {
        let accounts = [("f", Class::Ii, 5), ("c", Class::Ii, 5), ("h", Class::Ii, 5), ("e", Class::Ii, 0)];
        let (scratch, bank) = bank(&accounts).await;
        let mut tx = scratch.begin().await.unwrap();
        set_state_in(&mut tx, "f", AccountState::Frozen).await.unwrap();
        set_state_in(&mut tx, "c", AccountState::Closed).await.unwrap();
        tx.commit().await.unwrap();
        let id = HoldId { token_key: [7; 16], number: 1 };
        let hold = HoldRequest { id, account_id: "h".into(), amount: Fen(2), expires_ms: 10 };
        bank.authorise(&[hold]).await.unwrap();
        for (account, refusal) in [
            ("f", Refusal::Frozen),
            ("c", Refusal::Closed),
            ("h", Refusal::Held(Fen(2))),
            ("e", Refusal::Empty),
            ("x", Refusal::Unknown),
        ] {
            let refused = pay_out(&scratch, account, "first").await;
            assert!(
                matches!(refused, Err(PayOutError::Refused(r)) if r == refusal),
                "{account}: {refused:?}"
            );
        }
        assert_eq!(balance(&scratch, "h").await, 5);
        assert!(bank.own_differences().await.unwrap().is_empty());
    }
}
