//! A house of processes that can be killed: gateways over one store, PostgreSQL where asked, and the sandbox bank where asked.
//!
//! Every process comes back on its own folder, and the bank at its own port, as after a crash. Commands go to a gateway over
//! HTTP and are given again until one of them is done: what an operator does while machines fall over.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use wavepass_gateway::bank::wire::{self, SharedKey};
use wavepass_test_postgres::Server;

/// How long anything may take, restarts of the others included, and the close of 300,000 late taps on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);
/// The largest answer, bytes: the journeys of a day of 300,000 taps, as hexadecimal digits, with room to spare.
const MAX_ANSWER: u64 = 256 << 20;
/// How long to wait before something is tried again.
const PAUSE: Duration = Duration::from_millis(50);
/// Long after the days that are played, so that each can be closed.
const CLOCK: &str = "2027-12-01T12:00:00+08:00";
/// What the house's key files are sealed with.
pub const PASSPHRASE: &str = "correct horse battery staple";

/// Why something was not done.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The two programs.
#[derive(Clone)]
pub struct Programs {
    /// Takes the word `gateway`, as `city` does.
    pub town: PathBuf,
    /// The sandbox bank.
    pub bank: PathBuf,
}

/// Whom to kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// One of the gateways.
    Gateway(usize),
    /// The bank.
    Bank,
    /// PostgreSQL.
    Postgres,
}

/// A process that listens.
struct Process {
    child: Child,
    http: SocketAddr,
    /// Where gates connect, of a gateway.
    link: Option<SocketAddr>,
}

impl Process {
    /// Starts a command that writes where it listens into `ready`; again while it ends at once.
    fn start(mut command: Command, ready: &Path, log: &Path) -> Result<Self, Failure> {
        let end = Instant::now() + PATIENCE;
        loop {
            let _ = fs::remove_file(ready);
            let log = fs::File::options().create(true).append(true).open(log)?;
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn()?;
            while Instant::now() < end && child.try_wait()?.is_none() {
                let told = fs::read(ready).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
                let address = |name: &str| told.as_ref().and_then(|t| t[name].as_str()?.parse().ok());
                if let Some(http) = address("http") {
                    return Ok(Self { child, http, link: address("link") });
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            if Instant::now() >= end {
                let _ = child.kill();
                return Err(format!("{command:?} does not start").into());
            }
        }
    }

    fn kill(&mut self) {
        // It may have ended by itself, which is as dead.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a house is like.
pub struct Plan<'a> {
    /// On a database of its own of this PostgreSQL server; else on SQLite.
    pub postgres: Option<Arc<Server>>,
    /// With the sandbox bank; else with the bank that is embedded in the gateway.
    pub sandbox_bank: bool,
    /// The tariff's text.
    pub tariff: &'a str,
    /// Further sections of the gateways' configuration.
    pub settings: &'a str,
    /// Where key files are copied from; `None` makes new ones.
    pub keys: Option<&'a Path>,
}

/// The sandbox bank's process, which comes back at its own address.
struct Bank {
    process: Mutex<Process>,
    at: SocketAddr,
    key: SharedKey,
}

/// The house.
pub struct House {
    root: tempfile::TempDir,
    programs: Programs,
    server: Option<Arc<Server>>,
    database: Option<String>,
    bank: Option<Bank>,
    gateways: Vec<Mutex<Process>>,
    tariff: PathBuf,
    agent: ureq::Agent,
}

fn locked(process: &Mutex<Process>) -> MutexGuard<'_, Process> {
    process.lock().unwrap_or_else(PoisonError::into_inner)
}

impl House {
    /// Everything but the gateways: what the store has before they start is the caller's to make.
    pub fn lay(programs: Programs, plan: &Plan<'_>) -> Result<Self, Failure> {
        let root = tempfile::tempdir()?;
        let server = plan.postgres.clone();
        let database = server.as_ref().map(|s| s.new_database().map(|name| s.url(&name))).transpose()?;
        let tariff = root.path().join("tariff.toml");
        fs::write(&tariff, plan.tariff)?;
        let mut config =
            "[clearing]\nclose = \"manual\"\n[recovery]\ntries = 0\n[collection]\nname = \"Test\"\n\
             account = \"6222000000000017\"\ncnaps = \"102331000017\"\n"
                .to_owned();
        let bank = match plan.sandbox_bank {
            true => {
                let key_file = root.path().join("bank.key");
                fs::write(&key_file, "c3".repeat(32))?;
                let process = start_bank(&programs, root.path(), SocketAddr::from(([127, 0, 0, 1], 0)))?;
                let at = process.http;
                config += &format!(
                    "[bank]\nconnector = \"http\"\nurl = \"http://{at}\"\nkey_file = \"{}\"\ntimeout_ms = 2000\n\
                     tries = 1\nbatch = 5\nconcurrency = 3\n",
                    key_file.display()
                );
                Some(Bank { process: Mutex::new(process), at, key: SharedKey::read(&key_file)? })
            }
            false => None,
        };
        fs::write(root.path().join("gateway.toml"), config + plan.settings)?;
        let agent = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE));
        let agent = agent.build().into();
        let house = Self { root, programs, server, database, bank, gateways: Vec::new(), tariff, agent };
        fs::create_dir(house.data(0))?;
        match plan.keys {
            Some(keys) => {
                fs::create_dir(house.keys())?;
                for file in fs::read_dir(keys)? {
                    let file = file?;
                    fs::copy(file.path(), house.keys().join(file.file_name()))?;
                }
            }
            None => house.make_keys()?,
        }
        Ok(house)
    }

