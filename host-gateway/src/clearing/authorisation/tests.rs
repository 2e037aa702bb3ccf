//! Authorisation, told from sealed taps on.

use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use wavepass_protocol::tap::{Decision, Direction, Reason};
use wavepass_protocol::time::UnixMs;

use super::*;
use crate::bank::embedded::{
    AccountState, Class, Deposit, Limits, NewAccount, deposit_in, open_in, set_state_in,
};
use crate::clearing::app::{close, publish_tariff};
use crate::clearing::debts::{Recovery, recover};
use crate::clearing::testing::{Line, Mood, day, house_tariff};
use crate::clearing::{CloseOptions, DeductOptions, report};
use crate::intake::sealer::Sealer;
use crate::keys::TokenKey;
use crate::reconcile::reconcile_day;
use crate::store::db::query_made;
use crate::testing::{Card, House, MORNING, TapAt};
use crate::tokens::{State, set_state_in as set_token_state_in};
use wavepass_fares::Fen;

const MINUTE: u64 = 60_000;
/// After the day's end and the maximum journey time, in minutes after [`MORNING`].
const CLOSING: u64 = 24 * 60;

/// A house with riders, and one gate that their taps are sealed by.
struct Town {
    house: House,
    gate: Sealer,
    cards: Vec<Card>,
    tokens: Vec<TokenKey>,
    atc: u16,
    now: u64,
}

impl Town {
    /// Riders with so much in their accounts each.
    async fn new(authorisation: &str, riders: u32, fen: i64) -> Self {
        Self::under(authorisation, &house_tariff(), riders, fen).await
    }

    async fn under(toml: &str, tariff: &str, riders: u32, fen: i64) -> Self {
        let house = House::with(toml).await;
        publish_tariff(&house.app, "anna", "t.toml", tariff).await.unwrap();
        let gate = house.gate(1).await;
        let mut town = Self { house, gate, cards: Vec::new(), tokens: Vec::new(), atc: 0, now: 0 };
        for n in 0..riders {
            let card = Card::new(n + 1);
            town.tokens.push(town.house.register(&card).await);
            town.cards.push(card);
            let account_id = town.account(n as usize);
            let mut tx = town.house.app.store.begin().await.unwrap();
            open_in(&mut tx, &[NewAccount { account_id, class: Class::Ii }]).await.unwrap();
            tx.commit().await.unwrap();
            if fen > 0 {
                town.deposit(n as usize, fen).await;
            }
        }
        town
    }

    fn account(&self, n: usize) -> String {
        format!("account-{}", crate::tokens::last_four(&self.cards[n].token))
    }

