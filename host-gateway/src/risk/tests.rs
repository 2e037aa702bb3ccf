//! Risk: what counts and what is an alert depends on what was tapped, not on when it arrived.

use super::{LIMITS, Limits, Summary, run, run_within};
use crate::intake::sealer::Sealer;
use crate::keys::TokenKey;
use crate::store::WriteTx;
use crate::store::db::query;
use crate::testing::{Card, House, TapAt, passage};
use proptest::prelude::*;
use std::time::Duration;
use wavepass_protocol::lists::Kind;
use wavepass_protocol::tap::{ClockQuality, Outcome};

const ALERTS: &str = "SELECT kind || ' ' || detail || ' ' || event_ms || ' ' || hex(key_id) || ' ' || sequence \
                      FROM alerts ORDER BY 1";
const WITHHELD: &str = "SELECT hex(key_id) || ' ' || sequence || ' ' || withheld FROM taps ORDER BY 1";
const KINDS: &str = "SELECT kind FROM alerts ORDER BY kind";
const COUNTED: &str = "SELECT count(*) FROM taps WHERE counted = 1";

async fn two_gates(house: &House) -> (Sealer, Sealer) {
    (house.gate(1).await, house.gate(2).await)
}

#[tokio::test]
async fn one_counter_with_different_data_is_a_clone_and_the_later_tap_does_not_count() {
    let house = House::new().await;
    let (mut a, mut b) = two_gates(&house).await;
    let card = Card::new(1);
    let token = house.register(&card).await;
    let thief = TapAt { data: 999, ..card.tap(3_600_000, 5) };
    house.ingest(&[card.tap(0, 5).seal(&mut a), thief.seal(&mut b)]).await;
    let summary = run(&house.app).await.unwrap();
    assert_eq!(summary, Summary { tokens: 1, alerts: 1, changed: 1, denied: 1 });
    assert_eq!((house.texts(KINDS).await, house.count(COUNTED).await), (vec!["clone".into()], 1));
    assert_eq!(
        house
            .count("SELECT count(*) FROM taps WHERE counted = 1 AND atc = 5 AND key_id = x'5750000100000001'")
            .await,
        1
    );
    // The deny list has it, and gates get it with the next publication.
    house.app.publish_lists().await.unwrap();
    assert!(
        house.app.lists.current(Kind::Deny).is_some()
            && house.app.lists.denies(&card.token, Some(card.expiry))
    );
    assert_eq!(house.texts("SELECT cause FROM deny_entries").await, ["clone"]);
    // Nothing is new the second time.
    assert_eq!(run(&house.app).await.unwrap(), Summary::default());
    let _ = token;
}

#[tokio::test]
async fn one_card_s_data_under_two_keys_counts_once_and_raises_an_alert() {
    let house = House::new().await;
    let (mut a, mut b) = two_gates(&house).await;
    let card = Card::new(1);
    house.register(&card).await;
    let tap = card.tap(0, 5);
    house.ingest(&[tap.seal(&mut a), tap.seal(&mut b), tap.seal(&mut a)]).await;
    run(&house.app).await.unwrap();
    assert_eq!((house.texts(KINDS).await, house.count(COUNTED).await), (vec!["resealed".into()], 1));
}

#[tokio::test]
async fn counters_that_run_against_time_tell_of_two_cards() {
    let house = House::new().await;
    let (mut a, mut b) = two_gates(&house).await;
    let (card, honest) = (Card::new(1), Card::new(2));
    house.register(&card).await;
    house.register(&honest).await;
    house.ingest(&[card.tap(0, 50).seal(&mut a), card.tap(600_000, 12).seal(&mut b)]).await;
    // Within what two clocks can differ, the order says nothing.
    let free = TapAt { clock: ClockQuality::Free, ..honest.tap(100_000, 7) };
    house.ingest(&[honest.tap(0, 8).seal(&mut a), free.seal(&mut b)]).await;
    run(&house.app).await.unwrap();
    assert_eq!((house.texts(KINDS).await, house.count(COUNTED).await), (vec!["clone_order".into()], 4));
}

#[tokio::test]
async fn a_late_tap_of_an_earlier_time_is_no_clone() {
    let house = House::new().await;
    let (mut a, mut b) = two_gates(&house).await;
    let card = Card::new(1);
    house.register(&card).await;
    house.ingest(&[card.tap(600_000, 13).seal(&mut b)]).await;
    run(&house.app).await.unwrap();
    house.ingest(&[card.tap(0, 12).seal(&mut a)]).await;
    run(&house.app).await.unwrap();
    assert_eq!(house.texts(KINDS).await, Vec::<String>::new());
}

