//! What riders are shown, and what the barrier's sensors mean: the loop around a tap.

use crate::common::{GATE, phone, stored, town};
use city::world::Kind;
use std::time::Duration;
use wavepass_hce::card::Card;
use wavepass_hce::pn532::{Kind as Radio, Presented};
use wavepass_protocol::tap::Reason;
use wavepass_tests::qemu::{QemuGate, Shown};

fn hold(gate: &QemuGate, cards: Vec<Box<dyn Card + Send>>) {
    gate.chip.set_field(cards.into_iter().map(Presented::phone).collect());
}

fn refused(reason: Reason, sequence: Option<u32>) -> Shown {
    Shown::Refused(reason.word().to_owned(), sequence)
}

#[test]
fn a_sensor_that_tells_late_counts_and_an_opening_has_one_outcome() {
    let root = tempfile::tempdir().unwrap();
    let town = town(root.path(), 100, 51);
    let folder = town.add_gate(GATE).unwrap();
    let mut gate = QemuGate::power_up(&folder, town.gateway.addresses(), 1).unwrap();
    gate.wait_for(|shown| *shown == Shown::Ready);
    for (late, sequence, entries) in [(true, 1, 2), (false, 3, 4)] {
        hold(&gate, vec![phone(&town, sequence as usize)]);
        gate.wait_for(|shown| *shown == Shown::Open(sequence, false));
        gate.chip.remove();
        // Nobody is seen while the barrier is open.
        gate.wait_for(|shown| *shown == Shown::Barrier(false));
        if late {
            gate.press(b'P').unwrap();
        }
        town.wait_gate(GATE, |g| g["acknowledged"] == entries).unwrap();
        if late {
            gate.press(b'N').unwrap();
        }
    }
    // The next rider comes while it is still open whether the one before passed: the barrier had closed.
    for sequence in [5, 6] {
        hold(&gate, vec![phone(&town, sequence as usize)]);
        gate.wait_for(|shown| *shown == Shown::Open(sequence, false));
        gate.chip.remove();
        if sequence == 6 {
            // As long as a rider walks.
            std::thread::sleep(Duration::from_secs(2));
            gate.press(b'P').unwrap();
        }
        gate.wait_for(|shown| *shown == Shown::Barrier(false));
    }
    town.wait_gate(GATE, |g| g["acknowledged"] == 8).unwrap();
    let (entries, taps) = stored(&town);
    let kinds: Vec<i64> = entries.iter().map(|entry| entry.1).collect();
    assert_eq!(kinds, [1, 2, 1, 2, 1, 1, 2, 2], "one outcome for each opening");
    let passages: Vec<Option<i64>> = taps.iter().map(|tap| tap.passage).collect();
    assert_eq!(passages, [Some(1), Some(0), Some(0), Some(1)]);
}

#[test]
fn a_passage_that_is_seen_while_the_next_card_is_read_is_the_one_before_s() {
    let root = tempfile::tempdir().unwrap();
    let town = town(root.path(), 100, 54);
    let folder = town.add_gate(GATE).unwrap();
    let mut gate = QemuGate::power_up(&folder, town.gateway.addresses(), 1).unwrap();
    gate.wait_for(|shown| *shown == Shown::Ready);
    hold(&gate, vec![phone(&town, 0)]);
    gate.wait_for(|shown| *shown == Shown::Open(1, false));
    gate.chip.remove();
    assert!(gate.chip.wait_empty(Duration::from_secs(5)));
    let apdus = gate.chip.counters().apdus;
    hold(&gate, vec![phone(&town, 1)]);
    assert!(gate.chip.wait_for(Duration::from_secs(30), |c| c.apdus > apdus));
    gate.press(b'P').unwrap();
    let shown = |gate: &mut QemuGate| gate.shown(Duration::from_secs(30)).unwrap();
    let opened = gate.wait_for(|shown| !matches!(shown, Shown::Barrier(true)));
    assert_eq!(opened, Shown::Open(2, false), "the way stays open for the second");
    gate.chip.remove();
    std::thread::sleep(Duration::from_secs(2));
    gate.press(b'P').unwrap();
    assert_eq!(shown(&mut gate), Shown::Barrier(false));
    town.wait_gate(GATE, |g| g["acknowledged"] == 4).unwrap();
    let (_, taps) = stored(&town);
    let passages: Vec<Option<i64>> = taps.iter().map(|tap| tap.passage).collect();
    assert_eq!(passages, [Some(1), Some(1)]);
}

