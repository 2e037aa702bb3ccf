//! One tap from the first SELECT to the decision: what opens a gate, and what does not.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::*;
use wavepass_kernel::{
    Asked, Config, Decision, Fate, Kernel, Lost, OdaFault, Passback, Phase, Step, Work, limits,
};
use wavepass_p256_verify::FastVerifier;
use wavepass_protocol::ecc::{P256Verifier, PublicKey, Verifier};
use wavepass_protocol::lists::{GateConfig, RelayLimits, Suite};
use wavepass_protocol::tap::{OdaMethod, OdaResult, Reason};
use wavepass_protocol::time::Date;
use wavepass_protocol::token::{Expiry, Token};

/// A verifier that counts.
#[derive(Default)]
struct Counting(usize);

impl Verifier for Counting {
    fn verify(&mut self, key: &PublicKey, message: &[&[u8]], signature: &[u8; 64]) -> bool {
        self.0 += 1;
        P256Verifier.verify(key, message, signature)
    }
}

fn p256_with(change: impl FnOnce(&mut p256::Spec)) -> Decision {
    let mut spec = p256::Spec::new();
    change(&mut spec);
    let card = spec.issue();
    first_tap(&World::new(), &mut |c| card.answer(c))
}

fn rsa_with(change: impl FnOnce(&mut rsa::Spec)) -> Decision {
    let mut spec = rsa::Spec::new();
    change(&mut spec);
    let mut card = spec.issue();
    first_tap(&World::new(), &mut |c| card.answer(c))
}

#[test]
fn a_genuine_p256_card_opens_the_gate_and_its_facts_are_recorded() {
    let card = p256::card();
    let mut kernel = gate();
    assert_eq!(tap(&mut kernel, &World::new(), &mut |c| card.answer(c)), OPEN);
    let facts = kernel.facts();
    assert_eq!(facts.aid, HOUSE_AID);
    assert_eq!(
        (facts.token, facts.expiry, facts.expiry_signed),
        (Some(token()), Some(Expiry { year: 30, month: 12 }), true)
    );
    assert_eq!((facts.psn, facts.atc, facts.cid), (Some(1), Some(5), Some(0x80)));
    assert_eq!((facts.cryptogram, facts.iad), (Some([0xAC; 8]), &card.spec.iad[..]));
    assert_eq!((facts.aip, facts.track2), (Some([0x21, 0x00]), &[][..]));
    assert_eq!(facts.pdol, p256::PDOL);
    let values = [
        &[0x21, 0x80, 0x00, 0x80][..],
        &[0, 0, 0, 0, 3, 0],
        &[0; 6],
        &[0x01, 0x56],
        &[0; 5],
        &[0x01, 0x56],
        &[0x26, 0x11, 0x24],
        &[0],
        &[0xC0, 0xFF, 0xEE, 0x01],
    ];
    assert_eq!(facts.pdol_values, values.concat());
    assert_eq!(
        (facts.oda_method, facts.oda_result, facts.oda_fault),
        (Some(OdaMethod::Ecc), OdaResult::Passed, None)
    );
    assert_eq!(facts.exchange_us, 6 * 2_000);
}

#[test]
fn a_genuine_rsa_card_opens_the_gate_with_the_token_of_its_certificate() {
    let mut card = rsa::card();
    let mut kernel = gate();
    assert_eq!(tap(&mut kernel, &World::new(), &mut |c| card.answer(c)), OPEN);
    let facts = kernel.facts();
    assert_eq!(
        (facts.token, facts.expiry, facts.expiry_signed),
        (Some(token()), Some(Expiry { year: 30, month: 12 }), true)
    );
    assert_eq!(
        (facts.oda_method, facts.oda_result, facts.atc),
        (Some(OdaMethod::Fdda), OdaResult::Passed, Some(0x0102))
    );
    assert_eq!(facts.track2, card.spec.track2);
}

#[test]
fn an_older_card_opens_the_gate_by_internal_authenticate_and_generate_ac() {
    for plain in [false, true] {
        let mut spec = rsa::Spec::older();
        spec.older.as_mut().unwrap().plain = plain;
        let mut card = spec.issue();
        let mut kernel = gate();
        let (decision, commands) =
            tap_by(Host::Eager, &mut kernel, &config(), &World::new(), input(morning()), &mut |c| {
                card.answer(c)
            });
        assert_eq!(decision, OPEN, "{:?}", kernel.facts().oda_fault);
        let instructions: Vec<_> = commands.iter().map(|c| c[1]).collect();
        assert_eq!(instructions, [0xA4, 0xA4, 0xA8, 0xB2, 0xB2, 0xB2, 0x88, 0xAE]);
        assert_eq!(commands[2][7..11], [0x61, 0x00, 0x00, 0x80], "qualifiers of the standard flow");
        let authenticate = [&[0x00, 0x88, 0x00, 0x00, 6][..], &[0xC0, 0xFF, 0xEE, 0x01], &[0x01, 0x56], &[0]];
        assert_eq!(commands[6], authenticate.concat());
        assert_eq!(commands[7][..5], [0x80, 0xAE, 0x80, 0x00, 52]);
        let facts = kernel.facts();
        assert_eq!((facts.token, facts.expiry_signed), (Some(token()), true));
        assert_eq!((facts.oda_method, facts.oda_result), (Some(OdaMethod::Dda), OdaResult::Passed));
        assert_eq!((facts.atc, facts.cid, facts.cryptogram), (Some(0x0102), Some(0x80), Some([0xAC; 8])));
        assert_eq!(facts.iad, card.spec.iad);
        // What the bank needs for the cryptogram: the list that it was asked with, and the values.
        assert_eq!(facts.pdol, card.spec.older.as_ref().unwrap().cdol);
        assert_eq!(facts.pdol_values, &commands[7][5..57]);
    }
}

