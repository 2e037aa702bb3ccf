//! Power cuts: QEMU is killed at random moments, again and again, on the same flash. What was opened is in the gateway,
//! once; numbers have no gap and no repeat; no key and no unpredictable number serves twice; a denied card opens in no
//! life. The gate's entropy is the same at every start, so that only what its generator keeps in flash tells one life's
//! numbers from another's.

use crate::common::{GATE, alone, long, stored, town};
use city::world::Kind;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use wavepass_hce::card::{Answer, Card, CardFault};
use wavepass_protocol::tap::Reason;
use wavepass_tests::qemu::{Power, QemuGate, Shown};
use wavepass_tests::town::SharedCard;

/// Every unpredictable number that gates sent to cards, and whether one came twice.
#[derive(Default)]
struct Unpredictable {
    seen: HashSet<[u8; 4]>,
    repeated: Vec<[u8; 4]>,
}

/// The card at the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    /// A good phone, by its number.
    Good(usize),
    Denied,
}

/// A card that looks at what the gate asks of it.
struct Watched {
    card: SharedCard,
    numbers: Arc<Mutex<Unpredictable>>,
}

impl Card for Watched {
    fn enter_field(&mut self) {
        self.card.enter_field();
    }

    fn transmit(&mut self, command: &[u8]) -> Result<Answer, CardFault> {
        // GET PROCESSING OPTIONS; the house's PDOL ends with the unpredictable number, before Le.
        if let [0x80, 0xA8, 0, 0, _, 0x83, 33, values @ .., _] = command
            && let Some(&number) = values.last_chunk::<4>()
        {
            let mut numbers = self.numbers.lock().unwrap();
            if !numbers.seen.insert(number) {
                numbers.repeated.push(number);
            }
        }
        self.card.transmit(command)
    }
}

