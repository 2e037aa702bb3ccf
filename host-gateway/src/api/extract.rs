//! What handlers take out of a request. These differ from axum's own in one thing: what cannot be read is refused in
//! the one shape of this interface, and without the value that was sent, which may be a card's number.

use super::ApiError;
use super::connections::SlowBody;
use crate::input::{is_slip, without_values};
use axum::body::Bytes;
use axum::extract::path::ErrorKind;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{FromRequest, FromRequestParts, OptionalFromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_path_to_error::Segment;

/// A JSON body, in or out.
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

/// The query.
#[derive(Debug, Clone, Copy)]
pub struct Query<T>(pub T);

/// The variable parts of the path.
#[derive(Debug, Clone, Copy)]
pub struct Path<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        is_json(request.headers())?;
        json(&Bytes::from_request(request, state).await?).map(Self)
    }
}

// Nothing is nothing only where no byte was sent: a body that was not read must not pass for one that asks for the default.
impl<T: DeserializeOwned, S: Send + Sync> OptionalFromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, ApiError> {
        let declared = is_json(request.headers());
        let bytes = Bytes::from_request(request, state).await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        declared?;
        // A list would be read as an object's fields in their order, all of which may be left out.
        if bytes.trim_ascii_start().first() == Some(&b'[') {
            return Err(ApiError::of(
                StatusCode::UNPROCESSABLE_ENTITY,
                "body",
                "the body is a list, not an object",
            ));
        }
        json(&bytes).map(|value| Some(Self(value)))
    }
}

/// Whether a body is declared as JSON (RFC 8259; RFC 6839 for what is built on it).
fn is_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let declared = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json") {
        return Ok(());
    }
    let message = "the body is JSON, and the header says so: content-type: application/json";
    Err(ApiError::of(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", message))
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut text = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut text).map_err(|error| {
        let message = error.inner().to_string();
        if !error.inner().is_data() {
            return no_json(&message);
        }
        // The place in the text is said by the path already.
        let why = message.rfind(" at line ").map_or(&message[..], |end| &message[..end]);
        let message = other_form("body", error.path(), why);
        ApiError::of(StatusCode::UNPROCESSABLE_ENTITY, "body", message)
    })?;
    text.end().map_err(|error| no_json(&error.to_string()))?;
    Ok(value)
}

/// The grammar's faults name no values.
fn no_json(why: &str) -> ApiError {
    ApiError::bad_request("body", format!("the body is not JSON: {why}"))
}

/// Where and why something is not of its form. The path is told where it has nothing but names of fields.
fn other_form(what: &str, path: &serde_path_to_error::Path, why: &str) -> String {
    let told = path.iter().all(|segment| match segment {
        Segment::Map { key } => is_slip(key),
        Segment::Seq { .. } => true,
        Segment::Enum { .. } | Segment::Unknown => false,
    });
    let place = if told && path.iter().len() > 0 { format!("{path}: ") } else { String::new() };
    format!("the {what} is not of the form that is asked for here: {place}{}", without_values(why))
}

/// The query of what takes none.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let pairs = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
        let pairs = serde_urlencoded::Deserializer::new(pairs);
        let value = serde_path_to_error::deserialize(pairs).map_err(|error| {
            let why = error.inner().to_string();
            ApiError::bad_request("query", other_form("query", error.path(), &why))
        })?;
        Ok(Self(value))
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let axum::extract::Path(value) = axum::extract::Path::<T>::from_request_parts(parts, state).await?;
        Ok(Self(value))
    }
}

impl From<BytesRejection> for ApiError {
    fn from(rejection: BytesRejection) -> Self {
        match rejection.status() {
            status @ StatusCode::PAYLOAD_TOO_LARGE => {
                Self::of(status, "body_too_large", "the body is longer than `[http] max_body` allows")
            }
            _ => Self::unread(&rejection),
        }
    }
}

impl ApiError {
    /// A body that did not come to its end: 408 where nothing more came of it for too long, else 400.
    pub fn unread(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut causes = std::iter::successors(Some(error), |error| error.source());
        if causes.any(<dyn std::error::Error>::is::<SlowBody>) {
            return Self::of(StatusCode::REQUEST_TIMEOUT, "body_too_slow", SlowBody.to_string());
        }
        Self::bad_request("body", "the body broke off before its end")
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        let PathRejection::FailedToDeserializePathParams(fault) = &rejection else {
            return Self::internal(&rejection);
        };
        let message = match fault.kind() {
            ErrorKind::InvalidUtf8InPathParam { key } => {
                format!("`{key}` in the path is not text: its %-escapes are not UTF-8")
            }
            ErrorKind::ParseErrorAtKey { key, expected_type, .. } => {
                format!("`{key}` in the path is not of its form ({expected_type})")
            }
            ErrorKind::ParseError { expected_type, .. } => {
                format!("the last part of the path is not of its form ({expected_type})")
            }
            ErrorKind::UnsupportedType { .. } | ErrorKind::WrongNumberOfParameters { .. } => {
                return Self::internal(fault);
            }
            _ => "a part of the path is not of its form".to_owned(),
        };
        Self::bad_request("path", message)
    }
}

#[cfg(test)]
mod tests;
