//! Breaks and alerts, as the desk works on them.

use super::alerts::AlertRow;
use super::breaks::BreakRow;
use super::*;
use crate::clearing::app::{close, reconcile};
use crate::clearing::testing::{day, penniless};
use crate::store::{Break, raise_break_in};
use crate::testing::{Card, House, MORNING};
use wavepass_protocol::time::UnixMs;

async fn raise(house: &House, kind: &str, service_day: Option<i64>) {
    let mut tx = house.app.store.begin().await.unwrap();
    let found = Break { kind, subject: "k", service_day, detail: "1-2", at: UnixMs(5) };
    raise_break_in(&mut tx, &found).await.unwrap();
    tx.commit().await.unwrap();
}

async fn breaks_of(house: &House, wanted: breaks::Wanted) -> Vec<BreakRow> {
    breaks::list(&house.app.store, breaks::Wanted { limit: 10, ..wanted }).await.unwrap().breaks
}

async fn open_breaks(house: &House) -> Vec<BreakRow> {
    breaks_of(house, breaks::Wanted::default()).await
}

async fn alerts_of(house: &House, ended: bool) -> Vec<AlertRow> {
    let wanted = alerts::Wanted { ended, limit: 10, ..alerts::Wanted::default() };
    alerts::list(&house.app.store, wanted).await.unwrap().alerts
}

#[tokio::test]
async fn a_break_is_assigned_noted_and_ended_once_each_by_name_and_with_a_reason() {
    let house = House::new().await;
    raise(&house, "gap", None).await;
    let id = open_breaks(&house).await.remove(0).id;
    let steps = [
        Change::AssignBreak("bert"),
        Change::NoteBreak("the gate's flash was changed"),
        Change::EndBreak("nothing was lost"),
    ];
    for step in steps {
        assert!(change(&house.app, "anna", &id, step).await.unwrap(), "{step:?}");
        assert!(!change(&house.app, "anna", &id, step).await.unwrap(), "{step:?}");
    }
    assert_eq!(open_breaks(&house).await, []);
    let closed = breaks::Wanted { closed: true, ..breaks::Wanted::default() };
    let ended = breaks_of(&house, closed).await.remove(0);
    assert_eq!((&*ended.assigned_to, &*ended.note), ("bert", "the gate's flash was changed"));
    assert_eq!(ended.closed_ms, Some(MORNING as i64));
    let said =
        house.texts("SELECT \"user\" || ' ' || action || ': ' || detail FROM audit_log ORDER BY id").await;
    let expected = [
        "anna break.assign: bert",
        "anna break.note: the gate's flash was changed",
        "anna break.end: nothing was lost",
    ];
    assert_eq!(said, expected);
}

#[tokio::test]
async fn the_desk_works_by_command() {
    let house = House::new().await;
    raise(&house, "gap", Some(day().number())).await;
    let mut gate = house.gate(1).await;
    house.ingest(&[Card::new(1).tap(0, 1).seal(&mut gate)]).await;
    crate::risk::run(&house.app).await.unwrap();
    let (found, alert) =
        (open_breaks(&house).await.remove(0).id, alerts_of(&house, false).await.remove(0).id);
    for (args, said) in [
        (&["break", "assign", &found, "--to", "bert"][..], format!("break {found} is assigned to bert")),
        (&["break", "note", &found, "--text", "looked at"], format!("break {found} is noted so")),
    ] {
        assert_eq!(house.command(args).await, said);
    }
    let listed = house.command(&["break", "list", "--day", "2026-11-23", "--kind", "gap"]).await;
    let line = listed.lines().nth(1).unwrap();
    assert!(line.starts_with(&format!("{found} 2026-11-23 gap ")), "{listed}");
    assert!(line.contains(" open  bert ") && line.ends_with("k: 1-2 [looked at]"), "{listed}");
    assert!(
        house.command(&["alert", "list"]).await.contains(&format!("\n{alert} 2026-11-23 unknown_token "))
    );

    for (what, id) in [("break", &found), ("alert", &alert)] {
        let end = [what, "end", id, "--reason", "a test"];
        assert_eq!(house.command(&end).await, format!("{what} {id} is ended"));
        assert_eq!(house.command(&end).await, format!("{what} {id} is already ended"));
        assert_eq!(house.command(&[what, "list"]).await.lines().count(), 1);
        assert!(house.command(&[what, "list", "--all"]).await.contains(" ended "));
        let json: serde_json::Value =
            serde_json::from_str(&house.command(&[what, "list", "--all", "--json"]).await).unwrap();
        assert_eq!(json[format!("{what}s")][0]["id"], **id);
    }
}

