//! Risk: what a token's taps say together that no single tap says.
//!
//! [`run`] looks at what has come since the last run. Taps whose ATCs are new and lie among those of the token's other taps as
//! their times do contradict nothing, however late they came, and nothing else of the token is read. For others it works on all
//! of the token's taps near them, so that its findings depend on what was tapped and not on the order of arrival. Alerts are named by
//! their content: found again, they are the same alerts.
//!
//! The rules:
//! - one ATC is used once. Opened twice with different data, there are two cards (`clone`); with the same data
//!   under two KSNs, one tap was sealed twice (`resealed`). The earliest tap counts, the others do not;
//! - ATCs rise with time. A tap with a lower ATC than an earlier one, by more than the clocks can be off, tells of
//!   two cards (`clone_order`);
//! - a station's gates let a token through once at a time. The same way in or out at another gate within the tariff's passback
//!   window, and at neither did the barrier see nobody go: the phone was handed back (`passback`). What the barrier saw may be told
//!   late, and such an alert is judged again then;
//! - nobody is faster than the trains. Taps at two stations with less time between than their distance by the tariff takes
//!   at the greatest speed, by more than the clocks can be off (`impossible_travel`);
//! - a cryptogram that the bank's keys refute (`invalid_cryptogram`): the tap does not count;
//! - a token that nobody issued (`unknown_token`): the tap is kept and waits.

mod arrivals;
mod atcs;
pub mod authorisation;
mod days;
mod near;
mod pass;
mod passages;
mod recent;
mod rules;
pub(crate) mod state;
#[cfg(test)]
mod tests;
mod ways;

use crate::cli::App;
use crate::config::ConfigError;
use crate::keys::TokenKey;
use crate::lists::deny::{self, Addition, Cause, DenyError};
use crate::store::db::{Conn, read_many, write_many};
use crate::store::shards::{Part, on_each};
use crate::store::{StoreError, again_if_met, sql};
use near::Doubtful;
use pass::Pass;
use rules::{AlertKind, Finding, Seen, Verdict, Withheld, by_token};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use wavepass_fares::ServiceDay;
use wavepass_protocol::seal::SealError;
use wavepass_protocol::tap::Entry;
use wavepass_protocol::time::UnixMs;
use ways::Ways;

pub use authorisation::Authorisation;
pub(crate) use days::{drop_day, on_days, tapped_utc_days_in};
pub(crate) use pass::is_in_pass;
pub use rules::{Policy, Tolerance};
pub use state::RiskState;
pub(crate) use state::forget_recent_in;

/// How much is looked at together.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Taps in one transaction, unless one token or one run of entries has more.
    taps: usize,
    /// Taps that are read by one statement, unless one run of entries has more.
    rows: i64,
    /// Runs of entries that are looked at together.
    runs: i64,
    /// Taps that are.
    pass: i64,
    /// Passages in one transaction.
    passages: i64,
}

const LIMITS: Limits = Limits {
    // Some tenths of a second where much has waited, so that intake never waits long.
    taps: 32_768,
    rows: 16_384,
    runs: 65_536,
    // Up to 264 MiB: the more, the fewer times each place of the tables by token is touched.
    pass: 3 << 20,
    passages: 32_768,
};
const _: () = assert!(size_of::<Seen>() * LIMITS.pass as usize <= 264 << 20);
/// The same ATC is found at any distance in time; the order of ATCs is looked at within this. Clocks and phones are
/// repaired and replaced over longer times.
const ORDER_WINDOW_MS: i64 = 3 * 86_400_000;

/// Why risk could not run.
#[derive(Debug, thiserror::Error)]
pub enum RiskError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The deny list.
    #[error(transparent)]
    Deny(#[from] DenyError),
    /// A stored entry no longer opens.
    #[error("a stored entry does not open: {0}")]
    Entry(SealError),
    /// A worker thread ended early.
    #[error("a worker thread ended early")]
    Worker,
    /// `[authorisation]` cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl From<sqlx::Error> for RiskError {
    fn from(e: sqlx::Error) -> Self {
        Self::Store(e.into())
    }
}

