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
    "0019" "token_taps",
    "0020" "brought",
    "0021" "pay_out",
    "0022" "tap_beside_token",
    "0023" "days",
    "0024" "apart_by_day",
    "0025" "somebodys",
    "0026" "write_offs",
    "0027" "recent",
    "0028" "set_offs",
    "0029" "audit",
    "0030" "settlement_terms",
    "0031" "named_day",
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
    "0019" "token_taps",
    "0020" "brought",
    "0021" "pay_out",
    "0022" "tap_beside_token",
    "0023" "days",
    "0024" "apart_by_day",
    "0025" "somebodys",
    "0026" "write_offs",
    "0027" "recent",
    "0028" "set_offs",
    "0029" "audit",
    "0030" "settlement_terms",
    "0031" "named_day",
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

/// The steps before one.
#[cfg(test)]
pub(super) fn older(postgres: bool, before: i64) -> Migrator {
    let steps = if postgres { POSTGRES } else { SQLITE };
    migrator(&steps[..steps.partition_point(|step| step.0 < before)])
}

#[cfg(test)]
mod first_version_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::db::query;
    use crate::store::sql;
    use crate::store::testing::migrated;
    use sha2::{Digest, Sha256};
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

    /// A store remembers of each migration what it was, and is not opened by a program that has another under that number.
    #[test]
    fn a_migration_that_has_landed_is_never_changed() {
        let landed = include_str!("../../migrations/SHA256SUMS");
        let name = |store: &str, step: &Step| format!("{store}/{:04}_{}.sql", step.0, step.1);
        let line =
            |store, step: &Step| format!("{}  {}", sql::hex(&Sha256::digest(step.2)), name(store, step));
        let ours = POSTGRES.iter().map(|step| line("postgres", step));
        let ours: Vec<String> = ours.chain(SQLITE.iter().map(|step| line("sqlite", step))).collect();
        let landed: Vec<&str> = landed.lines().collect();
        assert_eq!(landed, ours, "a new migration gets its line; those that are there stay as they are");
    }

    /// Statements in which these words are bytes: SQLite does not take text for them.
    fn with_bytes(text: &str, words: &[&str]) -> String {
        match crate::store::testing::on_postgres() {
            true => text.to_owned(),
            false => words
                .iter()
                .fold(text.to_owned(), |text, word| text.replace(word, &format!("CAST({word} AS BLOB)"))),
        }
    }

    /// Two tokens: of the first, risk has looked at two taps of three; of the other at none of its opened one.
    const TAPS: &str = "INSERT INTO taps (key_id, sequence, token_key, time_ms, clock, service_day, station, direction, \
        opened, atc, cryptogram, oda, gate_us, received_ms) VALUES \
        ('gate-001', 1, '0123456789abcdef', 86400000, 2, 1, 'A', 0, 1, 7, 1, 1, 9, 0), \
        ('gate-001', 2, '0123456789abcdef', 86500000, 2, 1, 'B', 1, 1, 8, 1, 1, 9, 0), \
        ('gate-001', 4, '0123456789abcdef', 172900000, 2, 2, 'A', 0, 1, 9, 1, 1, 9, 0), \
        ('gate-002', 1, 'fedcba9876543210', 172900001, 2, 2, 'A', 0, 1, 3, 1, 1, 9, 0), \
        ('gate-002', 2, 'fedcba9876543210', 172900002, 2, 2, 'A', 0, 0, 4, 1, 1, 9, 0), \
        ('gate-002', 3, NULL, 172900003, 2, 2, 'A', 0, 1, NULL, 0, 0, 9, 0); \
        INSERT INTO unchecked (token_key, from_ms, upto_ms) VALUES ('0123456789abcdef', 172900000, 172900000), \
        ('fedcba9876543210', 172900001, 172900001);";

    #[tokio::test]
    async fn taps_of_an_older_store_are_found_by_token_and_those_not_looked_at_are_still_to_be() {
        let words = ["'gate-001'", "'gate-002'", "'0123456789abcdef'", "'fedcba9876543210'"];
        let store = migrated(&[(19, with_bytes(TAPS, &words))]).await;
        let token_taps = "SELECT utc_day, time_ms, sequence FROM token_taps ORDER BY 1, 2";
        let found: Vec<(i64, i64, i64)> = query(token_taps).rows(store.pool()).await.unwrap();
        assert_eq!(found, [(1, 86_400_000, 1), (1, 86_500_000, 2)]);
        let arrivals = "SELECT from_ms, upto_ms, from_sequence, upto_sequence, taps FROM arrivals ORDER BY 1";
        let found: Vec<(i64, i64, i64, i64, i64)> = query(arrivals).rows(store.pool()).await.unwrap();
        assert_eq!(found, [(172_900_000, 172_900_000, 4, 4, 1), (172_900_001, 172_900_001, 1, 1, 1)]);
        // Which ATCs the first has used.
        let states = "SELECT last_tap_ms, atcs FROM risk_states";
        let found: Vec<(i64, Option<Vec<u8>>)> = query(states).rows(store.pool()).await.unwrap();
        assert_eq!(found, [(86_500_000, Some(vec![0, 7, 0, 8]))]);
    }

    /// Day 5 is closed, and of days 6 and 9 fares were asked for early; a statement of day 5 was taken in.
    const EARLY: &str = "INSERT INTO charges (service_day, token_key, part, rank, amount_fen, state) VALUES \
        (5, '0123456789abcdef', 1, 0, 200, 'deducted'), (6, '0123456789abcdef', 1, 0, 200, 'deducted'), \
        (6, '0123456789abcdef', 2, 0, 200, 'declined'), (9, '0123456789abcdef', 1, 0, 200, 'sent'); \
        INSERT INTO day_close (service_day, rank, shard, state, cursor, until, forced, shares) \
        VALUES (5, 0, 0, 'sealed', '~', '~', 0, 'nominal'); \
        INSERT INTO taken_files (kind, hash, service_day, bytes, lines, sum_fen, done, taken_ms, \"by\") \
        VALUES ('statement', '0123456789abcdef0123456789abcdef', 5, 1, 1, 1, 1, 0, 'anna');";

    #[tokio::test]
    async fn of_an_older_store_early_fares_go_by_fixed_shares_and_each_file_is_of_its_one_day() {
        let words = ["'0123456789abcdef0123456789abcdef'", "'0123456789abcdef'", "'~'"];
        let store = migrated(&[(23, with_bytes(EARLY, &words))]).await;
        let days = "SELECT service_day, shares FROM early_days ORDER BY 1";
        let found: Vec<(i64, String)> = query(days).rows(store.pool()).await.unwrap();
        assert_eq!(found, [(6, "fixed".to_owned()), (9, "fixed".to_owned())]);
        let last: Vec<i64> = query("SELECT last_day FROM taken_files").column(store.pool()).await.unwrap();
        assert_eq!(last, [5]);
    }

    /// A charge that was refunded in part and waived, one that is owed, and a token that is denied.
    const OWED: &str = "INSERT INTO charges (service_day, token_key, part, rank, amount_fen, state, attempts, kind, of_part, \
        offset_fen) VALUES (5, '0123456789abcdef', 1, 0, 200, 'waived', 2, 'fare', NULL, -50), \
        (5, '0123456789abcdef', 2, 1, -50, 'deducted', 0, 'refund', 1, 50), \
        (6, '0123456789abcdef', 1, 0, 300, 'declined', 1, 'fare', NULL, 0); \
        INSERT INTO debts (token_key, service_day, part, amount_fen, reason, state, asked_ms) VALUES \
        ('0123456789abcdef', 5, 1, 150, 'no_funds', 'waived', 7), ('0123456789abcdef', 6, 1, 300, 'closed', 'open', NULL); \
        INSERT INTO deny_entries (token_key, cause, sealed_token, last_four, expiry_yymm, since_ms, note, by) \
        VALUES ('0123456789abcdef', 'debt', 'sealed', '0000', 3012, 8, 'a note', 'clearing');";

    #[tokio::test]
    async fn debts_of_an_older_store_stand_and_may_be_written_off() {
        let words = ["'0123456789abcdef'", "'sealed'"];
        let store = migrated(&[(26, with_bytes(OWED, &words))]).await;
        let rows = "SELECT concat_ws(' ', service_day, part, rank, amount_fen, state, attempts, kind, of_part, offset_fen) \
                    FROM charges ORDER BY service_day, part";
        let found: Vec<String> = query(rows).column(store.pool()).await.unwrap();
        let before = [
            "5 1 0 200 waived 2 fare -50",
            "5 2 1 -50 deducted 0 refund 1 50",
            "6 1 0 300 declined 1 fare 0",
        ];
        assert_eq!(found, before);
        let rows = "SELECT concat_ws(' ', service_day, part, amount_fen, reason, state, asked_ms) FROM debts ORDER BY service_day";
        let found: Vec<String> = query(rows).column(store.pool()).await.unwrap();
        assert_eq!(found, ["5 1 150 no_funds waived 7", "6 1 300 closed open"]);
        let mut tx = store.begin().await.unwrap();
        for text in [
            "UPDATE charges SET state = 'written_off' WHERE state = 'declined'",
            "UPDATE debts SET state = 'written_off' WHERE state = 'open'",
            "UPDATE deny_entries SET cause = 'written_off' WHERE cause = 'debt' AND note = 'a note'",
        ] {
            assert_eq!(query(text).execute(&mut *tx).await.unwrap(), 1, "{text}");
        }
        tx.commit().await.unwrap();
        // What is to be asked for is still found by its index.
        let unfinished = "SELECT count(*) FROM charges AS c INDEXED BY charges_unfinished \
                          WHERE c.state IN ('open', 'sent', 'in_doubt', 'declined')";
        assert_eq!(query(unfinished).scalar::<i64>(store.pool()).await.unwrap(), 0);
        let open = "SELECT count(*) FROM debts AS d INDEXED BY debts_open WHERE d.state = 'open'";
        assert_eq!(query(open).scalar::<i64>(store.pool()).await.unwrap(), 0);
        let mut tx = store.begin().await.unwrap();
        assert!(query("UPDATE charges SET state = 'lost'").execute(&mut *tx).await.is_err());
    }

    /// Two days of a store in which something was last done on day 5, and a tap by a clock that is decades ahead.
    const APART: &str = "INSERT INTO entries (key_id, sequence, counter, kind, received_ms, sealed) \
        VALUES ('gate-001', 1, 1, 1, 432000000, 'sealed'); \
        INSERT INTO token_taps (utc_day, token_key, time_ms, key_id, sequence, clock, service_day, station, direction, \
        cryptogram, withheld) VALUES (4, '0123456789abcdef', 345600000, 'gate-001', 1, 2, 4, 'A', 0, 1, 0), \
        (5, '0123456789abcdef', 432000000, 'gate-001', 2, 2, 5, 'B', 1, 1, 0), \
        (5, 'fedcba9876543210', 432000001, 'gate-001', 3, 2, 5, 'B', 1, 1, 0), \
        (8, '0123456789abcdef', 691200000, 'gate-001', 4, 2, 8, 'A', 0, 1, 0), \
        (47482, '0123456789abcdef', 4102444800000, 'gate-001', 5, 2, 47482, 'A', 0, 1, 0);";

    #[tokio::test]
    async fn taps_of_an_older_store_stay_in_one_partition_but_for_those_of_clocks_that_are_ahead() {
        let words = ["'gate-001'", "'0123456789abcdef'", "'fedcba9876543210'", "'sealed'"];
        let store = migrated(&[(24, with_bytes(APART, &words))]).await;
        let all = "SELECT utc_day, time_ms, sequence FROM token_taps ORDER BY sequence";
        let found: Vec<(i64, i64, i64)> = query(all).rows(store.pool()).await.unwrap();
        let ahead = [(8, 691_200_000, 4), (47_482, 4_102_444_800_000, 5)];
        let before = [(4, 345_600_000, 1), (5, 432_000_000, 2), (5, 432_000_001, 3)];
        assert_eq!(found, [&before[..], &ahead].concat());
        let mut conn = store.pool().acquire().await.unwrap();
        let days = crate::risk::tapped_utc_days_in(&mut conn).await.unwrap();
        assert_eq!(days, [4, 5, 8, 47_482]);
        if store.is_shared() {
            let places = "SELECT CAST(CAST(tableoid AS regclass) AS TEXT), count(*) FROM token_taps GROUP BY 1 ORDER BY 1";
            let found: Vec<(String, i64)> = query(places).rows(&mut conn).await.unwrap();
            assert_eq!(found, [("token_taps_before".to_owned(), 3), ("token_taps_rest".to_owned(), 2)]);
        }
    }
}
