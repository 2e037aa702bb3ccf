//! Reads a flash image and a script of taps from the host, plays them, and prints instruction counts.
//!
//! Arguments: `flash=PATH`, an image of a commissioned gate with its lists; `script=PATH`. The script is a sequence of
//! steps, numbers big-endian: kind 1 | name length 1, name | then by kind. 1, a tap: time 8, unpredictable number 4,
//! count of answers 1, each length 2 and its bytes. 2, idle work: nothing more. 3, a verification by the crate `p256`
//! and one by the gate's verifier: key 32, signature 64, message length 2 and its bytes. 4, a question to the deny list:
//! token 10, expiry 2 (year, month; binary). Output, a line for each
//! figure: name, what, count.

mod count;
mod memory;

use count::{Counting, count};
use embassy_embedded_hal::flash::partition::Partition;
use embassy_futures::block_on;
use embassy_sync::blocking_mutex::raw::ThreadModeRawMutex;
use embassy_sync::mutex::Mutex;
use memory::MemoryFlash;
use semihosting::experimental::env::args;
use semihosting::fs::File;
use semihosting::io::Read;
use semihosting::{eprintln, println};
use static_cell::{ConstStaticCell, StaticCell};
use wavepass_gate::{Areas, Contact, Gate, Idle, Memory, Now};
use wavepass_journal::Limits;
use wavepass_kernel::{Asked, Lost};
use wavepass_p256_verify::FastVerifier;
use wavepass_protocol::ecc::{P256Verifier, PublicKey, Verifier};
use wavepass_protocol::tap::ClockQuality;
use wavepass_protocol::time::UnixMs;
use wavepass_protocol::token::{Expiry, Token};
use wavepass_terminal::layout::Layout;

/// Remembered issuers, as the firmware has them.
const ISSUERS: usize = 4;

type SharedFlash = Mutex<ThreadModeRawMutex, MemoryFlash>;
type Area = Partition<'static, ThreadModeRawMutex, MemoryFlash>;
type BenchMemory = Memory<Counting<FastVerifier<ISSUERS>>>;
type BenchGate = Gate<Area, &'static mut BenchMemory>;

static FLASH: StaticCell<SharedFlash> = StaticCell::new();
static MEMORY: ConstStaticCell<BenchMemory> =
    ConstStaticCell::new(Memory::new(Counting(FastVerifier::new())));
static GATE: ConstStaticCell<Option<BenchGate>> = ConstStaticCell::new(None);

#[cortex_m_rt::entry]
fn main() -> ! {
    let before = wavepass_cortex_m::health();
    if !before.panic.is_empty() {
        eprintln!("{}", before.panic);
        semihosting::process::exit(101);
    }
    count::start();
    match run() {
        Some(()) => semihosting::process::exit(0),
        None => {
            eprintln!("the image, the script or a tap is not what it should be");
            semihosting::process::exit(1)
        }
    }
}

fn run() -> Option<()> {
    let script = memory::load("script", memory::SCRIPT)?;
    let image = memory::load("flash", memory::FLASH)?;
    let layout = Layout::of(u32::try_from(image.len()).ok()?)?;
    let flash: &'static SharedFlash = FLASH.init(Mutex::new(MemoryFlash::new(image)));
    let area = |range: &core::ops::Range<u32>| Partition::new(flash, range.start, range.end - range.start);
    let areas = Areas {
        journal: area(&layout.journal),
        keys: area(&layout.keys),
        identity: area(&layout.identity),
        floor: area(&layout.floor),
        lists: [0, 1, 2, 3].map(|i| area(&layout.lists[i])),
    };
    let (memory, place) = (MEMORY.take(), GATE.take());
    let (started, start) = count(|| block_on(Gate::start_in(place, areas, Limits::default(), memory)));
    println!("start whole {start}");
    let gate = started.ok()?;
    let mut script = Cursor(script);
    while let [kind, ..] = *script.0 {
        script.take(1)?;
        let name_len = script.take(1)?[0];
        let name = core::str::from_utf8(script.take(usize::from(name_len))?).ok()?;
        match kind {
            1 => tap(gate, name, &mut script)?,
            2 => {
                let (done, whole) = count(|| {
                    loop {
                        match block_on(gate.idle()) {
                            Ok(Idle::Done) => break Some(()),
                            Ok(Idle::More) => {}
                            Err(_) => break None,
                        }
                    }
                });
                done?;
                println!("{name} whole {whole}");
            }
            3 => {
                // What follows is no gate's work: the crate `p256` stands beside it.
                println!("stack used {}", wavepass_cortex_m::stack::used());
                verification(name, &mut script)?;
            }
            4 => look_up(gate, name, &mut script)?,
            _ => return None,
        }
    }
    Some(())
}

