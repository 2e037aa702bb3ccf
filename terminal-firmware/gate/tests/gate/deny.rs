//! The deny list in flash: a delta leaves what the whole list would have left, taps go on while it is made, and a cut
//! at any word leaves the old list or the new one.

use crate::common::{
    self, Chip, Failure, Heard, Host, Line, MORNING, Place, SECOND, TestGate, decide, encode, idle, last_day,
    refused, start, synchronised, try_idle, try_tap, version, versions_in_force, working_gate,
};
use wavepass_gate::Idle;
use wavepass_journal::cells::Cell;
use wavepass_journal::sim::block_on;
use wavepass_protocol::deny::{MAX_CHANGES, Shape};
use wavepass_protocol::link::{FromHost, MAX_PART};
use wavepass_protocol::lists::{Kind, ListError, PREFIX, Version};
use wavepass_protocol::tap::{Decision, Reason};

fn long() -> bool {
    std::env::var_os("WAVEPASS_LONG").is_some()
}

/// The list that the gate keeps: head and content.
fn stored(chip: &Chip) -> Vec<u8> {
    let mut cell = block_on(Cell::open(chip.area(Place::Deny))).unwrap();
    let mut blob = vec![0; cell.len().unwrap()];
    block_on(cell.load(&mut blob)).unwrap();
    blob
}

/// Sends an issue without leaving the gate any idle time.
fn feed(line: &mut Line, gate: &mut TestGate, version: Version, issue: &[u8]) -> Result<(), Failure> {
    let frames = line.list_frames(Kind::Deny, version, issue);
    frames.iter().try_for_each(|frame| line.try_feed(gate, frame).map(|link| link.unwrap()))
}

fn connect(host: &mut Host, gate: &mut TestGate) -> Line {
    let mut line = host.connect(gate);
    line.hear(gate);
    line
}

fn send(host: &mut Host, gate: &mut TestGate, version: Version, issue: &[u8]) -> Vec<Heard> {
    connect(host, gate).send_list(gate, Kind::Deny, version, issue)
}

/// A gate with these tokens on its deny list, version 2.
fn gate_with(host: &mut Host, chip: &Chip, tokens: &[u32]) -> TestGate {
    let mut gate = working_gate(host, chip);
    let content = host.deny(tokens);
    host.send_list(&mut gate, Kind::Deny, &content);
    assert_eq!(gate.version(Kind::Deny), version(2));
    gate
}

fn is_denied(host: &Host, gate: &mut TestGate, n: u32) -> bool {
    match decide(gate, &mut host.phone(n), MORNING + u64::from(n) * SECOND) {
        Decision::Open => false,
        decision => {
            assert_eq!(decision, refused(Reason::Denied));
            true
        }
    }
}

#[test]
fn a_delta_leaves_the_very_bytes_of_the_whole_list() {
    let host = Host::new();
    let (from, to): (Vec<u32>, Vec<u32>) = ((0..300).collect(), (20..340).collect());
    let delta = host.delta(version(3), 2, &from, &to);
    let whole = host.list(Kind::Deny, version(3), &host.deny_of(Shape::best_bits(300), &to));
    let stored_after = |issue: &[u8]| {
        let mut host = Host::new();
        let chip = Chip::new(8);
        let mut gate = gate_with(&mut host, &chip, &from);
        let heard = send(&mut host, &mut gate, version(3), issue);
        assert!(matches!(heard[..], [Heard::Status { lists: [3, ..], .. }]), "{heard:?}");
        for n in [0, 19, 20, 299, 300, 339, 340] {
            assert_eq!(is_denied(&host, &mut gate, n), to.contains(&n), "token {n}");
        }
        stored(&chip)
    };
    let by_delta = stored_after(&delta);
    assert!(by_delta == stored_after(&whole));
    assert!(delta.len() < whole.len() / 2);
}

