//! The deny list's content: it finds what is listed and next to nothing else, in two short reads and five bytes an
//! entry; and a delta gives the very bytes that the whole list has.
#![allow(clippy::unwrap_used, missing_docs)]

use proptest::prelude::*;
use std::collections::BTreeSet;
use wavepass_protocol::deny::{
    Change, Delta, DenyKey, DenyList, HEADER, MAX_BITS, MAX_BLOCK, MAX_CHANGES, MAX_MEAN, MAX_READ, Merge,
    Shape,
};
use wavepass_protocol::lists::{ListError, MAX_ISSUE, PREFIX};
use wavepass_protocol::token::{Expiry, Token};

const SALT: [u8; 8] = *b"saltsalt";

fn long() -> bool {
    std::env::var_os("WAVEPASS_LONG").is_some()
}

fn token(n: u64) -> Token {
    Token::from_digits(&format!("62{n:014}")).unwrap()
}

fn expiry(year: u8, month: u8) -> Expiry {
    Expiry::new(year, month).unwrap()
}

fn content(salt: [u8; 8], bits: u8, keys: &BTreeSet<DenyKey>) -> Vec<u8> {
    let shape = Shape::new(salt, keys.len() as u32, bits).unwrap();
    let mut out = vec![0xEE; shape.content_len()];
    shape.write(&keys.iter().copied().collect::<Vec<_>>(), &mut out).unwrap();
    out
}

fn keys(salt: [u8; 8], bits: u8, listed: impl IntoIterator<Item = (Token, Expiry)>) -> BTreeSet<DenyKey> {
    let shape = Shape::new(salt, 0, bits).unwrap();
    listed.into_iter().map(|(token, expiry)| shape.key(&token, expiry)).collect()
}

/// A list of the tokens numbered 0 to n, all with the same expiry.
fn list(n: u32) -> Vec<u8> {
    let bits = Shape::best_bits(n);
    content(SALT, bits, &keys(SALT, bits, (0..n).map(|i| (token(u64::from(i)), expiry(30, 6)))))
}

fn merged(base: &[u8], delta: &[u8], room: usize) -> Result<Vec<u8>, ListError> {
    let base_list = DenyList::parse(base)?;
    let delta = Delta::parse(delta)?;
    let mut merge = Merge::new(*base_list.shape(), &delta)?;
    let mut result = vec![];
    while let Some(range) = merge.want() {
        let read = &base[range.start..range.end.min(range.start + room)];
        let mut out = vec![0; room];
        let len = merge.step(&delta, read, &mut out)?;
        result.extend(&out[..len]);
        assert!(result.len() <= base.len() + delta.changes().count() * 4, "a merge ends");
    }
    Ok(result)
}

fn delta_bytes(removed: &[DenyKey], added: &[DenyKey]) -> Vec<u8> {
    let mut out = vec![0; Delta::len_of(removed.len() + added.len())];
    Delta::write(removed, added, &mut out).unwrap();
    out
}

fn difference(from: &BTreeSet<DenyKey>, to: &BTreeSet<DenyKey>) -> Vec<u8> {
    let removed: Vec<_> = from.difference(to).copied().collect();
    let added: Vec<_> = to.difference(from).copied().collect();
    delta_bytes(&removed, &added)
}

#[test]
fn a_list_takes_at_most_five_bytes_an_entry_and_hits_by_chance_below_one_in_a_million() {
    let step = |n: u32| if n < 20_000 { 1 } else { n / 5_000 };
    let mut n = 0;
    while n <= 20_000_000 {
        let best = Shape::best_bits(n);
        for bits in (0..=MAX_BITS).filter(|&bits| bits == best || Shape::keeps_bits(n, bits)) {
            let shape = Shape::new(SALT, n, bits).unwrap();
            let chance = f64::from(n) / 2f64.powi(i32::from(bits) + 24);
            assert!(chance < 9e-7, "{n} entries, {bits} bits: {chance}");
            assert!(n < 64 || shape.content_len() <= 5 * n as usize, "{n} entries, {bits} bits");
            assert!(n < 64 || bits != best || chance < 2e-7, "a new list of {n}: {chance}");
        }
        n += step(n);
    }
    // Whatever a list claims, the format holds the bound.
    for bits in 0..=MAX_BITS {
        let most = MAX_MEAN << bits;
        assert!(f64::from(most) / 2f64.powi(i32::from(bits) + 24) < 1e-6);
        assert!(Shape::new(SALT, most, bits).is_ok());
        assert_eq!(Shape::new(SALT, most + 1, bits), Err(ListError::Content));
    }
    assert_eq!(Shape::new(SALT, 0, MAX_BITS + 1), Err(ListError::Content));
}

