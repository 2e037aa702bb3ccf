//! Early parts: what finished journeys of an open day cost, booked as numbered parts of the charge and asked for at once.
//!
//! Where the day's shares are not fixed, each part freezes what the finished journeys give each operator less what the parts
//! before it gave: whatever the terms, the parts of a day give each what the day would give at once.

use std::collections::BTreeMap;

use crate::store::db::{Conn, query, read_many};
use wavepass_fares::{Fen, Journey, Priced, ServiceDay, Status};

use super::super::changes::{Booked, Change, changes, standing_journey};
use super::super::{Clearing, ClearingError, DeductSummary, token_key};
use crate::keys::TokenKey;
use crate::settlement::shares::{self, Method};

/// The rank of the close that seals early parts into its batch: the day's first.
const RANK: i64 = 0;

/// True if a journey can be asked for: it is over, and what it costs is known. One whose exit is missing may still be under way.
pub(super) const fn is_finished(journey: &Journey) -> bool {
    !matches!(journey.status, Status::Incomplete | Status::Unpriced)
}

/// What of a day is finished, as if the rest were not there.
pub(super) fn finished(priced: &Priced) -> Result<Priced, ClearingError> {
    let mut days = priced.days.clone();
    let mut journeys = Vec::with_capacity(priced.journeys.len());
    for day in &mut days {
        let of_day = priced.journeys[day.journeys.clone()].iter().filter(|journey| is_finished(journey));
        let from = journeys.len();
        journeys.extend(of_day.cloned());
        day.journeys = from..journeys.len();
        day.charge = Fen::sum(journeys[day.journeys.clone()].iter().map(|journey| journey.charged))?;
    }
    Ok(Priced { journeys, days })
}

impl Clearing {
    /// Books what finished journeys cost and was not booked, and asks the bank for it. A day whose close has begun is left to
    /// the close, and so is what a token is to get back.
    pub(super) async fn ask_early(
        &self,
        day: ServiceDay,
        finished: Vec<(TokenKey, Priced)>,
        summary: &mut DeductSummary,
    ) -> Result<(), ClearingError> {
        let Some(method) = self.early_method(day).await? else { return Ok(()) };
        let sharing = self.sharing(method, day)?;
        let mut finished = self.share_tokens(finished, sharing).await?;
        let mut tx = self.store.begin().await?;
        // Read inside the writer's transaction: a close that begins after it finds these parts.
        if has_begun_in(&mut tx, day).await? {
            return Ok(());
        }
        let keys: Vec<TokenKey> = finished.iter().map(|token| token.key).collect();
        let booked = booked_in(&mut tx, day, &keys).await?;
        let given = shares::given_to_in(&mut tx, day, &keys).await?;
        for token in &mut finished {
            token.shares = match given.get(&token.key) {
                Some(given) => shares::difference(&token.shares, given)?,
                None => std::mem::take(&mut token.shares),
            };
        }
        let mut changed: Vec<Change> = changes(&self.tariffs, finished, booked)?;
        changed.retain(|change| change.amount > Fen::ZERO);
        self.write_changes_in(&mut tx, (day, RANK), &changed).await?;
        let parts: Vec<(TokenKey, i64)> = changed.iter().map(|change| (change.key, change.part)).collect();
        let attempts = self.number_first_in(&mut tx, day, &parts).await?;
        tx.commit().await?;
        if !attempts.is_empty() {
            self.ask(day, attempts, summary).await?;
        }
        Ok(())
    }

    /// What the shares of an open day go by, fixed from now on; `None` where its close has begun.
    async fn early_method(&self, day: ServiceDay) -> Result<Option<Method>, ClearingError> {
        let mut conn = self.store.pool().acquire().await?;
        if let Some(method) = shares::early_method_in(&mut conn, day).await? {
            return Ok(Some(method));
        }
        drop(conn);
        // Refused before anything is fixed.
        self.sharing(self.settlement.method, day)?;
        let mut tx = self.store.begin().await?;
        if has_begun_in(&mut tx, day).await? {
            return Ok(None);
        }
        shares::fix_early_method_in(&mut tx, day, self.settlement.method).await?;
        let method = shares::early_method_in(&mut tx, day).await?;
        tx.commit().await?;
        Ok(method)
    }

