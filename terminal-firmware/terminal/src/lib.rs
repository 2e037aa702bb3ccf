//! The main loop of a gate, whatever its board: reader, link, panel and clock around the gate application.
//!
//! A board implements [`Reader`], [`Line`] and [`Panel`], gives a flash and entropy, and runs
//! [`Terminal::run`]. It decides nothing: what opens a gate is asked in the kernel, and what is durable is the
//! journal's. One task owns everything here, so that nothing is ever half done when something else begins;
//! interrupts only fill and drain the board's buffers.
//!
//! The barrier opens on one decision, `Open` from [`wavepass_gate::Gate::present`], which comes after the tap is
//! durable. An error of any kind leaves it closed. The emergency input is not in this crate's hands: the board's
//! interrupt opens the barrier by itself and tells of it afterwards, so that it works while this task computes.
#![no_std]

#[cfg(test)]
extern crate std;

/// A log line, where the board has a logger.
macro_rules! log {
    ($level:ident, $($what:tt)*) => {
        #[cfg(feature = "defmt")]
        defmt::$level!($($what)*);
    };
}

mod chip;
mod clock;
mod drbg;
mod emergency;
mod hardware;
pub mod layout;
mod openings;
mod run;
mod self_test;
mod service;
mod start;
mod stopped;
mod talk;

pub use chip::{Pn532Reader, Time};
pub use clock::Clock;
pub use drbg::Drbg;
pub use emergency::{EmergencyLatch, EmergencyWatch};
pub use hardware::{Found, Line, Panel, PanelEvent, Reader, Sign};
pub use run::{Fault, Health, Terminal};
pub use self_test::{SelfTestError, self_test};
pub use service::Service;
pub use start::{Provisioner, Refused, Stop, start};
pub use stopped::{out_of_service, while_starting};
/// The driver of the reader chip.
pub use wavepass_pn532 as pn532;
