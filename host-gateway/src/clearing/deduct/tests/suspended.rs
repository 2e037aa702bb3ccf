//! Charges of tokens that are suspended when they are to be asked for.

use crate::clearing::debts::Recovery;
use crate::clearing::deduct::number::{Pages, State};
use crate::clearing::files::{CollectionConfig, collection};
use crate::clearing::testing::{Mood, World, at, day, key};
use crate::clearing::tests::{assert_clean, close, day_report, deduct, rides};
use crate::clearing::{DeductOptions, DeductSummary};
use crate::store::db::query;
use std::sync::atomic::Ordering;
use wavepass_fares::Fen;

use super::{approved, closed};

const SUSPEND: &str = "UPDATE tokens SET state = 'suspended' WHERE account_id = 'a1'";
const RESUME: &str = "UPDATE tokens SET state = 'active' WHERE account_id = 'a1'";
/// Attempts that the bank has answered: what else it has, deposits, has other names.
const ANSWERS: &str = "SELECT count(*) FROM bank_answers WHERE length(entry) = 28";
const DECLINED: DeductSummary = DeductSummary { approved: 0, declined: 1, in_doubt: 0 };

#[tokio::test]
async fn what_a_suspended_token_owes_is_declined_by_its_word_and_the_bank_is_not_asked() {
    let world = closed(World::new(5, 10_000).await, 5, 2).await;
    world.tamper(SUSPEND).await;
    assert_eq!(deduct(&world).await, DeductSummary { approved: 4, declined: 1, in_doubt: 0 });
    assert_eq!(world.one::<i64>(ANSWERS).await, 4);
    let debt = "SELECT hex(token_key) || ' ' || reason || ' ' || state || ' ' || amount_fen FROM debts";
    assert_eq!(
        world.one::<String>(debt).await.to_lowercase(),
        format!("{} token_suspended open 400", World::hex(1))
    );
    let attempt = "SELECT state || ' ' || reason FROM attempts WHERE unasked IS NOT NULL";
    assert_eq!(world.one::<String>(attempt).await, "declined token_suspended");
    let r = day_report(&world).await;
    assert_eq!((r.deducted_fen, r.owed_fen, r.debts, r.deny_list), (Fen(1_600), Fen(400), 1, 1));
    assert_clean(&world).await;
    // Asked for again while it is suspended, it is declined again; nothing else is done twice.
    let retry = DeductOptions { retry_declined: true };
    assert_eq!(world.clearing.deduct_day(day(), retry).await.unwrap(), DECLINED);
    world.tamper(RESUME).await;
    assert_eq!(world.clearing.deduct_day(day(), retry).await.unwrap(), approved(1));
    assert_eq!((world.balance(1).await, day_report(&world).await.deny_list), (9_600, 0));
    assert_eq!(world.one::<i64>(ANSWERS).await, 5);
    assert_clean(&world).await;
}

#[tokio::test]
async fn the_schedule_waits_for_a_suspended_token_and_uses_up_no_try() {
    let world = closed(World::new(2, 10_000).await, 2, 10).await;
    world.tamper(SUSPEND).await;
    deduct(&world).await;
    let due = async || {
        let clock = world.clearing.tariffs.clock();
        let due = Recovery::default().due(&world.scratch.store, clock, at(24 * 4, 0)).await.unwrap();
        due.into_iter().flat_map(|(_, charges)| charges).collect::<Vec<_>>()
    };
    assert!(due().await.is_empty());
    world.tamper(RESUME).await;
    let declined = due().await;
    assert_eq!(declined.iter().map(|id| (id.token_key, id.attempt)).collect::<Vec<_>>(), [(key(1).0, 1)]);
    let mut summary = DeductSummary::default();
    world.clearing.ask_again(day(), &declined, &mut summary).await.unwrap();
    assert_eq!((summary, world.balance(1).await), (approved(1), 9_600));
    assert_clean(&world).await;
}

/// Its money may have moved.
#[tokio::test]
async fn an_attempt_that_may_have_been_sent_is_asked_for_under_its_name_whatever_became_of_the_token() {
    for mood in [Mood::Deaf, Mood::Mute] {
        let world = closed(World::new(2, 10_000).await, 2, 10).await;
        world.line.at_next(&[mood]);
        assert_eq!(deduct(&world).await.in_doubt, 2);
        world.tamper(SUSPEND).await;
        assert_eq!(deduct(&world).await, approved(2));
        assert_eq!(world.one::<i64>("SELECT count(*) FROM attempts").await, 2);
        assert_eq!(world.balance(1).await, 9_600);
        assert_clean(&world).await;
    }
    // Numbered, and nobody knows whether it was sent.
    let world = closed(World::new(2, 10_000).await, 2, 10).await;
    world.clearing.next_page(&mut Pages::of(day(), State::Open)).await.unwrap().unwrap();
    world.tamper(SUSPEND).await;
    assert_eq!(deduct(&world).await, approved(2));
    assert_clean(&world).await;
}

