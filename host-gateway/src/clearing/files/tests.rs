//! The files that a closed day hands out.

use std::collections::BTreeMap;

use super::*;
use crate::api::testing::over;
use crate::clearing::debts::Ending;
use crate::clearing::disputes::DisputeId;
use crate::clearing::journey_id::JourneyId;
use crate::clearing::testing::{World, day, key, penniless};
use crate::clearing::tests::{assert_clean, close, deduct};
use crate::clearing::{CloseOptions, DeductOptions, app};
use crate::settlement::{SettlementConfig, settle_day};
use crate::testing::MORNING;
use wavepass_fares::TapId;
use wavepass_files::table::{Charge, Head, Journey, Position, Reader};
use wavepass_protocol::time::UnixMs;

/// Four tokens with a journey each, of whom the last has no money, closed, deducted and settled.
async fn closed() -> World {
    let world = World::new(4, 10_000).await;
    let taps: Vec<_> = (0..4).flat_map(|n| [(n, 8, 0, "HB", 0), (n, 8, 30, "UN", 1)]).collect();
    world.taps(1, &taps).await;
    world.tamper("UPDATE bank_accounts SET balance_fen = 0 WHERE account_id = 'a3'").await;
    let options = CloseOptions { now_ms: i64::MAX, ..CloseOptions::default() };
    world.clearing.close_day(day(), options).await.unwrap();
    world.clearing.deduct_day(day(), DeductOptions::default()).await.unwrap();
    settle_day(&world.clearing, day(), &SettlementConfig::default()).await.unwrap();
    world
}

fn house() -> CollectionConfig {
    CollectionConfig {
        name: "Wavepass City Transit".into(),
        account: "6222000000000017".into(),
        cnaps: Some("102331000017".into()),
        ..CollectionConfig::default()
    }
}

fn rows<T: table::Row>(bytes: &[u8]) -> (Head, Vec<T>) {
    let reader = Reader::new(bytes).unwrap();
    let head = *reader.head();
    (head, reader.collect::<Result<_, _>>().unwrap())
}

#[tokio::test]
async fn a_batchs_files_say_what_the_books_say_and_are_the_same_each_time() {
    let world = closed().await;
    let clearing = &world.clearing;
    let bytes = charges(clearing, day(), 0).await.unwrap();
    assert_eq!(charges(clearing, day(), 0).await.unwrap(), bytes);
    let (head, charged) = rows::<Charge>(&bytes);
    assert_eq!((head.service_day, head.rank, head.batch), (day(), 0, Some(1)));
    assert_eq!(charged.len(), 4);
    let total: i64 = charged.iter().map(|c| c.amount.0).sum();
    assert_eq!(total, world.one::<i64>("SELECT total_fen FROM batches").await);

    let (_, travelled) = rows::<Journey>(&journeys(clearing, day(), 0).await.unwrap());
    assert_eq!(travelled.iter().map(|j| j.charged.0).sum::<i64>(), total);
    assert_eq!((travelled[0].from.as_deref(), travelled[0].to.as_deref()), (Some("HB"), Some("UN")));

    let (_, positions) = rows::<Position>(&settlement(clearing, day(), 0).await.unwrap());
    let settled = world.one::<i64>("SELECT settled_fen FROM settlements").await;
    assert_eq!(positions.iter().map(|p| p.settled.0).collect::<Vec<_>>(), [settled]);
}

#[tokio::test]
async fn the_collection_has_every_attempt_of_its_number_under_its_name() {
    let world = closed().await;
    let house = house();
    let ask = |submission| collection(&world.clearing, &house, day(), 0, submission);
    let first = ask(1).await.unwrap();
    assert_eq!(ask(1).await.unwrap(), first);
    let reader: iso20022::Reader<Collection, _> = iso20022::Reader::new(&first[..], Currency::CNY).unwrap();
    assert_eq!(reader.message().id.to_string(), "WP-B1-1");
    let debits: Vec<DirectDebit> = reader.collect::<Result<_, _>>().unwrap();
    let accounts: Vec<&str> = debits.iter().map(|d| d.account.as_str()).collect();
    assert_eq!(accounts, ["a0", "a1", "a2", "a3"]);
    assert!(debits.iter().all(|d| d.id.attempt == 1 && d.id.service_day == day()));

    // The bank declined one: it alone is asked for again, in a message of its own.
    assert!(matches!(ask(2).await, Err(FilesError::Nothing { .. })));
    world.clearing.deduct_day(day(), DeductOptions { retry_declined: true }).await.unwrap();
    let second = ask(2).await.unwrap();
    let reader: iso20022::Reader<Collection, _> = iso20022::Reader::new(&second[..], Currency::CNY).unwrap();
    assert_eq!(reader.map(|debit| debit.unwrap().account).collect::<Vec<_>>(), ["a3"]);
}

