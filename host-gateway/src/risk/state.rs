//! What a token has at risk: when the bank last paid for it, and the first tap since.
//!
//! Written where risk looks at taps and where clearing records what the bank paid. The same taps make tokens due for
//! authorisation, where any is configured.

use super::atcs::Atcs;
use super::recent::{self, Recent};
use super::rules::{Seen, by_token};
use super::ways::Ways;
use crate::keys::TokenKey;
use crate::store::StoreError;
use crate::store::db::{Conn, One, Row, read_many, write_many};
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
        let (key, state) = state(&row)?;
        states.insert(key, state);
    }
    Ok(states)
}

fn state(row: &Row) -> Result<(TokenKey, RiskState), StoreError> {
    let key = TokenKey::from_slice(row.try_get(0)?).ok_or(StoreError::Damaged { what: "token key" })?;
    let state = RiskState {
        last_paid_ms: row.try_get(1)?,
        paid_upto_ms: row.try_get(2)?,
        first_tap_ms: row.try_get(3)?,
        last_tap_ms: row.try_get(4)?,
    };
    Ok((key, state))
}

/// What risk knows of a token, from the taps that it has looked at.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    /// Somebody's: a token that was issued, and not that of a person who was erased, which stands for nobody.
    pub(super) is_registered: bool,
    is_new: bool,
    state: RiskState,
    /// The ATCs that were used; `None`: known from the taps alone.
    pub(super) atcs: Option<Atcs>,
    recent: Recent,
}

impl Memory {
    /// Whether taps, in the order of events, agree with all that the token did: among themselves and with the taps before them,
    /// the higher ATC is the later, and none was used twice. They may have come late.
    pub(super) fn agrees(&self, taps: &[Seen]) -> bool {
        let Some(atcs) = &self.atcs else { return false };
        let mut last = None;
        taps.iter().filter_map(|tap| Some((tap.used()?, tap.time_ms))).all(|(atc, time_ms)| {
            last.replace(atc).is_none_or(|last| atc > last) && atcs.agrees(atc, time_ms)
        })
    }

    /// Whether one of their ATCs was used before, as far as is known.
    pub(super) fn has_seen_one_of(&self, taps: &[Seen]) -> bool {
        self.atcs.as_ref().is_none_or(|atcs| taps.iter().filter_map(Seen::used).any(|atc| atcs.contains(atc)))
    }

    /// Whether there may be taps, among these and the token's others, between which there was no ride.
    pub(super) fn may_contradict(&self, taps: &[Seen], ways: &Ways) -> bool {
        self.recent.may_contradict(taps, ways)
    }

    fn note(&mut self, taps: &[Seen]) {
        if let Some(atcs) = &mut self.atcs {
            for (atc, time_ms) in taps.iter().filter_map(|tap| Some((tap.used()?, tap.time_ms))) {
                atcs.insert(atc, time_ms);
            }
        }
        let mut times = taps.iter().map(|tap| tap.time_ms);
        let unpaid = times.find(|time| self.state.paid_upto_ms.is_none_or(|upto| *time > upto));
        self.state.first_tap_ms = self.state.first_tap_ms.into_iter().chain(unpaid).min();
        self.state.last_tap_ms = self.state.last_tap_ms.max(taps.last().map(|tap| tap.time_ms));
        self.recent.note(taps, self.state.last_tap_ms);
    }
}

