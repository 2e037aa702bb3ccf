//! What a request is told when it fails. The cause of a failure of ours goes to the log, not to the caller.

use crate::cli::AppError;
use crate::cursor::CursorError;
use crate::store::StoreError;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;

/// A failed request: status, a word for programs, a sentence for people.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

/// The body of a failed request.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ErrorDetail {
    /// The same word for the same fault.
    pub code: &'static str,
    /// What and where.
    pub message: String,
}

/// The word of a failed request, beside its answer: for whoever counts and logs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Code(pub(super) &'static str);

impl ApiError {
    pub(super) fn of(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// 400: the request itself is wrong.
    pub fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, message: message.into() }
    }

    /// 401: no credentials, or wrong ones.
    pub fn unauthorized() -> Self {
        let message = "give a bearer token: the admin token, or an API key where one is allowed".into();
        Self { status: StatusCode::UNAUTHORIZED, code: "unauthorized", message }
    }

    /// 403: not this caller's to do.
    pub fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::FORBIDDEN, code, message: message.into() }
    }

    /// 404: there is no such thing.
    pub fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, code, message: message.into() }
    }

    /// 409: not in the present state.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::CONFLICT, code, message: message.into() }
    }

    /// 500: a fault of ours. The cause is logged.
    pub fn internal(cause: &dyn std::error::Error) -> Self {
        tracing::error!(error = %cause, "request failed");
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            code: "internal",
            message: "the gateway failed; its log says why".into(),
        }
    }

    /// 503: not now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, code: "unavailable", message: message.into() }
    }

    /// 408: a request whose head does not come.
    pub(super) fn slow_head() -> Self {
        let message = "the head of the request did not come within `[http] head_s`";
        Self::of(StatusCode::REQUEST_TIMEOUT, "head_too_slow", message)
    }

    /// 503: a request that is given up.
    pub(super) fn too_long() -> Self {
        let message =
            "the request took longer than `[http] request_s` and was given up; what it had committed stands";
        Self::of(StatusCode::SERVICE_UNAVAILABLE, "request_too_long", message)
    }

    /// 503: a connection beyond the limit.
    pub(super) fn no_room() -> Self {
        let message = "more connections than `[http] max_connections`; try again";
        Self::of(StatusCode::SERVICE_UNAVAILABLE, "too_many_connections", message)
    }

    /// The word of it.
    pub(super) const fn code(&self) -> &'static str {
        self.code
    }

    fn into_body(self) -> ErrorBody {
        ErrorBody { error: ErrorDetail { code: self.code, message: self.message } }
    }

    /// Its body as text, for whoever writes to the socket itself.
    pub(super) fn into_json(self) -> String {
        // Two strings cannot fail.
        serde_json::to_string(&self.into_body()).unwrap_or_default()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code) = (self.status, Code(self.code));
        (status, Extension(code), Json(self.into_body())).into_response()
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::internal(&error)
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        Self::internal(&error)
    }
}

impl From<CursorError> for ApiError {
    fn from(error: CursorError) -> Self {
        Self::bad_request("after", error.to_string())
    }
}

impl From<AppError> for ApiError {
    fn from(error: AppError) -> Self {
        match error {
            AppError::ClockUnset => Self::conflict("clock_unset", error.to_string()),
            error => Self::internal(&error),
        }
    }
}
