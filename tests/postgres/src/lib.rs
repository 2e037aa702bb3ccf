//! A PostgreSQL server of its own for tests and benchmarks: in a scratch folder, on a Unix socket in it and, where asked, on
//! a loopback port, gone with the process that started it, however that ends.
//!
//! PostgreSQL refuses to run as root; then it runs as the user `postgres`.

use std::fs;
use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// How long a server may take to start or stop.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait before the next look at one that starts.
const PAUSE: Duration = Duration::from_millis(20);
/// What a server says that finds others' processes on its cluster.
const OTHERS_LEFT: &str = "pre-existing shared memory block";
/// Where Debian keeps the server's programs, which are not on everybody's path.
const DEBIAN: &str = "/usr/lib/postgresql";

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// PostgreSQL is not installed.
    #[error("no program `{0}`: install PostgreSQL (on Debian, `apt install postgresql`)")]
    NotInstalled(&'static str),
    /// A program could not be run, or a file not be written.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system says.
        source: io::Error,
    },
    /// A program of PostgreSQL failed.
    #[error("{what} failed: {output}")]
    Failed {
        /// Which.
        what: String,
        /// What it printed.
        output: String,
    },
}

fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> ServerError {
    let what = what.into();
    move |source| ServerError::Io { what, source }
}

/// What a server is like.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Commits reach the disk before they return. Tests of everything else are faster without.
    pub durable: bool,
    /// It listens on a loopback port, too.
    pub tcp: bool,
    /// Further settings, as `name=value`.
    pub settings: Vec<String>,
    /// It speaks TLS, where it listens on a port.
    pub tls: Option<Tls>,
}

/// What a server with TLS has, in PEM.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Its certificate.
    pub certificate: String,
    /// The key of that.
    pub key: String,
    /// The authority of its clients, who may then show certificates.
    pub clients: String,
}

/// A running server. Dropped, or with the process that started it, it is stopped and its folder removed.
pub struct Server {
    folder: tempfile::TempDir,
    programs: Programs,
    options: Options,
    port: u16,
    running: Mutex<Option<Running>>,
    databases: AtomicU32,
}

/// The server's process, and the thread that lives as long: the system stops the one when the other is gone.
struct Running {
    child: Child,
    parent: mpsc::Sender<()>,
}

#[derive(Debug, Clone)]
struct Programs {
    folder: Option<PathBuf>,
}

impl Programs {
    fn find() -> Result<Self, ServerError> {
        let on_path = |name: &str| {
            std::env::var_os("PATH")
                .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()))
        };
        if on_path("postgres") && on_path("initdb") {
            return Ok(Self { folder: None });
        }
        let mut versions: Vec<PathBuf> = fs::read_dir(DEBIAN)
            .map(|found| found.flatten().map(|entry| entry.path().join("bin")).collect())
            .unwrap_or_default();
        versions.sort();
        match versions.into_iter().rev().find(|bin| bin.join("postgres").is_file()) {
            Some(folder) => Ok(Self { folder: Some(folder) }),
            None => Err(ServerError::NotInstalled("postgres")),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.as_ref().map_or_else(|| PathBuf::from(name), |folder| folder.join(name))
    }
}

/// Runs the server in the folder `$0`. When told to end, it stops the server (SIGINT: at once, in order) and removes the
/// folder; when the server is killed, the folder stays.
const KEEPER: &str = r#"trap 'kill -INT $pid; wait $pid; rm -rf "$0"; exit' TERM
"$@" & pid=$!
wait $pid"#;

/// A command as whoever PostgreSQL may run as.
fn command(options: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
    }
    command.args(options).arg("--").current_dir("/");
    command
}

fn is_root() -> bool {
    // The owner of a process's own folder is who runs it.
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

fn run(what: &str, command: &mut Command) -> Result<String, ServerError> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => ServerError::NotInstalled("setpriv"),
        _ => io(what)(e),
    })?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(text),
        false => Err(ServerError::Failed { what: what.into(), output: text.trim().into() }),
    }
}

