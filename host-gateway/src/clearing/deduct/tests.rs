//! Pages of a day that go through the stages at the same time, and gateways that deduct side by side.

mod suspended;

use std::sync::atomic::Ordering;

use super::number::{Pages, State};
use crate::clearing::testing::{Line, Mood, World, at, day};
use crate::clearing::tests::{assert_clean, close, deduct, rides};
use crate::clearing::{Clearing, DeductOptions, DeductSummary};
use crate::store::db::query;

/// A closed day of so many tokens, each in debt for a ride of 400 fen, in pages of so many.
async fn closed(mut world: World, tokens: u32, page: usize) -> World {
    world.taps(1, &rides(0..tokens)).await;
    close(&world, false).await;
    world.clearing.deduct_page = page;
    world
}

const fn approved(approved: u64) -> DeductSummary {
    DeductSummary { approved, declined: 0, in_doubt: 0 }
}

#[tokio::test]
async fn while_the_bank_answers_a_page_the_one_before_is_booked_and_the_next_is_numbered() {
    let world = closed(World::new(6, 10_000).await, 6, 2).await;
    world.line.at_next(&[Mood::Well, Mood::Slow]);
    let watch = async {
        world
            .until(
                "SELECT CASE WHEN (SELECT count(*) FROM charges WHERE state = 'deducted') = 2 \
                 AND (SELECT count(*) FROM attempts WHERE state = 'sent') = 4 THEN 1 ELSE 0 END",
            )
            .await;
        assert_eq!(world.line.calls.load(Ordering::SeqCst), 2);
        world.line.go.notify_one();
    };
    let (summary, ()) = tokio::join!(deduct(&world), watch);
    assert_eq!((summary, world.line.calls.load(Ordering::SeqCst)), (approved(6), 3));
    assert_clean(&world).await;
}

/// The bank is slow with the first page, which leaves the last all the time to overtake it.
#[tokio::test]
async fn of_two_tokens_of_an_e_account_the_later_is_declined_however_slow_its_bank_is() {
    for slow in [&[][..], &[Mood::Slow]] {
        let world = closed(World::new(6, 400).await, 6, 2).await;
        world.tamper("UPDATE tokens SET account_id = 'a0' WHERE account_id = 'a5'").await;
        world.line.at_next(slow);
        let watch = async {
            world
                .until("SELECT CASE WHEN count(*) = 6 THEN 1 ELSE 0 END FROM charges WHERE state <> 'open'")
                .await;
            world.line.go.notify_one();
        };
        let (summary, ()) = tokio::join!(deduct(&world), watch);
        assert_eq!(summary, DeductSummary { approved: 5, declined: 1, in_doubt: 0 });
        assert_eq!(
            world.one::<String>("SELECT hex(token_key) FROM debts").await,
            World::hex(5).to_uppercase()
        );
        assert_clean(&world).await;
    }
}

#[tokio::test]
async fn a_bank_that_fails_at_a_page_in_the_middle_takes_nothing_twice() {
    for mood in [Mood::Deaf, Mood::Mute] {
        let world = closed(World::new(6, 10_000).await, 6, 2).await;
        world.line.at_next(&[Mood::Well, mood]);
        assert_eq!(deduct(&world).await, DeductSummary { approved: 4, declined: 0, in_doubt: 2 });
        assert_eq!(deduct(&world).await, approved(2));
        assert_eq!(world.one::<i64>("SELECT count(*) FROM attempts").await, 6);
        assert_eq!(world.one::<i64>("SELECT count(*) FROM bank_accounts WHERE balance_fen = 9600").await, 6);
        assert_clean(&world).await;
    }
}

/// A gateway that died when it had numbered the first page.
async fn numbered(world: &World) {
    let page = world.clearing.next_page(&mut Pages::of(day(), State::Open)).await.unwrap().unwrap();
    assert_eq!(page.len(), 2);
}

#[tokio::test]
async fn what_a_dead_gateway_left_unanswered_is_asked_for_and_counted_once_in_a_run() {
    let world = closed(World::new(6, 10_000).await, 6, 2).await;
    numbered(&world).await;
    world.line.set(Mood::Deaf);
    for _ in 0..2 {
        assert_eq!(deduct(&world).await, DeductSummary { approved: 0, declined: 0, in_doubt: 6 });
    }
    world.line.set(Mood::Well);
    assert_eq!(deduct(&world).await, approved(6));
    assert_clean(&world).await;
}

#[tokio::test]
async fn what_is_declined_in_a_run_has_had_its_try() {
    let world = closed(World::new(6, 10_000).await, 6, 2).await;
    world.tamper("UPDATE bank_accounts SET state = 'frozen' WHERE account_id IN ('a1', 'a4')").await;
    numbered(&world).await;
    let again = DeductOptions { retry_declined: true };
    for (approved, attempts) in [(4, 6), (0, 8)] {
        let summary = world.clearing.deduct_day(day(), again).await.unwrap();
        assert_eq!(summary, DeductSummary { approved, declined: 2, in_doubt: 0 });
        assert_eq!(world.one::<i64>("SELECT count(*) FROM attempts").await, attempts);
    }
    assert_clean(&world).await;
}

