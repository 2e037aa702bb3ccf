//! The locks on the data folder and on a SQLite file: one process at a time. The system lets go of them when the process ends,
//! however it ends, so that a crash leaves no stale lock.

use super::StoreError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// The second line of the lock file of a SQLite file in which there was a database.
const MADE: &str = "database made";

/// A lock, held for as long as it lives.
pub(super) struct DataLock {
    file: File,
    path: PathBuf,
    /// Its file says that what it locks was made.
    made: bool,
}

impl DataLock {
    /// Takes the folder, making it (readable by its owner only) if it is missing.
    pub(super) fn take(data: &Path) -> Result<Self, StoreError> {
        make_private_folder(data).map_err(io(data))?;
        Self::hold(&of_folder(data), |holder| StoreError::Locked { path: data.to_path_buf(), holder })
    }

    /// Takes a SQLite file, which processes with other data folders may know, too: by a file beside it, for SQLite's own locks
    /// on the file itself would go when any handle of it is closed. A link to it is followed.
    pub(super) fn of_file(database: &Path) -> Result<Self, StoreError> {
        let real = match std::fs::canonicalize(database) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => database.to_path_buf(),
            real => real.map_err(io(database))?,
        };
        let lock = Self::hold(&of_database(&real), |holder| StoreError::Served {
            path: database.to_path_buf(),
            holder,
        })?;
        // An empty one in its place would look as if nothing had ever been, and be in the way of a copy.
        match lock.made && !real.exists() {
            true => Err(StoreError::Gone { path: database.to_path_buf(), lock: lock.path }),
            false => Ok(lock),
        }
    }

    /// Notes that there is a database in the file now.
    pub(super) fn remember(&mut self) -> Result<(), StoreError> {
        if !self.made {
            writeln!(self.file, "{MADE}").map_err(io(&self.path))?;
            self.made = true;
        }
        Ok(())
    }

    fn hold(path: &Path, held: impl FnOnce(String) -> StoreError) -> Result<Self, StoreError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io(path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut said = String::new();
                // Only for the message: where it cannot be read, the owner stays unnamed.
                let _ = file.take(100).read_to_string(&mut said);
                let holder = said.lines().next().map_or("", str::trim);
                return Err(held(if holder.is_empty() { "unknown".into() } else { holder.into() }));
            }
            Err(TryLockError::Error(source)) => return Err(io(path)(source)),
        }
        let mut said = String::new();
        (&file).take(100).read_to_string(&mut said).map_err(io(path))?;
        let made = said.lines().any(|line| line == MADE);
        let mut text = format!("process {}\n", std::process::id());
        if made {
            text += MADE;
            text.push('\n');
        }
        file.set_len(0).map_err(io(path))?;
        file.rewind().map_err(io(path))?;
        file.write_all(text.as_bytes()).map_err(io(path))?;
        Ok(Self { file, path: path.to_path_buf(), made })
    }
}

/// Whether the lock of a data folder was ever taken.
pub(super) fn was_taken(data: &Path) -> bool {
    of_folder(data).exists()
}

fn of_folder(data: &Path) -> PathBuf {
    data.join("lock")
}

/// The lock file of a SQLite file.
pub(super) fn of_database(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> StoreError {
    let path = path.to_path_buf();
    move |source| StoreError::Io { path: path.clone(), source }
}

pub(super) fn make_private_folder(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}
