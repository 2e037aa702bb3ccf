//! The power goes at every written word while cards are presented. Rule 1: what opened is in the journal; and no key
//! seals two entries, whatever the cut left.

use crate::common::{
    self, Chip, Failure, Host, MORNING, POWER_CUT, Place, SECOND, Store, TestGate, WAIT_MS, idle, journal,
    phone, rng, start, synchronised, tap, try_tap, version, working_gate,
};
use rand::RngExt;
use std::collections::{BTreeSet, HashSet};
use wavepass_hce::phone::PhoneFile;
use wavepass_journal::sim::block_on;
use wavepass_protocol::dukpt::{self, Key, Ksn, Usage};
use wavepass_protocol::link::FromHost;
use wavepass_protocol::lists::Kind;
use wavepass_protocol::seal::Sealed;
use wavepass_protocol::tap::{Decision, Entry, Outcome};
use wavepass_protocol::token::Token;

fn long() -> bool {
    std::env::var_os("WAVEPASS_LONG").is_some()
}

/// What riders have seen of the gate.
#[derive(Default)]
struct Seen {
    /// Openings, by the sequence number that the gate gave.
    opened: Vec<(u32, Token)>,
    /// The token of the last tap begun.
    last: Option<usize>,
}

/// A few riders come by; the last one has not gone through yet.
fn riders(gate: &mut TestGate, files: &[PhoneFile], from: u64, seen: &mut Seen) -> Result<(), Failure> {
    for (i, file) in files.iter().enumerate() {
        let at = from + i as u64 * 10 * SECOND;
        seen.last = Some(i);
        let mut phone = phone(file);
        let first = try_tap(gate, &mut phone, synchronised(at))?;
        assert_eq!(first.decision, Decision::Open);
        seen.opened.push((first.sequence.unwrap(), file.token()));
        block_on(gate.idle())?;
        let again = try_tap(gate, &mut phone, synchronised(at + SECOND))?;
        assert_eq!((again.decision, again.again, again.sequence), (Decision::Open, true, first.sequence));
        if i + 1 < files.len() {
            block_on(gate.passage(first.sequence.unwrap(), Outcome::Passed, synchronised(at + 2 * SECOND)))?;
            block_on(gate.idle())?;
        }
    }
    Ok(())
}

/// The counters of every key whose entry, or torn piece of one, stands in the journal's flash.
fn counters_in_flash(host: &Host, chip: &Chip) -> BTreeSet<u32> {
    let flash = chip.content_of(Place::Journal);
    flash
        .windows(12)
        .filter(|w| w[..8] == host.key_id.0)
        .map(|w| Ksn::from_bytes(w.try_into().unwrap()))
        .filter(|ksn| ksn.is_valid())
        .map(|ksn| ksn.counter)
        .collect()
}

/// The keys of every counter up to this one: the intermediate key, and the working key that sealed the entry.
fn used_keys(host: &Host, upto: u32) -> Vec<Key> {
    let mut registers = dukpt::initial_registers(&host.initial_key(), host.key_id);
    let mut keys = vec![host.initial_key(), Key::new(host.base_key)];
    let mut counter = 0;
    while counter < upto {
        let step = dukpt::plan(host.key_id, counter, &registers, Usage::DataEncrypt).unwrap();
        for (slot, child) in registers.iter_mut().zip(&step.children) {
            *slot = Some(child.clone());
        }
        counter = step.counter;
        keys.extend(registers[step.register].take());
        keys.push(step.key);
    }
    keys
}

fn counter_of(sealed: &[u8]) -> u32 {
    Sealed::parse(sealed).unwrap().header.ksn.counter
}

fn last_counter(store: &Store) -> u32 {
    store.entries.last_key_value().map_or(0, |(_, sealed)| counter_of(sealed))
}

/// A gate whose ring of pages has gone round, so that the next riders meet the end of a page, an erasure and a move of
/// the key log.
fn seasoned(host: &mut Host) -> Chip {
    let chip = Chip::new(4);
    let mut gate = working_gate(host, &chip);
    for n in 0..50 {
        let at = MORNING + u64::from(n) * SECOND;
        assert_eq!(tap(&mut gate, &mut host.phone(100 + n), at).decision, Decision::Open);
        if n % 10 == 9 {
            let upto = gate.next_sequence() - 1;
            let mut line = host.connect(&mut gate);
            line.hear(&mut gate);
            line.acknowledge(&mut gate, upto);
            idle(&mut gate);
        }
    }
    drop(gate);
    chip
}

