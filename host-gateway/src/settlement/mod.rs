//! Settlement: the net amount due to each operator for a service day.
//!
//! What is due is what the bank deducted, what campaigns paid and what the bank covers, less the bank's fee. What was
//! deducted goes to the operators by the shares that were frozen with each charge ([`shares`]), or by configured weights
//! where the day has none; all else by the weights, by largest remainder (rule 7). A day may be settled again when more
//! was deducted since: then the difference alone is settled, under the next rank and the terms of the first ([`terms`]). Covered
//! is zero until a bank bears debts.

pub(crate) mod shares;
mod terms;

use std::collections::{BTreeMap, BTreeSet};

use crate::store::db::{Conn, Row, query};
use serde::{Deserialize, Serialize};
use wavepass_fares::{Fen, Overflow, ServiceDay};

use crate::clearing::{Clearing, ClearingError};
use crate::ledger::{Account, Entries, Event, LedgerError, Name, balances_in, operator_shard};
use crate::store::{StoreError, again_if_met};
use shares::Shares;
use terms::{Before, Terms};

pub use shares::Method;

/// The most operators that share a network; each has a row a day.
pub const MAX_OPERATORS: usize = 1_000;

/// An operator and its part of the network's income.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operator {
    /// Its number.
    pub operator: u16,
    /// Its weight in the split.
    pub share: u64,
    /// Its code in tariffs, by which what riders did is its; needed where shares are not fixed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// How days are settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SettlementConfig {
    /// What the operators' shares go by. A day keeps the method under which its first fare was
    /// asked for early, or else its close began.
    pub method: Method,
    /// The bank's fee, in hundredths of a percent of what is due; fractions of a fen are left to the operator.
    pub fee_basis_points: u16,
    /// The operators.
    pub operators: Vec<Operator>,
}

impl Default for SettlementConfig {
    /// One operator, and a fee of 0.30 %.
    fn default() -> Self {
        let operators = vec![Operator { operator: 1, share: 1, code: None }];
        Self { method: Method::Fixed, fee_basis_points: 30, operators }
    }
}

/// Why a day cannot be settled.
#[derive(Debug, thiserror::Error)]
pub enum SettlementError {
    /// The fee is above all there is.
    #[error("fee_basis_points is {0}; at most 10000 are a whole")]
    Fee(u16),
    /// None, too many, or one twice.
    #[error(
        "operators must be 1 to {MAX_OPERATORS}, each number and code once, with shares that are not all zero"
    )]
    Operators,
    /// The tariff names an operator that settlement does not know.
    #[error("the tariff of {day} names operator `{code}`, and no operator of [settlement] has that code")]
    UnknownOperator {
        /// Its code.
        code: String,
        /// The day.
        day: ServiceDay,
    },
    /// The frozen shares are not what was deducted.
    #[error(
        "the operators' shares of what was deducted of {day} come to {shares} fen, and the ledger has {ledger}: \
         reconcile the day first"
    )]
    Shares {
        /// The day.
        day: ServiceDay,
        /// Their sum.
        shares: i64,
        /// What was deducted.
        ledger: i64,
    },
    /// Clearing or the store.
    #[error(transparent)]
    Clearing(#[from] ClearingError),
}

impl From<StoreError> for SettlementError {
    fn from(error: StoreError) -> Self {
        Self::Clearing(error.into())
    }
}

impl From<sqlx::Error> for SettlementError {
    fn from(error: sqlx::Error) -> Self {
        Self::Clearing(error.into())
    }
}

impl From<Overflow> for SettlementError {
    fn from(error: Overflow) -> Self {
        Self::Clearing(error.into())
    }
}

impl From<LedgerError> for SettlementError {
    fn from(error: LedgerError) -> Self {
        Self::Clearing(error.into())
    }
}

/// One operator's settlement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Settlement {
    /// The operator.
    pub operator: u16,
    /// The day.
    #[schema(value_type = String)]
    pub service_day: ServiceDay,
    /// 0 first, then what changed since.
    pub rank: i64,
    /// Its share of what was deducted.
    #[schema(value_type = i64)]
    pub deducted_fen: Fen,
    /// Its share of what campaigns paid.
    #[schema(value_type = i64)]
    pub sponsored_fen: Fen,
    /// Its share of what the bank bears.
    #[schema(value_type = i64)]
    pub covered_fen: Fen,
    /// The bank's fee.
    #[schema(value_type = i64)]
    pub fees_fen: Fen,
    /// What it gets: deducted + sponsored + covered − fees.
    #[schema(value_type = i64)]
    pub settled_fen: Fen,
}

