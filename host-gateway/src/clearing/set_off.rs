//! Sets what a day turns out cheaper off against what of it the bank has not taken.
//!
//! A close that finds a token's day cheaper than it is booked makes a fare below zero. The bank is asked to credit of it only
//! what it took of that day: the rest is set off against the parts that are still owed, were waived, or were written off, in
//! this order, and either part is asked for so much less. So nobody is paid back what was never paid, and a debt is what the
//! day came to. While one of the day's debits has no answer, it is not known what the bank took, and the credit waits.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use wavepass_fares::{Fen, ServiceDay};

use super::debts::shrink_debts_in;
use super::{Clearing, ClearingError, token_key};
use crate::keys::TokenKey;
use crate::ledger::{Account, Entries, Event, Name};
use crate::settlement::shares;
use crate::store::again_if_met;
use crate::store::db::{Conn, Row, query, read_many, write_many};

/// What a credit `c` waits for, as a condition on it: a debit of the same day that the bank was asked for and did not answer,
/// or that is to be set off first.
macro_rules! may_be_credited {
    () => {
        "(c.amount_fen + c.offset_fen >= 0 OR c.kind <> 'fare' OR NOT EXISTS (SELECT 1 FROM charges AS u \
         WHERE u.service_day = c.service_day AND u.token_key = c.token_key AND u.kind = 'fare' AND u.state <> 'deducted' \
         AND u.amount_fen + u.offset_fen > 0))"
    };
}

pub(super) use may_be_credited;

/// A fare of a token's day.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fare {
    part: u32,
    /// What the bank is asked for, or what of it was given up.
    asked: Fen,
    state: String,
}

impl Fare {
    /// The account that an amount was given up into.
    fn given_up(&self) -> Option<Account> {
        match &*self.state {
            "waived" => Some(Account::Waived),
            "written_off" => Some(Account::WrittenOff),
            _ => None,
        }
    }

    /// In which turn something is set off against it; `None`: never.
    fn turn(&self) -> Option<u8> {
        match &*self.state {
            "open" | "declined" => Some(0),
            "waived" => Some(1),
            "written_off" => Some(2),
            _ => None,
        }
    }

    fn may_be_asked(&self) -> bool {
        matches!(&*self.state, "open" | "declined")
    }
}

/// So much of a credit is set off against another part: places among a token's fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SetOff {
    credit: usize,
    against: usize,
    amount: Fen,
}

/// Sets the credits of a token's day off against its other fares, each in the order of parts.
fn set_off(fares: &mut [Fare]) -> Result<Vec<SetOff>, ClearingError> {
    let mut against: Vec<(u8, usize)> = (0..fares.len())
        .filter(|&at| fares[at].asked > Fen::ZERO)
        .filter_map(|at| Some((fares[at].turn()?, at)))
        .collect();
    against.sort_unstable();
    let mut made = Vec::new();
    for credit in 0..fares.len() {
        if !fares[credit].may_be_asked() {
            continue;
        }
        for &(_, at) in &against {
            let amount = fares[credit].asked.negated()?.min(fares[at].asked);
            if amount > Fen::ZERO {
                fares[credit].asked = fares[credit].asked.plus(amount)?;
                fares[at].asked = fares[at].asked.minus(amount)?;
                made.push(SetOff { credit, against: at, amount });
            }
        }
    }
    Ok(made)
}

/// What is set off of some tokens' days.
#[derive(Default)]
struct Written {
    /// Token, part, part that it is set off against, how much.
    set_offs: Vec<(TokenKey, u32, u32, Fen)>,
    /// Token, part, what its offset changes by, and its state.
    charges: Vec<(TokenKey, u32, Fen, String)>,
    /// Debts that there may be: token, part, and what is left.
    left: Vec<(TokenKey, u32, Fen)>,
    entries: Entries,
}

impl Clearing {
    /// Sets off what there is to set off of a day. May be called again at any time, by anybody.
    pub(super) async fn set_off_day(&self, day: ServiceDay) -> Result<(), ClearingError> {
        // Only a later close makes a fare below zero, or a first one after fares that were asked for early.
        let may_have: i64 = query(
            "SELECT (SELECT count(*) FROM day_close WHERE service_day = ?1 AND rank > 0) + \
             (SELECT count(*) FROM early_days WHERE service_day = ?1)",
        )
        .bind(day.number())
        .scalar(self.store.pool())
        .await?;
        let mut after = Some(Vec::new()).filter(|_| may_have > 0);
        while let Some(cursor) = after {
            after = again_if_met(|| self.set_off_page(day, &cursor)).await?;
        }
        Ok(())
    }

