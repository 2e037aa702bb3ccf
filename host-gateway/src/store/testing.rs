//! A store in a folder that is gone after the test: on SQLite, or with `WAVEPASS_TEST_STORE=postgres` in the environment
//! in a database of its own on a server that the tests start.

use super::Store;
use super::db::{Query, query, query_made};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, LazyLock, OnceLock};
use wavepass_protocol::time::UnixMs;
use wavepass_test_postgres::{Options, Server};

/// Where the tests keep their stores.
static POSTGRES: LazyLock<bool> = LazyLock::new(|| match std::env::var("WAVEPASS_TEST_STORE").as_deref() {
    Ok("postgres") => true,
    Ok("sqlite") | Err(_) => false,
    Ok(other) => panic!("WAVEPASS_TEST_STORE is {other}; it is sqlite or postgres"),
});

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(Options::default()).unwrap())
}

/// A store and its folder.
pub struct Scratch {
    /// The store.
    pub store: Store,
    /// Its folder; with SQLite, the database is `wavepass.db` in it.
    pub dir: tempfile::TempDir,
    /// The URL of its database.
    pub url: String,
    // Dropped last: nobody is connected any more.
    database: Option<Arc<Database>>,
}

impl Scratch {
    /// Another process's store on the same database, with a folder of its own.
    pub async fn beside(&self) -> Self {
        Self::open(self.url.clone(), tempfile::tempdir().unwrap(), self.database.clone()).await
    }

    /// A copy, made as docs/operating.md says.
    pub async fn backup(&self) -> Backup {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("copy");
        match self.store.is_shared() {
            true => run("pg_dump", &["--format=custom", "--file", file.to_str().unwrap(), &self.url]),
            false => super::backup::copy(&self.url, &file).await.unwrap(),
        }
        Backup { _dir: dir, file }
    }

    async fn open(url: String, dir: tempfile::TempDir, database: Option<Arc<Database>>) -> Self {
        let store = Store::open(&url, dir.path()).await.unwrap();
        Self { store, dir, url, database }
    }
}

