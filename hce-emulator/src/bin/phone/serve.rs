//! `phone serve`: one phone over TCP, by itself or in the field of a simulated PN532, with a log that people can
//! read.

use crate::{BOLD, DIM, ERROR};
use clap::ValueEnum;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use wavepass_hce::card::{Answer, Card, CardFault};
use wavepass_hce::decode;
use wavepass_hce::phone::Phone;
use wavepass_hce::pn532::{SimulatedChip, Switches};
use wavepass_hce::state::Durability;
use wavepass_hce::tcp::{self, Event};

/// Serves a phone to a reader over TCP
///
/// With --tcp messages are a length (two bytes, big-endian) and an APDU. With --pn532 it is the serial line of a
/// simulated PN532 with the phone in its field, to which QEMU's `-serial tcp:ADDRESS:PORT` connects. One reader at
/// a time. Ctrl-C ends.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    phone serve anna.json --tcp 127.0.0.1:35000\n  \
    phone serve anna.json --tcp 127.0.0.1:0 --json --quiet   prints the port that the system chose\n  \
    phone serve anna.json --pn532 127.0.0.1:35532 --noise 0.01")]
pub(crate) struct Args {
    /// The phone's file
    file: PathBuf,
    /// Where to listen for a reader of APDUs; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", required_unless_present = "pn532", conflicts_with = "pn532")]
    tcp: Option<SocketAddr>,
    /// Where to listen as a PN532; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT")]
    pn532: Option<SocketAddr>,
    /// How likely each fault of line, chip and field is, 0 to 1
    #[arg(long, value_name = "CHANCE", conflicts_with = "tcp", value_parser = chance, default_value_t = 0.0)]
    noise: f64,
    /// Decides when faults happen
    #[arg(long, conflicts_with = "tcp", default_value_t = 1)]
    seed: u64,
    /// How long the phone leaves after each tap, in milliseconds
    #[arg(long, value_name = "MILLISECONDS", conflicts_with = "tcp", default_value_t = 1_500)]
    pause: u64,
    /// Acknowledge every command and answer none, as a chip that hangs
    #[arg(long, conflicts_with = "tcp")]
    never_answers: bool,
    /// What the counter survives once the phone answered
    #[arg(long, value_enum, default_value_t = Keep::Process)]
    durability: Keep,
    /// No log of APDUs
    #[arg(long)]
    quiet: bool,
    /// Say where it listens as one line of JSON
    #[arg(long)]
    json: bool,
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
    let last_four = crate::show::load(&args.file)?.last_four();
    let mut phone =
        Phone::from_files(&args.file, durability).map_err(|e| format!("{}: {e}", args.file.display()))?;
    let wanted = args.tcp.or(args.pn532).ok_or("nowhere to listen")?;
    let in_use = |e| format!("cannot listen on {wanted}: {e}; give another port");
    let listener = TcpListener::bind(wanted).map_err(in_use)?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    let stop = stop_on_signal()?;
    if args.json {
        println!("{}", serde_json::json!({ "listening": address.to_string() }));
    } else {
        anstream::println!("phone {last_four} on {BOLD}{address}{BOLD:#}; Ctrl-C ends");
    }
    if !address.ip().is_loopback() {
        anstream::eprintln!("{ERROR}careful:{ERROR:#} whoever reaches {address} can tap this phone");
    }
    if args.pn532.is_some() {
        return serve_pn532(args, listener, phone, &stop).map_err(|e| format!("{address}: {e}"));
    }
    let mut log = |event: Event<'_>| {
        if !args.quiet {
            show(&event);
        }
    };
    tcp::serve(&listener, &mut phone, &stop, &mut log).map_err(|e| format!("{address}: {e}"))
}

/// The phone in the field of a simulated PN532 until `stop` is set.
fn serve_pn532(args: &Args, listener: TcpListener, phone: Phone, stop: &AtomicBool) -> std::io::Result<()> {
    let chip = SimulatedChip::start(listener, args.seed)?;
    chip.set_switches(Switches {
        tapped_away_ms: Some(args.pause),
        never_answers: args.never_answers,
        ..Switches::noise(args.noise)
    });
    chip.present(Box::new(Logged { phone, quiet: args.quiet }));
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A phone whose exchanges are told of.
struct Logged {
    phone: Phone,
    quiet: bool,
}

impl Card for Logged {
    fn enter_field(&mut self) {
        self.phone.enter_field();
        if !self.quiet {
            show(&Event::Field);
        }
    }

    fn transmit(&mut self, command: &[u8]) -> Result<Answer, CardFault> {
        let begun = Instant::now();
        let result = self.phone.transmit(command);
        if !self.quiet {
            match &result {
                Ok(answer) => {
                    let took = begun.elapsed() + Duration::from_micros(answer.delay_us);
                    show(&Event::Exchange { command, answer: &answer.data, took });
                }
                Err(fault) => show(&Event::Lost(fault)),
            }
        }
        result
    }
}

fn show(event: &Event<'_>) {
    match event {
        Event::Connected(from) => anstream::eprintln!("{DIM}reader at {from}{DIM:#}"),
        Event::Field => anstream::eprintln!("{DIM}field on{DIM:#}"),
        Event::Exchange { command, answer, took } => {
            anstream::eprintln!(
                "{BOLD}{}{BOLD:#} {DIM}{} µs{DIM:#}",
                decode::command(command),
                took.as_micros()
            );
            for line in decode::answer(answer) {
                anstream::eprintln!("  {line}");
            }
        }
        Event::Lost(why) => anstream::eprintln!("{DIM}{why}{DIM:#}"),
        Event::Ended(why) => anstream::eprintln!("{DIM}{why}{DIM:#}"),
        _ => {}
    }
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
