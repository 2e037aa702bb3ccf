//! Who is not the host, and what is not its next frame, changes nothing at the gate; and what the host did not
//! acknowledge is sent until it does.

use crate::common::{
    self, Chip, Heard, Host, Line, MORNING, SECOND, TestGate, idle, start, tap, version, versions_in_force,
    welcome, working_gate,
};
use wavepass_gate::{Health, LinkState, Trouble};
use wavepass_journal::sim::block_on;
use wavepass_protocol::dukpt::KeyId;
use wavepass_protocol::link::{FromGate, FromHost, LinkError, LinkKey, MAX_FRAME, MAX_PANIC, MAX_PART, Side};
use wavepass_protocol::lists::Kind;
use wavepass_protocol::time::UnixMs;

/// A gate that has let five riders in, of whom the host has acknowledged two.
fn gate_with_taps(host: &mut Host, chip: &Chip) -> TestGate {
    let mut gate = working_gate(host, chip);
    for n in 0..5 {
        tap(&mut gate, &mut host.phone(n), MORNING + u64::from(n) * SECOND);
    }
    let mut line = host.connect(&mut gate);
    line.hear(&mut gate);
    line.acknowledge(&mut gate, 2);
    assert_eq!(gate.acknowledged(), 2);
    gate
}

fn sequences(host: &Host, heard: &[Heard]) -> Vec<u32> {
    let entries = heard.iter().filter_map(|h| match h {
        Heard::Entry(sealed) => Some(host.open(sealed, |header, _| header.sequence)),
        _ => None,
    });
    entries.collect()
}

/// What a link may change at a gate.
fn state(gate: &TestGate, chip: &Chip) -> (u32, [u32; 4], Vec<u8>) {
    (gate.acknowledged(), versions_in_force(gate), chip.content())
}

#[test]
fn a_gate_says_first_what_it_holds_and_then_sends_what_is_not_acknowledged() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = gate_with_taps(&mut host, &chip);
    let mut line = host.connect(&mut gate);
    let heard = line.hear(&mut gate);
    let status = Heard::Status { oldest: 1, next: 6, acknowledged: 2, lists: versions_in_force(&gate) };
    assert_eq!(heard[0], status);
    assert_eq!(sequences(&host, &heard), [3, 4, 5]);
    assert_eq!(line.hear(&mut gate), [], "each is sent once");
    tap(&mut gate, &mut host.phone(9), MORNING + 60 * SECOND);
    assert_eq!(sequences(&host, &line.hear(&mut gate)), [6], "and a new one at once");
}

#[test]
fn the_latest_health_is_told_once_after_the_status_and_before_the_entries() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = gate_with_taps(&mut host, &chip);
    let mut line = host.connect(&mut gate);
    let panic = "x".repeat(MAX_PANIC);
    let health = Health {
        stack_used: 9_216,
        stack_bytes: 16_384,
        reader_recoveries: 2,
        uncounted_refusals: u32::MAX,
        trouble: None,
        panic: panic.as_str().try_into().unwrap(),
    };
    line.link.report(Health::default());
    line.link.report(Health { trouble: Some(Trouble::JournalLost), ..health.clone() });
    let heard = line.hear(&mut gate);
    assert!(matches!(heard[0], Heard::Status { .. }));
    assert_eq!(heard[1], Heard::Health(health, "journal_lost".to_owned()));
    assert_eq!(sequences(&host, &heard[2..]), [3, 4, 5]);
    assert_eq!(line.hear(&mut gate), []);
}

#[test]
fn after_a_break_of_the_line_each_entry_is_sent_again_until_it_is_acknowledged() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = gate_with_taps(&mut host, &chip);
    for _ in 0..3 {
        let mut line = host.connect(&mut gate);
        assert_eq!(sequences(&host, &line.hear(&mut gate)), [3, 4, 5]);
    }
    let mut gate = start(&chip).unwrap();
    let mut line = host.connect(&mut gate);
    assert_eq!(sequences(&host, &line.hear(&mut gate)), [3, 4, 5], "a restart changes nothing of that");
    line.acknowledge(&mut gate, 5);
    let mut gate = start(&chip).unwrap();
    let mut line = host.connect(&mut gate);
    assert!(sequences(&host, &line.hear(&mut gate)).is_empty());
}

