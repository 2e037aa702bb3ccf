//! The kernel with the phone's card applications: every kind of card that is issued opens the gate, and its faults do
//! not.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::*;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use std::sync::LazyLock;
use wavepass_hce::card::Card;
use wavepass_hce::faults::Fault;
use wavepass_hce::issue::*;
use wavepass_hce::phone::{Phone, PhoneFile};
use wavepass_hce::state::Counters;
use wavepass_kernel::{Config, Decision};
use wavepass_protocol::cryptogram::{application_cryptogram, master_key_option_c, session_key};
use wavepass_protocol::lists::Suite;
use wavepass_protocol::tap::{OdaMethod, OdaResult, Reason};
use wavepass_protocol::time::Date;
use wavepass_protocol::token::{Expiry, Token};

const IMK: [u8; 16] = [0x5A; 16];
const EFFECTIVE: Date = Date { year: 2026, month: 1, day: 15 };
const EXPIRY: Expiry = Expiry { year: 29, month: 2 };
const ISSUER_EXPIRY: Expiry = Expiry { year: 36, month: 12 };

static RSA: LazyLock<(RsaAuthority, RsaCardKey)> = LazyLock::new(|| {
    let mut rng = ChaCha20Rng::from_seed([2; 32]);
    let order = RsaAuthorityOrder {
        rid: rsa::RID,
        ca_index: 0xF1,
        iin: [0x62, 0x99, 0x00, 0x02],
        expiry: ISSUER_EXPIRY,
        serial: [0, 0, 9],
    };
    let authority = RsaAuthority::generate(&mut rng, order).unwrap();
    (authority, RsaCardKey::generate(&mut rng, CARD_BITS).unwrap())
});

fn rsa_token() -> Token {
    Token::from_digits("6299000200000001").unwrap()
}

fn rsa_phone(kind: RsaKind, aid: &[u8]) -> PhoneFile {
    let token = rsa_token();
    let order = RsaOrder {
        token,
        expiry: EXPIRY,
        effective: EFFECTIVE,
        psn: 1,
        aid: aid.to_vec(),
        serial: [0, 1, 2],
        master_key: master_key_option_c(&IMK, &token, 1),
    };
    RSA.0.issue_as(kind, &order, &RSA.1).unwrap()
}

/// A gate's configuration for UnionPay's applications.
fn unionpay() -> Config {
    let mut gate = gate_config();
    for aid in [RSA_CREDIT_AID, RSA_QUASI_CREDIT_AID, RSA_OTHER_DEBIT_AID] {
        gate.applications.push(application(aid, Suite::Rsa)).unwrap();
    }
    Config::new(&gate, *b"WAVE", 7).unwrap()
}

fn world() -> World {
    let mut world = World::new();
    let ca = RSA.0.ca_key();
    world.authorities.push(Authority::new(ca.rid, ca.index, Suite::Rsa, &ca.modulus, &[3]));
    world
}

/// Taps a phone at a gate.
fn present(kernel: &mut Gate, config: &Config, world: &World, phone: &mut Phone) -> Decision {
    phone.enter_field();
    tap_by(Host::Eager, kernel, config, world, input(morning()), &mut |c| phone.transmit(c).unwrap().data).0
}

fn phone(file: &PhoneFile) -> Phone {
    Phone::new(file, Counters::memory(), [9; 32]).unwrap()
}

/// The bank's check of the cryptogram, from what the sealed tap has.
fn cryptogram_is_right(kernel: &Gate, psn: u8) -> bool {
    let facts = kernel.facts();
    let atc = facts.atc.unwrap();
    let master = master_key_option_c(&IMK, &facts.token.unwrap(), psn);
    let covered = [facts.pdol_values, &facts.aip.unwrap(), &atc.to_be_bytes(), facts.iad];
    facts.cryptogram == Some(application_cryptogram(&session_key(&master, atc), &covered))
}

#[test]
fn every_kind_of_rsa_card_opens_the_gate_and_its_cryptogram_can_be_checked_from_the_tap() {
    let older = |flow| RsaKind { flow, ..RsaKind::default() };
    let kinds = [
        (RsaKind::default(), OdaMethod::Fdda),
        (RsaKind { signed_format: 0x95, ..RsaKind::default() }, OdaMethod::Fdda),
        (older(RsaFlow::Standard), OdaMethod::Dda),
        (older(RsaFlow::StandardPlain), OdaMethod::Dda),
    ];
    let (config, world, mut kernel) = (unionpay(), world(), gate());
    for aid in [RSA_DEBIT_AID, RSA_CREDIT_AID, RSA_QUASI_CREDIT_AID, RSA_OTHER_DEBIT_AID] {
        for (kind, method) in kinds {
            let mut phone = phone(&rsa_phone(kind, aid));
            for atc in 1..=2 {
                let decision = present(&mut kernel, &config, &world, &mut phone);
                let facts = kernel.facts();
                assert_eq!(decision, OPEN, "{kind:?}: {:?}", facts.oda_fault);
                assert_eq!((facts.aid, facts.token, facts.atc), (aid, Some(rsa_token()), Some(atc)));
                assert_eq!((facts.oda_method, facts.oda_result), (Some(method), OdaResult::Passed));
                assert!(cryptogram_is_right(&kernel, 1), "{kind:?}");
            }
        }
    }
}

static HOUSE: LazyLock<HouseAuthority> = LazyLock::new(|| {
    let order = AuthorityOrder {
        rid: p256::RID,
        ca_index: 7,
        issuer_id: [0x62, 0x99, 0x00, 0x01, 0xFF],
        expiry: Date { year: 2036, month: 12, day: 31 },
        serial: [0, 0, 7],
    };
    HouseAuthority::generate(&mut ChaCha20Rng::from_seed([1; 32]), order)
});

