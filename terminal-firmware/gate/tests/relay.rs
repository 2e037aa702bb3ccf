//! Cards that are timed: the gate measures the exchange by its contact's clock.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::*;
use wavepass_hce::faults::Fault;
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
    let relayed = tap(&mut gate, &mut far(&host, 3), MORNING + 2 * SECOND);
    assert_eq!(relayed.decision, refused(Reason::RelaySuspected));
    assert!(relayed.sequence.is_some(), "the host is told");
}
