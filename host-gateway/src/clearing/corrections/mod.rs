//! Corrections: where riders say that a missing tap was.
//!
//! A correction is read wherever the token's day is priced. Made before the day's close, it changes the price; after it,
//! the next late close books the difference as a further part. The tariff says how many a rider has in a month and how
//! soon they must come, the configuration how old a journey may be at most. What would change nothing is refused.

pub mod api;
pub mod cli;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wavepass_fares::{
    Correction, Fen, Journey, Period, Place, ServiceDay, StationIndex, Status, TapId, Tariffs,
};
use wavepass_protocol::time::UnixMs;

use super::journey_id::JourneyId;
use super::{Clearing, ClearingError, token_key};
use crate::cli::{App, AppError};
use crate::config::ConfigError;
use crate::keys::TokenKey;
use crate::risk::{self, RiskError};
use crate::store::db::{Conn, Pool, Row, query};
use crate::store::{Audit, Store, StoreError, again_if_met, audit_in, sql};

const DAY_MS: i64 = 86_400_000;

/// `[corrections]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CorrectionsConfig {
    /// So many days after the tap that there is, at most; the tariff may allow fewer.
    pub max_age_days: u16,
}

impl Default for CorrectionsConfig {
    /// Eight weeks.
    fn default() -> Self {
        Self { max_age_days: 56 }
    }
}

/// Why a correction is not taken.
#[derive(Debug, thiserror::Error)]
pub enum CorrectionError {
    /// There is no such half of a journey.
    #[error("the token has no incomplete journey {journey} on {day}")]
    NoJourney {
        /// Its name.
        journey: JourneyId,
        /// The day.
        day: ServiceDay,
    },
    /// The tariff lacks the station. It is not repeated: it may be anything.
    #[error("the tariff of {day} has no such station")]
    UnknownStation {
        /// The day.
        day: ServiceDay,
    },
    /// No ride joins the two.
    #[error("no ride joins {tapped}, where the tap was given, and {told}")]
    NotJoined {
        /// Where the tap that there is was given.
        tapped: String,
        /// Where the other is said to have been.
        told: String,
    },
    /// The missing tap's time does not fit the tap that there is.
    #[error("the missing tap of journey {journey} was between {from} and {upto}")]
    Time {
        /// The journey.
        journey: JourneyId,
        /// The earliest.
        from: String,
        /// The latest.
        upto: String,
    },
    /// The rider has made too many.
    #[error("the rider has {made} corrections in the month of {day}, and the tariff allows {limit}")]
    OverLimit {
        /// The day.
        day: ServiceDay,
        /// Those that there are.
        made: u32,
        /// What the tariff allows.
        limit: u32,
    },
    /// The journey is too long ago, or the tap lies in the future.
    #[error("journey {journey} could be corrected until {until}")]
    TooOld {
        /// The journey.
        journey: JourneyId,
        /// Until when.
        until: String,
    },
    /// The rider has told already.
    #[error("journey {journey} is corrected already")]
    AlreadyCorrected {
        /// The journey.
        journey: JourneyId,
    },
    /// A dispute has given something of it back.
    #[error("something of journey {journey} was refunded; it is not corrected any more")]
    Refunded {
        /// The journey.
        journey: JourneyId,
    },
    /// The section of the configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Risk could not look at what came.
    #[error(transparent)]
    Risk(#[from] RiskError),
    /// Clearing or the store.
    #[error(transparent)]
    Clearing(#[from] ClearingError),
}

impl From<StoreError> for CorrectionError {
    fn from(error: StoreError) -> Self {
        Self::Clearing(error.into())
    }
}

impl From<AppError> for CorrectionError {
    fn from(error: AppError) -> Self {
        Self::Clearing(error.into())
    }
}

impl From<sqlx::Error> for CorrectionError {
    fn from(error: sqlx::Error) -> Self {
        Self::Clearing(error.into())
    }
}

/// The name of a correction: `KEY-YYYY-MM-DD-JOURNEY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CorrectionId {
    /// The token's key.
    pub token_key: TokenKey,
    /// The day.
    pub day: ServiceDay,
    /// The journey.
    pub journey: JourneyId,
}

/// A name of a correction that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a correction's name is a token's key, a day and a journey, as `correction list` shows it")]
pub struct CorrectionIdError;

impl fmt::Display for CorrectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.token_key.to_hex(), self.day, self.journey)
    }
}

