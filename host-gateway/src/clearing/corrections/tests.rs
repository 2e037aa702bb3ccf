//! What riders tell of missing taps.

use super::*;
use crate::clearing::testing::{World, at, correcting_tariff, day, deposit, key, penniless_under};
use crate::clearing::tests::{assert_clean, close, day_report, deduct};
use crate::settlement::Method;
use crate::store::testing::{meets_once, tried};
use crate::testing::MORNING;

/// A tariff's world in which token 0 went in at A four times, and never out.
async fn world() -> World {
    let world = World::new(1, 10_000).await.shared(Method::Nominal);
    world.taps(1, &[8, 12, 16, 20].map(|hour| (0, hour, 0, "A", 0))).await;
    world
}

fn journey(sequence: u32) -> JourneyId {
    JourneyId(TapId { key: [1, 2, 3, 4, 5, 6, 7, 8], sequence })
}

fn told(sequence: u32, station: &str) -> Told<'_> {
    let of = CorrectionId { token_key: key(0), day: day(), journey: journey(sequence) };
    Told { of, station, told_ms: None }
}

async fn correct(world: &World, told: Told<'_>, at_ms: i64) -> Result<Corrected, CorrectionError> {
    let at = UnixMs(u64::try_from(at_ms).unwrap());
    world.clearing.correct(CorrectionsConfig::default(), told, at, "anna").await
}

#[tokio::test]
async fn a_correction_before_the_close_changes_the_price() {
    let world = world().await;
    let corrected = correct(&world, told(1, "D"), at(30, 0)).await.unwrap();
    assert_eq!((corrected.before_fen, corrected.charged_fen, corrected.late), (Fen(900), Fen(700), false));
    close(&world, false).await;
    deduct(&world).await;
    let report = day_report(&world).await;
    assert_eq!((report.charged_fen, report.journeys_by_status["corrected"]), (Fen(700 + 3 * 900), 1));
    assert_clean(&world).await;
}

#[tokio::test]
async fn a_correction_after_the_close_is_a_further_part_at_the_next_late_close() {
    let world = world().await;
    close(&world, false).await;
    deduct(&world).await;
    assert!(correct(&world, told(1, "D"), at(30, 0)).await.unwrap().late);
    let batch = close(&world, true).await.batch.unwrap();
    assert_eq!((batch.charges, batch.total_fen), (1, Fen(-200)));
    assert_eq!(deduct(&world).await.approved, 1);
    assert_eq!(world.balance(0).await, 10_000 - 3_600 + 200);
    assert_clean(&world).await;
    assert_eq!(close(&world, true).await.batch, None);
}

#[tokio::test]
async fn a_correction_that_meets_another_s_work_is_entered_all_the_same() {
    let world = World::on_postgres(1, 10_000).await.shared(Method::Nominal);
    world.taps(1, &[(0, 8, 0, "A", 0)]).await;
    meets_once(&world.scratch.store, "corrections").await;
    assert_eq!(correct(&world, told(1, "D"), at(30, 0)).await.unwrap().charged_fen, Fen(700));
    assert!(tried(&world.scratch.store, "corrections").await > 1);
    assert_eq!(world.one::<i64>("SELECT count(*) FROM corrections").await, 1);
}

#[tokio::test]
async fn what_the_rules_do_not_allow_is_refused_by_name_and_leaves_nothing() {
    let world = world().await;
    let refused = async |told, hours| correct(&world, told, at(hours, 0)).await.unwrap_err();
    assert!(matches!(refused(told(9, "D"), 30).await, CorrectionError::NoJourney { .. }));
    assert!(matches!(refused(told(1, "Z9"), 30).await, CorrectionError::UnknownStation { .. }));
    // Another network, and the station of the tap itself.
    for station in ["X", "A"] {
        assert!(matches!(refused(told(1, station), 30).await, CorrectionError::NotJoined { .. }));
    }
    // Four days and an hour after the tap, and before it.
    for hours in [8 + 97, 7] {
        assert!(matches!(refused(told(1, "D"), hours).await, CorrectionError::TooOld { .. }));
    }
    let late = Told { told_ms: Some(at(10, 1)), ..told(1, "D") };
    assert!(matches!(refused(late, 30).await, CorrectionError::Time { .. }));
    assert_eq!(world.one::<i64>("SELECT count(*) FROM corrections").await, 0);

    let in_time = Told { told_ms: Some(at(8, 40)), ..told(1, "D") };
    correct(&world, in_time, at(30, 0)).await.unwrap();
    assert!(matches!(refused(told(1, "B"), 30).await, CorrectionError::AlreadyCorrected { .. }));
    for sequence in [2, 3] {
        correct(&world, told(sequence, "D"), at(30, 0)).await.unwrap();
    }
    assert!(matches!(refused(told(4, "D"), 30).await, CorrectionError::OverLimit { made: 3, limit: 3, .. }));
    assert_eq!(world.one::<i64>("SELECT count(*) FROM corrections").await, 3);
    assert_eq!(world.one::<i64>("SELECT count(*) FROM audit_log").await, 3);
}

