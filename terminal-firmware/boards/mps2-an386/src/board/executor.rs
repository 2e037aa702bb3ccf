//! embassy's executor on one thread that sleeps between interrupts. (Its own thread mode waits with WFE, which QEMU
//! does not sleep on.)

use core::sync::atomic::{AtomicBool, Ordering};
use embassy_executor::{Spawner, raw};
use static_cell::StaticCell;

static WOKEN: AtomicBool = AtomicBool::new(false);
static EXECUTOR: StaticCell<raw::Executor> = StaticCell::new();

/// Called by the executor when a task is to be polled, from an interrupt or from a task.
#[unsafe(export_name = "__pender")]
fn pend(_: *mut ()) {
    WOKEN.store(true, Ordering::Release);
}

/// Runs what `spawn` spawns, for ever.
pub(super) fn run(spawn: impl FnOnce(Spawner)) -> ! {
    let executor = EXECUTOR.init(raw::Executor::new(core::ptr::null_mut()));
    spawn(executor.spawner());
    loop {
        WOKEN.store(false, Ordering::Release);
        // SAFETY: this is the one thread that polls, and it does not poll from within a task.
        unsafe { executor.poll() };
        // An interrupt between the look and the sleep stays pending and ends the sleep at once.
        cortex_m::interrupt::disable();
        if !WOKEN.load(Ordering::Acquire) {
            cortex_m::asm::wfi();
        }
        // SAFETY: no critical section is open here.
        unsafe { cortex_m::interrupt::enable() };
    }
}
