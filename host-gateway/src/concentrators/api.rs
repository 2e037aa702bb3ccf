//! HTTP: concentrators are listed and retired. One is added by command, where its key file stays with whoever gave it.

use super::{Concentrator, ConcentratorError, Concentrators, NotOwn, Wanted};
use crate::api::{ApiError, ErrorBody, Json, Path, Query, User};
use crate::clearing::api::parse_limit;
use crate::cli::App;
use crate::cursor;
use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use serde::Deserialize;
use utoipa::IntoParams;

impl From<ConcentratorError> for ApiError {
    fn from(error: ConcentratorError) -> Self {
        match error {
            ConcentratorError::Name(_) => Self::bad_request("name", error.to_string()),
            ConcentratorError::InService => Self::conflict("in_service", error.to_string()),
            ConcentratorError::Unknown => Self::not_found("no_concentrator", error.to_string()),
            ConcentratorError::NoAfter => Self::bad_request("after", error.to_string()),
            ConcentratorError::Random(_) | ConcentratorError::File(_) => Self::internal(&error),
            ConcentratorError::App(error) => error.into(),
            ConcentratorError::Store(error) => error.into(),
        }
    }
}

impl From<NotOwn> for ApiError {
    fn from(error: NotOwn) -> Self {
        match error {
            NotOwn::Unreadable(_) => Self::bad_request("entry_unreadable", error.to_string()),
            NotOwn::NoGate(_) => Self::forbidden("no_gate", error.to_string()),
            NotOwn::OtherGate { .. } => Self::forbidden("other_gate", error.to_string()),
        }
    }
}

/// The routes of concentrators.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/concentrators", get(list_concentrators))
        .route("/v1/concentrators/{name}/retire", post(retire_concentrator))
}

/// This module's part of the OpenAPI document.
#[derive(utoipa::OpenApi)]
#[openapi(paths(list_concentrators, retire_concentrator))]
pub struct Doc;

/// Which concentrators.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ConcentratorsQuery {
    /// Retired ones, too.
    #[serde(default)]
    all: bool,
    /// Only those after the one of this key id: the next page.
    after: Option<String>,
    /// At most so many, 1 to 1,000.
    limit: Option<u32>,
}

/// Concentrators, by name: those in service, unless retired ones are asked for, too.
#[utoipa::path(get, path = "/v1/concentrators", params(ConcentratorsQuery), responses(
    (status = 200, body = Concentrators), (status = 400, body = ErrorBody)))]
async fn list_concentrators(
    State(app): State<App>,
    Query(query): Query<ConcentratorsQuery>,
) -> Result<Json<Concentrators>, ApiError> {
    let ConcentratorsQuery { all, after, limit } = query;
    let wanted = Wanted { all, after: cursor::of_query(after.as_deref())?, limit: parse_limit(limit)? };
    Ok(Json(super::list(&app.store, &wanted).await?))
}

/// Take a concentrator out of service.
#[utoipa::path(post, path = "/v1/concentrators/{name}/retire", params(("name" = String, Path)), responses(
    (status = 200, body = Concentrator), (status = 404, body = ErrorBody)))]
async fn retire_concentrator(
    State(app): State<App>,
    User(user): User,
    Path(name): Path<String>,
) -> Result<Json<Concentrator>, ApiError> {
    Ok(Json(super::retire(&app, &name, &user).await?))
}
