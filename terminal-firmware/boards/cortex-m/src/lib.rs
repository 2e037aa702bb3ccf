//! What the gate's boards share because their processor is a Cortex-M: why the run before ended, how a run stops, and
//! how much of the stack was ever used. It knows no board; on other processors only the count of starts is left of it.
//!
//! A board's `memory.x` puts the stack below everything static and gives its ends as `_stack_start` and
//! `_stack_limit`.
#![no_std]

#[cfg(target_os = "none")]
pub mod crash;
#[cfg(target_os = "none")]
pub mod stack;
pub mod starts;
#[cfg(target_os = "none")]
mod stop;

#[cfg(target_os = "none")]
pub use stop::{begin, stop, turned};

/// What the board knows of itself when a run begins. The reason of the run before is told once.
#[cfg(target_os = "none")]
pub fn health() -> wavepass_terminal::Health {
    let mut health = wavepass_terminal::Health { stack_bytes: stack::size(), ..Default::default() };
    if let Some(panic) = crash::take() {
        defmt::warn!("the run before ended: {=str}", panic.as_str());
        health.panic = panic;
    }
    health
}
