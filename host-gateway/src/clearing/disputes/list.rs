//! Disputes as a person reads them: by token, day and journey, a page at a time.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wavepass_fares::{Fen, ServiceDay, TapId};

use super::{DisputeError, DisputeId};
use crate::clearing::journey_id::JourneyId;
use crate::clearing::{ClearingError, token_key};
use crate::keys::TokenKey;
use crate::store::Store;
use crate::store::db::{Conn, Row, query};

/// What became of a dispute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum DisputeState {
    /// Somebody must decide.
    Open,
    /// Something was given back.
    Accepted,
    /// Nothing was.
    Rejected,
}

impl DisputeState {
    const ALL: [Self; 3] = [Self::Open, Self::Accepted, Self::Rejected];

    /// The word that stores and screens use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
        }
    }
}

/// A dispute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Dispute {
    /// Its name; the next page begins after the last one.
    pub id: String,
    /// The token's key, 32 hexadecimal digits.
    pub token_key: String,
    /// The last four digits of its number; none where nobody registered it.
    pub last_four: Option<String>,
    /// The day of the journey.
    #[schema(value_type = String)]
    pub service_day: ServiceDay,
    /// The journey: its first tap.
    pub journey: String,
    /// What became of it.
    pub state: DisputeState,
    /// Why it was opened.
    pub reason: String,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub opened_ms: i64,
    /// By whom.
    pub opened_by: String,
    /// When it was decided.
    pub decided_ms: Option<i64>,
    /// By whom.
    pub decided_by: Option<String>,
    /// Why so.
    pub decision: Option<String>,
    /// What was given back.
    #[schema(value_type = Option<i64>)]
    pub refund_fen: Option<Fen>,
    /// The part of the charge that gave it back.
    pub refund_part: Option<u32>,
    /// The part that it gave back.
    pub of_part: Option<u32>,
}

/// Disputes, by token, day and journey.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Disputes {
    /// The disputes.
    pub disputes: Vec<Dispute>,
}

/// Which disputes.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Only this token's.
    pub token_key: Option<TokenKey>,
    /// Only those.
    pub state: Option<DisputeState>,
    /// Only those after this one: the next page.
    pub after: Option<DisputeId>,
    /// At most so many.
    pub limit: u32,
}

/// What every reading begins with.
macro_rules! disputes {
    ($rest:literal) => {
        concat!(
            "SELECT d.token_key, d.service_day, d.first_key, d.first_sequence, d.number, d.state, d.reason, d.opened_ms, \
             d.opened_by, d.decided_ms, d.decided_by, d.decision, r.amount_fen, r.part, r.of_part, t.last_four \
             FROM disputes AS d LEFT JOIN refunds AS r ON r.token_key = d.token_key AND r.service_day = d.service_day \
             AND r.first_key = d.first_key AND r.first_sequence = d.first_sequence AND r.number = d.number \
             LEFT JOIN tokens AS t ON t.token_key = d.token_key ",
            $rest
        )
    };
}

/// One dispute.
pub(super) async fn one_in(conn: &mut Conn, id: &DisputeId) -> Result<Dispute, DisputeError> {
    let one = query(disputes!(
        "WHERE d.token_key = ? AND d.service_day = ? AND d.first_key = ? AND d.first_sequence = ? AND d.number = ?"
    ));
    let row = id.bind(one).fetch_optional(conn).await?;
    Ok(dispute(&row.ok_or(DisputeError::NoDispute { id: *id })?)?)
}

/// Reads a page of disputes.
pub async fn list(store: &Store, wanted: Wanted) -> Result<Disputes, ClearingError> {
    let after = wanted.after;
    let tap = after.map_or(TapId { key: [0; 8], sequence: 0 }, |id| id.journey.0);
    let rows = query(disputes!(
        "WHERE (d.token_key, d.service_day, d.first_key, d.first_sequence, d.number) > (?1, ?2, ?3, ?4, ?5) \
         AND (?6 IS NULL OR d.token_key = ?6) AND (?7 IS NULL OR d.state = ?7) \
         ORDER BY d.token_key, d.service_day, d.first_key, d.first_sequence, d.number LIMIT ?8"
    ))
    .bind(after.map_or_else(Vec::new, |id| id.token_key.as_slice().to_vec()))
    .bind(after.map_or(0, |id| id.day.number()))
    .bind(&tap.key)
    .bind(tap.sequence)
    .bind(after.map_or(0, |id| id.number))
    .bind(wanted.token_key.map(|key| key.as_slice().to_vec()))
    .bind(wanted.state.map(DisputeState::as_str))
    .bind(wanted.limit)
    .fetch_all(store.pool())
    .await?;
    Ok(Disputes { disputes: rows.iter().map(dispute).collect::<Result<_, _>>()? })
}

fn dispute(row: &Row) -> Result<Dispute, ClearingError> {
    let day = ServiceDay::from_number(row.try_get(1)?);
    let id = DisputeId {
        token_key: token_key(row.try_get(0)?)?,
        day: day.map_err(|_| ClearingError::damaged("a dispute's service day"))?,
        journey: JourneyId::stored(row.try_get(2)?, row.try_get(3)?)?,
        number: row.try_get(4)?,
    };
    let word: &str = row.try_get(5)?;
    let state = DisputeState::ALL.into_iter().find(|state| state.as_str() == word);
    Ok(Dispute {
        id: id.to_string(),
        token_key: id.token_key.to_hex(),
        last_four: row.try_get(15)?,
        service_day: id.day,
        journey: id.journey.to_string(),
        state: state.ok_or_else(|| ClearingError::damaged("a dispute's state"))?,
        reason: row.try_get(6)?,
        opened_ms: row.try_get(7)?,
        opened_by: row.try_get(8)?,
        decided_ms: row.try_get(9)?,
        decided_by: row.try_get(10)?,
        decision: row.try_get(11)?,
        refund_fen: row.try_get::<Option<i64>>(12)?.map(Fen),
        refund_part: row.try_get(13)?,
        of_part: row.try_get(14)?,
    })
}
