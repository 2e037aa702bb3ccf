//! Copies of a SQLite database: made while it is served, checked, and put back into a folder that has none.
//!
//! A copy is one file in one state: what a transaction committed before it began is there whole, what came after is
//! not. PostgreSQL has programs of its own for this (`pg_dump`, `pg_restore`).

use super::migrations::SQLITE_MIGRATIONS;
use super::{Place, Store, StoreError};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

/// Why a copy was not made or not put back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Not a file of ours to copy.
    #[error("the database is on PostgreSQL: copy it with pg_dump, and put the copy back with pg_restore")]
    Postgres,
    /// Nothing to copy.
    #[error("there is no database at {0}")]
    Missing(PathBuf),
    /// Something stands where the copy would be put back.
    #[error("{0} exists already: a copy is only put back where no database is")]
    Occupied(PathBuf),
    /// SQLite does not read it, or finds it damaged.
    #[error("{path} is no sound copy: {why}")]
    Unsound {
        /// The copy.
        path: PathBuf,
        /// What SQLite says.
        why: String,
    },
    /// A sound database, and not one of this program's, or one of a later version of it.
    #[error("{path} is not a database of this version of Wavepass: {why}")]
    Foreign {
        /// The copy.
        path: PathBuf,
        /// What is missing or unknown.
        why: String,
    },
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> BackupError {
    let path = path.to_path_buf();
    move |source| BackupError::Io { path, source }
}

/// The file of a database that has one.
fn file_of(url: &str) -> Result<PathBuf, BackupError> {
    match Place::parse(url)? {
        Place::Sqlite(file) => Ok(file),
        Place::Postgres(_) => Err(BackupError::Postgres),
    }
}

/// Copies the database at `url` into `out`, which does not exist or is empty, and checks the copy. A gateway may serve
/// the database meanwhile, and goes on writing.
pub async fn copy(url: &str, out: &Path) -> Result<(), BackupError> {
    let file = file_of(url)?;
    if !file.is_file() {
        return Err(BackupError::Missing(file));
    }
    let failed = |source| StoreError::Open { name: file.display().to_string(), source };
    let options = SqliteConnectOptions::new().filename(&file).busy_timeout(super::BUSY);
    let mut conn = options.connect().await.map_err(failed)?;
    let name = out.to_str().ok_or_else(|| BackupError::Io {
        path: out.to_path_buf(),
        source: std::io::Error::other("the name of the copy must be valid Unicode"),
    })?;
    let copied = sqlx::query("VACUUM INTO ?").bind(name).execute(&mut conn).await;
    // Closed whatever came of it: the copy's fault is the one to tell.
    let _ = conn.close().await;
    copied.map_err(StoreError::from)?;
    check(out).await
}

/// Reads a copy from end to end: SQLite finds no fault in it, and its schema is one that this version brings up to date.
pub async fn check(copy: &Path) -> Result<(), BackupError> {
    if !copy.is_file() {
        return Err(BackupError::Missing(copy.to_path_buf()));
    }
    let unsound = |e: sqlx::Error| BackupError::Unsound { path: copy.to_path_buf(), why: e.to_string() };
    // A copy has no log beside it, and nobody writes to it: it is read as it lies there.
    let options = SqliteConnectOptions::new().filename(copy).read_only(true).immutable(true);
    let mut conn = options.connect().await.map_err(unsound)?;
    let faults = faults(&mut conn).await.map_err(unsound)?;
    if !faults.is_empty() {
        return Err(BackupError::Unsound { path: copy.to_path_buf(), why: faults.join("; ") });
    }
    let foreign = |why: String| BackupError::Foreign { path: copy.to_path_buf(), why };
    let versions: Vec<i64> =
        sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success ORDER BY version")
            .fetch_all(&mut conn)
            .await
            .map_err(|_| foreign("it has no list of its schema's versions".into()))?;
    let _ = conn.close().await;
    if versions.is_empty() {
        return Err(foreign("its schema has no version".into()));
    }
    match versions.into_iter().find(|version| !SQLITE_MIGRATIONS.version_exists(*version)) {
        Some(version) => Err(foreign(format!("its schema has version {version}, which is not known"))),
        None => Ok(()),
    }
}

/// Up to three faults of each kind.
async fn faults(conn: &mut SqliteConnection) -> Result<Vec<String>, sqlx::Error> {
    // The number of faults that are told is a part of the pragma's text.
    let mut faults: Vec<String> =
        sqlx::query_scalar("PRAGMA integrity_check(3)").fetch_all(&mut *conn).await?;
    faults.retain(|line| line != "ok");
    let text = "SELECT 'a row of ' || \"table\" || ' names a row of ' || parent || ' that is not there' \
                FROM pragma_foreign_key_check LIMIT 3";
    let orphans: Vec<String> = sqlx::query_scalar(text).fetch_all(conn).await?;
    faults.extend(orphans);
    Ok(faults)
}

/// A copy on its way into a folder: under a name that no gateway opens, until [`Restoring::finish`].
pub struct Restoring {
    /// The database that was put back, up to date, to be changed before it is served.
    pub store: Store,
    beside: PathBuf,
    file: PathBuf,
}

/// Checks a copy and puts it back for the database at `url` in the data folder, where none is. What is there under the
/// final name, or would be taken for its log, is refused and left alone.
pub async fn put_back(copy: &Path, url: &str, data: &Path) -> Result<Restoring, BackupError> {
    let file = file_of(url)?;
    for taken in [file.clone(), with_suffix(&file, "-wal"), with_suffix(&file, "-journal")] {
        if taken.exists() {
            return Err(BackupError::Occupied(taken));
        }
    }
    check(copy).await?;
    let beside = with_suffix(&file, ".restoring");
    // Left by an attempt that was cut short; nothing else bears this name.
    for left in [beside.clone(), with_suffix(&beside, "-wal"), with_suffix(&beside, "-shm")] {
        match fs::remove_file(&left) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(&left)(e)),
            _ => {}
        }
    }
    if let Some(folder) = file.parent() {
        super::lock::make_private_folder(folder).map_err(io(folder))?;
    }
    let (from, to) = (copy.to_path_buf(), beside.clone());
    let copied = tokio::task::spawn_blocking(move || copy_private(&from, &to));
    copied.await.map_err(std::io::Error::other).and_then(|copied| copied).map_err(io(&beside))?;
    let name = beside.to_str().ok_or_else(|| StoreError::Unsupported(beside.display().to_string()))?;
    let store = Store::open(&format!("sqlite:{name}"), data).await?;
    Ok(Restoring { store, beside, file })
}

impl Restoring {
    /// Gives the database its name, in one step: a cut before it leaves no database, and a cut after it the whole one.
    pub async fn finish(self) -> Result<(), BackupError> {
        // Folds the log into the file, so that the file alone is the database.
        self.store.close().await;
        // A link and not a rename: what may have come to stand there meanwhile stays.
        fs::hard_link(&self.beside, &self.file).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => BackupError::Occupied(self.file.clone()),
            _ => io(&self.file)(e),
        })?;
        for left in [self.beside.clone(), super::lock::of_database(&self.beside)] {
            fs::remove_file(&left).map_err(io(&left))?;
        }
        match self.file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            Some(folder) => File::open(folder).and_then(|folder| folder.sync_all()).map_err(io(folder)),
            None => Ok(()),
        }
    }
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Copies a file into a new one that only its owner reads, durably.
fn copy_private(from: &Path, to: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut copy = options.open(to)?;
    std::io::copy(&mut File::open(from)?, &mut copy)?;
    copy.sync_all()
}
