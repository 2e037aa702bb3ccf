use super::denied::{Denied, salt};
use super::deny::{Addition, Cause, add_in, causes_in, list_in, remove_in};
use super::*;
use crate::keys::{KeyOptions, KeySet, OwnedCaKey, TokenKey};
use crate::store::db::{Conn, query};
use crate::store::testing::scratch;
use crate::tokens::{Registration, register_in};
use rand::SeedableRng;
use wavepass_protocol::deny::{DenyList, Shape};
use wavepass_protocol::ecc::{P256Verifier, PublicKey};
use wavepass_protocol::lists::{GateConfig, HEAD, Revocation, SignedList, Suite};
use wavepass_protocol::token::{Expiry, Token};

const NOW: UnixMs = UnixMs(1_795_478_400_000);
const HOUR: u64 = 3_600_000;

fn keys(seed: u64) -> KeySet {
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(seed);
    KeySet::generate(&mut rng, &KeyOptions::house(2045)).unwrap()
}

fn token(digits: &str) -> Token {
    Token::from_digits(digits).unwrap()
}

fn expiry(year: u8) -> Expiry {
    Expiry::new(year, 5).unwrap()
}

fn deny(keys: &dyn ClearingKeys, digits: &str, year: u8, cause: Cause) -> Addition {
    let (token, expiry) = (token(digits), expiry(year));
    Addition {
        token_key: keys.token_key(&token, expiry),
        number: Some((token, expiry)),
        cause,
        note: "day 20415".to_owned(),
    }
}

async fn registered(conn: &mut Conn, keys: &dyn ClearingKeys, digits: &str, now: UnixMs) -> TokenKey {
    let card = Registration {
        token: token(digits),
        expiry: expiry(30),
        psn: 0,
        account_id: "anna".to_owned(),
        category: "adult".to_owned(),
    };
    register_in(conn, keys, &[card], "op", now).await.unwrap()[0]
}

fn verified<'a>(bytes: &'a [u8], root: &[u8; 32]) -> Result<SignedList<'a>, ListError> {
    SignedList::verify(bytes, &PublicKey::from_x(*root), &mut P256Verifier)
}

#[tokio::test]
async fn every_list_is_published_once_and_a_gate_verifies_it_under_the_root() {
    let store = scratch().await;
    let set = keys(1);
    let clearing = set.clearing();
    let mut tx = store.begin().await.unwrap();
    set_ca_keys_in(&mut tx, &set.bank().ca_keys()).await.unwrap();
    let revocation = Revocation { rid: [0xF0, 0x57, 0x41, 0x56, 0x45], index: 1, serial: [1, 2, 3] };
    assert!(revoke_in(&mut tx, &revocation, "anna", "", NOW).await.unwrap());
    assert!(!revoke_in(&mut tx, &revocation, "ben", "again", NOW).await.unwrap());
    add_in(
        &mut tx,
        clearing.as_ref(),
        &[deny(clearing.as_ref(), "6222021234567890", 28, Cause::Debt)],
        "anna",
        NOW,
    )
    .await
    .unwrap();
    let first = Version { epoch: 1, version: 1 };
    let issued = publish(&mut tx, clearing.as_ref(), NOW).await.unwrap();
    assert_eq!(issued, Kind::ALL.map(|kind| (kind, first)));
    assert!(publish(&mut tx, clearing.as_ref(), NOW).await.unwrap().is_empty());

    let published = Published::load(&mut tx).await.unwrap();
    for kind in Kind::ALL {
        let (version, bytes) = published.current(kind).unwrap();
        let list = verified(&bytes, &clearing.root_key()).unwrap();
        assert_eq!((list.header.kind, list.header.version, list.header.issued), (kind, version, NOW));
        match kind {
            Kind::Deny => assert_eq!(DenyList::parse(list.content).unwrap().shape().entries(), 1),
            Kind::CaKeys => {
                assert_eq!(format::check_ca_keys(list.content), Ok(1));
                let key = format::ca_keys(list.content).next().unwrap().unwrap();
                assert_eq!(key, set.bank().ca_keys()[0].as_ca_key());
            }
            Kind::Revocations => {
                let all: Vec<_> = format::revocations(list.content).collect();
                assert_eq!(all, [Ok(revocation)]);
            }
            Kind::Config => assert_eq!(GateConfig::parse(list.content).unwrap(), default_config()),
        }
        // Another root, and each part of the list changed by one bit.
        assert_eq!(verified(&bytes, &keys(2).clearing().root_key()).err(), Some(ListError::ListKey));
        for at in [8, 20, 40, 90, PREFIX, bytes.len() - 1] {
            let mut forged = bytes.to_vec();
            forged[at] ^= 1;
            assert!(verified(&forged, &clearing.root_key()).is_err(), "{kind:?} byte {at}");
        }
    }
}

