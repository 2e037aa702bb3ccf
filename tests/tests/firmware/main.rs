//! The gate's firmware on its real target, in QEMU, with a simulated PN532, phones and a running gateway.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
// Under a name that `cargo x test` leaves out and calls for: these wait for clocks more than they compute, and run beside
// other tests.
mod in_qemu {
    mod faults;
    mod noise;
    mod panel;
    mod power_cuts;
    mod suite;
    mod taps;
}