#[test]
fn an_older_card_may_leave_its_lists_out() {
    let mut spec = rsa::Spec::older();
    let older = spec.older.as_mut().unwrap();
    (older.ddol, older.no_pdol) = (None, true);
    let mut card = spec.issue();
    let (decision, commands) =
        tap_by(Host::Late, &mut gate(), &config(), &World::new(), input(morning()), &mut |c| card.answer(c));
    assert_eq!(decision, OPEN);
    assert_eq!(commands[2], [0x80, 0xA8, 0x00, 0x00, 2, 0x83, 0x00, 0x00]);
    assert_eq!(commands[6], [0x00, 0x88, 0x00, 0x00, 4, 0xC0, 0xFF, 0xEE, 0x01, 0x00]);
}

#[test]
fn an_older_card_with_the_longest_keys_fits() {
    let mut world = World::new();
    world.authorities.push(rsa::large_authority());
    for plain in [false, true] {
        let mut spec = rsa::Spec::older();
        spec.large = true;
        spec.older.as_mut().unwrap().plain = plain;
        let mut card = spec.issue();
        let mut longest = 0;
        let mut kernel = gate();
        let decision = tap(&mut kernel, &world, &mut |c| {
            let answer = card.answer(c);
            longest = longest.max(answer.len());
            answer
        });
        assert_eq!(decision, OPEN, "{:?}", kernel.facts().oda_fault);
        assert_eq!(longest, 257, "within a short answer's 258");
    }
}

#[test]
fn an_older_cards_certificates_are_verified_before_its_last_answers() {
    let (mut card, world, config) = (rsa::Spec::older().issue(), World::new(), config());
    let mut kernel = gate();
    let mut slices = vec![];
    let mut next = own(kernel.begin(&config, input(morning())));
    while let Some(command) = next {
        next = own(kernel.answer(&config, &card.answer(&command), 2_000));
        slices.push(work_off(&mut kernel, &world));
    }
    // After: directory, application, options, three records, signature, cryptogram.
    assert_eq!(slices, [0, 0, 0, 1, 0, 1, 0, 0], "certificates; the signature ends without more to do");
    assert_eq!(kernel.decision(&config, &world), Some(OPEN));
}

fn timed_card() -> p256::Card {
    let mut spec = p256::Spec::new();
    spec.timed = true;
    spec.issue()
}

/// The entropies of the timed exchanges among the commands.
fn entropies(commands: &[Vec<u8>]) -> Vec<[u8; 4]> {
    commands.iter().filter(|c| c[1] == 0xEA).map(|c| c[5..9].try_into().unwrap()).collect()
}

#[test]
fn a_card_that_can_be_timed_is_timed_where_the_gate_has_a_limit_and_only_there() {
    let (card, config) = (timed_card(), timing_config());
    let (decision, commands) = timed_tap(&config, input(morning()), &mut |c| (card.answer(c), 5_300));
    assert_eq!(decision, OPEN);
    let instructions: Vec<_> = commands.iter().map(|c| c[1]).collect();
    assert_eq!(instructions, [0xA4, 0xA4, 0xEA, 0xA8, 0xB2, 0xB2, 0xB2]);
    assert_eq!(commands[2], [0x80, 0xEA, 0x00, 0x00, 4, 0xC0, 0xFF, 0xEE, 0x01, 0x00]);
    // A card that cannot be timed is taken as it is.
    let older = p256::card();
    let (decision, commands) = timed_tap(&config, input(morning()), &mut |c| (older.answer(c), 5_300));
    assert_eq!((decision, entropies(&commands).len()), (OPEN, 0));
    // No limit: no card is timed.
    let off = GateConfig {
        relay: Some(RelayLimits { overhead_us: 2_000, grace_us: 300, cap_us: 0 }),
        ..gate_config()
    };
    for config in [common::config(), Config::new(&off, *b"WAVE", 7).unwrap()] {
        let (decision, commands) = timed_tap(&config, input(morning()), &mut |c| (card.answer(c), 50_000));
        assert_eq!((decision, entropies(&commands).len()), (OPEN, 0));
    }
}