impl SettlementConfig {
    pub(crate) fn check(&self) -> Result<(), SettlementError> {
        if self.fee_basis_points > 10_000 {
            return Err(SettlementError::Fee(self.fee_basis_points));
        }
        let mut numbers: Vec<u16> = self.operators.iter().map(|o| o.operator).collect();
        numbers.sort_unstable();
        let codes: Vec<&String> = self.operators.iter().filter_map(|o| o.code.as_ref()).collect();
        let twice = numbers.windows(2).any(|pair| pair[0] == pair[1])
            || codes.iter().collect::<BTreeSet<_>>().len() < codes.len();
        let share = self.operators.iter().any(|o| o.share > 0);
        if twice || !share || numbers.len() > MAX_OPERATORS {
            return Err(SettlementError::Operators);
        }
        Ok(())
    }
}

/// Settles a closed day: what is due and was not settled before. Nothing new, nothing settled.
pub async fn settle_day(
    clearing: &Clearing,
    day: ServiceDay,
    config: &SettlementConfig,
) -> Result<Vec<Settlement>, SettlementError> {
    config.check()?;
    again_if_met(|| settle_once(clearing, day, config)).await
}

async fn settle_once(
    clearing: &Clearing,
    day: ServiceDay,
    config: &SettlementConfig,
) -> Result<Vec<Settlement>, SettlementError> {
    let mut tx = clearing.store.begin().await?;
    let sealed: i64 = query("SELECT count(*) FROM batches WHERE service_day = ?")
        .bind(day.number())
        .scalar(&mut *tx)
        .await?;
    let method = shares::method_in(&mut tx, day).await?.filter(|_| sealed > 0);
    let Some(method) = method else { return Err(ClearingError::NotClosed { day }.into()) };
    let Some((rank, due)) = due_in(&mut tx, day, method, config).await? else { return Ok(Vec::new()) };
    let mut settlements = Vec::with_capacity(due.len());
    let mut entries = Entries::default();
    for (operator, due) in due {
        let gross = due.gross()?;
        let settled = gross.minus(due.fees)?;
        let name = Name {
            service_day: day.number(),
            shard: operator_shard(operator),
            part: rank,
            event: Event::Settled,
            at_ms: clearing.value_ms(day),
        };
        let postings = [
            (Account::Settlement, gross),
            (Account::Settled, settled.negated()?),
            (Account::Fees, due.fees.negated()?),
        ];
        entries.add(name, &postings)?;
        settlements.push(Settlement {
            operator,
            service_day: day,
            rank,
            deducted_fen: due.deducted,
            sponsored_fen: due.sponsored,
            covered_fen: due.covered,
            fees_fen: due.fees,
            settled_fen: settled,
        });
    }
    write_in(&mut tx, &settlements).await?;
    entries.write_in(&mut tx).await?;
    tx.commit().await?;
    Ok(settlements)
}

/// What is due to an operator, or was.
#[derive(Debug, Clone, Copy, Default)]
struct Due {
    deducted: Fen,
    sponsored: Fen,
    covered: Fen,
    fees: Fen,
}

impl Due {
    /// All but the fees, which come off it.
    fn gross(&self) -> Result<Fen, Overflow> {
        Fen::sum([self.deducted, self.sponsored, self.covered])
    }

    fn add(&mut self, more: Self) -> Result<(), Overflow> {
        self.deducted = self.deducted.plus(more.deducted)?;
        self.sponsored = self.sponsored.plus(more.sponsored)?;
        self.covered = self.covered.plus(more.covered)?;
        self.fees = self.fees.plus(more.fees)?;
        Ok(())
    }
}

