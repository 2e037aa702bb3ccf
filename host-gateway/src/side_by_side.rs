//! Several gateways on one PostgreSQL database: each a process of its own in all but name.

use crate::bank::embedded::{Class, Deposit, Limits, NewAccount, deposit_in, open_in};
use crate::clearing::app::{close, publish_tariff};
use crate::clearing::report;
use crate::cli::App;
use crate::lists::deny::{Addition, Cause, add_in};
use crate::testing::{Card, House, MORNING};
use std::collections::HashMap;
use wavepass_fares::{Fen, ServiceDay};
use wavepass_protocol::time::UnixMs;

fn day() -> ServiceDay {
    "2026-11-23".parse().unwrap()
}

async fn count(house: &House, text: &'static str) -> i64 {
    house.count(text).await
}

#[tokio::test]
async fn what_one_gateway_commissions_and_publishes_the_others_know() {
    let one = House::on_postgres().await;
    let other = one.beside().await;
    let card = Card::new(1);
    let key = one.register(&card).await;
    let mut gate = one.gate(1).await;
    // Nobody has told the other of the gate: it asks when entries of an unknown key come.
    assert_eq!(other.ingest(&[card.tap(0, 1).seal(&mut gate)]).await, ["accepted"]);

    let (denied, note) = (Cause::Manual, String::new());
    let additions = [Addition { token_key: key, number: None, cause: denied, note }];
    let mut tx = one.app.store.begin().await.unwrap();
    add_in(&mut tx, &*one.app.clearing, &additions, "test", UnixMs(MORNING)).await.unwrap();
    tx.commit().await.unwrap();
    one.app.publish_lists().await.unwrap();
    let denies = |app: &App| app.lists.denies(&card.token, Some(card.expiry));
    assert!(denies(&one.app) && !denies(&other.app));
    let mut news = other.app.news();
    news.mark_unchanged();
    other.app.take_over().await.unwrap();
    assert!(denies(&other.app) && news.has_changed().unwrap());
    // Nothing new is no news: sessions are not woken for it.
    news.mark_unchanged();
    other.app.take_over().await.unwrap();
    assert!(!news.has_changed().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_come_through_several_gateways_count_once() {
    let houses = {
        let first = House::on_postgres().await;
        [first.beside().await, first.beside().await, first]
    };
    let mut batches: Vec<Vec<Vec<u8>>> = Vec::new();
    for id in 1..=8 {
        let mut gate = houses[0].gate(id).await;
        let taps = (1..=40_u16).map(|atc| Card::new(id).tap(u64::from(atc) * 60_000, atc).seal(&mut gate));
        batches.push(taps.collect());
    }
    // Every gate's entries come through every gateway, at once and in pieces.
    let mut senders = tokio::task::JoinSet::new();
    for house in &houses {
        for batch in &batches {
            let (intake, batch) = (house.app.intake.clone(), batch.clone());
            senders.spawn(async move {
                let mut words: HashMap<&str, usize> = HashMap::new();
                for piece in batch.chunks(7) {
                    for verdict in intake.ingest(piece.to_vec()).await.unwrap().verdicts {
                        *words.entry(verdict.word()).or_default() += 1;
                    }
                }
                words
            });
        }
    }
    let mut words: HashMap<&str, usize> = HashMap::new();
    for sent in senders.join_all().await {
        for (word, times) in sent {
            *words.entry(word).or_default() += times;
        }
    }
    assert_eq!(words, HashMap::from([("accepted", 320), ("repeated", 640)]));
    assert_eq!(count(&houses[0], "SELECT count(*) FROM taps").await, 320);
    assert_eq!(count(&houses[0], "SELECT sum(acked) FROM watermarks").await, 320);
    assert_eq!(count(&houses[0], "SELECT count(*) FROM breaks").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_that_several_gateways_close_at_once_is_one_batch_deducted_once() {
    let one = House::on_postgres().await;
    let other = one.beside().await;
    let tariff = crate::clearing::testing::CITY.replace("\"HB\"", "\"A1\"");
    publish_tariff(&one.app, "test", "t.toml", &tariff).await.unwrap();
    let mut gate = one.gate(1).await;
    let mut entries = Vec::new();
    for n in 1..=60 {
        let card = Card::new(n);
        one.register(&card).await;
        entries.push(card.tap(u64::from(n) * 1_000, 1).seal(&mut gate));
    }
    assert_eq!(one.ingest(&entries).await, vec!["accepted"; 60]);
    let accounts = one.texts("SELECT account_id FROM tokens").await;
    let mut tx = one.app.store.begin().await.unwrap();
    let new: Vec<NewAccount> = accounts
        .iter()
        .map(|account_id| NewAccount { account_id: account_id.clone(), class: Class::Ii })
        .collect();
    open_in(&mut tx, &new).await.unwrap();
    let fill = |account_id: &String| Deposit {
        account_id: account_id.clone(),
        name: "first".into(),
        amount: Fen(10_000),
        at_ms: 0,
    };
    let deposits: Vec<Deposit> = accounts.iter().map(fill).collect();
    deposit_in(&mut tx, &Limits::default(), &deposits).await.unwrap();
    tx.commit().await.unwrap();

    let apps = [one.app.clone(), other.app.clone(), one.app.clone(), other.app.clone()];
    let mut closers = tokio::task::JoinSet::new();
    for app in apps {
        closers.spawn(async move { close(&app, "test", day(), true, false).await.unwrap() });
    }
    let closed = closers.join_all().await;
    assert_eq!(closed.iter().map(|c| c.deduct.approved).sum::<u64>(), 60);
    let books = report(&other.app.store, Some(day())).await.unwrap();
    assert!(books.balances().unwrap());
    assert!(books.deducted_fen > Fen::ZERO);
    assert_eq!(books.deducted_fen, books.charged_fen);
    assert_eq!(books.batches.len(), 1);
    assert_eq!(count(&one, "SELECT count(*) FROM charges WHERE state = 'deducted'").await, 60);
    assert_eq!(count(&one, "SELECT count(*) FROM attempts").await, 60);
    let spent = "SELECT sum(10000 - balance_fen) FROM bank_accounts";
    assert_eq!(count(&one, spent).await, books.deducted_fen.0);
}
