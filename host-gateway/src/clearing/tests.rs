//! Closing and deducting, told as what a day must look like.

use crate::store::db::query;
use std::time::{Duration, Instant};

use wavepass_fares::Fen;

use super::testing::{Mood, TapAt, World, at, day, deposit, key};
use super::*;
use crate::reconcile::reconcile_day;
use crate::settlement::{SettlementConfig, settle_day};
use crate::store::testing::in_the_way;

const RIDE: [(i64, i64, &str, i64); 2] = [(8, 0, "HB", 0), (8, 30, "CH", 1)];

pub(crate) fn rides(tokens: std::ops::Range<u32>) -> Vec<TapAt<'static>> {
    tokens.flat_map(|n| RIDE.map(|(h, m, station, direction)| (n, h, m, station, direction))).collect()
}

pub(crate) async fn close(world: &World, late: bool) -> CloseSummary {
    world.clearing.close_day(day(), World::options(late)).await.unwrap()
}

pub(crate) async fn deduct(world: &World) -> DeductSummary {
    world.clearing.deduct_day(day(), DeductOptions::default()).await.unwrap()
}

pub(crate) async fn day_report(world: &World) -> Report {
    report(&world.scratch.store, Some(day())).await.unwrap()
}

pub(crate) async fn assert_clean(world: &World) {
    let found = reconcile_day(&world.clearing, day(), 0).await.unwrap();
    assert!(found.differences.is_empty(), "{found:?}");
    assert!(day_report(world).await.balances().unwrap());
}

#[tokio::test]
async fn a_day_is_closed_deducted_settled_and_balances() {
    let world = World::new(3, 10_000).await;
    world.taps(1, &[rides(0..2), vec![(2, 9, 0, "HB", 0)]].concat()).await;
    let closed = close(&world, false).await;
    let batch = closed.batch.unwrap();
    assert_eq!((batch.number, batch.charges, batch.total_fen), (1, 3, Fen(400 + 400 + 900)));
    assert_eq!(deduct(&world).await, DeductSummary { approved: 3, declined: 0, in_doubt: 0 });
    let config = SettlementConfig::default();
    let settled = settle_day(&world.clearing, day(), &config).await.unwrap();
    assert_eq!((settled[0].fees_fen, settled[0].settled_fen), (Fen(5), Fen(1_695)));
    assert!(settle_day(&world.clearing, day(), &config).await.unwrap().is_empty());

    let r = day_report(&world).await;
    assert_eq!(
        (r.journeys, r.journeys_by_status["complete"], r.journeys_by_status["incomplete"]),
        (Some(3), 2, 1)
    );
    assert_eq!(
        (r.charged_fen, r.deducted_fen, r.owed_fen, r.ledger_sum_fen),
        (Fen(1_700), Fen(1_700), Fen(0), Fen(0))
    );
    assert_eq!((r.settled_fen, r.fees_fen, r.breaks, r.deny_list), (Fen(1_695), Fen(5), 0, 0));
    assert_eq!((world.balance(0).await, world.balance(2).await), (9_600, 9_100));
    assert_clean(&world).await;
    // The whole and the day are the same, there being one day.
    let everything = report(&world.scratch.store, None).await.unwrap();
    assert_eq!(everything.charged_fen, r.charged_fen);
}

