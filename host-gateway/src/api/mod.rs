//! The HTTP interface: `/v1`, its OpenAPI document, metrics and health.

mod admin;
mod auth;
pub(crate) mod codec;
mod error;
mod taps;
#[cfg(test)]
mod tests;

pub use admin::{ClockBody, CommandAnswer, CommandBody, Gates, ListVersion, Lists};
pub(crate) use auth::write_private;
pub use auth::{Credentials, USER_HEADER, User, admin_token};
pub use error::{ApiError, ErrorBody, ErrorDetail};
pub use taps::{Batch, BatchAnswer, EntryVerdict};

use crate::cli::App;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn_with_state;
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::sync::OnceLock;
use utoipa::OpenApi;

/// The whole interface.
pub fn router(app: App, credentials: Credentials) -> Router {
    let driven = app.clock.driven().is_some();
    let admins = admin::routes(driven)
        .merge(crate::clearing::api::routes())
        .route_layer(from_fn_with_state(credentials.clone(), auth::admins));
    let concentrators = taps::routes().route_layer(from_fn_with_state(credentials, auth::concentrators));
    Router::new()
        .merge(admins)
        .merge(concentrators)
        .route("/openapi.json", get(openapi))
        .route("/metrics", get(scrape))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/", get(async || Html(include_str!("index.html"))))
        .layer(DefaultBodyLimit::max(app.config.file.http.max_body))
        .with_state(app)
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Wavepass gateway", description = "Intake, risk, lists, clearing and settlement."),
    paths(
        taps::hand_in,
        admin::read_clock,
        admin::set_clock,
        admin::run_risk,
        admin::lists,
        admin::publish,
        admin::gates
    )
)]
struct Doc;

/// The OpenAPI document, JSON.
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = Doc::openapi();
    document.merge(crate::clearing::api::Doc::openapi());
    document
}

async fn openapi() -> axum::Json<utoipa::openapi::OpenApi> {
    axum::Json(document())
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
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder is in place");
        }
        handle
    })
}

async fn scrape(State(app): State<App>) -> impl IntoResponse {
    metrics::gauge!("wavepass_link_gates_connected").set(app.gates.connected() as f64);
    let handle = metrics_handle();
    handle.run_upkeep();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render())
}

async fn ready(State(app): State<App>) -> Result<&'static str, ApiError> {
    sqlx::query("SELECT 1")
        .execute(app.store.pool())
        .await
        .map_err(|_| ApiError::unavailable("the store"))?;
    Ok("ready\n")
}
