//! PC/SC for the tests: libpcsclite to build with, pcscd with a virtual reader, and other people's programs that read
//! cards. pcscd is run here, without systemd, and only while its tests run.

use crate::phases::Failure;
use crate::setup::{apt, is_root, succeeds};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where pcscd listens.
const SOCKET: &str = "/run/pcscd/pcscd.comm";
/// The driver of the virtual reader.
const VPCD: &str = "/usr/lib/pcsc/drivers/serial/libifdvpcd.so";
/// How long pcscd may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(15);

/// Makes sure that programs can be built with PC/SC.
pub(crate) fn library() -> Result<(), Failure> {
    let there = || succeeds("pkg-config", &["--exists", "libpcsclite"]);
    if !there() {
        apt(&["libpcsclite-dev", "pkg-config"])?;
    }
    if there() {
        Ok(())
    } else {
        Err(Failure::said("libpcsclite is missing: run `apt-get install libpcsclite-dev pkg-config`".into()))
    }
}

fn missing() -> Vec<&'static str> {
    let programs = [("pcscd", "pcscd"), ("opensc-tool", "opensc"), ("pcsc_scan", "pcsc-tools")];
    let has = |program: &str| succeeds("sh", &["-c", &format!("PATH=$PATH:/usr/sbin command -v {program}")]);
    let mut packages: Vec<&str> =
        programs.into_iter().filter(|(program, _)| !has(program)).map(|(_, package)| package).collect();
    if !Path::new(VPCD).exists() {
        packages.push("vsmartcard-vpcd");
    }
    packages
}

/// Makes sure that pcscd, its virtual reader and other people's programs are there. Gives the Python that has pyscard.
pub(crate) fn programs() -> Result<PathBuf, Failure> {
    let packages = missing();
    if !packages.is_empty() {
        apt(&packages)?;
        let packages = missing();
        if !packages.is_empty() {
            let packages = packages.join(" ");
            return Err(Failure::said(format!("missing: run `apt-get install {packages}`")));
        }
    }
    pyscard()
}

/// The Python that has pyscard: a virtual environment in the target folder.
fn pyscard() -> Result<PathBuf, Failure> {
    // Whole, for tests run in folders of their own.
    let root = std::env::current_dir().map_err(|e| Failure::new("the current folder", e))?;
    let folder = root.join("target/tools/pyscard");
    let python = folder.join("bin/python");
    let there = |python: &Path| succeeds(&python.to_string_lossy(), &["-c", "import smartcard.System"]);
    if there(&python) {
        return Ok(python);
    }
    let script = format!(
        "python3 -m venv '{folder}' && '{folder}/bin/pip' install --quiet pyscard",
        folder = folder.display()
    );
    if succeeds("sh", &["-c", &script]) && there(&python) {
        return Ok(python);
    }
    let system = PathBuf::from("/usr/bin/python3");
    if there(&system) || (apt(&["python3-pyscard"]).is_ok() && there(&system)) {
        return Ok(system);
    }
    Err(Failure::said(
        "pyscard is missing: run `pip install pyscard` or `apt-get install python3-pyscard`".into(),
    ))
}

/// pcscd, until it is dropped.
pub(crate) struct Pcscd {
    /// None where one was running before, which is left alone.
    child: Option<Child>,
}

impl Pcscd {
    /// Starts pcscd in the foreground, as root.
    pub(crate) fn start() -> Result<Self, Failure> {
        if UnixStream::connect(SOCKET).is_ok() {
            eprintln!("pcscd is running already: it is used, and left running");
            return Ok(Self { child: None });
        }
        let mut options = vec!["--foreground"];
        // Without systemd there is no polkit to ask; older ones do not know the option.
        if succeeds("sh", &["-c", "PATH=$PATH:/usr/sbin pcscd --help 2>&1 | grep -q disable-polkit"]) {
            options.push("--disable-polkit");
        }
        let script = format!("PATH=$PATH:/usr/sbin exec pcscd {}", options.join(" "));
        let mut command = if is_root() { Command::new("sh") } else { sudo("sh") };
        let log =
            std::fs::File::create("target/pcscd.log").map_err(|e| Failure::new("target/pcscd.log", e))?;
        let error = log.try_clone().map_err(|e| Failure::new("target/pcscd.log", e))?;
        command.args(["-c", &script]).stdin(Stdio::null()).stdout(log).stderr(error);
        let child = command.spawn().map_err(|e| Failure::new("pcscd", e))?;
        let mut pcscd = Self { child: Some(child) };
        let end = Instant::now() + PATIENCE;
        while UnixStream::connect(SOCKET).is_err() {
            let ended = pcscd.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() || Instant::now() > end {
                return Err(Failure::said("pcscd did not start: see target/pcscd.log".into()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(pcscd)
    }
}

impl Drop for Pcscd {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        let id = child.id().to_string();
        let mut kill = if is_root() { Command::new("kill") } else { sudo("kill") };
        let asked = kill.args(["-TERM", &id]).status();
        let end = Instant::now() + PATIENCE;
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() > end || asked.is_err() {
                eprintln!("pcscd (process {id}) does not end: stop it by hand");
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn sudo(program: &str) -> Command {
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}
