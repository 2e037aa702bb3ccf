//! Files that a command makes: taken before anything is entered, filled after it.
//!
//! What such a file holds (a gate's keys, a phone) is made once, so a place that cannot be written is found out before
//! the store changes. A reserved file that is not filled is removed again. An existing file is never touched.

use super::CommandError;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// An empty file of the caller's own, readable by its owner only.
pub(super) struct Reserved {
    path: PathBuf,
    file: Option<File>,
}

impl Reserved {
    /// Makes the file; fails where there is one, or where none can be.
    pub(super) fn take(path: &Path) -> Result<Self, CommandError> {
        if path.as_os_str() == "-" {
            return Err(
                "--out - is not standard output: what goes there is kept by logs and screens. Name a file; \
                        one that is called `-` is ./-"
                    .into(),
            );
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(path) {
            Ok(file) => Ok(Self { path: path.to_owned(), file: Some(file) }),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(format!("{} exists already: choose another file for --out", path.display()).into())
            }
            Err(e) => {
                Err(format!("{}: {e}: choose another file for --out; nothing was entered", path.display())
                    .into())
            }
        }
    }

    /// Where it is, for whoever fills it by name.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// It was filled by its name: makes that durable and keeps it.
    pub(super) fn keep(mut self) -> std::io::Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        file.sync_all()
    }

    /// Fills it, durably.
    pub(super) fn fill(mut self, bytes: &[u8]) -> Result<(), CommandError> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        written.map_err(|e| {
            // Half a file is of no use to anybody.
            let _ = std::fs::remove_file(&self.path);
            let path = self.path.display();
            format!("{path}: {e}; what the command entered stands, and the file is lost: retire or delete it, and do it again").into()
        })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // Ours, and empty or filled by half; where it cannot be removed, the caller has been told of a failure.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_filled_is_gone_and_one_of_somebody_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gate.wpg");
        drop(Reserved::take(&path).unwrap());
        assert!(!path.exists());
        Reserved::take(&path).unwrap().fill(b"keys").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"keys");
        assert!(Reserved::take(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"keys");
    }

    #[test]
    fn standard_output_is_no_file() {
        let refused = Reserved::take(Path::new("-")).err().unwrap().to_string();
        assert!(refused.starts_with("--out - is not standard output"), "{refused}");
        assert!(!Path::new("-").exists());
    }
}
