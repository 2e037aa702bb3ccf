//! What the tests of several modules share: seeded randomness, counts, oracles.

use crate::curve::Affine;
use crate::field::{Fe, Words};
use crypto_bigint::modular::ConstMontyForm;
use crypto_bigint::{U256, const_prime_monty_params};
use p256::elliptic_curve::ff::PrimeField;
use p256::elliptic_curve::group::Group;
use p256::elliptic_curve::point::AffineCoordinates;
use p256::{FieldBytes, ProjectivePoint, Scalar};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const_prime_monty_params!(P, U256, "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff", 6);

/// The oracle's number mod p: crate `crypto-bigint`, on which crate `p256` stands. It has the same Montgomery form.
pub(crate) type Oracle = ConstMontyForm<P, { U256::LIMBS }>;

/// n, big-endian.
pub(crate) const N: [u8; 32] = [
    0xFF, 0xFF, 0xFF, 0xFF, 0x00, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xBC,
    0xE6, 0xFA, 0xAD, 0xA7, 0x17, 0x9E, 0x84, 0xF3, 0xB9, 0xCA, 0xC2, 0xFC, 0x63, 0x25, 0x51,
];

/// The oracle's number for ours.
pub(crate) fn oracle(x: &Fe) -> Oracle {
    Oracle::from_montgomery(U256::from_le_slice(bytes(&x.canonical().0).as_slice()))
}

fn bytes(words: &Words) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Randomness that a test's name seeds.
pub(crate) fn rng(name: &str) -> ChaCha8Rng {
    let mut seed = [0; 32];
    seed[..name.len()].copy_from_slice(name.as_bytes());
    ChaCha8Rng::from_seed(seed)
}

/// How many rounds: a part in the plain run, all in the long one.
pub(crate) fn long(part: usize, all: usize) -> usize {
    if std::env::var_os("WAVEPASS_LONG").is_some() { all } else { part }
}

/// Crate `p256`'s scalar with these bytes, below n.
pub(crate) fn scalar(bytes: &[u8; 32]) -> Scalar {
    Scalar::from_repr(FieldBytes::from(*bytes)).unwrap()
}

/// Crate `p256`'s point as ours.
pub(crate) fn affine(point: &ProjectivePoint) -> Affine {
    let point = point.to_affine();
    let coordinate = |bytes: FieldBytes| Fe::from_be_bytes(&bytes.into()).unwrap();
    Affine { x: coordinate(point.x()), y: coordinate(point.y()) }
}

/// The affine x of crate `p256`'s point; `None` for the neutral one.
pub(crate) fn x_of(point: &ProjectivePoint) -> Option<[u8; 32]> {
    (!bool::from(point.is_identity())).then(|| point.to_affine().x().into())
}

/// True if two of our points have the same coordinates.
pub(crate) fn same(a: &Affine, b: &Affine) -> bool {
    let equal = |a: &Fe, b: &Fe| a.canonical().0 == b.canonical().0;
    equal(&a.x, &b.x) && equal(&a.y, &b.y)
}
