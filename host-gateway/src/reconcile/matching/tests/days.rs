//! A statement of several days.

use serde_json::{Value, json};
use wavepass_protocol::time::UnixMs;

use super::*;
use crate::api::testing::over;
use crate::cli::{Given, parse_store_command, run_store_command};
use crate::testing::MORNING;

/// The three days of [`paid`].
fn weekend() -> Days {
    Days::new(day().previous(), day().next()).unwrap()
}

/// Takes in one statement of several days, when they are over.
async fn taken_for(house: &House, days: Days, lines: &[Theirs]) -> Result<MatchedDays, MatchError> {
    house.app.clock.driven().unwrap().set(UnixMs(MORNING + 3 * 86_400_000)).unwrap();
    take_days(&house.app, "anna", days, &spooled(house, &statement_of(lines))).await
}

#[tokio::test]
async fn each_line_of_a_statement_of_several_days_is_held_against_its_own() {
    let house = paid(2).await;
    let (before, after) = (day().previous(), day().next());
    let lines = [
        right(before, 0),
        right(before.previous(), 0),
        right(before, 1),
        right(day(), 0),
        (name(day(), 1), 90),
        // Booked on the day after.
        (None, -7),
        right(after, 0),
        right(after, 0),
        right(after.next(), 1),
    ];
    let done = taken_for(&house, weekend(), &lines).await.unwrap();
    assert_eq!((done.file_lines, done.already_taken, done.breaks_opened), (9, false, 6));
    let stands = |standing: &Standing| {
        let Standing { service_day, lines, ours_fen, theirs_fen, suspense_fen, balanced, .. } = *standing;
        assert!(balanced && ours_fen == theirs_fen.plus(suspense_fen).unwrap());
        (service_day, lines, suspense_fen)
    };
    let some = Lines::default();
    let expected = [
        // The day before them has no statement yet.
        (before, Lines { matched: 2, cutoff_slip: 1, ..some }, Fen(-100)),
        (day(), Lines { matched: 1, amount_diff: 1, missing_ours: 1, ..some }, Fen(101 - 90 + 7)),
        (
            after,
            Lines { matched: 1, missing_theirs: 1, duplicate: 1, cutoff_slip: 1, ..some },
            Fen(101 - 100 - 101),
        ),
    ];
    assert_eq!(done.days.iter().map(stands).collect::<Vec<_>>(), expected);
    let by_day = "SELECT service_day || ' ' || count(*) FROM breaks GROUP BY service_day ORDER BY 1";
    let number = day().number();
    assert_eq!(
        house.texts(by_day).await,
        [format!("{} 1", number - 1), format!("{number} 2"), format!("{} 3", number + 1)]
    );
    assert_eq!(house.count("SELECT count(*) FROM audit_log WHERE action = 'day.match'").await, 3);

    // The same file again changes nothing; one of its days may still get a statement of its own.
    let again = taken_for(&house, weekend(), &lines).await.unwrap();
    assert_eq!((again.already_taken, &again.days, again.breaks_opened), (true, &done.days, 0));
    let more = taken(&house, after, &[right(after, 1)]).await;
    assert_eq!((more.standing.lines.missing_theirs, more.breaks_ended), (0, 1));
}

#[tokio::test]
async fn one_statement_of_three_days_gives_each_day_what_three_statements_give() {
    for seed in 0..4 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let (apart, together) = (paid(12).await, paid(12).await);
        let (mut all, mut expected) = (Vec::new(), Vec::new());
        for day in weekend().each() {
            let mut lines = Vec::new();
            for n in 0..12 {
                match rng.next_u32() % 6 {
                    0 => {}
                    1 => lines.extend([right(day, n), right(day, n)]),
                    2 => lines.push((name(day, n), 7)),
                    3 => lines.extend([right(day, n), (name(day, n + 500), 3)]),
                    _ => lines.push(right(day, n)),
                }
            }
            expected.push(taken(&apart, day, &lines).await.standing);
            all.extend(lines);
        }
        // In any order, but for the first of each name.
        for at in (1..all.len()).rev() {
            let other = rng.next_u32() as usize % (at + 1);
            if all[at].0 != all[other].0 {
                all.swap(at, other);
            }
        }
        let done = taken_for(&together, weekend(), &all).await.unwrap();
        assert_eq!(done.days, expected, "seed {seed}");
        let kinds = "SELECT service_day || ' ' || kind || ' ' || subject FROM breaks ORDER BY 1";
        assert_eq!(together.texts(kinds).await, apart.texts(kinds).await, "seed {seed}");
    }
}

