//! Somebody else's kernel: a command that is run once for each case, and what its last line says.

use crate::bench::Said;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How much of the end of what a command says is kept, bytes: its last line is all that counts.
const KEPT: usize = 4096;
/// How many characters of that line are told where it is not what was expected.
const TOLD: usize = 80;
/// How often a command that runs is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// A command and what it is told of its surroundings.
#[derive(Debug, Clone)]
pub struct Foreign {
    /// For `sh -c`.
    pub command: String,
    /// The name of the reader with the phone: `RIG_READER`.
    pub reader: String,
    /// The file with the public keys of the phones' authorities: `RIG_CA_KEYS`.
    pub keys: PathBuf,
    /// The longest that it may take for a case; then it is killed with all that it started.
    pub limit: Duration,
}

impl Foreign {
    /// Runs the command for a case, whose name is in `RIG_CASE`. A command that takes too long, fails or says nothing has
    /// said so, which is no case's expectation; an error means that it could not be run.
    pub fn ask(&self, case: &str) -> Result<Said, String> {
        let wrong = |e: std::io::Error| format!("{}: {e}", self.command);
        let end = Instant::now() + self.limit;
        let mut child = Command::new("sh")
            .args(["-c", &self.command])
            .env("RIG_READER", &self.reader)
            .env("RIG_CASE", case)
            .env("RIG_CA_KEYS", &self.keys)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(wrong)?;
        let (send, receive) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            // Whoever does not want it any more has gone.
            std::thread::spawn(move || send.send(tail(stdout)));
        }
        let status = loop {
            match child.try_wait().map_err(wrong)? {
                Some(status) => break Some(status),
                None if Instant::now() >= end => break None,
                None => std::thread::sleep(LOOK),
            }
        };
        // What it started may hold its output open longer than it lives itself.
        let said = receive.recv_timeout(end.saturating_duration_since(Instant::now()).max(LOOK));
        let (Some(status), Ok(said)) = (status, said) else {
            stop(&mut child);
            return Ok(word(format!("no answer within {} s", self.limit.as_secs())));
        };
        let said = String::from_utf8_lossy(&said);
        let line = said.lines().rev().map(str::trim).find(|line| !line.is_empty());
        let line: Option<String> = line.map(|line| line.chars().take(TOLD).collect());
        Ok(word(match (status.success(), line) {
            (true, Some(line)) => line.strip_prefix("refuse ").unwrap_or(&line).to_owned(),
            (true, None) => "nothing said".to_owned(),
            (false, Some(line)) => format!("failed with {status} after `{line}`"),
            (false, None) => format!("failed with {status}"),
        }))
    }
}

fn word(word: String) -> Said {
    Said { word, method: None }
}

/// Kills a command and what it started.
fn stop(child: &mut Child) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(group) = group {
        // There may be nobody left.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}

/// The last bytes of all that comes.
fn tail(mut from: impl Read) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut part = [0; KEPT];
    // An output that can be read no more has ended.
    while let Ok(len @ 1..) = from.read(&mut part) {
        kept.extend_from_slice(&part[..len]);
        kept.drain(..kept.len().saturating_sub(KEPT));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(command: &str, limit: Duration) -> String {
        let foreign =
            Foreign { command: command.to_owned(), reader: "R 1".to_owned(), keys: "/k.json".into(), limit };
        foreign.ask("late: house").unwrap().word
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_last_line_counts_and_the_surroundings_are_told() {
        assert_eq!(asked("echo before; echo refuse expired; echo", LONG), "expired");
        assert_eq!(asked("echo \"$RIG_READER,$RIG_CASE,$RIG_CA_KEYS\"", LONG), "R 1,late: house,/k.json");
        assert_eq!(asked("yes x | head -c 1000000; echo; echo open", LONG), "open", "more than is kept");
    }

    #[test]
    fn a_command_that_fails_or_says_nothing_is_named_so() {
        assert_eq!(asked("echo open; exit 3", LONG), "failed with exit status: 3 after `open`");
        assert_eq!(asked("exit 4", LONG), "failed with exit status: 4");
        assert_eq!(asked("true", LONG), "nothing said");
    }

    #[test]
    fn a_command_that_takes_too_long_is_killed_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let (begun, alive) = (folder.path().join("begun"), folder.path().join("alive"));
        // The second one holds the output open, and would leave a mark.
        let command =
            format!("(touch {}; sleep 600; touch {}) & sleep 600", begun.display(), alive.display());
        assert_eq!(asked(&command, Duration::from_secs(1)), "no answer within 1 s");
        assert_eq!(asked("sleep 600 & echo open", Duration::from_secs(1)), "no answer within 1 s");
        assert!(!alive.exists());
    }
}
