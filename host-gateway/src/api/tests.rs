//! The HTTP interface over a real socket.

use crate::api::testing::{Http, over};
use crate::clearing::testing::{correcting_tariff, deposit, penniless, penniless_under};
use crate::lists::deny::{self, Addition, Cause};
use crate::serve::Server;
use crate::store::sql::hex;
use crate::testing::{Card, House, MORNING};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use wavepass_protocol::time::UnixMs;
use wavepass_protocol::token::Expiry;

async fn serving() -> (House, Server, Http) {
    let key = hex(&Sha256::digest(b"concentrator's key"));
    over(House::with(&format!("[[http.api_keys]]\nname = 'tram depot'\nsha256 = '{key}'\n")).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_concentrator_hands_in_a_batch_twice_and_each_tap_counts_once() {
    let (house, _server, http) = serving().await;
    let mut gate = house.gate(1).await;
    let entries: Vec<Vec<u8>> =
        (1..=3).map(|atc| Card::new(1).tap(u64::from(atc) * 1_000, atc).seal(&mut gate)).collect();
    let mut damaged = entries[1].clone();
    damaged[60] ^= 1;
    let mut batch = [hex(&entries[0]), hex(&entries[1]), hex(&entries[2]), hex(&damaged)];
    for round in ["accepted", "repeated"] {
        let body = json!({ "entries": batch });
        let (status, text) =
            http.call("POST", "/v1/taps/batches", Some("concentrator's key"), Some(body)).await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(status, 200, "{text}");
        assert_eq!(answer["acknowledged"][hex(&gate.key_id.0)], 3);
        for verdict in &answer["verdicts"].as_array().unwrap()[..3] {
            assert_eq!(verdict["verdict"], round);
        }
        if round == "accepted" {
            assert_eq!(answer["verdicts"][3], json!({ "verdict": "set_aside", "why": "forged" }));
        }
    }
    assert_eq!(house.count("SELECT count(*) FROM taps").await, 3);
    // What is lost for good is the admin's to say.
    let after = Card::new(1).tap(4_000, 4);
    after.seal(&mut gate);
    batch[0] = hex(&after.seal(&mut gate));
    let body = Some(json!({ "entries": batch[..1], "past_gaps": true }));
    let (status, text) =
        http.call("POST", "/v1/taps/batches", Some("concentrator's key"), body.clone()).await;
    assert_eq!((status, text.contains("past_gaps")), (403, true), "{text}");
    let (status, answer) = http.admin("POST", "/v1/taps/batches", body).await;
    assert_eq!((status, &answer["verdicts"][0]["verdict"]), (200, &json!("accepted")), "{answer}");
    assert_eq!(house.texts("SELECT detail FROM breaks WHERE kind = 'gap'").await, ["4-4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_token_nothing_is_told_or_taken() {
    let (_house, _server, http) = serving().await;
    for (method, path) in [
        ("GET", "/v1/gates"),
        ("POST", "/v1/risk/run"),
        ("POST", "/v1/taps/batches"),
        ("POST", "/v1/admin/command"),
    ] {
        for token in [None, Some("guess")] {
            let (status, text) = http.call(method, path, token, Some(json!({}))).await;
            assert_eq!(status, 401, "{method} {path}: {text}");
            assert!(text.contains("unauthorized"));
        }
    }
    // A concentrator's key opens its own door only.
    let (status, _) = http.call("POST", "/v1/risk/run", Some("concentrator's key"), None).await;
    assert_eq!(status, 401);
    for path in ["/", "/healthz", "/readyz", "/metrics", "/openapi.json"] {
        assert_eq!(http.call("GET", path, None, None).await.0, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_batch_is_refused_by_name_and_whole() {
    let (house, _server, http) = serving().await;
    let (status, answer) =
        http.admin("POST", "/v1/taps/batches", Some(json!({ "entries": ["00", "not a tap!"] }))).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (400, Some("entry_encoding")));
    assert_eq!(house.count("SELECT count(*) FROM set_aside").await, 0);
    let many = vec!["00"; 5000];
    let (status, answer) = http.admin("POST", "/v1/taps/batches", Some(json!({ "entries": many }))).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (400, Some("batch_too_large")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driven_clock_moves_on_and_never_back() {
    let (house, _server, http) = serving().await;
    assert_eq!(http.admin("GET", "/v1/clock", None).await.1["now_ms"], MORNING);
    assert_eq!(http.admin("POST", "/v1/clock", Some(json!({ "now_ms": MORNING + 5 }))).await.0, 200);
    let (status, answer) = http.admin("POST", "/v1/clock", Some(json!({ "now_ms": MORNING }))).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (409, Some("clock_backwards")));
    assert_eq!(house.app.clock.now().0, MORNING + 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_never_told_the_time_signs_books_and_audits_nothing() {
    let (house, _server, http) = over(House::without_time().await).await;
    for (path, body) in [
        ("/v1/lists/publish", None),
        ("/v1/risk/run", None),
        ("/v1/days/2026-11-23/close", Some(json!({ "force": true }))),
        ("/v1/days/2026-11-23/deduct", Some(json!({}))),
    ] {
        let (status, answer) = http.admin("POST", path, body).await;
        assert_eq!(
            (status, answer["error"]["code"].as_str()),
            (409, Some("clock_unset")),
            "{path}: {answer}"
        );
    }
    let add = ["gate", "add", "--id", "1", "--station", "A1", "--direction", "entry", "--out", "g"];
    let (status, answer) = http.admin("POST", "/v1/admin/command", Some(json!({ "args": add }))).await;
    assert_eq!(status, 400);
    assert!(answer["error"]["message"].as_str().unwrap().contains("never told the time"), "{answer}");
    assert_eq!(house.count("SELECT count(*) FROM audit_log").await, 0);
    assert_eq!(house.count("SELECT count(*) FROM lists").await, 0);
    assert_eq!(house.count("SELECT count(*) FROM gates").await, 0);
    http.admin("POST", "/v1/clock", Some(json!({ "now_ms": MORNING }))).await;
    assert_eq!(http.admin("POST", "/v1/lists/publish", None).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn risk_runs_and_lists_are_published_on_request() {
    let (house, _server, http) = serving().await;
    let mut gate = house.gate(1).await;
    house.ingest(&[Card::new(1).tap(0, 1).seal(&mut gate)]).await;
    assert_eq!(http.admin("POST", "/v1/risk/run", None).await.1["alerts"], 1);
    let (status, lists) = http.admin("POST", "/v1/lists/publish", None).await;
    assert_eq!((status, lists["published"].as_array().unwrap().len()), (200, 4));
    assert_eq!(http.admin("GET", "/v1/lists", None).await.1["current"], lists["published"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_of_another_process_runs_in_the_gateway_and_its_files_go_back() {
    let (house, _server, http) = serving().await;
    let args =
        ["gate", "add", "--id", "12", "--station", "A1", "--direction", "entry", "--out", "gate-12.wpg"];
    let (status, answer) = http.admin("POST", "/v1/admin/command", Some(json!({ "args": args }))).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["files"][0][0], "gate-12.wpg");
    assert!(!std::path::Path::new("gate-12.wpg").exists());
    assert!(house.app.directory.current().by_id(12).is_some());
    let args = ["serve"];
    let (status, answer) = http.admin("POST", "/v1/admin/command", Some(json!({ "args": args }))).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (400, Some("command")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debt_is_listed_asked_for_again_and_waived() {
    let (house, _, account) = penniless("").await;
    let (house, _server, http) = over(house).await;
    let key = house.texts("SELECT lower(hex(token_key)) FROM tokens").await.remove(0);
    let now = json!({ "now_ms": MORNING + 24 * 3_600_000 });
    assert_eq!(http.admin("POST", "/v1/clock", Some(now)).await.0, 200);
    assert_eq!(http.admin("POST", "/v1/days/2026-11-23/close", Some(json!({}))).await.0, 200);
    let debt = json!({
        "id": format!("{key}-2026-11-23-1"), "token_key": key, "last_four": "0001", "service_day": "2026-11-23",
        "part": 1, "amount_fen": 900, "state": "open", "reason": "no_funds", "attempts": 1,
        "asked_ms": MORNING + 24 * 3_600_000,
    });
    let open = format!("/v1/debts?state=open&token_key={key}");
    let (status, listed) = http.admin("GET", &open, None).await;
    assert_eq!((status, &listed["debts"]), (200, &json!([debt])));
    assert_eq!(listed["deny_list"]["causes"], json!(["debt"]));

    let nobody = format!("/v1/debts/{}/recover", "ab".repeat(16));
    let (status, told) = http.admin("POST", &nobody, None).await;
    assert_eq!((status, told["error"]["code"].as_str()), (404, Some("no_token")), "{told}");

    deposit(&house.app.store, &account, 899).await;
    let (status, asked) = http.admin("POST", &format!("/v1/debts/{key}/recover"), None).await;
    let nothing = json!({ "approved": 0, "declined": 1, "in_doubt": 0 });
    assert_eq!(status, 200, "{asked}");
    let holds = json!({ "approved": 0, "declined": 0, "in_doubt": 0 });
    assert_eq!(
        asked,
        json!({ "token_key": key, "deduct": nothing, "holds": holds, "owed_fen": 900, "contested": 0 })
    );
    let path = format!("/v1/debts/{key}/waive");
    for (body, status, code) in [
        (json!({ "day": "2026-11-23" }), 422, "body"),
        (json!({ "day": "2026-11-23", "reason": "" }), 400, "text"),
        (json!({ "day": "2026-11-24", "reason": "goodwill" }), 404, "no_debt"),
        (json!({ "day": "2026-11-23", "part": 2, "reason": "goodwill" }), 404, "no_debt"),
    ] {
        let (got, answer) = http.admin("POST", &path, Some(body)).await;
        assert_eq!((got, answer["error"]["code"].as_str()), (status, Some(code)), "{answer}");
    }
    let goodwill = json!({ "day": "2026-11-23", "reason": "goodwill" });
    let (status, waived) = http.admin("POST", &path, Some(goodwill.clone())).await;
    assert_eq!((status, &waived["parts"], &waived["waived_fen"]), (200, &json!([1]), &json!(900)));
    let (status, again) = http.admin("POST", &path, Some(goodwill)).await;
    assert_eq!((status, &again["parts"], &again["waived_fen"]), (200, &json!([]), &json!(0)));
    assert_eq!(http.admin("GET", &open, None).await.1["debts"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_erased_and_retention_is_asked_for_over_http() {
    let (house, _, account) = penniless("[retention]\ndays = 1").await;
    deposit(&house.app.store, &account, 900).await;
    let (house, _server, http) = over(house).await;
    let path = format!("/v1/persons/{account}");
    let refused = async |path: &str| {
        let (status, answer) = http.admin("DELETE", path, None).await;
        (status, answer["error"]["code"].as_str().map(str::to_owned))
    };
    assert_eq!(refused("/v1/persons/nobody").await, (404, Some("no_account".into())));
    assert_eq!(refused(&path).await, (409, Some("unchecked_taps".into())));
    http.admin("POST", "/v1/risk/run", None).await;
    assert_eq!(refused(&path).await, (409, Some("day_open".into())));
    house.app.clock.driven().unwrap().set(UnixMs(MORNING + 100 * 3_600_000)).unwrap();
    http.admin("POST", "/v1/days/2026-11-23/close", Some(json!({}))).await;
    // Asked for by the query or by the body, a preview erases nobody; a query or body that means nothing does nothing.
    let erased = |dry_run: bool| {
        json!({ "dry_run": dry_run, "already": false, "erased_ms": null, "tokens": 1, "entries": 1, "set_aside": 0,
                "deny_entries": 0, "left_fen": 0, "against": [] })
    };
    let query = format!("{path}?dry_run=true");
    for (path, body) in [(&query, None), (&path, Some(json!({ "dry_run": true }))), (&query, Some(json!({})))]
    {
        assert_eq!(http.admin("DELETE", path, body).await, (200, erased(true)));
    }
    for (path, body) in [(format!("{path}?dry=1"), None), (path.clone(), Some(json!({ "dry": true })))] {
        assert!([400, 422].contains(&http.admin("DELETE", &path, body).await.0));
    }
    assert_eq!(http.admin("DELETE", &path, None).await, (200, erased(false)));
    let again = http.admin("DELETE", &path, None).await.1;
    let then = MORNING + 100 * 3_600_000;
    assert_eq!((&again["already"], &again["erased_ms"]), (&json!(true), &json!(then)));
    assert_eq!(http.admin("DELETE", &query, None).await.1["already"], json!(true));

    let ask = async || http.admin("POST", "/v1/retention", Some(json!({ "dry_run": true }))).await;
    // What was not read deletes nothing.
    let bearer = vec![("authorization".to_owned(), format!("Bearer {}", http.admin))];
    let unread =
        http.send_as("text/plain", "POST", "/v1/retention", bearer, b"{\"dry_run\":true}".to_vec()).await;
    assert_eq!(unread.0, 415, "{}", unread.1);
    assert_eq!(http.admin("POST", "/v1/retention", Some(json!([]))).await.0, 422);
    assert_eq!(http.admin("POST", "/v1/retention?dry_run=true", None).await.0, 400);
    let stays = json!({ "service_day": "2026-11-23", "why": "not_settled" });
    assert_eq!(
        ask().await,
        (200, json!({ "dry_run": true, "off": false, "days": [], "rows": {}, "stays": stays }))
    );
    http.admin("POST", "/v1/days/2026-11-23/settle", Some(json!({}))).await;
    assert_eq!(ask().await.1["rows"]["taps"], json!(1));
    let (status, done) = http.admin("POST", "/v1/retention", Some(json!({}))).await;
    assert_eq!((status, &done["days"], &done["rows"]["taps"]), (200, &json!(["2026-11-23"]), &json!(1)));
    let (status, late) = http.admin("POST", "/v1/days/2026-11-23/close", Some(json!({ "late": true }))).await;
    assert_eq!((status, &late["error"]["code"]), (409, &json!("deleted")));
    let (status, slices) = http.admin("POST", "/v1/days/2026-11-23/reconcile/slices", None).await;
    assert_eq!((status, &slices["error"]["code"]), (409, &json!("deleted")));
    let (status, report) = http.admin("GET", "/v1/days/2026-11-23/report", None).await;
    assert_eq!(
        (status, &report["deleted_upto"], &report["charged_fen"]),
        (200, &json!("2026-11-23"), &json!(900))
    );
    assert_eq!((&report["taps_opened"], &report["journeys"]), (&Value::Null, &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn breaks_and_alerts_are_listed_and_ended_over_http() {
    let (house, _server, http) = serving().await;
    let mut gate = house.gate(1).await;
    let mut damaged = Card::new(1).tap(0, 1).seal(&mut gate);
    damaged[60] ^= 1;
    let next = Card::new(1).tap(60_000, 2).seal(&mut gate);
    house.ingest_over_link(&gate, &[damaged, next]).await;
    http.admin("POST", "/v1/risk/run", None).await;
    let id = |rows: &Value| rows[0]["id"].as_str().unwrap().to_owned();
    let alert = id(&http.admin("GET", "/v1/alerts", None).await.1["alerts"]);
    let found = id(&http.admin("GET", "/v1/breaks", None).await.1["breaks"]);
    for (path, body) in [
        (format!("/v1/breaks/{found}/assign"), json!({ "to": "bert" })),
        (format!("/v1/breaks/{found}/note"), json!({ "text": "looked at" })),
        (format!("/v1/breaks/{found}/end"), json!({ "reason": "a damaged cable" })),
        (format!("/v1/alerts/{alert}/end"), json!({ "reason": "a test card" })),
    ] {
        for changed in [true, false] {
            let answer = http.admin("POST", &path, Some(body.clone())).await;
            assert_eq!(answer, (200, json!({ "changed": changed })), "{path}");
        }
        let elsewhere = path.replace(&found, "none").replace(&alert, "none");
        let (status, answer) = http.admin("POST", &elsewhere, Some(body)).await;
        assert_eq!(status, 404, "{elsewhere}: {answer}");
    }
    assert_eq!(http.admin("GET", "/v1/alerts", None).await.1["alerts"], json!([]));
    assert_eq!(http.admin("GET", "/v1/alerts?ended=true", None).await.1["alerts"][0]["id"], json!(alert));
    let closed = http.admin("GET", "/v1/breaks?closed=true", None).await.1["breaks"].clone();
    let row = closed.as_array().unwrap().iter().find(|row| row["id"] == json!(found)).unwrap();
    assert_eq!((&row["assigned_to"], &row["note"]), (&json!("bert"), &json!("looked at")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_token_has_at_risk_is_told_and_authorisation_runs_on_request() {
    let (house, ..) = penniless("[authorisation]\npre_authorise = 'maximum_fare'").await;
    let (house, _server, http) = over(house).await;
    let key = house.texts("SELECT lower(hex(token_key)) FROM tokens").await.remove(0);
    assert_eq!(http.admin("POST", "/v1/risk/run", None).await.0, 200);
    let (status, done) = http.admin("POST", "/v1/authorisation/run", None).await;
    assert_eq!((status, &done["holds"]["declined"]), (200, &json!(1)), "{done}");
    let (status, risk) = http.admin("GET", &format!("/v1/tokens/{key}/risk"), None).await;
    assert_eq!((status, &risk["at_risk_fen"]), (200, &json!(900)), "{risk}");
    assert_eq!((&risk["first_tap_ms"], &risk["last_paid_ms"]), (&json!(MORNING), &Value::Null));
    assert_eq!((&risk["hold"]["state"], &risk["hold"]["reason"]), (&json!("declined"), &json!("no_funds")));
    assert_eq!(risk["denied"], json!([{ "cause": "authorisation", "note": "no_funds" }]));
    for (token, status, code) in [("00".repeat(16), 404, "no_token"), ("xy".into(), 400, "token_key")] {
        let (found, answer) = http.admin("GET", &format!("/v1/tokens/{token}/risk"), None).await;
        assert_eq!((found, answer["error"]["code"].as_str()), (status, Some(code)));
    }
}

/// Paths that are not for others: the console, the document itself, the command line's own.
const UNDOCUMENTED: [&str; 3] = ["/", "/openapi.json", "/v1/admin/command"];

#[tokio::test(flavor = "multi_thread")]
async fn the_openapi_document_has_every_route_that_is_for_others_and_no_other() {
    let (_house, _server, http) = serving().await;
    let document: Value =
        serde_json::from_str(&http.call("GET", "/openapi.json", None, None).await.1).unwrap();
    let paths = document["paths"].as_object().unwrap();
    // Every path that the sources give to a router.
    let sources = [
        include_str!("mod.rs"),
        include_str!("admin.rs"),
        include_str!("taps.rs"),
        include_str!("../clearing/api.rs"),
        include_str!("../clearing/files/api.rs"),
        include_str!("../clearing/debts/api.rs"),
        include_str!("../clearing/corrections/api.rs"),
        include_str!("../clearing/disputes/api.rs"),
        include_str!("../clearing/authorisation/api.rs"),
        include_str!("../clearing/pay_out/api.rs"),
        include_str!("../desk/api.rs"),
        include_str!("../reconcile/api.rs"),
        include_str!("../concentrators/api.rs"),
        include_str!("../keep/api.rs"),
    ];
    let routes = sources.iter().flat_map(|text| text.split(".route(\"").skip(1));
    let routes: Vec<&str> = routes.map(|rest| rest.split('"').next().unwrap()).collect();
    for route in &routes {
        assert_ne!(paths.contains_key(*route), UNDOCUMENTED.contains(route), "{route}");
    }
    for (path, item) in paths {
        assert!(routes.contains(&path.as_str()), "{path}");
        for (method, operation) in item.as_object().unwrap() {
            // It is served: without a token it is refused for that, or open to all.
            let (status, _) =
                http.call(&method.to_uppercase(), &path.replace("{day}", "2026-11-23"), None, None).await;
            let inner = path.starts_with("/v1/");
            assert_eq!(status, if inner { 401 } else { 200 }, "{method} {path}");
            assert_eq!(operation["security"].is_array(), inner, "{method} {path}");
            assert_eq!(operation["responses"]["401"].is_object(), inner, "{method} {path}");
            let json = operation["requestBody"]["content"]["application/json"].is_object();
            for status in ["413", "415", "422"] {
                let told = operation["responses"][status].is_object();
                assert!(told || !json, "{method} {path} {status}");
            }
            for (status, response) in operation["responses"].as_object().unwrap() {
                let told = response["description"].as_str().is_some_and(|text| !text.is_empty());
                assert!(told, "{method} {path} {status}");
            }
        }
    }
    let schemes = &document["components"]["securitySchemes"];
    assert_eq!(schemes["bearer"]["scheme"], "bearer");
    assert_eq!(
        (&schemes["signature"]["type"], &schemes["signature"]["name"]),
        (&json!("apiKey"), &json!("Signature"))
    );
    let either = json!([{ "bearer": [] }, { "signature": [] }]);
    assert_eq!(paths["/v1/taps/batches"]["post"]["security"], either);
    assert_eq!(paths["/v1/clock"]["post"]["security"], json!([{ "bearer": [] }]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_query_may_leave_out_is_not_required_by_the_document() {
    let document = serde_json::to_value(super::document()).unwrap();
    let parameters = |path: &str| -> Vec<(String, String, bool)> {
        let list = document["paths"][path]["get"]["parameters"].as_array().unwrap();
        let text = |v: &Value| v.as_str().unwrap().to_owned();
        list.iter()
            .map(|p| (text(&p["name"]), text(&p["in"]), p["required"].as_bool().unwrap_or(false)))
            .collect()
    };
    let breaks = parameters("/v1/breaks");
    assert_eq!(breaks.len(), 5);
    assert!(breaks.iter().all(|(_, place, required)| place == "query" && !required), "{breaks:?}");
    for (name, place, required) in parameters("/v1/charges") {
        assert_eq!((place.as_str(), required), ("query", name == "token_key"), "{name}");
    }
    assert_eq!(parameters("/v1/days/{day}"), [("day".into(), "path".into(), true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_note_name_or_user_may_hold_a_cards_number() {
    let (house, _server, http) = serving().await;
    let number = "6217000012345678901";
    let key = "00".repeat(16);
    let note = format!("test card {number} lost");
    for args in [
        &["deny", "add", "--token", &key, "--note", &note][..],
        &["deny", "remove", "--token", &key, "--note", &note],
        &["revocation", "add", "--rid", "A000000333", "--index", "08", "--serial", "000001", "--note", &note],
        &["break", "assign", "1", "--to", number],
        &["break", "note", "1", "--text", &note],
        &["break", "end", "1", "--reason", &note],
        &["alert", "end", "1", "--reason", &note],
        &["account", "open", number],
        &["token", "issue", "--account", number, "--out", "p.json"],
        &["token", "issue", "--account", "A", "--category", number, "--out", "p.json"],
        &["gate", "add", "--id", "1", "--station", &number[..16], "--direction", "entry", "--out", "g"],
    ] {
        let (status, answer) = http.admin("POST", "/v1/admin/command", Some(json!({ "args": args }))).await;
        let message = answer["error"]["message"].as_str().unwrap();
        assert_eq!(status, 400, "{args:?}");
        assert!(
            message.contains("may be a card's number") && !message.contains(number),
            "{args:?}: {message}"
        );
    }
    assert_eq!(house.count("SELECT count(*) FROM audit_log").await, 0);
    assert_eq!(house.count("SELECT count(*) FROM bank_accounts").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_denied_by_the_table_and_by_the_gates_own_look_up() {
    let (house, _server, http) = serving().await;
    let key = house.register(&Card::new(1)).await.to_hex();
    let path = format!("/v1/deny/{key}");
    house.app.publish_lists().await.unwrap();
    let standing = |token: &str, causes: &[&str], refused: Option<bool>| {
        json!({
            "token": token, "causes": causes, "refused_at_gates": refused, "refused_if_expiry_unsigned": refused,
            "other_expiries": [],
        })
    };
    assert_eq!(http.admin("GET", &path, None).await, (200, standing(&key, &[], Some(false))));
    let args = json!({"args": ["deny", "add", "--token", key, "--cause", "lost"]});
    assert_eq!(http.admin("POST", "/v1/admin/command", Some(args)).await.0, 200);
    assert_eq!(http.admin("GET", &path, None).await, (200, standing(&key, &["lost"], Some(true))));
    let stranger = "00".repeat(16);
    let path = format!("/v1/deny/{stranger}");
    assert_eq!(http.admin("GET", &path, None).await, (200, standing(&stranger, &[], None)));
    assert_eq!(http.admin("GET", "/v1/deny/12", None).await.0, 400);
}

/// Staff elsewhere saw "no unpaid fares" while gates refused the card.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_token_is_denied_for_is_told_wherever_somebody_looks_even_where_nothing_is_owed() {
    let (house, _server, http) = serving().await;
    for (cause, n) in Cause::ALL.into_iter().zip(1..) {
        let card = Card::new(n);
        let token_key = house.register(&card).await;
        let addition = Addition { token_key, number: None, cause, note: String::new() };
        let mut tx = house.app.store.begin().await.unwrap();
        let now = house.app.clock.now();
        deny::add_in(&mut tx, &*house.app.clearing, &[addition], "test", now).await.unwrap();
        tx.commit().await.unwrap();
        house.app.publish_lists().await.unwrap();

        let (key, word) = (token_key.to_hex(), cause.word());
        let (_, standing) = http.admin("GET", &format!("/v1/deny/{key}"), None).await;
        assert_eq!((&standing["causes"], &standing["refused_at_gates"]), (&json!([word]), &json!(true)));
        let (_, owed) = http.admin("GET", &format!("/v1/debts?token_key={key}"), None).await;
        assert_eq!((&owed["debts"], &owed["deny_list"]), (&json!([]), &standing));
        let said = format!("token {key} is denied: {word}; gates with the newest list refuse it");
        assert_eq!(house.command(&["deny", "check", "--token", &key]).await, said);
        let owed = house.command(&["debt", "list", "--token", &key]).await;
        assert_eq!(owed.lines().nth(1), Some(&said[..]), "{owed}");
    }
}

/// A list by number alone keeps renewed cards blocked; ours does so only with a card that does not sign its expiry, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_card_is_let_in_and_who_looks_is_told_of_the_old_one() {
    let (house, _server, http) = serving().await;
    let old = Card::new(1);
    let renewed = Card { expiry: Expiry::new(36, 5).unwrap(), ..old.clone() };
    let (old_key, key) = (house.register(&old).await.to_hex(), house.register(&renewed).await.to_hex());
    house.command(&["deny", "add", "--token", &old_key, "--cause", "lost"]).await;
    house.command(&["deny", "add", "--token", &old_key]).await;
    assert!(!house.app.lists.denies(&renewed.token, Some(renewed.expiry)));
    let (_, standing) = http.admin("GET", &format!("/v1/deny/{key}"), None).await;
    let expected = json!({
        "token": key, "causes": [], "refused_at_gates": false, "refused_if_expiry_unsigned": true,
        "other_expiries": [{ "token": old_key, "expiry": "2031-05", "causes": ["lost", "manual"] }],
    });
    assert_eq!(standing, expected);
    let said = house.command(&["deny", "check", "--token", &key]).await;
    let sentence = format!(
        "token {key} is not denied; gates with the newest list do not refuse it, but refuse a card of its number that \
         does not sign its expiry; with the expiry 2031-05 the number is denied as {old_key}: lost, manual"
    );
    assert_eq!(said, sentence);
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_taps_are_corrected_and_journeys_disputed_over_http() {
    let (house, _, account) = penniless_under("", &correcting_tariff()).await;
    deposit(&house.app.store, &account, 900).await;
    let token = house.texts("SELECT lower(hex(token_key)) FROM tokens").await.remove(0);
    let journey = house.texts("SELECT lower(hex(key_id)) || '-' || sequence FROM taps").await.remove(0);
    house.app.clock.driven().unwrap().set(UnixMs(MORNING + 24 * 3_600_000)).unwrap();
    let (_house, _server, http) = over(house).await;
    let of = json!({ "token_key": token, "day": "2026-11-23", "journey": journey });
    let with = |more: Value| {
        let mut body = of.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Some(body)
    };
    let post = async |path: &str, body| http.admin("POST", path, body).await;
    for (bad, status, code) in [
        (json!({ "station": "Z9" }), 409, "unknown_station"),
        (json!({ "station": "CH", "journey": "1" }), 400, "journey"),
        (json!({ "station": "CH", "time": "08:30" }), 400, "time"),
        (json!({ "station": "CH", "day": "2026-11-22" }), 404, "no_journey"),
    ] {
        let (got, body) = post("/v1/corrections", with(bad)).await;
        assert_eq!((got, &body["error"]["code"]), (status, &code.into()), "{body}");
    }
    let (status, corrected) = post("/v1/corrections", with(json!({ "station": "CH" }))).await;
    assert_eq!((status, &corrected["charged_fen"]), (200, &400.into()), "{corrected}");
    let (status, again) = post("/v1/corrections", with(json!({ "station": "CH" }))).await;
    assert_eq!((status, &again["error"]["code"]), (409, &"already_corrected".into()));
    let (_, listed) = http.admin("GET", &format!("/v1/corrections?token_key={token}"), None).await;
    assert_eq!(listed["corrections"][0]["station"], "CH");

    assert_eq!(post("/v1/disputes", with(json!({ "reason": "not me" }))).await.0, 404);
    assert_eq!(post("/v1/days/2026-11-23/close", Some(json!({}))).await.0, 200);
    let (status, opened) = post("/v1/disputes", with(json!({ "reason": "not me" }))).await;
    assert_eq!((status, &opened["state"]), (200, &"open".into()), "{opened}");
    let path = format!("/v1/disputes/{}", opened["id"].as_str().unwrap());
    let accept = async |fen: i64| {
        post(&format!("{path}/accept"), Some(json!({ "fen": fen, "reason": "a copy" }))).await
    };
    let (status, refused) = accept(401).await;
    assert_eq!((status, &refused["error"]["code"]), (409, &"too_much".into()));
    let (status, accepted) = accept(400).await;
    assert_eq!((status, &accepted["dispute"]["refund_fen"]), (200, &400.into()), "{accepted}");
    let (_, evidence) = http.admin("GET", &path, None).await;
    assert_eq!((&evidence["corrected_to"], &evidence["charges"][1]["of_part"]), (&"CH".into(), &1.into()));
    let rejected = post(&format!("{path}/reject"), Some(json!({ "reason": "no" }))).await;
    assert_eq!((rejected.0, &rejected.1["error"]["code"]), (409, &"decided".into()));
    let (_, listed) = http.admin("GET", "/v1/disputes?state=accepted", None).await;
    assert_eq!(listed["disputes"].as_array().unwrap().len(), 1);
    assert_eq!(http.admin("GET", "/v1/disputes/nonsense", None).await.0, 400);
    let (status, charges) = http.admin("GET", &format!("/v1/charges?token_key={token}"), None).await;
    assert_eq!((status, &charges["charges"][1]["kind"]), (200, &"refund".into()), "{charges}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_larger_than_other_bodies_is_sent_in_a_stream_and_taken_in_once() {
    let (house, _server, http) = over(penniless("").await.0).await;
    let large = Value::String("x".repeat(house.app.config.file.http.max_body + 1));
    let (status, sent) = http.admin("POST", "/v1/files", Some(large.clone())).await;
    assert_eq!((status, sent["bytes"].as_u64()), (200, Some(large.to_string().len() as u64)));
    assert_eq!(sent["file"], hex(&Sha256::digest(large.to_string())));
    let body = json!({ "file": sent["file"] });
    for (status, code) in [(400, "file_damaged"), (404, "no_file")] {
        let (got, answer) = http.admin("POST", "/v1/answers", Some(body.clone())).await;
        assert_eq!((got, answer["error"]["code"].as_str()), (status, Some(code)), "{answer}");
    }
    let (status, answer) =
        http.admin("POST", "/v1/days/2026-11-23/reconcile/statement", Some(body.clone())).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (404, Some("no_file")));
    let slices = http.admin("POST", "/v1/days/2026-11-23/reconcile/slices", None).await;
    assert_eq!((slices.0, slices.1["closed"].as_bool()), (200, Some(false)));
}
