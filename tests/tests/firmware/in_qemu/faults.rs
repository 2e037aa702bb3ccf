//! What a payment terminal must live with: the emergency input, a panic, a loop that hangs, a reader that does, a flash
//! that is gone or fails.

use crate::common::{GATE, deny, has_list, no_breaks, phone, present, stored, town, town_denying};
use city::world::Kind;
use serde_json::Value;
use std::time::Duration;
use wavepass_hce::card::Card;
use wavepass_hce::pn532::Switches;
use wavepass_protocol::tap::{Outcome, Reason};
use wavepass_tests::qemu::{Power, QemuGate, Shown, firmware_without_entropy};

#[test]
fn the_emergency_input_opens_the_barrier_by_itself_and_the_period_is_journaled() {
    let root = tempfile::tempdir().unwrap();
    let town = town(root.path(), 100, 31);
    let folder = town.add_gate(GATE).unwrap();
    let mut gate = QemuGate::power_up(&folder, town.gateway.addresses(), 1).unwrap();
    gate.wait_for(|shown| *shown == Shown::Ready);
    gate.press(b'E').unwrap();
    gate.wait_for(|shown| *shown == Shown::OpenedByInterrupt);
    gate.wait_for(|shown| *shown == Shown::Emergency);
    town.wait_gate(GATE, |g| g["acknowledged"] == 1).unwrap();
    // The input goes off while there is no power: the period ends when the gate starts again.
    gate.cut().unwrap();
    let mut gate = QemuGate::power_up(&folder, town.gateway.addresses(), 2).unwrap();
    gate.wait_for(|shown| *shown == Shown::Ready);
    town.wait_gate(GATE, |g| g["next"] == 3).unwrap();
    // On and off again, with power.
    gate.press(b'E').unwrap();
    gate.wait_for(|shown| *shown == Shown::OpenedByInterrupt);
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
    // Each switch has a time that the host can use.
    no_breaks(&town);
}

fn panic_of(gate: &Value) -> Option<&str> {
    gate["health"]["panic"].as_str()
}

#[test]
fn a_panic_and_a_hanging_loop_end_in_a_gate_that_works_and_says_why_it_started_again() {
    let root = tempfile::tempdir().unwrap();
    let town = town(root.path(), 100, 32);
    let folder = town.add_gate(GATE).unwrap();
    let mut phones = (0..).map(|n| phone(&town, n));
    let mut gate = QemuGate::power_up(&folder, town.gateway.addresses(), 1).unwrap();
    gate.wait_for(|shown| *shown == Shown::Ready);
    gate.cut().unwrap();
    // A second fault soon after the first, and one with interrupts off after power came anew.
    for (seed, faults) in
        [(1, &[(b'X', "the panel asked for it"), (b'W', "watchdog")][..]), (3, &[(b'I', "watchdog")])]
    {
        let mut gate = QemuGate::power_up(&folder, town.gateway.addresses(), seed).unwrap();
        assert_eq!(gate.wait_for(shows_state), Shown::Ready, "after power came it starts at once");
        for &(input, why) in faults {
            gate.press(input).unwrap();
            gate.wait_for(|shown| *shown == Shown::Started);
            // It waits before it wears the flash again, and obeys the emergency input meanwhile.
            let before = std::fs::read(folder.join("flash.bin")).unwrap();
            assert_eq!(gate.wait_for(shows_state), Shown::OutOfService, "after {why}");
            gate.press(b'E').unwrap();
            gate.wait_for(|shown| *shown == Shown::OpenedByInterrupt);
            gate.wait_for(|shown| *shown == Shown::Emergency);
            assert!(std::fs::read(folder.join("flash.bin")).unwrap() == before, "it started in an emergency");
            gate.press(b'e').unwrap();
            assert_eq!(gate.wait_for(shows_state), Shown::OutOfService, "after {why}");
            assert_eq!(gate.wait_for(shows_state), Shown::Ready, "after {why}");
            let told =
                town.wait_gate(GATE, |g| panic_of(g).is_some_and(|panic| panic.contains(why))).unwrap();
            assert_eq!(told["connected"], true);
            let opened = present(&mut gate, vec![phones.next().unwrap()], None);
            assert!(matches!(opened, Shown::Open(_, false)), "after {why}");
        }
        assert_eq!(gate.starts() as usize, 1 + faults.len());
    }
}

