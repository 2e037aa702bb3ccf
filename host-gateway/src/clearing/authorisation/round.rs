//! A round: looks at the tokens that are due, a page at a time, and decides what each needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::store::db::{One, Row, query, read_many, write_many};
use wavepass_fares::{Fen, Journey, Priced, ServiceDay};
use wavepass_protocol::dukpt::KeyId;

use super::super::changes::Booked;
use super::super::debts::Recovery;
use super::super::pricing::PricedToken;
use super::super::taps::read_tokens;
use super::super::{Clearing, ClearingError, token_key};
use super::Authorised;
use super::early::{booked_in, finished, has_begun_in, is_finished, paid_in};
use super::holds::Wanted;
use crate::gates;
use crate::keys::TokenKey;
use crate::risk::authorisation::{Authorisation, Mode, PreAuthorise, Terms};
use crate::risk::state::states_in;

/// Tokens looked at together: some thousands of taps, priced in a few milliseconds.
const PAGE: usize = 1_000;
/// What the deny list says of tokens that never paid and have too much at risk.
pub(super) const FIRST_RIDE: &str = "first_ride_limit";

/// What a round works with.
pub(super) struct Authoriser<'a> {
    pub(super) clearing: &'a Clearing,
    pub(super) terms: &'a Authorisation,
    pub(super) recovery: &'a Recovery,
    pub(super) gates: Arc<gates::Directory>,
}

/// A token that is due.
#[derive(Debug, Clone)]
struct Due {
    token: TokenKey,
    day: i64,
    version: i64,
}

/// What a page comes to.
#[derive(Default)]
struct Decisions {
    early: BTreeMap<ServiceDay, Vec<(TokenKey, Priced)>>,
    holds: BTreeMap<TokenKey, Wanted>,
    /// What tokens with a limit on first rides have at risk, and the limit.
    first_rides: BTreeMap<TokenKey, (BTreeSet<ServiceDay>, Fen, Fen)>,
    /// When a token's fares will be old enough.
    later: BTreeMap<(TokenKey, i64), i64>,
}