    async fn deposit(&self, n: usize, fen: i64) {
        let mut tx = self.house.app.store.begin().await.unwrap();
        let deposit = Deposit {
            account_id: self.account(n),
            name: format!("{}-{fen}", self.now),
            amount: Fen(fen),
            at_ms: 0,
        };
        deposit_in(&mut tx, &Limits::default(), &[deposit]).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn balance(&self, n: usize) -> i64 {
        let text = format!("SELECT balance_fen FROM bank_accounts WHERE account_id = '{}'", self.account(n));
        query_made(text).scalar(self.house.app.store.pool()).await.unwrap()
    }

    async fn tamper(&self, text: &str) {
        let mut tx = self.house.app.store.begin().await.unwrap();
        query_made(text.to_owned()).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// A tap of a rider at a minute, in at the house's station or out at another.
    fn tap(&mut self, n: usize, minute: u64, out: bool) -> Vec<u8> {
        self.atc += 1;
        let tap = self.cards[n].tap(minute * MINUTE, self.atc);
        let tap = match out {
            true => TapAt { station: "CH", direction: Direction::Exit, ..tap },
            false => tap,
        };
        tap.seal(&mut self.gate)
    }

    async fn enter(&mut self, n: usize, minute: u64) {
        let sealed = self.tap(n, minute, false);
        assert_eq!(self.house.ingest(&[sealed]).await, ["accepted"]);
    }

    /// A ride of half an hour, which costs 400 fen.
    async fn ride(&mut self, n: usize, minute: u64) {
        let sealed = [self.tap(n, minute, false), self.tap(n, minute + 30, true)];
        assert_eq!(self.house.ingest(&sealed).await, ["accepted", "accepted"]);
    }

    /// The gate refuses a token that is on its list.
    async fn refused(&mut self, n: usize, minute: u64) {
        self.atc += 1;
        let tap = self.cards[n].tap(minute * MINUTE, self.atc);
        let tap = TapAt { decision: Decision::Refuse(Reason::Denied), ..tap };
        let sealed = tap.seal(&mut self.gate);
        assert_eq!(self.house.ingest(&[sealed]).await, ["accepted"]);
    }

    fn at(&mut self, minute: u64) {
        self.now = minute;
        self.house.app.clock.driven().unwrap().set(UnixMs(MORNING + minute * MINUTE)).unwrap();
    }

    /// What the gateway does by itself at a minute, but for closing.
    async fn round(&mut self, minute: u64) -> Authorised {
        self.at(minute);
        crate::risk::run(&self.house.app).await.unwrap();
        let done = run(&self.house.app).await.unwrap();
        self.house.app.publish_lists().await.unwrap();
        done
    }

    async fn close(&mut self) {
        self.at(CLOSING);
        close(&self.house.app, "anna", day(), false, false).await.unwrap();
    }

    fn is_denied(&self, n: usize) -> bool {
        self.house.app.lists.denies(&self.cards[n].token, Some(self.cards[n].expiry))
    }

    async fn risk(&self, n: usize) -> show::TokenRisk {
        show::risk_of(&self.house.app, self.tokens[n]).await.unwrap().unwrap()
    }

    /// The causes and notes of a rider on the deny list.
    async fn causes(&self, n: usize) -> Vec<(&'static str, String)> {
        self.risk(n).await.denied.into_iter().map(|denied| (denied.cause, denied.note)).collect()
    }

    /// Parts of charges: number, amount and state.
    async fn parts(&self) -> Vec<String> {
        let text = "SELECT part || ' ' || amount_fen || ' ' || state FROM charges ORDER BY token_key, part";
        self.house.texts(text).await
    }

    async fn assert_clean(&self) {
        let clearing = Clearing::of(&self.house.app).await.unwrap();
        let found = reconcile_day(&clearing, day(), 0).await.unwrap();
        assert!(found.differences.is_empty(), "{found:?}");
        assert!(report(&self.house.app.store, Some(day())).await.unwrap().balances().unwrap());
    }
}

fn early(approved: u64, declined: u64) -> Authorised {
    let early = DeductSummary { approved, declined, in_doubt: 0 };
    Authorised { early, ..Authorised::default() }
}

#[tokio::test]
async fn by_default_nothing_is_asked_for_before_the_close() {
    let mut town = Town::new("", 1, 1_000).await;
    town.ride(0, 0).await;
    assert_eq!(town.round(60).await, Authorised::default());
    assert_eq!(town.house.count("SELECT count(*) FROM authorisation_due").await, 0);
    town.close().await;
    assert_eq!((town.parts().await, town.balance(0).await), (vec!["1 400 deducted".to_owned()], 600));
}

/// The operator of the house's gate has terms of its own.
const SINGLE: &str = "[[authorisation.operators]]\noperator = 1\nmode = 'single'";

#[tokio::test]
async fn each_fare_is_deducted_once_its_journey_is_complete_and_the_close_books_the_rest() {
    let mut town = Town::new(SINGLE, 1, 2_000).await;
    town.enter(0, 0).await;
    assert_eq!(town.round(10).await, Authorised::default());
    let out = town.tap(0, 30, true);
    town.house.ingest(&[out]).await;
    assert_eq!(town.round(31).await, early(1, 0));
    assert_eq!((town.balance(0).await, town.round(32).await), (1_600, Authorised::default()));
    town.ride(0, 100).await;
    assert_eq!(town.round(140).await, early(1, 0));
    town.enter(0, 200).await;
    town.round(210).await;
    assert_eq!(town.parts().await, ["1 400 deducted", "2 400 deducted"]);

    town.close().await;
    assert_eq!(town.parts().await, ["1 400 deducted", "2 400 deducted", "3 900 deducted"]);
    assert_eq!(town.balance(0).await, 300);
    assert_eq!(town.house.count("SELECT charges FROM batches").await, 3);
    town.assert_clean().await;
}

#[tokio::test]
async fn gates_of_another_operator_leave_it_to_the_close() {
    let mut town = Town::new(&SINGLE.replace("operator = 1", "operator = 2"), 1, 2_000).await;
    town.ride(0, 0).await;
    assert_eq!(town.round(60).await, Authorised::default());
    assert_eq!(town.parts().await, Vec::<String>::new());
}

#[tokio::test]
async fn fares_are_gathered_until_they_come_to_the_limit_or_are_old_enough() {
    let toml =
        "[authorisation]\nmode = 'aggregated'\ncumulative_spend_limit_fen = 800\nmaximum_travel_hours = 3";
    let mut town = Town::new(toml, 2, 5_000).await;
    town.ride(0, 0).await;
    assert_eq!(town.round(60).await, Authorised::default());
    town.ride(0, 70).await;
    assert_eq!(town.round(101).await, early(1, 0));
    assert_eq!(town.parts().await, ["1 800 deducted"]);

    town.ride(1, 120).await;
    for minute in [160, 299] {
        assert_eq!(town.round(minute).await, Authorised::default());
    }
    assert_eq!(town.round(300).await, early(1, 0));
    assert_eq!(town.balance(1).await, 4_600);
    assert_eq!(town.house.count("SELECT count(*) FROM authorisation_due").await, 0);
    town.close().await;
    town.assert_clean().await;
}

#[tokio::test]
async fn an_early_decline_is_a_debt_and_denies_at_once() {
    let mut town = Town::new(SINGLE, 1, 399).await;
    town.ride(0, 0).await;
    assert_eq!(town.round(31).await, early(0, 1));
    assert!(town.is_denied(0));
    town.deposit(0, 1).await;
    let recovered = recover(&town.house.app, "anna", town.tokens[0]).await.unwrap();
    assert_eq!((recovered.deduct.approved, recovered.owed_fen), (1, Fen(0)));
    assert!(!town.is_denied(0));
    town.close().await;
    town.assert_clean().await;
}

#[tokio::test]
async fn what_was_taken_too_much_comes_back_at_the_close() {
    let mut town = Town::new(SINGLE, 1, 1_000).await;
    town.ride(0, 0).await;
    town.round(31).await;
    town.tamper("UPDATE taps SET withheld = 1; UPDATE token_taps SET withheld = 1").await;
    town.close().await;
    assert_eq!((town.parts().await.len(), town.balance(0).await), (2, 1_000));
    town.assert_clean().await;
}

const HOLD: &str = "[authorisation]\npre_authorise = 'maximum_fare'";

fn holds(approved: u64, declined: u64, in_doubt: u64) -> Authorised {
    Authorised { holds: HoldSummary { approved, declined, in_doubt }, ..Authorised::default() }
}

#[tokio::test]
async fn the_most_a_journey_may_cost_is_held_once_and_completed_by_the_deduction() {
    let mut town = Town::new(HOLD, 1, 1_000).await;
    town.enter(0, 0).await;
    assert_eq!(town.round(1).await, holds(1, 0, 0));
    let hold = town.risk(0).await.hold.unwrap();
    assert_eq!((hold.number, hold.amount_fen, hold.state.as_str()), (1, Fen(900), "active"));
    let shown = town.house.command(&["account", "show", &town.account(0)]).await;
    assert!(shown.ends_with(" 10.00           9.00"), "{shown}");
    let out = town.tap(0, 30, true);
    town.house.ingest(&[out]).await;
    assert_eq!(town.round(31).await, Authorised::default());
    assert_eq!(town.balance(0).await, 1_000);
    town.close().await;
    assert_eq!(town.balance(0).await, 600);
    assert_eq!(town.risk(0).await.hold.unwrap().state, "completed");
    assert_eq!(town.house.texts("SELECT state FROM bank_holds").await, ["completed"]);
    town.assert_clean().await;
}

#[tokio::test]
async fn a_nominal_hold_is_of_the_nominal_amount() {
    let mut town = Town::new("[authorisation]\npre_authorise = 'nominal'\nnominal_fen = 150", 1, 200).await;
    town.enter(0, 0).await;
    assert_eq!(town.round(1).await, holds(1, 0, 0));
    assert_eq!(town.risk(0).await.hold.unwrap().amount_fen, Fen(150));
}

#[tokio::test]
async fn a_hold_that_nothing_is_deducted_of_is_released_after_the_close_or_expires() {
    let mut town = Town::new(&format!("{HOLD}\nhold_hours = 30"), 2, 1_000).await;
    town.enter(0, 0).await;
    town.round(1).await;
    town.tamper("UPDATE taps SET withheld = 1; UPDATE token_taps SET withheld = 1").await;
    town.close().await;
    town.enter(1, CLOSING).await;
    town.round(CLOSING + 1).await;
    let states = "SELECT state FROM holds ORDER BY service_day";
    assert_eq!(town.house.texts(states).await, ["released", "active"]);
    assert_eq!(
        town.house.texts("SELECT state FROM bank_holds ORDER BY expires_ms").await,
        ["released", "held"]
    );
    town.round(CLOSING + 1 + 30 * 60).await;
    assert_eq!(town.house.texts(states).await, ["released", "expired"]);
}

#[tokio::test]
async fn a_hold_that_is_declined_denies_at_once_by_its_word() {
    let mut town = Town::new(HOLD, 5, 1_000).await;
    let mut tx = town.house.app.store.begin().await.unwrap();
    set_state_in(&mut tx, &town.account(1), AccountState::Frozen).await.unwrap();
    set_state_in(&mut tx, &town.account(2), AccountState::Closed).await.unwrap();
    let (keys, now) = (town.house.app.clearing.clone(), UnixMs(MORNING));
    set_token_state_in(&mut tx, &*keys, town.tokens[3], State::Suspended, "anna", now).await.unwrap();
    tx.commit().await.unwrap();
    town.tamper(&format!(
        "UPDATE bank_accounts SET balance_fen = 899 WHERE account_id = '{}'",
        town.account(0)
    ))
    .await;
    town.tamper(&format!(
        "UPDATE bank_accounts SET spent_on = 2026327, day_spent_fen = 999500 WHERE account_id = '{}'",
        town.account(4)
    ))
    .await;
    for n in 0..5 {
        town.enter(n, n as u64).await;
    }
    assert_eq!(town.round(10).await, holds(0, 5, 0));
    for (n, word) in
        [(0, "no_funds"), (1, "frozen"), (2, "closed"), (3, "token_suspended"), (4, "over_limit")]
    {
        let causes = town.causes(n).await;
        assert_eq!(causes[0], ("authorisation", word.to_owned()), "{causes:?}");
        assert!(town.is_denied(n));
    }
    // Further taps of before are no reason to ask again.
    let late = town.tap(0, 5, true);
    town.house.ingest(&[late]).await;
    assert_eq!(town.round(11).await, Authorised::default());
}

#[tokio::test]
async fn a_denied_rider_who_taps_again_is_held_for_anew_but_not_at_every_tap() {
    let mut town = Town::new(HOLD, 1, 100).await;
    town.enter(0, 0).await;
    assert_eq!(town.round(1).await, holds(0, 1, 0));
    town.at(2);
    town.deposit(0, 5_000).await;
    town.refused(0, 2).await;
    assert_eq!(town.round(3).await, Authorised::default());
    assert!(town.is_denied(0));
    town.refused(0, 31).await;
    assert_eq!(town.round(31).await, holds(1, 0, 0));
    assert!(!town.is_denied(0));
    assert_eq!(town.risk(0).await.hold.unwrap().number, 2);
    assert_eq!(town.house.count("SELECT count(*) FROM retaps").await, 0);
}

#[tokio::test]
async fn a_denied_rider_is_held_for_anew_by_hand() {
    let mut town = Town::new(HOLD, 1, 100).await;
    town.enter(0, 0).await;
    town.round(1).await;
    town.at(2);
    town.deposit(0, 5_000).await;
    let recovered = recover(&town.house.app, "anna", town.tokens[0]).await.unwrap();
    assert_eq!((recovered.holds.approved, town.is_denied(0)), (1, false));
}

#[tokio::test]
async fn a_debt_is_asked_for_because_its_rider_taps_again_within_the_bounds_of_recovery() {
    let mut town = Town::new("[recovery]\ntries = 2", 1, 0).await;
    town.ride(0, 0).await;
    town.close().await;
    assert!(town.is_denied(0));
    let attempts = "SELECT count(*) FROM attempts";
    for (minutes, count) in [(10, 1), (30, 2), (45, 2), (60, 3), (200, 3)] {
        town.refused(0, CLOSING + minutes).await;
        town.round(CLOSING + minutes).await;
        assert_eq!(town.house.count(attempts).await, count, "{minutes} minutes");
    }
    assert_eq!(town.house.count("SELECT count(*) FROM retaps").await, 0);
    let lines = "SELECT count(*) FROM audit_log WHERE action = 'debt.recover' AND detail LIKE 'by a tap%'";
    assert_eq!(town.house.count(lines).await, 2);

    let mut town = Town::new("", 1, 0).await;
    town.ride(0, 0).await;
    town.close().await;
    town.deposit(0, 400).await;
    town.refused(0, CLOSING + 30).await;
    let done = town.round(CLOSING + 30).await;
    assert_eq!((done.by_tap.approved, town.is_denied(0), town.balance(0).await), (1, false, 0));
    town.assert_clean().await;
}

#[tokio::test]
async fn who_never_paid_may_not_risk_more_than_the_limit() {
    let mut town = Town::new("[authorisation]\nfirst_ride_limit_fen = 900", 2, 5_000).await;
    town.ride(0, 0).await;
    town.enter(1, 5).await;
    assert_eq!(town.round(40).await, Authorised::default());
    town.enter(0, 50).await;
    let done = town.round(60).await;
    assert_eq!(done.over_first_ride_limit, 1);
    assert_eq!(town.round(61).await, Authorised::default());
    assert_eq!(town.causes(0).await, [("authorisation", "first_ride_limit".to_owned())]);
    assert!(town.is_denied(0) && !town.is_denied(1));
    let risk = town.risk(0).await;
    assert_eq!((risk.at_risk_fen, risk.last_paid_ms), (Fen(1_300), None));
    assert_eq!(risk.first_tap_ms, Some(MORNING as i64));

    // A tap of the new day, before the old one is closed.
    let next = 21 * 60;
    town.enter(1, next).await;
    town.round(next + 1).await;
    town.close().await;
    assert!(!town.is_denied(0));
    let risk = town.risk(0).await;
    let closing_ms = Some((MORNING + CLOSING * MINUTE) as i64);
    assert_eq!((risk.at_risk_fen, risk.last_paid_ms, risk.first_tap_ms), (Fen(0), closing_ms, None));
    let risk = town.risk(1).await;
    assert_eq!((risk.at_risk_fen, risk.first_tap_ms), (Fen(900), Some((MORNING + next * MINUTE) as i64)));
    // Who has paid once may risk more.
    town.ride(1, next + 20).await;
    town.enter(1, next + 100).await;
    assert_eq!(town.round(CLOSING + 1).await, Authorised::default());
}

#[tokio::test]
async fn a_token_is_shown_with_what_it_has_at_risk() {
    let mut town = Town::new(SINGLE, 1, 1_000).await;
    town.ride(0, 0).await;
    town.enter(0, 40).await;
    town.round(60).await;
    let shown = town.house.command(&["token", "show", &town.tokens[0].to_hex()]).await;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["last_four"], &shown["state"]), (&"0001".into(), &"active".into()));
    let risk = &shown["risk"];
    assert_eq!((&risk["at_risk_fen"], &risk["last_paid_ms"]), (&900.into(), &(MORNING + 60 * MINUTE).into()));
    assert_eq!(risk["first_tap_ms"], MORNING + 40 * MINUTE);
}

