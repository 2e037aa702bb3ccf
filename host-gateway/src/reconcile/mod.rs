//! Reconciliation: taps against journeys, journeys against charges, charges against deductions, deductions against the
//! ledger and the bank's statement, debts against the deny list. Every difference is a break.
//!
//! It holds the day's taps as they came against those beside their tokens, prices the day again from these, and reads
//! everything else from the tables, so that a mistake of any one step shows against its neighbours. It changes nothing but breaks: what is found is opened, what is no longer there is closed.

pub mod api;
mod breaks;
mod checks;
pub mod cli;
pub mod days;
pub mod matching;
pub mod slices;
mod standing;
pub mod theirs;

use std::collections::BTreeMap;

use crate::store::db::query;
use serde::Serialize;
use wavepass_fares::{Fen, ServiceDay};

use crate::bank::{AttemptId, StatementLine};
use crate::clearing::changes::{Booked, JourneyRow, journey_rows};
use crate::clearing::pricing::PricedToken;
use crate::clearing::{Clearing, ClearingError, day_number, verify_batches};
use crate::keys::TokenKey;
use crate::ledger::{Account, balances_in};
use crate::store::shards::AFTER_ALL;
use breaks::{Found, Scope};

/// The most differences of one kind that become breaks of a day; more of them have one cause, and a sum is enough.
pub const MAX_OF_A_KIND: usize = 1_000;
/// Lines of the bank's statement read at a time.
const PAGE: u32 = 5_000;

/// What was found for a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Reconciliation {
    /// The day.
    #[schema(value_type = String)]
    pub service_day: ServiceDay,
    /// Differences by kind; empty where everything agrees.
    #[schema(value_type = std::collections::BTreeMap<String, i64>)]
    pub differences: BTreeMap<&'static str, usize>,
    /// Breaks of earlier runs that are gone now.
    pub closed: u64,
}

/// Every kind of difference that a reconciliation opens and closes.
const KINDS: [&str; 32] = [
    "tap_missing",
    "tap_extra",
    "tap_differs",
    "journey_missing",
    "journey_extra",
    "journey_differs",
    "charge_differs",
    "deduction_missing",
    "deduction_extra",
    "deduction_amount",
    "state_differs",
    "ledger_differs",
    "ledger_extra",
    "ledger_unbalanced",
    "bank_missing_theirs",
    "bank_missing_ours",
    "bank_amount",
    "bank_duplicate",
    "bank_books",
    "batch_altered",
    "settlement_differs",
    "shares_differ",
    "refund_differs",
    "set_off_differs",
    "credit_unpaid",
    "credit_declined",
    "no_answer",
    "rule_6",
    "debt_missing",
    "debt_extra",
    "debtor_not_denied",
    "denied_without_debt",
];

/// Reconciles a closed day. `now_ms` says when breaks were opened or closed; it is no part of what they are.
pub async fn reconcile_day(
    clearing: &Clearing,
    day: ServiceDay,
    now_ms: i64,
) -> Result<Reconciliation, ClearingError> {
    let sealed: i64 = query("SELECT count(*) FROM batches WHERE service_day = ?")
        .bind(day.number())
        .scalar(clearing.store.pool())
        .await?;
    if sealed == 0 {
        return Err(ClearingError::NotClosed { day });
    }
    clearing.store.take_stock(&checks::TABLES).await?;
    let mut found = Found::default();
    let clock = clearing.tariffs.clock();
    for (kind, text) in checks::BY_TIME {
        let of_day = query(text).bind(clock.start_ms(day)).bind(clock.end_ms(day));
        for row in &of_day.fetch_all(clearing.store.pool()).await? {
            found.add(kind, row.try_get::<String>(0)?, row.try_get::<String>(1)?);
        }
    }
    taps_against_journeys(clearing, day, &mut found).await?;
    for (kind, text) in checks::BY_DAY {
        let rows = query(text).bind(day.number()).fetch_all(clearing.store.pool()).await?;
        for row in &rows {
            found.add(kind, row.try_get::<String>(0)?, row.try_get::<String>(1)?);
        }
    }
    attempts_against_statement(clearing, day, &mut found).await?;
    for line in clearing.bank.own_differences().await? {
        found.add("bank_books", "bank", line);
    }
    for line in verify_batches(clearing.store.pool(), day).await? {
        found.add("batch_altered", day.to_string(), line);
    }
    sums(clearing, day, &mut found).await?;
    let gone = "reconciled again, it is no longer found";
    let scope = Scope { day, kinds: &KINDS, subject: None, gone, kept_ended: false };
    let mut tx = clearing.store.begin().await?;
    let differences = found.counts.clone();
    let recorded = breaks::record_in(&mut tx, &scope, found, now_ms).await?;
    tx.commit().await?;
    Ok(Reconciliation { service_day: day, differences, closed: recorded.ended })
}