#[test]
fn a_card_that_is_late_three_times_is_suspected_of_being_elsewhere() {
    let (card, config) = (timed_card(), timing_config());
    for late in 0..=3 {
        let mut tries = 0;
        let (decision, commands) = timed_tap(&config, input(morning()), &mut |c| {
            tries += usize::from(c[1] == 0xEA);
            // The limit: 2.3 ms for the reader, and 3 ms that the card claims.
            (card.answer(c), if c[1] == 0xEA && tries <= late { 5_301 } else { 5_300 })
        });
        let expected = if late < 3 { OPEN } else { refused(Reason::RelaySuspected) };
        assert_eq!(decision, expected, "{late} late");
        let all = [[0xC0, 0xFF, 0xEE, 0x01], [0xA1; 4], [0xB2; 4]];
        assert_eq!(entropies(&commands), all[..(late + 1).min(3)]);
    }
}

#[test]
fn a_host_that_does_not_time_a_card_that_it_should_time_opens_to_none() {
    let (card, config) = (timed_card(), timing_config());
    let run =
        tap_by(Host::Eager, &mut gate(), &config, &World::new(), input(morning()), &mut |c| card.answer(c));
    assert_eq!(run.0, refused(Reason::RelaySuspected));
}

#[test]
fn the_first_tap_verifies_three_signatures_the_next_ones_two_each_in_a_slice_of_its_own() {
    let (card, world, config) = (p256::card(), World::new(), config());
    let mut kernel = Kernel::new(Counting::default());
    for expected in [3, 2, 2] {
        kernel.verifier().0 = 0;
        let mut next = own(kernel.begin(&config, input(morning())));
        while let Some(command) = next {
            next = own(kernel.answer(&config, &card.answer(&command), 2_000));
        }
        let mut before = 0;
        loop {
            let work = kernel.work(&world);
            assert!(kernel.verifier().0 - before <= 1, "one public key operation in a slice");
            before = kernel.verifier().0;
            if work == Work::Idle {
                break;
            }
        }
        assert_eq!(kernel.verifier().0, expected);
        assert_eq!(kernel.decision(&config, &world), Some(OPEN));
    }
}

#[test]
fn an_issuer_of_a_genuine_card_is_remembered_by_the_verifier_and_its_next_card_opens_by_its_tables() {
    let (card, world, config) = (p256::card(), World::new(), config());
    let mut kernel = Kernel::new(FastVerifier::<1>::new());
    let issuer = p256::key(p256::Spec::new().issuer_seed).public_key();
    for remembered in [false, true] {
        assert_eq!(kernel.verifier().remembers(&issuer), remembered);
        let mut next = own(kernel.begin(&config, input(morning())));
        while let Some(command) = next {
            next = own(kernel.answer(&config, &card.answer(&command), 2_000));
        }
        while kernel.work(&world) == Work::More {}
        assert_eq!(kernel.decision(&config, &world), Some(OPEN));
        // Idle time.
        while kernel.verifier().prepare() {}
    }
}

#[test]
fn an_issuer_whose_card_is_forged_takes_no_room_in_the_verifier() {
    let (card, world, config) = (p256::card(), World::new(), config());
    let mut kernel = Kernel::new(FastVerifier::<1>::new());
    let mut next = own(kernel.begin(&config, input(morning())));
    while let Some(command) = next {
        let answer = patch(card.answer(&command), 0x9F46, |certificate| certificate[144] ^= 1);
        next = own(kernel.answer(&config, &answer, 2_000));
    }
    while kernel.work(&world) == Work::More {}
    assert_eq!(kernel.decision(&config, &world), Some(refused(Reason::AuthenticationFailed)));
    assert!(!kernel.verifier().prepare());
}

#[test]
fn certificates_are_verified_while_the_card_still_answers() {
    let (card, world, config) = (p256::card(), World::new(), config());
    let mut kernel = Kernel::new(Counting::default());
    let mut verified = vec![];
    let mut next = own(kernel.begin(&config, input(morning())));
    while let Some(command) = next {
        next = own(kernel.answer(&config, &card.answer(&command), 2_000));
        while kernel.work(&world) == Work::More {}
        verified.push(kernel.verifier().0);
    }
    // After: directory, application, options, issuer's record, card's record, signed record.
    assert_eq!(verified, [0, 0, 0, 1, 3, 3]);
    assert_eq!(kernel.decision(&config, &world), Some(OPEN));
}

