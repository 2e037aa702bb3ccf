//! Combs: tables with which a point known beforehand is multiplied in a few dozen steps (Lim and Lee, 1994).
//!
//! A comb of w teeth that stand d bits apart takes one digit of the multiplier under each tooth at a time, so d
//! columns make up the multiplier. Digits are 1 or −1 (see [`crate::scalar`]), so a table has half of the sums
//! ±P ± 2^d·P ± 2^2d·P …: those with +P, the others being their negatives. Bit t of a place in the table is set
//! where tooth t + 1 is added.
//!
//! | comb | teeth | bits apart | tables | points | bytes |
//! | --- | --- | --- | --- | --- | --- |
//! | generator, in flash | 8 | 32 | 1 | 128 | 8192 |
//! | a remembered key, in RAM | 5 | 52 | 2 | 32 | 2048 |
//!
//! The second table of a key is the first times 2^26, so that two columns are done with one doubling.

use crate::curve::{Affine, Sum, sum_and_difference};
use crate::field::{Fe, MAX_BATCH, Words, invert_all};

/// The generator's comb.
pub(crate) const GENERATOR_TEETH: u32 = 8;
/// Bits between its teeth.
pub(crate) const GENERATOR_SPACING: u32 = 32;
const GENERATOR_POINTS: usize = 1 << (GENERATOR_TEETH - 1);

/// The generator's table. A test computes it anew, by crate `p256`.
pub(crate) static GENERATOR: [Affine; GENERATOR_POINTS] = from_bytes(include_bytes!("generator.bin"));

/// A remembered key's comb.
pub(crate) const KEY_TEETH: u32 = 5;
/// Bits between its teeth: 5 · 52 are at least 256.
pub(crate) const KEY_SPACING: u32 = 52;
/// Bits between its two tables.
pub(crate) const KEY_STEP: u32 = KEY_SPACING / 2;
const KEY_POINTS: usize = 1 << (KEY_TEETH - 1);

/// The tables of a remembered key.
pub(crate) type KeyTables = [[Affine; KEY_POINTS]; 2];

/// Holds the place of tables that are not there yet.
pub(crate) const NO_TABLES: KeyTables = [[Affine::NONE; KEY_POINTS]; 2];

/// The making of a key's tables, a tooth at a time.
pub(crate) struct Builder {
    /// The last tooth made: the key's point times 2^([`KEY_STEP`]·(`teeth` − 1)).
    tooth: Affine,
    teeth: u32,
}

impl Builder {
    /// Begins with the first tooth of the first table, the point itself.
    pub(crate) fn new(point: &Affine, tables: &mut KeyTables) -> Self {
        add_tooth(&mut tables[0], 0, point);
        Self { tooth: *point, teeth: 1 }
    }

    /// Makes the next tooth. False once all are made.
    pub(crate) fn step(&mut self, tables: &mut KeyTables) -> bool {
        self.tooth = double_times(&self.tooth, KEY_STEP);
        add_tooth(&mut tables[(self.teeth % 2) as usize], self.teeth / 2, &self.tooth);
        self.teeth += 1;
        self.teeth < 2 * KEY_TEETH
    }
}

/// 2^`times` times the point.
pub(crate) fn double_times(point: &Affine, times: u32) -> Affine {
    let mut sum = Sum::from_affine(point);
    for _ in 0..times {
        sum.double();
    }
    sum.divide_out(&sum.z.inverse())
}

/// Adds a tooth to a table that has those below. No point meets its own x there: places and teeth are multiples of
/// the key's point that differ and are below n/2.
pub(crate) fn add_tooth(table: &mut [Affine], tooth: u32, point: &Affine) {
    let Some(bit) = tooth.checked_sub(1) else {
        table[0] = *point;
        return;
    };
    let (without, with) = table.split_at_mut(1 << bit);
    for (without, with) in without.chunks_mut(MAX_BATCH).zip(with.chunks_mut(MAX_BATCH)) {
        let mut apart = [Fe::ONE; MAX_BATCH];
        for (apart, sum) in apart.iter_mut().zip(without.iter()) {
            *apart = sum.x.subtract(&point.x);
        }
        invert_all(&mut apart[..without.len()]);
        for ((without, with), apart) in without.iter_mut().zip(with).zip(&apart) {
            (*with, *without) = sum_and_difference(without, point, apart);
        }
    }
}

/// Points from their coordinates in Montgomery form, each eight words, the lowest first, little-endian.
const fn from_bytes(bytes: &[u8; 64 * GENERATOR_POINTS]) -> [Affine; GENERATOR_POINTS] {
    let mut points = [Affine::NONE; GENERATOR_POINTS];
    let mut i = 0;
    while i < GENERATOR_POINTS {
        points[i] = Affine { x: Fe(words(bytes, 64 * i)), y: Fe(words(bytes, 64 * i + 32)) };
        i += 1;
    }
    points
}

const fn words(bytes: &[u8], at: usize) -> Words {
    let mut words = [0; 8];
    let mut i = 0;
    while i < 8 {
        let at = at + 4 * i;
        words[i] = u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        i += 1;
    }
    words
}

#[cfg(test)]
mod tests;