#[tokio::test]
async fn only_a_changed_list_gets_a_new_version_and_the_older_is_behind_it() {
    let store = scratch().await;
    let clearing = keys(1).clearing();
    let mut tx = store.begin().await.unwrap();
    publish(&mut tx, clearing.as_ref(), NOW).await.unwrap();
    let published = Published::load(&mut tx).await.unwrap();
    let (old, old_bytes) = published.current(Kind::Deny).unwrap();
    assert!(!published.denies(&token("6222021234567890"), None));

    let debt = deny(clearing.as_ref(), "6222021234567890", 28, Cause::Debt);
    add_in(&mut tx, clearing.as_ref(), std::slice::from_ref(&debt), "anna", NOW).await.unwrap();
    let issued = publish(&mut tx, clearing.as_ref(), NOW).await.unwrap();
    assert_eq!(issued, [(Kind::Deny, Version { epoch: 1, version: 2 })]);
    assert_eq!(published.refresh(&mut tx).await.unwrap(), [Kind::Deny]);
    assert!(published.refresh(&mut tx).await.unwrap().is_empty());
    let (new, _) = published.current(Kind::Deny).unwrap();
    assert!(new > old && format::peek(&old_bytes).unwrap().version == old);
    // By number and expiry; by number alone where the card does not sign its expiry.
    assert!(published.denies(&token("6222021234567890"), Some(expiry(28))));
    assert!(!published.denies(&token("6222021234567890"), Some(expiry(31))));
    assert!(published.denies(&token("6222021234567890"), None));
    assert_eq!(published.denied(), 1);

    // A second cause changes nothing at the gates; lifting one of two neither.
    let clone = Addition { cause: Cause::Clone, ..debt.clone() };
    add_in(&mut tx, clearing.as_ref(), &[clone], "risk", NOW).await.unwrap();
    assert!(publish(&mut tx, clearing.as_ref(), NOW).await.unwrap().is_empty());
    remove_in(&mut tx, &[(debt.token_key, Cause::Debt)], "bank", "paid", NOW).await.unwrap();
    assert!(publish(&mut tx, clearing.as_ref(), NOW).await.unwrap().is_empty());
    remove_in(&mut tx, &[(debt.token_key, Cause::Clone)], "anna", "checked", NOW).await.unwrap();
    assert_eq!(publish(&mut tx, clearing.as_ref(), NOW).await.unwrap().len(), 1);
    published.refresh(&mut tx).await.unwrap();
    assert!(!published.denies(&token("6222021234567890"), None));
}

#[tokio::test]
async fn the_same_tables_give_the_same_bytes_in_whatever_order_they_were_filled() {
    let clearing = keys(1).clearing();
    let numbers = ["6222021234567890", "6222021234567891", "6222021234567892"];
    let mut lists = Vec::new();
    for order in [[0, 1, 2], [2, 0, 1]] {
        let store = scratch().await;
        let mut tx = store.begin().await.unwrap();
        for i in order {
            let addition = deny(clearing.as_ref(), numbers[i], 28, Cause::Manual);
            add_in(&mut tx, clearing.as_ref(), &[addition], "anna", NOW).await.unwrap();
        }
        publish(&mut tx, clearing.as_ref(), NOW).await.unwrap();
        lists.push(Published::load(&mut tx).await.unwrap().current(Kind::Deny).unwrap().1);
    }
    assert_eq!(lists[0], lists[1]);
}

