//! What a gate cannot work with: lists that are missing or went back, a journal that was erased, keys that are gone. It
//! opens for nobody, says why, and still sends what it has.

use crate::common::{
    Chip, Heard, Host, MORNING, Place, SECOND, TestGate, commission, config, decide, encode, idle, journal,
    last_day, passage, phone, refused, start, synchronised, tap, try_tap, version, working_gate,
};
use embedded_storage_async::nor_flash::{NorFlash, ReadNorFlash};
use wavepass_gate::Trouble;
use wavepass_hce::faults::{Broken, Fault};
use wavepass_journal::keylog::KeyLog;
use wavepass_journal::sim::block_on;
use wavepass_protocol::dukpt::DukptError;
use wavepass_protocol::lists::{Kind, ListError};
use wavepass_protocol::seal::Sealed;
use wavepass_protocol::tap::{Decision, Outcome, Reason};

/// Erases an area, as somebody with a programmer does.
fn erase(chip: &Chip, place: Place) {
    let mut area = chip.area(place);
    let end = area.capacity() as u32;
    block_on(area.erase(0, end)).unwrap();
}

/// Puts back what an area held before.
fn put_back(chip: &Chip, place: Place, bytes: &[u8]) {
    erase(chip, place);
    block_on(chip.area(place).write(0, bytes)).unwrap();
}

/// The gate opens for nobody, whoever comes.
fn opens_for_nobody(gate: &mut TestGate, host: &Host, reason: Reason) {
    let at = MORNING + 1_000 * SECOND;
    let presented = try_tap(gate, &mut host.phone(77), synchronised(at)).unwrap();
    assert_eq!((presented.decision, presented.sequence), (refused(reason), None));
    assert_eq!(gate.ready(synchronised(at)), Err(reason));
}

#[test]
fn without_a_deny_list_or_revocations_a_gate_opens_for_nobody_until_it_has_them() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    commission(&chip, &host.provisioning()).unwrap();
    let mut gate = start(&chip).unwrap();
    let steps = [
        (Kind::Config, encode(&config()), Err(Reason::ListStale)),
        (Kind::CaKeys, host.ca_keys(last_day(2040)), Err(Reason::ListStale)),
        (Kind::Deny, host.deny(&[]), Err(Reason::ListStale)),
        (Kind::Revocations, vec![], Ok(())),
    ];
    assert_eq!(gate.ready(synchronised(MORNING)), Err(Reason::OutOfService));
    for (kind, content, ready) in steps {
        host.send_list(&mut gate, kind, &content);
        assert_eq!(gate.ready(synchronised(MORNING)), ready, "after {kind:?}");
    }
    assert_eq!(decide(&mut gate, &mut host.phone(1), MORNING), Decision::Open);
}

#[test]
fn a_deny_list_or_revocations_that_became_unreadable_close_the_gate_until_they_are_sent_again() {
    for (place, kind) in [(Place::Deny, Kind::Deny), (Place::Revocations, Kind::Revocations)] {
        let mut host = Host::new();
        let chip = Chip::new(8);
        drop(working_gate(&mut host, &chip));
        erase(&chip, place);
        let mut gate = start(&chip).unwrap();
        opens_for_nobody(&mut gate, &host, Reason::ListStale);
        // The same issue again, for the gate has none now.
        let content = if kind == Kind::Deny { host.deny(&[]) } else { vec![] };
        let again = host.list(kind, version(1), &content);
        let mut line = host.connect(&mut gate);
        line.hear(&mut gate);
        line.send_list(&mut gate, kind, version(1), &again);
        assert_eq!(decide(&mut gate, &mut host.phone(1), MORNING), Decision::Open, "{kind:?}");
    }
}