/// What a run found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Summary {
    /// Tokens looked at.
    pub tokens: usize,
    /// Alerts that are new.
    pub alerts: usize,
    /// Taps that no longer count, or count again.
    pub changed: usize,
    /// Tokens newly on the deny list. It is not published by the run.
    pub denied: usize,
}

impl Summary {
    fn add(&mut self, more: Self) {
        self.tokens += more.tokens;
        self.alerts += more.alerts;
        self.changed += more.changed;
        self.denied += more.denied;
    }
}

/// Looks at every tap that came before it and was not looked at; safe to call at any time, and twice.
pub async fn run(app: &App) -> Result<Summary, RiskError> {
    run_within(app, LIMITS).await
}

async fn run_within(app: &App, limits: Limits) -> Result<Summary, RiskError> {
    // What another run of this process is at is in memory once.
    let mut turn = app.risk_turn.lock().await;
    days::make_ready(app, &mut turn.ready).await?;
    let risk = &app.config.file.risk;
    let policy = Policy {
        tolerance: Tolerance { synchronised_ms: risk.synchronised_ms, free_ms: risk.free_ms },
        deny_clones: risk.deny_clones,
        deny_passback: risk.deny_passback,
        deny_travel: risk.deny_travel,
    };
    // Of a clock that was never told the time, no tariff is in force.
    let today = app.now().ok().and_then(|now| app.config.day_clock().day_of(sql::ms(now)).ok());
    if let Some(today) = today {
        let mut conn = app.store.pool().acquire().await?;
        if let Some(ways) = turn.ways.in_force_in(&mut conn, today, risk.travel_kmh).await? {
            turn.ways = Arc::new(ways);
        }
    }
    let (ways, authorise) = (turn.ways.clone(), Authorisation::of(&app.config)?.is_active());
    let look = Look { app, policy, ways, authorise, limits };
    let mut summary = Summary::default();
    while look.at_some(&mut summary).await? {}
    metrics::counter!("wavepass_risk_alerts_total").increment(summary.alerts as u64);
    if summary.alerts > 0 {
        tracing::warn!(alerts = summary.alerts, denied = summary.denied, "risk");
    }
    Ok(summary)
}

/// What a gateway's runs of risk have of each other.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// The day for which the table of taps was made ready.
    ready: Option<ServiceDay>,
    ways: Arc<Ways>,
}

/// How taps are looked at.
struct Look<'a> {
    app: &'a App,
    policy: Policy,
    ways: Arc<Ways>,
    authorise: bool,
    limits: Limits,
}