impl Server {
    /// Makes a new cluster and starts it.
    pub fn start(options: Options) -> Result<Self, ServerError> {
        let programs = Programs::find()?;
        let folder = tempfile::Builder::new()
            .prefix("wavepass-postgres-")
            .tempdir()
            .map_err(io("a scratch folder"))?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))
            .map_err(io("the scratch folder"))?;
        if is_root() {
            let mut chown = Command::new("chown");
            run("chown", chown.arg("postgres").arg(folder.path()))?;
        }
        let mut initdb = command(&[]);
        initdb.arg(programs.path("initdb")).arg("-D").arg(folder.path().join("data"));
        initdb.args(["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]);
        run("initdb", &mut initdb)?;
        if let Some(tls) = &options.tls {
            let files =
                [("server.crt", &tls.certificate), ("server.key", &tls.key), ("clients.crt", &tls.clients)];
            for (name, text) in files {
                let path = folder.path().join(name);
                fs::write(&path, text).map_err(io(name))?;
                // The server takes no key that others can read.
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(io(name))?;
                if is_root() {
                    run("chown", Command::new("chown").arg("postgres").arg(&path))?;
                }
            }
        }
        let port = if options.tcp { free_port()? } else { 5432 };
        let server =
            Self { folder, programs, options, port, running: Mutex::new(None), databases: AtomicU32::new(0) };
        server.start_again()?;
        Ok(server)
    }

    /// Starts it on the same cluster after [`kill`](Self::kill).
    pub fn start_again(&self) -> Result<(), ServerError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let before = self.read_log().len();
            match self.start_once(deadline) {
                // Backends outlive a killed server by a moment, and while one does, no other server starts.
                Err(_) if Instant::now() < deadline && self.says_since(before, OTHERS_LEFT) => {
                    std::thread::sleep(PAUSE);
                }
                done => return done,
            }
        }
    }

    fn start_once(&self, deadline: Instant) -> Result<(), ServerError> {
        // The keeper is told to end when its parent does.
        let mut command = command(&["--pdeathsig=TERM"]);
        command.args(["sh", "-c", KEEPER]).arg(self.folder.path()).arg(self.programs.path("postgres"));
        command.arg("-D").arg(self.folder.path().join("data")).arg("-k").arg(self.folder.path());
        command.args(["-p", &self.port.to_string(), "-c", "max_connections=300"]);
        command.args(["-h", if self.options.tcp { "127.0.0.1" } else { "" }]);
        if !self.options.durable {
            command.args(["-c", "fsync=off", "-c", "full_page_writes=off"]);
        }
        if self.options.tls.is_some() {
            let file = |name| self.folder.path().join(name).display().to_string();
            command.args(["-c", "ssl=on", "-c", &format!("ssl_cert_file={}", file("server.crt"))]);
            command.args(["-c", &format!("ssl_key_file={}", file("server.key"))]);
            command.args(["-c", &format!("ssl_ca_file={}", file("clients.crt"))]);
        }
        for setting in &self.options.settings {
            command.args(["-c", setting]);
        }
        let log = fs::File::options().create(true).append(true).open(self.log()).map_err(io("the log"))?;
        let errors = log.try_clone().map_err(io("the log"))?;
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        // The system sends its signal when the thread that started the process ends, not the process: so this one waits.
        let (started, child) = mpsc::channel();
        let (parent, end) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            let gone = started.send(command.spawn()).is_err();
            while !gone && end.recv().is_ok() {}
        });
        let child = child.recv().unwrap_or_else(|_| Err(io::Error::other("the thread died")));
        let child = child.map_err(io("postgres"))?;
        *self.lock() = Some(Running { child, parent });
        while run("psql", &mut self.psql("postgres", "SELECT 1")).is_err() {
            let ended = self.lock().as_mut().is_some_and(|r| matches!(r.child.try_wait(), Ok(Some(_))));
            if ended || Instant::now() > deadline {
                let what = "postgres".into();
                return Err(ServerError::Failed { what, output: self.read_log() });
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// What the server has logged.
    pub fn read_log(&self) -> String {
        let mut text = String::new();
        // Only for messages.
        let _ = fs::File::open(self.log()).and_then(|mut file| file.read_to_string(&mut text));
        text
    }

    /// Whether it logged this, beyond the log's first bytes.
    fn says_since(&self, bytes: usize, what: &str) -> bool {
        self.read_log().get(bytes..).is_some_and(|log| log.contains(what))
    }

    fn psql(&self, database: &str, statement: &str) -> Command {
        let mut command = Command::new(self.programs.path("psql"));
        command.args([
            "-X",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            "-d",
            database,
            "-c",
            statement,
        ]);
        command.arg("-h").arg(self.folder.path()).args(["-p", &self.port.to_string()]);
        command
    }

    /// Runs a statement; gives what `psql` prints.
    pub fn run(&self, database: &str, statement: &str) -> Result<String, ServerError> {
        run("psql", &mut self.psql(database, statement))
    }

    /// Makes a new database; gives its name.
    pub fn new_database(&self) -> Result<String, ServerError> {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.run("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(name)
    }

    /// Removes a database, whoever is connected to it.
    pub fn drop_database(&self, name: &str) -> Result<(), ServerError> {
        self.run("postgres", &format!("DROP DATABASE {name} WITH (FORCE)")).map(drop)
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        match self.options.tcp {
            true => format!("postgres://postgres@127.0.0.1:{}/{database}", self.port),
            false => format!(
                "postgres://postgres@localhost:{}/{database}?host={}",
                self.port,
                self.socket().display()
            ),
        }
    }

    /// The folder of the socket.
    pub fn socket(&self) -> &Path {
        self.folder.path()
    }

    /// The port it listens on, or names its socket by.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path of one of PostgreSQL's programs, such as `pgbench`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.path(name)
    }

    /// Kills it where it stands, as a crash would; gone when this returns.
    pub fn kill(&self) -> Result<(), ServerError> {
        let Some(mut running) = self.lock().take() else { return Ok(()) };
        let file = self.folder.path().join("data").join("postmaster.pid");
        let text = fs::read_to_string(&file).map_err(io(file.display().to_string()))?;
        let process = text.lines().next().unwrap_or_default();
        run("kill", Command::new("kill").args(["-KILL", process]))?;
        running.child.wait().map_err(io("wait"))?;
        drop(running.parent);
        Ok(())
    }

    /// Stops it in order; its folder goes, too.
    fn stop(&self) -> Result<(), ServerError> {
        let Some(mut running) = self.lock().take() else { return Ok(()) };
        // The end of its parent thread tells the keeper to end.
        drop(running.parent);
        let deadline = Instant::now() + PATIENCE;
        while matches!(running.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                running.child.kill().map_err(io("kill"))?;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("postgres could not be stopped: {error}");
        }
    }
}

/// A port of the loopback interface that nobody uses now.
fn free_port() -> Result<u16, ServerError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(io("a free port"))?;
    Ok(listener.local_addr().map_err(io("a free port"))?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_committed_is_there_after_a_crash_and_a_restart() {
        let server = Server::start(Options { durable: true, ..Options::default() }).unwrap();
        let database = server.new_database().unwrap();
        server.run(&database, "CREATE TABLE t (n BIGINT); INSERT INTO t VALUES (7)").unwrap();
        server.kill().unwrap();
        assert!(server.run(&database, "SELECT n FROM t").is_err());
        server.start_again().unwrap();
        assert!(server.run(&database, "SELECT n FROM t").unwrap().contains('7'));
        let wrong = server.run(&database, "SELECT m FROM t").unwrap_err().to_string();
        assert!(wrong.contains("column \"m\""), "{wrong}");
        let folder = server.socket().to_path_buf();
        drop(server);
        assert!(!folder.exists());
    }

    #[test]
    fn it_starts_again_while_a_backend_of_the_killed_one_still_ends() {
        let server = Server::start(Options::default()).unwrap();
        let mut asleep = server.psql("postgres", "SELECT pg_sleep(600)").spawn().unwrap();
        let find = "SELECT 'pid:' || pid FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'";
        let backend = loop {
            let found = server.run("postgres", find).unwrap();
            if let Some(pid) = found.split("pid:").nth(1) {
                break pid.split_whitespace().next().unwrap().to_owned();
            }
        };
        let signal = |name: &str| run("kill", Command::new("kill").args([name, &backend])).unwrap();
        signal("-STOP");
        server.kill().unwrap();
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while !server.read_log().contains(OTHERS_LEFT) {
                    std::thread::sleep(PAUSE);
                }
                signal("-CONT");
            });
            server.start_again().unwrap();
        });
        assert!(server.run("postgres", "SELECT 7").unwrap().contains('7'));
        assert!(!asleep.wait().unwrap().success());
    }
}
