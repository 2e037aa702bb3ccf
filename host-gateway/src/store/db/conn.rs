//! Connections: to read on, and the one to write on.

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres, Sqlite, SqliteConnection, SqlitePool, Transaction};
use std::ops::{Deref, DerefMut};

/// A connection to the database, by itself or in a transaction.
pub struct Conn(Handle);

enum Handle {
    Sqlite(PoolConnection<Sqlite>),
    SqliteTx(Transaction<'static, Sqlite>),
    Postgres(PoolConnection<Postgres>),
    PostgresTx(Transaction<'static, Postgres>),
}

/// Which database a connection is to.
pub(super) enum Side<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

impl Conn {
    pub(super) fn side(&mut self) -> Side<'_> {
        match &mut self.0 {
            Handle::Sqlite(conn) => Side::Sqlite(conn),
            Handle::SqliteTx(tx) => Side::Sqlite(tx),
            Handle::Postgres(conn) => Side::Postgres(conn),
            Handle::PostgresTx(tx) => Side::Postgres(tx),
        }
    }
}

/// A transaction. Dropped without [`commit`](Self::commit), it is rolled back.
pub struct Tx(Conn);

impl Tx {
    /// Makes it last: on disk when this returns.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        match self.0.0 {
            Handle::SqliteTx(tx) => tx.commit().await,
            Handle::PostgresTx(tx) => tx.commit().await,
            // A `Tx` is made of a transaction alone.
            Handle::Sqlite(_) | Handle::Postgres(_) => Err(sqlx::Error::BeginFailed),
        }
    }
}

impl Deref for Tx {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.0
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.0
    }
}

/// Connections to one database.
#[derive(Clone)]
pub enum Pool {
    /// To SQLite.
    Sqlite(SqlitePool),
    /// To PostgreSQL.
    Postgres(PgPool),
}

/// The one lock of writers, whichever process they are of.
const WRITER_LOCK: &str = "SELECT pg_advisory_xact_lock(6295711)";
/// The same, shared by those who write to one shard each.
const SHARED_LOCK: &str = "SELECT pg_advisory_xact_lock_shared(6295711)";
/// The lock of one shard, under the shared one.
const SHARD_LOCK: &str = "SELECT pg_advisory_xact_lock(6295712, $1)";

impl Pool {
    /// Waits for a free connection.
    pub async fn acquire(&self) -> Result<Conn, sqlx::Error> {
        Ok(Conn(match self {
            Self::Sqlite(pool) => Handle::Sqlite(pool.acquire().await?),
            Self::Postgres(pool) => Handle::Postgres(pool.acquire().await?),
        }))
    }

    /// Begins to read: every statement sees the database as it is at the first.
    pub async fn begin(&self) -> Result<Tx, sqlx::Error> {
        Ok(Tx(Conn(match self {
            Self::Sqlite(pool) => Handle::SqliteTx(pool.begin().await?),
            Self::Postgres(pool) => {
                Handle::PostgresTx(pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?)
            }
        })))
    }

    /// Waits for the writer's turn and begins to write.
    pub(in crate::store) async fn begin_write(&self) -> Result<Tx, sqlx::Error> {
        Ok(Tx(Conn(match self {
            Self::Sqlite(pool) => Handle::SqliteTx(pool.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres(pool) => {
                let mut tx = pool.begin().await?;
                // Each statement after the lock sees what the writer before has committed.
                sqlx::query(WRITER_LOCK).execute(&mut *tx).await?;
                Handle::PostgresTx(tx)
            }
        })))
    }

    /// Waits for the turn of a shard's writer, while those of other shards write too, and begins to write. SQLite has one
    /// writer for all.
    pub(in crate::store) async fn begin_shard(&self, shard: u8) -> Result<Tx, sqlx::Error> {
        let Self::Postgres(pool) = self else { return self.begin_write().await };
        let mut tx = pool.begin().await?;
        // In this order always: whoever holds a shard's lock waits for no other.
        sqlx::query(SHARED_LOCK).execute(&mut *tx).await?;
        sqlx::query(SHARD_LOCK).bind(i32::from(shard)).execute(&mut *tx).await?;
        Ok(Tx(Conn(Handle::PostgresTx(tx))))
    }

    /// Ends every connection in order.
    pub(in crate::store) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}
