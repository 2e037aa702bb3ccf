//! What stands in a sealed tap is what the card gave, byte for byte; and nothing that stands in the clear says who
//! the rider is.

use crate::common::{
    Chip, Host, InField, MORNING, Place, SECOND, TOKENS_EXPIRE, TestGate, idle, journal, passage, phone, rng,
    synchronised, working_gate,
};
use wavepass_gate::Presented;
use wavepass_hce::card::Card;
use wavepass_hce::faults::{Broken, Fault};
use wavepass_hce::issue::{
    CARD_BITS, HOUSE_AID, HOUSE_PDOL, RSA_DEBIT_AID, RSA_PDOL, RsaAuthority, RsaAuthorityOrder, RsaCardKey,
    RsaOrder,
};
use wavepass_journal::sim::block_on;
use wavepass_protocol::lists::Kind;
use wavepass_protocol::tap::{
    ClockQuality, Decision, Direction, Entry, OdaMethod, OdaResult, Outcome, Reason, Tap,
};
use wavepass_protocol::time::Date;
use wavepass_protocol::tlv::{Tag, find, path};
use wavepass_protocol::token::{Expiry, MAX_DIGITS, Token};

type Said = Vec<(Vec<u8>, Vec<u8>)>;

/// Presents a card and listens.
fn overhear(gate: &mut TestGate, card: &mut dyn Card, at: u64) -> (Presented, Said) {
    let mut contact = InField::new(card);
    let presented = block_on(gate.present(&mut contact, synchronised(at), [0xC0, 0xFF, 0xEE, 0x01])).unwrap();
    let said = contact.said;
    idle(gate);
    (presented, said)
}

/// The exchange of GET PROCESSING OPTIONS: the PDOL values sent, and the answer's template.
fn options(said: &Said) -> (Vec<u8>, Vec<u8>) {
    let (command, answer) = said.iter().find(|(command, _)| command[1] == 0xA8).unwrap();
    let data = &command[5..5 + usize::from(command[4])];
    let values = find(data, Tag(0x83)).unwrap().unwrap().to_vec();
    let template = find(&answer[..answer.len() - 2], Tag(0x77)).unwrap().unwrap().to_vec();
    (values, template)
}

