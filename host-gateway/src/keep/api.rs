//! HTTP: erasure and retention.

use super::retention::{self, Retained};
use super::{EraseError, Erased};
use crate::api::{ApiError, ErrorBody, Json, Nothing, Path, Query, User};
use crate::cli::App;
use axum::Router;
use axum::extract::State;
use axum::routing::{delete, post};
use serde::Deserialize;
use utoipa::ToSchema;

impl From<EraseError> for ApiError {
    fn from(error: EraseError) -> Self {
        let code = match error {
            EraseError::Text(_) => return Self::bad_request("text", error.to_string()),
            EraseError::Unknown => return Self::not_found("no_account", error.to_string()),
            EraseError::App(error) => return error.into(),
            EraseError::Store(error) => return error.into(),
            EraseError::Debts(_) => "debts_open",
            EraseError::InDoubt(_) => "in_doubt",
            EraseError::Unfinished(_) => "charges_unfinished",
            EraseError::Disputes(_) => "disputes_open",
            EraseError::Holds(_) => "holds_standing",
            EraseError::Unchecked(_) => "unchecked_taps",
            EraseError::DayOpen(_) => "day_open",
        };
        Self::conflict(code, error.to_string())
    }
}

/// The routes of erasure and retention.
pub fn routes() -> Router<App> {
    Router::new().route("/v1/persons/{account}", delete(erase)).route("/v1/retention", post(retention))
}

/// This module's part of the OpenAPI document.
#[derive(utoipa::OpenApi)]
#[openapi(paths(erase, retention))]
pub struct Doc;

/// Whether anything is deleted.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionBody {
    /// Only say what would be deleted.
    pub dry_run: bool,
}

/// Erase the person of an e-account: everything that opens to the numbers of its tokens, or says whose they were. Done again,
/// it says so and changes nothing.
#[utoipa::path(delete, path = "/v1/persons/{account}", params(("account" = String, Path)), responses(
    (status = 200, body = Erased), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
async fn erase(
    State(app): State<App>,
    User(user): User,
    Path(account): Path<String>,
    // What cannot be undone is not done under a query that means nothing.
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<Erased>, ApiError> {
    Ok(Json(super::erase(&app, &user, &account).await?))
}

/// Delete the taps of service days that are long over, as the configuration says.
#[utoipa::path(post, path = "/v1/retention", request_body = Option<RetentionBody>, responses(
    (status = 200, body = Retained), (status = 409, body = ErrorBody)))]
async fn retention(
    State(app): State<App>,
    User(user): User,
    Query(Nothing {}): Query<Nothing>,
    body: Option<Json<RetentionBody>>,
) -> Result<Json<Retained>, ApiError> {
    Ok(Json(match body.is_some_and(|Json(body)| body.dry_run) {
        true => retention::plan(&app).await?,
        false => retention::run(&app, &user).await?,
    }))
}
