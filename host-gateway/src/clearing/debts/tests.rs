//! What becomes of a debt.

mod write_off;

use super::*;
use crate::clearing::app;
use crate::clearing::testing::{Mood, World, day, deposit, key, penniless};
use crate::clearing::tests::{assert_clean, close, day_report, deduct, rides};
use crate::clearing::{DeductOptions, DeductSummary};
use crate::input::TextError;
use crate::reconcile::reconcile_day;
use crate::settlement::{SettlementConfig, settle_day};
use crate::testing::MORNING;
use wavepass_protocol::time::UnixMs;

/// Tokens that owe 400 fen each for the day, and have 399.
async fn in_debt(tokens: u32) -> World {
    let world = World::new(tokens, 399).await;
    world.taps(1, &rides(0..tokens)).await;
    close(&world, false).await;
    assert_eq!(deduct(&world).await.declined, u64::from(tokens));
    world
}

fn ending(n: u32) -> Ending<'static> {
    let (token_key, day) = (key(n), day());
    Ending { token_key, day, part: None, reason: "goodwill", by: "anna", at: UnixMs(9) }
}

async fn waive(world: &World, ending: Ending<'_>) -> Result<Waived, ClearingError> {
    let mut tx = world.scratch.begin().await.unwrap();
    let waived = world.clearing.waive_in(&mut tx, ending).await?;
    tx.commit().await.unwrap();
    Ok(waived)
}

async fn debts(world: &World, token: Option<u32>, state: Option<DebtState>) -> Vec<Debt> {
    let wanted = Wanted { token_key: token.map(key), state, after: None, limit: 100 };
    list::page(&world.scratch.store, wanted).await.unwrap()
}

#[tokio::test]
async fn a_token_that_is_asked_for_again_pays_and_no_other_is_asked() {
    let world = in_debt(2).await;
    deposit(&world.scratch.store, "a0", 1).await;
    deposit(&world.scratch.store, "a1", 1).await;
    let recovered = world.clearing.recover_token(key(0)).await.unwrap();
    assert_eq!(recovered, DeductSummary { approved: 1, ..DeductSummary::default() });
    assert_eq!((world.balance(0).await, world.balance(1).await), (0, 400));
    let states = |debts: Vec<Debt>| debts.iter().map(|d| (d.state, d.attempts)).collect::<Vec<_>>();
    assert_eq!(states(debts(&world, None, None).await), [(DebtState::Recovered, 2), (DebtState::Open, 1)]);
    let r = day_report(&world).await;
    assert_eq!((r.deducted_fen, r.owed_fen, r.debts, r.deny_list), (Fen(400), Fen(400), 1, 1));
    // It owes nothing, and is asked for nothing.
    assert_eq!(world.clearing.recover_token(key(0)).await.unwrap(), DeductSummary::default());
    assert_clean(&world).await;
}

#[tokio::test]
async fn a_silent_bank_is_asked_under_the_same_number_until_it_answers() {
    let world = in_debt(2).await;
    world.line.set(Mood::Deaf);
    assert_eq!(world.clearing.recover_token(key(0)).await.unwrap().in_doubt, 1);
    // It may still turn out to be paid.
    assert!(matches!(waive(&world, ending(0)).await, Err(ClearingError::DebtUnanswered { part: 1, .. })));
    world.line.set(Mood::Well);
    let answered = world.clearing.recover_token(key(0)).await.unwrap();
    assert_eq!(answered, DeductSummary { declined: 1, ..DeductSummary::default() });
    assert_eq!(debts(&world, Some(0), None).await[0].attempts, 2);
    assert_eq!(world.one::<i64>("SELECT count(*) FROM attempts").await, 3);
    assert_clean(&world).await;
}

