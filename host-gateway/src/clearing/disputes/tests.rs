//! What riders dispute, and what is given back.

use wavepass_fares::TapId;

use super::*;
use crate::clearing::debts;
use crate::clearing::refunds::Refunded;
use crate::clearing::testing::{Mood, World, day, deposit, house_tariff, key, penniless, rides_penniless};
use crate::clearing::tests::{assert_clean, close, day_report, deduct, rides};
use crate::settlement::{Method, settle_day};
use crate::store::testing::{meets_once, tried};
use crate::testing::{House, MORNING};

/// The first dispute of the first journey of token 0.
fn first() -> DisputeId {
    let journey = JourneyId(TapId { key: [1, 2, 3, 4, 5, 6, 7, 8], sequence: 1 });
    DisputeId { token_key: key(0), day: day(), journey, number: 1 }
}

async fn refund(world: &World, id: DisputeId, fen: i64) -> Result<Refunded, DisputeError> {
    let mut tx = world.scratch.begin().await.unwrap();
    let refunded = world.clearing.refund_in(&mut tx, &id, Fen(fen)).await?;
    tx.commit().await.unwrap();
    Ok(refunded)
}

/// Token 0 charged 400 for a ride, out of what it has.
async fn charged(fen: i64) -> World {
    let world = World::new(1, fen).await;
    world.taps(1, &rides(0..1)).await;
    close(&world, false).await;
    deduct(&world).await;
    world
}

async fn settle(world: &World) -> Vec<i64> {
    let settled = settle_day(&world.clearing, day(), &world.clearing.settlement).await.unwrap();
    settled.iter().map(|s| s.deducted_fen.0).collect()
}

#[tokio::test]
async fn a_refund_of_what_was_deducted_is_a_credit_that_refers_to_it() {
    let world = charged(1_000).await;
    assert_eq!(settle(&world).await, [400]);
    let refunded = refund(&world, first(), 150).await.unwrap();
    assert_eq!(refunded, Refunded { part: 2, of_part: 1, amount: Fen(150), credit: true });
    assert_eq!(deduct(&world).await.approved, 1);
    assert_eq!(world.balance(0).await, 750);
    assert_eq!(settle(&world).await, [-150]);
    let report = day_report(&world).await;
    assert_eq!((report.charged_fen, report.deducted_fen, report.owed_fen), (Fen(250), Fen(250), Fen(0)));
    assert_eq!(report.batches.len(), 2);
    // What is left, and no more; nor is it charged again by a late close.
    let second = DisputeId { number: 2, ..first() };
    assert!(matches!(refund(&world, second, 251).await, Err(DisputeError::TooMuch { left: Fen(250), .. })));
    assert_eq!(close(&world, true).await.batch, None);
    refund(&world, second, 250).await.unwrap();
    deduct(&world).await;
    assert_eq!(world.balance(0).await, 1_000);
    assert!(matches!(
        refund(&world, DisputeId { number: 3, ..first() }, 1).await,
        Err(DisputeError::TooMuch { .. })
    ));
    assert_eq!(settle(&world).await, [-250]);
    assert_clean(&world).await;
}

#[tokio::test]
async fn a_refund_of_what_was_not_deducted_is_offset_and_the_debt_is_less() {
    let world = charged(399).await;
    let refunded = refund(&world, first(), 150).await.unwrap();
    assert!(!refunded.credit);
    let report = day_report(&world).await;
    assert_eq!((report.charged_fen, report.owed_fen, report.debts), (Fen(250), Fen(250), 1));
    assert_clean(&world).await;
    assert_eq!(world.clearing.recover_token(key(0)).await.unwrap().approved, 1);
    assert_eq!(world.balance(0).await, 149);
    let report = day_report(&world).await;
    assert_eq!((report.deducted_fen, report.owed_fen, report.deny_list), (Fen(250), Fen(0), 0));
    assert_eq!(settle(&world).await, [250]);
    assert_clean(&world).await;
    // Now it is deducted: what is left is credited.
    let second = refund(&world, DisputeId { number: 2, ..first() }, 250).await.unwrap();
    assert!(second.credit);
    deduct(&world).await;
    assert_eq!((world.balance(0).await, settle(&world).await), (399, vec![-250]));
    assert_clean(&world).await;
}