impl Authoriser<'_> {
    /// Does what is due.
    pub(super) async fn run(&self) -> Result<Authorised, ClearingError> {
        let mut done = Authorised::default();
        self.clearing.expire_holds().await?;
        self.clearing.ask_unanswered_holds(&mut done).await?;
        self.clearing.ask_unanswered_early(&mut done.early).await?;
        let mut after = (Vec::new(), 0);
        loop {
            let page = self.due(&after).await?;
            let Some(last) = page.last() else { break };
            after = (last.token.as_slice().to_vec(), last.day);
            self.look_at(&page, &mut done).await?;
        }
        self.recover_by_tap(&mut done).await?;
        self.clearing.release_holds().await?;
        Ok(done)
    }

    async fn due(&self, after: &(Vec<u8>, i64)) -> Result<Vec<Due>, ClearingError> {
        let rows = query(
            "SELECT token_key, service_day, version FROM authorisation_due \
             WHERE due_ms <= ? AND (token_key, service_day) > (?, ?) ORDER BY token_key, service_day LIMIT ?",
        )
        .bind(self.clearing.now_ms)
        .bind(&after.0)
        .bind(after.1)
        .bind(PAGE as i64)
        .fetch_all(self.clearing.store.pool())
        .await?;
        let due = |row: &Row| -> Result<Due, ClearingError> {
            Ok(Due { token: token_key(row.try_get(0)?)?, day: row.try_get(1)?, version: row.try_get(2)? })
        };
        rows.iter().map(due).collect()
    }

    /// Decides about a page of tokens, does it, and takes them off the list of those due. A process that dies before the end does
    /// it again, and finds what was done.
    async fn look_at(&self, page: &[Due], done: &mut Authorised) -> Result<(), ClearingError> {
        // A journey belongs to the day of its first tap: a tap may end one of the day before.
        let mut by_day: BTreeMap<i64, BTreeSet<TokenKey>> = BTreeMap::new();
        for due in page {
            for day in [due.day - 1, due.day] {
                by_day.entry(day).or_default().insert(due.token);
            }
        }
        let mut decisions = Decisions::default();
        for (number, tokens) in by_day {
            let day = ServiceDay::from_number(number)
                .map_err(|_| ClearingError::damaged("a service day that is due"))?;
            let mut conn = self.clearing.store.pool().acquire().await?;
            if has_begun_in(&mut conn, day).await? {
                continue;
            }
            drop(conn);
            let tokens: Vec<TokenKey> = tokens.into_iter().collect();
            self.decide(day, &tokens, &mut decisions).await?;
        }
        for (day, tokens) in std::mem::take(&mut decisions.early) {
            self.clearing.ask_early(day, tokens, &mut done.early).await?;
        }
        self.limit_first_rides(&decisions.first_rides, done).await?;
        let wanted: Vec<Wanted> = decisions.holds.values().copied().collect();
        self.clearing.place_holds(&wanted, false, done).await?;
        self.settle_due(page, &decisions.later).await
    }

    async fn decide(
        &self,
        day: ServiceDay,
        tokens: &[TokenKey],
        decisions: &mut Decisions,
    ) -> Result<(), ClearingError> {
        let clearing = self.clearing;
        let taps = read_tokens(clearing.store.pool(), &clearing.tariffs, day, tokens).await?;
        let priced = clearing.price_tokens(day, taps, None).await?;
        let mut conn = clearing.store.pool().acquire().await?;
        let mut booked = booked_in(&mut conn, day, tokens).await?;
        let paid = paid_in(&mut conn, day, tokens).await?;
        drop(conn);
        for PricedToken { key: token, priced, .. } in priced {
            let booked = booked.remove(&token).unwrap_or_default();
            let paid = paid.get(&token).copied().unwrap_or_default();
            self.decide_one((token, day), &priced, &booked, paid, decisions)?;
        }
        Ok(())
    }

    fn decide_one(
        &self,
        (token, day): (TokenKey, ServiceDay),
        priced: &Priced,
        booked: &Booked,
        paid: Fen,
        decisions: &mut Decisions,
    ) -> Result<(), ClearingError> {
        let Some(first) = priced.journeys.iter().min_by_key(|journey| begun_ms(journey)) else {
            return Ok(());
        };
        let operator = self.gates.by_key(KeyId(first.first.key)).map(|gate| gate.operator);
        let terms = self.terms.terms(operator);
        let done = finished(priced)?;
        let total = Fen::sum(priced.days.iter().map(|day| day.charge))?;
        let mut open = total.minus(booked.amount)?;
        let spend = Fen::sum(done.days.iter().map(|day| day.charge))?.minus(booked.amount)?;
        if spend > Fen::ZERO {
            match self.asked_from_ms(terms, priced, booked, spend) {
                Some(from_ms) if from_ms <= self.clearing.now_ms => {
                    open = open.minus(spend)?;
                    decisions.early.entry(day).or_default().push((token, done));
                }
                Some(from_ms) => _ = decisions.later.insert((token, day.number()), from_ms),
                None => {}
            }
        }
        if let Some(limit) = terms.first_ride_limit {
            let at_risk = decisions.first_rides.entry(token).or_insert((BTreeSet::new(), Fen::ZERO, limit));
            if at_risk.0.insert(day) {
                at_risk.1 = at_risk.1.plus(total.minus(paid)?)?;
            }
        }
        let amount = match terms.pre_authorise {
            PreAuthorise::None => Fen::ZERO,
            PreAuthorise::Nominal => terms.nominal,
            PreAuthorise::MaximumFare => dearest(priced, booked),
        };
        if open > Fen::ZERO && amount > Fen::ZERO {
            decisions.holds.insert(token, Wanted { token, day, amount, hold_ms: terms.hold_ms() });
        }
        Ok(())
    }

    /// From when on what a token spent is asked for; `None`: not before the close.
    fn asked_from_ms(&self, terms: &Terms, priced: &Priced, booked: &Booked, spend: Fen) -> Option<i64> {
        match terms.mode {
            Mode::Day => None,
            Mode::Single => Some(i64::MIN),
            Mode::Aggregated if spend >= terms.cumulative_spend_limit => Some(i64::MIN),
            Mode::Aggregated => {
                let unbooked = priced.journeys.iter().filter(|j| is_finished(j) && !is_booked(j, booked));
                let first_ms = unbooked.filter_map(begun_ms).min()?;
                Some(first_ms + terms.maximum_travel_ms())
            }
        }
    }

    /// Denies tokens that never paid and have more at risk than they may.
    async fn limit_first_rides(
        &self,
        at_risk: &BTreeMap<TokenKey, (BTreeSet<ServiceDay>, Fen, Fen)>,
        done: &mut Authorised,
    ) -> Result<(), ClearingError> {
        let over = at_risk.iter().filter(|(_, (_, risk, limit))| risk > limit);
        let over: Vec<TokenKey> = over.map(|(key, _)| *key).collect();
        if over.is_empty() {
            return Ok(());
        }
        let mut tx = self.clearing.store.begin().await?;
        let states = states_in(&mut tx, &over).await?;
        let never_paid = |key: &TokenKey| states.get(key).is_none_or(|state| state.last_paid_ms.is_none());
        let text = "SELECT token_key FROM deny_entries WHERE cause = 'authorisation' AND token_key IN ??";
        let mut denied = BTreeSet::new();
        for row in read_many(&mut tx, text, over.iter().map(|key| One(key.as_slice()))).await? {
            denied.insert(token_key(row.try_get(0)?)?);
        }
        // Nobody can be denied by a key alone that no token is registered under, or one whose person was erased.
        let text = "SELECT token_key FROM tokens WHERE token_key IN ?? AND account_id <> ''";
        let mut tokens = Vec::new();
        for row in read_many(&mut tx, text, over.iter().map(|key| One(key.as_slice()))).await? {
            let key = token_key(row.try_get(0)?)?;
            if never_paid(&key) && !denied.contains(&key) {
                tokens.push((key, FIRST_RIDE));
            }
        }
        done.over_first_ride_limit += tokens.len() as u64;
        if !tokens.is_empty() {
            self.clearing.debtors.distrust(&mut tx, &tokens).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Takes tokens off the list of those due, or puts them off. One that was tapped again meanwhile stays due.
    async fn settle_due(
        &self,
        page: &[Due],
        later: &BTreeMap<(TokenKey, i64), i64>,
    ) -> Result<(), ClearingError> {
        let name = |due: &Due| (due.token, due.day);
        let (put_off, over): (Vec<&Due>, Vec<&Due>) =
            page.iter().partition(|due| later.contains_key(&name(due)));
        let mut tx = self.clearing.store.begin().await?;
        let text = "UPDATE authorisation_due SET due_ms = v.column4 FROM (VALUES ??) AS v \
                    WHERE authorisation_due.token_key = v.column1 AND authorisation_due.service_day = v.column2 \
                    AND authorisation_due.version = v.column3";
        let rows = put_off.iter().map(|due| {
            let due_ms = later.get(&name(due)).copied().unwrap_or_default();
            (due.token.as_slice(), due.day, due.version, due_ms)
        });
        write_many(&mut tx, text, rows).await?;
        let text = "DELETE FROM authorisation_due WHERE (token_key, service_day, version) IN (VALUES ??)";
        write_many(&mut tx, text, over.iter().map(|due| (due.token.as_slice(), due.day, due.version)))
            .await?;
        tx.commit().await?;
        Ok(())
    }
}

fn begun_ms(journey: &Journey) -> Option<i64> {
    journey.entered.or(journey.left).and_then(|place| place.time_ms)
}

fn is_booked(journey: &Journey, booked: &Booked) -> bool {
    let name = (journey.first.key, i64::from(journey.first.sequence));
    booked.journeys.iter().any(|row| row.first == name)
}

/// The nominal fare of the dearest journey that is not booked: of one under way, the most it may cost.
fn dearest(priced: &Priced, booked: &Booked) -> Fen {
    let unbooked = priced.journeys.iter().filter(|journey| !is_booked(journey, booked));
    unbooked.map(|journey| journey.nominal).max().unwrap_or_default()
}