/// Rounds over a bank that may fall silent.
async fn round_over(town: &Town, line: &Arc<Line>) -> Result<Authorised, ClearingError> {
    let app = &town.house.app;
    crate::risk::run(app).await.unwrap();
    let clearing = Clearing { bank: line.clone(), ..Clearing::of(app).await? };
    let terms = Authorisation::of(&app.config).unwrap();
    let recovery = Recovery::default();
    let gates = app.directory.current();
    Authoriser { clearing: &clearing, terms: &terms, recovery: &recovery, gates }.run().await
}

#[tokio::test]
async fn a_silent_bank_is_asked_under_the_same_numbers_until_it_answers() {
    let toml = "[authorisation]\nmode = 'single'\npre_authorise = 'maximum_fare'";
    let mut town = Town::new(toml, 1, 1_000).await;
    let line = Line::over(&town.house.app.store, 0);
    town.enter(0, 0).await;
    town.at(1);
    line.set(Mood::Mute);
    assert_eq!(round_over(&town, &line).await.unwrap(), holds(0, 0, 1));
    assert!(!town.is_denied(0));
    line.set(Mood::Well);
    assert_eq!(round_over(&town, &line).await.unwrap(), holds(1, 0, 0));
    let out = town.tap(0, 30, true);
    town.house.ingest(&[out]).await;
    town.at(31);
    line.set(Mood::Mute);
    assert_eq!(round_over(&town, &line).await.unwrap().early.in_doubt, 1);
    line.set(Mood::Well);
    assert_eq!(round_over(&town, &line).await.unwrap(), early(1, 0));
    assert_eq!(town.house.count("SELECT count(*) FROM attempts").await, 1);
    assert_eq!(town.house.count("SELECT count(*) FROM holds").await, 1);
    assert_eq!((town.balance(0).await, town.risk(0).await.hold.unwrap().state), (600, "completed".into()));
    town.close().await;
    town.assert_clean().await;
}

