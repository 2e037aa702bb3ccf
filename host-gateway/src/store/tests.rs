//! What holds of a store, whichever database it is on.

use super::*;

#[test]
fn a_database_is_told_by_its_url_and_another_is_refused_by_name() {
    let refused = |url| Place::parse(url).unwrap_err().to_string();
    let file = |url| match Place::parse(url).unwrap() {
        Place::Sqlite(path) => path,
        Place::Postgres(_) => panic!("{url} is a file"),
    };
    assert!(refused("mysql://host/db").contains("mysql:"));
    assert!(refused("sqlite::memory:").contains("not served"));
    assert!(refused("postgres://host:port/db").contains("postgres://USER"));
    assert_eq!(file("sqlite:a/b.db"), PathBuf::from("a/b.db"));
    assert_eq!(file("sqlite:///a/b.db"), PathBuf::from("/a/b.db"));
    assert_eq!(file("/a/b.db"), PathBuf::from("/a/b.db"));
    for url in
        ["postgres://anna:secret@db.example:6000/wavepass", "postgresql://anna@db.example:6000/wavepass"]
    {
        let Place::Postgres(remote) = Place::parse(url).unwrap() else { panic!("{url}") };
        assert_eq!((remote.options.get_host(), remote.options.get_port()), ("db.example", 6000));
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_and_the_password_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let url = "postgres://anna:secret@127.0.0.1:1/wavepass";
    let refused = Store::open(url, folder.path()).await.err().unwrap().to_string();
    assert!(refused.contains("wavepass at 127.0.0.1:1") && !refused.contains("secret"), "{refused}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("letter.txt");
    std::fs::write(&file, "Dear Anna, ".repeat(1_000)).unwrap();
    let refused = Store::open(file.to_str().unwrap(), folder.path()).await.err().unwrap().to_string();
    assert!(refused.contains("letter.txt") && refused.contains("not a database"), "{refused}");
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("Dear Anna"));
}

#[tokio::test]
async fn a_second_owner_of_the_data_folder_is_told_who_has_it() {
    let scratch = testing::scratch().await;
    let second = Store::open(&scratch.url, scratch.dir.path()).await.err().unwrap();
    assert!(matches!(second, StoreError::Locked { .. }));
    assert!(second.to_string().contains(&format!("process {}", std::process::id())), "{second}");
}

#[tokio::test]
async fn one_process_serves_a_sqlite_file_whatever_its_data_folder() {
    let [first, second] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let file = first.path().join("wavepass.db");
    let store = Store::open(file.to_str().unwrap(), first.path()).await.unwrap();
    let mut names = vec![file.clone()];
    #[cfg(unix)]
    {
        let link = second.path().join("linked.db");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        names.push(link);
    }
    for name in names {
        let refused = Store::open(name.to_str().unwrap(), second.path()).await.err().unwrap();
        assert!(matches!(refused, StoreError::Served { .. }), "{refused}");
        assert!(refused.to_string().contains(&format!("process {}", std::process::id())), "{refused}");
    }
    store.close().await;
    drop(store);
    assert!(Store::open(file.to_str().unwrap(), second.path()).await.is_ok());
}

#[tokio::test]
async fn a_database_that_is_gone_is_not_taken_for_one_that_never_was() {
    let folder = tempfile::tempdir().unwrap();
    let (file, lock) = (folder.path().join("wavepass.db"), folder.path().join("wavepass.db.lock"));
    let open = async || Store::open(file.to_str().unwrap(), folder.path()).await;
    for _ in 0..2 {
        open().await.unwrap().close().await;
        std::fs::remove_file(&file).unwrap();
        for _ in 0..2 {
            let refused = open().await.err().unwrap();
            assert!(matches!(refused, StoreError::Gone { .. }), "{refused}");
            assert!(!file.exists());
        }
        std::fs::remove_file(&lock).unwrap();
    }
    // Somebody who never got as far as a database left his lock file.
    std::fs::write(&lock, "process 1\n").unwrap();
    open().await.unwrap().close().await;
}

#[tokio::test]
async fn a_transaction_that_is_dropped_leaves_nothing() {
    let scratch = testing::scratch().await;
    let line = Audit { at: UnixMs(1), user: "anna", action: "test", subject: "", detail: "" };
    let mut tx = scratch.begin().await.unwrap();
    audit_in(&mut tx, &line).await.unwrap();
    drop(tx);
    let mut tx = scratch.begin().await.unwrap();
    audit_in(&mut tx, &line).await.unwrap();
    tx.commit().await.unwrap();
    let count: i64 = query("SELECT count(*) FROM audit_log").scalar(scratch.pool()).await.unwrap();
    assert_eq!(count, 1);
}

#[tokio::test]
async fn who_writes_beside_others_waits_for_the_writer_s_turn_and_for_nobody_else() {
    let scratch = testing::scratch_on_postgres().await;
    let line = Audit { at: UnixMs(1), user: "anna", action: "test", subject: "", detail: "" };
    let mut beside = [scratch.begin_beside().await.unwrap(), scratch.begin_beside().await.unwrap()];
    for tx in &mut beside {
        audit_in(tx, &line).await.unwrap();
    }
    let shard = scratch.begin_shard(0).await.unwrap();
    let mut writer = std::pin::pin!(scratch.begin());
    let waits = tokio::time::timeout(Duration::from_millis(300), &mut writer).await;
    assert!(waits.is_err(), "the writer's turn came while others wrote");
    for tx in beside {
        tx.commit().await.unwrap();
    }
    shard.commit().await.unwrap();
    let mut writer = writer.await.unwrap();
    let count: i64 = query("SELECT count(*) FROM audit_log").scalar(&mut *writer).await.unwrap();
    assert_eq!(count, 2);
    let waits = tokio::time::timeout(Duration::from_millis(300), scratch.begin_beside()).await;
    assert!(waits.is_err(), "somebody wrote beside the writer");
}

#[tokio::test]
async fn readers_cannot_write_and_the_audit_log_cannot_be_changed() {
    let scratch = testing::scratch().await;
    assert!(query("DELETE FROM taps").execute(scratch.pool()).await.is_err());
    let mut tx = scratch.begin().await.unwrap();
    audit_in(&mut tx, &Audit { at: UnixMs(1), user: "a", action: "b", subject: "c", detail: "d" })
        .await
        .unwrap();
    assert!(query("DELETE FROM audit_log").execute(&mut *tx).await.is_err());
}

#[tokio::test]
async fn the_store_knows_the_newest_time_at_which_anything_was_done() {
    let scratch = testing::scratch().await;
    assert_eq!(scratch.newest_time().await.unwrap(), UnixMs(0));
    let mut tx = scratch.begin().await.unwrap();
    for at in [5_000, 7_000, 6_000].map(UnixMs) {
        audit_in(&mut tx, &Audit { at, user: "a", action: "b", subject: "c", detail: "d" }).await.unwrap();
    }
    tx.commit().await.unwrap();
    assert_eq!(scratch.newest_time().await.unwrap(), UnixMs(7_000));
}

#[tokio::test]
async fn the_same_break_is_raised_once() {
    let scratch = testing::scratch().await;
    let mut tx = scratch.begin().await.unwrap();
    let found = Break { kind: "gap", subject: "k", service_day: None, detail: "1-2", at: UnixMs(5) };
    assert!(raise_break_in(&mut tx, &found).await.unwrap());
    assert!(!raise_break_in(&mut tx, &Break { at: UnixMs(9), ..found }).await.unwrap());
    assert!(raise_break_in(&mut tx, &Break { detail: "3-4", ..found }).await.unwrap());
}

/// Every table with its columns in order, but for what the migrations keep for themselves. A partition has the
/// columns of its table.
async fn schema(store: &Store) -> Vec<(String, String)> {
    let text = match store.pool() {
        Pool::Sqlite(_) => {
            "SELECT t.name, c.name FROM sqlite_master AS t JOIN pragma_table_xinfo(t.name) AS c \
             WHERE t.type = 'table' AND t.name NOT LIKE '\\_%' ESCAPE '\\' AND t.name NOT LIKE 'sqlite%' \
             ORDER BY t.name, c.name"
        }
        Pool::Postgres(_) => {
            "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT) FROM information_schema.columns \
             WHERE table_schema = 'public' AND table_name NOT LIKE '\\_%' \
             AND NOT EXISTS (SELECT 1 FROM pg_class WHERE relispartition AND relname = table_name) \
             ORDER BY CAST(table_name AS TEXT) COLLATE \"C\", CAST(column_name AS TEXT) COLLATE \"C\""
        }
    };
    query(text).rows(store.pool()).await.unwrap()
}

#[tokio::test]
async fn both_databases_have_the_same_tables_and_columns_and_the_docs_name_each_table() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wavepass.db");
    let sqlite = Store::open(file.to_str().unwrap(), folder.path()).await.unwrap();
    let on_sqlite = schema(&sqlite).await;
    assert!(on_sqlite.len() > 150, "{on_sqlite:?}");
    let postgres = testing::scratch_on_postgres().await;
    assert_eq!(schema(&postgres.store).await, on_sqlite);
    // What was passed over are partitions of this one table.
    let apart = "SELECT DISTINCT CAST(CAST(i.inhparent AS regclass) AS TEXT) FROM pg_inherits AS i \
                 JOIN pg_class AS c ON c.oid = i.inhrelid WHERE c.relkind = 'r'";
    assert_eq!(query(apart).column::<String>(postgres.pool()).await.unwrap(), ["token_taps"]);
    let docs = include_str!("../../../docs/data-model.md");
    for (table, _) in &on_sqlite {
        assert!(docs.contains(&format!("`{table}`")), "docs/data-model.md does not name {table}");
    }
}

