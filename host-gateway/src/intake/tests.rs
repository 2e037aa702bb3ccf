//! Intake through its own mouth, without sockets: what is durable, what is set aside, what counts.

use super::sealer::Sealer;
use super::{Item, Source, Verdict};
use crate::store::db::query;
use crate::testing::{Card, House, MORNING, passage};
use wavepass_protocol::tap::{ClockQuality, Decision, Emergency, Entry, Outcome, Reason};
use wavepass_protocol::time::UnixMs;

const TAPS: &str = "SELECT count(*) FROM taps";
const COUNTED: &str = "SELECT count(*) FROM taps WHERE counted = 1";
const BREAKS: &str = "SELECT kind FROM breaks ORDER BY kind, detail";

fn taps(gate: &mut Sealer, n: u16) -> Vec<Vec<u8>> {
    let card = Card::new(1);
    (1..=n).map(|atc| card.tap(u64::from(atc) * 60_000, atc).seal(gate)).collect()
}

#[tokio::test]
async fn an_opened_tap_without_a_token_never_counts_and_is_a_break() {
    let house = House::new().await;
    let mut gate = house.gate(1).await;
    let nobody = Card::new(1).tap(0, 1).with_entry(|entry| {
        let Entry::Tap(mut tap) = entry.clone() else { panic!("a tap") };
        (tap.token, tap.expiry) = (None, None);
        gate.seal(&Entry::Tap(tap)).unwrap()
    });
    house.ingest(&[nobody]).await;
    assert_eq!(house.texts(BREAKS).await, ["no_token"]);
    assert_eq!((house.count(TAPS).await, house.count(COUNTED).await), (1, 0));
    assert_eq!(house.count("SELECT withheld FROM taps").await, 8);
}

#[tokio::test]
async fn sealed_taps_become_rows_and_are_acknowledged() {
    let house = House::new().await;
    let mut gate = house.gate(1).await;
    let mut refused = Card::new(2).tap(9_000, 3);
    refused.decision = Decision::Refuse(Reason::Denied);
    let entries = [taps(&mut gate, 2), vec![refused.seal(&mut gate)]].concat();
    let receipt = house.app.intake.ingest(entries).await.unwrap();
    assert_eq!(receipt.count("accepted"), 3);
    assert_eq!(receipt.acknowledged.get(&gate.key_id), Some(&3));
    let row: (i64, i64, String, i64, i64, i64) =
        query("SELECT time_ms, service_day, station, opened, cryptogram, oda FROM taps WHERE sequence = 1")
            .row(house.app.store.pool())
            .await
            .unwrap();
    // 2026-11-23 is day 20780 after 1970-01-01; the bank has no key for this card's cryptogram.
    assert_eq!(row, (MORNING as i64 + 60_000, 20_780, "A1".into(), 1, 3, 1));
    assert_eq!(house.count("SELECT reason FROM taps WHERE opened = 0").await, Reason::Denied as i64);
    assert_eq!(house.count(COUNTED).await, 2);
}

#[tokio::test]
async fn nothing_in_the_database_files_identifies_a_rider() {
    let house = House::new().await;
    let mut gate = house.gate(1).await;
    let card = Card::new(1);
    house.register(&card).await;
    house.ingest(&taps(&mut gate, 3)).await;
    house.app.store.close().await;
    for file in std::fs::read_dir(house.scratch.dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for needle in [&b"6222021200000001"[..], &card.token.bcd()[..8]] {
            assert!(!bytes.windows(needle.len()).any(|w| w == needle));
        }
    }
}

#[tokio::test]
async fn a_tap_counts_once_however_often_it_arrives() {
    let house = House::new().await;
    let mut gate = house.gate(1).await;
    let entries = taps(&mut gate, 3);
    let twice = [entries.clone(), entries.clone()].concat();
    assert_eq!(
        house.ingest(&twice).await,
        ["accepted", "accepted", "accepted", "repeated", "repeated", "repeated"]
    );
    assert_eq!(house.ingest(&entries[1..2]).await, ["repeated"]);
    assert_eq!((house.count(TAPS).await, house.count("SELECT count(*) FROM breaks").await), (3, 0));
}