/// Every await of a round is a place where the process may die: here rounds are dropped after a while, at first at once and then
/// later and later, over a bank whose answers get lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rounds_that_die_anywhere_go_on_and_ask_for_everything_once() {
    let toml = "[authorisation]\nmode = 'single'\npre_authorise = 'maximum_fare'";
    let mut town = Town::new(toml, 40, 5_000).await;
    let line = Line::over(&town.house.app.store, 0);
    for n in 0..40 {
        town.ride(n, n as u64).await;
        town.enter(n, 100 + n as u64).await;
    }
    town.at(200);
    let mut deaths = 0;
    for step in 0_u64.. {
        line.set([Mood::Well, Mood::Mute, Mood::Deaf][(step % 3) as usize]);
        match tokio::time::timeout(Duration::from_micros(step * step * 60), round_over(&town, &line)).await {
            Ok(done) if step % 3 == 0 => {
                done.unwrap();
                break;
            }
            Ok(done) => _ = done.unwrap(),
            Err(_) => deaths += 1,
        }
        assert!(report(&town.house.app.store, None).await.unwrap().balances().unwrap());
    }
    line.set(Mood::Well);
    round_over(&town, &line).await.unwrap();
    assert!(deaths > 3, "{deaths}");
    assert_eq!(town.house.count("SELECT count(*) FROM charges WHERE state <> 'deducted'").await, 0);
    assert_eq!(
        town.house.count("SELECT CAST(SUM(balance_fen) AS BIGINT) FROM bank_accounts").await,
        40 * 4_600
    );
    assert_eq!(town.house.count("SELECT count(*) FROM holds WHERE state = 'active'").await, 40);
    assert_eq!(town.house.count("SELECT count(*) FROM bank_holds WHERE state = 'held'").await, 40);
    town.close().await;
    assert_eq!(
        town.house.count("SELECT CAST(SUM(balance_fen) AS BIGINT) FROM bank_accounts").await,
        40 * 3_700
    );
    assert_eq!(town.house.count("SELECT count(*) FROM bank_holds WHERE state = 'held'").await, 0);
    town.assert_clean().await;
}

