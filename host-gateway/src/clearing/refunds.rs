//! Gives back something of a charge, once, as a further part of it.
//!
//! Where the bank has not taken the charge yet, the part is offset against it: the bank is asked for so much less, and a
//! debt shrinks by as much. Where it has, the part is a credit of its own that the bank is asked for. Either is a batch of
//! its own of the day, and takes back of each operator what it was given, in proportion.

#[cfg(test)]
mod tests;

use wavepass_fares::Fen;

use super::changes::{JourneyRow, standing_journeys_in};
use super::debts::shrink_debts_in;
use super::disputes::{DisputeError, DisputeId};
use super::{Clearing, ClearingError, batch, given_back};
use crate::ledger::{Account, Entries, Event, Name};
use crate::settlement::shares::{self, Method};
use crate::store::db::{Conn, Row, query};
use crate::store::shards::AFTER_ALL;

/// What was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refunded {
    /// The new part.
    pub(super) part: u32,
    /// The part that it gives back.
    pub(super) of_part: u32,
    /// How much.
    pub(super) amount: Fen,
    /// True where the bank has to be asked to credit it.
    pub(super) credit: bool,
}

/// A part of a token's charge for a day.
struct Part {
    part: u32,
    amount: Fen,
    offset: Fen,
    fare: bool,
    of_part: Option<u32>,
    state: String,
}

impl Part {
    /// What the bank is asked for.
    fn asked(&self) -> Result<Fen, ClearingError> {
        Ok(self.amount.plus(self.offset)?)
    }
}

impl Clearing {
    /// Gives an amount of a disputed journey back, in the caller's transaction.
    pub(super) async fn refund_in(
        &self,
        conn: &mut Conn,
        id: &DisputeId,
        amount: Fen,
    ) -> Result<Refunded, DisputeError> {
        let (day, token) = (id.day, id.token_key);
        let last = query(
            "SELECT rank, state, shares FROM day_close WHERE service_day = ? ORDER BY rank DESC LIMIT 1",
        )
        .bind(day.number())
        .fetch_optional(&mut *conn)
        .await?;
        let last = last.ok_or(ClearingError::NotClosed { day })?;
        if last.try_get::<&str>(1)? == "pricing" {
            return Err(ClearingError::Busy { day }.into());
        }
        let (rank, method) = (last.try_get::<i64>(0)? + 1, Method::stored(last.try_get(2)?)?);
        let parts = parts_in(conn, id).await?;
        let of = self.of_part_in(conn, id, &parts, amount).await?;
        let credit = match &*of.state {
            "deducted" => true,
            "open" | "declined" => false,
            "waived" => return Err(DisputeError::Waived { id: *id }),
            "written_off" => return Err(DisputeError::WrittenOff { id: *id }),
            _ => return Err(DisputeError::Unanswered { id: *id }),
        };
        let new = parts.iter().map(|part| part.part).max().unwrap_or(0) + 1;
        let refunded = Refunded { part: new, of_part: of.part, amount, credit };

        query(
            "INSERT INTO day_close (service_day, rank, shard, state, cursor, until, forced, shares) \
             VALUES (?, ?, 0, 'sealed', ?, ?, ?, ?)",
        )
        .bind(day.number())
        .bind(rank)
        .bind(AFTER_ALL.to_vec())
        .bind(AFTER_ALL.to_vec())
        .bind(false)
        .bind(method.as_str())
        .execute(&mut *conn)
        .await?;
        if !credit {
            offset_in(conn, id, of, amount).await?;
            let left = of.asked()?.minus(amount)?;
            let free = shrink_debts_in(conn, day, &[(token, of.part, left)]).await?;
            if !free.is_empty() {
                self.debtors
                    .release(conn, &free, "the debt is refunded")
                    .await
                    .map_err(ClearingError::from)?;
            }
        }
        query(
            "INSERT INTO charges (service_day, token_key, part, rank, amount_fen, state, kind, of_part, offset_fen) \
             VALUES (?, ?, ?, ?, ?, ?, 'refund', ?, ?)",
        )
        .bind(day.number())
        .bind(token.as_slice())
        .bind(new)
        .bind(rank)
        .bind(amount.negated()?.0)
        // Of an offset part the bank is asked for nothing.
        .bind(if credit { "open" } else { "deducted" })
        .bind(of.part)
        .bind(if credit { 0 } else { amount.0 })
        .execute(&mut *conn)
        .await?;
        self.book_refund_in(conn, id, &refunded, method).await?;
        batch::seal_in(conn, day, rank).await?;
        Ok(refunded)
    }