#[test]
fn forgetting_issuers_in_the_middle_of_a_tap_verifies_them_again() {
    let (card, world) = (p256::card(), World::new());
    let config = config();
    for forget_before in 1..=7 {
        let mut kernel = gate();
        let mut next = own(kernel.begin(&config, input(morning())));
        let mut step = 0;
        while let Some(command) = next {
            step += 1;
            if step == forget_before {
                kernel.forget_issuers();
            }
            next = own(kernel.answer(&config, &card.answer(&command), 2_000));
            work_off(&mut kernel, &world);
        }
        kernel.forget_issuers();
        work_off(&mut kernel, &world);
        assert_eq!(kernel.decision(&config, &world), Some(OPEN));
    }
}

#[test]
fn the_commands_do_not_depend_on_when_the_host_verifies() {
    let forged = {
        let mut spec = p256::Spec::new();
        spec.issuer_seed = 9;
        let mut card = spec.issue();
        card.files.records[0] = p256::card().files.records[0].clone();
        card
    };
    for card in [p256::card(), forged] {
        let run = |host| {
            tap_by(host, &mut gate(), &config(), &World::new(), input(morning()), &mut |c| card.answer(c))
        };
        assert_eq!(run(Host::Eager), run(Host::Late));
    }
}

#[test]
fn a_card_outside_its_dates_is_refused_for_that() {
    assert_eq!(p256_with(|s| s.expiry = [0x26, 0x11, 0x23]), refused(Reason::Expired));
    assert_eq!(p256_with(|s| s.expiry = [0x26, 0x11, 0x24]), OPEN);
    assert_eq!(p256_with(|s| s.effective = [0x26, 0x11, 0x25]), refused(Reason::NotYetValid));
    assert_eq!(p256_with(|s| s.effective = [0x26, 0x11, 0x24]), OPEN);
    let yesterday = Date::new(2026, 11, 23).unwrap();
    assert_eq!(p256_with(|s| s.card_expiry = yesterday), refused(Reason::Expired));
    assert_eq!(p256_with(|s| s.issuer_expiry = yesterday), refused(Reason::Expired));
    assert_eq!(rsa_with(|s| s.card_expiry_mmyy = [0x10, 0x26]), refused(Reason::Expired));
    assert_eq!(rsa_with(|s| s.card_expiry_mmyy = [0x11, 0x26]), OPEN);
    assert_eq!(rsa_with(|s| s.issuer_expiry_mmyy = [0x10, 0x26]), refused(Reason::Expired));
    assert_eq!(p256_with(|s| s.expiry = [0x30, 0x13, 0x31]), refused(Reason::CardError));
}

#[test]
fn a_remembered_issuer_expires_and_is_revoked_all_the_same() {
    let card = p256::card();
    let mut world = World::new();
    let mut kernel = gate();
    assert_eq!(tap(&mut kernel, &world, &mut |c| card.answer(c)), OPEN);
    let late = input(at(Date::new(2036, 1, 1).unwrap()));
    let later = tap_by(Host::Late, &mut kernel, &config(), &world, late, &mut |c| card.answer(c)).0;
    assert_eq!(later, refused(Reason::Expired));
    world.revoked.push(wavepass_protocol::lists::Revocation {
        rid: p256::RID,
        index: 1,
        serial: p256::SERIAL,
    });
    assert_eq!(tap(&mut kernel, &world, &mut |c| card.answer(c)), refused(Reason::AuthenticationFailed));
    assert_eq!(kernel.facts().oda_fault, Some(OdaFault::IssuerRevoked));
    world.revoked.clear();
    world.authorities[0].expiry = [0x20, 0x26, 0x11, 0x23];
    assert_eq!(tap(&mut kernel, &world, &mut |c| card.answer(c)), refused(Reason::AuthenticationFailed));
    assert_eq!(kernel.facts().oda_fault, Some(OdaFault::CaKeyExpired));
}

#[test]
fn five_issuers_in_turn_all_open_although_four_are_remembered() {
    let cards: Vec<_> = (20..25)
        .map(|seed| {
            let mut spec = p256::Spec::new();
            spec.issuer_seed = seed;
            spec.issue()
        })
        .collect();
    let mut kernel = gate();
    for card in cards.iter().chain(&cards) {
        assert_eq!(tap(&mut kernel, &World::new(), &mut |c| card.answer(c)), OPEN);
    }
}

#[test]
fn the_domain_decides_where_a_token_is_accepted() {
    let domain = |bytes: &[u8]| Some([&bytes[..2], &bytes[2..]].concat());
    let here = |d: Option<Vec<u8>>| p256_with(|s| s.domain = d);
    assert_eq!(here(domain(b"\x01\x01WAVE\x00\x07")), OPEN);
    for elsewhere in [
        &b"\x01\x01WAVE\x00\x08"[..],
        b"\x01\x01RAIL\x00\x00",
        b"\x01\x02WAVE\x00\x00",
        b"\x02\x01WAVE\x00\x00",
        b"\x01\x01WAVE\x00",
    ] {
        assert_eq!(here(domain(elsewhere)), refused(Reason::NotAcceptedHere));
    }
    assert_eq!(here(None), refused(Reason::NotAcceptedHere));
    // In a record that the certificate does not cover, a domain is none.
    let mut spec = p256::Spec::new();
    let domain = spec.domain.take().unwrap();
    let mut card = spec.issue();
    let record = &mut card.files.records[1].2;
    let content = [&record[3..], &tlv(0xDF71, &domain)].concat();
    *record = tlv(0x70, &content);
    assert_eq!(first_tap(&World::new(), &mut |c| card.answer(c)), refused(Reason::NotAcceptedHere));
}

