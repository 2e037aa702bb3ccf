//! The board's watchdog: fed at the end of each turn of the loop, and nowhere else. It cannot be stopped. Before it
//! resets the chip it leaves 61 µs, in which the reason is kept.

use embassy_nrf::Peri;
use embassy_nrf::interrupt::{self, InterruptExt, Priority};
use embassy_nrf::peripherals::WDT;
use embassy_nrf::wdt::{Config, HaltConfig, Watchdog, WatchdogHandle};
use wavepass_cortex_m::crash;

/// Ten seconds at 32,768 Hz: a turn is at most a tap with a card at its limit, or a list that is stored.
const PERIOD: u32 = 10 * 32_768;

/// The watchdog, running.
pub(super) struct BoardWatchdog {
    /// Missing where a watchdog with another period already ran: it is left to expire, and the next run sets this one.
    handle: Option<WatchdogHandle>,
}

/// Starts it. It stands still while a debugger halts the processor.
pub(super) fn start(wdt: Peri<'static, WDT>) -> BoardWatchdog {
    let mut config = Config::default();
    config.timeout_ticks = PERIOD;
    config.action_during_debug_halt = HaltConfig::Pause;
    interrupt::WDT.set_priority(Priority::P0);
    // SAFETY: its handler is below.
    unsafe { interrupt::WDT.enable() };
    let handle = Watchdog::try_new(wdt, config).ok().map(|(_, [handle])| handle);
    BoardWatchdog { handle }
}

impl BoardWatchdog {
    /// The loop has turned.
    pub(super) fn feed(&mut self) {
        if let Some(handle) = &mut self.handle {
            handle.pet();
        }
    }
}

#[embassy_nrf::interrupt]
fn WDT() {
    crash::reset("watchdog: the loop did not turn in time")
}
