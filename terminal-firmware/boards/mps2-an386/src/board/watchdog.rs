//! The board's watchdog (CMSDK APB watchdog, 25 MHz): started first, then fed at the end of each turn of the loop, and
//! by a gate that stays out of service. At its first expiry the reason is kept and the gate starts again; at its second it resets by itself.

const BASE: usize = 0x4000_8000;
const LOAD: *mut u32 = BASE as *mut u32;
const CONTROL: *mut u32 = (BASE + 0x08) as *mut u32;
const CLEAR: *mut u32 = (BASE + 0x0C) as *mut u32;
const LOCK: *mut u32 = (BASE + 0xC00) as *mut u32;
const UNLOCKED: u32 = 0x1ACC_E551;
/// Ten seconds: a turn is at most a tap with a card at its limit, or a list that is stored.
const PERIOD: u32 = 10 * 25_000_000;
const INTERRUPT_AND_RESET: u32 = 0b11;

fn unlocked(work: impl FnOnce()) {
    // SAFETY: the watchdog's lock register; nothing else uses the watchdog.
    unsafe { LOCK.write_volatile(UNLOCKED) };
    work();
    // SAFETY: as above.
    unsafe { LOCK.write_volatile(0) };
}

/// Starts it.
pub(super) fn start() {
    // SAFETY: the watchdog's registers.
    unlocked(|| unsafe {
        LOAD.write_volatile(PERIOD);
        CONTROL.write_volatile(INTERRUPT_AND_RESET);
    });
}

/// What it watches goes on.
pub(super) fn feed() {
    // SAFETY: any write begins the period again.
    unlocked(|| unsafe { CLEAR.write_volatile(1) });
}

/// The first expiry: the loop has not turned in time.
#[cortex_m_rt::exception]
unsafe fn NonMaskableInt() {
    super::crash::reset("watchdog: the loop did not turn in time")
}