#[test]
fn a_gate_that_loses_power_at_any_moment_loses_no_tap_and_repeats_nothing() {
    let _alone = alone();
    let cuts = if long() { 220 } else { 30 };
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(77);
    let root = tempfile::tempdir().unwrap();
    let town = town(root.path(), 100 + 8 * cuts, 5);
    let folder = town.add_gate(GATE).unwrap();
    let phones: Vec<&SharedCard> = town.cards.iter().filter(|c| c.0 == Kind::Phone).map(|c| &c.1).collect();
    let key = town.token_key(town.cards.iter().position(|c| c.0 == Kind::Victim).unwrap()).unwrap();
    let numbers = Arc::new(Mutex::new(Unpredictable::default()));
    let mut next_phone = 0;
    // What the panel said, over all lives of the gate: the number of each opening and the phone that it was for.
    let mut opened: BTreeMap<u32, usize> = BTreeMap::new();
    let mut seen_numbers: BTreeSet<u32> = BTreeSet::new();
    let entropy = root.path().join("entropy");
    std::fs::write(&entropy, [0x5A; 32]).unwrap();
    let power = Power { entropy: Some(entropy), ..Power::default() };

    // A first life in which the deny list comes into force, with a good phone on it.
    let (denied, phones) = phones.split_first().unwrap();
    let position = town.cards.iter().position(|c| c.0 == Kind::Phone).unwrap();
    let denied_key = town.token_key(position).unwrap();
    town.command(&["deny", "add", "--token", &denied_key, "--cause", "lost", "--note", "test"]).unwrap();
    let listed = town.list_version("deny").unwrap();
    let in_force = |g: &serde_json::Value| {
        let mut lists = g["lists"].as_array().into_iter().flatten();
        lists.any(|l| l["kind"] == "deny" && l["version"].as_u64() >= Some(listed))
    };
    let mut gate = QemuGate::power_up_with(&power, &folder, town.gateway.addresses(), 1).unwrap();
    town.wait_gate(GATE, in_force).unwrap();
    gate.cut().unwrap();
    let mut denials = 0;

    for cut in 0..cuts {
        let mut gate =
            QemuGate::power_up_with(&power, &folder, town.gateway.addresses(), u64::from(cut)).unwrap();
        // Every fourth time the power goes while the gate starts, else some time after it was ready.
        if cut % 4 != 3 {
            gate.wait_for(|shown| *shown == Shown::Ready);
        }
        let end = Instant::now() + Duration::from_millis(rng.random_range(5..1_200));
        let lists_change = cut % 3 == 1;
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            if lists_change {
                scope.spawn(|| {
                    let word = if cut % 2 == 1 { "add" } else { "remove" };
                    // A cause that is not there cannot be removed; the list is what matters here.
                    let _ =
                        town.command(&["deny", word, "--token", &key, "--cause", "lost", "--note", "test"]);
                    stop.store(true, Ordering::Relaxed);
                });
            }
            let mut held: Option<Held> = None;
            while Instant::now() < end {
                if held.is_none() {
                    // The denied phone comes as every third.
                    let card = if next_phone % 3 == 1 {
                        held = Some(Held::Denied);
                        SharedCard::clone(denied)
                    } else {
                        held = Some(Held::Good(next_phone % phones.len()));
                        SharedCard::clone(phones[next_phone % phones.len()])
                    };
                    next_phone += 1;
                    gate.chip.present(Box::new(Watched { card, numbers: Arc::clone(&numbers) }));
                }
                let Some(shown) = gate.shown(end.saturating_duration_since(Instant::now())) else { break };
                match shown {
                    Shown::Open(sequence, again) => {
                        let Some(Held::Good(phone)) = held else { panic!("{held:?} opened the gate") };
                        let before = opened.insert(sequence, phone);
                        assert!(
                            before.is_none_or(|p| again && p == phone),
                            "entry {sequence} opened for two phones"
                        );
                        assert!(seen_numbers.insert(sequence) || again, "entry {sequence} was shown before");
                        gate.chip.remove();
                        gate.press(b'P').unwrap();
                    }
                    Shown::Refused(why, Some(sequence)) => {
                        denials += u32::from(held == Some(Held::Denied) && why == Reason::Denied.word());
                        assert!(seen_numbers.insert(sequence), "entry {sequence} was shown before");
                        gate.chip.remove();
                    }
                    Shown::Ready => held = None,
                    _ => {}
                }
            }
            gate.cut().unwrap();
        });
    }

    assert!(denials > cuts / 5, "the denied phone was refused as such only {denials} times");
    // One last life without a cut: everything that is in the journal comes to the gateway.
    let mut gate = QemuGate::power_up_with(&power, &folder, town.gateway.addresses(), 1).unwrap();
    gate.wait_for(|shown| *shown == Shown::Ready);
    let shown = crate::common::present(&mut gate, vec![Box::new(SharedCard::clone(denied))], None);
    assert!(matches!(shown, Shown::Refused(why, Some(_)) if why == Reason::Denied.word()), "after all cuts");
    let said = town
        .wait_gate(GATE, |g| {
            let next = g["next"].as_u64().unwrap_or(0);
            let done = g["acknowledged"].as_u64().max(g["gate_acknowledged"].as_u64());
            g["connected"] == true && next > 1 && done == Some(next - 1)
        })
        .unwrap();
    let (entries, taps) = stored(&town);
    let sequences: Vec<u32> = entries.iter().map(|e| e.0).collect();
    assert_eq!(
        sequences,
        (1..=sequences.len() as u32).collect::<Vec<_>>(),
        "a gap or a repeat in the numbers"
    );
    let by_number: BTreeMap<u32, bool> = taps.iter().map(|t| (t.sequence, t.opened)).collect();
    for sequence in opened.keys() {
        assert_eq!(by_number.get(sequence), Some(&true), "the opened tap {sequence} is lost");
    }
    // Keys that served twice, entries in a place that was taken, holes: each would be a break.
    let breaks = town.admin.get(town.gateway.addresses().http, "/v1/breaks").unwrap();
    let open = breaks.as_array().or_else(|| breaks["breaks"].as_array()).expect("a list of breaks");
    assert!(open.is_empty(), "{breaks}");
    let numbers = numbers.lock().unwrap();
    assert_eq!(numbers.repeated, Vec::<[u8; 4]>::new(), "an unpredictable number came twice");
    assert!(numbers.seen.len() >= opened.len(), "the gate's requests were not understood");
    assert!(opened.len() > cuts as usize / 2, "only {} openings in {cuts} lives", opened.len());
    println!(
        "{cuts} cuts, {} openings seen, {} entries, {} unpredictable numbers; the gate says {said}",
        opened.len(),
        entries.len(),
        numbers.seen.len()
    );
}
