//! A concentrator's signed request: who it is of, and whether what it signed is what came.
//!
//! Everything that needs only the head is checked before the body is read; the body has its limit before it is hashed. The admin token
//! and API keys are looked at only where there is no signature.

use super::ApiError;
use crate::cli::App;
use crate::concentrators::{self, Concentrator};
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::HOST;
use axum::http::request::Parts;
use std::sync::Arc;
use wavepass_signature::{ContentDigest, Field, Head, SIGNATURE, SIGNATURE_INPUT, SignatureError, Signed};

/// Who hands in a batch.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    /// The holder of the admin token: entries of any gate, and may say that what is missing before them is lost.
    Admin,
    /// The holder of an API key: entries of any gate.
    ApiKey,
    /// A concentrator: entries of its own gates.
    Concentrator(Arc<Concentrator>),
}

/// A signed request that is refused, and whose it says it is, if a concentrator has the key that it names.
pub(super) struct Refusal {
    pub(super) error: ApiError,
    pub(super) name: Option<String>,
}

impl<E: Into<ApiError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self { error: error.into(), name: None }
    }
}

/// Whether a request is signed, well or badly.
pub(super) fn is_signed(request: &Request) -> bool {
    [SIGNATURE, SIGNATURE_INPUT].iter().any(|header| request.headers().contains_key(*header))
}

/// Lets a signed request through, its body read, with its [`Caller`] put in.
pub(super) async fn check(app: &App, request: Request) -> Result<(Request, Arc<Concentrator>), Refusal> {
    let (mut parts, body) = request.into_parts();
    let (digest, concentrator) = check_head(app, &parts).await?;
    let refused = |error: ApiError| Refusal { error, name: Some(concentrator.name.clone()) };
    let body = Bytes::from_request(Request::from_parts(parts.clone(), body), &()).await;
    let bytes = body.map_err(|e| refused(e.into()))?;
    digest.check(&bytes).map_err(|e| refused(e.into()))?;
    parts.extensions.insert(Caller::Concentrator(concentrator.clone()));
    Ok((Request::from_parts(parts, Body::from(bytes)), concentrator))
}

async fn check_head(app: &App, parts: &Parts) -> Result<(ContentDigest, Arc<Concentrator>), Refusal> {
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
    let refused = |error: ApiError| Refusal { error, name: Some(concentrator.name.clone()) };
    if concentrator.retired_ms.is_some() {
        let message = "the concentrator whose key keyid names is out of service";
        return Err(refused(ApiError::of(StatusCode::UNAUTHORIZED, "retired_key", message)));
    }
    signed.verify(&key, &head).map_err(|e| refused(e.into()))?;
    Ok((digest, Arc::new(concentrator)))
}

impl From<SignatureError> for ApiError {
    fn from(error: SignatureError) -> Self {
        let status = if error.is_refusal() { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST };
        Self::of(status, error.word(), error.to_string())
    }
}
