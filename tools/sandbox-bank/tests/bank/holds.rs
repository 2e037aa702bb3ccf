//! Holds at the sandbox bank, over a socket.

use super::*;
use wavepass_gateway::bank::{Completion, HoldId, HoldRequest, Release};

/// An hour from now.
fn later_ms() -> i64 {
    (now().parse::<i64>().unwrap() + 3_600) * 1_000
}

fn hold(n: u32, fen: i64, expires_ms: i64) -> HoldRequest {
    let id = HoldId { token_key: request(n, 1, 0).id.token_key, number: 1 };
    HoldRequest { id, account_id: format!("a{n}"), amount: Fen(fen), expires_ms }
}

fn completion(n: u32, fen: i64) -> Completion {
    Completion { hold: hold(n, 1, 0).id, deduction: request(n, 1, fen) }
}

fn release(n: u32) -> Release {
    Release { hold: hold(n, 1, 0).id, account_id: format!("a{n}") }
}

impl House {
    /// An account's balance, and what of it is held, fen.
    async fn account(&self, n: u32) -> (i64, i64) {
        let accounts = self.accounts().await;
        let account = accounts.iter().find(|a| a.account == format!("a{n}")).unwrap();
        (account.balance_fen.unwrap(), account.held_fen.unwrap())
    }

    async fn held(&self) -> i64 {
        self.accounts().await.iter().filter_map(|a| a.held_fen).sum()
    }
}

const NO_FUNDS: Answer = Answer::Declined(Decline::NoFunds);

