//! The store: one database, SQLite in a file or PostgreSQL on a server, and one data folder owned by one process.
//!
//! Readers use [`Store::pool`]; whoever changes something waits for the one writer with [`Store::begin`]: of this
//! process on SQLite, of all processes on the same database on PostgreSQL. What changes rows that nobody else changes
//! meanwhile, parts of a day's tokens and stages of its deduction, goes on beside others of its kind there
//! ([`Store::begin_shard`]), and so does intake, group by group ([`Store::begin_beside`]). A commit is on disk when it returns. Calls are batch-sized, never row at a time. Statements are
//! written once for both databases: see [`db`].

pub mod backup;
pub mod db;
mod lock;
mod meeting;
mod migrations;
mod postgres;
pub(crate) mod shards;
pub mod sql;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
mod tls;
#[cfg(test)]
mod tls_tests;

use db::{Conn, Pool, Tx, query};
use lock::DataLock;
pub use meeting::again_if_met;
use migrations::SQLITE_MIGRATIONS;
use postgres::Remote;
use sha2::{Digest, Sha256};
use sqlx::Connection as _;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
pub use tls::TlsError;
use wavepass_protocol::time::UnixMs;

/// A transaction of the one writer. Dropped without `commit`, it is rolled back.
pub type WriteTx = Tx;

/// Readers at a time. Queries are short, so a few keep two to eight cores busy.
const READERS: u32 = 6;
/// Parts' writers at a time: as many as keep the cores of a small server busy beside the gateway's own work.
const LANES: usize = 3;
/// Connections of those who write at the same time: a day may be deducted while the parts of another are written.
const SHARD_WRITERS: usize = LANES + shards::STAGES;
/// How long SQLite itself waits for a lock. Only a foreign process (a backup) can hold one.
const BUSY: Duration = Duration::from_secs(15);
/// How long a caller waits for its turn as writer: longer than the longest transaction, which closes a day.
const WRITER_TURN: Duration = Duration::from_secs(600);
/// Rows that SQLite's thread reads ahead of whoever takes them: with few, each row wakes two threads.
const ROWS_AHEAD: usize = 2048;
/// The write-ahead log is folded into the database every so many pages (of 4 KiB).
const CHECKPOINT_PAGES: &str = "4000";
/// Page cache of the writer, KiB (negative: SQLite counts kibibytes). Random index pages of a busy day stay in it.
const WRITER_CACHE: &str = "-131072";
/// Page cache of each reader, KiB, likewise.
const READER_CACHE: &str = "-16384";

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A database this version does not serve.
    #[error(
        "the database `{0}` is not served: give `sqlite:PATH`, a path, or `postgres://USER@HOST/DATABASE`"
    )]
    Unsupported(String),
    /// A PostgreSQL URL that is not of its form.
    #[error("the PostgreSQL URL is not of the form postgres://USER:PASSWORD@HOST:PORT/DATABASE: {0}")]
    Url(String),
    /// TLS to PostgreSQL is not as it was asked for.
    #[error("the database: {0}")]
    Tls(#[from] TlsError),
    /// Another process owns the data folder.
    #[error(
        "the data folder {path} is in use by another process ({holder}): stop it, or send the command to it"
    )]
    Locked {
        /// The folder.
        path: PathBuf,
        /// What its lock file says of the owner.
        holder: String,
    },
    /// A gateway of another data folder serves the SQLite file.
    #[error(
        "the database {path} is in use by another process ({holder}) with another data folder: one process at a time serves a SQLite file"
    )]
    Served {
        /// The file.
        path: PathBuf,
        /// What its lock file says of the owner.
        holder: String,
    },
    /// There was a database in the SQLite file.
    #[error(
        "the database {path} is gone: put a copy back with `restore`; to begin with an empty one, remove {lock}"
    )]
    Gone {
        /// The file.
        path: PathBuf,
        /// What knows of it.
        lock: PathBuf,
    },
    /// The data folder or lock file cannot be used.
    #[error("{path}: {source}")]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The database cannot be opened.
    #[error("the database {name}: {source}")]
    Open {
        /// Its file, or where it is served; never a password.
        name: String,
        /// Why.
        source: sqlx::Error,
    },
    /// The schema could not be brought up to date.
    #[error("the database schema: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The database refused or failed.
    #[error("the database: {0}")]
    Sql(#[from] sqlx::Error),
    /// A stored value is not of its form.
    #[error("the database holds a damaged {what}")]
    Damaged {
        /// What it should have been.
        what: &'static str,
    },
}

