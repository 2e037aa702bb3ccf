//! Commands for a gateway that runs on the data folder: over its HTTP interface, with the folder's admin token.

use super::{CommandError, OutFile, Output};
use crate::api::{CommandAnswer, CommandBody, USER_HEADER, admin_token, codec};
use crate::config::Config;
use crate::serve::Running;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;
use zeroize::Zeroizing;

/// Longer than any command takes.
const PATIENCE: Duration = Duration::from_secs(600);

/// Has the running gateway run a command line; `text` is that of the file it reads, if it reads one.
pub(super) async fn command(
    config: &Config,
    args: &[OsString],
    text: Option<String>,
    user: &str,
) -> Result<Output, CommandError> {
    let texts: Option<Vec<String>> = args.iter().skip(1).map(|a| a.to_str().map(str::to_owned)).collect();
    let body = CommandBody { args: texts.ok_or("arguments must be valid Unicode")?, text };
    let answer: CommandAnswer = post(config, "/v1/admin/command", &body, user).await?;
    let mut output = Output { text: answer.text, warnings: answer.warnings, ..Output::default() };
    for (path, hex) in answer.files {
        let bytes = codec::unhex(&hex).ok_or("the gateway sent a damaged file")?;
        output.files.push(OutFile { path, bytes: Zeroizing::new(bytes) });
    }
    Ok(output)
}

/// Posts JSON to the gateway that runs on the data folder.
pub(super) async fn post<T: DeserializeOwned + Send + 'static>(
    config: &Config,
    path: &str,
    body: &impl Serialize,
    user: &str,
) -> Result<T, CommandError> {
    let running = Running::read(&config.data)
        .map_err(|e| format!("another process owns {}, and tells no address: {e}", config.data.display()))?;
    let token = admin_token(config).map_err(|e| in_folder(&config.data, &e))?;
    let url = format!("http://{}{path}", running.http);
    let body = serde_json::to_vec(body)?;
    let user = user.to_owned();
    let call = move || -> Result<T, CommandError> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .build()
            .into();
        let mut response = agent
            .post(&url)
            .header("authorization", format!("Bearer {}", token.as_str()))
            .header("content-type", "application/json")
            .header(USER_HEADER, user)
            .send(&body[..])?;
        let text = response.body_mut().with_config().limit(64 << 20).read_to_string()?;
        if response.status().is_success() {
            return Ok(serde_json::from_str(&text)?);
        }
        let message = serde_json::from_str::<serde_json::Value>(&text)
            .ok()
            .and_then(|v| v["error"]["message"].as_str().map(str::to_owned));
        Err(message.unwrap_or_else(|| format!("the gateway answered {}", response.status())).into())
    };
    tokio::task::spawn_blocking(call).await?
}

fn in_folder(folder: &Path, error: &std::io::Error) -> CommandError {
    format!("the admin token in {}: {error}", folder.display()).into()
}
