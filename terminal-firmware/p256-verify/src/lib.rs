//! Verification of EC-SDSA signatures (P-256, SHA-256) on a gate's 32-bit core, fast enough that a rider does not wait
//! for it. [`FastVerifier`] gives the verdicts of [`wavepass_protocol::ecc::P256Verifier`], the reference.
//!
//! **It is for verifying only.** Its running time, its branches and the memory it reads depend on the numbers, so
//! nothing secret may go through it: no signing, no key agreement. Keys, tables and signatures are public.
//!
//! # Method
//!
//! To verify is to find x(s·G − r·P). Nearly all of it is products of numbers mod p, so there are two ways to less
//! work: cheaper products, and fewer.
//!
//! - *Products* (`field`) are Montgomery products of eight words. UMAAL multiplies two words and adds two more; on
//!   the gate's processor products and squares are written out with it, 137 and 126 instructions each, where the
//!   compiler takes 540. [`self_test`] and feature `selfcheck` hold them to the safe code that hosts run.
//! - *Sums of points* (`curve`) are Jacobian plus affine, so tables are affine. Every exceptional case is taken
//!   care of, for whoever makes a signature chooses the numbers.
//! - *Combs* (`comb`) multiply G, and a remembered key, with 32 doublings for both and 84 additions. G's table is in
//!   flash. Those of remembered keys are made in RAM when [`FastVerifier`] is asked to, in idle time.
//! - *A key without tables* (`combine`) costs 256 doublings and 43 additions from a table of its odd multiples up to
//!   15, which is made on the way, and a square root for its y. G's comb is in the last 32 doublings.
//! - *Inverses* (`field::inverse`) are by division steps; one is left for x(Q), one for a table that is made on the
//!   way.
//!
//! # Memory
//!
//! | what | bytes |
//! | --- | --- |
//! | table of G, flash | 8192 |
//! | code, flash | about 13 000 |
//! | `FastVerifier<4>`, static | 8464 |
//! | `FastVerifier<8>`, static | 16 816 |
//! | stack, without tables | 5000 |
//! | stack, with tables | 1400 |
//! | stack, tables being made | 1900 |
//!
//! # Instructions
//!
//! Counted by SysTick in QEMU 7.2 (`qemu-system-arm -machine mps2-an386 -cpu cortex-m4 -icount shift=0`), profile
//! `firmware`, rustc 1.95, means of ten keys over a message of 81 bytes, with SHA-256.
//!
//! | operation | instructions |
//! | --- | --- |
//! | product, square, sum mod p, each with its call | 149, 137, 31 |
//! | inverse, square root | 15 100, 36 700 |
//! | doubling, adding a table's point | 1330, 1760 |
//! | **verification under a remembered key** | **225 000** |
//! | **verification under any other key** | **581 000** |
//! | a key's tables, in all | 677 000 |
//! | the longest slice of that | 81 000 |
//! | crate `p256`, same profile | 15 500 000 |
#![cfg_attr(not(test), no_std)]

#[cfg(any(test, feature = "selfcheck"))]
pub mod selfcheck;

mod comb;
mod combine;
mod curve;
mod field;
mod scalar;
mod self_test;
mod verifier;

#[cfg(test)]
mod testing;

pub use self_test::self_test;
pub use verifier::FastVerifier;