#[tokio::test]
async fn a_waived_debt_is_booked_once_leaves_the_deny_list_and_is_not_asked_for() {
    let world = in_debt(2).await;
    let waived = waive(&world, ending(0)).await.unwrap();
    assert_eq!((waived.parts, waived.waived_fen), (vec![1], Fen(400)));
    let r = day_report(&world).await;
    assert_eq!((r.charged_fen, r.waived_fen, r.owed_fen), (Fen(800), Fen(400), Fen(400)));
    assert_eq!((r.debts, r.deny_list, r.balances()), (1, 1, Ok(true)));
    assert_eq!(debts(&world, None, Some(DebtState::Waived)).await[0].token_key, key(0).to_hex());
    assert_clean(&world).await;

    let before = world.books().await;
    assert_eq!(waive(&world, ending(0)).await.unwrap().parts, Vec::<u32>::new());
    deposit(&world.scratch.store, "a0", 1_000).await;
    assert_eq!(world.clearing.recover_token(key(0)).await.unwrap(), DeductSummary::default());
    let retry = DeductOptions { retry_declined: true };
    assert_eq!(world.clearing.deduct_day(day(), retry).await.unwrap().approved, 0);
    assert_eq!(world.balance(0).await, 1_399);
    let ledger = |books: &[String]| -> Vec<String> {
        books.iter().filter(|row| row.starts_with("ledger")).cloned().collect()
    };
    assert_eq!(ledger(&world.books().await), ledger(&before));
    settle_day(&world.clearing, day(), &SettlementConfig::default()).await.unwrap();
    assert_clean(&world).await;
    let audited = "SELECT \"user\" || ' ' || action || ' ' || subject || ' ' || detail FROM audit_log";
    let line = format!("anna debt.waive {} 2026-11-23, part 1, 400 fen: goodwill", key(0).to_hex());
    assert_eq!(world.one::<String>(audited).await, line);
    assert_eq!(world.one::<i64>("SELECT count(*) FROM audit_log").await, 1);
}

#[tokio::test]
async fn a_waiver_that_is_not_committed_leaves_nothing() {
    let world = in_debt(1).await;
    let before = world.books().await;
    let mut tx = world.scratch.begin().await.unwrap();
    world.clearing.waive_in(&mut tx, ending(0)).await.unwrap();
    drop(tx);
    assert_eq!(world.books().await, before);
    assert_eq!(world.one::<i64>("SELECT count(*) FROM audit_log").await, 0);
    assert_clean(&world).await;
}

#[tokio::test]
async fn what_is_paid_or_not_owed_or_without_a_reason_is_not_waived() {
    let world = in_debt(2).await;
    deposit(&world.scratch.store, "a0", 1).await;
    world.clearing.recover_token(key(0)).await.unwrap();
    assert!(matches!(waive(&world, ending(0)).await, Err(ClearingError::DebtPaid { .. })));
    let other = Ending { part: Some(2), ..ending(1) };
    assert!(matches!(waive(&world, other).await, Err(ClearingError::NoDebt { part: Some(2), .. })));
    assert!(matches!(waive(&world, ending(7)).await, Err(ClearingError::NoDebt { .. })));
    for (reason, why) in
        [("", TextError::Sentence("a reason")), ("6217000012345678901", TextError::Number("a reason"))]
    {
        let refused = waive(&world, Ending { reason, ..ending(1) }).await;
        assert!(matches!(refused, Err(ClearingError::Text(text)) if text == why), "{reason}: {refused:?}");
    }
    assert_eq!(day_report(&world).await.waived_fen, Fen(0));
}

#[tokio::test]
async fn a_token_stays_denied_until_its_last_debt_is_waived() {
    let world = in_debt(1).await;
    world.tamper("UPDATE bank_accounts SET state = 'frozen'").await;
    world.taps(20, &[(0, 9, 0, "UN", 2)]).await;
    close(&world, true).await;
    assert_eq!(deduct(&world).await.declined, 1);
    let page = Wanted { token_key: None, state: None, after: None, limit: 1 };
    let first = list::page(&world.scratch.store, page).await.unwrap().remove(0);
    let after = Some(first.id.parse().unwrap());
    let second = list::page(&world.scratch.store, Wanted { after, ..page }).await.unwrap().remove(0);
    assert_eq!(
        [(first.part, first.amount_fen), (second.part, second.amount_fen)],
        [(1, Fen(400)), (2, Fen(200))]
    );

    let part = Ending { part: Some(2), ..ending(0) };
    assert_eq!(waive(&world, part).await.unwrap().waived_fen, Fen(200));
    assert_eq!(day_report(&world).await.deny_list, 1);
    assert_eq!(waive(&world, ending(0)).await.unwrap().parts, [1]);
    assert_eq!(day_report(&world).await.deny_list, 0);
    assert_clean(&world).await;
}

