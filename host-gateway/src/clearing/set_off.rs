//! Sets what a day turns out cheaper off against what of it the bank has not taken.
//!
//! A close that finds a token's day cheaper than it is booked makes a fare below zero. It is set off against the day's parts
//! that are owed, then against those that were written off: they are so much less. Of the rest the bank is asked to credit
//! what it took of the day, at most; what it did not take is less of what was waived. So nobody is paid back what was never
//! paid, a debt is what the day came to, and a waiver stays a gift. While one of the day's debits has no answer, it is not
//! known what the bank took, and the credit waits.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use wavepass_fares::{Fen, ServiceDay};
use wavepass_protocol::time::UnixMs;

use super::debts::shrink_debts_in;
use super::{Clearing, ClearingError, token_key};
use crate::keys::TokenKey;
use crate::ledger::{Account, Entries, Event, Name};
use crate::settlement::shares;
use crate::store::db::{Conn, Row, query, read_many, write_many};
use crate::store::{Audit, again_if_met, audit_all_in};

/// Whether the bank may be asked for a charge `c`: what is to be credited waits for a debit of the same day that has no answer,
/// or that it is to be set off against first, and is at most what the bank took.
macro_rules! may_be_credited {
    () => {
        "(c.amount_fen + c.offset_fen >= 0 OR c.kind <> 'fare' OR ((SELECT count(*) FROM charges AS u \
         WHERE u.service_day = c.service_day AND u.token_key = c.token_key AND u.kind = 'fare' \
         AND u.state NOT IN ('deducted', 'waived') AND u.amount_fen + u.offset_fen > 0) = 0 \
         AND (SELECT SUM(u.amount_fen + u.offset_fen) FROM charges AS u WHERE u.service_day = c.service_day \
         AND u.token_key = c.token_key AND (u.state = 'deducted' OR u.amount_fen + u.offset_fen < 0)) >= 0))"
    };
}

pub(super) use may_be_credited;

/// A part of a token's charge for a day.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    part: u32,
    /// What the bank is asked for, or what of it was given up.
    asked: Fen,
    state: String,
    fare: bool,
}

impl Part {
    /// The account that an amount was given up into.
    fn given_up(&self) -> Option<Account> {
        match &*self.state {
            "waived" => Some(Account::Waived),
            "written_off" => Some(Account::WrittenOff),
            _ => None,
        }
    }

    /// Whether the bank may be asked for it.
    fn may_be_asked(&self) -> bool {
        matches!(&*self.state, "open" | "declined")
    }

    /// Whether it is not known what the bank took of it.
    fn has_no_answer(&self) -> bool {
        self.asked > Fen::ZERO && matches!(&*self.state, "sent" | "in_doubt")
    }
}

/// So much of a credit is set off against another part: places among a token's parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SetOff {
    credit: usize,
    against: usize,
    amount: Fen,
}

/// The parts of a token's day, while credits are set off.
struct Day<'p> {
    parts: &'p mut [Part],
    made: Vec<SetOff>,
}

impl Day<'_> {
    /// Sets a credit off against the debits in a state that `of` takes, in the order of parts, at most so much.
    fn against(&mut self, credit: usize, most: Fen, of: fn(&Part) -> bool) -> Result<(), ClearingError> {
        let mut left = most.min(self.parts[credit].asked.negated()?);
        for against in 0..self.parts.len() {
            let part = &self.parts[against];
            if !part.fare || !of(part) {
                continue;
            }
            let amount = left.min(part.asked);
            if amount > Fen::ZERO {
                left = left.minus(amount)?;
                self.parts[credit].asked = self.parts[credit].asked.plus(amount)?;
                self.parts[against].asked = self.parts[against].asked.minus(amount)?;
                self.made.push(SetOff { credit, against, amount });
            }
        }
        Ok(())
    }

    /// What the bank took, less what it is to give back: below zero where that is more.
    fn taken(&self) -> Result<Fen, ClearingError> {
        let counts = |part: &&Part| part.state == "deducted" || part.asked < Fen::ZERO;
        Ok(Fen::sum(self.parts.iter().filter(counts).map(|part| part.asked))?)
    }
}