#[test]
fn a_delta_of_nothing_renews_the_age_of_the_list() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = gate_with(&mut host, &chip, &[1, 2, 3]);
    let same = host.delta(version(3), 2, &[1, 2, 3], &[1, 2, 3]);
    assert_eq!(same.len(), PREFIX + 8);
    send(&mut host, &mut gate, version(3), &same);
    assert_eq!(gate.version(Kind::Deny), version(3));
    assert!(is_denied(&host, &mut gate, 2) && !is_denied(&host, &mut gate, 4));
}

#[test]
fn a_delta_that_does_not_give_what_was_signed_is_refused_by_name() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let from: Vec<u32> = (0..100).collect();
    let to: Vec<u32> = (1..120).collect();
    let mut gate = gate_with(&mut host, &chip, &from);
    let good = host.delta(version(9), 2, &from, &to);
    let before = stored(&chip);
    let rebased = |base: u32| host.delta(version(9), base, &from, &to);
    let other_epoch = host.delta(Version { epoch: 2, version: 9 }, 2, &from, &to);
    // Another key in the place of one: as many entries, but not those.
    let bits = Shape::best_bits(100);
    let swapped: Vec<u32> = (1..119).chain([777]).collect();
    let mut other = host.delta_of(version(9), 2, bits, &from, &swapped);
    other[..PREFIX].copy_from_slice(&good[..PREFIX]);
    // A delta for another list: it removes what is not there.
    let mut foreign =
        host.delta_of(version(9), 2, bits, &(150..250).collect::<Vec<_>>(), &(151..270).collect::<Vec<_>>());
    foreign[..PREFIX].copy_from_slice(&good[..PREFIX]);
    let mut unsigned = good.clone();
    unsigned[PREFIX - 5] ^= 1;
    let cut_short = good[..good.len() - 7].to_vec();
    let cases = [
        ("of the version before", rebased(1), version(9), ListError::Base),
        ("of a version to come", rebased(8), version(9), ListError::Base),
        ("of another epoch", other_epoch, Version { epoch: 2, version: 9 }, ListError::Base),
        ("with another key", other, version(9), ListError::Hash),
        ("for another list", foreign, version(9), ListError::Content),
        ("cut short", cut_short, version(9), ListError::Content),
        ("with another signature", unsigned, version(9), ListError::Signature),
    ];
    for (what, issue, version, why) in cases {
        let heard = send(&mut host, &mut gate, version, &issue);
        assert_eq!(heard, [Heard::ListRefused(Kind::Deny, version, why)], "a delta {what}");
        assert!(stored(&chip) == before, "a delta {what}");
        assert!(is_denied(&host, &mut gate, 0) && !is_denied(&host, &mut gate, 110), "a delta {what}");
    }
    send(&mut host, &mut gate, version(9), &good);
    assert!(!is_denied(&host, &mut gate, 0) && is_denied(&host, &mut gate, 110));
}

#[test]
fn a_whole_list_that_is_not_what_was_signed_is_refused_and_the_old_one_stands() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = gate_with(&mut host, &chip, &[1]);
    let before = stored(&chip);
    let good = host.list(Kind::Deny, version(9), &host.deny(&(0..200).collect::<Vec<_>>()));
    for at in [PREFIX, PREFIX + 40, good.len() - 1] {
        let mut changed = good.clone();
        changed[at] ^= 1;
        let heard = send(&mut host, &mut gate, version(9), &changed);
        assert_eq!(heard, [Heard::ListRefused(Kind::Deny, version(9), ListError::Hash)], "byte {at}");
        assert!(stored(&chip) == before && is_denied(&host, &mut gate, 1));
        gate = start(&chip).unwrap();
        assert_eq!(gate.version(Kind::Deny), version(2), "after a restart");
    }
    send(&mut host, &mut gate, version(9), &good);
    assert_eq!(gate.version(Kind::Deny), version(9));
}

