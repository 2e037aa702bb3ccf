//! HTTP: debts.

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{DebtState, Debts, Recovered, Waived, Wanted, WrittenOff};
use crate::api::{ApiError, ErrorBody, Json, Path, Query, User};
use crate::clearing::api::{parse_day, parse_limit, parse_token};
use crate::cli::App;
use crate::cursor;

/// The routes of debts.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/debts", get(debts))
        .route("/v1/debts/{token}/recover", post(recover))
        .route("/v1/debts/{token}/waive", post(waive))
        .route("/v1/debts/{token}/write-off", post(write_off))
}

/// This module's part of the OpenAPI document.
#[derive(utoipa::OpenApi)]
#[openapi(paths(debts, recover, waive, write_off))]
pub struct Doc;

/// Which debts.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DebtsQuery {
    /// Only this token's: its key, 32 hexadecimal digits.
    token_key: Option<String>,
    /// Only those.
    state: Option<DebtState>,
    /// Only those after this one: the next page.
    after: Option<String>,
    /// At most so many, 1 to 1,000.
    limit: Option<u32>,
}

/// What to waive.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WaiveBody {
    /// The day, YYYY-MM-DD.
    pub day: String,
    /// Only this part of the day; by default all that are open.
    #[serde(default)]
    pub part: Option<u32>,
    /// Why, for the audit log; no numbers of cards, no names.
    pub reason: String,
}

/// What to write off.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteOffBody {
    /// The day, YYYY-MM-DD.
    pub day: String,
    /// Only this part of the day; by default all that are open.
    #[serde(default)]
    pub part: Option<u32>,
    /// Why, for the audit log and the deny list; no numbers of cards, no names.
    pub reason: String,
    /// True takes the token off the deny list, as far as write-offs keep it there.
    #[serde(default)]
    pub readmit: bool,
}

/// Debts, by token, day and part.
#[utoipa::path(get, path = "/v1/debts", params(DebtsQuery), responses(
    (status = 200, body = Debts), (status = 400, body = ErrorBody)))]
async fn debts(State(app): State<App>, Query(query): Query<DebtsQuery>) -> Result<Json<Debts>, ApiError> {
    let wanted = Wanted {
        token_key: query.token_key.as_deref().map(parse_token).transpose()?,
        state: query.state,
        after: cursor::of_query(query.after.as_deref())?,
        limit: parse_limit(query.limit)?,
    };
    Ok(Json(super::list(&app, wanted).await?))
}

/// Ask the bank again, now, for everything that a token owes.
#[utoipa::path(post, path = "/v1/debts/{token}/recover", params(("token" = String, Path)), responses(
    (status = 200, body = Recovered), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
    (status = 409, body = ErrorBody)))]
async fn recover(
    State(app): State<App>,
    User(user): User,
    Path(token): Path<String>,
) -> Result<Json<Recovered>, ApiError> {
    Ok(Json(super::recover(&app, &user, parse_token(&token)?).await?))
}

/// Give a token's debt of a day up for the rider's sake, or, by its part, end a credit that the bank declined: given in another way,
/// or not at all. Waived again, it stays as it is.
#[utoipa::path(post, path = "/v1/debts/{token}/waive", params(("token" = String, Path)), request_body = WaiveBody,
    responses((status = 200, body = Waived), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
    (status = 409, body = ErrorBody)))]
async fn waive(
    State(app): State<App>,
    User(user): User,
    Path(token): Path<String>,
    Json(body): Json<WaiveBody>,
) -> Result<Json<Waived>, ApiError> {
    let which = (parse_token(&token)?, parse_day(&body.day)?, body.part);
    Ok(Json(super::waive(&app, &user, which, &body.reason).await?))
}

/// Give a token's debt of a day up as lost. Written off again, it stays as it is. The token stays on the deny list, for
/// `written_off`, unless it is readmitted.
#[utoipa::path(post, path = "/v1/debts/{token}/write-off", params(("token" = String, Path)),
    request_body = WriteOffBody, responses((status = 200, body = WrittenOff), (status = 400, body = ErrorBody),
    (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
async fn write_off(
    State(app): State<App>,
    User(user): User,
    Path(token): Path<String>,
    Json(body): Json<WriteOffBody>,
) -> Result<Json<WrittenOff>, ApiError> {
    let which = (parse_token(&token)?, parse_day(&body.day)?, body.part);
    Ok(Json(super::write_off(&app, &user, which, &body.reason, body.readmit).await?))
}