/// Prices the day again, and compares with the journeys that stand and the charges there are.
async fn taps_against_journeys(
    clearing: &Clearing,
    day: ServiceDay,
    found: &mut Found,
) -> Result<(), ClearingError> {
    let mut cursor = Vec::new();
    loop {
        let chunk = clearing.read_taps(day, &cursor, &AFTER_ALL).await?;
        let up_to = chunk.up_to;
        let priced = clearing.price_tokens(day, chunk.tokens, None).await?;
        let last = up_to.map_or_else(|| AFTER_ALL.to_vec(), |key| key.as_slice().to_vec());
        let mut booked = clearing.booked(day, &cursor, &last).await?;
        for PricedToken { key, priced, .. } in &priced {
            let booked = booked.remove(key).unwrap_or_default();
            let charged = Fen::sum(priced.days.iter().map(|d| d.charge))?;
            compare_journeys(found, *key, journey_rows(&clearing.tariffs, priced), &booked.journeys);
            compare_charge(found, *key, &booked, charged)?;
        }
        for (key, booked) in booked {
            compare_journeys(found, key, Vec::new(), &booked.journeys);
            compare_charge(found, key, &booked, Fen::ZERO)?;
        }
        match up_to {
            Some(key) => cursor = key.as_slice().to_vec(),
            None => return Ok(()),
        }
    }
}

fn compare_journeys(found: &mut Found, key: TokenKey, expected: Vec<JourneyRow>, standing: &[JourneyRow]) {
    let mut standing: BTreeMap<_, &JourneyRow> = standing.iter().map(|row| (row.name(), row)).collect();
    for row in &expected {
        match standing.remove(&row.name()) {
            Some(there) if there == row => {}
            Some(_) => found.add("journey_differs", key.to_hex(), format!("journey {}", row.name())),
            None => found.add("journey_missing", key.to_hex(), format!("journey {}", row.name())),
        }
    }
    for name in standing.into_keys() {
        found.add("journey_extra", key.to_hex(), format!("journey {name}"));
    }
}

fn compare_charge(
    found: &mut Found,
    key: TokenKey,
    booked: &Booked,
    from_taps: Fen,
) -> Result<(), ClearingError> {
    let from_journeys = Fen::sum(booked.journeys.iter().map(JourneyRow::charged))?;
    let charged = booked.amount;
    // Where the journeys themselves differ from the taps, that is the break; here it is journeys against charges.
    // What of the charges was given back stays in them.
    if from_journeys.plus(booked.given_beyond(&booked.journeys)?)? != charged {
        let detail =
            format!("journeys {} fen, charges {} fen, taps {} fen", from_journeys.0, charged.0, from_taps.0);
        found.add("charge_differs", key.to_hex(), detail);
    }
    Ok(())
}

/// Our approved attempts against the bank's statement, both in the order of attempts.
async fn attempts_against_statement(
    clearing: &Clearing,
    day: ServiceDay,
    found: &mut Found,
) -> Result<(), ClearingError> {
    let number = day_number(day);
    let (mut ours, mut theirs) =
        (Ours::new(clearing, day), Theirs { page: Vec::new().into_iter(), last: None, done: false });
    let (mut our, mut their) = (ours.next().await?, theirs.next(clearing, number).await?);
    let mut before: Option<StatementLine> = None;
    let subject = |id: AttemptId| format!("{}-{}-{}", TokenKey(id.token_key).to_hex(), id.part, id.attempt);
    loop {
        if let Some(line) = &their
            && let Some(last) = &before
            && (last.id.token_key, last.id.part) == (line.id.token_key, line.id.part)
            && last.id != line.id
        {
            found.add("bank_duplicate", subject(line.id), "the bank did two attempts of one charge");
        }
        match (&our, &their) {
            (None, None) => return Ok(()),
            (Some(o), Some(t)) if o.id == t.id => {
                if o.amount != t.amount {
                    let detail = format!("ours {} fen, theirs {} fen", o.amount.0, t.amount.0);
                    found.add("bank_amount", subject(o.id), detail);
                }
                our = ours.next().await?;
                before = their.take();
                their = theirs.next(clearing, number).await?;
            }
            (Some(o), other) if other.as_ref().is_none_or(|t| o.id < t.id) => {
                found.add("bank_missing_theirs", subject(o.id), format!("{} fen", o.amount.0));
                our = ours.next().await?;
            }
            (_, Some(t)) => {
                found.add("bank_missing_ours", subject(t.id), format!("{} fen", t.amount.0));
                before = their.take();
                their = theirs.next(clearing, number).await?;
            }
            // `other` was none, and then the guard above held.
            (Some(_), None) => return Ok(()),
        }
    }
}

