//! The rows that intake writes of what was accepted.

use super::forgotten::{FORGOTTEN, Gone};
use super::prepare::{Body, TapRow};
use super::{gaps, marks};
use crate::keys::TokenKey;
use crate::store::db::{Conn, query, write_many};
use crate::store::{Break, StoreError, raise_break_in, sql};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use wavepass_protocol::dukpt::KeyId;
use wavepass_protocol::seal::Header;
use wavepass_protocol::tap::{Outcome, Reason};
use wavepass_protocol::time::UnixMs;

/// An entry that will be written.
pub(super) struct Accepted<'a> {
    pub(super) header: Header,
    pub(super) sealed: &'a [u8],
    pub(super) body: &'a Body,
    pub(super) late: bool,
}

/// Writes everything that was accepted of a group.
pub(super) async fn write(conn: &mut Conn, accepted: &[Accepted<'_>], now: UnixMs) -> Result<(), StoreError> {
    write_entries(conn, accepted, now).await?;
    gaps::end_filled_in(conn, accepted, now).await?;
    let gone = Gone::load(conn, taps_of(accepted).map(|(_, tap)| tap)).await?;
    let late_taps = write_taps_and_passages(conn, accepted, &gone, now).await?;
    gone.raise_in(conn, taps_of(accepted), now).await?;
    write_opened(conn, accepted, now).await?;
    adopt_waiting_passages(conn, &late_taps).await?;
    write_emergencies(conn, accepted, now).await
}

/// Raises a break about a gate.
pub(super) async fn raise(
    conn: &mut Conn,
    kind: &str,
    key_id: KeyId,
    detail: &str,
    at: UnixMs,
) -> Result<(), StoreError> {
    metrics::counter!("wavepass_intake_breaks_total", "kind" => kind.to_owned()).increment(1);
    let found = Break { kind, subject: &sql::hex(&key_id.0), service_day: None, detail, at };
    raise_break_in(conn, &found).await?;
    Ok(())
}

fn taps_of<'a>(accepted: &'a [Accepted<'a>]) -> impl Iterator<Item = (KeyId, &'a TapRow)> {
    accepted.iter().filter_map(|entry| match entry.body {
        Body::Tap(row) => Some((entry.header.ksn.key_id, &**row)),
        _ => None,
    })
}

/// Entries of one gate that follow each other, with opened taps for risk to look at.
struct Arrival {
    key_id: KeyId,
    from: u32,
    upto: u32,
    taps: u32,
    from_ms: i64,
    upto_ms: i64,
}

/// The runs of what was accepted; those without an opened tap of a token are left out.
fn arrivals(accepted: &[Accepted<'_>]) -> Vec<Arrival> {
    let mut entries: Vec<(KeyId, u32, Option<i64>)> = accepted
        .iter()
        .map(|Accepted { header, body, .. }| {
            let time_ms = match body {
                Body::Tap(row) if row.opened && row.token_key.is_some() => Some(row.time_ms),
                _ => None,
            };
            (header.ksn.key_id, header.sequence, time_ms)
        })
        .collect();
    entries.sort_unstable();
    let follow = |a: &(KeyId, u32, _), b: &(KeyId, u32, _)| a.0 == b.0 && a.1.checked_add(1) == Some(b.1);
    let runs = entries.chunk_by(follow).filter_map(|run| {
        let times = || run.iter().filter_map(|entry| entry.2);
        Some(Arrival {
            key_id: run[0].0,
            from: run[0].1,
            upto: run[run.len() - 1].1,
            taps: times().count() as u32,
            from_ms: times().min()?,
            upto_ms: times().max()?,
        })
    });
    runs.collect()
}

/// Tells risk what it has to look at, and clearing which days have taps and which denied tokens were tapped.
async fn write_opened(conn: &mut Conn, accepted: &[Accepted<'_>], now: UnixMs) -> Result<(), StoreError> {
    let mut days = BTreeSet::new();
    let mut denied: BTreeMap<TokenKey, i64> = BTreeMap::new();
    for Accepted { header, body, .. } in accepted {
        let Body::Tap(row) = body else { continue };
        if !row.opened {
            if let Some(key) = row.token_key.filter(|_| row.reason == Some(Reason::Denied as u8)) {
                let last = denied.entry(key).or_insert(row.time_ms);
                *last = (*last).max(row.time_ms);
            }
            continue;
        }
        days.extend(row.service_day.map(|day| (day, header.ksn.key_id)));
        if row.token_key.is_none() {
            let (subject, detail) = (sql::hex(&header.ksn.key_id.0), header.sequence.to_string());
            let (service_day, at) = (row.service_day, now);
            let found = Break { kind: "no_token", subject: &subject, service_day, detail: &detail, at };
            raise_break_in(conn, &found).await?;
        }
    }
    let runs = arrivals(accepted);
    let text =
        "INSERT INTO arrivals (key_id, from_sequence, upto_sequence, taps, from_ms, upto_ms) VALUES ??";
    let rows = runs.iter().map(|r| (&r.key_id.0, r.from, r.upto, r.taps, r.from_ms, r.upto_ms));
    write_many(conn, text, rows).await?;
    let text = "INSERT INTO tapped_days (service_day, key_id) VALUES ?? ON CONFLICT DO NOTHING";
    write_many(conn, text, days.iter().map(|(day, key_id)| (*day, &key_id.0))).await?;
    let taps = accepted.iter().filter_map(|Accepted { header, body, .. }| match body {
        // A tap of no day was made by a clock that nobody believes.
        Body::Tap(row) if row.service_day.is_some() => Some((header.ksn.key_id.0, row.time_ms)),
        _ => None,
    });
    marks::mark_in(conn, taps).await?;
    let text = "INSERT INTO retaps (token_key, at_ms) VALUES ?? ON CONFLICT (token_key) DO UPDATE SET \
                at_ms = CASE WHEN excluded.at_ms > retaps.at_ms THEN excluded.at_ms ELSE retaps.at_ms END";
    write_many(conn, text, denied.iter().map(|(key, at_ms)| (key.as_slice(), *at_ms))).await?;
    Ok(())
}

/// Writes the emergencies of the group: rare enough for a statement each.
async fn write_emergencies(
    conn: &mut Conn,
    accepted: &[Accepted<'_>],
    now: UnixMs,
) -> Result<(), StoreError> {
    for Accepted { header, body, .. } in accepted {
        let Body::Emergency { time_ms, clock, active } = body else { continue };
        let key_id = header.ksn.key_id;
        tracing::warn!(key_id = sql::hex(&key_id.0), active, "the emergency input of a gate");
        let statement = "INSERT INTO emergencies (key_id, sequence, time_ms, clock, active, received_ms) \
                         VALUES (?, ?, ?, ?, ?, ?)";
        query(statement)
            .bind(&key_id.0[..])
            .bind(i64::from(header.sequence))
            .bind(*time_ms)
            .bind(*clock)
            .bind(*active)
            .bind(sql::ms(now))
            .execute(&mut *conn)
            .await?;
        if *clock == 0 {
            // Its time is worth nothing: no period can be made of it without a person.
            let detail = format!("{} at {time_ms}", header.sequence);
            raise(conn, "emergency_time", key_id, &detail, now).await?;
        }
    }
    Ok(())
}

async fn write_entries(conn: &mut Conn, accepted: &[Accepted<'_>], now: UnixMs) -> Result<(), StoreError> {
    let rows = accepted.iter().map(|entry| {
        let kind = match entry.body {
            Body::Tap(_) => 1_u8,
            Body::Passage { .. } => 2,
            Body::Emergency { .. } => 3,
        };
        let Header { ksn, sequence, .. } = &entry.header;
        (&ksn.key_id.0, *sequence, ksn.counter, kind, sql::ms(now), entry.sealed)
    });
    let text = "INSERT INTO entries (key_id, sequence, counter, kind, received_ms, sealed) VALUES ??";
    write_many(conn, text, rows).await?;
    Ok(())
}

/// A tap as written here.
const INSERT_TAPS: &str = "INSERT INTO taps (key_id, sequence, token_key, time_ms, clock, service_day, station, direction, \
     opened, reason, atc, cryptogram, oda, card_digest, passage, withheld, gate_us, received_ms) VALUES ??";
/// Bit of `withheld`: an opened tap without a token, which no gate of ours makes, and for which nobody can be charged.
const NO_TOKEN: u8 = 8;

/// Which of two passages of one tap stands: somebody passed, then unknown, then nobody; whatever came first.
const fn stronger(a: Outcome, b: Outcome) -> Outcome {
    match (a, b) {
        (Outcome::Passed, _) | (_, Outcome::Passed) => Outcome::Passed,
        (Outcome::Unknown, _) | (_, Outcome::Unknown) => Outcome::Unknown,
        _ => Outcome::NotPassed,
    }
}

type Place = (KeyId, u32);

/// Writes taps, with the passages of the same group; gives the taps that came late.
async fn write_taps_and_passages(
    conn: &mut Conn,
    accepted: &[Accepted<'_>],
    gone: &Gone,
    now: UnixMs,
) -> Result<Vec<Place>, StoreError> {
    let mut passages: HashMap<Place, Outcome> = HashMap::new();
    let mut taps: Vec<(&Header, &TapRow)> = Vec::with_capacity(accepted.len());
    let mut late = Vec::new();
    for entry in accepted {
        let key_id = entry.header.ksn.key_id;
        match entry.body {
            Body::Tap(row) => {
                taps.push((&entry.header, row));
                if entry.late {
                    late.push((key_id, entry.header.sequence));
                }
            }
            Body::Passage { of, outcome } => {
                passages.entry((key_id, *of)).and_modify(|o| *o = stronger(*o, *outcome)).or_insert(*outcome);
            }
            Body::Emergency { .. } => {}
        }
    }
    let rows = taps.iter().map(|(header, row)| {
        let passage = passages.remove(&(header.ksn.key_id, header.sequence));
        (
            &header.ksn.key_id.0,
            header.sequence,
            row.token_key.as_ref().map(|key| &key.0),
            row.time_ms,
            row.clock,
            row.service_day,
            row.station.as_str(),
            row.direction,
            row.opened,
            row.reason,
            row.atc,
            row.cryptogram,
            row.oda,
            row.card_digest.as_ref().map(|digest| &digest[..]),
            passage.map(|outcome| outcome as u8),
            (if row.opened && row.token_key.is_none() { NO_TOKEN } else { 0 })
                | (if gone.withholds(row) { FORGOTTEN } else { 0 }),
            row.gate_us,
            sql::ms(now),
        )
    });
    write_many(conn, INSERT_TAPS, rows).await?;
    let mut rest: Vec<(Place, Outcome)> = passages.into_iter().collect();
    rest.sort_unstable_by_key(|(place, _)| *place);
    write_passages(conn, &rest).await?;
    Ok(late)
}

/// The stronger of the passage in `a` and the one in `b`, in SQL: see [`stronger`].
macro_rules! stronger_sql {
    ($a:literal, $b:literal) => {
        concat!(
            "CASE WHEN ",
            $a,
            " = 1 OR ",
            $b,
            " = 1 THEN 1 WHEN ",
            $a,
            " = 2 OR ",
            $b,
            " = 2 THEN 2 ELSE 0 END"
        )
    };
}

/// Folds passages into taps that are there; the others wait for theirs.
async fn write_passages(conn: &mut Conn, passages: &[(Place, Outcome)]) -> Result<(), StoreError> {
    const FOLD: &str = concat!(
        "UPDATE taps SET passage = ",
        stronger_sql!("coalesce(taps.passage, 0)", "v.column3"),
        " FROM (VALUES ??) AS v WHERE taps.key_id = v.column1 AND taps.sequence = v.column2"
    );
    const WAIT: &str = concat!(
        "INSERT INTO passages_waiting (key_id, of, outcome) \
         SELECT column1, column2, column3 FROM (VALUES ??) AS v WHERE NOT EXISTS \
         (SELECT 1 FROM taps WHERE taps.key_id = v.column1 AND taps.sequence = v.column2) \
         ON CONFLICT (key_id, of) DO UPDATE SET outcome = ",
        stronger_sql!("passages_waiting.outcome", "excluded.outcome")
    );
    /// Risk enters them beside the tokens of these taps.
    const ENTER: &str = "INSERT INTO late_passages (key_id, of) SELECT column1, column2 FROM (VALUES ??) AS v \
         WHERE EXISTS (SELECT 1 FROM taps WHERE taps.key_id = v.column1 AND taps.sequence = v.column2 \
         AND taps.opened = 1 AND taps.token_key IS NOT NULL) ON CONFLICT DO NOTHING";
    let rows = || passages.iter().map(|((key_id, of), outcome)| (&key_id.0, *of, *outcome as u8));
    let folded = write_many(conn, FOLD, rows()).await?;
    if folded > 0 {
        let places = passages.iter().map(|((key_id, of), _)| (&key_id.0, *of));
        write_many(conn, ENTER, places).await?;
    }
    if folded < passages.len() as u64 {
        write_many(conn, WAIT, rows()).await?;
    }
    Ok(())
}

/// Gives taps that came late the passages that waited for them.
async fn adopt_waiting_passages(conn: &mut Conn, late: &[Place]) -> Result<(), StoreError> {
    const FOLD: &str = concat!(
        "UPDATE taps SET passage = ",
        stronger_sql!("coalesce(taps.passage, 0)", "w.outcome"),
        " FROM passages_waiting AS w WHERE taps.key_id = w.key_id AND taps.sequence = w.of \
         AND (taps.key_id, taps.sequence) IN (VALUES ??)"
    );
    const FORGET: &str = "DELETE FROM passages_waiting WHERE (key_id, of) IN (VALUES ??)";
    for text in [FOLD, FORGET] {
        write_many(conn, text, late.iter().map(|(key_id, sequence)| (&key_id.0, *sequence))).await?;
    }
    Ok(())
}