#[test]
fn an_acknowledgement_of_what_was_not_sent_is_ignored() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = gate_with_taps(&mut host, &chip);
    let before = state(&gate, &chip);
    let mut line = host.connect(&mut gate);
    line.acknowledge(&mut gate, 3);
    assert_eq!(state(&gate, &chip), before, "nothing has been sent on this link yet");
    line.hear(&mut gate);
    for upto in [6, 1_000, u32::MAX] {
        line.acknowledge(&mut gate, upto);
        assert_eq!(state(&gate, &chip), before, "up to {upto}");
    }
    line.acknowledge(&mut gate, 4);
    assert_eq!(gate.acknowledged(), 4);
    line.acknowledge(&mut gate, 3);
    assert_eq!(gate.acknowledged(), 4, "it never goes back");
}

#[test]
fn an_acknowledgement_of_another_key_id_is_ignored() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = gate_with_taps(&mut host, &chip);
    let before = state(&gate, &chip);
    let mut line = host.connect(&mut gate);
    line.hear(&mut gate);
    line.say(&mut gate, &FromHost::Acknowledge { key_id: KeyId([9; 8]), upto: 4 });
    assert_eq!(state(&gate, &chip), before);
}

#[test]
fn a_host_may_ask_again_for_what_it_has_acknowledged() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = gate_with_taps(&mut host, &chip);
    let mut line = host.connect(&mut gate);
    let first = line.hear(&mut gate);
    line.resend(&mut gate, 1);
    let again = line.hear(&mut gate);
    assert_eq!(sequences(&host, &again), [1, 2, 3, 4, 5]);
    assert_eq!(first[1..], again[2..], "the same bytes");
    line.resend(&mut gate, 4);
    assert_eq!(sequences(&host, &line.hear(&mut gate)), [4, 5]);
    line.resend(&mut gate, 77);
    assert_eq!(line.hear(&mut gate), [], "what is not there yet comes when it is");
}

#[test]
fn what_is_gone_is_said_to_be_lost() {
    let mut host = Host::new();
    let chip = Chip::new(4);
    let mut gate = working_gate(&mut host, &chip);
    let mut line = host.connect(&mut gate);
    for n in 0..60 {
        tap(&mut gate, &mut host.phone(n), MORNING + u64::from(n) * SECOND);
        line.hear(&mut gate);
        line.acknowledge(&mut gate, n);
        idle(&mut gate);
    }
    let mut line = host.connect(&mut gate);
    let Heard::Status { oldest, next, .. } = line.hear(&mut gate)[0] else { panic!("a status first") };
    assert!(oldest > 5, "the ring has gone round");
    line.resend(&mut gate, 2);
    let heard = line.hear(&mut gate);
    assert_eq!(heard[0], Heard::Lost { from: 2, upto: oldest - 1 });
    assert_eq!(sequences(&host, &heard), (oldest..next).collect::<Vec<_>>());
}

#[test]
fn no_more_than_a_window_is_on_its_way_unacknowledged() {
    let mut host = Host::new();
    let chip = Chip::new(32);
    let mut gate = working_gate(&mut host, &chip);
    for _ in 0..300 {
        common::passage(&mut gate, 1, wavepass_protocol::tap::Outcome::Unknown, MORNING).unwrap();
        idle(&mut gate);
    }
    let mut line = host.connect(&mut gate);
    assert_eq!(sequences(&host, &line.hear(&mut gate)), (1..=256).collect::<Vec<_>>());
    line.acknowledge(&mut gate, 256);
    assert_eq!(sequences(&host, &line.hear(&mut gate)), (257..=300).collect::<Vec<_>>());
}

