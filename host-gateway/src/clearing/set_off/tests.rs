//! What a day turns out cheaper, where the bank has not taken all of it.

use wavepass_fares::{Fen, TapId};

use super::{Part, set_off};
use crate::clearing::debts::Ending;
use crate::clearing::disputes::{DisputeError, DisputeId};
use crate::clearing::journey_id::JourneyId;
use crate::clearing::testing::{Mood, TapAt, World, day, key};
use crate::clearing::tests::{assert_clean, close, day_report, deduct};
use crate::clearing::{DeductOptions, DeductSummary};
use crate::settlement::settle_day;
use crate::settlement::shares::Method;
use crate::store::db::query;
use wavepass_protocol::time::UnixMs;

/// Half a journey is 900 fen; with its exit it is 400.
const ENTRY: TapAt<'static> = (0, 8, 0, "HB", 0);
const EXIT: TapAt<'static> = (0, 8, 30, "CH", 1);

/// A token with so much, of whose day half a journey was charged.
async fn charged(fen: i64) -> World {
    let world = World::new(1, fen).await;
    world.taps(1, &[ENTRY]).await;
    close(&world, false).await;
    world
}

/// The same with 900, which are taken, and a second journey of 900, which is owed.
async fn half_paid() -> World {
    let world = charged(900).await;
    assert_eq!(deduct(&world).await.approved, 1);
    world.taps(3, &[(0, 13, 0, "HB", 0)]).await;
    close(&world, true).await;
    assert_eq!(deduct(&world).await.declined, 1);
    world
}

/// The exit comes, and the day is 500 fen cheaper.
async fn cheaper(world: &World) {
    world.taps(2, &[EXIT]).await;
    assert_eq!(close(world, true).await.batch.unwrap().total_fen, Fen(-500));
}

fn ending() -> Ending<'static> {
    let (token_key, day) = (key(0), day());
    Ending { token_key, day, part: None, reason: "goodwill", by: "anna", at: UnixMs(9) }
}

/// A journey of token 0 that began with a tap.
fn journey(sequence: u32) -> DisputeId {
    let journey = JourneyId(TapId { key: [1, 2, 3, 4, 5, 6, 7, 8], sequence });
    DisputeId { token_key: key(0), day: day(), journey, number: 1 }
}

async fn parts(world: &World) -> Vec<String> {
    let text = "SELECT concat_ws(' ', part, amount_fen, offset_fen, state, attempts) FROM charges ORDER BY token_key, part";
    query(text).column(world.scratch.pool()).await.unwrap()
}

#[tokio::test]
async fn of_what_the_bank_declined_nothing_is_credited_and_the_debt_is_less() {
    let world = charged(500).await;
    assert_eq!(deduct(&world).await.declined, 1);
    cheaper(&world).await;
    assert_eq!(deduct(&world).await, DeductSummary::default());
    assert_eq!(parts(&world).await, ["1 900 -500 declined 1", "2 -500 500 deducted 0"]);
    let r = day_report(&world).await;
    assert_eq!((r.charged_fen, r.owed_fen, r.deducted_fen, r.deny_list), (Fen(400), Fen(400), Fen(0), 1));
    assert_eq!((world.balance(0).await, world.one::<i64>("SELECT amount_fen FROM debts").await), (500, 400));
    let told = "SELECT detail FROM audit_log WHERE action = 'debt.set_off'";
    assert_eq!(world.one::<String>(told).await, "2026-11-23, part 2 against part 1, 500 fen");
    assert_clean(&world).await;
    let before = world.books().await;
    assert_eq!(deduct(&world).await, DeductSummary::default());
    assert_eq!(world.books().await, before);
    // What is left can be paid, and is all that there is to pay.
    assert_eq!(world.clearing.recover_token(key(0)).await.unwrap().approved, 1);
    let r = day_report(&world).await;
    assert_eq!((r.owed_fen, r.deducted_fen, r.debts, r.deny_list), (Fen(0), Fen(400), 0, 0));
    assert_eq!(world.balance(0).await, 100);
    assert_clean(&world).await;
}

#[tokio::test]
async fn a_debt_of_which_nothing_is_left_ends_and_leaves_the_deny_list() {
    let world = charged(500).await;
    assert_eq!(deduct(&world).await.declined, 1);
    world.tamper("UPDATE taps SET withheld = 1; UPDATE token_taps SET withheld = 1").await;
    assert_eq!(close(&world, true).await.batch.unwrap().total_fen, Fen(-900));
    assert_eq!(deduct(&world).await, DeductSummary::default());
    assert_eq!(parts(&world).await, ["1 900 -900 deducted 1", "2 -900 900 deducted 0"]);
    let r = day_report(&world).await;
    assert_eq!((r.owed_fen, r.debts, r.deny_list, world.balance(0).await), (Fen(0), 0, 0, 500));
    assert_clean(&world).await;
}

