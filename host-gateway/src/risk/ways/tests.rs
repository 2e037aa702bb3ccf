//! Phones that are handed back, and rides that nobody makes.

use super::*;
use crate::clearing::app::publish_tariff;
use crate::clearing::testing::CITY;
use crate::intake::sealer::Sealer;
use crate::keys::TokenKey;
use crate::risk::recent::Recent;
use crate::risk::rules::Rest;
use crate::risk::{LIMITS, Limits, Summary, forget_recent_in, run, run_within};
use crate::store::db::query;
use crate::testing::{Card, House, MORNING, TapAt, passage};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::cell::Cell;
use std::collections::VecDeque;
use wavepass_protocol::dukpt::KeyId;
use wavepass_protocol::tap::{ClockQuality, Direction};

const KINDS: &str = "SELECT kind FROM alerts ORDER BY kind";
const DETAILS: &str = "SELECT kind || ': ' || detail FROM alerts ORDER BY 1";

/// A house in Wavepass City: at one station the same tap again within 20 s is the same, and the airport, `AP`, is 23.6 km from
/// Harbour Bell, `HB`: 424.8 s at 200 km/h.
async fn city(toml: &str) -> (House, Sealer, Sealer) {
    let house = House::with(toml).await;
    publish_tariff(&house.app, "anna", "city.toml", CITY).await.unwrap();
    let (a, b) = (house.gate(1).await, house.gate(2).await);
    (house, a, b)
}

fn at(card: &Card, s: u64, atc: u16, station: &'static str) -> TapAt {
    TapAt { station, ..card.tap(s * 1_000, atc) }
}

#[tokio::test]
async fn two_let_through_at_once_raise_an_alert_whenever_their_taps_come_and_by_policy_deny() {
    for (deny, together) in [(false, true), (true, false)] {
        let (house, mut a, mut b) = city(&format!("[risk]\ndeny_passback = {deny}\n")).await;
        let card = Card::new(1);
        house.register(&card).await;
        let first = at(&card, 100, 5, "HB").seal(&mut a);
        let second = at(&card, 120, 6, "HB").seal(&mut b);
        if together {
            house.ingest(&[first, second]).await;
        } else {
            // The later one first.
            house.ingest(&[second]).await;
            assert_eq!(run(&house.app).await.unwrap().alerts, 0);
            house.ingest(&[first]).await;
        }
        let denied = usize::from(deny);
        assert_eq!(run(&house.app).await.unwrap(), Summary { tokens: 1, alerts: 1, changed: 0, denied });
        assert_eq!(
            house.texts(DETAILS).await,
            ["passback: let through twice the same way at HB on service day number 20780"]
        );
        let causes = house.texts("SELECT cause FROM deny_entries").await;
        assert_eq!(causes, if deny { vec!["passback"] } else { vec![] });
        // It may be let in again, and both taps count: what they cost is the tariff's business.
        assert_eq!(house.count("SELECT count(*) FROM taps WHERE counted = 1").await, 2);
    }
}

#[tokio::test]
async fn whoever_was_let_in_again_stays_so_until_something_new_is_found() {
    let (house, mut a, mut b) = city("[risk]\ndeny_passback = true\n").await;
    let card = Card::new(1);
    let token = house.register(&card).await.to_hex();
    house.ingest(&[at(&card, 100, 5, "HB").seal(&mut a), at(&card, 120, 7, "HB").seal(&mut b)]).await;
    assert_eq!(run(&house.app).await.unwrap(), Summary { tokens: 1, alerts: 1, changed: 0, denied: 1 });
    house.command(&["deny", "remove", "--token", &token, "--cause", "passback"]).await;
    // A late one between them: all three are judged, and what is found was found.
    house.ingest(&[at(&card, 110, 6, "HB").seal(&mut a)]).await;
    assert_eq!(run(&house.app).await.unwrap(), Summary { tokens: 1, ..Summary::default() });
    assert_eq!(house.count("SELECT count(*) FROM deny_entries").await, 0);
    // The next day again.
    let next = |s: u64| s + 86_400;
    house
        .ingest(&[at(&card, next(100), 8, "HB").seal(&mut a), at(&card, next(120), 9, "HB").seal(&mut b)])
        .await;
    assert_eq!(run(&house.app).await.unwrap(), Summary { tokens: 1, alerts: 1, changed: 0, denied: 1 });
    assert_eq!(house.texts("SELECT cause FROM deny_entries").await, ["passback"]);
}

