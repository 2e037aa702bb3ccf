//! Numbers mod p = 2^256 − 2^224 + 2^192 + 2^96 − 1, the field of the curve's coordinates.
//!
//! A number x is kept as x·2^256 mod p (Montgomery form) in eight 32-bit words, the lowest first. Since p ≡ −1
//! mod 2^96, the quotient digits of a Montgomery reduction are words of the product itself, and p's other words
//! make the reduction a handful of additions; that is cheaper here than the reduction that FIPS 186 suggests.
//!
//! The words stand for any number below 2^256, not only below p: a sum or product is brought below 2^256 alone,
//! which seldom costs anything. Where the value is looked at, it is brought below p.
//!
//! Running time depends on the values. Secrets have no place here.

#[cfg(all(target_arch = "arm", target_os = "none"))]
pub(crate) mod arm;
mod inverse;
#[cfg_attr(
    all(target_arch = "arm", target_os = "none", not(feature = "selfcheck")),
    expect(dead_code, reason = "the target has its own")
)]
pub(crate) mod safe;

#[cfg(all(target_arch = "arm", target_os = "none"))]
use arm as words;
#[cfg(not(all(target_arch = "arm", target_os = "none")))]
use safe as words;

/// Eight words, the lowest first.
pub(crate) type Words = [u32; 8];

/// p.
pub(crate) const P: Words =
    [0xFFFF_FFFF, 0xFFFF_FFFF, 0xFFFF_FFFF, 0x0000_0000, 0x0000_0000, 0x0000_0000, 0x0000_0001, 0xFFFF_FFFF];
/// 2^512 mod p: brings a number into Montgomery form.
const R2: Fe = Fe([
    0x0000_0003,
    0x0000_0000,
    0xFFFF_FFFF,
    0xFFFF_FFFB,
    0xFFFF_FFFE,
    0xFFFF_FFFF,
    0xFFFF_FFFD,
    0x0000_0004,
]);
/// 2^768 mod p: brings the inverse of a number in Montgomery form back into it.
const R3: Fe = Fe([
    0x0000_000A,
    0xFFFF_FFFD,
    0xFFFF_FFF7,
    0xFFFF_FFED,
    0xFFFF_FFFC,
    0x0000_0005,
    0x0000_0001,
    0x0000_0018,
]);

/// A number mod p in Montgomery form.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Fe(pub(crate) Words);

impl Fe {
    pub(crate) const ZERO: Self = Self([0; 8]);
    /// 2^256 mod p.
    pub(crate) const ONE: Self = Self([
        0x0000_0001,
        0x0000_0000,
        0x0000_0000,
        0xFFFF_FFFF,
        0xFFFF_FFFF,
        0xFFFF_FFFF,
        0xFFFF_FFFE,
        0x0000_0000,
    ]);

    /// The number with these bytes, big-endian; `None` from p on.
    pub(crate) fn from_be_bytes(bytes: &[u8; 32]) -> Option<Self> {
        let words = words_from_be(bytes);
        is_below(&words, &P).then(|| Self(words).multiply(&R2))
    }

    /// The number's bytes, big-endian.
    pub(crate) fn to_be_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let words = self.value();
        for (chunk, word) in bytes.chunks_exact_mut(4).zip(words.iter().rev()) {
            chunk.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    /// The number itself, out of Montgomery form, below p.
    pub(crate) fn value(&self) -> Words {
        self.multiply(&Self([1, 0, 0, 0, 0, 0, 0, 0])).canonical().0
    }

    /// The same number with its words below p.
    pub(crate) fn canonical(&self) -> Self {
        if is_below(&self.0, &P) { *self } else { Self(subtract_words(&self.0, &P).0) }
    }

    #[inline(always)]
    pub(crate) fn is_zero(&self) -> bool {
        // Zero has two forms, 0 and p, whose lowest words are 0 and −1: hardly another number gets past this.
        self.0[0].wrapping_add(1) <= 1 && self.is_zero_in_full()
    }

    #[inline(never)]
    fn is_zero_in_full(&self) -> bool {
        self.0 == [0; 8] || self.0 == P
    }

    #[inline(always)]
    pub(crate) fn multiply(&self, other: &Self) -> Self {
        words::multiply(self, other)
    }

    #[inline(always)]
    pub(crate) fn square(&self) -> Self {
        words::square(self)
    }

    #[inline(always)]
    pub(crate) fn add(&self, other: &Self) -> Self {
        words::add(self, other)
    }

    #[inline(always)]
    pub(crate) fn subtract(&self, other: &Self) -> Self {
        words::subtract(self, other)
    }

    #[inline(always)]
    pub(crate) fn half(&self) -> Self {
        words::half(self)
    }

    /// The square, squared `times` − 1 times more.
    pub(crate) fn square_times(&self, times: u32) -> Self {
        let mut x = *self;
        for _ in 0..times {
            x = x.square();
        }
        x
    }

    /// A square root, if there is one.
    pub(crate) fn square_root(&self) -> Option<Self> {
        // p ≡ 3 mod 4, so it is the power (p + 1)/4 = (((2^32 − 1)·2^32 + 1)·2^96 + 1)·2^94.
        let x2 = self.square().multiply(self);
        let x4 = x2.square_times(2).multiply(&x2);
        let x8 = x4.square_times(4).multiply(&x4);
        let x16 = x8.square_times(8).multiply(&x8);
        let x32 = x16.square_times(16).multiply(&x16);
        let root = x32.square_times(32).multiply(self).square_times(96).multiply(self).square_times(94);
        root.square().subtract(self).is_zero().then_some(root)
    }

    /// The number whose product with this is one; zero for zero.
    pub(crate) fn inverse(&self) -> Self {
        Self(inverse::inverse(&self.canonical().0)).multiply(&R3)
    }
}

/// Replaces up to [`MAX_BATCH`] numbers by their inverses with one inversion. None may be zero.
pub(crate) fn invert_all(numbers: &mut [Fe]) {
    // The products of all numbers before each.
    let mut before = [Fe::ONE; MAX_BATCH];
    let mut product = Fe::ONE;
    for (before, number) in before.iter_mut().zip(numbers.iter()) {
        *before = product;
        product = product.multiply(number);
    }
    let mut inverse = product.inverse();
    for (before, number) in before.iter().zip(numbers.iter_mut()).rev() {
        let this = inverse.multiply(before);
        inverse = inverse.multiply(number);
        *number = this;
    }
}

/// Numbers that [`invert_all`] takes: half an issuer's sub-table of 16 points, or the odd multiples of a key.
pub(crate) const MAX_BATCH: usize = 8;

pub(crate) fn words_from_be(bytes: &[u8; 32]) -> Words {
    let mut words = [0; 8];
    for (word, chunk) in words.iter_mut().rev().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_be_bytes(*chunk);
    }
    words
}

pub(crate) fn is_below(a: &Words, b: &Words) -> bool {
    a.iter().rev().lt(b.iter().rev())
}

/// a − b mod 2^256, and whether b was larger.
pub(crate) fn subtract_words(a: &Words, b: &Words) -> (Words, bool) {
    let mut borrow = false;
    let difference = core::array::from_fn(|i| {
        let (word, less) = a[i].borrowing_sub(b[i], borrow);
        borrow = less;
        word
    });
    (difference, borrow)
}

#[cfg(test)]
mod tests;