/// The database of one data folder. Clones share it; the folder is free when the last clone is gone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    readers: Pool,
    writer: Pool,
    // On SQLite, the writer.
    shard_writers: Pool,
    // As well.
    beside: Pool,
    // Held for as long as the store lives.
    _locks: Vec<DataLock>,
}

impl Store {
    /// Takes the data folder (made if it is missing), opens the database and brings its schema up to date.
    ///
    /// `url` is `sqlite:PATH`, a path, or `postgres://…`; a relative path is relative to the working directory.
    pub async fn open(url: &str, data: &Path) -> Result<Self, StoreError> {
        let place = Place::parse(url)?;
        let mut locks = vec![DataLock::take(data)?];
        let Pools { readers, writer, shard_writers, beside } = match place {
            Place::Sqlite(file) => {
                let mut lock = DataLock::of_file(&file)?;
                let pools = open_sqlite(&file).await?;
                lock.remember()?;
                locks.push(lock);
                pools
            }
            Place::Postgres(remote) => Box::pin(remote.open()).await?,
        };
        Ok(Self { inner: Arc::new(Inner { readers, writer, shard_writers, beside, _locks: locks }) })
    }

    /// Whether a store was ever opened with this data folder.
    pub fn was_opened(data: &Path) -> bool {
        lock::was_taken(data)
    }

    /// True where other processes may work on the same database.
    pub fn is_shared(&self) -> bool {
        matches!(self.inner.readers, Pool::Postgres(_))
    }

    /// Connections that can only read.
    pub fn pool(&self) -> &Pool {
        &self.inner.readers
    }

    /// Waits for the writer's turn and begins a transaction.
    ///
    /// Whoever holds one must not ask for another, and does nothing slow but SQL while it does.
    pub async fn begin(&self) -> Result<WriteTx, StoreError> {
        Ok(self.inner.writer.begin_write().await?)
    }

    /// The newest time at which anything in the store was done, by the clock of whichever process did it; 0 where
    /// nothing was. Taps' own times do not count: a gate's clock may be wrong.
    pub async fn newest_time(&self) -> Result<UnixMs, StoreError> {
        let newest: Option<i64> = query(
            "SELECT max(t) FROM (SELECT max(at_ms) AS t FROM audit_log UNION ALL SELECT max(issued_ms) FROM lists \
             UNION ALL SELECT max(received_ms) FROM entries UNION ALL SELECT max(received_ms) FROM set_aside \
             UNION ALL SELECT max(added_ms) FROM gates UNION ALL SELECT max(issued_ms) FROM tokens) AS times",
        )
        .scalar(self.pool())
        .await?;
        Ok(UnixMs(newest.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0)))
    }

    /// Waits for the turn of one shard's writer, and begins a transaction that changes rows of that shard alone, or enters rows
    /// that others may enter too. A shard is a part of the tokens or a stage of deduction, see `store/shards.rs`. On
    /// PostgreSQL the writers of several shards work at the same time, [`SHARD_WRITERS`] of a process; on SQLite this is
    /// [`Self::begin`].
    pub async fn begin_shard(&self, shard: u8) -> Result<WriteTx, StoreError> {
        self.begin_shards(&[shard]).await
    }

    /// The same for the rows of several shards, whose turns it waits for in this order. The first is a stage's: of those who
    /// hold its turn there is one, so that no two wait for each other.
    pub async fn begin_shards(&self, shards: &[u8]) -> Result<WriteTx, StoreError> {
        Ok(self.inner.shard_writers.begin_shards(shards).await?)
    }

    /// Waits until nobody has the writer's turn ([`Self::begin`]), and begins a transaction beside others that began so, and beside shards'
    /// writers: [`Self::lanes`] of a process. Two that change the same rows must lock them first, in the same order, and
    /// are done again if they meet ([`again_if_met`]). On SQLite this is [`Self::begin`].
    pub async fn begin_beside(&self) -> Result<WriteTx, StoreError> {
        Ok(self.inner.beside.begin_beside().await?)
    }

    /// How many parts' writers of this process can work at the same time, and how many groups of intake beside them.
    pub fn lanes(&self) -> usize {
        if self.is_shared() { LANES } else { 1 }
    }

    /// Has PostgreSQL take stock of tables, which it does by itself only once a minute: of one that has just grown it knows nothing, and
    /// where a statement leaves it a choice of indexes it reads the table once for each row. SQLite goes by the statement alone.
    pub async fn take_stock(&self, tables: &[&'static str]) -> Result<(), StoreError> {
        if let Pool::Postgres(writers) = &self.inner.shard_writers {
            let text = format!("ANALYZE {}", tables.join(", "));
            sqlx::query(sqlx::AssertSqlSafe(text)).execute(writers).await?;
        }
        Ok(())
    }

    /// Makes what was deleted or overwritten so in the database's files, too: on SQLite the write-ahead log, which may hold it
    /// as it was, is folded into the database and emptied, unless a reader holds on to it. PostgreSQL has its own ways.
    pub async fn fold(&self) -> Result<(), StoreError> {
        if let Pool::Sqlite(writer) = &self.inner.writer {
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(writer).await?;
        }
        Ok(())
    }

    /// Ends every connection in order, folding SQLite's write-ahead log into the database.
    pub async fn close(&self) {
        self.inner.readers.close().await;
        self.inner.shard_writers.close().await;
        self.inner.beside.close().await;
        self.inner.writer.close().await;
    }
}

