//! Inverses mod p by division steps (Bernstein and Yang, "Fast constant-time gcd computation and modular inversion",
//! 2019), here in variable time: zeros are skipped together, and the loop ends when the remainder is zero.
//!
//! The steps look at the lowest bits alone. So thirty of them are taken on one word, collected in a 2×2 matrix,
//! and applied to the long numbers at once. Each of the three parts is a function of its own: joined, they have more
//! values at hand than the processor has registers, and take a third longer.

use super::Words;

/// Bits of a digit, and division steps taken at once.
const BITS: u32 = 30;
const MASK: i32 = (1 << BITS) - 1;
/// Digits of a long number: 270 bits hold any number between −2p and 2p.
const DIGITS: usize = 9;

/// A long number: digits of 30 bits, the lowest first, the highest with the sign.
type Long = [i32; DIGITS];

/// p in digits of either sign, so that most are zero.
const P: Long = [-1, 0, 0, 1 << 6, 0, 0, 1 << 12, -(1 << 14), 1 << 16];

/// Thirty division steps: 2^30 times the new f and g are `u`·f + `v`·g and `q`·f + `r`·g.
struct Steps {
    u: i32,
    v: i32,
    q: i32,
    r: i32,
}

/// The number below p whose product with `x`, below p, is one mod p; zero for zero.
pub(super) fn inverse(x: &Words) -> Words {
    // Throughout, d·x ≡ f and e·x ≡ g mod p.
    let (mut f, mut g) = (P, to_digits(x));
    let (mut d, mut e) = ([0; DIGITS], [0; DIGITS]);
    e[0] = 1;
    let mut delta = 1;
    // Of 256 bits, 741 steps leave nothing; this ends before.
    while g != [0; DIGITS] {
        let steps;
        (delta, steps) = divide(delta, low_word(&f), low_word(&g));
        steps.apply_mod_p(&mut d, &mut e);
        steps.apply(&mut f, &mut g);
    }
    // f is now 1 or −1.
    let sign = if f[DIGITS - 1] < 0 { -1 } else { 1 };
    // d lies between −2p and p, so ±d between −2p and 2p.
    let mut result = settle(&d, sign, 0);
    while result[DIGITS - 1] < 0 {
        result = settle(&result, 1, 1);
    }
    let less = settle(&result, 1, -1);
    to_words(if less[DIGITS - 1] < 0 { &result } else { &less })
}

/// Thirty division steps on the lowest words. `delta` is Bernstein and Yang's δ.
#[inline(never)]
fn divide(mut delta: i32, mut f: u32, mut g: u32) -> (i32, Steps) {
    let (mut u, mut v, mut q, mut r) = (1u32, 0u32, 0u32, 1u32);
    let mut left = BITS;
    loop {
        // A step with even g halves it.
        let zeros = (g | u32::MAX << left).trailing_zeros();
        g >>= zeros;
        u <<= zeros;
        v <<= zeros;
        delta += zeros as i32;
        left -= zeros;
        if left == 0 {
            let steps = Steps { u: u as i32, v: v as i32, q: q as i32, r: r as i32 };
            return (delta, steps);
        }
        if delta > 0 {
            delta = -delta;
            (f, g) = (g, f.wrapping_neg());
            (u, q) = (q, u.wrapping_neg());
            (v, r) = (r, v.wrapping_neg());
        }
        // Until δ is positive again, steps only add f to g or halve it. So the multiple of f that clears as many
        // low bits of g as there are such steps, six at most, is added at once: w = −g/f mod 2^6.
        let clear = (1 - delta).cast_unsigned().min(left).min(6);
        let w = f.wrapping_mul(g).wrapping_mul(f.wrapping_mul(f).wrapping_sub(2)) & ((1 << clear) - 1);
        g = g.wrapping_add(f.wrapping_mul(w));
        q = q.wrapping_add(u.wrapping_mul(w));
        r = r.wrapping_add(v.wrapping_mul(w));
    }
}