impl FromStr for CorrectionId {
    type Err = CorrectionIdError;

    fn from_str(text: &str) -> Result<Self, CorrectionIdError> {
        let named = |text: &str| {
            let (key, rest) = text.split_once('-')?;
            let (day, journey) = rest.split_at_checked(10)?;
            let (token_key, day) = (TokenKey::from_hex(key)?, day.parse().ok()?);
            Some(Self { token_key, day, journey: journey.strip_prefix('-')?.parse().ok()? })
        };
        named(text).ok_or(CorrectionIdError)
    }
}

/// What a rider tells.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// Of which journey.
    pub of: CorrectionId,
    /// Where the missing tap was.
    pub station: &'a str,
    /// When it was, in milliseconds since 1970-01-01 UTC, if the rider knows: for the record.
    pub told_ms: Option<i64>,
}

/// What a correction changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Corrected {
    /// Its name.
    pub id: String,
    /// What the journey was charged before.
    #[schema(value_type = i64)]
    pub before_fen: Fen,
    /// What it is charged now.
    #[schema(value_type = i64)]
    pub charged_fen: Fen,
    /// True where the day is closed: `close-day --late` books the difference.
    pub late: bool,
}

/// A correction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct CorrectionRow {
    /// Its name; the next page begins after the last one.
    pub id: String,
    /// The token's key, 32 hexadecimal digits.
    pub token_key: String,
    /// The day of the journey.
    #[schema(value_type = String)]
    pub service_day: ServiceDay,
    /// The journey: its first tap.
    pub journey: String,
    /// Where the missing tap was.
    pub station: String,
    /// When it was, as the rider says, in milliseconds since 1970-01-01 UTC.
    pub told_ms: Option<i64>,
    /// When the rider told.
    pub asked_ms: i64,
    /// Who entered it.
    pub by: String,
}

/// Corrections, by token, day and journey.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Corrections {
    /// The corrections.
    pub corrections: Vec<CorrectionRow>,
}

/// Which corrections.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Only this token's.
    pub token_key: Option<TokenKey>,
    /// Only those after this one: the next page.
    pub after: Option<CorrectionId>,
    /// At most so many.
    pub limit: u32,
}

/// Takes what a rider tells, if it changes what the journey costs by the rules.
pub async fn add(app: &App, user: &str, told: Told<'_>) -> Result<Corrected, CorrectionError> {
    let config: CorrectionsConfig = app.config.section("corrections")?;
    let at = app.now()?;
    let clearing = Clearing::of(app).await?;
    // What has just come is among the token's taps once risk has looked at it.
    risk::run(app).await?;
    clearing.correct(config, told, at, user).await
}

impl Clearing {
    /// Judges what a rider tells and enters it.
    pub(super) async fn correct(
        &self,
        config: CorrectionsConfig,
        told: Told<'_>,
        at: UnixMs,
        by: &str,
    ) -> Result<Corrected, CorrectionError> {
        again_if_met(|| self.correct_once(config, told, at, by)).await
    }

