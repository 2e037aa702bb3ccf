//! HTTP: corrections.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{Corrected, CorrectionError, CorrectionId, Corrections, Told, Wanted};
use crate::api::{ApiError, ErrorBody, Json, Query, User};
use crate::clearing::api::{parse_day, parse_journey, parse_limit, parse_token};
use crate::cli::App;
use crate::cursor;

impl From<CorrectionError> for ApiError {
    fn from(error: CorrectionError) -> Self {
        let code = match error {
            CorrectionError::Clearing(error) => return error.into(),
            CorrectionError::Config(error) => return Self::internal(&error),
            CorrectionError::Risk(error) => return Self::internal(&error),
            CorrectionError::NoJourney { .. } => return Self::not_found("no_journey", error.to_string()),
            CorrectionError::UnknownStation { .. } => "unknown_station",
            CorrectionError::NotJoined { .. } => "not_joined",
            CorrectionError::Time { .. } => "time",
            CorrectionError::OverLimit { .. } => "over_limit",
            CorrectionError::TooOld { .. } => "too_old",
            CorrectionError::AlreadyCorrected { .. } => "already_corrected",
            CorrectionError::Refunded { .. } => "refunded",
        };
        Self::conflict(code, error.to_string())
    }
}

/// The routes of corrections.
pub fn routes() -> Router<App> {
    Router::new().route("/v1/corrections", get(corrections).post(add))
}

/// This module's part of the OpenAPI document.
#[derive(utoipa::OpenApi)]
#[openapi(paths(corrections, add))]
pub struct Doc;

/// Which corrections.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct CorrectionsQuery {
    /// Only this token's: its key, 32 hexadecimal digits.
    token_key: Option<String>,
    /// Only those after this one: the next page.
    after: Option<String>,
    /// At most so many, 1 to 1,000.
    limit: Option<u32>,
}

/// Where a missing tap was.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CorrectionBody {
    /// The token's key, 32 hexadecimal digits.
    pub token_key: String,
    /// The service day of the journey, YYYY-MM-DD.
    pub day: String,
    /// The journey: key id and sequence number of the tap that there is.
    pub journey: String,
    /// The code of the station where the missing tap was.
    pub station: String,
    /// When it was, such as 2026-11-23T08:31:00+08:00, if the rider knows.
    #[serde(default)]
    pub time: Option<String>,
}

/// Corrections, by token, day and journey.
#[utoipa::path(get, path = "/v1/corrections", params(CorrectionsQuery), responses(
    (status = 200, body = Corrections), (status = 400, body = ErrorBody)))]
async fn corrections(
    State(app): State<App>,
    Query(query): Query<CorrectionsQuery>,
) -> Result<Json<Corrections>, ApiError> {
    let wanted = Wanted {
        token_key: query.token_key.as_deref().map(parse_token).transpose()?,
        after: cursor::of_query(query.after.as_deref())?,
        limit: parse_limit(query.limit)?,
    };
    Ok(Json(super::list(&app.store, wanted).await?))
}

/// Take where a rider's missing tap was.
#[utoipa::path(post, path = "/v1/corrections", request_body = CorrectionBody, responses(
    (status = 200, body = Corrected), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
    (status = 409, body = ErrorBody)))]
async fn add(
    State(app): State<App>,
    User(user): User,
    Json(body): Json<CorrectionBody>,
) -> Result<Json<Corrected>, ApiError> {
    let of = CorrectionId {
        token_key: parse_token(&body.token_key)?,
        day: parse_day(&body.day)?,
        journey: parse_journey(&body.journey)?,
    };
    let time = body.time.as_deref().map(str::parse::<Timestamp>).transpose();
    let time = time.map_err(|_| {
        ApiError::bad_request("time", "a time is one such as 2026-11-23T08:31:00+08:00, with its offset")
    })?;
    let told = Told { of, station: &body.station, told_ms: time.map(Timestamp::as_millisecond) };
    Ok(Json(super::add(&app, &user, told).await?))
}
