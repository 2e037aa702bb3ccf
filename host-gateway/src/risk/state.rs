//! What a token has at risk: when the bank last paid for it, and the first tap since.
//!
//! Written where risk looks at taps and where clearing records what the bank paid. The same taps make tokens due for
//! authorisation, where any is configured.

use crate::keys::TokenKey;
use crate::store::StoreError;
use crate::store::db::{Conn, One, read_many, write_many};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of one token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RiskState {
    /// When the bank last paid for it, milliseconds since 1970-01-01 UTC; `None`: never.
    pub last_paid_ms: Option<i64>,
    /// Taps up to this time are paid.
    pub paid_upto_ms: Option<i64>,
    /// The first tap after it.
    pub first_tap_ms: Option<i64>,
    /// The newest tap that risk has looked at.
    pub last_tap_ms: Option<i64>,
}

/// Reads the states of tokens; one that never tapped has none.
pub async fn states_in(
    conn: &mut Conn,
    tokens: &[TokenKey],
) -> Result<BTreeMap<TokenKey, RiskState>, StoreError> {
    let text = "SELECT token_key, last_paid_ms, paid_upto_ms, first_tap_ms, last_tap_ms FROM risk_states \
                WHERE token_key IN ??";
    let mut states = BTreeMap::new();
    for row in read_many(conn, text, tokens.iter().map(|key| One(key.as_slice()))).await? {
        let key = TokenKey::from_slice(row.try_get(0)?).ok_or(StoreError::Damaged { what: "token key" })?;
        let state = RiskState {
            last_paid_ms: row.try_get(1)?,
            paid_upto_ms: row.try_get(2)?,
            first_tap_ms: row.try_get(3)?,
            last_tap_ms: row.try_get(4)?,
        };
        states.insert(key, state);
    }
    Ok(states)
}

/// Takes note of taps that risk has looked at now: for each token, their times.
pub(super) async fn note_taps_in(
    conn: &mut Conn,
    taps: &BTreeMap<TokenKey, BTreeSet<i64>>,
) -> Result<(), StoreError> {
    let tokens: Vec<TokenKey> = taps.keys().copied().collect();
    let mut states = states_in(conn, &tokens).await?;
    let rows = taps.iter().map(|(key, times)| {
        let mut state = states.remove(key).unwrap_or_default();
        let unpaid = times.iter().find(|time| state.paid_upto_ms.is_none_or(|upto| **time > upto));
        let first = state.first_tap_ms.into_iter().chain(unpaid.copied()).min();
        state.last_tap_ms = state.last_tap_ms.max(times.last().copied());
        (key.as_slice(), state.last_paid_ms, state.paid_upto_ms, first, state.last_tap_ms)
    });
    let text = "INSERT INTO risk_states (token_key, last_paid_ms, paid_upto_ms, first_tap_ms, last_tap_ms) VALUES ?? \
                ON CONFLICT (token_key) DO UPDATE SET first_tap_ms = excluded.first_tap_ms, \
                last_tap_ms = excluded.last_tap_ms";
    write_many(conn, text, rows).await?;
    Ok(())
}

/// Makes tokens due for authorisation on these service days.
pub(super) async fn make_due_in(conn: &mut Conn, due: &BTreeSet<(TokenKey, i64)>) -> Result<(), StoreError> {
    let text = "INSERT INTO authorisation_due (token_key, service_day, version, due_ms) VALUES ?? \
                ON CONFLICT (token_key, service_day) DO UPDATE SET version = authorisation_due.version + 1, due_ms = 0";
    write_many(conn, text, due.iter().map(|(key, day)| (key.as_slice(), *day, 1, 0))).await?;
    Ok(())
}

/// Takes note of what the bank paid: for each token, up to which tap.
pub(crate) async fn note_paid_in(
    conn: &mut Conn,
    paid: &BTreeMap<TokenKey, i64>,
    now_ms: i64,
) -> Result<(), StoreError> {
    // The first tap since is mostly known, or there is none; else it is within the two days after what was paid.
    let text = "UPDATE risk_states SET last_paid_ms = v.column3, \
                paid_upto_ms = CASE WHEN paid_upto_ms > v.column2 THEN paid_upto_ms ELSE v.column2 END, \
                first_tap_ms = CASE WHEN first_tap_ms > v.column2 THEN first_tap_ms \
                WHEN last_tap_ms <= v.column2 OR first_tap_ms IS NULL THEN NULL \
                ELSE COALESCE((SELECT min(t.time_ms) FROM taps AS t WHERE t.opened = 1 AND t.token_key = v.column1 \
                AND t.time_ms / 86400000 IN (v.column2 / 86400000, v.column2 / 86400000 + 1, v.column2 / 86400000 + 2) \
                AND t.time_ms > v.column2), last_tap_ms) END \
                FROM (VALUES ??) AS v WHERE risk_states.token_key = v.column1";
    write_many(conn, text, paid.iter().map(|(key, upto)| (key.as_slice(), *upto, now_ms))).await?;
    Ok(())
}