    /// Starts so many gateways.
    pub fn open(&mut self, gateways: usize) -> Result<(), Failure> {
        for n in self.gateways.len()..gateways {
            let gateway = self.start_gateway(n)?;
            self.gateways.push(Mutex::new(gateway));
        }
        Ok(())
    }

    /// Ends the gateways; the store stays.
    pub fn close(&mut self) {
        self.gateways.clear();
    }

    /// How many gateways run.
    pub fn gateways(&self) -> usize {
        self.gateways.len()
    }

    /// Where gates connect to a gateway.
    pub fn link(&self, n: usize) -> Result<SocketAddr, Failure> {
        Ok(locked(&self.gateways[n]).link.ok_or("the gateway does not say where gates connect")?)
    }

    /// A gateway's process number.
    pub fn pid(&self, n: usize) -> u32 {
        locked(&self.gateways[n]).child.id()
    }

    /// The store that the gateways work on, for the time when none runs: its URL, and the data folder that it is taken with.
    pub fn store(&self) -> (String, PathBuf) {
        let folder = self.data(0);
        let sqlite = || format!("sqlite:{}", folder.join("wavepass.db").display());
        (self.database.clone().unwrap_or_else(sqlite), folder)
    }

    /// The folder of the key files.
    pub fn keys(&self) -> PathBuf {
        self.root.path().join("keys")
    }

    /// Whom there is to kill.
    pub fn victims(&self) -> Vec<Victim> {
        let mut all: Vec<Victim> = (0..self.gateways.len()).map(Victim::Gateway).collect();
        all.extend(self.bank.is_some().then_some(Victim::Bank));
        all.extend(self.server.is_some().then_some(Victim::Postgres));
        all
    }

    /// Kills one where it stands, and starts it again.
    pub fn kill(&self, victim: Victim) -> Result<(), Failure> {
        match (victim, &self.server) {
            (Victim::Gateway(n), _) => {
                let mut gateway = locked(&self.gateways[n]);
                gateway.kill();
                *gateway = self.start_gateway(n)?;
            }
            (Victim::Bank, _) => {
                let bank = self.sandbox()?;
                let mut process = locked(&bank.process);
                process.kill();
                *process = start_bank(&self.programs, self.root.path(), bank.at)?;
            }
            (Victim::Postgres, Some(server)) => {
                server.kill()?;
                server.start_again()?;
            }
            (Victim::Postgres, None) => {}
        }
        Ok(())
    }

    fn sandbox(&self) -> Result<&Bank, Failure> {
        self.bank.as_ref().ok_or_else(|| "the house has no bank of its own".into())
    }

    fn data(&self, n: usize) -> PathBuf {
        self.root.path().join(format!("gateway-{n}"))
    }

    fn gateway(&self, n: usize) -> Command {
        let mut command = Command::new(&self.programs.town);
        command.arg("gateway").current_dir(self.root.path()).env_clear();
        command.env("WAVEPASS_DATA", self.data(n)).env("WAVEPASS_PASSPHRASE", PASSPHRASE);
        command.env("WAVEPASS_KEYS", self.keys()).env("WAVEPASS_CONFIG", "gateway.toml");
        command.envs(self.database.iter().map(|url| ("WAVEPASS_DATABASE", url)));
        command
    }

    fn make_keys(&self) -> Result<(), Failure> {
        for more in [&["root"][..], &["bank"], &["clearing", "--root", "keys/root.key"]] {
            let mut command = self.gateway(0);
            let done = command.args(["keys", "init", "--dir", "keys", "--role"]).args(more).output()?;
            if !done.status.success() {
                return Err(format!("{command:?}: {}", String::from_utf8_lossy(&done.stderr)).into());
            }
        }
        Ok(())
    }

    fn start_gateway(&self, n: usize) -> Result<Process, Failure> {
        fs::create_dir_all(self.data(n))?;
        let ready = self.root.path().join(format!("ready-{n}.json"));
        let mut command = self.gateway(n);
        command.args(["serve", "--clock", "driven", "--clock-at", CLOCK, "--exit-on-stdin-eof"]);
        command
            .args(["--listen-link", "127.0.0.1:0", "--listen-http", "127.0.0.1:0", "--ready-file"])
            .arg(&ready);
        command.arg("--tariff").arg(&self.tariff);
        Process::start(command, &ready, &self.root.path().join(format!("gateway-{n}.log")))
    }