#[test]
fn the_largest_delta_that_every_gate_takes_is_taken_and_a_larger_one_refused() {
    let mut host = Host::new();
    let chip = Chip::with_deny(8, 8);
    let mut gate = gate_with(&mut host, &chip, &[]);
    let bits = 8;
    let most: Vec<u32> = (0..MAX_CHANGES as u32).collect();
    let content = host.deny_of(bits, &[]);
    let base = host.list(Kind::Deny, version(3), &content);
    send(&mut host, &mut gate, version(3), &base);
    let more: Vec<u32> = (0..=MAX_CHANGES as u32).collect();
    let too_large = host.delta_of(version(4), 3, bits, &[], &more);
    let heard = send(&mut host, &mut gate, version(4), &too_large);
    assert_eq!(heard, [Heard::ListRefused(Kind::Deny, version(4), ListError::TooLarge)]);
    let fits = host.delta_of(version(4), 3, bits, &[], &most);
    send(&mut host, &mut gate, version(4), &fits);
    assert!(is_denied(&host, &mut gate, MAX_CHANGES as u32 - 1));
}

#[test]
fn a_list_that_would_outgrow_its_area_is_refused_before_anything_is_erased() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let bits = Shape::best_bits(1_500);
    let from: Vec<u32> = (0..1_500).collect();
    let mut gate = gate_with(&mut host, &chip, &from);
    let flash = chip.content_of(Place::Deny);
    let to: Vec<u32> = (0..2_000).collect();
    let delta = host.delta_of(version(3), 2, bits, &from, &to);
    let whole = host.list(Kind::Deny, version(3), &host.deny_of(bits, &to));
    for issue in [delta, whole] {
        let heard = send(&mut host, &mut gate, version(3), &issue);
        assert_eq!(heard, [Heard::ListRefused(Kind::Deny, version(3), ListError::TooLarge)]);
        assert!(flash == chip.content_of(Place::Deny));
    }
}

#[test]
fn taps_are_decided_by_the_old_list_until_the_new_one_is_in_force() {
    let mut host = Host::new();
    let chip = Chip::with_deny(64, 32);
    let (from, to): (Vec<u32>, Vec<u32>) = ((0..10_000).collect(), (1..10_001).collect());
    let mut gate = gate_with(&mut host, &chip, &from);
    let delta = host.delta(version(3), 2, &from, &to);
    let whole = host.list(Kind::Deny, version(4), &host.deny(&from));
    for (new, issue, listed) in [(version(3), delta, 10_000), (version(4), whole, 0)] {
        let old = gate.version(Kind::Deny);
        let mut line = connect(&mut host, &mut gate);
        feed(&mut line, &mut gate, new, &issue).unwrap();
        let mut slices = 0;
        loop {
            // A card comes by; it is decided with one list or the other, never with a part of one.
            let in_force = gate.version(Kind::Deny);
            assert!(in_force == old || in_force == new);
            if slices % 64 == 0 {
                let at = synchronised(MORNING + (u64::from(new.version) * 10_000 + slices) * SECOND);
                let decision = try_tap(&mut gate, &mut host.phone(listed), at).unwrap().decision;
                let expected = if in_force == new { refused(Reason::Denied) } else { Decision::Open };
                assert_eq!(decision, expected, "after {slices} slices");
            }
            if block_on(gate.idle()).unwrap() == Idle::Done {
                break;
            }
            slices += 1;
        }
        assert!(slices > 20, "{slices} slices");
        assert_eq!(gate.version(Kind::Deny), new);
        let heard = line.hear(&mut gate);
        assert!(heard.iter().any(|h| matches!(h, Heard::Status { lists: [n, ..], .. } if *n == new.version)));
    }
}

#[test]
fn a_newer_list_takes_the_place_of_one_in_work_and_the_same_one_again_does_not() {
    let mut host = Host::new();
    let chip = Chip::with_deny(8, 8);
    let from: Vec<u32> = (0..2_000).collect();
    let mut gate = gate_with(&mut host, &chip, &from);
    let three = host.delta(version(3), 2, &from, &(1..2_000).collect::<Vec<_>>());
    let four = host.delta(version(4), 2, &from, &(2..2_000).collect::<Vec<_>>());
    let mut line = connect(&mut host, &mut gate);
    feed(&mut line, &mut gate, version(3), &three).unwrap();
    assert_eq!(block_on(gate.idle()), Ok(Idle::More));
    // The line broke and the host, told that version 2 is in force, sends 3 again: it is in work already.
    let mut line = connect(&mut host, &mut gate);
    feed(&mut line, &mut gate, version(3), &three).unwrap();
    assert_eq!(line.hear(&mut gate), []);
    assert_eq!(block_on(gate.idle()), Ok(Idle::More));
    // Then there is a newer one.
    feed(&mut line, &mut gate, version(4), &four).unwrap();
    idle(&mut gate);
    assert_eq!(gate.version(Kind::Deny), version(4));
    assert!(!is_denied(&host, &mut gate, 1) && is_denied(&host, &mut gate, 2));
    let heard = line.hear(&mut gate);
    assert!(heard.iter().all(|h| !matches!(h, Heard::ListRefused(..))), "{heard:?}");
}

