//! A concentrator's signed request: who it is of, and whether what it signed is what came.
//!
//! Everything that needs only the head is checked before the body is read; the body has its limit before it is hashed. The admin token
//! and API keys are looked at only where there is no signature.

use super::ApiError;
use crate::cli::App;
use crate::concentrators::{self, GateSet};
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::HOST;
use axum::http::request::Parts;
use wavepass_signature::{ContentDigest, Field, Head, SIGNATURE, SIGNATURE_INPUT, SignatureError, Signed};

/// Who hands in a batch.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    /// The holder of the admin token or of an API key: entries of any gate.
    Trusted,
    /// A concentrator: entries of its own gates.
    Concentrator(GateSet),
}

/// Whether a request is signed, well or badly.
pub(super) fn is_signed(request: &Request) -> bool {
    [SIGNATURE, SIGNATURE_INPUT].iter().any(|header| request.headers().contains_key(*header))
}

/// Lets a signed request through, its body read, with its [`Caller`] put in.
pub(super) async fn check(app: &App, request: Request) -> Result<Request, ApiError> {
    let (mut parts, body) = request.into_parts();
    let (digest, caller) = check_head(app, &parts).await?;
    let bytes = Bytes::from_request(Request::from_parts(parts.clone(), body), &()).await?;
    digest.check(&bytes)?;
    parts.extensions.insert(caller);
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

async fn check_head(app: &App, parts: &Parts) -> Result<(ContentDigest, Caller), ApiError> {
    let fields: Vec<Field<'_>> =
        parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let host = || parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let settings = &app.config.file.concentrators;
    let head = Head {
        method: parts.method.as_str(),
        scheme: settings.scheme.word(),
        authority: parts
            .uri
            .authority()
            .map(|authority| authority.as_str())
            .or_else(host)
            .unwrap_or_default(),
        path: parts.uri.path(),
        query: parts.uri.query(),
        fields: &fields,
    };
    let digest = ContentDigest::read(&fields)?;
    let signed = Signed::read(&fields)?;
    signed.requires(&head)?;
    signed.check_time(app.now()?.0 / 1_000, settings.window_s)?;
    let found = concentrators::find(&app.store, &*app.clearing, signed.key_id()).await?;
    let (concentrator, key) = found.ok_or_else(|| {
        ApiError::of(StatusCode::UNAUTHORIZED, "unknown_key", "no concentrator has the key that keyid names")
    })?;
    if concentrator.retired_ms.is_some() {
        let message = "the concentrator whose key keyid names is out of service";
        return Err(ApiError::of(StatusCode::UNAUTHORIZED, "retired_key", message));
    }
    signed.verify(&key, &head)?;
    Ok((digest, Caller::Concentrator(concentrator.gates)))
}

impl From<SignatureError> for ApiError {
    fn from(error: SignatureError) -> Self {
        let status = if error.is_refusal() { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST };
        Self::of(status, error.word(), error.to_string())
    }
}
