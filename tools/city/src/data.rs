//! The data folder: what lies where, and how a file in it is replaced whole.

use crate::world::Size;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// How far a day has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What the day is made of.
    pub size: Size,
    /// True once keys, accounts, tokens, phones and gates are all there.
    pub ready: bool,
    /// Steps that have ended, their alerts and lists in effect.
    pub steps: u64,
}

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file in it cannot be read or written.
    #[error("{path}: {why}")]
    File {
        /// Which.
        path: String,
        /// Why.
        #[source]
        why: io::Error,
    },
    /// A file in it is not what it should be.
    #[error(
        "{path} is damaged ({why}): remove the data folder, or choose another with --data, and play the day anew"
    )]
    Content {
        /// Which.
        path: String,
        /// Why.
        why: String,
    },
    /// It is a file or a device.
    #[error("{0} is no folder: choose one with --data")]
    NoFolder(String),
    /// It holds something else.
    #[error("{0} holds files but no city: choose an empty folder with --data")]
    Foreign(String),
    /// It holds another day.
    #[error("{path} holds a day of --taps {} --phones {} --gates {} --seed {}: play that one, or choose another folder with --data", .found.taps, .found.phones, .found.gates, .found.seed)]
    OtherDay {
        /// Which folder.
        path: String,
        /// What it holds.
        found: Size,
    },
    /// Another city plays there.
    #[error("{0} is in use by another city")]
    InUse(String),
}

impl DataError {
    /// A failure of the file system at a path.
    pub fn at(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |why| Self::File { path: path.display().to_string(), why }
    }
}

/// The data folder.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// Opens or makes the folder; gives what it holds of a day, if it holds one, and the lock that keeps
    /// others out while it lives.
    pub fn open(root: &Path, size: Size) -> Result<(Self, Option<Progress>, fs::File), DataError> {
        if root.exists() && !root.is_dir() {
            return Err(DataError::NoFolder(root.display().to_string()));
        }
        make_private(root)?;
        let root = root.canonicalize().map_err(DataError::at(root))?;
        let folder = Self { root };
        let marker = folder.progress();
        if !marker.exists() {
            let foreign = fs::read_dir(&folder.root).map_err(DataError::at(&folder.root))?.flatten();
            if foreign.into_iter().any(|e| e.file_name() != "city.lock") {
                return Err(DataError::Foreign(folder.root.display().to_string()));
            }
        }
        let lock_path = folder.root.join("city.lock");
        let lock = fs::File::create(&lock_path).map_err(DataError::at(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(DataError::InUse(folder.root.display().to_string()));
            }
            Err(fs::TryLockError::Error(why)) => return Err(DataError::at(&lock_path)(why)),
        }
        let progress: Option<Progress> = if marker.exists() { Some(read_json(&marker)?) } else { None };
        match progress {
            Some(found) if found.size != size => {
                Err(DataError::OtherDay { path: folder.root.display().to_string(), found: found.size })
            }
            progress => Ok((folder, progress, lock)),
        }
    }

    /// Writes how far the day has come.
    pub fn save(&self, progress: &Progress) -> Result<(), DataError> {
        write_json(&self.progress(), progress)
    }

    /// Removes what an unfinished set-up left. Only what city itself makes is touched.
    pub fn clear(&self) -> Result<(), DataError> {
        for made in ["keys", "gates", "phones"] {
            remove(&self.root.join(made), |p| fs::remove_dir_all(p))?;
        }
        for made in [
            "gateway.sqlite",
            "gateway.sqlite-wal",
            "gateway.sqlite-shm",
            "gateway.sqlite.lock",
            "passphrase",
            "cards.json",
        ] {
            remove(&self.root.join(made), |p| fs::remove_file(p))?;
        }
        Ok(())
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn progress(&self) -> PathBuf {
        self.root.join("city.json")
    }

    /// Key files.
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// The key files' passphrase.
    pub fn passphrase(&self) -> PathBuf {
        self.root.join("passphrase")
    }

    /// The default database.
    pub fn database(&self) -> String {
        format!("sqlite:{}", self.root.join("gateway.sqlite").display())
    }

    /// Where the gateway says what it listens on.
    pub fn gateway_ready(&self) -> PathBuf {
        self.root.join("gateway-ready.json")
    }

    /// The gateway's log.
    pub fn gateway_log(&self) -> PathBuf {
        self.root.join("gateway.log")
    }

    /// The gateway's administrator token.
    pub fn admin_token(&self) -> PathBuf {
        self.root.join("admin-token")
    }

    /// A gate's own folder.
    pub fn gate(&self, id: u32) -> PathBuf {
        self.root.join("gates").join(format!("{id:04}"))
    }

    /// The phones' folder.
    pub fn phones(&self) -> PathBuf {
        self.root.join("phones")
    }

    /// The finished day's report.
    pub fn report(&self) -> PathBuf {
        self.root.join("report.json")
    }
}

fn remove(path: &Path, how: impl Fn(&Path) -> io::Result<()>) -> Result<(), DataError> {
    match how(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(DataError::at(path)(e)),
        _ => Ok(()),
    }
}

/// Makes a folder that is its owner's alone: keys and phones lie in it.
pub fn make_private(path: &Path) -> Result<(), DataError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(DataError::at(path))
}

/// Makes sure that a file can be written later, leaving whatever is there.
pub fn writable(path: &Path) -> Result<(), DataError> {
    let new = !path.exists();
    fs::File::options().create(true).append(true).open(path).map_err(DataError::at(path))?;
    if new {
        fs::remove_file(path).map_err(DataError::at(path))?;
    }
    Ok(())
}

/// Reads a JSON file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, DataError> {
    let text = match fs::read_to_string(path) {
        // Neither bytes that are no text nor a text that is no JSON was ever written by city.
        Err(e) if e.kind() == io::ErrorKind::InvalidData => String::new(),
        read => read.map_err(DataError::at(path))?,
    };
    serde_json::from_str(&text)
        .map_err(|e| DataError::Content { path: path.display().to_string(), why: e.to_string() })
}

/// Replaces a file whole: a cut leaves the old one or the new one.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), DataError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| DataError::Content { path: path.display().to_string(), why: e.to_string() })?;
    replace(path, text.as_bytes())
}

/// See [`write_json`].
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    let part = path.with_extension("part");
    let mut file = fs::File::create(&part).map_err(DataError::at(&part))?;
    file.write_all(bytes).map_err(DataError::at(&part))?;
    drop(file);
    fs::rename(&part, path).map_err(DataError::at(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn a_file_is_read_back_as_it_was_written_to_the_last_bit_of_a_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rates.json");
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        // The first of them lost its last bit to a reader that rounds as it goes.
        let mut rates = vec![1_106.798_843_270_361_9, 0.0, f64::MIN_POSITIVE, f64::MAX];
        rates.extend((0..10_000).map(|_| rng.random_range(0.0..100_000.0)));

        write_json(&path, &rates).unwrap();
        let read: Vec<f64> = read_json(&path).unwrap();
        assert!(read.iter().map(|rate| rate.to_bits()).eq(rates.iter().map(|rate| rate.to_bits())));
    }
}
