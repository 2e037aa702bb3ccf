//! HTTP: the files of a closed day.

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use wavepass_fares::ServiceDay;

use super::{CollectionConfig, FilesError};
use crate::api::{ApiError, ErrorBody, Json, Path, Query};
use crate::clearing::Clearing;
use crate::clearing::api::parse_day;
use crate::cli::App;

/// The most charges or journeys of a batch whose files are handed out: as many as a command gets from a gateway that runs. A
/// file is put together in memory.
const MAX_ROWS: i64 = 400_000;

const CSV: &str = "text/csv; charset=utf-8";

/// The routes of files that are handed out.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/days/{day}/files/collection", get(collection))
        .route("/v1/days/{day}/files/charges", get(charges).post(charges_by_layout))
        .route("/v1/days/{day}/files/journeys", get(journeys))
        .route("/v1/days/{day}/files/settlement", get(settlement))
}

/// This module's part of the OpenAPI document.
#[derive(utoipa::OpenApi)]
#[openapi(paths(collection, charges, charges_by_layout, journeys, settlement))]
pub struct Doc;

impl From<FilesError> for ApiError {
    fn from(error: FilesError) -> Self {
        match error {
            FilesError::NoBatch { .. } => Self::not_found("no_batch", error.to_string()),
            FilesError::Nothing { .. } => Self::not_found("nothing", error.to_string()),
            FilesError::Config(_) => Self::conflict("collection_configuration", error.to_string()),
            FilesError::Layout(_) => Self::bad_request("layout", error.to_string()),
            FilesError::Format(_) => Self::conflict("format", error.to_string()),
            FilesError::NotDeducted { .. } => Self::conflict("not_deducted", error.to_string()),
            FilesError::TooLong { .. } => Self::conflict("file_too_long", error.to_string()),
            FilesError::Clearing(error) => error.into(),
        }
    }
}

/// Which file of a day.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct FileQuery {
    /// The batch's or the settlement's place in its day: 0, the default, for the first, then what came late.
    rank: Option<u32>,
}

/// Which collection of a day.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct CollectionQuery {
    /// The batch's place in its day: 0, the default, for the first, then what came late.
    rank: Option<u32>,
    /// Which attempts: 1, the default, for the first of each charge, then the later ones.
    submission: Option<u32>,
}

/// How the charges of a batch are written.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LayoutBody {
    /// The layout file's text (TOML).
    pub layout: String,
    /// The batch's place in its day: 0 for the first, then what came late.
    #[serde(default)]
    pub rank: u32,
}

/// Clearing, where a batch is no longer than what is handed out.
async fn clearing_of(app: &App, day: ServiceDay, rank: u32) -> Result<Clearing, FilesError> {
    let clearing = Clearing::of(app).await?;
    let batch = super::sealed(&clearing, day, rank).await?;
    short_enough(batch.number, "charges", batch.charges)?;
    Ok(clearing)
}

pub(super) fn short_enough(number: i64, what: &'static str, rows: i64) -> Result<(), FilesError> {
    match rows > MAX_ROWS {
        true => Err(FilesError::TooLong { number, what, rows, most: MAX_ROWS }),
        false => Ok(()),
    }
}

fn body(content_type: &'static str, bytes: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, content_type)], bytes).into_response()
}

/// What the bank is asked for: a batch's attempts of one number, as ISO 20022 pain.008. Refunds are not in it.
#[utoipa::path(get, path = "/v1/days/{day}/files/collection", params(("day" = String, Path), CollectionQuery), responses(
    (status = 200, content_type = "application/xml", body = String), (status = 404, body = ErrorBody)))]
async fn collection(
    State(app): State<App>,
    Path(day): Path<String>,
    Query(query): Query<CollectionQuery>,
) -> Result<Response, ApiError> {
    let (day, rank) = (parse_day(&day)?, query.rank.unwrap_or(0));
    let clearing = clearing_of(&app, day, rank).await?;
    let config = CollectionConfig::of(&app)?;
    let submission = query.submission.unwrap_or(1);
    let bytes = super::collection(&clearing, &config, day, rank, submission).await?;
    Ok(body("application/xml", bytes))
}

/// The charges of a batch, as it sealed them, as CSV.
#[utoipa::path(get, path = "/v1/days/{day}/files/charges", params(("day" = String, Path), FileQuery), responses(
    (status = 200, content_type = "text/csv", body = String), (status = 404, body = ErrorBody)))]
async fn charges(
    State(app): State<App>,
    Path(day): Path<String>,
    Query(query): Query<FileQuery>,
) -> Result<Response, ApiError> {
    let (day, rank) = (parse_day(&day)?, query.rank.unwrap_or(0));
    let clearing = clearing_of(&app, day, rank).await?;
    Ok(body(CSV, super::charges(&clearing, day, rank).await?))
}

/// The same charges as records of fixed width, by a network's layout.
#[utoipa::path(post, path = "/v1/days/{day}/files/charges", params(("day" = String, Path)), request_body = LayoutBody,
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>),
    (status = 404, body = ErrorBody)))]
async fn charges_by_layout(
    State(app): State<App>,
    Path(day): Path<String>,
    Json(given): Json<LayoutBody>,
) -> Result<Response, ApiError> {
    let (day, layout) = (parse_day(&day)?, super::parse(&given.layout)?);
    let clearing = clearing_of(&app, day, given.rank).await?;
    let bytes = super::charges_by_layout(&clearing, &layout, day, given.rank).await?;
    Ok(body("application/octet-stream", bytes))
}

/// The journeys that a batch's charges are made of, as CSV.
#[utoipa::path(get, path = "/v1/days/{day}/files/journeys", params(("day" = String, Path), FileQuery), responses(
    (status = 200, content_type = "text/csv", body = String), (status = 404, body = ErrorBody)))]
async fn journeys(
    State(app): State<App>,
    Path(day): Path<String>,
    Query(query): Query<FileQuery>,
) -> Result<Response, ApiError> {
    let (day, rank) = (parse_day(&day)?, query.rank.unwrap_or(0));
    let clearing = clearing_of(&app, day, rank).await?;
    let batch = super::sealed(&clearing, day, rank).await?;
    short_enough(batch.number, "journeys", super::count_journeys(&clearing, day, rank).await?)?;
    Ok(body(CSV, super::journeys(&clearing, day, rank).await?))
}

/// The operators' positions of a settlement, as CSV.
#[utoipa::path(get, path = "/v1/days/{day}/files/settlement", params(("day" = String, Path), FileQuery), responses(
    (status = 200, content_type = "text/csv", body = String), (status = 404, body = ErrorBody)))]
async fn settlement(
    State(app): State<App>,
    Path(day): Path<String>,
    Query(query): Query<FileQuery>,
) -> Result<Response, ApiError> {
    let day = parse_day(&day)?;
    let clearing = Clearing::of(&app).await.map_err(FilesError::from)?;
    Ok(body(CSV, super::settlement(&clearing, day, query.rank.unwrap_or(0)).await?))
}
