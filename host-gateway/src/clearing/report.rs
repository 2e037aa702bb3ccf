//! What a day, or everything so far, came to: the money of the report, read from ledger and tables.

use std::collections::BTreeMap;

use crate::store::db::query;
use serde::Serialize;
use wavepass_fares::{Fen, Overflow, ServiceDay, Status};

use super::{Batch, ClearingError, batch};
use crate::intake::forgotten::last_deleted_day_in;
use crate::ledger::{Account, Balances, balances_in};
use crate::store::Store;

/// The money of a service day, or of all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Report {
    /// The day; `None`: everything.
    #[schema(value_type = Option<String>)]
    pub service_day: Option<ServiceDay>,
    /// The last day whose taps and journeys are deleted, where that bears on this report: a day's own numbers of them are then
    /// absent, and those of everything are of the days after it. The money stands.
    #[schema(value_type = Option<String>)]
    pub deleted_upto: Option<ServiceDay>,
    /// Opened taps of the day.
    pub taps_opened: Option<i64>,
    /// Those that count.
    pub taps_counted: Option<i64>,
    /// Journeys that stand.
    pub journeys: Option<i64>,
    /// The same by how they came out; empty where they are deleted.
    #[schema(value_type = std::collections::BTreeMap<String, i64>)]
    pub journeys_by_status: BTreeMap<&'static str, i64>,
    /// What riders were charged, net.
    #[schema(value_type = i64)]
    pub charged_fen: Fen,
    /// What the bank debited.
    #[schema(value_type = i64)]
    pub deducted_fen: Fen,
    /// What campaigns paid.
    #[schema(value_type = i64)]
    pub sponsored_fen: Fen,
    /// Open, declined or not yet asked.
    #[schema(value_type = i64)]
    pub owed_fen: Fen,
    /// Asked and not answered.
    #[schema(value_type = i64)]
    pub in_doubt_fen: Fen,
    /// Given up: for riders' sake, and as lost.
    #[schema(value_type = i64)]
    pub waived_fen: Fen,
    /// What of it was given up as lost.
    #[schema(value_type = i64)]
    pub written_off_fen: Fen,
    /// What of owed or waived the bank bears.
    #[schema(value_type = i64)]
    pub covered_fen: Fen,
    /// The net amount due to operators.
    #[schema(value_type = i64)]
    pub settled_fen: Fen,
    /// What the bank kept of it.
    #[schema(value_type = i64)]
    pub fees_fen: Fen,
    /// The sum of all ledger accounts, of every day: zero.
    #[schema(value_type = i64)]
    pub ledger_sum_fen: Fen,
    /// Differences that nobody has closed.
    pub breaks: i64,
    /// Tokens that gates refuse.
    pub deny_list: i64,
    /// Debts that are open.
    pub debts: i64,
    /// The day's batches.
    pub batches: Vec<Batch>,
}

impl Report {
    /// Rule 6: charged = deducted + sponsored + owed + in doubt + waived, and once settled, settled =
    /// deducted + sponsored + covered − fees.
    pub fn balances(&self) -> Result<bool, Overflow> {
        let parts = Fen::sum([
            self.deducted_fen,
            self.sponsored_fen,
            self.owed_fen,
            self.in_doubt_fen,
            self.waived_fen,
        ])?;
        let due =
            Fen::sum([self.deducted_fen, self.sponsored_fen, self.covered_fen])?.minus(self.fees_fen)?;
        let settled = self.settled_fen == due || (self.settled_fen.is_zero() && self.fees_fen.is_zero());
        Ok(parts == self.charged_fen && settled && self.ledger_sum_fen.is_zero())
    }
}

