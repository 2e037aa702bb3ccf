//! E-accounts, the bank's files, and a bank elsewhere.

use super::*;

#[test]
fn an_account_is_opened_and_filled_once_and_a_token_is_issued_for_it_alone() {
    let house = House::new();
    let refused = |args: &[&str], told: &str| {
        let out = house.run(args);
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{args:?}");
        assert!(stderr.contains(told), "{args:?}: {stderr}");
    };
    refused(&["account", "deposit", "ACC-1", "--fen", "5000", "--name", "first"], "no e-account `ACC-1`");
    house.says(&["account", "open", "ACC-1", "--user", "anna"]);
    for _ in 0..2 {
        let said = house.says(&["account", "deposit", "ACC-1", "--fen", "5000", "--name", "first"]);
        assert!(said.contains("holds 50.00 CNY"), "{said}");
    }
    refused(&["account", "open", "ACC-1", "--class", "iii"], "there already, of class ii");
    assert!(house.says(&["account", "list"]).contains("ACC-1"));
    refused(&["token", "issue", "--account", "ACC-NOPE", "--out", "p.json"], "no e-account `ACC-NOPE`");
    let martian = ["token", "issue", "--account", "ACC-1", "--category", "martian", "--out", "p.json"];
    refused(&martian, "no category `martian`");
    refused(&["account", "list", "--user", "anna\nroot"], "--user: a user's name");
    refused(&["account", "list", "--user", "6217000012345678901"], "may be a card's number");
    assert!(!house.path("p.json").exists());
    let gateway = house.serve();
    house.says(&["token", "issue", "--account", "ACC-1", "--out", "p.json"]);
    assert!(house.path("p.json").exists());
    assert!(house.says(&["account", "show", "ACC-1"]).contains("50.00"));
    drop(gateway);
}

#[test]
fn a_file_of_the_bank_s_is_taken_in_by_the_gateway_or_by_the_caller_and_not_kept() {
    let house = House::new();
    house.gate("1");
    // More than a request may have otherwise.
    std::fs::write(house.path("letter.xml"), "<Letter>".repeat(2 << 20)).unwrap();
    let refused = "error: the file is not taken in, and nothing is done: line 1, column ";
    let told = house.refuses(&["answers", "letter.xml"]);
    assert!(told.starts_with(refused), "{told}");
    let _gateway = house.serve();
    let told = house.refuses(&["answers", "letter.xml"]);
    assert!(told.starts_with(refused), "{told}");
    let told = house.refuses(&["reconcile", "2026-11-23", "--statement", "letter.xml"]);
    assert!(told.contains("service day 2026-11-23 is not closed"), "{told}");
    assert!(house.refuses(&["answers", "nowhere.xml"]).contains("nowhere.xml: "));
    assert_eq!(std::fs::read_dir(house.path("spool")).unwrap().count(), 0);
    let misused = house.run(&["reconcile", "2026-11-23", "--slices", "--statement", "letter.xml"]);
    assert_eq!(misused.status.code(), Some(2));
}

#[test]
fn a_gateway_whose_bank_is_away_takes_taps_and_says_where_accounts_are() {
    let house = House::new();
    let config =
        |key: &str| format!("[bank]\nconnector = 'http'\nurl = 'http://127.0.0.1:1'\nkey_file = '{key}'\n");
    std::fs::write(house.path("bank.key"), "5a".repeat(32)).unwrap();
    std::fs::write(house.path("bank.toml"), config("bank.key")).unwrap();
    std::fs::write(house.path("lost.toml"), config("lost.key")).unwrap();
    std::fs::write(house.path("bad.toml"), config("bank.key").replace("http://", "ftp://")).unwrap();
    let told = house.refuses(&["--config", "lost.toml", "serve"]);
    assert!(told.contains("[bank]: lost.key: "), "{told}");
    let told = house.refuses(&["--config", "bad.toml", "serve"]);
    assert!(told.contains("bank.url") && !told.contains("ftp:"), "{told}");

    let mut gate = house.gate("1");
    let _gateway = house.serve_with(&["--config", "bank.toml"]);
    house.write_entries("taps.jsonl", &entries(&mut gate, 5));
    assert_eq!(house.says(&["import", "taps.jsonl"]).trim(), "5 entries: 5 accepted");
    for command in [
        &["account", "open", "ACC-1"][..],
        &["account", "deposit", "ACC-1", "--fen", "1", "--name", "n"],
        &["account", "pay-out", "ACC-1", "--name", "n"],
        &["account", "list"],
    ] {
        let told = house.refuses(command);
        assert!(told.contains("kept by the bank at http://127.0.0.1:1, not here"), "{told}");
    }
    // The bank itself knows whether there is such an account.
    house.says(&["token", "issue", "--account", "ACC-1", "--out", "p.json"]);
    assert!(house.path("p.json").exists());
}
