//! What is left of a person who was erased, and of days whose taps are deleted.

use super::retention::{self, Stays};
use super::{EraseError, erase};
use crate::bank::embedded::{Class, NewAccount, open_in};
use crate::clearing::app::{close, publish_tariff, reconcile, settle};
use crate::clearing::corrections::{self, CorrectionError, CorrectionId};
use crate::clearing::disputes::{self, DisputeError};
use crate::clearing::journey_id::JourneyId;
use crate::clearing::rounds::Rounds;
use crate::clearing::tariff_day::difference_on;
use crate::clearing::testing::{correcting_tariff, day, deposit, house_tariff};
use crate::clearing::{ClearingError, verify_batches};
use crate::intake::sealer::Sealer;
use crate::keys::{KeyOptions, KeySet, TokenKey};
use crate::lists::deny::{self, Addition, Cause};
use crate::store::db::{Query, query};
use crate::store::testing::{dump, on_postgres};
use crate::testing::{Card, House, MORNING, passage};
use crate::tokens::{IssueRequest, Registration, TokensError, issue_many_in, register_in};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use wavepass_fares::price_file::Text;
use wavepass_fares::{ServiceDay, TapId};
use wavepass_protocol::tap::{Decision, Entry, Outcome, Reason};
use wavepass_protocol::time::{Date, UnixMs};
use wavepass_protocol::token::Expiry;

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

#[tokio::test]
async fn nothing_opens_to_the_number_of_a_person_who_was_erased_and_the_books_stand() {
    let mut city = City::new("").await;
    let mut sent = city.ride(0).await;
    let mut refused = city.cards[0].tap(60_000, 5);
    refused.decision = Decision::Refuse(Reason::Denied);
    sent.push(refused.seal(&mut city.gate));
    // Another entry of hers in a place that is taken is set aside whole.
    let other = city.cards[0].tap(9_000, 77);
    let conflict = other.with_entry(|entry| city.gate.seal_as(1, 40, entry).unwrap());
    city.house.ingest(&[&sent[4..], std::slice::from_ref(&conflict)].concat()).await;
    city.at(1);
    city.close(0).await;
    let app = &city.house.app;
    let mut tx = app.store.begin().await.unwrap();
    let manual =
        Addition { token_key: city.keys[0], number: None, cause: Cause::Manual, note: String::new() };
    deny::add_in(&mut tx, &*app.clearing, &[manual], "ops", UnixMs(MORNING)).await.unwrap();
    tx.commit().await.unwrap();
    app.publish_lists().await.unwrap();
    assert!(app.lists.denies(&city.cards[0].token, Some(city.cards[0].expiry)));
    let before = city.dump().await;

    let erased = erase(app, "ops", ANNA).await.unwrap();
    // She tapped once and was refused once; a student's half of 900 fen was deducted.
    assert_eq!((erased.already, erased.tokens, erased.entries, erased.set_aside), (false, 1, 2, 1));
    assert_eq!((erased.deny_entries, erased.left_fen.map(|fen| fen.0)), (1, Some(5_000 - 450)));
    let after = city.dump().await;
    let said = of(&after, &["6222021200000001", "622202120000000131", "account-of-anna"]);
    assert!(said.is_empty(), "{said:?}");
    assert!(!app.lists.denies(&city.cards[0].token, Some(city.cards[0].expiry)));
    nothing_opens(&city).await;

    // Of Ben, every row is as it was; the books stand but for the name of Anna's e-account.
    let ben = city.keys[1].to_hex().to_uppercase();
    assert_eq!(of(&after, &[&ben, BEN]), of(&before, &[&ben, BEN]));
    for table in ["ledger_", "charges ", "batches ", "settlements ", "journeys ", "taps "] {
        let rows = |rows: &[String]| -> Vec<String> {
            rows.iter().filter(|row| row.starts_with(table)).cloned().collect()
        };
        assert_eq!(rows(&after), rows(&before), "{table}");
    }
    city.agrees(0).await;
    let audited = of(&after, &["person.erase"]);
    assert!(
        audited.len() == 1 && audited[0].contains("1 tokens, 2 entries, 1 set aside, 1 causes of denial")
    );

    // Rule 3: what was sent comes again, and is known.
    let verdicts = city.house.ingest(&[sent.clone(), vec![conflict.clone()]].concat()).await;
    assert_eq!(verdicts, ["repeated"; 6]);
    let receipt = app.intake.ingest(sent).await.unwrap();
    assert_eq!(receipt.acknowledged.get(&city.gate.key_id), Some(&5));
    nothing_opens(&city).await;

    // A token under the account's name would have the number and the keys of the erased one.
    let keys = KeySet::generate(&mut ChaCha20Rng::seed_from_u64(7), &KeyOptions::house(2036)).unwrap();
    let (request, mut tx) =
        (IssueRequest { account_id: ANNA.into(), ..phone() }, app.store.begin().await.unwrap());
    let issued =
        issue_many_in(&mut tx, &*app.clearing, &*keys.bank(), &[request], "ops", UnixMs(MORNING)).await;
    assert!(matches!(issued, Err(TokensError::Erased)));
    drop(tx);

    // Again, it says so and changes nothing.
    let before = city.dump().await;
    assert!(erase(app, "ops", ANNA).await.unwrap().already);
    assert_eq!(city.dump().await, before);
    assert!(matches!(erase(app, "ops", "account-of-carl").await, Err(EraseError::Unknown)));
    assert!(matches!(erase(app, "ops", "6222021200000001").await, Err(EraseError::Text(_))));
}

