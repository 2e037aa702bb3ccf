//! Disputes: a rider says that a journey was charged wrongly. A person looks at the evidence and gives something back, or
//! says why not.
//!
//! One dispute of a journey is open at a time, and each gives back once ([`super::refunds`]). A decision that is repeated
//! is told again and moves nothing.

pub mod api;
pub mod cli;
mod evidence;
mod list;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use utoipa::ToSchema;
use wavepass_fares::{Fen, Overflow, ServiceDay};
use wavepass_protocol::time::UnixMs;

use super::deleted::has_journeys_in;
use super::journey_id::JourneyId;
use super::refunds::standing_in;
use super::{Clearing, ClearingError, DeductOptions, DeductSummary};
use crate::cli::{App, AppError};
use crate::input::{self, TextError};
use crate::keys::TokenKey;
use crate::store::db::{Conn, Query, query};
use crate::store::{Audit, StoreError, again_if_met, audit_in, sql};

pub use evidence::{Evidence, evidence};
pub use list::{Dispute, DisputeState, Disputes, Wanted, list};

/// Why a dispute is not opened, shown or decided.
#[derive(Debug, thiserror::Error)]
pub enum DisputeError {
    /// The books have no such journey.
    #[error(
        "the books of {day} have no journey {journey} of the token; a day's journeys are in them once it is closed"
    )]
    NoJourney {
        /// Its name.
        journey: JourneyId,
        /// The day.
        day: ServiceDay,
    },
    /// No such dispute.
    #[error("there is no dispute {id}; `dispute list` shows what there is")]
    NoDispute {
        /// Its name.
        id: DisputeId,
    },
    /// Another is open.
    #[error("dispute {id} of the same journey is open")]
    AlreadyOpen {
        /// The other.
        id: DisputeId,
    },
    /// It was decided otherwise.
    #[error("dispute {id} was {} already", state.as_str())]
    Decided {
        /// Its name.
        id: DisputeId,
        /// How.
        state: DisputeState,
    },
    /// More than there is to give back.
    #[error("of what dispute {id} is about, {} fen are charged and not refunded yet: give back 1 to as much", left.0)]
    TooMuch {
        /// Its name.
        id: DisputeId,
        /// What is left.
        left: Fen,
    },
    /// The bank may or may not have taken the charge.
    #[error("the bank has not answered for the charge of dispute {id} yet: deduct the day until it answers")]
    Unanswered {
        /// Its name.
        id: DisputeId,
    },
    /// Nothing was taken.
    #[error("the charge of dispute {id} was waived: there is nothing to give back")]
    Waived {
        /// Its name.
        id: DisputeId,
    },
    /// Nothing was taken, nor will be.
    #[error("the charge of dispute {id} was written off: there is nothing to give back")]
    WrittenOff {
        /// Its name.
        id: DisputeId,
    },
    /// A reason that is not taken.
    #[error(transparent)]
    Text(#[from] TextError),
    /// Clearing or the store.
    #[error(transparent)]
    Clearing(#[from] ClearingError),
}

impl From<StoreError> for DisputeError {
    fn from(error: StoreError) -> Self {
        Self::Clearing(error.into())
    }
}

impl From<AppError> for DisputeError {
    fn from(error: AppError) -> Self {
        Self::Clearing(error.into())
    }
}

impl From<sqlx::Error> for DisputeError {
    fn from(error: sqlx::Error) -> Self {
        Self::Clearing(error.into())
    }
}

impl From<Overflow> for DisputeError {
    fn from(error: Overflow) -> Self {
        Self::Clearing(error.into())
    }
}

/// The name of a dispute: `KEY-YYYY-MM-DD-JOURNEY-N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DisputeId {
    /// The token's key.
    pub token_key: TokenKey,
    /// The day.
    pub day: ServiceDay,
    /// The journey.
    pub journey: JourneyId,
    /// The how manieth of the journey.
    pub number: u32,
}