/// Reads the report of a day, or of everything.
pub async fn report(store: &Store, day: Option<ServiceDay>) -> Result<Report, ClearingError> {
    let number = day.map(ServiceDay::number);
    let mut snapshot = store.pool().begin().await?;
    let balances: Balances = balances_in(&mut snapshot, number).await?;
    let everything = balances_in(&mut snapshot, None).await?;
    let deleted_upto = last_deleted_day_in(&mut snapshot).await?;
    let deleted_upto = deleted_upto.filter(|last| number.is_none_or(|day| day <= *last));
    // What is left of a deleted day's taps came late and counts for nothing.
    let has_taps = day.is_none() || deleted_upto.is_none();
    let rows = query(
        "SELECT status, count(*) FROM journeys WHERE superseded_by IS NULL AND (?1 IS NULL OR service_day = ?1) GROUP BY status",
    )
    .bind(number)
    .fetch_all(&mut *snapshot)
    .await?;
    let mut journeys_by_status: BTreeMap<&'static str, i64> = Status::ALL.map(|s| (s.as_str(), 0)).into();
    for row in &rows {
        let word: &str = row.try_get(0)?;
        let status = Status::ALL.into_iter().find(|s| s.as_str() == word);
        let status = status.ok_or_else(|| ClearingError::damaged("a journey's status"))?;
        journeys_by_status.insert(status.as_str(), row.try_get(1)?);
    }
    // A service day lies within a few UTC days, whatever the time zone; by those, taps are found.
    let of_day = "SELECT count(*), COALESCE(SUM(counted), 0) FROM taps INDEXED BY taps_time \
                  WHERE time_ms >= (?1 - 1) * 86400000 AND time_ms < (?1 + 3) * 86400000 AND service_day = ?1 AND opened = 1";
    let taps = match number {
        Some(number) => query(of_day).bind(number),
        None => query("SELECT count(*), COALESCE(SUM(counted), 0) FROM taps WHERE opened = 1"),
    };
    let taps = taps.fetch_one(&mut *snapshot).await?;
    // Breaks that belong to no day count on every day: somebody must look before a day is clean.
    let breaks = query(
        "SELECT count(*) FROM breaks WHERE closed_ms IS NULL AND (?1 IS NULL OR service_day IS NULL OR service_day = ?1)",
    )
    .bind(number)
    .scalar(&mut *snapshot)
    .await?;
    let deny_list =
        query("SELECT count(DISTINCT token_key) FROM deny_entries").scalar(&mut *snapshot).await?;
    let debts = query("SELECT count(*) FROM debts WHERE state = 'open' AND (?1 IS NULL OR service_day = ?1)")
        .bind(number)
        .scalar(&mut *snapshot)
        .await?;
    drop(snapshot);
    if !has_taps {
        journeys_by_status.clear();
    }
    let deleted_upto = deleted_upto.map(ServiceDay::from_number).transpose();
    let batches = match day {
        Some(day) => batch::of_day(store.pool(), day).await?,
        None => Vec::new(),
    };
    Ok(Report {
        service_day: day,
        deleted_upto: deleted_upto.map_err(|_| ClearingError::damaged("a deleted day"))?,
        taps_opened: has_taps.then_some(taps.try_get(0)?),
        taps_counted: has_taps.then_some(taps.try_get(1)?),
        journeys: has_taps.then(|| journeys_by_status.values().sum()),
        journeys_by_status,
        charged_fen: balances.charged()?,
        deducted_fen: balances.of(Account::Deducted),
        sponsored_fen: balances.of(Account::Sponsored),
        owed_fen: balances.of(Account::Owed),
        in_doubt_fen: balances.of(Account::InDoubt),
        waived_fen: balances.of(Account::Waived).plus(balances.of(Account::WrittenOff))?,
        written_off_fen: balances.of(Account::WrittenOff),
        covered_fen: balances.of(Account::Covered),
        settled_fen: balances.of(Account::Settled).negated()?,
        fees_fen: balances.of(Account::Fees).negated()?,
        ledger_sum_fen: everything.sum()?,
        breaks,
        deny_list,
        debts,
        batches,
    })
}
