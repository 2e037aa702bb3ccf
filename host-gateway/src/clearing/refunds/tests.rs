//! Whatever happens to a day and in whatever order, no more is given back of a charge than was charged, nor than the bank
//! took.

use std::cell::RefCell;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use wavepass_fares::{ServiceDay, TapId};
use wavepass_protocol::time::UnixMs;

use super::*;
use crate::bank::embedded::{Deposit, Limits, deposit_in};
use crate::clearing::corrections::{CorrectionError, CorrectionId, CorrectionsConfig, Told};
use crate::clearing::debts::Ending;
use crate::clearing::journey_id::JourneyId;
use crate::clearing::testing::{Mood, World, at, day, key};
use crate::clearing::tests::{assert_clean, close, day_report, deduct, rides};
use crate::clearing::{DeductOptions, report};
use crate::reconcile::reconcile_day;
use crate::settlement::settle_day;

const TOKENS: u32 = 2;

/// What may happen. A day is 0 or 1, a journey or a tap the how manieth of those that there are.
#[derive(Debug, Clone)]
enum Step {
    /// Before the day's close or after it.
    Tap {
        token: u32,
        hour: i64,
        minute: i64,
        station: &'static str,
        direction: i64,
    },
    /// A tap turns out not to count.
    Withhold {
        tap: usize,
    },
    /// For the first time, or late; then what it bears on.
    Close {
        day: usize,
    },
    Deduct {
        day: usize,
        retry: bool,
        mood: Mood,
    },
    Deposit {
        token: u32,
        fen: i64,
    },
    /// Gives so much of a hundred of what a journey is charged back, or more than there is.
    Refund {
        journey: usize,
        percent: i64,
    },
    Correct {
        journey: usize,
        station: &'static str,
    },
    Waive {
        token: u32,
        day: usize,
    },
    WriteOff {
        token: u32,
        day: usize,
    },
    Recover {
        token: u32,
    },
    Settle {
        day: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let station = || prop::sample::select(vec!["A", "B", "C", "D"]);
    let mood = prop::sample::select(vec![Mood::Well, Mood::Well, Mood::Well, Mood::Deaf, Mood::Mute]);
    let day = || 0..2_usize;
    // Around noon of two days, so that later taps change what journeys there are.
    let hour = prop_oneof![8..13_i64, 32..37_i64];
    let percent = prop_oneof![Just(100_i64), Just(100), 1..100_i64, Just(130)];
    prop_oneof![
        8 => (0..TOKENS, hour, 0..6_i64, station(), 0..2_i64).prop_map(|(token, hour, ten, station, direction)| {
            Step::Tap { token, hour, minute: ten * 10, station, direction }
        }),
        1 => (0..40_usize).prop_map(|tap| Step::Withhold { tap }),
        4 => day().prop_map(|day| Step::Close { day }),
        4 => (day(), any::<bool>(), mood).prop_map(|(day, retry, mood)| Step::Deduct { day, retry, mood }),
        1 => (0..TOKENS, 1..1_500_i64).prop_map(|(token, fen)| Step::Deposit { token, fen }),
        7 => (0..8_usize, percent).prop_map(|(journey, percent)| Step::Refund { journey, percent }),
        1 => (0..8_usize, station()).prop_map(|(journey, station)| Step::Correct { journey, station }),
        1 => (0..TOKENS, day()).prop_map(|(token, day)| Step::Waive { token, day }),
        1 => (0..TOKENS, day()).prop_map(|(token, day)| Step::WriteOff { token, day }),
        1 => (0..TOKENS).prop_map(|token| Step::Recover { token }),
        2 => day().prop_map(|day| Step::Settle { day }),
    ]
}

/// What was met, so that the rule does not hold for want of cases.
#[derive(Debug, Default)]
struct Met {
    credits: u32,
    offsets: u32,
    refused: u32,
    late: u32,
    waived: u32,
    written_off: u32,
    settled_again: u32,
    /// Of what was owed or given up, at the end of a play.
    set_off: i64,
}

struct Play<'a> {
    world: World,
    taps: i64,
    deposits: u32,
    days: [ServiceDay; 2],
    met: &'a RefCell<Met>,
}