#[tokio::test]
async fn a_close_that_has_begun_gets_no_early_part_any_more() {
    let mut town = Town::new(SINGLE, 1, 1_000).await;
    town.ride(0, 0).await;
    town.at(CLOSING);
    crate::risk::run(&town.house.app).await.unwrap();
    let options = CloseOptions { now_ms: i64::MAX, ..CloseOptions::default() };
    let clearing = Clearing::of(&town.house.app).await.unwrap();
    clearing.close_day(day(), options).await.unwrap();
    assert_eq!(run(&town.house.app).await.unwrap(), Authorised::default());
    clearing.deduct_day(day(), DeductOptions::default()).await.unwrap();
    assert_eq!(town.parts().await, ["1 400 deducted"]);
}

/// A cap a day that a second ride reaches.
const CAP: &str = "
[[cap]]
name = \"day\"
period = \"day\"
limit_fen = 700
";

#[tokio::test]
async fn under_any_terms_a_days_total_of_each_token_is_the_same() {
    const RIDERS: u32 = 6;
    let terms = [
        "",
        "[authorisation]\nmode = 'single'",
        "[authorisation]\nmode = 'aggregated'\ncumulative_spend_limit_fen = 500\nmaximum_travel_hours = 2",
        "[authorisation]\nmode = 'single'\npre_authorise = 'maximum_fare'\nfirst_ride_limit_fen = 300",
    ];
    for seed in 0..3 {
        let mut totals: Vec<Vec<String>> = Vec::new();
        for toml in terms {
            let tariff = format!("{}{CAP}", house_tariff());
            let mut town = Town::under(toml, &tariff, RIDERS, 600).await;
            // The same taps, some of them late, under every terms.
            let mut random = ChaCha20Rng::seed_from_u64(seed);
            let mut late = Vec::new();
            for hour in 0..8 {
                let mut entries = Vec::new();
                for n in 0..RIDERS as usize {
                    if random.random_bool(0.6) {
                        let sealed =
                            town.tap(n, hour * 60 + random.random_range(0..50), random.random_bool(0.5));
                        entries.push(sealed);
                    }
                }
                // A batch is taken in the order of the gate's numbers: what is late holds up what comes after.
                late.extend(entries);
                if random.random_bool(0.7) {
                    town.house.ingest(&std::mem::take(&mut late)).await;
                }
                town.round(hour * 60 + 55).await;
            }
            town.house.ingest(&late).await;
            town.close().await;
            town.assert_clean().await;
            let charged = "SELECT lower(hex(token_key)) || ' ' || SUM(amount_fen) FROM charges GROUP BY token_key \
                           HAVING SUM(amount_fen) <> 0 ORDER BY token_key";
            totals.push(town.house.texts(charged).await);
        }
        assert!(!totals[0].is_empty());
        for (total, toml) in totals.iter().zip(terms) {
            assert_eq!(total, &totals[0], "{toml}, seed {seed}");
        }
    }
}
