//! Commands for a gateway that runs on the data folder: over its HTTP interface, with the folder's admin token.

use super::{CommandError, OutFile, Output};
use crate::answer;
use crate::api::{CommandAnswer, CommandBody, USER_HEADER, admin_token, codec};
use crate::config::Config;
use crate::serve::Running;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::time::Duration;
use zeroize::Zeroizing;

/// Longer than any command takes.
const PATIENCE: Duration = Duration::from_secs(600);

/// The longest answer, bytes: the file of some 400,000 charges, in hexadecimal. Two copies of it are in memory.
const MAX_ANSWER: u64 = 64 << 20;

/// What a command reads.
pub(super) struct Given<'a> {
    /// The text of the small file that it reads, if it reads one.
    pub(super) text: Option<String>,
    /// The file of another house that it takes in, if it takes one.
    pub(super) file: Option<&'a Path>,
}

/// What the gateway says of a file that it was sent.
#[derive(Deserialize)]
struct Sent {
    file: String,
}

/// Has the running gateway run a command line.
pub(super) async fn command(
    config: &Config,
    args: &[OsString],
    given: Given<'_>,
    user: &str,
) -> Result<Output, CommandError> {
    let Given { text, file } = given;
    let texts: Option<Vec<String>> = args.iter().skip(1).map(|a| a.to_str().map(str::to_owned)).collect();
    let args = texts.ok_or("arguments must be valid Unicode")?;
    let file = match file {
        Some(path) => Some(send(config, path, user).await?.file),
        None => None,
    };
    let body = CommandBody { args, text, file };
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
    let body = serde_json::to_vec(body)?;
    exchange(config, path, user, "application/json", move |request| Ok(request.send(&body[..])?)).await
}

/// Sends a file as it is read.
async fn send(config: &Config, path: &Path, user: &str) -> Result<Sent, CommandError> {
    let named = |e: std::io::Error| format!("{}: {e}", path.display());
    let file = File::open(path).map_err(named)?;
    if file.metadata().map_err(named)?.is_dir() {
        return Err(named(std::io::ErrorKind::IsADirectory.into()).into());
    }
    exchange(config, "/v1/files", user, "application/octet-stream", move |request| Ok(request.send(&file)?))
        .await
}

type Request = ureq::RequestBuilder<ureq::typestate::WithBody>;
type Answer = ureq::http::Response<ureq::Body>;

/// Asks the gateway that runs on the data folder.
async fn exchange<T: DeserializeOwned + Send + 'static>(
    config: &Config,
    path: &str,
    user: &str,
    content: &'static str,
    send: impl FnOnce(Request) -> Result<Answer, CommandError> + Send + 'static,
) -> Result<T, CommandError> {
    let running = Running::read(&config.data)
        .map_err(|e| format!("another process owns {}, and tells no address: {e}", config.data.display()))?;
    let token = admin_token(config).map_err(|e| in_folder(&config.data, &e))?;
    let url = format!("http://{}{path}", running.http);
    let user = user.to_owned();
    let call = move || -> Result<T, CommandError> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .build()
            .into();
        let request = agent
            .post(&url)
            .header("authorization", format!("Bearer {}", token.as_str()))
            .header("content-type", content)
            .header(USER_HEADER, user);
        let mut response = send(request)?;
        let text = answer::read(&mut response, MAX_ANSWER)?;
        if response.status().is_success() {
            return Ok(serde_json::from_slice(&text)?);
        }
        let message = serde_json::from_slice::<serde_json::Value>(&text)
            .ok()
            .and_then(|v| v["error"]["message"].as_str().map(str::to_owned));
        Err(message.unwrap_or_else(|| format!("the gateway answered {}", response.status())).into())
    };
    tokio::task::spawn_blocking(call).await?
}

fn in_folder(folder: &Path, error: &std::io::Error) -> CommandError {
    format!("the admin token in {}: {error}", folder.display()).into()
}
