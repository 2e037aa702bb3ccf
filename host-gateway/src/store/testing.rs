//! A store in a folder that is gone after the test.

use super::Store;

/// A store and its folder.
pub struct Scratch {
    /// The store.
    pub store: Store,
    /// Its folder; the database is `wavepass.db` in it.
    pub dir: tempfile::TempDir,
}

impl std::ops::Deref for Scratch {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

/// An empty store with the present schema.
pub async fn scratch() -> Scratch {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("wavepass.db").to_str().unwrap(), dir.path()).await.unwrap();
    Scratch { store, dir }
}
