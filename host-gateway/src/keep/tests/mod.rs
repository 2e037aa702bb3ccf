//! What is left of a person who was erased, and of days whose taps are deleted: two riders and a gate.

mod erasure;
mod retention;

use crate::bank::embedded::{Class, NewAccount, open_in};
use crate::clearing::app::{close, publish_tariff, reconcile, settle};
use crate::clearing::journey_id::JourneyId;
use crate::clearing::pay_out::pay_out;
use crate::clearing::testing::{day, deposit, house_tariff};
use crate::clearing::verify_batches;
use crate::intake::sealer::Sealer;
use crate::keys::TokenKey;
use crate::store::db::Query;
use crate::store::testing::dump;
use crate::testing::{Card, House, MORNING, passage};
use crate::tokens::{Registration, register_in};
use wavepass_fares::TapId;
use wavepass_protocol::tap::Outcome;
use wavepass_protocol::time::UnixMs;

const DAY_MS: u64 = 86_400_000;
const ANNA: &str = "account-of-anna";
const BEN: &str = "account-of-ben";

/// Two riders and a gate.
struct City {
    house: House,
    gate: Sealer,
    cards: [Card; 2],
    keys: [TokenKey; 2],
}

impl City {
    /// Both have e-accounts that hold 50 yuan; Anna pays half.
    async fn new(toml: &str) -> Self {
        Self::under(toml, house_tariff()).await
    }

    async fn under(toml: &str, tariff: String) -> Self {
        let house = House::with(toml).await;
        let tariff =
            tariff + "\n[[category]]\nname = \"adult\"\n\n[[category]]\nname = \"student\"\npercent = 50\n";
        publish_tariff(&house.app, "ops", "t.toml", &tariff).await.unwrap();
        let cards = [Card::new(1), Card::new(2)];
        let of = |card: &Card, account: &str, category: &str| Registration {
            token: card.token,
            expiry: card.expiry,
            psn: 0,
            account_id: account.into(),
            category: category.into(),
        };
        let mut tx = house.app.store.begin().await.unwrap();
        let accounts = [ANNA, BEN].map(|name| NewAccount { account_id: name.into(), class: Class::Ii });
        open_in(&mut tx, &accounts).await.unwrap();
        let registrations = [of(&cards[0], ANNA, "student"), of(&cards[1], BEN, "adult")];
        let keys = register_in(&mut tx, &*house.app.clearing, &registrations, "ops", UnixMs(MORNING)).await;
        let keys = keys.unwrap().try_into().unwrap();
        tx.commit().await.unwrap();
        for name in [ANNA, BEN] {
            deposit(&house.app.store, name, 5_000).await;
        }
        let gate = Sealer::new(&house.provisioning(1).await).unwrap();
        Self { house, gate, cards, keys }
    }

    /// Both tap on a day, and pass; gives what the gate sent.
    async fn ride(&mut self, days: u64) -> Vec<Vec<u8>> {
        let atc = 10 + u16::try_from(days).unwrap();
        let mut sent = Vec::new();
        for card in self.cards.clone() {
            let of = self.gate.next_sequence();
            sent.push(card.tap(days * DAY_MS, atc).seal(&mut self.gate));
            sent.push(passage(&mut self.gate, of, Outcome::Passed));
        }
        let now = self.house.app.clock.now().max(UnixMs(MORNING + days * DAY_MS));
        self.house.app.clock.driven().unwrap().set(now).unwrap();
        let verdicts = self.house.ingest(&sent).await;
        assert!(verdicts.iter().all(|verdict| *verdict == "accepted"), "{verdicts:?}");
        sent
    }

    /// Moves the clock to 09:00 of so many days later.
    fn at(&self, days: u64) {
        self.house.app.clock.driven().unwrap().set(UnixMs(MORNING + days * DAY_MS + 3_600_000)).unwrap();
    }

    async fn close(&self, days: i64) {
        let app = &self.house.app;
        close(app, "ops", day().plus(days), false, false).await.unwrap();
        settle(app, "ops", day().plus(days)).await.unwrap();
        self.agrees(days).await;
    }

    async fn agrees(&self, days: i64) {
        let found = reconcile(&self.house.app, "ops", day().plus(days)).await.unwrap();
        assert!(found.differences.is_empty(), "{:?}", found.differences);
        let altered = verify_batches(self.house.app.store.pool(), day().plus(days)).await.unwrap();
        assert!(altered.is_empty(), "{altered:?}");
    }

    async fn write(&self, query: Query<'_>) {
        let mut tx = self.house.app.store.begin().await.unwrap();
        query.execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Pays out what Anna's account holds.
    async fn pay_anna_out(&self) -> i64 {
        pay_out(&self.house.app, "ops", ANNA, "leaves").await.unwrap().paid_fen.0
    }

    async fn dump(&self) -> Vec<String> {
        dump(&self.house.app.store).await
    }

    /// The first tap of Anna's or Ben's first journey on a day of two rides.
    fn journey(&self, sequence: u32) -> JourneyId {
        JourneyId(TapId { key: self.gate.key_id.0, sequence })
    }
}

/// Rows that speak of something.
fn of<'a>(rows: &'a [String], words: &[&str]) -> Vec<&'a String> {
    rows.iter().filter(|row| words.iter().any(|word| row.contains(word))).collect()
}