/// What the panel shows while nobody is at the gate.
fn shows_state(shown: &Shown) -> bool {
    matches!(shown, Shown::Ready | Shown::OutOfService)
}

#[test]
fn the_emergency_input_opens_out_of_service_and_while_the_loop_hangs() {
    let root = tempfile::tempdir().unwrap();
    let town = town(root.path(), 100, 34);
    let folder = town.add_gate(GATE).unwrap();
    let file = std::fs::read(folder.join("gate.wpg")).unwrap();
    std::fs::remove_file(folder.join("gate.wpg")).unwrap();
    let mut gate = QemuGate::power_up(&folder, town.gateway.addresses(), 1).unwrap();
    gate.wait_for(|shown| *shown == Shown::OutOfService);
    for _ in 0..2 {
        gate.press(b'E').unwrap();
        gate.wait_for(|shown| *shown == Shown::OpenedByInterrupt);
        gate.wait_for(|shown| *shown == Shown::Emergency);
        gate.press(b'e').unwrap();
        gate.wait_for(|shown| *shown == Shown::Barrier(false));
        gate.wait_for(|shown| *shown == Shown::OutOfService);
    }
    assert_eq!(gate.starts(), 1);
    drop(gate);

    std::fs::write(folder.join("gate.wpg"), file).unwrap();
    let mut gate = QemuGate::power_up(&folder, town.gateway.addresses(), 2).unwrap();
    gate.wait_for(|shown| *shown == Shown::Ready);
    // More than any buffer holds comes before the input does.
    gate.press(b'W').unwrap();
    for _ in 0..500 {
        gate.press(b'?').unwrap();
    }
    gate.press(b'E').unwrap();
    gate.wait_for(|shown| *shown == Shown::OpenedByInterrupt);
    assert_eq!(gate.shown(wavepass_tests::qemu::PATIENCE), Some(Shown::Started), "the loop did not hang");
    drop(gate);

    // A start that hangs: the watchdog runs already, and the input opens.
    let power = Power { hangs: true, ..Power::default() };
    let mut gate = QemuGate::power_up_with(&power, &folder, town.gateway.addresses(), 3).unwrap();
    gate.wait_for(|shown| *shown == Shown::Started);
    gate.press(b'E').unwrap();
    gate.wait_for(|shown| *shown == Shown::OpenedByInterrupt);
    gate.wait_for(|shown| *shown == Shown::Started);
    assert_eq!(gate.starts(), 2);
}

#[test]
fn a_gate_without_its_identity_or_its_entropy_opens_for_nobody_and_does_not_try_again() {
    let root = tempfile::tempdir().unwrap();
    let town = town(root.path(), 100, 33);
    let folder = town.add_gate(GATE).unwrap();
    let no_entropy = Power { firmware: firmware_without_entropy(), ..Power::default() };
    let no_identity = Power::default();
    for (power, why) in [(no_entropy, "no entropy"), (no_identity, "not commissioned")] {
        if why == "not commissioned" {
            std::fs::remove_file(folder.join("gate.wpg")).unwrap();
        }
        let mut gate = QemuGate::power_up_with(&power, &folder, town.gateway.addresses(), 1).unwrap();
        gate.wait_for(|shown| *shown == Shown::Stopped(why.to_owned()));
        gate.wait_for(|shown| *shown == Shown::OutOfService);
        gate.chip.present(phone(&town, 0));
        // Longer than the watchdog's time and the pause before another start.
        assert_eq!(gate.shown(Duration::from_secs(13)), None, "nothing more is shown");
        assert!(gate.is_running().unwrap());
        assert_eq!(gate.chip.counters().apdus, 0);
    }
}

