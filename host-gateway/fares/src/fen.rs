//! Money: whole fen (1/100 CNY) in 64 bits, with arithmetic that says when it overflows.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A sum of money grew beyond what 64 bits of fen can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sum of money is beyond 64 bits of fen")]
pub struct Overflow;

/// An amount in fen, the hundredth part of a yuan. Negative amounts are refunds and credits.
///
/// There is no `+` on purpose: every sum is checked ([`Fen::plus`], [`Fen::minus`], [`Fen::sum`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fen(pub i64);

impl Fen {
    /// Nothing owed, nothing given.
    pub const ZERO: Self = Self(0);

    /// The checked sum of two amounts.
    pub const fn plus(self, other: Self) -> Result<Self, Overflow> {
        match self.0.checked_add(other.0) {
            Some(fen) => Ok(Self(fen)),
            None => Err(Overflow),
        }
    }

    /// The checked difference of two amounts.
    pub const fn minus(self, other: Self) -> Result<Self, Overflow> {
        match self.0.checked_sub(other.0) {
            Some(fen) => Ok(Self(fen)),
            None => Err(Overflow),
        }
    }

    /// The checked product with a count.
    pub const fn times(self, count: i64) -> Result<Self, Overflow> {
        match self.0.checked_mul(count) {
            Some(fen) => Ok(Self(fen)),
            None => Err(Overflow),
        }
    }

    /// The same amount the other way round.
    pub const fn negated(self) -> Result<Self, Overflow> {
        Self::ZERO.minus(self)
    }

    /// The checked sum of many amounts; nothing sums to zero.
    pub fn sum(amounts: impl IntoIterator<Item = Self>) -> Result<Self, Overflow> {
        amounts.into_iter().try_fold(Self::ZERO, Self::plus)
    }

    /// True for exactly nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// Yuan with two decimals: `3.50`, `-0.05`.
impl fmt::Display for Fen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let fen = self.0.unsigned_abs();
        f.pad(&format!("{sign}{}.{:02}", fen / 100, fen % 100))
    }
}

/// Why an amount cannot be split into shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// There are no weights, or all of them are zero.
    #[error("shares need at least one weight above zero")]
    NoWeight,
}

/// Splits an amount in proportion to weights by largest remainder, so that the shares add up to it exactly.
///
/// Every share is the exact quota rounded down (towards zero), and what is left goes, one fen each, to the largest
/// remainders; equal remainders go to the earlier weight, so that the same input always gives the same shares.
/// A negative amount is split like its opposite.
pub fn split(amount: Fen, weights: &[u64]) -> Result<Vec<Fen>, ShareError> {
    // 64-bit amounts times 64-bit weights fit in 128 bits.
    let total: u128 = weights.iter().map(|&w| u128::from(w)).sum();
    if total == 0 {
        return Err(ShareError::NoWeight);
    }
    let size = u128::from(amount.0.unsigned_abs());
    let mut shares = Vec::with_capacity(weights.len());
    let mut remainders = Vec::with_capacity(weights.len());
    let mut given = 0_u128;
    for (i, &weight) in weights.iter().enumerate() {
        let product = size * u128::from(weight);
        shares.push(product / total);
        given += product / total;
        remainders.push((std::cmp::Reverse(product % total), i));
    }
    remainders.sort_unstable();
    // Fewer fen are left over than there are weights, because each quota lost less than one.
    for &(_, i) in remainders.iter().take((size - given) as usize) {
        shares[i] += 1;
    }
    let negative = amount.0 < 0;
    // Each share is at most the size of the amount, which came from an i64; wrapping only meets i64::MIN itself.
    let signed = |share: u128| if negative { (share as i64).wrapping_neg() } else { share as i64 };
    Ok(shares.into_iter().map(|share| Fen(signed(share))).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sums_beyond_64_bits_are_an_error() {
        assert_eq!(Fen(i64::MAX).plus(Fen(1)), Err(Overflow));
        assert_eq!(Fen(i64::MIN).negated(), Err(Overflow));
        assert_eq!(Fen(i64::MAX).times(2), Err(Overflow));
        assert_eq!(Fen::sum([Fen(1), Fen(2), Fen(-3)]), Ok(Fen(0)));
    }

    #[test]
    fn fen_are_shown_as_yuan() {
        assert_eq!(Fen(350).to_string(), "3.50");
        assert_eq!(Fen(-5).to_string(), "-0.05");
    }

    #[test]
    fn the_largest_remainder_takes_the_fen_that_is_left() {
        assert_eq!(split(Fen(100), &[1, 1, 1]), Ok(vec![Fen(34), Fen(33), Fen(33)]));
        assert_eq!(split(Fen(10), &[15, 85]), Ok(vec![Fen(2), Fen(8)]));
        assert_eq!(split(Fen(-10), &[15, 85]), Ok(vec![Fen(-2), Fen(-8)]));
        assert_eq!(split(Fen(10), &[0, 0]), Err(ShareError::NoWeight));
        assert_eq!(split(Fen(10), &[]), Err(ShareError::NoWeight));
    }

    proptest! {
        #[test]
        fn shares_add_up_exactly_and_are_within_one_fen_of_the_quota(
            amount in any::<i64>(),
            weights in prop::collection::vec(any::<u64>(), 1..20),
        ) {
            prop_assume!(weights.iter().any(|&w| w > 0));
            let shares = split(Fen(amount), &weights).unwrap();
            let sum: i128 = shares.iter().map(|s| i128::from(s.0)).sum();
            prop_assert_eq!(sum, i128::from(amount));
            let total: f64 = weights.iter().map(|&w| w as f64).sum();
            for (share, &weight) in shares.iter().zip(&weights) {
                let quota = amount as f64 * (weight as f64 / total);
                // Doubles are exact enough here only up to their own rounding at 2^63.
                prop_assert!((share.0 as f64 - quota).abs() <= 1.0 + quota.abs() * 1e-12);
            }
        }
    }
}