#[tokio::test]
async fn what_was_acknowledged_before_a_crash_counts_once_after_it() {
    let house = House::new().await;
    let mut gate = house.gate(1).await;
    let entries = taps(&mut gate, 4);
    // The gateway dies after the commit and before its answer is read; the gate sends everything again.
    drop(
        house.app.intake.submit(Source::Batch, entries[..3].iter().cloned().map(Item::Entry).collect()).await,
    );
    while house.count(TAPS).await < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let house = house.restart().await;
    assert_eq!(house.ingest(&entries).await, ["repeated", "repeated", "repeated", "accepted"]);
    assert_eq!(house.count(COUNTED).await, 4);
}

#[tokio::test]
async fn a_tap_out_of_order_waits_for_the_number_that_is_due() {
    let house = House::new().await;
    let mut gate = house.gate(1).await;
    let entries = taps(&mut gate, 3);
    let receipt = house.app.intake.ingest(vec![entries[0].clone(), entries[2].clone()]).await.unwrap();
    assert_eq!(receipt.verdicts, [Verdict::Accepted, Verdict::Gap { due: 2 }]);
    assert_eq!(receipt.acknowledged.get(&gate.key_id), Some(&1));
    assert_eq!(house.ingest(&entries).await, ["repeated", "accepted", "accepted"]);
}

#[tokio::test]
async fn a_forged_or_altered_tap_of_a_gate_is_set_aside_whole_and_the_next_taps_flow() {
    let house = House::new().await;
    let mut gate = house.gate(1).await;
    let mut entries = taps(&mut gate, 4);
    let good = entries[1].clone();
    // A bit of the body: the header still names the place.
    entries[1][40] ^= 4;
    let source = Source::Gate(gate.key_id);
    let receipt = house.app.intake.ingest_from(source, entries.clone()).await.unwrap();
    assert_eq!(receipt.verdicts[1], Verdict::SetAside("forged"));
    assert_eq!((receipt.count("accepted"), receipt.acknowledged.get(&gate.key_id)), (3, Some(&4)));
    let kept: Vec<u8> = query("SELECT sealed FROM set_aside").scalar(house.app.store.pool()).await.unwrap();
    assert_eq!(kept, entries[1]);
    assert_eq!(house.texts(BREAKS).await, ["unopened"]);
    // It comes again: still one break. The true tap comes after all: it counts.
    assert_eq!(house.ingest(&entries[1..2]).await, ["repeated"]);
    assert_eq!(house.texts(BREAKS).await, ["unopened"]);
    assert_eq!(house.ingest(&[good]).await, ["accepted"]);
    assert_eq!(house.count(COUNTED).await, 4);
}

#[tokio::test]
async fn what_others_bring_and_does_not_open_leaves_its_place_due_and_the_gate_s_own_entry_takes_it() {
    let house = House::new().await;
    let mut gate = house.gate(1).await;
    let entries = taps(&mut gate, 3);
    let mut damaged = entries.clone();
    damaged[1][40] ^= 4;
    assert_eq!(house.ingest(&damaged[1..]).await, ["gap", "gap"]);
    let receipt = house.app.intake.ingest(damaged.clone()).await.unwrap();
    assert_eq!(receipt.verdicts, [Verdict::Accepted, Verdict::SetAside("forged"), Verdict::Gap { due: 2 }]);
    assert_eq!(receipt.acknowledged.get(&gate.key_id), Some(&1), "the gate keeps number 2");
    // Sent again it is no second break, and its place is still due.
    assert_eq!(house.ingest(&damaged[1..2]).await, ["set_aside"]);
    assert_eq!(house.texts(BREAKS).await, ["unopened"]);
    assert_eq!(house.ingest_over_link(&gate, &entries[1..]).await, ["accepted", "accepted"]);
    assert_eq!((house.count(COUNTED).await, house.texts(CHAIN).await.len()), (3, 0));
    // Behind the mark it claims a place that is taken.
    assert_eq!(house.ingest(&damaged[1..2]).await, ["repeated"]);
}