#[tokio::test]
async fn a_kind_that_never_was_is_told_from_one_of_which_none_are_open() {
    let house = House::new().await;
    let never = async |args: &[&str]| house.output(args).await.unwrap().warnings;
    assert_eq!(never(&["break", "list", "--kind", "gab"]).await, ["there never was a break of any kind"]);
    raise(&house, "rule_6", None).await;
    raise(&house, "gap", None).await;
    let said = "there never was a break of this kind; there were gap, rule_6";
    assert_eq!(never(&["break", "list", "--kind", "gab"]).await, [said]);
    assert_eq!(never(&["break", "list", "--kind", "gap", "--day", "2026-11-23"]).await, [""; 0]);
    let mut gate = house.gate(1).await;
    house.ingest(&[Card::new(1).tap(0, 1).seal(&mut gate)]).await;
    crate::risk::run(&house.app).await.unwrap();
    let said = "there never was an alert of this kind; there were unknown_token";
    assert_eq!(never(&["alert", "list", "--kind", "gap", "--json"]).await, [said]);
}

#[tokio::test]
async fn breaks_are_found_by_day_and_kind_a_page_at_a_time() {
    let house = House::new().await;
    for (kind, day) in [("gap", None), ("rule_6", Some(day().number())), ("gap", Some(day().number()))] {
        raise(&house, kind, day).await;
    }
    let kinds = async |wanted| -> Vec<String> {
        breaks_of(&house, wanted).await.into_iter().map(|row| row.kind).collect()
    };
    let of_day = breaks::Wanted { day: Some(day()), ..breaks::Wanted::default() };
    assert_eq!(kinds(of_day.clone()).await.len(), 2);
    assert_eq!(kinds(breaks::Wanted { kind: Some("rule_6".into()), ..of_day }).await, ["rule_6"]);
    let all = open_breaks(&house).await;
    let after = breaks::Wanted { after: Some(all[0].id.parse().unwrap()), ..breaks::Wanted::default() };
    assert_eq!(breaks_of(&house, after).await, all[1..]);
}

#[tokio::test]
async fn a_break_that_was_ended_and_is_found_again_is_open_again() {
    let (house, ..) = penniless("").await;
    let app = &house.app;
    app.clock.driven().unwrap().set(UnixMs(MORNING + 24 * 3_600_000)).unwrap();
    close(app, "anna", day(), false, false).await.unwrap();
    let mut tx = app.store.begin().await.unwrap();
    crate::store::db::query("DELETE FROM deny_entries").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    reconcile(app, "anna", day()).await.unwrap();
    let found = open_breaks(&house).await.remove(0);
    assert_eq!(found.kind, "debtor_not_denied");
    change(app, "anna", &found.id, Change::NoteBreak("asked the bank")).await.unwrap();
    change(app, "anna", &found.id, Change::EndBreak("they paid in cash")).await.unwrap();
    assert_eq!(open_breaks(&house).await, []);
    reconcile(app, "anna", day()).await.unwrap();
    assert_eq!(open_breaks(&house).await, [BreakRow { note: "asked the bank".into(), ..found }]);
}

#[tokio::test]
async fn an_alert_is_ended_once_and_stays_so_when_risk_looks_again() {
    let house = House::new().await;
    let mut gate = house.gate(1).await;
    // A token that nobody issued.
    house.ingest(&[Card::new(1).tap(0, 1).seal(&mut gate)]).await;
    crate::risk::run(&house.app).await.unwrap();
    let alert = alerts_of(&house, false).await.remove(0);
    assert_eq!((&*alert.kind, alert.service_day), ("unknown_token", Some(day())));
    let end = Change::EndAlert("a test card");
    assert!(change(&house.app, "anna", &alert.id, end).await.unwrap());
    assert!(!change(&house.app, "anna", &alert.id, end).await.unwrap());
    house.ingest(&[Card::new(1).tap(60_000, 2).seal(&mut gate)]).await;
    crate::risk::run(&house.app).await.unwrap();
    assert_eq!(alerts_of(&house, false).await, []);
    assert_eq!(alerts_of(&house, true).await, [AlertRow { cleared_ms: Some(MORNING as i64), ..alert }]);
    let lines = "SELECT count(*) FROM audit_log WHERE action = 'alert.end' AND detail = 'a test card'";
    assert_eq!(house.count(lines).await, 1);
}

