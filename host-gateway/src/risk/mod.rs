//! Risk: what a token's taps say together that no single tap says.
//!
//! [`run`] looks at every token with taps that it has not seen, and works on all of the token's taps near them, so
//! that its findings depend on what was tapped and not on the order of arrival. Alerts are named by their
//! content: found again, they are the same alerts.
//!
//! The rules:
//! - one ATC is used once. Opened twice with different data, there are two cards (`clone`); with the same data
//!   under two KSNs, one tap was sealed twice (`resealed`). The earliest tap counts, the others do not;
//! - ATCs rise with time. A tap with a lower ATC than an earlier one, by more than the clocks can be off, tells of
//!   two cards (`clone_order`);
//! - a cryptogram that the bank's keys refute (`invalid_cryptogram`): the tap does not count;
//! - a token that nobody issued (`unknown_token`): the tap is kept and waits.

pub mod authorisation;
mod rules;
pub(crate) mod state;
#[cfg(test)]
mod tests;

use crate::cli::App;
use crate::config::ConfigError;
use crate::keys::TokenKey;
use crate::lists::deny::{self, Addition, Cause, DenyError};
use crate::store::db::{Conn, One, query, read_many, write_many};
use crate::store::{StoreError, sql};
use rules::{Finding, Seen};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use wavepass_protocol::dukpt::KeyId;
use wavepass_protocol::seal::SealError;
use wavepass_protocol::tap::Entry;

pub use authorisation::Authorisation;
pub use rules::{Policy, Tolerance};
pub use state::RiskState;

/// Tokens in one transaction: some thousands of taps, a tenth of a second, so that intake never waits long.
const MAX_TOKENS: usize = 1_000;
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

/// Looks at every token with taps that were not looked at; safe to call at any time, and twice.
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
        let tokens = unchecked_in(&mut tx).await?;
        if tokens.is_empty() {
            break;
        }
        summary.tokens += tokens.len();
        let taps = run_in(app, &mut tx, &tokens, &policy, &mut summary).await?;
        note_in(&mut tx, &taps, authorise).await?;
        tx.commit().await?;
    }
    metrics::counter!("wavepass_risk_alerts_total").increment(summary.alerts as u64);
    if summary.alerts > 0 {
        tracing::warn!(alerts = summary.alerts, denied = summary.denied, "risk");
    }
    Ok(summary)
}

async fn unchecked_in(conn: &mut Conn) -> Result<Vec<TokenKey>, RiskError> {
    let rows = query("SELECT token_key FROM unchecked ORDER BY token_key LIMIT ?")
        .bind(MAX_TOKENS as i64)
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| token_key(row.try_get(0)?)).collect()
}

fn token_key(bytes: &[u8]) -> Result<TokenKey, RiskError> {
    TokenKey::from_slice(bytes).ok_or(RiskError::Store(StoreError::Damaged { what: "token key" }))
}

async fn run_in(
    app: &App,
    conn: &mut Conn,
    tokens: &[TokenKey],
    policy: &Policy,
    summary: &mut Summary,
) -> Result<BTreeMap<TokenKey, Vec<Seen>>, RiskError> {
    let taps = taps_in(conn, tokens).await?;
    let known = registered_in(conn, tokens).await?;
    let mut findings = Vec::new();
    let mut withheld = Vec::new();
    for (token, taps) in &taps {
        let verdict = rules::judge(taps, policy.tolerance);
        findings.extend(verdict.findings.into_iter().map(|finding| (*token, finding)));
        if !known.contains(token)
            && let Some(first) = taps.iter().filter(|t| !t.checked).min_by_key(|t| t.order())
        {
            findings.push((*token, Finding::unknown_token(first)));
        }
        withheld.extend(verdict.withheld);
    }
    summary.changed += write_withheld(conn, &withheld).await?;
    summary.alerts += write_alerts(conn, &findings, sql::ms(app.clock.now())).await?;
    if policy.deny_clones {
        let clones: BTreeSet<TokenKey> =
            findings.iter().filter(|(_, f)| f.kind.is_clone()).map(|(token, _)| *token).collect();
        summary.denied += deny_clones(app, conn, &clones, &known).await?;
    }
    mark_checked(conn, tokens).await?;
    Ok(taps)
}

/// Takes note of what tokens have at risk now, and of whom authorisation has to look at.
async fn note_in(
    conn: &mut Conn,
    taps: &BTreeMap<TokenKey, Vec<Seen>>,
    authorise: bool,
) -> Result<(), RiskError> {
    let mut times: BTreeMap<TokenKey, BTreeSet<i64>> = BTreeMap::new();
    let mut due = BTreeSet::new();
    for (token, tap) in taps.iter().flat_map(|(token, taps)| taps.iter().map(move |tap| (token, tap))) {
        if tap.checked {
            continue;
        }
        times.entry(*token).or_default().insert(tap.time_ms);
        due.extend(tap.service_day.map(|day| (*token, day)));
    }
    state::note_taps_in(conn, &times).await?;
    if authorise {
        state::make_due_in(conn, &due).await?;
    }
    Ok(())
}