#[test]
fn a_refusal_behind_an_open_way_is_shown_and_the_way_stays_open() {
    let root = tempfile::tempdir().unwrap();
    let town = town(root.path(), 1_000, 52);
    let folder = town.add_gate(GATE).unwrap();
    let mut gate = QemuGate::power_up(&folder, town.gateway.addresses(), 1).unwrap();
    gate.wait_for(|shown| *shown == Shown::Ready);
    let denied = town.cards.iter().find(|c| c.0 == Kind::Denied).unwrap();
    hold(&gate, vec![phone(&town, 0)]);
    gate.wait_for(|shown| *shown == Shown::Open(1, false));
    gate.chip.remove();
    assert!(gate.chip.wait_empty(Duration::from_secs(5)));
    hold(&gate, vec![Box::new(denied.1.clone())]);
    let shown = |gate: &mut QemuGate| gate.shown(Duration::from_secs(30)).unwrap();
    assert_eq!(shown(&mut gate), refused(Reason::Denied, Some(2)), "the barrier has not moved");
    assert_eq!(shown(&mut gate), Shown::Open(1, false), "the way is still open");
    gate.press(b'P').unwrap();
    assert_eq!(shown(&mut gate), Shown::Barrier(false));
    gate.chip.remove();
    assert_eq!(shown(&mut gate), Shown::Ready);
    town.wait_gate(GATE, |g| g["acknowledged"] == 3).unwrap();
    let (_, taps) = stored(&town);
    assert_eq!(taps.iter().map(|t| t.opened).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn a_card_that_stays_on_the_reader_hides_nothing() {
    let root = tempfile::tempdir().unwrap();
    let town = town(root.path(), 100, 53);
    let folder = town.add_gate(GATE).unwrap();
    let mut gate = QemuGate::power_up(&folder, town.gateway.addresses(), 1).unwrap();
    gate.wait_for(|shown| *shown == Shown::Ready);
    hold(&gate, vec![phone(&town, 0)]);
    gate.wait_for(|shown| *shown == Shown::Open(1, false));
    gate.press(b'P').unwrap();
    gate.wait_for(|shown| *shown == Shown::Barrier(false));
    let shown = |gate: &mut QemuGate| gate.shown(Duration::from_secs(30)).unwrap();
    for _ in 0..2 {
        hold(&gate, vec![phone(&town, 0), phone(&town, 1)]);
        assert_eq!(shown(&mut gate), refused(Reason::SeveralCards, None), "nothing is journaled");
        let found = gate.chip.counters().found;
        hold(&gate, vec![phone(&town, 0)]);
        assert!(gate.chip.wait_for(Duration::from_secs(30), |c| c.found > found + 2));
    }
    gate.press(b'E').unwrap();
    gate.wait_for(|shown| *shown == Shown::Emergency);
    gate.press(b'e').unwrap();
    gate.wait_for(|shown| *shown == Shown::Ready);
    gate.chip.remove();
    assert!(gate.chip.wait_empty(Duration::from_secs(30)));

    // A ticket of plastic is refused for what it is, and not talked to.
    let apdus = gate.chip.counters().apdus;
    gate.chip.set_field(vec![Presented { card: phone(&town, 2), kind: Radio::Ticket }]);
    assert_eq!(shown(&mut gate), refused(Reason::NoApplication, Some(5)));
    gate.chip.remove();
    assert_eq!(shown(&mut gate), Shown::Ready);
    assert_eq!(gate.chip.counters().apdus, apdus);
    town.wait_gate(GATE, |g| g["acknowledged"] == 5).unwrap();
    let (entries, _) = stored(&town);
    assert_eq!(entries, [(1, 1), (2, 2), (3, 3), (4, 3), (5, 1)]);
}
