//! The gateway as a child process: started, watched, started again when it dies.
//!
//! City runs itself again with the word `gateway` in front of the gateway's own arguments, so that one build
//! is enough. The child's standard input is a pipe: it ends when city does, however city ends.

use crate::data::Folder;
use serde::Deserialize;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a gateway may take to begin: a large write-ahead log takes its time to be read.
const START: Duration = Duration::from_secs(60);
/// How long a gateway that ends at once is started again.
const HANDOVER: Duration = Duration::from_secs(10);
/// How often it may die in a day before city gives up.
const RESTARTS: u32 = 20;

/// Why there is no gateway.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The program could not be started.
    #[error("the gateway could not be started: {0}")]
    Start(#[source] io::Error),
    /// It ended before it was ready.
    #[error("the gateway ended at once ({0}); its log is {1}")]
    Ended(std::process::ExitStatus, String),
    /// It was not ready in time.
    #[error("the gateway was not ready after {0:?}; its log is {1}")]
    Late(Duration, String),
    /// It died too often.
    #[error("the gateway died {0} times; its log is {1}")]
    Restarts(u32, String),
}

/// Where a running gateway listens.
#[derive(Debug, Clone, Deserialize)]
pub struct Addresses {
    /// The gates' link.
    pub link: SocketAddr,
    /// HTTP.
    pub http: SocketAddr,
}

/// A gateway that is kept running.
pub struct Gateway {
    program: PathBuf,
    folder: Folder,
    database: String,
    child: Child,
    addresses: Addresses,
    restarts: u32,
}

impl Gateway {
    /// Starts a gateway on the folder, by this program.
    pub fn start(folder: &Folder, database: String) -> Result<Self, GatewayError> {
        Self::start_by(std::env::current_exe().map_err(GatewayError::Start)?, folder, database)
    }

    /// Starts a gateway on the folder, by a program that takes the word `gateway` as this one does.
    pub fn start_by(program: PathBuf, folder: &Folder, database: String) -> Result<Self, GatewayError> {
        let (child, addresses) = spawn(&program, folder, &database)?;
        Ok(Self { program, folder: folder.clone(), database, child, addresses, restarts: 0 })
    }

    /// Where it listens now.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Its process, for whoever wants to know (or kill) it.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Starts it again if it has died; true if it had.
    pub fn revive(&mut self) -> Result<bool, GatewayError> {
        match self.child.try_wait() {
            Ok(None) => return Ok(false),
            Ok(Some(status)) => tracing::warn!(%status, "the gateway died"),
            Err(e) => return Err(GatewayError::Start(e)),
        }
        self.restarts += 1;
        if self.restarts > RESTARTS {
            return Err(GatewayError::Restarts(RESTARTS, self.folder.gateway_log().display().to_string()));
        }
        let (child, addresses) = spawn(&self.program, &self.folder, &self.database)?;
        (self.child, self.addresses) = (child, addresses);
        Ok(true)
    }

    /// Ends it: its standard input closes, and it finishes what it was doing.
    pub fn stop(mut self) -> Result<(), GatewayError> {
        drop(self.child.stdin.take());
        self.child.wait().map(drop).map_err(GatewayError::Start)
    }
}

fn spawn(program: &Path, folder: &Folder, database: &str) -> Result<(Child, Addresses), GatewayError> {
    let ready = folder.gateway_ready();
    match fs::remove_file(&ready) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(GatewayError::Start(e)),
    }
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(folder.gateway_log())
        .map_err(GatewayError::Start)?;
    let mut command = Command::new(program);
    command
        .args(["gateway", "serve", "--clock", "driven", "--exit-on-stdin-eof"])
        .args(["--listen-link", "127.0.0.1:0", "--listen-http", "127.0.0.1:0", "--database", database])
        .arg("--data")
        .arg(folder.root())
        .arg("--keys")
        .arg(folder.keys())
        .arg("--passphrase-file")
        .arg(folder.passphrase())
        .arg("--ready-file")
        .arg(&ready)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log);
    let mut child = command.spawn().map_err(GatewayError::Start)?;
    let begin = Instant::now();
    let log = || folder.gateway_log().display().to_string();
    loop {
        if let Ok(text) = fs::read_to_string(&ready)
            && let Ok(addresses) = serde_json::from_str(&text)
        {
            return Ok((child, addresses));
        }
        if let Some(status) = child.try_wait().map_err(GatewayError::Start)? {
            // The gateway of a city that was killed may still be on its way out, and holds the folder.
            if begin.elapsed() > HANDOVER {
                return Err(GatewayError::Ended(status, log()));
            }
            std::thread::sleep(Duration::from_millis(100));
            child = command.spawn().map_err(GatewayError::Start)?;
        }
        if begin.elapsed() > START {
            child.kill().map_err(GatewayError::Start)?;
            return Err(GatewayError::Late(START, log()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
