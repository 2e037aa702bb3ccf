//! HTTP: days, charges and settlements.

use crate::store::db::{self, Row};
use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wavepass_fares::{Fen, ServiceDay};

use super::app::{self, Closed};
use super::journey_id::{JourneyId, JourneyIdError};
use super::{ClearingError, DeductOptions, DeductSummary, Report, token_key};
use crate::api::{ApiError, ErrorBody, Json, Nothing, Path, Query, User};
use crate::cli::App;
use crate::keys::{TokenKey, TokenKeyError};
use crate::reconcile::Reconciliation;
use crate::settlement::{self, Settlement, SettlementError};

/// The most rows on a page.
const MAX_PAGE: u32 = 1_000;
const PAGE: u32 = 100;

impl From<ClearingError> for ApiError {
    fn from(error: ClearingError) -> Self {
        let code = match &error {
            ClearingError::TooEarly { .. } | ClearingError::NotBegun { .. } => "too_early",
            ClearingError::Unchecked { .. } => "unchecked_taps",
            ClearingError::NotClosed { .. } => "not_closed",
            ClearingError::Busy { .. } => "busy",
            ClearingError::Deleted { .. } => "deleted",
            ClearingError::NoTariff => "no_tariff",
            ClearingError::OtherDay => "other_day",
            ClearingError::ClockUnset(_) => "clock_unset",
            ClearingError::DebtUnanswered { .. } => "debt_unanswered",
            ClearingError::DebtPaid { .. } => "debt_paid",
            ClearingError::DebtGivenUp { .. } => "debt_given_up",
            ClearingError::NoToken(_) => return Self::not_found("no_token", error.to_string()),
            ClearingError::NoDebt { .. } => return Self::not_found("no_debt", error.to_string()),
            ClearingError::Sharing(_) => "settlement_configuration",
            ClearingError::Text(_) => return Self::bad_request("text", error.to_string()),
            _ => return Self::internal(&error),
        };
        Self::conflict(code, error.to_string())
    }
}

impl From<SettlementError> for ApiError {
    fn from(error: SettlementError) -> Self {
        match error {
            SettlementError::Clearing(error) => error.into(),
            other => Self::conflict("settlement_configuration", other.to_string()),
        }
    }
}

/// The routes of money.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/days/{day}", get(day_report_short))
        .route("/v1/days/{day}/report", get(day_report))
        .route("/v1/days/{day}/close", post(close))
        .route("/v1/days/{day}/deduct", post(deduct))
        .route("/v1/days/{day}/settle", post(settle))
        .route("/v1/days/{day}/reconcile", post(reconcile))
        .route("/v1/report", get(whole_report))
        .route("/v1/charges", get(charges))
        .route("/v1/settlements", get(settlements))
}

/// This module's part of the OpenAPI document.
#[derive(utoipa::OpenApi)]
#[openapi(paths(
    day_report,
    day_report_short,
    close,
    deduct,
    settle,
    reconcile,
    whole_report,
    charges,
    settlements
))]
pub struct Doc;

/// How to close.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CloseBody {
    /// Close although journeys may still come or taps are not checked.
    pub force: bool,
    /// The day is closed: close what came late as a further batch.
    pub late: bool,
    /// Ask the bank for nothing: leave the deductions for later.
    pub no_deduct: bool,
}

/// What to deduct.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DeductBody {
    /// Make new attempts for what the bank declined.
    pub retry_declined: bool,
}

/// A charge.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChargeRow {
    /// The day.
    #[schema(value_type = String)]
    pub service_day: ServiceDay,
    /// The token's key, 32 hexadecimal digits.
    pub token_key: String,
    /// 1, then what came late or was given back.
    pub part: i64,
    /// `fare`, or `refund` after a dispute.
    pub kind: String,
    /// Of a refund, the part that it gives back.
    pub of_part: Option<i64>,
    /// How much; negative: in the rider's favour.
    #[schema(value_type = i64)]
    pub amount_fen: Fen,
    /// What is set off against another part: the bank is asked for the amount and this.
    #[schema(value_type = i64)]
    pub offset_fen: Fen,
    /// `open`, `sent`, `in_doubt`, `deducted`, `declined`, `waived` or `written_off`.
    pub state: String,
    /// Attempts to deduct it.
    pub attempts: i64,
    /// Why the last attempt was declined.
    pub reason: Option<String>,
}

