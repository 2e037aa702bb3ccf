//! HTTP: pay-outs.

use super::{PaidOut, PayOutError, Refusal};
use crate::api::{ApiError, ErrorBody, Json, Nothing, Path, Query, User};
use crate::bank::embedded::pay_out as embedded;
use crate::clearing::unfinished::Unfinished;
use crate::cli::App;
use axum::Router;
use axum::extract::State;
use axum::routing::post;
use serde::Deserialize;
use utoipa::ToSchema;

impl From<Unfinished> for ApiError {
    fn from(unfinished: Unfinished) -> Self {
        Self::conflict(unfinished.word(), unfinished.to_string())
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::Unknown => return Self::not_found("no_account", refusal.to_string()),
            Refusal::Frozen => "frozen",
            Refusal::Closed => "closed",
            Refusal::Empty => "empty",
            Refusal::Held(_) => "holds_standing",
        };
        Self::conflict(code, refusal.to_string())
    }
}

impl From<PayOutError> for ApiError {
    fn from(error: PayOutError) -> Self {
        match error {
            PayOutError::Text(_) => Self::bad_request("text", error.to_string()),
            PayOutError::Elsewhere(_) => Self::conflict("other_bank", error.to_string()),
            PayOutError::Erased => Self::conflict("erased", error.to_string()),
            PayOutError::Unfinished(unfinished) => unfinished.into(),
            PayOutError::Bank(embedded::PayOutError::Refused(refusal)) => refusal.into(),
            PayOutError::App(error) => error.into(),
            PayOutError::Bank(_)
            | PayOutError::Tokens(_)
            | PayOutError::Config(_)
            | PayOutError::Store(_) => Self::internal(&error),
        }
    }
}

/// The routes of pay-outs.
pub fn routes() -> Router<App> {
    Router::new().route("/v1/accounts/{account}/pay-out", post(pay_out))
}

/// This module's part of the OpenAPI document.
#[derive(utoipa::OpenApi)]
#[openapi(paths(pay_out))]
pub struct Doc;

/// Which pay-out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PayOutBody {
    /// Its name, 1 to 64 characters: given again, it moves nothing.
    pub name: String,
}

/// Pay out all that an e-account of the embedded bank holds to its owner's bound account. Under a name that came before, the
/// answer is the same and nothing moves.
#[utoipa::path(post, path = "/v1/accounts/{account}/pay-out", params(("account" = String, Path)),
    request_body = PayOutBody, responses((status = 200, body = PaidOut), (status = 400, body = ErrorBody),
    (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
async fn pay_out(
    State(app): State<App>,
    User(user): User,
    Path(account): Path<String>,
    Query(Nothing {}): Query<Nothing>,
    Json(body): Json<PayOutBody>,
) -> Result<Json<PaidOut>, ApiError> {
    Ok(Json(super::pay_out(&app, &user, &account, &body.name).await?))
}