    /// Asks again for early parts that have no answer, under their own names.
    pub(super) async fn ask_unanswered_early(
        &self,
        summary: &mut DeductSummary,
    ) -> Result<(), ClearingError> {
        let numbers: Vec<i64> = query(
            "SELECT DISTINCT c.service_day FROM charges AS c INDEXED BY charges_unfinished \
             WHERE c.state IN ('open', 'sent', 'in_doubt', 'declined') AND c.state IN ('sent', 'in_doubt') \
             AND NOT EXISTS (SELECT 1 FROM batches AS b WHERE b.service_day = c.service_day AND b.rank = c.rank) \
             ORDER BY c.service_day",
        )
        .column(self.store.pool())
        .await?;
        for number in numbers {
            let day = ServiceDay::from_number(number).map_err(|_| ClearingError::damaged("a service day"))?;
            self.ask_unanswered(day, None, summary).await?;
        }
        Ok(())
    }
}

/// True once a close of the day has begun.
pub(super) async fn has_begun_in(conn: &mut Conn, day: ServiceDay) -> Result<bool, ClearingError> {
    let begun = query("SELECT 1 FROM day_close WHERE service_day = ? LIMIT 1")
        .bind(day.number())
        .fetch_optional(conn)
        .await?;
    Ok(begun.is_some())
}

/// What a day's books say of some tokens.
pub(super) async fn booked_in(
    conn: &mut Conn,
    day: ServiceDay,
    tokens: &[TokenKey],
) -> Result<BTreeMap<TokenKey, Booked>, ClearingError> {
    let mut booked: BTreeMap<TokenKey, Booked> = BTreeMap::new();
    let names = || tokens.iter().map(|key| (day.number(), key.as_slice()));
    let text = "SELECT c.token_key, CAST(SUM(c.amount_fen) AS BIGINT), MAX(c.part) FROM (VALUES ??) AS v \
                CROSS JOIN charges AS c WHERE c.service_day = v.column1 AND c.token_key = v.column2 GROUP BY c.token_key";
    for row in read_many(conn, text, names()).await? {
        let entry = booked.entry(token_key(row.try_get(0)?)?).or_default();
        (entry.amount, entry.parts) = (Fen(row.try_get(1)?), row.try_get(2)?);
    }
    let text = "SELECT j.token_key, j.first_key, j.first_sequence, j.second_key, j.second_sequence, j.from_station, \
                j.entered_ms, j.to_station, j.left_ms, j.nominal_fen, j.charged_fen, j.status FROM (VALUES ??) AS v \
                CROSS JOIN journeys AS j WHERE j.service_day = v.column1 AND j.token_key = v.column2 \
                AND j.superseded_by IS NULL";
    for row in read_many(conn, text, names()).await? {
        let (key, journey) = standing_journey(&row)?;
        booked.entry(key).or_default().journeys.push(journey);
    }
    Ok(booked)
}

/// What of an open day is at risk no more, by token: the bank has paid for it, or it was given up. Tokens without such are
/// left out.
pub(super) async fn paid_in(
    conn: &mut Conn,
    day: ServiceDay,
    tokens: &[TokenKey],
) -> Result<BTreeMap<TokenKey, Fen>, ClearingError> {
    let text = "SELECT c.token_key, CAST(SUM(c.amount_fen) AS BIGINT) FROM (VALUES ??) AS v CROSS JOIN charges AS c \
                WHERE c.service_day = v.column1 AND c.token_key = v.column2 AND c.state IN ('deducted', 'waived', 'written_off') \
                GROUP BY c.token_key";
    let mut paid = BTreeMap::new();
    for row in read_many(conn, text, tokens.iter().map(|key| (day.number(), key.as_slice()))).await? {
        paid.insert(token_key(row.try_get(0)?)?, Fen(row.try_get(1)?));
    }
    Ok(paid)
}
