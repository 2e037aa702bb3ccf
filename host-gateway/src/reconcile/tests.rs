//! Every kind of difference, planted and found.

use super::*;
use crate::clearing::testing::{LINES, World, day};
use crate::clearing::{CloseOptions, DeductOptions};
use crate::settlement::{SettlementConfig, settle_day};
use crate::store::testing::on_postgres;

/// A world of four tokens, closed, deducted and settled; token 3 has no money.
async fn closed() -> World {
    let world = World::new(4, 10_000).await;
    let taps: Vec<_> = (0..4).flat_map(|n| [(n, 8, 0, "HB", 0), (n, 8, 30, "UN", 1)]).collect();
    world.taps(1, &taps).await;
    world.tamper("UPDATE bank_accounts SET state = 'frozen' WHERE account_id = 'a3'").await;
    let options = CloseOptions { now_ms: i64::MAX, ..CloseOptions::default() };
    world.clearing.close_day(day(), options).await.unwrap();
    world.clearing.deduct_day(day(), DeductOptions::default()).await.unwrap();
    settle_day(&world.clearing, day(), &SettlementConfig::default()).await.unwrap();
    world
}

async fn kinds(world: &World) -> Vec<&'static str> {
    reconcile_day(&world.clearing, day(), 7).await.unwrap().differences.into_keys().collect()
}

#[tokio::test]
async fn a_day_in_order_has_no_breaks() {
    let world = closed().await;
    assert!(kinds(&world).await.is_empty());
    assert_eq!(world.one::<i64>("SELECT count(*) FROM breaks").await, 0);
}

/// Without it, PostgreSQL looks through all of a table for each row of another.
#[tokio::test]
async fn before_a_day_is_reconciled_postgresql_has_taken_stock_of_what_grew() {
    let world = closed().await;
    if !on_postgres() {
        return;
    }
    let known = "SELECT count(*) FROM pg_class WHERE relname IN ('attempts', 'charges', 'journeys') AND reltuples > 0";
    assert_eq!(world.one::<i64>(known).await, 0);
    kinds(&world).await;
    assert_eq!(world.one::<i64>(known).await, 3);
}

#[tokio::test]
async fn a_bank_that_gives_fewer_lines_than_it_is_asked_for_is_read_to_its_end() {
    let world = closed().await;
    let page = world.clearing.bank.statement(day_number(day()), None, PAGE).await.unwrap();
    assert!(page.len() as i64 == i64::from(LINES));
    let approved = "SELECT count(*) FROM attempts WHERE state = 'approved'";
    assert!(world.one::<i64>(approved).await > i64::from(LINES));
    assert!(kinds(&world).await.is_empty());
}

