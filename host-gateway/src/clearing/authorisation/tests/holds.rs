//! What the bank is asked to hold.

use super::*;

#[tokio::test]
async fn the_most_a_journey_may_cost_is_held_once_and_completed_by_the_deduction() {
    let mut town = Town::new(HOLD, 1, 1_000).await;
    town.enter(0, 0).await;
    assert_eq!(town.round(1).await, holds(1, 0, 0));
    let hold = town.risk(0).await.hold.unwrap();
    assert_eq!((hold.number, hold.amount_fen, hold.state.as_str()), (1, Fen(900), "active"));
    let shown = town.house.command(&["account", "show", &town.account(0)]).await;
    assert!(shown.ends_with(" 10.00           9.00"), "{shown}");
    let out = town.tap(0, 30, true);
    town.house.ingest(&[out]).await;
    assert_eq!(town.round(31).await, Authorised::default());
    assert_eq!(town.balance(0).await, 1_000);
    town.close().await;
    assert_eq!(town.balance(0).await, 600);
    assert_eq!(town.risk(0).await.hold.unwrap().state, "completed");
    assert_eq!(town.house.texts("SELECT state FROM bank_holds").await, ["completed"]);
    town.assert_clean().await;
}

#[tokio::test]
async fn a_nominal_hold_is_of_the_nominal_amount() {
    let mut town = Town::new("[authorisation]\npre_authorise = 'nominal'\nnominal_fen = 150", 1, 200).await;
    town.enter(0, 0).await;
    assert_eq!(town.round(1).await, holds(1, 0, 0));
    assert_eq!(town.risk(0).await.hold.unwrap().amount_fen, Fen(150));
}

#[tokio::test]
async fn a_hold_that_nothing_is_deducted_of_is_released_after_the_close_or_expires() {
    let mut town = Town::new(&format!("{HOLD}\nhold_hours = 30"), 2, 1_000).await;
    town.enter(0, 0).await;
    town.round(1).await;
    town.tamper("UPDATE taps SET withheld = 1").await;
    town.tamper("UPDATE token_taps SET withheld = 1").await;
    town.close().await;
    town.enter(1, CLOSING).await;
    town.round(CLOSING + 1).await;
    let states = "SELECT state FROM holds ORDER BY service_day";
    assert_eq!(town.house.texts(states).await, ["released", "active"]);
    assert_eq!(
        town.house.texts("SELECT state FROM bank_holds ORDER BY expires_ms").await,
        ["released", "held"]
    );
    town.round(CLOSING + 1 + 30 * 60).await;
    assert_eq!(town.house.texts(states).await, ["released", "expired"]);
}

#[tokio::test]
async fn a_hold_that_is_declined_denies_at_once_by_its_word() {
    let mut town = Town::new(HOLD, 5, 1_000).await;
    let mut tx = town.house.app.store.begin().await.unwrap();
    set_state_in(&mut tx, &town.account(1), AccountState::Frozen).await.unwrap();
    set_state_in(&mut tx, &town.account(2), AccountState::Closed).await.unwrap();
    let (keys, now) = (town.house.app.clearing.clone(), UnixMs(MORNING));
    set_token_state_in(&mut tx, &*keys, town.tokens[3], State::Suspended, "anna", now).await.unwrap();
    tx.commit().await.unwrap();
    town.tamper(&format!(
        "UPDATE bank_accounts SET balance_fen = 899 WHERE account_id = '{}'",
        town.account(0)
    ))
    .await;
    town.tamper(&format!(
        "UPDATE bank_accounts SET spent_on = 2026327, day_spent_fen = 999500 WHERE account_id = '{}'",
        town.account(4)
    ))
    .await;
    for n in 0..5 {
        town.enter(n, n as u64).await;
    }
    assert_eq!(town.round(10).await, holds(0, 5, 0));
    for (n, word) in
        [(0, "no_funds"), (1, "frozen"), (2, "closed"), (3, "token_suspended"), (4, "over_limit")]
    {
        let causes = town.causes(n).await;
        assert_eq!(causes[0], ("authorisation", word.to_owned()), "{causes:?}");
        assert!(town.is_denied(n));
    }
    // Further taps of before are no reason to ask again.
    let late = town.tap(0, 5, true);
    town.house.ingest(&[late]).await;
    assert_eq!(town.round(11).await, Authorised::default());
}

#[tokio::test]
async fn a_denied_rider_who_taps_again_is_held_for_anew_but_not_at_every_tap() {
    let mut town = Town::new(HOLD, 1, 100).await;
    town.enter(0, 0).await;
    assert_eq!(town.round(1).await, holds(0, 1, 0));
    town.at(2);
    town.deposit(0, 5_000).await;
    town.refused(0, 2).await;
    assert_eq!(town.round(3).await, Authorised::default());
    assert!(town.is_denied(0));
    town.refused(0, 31).await;
    assert_eq!(town.round(31).await, holds(1, 0, 0));
    assert!(!town.is_denied(0));
    assert_eq!(town.risk(0).await.hold.unwrap().number, 2);
    assert_eq!(town.house.count("SELECT count(*) FROM retaps").await, 0);
}

#[tokio::test]
async fn a_denied_rider_is_held_for_anew_by_hand() {
    let mut town = Town::new(HOLD, 1, 100).await;
    town.enter(0, 0).await;
    town.round(1).await;
    town.at(2);
    town.deposit(0, 5_000).await;
    let recovered = recover(&town.house.app, "anna", town.tokens[0]).await.unwrap();
    assert_eq!((recovered.holds.approved, town.is_denied(0)), (1, false));
}