#[tokio::test]
async fn one_rider_at_a_second_gate_or_two_ways_or_too_late_is_no_passback() {
    let (house, mut a, mut b) = city("").await;
    let cards: Vec<Card> = (1..=5).map(Card::new).collect();
    for card in &cards {
        house.register(card).await;
    }
    // Beyond the window.
    house.ingest(&[at(&cards[0], 0, 5, "HB").seal(&mut a), at(&cards[0], 21, 6, "HB").seal(&mut b)]).await;
    // In and out.
    let out = TapAt { direction: Direction::Exit, ..at(&cards[1], 10, 6, "HB") };
    house.ingest(&[at(&cards[1], 0, 5, "HB").seal(&mut a), out.seal(&mut b)]).await;
    // At one gate, which knows its own.
    house.ingest(&[at(&cards[2], 0, 5, "HB").seal(&mut a), at(&cards[2], 10, 6, "HB").seal(&mut a)]).await;
    // At another station.
    house.ingest(&[at(&cards[3], 100, 5, "HB").seal(&mut a), at(&cards[3], 140, 6, "QS").seal(&mut b)]).await;
    // The first barrier closed before the rider went: told before the second tap is looked at.
    house.ingest(&[at(&cards[4], 0, 5, "HB").seal(&mut a)]).await;
    run(&house.app).await.unwrap();
    house.ingest(&[passage(&mut a, 6, Outcome::NotPassed)]).await;
    house.ingest(&[at(&cards[4], 10, 6, "HB").seal(&mut b)]).await;
    run(&house.app).await.unwrap();
    assert_eq!(house.texts(DETAILS).await, Vec::<String>::new());
    assert_eq!(house.count("SELECT passage FROM taps WHERE sequence = 6").await, 0);
}

#[tokio::test]
async fn an_alert_that_another_pair_of_the_day_founds_stays_and_tells_of_that() {
    let (house, mut a, mut b) = city("").await;
    let card = Card::new(1);
    house.register(&card).await;
    let taps = [at(&card, 100, 5, "HB").seal(&mut a), at(&card, 9_000, 7, "HB").seal(&mut a)];
    house.ingest(&taps).await;
    house.ingest(&[at(&card, 110, 6, "HB").seal(&mut b), at(&card, 9_010, 8, "HB").seal(&mut b)]).await;
    run(&house.app).await.unwrap();
    let event = "SELECT event_ms FROM alerts";
    assert_eq!(house.count(event).await, MORNING as i64 + 110_000);
    house.ingest(&[passage(&mut a, 1, Outcome::NotPassed)]).await;
    run(&house.app).await.unwrap();
    assert_eq!(house.count(event).await, MORNING as i64 + 9_010_000);
}

const DENIED: &str = "SELECT cause || ' ' || by FROM deny_entries ORDER BY 1";

