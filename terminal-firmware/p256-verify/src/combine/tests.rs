//! s·G − r·P against crate `p256`, with multipliers and points chosen so that sums meet what is added to them; and
//! the ECDSA vectors of project Wycheproof, whose verdicts need the same sum.

use super::{with_tables, without_tables};
use crate::comb::{Builder, KeyTables, NO_TABLES};
use crate::curve::Affine;
use crate::scalar::Scalar;
use crate::testing::{affine, long, rng, x_of};
use crypto_bigint::U256;
use p256::elliptic_curve::ff::{Field, PrimeField};
use p256::elliptic_curve::ops::{MulByGeneratorVartime, Reduce};
use p256::elliptic_curve::sec1::FromSec1Point;
use p256::{AffinePoint, FieldBytes, ProjectivePoint, Sec1Point};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};
use wycheproof::{TestResult, ecdsa};

fn tables(point: &Affine) -> KeyTables {
    let mut tables = NO_TABLES;
    let mut builder = Builder::new(point, &mut tables);
    while builder.step(&mut tables) {}
    tables
}

/// Both ways to the sum, which must agree.
fn combine(s: &p256::Scalar, r: &p256::Scalar, point: &Affine, tables: &KeyTables) -> Option<[u8; 32]> {
    let ours = |k: &p256::Scalar| Scalar::from_be_bytes(&k.to_repr().into()).unwrap();
    let with = with_tables(&ours(s), &ours(r), tables).affine_x();
    let without = without_tables(&ours(s), &ours(r), point).affine_x();
    assert_eq!(with, without);
    with
}

fn check(s: &p256::Scalar, r: &p256::Scalar, point: &ProjectivePoint, ours: &Affine, tables: &KeyTables) {
    let expected = ProjectivePoint::mul_by_generator_and_mul_add_vartime(s, &-*r, point);
    assert_eq!(combine(s, r, ours, tables), x_of(&expected), "{s:?} {r:?}");
}

fn power(bit: u64) -> p256::Scalar {
    p256::Scalar::from(2u64).pow_vartime(&U256::from_u64(bit))
}

/// Multipliers with few digits, so that little stands between those that meet.
fn sparse(rng: &mut impl RngExt) -> p256::Scalar {
    loop {
        let mut k = p256::Scalar::from(u64::from(rng.random_range(0..40u32)));
        for _ in 0..rng.random_range(0..3u8) {
            let digit = power(rng.random_range(0..256));
            k += if rng.random() { digit } else { -digit };
        }
        if !bool::from(k.is_zero()) {
            return k;
        }
    }
}

fn random(rng: &mut impl RngExt) -> p256::Scalar {
    p256::Scalar::reduce(&FieldBytes::from(rng.random::<[u8; 32]>()))
}

#[test]
fn sums_of_random_multiples_are_right() {
    let mut rng = rng("random");
    for _ in 0..long(40, 10_000) {
        let point = ProjectivePoint::GENERATOR * random(&mut rng);
        let ours = affine(&point);
        let tables = tables(&ours);
        for _ in 0..25 {
            check(&random(&mut rng), &random(&mut rng), &point, &ours, &tables);
        }
    }
}

#[test]
fn sums_are_right_where_what_is_added_meets_the_sum_its_negative_or_nothing() {
    // Seven times the work of the other: on four threads, each with numbers of its own.
    std::thread::scope(|threads| {
        for name in ["collide", "collide 2", "collide 3", "collide 4"] {
            threads.spawn(|| sums_meet(rng(name)));
        }
    });
}

fn sums_meet(mut rng: ChaCha8Rng) {
    for _ in 0..long(10, 2_500) {
        // A key that is a small or sparse multiple of the generator: whoever has d can choose s and r so.
        let d = sparse(&mut rng);
        let point = ProjectivePoint::GENERATOR * d;
        let ours = affine(&point);
        let tables = tables(&ours);
        for _ in 0..25 {
            let (s, r) = (sparse(&mut rng), sparse(&mut rng));
            check(&s, &r, &point, &ours, &tables);
            // The neutral point, and its neighbours.
            for near in [p256::Scalar::ZERO, p256::Scalar::ONE, -p256::Scalar::ONE, d, -d, s] {
                let s = r * d + near;
                if !bool::from(s.is_zero()) {
                    check(&s, &r, &point, &ours, &tables);
                }
            }
        }
    }
}

#[test]
fn the_verdicts_of_wycheproof_s_ecdsa_vectors_are_those_of_our_sums() {
    let mut checked = 0;
    let set = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256P1363).unwrap();
    for group in &set.test_groups {
        let point = AffinePoint::from_sec1_point(&Sec1Point::from_bytes(&group.key.key).unwrap()).unwrap();
        let ours = affine(&point.into());
        let tables = tables(&ours);
        for test in &group.tests {
            let valid = ecdsa(&test.msg, &test.sig, &ours, &tables).is_some();
            assert_eq!(valid, test.result != TestResult::Invalid, "vector {}: {}", test.tc_id, test.comment);
            checked += 1;
        }
    }
    assert!(checked > 200);
}

/// ECDSA's rule (FIPS 186-5, 6.4.2) over our sum: x(u₁·G + u₂·Q) ≡ r, with u₁ = h/s and u₂ = r/s.
fn ecdsa(message: &[u8], signature: &[u8], point: &Affine, tables: &KeyTables) -> Option<()> {
    let (r, s) = signature.split_at_checked(32)?;
    let part = |bytes: &[u8]| -> Option<p256::Scalar> {
        let scalar: Option<p256::Scalar> = p256::Scalar::from_repr(bytes.try_into().ok()?).into();
        scalar.filter(|scalar| !bool::from(scalar.is_zero()))
    };
    let (r, s) = (part(r)?, part(s)?);
    let inverse: Option<p256::Scalar> = s.invert().into();
    let h = p256::Scalar::reduce(&Sha256::digest(message));
    let (u1, u2) = (h * inverse?, r * inverse?);
    assert!(!bool::from(u1.is_zero()), "a hash of zero, for which our sum has no room");
    let x = combine(&u1, &-u2, point, tables)?;
    (p256::Scalar::reduce(&FieldBytes::from(x)) == r).then_some(())
}
