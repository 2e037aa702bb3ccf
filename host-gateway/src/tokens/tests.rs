use super::*;
use crate::keys::{BankKeys, CardOrder, CryptogramCheck, CryptogramResult, KeyOptions, KeySet};
use crate::lists::deny::causes_in;
use crate::store::db::{Conn, query};
use crate::store::testing::scratch;
use crate::testing::House;
use rand::SeedableRng;
use std::collections::HashSet;
use wavepass_hce::issue::{HOUSE_AID, RSA_DEBIT_AID, RsaCardKey};
use wavepass_hce::phone::{Phone, PhoneFile};
use wavepass_hce::reader::{Reading, Values, read};
use wavepass_hce::state::Counters;
use wavepass_protocol::ecc::{
    CardCertificate, IssuerCertificate, P256Verifier, PublicKey, StaticHash, verify_dynamic,
};
use wavepass_protocol::rsa::{BUFFER, Exponent, Fdda, IccCert, IssuerCert, RsaKey, Sdad};
use wavepass_protocol::time::Date;
use wavepass_protocol::tlv::Tag;
use wavepass_protocol::{tags, tlv};

fn keys() -> KeySet {
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
    KeySet::generate(&mut rng, &KeyOptions::house(2045)).unwrap()
}

fn request(account: &str) -> IssueRequest {
    IssueRequest {
        account_id: account.to_owned(),
        category: "adult".to_owned(),
        effective: Date { year: 2026, month: 11, day: 1 },
        expiry: Expiry::new(31, 11).unwrap(),
        network: *b"WAVE",
        operator: 0,
    }
}

fn card(digits: &str) -> Registration {
    Registration {
        token: Token::from_digits(digits).unwrap(),
        expiry: Expiry::new(29, 1).unwrap(),
        psn: 1,
        account_id: "anna".to_owned(),
        category: "adult".to_owned(),
    }
}

#[tokio::test]
async fn an_account_s_tokens_are_ranked_and_found_by_their_keys() {
    let store = scratch().await;
    let keys = keys();
    let (clearing, bank) = (keys.clearing(), keys.bank());
    let mut tx = store.begin().await.unwrap();
    let requests = [request("anna"), request("ben"), request("anna")];
    let issued =
        issue_many_in(&mut tx, clearing.as_ref(), bank.as_ref(), &requests, "op", UnixMs(5)).await.unwrap();
    let more = issue_many_in(&mut tx, clearing.as_ref(), bank.as_ref(), &requests[..1], "op", UnixMs(6))
        .await
        .unwrap();
    let anna = of_account_in(&mut tx, "anna").await.unwrap();
    let ranks: Vec<_> = anna.iter().map(|row| (row.rank, row.token_key)).collect();
    assert_eq!(ranks, [(0, issued[0].token_key), (1, issued[2].token_key), (2, more[0].token_key)]);
    let unknown = TokenKey([0; 16]);
    let found = find_in(&mut tx, &[unknown, issued[1].token_key]).await.unwrap();
    assert!(found[0].is_none());
    let ben = found[1].as_ref().unwrap();
    assert_eq!((ben.account_id.as_str(), ben.state, ben.carrier), ("ben", State::Active, Carrier::Phone));
    assert_eq!(ben.last_four, issued[1].last_four);
    assert_eq!(page_in(&mut tx, None, 10).await.unwrap().len(), 4);
}

#[tokio::test]
async fn the_same_requests_on_the_same_registry_give_the_same_phones() {
    let keys = keys();
    let mut files = Vec::new();
    for _ in 0..2 {
        let store = scratch().await;
        let mut tx = store.begin().await.unwrap();
        let issued = issue_many_in(
            &mut tx,
            keys.clearing().as_ref(),
            keys.bank().as_ref(),
            &[request("anna"), request("ben")],
            "op",
            UnixMs(5),
        )
        .await
        .unwrap();
        files.push(issued.iter().map(|i| i.phone.to_json().to_string()).collect::<Vec<_>>());
    }
    assert_eq!(files[0], files[1]);
    assert_ne!(files[0][0], files[0][1]);
}

#[tokio::test]
async fn a_number_that_is_taken_gives_way_to_the_next() {
    let store = scratch().await;
    let keys = keys();
    let (clearing, bank) = (keys.clearing(), keys.bank());
    let mut tx = store.begin().await.unwrap();
    // A card that happens to have the number that anna's token would get.
    let number = bank.token_number("anna", 0, 0);
    let squatter = Registration {
        token: number,
        expiry: request("x").expiry,
        account_id: "ben".to_owned(),
        ..card("6222021234567890")
    };
    register_in(&mut tx, clearing.as_ref(), &[squatter], "op", UnixMs(1)).await.unwrap();
    let issued =
        issue_many_in(&mut tx, clearing.as_ref(), bank.as_ref(), &[request("anna")], "op", UnixMs(5))
            .await
            .unwrap();
    let next = clearing.token_key(&bank.token_number("anna", 0, 1), request("anna").expiry);
    assert_eq!(issued[0].token_key, next);
}