/// Charges, the latest day first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Charges {
    /// The charges.
    pub charges: Vec<ChargeRow>,
}

/// Which charges.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ChargesQuery {
    /// The token's key, 32 hexadecimal digits.
    token_key: String,
    /// Only days before this one: the next page.
    before: Option<String>,
    /// At most so many, 1 to 1,000.
    limit: Option<u32>,
}

/// Which day.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DayQuery {
    /// The day, YYYY-MM-DD.
    day: String,
}

/// Settlements of a day.
#[derive(Debug, Serialize, ToSchema)]
pub struct Settlements {
    /// By operator and rank.
    pub settlements: Vec<Settlement>,
}

pub(crate) fn parse_day(text: &str) -> Result<ServiceDay, ApiError> {
    text.parse().map_err(|e: wavepass_fares::DayError| ApiError::bad_request("day", e.to_string()))
}

pub(crate) fn parse_token(text: &str) -> Result<TokenKey, ApiError> {
    text.parse().map_err(|e: TokenKeyError| ApiError::bad_request("token_key", e.to_string()))
}

pub(super) fn parse_journey(text: &str) -> Result<JourneyId, ApiError> {
    text.parse().map_err(|e: JourneyIdError| ApiError::bad_request("journey", e.to_string()))
}

pub(crate) fn parse_limit(limit: Option<u32>) -> Result<u32, ApiError> {
    match limit {
        None => Ok(PAGE),
        Some(limit @ 1..=MAX_PAGE) => Ok(limit),
        Some(limit) => {
            Err(ApiError::bad_request("limit", format!("limit is {limit}; it must be 1 to {MAX_PAGE}")))
        }
    }
}

/// What a service day came to.
#[utoipa::path(get, path = "/v1/days/{day}/report", params(("day" = String, Path)), responses(
    (status = 200, body = Report), (status = 400, body = ErrorBody)))]
async fn day_report(State(app): State<App>, Path(day): Path<String>) -> Result<Json<Report>, ApiError> {
    Ok(Json(super::report(&app.store, Some(parse_day(&day)?)).await?))
}

/// What a service day came to: the same as its `report`.
#[utoipa::path(get, path = "/v1/days/{day}", params(("day" = String, Path)), responses((status = 200, body = Report)))]
async fn day_report_short(state: State<App>, day: Path<String>) -> Result<Json<Report>, ApiError> {
    day_report(state, day).await
}

/// What everything so far came to.
#[utoipa::path(get, path = "/v1/report", responses((status = 200, body = Report)))]
async fn whole_report(State(app): State<App>) -> Result<Json<Report>, ApiError> {
    Ok(Json(super::report(&app.store, None).await?))
}

/// Let risk look at the day's taps, close the day and, unless `no_deduct` is set, deduct it. A closed day stays as it is; what
/// of it is not deducted is asked for again.
#[utoipa::path(post, path = "/v1/days/{day}/close", params(("day" = String, Path)), request_body = Option<CloseBody>,
    responses((status = 200, body = Closed), (status = 409, body = ErrorBody)))]
async fn close(
    State(app): State<App>,
    User(user): User,
    Path(day): Path<String>,
    Query(Nothing {}): Query<Nothing>,
    body: Option<Json<CloseBody>>,
) -> Result<Json<Closed>, ApiError> {
    let wanted = body.map(|Json(body)| body).unwrap_or_default();
    Ok(Json(app::carry_out(&app, &user, parse_day(&day)?, wanted).await?))
}

/// Deduct what of a closed day is not deducted.
#[utoipa::path(post, path = "/v1/days/{day}/deduct", params(("day" = String, Path)), request_body = Option<DeductBody>,
    responses((status = 200, body = DeductSummary), (status = 409, body = ErrorBody)))]
