//! Requests that are not of their form.

use crate::api::testing::over;
use crate::testing::House;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_with_a_request_is_told_in_one_shape_and_without_its_values() {
    let (_house, _server, http) = over(House::new().await).await;
    let hush = "6217000012345678901";
    for (method, path, body, status, code) in [
        ("GET", "/v1/nowhere", None, 404, "no_such_path"),
        ("GET", "/nowhere", None, 404, "no_such_path"),
        ("DELETE", "/v1/clock", None, 405, "method_not_allowed"),
        ("POST", "/v1/clock", Some(json!({ "now_ms": hush })), 422, "body"),
        ("POST", "/v1/clock", Some(json!({ "now": 1 })), 422, "body"),
        ("GET", "/v1/charges", None, 400, "query"),
        ("GET", "/v1/breaks?limit=6217000012345678901", None, 400, "query"),
        ("GET", "/v1/days/yesterday", None, 400, "day"),
        ("GET", "/v1/days/%ff", None, 400, "path"),
        ("POST", "/v1/clock", Some(json!({ "6217000012345678901": 1 })), 422, "body"),
        ("POST", "/v1/clock", Some(json!({ "missing field `6217000012345678901`": 1 })), 422, "body"),
        ("POST", "/v1/clock", Some(json!({ "now_ms": "missing field `6217000012345678901`" })), 422, "body"),
        ("POST", "/v1/clock", Some(json!([])), 422, "body"),
        ("GET", "/v1/breaks?6217000012345678901=1", None, 400, "query"),
        ("GET", "/v1/breaks?a,%20expected%206217000012345678901=1", None, 400, "query"),
        ("GET", "/v1/debts?after=6217000012345678901", None, 400, "after"),
        ("GET", "/v1/debts?state=6217000012345678901", None, 400, "query"),
        ("POST", "/v1/debts/6217000012345678901/recover", None, 400, "token_key"),
    ] {
        let (got, text) = http.call(method, path, Some(&http.admin), body).await;
        let answer: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{method} {path}: {text}"));
        assert_eq!((got, answer["error"]["code"].as_str()), (status, Some(code)), "{method} {path}: {text}");
        assert!(
            answer["error"]["message"].as_str().is_some_and(|m| !m.is_empty() && !m.contains(hush)),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_wrongly_is_told_in_a_whole_sentence_what_is_wrong() {
    let (_house, _server, http) = over(House::with("[http]\nmax_body = 200").await).await;
    let bearer = vec![("authorization".to_owned(), format!("Bearer {}", http.admin))];
    let ask = async |kind: &'static str, method: &str, path: &str, body: &str| {
        let (status, text) = http.send_as(kind, method, path, bearer.clone(), body.into()).await;
        let answer: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{method} {path}: {text}"));
        (status, answer["error"]["message"].as_str().unwrap().to_owned())
    };
    let long = format!("{{\"now_ms\": {}1}}", " ".repeat(200));
    for (body, status, told) in [
        ("{\"now_ms\"", 400, "the body is not JSON: EOF while parsing an object at line 1 column 9"),
        ("", 400, "the body is not JSON: EOF while parsing a value at line 1 column 0"),
        ("{\"now_ms\": 1} x", 400, "the body is not JSON: trailing characters at line 1 column 15"),
        ("{\"now_ms\": \"a\"}", 422, "now_ms: invalid type: string, expected u64"),
        ("{\"now\": 1}", 422, "now: unknown field `now`, expected `now_ms`"),
        ("{\"6217000012345678901\": 1}", 422, "unknown field, expected `now_ms`"),
        (&long, 413, "the body is longer than `[http] max_body` allows"),
    ] {
        let sentence = match status {
            422 => format!("the body is not of the form that is asked for here: {told}"),
            _ => told.to_owned(),
        };
        for kind in ["application/json", "application/merge-patch+json; charset=utf-8"] {
            assert_eq!(ask(kind, "POST", "/v1/clock", body).await, (status, sentence.clone()), "{body}");
        }
    }
    let declared = "the body is JSON, and the header says so: content-type: application/json";
    for path in ["/v1/clock", "/v1/retention"] {
        assert_eq!(ask("text/plain", "POST", path, "{}").await, (415, declared.to_owned()), "{path}");
    }
    let query = "the query is not of the form that is asked for here";
    let limit = format!("{query}: limit: invalid digit found in string");
    let fields = "expected one of `day`, `kind`, `closed`, `after`, `limit`";
    let pages = format!("{query}: pages: unknown field `pages`, {fields}");
    for (method, path, status, told) in [
        ("PUT", "/v1/clock", 405, "this path does not take this method; see /openapi.json"),
        ("GET", "/v1/clocks", 404, "there is nothing at this path; see /openapi.json"),
        ("GET", "/v1/breaks?limit=x", 400, &limit),
        ("GET", "/v1/breaks?pages=1", 400, &pages),
        ("GET", "/v1/days/%ff", 400, "`day` in the path is not text: its %-escapes are not UTF-8"),
    ] {
        assert_eq!(
            ask("application/json", method, path, "").await,
            (status, told.to_owned()),
            "{method} {path}"
        );
    }
}
