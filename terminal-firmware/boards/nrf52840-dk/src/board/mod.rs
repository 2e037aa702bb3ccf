//! Start-up, in order: the panel with its emergency input, the watchdog, the pause after a run that soon ended, serial
//! lines, entropy, flash, the gate
//! (`wavepass_terminal::start`); then the loop.

mod flash;
mod line;
mod panel;
mod watchdog;

use core::convert::Infallible;
use core::ops::Range;
use core::pin::pin;
use defmt_rtt as _;
use embassy_embedded_hal::flash::partition::Partition;
use embassy_executor::{Executor, Spawner};
use embassy_nrf::config::{Config, HfclkSource, LfclkSource};
use embassy_nrf::interrupt::Priority;
use embassy_nrf::rng::Rng;
use embassy_nrf::{Peripherals, bind_interrupts, buffered_uarte, pac, peripherals, qspi};
use embassy_sync::blocking_mutex::raw::ThreadModeRawMutex;
use embassy_sync::mutex::Mutex;
use embassy_time::Instant;
use flash::BoardFlash;
use panel::BoardPanel;
use static_cell::StaticCell;
use wavepass_cortex_m::{crash, stack};
use wavepass_gate::{Gate, Health, Memory, apart};
use wavepass_p256_verify::FastVerifier;
use wavepass_terminal::layout::Layout;
use wavepass_terminal::pn532::Settings;
use wavepass_terminal::pn532::transport::Hsu;
use wavepass_terminal::{Pn532Reader, SelfTestError, Service, Stop, Terminal, while_starting};

type SharedFlash = Mutex<ThreadModeRawMutex, BoardFlash>;
type Area = Partition<'static, ThreadModeRawMutex, BoardFlash>;
/// Remembers as many issuers' keys as the kernel does.
type BoardMemory = Memory<FastVerifier<4>>;
type BoardGate = Gate<Area, &'static mut BoardMemory>;

static FLASH: StaticCell<SharedFlash> = StaticCell::new();
/// Written at start: its first values, few of which are not zero, would take as much flash.
static MEMORY: StaticCell<BoardMemory> = StaticCell::new();
static GATE: StaticCell<Option<BoardGate>> = StaticCell::new();
static EXECUTOR: StaticCell<Executor> = StaticCell::new();

bind_interrupts!(struct Irqs {
    UARTE0 => buffered_uarte::InterruptHandler<peripherals::UARTE0>;
    UARTE1 => buffered_uarte::InterruptHandler<peripherals::UARTE1>;
    QSPI => qspi::InterruptHandler<peripherals::QSPI>;
});

/// Below the emergency input and the watchdog, which have the highest.
const PRIORITY: Priority = Priority::P2;

#[cortex_m_rt::entry]
fn main() -> ! {
    let memory = memory();
    stack::paint();
    let mut config = Config::default();
    // The board has both crystals: serial lines and the clock of a tap rest on them.
    config.hfclk_source = HfclkSource::ExternalXtal;
    config.lfclk_source = LfclkSource::ExternalXtal;
    config.time_interrupt_priority = PRIORITY;
    let peripherals = embassy_nrf::init(config);
    EXECUTOR.init(Executor::new()).run(|spawner| match run(memory, peripherals, spawner) {
        Ok(token) => spawner.spawn(token),
        Err(_) => crash::reset("the task was spawned twice"),
    })
}

#[embassy_executor::task]
async fn run(memory: &'static mut BoardMemory, p: Peripherals, spawner: Spawner) {
    let Err(why) = start(memory, p, spawner).await;
    wavepass_cortex_m::stop(why, &mut BoardPanel::default(), watchdog::feed).await
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

async fn start(
    memory: &'static mut BoardMemory,
    p: Peripherals,
    spawner: Spawner,
) -> Result<Infallible, Stop> {
    let lamps = panel::Lamps { barrier: p.P0_13, open: p.P0_14, refused: p.P0_15, out_of_service: p.P0_16 };
    let inputs = panel::Inputs { passed: p.P0_11, not_passed: p.P0_12, emergency: p.P0_24 };
    // First, for the emergency input works whatever else does not.
    panel::start(lamps, inputs);
    watchdog::start(p.WDT);
    wavepass_cortex_m::begin(&mut BoardPanel::default(), watchdog::feed).await;
    test()?;

    let reader = line::reader(line::Parts {
        uarte: p.UARTE1,
        timer: p.TIMER2,
        channels: [p.PPI_CH2.into(), p.PPI_CH3.into()],
        group: p.PPI_GROUP1.into(),
        rxd: p.P1_01.into(),
        txd: p.P1_02.into(),
    });
    let host = line::Parts {
        uarte: p.UARTE0,
        timer: p.TIMER1,
        channels: [p.PPI_CH0.into(), p.PPI_CH1.into()],
        group: p.PPI_GROUP0.into(),
        rxd: p.P0_08.into(),
        txd: p.P0_06.into(),
    };
    let mut host = line::host(host, line::Flow { cts: p.P0_07.into(), rts: p.P0_05.into() }, spawner);

    let mut entropy = [0; 32];
    let mut rng = Rng::new_blocking(p.RNG);
    rng.set_bias_correction(true);
    rng.blocking_fill_bytes(&mut entropy);

    let chip = flash::ChipParts {
        qspi: p.QSPI,
        sck: p.P0_19,
        csn: p.P0_17,
        io: (p.P0_20, p.P0_21, p.P0_22, p.P0_23),
    };
    let flash = BoardFlash::open(p.NVMC, chip).await.ok_or(Stop::NoFlash)?;
    let layout = Layout::of(flash::CAPACITY).ok_or(Stop::NoFlash)?;
    let flash: &'static SharedFlash = FLASH.init(Mutex::new(flash));
    let area = |range: &Range<u32>| Area::new(flash, range.start, range.end - range.start);
    let mut service = Service::new(&mut host, watchdog::feed);
    let start = wavepass_terminal::start(&layout, area, &entropy, memory, &mut service, GATE.init(None));
    let (gate, drbg) = while_starting(apart(pin!(start)), watchdog::feed).await?;

    let reader = Pn532Reader::new(Hsu::new(reader), Settings::default());
    let parts = (reader, host, BoardPanel::default());
    let mut terminal = Terminal::new(gate, parts, drbg, health());
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

/// What the board knows of itself and of the run before. A stack that ran over its end leaves no record: the processor
/// locks up, and the chip resets by itself and says so.
fn health() -> Health {
    let mut health = wavepass_cortex_m::health();
    let reasons = pac::POWER.resetreas().read();
    // Its bits stay until they are written.
    pac::POWER.resetreas().write_value(reasons);
    if health.panic.is_empty() && reasons.lockup() {
        // It fits.
        let _ = health.panic.push_str("processor lock-up: the stack ran over its end");
    }
    health
}