fn phone() -> IssueRequest {
    IssueRequest {
        account_id: String::new(),
        category: "adult".into(),
        effective: Date { year: 2026, month: 1, day: 1 },
        expiry: Expiry { year: 31, month: 12 },
        network: *b"WAVE",
        operator: 0,
    }
}

/// With clearing's keys, nothing that is stored opens to Anna's number; without SQLite's log, nor do its files hold it.
async fn nothing_opens(city: &City) {
    let app = &city.house.app;
    let mut opened = 0;
    for text in ["SELECT sealed FROM entries", "SELECT sealed FROM set_aside"] {
        let sealed: Vec<Vec<u8>> = query(text).column(app.store.pool()).await.unwrap();
        let sealed: Vec<&[u8]> = sealed.iter().map(Vec::as_slice).collect();
        for entry in app.clearing.unseal(&sealed).into_iter().flatten() {
            let Entry::Tap(tap) = entry.entry() else { continue };
            assert_eq!(tap.token, Some(city.cards[1].token));
            opened += 1;
        }
    }
    assert_eq!(opened, 1);
    let sealed: Vec<(Vec<u8>, Vec<u8>)> = query(
        "SELECT token_key, sealed_token FROM tokens UNION ALL SELECT token_key, sealed_token FROM deny_entries",
    )
    .rows(app.store.pool())
    .await
    .unwrap();
    for (key, sealed) in sealed {
        let Ok((token, _)) = app.clearing.open_token(&TokenKey::from_slice(&key).unwrap(), &sealed) else {
            continue;
        };
        assert_eq!(token, city.cards[1].token);
    }
}

