//! Fares that are asked for before the close, and that a day comes to the same in any case.

use super::*;

#[tokio::test]
async fn by_default_nothing_is_asked_for_before_the_close() {
    let mut town = Town::new("", 1, 1_000).await;
    town.ride(0, 0).await;
    assert_eq!(town.round(60).await, Authorised::default());
    assert_eq!(town.house.count("SELECT count(*) FROM authorisation_due").await, 0);
    town.close().await;
    assert_eq!((town.parts().await, town.balance(0).await), (vec!["1 400 deducted".to_owned()], 600));
}

#[tokio::test]
async fn each_fare_is_deducted_once_its_journey_is_complete_and_the_close_books_the_rest() {
    let mut town = Town::new(SINGLE, 1, 2_000).await;
    town.enter(0, 0).await;
    assert_eq!(town.round(10).await, Authorised::default());
    let out = town.tap(0, 30, true);
    town.house.ingest(&[out]).await;
    assert_eq!(town.round(31).await, early(1, 0));
    assert_eq!((town.balance(0).await, town.round(32).await), (1_600, Authorised::default()));
    town.ride(0, 100).await;
    assert_eq!(town.round(140).await, early(1, 0));
    town.enter(0, 200).await;
    town.round(210).await;
    assert_eq!(town.parts().await, ["1 400 deducted", "2 400 deducted"]);

    town.close().await;
    assert_eq!(town.parts().await, ["1 400 deducted", "2 400 deducted", "3 900 deducted"]);
    assert_eq!(town.balance(0).await, 300);
    assert_eq!(town.house.count("SELECT charges FROM batches").await, 3);
    town.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_for_early_is_shown_before_the_day_is_closed() {
    let mut town = Town::new(SINGLE, 2, 2_000).await;
    town.ride(0, 0).await;
    town.ride(1, 0).await;
    assert_eq!(town.round(31).await, early(2, 0));
    let key = town.tokens[0].to_hex();
    let (_house, _server, http) = crate::api::testing::over(town.house).await;
    let (status, shown) = http.admin("GET", &format!("/v1/charges?token_key={key}"), None).await;
    let charges = shown["charges"].as_array().unwrap();
    assert_eq!((status, charges.len()), (200, 1), "{shown}");
    assert_eq!((&charges[0]["service_day"], &charges[0]["part"]), (&"2026-11-23".into(), &1.into()));
    assert_eq!((&charges[0]["amount_fen"], &charges[0]["state"]), (&400.into(), &"deducted".into()));
    let before = format!("/v1/charges?token_key={key}&before=2026-11-23");
    assert_eq!(http.admin("GET", &before, None).await.1["charges"], serde_json::json!([]));
}

#[tokio::test]
async fn gates_of_another_operator_leave_it_to_the_close() {
    let mut town = Town::new(&SINGLE.replace("operator = 1", "operator = 2"), 1, 2_000).await;
    town.ride(0, 0).await;
    assert_eq!(town.round(60).await, Authorised::default());
    assert_eq!(town.parts().await, Vec::<String>::new());
}

#[tokio::test]
async fn fares_are_gathered_until_they_come_to_the_limit_or_are_old_enough() {
    let toml =
        "[authorisation]\nmode = 'aggregated'\ncumulative_spend_limit_fen = 800\nmaximum_travel_hours = 3";
    let mut town = Town::new(toml, 2, 5_000).await;
    town.ride(0, 0).await;
    assert_eq!(town.round(60).await, Authorised::default());
    town.ride(0, 70).await;
    assert_eq!(town.round(101).await, early(1, 0));
    assert_eq!(town.parts().await, ["1 800 deducted"]);

    town.ride(1, 120).await;
    for minute in [160, 299] {
        assert_eq!(town.round(minute).await, Authorised::default());
    }
    assert_eq!(town.round(300).await, early(1, 0));
    assert_eq!(town.balance(1).await, 4_600);
    assert_eq!(town.house.count("SELECT count(*) FROM authorisation_due").await, 0);
    town.close().await;
    town.assert_clean().await;
}

#[tokio::test]
async fn an_early_decline_is_a_debt_and_denies_at_once() {
    let mut town = Town::new(SINGLE, 1, 399).await;
    town.ride(0, 0).await;
    assert_eq!(town.round(31).await, early(0, 1));
    assert!(town.is_denied(0));
    town.deposit(0, 1).await;
    let recovered = recover(&town.house.app, "anna", town.tokens[0]).await.unwrap();
    assert_eq!((recovered.deduct.approved, recovered.owed_fen), (1, Fen(0)));
    assert!(!town.is_denied(0));
    town.close().await;
    town.assert_clean().await;
}

#[tokio::test]
async fn what_was_taken_too_much_comes_back_at_the_close() {
    let mut town = Town::new(SINGLE, 1, 1_000).await;
    town.ride(0, 0).await;
    town.round(31).await;
    town.tamper("UPDATE taps SET withheld = 1").await;
    town.tamper("UPDATE token_taps SET withheld = 1").await;
    town.close().await;
    assert_eq!((town.parts().await.len(), town.balance(0).await), (2, 1_000));
    town.assert_clean().await;
}

#[tokio::test]
async fn a_close_that_has_begun_gets_no_early_part_any_more() {
    let mut town = Town::new(SINGLE, 1, 1_000).await;
    town.ride(0, 0).await;
    town.at(CLOSING);
    crate::risk::run(&town.house.app).await.unwrap();
    let options = CloseOptions { now_ms: i64::MAX, ..CloseOptions::default() };
    let clearing = Clearing::of(&town.house.app).await.unwrap();
    clearing.close_day(day(), options).await.unwrap();
    assert_eq!(run(&town.house.app).await.unwrap(), Authorised::default());
    clearing.deduct_day(day(), DeductOptions::default()).await.unwrap();
    assert_eq!(town.parts().await, ["1 400 deducted"]);
}

/// A cap a day that a second ride reaches.
const CAP: &str = "
[[cap]]
name = \"day\"
period = \"day\"
limit_fen = 700
";

#[tokio::test]
async fn under_any_terms_a_days_total_of_each_token_is_the_same() {
    let tariff = format!("{}{CAP}", house_tariff());
    for seed in 0..3 {
        let mut totals: Vec<Vec<String>> = Vec::new();
        for toml in TERMS {
            let town = Town::after_a_day(toml, &tariff, seed).await;
            let charged = "SELECT lower(hex(token_key)) || ' ' || SUM(amount_fen) FROM charges GROUP BY token_key \
                           HAVING SUM(amount_fen) <> 0 ORDER BY token_key";
            totals.push(town.house.texts(charged).await);
        }
        assert!(!totals[0].is_empty());
        for (total, toml) in totals.iter().zip(TERMS) {
            assert_eq!(total, &totals[0], "{toml}, seed {seed}");
        }
    }
}