#[test]
fn a_small_list_that_needs_the_delta_s_memory_gives_the_merge_up_and_the_delta_can_be_sent_anew() {
    let mut host = Host::new();
    let chip = Chip::with_deny(8, 8);
    let from: Vec<u32> = (0..2_000).collect();
    let mut gate = gate_with(&mut host, &chip, &from);
    let delta = host.delta(version(3), 2, &from, &(1..2_000).collect::<Vec<_>>());
    let ca = host.list(Kind::CaKeys, version(9), &host.ca_keys(last_day(2041)));
    let mut line = connect(&mut host, &mut gate);
    feed(&mut line, &mut gate, version(3), &delta).unwrap();
    block_on(gate.idle()).unwrap();
    line.send_list(&mut gate, Kind::CaKeys, version(9), &ca);
    assert_eq!(versions_in_force(&gate)[..2], [2, 9]);
    line.send_list(&mut gate, Kind::Deny, version(3), &delta);
    assert_eq!(gate.version(Kind::Deny), version(3));
}

#[test]
fn a_transfer_that_broke_off_anywhere_begins_anew() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let from: Vec<u32> = (0..500).collect();
    let mut gate = gate_with(&mut host, &chip, &from);
    let to: Vec<u32> = (100..700).collect();
    let delta = host.delta(version(3), 2, &from, &to);
    let whole = host.list(Kind::Deny, version(3), &host.deny(&to));
    for issue in [&delta, &whole] {
        for sent in 1..issue.len().div_ceil(MAX_PART) {
            let mut line = connect(&mut host, &mut gate);
            let frames = line.list_frames(Kind::Deny, version(3), issue);
            frames[..sent].iter().for_each(|frame| line.feed(&mut gate, frame).unwrap());
            idle(&mut gate);
            assert_eq!(gate.version(Kind::Deny), version(2));
            assert!(is_denied(&host, &mut gate, 1) && !is_denied(&host, &mut gate, 600));
        }
    }
    // Another total in the midst of it.
    let mut line = connect(&mut host, &mut gate);
    let (kind, version_3, total) = (Kind::Deny, version(3), whole.len() as u32);
    for (i, total) in [total, total + 4].into_iter().enumerate() {
        let (offset, part) = ((i * MAX_PART) as u32, &whole[i * MAX_PART..(i + 1) * MAX_PART]);
        line.say(&mut gate, &FromHost::ListPart { kind, version: version_3, total, offset, part });
    }
    assert_eq!(line.hear(&mut gate), [Heard::ListRefused(Kind::Deny, version(3), ListError::Length)]);
    line.send_list(&mut gate, Kind::Deny, version(3), &whole);
    assert_eq!(gate.version(Kind::Deny), version(3));
}

