//! Published tariffs: kept as text in the store, checked before they are taken, compiled when they are used.
//!
//! A tariff that is in force is never swapped for another text of the same date: what changes gets a date of its own.
//! One that lies in the future may still be corrected. Both are in the audit log, with the SHA-256 of the text.

use std::sync::Arc;

use crate::store::db::{Conn, Row, query};
use sha2::{Digest, Sha256};
use wavepass_fares::{DayClock, ServiceDay, Tariff, Tariffs};
use wavepass_protocol::time::UnixMs;

use super::ClearingError;
use crate::store::{Audit, audit_in, sql};

/// The most versions that are kept in force: one a week for two years.
const MAX_VERSIONS: i64 = 104;

/// A tariff file to be published.
#[derive(Debug, Clone, Copy)]
pub struct Publication<'a> {
    /// The name that faults are told with.
    pub file: &'a str,
    /// Its text.
    pub text: &'a str,
    /// The gateway's service day, which must be the tariff's.
    pub day_clock: &'a DayClock,
    /// Who publishes it.
    pub by: &'a str,
    /// When.
    pub now: UnixMs,
}

/// Checks a tariff file's text together with those already published, and publishes it in the caller's transaction.
///
/// The same text again changes nothing. Another text of the same date replaces it while that date is in the future, and
/// is refused from then on.
pub async fn publish_in(conn: &mut Conn, publication: Publication<'_>) -> Result<Tariff, ClearingError> {
    let Publication { file, text, day_clock, by, now } = publication;
    let tariff = Tariff::parse(file, text)?;
    let from = tariff.effective_from;
    let refused = |why: String| ClearingError::Publication { file: file.to_owned(), why };
    if tariff.clock != *day_clock {
        let why = "its time_zone and service_day_start are not those of [day] in the gateway's configuration";
        return Err(refused(why.into()));
    }
    let standing: Option<String> = query("SELECT text FROM tariffs WHERE effective_from = ?")
        .bind(from.number())
        .optional(&mut *conn)
        .await?;
    if standing.as_deref() == Some(text) {
        return Ok(tariff);
    }
    let closed: Option<i64> = query("SELECT MAX(service_day) FROM day_close").scalar(&mut *conn).await?;
    if let Some(closed) = closed
        && closed >= from.number()
    {
        let closed = ServiceDay::from_number(closed).map_err(|_| ClearingError::damaged("a closed day"))?;
        return Err(refused(format!("a tariff from {from} would change closed days; the last is {closed}")));
    }
    if standing.is_some() && day_clock.start_ms(from) <= sql::ms(now) {
        let why = format!("another tariff is in force from {from}: give this one a later effective_from");
        return Err(refused(why));
    }
    let mut all = versions_in(conn).await?;
    all.retain(|other| other.effective_from != from);
    all.push(tariff.clone());
    Tariffs::new(all).map_err(|e| refused(e.to_string()))?;
    query(
        "INSERT INTO tariffs (effective_from, version, text) VALUES (?, ?, ?) ON CONFLICT (effective_from) \
         DO UPDATE SET version = excluded.version, text = excluded.text",
    )
    .bind(from.number())
    .bind(&tariff.version)
    .bind(text)
    .execute(&mut *conn)
    .await?;
    let digest = |text: &str| sql::hex(&Sha256::digest(text.as_bytes())[..8]);
    let (action, before) = match &standing {
        Some(before) => ("tariff.replace", format!(" instead of {}", digest(before))),
        None => ("tariff.publish", String::new()),
    };
    let detail = format!("version {}, SHA-256 {}{before}", tariff.version, digest(text));
    audit_in(conn, &Audit { at: now, user: by, action, subject: &from.to_string(), detail: &detail }).await?;
    Ok(tariff)
}

/// Compiles the published tariffs.
pub async fn load_in(conn: &mut Conn) -> Result<Arc<Tariffs>, ClearingError> {
    let versions = versions_in(conn).await?;
    if versions.is_empty() {
        return Err(ClearingError::NoTariff);
    }
    Ok(Arc::new(Tariffs::new(versions)?))
}

async fn versions_in(conn: &mut Conn) -> Result<Vec<Tariff>, ClearingError> {
    let rows = query("SELECT version, text FROM tariffs ORDER BY effective_from DESC LIMIT ?")
        .bind(MAX_VERSIONS)
        .fetch_all(conn)
        .await?;
    let parse = |row: &Row| -> Result<Tariff, ClearingError> {
        let (version, text): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        Ok(Tariff::parse(version, text)?)
    };
    rows.iter().map(parse).collect()
}
