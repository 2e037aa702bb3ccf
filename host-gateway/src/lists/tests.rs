use super::deny::{Addition, Cause, add_in, causes_in, list_in, remove_in};
use super::*;
use crate::keys::{KeyOptions, KeySet};
use crate::store::testing::scratch;
use crate::tokens::{Registration, register_in};
use rand::SeedableRng;
use wavepass_protocol::ecc::{P256Verifier, PublicKey};
use wavepass_protocol::lists::{GateConfig, Revocation, SignedList};

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

async fn registered(
    conn: &mut SqliteConnection,
    keys: &dyn ClearingKeys,
    digits: &str,
    now: UnixMs,
) -> TokenKey {
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
    revoke_in(&mut tx, &[revocation, revocation]).await.unwrap();
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
            Kind::Deny => assert_eq!(DenyList::parse(list.content).unwrap().len(), 1),
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
    let kept: Vec<u32> = sqlx::query_scalar("SELECT version FROM lists WHERE kind = 4 ORDER BY version")
        .fetch_all(&mut *tx)
        .await
        .unwrap();
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
    let audit: i64 =
        sqlx::query_scalar("SELECT count(*) FROM audit_log WHERE user = 'anna' AND action = 'deny.add'")
            .fetch_one(&mut *tx)
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

// A chance hit takes 2^48 tries, so the list is one that was made to hit.
#[tokio::test]
async fn a_good_token_that_a_list_hits_by_chance_moves_the_list_to_another_salt() {
    let store = scratch().await;
    let clearing = keys(1).clearing();
    let mut tx = store.begin().await.unwrap();
    add_in(
        &mut tx,
        clearing.as_ref(),
        &[deny(clearing.as_ref(), "6222021234567890", 28, Cause::Debt)],
        "anna",
        NOW,
    )
    .await
    .unwrap();
    let denied = Denied::load(&mut tx, clearing.as_ref()).await.unwrap();
    let good = token("6222021234567899");
    let key = clearing.token_key(&good, expiry(30));
    let salt = salt(Version { epoch: 1, version: 1 }, 0);
    let mut unlucky = salt.to_vec();
    unlucky.extend(deny_entry(&salt, &good, expiry(29)));
    let unlucky_list = DenyList::parse(&unlucky).unwrap();
    assert!(denied.hits(&unlucky_list, &key, &good, expiry(30)));
    let honest = denied.content(&salt);
    assert!(!denied.hits(&DenyList::parse(&honest).unwrap(), &key, &good, expiry(30)));
    // The renewed card of a denied one is good, though its number is listed under the old expiry.
    let renewed = token("6222021234567890");
    let renewed_key = clearing.token_key(&renewed, expiry(33));
    assert!(!denied.hits(&DenyList::parse(&honest).unwrap(), &renewed_key, &renewed, expiry(33)));

    // In force is such a list; then the good token is registered.
    publish(&mut tx, clearing.as_ref(), NOW).await.unwrap();
    let source: Vec<u8> =
        sqlx::query_scalar("SELECT source FROM lists WHERE kind = 1").fetch_one(&mut *tx).await.unwrap();
    let header = Header { kind: Kind::Deny, version: Version { epoch: 1, version: 2 }, base: 0, issued: NOW };
    issue(&mut tx, clearing.as_ref(), &header, &unlucky, &source).await.unwrap();
    assert!(publish(&mut tx, clearing.as_ref(), NOW).await.unwrap().is_empty());
    registered(&mut tx, clearing.as_ref(), "6222021234567899", NOW).await;
    let issued = publish(&mut tx, clearing.as_ref(), NOW).await.unwrap();
    assert_eq!(issued, [(Kind::Deny, Version { epoch: 1, version: 3 })]);
    let published = Published::load(&mut tx).await.unwrap();
    assert!(!published.denies(&good, None));
    assert!(published.denies(&token("6222021234567890"), Some(expiry(28))));
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