#[tokio::test]
async fn an_attempt_that_was_numbered_not_to_be_sent_never_is() {
    let world = closed(World::new(2, 10_000).await, 2, 10).await;
    world.tamper(SUSPEND).await;
    world.clearing.next_page(&mut Pages::of(day(), State::Open)).await.unwrap().unwrap();
    world.tamper(RESUME).await;
    assert_eq!(deduct(&world).await, DeductSummary { approved: 1, declined: 1, in_doubt: 0 });
    assert_eq!((world.balance(0).await, world.balance(1).await), (9_600, 10_000));
    assert_clean(&world).await;
}

#[tokio::test]
async fn what_a_suspended_token_gets_back_is_credited_and_what_a_deleted_one_owes_is_asked_for() {
    let world = World::new(2, 10_000).await;
    // Token 1 pays the maximum fare; its exit comes late.
    world.taps(1, &[rides(0..1), vec![(1, 8, 0, "HB", 0)]].concat()).await;
    close(&world, false).await;
    world.tamper("UPDATE tokens SET state = 'deleted' WHERE account_id = 'a0'").await;
    assert_eq!(deduct(&world).await, approved(2));
    world.tamper(SUSPEND).await;
    world.taps(20, &[(1, 8, 30, "CH", 1)]).await;
    assert_eq!(close(&world, true).await.batch.unwrap().total_fen, Fen(-500));
    assert_eq!(deduct(&world).await, approved(1));
    assert_eq!((world.balance(0).await, world.balance(1).await), (9_600, 9_600));
    assert_clean(&world).await;
}

#[tokio::test]
async fn a_token_of_no_e_account_is_unknown_whatever_its_state() {
    let world = closed(World::new(2, 10_000).await, 2, 10).await;
    world.tamper("UPDATE tokens SET state = 'suspended', account_id = '' WHERE account_id = 'a1'").await;
    assert_eq!(deduct(&world).await.declined, 1);
    assert_eq!(world.one::<String>("SELECT reason FROM debts").await, "unknown_account");
}

#[tokio::test]
async fn a_suspended_token_s_hold_is_left_for_its_release() {
    let world = closed(World::new(2, 10_000).await, 2, 10).await;
    world.tamper(SUSPEND).await;
    let mut tx = world.scratch.begin().await.unwrap();
    query(
        "INSERT INTO holds (token_key, number, service_day, account_id, amount_fen, state, asked_ms, expires_ms) \
         SELECT token_key, 1, ?, account_id, 900, 'active', 0, ? FROM tokens",
    )
    .bind(day().number())
    .bind(at(48, 0))
    .execute(&mut *tx)
    .await
    .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(deduct(&world).await, DeductSummary { approved: 1, declined: 1, in_doubt: 0 });
    assert_eq!(world.one::<String>("SELECT state FROM holds WHERE account_id = 'a1'").await, "active");
    assert_eq!(world.one::<String>("SELECT state FROM holds WHERE account_id = 'a0'").await, "completed");
}

/// A bank that is asked by file is not asked either.
#[tokio::test]
async fn what_the_bank_is_not_asked_for_is_in_no_collection() {
    let world = closed(World::new(3, 10_000).await, 3, 10).await;
    world.tamper(SUSPEND).await;
    world.line.set(Mood::Deaf);
    deduct(&world).await;
    let house = CollectionConfig {
        name: "Wavepass City Transit".into(),
        account: "6222000000000017".into(),
        cnaps: Some("102331000017".into()),
        ..CollectionConfig::default()
    };
    let file = collection(&world.clearing, &house, day(), 0, 1).await.unwrap();
    let text = String::from_utf8(file).unwrap();
    assert_eq!(
        ["a0", "a1", "a2"].map(|account| text.contains(&format!("<Id>{account}</Id>"))),
        [true, false, true],
        "{text}"
    );
    assert_eq!(world.line.calls.load(Ordering::SeqCst), 1);
}