impl Look<'_> {
    /// Looks at some of what came; false where that was all.
    async fn at_some(&self, summary: &mut Summary) -> Result<bool, RiskError> {
        let mut tx = self.app.store.begin().await?;
        if let Some(begun) = pass::open_in(&mut tx).await? {
            drop(tx);
            self.at_pass(&begun, summary).await?;
            return Ok(true);
        }
        let (turned, more_passages) = arrivals::enter_passages_in(&mut tx, self.limits.passages).await?;
        self.judge_again_in(&mut tx, &turned, summary).await?;
        let arrived = arrivals::next_in(&mut tx, self.limits.runs, self.limits.pass).await?;
        if arrived.taps > self.limits.taps as i64 {
            pass::begin_in(&mut tx, &arrived.runs, self.app.store.is_shared()).await?;
            let begun = pass::open_in(&mut tx).await?;
            tx.commit().await?;
            if let Some(begun) = begun {
                self.at_pass(&begun, summary).await?;
            }
        } else {
            let taps = arrivals::taps_of_in(&mut tx, &arrived.runs, self.limits.rows).await?;
            self.at_in(&mut tx, &taps, summary).await?;
            arrivals::looked_at_in(&mut tx, &arrived.runs).await?;
            tx.commit().await?;
        }
        // What has come since is the next run's: they never stop coming.
        Ok(more_passages || !arrived.is_all)
    }

    /// Goes through a pass from where it stands, several ranges of tokens at a time; others may do the same.
    async fn at_pass(&self, pass: &Pass, summary: &mut Summary) -> Result<(), RiskError> {
        let mut conn = self.app.store.pool().acquire().await?;
        let runs = arrivals::in_pass(&mut conn).await?;
        drop(conn);
        let taps = arrivals::taps_of(&self.app.store, &runs, self.limits.rows).await?;
        let (lanes, taps) = (self.app.store.lanes(), &taps);
        for own in on_each(pass.parts.clone(), lanes, |part| self.at_part(pass, part, taps)).await? {
            summary.add(own);
        }
        pass.end(&self.app.store).await
    }

    /// Looks at the taps of a range of tokens.
    async fn at_part(&self, pass: &Pass, mut part: Part, taps: &[Seen]) -> Result<Summary, RiskError> {
        let mut summary = Summary::default();
        let before = |edge: &[u8]| taps.partition_point(|tap| tap.token.as_slice() <= edge);
        let end = before(&part.until);
        while part.cursor != part.until {
            let rest = &taps[before(&part.cursor)..end];
            // To the end of a token.
            let most = rest.get(self.limits.taps - 1).map(|last| last.token);
            let now = most.map_or(rest.len(), |last| rest.partition_point(|tap| tap.token <= last));
            let after = match now == rest.len() {
                true => part.until.clone(),
                false => rest[now - 1].token.as_slice().to_vec(),
            };
            let look = || async {
                let mut tx = self.app.store.begin_shard(part.shard).await?;
                if !pass.move_in(&mut tx, &part, &after).await? {
                    return Ok(None);
                }
                let mut own = Summary::default();
                self.at_in(&mut tx, &rest[..now], &mut own).await?;
                tx.commit().await?;
                Ok::<_, RiskError>(Some(own))
            };
            match again_if_met(look).await? {
                Some(own) => {
                    summary.add(own);
                    part.cursor = after;
                }
                // Somebody else works on it: from where they are.
                None => match pass.part(&self.app.store, part.shard).await? {
                    Some(there) => part = there,
                    None => break,
                },
            }
        }
        Ok(summary)
    }

    /// Looks at taps that were not looked at, in the order of tokens and each token's in the order of events, and enters them
    /// among those of their tokens.
    async fn at_in(&self, conn: &mut Conn, arrived: &[Seen], summary: &mut Summary) -> Result<(), RiskError> {
        if arrived.is_empty() {
            return Ok(());
        }
        let app = self.app;
        let mut memories = state::memories_in(conn, arrived).await?;
        summary.tokens += memories.len();
        let mut verdicts: Vec<(TokenKey, Verdict)> = Vec::new();
        let mut doubtful: Vec<Doubtful<'_>> = Vec::new();
        for (token, taps) in by_token(arrived) {
            let Some(memory) = memories.get(&token) else { continue };
            if !memory.agrees(taps) || memory.may_contradict(taps, &self.ways) {
                doubtful.push(Doubtful { token, taps, unsure: memory.has_seen_one_of(taps) });
            } else if taps.iter().any(Seen::is_refuted) {
                verdicts.push((token, rules::judge(taps, self.policy.tolerance, &self.ways)));
            }
        }
        for looked_up in near::around_in(conn, &doubtful, ORDER_WINDOW_MS).await? {
            let near::Around { token, taps, atcs } = looked_up;
            verdicts.push((token, rules::judge(&taps, self.policy.tolerance, &self.ways)));
            if let (Some(atcs), Some(memory)) = (atcs, memories.get_mut(&token)) {
                memory.atcs.get_or_insert(atcs);
            }
        }
        arrivals::enter_in(conn, arrived).await?;
        let mut findings: Vec<(TokenKey, Finding)> = Vec::new();
        let mut withheld = Vec::new();
        for (token, verdict) in verdicts {
            findings.extend(verdict.findings.into_iter().map(|finding| (token, finding)));
            withheld.extend(verdict.withheld);
        }
        let is_registered = |token: &TokenKey| memories.get(token).is_some_and(|memory| memory.is_registered);
        for (token, taps) in by_token(arrived).filter(|(token, _)| !is_registered(token)) {
            findings.extend(taps.first().map(|first| (token, Finding::unknown_token(first))));
        }
        summary.changed += write_withheld(conn, &withheld).await?;
        let now = app.clock.now();
        let raised = write_alerts(conn, &findings, sql::ms(now)).await?;
        summary.alerts += raised.iter().filter(|raised| raised.is_new).count();
        summary.denied += self.deny_found(conn, &raised, arrived, now).await?;
        state::remember_in(conn, arrived, memories).await?;
        if self.authorise {
            let due = arrived.iter().filter_map(|tap| Some((tap.token, tap.service_day?.into()))).collect();
            state::make_due_in(conn, &due).await?;
        }
        Ok(())
    }

    /// Denies tokens for alerts that are new. One that was there before has done so, or was not to: whoever was let in again stays so.
    async fn deny_found(
        &self,
        conn: &mut Conn,
        raised: &[Raised],
        taps: &[Seen],
        now: UnixMs,
    ) -> Result<usize, RiskError> {
        let app = self.app;
        let mut found: BTreeMap<(TokenKey, Cause), bool> = BTreeMap::new();
        for &Raised { token, kind, is_new } in raised {
            if let Some(cause) = self.policy.cause(kind) {
                *found.entry((token, cause)).or_default() |= is_new;
            }
        }
        // Of the few that there are the registry itself is asked, whatever was remembered.
        let registered = deny::registered_in(conn, &found.keys().map(|(token, _)| *token).collect()).await?;
        let is_registered = |token: &TokenKey| registered.contains(token);
        let unsure = found.iter().filter(|((token, _), is_new)| !**is_new && !is_registered(token));
        let denied_before =
            deny::ever_added_in(conn, &unsure.map(|((token, _), _)| *token).collect()).await?;
        let mut additions = Vec::with_capacity(found.len());
        for (entry @ (token, cause), is_new) in &found {
            let number = match is_registered(token) {
                true if !is_new => continue,
                true => None,
                // When the alert was raised, its number may have been nowhere.
                false if !is_new && denied_before.contains(entry) => continue,
                false => match number_in(app, conn, taps_of(taps, token)).await? {
                    Some(number) => Some(number),
                    // Its entries were made unreadable: it cannot be denied until it taps again.
                    None => continue,
                },
            };
            let note = format!("risk: {} alert", cause.word());
            additions.push(Addition { token_key: *token, number, cause: *cause, note });
        }
        Ok(deny::add_in(conn, &*app.clearing, &additions, "risk", now).await?)
    }
}

