//! Profiles are data: copied, changed, and refused by name and place where they are wrong.

use crate::cast::{HOUSE, RSA, TODAY, gate, rng, rsa_token};
use crate::oracle::{check_house, check_rsa};
use wavepass_hce::authorities::{Authorities, AuthorityError};
use wavepass_hce::contactless::Surface;
use wavepass_hce::faults::{Fault, IssueFault, Step};
use wavepass_hce::hex;
use wavepass_hce::issue::Domain;
use wavepass_hce::phone::{Phone, PhoneFile};
use wavepass_hce::profile::{DomainOrder, Order, Profile, ProfileError};
use wavepass_hce::reader::{Values, read};
use wavepass_hce::state::Counters;
use wavepass_protocol::lists::Suite;
use wavepass_protocol::time::Date;

fn authorities() -> Authorities {
    Authorities::generate([3; 32], TODAY)
}

fn issue(profile: &str, order: &Order) -> Result<PhoneFile, ProfileError> {
    Profile::builtin(profile).unwrap().issue(&authorities(), order, &mut rng(1))
}

#[test]
fn a_profile_is_copied_changed_and_read_from_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    let text = Profile::text("house").unwrap().replace("\"CITY\"", "\"TOWN\"").replace("Wavepass", "Mine");
    std::fs::write(&path, format!("faults = [\"slow=5\", \"expired\"]\n{text}")).unwrap();
    let profile = Profile::find(path.to_str().unwrap()).unwrap();
    let file = profile.issue(&authorities(), &Order::new(TODAY), &mut rng(1)).unwrap();
    let card = file.applications[0].card();
    assert_eq!((card.label.as_str(), &file.faults[..]), ("Mine", &[Fault::Slow { delay_us: 5 }][..]));
    assert!(card.expiry < TODAY);
    assert!(file.to_json().contains("544F574E"), "the domain is the changed one");
    assert!(matches!(Profile::find("nobody"), Err(ProfileError::Unknown { is_file: false, .. })));
    assert!(matches!(Profile::load(folder.path()), Err(ProfileError::Io { .. })));
}

#[test]
fn what_does_not_belong_into_a_profile_is_named_with_its_place() {
    let good = Profile::text("unionpay-debit").unwrap();
    let says = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        Profile::parse(&good.replace(from, to)).unwrap_err().to_string()
    };
    let line = good.lines().position(|line| line.starts_with("label")).unwrap() + 1;
    let said = says("label = ", "colour = ");
    assert!(said.starts_with(&format!("line {line}, column 1: unknown field `colour`")), "{said}");
    let said = says("priority = 2", "priority = \"two\"");
    assert!(said.contains("column 12: invalid type"), "{said}");
    for (from, to, wanted) in [
        ("\"rsa\"", "\"dsa\"", "unknown variant `dsa`"),
        ("\"05\"", "\"55\"", "application 1: `signed_format` is \"05\" or \"95\""),
        ("A000000333010101", "A0000003", "application 1: `aid` has 5 to 16 bytes"),
        ("A000000333010101", "A00000033301010", "application 1: `aid`: hexadecimal text"),
        ("priority = 2", "network = \"CITY\"", "application 1: `network` and `operator` belong"),
        ("priority = 2", "years = 30", "application 1: `years` is 1 to 20"),
        ("answer_us", "uid = \"0102\"\nanswer_us", "surface: a UID has 4, 7 or 10 bytes"),
        ("about", "faults = [\"glass\"]\nabout", "faults: `glass` is no fault"),
        ("[[application]]", "[application]", "invalid type: map"),
    ] {
        let said = says(from, to);
        assert!(said.contains(wanted), "{said}");
    }
    let sm2 = Profile::text("sm2").unwrap();
    for (line, wanted) in [
        (
            "user_id = \"123456789012345678901234567890123\"",
            "a signer's identifier has at most 32 bytes, not 33",
        ),
        ("counter_prefix = \"0\"", "`counter_prefix`: hexadecimal text has an even number of digits"),
        ("counter_prefix = \"000000000000000000\"", "at most 8 bytes stand before the counter, not 9"),
        ("key_parameters = \"00\"", "`key_parameters` has 2 bytes"),
    ] {
        let said = Profile::parse(&format!("{sm2}{line}\n")).unwrap_err().to_string();
        assert!(said.starts_with("application 1: ") && said.contains(wanted), "{said}");
        let said = Profile::parse(&format!("{good}{line}\n")).unwrap_err().to_string();
        assert!(said.contains("`key_parameters` belong to kind `sm2`"), "{said}");
    }
    assert!(matches!(Profile::parse("about = \"\"\napplication = []"), Err(ProfileError::Content(_))));
}

#[test]
fn the_same_seed_gives_the_same_phone_and_its_authorities_tell_gates_their_keys() {
    let order = Order::new(TODAY);
    let once = issue("house", &order).unwrap();
    assert_eq!(once.to_json(), issue("house", &order).unwrap().to_json());
    let own = authorities();
    assert_eq!(own.public_keys().unwrap(), []);
    let file = Profile::builtin("house").unwrap().issue(&own, &order, &mut rng(1)).unwrap();
    let keys = own.public_keys().unwrap();
    assert_eq!((keys.len(), keys[0].suite, keys[0].listed().check_value_matches()), (1, Suite::P256, true));
    let mut phone = Phone::new(&file, Counters::memory(), [1; 32]).unwrap();
    let reading = read(&mut phone, &Values::gate(TODAY, [1; 4])).unwrap();
    assert_eq!(check_house(&reading, keys[0].key.as_slice().try_into().unwrap()), Ok(file.token()));
    assert_eq!(keys[0].to_json()["suite"], "10");
}