#[tokio::test]
async fn of_what_api_keys_and_files_bring_and_does_not_open_so_much_is_kept_a_day() {
    let toml = "[intake]\nset_aside_a_day = 3";
    let house = House::with(toml).await;
    let mut gate = house.gate(1).await;
    let entry = taps(&mut gate, 1).remove(0);
    let forged = |n: u8| {
        let mut forged = entry.clone();
        forged[40] ^= n;
        forged
    };
    let verdicts = async |house: &House, entries: &[Vec<u8>]| {
        house.app.intake.ingest(entries.to_vec()).await.unwrap().verdicts
    };
    let (kept, beyond) = (Verdict::SetAside("forged"), Verdict::NotKept { why: "forged", limit: 3 });
    let first: Vec<_> = (1..=4).map(forged).collect();
    assert_eq!(verdicts(&house, &first).await, [kept, kept, kept, beyond]);
    // What the day had before is known after a restart; what was set aside comes again as before.
    let house = house.restart_with(toml, UnixMs(MORNING)).await;
    assert_eq!(verdicts(&house, &[forged(5), forged(1)]).await, [beyond, kept]);
    assert_eq!(house.count("SELECT count(*) FROM set_aside").await, 3);
    assert_eq!(house.texts("SELECT set_aside || ' ' || not_kept FROM batch_days").await, ["3 2"]);
    let full = "SELECT subject || ': ' || detail FROM breaks WHERE kind = 'set_aside_full'";
    let told = "API keys and files: more than 3 entries of the day do not open: the rest are counted only";
    assert_eq!(house.texts(full).await, [told]);
    // What opens is taken all the same, and another day has room.
    assert_eq!(verdicts(&house, std::slice::from_ref(&entry)).await, [Verdict::Accepted]);
    house.app.clock.driven().unwrap().set(UnixMs(MORNING + 24 * 3_600_000)).unwrap();
    assert_eq!(verdicts(&house, &[forged(6)]).await, [kept]);
}

#[tokio::test]
async fn an_entry_that_is_rotten_in_the_journal_itself_is_got_past_by_the_gate_or_by_a_person() {
    let house = House::new().await;
    let mut gates = [house.gate(1).await, house.gate(2).await];
    let rotten = gates.each_mut().map(|gate| {
        let mut entries = taps(gate, 3);
        entries[1][40] ^= 4;
        entries
    });
    for entries in &rotten {
        assert_eq!(house.ingest(entries).await, ["accepted", "set_aside", "gap"]);
    }
    assert_eq!(house.ingest_over_link(&gates[0], &rotten[0][1..]).await, ["set_aside", "accepted"]);
    assert_eq!(house.texts(BREAKS).await, ["unopened", "unopened"]);
    let receipt = house.app.ingest_past_gaps(rotten[1].clone(), "anna").await.unwrap();
    let verdicts = [Verdict::Repeated, Verdict::SetAside("forged"), Verdict::Accepted];
    assert_eq!((&receipt.verdicts[..], receipt.acknowledged[&gates[1].key_id]), (&verdicts[..], 3));
    assert_eq!(house.texts("SELECT detail FROM breaks WHERE kind = 'gap'").await, ["2-2"]);
    let audited = "SELECT \"user\" || ' ' || action || ': ' || detail FROM audit_log WHERE action = 'entries.past_gaps'";
    let line = "anna entries.past_gaps: 3 entries; what is missing before them is lost";
    assert_eq!(house.texts(audited).await, [line]);
    // The true entry turns up: it counts, late.
    let mut whole = rotten[1][1].clone();
    whole[40] ^= 4;
    assert_eq!(house.ingest(&[whole]).await, ["accepted"]);
    assert_eq!(house.count(COUNTED).await, 5);
}

#[tokio::test]
async fn no_changed_bit_makes_a_tap_count() {
    let house = House::new().await;
    let mut gate = house.gate(1).await;
    let entry = taps(&mut gate, 1).remove(0);
    let changed: Vec<Vec<u8>> = (0..entry.len())
        .map(|i| {
            let mut changed = entry.clone();
            changed[i] ^= 1 << (i % 8);
            changed
        })
        .collect();
    let words = house.ingest(&changed).await;
    assert!(words.iter().all(|w| *w != "accepted"), "{words:?}");
    assert_eq!(house.count(TAPS).await, 0);
    assert_eq!(house.ingest(&[entry]).await, ["accepted"]);
}

