//! The gateway as a process: started, spoken to by a second one, killed, started again.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

#[path = "process/commands.rs"]
mod commands;
#[path = "process/concentrators.rs"]
mod concentrators;
#[path = "process/files.rs"]
mod files;
#[path = "process/lists.rs"]
mod lists;
#[path = "process/money.rs"]
mod money;
#[path = "process/stores.rs"]
mod stores;
#[path = "process/tariffs.rs"]
mod tariffs;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use wavepass_gateway::intake::sealer::Sealer;
use wavepass_gateway::serve::Running;
use wavepass_protocol::tap::{Entry, Outcome, Passage};
use wavepass_protocol::time::UnixMs;
use wavepass_test_postgres::{Options, Server};

struct House {
    dir: tempfile::TempDir,
    /// The URL of its database, where that is not a file in its folder.
    database: Option<String>,
}

/// The server of this run's databases, with `WAVEPASS_TEST_STORE=postgres` in the environment.
fn postgres() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    let start = || match std::env::var("WAVEPASS_TEST_STORE").as_deref() {
        // Over TCP, as in a house.
        Ok("postgres") => Some(Server::start(Options { tcp: true, ..Options::default() }).unwrap()),
        Ok("sqlite") | Err(_) => None,
        Ok(other) => panic!("WAVEPASS_TEST_STORE is {other}; it is sqlite or postgres"),
    };
    SERVER.get_or_init(start).as_ref()
}

impl House {
    /// A data folder with key files.
    fn new() -> Self {
        let database = postgres().map(|server| server.url(&server.new_database().unwrap()));
        let house = Self { dir: tempfile::tempdir().unwrap(), database };
        for more in [&["root"][..], &["bank"], &["clearing", "--root", "keys/root.key"]] {
            house.says(&[&["keys", "init", "--dir", "keys", "--role"], more].concat());
        }
        house
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wavepass-gateway"));
        command.args(args).current_dir(self.dir.path()).env_clear();
        command
            .env("WAVEPASS_DATA", self.dir.path())
            .env("WAVEPASS_PASSPHRASE", "correct horse battery staple");
        command.envs(self.database.iter().map(|url| ("WAVEPASS_DATABASE", url)));
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must succeed; gives what it printed.
    fn says(&self, args: &[&str]) -> String {
        let out = self.run(args);
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    fn serve(&self) -> Gateway {
        self.serve_with(&[])
    }

    /// The same, with further arguments.
    fn serve_with(&self, more: &[&str]) -> Gateway {
        let ready = self.path("ready.json");
        let _ = std::fs::remove_file(&ready);
        let addresses = ["--listen-link", "127.0.0.1:0", "--listen-http", "127.0.0.1:0"];
        let mut args =
            vec!["serve", "--clock", "driven", "--exit-on-stdin-eof", "--ready-file", "ready.json"];
        args.extend(addresses);
        args.extend(more);
        let log = std::fs::File::options().append(true).create(true).open(self.path("log")).unwrap();
        let child =
            self.command(&args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let mut gateway = Gateway { child };
        let began = Instant::now();
        while !ready.exists() {
            assert!(began.elapsed() < Duration::from_secs(60), "the gateway does not start");
            assert!(gateway.child.try_wait().unwrap().is_none(), "{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        gateway
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn gate(&self, id: &str) -> Sealer {
        let file = format!("gate-{id}.wpg");
        self.says(&["gate", "add", "--id", id, "--station", "A1", "--direction", "entry", "--out", &file]);
        Sealer::new(&std::fs::read(self.path(&file)).unwrap()).unwrap()
    }

    fn write_entries(&self, name: &str, entries: &[Vec<u8>]) {
        let mut file = std::fs::File::create(self.path(name)).unwrap();
        for entry in entries {
            let hex: String = entry.iter().map(|b| format!("{b:02x}")).collect();
            writeln!(file, "{{\"sealed\":\"{hex}\"}}").unwrap();
        }
    }
}

struct Gateway {
    child: Child,
}

impl Gateway {
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it as its parent's end would.
    fn end(mut self) -> bool {
        drop(self.child.stdin.take());
        self.child.wait().unwrap().success()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn entries(gate: &mut Sealer, n: u32) -> Vec<Vec<u8>> {
    let passage = |of| Entry::Passage(Passage { time: UnixMs(1), of, outcome: Outcome::Passed });
    (0..n).map(|i| gate.seal(&passage(i + 1)).unwrap()).collect()
}

fn mode_of(path: &Path) -> u32 {
    std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(path).unwrap()) & 0o777
}

impl House {
    /// Runs a command that must fail; gives what it told.
    fn refuses(&self, args: &[&str]) -> String {
        let out = self.run(args);
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{args:?}: {stderr}");
        stderr
    }

    fn json(&self, args: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.says(args)).unwrap()
    }
}
