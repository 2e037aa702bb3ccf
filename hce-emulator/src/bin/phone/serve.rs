//! `phone serve`: one phone in a virtual PC/SC reader, over TCP, or in the field of a simulated PN532, with a log that
//! people can read.

use crate::log::{self, Log, Logged, Look};
use crate::{BOLD, ERROR};
use clap::ValueEnum;
use serial2::SerialPort;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use wavepass_hce::contactless::Identity;
use wavepass_hce::decode::Numbers;
use wavepass_hce::phone::{Phone, PhoneFile};
use wavepass_hce::pn532::{Presented, SimulatedChip, Switches};
use wavepass_hce::pn532_target;
use wavepass_hce::script::{Script, ScriptError, Scripted};
use wavepass_hce::state::Durability;
use wavepass_hce::tcp;
use wavepass_hce::vpcd::{self, Slot};

/// Serves a phone to a reader
///
/// With --vpcd it lies in a virtual PC/SC reader of a real pcscd (Debian: pcscd, vsmartcard-vpcd). With --tcp messages
/// are a length (two bytes, big-endian) and an APDU. With --pn532 it is the serial line of a simulated PN532 with the
/// phone in its field, to which QEMU's `-serial tcp:ADDRESS:PORT` connects. With --pn532-target a real PN532 on a
/// serial port plays the card to any reader; this has not been tried on hardware yet. One reader at a time. Ctrl-C ends.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    phone serve anna.json --vpcd                             in pcscd's virtual reader on this computer\n  \
    phone serve anna.json --tcp 127.0.0.1:35000\n  \
    phone serve anna.json --tcp 127.0.0.1:0 --json --quiet   prints the port that the system chose\n  \
    phone serve anna.json --pn532 127.0.0.1:35532 --noise 0.01\n  \
    phone serve anna.json --pn532-target /dev/ttyUSB0        not yet tried on hardware\n  \
    phone serve anna.json --vpcd --script answers.toml       answers of your own first")]
pub(crate) struct Args {
    /// The phone's file
    file: PathBuf,
    #[command(flatten)]
    way: Way,
    /// How likely each fault of line, chip and field is, 0 to 1; with --pn532
    #[arg(long, value_name = "CHANCE", conflicts_with_all = ["tcp", "vpcd", "pn532_target"], value_parser = chance)]
    noise: Option<f64>,
    /// Decides when faults happen; with --pn532
    #[arg(long, conflicts_with_all = ["tcp", "vpcd", "pn532_target"])]
    seed: Option<u64>,
    /// How long the phone leaves after each tap, in milliseconds; 1500 with --pn532, else it stays
    #[arg(long, value_name = "MILLISECONDS", conflicts_with = "tcp")]
    pause: Option<u64>,
    /// How long a reader that is not there yet is waited for, in seconds; with --vpcd
    #[arg(long, value_name = "SECONDS", conflicts_with_all = ["tcp", "pn532", "pn532_target"],
        default_value_t = vpcd::PATIENCE.as_secs(), value_parser = clap::value_parser!(u64).range(..=86_400))]
    wait: u64,
    /// Acknowledge every command and answer none, as a chip that hangs; with --pn532
    #[arg(long, conflicts_with_all = ["tcp", "vpcd", "pn532_target"])]
    never_answers: bool,
    /// What the counter survives once the phone answered
    #[arg(long, value_enum, default_value_t = Keep::Process)]
    durability: Keep,
    /// Answers to give before the phone's own: a script in TOML or JSON
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// No log of APDUs
    #[arg(long)]
    quiet: bool,
    /// Print JSON, one object a line: where it listens, then what happens
    #[arg(long)]
    json: bool,
    /// Show card numbers and every byte in the log; else of a number the last four digits
    #[arg(long)]
    show_numbers: bool,
}

impl Args {
    const fn look(&self) -> Look {
        let numbers = if self.show_numbers { Numbers::Shown } else { Numbers::Masked };
        Look { quiet: self.quiet, json: self.json, numbers }
    }
}

/// The way to the reader.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Way {
    /// Connect to a virtual PC/SC reader; without an address, to the one on this computer
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, default_missing_value = vpcd::ADDRESS, value_parser = reader)]
    vpcd: Option<String>,
    /// Where to listen for a reader of APDUs; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listening)]
    tcp: Option<SocketAddr>,
    /// Where to listen as a PN532; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listening)]
    pn532: Option<SocketAddr>,
    /// A PN532 that is to play the card: its serial port, or where it is served over TCP. Not yet tried on hardware
    #[arg(long, value_name = "PORT|HOST:PORT")]
    pn532_target: Option<String>,
}

/// How long a phone leaves a simulated PN532 after a tap.
const PAUSE_MS: u64 = 1_500;

fn reader(text: &str) -> Result<String, String> {
    let is_one =
        text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if is_one {
        return Ok(text.to_owned());
    }
    // What stands after the option is taken for its address.
    Err(format!(
        "it has the form HOST:PORT, as {}; to leave it out write the phone first: phone serve FILE --vpcd",
        vpcd::ADDRESS
    ))
}

fn listening(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "an IP address of this computer and a port, as 127.0.0.1:35000".to_owned())
}

fn chance(text: &str) -> Result<f64, String> {
    let value = text.parse().map_err(|_| "a number from 0 to 1".to_owned())?;
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err("a number from 0 to 1".to_owned()) }
}

