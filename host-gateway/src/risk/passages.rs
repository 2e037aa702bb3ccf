//! What a barrier saw and told late: whether somebody went at a tap that was judged. The token's alerts of kind `passback` are judged
//! again then. One that nothing founds any more is withdrawn: it is deleted, so that found again it is new, and with it goes the
//! denial that it alone caused. The audit log says so, and not where anybody was. What a person ended stays as they left it.

use super::days::tapped_utc_days_in;
use super::near;
use super::rules::{Finding, Seen};
use super::{Look, ORDER_WINDOW_MS, RiskError, Summary, write_alerts};
use crate::keys::TokenKey;
use crate::lists::deny::{self, Cause};
use crate::store::db::{Conn, One, read_many, write_many};
use crate::store::{Audit, StoreError, audit_all_in, sql};
use std::collections::{BTreeMap, BTreeSet};
use wavepass_protocol::dukpt::KeyId;
use wavepass_protocol::time::UnixMs;

/// Tokens that are judged again at once.
const TOKENS: usize = 256;

/// A tap that was judged as if somebody had gone and nobody had, or the other way round.
pub(super) struct Turned {
    pub(super) token: TokenKey,
    pub(super) time_ms: i64,
    pub(super) key_id: KeyId,
    pub(super) sequence: u32,
}

/// What becomes of a token's alerts.
#[derive(Default)]
struct Again {
    founded: Vec<(TokenKey, Finding)>,
    /// Of these the event that showed them showed nothing, and another does.
    moved: Vec<(String, Finding)>,
    unfounded: Vec<String>,
}

impl Look<'_> {
    /// Judges again the tokens of taps that turned.
    pub(super) async fn judge_again_in(
        &self,
        conn: &mut Conn,
        turned: &[Turned],
        summary: &mut Summary,
    ) -> Result<(), RiskError> {
        if turned.is_empty() {
            return Ok(());
        }
        let days = tapped_utc_days_in(conn).await?;
        let mut by_token: BTreeMap<TokenKey, Vec<&Turned>> = BTreeMap::new();
        for tap in turned {
            by_token.entry(tap.token).or_default().push(tap);
        }
        // All of the service day of an alert that one of them may have shown.
        let span = |(token, taps): (&TokenKey, &Vec<&Turned>)| {
            let times = || taps.iter().map(|tap| tap.time_ms);
            let (first, last) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
            (*token, first.saturating_sub(ORDER_WINDOW_MS), last.saturating_add(ORDER_WINDOW_MS))
        };
        let spans: Vec<(TokenKey, i64, i64)> = by_token.iter().map(span).collect();
        for spans in spans.chunks(TOKENS) {
            let mut again = Again::default();
            let mut all = Vec::new();
            for (token, taps) in near::read(conn, &days, spans).await? {
                let turned = by_token.get(&token).into_iter().flatten();
                let turned = turned.map(|tap| (tap.key_id, tap.sequence)).collect();
                self.judge_again(token, &taps, &turned, &mut again);
                all.extend(taps);
            }
            all.sort_unstable_by_key(|tap| (tap.token, tap.order()));
            let now = self.app.clock.now();
            move_in(conn, &again.moved).await?;
            withdraw_in(conn, &again.unfounded, now).await?;
            let raised = write_alerts(conn, &again.founded, sql::ms(now)).await?;
            summary.alerts += raised.iter().filter(|raised| raised.is_new).count();
            summary.denied += self.deny_found(conn, &raised, &all, now).await?;
        }
        Ok(())
    }

    /// Judges a token's taps as they are, and as if somebody had gone at those that turned: what is found only then is founded on
    /// one of these.
    fn judge_again(
        &self,
        token: TokenKey,
        taps: &[Seen],
        turned: &BTreeSet<(KeyId, u32)>,
        again: &mut Again,
    ) {
        let mut went = taps.to_vec();
        for tap in went.iter_mut().filter(|tap| turned.contains(&(tap.key_id, tap.sequence))) {
            if let Some(rest) = &mut tap.rest {
                rest.passage = None;
            }
        }
        let by_id = |taps: &[Seen]| -> BTreeMap<String, Finding> {
            let found = self.ways.passbacks(taps, self.policy.tolerance);
            found.into_iter().map(|finding| (finding.id(&token), finding)).collect()
        };
        let founded = by_id(taps);
        for (id, finding) in by_id(&went) {
            match founded.get(&id) {
                Some(now) if now.order() == finding.order() => {}
                Some(now) => again.moved.push((id, now.clone())),
                // Of a day that the calendar lacks, other taps may be anywhere.
                None if finding.service_day.is_none() => {}
                None => again.unfounded.push(id),
            }
        }
        again.founded.extend(founded.into_values().map(|finding| (token, finding)));
    }
}

/// Gives alerts that another event shows.
async fn move_in(conn: &mut Conn, moved: &[(String, Finding)]) -> Result<(), StoreError> {
    let text = "UPDATE alerts SET key_id = v.column2, sequence = v.column3, event_ms = v.column4 FROM (VALUES ??) AS v \
                WHERE alerts.id = v.column1";
    let rows = moved.iter().map(|(id, now)| (id.as_str(), &now.key_id.0, now.sequence, now.event_ms));
    write_many(conn, text, rows).await?;
    Ok(())
}

/// Withdraws those alerts that nobody ended, and lifts what risk denied for them alone: no other of its kind is open, nor was one
/// raised since that a person ended without lifting it.
async fn withdraw_in(conn: &mut Conn, ids: &[String], now: UnixMs) -> Result<(), RiskError> {
    let text = "DELETE FROM alerts WHERE id IN ?? AND cleared_ms IS NULL RETURNING id, token_key";
    let mut tokens: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut withdrawn: Vec<String> = Vec::new();
    for row in read_many(conn, text, ids.iter().map(|id| One(id.as_str()))).await? {
        withdrawn.push(row.try_get(0)?);
        tokens.insert(row.try_get(1)?);
    }
    let line = |id| {
        let detail = "passback: a barrier told late that nobody went";
        Audit { at: now, user: "risk", action: "alert.withdraw", subject: id, detail }
    };
    let lines: Vec<Audit<'_>> = withdrawn.iter().map(|id| line(id.as_str())).collect();
    audit_all_in(conn, &lines).await?;
    let text = "SELECT d.token_key FROM deny_entries AS d WHERE d.token_key IN ?? AND d.cause = 'passback' AND d.by = 'risk' \
                AND NOT EXISTS (SELECT 1 FROM alerts AS a WHERE a.token_key = d.token_key AND a.kind = 'passback' \
                AND (a.cleared_ms IS NULL OR a.raised_ms >= d.since_ms))";
    let mut lifted: Vec<(TokenKey, Cause)> = Vec::new();
    for row in read_many(conn, text, tokens.iter().map(|token| One(token.as_slice()))).await? {
        let token = TokenKey::from_slice(row.try_get(0)?).ok_or(StoreError::Damaged { what: "token key" })?;
        lifted.push((token, Cause::Passback));
    }
    deny::remove_in(conn, &lifted, "risk", "its passback alert was withdrawn", now).await?;
    Ok(())
}
