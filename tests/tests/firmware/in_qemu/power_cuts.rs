//! Power cuts: QEMU is killed at random moments, and while a new deny list is written, again and again, on the same
//! flash. What was opened or refused is in the gateway, once; numbers have no gap and no repeat; no key and no
//! unpredictable number serves twice; a denied card opens in no life; the deny list of the end is the gateway's. The
//! gate's entropy is the same at every start, so that only what its generator keeps in flash tells one life's numbers
//! from another's.

use crate::common::{GATE, deny, has_list, long, no_breaks, settled, stored, town};
use city::world::Kind;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use wavepass_hce::card::{Answer, Card, CardFault};
use wavepass_protocol::tap::Reason;
use wavepass_terminal::layout::Layout;
use wavepass_tests::qemu::{FLASH, PATIENCE, Power, QemuGate, Shown};
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

/// What a cut came into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum CutInto {
    /// The gate was not ready yet.
    Start,
    /// A half of the deny list's flash was erased or being written.
    ListUpdate,
    /// Taps, the link, or nothing.
    Work,
}

/// True where a half of the deny list's flash has lost its header and has no new one yet. Both have had one.
fn list_is_written(flash: &File) -> io::Result<bool> {
    let layout = Layout::of(FLASH as u32).ok_or_else(|| io::Error::other("the flash is too small"))?;
    let deny = &layout.lists[0];
    for half in [deny.start, deny.start + deny.len() as u32 / 2] {
        let mut magic = [0; 4];
        flash.read_exact_at(&mut magic, half.into())?;
        if magic != *b"WPC1" {
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn a_gate_that_loses_power_at_any_moment_loses_no_tap_and_repeats_nothing() {
    let cuts = if long() { 220 } else { 30 };
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(77);
    let root = tempfile::tempdir().unwrap();
    let town = town(root.path(), 100 + 8 * cuts, 5);
    let folder = town.add_gate(GATE).unwrap();
    let phones: Vec<&SharedCard> = town.cards.iter().filter(|c| c.0 == Kind::Phone).map(|c| &c.1).collect();
    let changed = town.cards.iter().position(|c| c.0 == Kind::Victim).unwrap();
    let numbers = Arc::new(Mutex::new(Unpredictable::default()));
    let mut next_phone = 0;
    // What the panel said, over all lives of the gate: the number of each opening and the phone that it was for.
    let mut opened: BTreeMap<u32, usize> = BTreeMap::new();
    // The number of each refusal and its reason.
    let mut refused: BTreeMap<u32, String> = BTreeMap::new();
    let entropy = root.path().join("entropy");
    std::fs::write(&entropy, [0x5A; 32]).unwrap();
    let power = Power { entropy: Some(entropy), ..Power::default() };

    // A first life in which the deny list comes into force, with a good phone on it; then twice more, so that both
    // halves of its flash have held one.
    let (denied, phones) = phones.split_first().unwrap();
    let position = town.cards.iter().position(|c| c.0 == Kind::Phone).unwrap();
    let mut gate = QemuGate::power_up_with(&power, &folder, town.gateway.addresses(), 1).unwrap();
    for (card, is_denied) in [(position, true), (changed, true), (changed, false)] {
        let version = deny(&town, card, is_denied);
        town.wait_gate(GATE, |g| has_list(g, version)).unwrap();
    }
    gate.cut().unwrap();
    let flash = File::open(folder.join("flash.bin")).unwrap();
    assert!(!list_is_written(&flash).unwrap());
    let mut cuts_into: BTreeMap<CutInto, u32> = BTreeMap::new();
    let (mut changes, mut is_denied) = (0, false);
    let mut denials = 0;

    for cut in 0..cuts {
        let mut gate =
            QemuGate::power_up_with(&power, &folder, town.gateway.addresses(), u64::from(cut)).unwrap();
        // Every third time the deny list changes, and the power goes while it is written. Every fourth of the others it
        // goes while the gate starts, else some time after it was ready.
        let list_changes = cut % 3 == 1;
        let mut is_ready = list_changes || cut % 4 != 3;
        gate.wait_for(|shown| *shown == if is_ready { Shown::Ready } else { Shown::Started });
        let patience = match (list_changes, is_ready) {
            (true, _) => PATIENCE,
            (false, true) => Duration::from_millis(rng.random_range(5..1_200)),
            (false, false) => Duration::from_millis(rng.random_range(0..40)),
        };
        let end = Instant::now() + patience;
        std::thread::scope(|scope| {
            if list_changes {
                (changes, is_denied) = (changes + 1, !is_denied);
                let town = &town;
                scope.spawn(move || deny(town, changed, is_denied));
            }
            let mut held: Option<Held> = None;
            while Instant::now() < end && !(list_changes && list_is_written(&flash).unwrap()) {
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
                let wait = end.saturating_duration_since(Instant::now());
                let wait = if list_changes { wait.min(Duration::from_micros(200)) } else { wait };
                let Some(shown) = gate.shown(wait) else { continue };
                match shown {
                    Shown::Open(sequence, again) => {
                        let Some(Held::Good(phone)) = held else { panic!("{held:?} opened the gate") };
                        let before = opened.insert(sequence, phone);
                        assert!(
                            before.is_none_or(|p| again && p == phone),
                            "entry {sequence} opened for two phones"
                        );
                        assert!(before.is_none() || again, "entry {sequence} was shown before");
                        assert!(!refused.contains_key(&sequence), "entry {sequence} was a refusal");
                        gate.chip.remove();
                        gate.press(b'P').unwrap();
                    }
                    Shown::Refused(why, Some(sequence)) => {
                        denials += u32::from(held == Some(Held::Denied) && why == Reason::Denied.word());
                        let is_new = !opened.contains_key(&sequence);
                        assert!(
                            is_new && refused.insert(sequence, why).is_none(),
                            "entry {sequence} was shown before"
                        );
                        gate.chip.remove();
                    }
                    Shown::Ready => (held, is_ready) = (None, true),
                    _ => {}
                }
            }
            gate.cut().unwrap();
        });
        let into = match (list_is_written(&flash).unwrap(), is_ready) {
            (true, _) => CutInto::ListUpdate,
            (false, true) => CutInto::Work,
            (false, false) => CutInto::Start,
        };
        *cuts_into.entry(into).or_default() += 1;
    }

    let into = |what| cuts_into.get(&what).copied().unwrap_or(0);
    println!("{changes} changes of the list, {cuts_into:?}");
    assert!(into(CutInto::ListUpdate) > changes / 2, "{cuts_into:?} with {changes} changes of the list");
    assert!(into(CutInto::Start) > 0 && into(CutInto::Work) > 0, "{cuts_into:?}");
    assert!(denials > cuts / 5, "the denied phone was refused as such only {denials} times");
    // One last life without a cut: everything that is in the journal comes to the gateway.
    let mut gate = QemuGate::power_up_with(&power, &folder, town.gateway.addresses(), 1).unwrap();
    gate.wait_for(|shown| *shown == Shown::Ready);
    let shown = crate::common::present(&mut gate, vec![Box::new(SharedCard::clone(denied))], None);
    let Shown::Refused(why, Some(sequence)) = shown else { panic!("{shown:?} after all cuts") };
    assert_eq!(why, Reason::Denied.word());
    assert!(!opened.contains_key(&sequence) && refused.insert(sequence, why).is_none());
    let version = town.list_version("deny").unwrap();
    town.wait_gate(GATE, |g| has_list(g, version)).unwrap();
    let said = settled(&town);
    let (entries, taps) = stored(&town);
    let sequences: Vec<u32> = entries.iter().map(|e| e.0).collect();
    assert_eq!(
        sequences,
        (1..=sequences.len() as u32).collect::<Vec<_>>(),
        "a gap or a repeat in the numbers"
    );
    let by_number: BTreeMap<u32, (bool, Option<Reason>)> =
        taps.iter().map(|t| (t.sequence, (t.opened, t.reason))).collect();
    for sequence in opened.keys() {
        assert_eq!(by_number.get(sequence), Some(&(true, None)), "the opened tap {sequence} is lost");
    }
    for (sequence, why) in &refused {
        let there = by_number.get(sequence).map(|&(opened, reason)| (opened, reason.map(Reason::word)));
        assert_eq!(there, Some((false, Some(why.as_str()))), "the refused tap {sequence} is lost");
    }
    // Keys that served twice, entries in a place that was taken, holes: each would be a break.
    no_breaks(&town);
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
