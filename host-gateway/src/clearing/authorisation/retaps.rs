//! Tries that riders ask for: a denied token that is tapped again at a gate is a reason to ask the bank once more, for its debts
//! and for the hold that was declined, within the bounds of `[recovery]`.

use std::collections::BTreeMap;

use crate::store::db::{One, Row, query, read_many, write_many};
use wavepass_fares::ServiceDay;

use super::super::debts::contested::is_uncontested;
use super::super::debts::debt_day;
use super::super::{ClearingError, DeductSummary, day_number, token_key};
use super::holds::{Wanted, declined_holds};
use super::round::Authoriser;
use super::{Authorised, BY};
use crate::bank::AttemptId;
use crate::keys::TokenKey;
use crate::store::{Audit, audit_all_in};
use wavepass_protocol::time::UnixMs;

/// Tokens in one transaction.
const PAGE: usize = 1_000;

impl Authoriser<'_> {
    /// Asks again for what denied tokens owe that were tapped, and forgets the taps.
    pub(super) async fn recover_by_tap(&self, done: &mut Authorised) -> Result<(), ClearingError> {
        let mut after: Vec<u8> = Vec::new();
        loop {
            let rows =
                query("SELECT token_key, at_ms FROM retaps WHERE token_key > ? ORDER BY token_key LIMIT ?")
                    .bind(&after)
                    .bind(PAGE as i64)
                    .fetch_all(self.clearing.store.pool())
                    .await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.try_get(0)?;
            let retap = |row: &Row| -> Result<(TokenKey, i64), ClearingError> {
                Ok((token_key(row.try_get(0)?)?, row.try_get(1)?))
            };
            let retaps: Vec<(TokenKey, i64)> = rows.iter().map(retap).collect::<Result<_, _>>()?;
            let tokens: Vec<TokenKey> = retaps.iter().map(|(key, _)| *key).collect();
            for (day, declined) in self.debts_due(&tokens).await? {
                let mut summary = DeductSummary::default();
                self.clearing.ask_again(day, &declined, &mut summary).await?;
                done.by_tap.add(summary);
                self.audit(day, &declined).await?;
            }
            let wanted = self.holds_due(&tokens).await?;
            self.clearing.place_holds(&wanted, true, done).await?;
            let mut tx = self.clearing.store.begin().await?;
            // One that was tapped again meanwhile stays.
            let text = "DELETE FROM retaps WHERE (token_key, at_ms) IN (VALUES ??)";
            write_many(&mut tx, text, retaps.iter().map(|(key, at_ms)| (key.as_slice(), *at_ms))).await?;
            tx.commit().await?;
        }
    }

    /// The declined charges of tokens that may be asked for now, by day, each named by its last attempt. While a token is suspended
    /// none may.
    async fn debts_due(
        &self,
        tokens: &[TokenKey],
    ) -> Result<BTreeMap<ServiceDay, Vec<AttemptId>>, ClearingError> {
        let text = concat!(
            "SELECT d.token_key, d.service_day, d.part, c.attempts, d.asked_ms FROM debts AS d JOIN charges AS c \
             ON c.service_day = d.service_day AND c.token_key = d.token_key AND c.part = d.part \
             LEFT JOIN tokens AS t ON t.token_key = d.token_key \
             WHERE d.token_key IN ?? AND d.state = 'open' AND c.state = 'declined' \
             AND (t.state IS NULL OR t.state <> 'suspended') AND ",
            is_uncontested!(),
            " ORDER BY d.service_day, d.token_key, d.part"
        );
        let mut conn = self.clearing.store.pool().acquire().await?;
        let mut due: BTreeMap<ServiceDay, Vec<AttemptId>> = BTreeMap::new();
        for row in read_many(&mut conn, text, tokens.iter().map(|key| One(key.as_slice()))).await? {
            let day = debt_day(row.try_get(1)?)?;
            let (attempt, asked_ms) = (row.try_get(3)?, row.try_get(4)?);
            let (end_ms, now_ms) = (self.clearing.value_ms(day), self.clearing.now_ms);
            if self.recovery.is_due_by_tap(attempt, asked_ms, end_ms, now_ms) {
                let (service_day, part) = (day_number(day), row.try_get(2)?);
                let token_key = token_key(row.try_get(0)?)?.0;
                due.entry(day).or_default().push(AttemptId { service_day, token_key, part, attempt });
            }
        }
        Ok(due)
    }

    /// The holds of tokens that were declined and may be asked for anew.
    async fn holds_due(&self, tokens: &[TokenKey]) -> Result<Vec<Wanted>, ClearingError> {
        let declined = declined_holds(&self.clearing.store, tokens).await?;
        let now_ms = self.clearing.now_ms;
        let due =
            declined.into_iter().filter(|(_, asked_ms)| self.recovery.may_tap_again(Some(*asked_ms), now_ms));
        Ok(due.map(|(wanted, _)| wanted).collect())
    }

    async fn audit(&self, day: ServiceDay, declined: &[AttemptId]) -> Result<(), ClearingError> {
        let lines: Vec<(String, String)> = declined
            .iter()
            .map(|id| {
                (TokenKey(id.token_key).to_hex(), format!("by a tap at a gate: {day}, part {}", id.part))
            })
            .collect();
        // The clock was asked before: it is never below zero.
        let at = UnixMs(u64::try_from(self.clearing.now_ms).unwrap_or(0));
        let line = |(subject, detail)| Audit { at, user: BY, action: "debt.recover", subject, detail };
        let lines: Vec<Audit<'_>> = lines.iter().map(|(s, d)| line((s.as_str(), d.as_str()))).collect();
        let mut tx = self.clearing.store.begin().await?;
        audit_all_in(&mut tx, &lines).await?;
        tx.commit().await?;
        Ok(())
    }
}