#[tokio::test]
async fn days_that_cannot_have_one_statement_are_named_and_nothing_is_done() {
    let house = paid(1).await;
    let lines = [right(day(), 0)];
    let wide = Days::new(day().previous(), day().plus(5)).unwrap();
    let refused = taken_for(&house, wide, &lines).await.unwrap_err().to_string();
    assert_eq!(refused, "service day 2026-11-28 is not closed");
    // A day with taps must be closed, one without need not.
    let early = Days::new(day().plus(-3), day()).unwrap();
    let mut tx = house.app.store.begin().await.unwrap();
    let tapped = "INSERT INTO tapped_days (service_day, key_id) VALUES (?, ?)";
    query(tapped).bind(day().number() - 2).bind(vec![1_u8; 8]).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let refused = taken_for(&house, early, &lines).await.unwrap_err().to_string();
    assert_eq!(refused, "service day 2026-11-21 is not closed");
    assert_eq!(house.count("SELECT count(*) FROM taken_files").await, 0);

    taken(&house, day(), &lines).await;
    let refused = taken_for(&house, weekend(), &[right(day(), 0), (None, 1)]).await.unwrap_err().to_string();
    assert!(refused.contains("2026-11-23 has a bank's statement already"), "{refused}");
    let refused = taken_for(&house, Days::new(day().next(), day().next()).unwrap(), &lines).await;
    let refused = refused.unwrap_err().to_string();
    assert_eq!(refused, "this very file was taken in for service day 2026-11-23");
    let refused = house.refusal(&["reconcile", "2026-11-22..2026-11-24"]).await;
    assert_eq!(refused, "several days go with --statement alone");
    assert_eq!(house.count("SELECT count(*) FROM their_lines").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_and_the_request_take_days_and_tell_of_each() {
    let (house, _server, http) = over(paid(1).await).await;
    house.app.clock.driven().unwrap().set(UnixMs(MORNING + 3 * 86_400_000)).unwrap();
    let bytes = statement_of(&weekend().each().map(|day| right(day, 0)).collect::<Vec<_>>());
    let args = ["reconcile", "2026-11-22..2026-11-24", "--statement", "s.xml"].map(str::to_owned);
    let given = Given { text: None, file: Some(spooled(&house, &bytes)) };
    let command = parse_store_command(&args).unwrap();
    let told = run_store_command(command, &house.app, "anna", given).await.unwrap().text;
    let told: Value = serde_json::from_str(&told).unwrap();
    let matched = |told: &Value| -> Vec<(String, u64)> {
        let days = told["days"].as_array().unwrap().iter();
        days.map(|day| {
            (day["service_day"].as_str().unwrap().into(), day["lines"]["matched"].as_u64().unwrap())
        })
        .collect()
    };
    let expected = ["2026-11-22", "2026-11-23", "2026-11-24"].map(|day| (day.to_owned(), 1));
    assert_eq!((matched(&told), told["already_taken"].as_bool()), (expected.to_vec(), Some(false)));

    let body = |last_day: &str| {
        let file = spooled(&house, &bytes).keep().unwrap();
        Some(json!({ "file": file, "first_day": "2026-11-22", "last_day": last_day }))
    };
    let (status, told) = http.admin("POST", "/v1/reconcile/statement", body("2026-11-24")).await;
    assert_eq!(
        (status, matched(&told), told["already_taken"].as_bool()),
        (200, expected.to_vec(), Some(true))
    );
    for (last_day, refused) in [("2026-11-21", (400, "days")), ("2026-11-23", (409, "file_taken"))] {
        let (status, told) = http.admin("POST", "/v1/reconcile/statement", body(last_day)).await;
        assert_eq!((status, told["error"]["code"].as_str().unwrap()), refused, "{told}");
    }
}
