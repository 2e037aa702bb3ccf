//! The power goes after every single written word of a whole scenario, with none, all and random subsets of
//! the bits in flight changed. Whatever was durable stays; nothing is repeated; no number is skipped.

#![allow(clippy::unwrap_used, missing_docs)]

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use wavepass_journal::cells::Cell;
use wavepass_journal::keylog::KeyLog;
use wavepass_journal::sim::{Cut, FlashError, RamFlash, block_on};
use wavepass_journal::{Class, Error, Journal, Limits, MAX_LOCAL, MAX_PAYLOAD};

const PAGES: usize = 4;

fn payload(sequence: u32) -> Vec<u8> {
    (0..180 + sequence as usize * 37 % 300).map(|i| (i as u32 * 7 + sequence * 13) as u8).collect()
}

/// Half the last 16 bytes of an entry's payload.
fn tail(sequence: u32) -> [u8; 8] {
    if sequence == 0 {
        return [0; 8];
    }
    let payload = payload(sequence);
    let at = payload.len() - 16;
    payload[at..at + 8].try_into().unwrap()
}

fn class(sequence: u32) -> Class {
    match sequence % 5 {
        0 => Class::Refused,
        1 => Class::Passage,
        _ => Class::Opened,
    }
}

/// What a gate knows it has done, however the flash ended.
#[derive(Default)]
struct Known {
    durable: u32,
    begun: u32,
    acknowledged: u32,
    asked: u32,
}

async fn scenario(flash: RamFlash, known: &mut Known, entries: u32) -> Result<(), Error<FlashError>> {
    let mut journal = Journal::open(flash, Limits { refusal_percent: 90 }, |_| {}).await?;
    known.durable = known.durable.max(journal.next_sequence() - 1);
    for _ in 0..entries {
        journal.prepare().await?;
        let sequence = journal.next_sequence();
        known.begun = sequence;
        journal.append(sequence, class(sequence), &sequence.to_le_bytes(), &payload(sequence)).await?;
        known.durable = sequence;
        if sequence.is_multiple_of(3) {
            known.asked = sequence - 1;
            journal.acknowledge(sequence - 1).await?;
            known.acknowledged = sequence - 1;
        }
    }
    Ok(())
}

fn verify(flash: &RamFlash, known: &Known, place: &str) {
    let mut told = BTreeMap::new();
    let opened = block_on(Journal::open(flash.clone(), Limits::default(), |entry| {
        told.insert(entry.sequence, (entry.class, entry.local.to_vec()));
    }));
    let mut journal = opened.unwrap();
    let last = journal.next_sequence() - 1;
    assert!(last == known.durable || last == known.begun, "{place}: {last}, durable {}", known.durable);
    assert_eq!(journal.tail(), tail(last), "{place}: the tail is another entry's");
    let acknowledged = journal.acknowledged();
    assert!(acknowledged >= known.acknowledged, "{place}: an acknowledgement was forgotten");
    assert!(acknowledged <= known.asked, "{place}: an acknowledgement was made up");
    let mut buffer = [0; MAX_LOCAL + MAX_PAYLOAD];
    for sequence in acknowledged + 1..=last {
        let entry = block_on(journal.read(sequence, &mut buffer)).unwrap();
        let entry = entry.unwrap_or_else(|| panic!("{place}: entry {sequence} is lost"));
        assert_eq!(entry.payload, payload(sequence), "{place}");
        assert_eq!((entry.class, entry.local), (class(sequence), &sequence.to_le_bytes()[..]), "{place}");
        assert_eq!(told.get(&sequence).map(|t| t.0), Some(class(sequence)), "{place}");
    }
}

fn flips(rng: &mut ChaCha8Rng, round: u32) -> u64 {
    match round {
        0 => 0,
        1 => u64::MAX,
        _ => rng.random(),
    }
}

fn rounds() -> u32 {
    if std::env::var_os("WAVEPASS_LONG").is_some() { 12 } else { 3 }
}