/// What must never be: a count of rows.
const NEVER: [(&str, &str); 10] = [
    (
        "less than nothing is charged for a token's day",
        "SELECT count(*) FROM (SELECT 1 FROM charges GROUP BY service_day, token_key HAVING SUM(amount_fen) < 0) AS x",
    ),
    (
        "more of a fare is offset than it is",
        "SELECT count(*) FROM charges WHERE kind = 'fare' AND ((amount_fen >= 0 AND (offset_fen > 0 OR amount_fen + offset_fen < 0)) \
         OR (amount_fen < 0 AND (offset_fen < 0 OR amount_fen + offset_fen > 0)))",
    ),
    (
        "more of a fare is credited than the bank took of it",
        "SELECT count(*) FROM charges AS c WHERE c.kind = 'fare' AND c.amount_fen > 0 AND (SELECT COALESCE(SUM(-r.amount_fen), 0) FROM charges AS r \
         WHERE r.service_day = c.service_day AND r.token_key = c.token_key AND r.of_part = c.part AND r.offset_fen = 0) \
         > (SELECT COALESCE(SUM(a.amount_fen), 0) FROM attempts AS a WHERE a.service_day = c.service_day \
         AND a.token_key = c.token_key AND a.part = c.part AND a.state = 'approved')",
    ),
    (
        "more is credited of a token's day than the bank took of it",
        "SELECT count(*) FROM (SELECT 1 FROM attempts WHERE state = 'approved' GROUP BY service_day, token_key \
         HAVING SUM(amount_fen) < 0) AS x",
    ),
    (
        "the bank was asked for something else than a charge and its offset",
        "SELECT count(*) FROM charges AS c JOIN attempts AS a ON a.service_day = c.service_day AND a.token_key = c.token_key \
         AND a.part = c.part WHERE a.state = 'approved' AND a.amount_fen <> c.amount_fen + c.offset_fen",
    ),
    (
        "a transaction of the ledger does not sum to zero",
        "SELECT count(*) FROM (SELECT 1 FROM ledger_postings GROUP BY service_day, shard, part, event \
         HAVING SUM(amount_fen) <> 0) AS x",
    ),
    (
        "the operators' shares of a charge do not add up to it",
        "SELECT count(*) FROM charges AS c JOIN day_close AS d ON d.service_day = c.service_day AND d.rank = 0 \
         WHERE d.shares <> 'fixed' AND c.amount_fen <> (SELECT COALESCE(SUM(s.amount_fen), 0) FROM charge_shares AS s \
         WHERE s.service_day = c.service_day AND s.token_key = c.token_key AND s.part = c.part)",
    ),
    (
        "a debt is not what is left of its charge",
        "SELECT count(*) FROM debts AS d JOIN charges AS c ON c.service_day = d.service_day AND c.token_key = d.token_key \
         AND c.part = d.part WHERE d.state = 'open' AND d.amount_fen <> c.amount_fen + c.offset_fen",
    ),
    (
        "an operator is settled below nothing for a day",
        "SELECT count(*) FROM (SELECT 1 FROM settlements GROUP BY service_day, operator \
         HAVING SUM(deducted_fen) < 0 OR SUM(fees_fen) < 0 OR SUM(settled_fen) < 0) AS x",
    ),
    (
        "an operator's fee of a day is not that of all it was settled, in whole fen",
        "SELECT count(*) FROM (SELECT 1 FROM settlements GROUP BY service_day, operator \
         HAVING SUM(fees_fen) <> CAST(SUM(deducted_fen) AS BIGINT) * 60 / 10000) AS x",
    ),
];

/// The bank's fee, in hundredths of a percent.
const FEE: u16 = 60;

impl<'a> Play<'a> {
    async fn new(method: Method, met: &'a RefCell<Met>) -> Self {
        let mut world = World::new(TOKENS, 900).await.shared(method);
        Arc::make_mut(&mut world.clearing.settlement).fee_basis_points = FEE;
        Self { world, taps: 0, deposits: 0, days: [day(), day().next()], met }
    }

