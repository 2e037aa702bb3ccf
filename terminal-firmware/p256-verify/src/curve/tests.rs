//! Points against crate `p256`, in the cases that the usual formulas leave out most of all.

use super::{Affine, Sum, sum_and_difference};
use crate::testing::{affine, long, rng, same, x_of};
use p256::ProjectivePoint;
use rand::RngExt;
use wavepass_protocol::ecc::PublicKey;

/// k·G, in Jacobian coordinates whose Z is not one.
fn sum(k: i32) -> Sum {
    let generator = affine(&ProjectivePoint::GENERATOR);
    let mut sum = Sum::NEUTRAL;
    for _ in 0..k.unsigned_abs() + 3 {
        sum.add(&generator, k < 0);
    }
    for _ in 0..3 {
        sum.add(&generator, k >= 0);
    }
    sum
}

fn multiple(k: i32) -> ProjectivePoint {
    let sum: ProjectivePoint = (0..k.unsigned_abs()).map(|_| ProjectivePoint::GENERATOR).sum();
    if k < 0 { -sum } else { sum }
}

#[test]
fn sums_of_small_multiples_are_right_whichever_meet() {
    for a in -9..=9 {
        assert_eq!(sum(a).affine_x(), x_of(&multiple(a)));
        let mut doubled = sum(a);
        doubled.double();
        assert_eq!(doubled.affine_x(), x_of(&multiple(2 * a)));
        for b in (-9..=9).filter(|&b| b != 0) {
            let point = affine(&multiple(b));
            for (subtract, expected) in [(false, a + b), (true, a - b)] {
                let mut sum = sum(a);
                sum.add(&point, subtract);
                assert_eq!(sum.is_neutral(), expected == 0);
                assert_eq!(sum.affine_x(), x_of(&multiple(expected)), "{a} and {b}");
                if expected != 0 {
                    assert!(same(&sum.divide_out(&sum.z.inverse()), &affine(&multiple(expected))));
                }
            }
        }
    }
}

#[test]
fn a_sum_and_a_difference_come_of_one_inverse() {
    for (a, b) in [(1, 2), (-3, 5), (7, -4)] {
        let (left, right) = (affine(&multiple(a)), affine(&multiple(b)));
        let (sum, difference) = sum_and_difference(&left, &right, &left.x.subtract(&right.x).inverse());
        assert!(same(&sum, &affine(&multiple(a + b))));
        assert!(same(&difference, &affine(&multiple(a - b))));
    }
}

#[test]
fn an_x_gives_the_point_with_the_smaller_y_or_none() {
    let mut rng = rng("decompress");
    // Zero is the x of a point; five is not, nor is anything from p on.
    let small = (0..=255u8).map(|low| core::array::from_fn(|at| if at == 31 { low } else { 0 }));
    let high = (0..=255u8).map(|low| core::array::from_fn(|at| if at == 31 { low } else { 0xFF }));
    let random = core::iter::repeat_with(|| rng.random());
    let mut found = 0;
    for x in small.chain(high).chain(random.take(long(2_000, 200_000))) {
        let ours = Affine::from_x(&x).map(|point| point.y.to_be_bytes());
        assert_eq!(ours, PublicKey::from_x(x).y());
        found += usize::from(ours.is_some());
    }
    assert!(found > 1000);
    assert!(Affine::from_x(&[0; 32]).is_some());
}
