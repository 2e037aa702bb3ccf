//! A person is erased: what opens to them is gone, the books stand, and nothing of theirs was open.

use super::*;
use crate::clearing::disputes;
use crate::clearing::pay_out::PayOutError;
use crate::clearing::unfinished::Unfinished;
use crate::keep::{EraseError, Erased, erase, preview};
use crate::keys::{KeyOptions, KeySet};
use crate::lists::deny::{self, Addition, Cause};
use crate::store::db::query;
use crate::store::testing::on_postgres;
use crate::tokens::{IssueRequest, TokensError, issue_many_in};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use wavepass_fares::Fen;
use wavepass_protocol::tap::{Decision, Entry, Reason};
use wavepass_protocol::time::Date;
use wavepass_protocol::token::Expiry;

#[tokio::test]
async fn nothing_opens_to_the_number_of_a_person_who_was_erased_and_the_books_stand() {
    let mut city = City::new("").await;
    let mut sent = city.ride(0).await;
    let mut refused = city.cards[0].tap(60_000, 5);
    refused.decision = Decision::Refuse(Reason::Denied);
    sent.push(refused.seal(&mut city.gate));
    // Another entry of hers in a place that is taken is set aside whole.
    let other = city.cards[0].tap(9_000, 77);
    let conflict = other.with_entry(|entry| city.gate.seal_as(1, 40, entry).unwrap());
    city.house.ingest(&[&sent[4..], std::slice::from_ref(&conflict)].concat()).await;
    city.at(1);
    city.close(0).await;
    let app = &city.house.app;
    let mut tx = app.store.begin().await.unwrap();
    let manual =
        Addition { token_key: city.keys[0], number: None, cause: Cause::Manual, note: String::new() };
    deny::add_in(&mut tx, &*app.clearing, &[manual], "ops", UnixMs(MORNING)).await.unwrap();
    tx.commit().await.unwrap();
    app.publish_lists().await.unwrap();
    assert!(app.lists.denies(&city.cards[0].token, Some(city.cards[0].expiry)));
    // A student's half of 900 fen was deducted.
    assert_eq!(city.pay_anna_out().await, 5_000 - 450);
    let before = city.dump().await;

    let would = preview(app, ANNA).await.unwrap();
    assert_eq!(city.dump().await, before);
    let erased = erase(app, "ops", ANNA).await.unwrap();
    assert_eq!(would, Erased { dry_run: true, ..erased.clone() });
    // She tapped once and was refused once.
    assert_eq!((erased.already, erased.tokens, erased.entries, erased.set_aside), (false, 1, 2, 1));
    assert_eq!((erased.deny_entries, erased.left_fen, &erased.against[..]), (1, Some(Fen(0)), &[][..]));
    let after = city.dump().await;
    let said = of(&after, &["6222021200000001", "622202120000000131", "account-of-anna"]);
    assert!(said.is_empty(), "{said:?}");
    assert!(!app.lists.denies(&city.cards[0].token, Some(city.cards[0].expiry)));
    nothing_opens(&city).await;

    // Of Ben, every row is as it was; the books stand but for the name of Anna's e-account.
    let ben = city.keys[1].to_hex().to_uppercase();
    assert_eq!(of(&after, &[&ben, BEN]), of(&before, &[&ben, BEN]));
    for table in ["ledger_", "charges ", "batches ", "settlements ", "journeys ", "taps "] {
        let rows = |rows: &[String]| -> Vec<String> {
            rows.iter().filter(|row| row.starts_with(table)).cloned().collect()
        };
        assert_eq!(rows(&after), rows(&before), "{table}");
    }
    city.agrees(0).await;
    let audited = of(&after, &["person.erase"]);
    assert!(
        audited.len() == 1 && audited[0].contains("1 tokens, 2 entries, 1 set aside, 1 causes of denial")
    );

    // Rule 3: what was sent comes again, and is known.
    let verdicts = city.house.ingest(&[sent.clone(), vec![conflict.clone()]].concat()).await;
    assert_eq!(verdicts, ["repeated"; 6]);
    let receipt = app.intake.ingest(sent).await.unwrap();
    assert_eq!(receipt.acknowledged.get(&city.gate.key_id), Some(&5));
    nothing_opens(&city).await;

    // A token under the account's name would have the number and the keys of the erased one.
    let keys = KeySet::generate(&mut ChaCha20Rng::seed_from_u64(7), &KeyOptions::house(2036)).unwrap();
    let (request, mut tx) =
        (IssueRequest { account_id: ANNA.into(), ..phone() }, app.store.begin().await.unwrap());
    let issued =
        issue_many_in(&mut tx, &*app.clearing, &*keys.bank(), &[request], "ops", UnixMs(MORNING)).await;
    assert!(matches!(issued, Err(TokensError::Erased)));
    drop(tx);

    // Again, it says so and changes nothing.
    let before = city.dump().await;
    let again = erase(app, "ops", ANNA).await.unwrap();
    let then = i64::try_from(app.clock.now().0).unwrap();
    assert_eq!(again, Erased { already: true, erased_ms: Some(then), ..Erased::default() });
    assert_eq!(preview(app, ANNA).await.unwrap(), Erased { dry_run: true, ..again });
    let since =
        city.house.texts("SELECT account_id FROM bank_accounts WHERE state = 'closed'").await.remove(0);
    let again = erase(app, "ops", &since).await.unwrap();
    assert_eq!(again, Erased { already: true, ..Erased::default() });
    assert_eq!(city.dump().await, before);
    assert!(matches!(erase(app, "ops", "account-of-carl").await, Err(EraseError::Unknown)));
    assert!(matches!(erase(app, "ops", "6222021200000001").await, Err(EraseError::Text(_))));
}

