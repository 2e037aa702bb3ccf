//! Start-up, in order: the panel with its emergency input, the watchdog, the pause after a run that soon ended,
//! entropy, flash, the gate (`wavepass_terminal::start`); then the loop.

mod executor;
mod flash;
mod panel;
mod reader;
mod semi;
mod time;
mod uart;
mod watchdog;

use core::convert::Infallible;
use core::ops::Range;
use core::pin::pin;
use defmt_semihosting as _;
use embassy_embedded_hal::flash::partition::Partition;
use embassy_sync::blocking_mutex::raw::ThreadModeRawMutex;
use embassy_sync::mutex::Mutex;
use embassy_time::Instant;
use flash::HostFlash;
use panel::BoardPanel;
use static_cell::StaticCell;
use wavepass_cortex_m::{crash, stack};
use wavepass_gate::{Gate, Memory, apart};
use wavepass_p256_verify::FastVerifier;
use wavepass_terminal::layout::Layout;
use wavepass_terminal::{SelfTestError, Stop, Terminal, while_starting};

type SharedFlash = Mutex<ThreadModeRawMutex, HostFlash>;
type Area = Partition<'static, ThreadModeRawMutex, HostFlash>;
/// Remembers as many issuers' keys as the kernel does.
type BoardMemory = Memory<FastVerifier<4>>;
type BoardGate = Gate<Area, &'static mut BoardMemory>;

static FLASH: StaticCell<SharedFlash> = StaticCell::new();
/// Written at start: its first values, few of which are not zero, would take as much flash.
static MEMORY: StaticCell<BoardMemory> = StaticCell::new();
static GATE: StaticCell<Option<BoardGate>> = StaticCell::new();

#[cortex_m_rt::entry]
fn main() -> ! {
    let memory = memory();
    stack::paint();
    time::start();
    uart::start();
    executor::run(|spawner| match run(memory) {
        Ok(token) => spawner.spawn(token),
        Err(_) => crash::reset("the task was spawned twice"),
    })
}

#[embassy_executor::task]
async fn run(memory: &'static mut BoardMemory) {
    watchdog::start();
    let mut panel = BoardPanel::default();
    panel.begun();
    wavepass_cortex_m::begin(&mut panel, watchdog::feed).await;
    let Err(why) = start(memory).await;
    panel.stopped(why);
    wavepass_cortex_m::stop(why, &mut panel, watchdog::feed).await
}

async fn start(memory: &'static mut BoardMemory) -> Result<Infallible, Stop> {
    test()?;
    let mut files = semi::Files::named().ok_or(Stop::NoFlash)?;
    let entropy = files.entropy().ok_or(Stop::NoEntropy)?;
    let flash = HostFlash::open(files.flash()).ok_or(Stop::NoFlash)?;
    #[cfg(feature = "faults")]
    let flash = if files.are_slow() { flash.slow() } else { flash };
    let layout = Layout::of(flash.len()).ok_or(Stop::NoFlash)?;
    let flash: &'static SharedFlash = FLASH.init(Mutex::new(flash));
    let area = |range: &Range<u32>| Area::new(flash, range.start, range.end - range.start);
    #[cfg(feature = "faults")]
    if files.hangs() {
        panel::hang();
    }
    let start = wavepass_terminal::start(&layout, area, &entropy, memory, &mut files, GATE.init(None));
    let (gate, drbg) = while_starting(apart(pin!(start)), watchdog::feed).await?;
    let parts = (reader::reader(), uart::HostLine, BoardPanel::default());
    let mut terminal = Terminal::new(gate, parts, drbg, wavepass_cortex_m::health());
    let began = Instant::now();
    let fault = terminal
        .run(|health| {
            watchdog::feed();
            wavepass_cortex_m::turned(began);
            health.stack_used = stack::used();
        })
        .await;
    Err(fault.into())
}

/// Writes what is large, by way of the stack: before anything else needs that.
#[inline(never)]
fn memory() -> &'static mut BoardMemory {
    const { assert!(size_of::<BoardMemory>() + 2048 <= stack::BYTES) };
    MEMORY.init_with(|| Memory::new(FastVerifier::new()))
}

#[inline(never)]
fn test() -> Result<(), Stop> {
    if wavepass_p256_verify::self_test() { Ok(()) } else { Err(Stop::SelfTest(SelfTestError::P256)) }
}
