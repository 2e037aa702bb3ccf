//! Holds: what the bank is asked to keep back for a token from its first tap on.
//!
//! A hold's number is durable before it is sent. One without an answer is asked for again under its number; a new one needs the
//! last one finally answered and over. A decline puts the token on the deny list, by the decline's word; an approval takes it off.

use std::collections::{BTreeMap, BTreeSet};

use crate::store::Store;
use crate::store::db::{Conn, One, Row, query, read_many, write_many};
use wavepass_fares::{Fen, ServiceDay};

use super::super::debts::debt_day;
use super::super::{Clearing, ClearingError, token_key};
use super::{Authorised, HoldSummary};
use crate::bank::{Answer, BankError, Decline, HoldId, HoldRequest, Release};
use crate::keys::TokenKey;

/// Holds in one call of the bank, and in one transaction here.
const PAGE: i64 = 4_000;

/// A hold that is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) token: TokenKey,
    pub(super) day: ServiceDay,
    pub(super) amount: Fen,
    /// How long it lasts.
    pub(super) hold_ms: i64,
}

/// A hold that is numbered.
struct Numbered {
    request: HoldRequest,
    /// The token may be used.
    usable: bool,
}

impl Clearing {
    /// Numbers the holds that are wanted and asks for them. A token that has one, or that nobody registered, gets none;
    /// unless `again`, neither does one whose last was declined.
    pub(super) async fn place_holds(
        &self,
        wanted: &[Wanted],
        again: bool,
        done: &mut Authorised,
    ) -> Result<(), ClearingError> {
        for page in wanted.chunks(PAGE as usize) {
            let mut tx = self.store.begin().await?;
            let numbered = self.number_holds_in(&mut tx, page, again).await?;
            tx.commit().await?;
            self.ask_holds(numbered, done).await?;
        }
        Ok(())
    }

    async fn number_holds_in(
        &self,
        conn: &mut Conn,
        wanted: &[Wanted],
        again: bool,
    ) -> Result<Vec<Numbered>, ClearingError> {
        let keys = || wanted.iter().map(|wanted| One(wanted.token.as_slice()));
        let text =
            "SELECT token_key, account_id, state FROM tokens WHERE token_key IN ?? AND account_id <> ''";
        let mut accounts: BTreeMap<TokenKey, (String, bool)> = BTreeMap::new();
        for row in read_many(conn, text, keys()).await? {
            let usable = row.try_get::<&str>(2)? == "active";
            accounts.insert(token_key(row.try_get(0)?)?, (row.try_get(1)?, usable));
        }
        let text = "SELECT h.token_key, h.number, h.state FROM holds AS h WHERE h.token_key IN ?? \
                    AND h.number = (SELECT max(l.number) FROM holds AS l WHERE l.token_key = h.token_key)";
        let mut last: BTreeMap<TokenKey, (u32, bool)> = BTreeMap::new();
        for row in read_many(conn, text, keys()).await? {
            let free = match row.try_get::<&str>(2)? {
                "declined" => again,
                state => matches!(state, "completed" | "released" | "expired"),
            };
            last.insert(token_key(row.try_get(0)?)?, (row.try_get(1)?, free));
        }
        let mut numbered = Vec::new();
        let mut rows = Vec::new();
        for wanted in wanted {
            let (number, free) = last.get(&wanted.token).copied().unwrap_or((0, true));
            let Some((account_id, usable)) = accounts.remove(&wanted.token).filter(|_| free) else {
                continue;
            };
            let id = HoldId { token_key: wanted.token.0, number: number + 1 };
            let expires_ms = self.now_ms + wanted.hold_ms;
            rows.push((
                id.token_key.to_vec(),
                id.number,
                wanted.day.number(),
                account_id.clone(),
                wanted.amount.0,
                "asked",
                self.now_ms,
                expires_ms,
            ));
            let request = HoldRequest { id, account_id, amount: wanted.amount, expires_ms };
            numbered.push(Numbered { request, usable });
        }
        let text = "INSERT INTO holds (token_key, number, service_day, account_id, amount_fen, state, asked_ms, \
                    expires_ms) VALUES ??";
        write_many(conn, text, rows).await?;
        Ok(numbered)
    }

    /// Asks anew for the hold of a token that was declined, if gates refuse it for that.
    pub(in crate::clearing) async fn hold_again(
        &self,
        token: TokenKey,
    ) -> Result<HoldSummary, ClearingError> {
        let declined = declined_holds(&self.store, &[token]).await?;
        let wanted: Vec<Wanted> = declined.into_iter().map(|(wanted, _)| wanted).collect();
        let mut done = Authorised::default();
        self.place_holds(&wanted, true, &mut done).await?;
        Ok(done.holds)
    }

