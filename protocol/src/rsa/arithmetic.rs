//! Multiplication and remainder of long numbers, for the public operation alone: variable time, never used with a secret.
//!
//! Numbers are limbs of 32 bits, lowest first, as many as the modulus has and no more. A library's fixed sizes and its
//! constant time cost a Cortex-M4 thirty times as much. The remainder is Knuth's algorithm D (The Art of Computer
//! Programming, volume 2, section 4.3.1). The inner loops are of the form `a · b + c + d`, which never overflows 64 bits
//! and is one instruction (UMAAL) where the core has it.

/// Limbs of the longest modulus.
pub(super) const MAX_LIMBS: usize = super::public::MAX_MODULUS / 4;
const PRODUCT: usize = 2 * MAX_LIMBS + 1;

/// A modulus, shifted so that its highest bit is set.
pub(super) struct Modulus {
    limbs: [u32; MAX_LIMBS],
    len: usize,
    shift: u32,
}

impl Modulus {
    /// Takes a big-endian modulus without leading zeros; `None` where it is shorter than two limbs or too long.
    pub(super) fn new(bytes: &[u8]) -> Option<Self> {
        let len = bytes.len().div_ceil(4);
        if !(2..=MAX_LIMBS).contains(&len) || bytes[0] == 0 {
            return None;
        }
        let mut limbs = from_bytes(bytes);
        let shift = limbs[len - 1].leading_zeros();
        shift_up(&mut limbs[..len], shift);
        Some(Self { limbs, len, shift })
    }

    /// `base³` or `base^65537` modulo this, into `base`: `squarings` squarings and one multiplication. `base` is below the
    /// modulus.
    pub(super) fn power(&self, base: &mut [u32; MAX_LIMBS], squarings: u32) {
        let mut power = *base;
        for _ in 0..squarings {
            let factor = power;
            self.multiply(&mut power, &factor);
        }
        self.multiply(base, &power);
    }

    /// `a · b` modulo this, into `a`.
    fn multiply(&self, a: &mut [u32; MAX_LIMBS], b: &[u32; MAX_LIMBS]) {
        let len = self.len;
        // With one factor shifted as the modulus is, the remainder comes out shifted too.
        let mut shifted = *b;
        shift_up(&mut shifted[..len], self.shift);
        let mut product = [0; PRODUCT];
        multiply(&a[..len], &shifted[..len], &mut product);
        remainder(&mut product[..=2 * len], &self.limbs[..len]);
        a[..len].copy_from_slice(&product[..len]);
        shift_down(&mut a[..len], self.shift);
    }
}

/// Limbs of a big-endian number of at most [`MAX_LIMBS`] limbs.
pub(super) fn from_bytes(bytes: &[u8]) -> [u32; MAX_LIMBS] {
    let mut limbs = [0; MAX_LIMBS];
    for (limb, chunk) in limbs.iter_mut().zip(bytes.rchunks(4)) {
        *limb = chunk.iter().fold(0, |limb, &byte| limb << 8 | u32::from(byte));
    }
    limbs
}

/// The lowest `out.len()` bytes, big-endian.
pub(super) fn to_bytes(limbs: &[u32; MAX_LIMBS], out: &mut [u8]) {
    for (limb, chunk) in limbs.iter().zip(out.rchunks_mut(4)) {
        let bytes = limb.to_be_bytes();
        chunk.copy_from_slice(&bytes[4 - chunk.len()..]);
    }
}

/// True if `a` is below `b`, big-endian and equally long.
pub(super) fn is_below(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a < b
}

fn shift_up(limbs: &mut [u32], bits: u32) {
    let mut carry = 0;
    for limb in limbs {
        let wide = u64::from(*limb) << bits | carry;
        *limb = wide as u32;
        carry = wide >> 32;
    }
}

fn shift_down(limbs: &mut [u32], bits: u32) {
    let mut carry = 0;
    for limb in limbs.iter_mut().rev() {
        let wide = (u64::from(carry) << 32 | u64::from(*limb)) >> bits;
        carry = *limb & ((1 << bits) - 1);
        *limb = wide as u32;
    }
}

/// `a · b` into a product of zeros.
#[inline(never)]
fn multiply(a: &[u32], b: &[u32], product: &mut [u32; PRODUCT]) {
    for (i, &a) in a.iter().enumerate() {
        let mut carry = 0;
        let row = &mut product[i..=i + b.len()];
        for (sum, &b) in row.iter_mut().zip(b) {
            let wide = u64::from(a) * u64::from(b) + u64::from(*sum) + carry;
            *sum = wide as u32;
            carry = wide >> 32;
        }
        row[b.len()] = carry as u32;
    }
}

