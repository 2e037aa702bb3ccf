//! A reader chip on a bad line: every fault at random, with answers in larger and smaller parts, slower and faster
//! cards, and chips that repeat another answer. Nothing opens that should not, nothing hangs, the gate recovers by
//! itself, and the gateway has every opening once.

use crate::common::{GATE, long, settled, stored, town};
use city::world::Kind;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use wavepass_hce::pn532::{Presented, Switches};
use wavepass_tests::qemu::{QemuGate, Shown};

/// What a card that is held to the gate has to be decided in, noise or not: the watchdog's ten seconds and the start
/// after it.
const LIMIT: Duration = Duration::from_secs(15);

#[test]
fn noise_on_the_reader_s_line_opens_nothing_and_hangs_nothing() {
    let taps = if long() { 2_000 } else { 150 };
    let root = tempfile::tempdir().unwrap();
    let town = town(root.path(), taps + 200, 21);
    let folder = town.add_gate(GATE).unwrap();
    let mut gate = QemuGate::power_up(&folder, town.gateway.addresses(), 8).unwrap();
    gate.wait_for(|shown| *shown == Shown::Ready);
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(9);
    let slow = |kind: Kind| matches!(kind, Kind::Slow);
    let cards: Vec<_> =
        town.cards.iter().filter(|c| c.0 != Kind::Clone && !slow(c.0)).take(taps as usize).collect();
    let (mut opened, mut undecided) = (BTreeSet::new(), 0);
    for (kind, card) in &cards {
        let mut held = vec![Presented::phone(Box::new(card.clone()))];
        if *kind == Kind::TwoAtOnce {
            held.push(Presented::phone(Box::new(cards[0].1.clone())));
        }
        gate.chip.set_switches(Switches {
            fragment: [262, 120, 60][rng.random_range(0..3)],
            apdu_delay_ms: rng.random_range(0..30),
            keeps_last_answer: rng.random(),
            ..Switches::noise(0.02)
        });
        gate.chip.set_field(held);
        let begun = Instant::now();
        let mut decided = false;
        while !decided && begun.elapsed() < LIMIT {
            match gate.shown(LIMIT.saturating_sub(begun.elapsed())) {
                Some(Shown::Open(sequence, _)) => {
                    // Noise may hide a second card, and then the one that is seen may open: it is a good one.
                    assert!(kind.refusal().is_none() || *kind == Kind::TwoAtOnce, "{kind:?} opened the gate");
                    gate.press(b'P').unwrap();
                    opened.insert(sequence);
                    decided = true;
                }
                Some(Shown::Refused(_, Some(_))) => decided = true,
                Some(_) => {}
                None => break,
            }
        }
        undecided += u32::from(!decided);
        gate.chip.remove();
        gate.wait_for(|shown| {
            // A card that went and came back before it was taken away is a second tap.
            if let Shown::Open(sequence, _) = shown {
                opened.insert(*sequence);
            }
            *shown == Shown::Ready
        });
    }
    assert_eq!(undecided, 0, "cards were held to the gate for {LIMIT:?} without a decision");
    // The line is quiet again: a phone that was never here opens at its first wave.
    gate.chip.set_switches(Switches::default());
    let fresh = town.cards.iter().rev().find(|c| c.0 == Kind::Phone).unwrap();
    let shown = crate::common::present(&mut gate, vec![Box::new(fresh.1.clone())], None);
    let Shown::Open(sequence, false) = shown else { panic!("{shown:?}") };
    opened.insert(sequence);
    let counters = gate.chip.counters();
    let said = settled(&town);
    assert_eq!(gate.starts(), 1, "the gate was reset");
    assert!(said["health"]["panic"].is_null(), "{said}");
    let (entries, in_gateway) = stored(&town);
    assert_eq!(
        entries.iter().map(|e| e.0).collect::<Vec<_>>(),
        (1..=entries.len() as u32).collect::<Vec<_>>()
    );
    let in_gateway: Vec<u32> = in_gateway.iter().filter(|t| t.opened).map(|t| t.sequence).collect();
    assert_eq!(in_gateway, opened.iter().copied().collect::<Vec<_>>(), "openings in the gateway and shown");
    println!("{} taps, {} opened; the chip: {counters:?}; the gate says {said}", cards.len(), opened.len());
    assert!(opened.len() > taps as usize / 4, "only {} of {taps} opened", opened.len());
}
