//! The OpenAPI document: what every route says of itself, and what is true of them all.

use super::{ErrorBody, admin, taps};
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Ref, RefOr, ResponseBuilder, content::ContentBuilder};

/// The name of the bearer token in the document.
const BEARER: &str = "bearer";

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
        admin::gates,
        admin::deny_state,
        super::healthz,
        super::readyz,
        super::metrics
    ),
    components(schemas(ErrorBody))
)]
struct Doc;

/// The document, JSON.
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = Doc::openapi();
    document.merge(crate::clearing::api::Doc::openapi());
    document.merge(crate::clearing::debts::api::Doc::openapi());
    document.merge(crate::clearing::corrections::api::Doc::openapi());
    document.merge(crate::clearing::disputes::api::Doc::openapi());
    document.merge(crate::clearing::authorisation::api::Doc::openapi());
    document.merge(crate::clearing::pay_out::api::Doc::openapi());
    document.merge(crate::desk::api::Doc::openapi());
    document.merge(crate::reconcile::api::Doc::openapi());
    document.merge(crate::concentrators::api::Doc::openapi());
    document.merge(crate::keep::api::Doc::openapi());
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    document.components.get_or_insert_default().security_schemes.insert(BEARER.into(), RefOr::T(scheme));
    for (path, item) in &mut document.paths.paths {
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.delete, &mut item.patch];
        for operation in operations.into_iter().flatten() {
            if path.starts_with("/v1/") {
                behind_bearer(operation);
            }
            describe(operation);
        }
    }
    document
}

/// What a status means, on every route the same.
fn meaning(status: &str) -> &'static str {
    match status {
        "200" => "Done.",
        "400" => "The request cannot be read or is not valid.",
        "401" => "No bearer token, or not one for this; or a signature that is not believed.",
        "403" => "Not this caller's to do.",
        "404" => "There is no such thing.",
        "409" => "Not in the present state.",
        "413" => "The request is longer than `[http] max_body`.",
        "500" => "A fault of the gateway; its log says more.",
        _ => "Not now.",
    }
}

/// Every response must have a description (OpenAPI 3.1, Response Object).
fn describe(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            response.description = meaning(status).into();
        }
    }
}

/// Under `/v1`, every route needs a token, may be misused and may fail.
fn behind_bearer(operation: &mut Operation) {
    operation.security = Some(vec![SecurityRequirement::new(BEARER, [] as [&str; 0])]);
    for status in ["400", "401", "409", "500"] {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
        let response = ResponseBuilder::new().content("application/json", content).build();
        operation.responses.responses.entry(status.into()).or_insert(RefOr::T(response));
    }
}