/// `number` modulo `divisor`, in the lowest limbs of `number`, which has at least one limb more. The divisor's highest bit
/// is set, it has two limbs or more, and the number is below the divisor times 2^(32 · (its own limbs − the divisor's)).
#[inline(never)]
fn remainder(number: &mut [u32], divisor: &[u32]) {
    let len = divisor.len();
    let (top, second) = (u64::from(divisor[len - 1]), u64::from(divisor[len - 2]));
    for at in (0..number.len() - len).rev() {
        let window = &mut number[at..=at + len];
        let high = u64::from(window[len]) << 32 | u64::from(window[len - 1]);
        let mut quotient = high / top;
        let mut rest = high % top;
        // At most two rounds: then the quotient is right or one too large.
        while quotient > u64::from(u32::MAX) || quotient * second > (rest << 32 | u64::from(window[len - 2]))
        {
            quotient -= 1;
            rest += top;
            if rest > u64::from(u32::MAX) {
                break;
            }
        }
        if quotient == 0 {
            continue;
        }
        if subtract_product(window, divisor, quotient as u32) {
            add_back(window, divisor);
        }
    }
}

/// Subtracts `divisor · quotient`; true if that went below zero.
fn subtract_product(window: &mut [u32], divisor: &[u32], quotient: u32) -> bool {
    let (low, high) = window.split_at_mut(divisor.len());
    let (mut carry, mut borrow) = (0, false);
    for (limb, &divisor) in low.iter_mut().zip(divisor) {
        let wide = u64::from(quotient) * u64::from(divisor) + carry;
        carry = wide >> 32;
        (*limb, borrow) = limb.borrowing_sub(wide as u32, borrow);
    }
    let (limb, below) = high[0].borrowing_sub(carry as u32, borrow);
    high[0] = limb;
    below
}

fn add_back(window: &mut [u32], divisor: &[u32]) {
    let (low, high) = window.split_at_mut(divisor.len());
    let mut carry = 0;
    for (limb, &divisor) in low.iter_mut().zip(divisor) {
        let wide = u64::from(*limb) + u64::from(divisor) + carry;
        *limb = wide as u32;
        carry = wide >> 32;
    }
    high[0] = high[0].wrapping_add(carry as u32);
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crypto_bigint::{NonZero, U2048, U4096};
    use proptest::prelude::*;

    /// Limbs that make quotients go wrong: all ones, zeros, the lowest with the highest bit set.
    fn limb() -> impl Strategy<Value = u32> {
        prop_oneof![3 => any::<u32>(), 1 => Just(0), 1 => Just(u32::MAX), 1 => Just(1 << 31), 1 => Just(1)]
    }

    fn big(limbs: &[u32]) -> U2048 {
        let mut bytes = [0; 256];
        for (chunk, limb) in bytes.rchunks_mut(4).zip(limbs) {
            chunk.copy_from_slice(&limb.to_be_bytes());
        }
        U2048::from_be_slice(&bytes)
    }

    fn cases() -> u32 {
        if std::env::var_os("WAVEPASS_LONG").is_some() { 200_000 } else { 4_000 }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(cases()))]

        #[test]
        fn products_modulo_are_those_of_crypto_bigint(
            modulus in prop::collection::vec(limb(), 2..=64),
            a in prop::collection::vec(limb(), 64),
            b in prop::collection::vec(limb(), 64),
            top in 1..=u32::MAX,
        ) {
            let mut modulus = modulus;
            let len = modulus.len();
            modulus[len - 1] = top;
            let wide = big(&modulus);
            let nonzero = NonZero::new(wide).unwrap();
            let (a, b) = (big(&a[..len]).rem_vartime(&nonzero), big(&b[..len]).rem_vartime(&nonzero));
            let mut bytes = [0; 256];
            for (chunk, limb) in bytes.rchunks_mut(4).zip(&modulus) {
                chunk.copy_from_slice(&limb.to_be_bytes());
            }
            let first = bytes.iter().position(|&byte| byte != 0).unwrap();
            prop_assume!(bytes.len() - first > 4);
            let ours = Modulus::new(&bytes[first..]).unwrap();
            let mut product = from_bytes(&a.to_be_bytes()[..]);
            ours.multiply(&mut product, &from_bytes(&b.to_be_bytes()[..]));
            let square: U4096 = a.concatenating_mul(&b);
            let expected = square.rem_vartime(&NonZero::new(U4096::from(&wide)).unwrap());
            let mut out = [0; 256];
            to_bytes(&product, &mut out);
            prop_assert_eq!(&out[..], &expected.to_be_bytes()[256..]);
        }
    }
}
