use super::*;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::path::Path;
use wavepass_protocol::cryptogram::{application_cryptogram, master_key_option_c, session_key};
use wavepass_protocol::dukpt::{Key, Ksn, Usage, initial_key, working_key};
use wavepass_protocol::ecc::{IssuerCertificate, P256Verifier, PublicKey, Verifier};
use wavepass_protocol::provisioning::Provisioning;
use wavepass_protocol::seal;
use wavepass_protocol::tap::{ClockQuality, Decision, OdaResult, Outcome, Passage, Timings};
use wavepass_protocol::time::UnixMs;

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

fn key_set() -> KeySet {
    KeySet::generate(&mut rng(1), &KeyOptions::house(2045)).unwrap()
}

fn good() -> Passphrase {
    Passphrase::new("a good passphrase")
}

fn written() -> (tempfile::TempDir, KeySet) {
    let dir = tempfile::tempdir().unwrap();
    let keys = key_set();
    keys.write(dir.path(), &good(), Cost::Test, &mut rng(2)).unwrap();
    (dir, keys)
}

fn card() -> (Token, Expiry) {
    (Token::from_digits("6299000112345678903").unwrap(), Expiry::new(31, 5).unwrap())
}

fn gate(gate_id: u32) -> GateIdentity<'static> {
    GateIdentity {
        gate_id,
        key_id: crate::gates::key_id(gate_id, 1),
        station: "A1",
        direction: Direction::Entry,
        operator: 1,
        network: *b"WAVE",
    }
}

fn tap<'a>() -> Tap<'a> {
    let (token, expiry) = card();
    Tap {
        time: UnixMs(1_795_478_400_000),
        clock: ClockQuality::Synchronised,
        station: "A1",
        direction: Direction::Entry,
        decision: Decision::Open,
        aid: &[0xF0, 0x57, 0x41, 0x56, 0x45, 0x50, 0x41, 0x53, 0x53, 0x01],
        token: Some(token),
        expiry: Some(expiry),
        expiry_signed: true,
        psn: Some(0),
        atc: Some(7),
        cid: Some(0x80),
        cryptogram: Some([1; 8]),
        iad: &[6, 1, 0x12, 3, 0xA0, 0, 0],
        aip: Some([0x21, 0]),
        track2: &[],
        pdol: &[],
        pdol_values: &[9; 33],
        oda_method: None,
        oda_result: OdaResult::Passed,
        timings: Timings::default(),
    }
}

// Seals as the gate of that provisioning file would.
fn sealed(keys: &dyn ClearingKeys, gate_id: u32, counter: u32, entry: &Entry<'_>) -> Vec<u8> {
    let file = keys.provision(&gate(gate_id)).unwrap();
    let gate = Provisioning::parse(&file).unwrap();
    let ksn = Ksn { key_id: gate.key_id, counter };
    let key = working_key(&Key::new(gate.initial_key), ksn, Usage::DataEncrypt).unwrap();
    let mut out = [0; seal::MAX_SEALED];
    seal::seal(&key, Header { ksn, sequence: counter, chain: seal::Chain::START }, entry, &mut out)
        .unwrap()
        .to_vec()
}

#[test]
fn a_key_file_opens_under_its_passphrase_and_gives_the_same_keys() {
    let (dir, keys) = written();
    let clearing = open_clearing(&Role::Clearing.path(dir.path()), &good()).unwrap();
    let bank = open_bank(&Role::Bank.path(dir.path()), &good()).unwrap();
    let (token, expiry) = card();
    assert_eq!(clearing.token_key(&token, expiry), keys.clearing().token_key(&token, expiry));
    assert_eq!(clearing.list_key(), keys.clearing().list_key());
    assert_eq!(bank.issuer_certificate(), keys.bank().issuer_certificate());
    assert_eq!(bank.token_number("a", 0, 0), keys.bank().token_number("a", 0, 0));
}

