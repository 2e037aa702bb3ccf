//! A store from its first version on: laid and filled as that version had it, brought to the present step by step, and then
//! worked with.
//!
//! On SQLite the first version had intake alone, and each further table is filled in the version that brought it; PostgreSQL
//! had all of these in its first.

use crate::store::db::query_made;
use crate::store::testing::{Scratch, migrated, on_postgres};
use crate::testing::House;
use serde_json::{Value, json};

const INTAKE: &str = include_str!("../testing/first_version/intake.sql");
const REGISTRY: &str = include_str!("../testing/first_version/registry.sql");
const CLEARING: &str = include_str!("../testing/first_version/clearing.sql");
const EMERGENCIES: &str = include_str!("../testing/first_version/emergencies.sql");
/// SQLite noted later why an issuer was revoked.
const REVOKED: &str =
    "INSERT INTO revocations (rid, key_index, serial) VALUES (x'f057415645', 1, x'000009');";
const REVOKED_WITH_NOTE: &str = "INSERT INTO revocations (rid, key_index, serial, since_ms, by, note) \
    VALUES (x'f057415645', 1, x'000009', 0, '', '');";

/// How many rows each table of those versions has, before and after.
const ROWS: [(&str, i64); 32] = [
    ("entries", 35),
    ("taps", 32),
    ("passages_waiting", 1),
    ("watermarks", 4),
    ("set_aside", 1),
    ("alerts", 2),
    ("audit_log", 3),
    ("emergencies", 2),
    ("gates", 4),
    ("tokens", 7),
    ("deny_entries", 2),
    ("lists", 5),
    ("list_deltas", 1),
    ("list_epoch", 1),
    ("ca_keys", 1),
    ("revocations", 1),
    ("gate_config", 1),
    ("tariffs", 1),
    ("journeys", 10),
    ("adjustments", 1),
    ("charges", 9),
    ("day_close", 3),
    ("batches", 2),
    ("attempts", 9),
    ("debts", 4),
    ("ledger_transactions", 16),
    ("ledger_postings", 33),
    ("settlements", 1),
    ("breaks", 2),
    ("bank_accounts", 7),
    ("bank_postings", 22),
    ("bank_answers", 14),
];

async fn first_version() -> Scratch {
    if on_postgres() {
        let text = [INTAKE, REGISTRY, REVOKED_WITH_NOTE, CLEARING, EMERGENCIES].concat();
        return migrated(&[(2, text.replace("x'", "'\\x"))]).await;
    }
    migrated(&[
        (2, INTAKE.to_owned()),
        (3, [REGISTRY, REVOKED].concat()),
        (4, CLEARING.to_owned()),
        (5, EMERGENCIES.to_owned()),
    ])
    .await
}

/// Rows as text, a line each.
async fn lines(store: &Scratch, text: &str) -> Vec<String> {
    query_made(text.to_owned()).column(store.pool()).await.unwrap()
}

#[tokio::test]
async fn every_row_of_a_store_of_the_first_version_stands() {
    let store = first_version().await;
    for (table, rows) in ROWS {
        let found = lines(&store, &format!("SELECT CAST(count(*) AS TEXT) FROM {table}")).await;
        assert_eq!(found, [rows.to_string()], "{table}");
    }
    let balances = "SELECT account || ' ' || CAST(SUM(amount_fen) AS TEXT) FROM ledger_postings GROUP BY account ORDER BY 1";
    let expected = [
        "deducted 1600",
        "fares -3700",
        "fees -4",
        "in_doubt 200",
        "owed 1000",
        "settled -1596",
        "settlement 1600",
        "waived 900",
    ];
    assert_eq!(lines(&store, balances).await, expected);
}