impl std::ops::Deref for Scratch {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

/// A copy of a store.
pub struct Backup {
    _dir: tempfile::TempDir,
    /// The copy itself.
    pub file: PathBuf,
}

impl Backup {
    /// Puts the copy back where nothing is, as docs/operating.md says. On PostgreSQL a new epoch of the lists is not begun.
    pub async fn restore(&self, now: UnixMs) -> Scratch {
        let dir = tempfile::tempdir().unwrap();
        if on_postgres() {
            let name = server().new_database().unwrap();
            let url = server().url(&name);
            run("pg_restore", &["--exit-on-error", "--dbname", &url, self.file.to_str().unwrap()]);
            return Scratch::open(url, dir, Some(Arc::new(Database(name)))).await;
        }
        let url = dir.path().join("wavepass.db").to_str().unwrap().to_owned();
        crate::cli::backup::put_back(&self.file, &url, dir.path(), "anna", now).await.unwrap();
        Scratch::open(url, dir, None).await
    }
}

fn run(program: &str, args: &[&str]) {
    let done = Command::new(server().program(program)).args(args).output().unwrap();
    assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A database that goes with the test.
struct Database(String);

impl Drop for Database {
    fn drop(&mut self) {
        server().drop_database(&self.0).unwrap();
    }
}

/// Whether the stores of tests are on PostgreSQL.
pub fn on_postgres() -> bool {
    *POSTGRES
}

/// An empty store with the present schema.
pub async fn scratch() -> Scratch {
    if on_postgres() {
        return scratch_on_postgres().await;
    }
    let dir = tempfile::tempdir().unwrap();
    let url = dir.path().join("wavepass.db").to_str().unwrap().to_owned();
    Scratch::open(url, dir, None).await
}

/// The same on PostgreSQL, whatever the environment says.
pub async fn scratch_on_postgres() -> Scratch {
    let name = server().new_database().unwrap();
    // What SQLite's tests spell out and PostgreSQL calls otherwise.
    server().run(&name, "CREATE DOMAIN blob AS bytea").unwrap();
    let url = server().url(&name);
    Scratch::open(url, tempfile::tempdir().unwrap(), Some(Arc::new(Database(name)))).await
}

/// A store that older versions made, one after the other: with the schema as it was before a migration, and what these
/// statements put into it then. The migrations after the last of them are left to the gateway's opening it.
pub async fn migrated(fillings: &[(i64, String)]) -> Scratch {
    use super::migrations::older;
    use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection, raw_sql};
    let dir = tempfile::tempdir().unwrap();
    if on_postgres() {
        let name = server().new_database().unwrap();
        let url = server().url(&name);
        let mut conn = PgConnection::connect(&url).await.unwrap();
        for (before, statements) in fillings {
            older(true, *before).run(&mut conn).await.unwrap();
            raw_sql(AssertSqlSafe(statements.clone())).execute(&mut conn).await.unwrap();
        }
        conn.close().await.unwrap();
        return Scratch::open(url, dir, Some(Arc::new(Database(name)))).await;
    }
    let url = dir.path().join("wavepass.db").to_str().unwrap().to_owned();
    let mut conn = SqliteConnection::connect(&format!("sqlite:{url}?mode=rwc")).await.unwrap();
    for (before, statements) in fillings {
        older(false, *before).run(&mut conn).await.unwrap();
        raw_sql(AssertSqlSafe(statements.clone())).execute(&mut conn).await.unwrap();
    }
    conn.close().await.unwrap();
    Scratch::open(url, dir, None).await
}

/// Another's work, which every writer of a table meets until it is [`gone`](Self::gone): on SQLite a program that holds the
/// database's lock, on PostgreSQL the word that a database spread over machines gives where two transactions met.
pub struct InTheWay(Obstacle);

enum Obstacle {
    Lock(sqlx::SqliteConnection),
    Word { store: Store, table: &'static str },
}

/// Puts another's work in the way of all who write to a table.
pub async fn in_the_way(scratch: &Scratch, table: &'static str) -> InTheWay {
    if scratch.store.is_shared() {
        let mut tx = scratch.store.begin().await.unwrap();
        let word = "CREATE FUNCTION met() RETURNS trigger LANGUAGE plpgsql AS \
                    $$ BEGIN RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001'; END $$";
        query(word).execute(&mut *tx).await.unwrap();
        let trigger = format!(
            "CREATE TRIGGER met BEFORE INSERT OR UPDATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION met()"
        );
        query_made(trigger).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        return InTheWay(Obstacle::Word { store: scratch.store.clone(), table });
    }
    // Writers do not wait for it, or the test would.
    let mut tx = scratch.store.begin().await.unwrap();
    query("PRAGMA busy_timeout = 0").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&scratch.url);
    let mut other = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    InTheWay(Obstacle::Lock(other))
}

impl InTheWay {
    /// It is done.
    pub async fn gone(self) {
        match self.0 {
            Obstacle::Lock(mut other) => {
                sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
            }
            Obstacle::Word { store, table } => {
                let mut tx = store.begin().await.unwrap();
                query_made(format!("DROP TRIGGER met ON {table}")).execute(&mut *tx).await.unwrap();
                query("DROP FUNCTION met").execute(&mut *tx).await.unwrap();
                tx.commit().await.unwrap();
            }
        }
    }
}

/// Has PostgreSQL say at the next write to a table that two transactions met, and let whoever comes again pass.
pub async fn meets_once(store: &Store, table: &'static str) {
    let mut tx = store.begin().await.unwrap();
    for text in [
        // It counts on where a transaction is rolled back.
        format!("CREATE SEQUENCE IF NOT EXISTS meetings_{table}"),
        format!("ALTER SEQUENCE meetings_{table} RESTART"),
        format!(
            "CREATE OR REPLACE FUNCTION met_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF nextval('meetings_{table}') = 1 THEN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; \
             END IF; RETURN NULL; END $$"
        ),
        format!(
            "CREATE OR REPLACE TRIGGER met_{table} BEFORE INSERT OR UPDATE ON {table} FOR EACH STATEMENT \
             EXECUTE FUNCTION met_{table}()"
        ),
    ] {
        query_made(text).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// The writes to a table that were tried since [`meets_once`]; the first of them met another's.
pub async fn tried(store: &Store, table: &'static str) -> i64 {
    query_made(format!("SELECT last_value FROM meetings_{table}")).scalar(store.pool()).await.unwrap()
}

/// The tables that a statement looks into, as PostgreSQL explains it: each that it plans to scan by an index, and once it has
/// run not those that it never came to.
pub async fn looked_into(explain: Query<'_>, store: &Store) -> Vec<String> {
    let lines: Vec<String> = explain.column(store.pool()).await.unwrap();
    assert!(!lines.iter().any(|line| line.contains("Seq Scan")), "{lines:?}");
    let scans = lines.iter().filter(|line| line.contains(" using ") && !line.contains("never executed"));
    let mut tables: Vec<String> =
        scans.filter_map(|line| Some(line.split_once(" on ")?.1.split(' ').next()?.to_owned())).collect();
    tables.sort_unstable();
    tables
}

/// Every row of every table as text, bytes as hexadecimal digits, but for what the migrations keep for themselves.
/// What is in partitions is in their table.
pub async fn dump(store: &Store) -> Vec<String> {
    let columns = match store.is_shared() {
        false => {
            "SELECT t.name, c.name, upper(c.type) FROM sqlite_master AS t JOIN pragma_table_xinfo(t.name) AS c \
             WHERE t.type = 'table' AND t.name NOT LIKE '\\_%' ESCAPE '\\' AND t.name NOT LIKE 'sqlite%' ORDER BY t.name, c.cid"
        }
        true => {
            "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT), upper(CAST(data_type AS TEXT)) \
             FROM information_schema.columns WHERE table_schema = 'public' AND table_name NOT LIKE '\\_%' \
             AND NOT EXISTS (SELECT 1 FROM pg_class WHERE relispartition AND relname = table_name) \
             ORDER BY table_name, ordinal_position"
        }
    };
    let columns: Vec<(String, String, String)> = query(columns).rows(store.pool()).await.unwrap();
    let mut rows = Vec::new();
    for table in columns.chunk_by(|a, b| a.0 == b.0) {
        let name = &table[0].0;
        let value = |(_, column, kind): &(String, String, String)| match kind.as_str() {
            "BLOB" | "BYTEA" => format!("hex(\"{column}\")"),
            _ => format!("CAST(\"{column}\" AS TEXT)"),
        };
        let values: Vec<String> = table
            .iter()
            .map(|column| format!("'{}', COALESCE({}, 'null')", column.1, value(column)))
            .collect();
        let text = format!("SELECT concat_ws(' ', '{name}', {}) FROM {name} ORDER BY 1", values.join(", "));
        let found: Vec<String> = query_made(text).column(store.pool()).await.unwrap();
        rows.extend(found);
    }
    rows
}
