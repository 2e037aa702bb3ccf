//! City's way to the gateway's administration: HTTP with the token that the gateway left in the data folder.

use crate::data::Folder;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use wavepass_protocol::lists::{Kind, Version};
use wavepass_protocol::time::UnixMs;

/// Closing a large day takes its time.
const PATIENCE: Duration = Duration::from_secs(600);

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No answer: the gateway may have died.
    #[error("{path}: {why}")]
    NoAnswer {
        /// What was asked.
        path: String,
        /// Why.
        why: String,
    },
    /// It refused.
    #[error("{path}: status {status}: {body}")]
    Refused {
        /// What was asked.
        path: String,
        /// HTTP status.
        status: u16,
        /// What it said.
        body: String,
    },
}

#[derive(Deserialize)]
struct Lists {
    current: Vec<ListVersion>,
}

#[derive(Deserialize)]
struct ListVersion {
    kind: String,
    epoch: u32,
    version: u32,
}

/// A client for one gateway.
pub struct Admin {
    agent: ureq::Agent,
    token: String,
}

impl Admin {
    /// Reads the token from the folder.
    pub fn new(folder: &Folder) -> Result<Self, crate::data::DataError> {
        let path = folder.admin_token();
        let token = std::fs::read_to_string(&path).map_err(crate::data::DataError::at(&path))?;
        let config =
            ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build();
        Ok(Self { agent: config.into(), token: token.trim().to_owned() })
    }

    fn answer(
        path: &str,
        got: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Value, AdminError> {
        let no_answer = |why: String| AdminError::NoAnswer { path: path.to_owned(), why };
        let mut response = got.map_err(|e| no_answer(e.to_string()))?;
        let status = response.status().as_u16();
        let body = response.body_mut().read_to_string().map_err(|e| no_answer(e.to_string()))?;
        if !(200..300).contains(&status) {
            return Err(AdminError::Refused { path: path.to_owned(), status, body });
        }
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&body).map_err(|e| no_answer(e.to_string()))
    }

    /// Sends a command.
    pub fn post(&self, at: SocketAddr, path: &str, body: &impl Serialize) -> Result<Value, AdminError> {
        let request = self.agent.post(format!("http://{at}{path}"));
        let request = request
            .header("authorization", &format!("Bearer {}", self.token))
            .header("x-wavepass-user", "city");
        Self::answer(path, request.send_json(body))
    }

    /// Reads something.
    pub fn get(&self, at: SocketAddr, path: &str) -> Result<Value, AdminError> {
        let request = self.agent.get(format!("http://{at}{path}"));
        Self::answer(path, request.header("authorization", &format!("Bearer {}", self.token)).call())
    }

    /// Tells the gateway the time; the same time again changes nothing. A gateway whose store was written later than
    /// that keeps its own: a city that was killed does its last steps again.
    pub fn set_clock(&self, at: SocketAddr, now: UnixMs) -> Result<(), AdminError> {
        match self.post(at, "/v1/clock", &serde_json::json!({ "now_ms": now.0 })) {
            Err(AdminError::Refused { status: 409, body, .. }) if body.contains("\"clock_backwards\"") => {
                Ok(())
            }
            told => told.map(drop),
        }
    }

    /// The end of a step: sets the clock, looks for clones, publishes the lists; gives the versions that gates
    /// should have.
    pub fn end_step(&self, at: SocketAddr, now: UnixMs) -> Result<[Version; 4], AdminError> {
        self.set_clock(at, now)?;
        self.post(at, "/v1/risk/run", &serde_json::json!({}))?;
        let path = "/v1/lists/publish";
        let answer = self.post(at, path, &serde_json::json!({}))?;
        let lists: Lists = serde_json::from_value(answer)
            .map_err(|e| AdminError::NoAnswer { path: path.to_owned(), why: e.to_string() })?;
        let mut versions = [Version::default(); 4];
        for (slot, kind) in versions.iter_mut().zip(Kind::ALL) {
            // A kind that was never published is at version 0, which every gate has.
            if let Some(list) = lists.current.iter().find(|l| l.kind == kind.word()) {
                *slot = Version { epoch: list.epoch, version: list.version };
            }
        }
        Ok(versions)
    }
}