    /// A journey that stands: token, day, name, what it is charged and what of it was given back.
    async fn journey(&self, n: usize) -> Option<(DisputeId, Fen, Fen)> {
        let text = "SELECT j.token_key, j.service_day, j.first_sequence, j.charged_fen, \
                    CAST(COALESCE(SUM(r.amount_fen), 0) AS BIGINT), count(r.number) + 1 FROM journeys AS j LEFT JOIN refunds AS r \
                    ON r.token_key = j.token_key AND r.service_day = j.service_day AND r.first_key = j.first_key \
                    AND r.first_sequence = j.first_sequence WHERE j.superseded_by IS NULL \
                    GROUP BY j.token_key, j.service_day, j.first_sequence, j.charged_fen ORDER BY j.first_sequence";
        let rows = query(text).fetch_all(self.world.scratch.pool()).await.unwrap();
        let row = rows.get(n.checked_rem(rows.len())?)?;
        let tap = TapId { key: [1, 2, 3, 4, 5, 6, 7, 8], sequence: row.try_get(2).unwrap() };
        let id = DisputeId {
            token_key: crate::clearing::token_key(row.try_get(0).unwrap()).unwrap(),
            day: ServiceDay::from_number(row.try_get(1).unwrap()).unwrap(),
            journey: JourneyId(tap),
            number: row.try_get(5).unwrap(),
        };
        Some((id, Fen(row.try_get(3).unwrap()), Fen(row.try_get(4).unwrap())))
    }

    async fn close(&self, day: ServiceDay) {
        let closed = self.world.clearing.close_day(day, World::options(false)).await.unwrap();
        if closed.already_closed {
            let late = self.world.clearing.close_day(day, World::options(true)).await.unwrap();
            self.met.borrow_mut().late += u32::from(late.batch.is_some());
        }
        self.world.clearing.close_again_after(day, false).await.unwrap();
    }

    /// Gives something back; more than was charged is refused.
    async fn refund(&self, journey: usize, percent: i64) -> Result<(), TestCaseError> {
        let Some((id, charged, given)) = self.journey(journey).await else { return Ok(()) };
        let amount = Fen(charged.0 * percent / 100);
        let mut tx = self.world.scratch.begin().await.unwrap();
        match self.world.clearing.refund_in(&mut tx, &id, amount).await {
            Ok(refunded) => {
                tx.commit().await.unwrap();
                prop_assert!(given.0 + amount.0 <= charged.0, "{given:?} and {amount:?} of {charged:?}");
                let mut met = self.met.borrow_mut();
                let kind = if refunded.credit { &mut met.credits } else { &mut met.offsets };
                *kind += 1;
            }
            Err(DisputeError::TooMuch { .. }) => self.met.borrow_mut().refused += 1,
            Err(
                DisputeError::Unanswered { .. }
                | DisputeError::Waived { .. }
                | DisputeError::WrittenOff { .. },
            ) => {}
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        }
        Ok(())
    }

    async fn correct(&self, journey: usize, station: &str) {
        let Some((id, ..)) = self.journey(journey).await else { return };
        let of = CorrectionId { token_key: id.token_key, day: id.day, journey: id.journey };
        let told = Told { of, station, told_ms: None };
        let asked = UnixMs(u64::try_from(at(60, 0)).unwrap());
        // Refusals have tests of their own.
        if let Err(error @ CorrectionError::Clearing(_)) =
            self.world.clearing.correct(CorrectionsConfig::default(), told, asked, "anna").await
        {
            panic!("{error}");
        }
    }

    /// Gives a debt up, for the rider's sake or as lost.
    async fn give_up(&self, token: u32, day: ServiceDay, lost: bool) {
        let mut tx = self.world.scratch.begin().await.unwrap();
        let (reason, by, at) = ("goodwill", "anna", UnixMs(9));
        let ending = Ending { token_key: key(token), day, part: None, reason, by, at };
        let clearing = &self.world.clearing;
        let given_up = match lost {
            true => clearing.write_off_in(&mut tx, ending, false).await.map(|off| off.written_off_fen),
            false => clearing.waive_in(&mut tx, ending).await.map(|waived| waived.waived_fen),
        };
        match given_up {
            Ok(fen) => {
                tx.commit().await.unwrap();
                let mut met = self.met.borrow_mut();
                let times = if lost { &mut met.written_off } else { &mut met.waived };
                *times += u32::from(fen > Fen::ZERO);
            }
            Err(
                ClearingError::NoDebt { .. }
                | ClearingError::DebtUnanswered { .. }
                | ClearingError::DebtGivenUp { .. }
                | ClearingError::DebtPaid { .. },
            ) => {}
            Err(error) => panic!("{error}"),
        }
    }

