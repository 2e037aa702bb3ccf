//! s·G − r·P, the sum that a signature is verified by.
//!
//! The two functions stay functions: their caller is generic, so it is compiled with the crate that names it, and
//! for size where that crate is.

use crate::comb::{
    GENERATOR, GENERATOR_SPACING, GENERATOR_TEETH, KEY_SPACING, KEY_STEP, KEY_TEETH, KeyTables,
};
use crate::curve::{Affine, Sum};
use crate::field::invert_all;
use crate::scalar::{CombDigits, Scalar};

/// s·G − r·P with tables of P.
#[inline(never)]
pub(crate) fn with_tables(s: &Scalar, r: &Scalar, tables: &KeyTables) -> Sum {
    let s = s.comb(GENERATOR_TEETH, GENERATOR_SPACING);
    let r = r.comb(KEY_TEETH, KEY_SPACING);
    let mut sum = Sum::NEUTRAL;
    for column in (0..GENERATOR_SPACING).rev() {
        sum.double();
        add_column(&mut sum, &GENERATOR, &s, column, false);
        if column < KEY_STEP {
            add_column(&mut sum, &tables[0], &r, column, true);
            add_column(&mut sum, &tables[1], &r, column + KEY_STEP, true);
        }
    }
    sum
}

/// s·G − r·P without.
#[inline(never)]
pub(crate) fn without_tables(s: &Scalar, r: &Scalar, point: &Affine) -> Sum {
    let s = s.comb(GENERATOR_TEETH, GENERATOR_SPACING);
    let r = r.windows();
    let multiples = odd_multiples(point);
    let mut sum = Sum::NEUTRAL;
    for i in (0..r.len().max(GENERATOR_SPACING as usize)).rev() {
        sum.double();
        let digit = r.digit(i);
        if digit != 0 {
            sum.add(&multiples[usize::from(digit.unsigned_abs() / 2)], digit > 0);
        }
        if i < GENERATOR_SPACING as usize {
            add_column(&mut sum, &GENERATOR, &s, i as u32, false);
        }
    }
    sum
}

fn add_column(sum: &mut Sum, table: &[Affine], digits: &CombDigits, column: u32, subtract: bool) {
    let (place, negative) = digits.column(column);
    sum.add(&table[place], negative != subtract);
}

/// P, 3P, 5P, … 15P.
fn odd_multiples(point: &Affine) -> [Affine; 8] {
    // On the curve y² = x³ − 3z⁴x + z⁶b, on which (z²x, z³y) lies where (x, y) lies on ours, the doubled point is
    // affine with z its Z. Adding does not depend on the curve's numbers.
    let mut double = Sum::from_affine(point);
    double.double();
    let z = double.z;
    let double = Affine { x: double.x, y: double.y };
    let z2 = z.square();
    let mut sum =
        Sum::from_affine(&Affine { x: point.x.multiply(&z2), y: point.y.multiply(&z2).multiply(&z) });
    let sums: [Sum; 7] = core::array::from_fn(|_| {
        sum.add(&double, false);
        Sum { z: sum.z.multiply(&z), ..sum }
    });
    let mut inverses = sums.map(|sum| sum.z);
    invert_all(&mut inverses);
    let mut multiples = [*point; 8];
    for ((multiple, sum), inverse) in multiples[1..].iter_mut().zip(&sums).zip(&inverses) {
        *multiple = sum.divide_out(inverse);
    }
    multiples
}

#[cfg(test)]
mod tests;
