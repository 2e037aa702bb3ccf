//! Days are deleted whole, the oldest first, with nothing of them open, and what is asked of them since is told so.

use super::*;
use crate::api::testing::over;
use crate::clearing::corrections::{self, CorrectionError, CorrectionId};
use crate::clearing::disputes::{self, DisputeError};
use crate::clearing::rounds::Rounds;
use crate::clearing::tariff_day::difference_on;
use crate::clearing::testing::correcting_tariff;
use crate::clearing::{ClearingError, report};
use crate::keep::Retained;
use crate::keep::retention::{self, Stays};
use crate::reconcile::slices;
use crate::store::db::{query, query_made};
use serde_json::json;
use wavepass_fares::ServiceDay;
use wavepass_fares::price_file::Text;

/// Days 0 to 4 with rides, all closed, seen from the sixth day on; kept for two days.
async fn five_days() -> (City, Vec<Vec<Vec<u8>>>) {
    let mut city = City::new("[retention]\ndays = 2").await;
    let mut sent = Vec::new();
    for days in 0..5 {
        sent.push(city.ride(days).await);
        if days > 0 {
            city.close(days as i64 - 1).await;
        }
    }
    city.at(5);
    city.close(4).await;
    (city, sent)
}

fn days(n: std::ops::Range<i64>) -> Vec<ServiceDay> {
    n.map(|n| day().plus(n)).collect()
}

#[tokio::test]
async fn days_that_are_long_over_are_deleted_and_their_taps_never_count_again() {
    let (mut city, sent) = five_days().await;
    let app = &city.house.app;
    let before = city.dump().await;
    // Today is day 5: days 0 to 2 are old enough, and of them day 2 bears on day 3, whose first journeys may have begun in it.
    let would = retention::plan(app).await.unwrap();
    assert_eq!((would.dry_run, &would.days), (true, &days(0..2)));
    assert_eq!(city.dump().await, before);
    let done = retention::run(app, "ops").await.unwrap();
    assert_eq!((done.dry_run, &done.days, &done.rows), (false, &days(0..2), &would.rows));
    assert_eq!((done.rows["taps"], done.rows["entries"], done.rows["journeys"]), (4, 8, 4));
    assert_eq!(done.stays, Some(Stays { service_day: day().plus(2), why: "needed" }));
    assert_eq!(would.stays, done.stays);

    let after = city.dump().await;
    for table in ["ledger_", "charges ", "batches ", "settlements ", "attempts ", "bank_", "tokens "] {
        let rows = |rows: &[String]| -> Vec<String> {
            rows.iter().filter(|row| row.starts_with(table)).cloned().collect()
        };
        assert_eq!(rows(&after), rows(&before), "{table}");
    }
    assert_eq!(city.house.count("SELECT count(*) FROM taps").await, 6);
    // Where their riders were last is known from taps that stay, and nowhere else.
    assert_eq!(city.house.count("SELECT count(*) FROM risk_states WHERE recent IS NOT NULL").await, 0);
    assert_eq!(city.house.count("SELECT count(*) FROM forgotten_entries").await, 1);
    assert!(verify_batches(app.store.pool(), day()).await.unwrap().is_empty());
    for days in 3..5 {
        city.agrees(days).await;
    }
    let again = retention::run(app, "ops").await.unwrap();
    assert!(again.days.is_empty() && again.rows.is_empty());
    assert_eq!(of(&city.dump().await, &["day.delete"]).len(), 2);

    // Rule 3: all of it comes again, and nothing is new.
    let receipt = app.intake.ingest(sent.concat()).await.unwrap();
    assert_eq!(receipt.count("repeated"), 20);
    assert_eq!(receipt.acknowledged.get(&city.gate.key_id), Some(&20));
    // A tap of a day that is gone, one with an ATC that was used on such a day, and one that is good.
    let [anna, ben] = city.cards.clone();
    let taps = [anna.tap(60_000, 90), anna.tap(5 * DAY_MS, 11), ben.tap(5 * DAY_MS, 91)];
    let taps = taps.map(|tap| tap.seal(&mut city.gate));
    assert_eq!(city.house.ingest(&taps).await, ["accepted"; 3]);
    let counted = "SELECT CAST(counted AS TEXT) FROM taps WHERE sequence > 20 ORDER BY sequence";
    assert_eq!(city.house.texts(counted).await, ["0", "0", "1"]);
    let breaks = city.house.texts("SELECT kind FROM breaks ORDER BY kind").await;
    assert_eq!(breaks, ["deleted_day", "forgotten_atc"]);
    // A counter of a deleted entry seals no other.
    let repeat = ben.tap(5 * DAY_MS, 92).with_entry(|entry| city.gate.seal_as(24, 1, entry).unwrap());
    assert_eq!(city.house.ingest(&[repeat]).await, ["set_aside"]);
}