/// Sets the credits of a token's day off, in the order of parts.
fn set_off(parts: &mut [Part]) -> Result<Vec<SetOff>, ClearingError> {
    let mut day = Day { parts, made: Vec::new() };
    let credits = |day: &Day<'_>| -> Vec<usize> {
        let is_credit = |part: &Part| part.fare && part.may_be_asked() && part.asked < Fen::ZERO;
        (0..day.parts.len()).filter(|&at| is_credit(&day.parts[at])).collect()
    };
    for credit in credits(&day) {
        day.against(credit, Fen(i64::MAX), Part::may_be_asked)?;
        day.against(credit, Fen(i64::MAX), |part| part.state == "written_off")?;
    }
    if day.parts.iter().any(Part::has_no_answer) {
        return Ok(day.made);
    }
    // The latest first: what the bank does not cover comes of those that are new, and none is set off against one part twice.
    for credit in credits(&day).into_iter().rev() {
        let uncovered = day.taken()?.negated()?;
        day.against(credit, uncovered, |part| part.state == "waived")?;
    }
    Ok(day.made)
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
    /// What the audit log is told of debts: token and detail.
    told: Vec<(String, String)>,
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
        if may_have == 0 {
            return Ok(());
        }
        for state in ["open", "declined"] {
            let mut after = Vec::new();
            loop {
                let tokens = self.with_credits(day, state, &after).await?;
                let Some(last) = tokens.last() else { break };
                after = last.as_slice().to_vec();
                again_if_met(|| self.set_off_tokens(day, &tokens)).await?;
            }
        }
        Ok(())
    }

    /// The next tokens that have a credit in this state beside a part that it may be set off against. Read beside all writers:
    /// what is set off is decided in their turn, and a credit that is not seen here waits.
    async fn with_credits(
        &self,
        day: ServiceDay,
        state: &'static str,
        after: &[u8],
    ) -> Result<Vec<TokenKey>, ClearingError> {
        let keys: Vec<Vec<u8>> = query(
            "SELECT c.token_key FROM charges AS c INDEXED BY charges_unfinished WHERE c.service_day = ? AND c.state = ? \
             AND c.state IN ('open', 'sent', 'in_doubt', 'declined') AND c.kind = 'fare' AND c.amount_fen + c.offset_fen < 0 \
             AND c.token_key > ? AND (SELECT count(*) FROM charges AS u WHERE u.service_day = c.service_day \
             AND u.token_key = c.token_key AND u.kind = 'fare' AND u.state IN ('open', 'declined', 'waived', 'written_off') \
             AND u.amount_fen + u.offset_fen > 0) > 0 ORDER BY c.token_key, c.part LIMIT ?",
        )
        .bind(day.number())
        .bind(state)
        .bind(after)
        .bind(self.deduct_page as i64)
        .column(self.store.pool())
        .await?;
        let mut tokens: Vec<TokenKey> = keys.iter().map(|key| token_key(key)).collect::<Result<_, _>>()?;
        tokens.dedup();
        Ok(tokens)
    }

    /// Sets off what there is of these tokens, in the turn of all writers: nobody asks for their parts meanwhile, or gives them up.
    async fn set_off_tokens(&self, day: ServiceDay, tokens: &[TokenKey]) -> Result<(), ClearingError> {
        let mut tx = self.store.begin().await?;
        let mut written = Written::default();
        for (token, mut parts) in parts_in(&mut tx, day, tokens).await? {
            self.enter(day, token, &mut parts, &mut written)?;
        }
        self.write_in(&mut tx, day, &written).await?;
        tx.commit().await?;
        Ok(())
    }

    fn enter(
        &self,
        day: ServiceDay,
        token: TokenKey,
        parts: &mut [Part],
        written: &mut Written,
    ) -> Result<(), ClearingError> {
        let before: Vec<Fen> = parts.iter().map(|part| part.asked).collect();
        for SetOff { credit, against, amount } in set_off(parts)? {
            let (part, of) = (parts[credit].part, &parts[against]);
            written.set_offs.push((token, part, of.part, amount));
            if of.state != "open" {
                let detail = format!("{day}, part {part} against part {}, {} fen", of.part, amount.0);
                written.told.push((token.to_hex(), detail));
            }
            if let Some(account) = of.given_up() {
                let event = Event::SetOff(part);
                let (service_day, shard, at_ms) = (day.number(), token.0, self.value_ms(day));
                let name = Name { service_day, shard, part: i64::from(of.part), event, at_ms };
                written.entries.transfer(name, amount, account, Account::Owed)?;
            }
        }
        for (part, before) in parts.iter().zip(before).filter(|(part, before)| part.asked != *before) {
            let done = part.may_be_asked() && part.asked.is_zero();
            let state = if done { "deducted".to_owned() } else { part.state.clone() };
            written.charges.push((token, part.part, part.asked.minus(before)?, state));
            if part.state != "open" && before > Fen::ZERO {
                written.left.push((token, part.part, part.asked));
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
        let Written { set_offs, charges, left, entries, told } = written;
        if set_offs.is_empty() {
            return Ok(());
        }
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
        let at = UnixMs(u64::try_from(self.now_ms).unwrap_or(0));
        let line =
            |(subject, detail)| Audit { at, user: "clearing", action: "debt.set_off", subject, detail };
        let lines: Vec<Audit<'_>> =
            told.iter().map(|(subject, detail)| line((subject.as_str(), detail.as_str()))).collect();
        audit_all_in(conn, &lines).await?;
        Ok(())
    }
}

/// The parts of some tokens' days, in their order.
async fn parts_in(
    conn: &mut Conn,
    day: ServiceDay,
    tokens: &[TokenKey],
) -> Result<BTreeMap<TokenKey, Vec<Part>>, ClearingError> {
    let text = "SELECT c.token_key, c.part, c.amount_fen + c.offset_fen, c.state, c.kind FROM (VALUES ??) AS v \
                CROSS JOIN charges AS c WHERE c.service_day = v.column1 AND c.token_key = v.column2";
    let rows = read_many(conn, text, tokens.iter().map(|key| (day.number(), key.as_slice()))).await?;
    let mut parts: BTreeMap<TokenKey, Vec<Part>> = BTreeMap::new();
    let part = |row: &Row| -> Result<Part, ClearingError> {
        let fare = row.try_get::<&str>(4)? == "fare";
        Ok(Part { part: row.try_get(1)?, asked: Fen(row.try_get(2)?), state: row.try_get(3)?, fare })
    };
    for row in &rows {
        parts.entry(token_key(row.try_get(0)?)?).or_default().push(part(row)?);
    }
    parts.values_mut().for_each(|parts| parts.sort_unstable_by_key(|part| part.part));
    Ok(parts)
}
