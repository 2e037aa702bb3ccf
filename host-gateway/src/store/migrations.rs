//! The schema's history, built into the program. A migration is never changed once it has landed.

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use std::sync::LazyLock;

/// A migration's number, name and statements.
type Step = (i64, &'static str, &'static str);

/// The steps of one store, each from its file `NNNN_name.sql`.
macro_rules! steps {
    ($store:literal: $($number:literal $name:literal),* $(,)?) => {
        &[$((
            {
                const FILE: &str = concat!($number, "_", $name, ".sql");
                number(FILE)
            },
            $name,
            include_str!(concat!("../../migrations/", $store, "/", $number, "_", $name, ".sql")),
        )),*]
    };
}

/// The number that a file's name begins with.
const fn number(file: &str) -> i64 {
    let digits = file.as_bytes();
    let mut value = 0;
    let mut at = 0;
    while digits[at] != b'_' {
        value = value * 10 + (digits[at] - b'0') as i64;
        at += 1;
    }
    value
}

const SQLITE: &[Step] = steps!("sqlite":
    "0001" "intake",
    "0002" "registry",
    "0003" "clearing",
    "0004" "emergencies",
    "0005" "chain",
    "0006" "revocation_notes",
    "0007" "desk",
    "0010" "unchecked",
    "0011" "reconcile",
    "0012" "shares",
    "0015" "authorisation",
    "0016" "close_parts",
    "0017" "concentrators",
    "0018" "keep",
    "0021" "pay_out",
);

const POSTGRES: &[Step] = steps!("postgres":
    "0001" "schema",
    "0002" "desk",
    "0010" "unchecked",
    "0011" "reconcile",
    "0012" "shares",
    "0015" "authorisation",
    "0016" "close_parts",
    "0017" "concentrators",
    "0018" "keep",
    "0021" "pay_out",
);

pub(super) static SQLITE_MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| migrator(SQLITE));
pub(super) static POSTGRES_MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| migrator(POSTGRES));

fn migrator(steps: &[Step]) -> Migrator {
    let migration = |&(number, name, statements): &Step| {
        // As sqlx itself names them, by which a database made before this list knows them.
        let description = name.replace('_', " ");
        Migration::new(number, description.into(), MigrationType::Simple, statements.into_sql_str(), false)
    };
    Migrator::with_migrations(steps.iter().map(migration).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_file_of_the_folder_is_in_the_list() {
        for (store, steps) in [("sqlite", SQLITE), ("postgres", POSTGRES)] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(store);
            let mut files: Vec<String> = std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            files.sort();
            let listed: Vec<String> =
                steps.iter().map(|(number, name, _)| format!("{number:04}_{name}.sql")).collect();
            assert_eq!(files, listed, "{store}");
        }
    }
}