#[tokio::test]
async fn a_debt_that_is_refunded_whole_leaves_the_deny_list_and_is_not_asked_for() {
    let world = charged(399).await;
    assert_eq!(day_report(&world).await.deny_list, 1);
    refund(&world, first(), 400).await.unwrap();
    let report = day_report(&world).await;
    assert_eq!((report.charged_fen, report.owed_fen, report.debts, report.deny_list), (Fen(0), Fen(0), 0, 0));
    assert_clean(&world).await;
    deposit(&world.scratch.store, "a0", 1_000).await;
    let retry = DeductOptions { retry_declined: true };
    assert_eq!(world.clearing.deduct_day(day(), retry).await.unwrap(), DeductSummary::default());
    assert_eq!(world.balance(0).await, 1_399);
    assert!(settle(&world).await.is_empty());
    assert_clean(&world).await;
}

#[tokio::test]
async fn what_is_left_of_an_offset_debt_is_waived_or_written_off() {
    for lost in [false, true] {
        let world = charged(399).await;
        refund(&world, first(), 150).await.unwrap();
        let mut tx = world.scratch.begin().await.unwrap();
        let (reason, by, at) = ("goodwill", "anna", wavepass_protocol::time::UnixMs(9));
        let ending =
            crate::clearing::debts::Ending { token_key: key(0), day: day(), part: None, reason, by, at };
        let given_up = match lost {
            false => world.clearing.waive_in(&mut tx, ending).await.unwrap().waived_fen,
            true => world.clearing.write_off_in(&mut tx, ending, false).await.unwrap().written_off_fen,
        };
        tx.commit().await.unwrap();
        let report = day_report(&world).await;
        assert_eq!((given_up, report.waived_fen, report.owed_fen), (Fen(250), Fen(250), Fen(0)));
        assert_eq!(report.written_off_fen, Fen(if lost { 250 } else { 0 }));
        assert_clean(&world).await;
        match refund(&world, DisputeId { number: 2, ..first() }, 1).await {
            Err(DisputeError::Waived { .. }) if !lost => {}
            Err(DisputeError::WrittenOff { .. }) if lost => {}
            refused => panic!("{refused:?}"),
        }
    }
}

#[tokio::test]
async fn a_refund_takes_back_by_the_frozen_shares_once_what_it_gives_back_counts() {
    for fen in [10_000, 699] {
        let world = World::new(1, fen).await.shared(Method::PassengerKm);
        world.taps(1, &[(0, 8, 0, "A", 0), (0, 8, 40, "D", 1)]).await;
        close(&world, false).await;
        deduct(&world).await;
        // East 373, west 327 of 700.
        let taken = fen == 10_000;
        assert_eq!(settle(&world).await, if taken { vec![373, 327] } else { Vec::new() });
        refund(&world, first(), 300).await.unwrap();
        assert_clean(&world).await;
        if taken {
            deduct(&world).await;
            assert_eq!(settle(&world).await, [-160, -140]);
        } else {
            assert!(settle(&world).await.is_empty());
            world.clearing.recover_token(key(0)).await.unwrap();
            assert_eq!(settle(&world).await, [213, 187]);
        }
        assert_clean(&world).await;
    }
}

#[tokio::test]
async fn a_charge_without_an_answer_is_not_refunded_yet_nor_a_journey_that_is_not_there() {
    let world = World::new(1, 1_000).await;
    world.taps(1, &rides(0..1)).await;
    let not_closed = refund(&world, first(), 1).await;
    assert!(matches!(not_closed, Err(DisputeError::Clearing(ClearingError::NotClosed { .. }))));
    close(&world, false).await;
    world.line.set(Mood::Mute);
    assert_eq!(deduct(&world).await.in_doubt, 1);
    assert!(matches!(refund(&world, first(), 1).await, Err(DisputeError::Unanswered { .. })));
    world.line.set(Mood::Well);
    deduct(&world).await;
    let journey = JourneyId(TapId { sequence: 7, ..first().journey.0 });
    let other = DisputeId { journey, ..first() };
    assert!(matches!(refund(&world, other, 1).await, Err(DisputeError::NoJourney { .. })));
    world.tamper("UPDATE day_close SET state = 'pricing'").await;
    let busy = refund(&world, first(), 1).await;
    assert!(matches!(busy, Err(DisputeError::Clearing(ClearingError::Busy { .. }))));
    world.tamper("UPDATE day_close SET state = 'sealed'").await;
    assert_clean(&world).await;
}

#[tokio::test]
async fn a_refund_without_its_dispute_is_a_break() {
    let world = charged(1_000).await;
    refund(&world, first(), 150).await.unwrap();
    deduct(&world).await;
    world.tamper("UPDATE refunds SET amount_fen = 151").await;
    let found = crate::reconcile::reconcile_day(&world.clearing, day(), 0).await.unwrap();
    assert_eq!(found.differences.into_iter().collect::<Vec<_>>(), [("refund_differs", 1)]);
}

