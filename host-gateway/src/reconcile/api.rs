//! HTTP: files of the bank and the network, and what they are held against.

use std::pin::Pin;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::routing::post;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::days::Days;
use super::matching::{self, MatchError, Matched, MatchedDays};
use super::slices::{self, Slices};
use super::theirs::Form;
use crate::api::{ApiError, ErrorBody, Json, Path, User};
use crate::clearing::answers::{self, Answered};
use crate::clearing::api::parse_day;
use crate::cli::App;
use crate::spool::{self, Incoming};

/// The routes of files.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/files", post(send))
        .route("/v1/answers", post(take_answers))
        .route("/v1/days/{day}/reconcile/statement", post(take_statement))
        .route("/v1/reconcile/statement", post(take_statement_of_days))
        .route("/v1/days/{day}/reconcile/network", post(take_network))
        .route("/v1/days/{day}/reconcile/slices", post(hold_slices))
}

/// This module's part of the OpenAPI document.
#[derive(utoipa::OpenApi)]
#[openapi(paths(send, take_answers, take_statement, take_statement_of_days, take_network, hold_slices))]
pub struct Doc;

/// A file that waits to be read.
#[derive(Debug, Serialize, ToSchema)]
pub struct FileSent {
    /// SHA-256 of its bytes, 64 hexadecimal digits: its name in the request that takes it in.
    pub file: String,
    /// How many bytes it has.
    pub bytes: u64,
}

/// Which file.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FileBody {
    /// What `/v1/files` gave; it is taken once.
    pub file: String,
}

/// Which file of several days.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DaysFileBody {
    /// What `/v1/files` gave; it is taken once.
    pub file: String,
    /// The first day, YYYY-MM-DD.
    pub first_day: String,
    /// The last day, at most 30 days later.
    pub last_day: String,
}

/// Which file of the network's.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkBody {
    /// What `/v1/files` gave; it is taken once.
    pub file: String,
    /// The layout file's text (TOML), where the file has records of fixed width; else it is the house's charges CSV.
    pub layout: Option<String>,
}

/// Send a file of any content, of at most 2 GiB, whatever the limit on other bodies. It waits an hour for the request that
/// takes it in.
#[utoipa::path(post, path = "/v1/files", request_body(content = Vec<u8>, content_type = "application/octet-stream"), responses(
    (status = 200, body = FileSent), (status = 400, body = ErrorBody), (status = 409, body = ErrorBody)))]
async fn send(State(app): State<App>, mut body: Body) -> Result<Json<FileSent>, ApiError> {
    let mut incoming = Incoming::begin(&app.config.data)?;
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| ApiError::unread(&error))?;
        if let Ok(bytes) = frame.into_data() {
            incoming.write(&bytes)?;
        }
    }
    let spooled = incoming.finish();
    let bytes = spooled.bytes();
    Ok(Json(FileSent { file: spooled.keep()?, bytes }))
}

/// Take in the bank's answers to a collection (ISO 20022 pain.002).
#[utoipa::path(post, path = "/v1/answers", request_body = FileBody, responses(
    (status = 200, body = Answered), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn take_answers(
    State(app): State<App>,
    User(user): User,
    Json(body): Json<FileBody>,
) -> Result<Json<Answered>, ApiError> {
    let file = spool::take(&app.config.data, &body.file)?;
    Ok(Json(answers::take(&app, &user, &file).await?))
}

/// Hold a closed day against the bank's statement (ISO 20022 camt.053); every difference becomes a break.
#[utoipa::path(post, path = "/v1/days/{day}/reconcile/statement", params(("day" = String, Path)), request_body = FileBody,
    responses((status = 200, body = Matched), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
async fn take_statement(
    State(app): State<App>,
    User(user): User,
    Path(day): Path<String>,
    Json(body): Json<FileBody>,
) -> Result<Json<Matched>, ApiError> {
    let (day, form) = (parse_day(&day)?, matching::statement(&app)?);
    let file = spool::take(&app.config.data, &body.file)?;
    Ok(Json(matching::take(&app, &user, day, form, &file).await?))
}

/// Hold several closed days, one after the other, against the bank's statement of all of them (ISO 20022 camt.053), each line
/// against its own day; every difference becomes a break. A day without taps need not be closed.
#[utoipa::path(post, path = "/v1/reconcile/statement", request_body = DaysFileBody, responses(
    (status = 200, body = MatchedDays), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
    (status = 409, body = ErrorBody)))]
async fn take_statement_of_days(
    State(app): State<App>,
    User(user): User,
    Json(body): Json<DaysFileBody>,
) -> Result<Json<MatchedDays>, ApiError> {
    let days =
        Days::new(parse_day(&body.first_day)?, parse_day(&body.last_day)?).map_err(MatchError::from)?;
    let file = spool::take(&app.config.data, &body.file)?;
    Ok(Json(matching::take_days(&app, &user, days, &file).await?))
}

/// Hold a closed day against the clearing network's file; every difference becomes a break.
#[utoipa::path(post, path = "/v1/days/{day}/reconcile/network", params(("day" = String, Path)), request_body = NetworkBody,
    responses((status = 200, body = Matched), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
async fn take_network(
    State(app): State<App>,
    User(user): User,
    Path(day): Path<String>,
    Json(body): Json<NetworkBody>,
) -> Result<Json<Matched>, ApiError> {
    let day = parse_day(&day)?;
    let form = body.layout.as_deref().map_or(Ok(Form::Charges), Form::fixed)?;
    let file = spool::take(&app.config.data, &body.file)?;
    Ok(Json(matching::take(&app, &user, day, form, &file).await?))
}

/// Hold the taps, journeys, charges and postings of a day against each other slice by slice; where a slice that is over
/// disagrees, there is a break. The day need not be closed.
#[utoipa::path(post, path = "/v1/days/{day}/reconcile/slices", params(("day" = String, Path)), responses(
    (status = 200, body = Slices), (status = 400, body = ErrorBody), (status = 409, body = ErrorBody)))]
async fn hold_slices(
    State(app): State<App>,
    User(user): User,
    Path(day): Path<String>,
) -> Result<Json<Slices>, ApiError> {
    Ok(Json(slices::day(&app, &user, parse_day(&day)?).await?))
}
