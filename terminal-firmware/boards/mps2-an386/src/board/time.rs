//! Time for embassy: the FPGA's counter at 1 MHz is the clock, SysTick at 1 kHz looks for what is due.
//!
//! Register addresses: ARM application note 386, FPGA system control; QEMU's `hw/misc/mps2-fpgaio.c`.

use core::cell::{Cell, RefCell};
use core::task::Waker;
use cortex_m::peripheral::syst::SystClkSource;
use critical_section::Mutex;
use embassy_time_driver::Driver;
use embassy_time_queue_utils::Queue;

const FPGA_IO: usize = 0x4002_8000;
const COUNTER: *const u32 = (FPGA_IO + 0x18) as *const u32;
const PRESCALE: *mut u32 = (FPGA_IO + 0x1C) as *mut u32;
/// The counter's input is 20 MHz.
const DIVIDE: u32 = 20;
const SYSTICK_HZ: u32 = 25_000_000;

struct Clock {
    /// The counter's last value and how often it has wrapped: every 71 minutes.
    last: Mutex<Cell<(u32, u32)>>,
    queue: Mutex<RefCell<Queue>>,
}

embassy_time_driver::time_driver_impl!(static CLOCK: Clock = Clock {
    last: Mutex::new(Cell::new((0, 0))),
    queue: Mutex::new(RefCell::new(Queue::new())),
});

impl Driver for Clock {
    fn now(&self) -> u64 {
        critical_section::with(|cs| {
            // SAFETY: a readable register of this board.
            let count = unsafe { COUNTER.read_volatile() };
            let (last, mut wraps) = self.last.borrow(cs).get();
            wraps += u32::from(count < last);
            self.last.borrow(cs).set((count, wraps));
            u64::from(wraps) << 32 | u64::from(count)
        })
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|cs| self.queue.borrow(cs).borrow_mut().schedule_wake(at, waker));
    }
}

/// Starts the clock.
pub(super) fn start() {
    // SAFETY: a writable register of this board; nothing else uses the prescaler.
    unsafe { PRESCALE.write_volatile(DIVIDE - 1) };
    // SAFETY: the core's peripherals are taken nowhere else.
    let mut core = unsafe { cortex_m::Peripherals::steal() };
    core.SYST.set_clock_source(SystClkSource::Core);
    core.SYST.set_reload(SYSTICK_HZ / 1000 - 1);
    core.SYST.clear_current();
    core.SYST.enable_counter();
    core.SYST.enable_interrupt();
}

#[cortex_m_rt::exception]
fn SysTick() {
    let now = CLOCK.now();
    critical_section::with(|cs| CLOCK.queue.borrow(cs).borrow_mut().next_expiration(now));
}
