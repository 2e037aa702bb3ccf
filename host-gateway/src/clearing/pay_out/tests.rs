//! Pay-outs: once under a name, and only when nothing of the account's tokens is open.

use super::*;
use crate::api::testing::over;
use crate::bank::BankConnector;
use crate::bank::embedded::{EmbeddedBank, Limits};
use crate::clearing::app::close;
use crate::clearing::testing::{day, deposit, penniless};
use crate::testing::{House, MORNING};
use serde_json::json;
use wavepass_protocol::time::UnixMs;

/// A house whose one rider has paid a fare of 900 fen out of 5,000, and the rider's account.
async fn paid_up() -> (House, String) {
    let (house, _, account) = penniless("").await;
    deposit(&house.app.store, &account, 5_000).await;
    house.app.clock.driven().unwrap().set(UnixMs(MORNING + 24 * 3_600_000)).unwrap();
    close(&house.app, "anna", day(), false, false).await.unwrap();
    (house, account)
}

async fn books_agree(house: &House) {
    let bank = EmbeddedBank::new(house.app.store.clone(), Limits::default()).unwrap();
    assert_eq!(bank.own_differences().await.unwrap(), [""; 0]);
    // What came from bound accounts and did not go back was spent or is held.
    let sums = "SELECT CAST(COALESCE(SUM(amount_fen), 0) AS BIGINT) FROM bank_postings";
    assert_eq!(house.count(sums).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn however_often_and_by_however_many_it_is_asked_for_money_is_paid_out_once() {
    let (house, account) = paid_up().await;
    let asked: Vec<_> = (0..6)
        .map(|_| {
            let (app, account) = (house.app.clone(), account.clone());
            tokio::spawn(async move { pay_out(&app, "anna", &account, "leaves").await.unwrap() })
        })
        .collect();
    let mut paid = Vec::new();
    for answer in asked {
        paid.push(answer.await.unwrap());
    }
    assert!(paid.iter().all(|paid| paid.paid_fen == Fen(4_100)), "{paid:?}");
    assert_eq!(paid.iter().filter(|paid| !paid.already).count(), 1);
    books_agree(&house).await;
    let to_bound =
        "SELECT CAST(SUM(amount_fen) AS BIGINT) FROM bank_postings WHERE side = 'bound' AND amount_fen > 0";
    assert_eq!(house.count(to_bound).await, 4_100);

    // What comes later stays, until another pay-out is asked for.
    house.command(&["account", "deposit", &account, "--fen", "300", "--name", "later"]).await;
    let said = house.command(&["account", "pay-out", &account, "--name", "leaves"]).await;
    assert_eq!(said, format!("pay-out leaves came before: 41.00 CNY of e-account {account}"));
    assert_eq!(house.count("SELECT balance_fen FROM bank_accounts").await, 300);
    let said = house.command(&["account", "pay-out", &account, "--name", "later"]).await;
    assert_eq!(said, format!("3.00 CNY of e-account {account} are paid out to its bound account"));
    assert_eq!(house.count(to_bound).await, 4_400);
    books_agree(&house).await;
    let lines = "SELECT \"user\" || ' ' || subject || ' ' || detail FROM audit_log WHERE action = 'account.pay_out' ORDER BY id";
    let expected = [format!("anna {account} leaves: 4100 fen"), format!("anna {account} later: 300 fen")];
    assert_eq!(house.texts(lines).await, expected);
}

#[tokio::test]
async fn whoever_owes_something_is_paid_out_once_it_is_recovered() {
    let (house, _, account) = penniless("").await;
    let app = &house.app;
    app.clock.driven().unwrap().set(UnixMs(MORNING + 24 * 3_600_000)).unwrap();
    close(app, "anna", day(), false, false).await.unwrap();
    deposit(&app.store, &account, 1_000).await;
    let owes = pay_out(app, "anna", &account, "leaves").await;
    assert!(matches!(owes, Err(PayOutError::Unfinished(Unfinished::Debts(1)))), "{owes:?}");
    assert_eq!(house.count("SELECT balance_fen FROM bank_accounts").await, 1_000);
    let key = house.texts("SELECT lower(hex(token_key)) FROM tokens").await.remove(0);
    house.command(&["debt", "recover", "--token", &key]).await;
    assert_eq!(pay_out(app, "anna", &account, "leaves").await.unwrap().paid_fen, Fen(100));
    books_agree(&house).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_it_is_refused_by_name_and_done_once() {
    let (house, _, account) = penniless("").await;
    let (house, _server, http) = over(house).await;
    let path = format!("/v1/accounts/{account}/pay-out");
    let ask = async |path: &str| http.admin("POST", path, Some(json!({ "name": "leaves" }))).await;
    let code = async |path: &str| {
        let (status, answer) = ask(path).await;
        (status, answer["error"]["code"].as_str().unwrap().to_owned())
    };
    assert_eq!(code(&path).await, (409, "unchecked_taps".into()));
    http.admin("POST", "/v1/risk/run", None).await;
    assert_eq!(code(&path).await, (409, "day_open".into()));
    house.app.clock.driven().unwrap().set(UnixMs(MORNING + 24 * 3_600_000)).unwrap();
    http.admin("POST", "/v1/days/2026-11-23/close", Some(json!({}))).await;
    assert_eq!(code(&path).await, (409, "debts_open".into()));
    deposit(&house.app.store, &account, 900).await;
    let key = house.texts("SELECT lower(hex(token_key)) FROM tokens").await.remove(0);
    http.admin("POST", &format!("/v1/debts/{key}/recover"), None).await;
    assert_eq!(code(&path).await, (409, "empty".into()));
    assert_eq!(code("/v1/accounts/nobody/pay-out").await, (404, "no_account".into()));
    assert_eq!(code(&format!("{path}?dry_run=true")).await, (400, "query".into()));
    let bad = http.admin("POST", &path, Some(json!({ "name": "two words" }))).await;
    assert_eq!((bad.0, bad.1["error"]["code"].as_str()), (400, Some("text")));

    house.command(&["account", "deposit", &account, "--fen", "250", "--name", "again"]).await;
    for already in [false, true, true] {
        let paid = json!({ "account": account, "name": "leaves", "paid_fen": 250, "already": already });
        assert_eq!(ask(&path).await, (200, paid));
    }
    books_agree(&house).await;
    let document = http.admin("GET", "/openapi.json", None).await.1;
    assert!(document["paths"]["/v1/accounts/{account}/pay-out"]["post"].is_object());
}