#[tokio::test]
async fn every_kind_of_difference_is_found() {
    let zero = "UPDATE charges SET amount_fen = 1 WHERE token_key = x'00000000000000000000000000000000'";
    let unlock = ["ledger", "bank"]
        .map(|books| {
            // A trigger's name is its own on SQLite, and its table's on PostgreSQL.
            let table = if on_postgres() { format!(" ON {books}_postings") } else { String::new() };
            format!(
                "DROP TRIGGER {books}_postings_stay{table}; DROP TRIGGER {books}_postings_are_kept{table}"
            )
        })
        .join(";");
    // What is planted, and kinds that must be among those found.
    let planted: [(&str, &[&str]); 31] = [
        ("DELETE FROM token_taps WHERE sequence = 1", &["tap_missing", "journey_extra", "journey_missing"]),
        ("DELETE FROM token_taps WHERE sequence = 2", &["tap_missing", "journey_differs"]),
        ("DELETE FROM taps WHERE sequence = 1", &["tap_extra"]),
        ("UPDATE taps SET station = 'UN' WHERE sequence = 1", &["tap_differs"]),
        ("DELETE FROM journeys WHERE first_sequence = 1", &["journey_missing", "charge_differs"]),
        (
            "UPDATE journeys SET charged_fen = 1 WHERE first_sequence = 1",
            &["journey_differs", "charge_differs"],
        ),
        (zero, &["charge_differs", "deduction_amount", "ledger_differs", "batch_altered", "rule_6"]),
        (
            "DELETE FROM attempts WHERE state = 'approved'",
            &["deduction_missing", "bank_missing_ours", "rule_6"],
        ),
        (
            "UPDATE charges SET state = 'open' WHERE state = 'deducted'",
            &["deduction_extra", "ledger_differs", "rule_6"],
        ),
        (
            "UPDATE attempts SET state = 'approved' WHERE state = 'declined'",
            &["deduction_extra", "state_differs", "bank_missing_theirs"],
        ),
        (
            "UPDATE charges SET part = 9 WHERE state = 'declined'",
            &["ledger_extra", "debt_missing", "debt_extra"],
        ),
        (
            "UPDATE ledger_postings SET amount_fen = amount_fen + 1 WHERE account = 'deducted'",
            &["ledger_unbalanced", "rule_6", "settlement_differs"],
        ),
        (
            "DELETE FROM ledger_postings WHERE account = 'fares'",
            &["ledger_differs", "ledger_unbalanced", "rule_6"],
        ),
        (
            "DELETE FROM bank_postings WHERE side = 'transit' AND account_id = 'a0'",
            &["bank_missing_theirs", "bank_books"],
        ),
        (
            "UPDATE bank_postings SET amount_fen = amount_fen - 1 WHERE side = 'transit' AND account_id = 'a0'",
            &["bank_amount", "bank_books"],
        ),
        ("UPDATE bank_accounts SET balance_fen = balance_fen + 1 WHERE account_id = 'a0'", &["bank_books"]),
        (
            "INSERT INTO bank_answers SELECT account_id, CAST(substr(entry, 1, 27) || x'02' AS BLOB), service_day, amount_fen, answer \
             FROM bank_answers WHERE account_id = 'a0' AND length(entry) = 28; \
             INSERT INTO bank_postings SELECT account_id, CAST(substr(entry, 1, 27) || x'02' AS BLOB), line, side, amount_fen, at_ms \
             FROM bank_postings WHERE account_id = 'a0' AND length(entry) = 28",
            &["bank_duplicate", "bank_missing_ours", "bank_books"],
        ),
        ("UPDATE batches SET total_fen = 5", &["batch_altered"]),
        ("UPDATE batches SET previous_hash = x'00'", &["batch_altered"]),
        ("UPDATE settlements SET settled_fen = settled_fen - 1", &["settlement_differs"]),
        ("UPDATE day_close SET shares = 'nominal'", &["shares_differ"]),
        (
            "UPDATE day_close SET shares = 'nominal'; \
             INSERT INTO set_offs SELECT service_day, token_key, part, 9, 5 FROM charges WHERE state = 'declined'",
            &["set_off_differs", "refund_differs"],
        ),
        (
            "UPDATE attempts SET amount_fen = -amount_fen WHERE state = 'approved'",
            &["credit_unpaid", "deduction_amount"],
        ),
        (
            "UPDATE charges SET kind = 'refund' WHERE state = 'declined'",
            &["refund_differs", "charge_differs"],
        ),
        (
            "UPDATE charges SET offset_fen = -1 WHERE state = 'deducted'",
            &["refund_differs", "deduction_amount", "ledger_differs"],
        ),
        (
            "UPDATE charges SET amount_fen = -amount_fen WHERE state = 'declined'",
            &["credit_declined", "charge_differs"],
        ),
        ("UPDATE charges SET state = 'in_doubt' WHERE state = 'declined'", &["no_answer", "state_differs"]),
        ("DELETE FROM debts", &["debt_missing"]),
        ("UPDATE debts SET state = 'recovered'", &["debt_missing", "denied_without_debt"]),
        ("DELETE FROM deny_entries", &["debtor_not_denied"]),
        ("UPDATE attempts SET state = 'in_doubt' WHERE state = 'declined'", &["state_differs", "rule_6"]),
    ];
    let mut seen: Vec<&str> = Vec::new();
    for (change, expected) in planted {
        let world = closed().await;
        world.tamper(&unlock).await;
        world.tamper(change).await;
        let found = kinds(&world).await;
        for kind in expected {
            assert!(found.contains(kind), "{change}: {kind} is not among {found:?}");
        }
        seen.extend(found);
    }
    for kind in KINDS {
        assert!(seen.contains(&kind), "nothing planted is {kind}");
    }
    assert!(seen.iter().all(|kind| KINDS.contains(kind)));
}