#[tokio::test]
async fn another_tap_in_a_place_that_is_taken_is_a_conflict() {
    let house = House::new().await;
    let mut gate = house.gate(1).await;
    house.ingest(&taps(&mut gate, 2)).await;
    // Genuinely sealed, as by a gate whose flash was put back to an earlier state.
    let other = Card::new(9).tap(1, 1).with_entry(|e| gate.seal_as(2, 77, e).unwrap());
    assert_eq!(house.ingest(&[other]).await, ["set_aside"]);
    assert_eq!((house.texts(BREAKS).await, house.count(TAPS).await), (vec!["conflict".into()], 2));
}

#[tokio::test]
async fn a_key_that_sealed_two_taps_lets_one_count() {
    let house = House::new().await;
    let mut gate = house.gate(1).await;
    house.ingest(&taps(&mut gate, 2)).await;
    let again = Card::new(9).tap(1, 1).with_entry(|e| gate.seal_as(3, 2, e).unwrap());
    let next = Card::new(9).tap(2, 2).with_entry(|e| gate.seal_as(4, 3, e).unwrap());
    assert_eq!(house.ingest(&[again, next]).await, ["set_aside", "accepted"]);
    assert_eq!((house.texts(BREAKS).await, house.count(TAPS).await), (vec!["counter_repeat".into()], 3));
}

#[tokio::test]
async fn a_batch_under_a_key_that_was_never_given_out_is_refused_its_place() {
    let house = House::new().await;
    let mut gate = house.gate(1).await;
    let mut entry = taps(&mut gate, 1).remove(0);
    entry[5] ^= 0xFF;
    assert_eq!(
        house.ingest(&[entry, vec![1; 50], vec![9; 3]]).await,
        ["set_aside", "set_aside", "set_aside"]
    );
    assert_eq!(house.count("SELECT count(*) FROM watermarks").await, 0);
}

#[tokio::test]
async fn a_passage_finds_its_tap_in_any_order_of_arrival() {
    let house = House::new().await;
    let mut gate = house.gate(1).await;
    let first = taps(&mut gate, 1).remove(0);
    let passed = passage(&mut gate, 1, Outcome::Passed);
    let late = passage(&mut gate, 1, Outcome::NotPassed);
    let mut damaged = first.clone();
    damaged[30] ^= 1;
    // The tap is damaged on its way and comes whole only after its passages.
    let words = house.ingest_over_link(&gate, &[damaged, passed, late]).await;
    assert_eq!(words, ["set_aside", "accepted", "accepted"]);
    assert_eq!(house.count("SELECT outcome FROM passages_waiting").await, 1);
    assert_eq!(house.ingest(&[first]).await, ["accepted"]);
    assert_eq!(house.count("SELECT passage FROM taps").await, 1);
    assert_eq!(house.count("SELECT count(*) FROM passages_waiting").await, 0);
    // In a group of its own, after its tap.
    let second = Card::new(2).tap(0, 1).seal(&mut gate);
    let of = gate.next_sequence() - 1;
    house.ingest(&[second]).await;
    house.ingest(&[passage(&mut gate, of, Outcome::Unknown)]).await;
    assert_eq!(house.count("SELECT passage FROM taps WHERE sequence > 1").await, 2);
}

