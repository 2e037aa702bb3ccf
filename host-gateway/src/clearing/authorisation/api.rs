//! HTTP: what a token has at risk, and a round of authorisation.

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};

use super::Authorised;
use super::show::{TokenRisk, risk_of};
use crate::api::{ApiError, ErrorBody, Json, Path};
use crate::clearing::api::parse_token;
use crate::cli::App;

/// The routes of authorisation.
pub fn routes() -> Router<App> {
    Router::new().route("/v1/tokens/{token}/risk", get(token_risk)).route("/v1/authorisation/run", post(run))
}

/// This module's part of the OpenAPI document.
#[derive(utoipa::OpenApi)]
#[openapi(paths(token_risk, run))]
pub struct Doc;

/// What a token has at risk: when the bank last paid for it, the first tap since, what is held, and why gates refuse it.
#[utoipa::path(get, path = "/v1/tokens/{token}/risk", params(("token" = String, Path)), responses(
    (status = 200, body = TokenRisk), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn token_risk(State(app): State<App>, Path(token): Path<String>) -> Result<Json<TokenRisk>, ApiError> {
    let token = parse_token(&token)?;
    let risk = risk_of(&app, token).await?;
    let unknown = || ApiError::not_found("no_token", format!("no token {token} is registered or has tapped"));
    risk.map(Json).ok_or_else(unknown)
}

/// Do now what authorisation has to do of new taps: ask for fares early and for holds, and for debts whose riders tapped again. With
/// the system's clock it is done after each run of risk by itself. The deny list is not published.
#[utoipa::path(post, path = "/v1/authorisation/run", responses(
    (status = 200, body = Authorised), (status = 409, body = ErrorBody)))]
async fn run(State(app): State<App>) -> Result<Json<Authorised>, ApiError> {
    Ok(Json(super::run(&app).await?))
}
