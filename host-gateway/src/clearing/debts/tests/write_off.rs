//! Write-offs: a loss in the books, and a token that stays denied until somebody readmits it.

use serde_json::json;

use super::*;
use crate::api::testing::over;
use crate::reconcile::reconcile_day;
use crate::store::testing::on_postgres;

async fn write_off(
    world: &World,
    ending: Ending<'_>,
    readmit: bool,
) -> Result<(Vec<u32>, Fen), ClearingError> {
    let mut tx = world.scratch.begin().await.unwrap();
    let done = world.clearing.write_off_in(&mut tx, ending, readmit).await?;
    tx.commit().await.unwrap();
    assert_eq!(done.readmitted, readmit);
    Ok((done.parts, done.written_off_fen))
}

/// The causes for which anybody is denied.
async fn causes(world: &World) -> Vec<String> {
    let text = "SELECT hex(token_key) || ' ' || cause FROM deny_entries ORDER BY token_key, cause";
    let rows: Vec<String> = crate::store::db::query(text).column(world.scratch.pool()).await.unwrap();
    rows.iter().map(|row| row.to_lowercase()).collect()
}

fn denied(n: u32, cause: &str) -> String {
    format!("{} {cause}", World::hex(n))
}

#[tokio::test]
async fn a_written_off_debt_is_booked_once_and_apart_from_waived_ones_and_is_not_asked_for() {
    let world = in_debt(3).await;
    waive(&world, ending(2)).await.unwrap();
    let loss = Ending { reason: "nobody is found", ..ending(0) };
    assert_eq!(write_off(&world, loss, false).await.unwrap(), (vec![1], Fen(400)));
    let r = day_report(&world).await;
    assert_eq!((r.charged_fen, r.waived_fen, r.written_off_fen), (Fen(1_200), Fen(800), Fen(400)));
    assert_eq!((r.owed_fen, r.debts, r.balances()), (Fen(400), 1, Ok(true)));
    assert_eq!(debts(&world, None, Some(DebtState::WrittenOff)).await[0].token_key, key(0).to_hex());
    let states = "SELECT string_agg(state, ' ' ORDER BY token_key) FROM charges";
    assert_eq!(world.one::<String>(states).await, "written_off declined waived");
    assert_clean(&world).await;

    let before = world.books().await;
    assert_eq!(write_off(&world, loss, false).await.unwrap(), (vec![], Fen(0)));
    deposit(&world.scratch.store, "a0", 1_000).await;
    let later = crate::clearing::testing::at(24 * 5, 0);
    let due = Recovery::default().due(&world.scratch.store, world.clearing.tariffs.clock(), later).await;
    let due: Vec<_> = due.unwrap().into_iter().flat_map(|(_, charges)| charges).collect();
    assert_eq!(due.iter().map(|id| TokenKey(id.token_key)).collect::<Vec<_>>(), [key(1)]);
    assert_eq!(world.clearing.recover_token(key(0)).await.unwrap(), DeductSummary::default());
    assert_eq!(world.balance(0).await, 1_399);
    let ours =
        |books: Vec<String>| books.into_iter().filter(|row| !row.starts_with("bank_")).collect::<Vec<_>>();
    assert_eq!(ours(world.books().await), ours(before));
    let retry = DeductOptions { retry_declined: true };
    let again = world.clearing.deduct_day(day(), retry).await.unwrap();
    assert_eq!((again.approved, again.declined), (0, 1));
    settle_day(&world.clearing, day(), &SettlementConfig::default()).await.unwrap();
    assert_clean(&world).await;
    let audited = "SELECT \"user\" || ' ' || action || ' ' || subject || ' ' || detail FROM audit_log WHERE action = 'debt.write_off'";
    let line =
        format!("anna debt.write_off {} 2026-11-23, part 1, 400 fen: nobody is found", key(0).to_hex());
    assert_eq!(world.one::<String>(audited).await, line);
    assert_eq!(world.one::<i64>("SELECT count(*) FROM audit_log").await, 2);
}

#[tokio::test]
async fn a_write_off_that_is_not_committed_leaves_nothing() {
    let world = in_debt(1).await;
    let before = world.books().await;
    let mut tx = world.scratch.begin().await.unwrap();
    world.clearing.write_off_in(&mut tx, ending(0), false).await.unwrap();
    drop(tx);
    assert_eq!(world.books().await, before);
    assert_eq!(causes(&world).await, [denied(0, "debt")]);
    assert_eq!(world.one::<i64>("SELECT count(*) FROM audit_log").await, 0);
}