#[tokio::test(flavor = "multi_thread")]
async fn an_amount_is_held_in_pieces_taken_from_and_let_go_and_the_answers_outlive_the_bank() {
    let mut house = House::new(Trouble::default()).await;
    house.fill(40).await;
    let mut asked: Vec<HoldRequest> = (0..45).map(|n| hold(n, 600, later_ms())).collect();
    asked[7].amount = Fen(1_001);
    let bank = house.connector(1);
    let first = bank.authorise(&asked).await.unwrap();
    for (n, answer) in first.iter().enumerate() {
        let expected = match n {
            7 => NO_FUNDS,
            40.. => Answer::Declined(Decline::UnknownAccount),
            _ => Answer::Approved,
        };
        assert_eq!(*answer, expected, "hold {n}");
    }
    assert_eq!(house.held().await, 39 * 600);
    // What is held is nobody else's.
    let others = [request(0, 1, 401), request(1, 1, 400)];
    assert_eq!(bank.deduct(&others).await.unwrap(), [NO_FUNDS, Answer::Approved]);

    let completions: Vec<Completion> = (10..25).map(|n| completion(n, 700)).collect();
    assert_eq!(bank.complete(&completions).await.unwrap(), vec![Answer::Approved; 15]);
    assert_eq!((house.account(10).await, house.account(25).await), ((300, 0), (1_000, 600)));
    let releases: Vec<Release> = (25..40).map(release).collect();
    for _ in 0..2 {
        bank.release(&releases).await.unwrap();
        assert_eq!(house.account(25).await, (1_000, 0));
    }
    assert_eq!(bank.deduct(&[request(25, 1, 1_000)]).await.unwrap(), [Answer::Approved]);

    house.stop().await;
    house.start(Trouble::default()).await;
    let held = house.held().await;
    assert_eq!(bank.authorise(&asked).await.unwrap(), first);
    assert_eq!(bank.complete(&completions).await.unwrap(), vec![Answer::Approved; 15]);
    let other = bank.authorise(&[hold(3, 601, later_ms())]).await.unwrap();
    assert_eq!(other, [Answer::Declined(Decline::Mismatch)]);
    assert_eq!((house.held().await, house.account(10).await), (held, (300, 0)));
    assert!(bank.own_differences().await.unwrap().is_empty());
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_is_asked_for_again_and_nothing_is_held_or_taken_twice() {
    let mut house = House::new(Trouble::default()).await;
    house.fill(20).await;
    let lost = || Trouble { lose_answers: 100, ..Trouble::default() };
    let expires_ms = later_ms();
    let asked: Vec<HoldRequest> = (0..20).map(|n| hold(n, 600, expires_ms)).collect();

    house.stop().await;
    house.start(lost()).await;
    // As many requests as go out at once are lost; no further one is sent.
    let none = house.connector(1).authorise(&asked).await.unwrap_err().to_string();
    assert!(none.contains("the bank gave no answer"), "{none}");
    house.stop().await;
    house.start(Trouble::default()).await;
    assert_eq!(house.held().await, 20 * 600);
    assert_eq!(house.connector(1).authorise(&asked).await.unwrap(), vec![Answer::Approved; 20]);
    assert_eq!(house.held().await, 20 * 600);

    let completions: Vec<Completion> = (0..10).map(|n| completion(n, 1_000)).collect();
    let releases: Vec<Release> = (10..20).map(release).collect();
    house.stop().await;
    house.start(lost()).await;
    let doubt = house.connector(1).complete(&completions).await.unwrap();
    assert_eq!(doubt, vec![Answer::NoAnswer; 10]);
    assert!(house.connector(1).release(&releases).await.is_err());
    house.stop().await;
    house.start(Trouble::default()).await;
    assert_eq!(house.held().await, 0);
    assert_eq!(house.connector(1).complete(&completions).await.unwrap(), vec![Answer::Approved; 10]);
    house.connector(1).release(&releases).await.unwrap();
    assert_eq!((house.account(0).await, house.account(10).await), ((0, 0), (1_000, 0)));
    assert_eq!(house.connector(1).statement(DAY, None, 100).await.unwrap().len(), 10);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_of_a_batch_came_back_counts_and_the_rest_is_in_doubt() {
    let mut house = House::new(Trouble::default()).await;
    house.fill(40).await;
    let mut asked: Vec<HoldRequest> = (0..40).map(|n| hold(n, 600, later_ms())).collect();
    // The bank refuses the first of four pieces, three of which are in the air together, for one of it, and all of the third.
    asked[5].amount = Fen(0);
    asked[20..30].iter_mut().for_each(|hold| hold.amount = Fen(0));
    let answers = house.connector(1).authorise(&asked).await.unwrap();
    for (n, answer) in answers.into_iter().enumerate() {
        let refused = n == 5 || (20..30).contains(&n);
        assert_eq!(answer, if refused { Answer::NoAnswer } else { Answer::Approved }, "hold {n}");
    }
    assert_eq!(house.held().await, 29 * 600);
    // Of releases, too. Nothing is known of those that are refused.
    let ended = house.connector(1).release(&[release(0), release(1)]).await.unwrap();
    assert_eq!((ended, house.held().await), (vec![true; 2], 27 * 600));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_ends_by_itself_by_the_banks_clock() {
    let mut house = House::new(Trouble::default()).await;
    house.fill(1).await;
    let bank = house.connector(1);
    let over = hold(0, 600, later_ms() - 7_200_000);
    assert_eq!(bank.authorise(&[over]).await.unwrap(), [Answer::Approved]);
    assert_eq!(house.account(0).await, (1_000, 0));
    assert_eq!(bank.deduct(&[request(0, 1, 1_000)]).await.unwrap(), [Answer::Approved]);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bank_that_was_made_before_holds_is_named_and_goes_on_deducting() {
    let mut house = House::new(Trouble { no_holds: true, ..Trouble::default() }).await;
    house.fill(1).await;
    let bank = house.connector(3);
    for refused in [
        bank.authorise(&[hold(0, 600, later_ms())]).await.map(drop).unwrap_err().to_string(),
        bank.release(&[release(0)]).await.unwrap_err().to_string(),
    ] {
        assert!(refused.contains("it knows no holds") && refused.contains("404"), "{refused}");
        assert!(refused.contains("pre_authorise = \"none\""), "{refused}");
    }
    // A hold from another bank's time is no hindrance.
    assert_eq!(bank.complete(&[completion(0, 600)]).await.unwrap(), [Answer::Approved]);
    assert_eq!(house.account(0).await, (400, 0));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_another_key_holds_nothing_and_what_is_not_of_its_form_is_refused() {
    let mut house = House::new(Trouble::default()).await;
    house.fill(1).await;
    let other = house.dir.path().join("other");
    std::fs::write(&other, "00".repeat(32)).unwrap();
    let stranger = house.connector_with(&other, 1);
    let refused = stranger.authorise(&[hold(0, 600, later_ms())]).await.unwrap_err().to_string();
    assert!(refused.contains("401"), "{refused}");
    let name = "00".repeat(20);
    for (target, body) in [
        (
            wire::HOLDS,
            format!(r#"{{"holds":[{{"hold":"{name}","account":"a0","amount_fen":0,"expires_ms":1}}]}}"#),
        ),
        (wire::HOLDS, r#"{"holds":[{"hold":"00","account":"a0","amount_fen":1,"expires_ms":1}]}"#.to_owned()),
        (wire::RELEASES, r#"{"releases":[{"hold":"00","account":"a0"}]}"#.to_owned()),
        (
            wire::DEDUCTIONS,
            format!(
                r#"{{"deductions":[{{"attempt":"{}","account":"a0","amount_fen":1,"value_ms":1,"hold":"0"}}]}}"#,
                "00".repeat(28)
            ),
        ),
    ] {
        assert_eq!(house.post(target, now(), body.clone()).await, 400, "{target} {body}");
    }
    assert_eq!(house.account(0).await, (1_000, 0));
    house.stop().await;
}