    /// The part that a refund gives back: that which recorded the journey, or, where too little of it is left, the first that
    /// has enough, of those that are owed and then of those that are paid. Refused where less is left. A journey whose part was
    /// given up is that part's, and its refund the caller's to refuse.
    async fn of_part_in<'p>(
        &self,
        conn: &mut Conn,
        id: &DisputeId,
        parts: &'p [Part],
        amount: Fen,
    ) -> Result<&'p Part, DisputeError> {
        let journey = standing_in(conn, id).await?;
        let (recorded, charged) =
            journey.ok_or(DisputeError::NoJourney { journey: id.journey, day: id.day })?;
        let of_journey = charged.minus(given_in(conn, id).await?)?;
        let of_day = Fen::sum(parts.iter().map(|part| part.amount))?;
        // What the bank took of the day and is not to give back yet.
        let taken = parts.iter().filter(|part| part.state == "deducted" || part.amount < Fen::ZERO);
        let taken = sum_asked(taken)?;
        let mut most = (Fen::ZERO, None);
        let mut raised: Vec<&Part> =
            parts.iter().filter(|part| part.fare && part.amount > Fen::ZERO).collect();
        // Before something is paid out, less is asked for.
        let is_owed = |part: &Part| matches!(&*part.state, "open" | "declined");
        raised.sort_by_key(|part| (part.part != recorded, !is_owed(part), part.part));
        if let Some(of) = raised.first().filter(|of| {
            of.part == recorded && is_given_up(of) && !of.asked().is_ok_and(|asked| asked.is_zero())
        }) {
            return Ok(of);
        }
        for of in raised {
            let credits = parts.iter().filter(|p| p.of_part == Some(of.part) && p.offset.is_zero());
            let of_part = of.asked()?.plus(sum_asked(credits)?)?;
            let of_bank = if of.state == "deducted" { taken } else { of_part };
            let left = of_journey.min(of_day).min(of_part).min(of_bank);
            if left > most.0 && most.0 < amount {
                most = (left, Some(of));
            }
        }
        match most {
            (left, Some(of)) if amount > Fen::ZERO && amount <= left => Ok(of),
            (left, _) => Err(DisputeError::TooMuch { id: *id, left }),
        }
    }

    async fn book_refund_in(
        &self,
        conn: &mut Conn,
        id: &DisputeId,
        refunded: &Refunded,
        method: Method,
    ) -> Result<(), ClearingError> {
        let (day, key) = (id.day, id.token_key);
        let name = Name {
            service_day: day.number(),
            shard: key.0,
            part: i64::from(refunded.part),
            event: Event::Refunded,
            at_ms: self.value_ms(day),
        };
        let mut entries = Entries::default();
        entries.transfer(name, refunded.amount.negated()?, Account::Fares, Account::Owed)?;
        entries.write_in(conn).await?;
        if method != Method::Fixed {
            let mut given = shares::given_to_in(conn, day, &[key]).await?;
            let taken = shares::take_back(refunded.amount, &given.remove(&key).unwrap_or_default())?;
            let part = (key, i64::from(refunded.part), &taken);
            shares::write_in(conn, day, std::iter::once(part)).await?;
        }
        let insert = query(
            "INSERT INTO refunds (token_key, service_day, first_key, first_sequence, number, part, of_part, amount_fen) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        );
        let insert = id.bind(insert).bind(refunded.part).bind(refunded.of_part).bind(refunded.amount.0);
        insert.execute(conn).await?;
        Ok(())
    }
}

