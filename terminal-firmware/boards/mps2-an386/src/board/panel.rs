//! The panel: barrier, lamps, passage sensors and emergency input, on a serial line in the place of GPIO.
//!
//! Out, a line of text for each change: `ready`, `open N`, `again N`, `refuse REASON [N]`, `emergency`,
//! `out_of_service`, `barrier open`, `barrier closed`, `barrier open by interrupt`, and once in a run `start` and, at
//! its end, `stopped REASON`; N is the tap's sequence number. In, a byte for each input: `P` somebody passed, `N`
//! nobody did, `E` the emergency input goes on, `e` off. Other bytes are ignored.
//!
//! With the feature `faults`, for tests: `X` panics, `W` hangs in the loop, `I` hangs with interrupts off.
//!
//! Every byte is taken in the interrupt, and nothing is queued: an input is on or off, or has happened. The emergency
//! input opens the barrier in the interrupt itself, whatever the rest of the firmware is doing.

use super::uart::PANEL;
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering};
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::signal::Signal;
use embassy_time::{Instant, with_timeout};
use heapless::String;
use wavepass_terminal::{EmergencyLatch, EmergencyWatch, Panel, PanelEvent, Sign, Stop};

/// The longest line: `refuse authentication_failed 4294967295`.
const LINE: usize = 48;
const LAMPS: *mut u32 = 0x4002_8000 as *mut u32;

/// The emergency input as it is.
static INPUT: AtomicBool = AtomicBool::new(false);
static EMERGENCY: EmergencyLatch = EmergencyLatch::new();
static WANTED: AtomicBool = AtomicBool::new(false);
static PASSED: AtomicBool = AtomicBool::new(false);
static NOT_PASSED: AtomicBool = AtomicBool::new(false);
static CAME: Signal<CriticalSectionRawMutex, ()> = Signal::new();
/// The fault that a test asked for.
#[cfg(feature = "faults")]
static FAULT: core::sync::atomic::AtomicU8 = core::sync::atomic::AtomicU8::new(0);

/// Takes each byte of the panel's line, in the interrupt.
pub(super) fn input(byte: u8) {
    match byte {
        b'P' => PASSED.store(true, Ordering::Release),
        b'N' => NOT_PASSED.store(true, Ordering::Release),
        b'E' | b'e' => INPUT.store(byte == b'E', Ordering::Release),
        #[cfg(feature = "faults")]
        b'X' | b'W' => FAULT.store(byte, Ordering::Release),
        #[cfg(feature = "faults")]
        b'I' => critical_section::with(|_| hang()),
        _ => {}
    }
    if EMERGENCY.strike(byte == b'E', INPUT.load(Ordering::Acquire)) {
        move_barrier();
    }
    if byte == b'E' {
        say("barrier open by interrupt\n");
    }
    CAME.signal(());
}

/// The watchdog ends it.
#[cfg(feature = "faults")]
pub(super) fn hang() -> ! {
    loop {
        cortex_m::asm::nop();
    }
}

/// Moves the barrier to where it belongs, and gives where that is. Called where the interrupt cannot come between.
fn move_barrier() -> bool {
    let open = WANTED.load(Ordering::Acquire) || EMERGENCY.is_on();
    let lamps = if open { 0b11 } else { 0b00 };
    // SAFETY: the board's LED register.
    unsafe { LAMPS.write_volatile(lamps) };
    open
}

/// Lets the emergency input's opening go if the input is off.
fn release() -> bool {
    critical_section::with(|_| {
        let over = !INPUT.load(Ordering::Acquire);
        if over {
            EMERGENCY.clear();
            move_barrier();
        }
        over
    })
}

fn say(text: &str) {
    // What the panel does not take is not shown; the gate goes on.
    PANEL.queue(text.as_bytes());
}

/// The panel.
#[derive(Default)]
pub(super) struct BoardPanel {
    emergency: EmergencyWatch,
}

impl BoardPanel {
    /// Says that a run begins.
    pub(super) fn begun(&self) {
        say("start\n");
    }

    /// Says why a run has ended.
    pub(super) fn stopped(&self, why: Stop) {
        let mut line = String::<LINE>::new();
        // The longest reason fits.
        let _ = writeln!(line, "stopped {}", why.word());
        say(&line);
    }

    fn look(&mut self) -> Option<PanelEvent> {
        #[cfg(feature = "faults")]
        match FAULT.load(Ordering::Acquire) {
            b'X' => panic!("the panel asked for it"),
            b'W' => hang(),
            _ => {}
        }
        let on = INPUT.load(Ordering::Acquire);
        if let Some(active) = self.emergency.look(&EMERGENCY, on, Instant::now(), release) {
            return Some(PanelEvent::Emergency { active });
        }
        // Of two that came at once, that somebody passed is what happened.
        if PASSED.swap(false, Ordering::AcqRel) {
            return Some(PanelEvent::Passed);
        }
        NOT_PASSED.swap(false, Ordering::AcqRel).then_some(PanelEvent::NotPassed)
    }
}

impl Panel for BoardPanel {
    fn show(&mut self, sign: Sign) {
        let mut line = String::<LINE>::new();
        // The longest line fits.
        let _ = match sign {
            Sign::Ready => writeln!(line, "ready"),
            Sign::Open { sequence, again: false } => writeln!(line, "open {sequence}"),
            Sign::Open { sequence, again: true } => writeln!(line, "again {sequence}"),
            Sign::Refused { reason, sequence: Some(sequence) } => {
                writeln!(line, "refuse {} {sequence}", reason.word())
            }
            Sign::Refused { reason, sequence: None } => writeln!(line, "refuse {}", reason.word()),
            Sign::Emergency => writeln!(line, "emergency"),
            Sign::OutOfService => writeln!(line, "out_of_service"),
        };
        say(&line);
    }

    fn barrier(&mut self, open: bool) {
        let open = critical_section::with(|_| {
            WANTED.store(open, Ordering::Release);
            move_barrier()
        });
        say(if open { "barrier open\n" } else { "barrier closed\n" });
    }

    fn emergency(&self) -> bool {
        EMERGENCY.is_on()
    }

    async fn event(&mut self) -> PanelEvent {
        loop {
            if let Some(event) = self.look() {
                return event;
            }
            // An input that went quiet gives no interrupt when it has been quiet long enough.
            let _ = with_timeout(EmergencyWatch::QUIET, CAME.wait()).await;
        }
    }
}