#[tokio::test]
async fn a_loss_is_noted_once_and_what_turns_up_later_counts() {
    let house = House::new().await;
    let mut gate = house.gate(1).await;
    let entries = taps(&mut gate, 5);
    let source = Source::Gate(gate.key_id);
    let submit = async |items: Vec<Item>| {
        house.app.intake.submit(source, items).await.unwrap().await.unwrap().unwrap()
    };
    let lost = Item::Lost { key_id: gate.key_id, from: 1, upto: 3 };
    let receipt = submit(vec![lost, Item::Entry(entries[3].clone()), Item::Entry(entries[4].clone())]).await;
    assert_eq!(receipt.acknowledged.get(&gate.key_id), Some(&5));
    submit(vec![Item::Lost { key_id: gate.key_id, from: 1, upto: 3 }]).await;
    assert_eq!(house.texts("SELECT detail FROM breaks WHERE kind = 'gap'").await, ["1-3"]);
    let open = "SELECT detail FROM breaks WHERE kind = 'gap' AND closed_ms IS NULL";
    // Another gate's gap, and one of this gate's that stays, are not ended with it.
    let mut other = house.gate(2).await;
    let others = taps(&mut other, 4);
    for (key_id, from, upto) in [(gate.key_id, 6, 7), (other.key_id, 1, 3)] {
        let lost = vec![Item::Lost { key_id, from, upto }];
        house.app.intake.submit(Source::Gate(key_id), lost).await.unwrap().await.unwrap().unwrap();
    }
    assert_eq!(house.ingest(&[&entries[1..3], &others[..1]].concat()).await, ["accepted"; 3]);
    assert_eq!(house.texts(open).await.len(), 3);
    assert_eq!(house.ingest(&entries[..1]).await, ["accepted"]);
    let mut left = house.texts(open).await;
    left.sort();
    assert_eq!(left, ["1-3", "6-7"]);
    let ended = "SELECT ended_by || ': ' || end_reason FROM breaks WHERE closed_ms IS NOT NULL";
    assert_eq!(house.texts(ended).await, ["intake: its entries came after all"]);
    let audited = "SELECT detail FROM audit_log WHERE \"user\" = 'intake' AND action = 'break.end'";
    assert_eq!(house.texts(audited).await, ["its entries came after all"]);
    assert_eq!(house.ingest(&others[1..3]).await, ["accepted"; 2]);
    assert_eq!(house.texts(open).await, ["6-7"]);
}