#[tokio::test]
async fn of_a_token_whose_late_tap_agrees_with_all_before_no_other_tap_is_read() {
    let house = House::new().await;
    let (mut a, mut b) = two_gates(&house).await;
    let card = Card::new(1);
    house.register(&card).await;
    house.ingest(&[card.tap(0, 10).seal(&mut a), card.tap(600_000, 13).seal(&mut b)]).await;
    run(&house.app).await.unwrap();
    // Whoever read it would raise an alarm.
    let mut tx = house.app.store.begin().await.unwrap();
    query("UPDATE token_taps SET atc = 12 WHERE atc = 13").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    house.ingest(&[card.tap(300_000, 12).seal(&mut a)]).await;
    assert_eq!(run(&house.app).await.unwrap(), Summary { tokens: 1, ..Summary::default() });
    // One that does not agree is held against what is there.
    house.ingest(&[card.tap(400_000, 9).seal(&mut a)]).await;
    assert_eq!(run(&house.app).await.unwrap().alerts, 2);
    assert_eq!(house.texts(KINDS).await, ["clone", "clone_order"]);
}

#[tokio::test]
async fn a_refuted_cryptogram_does_not_count() {
    let house = House::new().await;
    let (mut a, _) = two_gates(&house).await;
    // A number of our own bank's range, so that its keys can tell.
    let card = Card {
        token: wavepass_protocol::token::Token::from_digits("6299000112345678").unwrap(),
        ..Card::new(1)
    };
    house.ingest(&[card.tap(0, 1).seal(&mut a)]).await;
    run(&house.app).await.unwrap();
    assert_eq!(house.texts(KINDS).await, ["invalid_cryptogram", "unknown_token"]);
    assert_eq!(house.count(COUNTED).await, 0);
}

#[tokio::test]
async fn a_token_that_nobody_issued_is_kept_and_told_once() {
    let house = House::new().await;
    let (mut a, _) = two_gates(&house).await;
    let card = Card::new(1);
    house.ingest(&[card.tap(0, 1).seal(&mut a)]).await;
    run(&house.app).await.unwrap();
    house.ingest(&[card.tap(60_000, 2).seal(&mut a)]).await;
    run(&house.app).await.unwrap();
    assert_eq!((house.texts(KINDS).await, house.count(COUNTED).await), (vec!["unknown_token".into()], 2));
}

#[tokio::test]
async fn a_clone_of_an_unregistered_card_is_denied_by_the_number_in_its_tap() {
    let house = House::new().await;
    let (mut a, mut b) = two_gates(&house).await;
    let card = Card::new(1);
    house.ingest(&[card.tap(0, 5).seal(&mut a), TapAt { data: 9, ..card.tap(60_000, 5) }.seal(&mut b)]).await;
    assert_eq!(run(&house.app).await.unwrap().denied, 1);
}

/// As after an erasure that came between.
#[tokio::test]
async fn a_clone_whose_number_was_nowhere_is_denied_when_it_taps_again_and_once() {
    let house = House::new().await;
    let (mut a, mut b) = two_gates(&house).await;
    let card = Card::new(1);
    house.ingest(&[card.tap(0, 5).seal(&mut a), TapAt { data: 9, ..card.tap(60_000, 5) }.seal(&mut b)]).await;
    let mut tx = house.app.store.begin().await.unwrap();
    query("UPDATE entries SET sealed = x''").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let summary = run(&house.app).await.unwrap();
    assert_eq!((summary.alerts, summary.denied), (2, 0));
    house.ingest(&[TapAt { data: 8, ..card.tap(120_000, 5) }.seal(&mut b)]).await;
    let summary = run(&house.app).await.unwrap();
    assert_eq!((summary.alerts, summary.denied), (0, 1));
    // Let in again, it stays so.
    let key = house.texts("SELECT hex(token_key) FROM deny_entries").await.remove(0);
    house.command(&["deny", "remove", "--token", &key, "--cause", "clone"]).await;
    house.ingest(&[TapAt { data: 7, ..card.tap(180_000, 5) }.seal(&mut b)]).await;
    let summary = run(&house.app).await.unwrap();
    assert_eq!((summary.alerts, summary.denied), (0, 0));
}