#[tokio::test]
async fn what_was_given_up_is_what_the_day_came_to_and_is_not_paid_out() {
    for written_off in [false, true] {
        let world = charged(500).await;
        assert_eq!(deduct(&world).await.declined, 1);
        let mut tx = world.scratch.begin().await.unwrap();
        match written_off {
            true => _ = world.clearing.write_off_in(&mut tx, ending(), false).await.unwrap(),
            false => _ = world.clearing.waive_in(&mut tx, ending()).await.unwrap(),
        }
        tx.commit().await.unwrap();
        cheaper(&world).await;
        assert_eq!(deduct(&world).await, DeductSummary::default());
        let r = day_report(&world).await;
        // What is written off is among what is waived.
        assert_eq!((r.charged_fen, r.waived_fen, r.deducted_fen), (Fen(400), Fen(400), Fen(0)));
        assert_eq!(r.written_off_fen, if written_off { Fen(400) } else { Fen(0) });
        assert_eq!((world.balance(0).await, r.owed_fen), (500, Fen(0)));
        assert_eq!(world.one::<i64>("SELECT amount_fen FROM debts").await, 400);
        assert_clean(&world).await;
    }
}

/// Of two journeys of 900 one is paid and the other given up, and then the paid one turns out to cost 400.
#[tokio::test]
async fn beside_what_is_paid_a_waiver_stays_a_gift_and_a_write_off_is_owed_all_the_same() {
    for written_off in [false, true] {
        let world = half_paid().await;
        let mut tx = world.scratch.begin().await.unwrap();
        match written_off {
            true => _ = world.clearing.write_off_in(&mut tx, ending(), false).await.unwrap(),
            false => _ = world.clearing.waive_in(&mut tx, ending()).await.unwrap(),
        }
        tx.commit().await.unwrap();
        cheaper(&world).await;
        assert_eq!(deduct(&world).await.approved, u64::from(!written_off));
        let r = day_report(&world).await;
        let (paid, given_up) = if written_off { (900, 400) } else { (400, 900) };
        assert_eq!((r.deducted_fen, r.waived_fen, r.owed_fen), (Fen(paid), Fen(given_up), Fen(0)));
        assert_eq!(world.balance(0).await, 900 - paid);
        assert_clean(&world).await;
        // Whoever disputes what was given up is refused, however much is asked for and paid otherwise.
        let mut tx = world.scratch.begin().await.unwrap();
        for fen in [300, 500] {
            let refused = world.clearing.refund_in(&mut tx, &journey(3), Fen(fen)).await;
            match written_off {
                true => assert!(matches!(refused, Err(DisputeError::WrittenOff { .. })), "{refused:?}"),
                false => assert!(matches!(refused, Err(DisputeError::Waived { .. })), "{refused:?}"),
            }
        }
    }
}