/// What went wrong on the way from the taps before the close: the close, and its repetition here, know nothing of it.
#[tokio::test]
async fn what_was_lost_between_taps_and_tokens_before_the_close_is_told() {
    for (lost, kind) in [
        ("DELETE FROM token_taps WHERE sequence = 1", "tap_missing"),
        ("UPDATE token_taps SET withheld = 1 WHERE sequence = 1", "tap_differs"),
        ("UPDATE taps SET passage = 0 WHERE sequence = 1", "tap_differs"),
    ] {
        let world = World::new(1, 10_000).await;
        world.taps(1, &[(0, 8, 0, "HB", 0), (0, 8, 30, "UN", 1)]).await;
        world.tamper(lost).await;
        let options = CloseOptions { now_ms: i64::MAX, ..CloseOptions::default() };
        world.clearing.close_day(day(), options).await.unwrap();
        world.clearing.deduct_day(day(), DeductOptions::default()).await.unwrap();
        assert_eq!(kinds(&world).await, [kind], "{lost}");
        assert!(world.one::<String>("SELECT subject FROM breaks").await.ends_with("-1"));
    }
}

#[tokio::test]
async fn what_risk_has_not_looked_at_is_no_difference() {
    let world = closed().await;
    world.tamper("DELETE FROM token_taps WHERE sequence = 1").await;
    let arrival = "INSERT INTO arrivals (key_id, from_sequence, upto_sequence, taps, from_ms, upto_ms) \
                   SELECT key_id, 1, 1, 1, time_ms - 1, time_ms FROM taps WHERE sequence = 1";
    world.tamper(arrival).await;
    world.tamper("UPDATE taps SET passage = 2 WHERE sequence = 3").await;
    world
        .tamper("INSERT INTO late_passages (key_id, of) SELECT key_id, 3 FROM taps WHERE sequence = 3")
        .await;
    let found = kinds(&world).await;
    assert!(!found.iter().any(|kind| kind.starts_with("tap_")), "{found:?}");
    world.tamper("DELETE FROM arrivals; DELETE FROM late_passages").await;
    let found = kinds(&world).await;
    assert!(found.contains(&"tap_missing") && found.contains(&"tap_differs"), "{found:?}");
}

#[tokio::test]
async fn what_is_waived_or_written_off_in_the_tables_alone_is_told() {
    for (give_up, told) in [
        (
            "UPDATE charges SET state = 'waived' WHERE state = 'declined'",
            "waived: tables 300 fen, ledger 0 fen",
        ),
        (
            "UPDATE charges SET state = 'written_off' WHERE state = 'declined'",
            "written off: tables 300 fen, ledger 0 fen",
        ),
    ] {
        let world = closed().await;
        world.tamper(give_up).await;
        let found = kinds(&world).await;
        assert!(found.contains(&"rule_6") && found.contains(&"ledger_differs"), "{found:?}");
        let rules = query("SELECT detail FROM breaks WHERE kind = 'rule_6' ORDER BY detail");
        let rules: Vec<String> = rules.column(world.scratch.pool()).await.unwrap();
        assert!(rules.iter().any(|detail| detail == told), "{rules:?}");
    }
}

#[tokio::test]
async fn a_break_is_one_row_closed_when_gone_and_opened_when_back() {
    let world = closed().await;
    let count = "SELECT count(*) FROM breaks WHERE closed_ms IS NULL";
    world.tamper("DELETE FROM deny_entries").await;
    for _ in 0..2 {
        assert_eq!(kinds(&world).await, ["debtor_not_denied"]);
        assert_eq!(world.one::<i64>(count).await, 1);
    }
    let entry =
        "INSERT INTO deny_entries SELECT token_key, 'debt', x'', '0000', 3012, 0, '', 'test' FROM debts";
    world.tamper(entry).await;
    assert!(kinds(&world).await.is_empty());
    assert_eq!(world.one::<i64>(count).await, 0);
    world.tamper("DELETE FROM deny_entries").await;
    assert_eq!(kinds(&world).await, ["debtor_not_denied"]);
    assert_eq!(world.one::<i64>(count).await, 1);
    assert_eq!(world.one::<i64>("SELECT count(*) FROM breaks").await, 1);
    // Nobody knows the number of a token whose person was erased: it cannot be denied.
    world.tamper("UPDATE tokens SET account_id = ''").await;
    assert!(kinds(&world).await.is_empty());
}
