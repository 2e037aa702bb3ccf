//! Risk: what a token's taps say together that no single tap says.
//!
//! [`run`] looks at what has come since the last run. Taps that go on where their token was, later and with higher ATCs than
//! all before, contradict nothing, and nothing else of the token is read. For others it works on all of the token's
//! taps near them, so that its findings depend on what was tapped and not on the order of arrival. Alerts are named by
//! their content: found again, they are the same alerts.
//!
//! The rules:
//! - one ATC is used once. Opened twice with different data, there are two cards (`clone`); with the same data
//!   under two KSNs, one tap was sealed twice (`resealed`). The earliest tap counts, the others do not;
//! - ATCs rise with time. A tap with a lower ATC than an earlier one, by more than the clocks can be off, tells of
//!   two cards (`clone_order`);
//! - a cryptogram that the bank's keys refute (`invalid_cryptogram`): the tap does not count;
//! - a token that nobody issued (`unknown_token`): the tap is kept and waits.

mod arrivals;
mod atcs;
pub mod authorisation;
mod near;
mod rules;
pub(crate) mod state;
#[cfg(test)]
mod tests;

use crate::cli::App;
use crate::config::ConfigError;
use crate::keys::TokenKey;
use crate::lists::deny::{self, Addition, Cause, DenyError};
use crate::store::db::{Conn, One, read_many, write_many};
use crate::store::{StoreError, sql};
use near::Doubtful;
use rules::{Finding, Seen, Verdict};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use wavepass_protocol::dukpt::KeyId;
use wavepass_protocol::seal::SealError;
use wavepass_protocol::tap::Entry;

pub use authorisation::Authorisation;
pub(crate) use near::{on_days, tapped_utc_days_in};
pub use rules::{Policy, Tolerance};
pub use state::RiskState;

/// Taps in one transaction, unless one run of entries has more: some tenths of a second where much has waited, so that
/// intake never waits long, and many enough that those of a token, and of neighbours in the order of keys, are written together.
const MAX_TAPS: i64 = 32_768;
/// Runs of entries in one transaction.
const MAX_RUNS: i64 = 4_096;
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

/// Looks at every tap that came before it and was not looked at; safe to call at any time, and twice.
pub async fn run(app: &App) -> Result<Summary, RiskError> {
    let risk = &app.config.file.risk;
    let policy = Policy {
        tolerance: Tolerance { synchronised_ms: risk.synchronised_ms, free_ms: risk.free_ms },
        deny_clones: risk.deny_clones,
    };
    let authorise = Authorisation::of(&app.config)?.is_active();
    let mut summary = Summary::default();
    loop {
        let mut tx = app.store.begin().await?;
        let arrived = arrivals::next_in(&mut tx, MAX_RUNS, MAX_TAPS).await?;
        if arrived.runs.is_empty() {
            break;
        }
        summary.tokens += arrived.taps.len();
        run_in(app, &mut tx, &arrived.taps, &policy, &mut summary).await?;
        if authorise {
            let taps = arrived.taps.iter().flat_map(|(token, taps)| taps.iter().map(move |tap| (token, tap)));
            let due = taps.filter_map(|(token, tap)| Some((*token, tap.service_day?))).collect();
            state::make_due_in(&mut tx, &due).await?;
        }
        arrivals::looked_at_in(&mut tx, &arrived).await?;
        tx.commit().await?;
        // What has come since is the next run's: they never stop coming.
        if arrived.is_all {
            break;
        }
    }
    metrics::counter!("wavepass_risk_alerts_total").increment(summary.alerts as u64);
    if summary.alerts > 0 {
        tracing::warn!(alerts = summary.alerts, denied = summary.denied, "risk");
    }
    Ok(summary)
}