/// The partitions of the days of [`five_days`], by day of the month, each with its taps.
async fn partitions(city: &City) -> Vec<(i64, i64)> {
    let names = "SELECT CAST(CAST(inhrelid AS regclass) AS TEXT) FROM pg_inherits \
                 WHERE inhparent = CAST('token_taps' AS regclass) ORDER BY 1";
    let mut found = Vec::new();
    for name in city.house.texts(names).await {
        if let Some(day) = name.strip_prefix("token_taps_2026_11_") {
            let taps = query_made(format!("SELECT count(*) FROM {name}"));
            found.push((day.parse().unwrap(), taps.scalar(city.house.app.store.pool()).await.unwrap()));
        }
    }
    found.retain(|(day, _)| (23..28).contains(day));
    found
}

#[tokio::test]
async fn the_taps_beside_tokens_of_a_deleted_day_go_with_their_partition_and_those_of_others_stay() {
    let (city, _) = five_days().await;
    let apart = city.house.app.store.is_shared();
    let by_day = "SELECT count(*) FROM token_taps WHERE service_day = 20780";
    assert_eq!(city.house.count(by_day).await, 2);
    if apart {
        assert_eq!(partitions(&city).await, [(23, 2), (24, 2), (25, 2), (26, 2), (27, 2)]);
    }
    retention::run(&city.house.app, "ops").await.unwrap();
    assert_eq!(city.house.count(by_day).await, 0);
    assert_eq!(city.house.count("SELECT count(*) FROM token_taps").await, 6);
    if apart {
        assert_eq!(partitions(&city).await, [(25, 2), (26, 2), (27, 2)]);
        // Nor is one made again of a day that is deleted.
        city.at(6);
        crate::risk::run(&city.house.app).await.unwrap();
        assert_eq!(partitions(&city).await, [(25, 2), (26, 2), (27, 2)]);
    }
}

#[tokio::test]
async fn a_partition_that_somebody_has_hold_of_is_emptied_by_rows_and_dropped_with_the_next_day() {
    let (mut city, _) = five_days().await;
    if !city.house.app.store.is_shared() {
        assert_eq!(city.house.count("SELECT count(*) FROM token_taps").await, 10);
        return;
    }
    let mut copy = city.house.app.store.pool().begin().await.unwrap();
    query("SELECT count(*) FROM token_taps").scalar::<i64>(&mut *copy).await.unwrap();
    assert_eq!(retention::run(&city.house.app, "ops").await.unwrap().days, days(0..2));
    assert_eq!(partitions(&city).await, [(23, 0), (24, 0), (25, 2), (26, 2), (27, 2)]);
    drop(copy);
    city.ride(5).await;
    city.at(6);
    city.close(5).await;
    assert_eq!(retention::run(&city.house.app, "ops").await.unwrap().days, days(2..3));
    assert_eq!(partitions(&city).await, [(26, 2), (27, 2)]);
}

#[tokio::test]
async fn a_tap_of_today_with_a_clock_of_long_ago_takes_no_passage_of_today_with_it() {
    let (mut city, _) = five_days().await;
    let [anna, ben] = city.cards.clone();
    let today = anna.tap(5 * DAY_MS, 91).seal(&mut city.gate);
    // One that is damaged on its way, with its passage.
    let mut damaged = ben.tap(5 * DAY_MS, 92).seal(&mut city.gate);
    damaged[30] ^= 1;
    let waits = passage(&mut city.gate, 22, Outcome::Passed);
    let long_ago = ben.tap(60_000, 93).seal(&mut city.gate);
    let sent = [today, damaged, waits, long_ago];
    let words = city.house.ingest_over_link(&city.gate, &sent).await;
    assert_eq!(words, ["accepted", "set_aside", "accepted", "accepted"]);
    let app = &city.house.app;
    crate::risk::run(app).await.unwrap();
    let late = passage(&mut city.gate, 21, Outcome::NotPassed);
    assert_eq!(city.house.ingest(&[late]).await, ["accepted"]);
    // And two of the day that is deleted.
    city.write(query("INSERT INTO late_passages (key_id, of) SELECT key_id, 1 FROM watermarks")).await;
    let text = "INSERT INTO passages_waiting (key_id, of, outcome) SELECT key_id, 3, 1 FROM watermarks";
    city.write(query(text)).await;

    assert_eq!(retention::run(app, "ops").await.unwrap().days, days(0..2));
    let left = "SELECT 'late ' || of FROM late_passages UNION SELECT 'waits ' || of FROM passages_waiting ORDER BY 1";
    assert_eq!(city.house.texts(left).await, ["late 21", "waits 22"]);
    crate::risk::run(app).await.unwrap();
    assert_eq!(city.house.count("SELECT passage FROM token_taps WHERE sequence = 21").await, 0);
}

