//! Transcripts, and what the kernel says of them again.

use crate::cast::{TODAY, at, debit, house, national, older, phone, tapped, tapped_by, terminal, visa};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use rig::bench::known;
use rig::replay::replay;
use rig::tap::{Tap, kernel, tap};
use rig::transcript::{Exchange, Transcript};
use rig::way::InProcess;
use wavepass_hce::authorities::Authorities;
use wavepass_hce::faults::{Broken, Fault};
use wavepass_hce::hex;
use wavepass_hce::phone::PhoneFile;
use wavepass_hce::profile::{Order, Profile};
use wavepass_protocol::lists::Suite;
use wavepass_protocol::sm2::Convention;
use wavepass_protocol::tap::OdaMethod;
use wavepass_protocol::time::Date;

pub(crate) fn recorded(file: &PhoneFile) -> (Tap, Transcript) {
    let tap = tapped(file);
    let transcript = Transcript::of(&tap, &terminal(), TODAY);
    (tap, Transcript::parse(transcript.to_json().as_bytes()).ok().unwrap())
}

#[test]
fn a_recording_takes_the_place_of_a_regular_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let (_, transcript) = recorded(&house());
    std::fs::write(file("old.json"), "old").unwrap();
    assert!(transcript.save(&file("old.json"), false).is_err());
    assert_eq!(std::fs::read(file("old.json")).unwrap(), b"old");
    std::os::unix::fs::symlink(file("old.json"), file("link")).unwrap();
    assert!(transcript.save(&file("link"), true).is_err());
    assert_eq!(std::fs::read(file("link")).unwrap(), b"old");
    transcript.save(&file("old.json"), true).unwrap();
    assert_eq!(std::fs::read_to_string(file("old.json")).unwrap(), transcript.to_json());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_recorded_tap_has_the_same_verdict_again() {
    let good = [house(), debit(), visa(), older(), national()];
    let faults = [
        None,
        Some(Fault::ForgedSignature),
        Some(Fault::WrongAtc),
        Some(Fault::Unused),
        Some(Fault::NoCryptogram),
        Some(Fault::Locked),
        Some(Fault::StaleDol),
        Some(Fault::FieldLost { after: 3 }),
        Some(Fault::Broken { kind: Broken::Noise }),
        Some(Fault::Broken { kind: Broken::Directory }),
        Some(Fault::Broken { kind: Broken::Empty }),
        Some(Fault::Broken { kind: Broken::Endless }),
    ];
    for file in good {
        for fault in &faults {
            let file = fault.iter().fold(file.clone(), |file, fault| file.with_fault(fault.clone()));
            let (tap, transcript) = recorded(&file);
            assert_eq!(replay(&transcript).verdict, tap.verdict, "{file:?}");
            // INTERNAL AUTHENTICATE signs no counter and no PDOL.
            let unsigned = tap.verdict.method == Some(OdaMethod::Dda)
                && matches!(fault, Some(Fault::WrongAtc | Fault::StaleDol));
            let genuine = unsigned || matches!(fault, None | Some(Fault::Unused | Fault::NoCryptogram));
            assert_eq!(tap.verdict.passed(), genuine, "{file:?}: {:?}", tap.verdict);
        }
    }
}

