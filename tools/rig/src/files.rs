//! Places for files, looked at before the work whose outcome goes there.

use std::fmt::Display;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

/// An error about a file or a name: that is named before it, unless the error names it itself.
pub(crate) fn at(place: &str, error: &dyn Display) -> String {
    let text = error.to_string();
    let named = text.starts_with(&format!("{place}:")) || text.contains(&format!("`{place}`"));
    if named { text } else { format!("{place}: {text}") }
}

/// Checks that a file can be written there. What is there stays, and nothing is left behind.
pub(crate) fn check_writable(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(_) => fs::remove_file(path),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            // To open a pipe waits for whoever reads it.
            let kind = fs::metadata(path)?.file_type();
            if kind.is_file() || kind.is_dir() {
                OpenOptions::new().write(true).open(path).map(drop)
            } else {
                Ok(())
            }
        }
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_named_once() {
        assert_eq!(at("a.toml", &"no such file"), "a.toml: no such file");
        assert_eq!(at("a.toml", &"a.toml: no such file"), "a.toml: no such file");
        assert_eq!(at("a", &"there is no profile `a`"), "there is no profile `a`");
    }

    #[test]
    fn a_place_is_looked_at_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("report.md");
        check_writable(&file).unwrap();
        assert!(!file.exists());
        fs::write(&file, "before").unwrap();
        check_writable(&file).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"before");
        assert!(check_writable(folder.path()).is_err(), "a folder");
        assert!(check_writable(&folder.path().join("none/report.md")).is_err());
    }
}
