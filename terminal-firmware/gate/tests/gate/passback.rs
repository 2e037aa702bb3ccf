//! A second wave at the same gate: the same tap, a refusal, or a new tap.

use crate::common::{
    Chip, Host, MORNING, SECOND, WAIT_MS, decide, idle, journal, passage, refused, start, synchronised, tap,
    try_tap, working_gate,
};
use wavepass_protocol::tap::{Decision, Entry, Outcome, Reason};

#[test]
fn a_second_wave_before_anybody_passed_opens_as_the_same_tap() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    let mut phone = host.phone(1);
    let first = tap(&mut gate, &mut phone, MORNING);
    assert_eq!((first.decision, first.again, first.sequence), (Decision::Open, false, Some(1)));
    for wave in 1..4 {
        let again = tap(&mut gate, &mut phone, MORNING + wave * SECOND);
        assert_eq!((again.decision, again.again, again.sequence), (Decision::Open, true, Some(1)));
    }
    assert_eq!(gate.next_sequence(), 2, "one entry for all of them");
    assert_eq!(journal(&mut host, &mut gate).entries.len(), 1);
}

#[test]
fn nobody_passed_is_told_and_the_tap_still_opens_again() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    let mut phone = host.phone(1);
    tap(&mut gate, &mut phone, MORNING);
    assert_eq!(passage(&mut gate, 1, Outcome::NotPassed, MORNING + SECOND), Some(2));
    idle(&mut gate);
    let again = tap(&mut gate, &mut phone, MORNING + 2 * SECOND);
    assert_eq!((again.decision, again.again, again.sequence), (Decision::Open, true, Some(1)));
    assert_eq!(passage(&mut gate, 1, Outcome::Passed, MORNING + 3 * SECOND), Some(3));
    idle(&mut gate);
    assert_eq!(decide(&mut gate, &mut phone, MORNING + 4 * SECOND), refused(Reason::Passback));
}

#[test]
fn after_a_passage_the_token_is_refused_until_the_window_has_passed() {
    for seen in [Outcome::Passed, Outcome::Unknown] {
        let mut host = Host::new();
        let chip = Chip::new(8);
        let mut gate = working_gate(&mut host, &chip);
        let (mut phone, mut other) = (host.phone(1), host.phone(2));
        tap(&mut gate, &mut phone, MORNING);
        passage(&mut gate, 1, seen, MORNING + SECOND);
        idle(&mut gate);
        assert_eq!(decide(&mut gate, &mut phone, MORNING + 2 * SECOND), refused(Reason::Passback));
        assert_eq!(decide(&mut gate, &mut phone, MORNING + WAIT_MS - 1), refused(Reason::Passback));
        assert_eq!(decide(&mut gate, &mut other, MORNING + WAIT_MS - 1), Decision::Open, "another token");
        let later = tap(&mut gate, &mut phone, MORNING + WAIT_MS);
        assert_eq!((later.decision, later.again), (Decision::Open, false), "a new tap");
    }
}

#[test]
fn after_the_window_a_tap_without_passage_is_a_new_tap_too() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    let mut phone = host.phone(1);
    assert_eq!(tap(&mut gate, &mut phone, MORNING).sequence, Some(1));
    let later = tap(&mut gate, &mut phone, MORNING + WAIT_MS);
    assert_eq!((later.decision, later.again, later.sequence), (Decision::Open, false, Some(2)));
}

#[test]
fn passback_is_learnt_again_from_the_journal_after_a_restart() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    let (mut passed, mut waiting) = (host.phone(1), host.phone(2));
    tap(&mut gate, &mut passed, MORNING);
    passage(&mut gate, 1, Outcome::Passed, MORNING + SECOND);
    idle(&mut gate);
    tap(&mut gate, &mut waiting, MORNING + 2 * SECOND);
    drop(gate);
    let mut gate = start(&chip).unwrap();
    assert_eq!(decide(&mut gate, &mut passed, MORNING + 5 * SECOND), refused(Reason::Passback));
    let again = tap(&mut gate, &mut waiting, MORNING + 5 * SECOND);
    assert_eq!((again.decision, again.again, again.sequence), (Decision::Open, true, Some(3)));
}

#[test]
fn a_token_denied_since_its_tap_does_not_open_again() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    let mut phone = host.phone(1);
    tap(&mut gate, &mut phone, MORNING);
    let deny = host.deny(&[1]);
    host.send_list(&mut gate, wavepass_protocol::lists::Kind::Deny, &deny);
    assert_eq!(decide(&mut gate, &mut phone, MORNING + SECOND), refused(Reason::Denied));
}

#[test]
fn a_clock_set_back_does_not_take_time_behind_the_last_tap() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    let (mut first, mut second) = (host.phone(1), host.phone(2));
    tap(&mut gate, &mut first, MORNING);
    drop(gate);
    let mut gate = start(&chip).unwrap();
    try_tap(&mut gate, &mut second, synchronised(MORNING - 300 * SECOND)).unwrap();
    idle(&mut gate);
    let store = journal(&mut host, &mut gate);
    let times: Vec<u64> = store
        .entries
        .values()
        .map(|sealed| {
            host.open(sealed, |_, entry| match entry {
                Entry::Tap(tap) => tap.time.0,
                Entry::Passage(passage) => passage.time.0,
                Entry::Emergency(emergency) => emergency.time.0,
            })
        })
        .collect();
    assert_eq!(times, [MORNING, MORNING]);
    assert_eq!(gate.last().unwrap().time.0, MORNING);
}

#[test]
fn a_wrong_time_from_the_host_is_forgotten_when_it_is_corrected() {
    const YEAR: u64 = 365 * 86_400 * SECOND;
    for restarted in [false, true] {
        let mut host = Host::new();
        let chip = Chip::new(8);
        let mut gate = working_gate(&mut host, &chip);
        let mut rider = host.phone(1);
        let presented = tap(&mut gate, &mut rider, MORNING + YEAR);
        assert_eq!(presented.decision, Decision::Open);
        passage(&mut gate, presented.sequence.unwrap(), Outcome::Passed, MORNING + YEAR);
        assert_eq!(decide(&mut gate, &mut host.phone(2), MORNING + 10 * YEAR), refused(Reason::Expired));
        if restarted {
            drop(gate);
            gate = start(&chip).unwrap();
        }
        assert_eq!(decide(&mut gate, &mut host.phone(3), MORNING), Decision::Open);
        assert_eq!(gate.last().unwrap().time.0, MORNING, "and it is booked on its own day");
        assert_eq!(decide(&mut gate, &mut rider, MORNING + SECOND), Decision::Open);
    }
}
