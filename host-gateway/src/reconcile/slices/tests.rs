//! Slices, stage by stage, and what is planted between the stages.

use super::*;
use crate::clearing::app::close;
use crate::clearing::disputes;
use crate::clearing::rounds::Rounds;
use crate::clearing::testing::{World, at, day, penniless};
use crate::store::db::query_made;
use crate::testing::{Card, House, MORNING, passage};
use wavepass_protocol::tap::Outcome;
use wavepass_protocol::time::UnixMs;

const MINUTE: u64 = 60_000;

fn set(house: &House, minutes: u64) {
    house.app.clock.driven().unwrap().set(UnixMs(MORNING + minutes * MINUTE)).unwrap();
}

async fn change(house: &House, text: &str) {
    let mut tx = house.app.store.begin().await.unwrap();
    for statement in text.split(';') {
        query_made(statement.to_owned()).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
}

async fn round(house: &House) {
    crate::serve::round(&house.app, &Rounds::of(&house.app.config).unwrap()).await;
}

async fn slices_of(house: &House) -> Vec<Slice> {
    super::day(&house.app, "anna", day()).await.unwrap().slices
}

const OPEN: &str = "SELECT kind || ' ' || subject || ' ' || detail FROM breaks WHERE closed_ms IS NULL AND kind LIKE 'slice%'";
const MARKS: &str = "SELECT count(*) FROM open_slices";

#[tokio::test]
async fn a_slice_that_is_over_is_held_once_and_a_late_tap_opens_it_again() {
    let (house, ..) = penniless("").await;
    let mut gate = house.gate(2).await;
    assert_eq!(house.count(MARKS).await, 1);
    set(&house, 10);
    round(&house).await;
    // 08:00 to 08:15 is not over.
    assert_eq!(house.count(MARKS).await, 1);
    set(&house, 16);
    round(&house).await;
    assert_eq!(house.count(MARKS).await, 0);
    house.ingest(&[Card::new(7).tap(3 * MINUTE, 1).seal(&mut gate)]).await;
    assert_eq!(house.count(MARKS).await, 1);
    change(&house, "DELETE FROM entries WHERE key_id = (SELECT key_id FROM open_slices)").await;
    round(&house).await;
    // It is looked at again until it agrees.
    assert_eq!(house.count(MARKS).await, 1);
    let told = "slice_entries 2026-11-23T08:00:00+08:00 1 of 2 taps without the entry they came in";
    assert_eq!(house.texts(OPEN).await, [told]);
}

#[tokio::test]
async fn before_the_close_there_are_taps_and_after_it_every_stage_is_the_next() {
    let (house, ..) = penniless("").await;
    set(&house, 5);
    let running = slices_of(&house).await;
    assert_eq!((running.len(), running[0].over, running[0].taps, running[0].counted), (1, false, 1, 1));
    assert_eq!(running[0].journeys, None);
    set(&house, 24 * 60);
    close(&house.app, "anna", day(), false, false).await.unwrap();
    let closed = slices_of(&house).await;
    let stage = Some(Stage { count: 1, fen: Fen(900) });
    assert_eq!((closed[0].journeys, closed[0].charges, closed[0].postings), (stage, stage, stage));
    assert!(closed[0].over && closed[0].differences.is_empty(), "{closed:?}");
    let shown = house.command(&["reconcile", "2026-11-23", "--slices"]).await;
    assert!(shown.lines().nth(1).unwrap().starts_with("2026-11-23T08:00:00+08:00 "), "{shown}");
    assert!(shown.ends_with("none"), "{shown}");
    let json = house.command(&["reconcile", "2026-11-23", "--slices", "--json"]).await;
    assert!(json.contains("\"slice_minutes\": 15"), "{json}");
}

#[tokio::test]
async fn a_journey_that_was_given_back_is_still_what_its_fare_came_to() {
    let (house, ..) = penniless("").await;
    set(&house, 24 * 60);
    close(&house.app, "anna", day(), false, false).await.unwrap();
    let tap =
        "SELECT lower(hex(first_key)) || '-' || first_sequence || ' ' || lower(hex(token_key)) FROM journeys";
    let texts = house.texts(tap).await;
    let (journey, token) = texts[0].split_once(' ').unwrap();
    let of = (token.parse().unwrap(), day(), journey.parse().unwrap());
    let dispute = disputes::open(&house.app, "anna", of, "the gate was at fault").await.unwrap();
    disputes::accept(&house.app, "anna", &dispute.id.parse().unwrap(), Fen(500), "it was").await.unwrap();
    let stage = Some(Stage { count: 1, fen: Fen(900) });
    let found = slices_of(&house).await;
    assert_eq!((found[0].charges, found[0].postings), (stage, stage), "{found:?}");
    // What is charged beyond what was given back is no fare of these journeys.
    change(&house, "UPDATE journeys SET charged_fen = 399").await;
    assert_eq!(slices_of(&house).await[0].differences.get("slice_charges"), Some(&1));
}

#[tokio::test]
async fn stages_that_disagree_are_breaks_until_they_agree() {
    let planted = [
        ("UPDATE journeys SET token_key = x'00000000000000000000000000000001'", "slice_journeys"),
        ("UPDATE charges SET amount_fen = 899", "slice_charges"),
        ("UPDATE journeys SET charged_fen = 0", "slice_charges"),
        ("UPDATE charges SET amount_fen = 899; UPDATE journeys SET charged_fen = 899", "slice_postings"),
        (
            "DELETE FROM token_taps WHERE sequence = (SELECT min(sequence) FROM taps WHERE opened = 1)",
            "slice_unchecked",
        ),
        ("DELETE FROM entries", "slice_entries"),
    ];
    for (text, kind) in planted {
        let (house, ..) = penniless("").await;
        set(&house, 24 * 60);
        close(&house.app, "anna", day(), false, false).await.unwrap();
        change(&house, text).await;
        let found = slices_of(&house).await;
        assert_eq!(found[0].differences.get(kind), Some(&1), "{text}: {found:?}");
        assert!(house.texts(OPEN).await.iter().any(|line| line.starts_with(kind)), "{text}");
    }
}

#[tokio::test]
async fn a_tap_that_comes_after_the_close_is_in_no_journey_until_it_is_closed_late() {
    let (house, ..) = penniless("").await;
    let mut gate = house.gate(2).await;
    set(&house, 24 * 60);
    close(&house.app, "anna", day(), false, false).await.unwrap();
    house.ingest(&[Card::new(1).tap(4 * 60 * MINUTE, 2).seal(&mut gate)]).await;
    round(&house).await;
    let told = "slice_journeys 2026-11-23T12:00:00+08:00 1 of 1 counted taps are in no journey, \
                or in one although nobody passed";
    assert_eq!(house.texts(OPEN).await, [told]);
    close(&house.app, "anna", day(), false, true).await.unwrap();
    round(&house).await;
    assert_eq!(house.count(MARKS).await, 0);
    assert!(slices_of(&house).await.iter().all(|slice| slice.differences.is_empty()));
    assert!(house.texts(OPEN).await.is_empty());
    let ended = "SELECT end_reason || ' by ' || ended_by FROM breaks WHERE kind = 'slice_journeys'";
    assert_eq!(house.texts(ended).await, ["the stages of the slice agree now by reconciliation"]);
}

#[tokio::test]
async fn that_nobody_passed_is_told_after_the_close_until_it_is_closed_late() {
    let (house, ..) = penniless("").await;
    let mut gate = house.gate(2).await;
    house.ingest(&[Card::new(1).tap(4 * 60 * MINUTE, 2).seal(&mut gate)]).await;
    set(&house, 24 * 60);
    close(&house.app, "anna", day(), false, false).await.unwrap();
    round(&house).await;
    assert_eq!((house.count(MARKS).await, house.texts(OPEN).await.len()), (0, 0));
    house.ingest(&[passage(&mut gate, 1, Outcome::NotPassed)]).await;
    round(&house).await;
    let told = "slice_journeys 2026-11-23T12:00:00+08:00 1 of 1 counted taps are in no journey, \
                or in one although nobody passed";
    assert_eq!(house.texts(OPEN).await, [told]);
    close(&house.app, "anna", day(), false, true).await.unwrap();
    round(&house).await;
    assert_eq!((house.count(MARKS).await, house.texts(OPEN).await.len()), (0, 0));
}

#[tokio::test]
async fn journeys_of_a_slice_are_looked_up_and_not_gone_through() {
    let world = World::on_postgres(2, 0).await;
    let taps: Vec<_> = (0..1_000).map(|n| ((n % 2) as u32, 8, n % 60, "HB", 0)).collect();
    world.taps(1, &taps).await;
    // Of the taps' number the server knows, of the journeys' it does not yet.
    world.tamper("ANALYZE taps").await;
    let explain =
        query_made(format!("EXPLAIN {CARRIED}")).bind(at(8, 0)).bind(at(8, 15)).bind(day().number());
    let plan: Vec<String> = explain.column(world.scratch.pool()).await.unwrap();
    let of_journeys: Vec<&String> = plan.iter().filter(|line| line.contains(" on journeys ")).collect();
    assert_eq!(of_journeys.len(), 2, "{plan:#?}");
    assert!(!of_journeys.iter().any(|line| line.contains("Seq Scan")), "{plan:#?}");
    assert!(!plan.iter().any(|line| line.contains("Join") || line.contains("Nested Loop")), "{plan:#?}");
}