/// Every message that could change something at a gate.
fn messages<'a>(host: &Host, list: &'a [u8]) -> Vec<FromHost<'a>> {
    vec![
        FromHost::Acknowledge { key_id: host.key_id, upto: 5 },
        FromHost::Time { now: UnixMs(1) },
        FromHost::ListPart {
            kind: Kind::Deny,
            version: version(9),
            total: list.len() as u32,
            offset: 0,
            part: list,
        },
    ]
}

/// After a frame that is none of the host's, the gate is as before, and stays deaf to the rest of the link.
fn assert_ended(gate: &mut TestGate, chip: &Chip, line: &mut Line, bad: &[u8], why: LinkError, good: &[u8]) {
    let before = state(gate, chip);
    assert_eq!(line.feed(gate, bad), Err(why));
    assert_eq!(line.feed(gate, good), Err(why), "a link that has ended stays so");
    assert_eq!(line.link.take_host_time(), None);
    assert_eq!(line.hear(gate), []);
    assert!(state(gate, chip) == before, "{why} changed something");
}

#[test]
fn an_altered_frame_ends_the_link_and_changes_nothing() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = gate_with_taps(&mut host, &chip);
    let deny = host.deny(&[1]);
    let list = host.list(Kind::Deny, version(9), &deny);
    for message in messages(&host, &list) {
        let mut line = host.connect(&mut gate);
        line.hear(&mut gate);
        let good = line.frame(&message);
        let raw = common::frames(&good).remove(0);
        for at in (1..raw.len()).step_by(1 + raw.len() / 40) {
            let mut line = host.connect(&mut gate);
            line.hear(&mut gate);
            let good = line.frame(&message);
            let mut raw = common::frames(&good).remove(0);
            raw[at] ^= 0x10;
            let mut bad = vec![0; MAX_FRAME];
            let len = cobs::encode(&raw, &mut bad);
            bad.truncate(len + 1);
            assert_ended(&mut gate, &chip, &mut line, &bad, LinkError::Mac, &good);
        }
    }
}

#[test]
fn a_forged_frame_ends_the_link_and_changes_nothing() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = gate_with_taps(&mut host, &chip);
    let deny = host.deny(&[1]);
    let list = host.list(Kind::Deny, version(9), &deny);
    for message in messages(&host, &list) {
        let mut line = host.connect(&mut gate);
        line.hear(&mut gate);
        let mut forger = LinkKey::new([0x66; 16]).session(Side::Host, host.gate_id, &[1; 16], &[2; 16]);
        let bad = forger.send(&message, &mut [0; MAX_FRAME]).unwrap().to_vec();
        let good = line.frame(&message);
        assert_ended(&mut gate, &chip, &mut line, &bad, LinkError::Mac, &good);

        // In the clear, as if a session needed no proof.
        let mut line = host.connect(&mut gate);
        line.hear(&mut gate);
        let bad = wavepass_protocol::link::send_clear(&message, &mut [0; MAX_FRAME]).unwrap().to_vec();
        let good = line.frame(&message);
        let why = if bad.len() < 24 { LinkError::Framing } else { LinkError::Form };
        assert_ended(&mut gate, &chip, &mut line, &bad, why, &good);
    }
}

#[test]
fn a_replayed_frame_ends_the_link_and_changes_nothing() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = gate_with_taps(&mut host, &chip);
    let mut line = host.connect(&mut gate);
    line.hear(&mut gate);
    let time = line.frame(&FromHost::Time { now: UnixMs(MORNING) });
    assert_eq!(line.feed(&mut gate, &time), Ok(()));
    assert_eq!(line.link.take_host_time(), Some(UnixMs(MORNING)));
    let good = line.frame(&FromHost::Acknowledge { key_id: host.key_id, upto: 5 });
    let why = LinkError::Counter { expected: 2, found: 1 };
    assert_ended(&mut gate, &chip, &mut line, &time, why, &good);

    // Frames of this link are none of the next, whatever their counter.
    let mut next = host.connect(&mut gate);
    next.hear(&mut gate);
    let good = next.frame(&FromHost::Time { now: UnixMs(MORNING) });
    assert_ended(&mut gate, &chip, &mut next, &time, LinkError::Mac, &good);
}