/// Writes why taps do not count, or that they do, of taps that are among those of their tokens.
async fn write_withheld(conn: &mut Conn, changes: &[Withheld]) -> Result<usize, RiskError> {
    let text = "UPDATE taps SET withheld = v.column3 FROM (VALUES ??) AS v \
                WHERE key_id = v.column1 AND sequence = v.column2";
    // Intake may be folding passages into rows of the same gates: whoever changes taps goes by their keys.
    let mut by_place: Vec<&Withheld> = changes.iter().collect();
    by_place.sort_unstable_by_key(|change| (change.key_id, change.sequence));
    let rows = by_place.iter().map(|change| (&change.key_id.0, change.sequence, change.bits));
    write_many(conn, text, rows).await?;
    let text = "UPDATE token_taps SET withheld = v.column6 FROM (VALUES ??) AS v WHERE utc_day = v.column1 \
                AND token_key = v.column2 AND time_ms = v.column3 AND key_id = v.column4 AND sequence = v.column5";
    let rows = changes.iter().map(|change| {
        let day = change.time_ms.div_euclid(sql::UTC_DAY_MS);
        (day, change.token.as_slice(), change.time_ms, &change.key_id.0, change.sequence, change.bits)
    });
    write_many(conn, text, rows).await?;
    Ok(changes.len())
}

