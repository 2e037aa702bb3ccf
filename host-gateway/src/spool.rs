//! Files of other houses on their way in: kept in the data folder while they are read, and gone after it.
//!
//! Such a file may have hundreds of megabytes and is read twice, first to check all of it and then to book it, so it lies
//! on disk meanwhile, readable by its owner only, under the hash of its bytes. Nothing here looks into it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use crate::api::codec;
use crate::store::sql;

/// The most bytes of a file: a statement of about four million lines.
pub const MAX_BYTES: u64 = 2 << 30;
/// The most files that lie there at a time.
const MAX_FILES: usize = 8;
/// How long a file waits for the command that reads it.
const WAITS: Duration = Duration::from_secs(3_600);
/// Bytes read and written at a time.
const BLOCK: usize = 128 << 10;

/// Why a file is not kept.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// More bytes than a file may have.
    #[error("the file has more than {MAX_BYTES} bytes, the most that is taken in")]
    TooLarge,
    /// Too many files wait already.
    #[error("{MAX_FILES} files wait to be read: give their commands first, or wait an hour")]
    TooMany,
    /// No such file waits.
    #[error("no file of this hash waits to be read: send it again with POST /v1/files")]
    Unknown,
    /// The data folder fails.
    #[error("the file cannot be kept in the data folder: {0}")]
    Io(#[from] io::Error),
    /// The file itself fails, before it is here.
    #[error("{}: {source}", path.display())]
    Source {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A whole file in the data folder; it is removed when this is dropped.
#[derive(Debug)]
pub struct Spooled {
    path: PathBuf,
    hash: [u8; 32],
    bytes: u64,
}

impl Spooled {
    /// SHA-256 of its bytes.
    pub const fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// The hash in hexadecimal: its name.
    pub fn name(&self) -> String {
        sql::hex(&self.hash)
    }

    /// How many bytes it has.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its content, from the beginning.
    pub fn open(&self) -> io::Result<BufReader<File>> {
        Ok(BufReader::with_capacity(BLOCK, File::open(&self.path)?))
    }

    /// Leaves it under its name for a command that comes later.
    pub fn keep(mut self) -> Result<String, SpoolError> {
        let name = self.name();
        fs::rename(&self.path, self.path.with_file_name(&name))?;
        self.path = PathBuf::new();
        Ok(name)
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // Where it cannot be removed now, the next file removes it in an hour.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A file that is coming in; what there is of it is removed when this is dropped.
#[derive(Debug)]
pub struct Incoming {
    file: File,
    hash: Sha256,
    kept: Spooled,
}

impl Incoming {
    /// Makes room for a file in the data folder.
    pub fn begin(data: &Path) -> Result<Self, SpoolError> {
        let folder = folder(data);
        fs::create_dir_all(&folder)?;
        if tidy(&folder)? >= MAX_FILES {
            return Err(SpoolError::TooMany);
        }
        let path = private(&folder);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path)?;
        Ok(Self { file, hash: Sha256::new(), kept: Spooled { path, hash: [0; 32], bytes: 0 } })
    }

    /// Takes the next bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        self.kept.bytes += bytes.len() as u64;
        if self.kept.bytes > MAX_BYTES {
            return Err(SpoolError::TooLarge);
        }
        self.hash.update(bytes);
        Ok(self.file.write_all(bytes)?)
    }

    /// The file is whole.
    pub fn finish(self) -> Spooled {
        let Self { hash, mut kept, .. } = self;
        kept.hash = hash.finalize().into();
        kept
    }
}

/// Copies a file of the caller's.
pub fn copy(data: &Path, from: &Path) -> Result<Spooled, SpoolError> {
    let source = |source| SpoolError::Source { path: from.to_owned(), source };
    let mut input = File::open(from).map_err(source)?;
    let mut incoming = Incoming::begin(data)?;
    let mut block = vec![0; BLOCK];
    loop {
        match input.read(&mut block).map_err(source)? {
            0 => return Ok(incoming.finish()),
            read => incoming.write(&block[..read])?,
        }
    }
}

/// Takes a file that was kept, for one command alone.
pub fn take(data: &Path, name: &str) -> Result<Spooled, SpoolError> {
    let hash = codec::unhex(name).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let hash = hash.ok_or(SpoolError::Unknown)?;
    let folder = folder(data);
    let path = private(&folder);
    match fs::rename(folder.join(sql::hex(&hash)), &path) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(SpoolError::Unknown),
        Err(e) => return Err(e.into()),
    }
    let mut spooled = Spooled { path, hash, bytes: 0 };
    spooled.bytes = fs::metadata(&spooled.path)?.len();
    Ok(spooled)
}

fn folder(data: &Path) -> PathBuf {
    data.join("spool")
}

/// A name that nobody else uses.
fn private(folder: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    folder.join(format!("{}-{}.part", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// Removes what waited too long or was left by a process that died; gives how many files are left.
fn tidy(folder: &Path) -> io::Result<usize> {
    let mut left = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // One that another command has just taken or removed is not there any more.
        let Ok(changed) = entry.metadata().and_then(|data| data.modified()) else { continue };
        let age = SystemTime::now().duration_since(changed).unwrap_or_default();
        if age > WAITS {
            let _ = fs::remove_file(entry.path());
        } else {
            left += 1;
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(data: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder(data)).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn kept(data: &Path, content: &[u8]) -> String {
        let mut incoming = Incoming::begin(data).unwrap();
        content.chunks(3).for_each(|chunk| incoming.write(chunk).unwrap());
        incoming.finish().keep().unwrap()
    }

    #[test]
    fn a_file_waits_under_its_hash_for_one_command_and_is_gone_after_it() {
        let data = tempfile::tempdir().unwrap();
        let name = kept(data.path(), b"statement");
        assert_eq!(name, sql::hex(&Sha256::digest(b"statement")));
        assert_eq!(names(data.path()), std::slice::from_ref(&name));
        let spooled = take(data.path(), &name).unwrap();
        assert!(matches!(take(data.path(), &name), Err(SpoolError::Unknown)));
        let mut text = String::new();
        spooled.open().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), spooled.bytes(), spooled.name()), ("statement", 9, name));
        drop(spooled);
        assert!(names(data.path()).is_empty());
        assert!(matches!(take(data.path(), "../admin-token"), Err(SpoolError::Unknown)));
    }

    #[cfg(unix)]
    #[test]
    fn only_its_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let data = tempfile::tempdir().unwrap();
        let name = kept(data.path(), b"x");
        let mode = fs::metadata(folder(data.path()).join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn no_more_wait_than_there_is_room_for_and_half_a_file_leaves_nothing() {
        let data = tempfile::tempdir().unwrap();
        drop(Incoming::begin(data.path()).unwrap());
        assert!(names(data.path()).is_empty());
        for n in 0..MAX_FILES {
            kept(data.path(), &[n as u8]);
        }
        assert!(matches!(Incoming::begin(data.path()), Err(SpoolError::TooMany)));
        let old = folder(data.path()).join(&names(data.path())[0]);
        let past = SystemTime::now() - 2 * WAITS;
        File::options().append(true).open(&old).unwrap().set_modified(past).unwrap();
        drop(Incoming::begin(data.path()).unwrap());
        assert!(!old.exists());
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let data = tempfile::tempdir().unwrap();
        let refused = copy(data.path(), Path::new("nowhere.xml")).unwrap_err().to_string();
        assert!(refused.starts_with("nowhere.xml: "), "{refused}");
    }
}
