//! The OpenAPI document: what every route says of itself, and what is true of them all.

use super::{ErrorBody, admin, taps};
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{Ref, RefOr, ResponseBuilder, content::ContentBuilder};

/// The name of the bearer token in the document.
const BEARER: &str = "bearer";
/// The name of a concentrator's signature in the document.
const SIGNATURE: &str = "signature";
/// Where a signature opens the door, too.
const SIGNED: &str = "/v1/taps/batches";
/// OpenAPI has no scheme for signatures: a header is the nearest, and this says the rest.
const HOW_SIGNED: &str = "HTTP Message Signatures (RFC 9421) under hmac-sha256 by a concentrator's key: the headers Signature-Input, \
     Signature and Content-Digest (RFC 9530), over at least @method, @path or @target-uri, and content-digest. See \
     Concentrators in the operating guide.";

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
    document.merge(crate::clearing::files::api::Doc::openapi());
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
    let schemes = &mut document.components.get_or_insert_default().security_schemes;
    schemes.insert(BEARER.into(), RefOr::T(scheme));
    let header = ApiKeyValue::with_description("Signature", HOW_SIGNED);
    schemes.insert(SIGNATURE.into(), RefOr::T(SecurityScheme::ApiKey(ApiKey::Header(header))));
    for (path, item) in &mut document.paths.paths {
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.delete, &mut item.patch];
        for operation in operations.into_iter().flatten() {
            if path.starts_with("/v1/") {
                behind_bearer(operation);
            }
            if path == SIGNED {
                let signed = SecurityRequirement::new(SIGNATURE, [] as [&str; 0]);
                operation.security.get_or_insert_default().push(signed);
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
        "408" => "The body did not come in time: nothing more of it for `[http] body_s`.",
        "409" => "Not in the present state.",
        "413" => "The request is longer than `[http] max_body`.",
        "415" => "The body is JSON, and no header says so.",
        "422" => "The body is JSON, but not of the form that is asked for.",
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
    let with_body: &[&str] = match &operation.request_body {
        Some(RefOr::T(body)) if body.content.contains_key("application/json") => {
            &["408", "413", "415", "422"]
        }
        Some(_) => &["408", "413"],
        None => &[],
    };
    for status in ["400", "401", "409", "500", "503"].iter().chain(with_body).copied() {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
        let response = ResponseBuilder::new().content("application/json", content).build();
        operation.responses.responses.entry(status.into()).or_insert(RefOr::T(response));
    }
}