    async fn correct_once(
        &self,
        config: CorrectionsConfig,
        told: Told<'_>,
        at: UnixMs,
        by: &str,
    ) -> Result<Corrected, CorrectionError> {
        let CorrectionId { token_key, day, journey } = told.of;
        let asked_ms = sql::ms(at);
        // Said first, because a corrected journey is no longer an incomplete one.
        let mut conn = self.store.pool().acquire().await?;
        not_corrected_in(&mut conn, told.of).await?;
        drop(conn);
        let half = |journeys: &[Journey]| journeys.iter().find(|j| j.first == journey.0).copied();
        let before = half(&self.price_token(day, token_key, None).await?.journeys)
            .filter(|j| matches!(j.status, Status::Incomplete | Status::AutoCompleted))
            .ok_or(CorrectionError::NoJourney { journey, day })?;
        let tap = Tapped::of(&before).ok_or(CorrectionError::NoJourney { journey, day })?;
        let station = self.tariffs.station(told.station).filter(|station| self.tariffs.has(day, *station));
        let station = station.ok_or(CorrectionError::UnknownStation { day })?;
        let limit = self.tariffs.correction_rules(day).per_month;
        if limit == 0 {
            return Err(CorrectionError::OverLimit { day, made: 0, limit });
        }
        self.in_time(config, told, &tap, asked_ms)?;
        let correction = Correction { tap: journey.0, asked_ms, station };
        let after = half(&self.price_token(day, token_key, Some(correction)).await?.journeys)
            .filter(|j| j.status == Status::Corrected);

        let mut tx = self.store.begin().await?;
        self.not_deleted_in(&mut tx, day).await?;
        not_corrected_in(&mut tx, told.of).await?;
        let made = made_in(&mut tx, token_key, day).await?;
        if made >= limit {
            return Err(CorrectionError::OverLimit { day, made, limit });
        }
        let Some(after) = after else {
            let code = |station| self.tariffs.code(station).to_string();
            return Err(CorrectionError::NotJoined { tapped: code(tap.station), told: code(station) });
        };
        let insert = query(
            "INSERT INTO corrections (token_key, service_day, first_key, first_sequence, station, told_ms, asked_ms, by) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        );
        let insert = journey.bind(insert, token_key, day).bind(told.station).bind(told.told_ms);
        insert.bind(asked_ms).bind(by).execute(&mut *tx).await?;
        let closed: i64 = query("SELECT count(*) FROM day_close WHERE service_day = ?")
            .bind(day.number())
            .scalar(&mut *tx)
            .await?;
        let detail = format!("{day}, journey {journey}, at {}", told.station);
        let subject = &token_key.to_hex();
        let line = Audit { at, user: by, action: "correction.add", subject, detail: &detail };
        audit_in(&mut tx, &line).await?;
        tx.commit().await?;
        let (id, late) = (told.of.to_string(), closed > 0);
        Ok(Corrected { id, before_fen: before.charged, charged_fen: after.charged, late })
    }

    fn in_time(
        &self,
        config: CorrectionsConfig,
        told: Told<'_>,
        tap: &Tapped,
        asked_ms: i64,
    ) -> Result<(), CorrectionError> {
        let CorrectionId { day, journey, .. } = told.of;
        let text = |ms| self.tariffs.clock().rfc3339(ms);
        let within_ms = self.tariffs.correction_rules(day).within_ms;
        let until_ms = tap.time_ms.saturating_add(within_ms.min(i64::from(config.max_age_days) * DAY_MS));
        if !(tap.time_ms..=until_ms).contains(&asked_ms) {
            return Err(CorrectionError::TooOld { journey, until: text(until_ms) });
        }
        let longest = self.tariffs.maximum_journey_ms();
        let (from, upto) = match tap.entered {
            true => (tap.time_ms, tap.time_ms.saturating_add(longest)),
            false => (tap.time_ms.saturating_sub(longest), tap.time_ms),
        };
        if told.told_ms.is_some_and(|ms| !(from..=upto).contains(&ms)) {
            return Err(CorrectionError::Time { journey, from: text(from), upto: text(upto) });
        }
        Ok(())
    }
}

/// The tap that half a journey has.
struct Tapped {
    entered: bool,
    station: StationIndex,
    time_ms: i64,
}

impl Tapped {
    fn of(journey: &Journey) -> Option<Self> {
        // The half that was completed from a neighbouring tap has no time.
        let timed = |entered, place: Option<Place>| {
            let place = place?;
            Some(Self { entered, station: place.station, time_ms: place.time_ms? })
        };
        timed(true, journey.entered).or_else(|| timed(false, journey.left))
    }
}

async fn not_corrected_in(conn: &mut Conn, of: CorrectionId) -> Result<(), CorrectionError> {
    let CorrectionId { token_key, day, journey } = of;
    for (text, error) in [
        (
            "SELECT count(*) FROM corrections WHERE token_key = ? AND service_day = ? AND first_key = ? AND first_sequence = ?",
            CorrectionError::AlreadyCorrected { journey },
        ),
        (
            "SELECT count(*) FROM refunds WHERE token_key = ? AND service_day = ? AND first_key = ? AND first_sequence = ?",
            CorrectionError::Refunded { journey },
        ),
    ] {
        let there: i64 = journey.bind(query(text), token_key, day).scalar(&mut *conn).await?;
        if there > 0 {
            return Err(error);
        }
    }
    Ok(())
}

/// How many corrections a token has in the calendar month of a day.
async fn made_in(conn: &mut Conn, token_key: TokenKey, day: ServiceDay) -> Result<u32, CorrectionError> {
    let month = Period::Month.around(day);
    let made = query("SELECT count(*) FROM corrections WHERE token_key = ? AND service_day BETWEEN ? AND ?")
        .bind(token_key.as_slice())
        .bind(month.start().number())
        .bind(month.end().number())
        .scalar(conn)
        .await?;
    Ok(made)
}

/// What riders told of the journeys that bear on a day, by token, of tokens from one to another.
pub(super) async fn read(
    pool: &Pool,
    tariffs: &Tariffs,
    day: ServiceDay,
    tokens: RangeInclusive<TokenKey>,
) -> Result<BTreeMap<TokenKey, Vec<Correction>>, ClearingError> {
    let rows = query(
        "SELECT token_key, first_key, first_sequence, station, asked_ms FROM corrections \
         WHERE token_key BETWEEN ? AND ? AND service_day BETWEEN ? AND ?",
    )
    .bind(tokens.start().as_slice())
    .bind(tokens.end().as_slice())
    .bind(tariffs.window(day).start().number())
    .bind(day.number())
    .fetch_all(pool)
    .await?;
    let mut told: BTreeMap<TokenKey, Vec<Correction>> = BTreeMap::new();
    for row in &rows {
        // A station that is gone from every tariff corrects nothing any more.
        let Some(station) = tariffs.station(row.try_get(3)?) else { continue };
        let JourneyId(tap): JourneyId = JourneyId::stored(row.try_get(1)?, row.try_get(2)?)?;
        let correction = Correction { tap, asked_ms: row.try_get(4)?, station };
        told.entry(token_key(row.try_get(0)?)?).or_default().push(correction);
    }
    Ok(told)
}

/// Reads a page of corrections.
pub async fn list(store: &Store, wanted: Wanted) -> Result<Corrections, ClearingError> {
    let Wanted { token_key: token, after, limit } = wanted;
    let tap = after.map_or(TapId { key: [0; 8], sequence: 0 }, |id| id.journey.0);
    let rows = query(
        "SELECT token_key, service_day, first_key, first_sequence, station, told_ms, asked_ms, by FROM corrections \
         WHERE (token_key, service_day, first_key, first_sequence) > (?1, ?2, ?3, ?4) \
         AND (?5 IS NULL OR token_key = ?5) ORDER BY token_key, service_day, first_key, first_sequence LIMIT ?6",
    )
    .bind(after.map_or_else(Vec::new, |id| id.token_key.as_slice().to_vec()))
    .bind(after.map_or(0, |id| id.day.number()))
    .bind(&tap.key)
    .bind(tap.sequence)
    .bind(token.map(|key| key.as_slice().to_vec()))
    .bind(limit)
    .fetch_all(store.pool())
    .await?;
    Ok(Corrections { corrections: rows.iter().map(row).collect::<Result<_, _>>()? })
}

fn row(row: &Row) -> Result<CorrectionRow, ClearingError> {
    let day = ServiceDay::from_number(row.try_get(1)?);
    let of = CorrectionId {
        token_key: token_key(row.try_get(0)?)?,
        day: day.map_err(|_| ClearingError::damaged("a correction's service day"))?,
        journey: JourneyId::stored(row.try_get(2)?, row.try_get(3)?)?,
    };
    Ok(CorrectionRow {
        id: of.to_string(),
        token_key: of.token_key.to_hex(),
        service_day: of.day,
        journey: of.journey.to_string(),
        station: row.try_get(4)?,
        told_ms: row.try_get(5)?,
        asked_ms: row.try_get(6)?,
        by: row.try_get(7)?,
    })
}