#[tokio::test]
async fn a_tap_of_the_token_of_somebody_who_was_erased_is_told_as_nobodys() {
    let mut city = City::new("").await;
    city.ride(0).await;
    city.at(1);
    city.close(0).await;
    let kinds = "SELECT kind FROM alerts ORDER BY kind";
    assert_eq!(city.house.texts(kinds).await, Vec::<String>::new());
    city.pay_anna_out().await;
    let kept = "SELECT count(*) FROM risk_states WHERE recent IS NOT NULL";
    let before = city.house.count(kept).await;
    erase(&city.house.app, "ops", ANNA).await.unwrap();
    assert_eq!(city.house.count(kept).await, before - 1);
    let tap = city.cards[0].tap(86_400_000, 90).seal(&mut city.gate);
    city.house.ingest(&[tap]).await;
    crate::risk::run(&city.house.app).await.unwrap();
    assert_eq!(city.house.texts(kinds).await, ["unknown_token"]);
}

fn phone() -> IssueRequest {
    IssueRequest {
        account_id: String::new(),
        category: "adult".into(),
        effective: Date { year: 2026, month: 1, day: 1 },
        expiry: Expiry { year: 31, month: 12 },
        network: *b"WAVE",
        operator: 0,
    }
}

/// With clearing's keys, nothing that is stored opens to Anna's number; without SQLite's log, nor do its files hold it.
async fn nothing_opens(city: &City) {
    let app = &city.house.app;
    let mut opened = 0;
    for text in ["SELECT sealed FROM entries", "SELECT sealed FROM set_aside"] {
        let sealed: Vec<Vec<u8>> = query(text).column(app.store.pool()).await.unwrap();
        let sealed: Vec<&[u8]> = sealed.iter().map(Vec::as_slice).collect();
        for entry in app.clearing.unseal(&sealed).into_iter().flatten() {
            let Entry::Tap(tap) = entry.entry() else { continue };
            assert_eq!(tap.token, Some(city.cards[1].token));
            opened += 1;
        }
    }
    assert_eq!(opened, 1);
    let sealed: Vec<(Vec<u8>, Vec<u8>)> = query(
        "SELECT token_key, sealed_token FROM tokens UNION ALL SELECT token_key, sealed_token FROM deny_entries",
    )
    .rows(app.store.pool())
    .await
    .unwrap();
    for (key, sealed) in sealed {
        let Ok((token, _)) = app.clearing.open_token(&TokenKey::from_slice(&key).unwrap(), &sealed) else {
            continue;
        };
        assert_eq!(token, city.cards[1].token);
    }
}

