//! The host is gone and the journal fills: the gate refuses by that name, keeps everything, and opens again when
//! the host has it.

use crate::common::{
    self, Chip, Heard, Host, MORNING, Place, SECOND, Store, TestGate, decide, idle, passage, refused,
    start_with, synchronised, tap, try_tap, working_gate,
};
use wavepass_hce::faults::{Broken, Fault};
use wavepass_journal::Limits;
use wavepass_protocol::tap::{Decision, Entry, Outcome, Reason};

/// Fills the journal with openings; gives the time afterwards.
fn fill(host: &Host, gate: &mut TestGate) -> u64 {
    for n in 0..1_000 {
        let at = MORNING + u64::from(n) * SECOND;
        match decide(gate, &mut host.phone(1_000 + n), at) {
            Decision::Open => {}
            full => {
                assert_eq!(full, refused(Reason::JournalFull));
                return at;
            }
        }
    }
    panic!("the journal never fills");
}

/// The host is back: it takes everything, acknowledges it, and gives the entries.
fn take_all(host: &mut Host, gate: &mut TestGate) -> Store {
    let mut line = host.connect(gate);
    let mut store = Store::default();
    for heard in line.hear(gate) {
        match heard {
            Heard::Entry(sealed) => store.take(host, &sealed),
            Heard::Status { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    store.check();
    line.acknowledge(gate, gate.next_sequence() - 1);
    idle(gate);
    store
}

#[test]
fn a_full_journal_refuses_keeps_everything_and_opens_again_after_acknowledgement() {
    let mut host = Host::new();
    let chip = Chip::new(4);
    let mut gate = working_gate(&mut host, &chip);
    let at = fill(&host, &mut gate);
    let (full_at, flash) = (gate.next_sequence(), chip.content_of(Place::Journal));
    assert!(full_at > 20, "{full_at} entries");
    for n in 0..10 {
        let presented = tap(&mut gate, &mut host.phone(n), at + u64::from(n) * SECOND);
        assert_eq!((presented.decision, presented.sequence), (refused(Reason::JournalFull), None));
    }
    assert_eq!(gate.next_sequence(), full_at);
    assert_eq!(gate.uncounted_refusals(), 11, "they are counted");
    assert!(flash == chip.content_of(Place::Journal), "and nothing is overwritten");

    let store = take_all(&mut host, &mut gate);
    assert_eq!(store.entries.len() as u32, full_at - 1, "nothing was lost");
    let presented = tap(&mut gate, &mut host.phone(1), at + 60 * SECOND);
    assert_eq!((presented.decision, presented.sequence), (Decision::Open, Some(full_at)));
}

/// Erasing a page stops some processors for 85 ms: no rider waits for it.
#[test]
fn no_page_is_erased_while_a_card_is_in_the_field() {
    let mut host = Host::new();
    let chip = Chip::new(4);
    let mut gate = working_gate(&mut host, &chip);
    let begun = chip.erases();
    for n in 0..120 {
        let before = chip.erases();
        let now = synchronised(MORNING + u64::from(n) * SECOND);
        let presented = try_tap(&mut gate, &mut host.phone(1_000 + n), now).unwrap();
        assert_eq!((presented.decision, chip.erases()), (Decision::Open, before), "tap {n}");
        idle(&mut gate);
        if n % 10 == 9 {
            take_all(&mut host, &mut gate);
        }
    }
    assert!(chip.erases() > begun + 4, "the journal went round: {} erases", chip.erases() - begun);
}

#[test]
fn a_full_journal_is_still_full_after_a_restart() {
    let mut host = Host::new();
    let chip = Chip::new(4);
    let mut gate = working_gate(&mut host, &chip);
    let at = fill(&host, &mut gate);
    drop(gate);
    let mut gate = start_with(&chip, Limits::default()).unwrap();
    assert_eq!(decide(&mut gate, &mut host.phone(1), at), refused(Reason::JournalFull));
    take_all(&mut host, &mut gate);
    assert_eq!(decide(&mut gate, &mut host.phone(1), at + SECOND), Decision::Open);
}

#[test]
fn a_tap_that_waits_opens_again_while_the_journal_is_full() {
    let mut host = Host::new();
    let chip = Chip::new(4);
    let mut gate = working_gate(&mut host, &chip);
    let at = fill(&host, &mut gate);
    let last = gate.next_sequence() - 1;
    let mut waiting = host.phone(1_000 + last - 1);
    let again = tap(&mut gate, &mut waiting, at);
    assert_eq!((again.decision, again.again, again.sequence), (Decision::Open, true, Some(last)));
}

#[test]
fn a_passage_that_finds_no_room_still_closes_the_gate_to_the_next_rider_with_the_same_token() {
    let mut host = Host::new();
    let chip = Chip::new(4);
    let mut gate = working_gate(&mut host, &chip);
    let at = fill(&host, &mut gate);
    let last = gate.next_sequence() - 1;
    // Passages are shorter than taps, so that some still fit.
    while passage(&mut gate, last, Outcome::NotPassed, at).is_some() {
        idle(&mut gate);
    }
    assert_eq!(passage(&mut gate, last, Outcome::Passed, at), None, "the host counts it as passed");
    assert_eq!(gate.last().unwrap().outcome, Some(Outcome::Passed));
    assert_eq!(decide(&mut gate, &mut host.phone(1_000 + last - 1), at + SECOND), refused(Reason::Passback));
}

#[test]
fn refusals_fill_their_share_and_no_more() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    drop(working_gate(&mut host, &chip));
    let mut gate = start_with(&chip, Limits { refusal_percent: 25 }).unwrap();
    let mut broken = common::phone(&host.phone_file(1).with_fault(Fault::Broken { kind: Broken::Noise }));
    let mut kept = 0;
    for wave in 0..400 {
        let presented = tap(&mut gate, &mut broken, MORNING + wave * SECOND);
        assert!(matches!(presented.decision, Decision::Refuse(reason) if reason != Reason::JournalFull));
        kept += u32::from(presented.sequence.is_some());
    }
    assert_eq!(gate.uncounted_refusals(), 400 - kept, "what is not kept is counted");
    assert_eq!(gate.next_sequence(), kept + 1);
    let bytes = chip.content_of(Place::Journal).iter().filter(|&&b| b != 0xFF).count();
    assert!(kept > 20 && bytes <= 8 * 4096 / 4 + 4096, "{kept} refusals in {bytes} bytes");

    assert_eq!(
        decide(&mut gate, &mut host.phone(2), MORNING + 500 * SECOND),
        Decision::Open,
        "good cards open"
    );
    let store = take_all(&mut host, &mut gate);
    for sealed in store.entries.values().take(kept as usize) {
        let told = host.open(sealed, |_, e| matches!(e, Entry::Tap(t) if t.decision != Decision::Open));
        assert!(told, "the host is told of each refusal that was kept");
    }
    let presented = tap(&mut gate, &mut broken, MORNING + 600 * SECOND);
    assert!(presented.sequence.is_some(), "acknowledged refusals make room for new ones");
}
