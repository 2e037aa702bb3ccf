//! Cards that are timed: the gate measures the exchange by its contact's clock.

use crate::common::*;
use wavepass_hce::faults::Fault;
use wavepass_journal::sim::block_on;
use wavepass_protocol::lists::{GateConfig, RelayLimits};
use wavepass_protocol::tap::{Decision, Reason};

#[test]
fn a_relayed_phone_is_refused_once_the_configuration_times_cards_and_one_at_hand_opens() {
    let mut host = Host::new();
    let chip = Chip::new(4);
    let mut gate = working_gate(&mut host, &chip);
    let far = |host: &Host, n| phone(&host.phone_file(n).with_fault(Fault::Relay { delay_us: 20_000 }));
    assert_eq!(tap(&mut gate, &mut far(&host, 1), MORNING).decision, Decision::Open, "nobody measures");
    // The contact of these tests takes 1 ms for an exchange.
    let relay = Some(RelayLimits { overhead_us: 1_000, grace_us: 200, cap_us: 10_000 });
    assert!(host.configure(&mut gate, &GateConfig { relay, ..config() }));
    assert_eq!(tap(&mut gate, &mut host.phone(2), MORNING + SECOND).decision, Decision::Open);
    let mut phone = far(&host, 3);
    let mut field = InField::new(&mut phone);
    let now = synchronised(MORNING + 2 * SECOND);
    let relayed = block_on(gate.present(&mut field, now, [1, 2, 3, 4])).unwrap();
    assert_eq!(relayed.decision, refused(Reason::RelaySuspected));
    assert!(relayed.sequence.is_some(), "the host is told");
    let sent: Vec<&[u8]> =
        field.said.iter().map(|s| &s.0[..]).filter(|c| c[1] == 0xEA).map(|c| &c[5..9]).collect();
    let [first, second, third] = sent[..] else { panic!("{} tries", sent.len()) };
    assert_eq!(first, [1, 2, 3, 4]);
    assert!(first != second && second != third && third != first, "each try sends other bytes");
}
