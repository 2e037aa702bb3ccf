//! Whose what is asked for early is, where operators' shares go by what riders did.

use super::*;
use crate::clearing::testing::EVERYTHING;
use crate::settlement::{Method, SettlementConfig, settle_day};

/// Terms under which operators' shares go by a method; 1 and 2 are the tariff's east and west.
fn shared(method: &str, terms: &str) -> String {
    format!(
        "[settlement]\nmethod = '{method}'\nfee_basis_points = 0\n\
         operators = [{{ operator = 1, share = 1, code = 'east' }}, {{ operator = 2, share = 1, code = 'west' }}]\n{terms}"
    )
}

/// The tariff of everything with the house's stations in it: A1 to CH costs 700 fen over both operators' lines, X to Y 350
/// on the west's, and a day at most 1,000.
fn tariff() -> String {
    EVERYTHING.replace("\"A\"", "\"A1\"").replace("\"D\"", "\"CH\"")
}

impl Town {
    /// A ride on the west's lines, for 350 fen.
    async fn ride_west(&mut self, n: usize, minute: u64) {
        for (minute, station, direction) in
            [(minute, "X", Direction::Entry), (minute + 20, "Y", Direction::Exit)]
        {
            self.atc += 1;
            let tap = self.cards[n].tap(minute * MINUTE, self.atc);
            let sealed = TapAt { station, direction, ..tap }.seal(&mut self.gate);
            assert_eq!(self.house.ingest(&[sealed]).await, ["accepted"]);
        }
    }

    /// Shares of parts: part, operator and amount.
    async fn shares(&self) -> Vec<String> {
        let text = "SELECT part || ' ' || operator || ' ' || amount_fen FROM charge_shares ORDER BY token_key, part, operator";
        self.house.texts(text).await
    }

    /// What operators are settled of what was deducted.
    async fn settled(&self) -> Vec<(u16, i64)> {
        let config: SettlementConfig = self.house.app.config.section("settlement").unwrap();
        let clearing = Clearing::of(&self.house.app).await.unwrap();
        let settled = settle_day(&clearing, day(), &config).await.unwrap();
        settled.iter().map(|s| (s.operator, s.deducted_fen.0)).collect()
    }
}

#[tokio::test]
async fn each_early_part_freezes_the_difference_and_a_cap_is_borne_by_all_it_covers() {
    for (method, first, after, settled) in [
        ("nominal", ["1 1 350", "1 2 350"], ["2 1 -17", "2 2 317"], [(1, 333), (2, 667)]),
        ("passenger_km", ["1 1 373", "1 2 327"], ["2 1 -18", "2 2 318"], [(1, 355), (2, 645)]),
    ] {
        let mut town = Town::under(&shared(method, SINGLE), &tariff(), 1, 2_000).await;
        town.ride(0, 0).await;
        assert_eq!(town.round(31).await, early(1, 0));
        assert_eq!(town.shares().await, first, "{method}");
        town.ride_west(0, 100).await;
        assert_eq!(town.round(140).await, early(1, 0));
        town.close().await;
        assert_eq!(town.parts().await, ["1 700 deducted", "2 300 deducted"]);
        assert_eq!(town.shares().await, [first, after].concat(), "{method}");
        assert_eq!(town.settled().await, settled, "{method}");
        town.assert_clean().await;
    }
}

#[tokio::test]
async fn only_the_early_parts_that_the_bank_paid_for_are_settled() {
    let mut town = Town::under(&shared("nominal", SINGLE), &tariff(), 1, 700).await;
    town.ride(0, 0).await;
    assert_eq!(town.round(31).await, early(1, 0));
    town.ride_west(0, 100).await;
    assert_eq!(town.round(140).await, early(0, 1));
    town.close().await;
    assert_eq!(town.settled().await, [(1, 350), (2, 350)]);
    town.deposit(0, 300).await;
    recover(&town.house.app, "anna", town.tokens[0]).await.unwrap();
    assert_eq!(town.settled().await, [(1, -17), (2, 317)]);
    town.assert_clean().await;
}

