//! What the rig shows of a tap.

use crate::cast::{TODAY, debit, house, older, tapped, tapped_by, terminal};
use rig::show::{self, Options};
use rig::tap::{Tap, decision_word};
use rig::terminal::Terminal;
use wavepass_hce::faults::Fault;
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
            "rid = \"A000000333\"",
            "index = \"F1\"",
        ],
    );
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
    has(&text, &["this terminal does not accept it", "REFUSED no_application", "add it to a terminal file"]);
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