#[tokio::test]
async fn on_sqlite_the_files_hold_no_sealed_byte_of_what_was_erased() {
    if on_postgres() {
        return;
    }
    let mut city = City::new("").await;
    let sent = city.ride(0).await;
    city.at(1);
    city.close(0).await;
    let holds = |sealed: &[u8]| {
        let needle = &sealed[sealed.len() - 24..];
        let files = std::fs::read_dir(city.house.scratch.dir.path()).unwrap();
        files
            .map(|file| std::fs::read(file.unwrap().path()).unwrap())
            .any(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
    };
    assert!(holds(&sent[0]) && holds(&sent[2]));
    erase(&city.house.app, "ops", ANNA).await.unwrap();
    assert_eq!((holds(&sent[0]), holds(&sent[2])), (false, true));
}

#[tokio::test]
async fn whoever_has_anything_open_is_not_erased_and_is_told_what() {
    let mut city = City::new("").await;
    city.ride(0).await;
    let key = city.keys[0].as_slice().to_vec();
    let app = &city.house.app;
    let refused = async || {
        let before = city.dump().await;
        let error = erase(app, "ops", ANNA).await.unwrap_err();
        assert_eq!(city.dump().await, before);
        assert!(!error.to_string().contains(ANNA));
        error
    };
    assert!(matches!(refused().await, EraseError::Unchecked(1)));
    crate::risk::run(app).await.unwrap();
    assert!(matches!(refused().await, EraseError::DayOpen(open) if open == day()));
    city.at(1);
    city.close(0).await;
    for (state, is_named) in [
        ("in_doubt", (|e| matches!(e, EraseError::InDoubt(1))) as fn(EraseError) -> bool),
        ("open", |e| matches!(e, EraseError::Unfinished(1))),
    ] {
        let charge = |state| query("UPDATE charges SET state = ? WHERE token_key = ?").bind(state).bind(&key);
        city.write(charge(state)).await;
        assert!(is_named(refused().await), "{state}");
        city.write(charge("deducted")).await;
    }
    city.write(query("INSERT INTO debts (token_key, service_day, part, amount_fen, reason, state) VALUES (?, 20780, 1, 450, 'no_funds', 'open')").bind(&key)).await;
    assert!(matches!(refused().await, EraseError::Debts(1)));
    city.write(query("DELETE FROM debts")).await;
    city.write(query("INSERT INTO holds (token_key, number, service_day, account_id, amount_fen, state, asked_ms, expires_ms) VALUES (?, 1, 20780, 'account-of-anna', 100, 'active', 0, 0)").bind(&key)).await;
    assert!(matches!(refused().await, EraseError::Holds(1)));
    city.write(query("UPDATE holds SET state = 'released'")).await;
    let of = (city.keys[0], day(), city.journey(1));
    let dispute = disputes::open(app, "ops", of, "the gate was at fault").await.unwrap();
    assert!(matches!(refused().await, EraseError::Disputes(1)));
    disputes::reject(app, "ops", &dispute.id.parse().unwrap(), "it was not").await.unwrap();
    assert_eq!(erase(app, "ops", ANNA).await.unwrap().tokens, 1);
}

#[tokio::test]
async fn a_card_whose_person_was_erased_is_nobodys_when_it_taps_again() {
    let mut city = City::new("").await;
    city.ride(0).await;
    city.at(1);
    city.close(0).await;
    erase(&city.house.app, "ops", ANNA).await.unwrap();
    // Twice with one ATC and other data: a copy, which is denied by the number of what came now.
    city.ride(1).await;
    let mut copy = city.cards[0].tap(DAY_MS + 60_000, 11);
    copy.data = 99;
    let copy = copy.seal(&mut city.gate);
    city.house.ingest(&[copy]).await;
    city.at(2);
    let app = &city.house.app;
    close(app, "ops", day().plus(1), false, false).await.unwrap();
    assert!(app.lists.denies(&city.cards[0].token, Some(city.cards[0].expiry)));
    let breaks = city.house.texts("SELECT kind FROM breaks WHERE closed_ms IS NULL").await;
    assert_eq!(breaks, ["unregistered_token"]);
    // Its first day is still priced as it was.
    city.agrees(0).await;
}

/// Days 0 to 4 with rides, all closed, seen from the sixth day on; kept for two days.
async fn five_days() -> (City, Vec<Vec<Vec<u8>>>) {
    let mut city = City::new("[retention]\ndays = 2").await;
    let mut sent = Vec::new();
    for days in 0..5 {
        sent.push(city.ride(days).await);
        if days > 0 {
            city.close(days as i64 - 1).await;
        }
    }
    city.at(5);
    city.close(4).await;
    (city, sent)
}

fn days(n: std::ops::Range<i64>) -> Vec<ServiceDay> {
    n.map(|n| day().plus(n)).collect()
}

#[tokio::test]
async fn days_that_are_long_over_are_deleted_and_their_taps_never_count_again() {
    let (mut city, sent) = five_days().await;
    let app = &city.house.app;
    let before = city.dump().await;
    // Today is day 5: days 0 to 2 are old enough, and of them day 2 bears on day 3, whose first journeys may have begun in it.
    let would = retention::plan(app).await.unwrap();
    assert_eq!((would.dry_run, &would.days), (true, &days(0..2)));
    assert_eq!(city.dump().await, before);
    let done = retention::run(app, "ops").await.unwrap();
    assert_eq!((done.dry_run, &done.days, &done.rows), (false, &days(0..2), &would.rows));
    assert_eq!((done.rows["taps"], done.rows["entries"], done.rows["journeys"]), (4, 8, 4));
    assert_eq!(done.stays, Some(Stays { service_day: day().plus(2), why: "needed" }));
    assert_eq!(would.stays, done.stays);

    let after = city.dump().await;
    for table in ["ledger_", "charges ", "batches ", "settlements ", "attempts ", "bank_", "tokens "] {
        let rows = |rows: &[String]| -> Vec<String> {
            rows.iter().filter(|row| row.starts_with(table)).cloned().collect()
        };
        assert_eq!(rows(&after), rows(&before), "{table}");
    }
    assert_eq!(city.house.count("SELECT count(*) FROM taps").await, 6);
    assert_eq!(city.house.count("SELECT count(*) FROM forgotten_entries").await, 1);
    assert!(verify_batches(app.store.pool(), day()).await.unwrap().is_empty());
    for days in 3..5 {
        city.agrees(days).await;
    }
    let again = retention::run(app, "ops").await.unwrap();
    assert!(again.days.is_empty() && again.rows.is_empty());
    assert_eq!(of(&city.dump().await, &["day.delete"]).len(), 2);

    // Rule 3: all of it comes again, and nothing is new.
    let receipt = app.intake.ingest(sent.concat()).await.unwrap();
    assert_eq!(receipt.count("repeated"), 20);
    assert_eq!(receipt.acknowledged.get(&city.gate.key_id), Some(&20));
    // A tap of a day that is gone, one with an ATC that was used on such a day, and one that is good.
    let [anna, ben] = city.cards.clone();
    let taps = [anna.tap(60_000, 90), anna.tap(5 * DAY_MS, 11), ben.tap(5 * DAY_MS, 91)];
    let taps = taps.map(|tap| tap.seal(&mut city.gate));
    assert_eq!(city.house.ingest(&taps).await, ["accepted"; 3]);
    let counted = "SELECT CAST(counted AS TEXT) FROM taps WHERE sequence > 20 ORDER BY sequence";
    assert_eq!(city.house.texts(counted).await, ["0", "0", "1"]);
    let breaks = city.house.texts("SELECT kind FROM breaks ORDER BY kind").await;
    assert_eq!(breaks, ["deleted_day", "forgotten_atc"]);
    // A counter of a deleted entry seals no other.
    let repeat = ben.tap(5 * DAY_MS, 92).with_entry(|entry| city.gate.seal_as(24, 1, entry).unwrap());
    assert_eq!(city.house.ingest(&[repeat]).await, ["set_aside"]);
}

#[tokio::test]
async fn what_would_price_a_day_that_is_gone_is_refused_by_name() {
    let (city, _) = five_days().await;
    let app = &city.house.app;
    let of = CorrectionId { token_key: city.keys[1], day: day(), journey: city.journey(3) };
    retention::run(app, "ops").await.unwrap();
    let late = close(app, "ops", day(), false, true).await;
    assert!(matches!(late, Err(ClearingError::Deleted { .. })));
    assert_eq!(city.house.count("SELECT count(*) FROM day_close WHERE state = 'pricing'").await, 0);
    assert!(matches!(reconcile(app, "ops", day()).await, Err(ClearingError::Deleted { .. })));
    let dearer =
        house_tariff().replace("wavepass-city-1", "wavepass-city-2").replace("2026-01-01", "2027-01-01");
    let tried = difference_on(app, day(), Text { file: "new.toml", text: &dearer }).await;
    assert!(matches!(tried, Err(ClearingError::Deleted { .. })));
    let told = corrections::Told { of, station: "HB", told_ms: None };
    let told = corrections::add(app, "ops", told).await;
    assert!(matches!(told, Err(CorrectionError::Clearing(ClearingError::Deleted { .. }))));
    let disputed = disputes::open(app, "ops", (of.token_key, of.day, of.journey), "no").await;
    assert!(matches!(disputed, Err(DisputeError::Clearing(ClearingError::Deleted { .. }))));
    // It is closed, and that may be said; every day that is not old enough may be closed late, and one that stays because it
    // is needed may not: of the day before it, nothing is known any more.
    assert!(close(app, "ops", day(), false, false).await.unwrap().close.already_closed);
    let needed = close(app, "ops", day().plus(2), false, true).await;
    assert!(matches!(needed, Err(ClearingError::Deleted { .. })));
    close(app, "ops", day().plus(3), false, true).await.unwrap();
}

#[tokio::test]
async fn a_day_with_anything_open_stays_and_so_do_those_after_it() {
    let (city, _) = five_days().await;
    let key = city.keys[0].as_slice().to_vec();
    let stays = async |why| {
        let would = retention::plan(&city.house.app).await.unwrap();
        assert_eq!((would.days, would.stays), (days(0..1), Some(Stays { service_day: day().plus(1), why })));
    };
    for (why, open, ended) in [
        (
            "breaks_open",
            "INSERT INTO breaks (id, kind, subject, service_day, detail, opened_ms) VALUES ('b', 'k', 's', 20781, 'd', 0)",
            "UPDATE breaks SET closed_ms = 1",
        ),
        (
            "debts_open",
            "INSERT INTO debts (token_key, service_day, part, amount_fen, reason, state) VALUES (?, 20781, 1, 1, 'r', 'open')",
            "DELETE FROM debts",
        ),
        (
            "charges_unfinished",
            "UPDATE charges SET state = 'in_doubt' WHERE service_day = 20781 AND token_key = ?",
            "UPDATE charges SET state = 'deducted'",
        ),
        (
            "holds_standing",
            "INSERT INTO holds (token_key, number, service_day, account_id, amount_fen, state, asked_ms, expires_ms) \
             VALUES (?, 1, 20781, 'a', 1, 'active', 0, 0)",
            "DELETE FROM holds",
        ),
        (
            "unchecked_taps",
            "INSERT INTO arrivals (key_id, from_sequence, upto_sequence, taps, from_ms, upto_ms) \
             SELECT key_id, sequence, sequence, 1, time_ms, time_ms FROM taps WHERE service_day = 20781 AND token_key = ?",
            "DELETE FROM arrivals",
        ),
        (
            "not_closed",
            "UPDATE day_close SET state = 'pricing' WHERE service_day = 20781",
            "UPDATE day_close SET state = 'sealed'",
        ),
    ] {
        let opened = query(open);
        city.write(if open.contains('?') { opened.bind(&key) } else { opened }).await;
        stays(why).await;
        city.write(query(ended)).await;
    }
    let app = &city.house.app;
    let of = (city.keys[0], day().plus(1), city.journey(5));
    let dispute = disputes::open(app, "ops", of, "the gate was at fault").await.unwrap();
    stays("disputes_open").await;
    disputes::reject(app, "ops", &dispute.id.parse().unwrap(), "it was not").await.unwrap();
    assert_eq!(retention::plan(app).await.unwrap().days, days(0..2));
}

#[tokio::test]
async fn a_day_that_is_not_settled_or_not_closed_stays() {
    let mut city = City::new("[retention]\ndays = 1").await;
    for n in 0..3 {
        city.ride(n).await;
    }
    city.at(6);
    let app = &city.house.app;
    let stays = async |service_day, why| {
        let would = retention::plan(app).await.unwrap();
        assert_eq!((would.days.len(), would.stays), (0, Some(Stays { service_day, why })));
    };
    // Day 0 may be priced with what came on it only; it is not closed itself.
    stays(day(), "not_closed").await;
    close(app, "ops", day(), false, false).await.unwrap();
    // Day 1 is not closed, and a journey of it may have begun on day 0.
    stays(day(), "needed").await;
    close(app, "ops", day().plus(1), false, false).await.unwrap();
    close(app, "ops", day().plus(2), false, false).await.unwrap();
    stays(day(), "not_settled").await;
}

#[tokio::test]
async fn days_that_a_month_is_counted_over_stay_until_the_next_month_does_without_them() {
    let mut city = City::under("[retention]\ndays = 2", correcting_tariff()).await;
    city.ride(0).await;
    city.at(1);
    city.close(0).await;
    // 30 November: its corrections are counted from 1 November on.
    city.at(7);
    let would = retention::plan(&city.house.app).await.unwrap();
    assert_eq!((would.days, would.stays), (days(0..0), Some(Stays { service_day: day(), why: "needed" })));
    // 4 December: no day before 2 December is needed any more, nor 30 November but for journeys over its end.
    city.at(11);
    assert_eq!(retention::run(&city.house.app, "ops").await.unwrap().days, days(0..1));
}

#[tokio::test]
async fn a_day_whose_deletion_was_killed_is_gone_on_with_and_the_rounds_delete_one_at_a_time() {
    let (city, _) = five_days().await;
    // As a process leaves it that died after it had begun and had deleted one tap.
    city.write(query("INSERT INTO deleted_days (service_day, state) VALUES (20780, 'deleting')")).await;
    for text in [
        "INSERT INTO forgotten_entries (key_id, from_sequence, upto_sequence, from_counter, upto_counter) \
         SELECT key_id, 1, 1, counter, counter FROM entries WHERE sequence = 1",
        "DELETE FROM entries WHERE sequence = 1",
        "DELETE FROM taps WHERE sequence = 1",
    ] {
        city.write(query(text)).await;
    }
    let City { house, gate, cards, keys } = city;
    let toml = "[retention]\ndays = 2";
    let house = house.restart_with(toml, UnixMs(MORNING + 5 * DAY_MS)).await;
    let city = City { house, gate, cards, keys };
    let rounds = Rounds::of(&city.house.app.config).unwrap();
    let gone = "SELECT count(*) FROM deleted_days WHERE state = 'deleted'";
    rounds.run(&city.house.app).await.unwrap();
    assert_eq!(city.house.count(gone).await, 1);
    assert_eq!(city.house.count("SELECT count(*) FROM taps WHERE service_day = 20780").await, 0);
    assert_eq!(city.house.count("SELECT count(*) FROM entries WHERE sequence <= 4").await, 0);
    rounds.run(&city.house.app).await.unwrap();
    assert_eq!(city.house.count(gone).await, 2);
    assert_eq!(city.house.count("SELECT count(*) FROM forgotten_entries").await, 1);
}

#[tokio::test]
async fn without_a_limit_everything_is_kept() {
    let mut city = City::new("").await;
    city.ride(0).await;
    city.at(1);
    city.close(0).await;
    city.at(4_000);
    assert_eq!(retention::run(&city.house.app, "ops").await.unwrap(), super::Retained::default());
    Rounds::of(&city.house.app.config).unwrap().run(&city.house.app).await.unwrap();
    assert_eq!(city.house.count("SELECT count(*) FROM taps").await, 2);
}
