//! Multipliers mod n, the order of the curve's group, and the digits in which points are multiplied by them.

use crate::field::{Words, is_below, subtract_words, words_from_be};

/// n.
const N: Words =
    [0xFC63_2551, 0xF3B9_CAC2, 0xA717_9E84, 0xBCE6_FAAD, 0xFFFF_FFFF, 0xFFFF_FFFF, 0x0000_0000, 0xFFFF_FFFF];

/// A multiplier from 1 to n − 1.
#[derive(Clone, Copy)]
pub(crate) struct Scalar(Words);

impl Scalar {
    /// The multiplier with these bytes, big-endian; `None` for zero and from n on.
    pub(crate) fn from_be_bytes(bytes: &[u8; 32]) -> Option<Self> {
        let words = words_from_be(bytes);
        (words != [0; 8] && is_below(&words, &N)).then_some(Self(words))
    }

    /// The multiplier that a hash stands for, big-endian: reduced mod n; `None` for zero.
    pub(crate) fn reduce(bytes: &[u8; 32]) -> Option<Self> {
        let words = words_from_be(bytes);
        let words = if is_below(&words, &N) { words } else { subtract_words(&words, &N).0 };
        (words != [0; 8]).then_some(Self(words))
    }

    /// Digits for a comb of `teeth` teeth that stand `spacing` bits apart.
    pub(crate) fn comb(&self, teeth: u32, spacing: u32) -> CombDigits {
        // Only odd numbers have digits that are all 1 or −1. n is odd, so where k is even, n − k is not.
        let negative = self.0[0] & 1 == 0;
        let odd = if negative { subtract_words(&N, &self.0).0 } else { self.0 };
        // With L digits, bit i of (k + 2^L − 1)/2 is 1 where digit i is 1, and 0 where it is −1.
        let mut bits = [0; 9];
        for i in 0..8 {
            let above = if i == 7 { 0 } else { odd[i + 1] };
            bits[i] = odd[i] >> 1 | above << 31;
        }
        let top = (teeth * spacing - 1) as usize;
        bits[top / 32] |= 1 << (top % 32);
        CombDigits { bits, teeth, spacing, negative }
    }

    /// Digits that are zero or odd, at most one of any `WINDOW` in a row not zero: the lowest first.
    pub(crate) fn windows(&self) -> Windows {
        let mut digits = [0; 257];
        // What is left of the multiplier, from bit `at` on, is its words from there plus `carry`.
        let (mut at, mut carry) = (0, 0);
        while at < 257 {
            if self.bits(at, 1) == carry {
                at += 1;
                continue;
            }
            let window = self.bits(at, WINDOW) + carry;
            carry = window >> (WINDOW - 1);
            digits[at as usize] = window as i8 - ((carry << WINDOW) as i8);
            at += WINDOW;
        }
        Windows(digits)
    }

    /// `count` bits from bit `at` on.
    fn bits(&self, at: u32, count: u32) -> u32 {
        let (word, shift) = ((at / 32) as usize, at % 32);
        let low = self.0.get(word).map_or(0, |word| word >> shift);
        // Two shifts, for a word cannot be shifted by 32.
        let high = self.0.get(word + 1).map_or(0, |word| word << 1 << (31 - shift));
        (low | high) & ((1 << count) - 1)
    }
}

/// Bits of a window for a key without tables: its odd multiples from 1 to 15.
pub(crate) const WINDOW: u32 = 5;

/// Digits for windows.
pub(crate) struct Windows([i8; 257]);

impl Windows {
    /// Digit `i`: an odd number from −15 to 15, or zero.
    pub(crate) fn digit(&self, i: usize) -> i8 {
        self.0[i]
    }

    /// How many digits there are, without leading zeros.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().rposition(|&digit| digit != 0).map_or(0, |i| i + 1)
    }
}

/// Digits for a comb.
pub(crate) struct CombDigits {
    bits: [u32; 9],
    teeth: u32,
    spacing: u32,
    negative: bool,
}

impl CombDigits {
    /// Where the point for a column is in the comb's table, and whether it is to be subtracted.
    #[inline(always)]
    pub(crate) fn column(&self, column: u32) -> (usize, bool) {
        let mut index = 0;
        for tooth in (0..self.teeth).rev() {
            let at = column + tooth * self.spacing;
            index = index << 1 | (self.bits[(at / 32) as usize] >> (at % 32)) & 1;
        }
        // The table has the points whose lowest digit is 1; the others are their negatives.
        let last = (1 << (self.teeth - 1)) - 1;
        if index & 1 == 1 {
            ((index >> 1) as usize, self.negative)
        } else {
            ((last - (index >> 1)) as usize, !self.negative)
        }
    }
}

#[cfg(test)]
mod tests;