/// As a gateway that knows nothing of what is remembered here leaves it, which erases beside this one.
#[tokio::test]
async fn a_clone_of_a_token_whose_number_the_registry_has_no_more_is_denied_by_the_number_in_its_tap() {
    let house = House::new().await;
    let (mut a, mut b) = two_gates(&house).await;
    let card = Card::new(1);
    house.register(&card).await;
    house.ingest(&[card.tap(0, 5).seal(&mut a)]).await;
    run(&house.app).await.unwrap();
    let mut tx = house.app.store.begin().await.unwrap();
    query("UPDATE tokens SET account_id = '', sealed_token = x''").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    house.ingest(&[TapAt { data: 9, ..card.tap(60_000, 5) }.seal(&mut b)]).await;
    assert_eq!(run(&house.app).await.unwrap().denied, 1);
}

#[tokio::test]
async fn a_copy_is_found_however_far_apart_the_taps_are_that_came_together() {
    let house = House::new().await;
    let (mut a, mut b) = two_gates(&house).await;
    let card = Card::new(1);
    house.register(&card).await;
    let days = |n: u64| n * 86_400_000;
    let thief = TapAt { data: 999, ..card.tap(days(40), 5) };
    house.ingest(&[card.tap(0, 5).seal(&mut a), thief.seal(&mut b)]).await;
    assert_eq!(run(&house.app).await.unwrap().alerts, 1);
    // And against one that was looked at long before.
    let again = TapAt { data: 998, ..card.tap(days(90), 5) };
    house.ingest(&[again.seal(&mut b)]).await;
    run(&house.app).await.unwrap();
    assert_eq!((house.texts(KINDS).await, house.count(COUNTED).await), (vec!["clone".into()], 1));
    assert_eq!(house.count("SELECT count(*) FROM arrivals").await, 0);
}

#[tokio::test]
async fn a_copy_is_found_among_taps_of_a_store_that_did_not_keep_counters() {
    let house = House::new().await;
    let (mut a, mut b) = two_gates(&house).await;
    let card = Card::new(1);
    house.register(&card).await;
    let days = |n: u64| n * 86_400_000;
    house.ingest(&[card.tap(0, 5).seal(&mut a), card.tap(1_000, 6).seal(&mut b)]).await;
    run(&house.app).await.unwrap();
    let mut tx = house.app.store.begin().await.unwrap();
    query("UPDATE risk_states SET atcs = NULL").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    // It goes on, and what it used before is known from its taps.
    house.ingest(&[card.tap(days(40), 8).seal(&mut a)]).await;
    assert_eq!(run(&house.app).await.unwrap().alerts, 0);
    // Two runs, each with its times.
    let runs = "SELECT substr(hex(atcs), 3, 8) || ' ' || substr(hex(atcs), 43, 8) FROM risk_states";
    assert_eq!(house.texts(runs).await, ["00050006 00080008"]);
    let thief = TapAt { data: 999, ..card.tap(days(80), 5) };
    house.ingest(&[thief.seal(&mut b)]).await;
    run(&house.app).await.unwrap();
    assert_eq!((house.texts(KINDS).await, house.count(COUNTED).await), (vec!["clone".into()], 3));
}

#[tokio::test]
async fn a_tap_beside_one_that_shares_its_counter_with_a_distant_one_changes_neither() {
    let house = House::new().await;
    let (mut a, mut b) = two_gates(&house).await;
    let card = Card::new(1);
    house.register(&card).await;
    let days = |n: u64| n * 86_400_000;
    let thief = TapAt { data: 999, ..card.tap(days(40), 5) };
    house.ingest(&[card.tap(0, 5).seal(&mut a), thief.seal(&mut b)]).await;
    run(&house.app).await.unwrap();
    let before = house.texts(WITHHELD).await;
    // Late, near the copy alone, and with a counter of its own.
    house.ingest(&[card.tap(days(40) - 60_000, 4).seal(&mut a)]).await;
    run(&house.app).await.unwrap();
    let after = house.texts(WITHHELD).await;
    assert!(before.iter().all(|line| after.contains(line)), "{before:?} {after:?}");
    assert_eq!(house.count(COUNTED).await, 2);
}