#[tokio::test]
async fn what_is_not_there_or_not_configured_is_named() {
    let world = closed().await;
    let refused = charges(&world.clearing, day(), 7).await.unwrap_err().to_string();
    assert_eq!(refused, "service day 2026-11-23 has no batch 7");
    assert!(matches!(settlement(&world.clearing, day(), 7).await, Err(FilesError::Nothing { .. })));
    let nobody = CollectionConfig::default();
    let refused = collection(&world.clearing, &nobody, day(), 0, 1).await.unwrap_err().to_string();
    assert!(refused.contains("either bic or cnaps"), "{refused}");
    let both = CollectionConfig { bic: Some("ICBKCNBJ".into()), ..house() };
    assert!(matches!(both.creditor(), Err(why) if why.contains("either bic or cnaps")));
    let unnamed = CollectionConfig { name: String::new(), ..house() };
    assert!(matches!(unnamed.creditor(), Err(why) if why.contains("name and account")));
}

const LAYOUT: &str = wavepass_files::fixed::CHARGES;

/// Every file of the day, by its name.
async fn all(world: &World) -> BTreeMap<String, Vec<u8>> {
    let (clearing, day) = (&world.clearing, day());
    let layout = parse(LAYOUT).unwrap();
    let mut files = BTreeMap::new();
    let mut put = |name: String, file: Result<Vec<u8>, FilesError>| match file {
        Ok(bytes) => drop(files.insert(name, bytes)),
        Err(FilesError::Nothing { .. } | FilesError::NotDeducted { .. }) => {}
        Err(error) => panic!("{name}: {error}"),
    };
    for batch in batch::of_day(clearing.store.pool(), day).await.unwrap() {
        let rank = u32::try_from(batch.rank).unwrap();
        put(format!("charges {rank}"), charges(clearing, day, rank).await);
        put(format!("charges by a layout {rank}"), charges_by_layout(clearing, &layout, day, rank).await);
        put(format!("journeys {rank}"), journeys(clearing, day, rank).await);
        put(format!("collection {rank}"), collection(clearing, &house(), day, rank, 1).await);
        put(format!("settlement {rank}"), settlement(clearing, day, rank).await);
    }
    files
}

async fn refund(world: &World, token: u32, fen: i64) {
    // Each token's first tap, of two or of one, is an odd one from 1 on.
    let journey = JourneyId(TapId { key: [1, 2, 3, 4, 5, 6, 7, 8], sequence: 2 * token + 1 });
    let id = DisputeId { token_key: key(token), day: day(), journey, number: 1 };
    let mut tx = world.scratch.begin().await.unwrap();
    world.clearing.refund_in(&mut tx, &id, Fen(fen)).await.unwrap();
    tx.commit().await.unwrap();
}

async fn waive(world: &World, token: u32) {
    let (reason, by, at) = ("goodwill", "anna", UnixMs(9));
    let ending = Ending { token_key: key(token), day: day(), part: None, reason, by, at };
    let mut tx = world.scratch.begin().await.unwrap();
    let waived = world.clearing.waive_in(&mut tx, ending).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(waived.parts, [1]);
}

/// Lets money leave a token's account, or nothing.
async fn set_account(world: &World, token: u32, state: &str) {
    world.tamper(&format!("UPDATE bank_accounts SET state = '{state}' WHERE account_id = 'a{token}'")).await;
}

async fn recover(world: &World, token: u32) {
    set_account(world, token, "open").await;
    assert_eq!(world.clearing.recover_token(key(token)).await.unwrap().approved, 1);
}