#[tokio::test]
async fn a_card_is_registered_once_and_nothing_is_half_done() {
    let store = scratch().await;
    let keys = keys();
    let clearing = keys.clearing();
    let mut tx = store.begin().await.unwrap();
    let first = card("6222021234567890");
    let registered =
        register_in(&mut tx, clearing.as_ref(), std::slice::from_ref(&first), "op", UnixMs(1)).await.unwrap();
    assert_eq!(registered, [clearing.token_key(&first.token, first.expiry)]);
    let both = [card("6222021234567891"), first];
    let refused = register_in(&mut tx, clearing.as_ref(), &both, "op", UnixMs(2)).await.err().unwrap();
    assert!(matches!(&refused, TokensError::Registered(four) if four == "7890"), "{refused}");
    let twice = [card("6222021234567891"), card("6222021234567891")];
    assert!(register_in(&mut tx, clearing.as_ref(), &twice, "op", UnixMs(2)).await.is_err());
    assert_eq!(page_in(&mut tx, None, 10).await.unwrap().len(), 1);
    let nobody = Registration { account_id: String::new(), ..card("6222021234567892") };
    assert!(matches!(
        register_in(&mut tx, clearing.as_ref(), &[nobody], "op", UnixMs(2)).await,
        Err(TokensError::Name(_))
    ));
}

#[tokio::test]
async fn a_suspended_token_is_denied_until_it_is_resumed_and_a_deleted_one_for_good() {
    let store = scratch().await;
    let keys = keys();
    let clearing = keys.clearing();
    let mut tx = store.begin().await.unwrap();
    let key = register_in(&mut tx, clearing.as_ref(), &[card("6222021234567890")], "op", UnixMs(1))
        .await
        .unwrap()[0];
    let set = async |tx: &mut Conn, state| {
        set_state_in(tx, keys.clearing().as_ref(), key, state, "anna", UnixMs(3)).await
    };
    let causes = async |tx: &mut Conn| {
        causes_in(tx, &key).await.unwrap().iter().map(|row| row.cause).collect::<Vec<_>>()
    };
    set(&mut tx, State::Suspended).await.unwrap();
    assert_eq!(causes(&mut tx).await, [Cause::Lost]);
    set(&mut tx, State::Active).await.unwrap();
    assert!(causes(&mut tx).await.is_empty());
    assert_eq!(set(&mut tx, State::Deleted).await.unwrap().state, State::Deleted);
    assert_eq!(causes(&mut tx).await, [Cause::Deleted]);
    assert!(matches!(set(&mut tx, State::Active).await, Err(TokensError::Deleted(_))));
    let nobody =
        set_state_in(&mut tx, clearing.as_ref(), TokenKey([0; 16]), State::Active, "anna", UnixMs(3)).await;
    assert!(matches!(nobody, Err(TokensError::Unknown(_))));
}

#[tokio::test]
async fn no_digit_of_a_number_beyond_the_last_four_is_stored_or_shown() {
    let store = scratch().await;
    let keys = keys();
    let mut tx = store.begin().await.unwrap();
    let card = card("6222021234567890");
    register_in(&mut tx, keys.clearing().as_ref(), std::slice::from_ref(&card), "op", UnixMs(1))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert!(!format!("{card:?}").contains("567890"));
    let twice = register_in(
        &mut store.begin().await.unwrap(),
        keys.clearing().as_ref(),
        std::slice::from_ref(&card),
        "op",
        UnixMs(1),
    )
    .await;
    let shown = twice.err().map(|e| format!("{e} {e:?}")).unwrap();
    assert!(!shown.contains("567890"), "{shown}");
    for file in std::fs::read_dir(store.dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for needle in [&b"567890"[..], card.token.bcd_short()] {
            assert!(!bytes.windows(needle.len()).any(|part| part == needle));
        }
    }
}

