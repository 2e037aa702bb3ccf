//! Verdicts are those of the reference, whatever is remembered.

use super::FastVerifier;
use crate::testing::{self, long, rng};
use rand::RngExt;
use wavepass_protocol::ecc::{P256Verifier, PublicKey, SIGNATURE_LEN, SigningKey, Verifier};

fn key(rng: &mut impl RngExt) -> SigningKey {
    loop {
        if let Some(key) = SigningKey::from_bytes(&rng.random()) {
            return key;
        }
    }
}

fn prepare<const N: usize>(verifier: &mut FastVerifier<N>, key: &PublicKey) {
    verifier.remember(key);
    while verifier.prepare() {}
}

/// The verdict, which must be the reference's.
fn verdict<const N: usize>(
    verifier: &mut FastVerifier<N>,
    key: &PublicKey,
    message: &[&[u8]],
    signature: &[u8; SIGNATURE_LEN],
) -> bool {
    let ours = verifier.verify(key, message, signature);
    assert_eq!(ours, P256Verifier.verify(key, message, signature));
    ours
}

#[test]
fn genuine_signatures_verify_and_altered_ones_do_not() {
    let mut rng = rng("genuine");
    let mut verifier = FastVerifier::<2>::new();
    for round in 0..long(50, 20_000) {
        let signer = key(&mut rng);
        let public = signer.public_key();
        if round % 2 == 0 {
            prepare(&mut verifier, &public);
            assert!(verifier.remembers(&public));
        }
        let message: [u8; 100] = rng.random();
        for _ in 0..10 {
            let (a, b) = message.split_at(rng.random_range(0..=100));
            let signature = signer.sign(&[&message], rng.random());
            assert!(verdict(&mut verifier, &public, &[a, b], &signature));
            let mut altered = signature;
            altered[rng.random_range(0..SIGNATURE_LEN)] ^= 1 << rng.random_range(0..8u8);
            assert!(!verdict(&mut verifier, &public, &[a, b], &altered));
            assert!(!verdict(&mut verifier, &public, &[a], &signature) || b.is_empty());
        }
    }
}

#[test]
fn signatures_and_keys_outside_their_ranges_are_refused() {
    let mut rng = rng("ranges");
    let signer = key(&mut rng);
    let (x, signature) = (*signer.public_key().x(), signer.sign(&[b"tap"], [7; 32]));
    let (mut r, mut s) = ([0; 32], [0; 32]);
    r.copy_from_slice(&signature[..32]);
    s.copy_from_slice(&signature[32..]);
    let near_n = |by: i8| {
        let mut bytes = testing::N;
        bytes[31] = bytes[31].wrapping_add_signed(by);
        bytes
    };
    let mut one = [0; 32];
    one[31] = 1;
    let edges = [[0; 32], one, near_n(-1), near_n(0), near_n(1), [0xFF; 32]];
    let mut no_point = [0; 32];
    no_point[31] = 1;
    while PublicKey::from_x(no_point).y().is_some() {
        no_point[31] += 1;
    }
    let mut verifier = FastVerifier::<4>::new();
    for remembered in [false, true] {
        for x in [x, [0; 32], no_point, testing::N, [0xFF; 32]] {
            let key = PublicKey::from_x(x);
            if remembered {
                prepare(&mut verifier, &key);
            }
            for r in edges.iter().chain([&r]) {
                for s in edges.iter().chain([&s]) {
                    let mut edge = signature;
                    edge[..32].copy_from_slice(r);
                    edge[32..].copy_from_slice(s);
                    let genuine = edge == signature && key == signer.public_key();
                    assert_eq!(verdict(&mut verifier, &key, &[b"tap"], &edge), genuine);
                }
            }
        }
    }
}

#[test]
fn a_signature_whose_sum_is_the_neutral_point_is_refused() {
    // s = r·d: whoever has d can make it.
    let d = p256::Scalar::from(5u64);
    let mut private = [0; 32];
    private[31] = 5;
    let public = SigningKey::from_bytes(&private).unwrap().public_key();
    let mut verifier = FastVerifier::<1>::new();
    for remembered in [false, true] {
        if remembered {
            prepare(&mut verifier, &public);
        }
        for r in 1..50u64 {
            let r = p256::Scalar::from(r);
            for d in [d, -d] {
                let mut signature = [0; SIGNATURE_LEN];
                signature[..32].copy_from_slice(&r.to_bytes());
                signature[32..].copy_from_slice(&(r * d).to_bytes());
                assert!(!verdict(&mut verifier, &public, &[b"tap"], &signature));
            }
        }
    }
}

#[test]
fn the_key_unused_for_longest_makes_way() {
    let mut rng = rng("slots");
    let keys: [SigningKey; 3] = core::array::from_fn(|_| key(&mut rng));
    let public = |i: usize| keys[i].public_key();
    let mut verifier = FastVerifier::<2>::new();
    prepare(&mut verifier, &public(0));
    prepare(&mut verifier, &public(1));
    assert!(verifier.verify(&public(0), &[b"tap"], &keys[0].sign(&[b"tap"], [1; 32])));
    prepare(&mut verifier, &public(2));
    assert_eq!([0, 1, 2].map(|i| verifier.remembers(&public(i))), [true, false, true]);
    verifier.forget();
    assert_eq!([0, 1, 2].map(|i| verifier.remembers(&public(i))), [false; 3]);
}

#[test]
fn while_tables_are_made_verdicts_stay_right_and_other_keys_wait() {
    let mut rng = rng("slices");
    let (first, second) = (key(&mut rng), key(&mut rng));
    let mut verifier = FastVerifier::<1>::new();
    assert!(!verifier.prepare(), "nothing was asked for");
    verifier.remember(&first.public_key());
    let mut slices = 1;
    while verifier.prepare() {
        verifier.remember(&second.public_key());
        assert!(!verifier.remembers(&first.public_key()));
        let signature = first.sign(&[b"tap"], rng.random());
        assert!(verdict(&mut verifier, &first.public_key(), &[b"tap"], &signature));
        assert!(!verdict(&mut verifier, &second.public_key(), &[b"tap"], &signature));
        slices += 1;
    }
    assert_eq!(slices, 10);
    assert!(verifier.remembers(&first.public_key()) && !verifier.remembers(&second.public_key()));
    // Asked again for what is there, it does nothing.
    verifier.remember(&first.public_key());
    assert!(!verifier.prepare());
}

#[test]
fn a_verifier_without_room_verifies_all_the_same() {
    let mut rng = rng("no room");
    let signer = key(&mut rng);
    let mut verifier = FastVerifier::<0>::new();
    prepare(&mut verifier, &signer.public_key());
    assert!(!verifier.remembers(&signer.public_key()));
    assert!(verdict(&mut verifier, &signer.public_key(), &[b"tap"], &signer.sign(&[b"tap"], [3; 32])));
}