/// Takes an amount off what the bank is asked for; a part that is asked for nothing needs no more asking.
async fn offset_in(conn: &mut Conn, id: &DisputeId, of: &Part, amount: Fen) -> Result<(), ClearingError> {
    query(
        "UPDATE charges SET offset_fen = offset_fen - ?4, state = CASE WHEN amount_fen + offset_fen = ?4 THEN 'deducted' \
         ELSE state END WHERE service_day = ?1 AND token_key = ?2 AND part = ?3",
    )
    .bind(id.day.number())
    .bind(id.token_key.as_slice())
    .bind(of.part)
    .bind(amount.0)
    .execute(conn)
    .await?;
    Ok(())
}

async fn parts_in(conn: &mut Conn, id: &DisputeId) -> Result<Vec<Part>, ClearingError> {
    let rows = query(
        "SELECT part, amount_fen, offset_fen, kind, of_part, state FROM charges \
         WHERE service_day = ? AND token_key = ? ORDER BY part",
    )
    .bind(id.day.number())
    .bind(id.token_key.as_slice())
    .fetch_all(conn)
    .await?;
    let part = |row: &Row| -> Result<Part, sqlx::Error> {
        Ok(Part {
            part: row.try_get(0)?,
            amount: Fen(row.try_get(1)?),
            offset: Fen(row.try_get(2)?),
            fare: row.try_get::<&str>(3)? == "fare",
            of_part: row.try_get(4)?,
            state: row.try_get(5)?,
        })
    };
    rows.iter().map(part).collect::<Result<_, _>>().map_err(Into::into)
}

fn is_given_up(part: &Part) -> bool {
    matches!(&*part.state, "waived" | "written_off")
}

fn sum_asked<'p>(parts: impl Iterator<Item = &'p Part>) -> Result<Fen, ClearingError> {
    let asked: Vec<Fen> = parts.map(Part::asked).collect::<Result<_, _>>()?;
    Ok(Fen::sum(asked)?)
}

/// What was given back of the journey that stands under a dispute's name, under whatever name.
async fn given_in(conn: &mut Conn, id: &DisputeId) -> Result<Fen, ClearingError> {
    let key = id.token_key.as_slice();
    let given = given_back::of_tokens_in(conn, id.day, &[id.token_key]).await?;
    let Some(given) = given.get(&id.token_key) else { return Ok(Fen::ZERO) };
    // A shorter key lies before all that begin with it.
    let before = &key[..key.len() - 1];
    let standing = standing_journeys_in(conn, id.day, before, key).await?;
    let journeys: Vec<JourneyRow> =
        standing.into_iter().filter(|(token, _)| *token == id.token_key).map(|(_, row)| row).collect();
    let (of, _) = given_back::of_journeys(given, &journeys)?;
    let tap = id.journey.0;
    let name = (tap.key, i64::from(tap.sequence));
    let place = journeys.iter().position(|row| row.first == name);
    Ok(place.and_then(|at| of.get(&at).copied()).unwrap_or_default())
}

/// The journey that stands under a dispute's name: the part that recorded it, and what it is charged.
pub(super) async fn standing_in(
    conn: &mut Conn,
    id: &DisputeId,
) -> Result<Option<(u32, Fen)>, ClearingError> {
    let row = query(
        "SELECT part, charged_fen FROM journeys WHERE token_key = ? AND service_day = ? AND first_key = ? \
         AND first_sequence = ? AND superseded_by IS NULL",
    );
    let row = id.of_journey(row).fetch_optional(conn).await?;
    row.map(|row| Ok((row.try_get(0)?, Fen(row.try_get(1)?)))).transpose()
}
