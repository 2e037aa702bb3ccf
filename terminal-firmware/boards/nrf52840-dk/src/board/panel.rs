//! The panel: the board's LEDs are barrier and lamps, its buttons the passage sensors and the emergency input.
//!
//! | part | pin | what |
//! | --- | --- | --- |
//! | LED1 | P0.13 | the barrier is open |
//! | LED2 | P0.14 | lamp: open, or the way is free |
//! | LED3 | P0.15 | lamp: refused |
//! | LED4 | P0.16 | lamp: out of service |
//! | button 1 | P0.11 | somebody passed |
//! | button 2 | P0.12 | nobody did |
//! | button 3 | P0.24 | the emergency input, on while it is pressed |
//!
//! All are on when low. The emergency input opens the barrier in the interrupt itself, whatever the rest of the firmware
//! is doing; the main task takes it back when the input has been quiet for a while. While a page of the processor's
//! flash is erased the processor stands still, up to 85 ms, interrupts too; a pulse that began and ended meanwhile was
//! latched as an event, and counts.

use core::sync::atomic::{AtomicBool, Ordering};
use embassy_nrf::Peri;
use embassy_nrf::gpio::{Input, Level, Output, OutputDrive, Pull};
use embassy_nrf::interrupt::{self, InterruptExt, Priority};
use embassy_nrf::pac::gpiote::vals::{Mode, Polarity};
use embassy_nrf::pac::{GPIOTE, P0};
use embassy_nrf::peripherals::{P0_11, P0_12, P0_13, P0_14, P0_15, P0_16, P0_24};
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::signal::Signal;
use embassy_time::{Instant, with_timeout};
use wavepass_terminal::{EmergencyLatch, EmergencyWatch, Panel, PanelEvent, Sign};

const BARRIER: u32 = 1 << 13;
const OPEN: u32 = 1 << 14;
const REFUSED: u32 = 1 << 15;
const OUT_OF_SERVICE: u32 = 1 << 16;
const PASSED_PIN: u8 = 11;
const NOT_PASSED_PIN: u8 = 12;
const EMERGENCY_PIN: u8 = 24;
/// Event channels of the inputs.
const PASSED_CHANNEL: usize = 0;
const NOT_PASSED_CHANNEL: usize = 1;
const EMERGENCY_CHANNEL: usize = 2;

/// What the interrupt and the main task share.
static EMERGENCY: EmergencyLatch = EmergencyLatch::new();
static WANTED: AtomicBool = AtomicBool::new(false);
static PASSED: AtomicBool = AtomicBool::new(false);
static NOT_PASSED: AtomicBool = AtomicBool::new(false);
static CAME: Signal<CriticalSectionRawMutex, ()> = Signal::new();

/// Barrier and lamps.
pub(super) struct Lamps {
    pub(super) barrier: Peri<'static, P0_13>,
    pub(super) open: Peri<'static, P0_14>,
    pub(super) refused: Peri<'static, P0_15>,
    pub(super) out_of_service: Peri<'static, P0_16>,
}

/// Sensors and the emergency input.
pub(super) struct Inputs {
    pub(super) passed: Peri<'static, P0_11>,
    pub(super) not_passed: Peri<'static, P0_12>,
    pub(super) emergency: Peri<'static, P0_24>,
}

/// Switches the panel on; from here on the emergency input opens the barrier.
pub(super) fn start(lamps: Lamps, inputs: Inputs) {
    Output::new(lamps.barrier, Level::High, OutputDrive::Standard).persist();
    Output::new(lamps.open, Level::High, OutputDrive::Standard).persist();
    Output::new(lamps.refused, Level::High, OutputDrive::Standard).persist();
    Output::new(lamps.out_of_service, Level::High, OutputDrive::Standard).persist();
    Input::new(inputs.passed, Pull::Up).persist();
    Input::new(inputs.not_passed, Pull::Up).persist();
    Input::new(inputs.emergency, Pull::Up).persist();
    for (channel, pin, polarity) in [
        (PASSED_CHANNEL, PASSED_PIN, Polarity::HiToLo),
        (NOT_PASSED_CHANNEL, NOT_PASSED_PIN, Polarity::HiToLo),
        (EMERGENCY_CHANNEL, EMERGENCY_PIN, Polarity::Toggle),
    ] {
        GPIOTE.config(channel).write(|w| {
            w.set_mode(Mode::Event);
            w.set_psel(pin);
            w.set_polarity(polarity);
        });
        GPIOTE.events_in(channel).write_value(0);
        GPIOTE.intenset(0).write(|w| w.0 = 1 << channel);
    }
    interrupt::GPIOTE.set_priority(Priority::P0);
    // An input that is on already gives no edge: the first interrupt looks at the level.
    interrupt::GPIOTE.pend();
    // SAFETY: its handler is below, and what it uses is set up.
    unsafe { interrupt::GPIOTE.enable() };
}

fn emergency_input() -> bool {
    P0.in_().read().0 & (1 << EMERGENCY_PIN) == 0
}

/// Takes the event that an input's channel has latched, if there is one.
fn happened(channel: usize) -> bool {
    let event = GPIOTE.events_in(channel);
    let happened = event.read() != 0;
    if happened {
        event.write_value(0);
    }
    happened
}

fn light(mask: u32, on: bool) {
    if on {
        P0.outclr().write(|w| w.0 = mask);
    } else {
        P0.outset().write(|w| w.0 = mask);
    }
}

/// Moves the barrier to where it belongs. Called where the interrupt cannot come between.
fn move_barrier() {
    light(BARRIER, WANTED.load(Ordering::Acquire) || EMERGENCY.is_on());
}

#[embassy_nrf::interrupt]
fn GPIOTE() {
    // The event first: an edge after it raises the interrupt again.
    let edge = happened(EMERGENCY_CHANNEL);
    if EMERGENCY.strike(edge, emergency_input()) {
        move_barrier();
    }
    if happened(PASSED_CHANNEL) {
        PASSED.store(true, Ordering::Release);
    }
    if happened(NOT_PASSED_CHANNEL) {
        NOT_PASSED.store(true, Ordering::Release);
    }
    CAME.signal(());
}

/// Lets the emergency input's opening go if the input is off, and has had no edge that the interrupt has not seen.
fn release() -> bool {
    critical_section::with(|_| {
        let over = !emergency_input() && GPIOTE.events_in(EMERGENCY_CHANNEL).read() == 0;
        if over {
            EMERGENCY.clear();
            move_barrier();
        }
        over
    })
}

/// The panel.
#[derive(Default)]
pub(super) struct BoardPanel {
    emergency: EmergencyWatch,
}

impl BoardPanel {
    fn look(&mut self) -> Option<PanelEvent> {
        if let Some(active) = self.emergency.look(&EMERGENCY, emergency_input(), Instant::now(), release) {
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
        let (lamp, word) = match sign {
            Sign::Ready => (0, "ready"),
            Sign::Open { again: false, .. } => (OPEN, "open"),
            Sign::Open { again: true, .. } => (OPEN, "open again"),
            Sign::Refused { reason, .. } => (REFUSED, reason.word()),
            Sign::Emergency => (OPEN, "emergency"),
            Sign::OutOfService => (OUT_OF_SERVICE, "out of service"),
        };
        defmt::info!("panel: {=str}", word);
        light(OPEN | REFUSED | OUT_OF_SERVICE, false);
        light(lamp, true);
    }

    fn barrier(&mut self, open: bool) {
        critical_section::with(|_| {
            WANTED.store(open, Ordering::Release);
            move_barrier();
        });
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