#[test]
fn a_denied_token_is_refused_and_a_renewed_one_is_not() {
    let card = p256::card();
    let mut world = World::new();
    world.denied.push((token(), Expiry { year: 30, month: 12 }));
    assert_eq!(first_tap(&world, &mut |c| card.answer(c)), refused(Reason::Denied));
    world.denied[0].1 = Expiry { year: 26, month: 12 };
    assert_eq!(first_tap(&world, &mut |c| card.answer(c)), OPEN);
}

#[test]
fn nothing_opens_before_the_deny_list_was_asked_and_it_is_asked_only_where_the_decision_depends_on_it() {
    let config = config();
    let tap = |card: &p256::Card, world: &World| {
        let mut kernel = gate();
        let mut next = own(kernel.begin(&config, input(morning())));
        while let Some(command) = next {
            assert_eq!(kernel.asks(&config), None, "not before the last answer");
            next = own(kernel.answer(&config, &card.answer(&command), 2_000));
        }
        assert_eq!(kernel.asks(&config), None, "not before the card is proven");
        work_off(&mut kernel, world);
        (kernel.asks(&config), kernel.decision(&config, world))
    };
    let mut world = World { looked_up: false, ..World::new() };
    let asked = Asked { token: token(), expiry: Some(Expiry { year: 30, month: 12 }) };
    assert_eq!(tap(&p256::card(), &world), (Some(asked), None));
    world.looked_up = true;
    assert_eq!(tap(&p256::card(), &world), (Some(asked), Some(OPEN)));
    // Whatever comes before it in the order needs no look-up.
    world.looked_up = false;
    let mut spec = p256::Spec::new();
    spec.atc = 0;
    assert_eq!(tap(&spec.issue(), &world), (None, Some(refused(Reason::UnusedCard))));
}

#[test]
fn an_unsigned_expiry_matches_any_listed_one_and_is_bounded_by_the_certificate() {
    let mut spec = rsa::Spec::new();
    spec.expiry_signed = false;
    let mut card = spec.issue();
    let mut world = World::new();
    let mut kernel = gate();
    assert_eq!(tap(&mut kernel, &world, &mut |c| card.answer(c)), OPEN);
    let facts = kernel.facts();
    assert_eq!((facts.expiry, facts.expiry_signed), (Some(Expiry { year: 29, month: 12 }), false));
    world.denied.push((token(), Expiry { year: 24, month: 1 }));
    assert_eq!(tap(&mut kernel, &world, &mut |c| card.answer(c)), refused(Reason::Denied));
}

#[test]
fn refusals_come_in_their_fixed_order() {
    let mut spec = p256::Spec::new();
    spec.cid = Some(0x40);
    spec.atc = 0;
    spec.expiry = [0x20, 0x01, 0x31];
    spec.domain = None;
    let mut world = World { stale: true, passback: Passback::Refuse, ..World::new() };
    world.denied.push((token(), Expiry { year: 20, month: 1 }));
    let decide = |spec: &p256::Spec, world: &World| {
        let card = spec.clone().issue();
        first_tap(world, &mut |c| card.answer(c))
    };
    let mut order = vec![];
    let forged = spec.clone().issue();
    order.push(first_tap(&world, &mut |c| patch(forged.answer(c), 0x9F4B, |v| v[9] ^= 1)));
    order.push(decide(&spec, &world));
    spec.cid = Some(0x80);
    order.push(decide(&spec, &world));
    spec.atc = 1;
    order.push(decide(&spec, &world));
    spec.expiry = [0x30, 0x01, 0x31];
    world.denied[0].1 = Expiry { year: 30, month: 1 };
    order.push(decide(&spec, &world));
    spec.domain = p256::Spec::new().domain;
    order.push(decide(&spec, &world));
    world.denied.clear();
    order.push(decide(&spec, &world));
    world.stale = false;
    order.push(decide(&spec, &world));
    let expected = [
        Reason::AuthenticationFailed,
        Reason::NoCryptogram,
        Reason::UnusedCard,
        Reason::Expired,
        Reason::NotAcceptedHere,
        Reason::Denied,
        Reason::ListStale,
        Reason::Passback,
    ];
    assert_eq!(order, expected.map(refused));
    world.passback = Passback::SameTap;
    assert_eq!(decide(&spec, &world), Decision::Open { again: true });
}