#[test]
fn a_deny_list_that_rots_while_the_gate_runs_is_none_any_more_and_is_sent_again() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    let deny = host.deny(&[1]);
    host.send_list(&mut gate, Kind::Deny, &deny);
    erase(&chip, Place::Deny);
    assert_eq!(decide(&mut gate, &mut host.phone(1), MORNING), refused(Reason::OutOfService));
    opens_for_nobody(&mut gate, &host, Reason::ListStale);
    let mut line = host.connect(&mut gate);
    let told = line.hear(&mut gate);
    assert!(matches!(told[0], Heard::Status { lists: [0, 1, 1, 1], .. }), "{told:?}");
    let again = host.list(Kind::Deny, version(2), &deny);
    line.send_list(&mut gate, Kind::Deny, version(2), &again);
    assert_eq!(decide(&mut gate, &mut host.phone(1), MORNING + SECOND), refused(Reason::Denied));
    assert_eq!(decide(&mut gate, &mut host.phone(2), MORNING + SECOND), Decision::Open);
}

#[test]
fn a_list_that_was_put_back_is_not_in_force_and_cannot_be_sent_again_either() {
    let places = [
        (Place::CaKeys, Kind::CaKeys),
        (Place::Revocations, Kind::Revocations),
        (Place::Config, Kind::Config),
    ];
    for (place, kind) in places {
        let mut host = Host::new();
        let chip = Chip::new(8);
        let mut gate = working_gate(&mut host, &chip);
        let content = match kind {
            Kind::CaKeys => host.ca_keys(last_day(2040)),
            Kind::Revocations => vec![],
            _ => encode(&config()),
        };
        let (old, old_list) = (chip.content_of(place), host.list(kind, version(1), &content));
        host.send_list(&mut gate, kind, &content);
        idle(&mut gate);
        drop(gate);
        put_back(&chip, place, &old);

        let mut gate = start(&chip).unwrap();
        assert_eq!(gate.version(kind), Default::default(), "{kind:?}");
        assert_ne!(decide(&mut gate, &mut host.phone(1), MORNING), Decision::Open, "{kind:?}");
        let mut line = host.connect(&mut gate);
        line.hear(&mut gate);
        let said = line.send_list(&mut gate, kind, version(1), &old_list);
        assert_eq!(said, [Heard::ListRefused(kind, version(1), ListError::Older)]);
        let newest = host.list(kind, version(2), &content);
        line.send_list(&mut gate, kind, version(2), &newest);
        assert_eq!(decide(&mut gate, &mut host.phone(1), MORNING + SECOND), Decision::Open, "{kind:?}");
    }
}

#[test]
fn a_deny_list_that_was_put_back_is_noticed_after_a_new_epoch_or_so_many_issues() {
    for newer in [wavepass_protocol::lists::Version { epoch: 2, version: 1 }, version(300)] {
        let mut host = Host::new();
        let chip = Chip::new(8);
        let mut gate = working_gate(&mut host, &chip);
        let old = chip.content_of(Place::Deny);
        let list = host.list(Kind::Deny, newer, &host.deny(&[1]));
        let mut line = host.connect(&mut gate);
        line.hear(&mut gate);
        line.send_list(&mut gate, Kind::Deny, newer, &list);
        idle(&mut gate);
        assert_eq!(gate.version(Kind::Deny), newer);
        drop(gate);
        put_back(&chip, Place::Deny, &old);
        opens_for_nobody(&mut start(&chip).unwrap(), &host, Reason::ListStale);
    }
}

#[test]
fn a_journal_that_was_erased_is_not_begun_again() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    assert_eq!(decide(&mut gate, &mut host.phone(1), MORNING), Decision::Open);
    drop(gate);
    erase(&chip, Place::Journal);
    for _ in 0..2 {
        let mut gate = start(&chip).unwrap();
        assert_eq!(gate.trouble(), Some(Trouble::JournalLost), "and a restart does not heal it");
        opens_for_nobody(&mut gate, &host, Reason::OutOfService);
        assert_eq!(passage(&mut gate, 1, Outcome::Passed, MORNING), None);
        assert_eq!(block_on(gate.emergency(true, synchronised(MORNING))).unwrap(), None);
        assert_eq!(gate.next_sequence(), 1, "no number is given twice");
        idle(&mut gate);
    }
}

