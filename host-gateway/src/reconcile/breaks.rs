//! From what a reconciliation found to breaks: what is new is opened, what is gone ends by itself and says why.

use std::collections::BTreeMap;

use wavepass_fares::{Fen, ServiceDay};
use wavepass_protocol::time::UnixMs;

use super::MAX_OF_A_KIND;
use crate::store::db::{Conn, query, write_many};
use crate::store::{Audit, Break, StoreError, audit_all_in};

/// Who ends a break that is gone, in the audit log.
pub(super) const BY: &str = "reconciliation";

struct Difference {
    kind: &'static str,
    subject: String,
    detail: String,
    amount: Option<Fen>,
    named_day: Option<i64>,
}

/// Differences so far, at most [`MAX_OF_A_KIND`] of each kind kept.
#[derive(Default)]
pub(super) struct Found {
    pub(super) counts: BTreeMap<&'static str, usize>,
    kept: Vec<Difference>,
}

impl Found {
    pub(super) fn add(&mut self, kind: &'static str, subject: impl Into<String>, detail: impl Into<String>) {
        self.add_of(kind, subject, detail, None);
    }

    /// One that the sums differ by.
    pub(super) fn add_of(
        &mut self,
        kind: &'static str,
        subject: impl Into<String>,
        detail: impl Into<String>,
        amount: Option<Fen>,
    ) {
        self.push(kind, subject.into(), detail.into(), (amount, None));
    }

    /// A line of theirs that the sums differ by, and the service day that it names, if any.
    pub(super) fn add_line(
        &mut self,
        kind: &'static str,
        subject: String,
        detail: String,
        of: (Fen, Option<i64>),
    ) {
        self.push(kind, subject, detail, (Some(of.0), of.1));
    }

    fn push(
        &mut self,
        kind: &'static str,
        subject: String,
        detail: String,
        (amount, named_day): (Option<Fen>, Option<i64>),
    ) {
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        if *count <= MAX_OF_A_KIND {
            self.kept.push(Difference { kind, subject, detail, amount, named_day });
        }
    }

    /// There are so many of a kind, of which only some were looked at one by one.
    pub(super) fn count(&mut self, kind: &'static str, count: usize) {
        if count > 0 {
            self.counts.insert(kind, count);
        }
    }
}

/// Which breaks a reconciliation speaks for.
pub(super) struct Scope<'a> {
    /// Those of this day,
    pub(super) day: ServiceDay,
    /// of these kinds,
    pub(super) kinds: &'a [&'static str],
    /// and where it is given about this alone.
    pub(super) subject: Option<&'a str>,
    /// Why one that is gone ends.
    pub(super) gone: &'a str,
    /// One that a person ended stays so while it is found.
    pub(super) kept_ended: bool,
}

/// What changed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Recorded {
    /// Breaks that are open now and were not.
    pub(super) opened: u64,
    /// Breaks that are gone.
    pub(super) ended: u64,
}

/// Opens what was found, and ends what is gone, in the caller's transaction.
pub(super) async fn record_in(
    conn: &mut Conn,
    scope: &Scope<'_>,
    mut found: Found,
    now_ms: i64,
) -> Result<Recorded, StoreError> {
    for (&kind, &count) in &found.counts {
        if count > MAX_OF_A_KIND {
            let detail = format!("{count} differences, of which {MAX_OF_A_KIND} are listed");
            found.kept.push(Difference {
                kind,
                subject: "all".into(),
                detail,
                amount: None,
                named_day: None,
            });
        }
    }
    let at = UnixMs(u64::try_from(now_ms).unwrap_or(0));
    let service_day = Some(scope.day.number());
    let mut known = known_in(conn, scope).await?;
    let mut now: BTreeMap<String, &Difference> = BTreeMap::new();
    for d in &found.kept {
        now.insert(Break { kind: d.kind, subject: &d.subject, service_day, detail: &d.detail, at }.id(), d);
    }
    let (there, new): (Vec<_>, Vec<_>) = now.into_iter().partition(|(id, _)| known.contains_key(id));
    there.iter().for_each(|(id, _)| _ = known.remove(id));
    let rows = new.iter().map(|(id, d)| {
        let amount = d.amount.map(|fen| fen.0);
        (id, d.kind, &d.subject, scope.day.number(), &d.detail, amount, d.named_day, now_ms)
    });
    // One that was there before, ended, and is back keeps when it was first found.
    let text = "INSERT INTO breaks (id, kind, subject, service_day, detail, amount_fen, named_day, opened_ms) VALUES ?? \
                ON CONFLICT (id) DO UPDATE SET closed_ms = NULL, ended_by = '', end_reason = ''";
    write_many(conn, text, rows).await?;
    let gone = known.keys().map(|id| (id, now_ms, BY, scope.gone));
    let text = "UPDATE breaks SET closed_ms = COALESCE(closed_ms, v.column2), ended_by = v.column3, end_reason = v.column4 \
                FROM (VALUES ??) AS v WHERE id = v.column1";
    write_many(conn, text, gone).await?;
    let lines: Vec<Audit<'_>> = known
        .keys()
        .map(|id| Audit { at, user: BY, action: "break.end", subject: id, detail: scope.gone })
        .collect();
    audit_all_in(conn, &lines).await?;
    let ended = known.values().filter(|open| **open).count() as u64;
    Ok(Recorded { opened: new.len() as u64, ended })
}

/// The breaks that a scope speaks for, by id: those that are open, and where they are kept those that a person ended.
async fn known_in(conn: &mut Conn, scope: &Scope<'_>) -> Result<BTreeMap<String, bool>, StoreError> {
    let rows: Vec<(String, i64)> = query(
        "SELECT id, CASE WHEN closed_ms IS NULL THEN 1 ELSE 0 END FROM breaks WHERE service_day = ? AND kind IN ?? \
         AND (? IS NULL OR subject = ?) AND (closed_ms IS NULL OR (? = 1 AND ended_by <> '' AND ended_by <> ?))",
    )
    .bind(scope.day.number())
    .bind_list(scope.kinds.iter().copied())
    .bind(scope.subject.map(str::to_owned))
    .bind(scope.subject.map(str::to_owned))
    .bind(scope.kept_ended)
    .bind(BY)
    .rows(conn)
    .await?;
    Ok(rows.into_iter().map(|(id, open)| (id, open == 1)).collect())
}

/// What of the differences of a day a person has ended, in money.
pub(super) async fn cleared_in(
    conn: &mut Conn,
    day: ServiceDay,
    kinds: &[&'static str],
) -> Result<Fen, StoreError> {
    let sum: i64 = query(
        "SELECT CAST(COALESCE(SUM(amount_fen), 0) AS BIGINT) FROM breaks WHERE service_day = ? AND kind IN ?? \
         AND closed_ms IS NOT NULL AND ended_by <> '' AND ended_by <> ?",
    )
    .bind(day.number())
    .bind_list(kinds.iter().copied())
    .bind(BY)
    .scalar(conn)
    .await?;
    Ok(Fen(sum))
}
