//! Start-up, in order: self-test, entropy, flash, random numbers, the gate, the crash record; then the loop.

mod crash;
mod executor;
mod flash;
mod panel;
mod reader;
mod semi;
mod stack;
mod time;
mod uart;
mod watchdog;

use core::convert::Infallible;
use core::ops::Range;
use core::pin::pin;
use defmt_semihosting as _;
use embassy_embedded_hal::flash::partition::Partition;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::mutex::Mutex;
use flash::HostFlash;
use panel::BoardPanel;
use static_cell::{ConstStaticCell, StaticCell};
use wavepass_gate::{Areas, Gate, GateError, Health, Memory, apart};
use wavepass_journal::Limits;
use wavepass_p256_verify::FastVerifier;
use wavepass_protocol::provisioning::MAX_FILE;
use wavepass_terminal::layout::Layout;
use wavepass_terminal::{Drbg, Panel, SelfTestError, Sign, Terminal, self_test};

type SharedFlash = Mutex<NoopRawMutex, HostFlash>;
type Area = Partition<'static, NoopRawMutex, HostFlash>;
/// Remembers as many issuers' keys as the kernel does.
type BoardMemory = Memory<FastVerifier<4>>;
type BoardGate = Gate<Area, &'static mut BoardMemory>;

static FLASH: StaticCell<SharedFlash> = StaticCell::new();
static MEMORY: ConstStaticCell<BoardMemory> = ConstStaticCell::new(Memory::new(FastVerifier::new()));
static GATE: ConstStaticCell<Option<BoardGate>> = ConstStaticCell::new(None);

/// Why the gate is out of service.
#[derive(defmt::Format)]
enum Stop {
    SelfTest(SelfTestError),
    NoEntropy,
    NoFlash,
    NotCommissioned,
    Gate,
}

#[cortex_m_rt::entry]
fn main() -> ! {
    time::start();
    uart::start();
    executor::run(|spawner| match run() {
        Ok(token) => spawner.spawn(token),
        Err(_) => crash::reset("the task was spawned twice"),
    })
}

#[embassy_executor::task]
async fn run() {
    let Err(why) = start().await;
    defmt::error!("out of service: {}", why);
    BoardPanel.barrier(false);
    BoardPanel.show(Sign::OutOfService);
    // Where the watchdog runs, it is not fed any more: the gate starts again, and a trouble that passes, passes.
}

async fn start() -> Result<Infallible, Stop> {
    let memory = MEMORY.take();
    test(memory)?;
    let (gate, drbg) = apart(pin!(power_up(memory))).await?;
    let mut health = Health { stack_bytes: stack::size(), ..Health::default() };
    if let Some(panic) = crash::take() {
        defmt::warn!("the run before ended: {=str}", panic.as_str());
        health.panic = panic;
    }
    watchdog::start();
    let parts = (reader::reader(), uart::HostLine, BoardPanel);
    let mut terminal = Terminal::new(gate, parts, drbg, health);
    let _fault = terminal
        .run(|health| {
            watchdog::feed();
            health.stack_used = stack::used();
        })
        .await;
    Err(Stop::Gate)
}

#[inline(never)]
fn test(memory: &mut BoardMemory) -> Result<(), Stop> {
    self_test(memory.verifier()).map_err(Stop::SelfTest)?;
    if wavepass_p256_verify::self_test() { Ok(()) } else { Err(Stop::SelfTest(SelfTestError::P256)) }
}

/// Entropy, flash, random numbers, the gate; commissions one that never was.
async fn power_up(memory: &'static mut BoardMemory) -> Result<(&'static mut BoardGate, Drbg), Stop> {
    let entropy = semi::entropy().ok_or(Stop::NoEntropy)?;
    let files = semi::Files::named().ok_or(Stop::NoFlash)?;
    let flash = HostFlash::open(files.flash()).ok_or(Stop::NoFlash)?;
    let layout = Layout::of(flash.len()).ok_or(Stop::NoFlash)?;
    let flash: &'static SharedFlash = FLASH.init(Mutex::new(flash));
    let drbg =
        apart(pin!(Drbg::start(area(flash, &layout.drbg), &entropy))).await.map_err(|_| Stop::NoFlash)?;
    if !apart(pin!(areas(flash, &layout).is_commissioned())).await.map_err(|_| Stop::Gate)? {
        apart(pin!(commission(&files, areas(flash, &layout)))).await?;
        defmt::info!("commissioned");
    }
    let start = Gate::start_in(GATE.take(), areas(flash, &layout), Limits::default(), memory);
    let gate = apart(pin!(start)).await.map_err(|why| match why {
        GateError::NotCommissioned => Stop::NotCommissioned,
        _ => Stop::Gate,
    })?;
    let identity = gate.identity();
    defmt::info!(
        "gate {=u32} at {=str}; the next entry is {=u32}",
        identity.gate_id,
        identity.station.as_str(),
        gate.next_sequence()
    );
    Ok((gate, drbg))
}

async fn commission(files: &semi::Files, areas: Areas<Area>) -> Result<(), Stop> {
    let mut file = [0; MAX_FILE];
    let file = files.provisioning(&mut file).ok_or(Stop::NotCommissioned)?;
    areas.commission(file).await.map_err(|_| Stop::NotCommissioned)
}

fn area(flash: &'static SharedFlash, range: &Range<u32>) -> Area {
    Partition::new(flash, range.start, range.end - range.start)
}

fn areas(flash: &'static SharedFlash, layout: &Layout) -> Areas<Area> {
    Areas {
        journal: area(flash, &layout.journal),
        keys: area(flash, &layout.keys),
        identity: area(flash, &layout.identity),
        lists: [0, 1, 2, 3].map(|i| area(flash, &layout.lists[i])),
    }
}
