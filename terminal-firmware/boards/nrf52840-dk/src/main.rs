//! The gate's firmware for Nordic's nRF52840 DK (PCA10056), a board one can buy.
//!
//! Here is only what the board is: pins, serial lines, two flash chips, watchdog, panel, and the order of start-up. What
//! a gate does is `wavepass-terminal` and what lies under it, the same on every board. Wiring, flashing and
//! commissioning are in docs/gate.md. It is built in every test run; no run on hardware has been seen.
//!
//! | what | is |
//! | --- | --- |
//! | UARTE1 | the reader chip (PN532, HSU) |
//! | UARTE0 | the link to the host, by the board's USB serial port; the way in of the provisioning file |
//! | LEDs, buttons | the panel: see `panel` |
//! | internal flash | program; keys, identity, the generator's state and the floor |
//! | QSPI flash | lists and journal |
//! | RTT | the log (defmt) |
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod board;

#[cfg(not(target_os = "none"))]
fn main() {}
