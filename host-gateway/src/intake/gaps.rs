//! Breaks of lost entries that came after all: they end by themselves.

use super::rows::Accepted;
use crate::store::db::{Conn, One, read_many, write_many};
use crate::store::{Audit, StoreError, audit_all_in, sql};
use std::collections::BTreeMap;
use wavepass_protocol::dukpt::KeyId;
use wavepass_protocol::time::UnixMs;

/// Who ends such a break, in the audit log.
const BY: &str = "intake";
const WHY: &str = "its entries came after all";
/// Entries of a gap that are counted, more than a gate's journal holds: a longer one is a person's to end.
const COUNTED: u32 = 1 << 20;

/// A break of a gap, still open.
struct Open {
    key_id: KeyId,
    from: u32,
    upto: u32,
    /// How many entries it lacked.
    len: u32,
}

impl Open {
    /// None where what it says is not of the form that intake gives it, or it is not counted.
    fn of(key_id: KeyId, detail: &str) -> Option<Self> {
        let (from, upto) = detail.split_once('-')?;
        let (from, upto): (u32, u32) = (from.parse().ok()?, upto.parse().ok()?);
        let len = upto.checked_sub(from)?.checked_add(1).filter(|len| *len <= COUNTED)?;
        Some(Self { key_id, from, upto, len })
    }
}

/// Ends the breaks of gaps of which the last entry is among these. What was set aside in an entry's place does not fill it.
pub(super) async fn end_filled_in(
    conn: &mut Conn,
    accepted: &[Accepted<'_>],
    now: UnixMs,
) -> Result<(), StoreError> {
    let late: BTreeMap<String, KeyId> = accepted
        .iter()
        .filter(|entry| entry.late)
        .map(|entry| (sql::hex(&entry.header.ksn.key_id.0), entry.header.ksn.key_id))
        .collect();
    if late.is_empty() {
        return Ok(());
    }
    let text = "SELECT id, subject, detail FROM breaks WHERE service_day IS NULL AND kind = 'gap' AND closed_ms IS NULL \
                AND subject IN ??";
    let mut open: BTreeMap<String, Open> = BTreeMap::new();
    for row in read_many(conn, text, late.keys().map(|subject| One(subject.as_str()))).await? {
        let (subject, detail): (&str, &str) = (row.try_get(1)?, row.try_get(2)?);
        let gap = late.get(subject).and_then(|key_id| Open::of(*key_id, detail));
        open.extend(gap.map(|gap| Ok::<_, StoreError>((row.try_get(0)?, gap))).transpose()?);
    }
    let text = "SELECT v.column1, (SELECT count(*) FROM entries AS e WHERE e.key_id = v.column2 AND e.sequence >= v.column3 \
                AND e.sequence <= v.column4) FROM (VALUES ??) AS v";
    let rows = open.iter().map(|(id, gap)| (id.as_str(), &gap.key_id.0, gap.from, gap.upto));
    let mut filled: Vec<String> = Vec::new();
    for row in read_many(conn, text, rows).await? {
        let (id, there): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
        if open.get(&id).is_some_and(|gap| i64::from(gap.len) == there) {
            filled.push(id);
        }
    }
    let text = "UPDATE breaks SET closed_ms = v.column2, ended_by = v.column3, end_reason = v.column4 \
                FROM (VALUES ??) AS v WHERE id = v.column1 AND closed_ms IS NULL";
    write_many(conn, text, filled.iter().map(|id| (id.as_str(), sql::ms(now), BY, WHY))).await?;
    let lines: Vec<Audit<'_>> = filled
        .iter()
        .map(|id| Audit { at: now, user: BY, action: "break.end", subject: id, detail: WHY })
        .collect();
    audit_all_in(conn, &lines).await
}
