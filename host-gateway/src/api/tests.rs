//! The HTTP interface over a real socket.

use crate::api::admin_token;
use crate::serve::Server;
use crate::store::sql::hex;
use crate::testing::{Card, House, MORNING};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

struct Http {
    base: String,
    admin: String,
}

impl Http {
    async fn call(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> (u16, String) {
        let url = format!("{}{path}", self.base);
        let (method, token) = (method.to_owned(), token.map(str::to_owned));
        let call = move || {
            let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
            let mut request = ureq::http::Request::builder().method(&method[..]).uri(url);
            if let Some(token) = token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let request = request.header("content-type", "application/json");
            let body = body.map(|b| b.to_string()).unwrap_or_default();
            let mut response = agent.run(request.body(body).unwrap()).unwrap();
            (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
        };
        tokio::task::spawn_blocking(call).await.unwrap()
    }

    async fn admin(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let (status, text) = self.call(method, path, Some(&self.admin), body).await;
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}

async fn serving() -> (House, Server, Http) {
    let key = hex(&Sha256::digest(b"concentrator's key"));
    let house = House::with(&format!("[[http.api_keys]]\nname = 'tram depot'\nsha256 = '{key}'\n")).await;
    let local = "127.0.0.1:0".parse().unwrap();
    let server = Server::start(house.app.clone(), local, local).await.unwrap();
    let admin = admin_token(&house.app.config).unwrap().to_string();
    let base = format!("http://{}", server.running().http);
    (house, server, Http { base, admin })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_concentrator_hands_in_a_batch_twice_and_each_tap_counts_once() {
    let (house, _server, http) = serving().await;
    let mut gate = house.gate(1).await;
    let entries: Vec<Vec<u8>> =
        (1..=3).map(|atc| Card::new(1).tap(u64::from(atc) * 1_000, atc).seal(&mut gate)).collect();
    let mut damaged = entries[1].clone();
    damaged[60] ^= 1;
    let body = json!({ "entries": [hex(&entries[0]), hex(&damaged), hex(&entries[2])] });
    for round in ["accepted", "repeated"] {
        let (status, text) =
            http.call("POST", "/v1/taps/batches", Some("concentrator's key"), Some(body.clone())).await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(status, 200, "{text}");
        assert_eq!(answer["acknowledged"][hex(&gate.key_id.0)], 3);
        assert_eq!(answer["verdicts"][0]["verdict"], round);
        assert_eq!(answer["verdicts"][2]["verdict"], round);
        if round == "accepted" {
            assert_eq!(answer["verdicts"][1], json!({ "verdict": "set_aside", "why": "forged" }));
        }
    }
    assert_eq!(house.count("SELECT count(*) FROM taps").await, 2);
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
    let house = House::without_time().await;
    let local = "127.0.0.1:0".parse().unwrap();
    let server = Server::start(house.app.clone(), local, local).await.unwrap();
    let admin = admin_token(&house.app.config).unwrap().to_string();
    let http = Http { base: format!("http://{}", server.running().http), admin };
    for (path, body) in [
        ("/v1/lists/publish", None),
        ("/v1/risk/run", None),
        ("/v1/days/2026-11-23/close", Some(json!({ "force": true }))),
        ("/v1/days/2026-11-23/deduct", None),
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
async fn the_openapi_document_has_every_route_that_is_for_others() {
    let (_house, _server, http) = serving().await;
    let document: Value =
        serde_json::from_str(&http.call("GET", "/openapi.json", None, None).await.1).unwrap();
    for path in
        ["/v1/taps/batches", "/v1/gates", "/v1/clock", "/v1/risk/run", "/v1/lists", "/v1/lists/publish"]
    {
        assert!(document["paths"][path].is_object(), "{path}");
    }
}