#[tokio::test]
async fn the_configuration_may_allow_less_than_the_tariff_and_a_tariff_without_corrections_allows_none() {
    let world = world().await;
    let config = CorrectionsConfig { max_age_days: 1 };
    let at = UnixMs(u64::try_from(at(33, 0)).unwrap());
    let refused = world.clearing.correct(config, told(1, "D"), at, "anna").await.unwrap_err().to_string();
    assert!(refused.ends_with("could be corrected until 2026-11-24T08:00:00+08:00"), "{refused}");

    let world = World::new(1, 10_000).await;
    world.taps(1, &[(0, 8, 0, "HB", 0)]).await;
    let refused = world.clearing.correct(CorrectionsConfig::default(), told(1, "CH"), at, "anna").await;
    assert!(matches!(refused, Err(CorrectionError::OverLimit { made: 0, limit: 0, .. })), "{refused:?}");
}

#[tokio::test]
async fn other_riders_are_not_touched() {
    let world = World::new(2, 10_000).await.shared(Method::Fixed);
    world.taps(1, &[(0, 8, 0, "A", 0), (1, 8, 1, "A", 0)]).await;
    correct(&world, told(1, "D"), at(30, 0)).await.unwrap();
    // The second tap is another token's.
    assert!(matches!(correct(&world, told(2, "D"), at(30, 0)).await, Err(CorrectionError::NoJourney { .. })));
    close(&world, false).await;
    assert_eq!(day_report(&world).await.charged_fen, Fen(700 + 900));
    assert_clean(&world).await;
}

#[tokio::test]
async fn corrections_are_taken_and_listed_by_command() {
    let (house, _, account) = penniless_under("", &correcting_tariff()).await;
    deposit(&house.app.store, &account, 900).await;
    let token = house.texts("SELECT lower(hex(token_key)) FROM tokens").await.remove(0);
    let journey = house.texts("SELECT lower(hex(key_id)) || '-' || sequence FROM taps").await.remove(0);
    house.app.clock.driven().unwrap().set(UnixMs(MORNING + 24 * 3_600_000)).unwrap();
    let time = "2026-11-23T08:30:00+08:00";
    let add = ["--day", "2026-11-23", "--journey", &journey, "--station", "CH", "--time", time];
    let add = [&["correction", "add", "--token-key", &token], &add[..]].concat();
    let added = house.command(&add).await;
    assert!(added.contains("\"before_fen\": 900") && added.contains("\"charged_fen\": 400"), "{added}");
    house.command(&["close-day", "2026-11-23"]).await;
    let report: serde_json::Value =
        serde_json::from_str(&house.command(&["report", "2026-11-23"]).await).unwrap();
    assert_eq!((&report["charged_fen"], &report["deducted_fen"]), (&400.into(), &400.into()));
    let listed = house.command(&["correction", "list", "--token-key", &token]).await;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let id = format!("{token}-2026-11-23-{journey}");
    assert_eq!(listed["corrections"][0]["id"], *id);
    assert_eq!(listed["corrections"][0]["by"], "anna");
    assert_eq!(id.parse::<CorrectionId>().unwrap().to_string(), id);
    let after = house.command(&["correction", "list", "--after", &id]).await;
    assert!(!after.contains(&token), "{after}");
    let line = house
        .texts("SELECT \"user\" || ' ' || subject || ' ' || detail FROM audit_log WHERE action = 'correction.add'")
        .await;
    assert_eq!(line, [format!("anna {token} 2026-11-23, journey {journey}, at CH")]);
}