#[test]
fn a_list_that_shrinks_by_an_eighth_or_grows_threefold_keeps_its_buckets() {
    for n in [64, 100, 1_000, 100_000, 999_999] {
        let bits = Shape::best_bits(n);
        for now in [n - n / 8, n, n * 2, n * 3] {
            assert!(Shape::keeps_bits(now, bits), "from {n} to {now}");
        }
        assert!(!Shape::keeps_bits(n / 4, bits), "five bytes an entry");
        assert!(!Shape::keeps_bits(n * 12, bits));
    }
}

#[test]
fn a_hundred_thousand_entries_are_all_found_in_two_short_reads() {
    let content = list(100_000);
    assert!(content.len() <= 500_000);
    let list = DenyList::parse(&content).unwrap();
    for n in 0..100_000 {
        let look_up = list.shape().look_up(&token(n), Some(expiry(30, 6)));
        let block = look_up.block();
        assert!(block.len() <= MAX_BLOCK);
        let bucket = look_up.bucket(&content[block]).unwrap();
        assert!(bucket.len() <= MAX_READ);
        assert!(look_up.hits(&content[bucket]), "token {n}");
        assert!(list.denies(&token(n), None));
        assert!(!list.denies(&token(n), Some(expiry(33, 6))), "token {n}, renewed");
    }
}

#[test]
fn a_good_card_is_hit_less_than_once_in_a_million() {
    let content = list(100_000);
    let list = DenyList::parse(&content).unwrap();
    let tries: u64 = if long() { 20_000_000 } else { 2_000_000 };
    let good = 1_000_000..1_000_000 + tries;
    let hits = good.filter(|&n| list.denies(&token(n), None)).count() as u64;
    println!("{hits} of {tries} good tokens are hit");
    assert!(hits <= tries / 1_000_000, "{hits} of {tries}");
}

#[test]
fn a_renewed_token_is_not_denied_but_an_unsigned_expiry_is() {
    let listed = token(7);
    let content = content(SALT, 0, &keys(SALT, 0, [(listed, expiry(28, 5))]));
    let list = DenyList::parse(&content).unwrap();
    assert!(list.denies(&listed, Some(expiry(28, 5))));
    assert!(list.denies(&listed, None));
    assert!(!list.denies(&token(8), None));
    // Every other month within twenty-one years on either side.
    for away in 1..256u32 {
        for at in [(28 * 12 + 4 + away), (28 * 12 + 4u32).wrapping_sub(away)] {
            let Ok(year) = u8::try_from(at / 12) else { continue };
            if let Ok(other) = Expiry::new(year, (at % 12) as u8 + 1) {
                assert!(!list.denies(&listed, Some(other)), "{away} months away");
            }
        }
    }
}

#[test]
fn an_empty_list_denies_nobody() {
    let content = content(SALT, 0, &BTreeSet::new());
    let list = DenyList::parse(&content).unwrap();
    assert_eq!((content.len(), list.shape().entries()), (HEADER + 5, 0));
    assert!((0..1_000).all(|n| !list.denies(&token(n), None)));
}

#[test]
fn a_content_with_any_byte_wrong_is_refused_or_another_list() {
    let sound = list(300);
    let entries_at = sound.len() - 300 * 4;
    for at in 8..sound.len() {
        for flip in [1, 0x80, 0xFF] {
            let mut changed = sound.clone();
            changed[at] ^= flip;
            let parsed = DenyList::parse(&changed);
            assert!(at >= entries_at || parsed.is_err(), "byte {at} of header or directory");
            // Out of order or not, asking is safe.
            if let Ok(list) = DenyList::parsed(&changed) {
                let _ = (0..20).filter(|&n| list.denies(&token(n), None)).count();
            }
        }
    }
    for len in (0..sound.len()).chain([sound.len() + 1]) {
        let mut cut = sound.clone();
        cut.resize(len, 0);
        assert_eq!(DenyList::parse(&cut).err(), Some(ListError::Content), "{len} bytes");
    }
}

#[test]
fn entries_out_of_order_or_twice_are_refused() {
    let keys = keys(SALT, 0, (0..5).map(|n| (token(n), expiry(30, 1))));
    let sound = content(SALT, 0, &keys);
    let at = sound.len() - 20;
    let mut swapped = sound.clone();
    swapped.copy_within(at + 4..at + 8, at);
    swapped[at + 4..at + 8].copy_from_slice(&sound[at..at + 4]);
    assert_eq!(DenyList::parse(&swapped).err(), Some(ListError::Content));
    let mut twice = sound.clone();
    twice.copy_within(at + 4..at + 8, at);
    assert_eq!(DenyList::parse(&twice).err(), Some(ListError::Content));
    let mut unsorted: Vec<_> = keys.iter().copied().collect();
    unsorted.swap(0, 1);
    let shape = Shape::new(SALT, 5, 0).unwrap();
    assert_eq!(shape.write(&unsorted, &mut vec![0; shape.content_len()]), Err(ListError::Content));
}

