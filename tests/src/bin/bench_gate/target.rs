//! The same taps on the gate's processor: QEMU counts instructions, exactly and repeatably.

use crate::Failure;
use crate::house::Said;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use wavepass_protocol::ecc::SigningKey;
use wavepass_protocol::time::UnixMs;
use wavepass_protocol::token::{Expiry, Token};

/// What the board is told to do.
#[derive(Default)]
pub struct Script {
    bytes: Vec<u8>,
}

impl Script {
    fn step(&mut self, kind: u8, name: &str) {
        self.bytes.push(kind);
        self.bytes.push(name.len() as u8);
        self.bytes.extend(name.as_bytes());
    }

    /// A tap whose answers are known.
    pub fn tap(&mut self, name: &str, time: UnixMs, unpredictable: [u8; 4], said: &Said) {
        self.step(1, name);
        self.bytes.extend(time.0.to_be_bytes());
        self.bytes.extend(unpredictable);
        self.bytes.push(said.answers.len() as u8);
        for answer in &said.answers {
            self.bytes.extend((answer.len() as u16).to_be_bytes());
            self.bytes.extend(answer);
        }
    }

    /// All idle work.
    pub fn idle(&mut self, name: &str) {
        self.step(2, name);
    }

    /// Verifications of one signature.
    pub fn verification(&mut self, name: &str) -> Result<(), Failure> {
        let key = SigningKey::from_bytes(&[0x77; 32]).ok_or("no such key")?;
        let message = [0x5A; 64];
        self.step(3, name);
        self.bytes.extend(key.public_key().x());
        self.bytes.extend(key.sign(&[&message], [9; 32]));
        self.bytes.extend((message.len() as u16).to_be_bytes());
        self.bytes.extend(message);
        Ok(())
    }

    /// A question to the deny list.
    pub fn look_up(&mut self, name: &str, token: &Token, expiry: Expiry) {
        self.step(4, name);
        self.bytes.extend(token.bcd());
        self.bytes.extend([expiry.year, expiry.month]);
    }
}

/// Instruction counts by name and what.
pub struct Counts(BTreeMap<(String, String), u64>);

impl Counts {
    /// One of them.
    pub fn get(&self, name: &str, what: &str) -> Result<u64, Failure> {
        let found = self.0.get(&(name.to_owned(), what.to_owned()));
        Ok(*found.ok_or_else(|| format!("the board did not print {name} {what}"))?)
    }
}

/// Plays a script on a flash.
pub fn play(elf: &Path, folder: &Path, flash: &[u8], script: &Script) -> Result<Counts, Failure> {
    let (flash_path, script_path) = (folder.join("flash.bin"), folder.join("script.bin"));
    std::fs::write(&flash_path, flash)?;
    std::fs::write(&script_path, &script.bytes)?;
    let arguments = format!(
        "enable=on,target=native,arg=bench,arg=flash={},arg=script={}",
        flash_path.display(),
        script_path.display()
    );
    let mut command = Command::new("qemu-system-arm");
    command.args(["-machine", "mps2-an386", "-display", "none", "-monitor", "none", "-serial", "null"]);
    command.args(["-icount", "shift=0", "-semihosting-config", &arguments, "-kernel"]).arg(elf);
    let child = command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).spawn()?;
    let id = child.id();
    let (done, waiting) = std::sync::mpsc::channel::<()>();
    let guard = std::thread::spawn(move || {
        // A board that hangs is a failure, not a wait without end.
        if waiting.recv_timeout(Duration::from_secs(300)).is_err() {
            let _ = Command::new("kill").arg(id.to_string()).status();
        }
    });
    let output = child.wait_with_output()?;
    let _ = done.send(());
    let _ = guard.join();
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(format!("the board ended with {}: {text}", output.status).into());
    }
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        if let [name, what, count] = *line.split_whitespace().collect::<Vec<_>>().as_slice() {
            counts.insert((name.to_owned(), what.to_owned()), count.parse()?);
        }
    }
    Ok(Counts(counts))
}