/// Reads what is known of the tokens of taps, all of them.
pub(super) async fn memories_in(
    conn: &mut Conn,
    taps: &[Seen],
) -> Result<BTreeMap<TokenKey, Memory>, StoreError> {
    // Of a token that was seen before and is somebody's, the registry has nothing to add.
    let text = "SELECT v.column1, r.last_paid_ms, r.paid_upto_ms, r.first_tap_ms, r.last_tap_ms, r.atcs, \
                CASE WHEN r.token_key IS NULL THEN 1 ELSE 0 END, CASE WHEN r.is_somebodys = 1 THEN 1 \
                WHEN (SELECT k.account_id FROM tokens AS k WHERE k.token_key = v.column1) <> '' THEN 1 ELSE 0 END, r.recent \
                FROM (VALUES ??) AS v LEFT JOIN risk_states AS r ON r.token_key = v.column1";
    let tokens = by_token(taps).map(|(_, taps)| One(taps[0].token.as_slice()));
    let mut memories = BTreeMap::new();
    for row in read_many(conn, text, tokens).await? {
        let (key, state) = state(&row)?;
        let is_new = row.try_get::<i64>(6)? == 1;
        let atcs: Option<&[u8]> = row.try_get(5)?;
        let mark = recent::mark(state.last_tap_ms, atcs);
        let atcs = atcs.map(|bytes| {
            Atcs::from_bytes(bytes, state.last_tap_ms).ok_or(StoreError::Damaged { what: "ATCs" })
        });
        // A token that never tapped has used none.
        let atcs = atcs.transpose()?.or_else(|| is_new.then(Atcs::default));
        let is_registered = row.try_get::<i64>(7)? == 1;
        let recent = match row.try_get::<Option<&[u8]>>(8)? {
            Some(bytes) => Recent::from_bytes(bytes, mark, state.last_tap_ms)
                .ok_or(StoreError::Damaged { what: "newest taps" })?,
            None if is_new => Recent::none(),
            None => Recent::unknown(state.last_tap_ms),
        };
        memories.insert(key, Memory { is_registered, is_new, state, atcs, recent });
    }
    Ok(memories)
}

/// Takes note of taps that risk has looked at now, in the order of tokens and each token's in the order of events.
pub(super) async fn remember_in(
    conn: &mut Conn,
    taps: &[Seen],
    mut memories: BTreeMap<TokenKey, Memory>,
) -> Result<(), StoreError> {
    for (key, taps) in by_token(taps) {
        if let Some(memory) = memories.get_mut(&key) {
            memory.note(taps);
        }
    }
    let rows = |new: bool| {
        memories.iter().filter(move |(_, memory)| memory.is_new == new).map(|(key, memory)| {
            let RiskState { last_paid_ms, paid_upto_ms, first_tap_ms, last_tap_ms } = memory.state;
            let atcs = memory.atcs.as_ref().map(Atcs::to_bytes);
            let recent = memory.recent.to_bytes(recent::mark(last_tap_ms, atcs.as_deref()));
            (
                key.as_slice(),
                first_tap_ms,
                last_tap_ms,
                atcs,
                memory.is_registered,
                recent,
                last_paid_ms,
                paid_upto_ms,
            )
        })
    };
    let text = "INSERT INTO risk_states (token_key, first_tap_ms, last_tap_ms, atcs, is_somebodys, recent, last_paid_ms, paid_upto_ms) \
                VALUES ??";
    write_many(conn, text, rows(true)).await?;
    let text = "UPDATE risk_states SET first_tap_ms = v.column2, last_tap_ms = v.column3, atcs = v.column4, \
                is_somebodys = v.column5, recent = v.column6 FROM (VALUES ??) AS v WHERE risk_states.token_key = v.column1";
    let known = rows(false).map(|(key, first, last, atcs, is_somebodys, recent, ..)| {
        (key, first, last, atcs, is_somebodys, recent)
    });
    write_many(conn, text, known).await?;
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
                ELSE COALESCE((SELECT min(t.time_ms) FROM token_taps AS t WHERE t.token_key = v.column1 \
                AND t.utc_day IN (v.column2 / 86400000, v.column2 / 86400000 + 1, v.column2 / 86400000 + 2) \
                AND t.time_ms > v.column2 AND t.time_ms < (v.column2 / 86400000 + 3) * 86400000), last_tap_ms) END \
                FROM (VALUES ??) AS v WHERE risk_states.token_key = v.column1";
    write_many(conn, text, paid.iter().map(|(key, upto)| (key.as_slice(), *upto, now_ms))).await?;
    Ok(())
}

/// Forgets where tokens were tapped last, of those whose newest taps may be from before a time: their taps are deleted.
pub(crate) async fn forget_recent_in(
    conn: &mut Conn,
    tokens: &BTreeSet<TokenKey>,
    before_ms: i64,
) -> Result<(), StoreError> {
    let text = "UPDATE risk_states SET recent = NULL FROM (VALUES ??) AS v WHERE risk_states.token_key = v.column1 \
                AND recent IS NOT NULL AND last_tap_ms < v.column2";
    let before_ms = before_ms.saturating_add(recent::KEPT_MS);
    write_many(conn, text, tokens.iter().map(|token| (token.as_slice(), before_ms))).await?;
    Ok(())
}
