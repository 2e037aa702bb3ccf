//! Whose the money of a day is.

use std::sync::Arc;

use super::*;
use crate::clearing::testing::{TapAt, World, day};
use crate::clearing::tests::{assert_clean, close, deduct};
use crate::reconcile::reconcile_day;

/// Token 0 from A to D over both operators' lines for 700, token 1 from X to Y on the west's for 350.
const RIDES: [TapAt<'static>; 4] =
    [(0, 8, 0, "A", 0), (1, 9, 0, "X", 0), (1, 9, 20, "Y", 1), (0, 8, 40, "D", 1)];

async fn settle(world: &World) -> Vec<(u16, i64)> {
    let settled = settle_day(&world.clearing, day(), &world.clearing.settlement).await.unwrap();
    settled.iter().map(|s| (s.operator, s.settled_fen.0)).collect()
}

async fn closed(method: Method, taps: &[TapAt<'_>]) -> World {
    let world = World::new(2, 10_000).await.shared(method);
    world.taps(1, taps).await;
    close(&world, false).await;
    deduct(&world).await;
    world
}

#[tokio::test]
async fn what_was_deducted_goes_to_the_operators_by_what_riders_did() {
    for (method, due) in [
        (Method::Nominal, [(1, 350), (2, 350 + 350)]),
        (Method::PassengerKm, [(1, 373), (2, 327 + 350)]),
        (Method::Fixed, [(1, 525), (2, 525)]),
    ] {
        let world = closed(method, &RIDES).await;
        assert_eq!(settle(&world).await, due, "{method:?}");
        assert_eq!(settle(&world).await, []);
        assert_clean(&world).await;
        let rows = world.one::<i64>("SELECT count(*) FROM charge_shares").await;
        assert_eq!(rows, if method == Method::Fixed { 0 } else { 3 }, "{method:?}");
    }
}

#[tokio::test]
async fn a_late_tap_carries_the_difference_and_the_order_of_arrival_changes_nothing() {
    let at_once = closed(Method::Nominal, &RIDES).await;
    let world = closed(Method::Nominal, &RIDES[..3]).await;
    // Half a journey is all the east's, where it began.
    assert_eq!(settle(&world).await, [(1, 900), (2, 350)]);
    world.taps(4, &RIDES[3..]).await;
    assert_eq!(close(&world, true).await.batch.unwrap().total_fen, Fen(-200));
    deduct(&world).await;
    assert_eq!(settle(&world).await, [(1, -550), (2, 350)]);
    assert_clean(&world).await;
    settle(&at_once).await;
    for sums in [
        "SELECT CAST(SUM(settled_fen) AS BIGINT) FROM settlements WHERE operator = 1",
        "SELECT CAST(SUM(settled_fen) AS BIGINT) FROM settlements WHERE operator = 2",
        "SELECT CAST(SUM(amount_fen) AS BIGINT) FROM charge_shares WHERE operator = 1",
    ] {
        assert_eq!(world.one::<i64>(sums).await, at_once.one::<i64>(sums).await, "{sums}");
    }
}

#[tokio::test]
async fn only_what_the_bank_took_is_settled_and_a_day_keeps_its_method() {
    let mut world = World::new(2, 400).await.shared(Method::Nominal);
    world.taps(1, &RIDES).await;
    close(&world, false).await;
    assert_eq!(deduct(&world).await.declined, 1);
    let config = SettlementConfig { method: Method::Fixed, ..(*world.clearing.settlement).clone() };
    world.clearing.settlement = Arc::new(config);
    assert_eq!(settle(&world).await, [(1, 0), (2, 350)]);
    crate::clearing::testing::deposit(&world.scratch.store, "a0", 300).await;
    world.clearing.recover_token(crate::clearing::testing::key(0)).await.unwrap();
    assert_eq!(settle(&world).await, [(1, 350), (2, 350)]);
    assert_clean(&world).await;
}

#[tokio::test]
async fn an_operator_that_is_not_configured_is_named_before_a_day_is_begun() {
    let mut world = World::new(2, 10_000).await.shared(Method::PassengerKm);
    world.taps(1, &RIDES).await;
    let mut config = (*world.clearing.settlement).clone();
    config.operators[1].code = None;
    world.clearing.settlement = Arc::new(config.clone());
    let refused = world.clearing.close_day(day(), World::options(false)).await.unwrap_err().to_string();
    assert_eq!(
        refused,
        "the tariff of 2026-11-23 names operator `west`, and no operator of [settlement] has that code"
    );
    assert_eq!(world.one::<i64>("SELECT count(*) FROM day_close").await, 0);
    config.operators[1].code = Some("east".into());
    assert!(matches!(config.check(), Err(SettlementError::Operators)));
}

#[tokio::test]
async fn shares_that_are_not_what_was_charged_are_a_break_and_are_not_settled() {
    let world = closed(Method::Nominal, &RIDES).await;
    world.tamper("UPDATE charge_shares SET amount_fen = amount_fen + 1 WHERE operator = 1").await;
    let found = reconcile_day(&world.clearing, day(), 0).await.unwrap();
    assert_eq!(found.differences.into_iter().collect::<Vec<_>>(), [("shares_differ", 1)]);
    let refused = settle_day(&world.clearing, day(), &world.clearing.settlement).await;
    assert!(matches!(refused, Err(SettlementError::Shares { shares: 1_051, ledger: 1_050, .. })));
    assert_eq!(world.one::<i64>("SELECT count(*) FROM settlements").await, 0);
}

/// Three operators whose weights divide no fare, and a fee.
fn uneven(world: &mut World) {
    let operator = |operator, share| Operator { operator, share, code: None };
    let operators = vec![operator(1, 3), operator(2, 2), operator(3, 2)];
    world.clearing.settlement =
        Arc::new(SettlementConfig { method: Method::Fixed, fee_basis_points: 30, operators });
}

/// A settled day of uneven operators: the bank took token 1's fare and declined token 0's.
async fn half_paid() -> World {
    let mut world = World::new(2, 400).await.shared(Method::Fixed);
    uneven(&mut world);
    world.taps(1, &RIDES).await;
    close(&world, false).await;
    deduct(&world).await;
    settle(&world).await;
    world
}

/// What each operator has of a day, and what it paid.
async fn by_operator(world: &World) -> Vec<String> {
    let text = "SELECT operator || ': ' || CAST(SUM(deducted_fen) AS BIGINT) || ' less ' || CAST(SUM(fees_fen) AS BIGINT) \
                FROM settlements GROUP BY operator ORDER BY operator";
    query(text).column(world.scratch.store.pool()).await.unwrap()
}

#[tokio::test]
async fn how_often_a_day_is_settled_changes_nothing_of_what_anybody_gets() {
    let tokens = 12;
    let rides = |token| [(token, 9, 0, "X", 0), (token, 9, 20, "Y", 1)];
    let rides: Vec<TapAt<'_>> = (0..tokens).flat_map(rides).collect();
    let mut found = Vec::new();
    for each in [false, true] {
        let mut world = World::new(tokens, 0).await.shared(Method::Fixed);
        uneven(&mut world);
        world.taps(1, &rides).await;
        close(&world, false).await;
        assert_eq!(deduct(&world).await.declined, u64::from(tokens));
        for token in 0..tokens {
            crate::clearing::testing::deposit(&world.scratch.store, &format!("a{token}"), 10_000).await;
            world.clearing.recover_token(crate::clearing::testing::key(token)).await.unwrap();
            if each {
                settle(&world).await;
            }
        }
        settle(&world).await;
        assert_clean(&world).await;
        found.push(by_operator(&world).await);
    }
    assert_eq!(found[0], found[1]);
    assert!(found[0].iter().all(|operator| !operator.ends_with(" 0")), "{found:?}");
}

#[tokio::test]
async fn a_day_is_settled_again_under_the_terms_of_the_first_time() {
    let mut world = half_paid().await;
    let first = by_operator(&world).await;
    let operators = vec![Operator { operator: 9, share: 1, code: None }];
    let config = SettlementConfig { method: Method::Fixed, fee_basis_points: 10_000, operators };
    world.clearing.settlement = Arc::new(config);
    assert_eq!(settle(&world).await, []);
    crate::clearing::testing::deposit(&world.scratch.store, "a0", 10_000).await;
    world.clearing.recover_token(crate::clearing::testing::key(0)).await.unwrap();
    let again: Vec<u16> = settle(&world).await.into_iter().map(|(operator, _)| operator).collect();
    assert_eq!(again, [1, 2, 3]);
    assert_ne!(by_operator(&world).await, first);
    assert_clean(&world).await;
}

#[tokio::test]
async fn of_a_day_that_a_version_without_terms_settled_the_rest_alone_is_shared_by_those_of_now() {
    let mut world = half_paid().await;
    let mut tx = world.scratch.begin().await.unwrap();
    query("DELETE FROM settlement_terms").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let operators =
        vec![Operator { operator: 2, share: 1, code: None }, Operator { operator: 9, share: 1, code: None }];
    let config = SettlementConfig { method: Method::Fixed, fee_basis_points: 0, operators };
    world.clearing.settlement = Arc::new(config);
    assert_eq!(settle(&world).await, []);
    crate::clearing::testing::deposit(&world.scratch.store, "a0", 10_000).await;
    world.clearing.recover_token(crate::clearing::testing::key(0)).await.unwrap();
    let owed = world.one::<i64>("SELECT CAST(SUM(amount_fen) AS BIGINT) FROM debts").await;
    assert_eq!(settle(&world).await, [(2, owed / 2), (9, owed / 2)]);
    assert_eq!(settle(&world).await, []);
    assert_clean(&world).await;
}

#[tokio::test]
async fn nobody_pays_for_what_the_bank_did_not_take() {
    // What comes late moves all of the day to the west, and the bank takes that alone.
    for method in [Method::Nominal, Method::PassengerKm] {
        let world = World::new(5, 1).await.shared(method);
        world.taps(1, &(0..5).map(|n| (n, 8, 0, "A", 0)).collect::<Vec<_>>()).await;
        close(&world, false).await;
        assert_eq!(deduct(&world).await.declined, 5);
        let late = (0..5).flat_map(|n| [(n, 8, 10, "B", 1), (n, 12, 0, "X", 0)]);
        world.taps(6, &late.collect::<Vec<_>>()).await;
        close(&world, true).await;
        for n in 0..5 {
            crate::clearing::testing::deposit(&world.scratch.store, &format!("a{n}"), 10_000).await;
        }
        deduct(&world).await;
        for page in [1, 2, 5, shares::TOKENS] {
            let mut tx = world.scratch.begin().await.unwrap();
            let shares = shares::deducted_in(&mut tx, day(), page).await.unwrap();
            assert_eq!(
                shares.into_iter().collect::<Vec<_>>(),
                [(2, Fen(1_000))],
                "{method:?}, {page} at a time"
            );
        }
    }
}