    /// Asks again for holds that have no answer, under their numbers.
    pub(super) async fn ask_unanswered_holds(&self, done: &mut Authorised) -> Result<(), ClearingError> {
        let mut after: Vec<u8> = Vec::new();
        loop {
            let rows = query(
                "SELECT token_key, number, account_id, amount_fen, expires_ms FROM holds \
                 WHERE state IN ('asked', 'in_doubt') AND token_key > ? ORDER BY token_key LIMIT ?",
            )
            .bind(&after)
            .bind(PAGE)
            .fetch_all(self.store.pool())
            .await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.try_get(0)?;
            let numbered = |row: &Row| -> Result<Numbered, ClearingError> {
                let id = HoldId { token_key: token_key(row.try_get(0)?)?.0, number: row.try_get(1)? };
                let request = HoldRequest {
                    id,
                    account_id: row.try_get(2)?,
                    amount: Fen(row.try_get(3)?),
                    expires_ms: row.try_get(4)?,
                };
                // The bank may have answered already: it is asked, whatever became of the token since.
                Ok(Numbered { request, usable: true })
            };
            let numbered = rows.iter().map(numbered).collect::<Result<_, _>>()?;
            self.ask_holds(numbered, done).await?;
        }
    }

    async fn ask_holds(&self, numbered: Vec<Numbered>, done: &mut Authorised) -> Result<(), ClearingError> {
        let (usable, not): (Vec<Numbered>, Vec<Numbered>) = numbered.into_iter().partition(|n| n.usable);
        let mut answered: Vec<(HoldId, Answer)> =
            not.into_iter().map(|n| (n.request.id, Answer::Declined(Decline::TokenSuspended))).collect();
        if !usable.is_empty() {
            let requests: Vec<HoldRequest> = usable.into_iter().map(|n| n.request).collect();
            let answers = match self.bank.authorise(&requests).await {
                Ok(answers) if answers.len() == requests.len() => answers,
                Ok(answers) => {
                    let (answers, requests) = (answers.len(), requests.len());
                    return Err(ClearingError::Answers { answers, requests });
                }
                Err(error) => {
                    no_answer(&error, requests.len());
                    vec![Answer::NoAnswer; requests.len()]
                }
            };
            answered.extend(requests.iter().map(|request| request.id).zip(answers));
        }
        self.record_holds(&answered, done).await
    }

    /// Records answers, and what they change of the deny list, in one transaction. An answer to a hold that somebody else has
    /// recorded meanwhile changes nothing: a later hold of the token may have been answered since.
    async fn record_holds(
        &self,
        answered: &[(HoldId, Answer)],
        done: &mut Authorised,
    ) -> Result<(), ClearingError> {
        let rows = answered.iter().map(|(id, answer)| {
            let (state, reason) = match answer {
                Answer::Approved => ("active", None),
                Answer::Declined(decline) => ("declined", Some(decline.as_str())),
                Answer::NoAnswer => ("in_doubt", None),
            };
            (id.token_key.to_vec(), id.number, state, reason, self.now_ms)
        });
        let mut tx = self.store.begin().await?;
        let text = "UPDATE holds SET state = v.column3, reason = v.column4, asked_ms = v.column5 FROM (VALUES ??) AS v \
                    WHERE holds.token_key = v.column1 AND holds.number = v.column2 \
                    AND holds.state IN ('asked', 'in_doubt') RETURNING token_key, number";
        let mut recorded = BTreeSet::new();
        for row in read_many(&mut tx, text, rows).await? {
            recorded.insert((token_key(row.try_get(0)?)?, row.try_get::<u32>(1)?));
        }
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for (id, answer) in answered {
            let key = TokenKey(id.token_key);
            match answer {
                _ if !recorded.contains(&(key, id.number)) => {}
                Answer::Approved => good.push(key),
                Answer::Declined(decline) => bad.push((key, decline.as_str())),
                Answer::NoAnswer => {}
            }
        }
        if !bad.is_empty() {
            self.debtors.distrust(&mut tx, &bad).await?;
        }
        if !good.is_empty() {
            self.debtors.trust(&mut tx, &good).await?;
        }
        tx.commit().await?;
        done.holds.add(HoldSummary {
            approved: good.len() as u64,
            declined: bad.len() as u64,
            in_doubt: (recorded.len() - good.len() - bad.len()) as u64,
        });
        Ok(())
    }