/// Looks at taps that were not looked at, each token's in order, which [`arrivals`] enters among its taps afterwards.
async fn run_in(
    app: &App,
    conn: &mut Conn,
    arrived: &BTreeMap<TokenKey, Vec<Seen>>,
    policy: &Policy,
    summary: &mut Summary,
) -> Result<(), RiskError> {
    let mut memories = state::memories_in(conn, arrived.keys()).await?;
    let mut verdicts: Vec<(TokenKey, Verdict)> = Vec::new();
    let mut doubtful: Vec<Doubtful<'_>> = Vec::new();
    for (token, taps) in arrived {
        let Some(memory) = memories.get(token) else { continue };
        if !memory.goes_on(taps) {
            doubtful.push(Doubtful { token: *token, taps, unsure: memory.has_seen_one_of(taps) });
        } else if taps.iter().any(Seen::is_refuted) {
            verdicts.push((*token, rules::judge(taps, policy.tolerance)));
        }
    }
    for looked_up in near::around_in(conn, &doubtful, ORDER_WINDOW_MS).await? {
        let near::Around { token, taps, atcs } = looked_up;
        verdicts.push((token, rules::judge(&taps, policy.tolerance)));
        if let (Some(atcs), Some(memory)) = (atcs, memories.get_mut(&token)) {
            memory.atcs.get_or_insert(atcs);
        }
    }
    let mut findings: Vec<(TokenKey, Finding)> = Vec::new();
    let mut withheld = Vec::new();
    for (token, verdict) in verdicts {
        findings.extend(verdict.findings.into_iter().map(|finding| (token, finding)));
        withheld.extend(verdict.withheld);
    }
    let is_registered = |token: &TokenKey| memories.get(token).is_some_and(|memory| memory.is_registered);
    for (token, taps) in arrived.iter().filter(|(token, _)| !is_registered(token)) {
        findings.extend(taps.first().map(|first| (*token, Finding::unknown_token(first))));
    }
    summary.changed += write_withheld(conn, &withheld).await?;
    summary.alerts += write_alerts(conn, &findings, sql::ms(app.clock.now())).await?;
    if policy.deny_clones {
        let clones: BTreeSet<TokenKey> =
            findings.iter().filter(|(_, f)| f.kind.is_clone()).map(|(token, _)| *token).collect();
        summary.denied += deny_clones(app, conn, &clones, arrived, is_registered).await?;
    }
    state::remember_in(conn, arrived, memories).await?;
    Ok(())
}

fn token_key(bytes: &[u8]) -> Result<TokenKey, RiskError> {
    TokenKey::from_slice(bytes).ok_or(RiskError::Store(StoreError::Damaged { what: "token key" }))
}

async fn write_withheld(conn: &mut Conn, changes: &[(KeyId, u32, u8)]) -> Result<usize, RiskError> {
    let text = "UPDATE taps SET withheld = v.column3 FROM (VALUES ??) AS v \
                WHERE key_id = v.column1 AND sequence = v.column2";
    let rows = changes.iter().map(|(key_id, sequence, withheld)| (&key_id.0, *sequence, *withheld));
    write_many(conn, text, rows).await?;
    Ok(changes.len())
}

/// Enters alerts; the earliest event of an alert stands, whichever run found it. Gives how many are new.
async fn write_alerts(
    conn: &mut Conn,
    findings: &[(TokenKey, Finding)],
    now_ms: i64,
) -> Result<usize, RiskError> {
    // One row an alert: the same one may have been found at several of its taps.
    let mut alerts: BTreeMap<String, (&TokenKey, &Finding)> = BTreeMap::new();
    for (token, finding) in findings {
        let earliest = alerts.entry(finding.id(token)).or_insert((token, finding));
        if finding.order() < earliest.1.order() {
            *earliest = (token, finding);
        }
    }
    let ids = alerts.keys().map(|id| One(id.as_str()));
    let known = read_many(conn, "SELECT 1 FROM alerts WHERE id IN ??", ids).await?.len();
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
                VALUES ?? ON CONFLICT (id) DO UPDATE SET key_id = excluded.key_id, sequence = excluded.sequence, \
                event_ms = excluded.event_ms, service_day = excluded.service_day \
                WHERE (excluded.event_ms, excluded.key_id, excluded.sequence) \
                < (alerts.event_ms, alerts.key_id, alerts.sequence)";
    write_many(conn, text, rows).await?;
    Ok(alerts.len() - known)
}

async fn deny_clones(
    app: &App,
    conn: &mut Conn,
    clones: &BTreeSet<TokenKey>,
    arrived: &BTreeMap<TokenKey, Vec<Seen>>,
    is_registered: impl Fn(&TokenKey) -> bool,
) -> Result<usize, RiskError> {
    let mut additions = Vec::with_capacity(clones.len());
    for token in clones {
        let number = match is_registered(token) {
            true => None,
            false => match number_in(app, conn, arrived.get(token)).await? {
                Some(number) => Some(number),
                // Its entries were made unreadable: it cannot be denied until it taps again.
                None => continue,
            },
        };
        additions.push(Addition {
            token_key: *token,
            number,
            cause: Cause::Clone,
            note: "risk: clone alert".into(),
        });
    }
    Ok(deny::add_in(conn, &*app.clearing, &additions, "risk", app.clock.now()).await?)
}

/// The number of a card that nobody registered, out of the sealed entry of one of its taps that came now and is readable.
async fn number_in(
    app: &App,
    conn: &mut Conn,
    taps: Option<&Vec<Seen>>,
) -> Result<Option<(wavepass_protocol::token::Token, wavepass_protocol::token::Expiry)>, RiskError> {
    let places = taps.into_iter().flatten().map(|tap| (&tap.key_id.0, tap.sequence));
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
