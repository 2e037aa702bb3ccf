//! Instructions, counted by SysTick: under `-icount shift=0` an instruction is a nanosecond, a tick 40 of them.

use core::sync::atomic::{AtomicU32, Ordering};
use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use wavepass_protocol::ecc::{PublicKey, SIGNATURE_LEN, Verifier};

const INSTRUCTIONS_PER_TICK: u32 = 40;
const TICKS_PER_US: u32 = 25;
/// The counter has 24 bits: 671 million instructions, far more than anything that is counted here.
const RELOAD: u32 = 0x00FF_FFFF;

static VERIFYING: AtomicU32 = AtomicU32::new(0);

/// Starts the counter; it raises no interrupt.
pub(super) fn start() {
    // SAFETY: the core's peripherals are taken nowhere else.
    let mut core = unsafe { cortex_m::Peripherals::steal() };
    core.SYST.set_clock_source(SystClkSource::Core);
    core.SYST.set_reload(RELOAD);
    core.SYST.clear_current();
    core.SYST.enable_counter();
}

/// Does something and gives how many instructions it took.
pub(super) fn count<T>(work: impl FnOnce() -> T) -> (T, u32) {
    let before = SYST::get_current();
    let done = work();
    let ticks = before.wrapping_sub(SYST::get_current()) & RELOAD;
    (done, ticks * INSTRUCTIONS_PER_TICK)
}

/// Microseconds of the counter, for the kernel's clock; a tap is shorter than its round.
pub(super) fn now_us() -> u64 {
    u64::from((RELOAD - SYST::get_current()) / TICKS_PER_US)
}

/// Instructions spent in P-256 verification since the last clearing.
pub(super) fn verifying() -> u32 {
    VERIFYING.load(Ordering::Relaxed)
}

/// Begins anew.
pub(super) fn clear() {
    VERIFYING.store(0, Ordering::Relaxed);
}

/// A verifier that counts what it costs.
pub(super) struct Counting<V>(pub(super) V);

impl<V: Verifier> Verifier for Counting<V> {
    fn verify(&mut self, key: &PublicKey, message: &[&[u8]], signature: &[u8; SIGNATURE_LEN]) -> bool {
        let (verdict, cost) = count(|| self.0.verify(key, message, signature));
        VERIFYING.store(VERIFYING.load(Ordering::Relaxed) + cost, Ordering::Relaxed);
        verdict
    }

    fn remember(&mut self, key: &PublicKey) {
        self.0.remember(key);
    }

    fn prepare(&mut self) -> bool {
        self.0.prepare()
    }
}