#[test]
fn a_wrong_passphrase_and_a_damaged_file_are_told_apart() {
    let (dir, _) = written();
    for role in [Role::Bank, Role::Clearing] {
        let path = role.path(dir.path());
        let open = |passphrase: &Passphrase| match role {
            Role::Bank => open_bank(&path, passphrase).err(),
            _ => open_clearing(&path, passphrase).err(),
        };
        assert!(matches!(open(&Passphrase::new("another passphrase")), Some(KeysError::WrongPassphrase(_))));
        let text = std::fs::read_to_string(&path).unwrap();
        // Every line that carries something, one character changed.
        for (number, line) in text.lines().enumerate().filter(|(_, line)| line.contains(':')) {
            let Some(at) = line.rfind(|c: char| c.is_ascii_alphanumeric()) else { continue };
            let mut changed: Vec<String> = text.lines().map(str::to_owned).collect();
            let other = if line.as_bytes()[at] == b'1' { "2" } else { "1" };
            changed[number].replace_range(at..=at, other);
            std::fs::write(&path, changed.join("\n")).unwrap();
            let refused = open(&good());
            assert!(
                matches!(refused, Some(KeysError::Damaged { .. } | KeysError::Version { .. })),
                "{line}: {:?}",
                refused.map(|e| e.to_string())
            );
        }
        std::fs::write(&path, &text[..text.len() / 2]).unwrap();
        assert!(matches!(open(&good()), Some(KeysError::Damaged { .. })));
    }
}