#[test]
fn a_salt_that_fills_one_bucket_is_refused() {
    let crowd: Vec<DenyKey> = (0..65).map(|n| DenyKey([0, 0, 0, 0, 0, n, 1])).collect();
    let shape = Shape::new(SALT, 65, 8).unwrap();
    let mut out = vec![0; shape.content_len()];
    assert_eq!(shape.write(&crowd, &mut out), Err(ListError::Content));
    let shape = Shape::new(SALT, 64, 8).unwrap();
    let mut out = vec![0; shape.content_len()];
    assert_eq!(shape.write(&crowd[..64], &mut out), Ok(()));
    assert_eq!(merged(&out, &delta_bytes(&[], &crowd[64..]), 256), Err(ListError::Content));
}

#[test]
fn a_delta_of_what_is_not_there_or_is_there_already_is_refused() {
    let bits = Shape::best_bits(500);
    let all = keys(SALT, bits, (0..500).map(|n| (token(n), expiry(30, 1))));
    let base = content(SALT, bits, &all);
    let sorted: Vec<_> = all.iter().copied().collect();
    let shape = Shape::new(SALT, 0, bits).unwrap();
    let stranger = shape.key(&token(900), expiry(30, 1));
    assert!(!all.contains(&stranger));
    let beyond = DenyKey([0xFF; 7]);
    for at in [0, 250, 499] {
        assert_eq!(merged(&base, &delta_bytes(&[], &sorted[at..=at]), 256), Err(ListError::Content));
    }
    assert_eq!(merged(&base, &delta_bytes(&[stranger], &[]), 256), Err(ListError::Content));
    assert_eq!(merged(&base, &delta_bytes(&[beyond], &[]), 256), Err(ListError::Content));
    assert_eq!(merged(&base, &delta_bytes(&[], &[beyond]), 256), Err(ListError::Content));
    let empty = content(SALT, 0, &BTreeSet::new());
    assert_eq!(merged(&empty, &delta_bytes(&[DenyKey([0; 7])], &[]), 256), Err(ListError::Content));
    let unsorted = delta_bytes(&[sorted[1], sorted[0]], &[]);
    assert_eq!(merged(&base, &unsorted, 256), Err(ListError::Content));
}

#[test]
fn a_delta_of_another_length_than_it_says_is_refused() {
    let sound = delta_bytes(&[DenyKey([1; 7])], &[DenyKey([2; 7]), DenyKey([3; 7])]);
    assert!(Delta::parse(&sound).is_ok());
    for len in 0..sound.len() {
        assert_eq!(Delta::parse(&sound[..len]).err(), Some(ListError::Content));
    }
    let mut counts = sound.clone();
    counts[..8].fill(0xFF);
    assert_eq!(Delta::parse(&counts).err(), Some(ListError::Content));
    let changes: Vec<_> = Delta::parse(&sound).unwrap().changes().map(|(_, change)| change).collect();
    assert_eq!(changes, [Change::Removed, Change::Added, Change::Added]);
    assert!(
        PREFIX + Delta::len_of(MAX_CHANGES) <= MAX_ISSUE
            && PREFIX + Delta::len_of(MAX_CHANGES + 1) > MAX_ISSUE
    );
}

proptest! {
    #[test]
    fn a_delta_gives_the_bytes_of_the_whole_list(
        salt: [u8; 8],
        bits in 0u8..12,
        base in prop::collection::btree_set(0u64..3_000, 0..400),
        change in prop::collection::btree_set(0u64..3_000, 0..200),
        room in 68usize..400,
    ) {
        let key = |n: u64| (token(n), expiry((n % 40) as u8, (n % 12) as u8 + 1));
        let from = keys(salt, bits, base.iter().map(|&n| key(n)));
        let to = keys(salt, bits, base.symmetric_difference(&change).map(|&n| key(n)));
        let fits = |keys: &BTreeSet<DenyKey>| {
            Shape::new(salt, keys.len() as u32, bits).is_ok_and(|shape| {
                let keys: Vec<_> = keys.iter().copied().collect();
                shape.write(&keys, &mut vec![0; shape.content_len()]).is_ok()
            })
        };
        prop_assume!(fits(&from) && fits(&to));
        let whole = content(salt, bits, &to);
        prop_assert_eq!(merged(&content(salt, bits, &from), &difference(&from, &to), room), Ok(whole));
    }

    #[test]
    fn every_listed_token_is_found(
        salt: [u8; 8],
        listed in prop::collection::btree_map(0u64..100_000, (0u8..100, 1u8..13), 0..500),
    ) {
        let bits = Shape::best_bits(listed.len() as u32);
        let listed: Vec<_> = listed.iter().map(|(&n, &(y, m))| (token(n), expiry(y, m))).collect();
        let content = content(salt, bits, &keys(salt, bits, listed.iter().copied()));
        let list = DenyList::parse(&content).unwrap();
        for (token, expiry) in &listed {
            prop_assert!(list.denies(token, Some(*expiry)) && list.denies(token, None));
        }
    }
}
