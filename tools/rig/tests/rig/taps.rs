//! What the rig shows of a tap.

use crate::cast::{TODAY, debit, house, national, older, tapped, tapped_by, terminal, visa};
use rig::show::{self, Options};
use rig::tap::{Tap, decision_word};
use rig::terminal::Terminal;
use wavepass_hce::faults::Fault;
use wavepass_hce::phone::{ApplicationFile, PhoneFile};
use wavepass_protocol::lists::{RelayLimits, Revocation, Suite};
use wavepass_protocol::select::Aid;
use wavepass_protocol::sm2::Convention;
use wavepass_protocol::tap::OdaMethod;
use wavepass_protocol::time::Date;

fn shown(tap: &Tap, options: Options) -> String {
    let mut follower = show::follower(options);
    let mut text = String::new();
    for exchanged in &tap.exchanges {
        show::exchange(&mut text, &mut follower, exchanged, options).unwrap();
    }
    show::summary(&mut text, tap, options).unwrap();
    anstream::adapter::strip_str(&text).to_string()
}

fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

#[test]
fn a_genuine_phone_opens_and_its_way_there_is_shown() {
    let tap = tapped(&house());
    let text = shown(&tap, Options::default());
    has(
        &text,
        &[
            "→ SELECT 2PAY.SYS.DDF01",
            "← 9000 success",
            "9F37 unpredictable number: C0FFEE01",
            "F0574156455041535301",
            "chosen",
            "issuer     numbers 62990001…, serial 000007, until 2036-12-31: P-256",
            "signature  right (ecc)",
            "number …0001, good until 2029-02",
            "kernel's work",
            "OPEN  The card is genuine and may ride",
        ],
    );
}

#[test]
fn a_number_is_whole_only_where_it_is_asked_for() {
    for file in [house(), debit(), older()] {
        let tap = tapped(&file);
        let digits = tap.known.token.unwrap().write_digits(&mut [0; 19]).to_owned();
        let hidden = shown(&tap, Options::default());
        assert!(!hidden.contains(&digits), "{hidden}");
        assert!(!show::json(&tap, Options::default()).to_string().contains(&digits));
        let numbers = Options { numbers: true };
        has(&shown(&tap, numbers), &[&digits]);
        has(&show::json(&tap, numbers).to_string(), &[&digits]);
    }
}

#[test]
fn an_rsa_card_s_certificates_and_the_format_of_its_signature_are_shown() {
    let text = shown(&tapped(&debit()), Options::default());
    has(
        &text,
        &[
            "authority  A000000333 F1: RSA 1984 bits, exponent",
            "issuer     numbers 62990002…, serial 000009, until 2036-12-31: RSA 1408 bits",
            "card       serial 000102, until 2029-02-28: RSA 1152 bits",
            "signature  right (fdda, signed data format 05)",
        ],
    );
}

#[test]
fn an_older_card_signs_by_a_command_of_its_own() {
    let tap = tapped(&older());
    assert_eq!((decision_word(tap.decision), tap.verdict.method), ("open", Some(OdaMethod::Dda)));
    let phases: Vec<&str> = tap.phases_us().into_iter().map(|(word, _)| word).collect();
    assert_eq!(phases, ["directory", "application", "options", "records", "authenticate", "cryptogram"]);
}

#[test]
fn a_missing_authority_key_is_named_with_what_to_do() {
    let tap = tapped_by(&debit(), &Terminal::builtin().unwrap(), TODAY);
    assert_eq!(decision_word(tap.decision), "authentication_failed");
    let text = shown(&tap, Options::default());
    has(
        &text,
        &[
            "authority  A000000333 F1: not in this terminal",
            "failed     at ca_key",
            "REFUSED authentication_failed",
            "The terminal has no RSA key A000000333 F1",
            "rid = \"A000000333\"\n    index = \"F1\"\n    modulus = \"…\"\n    exponent = \"03\"\n    check_value",
        ],
    );
}