#[test]
fn a_journal_cut_at_any_word_loses_nothing_durable() {
    const ENTRIES: u32 = 60;
    let whole = RamFlash::new(PAGES * 4096);
    block_on(scenario(whole.clone(), &mut Known::default(), ENTRIES)).unwrap();
    let words = whole.words();
    assert!(words > 4_000, "the scenario goes round the ring: {words} words");
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for round in 0..rounds() {
        for after in 0..words {
            let flash = RamFlash::new(PAGES * 4096);
            flash.cut(Cut { after, flips: flips(&mut rng, round) });
            let mut known = Known::default();
            let ended = block_on(scenario(flash.clone(), &mut known, ENTRIES));
            assert_eq!(ended, Err(Error::Flash(FlashError::Cut)), "cut after {after}");
            assert!(flash.power_on());
            let place = format!("round {round}, cut after word {after}");
            verify(&flash, &known, &place);
            // And it goes on: the same numbers continue without gap or repeat.
            block_on(scenario(flash.clone(), &mut known, 5)).unwrap_or_else(|e| panic!("{place}: {e:?}"));
            verify(&flash, &known, &place);
        }
    }
}

#[test]
fn the_newest_tail_outlives_its_entry_where_cuts_leave_pages_without_entries() {
    let flash = RamFlash::new(PAGES * 4096);
    block_on(scenario(flash.clone(), &mut Known::default(), 3)).unwrap();
    let mut journal = open(&flash);
    block_on(journal.acknowledge(3)).unwrap();
    let mut buffer = [0; MAX_LOCAL + MAX_PAYLOAD];
    let mut gone = false;
    // Ten lives take one page: cuts in its header leave it to be erased again, one in a record's header closes it.
    for life in 0..10 * (PAGES + 2) {
        let mut journal = open(&flash);
        assert_eq!((journal.next_sequence(), journal.tail()), (4, tail(3)), "life {life}");
        gone |= block_on(journal.read(3, &mut buffer)).unwrap().is_none();
        block_on(journal.prepare()).unwrap();
        // The record's header is torn, so that its page is closed; or the page's own.
        flash.cut(Cut { after: life as u64 % 10, flips: 0x0F0F_0F0F });
        assert!(block_on(journal.append(4, Class::Opened, &[], &payload(4))).is_err());
        flash.power_on();
    }
    assert!(gone, "the page of entry 3 was used again");
    let mut journal = open(&flash);
    block_on(journal.prepare()).unwrap();
    block_on(journal.append(4, Class::Opened, &[], &payload(4))).unwrap();
    assert_eq!(open(&flash).tail(), tail(4));
}

#[test]
fn a_second_cut_during_recovery_changes_nothing() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for after in (0..4_000).step_by(7) {
        let flash = RamFlash::new(PAGES * 4096);
        let mut known = Known::default();
        for _ in 0..3 {
            flash.cut(Cut { after: rng.random_range(0..=after), flips: rng.random() });
            let _ = block_on(scenario(flash.clone(), &mut known, 40));
            flash.power_on();
            verify(&flash, &known, &format!("cut near word {after}"));
        }
    }
}

#[test]
fn a_full_journal_says_so_and_keeps_what_is_unacknowledged() {
    let flash = RamFlash::new(PAGES * 4096);
    let mut journal = block_on(Journal::open(flash.clone(), Limits::default(), |_| {})).unwrap();
    let mut written = 0;
    loop {
        block_on(journal.prepare()).unwrap();
        match block_on(journal.append(written + 1, Class::Opened, &[], &payload(written + 1))) {
            Ok(()) => written += 1,
            Err(why) => {
                assert_eq!(why, Error::Full);
                break;
            }
        }
    }
    assert!(written > 20);
    let mut buffer = [0; MAX_LOCAL + MAX_PAYLOAD];
    for sequence in 1..=written {
        assert!(block_on(journal.read(sequence, &mut buffer)).unwrap().is_some(), "entry {sequence}");
    }
    // Acknowledging makes room again, and what is acknowledged can still be read until the room is needed.
    block_on(journal.acknowledge(written)).unwrap();
    assert!(block_on(journal.read(1, &mut buffer)).unwrap().is_some());
    block_on(journal.prepare()).unwrap();
    block_on(journal.append(written + 1, Class::Opened, &[], &payload(0))).unwrap();
    assert!(journal.oldest() > 1);
    assert_eq!(block_on(journal.read(1, &mut buffer)).unwrap(), None);
}

