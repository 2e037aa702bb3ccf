//! Authorisation, told from sealed taps on.

mod debts;
mod early;
mod holds;
mod limits;
mod shares;
mod silence;

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

    /// A town after the day of a seed: the same taps under any terms, some of them late, and rounds in between.
    async fn after_a_day(toml: &str, tariff: &str, seed: u64) -> Self {
        const RIDERS: u32 = 6;
        let mut town = Self::under(toml, tariff, RIDERS, 600).await;
        let mut random = ChaCha20Rng::seed_from_u64(seed);
        let mut late = Vec::new();
        for hour in 0..8 {
            for n in 0..RIDERS as usize {
                if random.random_bool(0.6) {
                    let minute = hour * 60 + random.random_range(0..50);
                    late.push(town.tap(n, minute, random.random_bool(0.5)));
                }
            }
            // A batch is taken in the order of the gate's numbers: what is late holds up what comes after.
            if random.random_bool(0.7) {
                town.house.ingest(&std::mem::take(&mut late)).await;
            }
            town.round(hour * 60 + 55).await;
        }
        town.house.ingest(&late).await;
        town.close().await;
        town.assert_clean().await;
        town
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

/// The operator of the house's gate has terms of its own.
const SINGLE: &str = "[[authorisation.operators]]\noperator = 1\nmode = 'single'";

const TERMS: [&str; 4] = [
    "",
    "[authorisation]\nmode = 'single'",
    "[authorisation]\nmode = 'aggregated'\ncumulative_spend_limit_fen = 500\nmaximum_travel_hours = 2",
    "[authorisation]\nmode = 'single'\npre_authorise = 'maximum_fare'\nfirst_ride_limit_fen = 300",
];

const HOLD: &str = "[authorisation]\npre_authorise = 'maximum_fare'";

fn holds(approved: u64, declined: u64, in_doubt: u64) -> Authorised {
    Authorised { holds: HoldSummary { approved, declined, in_doubt }, ..Authorised::default() }
}