impl DisputeId {
    /// Binds what rows about a dispute are found by: its journey, then its number.
    pub(super) fn bind(self, query: Query<'static>) -> Query<'static> {
        self.of_journey(query).bind(self.number)
    }

    /// Binds what rows about its journey are found by.
    pub(super) fn of_journey(self, query: Query<'static>) -> Query<'static> {
        self.journey.bind(query, self.token_key, self.day)
    }
}

/// A name of a dispute that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a dispute's name is a token's key, a day, a journey and a number, as `dispute list` shows it")]
pub struct DisputeIdError;

impl fmt::Display for DisputeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}-{}", self.token_key.to_hex(), self.day, self.journey, self.number)
    }
}

impl FromStr for DisputeId {
    type Err = DisputeIdError;

    fn from_str(text: &str) -> Result<Self, DisputeIdError> {
        let named = |text: &str| {
            let (key, rest) = text.split_once('-')?;
            let (day, rest) = rest.split_at_checked(10)?;
            let (journey, number) = rest.strip_prefix('-')?.rsplit_once('-')?;
            let (token_key, day) = (TokenKey::from_hex(key)?, day.parse().ok()?);
            Some(Self { token_key, day, journey: journey.parse().ok()?, number: number.parse().ok()? })
        };
        named(text).ok_or(DisputeIdError)
    }
}

/// What became of a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Decision {
    /// The dispute as it is now.
    pub dispute: Dispute,
    /// What the bank was asked for now.
    pub deduct: DeductSummary,
}

/// Opens a dispute of a journey that is in the books.
pub async fn open(
    app: &App,
    user: &str,
    (token_key, day, journey): (TokenKey, ServiceDay, JourneyId),
    reason: &str,
) -> Result<Dispute, DisputeError> {
    input::sentence("a reason", reason)?;
    let at = app.now()?;
    again_if_met(|| open_once(app, (at, user), (token_key, day, journey), reason)).await
}

async fn open_once(
    app: &App,
    (at, user): (UnixMs, &str),
    (token_key, day, journey): (TokenKey, ServiceDay, JourneyId),
    reason: &str,
) -> Result<Dispute, DisputeError> {
    let mut tx = app.store.begin().await?;
    has_journeys_in(&mut tx, day).await?;
    let mut id = DisputeId { token_key, day, journey, number: 1 };
    if standing_in(&mut tx, &id).await?.is_none() {
        return Err(DisputeError::NoJourney { journey, day });
    }
    let last = query(
        "SELECT number, state FROM disputes WHERE token_key = ? AND service_day = ? AND first_key = ? \
         AND first_sequence = ? ORDER BY number DESC LIMIT 1",
    );
    let last = journey.bind(last, token_key, day).fetch_optional(&mut *tx).await?;
    if let Some(row) = last {
        id.number = row.try_get(0)?;
        if row.try_get::<&str>(1)? == DisputeState::Open.as_str() {
            return Err(DisputeError::AlreadyOpen { id });
        }
        id.number += 1;
    }
    let insert = query(
        "INSERT INTO disputes (token_key, service_day, first_key, first_sequence, number, state, reason, opened_ms, \
         opened_by) VALUES (?, ?, ?, ?, ?, 'open', ?, ?, ?)",
    );
    id.bind(insert).bind(reason).bind(sql::ms(at)).bind(user).execute(&mut *tx).await?;
    audit_dispute_in(&mut tx, &id, (at, user, "dispute.open"), reason).await?;
    let dispute = list::one_in(&mut tx, &id).await?;
    tx.commit().await?;
    Ok(dispute)
}