#[tokio::test]
async fn a_day_that_is_not_over_or_not_checked_is_not_closed() {
    let world = World::new(1, 0).await;
    world.taps(1, &rides(0..1)).await;
    // 04:00 plus four hours.
    let early = CloseOptions { now_ms: at(32, 0) - 1, ..CloseOptions::default() };
    let refused = world.clearing.close_day(day(), early).await.unwrap_err();
    assert!(refused.to_string().contains("2026-11-24T08:00:00+08:00"), "{refused}");
    assert!(
        matches!(settle_day(&world.clearing, day(), &SettlementConfig::default()).await.unwrap_err().to_string(), m if m.contains("not closed"))
    );
    world
        .tamper(
            "INSERT INTO arrivals (key_id, from_sequence, upto_sequence, taps, from_ms, upto_ms) SELECT key_id, sequence, sequence, 1, time_ms, time_ms FROM taps WHERE sequence = 1",
        )
        .await;
    let forced = CloseOptions { now_ms: at(4, 0) - 1, force: true, ..CloseOptions::default() };
    let refused = world.clearing.close_day(day(), forced).await;
    assert!(matches!(refused, Err(ClearingError::NotBegun { .. })), "{refused:?}");
    let on_time = CloseOptions { now_ms: at(32, 0), ..CloseOptions::default() };
    let late = world.clearing.close_day(day(), CloseOptions { late: true, ..on_time }).await;
    assert!(matches!(late, Err(ClearingError::NotClosed { .. })), "{late:?}");
    assert!(matches!(world.clearing.close_day(day(), on_time).await, Err(ClearingError::Unchecked { .. })));
    world.tamper("DELETE FROM arrivals").await;
    // A passage that came late.
    world
        .tamper("INSERT INTO late_passages (key_id, of) SELECT key_id, sequence FROM taps WHERE sequence = 1")
        .await;
    assert!(matches!(world.clearing.close_day(day(), on_time).await, Err(ClearingError::Unchecked { .. })));
    world.tamper("DELETE FROM late_passages").await;
    // What came at that time and is no tap of these tokens does not keep them.
    world
        .tamper(
            "INSERT INTO arrivals (key_id, from_sequence, upto_sequence, taps, from_ms, upto_ms) SELECT key_id, sequence + 900, sequence + 900, 1, time_ms, time_ms FROM taps \
             WHERE sequence = 1",
        )
        .await;
    assert_eq!(world.clearing.close_day(day(), on_time).await.unwrap().batch.unwrap().charges, 1);
}

#[tokio::test]
async fn closing_and_deducting_again_changes_nothing() {
    let world = World::new(20, 10_000).await;
    world.taps(1, &rides(0..20)).await;
    close(&world, false).await;
    deduct(&world).await;
    let before = world.books().await;
    let again = close(&world, false).await;
    assert!(again.already_closed);
    assert_eq!(again.batch.unwrap().number, 1);
    assert_eq!(close(&world, true).await.batch, None);
    assert_eq!(deduct(&world).await, DeductSummary::default());
    assert_eq!(world.books().await, before);
}