#[test]
fn without_9f27_the_issuer_application_data_tell_the_cryptogram() {
    for (byte, decision) in
        [(0xA0, OPEN), (0x90, refused(Reason::NoCryptogram)), (0x80, refused(Reason::NoCryptogram))]
    {
        assert_eq!(rsa_with(|s| (s.cid, s.iad[4]) = (None, byte)), decision);
    }
    assert_eq!(rsa_with(|s| (s.cid, s.iad) = (None, vec![7, 1])), refused(Reason::NoCryptogram));
    assert_eq!(rsa_with(|s| s.cid = Some(0x40)), refused(Reason::NoCryptogram));
    assert_eq!(rsa_with(|s| (s.atc, s.signed_atc) = (0, 0)), refused(Reason::UnusedCard));
}

#[test]
fn the_terminal_prefers_then_the_card_and_a_refused_select_gives_way_to_the_next() {
    let (house, mut unionpay) = (p256::card(), rsa::card());
    let mut selected = vec![];
    let mut run = |config: &wavepass_kernel::Config, block_house: bool, priorities: [u8; 2]| {
        selected.clear();
        let decision = tap_by(Host::Late, &mut gate(), config, &World::new(), input(morning()), &mut |c| {
            if c[1] == 0xA4 {
                selected.push(c[5..c.len() - 1].to_vec());
                if c[5..].starts_with(b"2PAY") {
                    return ok(&ppse(&[(&HOUSE_AID, priorities[0]), (&UNIONPAY_AID, priorities[1])]));
                }
                if block_house && c[5] == 0xF0 {
                    return vec![0x62, 0x83];
                }
            }
            let answer = house.answer(c);
            if c[1] == 0xA4 && c[5] == 0xA0 || selected.last().is_some_and(|a| a[0] == 0xA0) {
                unionpay.answer(c)
            } else {
                answer
            }
        });
        assert_eq!(decision.0, OPEN);
        selected[1..].to_vec()
    };
    let mut config = config();
    let (f, a) = (HOUSE_AID.to_vec(), UNIONPAY_AID.to_vec());
    assert_eq!(run(&config, false, [1, 2]), std::slice::from_ref(&f));
    assert_eq!(run(&config, false, [2, 1]), std::slice::from_ref(&a));
    assert_eq!(run(&config, false, [0, 15]), std::slice::from_ref(&a), "no priority comes last");
    assert_eq!(run(&config, true, [1, 2]), [f.clone(), a.clone()]);
    let i = aid_config(&mut config, &UNIONPAY_AID);
    config.applications[i].preference = 1;
    assert_eq!(run(&config, false, [1, 2]), [a], "the terminal's preference goes first");
}

#[test]
fn an_application_that_withdraws_gives_way_to_the_next() {
    let (house, mut unionpay) = (p256::card(), rsa::card());
    let mut kernel = gate();
    let mut both = |c: &[u8]| -> Vec<u8> {
        if c[1] == 0xA4 && c[5..].starts_with(b"2PAY") {
            return ok(&ppse(&[(&HOUSE_AID, 1), (&UNIONPAY_AID, 2)]));
        }
        let answer = unionpay.answer(c);
        match (c[1], c.get(5)) {
            (0xA4, Some(0xF0)) => house.answer(c),
            _ => answer,
        }
    };
    let mut asked = 0;
    let decision = tap(&mut kernel, &World::new(), &mut |c| {
        asked += usize::from(c[1] == 0xA8);
        if c[1] == 0xA8 && asked == 1 { vec![0x69, 0x85] } else { both(c) }
    });
    assert_eq!((decision, asked), (OPEN, 2));
    assert_eq!(kernel.facts().aid, UNIONPAY_AID);
    let card = p256::card();
    let withdraws = |c: &[u8]| if c[1] == 0xA8 { vec![0x69, 0x85] } else { card.answer(c) };
    assert_eq!(tap(&mut kernel, &World::new(), &mut |c| withdraws(c)), refused(Reason::CardError));
    assert_eq!(kernel.facts().aid, []);
}

#[test]
fn a_partial_identifier_selects_the_cards_longer_one() {
    let mut gate_config = gate_config();
    gate_config.applications.clear();
    let mut short = application(&HOUSE_AID[..7], Suite::P256);
    let card = p256::card();
    let mut run = |partial| {
        short.partial = partial;
        gate_config.applications.clear();
        gate_config.applications.push(short.clone()).unwrap();
        let config = wavepass_kernel::Config::new(&gate_config, *b"WAVE", 7).unwrap();
        tap_by(Host::Late, &mut gate(), &config, &World::new(), input(morning()), &mut |c| card.answer(c)).0
    };
    assert_eq!(run(true), OPEN);
    assert_eq!(run(false), refused(Reason::NoApplication));
}

