//! Why the run before ended, and how many starts in a row came to nothing: kept in memory that a reset leaves alone.
//! The reason is told to the host by the next run.

use crate::starts::Starts;
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
    starts: Starts,
    len: u32,
    text: [u8; REASON],
}

#[unsafe(link_section = ".uninit.CRASH")]
static mut CRASH: MaybeUninit<Record> = MaybeUninit::uninit();

/// Keeps the reason and starts the gate again.
pub fn reset(why: &str) -> ! {
    cortex_m::interrupt::disable();
    let bytes = &why.as_bytes()[..why.len().min(REASON)];
    let mut record = kept();
    record.len = bytes.len() as u32;
    record.text[..bytes.len()].copy_from_slice(bytes);
    keep(record);
    cortex_m::peripheral::SCB::sys_reset()
}

/// What is kept of the runs so far.
pub(crate) fn starts() -> Starts {
    kept().starts
}

/// Keeps this of the runs so far.
pub(crate) fn keep_starts(starts: Starts) {
    let mut record = kept();
    record.starts = starts;
    cortex_m::interrupt::free(|_| keep(record));
}

/// Called with interrupts off.
fn keep(record: Record) {
    // SAFETY: interrupts are off, and one that cannot be switched off writes it and never returns.
    unsafe { (&raw mut CRASH).write_volatile(MaybeUninit::new(record)) };
    compiler_fence(Ordering::SeqCst);
}

/// The record, empty where there is none.
fn kept() -> Record {
    record().unwrap_or(Record { mark: MARK, starts: Starts::NONE, len: 0, text: [0; REASON] })
}

fn record() -> Option<Record> {
    // SAFETY: any bytes are a record; an interrupt that writes it never returns.
    let record = unsafe { (&raw const CRASH).read_volatile().assume_init() };
    (record.mark == MARK).then_some(record)
}

/// The reason of the run before, once.
pub(crate) fn take() -> Option<String<REASON>> {
    let record = record().filter(|record| record.len > 0)?;
    let mut told = record;
    told.len = 0;
    cortex_m::interrupt::free(|_| keep(told));
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
