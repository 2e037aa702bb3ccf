//! The lock on the data folder: one process at a time. The system lets go of it when the process ends, however
//! it ends, so that a crash leaves no stale lock.

use super::StoreError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// The lock, held for as long as it lives.
pub(super) struct DataLock {
    _file: File,
}

impl DataLock {
    /// Takes the folder, making it (readable by its owner only) if it is missing.
    pub(super) fn take(data: &Path) -> Result<Self, StoreError> {
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| StoreError::Io { path, source }
        };
        make_private_folder(data).map_err(io(data))?;
        let path = data.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only for the message: where it cannot be read, the owner stays unnamed.
                let _ = file.take(100).read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() { "unknown".into() } else { holder.trim().into() };
                return Err(StoreError::Locked { path: data.to_path_buf(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(StoreError::Io { path, source }),
        }
        file.set_len(0).map_err(io(&path))?;
        file.rewind().map_err(io(&path))?;
        writeln!(file, "process {}", std::process::id()).map_err(io(&path))?;
        Ok(Self { _file: file })
    }
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
