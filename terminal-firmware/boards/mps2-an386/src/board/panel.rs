//! The panel: barrier, lamps, passage sensors and emergency input, on a serial line in the place of GPIO.
//!
//! Out, a line of text for each change: `ready`, `open N`, `again N`, `refuse REASON [N]`, `emergency`,
//! `out_of_service`, `barrier open`, `barrier closed`; N is the tap's sequence number. In, a byte for each input:
//! `P` somebody passed, `N` nobody did, `E` the emergency input goes on, `e` off. Other bytes are ignored.
//!
//! With the feature `faults`, for tests: `X` panics, `W` hangs with interrupts off.
//!
//! The emergency input opens the barrier in the interrupt itself, whatever the rest of the firmware is doing.

use super::uart::PANEL;
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering};
use heapless::String;
use wavepass_terminal::{Panel, PanelEvent, Sign};

/// The longest line: `refuse authentication_failed 4294967295`.
const LINE: usize = 48;
const LAMPS: *mut u32 = 0x4002_8000 as *mut u32;

static EMERGENCY: AtomicBool = AtomicBool::new(false);

/// Looks at each byte of the panel's line, in the interrupt.
pub(super) fn input(byte: u8) {
    match byte {
        b'E' => {
            EMERGENCY.store(true, Ordering::Release);
            lamps(0b11);
        }
        b'e' => EMERGENCY.store(false, Ordering::Release),
        #[cfg(feature = "faults")]
        b'W' => loop {
            // The watchdog ends it.
            cortex_m::asm::nop();
        },
        _ => {}
    }
}

fn lamps(bits: u32) {
    // SAFETY: the board's LED register.
    unsafe { LAMPS.write_volatile(bits) };
}

fn say(text: &str) {
    // What the panel does not take is not shown; the gate goes on.
    PANEL.queue(text.as_bytes());
}

/// The panel.
#[derive(Clone, Copy)]
pub(super) struct BoardPanel;

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
        // The input may come between a look at it and the barrier, but not in a critical section.
        let open = critical_section::with(|_| {
            let open = open || EMERGENCY.load(Ordering::Acquire);
            lamps(if open { 0b11 } else { 0b00 });
            open
        });
        say(if open { "barrier open\n" } else { "barrier closed\n" });
    }

    fn emergency(&self) -> bool {
        EMERGENCY.load(Ordering::Acquire)
    }

    async fn event(&mut self) -> PanelEvent {
        loop {
            let mut byte = [0];
            PANEL.receive(&mut byte).await;
            match byte[0] {
                b'P' => return PanelEvent::Passed,
                b'N' => return PanelEvent::NotPassed,
                b'E' => return PanelEvent::Emergency { active: true },
                b'e' => return PanelEvent::Emergency { active: false },
                #[cfg(feature = "faults")]
                b'X' => panic!("the panel asked for it"),
                _ => {}
            }
        }
    }
}
