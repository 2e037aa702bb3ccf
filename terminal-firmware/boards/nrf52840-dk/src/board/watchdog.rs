//! The board's watchdog: fed at the end of each turn of the loop; before there is a loop, by a start that goes on; and
//! by whatever waits for people. It cannot be stopped. Before it resets the chip it leaves 61 µs, in which the reason is
//! kept.

use core::sync::atomic::{AtomicBool, Ordering};
use embassy_nrf::Peri;
use embassy_nrf::interrupt::{self, InterruptExt, Priority};
use embassy_nrf::pac;
use embassy_nrf::peripherals::WDT;
use embassy_nrf::wdt::{Config, HaltConfig, Watchdog};
use wavepass_cortex_m::crash;

/// Ten seconds at 32,768 Hz: a turn is at most a tap with a card at its limit, or a list that is stored.
const PERIOD: u32 = 10 * 32_768;

/// False where a watchdog with another period already ran: it is left to expire, and the next run sets this one.
static IS_OURS: AtomicBool = AtomicBool::new(false);

/// Starts it. It stands still while a debugger halts the processor.
pub(super) fn start(wdt: Peri<'static, WDT>) {
    let mut config = Config::default();
    config.timeout_ticks = PERIOD;
    config.action_during_debug_halt = HaltConfig::Pause;
    interrupt::WDT.set_priority(Priority::P0);
    // SAFETY: its handler is below.
    unsafe { interrupt::WDT.enable() };
    IS_OURS.store(Watchdog::try_new::<_, 1>(wdt, config).is_ok(), Ordering::Release);
}

/// What it watches goes on.
pub(super) fn feed() {
    if IS_OURS.load(Ordering::Acquire) {
        // The one register that it was started with.
        pac::WDT.rr(0).write(|w| w.set_rr(pac::wdt::vals::Rr::Reload));
    }
}

#[embassy_nrf::interrupt]
fn WDT() {
    crash::reset("watchdog: the loop did not turn in time")
}