#[tokio::test]
async fn an_unchanged_deny_list_is_issued_again_before_gates_call_it_stale() {
    let store = scratch().await;
    let clearing = keys(1).clearing();
    let mut tx = store.begin().await.unwrap();
    set_config_in(&mut tx, &GateConfig { list_max_age_ms: 10 * HOUR, ..default_config() }).await.unwrap();
    publish(&mut tx, clearing.as_ref(), NOW).await.unwrap();
    let later = UnixMs(NOW.0 + 5 * HOUR - 1);
    assert!(publish(&mut tx, clearing.as_ref(), later).await.unwrap().is_empty());
    let issued = publish(&mut tx, clearing.as_ref(), UnixMs(NOW.0 + 5 * HOUR)).await.unwrap();
    assert_eq!(issued, [(Kind::Deny, Version { epoch: 1, version: 2 })]);
    set_config_in(&mut tx, &GateConfig { list_max_age_ms: 0, ..default_config() }).await.unwrap();
    let issued = publish(&mut tx, clearing.as_ref(), UnixMs(NOW.0 + 1_000 * HOUR)).await.unwrap();
    assert_eq!(issued, [(Kind::Config, Version { epoch: 1, version: 2 })]);
}

#[tokio::test]
async fn a_restored_host_begins_a_new_epoch_that_every_gate_takes() {
    let store = scratch().await;
    let clearing = keys(1).clearing();
    let mut tx = store.begin().await.unwrap();
    publish(&mut tx, clearing.as_ref(), NOW).await.unwrap();
    assert_eq!(begin_epoch_in(&mut tx, "anna", NOW).await.unwrap(), 2);
    let issued = publish(&mut tx, clearing.as_ref(), NOW).await.unwrap();
    assert_eq!(issued, Kind::ALL.map(|kind| (kind, Version { epoch: 2, version: 1 })));
    assert!(publish(&mut tx, clearing.as_ref(), NOW).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_few_issues_of_each_list_are_kept() {
    let store = scratch().await;
    let clearing = keys(1).clearing();
    let mut tx = store.begin().await.unwrap();
    for amount_fen in 1..=20 {
        set_config_in(&mut tx, &GateConfig { amount_fen, ..default_config() }).await.unwrap();
        publish(&mut tx, clearing.as_ref(), NOW).await.unwrap();
    }
    let kept: Vec<u32> =
        query("SELECT version FROM lists WHERE kind = 4 ORDER BY version").column(&mut *tx).await.unwrap();
    assert_eq!(kept, (13..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_gates_would_refuse_is_not_entered() {
    let store = scratch().await;
    let set = keys(1);
    let mut tx = store.begin().await.unwrap();
    let mut key = set.bank().ca_keys().remove(0);
    key.check_value[0] ^= 1;
    let refused = set_ca_keys_in(&mut tx, &[set.bank().ca_keys().remove(0), key]).await.err().unwrap();
    assert!(matches!(refused, ListsError::Format(ListError::CheckValue)));
    assert!(ca_keys_in(&mut tx).await.unwrap().is_empty());
    let config = GateConfig { utc_offset_min: 900, ..default_config() };
    assert!(matches!(set_config_in(&mut tx, &config).await, Err(ListsError::Format(ListError::Content))));
    assert_eq!(config_in(&mut tx).await.unwrap(), default_config());
    // By the kernel's check, which is part of a gate's.
    let mut config = default_config();
    config.applications[1].ttq = [0; 4];
    assert!(matches!(set_config_in(&mut tx, &config).await, Err(ListsError::Config(_))));
    assert_eq!(config_in(&mut tx).await.unwrap(), default_config());
}

fn scheme_key(index: u8) -> OwnedCaKey {
    let last = wavepass_protocol::time::Date::new(2040, 12, 31).unwrap();
    OwnedCaKey::new([0xA0, 0, 0, 3, 0x33], index, Suite::Rsa, last, &[0xC7; 248], &[3])
}

#[tokio::test]
async fn as_many_revocations_and_ca_keys_as_a_gate_holds_are_entered_and_no_more() {
    let store = scratch().await;
    let set = keys(1);
    let mut tx = store.begin().await.unwrap();
    let revocation = |n| Revocation { rid: [0xA0, 0, 0, 3, 0x33], index: 8, serial: [0, 0, n] };
    for n in 0..64 {
        assert!(revoke_in(&mut tx, &revocation(n), "anna", "lost", NOW).await.unwrap());
    }
    tx.commit().await.unwrap();
    let mut tx = store.begin().await.unwrap();
    let refused = revoke_in(&mut tx, &revocation(64), "anna", "", NOW).await.unwrap_err();
    assert_eq!(refused.to_string(), "a gate holds at most 64 revocations");
    drop(tx);

    let mut tx = store.begin().await.unwrap();
    adopt_ca_keys_in(&mut tx, &set.bank().ca_keys()).await.unwrap();
    let fitting: Vec<_> = (0..13).map(scheme_key).collect();
    assert_eq!(add_ca_keys_in(&mut tx, &fitting, "anna", NOW).await.unwrap(), fitting);
    assert!(add_ca_keys_in(&mut tx, &fitting, "anna", NOW).await.unwrap().is_empty());
    tx.commit().await.unwrap();
    let mut tx = store.begin().await.unwrap();
    let refused = add_ca_keys_in(&mut tx, &[scheme_key(13)], "anna", NOW).await.unwrap_err();
    assert!(matches!(refused, ListsError::Room { most: 3876, .. }), "{refused}");
    drop(tx);

    // What was refused is not there, and what is there is published.
    let mut tx = store.begin().await.unwrap();
    assert_eq!(revocations_in(&mut tx).await.unwrap().len(), 64);
    assert_eq!(ca_keys_in(&mut tx).await.unwrap().len(), 14);
    let issued = publish(&mut tx, set.clearing().as_ref(), NOW).await.unwrap();
    assert_eq!(issued.len(), 4);
    let audit: i64 = query(
        "SELECT count(*) FROM audit_log WHERE \"user\" = 'anna' AND action IN ('revocation.add', 'ca_key.add')",
    )
    .scalar(&mut *tx)
    .await
    .unwrap();
    assert_eq!(audit, 64 + 13);
}

#[tokio::test]
async fn the_deny_table_knows_causes_names_and_pages() {
    let store = scratch().await;
    let clearing = keys(1).clearing();
    let mut tx = store.begin().await.unwrap();
    let key = registered(&mut tx, clearing.as_ref(), "6222021234567899", NOW).await;
    let known = |cause| Addition { token_key: key, number: None, cause, note: String::new() };
    let additions = [
        known(Cause::Lost),
        known(Cause::Debt),
        deny(clearing.as_ref(), "6222021234567890", 28, Cause::Debt),
        deny(clearing.as_ref(), "6222021234567891", 28, Cause::Debt),
    ];
    assert_eq!(add_in(&mut tx, clearing.as_ref(), &additions, "anna", NOW).await.unwrap(), 4);
    assert_eq!(add_in(&mut tx, clearing.as_ref(), &additions, "ben", UnixMs(0)).await.unwrap(), 0);
    let causes = causes_in(&mut tx, &key).await.unwrap();
    assert_eq!(causes.iter().map(|row| row.cause).collect::<Vec<_>>(), [Cause::Debt, Cause::Lost]);
    assert_eq!((causes[0].by.as_str(), causes[0].since, causes[0].last_four.as_str()), ("anna", NOW, "7899"));
    assert_eq!(deny::count_in(&mut tx).await.unwrap(), 3);
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = list_in(&mut tx, after, 1).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.token_key);
        seen.extend(page.iter().map(|row| row.token_key));
    }
    assert!(seen.is_sorted() && seen.len() == 4);
    let audit: i64 = query("SELECT count(*) FROM audit_log WHERE \"user\" = 'anna' AND action = 'deny.add'")
        .scalar(&mut *tx)
        .await
        .unwrap();
    assert_eq!(audit, 4);
    let unknown = Addition { token_key: TokenKey([7; 16]), ..known(Cause::Manual) };
    assert!(matches!(
        add_in(&mut tx, clearing.as_ref(), &[unknown], "anna", NOW).await,
        Err(deny::DenyError::Unknown(_))
    ));
    let mixed = Addition { token_key: key, ..deny(clearing.as_ref(), "6222021234567890", 28, Cause::Manual) };
    assert!(matches!(
        add_in(&mut tx, clearing.as_ref(), &[mixed], "anna", NOW).await,
        Err(deny::DenyError::OtherToken(_))
    ));
}

// Found by trying the numbers from 6222030000000000 on: the first that version 1's salt takes for the denied one.
const UNLUCKY: &str = "6222030003138574";

#[tokio::test]
async fn a_good_token_that_a_list_hits_by_chance_moves_the_list_to_another_salt() {
    let store = scratch().await;
    let clearing = keys(1).clearing();
    let mut tx = store.begin().await.unwrap();
    let debt = deny(clearing.as_ref(), "6222021234567890", 30, Cause::Debt);
    add_in(&mut tx, clearing.as_ref(), &[debt], "anna", NOW).await.unwrap();
    let denied = Denied::load(&mut tx, clearing.as_ref()).await.unwrap();
    let good = token(UNLUCKY);
    let key = clearing.token_key(&good, expiry(30));
    let content = |attempt| {
        let salt = salt(Version { epoch: 1, version: 1 }, attempt);
        denied.content(&salt, Shape::best_bits(1)).unwrap()
    };
    let (first, second) = (content(0), content(1));
    let (first, second) = (DenyList::parse(&first).unwrap(), DenyList::parse(&second).unwrap());
    assert!(denied.hits(&first, &key, &good, expiry(30)) && !denied.hits(&second, &key, &good, expiry(30)));
    // The renewed card of a denied one is good, though its number is listed under the old expiry.
    let renewed = token("6222021234567890");
    let renewed_key = clearing.token_key(&renewed, expiry(33));
    assert!(!denied.hits(&first, &renewed_key, &renewed, expiry(33)));

    // The list is in force; then the good token is registered.
    publish(&mut tx, clearing.as_ref(), NOW).await.unwrap();
    let published = Published::load(&mut tx).await.unwrap();
    assert!(published.denies(&good, Some(expiry(30))), "the list takes it for the denied one");
    registered(&mut tx, clearing.as_ref(), UNLUCKY, NOW).await;
    let issued = publish(&mut tx, clearing.as_ref(), NOW).await.unwrap();
    assert_eq!(issued, [(Kind::Deny, Version { epoch: 1, version: 2 })]);
    published.refresh(&mut tx).await.unwrap();
    assert!(!published.denies(&good, None));
    assert!(published.denies(&token("6222021234567890"), Some(expiry(30))));
    let sent = published.to_send(Kind::Deny, Version { epoch: 1, version: 1 }, true).unwrap();
    assert!(!sent.is_delta, "another salt changes every entry");

    // A host that knows the good token from the beginning passes the salt over.
    let other = scratch().await;
    let mut tx = other.begin().await.unwrap();
    registered(&mut tx, clearing.as_ref(), UNLUCKY, NOW).await;
    let debt = deny(clearing.as_ref(), "6222021234567890", 30, Cause::Debt);
    add_in(&mut tx, clearing.as_ref(), &[debt], "anna", NOW).await.unwrap();
    publish(&mut tx, clearing.as_ref(), NOW).await.unwrap();
    let (_, bytes) = Published::load(&mut tx).await.unwrap().current(Kind::Deny).unwrap();
    assert_eq!(&bytes[PREFIX..], second_content(&denied));
}

fn second_content(denied: &Denied) -> Vec<u8> {
    denied.content(&salt(Version { epoch: 1, version: 1 }, 1), Shape::best_bits(1)).unwrap()
}

#[tokio::test]
async fn a_list_of_many_is_small_and_changes_by_deltas_that_add_up() {
    let many: u64 = if std::env::var_os("WAVEPASS_LONG").is_some() { 100_000 } else { 3_000 };
    let store = scratch().await;
    let clearing = keys(1).clearing();
    let mut tx = store.begin().await.unwrap();
    let denied = |n: u64| deny(clearing.as_ref(), &format!("62220300{n:08}"), 28, Cause::Debt);
    let additions: Vec<_> = (0..many).map(denied).collect();
    add_in(&mut tx, clearing.as_ref(), &additions, "anna", NOW).await.unwrap();
    let began = std::time::Instant::now();
    publish(&mut tx, clearing.as_ref(), NOW).await.unwrap();
    println!("{many} entries published in {:?}", began.elapsed());
    let published = Published::load(&mut tx).await.unwrap();
    let first = published.current(Kind::Deny).unwrap();
    assert!(first.1.len() - PREFIX <= 5 * many as usize, "{} bytes", first.1.len());
    // Fifty leave and fifty come at a time.
    for step in 0..3 {
        let gone: Vec<_> = (0..50).map(|n| (denied(step * 50 + n).token_key, Cause::Debt)).collect();
        remove_in(&mut tx, &gone, "bank", "paid", NOW).await.unwrap();
        let come: Vec<_> = (0..50).map(|n| denied(many + step * 50 + n)).collect();
        add_in(&mut tx, clearing.as_ref(), &come, "anna", NOW).await.unwrap();
        let began = std::time::Instant::now();
        publish(&mut tx, clearing.as_ref(), NOW).await.unwrap();
        println!("changed in {:?}", began.elapsed());
    }
    published.refresh(&mut tx).await.unwrap();
    let (newest, whole) = published.current(Kind::Deny).unwrap();
    assert_eq!(newest.version, 4);
    for (at_gate, changes) in [(1, 300), (2, 200), (3, 100)] {
        let version = Version { epoch: 1, version: at_gate };
        let sent = published.to_send(Kind::Deny, version, true).unwrap();
        assert!(sent.is_delta);
        assert_eq!(sent.bytes[..HEAD], whole[..HEAD]);
        let delta = wavepass_protocol::deny::Delta::parse(&sent.bytes[PREFIX..]).unwrap();
        assert_eq!(delta.changes().count(), changes);
    }
    for n in [0, 149, 150, many, many + 149, many + 150] {
        let listed = (150..many + 150).contains(&n);
        assert_eq!(published.denies(&token(&format!("62220300{n:08}")), Some(expiry(28))), listed, "{n}");
    }
}

#[tokio::test]
async fn a_list_issued_again_for_its_age_travels_as_an_empty_delta() {
    let store = scratch().await;
    let clearing = keys(1).clearing();
    let mut tx = store.begin().await.unwrap();
    let debt = deny(clearing.as_ref(), "6222021234567890", 28, Cause::Debt);
    add_in(&mut tx, clearing.as_ref(), &[debt], "anna", NOW).await.unwrap();
    publish(&mut tx, clearing.as_ref(), NOW).await.unwrap();
    publish(&mut tx, clearing.as_ref(), UnixMs(NOW.0 + 40 * HOUR)).await.unwrap();
    let published = Published::load(&mut tx).await.unwrap();
    let sent = published.to_send(Kind::Deny, Version { epoch: 1, version: 1 }, true).unwrap();
    assert_eq!((sent.version.version, sent.bytes.len()), (2, PREFIX + 8));
    // A restored host begins an epoch, which no delta crosses.
    begin_epoch_in(&mut tx, "anna", NOW).await.unwrap();
    publish(&mut tx, clearing.as_ref(), NOW).await.unwrap();
    published.refresh(&mut tx).await.unwrap();
    assert!(!published.to_send(Kind::Deny, Version { epoch: 1, version: 2 }, true).unwrap().is_delta);
}

#[test]
fn each_version_and_attempt_has_a_salt_of_its_own() {
    let mut seen = std::collections::HashSet::new();
    for epoch in 1..3 {
        for version in 1..50 {
            for attempt in 0..4 {
                assert!(seen.insert(salt(Version { epoch, version }, attempt)));
            }
        }
    }
}