#[test]
fn what_to_add_for_a_missing_key_is_of_the_key_s_kind() {
    let nobody = Terminal::builtin().unwrap();
    let house = shown(&tapped_by(&house(), &nobody, TODAY), Options::default());
    has(
        &house,
        &[
            "no P-256 key F057415645 01",
            "index = \"01\"\n    suite = \"p256\"\n    x = \"…\"\n    check_value",
        ],
    );
    assert!(!house.contains("modulus"), "{house}");
    let national = shown(&tapped_by(&national(), &nobody, TODAY), Options::default());
    has(
        &national,
        &["no SM2 key A000000333 E1", "suite = \"sm2\"\n    x = \"…\"\n    y = \"…\"\n    check_value"],
    );
    assert!(!national.contains("modulus"), "{national}");

    // A key of another kind under the same index is not the one that is asked for.
    let mut other = terminal();
    other.keys.retain(|key| key.suite == Suite::Sm2);
    other.keys[0].index = 0xF1;
    has(
        &shown(&tapped_by(&debit(), &other, TODAY), Options::default()),
        &["A000000333 F1: not in this terminal"],
    );
}

#[test]
fn a_revoked_issuer_is_told_with_where_that_comes_from() {
    let mut terminal = terminal();
    terminal.revoked = vec![Revocation { rid: [0xA0, 0, 0, 3, 0x33], index: 0xF1, serial: [0, 0, 9] }];
    let text = shown(&tapped_by(&debit(), &terminal, TODAY), Options::default());
    has(
        &text,
        &[
            "failed     at issuer_certificate: the issuer certificate is revoked",
            "The issuer's certificate 000009 under the authority's key A000000333 F1 is withdrawn",
            "[[revoked]]",
            "revocation remove --rid A000000333 --index F1 --serial 000009",
        ],
    );
}

#[test]
fn an_authority_s_key_past_its_day_is_told_with_what_it_is() {
    let mut terminal = terminal();
    terminal.keys.iter_mut().for_each(|key| key.expiry = [0x20, 0x20, 0x01, 0x31]);
    let text = shown(&tapped_by(&house(), &terminal, TODAY), Options::default());
    has(&text, &["failed     at ca_key", "is past its last day (`expires` in the terminal's file)"]);
}

#[test]
fn a_card_that_is_accepted_nowhere_is_named() {
    let mut terminal = terminal();
    terminal.config.applications.clear();
    terminal
        .config
        .applications
        .extend(Terminal::builtin().unwrap().config.applications.into_iter().filter(|a| a.partial));
    let tap = tapped_by(&house(), &terminal, TODAY);
    let text = shown(&tap, Options::default());
    has(
        &text,
        &[
            "this terminal does not accept it",
            "REFUSED no_application",
            "    F0574156455041535301  Wavepass\n",
            "    [[application]]\n    aid = \"F0574156455041535301\"\n    suite = \"p256\"",
        ],
    );
    assert!(!text.contains("CDA"), "{text}");

    let mut foreign = debit();
    let ApplicationFile::Rsa(application) = &mut foreign.applications[0] else { panic!("an RSA card") };
    application.card.aid = Aid::new(&[0xA0, 0, 0, 0, 4, 0x10, 0x10]).unwrap();
    has(
        &shown(&tapped(&foreign), Options::default()),
        &[
            "    A0000000041010  Mastercard\n",
            "aid = \"A0000000041010\"\n    suite = \"rsa\"\n    ttq = \"21800080\"\n    formats = [\"05\", \"95\"]",
            "Cards of Mastercard sign in GENERATE AC (CDA), which this kernel does not verify",
        ],
    );
}

#[test]
fn a_format_of_signed_data_that_is_not_accepted_is_told_with_how_to_accept_it() {
    let mut narrow = terminal();
    narrow.config.applications.iter_mut().for_each(|a| a.formats.retain(|&format| format == 0x05));
    let text = shown(&tapped_by(&visa(), &narrow, TODAY), Options::default());
    has(
        &text,
        &[
            "failed     at dynamic_signature: dynamic signature: format 95 is not accepted",
            "its signed data have format 95, which is not accepted of this application",
            "in a terminal file (--config):\n\n    formats = [\"05\", \"95\"]",
        ],
    );
    assert!(!text.contains("it is a copy"), "{text}");
}