/// The taps that a run looks at, of some tokens: those near an unchecked one (last column 1), and every other with the same
/// ATC as one of them (0).
///
/// The join orders and indexes are given: over a table of months, a guess of the planner's would read all of it. Near taps
/// are found by their UTC days; where a token's taps are more than a month apart, which a gate's wrong clock can do, all of
/// the token's are read.
const NEAR_TAPS: &str = "WITH RECURSIVE \
     near AS MATERIALIZED (SELECT token_key AS tk, from_ms, upto_ms, from_ms - ? AS lo, upto_ms + ? AS hi \
     FROM unchecked WHERE token_key IN ??), \
     days AS (SELECT tk, from_ms, upto_ms, lo, hi, lo / 86400000 AS day FROM near WHERE hi - lo < 2678400000 \
     UNION ALL SELECT tk, from_ms, upto_ms, lo, hi, day + 1 FROM days WHERE day < hi / 86400000), \
     around AS MATERIALIZED ( \
     SELECT t.key_id, t.sequence, t.token_key, t.time_ms, t.clock, t.service_day, t.atc, t.cryptogram, t.card_digest, \
     t.withheld, from_ms, upto_ms, lo, hi FROM days CROSS JOIN taps AS t INDEXED BY taps_day \
     WHERE t.time_ms / 86400000 = day AND t.token_key = tk AND t.opened = 1 AND t.time_ms BETWEEN lo AND hi \
     UNION ALL \
     SELECT t.key_id, t.sequence, t.token_key, t.time_ms, t.clock, t.service_day, t.atc, t.cryptogram, t.card_digest, \
     t.withheld, from_ms, upto_ms, lo, hi FROM near CROSS JOIN taps AS t INDEXED BY taps_atc \
     WHERE hi - lo >= 2678400000 AND t.token_key = tk AND t.opened = 1 AND t.time_ms BETWEEN lo AND hi) \
     SELECT key_id, sequence, token_key, time_ms, clock, service_day, atc, cryptogram, card_digest, withheld, \
     CASE WHEN time_ms BETWEEN from_ms AND upto_ms THEN 0 ELSE 1 END, 1 FROM around \
     UNION ALL \
     SELECT DISTINCT t.key_id, t.sequence, t.token_key, t.time_ms, t.clock, t.service_day, t.atc, t.cryptogram, \
     t.card_digest, t.withheld, 1, 0 FROM around AS a CROSS JOIN taps AS t INDEXED BY taps_atc \
     WHERE t.token_key = a.token_key AND t.atc = a.atc AND t.opened = 1 AND t.time_ms NOT BETWEEN a.lo AND a.hi";

async fn taps_in(conn: &mut Conn, tokens: &[TokenKey]) -> Result<BTreeMap<TokenKey, Vec<Seen>>, RiskError> {
    let mut taps: BTreeMap<TokenKey, Vec<Seen>> = BTreeMap::new();
    let near = query(NEAR_TAPS).bind(ORDER_WINDOW_MS).bind(ORDER_WINDOW_MS);
    let rows = near.bind_list(tokens.iter().map(|token| token.as_slice())).fetch_all(conn).await?;
    for row in rows {
        let damaged = |what| RiskError::Store(StoreError::Damaged { what });
        let seen = Seen {
            key_id: KeyId(row.try_get::<&[u8]>(0)?.try_into().map_err(|_| damaged("key id"))?),
            sequence: row.try_get(1)?,
            time_ms: row.try_get(3)?,
            clock: row.try_get(4)?,
            service_day: row.try_get(5)?,
            atc: row.try_get(6)?,
            cryptogram: row.try_get(7)?,
            digest: row.try_get::<Option<Vec<u8>>>(8)?.unwrap_or_default(),
            withheld: row.try_get(9)?,
            checked: row.try_get(10)?,
            near: row.try_get(11)?,
        };
        taps.entry(token_key(row.try_get(2)?)?).or_default().push(seen);
    }
    Ok(taps)
}

async fn registered_in(conn: &mut Conn, tokens: &[TokenKey]) -> Result<BTreeSet<TokenKey>, RiskError> {
    // One whose person was erased stands for nobody: what comes of it is as of a card that nobody registered.
    let text = "SELECT token_key FROM tokens WHERE token_key IN ?? AND account_id <> ''";
    let rows = read_many(conn, text, tokens.iter().map(|token| One(token.as_slice()))).await?;
    rows.iter().map(|row| token_key(row.try_get(0)?)).collect()
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
    registered: &BTreeSet<TokenKey>,
) -> Result<usize, RiskError> {
    let mut additions = Vec::with_capacity(clones.len());
    for token in clones {
        let number = match registered.contains(token) {
            true => None,
            false => match number_in(app, conn, token).await? {
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

/// The number of a card that nobody registered, out of the sealed entry of one of its taps that is still readable.
async fn number_in(
    app: &App,
    conn: &mut Conn,
    token: &TokenKey,
) -> Result<Option<(wavepass_protocol::token::Token, wavepass_protocol::token::Expiry)>, RiskError> {
    let sealed: Option<Vec<u8>> = query(
        "SELECT e.sealed FROM taps t JOIN entries e ON (e.key_id, e.sequence) = (t.key_id, t.sequence) \
         WHERE t.token_key = ? AND t.opened = 1 AND length(e.sealed) > 0 LIMIT 1",
    )
    .bind(token.as_slice())
    .optional(conn)
    .await?;
    let Some(sealed) = sealed else { return Ok(None) };
    let opened =
        app.clearing.unseal(&[&sealed]).pop().unwrap_or(Err(SealError::Body)).map_err(RiskError::Entry)?;
    match opened.entry() {
        Entry::Tap(tap) => tap.token.zip(tap.expiry).ok_or(RiskError::Entry(SealError::Body)).map(Some),
        Entry::Passage(_) | Entry::Emergency(_) => Err(RiskError::Entry(SealError::Body)),
    }
}

async fn mark_checked(conn: &mut Conn, tokens: &[TokenKey]) -> Result<(), RiskError> {
    query("DELETE FROM unchecked WHERE token_key IN ??")
        .bind_list(tokens.iter().map(|token| token.as_slice()))
        .execute(conn)
        .await?;
    Ok(())
}
