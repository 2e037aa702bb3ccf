//! Digits make up the multiplier that they were taken from.

use super::{N, Scalar, WINDOW};
use crate::comb::{GENERATOR_SPACING, GENERATOR_TEETH, KEY_SPACING, KEY_TEETH};
use crate::testing::{self, long, rng};
use crypto_bigint::U256;
use p256::elliptic_curve::ff::PrimeField;
use p256::elliptic_curve::ops::Reduce;
use rand::RngExt;

fn multipliers() -> impl Iterator<Item = [u8; 32]> {
    let mut rng = rng("scalar");
    let mut last = testing::N;
    last[31] -= 1;
    let small = (1..=40u8).map(|i| core::array::from_fn(|at| if at == 31 { i } else { 0 }));
    let powers =
        (0..255).map(|bit| core::array::from_fn(|at| if 31 - at == bit / 8 { 1 << (bit % 8) } else { 0 }));
    let random = core::iter::repeat_with(move || {
        let mut bytes: [u8; 32] = rng.random();
        bytes[0] &= 0x7F;
        bytes
    });
    small.chain(powers).chain([last]).chain(random.take(long(2_000, 100_000)))
}

#[test]
fn windows_make_up_the_multiplier_and_stand_apart() {
    for bytes in multipliers() {
        let windows = Scalar::from_be_bytes(&bytes).unwrap().windows();
        let mut sum = p256::Scalar::ZERO;
        let mut quiet = WINDOW as usize;
        for i in (0..windows.len()).rev() {
            let digit = windows.digit(i);
            let size = p256::Scalar::from(u64::from(digit.unsigned_abs()));
            sum = sum.double() + if digit < 0 { -size } else { size };
            if digit == 0 {
                quiet += 1;
            } else {
                assert!(digit % 2 != 0 && digit.unsigned_abs() < 16 && quiet + 1 >= WINDOW as usize);
                quiet = 0;
            }
        }
        assert!(sum == testing::scalar(&bytes));
    }
}

#[test]
fn columns_of_a_comb_make_up_the_multiplier() {
    for (teeth, spacing) in [(GENERATOR_TEETH, GENERATOR_SPACING), (KEY_TEETH, KEY_SPACING)] {
        let two = p256::Scalar::from(2u64);
        let weights: Vec<_> = (1..teeth).map(|t| two.pow_vartime(&U256::from_u32(t * spacing))).collect();
        for bytes in multipliers().take(700) {
            let digits = Scalar::from_be_bytes(&bytes).unwrap().comb(teeth, spacing);
            let mut sum = p256::Scalar::ZERO;
            for column in (0..spacing).rev() {
                sum = sum.double();
                let (place, negative) = digits.column(column);
                // The sum that the table has at this place, as a multiplier.
                let mut point = p256::Scalar::ONE;
                for (bit, weight) in weights.iter().enumerate() {
                    point += if place >> bit & 1 == 1 { *weight } else { -*weight };
                }
                sum += if negative { -point } else { point };
            }
            assert!(sum == testing::scalar(&bytes));
        }
    }
}

#[test]
fn a_hash_is_reduced_and_an_s_is_not() {
    assert!(Scalar::from_be_bytes(&[0; 32]).is_none() && Scalar::reduce(&[0; 32]).is_none());
    assert!(Scalar::from_be_bytes(&testing::N).is_none() && Scalar::reduce(&testing::N).is_none());
    let mut above = testing::N;
    above[31] += 1;
    assert!(Scalar::from_be_bytes(&above).is_none());
    assert_eq!(Scalar::reduce(&above).unwrap().0, [1, 0, 0, 0, 0, 0, 0, 0]);
    assert!(Scalar::from_be_bytes(&[0xFF; 32]).is_none());
    let reduced = p256::Scalar::reduce(&p256::FieldBytes::from([0xFF; 32])).to_repr();
    assert_eq!(Scalar::reduce(&[0xFF; 32]).unwrap().0, crate::field::words_from_be(&reduced.into()));
    let mut below = N;
    below[0] -= 1;
    let mut bytes = testing::N;
    bytes[31] -= 1;
    assert_eq!(Scalar::from_be_bytes(&bytes).unwrap().0, below);
}