#[tokio::test]
async fn nobody_went_and_that_is_told_late_so_the_alert_is_withdrawn_with_the_denial_it_caused() {
    let (house, mut a, mut b) = city("[risk]\ndeny_passback = true\n").await;
    let card = Card::new(1);
    house.register(&card).await;
    house.ingest(&[at(&card, 100, 5, "HB").seal(&mut a), at(&card, 120, 6, "HB").seal(&mut b)]).await;
    run(&house.app).await.unwrap();
    assert_eq!(
        (house.texts(KINDS).await, house.texts(DENIED).await),
        (vec!["passback".into()], vec!["passback risk".into()])
    );
    house.ingest(&[passage(&mut a, 1, Outcome::NotPassed)]).await;
    assert_eq!(run(&house.app).await.unwrap(), Summary::default());
    assert_eq!((house.texts(KINDS).await, house.texts(DENIED).await), (vec![], vec![]));
    let lines = "SELECT \"user\" || ' ' || action || ' ' || detail FROM audit_log WHERE \"user\" = 'risk' ORDER BY id";
    assert_eq!(
        house.texts(lines).await,
        [
            "risk deny.add passback: risk: passback alert",
            "risk alert.withdraw passback: a barrier told late that nobody went",
            "risk deny.remove passback: its passback alert was withdrawn"
        ]
    );
    // A second wave at that gate, and they went after all.
    house.ingest(&[passage(&mut a, 1, Outcome::Passed)]).await;
    assert_eq!(run(&house.app).await.unwrap(), Summary { alerts: 1, denied: 1, ..Summary::default() });
    assert_eq!(
        (house.texts(KINDS).await, house.texts(DENIED).await),
        (vec!["passback".into()], vec!["passback risk".into()])
    );
}

#[tokio::test]
async fn a_denial_that_another_alert_or_a_person_founds_outlives_an_alert_that_is_withdrawn() {
    let (house, mut a, mut b) = city("[risk]\ndeny_passback = true\n").await;
    let card = Card::new(1);
    house.register(&card).await;
    let pair = |s: u64, station| (at(&card, s, s as u16, station), at(&card, s + 10, s as u16 + 1, station));
    for (s, station) in [(100, "HB"), (2_000, "QS"), (4_000, "PG")] {
        let (first, second) = pair(s, station);
        house.ingest(&[first.seal(&mut a), second.seal(&mut b)]).await;
    }
    run(&house.app).await.unwrap();
    assert_eq!(house.texts(KINDS).await, ["passback"; 3]);
    let mut nobody_went = async |of| {
        house.ingest(&[passage(&mut a, of, Outcome::NotPassed)]).await;
        run(&house.app).await.unwrap();
        (house.texts(KINDS).await.len(), house.texts(DENIED).await.len())
    };
    // Two others are open.
    assert_eq!(nobody_went(1).await, (2, 1));
    // The other one was ended, and the token was left denied.
    let at_qs = house.texts("SELECT id FROM alerts WHERE detail LIKE '%QS%'").await.remove(0);
    house.command(&["alert", "end", &at_qs, "--reason", "they were two"]).await;
    assert_eq!(nobody_went(3).await, (1, 1));
    // What a person ended is theirs.
    assert_eq!(nobody_went(2).await, (1, 1));
    // And so is what a person denied.
    let other = Card::new(2);
    let token = house.register(&other).await.to_hex();
    house.command(&["deny", "add", "--token", &token, "--cause", "passback"]).await;
    house.ingest(&[at(&other, 100, 5, "HB").seal(&mut a), at(&other, 110, 6, "HB").seal(&mut b)]).await;
    run(&house.app).await.unwrap();
    assert_eq!(house.texts(KINDS).await.len(), 2);
    let of = a.next_sequence() - 1;
    house.ingest(&[passage(&mut a, of, Outcome::NotPassed)]).await;
    run(&house.app).await.unwrap();
    assert_eq!(house.texts(KINDS).await.len(), 1);
    assert_eq!(house.texts(DENIED).await, ["passback anna", "passback risk"]);
}

#[tokio::test]
async fn stations_too_far_apart_for_the_time_between_raise_an_alert_and_by_policy_deny() {
    for (toml, apart_s, found) in [
        ("", 400, true),
        ("", 425, false),
        // Each of two clocks may be five seconds off.
        ("", 416, false),
        ("[risk]\nsynchronised_ms = 0\n", 416, true),
        ("[risk]\ntravel_kmh = 0\n", 1, false),
        ("[risk]\ntravel_kmh = 100\ndeny_travel = true\n", 800, true),
    ] {
        let (house, mut a, mut b) = city(toml).await;
        let card = Card::new(1);
        house.register(&card).await;
        house.ingest(&[at(&card, 0, 5, "HB").seal(&mut a)]).await;
        run(&house.app).await.unwrap();
        // What comes later is held against what risk knows of before.
        house.ingest(&[at(&card, apart_s, 6, "AP").seal(&mut b)]).await;
        let denied = usize::from(found && toml.contains("deny"));
        let alerts = usize::from(found);
        let expected = Summary { tokens: 1, alerts, changed: 0, denied };
        assert_eq!(run(&house.app).await.unwrap(), expected, "{toml} {apart_s}");
        let kinds = if found { vec!["impossible_travel"] } else { vec![] };
        assert_eq!(house.texts(KINDS).await, kinds, "{toml} {apart_s}");
        let causes = if denied > 0 { vec!["travel"] } else { vec![] };
        assert_eq!(house.texts("SELECT cause FROM deny_entries").await, causes);
    }
}