/// The tap under a sequence number, as the host reads it.
fn with_tap(host: &mut Host, gate: &mut TestGate, sequence: u32, check: impl FnOnce(&Tap<'_>)) {
    let store = journal(host, gate);
    host.open(&store.entries[&sequence], |_, entry| match entry {
        Entry::Tap(tap) => check(tap),
        Entry::Passage(_) | Entry::Emergency(_) => panic!("entry {sequence} is no tap"),
    });
}

fn assert_as_given(tap: &Tap<'_>, said: &Said) {
    let (values, template) = options(said);
    let given = |tag| find(&template, Tag(tag)).unwrap();
    assert_eq!(tap.pdol_values, values);
    assert_eq!(tap.cryptogram.as_ref().map(|c| &c[..]), given(0x9F26));
    assert_eq!(tap.iad, given(0x9F10).unwrap_or_default());
    assert_eq!(tap.aip.as_ref().map(|a| &a[..]), given(0x82));
    assert_eq!(tap.track2, given(0x57).unwrap_or_default());
    assert_eq!(tap.atc.map(u16::to_be_bytes).as_ref().map(|a| &a[..]), given(0x9F36));
    assert_eq!(tap.cid.as_ref().map(core::slice::from_ref), given(0x9F27));
    let fci = said.iter().rfind(|(c, _)| c[1] == 0xA4).map(|(_, a)| &a[..a.len() - 2]).unwrap();
    assert_eq!(tap.pdol, path(fci, &[Tag(0x6F), Tag(0xA5), Tag(0x9F38)]).unwrap().unwrap());
    assert_eq!(tap.aid, path(fci, &[Tag(0x6F), Tag(0x84)]).unwrap().unwrap());
}

#[test]
fn a_house_phone_s_data_are_sealed_as_the_phone_gave_them() {
    let mut host = Host::new();
    let chip = Chip::new(4);
    let mut gate = working_gate(&mut host, &chip);
    let mut phone = host.phone(1);
    let (presented, said) = overhear(&mut gate, &mut phone, MORNING);
    assert_eq!((presented.decision, presented.sequence), (Decision::Open, Some(1)));
    let token = host.token(1);
    with_tap(&mut host, &mut gate, 1, |tap| {
        assert_as_given(tap, &said);
        assert_eq!((tap.time.0, tap.clock), (MORNING, ClockQuality::Synchronised));
        assert_eq!((tap.station, tap.direction), ("Longxiangqiao", Direction::Entry));
        assert_eq!((tap.decision, tap.aid, tap.pdol), (Decision::Open, HOUSE_AID, HOUSE_PDOL));
        assert_eq!(tap.token, Some(token));
        assert_eq!(tap.expiry, Expiry::new(TOKENS_EXPIRE.0, TOKENS_EXPIRE.1).ok());
        assert!(tap.expiry_signed);
        assert_eq!((tap.psn, tap.atc, tap.cid), (Some(2), Some(1), Some(0x80)));
        assert_eq!((tap.oda_method, tap.oda_result), (Some(OdaMethod::Ecc), OdaResult::Passed));
        assert_eq!(&tap.pdol_values[29..33], [0xC0, 0xFF, 0xEE, 0x01]);
        assert_eq!(tap.timings, presented.timings);
    });
}

fn rsa_card(host: &mut Host) -> wavepass_hce::phone::PhoneFile {
    let mut rng = rng(5);
    let order = RsaAuthorityOrder {
        rid: [0xA0, 0x00, 0x00, 0x03, 0x33],
        ca_index: 0xF1,
        iin: [0x62, 0x99, 0x00, 0x02],
        expiry: Expiry::new(35, 12).unwrap(),
        serial: [0, 0, 3],
    };
    let authority = RsaAuthority::generate(&mut rng, order).unwrap();
    host.rsa = Some(authority.ca_key());
    let order = RsaOrder {
        token: Token::from_digits("6299000200000000017").unwrap(),
        expiry: Expiry::new(30, 6).unwrap(),
        effective: Date::new(2026, 1, 1).unwrap(),
        psn: 1,
        aid: RSA_DEBIT_AID.to_vec(),
        serial: [0, 0, 4],
        master_key: [0x3A; 16],
    };
    authority.issue(&order, &RsaCardKey::generate(&mut rng, CARD_BITS).unwrap()).unwrap()
}

#[test]
fn a_plastic_card_s_data_are_sealed_as_the_card_gave_them() {
    let mut host = Host::new();
    let file = rsa_card(&mut host);
    let chip = Chip::new(4);
    let mut gate = working_gate(&mut host, &chip);
    let (presented, said) = overhear(&mut gate, &mut phone(&file), MORNING);
    assert_eq!(presented.decision, Decision::Open);
    with_tap(&mut host, &mut gate, 1, |tap| {
        assert_as_given(tap, &said);
        assert!(!tap.track2.is_empty());
        assert_eq!((tap.aid, tap.pdol), (RSA_DEBIT_AID, RSA_PDOL));
        assert_eq!(tap.token, Some(file.token()));
        assert_eq!((tap.oda_method, tap.oda_result), (Some(OdaMethod::Fdda), OdaResult::Passed));
    });
    assert_nothing_in_the_clear(&chip, &file.token(), &said);
}

#[test]
fn a_refused_card_is_told_to_the_host_with_its_reason_and_what_it_gave() {
    let mut host = Host::new();
    let chip = Chip::new(4);
    let mut gate = working_gate(&mut host, &chip);
    let deny = host.deny(&[1]);
    host.send_list(&mut gate, Kind::Deny, &deny);
    let (_, said) = overhear(&mut gate, &mut host.phone(1), MORNING);
    let token = host.token(1);
    with_tap(&mut host, &mut gate, 1, |tap| {
        assert_eq!((tap.decision, tap.token), (Decision::Refuse(Reason::Denied), Some(token)));
        assert_as_given(tap, &said);
    });
    let mut broken = phone(&host.phone_file(2).with_fault(Fault::Broken { kind: Broken::Empty }));
    let (presented, _) = overhear(&mut gate, &mut broken, MORNING + SECOND);
    assert_eq!(presented.decision, Decision::Refuse(Reason::CardError));
    with_tap(&mut host, &mut gate, 2, |tap| {
        assert_eq!((tap.decision, tap.oda_result), (presented.decision, OdaResult::NotDone));
        assert_eq!((tap.token, tap.expiry, tap.psn, tap.atc), (None, None, None, None));
        assert_eq!((tap.cryptogram, tap.cid, tap.aip), (None, None, None));
        assert!(tap.track2.is_empty() && tap.iad.is_empty() && tap.pdol_values.is_empty());
    });
}

#[test]
fn each_bad_card_is_refused_for_its_own_reason_and_never_opens() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    let faulty = |host: &Host, fault| host.phone_file(1).with_fault(fault);
    let dated = |host: &Host, effective: (u16, u8, u8), expiry: (u8, u8)| {
        let mut order = host.order(1);
        order.effective = Date::new(effective.0, effective.1, effective.2).unwrap();
        order.expiry = Expiry::new(expiry.0, expiry.1).unwrap();
        host.authority.issue(&order).unwrap()
    };
    let mut elsewhere = host.order(1);
    elsewhere.domain = None;
    let elsewhere = host.authority.issue(&elsewhere).unwrap();
    let cases = [
        (faulty(&host, Fault::ForgedSignature), Reason::AuthenticationFailed),
        (faulty(&host, Fault::WrongAtc), Reason::AuthenticationFailed),
        (faulty(&host, Fault::StaleDol), Reason::AuthenticationFailed),
        (faulty(&host, Fault::Unused), Reason::UnusedCard),
        (faulty(&host, Fault::NoCryptogram), Reason::NoCryptogram),
        (faulty(&host, Fault::FieldLost { after: 3 }), Reason::CardRemoved),
        (faulty(&host, Fault::Slow { delay_us: 400_000 }), Reason::TooSlow),
        (faulty(&host, Fault::Broken { kind: Broken::Oversized }), Reason::CardError),
        (faulty(&host, Fault::Broken { kind: Broken::Endless }), Reason::CardError),
        (dated(&host, (2025, 1, 1), (26, 10)), Reason::Expired),
        (dated(&host, (2026, 12, 1), (30, 6)), Reason::NotYetValid),
        (elsewhere, Reason::NotAcceptedHere),
    ];
    for (n, (file, reason)) in cases.into_iter().enumerate() {
        let (presented, _) = overhear(&mut gate, &mut phone(&file), MORNING + n as u64 * SECOND);
        assert_eq!(presented.decision, Decision::Refuse(reason));
        let sequence = presented.sequence.unwrap();
        with_tap(&mut host, &mut gate, sequence, |tap| assert_eq!(tap.decision, Decision::Refuse(reason)));
    }
}