#[tokio::test]
async fn what_is_not_there_or_says_nothing_or_holds_a_number_changes_nothing() {
    let house = House::new().await;
    raise(&house, "gap", None).await;
    let id = open_breaks(&house).await.remove(0).id;
    let number = "6217000012345678901";
    for text in ["", number] {
        for step in [Change::AssignBreak(text), Change::NoteBreak(text), Change::EndBreak(text)] {
            let refused = change(&house.app, "anna", &id, step).await.unwrap_err();
            assert!(matches!(refused, DeskError::Text(_)), "{step:?}: {refused}");
        }
    }
    let missing = change(&house.app, "anna", number, Change::EndBreak("done")).await.unwrap_err();
    assert!(matches!(missing, DeskError::NoBreak) && !missing.to_string().contains(number), "{missing}");
    let missing = change(&house.app, "anna", number, Change::EndAlert("done")).await;
    assert!(matches!(missing, Err(DeskError::NoAlert)));
    assert_eq!(house.count("SELECT count(*) FROM audit_log").await, 0);
    assert_eq!(open_breaks(&house).await.len(), 1);
}

/// The numbers, actions and subjects of lines of the audit log, by command.
async fn audited(house: &House, asked: &[&str]) -> Vec<(i64, String)> {
    let listed = house.command(&[&["audit", "--json"], asked].concat()).await;
    let lines: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let text = |line: &serde_json::Value, key: &str| line[key].as_str().unwrap().to_owned();
    let line = |l: &serde_json::Value| {
        (
            l["number"].as_i64().unwrap(),
            format!("{} {} {}", text(l, "user"), text(l, "action"), text(l, "subject")),
        )
    };
    lines["lines"].as_array().unwrap().iter().map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_is_read_by_who_what_and_on_what_the_newest_first() {
    let house = House::new().await;
    for kind in ["gap", "rule_6"] {
        raise(&house, kind, None).await;
    }
    let ids: Vec<String> = open_breaks(&house).await.into_iter().map(|row| row.id).collect();
    for (user, id, step) in [
        ("anna", &ids[0], Change::AssignBreak("bert")),
        ("bert", &ids[0], Change::NoteBreak("looked at")),
        ("bert", &ids[1], Change::EndBreak("a test")),
    ] {
        assert!(change(&house.app, user, id, step).await.unwrap());
    }
    let [first, second] = [&ids[0], &ids[1]];
    let [assigned, noted, ended] = [
        format!("anna break.assign {first}"),
        format!("bert break.note {first}"),
        format!("bert break.end {second}"),
    ];
    let all = audited(&house, &[]).await;
    let told = |lines: &[(i64, String)]| lines.iter().map(|(_, text)| text.clone()).collect::<Vec<_>>();
    assert_eq!(told(&all), [&*ended, &noted, &assigned]);
    for (asked, expected) in [
        (&["--by", "bert"][..], vec![&ended, &noted]),
        (&["--subject", first], vec![&noted, &assigned]),
        (&["--subject", first, "--by", "anna"], vec![&assigned]),
        (&["--action", "break.end"], vec![&ended]),
        (&["--action", "break", "--limit", "1"], vec![&ended]),
        (&["--action", "brea"], vec![]),
        (&["--before", &all[0].0.to_string()], vec![&noted, &assigned]),
    ] {
        let found = told(&audited(&house, asked).await);
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{asked:?}");
    }
    let table = house.command(&["audit"]).await;
    let line = table.lines().nth(1).unwrap();
    assert!(
        line.contains(" 2026-11-23T") && line.contains(" bert ") && line.ends_with(": a test"),
        "{table}"
    );

    let (_house, _server, http) = crate::api::testing::over(house).await;
    let (status, lines) = http.admin("GET", &format!("/v1/audit?subject={second}"), None).await;
    assert_eq!((status, &lines["lines"][0]["action"]), (200, &"break.end".into()), "{lines}");
    assert_eq!(lines["lines"][0]["detail"], "a test");
    for (asked, code) in [("before=soon", "query"), ("limit=0", "limit"), ("before=0", "before")] {
        let (status, answer) = http.admin("GET", &format!("/v1/audit?{asked}"), None).await;
        assert_eq!((status, answer["error"]["code"].as_str()), (400, Some(code)), "{answer}");
    }
}
