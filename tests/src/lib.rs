//! What tests that span processes are made of: a town with a running gateway, a gate whose firmware runs in QEMU,
//! processes that are killed, riders and their days, gates' links by the thousand, and what a store holds in the end.

pub mod books;
pub mod days;
pub mod journals;
pub mod line;
pub mod processes;
pub mod qemu;
pub mod riders;
pub mod town;