#[test]
fn refusals_hold_no_more_than_their_share() {
    let flash = RamFlash::new(16 * 4096);
    let mut journal = block_on(Journal::open(flash, Limits { refusal_percent: 25 }, |_| {})).unwrap();
    let mut refused = 0;
    loop {
        block_on(journal.prepare()).unwrap();
        match block_on(journal.append(journal.next_sequence(), Class::Refused, &[], &[0; 400])) {
            Ok(()) => refused += 1,
            Err(why) => {
                assert_eq!(why, Error::RefusalShare);
                break;
            }
        }
    }
    assert!((30..=40).contains(&refused), "{refused}");
    block_on(journal.append(journal.next_sequence(), Class::Opened, &[], &[0; 400])).unwrap();
    block_on(journal.acknowledge(journal.next_sequence() - 1)).unwrap();
    block_on(journal.append(journal.next_sequence(), Class::Refused, &[], &[0; 400])).unwrap();
}

fn open(flash: &RamFlash) -> Journal<RamFlash> {
    block_on(Journal::open(flash.clone(), Limits { refusal_percent: 25 }, |_| {})).unwrap()
}

#[test]
fn after_a_failed_write_nothing_called_durable_is_lost() {
    for landed in [0, 4, 8, 12, 16, 100, 10_000] {
        for failing in 1..=30 {
            let flash = RamFlash::new(8 * 4096);
            let mut journal = open(&flash);
            let mut durable = Vec::new();
            for i in 1..=60u32 {
                if i == failing {
                    flash.fail_next_write(landed);
                }
                if block_on(journal.prepare()).is_err() {
                    continue;
                }
                let sequence = journal.next_sequence();
                match block_on(journal.append(sequence, Class::Opened, &[], &[i as u8; 300])) {
                    Ok(()) => durable.push((sequence, i as u8)),
                    // A gate starts its journal again after a failure.
                    Err(_) => journal = open(&flash),
                }
            }
            let mut journal = open(&flash);
            let mut buffer = [0; MAX_LOCAL + MAX_PAYLOAD];
            for (sequence, fill) in durable {
                let entry = block_on(journal.read(sequence, &mut buffer)).unwrap().unwrap();
                assert_eq!(entry.payload, [fill; 300], "landed {landed}, write {failing}, entry {sequence}");
            }
        }
    }
}

#[test]
fn a_rotten_bit_costs_one_entry() {
    let whole = RamFlash::new(8 * 4096);
    let mut journal = open(&whole);
    for sequence in 1..=40 {
        block_on(journal.prepare()).unwrap();
        block_on(journal.append(sequence, Class::Opened, &[], &[sequence as u8; 300])).unwrap();
    }
    for rotten in 1..40u8 {
        let mut content = whole.content();
        let at = content.windows(60).position(|w| w.iter().all(|&b| b == rotten)).unwrap();
        content[at + 5] ^= 1;
        let mut journal = open(&RamFlash::with(content));
        assert_eq!(journal.next_sequence(), 41, "entry {rotten}");
        let mut buffer = [0; MAX_LOCAL + MAX_PAYLOAD];
        let missing: Vec<u32> =
            (1..=40).filter(|&n| block_on(journal.read(n, &mut buffer)).unwrap().is_none()).collect();
        assert_eq!(missing, [u32::from(rotten)]);
    }
}