#[tokio::test]
async fn what_is_paid_or_waived_leaves_the_published_list_at_once_and_is_audited() {
    for waived in [false, true] {
        let (house, card, account) = penniless("").await;
        let app = &house.app;
        app.clock.driven().unwrap().set(UnixMs(MORNING + 24 * 3_600_000)).unwrap();
        app::close(app, "anna", day(), false, false).await.unwrap();
        assert!(app.lists.denies(&card.token, Some(card.expiry)));
        let token =
            TokenKey::from_hex(&house.texts("SELECT lower(hex(token_key)) FROM tokens").await[0]).unwrap();
        let (action, why) = if waived {
            super::waive(app, "bert", (token, day(), None), "goodwill").await.unwrap();
            ("debt.waive", "goodwill")
        } else {
            deposit(&app.store, &account, 900).await;
            let recovered = recover(app, "bert", token).await.unwrap();
            assert_eq!((recovered.deduct.approved, recovered.owed_fen), (1, Fen(0)));
            ("debt.recover", "by hand")
        };
        assert!(!app.lists.denies(&card.token, Some(card.expiry)));
        let lines =
            house.texts("SELECT action || ': ' || detail FROM audit_log WHERE \"user\" = 'bert'").await;
        assert!(lines.len() == 1 && lines[0].starts_with(action) && lines[0].contains(why), "{lines:?}");
    }
}

#[tokio::test]
async fn debts_are_worked_on_by_command() {
    let (house, ..) = penniless("").await;
    house.app.clock.driven().unwrap().set(UnixMs(MORNING + 24 * 3_600_000)).unwrap();
    house.command(&["close-day", "2026-11-23"]).await;
    let listed = house.command(&["debt", "list", "--state", "open"]).await;
    let line = listed.lines().nth(1).unwrap();
    let token = &line[..32];
    let columns: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(columns, [token, "0001", "2026-11-23", "1", "900", "open", "no_funds", "1"], "{listed}");
    let recovered = house.command(&["debt", "recover", "--token", token]).await;
    assert!(recovered.contains("\"owed_fen\": 900"), "{recovered}");
    let waive =
        ["debt", "waive", "--token", token, "--day", "2026-11-23", "--part", "1", "--reason", "goodwill"];
    assert!(house.command(&waive).await.contains("\"waived_fen\": 900"));
    assert!(house.command(&waive).await.contains("\"waived_fen\": 0"));
    assert_eq!(house.command(&["debt", "list", "--state", "open"]).await.lines().count(), 1);
    let json: serde_json::Value =
        serde_json::from_str(&house.command(&["debt", "list", "--token", token, "--json"]).await).unwrap();
    assert_eq!((&json["debts"][0]["state"], &json["debts"][0]["attempts"]), (&"waived".into(), &2.into()));
}

#[tokio::test]
async fn a_credit_that_the_bank_declines_is_ended_by_its_part_and_the_day_with_it() {
    let world = World::new(1, 10_000).await.shared(crate::settlement::Method::Nominal);
    world.taps(1, &[(0, 8, 0, "A", 0)]).await;
    close(&world, false).await;
    deduct(&world).await;
    world.tamper("UPDATE bank_accounts SET state = 'closed'").await;
    world.taps(2, &[(0, 8, 40, "D", 1)]).await;
    close(&world, true).await;
    assert_eq!(deduct(&world).await.declined, 1);
    let found = reconcile_day(&world.clearing, day(), 0).await.unwrap();
    assert_eq!(found.differences.into_iter().collect::<Vec<_>>(), [("credit_declined", 1)]);
    assert_eq!(day_report(&world).await.owed_fen, Fen(-200));
    // Who waives what the rider owes does not mean it.
    assert!(matches!(waive(&world, ending(0)).await, Err(ClearingError::NoDebt { .. })));
    let credit = Ending { part: Some(2), reason: "paid in cash", ..ending(0) };
    let mut tx = world.scratch.begin().await.unwrap();
    let refused = world.clearing.write_off_in(&mut tx, credit, false).await;
    drop(tx);
    assert!(matches!(refused, Err(ClearingError::NoDebt { .. })));
    let waived = waive(&world, credit).await.unwrap();
    assert_eq!((waived.parts, waived.waived_fen), (vec![2], Fen(-200)));
    assert!(waive(&world, credit).await.unwrap().parts.is_empty());
    // What the bank took is settled, all of it, and nobody is asked again.
    let again = DeductOptions { retry_declined: true };
    assert_eq!(world.clearing.deduct_day(day(), again).await.unwrap(), DeductSummary::default());
    let r = day_report(&world).await;
    assert_eq!(
        (r.charged_fen, r.deducted_fen, r.owed_fen, r.waived_fen),
        (Fen(700), Fen(900), Fen(0), Fen(-200))
    );
    settle_day(&world.clearing, day(), &world.clearing.settlement).await.unwrap();
    assert_clean(&world).await;
}
