//! How fast flash wears: erases are counted over 20,000 taps and held against the formulas of docs/formats.md, Wear and
//! life.
#![allow(clippy::unwrap_used, missing_docs)]

use wavepass_journal::keylog::KeyLog;
use wavepass_journal::sim::{ERASE, RamFlash, block_on};
use wavepass_journal::{Class, Journal, Limits};

const TAPS: u32 = 20_000;
/// Records of a house tap, its passage and an acknowledgement: 16 each and a local header of 22 for the first two.
const TAP_PAYLOAD: usize = 176;
const PASSAGE_PAYLOAD: usize = 51;
const BYTES_PER_TAP: f64 = 216.0 + 96.0 + 16.0;

#[test]
fn the_journal_spreads_its_erases_and_lives_as_long_as_documented() {
    let flash = RamFlash::new(64 * ERASE);
    let mut journal = block_on(Journal::open(flash.clone(), Limits::default(), |_| {})).unwrap();
    let local = [1; 22];
    for _ in 0..TAPS {
        for (class, len) in [(Class::Opened, TAP_PAYLOAD), (Class::Passage, PASSAGE_PAYLOAD)] {
            block_on(journal.append(journal.next_sequence(), class, &local, &vec![3; len]))
                .or_else(|_| {
                    block_on(journal.prepare())?;
                    block_on(journal.append(journal.next_sequence(), class, &local, &vec![3; len]))
                })
                .unwrap();
            block_on(journal.prepare()).unwrap();
        }
        block_on(journal.acknowledge(journal.next_sequence() - 1)).unwrap();
    }
    let erases = flash.erases();
    let (least, most) = (erases.iter().min().unwrap(), erases.iter().max().unwrap());
    assert!(most - least <= 1, "{least} to {most} erases of a page");
    let expected = f64::from(TAPS) * BYTES_PER_TAP / (4_096.0 - 32.0);
    let ratio = f64::from(erases.iter().sum::<u32>()) / expected;
    println!("{ratio:.3} of {expected:.0} erases");
    assert!((1.0..1.1).contains(&ratio), "{ratio} of {expected} erases");
}

#[test]
fn the_key_log_wears_both_halves_alike_and_as_documented() {
    for pages in [2usize, 4, 16] {
        let flash = RamFlash::new(pages * ERASE);
        let mut log = block_on(KeyLog::open(flash.clone())).unwrap();
        // The device of DUKPT: every step puts the keys below its lowest bit, one on average.
        let keys = 2 * TAPS;
        for counter in 1..=keys {
            block_on(log.prepare()).unwrap();
            for register in 0..counter.trailing_zeros() {
                block_on(log.put(register as u8, &[counter as u8; 16])).unwrap();
            }
            block_on(log.advance(counter)).unwrap();
            block_on(log.erase(counter.trailing_zeros() as u8)).unwrap();
        }
        let erases = flash.erases();
        let (least, most) = (*erases.iter().min().unwrap(), *erases.iter().max().unwrap());
        assert!(most - least <= 2, "{least} to {most} erases of a page");
        // A half takes two slots of 24 a key, less its header, a dozen live keys, and the room for one large step.
        let keys_per_half = ((pages / 2 * ERASE) as f64 - 24.0 - 32.0 * 24.0 - 12.0 * 24.0) / 48.0;
        let expected = f64::from(keys) / (2.0 * keys_per_half);
        let ratio = f64::from(most) / expected;
        println!("{pages} pages: {most} erases of a page, {expected:.0} expected");
        assert!((0.85..1.15).contains(&ratio), "{pages} pages: {most} erases, {expected} expected");
    }
}
