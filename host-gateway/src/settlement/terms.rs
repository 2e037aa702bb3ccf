//! Under which terms a day is settled: weights and fee as they were configured when it first was.
//!
//! What is due is reckoned of all that a day came to, and what was settled before is taken off it. So the order in which fares,
//! debts and refunds came changes nothing, nor does how often the day was settled in between.

use super::{Due, SettlementConfig};
use crate::clearing::ClearingError;
use crate::settlement::shares::Shares;
use crate::store::db::{Conn, query};
use std::collections::BTreeMap;
use wavepass_fares::{Fen, ServiceDay, split};

/// What a day keeps of the configuration.
#[derive(Debug)]
pub(super) struct Terms {
    /// The first rank that was settled under them.
    from_rank: i64,
    fee_basis_points: i64,
    /// Each operator's weight.
    weights: Vec<(u16, u64)>,
}

/// What was settled of a day before.
pub(super) struct Before {
    /// All of it, by operator.
    pub(super) all: BTreeMap<u16, Due>,
    /// What of it was settled under the day's terms.
    under_terms: BTreeMap<u16, Due>,
}

impl Before {
    /// Adds up settlements: operator, rank, and what it was due.
    pub(super) fn of(settled: &[(u16, i64, Due)], terms: &Terms) -> Result<Self, ClearingError> {
        let mut before = Self { all: BTreeMap::new(), under_terms: BTreeMap::new() };
        for &(operator, rank, due) in settled {
            before.all.entry(operator).or_default().add(due)?;
            if rank >= terms.from_rank {
                before.under_terms.entry(operator).or_default().add(due)?;
            }
        }
        Ok(before)
    }
}

impl Terms {
    /// The day's terms. It has those of the configuration where it had none, from this rank on.
    pub(super) async fn of_day_in(
        conn: &mut Conn,
        day: ServiceDay,
        rank: i64,
        config: &SettlementConfig,
    ) -> Result<Self, ClearingError> {
        let stored: Option<(i64, i64, String)> =
            query("SELECT from_rank, fee_basis_points, weights FROM settlement_terms WHERE service_day = ?")
                .bind(day.number())
                .rows(&mut *conn)
                .await?
                .pop();
        if let Some((from_rank, fee_basis_points, weights)) = stored {
            let weights = serde_json::from_str(&weights).map_err(|_| damaged())?;
            return Ok(Self { from_rank, fee_basis_points, weights });
        }
        let terms = Self {
            from_rank: rank,
            fee_basis_points: config.fee_basis_points.into(),
            weights: config.operators.iter().map(|o| (o.operator, o.share)).collect(),
        };
        query("INSERT INTO settlement_terms (service_day, from_rank, fee_basis_points, weights) VALUES (?, ?, ?, ?)")
            .bind(day.number())
            .bind(terms.from_rank)
            .bind(terms.fee_basis_points)
            .bind(serde_json::to_string(&terms.weights).map_err(|_| damaged())?)
            .execute(conn)
            .await?;
        Ok(terms)
    }

    /// What each operator is still due of an amount that is split by weight: of all that the day came to under these terms, less
    /// what was settled.
    pub(super) fn by_weight(
        &self,
        total: Fen,
        before: &Before,
        of: fn(&Due) -> Fen,
    ) -> Result<Shares, ClearingError> {
        let sum = |settled: &BTreeMap<u16, Due>| Fen::sum(settled.values().map(of));
        let under_others = sum(&before.all)?.minus(sum(&before.under_terms)?)?;
        let weights: Vec<u64> = self.weights.iter().map(|(_, weight)| *weight).collect();
        let parts = split(total.minus(under_others)?, &weights).map_err(|_| damaged())?;
        let parts = self.weights.iter().map(|(operator, _)| *operator).zip(parts);
        let settled = |operator| before.under_terms.get(&operator).map(of).unwrap_or_default();
        parts.map(|(operator, part)| Ok((operator, part.minus(settled(operator))?))).collect()
    }

    /// The fee of what an operator is due now: of all that is its own under these terms, in whole fen towards zero, less what it
    /// paid. A refund gives its fee back.
    pub(super) fn fee(&self, operator: u16, gross: Fen, before: &Before) -> Result<Fen, ClearingError> {
        let settled = before.under_terms.get(&operator).copied().unwrap_or_default();
        let all = settled.gross()?.plus(gross)?;
        Ok(Fen(all.times(self.fee_basis_points)?.0 / 10_000).minus(settled.fees)?)
    }
}

fn damaged() -> ClearingError {
    ClearingError::damaged("a day's terms of settlement")
}