    /// Asks a gateway, whichever of the `n`th and those after it answers, until one does it.
    pub fn post(&self, n: usize, path: &str, body: &Value) -> Result<Value, Failure> {
        let (end, body) = (Instant::now() + PATIENCE, serde_json::to_vec(body)?);
        let mut n = n;
        loop {
            n = (n + 1) % self.gateways.len();
            match self.post_once(n, path, &body) {
                Ok(answer) => return Ok(answer),
                Err(error) if Instant::now() > end => return Err(format!("{path}: {error}").into()),
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Asks one gateway once.
    fn post_once(&self, n: usize, path: &str, body: &[u8]) -> Result<Value, Failure> {
        let token = fs::read_to_string(self.data(n).join("admin-token"))?;
        // Not held while it is asked: the killer must come in between.
        let at = locked(&self.gateways[n]).http;
        let request = self.agent.post(format!("http://{at}{path}"));
        let request = request.header("authorization", format!("Bearer {}", token.trim()));
        answered(request.header("content-type", "application/json").send(body)?)
    }

    /// Reads something of one gateway once.
    pub fn get_once(&self, n: usize, path: &str) -> Result<Value, Failure> {
        let token = fs::read_to_string(self.data(n).join("admin-token"))?;
        let at = locked(&self.gateways[n]).http;
        let request = self.agent.get(format!("http://{at}{path}"));
        answered(request.header("authorization", format!("Bearer {}", token.trim())).call()?)
    }

    /// A command, given until it is done; gives what it prints.
    pub fn command(&self, n: usize, args: &[&str]) -> Result<String, Failure> {
        let answer = self.post(n, "/v1/admin/command", &json!({ "args": args }))?;
        Ok(answer["text"].as_str().ok_or("a command's answer has no text")?.to_owned())
    }

    /// A command that makes a file, given until it is done; gives the file.
    pub fn file(&self, args: &[&str]) -> Result<Vec<u8>, Failure> {
        file_of(&self.post(0, "/v1/admin/command", &json!({ "args": args }))?)
    }

    /// The same, asked of one gateway once; what it refuses is the error's text.
    pub fn file_once(&self, n: usize, args: &[&str]) -> Result<Vec<u8>, Failure> {
        let body = serde_json::to_vec(&json!({ "args": args }))?;
        file_of(&self.post_once(n, "/v1/admin/command", &body)?)
    }

    /// Asks the bank itself.
    pub fn bank(&self, method: &str, target: &str, body: &str) -> Result<Value, Failure> {
        let bank = self.sandbox()?;
        let date = SystemTime::UNIX_EPOCH.elapsed()?.as_secs().to_string();
        let mac = bank.key.request(method, target, &date, body.as_bytes());
        let url = format!("http://{}{target}", bank.at);
        let mut answer = match method {
            "GET" => self.agent.get(&url).header(wire::DATE, &date).header(wire::MAC, &mac).call()?,
            _ => self.agent.post(&url).header(wire::DATE, &date).header(wire::MAC, &mac).send(body)?,
        };
        let text = answer.body_mut().with_config().limit(wire::MAX_BODY as u64).read_to_string()?;
        match answer.status().is_success() {
            true => Ok(serde_json::from_str(&text)?),
            false => Err(format!("{target}: {text}").into()),
        }
    }

    /// What the bank took by its own statement, by attempt, for a service day (days since 1970-01-01).
    pub fn statement(&self, day: i32) -> Result<BTreeMap<String, i64>, Failure> {
        let (mut found, mut after) = (BTreeMap::new(), String::new());
        loop {
            let target = format!("{}?service_day={day}&after={after}&limit=100", wire::STATEMENT);
            let page = self.bank("GET", &target, "")?;
            let page: wire::Statement = serde_json::from_value(page)?;
            let Some(last) = page.lines.last() else { return Ok(found) };
            after.clone_from(&last.attempt);
            for line in page.lines {
                if found.insert(line.attempt.clone(), line.amount_fen).is_some() {
                    return Err(format!("attempt {} is in the statement twice", line.attempt).into());
                }
            }
        }
    }
}

/// What a gateway answers; what it refuses is the error's text.
fn answered(mut answer: ureq::http::Response<ureq::Body>) -> Result<Value, Failure> {
    let text = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_string()?;
    match answer.status().is_success() {
        true => Ok(serde_json::from_str(&text)?),
        false => Err(text.into()),
    }
}

/// The file in a command's answer, where it stands as hexadecimal digits.
fn file_of(answer: &Value) -> Result<Vec<u8>, Failure> {
    let digits = answer["files"][0][1].as_str().ok_or("a command's answer has no file")?.as_bytes();
    let byte = |pair: &[u8]| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?);
    digits.chunks(2).map(byte).collect()
}

fn start_bank(programs: &Programs, root: &Path, at: SocketAddr) -> Result<Process, Failure> {
    let ready = root.join("bank.json");
    let mut command = Command::new(&programs.bank);
    command.arg("--data").arg(root.join("bank")).arg("--key-file").arg(root.join("bank.key"));
    command.args(["--listen", &at.to_string(), "--exit-on-stdin-eof", "--ready-file"]).arg(&ready);
    Process::start(command, &ready, &root.join("bank.log"))
}