#[test]
fn a_forger_who_mends_the_checksum_does_not_get_past_the_seal() {
    let (dir, _) = written();
    let path = Role::Clearing.path(dir.path());
    // The forger puts a root of their own into the public part.
    let other = KeySet::generate(&mut rng(9), &KeyOptions::house(2045)).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    other.write(elsewhere.path(), &good(), Cost::Test, &mut rng(3)).unwrap();
    let read = |path: &Path| -> serde_json::Value {
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    let mut forged = read(&path);
    let own = read(&Role::Clearing.path(elsewhere.path()));
    forged["public"] = own["public"].clone();
    let kdf = &forged["kdf"];
    let text = |v: &serde_json::Value| v.as_str().unwrap().to_owned();
    let bound = format!(
        "wavepass key file\n1\nclearing\n{}\nargon2id {} {} {} {}",
        forged["public"],
        kdf["memory_kib"],
        kdf["passes"],
        kdf["lanes"],
        text(&kdf["salt"])
    );
    use sha2::Digest;
    let sum = sha2::Sha256::new()
        .chain_update(bound)
        .chain_update(text(&forged["check"]))
        .chain_update(text(&forged["sealed"]))
        .finalize();
    forged["sum"] = hex::encode(&sum).into();
    std::fs::write(&path, forged.to_string()).unwrap();
    let refused = open_clearing(&path, &good()).err().unwrap();
    assert!(matches!(refused, KeysError::Damaged { what: "sealed payload", .. }), "{refused}");
}

#[test]
fn key_files_are_the_owner_s_alone_and_never_overwritten() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, keys) = written();
    for role in [Role::Root, Role::Bank, Role::Clearing] {
        let mode = std::fs::metadata(role.path(dir.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let before = std::fs::read(Role::Bank.path(dir.path())).unwrap();
    let again = keys.write(dir.path(), &good(), Cost::Test, &mut rng(2)).err().unwrap();
    assert!(matches!(again, KeysError::Exists(_)));
    assert_eq!(std::fs::read(Role::Bank.path(dir.path())).unwrap(), before);
    let short = tempfile::tempdir().unwrap();
    let weak = keys.write(short.path(), &Passphrase::new("1234567"), Cost::Test, &mut rng(2)).err().unwrap();
    assert!(matches!(weak, KeysError::WeakPassphrase));
}

#[test]
fn a_file_of_another_role_is_named() {
    let (dir, _) = written();
    let refused = open_bank(&Role::Clearing.path(dir.path()), &good()).err().unwrap();
    assert!(matches!(refused, KeysError::Role { expected: "bank", found: "clearing", .. }));
}

#[test]
fn a_file_that_asks_for_too_much_memory_is_damaged() {
    let (dir, _) = written();
    let path = Role::Root.path(dir.path());
    let text =
        std::fs::read_to_string(&path).unwrap().replace("\"memory_kib\": 8", "\"memory_kib\": 4000000000");
    std::fs::write(&path, text).unwrap();
    assert!(matches!(super::set::Root::open(&path, &good()).err(), Some(KeysError::Damaged { .. })));
}

#[test]
fn the_same_random_numbers_make_the_same_keys() {
    let (a, b) = (key_set(), key_set());
    let (token, expiry) = card();
    assert_eq!(a.clearing().token_key(&token, expiry), b.clearing().token_key(&token, expiry));
    assert_eq!(a.bank().issuer_certificate(), b.bank().issuer_certificate());
    let other = KeySet::generate(&mut rng(5), &KeyOptions::house(2045)).unwrap();
    assert_ne!(a.clearing().token_key(&token, expiry), other.clearing().token_key(&token, expiry));
}

#[test]
fn an_iin_that_is_none_is_refused() {
    for iin in ["62", "629900012", "62990x"] {
        let options = KeyOptions { iin: iin.to_owned(), ..KeyOptions::house(2045) };
        assert!(matches!(KeySet::generate(&mut rng(1), &options).err(), Some(KeysError::Option(_))), "{iin}");
    }
}

#[test]
fn the_root_vouches_for_the_list_key_and_the_ca_for_the_issuer() {
    let keys = key_set();
    let (clearing, bank) = (keys.clearing(), keys.bank());
    let list_key = clearing.list_key();
    let root = PublicKey::from_x(clearing.root_key());
    assert!(P256Verifier.verify(&root, &ListKey::message(&list_key.x), &list_key.root_signature));
    let signature = clearing.sign_list(&[b"a list"]);
    assert!(P256Verifier.verify(&PublicKey::from_x(list_key.x), &[b"a list"], &signature));
    let certificate = bank.issuer_certificate();
    let issuer = IssuerCertificate::parse(&certificate).unwrap();
    let ca = &bank.ca_keys()[0];
    assert!(ca.as_ca_key().check_value_matches());
    issuer.check_authority(&ca.rid, ca.index).unwrap();
    let x: [u8; 32] = ca.key.as_slice().try_into().unwrap();
    issuer.verify(&mut P256Verifier, &PublicKey::from_x(x)).unwrap();
    issuer.check_token(&bank.token_number("anna", 0, 0)).unwrap();
}

#[test]
fn a_gate_is_provisioned_with_the_initial_key_of_its_id() {
    let clearing = key_set().clearing();
    let file = clearing.provision(&gate(7)).unwrap();
    let parsed = Provisioning::parse(&file).unwrap();
    assert_eq!((parsed.gate_id, parsed.key_id, parsed.station), (7, gate(7).key_id, "A1"));
    assert_eq!(parsed.root_key, clearing.root_key());
    // Gate and host prove the same link key to each other.
    let proof = LinkKey::new(parsed.link_key).proof(7, &[1; 16], &[2; 16]);
    assert_eq!(proof, clearing.link_key(7, parsed.key_id).proof(7, &[1; 16], &[2; 16]));
    let other = clearing.link_key(8, gate(8).key_id).proof(7, &[1; 16], &[2; 16]);
    assert_ne!(proof, other);
    let long = GateIdentity { station: "ABCDEFGHIJKLMNOPQ", ..gate(7) };
    assert_eq!(clearing.provision(&long).err(), Some(ProvisioningError::Station));
}

#[test]
fn sealed_entries_of_many_gates_open_in_order_and_a_forged_one_alone_fails() {
    let clearing = key_set().clearing();
    let mut entries = Vec::new();
    for counter in 1..=300u32 {
        for gate_id in 1..=3 {
            let passage = Passage { time: UnixMs(u64::from(counter)), of: gate_id, outcome: Outcome::Passed };
            let entry = if counter % 2 == 0 { Entry::Tap(tap()) } else { Entry::Passage(passage) };
            entries.push(sealed(clearing.as_ref(), gate_id, counter, &entry));
        }
    }
    entries[500][30] ^= 1;
    entries[501].truncate(10);
    let batch: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
    let opened = clearing.unseal(&batch);
    assert_eq!(opened.len(), 900);
    for (i, result) in opened.iter().enumerate() {
        let (counter, gate_id) = (i as u32 / 3 + 1, i as u32 % 3 + 1);
        match (i, result) {
            (500, result) => assert_eq!(result.as_ref().err(), Some(&SealError::Forged)),
            (501, result) => assert_eq!(result.as_ref().err(), Some(&SealError::Length(10))),
            (_, Ok(opened)) => {
                assert_eq!(opened.header.ksn, Ksn { key_id: crate::gates::key_id(gate_id, 1), counter });
                match opened.entry() {
                    Entry::Tap(found) => assert_eq!(found, tap()),
                    Entry::Passage(found) => {
                        assert_eq!((found.of, found.time.0), (gate_id, u64::from(counter)))
                    }
                    found @ Entry::Emergency(_) => panic!("entry {i} is {found:?}"),
                }
            }
            (_, Err(e)) => panic!("entry {i}: {e}"),
        }
    }
}

#[test]
fn a_sealed_tap_does_not_open_under_another_key_id() {
    let clearing = key_set().clearing();
    let mut entry = sealed(clearing.as_ref(), 1, 1, &Entry::Tap(tap()));
    entry[8] = 2;
    assert_eq!(clearing.unseal(&[&entry])[0].as_ref().err(), Some(&SealError::Forged));
}

// The master and session keys and the CMAC have known answers in protocol; here it is that the bank joins them in the
// house's order, under the token's own keys.
#[test]
fn the_bank_knows_its_own_cryptograms_from_all_others() {
    let (secrets, public) = super::bank::generate(&mut rng(4), &KeyOptions::house(2045).bank()).unwrap();
    let bank = super::bank::Bank::new(&secrets, &public).unwrap();
    let (token, _) = card();
    let master = master_key_option_c(secrets.card_master(), &token, 0);
    let data: [&[u8]; 4] = [&[9; 33], &[0x21, 0], &[0, 7], &[6, 1, 0x12, 3, 0xA0, 0, 0]];
    let mut tap = tap();
    tap.cryptogram = Some(application_cryptogram(&session_key(&master, 7), &data));
    let check = CryptogramCheck::of(&tap).unwrap();
    let foreign = Token::from_digits("6222021234567890").unwrap();
    let mut cryptogram = check.cryptogram;
    cryptogram[7] ^= 1;
    let checks = [
        check,
        CryptogramCheck { atc: 8, ..check },
        CryptogramCheck { pdol_values: &[8; 33], ..check },
        CryptogramCheck { aip: [0x20, 0], ..check },
        CryptogramCheck { iad: &[], ..check },
        CryptogramCheck { psn: 1, ..check },
        CryptogramCheck { token: bank.token_number("anna", 0, 0), ..check },
        CryptogramCheck { cryptogram, ..check },
        CryptogramCheck { token: foreign, ..check },
    ];
    let mut expected = [CryptogramResult::Invalid; 9];
    expected[0] = CryptogramResult::Valid;
    expected[8] = CryptogramResult::NoKey;
    assert_eq!(bank.verify_cryptograms(&checks), expected);
    // A batch that is spread over cores keeps its order.
    let many: Vec<_> = checks.iter().copied().cycle().take(9_000).collect();
    let results = bank.verify_cryptograms(&many);
    assert!(results.chunks(9).all(|chunk| chunk == expected));
    tap.cryptogram = None;
    assert!(CryptogramCheck::of(&tap).is_none());
}

#[test]
fn a_token_number_completes_the_check_digit_and_repeats_only_itself() {
    // ISO/IEC 7812-1: the number 7992739871 takes check digit 3.
    assert_eq!(super::bank::luhn(b"7992739871"), 3);
    let bank = key_set().bank();
    let mut seen = std::collections::HashSet::new();
    for account in ["anna", "ben"] {
        for rank in 0..50 {
            for attempt in 0..4 {
                let token = bank.token_number(account, rank, attempt);
                assert_eq!(token, bank.token_number(account, rank, attempt));
                let mut digits = [0; 19];
                let text = token.write_digits(&mut digits);
                assert!(text.len() == 19 && text.starts_with(bank.iin()));
                assert_eq!(super::bank::luhn(&text.as_bytes()[..18]), text.as_bytes()[18] - b'0');
                assert!(seen.insert(token));
            }
        }
    }
}

#[test]
fn what_is_sealed_at_rest_opens_only_in_its_own_row() {
    let clearing = key_set().clearing();
    let sealed = clearing.seal_at_rest(b"row 1", b"a name");
    assert_eq!(sealed.len(), 6 + 28);
    assert_eq!(sealed, clearing.seal_at_rest(b"row 1", b"a name"));
    assert_ne!(sealed[..12], clearing.seal_at_rest(b"row 1", b"b name")[..12]);
    assert_ne!(sealed[..12], clearing.seal_at_rest(b"row ", b"1a name")[..12]);
    assert_eq!(clearing.open_at_rest(b"row 1", &sealed).unwrap().as_slice(), b"a name");
    assert_eq!(clearing.open_at_rest(b"row 2", &sealed).err(), Some(AtRestError::Forged));
    assert_eq!(clearing.open_at_rest(b"row 1", &sealed[..27]).err(), Some(AtRestError::Length(27)));
    let (token, expiry) = card();
    let key = clearing.token_key(&token, expiry);
    let row = clearing.seal_token(&token, expiry);
    assert_eq!(clearing.open_token(&key, &row), Ok((token, expiry)));
    assert!(!row.windows(8).any(|part| part == &token.bcd()[..8]));
    assert_ne!(clearing.token_key(&token, Expiry::new(31, 6).unwrap()), key);
    assert_ne!(clearing.index_of("name", b"x"), clearing.index_of("phone", b"x"));
}

#[test]
fn nothing_that_holds_a_key_can_be_printed() {
    // These types must not implement Debug: `Printable` is found only for types that do.
    struct Probe<T>(std::marker::PhantomData<T>);
    trait Unprintable {
        fn printable(&self) -> bool {
            false
        }
    }
    impl<T> Unprintable for Probe<T> {}
    impl<T: fmt::Debug> Probe<T> {
        #[expect(dead_code, reason = "found only if a key holder gets a Debug")]
        fn printable(&self) -> bool {
            true
        }
    }
    assert!(!Probe::<KeySet>(std::marker::PhantomData).printable());
    assert!(!Probe::<Passphrase>(std::marker::PhantomData).printable());
    assert!(!Probe::<Opened>(std::marker::PhantomData).printable());
    assert!(!Probe::<super::clearing::Clearing>(std::marker::PhantomData).printable());
    assert!(!Probe::<super::clearing::ClearingSecrets>(std::marker::PhantomData).printable());
    assert!(!Probe::<super::bank::Bank>(std::marker::PhantomData).printable());
    assert!(!Probe::<super::bank::BankSecrets>(std::marker::PhantomData).printable());
    let (token, expiry) = card();
    let order = PhoneOrder {
        token,
        expiry,
        effective: wavepass_protocol::time::Date { year: 2026, month: 11, day: 23 },
        psn: 0,
        network: *b"WAVE",
        operator: 0,
    };
    assert!(!format!("{order:?}").contains("629900"));
}

#[test]
fn the_off_line_root_signs_a_request_that_the_clearing_file_then_trusts() {
    let (root_dir, _) = written();
    let dir = tempfile::tempdir().unwrap();
    let secrets = super::clearing::ClearingSecrets::generate(&mut rng(7));
    super::set::write_clearing(dir.path(), &secrets, None, &good(), Cost::Test, &mut rng(8)).unwrap();
    let path = Role::Clearing.path(dir.path());
    assert!(matches!(open_clearing(&path, &good()).err(), Some(KeysError::ListKeyUnsigned(_))));
    let passphrase = dir.path().join("passphrase");
    std::fs::write(&passphrase, "a good passphrase\n").unwrap();
    let keys = |line: &[&str]| {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            keys: cli::KeysArgs,
        }
        let passphrase = ["--passphrase-file", passphrase.to_str().unwrap()];
        let extra: &[&str] = if line[0] == "list-request" { &[] } else { &passphrase };
        cli::run(Line::try_parse_from([&["keys"], line, extra].concat()).unwrap().keys)
    };
    let (file, root) = (dir.path().to_str().unwrap(), root_dir.path().to_str().unwrap());
    let request = keys(&["list-request", "--dir", file]).unwrap().text;
    let request_file = dir.path().join("request.json");
    std::fs::write(&request_file, request).unwrap();
    let request_file = request_file.to_str().unwrap();
    let certificate = keys(&["sign-list-key", "--dir", root, "--request", request_file]).unwrap().text;
    let certificate_file = dir.path().join("certificate.json");
    let last = if certificate.ends_with("0\"\n}") { "1\"\n}" } else { "0\"\n}" };
    let forged = format!("{}{last}", &certificate[..certificate.len() - 4]);
    std::fs::write(&certificate_file, forged).unwrap();
    let certificate_path = certificate_file.to_str().unwrap();
    let refused =
        keys(&["install-list-key", "--dir", file, "--certificate", certificate_path]).err().unwrap();
    assert!(refused.to_string().contains("not the root's signature"), "{refused}");
    std::fs::write(&certificate_file, certificate).unwrap();
    keys(&["install-list-key", "--dir", file, "--certificate", certificate_path]).unwrap();
    let opened = open_clearing(&path, &good()).unwrap();
    let list_key = opened.list_key();
    let root_key = PublicKey::from_x(opened.root_key());
    assert!(P256Verifier.verify(&root_key, &ListKey::message(&list_key.x), &list_key.root_signature));
}

#[test]
fn initial_keys_are_the_standard_s() {
    // ANSI X9.24-3 (2017): the base key and key id of docs/formats.md.
    let base = Key::new(hex::array("fedcba9876543210f1f1f1f1f1f1f1f1").unwrap());
    let key = initial_key(&base, KeyId(hex::array("1234567890123456").unwrap()));
    assert_eq!(hex::encode(key.bytes()), "1273671ea26ac29afa4d1084127652a1");
}

/// Rates on this machine: `cargo test --release -p wavepass-gateway -- --ignored --nocapture unseal_and_verify`.
#[test]
#[ignore = "a measurement"]
fn unseal_and_verify_rates() {
    let keys = key_set();
    let (clearing, bank) = (keys.clearing(), keys.bank());
    let entries: Vec<_> =
        (1..=50_000).map(|n| sealed(clearing.as_ref(), n % 20 + 1, n, &Entry::Tap(tap()))).collect();
    let batch: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    pool.install(|| {
        let start = std::time::Instant::now();
        let opened = clearing.unseal(&batch);
        let unsealed = start.elapsed();
        let taps: Vec<_> = opened
            .iter()
            .map(|o| match o.as_ref().map(Opened::entry) {
                Ok(Entry::Tap(tap)) => tap,
                _ => panic!("not a tap"),
            })
            .collect();
        let checks: Vec<_> = taps.iter().filter_map(CryptogramCheck::of).collect();
        let start_verify = std::time::Instant::now();
        assert_eq!(bank.verify_cryptograms(&checks).len(), entries.len());
        let verified = start_verify.elapsed();
        let rate = |time: std::time::Duration| entries.len() as f64 / time.as_secs_f64();
        println!(
            "one core: unseal {:.0}/s, verify {:.0}/s, both {:.0}/s",
            rate(unsealed),
            rate(verified),
            rate(unsealed + verified)
        );
    });
}