#[test]
fn what_the_gate_does_not_serve_is_refused_as_such() {
    assert_eq!(first_tap(&World::new(), &mut |_| vec![0x6A, 0x82]), refused(Reason::NoApplication));
    // An older card's flow, and yet the quick answer.
    assert_eq!(rsa_with(|s| s.df61 = None), refused(Reason::Unsupported));
    assert_eq!(rsa_with(|s| s.df61 = Some(0x80)), refused(Reason::Unsupported));
    let card = p256::card();
    let format_1 =
        |c: &[u8]| if c[1] == 0xA8 { ok(&tlv(0x80, &[0x20, 0, 8, 1, 1, 0])) } else { card.answer(c) };
    assert_eq!(first_tap(&World::new(), &mut |c| format_1(c)), refused(Reason::Unsupported));
    // A gate without the suite; one that has it proves no P-256 card by it.
    let mut config = config();
    config.applications[0].suite = Suite::Sm2;
    let decision =
        tap_by(Host::Late, &mut gate(), &config, &World::new(), input(morning()), &mut |c| card.answer(c)).0;
    let without = Reason::Unsupported;
    assert_eq!(decision, refused(if cfg!(feature = "sm2") { Reason::AuthenticationFailed } else { without }));
}

#[test]
fn an_exchange_that_breaks_off_is_refused_for_its_cause() {
    let (card, world, config) = (p256::card(), World::new(), config());
    let causes = [
        (Lost::Removed, Reason::CardRemoved),
        (Lost::SeveralCards, Reason::SeveralCards),
        (Lost::Protocol, Reason::CardError),
        (Lost::Timeout, Reason::TooSlow),
    ];
    let mut kernel = gate();
    for (lost, reason) in causes {
        let Step::Send(command) = kernel.begin(&config, input(morning())) else { panic!("a command") };
        let answer = card.answer(command);
        kernel.answer(&config, &answer, 5_000);
        kernel.lost(lost, 9_000);
        assert_eq!(kernel.work(&world), Work::Idle);
        assert_eq!(kernel.decision(&config, &world), Some(refused(reason)));
        assert_eq!(kernel.facts().exchange_us, 8_000);
        assert_eq!(kernel.answer(&config, &answer, 10_000), Step::Last);
    }
}

#[test]
fn a_slow_card_is_refused_even_where_its_last_answer_is_right() {
    let (card, world, config) = (p256::card(), World::new(), config());
    let mut kernel = gate();
    let mut next = own(kernel.begin(&config, input(morning())));
    let mut now_us = 1_000;
    while let Some(command) = next {
        now_us += 200_000;
        next = own(kernel.answer(&config, &card.answer(&command), now_us));
    }
    work_off(&mut kernel, &world);
    assert_eq!(kernel.decision(&config, &world), Some(refused(Reason::TooSlow)));
}

#[test]
fn chained_answers_are_joined_and_a_wrong_length_is_asked_again() {
    let card = p256::card();
    let mut rest: Vec<u8> = vec![];
    let mut asked = false;
    let mut chained = |c: &[u8]| -> Vec<u8> {
        let answer = if c[1] == 0xC0 { rest.clone() } else { card.answer(c) };
        if c[1] == 0xB2 && !asked {
            asked = true;
            return vec![0x6C, 0x7D];
        }
        asked = false;
        let data = &answer[..answer.len() - 2];
        if data.len() <= 50 {
            return answer;
        }
        rest = ok(&data[50..]);
        [&data[..50], &[0x61, (data.len() - 50).min(255) as u8]].concat()
    };
    let (decision, commands) =
        tap_by(Host::Eager, &mut gate(), &config(), &World::new(), input(morning()), &mut chained);
    assert_eq!(decision, OPEN);
    assert!(
        commands.iter().any(|c| c[..] == [0x00, 0xB2, 0x01, 0x0C, 0x7D]),
        "the length that the card named"
    );
}

#[test]
fn a_card_that_goes_on_for_ever_is_refused() {
    let world = World::new();
    assert_eq!(first_tap(&world, &mut |_| vec![0x61, 0x00]), refused(Reason::CardError));
    assert_eq!(first_tap(&world, &mut |_| vec![0x61, 0x10]), refused(Reason::CardError));
    assert_eq!(first_tap(&world, &mut |_| vec![0x6C, 0x10]), refused(Reason::CardError));
    assert_eq!(
        first_tap(&world, &mut |_| [&[0; 200][..], &[0x61, 0xFF]].concat()),
        refused(Reason::CardError)
    );
    assert_eq!(first_tap(&world, &mut |_| ok(&vec![0; limits::MAX_ANSWER + 1])), refused(Reason::CardError));
    assert_eq!(first_tap(&world, &mut |_| vec![]), refused(Reason::CardError));
    assert_eq!(first_tap(&world, &mut |_| vec![0x90]), refused(Reason::CardError));
    assert_eq!(first_tap(&world, &mut |_| ok(&[])), refused(Reason::CardError));
}