#[tokio::test]
async fn a_token_whose_debt_is_written_off_stays_denied_until_it_is_readmitted() {
    let world = in_debt(2).await;
    write_off(&world, ending(0), false).await.unwrap();
    write_off(&world, ending(1), true).await.unwrap();
    assert_eq!(causes(&world).await, [denied(0, "written_off")]);
    assert_clean(&world).await;
    // Readmitted later, it is not denied again by the same command.
    assert_eq!(write_off(&world, ending(0), true).await.unwrap(), (vec![], Fen(0)));
    assert!(causes(&world).await.is_empty());
    write_off(&world, ending(0), false).await.unwrap();
    assert!(causes(&world).await.is_empty());
}

#[tokio::test]
async fn a_write_off_and_another_debt_of_the_token_deny_it_each_for_itself() {
    for readmit in [false, true] {
        let world = in_debt(1).await;
        world.tamper("UPDATE bank_accounts SET state = 'frozen'").await;
        world.taps(20, &[(0, 9, 0, "UN", 2)]).await;
        close(&world, true).await;
        assert_eq!(deduct(&world).await.declined, 1);
        let part = Ending { part: Some(2), ..ending(0) };
        assert_eq!(write_off(&world, part, readmit).await.unwrap(), (vec![2], Fen(200)));
        let written_off = (!readmit).then(|| denied(0, "written_off"));
        let both: Vec<String> = [denied(0, "debt")].into_iter().chain(written_off.clone()).collect();
        assert_eq!(causes(&world).await, both);
        assert_eq!(waive(&world, ending(0)).await.unwrap().parts, [1]);
        assert_eq!(causes(&world).await, written_off.into_iter().collect::<Vec<_>>());
        assert_clean(&world).await;
    }
}

#[tokio::test]
async fn what_may_be_paid_or_is_given_up_otherwise_is_not_written_off() {
    let world = in_debt(4).await;
    world.line.set(Mood::Deaf);
    world.clearing.recover_token(key(0)).await.unwrap();
    let refused = write_off(&world, ending(0), true).await;
    assert!(matches!(refused, Err(ClearingError::DebtUnanswered { part: 1, .. })), "{refused:?}");
    world.line.set(Mood::Well);
    deposit(&world.scratch.store, "a1", 1).await;
    world.clearing.recover_token(key(1)).await.unwrap();
    assert!(matches!(write_off(&world, ending(1), false).await, Err(ClearingError::DebtPaid { .. })));
    waive(&world, ending(2)).await.unwrap();
    let refused = write_off(&world, ending(2), false).await;
    assert!(matches!(refused, Err(ClearingError::DebtGivenUp { state: "waived", .. })), "{refused:?}");
    write_off(&world, ending(3), false).await.unwrap();
    let refused = waive(&world, ending(3)).await;
    assert!(matches!(refused, Err(ClearingError::DebtGivenUp { state: "written_off", .. })), "{refused:?}");
    assert!(matches!(write_off(&world, ending(9), false).await, Err(ClearingError::NoDebt { .. })));
    let refused = write_off(&world, Ending { reason: " ", ..ending(0) }, false).await;
    assert!(matches!(refused, Err(ClearingError::Text(_))), "{refused:?}");
    assert_eq!(day_report(&world).await.written_off_fen, Fen(400));
    // The attempt without an answer is a break until there is one.
    let found = reconcile_day(&world.clearing, day(), 0).await.unwrap();
    assert_eq!(found.differences, [("no_answer", 1)].into());
    world.clearing.recover_token(key(0)).await.unwrap();
    assert_clean(&world).await;
}

/// A house under whose tariff its one rider owes 900 fen, and the rider's token.
async fn owing() -> (crate::testing::House, crate::testing::Card, String) {
    let (house, card, _) = penniless("").await;
    house.app.clock.driven().unwrap().set(UnixMs(MORNING + 24 * 3_600_000)).unwrap();
    app::close(&house.app, "anna", day(), false, false).await.unwrap();
    let token = house.texts("SELECT lower(hex(token_key)) FROM tokens").await.remove(0);
    (house, card, token)
}