#[derive(Clone, Copy, ValueEnum)]
enum Keep {
    /// The end of this process, however sudden
    Process,
    /// A power cut; slower
    PowerCut,
}

pub(crate) fn run(args: &Args) -> Result<(), String> {
    let durability = match args.durability {
        Keep::Process => Durability::Process,
        Keep::PowerCut => Durability::PowerCut,
    };
    let file = crate::show::load(&args.file)?;
    let script = match &args.script {
        Some(path) => Script::load(path).map_err(|e| match e {
            ScriptError::Io { .. } => e.to_string(),
            e => format!("{}: {e}", path.display()),
        })?,
        None => Script::default(),
    };
    let phone =
        Phone::from_files(&args.file, durability).map_err(|e| format!("{}: {e}", args.file.display()))?;
    let mut phone = Scripted::new(phone, script);
    let mut log = Log::new(args.look());
    let stop = stop_on_signal()?;
    let pause = args.pause.map(Duration::from_millis);
    if let Some(port) = &args.way.pn532_target {
        let mut line = open(port)
            .map_err(|e| format!("{port}: {e}; give a serial port, as /dev/ttyUSB0, or HOST:PORT"))?;
        announce(args, &file, "chip", port);
        let mut identity = identity(&file)?;
        let mut log = |event: tcp::Event<'_>| log.event(&event);
        return pn532_target::serve(&mut line, pause, &mut phone, &mut identity, &stop, &mut log)
            .map_err(|e| format!("{port}: {e}"));
    }
    if let Some(address) = &args.way.vpcd {
        vpcd::resolve(address).map_err(|e| e.to_string())?;
        announce(args, &file, "reader", address);
        let slot = Slot { address: address.clone(), pause };
        let mut identity = identity(&file)?;
        let patience = Duration::from_secs(args.wait);
        let mut log = |event: tcp::Event<'_>| log.event(&event);
        return vpcd::serve_from_start(&slot, patience, &mut phone, &mut identity, &stop, &mut log)
            .map_err(|e| format!("{e}; {}", log::START_PCSCD));
    }
    let wanted = args.way.tcp.or(args.way.pn532).ok_or("nowhere to listen")?;
    let cannot = |e: std::io::Error| {
        let hint = match e.kind() {
            ErrorKind::AddrNotAvailable => "give an address of this computer, as 127.0.0.1",
            _ => "give another port",
        };
        format!("cannot listen on {wanted}: {e}; {hint}")
    };
    let listener = TcpListener::bind(wanted).map_err(cannot)?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    announce(args, &file, "listening", &address.to_string());
    if !address.ip().is_loopback() {
        anstream::eprintln!("{ERROR}careful:{ERROR:#} whoever reaches {address} can tap this phone");
    }
    if args.way.pn532.is_some() {
        return serve_pn532(args, listener, phone, &stop).map_err(|e| format!("{address}: {e}"));
    }
    tcp::serve(&listener, &mut phone, &stop, &mut |event| log.event(&event))
        .map_err(|e| format!("{address}: {e}"))
}

fn identity(file: &PhoneFile) -> Result<Identity, String> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|e| format!("the system gives no random numbers: {e}"))?;
    Ok(file.identity(seed))
}

/// A line of bytes, both ways.
trait Line: Read + Write {}

impl<T: Read + Write> Line for T {}

/// How long a read waits for a byte.
const READ_TIME: Duration = Duration::from_millis(20);

/// Opens a serial port, or what is served over TCP: a name with a colon that is no path.
fn open(port: &str) -> std::io::Result<Box<dyn Line>> {
    if port.contains(':') && !Path::new(port).exists() {
        let stream = TcpStream::connect(port)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_TIME))?;
        return Ok(Box::new(stream));
    }
    let mut serial = SerialPort::open(port, pn532_target::BAUD)?;
    serial.set_read_timeout(READ_TIME)?;
    Ok(Box::new(serial))
}

/// Says where the phone is.
fn announce(args: &Args, file: &PhoneFile, what: &str, address: &str) {
    if args.json {
        log::print(&serde_json::json!({ what: address }));
    } else {
        anstream::println!("phone {} on {BOLD}{address}{BOLD:#}; Ctrl-C ends", file.last_four());
    }
}

/// The phone as it is served: answers of the script first.
type Served = Scripted<Phone>;

/// The phone in the field of a simulated PN532 until `stop` is set.
fn serve_pn532(args: &Args, listener: TcpListener, phone: Served, stop: &AtomicBool) -> std::io::Result<()> {
    let switches = Switches {
        tapped_away_ms: Some(args.pause.unwrap_or(PAUSE_MS)),
        never_answers: args.never_answers,
        ..Switches::noise(args.noise.unwrap_or_default())
    };
    let phone = Presented::phone(Box::new(Logged { card: phone, log: Log::new(args.look()) }));
    let _chip = SimulatedChip::start_with(listener, args.seed.unwrap_or(1), switches, vec![phone])?;
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A flag that Ctrl-C, or a request to end, sets.
fn stop_on_signal() -> Result<Arc<AtomicBool>, String> {
    let failed = |e: std::io::Error| format!("cannot wait for Ctrl-C: {e}");
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
    let seen = Arc::clone(&stop);
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(ended());
            seen.store(true, Ordering::Relaxed);
        })
        .map_err(failed)?;
    Ok(stop)
}

/// Returns at Ctrl-C or a request to end.
async fn ended() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    // Without a handler the system ends the process itself.
    let _ = tokio::signal::ctrl_c().await;
}