/// The rules that hold after any cut, and that the gate works on.
fn verify(host: &mut Host, chip: &Chip, seen: &Seen, files: &[PhoneFile], from: u64, place: &str) {
    let torn = counters_in_flash(host, chip);
    let mut gate = start(chip).unwrap_or_else(|e| panic!("{place}: the gate does not start: {e:?}"));
    assert_eq!(gate.trouble(), None, "{place}");
    let before = journal(host, &mut gate);
    for (sequence, token) in &seen.opened {
        let sealed = before
            .entries
            .get(sequence)
            .unwrap_or_else(|| panic!("{place}: tap {sequence} opened and is lost"));
        host.open(sealed, |header, entry| {
            let Entry::Tap(tap) = entry else { panic!("{place}: entry {sequence} is no tap") };
            assert_eq!((header.sequence, tap.decision), (*sequence, Decision::Open), "{place}");
            assert_eq!(tap.token.as_ref(), Some(token), "{place}");
        });
    }
    let keys = chip.content_of(Place::Keys);
    let in_flash: HashSet<&[u8]> = keys.windows(16).collect();
    for key in used_keys(host, last_counter(&before)) {
        assert!(!in_flash.contains(&key.bytes()[..]), "{place}: a used key is still in flash");
    }
    // The rider whom the cut interrupted waves again.
    let next = gate.next_sequence();
    if let Some(i) = seen.last {
        let at = from + i as u64 * 10 * SECOND + 5 * SECOND;
        let told = seen.opened.iter().find(|(_, token)| *token == files[i].token());
        let presented = tap(&mut gate, &mut phone(&files[i]), at);
        match (told, presented.decision) {
            (Some((sequence, _)), Decision::Open) => {
                assert_eq!((presented.again, presented.sequence), (true, Some(*sequence)), "{place}");
            }
            (None, Decision::Open) => {
                // The tap was durable before the cut and opens as itself, or it was not and is a new one.
                assert_eq!(
                    presented.sequence,
                    Some(if presented.again { next - 1 } else { next }),
                    "{place}"
                );
            }
            (told, decision) => assert!(told.is_some(), "{place}: {decision:?}"),
        }
    }
    let fresh = tap(&mut gate, &mut host.phone(999), from + WAIT_MS);
    assert_eq!((fresh.decision, fresh.again), (Decision::Open, false), "{place}");
    let after = journal(host, &mut gate);
    for (sequence, sealed) in after.entries.range(next..) {
        let counter = counter_of(sealed);
        assert!(
            !torn.contains(&counter),
            "{place}: entry {sequence} is sealed with a key that a torn entry had"
        );
        assert!(counter > last_counter(&before), "{place}");
    }
}

#[test]
fn what_opened_is_durable_whenever_the_power_goes() {
    let mut host = Host::new();
    let base = seasoned(&mut host);
    let files: Vec<_> = (1..=8).map(|n| host.phone_file(n)).collect();
    let from = MORNING + 100 * SECOND;

    let whole = base.copy();
    let erased_ahead = |chip: &Chip| {
        chip.content_of(Place::Journal).chunks(4096).map(|p| p[..24].to_vec()).collect::<Vec<_>>()
    };
    let pages = erased_ahead(&whole);
    let log = whole.content_of(Place::Keys)[..24].to_vec();
    let mut gate = start(&whole).unwrap();
    let began = whole.words();
    riders(&mut gate, &files, from, &mut Seen::default()).unwrap();
    let words = whole.words() - began;
    println!("{words} words");
    assert!(words > 700);
    assert_ne!(pages, erased_ahead(&whole), "the riders cross a page");
    assert_ne!(log, whole.content_of(Place::Keys)[..24], "and the key log moves");

    // A torn word changes nothing, wholly, or in some of its bits; the plain run takes a part of the last two.
    let mut rng = rng(4);
    let step = if long() { 1 } else { 5 };
    for (round, step) in [(0, 1), (1, step), (2, step)] {
        for after in (0..words).step_by(step) {
            let flips = [0, u64::MAX, rng.random()][round];
            let place = format!("cut after word {after}, flips {flips:x}");
            let chip = base.copy();
            let mut gate = start(&chip).unwrap();
            chip.cut(after, flips);
            let mut seen = Seen::default();
            assert_eq!(riders(&mut gate, &files, from, &mut seen), Err(POWER_CUT), "{place}");
            drop(gate);
            assert!(chip.power_on());
            verify(&mut host, &chip, &seen, &files, from, &place);
        }
    }
}