#[test]
fn an_sm2_card_that_signs_by_another_convention_is_told_apart_from_a_copy() {
    let usual = Convention::DEFAULT;
    for (user_id, prefix, step, cause) in [
        (usual.user_id(), &[][..], "dynamic_signature", "`counter_prefix` of `sm2`"),
        ("ALICE", usual.counter_prefix(), "issuer_certificate", "`user_id` of `sm2`"),
    ] {
        let mut other = terminal();
        other.config.sm2 = Convention::new(user_id, prefix).unwrap();
        let text = shown(&tapped_by(&national(), &other, TODAY), Options::default());
        has(&text, &[&format!("failed     at {step}: "), cause]);
        assert!(!text.contains("it is a copy"), "{text}");
    }
}

#[test]
fn a_tap_that_ends_before_the_choice_says_nothing_of_acceptance() {
    let mut hasty = terminal();
    hasty.config.tap_limit_us = 1_000_000;
    let slow = Fault::Slow { delay_us: 2_000_000 };
    let wallet = PhoneFile { applications: [debit(), house()].map(|f| f.applications).concat(), ..house() };
    for file in [house(), wallet] {
        let text = shown(&tapped_by(&file.with_fault(slow.clone()), &hasty, TODAY), Options::default());
        has(&text, &["REFUSED too_slow", "Wavepass         priority 1\n"]);
        assert!(!text.contains("accept"), "{text}");
    }
}

#[test]
fn a_genuine_card_that_may_not_ride_is_told_apart_from_a_forged_one() {
    let late = tapped_by(&house(), &terminal(), Date { year: 2031, month: 1, day: 1 });
    assert_eq!(decision_word(late.decision), "expired");
    assert_eq!(late.verdict.failure.map(|f| f.step), Some("card_certificate"));
    let mut denying = terminal();
    denying.denied = vec![(house().token(), None)];
    let denied = tapped_by(&house(), &denying, TODAY);
    assert!(denied.verdict.passed());
    has(
        &shown(&denied, Options::default()),
        &["REFUSED denied  The card is genuine, but the card is on the deny list."],
    );
    let forged = tapped(&house().with_fault(Fault::ForgedSignature));
    has(
        &shown(&forged, Options::default()),
        &["REFUSED authentication_failed  The card is not proven genuine.", "did not sign this tap"],
    );
}

#[test]
fn each_timed_exchange_is_shown_with_what_it_was_allowed_and_of_what_that_is_made_up() {
    // The card claims 2,000 µs for its answer and 1,000 for sending it.
    let limits = RelayLimits { overhead_us: 900_000, grace_us: 300, cap_us: 2_500 };
    let mut timing = terminal();
    timing.config.relay = Some(limits);
    timing.config.tap_limit_us = u64::MAX;
    let tap = tapped_by(&house(), &timing, TODAY);
    let told = show::json(&tap, Options::default());
    assert_eq!(told["relay"].as_array().map(Vec::len), Some(1), "{told}");
    let one = &told["relay"][0];
    for (key, value) in [
        ("overhead_us", 900_000),
        ("grace_us", 300),
        ("cap_us", 2_500),
        ("claimed_us", 3_000),
        ("allowed_us", 902_800),
    ] {
        assert_eq!(one[key], value, "{key}");
    }
    assert_eq!(one["in_time"], true);
    has(
        &shown(&tap, Options::default()),
        &[
            "timed exchanges",
            " µs, 902800 µs allowed: in time",
            "900000 + grace_us 300 + 2500 of the 3000 µs that the card claims",
        ],
    );

    let relayed = house().with_fault(Fault::Relay { delay_us: 1_000_000 });
    let tap = tapped_by(&relayed, &timing, TODAY);
    assert_eq!(decision_word(tap.decision), "relay_suspected");
    let timed = rig::relay::timed(&tap);
    assert_eq!(timed.len(), 3, "three tries, all late");
    assert!(timed.iter().all(|one| !one.in_time() && one.rest_us() >= 997_500));
    has(&shown(&tap, Options::default()), &["902800 µs allowed: late"]);
    assert!(rig::relay::timed(&tapped(&house())).is_empty(), "without limits nothing is timed");
}