#[tokio::test]
async fn by_command_gates_refuse_a_written_off_token_until_a_named_person_readmits_it() {
    let (house, card, token) = owing().await;
    let denies = || house.app.lists.denies(&card.token, Some(card.expiry));
    let write_off =
        ["debt", "write-off", "--token", &token, "--day", "2026-11-23", "--reason", "nobody is found"];
    assert!(house.command(&write_off).await.contains("\"written_off_fen\": 900"));
    assert!(denies());
    let listed = house.command(&["debt", "list", "--state", "written_off"]).await;
    assert!(listed.contains("written_off no_funds"), "{listed}");
    let listed = house.command(&["deny", "list"]).await;
    assert!(listed.contains("written_off") && listed.contains("nobody is found"), "{listed}");
    let removed = ["deny", "remove", "--token", &token, "--cause", "written_off", "--note", "paid in cash"];
    assert!(house.command(&removed).await.contains("is no longer denied for `written_off`"));
    assert!(!denies());
    let lines =
        house.texts("SELECT action || ' ' || detail FROM audit_log WHERE detail LIKE 'written_off%'").await;
    assert_eq!(lines, ["deny.add written_off: nobody is found", "deny.remove written_off: paid in cash"]);
    let by = house.texts("SELECT DISTINCT \"user\" FROM audit_log WHERE detail LIKE 'written_off%'").await;
    assert!(by.len() == 1 && by[0] != "clearing", "{by:?}");
    let again = [&write_off[..], &["--readmit"]].concat();
    assert!(house.command(&again).await.contains("\"written_off_fen\": 0"));
    assert_eq!(house.command(&["report"]).await.matches("\"written_off_fen\": 900").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debt_is_written_off_over_http() {
    let (house, card, token) = owing().await;
    let (house, _server, http) = over(house).await;
    let path = format!("/v1/debts/{token}/write-off");
    for (body, status, code) in [
        (json!({ "day": "2026-11-23" }), 422, "body"),
        (json!({ "day": "2026-11-23", "reason": "" }), 400, "text"),
        (json!({ "day": "2026-11-24", "reason": "lost" }), 404, "no_debt"),
    ] {
        let (got, answer) = http.admin("POST", &path, Some(body)).await;
        assert_eq!((got, answer["error"]["code"].as_str()), (status, Some(code)), "{answer}");
    }
    let body = json!({ "day": "2026-11-23", "reason": "lost", "readmit": true });
    let written_off = json!({
        "token_key": token, "service_day": "2026-11-23", "parts": [1], "written_off_fen": 900, "readmitted": true,
    });
    assert_eq!(http.admin("POST", &path, Some(body)).await, (200, written_off));
    assert!(!house.app.lists.denies(&card.token, Some(card.expiry)));
    let waive = json!({ "day": "2026-11-23", "reason": "goodwill" });
    let (status, answer) = http.admin("POST", &format!("/v1/debts/{token}/waive"), Some(waive)).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (409, Some("debt_given_up")), "{answer}");
    let (_, listed) = http.admin("GET", "/v1/debts?state=written_off", None).await;
    assert_eq!(listed["debts"][0]["state"], "written_off");
    let (_, document) = http.admin("GET", "/openapi.json", None).await;
    assert!(document["paths"]["/v1/debts/{token}/write-off"]["post"].is_object());
}

/// Nobody registered it: it owes, and cannot be denied by its key alone.
#[tokio::test]
async fn the_debt_of_a_token_that_nobody_registered_is_written_off() {
    let (house, _, token) = owing().await;
    let mut tx = house.app.store.begin().await.unwrap();
    let blob = if on_postgres() { "''" } else { "x''" };
    for text in [format!("UPDATE tokens SET sealed_token = {blob}"), "DELETE FROM deny_entries".to_owned()] {
        crate::store::db::query_made(text).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
    let which = (TokenKey::from_hex(&token).unwrap(), day(), None);
    let done = super::super::write_off(&house.app, "bert", which, "nobody's", false).await.unwrap();
    assert_eq!((done.written_off_fen, done.readmitted), (Fen(900), false));
    assert_eq!(house.count("SELECT count(*) FROM deny_entries").await, 0);
}
