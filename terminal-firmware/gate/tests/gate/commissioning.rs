//! A gate is commissioned once. A cut meanwhile leaves one that can be commissioned with the same file, or one that
//! has been; the initial key is never in flash.

use crate::common::{
    self, Chip, Failure, Host, MORNING, SECOND, commission, idle, journal, passage, start, synchronised, tap,
    try_tap, working_gate,
};
use wavepass_gate::{CommissionError, GateError};
use wavepass_protocol::provisioning::ProvisioningError;
use wavepass_protocol::tap::{Decision, Outcome, Reason};

fn holds(chip: &Chip, secret: &[u8]) -> bool {
    chip.content().windows(secret.len()).any(|w| w == secret)
}

fn assert_no_initial_key(host: &Host, chip: &Chip, place: &str) {
    assert!(!holds(chip, host.initial_key().bytes()), "{place}: the initial key is in flash");
    assert!(!holds(chip, &host.base_key), "{place}");
}

#[test]
fn a_gate_that_was_never_commissioned_does_not_start() {
    assert_eq!(start(&Chip::new(4)).err(), Some(GateError::NotCommissioned));
}

#[test]
fn a_commissioned_gate_knows_who_it_is_and_is_out_of_service_without_lists() {
    let host = Host::new();
    let chip = Chip::new(4);
    commission(&chip, &host.provisioning()).unwrap();
    let mut gate = start(&chip).unwrap();
    let identity = gate.identity();
    assert_eq!((identity.gate_id, identity.key_id), (host.gate_id, host.key_id));
    assert_eq!((identity.station.as_str(), identity.operator), ("Longxiangqiao", 7));
    let presented = tap(&mut gate, &mut host.phone(1), MORNING);
    assert_eq!(presented.decision, Decision::Refuse(Reason::OutOfService));
    assert_eq!((presented.sequence, gate.next_sequence()), (None, 1));
}

#[test]
fn a_second_commissioning_is_refused_and_changes_nothing() {
    let mut host = Host::new();
    let chip = Chip::new(4);
    commission(&chip, &host.provisioning()).unwrap();
    let fresh = chip.content();
    assert_eq!(commission(&chip, &host.provisioning()), Err(CommissionError::Already));
    assert!(chip.content() == fresh);

    let chip = Chip::new(4);
    let mut gate = working_gate(&mut host, &chip);
    tap(&mut gate, &mut host.phone(1), MORNING);
    drop(gate);
    let used = chip.content();
    let other = Host { gate_id: 1_002, ..Host::new() };
    assert_eq!(commission(&chip, &other.provisioning()), Err(CommissionError::Already));
    assert!(chip.content() == used);
    assert_eq!(start(&chip).unwrap().identity().gate_id, 1_001);
}

#[test]
fn a_gate_with_a_journal_or_used_keys_is_not_commissioned_though_its_identity_is_gone() {
    let mut host = Host::new();
    let chip = Chip::new(4);
    let mut gate = working_gate(&mut host, &chip);
    tap(&mut gate, &mut host.phone(1), MORNING);
    drop(gate);
    for kept in [common::Place::Journal, common::Place::Keys] {
        let mut areas = Chip::new(4).areas();
        match kept {
            common::Place::Journal => areas.journal = chip.area(kept),
            _ => areas.keys = chip.area(kept),
        }
        let again = wavepass_journal::sim::block_on(areas.commission(&host.provisioning()));
        assert_eq!(again, Err(CommissionError::Already), "{kept:?}");
    }
}

#[test]
fn a_damaged_provisioning_file_is_named_and_leaves_the_gate_blank() {
    let host = Host::new();
    let file = host.provisioning();
    let chip = Chip::new(4);
    let cases = [
        (&file[1..], ProvisioningError::Magic),
        (&file[..file.len() - 1], ProvisioningError::Body),
        (&[][..], ProvisioningError::Magic),
    ];
    for (damaged, why) in cases {
        assert_eq!(commission(&chip, damaged), Err(CommissionError::File(why)));
    }
    assert!(chip.content().iter().all(|&b| b == 0xFF));
}

#[test]
fn a_cut_while_commissioning_can_be_repeated() {
    let mut host = Host::new();
    let file = host.provisioning();
    let whole = Chip::new(4);
    commission(&whole, &file).unwrap();
    let words = whole.words();
    assert!(words > 200, "{words} words");
    for flips in [0, u64::MAX, 0x5A3C_0FF0_9669_1E87] {
        for after in 0..words {
            let place = format!("cut after word {after}, flips {flips:x}");
            let chip = Chip::new(4);
            chip.cut(after, flips);
            assert!(commission(&chip, &file).is_err(), "{place}");
            assert!(chip.power_on());
            assert_no_initial_key(&host, &chip, &place);
            let started: Result<_, Failure> = start(&chip);
            match started {
                Err(GateError::NotCommissioned) => {
                    commission(&chip, &file).unwrap_or_else(|e| panic!("{place}: {e:?}"));
                }
                Err(why) => panic!("{place}: {why:?}"),
                Ok(gate) => {
                    drop(gate);
                    assert_eq!(commission(&chip, &file), Err(CommissionError::Already), "{place}");
                }
            }
            assert_no_initial_key(&host, &chip, &place);
            // What it seals opens at the host, from the first entry on.
            let mut gate = start(&chip).unwrap();
            for n in 1..=3 {
                assert_eq!(passage(&mut gate, 1, Outcome::Unknown, MORNING), Some(n), "{place}");
                idle(&mut gate);
            }
            assert_eq!(journal(&mut host, &mut gate).entries.len(), 3, "{place}");
        }
    }
}

#[test]
fn the_initial_key_is_not_in_the_flash_of_a_working_gate() {
    let mut host = Host::new();
    let chip = Chip::new(4);
    let mut gate = working_gate(&mut host, &chip);
    for n in 0..20 {
        try_tap(&mut gate, &mut host.phone(n), synchronised(MORNING + u64::from(n) * SECOND)).unwrap();
        idle(&mut gate);
        assert_no_initial_key(&host, &chip, "at work");
    }
}