/// An alert that was found.
struct Raised {
    token: TokenKey,
    kind: AlertKind,
    /// It was not there before.
    is_new: bool,
}

/// Enters alerts; the earliest event of an alert stands, whichever run found it.
async fn write_alerts(
    conn: &mut Conn,
    findings: &[(TokenKey, Finding)],
    now_ms: i64,
) -> Result<Vec<Raised>, RiskError> {
    // One row an alert: the same one may have been found at several of its taps.
    let mut alerts: BTreeMap<String, (&TokenKey, &Finding)> = BTreeMap::new();
    for (token, finding) in findings {
        let earliest = alerts.entry(finding.id(token)).or_insert((token, finding));
        if finding.order() < earliest.1.order() {
            *earliest = (token, finding);
        }
    }
    let rows = alerts.iter().map(|(id, (token, finding))| {
        (
            id.as_str(),
            finding.kind.word(),
            token.as_slice(),
            &finding.key_id.0,
            finding.sequence,
            finding.event_ms,
            finding.service_day,
            finding.detail.as_str(),
            now_ms,
        )
    });
    let text = "INSERT INTO alerts (id, kind, token_key, key_id, sequence, event_ms, service_day, detail, raised_ms) \
                VALUES ?? ON CONFLICT (id) DO NOTHING RETURNING id";
    let mut new = BTreeSet::new();
    for row in read_many(conn, text, rows).await? {
        new.insert(row.try_get::<String>(0)?);
    }
    let known = alerts.iter().filter(|(id, _)| !new.contains(*id)).map(|(id, (_, finding))| {
        (id.as_str(), &finding.key_id.0, finding.sequence, finding.event_ms, finding.service_day)
    });
    let text = "UPDATE alerts SET key_id = v.column2, sequence = v.column3, event_ms = v.column4, service_day = v.column5 \
                FROM (VALUES ??) AS v WHERE alerts.id = v.column1 AND (v.column4, v.column2, v.column3) \
                < (alerts.event_ms, alerts.key_id, alerts.sequence)";
    write_many(conn, text, known).await?;
    let raised = alerts.iter().map(|(id, (token, finding))| Raised {
        token: **token,
        kind: finding.kind,
        is_new: new.contains(id),
    });
    Ok(raised.collect())
}

/// The taps of one token, of taps in the order of tokens.
fn taps_of<'a>(taps: &'a [Seen], token: &TokenKey) -> &'a [Seen] {
    let first = taps.partition_point(|tap| tap.token < *token);
    &taps[first..taps.partition_point(|tap| tap.token <= *token)]
}

/// The number of a card that nobody registered, out of the sealed entry of one of its taps that came now and is readable.
async fn number_in(
    app: &App,
    conn: &mut Conn,
    taps: &[Seen],
) -> Result<Option<(wavepass_protocol::token::Token, wavepass_protocol::token::Expiry)>, RiskError> {
    let places = taps.iter().map(|tap| (&tap.key_id.0, tap.sequence));
    let text = "SELECT sealed FROM entries WHERE (key_id, sequence) IN (VALUES ??) AND length(sealed) > 0";
    let found = read_many(conn, text, places).await?;
    let sealed: Option<Vec<u8>> = found.first().map(|row| row.try_get(0)).transpose()?;
    let Some(sealed) = sealed else { return Ok(None) };
    let opened =
        app.clearing.unseal(&[&sealed]).pop().unwrap_or(Err(SealError::Body)).map_err(RiskError::Entry)?;
    match opened.entry() {
        Entry::Tap(tap) => tap.token.zip(tap.expiry).ok_or(RiskError::Entry(SealError::Body)).map(Some),
        Entry::Passage(_) | Entry::Emergency(_) => Err(RiskError::Entry(SealError::Body)),
    }
}