async fn deduct(
    State(app): State<App>,
    User(user): User,
    Path(day): Path<String>,
    Query(Nothing {}): Query<Nothing>,
    body: Option<Json<DeductBody>>,
) -> Result<Json<DeductSummary>, ApiError> {
    let retry_declined = body.is_some_and(|Json(body)| body.retry_declined);
    Ok(Json(app::deduct(&app, &user, parse_day(&day)?, DeductOptions { retry_declined }).await?))
}

/// Settle a closed day: what is due and was not settled before.
#[utoipa::path(post, path = "/v1/days/{day}/settle", params(("day" = String, Path)), responses(
    (status = 200, body = Settlements), (status = 409, body = ErrorBody)))]
async fn settle(
    State(app): State<App>,
    User(user): User,
    Path(day): Path<String>,
) -> Result<Json<Settlements>, ApiError> {
    Ok(Json(Settlements { settlements: app::settle(&app, &user, parse_day(&day)?).await? }))
}

/// Reconcile a closed day; every difference becomes a break.
#[utoipa::path(post, path = "/v1/days/{day}/reconcile", params(("day" = String, Path)), responses(
    (status = 200, body = Reconciliation), (status = 409, body = ErrorBody)))]
async fn reconcile(
    State(app): State<App>,
    User(user): User,
    Path(day): Path<String>,
) -> Result<Json<Reconciliation>, ApiError> {
    Ok(Json(app::reconcile(&app, &user, parse_day(&day)?).await?))
}

/// A token's charges, the latest day first.
#[utoipa::path(get, path = "/v1/charges", params(ChargesQuery), responses(
    (status = 200, body = Charges), (status = 400, body = ErrorBody)))]
async fn charges(
    State(app): State<App>,
    Query(query): Query<ChargesQuery>,
) -> Result<Json<Charges>, ApiError> {
    let key = parse_token(&query.token_key)?;
    let before = match &query.before {
        Some(day) => parse_day(day)?.number(),
        None => i64::MAX,
    };
    // Charges are found by their day first, and days that are not closed may have some.
    let rows = db::query(
        "WITH RECURSIVE days (day) AS (SELECT max(service_day) FROM charges WHERE service_day < ?2 UNION ALL \
         SELECT (SELECT max(service_day) FROM charges WHERE service_day < days.day) FROM days WHERE days.day IS NOT NULL) \
         SELECT c.service_day, c.token_key, c.part, c.amount_fen, c.state, c.attempts, a.reason, \
         c.kind, c.of_part, c.offset_fen FROM days CROSS JOIN charges AS c \
         LEFT JOIN attempts AS a ON a.service_day = c.service_day AND a.token_key = c.token_key AND a.part = c.part \
         AND a.attempt_no = c.attempts \
         WHERE c.service_day = days.day AND c.token_key = ?1 ORDER BY c.service_day DESC, c.part LIMIT ?3",
    )
    .bind(key.as_slice().to_vec())
    .bind(before)
    .bind(parse_limit(query.limit)?)
    .fetch_all(app.store.pool())
    .await?;
    let charge = |row: &Row| -> Result<ChargeRow, ClearingError> {
        Ok(ChargeRow {
            service_day: ServiceDay::from_number(row.try_get(0)?)
                .map_err(|_| ClearingError::damaged("a charge's service day"))?,
            token_key: token_key(row.try_get(1)?)?.to_hex(),
            part: row.try_get(2)?,
            kind: row.try_get(7)?,
            of_part: row.try_get(8)?,
            amount_fen: Fen(row.try_get(3)?),
            offset_fen: Fen(row.try_get(9)?),
            state: row.try_get(4)?,
            attempts: row.try_get(5)?,
            reason: row.try_get(6)?,
        })
    };
    Ok(Json(Charges { charges: rows.iter().map(charge).collect::<Result<_, _>>()? }))
}

/// A day's settlements.
#[utoipa::path(get, path = "/v1/settlements", params(DayQuery), responses(
    (status = 200, body = Settlements), (status = 400, body = ErrorBody)))]
async fn settlements(
    State(app): State<App>,
    Query(query): Query<DayQuery>,
) -> Result<Json<Settlements>, ApiError> {
    let day = parse_day(&query.day)?;
    Ok(Json(Settlements { settlements: settlement::of_day(&app.store, day).await? }))
}