/// What the host and the board have been told by a gate at work.
#[derive(Debug, Default)]
struct Told {
    emergency: bool,
    acknowledged: u32,
    /// The deny list that the gate had taken.
    list: u32,
    opened: Option<u32>,
    passed: bool,
}

/// An emergency with a rider in it, an acknowledgement and a new deny list.
fn shift(gate: &mut TestGate, host: &mut Host, list: &[u8], told: &mut Told) -> Result<(), Failure> {
    let at = |s: u64| synchronised(MORNING + 100 * SECOND + s * SECOND);
    block_on(gate.emergency(true, at(0)))?.unwrap();
    told.emergency = true;
    block_on(gate.idle())?;
    let opened = try_tap(gate, &mut host.phone(1), at(1))?.sequence.unwrap();
    told.opened = Some(opened);
    block_on(gate.idle())?;
    block_on(gate.passage(opened, Outcome::Passed, at(2)))?;
    told.passed = true;
    block_on(gate.idle())?;
    let mut line = host.connect(gate);
    line.hear(gate);
    let key_id = host.key_id;
    let frame = line.frame(&FromHost::Acknowledge { key_id, upto: opened });
    line.try_feed(gate, &frame)?.unwrap();
    told.acknowledged = opened;
    for frame in line.list_frames(Kind::Deny, version(2), list) {
        line.try_feed(gate, &frame)?.unwrap();
    }
    block_on(gate.emergency(false, at(3)))?.unwrap();
    told.emergency = false;
    // The list comes into force in slices of idle time.
    while block_on(gate.idle())? == wavepass_gate::Idle::More {}
    told.list = 2;
    Ok(())
}

#[test]
fn emergencies_passages_acknowledgements_and_lists_are_durable_whenever_the_power_goes() {
    let mut host = Host::new();
    let base = seasoned(&mut host);
    let list = host.list(Kind::Deny, version(2), &host.deny(&[77, 78]));
    let whole = base.copy();
    let mut gate = start(&whole).unwrap();
    let began = whole.words();
    shift(&mut gate, &mut host, &list, &mut Told::default()).unwrap();
    assert_eq!(gate.version(Kind::Deny), version(2));
    let (words, last) = (whole.words() - began, gate.next_sequence() - 1);
    drop(gate);
    assert!(words > 200, "{words} words");
    let mut rng = rng(5);
    for (round, step) in [(0, 1), (1, if long() { 1 } else { 5 }), (2, if long() { 1 } else { 5 })] {
        for after in (0..words).step_by(step) {
            let flips = [0, u64::MAX, rng.random()][round];
            let place = format!("cut after word {after}, flips {flips:x}");
            let chip = base.copy();
            let mut gate = start(&chip).unwrap();
            chip.cut(after, flips);
            let mut told = Told::default();
            assert_eq!(shift(&mut gate, &mut host, &list, &mut told), Err(POWER_CUT), "{place}");
            drop(gate);
            assert!(chip.power_on());

            let mut gate = start(&chip).unwrap_or_else(|e| panic!("{place}: {e:?}"));
            assert_eq!(gate.trouble(), None, "{place}");
            assert!(gate.acknowledged() >= told.acknowledged, "{place}");
            assert!(gate.version(Kind::Deny).version >= told.list.max(1), "{place}");
            // Numbers are those of the shift, or of a part of it; `journal` holds each to the one before it.
            let store = journal(&mut host, &mut gate);
            let begun = |n: u32| store.entries.contains_key(&n);
            assert!(!begun(last + 1), "{place}");
            assert_eq!(gate.in_emergency(), begun(last - 3) && !begun(last), "{place}");
            assert!(!told.emergency || gate.in_emergency() || begun(last), "{place}");
            assert!(told.opened.is_none_or(begun) && (!told.passed || begun(last - 1)), "{place}");
            // The board tells the input again, and the gate goes on.
            block_on(gate.emergency(false, synchronised(MORNING + 200 * SECOND))).unwrap();
            idle(&mut gate);
            assert!(!gate.in_emergency(), "{place}");
            let fresh = tap(&mut gate, &mut host.phone(999), MORNING + 300 * SECOND);
            assert_eq!(fresh.decision, Decision::Open, "{place}");
            journal(&mut host, &mut gate);
        }
    }
}

