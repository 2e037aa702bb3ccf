//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::{Bank, Failure, Trouble};
use clap::Parser;
use tokio::sync::oneshot;

/// A stand-in for a bank's core: e-accounts of class II and III behind a socket (docs/bank.md). No real money.
#[derive(Debug, Parser)]
#[command(name = "sandbox-bank", version)]
struct Arguments {
    /// The bank's folder, made where it is missing.
    #[arg(long, value_name = "DIR", default_value = "sandbox-bank-data")]
    data: PathBuf,
    /// Where requests are taken; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7790")]
    listen: SocketAddr,
    /// The key shared with the gateway: a file with one line of 64 hexadecimal digits.
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    /// Once it listens, write the bound address there, as JSON.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// End when standard input ends: with the process that started this one.
    #[arg(long)]
    exit_on_stdin_eof: bool,
    #[command(flatten)]
    trouble: Trouble,
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { data, listen, key_file, ready_file, exit_on_stdin_eof, trouble } = arguments;
    let bank = Bank::open(&data, &key_file, listen, trouble).await?;
    let running = bank.running()?;
    if let Some(path) = &ready_file {
        // Whole or not there at all: who waits for it reads it at once.
        let made = path.with_extension("new");
        std::fs::write(&made, serde_json::to_vec(&running)?)
            .and_then(|()| std::fs::rename(&made, path))
            .map_err(|e| format!("{}: {e}", path.display()))?;
    }
    eprintln!("the sandbox bank listens on {}", running.http);
    let (input, ended) = oneshot::channel::<()>();
    if exit_on_stdin_eof {
        // A thread of its own: reading blocks, and the runtime would wait for it.
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            drop(input);
        });
    }
    bank.serve(async move {
        tokio::select! {
            _ = ended, if exit_on_stdin_eof => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    })
    .await
}

/// The command.
pub fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(run(Arguments::parse())));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sandbox-bank: {error}");
            ExitCode::FAILURE
        }
    }
}