#[test]
fn a_journal_that_went_back_by_a_day_is_noticed() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    let mut early = vec![];
    for n in 1..=4_200 {
        passage(&mut gate, n, Outcome::NotPassed, MORNING).unwrap();
        idle(&mut gate);
        if n % 16 == 0 {
            let mut line = host.connect(&mut gate);
            line.hear(&mut gate);
            line.acknowledge(&mut gate, n);
        }
        if n == 40 {
            early = chip.content_of(Place::Journal);
        }
    }
    drop(gate);
    assert_eq!(start(&chip).unwrap().trouble(), None);
    put_back(&chip, Place::Journal, &early);
    assert_eq!(start(&chip).unwrap().trouble(), Some(Trouble::JournalLost));
}

#[test]
fn without_its_floor_a_gate_trusts_nothing_that_it_finds() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    tap(&mut gate, &mut host.phone(1), MORNING);
    drop(gate);
    erase(&chip, Place::Floor);
    for _ in 0..2 {
        let mut gate = start(&chip).unwrap();
        assert_eq!(gate.trouble(), Some(Trouble::FloorDamaged));
        opens_for_nobody(&mut gate, &host, Reason::OutOfService);
        assert_eq!(journal(&mut host, &mut gate).entries.len(), 1, "what it has it still sends");
        idle(&mut gate);
    }
}

#[test]
fn a_gate_whose_keys_are_gone_opens_for_nobody_and_still_sends_its_journal() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    for n in 0..3 {
        assert_eq!(decide(&mut gate, &mut host.phone(n), MORNING), Decision::Open);
    }
    drop(gate);
    erase(&chip, Place::Keys);
    let mut gate = start(&chip).unwrap();
    assert!(
        matches!(gate.trouble(), Some(Trouble::Keys(DukptError::RegisterEmpty(_)))),
        "{:?}",
        gate.trouble()
    );
    assert_eq!(gate.trouble().map(Trouble::word), Some("keys_damaged"));
    opens_for_nobody(&mut gate, &host, Reason::OutOfService);
    assert_eq!(passage(&mut gate, 3, Outcome::Passed, MORNING), None);
    assert_eq!(journal(&mut host, &mut gate).entries.len(), 3);
    idle(&mut gate);
}

#[test]
fn a_gate_that_has_used_its_last_key_says_so_and_still_sends_its_journal() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    assert_eq!(decide(&mut gate, &mut host.phone(1), MORNING), Decision::Open);
    drop(gate);
    // The last counter with a key: 16 bits set, the highest ones.
    block_on(async {
        let mut log = KeyLog::open(chip.area(Place::Keys)).await.unwrap();
        log.prepare().await.unwrap();
        log.advance(0xFFFF_0000).await.unwrap();
    });
    let mut gate = start(&chip).unwrap();
    assert_eq!(gate.trouble(), Some(Trouble::Keys(DukptError::Exhausted)));
    opens_for_nobody(&mut gate, &host, Reason::OutOfService);
    assert_eq!(journal(&mut host, &mut gate).entries.len(), 1);
}

#[test]
fn refusals_that_are_only_counted_use_up_no_keys() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    let mut broken = phone(&host.phone_file(1).with_fault(Fault::Broken { kind: Broken::Noise }));
    for wave in 0..200 {
        tap(&mut gate, &mut broken, MORNING + wave * SECOND);
    }
    assert!(gate.uncounted_refusals() > 50);
    assert_eq!(decide(&mut gate, &mut host.phone(2), MORNING + 500 * SECOND), Decision::Open);
    let store = journal(&mut host, &mut gate);
    let counters: Vec<u32> =
        store.entries.values().map(|sealed| Sealed::parse(sealed).unwrap().header.ksn.counter).collect();
    let first = counters[0];
    assert_eq!(counters, (first..first + counters.len() as u32).collect::<Vec<_>>());
}
