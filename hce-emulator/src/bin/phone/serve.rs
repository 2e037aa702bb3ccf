//! `phone serve`: one phone over TCP, with a log that people can read.

use crate::{BOLD, DIM, ERROR};
use clap::ValueEnum;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use wavepass_hce::decode;
use wavepass_hce::phone::Phone;
use wavepass_hce::state::Durability;
use wavepass_hce::tcp::{self, Event};

/// Serves a phone to a reader over TCP
///
/// Messages are a length (two bytes, big-endian) and an APDU; one reader at a time. Ctrl-C ends.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    phone serve anna.json --tcp 127.0.0.1:35000\n  \
    phone serve anna.json --tcp 127.0.0.1:0 --json --quiet   prints the port that the system chose")]
pub(crate) struct Args {
    /// The phone's file
    file: PathBuf,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT")]
    tcp: SocketAddr,
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
    let in_use = |e| format!("cannot listen on {}: {e}; give another port", args.tcp);
    let listener = TcpListener::bind(args.tcp).map_err(in_use)?;
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
    let mut log = |event: Event<'_>| {
        if !args.quiet {
            show(&event);
        }
    };
    tcp::serve(&listener, &mut phone, &stop, &mut log).map_err(|e| format!("{address}: {e}"))
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
