use super::*;
use crate::keys::{KeyOptions, KeySet};
use crate::store::db::query;
use crate::store::testing::scratch;
use rand::SeedableRng;
use std::sync::Arc;
use wavepass_protocol::provisioning::Provisioning;

fn clearing() -> Arc<dyn ClearingKeys> {
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
    KeySet::generate(&mut rng, &KeyOptions::house(2045)).unwrap().clearing()
}

fn new(gate_id: u32) -> NewGate {
    NewGate { gate_id, station: "A1".to_owned(), direction: Direction::Exit, operator: 3, network: *b"WAVE" }
}

#[tokio::test]
async fn a_station_that_no_published_tariff_has_is_warned_of() {
    let house = crate::testing::House::new().await;
    let add = async |id: &str, station: &str| {
        let args = ["gate", "add", "--id", id, "--station", station, "--direction", "entry", "--out", "g"];
        let command = crate::cli::parse_store_command(&args.map(str::to_owned)).unwrap();
        crate::cli::run_store_command(command, &house.app, "anna", crate::cli::Given::default())
            .await
            .unwrap()
            .warnings
    };
    assert!(add("1", "NOSUCH").await.is_empty(), "without a tariff there is nothing to compare");
    let city = crate::clearing::testing::CITY;
    crate::clearing::app::publish_tariff(&house.app, "anna", "t.toml", city).await.unwrap();
    assert!(add("2", "NOSUCH").await[0].contains("no published tariff has station NOSUCH"));
    assert!(add("3", "HB").await.is_empty());
}

#[tokio::test]
async fn a_gate_is_commissioned_once_and_served_under_its_key_id() {
    let store = scratch().await;
    let keys = clearing();
    let mut tx = store.begin().await.unwrap();
    let (gate, file) = add_in(&mut tx, keys.as_ref(), &new(7), "anna", UnixMs(5)).await.unwrap();
    let parsed = Provisioning::parse(&file).unwrap();
    assert_eq!((parsed.gate_id, parsed.key_id, parsed.operator), (7, gate.key_id, 3));
    assert_eq!(parsed.direction, Direction::Exit);
    let again = add_in(&mut tx, keys.as_ref(), &new(7), "anna", UnixMs(6)).await.err().unwrap();
    assert!(matches!(again, GatesError::InService(7)), "{again}");
    let directory = Directory::load(&mut tx).await.unwrap();
    assert_eq!(directory.by_id(7), Some(&gate));
    assert_eq!(directory.by_key(gate.key_id), Some(&gate));
    assert_eq!(directory.by_id(8), None);
}

#[tokio::test]
async fn a_retired_gate_s_taps_are_known_and_its_next_generation_has_other_keys() {
    let store = scratch().await;
    let keys = clearing();
    let mut tx = store.begin().await.unwrap();
    let (old, first) = add_in(&mut tx, keys.as_ref(), &new(7), "anna", UnixMs(5)).await.unwrap();
    retire_in(&mut tx, 7, "anna", UnixMs(9)).await.unwrap();
    let directory = Directory::load(&mut tx).await.unwrap();
    assert_eq!(directory.by_id(7), None);
    assert_eq!(directory.by_key(old.key_id).unwrap().retired, Some(UnixMs(9)));
    assert!(matches!(retire_in(&mut tx, 7, "anna", UnixMs(9)).await, Err(GatesError::Unknown(7))));
    let (new, second) = add_in(&mut tx, keys.as_ref(), &new(7), "anna", UnixMs(10)).await.unwrap();
    assert_eq!(new.generation, 2);
    let (first, second) = (Provisioning::parse(&first).unwrap(), Provisioning::parse(&second).unwrap());
    assert_ne!(first.key_id, second.key_id);
    assert_ne!(first.initial_key, second.initial_key);
    assert_ne!(first.link_key, second.link_key);
    let directory = Directory::load(&mut tx).await.unwrap();
    assert_eq!(directory.by_id(7).unwrap().generation, 2);
    assert_eq!(directory.in_service().count(), 1);
    let audit: Vec<String> = query("SELECT action FROM audit_log WHERE \"user\" = 'anna' ORDER BY id")
        .column(&mut *tx)
        .await
        .unwrap();
    assert_eq!(audit, ["gate.add", "gate.retire", "gate.add"]);
}

#[tokio::test]
async fn a_gate_that_cannot_be_provisioned_is_not_entered() {
    let store = scratch().await;
    let keys = clearing();
    let mut tx = store.begin().await.unwrap();
    let nowhere = NewGate { station: String::new(), ..new(7) };
    let refused = add_in(&mut tx, keys.as_ref(), &nowhere, "anna", UnixMs(5)).await.err().unwrap();
    assert!(matches!(refused, GatesError::Provisioning(_)));
    assert!(matches!(
        add_in(&mut tx, keys.as_ref(), &new(0), "anna", UnixMs(5)).await,
        Err(GatesError::Zero)
    ));
    assert!(all_in(&mut tx).await.unwrap().is_empty());
}

#[test]
fn key_ids_of_gates_and_generations_never_meet() {
    let mut seen = std::collections::HashSet::new();
    for gate_id in [1, 2, 255, 256, 65_536, u32::MAX] {
        for generation in [1, 2, 256, 65_535] {
            assert!(seen.insert(key_id(gate_id, generation)));
        }
    }
}