#[tokio::test]
async fn issues_that_meet_get_ranks_of_their_own() {
    let store = scratch().await;
    let keys = keys();
    let (clearing, bank) = (keys.clearing(), keys.bank());
    let requests: Vec<_> = (0..20).map(|_| request("anna")).collect();
    let issue = || issue_many(&store, clearing.as_ref(), bank.as_ref(), &requests, "op", UnixMs(5));
    let (a, b, c) = tokio::join!(issue(), issue(), issue());
    let all: HashSet<_> =
        [a, b, c].into_iter().flat_map(Result::unwrap).map(|issued| issued.token_key).collect();
    assert_eq!(all.len(), 60);
    let rows = of_account_in(&mut store.pool().acquire().await.unwrap(), "anna").await.unwrap();
    assert_eq!(rows.iter().map(|row| row.rank).collect::<Vec<_>>(), (0..60).collect::<Vec<_>>());
}

#[test]
fn expiries_and_numbers_agree() {
    let may = Expiry::new(28, 5).unwrap();
    assert_eq!(expiry_number(may), 2805);
    assert_eq!(expiry_of(2805).unwrap(), may);
    assert!(expiry_of(2813).is_err());
    assert!(expiry_of(65_535).is_err());
    assert_eq!(cli::parse_month("2028-05"), Ok(may));
    assert!(cli::parse_month("28-05").is_err());
    assert!(cli::parse_month("2028-13").is_err());
    assert!(cli::parse_month("20é-1").is_err());
}

const TODAY: Date = Date { year: 2026, month: 11, day: 23 };

fn value(reading: &Reading, tag: Tag) -> Vec<u8> {
    reading.value(tag).unwrap_or_default()
}

// What the bank says of the cryptogram that a phone gave.
fn cryptogram_of(reading: &Reading, bank: &dyn BankKeys) -> CryptogramResult {
    let get = |tag| value(reading, tag);
    let check = CryptogramCheck {
        aid: reading.aid.as_slice(),
        token: Token::from_bcd(&get(tags::PAN)).unwrap(),
        psn: get(tags::PSN)[0],
        atc: u16::from_be_bytes(get(tags::ATC).try_into().unwrap()),
        cryptogram: get(tags::CRYPTOGRAM).try_into().unwrap(),
        pdol_values: &reading.pdol_values,
        aip: get(tags::AIP).try_into().unwrap(),
        iad: &get(tags::IAD),
    };
    bank.verify_cryptograms(&[check])[0]
}

#[tokio::test]
async fn a_personalised_phone_proves_itself_to_a_gate_and_to_the_bank() {
    let store = scratch().await;
    let keys = keys();
    let (clearing, bank) = (keys.clearing(), keys.bank());
    let mut tx = store.begin().await.unwrap();
    let issued =
        issue_many_in(&mut tx, clearing.as_ref(), bank.as_ref(), &[request("anna")], "op", UnixMs(5))
            .await
            .unwrap();
    let mut phone = Phone::new(&issued[0].phone, Counters::memory(), [3; 32]).unwrap();
    let reading = read(&mut phone, &Values::gate(TODAY, [1, 2, 3, 4])).unwrap();
    assert_eq!(reading.aid.as_slice(), HOUSE_AID);

    let ca: [u8; 32] = bank.ca_keys()[0].key.as_slice().try_into().unwrap();
    let certificate = value(&reading, tags::ISSUER_CERTIFICATE);
    let issuer = IssuerCertificate::parse(&certificate).unwrap();
    issuer.verify(&mut P256Verifier, &PublicKey::from_x(ca)).unwrap();
    let token = Token::from_bcd(&value(&reading, tags::PAN)).unwrap();
    issuer.check_token(&token).unwrap();
    assert_eq!(clearing.token_key(&token, request("anna").expiry), issued[0].token_key);
    let certificate = value(&reading, tags::CARD_CERTIFICATE);
    let card = CardCertificate::parse(&certificate).unwrap();
    card.verify(&mut P256Verifier, &issuer.fields.key).unwrap();
    let mut hash = StaticHash::new();
    hash.record(&reading.static_records());
    let aip = tlv::find_tlv(&reading.options, tags::AIP).unwrap().unwrap().raw;
    card.check_static(&hash.finish(aip, &reading.aid.tlv(), &reading.pdol_tlv)).unwrap();
    let (before, signature, after) = tlv::split_around(&reading.options, tags::SDAD).unwrap();
    verify_dynamic(&mut P256Verifier, &card.fields.key, &reading.pdol_values, &[before, after], signature)
        .unwrap();

    assert_eq!(value(&reading, tags::EXPIRY_DATE), [0x31, 0x11, 0x30]);
    assert_eq!(value(&reading, tags::EFFECTIVE_DATE), [0x26, 0x11, 0x01]);
    assert_eq!(value(&reading, tags::DOMAIN), b"\x01\x01WAVE\x00\x00");
    assert_eq!(cryptogram_of(&reading, bank.as_ref()), CryptogramResult::Valid);
    let other =
        KeySet::generate(&mut rand_chacha::ChaCha20Rng::seed_from_u64(2), &KeyOptions::house(2045)).unwrap();
    assert_eq!(cryptogram_of(&reading, other.bank().as_ref()), CryptogramResult::Invalid);
}