#[tokio::test]
async fn of_what_tells_no_place_or_time_nothing_is_said() {
    let (house, mut a, mut b) = city("").await;
    let cards: Vec<Card> = (1..=3).map(Card::new).collect();
    for card in &cards {
        house.register(card).await;
    }
    // A station that the tariff lacks.
    house.ingest(&[at(&cards[0], 0, 5, "HB").seal(&mut a), at(&cards[0], 60, 6, "??").seal(&mut b)]).await;
    // A clock that nobody set.
    let unset = TapAt { clock: ClockQuality::Unset, ..at(&cards[1], 60, 6, "AP") };
    house.ingest(&[at(&cards[1], 0, 5, "HB").seal(&mut a), unset.seal(&mut b)]).await;
    // One answer of a card under two keys is one tap, and told as that.
    let one = at(&cards[2], 0, 5, "HB");
    house.ingest(&[one.seal(&mut a), TapAt { station: "AP", ..one }.seal(&mut b)]).await;
    run(&house.app).await.unwrap();
    assert_eq!(house.texts(KINDS).await, ["resealed"]);
}

#[tokio::test]
async fn without_a_tariff_nothing_is_said_and_with_one_that_comes_into_force_something_is() {
    let house = House::new().await;
    let (mut a, mut b) = (house.gate(1).await, house.gate(2).await);
    let card = Card::new(1);
    house.register(&card).await;
    house.ingest(&[at(&card, 0, 5, "HB").seal(&mut a), at(&card, 60, 6, "AP").seal(&mut b)]).await;
    assert_eq!(run(&house.app).await.unwrap().alerts, 0);
    publish_tariff(&house.app, "anna", "city.toml", CITY).await.unwrap();
    house.ingest(&[at(&card, 120, 7, "HB").seal(&mut a)]).await;
    assert_eq!(run(&house.app).await.unwrap().alerts, 1);
    assert_eq!(house.texts(KINDS).await, ["impossible_travel"]);
}

/// As a version before this one leaves it.
#[tokio::test]
async fn of_a_token_whose_newest_taps_are_not_kept_they_are_read() {
    let (house, mut a, mut b) = city("").await;
    let card = Card::new(1);
    house.register(&card).await;
    house.ingest(&[at(&card, 0, 5, "HB").seal(&mut a)]).await;
    run(&house.app).await.unwrap();
    let mut tx = house.app.store.begin().await.unwrap();
    query("UPDATE risk_states SET recent = NULL").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    house.ingest(&[at(&card, 60, 6, "AP").seal(&mut b)]).await;
    assert_eq!(run(&house.app).await.unwrap().alerts, 1);
    let mut tx = house.app.store.begin().await.unwrap();
    query("UPDATE risk_states SET recent = x'01'").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    house.ingest(&[at(&card, 9_000, 7, "AP").seal(&mut b)]).await;
    assert!(run(&house.app).await.unwrap_err().to_string().contains("newest taps"));
}

