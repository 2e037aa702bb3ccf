//! The gate's firmware for QEMU's `mps2-an386` (Cortex-M4F).
//!
//! Here is only what the board is: serial lines, timer, watchdog, panel, a flash that is a file of the host's, and
//! the order of start-up. What a gate does is `wavepass-terminal` and what lies under it, the same on every board.
//!
//! | line | what |
//! | --- | --- |
//! | UART0 | the reader chip (PN532, HSU) |
//! | UART1 | the link to the host |
//! | UART2 | the panel: see `panel` |
//! | semihosting | the flash file, entropy, the provisioning file, the log (defmt) |
//!
//! Killing QEMU is a power cut: what was written to the flash file stays, everything else is gone.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod board;

#[cfg(not(target_os = "none"))]
fn main() {}
