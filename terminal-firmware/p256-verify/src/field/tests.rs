//! The field against crate `crypto-bigint`'s, on random numbers and on those where carries run through.

use super::{Fe, P, R2, invert_all, is_below};
use crate::selfcheck::Numbers;
use crate::testing::{Oracle, long, oracle};

#[test]
fn sums_products_and_halves_are_those_of_the_oracle() {
    let mut numbers = Numbers::new(1);
    for _ in 0..long(50_000, 5_000_000) {
        let (a, b) = (numbers.number(), numbers.number());
        let (x, y) = (oracle(&a), oracle(&b));
        assert_eq!(oracle(&a.multiply(&b)), x * y);
        assert_eq!(oracle(&a.square()), x * x);
        assert_eq!(oracle(&a.add(&b)), x + y);
        assert_eq!(oracle(&a.subtract(&b)), x - y);
        assert_eq!(oracle(&a.half()), x.div_by_2());
        assert_eq!(a.is_zero(), x == Oracle::ZERO);
        assert!(is_below(&a.canonical().0, &P));
    }
}

#[test]
fn inverses_and_roots_are_those_of_the_oracle() {
    let mut numbers = Numbers::new(2);
    let random = core::iter::repeat_with(|| numbers.number()).take(long(2_000, 100_000));
    for a in [Fe::ZERO, Fe(P), Fe([u32::MAX; 8]), Fe::ONE, R2].into_iter().chain(random) {
        let x = oracle(&a);
        assert_eq!(oracle(&a.inverse()), Option::from(x.invert()).unwrap_or(Oracle::ZERO));
        let root = a.square_root();
        assert_eq!(root.is_some(), bool::from(x.sqrt().is_some()));
        if let Some(root) = root {
            assert_eq!(oracle(&root.square()), x);
        }
    }
}

#[test]
fn a_batch_is_inverted_like_one_by_one() {
    let mut numbers = Numbers::new(3);
    let numbers: [Fe; 7] = core::array::from_fn(|_| numbers.number());
    assert!(numbers.iter().all(|number| !number.is_zero()));
    let mut inverses = numbers;
    invert_all(&mut inverses);
    for (number, inverse) in numbers.iter().zip(&inverses) {
        assert_eq!(oracle(&number.inverse()), oracle(inverse));
    }
}

#[test]
fn bytes_from_p_on_are_no_number() {
    let mut bytes = [0; 32];
    for (chunk, word) in bytes.chunks_exact_mut(4).zip(P.iter().rev()) {
        chunk.copy_from_slice(&word.to_be_bytes());
    }
    assert!(Fe::from_be_bytes(&bytes).is_none());
    assert!(Fe::from_be_bytes(&[0xFF; 32]).is_none());
    bytes[31] -= 1;
    assert_eq!(Fe::from_be_bytes(&bytes).unwrap().to_be_bytes(), bytes);
}