impl Steps {
    /// f, g → (u·f + v·g, q·f + r·g) / 2^30. The division is exact.
    #[inline(never)]
    fn apply(&self, f: &mut Long, g: &mut Long) {
        let (mut carry_f, mut carry_g) = (0i64, 0i64);
        for i in 0..DIGITS {
            let (fi, gi) = (f[i], g[i]);
            carry_f = add_product(add_product(carry_f, self.u, fi), self.v, gi);
            carry_g = add_product(add_product(carry_g, self.q, fi), self.r, gi);
            if i > 0 {
                f[i - 1] = carry_f as i32 & MASK;
                g[i - 1] = carry_g as i32 & MASK;
            }
            carry_f >>= BITS;
            carry_g >>= BITS;
        }
        f[DIGITS - 1] = carry_f as i32;
        g[DIGITS - 1] = carry_g as i32;
    }

    /// d, e → (u·d + v·e, q·d + r·e) / 2^30 mod p. Both stay between −2p and p.
    #[inline(never)]
    fn apply_mod_p(&self, d: &mut Long, e: &mut Long) {
        let &Steps { u, v, q, r } = self;
        // Negative numbers get p's share first; then as many p as make the division exact: p ≡ −1 mod 2^30, so as
        // many as the lowest digit says.
        let (sign_d, sign_e) = (d[DIGITS - 1] >> 31, e[DIGITS - 1] >> 31);
        let mut times_d = (u & sign_d).wrapping_add(v & sign_e);
        let mut times_e = (q & sign_d).wrapping_add(r & sign_e);
        let (mut carry_d, mut carry_e) = (0i64, 0i64);
        for i in 0..DIGITS {
            let (di, ei) = (d[i], e[i]);
            carry_d = add_product(add_product(carry_d, u, di), v, ei);
            carry_e = add_product(add_product(carry_e, q, di), r, ei);
            if i == 0 {
                times_d = times_d.wrapping_sub(times_d.wrapping_sub(carry_d as i32) & MASK);
                times_e = times_e.wrapping_sub(times_e.wrapping_sub(carry_e as i32) & MASK);
            }
            if P[i] != 0 {
                carry_d = add_product(carry_d, times_d, P[i]);
                carry_e = add_product(carry_e, times_e, P[i]);
            }
            if i > 0 {
                d[i - 1] = carry_d as i32 & MASK;
                e[i - 1] = carry_e as i32 & MASK;
            }
            carry_d >>= BITS;
            carry_e >>= BITS;
        }
        d[DIGITS - 1] = carry_d as i32;
        e[DIGITS - 1] = carry_e as i32;
    }
}

/// Sums stay below 2^63: factors are below 2^31 and 2^30.
#[inline(always)]
fn add_product(sum: i64, a: i32, b: i32) -> i64 {
    sum.wrapping_add(i64::from(a) * i64::from(b))
}

/// The number mod 2^32; digits beside the highest may be negative.
fn low_word(x: &Long) -> u32 {
    x[0].cast_unsigned().wrapping_add(x[1].cast_unsigned() << BITS)
}

/// `sign`·x + `times`·p with digits that are not negative, but the highest.
fn settle(x: &Long, sign: i32, times: i32) -> Long {
    let mut carry = 0;
    core::array::from_fn(|i| {
        carry += x[i] * sign + P[i] * times;
        if i == DIGITS - 1 {
            return carry;
        }
        let digit = carry & MASK;
        carry >>= BITS;
        digit
    })
}

fn to_digits(x: &Words) -> Long {
    core::array::from_fn(|i| {
        let bit = i * BITS as usize;
        let (word, shift) = (bit / 32, bit % 32);
        let above = x.get(word + 1).copied().unwrap_or(0);
        let wide = u64::from(above) << 32 | u64::from(x[word]);
        (wide >> shift) as i32 & MASK
    })
}

fn to_words(x: &Long) -> Words {
    core::array::from_fn(|i| {
        // A digit is 2 bits short of a word, so word i begins 2·i bits into digit i and ends in the next.
        let shift = 2 * i as u32;
        x[i].cast_unsigned() >> shift | x[i + 1].cast_unsigned() << (BITS - shift)
    })
}