/// Accepts a dispute and gives an amount back. Accepted again with the same amount, it stays as it is.
pub async fn accept(
    app: &App,
    user: &str,
    id: &DisputeId,
    amount: Fen,
    reason: &str,
) -> Result<Decision, DisputeError> {
    input::sentence("a reason", reason)?;
    let at = app.now()?;
    let clearing = Clearing::of(app).await?;
    let credit = again_if_met(|| accept_once(&clearing, id, amount, (at, user), reason)).await?;
    let deduct = match credit {
        true => clearing.deduct_day(id.day, DeductOptions::default()).await?,
        false => DeductSummary::default(),
    };
    // A debt that is offset in full leaves the deny list.
    app.publish_lists().await?;
    let mut conn = app.store.pool().acquire().await?;
    Ok(Decision { dispute: list::one_in(&mut conn, id).await?, deduct })
}

/// True where the bank has to be asked to credit what was given back now.
async fn accept_once(
    clearing: &Clearing,
    id: &DisputeId,
    amount: Fen,
    (at, user): (UnixMs, &str),
    reason: &str,
) -> Result<bool, DisputeError> {
    let mut tx = clearing.store.begin().await?;
    let before = list::one_in(&mut tx, id).await?;
    match before.state {
        DisputeState::Open => {
            let refunded = clearing.refund_in(&mut tx, id, amount).await?;
            decide_in(&mut tx, id, DisputeState::Accepted, (at, user), reason).await?;
            let detail = format!(
                "{} fen of part {} as part {}, {}: {reason}",
                amount.0,
                refunded.of_part,
                refunded.part,
                if refunded.credit { "credited" } else { "offset" }
            );
            audit_dispute_in(&mut tx, id, (at, user, "dispute.accept"), &detail).await?;
            tx.commit().await?;
            Ok(refunded.credit)
        }
        DisputeState::Accepted if before.refund_fen == Some(amount) => Ok(false),
        state => Err(DisputeError::Decided { id: *id, state }),
    }
}

/// Rejects a dispute. Rejected again, it stays as it is.
pub async fn reject(app: &App, user: &str, id: &DisputeId, reason: &str) -> Result<Dispute, DisputeError> {
    input::sentence("a reason", reason)?;
    let at = app.now()?;
    again_if_met(|| reject_once(app, id, (at, user), reason)).await
}

async fn reject_once(
    app: &App,
    id: &DisputeId,
    (at, user): (UnixMs, &str),
    reason: &str,
) -> Result<Dispute, DisputeError> {
    let mut tx = app.store.begin().await?;
    let before = list::one_in(&mut tx, id).await?;
    match before.state {
        DisputeState::Rejected => return Ok(before),
        DisputeState::Accepted => {
            return Err(DisputeError::Decided { id: *id, state: DisputeState::Accepted });
        }
        DisputeState::Open => {}
    }
    decide_in(&mut tx, id, DisputeState::Rejected, (at, user), reason).await?;
    audit_dispute_in(&mut tx, id, (at, user, "dispute.reject"), reason).await?;
    let dispute = list::one_in(&mut tx, id).await?;
    tx.commit().await?;
    Ok(dispute)
}

async fn decide_in(
    conn: &mut Conn,
    id: &DisputeId,
    state: DisputeState,
    (at, user): (UnixMs, &str),
    reason: &str,
) -> Result<(), DisputeError> {
    let update = query(
        "UPDATE disputes SET state = ?6, decided_ms = ?7, decided_by = ?8, decision = ?9 WHERE token_key = ?1 \
         AND service_day = ?2 AND first_key = ?3 AND first_sequence = ?4 AND number = ?5 AND state = 'open'",
    );
    let update = id.bind(update).bind(state.as_str()).bind(sql::ms(at)).bind(user).bind(reason);
    update.execute(conn).await?;
    Ok(())
}

async fn audit_dispute_in(
    conn: &mut Conn,
    id: &DisputeId,
    (at, user, action): (UnixMs, &str, &str),
    detail: &str,
) -> Result<(), ClearingError> {
    let subject = &id.to_string();
    audit_in(conn, &Audit { at, user, action, subject, detail }).await?;
    Ok(())
}