/// The connections of a store. On SQLite all writers are one.
struct Pools {
    readers: Pool,
    writer: Pool,
    shard_writers: Pool,
    beside: Pool,
}

/// False of a connection whose transaction SQLite has ended by itself, as it does where the disk is full: its driver still takes
/// it for open, and would begin no other. It is replaced by a new one.
fn is_free(conn: &SqliteConnection) -> bool {
    !conn.is_in_transaction()
}

async fn open_sqlite(file: &Path) -> Result<Pools, StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY)
        .statement_cache_capacity(200)
        .row_buffer_size(ROWS_AHEAD)
        .pragma("temp_store", "MEMORY");
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .test_before_acquire(false)
        .before_acquire(|conn, _| Box::pin(async move { Ok(is_free(conn)) }))
        .acquire_timeout(WRITER_TURN)
        .connect_with(
            options
                .clone()
                .pragma("cache_size", WRITER_CACHE)
                .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
                // What is deleted or overwritten is so in the file, too.
                .pragma("secure_delete", "ON")
                .thread_name(|_| "store-writer".into()),
        )
        .await
        .map_err(|source| StoreError::Open { name: file.display().to_string(), source })?;
    SQLITE_MIGRATIONS.run(&writer).await?;
    let readers = SqlitePoolOptions::new()
        .max_connections(READERS)
        .max_lifetime(None)
        .test_before_acquire(false)
        .before_acquire(|conn, _| Box::pin(async move { Ok(is_free(conn)) }))
        .acquire_timeout(BUSY)
        .connect_with(
            options
                .pragma("cache_size", READER_CACHE)
                .pragma("query_only", "ON")
                .thread_name(|n| format!("store-reader-{n}")),
        )
        .await?;
    let (readers, writer) = (Pool::Sqlite(readers), Pool::Sqlite(writer));
    Ok(Pools { readers, shard_writers: writer.clone(), beside: writer.clone(), writer })
}

/// Refuses the URL of a database that this version does not serve, before anything is made for it.
pub fn check_url(url: &str) -> Result<(), StoreError> {
    Place::parse(url).map(drop)
}

/// Where the database is.
#[derive(Debug)]
enum Place {
    Sqlite(PathBuf),
    Postgres(Box<Remote>),
}

