//! Published tariffs: kept as text in the store, checked before they are taken, compiled when they are used.

use std::sync::Arc;

use sqlx::{Row, SqliteConnection};
use wavepass_fares::{ServiceDay, Tariff, Tariffs};

use super::ClearingError;

/// The most versions that are kept in force: one a week for two years.
const MAX_VERSIONS: i64 = 104;

/// Checks a tariff file's text together with those already published, and publishes it in the caller's transaction. A
/// version of the same date is replaced, unless days are closed that it priced; the same text again changes nothing.
/// `file` is the name that faults are told with.
pub async fn publish_in(
    conn: &mut SqliteConnection,
    file: &str,
    text: &str,
) -> Result<Tariff, ClearingError> {
    let tariff = Tariff::parse(file, text)?;
    let same: Option<i64> = sqlx::query_scalar("SELECT 1 FROM tariffs WHERE effective_from = ? AND text = ?")
        .bind(tariff.effective_from.number())
        .bind(text)
        .fetch_optional(&mut *conn)
        .await?;
    if same.is_some() {
        return Ok(tariff);
    }
    let closed: Option<i64> =
        sqlx::query_scalar("SELECT MAX(service_day) FROM day_close").fetch_one(&mut *conn).await?;
    if let Some(closed) = closed
        && closed >= tariff.effective_from.number()
    {
        let closed = ServiceDay::from_number(closed).map_err(|_| ClearingError::damaged("a closed day"))?;
        return Err(ClearingError::ClosedDays { from: tariff.effective_from, closed });
    }
    let mut all = versions_in(conn).await?;
    all.retain(|other| other.effective_from != tariff.effective_from);
    all.push(tariff.clone());
    Tariffs::new(all)?;
    sqlx::query("INSERT OR REPLACE INTO tariffs (effective_from, version, text) VALUES (?, ?, ?)")
        .bind(tariff.effective_from.number())
        .bind(&tariff.version)
        .bind(text)
        .execute(conn)
        .await?;
    Ok(tariff)
}

/// Compiles the published tariffs.
pub async fn load_in(conn: &mut SqliteConnection) -> Result<Arc<Tariffs>, ClearingError> {
    let versions = versions_in(conn).await?;
    if versions.is_empty() {
        return Err(ClearingError::NoTariff);
    }
    Ok(Arc::new(Tariffs::new(versions)?))
}

async fn versions_in(conn: &mut SqliteConnection) -> Result<Vec<Tariff>, ClearingError> {
    let rows = sqlx::query("SELECT version, text FROM tariffs ORDER BY effective_from DESC LIMIT ?")
        .bind(MAX_VERSIONS)
        .fetch_all(conn)
        .await?;
    let parse = |row: &sqlx::sqlite::SqliteRow| -> Result<Tariff, ClearingError> {
        let (version, text): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        Ok(Tariff::parse(version, text)?)
    };
    rows.iter().map(parse).collect()
}
