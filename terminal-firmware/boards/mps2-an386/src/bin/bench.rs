//! The gate application on the board's processor with a card that answers from memory: what `cargo x bench gate` counts.
//!
//! It runs under `-icount shift=0`: SysTick then ticks once in 40 instructions, exactly and repeatably. Waiting is
//! excluded, for nobody is waited for; the log is off, for there is none.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
#[path = "../bench/mod.rs"]
mod bench;

#[cfg(not(target_os = "none"))]
fn main() {}
