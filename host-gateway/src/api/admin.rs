//! Routes of the operator: clock, risk, lists, gates, and commands sent by a second process.

use super::{ApiError, ErrorBody, Json, Path, User};
use crate::cli::{self, App, Output};
use crate::intake::board::GateState;
use crate::keys::{TokenKey, TokenKeyError};
use crate::lists::standing::{Standing, standing_in};
use crate::risk;
use crate::spool;
use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The gateway's clock.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClockBody {
    /// Unix milliseconds.
    pub now_ms: u64,
}

/// A published list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ListVersion {
    /// `deny`, `ca_keys`, `revocations` or `config`.
    pub kind: &'static str,
    /// Counts restorations of the host.
    pub epoch: u32,
    /// Counts issues within an epoch.
    pub version: u32,
}

/// Lists, by kind.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Lists {
    /// What was published just now.
    pub published: Vec<ListVersion>,
    /// What is in force.
    pub current: Vec<ListVersion>,
}

/// Every gate that has connected since the gateway started.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Gates {
    /// Gates, by number.
    pub gates: Vec<GateState>,
}

/// A command line for the process that owns the data folder.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandBody {
    /// Arguments, without the program's name.
    pub args: Vec<String>,
    /// The text of the file that the command reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The file that the command takes in: the hash that `/v1/files` gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// What a command printed, and the files that its caller is to write.
#[derive(Debug, Serialize, Deserialize)]
pub struct CommandAnswer {
    /// To be printed.
    pub text: String,
    /// To be printed to standard error.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// To be written, readable by their owner only: path and content, hexadecimal.
    pub files: Vec<(PathBuf, String)>,
}

pub(super) fn routes(driven: bool) -> Router<App> {
    let clock = if driven { get(read_clock).post(set_clock) } else { get(read_clock) };
    Router::new()
        .route("/v1/clock", clock)
        .route("/v1/risk/run", post(run_risk))
        .route("/v1/lists", get(lists))
        .route("/v1/lists/publish", post(publish))
        .route("/v1/gates", get(gates))
        .route("/v1/deny/{token}", get(deny_state))
        .route("/v1/admin/command", post(command))
}

/// The gateway's time.
#[utoipa::path(get, path = "/v1/clock", responses((status = 200, body = ClockBody)))]
pub(super) async fn read_clock(State(app): State<App>) -> Json<ClockBody> {
    Json(ClockBody { now_ms: app.clock.now().0 })
}

/// Move a driven clock on. It never goes back.
#[utoipa::path(post, path = "/v1/clock", request_body = ClockBody, responses(
    (status = 200, body = ClockBody), (status = 409, body = ErrorBody)))]
pub(super) async fn set_clock(
    State(app): State<App>,
    Json(body): Json<ClockBody>,
) -> Result<Json<ClockBody>, ApiError> {
    // The route exists with a driven clock only.
    let clock = app.clock.driven().ok_or_else(|| ApiError::conflict("clock", "the clock is the system's"))?;
    clock
        .set(wavepass_protocol::time::UnixMs(body.now_ms))
        .map_err(|e| ApiError::conflict("clock_backwards", e.to_string()))?;
    app.spread_news();
    Ok(Json(body))
}

/// Look at every token with new taps; raise alerts.
#[utoipa::path(post, path = "/v1/risk/run", responses((status = 200, body = risk::Summary)))]
pub(super) async fn run_risk(State(app): State<App>) -> Result<Json<risk::Summary>, ApiError> {
    app.now()?;
    risk::run(&app).await.map(Json).map_err(|e| ApiError::internal(&e))
}

fn current(app: &App) -> Vec<ListVersion> {
    let kinds = wavepass_protocol::lists::Kind::ALL.into_iter();
    kinds.filter_map(|kind| Some(version(kind, app.lists.current(kind)?.0))).collect()
}

fn version(kind: wavepass_protocol::lists::Kind, version: wavepass_protocol::lists::Version) -> ListVersion {
    ListVersion { kind: kind.word(), epoch: version.epoch, version: version.version }
}

/// The lists in force.
#[utoipa::path(get, path = "/v1/lists", responses((status = 200, body = Lists)))]
pub(super) async fn lists(State(app): State<App>) -> Json<Lists> {
    Json(Lists { published: Vec::new(), current: current(&app) })
}

/// Publish the lists that have changed, and send them to the gates.
#[utoipa::path(post, path = "/v1/lists/publish", responses((status = 200, body = Lists)))]
pub(super) async fn publish(State(app): State<App>) -> Result<Json<Lists>, ApiError> {
    let published = app.publish_lists().await?;
    let published = published.into_iter().map(|(kind, v)| version(kind, v)).collect();
    Ok(Json(Lists { published, current: current(&app) }))
}

/// Whether a token is denied: by the table, and by the list that gates hold.
#[utoipa::path(get, path = "/v1/deny/{token}", params(("token" = String, Path)), responses(
    (status = 200, body = Standing), (status = 400, body = ErrorBody)))]
pub(super) async fn deny_state(
    State(app): State<App>,
    Path(token): Path<String>,
) -> Result<Json<Standing>, ApiError> {
    let key = token.parse();
    let key: TokenKey = key.map_err(|e: TokenKeyError| ApiError::bad_request("token", e.to_string()))?;
    let mut conn = app.store.pool().acquire().await.map_err(|e| ApiError::internal(&e))?;
    let standing = standing_in(&mut conn, &*app.clearing, &app.lists, key, None).await;
    standing.map(Json).map_err(|e| ApiError::internal(&e))
}

/// The state of every gate that has connected.
#[utoipa::path(get, path = "/v1/gates", responses((status = 200, body = Gates)))]
pub(super) async fn gates(State(app): State<App>) -> Json<Gates> {
    Json(Gates { gates: app.gates.all() })
}

// Not in the OpenAPI document: the command line's own way to the process that owns the data folder. The body is
// never logged, since arguments may hold numbers.
async fn command(
    State(app): State<App>,
    User(user): User,
    Json(body): Json<CommandBody>,
) -> Result<Json<CommandAnswer>, ApiError> {
    let command = cli::parse_store_command(&body.args).map_err(|e| ApiError::bad_request("command", e))?;
    let file = body.file.as_deref().map(|name| spool::take(&app.config.data, name)).transpose()?;
    let given = cli::Given { text: body.text.as_deref(), file };
    let outcome = cli::run_store_command(command, &app, &user, given).await;
    let Output { text, warnings, files } =
        outcome.map_err(|e| ApiError::bad_request("command_failed", e.to_string()))?;
    let files = files.into_iter().map(|f| (f.path, crate::store::sql::hex(&f.bytes))).collect();
    Ok(Json(CommandAnswer { text, warnings, files }))
}
