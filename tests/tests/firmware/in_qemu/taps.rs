//! Taps of every kind: each decision right, each tap in the gateway once, the deny list changed on the fly.

use crate::common::{GATE, StoredTap, present, stored, town};
use city::world::Kind;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use std::collections::BTreeMap;
use std::time::Duration;
use wavepass_hce::card::Card;
use wavepass_protocol::tap::{Outcome, Reason};
use wavepass_tests::qemu::{QemuGate, Shown};
use wavepass_tests::town::SharedCard;

/// Cards in the town. With second waves, handed-back phones and the deny list's part they come to 1,000 taps.
const PHONES: u32 = 960;
const TAPS: usize = 1_000;

fn boxed(card: &SharedCard) -> Box<dyn Card + Send> {
    Box::new(card.clone())
}

/// What a gate must answer to a card, each time it is presented: one list of reasons for each wave.
fn waves(kind: Kind, index: usize) -> Vec<(Option<Reason>, bool, Option<Outcome>)> {
    let open = (None, false, Some(Outcome::Passed));
    match kind.refusal() {
        Some(reason) => vec![(Some(reason), false, None)],
        None if kind == Kind::HandedBack => vec![open, (Some(Reason::Passback), false, None)],
        // Now and then the rider turns back, and waves again.
        None if index.is_multiple_of(40) => {
            vec![(None, false, Some(Outcome::NotPassed)), (None, true, Some(Outcome::Passed))]
        }
        None => vec![open],
    }
}

#[test]
fn a_thousand_taps_are_decided_rightly_and_counted_once() {
    let root = tempfile::tempdir().unwrap();
    let town = town(root.path(), PHONES, 11);
    let folder = town.add_gate(GATE).unwrap();
    let mut gate = QemuGate::power_up(&folder, town.gateway.addresses(), 1).unwrap();
    gate.wait_for(|shown| *shown == Shown::Ready);

    let mut order: Vec<usize> = (0..town.cards.len()).filter(|&c| town.cards[c].0 != Kind::Clone).collect();
    order.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(3));
    let mut expected: BTreeMap<u32, (bool, Option<Reason>)> = BTreeMap::new();
    let mut taps = 0;
    // The last good phone is kept for the deny list.
    let spare = order.iter().rposition(|&c| town.cards[c].0 == Kind::Phone).unwrap();
    let spare = order.remove(spare);
    let partner = SharedCard::clone(&town.cards[spare].1);
    for &card in &order {
        let (kind, phone) = &town.cards[card];
        for (refusal, again, passage) in waves(*kind, card) {
            let mut held = vec![boxed(phone)];
            if *kind == Kind::TwoAtOnce {
                held.push(boxed(&partner));
            }
            let shown = present(&mut gate, held, passage);
            taps += 1;
            match (refusal, &shown) {
                (None, Shown::Open(sequence, second)) => {
                    assert_eq!(*second, again, "card {card}, {kind:?}");
                    let first = expected.insert(*sequence, (true, None));
                    assert_eq!(first.is_some(), again, "entry {sequence} stands for two taps");
                }
                (Some(reason), Shown::Refused(word, Some(sequence))) => {
                    assert_eq!(word, reason.word(), "card {card}, {kind:?}");
                    assert_eq!(expected.insert(*sequence, (false, Some(reason))), None);
                }
                _ => panic!("card {card}, {kind:?}: {shown:?} instead of {refusal:?}"),
            }
        }
    }

    // The deny list changes while the gate works.
    let key = town.token_key(spare).unwrap();
    for denied in [true, false] {
        let word = if denied { "add" } else { "remove" };
        town.command(&["deny", word, "--token", &key, "--cause", "lost", "--note", "on the fly"]).unwrap();
        let newest = town.list_version("deny").unwrap();
        town.wait_gate(GATE, |g| {
            g["lists"]
                .as_array()
                .is_some_and(|l| l.iter().any(|l| l["kind"] == "deny" && l["version"] == newest))
        })
        .unwrap();
        let shown = present(&mut gate, vec![boxed(&town.cards[spare].1)], Some(Outcome::Passed));
        taps += 1;
        match (denied, shown) {
            (true, Shown::Refused(word, Some(sequence))) if word == "denied" => {
                expected.insert(sequence, (false, Some(Reason::Denied)));
            }
            (false, Shown::Open(sequence, false)) => {
                expected.insert(sequence, (true, None));
            }
            (_, shown) => panic!("denied: {denied}, and the gate showed {shown:?}"),
        }
    }
    // What is left of the thousand: the spare phone again, within the passback window.
    while taps < TAPS {
        let shown = present(&mut gate, vec![boxed(&town.cards[spare].1)], None);
        taps += 1;
        let Shown::Refused(word, Some(sequence)) = shown else { panic!("{shown:?}") };
        assert_eq!(word, "passback");
        expected.insert(sequence, (false, Some(Reason::Passback)));
    }
    assert!(taps >= TAPS);

    let said = town
        .wait_gate(GATE, |g| {
            g["acknowledged"].as_u64() >= Some(1)
                && g["next"] == g["acknowledged"].as_u64().map_or(0, |a| a + 1)
        })
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let (entries, stored) = stored(&town);
    let numbers: Vec<u32> = entries.iter().map(|e| e.0).collect();
    assert_eq!(numbers, (1..=numbers.len() as u32).collect::<Vec<_>>(), "entries have no gap and no repeat");
    let found: BTreeMap<u32, (bool, Option<Reason>)> =
        stored.iter().map(|t: &StoredTap| (t.sequence, (t.opened, t.reason))).collect();
    assert_eq!(found.len(), stored.len());
    assert_eq!(found, expected, "the gateway has what the gate showed");
    assert!(
        stored.iter().filter(|t| t.opened).all(|t| t.passage == Some(1)),
        "everybody went through in the end"
    );
    println!("{taps} taps, {} entries; the gate says {said}", entries.len());
}