    async fn settle(&self, day: ServiceDay) {
        let clearing = &self.world.clearing;
        match settle_day(clearing, day, &clearing.settlement).await {
            Ok(settled) => {
                let again = settled.iter().any(|settlement| settlement.rank > 0);
                self.met.borrow_mut().settled_again += u32::from(again);
            }
            Err(error) => assert!(error.to_string().contains("not closed"), "{error}"),
        }
    }

    async fn deposit(&mut self, token: u32, fen: i64) {
        self.deposits += 1;
        let (account_id, name) = (format!("a{token}"), format!("more {}", self.deposits));
        let more = Deposit { account_id, name, amount: Fen(fen), at_ms: 0 };
        let mut tx = self.world.scratch.begin().await.unwrap();
        deposit_in(&mut tx, &Limits::default(), &[more]).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Tap { token, hour, minute, station, direction } => {
                self.taps += 1;
                self.world.taps(self.taps, &[(token, hour, minute, station, direction)]).await;
            }
            Step::Withhold { tap } => {
                let tap = 1 + tap as i64;
                self.world
                    .tamper(&format!(
                        "UPDATE taps SET withheld = 1 WHERE sequence = {tap}; \
                         UPDATE token_taps SET withheld = 1 WHERE sequence = {tap}"
                    ))
                    .await;
            }
            Step::Close { day } => self.close(self.days[day]).await,
            Step::Deduct { day, retry, mood } => {
                self.world.line.set(mood);
                let options = DeductOptions { retry_declined: retry };
                self.world.clearing.deduct_day(self.days[day], options).await.unwrap();
                self.world.line.set(Mood::Well);
            }
            Step::Deposit { token, fen } => self.deposit(token, fen).await,
            Step::Refund { journey, percent } => self.refund(journey, percent).await?,
            Step::Correct { journey, station } => self.correct(journey, station).await,
            Step::Waive { token, day } => self.give_up(token, self.days[day], false).await,
            Step::WriteOff { token, day } => self.give_up(token, self.days[day], true).await,
            Step::Recover { token } => {
                self.world.clearing.recover_token(key(token)).await.unwrap();
            }
            Step::Settle { day } => self.settle(self.days[day]).await,
        }
        self.holds().await
    }

    async fn holds(&self) -> Result<(), TestCaseError> {
        for (what, text) in NEVER {
            let rows: i64 = query(text).scalar(self.world.scratch.pool()).await.unwrap();
            prop_assert!(rows == 0, "{what}");
        }
        Ok(())
    }

    /// Both days are ended, and everything agrees with everything.
    async fn end(&self) -> Result<(), TestCaseError> {
        for day in self.days {
            self.close(day).await;
        }
        for day in self.days {
            let deducted = self.world.clearing.deduct_day(day, DeductOptions::default()).await.unwrap();
            prop_assert_eq!(deducted.in_doubt, 0);
            self.settle(day).await;
            self.holds().await?;
            let found = reconcile_day(&self.world.clearing, day, 0).await.unwrap();
            prop_assert!(found.differences.is_empty(), "{day}: {found:?}");
        }
        let set_off = "SELECT CAST(COALESCE(SUM(amount_fen), 0) AS BIGINT) FROM set_offs";
        self.met.borrow_mut().set_off +=
            query(set_off).scalar::<i64>(self.world.scratch.pool()).await.unwrap();
        let everything = report(&self.world.scratch.store, None).await.unwrap();
        prop_assert!(everything.balances().unwrap(), "{everything:?}");
        Ok(())
    }
}