#[test]
fn a_rotten_page_header_costs_nothing() {
    let whole = RamFlash::new(8 * 4096);
    let mut journal = open(&whole);
    for sequence in 1..=60 {
        block_on(journal.prepare()).unwrap();
        block_on(journal.append(sequence, Class::Opened, &[], &[sequence as u8; 300])).unwrap();
    }
    let content = whole.content();
    let pages: Vec<usize> = (0..8).filter(|page| content[page * 4096..].starts_with(b"WPJ2")).collect();
    assert_eq!(pages, [0, 1, 2, 3, 4]);
    let all = pages.len();
    for rotten_pages in
        (0..all).flat_map(|from| (from + 1..=all).map(move |to| from..to)).filter(|r| r.len() < all)
    {
        let page = format!("{rotten_pages:?}");
        let mut rotten = content.clone();
        for page in rotten_pages {
            rotten[page * 4096 + 9] ^= 0x10;
        }
        let flash = RamFlash::with(rotten);
        let mut seen = Vec::new();
        let entry = |e: wavepass_journal::Entry<'_>| seen.push(e.sequence);
        let mut journal = block_on(Journal::open(flash.clone(), Limits::default(), entry)).unwrap();
        assert_eq!(seen, (1..=60).collect::<Vec<u32>>(), "page {page}");
        assert_eq!((journal.oldest(), journal.next_sequence()), (1, 61), "page {page}");
        for sequence in 61..=80 {
            block_on(journal.prepare()).unwrap();
            block_on(journal.append(sequence, Class::Opened, &[], &[sequence as u8; 300])).unwrap();
        }
        let mut journal = open(&flash);
        let mut buffer = [0; MAX_LOCAL + MAX_PAYLOAD];
        for sequence in 1..=80 {
            let entry = block_on(journal.read(sequence, &mut buffer)).unwrap();
            assert_eq!(entry.map(|e| e.payload[0]), Some(sequence as u8), "page {page}");
        }
    }
}

#[test]
fn a_restart_does_not_use_up_the_refusals_share() {
    let flash = RamFlash::new(16 * 4096);
    let mut journal = open(&flash);
    for sequence in 1..=400 {
        block_on(journal.prepare()).unwrap();
        let class = if sequence % 2 == 0 { Class::Refused } else { Class::Opened };
        block_on(journal.append(sequence, class, &[], &[7; 400])).unwrap();
        block_on(journal.acknowledge(sequence - 1)).unwrap();
    }
    let mut journal = open(&flash);
    block_on(journal.prepare()).unwrap();
    block_on(journal.append(401, Class::Refused, &[], &[7; 400])).unwrap();
}

#[test]
fn numbers_out_of_turn_are_refused() {
    let mut journal = block_on(Journal::open(RamFlash::new(4 * 4096), Limits::default(), |_| {})).unwrap();
    block_on(journal.prepare()).unwrap();
    assert_eq!(block_on(journal.append(2, Class::Opened, &[], &[])), Err(Error::Sequence));
    block_on(journal.append(1, Class::Opened, &[], &[1])).unwrap();
    assert_eq!(block_on(journal.append(1, Class::Opened, &[], &[1])), Err(Error::Sequence));
    block_on(journal.acknowledge(7)).unwrap();
    assert_eq!(journal.acknowledged(), 0, "a number that was never written is not acknowledged");
}

async fn steps(flash: RamFlash, durable: &mut (u32, u32), count: u32) -> Result<(), Error<FlashError>> {
    let mut log = KeyLog::open(flash).await?;
    durable.0 = durable.0.max(log.counter());
    for _ in 0..count {
        log.prepare().await?;
        let counter = log.counter() + 1;
        for register in 0..counter.trailing_zeros() {
            log.put(register as u8, &[counter as u8; 16]).await?;
        }
        durable.1 = counter;
        log.advance(counter).await?;
        durable.0 = counter;
        log.erase(counter.trailing_zeros() as u8).await?;
    }
    Ok(())
}