#[test]
fn too_much_static_data_or_too_many_records_are_refused() {
    let big = tlv(0x70, &tlv(0xC1, &[0; 480]));
    let with = |afl: &[u8]| {
        let mut spec = p256::Spec::new();
        spec.afl = afl.to_vec();
        let mut card = spec.issue();
        card.files.records.extend((1..=16).map(|n| (5, n, big.clone())));
        first_tap(&World::new(), &mut |c| card.answer(c))
    };
    assert_eq!(with(&[0x28, 1, 16, 16]), refused(Reason::CardError), "static data");
    assert_eq!(with(&[0x28, 1, 16, 0]), refused(Reason::CardError), "other data");
    assert_eq!(with(&[0x28, 1, 17, 0]), refused(Reason::CardError), "records");
    assert_eq!(with(&[0x28, 1, 1]), refused(Reason::CardError), "a malformed locator");
    assert_eq!(with(&[0x30, 1, 1, 0]), refused(Reason::CardError), "a record that is not there");
}

#[test]
fn an_oversized_list_from_the_card_is_refused() {
    let mut values = p256::PDOL.to_vec();
    values.extend([0x9F, 0x4E, 200]);
    assert_eq!(p256_with(|s| s.pdol = values), refused(Reason::CardError));
    let mut entries = p256::PDOL.to_vec();
    (0..40).for_each(|i| entries.extend([0xDF, 0x81, i, 0]));
    assert_eq!(p256_with(|s| s.pdol = entries), refused(Reason::CardError));
    assert_eq!(p256_with(|s| s.pdol.extend([0x9F, 0x37, 4])), refused(Reason::CardError), "one tag twice");
}

#[test]
fn a_token_of_another_issuer_is_refused() {
    assert_eq!(
        p256_with(|s| s.issuer_id = [0x62, 0x12, 0x35, 0xFF, 0xFF]),
        refused(Reason::AuthenticationFailed)
    );
    assert_eq!(rsa_with(|s| s.issuer_id = [0x62, 0x12, 0x35, 0xFF]), refused(Reason::AuthenticationFailed));
    assert_eq!(
        p256_with(|s| s.token = Token::from_digits("6212999999999999").unwrap()),
        refused(Reason::AuthenticationFailed)
    );
}

#[test]
fn a_watcher_sees_the_phases_of_a_tap() {
    let (mut older, world, config) = (rsa::Spec::older().issue(), World::new(), config());
    let mut kernel = gate();
    let mut phases = vec![];
    let mut next = own(kernel.begin(&config, input(morning())));
    while let Some(command) = next {
        phases.push(kernel.phase());
        next = own(kernel.answer(&config, &older.answer(&command), 2_000));
        work_off(&mut kernel, &world);
    }
    use Phase::{Application, Authenticate, Cryptogram, Directory, Options, Record};
    let all = [Directory, Application, Options, Record(0), Record(1), Record(2), Authenticate, Cryptogram];
    assert_eq!(phases, all);
    assert_eq!(kernel.phase(), Phase::Over);
}

#[test]
fn a_watcher_sees_which_applications_were_passed_over_and_which_was_taken() {
    let (house, mut unionpay) = (p256::card(), rsa::card());
    let both = ppse(&[(&HOUSE_AID, 1), (&UNIONPAY_AID, 2)]);
    let fates =
        |kernel: &Gate| kernel.choices().map(|(aid, fate)| (aid.as_slice()[0], fate)).collect::<Vec<_>>();
    let mut kernel = gate();
    let decision = tap(&mut kernel, &World::new(), &mut |c| match (c[1], c.get(5)) {
        (0xA4, Some(b'2')) => ok(&both),
        _ => house.answer(c),
    });
    assert_eq!(decision, OPEN);
    assert_eq!(fates(&kernel), [(0xF0, Fate::Taken), (0xA0, Fate::NotTried)]);
    let decision = tap(&mut kernel, &World::new(), &mut |c| match (c[1], c.get(5)) {
        (0xA4, Some(b'2')) => ok(&both),
        (0xA4, Some(0xF0)) => vec![0x62, 0x83],
        _ => unionpay.answer(c),
    });
    assert_eq!(decision, OPEN);
    assert_eq!(fates(&kernel), [(0xF0, Fate::PassedOver), (0xA0, Fate::Taken)]);
    let decision = tap(&mut kernel, &World::new(), &mut |c| match (c[1], c.get(5)) {
        (0xA4, Some(b'2')) => ok(&both),
        _ => vec![0x62, 0x83],
    });
    assert_eq!(decision, refused(Reason::NoApplication));
    assert_eq!(fates(&kernel), [(0xF0, Fate::PassedOver), (0xA0, Fate::PassedOver)]);
}

#[test]
fn the_kernel_fits_in_8_kib() {
    let size = size_of::<Kernel<P256Verifier>>();
    println!("Kernel<P256Verifier>: {size} bytes");
    assert!(size <= 8 * 1024, "{size}");
}