#[test]
fn no_more_is_given_back_than_was_charged_nor_than_the_bank_took_whatever_happens() {
    let long = std::env::var_os("WAVEPASS_LONG").is_some_and(|long| long == "1");
    let config = Config {
        cases: if long { 500 } else { 32 },
        max_shrink_iters: 150,
        failure_persistence: None,
        ..Config::default()
    };
    let met = RefCell::new(Met::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let method = prop::sample::select(vec![Method::Nominal, Method::PassengerKm, Method::Fixed]);
    let plays = (method, prop::collection::vec(step(), 20..50));
    let played = TestRunner::new(config).run(&plays, |(method, steps)| {
        runtime.block_on(async {
            let mut play = Play::new(method, &met).await;
            for step in &steps {
                play.take(step).await?;
            }
            play.end().await
        })
    });
    let met = met.into_inner();
    played.unwrap_or_else(|error| panic!("{error}\n{met:?}"));
    let every = [met.credits, met.offsets, met.refused, met.late, met.settled_again];
    assert!(every.iter().all(|times| *times > 0) && met.set_off > 0, "{met:?}");
}

/// Gives something of token 0's journey that began with a tap back.
async fn give_back(world: &World, sequence: u32, fen: i64) -> Result<Refunded, DisputeError> {
    let tap = TapId { key: [1, 2, 3, 4, 5, 6, 7, 8], sequence };
    let id = DisputeId { token_key: key(0), day: day(), journey: JourneyId(tap), number: 1 };
    let mut tx = world.scratch.begin().await.unwrap();
    let refunded = world.clearing.refund_in(&mut tx, &id, Fen(fen)).await?;
    tx.commit().await.unwrap();
    Ok(refunded)
}

#[tokio::test]
async fn of_another_journey_no_more_is_given_back_than_the_day_still_comes_to() {
    let world = World::new(1, 10_000).await;
    world.taps(1, &[(0, 8, 0, "HB", 0), (0, 13, 0, "HB", 0)]).await;
    close(&world, false).await;
    deduct(&world).await;
    give_back(&world, 1, 900).await.unwrap();
    deduct(&world).await;
    // The first turns out to have been 400: it was given back whole, and the second costs what it did.
    world.taps(3, &[(0, 8, 30, "CH", 1)]).await;
    assert_eq!(close(&world, true).await.batch.unwrap().total_fen, Fen(0));
    deduct(&world).await;
    assert_eq!((world.balance(0).await, day_report(&world).await.charged_fen), (9_100, Fen(900)));
    let refused = give_back(&world, 2, 901).await;
    assert!(matches!(refused, Err(DisputeError::TooMuch { left: Fen(900), .. })), "{refused:?}");
    give_back(&world, 2, 900).await.unwrap();
    deduct(&world).await;
    assert_eq!((world.balance(0).await, day_report(&world).await.charged_fen), (10_000, Fen(0)));
    assert_clean(&world).await;
}

#[tokio::test]
async fn what_was_given_back_and_turns_out_cheaper_is_not_given_back_again() {
    let world = World::new(1, 10_000).await;
    world.taps(1, &[(0, 8, 0, "HB", 0)]).await;
    close(&world, false).await;
    deduct(&world).await;
    // Half a journey is 900 fen, and a dispute gives all of it back.
    assert!(give_back(&world, 1, 900).await.unwrap().credit);
    deduct(&world).await;
    assert_eq!(world.balance(0).await, 10_000);
    // The exit comes late: the ride was 400, and costs nothing any more.
    world.taps(2, &[(0, 8, 30, "CH", 1)]).await;
    let batch = close(&world, true).await.batch.unwrap();
    assert_eq!((batch.charges, batch.total_fen), (1, Fen(0)));
    deduct(&world).await;
    assert_eq!((world.balance(0).await, day_report(&world).await.charged_fen), (10_000, Fen(0)));
    assert_clean(&world).await;
    assert_eq!(close(&world, true).await.batch, None);
    // What else the day turns out to have is paid: a further journey of 400, and one of 200.
    world.taps(3, &rides(0..1).iter().map(|&(n, h, m, s, d)| (n, h + 4, m, s, d)).collect::<Vec<_>>()).await;
    world.taps(5, &[(0, 18, 0, "UN", 2)]).await;
    assert_eq!(close(&world, true).await.batch.unwrap().total_fen, Fen(600));
    deduct(&world).await;
    assert_eq!(world.balance(0).await, 9_400);
    assert_clean(&world).await;
}

#[tokio::test]
async fn a_journey_that_was_given_back_under_its_exit_is_the_same_once_its_entry_comes() {
    let world = World::new(1, 10_000).await;
    world.taps(2, &[(0, 8, 30, "CH", 1)]).await;
    let charged = close(&world, false).await.batch.unwrap().total_fen;
    deduct(&world).await;
    give_back(&world, 2, charged.0).await.unwrap();
    deduct(&world).await;
    world.taps(1, &[(0, 8, 0, "HB", 0)]).await;
    assert_eq!(close(&world, true).await.batch.unwrap().total_fen, Fen(0));
    deduct(&world).await;
    assert_eq!((world.balance(0).await, day_report(&world).await.charged_fen), (10_000, Fen(0)));
    // Nor is anything of it given back under its new name.
    world.taps(3, &[(0, 13, 0, "HB", 0)]).await;
    close(&world, true).await;
    deduct(&world).await;
    let refused = give_back(&world, 1, 1).await;
    assert!(matches!(refused, Err(DisputeError::TooMuch { left: Fen(0), .. })), "{refused:?}");
    assert_clean(&world).await;
}

/// A world in which a ride of 400 was paid and given back.
async fn given_back() -> World {
    let world = World::new(1, 10_000).await;
    world.taps(1, &[(0, 8, 0, "HB", 0), (0, 8, 30, "CH", 1)]).await;
    close(&world, false).await;
    deduct(&world).await;
    give_back(&world, 1, 400).await.unwrap();
    deduct(&world).await;
    world
}

/// Closes the day late: the exit that a tap was is a journey of 900, of which 400 are given back.
async fn is_the_exit_alone(world: &World, sequence: u32) {
    close(world, true).await;
    deduct(world).await;
    let standing = "SELECT first_sequence FROM journeys WHERE superseded_by IS NULL";
    assert_eq!(world.one::<i64>(standing).await, i64::from(sequence));
    assert_eq!((world.balance(0).await, day_report(world).await.charged_fen), (9_500, Fen(500)));
    let refused = give_back(world, sequence, 501).await;
    assert!(matches!(refused, Err(DisputeError::TooMuch { left: Fen(500), .. })), "{refused:?}");
    assert_clean(world).await;
}

#[tokio::test]
async fn a_ride_that_was_given_back_is_the_same_though_its_entry_turns_out_not_to_count() {
    let world = given_back().await;
    world
        .tamper("UPDATE taps SET withheld = 1 WHERE sequence = 1; UPDATE token_taps SET withheld = 1 WHERE sequence = 1")
        .await;
    is_the_exit_alone(&world, 2).await;
}

#[tokio::test]
async fn a_ride_that_was_given_back_is_the_same_where_its_rider_tapped_again_at_once() {
    let world = World::new(1, 10_000).await;
    world.taps(1, &[(0, 8, 0, "HB", 0)]).await;
    close(&world, false).await;
    deduct(&world).await;
    give_back(&world, 1, 900).await.unwrap();
    deduct(&world).await;
    // The later of the two, fifteen seconds after the first, names the ride.
    world.taps(2, &[(0, 8, 1, "HB", 0)]).await;
    let sooner = "UPDATE taps SET time_ms = time_ms - 45000 WHERE sequence = 2; \
                  UPDATE token_taps SET time_ms = time_ms - 45000 WHERE sequence = 2";
    world.tamper(sooner).await;
    close(&world, true).await;
    deduct(&world).await;
    let standing = "SELECT first_sequence FROM journeys WHERE superseded_by IS NULL";
    assert_eq!(world.one::<i64>(standing).await, 2);
    assert_eq!((world.balance(0).await, day_report(&world).await.charged_fen), (10_000, Fen(0)));
    let refused = give_back(&world, 2, 1).await;
    assert!(matches!(refused, Err(DisputeError::TooMuch { left: Fen(0), .. })), "{refused:?}");
    assert_clean(&world).await;
}

#[tokio::test]
async fn a_ride_that_was_given_back_is_the_same_where_its_second_exit_alone_counts() {
    let world = given_back().await;
    // He tapped out again fifteen seconds later, and none of the first two taps counts.
    world.taps(3, &[(0, 8, 31, "CH", 1)]).await;
    for table in ["taps", "token_taps"] {
        world
            .tamper(&format!(
                "UPDATE {table} SET time_ms = time_ms - 45000 WHERE sequence = 3; \
                 UPDATE {table} SET withheld = 1 WHERE sequence < 3"
            ))
            .await;
    }
    is_the_exit_alone(&world, 3).await;
}