#[test]
fn authorities_of_a_folder_are_kept_and_others_are_taken_from_their_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("authorities");
    let first = Authorities::open(&path, TODAY).unwrap();
    let key = first.house().unwrap().ca_public_key();
    let again = Authorities::open(&path, TODAY).unwrap();
    assert_eq!(again.public_keys().unwrap()[0].key, key);
    assert_eq!(first.master().unwrap(), again.master().unwrap());

    for (name, text) in [("bank.json", RSA.to_json()), ("house.json", HOUSE.to_json())] {
        std::fs::write(folder.path().join(name), text.as_bytes()).unwrap();
    }
    let mut given = Authorities::open(&path, TODAY).unwrap();
    given.take(&folder.path().join("bank.json")).unwrap();
    given.take(&folder.path().join("house.json")).unwrap();
    assert_eq!(given.house().unwrap().ca_public_key(), HOUSE.ca_public_key());
    let order = Order { token: Some(rsa_token(7)), ..Order::new(TODAY) };
    let file = Profile::builtin("unionpay-credit").unwrap().issue(&given, &order, &mut rng(1)).unwrap();
    let values = gate(1);
    let reading = read(&mut Phone::new(&file, Counters::memory(), [1; 32]).unwrap(), &values).unwrap();
    assert_eq!(check_rsa(&reading, &RSA.ca_key(), &values), Ok(rsa_token(7)));
    assert!(!path.join("rsa.json").exists(), "none was made");
    let other = Authorities::generate([4; 32], TODAY);
    std::fs::write(folder.path().join("sm2.json"), other.sm2().unwrap().to_json().as_bytes()).unwrap();
    given.take(&folder.path().join("sm2.json")).unwrap();
    let keys = given.public_keys().unwrap();
    let key = keys.iter().find(|key| key.suite == Suite::Sm2).unwrap().to_json();
    assert_eq!((&key["suite"], key["x"].as_str().unwrap().len()), (&"sm2".into(), 64));
    assert_eq!(hex::decode(key["y"].as_str().unwrap()).unwrap(), other.sm2().unwrap().ca_key().key[32..]);
    std::fs::write(folder.path().join("junk.json"), "{}").unwrap();
    assert!(matches!(given.take(&folder.path().join("junk.json")), Err(AuthorityError::Unknown(_))));
    std::fs::write(path.join("house.json"), "{}").unwrap();
    let spoilt = Authorities::open(&path, TODAY).unwrap();
    assert!(matches!(spoilt.house(), Err(AuthorityError::Spoilt { .. })));
}

#[test]
fn an_sm2_authority_of_a_folder_signs_as_the_first_card_had_it() {
    let folder = tempfile::tempdir().unwrap();
    let alice = Profile::parse(&format!("{}user_id = \"ALICE\"\n", Profile::text("sm2").unwrap())).unwrap();
    let usual = Profile::builtin("sm2").unwrap();
    let issue = |profile: &Profile, authorities: &Authorities| {
        profile.issue(authorities, &Order::new(TODAY), &mut rng(1)).map_err(|e| e.to_string())
    };
    let of = |name: &str| Authorities::open(&folder.path().join(name), TODAY).unwrap();
    assert!(issue(&usual, &of("a")).is_ok());
    assert_eq!(
        issue(&alice, &of("a")).unwrap_err(),
        "the SM2 authority signs by user ID `1234567812345678` with key parameters 0011, not by `ALICE` with 0011; \
         another folder of authorities makes one that does"
    );
    assert!(issue(&alice, &of("b")).is_ok());
    assert!(issue(&alice, &of("b")).is_ok(), "the file says it");
    assert!(issue(&usual, &of("b")).is_err());
    // In memory one authority certifies for both, and a stranger does too.
    let own = authorities();
    let key = own.sm2().unwrap().ca_key();
    assert!(issue(&usual, &own).is_ok() && issue(&alice, &own).is_ok());
    assert_eq!(own.sm2().unwrap().ca_key(), key);
    let stranger = Order::new(TODAY).with_fault(IssueFault::OtherAuthority);
    assert!(alice.issue(&own, &stranger, &mut rng(1)).is_ok());
}

#[test]
fn orders_beyond_the_profile_are_kept_or_refused() {
    let token = rsa_token(1);
    let refused = issue("house", &Order { token: Some(token), ..Order::new(TODAY) }).unwrap_err();
    assert_eq!(refused.to_string(), "the token is not of this issuer, whose tokens begin with 62990009");
    let domain = DomainOrder::At(Domain { network: *b"CITY", operator: 0 });
    for domain in [domain, DomainOrder::Without] {
        let nowhere = issue("sm2", &Order { domain, ..Order::new(TODAY) });
        assert!(matches!(nowhere, Err(ProfileError::NoDomain)));
    }
    let several = issue("wallet", &Order { token: Some(token), ..Order::new(TODAY) });
    assert!(matches!(several, Err(ProfileError::SeveralTokens(3))));
    let january = Date { year: 2026, month: 1, day: 31 };
    let file = issue("house", &Order::new(january).with_fault(IssueFault::Expired)).unwrap();
    assert_eq!(file.applications[0].card().expiry, Date { year: 2025, month: 11, day: 30 });
    let file = issue("house", &Order::new(TODAY).with_fault(IssueFault::NotYetValid)).unwrap();
    assert!(file.applications[0].card().effective > TODAY);
    let lost = Fault::FieldLostAt { step: Step::Options };
    let file = issue("house", &Order::new(TODAY).with_fault(lost.clone())).unwrap();
    let again = PhoneFile::from_json(&file.to_json()).unwrap();
    assert_eq!((&again.faults[..], &again.surface), (&[lost][..], &file.surface));
    assert_ne!(again.surface, Surface::default());
}