#[test]
fn a_gate_whose_flash_was_gone_or_failed_starts_again_and_says_why() {
    let root = tempfile::tempdir().unwrap();
    let town = town(root.path(), 100, 35);
    let folder = town.add_gate(GATE).unwrap();
    let flash = folder.join("flash.bin");
    std::fs::remove_file(&flash).unwrap();
    let mut gate = QemuGate::power_up(&folder, town.gateway.addresses(), 1).unwrap();
    gate.wait_for(|shown| *shown == Shown::Stopped("no flash".to_owned()));
    gate.wait_for(|shown| *shown == Shown::OutOfService);
    wavepass_tests::qemu::blank_flash(&flash).unwrap();
    gate.wait_for(|shown| *shown == Shown::Ready);
    assert_eq!(gate.starts(), 2);
    town.wait_gate(GATE, |g| panic_of(g) == Some("stopped: no flash")).unwrap();

    // The file that is open loses its content, and has it back before the next start.
    let content = std::fs::read(&flash).unwrap();
    std::fs::File::options().write(true).open(&flash).unwrap().set_len(0).unwrap();
    gate.chip.present(phone(&town, 0));
    gate.wait_for(|shown| *shown == Shown::Stopped("the flash failed".to_owned()));
    gate.chip.remove();
    std::fs::write(&flash, content).unwrap();
    gate.wait_for(|shown| *shown == Shown::Ready);
    town.wait_gate(GATE, |g| panic_of(g) == Some("stopped: the flash failed")).unwrap();
    assert!(matches!(present(&mut gate, vec![phone(&town, 1)], None), Shown::Open(_, false)));
    assert_eq!(gate.starts(), 3);
}

#[test]
fn a_reader_that_never_answers_takes_the_loop_nothing_and_works_again_when_it_does() {
    let root = tempfile::tempdir().unwrap();
    let town = town(root.path(), 100, 36);
    let folder = town.add_gate(GATE).unwrap();
    let mut gate = QemuGate::power_up(&folder, town.gateway.addresses(), 1).unwrap();
    gate.wait_for(|shown| *shown == Shown::Ready);
    gate.chip.set_switches(Switches { never_answers: true, ..Switches::default() });
    // With a card in the field, too.
    gate.chip.present(phone(&town, 0));
    gate.wait_for(|shown| *shown == Shown::OutOfService);
    gate.press(b'E').unwrap();
    gate.wait_for(|shown| *shown == Shown::Emergency);
    gate.press(b'e').unwrap();
    gate.wait_for(|shown| *shown == Shown::OutOfService);
    // Told as soon as it changed, not with the next of the reports every ten minutes.
    town.wait_gate(GATE, |g| g["health"]["reader_recoveries"].as_u64() >= Some(3)).unwrap();
    gate.chip.remove();
    gate.chip.set_switches(Switches::default());
    gate.wait_for(|shown| *shown == Shown::Ready);
    assert!(matches!(present(&mut gate, vec![phone(&town, 1)], None), Shown::Open(_, false)));
    assert_eq!(gate.starts(), 1, "the gate was reset");
    let said = town.gate(GATE).unwrap().unwrap();
    assert_eq!(panic_of(&said), None, "{said}");
}

#[test]
fn a_gate_with_a_full_deny_list_starts_on_a_slow_flash_without_the_watchdog_and_uses_it() {
    let root = tempfile::tempdir().unwrap();
    let town = town_denying(root.path(), 100, 37, 100_000);
    let folder = town.add_gate(GATE).unwrap();
    let phones = town.cards.iter().enumerate().filter(|(_, c)| c.0 == Kind::Phone);
    let (listed, good) = (phones.clone().next().unwrap().0, phones.clone().nth(1).unwrap().0);
    let version = deny(&town, listed, true);
    let mut gate = QemuGate::power_up(&folder, town.gateway.addresses(), 1).unwrap();
    town.wait_gate(GATE, |g| has_list(g, version)).unwrap();
    gate.cut().unwrap();

    let power = Power { slow_flash: true, ..Power::default() };
    let mut gate = QemuGate::power_up_with(&power, &folder, town.gateway.addresses(), 2).unwrap();
    gate.wait_for(|shown| *shown == Shown::Ready);
    assert_eq!(gate.starts(), 1, "the watchdog ended the start");
    let card = |index: usize| -> Box<dyn Card + Send> { Box::new(town.cards[index].1.clone()) };
    let shown = present(&mut gate, vec![card(listed)], None);
    assert!(matches!(&shown, Shown::Refused(why, Some(_)) if why == Reason::Denied.word()), "{shown:?}");
    let shown = present(&mut gate, vec![card(good)], None);
    assert!(matches!(shown, Shown::Open(_, false)), "{shown:?}");
    let said = town.gate(GATE).unwrap().unwrap();
    assert_eq!(panic_of(&said), None, "{said}");
}
