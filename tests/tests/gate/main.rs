//! The gate's firmware on its real target, in QEMU, with a simulated PN532, phones and a running gateway.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
mod faults;
mod noise;
mod panel;
mod power_cuts;
mod suite;
mod taps;