#[tokio::test]
async fn many_senders_share_transactions_and_each_is_answered() {
    let house = House::new().await;
    let mut tasks = tokio::task::JoinSet::new();
    for id in 1..=20 {
        let mut gate = house.gate(id).await;
        let intake = house.app.intake.clone();
        tasks.spawn(async move {
            for chunk in taps(&mut gate, 40).chunks(5) {
                assert_eq!(intake.ingest(chunk.to_vec()).await.unwrap().count("accepted"), 5);
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(house.count(TAPS).await, 800);
    assert_eq!(house.count("SELECT sum(acked) FROM watermarks").await, 800);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_of_a_gate_that_are_handed_in_at_once_are_written_in_their_order() {
    let house = House::new().await;
    let mut answers = Vec::new();
    for id in 1..=2 {
        let mut gate = house.gate(id).await;
        // Several groups of each gate, so that two writers could take them at the same time.
        for chunk in taps(&mut gate, 5_100).chunks(150) {
            let items = chunk.iter().cloned().map(Item::Entry).collect();
            answers.push(house.app.intake.submit(Source::Gate(gate.key_id), items).await.unwrap());
        }
    }
    for answer in answers {
        let receipt = answer.await.unwrap().unwrap();
        assert_eq!((receipt.count("accepted"), receipt.gap), (150, None));
    }
    assert_eq!(house.count("SELECT count(*) FROM breaks").await, 0);
}

#[tokio::test]
async fn an_emergency_is_an_entry_like_any_other_and_one_without_a_time_is_shown_to_a_person() {
    let house = House::new().await;
    let mut gate = house.gate(1).await;
    let entries: Vec<_> = [(true, ClockQuality::Synchronised), (false, ClockQuality::Unset)]
        .into_iter()
        .map(|(active, clock)| {
            let emergency = Emergency { time: UnixMs(MORNING), clock, active };
            gate.seal(&Entry::Emergency(emergency)).unwrap()
        })
        .collect();
    assert_eq!(house.ingest(&entries).await, ["accepted", "accepted"]);
    assert_eq!(house.ingest(&entries).await, ["repeated", "repeated"]);
    assert_eq!(house.count("SELECT count(*) FROM entries WHERE kind = 3").await, 2);
    assert_eq!(house.count("SELECT sum(active * 10 + clock) FROM emergencies").await, 12);
    assert_eq!(house.texts("SELECT kind FROM breaks").await, ["emergency_time"]);
}

const CHAIN: &str = "SELECT detail FROM breaks WHERE kind = 'chain' ORDER BY detail";

/// Five taps of a gate, and another one that somebody with its keys put in the place of number `place`.
fn taps_and_replacement(gate: &mut Sealer, place: u16) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut entries = taps(gate, place - 1);
    let forged = Card::new(9).tap(7, 7).with_entry(|e| {
        let (sequence, counter) = (gate.next_sequence(), u32::from(place));
        gate.seal_as(sequence, counter, e).unwrap()
    });
    let card = Card::new(1);
    entries.extend((place..=5).map(|atc| card.tap(u64::from(atc) * 60_000, atc).seal(gate)));
    (entries, forged)
}

#[tokio::test]
async fn an_entry_that_was_replaced_under_its_own_key_is_noticed_at_the_next() {
    for group in [1, 2, 5] {
        let house = House::new().await;
        let mut gate = house.gate(1).await;
        let (mut entries, forged) = taps_and_replacement(&mut gate, 3);
        entries[2] = forged;
        for part in entries.chunks(group) {
            assert!(house.ingest(part).await.iter().all(|word| *word == "accepted"));
        }
        assert_eq!(house.texts(CHAIN).await, ["4 does not follow the 3 that is here"], "{group} at a time");
        assert_eq!((house.texts(BREAKS).await.len(), house.count(COUNTED).await), (1, 5));
    }
}

#[tokio::test]
async fn a_replaced_first_or_last_entry_is_noticed_as_soon_as_a_neighbour_is_there() {
    let house = House::new().await;
    let mut gate = house.gate(1).await;
    let (mut entries, forged) = taps_and_replacement(&mut gate, 1);
    entries[0] = forged;
    house.ingest(&entries[..1]).await;
    assert_eq!(house.texts(CHAIN).await, [""; 0], "nothing to compare with yet");
    let house = house.restart().await;
    house.ingest(&entries[1..]).await;
    assert_eq!(house.texts(CHAIN).await, ["2 does not follow the 1 that is here"]);

    let house = House::new().await;
    let mut gate = house.gate(1).await;
    taps(&mut gate, 2);
    let stray = Card::new(9).tap(7, 7).with_entry(|e| gate.seal_as(1, 64, e).unwrap());
    house.ingest(&[stray]).await;
    assert_eq!(house.texts(CHAIN).await, ["1 does not follow the 0 that is here"], "nothing is before it");
}

#[tokio::test]
async fn entries_cut_out_of_a_journal_are_a_gap_and_both_neighbours_of_a_late_one_are_compared() {
    let house = House::new().await;
    let mut gate = house.gate(1).await;
    let (entries, forged) = taps_and_replacement(&mut gate, 3);
    let source = Source::Gate(gate.key_id);
    let lost = |from, upto| Item::Lost { key_id: gate.key_id, from, upto };
    let entry = |n: usize| Item::Entry(entries[n - 1].clone());
    let items = vec![entry(1), lost(2, 3), entry(4), entry(5)];
    house.app.intake.submit(source, items).await.unwrap().await.unwrap().unwrap();
    assert_eq!(house.texts(BREAKS).await, ["gap"]);
    // The true number 2 fits; what is in place of number 3 follows it, and number 4 does not follow that.
    assert_eq!(house.ingest(&entries[1..2]).await, ["accepted"]);
    assert_eq!(house.texts(BREAKS).await, ["gap"]);
    assert_eq!(house.ingest(&[forged]).await, ["accepted"]);
    assert_eq!(house.texts(CHAIN).await, ["4 does not follow the 3 that is here"]);
}

#[tokio::test]
async fn late_entries_that_are_the_true_ones_fit_in_any_order() {
    let house = House::new().await;
    let mut gate = house.gate(1).await;
    let entries = taps(&mut gate, 8);
    let source = Source::Gate(gate.key_id);
    let submit = async |items: Vec<Item>| {
        house.app.intake.submit(source, items).await.unwrap().await.unwrap().unwrap()
    };
    // Everything up to 6 is called lost; then 7 comes, then the others backwards and in one group, then the last.
    submit(vec![Item::Lost { key_id: gate.key_id, from: 1, upto: 6 }]).await;
    submit([6, 5, 3, 4, 2, 1, 0].map(|i| Item::Entry(entries[i].clone())).into()).await;
    submit(vec![Item::Entry(entries[7].clone())]).await;
    assert_eq!((house.count(TAPS).await, house.texts(CHAIN).await.len()), (8, 0));
}
