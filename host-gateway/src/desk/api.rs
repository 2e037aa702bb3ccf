//! HTTP: breaks, alerts and the audit log.

use super::alerts::{self, Alerts};
use super::audit::{self, Lines};
use super::breaks::{self, Breaks};
use super::{Change, DeskError, change};
use crate::api::{ApiError, ErrorBody, Json, Path, Query, User};
use crate::clearing::api::{parse_day, parse_limit};
use crate::cli::App;
use crate::cursor;
use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

impl From<DeskError> for ApiError {
    fn from(error: DeskError) -> Self {
        match error {
            DeskError::NoBreak => Self::not_found("no_break", error.to_string()),
            DeskError::NoAlert => Self::not_found("no_alert", error.to_string()),
            DeskError::Text(_) => Self::bad_request("text", error.to_string()),
            DeskError::App(error) => error.into(),
            DeskError::Store(error) => error.into(),
        }
    }
}

/// The routes of breaks, alerts and the audit log.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/breaks", get(list_breaks))
        .route("/v1/breaks/{id}/assign", post(assign_break))
        .route("/v1/breaks/{id}/note", post(note_break))
        .route("/v1/breaks/{id}/end", post(end_break))
        .route("/v1/alerts", get(list_alerts))
        .route("/v1/alerts/{id}/end", post(end_alert))
        .route("/v1/audit", get(list_audit))
}

/// This module's part of the OpenAPI document.
#[derive(utoipa::OpenApi)]
#[openapi(paths(list_breaks, assign_break, note_break, end_break, list_alerts, end_alert, list_audit))]
pub struct Doc;

/// Which breaks.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct BreaksQuery {
    /// Only this day's.
    day: Option<String>,
    /// Only of this kind.
    kind: Option<String>,
    /// Those that were closed, too.
    #[serde(default)]
    closed: bool,
    /// Only those after this id: the next page.
    after: Option<String>,
    /// At most so many, 1 to 1,000.
    limit: Option<u32>,
}

/// Which alerts.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AlertsQuery {
    /// Only of this kind.
    kind: Option<String>,
    /// Those that were ended, too.
    #[serde(default)]
    ended: bool,
    /// Only those after this id: the next page.
    after: Option<String>,
    /// At most so many, 1 to 1,000.
    limit: Option<u32>,
}

/// Which lines of the audit log.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// Only what this one did: a user, or a part of the gateway such as `clearing`.
    by: Option<String>,
    /// Only this action, such as `debt.waive`; `debt` stands for all of its kind.
    action: Option<String>,
    /// Only what was done to this.
    subject: Option<String>,
    /// Only lines before this number: the next page.
    before: Option<i64>,
    /// At most so many, 1 to 1,000.
    limit: Option<u32>,
}

/// Who looks at a break.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AssignBody {
    /// A user's name.
    pub to: String,
}

/// What is said of a break.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NoteBody {
    /// A sentence; no numbers of cards, no names.
    pub text: String,
}

/// Why something is ended.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndBody {
    /// For the audit log; no numbers of cards, no names.
    pub reason: String,
}

/// What a change came to.
#[derive(Debug, Serialize, ToSchema)]
pub struct Changed {
    /// False: it was so already.
    pub changed: bool,
}

/// Breaks, by id: the open ones, unless closed ones are asked for, too.
#[utoipa::path(get, path = "/v1/breaks", params(BreaksQuery), responses(
    (status = 200, body = Breaks), (status = 400, body = ErrorBody)))]
async fn list_breaks(
    State(app): State<App>,
    Query(query): Query<BreaksQuery>,
) -> Result<Json<Breaks>, ApiError> {
    let BreaksQuery { day, kind, closed, after, limit } = query;
    let day = day.as_deref().map(parse_day).transpose()?;
    let after = cursor::of_query(after.as_deref())?;
    let wanted = breaks::Wanted { day, kind, closed, after, limit: parse_limit(limit)? };
    Ok(Json(breaks::list(&app.store, wanted).await?))
}

/// Say who looks at a break.
#[utoipa::path(post, path = "/v1/breaks/{id}/assign", params(("id" = String, Path)), request_body = AssignBody, responses(
    (status = 200, body = Changed), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn assign_break(
    State(app): State<App>,
    User(user): User,
    Path(id): Path<String>,
    Json(body): Json<AssignBody>,
) -> Result<Json<Changed>, ApiError> {
    Ok(Json(Changed { changed: change(&app, &user, &id, Change::AssignBreak(&body.to)).await? }))
}

/// Say something of a break, instead of what was said before.
#[utoipa::path(post, path = "/v1/breaks/{id}/note", params(("id" = String, Path)), request_body = NoteBody, responses(
    (status = 200, body = Changed), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn note_break(
    State(app): State<App>,
    User(user): User,
    Path(id): Path<String>,
    Json(body): Json<NoteBody>,
) -> Result<Json<Changed>, ApiError> {
    Ok(Json(Changed { changed: change(&app, &user, &id, Change::NoteBreak(&body.text)).await? }))
}

/// End a break. One that reconciliation finds again is open again.
#[utoipa::path(post, path = "/v1/breaks/{id}/end", params(("id" = String, Path)), request_body = EndBody, responses(
    (status = 200, body = Changed), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn end_break(
    State(app): State<App>,
    User(user): User,
    Path(id): Path<String>,
    Json(body): Json<EndBody>,
) -> Result<Json<Changed>, ApiError> {
    Ok(Json(Changed { changed: change(&app, &user, &id, Change::EndBreak(&body.reason)).await? }))
}

/// Alerts, by id: those that nobody has ended, unless the others are asked for, too.
#[utoipa::path(get, path = "/v1/alerts", params(AlertsQuery), responses(
    (status = 200, body = Alerts), (status = 400, body = ErrorBody)))]
async fn list_alerts(
    State(app): State<App>,
    Query(query): Query<AlertsQuery>,
) -> Result<Json<Alerts>, ApiError> {
    let AlertsQuery { kind, ended, after, limit } = query;
    let after = cursor::of_query(after.as_deref())?;
    let wanted = alerts::Wanted { kind, ended, after, limit: parse_limit(limit)? };
    Ok(Json(alerts::list(&app.store, wanted).await?))
}

/// End an alert. A token that it denied stays denied.
#[utoipa::path(post, path = "/v1/alerts/{id}/end", params(("id" = String, Path)), request_body = EndBody, responses(
    (status = 200, body = Changed), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn end_alert(
    State(app): State<App>,
    User(user): User,
    Path(id): Path<String>,
    Json(body): Json<EndBody>,
) -> Result<Json<Changed>, ApiError> {
    Ok(Json(Changed { changed: change(&app, &user, &id, Change::EndAlert(&body.reason)).await? }))
}

/// Who did what, the newest first.
#[utoipa::path(get, path = "/v1/audit", params(AuditQuery), responses(
    (status = 200, body = Lines), (status = 400, body = ErrorBody)))]
async fn list_audit(
    State(app): State<App>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<Lines>, ApiError> {
    let AuditQuery { by, action, subject, before, limit } = query;
    if before.is_some_and(|number| number < 1) {
        return Err(ApiError::bad_request("before", "a line's number is above zero"));
    }
    let wanted = audit::Wanted { by, action, subject, before, limit: parse_limit(limit)? };
    Ok(Json(audit::list(&app.store, wanted).await?))
}