#[tokio::test]
async fn the_same_taps_in_another_order_of_arrival_give_the_same_books() {
    let taps = [rides(0..40), (0..40).map(|n| (n, 18, 5, "UN", 0)).collect()].concat();
    let mut books = Vec::new();
    for reversed in [false, true] {
        let world = World::new(40, 10_000).await;
        let mut numbered: Vec<(i64, TapAt<'_>)> = (1..).zip(taps.iter().copied()).collect();
        if reversed {
            numbered.reverse();
        }
        for (sequence, tap) in numbered {
            world.taps(sequence, &[tap]).await;
        }
        close(&world, false).await;
        deduct(&world).await;
        books.push(world.books().await);
    }
    assert_eq!(books[0], books[1]);
}

#[tokio::test]
async fn a_decline_is_a_debt_on_the_deny_list_until_it_is_paid() {
    let world = World::new(2, 399).await;
    world.taps(1, &rides(0..2)).await;
    world.tamper("UPDATE bank_accounts SET state = 'frozen' WHERE account_id = 'a1'").await;
    close(&world, false).await;
    assert_eq!(deduct(&world).await.declined, 2);
    let r = day_report(&world).await;
    assert_eq!(
        (r.owed_fen, r.in_doubt_fen, r.deducted_fen, r.debts, r.deny_list),
        (Fen(800), Fen(0), Fen(0), 2, 2)
    );
    assert_eq!(
        world.one::<String>("SELECT min(reason) || ',' || max(reason) FROM debts").await,
        "frozen,no_funds"
    );
    assert_clean(&world).await;
    // Asking again without being told to makes no new attempt.
    assert_eq!(deduct(&world).await, DeductSummary::default());

    world.tamper("UPDATE bank_accounts SET state = 'open'").await;
    deposit(&world.scratch.store, "a0", 1).await;
    let retry = DeductOptions { retry_declined: true };
    let summary = world.clearing.deduct_day(day(), retry).await.unwrap();
    assert_eq!((summary.approved, summary.declined), (1, 1));
    let r = day_report(&world).await;
    assert_eq!((r.owed_fen, r.deducted_fen, r.debts, r.deny_list), (Fen(400), Fen(400), 1, 1));
    assert_eq!(world.balance(0).await, 0);
    assert_clean(&world).await;
}

#[tokio::test]
async fn no_answer_is_in_doubt_and_the_same_attempt_resolves_it() {
    for mood in [Mood::Deaf, Mood::Mute] {
        let world = World::new(3, 10_000).await;
        world.taps(1, &rides(0..3)).await;
        world.tamper("UPDATE bank_accounts SET state = 'frozen' WHERE account_id = 'a2'").await;
        close(&world, false).await;
        world.line.set(mood);
        assert_eq!(deduct(&world).await.in_doubt, 3);
        let r = day_report(&world).await;
        assert_eq!((r.in_doubt_fen, r.owed_fen, r.deducted_fen, r.debts), (Fen(1_200), Fen(0), Fen(0), 0));
        assert!(r.balances().unwrap());
        // Still silent: still in doubt, and still one attempt each.
        assert_eq!(
            world.clearing.deduct_day(day(), DeductOptions { retry_declined: true }).await.unwrap().in_doubt,
            3
        );
        assert_eq!(world.one::<i64>("SELECT count(*) FROM attempts").await, 3);
        world.line.set(Mood::Well);
        assert_eq!(deduct(&world).await, DeductSummary { approved: 2, declined: 1, in_doubt: 0 });
        assert_eq!(world.one::<i64>("SELECT count(*) FROM attempts").await, 3);
        let r = day_report(&world).await;
        assert_eq!((r.in_doubt_fen, r.owed_fen, r.deducted_fen, r.debts), (Fen(0), Fen(400), Fen(800), 1));
        assert_eq!((world.balance(0).await, world.balance(2).await), (9_600, 10_000));
        assert_clean(&world).await;
    }
}

#[tokio::test]
async fn a_token_without_an_account_is_not_asked_for_and_is_told() {
    let world = World::new(1, 1_000).await;
    world.taps(1, &rides(0..2)).await;
    close(&world, false).await;
    assert_eq!(deduct(&world).await, DeductSummary { approved: 1, declined: 1, in_doubt: 0 });
    assert_eq!(
        world.one::<String>("SELECT kind || subject FROM breaks").await,
        format!("unregistered_token{}", World::hex(1))
    );
    assert_eq!(world.one::<i64>("SELECT count(*) FROM bank_answers WHERE account_id = ''").await, 0);
}

#[tokio::test]
async fn late_taps_become_a_further_part_and_a_refund_is_credited() {
    let world = World::new(3, 10_000).await;
    // Token 0 lacks its exit at first; token 1 will turn out to have travelled once more; token 2 is as it is.
    world.taps(1, &[(0, 8, 0, "HB", 0)]).await;
    world.taps(10, &rides(1..3)).await;
    close(&world, false).await;
    deduct(&world).await;
    assert_eq!(world.balance(0).await, 9_100);
    world.taps(20, &[(0, 8, 30, "CH", 1), (1, 9, 0, "UN", 2)]).await;
    // Reconciliation sees the late taps before they are closed.
    let found = reconcile_day(&world.clearing, day(), 0).await.unwrap();
    assert_eq!(found.differences.keys().copied().collect::<Vec<_>>(), ["journey_differs", "journey_missing"]);

    let late = close(&world, true).await.batch.unwrap();
    assert_eq!((late.rank, late.number, late.charges, late.total_fen), (1, 2, 2, Fen(-500 + 200)));
    let first = batch::of_day(world.scratch.pool(), day()).await.unwrap();
    assert_eq!(first[1].previous_hash, first[0].hash);
    assert_eq!(deduct(&world).await.approved, 2);
    assert_eq!(
        [world.balance(0).await, world.balance(1).await, world.balance(2).await],
        [9_600, 9_400, 9_600]
    );
    assert_eq!(world.one::<i64>("SELECT count(*) FROM journeys WHERE superseded_by IS NOT NULL").await, 1);
    assert_eq!(day_report(&world).await.journeys, Some(4));
    // The differences are gone, and their breaks closed.
    let again = reconcile_day(&world.clearing, day(), 1).await.unwrap();
    assert!(again.differences.is_empty(), "{again:?}");
    assert_eq!(again.closed, 2);
    assert_clean(&world).await;
}

#[tokio::test]
async fn missing_taps_of_an_emergency_are_forgiven_however_late_it_is_told() {
    let world = World::new(3, 10_000).await;
    // Token 0 entered before the emergency and never left; token 1 entered long after it; token 2 has both taps.
    world.taps(1, &[(0, 8, 0, "HB", 0), (1, 15, 0, "HB", 0)]).await;
    world.taps(10, &rides(2..3)).await;
    world.emergencies(&[(20, 9, 0, true), (21, 9, 30, false)]).await;
    close(&world, false).await;
    deduct(&world).await;
    let r = day_report(&world).await;
    assert_eq!((r.journeys_by_status["forgiven"], r.journeys_by_status["incomplete"]), (1, 1));
    assert_eq!(r.charged_fen, Fen(900 + 400));
    assert_eq!([world.balance(0).await, world.balance(1).await], [10_000, 9_100]);
    assert_clean(&world).await;

    // Another emergency is told after the close, and its end never.
    world.emergencies(&[(30, 16, 0, true)]).await;
    let found = reconcile_day(&world.clearing, day(), 0).await.unwrap();
    assert_eq!(found.differences.keys().copied().collect::<Vec<_>>(), ["journey_differs"]);
    assert_eq!(close(&world, true).await.batch.unwrap().total_fen, Fen(-900));
    deduct(&world).await;
    assert_eq!(world.balance(1).await, 10_000);
    assert_eq!(day_report(&world).await.journeys_by_status["forgiven"], 2);
    assert_clean(&world).await;
}

#[tokio::test]
async fn an_emergency_reaches_a_day_from_days_before_and_from_the_night_after() {
    for (switches, forgiven) in [
        // From two days before, until the middle of the day.
        (vec![(1, -40, 0, true), (2, 12, 0, false)], 1),
        // From two days before without a told end: it ended with that service day.
        (vec![(1, -40, 0, true)], 0),
        // Begun in the day, ended three days later.
        (vec![(1, 14, 0, true), (2, 90, 0, false)], 1),
        // Begun after the day's end, within the maximum journey time of the last entry.
        (vec![(1, 28, 30, true), (2, 29, 0, false)], 1),
        (vec![(1, 32, 0, true), (2, 33, 0, false)], 0),
    ] {
        let world = World::new(1, 10_000).await;
        let entered = if switches[0].1 < 28 { 10 } else { 27 };
        world.taps(1, &[(0, entered, 0, "HB", 0)]).await;
        world.emergencies(&switches).await;
        close(&world, false).await;
        assert_eq!(day_report(&world).await.journeys_by_status["forgiven"], forgiven, "{switches:?}");
    }
}

#[tokio::test]
async fn a_tap_that_turns_out_not_to_count_is_paid_back() {
    let world = World::new(1, 10_000).await;
    world.taps(1, &rides(0..1)).await;
    close(&world, false).await;
    deduct(&world).await;
    world.tamper("UPDATE taps SET withheld = 1; UPDATE token_taps SET withheld = 1").await;
    assert_eq!(close(&world, true).await.batch.unwrap().total_fen, Fen(-400));
    deduct(&world).await;
    assert_eq!(world.balance(0).await, 10_000);
    assert_eq!(day_report(&world).await.charged_fen, Fen(0));
    assert_clean(&world).await;
}

#[tokio::test]
async fn a_tap_at_a_station_that_no_tariff_has_is_told_and_not_charged() {
    let world = World::new(1, 0).await;
    world.taps(1, &[(0, 8, 0, "XX", 0)]).await;
    assert_eq!(close(&world, false).await.batch.unwrap().charges, 0);
    assert_eq!(world.one::<String>("SELECT kind FROM breaks").await, "unknown_station");
}

#[tokio::test]
async fn the_database_refuses_a_second_open_attempt_of_a_charge() {
    let world = World::new(1, 10_000).await;
    world.taps(1, &rides(0..1)).await;
    close(&world, false).await;
    deduct(&world).await;
    let mut tx = world.scratch.begin().await.unwrap();
    let second = query(
        "INSERT INTO attempts (service_day, token_key, part, attempt_no, account_id, amount_fen, state) \
         VALUES (?, ?, 1, 2, 'a0', 400, 'sent')",
    )
    .bind(day().number())
    .bind(key(0).as_slice().to_vec())
    .execute(&mut *tx)
    .await;
    assert!(second.unwrap_err().as_database_error().unwrap().is_unique_violation());
}

/// A database that is busy with another's work has no say in whether there is money.
#[tokio::test]
async fn a_store_that_is_busy_with_another_s_work_is_a_store_s_error_or_doubt_and_never_a_decline() {
    // The bank's own books, the attempts before they are sent, and their answers.
    let tables =
        [("bank_answers", true), ("attempts", false), ("charges", false), ("ledger_postings", false)];
    for (table, in_doubt) in tables {
        let mut world = World::new(3, 10_000).await;
        world.clearing.deduct_page = 1;
        world.taps(1, &rides(0..3)).await;
        close(&world, false).await;
        let busy = in_the_way(&world.scratch, table).await;
        let met = world.clearing.deduct_day(day(), DeductOptions::default()).await;
        match met {
            // Of a server, the bank alone is in trouble; of a file, all who write to it are.
            Ok(summary) if in_doubt => {
                assert_eq!(summary, DeductSummary { approved: 0, declined: 0, in_doubt: 3 });
            }
            Err(ClearingError::Store(_) | ClearingError::Ledger(_)) => {}
            other => panic!("{table}: {other:?}"),
        }
        assert_eq!(world.one::<i64>("SELECT count(*) FROM attempts WHERE state = 'declined'").await, 0);
        assert_eq!(world.one::<i64>("SELECT count(*) FROM deny_entries").await, 0);
        busy.gone().await;
        assert_eq!(deduct(&world).await, DeductSummary { approved: 3, declined: 0, in_doubt: 0 }, "{table}");
        assert_eq!(world.one::<i64>("SELECT count(*) FROM attempts").await, 3);
        assert_eq!((world.balance(0).await, world.balance(2).await), (9_600, 9_600));
        assert_clean(&world).await;
    }
}

/// Every await of close and deduct is a place where the process may die: here the work is dropped after a while, at
/// first at once and then later and later, and begun again, over a bank whose answers get lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_dies_anywhere_goes_on_and_deducts_everything_once() {
    let mut world = World::new(300, 10_000).await;
    world.taps(1, &rides(0..300)).await;
    world.clearing.deduct_page = 70;
    let mut deaths = 0;
    for step in 0_u64.. {
        let work = async {
            close(&world, false).await;
            deduct(&world).await
        };
        world.line.set([Mood::Well, Mood::Mute, Mood::Deaf][(step % 3) as usize]);
        match tokio::time::timeout(Duration::from_micros(step * step * 40), work).await {
            Ok(_) if step % 3 == 0 => break,
            Ok(_) => {}
            Err(_) => deaths += 1,
        }
        assert!(day_report(&world).await.balances().unwrap());
    }
    world.line.set(Mood::Well);
    close(&world, false).await;
    deduct(&world).await;
    assert!(deaths > 3, "{deaths}");
    for n in [0, 1, 150, 299] {
        assert_eq!(world.balance(n).await, 9_600);
    }
    assert_eq!(world.one::<i64>("SELECT SUM(balance_fen) FROM bank_accounts").await, 300 * 9_600);
    assert_eq!(day_report(&world).await.deducted_fen, Fen(300 * 400));
    assert_clean(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_callers_at_once_deduct_everything_once() {
    let mut world = World::new(500, 10_000).await;
    world.taps(1, &rides(0..500)).await;
    world.clearing.deduct_page = 70;
    close(&world, false).await;
    let ask = || world.clearing.deduct_day(day(), DeductOptions { retry_declined: true });
    let (a, b, c) = tokio::join!(ask(), ask(), ask());
    assert_eq!(a.unwrap().approved + b.unwrap().approved + c.unwrap().approved, 500);
    assert_eq!(world.one::<i64>("SELECT count(*) FROM attempts").await, 500);
    assert_eq!(world.one::<i64>("SELECT SUM(balance_fen) FROM bank_accounts").await, 500 * 9_600);
    assert_clean(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_day_closes_at_a_rate_that_a_city_needs() {
    let tokens = if cfg!(debug_assertions) { 2_000 } else { 40_000 };
    let world = World::new(tokens, 10_000).await;
    world.taps(1, &rides(0..tokens)).await;
    let rate = |begun: Instant| f64::from(tokens) / begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    close(&world, false).await;
    let closed = rate(begun);
    let begun = Instant::now();
    assert_eq!(deduct(&world).await.approved, u64::from(tokens));
    let deducted = rate(begun);
    let begun = Instant::now();
    assert_clean(&world).await;
    eprintln!("close {closed:.0} charges/s, deduct {deducted:.0}/s, reconcile {:.0}/s", rate(begun));
}

#[tokio::test]
async fn a_tariff_is_published_once_checked_and_never_for_closed_days() {
    let world = World::new(1, 10_000).await;
    let day_clock = wavepass_fares::Tariff::parse("t", super::testing::CITY).unwrap().clock;
    let publish = async |text: &str| {
        let now = wavepass_protocol::time::UnixMs(crate::testing::MORNING);
        let publication =
            tariffs::Publication { file: "t.toml", text, day_clock: &day_clock, by: "anna", now };
        let mut tx = world.scratch.store.begin().await.unwrap();
        let done = tariffs::publish_in(&mut tx, publication).await;
        tx.commit().await.unwrap();
        done
    };
    let mut conn = world.scratch.pool().acquire().await.unwrap();
    assert!(matches!(tariffs::load_in(&mut conn).await, Err(ClearingError::NoTariff)));
    publish(super::testing::CITY).await.unwrap();
    assert!(tariffs::load_in(&mut conn).await.unwrap().station("HB").is_some());
    assert!(publish("nonsense").await.unwrap_err().to_string().starts_with("t.toml:1: "));
    world.taps(1, &rides(0..1)).await;
    close(&world, false).await;
    publish(super::testing::CITY).await.unwrap();
    let dearer = super::testing::CITY.replace("base_fen = 200", "base_fen = 300").replace("= 900", "= 1000");
    let refused = publish(&dearer).await.unwrap_err().to_string();
    assert!(refused.starts_with("t.toml: ") && refused.contains("closed days"), "{refused}");
    publish(&dearer.replace("2026-01-01", "2026-11-24")).await.unwrap();
    assert_eq!(world.one::<i64>("SELECT count(*) FROM tariffs").await, 2);
}

/// The city's tariff with a weekly cap of six yuan from Monday on, and children at half price.
const CAPPED: &str = "
[[category]]
name = \"child\"
percent = 50

[[cap]]
name = \"week\"
period = \"week\"
limit_fen = 600
";

fn capped(world: &mut World) {
    let text = format!("{}{CAPPED}", super::testing::CITY);
    world.clearing.tariffs = Arc::new(wavepass_fares::Tariff::parse("t", &text).unwrap().compile().unwrap());
}

#[tokio::test]
async fn a_late_tap_prices_the_closed_days_of_its_week_again() {
    let mut world = World::new(1, 10_000).await;
    capped(&mut world);
    // Four yuan a ride. Monday's comes when two days of its week are closed.
    let ride = |day: i64| RIDE.map(|(h, m, station, direction)| (0, 24 * day + h, m, station, direction));
    world.taps(1, &ride(1)).await;
    world.taps(3, &ride(2)).await;
    let (monday, tuesday, wednesday) = (day(), day().next(), day().next().next());
    for (day, fen) in [(tuesday, 400), (wednesday, 200)] {
        let closed = world.clearing.close_day(day, World::options(false)).await.unwrap();
        assert_eq!(closed.batch.unwrap().total_fen, Fen(fen), "{day}");
    }
    world.taps(5, &ride(0)).await;
    let closed = world.clearing.close_day(monday, World::options(false)).await.unwrap();
    assert_eq!(closed.batch.unwrap().total_fen, Fen(400));
    let again = world.clearing.close_again_after(monday, false).await.unwrap();
    let refunds: Vec<_> =
        again.iter().map(|c| (c.service_day, c.batch.as_ref().unwrap().total_fen)).collect();
    assert_eq!(refunds, [(tuesday, Fen(-200)), (wednesday, Fen(-200))]);
    let nothing = world.clearing.close_again_after(monday, false).await.unwrap();
    assert!(nothing.iter().all(|closed| closed.batch.is_none()), "{nothing:?}");
    for day in [monday, tuesday, wednesday] {
        world.clearing.deduct_day(day, DeductOptions::default()).await.unwrap();
        let found = reconcile_day(&world.clearing, day, 0).await.unwrap();
        assert!(found.differences.is_empty(), "{found:?}");
    }
    assert_eq!(world.balance(0).await, 10_000 - 600);
}

#[tokio::test]
async fn riders_pay_by_their_category() {
    let mut world = World::new(3, 10_000).await;
    capped(&mut world);
    world.tamper("UPDATE tokens SET category = 'child' WHERE account_id = 'a1'").await;
    // A category that the tariff does not name.
    world.tamper("UPDATE tokens SET category = 'senior' WHERE account_id = 'a2'").await;
    world.taps(1, &rides(0..3)).await;
    close(&world, false).await;
    deduct(&world).await;
    let balances = [world.balance(0).await, world.balance(1).await, world.balance(2).await];
    assert_eq!(balances, [9_600, 9_800, 9_600]);
    assert_clean(&world).await;
}
