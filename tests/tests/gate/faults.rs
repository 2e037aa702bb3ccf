//! What a payment terminal must live with: the emergency input, a panic, a loop that hangs, a flash that is gone.

use crate::common::{GATE, alone, present, stored, town};
use city::world::Kind;
use serde_json::Value;
use wavepass_protocol::tap::Outcome;
use wavepass_tests::qemu::{QemuGate, Shown};

#[test]
fn the_emergency_input_opens_the_barrier_by_itself_and_the_period_is_journaled() {
    let _alone = alone();
    let root = tempfile::tempdir().unwrap();
    let town = town(root.path(), 100, 31);
    let folder = town.add_gate(GATE).unwrap();
    let mut gate = QemuGate::power_up(&folder, town.gateway.addresses(), 1).unwrap();
    gate.wait_for(|shown| *shown == Shown::Ready);
    gate.press(b'E').unwrap();
    gate.wait_for(|shown| *shown == Shown::Barrier(true));
    gate.wait_for(|shown| *shown == Shown::Emergency);
    town.wait_gate(GATE, |g| g["acknowledged"] == 1).unwrap();
    // The input goes off while there is no power: the period ends when the gate starts again.
    gate.cut().unwrap();
    let mut gate = QemuGate::power_up(&folder, town.gateway.addresses(), 2).unwrap();
    gate.wait_for(|shown| *shown == Shown::Ready);
    town.wait_gate(GATE, |g| g["next"] == 3).unwrap();
    // On and off again, with power.
    gate.press(b'E').unwrap();
    gate.wait_for(|shown| *shown == Shown::Barrier(true));
    gate.wait_for(|shown| *shown == Shown::Emergency);
    gate.press(b'e').unwrap();
    gate.wait_for(|shown| *shown == Shown::Barrier(false));
    gate.wait_for(|shown| *shown == Shown::Ready);
    let phone = town.cards.iter().find(|c| c.0 == Kind::Phone).unwrap();
    let shown = present(&mut gate, vec![Box::new(phone.1.clone())], Some(Outcome::Passed));
    assert_eq!(shown, Shown::Open(5, false), "both ends of both periods are entries");
    town.wait_gate(GATE, |g| g["acknowledged"] == 6).unwrap();
    let (entries, _) = stored(&town);
    assert_eq!(entries, [(1, 3), (2, 3), (3, 3), (4, 3), (5, 1), (6, 2)]);
}

fn panic_of(gate: &Value) -> Option<&str> {
    gate["health"]["panic"].as_str()
}

#[test]
fn a_panic_and_a_hanging_loop_end_in_a_gate_that_works_and_says_why_it_started_again() {
    let _alone = alone();
    let root = tempfile::tempdir().unwrap();
    let town = town(root.path(), 100, 32);
    let folder = town.add_gate(GATE).unwrap();
    let mut gate = QemuGate::power_up(&folder, town.gateway.addresses(), 1).unwrap();
    gate.wait_for(|shown| *shown == Shown::Ready);
    let mut phones = town.cards.iter().filter(|c| c.0 == Kind::Phone);
    for (input, why) in [(b'X', "the panel asked for it"), (b'W', "watchdog")] {
        gate.press(input).unwrap();
        let told = town.wait_gate(GATE, |g| panic_of(g).is_some_and(|panic| panic.contains(why))).unwrap();
        assert_eq!(told["connected"], true);
        gate.wait_for(|shown| *shown == Shown::Ready);
        let card = Box::new(phones.next().unwrap().1.clone());
        assert!(matches!(present(&mut gate, vec![card], None), Shown::Open(_, false)), "after {why}");
    }
}

#[test]
fn a_gate_without_its_flash_or_its_identity_opens_for_nobody() {
    let _alone = alone();
    let root = tempfile::tempdir().unwrap();
    let town = town(root.path(), 100, 33);
    let folder = town.add_gate(GATE).unwrap();
    std::fs::remove_file(folder.join("gate.wpg")).unwrap();
    let mut gate = QemuGate::power_up(&folder, town.gateway.addresses(), 1).unwrap();
    gate.wait_for(|shown| *shown == Shown::OutOfService);
    let phone = town.cards.iter().find(|c| c.0 == Kind::Phone).unwrap();
    gate.chip.present(Box::new(phone.1.clone()));
    assert_eq!(gate.shown(std::time::Duration::from_secs(2)), None, "nothing more is shown");
    drop(gate);
    std::fs::remove_file(folder.join("flash.bin")).unwrap();
    let mut gate = QemuGate::power_up(&folder, town.gateway.addresses(), 1).unwrap();
    gate.wait_for(|shown| *shown == Shown::OutOfService);
}