/// As an older gateway beside this one leaves it, which looked at the second tap.
#[tokio::test]
async fn what_a_gateway_adds_that_knows_nothing_of_newest_taps_is_read() {
    // Before the first tap, or after it.
    for (second_s, atcs) in [(5_000, [3, 4]), (20_000, [7, 8])] {
        let (house, mut a, mut b) = city("").await;
        let card = Card::new(1);
        house.register(&card).await;
        house.ingest(&[at(&card, 10_000, 5, "HB").seal(&mut a)]).await;
        run(&house.app).await.unwrap();
        let recent: Vec<Vec<u8>> =
            query("SELECT recent FROM risk_states").column(house.app.store.pool()).await.unwrap();
        house.ingest(&[at(&card, second_s, atcs[0], "AP").seal(&mut b)]).await;
        run(&house.app).await.unwrap();
        let mut tx = house.app.store.begin().await.unwrap();
        query("UPDATE risk_states SET recent = ?").bind(&recent[0]).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        house.ingest(&[at(&card, second_s + 60, atcs[1], "HB").seal(&mut a)]).await;
        assert_eq!(run(&house.app).await.unwrap().alerts, 1, "{second_s}");
        assert_eq!(house.texts(KINDS).await, ["impossible_travel"]);
    }
}

#[tokio::test]
async fn newest_taps_go_with_their_days_though_a_tap_without_a_clock_came_later() {
    let (house, mut a, _) = city("").await;
    let card = Card::new(1);
    let token = house.register(&card).await;
    house.ingest(&[at(&card, 0, 5, "HB").seal(&mut a)]).await;
    run(&house.app).await.unwrap();
    let day_s = 86_400;
    let unset = |days: u64, atc| TapAt { clock: ClockQuality::Unset, ..at(&card, days * day_s, atc, "HB") };
    house.ingest(&[unset(6, 6).seal(&mut a)]).await;
    run(&house.app).await.unwrap();
    // One tap is kept, and in seven days none.
    let kept = "SELECT (length(recent) - 17) / 17 FROM risk_states WHERE recent IS NOT NULL";
    assert_eq!(house.count(kept).await, 1);
    house.ingest(&[unset(8, 7).seal(&mut a)]).await;
    run(&house.app).await.unwrap();
    let mut tx = house.app.store.begin().await.unwrap();
    let end_ms = (MORNING + 86_400_000) as i64;
    forget_recent_in(&mut tx, &[token].into(), end_ms).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(house.count(kept).await, 0);
}

fn seen(time_ms: i64, station: &str, direction: u8) -> Seen {
    Seen {
        token: TokenKey([7; 16]),
        key_id: KeyId([1; 8]),
        sequence: 1,
        time_ms,
        clock: 2,
        service_day: Some(1),
        atc: None,
        cryptogram: 0,
        digest: None,
        withheld: 0,
        near: true,
        rest: Some(Rest { station: station.into(), direction, passage: None }),
    }
}

/// Stations of the city, and one of another's.
fn station() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("HB"), Just("QS"), Just("AP"), Just("PG"), Just("??")]
}

proptest! {
    /// What is kept of a token never hides a tap that matters: where it says that nothing can contradict the new ones, nothing
    /// does, however its taps were spread over runs.
    #[test]
    fn what_is_kept_hides_nothing(
        taps in prop::collection::vec((0i64..4_000, station(), 0u8..2, 0u64..6), 1..14),
    ) {
        let tariff = Tariff::parse("city", CITY).unwrap();
        let ways = Ways::of(&tariff, 200);
        let mut recent = Recent::none();
        let mut last_ms = None;
        let mut before: Vec<Seen> = Vec::new();
        for run in 0..6 {
            let mut now: Vec<Seen> = taps.iter().filter(|(.., r)| *r == run)
                .map(|(s, station, direction, _)| seen(s * 1_000, station, *direction)).collect();
            now.sort_by_key(|tap| tap.time_ms);
            let pair = |a: &Seen, b: &Seen| {
                let (a, b) = (At::of(a).unwrap(), At::of(b).unwrap());
                let (earlier, later) = (a.min(b), a.max(b));
                later.time_ms - earlier.time_ms <= ways.window_ms() && ways.may_rule_out(earlier, later)
            };
            let all: Vec<&Seen> = before.iter().chain(&now).collect();
            let contradicts = (0..all.len()).any(|j| j >= before.len() && (0..j).any(|i| pair(all[i], all[j])));
            prop_assert!(!contradicts || recent.may_contradict(&now, &ways));
            last_ms = last_ms.max(now.last().map(|tap| tap.time_ms));
            recent.note(&now, last_ms);
            let bytes = recent.to_bytes(run);
            prop_assert_eq!(Recent::from_bytes(&bytes, run, last_ms), Some(recent.clone()));
            // Under another mark, and as an older gateway wrote it.
            let unknown = Some(Recent::unknown(last_ms));
            prop_assert_eq!(Recent::from_bytes(&bytes, run + 1, last_ms), unknown.clone());
            prop_assert_eq!(Recent::from_bytes(&bytes[9..], run, last_ms), unknown);
            before.extend(now);
        }
    }
}

