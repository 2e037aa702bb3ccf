//! What tests that span processes are made of: a town with a running gateway, a gate whose firmware runs in QEMU,
//! and processes that are killed.

pub mod processes;
pub mod qemu;
pub mod town;