#[test]
fn a_key_counter_never_goes_back_and_used_keys_are_zeros() {
    const STEPS: u32 = 300;
    let whole = RamFlash::new(2 * 4096);
    block_on(steps(whole.clone(), &mut (0, 0), STEPS)).unwrap();
    let words = whole.words();
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for round in 0..rounds() {
        for after in 0..words {
            let flash = RamFlash::new(2 * 4096);
            flash.cut(Cut { after, flips: flips(&mut rng, round) });
            let mut durable = (0, 0);
            let _ = block_on(steps(flash.clone(), &mut durable, STEPS));
            flash.power_on();
            let mut log = block_on(KeyLog::open(flash.clone())).unwrap();
            let counter = log.counter();
            assert!(
                counter == durable.0 || counter == durable.1,
                "cut after {after}: {counter} of {durable:?}"
            );
            // Every key whose value names a counter before its register's last use has been overwritten.
            for register in (0..32u8).filter(|&r| counter >> r & 1 == 1) {
                block_on(log.erase(register)).unwrap();
            }
            block_on(log.prepare()).unwrap();
            let live: Vec<[u8; 16]> = (0..32).filter_map(|r| block_on(log.key(r)).unwrap()).collect();
            let content = flash.content();
            for used in 1..counter.min(250) {
                let key = [used as u8; 16];
                let found = content.windows(16).any(|w| w == key);
                assert!(!found || live.contains(&key), "cut after {after}: key {used} is still in flash");
            }
        }
    }
}

#[test]
fn a_cell_cut_at_any_word_holds_the_old_or_the_new_blob() {
    let (old, new) = (payload(3), payload(8));
    let whole = RamFlash::new(4 * 4096);
    let mut cell = block_on(Cell::open(whole.clone())).unwrap();
    block_on(cell.store(&old)).unwrap();
    let before = whole.words();
    block_on(cell.store(&new)).unwrap();
    let words = whole.words() - before;
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for round in 0..rounds() {
        for after in 0..words {
            let flash = RamFlash::new(4 * 4096);
            let mut cell = block_on(Cell::open(flash.clone())).unwrap();
            block_on(cell.store(&old)).unwrap();
            flash.cut(Cut { after, flips: flips(&mut rng, round) });
            assert!(block_on(cell.store(&new)).is_err());
            flash.power_on();
            let mut cell = block_on(Cell::open(flash)).unwrap();
            let mut out = [0; 1024];
            let len = block_on(cell.load(&mut out)).unwrap().unwrap();
            assert!(out[..len] == old || out[..len] == new, "cut after {after}");
        }
    }
}

/// A blob of three erase units, and the portions in which it comes.
fn large_blob(seed: u8) -> (Vec<u8>, Vec<usize>) {
    let blob: Vec<u8> = (0..9_001u32).map(|i| (i * 7 + i / 256) as u8 ^ seed).collect();
    let portions = [1usize, 300, 7, 512, 8, 64, 13].into_iter().cycle();
    let mut left = blob.len();
    let portions = portions.map_while(|n| {
        let n = n.min(left);
        left -= n;
        (n > 0).then_some(n)
    });
    (blob, portions.collect())
}

/// Writes a blob in portions; now and then there is idle time.
async fn write_in_portions(cell: &mut Cell<RamFlash>, seed: u8) -> Result<(), Error<FlashError>> {
    let (blob, portions) = large_blob(seed);
    cell.begin(blob.len())?;
    let mut at = 0;
    for (i, n) in portions.into_iter().enumerate() {
        if i % 3 == 0 {
            cell.prepare().await?;
        }
        cell.append(&blob[at..at + n]).await?;
        at += n;
    }
    let mut back = vec![0; blob.len()];
    cell.read_new(0, &mut back).await?;
    assert_eq!(back, blob);
    cell.commit().await
}

fn content(cell: &mut Cell<RamFlash>) -> Vec<u8> {
    let mut out = vec![0; cell.len().unwrap()];
    block_on(cell.load(&mut out)).unwrap();
    out
}

#[test]
fn a_blob_written_in_portions_and_cut_at_any_word_is_the_old_or_the_new_one() {
    let whole = RamFlash::new(8 * 4096);
    let mut cell = block_on(Cell::open(whole.clone())).unwrap();
    // Both halves have been used.
    block_on(write_in_portions(&mut cell, 1)).unwrap();
    block_on(write_in_portions(&mut cell, 2)).unwrap();
    let (base, before) = (whole.content(), whole.words());
    block_on(write_in_portions(&mut cell, 3)).unwrap();
    let words = whole.words() - before;
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    for round in 0..rounds() {
        // The header, at the end, is cut at every word; the body at some.
        for after in (0..words - 10).step_by(11).chain(words - 10..words) {
            let flash = RamFlash::with(base.clone());
            let mut cell = block_on(Cell::open(flash.clone())).unwrap();
            flash.cut(Cut { after, flips: flips(&mut rng, round) });
            assert!(block_on(write_in_portions(&mut cell, 3)).is_err());
            flash.power_on();
            let mut cell = block_on(Cell::open(flash)).unwrap();
            let found = content(&mut cell);
            assert!(found == large_blob(2).0 || found == large_blob(3).0, "cut after {after}");
            block_on(write_in_portions(&mut cell, 3)).unwrap();
            assert!(content(&mut cell) == large_blob(3).0);
        }
    }
}