/// The power goes at every written word while the issue is taken; afterwards the old list is in force or the new one,
/// wholly, and the issue can be sent again.
fn cut_everywhere(base: &Chip, host: &mut Host, new: Version, issue: &[u8], gone: u32, come: u32) {
    let apply = |host: &mut Host, gate: &mut TestGate| {
        let mut line = host.connect(gate);
        line.hear(gate);
        feed(&mut line, gate, new, issue)?;
        try_idle(gate)
    };
    let whole = base.copy();
    let mut gate = start(&whole).unwrap();
    let (old, began) = (gate.version(Kind::Deny), whole.words());
    apply(host, &mut gate).unwrap();
    assert_eq!(gate.version(Kind::Deny), new);
    let words = whole.words() - began;
    assert!(words > 400, "{words} words");
    let all: &[u64] = &[0, u64::MAX, 0x5A3C_0FF0_9669_1E87];
    let mut taken = 0;
    for (&flips, step) in all.iter().zip([1, if long() { 1 } else { 7 }, if long() { 1 } else { 11 }]) {
        // The last words are the header, which decides.
        for after in (0..words - 8).step_by(step).chain(words - 8..words) {
            let chip = base.copy();
            let mut gate = start(&chip).unwrap();
            chip.cut(after, flips);
            assert_eq!(apply(host, &mut gate), Err(common::POWER_CUT), "cut after word {after}");
            assert_eq!(gate.version(Kind::Deny), old, "not in force before it is stored");
            drop(gate);
            assert!(chip.power_on());
            let mut gate = start(&chip).unwrap();
            let found = gate.version(Kind::Deny);
            assert!(found == old || found == new, "cut after word {after}: {found:?}");
            assert_eq!(is_denied(host, &mut gate, gone), found == old, "cut after word {after}");
            assert_eq!(is_denied(host, &mut gate, come), found == new, "cut after word {after}");
            taken += u32::from(found == new);
            if found == old && after % 16 == 0 {
                apply(host, &mut gate).unwrap();
                assert_eq!(gate.version(Kind::Deny), new);
            }
        }
    }
    assert!((1..=6).contains(&taken), "the end of the header decides: {taken}");
}

#[test]
fn a_cut_while_a_whole_list_or_a_delta_is_taken_leaves_the_old_list_or_the_new_one() {
    let mut host = Host::new();
    let base = Chip::new(4);
    // Both halves of the area have been used.
    let mut gate = gate_with(&mut host, &base, &[7]);
    let from: Vec<u32> = (0..350).collect();
    let content = host.deny(&from);
    host.send_list(&mut gate, Kind::Deny, &content);
    drop(gate);
    let to: Vec<u32> = (1..360).collect();
    let delta = host.delta(version(4), 3, &from, &to);
    let whole = host.list(Kind::Deny, version(4), &host.deny(&to));
    cut_everywhere(&base, &mut host, version(4), &whole, 0, 355);
    cut_everywhere(&base, &mut host, version(4), &delta, 0, 355);
}

#[test]
fn a_hundred_thousand_entries_come_over_the_link_and_change_by_deltas() {
    let mut host = Host::new();
    // Two halves of half a mebibyte.
    let chip = Chip::with_deny(16, 256);
    let mut gate = working_gate(&mut host, &chip);
    let listed = |from: u32| (from..from + 100_000).collect::<Vec<u32>>();
    let mut from = listed(0);
    let bits = Shape::best_bits(100_000);
    let content = host.deny(&from);
    assert!(content.len() <= 500_000);
    host.send_list(&mut gate, Kind::Deny, &content);
    assert_eq!(gate.version(Kind::Deny), version(2));
    for step in 1..=3 {
        let to = listed(step * 200);
        let new = host.next(Kind::Deny);
        let delta = host.delta_of(new, new.version - 1, bits, &from, &to);
        let heard = send(&mut host, &mut gate, new, &delta);
        assert!(matches!(heard[..], [Heard::Status { .. }]), "{heard:?}");
        from = to;
        if step == 2 {
            drop(gate);
            gate = start(&chip).unwrap();
        }
        assert_eq!(gate.version(Kind::Deny), new);
        for n in [from[0], from[50_000], from[99_999]] {
            assert!(is_denied(&host, &mut gate, n), "token {n}");
        }
        for n in [from[0] - 1, from[99_999] + 1, 5_000_000] {
            assert!(!is_denied(&host, &mut gate, n), "token {n}");
        }
    }
    assert!(stored(&chip)[PREFIX - 4..] == host.deny_of(bits, &from));
    let other = encode(&common::config());
    host.send_list(&mut gate, Kind::Config, &other);
    assert_eq!(gate.version(Kind::Config).version, 2);
}
