//! A store on a PostgreSQL server: where it is, and the pools that are opened on it.

use super::db::Pool;
use super::migrations::POSTGRES_MIGRATIONS;
use super::tls::{Said, Tls};
use super::{BUSY, LANES, Pools, READERS, SHARD_WRITERS, StoreError, WRITER_TURN};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use std::time::Duration;

/// How long PostgreSQL may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(15);

/// How PostgreSQL plans: tables joined in the order that a statement gives them, each found by its index, which is all that SQLite
/// has and what the statements are written for. Of a batch's rows, and of a table that has just grown, its planner knows next to
/// nothing, and would read months of taps to find a few thousand. What has no index is read whole all the same.
const AS_WRITTEN: [(&str, &str); 8] = [
    ("join_collapse_limit", "1"),
    ("from_collapse_limit", "1"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("max_parallel_workers_per_gather", "0"),
    ("jit", "off"),
];

/// A database on a server.
#[derive(Debug)]
pub struct Remote {
    pub(super) options: PgConnectOptions,
    pub(super) tls: Tls,
}

impl Remote {
    /// Reads a URL `postgres://…`, and the files that it names.
    pub fn parse(url: &str) -> Result<Self, StoreError> {
        Self::parse_in(url, |variable| std::env::var(variable).ok())
    }

    pub(super) fn parse_in(
        url: &str,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, StoreError> {
        // First: sqlx passes over much that it does not know.
        let said = Said::read(url, environment)?;
        let options: PgConnectOptions =
            url.parse().map_err(|e: sqlx::Error| StoreError::Url(e.to_string()))?;
        // The brackets are the URL's and not the address's, which a certificate is compared with.
        let host = options.get_host().trim_matches(['[', ']']).to_owned();
        let options = options.host(&host);
        let tls = said.of(&options)?;
        Ok(Self { options: tls.apply(options), tls })
    }

    /// Which database where, without a password.
    fn name(&self) -> String {
        let (host, port) = (self.options.get_host(), self.options.get_port());
        let database = self.options.get_database().unwrap_or("postgres");
        match host.contains(':') {
            true => format!("{database} at [{host}]:{port}"),
            false => format!("{database} at {host}:{port}"),
        }
    }

    /// Connects and brings the schema up to date.
    pub(super) async fn open(self) -> Result<Pools, StoreError> {
        if self.tls.may_be_in_clear() {
            let name = self.name();
            tracing::warn!("what goes to and from the database {name} may be read on the way: see sslmode");
        }
        match self.open_as_it_is().await {
            // As PostgreSQL's own programs do; sqlx goes on only where the server has no TLS at all.
            Err(StoreError::Tls(told)) => match self.tls.without() {
                Some(tls) => {
                    tracing::warn!(%told, "the database is connected to without TLS");
                    let options = tls.apply(self.options);
                    Self { options, tls }.open_as_it_is().await
                }
                None => Err(told.into()),
            },
            opened => opened,
        }
    }

    async fn open_as_it_is(&self) -> Result<Pools, StoreError> {
        let name = self.name();
        let options = self.options.clone().options(AS_WRITTEN);
        let turn = WRITER_TURN.as_millis().to_string();
        let writing = options.clone().application_name("wavepass-writer").options([("lock_timeout", turn)]);
        let writers = |most: usize| {
            PgPoolOptions::new()
                .max_connections(most as u32)
                .max_lifetime(None)
                .idle_timeout(None)
                .acquire_timeout(WRITER_TURN)
        };
        let writer = writers(1).connect_with(writing.clone());
        let writer = match tokio::time::timeout(CONNECT, writer).await {
            Ok(opened) => opened,
            Err(_) => Err(sqlx::Error::PoolTimedOut),
        }
        .map_err(|source| match self.tls.told(&name, &source) {
            Some(told) => told.into(),
            None => StoreError::Open { name, source },
        })?;
        POSTGRES_MIGRATIONS.run(&writer).await?;
        let readers = PgPoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(BUSY)
            .connect_with(
                options
                    .application_name("wavepass-reader")
                    .options([("default_transaction_read_only", "on")]),
            )
            .await?;
        let shard_writers = writers(SHARD_WRITERS).connect_lazy_with(writing.clone());
        let beside = writers(LANES).connect_lazy_with(writing);
        Ok(Pools {
            readers: Pool::Postgres(readers),
            writer: Pool::Postgres(writer),
            shard_writers: Pool::Postgres(shard_writers),
            beside: Pool::Postgres(beside),
        })
    }
}