/// A tap: at which gate, of which card, in which 7 seconds, and what the barrier told of it.
type Played = (usize, usize, u64, Vec<Outcome>);

/// Two cards at three gates, each at a station of its own, but for the third, which is at the first's. Each of `turns` says which
/// gate brings its next entry, and whether risk looks then; what is left comes at once. Gives the alerts.
async fn play(taps: &[Played], turns: &[(usize, bool)]) -> Vec<String> {
    let (house, a, b) = city("").await;
    let mut gates = [a, b, house.gate(3).await];
    let cards = [Card::new(1), Card::new(2)];
    for card in &cards {
        house.register(card).await;
    }
    let mut journals = [(); 3].map(|()| VecDeque::new());
    for (gate, card, n, outcomes) in taps {
        let (journal, sealer) = (&mut journals[*gate], &mut gates[*gate]);
        // Counters that rise with time say nothing themselves.
        let tap = at(&cards[*card], *n * 7, 1 + *n as u16, ["HB", "AP", "HB"][*gate]);
        journal.push_back(tap.seal(sealer));
        let of = sealer.next_sequence() - 1;
        journal.extend(outcomes.iter().map(|outcome| passage(sealer, of, *outcome)));
    }
    for (gate, looks) in turns {
        let next: Vec<_> = journals[*gate].pop_front().into_iter().collect();
        house.ingest(&next).await;
        if *looks {
            run_within(&house.app, Limits { taps: 2, passages: 1, ..LIMITS }).await.unwrap();
        }
    }
    house.ingest(&journals.into_iter().flatten().collect::<Vec<_>>()).await;
    run(&house.app).await.unwrap();
    house
        .texts("SELECT kind || ' ' || detail || ' ' || event_ms || ' ' || hex(key_id) || ' ' || sequence FROM alerts ORDER BY 1")
        .await
}

#[test]
fn what_is_found_does_not_depend_on_the_order_of_arrival() {
    let outcome =
        prop_oneof![2 => Just(Outcome::NotPassed), 1 => Just(Outcome::Passed), 1 => Just(Outcome::Unknown)];
    let gate = prop_oneof![3 => Just(0usize), 1 => Just(1), 3 => Just(2)];
    let tap = (gate, prop::collection::vec(outcome, 0..2));
    let taps = prop::collection::btree_map((0usize..2, 0u64..16), tap, 2..14).prop_map(|taps| {
        let played = |((card, n), (gate, outcomes))| (gate, card, n, outcomes);
        taps.into_iter().map(played).collect::<Vec<Played>>()
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let found = [AlertKind::Passback, AlertKind::ImpossibleTravel].map(|kind| (kind.word(), Cell::new(0)));
    let turns = prop::collection::vec((0usize..3, any::<bool>()), 0..40);
    let property = |(taps, turns): (Vec<Played>, Vec<(usize, bool)>)| {
        let (expected, alerts) =
            runtime.block_on(async { (play(&taps, &[]).await, play(&taps, &turns).await) });
        for (kind, count) in &found {
            count.set(count.get() + alerts.iter().filter(|alert| alert.starts_with(kind)).count());
        }
        prop_assert_eq!(expected, alerts);
        Ok(())
    };
    let config = ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config).run(&(taps, turns), property).unwrap();
    assert!(found.iter().all(|(_, count)| count.get() > 0), "{found:?}");
}