/// The bank's statement, page by page.
struct Theirs {
    page: std::vec::IntoIter<StatementLine>,
    last: Option<AttemptId>,
    done: bool,
}

impl Theirs {
    async fn next(&mut self, clearing: &Clearing, day: i32) -> Result<Option<StatementLine>, ClearingError> {
        if let Some(line) = self.page.next() {
            return Ok(Some(line));
        }
        if self.done {
            return Ok(None);
        }
        let page = clearing.bank.statement(day, self.last, PAGE).await?;
        // A bank may give fewer lines than it is asked for: only a page without any is the end.
        self.done = page.is_empty();
        self.last = page.last().map(|line| line.id).or(self.last);
        self.page = page.into_iter();
        Ok(self.page.next())
    }
}

/// Our approved attempts, page by page.
struct Ours<'a> {
    clearing: &'a Clearing,
    day: ServiceDay,
    page: std::vec::IntoIter<StatementLine>,
    after: (Vec<u8>, i64, i64),
    done: bool,
}

impl<'a> Ours<'a> {
    fn new(clearing: &'a Clearing, day: ServiceDay) -> Self {
        Self { clearing, day, page: Vec::new().into_iter(), after: (Vec::new(), 0, 0), done: false }
    }

    async fn next(&mut self) -> Result<Option<StatementLine>, ClearingError> {
        if let Some(line) = self.page.next() {
            return Ok(Some(line));
        }
        if self.done {
            return Ok(None);
        }
        let rows = query(
            "SELECT token_key, part, attempt_no, amount_fen FROM attempts WHERE service_day = ? AND state = 'approved' \
             AND (token_key, part, attempt_no) > (?, ?, ?) ORDER BY token_key, part, attempt_no LIMIT ?",
        )
        .bind(self.day.number())
        .bind(&self.after.0)
        .bind(self.after.1)
        .bind(self.after.2)
        .bind(PAGE)
        .fetch_all(self.clearing.store.pool())
        .await?;
        self.done = rows.len() < PAGE as usize;
        let mut page = Vec::with_capacity(rows.len());
        for row in &rows {
            let token_key = crate::clearing::token_key(row.try_get(0)?)?.0;
            let (part, attempt) = (row.try_get(1)?, row.try_get(2)?);
            let id = AttemptId { service_day: day_number(self.day), token_key, part, attempt };
            page.push(StatementLine { id, amount: Fen(row.try_get(3)?) });
            self.after = (token_key.to_vec(), i64::from(part), i64::from(attempt));
        }
        self.page = page.into_iter();
        Ok(self.page.next())
    }
}

/// Rule 6 from the tables and from the ledger, and the settlements against both.
async fn sums(clearing: &Clearing, day: ServiceDay, found: &mut Found) -> Result<(), ClearingError> {
    let mut snapshot = clearing.store.pool().begin().await?;
    let balances = balances_in(&mut snapshot, Some(day.number())).await?;
    let row = query(checks::SUMS).bind(day.number()).fetch_one(&mut *snapshot).await?;
    drop(snapshot);
    let column = |i: usize| -> Result<Fen, ClearingError> { Ok(Fen(row.try_get(i)?)) };
    let (charged, deducted, in_doubt, owed) = (column(0)?, column(1)?, column(2)?, column(3)?);
    let (waived, written_off) = (column(4)?, column(5)?);
    let subject = day.to_string();
    let mut compare = |kind, what: &str, tables: Fen, ledger: Fen| {
        if tables != ledger {
            found.add(kind, &subject, format!("{what}: tables {} fen, ledger {} fen", tables.0, ledger.0));
        }
    };
    compare("rule_6", "charged", charged, balances.charged()?);
    compare("rule_6", "deducted", deducted, balances.of(Account::Deducted));
    compare("rule_6", "in doubt", in_doubt, balances.of(Account::InDoubt));
    compare("rule_6", "owed", owed, balances.of(Account::Owed));
    compare("rule_6", "waived", waived, balances.of(Account::Waived));
    compare("rule_6", "written off", written_off, balances.of(Account::WrittenOff));
    compare("rule_6", "charged less its parts", Fen::ZERO, balances.charged_gap()?);
    compare("rule_6", "sum of all accounts", Fen::ZERO, balances.sum()?);
    let settlements: i64 = row.try_get(6)?;
    if settlements > 0 {
        let due =
            Fen::sum([Account::Deducted, Account::Sponsored, Account::Covered].map(|a| balances.of(a)))?;
        compare(
            "settlement_differs",
            "settled and fees against what is due",
            column(7)?.plus(column(8)?)?,
            due,
        );
        compare("settlement_differs", "settled", column(7)?, balances.of(Account::Settled).negated()?);
        compare("settlement_differs", "fees", column(8)?, balances.of(Account::Fees).negated()?);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