#[tokio::test]
async fn on_sqlite_the_files_hold_no_sealed_byte_of_what_was_erased() {
    if on_postgres() {
        return;
    }
    let mut city = City::new("").await;
    let sent = city.ride(0).await;
    city.at(1);
    city.close(0).await;
    let holds = |sealed: &[u8]| {
        let needle = &sealed[sealed.len() - 24..];
        let files = std::fs::read_dir(city.house.scratch.dir.path()).unwrap();
        files
            .map(|file| std::fs::read(file.unwrap().path()).unwrap())
            .any(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
    };
    assert!(holds(&sent[0]) && holds(&sent[2]));
    city.pay_anna_out().await;
    erase(&city.house.app, "ops", ANNA).await.unwrap();
    assert_eq!((holds(&sent[0]), holds(&sent[2])), (false, true));
}

#[tokio::test]
async fn whoever_has_anything_open_is_not_erased_and_is_told_what() {
    let mut city = City::new("").await;
    city.ride(0).await;
    let key = city.keys[0].as_slice().to_vec();
    let app = &city.house.app;
    let refused = async || {
        let before = city.dump().await;
        let error = erase(app, "ops", ANNA).await.unwrap_err();
        let would = preview(app, ANNA).await.unwrap();
        let paid = pay_out(app, "ops", ANNA, "leaves").await;
        assert_eq!(city.dump().await, before);
        assert!(!error.to_string().contains(ANNA));
        let EraseError::Unfinished(unfinished) = error else { panic!("{error}") };
        // The preview has them all, the first one first; a pay-out waits for the same.
        assert_eq!((would.dry_run, would.against[0].why), (true, unfinished.word()));
        assert_eq!(would.against[0].says, unfinished.to_string());
        assert_eq!(would.against.last().unwrap().why, "balance_left");
        assert!(matches!(paid, Err(PayOutError::Unfinished(waits)) if waits == unfinished), "{paid:?}");
        unfinished
    };
    assert_eq!(refused().await, Unfinished::Unchecked(1));
    let all: Vec<_> =
        preview(app, ANNA).await.unwrap().against.into_iter().map(|against| against.why).collect();
    assert_eq!(all, ["unchecked_taps", "day_open", "balance_left"]);
    crate::risk::run(app).await.unwrap();
    assert_eq!(refused().await, Unfinished::DayOpen(day()));
    city.at(1);
    city.close(0).await;
    for (state, unfinished) in [("in_doubt", Unfinished::InDoubt(1)), ("open", Unfinished::Charges(1))] {
        let charge = |state| query("UPDATE charges SET state = ? WHERE token_key = ?").bind(state).bind(&key);
        city.write(charge(state)).await;
        assert_eq!(refused().await, unfinished);
        city.write(charge("deducted")).await;
    }
    city.write(query("INSERT INTO debts (token_key, service_day, part, amount_fen, reason, state) VALUES (?, 20780, 1, 450, 'no_funds', 'open')").bind(&key)).await;
    assert_eq!(refused().await, Unfinished::Debts(1));
    city.write(query("DELETE FROM debts")).await;
    city.write(query("INSERT INTO holds (token_key, number, service_day, account_id, amount_fen, state, asked_ms, expires_ms) VALUES (?, 1, 20780, 'account-of-anna', 100, 'active', 0, 0)").bind(&key)).await;
    assert_eq!(refused().await, Unfinished::Holds(1));
    city.write(query("UPDATE holds SET state = 'released'")).await;
    let of = (city.keys[0], day(), city.journey(1));
    let dispute = disputes::open(app, "ops", of, "the gate was at fault").await.unwrap();
    assert_eq!(refused().await, Unfinished::Disputes(1));
    disputes::reject(app, "ops", &dispute.id.parse().unwrap(), "it was not").await.unwrap();
    let left = erase(app, "ops", ANNA).await.unwrap_err();
    assert!(matches!(left, EraseError::Balance(Fen(4_550))), "{left}");
    city.pay_anna_out().await;
    assert_eq!(erase(app, "ops", ANNA).await.unwrap().tokens, 1);
}

#[tokio::test]
async fn a_card_whose_person_was_erased_is_nobodys_when_it_taps_again() {
    let mut city = City::new("").await;
    city.ride(0).await;
    city.at(1);
    city.close(0).await;
    city.pay_anna_out().await;
    erase(&city.house.app, "ops", ANNA).await.unwrap();
    // Twice with one ATC and other data: a copy, which is denied by the number of what came now.
    city.ride(1).await;
    let mut copy = city.cards[0].tap(DAY_MS + 60_000, 11);
    copy.data = 99;
    let copy = copy.seal(&mut city.gate);
    city.house.ingest(&[copy]).await;
    city.at(2);
    let app = &city.house.app;
    close(app, "ops", day().plus(1), false, false).await.unwrap();
    assert!(app.lists.denies(&city.cards[0].token, Some(city.cards[0].expiry)));
    let breaks = city.house.texts("SELECT kind FROM breaks WHERE closed_ms IS NULL").await;
    assert_eq!(breaks, ["unregistered_token"]);
    // Its first day is still priced as it was.
    city.agrees(0).await;
}

#[tokio::test]
async fn what_is_left_of_an_erased_person_is_called_so_and_their_name_is_taken() {
    let mut city = City::new("").await;
    city.ride(0).await;
    city.at(1);
    city.close(0).await;
    city.pay_anna_out().await;
    let house = &city.house;
    let erased = house.command(&["person", "erase", "--account", ANNA]).await;
    assert!(erased.contains("\"already\": false") && erased.contains("\"tokens\": 1"), "{erased}");
    for _ in 0..2 {
        let again = house.command(&["person", "erase", "--account", ANNA]).await;
        let when = format!("\"erased_ms\": {}", house.app.clock.now().0);
        assert!(again.contains("\"already\": true") && again.contains(&when), "{again}");
    }

    // Of accounts, only those that are somebody's are listed, unless all are asked for.
    let listed = house.command(&["account", "list"]).await;
    assert!(listed.lines().count() == 2 && listed.contains(BEN), "{listed}");
    let listed = house.command(&["account", "list", "--all"]).await;
    let left = listed.lines().find(|line| line.starts_with("erased-")).unwrap();
    assert!(listed.lines().count() == 3 && left.contains(" erased ") && !left.contains("closed"), "{listed}");
    let left = left.split(' ').next().unwrap();
    assert!(house.command(&["account", "show", left]).await.contains(" erased "));
    let erased = house.command(&["person", "erase", "--account", left]).await;
    assert!(erased.contains("\"already\": true") && erased.contains("\"erased_ms\": null"), "{erased}");

    // The name is nobody's any more.
    for command in [
        &["account", "open", ANNA][..],
        &["account", "deposit", ANNA, "--fen", "1", "--name", "n"],
        &["account", "pay-out", ANNA, "--name", "n"],
        &["account", "show", ANNA],
    ] {
        let told = house.refusal(command).await;
        assert!(told.contains("was erased") && !told.contains(ANNA), "{command:?}: {told}");
    }
    let told = house.refusal(&["account", "open", "erased-by-me"]).await;
    assert!(told.contains("begins with `erased-`"), "{told}");

    // Nor has the token a state to change.
    let key = city.keys[0].to_hex();
    for change in ["suspend", "resume", "delete"] {
        let told = house.refusal(&["token", change, &key]).await;
        assert!(told.contains("was erased with its person"), "{change}: {told}");
    }
    let listed = house.command(&["token", "list"]).await;
    assert!(listed.lines().any(|line| line.starts_with(&key) && line.contains(" erased ")), "{listed}");
    assert!(house.command(&["token", "show", &key]).await.contains("\"state\": \"erased\""));
    // A token that was deleted and not erased is still said to be so.
    let ben = city.keys[1].to_hex();
    for _ in 0..2 {
        assert!(house.command(&["token", "delete", &ben]).await.contains("is deleted"));
    }
    // An account's name is never empty: every erased token would be meant.
    let told = house.refusal(&["person", "erase", "--account", ""]).await;
    assert!(told.contains("an account's name is 1 to 64"), "{told}");
}