#[tokio::test]
async fn of_a_journey_that_is_owed_nothing_is_paid_out_although_another_part_recorded_it_since() {
    let world = half_paid().await;
    // The second's exit comes: 400 are owed, and the part that records it is below zero.
    world.taps(4, &[(0, 13, 30, "CH", 1)]).await;
    close(&world, true).await;
    deduct(&world).await;
    let mut tx = world.scratch.begin().await.unwrap();
    let refunded = world.clearing.refund_in(&mut tx, &journey(3), Fen(400)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!((refunded.of_part, refunded.credit), (2, false));
    let r = day_report(&world).await;
    assert_eq!((r.owed_fen, r.debts, r.deny_list), (Fen(0), 0, 0));
    assert_clean(&world).await;
}

#[tokio::test]
async fn while_a_debit_has_no_answer_the_credit_waits() {
    for (fen, left) in [(500, 500), (1_000, 600)] {
        let world = charged(fen).await;
        world.line.set(Mood::Mute);
        assert_eq!(deduct(&world).await.in_doubt, 1);
        cheaper(&world).await;
        assert_eq!(deduct(&world).await, DeductSummary { in_doubt: 1, ..DeductSummary::default() });
        assert_eq!(parts(&world).await[1], "2 -500 0 open 0");
        world.line.set(Mood::Well);
        let answered = deduct(&world).await;
        let paid = fen == 1_000;
        let (approved, declined) = if paid { (2, 0) } else { (0, 1) };
        assert_eq!(answered, DeductSummary { approved, declined, in_doubt: 0 });
        assert_eq!(world.balance(0).await, left);
        assert_eq!(day_report(&world).await.owed_fen, Fen(if paid { 0 } else { 400 }));
        assert_clean(&world).await;
    }
}

#[tokio::test]
async fn what_was_not_asked_for_yet_is_asked_for_once_and_for_the_less() {
    let world = charged(500).await;
    cheaper(&world).await;
    assert_eq!(deduct(&world).await, DeductSummary { approved: 1, ..DeductSummary::default() });
    assert_eq!(parts(&world).await, ["1 900 -500 deducted 1", "2 -500 500 deducted 0"]);
    assert_eq!(world.balance(0).await, 100);
    assert_clean(&world).await;
}

#[tokio::test]
async fn tokens_are_taken_page_by_page_and_each_once() {
    let mut world = World::new(5, 500).await;
    world.clearing.deduct_page = 2;
    world.taps(1, &(0..5).map(|n| (n, 8, 0, "HB", 0)).collect::<Vec<_>>()).await;
    close(&world, false).await;
    assert_eq!(deduct(&world).await.declined, 5);
    world.taps(6, &(0..5).map(|n| (n, 8, 30, "CH", 1)).collect::<Vec<_>>()).await;
    assert_eq!(close(&world, true).await.batch.unwrap().total_fen, Fen(-2_500));
    assert_eq!(deduct(&world).await, DeductSummary::default());
    assert_eq!(world.one::<i64>("SELECT CAST(SUM(amount_fen) AS BIGINT) FROM set_offs").await, 2_500);
    assert_eq!(parts(&world).await, ["1 900 -500 declined 1", "2 -500 500 deducted 0"].repeat(5));
    assert_clean(&world).await;
}

/// A credit of which one piece is set off and another one credited: at each moment operators get what the bank took, and in
/// the end what they would have got had all come at once.
#[tokio::test]
async fn the_operators_shares_go_with_what_is_set_off() {
    let (entries, exits): ([TapAt<'_>; 2], [TapAt<'_>; 2]) =
        ([(0, 8, 0, "A", 0), (0, 12, 0, "A", 0)], [(0, 8, 40, "D", 1), (0, 12, 40, "D", 1)]);
    let ride = [(0, 18, 0, "X", 0), (0, 18, 20, "Y", 1)];
    for method in [Method::Nominal, Method::PassengerKm, Method::Fixed] {
        let world = World::new(1, 1_800).await.shared(method);
        let settle = async |world: &World| {
            settle_day(&world.clearing, day(), &world.clearing.settlement).await.unwrap()
        };
        world.taps(1, &entries).await;
        close(&world, false).await;
        assert_eq!(deduct(&world).await.approved, 1);
        settle(&world).await;
        world.taps(3, &ride).await;
        assert_eq!(close(&world, true).await.batch.unwrap().total_fen, Fen(350));
        assert_eq!(deduct(&world).await.declined, 1);
        settle(&world).await;
        world.taps(5, &exits).await;
        // The day comes to its cap of 1,000: 350 are set off, and 800 asked for, without an answer.
        assert_eq!(close(&world, true).await.batch.unwrap().total_fen, Fen(-1_150));
        world.line.set(Mood::Deaf);
        assert_eq!(deduct(&world).await.in_doubt, 1);
        settle(&world).await;
        world.line.set(Mood::Well);
        assert_eq!(deduct(&world).await.approved, 1);
        settle(&world).await;
        assert_eq!(world.balance(0).await, 800);
        assert_clean(&world).await;

        let at_once = World::new(1, 1_800).await.shared(method);
        at_once.taps(1, &[&entries[..], &ride, &exits].concat()).await;
        close(&at_once, false).await;
        deduct(&at_once).await;
        settle(&at_once).await;
        for sums in [
            "SELECT CAST(SUM(deducted_fen) AS BIGINT) FROM settlements WHERE operator = 1",
            "SELECT CAST(SUM(deducted_fen) AS BIGINT) FROM settlements WHERE operator = 2",
        ] {
            assert_eq!(world.one::<i64>(sums).await, at_once.one::<i64>(sums).await, "{method:?}: {sums}");
        }
    }
}

#[tokio::test]
async fn a_journey_whose_own_part_was_set_off_is_given_back_of_what_the_bank_took() {
    let world = half_paid().await;
    // The first turns out to be 400.
    cheaper(&world).await;
    deduct(&world).await;
    assert_eq!(day_report(&world).await.owed_fen, Fen(400));
    // 400 of the second are owed, and 900 were paid.
    let mut tx = world.scratch.begin().await.unwrap();
    let refused = world.clearing.refund_in(&mut tx, &journey(3), Fen(901)).await;
    assert!(matches!(refused, Err(DisputeError::TooMuch { left: Fen(900), .. })), "{refused:?}");
    let refunded = world.clearing.refund_in(&mut tx, &journey(3), Fen(900)).await.unwrap();
    assert_eq!((refunded.of_part, refunded.credit), (1, true));
    // What the first costs is owed now, and would be taken off that.
    let refused = world.clearing.refund_in(&mut tx, &journey(1), Fen(401)).await;
    assert!(matches!(refused, Err(DisputeError::TooMuch { left: Fen(400), .. })), "{refused:?}");
    tx.commit().await.unwrap();
    deduct(&world).await;
    assert_eq!(world.balance(0).await, 900);
    assert_clean(&world).await;
    let options = DeductOptions { retry_declined: true };
    assert_eq!(world.clearing.deduct_day(day(), options).await.unwrap().approved, 1);
    assert_eq!(world.balance(0).await, 500);
    assert_clean(&world).await;
}

#[tokio::test]
async fn a_refund_is_never_more_than_what_the_bank_still_has_of_the_day() {
    let world = charged(900).await;
    assert_eq!(deduct(&world).await.approved, 1);
    // The bank took 900 and gave 500 back; a second journey of 900 is owed.
    cheaper(&world).await;
    assert_eq!(deduct(&world).await.approved, 1);
    world.tamper("UPDATE bank_accounts SET state = 'frozen'").await;
    world.taps(3, &[(0, 13, 0, "HB", 0)]).await;
    close(&world, true).await;
    assert_eq!(deduct(&world).await.declined, 1);
    // The first turns out not to have been, and its 400 are set off: 500 are owed, and 400 paid, for the second.
    world.tamper("UPDATE taps SET withheld = 1 WHERE sequence < 3; UPDATE token_taps SET withheld = 1 WHERE sequence < 3").await;
    close(&world, true).await;
    deduct(&world).await;
    let id = |number| DisputeId { number, ..journey(3) };
    let mut tx = world.scratch.begin().await.unwrap();
    let refused = world.clearing.refund_in(&mut tx, &id(1), Fen(900)).await;
    assert!(matches!(refused, Err(DisputeError::TooMuch { left: Fen(500), .. })), "{refused:?}");
    let refunded = world.clearing.refund_in(&mut tx, &id(1), Fen(500)).await.unwrap();
    assert_eq!((refunded.of_part, refunded.credit), (3, false));
    let refused = world.clearing.refund_in(&mut tx, &id(2), Fen(401)).await;
    assert!(matches!(refused, Err(DisputeError::TooMuch { left: Fen(400), .. })), "{refused:?}");
    let refunded = world.clearing.refund_in(&mut tx, &id(2), Fen(400)).await.unwrap();
    assert_eq!((refunded.of_part, refunded.credit), (1, true));
    tx.commit().await.unwrap();
    world.tamper("UPDATE bank_accounts SET state = 'open'").await;
    deduct(&world).await;
    assert_eq!((world.balance(0).await, day_report(&world).await.charged_fen), (900, Fen(0)));
    assert_clean(&world).await;
}

/// Parts of a day as they stand, each with what the bank is asked for.
fn stand(parts: &[(i64, &str)]) -> Vec<Part> {
    let part = |(&(asked, state), part): (&(i64, &str), u32)| Part {
        part,
        asked: Fen(asked),
        state: state.to_owned(),
        fare: true,
    };
    parts.iter().zip(1..).map(part).collect()
}

fn made(parts: &mut [Part]) -> Vec<(u32, u32, i64)> {
    let set_off = set_off(parts).unwrap();
    set_off.iter().map(|s| (parts[s.credit].part, parts[s.against].part, s.amount.0)).collect()
}

#[test]
fn what_the_bank_did_not_take_is_less_of_a_waiver_and_no_two_parts_meet_twice() {
    let mut parts = stand(&[(300, "deducted"), (900, "waived"), (-500, "open")]);
    assert_eq!(made(&mut parts), [(3, 2, 200)]);
    assert_eq!(made(&mut parts), []);
    // The account is closed, and the bank credits nothing; then the day is cheaper once more.
    parts[2].state = "declined".to_owned();
    parts.push(Part { part: 4, ..stand(&[(-100, "open")]).remove(0) });
    assert_eq!(made(&mut parts), [(4, 2, 100)]);
}

#[test]
fn what_is_owed_comes_first_then_what_is_lost_and_a_waiver_last_once_all_is_answered() {
    let mut parts =
        stand(&[(700, "waived"), (50, "written_off"), (60, "open"), (70, "declined"), (-300, "open")]);
    assert_eq!(made(&mut parts), [(5, 3, 60), (5, 4, 70), (5, 2, 50), (5, 1, 120)]);
    let mut parts = stand(&[(700, "waived"), (60, "open"), (10, "in_doubt"), (-300, "open")]);
    assert_eq!(made(&mut parts), [(4, 2, 60)]);
}