/// Tables that are few rows and would stand on every machine, as docs/data-model.md says: days, batches, lists, files of
/// others, the registry of concentrators, and the one audit log.
const EVERYWHERE: [&str; 16] = [
    "audit_log",
    "batch_days",
    "batches",
    "ca_keys",
    "concentrators",
    "day_close",
    "deleted_days",
    "early_days",
    "gate_config",
    "list_deltas",
    "list_epoch",
    "lists",
    "revocations",
    "settlement_terms",
    "taken_files",
    "tariffs",
];
/// What the rows of every other table would be spread by; `id` is a hash of the content.
const SPREAD_BY: [&str; 9] = [
    "account_id",
    "account_index",
    "concentrator",
    "gate_id",
    "id",
    "key_id",
    "operator",
    "shard",
    "token_key",
];

/// An engine that spreads rows over machines, such as Citus, holds rows apart only within one machine.
#[tokio::test]
async fn whatever_must_be_unique_contains_what_its_rows_would_be_spread_by() {
    let scratch = testing::scratch_on_postgres().await;
    let text = "SELECT CAST(c.relname AS TEXT), string_agg(CAST(a.attname AS TEXT), ' ') FROM pg_index AS i \
                JOIN pg_class AS c ON c.oid = i.indrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace \
                JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey) \
                WHERE i.indisunique AND n.nspname = 'public' AND c.relname NOT LIKE '\\_%' \
                GROUP BY c.relname, i.indexrelid";
    let unique: Vec<(String, String)> = query(text).rows(scratch.pool()).await.unwrap();
    let mut spread: std::collections::BTreeMap<&str, Vec<&str>> = std::collections::BTreeMap::new();
    for (table, columns) in &unique {
        let columns: Vec<&str> = columns.split(' ').collect();
        let by = spread.entry(table).or_insert_with(|| SPREAD_BY.to_vec());
        by.retain(|column| columns.contains(column));
    }
    assert!(spread.len() > 35, "{spread:?}");
    let loose = spread.iter().filter(|(table, by)| by.is_empty() && !EVERYWHERE.contains(table));
    assert_eq!(loose.collect::<Vec<_>>(), []);
}