/// Groups of one, two and four pages. At the first page of the last one the bank's line is down.
#[tokio::test]
async fn the_bank_is_asked_for_a_group_of_pages_in_the_order_of_its_e_accounts() {
    let world = closed(World::new(14, 10_000).await, 14, 2).await;
    world.line.at_next(&[Mood::Well, Mood::Well, Mood::Well, Mood::Deaf]);
    assert_eq!(deduct(&world).await, DeductSummary { approved: 12, declined: 0, in_doubt: 2 });
    let asked: Vec<String> =
        world.line.asked.lock().unwrap().iter().map(|accounts| accounts.join(" ")).collect();
    assert_eq!(asked, ["a0 a1", "a2 a3", "a4 a5", "a10 a11", "a12 a13", "a6 a7", "a8 a9"]);
    let in_doubt = "SELECT min(account_id) || ' ' || max(account_id) FROM attempts WHERE state = 'in_doubt'";
    assert_eq!(world.one::<String>(in_doubt).await, "a10 a11");
    assert_eq!(deduct(&world).await, approved(2));
    assert_eq!(world.one::<i64>("SELECT count(*) FROM attempts WHERE state = 'approved'").await, 14);
    assert_clean(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_deduct_a_day_of_many_pages_once() {
    let world = closed(World::on_postgres(60, 10_000).await, 60, 7).await;
    world.tamper("UPDATE bank_accounts SET state = 'frozen' WHERE account_id IN ('a3', 'a31', 'a59')").await;
    let beside = world.scratch.beside().await;
    let line = Line::over(&beside.store, 0);
    let other = Clearing { store: beside.store.clone(), bank: line, ..world.clearing.clone() };
    let options = DeductOptions::default();
    let (one, two) =
        tokio::join!(world.clearing.deduct_day(day(), options), other.deduct_day(day(), options));
    let mut both = one.unwrap();
    both.add(two.unwrap());
    assert_eq!(both, DeductSummary { approved: 57, declined: 3, in_doubt: 0 });
    assert_eq!(world.one::<i64>("SELECT count(*) FROM attempts").await, 60);
    assert_eq!(world.one::<i64>("SELECT count(*) FROM bank_accounts WHERE balance_fen = 9600").await, 57);
    assert_eq!(world.one::<i64>("SELECT count(*) FROM deny_entries").await, 3);
    assert_clean(&world).await;
}

/// Two parts of a token's charge are of two pages, and the second is numbered before the first is booked.
#[tokio::test]
async fn a_hold_is_given_to_one_of_the_attempts_that_are_under_way() {
    let world = closed(World::new(1, 10_000).await, 1, 1).await;
    world.taps(10, &[(0, 18, 0, "UN", 2)]).await;
    close(&world, true).await;
    let mut tx = world.scratch.begin().await.unwrap();
    query(
        "INSERT INTO holds (token_key, number, service_day, account_id, amount_fen, state, asked_ms, expires_ms) \
         SELECT token_key, 1, ?, account_id, 900, 'active', 0, ? FROM tokens",
    )
    .bind(day().number())
    .bind(at(48, 0))
    .execute(&mut *tx)
    .await
    .unwrap();
    tx.commit().await.unwrap();
    world.line.at_next(&[Mood::Slow]);
    let watch = async {
        world.until("SELECT CASE WHEN count(*) = 2 THEN 1 ELSE 0 END FROM attempts").await;
        world.line.go.notify_one();
    };
    let (summary, ()) = tokio::join!(deduct(&world), watch);
    assert_eq!(summary, approved(2));
    assert_eq!(world.one::<i64>("SELECT count(hold_number) FROM attempts").await, 1);
    assert_eq!(world.one::<String>("SELECT state FROM holds").await, "completed");
    assert_clean(&world).await;
}

/// Risk has read what it knows of a token when the bank pays for it, and writes what it knew.
#[tokio::test]
async fn what_a_token_has_at_risk_is_not_lost_where_risk_looks_at_it_while_it_is_paid() {
    let world = closed(World::on_postgres(1, 10_000).await, 1, 1).await;
    let state =
        "INSERT INTO risk_states (token_key, first_tap_ms, last_tap_ms) SELECT token_key, 1, 1 FROM tokens";
    world.tamper(state).await;
    let mut risk = world.scratch.begin_shard(0).await.unwrap();
    let watch = async {
        world
            .until(
                "SELECT CASE WHEN EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) \
                 OR EXISTS (SELECT 1 FROM charges WHERE state = 'deducted') THEN 1 ELSE 0 END",
            )
            .await;
        let known = "UPDATE risk_states SET first_tap_ms = 1, last_tap_ms = 2";
        query(known).execute(&mut *risk).await.unwrap();
        risk.commit().await.unwrap();
    };
    let (summary, ()) = tokio::join!(deduct(&world), watch);
    assert_eq!(summary, approved(1));
    let state = "SELECT CASE WHEN first_tap_ms IS NULL AND last_tap_ms = 2 AND last_paid_ms IS NOT NULL THEN 1 ELSE 0 END \
                 FROM risk_states";
    assert_eq!(world.one::<i64>(state).await, 1);
}