fn house_phone() -> PhoneFile {
    let token = Token::from_digits("6299000100000001").unwrap();
    let order = HouseOrder {
        token,
        expiry: EXPIRY,
        effective: EFFECTIVE,
        psn: 3,
        domain: Some(Domain { network: *b"WAVE", operator: 0 }),
        serial: [0, 0, 0, 0, 1, 1],
        card_key: [4; 32],
        master_key: master_key_option_c(&IMK, &token, 3),
    };
    HOUSE.issue(&order).unwrap()
}

/// Taps a phone at a gate that times cards and has a reader of 2 ms.
fn timed(phone: &mut Phone) -> Decision {
    let mut world = World::new();
    world.authorities.push(Authority::new(p256::RID, 7, Suite::P256, &HOUSE.ca_public_key(), &[]));
    phone.enter_field();
    timed_tap_in(&world, &timing_config(), input(morning()), &mut |c| {
        let answer = phone.transmit(c).unwrap();
        (answer.data, 2_000 + u32::try_from(answer.delay_us).unwrap())
    })
    .0
}

#[test]
fn a_house_phone_is_timed_and_one_whose_exchanges_are_relayed_is_suspected() {
    assert_eq!(timed(&mut phone(&house_phone())), OPEN);
    let relay = |delay_us| timed(&mut phone(&house_phone().with_fault(Fault::Relay { delay_us })));
    assert_eq!(relay(3_300), OPEN, "within what the phone claims");
    assert_eq!(relay(3_301), refused(Reason::RelaySuspected));
    assert_eq!(relay(20_000), refused(Reason::RelaySuspected));
}

#[test]
fn the_timed_command_has_its_place_after_the_selection() {
    let mut card = phone(&house_phone());
    card.enter_field();
    let timed = [0x80, 0xEA, 0, 0, 4, 1, 2, 3, 4, 0];
    assert_eq!(card.transmit(&timed).unwrap().data, [0x69, 0x85]);
    let select = [&[0x00, 0xA4, 0x04, 0x00, 10][..], &common::HOUSE_AID, &[0]].concat();
    card.transmit(&select).unwrap();
    assert_eq!(card.transmit(&timed).unwrap().data.len(), 14);
    assert_eq!(card.transmit(&[0x80, 0xEA, 0, 0, 3, 1, 2, 3, 0]).unwrap().data, [0x67, 0x00]);
    assert_eq!(card.transmit(&[0x80, 0xEA, 1, 0, 4, 1, 2, 3, 4, 0]).unwrap().data, [0x6A, 0x86]);
    let mut plastic = phone(&rsa_phone(RsaKind::default(), RSA_DEBIT_AID));
    plastic.enter_field();
    plastic.transmit(&[&[0x00, 0xA4, 0x04, 0x00, 8][..], RSA_DEBIT_AID, &[0]].concat()).unwrap();
    assert_eq!(plastic.transmit(&timed).unwrap().data, [0x6D, 0x00]);
}

#[test]
fn the_other_market_s_debit_card_opens_with_the_qualifiers_of_that_market() {
    let mut config = unionpay();
    let i = aid_config(&mut config, RSA_OTHER_DEBIT_AID);
    config.applications[i].ttq = [0x27, 0x80, 0x00, 0x80];
    let mut phone = phone(&rsa_phone(RsaKind::default(), RSA_OTHER_DEBIT_AID));
    let mut kernel = gate();
    assert_eq!(present(&mut kernel, &config, &world(), &mut phone), OPEN);
    assert_eq!(kernel.facts().pdol_values[..4], [0x27, 0x80, 0x00, 0x80]);
}

#[test]
fn a_faulty_older_card_is_refused_for_its_fault() {
    let file = rsa_phone(RsaKind { flow: RsaFlow::Standard, ..RsaKind::default() }, RSA_DEBIT_AID);
    for (fault, reason) in [
        (Fault::ForgedSignature, Reason::AuthenticationFailed),
        (Fault::NoCryptogram, Reason::NoCryptogram),
        (Fault::Unused, Reason::UnusedCard),
    ] {
        let mut phone = phone(&file.clone().with_fault(fault.clone()));
        let decision = present(&mut gate(), &unionpay(), &world(), &mut phone);
        assert_eq!(decision, refused(reason), "{fault}");
    }
}

#[test]
fn an_older_card_gives_one_cryptogram_a_tap_and_none_before_its_options() {
    let file = rsa_phone(RsaKind { flow: RsaFlow::Standard, ..RsaKind::default() }, RSA_DEBIT_AID);
    let mut card = phone(&file);
    let mut commands = vec![];
    card.enter_field();
    let (_, sent) = tap_by(Host::Late, &mut gate(), &unionpay(), &world(), input(morning()), &mut |c| {
        commands.push(c.to_vec());
        card.transmit(c).unwrap().data
    });
    let [.., authenticate, generate] = &sent[..] else { panic!("{} commands", sent.len()) };
    assert_eq!(card.transmit(generate).unwrap().data, [0x69, 0x85], "a second one");
    assert_ne!(card.transmit(authenticate).unwrap().data.len(), 2);
    assert_eq!(card.transmit(&[0x00, 0x88, 0x00, 0x00, 1, 7, 0]).unwrap().data, [0x67, 0x00]);
    card.enter_field();
    for command in [authenticate, generate] {
        assert_eq!(card.transmit(command).unwrap().data, [0x69, 0x85]);
    }
    // A card of the quick flow has neither command.
    let mut card = phone(&rsa_phone(RsaKind::default(), RSA_DEBIT_AID));
    present(&mut gate(), &unionpay(), &world(), &mut card);
    assert_eq!(card.transmit(authenticate).unwrap().data, [0x6D, 0x00]);
}