fn look_up(gate: &mut BenchGate, name: &str, script: &mut Cursor<'static>) -> Option<()> {
    let token = Token::from_bcd(script.take(10)?).ok()?;
    let [year, month] = script.array()?;
    let asked = Asked { token, expiry: Some(Expiry::new(year, month).ok()?) };
    let (answer, whole) = count(|| block_on(gate.denies(&asked)));
    println!("{name} denied {}", u8::from(answer.ok()??));
    println!("{name} whole {whole}");
    Some(())
}

fn tap(gate: &mut BenchGate, name: &str, script: &mut Cursor<'static>) -> Option<()> {
    let time = u64::from_be_bytes(script.array()?);
    let unpredictable = script.array()?;
    let answers = script.take(1)?[0];
    let mut card = Recorded { script: &mut *script, left: answers };
    let now = Now { time: UnixMs(time), quality: ClockQuality::Synchronised };
    count::clear();
    let (presented, whole) = count(|| block_on(gate.present(&mut card, now, unpredictable)));
    let left = card.left;
    let presented = presented.ok()?;
    println!("{name} whole {whole}");
    println!("{name} verify {}", count::verifying());
    println!(
        "{name} decision {}",
        match presented.decision {
            wavepass_protocol::tap::Decision::Open => 0,
            wavepass_protocol::tap::Decision::Refuse(reason) => reason as u8,
        }
    );
    (left == 0).then_some(())
}

fn verification(name: &str, script: &mut Cursor<'static>) -> Option<()> {
    let key = PublicKey::from_x(script.array()?);
    let signature = script.array()?;
    let len = u16::from_be_bytes(script.array()?);
    let message = script.take(usize::from(len))?;
    let (good, plain) = count(|| P256Verifier.verify(&key, &[message], &signature));
    println!("{name} p256_crate {plain}");
    let mut fast = FastVerifier::<1>::new();
    let (also, cold) = count(|| fast.verify(&key, &[message], &signature));
    println!("{name} unknown_key {cold}");
    fast.remember(&key);
    let ((), tables) = count(|| while fast.prepare() {});
    println!("{name} tables {tables}");
    let (again, warm) = count(|| fast.verify(&key, &[message], &signature));
    println!("{name} remembered_key {warm}");
    (good && also && again).then_some(())
}

/// A card that answers from memory.
struct Recorded<'s> {
    script: &'s mut Cursor<'static>,
    left: u8,
}

impl Contact for Recorded<'_> {
    async fn exchange(&mut self, _: &[u8], answer: &mut [u8]) -> Result<usize, Lost> {
        self.left = self.left.checked_sub(1).ok_or(Lost::Removed)?;
        let len = self.script.array().map(u16::from_be_bytes).ok_or(Lost::Removed)?;
        let bytes = self.script.take(usize::from(len)).ok_or(Lost::Removed)?;
        answer.get_mut(..bytes.len()).ok_or(Lost::Protocol)?.copy_from_slice(bytes);
        Ok(bytes.len())
    }

    fn now_us(&self) -> u64 {
        count::now_us()
    }
}

struct Cursor<'s>(&'s [u8]);

impl<'s> Cursor<'s> {
    fn take(&mut self, len: usize) -> Option<&'s [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
}

/// Reads a file that an argument names into memory.
fn read_named(name: &str, into: &mut [u8]) -> Option<usize> {
    let arguments = args::<400>().ok()?;
    for argument in &arguments {
        let Some((found, path)) = argument.ok()?.split_once('=') else { continue };
        if found != name {
            continue;
        }
        let mut path: heapless::Vec<u8, 200> = heapless::Vec::from_slice(path.as_bytes()).ok()?;
        path.push(0).ok()?;
        let mut file = File::open(core::ffi::CStr::from_bytes_with_nul(&path).ok()?).ok()?;
        let mut len = 0;
        while len < into.len() {
            match file.read(&mut into[len..]).ok()? {
                0 => break,
                read => len += read,
            }
        }
        return Some(len);
    }
    None
}

extern "C" fn no_interrupt() {
    panic!("an interrupt that nothing asked for");
}

/// The board's interrupts: the bench uses none.
#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
static __INTERRUPTS: [extern "C" fn(); 32] = [no_interrupt; 32];