/// A house whose one rider was charged 900 for half a journey, out of what the account has: the house and the journey.
async fn house(fen: i64) -> (House, (TokenKey, ServiceDay, JourneyId)) {
    let (house, _, account) = penniless("").await;
    let of = closed_day(&house, &account, fen).await;
    (house, of)
}

/// The same in a house whose one rider has tapped: the journey.
async fn closed_day(house: &House, account: &str, fen: i64) -> (TokenKey, ServiceDay, JourneyId) {
    if fen > 0 {
        deposit(&house.app.store, account, fen).await;
    }
    house.app.clock.driven().unwrap().set(UnixMs(MORNING + 24 * 3_600_000)).unwrap();
    crate::clearing::app::close(&house.app, "anna", day(), false, false).await.unwrap();
    let token = house.texts("SELECT lower(hex(token_key)) FROM tokens").await.remove(0);
    let journey = house.texts("SELECT lower(hex(key_id)) || '-' || sequence FROM taps").await.remove(0);
    (TokenKey::from_hex(&token).unwrap(), day(), journey.parse().unwrap())
}

#[tokio::test]
async fn disputes_refunds_and_waivers_that_meet_another_s_work_are_done_again() {
    let house = House::on_postgres().await;
    let (_, account) = rides_penniless(&house, &house_tariff()).await;
    let of = closed_day(&house, &account, 0).await;
    let app = &house.app;
    let arm = async |table| meets_once(&app.store, table).await;
    let was_met = async |table| assert!(tried(&app.store, table).await > 1, "{table}");

    arm("disputes").await;
    let id: DisputeId = open(app, "anna", of, "out of order").await.unwrap().id.parse().unwrap();
    was_met("disputes").await;
    arm("refunds").await;
    arm("debts").await;
    let accepted = accept(app, "bert", &id, Fen(300), "so it was").await.unwrap();
    was_met("refunds").await;
    was_met("debts").await;
    assert_eq!(accepted.dispute.refund_fen, Some(Fen(300)));
    assert_eq!(house.count("SELECT count(*) FROM refunds").await, 1);

    let id: DisputeId = open(app, "anna", of, "all of it").await.unwrap().id.parse().unwrap();
    arm("disputes").await;
    assert_eq!(reject(app, "bert", &id, "no").await.unwrap().state, DisputeState::Rejected);
    was_met("disputes").await;
    arm("debts").await;
    let waived = debts::waive(app, "anna", (of.0, of.1, None), "goodwill").await.unwrap();
    was_met("debts").await;
    assert_eq!(waived.waived_fen, Fen(600));
    arm("audit_log").await;
    assert_eq!(debts::recover(app, "anna", of.0).await.unwrap().owed_fen, Fen::ZERO);
    was_met("audit_log").await;

    let lines = house.texts("SELECT action FROM audit_log WHERE action LIKE 'dispute.%' OR action LIKE 'debt.%' ORDER BY action").await;
    let expected =
        ["debt.recover", "debt.waive", "dispute.accept", "dispute.open", "dispute.open", "dispute.reject"];
    assert_eq!(lines, expected);
    let report = crate::clearing::report(&app.store, None).await.unwrap();
    assert!(report.balances().unwrap(), "{report:?}");
}

#[tokio::test]
async fn two_that_accept_at_once_give_one_refund_and_one_answer() {
    let (house, of) = house(900).await;
    let app = &house.app;
    let id: DisputeId = open(app, "anna", of, "the exit was out of order").await.unwrap().id.parse().unwrap();
    let accept = || accept(app, "bert", &id, Fen(500), "so it was");
    let (one, other) = tokio::join!(accept(), accept());
    assert_eq!(one.unwrap().dispute.refund_fen, Some(Fen(500)));
    assert_eq!(other.unwrap().dispute.refund_fen, Some(Fen(500)));
    assert_eq!(house.count("SELECT count(*) FROM refunds").await, 1);
    assert_eq!(house.count("SELECT balance_fen FROM bank_accounts").await, 500);
    // Decided is decided.
    let again = super::accept(app, "bert", &id, Fen(400), "less").await;
    assert!(matches!(again, Err(DisputeError::Decided { state: DisputeState::Accepted, .. })));
    assert!(matches!(reject(app, "bert", &id, "no").await, Err(DisputeError::Decided { .. })));
    let report = crate::clearing::report(&app.store, None).await.unwrap();
    assert!(report.balances().unwrap());
    assert_eq!((report.deducted_fen, report.charged_fen), (Fen(400), Fen(400)));
}

