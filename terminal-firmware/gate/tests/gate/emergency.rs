//! The emergency input holds the barrier open by itself; the gate records when, so that the host forgives the taps
//! that riders could not give.

use crate::common::{
    Chip, Host, MORNING, SECOND, TestGate, commission, idle, journal, start, synchronised, tap, working_gate,
};
use wavepass_gate::Now;
use wavepass_journal::sim::block_on;
use wavepass_protocol::tap::{ClockQuality, Emergency, Entry, Reason};
use wavepass_protocol::time::UnixMs;

fn emergency(gate: &mut TestGate, active: bool, now: Now) -> Option<u32> {
    let written = block_on(gate.emergency(active, now)).unwrap();
    idle(gate);
    written
}

fn recorded(host: &mut Host, gate: &mut TestGate) -> Vec<(u32, Emergency)> {
    let store = journal(host, gate);
    let found = store.entries.values().filter_map(|sealed| {
        host.open(sealed, |header, entry| match entry {
            Entry::Emergency(emergency) => Some((header.sequence, *emergency)),
            _ => None,
        })
    });
    found.collect()
}

#[test]
fn each_change_of_the_input_is_journaled_once() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    assert!(!gate.in_emergency());
    assert_eq!(emergency(&mut gate, false, synchronised(MORNING)), None, "it was off");
    assert_eq!(emergency(&mut gate, true, synchronised(MORNING)), Some(1));
    assert_eq!(emergency(&mut gate, true, synchronised(MORNING + SECOND)), None);
    tap(&mut gate, &mut host.phone(1), MORNING + 2 * SECOND);
    assert!(gate.in_emergency());
    assert_eq!(emergency(&mut gate, false, synchronised(MORNING + 3 * SECOND)), Some(3));
    assert!(!gate.in_emergency());
    let clock = ClockQuality::Synchronised;
    let expected = [
        (1, Emergency { time: UnixMs(MORNING), clock, active: true }),
        (3, Emergency { time: UnixMs(MORNING + 3 * SECOND), clock, active: false }),
    ];
    assert_eq!(recorded(&mut host, &mut gate), expected);
}

#[test]
fn an_emergency_outlives_a_restart_and_the_pages_it_was_written_on() {
    let mut host = Host::new();
    let chip = Chip::new(4);
    let mut gate = working_gate(&mut host, &chip);
    emergency(&mut gate, true, synchronised(MORNING));
    gate = start(&chip).unwrap();
    assert!(gate.in_emergency());
    for n in 0..60 {
        tap(&mut gate, &mut host.phone(n), MORNING + u64::from(n) * SECOND);
        let upto = gate.next_sequence() - 1;
        let mut line = host.connect(&mut gate);
        line.hear(&mut gate);
        line.acknowledge(&mut gate, upto);
        idle(&mut gate);
    }
    assert_eq!(recorded(&mut host, &mut gate), [], "the ring has gone round");
    gate = start(&chip).unwrap();
    assert!(gate.in_emergency());
    assert!(emergency(&mut gate, false, synchronised(MORNING + 100 * SECOND)).is_some());
    gate = start(&chip).unwrap();
    assert!(!gate.in_emergency());
}

#[test]
fn an_emergency_is_recorded_without_a_clock_and_without_lists() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    commission(&chip, &host.provisioning()).unwrap();
    let mut gate = start(&chip).unwrap();
    let unset = Now { time: UnixMs(17), quality: ClockQuality::Unset };
    assert_eq!(gate.ready(unset), Err(Reason::ClockUnset));
    assert_eq!(gate.ready(synchronised(MORNING)), Err(Reason::OutOfService), "it has no configuration");
    assert_eq!(emergency(&mut gate, true, unset), Some(1));
    let written = Emergency { time: UnixMs(17), clock: ClockQuality::Unset, active: true };
    assert_eq!(recorded(&mut host, &mut gate), [(1, written)]);
    host.send_all_lists(&mut gate);
    assert_eq!(gate.ready(synchronised(MORNING)), Ok(()));
}

#[test]
fn a_full_journal_keeps_the_change_for_later_and_burns_no_keys() {
    let mut host = Host::new();
    let chip = Chip::new(4);
    let mut gate = working_gate(&mut host, &chip);
    let mut n = 0;
    while emergency(&mut gate, n % 2 == 0, synchronised(MORNING + n * SECOND)).is_some() {
        n += 1;
    }
    let next = gate.next_sequence();
    let (missing, content) = (n % 2 == 0, chip.content());
    for _ in 0..5 {
        assert_eq!(emergency(&mut gate, missing, synchronised(MORNING + n * SECOND)), None);
    }
    assert_eq!((gate.in_emergency(), chip.content()), (!missing, content));
    let mut line = host.connect(&mut gate);
    line.hear(&mut gate);
    line.acknowledge(&mut gate, next - 1);
    idle(&mut gate);
    assert_eq!(emergency(&mut gate, missing, synchronised(MORNING + n * SECOND)), Some(next));
}