    /// Sets off what there is of the next tokens; gives the last of them, and `None` after the last page.
    async fn set_off_page(&self, day: ServiceDay, after: &[u8]) -> Result<Option<Vec<u8>>, ClearingError> {
        // In the turn of all writers: nobody asks for these parts meanwhile, or gives them up.
        let mut tx = self.store.begin().await?;
        let tokens: Vec<Vec<u8>> = query(
            "SELECT DISTINCT c.token_key FROM charges AS c INDEXED BY charges_unfinished WHERE c.service_day = ? \
             AND c.state IN ('open', 'declined') AND c.state IN ('open', 'sent', 'in_doubt', 'declined') AND c.kind = 'fare' \
             AND c.amount_fen + c.offset_fen < 0 AND c.token_key > ? AND EXISTS (SELECT 1 FROM charges AS u \
             WHERE u.service_day = c.service_day AND u.token_key = c.token_key AND u.kind = 'fare' \
             AND u.state IN ('open', 'declined', 'waived', 'written_off') AND u.amount_fen + u.offset_fen > 0) \
             ORDER BY c.token_key LIMIT ?",
        )
        .bind(day.number())
        .bind(after)
        .bind(self.deduct_page as i64)
        .column(&mut *tx)
        .await?;
        let Some(last) = tokens.last().cloned() else { return Ok(None) };
        let mut written = Written::default();
        for (token, mut fares) in fares_in(&mut tx, day, &tokens).await? {
            self.enter(day, token, &mut fares, &mut written)?;
        }
        self.write_in(&mut tx, day, &written).await?;
        tx.commit().await?;
        Ok((tokens.len() == self.deduct_page).then_some(last))
    }

    fn enter(
        &self,
        day: ServiceDay,
        token: TokenKey,
        fares: &mut [Fare],
        written: &mut Written,
    ) -> Result<(), ClearingError> {
        let before: Vec<Fen> = fares.iter().map(|fare| fare.asked).collect();
        for SetOff { credit, against, amount } in set_off(fares)? {
            let (part, of) = (fares[credit].part, &fares[against]);
            written.set_offs.push((token, part, of.part, amount));
            if let Some(account) = of.given_up() {
                let event = Event::SetOff(part);
                let (service_day, shard, at_ms) = (day.number(), token.0, self.value_ms(day));
                let name = Name { service_day, shard, part: i64::from(of.part), event, at_ms };
                written.entries.transfer(name, amount, account, Account::Owed)?;
            }
        }
        for (fare, before) in fares.iter().zip(before).filter(|(fare, before)| fare.asked != *before) {
            let done = fare.may_be_asked() && fare.asked.is_zero();
            let state = if done { "deducted".to_owned() } else { fare.state.clone() };
            written.charges.push((token, fare.part, fare.asked.minus(before)?, state));
            if fare.state != "open" && before > Fen::ZERO {
                written.left.push((token, fare.part, fare.asked));
            }
        }
        Ok(())
    }

    async fn write_in(
        &self,
        conn: &mut Conn,
        day: ServiceDay,
        written: &Written,
    ) -> Result<(), ClearingError> {
        let Written { set_offs, charges, left, entries } = written;
        shares::set_off_in(conn, day, set_offs).await?;
        let rows = set_offs
            .iter()
            .map(|(token, part, of_part, fen)| (day.number(), token.as_slice(), *part, *of_part, fen.0));
        let text = "INSERT INTO set_offs (service_day, token_key, part, of_part, amount_fen) VALUES ??";
        write_many(conn, text, rows).await?;
        let rows = charges
            .iter()
            .map(|(token, part, change, state)| (day.number(), token.as_slice(), *part, change.0, &**state));
        let text = "UPDATE charges SET offset_fen = offset_fen + v.column4, state = v.column5 FROM (VALUES ??) AS v \
                    WHERE service_day = v.column1 AND token_key = v.column2 AND part = v.column3";
        write_many(conn, text, rows).await?;
        entries.write_in(conn).await?;
        let free = shrink_debts_in(conn, day, left).await?;
        if !free.is_empty() {
            self.debtors.release(conn, &free, "the day is cheaper than what was owed").await?;
        }
        Ok(())
    }
}

/// The fares of some tokens' days, in the order of parts.
async fn fares_in(
    conn: &mut Conn,
    day: ServiceDay,
    tokens: &[Vec<u8>],
) -> Result<BTreeMap<TokenKey, Vec<Fare>>, ClearingError> {
    let text = "SELECT c.token_key, c.part, c.amount_fen + c.offset_fen, c.state FROM (VALUES ??) AS v \
                CROSS JOIN charges AS c WHERE c.service_day = v.column1 AND c.token_key = v.column2 AND c.kind = 'fare'";
    let rows = read_many(conn, text, tokens.iter().map(|key| (day.number(), &**key))).await?;
    let mut fares: BTreeMap<TokenKey, Vec<Fare>> = BTreeMap::new();
    let fare = |row: &Row| -> Result<Fare, ClearingError> {
        Ok(Fare { part: row.try_get(1)?, asked: Fen(row.try_get(2)?), state: row.try_get(3)? })
    };
    for row in &rows {
        fares.entry(token_key(row.try_get(0)?)?).or_default().push(fare(row)?);
    }
    fares.values_mut().for_each(|fares| fares.sort_unstable_by_key(|fare| fare.part));
    Ok(fares)
}