#[tokio::test]
async fn whatever_becomes_of_a_batch_its_files_are_the_same_bytes() {
    let world = World::new(7, 10_000).await;
    let mut taps: Vec<_> = (0..7).flat_map(|n| [(n, 8, 0, "HB", 0), (n, 8, 30, "UN", 1)]).collect();
    // The exit of the first comes late.
    let late = taps.remove(1);
    world.taps(1, &taps[..1]).await;
    world.taps(3, &taps[1..]).await;
    for n in [1, 2, 4, 6] {
        set_account(&world, n, "frozen").await;
    }
    close(&world, false).await;
    deduct(&world).await;
    settle_day(&world.clearing, day(), &SettlementConfig::default()).await.unwrap();

    let mut before = all(&world).await;
    let kinds = ["charges 0", "charges by a layout 0", "collection 0", "journeys 0", "settlement 0"];
    assert_eq!(before.keys().collect::<Vec<_>>(), kinds);
    let steps = [
        "a debt is recovered",
        "a debt is waived",
        "what was paid is refunded",
        "a debt is refunded whole",
        "a debt is refunded in part",
        "the refund is credited",
        "the rest is recovered",
        "a tap comes late",
        "what came late is deducted",
        "what came late is settled",
    ];
    for (n, step) in steps.into_iter().enumerate() {
        match n {
            0 => recover(&world, 1).await,
            1 => waive(&world, 2).await,
            2 => refund(&world, 3, 150).await,
            3 => refund(&world, 4, 300).await,
            4 => refund(&world, 6, 150).await,
            5 => assert_eq!(deduct(&world).await.approved, 1),
            6 => recover(&world, 6).await,
            7 => {
                world.taps(2, &[late]).await;
                world.taps(90, &[(5, 19, 0, "UN", 2)]).await;
                assert_eq!(close(&world, true).await.batch.unwrap().charges, 2);
                // Of a collection that would grow nothing is handed out.
                let early = collection(&world.clearing, &house(), day(), 4, 1).await;
                assert!(
                    matches!(early, Err(FilesError::NotDeducted { number: 5, charges: 1, .. })),
                    "{early:?}"
                );
            }
            8 => assert_eq!(deduct(&world).await.approved, 2),
            _ => {
                let config = SettlementConfig::default();
                assert_eq!(settle_day(&world.clearing, day(), &config).await.unwrap().len(), 1);
            }
        }
        let after = all(&world).await;
        for (name, bytes) in &before {
            assert_eq!(
                String::from_utf8_lossy(&after[name]),
                String::from_utf8_lossy(bytes),
                "{step}: {name}"
            );
        }
        before = after;
    }
    for name in ["charges 4", "charges by a layout 4", "collection 4", "journeys 4", "settlement 1"] {
        assert!(before.contains_key(name), "{name}: {:?}", before.keys());
    }
    let superseded = "SELECT count(*) FROM journeys WHERE superseded_by IS NOT NULL";
    assert_eq!(world.one::<i64>(superseded).await, 1);
    assert_clean(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_handed_out_over_http_as_by_command() {
    let config = "[collection]\nname = 'City'\naccount = '6222000000000017'\ncnaps = '102331000017'\n";
    let (house, _server, http) = over(penniless(config).await.0).await;
    house.app.clock.driven().unwrap().set(UnixMs(MORNING + 24 * 3_600_000)).unwrap();
    app::close(&house.app, "anna", day(), false, false).await.unwrap();
    app::settle(&house.app, "anna", day()).await.unwrap();
    let clearing = Clearing::of(&house.app).await.unwrap();
    let path = |file: &str| format!("/v1/days/2026-11-23/files/{file}");
    let get = async |file: &str| http.call("GET", &path(file), Some(&http.admin), None).await;
    let text = |bytes: Vec<u8>| (200, String::from_utf8(bytes).unwrap());

    assert_eq!(get("charges").await, text(charges(&clearing, day(), 0).await.unwrap()));
    assert_eq!(get("journeys?rank=0").await, text(journeys(&clearing, day(), 0).await.unwrap()));
    let asked = collection(&clearing, &CollectionConfig::of(&house.app).unwrap(), day(), 0, 1).await.unwrap();
    assert_eq!(get("collection?submission=1").await, text(asked));
    let body = serde_json::json!({ "layout": LAYOUT });
    let answer = http.call("POST", &path("charges"), Some(&http.admin), Some(body)).await;
    let layout = parse(LAYOUT).unwrap();
    assert_eq!(answer, text(charges_by_layout(&clearing, &layout, day(), 0).await.unwrap()));

    let refused = async |method: &str, file: &str, body| {
        let (status, answer) = http.admin(method, &path(file), body).await;
        (status, answer["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    let told = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(refused("GET", "charges?rank=7", None).await, told(404, "no_batch"));
    assert_eq!(refused("GET", "collection?submission=2", None).await, told(404, "nothing"));
    assert_eq!(refused("GET", "settlement?rank=7", None).await, told(404, "nothing"));
    let broken = Some(serde_json::json!({ "layout": LAYOUT.replace("\"part\"", "\"station\"") }));
    assert_eq!(refused("POST", "charges", broken).await, told(400, "layout"));
    let narrow = LAYOUT.replace(
        "start = 45, width = 12, kind = \"amount\", signed = true }",
        "start = 45, width = 3, kind = \"amount\", signed = true },\n\
         { name = \"filler\", start = 48, width = 9, kind = \"constant\", value = \"\" }",
    );
    let narrow = Some(serde_json::json!({ "layout": narrow }));
    assert_eq!(refused("POST", "charges", narrow).await, told(409, "format"));

    let mut tx = house.app.store.begin().await.unwrap();
    query("UPDATE batches SET charges = 400001").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    for file in ["charges", "journeys", "collection"] {
        assert_eq!(refused("GET", file, None).await, told(409, "file_too_long"), "{file}");
    }
    assert!(super::api::short_enough(1, "journeys", 400_000).is_ok());
    let refused = super::api::short_enough(7, "journeys", 400_001).unwrap_err().to_string();
    assert!(refused.starts_with("batch 7 has 400001 journeys, more than 400000"), "{refused}");
}
