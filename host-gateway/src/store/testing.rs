//! A store in a folder that is gone after the test: on SQLite, or with `WAVEPASS_TEST_STORE=postgres` in the environment
//! in a database of its own on a server that the tests start.

use super::Store;
use std::sync::{Arc, LazyLock, OnceLock};
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
