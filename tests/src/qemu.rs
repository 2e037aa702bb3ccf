//! A gate in QEMU: the real firmware, a simulated PN532 on its reader line, the gateway on its link, and a panel.

use city::supervisor::Addresses;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use wavepass_hce::pn532::SimulatedChip;

/// Bytes of the gate's flash.
pub const FLASH: usize = 4 << 20;
/// How long the gate may take for anything that a test waits for. No limit is tested by it.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Where `cargo x firmware` leaves the firmware.
pub fn firmware() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        |folder| Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder),
    );
    target.join("thumbv7em-none-eabihf/firmware/wavepass-mps2-an386")
}

/// The firmware as a station would have it: it takes no entropy from the host, and on this board finds none.
pub fn firmware_without_entropy() -> PathBuf {
    firmware().with_file_name("wavepass-mps2-an386-without-entropy")
}

/// What the panel said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// It waits for a card.
    Ready,
    /// It opened, for the tap with this number; true: the same tap again.
    Open(u32, bool),
    /// It refused, with this word, and journaled so under this number.
    Refused(String, Option<u32>),
    /// The way is free.
    Emergency,
    /// Out of service.
    OutOfService,
    /// The loop opened or closed the barrier.
    Barrier(bool),
    /// The emergency input opened it, by its interrupt alone.
    OpenedByInterrupt,
    /// The firmware has started.
    Started,
    /// It stops being a gate, for this reason.
    Stopped(String),
}

impl Shown {
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        Some(match *words.as_slice() {
            ["ready"] => Self::Ready,
            ["open", n] => Self::Open(n.parse().ok()?, false),
            ["again", n] => Self::Open(n.parse().ok()?, true),
            ["refuse", word] => Self::Refused(word.to_owned(), None),
            ["refuse", word, n] => Self::Refused(word.to_owned(), Some(n.parse().ok()?)),
            ["emergency"] => Self::Emergency,
            ["out_of_service"] => Self::OutOfService,
            ["barrier", "open"] => Self::Barrier(true),
            ["barrier", "closed"] => Self::Barrier(false),
            ["barrier", "open", "by", "interrupt"] => Self::OpenedByInterrupt,
            ["start"] => Self::Started,
            ["stopped", ..] => Self::Stopped(words[1..].join(" ")),
            _ => return None,
        })
    }

    /// True for the answer to a card.
    pub fn is_decision(&self) -> bool {
        matches!(self, Self::Open(..) | Self::Refused(_, Some(_)))
    }
}

/// A gate under power.
pub struct QemuGate {
    child: Child,
    /// The chip in front of it.
    pub chip: SimulatedChip,
    lines: Receiver<String>,
    panel: TcpStream,
    folder: PathBuf,
    starts: u32,
}

/// How a gate is powered up.
#[derive(Debug, Clone)]
pub struct Power {
    /// The program.
    pub firmware: PathBuf,
    /// The file that its entropy comes from; none is the host's generator.
    pub entropy: Option<PathBuf>,
    /// It hangs while it starts.
    pub hangs: bool,
    /// Its flash takes a millisecond for each read.
    pub slow_flash: bool,
}

impl Default for Power {
    fn default() -> Self {
        Self { firmware: firmware(), entropy: None, hangs: false, slow_flash: false }
    }
}

/// Makes an erased flash file.
pub fn blank_flash(path: &Path) -> io::Result<()> {
    fs::write(path, vec![0xFF; FLASH])
}

impl QemuGate {
    /// Powers a gate up: its flash is `flash.bin` in the folder, its provisioning file `gate.wpg`.
    pub fn power_up(folder: &Path, gateway: &Addresses, seed: u64) -> io::Result<Self> {
        Self::power_up_with(&Power::default(), folder, gateway, seed)
    }

