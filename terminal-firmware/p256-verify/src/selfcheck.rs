//! For the gate's processor, in a test's firmware: the assembler against the safe code, and operations to count the
//! instructions of. Only with feature `selfcheck`.

use crate::curve::{Affine, Sum};
use crate::field::{Fe, P, safe};
use core::hint::black_box;

/// True if the field's operations agree with those in safe Rust, and leave their operands alone, on `rounds` pairs of
/// numbers that come of `seed`. Off the gate's processor it compares the safe code with itself.
pub fn selfcheck_asm(seed: u64, rounds: u32) -> bool {
    let mut numbers = Numbers::new(seed);
    (0..rounds).all(|_| {
        let (a, b) = (numbers.number(), numbers.number());
        let before = (a.0, b.0);
        same(&a.multiply(&b), &safe::multiply(&a, &b))
            && same(&a.square(), &safe::square(&a))
            && same(&a.add(&b), &safe::add(&a, &b))
            && same(&a.subtract(&b), &safe::subtract(&a, &b))
            && same(&a.half(), &safe::half(&a))
            && before == (a.0, b.0)
    })
}

fn same(a: &Fe, b: &Fe) -> bool {
    a.canonical().0 == b.canonical().0
}

/// Numbers from a seed (xorshift, Marsaglia 2003): random words, and runs of ones, zeros and words of p.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) const fn new(seed: u64) -> Self {
        // Zero would give zeros for ever.
        Self(seed | 1)
    }

    fn word(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as u32
    }

    pub(crate) fn number(&mut self) -> Fe {
        Fe(core::array::from_fn(|i| match self.word() % 8 {
            0 => 0,
            1 => u32::MAX,
            2 => P[i],
            3 => P[i].wrapping_sub(1),
            4 => 1,
            _ => self.word(),
        }))
    }
}

/// An operation whose instructions are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Nothing, which is what going round costs.
    Nothing,
    /// A product mod p.
    Multiply,
    /// A product mod p in safe Rust.
    SafeMultiply,
    /// A square mod p.
    Square,
    /// A sum mod p.
    Add,
    /// A difference mod p.
    Subtract,
    /// Half of a number mod p.
    Half,
    /// An inverse mod p.
    Inverse,
    /// A square root mod p.
    SquareRoot,
    /// A point doubled.
    DoublePoint,
    /// A point of a table added.
    AddPoint,
}

/// Does an operation `rounds` times.
pub fn repeat(operation: Operation, rounds: u32) {
    // Any numbers; the curve has a point with x = 0.
    let mut a = Fe([7, 1, 4, 2, 8, 5, 0x8000_0001, 3]);
    let b = Fe([0x1234_5678, 0x9ABC_DEF0, 5, 0xFFFF_FFFF, 0xDEAD_BEEF, 6, 7, 0xF000_0001]);
    let Some(point) = Affine::from_x(&[0; 32]) else { return };
    let mut sum = Sum::from_affine(&point);
    sum.double();
    for _ in 0..rounds {
        let (x, y) = (black_box(&a), black_box(&b));
        match operation {
            Operation::Nothing => {}
            Operation::Multiply => a = x.multiply(y),
            Operation::SafeMultiply => a = safe::multiply(x, y),
            Operation::Square => a = x.square(),
            Operation::Add => a = x.add(y),
            Operation::Subtract => a = x.subtract(y),
            Operation::Half => a = x.half(),
            Operation::Inverse => a = x.inverse(),
            Operation::SquareRoot => a = x.square_root().unwrap_or(b),
            Operation::DoublePoint => sum.double(),
            Operation::AddPoint => sum.add(black_box(&point), false),
        }
    }
    black_box((&a, &sum));
}