/// Many cards with one tap each at one gate and one at the other, and one copy.
async fn crowd(house: &House) {
    let (mut a, mut b) = two_gates(house).await;
    let cards: Vec<Card> = (1..=20).map(Card::new).collect();
    for card in &cards {
        house.register(card).await;
    }
    let entered: Vec<_> = cards.iter().map(|card| card.tap(0, 5).seal(&mut a)).collect();
    house.ingest(&entered).await;
    let mut left: Vec<_> = cards.iter().map(|card| card.tap(1_800_000, 6).seal(&mut b)).collect();
    left.push(TapAt { data: 999, ..cards[7].tap(3_600_000, 6) }.seal(&mut b));
    house.ingest(&left).await;
}

/// One tap in a transaction, each run of entries read by itself, and all in one pass.
const SMALL: Limits = Limits { taps: 1, rows: 1, ..LIMITS };

async fn findings(house: &House) -> (Vec<String>, Vec<String>, i64, i64) {
    let left = house.count("SELECT count(*) FROM arrivals").await;
    assert_eq!(house.count("SELECT count(*) FROM risk_pass WHERE open = 1").await, 0);
    (house.texts(ALERTS).await, house.texts(WITHHELD).await, house.count(APART).await, left)
}

#[tokio::test]
async fn a_pass_that_is_broken_off_anywhere_is_gone_on_with() {
    let whole = House::new().await;
    crowd(&whole).await;
    assert_eq!(run(&whole.app).await.unwrap().tokens, 20);
    let house = House::new().await;
    crowd(&house).await;
    // Dropped at ever later moments, as a process that ends; each gets a little further, or not.
    let mut broken_off = 0;
    let mut patience = Duration::from_micros(500);
    while tokio::time::timeout(patience, run_within(&house.app, SMALL)).await.is_err() {
        broken_off += 1;
        patience += Duration::from_micros(500);
    }
    assert!(broken_off > 0);
    let found = findings(&house).await;
    assert_eq!(found, findings(&whole).await);
    assert_eq!((found.0.len(), found.2, found.3), (1, 0, 0));
    assert_eq!(run(&house.app).await.unwrap(), Summary::default());
}

#[tokio::test]
async fn two_gateways_in_one_pass_look_at_each_tap_once() {
    let whole = House::new().await;
    crowd(&whole).await;
    run(&whole.app).await.unwrap();
    let house = House::on_postgres().await;
    crowd(&house).await;
    let other = house.beside().await;
    let (one, two) = tokio::join!(run_within(&house.app, SMALL), run_within(&other.app, SMALL));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((one.tokens + two.tokens, one.alerts + two.alerts), (20, 1));
    assert_eq!(findings(&house).await, findings(&whole).await);
}

#[tokio::test]
async fn a_part_of_a_pass_that_fails_ends_no_other() {
    let whole = House::new().await;
    crowd(&whole).await;
    run(&whole.app).await.unwrap();
    let house = House::on_postgres().await;
    crowd(&house).await;
    let tamper = async |text: &'static str| {
        let mut tx = house.app.store.begin().await.unwrap();
        query(text).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    };
    tamper("INSERT INTO risk_states (token_key, atcs) SELECT token_key, x'00' FROM tokens ORDER BY token_key LIMIT 1").await;
    assert!(run_within(&house.app, SMALL).await.unwrap_err().to_string().contains("ATCs"));
    // All that lies beyond the part of the damaged token, which is its first.
    let left = "SELECT count(*) FROM taps AS t WHERE t.opened = 1 AND get_byte(t.token_key, 0) / 32 \
                > (SELECT get_byte(token_key, 0) / 32 FROM risk_states WHERE atcs = x'00') \
                AND NOT EXISTS (SELECT 1 FROM token_taps AS i WHERE i.token_key = t.token_key)";
    assert_eq!(house.count(left).await, 0);
    let entered = house.count("SELECT count(*) FROM token_taps").await;
    assert!(entered > 0 && entered < 40, "{entered}");
    tamper("DELETE FROM risk_states WHERE atcs = x'00'").await;
    run_within(&house.app, SMALL).await.unwrap();
    assert_eq!(findings(&house).await, findings(&whole).await);
}