#[test]
fn the_verdict_is_the_json_that_scripts_read() {
    let verdict = |file: &PhoneFile| replay(&recorded(file).1).verdict.to_json().to_string();
    let passed = r#"{"method":"fdda","oda":"passed","reason":null,"signed_format":"95","step":null}"#;
    assert_eq!(verdict(&visa()), passed);
    let failed = verdict(&house().with_fault(Fault::ForgedSignature));
    assert!(failed.contains(r#""method":"ecc","oda":"failed","reason":"dynamic signature: "#), "{failed}");
    assert!(failed.ends_with(r#""signed_format":null,"step":"dynamic_signature"}"#), "{failed}");
}

/// The tap of a phone whose profile is a copy of the national card's with a line more, in front of a terminal that is
/// told the same.
fn tapped_by_convention(line: &str, convention: Convention) -> (Tap, Transcript) {
    let profile = Profile::parse(&format!("{}{line}\n", Profile::text("sm2").unwrap())).unwrap();
    let authorities = Authorities::generate([6; 32], TODAY);
    let file = profile.issue(&authorities, &Order::new(TODAY), &mut ChaCha20Rng::from_seed([7; 32])).unwrap();
    let mut told = terminal();
    told.config.sm2 = convention;
    told.keys = known(&authorities).unwrap();
    let tap = tapped_by(&file, &told, TODAY);
    let transcript = Transcript::of(&tap, &told, TODAY);
    (tap, transcript)
}

#[test]
fn an_sm2_card_that_signs_by_another_convention_is_replayed_by_it() {
    let usual = Convention::DEFAULT;
    for (line, convention, recorded, wrong) in [
        (
            "user_id = \"ALICE123@YAHOO.COM\"",
            Convention::new("ALICE123@YAHOO.COM", usual.counter_prefix()).unwrap(),
            "\"user_id\": \"ALICE123@YAHOO.COM\"",
            "\"user_id\": \"ALICE123@YAHOO.COMM\"",
        ),
        (
            "counter_prefix = \"000102\"",
            Convention::new(usual.user_id(), &[0, 1, 2]).unwrap(),
            "\"counter_prefix\": \"000102\"",
            "\"counter_prefix\": \"000103\"",
        ),
    ] {
        let (tap, transcript) = tapped_by_convention(line, convention);
        assert!(tap.verdict.passed(), "{line}: {:?}", tap.verdict.failure);
        let text = transcript.to_json();
        assert!(text.contains(recorded), "{text}");
        let read = |text: &str| Transcript::parse(text.as_bytes()).ok().unwrap();
        assert_eq!(read(&text).sm2, convention, "{line}");
        assert_eq!(replay(&read(&text)).verdict, tap.verdict, "{line}");
        let replayed = replay(&read(&text.replace(recorded, wrong)));
        assert!(!replayed.verdict.passed(), "{line}");
        // What it leaves out is as usual.
        let (from, to) = (text.find("  \"sm2\"").unwrap(), text.find("  \"date\"").unwrap());
        let stated = |sm2: &str| [&text[..from], sm2, &text[to..]].concat();
        assert_eq!(replay(&read(&stated(&format!("\"sm2\": {{{recorded}}},")))).verdict, tap.verdict);
        assert!(!replay(&read(&stated(""))).verdict.passed());
    }
}

#[test]
fn how_sm2_cards_sign_is_recorded_of_a_card_that_signs_otherwise_alone() {
    let mut other = terminal();
    for file in [national(), house(), debit()] {
        let (_, transcript) = recorded(&file);
        assert!(!transcript.to_json().contains("\"sm2\": {"), "{file:?}");
        other.config.sm2 = Convention::new("ALICE", &[]).unwrap();
        let transcript = Transcript::of(&tapped_by(&file, &other, TODAY), &other, TODAY);
        assert_eq!(transcript.sm2 != Convention::DEFAULT, file.token() == national().token(), "{file:?}");
    }
}

/// Neither which key is missing nor how the card signs depends on the keys that are there.
#[test]
fn a_recording_without_keys_is_of_the_card_s_own_method() {
    let mut nobody = terminal();
    nobody.keys.clear();
    for file in [house(), debit(), visa(), older(), national()] {
        let chained = file.clone().with_fault(Fault::Chained { bytes: 50 });
        let lost = file.clone().with_fault(Fault::FieldLost { after: 3 });
        for file in [file, chained, lost] {
            let tap = tapped_by(&file, &nobody, TODAY);
            let transcript = Transcript::of(&tap, &nobody, TODAY);
            assert!(transcript.keys.is_empty());
            assert_eq!(replay(&transcript).verdict, tap.verdict, "{file:?}");
        }
    }
    // Another provider's card tells it by its certificate.
    let (_, transcript) = recorded(&house());
    let other = Transcript { keys: Vec::new(), ..transcript }.to_json().replace("F057415645", "F011223344");
    let verdict = replay(&Transcript::parse(other.as_bytes()).ok().unwrap()).verdict;
    let authority = verdict.chain.authority.unwrap();
    assert_eq!((verdict.method, authority.suite), (Some(OdaMethod::Ecc), Suite::P256));
    assert_eq!((authority.rid, authority.index), ([0xF0, 0x11, 0x22, 0x33, 0x44], 1));
}

#[test]
fn a_certificate_past_its_day_proves_nothing() {
    let late = Date { year: 2029, month: 3, day: 1 };
    for file in [house(), debit(), older()] {
        let transcript = Transcript { date: late, ..recorded(&file).1 };
        let replayed = replay(&transcript).verdict;
        assert_eq!(replayed.failure.as_ref().map(|f| f.step), Some("card_certificate"));
        assert_eq!(replayed, tapped_by(&file, &terminal(), late).verdict);
    }
}

/// Another terminal fills the card's list with values of its own, some of which this kernel never sends.
#[test]
fn another_terminal_s_recording_is_verified_under_what_that_terminal_sent() {
    for file in [house(), debit(), visa(), older(), national()] {
        let mut other = terminal();
        other.config.amount_fen = 12_345;
        other.config.currency = 0x0978;
        other.config.country = 0x0276;
        let mut phone = phone(&file);
        let input = wavepass_kernel::TapInput {
            unpredictable: [1, 2, 3, 4],
            ..at(Date { year: 2027, month: 5, day: 6 })
        };
        let tapped = tap(&mut kernel(), &other, input, &mut InProcess::new(&mut phone), &mut |_| {});
        let transcript = Transcript::of(&tapped, &other, TODAY);
        assert!(replay(&transcript).verdict.passed(), "{file:?}");
    }
}

#[test]
fn a_recording_without_a_directory_replays() {
    for file in [house(), debit(), visa(), older(), national()] {
        let (tap, mut transcript) = recorded(&file);
        transcript.exchanges.remove(0);
        assert_eq!(replay(&transcript).verdict, tap.verdict);
    }
}

/// Some cards sign in the quick flow without saying so, and some terminals ask for it all the same.
#[test]
fn a_unionpay_card_without_its_flag_replays_by_what_was_recorded() {
    let (tap, mut transcript) = recorded(&debit());
    let flag = |e: &Exchange| e.answer.windows(2).position(|w| w == [0xDF, 0x61]);
    let (i, place) = transcript.exchanges.iter().enumerate().find_map(|(i, e)| Some((i, flag(e)?))).unwrap();
    transcript.exchanges[i].answer[place + 3] = 0;
    assert_eq!(replay(&transcript).verdict, tap.verdict);
}

#[test]
fn a_wrong_length_that_was_recorded_replays() {
    let (tap, mut transcript) = recorded(&debit());
    let place = transcript.exchanges.iter().position(|e| e.command.starts_with(&[0, 0xB2])).unwrap();
    let mut again = transcript.exchanges[place].clone();
    let le = u8::try_from(again.answer.len() - 2).unwrap();
    let refused = Exchange { command: again.command.clone(), answer: vec![0x6C, le] };
    *again.command.last_mut().unwrap() = le;
    transcript.exchanges.splice(place..=place, [refused, again]);
    assert_eq!(replay(&transcript).verdict, tap.verdict);
}

/// As a list of keys has them that gates are told of.
#[test]
fn a_key_s_check_value_is_looked_at_where_a_recording_states_it() {
    let transcript = recorded(&house()).1;
    let x = format!("\"x\": \"{}\"", hex::encode(&transcript.keys[0].key));
    let stating = |value: &[u8]| {
        let text = transcript.to_json();
        assert!(text.contains(&x));
        error(&text.replace(&x, &format!("{x}, \"check_value\": \"{}\"", hex::encode(value))))
    };
    assert_eq!(stating(&transcript.keys[0].check_value()), "");
    let wrong = stating(&[0; 20]);
    assert!(wrong.starts_with("ca_keys[0]: the check value is 0000"), "{wrong}");
}

/// What this kernel does not take of other schemes' cards is named.
#[test]
fn a_card_that_signs_by_fdda_version_00_is_refused_by_name() {
    let (_, mut transcript) = recorded(&debit());
    let version = [0x9F, 0x69];
    let found = transcript.exchanges.iter_mut().find_map(|e| {
        let at = e.answer.windows(2).position(|w| w == version)?;
        Some(&mut e.answer[at + 3])
    });
    let version = found.unwrap();
    assert_eq!(std::mem::replace(version, 0x00), 0x01);
    let failure = replay(&transcript).verdict.failure.unwrap();
    assert_eq!(failure.step, "dynamic_signature");
    assert_eq!(failure.reason, "dynamic signature: fDDA version 00 is not accepted");
}

fn error(text: &str) -> String {
    Transcript::parse(text.as_bytes()).err().map(|e| e.to_string()).unwrap_or_default()
}

#[test]
fn an_unusable_file_is_named_with_its_place_and_never_quoted() {
    let key = |more: &str| {
        format!(
            r#"{{"ca_keys":[{{"rid":"A000000333","index":"08"{more}}}],"date":"2026-11-23","exchange":[{{"c":"00A40400","r":"9000"}}]}}"#
        )
    };
    let exchange = |e: &str| format!(r#"{{"ca_keys":[],"date":"2026-11-23","exchange":[{e}]}}"#);
    let modulus = "C1".repeat(128);
    for (text, wanted) in [
        (String::new(), "no transcript: line 1, column 0: it ends too early"),
        ("6299000100000000001".to_owned(), "no transcript: line 1, column 19: not what should stand there"),
        ("{6299}".to_owned(), "no transcript: line 1, column 2: not JSON"),
        (exchange(""), "exchange: nothing was exchanged"),
        (exchange(r#"{"c":"00A4","r":"9000"}"#), "exchange[0].c: a command has at least 4 bytes"),
        (
            exchange(r#"{"c":"00A40400","r":"9"}"#),
            "exchange[0].r: hexadecimal text has an even number of digits, not 1",
        ),
        (exchange(&[r#"{"c":"00A40400","r":"9000"}"#; 257].join(",")), "exchange: at most 256"),
        (key(""), "ca_keys[0].exponent: is missing"),
        (key(r#","suite":"11""#), "ca_keys[0].suite: \"10\" (P-256), \"sm2\", or none for RSA"),
        (key(r#","modulus":"00","exponent":"03""#), "ca_keys[0]: a RSA key has 128 to 256 bytes, not 1"),
        (
            key(&format!(r#","modulus":"{modulus}","exponent":"05""#)),
            "ca_keys[0]: the exponent is neither 3 nor 65537",
        ),
        (key(r#","suite":"10","x":"00""#), "ca_keys[0]: a P-256 key has 32 bytes, not 1"),
        (
            exchange(r#"{"c":"00A40400","r":"9000"}"#).replace("\"date\"", "\"losst\":\"removed\",\"date\""),
            "losst: no such key; there are ca_keys, sm2, date, exchange, lost",
        ),
        (
            exchange(r#"{"c":"00A40400","r":"9000"}"#)
                .replace("\"date\"", "\"sm2\":{\"prefix\":\"\"},\"date\""),
            "sm2.prefix: no such key; there are user_id, counter_prefix",
        ),
        (
            exchange(r#"{"c":"00A40400","r":"9000"}"#)
                .replace("\"date\"", "\"sm2\":{\"counter_prefix\":\"2\"},\"date\""),
            "sm2.counter_prefix: hexadecimal text has an even number of digits, not 1",
        ),
        (
            exchange(r#"{"c":"00A40400","r":"9000"}"#)
                .replace("\"date\"", "\"sm2\":{\"counter_prefix\":\"000102030405060708\"},\"date\""),
            "sm2: at most 8 bytes stand before the counter, not 9",
        ),
        (exchange(r#"{"c":"00A40400","r":"9000","t":"5"}"#), "exchange[0].t: no such key; there are c, r"),
        (
            key(&format!(r#","modulus":"{modulus}","exponent":"03","expires":"2030-12-31""#)),
            "ca_keys[0].expires: no such key; there are rid, index, suite, modulus, exponent, x, y, check_value",
        ),
        (
            exchange(r#"{"c":"00A40400","r":"9000","6299000100000000001":""}"#),
            "exchange[0].…: no such key; there are c, r",
        ),
        (
            key(&format!(r#","modulus":"{modulus}","exponent":"03","check_value":"00""#)),
            "ca_keys[0].check_value: 20 bytes",
        ),
        (
            exchange(r#"{"c":"00A40400","r":"9000"}"#).replace("11-23", "13-23"),
            "date: a date YYYY-MM-DD of this century",
        ),
    ] {
        assert_eq!(error(&text), wanted);
    }
    assert_eq!(error(&" ".repeat((1 << 20) + 1)), "a transcript has at most 1048576 bytes");
}

#[test]
fn a_transcript_is_readable_by_its_owner_only_and_never_replaced_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("card.json");
    let (_, transcript) = recorded(&house());
    transcript.save(&path, false).unwrap();
    assert!(transcript.save(&path, false).is_err());
    transcript.save(&path, true).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert!(Transcript::load(&path).ok().unwrap() == transcript);
}