#[test]
fn a_test_card_proves_itself_under_the_bank_s_rsa_authority() {
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(3);
    let keys = KeySet::generate(&mut rng, &KeyOptions::house(2045).with_rsa()).unwrap();
    // The authority survives its file.
    let dir = tempfile::tempdir().unwrap();
    let passphrase = crate::keys::Passphrase::new("a good passphrase");
    keys.write(dir.path(), &passphrase, crate::keys::Cost::Test, &mut rng).unwrap();
    let bank = crate::keys::open_bank(&crate::keys::Role::Bank.path(dir.path()), &passphrase).unwrap();
    assert_eq!(bank.ca_keys(), keys.bank().ca_keys());

    let key = RsaCardKey::generate(&mut rng, 1152).unwrap();
    let token = Token::from_digits("6299000212345678").unwrap();
    let expiry = Expiry::new(29, 1).unwrap();
    let order = CardOrder { token, expiry, effective: TODAY, psn: 1, aid: RSA_DEBIT_AID, key: &key };
    let file = bank.issue_card(&order).unwrap().unwrap();
    let mut card = Phone::new(&file, Counters::memory(), [3; 32]).unwrap();
    let reading = read(&mut card, &Values { amount_fen: 100, ..Values::gate(TODAY, [1, 2, 3, 4]) }).unwrap();

    let get = |tag| value(&reading, tag);
    let ca = &bank.ca_keys()[1];
    assert!(ca.as_ca_key().check_value_matches());
    let exponent = if ca.exponent == [3] { Exponent::Three } else { Exponent::F4 };
    let ca_key = RsaKey::new(&ca.key, exponent).unwrap();
    let (mut a, mut b, mut c) = ([0; BUFFER], [0; BUFFER], [0; BUFFER]);
    let issuer = IssuerCert::recover(
        &ca_key,
        &get(tags::ISSUER_CERTIFICATE),
        &get(tags::ISSUER_REMAINDER),
        &get(tags::ISSUER_EXPONENT),
        &mut a,
    )
    .unwrap();
    issuer.check_token(&token).unwrap();
    let records = reading.static_records();
    let icc = IccCert::recover(
        &issuer.key,
        &get(tags::CARD_CERTIFICATE),
        &get(tags::CARD_REMAINDER),
        &get(tags::CARD_EXPONENT),
        &[&records, &get(tags::AIP)],
        &mut b,
    )
    .unwrap();
    assert_eq!((icc.pan, icc.expiry), (token, expiry));
    let fdda = Fdda {
        unpredictable: &[1, 2, 3, 4],
        amount: &[0, 0, 0, 0, 1, 0],
        currency: &[0x01, 0x56],
        card_data: &get(tags::CARD_AUTHENTICATION_DATA),
        atc: u16::from_be_bytes(get(tags::ATC).try_into().unwrap()),
    };
    Sdad::verify_fdda(&icc.key, &get(tags::SDAD), &fdda, &[0x05, 0x95], &mut c).unwrap();
    assert_eq!(cryptogram_of(&reading, bank.as_ref()), CryptogramResult::Valid);
    // A bank without such an authority issues none, and carries its cryptograms through.
    let plain = self::keys();
    assert!(plain.bank().issue_card(&order).is_none());
    assert_eq!(cryptogram_of(&reading, plain.bank().as_ref()), CryptogramResult::NoKey);
}

fn parse<T: clap::Args>(line: &str) -> T {
    use clap::Command;
    let command = T::augment_args(Command::new("test").no_binary_name(true));
    T::from_arg_matches(&command.try_get_matches_from(line.split(' ')).unwrap()).unwrap()
}