#[tokio::test]
async fn what_would_price_a_day_that_is_gone_is_refused_by_name() {
    let (city, _) = five_days().await;
    let app = &city.house.app;
    let before = report(&app.store, Some(day())).await.unwrap();
    assert_eq!((before.deleted_upto, before.taps_opened, before.journeys), (None, Some(2), Some(2)));
    let of = CorrectionId { token_key: city.keys[1], day: day(), journey: city.journey(3) };
    retention::run(app, "ops").await.unwrap();
    let late = close(app, "ops", day(), false, true).await;
    assert!(matches!(late, Err(ClearingError::Deleted { .. })));
    assert_eq!(city.house.count("SELECT count(*) FROM day_close WHERE state = 'pricing'").await, 0);
    assert!(matches!(reconcile(app, "ops", day()).await, Err(ClearingError::Deleted { .. })));
    let dearer =
        house_tariff().replace("wavepass-city-1", "wavepass-city-2").replace("2026-01-01", "2027-01-01");
    let tried = difference_on(app, day(), Text { file: "new.toml", text: &dearer }).await;
    assert!(matches!(tried, Err(ClearingError::Deleted { .. })));
    let told = corrections::Told { of, station: "HB", told_ms: None };
    let told = corrections::add(app, "ops", told).await;
    assert!(matches!(told, Err(CorrectionError::Clearing(ClearingError::Deleted { .. }))));
    let disputed = disputes::open(app, "ops", (of.token_key, of.day, of.journey), "no").await;
    assert!(matches!(disputed, Err(DisputeError::Clearing(ClearingError::Deleted { .. }))));
    // It is closed, and that may be said; every day that is not old enough may be closed late, and one that stays because it
    // is needed may not: of the day before it, nothing is known any more.
    assert!(close(app, "ops", day(), false, false).await.unwrap().close.already_closed);
    let needed = close(app, "ops", day().plus(2), false, true).await;
    assert!(matches!(needed, Err(ClearingError::Deleted { .. })));
    close(app, "ops", day().plus(3), false, true).await.unwrap();

    // Slices are held where every tap is there.
    for days in [0, 1, 2] {
        let held = slices::day(app, "ops", day().plus(days)).await;
        assert!(matches!(held, Err(ClearingError::Deleted { .. })), "{days}: {held:?}");
    }
    assert_eq!(city.house.count("SELECT count(*) FROM audit_log WHERE action = 'day.slices'").await, 0);
    assert_eq!(slices::day(app, "ops", day().plus(3)).await.unwrap().slices.len(), 1);

    // A report has the day's money, and says of its taps and journeys that they are deleted.
    let now = report(&app.store, Some(day())).await.unwrap();
    assert_eq!((now.deleted_upto, now.taps_opened, now.taps_counted), (Some(day().plus(1)), None, None));
    assert_eq!((now.journeys, now.journeys_by_status.len()), (None, 0));
    assert_eq!((now.charged_fen, now.deducted_fen), (before.charged_fen, before.deducted_fen));
    assert!(now.balances().unwrap() && now.charged_fen > wavepass_fares::Fen::ZERO);
    let kept = report(&app.store, Some(day().plus(2))).await.unwrap();
    assert_eq!((kept.deleted_upto, kept.taps_opened), (None, Some(2)));
    let everything = report(&app.store, None).await.unwrap();
    assert_eq!((everything.deleted_upto, everything.taps_opened), (Some(day().plus(1)), Some(6)));
    let shown = city.house.command(&["report", "2026-11-23"]).await;
    assert!(shown.contains("\"deleted_upto\": \"2026-11-24\"") && shown.contains("\"taps_opened\": null"));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_a_retention_that_is_off_says_so() {
    let (_house, _server, http) = over(House::new().await).await;
    for dry_run in [true, false] {
        let (status, answer) = http.admin("POST", "/v1/retention", Some(json!({ "dry_run": dry_run }))).await;
        let off = json!({ "dry_run": dry_run, "off": true, "days": [], "rows": {}, "stays": null });
        assert_eq!((status, answer), (200, off));
    }
}

#[tokio::test]
async fn a_day_with_anything_open_stays_and_so_do_those_after_it() {
    let (city, _) = five_days().await;
    let key = city.keys[0].as_slice().to_vec();
    let stays = async |why| {
        let would = retention::plan(&city.house.app).await.unwrap();
        assert_eq!((would.days, would.stays), (days(0..1), Some(Stays { service_day: day().plus(1), why })));
    };
    for (why, open, ended) in [
        (
            "breaks_open",
            "INSERT INTO breaks (id, kind, subject, service_day, detail, opened_ms) VALUES ('b', 'k', 's', 20781, 'd', 0)",
            "UPDATE breaks SET closed_ms = 1",
        ),
        (
            "debts_open",
            "INSERT INTO debts (token_key, service_day, part, amount_fen, reason, state) VALUES (?, 20781, 1, 1, 'r', 'open')",
            "DELETE FROM debts",
        ),
        (
            "charges_unfinished",
            "UPDATE charges SET state = 'in_doubt' WHERE service_day = 20781 AND token_key = ?",
            "UPDATE charges SET state = 'deducted'",
        ),
        (
            "holds_standing",
            "INSERT INTO holds (token_key, number, service_day, account_id, amount_fen, state, asked_ms, expires_ms) \
             VALUES (?, 1, 20781, 'a', 1, 'active', 0, 0)",
            "DELETE FROM holds",
        ),
        (
            "unchecked_taps",
            "INSERT INTO arrivals (key_id, from_sequence, upto_sequence, taps, from_ms, upto_ms) \
             SELECT key_id, sequence, sequence, 1, time_ms, time_ms FROM taps WHERE service_day = 20781 AND token_key = ?",
            "DELETE FROM arrivals",
        ),
        (
            "not_closed",
            "UPDATE day_close SET state = 'pricing' WHERE service_day = 20781",
            "UPDATE day_close SET state = 'sealed'",
        ),
    ] {
        let opened = query(open);
        city.write(if open.contains('?') { opened.bind(&key) } else { opened }).await;
        stays(why).await;
        city.write(query(ended)).await;
    }
    let app = &city.house.app;
    let of = (city.keys[0], day().plus(1), city.journey(5));
    let dispute = disputes::open(app, "ops", of, "the gate was at fault").await.unwrap();
    stays("disputes_open").await;
    disputes::reject(app, "ops", &dispute.id.parse().unwrap(), "it was not").await.unwrap();
    assert_eq!(retention::plan(app).await.unwrap().days, days(0..2));
}

#[tokio::test]
async fn a_day_that_is_not_settled_or_not_closed_stays() {
    let mut city = City::new("[retention]\ndays = 1").await;
    for n in 0..3 {
        city.ride(n).await;
    }
    city.at(6);
    let app = &city.house.app;
    let stays = async |service_day, why| {
        let would = retention::plan(app).await.unwrap();
        assert_eq!((would.days.len(), would.stays), (0, Some(Stays { service_day, why })));
    };
    // Day 0 may be priced with what came on it only; it is not closed itself.
    stays(day(), "not_closed").await;
    close(app, "ops", day(), false, false).await.unwrap();
    // Day 1 is not closed, and a journey of it may have begun on day 0.
    stays(day(), "needed").await;
    close(app, "ops", day().plus(1), false, false).await.unwrap();
    close(app, "ops", day().plus(2), false, false).await.unwrap();
    stays(day(), "not_settled").await;
}

#[tokio::test]
async fn days_that_a_month_is_counted_over_stay_until_the_next_month_does_without_them() {
    let mut city = City::under("[retention]\ndays = 2", correcting_tariff()).await;
    city.ride(0).await;
    city.at(1);
    city.close(0).await;
    // 30 November: its corrections are counted from 1 November on.
    city.at(7);
    let would = retention::plan(&city.house.app).await.unwrap();
    assert_eq!((would.days, would.stays), (days(0..0), Some(Stays { service_day: day(), why: "needed" })));
    // 4 December: no day before 2 December is needed any more, nor 30 November but for journeys over its end.
    city.at(11);
    assert_eq!(retention::run(&city.house.app, "ops").await.unwrap().days, days(0..1));
}

#[tokio::test]
async fn a_day_whose_deletion_was_killed_is_gone_on_with_and_the_rounds_delete_one_at_a_time() {
    let (city, _) = five_days().await;
    // As a process leaves it that died after it had begun and had deleted one tap.
    city.write(query("INSERT INTO deleted_days (service_day, state) VALUES (20780, 'deleting')")).await;
    for text in [
        "INSERT INTO forgotten_entries (key_id, from_sequence, upto_sequence, from_counter, upto_counter) \
         SELECT key_id, 1, 1, counter, counter FROM entries WHERE sequence = 1",
        "DELETE FROM entries WHERE sequence = 1",
        "DELETE FROM taps WHERE sequence = 1",
    ] {
        city.write(query(text)).await;
    }
    let City { house, gate, cards, keys } = city;
    let toml = "[retention]\ndays = 2";
    let house = house.restart_with(toml, UnixMs(MORNING + 5 * DAY_MS)).await;
    let city = City { house, gate, cards, keys };
    let rounds = Rounds::of(&city.house.app.config).unwrap();
    let gone = "SELECT count(*) FROM deleted_days WHERE state = 'deleted'";
    rounds.run(&city.house.app).await.unwrap();
    assert_eq!(city.house.count(gone).await, 1);
    assert_eq!(city.house.count("SELECT count(*) FROM taps WHERE service_day = 20780").await, 0);
    assert_eq!(city.house.count("SELECT count(*) FROM entries WHERE sequence <= 4").await, 0);
    rounds.run(&city.house.app).await.unwrap();
    assert_eq!(city.house.count(gone).await, 2);
    assert_eq!(city.house.count("SELECT count(*) FROM forgotten_entries").await, 1);
}

#[tokio::test]
async fn nothing_is_deleted_while_a_pass_of_risk_may_bring_it_back() {
    let (city, _) = five_days().await;
    let app = &city.house.app;
    let pass = "INSERT INTO risk_pass (shard, number, cursor, until, open) VALUES (0, 9, x'', x'ff', 1)";
    city.write(query(pass)).await;
    let waits = Some(Stays { service_day: day(), why: "unchecked_taps" });
    for begun in [false, true] {
        if begun {
            city.write(query("INSERT INTO deleted_days (service_day, state) VALUES (20780, 'deleting')"))
                .await;
        }
        for found in [retention::plan(app).await.unwrap(), retention::run(app, "ops").await.unwrap()] {
            assert_eq!((found.days, &found.stays), (days(0..0), &waits));
        }
        assert_eq!(city.house.count("SELECT count(*) FROM taps").await, 10);
    }
    city.write(query("UPDATE risk_pass SET open = 0")).await;
    assert_eq!(retention::run(app, "ops").await.unwrap().days, days(0..2));
    assert_eq!(city.house.count("SELECT count(*) FROM token_taps").await, 6);
}

#[tokio::test]
async fn without_a_limit_everything_is_kept() {
    let mut city = City::new("").await;
    city.ride(0).await;
    city.at(1);
    city.close(0).await;
    city.at(4_000);
    let off = Retained { off: true, ..Retained::default() };
    assert_eq!(retention::run(&city.house.app, "ops").await.unwrap(), off);
    for (command, dry_run) in [(&["retention"][..], false), (&["retention", "--dry-run"], true)] {
        let said = city.house.output(command).await.unwrap();
        assert_eq!(
            said.warnings,
            ["retention is off: `[retention] days` is 0, and every day is kept for ever"]
        );
        assert!(said.text.contains("\"off\": true"), "{}", said.text);
        assert!(said.text.contains(&format!("\"dry_run\": {dry_run}")), "{}", said.text);
    }
    Rounds::of(&city.house.app.config).unwrap().run(&city.house.app).await.unwrap();
    assert_eq!(city.house.count("SELECT count(*) FROM taps").await, 2);
}
