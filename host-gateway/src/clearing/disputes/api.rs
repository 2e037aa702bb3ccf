//! HTTP: disputes.

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use wavepass_fares::Fen;

use super::{
    Decision, Dispute, DisputeError, DisputeId, DisputeIdError, DisputeState, Disputes, Evidence, Wanted,
};
use crate::api::{ApiError, ErrorBody, Json, Path, Query, User};
use crate::clearing::api::{parse_day, parse_journey, parse_limit, parse_token};
use crate::cli::App;
use crate::cursor;

impl From<DisputeError> for ApiError {
    fn from(error: DisputeError) -> Self {
        let code = match error {
            DisputeError::Clearing(error) => return error.into(),
            DisputeError::NoJourney { .. } => return Self::not_found("no_journey", error.to_string()),
            DisputeError::NoDispute { .. } => return Self::not_found("no_dispute", error.to_string()),
            DisputeError::Text(_) => return Self::bad_request("text", error.to_string()),
            DisputeError::AlreadyOpen { .. } => "already_open",
            DisputeError::Decided { .. } => "decided",
            DisputeError::TooMuch { .. } => "too_much",
            DisputeError::Unanswered { .. } => "unanswered",
            DisputeError::Waived { .. } => "waived",
            DisputeError::WrittenOff { .. } => "written_off",
        };
        Self::conflict(code, error.to_string())
    }
}

/// The routes of disputes.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/disputes", get(disputes).post(open))
        .route("/v1/disputes/{id}", get(show))
        .route("/v1/disputes/{id}/accept", post(accept))
        .route("/v1/disputes/{id}/reject", post(reject))
}

/// This module's part of the OpenAPI document.
#[derive(utoipa::OpenApi)]
#[openapi(paths(disputes, open, show, accept, reject))]
pub struct Doc;

/// Which disputes.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DisputesQuery {
    /// Only this token's: its key, 32 hexadecimal digits.
    token_key: Option<String>,
    /// Only those.
    state: Option<DisputeState>,
    /// Only those after this one: the next page.
    after: Option<String>,
    /// At most so many, 1 to 1,000.
    limit: Option<u32>,
}

/// What is disputed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DisputeBody {
    /// The token's key, 32 hexadecimal digits.
    pub token_key: String,
    /// The service day of the journey, YYYY-MM-DD.
    pub day: String,
    /// The journey: key id and sequence number of its first tap.
    pub journey: String,
    /// What the rider says; no numbers of cards, no names.
    pub reason: String,
}

/// What is given back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptBody {
    /// How much, at most what is charged and not refunded yet.
    pub fen: i64,
    /// Why; no numbers of cards, no names.
    pub reason: String,
}

/// Why nothing is given back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RejectBody {
    /// Why; no numbers of cards, no names.
    pub reason: String,
}

fn parse_id(text: &str) -> Result<DisputeId, ApiError> {
    text.parse().map_err(|e: DisputeIdError| ApiError::bad_request("id", e.to_string()))
}

/// Disputes, by token, day and journey.
#[utoipa::path(get, path = "/v1/disputes", params(DisputesQuery), responses(
    (status = 200, body = Disputes), (status = 400, body = ErrorBody)))]
async fn disputes(
    State(app): State<App>,
    Query(query): Query<DisputesQuery>,
) -> Result<Json<Disputes>, ApiError> {
    let wanted = Wanted {
        token_key: query.token_key.as_deref().map(parse_token).transpose()?,
        state: query.state,
        after: cursor::of_query(query.after.as_deref())?,
        limit: parse_limit(query.limit)?,
    };
    Ok(Json(super::list(&app.store, wanted).await?))
}

/// Open a dispute of a journey of a closed day.
#[utoipa::path(post, path = "/v1/disputes", request_body = DisputeBody, responses(
    (status = 200, body = Dispute), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
    (status = 409, body = ErrorBody)))]
async fn open(
    State(app): State<App>,
    User(user): User,
    Json(body): Json<DisputeBody>,
) -> Result<Json<Dispute>, ApiError> {
    let of = (parse_token(&body.token_key)?, parse_day(&body.day)?, parse_journey(&body.journey)?);
    Ok(Json(super::open(&app, &user, of, &body.reason).await?))
}

/// All that is known of a disputed journey.
#[utoipa::path(get, path = "/v1/disputes/{id}", params(("id" = String, Path)), responses(
    (status = 200, body = Evidence), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn show(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Evidence>, ApiError> {
    Ok(Json(super::evidence(&app, &parse_id(&id)?).await?))
}

/// Give an amount back. Accepted again with the same amount, the dispute stays as it is.
#[utoipa::path(post, path = "/v1/disputes/{id}/accept", params(("id" = String, Path)), request_body = AcceptBody,
    responses((status = 200, body = Decision), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
    (status = 409, body = ErrorBody)))]
async fn accept(
    State(app): State<App>,
    User(user): User,
    Path(id): Path<String>,
    Json(body): Json<AcceptBody>,
) -> Result<Json<Decision>, ApiError> {
    Ok(Json(super::accept(&app, &user, &parse_id(&id)?, Fen(body.fen), &body.reason).await?))
}

/// Give nothing back. Rejected again, the dispute stays as it is.
#[utoipa::path(post, path = "/v1/disputes/{id}/reject", params(("id" = String, Path)), request_body = RejectBody,
    responses((status = 200, body = Dispute), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
    (status = 409, body = ErrorBody)))]
async fn reject(
    State(app): State<App>,
    User(user): User,
    Path(id): Path<String>,
    Json(body): Json<RejectBody>,
) -> Result<Json<Dispute>, ApiError> {
    Ok(Json(super::reject(&app, &user, &parse_id(&id)?, &body.reason).await?))
}