/// Neither the number, in any form that a card or a clerk writes, nor what the card said of itself is in flash.
fn assert_nothing_in_the_clear(chip: &Chip, token: &Token, said: &Said) {
    let flash = chip.content();
    let holds = |needle: &[u8]| flash.windows(needle.len()).any(|w| w == needle);
    let mut digits = [0; MAX_DIGITS];
    let digits = token.write_digits(&mut digits);
    assert!(!holds(token.bcd()), "padded number");
    assert!(!holds(token.bcd_short()), "packed number");
    assert!(!holds(digits.as_bytes()), "digits");
    assert!(!holds(&digits.as_bytes()[digits.len() - 8..]), "the last eight digits");
    assert!(!holds(&token.bcd_short()[3..]), "the number without its issuer");
    let shifted = digits.bytes().skip(1).map(|d| d - b'0').collect::<Vec<_>>();
    let shifted: Vec<u8> = shifted.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    assert!(!holds(&shifted), "packed from the second digit on");
    let (_, template) = options(said);
    for tag in [0x9F26, 0x57] {
        if let Some(value) = find(&template, Tag(tag)).unwrap() {
            assert!(!holds(value), "tag {tag:X}");
        }
    }
}

#[test]
fn nothing_in_the_clear_identifies_the_rider() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    let deny = host.deny(&[3]);
    host.send_list(&mut gate, Kind::Deny, &deny);
    for n in 1..=4 {
        let (presented, said) = overhear(&mut gate, &mut host.phone(n), MORNING + u64::from(n) * SECOND);
        if presented.decision == Decision::Open {
            passage(&mut gate, presented.sequence.unwrap(), Outcome::Passed, MORNING + 10 * SECOND);
            idle(&mut gate);
        }
        assert_nothing_in_the_clear(&chip, &host.token(n), &said);
    }
}

#[test]
fn two_gates_remember_the_same_rider_under_different_names() {
    // The clear local header of an entry holds a keyed hash of the token: another key, another hash.
    let journals = [[0x4C; 16], [0x4D; 16]].map(|link_key| {
        let mut host = Host { link_key, ..Host::new() };
        let chip = Chip::new(4);
        let mut gate = working_gate(&mut host, &chip);
        overhear(&mut gate, &mut host.phone(1), MORNING);
        // Page header 32, record header 16; in the local header the hash stands at 10.
        chip.content_of(Place::Journal)[32 + 16 + 10..32 + 16 + 18].to_vec()
    });
    assert_ne!(journals[0], journals[1]);
    assert_ne!(journals[0], [0; 8]);
}
