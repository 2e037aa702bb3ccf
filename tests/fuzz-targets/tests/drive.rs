//! Drives every target on stable: its seeds, then seeded mutations of them, a bounded count of each.

#![allow(clippy::unwrap_used, missing_docs)]

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::panic::{AssertUnwindSafe, catch_unwind};
use wavepass_fuzz_targets::TARGETS;

/// Inputs for each target; the slow ones (flash images, RSA, long texts) get a twentieth.
fn count(name: &str) -> u32 {
    let all = if std::env::var_os("WAVEPASS_LONG").is_some() { 1_000_000 } else { 40_000 };
    match name {
        "journal" | "keylog" | "rsa_certificate" | "tariff" | "files_message" | "files_layout" => all / 20,
        _ => all,
    }
}

fn mutate(input: &mut Vec<u8>, other: &[u8], rng: &mut ChaCha8Rng) {
    for _ in 0..rng.random_range(1..=6) {
        let len = input.len();
        match rng.random_range(0..7) {
            0 if len > 0 => input[rng.random_range(0..len)] ^= 1 << rng.random_range(0..8),
            1 if len > 0 => input[rng.random_range(0..len)] = rng.random(),
            2 => input.truncate(rng.random_range(0..=len)),
            3 => input.insert(rng.random_range(0..=len), rng.random()),
            4 if len > 0 => {
                let from = rng.random_range(0..len);
                let upto = rng.random_range(from..len.min(from + 32));
                let part = input[from..=upto].to_vec();
                let at = rng.random_range(0..=len);
                input.splice(at..at, part);
            }
            5 if !other.is_empty() => {
                let from = rng.random_range(0..other.len());
                let at = rng.random_range(0..=len);
                input.truncate(at);
                input.extend(&other[from..]);
            }
            6 if len > 0 => {
                input[rng.random_range(0..len)] = *[0x00, 0x7F, 0x80, 0xFF, 0x81, 0x82].choose(rng).unwrap()
            }
            _ => {}
        }
        input.truncate(40_000);
    }
}

#[test]
fn every_parser_ends_and_never_panics() {
    let mut total = 0u64;
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        let mut rng = ChaCha8Rng::seed_from_u64(0x5EED);
        let count = count(target.name);
        for i in 0..count {
            let mut input = seeds[i as usize % seeds.len()].clone();
            if i as usize >= seeds.len() {
                let other = seeds.choose(&mut rng).unwrap().clone();
                mutate(&mut input, &other, &mut rng);
            }
            let ended = catch_unwind(AssertUnwindSafe(|| (target.run)(&input)));
            let shown: String = input.iter().take(200).map(|b| format!("{b:02x}")).collect();
            assert!(ended.is_ok(), "{} panicked on input {i}: {shown}", target.name);
        }
        total += u64::from(count);
        println!("{:<16} {count} inputs", target.name);
    }
    println!("{total} inputs in all");
}
