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
    HOUSE.issue(&house_order()).unwrap()
}

fn house_order() -> HouseOrder {
    let token = Token::from_digits("6299000100000001").unwrap();
    HouseOrder {
        token,
        expiry: EXPIRY,
        effective: EFFECTIVE,
        psn: 3,
        domain: Some(Domain { network: *b"WAVE", operator: 0 }),
        serial: [0, 0, 0, 0, 1, 1],
        card_key: [4; 32],
        master_key: master_key_option_c(&IMK, &token, 3),
    }
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
    // A phone that cannot be timed is taken as it is, and has nothing of it in its file.
    let untimed = HOUSE.issue_as(false, &house_order()).unwrap();
    assert!(!untimed.to_json().contains("relay"));
    assert_eq!(timed(&mut phone(&untimed.with_fault(Fault::Relay { delay_us: 20_000 }))), OPEN);
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

/// The national suite.
#[cfg(feature = "sm2")]
mod sm2 {
    use super::*;
    use wavepass_hce::faults::certificate_of;
    use wavepass_kernel::{OdaFault, SuiteError};
    use wavepass_protocol::lists::Revocation;
    use wavepass_protocol::sm2::{Convention, Sm2Error};

    static SM2: LazyLock<Sm2Authority> = LazyLock::new(|| authority(1));

    const AUTHORITY: Sm2AuthorityOrder = Sm2AuthorityOrder {
        rid: rsa::RID,
        ca_index: 0xF1,
        iin: [0x62, 0x99, 0x00, 0x02],
        expiry: ISSUER_EXPIRY,
        serial: [0, 0, 11],
    };

    fn authority(seed: u8) -> Sm2Authority {
        Sm2Authority::generate(&mut ChaCha20Rng::from_seed([seed; 32]), AUTHORITY).unwrap()
    }

    fn order(n: u32) -> RsaOrder {
        let token = Token::from_digits(&format!("62990002{n:08}")).unwrap();
        RsaOrder {
            token,
            expiry: EXPIRY,
            effective: EFFECTIVE,
            psn: 1,
            aid: RSA_DEBIT_AID.to_vec(),
            serial: [0, 1, 3],
            master_key: master_key_option_c(&IMK, &token, 1),
        }
    }

    fn sm2_phone(n: u32) -> PhoneFile {
        SM2.issue(&order(n), &[n as u8; 32]).unwrap()
    }

    /// The authorities of both suites have the same provider and index.
    fn both() -> World {
        let mut world = world();
        let ca = SM2.ca_key();
        world.authorities.push(Authority::new(ca.rid, ca.index, Suite::Sm2, &ca.key, &[]));
        world
    }

    /// A gate whose list has the debit application with these suites.
    fn serving(suites: &[Suite]) -> Config {
        let mut gate = gate_config();
        gate.applications.clear();
        for suite in suites {
            gate.applications.push(application(RSA_DEBIT_AID, *suite)).unwrap();
        }
        Config::new(&gate, *b"WAVE", 7).unwrap()
    }

    fn fault_of(config: &Config, world: &World, file: &PhoneFile) -> (Decision, Option<OdaFault>) {
        let mut kernel = gate();
        (present(&mut kernel, config, world, &mut phone(file)), kernel.facts().oda_fault)
    }

    const FORGED: Decision = Decision::Refuse(Reason::AuthenticationFailed);

    #[test]
    fn an_sm2_card_opens_a_gate_that_serves_the_suite_alone_or_with_rsa() {
        for suites in [&[Suite::Sm2][..], &[Suite::Rsa, Suite::Sm2], &[Suite::Sm2, Suite::Rsa]] {
            let (config, world, mut kernel) = (serving(suites), both(), gate());
            let mut phone = phone(&sm2_phone(1));
            for atc in 1..=2 {
                let decision = present(&mut kernel, &config, &world, &mut phone);
                let facts = kernel.facts();
                assert_eq!(decision, OPEN, "{suites:?}: {:?}", facts.oda_fault);
                assert_eq!((facts.token, facts.atc), (Some(order(1).token), Some(atc)));
                assert_eq!((facts.expiry, facts.expiry_signed), (Some(EXPIRY), true));
                assert_eq!((facts.oda_method, facts.oda_result), (Some(OdaMethod::Sm2), OdaResult::Passed));
                assert_eq!(facts.pdol_values.last(), Some(&1), "DF69: the gate knows the suite");
                assert!(cryptogram_is_right(&kernel, 1));
            }
        }
    }

    #[test]
    fn an_rsa_card_opens_where_both_are_served_and_not_where_sm2_alone_is() {
        let file = rsa_phone(RsaKind::default(), RSA_DEBIT_AID);
        for suites in [[Suite::Rsa, Suite::Sm2], [Suite::Sm2, Suite::Rsa]] {
            let mut kernel = gate();
            let decision = present(&mut kernel, &serving(&suites), &both(), &mut phone(&file));
            assert_eq!((decision, kernel.facts().oda_method), (OPEN, Some(OdaMethod::Fdda)));
        }
        let length = OdaFault::IssuerCertificate(SuiteError::Sm2(Sm2Error::Length(248)));
        // The authority's RSA key is not even looked at.
        assert_eq!(fault_of(&serving(&[Suite::Sm2]), &both(), &file), (FORGED, Some(length)));
    }

    #[test]
    fn a_gate_that_serves_rsa_alone_does_not_say_that_it_knows_sm2_and_takes_no_sm2_answer() {
        let config = serving(&[Suite::Rsa]);
        let mut card = phone(&sm2_phone(1));
        let mut options = vec![];
        card.enter_field();
        let (decision, _) = tap_by(Host::Late, &mut gate(), &config, &both(), input(morning()), &mut |c| {
            if c[1] == 0xA8 {
                options = c.to_vec();
            }
            card.transmit(c).unwrap().data
        });
        assert_eq!(options[options.len() - 2], 0, "DF69");
        assert_eq!((decision, card.atc(0).unwrap()), (refused(Reason::CardError), 0));
        // Even where somebody in the middle tells the card otherwise.
        card.enter_field();
        let mut kernel = gate();
        let decision = tap_by(Host::Late, &mut kernel, &config, &both(), input(morning()), &mut |c| {
            let mut command = c.to_vec();
            if c[1] == 0xA8 {
                let at = command.len() - 2;
                command[at] = 1;
            }
            card.transmit(&command).unwrap().data
        });
        assert_eq!(decision.0, FORGED);
    }

    #[test]
    fn a_changed_bit_in_what_an_sm2_card_signs_or_what_is_certified_of_it_is_found() {
        let (config, world) = (serving(&[Suite::Rsa, Suite::Sm2]), both());
        for tag in [0x90, 0x9F46, 0x9F4B, 0x9F69, 0x9F36, 0x82, 0x5A, 0x5F24, 0x5F25, 0x9F4A, 0x8F] {
            let (mut place, mut len) = (0, 1);
            while place < len {
                // Another counter each time would be another signature.
                let mut card = phone(&sm2_phone(2));
                card.enter_field();
                let mut kernel = gate();
                let decision =
                    tap_by(Host::Eager, &mut kernel, &config, &world, input(morning()), &mut |c| {
                        patch(card.transmit(c).unwrap().data, tag, |value| {
                            len = value.len();
                            value[place] ^= 1 << (place % 8);
                        })
                    });
                assert_eq!(decision.0, FORGED, "byte {place} of {tag:X}");
                // The certificates' inner bytes are those of the layout's own tests.
                place += if len > 16 { 7 } else { 1 };
            }
        }
    }

    #[test]
    fn an_sm2_card_of_another_authority_issuer_number_or_tap_is_refused() {
        let (config, mut world) = (serving(&[Suite::Rsa, Suite::Sm2]), both());
        let stranger = authority(2).issue(&order(3), &[3; 32]).unwrap();
        let signature = Some(OdaFault::IssuerCertificate(SuiteError::Sm2(Sm2Error::Signature)));
        assert_eq!(fault_of(&config, &world, &stranger), (FORGED, signature));
        let swapped = certificate_of(sm2_phone(3), &sm2_phone(4));
        let signature = Some(OdaFault::CardCertificate(SuiteError::Sm2(Sm2Error::Signature)));
        assert_eq!(fault_of(&config, &world, &swapped), (FORGED, signature));
        let forged = sm2_phone(3).with_fault(Fault::ForgedSignature);
        let signature = Some(OdaFault::DynamicSignature(SuiteError::Sm2(Sm2Error::Signature)));
        assert_eq!(fault_of(&config, &world, &forged), (FORGED, signature));
        let counter = sm2_phone(3).with_fault(Fault::WrongAtc);
        let mismatch = Some(OdaFault::DynamicSignature(SuiteError::Sm2(Sm2Error::AtcMismatch)));
        assert_eq!(fault_of(&config, &world, &counter), (FORGED, mismatch));
        let stale = sm2_phone(3).with_fault(Fault::StaleDol);
        assert_eq!(fault_of(&config, &world, &stale), (FORGED, Some(OdaFault::UnprotectedPdol)));
        for (fault, reason) in
            [(Fault::NoCryptogram, Reason::NoCryptogram), (Fault::Unused, Reason::UnusedCard)]
        {
            let file = sm2_phone(3).with_fault(fault);
            assert_eq!(fault_of(&config, &world, &file).0, refused(reason));
        }
        world.revoked.push(Revocation { rid: rsa::RID, index: 0xF1, serial: [0, 0, 11] });
        assert_eq!(fault_of(&config, &world, &sm2_phone(3)), (FORGED, Some(OdaFault::IssuerRevoked)));
        world.authorities.retain(|a| a.suite != Suite::Sm2);
        assert_eq!(fault_of(&config, &world, &sm2_phone(3)), (FORGED, Some(OdaFault::CaKeyUnknown)));
    }

    /// What no source settles is the configuration's to say: a gate that is told the same opens, and any other says at
    /// which signature it did not understand the card.
    #[test]
    fn a_card_that_signs_by_another_convention_opens_a_gate_that_is_told_of_it_and_no_other() {
        let issuer = OdaFault::IssuerCertificate(SuiteError::Sm2(Sm2Error::Signature));
        let form = OdaFault::DynamicSignature(SuiteError::Sm2(Sm2Error::DynamicData));
        let usual = Sm2Kind::default();
        let convention = |user_id: &str, prefix: &[u8]| Convention::new(user_id, prefix).unwrap();
        for (kind, fault) in [
            (Sm2Kind { convention: convention("ALICE123@YAHOO.COM", &[2]), ..usual }, Some(issuer)),
            (Sm2Kind { convention: convention("", &[2]), ..usual }, Some(issuer)),
            (Sm2Kind { convention: convention(usual.convention.user_id(), &[]), ..usual }, Some(form)),
            // Any bytes are accepted there.
            (Sm2Kind { key_parameters: [0xAA, 0xBB], ..usual }, None),
        ] {
            let mut rng = ChaCha20Rng::from_seed([5; 32]);
            let authority = Sm2Authority::generate_as(&kind, &mut rng, AUTHORITY).unwrap();
            let file = authority.issue_as(&kind, &order(5), &[5; 32]).unwrap();
            let file = PhoneFile::from_json(&file.to_json()).unwrap();
            let ca = authority.ca_key();
            let mut world = world();
            world.authorities.push(Authority::new(ca.rid, ca.index, Suite::Sm2, &ca.key, &[]));
            let mut config = serving(&[Suite::Sm2]);
            let decision = if fault.is_none() { OPEN } else { FORGED };
            assert_eq!(fault_of(&config, &world, &file), (decision, fault), "{kind:?}");
            config.sm2 = kind.convention;
            assert_eq!(fault_of(&config, &world, &file), (OPEN, None), "{kind:?}");
            // Nor does a card that signs as usual open this gate.
            let decision = fault_of(&config, &both(), &sm2_phone(1)).0;
            assert_eq!(decision, if fault.is_none() { OPEN } else { FORGED });
            assert_eq!(Sm2Authority::from_json(&authority.to_json()).unwrap().ca_key(), ca);
        }
        let other = Sm2Kind { convention: convention("ALICE", &[2]), ..usual };
        assert!(matches!(SM2.issue_as(&other, &order(5), &[5; 32]), Err(IssueError::UserId)));
    }

    /// An SM2 card without DF61: INTERNAL AUTHENTICATE and GENERATE AC. `data` is what it signs with its dynamic number.
    fn older_card(data: &[u8]) -> impl FnMut(&[u8]) -> Vec<u8> {
        use wavepass_protocol::apdu::Command;
        use wavepass_protocol::sm2::{
            CardCertificate, CardFields, IssuerCertificate, IssuerFields, SigningKey, unverified,
        };
        const AIP: [u8; 2] = [0x20, 0x00];
        let [ca, issuer, card] =
            [1, 2, 3].map(|seed| SigningKey::from_bytes(&[seed; 32], &Convention::DEFAULT).unwrap());
        let fields = IssuerFields {
            issuer_id: [0x62, 0x99, 0x00, 0x02],
            expiry: ISSUER_EXPIRY,
            serial: [0, 0, 1],
            key_parameters: unverified::KEY_PARAMETERS,
            key: issuer.public_key(),
        };
        let issuer_certificate = IssuerCertificate::issue(&fields, &ca).unwrap();
        let token = order(1).token;
        let signed = [
            tlv(0x5A, token.bcd_short()),
            tlv(0x5F24, &[0x29, 0x02, 0x28]),
            tlv(0x8C, &[0x9F, 0x37, 4, 0x9A, 3]),
            tlv(0x9F49, &[0x9F, 0x37, 4, 0x9F, 0x02, 6]),
        ]
        .concat();
        let fields = CardFields {
            token,
            expiry: EXPIRY,
            serial: [0, 0, 2],
            key_parameters: unverified::KEY_PARAMETERS,
            key: card.public_key(),
        };
        let card_certificate = CardCertificate::issue(&fields, &issuer, &signed, &AIP).unwrap();
        let pdol = tlv(0xA5, &tlv(0x9F38, &[0x9F, 0x66, 4, 0xDF, 0x69, 1]));
        let files = Files {
            aid: UNIONPAY_AID.to_vec(),
            fci: tlv(0x6F, &[tlv(0x84, &UNIONPAY_AID), pdol].concat()),
            records: vec![
                (1, 1, tlv(0x70, &[tlv(0x8F, &[0x18]), tlv(0x90, &issuer_certificate)].concat())),
                (1, 2, tlv(0x70, &tlv(0x9F46, &card_certificate))),
                (2, 1, tlv(0x70, &signed)),
            ],
        };
        let data = data.to_vec();
        move |c| match Command::parse(c).unwrap() {
            Command { ins: 0x88, data: sent, .. } => {
                let body = [&[0x15, data.len() as u8][..], &data].concat();
                let signature = card.sign(&[&body, sent]).unwrap();
                ok(&tlv(0x77, &tlv(0x9F4B, &[&body[..], &signature].concat())))
            }
            Command { ins: 0xAE, .. } => {
                ok(&tlv(0x80, &[&[0x80, 0, 7][..], &[0xAC; 8], &[7, 1, 1, 3, 0xA0]].concat()))
            }
            _ => files.answer(c, |values| {
                assert_eq!(values, [0x61, 0x00, 0x00, 0x80, 0x01], "qualifiers, and DF69");
                tlv(0x80, &[&AIP[..], &[0x08, 1, 2, 0, 0x10, 1, 1, 1]].concat())
            }),
        }
    }

    #[test]
    fn an_older_sm2_card_opens_by_internal_authenticate_and_only_with_its_own_signature() {
        use wavepass_protocol::sm2::SigningKey;
        let config = serving(&[Suite::Rsa, Suite::Sm2]);
        let mut world = World::new();
        let ca = SigningKey::from_bytes(&[1; 32], &Convention::DEFAULT).unwrap().public_key();
        world.authorities.push(Authority::new(rsa::RID, 0x18, Suite::Sm2, ca.as_bytes(), &[]));
        let mut card = older_card(&[4, 1, 2, 3, 4]);
        let mut kernel = gate();
        let (decision, commands) =
            tap_by(Host::Eager, &mut kernel, &config, &world, input(morning()), &mut card);
        assert_eq!(decision, OPEN, "{:?}", kernel.facts().oda_fault);
        assert_eq!((kernel.facts().oda_method, kernel.facts().atc), (Some(OdaMethod::Sm2), Some(7)));
        assert_eq!(commands.last().map(|c| c[1]), Some(0xAE));
        for place in 0..1 + 1 + 5 + 64 {
            let mut changed = |c: &[u8]| patch(card(c), 0x9F4B, |value| value[place] ^= 0x40);
            assert_eq!(
                tap_by(Host::Late, &mut kernel, &config, &world, input(morning()), &mut changed).0,
                FORGED
            );
        }
        // What was signed for another tap.
        let mut answers = vec![];
        tap_by(Host::Late, &mut kernel, &config, &world, input(morning()), &mut |c| {
            answers.push(card(c));
            answers.last().unwrap().clone()
        });
        let mut again = answers.into_iter();
        let other = wavepass_kernel::TapInput { unpredictable: [9; 4], ..input(morning()) };
        let replayed =
            tap_by(Host::Late, &mut kernel, &config, &world, other, &mut |_| again.next().unwrap());
        assert_eq!(replayed.0, FORGED);
        // A dynamic number of a length that none has.
        let mut odd = older_card(&[9, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let refused = tap_by(Host::Late, &mut kernel, &config, &world, input(morning()), &mut odd).0;
        assert_eq!(refused, FORGED);
    }

    #[test]
    fn an_sm2_authority_survives_its_file_and_the_same_randomness_gives_the_same_cards() {
        let again = Sm2Authority::from_json(&SM2.to_json()).unwrap();
        assert_eq!(again.ca_key(), SM2.ca_key());
        assert_eq!(again.issue(&order(1), &[1; 32]).unwrap().to_json(), sm2_phone(1).to_json());
        assert_eq!(authority(1).to_json(), SM2.to_json());
        assert_eq!(PhoneFile::from_json(&sm2_phone(1).to_json()).unwrap().to_json(), sm2_phone(1).to_json());
        let other = authority(2).to_json();
        let key = |json: &str| json.split("\"issuer_key\"").nth(1).unwrap().to_owned();
        let mixed = SM2.to_json().replace(&key(&SM2.to_json()), &key(&other));
        assert!(matches!(Sm2Authority::from_json(&mixed), Err(IssueError::Inconsistent)));
        let mut elsewhere = order(1);
        elsewhere.token = Token::from_digits("6299000100000001").unwrap();
        assert!(matches!(SM2.issue(&elsewhere, &[1; 32]), Err(IssueError::NotOurToken)));
    }
}
