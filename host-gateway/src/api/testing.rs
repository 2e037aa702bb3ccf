//! A house's HTTP interface over a real socket, for tests.

use super::admin_token;
use crate::serve::Server;
use crate::testing::House;
use serde_json::Value;

/// Where it is served, and what opens it.
pub(crate) struct Http {
    base: String,
    /// The admin token.
    pub(crate) admin: String,
}

/// Serves a house.
pub(crate) async fn over(house: House) -> (House, Server, Http) {
    let local = "127.0.0.1:0".parse().unwrap();
    let server = Server::start(house.app.clone(), local, local).await.unwrap();
    let admin = admin_token(&house.app.config).unwrap().to_string();
    let base = format!("http://{}", server.running().http);
    (house, server, Http { base, admin })
}

impl Http {
    /// Host and port.
    pub(crate) fn authority(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    /// Sends a request with a JSON body under these headers; gives the status and the answer's text.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    ) -> (u16, String) {
        self.send_as("application/json", method, path, headers, body).await
    }

    /// The same with a body of another type.
    pub(crate) async fn send_as(
        &self,
        content_type: &'static str,
        method: &str,
        path: &str,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    ) -> (u16, String) {
        let url = format!("{}{path}", self.base);
        let method = method.to_owned();
        let call = move || {
            let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
            let mut request = ureq::http::Request::builder().method(&method[..]).uri(url);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let request = request.header("content-type", content_type);
            let mut response = agent.run(request.body(body).unwrap()).unwrap();
            (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
        };
        tokio::task::spawn_blocking(call).await.unwrap()
    }

    /// The same with a bearer token.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> (u16, String) {
        let token = token.map(|token| ("authorization".to_owned(), format!("Bearer {token}")));
        let body = body.map(|b| b.to_string()).unwrap_or_default();
        self.send(method, path, token.into_iter().collect(), body.into_bytes()).await
    }

    /// The same with the admin token; gives the answer as JSON.
    pub(crate) async fn admin(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let (status, text) = self.call(method, path, Some(&self.admin), body).await;
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}
