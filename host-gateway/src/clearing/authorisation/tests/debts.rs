//! What a tap at a gate is no reason to ask for.

use super::*;
use crate::clearing::debts::write_off;

/// A town of one rider who owes for a ride and is denied.
async fn owing(fen: i64, state: State) -> Town {
    let mut town = Town::new("", 1, fen).await;
    town.ride(0, 0).await;
    set_state(&town, state).await;
    town.close().await;
    assert!(town.is_denied(0));
    town
}

async fn set_state(town: &Town, state: State) {
    let mut tx = town.house.app.store.begin().await.unwrap();
    let now = UnixMs(MORNING + town.now * MINUTE);
    set_token_state_in(&mut tx, &*town.house.app.clearing, town.tokens[0], state, "anna", now).await.unwrap();
    tx.commit().await.unwrap();
}

async fn attempts(town: &Town) -> i64 {
    town.house.count("SELECT count(*) FROM attempts").await
}

#[tokio::test]
async fn a_written_off_debt_is_not_asked_for_by_a_tap_and_its_rider_stays_denied() {
    let mut town = owing(100, State::Active).await;
    write_off(&town.house.app, "anna", (town.tokens[0], day(), None), "nobody is found", false)
        .await
        .unwrap();
    town.deposit(0, 5_000).await;
    town.refused(0, CLOSING + 60).await;
    assert_eq!(town.round(CLOSING + 61).await, Authorised::default());
    assert_eq!((attempts(&town).await, town.is_denied(0)), (1, true));
    assert_eq!(town.causes(0).await, [("written_off", "nobody is found".to_owned())]);
    assert_eq!(town.house.count("SELECT count(*) FROM retaps").await, 0);
    town.assert_clean().await;
}

#[tokio::test]
async fn a_suspended_rider_who_taps_uses_up_no_try_and_pays_once_the_token_is_active() {
    let mut town = owing(5_000, State::Suspended).await;
    assert_eq!(town.house.texts("SELECT reason FROM debts").await, ["token_suspended"]);
    town.refused(0, CLOSING + 60).await;
    assert_eq!(town.round(CLOSING + 61).await, Authorised::default());
    assert_eq!(attempts(&town).await, 1);
    set_state(&town, State::Active).await;
    town.refused(0, CLOSING + 120).await;
    let paid = DeductSummary { approved: 1, ..DeductSummary::default() };
    assert_eq!(town.round(CLOSING + 121).await.by_tap, paid);
    assert_eq!((town.balance(0).await, town.is_denied(0)), (4_600, false));
    town.assert_clean().await;
}

#[tokio::test]
async fn what_a_suspended_token_owes_early_is_declined_by_its_word() {
    let mut town = Town::new("[authorisation]\nmode = 'single'", 1, 5_000).await;
    town.ride(0, 0).await;
    set_state(&town, State::Suspended).await;
    let early = DeductSummary { declined: 1, ..DeductSummary::default() };
    assert_eq!(town.round(31).await, Authorised { early, ..Authorised::default() });
    set_state(&town, State::Active).await;
    town.close().await;
    assert_eq!(town.balance(0).await, 5_000);
    let recovered = recover(&town.house.app, "anna", town.tokens[0]).await.unwrap();
    assert_eq!((recovered.deduct.approved, town.balance(0).await), (1, 4_600));
    town.assert_clean().await;
}
