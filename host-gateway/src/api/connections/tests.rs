//! Clients that do not come to the end, over raw sockets.

use crate::api::metrics_handle;
use crate::api::testing::{Http, over};
use crate::serve::Server;
use crate::testing::House;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A gateway with these lines in `[http]`.
async fn serving(lines: &str) -> (House, Server, Http) {
    over(House::with(&format!("[http]\n{lines}\n")).await).await
}

async fn dial(http: &Http) -> TcpStream {
    TcpStream::connect(http.authority()).await.unwrap()
}

async fn sent(http: &Http, text: &str) -> TcpStream {
    let mut stream = dial(http).await;
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// All that the gateway says until it ends the connection.
async fn said(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.unwrap();
    String::from_utf8(text).unwrap()
}

/// One answer on a connection that stays.
async fn answer(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    while !text.ends_with("ok\n") {
        let byte = stream.read_u8().await.unwrap();
        text.push(char::from(byte));
    }
    text
}

/// A request with half of its body.
fn half(http: &Http, path: &str) -> String {
    let token = &http.admin;
    format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: 25\r\n\r\n{{\"now_ms\""
    )
}

const WHOLE: &str = "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn half_a_head_is_answered_and_ended_and_so_is_whoever_says_nothing() {
    let (_house, _server, http) = serving("head_s = 1").await;
    let text = said(sent(&http, "GET /healthz HTTP/1.1\r\nhos").await).await;
    assert!(text.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{text}");
    assert!(text.contains("\"code\":\"head_too_slow\"") && text.contains("[http] head_s"), "{text}");
    assert_eq!(said(dial(&http).await).await, "");
    // The second head of a connection has no longer than the first.
    let mut stream = sent(&http, WHOLE).await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200 "));
    stream.write_all(b"GET /he").await.unwrap();
    assert!(said(stream).await.starts_with("HTTP/1.1 408 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_body_is_answered_and_ended() {
    let (_house, _server, http) = serving("body_s = 1").await;
    for path in ["/v1/clock", "/v1/files", "/v1/retention", "/v1/taps/batches"] {
        let text = said(sent(&http, &half(&http, path)).await).await;
        assert!(text.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{path}: {text}");
        assert!(
            text.contains("\"code\":\"body_too_slow\"") && text.contains("[http] body_s"),
            "{path}: {text}"
        );
    }
    // Whoever is not believed is not waited for.
    let text = said(sent(&http, &half(&http, "/v1/clock").replace("Bearer ", "Bearer x")).await).await;
    assert!(text.starts_with("HTTP/1.1 401 "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_takes_too_long_is_given_up_whatever_still_comes_of_it() {
    let (_house, _server, http) = serving("request_s = 1").await;
    let text = said(sent(&http, &half(&http, "/v1/clock")).await).await;
    assert!(text.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{text}");
    assert!(text.contains("\"code\":\"request_too_long\"") && text.contains("[http] request_s"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_requests_is_ended_and_so_is_one_whose_answers_nobody_takes() {
    let (_house, _server, http) = serving("idle_s = 1\nrequest_s = 1").await;
    let mut stream = sent(&http, WHOLE).await;
    answer(&mut stream).await;
    assert_eq!(said(stream).await, "");

    let stream = dial(&http).await;
    let document = "GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n";
    let asked = document.repeat(100);
    let mut at = 0;
    // Counted before the connection ends.
    let ended = || metrics_handle().render().contains("wavepass_http_ends_total{why=\"slow_answer\"} ");
    while !ended() {
        // More is asked for than sockets hold; once the gateway is stuck, it reads no more.
        match stream.try_write(&asked.as_bytes()[at..]) {
            Ok(bytes) => at = (at + bytes) % document.len(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            Err(error) => assert!(ended(), "it ended for another reason: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_allowed_are_told_so_and_there_is_room_again_after_one() {
    let (_house, _server, http) = serving("max_connections = 1").await;
    let mut first = sent(&http, WHOLE).await;
    answer(&mut first).await;
    let text = said(dial(&http).await).await;
    assert!(text.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{text}");
    assert!(text.contains("\"code\":\"too_many_connections\""), "{text}");
    drop(first);
    loop {
        // One that is refused may be reset.
        let mut stream = sent(&http, &WHOLE.replace("host: a", "host: a\r\nconnection: close")).await;
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text).await;
        if text.starts_with("HTTP/1.1 200 ") {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_stops_ends_idle_connections_and_answers_requests_that_have_begun() {
    let (_house, server, http) = serving("").await;
    let mut idle = sent(&http, WHOLE).await;
    answer(&mut idle).await;
    let now = crate::testing::MORNING + 1;
    let whole = half(&http, "/v1/clock");
    let mut begun = sent(&http, &whole).await;
    // It has been read: another request on another connection is answered after it.
    let mut other = sent(&http, WHOLE).await;
    answer(&mut other).await;
    let stopped = tokio::spawn(server.stop());
    assert_eq!(said(idle).await, "");
    begun.write_all(format!(": {now}}}").as_bytes()).await.unwrap();
    let text = said(begun).await;
    assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with(&format!("{{\"now_ms\":{now}}}")), "{text}");
    stopped.await.unwrap();
    assert!(TcpStream::connect(http.authority()).await.is_err());
}