/// What is due to each operator of a day and was not settled before, and under which rank; `None`: nothing.
async fn due_in(
    conn: &mut Conn,
    day: ServiceDay,
    method: Method,
    config: &SettlementConfig,
) -> Result<Option<(i64, BTreeMap<u16, Due>)>, SettlementError> {
    let balances = balances_in(conn, Some(day.number())).await?;
    let settled = settled_in(conn, day).await?;
    let rank = settled.iter().map(|(_, rank, _)| rank + 1).max().unwrap_or(0);
    let terms = Terms::of_day_in(conn, day, rank, config).await?;
    let before = Before::of(&settled, &terms)?;
    let by_weight = |account, of: fn(&Due) -> Fen| terms.by_weight(balances.of(account), &before, of);
    let sponsored = by_weight(Account::Sponsored, |due| due.sponsored)?;
    let covered = by_weight(Account::Covered, |due| due.covered)?;
    let deducted = match method {
        Method::Fixed => by_weight(Account::Deducted, |due| due.deducted)?,
        Method::Nominal | Method::PassengerKm => {
            let earned = shares::deducted_in(conn, day, shares::TOKENS).await?;
            let (sum, ledger) = (Fen::sum(earned.values().copied())?, balances.of(Account::Deducted));
            if sum != ledger {
                return Err(SettlementError::Shares { day, shares: sum.0, ledger: ledger.0 });
            }
            let settled = before.all.iter().map(|(&operator, due)| (operator, due.deducted)).collect();
            shares::difference(&earned, &settled)?
        }
    };
    if [&deducted, &sponsored, &covered].iter().all(|parts| parts.values().all(|fen| fen.is_zero())) {
        return Ok(None);
    }
    let of = |parts: &Shares, operator| parts.get(&operator).copied().unwrap_or_default();
    let operators = [&deducted, &sponsored, &covered].into_iter().flat_map(|parts| parts.keys().copied());
    let mut dues = BTreeMap::new();
    for operator in operators {
        let mut due = Due {
            deducted: of(&deducted, operator),
            sponsored: of(&sponsored, operator),
            covered: of(&covered, operator),
            fees: Fen::ZERO,
        };
        due.fees = terms.fee(operator, due.gross()?, &before)?;
        dues.insert(operator, due);
    }
    Ok(Some((rank, dues)))
}

/// What was settled of a day before: operator, rank, and what it was due.
async fn settled_in(conn: &mut Conn, day: ServiceDay) -> Result<Vec<(u16, i64, Due)>, ClearingError> {
    let rows = query(
        "SELECT operator, rank, deducted_fen, sponsored_fen, covered_fen, fees_fen FROM settlements WHERE service_day = ?",
    )
    .bind(day.number())
    .fetch_all(conn)
    .await?;
    let settled = |row: &Row| -> Result<_, ClearingError> {
        let due = Due {
            deducted: Fen(row.try_get(2)?),
            sponsored: Fen(row.try_get(3)?),
            covered: Fen(row.try_get(4)?),
            fees: Fen(row.try_get(5)?),
        };
        Ok((row.try_get(0)?, row.try_get(1)?, due))
    };
    rows.iter().map(settled).collect()
}

async fn write_in(conn: &mut Conn, settlements: &[Settlement]) -> Result<(), ClearingError> {
    for s in settlements {
        query(
            "INSERT INTO settlements (operator, service_day, rank, deducted_fen, sponsored_fen, covered_fen, fees_fen, \
             settled_fen) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(s.operator)
        .bind(s.service_day.number())
        .bind(s.rank)
        .bind(s.deducted_fen.0)
        .bind(s.sponsored_fen.0)
        .bind(s.covered_fen.0)
        .bind(s.fees_fen.0)
        .bind(s.settled_fen.0)
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// The settlements of a day, by operator and rank.
pub async fn of_day(
    clearing: &crate::store::Store,
    day: ServiceDay,
) -> Result<Vec<Settlement>, ClearingError> {
    let rows = query(
        "SELECT operator, rank, deducted_fen, sponsored_fen, covered_fen, fees_fen, settled_fen FROM settlements \
         WHERE service_day = ? ORDER BY operator, rank",
    )
    .bind(day.number())
    .fetch_all(clearing.pool())
    .await?;
    let settlement = |row: &Row| -> Result<Settlement, ClearingError> {
        Ok(Settlement {
            operator: row.try_get(0)?,
            service_day: day,
            rank: row.try_get(1)?,
            deducted_fen: Fen(row.try_get(2)?),
            sponsored_fen: Fen(row.try_get(3)?),
            covered_fen: Fen(row.try_get(4)?),
            fees_fen: Fen(row.try_get(5)?),
            settled_fen: Fen(row.try_get(6)?),
        })
    };
    rows.iter().map(settlement).collect()
}

#[cfg(test)]
mod tests;
