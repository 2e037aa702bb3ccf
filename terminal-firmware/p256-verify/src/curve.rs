//! Points of the curve y² = x³ − 3x + b.
//!
//! A running sum is kept in Jacobian coordinates: (X, Y, Z) stands for (X/Z², Y/Z³), and Z = 0 for the neutral
//! point. What is added to it is affine, as tables have it. The formulas are the usual ones (Hankerson, Menezes,
//! Vanstone, "Guide to Elliptic Curve Cryptography", 3.2); where they do not hold (a point added to itself or to
//! its negative, the neutral point) another case is taken: whoever makes a signature chooses the numbers, and so
//! may choose these.

use crate::field::{Fe, Words, is_below};

/// b.
const B: Fe = Fe([
    0x29C4_BDDF,
    0xD89C_DF62,
    0x7884_3090,
    0xACF0_05CD,
    0xF721_2ED6,
    0xE5A2_20AB,
    0x0487_4834,
    0xDC30_061D,
]);
/// (p + 1)/2: a key's y is below it.
const Y_LIMIT: Words =
    [0x0000_0000, 0x0000_0000, 0x0000_0000, 0x8000_0000, 0x0000_0000, 0x0000_0000, 0x8000_0000, 0x7FFF_FFFF];

/// A point other than the neutral one.
#[derive(Clone, Copy)]
pub(crate) struct Affine {
    pub(crate) x: Fe,
    pub(crate) y: Fe,
}

impl Affine {
    /// Holds the place of a point in a table that is not there yet.
    pub(crate) const NONE: Self = Self { x: Fe::ZERO, y: Fe::ZERO };

    /// The point with this x, big-endian, and the smaller y; `None` if the curve has none.
    pub(crate) fn from_x(x: &[u8; 32]) -> Option<Self> {
        let x = Fe::from_be_bytes(x)?;
        let three = Fe::ONE.add(&Fe::ONE).add(&Fe::ONE);
        let y = x.square().subtract(&three).multiply(&x).add(&B).square_root()?;
        let low = is_below(&y.value(), &Y_LIMIT);
        Some(Self { x, y: if low { y } else { Fe::ZERO.subtract(&y) } })
    }
}

/// A running sum.
#[derive(Clone, Copy)]
pub(crate) struct Sum {
    pub(crate) x: Fe,
    pub(crate) y: Fe,
    pub(crate) z: Fe,
}

impl Sum {
    /// The neutral point.
    pub(crate) const NEUTRAL: Self = Self { x: Fe::ZERO, y: Fe::ZERO, z: Fe::ZERO };

    pub(crate) const fn from_affine(point: &Affine) -> Self {
        Self { x: point.x, y: point.y, z: Fe::ONE }
    }

    #[inline(always)]
    pub(crate) fn is_neutral(&self) -> bool {
        self.z.is_zero()
    }

    /// The point in affine coordinates, given the inverse of Z.
    pub(crate) fn divide_out(&self, z_inverse: &Fe) -> Affine {
        let square = z_inverse.square();
        Affine { x: self.x.multiply(&square), y: self.y.multiply(&square).multiply(z_inverse) }
    }

    /// The affine x, big-endian; `None` for the neutral point.
    pub(crate) fn affine_x(&self) -> Option<[u8; 32]> {
        (!self.is_neutral()).then(|| self.x.multiply(&self.z.inverse().square()).to_be_bytes())
    }

    /// Doubles: 4 products, 4 squares. No point has y = 0, for n is odd; Z = 0 stays.
    pub(crate) fn double(&mut self) {
        let z2 = self.z.square();
        let slope = self.x.subtract(&z2).multiply(&self.x.add(&z2));
        self.z = self.y.multiply(&self.z);
        // Half of Hankerson's α: then Z is half as large, and nothing has to be doubled for it.
        let slope = slope.half().add(&slope);
        let y2 = self.y.square();
        let xy2 = self.x.multiply(&y2);
        self.x = slope.square().subtract(&xy2).subtract(&xy2);
        self.y = xy2.subtract(&self.x).multiply(&slope).subtract(&y2.square());
    }

    /// Adds a point, or subtracts it: 8 products, 3 squares.
    pub(crate) fn add(&mut self, point: &Affine, subtract: bool) {
        if self.is_neutral() {
            *self = Self::from_affine(point);
            if subtract {
                self.y = Fe::ZERO.subtract(&self.y);
            }
            return;
        }
        let z2 = self.z.square();
        let x_apart = point.x.multiply(&z2).subtract(&self.x);
        let y = self.z.multiply(&z2).multiply(&point.y);
        // Of the point's negative, this is the negative; the sign is put right below.
        let y_apart = if subtract { y.add(&self.y) } else { y.subtract(&self.y) };
        if x_apart.is_zero() {
            if y_apart.is_zero() {
                self.double();
            } else {
                *self = Self::NEUTRAL;
            }
            return;
        }
        let square = x_apart.square();
        let cube = square.multiply(&x_apart);
        let v = self.x.multiply(&square);
        self.z = self.z.multiply(&x_apart);
        self.x = y_apart.square().subtract(&cube).subtract(&v).subtract(&v);
        let run = if subtract { self.x.subtract(&v) } else { v.subtract(&self.x) };
        self.y = run.multiply(&y_apart).subtract(&cube.multiply(&self.y));
    }
}

/// The sum and the difference of two points whose x differ, given the inverse of `a.x` − `b.x`.
pub(crate) fn sum_and_difference(a: &Affine, b: &Affine, inverse: &Fe) -> (Affine, Affine) {
    let along = |slope: Fe| {
        let x = slope.square().subtract(&a.x).subtract(&b.x);
        Affine { x, y: a.x.subtract(&x).multiply(&slope).subtract(&a.y) }
    };
    (along(a.y.subtract(&b.y).multiply(inverse)), along(a.y.add(&b.y).multiply(inverse)))
}

#[cfg(test)]
mod tests;
