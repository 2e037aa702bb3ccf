//! What an attempt does to an account, once.

use jiff::Timestamp;

use super::*;
use crate::store::testing::{Scratch, scratch};

/// Noon of a date in Shanghai.
fn noon(date: &str) -> i64 {
    format!("{date}T12:00:00+08:00").parse::<Timestamp>().unwrap().as_millisecond()
}

pub(super) async fn bank(accounts: &[(&str, Class, i64)]) -> (Scratch, EmbeddedBank) {
    let scratch = scratch().await;
    let bank = EmbeddedBank::new(scratch.store.clone(), Limits::default()).unwrap();
    let mut tx = scratch.begin().await.unwrap();
    for &(name, class, fen) in accounts {
        open_in(&mut tx, &[NewAccount { account_id: name.into(), class }]).await.unwrap();
        if fen > 0 {
            let deposit =
                Deposit { account_id: name.into(), name: "first".into(), amount: Fen(fen), at_ms: 0 };
            deposit_in(&mut tx, &bank.limits, &[deposit]).await.unwrap();
        }
    }
    tx.commit().await.unwrap();
    (scratch, bank)
}

pub(super) fn request(account: &str, token: u8, attempt: u32, fen: i64, value_ms: i64) -> DeductionRequest {
    let id = AttemptId { service_day: 20_780, token_key: [token; 16], part: 1, attempt };
    DeductionRequest { id, account_id: account.into(), amount: Fen(fen), value_ms }
}

pub(super) async fn balance(scratch: &Scratch, name: &str) -> i64 {
    let mut conn = scratch.pool().acquire().await.unwrap();
    find_in(&mut conn, &[name]).await.unwrap()[0].as_ref().unwrap().balance.0
}

#[tokio::test]
async fn an_attempt_asked_twice_gets_its_answer_again_and_moves_money_once() {
    let (scratch, bank) = bank(&[("a", Class::Ii, 1_000)]).await;
    let asked = [request("a", 1, 1, 300, 0), request("a", 2, 1, 800, 0)];
    let first = bank.deduct(&asked).await.unwrap();
    assert_eq!(first, [Answer::Approved, Answer::Declined(Decline::NoFunds)]);
    // Money that came since changes no answer that was given.
    let mut tx = scratch.begin().await.unwrap();
    let more = Deposit { account_id: "a".into(), name: "second".into(), amount: Fen(900), at_ms: 0 };
    deposit_in(&mut tx, &bank.limits, &[more.clone(), more]).await.unwrap_or_else(|e| panic!("{e}"));
    tx.commit().await.unwrap();
    assert_eq!(bank.deduct(&asked).await.unwrap(), first);
    assert_eq!(
        bank.deduct(&[request("a", 1, 1, 301, 0)]).await.unwrap(),
        [Answer::Declined(Decline::Mismatch)]
    );
    assert_eq!(bank.deduct(&[request("a", 2, 2, 800, 0)]).await.unwrap(), [Answer::Approved]);
    assert_eq!(balance(&scratch, "a").await, 1_000 + 900 - 300 - 800);
    assert!(bank.own_differences().await.unwrap().is_empty());
    let lines = bank.statement(20_780, None, 10).await.unwrap();
    assert_eq!(lines.iter().map(|l| l.amount.0).collect::<Vec<_>>(), [300, 800]);
}

#[tokio::test]
async fn the_same_attempt_twice_in_one_call_moves_money_once() {
    let (scratch, bank) = bank(&[("a", Class::Ii, 1_000)]).await;
    let asked = [request("a", 1, 1, 300, 0), request("a", 1, 1, 300, 0)];
    assert_eq!(bank.deduct(&asked).await.unwrap(), [Answer::Approved, Answer::Approved]);
    assert_eq!(balance(&scratch, "a").await, 700);
}

#[tokio::test]
async fn no_funds_over_limit_frozen_closed_and_unknown_are_told_apart() {
    let (scratch, bank) = bank(&[
        ("poor", Class::Ii, 100),
        ("small", Class::Iii, 200_000),
        ("f", Class::Ii, 500),
        ("c", Class::Ii, 0),
    ])
    .await;
    let mut tx = scratch.begin().await.unwrap();
    set_state_in(&mut tx, "f", AccountState::Frozen).await.unwrap();
    set_state_in(&mut tx, "c", AccountState::Closed).await.unwrap();
    assert!(matches!(set_state_in(&mut tx, "x", AccountState::Open).await, Err(AccountError::Unknown(_))));
    tx.commit().await.unwrap();
    let asked = [
        request("poor", 1, 1, 101, 0),
        request("small", 2, 1, 200_001, 0),
        request("f", 3, 1, 1, 0),
        request("c", 4, 1, 1, 0),
        request("x", 5, 1, 1, 0),
        request("f", 6, 1, -50, 0),
    ];
    use Decline::{Closed, Frozen, NoFunds, OverLimit, UnknownAccount};
    let answers = bank.deduct(&asked).await.unwrap();
    let declined = [NoFunds, OverLimit, Frozen, Closed, UnknownAccount].map(Answer::Declined);
    assert_eq!(answers[..5], declined);
    assert_eq!(answers[5], Answer::Approved);
    assert_eq!(balance(&scratch, "f").await, 550);
}

#[tokio::test]
async fn a_days_limit_turns_over_at_midnight_in_shanghai() {
    let (_scratch, bank) = bank(&[("a", Class::Ii, 3_000_000)]).await;
    let late = "2026-11-23T23:59:59+08:00".parse::<Timestamp>().unwrap().as_millisecond();
    let asked = [
        request("a", 1, 1, 1_000_000, noon("2026-11-23")),
        request("a", 2, 1, 1, late),
        request("a", 3, 1, 1, late + 1_000),
    ];
    let over = Answer::Declined(Decline::OverLimit);
    assert_eq!(bank.deduct(&asked).await.unwrap(), [Answer::Approved, over, Answer::Approved]);
}

#[tokio::test]
async fn a_class_iii_account_spends_2000_a_day_50000_a_year_and_holds_2000() {
    let (scratch, bank) = bank(&[("a", Class::Iii, 200_000)]).await;
    let mut tx = scratch.begin().await.unwrap();
    let deposit = |name: String, fen| Deposit { account_id: "a".into(), name, amount: Fen(fen), at_ms: 0 };
    assert!(deposit_in(&mut tx, &bank.limits, &[deposit("too much".into(), 1)]).await.is_err());
    drop(tx);
    let start = noon("2026-01-01");
    for day in 0..25_i64 {
        let asked = [request("a", 1 + day as u8, 1, 200_000, start + day * 86_400_000)];
        assert_eq!(bank.deduct(&asked).await.unwrap(), [Answer::Approved]);
        let mut tx = scratch.begin().await.unwrap();
        deposit_in(&mut tx, &bank.limits, &[deposit(format!("d{day}"), 200_000)]).await.unwrap();
        tx.commit().await.unwrap();
    }
    let asked = [request("a", 90, 1, 1, start + 30 * 86_400_000), request("a", 91, 1, 1, noon("2027-01-01"))];
    assert_eq!(bank.deduct(&asked).await.unwrap(), [Answer::Declined(Decline::OverLimit), Answer::Approved]);
    // A refund that would fill it over its limit is over the limit, too.
    let back = [request("a", 92, 1, -2, noon("2027-01-01"))];
    assert_eq!(bank.deduct(&back).await.unwrap(), [Answer::Declined(Decline::OverLimit)]);
}
