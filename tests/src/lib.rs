//! What tests that span processes are made of: a town with a running gateway, and a gate whose firmware runs in QEMU.

pub mod qemu;
pub mod town;