/// Two cards, looked at together and copied at different gates: what changes of their taps is at `b` for the one whose key is
/// the lower, and at `a` for the other. Gives the two gates.
async fn copies(house: &House) -> (Sealer, Sealer) {
    let (mut a, mut b) = two_gates(house).await;
    let mut cards: [Vec<(TokenKey, Card)>; 8] = Default::default();
    let [low, high] = loop {
        let card = Card::new(1 + cards.iter().map(Vec::len).sum::<usize>() as u32);
        let key = house.register(&card).await;
        let of_part = &mut cards[usize::from(key.0[0] / 32)];
        of_part.push((key, card));
        of_part.sort_unstable_by_key(|(key, _)| *key);
        if let [(_, low), (_, high)] = &of_part[..] {
            break [low.clone(), high.clone()];
        }
    };
    let copy = |card: &Card| TapAt { data: 999, ..card.tap(3_600_000, 5) };
    house.ingest(&[high.tap(0, 5).seal(&mut b), copy(&low).seal(&mut b)]).await;
    house.ingest(&[low.tap(0, 5).seal(&mut a), copy(&high).seal(&mut a)]).await;
    (a, b)
}

/// All four taps of [`copies`] in one transaction of a pass.
const PASS: Limits = Limits { taps: 3, ..LIMITS };

/// Somebody at the database's own prompt, for whom no turn is waited.
async fn stranger(house: &House) -> WriteTx {
    let mut tx = house.app.store.pool().begin().await.unwrap();
    query("SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE").execute(&mut *tx).await.unwrap();
    // Of two that wait for each other, the gateway is refused.
    query("SET LOCAL deadlock_timeout = '60s'").execute(&mut *tx).await.unwrap();
    tx
}

/// Takes hold of the row of a gate's second entry.
async fn hold_second_of(tx: &mut WriteTx, gate: &Sealer) {
    let hold = query("SELECT sequence FROM taps WHERE key_id = ? AND sequence = 2 FOR UPDATE NOWAIT");
    assert_eq!(hold.bind(&gate.key_id.0).scalar::<i64>(&mut **tx).await.unwrap(), 2);
}

