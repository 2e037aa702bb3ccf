//! What a token has at risk, for a person: when the bank last paid for it, the first tap since, what is not paid, what is held,
//! and why gates refuse it.

use crate::store::db::{Conn, query};
use serde::Serialize;
use utoipa::ToSchema;
use wavepass_fares::{Fen, ServiceDay};

use super::super::taps::read_tokens;
use super::super::{Clearing, ClearingError};
use super::early::{booked_in, has_begun_in};
use crate::cli::App;
use crate::keys::TokenKey;
use crate::lists::deny;
use crate::risk::RiskState;
use crate::risk::state::states_in;

/// Days looked at, the latest: what is not paid after two months is a debt.
const MOST_DAYS: i64 = 62;

/// What a token has at risk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TokenRisk {
    /// The token's key, 32 hexadecimal digits.
    pub token_key: String,
    /// When the bank last paid for it, milliseconds since 1970-01-01 UTC; none: never.
    pub last_paid_ms: Option<i64>,
    /// The first tap that is not paid, milliseconds since 1970-01-01 UTC.
    pub first_tap_ms: Option<i64>,
    /// What is not paid: debts, charges without an answer, and fares so far, of journeys under way the most they may cost.
    #[schema(value_type = i64)]
    pub at_risk_fen: Fen,
    /// Its last hold.
    pub hold: Option<Hold>,
    /// Why gates refuse it; empty if they do not.
    pub denied: Vec<DeniedFor>,
}

/// A hold: an amount that the bank was asked to keep back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Hold {
    /// Its number among the token's.
    pub number: u32,
    /// How much.
    #[schema(value_type = i64)]
    pub amount_fen: Fen,
    /// `asked`, `in_doubt`, `active`, `declined`, `completed`, `released` or `expired`.
    pub state: String,
    /// Why the bank declined it.
    pub reason: Option<String>,
    /// When it ends by itself, milliseconds since 1970-01-01 UTC.
    pub expires_ms: i64,
}

/// A cause on the deny list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct DeniedFor {
    /// The cause.
    pub cause: &'static str,
    /// Anything more: with `authorisation`, the bank's word or `first_ride_limit`.
    pub note: String,
}

/// Reads what a token has at risk; `None`: nobody registered it, and it never tapped.
pub async fn risk_of(app: &App, token: TokenKey) -> Result<Option<TokenRisk>, ClearingError> {
    let mut conn = app.store.pool().acquire().await?;
    let state = states_in(&mut conn, &[token]).await?.remove(&token);
    let registered = query("SELECT 1 FROM tokens WHERE token_key = ?")
        .bind(token.as_slice())
        .fetch_optional(&mut conn)
        .await?;
    if state.is_none() && registered.is_none() {
        return Ok(None);
    }
    let state = state.unwrap_or_default();
    let hold = last_hold(&mut conn, token).await?;
    let causes = deny::causes_in(&mut conn, &token)
        .await
        .map_err(|error| ClearingError::Outside { what: "deny list", source: error.into() })?;
    drop(conn);
    let at_risk_fen = match Clearing::of(app).await {
        Ok(clearing) => clearing.at_risk(token, &state).await?,
        // Nothing can be priced.
        Err(ClearingError::NoTariff) => Fen::ZERO,
        Err(error) => return Err(error),
    };
    let denied = causes.into_iter().map(|row| DeniedFor { cause: row.cause.word(), note: row.note });
    Ok(Some(TokenRisk {
        token_key: token.to_hex(),
        last_paid_ms: state.last_paid_ms,
        first_tap_ms: state.first_tap_ms,
        at_risk_fen,
        hold,
        denied: denied.collect(),
    }))
}

async fn last_hold(conn: &mut Conn, token: TokenKey) -> Result<Option<Hold>, ClearingError> {
    let row = query(
        "SELECT number, amount_fen, state, reason, expires_ms FROM holds WHERE token_key = ? \
         ORDER BY number DESC LIMIT 1",
    )
    .bind(token.as_slice())
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Hold {
        number: row.try_get(0)?,
        amount_fen: Fen(row.try_get(1)?),
        state: row.try_get(2)?,
        reason: row.try_get(3)?,
        expires_ms: row.try_get(4)?,
    }))
}

impl Clearing {
    /// What of a token is not paid.
    pub(super) async fn at_risk(&self, token: TokenKey, state: &RiskState) -> Result<Fen, ClearingError> {
        let debts = "SELECT CAST(COALESCE(SUM(amount_fen), 0) AS BIGINT) FROM debts WHERE token_key = ? AND state = 'open'";
        let debts: i64 = query(debts).bind(token.as_slice()).scalar(self.store.pool()).await?;
        let mut at_risk = Fen(debts);
        for day in self.days_since(state) {
            let mut conn = self.store.pool().acquire().await?;
            let unanswered: i64 = query(
                "SELECT CAST(COALESCE(SUM(c.amount_fen + c.offset_fen), 0) AS BIGINT) FROM charges AS c WHERE c.service_day = ? \
                 AND c.token_key = ? AND c.state IN ('open', 'sent', 'in_doubt') AND NOT EXISTS \
                 (SELECT 1 FROM debts AS d WHERE d.token_key = c.token_key AND d.service_day = c.service_day \
                 AND d.part = c.part AND d.state = 'open')",
            )
            .bind(day.number())
            .bind(token.as_slice())
            .scalar(&mut conn)
            .await?;
            at_risk = at_risk.plus(Fen(unanswered))?;
            if has_begun_in(&mut conn, day).await? {
                continue;
            }
            let booked = booked_in(&mut conn, day, &[token]).await?;
            drop(conn);
            let taps = read_tokens(self.store.pool(), &self.tariffs, day, &[token]).await?;
            for token in self.price_tokens(day, taps, None).await? {
                let total = Fen::sum(token.priced.days.iter().map(|day| day.charge))?;
                let booked = booked.get(&token.key).map_or(Fen::ZERO, |booked| booked.amount);
                at_risk = at_risk.plus(total.minus(booked)?)?;
            }
        }
        Ok(at_risk)
    }

    /// The days that may have something unpaid of a token: from before its first tap on to its last.
    fn days_since(&self, state: &RiskState) -> Vec<ServiceDay> {
        let day = |ms: Option<i64>| ms.and_then(|ms| self.tariffs.clock().day_of(ms).ok());
        let (Some(first), Some(last)) = (day(state.first_tap_ms), day(state.last_tap_ms)) else {
            return Vec::new();
        };
        let from = (first.number() - 1).max(last.number() - MOST_DAYS);
        (from..=last.number()).filter_map(|number| ServiceDay::from_number(number).ok()).collect()
    }
}
