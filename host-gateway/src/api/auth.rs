//! Who may ask: the holder of the admin token, or of an API key where taps are handed in; or who signs as a concentrator
//! there ([`signed`]).
//!
//! Tokens are compared by their SHA-256, so that neither the time nor an early end tells anything of them.

use super::ApiError;
use super::connections::Peer;
use super::error::Code;
use super::signed::{self, Caller, Refusal};
use crate::cli::App;
use crate::concentrators;
use crate::config::{ApiKey, Config};
use crate::input;
use crate::seldom::Seldom;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, request};
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The header that names who acts. Whoever holds the admin token is believed; users of their own come later.
pub const USER_HEADER: &str = "x-wavepass-user";

/// The credentials that are accepted.
#[derive(Clone)]
pub struct Credentials {
    admin: [u8; 32],
    api_keys: Arc<[(String, [u8; 32])]>,
}

impl Credentials {
    /// The admin token's and the configured keys'.
    pub fn new(admin_token: &str, api_keys: &[ApiKey]) -> Self {
        // The configuration was checked when it was read: 64 hexadecimal digits.
        let keys = api_keys
            .iter()
            .filter_map(|k| Some((k.name.clone(), super::codec::unhex(&k.sha256)?.try_into().ok()?)));
        Self { admin: hash(admin_token), api_keys: keys.collect() }
    }

    fn is_admin(&self, token: &str) -> bool {
        hash(token).ct_eq(&self.admin).into()
    }

    /// Whose API key it is.
    fn api_key(&self, token: &str) -> Option<&str> {
        let given = hash(token);
        // Every key is compared, whichever matches.
        self.api_keys.iter().fold(None, |found, (name, key)| {
            if bool::from(given.ct_eq(key)) { Some(name.as_str()) } else { found }
        })
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(str::trim)
}

/// Lets admins through.
pub(super) async fn admins(
    State(credentials): State<Credentials>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    match bearer(request.headers()) {
        Some(token) if credentials.is_admin(token) => Ok(next.run(request).await),
        _ => Err(ApiError::unauthorized()),
    }
}

/// Where concentrators come in.
#[derive(Clone)]
pub(super) struct Door {
    credentials: Credentials,
    app: App,
    told: Arc<Seldom>,
}

impl Door {
    pub(super) fn new(credentials: Credentials, app: App) -> Self {
        Self { credentials, app, told: Arc::default() }
    }

    /// Counts a signed request that was refused, and logs it unless there are too many: anybody can cause one.
    fn refused(&self, name: Option<&str>, reason: &'static str, peer: Option<Peer>) {
        metrics::counter!("wavepass_concentrator_refusals_total", "reason" => reason).increment(1);
        if let Some(held_back) = self.told.admits() {
            let concentrator = name.unwrap_or("unknown");
            let peer = peer.map_or_else(|| "unknown".to_owned(), |Peer(address)| address.to_string());
            tracing::warn!(concentrator, reason, peer, held_back, "a signed request is refused");
        }
    }
}

/// Lets signed requests of concentrators through, holders of an API key, and admins; says which with a [`Caller`].
pub(super) async fn concentrators(
    State(door): State<Door>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if signed::is_signed(&request) {
        return concentrator(&door, request, next).await;
    }
    let caller = match bearer(request.headers()) {
        Some(token) if door.credentials.is_admin(token) => Caller::Admin,
        Some(token) if door.credentials.api_key(token).is_some() => Caller::ApiKey,
        _ => return Err(ApiError::unauthorized()),
    };
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

async fn concentrator(door: &Door, request: Request, next: Next) -> Result<Response, ApiError> {
    let peer = request.extensions().get().copied();
    let (request, concentrator) = match signed::check(&door.app, request).await {
        Ok(checked) => checked,
        Err(Refusal { error, name }) => {
            door.refused(name.as_deref(), error.code(), peer);
            return Err(error);
        }
    };
    let response = next.run(request).await;
    // It is the concentrator's own request, so that it may be written down; a fault of ours is not its.
    if response.status().is_client_error() {
        let reason = response.extensions().get().map_or("unknown", |Code(reason)| *reason);
        door.refused(Some(&concentrator.name), reason, peer);
        concentrators::note_refused(&door.app, concentrator.id).await?;
    }
    Ok(response)
}

/// Who acts, for the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User(pub String);

impl<S: Send + Sync> FromRequestParts<S> for User {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut request::Parts, _: &S) -> Result<Self, ApiError> {
        let Some(header) = parts.headers.get(USER_HEADER) else { return Ok(Self("admin".into())) };
        let name = std::str::from_utf8(header.as_bytes()).map_or("", str::trim);
        input::user(name).map_err(|e| ApiError::bad_request("user", format!("{USER_HEADER}: {e}")))?;
        Ok(Self(name.to_owned()))
    }
}

/// The admin token of a data folder: the configured one, or that in `admin-token`, made at first use and readable by
/// its owner only.
pub fn admin_token(config: &Config) -> std::io::Result<Zeroizing<String>> {
    if let Some(token) = &config.file.http.admin_token {
        return Ok(Zeroizing::new(token.clone()));
    }
    let path = config.data.join("admin-token");
    match fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => Ok(Zeroizing::new(text.trim().to_owned())),
        Ok(_) => make_token(&path),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => make_token(&path),
        Err(e) => Err(e),
    }
}

fn make_token(path: &Path) -> std::io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|e| std::io::Error::other(e.to_string()))?;
    let token = Zeroizing::new(crate::store::sql::hex(bytes.as_slice()));
    write_private(path, token.as_bytes())?;
    Ok(token)
}

/// Writes a file that only its owner can read; it is whole or not there.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let part = path.with_added_extension("part");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&part, path)
}
