//! The field's operations in plain Rust: what hosts run, and what the assembler must equal.

use super::{Fe, P, Words, subtract_words};

/// a·b / 2^256 mod p.
pub(crate) fn multiply(a: &Fe, b: &Fe) -> Fe {
    let mut t: Words = [0; 8];
    let mut top = 0;
    for &digit in &b.0 {
        // t + a·digit, then as many p as make the lowest word zero: p ≡ −1, so as many as the word says.
        let (sum, high) = add_product(&t, &a.0, digit);
        let quotient = sum[0];
        let (sum, higher) = add_product(&sum, &P, quotient);
        t.copy_within(1.., 0);
        t[..7].copy_from_slice(&sum[1..]);
        let (last, carry) = carry_up(high, higher, top);
        t[7] = last;
        top = carry;
    }
    Fe(below_2_256(t, top))
}

/// a² / 2^256 mod p.
pub(crate) fn square(a: &Fe) -> Fe {
    multiply(a, a)
}

/// a + b mod p.
pub(crate) fn add(a: &Fe, b: &Fe) -> Fe {
    let (sum, carry) = add_words(&a.0, &b.0);
    Fe(below_2_256(sum, u32::from(carry)))
}

/// a − b mod p.
pub(crate) fn subtract(a: &Fe, b: &Fe) -> Fe {
    let (mut difference, mut borrow) = subtract_words(&a.0, &b.0);
    while borrow {
        let (sum, carry) = add_words(&difference, &P);
        difference = sum;
        borrow = !carry;
    }
    Fe(difference)
}

/// a / 2 mod p.
pub(crate) fn half(a: &Fe) -> Fe {
    let (even, carry) = if a.0[0] & 1 == 1 { add_words(&a.0, &P) } else { (a.0, false) };
    Fe(core::array::from_fn(|i| {
        let above = if i == 7 { u32::from(carry) } else { even[i + 1] };
        even[i] >> 1 | above << 31
    }))
}

/// t + a·digit: eight words and the one above.
fn add_product(t: &Words, a: &Words, digit: u32) -> (Words, u32) {
    let mut carry = 0;
    let sum = core::array::from_fn(|i| {
        let wide = u64::from(a[i]) * u64::from(digit) + u64::from(t[i]) + u64::from(carry);
        carry = (wide >> 32) as u32;
        wide as u32
    });
    (sum, carry)
}

fn carry_up(a: u32, b: u32, c: u32) -> (u32, u32) {
    let sum = u64::from(a) + u64::from(b) + u64::from(c);
    (sum as u32, (sum >> 32) as u32)
}

/// The number with a word above brought below 2^256.
fn below_2_256(mut words: Words, mut above: u32) -> Words {
    while above != 0 {
        let (difference, borrow) = subtract_words(&words, &P);
        words = difference;
        above -= u32::from(borrow);
    }
    words
}

fn add_words(a: &Words, b: &Words) -> (Words, bool) {
    let mut carry = false;
    let sum = core::array::from_fn(|i| {
        let (word, more) = a[i].carrying_add(b[i], carry);
        carry = more;
        word
    });
    (sum, carry)
}
