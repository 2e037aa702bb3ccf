//! Settlement: the net amount due to each operator for a service day.
//!
//! What is due is what the bank deducted, what campaigns paid and what the bank covers, less the bank's fee. It is split
//! among the operators by largest remainder (rule 7). A day may be settled again when more was deducted since: then the
//! difference alone is settled, under the next rank. Covered is zero until a bank bears debts.

use crate::store::db::{Conn, Row, query};
use serde::{Deserialize, Serialize};
use wavepass_fares::{Fen, ServiceDay, split};

use crate::clearing::{Clearing, ClearingError};
use crate::ledger::{Account, Entries, Event, Name, balances_in, operator_shard};

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
}

/// How days are settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SettlementConfig {
    /// The bank's fee, in hundredths of a percent of what is due; fractions of a fen are left to the operator.
    pub fee_basis_points: u16,
    /// The operators.
    pub operators: Vec<Operator>,
}

impl Default for SettlementConfig {
    /// One operator, and a fee of 0.30 %.
    fn default() -> Self {
        Self { fee_basis_points: 30, operators: vec![Operator { operator: 1, share: 1 }] }
    }
}

/// Why a day cannot be settled.
#[derive(Debug, thiserror::Error)]
pub enum SettlementError {
    /// The fee is above all there is.
    #[error("fee_basis_points is {0}; at most 10000 are a whole")]
    Fee(u16),
    /// None, too many, or one twice.
    #[error("operators must be 1 to {MAX_OPERATORS}, each once, with shares that are not all zero")]
    Operators,
    /// Clearing or the store.
    #[error(transparent)]
    Clearing(#[from] ClearingError),
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
    fn check(&self) -> Result<(), SettlementError> {
        if self.fee_basis_points > 10_000 {
            return Err(SettlementError::Fee(self.fee_basis_points));
        }
        let mut numbers: Vec<u16> = self.operators.iter().map(|o| o.operator).collect();
        numbers.sort_unstable();
        let twice = numbers.windows(2).any(|pair| pair[0] == pair[1]);
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
    Ok(settle(clearing, day, config).await?)
}

async fn settle(
    clearing: &Clearing,
    day: ServiceDay,
    config: &SettlementConfig,
) -> Result<Vec<Settlement>, ClearingError> {
    let mut tx = clearing.store.begin().await?;
    let sealed: i64 = query("SELECT count(*) FROM batches WHERE service_day = ?")
        .bind(day.number())
        .scalar(&mut *tx)
        .await?;
    if sealed == 0 {
        return Err(ClearingError::NotClosed { day });
    }
    let balances = balances_in(&mut tx, Some(day.number())).await?;
    let before = query(
        "SELECT COALESCE(SUM(deducted_fen), 0), COALESCE(SUM(sponsored_fen), 0), COALESCE(SUM(covered_fen), 0), \
         COALESCE(MAX(rank) + 1, 0) FROM settlements WHERE service_day = ?",
    )
    .bind(day.number())
    .fetch_one(&mut *tx)
    .await?;
    let due = |account, column: usize| -> Result<Fen, ClearingError> {
        Ok(balances.of(account).minus(Fen(before.try_get(column)?))?)
    };
    let deducted = due(Account::Deducted, 0)?;
    let sponsored = due(Account::Sponsored, 1)?;
    let covered = due(Account::Covered, 2)?;
    let rank: i64 = before.try_get(3)?;
    if [deducted, sponsored, covered].iter().all(|part| part.is_zero()) {
        return Ok(Vec::new());
    }
    let weights: Vec<u64> = config.operators.iter().map(|o| o.share).collect();
    // The weights were checked: one is above zero.
    let share = |amount| split(amount, &weights).map_err(|_| ClearingError::damaged("operators' shares"));
    let (deducted, sponsored, covered) = (share(deducted)?, share(sponsored)?, share(covered)?);
    let mut settlements = Vec::with_capacity(weights.len());
    let mut entries = Entries::default();
    for (i, operator) in config.operators.iter().enumerate() {
        let gross = Fen::sum([deducted[i], sponsored[i], covered[i]])?;
        // Rounded towards zero; a refund gives its fee back.
        let fees = Fen(gross.times(i64::from(config.fee_basis_points))?.0 / 10_000);
        let settled = gross.minus(fees)?;
        let name = Name {
            service_day: day.number(),
            shard: operator_shard(operator.operator),
            part: rank,
            event: Event::Settled,
            at_ms: clearing.value_ms(day),
        };
        let postings = [
            (Account::Settlement, gross),
            (Account::Settled, settled.negated()?),
            (Account::Fees, fees.negated()?),
        ];
        entries.add(name, &postings)?;
        settlements.push(Settlement {
            operator: operator.operator,
            service_day: day,
            rank,
            deducted_fen: deducted[i],
            sponsored_fen: sponsored[i],
            covered_fen: covered[i],
            fees_fen: fees,
            settled_fen: settled,
        });
    }
    write_in(&mut tx, &settlements).await?;
    entries.write_in(&mut tx).await?;
    tx.commit().await?;
    Ok(settlements)
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