impl Place {
    fn parse(url: &str) -> Result<Self, StoreError> {
        let path = match url.split_once(':') {
            Some(("sqlite", rest)) => rest.strip_prefix("//").unwrap_or(rest),
            Some(("postgres" | "postgresql", _)) => {
                return Ok(Self::Postgres(Box::new(Remote::parse(url)?)));
            }
            // A scheme of two letters or more; a single letter is a drive of a path.
            Some((scheme, _)) if scheme.len() > 1 && scheme.bytes().all(|b| b.is_ascii_alphanumeric()) => {
                return Err(StoreError::Unsupported(format!("{scheme}:…")));
            }
            _ => url,
        };
        if path.is_empty() || path.starts_with(":memory:") {
            return Err(StoreError::Unsupported(url.into()));
        }
        Ok(Self::Sqlite(PathBuf::from(path)))
    }
}

/// One line of the audit log.
#[derive(Debug, Clone, Copy)]
pub struct Audit<'a> {
    /// When.
    pub at: UnixMs,
    /// Who acted.
    pub user: &'a str,
    /// What was done, such as `deny.add`.
    pub action: &'a str,
    /// On what: a token key in hex, a gate's number, a day; never a card number or a name.
    pub subject: &'a str,
    /// Anything more.
    pub detail: &'a str,
}

/// Writes a line of the audit log in the caller's transaction.
pub async fn audit_in(conn: &mut Conn, line: &Audit<'_>) -> Result<(), StoreError> {
    audit_all_in(conn, &[*line]).await
}

/// Writes lines of the audit log in the caller's transaction.
pub async fn audit_all_in(conn: &mut Conn, lines: &[Audit<'_>]) -> Result<(), StoreError> {
    let rows = lines.iter().map(|line| (sql::ms(line.at), line.user, line.action, line.subject, line.detail));
    let text = "INSERT INTO audit_log (at_ms, \"user\", action, subject, detail) VALUES ??";
    db::write_many(conn, text, rows).await?;
    Ok(())
}

/// A difference that a person should look at.
#[derive(Debug, Clone, Copy)]
pub struct Break<'a> {
    /// Its kind, such as `gap`.
    pub kind: &'a str,
    /// What it is about; never a card number or a name.
    pub subject: &'a str,
    /// The service day it belongs to.
    pub service_day: Option<i64>,
    /// Anything more. Part of the identity: the same break with another detail is another break.
    pub detail: &'a str,
    /// When it was found; not part of the identity.
    pub at: UnixMs,
}

impl Break<'_> {
    /// Its identity, from its content.
    pub fn id(&self) -> String {
        let day = self.service_day.map(|d| d.to_string()).unwrap_or_default();
        content_id(&[self.kind, self.subject, &day, self.detail].map(str::as_bytes))
    }
}

/// Raises a break in the caller's transaction; true if it is new. The same break is raised once.
pub async fn raise_break_in(conn: &mut Conn, found: &Break<'_>) -> Result<bool, StoreError> {
    Ok(raise_breaks_in(conn, std::slice::from_ref(found)).await? > 0)
}

/// Raises breaks in the caller's transaction; how many are new.
pub async fn raise_breaks_in(conn: &mut Conn, found: &[Break<'_>]) -> Result<u64, StoreError> {
    let rows = found.iter().map(|b| (b.id(), b.kind, b.subject, b.service_day, b.detail, sql::ms(b.at)));
    let text = "INSERT INTO breaks (id, kind, subject, service_day, detail, opened_ms) VALUES ?? \
                ON CONFLICT DO NOTHING";
    Ok(db::write_many(conn, text, rows).await?)
}

/// Raises breaks of what was found once more, in the caller's transaction: one that was ended is open again.
pub async fn raise_breaks_again_in(conn: &mut Conn, found: &[Break<'_>]) -> Result<(), StoreError> {
    let once: BTreeMap<String, &Break<'_>> = found.iter().map(|b| (b.id(), b)).collect();
    let rows = once.iter().map(|(id, b)| (id, b.kind, b.subject, b.service_day, b.detail, sql::ms(b.at)));
    let text = "INSERT INTO breaks (id, kind, subject, service_day, detail, opened_ms) VALUES ?? \
                ON CONFLICT (id) DO UPDATE SET closed_ms = NULL, ended_by = '', end_reason = ''";
    db::write_many(conn, text, rows).await?;
    Ok(())
}

/// An identity derived from content: 32 hexadecimal digits of SHA-256 over the parts, each with its length.
pub fn content_id(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    sql::hex(&hash.finalize()[..16])
}