    /// Takes note of holds that have expired: by the same clock, the bank's have, too.
    pub(super) async fn expire_holds(&self) -> Result<(), ClearingError> {
        let mut tx = self.store.begin().await?;
        query("UPDATE holds SET state = 'expired' WHERE state IN ('asked', 'in_doubt', 'active') AND expires_ms <= ?")
            .bind(self.now_ms)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Ends holds of closed days that nothing is left to deduct of.
    pub(super) async fn release_holds(&self) -> Result<(), ClearingError> {
        let mut after: Vec<u8> = Vec::new();
        loop {
            let rows = query(
                "SELECT h.token_key, h.number, h.account_id FROM holds AS h WHERE h.state = 'active' AND h.token_key > ? \
                 AND EXISTS (SELECT 1 FROM batches AS b WHERE b.service_day = h.service_day AND b.rank = 0) \
                 AND NOT EXISTS (SELECT 1 FROM charges AS c WHERE c.service_day = h.service_day \
                 AND c.token_key = h.token_key AND c.state IN ('open', 'sent', 'in_doubt')) \
                 ORDER BY h.token_key LIMIT ?",
            )
            .bind(&after)
            .bind(PAGE)
            .fetch_all(self.store.pool())
            .await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.try_get(0)?;
            let release = |row: &Row| -> Result<Release, ClearingError> {
                let hold = HoldId { token_key: token_key(row.try_get(0)?)?.0, number: row.try_get(1)? };
                Ok(Release { hold, account_id: row.try_get(2)? })
            };
            let releases: Vec<Release> = rows.iter().map(release).collect::<Result<_, _>>()?;
            let ended = match self.bank.release(&releases).await {
                Ok(ended) if ended.len() == releases.len() => ended,
                Ok(ended) => {
                    let (answers, requests) = (ended.len(), releases.len());
                    return Err(ClearingError::Answers { answers, requests });
                }
                Err(error) => {
                    // They are asked for again, or expire.
                    no_answer(&error, releases.len());
                    return Ok(());
                }
            };
            let ended = releases.iter().zip(ended).filter(|(_, ended)| *ended);
            let holds: Vec<HoldId> = ended.map(|(release, _)| release.hold).collect();
            let mut tx = self.store.begin().await?;
            end_in(&mut tx, &holds, "released").await?;
            tx.commit().await?;
        }
    }
}

/// The holds of tokens that the bank declined last and that are denied for it: as they would be asked for anew, and when they
/// were.
pub(super) async fn declined_holds(
    store: &Store,
    tokens: &[TokenKey],
) -> Result<Vec<(Wanted, i64)>, ClearingError> {
    let text = "SELECT h.token_key, h.service_day, h.amount_fen, h.asked_ms, h.expires_ms FROM holds AS h \
                WHERE h.token_key IN ?? AND h.state = 'declined' \
                AND h.number = (SELECT max(l.number) FROM holds AS l WHERE l.token_key = h.token_key) \
                AND EXISTS (SELECT 1 FROM deny_entries AS e WHERE e.token_key = h.token_key \
                AND e.cause = 'authorisation')";
    let mut conn = store.pool().acquire().await?;
    let mut declined = Vec::new();
    for row in read_many(&mut conn, text, tokens.iter().map(|key| One(key.as_slice()))).await? {
        let (asked_ms, expires_ms): (i64, i64) = (row.try_get(3)?, row.try_get(4)?);
        let wanted = Wanted {
            token: token_key(row.try_get(0)?)?,
            day: debt_day(row.try_get(1)?)?,
            amount: Fen(row.try_get(2)?),
            hold_ms: expires_ms - asked_ms,
        };
        declined.push((wanted, asked_ms));
    }
    Ok(declined)
}

fn no_answer(error: &BankError, holds: usize) {
    tracing::warn!(%error, holds, "holds are in doubt");
}

/// The active holds of tokens, but for those that an attempt of a day has which is under way.
pub(in crate::clearing) async fn free_holds_in(
    conn: &mut Conn,
    day: ServiceDay,
    tokens: &BTreeSet<TokenKey>,
) -> Result<BTreeMap<TokenKey, HoldId>, ClearingError> {
    // Counted, not joined: each is then found by its key, however little the planner knows of a day that has just begun.
    let text = "SELECT h.token_key, h.number FROM (VALUES ??) AS v CROSS JOIN holds AS h \
                WHERE h.token_key = v.column1 AND h.state = 'active' AND (SELECT count(*) FROM attempts AS a \
                WHERE a.service_day = v.column2 AND a.token_key = h.token_key AND a.hold_number = h.number \
                AND a.state = 'sent') = 0";
    let mut holds = BTreeMap::new();
    for row in read_many(conn, text, tokens.iter().map(|key| (key.as_slice(), day.number()))).await? {
        let key = token_key(row.try_get(0)?)?;
        holds.insert(key, HoldId { token_key: key.0, number: row.try_get(1)? });
    }
    Ok(holds)
}

/// Takes note of holds that deductions have used up.
pub(in crate::clearing) async fn complete_in(conn: &mut Conn, holds: &[HoldId]) -> Result<(), ClearingError> {
    end_in(conn, holds, "completed").await
}

async fn end_in(conn: &mut Conn, holds: &[HoldId], state: &'static str) -> Result<(), ClearingError> {
    let text = "UPDATE holds SET state = v.column1 FROM (VALUES ??) AS v WHERE holds.token_key = v.column2 \
                AND holds.number = v.column3 AND holds.state = 'active'";
    write_many(conn, text, holds.iter().map(|hold| (state, hold.token_key.to_vec(), hold.number))).await?;
    Ok(())
}
