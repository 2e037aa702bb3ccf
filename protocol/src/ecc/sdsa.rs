//! EC-SDSA over P-256 with SHA-256: `r = H(x(kG) ‖ M)`, `s = k + r·d`; to verify, `Q = sG − rP` and
//! `H(x(Q) ‖ M) = r`.

use core::fmt;
use p256::elliptic_curve::ff::{Field, PrimeField};
use p256::elliptic_curve::group::Group;
use p256::elliptic_curve::ops::{MulByGeneratorVartime, Reduce, ReduceNonZero};
use p256::elliptic_curve::point::{AffineCoordinates, DecompressPoint};
use p256::elliptic_curve::subtle::Choice;
use p256::{AffinePoint, FieldBytes, ProjectivePoint, Scalar};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bytes of a signature: `r ‖ s`.
pub const SIGNATURE_LEN: usize = 64;

/// (p − 1) / 2, big-endian: the largest y that a key may have.
const HALF_P: [u8; 32] = [
    0x7F, 0xFF, 0xFF, 0xFF, 0x80, 0x00, 0x00, 0x00, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
];

/// A public key: the x coordinate. Whether the curve has such a point shows when it is used.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey {
    x: [u8; 32],
}

impl PublicKey {
    /// The key with this x coordinate, big-endian.
    pub const fn from_x(x: [u8; 32]) -> Self {
        Self { x }
    }

    /// The x coordinate, big-endian.
    pub const fn x(&self) -> &[u8; 32] {
        &self.x
    }

    /// The y coordinate meant, big-endian; `None` if no point of the curve has this x.
    pub fn y(&self) -> Option<[u8; 32]> {
        self.point().map(|point| point.y().into())
    }

    fn point(&self) -> Option<AffinePoint> {
        let x = FieldBytes::from(self.x);
        let point: AffinePoint = Option::from(AffinePoint::decompress(&x, Choice::from(0)))?;
        Some(if is_low(&point) { point } else { -point })
    }
}

// A card's key tells riders apart, so it is not shown.
impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(…)")
    }
}

fn is_low(point: &AffinePoint) -> bool {
    point.y()[..] <= HALF_P[..]
}

/// Verifies signatures. A gate's core may have a faster one than [`P256Verifier`]; the tables it keeps for keys
/// it has seen are its own.
pub trait Verifier {
    /// True if `signature` is the key's over the parts of `message` joined. One call is one bounded slice of work:
    /// one public key operation. All inputs are public.
    fn verify(&mut self, key: &PublicKey, message: &[&[u8]], signature: &[u8; SIGNATURE_LEN]) -> bool;

    /// Says that more signatures of this key are to come, so that a verifier with tables may make room for them. It
    /// costs next to nothing; the tables are made by [`Verifier::prepare`]. Verdicts do not depend on it.
    fn remember(&mut self, _key: &PublicKey) {}

    /// Does a bounded slice of the work that remembered keys ask for, at most as long as a verification. True if
    /// there is more. It is for idle time.
    fn prepare(&mut self) -> bool {
        false
    }
}

/// The verifier on crate `p256`: no state, no tables.
#[derive(Debug, Clone, Copy, Default)]
pub struct P256Verifier;

impl Verifier for P256Verifier {
    fn verify(&mut self, key: &PublicKey, message: &[&[u8]], signature: &[u8; SIGNATURE_LEN]) -> bool {
        verify(key, message, signature).is_some()
    }
}

fn verify(key: &PublicKey, message: &[&[u8]], signature: &[u8; SIGNATURE_LEN]) -> Option<()> {
    let (r, s) = signature.split_first_chunk::<32>()?;
    let s: &[u8; 32] = s.try_into().ok()?;
    let s: Scalar = Option::from(Scalar::from_repr(FieldBytes::from(*s)))?;
    // r is a hash, so it may lie above the group's order.
    let r_scalar = Scalar::reduce(&FieldBytes::from(*r));
    if bool::from(s.is_zero()) || bool::from(r_scalar.is_zero()) {
        return None;
    }
    let point = ProjectivePoint::from(key.point()?);
    let q = ProjectivePoint::mul_by_generator_and_mul_add_vartime(&s, &-r_scalar, &point);
    if q == ProjectivePoint::IDENTITY {
        return None;
    }
    (hash_with_x(&q.to_affine(), message) == *r).then_some(())
}

fn hash_with_x(point: &AffinePoint, message: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(point.x());
    message.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// A signing key, wiped when dropped. No `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SigningKey {
    d: Scalar,
    #[zeroize(skip)]
    public: PublicKey,
}

impl SigningKey {
    /// The key with this private number, big-endian; `None` outside 1 to n − 1. Where its point has the larger y,
    /// the key is its negative: both have the same x.
    pub fn from_bytes(d: &[u8; 32]) -> Option<Self> {
        let mut d: Scalar = Option::from(Scalar::from_repr(FieldBytes::from(*d)))?;
        if bool::from(d.is_zero()) {
            return None;
        }
        let point = ProjectivePoint::mul_by_generator(&d).to_affine();
        if !is_low(&point) {
            d = -d;
        }
        Some(Self { d, public: PublicKey::from_x(point.x().into()) })
    }

    /// The public key.
    pub const fn public_key(&self) -> PublicKey {
        self.public
    }

    /// Signs the parts of `message` joined. `nonce` should be random. The secret multiplier derives from key,
    /// nonce and message, so that a repeated or guessed nonce does not give the key away.
    pub fn sign(&self, message: &[&[u8]], nonce: [u8; 32]) -> [u8; SIGNATURE_LEN] {
        let mut k = self.multiplier(message, nonce);
        let r = hash_with_x(&ProjectivePoint::mul_by_generator(&k).to_affine(), message);
        let s = k + Scalar::reduce(&FieldBytes::from(r)) * self.d;
        k.zeroize();
        let mut signature = [0; SIGNATURE_LEN];
        signature[..32].copy_from_slice(&r);
        signature[32..].copy_from_slice(&s.to_repr());
        signature
    }

    fn multiplier(&self, message: &[&[u8]], nonce: [u8; 32]) -> Scalar {
        let mut digest = Sha256::new();
        message.iter().for_each(|part| digest.update(part));
        let mut d = self.d.to_repr();
        let seed = Sha256::new_with_prefix(b"Wavepass EC-SDSA k")
            .chain_update(d)
            .chain_update(nonce)
            .chain_update(digest.finalize());
        d.zeroize();
        // A hash is at least n, or zero, once in 2^32 times; then the next one is tried, so that no multiplier is
        // likelier than another. Four in a row do not happen; if they did, the last is folded into the range.
        let mut k = FieldBytes::default();
        for attempt in 0..4u8 {
            k = seed.clone().chain_update([attempt]).finalize();
            let scalar: Option<Scalar> = Scalar::from_repr(k).into();
            if let Some(scalar) = scalar.filter(|scalar| !bool::from(scalar.is_zero())) {
                k.zeroize();
                return scalar;
            }
        }
        let scalar = Scalar::reduce_nonzero(&k);
        k.zeroize();
        scalar
    }
}