/// Waits until somebody waits for a row that another has.
async fn until_one_waits(house: &House) {
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    while house.count(waits).await == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_changes_of_taps_is_written_in_the_order_of_their_places() {
    let house = House::on_postgres().await;
    let (a, b) = copies(&house).await;
    let mut first = stranger(&house).await;
    hold_second_of(&mut first, &a).await;
    let meanwhile = async {
        until_one_waits(&house).await;
        // It waits for the first, and has not touched the second.
        hold_second_of(&mut stranger(&house).await, &b).await;
        drop(first);
    };
    let (done, ()) = tokio::join!(run_within(&house.app, PASS), meanwhile);
    assert_eq!(done.unwrap().changed, 2);
}

#[tokio::test]
async fn a_part_of_a_pass_that_meets_another_s_work_is_done_again() {
    let house = House::on_postgres().await;
    let (a, _) = copies(&house).await;
    let mut other = stranger(&house).await;
    hold_second_of(&mut other, &a).await;
    let meanwhile = async {
        until_one_waits(&house).await;
        // The gateway waits for a row that this one has, and this one now for a row that the gateway has.
        let parts = query("UPDATE risk_pass SET number = number").execute(&mut *other).await.unwrap();
        assert_eq!(parts, 8);
        other.commit().await.unwrap();
    };
    let (done, ()) = tokio::join!(run_within(&house.app, PASS), meanwhile);
    assert_eq!(done.unwrap().changed, 2);
    assert_eq!((house.count(APART).await, house.texts(KINDS).await), (0, vec!["clone".into(); 2]));
}

#[tokio::test]
async fn a_passage_that_comes_after_its_tap_was_looked_at_is_entered_beside_the_token() {
    let house = House::new().await;
    let (mut a, mut b) = two_gates(&house).await;
    let card = Card::new(1);
    house.register(&card).await;
    house.ingest(&[card.tap(0, 5).seal(&mut a)]).await;
    run(&house.app).await.unwrap();
    house.ingest(&[passage(&mut a, 1, Outcome::NotPassed)]).await;
    assert_eq!(house.count("SELECT count(*) FROM token_taps WHERE passage IS NULL").await, 1);
    run(&house.app).await.unwrap();
    assert_eq!(house.count("SELECT passage FROM token_taps").await, 0);
    // One by one, and where risk has not looked at the tap.
    house.ingest(&[card.tap(60_000, 6).seal(&mut b), card.tap(120_000, 7).seal(&mut b)]).await;
    house.ingest(&[passage(&mut b, 1, Outcome::Passed), passage(&mut b, 2, Outcome::Unknown)]).await;
    house.ingest(&[passage(&mut a, 1, Outcome::Passed)]).await;
    run_within(&house.app, Limits { passages: 1, ..LIMITS }).await.unwrap();
    assert_eq!(house.count("SELECT sum(passage * 10 + sequence) FROM token_taps").await, 11 + 11 + 22);
    assert_eq!((house.count("SELECT count(*) FROM late_passages").await, house.count(APART).await), (0, 0));
}

/// Taps of two cards at three gates, with repeated counters, copies and jumps.
fn day() -> impl Strategy<Value = Vec<(u8, u8, u64, u16, u16)>> {
    // Within a day, and some three weeks later.
    let time = prop_oneof![3 => 0u64..48, 1 => 1_000u64..1_010];
    let tap = (0u8..3, 0u8..2, time, 1u16..8, 0u16..3);
    proptest::collection::vec(tap, 1..14)
}

/// What is entered beside tokens is what the taps say.
pub(super) const APART: &str = "SELECT count(*) FROM taps AS t LEFT JOIN token_taps AS i ON i.utc_day = t.time_ms / 86400000 \
     AND i.token_key = t.token_key AND i.time_ms = t.time_ms AND i.key_id = t.key_id AND i.sequence = t.sequence \
     WHERE t.opened = 1 AND NOT (i.withheld = t.withheld AND COALESCE(i.passage, 9) = COALESCE(t.passage, 9) \
     AND i.station = t.station AND i.direction = t.direction AND i.atc = t.atc AND i.clock = t.clock \
     AND i.cryptogram = t.cryptogram AND i.card_digest = t.card_digest AND i.service_day = t.service_day) \
     OR t.opened = 1 AND i.sequence IS NULL";

async fn play(
    taps: &[(u8, u8, u64, u16, u16)],
    order: &[usize],
    pause_after: usize,
    limits: Limits,
) -> (Vec<String>, Vec<String>) {
    let house = House::new().await;
    let mut gates = [house.gate(1).await, house.gate(2).await, house.gate(3).await];
    let cards = [Card::new(1), Card::new(2)];
    house.register(&cards[0]).await;
    house.register(&cards[1]).await;
    // Each gate seals in its own order; batches of the gates arrive in the order given.
    let sealed: Vec<(usize, Vec<u8>)> = taps
        .iter()
        .map(|(gate, card, hour, atc, data)| {
            let gate = usize::from(*gate);
            let tap = TapAt { data: *data, ..cards[usize::from(*card)].tap(hour * 1_800_000, *atc) };
            (gate, tap.seal(&mut gates[gate]))
        })
        .collect();
    for (n, &gate) in order.iter().enumerate() {
        let entries: Vec<_> = sealed.iter().filter(|(g, _)| *g == gate).map(|(_, s)| s.clone()).collect();
        house.ingest(&entries).await;
        if n == pause_after {
            run_within(&house.app, limits).await.unwrap();
        }
    }
    run_within(&house.app, limits).await.unwrap();
    assert_eq!(house.count(APART).await, 0);
    (house.texts(ALERTS).await, house.texts(WITHHELD).await)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn findings_do_not_depend_on_the_order_of_arrival(
        taps in day(),
        order in Just(vec![0usize, 1, 2]).prop_shuffle(),
        pause_after in 0usize..4,
        in_one in 1usize..6,
        pass in 1i64..9,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (expected, found) = runtime.block_on(async {
            let limits = Limits { taps: in_one, pass, ..LIMITS };
            (play(&taps, &[0, 1, 2], 9, LIMITS).await, play(&taps, &order, pause_after, limits).await)
        });
        prop_assert_eq!(expected, found);
    }
}

#[tokio::test]
async fn by_configuration_a_clone_is_an_alert_and_stays_off_the_deny_list() {
    let house = House::with("[risk]\ndeny_clones = false\n").await;
    let (mut a, mut b) = two_gates(&house).await;
    let card = Card::new(1);
    house.register(&card).await;
    let thief = TapAt { data: 999, ..card.tap(3_600_000, 5) };
    house.ingest(&[card.tap(0, 5).seal(&mut a), thief.seal(&mut b)]).await;
    let summary = run(&house.app).await.unwrap();
    assert_eq!(summary, Summary { tokens: 1, alerts: 1, changed: 1, denied: 0 });
    assert_eq!((house.texts(KINDS).await, house.count(COUNTED).await), (vec!["clone".into()], 1));
    assert_eq!(house.count("SELECT count(*) FROM deny_entries").await, 0);
    house.app.publish_lists().await.unwrap();
    assert!(!house.app.lists.denies(&card.token, Some(card.expiry)));
}
