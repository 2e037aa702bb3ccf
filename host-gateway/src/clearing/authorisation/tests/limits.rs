//! Debts that are asked for because their riders tap again, and what a token may have at risk.

use super::*;

#[tokio::test]
async fn a_debt_is_asked_for_because_its_rider_taps_again_within_the_bounds_of_recovery() {
    let mut town = Town::new("[recovery]\ntries = 2", 1, 0).await;
    town.ride(0, 0).await;
    town.close().await;
    assert!(town.is_denied(0));
    let attempts = "SELECT count(*) FROM attempts";
    for (minutes, count) in [(10, 1), (30, 2), (45, 2), (60, 3), (200, 3)] {
        town.refused(0, CLOSING + minutes).await;
        town.round(CLOSING + minutes).await;
        assert_eq!(town.house.count(attempts).await, count, "{minutes} minutes");
    }
    assert_eq!(town.house.count("SELECT count(*) FROM retaps").await, 0);
    let lines = "SELECT count(*) FROM audit_log WHERE action = 'debt.recover' AND detail LIKE 'by a tap%'";
    assert_eq!(town.house.count(lines).await, 2);

    let mut town = Town::new("", 1, 0).await;
    town.ride(0, 0).await;
    town.close().await;
    town.deposit(0, 400).await;
    town.refused(0, CLOSING + 30).await;
    let done = town.round(CLOSING + 30).await;
    assert_eq!((done.by_tap.approved, town.is_denied(0), town.balance(0).await), (1, false, 0));
    town.assert_clean().await;
}

#[tokio::test]
async fn who_never_paid_may_not_risk_more_than_the_limit() {
    let mut town = Town::new("[authorisation]\nfirst_ride_limit_fen = 900", 2, 5_000).await;
    town.ride(0, 0).await;
    town.enter(1, 5).await;
    assert_eq!(town.round(40).await, Authorised::default());
    town.enter(0, 50).await;
    let done = town.round(60).await;
    assert_eq!(done.over_first_ride_limit, 1);
    assert_eq!(town.round(61).await, Authorised::default());
    assert_eq!(town.causes(0).await, [("authorisation", "first_ride_limit".to_owned())]);
    assert!(town.is_denied(0) && !town.is_denied(1));
    let risk = town.risk(0).await;
    assert_eq!((risk.at_risk_fen, risk.last_paid_ms), (Fen(1_300), None));
    assert_eq!(risk.first_tap_ms, Some(MORNING as i64));

    // A tap of the new day, before the old one is closed.
    let next = 21 * 60;
    town.enter(1, next).await;
    town.round(next + 1).await;
    town.close().await;
    assert!(!town.is_denied(0));
    let risk = town.risk(0).await;
    let closing_ms = Some((MORNING + CLOSING * MINUTE) as i64);
    assert_eq!((risk.at_risk_fen, risk.last_paid_ms, risk.first_tap_ms), (Fen(0), closing_ms, None));
    let risk = town.risk(1).await;
    assert_eq!((risk.at_risk_fen, risk.first_tap_ms), (Fen(900), Some((MORNING + next * MINUTE) as i64)));
    // Who has paid once may risk more.
    town.ride(1, next + 20).await;
    town.enter(1, next + 100).await;
    assert_eq!(town.round(CLOSING + 1).await, Authorised::default());
}

#[tokio::test]
async fn a_token_is_shown_with_what_it_has_at_risk() {
    let mut town = Town::new(SINGLE, 1, 1_000).await;
    town.ride(0, 0).await;
    town.enter(0, 40).await;
    town.round(60).await;
    let shown = town.house.command(&["token", "show", &town.tokens[0].to_hex()]).await;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["last_four"], &shown["state"]), (&"0001".into(), &"active".into()));
    let risk = &shown["risk"];
    assert_eq!((&risk["at_risk_fen"], &risk["last_paid_ms"]), (&900.into(), &(MORNING + 60 * MINUTE).into()));
    assert_eq!(risk["first_tap_ms"], MORNING + 40 * MINUTE);
}
