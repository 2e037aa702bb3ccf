//! The driver against the simulated chip: in memory in virtual time, over mock buses, and over TCP.

#![allow(clippy::unwrap_used, missing_docs)]

mod buses;
mod cancelling;
mod exchanging;
mod faults;
mod phone;
mod tcp;
mod world;
