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

/// True if both are one regular file, there already or to be made. Into a device or a pipe, both may go.
pub(crate) fn same_file(one: &Path, other: &Path) -> bool {
    let whole = |path: &Path| match fs::canonicalize(path) {
        Ok(path) => fs::metadata(&path).is_ok_and(|there| there.is_file()).then_some(path),
        Err(_) => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = fs::canonicalize(folder.unwrap_or(Path::new("."))).ok()?;
            Some(folder.join(path.file_name()?))
        }
    };
    whole(one).is_some_and(|one| whole(other) == Some(one))
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
    fn a_file_is_the_same_by_whatever_path() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("in")).unwrap();
        assert!(same_file(&at("new"), &at("in/../new")), "not there yet");
        assert!(!same_file(&at("new"), &at("in/new")));
        fs::write(at("old"), "before").unwrap();
        std::os::unix::fs::symlink(at("old"), at("link")).unwrap();
        assert!(same_file(&at("old"), &at("link")));
        assert!(same_file(Path::new("new"), Path::new("./new")));
        assert!(!same_file(Path::new("/dev/null"), Path::new("/dev/null")));
        assert!(!same_file(&at("none/new"), &at("none/new")), "writing finds what is wrong there");
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