#[test]
fn a_reordered_frame_ends_the_link_and_changes_nothing() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = gate_with_taps(&mut host, &chip);
    let mut line = host.connect(&mut gate);
    line.hear(&mut gate);
    let first = line.frame(&FromHost::Time { now: UnixMs(MORNING) });
    let second = line.frame(&FromHost::Acknowledge { key_id: host.key_id, upto: 5 });
    let why = LinkError::Counter { expected: 1, found: 2 };
    assert_ended(&mut gate, &chip, &mut line, &second, why, &first);
}

#[test]
fn a_reflected_frame_ends_the_link_and_changes_nothing() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = gate_with_taps(&mut host, &chip);
    let mut line = host.connect(&mut gate);
    let mut out = [0; MAX_FRAME];
    let own = block_on(gate.link_next(&mut line.link, &mut out)).unwrap().unwrap().to_vec();
    let good = line.frame(&FromHost::Time { now: UnixMs(MORNING) });
    assert_ended(&mut gate, &chip, &mut line, &own, LinkError::Mac, &good);
}

#[test]
fn what_came_before_a_forged_frame_in_the_same_bytes_counts_and_what_came_after_does_not() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = gate_with_taps(&mut host, &chip);
    let mut line = host.connect(&mut gate);
    line.hear(&mut gate);
    let first = line.frame(&FromHost::Acknowledge { key_id: host.key_id, upto: 3 });
    let after = line.frame(&FromHost::Acknowledge { key_id: host.key_id, upto: 5 });
    let bytes = [&first[..], &first, &after].concat();
    assert_eq!(line.feed(&mut gate, &bytes), Err(LinkError::Counter { expected: 2, found: 1 }));
    assert_eq!(gate.acknowledged(), 3);
}

#[test]
fn noise_and_endless_frames_end_the_link() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = gate_with_taps(&mut host, &chip);
    let endless = [vec![0x55; 4 * MAX_FRAME], vec![0]].concat();
    for (bytes, why) in [
        (endless, LinkError::TooLong),
        (vec![0x09, 0x01, 0], LinkError::Framing),
        (vec![0x02, 0x01, 0], LinkError::Framing),
    ] {
        let mut line = host.connect(&mut gate);
        line.hear(&mut gate);
        let good = line.frame(&FromHost::Time { now: UnixMs(MORNING) });
        assert_ended(&mut gate, &chip, &mut line, &bytes, why, &good);
    }
}

#[test]
fn a_second_welcome_ends_the_link() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = gate_with_taps(&mut host, &chip);
    let mut line = host.connect(&mut gate);
    line.hear(&mut gate);
    let bad = line.frame(&FromHost::Welcome { nonce: [0; 16], proof: [0; 16] });
    let good = line.frame(&FromHost::Time { now: UnixMs(MORNING) });
    assert_ended(&mut gate, &chip, &mut line, &bad, LinkError::Unexpected, &good);
}

#[test]
fn a_host_without_the_link_key_learns_nothing_but_the_hello() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = gate_with_taps(&mut host, &chip);
    let before = state(&gate, &chip);
    let (mut link, gate_nonce) = Line::greet(&mut host, &mut gate);
    let nonce = [3; 16];
    let proof = LinkKey::new([0x66; 16]).proof(host.gate_id, &gate_nonce, &nonce);
    let false_welcome = FromHost::Welcome { nonce, proof };
    assert_eq!(welcome(&mut gate, &mut link, &false_welcome), Err(LinkError::Proof));
    assert_eq!(block_on(gate.link_next(&mut link, &mut [0; MAX_FRAME])), Ok(None));
    let proof = host.link_key().proof(host.gate_id, &gate_nonce, &nonce);
    let right = FromHost::Welcome { nonce, proof };
    assert_eq!(welcome(&mut gate, &mut link, &right), Err(LinkError::Proof), "it has ended");
    assert_ne!(link.state(), LinkState::Open);
    assert!(state(&gate, &chip) == before);
}