    /// [`QemuGate::power_up`] in another way.
    pub fn power_up_with(power: &Power, folder: &Path, gateway: &Addresses, seed: u64) -> io::Result<Self> {
        let listen = || TcpListener::bind("127.0.0.1:0");
        let (reader, panel) = (listen()?, listen()?);
        let chip = SimulatedChip::start(reader, seed)?;
        let elf = &power.firmware;
        if !elf.is_file() {
            let why = format!("{} is missing: run `cargo x firmware`", elf.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, why));
        }
        let mut command = Command::new("qemu-system-arm");
        command.args(["-machine", "mps2-an386", "-display", "none", "-monitor", "none"]);
        for (name, address, more) in [
            ("reader", chip.address(), ""),
            ("link", gateway.link, ",reconnect=1"),
            ("panel", panel.local_addr()?, ""),
        ] {
            let (host, port) = (address.ip(), address.port());
            command.args(["-chardev", &format!("socket,id={name},host={host},port={port}{more},nodelay=on")]);
            command.args(["-serial", &format!("chardev:{name}")]);
        }
        let mut arguments = format!(
            "enable=on,target=native,arg=wavepass,arg=flash={},arg=provisioning={}",
            folder.join("flash.bin").display(),
            folder.join("gate.wpg").display(),
        );
        if let Some(entropy) = &power.entropy {
            arguments += &format!(",arg=entropy={}", entropy.display());
        }
        if power.hangs {
            arguments += ",arg=hang=start";
        }
        if power.slow_flash {
            arguments += ",arg=slow=flash";
        }
        command.args(["-semihosting-config", &arguments]).arg("-kernel").arg(elf);
        let append = |name: &str| fs::File::options().create(true).append(true).open(folder.join(name));
        command.stdin(Stdio::null()).stdout(append("log.defmt")?).stderr(append("qemu.log")?);
        let child = command.spawn()?;
        let mut gate = Unfinished(Some(child));
        let panel = accept(&panel, &mut gate, folder)?;
        panel.set_nodelay(true)?;
        let (heard, lines) = channel();
        let from = BufReader::new(panel.try_clone()?);
        std::thread::spawn(move || {
            for line in from.lines() {
                // A test that has ended listens no more.
                if line.map(|line| heard.send(line)).is_ok_and(|sent| sent.is_ok()) {
                    continue;
                }
                return;
            }
        });
        let child = gate.0.take().ok_or_else(|| io::Error::other("QEMU is gone"))?;
        Ok(Self { child, chip, lines, panel, folder: folder.to_owned(), starts: 0 })
    }

    /// The next thing that the panel shows; `None` where nothing comes in time.
    pub fn shown(&mut self, timeout: Duration) -> Option<Shown> {
        let end = Instant::now() + timeout;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(shown) = Shown::parse(&line) {
                        self.starts += u32::from(shown == Shown::Started);
                        return Some(shown);
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Waits until the panel shows what is wanted.
    ///
    /// # Panics
    /// If it does not.
    pub fn wait_for(&mut self, mut wanted: impl FnMut(&Shown) -> bool) -> Shown {
        let mut seen = Vec::new();
        while let Some(shown) = self.shown(PATIENCE) {
            if wanted(&shown) {
                return shown;
            }
            seen.push(shown);
        }
        panic!("the gate showed only {seen:?}; its files are in {}", self.folder.display());
    }

    /// The panel's inputs: `P` passed, `N` not passed, `E` and `e` emergency on and off.
    pub fn press(&mut self, input: u8) -> io::Result<()> {
        self.panel.write_all(&[input])
    }

    /// How often the firmware was seen to start under this power: more than once, and it was reset.
    pub fn starts(&self) -> u32 {
        self.starts
    }

    /// True while QEMU runs.
    pub fn is_running(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// The power goes, whatever the gate is doing.
    pub fn cut(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// The process, for whoever wants to kill it from elsewhere.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for QemuGate {
    fn drop(&mut self) {
        // It may have been cut already.
        let _ = self.cut();
    }
}

/// A QEMU that is killed unless it is taken out.
struct Unfinished(Option<Child>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn accept(listener: &TcpListener, qemu: &mut Unfinished, folder: &Path) -> io::Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let end = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
            Err(_) => {}
        }
        let ended = qemu.0.as_mut().map(Child::try_wait).transpose()?.flatten();
        if ended.is_some() || Instant::now() > end {
            let said = fs::read_to_string(folder.join("qemu.log")).unwrap_or_default();
            return Err(io::Error::other(format!("QEMU did not start ({ended:?}): {said}")));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