#[tokio::test]
async fn what_the_steps_move_out_of_a_store_of_the_first_version_is_where_it_is_looked_for() {
    let store = first_version().await;
    // 0010: days by gates, and an opened tap without a token never counts.
    let days = "SELECT service_day || ' ' || hex(key_id) FROM tapped_days ORDER BY 1";
    let expected = [
        "20777 5750000100000001",
        "20777 5750000100000003",
        "20778 5750000100000001",
        "20778 5750000100000002",
        "20778 5750000100000003",
        "20779 5750000100000001",
        "20779 5750000100000002",
        "20779 5750000200000003",
    ];
    assert_eq!(lines(&store, days).await, expected);
    let withheld =
        "SELECT hex(key_id) || ' ' || sequence || ' ' || withheld FROM taps WHERE withheld <> 0 ORDER BY 1";
    assert_eq!(lines(&store, withheld).await, ["5750000100000002 2 1", "5750000200000003 3 8"]);
    // 0016: each close is one part, as far as it had come.
    let closes = "SELECT service_day || ' ' || rank || ' ' || shard || ' ' || state || ' ' || shares || ' ' || \
                  CASE WHEN cursor < until THEN 1 ELSE 0 END || ' ' || hex(until) FROM day_close ORDER BY 1";
    let until = "FF".repeat(17);
    let expected = [
        format!("20777 0 0 pricing fixed 1 {until}"),
        format!("20778 0 0 sealed fixed 1 {until}"),
        format!("20778 1 0 sealed fixed 1 {until}"),
    ];
    assert_eq!(lines(&store, closes).await, expected);
    // 0019: what risk had not looked at arrives, the rest is beside its token; and the ATCs that a token used.
    let arrivals = "SELECT hex(key_id) || ' ' || from_sequence || '-' || upto_sequence || ' ' || taps FROM arrivals ORDER BY from_ms";
    let expected = [
        "5750000100000001 12-12 1",
        "5750000100000001 16-16 1",
        "5750000200000003 1-1 1",
        "5750000100000002 5-5 1",
        "5750000100000001 17-17 1",
        "5750000100000001 15-15 1",
    ];
    assert_eq!(lines(&store, arrivals).await, expected);
    let atcs = "SELECT t.account_id || ' ' || hex(s.atcs) FROM risk_states AS s JOIN tokens AS t ON t.token_key = s.token_key ORDER BY 1";
    let expected = [
        "account-0001 00010004",
        "account-0002 00030005",
        "account-0003 00030004",
        "account-0004 00030003",
        "account-0005 00030004",
        "account-0006 00010008",
    ];
    assert_eq!(lines(&store, atcs).await, expected);
    // 0022: beside its token is all of a tap.
    let beside = "SELECT CAST(count(*) AS TEXT) FROM token_taps AS i JOIN taps AS t ON t.key_id = i.key_id \
                  AND t.sequence = i.sequence WHERE t.opened = 1 AND i.utc_day = t.time_ms / 86400000 \
                  AND i.token_key = t.token_key AND i.time_ms = t.time_ms AND i.clock = t.clock \
                  AND i.service_day = t.service_day AND i.station = t.station AND i.direction = t.direction \
                  AND i.atc = t.atc AND i.cryptogram = t.cryptogram AND i.card_digest = t.card_digest \
                  AND i.passage IS NOT DISTINCT FROM t.passage AND i.withheld = t.withheld";
    assert_eq!(lines(&store, beside).await, ["23"]);
    assert_eq!(lines(&store, "SELECT CAST(count(*) AS TEXT) FROM token_taps").await, ["23"]);
    // 0007, 0023: when a debt was last asked for is not known, and nothing was asked for early.
    let asked = "SELECT CAST(count(*) AS TEXT) FROM debts WHERE asked_ms IS NOT NULL";
    assert_eq!(lines(&store, asked).await, ["0"]);
    assert_eq!(lines(&store, "SELECT CAST(count(*) AS TEXT) FROM early_days").await, ["0"]);
}

/// A command's answer.
async fn told(house: &House, args: &[&str]) -> Value {
    serde_json::from_str(&house.command(args).await).unwrap()
}

#[tokio::test]
async fn the_present_gateway_goes_on_with_a_store_of_the_first_version() {
    let house = House::over(first_version().await).await;
    // The closed day, before anything is done with it.
    let differences = told(&house, &["reconcile", "2026-11-21"]).await;
    assert_eq!(differences["differences"], json!({ "no_answer": 1 }), "{differences}");
    // Risk has looked at the rest meanwhile: one ATC of card 5 was used twice.
    let arrivals: i64 = house.count("SELECT count(*) FROM arrivals").await;
    assert_eq!(arrivals, 0);
    let denied = "SELECT cause FROM deny_entries AS e JOIN tokens AS t ON t.token_key = e.token_key \
                  WHERE t.account_id = 'account-0005'";
    assert_eq!(house.texts(denied).await, ["clone"]);

    // The interrupted close goes on where it was, and the open day is closed.
    let closed = told(&house, &["close-day", "2026-11-20"]).await;
    let batch = |closed: &Value| {
        let batch = &closed["close"]["batch"];
        ["rank", "number", "charges", "total_fen"].map(|name| batch[name].as_i64().unwrap())
    };
    assert_eq!(batch(&closed), [0, 3, 2, 400], "{closed}");
    let closed = told(&house, &["close-day", "2026-11-22"]).await;
    // Card 5 did not leave, and is forgiven: a barrier was open. Card 4 came after that, and pays for a missing exit.
    assert_eq!(batch(&closed), [0, 4, 5, 1_900], "{closed}");
    assert_eq!(closed["deduct"], json!({ "approved": 3, "declined": 1, "in_doubt": 0 }));
    // What was in doubt is asked again, and what it adds is settled.
    let deducted = told(&house, &["deduct", "2026-11-21"]).await;
    assert_eq!(deducted, json!({ "approved": 1, "declined": 0, "in_doubt": 0 }));
    let settled = told(&house, &["settle", "2026-11-21"]).await;
    let of = |name: &str| settled.as_array().unwrap().iter().map(|s| s[name].as_i64().unwrap()).collect();
    let (ranks, sums): (Vec<i64>, Vec<i64>) = (of("rank"), of("settled_fen"));
    assert_eq!((ranks, sums), (vec![0, 1], vec![1_596, 200]));
    for day in ["2026-11-20", "2026-11-22"] {
        told(&house, &["settle", day]).await;
    }
    for day in ["2026-11-20", "2026-11-21", "2026-11-22"] {
        let found = told(&house, &["reconcile", day]).await;
        assert_eq!(found["differences"], json!({}), "{day}");
    }
    let report = crate::clearing::report(&house.app.store, None).await.unwrap();
    assert!(report.balances().unwrap());
    assert_eq!((report.ledger_sum_fen.0, report.charged_fen.0), (0, 3_700 + 200 + 1_900));
}