#[test]
fn a_gate_that_lives_through_many_cuts_loses_nothing_and_repeats_no_key() {
    let lives = if long() { 4_000 } else { 400 };
    let mut host = Host::new();
    let chip = Chip::new(8);
    drop(working_gate(&mut host, &chip));
    let mut rng = rng(3);
    let mut store = Store::default();
    let mut opened = BTreeSet::new();
    let mut acknowledged = 0;
    for life in 0..lives {
        let from = MORNING + life * 1_000 * SECOND;
        // Some cuts come during start-up, and some lives end without one.
        chip.cut(rng.random_range(0..900), rng.random());
        let files: Vec<_> = (0..3).map(|_| host.phone_file(rng.random_range(0..9_999_999))).collect();
        let mut seen = Seen::default();
        if let Ok(mut gate) = start(&chip) {
            let _ = riders(&mut gate, &files, from, &mut seen);
        }
        opened.extend(seen.opened.iter().map(|o| o.0));
        chip.power_on();
        // The host is there now and then, often enough for the journal not to fill.
        if life % 3 == 0 {
            let mut gate = start(&chip).unwrap();
            assert!(gate.acknowledged() <= acknowledged, "nothing is acknowledged that was not");
            let mut line = host.connect(&mut gate);
            for heard in line.hear(&mut gate) {
                match heard {
                    common::Heard::Entry(sealed) => store.take(&host, &sealed),
                    common::Heard::Status { .. } => {}
                    other => panic!("life {life}: {other:?}"),
                }
            }
            acknowledged = gate.next_sequence() - 1;
            line.acknowledge(&mut gate, acknowledged);
            idle(&mut gate);
        }
    }
    let mut gate = start(&chip).unwrap();
    for (_, sealed) in journal(&mut host, &mut gate).entries {
        store.take(&host, &sealed);
    }
    store.check();
    assert_eq!(store.entries.first_key_value().map(|e| *e.0), Some(1));
    assert_eq!(store.entries.last_key_value().map(|e| *e.0), Some(gate.next_sequence() - 1));
    assert!(opened.len() > lives as usize, "{} openings", opened.len());
    for sequence in opened {
        let sealed = &store.entries[&sequence];
        assert!(host.open(sealed, |_, e| matches!(e, Entry::Tap(tap) if tap.decision == Decision::Open)));
    }
}

#[test]
fn a_write_that_fails_does_not_open_and_the_gate_goes_on_after_a_restart() {
    let mut host = Host::new();
    let base = Chip::new(4);
    let mut gate = working_gate(&mut host, &base);
    tap(&mut gate, &mut host.phone(1), MORNING);
    drop(gate);
    for landed in (0..500).step_by(4) {
        let chip = base.copy();
        let mut gate = start(&chip).unwrap();
        chip.fail_next_write(landed);
        let mut phone = host.phone(2);
        assert!(
            try_tap(&mut gate, &mut phone, synchronised(MORNING + SECOND)).is_err(),
            "{landed} bytes landed"
        );
        // Until it is started anew it opens for nobody.
        let mut other = host.phone(3);
        assert!(try_tap(&mut gate, &mut other, synchronised(MORNING + 2 * SECOND)).is_err());
        drop(gate);
        let mut gate = start(&chip).unwrap();
        let next = gate.next_sequence();
        let presented = tap(&mut gate, &mut phone, MORNING + 3 * SECOND);
        assert_eq!(presented.decision, Decision::Open);
        assert_eq!(presented.sequence, Some(if presented.again { next - 1 } else { next }));
        journal(&mut host, &mut gate);
    }
}