#[tokio::test]
async fn an_operator_that_is_not_configured_is_named_before_a_fare_is_asked_for_early() {
    let nobody = shared("nominal", SINGLE).replace(", code = 'west'", "");
    let mut town = Town::under(&nobody, &tariff(), 1, 2_000).await;
    town.ride(0, 0).await;
    town.at(31);
    crate::risk::run(&town.house.app).await.unwrap();
    let refused = run(&town.house.app).await.unwrap_err().to_string();
    assert!(refused.contains("names operator `west`"), "{refused}");
    assert_eq!(town.house.count("SELECT count(*) FROM early_days").await, 0);
    // Once it is mended, the fare is asked for.
    let now = UnixMs(MORNING + 31 * MINUTE);
    town.house = town.house.restart_with(&shared("nominal", SINGLE), now).await;
    assert_eq!(town.round(32).await, early(1, 0));
}

#[tokio::test]
async fn under_any_terms_each_operator_gets_the_same_of_each_token_and_parts_add_up() {
    for (method, seed) in [("nominal", 0), ("nominal", 1), ("passenger_km", 2), ("passenger_km", 3)] {
        let mut given: Vec<Vec<String>> = Vec::new();
        for terms in TERMS {
            let town = Town::after_a_day(&shared(method, terms), &tariff(), seed).await;
            let of_each = "SELECT lower(hex(token_key)) || ' ' || operator || ' ' || SUM(amount_fen) FROM charge_shares \
                 GROUP BY token_key, operator HAVING SUM(amount_fen) <> 0 ORDER BY token_key, operator";
            given.push(town.house.texts(of_each).await);
            let uneven = "SELECT count(*) FROM charges AS c WHERE c.amount_fen <> (SELECT COALESCE(SUM(s.amount_fen), 0) \
                 FROM charge_shares AS s WHERE s.token_key = c.token_key AND s.part = c.part)";
            assert_eq!(town.house.count(uneven).await, 0, "{method}, {terms}, seed {seed}");
            // Settlement itself refuses shares that are not what was deducted.
            town.settled().await;
        }
        assert!(given[0].len() > 6, "{given:?}");
        for (given_so, terms) in given.iter().zip(TERMS) {
            assert_eq!(given_so, &given[0], "{method}, {terms}, seed {seed}");
        }
    }
}

#[tokio::test]
async fn a_day_keeps_the_method_of_its_first_early_fare_whatever_the_configuration_says_later() {
    for (method, later, rows) in [("nominal", "fixed", 4), ("fixed", "nominal", 0)] {
        let mut town = Town::under(&shared(method, SINGLE), &tariff(), 1, 2_000).await;
        town.ride(0, 0).await;
        town.round(31).await;
        town.ride_west(0, 100).await;
        let now = UnixMs(MORNING + CLOSING * MINUTE);
        town.house = town.house.restart_with(&shared(later, ""), now).await;
        town.close().await;
        assert_eq!(town.parts().await, ["1 700 deducted", "2 300 deducted"]);
        assert_eq!(town.shares().await.len(), rows, "{method}");
        assert_eq!(town.house.texts("SELECT shares FROM day_close").await[0], method);
        town.settled().await;
        town.assert_clean().await;
    }
}

#[tokio::test]
async fn a_close_that_was_about_to_begin_when_a_fare_was_asked_for_early_shares_by_its_method() {
    let mut town = Town::under(&shared("nominal", SINGLE), &tariff(), 1, 2_000).await;
    town.ride(0, 0).await;
    let mut other = Clearing::of(&town.house.app).await.unwrap();
    Arc::make_mut(&mut other.settlement).method = Method::Fixed;
    assert_eq!(town.round(31).await, early(1, 0));
    let options = CloseOptions { now_ms: i64::MAX, ..CloseOptions::default() };
    other.close_day(day(), options).await.unwrap();
    assert_eq!(town.house.texts("SELECT shares FROM day_close").await[0], "nominal");
    town.assert_clean().await;
}
