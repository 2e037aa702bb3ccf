//! The HTTP interface: `/v1`, its OpenAPI document, metrics and health.

mod admin;
mod auth;
pub(crate) mod codec;
pub(crate) mod connections;
mod document;
mod error;
mod extract;
mod signed;
mod taps;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use admin::{ClockBody, CommandAnswer, CommandBody, Gates, ListVersion, Lists};
pub(crate) use auth::write_private;
pub use auth::{Credentials, USER_HEADER, User, admin_token};
pub use document::document;
pub use error::{ApiError, ErrorBody, ErrorDetail};
pub use extract::{Json, Nothing, Path, Query};
pub use taps::{Batch, BatchAnswer, EntryVerdict};

use crate::cli::App;
use crate::store::db::query;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn_with_state;
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::sync::OnceLock;

/// The whole interface.
pub fn router(app: App, credentials: Credentials) -> Router {
    let driven = app.clock.driven().is_some();
    let admins = admin::routes(driven)
        .merge(crate::clearing::api::routes())
        .merge(crate::clearing::files::api::routes())
        .merge(crate::clearing::debts::api::routes())
        .merge(crate::clearing::corrections::api::routes())
        .merge(crate::clearing::disputes::api::routes())
        .merge(crate::clearing::authorisation::api::routes())
        .merge(crate::clearing::pay_out::api::routes())
        .merge(crate::desk::api::routes())
        .merge(crate::concentrators::api::routes())
        .merge(crate::reconcile::api::routes())
        .merge(crate::keep::api::routes())
        .route_layer(from_fn_with_state(credentials.clone(), auth::admins));
    let concentrators = taps::routes()
        .route_layer(from_fn_with_state(auth::Door::new(credentials, app.clone()), auth::concentrators));
    Router::new()
        .merge(admins)
        .merge(concentrators)
        .route("/openapi.json", get(openapi))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/", get(async || Html(include_str!("index.html"))))
        .fallback(async || {
            ApiError::not_found("no_such_path", "there is nothing at this path; see /openapi.json")
        })
        .method_not_allowed_fallback(async || {
            let message = "this path does not take this method; see /openapi.json";
            ApiError::of(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
        })
        .layer(DefaultBodyLimit::max(app.config.file.http.max_body))
        .with_state(app)
}

async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(document())
}

/// The process's metrics. One recorder, however many gateways a test starts in it.
pub fn metrics_handle() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets(&[0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0])
            .unwrap_or_default()
            .build_recorder();
        let handle = recorder.handle();
        // Where the process has a recorder already, its metrics go there and this page stays empty.
        if ::metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder is in place");
        }
        handle
    })
}

/// The process's metrics, as Prometheus reads them.
#[utoipa::path(get, path = "/metrics", responses((status = 200, content_type = "text/plain", body = String)))]
async fn metrics(State(app): State<App>) -> impl IntoResponse {
    ::metrics::gauge!("wavepass_link_gates_connected").set(app.gates.connected() as f64);
    let handle = metrics_handle();
    handle.run_upkeep();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render())
}

/// It runs.
#[utoipa::path(get, path = "/healthz", responses((status = 200, content_type = "text/plain", body = String)))]
async fn healthz() -> &'static str {
    "ok\n"
}

/// Its store answers.
#[utoipa::path(get, path = "/readyz", responses(
    (status = 200, content_type = "text/plain", body = String), (status = 503, body = ErrorBody)))]
async fn readyz(State(app): State<App>) -> Result<&'static str, ApiError> {
    query("SELECT 1").execute(app.store.pool()).await.map_err(|_| ApiError::unavailable("the store"))?;
    Ok("ready\n")
}