#[test]
fn a_recorded_welcome_does_not_open_another_link() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = gate_with_taps(&mut host, &chip);
    let (mut link, gate_nonce) = Line::greet(&mut host, &mut gate);
    let nonce = [3; 16];
    let proof = host.link_key().proof(host.gate_id, &gate_nonce, &nonce);
    let recorded = FromHost::Welcome { nonce, proof };
    assert_eq!(welcome(&mut gate, &mut link, &recorded), Ok(()));
    let (mut link, _) = Line::greet(&mut host, &mut gate);
    assert_eq!(welcome(&mut gate, &mut link, &recorded), Err(LinkError::Proof));
}

#[test]
fn an_authenticated_frame_before_the_welcome_ends_the_link() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = gate_with_taps(&mut host, &chip);
    let before = state(&gate, &chip);
    let (mut link, gate_nonce) = Line::greet(&mut host, &mut gate);
    let mut session = host.link_key().session(Side::Host, host.gate_id, &gate_nonce, &[3; 16]);
    let message = FromHost::Acknowledge { key_id: host.key_id, upto: 5 };
    let early = session.send(&message, &mut [0; MAX_FRAME]).unwrap().to_vec();
    assert_eq!(block_on(gate.link_receive(&mut link, &early)), Ok(Err(LinkError::Form)));
    assert!(state(&gate, &chip) == before);
}

#[test]
fn a_gate_that_the_host_does_not_serve_sends_nothing() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = gate_with_taps(&mut host, &chip);
    let before = state(&gate, &chip);
    let (mut link, _) = Line::greet(&mut host, &mut gate);
    assert_eq!(welcome(&mut gate, &mut link, &FromHost::Unknown), Ok(()));
    assert_eq!(link.state(), LinkState::Unknown);
    assert_eq!(block_on(gate.link_next(&mut link, &mut [0; MAX_FRAME])), Ok(None));
    assert!(state(&gate, &chip) == before);
}

#[test]
fn the_gate_proves_itself_with_its_first_frame() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = gate_with_taps(&mut host, &chip);
    let mut line = host.connect(&mut gate);
    let mut out = [0; MAX_FRAME];
    let first = block_on(gate.link_next(&mut line.link, &mut out)).unwrap().unwrap();
    let raw = common::frames(first).remove(0);
    let mut stranger = LinkKey::new([0x66; 16]).session(Side::Host, host.gate_id, &[1; 16], &[2; 16]);
    assert_eq!(stranger.receive::<FromGate<'_>>(&raw).err(), Some(LinkError::Mac));
    assert!(matches!(line.session.receive(&raw), Ok(FromGate::Status { .. })));
}

#[test]
fn a_list_whose_part_is_forged_never_comes_into_force() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = gate_with_taps(&mut host, &chip);
    let deny = host.deny(&(0..300).collect::<Vec<_>>());
    let list = host.list(Kind::Deny, version(9), &deny);
    assert!(list.len() > 2 * MAX_PART);
    let mut line = host.connect(&mut gate);
    line.hear(&mut gate);
    let mut parts = line.list_frames(Kind::Deny, version(9), &list);
    let before = versions_in_force(&gate);
    let middle = parts[1].len() / 2;
    parts[1][middle] ^= 0x02;
    assert_eq!(line.feed(&mut gate, &parts[0]), Ok(()));
    assert_eq!(line.feed(&mut gate, &parts[1]), Err(LinkError::Mac));
    for part in &parts[2..] {
        assert_eq!(line.feed(&mut gate, part), Err(LinkError::Mac));
    }
    assert_eq!(versions_in_force(&gate), before);
    // The next link sends it from the beginning.
    let mut line = host.connect(&mut gate);
    line.hear(&mut gate);
    line.send_list(&mut gate, Kind::Deny, version(9), &list);
    assert_eq!(gate.version(Kind::Deny), version(9));
}
