//! Taps handed in over HTTP: a concentrator's batch, through the same intake as a gate's link.

use super::signed::Caller;
use super::{ApiError, Json, User, codec};
use crate::cli::{App, AppError};
use crate::concentrators::{self, GateSet};
use crate::intake::{IntakeError, MAX_BATCH, Source, Verdict};
use crate::store::sql::hex;
use axum::extract::State;
use axum::routing::post;
use axum::{Extension, Router};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A batch of sealed entries, of one gate or of many; each gate's in the order of their sequence numbers.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Sealed entries as gates made them, hexadecimal or base64; at most 4096.
    pub entries: Vec<String>,
    /// What is missing before an entry that opens is lost for good, and is noted so: with the admin token only.
    #[serde(default)]
    pub past_gaps: bool,
}

/// What became of a batch. Everything in it that is not `gap` is durable.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct BatchAnswer {
    /// For each key id (hexadecimal): every number up to this one is durable.
    pub acknowledged: BTreeMap<String, u32>,
    /// One for each entry, in order.
    pub verdicts: Vec<EntryVerdict>,
}

/// What became of an entry.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct EntryVerdict {
    /// `accepted`, `repeated`, `set_aside`, `not_kept` or `gap`.
    pub verdict: &'static str,
    /// Why it was set aside or not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<&'static str>,
    /// With `not_kept`: how many that do not open are kept on a service day of a concentrator, or of all API keys and files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    /// With `gap`: the number that must come first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<u32>,
}

impl From<Verdict> for EntryVerdict {
    fn from(verdict: Verdict) -> Self {
        let (why, limit, due) = match verdict {
            Verdict::SetAside(why) => (Some(why), None, None),
            Verdict::NotKept { why, limit } => (Some(why), Some(limit), None),
            Verdict::Gap { due } => (None, None, Some(due)),
            _ => (None, None, None),
        };
        Self { verdict: verdict.word(), why, limit, due }
    }
}

pub(super) fn routes() -> Router<App> {
    Router::new().route("/v1/taps/batches", post(hand_in))
}

/// Hand in sealed taps: with a bearer token, or signed by a concentrator's key (RFC 9421, `hmac-sha256`), which takes entries of
/// its own gates only. Idempotent: what is there already is `repeated`. What does not open is `set_aside`, or `not_kept` beyond
/// so many a day, and its place stays due.
#[utoipa::path(post, path = "/v1/taps/batches", request_body = Batch, responses(
    (status = 200, body = BatchAnswer), (status = 400, body = super::ErrorBody), (status = 401, body = super::ErrorBody),
    (status = 403, body = super::ErrorBody), (status = 503, body = super::ErrorBody)))]
pub(super) async fn hand_in(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    User(user): User,
    Json(batch): Json<Batch>,
) -> Result<Json<BatchAnswer>, ApiError> {
    if batch.entries.len() > MAX_BATCH {
        let message = format!("a batch has at most {MAX_BATCH} entries, not {}", batch.entries.len());
        return Err(ApiError::bad_request("batch_too_large", message));
    }
    let mut entries = Vec::with_capacity(batch.entries.len());
    for (i, text) in batch.entries.iter().enumerate() {
        let entry = codec::bytes(text).ok_or_else(|| {
            ApiError::bad_request("entry_encoding", format!("entry {i} is neither hexadecimal nor base64"))
        })?;
        entries.push(entry);
    }
    let receipt = match caller {
        Caller::Admin if batch.past_gaps => app.ingest_past_gaps(entries, &user).await,
        _ if batch.past_gaps => {
            let message = "only the holder of the admin token says that what is missing is lost";
            return Err(ApiError::forbidden("past_gaps", message));
        }
        Caller::Admin | Caller::ApiKey => app.intake.ingest(entries).await.map_err(AppError::from),
        Caller::Concentrator(concentrator) => {
            check_own(&app, &concentrator.gates, &entries).await?;
            app.intake
                .ingest_from(Source::Concentrator(concentrator.id), entries)
                .await
                .map_err(AppError::from)
        }
    };
    let receipt = receipt.map_err(|e| match e {
        AppError::Intake(IntakeError::Stopped) => ApiError::unavailable("the gateway is stopping"),
        other => other.into(),
    })?;
    Ok(Json(BatchAnswer {
        acknowledged: receipt.acknowledged.iter().map(|(key_id, upto)| (hex(&key_id.0), *upto)).collect(),
        verdicts: receipt.verdicts.into_iter().map(EntryVerdict::from).collect(),
    }))
}

async fn check_own(app: &App, gates: &GateSet, entries: &[Vec<u8>]) -> Result<(), ApiError> {
    let checked = concentrators::check_own(gates, &app.directory.current(), entries);
    let Err(concentrators::NotOwn::NoGate(_)) = checked else { return Ok(checked?) };
    // Another gateway on the database may have commissioned it just now.
    app.directory.refresh_if_changed(&app.store).await.map_err(|e| ApiError::internal(&e))?;
    Ok(concentrators::check_own(gates, &app.directory.current(), entries)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_entry_that_is_not_kept_is_told_with_the_limit() {
        let told = serde_json::to_value(EntryVerdict::from(Verdict::NotKept { why: "forged", limit: 7 }));
        assert_eq!(told.unwrap(), json!({ "verdict": "not_kept", "why": "forged", "limit": 7 }));
    }
}
