//! HTTP: erasure and retention.

use super::retention::{self, Retained};
use super::{EraseError, Erased};
use crate::api::{ApiError, ErrorBody, Json, Nothing, Path, Query, User};
use crate::cli::App;
use axum::Router;
use axum::extract::State;
use axum::routing::{delete, post};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

impl From<EraseError> for ApiError {
    fn from(error: EraseError) -> Self {
        match error {
            EraseError::Text(_) => Self::bad_request("text", error.to_string()),
            EraseError::Unknown => Self::not_found("no_account", error.to_string()),
            EraseError::Unfinished(unfinished) => unfinished.into(),
            EraseError::Balance(_) => Self::conflict("balance_left", error.to_string()),
            EraseError::Tokens(_) | EraseError::Config(_) => Self::internal(&error),
            EraseError::App(error) => error.into(),
            EraseError::Store(error) => error.into(),
        }
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

/// Whether anyone is erased.
#[derive(Debug, Default, Deserialize, IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub struct ErasureOptions {
    /// Only say what would be erased, and what stands against it.
    pub dry_run: bool,
}

/// Erase the person of an e-account: everything that opens to the numbers of its tokens, or says whose they were. Done again,
/// it says so and changes nothing. Where the query or the body says `dry_run`, nothing is erased.
#[utoipa::path(delete, path = "/v1/persons/{account}", params(("account" = String, Path), ErasureOptions),
    request_body = Option<ErasureOptions>, responses(
    (status = 200, body = Erased), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
async fn erase(
    State(app): State<App>,
    User(user): User,
    Path(account): Path<String>,
    // What cannot be undone is not done under a query or a body that means nothing.
    Query(query): Query<ErasureOptions>,
    body: Option<Json<ErasureOptions>>,
) -> Result<Json<Erased>, ApiError> {
    let dry_run = query.dry_run || body.is_some_and(|Json(body)| body.dry_run);
    Ok(Json(match dry_run {
        true => super::preview(&app, &account).await?,
        false => super::erase(&app, &user, &account).await?,
    }))
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