#[test]
fn the_old_blob_is_read_while_the_new_one_is_written() {
    let mut cell = block_on(Cell::open(RamFlash::new(8 * 4096))).unwrap();
    assert!(cell.is_empty() && block_on(cell.read(0, &mut [0; 1])).is_err());
    block_on(cell.store(&large_blob(1).0)).unwrap();
    let (old, (new, portions)) = (large_blob(1).0, large_blob(2));
    cell.begin(new.len()).unwrap();
    let mut at = 0;
    for n in portions {
        block_on(cell.append(&new[at..at + n])).unwrap();
        at += n;
        let mut part = vec![0; n];
        let from = (at * 31) % (old.len() - n);
        block_on(cell.read(from, &mut part)).unwrap();
        assert_eq!(part, old[from..from + n], "{n} bytes from {from}");
    }
    block_on(cell.commit()).unwrap();
    assert!(content(&mut cell) == new);
    assert_eq!(block_on(cell.read(new.len() - 1, &mut [0; 2])), Err(Error::TooLong));
}

#[test]
fn a_blob_that_was_not_given_to_its_end_is_not_put_in_force() {
    let flash = RamFlash::new(8 * 4096);
    let mut cell = block_on(Cell::open(flash.clone())).unwrap();
    block_on(cell.store(&[1; 100])).unwrap();
    assert_eq!(block_on(cell.append(&[2])), Err(Error::Unfinished), "not begun");
    cell.begin(200).unwrap();
    block_on(cell.append(&[2; 199])).unwrap();
    assert_eq!(block_on(cell.read_new(0, &mut [0; 8])), Err(Error::Unfinished));
    assert_eq!(block_on(cell.commit()), Err(Error::Unfinished));
    assert_eq!(block_on(cell.append(&[2; 2])), Err(Error::TooLong));
    block_on(cell.append(&[2])).unwrap();
    cell.discard();
    assert_eq!(block_on(cell.commit()), Err(Error::Unfinished));
    assert_eq!(cell.begin(cell.room() + 1), Err(Error::TooLong));
    assert!(content(&mut cell) == [1; 100]);
    block_on(cell.store(&[])).unwrap();
    assert!(content(&mut block_on(Cell::open(flash)).unwrap()).is_empty());
}

#[test]
fn arbitrary_flash_content_never_panics() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let sound = RamFlash::new(PAGES * 4096);
    block_on(scenario(sound.clone(), &mut Known::default(), 50)).unwrap();
    for round in 0..rounds() * 300 {
        let mut content = if round % 2 == 0 { sound.content() } else { vec![0; PAGES * 4096] };
        if round % 2 == 0 {
            for _ in 0..rng.random_range(1..40) {
                let at = rng.random_range(0..content.len());
                content[at] = rng.random();
            }
        } else {
            rng.fill(&mut content[..]);
        }
        let flash = RamFlash::with(content.clone());
        let mut journal = block_on(Journal::open(flash, Limits::default(), |_| {})).unwrap();
        let mut buffer = [0; MAX_LOCAL + MAX_PAYLOAD];
        for sequence in journal.oldest()..journal.next_sequence().min(journal.oldest().saturating_add(200)) {
            let _ = block_on(journal.read(sequence, &mut buffer));
        }
        let _ = block_on(journal.prepare());
        let log = block_on(KeyLog::open(RamFlash::with(content.clone())));
        assert!(log.is_ok(), "{:?}", log.err());
        assert!(block_on(Cell::open(RamFlash::with(content))).is_ok());
    }
}