#[tokio::test]
async fn one_dispute_of_a_journey_is_open_at_a_time_and_after_a_rejection_another() {
    let (house, of) = house(900).await;
    let app = &house.app;
    let id: DisputeId = open(app, "anna", of, "not me").await.unwrap().id.parse().unwrap();
    assert!(matches!(open(app, "anna", of, "not me").await, Err(DisputeError::AlreadyOpen { .. })));
    let rejected = reject(app, "bert", &id, "it was").await.unwrap();
    assert_eq!((rejected.state, rejected.decision.as_deref()), (DisputeState::Rejected, Some("it was")));
    assert_eq!(reject(app, "carl", &id, "again").await.unwrap(), rejected);
    assert!(matches!(accept(app, "bert", &id, Fen(1), "oh").await, Err(DisputeError::Decided { .. })));
    let second = open(app, "anna", of, "really not me").await.unwrap();
    assert!(second.id.ends_with("-2"), "{}", second.id);
    for reason in ["", "card 6217000012345678901"] {
        assert!(matches!(open(app, "anna", of, reason).await, Err(DisputeError::Text(_))));
    }
    let none = DisputeId { number: 9, ..id };
    assert!(matches!(reject(app, "bert", &none, "no").await, Err(DisputeError::NoDispute { .. })));
}

#[tokio::test]
async fn a_debt_that_is_refunded_whole_leaves_the_published_list_at_once() {
    let (house, of) = house(0).await;
    let denied = "SELECT count(*) FROM deny_entries";
    assert_eq!(house.count(denied).await, 1);
    let id: DisputeId = open(&house.app, "anna", of, "out of order").await.unwrap().id.parse().unwrap();
    accept(&house.app, "bert", &id, Fen(900), "it was").await.unwrap();
    assert_eq!(house.count(denied).await, 0);
    assert_eq!(house.texts("SELECT DISTINCT state FROM debts").await, ["waived"]);
}

#[tokio::test]
async fn disputes_are_opened_shown_and_decided_by_command_and_no_number_is_in_the_evidence() {
    let (house, (token, _, journey)) = house(900).await;
    let (token, journey) = (token.to_hex(), journey.to_string());
    let open = ["--day", "2026-11-23", "--journey", &journey, "--reason", "the exit was out of order"];
    let open = house.command(&[&["dispute", "open", "--token-key", &token], &open[..]].concat()).await;
    let open: serde_json::Value = serde_json::from_str(&open).unwrap();
    let id = open["id"].as_str().unwrap();
    assert_eq!(id, format!("{token}-2026-11-23-{journey}-1"));
    let accept = ["dispute", "accept", id, "--fen", "500", "--reason", "so it was"];
    let accepted: serde_json::Value = serde_json::from_str(&house.command(&accept).await).unwrap();
    assert_eq!(
        (&accepted["deduct"]["approved"], &accepted["dispute"]["refund_part"]),
        (&1.into(), &2.into())
    );

    let shown = house.command(&["dispute", "show", id]).await;
    // The rider's card is the first of the tests'.
    assert!(!shown.contains("22021200000001"), "{shown}");
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["dispute"]["last_four"], "0001");
    let tap = &shown["taps"][0];
    for (field, value) in [
        ("gate", 1.into()),
        ("sequence", 1.into()),
        ("station", "A1".into()),
        ("time", "2026-11-23T08:00:00+08:00".into()),
        ("clock", "synchronised".into()),
        ("decision", "open".into()),
        ("oda_method", "ecc".into()),
        ("oda", "passed".into()),
        ("cryptogram", "no_key".into()),
    ] as [(&str, serde_json::Value); 9]
    {
        assert_eq!(tap[field], value, "{field}");
    }
    assert!(tap["ksn_counter"].is_u64());
    assert_eq!(shown["journeys"][0]["charged_fen"], 900);
    let parts: Vec<_> =
        shown["charges"].as_array().unwrap().iter().map(|c| c["amount_fen"].clone()).collect();
    assert_eq!(parts, [900, -500]);
    let answers: Vec<_> =
        shown["attempts"].as_array().unwrap().iter().map(|a| a["statement_fen"].clone()).collect();
    assert_eq!(answers, [900, -500]);
    assert_eq!(shown["ledger"].as_array().unwrap().len(), 8);

    let listed = house.command(&["dispute", "list", "--state", "accepted"]).await;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["disputes"][0]["id"], id);
    assert!(!house.command(&["dispute", "list", "--after", id]).await.contains(&token));
    let lines = house
        .texts("SELECT \"user\" || ' ' || action || ' ' || detail FROM audit_log WHERE action LIKE 'dispute.%' ORDER BY id")
        .await;
    let expected = [
        "anna dispute.open the exit was out of order",
        "anna dispute.accept 500 fen of part 1 as part 2, credited: so it was",
    ];
    assert_eq!(lines, expected);
}
