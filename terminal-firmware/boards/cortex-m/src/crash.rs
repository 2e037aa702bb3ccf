//! Why the run before ended: kept in memory that a reset leaves alone, and told to the host by the next run.

use core::fmt::Write;
use core::mem::MaybeUninit;
use core::panic::PanicInfo;
use core::sync::atomic::{Ordering, compiler_fence};
use heapless::String;

/// Bytes of a reason.
const REASON: usize = 96;
/// Says that there is one: random memory after power came is not taken for a reason.
const MARK: u32 = 0x5761_7665;

#[derive(Clone, Copy)]
struct Record {
    mark: u32,
    /// How many runs in a row have stopped before they were a gate.
    stops: u32,
    len: u32,
    text: [u8; REASON],
}

#[unsafe(link_section = ".uninit.CRASH")]
static mut CRASH: MaybeUninit<Record> = MaybeUninit::uninit();

/// Keeps the reason and starts the gate again.
pub fn reset(why: &str) -> ! {
    cortex_m::interrupt::disable();
    keep(why, 0)
}

/// [`reset`] of a run that has stopped: the ones in a row are counted.
pub(crate) fn reset_stopped(why: &str) -> ! {
    cortex_m::interrupt::disable();
    keep(why, stops().saturating_add(1))
}

/// How many runs before this one have stopped, one after the other.
pub(crate) fn stops() -> u32 {
    record().map_or(0, |record| record.stops)
}

/// Called with interrupts off.
fn keep(why: &str, stops: u32) -> ! {
    let bytes = &why.as_bytes()[..why.len().min(REASON)];
    let mut record = Record { mark: MARK, stops, len: bytes.len() as u32, text: [0; REASON] };
    record.text[..bytes.len()].copy_from_slice(bytes);
    // SAFETY: interrupts are off and this never returns, so nothing else uses the record.
    unsafe { (&raw mut CRASH).write_volatile(MaybeUninit::new(record)) };
    compiler_fence(Ordering::SeqCst);
    cortex_m::peripheral::SCB::sys_reset()
}

fn record() -> Option<Record> {
    // SAFETY: any bytes are a record; only the main task calls this, and an interrupt that writes it never returns.
    let record = unsafe { (&raw const CRASH).read_volatile().assume_init() };
    (record.mark == MARK).then_some(record)
}

/// The reason of the run before, once.
pub(crate) fn take() -> Option<String<REASON>> {
    let record = record()?;
    // SAFETY: as in `record`.
    unsafe { (&raw mut CRASH).write_volatile(MaybeUninit::zeroed()) };
    let bytes = record.text.get(..record.len as usize)?;
    let text = match core::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => core::str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or_default(),
    };
    text.try_into().ok()
}

#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    // The place first, for the text is cut where it does not fit; the message holds no key, for keys have no Debug.
    let mut reason = Cut(String::new());
    if let Some(place) = info.location() {
        let file = place.file().rsplit('/').next().unwrap_or_default();
        let _ = write!(reason, "panic at {file}:{}: ", place.line());
    }
    let _ = write!(reason, "{}", info.message());
    reset(&reason.0)
}

/// Takes what fits.
pub(crate) struct Cut(pub(crate) String<REASON>);

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        text.chars().try_for_each(|c| self.0.push(c)).map_err(|_| core::fmt::Error)
    }
}

#[cortex_m_rt::exception]
unsafe fn HardFault(frame: &cortex_m_rt::ExceptionFrame) -> ! {
    let mut reason = Cut(String::new());
    let _ = write!(reason, "hard fault at {:#010x}", frame.pc());
    reset(&reason.0)
}

#[cortex_m_rt::exception]
unsafe fn DefaultHandler(number: i16) {
    let mut reason = Cut(String::new());
    let _ = write!(reason, "exception {number}");
    reset(&reason.0)
}