#[tokio::test]
async fn the_commands_issue_suspend_and_show_at_the_gates_list() {
    let house = House::new().await;
    let app = &house.app;
    let token = |line: &str| cli::run(parse(line), app, "anna");
    let deny = |line: &str| crate::lists::cli::deny::run(parse(line), app, "anna");
    crate::bank::cli::run(parse("open a1"), app, "anna").await.unwrap();
    let issued = token("issue --account a1 --out phone.json --expiry 2031-05").await.unwrap();
    let phone = PhoneFile::from_json(std::str::from_utf8(&issued.files[0].bytes).unwrap()).unwrap();
    let row = of_account_in(&mut app.store.pool().acquire().await.unwrap(), "a1").await.unwrap().remove(0);
    assert!(!issued.text.contains("62990001"));
    assert!(token("list --account a1").await.unwrap().text.contains(&row.token_key.to_hex()));
    let denied = || app.lists.denies(&phone.token(), Some(row.expiry));
    assert!(!denied());
    token(&format!("suspend {}", row.token_key)).await.unwrap();
    assert!(denied());
    assert!(deny("list").await.unwrap().text.starts_with("denied tokens: 1\n"));
    token(&format!("resume {}", row.token_key)).await.unwrap();
    assert!(!denied());
    let mut digits = [0; 19];
    let number = format!("--number {} --expiry 2031-05", phone.token().write_digits(&mut digits));
    deny(&format!("add {number} --cause clone --note seen")).await.unwrap();
    assert!(denied());
    let check = deny(&format!("check {number}")).await.unwrap().text;
    assert!(
        check.contains("denied: clone") && check.contains("gates with the newest list refuse it"),
        "{check}"
    );
    let by_key = deny(&format!("check --token {}", row.token_key)).await.unwrap().text;
    assert_eq!(by_key, check, "the number is the registry's");
    deny(&format!("remove {number} --cause clone")).await.unwrap();
    assert!(!denied());
    let debt = deny(&format!("remove {number} --cause debt")).await.err().unwrap();
    assert!(debt.to_string().contains("not lifted by hand"));
    let bad = deny("add --number 62990001x --expiry 2031-05").await.err().unwrap();
    assert!(!bad.to_string().contains("62990001"), "{bad}");
    let users: Vec<String> = query(
        "SELECT action FROM audit_log WHERE \"user\" = 'anna' AND action IN ('token.issue', 'token.state', 'deny.add', 'deny.remove') ORDER BY id",
    )
    .column(app.store.pool())
    .await
    .unwrap();
    let expected =
        ["token.issue", "token.state", "deny.add", "token.state", "deny.remove", "deny.add", "deny.remove"];
    assert_eq!(users, expected);
}

#[tokio::test]
async fn a_list_of_an_accounts_tokens_goes_on_after_one_of_them() {
    let house = House::new().await;
    let numbers = ["6222021200000017", "6222021200000025", "6222021200000033"];
    let mut tx = house.app.store.begin().await.unwrap();
    let clearing = house.app.clearing.as_ref();
    let cards: Vec<_> = numbers.iter().map(|digits| card(digits)).collect();
    let keys = register_in(&mut tx, clearing, &cards, "op", UnixMs(5)).await.unwrap();
    let other = Registration { account_id: "bert".into(), ..card("6222021200000041") };
    let other = register_in(&mut tx, clearing, &[other], "op", UnixMs(5)).await.unwrap()[0];
    tx.commit().await.unwrap();
    let list = async |more: &str| -> Vec<String> {
        let line = format!("token list --account anna{more}");
        let shown = house.command(&line.split(' ').collect::<Vec<_>>()).await;
        shown.lines().skip(1).map(|line| line[..32].to_owned()).collect()
    };
    let hex: Vec<String> = keys.iter().map(TokenKey::to_hex).collect();
    assert_eq!(list("").await, hex);
    assert_eq!(list(" --limit 2").await, hex[..2]);
    assert_eq!(list(&format!(" --after {} --limit 1", hex[0])).await, hex[1..2]);
    assert_eq!(list(&format!(" --after {}", hex[2])).await, [""; 0]);
    let after = ["token", "list", "--account", "anna", "--after", &other.to_hex()];
    let refused = house.refusal(&after).await;
    assert_eq!(refused, format!("the account has no token {other} to go on after"));
}

/// Rate on this machine: `cargo test --release -p wavepass-gateway -- --ignored --nocapture two_thousand`.
#[tokio::test]
#[ignore = "a measurement"]
async fn two_thousand_phones() {
    let store = scratch().await;
    let keys = keys();
    let requests: Vec<_> = (0..2_000).map(|n| request(&format!("a{n}"))).collect();
    let mut tx = store.begin().await.unwrap();
    let start = std::time::Instant::now();
    let issued =
        issue_many_in(&mut tx, keys.clearing().as_ref(), keys.bank().as_ref(), &requests, "op", UnixMs(5))
            .await
            .unwrap();
    tx.commit().await.unwrap();
    println!("{} phones in {:?}", issued.len(), start.elapsed());
}
