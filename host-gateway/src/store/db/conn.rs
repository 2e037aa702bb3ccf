//! Connections: to read on, and the one to write on.

use super::value::{Rows, Width};
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgColumn;
use sqlx::{
    AssertSqlSafe, Column as _, Executor as _, PgConnection, PgPool, Postgres, SqlSafeStr as _, Sqlite,
    SqliteConnection, SqlitePool, Statement as _, Transaction, TypeInfo as _,
};
use std::ops::{Deref, DerefMut};

/// A connection to the database, by itself or in a transaction.
pub struct Conn(Handle);

enum Handle {
    Sqlite(PoolConnection<Sqlite>),
    SqliteTx(Transaction<'static, Sqlite>),
    Postgres(PoolConnection<Postgres>),
    PostgresTx(Transaction<'static, Postgres>),
    /// Lent to a task, and whoever lent it was dropped before it came back.
    Lent,
}

/// Which database a connection is to.
pub(super) enum Side<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

impl Conn {
    /// Whether it is to PostgreSQL, where a table may be in partitions.
    pub(crate) const fn is_postgres(&self) -> bool {
        matches!(self.0, Handle::Postgres(_) | Handle::PostgresTx(_))
    }

    pub(super) fn side(&mut self) -> Result<Side<'_>, sqlx::Error> {
        Ok(match &mut self.0 {
            Handle::Sqlite(conn) => Side::Sqlite(conn),
            Handle::SqliteTx(tx) => Side::Sqlite(tx),
            Handle::Postgres(conn) => Side::Postgres(conn),
            Handle::PostgresTx(tx) => Side::Postgres(tx),
            Handle::Lent => return Err(sqlx::Error::WorkerCrashed),
        })
    }

    /// Copies rows into a table of PostgreSQL, `into` being its name and columns. A task of its own does it: were it given up
    /// half way, the server would wait for the rest of the rows, and take whatever came next for them.
    pub(super) async fn copy(&mut self, into: &'static str, rows: &Rows<'_>) -> Result<u64, sqlx::Error> {
        let rows = rows.to_copy(&self.widths(into).await?).map_err(sqlx::Error::Encode)?;
        let mut lent = Self(std::mem::replace(&mut self.0, Handle::Lent));
        let task = tokio::spawn(async move {
            let copied = lent.copy_here(into, rows).await;
            (lent, copied)
        });
        let (lent, copied) = task.await.map_err(|_| sqlx::Error::WorkerCrashed)?;
        *self = lent;
        copied
    }

    /// How wide the columns of `into` are. A connection asks once for each.
    async fn widths(&mut self, into: &'static str) -> Result<Vec<Width>, sqlx::Error> {
        let Side::Postgres(conn) = self.side()? else { return Err(sqlx::Error::WorkerCrashed) };
        let (table, columns) = into.split_once(' ').unwrap_or((into, "*"));
        let columns = columns.trim_matches(['(', ')']);
        let text = AssertSqlSafe(format!("SELECT {columns} FROM {table}")).into_sql_str();
        let there = conn.prepare(text).await?;
        let width = |column: &PgColumn| match column.type_info().name() {
            "INT2" => Ok(Width::Small),
            "INT8" => Ok(Width::Big),
            "TEXT" | "BYTEA" => Ok(Width::Bytes),
            other => Err(sqlx::Error::Encode(format!("a column of type {other}").into())),
        };
        there.columns().iter().map(width).collect()
    }

    async fn copy_here(&mut self, into: &str, rows: Vec<u8>) -> Result<u64, sqlx::Error> {
        let Side::Postgres(conn) = self.side()? else { return Err(sqlx::Error::WorkerCrashed) };
        let mut copy = conn.copy_in_raw(&format!("COPY {into} FROM STDIN (FORMAT binary)")).await?;
        copy.send(rows).await?;
        copy.finish().await
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
            Handle::Sqlite(_) | Handle::Postgres(_) | Handle::Lent => Err(sqlx::Error::BeginFailed),
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
/// The same, shared by those who write to one shard each, or lock the rows that they change.
const SHARED_LOCK: &str = "SELECT pg_advisory_xact_lock_shared(6295711)";
/// The locks of shards, under the shared one, in the order given.
const SHARD_LOCKS: &str = "SELECT pg_advisory_xact_lock(6295712, shard) FROM unnest($1) AS shards (shard)";

// What waits for a connection is boxed: it may have to make one, and a TLS handshake makes every future around it large.
impl Pool {
    /// Waits for a free connection.
    pub async fn acquire(&self) -> Result<Conn, sqlx::Error> {
        Ok(Conn(match self {
            Self::Sqlite(pool) => Handle::Sqlite(Box::pin(pool.acquire()).await?),
            Self::Postgres(pool) => Handle::Postgres(Box::pin(pool.acquire()).await?),
        }))
    }

    /// Begins to read: every statement sees the database as it is at the first.
    pub async fn begin(&self) -> Result<Tx, sqlx::Error> {
        Ok(Tx(Conn(match self {
            Self::Sqlite(pool) => Handle::SqliteTx(Box::pin(pool.begin()).await?),
            Self::Postgres(pool) => {
                let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                Handle::PostgresTx(Box::pin(pool.begin_with(begin)).await?)
            }
        })))
    }

    /// Waits for the writer's turn and begins to write.
    pub(in crate::store) async fn begin_write(&self) -> Result<Tx, sqlx::Error> {
        Ok(Tx(Conn(match self {
            Self::Sqlite(pool) => Handle::SqliteTx(Box::pin(pool.begin_with("BEGIN IMMEDIATE")).await?),
            Self::Postgres(pool) => {
                let mut tx = Box::pin(pool.begin()).await?;
                // Each statement after the lock sees what the writer before has committed.
                sqlx::query(WRITER_LOCK).execute(&mut *tx).await?;
                Handle::PostgresTx(tx)
            }
        })))
    }

    /// Waits for the turns of shards' writers, while those of other shards write too, and begins to write. SQLite has one
    /// writer for all.
    pub(in crate::store) async fn begin_shards(&self, shards: &[u8]) -> Result<Tx, sqlx::Error> {
        let Self::Postgres(pool) = self else { return self.begin_write().await };
        let mut tx = Box::pin(pool.begin()).await?;
        // In this order always: whoever holds a shard's lock does not wait for the writers' own.
        sqlx::query(SHARED_LOCK).execute(&mut *tx).await?;
        let shards: Vec<i32> = shards.iter().map(|shard| i32::from(*shard)).collect();
        sqlx::query(SHARD_LOCKS).bind(shards).execute(&mut *tx).await?;
        Ok(Tx(Conn(Handle::PostgresTx(tx))))
    }

    /// Waits until nobody has the writer's turn, and begins to write beside others who do the same. SQLite has one writer
    /// for all.
    pub(in crate::store) async fn begin_beside(&self) -> Result<Tx, sqlx::Error> {
        let Self::Postgres(pool) = self else { return self.begin_write().await };
        let mut tx = Box::pin(pool.begin()).await?;
        sqlx::query(SHARED_LOCK).execute(&mut *tx).await?;
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
