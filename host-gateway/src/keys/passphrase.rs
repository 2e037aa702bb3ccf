//! The passphrase of a key file: from a file, the environment, or the terminal.

use clap::Args;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use zeroize::Zeroizing;

/// The fewest bytes a new passphrase may have.
pub(super) const MIN_LEN: usize = 8;
/// The longest line that is read as a passphrase.
const MAX_LEN: usize = 1024;
/// The longest passphrase file that is read.
const MAX_FILE: u64 = 64 << 10;
const VARIABLE: &str = "WAVEPASS_PASSPHRASE";

/// A passphrase. No `Debug`, wiped when dropped.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<String>);

/// Where the passphrase of key files comes from.
#[derive(Debug, Clone, Default, Args)]
pub struct PassphraseArgs {
    /// File whose first line is the passphrase of the key files. Without it: the variable WAVEPASS_PASSPHRASE,
    /// else asked for on the terminal.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// Why there is no passphrase.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    /// The file could not be read.
    #[error("passphrase file {path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Neither file nor variable nor terminal.
    #[error("no passphrase: give --passphrase-file, set {VARIABLE}, or run on a terminal")]
    None,
    /// The terminal could not be read.
    #[error("the terminal could not be read: {0}")]
    Terminal(std::io::Error),
    /// Empty, or longer than 1024 bytes.
    #[error("a passphrase of {0} bytes")]
    Length(usize),
    /// The two entries differ.
    #[error("the two passphrases differ")]
    Differ,
}

impl Passphrase {
    /// Takes a passphrase.
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Finds the passphrase of an existing file.
    pub fn from_args(args: &PassphraseArgs) -> Result<Self, PassphraseError> {
        Self::find(args, "passphrase: ").map(|(passphrase, _)| passphrase)
    }

    /// Finds the passphrase of a file to be made: one typed at a terminal is asked for twice.
    pub fn from_args_new(args: &PassphraseArgs) -> Result<Self, PassphraseError> {
        let (passphrase, typed) = Self::find(args, "new passphrase: ")?;
        if typed && prompt("again: ")?.as_str() != passphrase.0.as_str() {
            return Err(PassphraseError::Differ);
        }
        Ok(passphrase)
    }

    fn find(args: &PassphraseArgs, question: &str) -> Result<(Self, bool), PassphraseError> {
        if let Some(path) = &args.passphrase_file {
            return Self::from_file(path).map(|p| (p, false));
        }
        if let Ok(text) = std::env::var(VARIABLE) {
            let text = Zeroizing::new(text);
            return Self::checked(&text).map(|p| (p, false));
        }
        if !std::io::stdin().is_terminal() {
            return Err(PassphraseError::None);
        }
        Self::checked(&prompt(question)?).map(|p| (p, true))
    }

    /// Reads the first line of a file.
    pub fn from_file(path: &Path) -> Result<Self, PassphraseError> {
        // Its first line counts; anything long behind it is another file, named by mistake.
        let text = crate::input::read_text(path, MAX_FILE)
            .map_err(|source| PassphraseError::File { path: path.to_owned(), source })?;
        let text = Zeroizing::new(text);
        Self::checked(text.lines().next().unwrap_or_default())
    }

    fn checked(text: &str) -> Result<Self, PassphraseError> {
        match text.len() {
            1..=MAX_LEN => Ok(Self::new(text)),
            len => Err(PassphraseError::Length(len)),
        }
    }
}

fn prompt(question: &str) -> Result<Zeroizing<String>, PassphraseError> {
    let mut terminal = std::io::stderr();
    write!(terminal, "{question}").and_then(|()| terminal.flush()).map_err(PassphraseError::Terminal)?;
    let quiet = echo(false);
    let mut line = Zeroizing::new(String::new());
    let read = std::io::stdin().lock().read_line(&mut line);
    if quiet {
        echo(true);
    }
    let _ = writeln!(terminal);
    read.map_err(PassphraseError::Terminal)?;
    Ok(Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned()))
}

// Echo is the terminal's own setting; `stty` changes it without a line of unsafe code here.
fn echo(on: bool) -> bool {
    Command::new("stty")
        .arg(if on { "echo" } else { "-echo" })
        .stdin(Stdio::inherit())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
