//! Attacks on the interface between card and gate. Each ends in a refusal with its reason.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::*;
use proptest::prelude::*;
use wavepass_kernel::{Config, Decision, OdaFault, SuiteError, TapInput};
use wavepass_protocol::ecc::CertError;
use wavepass_protocol::lists::{Revocation, Suite};
use wavepass_protocol::rsa::RsaError;
use wavepass_protocol::tap::Reason;
use wavepass_protocol::token::Token;

const FORGED: Decision = Decision::Refuse(Reason::AuthenticationFailed);

/// Changes one bit of every byte of a tag's value in turn. Every such card must be refused as forged, by a gate that
/// has seen no card and by one that remembers the issuer.
fn every_byte_changed(tag: u32, mut card: impl FnMut(&[u8]) -> Vec<u8>) -> usize {
    let world = World::new();
    let (mut warm, mut len) = (gate(), 0);
    assert_eq!(tap(&mut warm, &world, &mut card), OPEN, "unchanged");
    let mut place = 0;
    loop {
        for kernel in [&mut gate(), &mut warm] {
            let decision = tap(kernel, &world, &mut |c| {
                patch(card(c), tag, |value| {
                    len = value.len();
                    if place < value.len() {
                        value[place] ^= 1 << (place % 8);
                    }
                })
            });
            if place < len {
                assert_eq!(decision, FORGED, "byte {place} of {tag:X}: {:?}", kernel.facts().oda_fault);
            }
        }
        place += 1;
        if place >= len {
            assert!(len > 0, "the card has {tag:X}");
            return len;
        }
    }
}

#[test]
fn a_changed_bit_in_any_field_of_the_p256_issuer_certificate_is_found() {
    let card = p256::card();
    assert_eq!(every_byte_changed(0x90, |c| card.answer(c)), 117);
    every_byte_changed(0x8F, |c| card.answer(c));
}

#[test]
fn a_changed_bit_in_any_field_of_the_p256_card_certificate_is_found() {
    let card = p256::card();
    assert_eq!(every_byte_changed(0x9F46, |c| card.answer(c)), 145);
}

#[test]
fn a_changed_bit_in_the_p256_signature_or_in_anything_it_covers_is_found() {
    let mut spec = p256::Spec::new();
    spec.more_options = tlv(0x57, &rsa::Spec::new().track2);
    let card = spec.issue();
    assert_eq!(every_byte_changed(0x9F4B, |c| card.answer(c)), 65);
    for tag in [0x82, 0x9F36, 0x9F27, 0x9F26, 0x9F10, 0x9F6C, 0x57] {
        every_byte_changed(tag, |c| card.answer(c));
    }
}

#[test]
fn a_changed_bit_in_the_p256_static_data_is_found() {
    let card = p256::card();
    for tag in [0x5A, 0x5F24, 0x5F25, 0x5F34, 0x9F07, 0xDF71] {
        every_byte_changed(tag, |c| card.answer(c));
    }
}

#[test]
fn a_changed_bit_in_any_field_of_the_rsa_certificates_is_found() {
    let mut card = rsa::card();
    assert_eq!(every_byte_changed(0x90, |c| card.answer(c)), 144);
    assert_eq!(every_byte_changed(0x9F46, |c| card.answer(c)), 144);
    for tag in [0x8F, 0x92, 0x9F32, 0x9F47, 0x9F48] {
        every_byte_changed(tag, |c| card.answer(c));
    }
}

#[test]
fn a_changed_bit_in_the_rsa_signature_or_in_the_data_it_covers_is_found() {
    let mut card = rsa::card();
    assert_eq!(every_byte_changed(0x9F4B, |c| card.answer(c)), 128);
    for tag in [0x9F69, 0x9F36, 0x82, 0x5A, 0x5F24, 0x5F25, 0x5F28, 0x9F4A] {
        every_byte_changed(tag, |c| card.answer(c));
    }
}

#[test]
fn a_changed_bit_in_what_an_older_card_signs_or_what_is_certified_of_it_is_found() {
    let mut card = rsa::Spec::older().issue();
    assert_eq!(every_byte_changed(0x9F4B, |c| card.answer(c)), 128);
    for tag in [0x90, 0x9F46, 0x8F, 0x92, 0x9F32, 0x9F47, 0x9F48, 0x82, 0x5A, 0x5F24, 0x5F25, 0x9F4A] {
        every_byte_changed(tag, |c| card.answer(c));
    }
}

#[test]
fn a_list_for_the_signature_without_the_unpredictable_number_is_refused() {
    let run = |ddol: &[u8]| {
        let mut spec = rsa::Spec::older();
        spec.older.as_mut().unwrap().ddol = Some(ddol.to_vec());
        let mut card = spec.issue();
        let mut kernel = gate();
        (tap(&mut kernel, &World::new(), &mut |c| card.answer(c)), kernel.facts().oda_fault)
    };
    let unprotected = (FORGED, Some(OdaFault::UnprotectedDdol));
    assert_eq!(run(&[0x9F, 0x37, 3]), unprotected, "too short");
    assert_eq!(run(&[0xDF, 0x7F, 4]), unprotected, "a stand-in that the gate fills with zeros");
    assert_eq!(run(&[0x9F, 0x02, 6, 0x9F, 0x1A, 2]), unprotected);
    let error = Decision::Refuse(Reason::CardError);
    assert_eq!(run(&[0x9F, 0x37, 4, 0x9F, 0x37, 4]).0, error, "twice");
    assert_eq!(run(&[0x9F, 0x37, 4, 0xDF, 0x7F, 200]).0, error, "more than is sent");
}

#[test]
fn an_older_card_that_does_not_sign_cannot_be_proven() {
    let mut card = rsa::Spec::older().issue();
    let mut kernel = gate();
    let refuses = |c: &[u8], answer: Vec<u8>| if c[1] == 0x88 { vec![0x6D, 0x00] } else { answer };
    assert_eq!(tap(&mut kernel, &World::new(), &mut |c| refuses(c, card.answer(c))), FORGED);
    let missing = Some(OdaFault::Missing(wavepass_protocol::tags::SDAD));
    assert_eq!(kernel.facts().oda_fault, missing);
    // Or answers with something else.
    let other = |c: &[u8], answer: Vec<u8>| if c[1] == 0x88 { ok(&tlv(0x77, &[])) } else { answer };
    assert_eq!(tap(&mut kernel, &World::new(), &mut |c| other(c, card.answer(c))), FORGED);
    assert_eq!(kernel.facts().oda_fault, missing);
    // A signature that was there before it was asked for.
    let record = &mut card.files.records[0].2;
    let content = [&record[3..], &tlv(0x9F4B, &[7; 128])].concat();
    *record = tlv(0x70, &content);
    assert_eq!(first_tap(&World::new(), &mut |c| card.answer(c)), Decision::Refuse(Reason::CardError));
}

#[test]
fn an_older_card_s_signature_for_another_gate_is_refused() {
    let (first, mut second) = (input(morning()), input(morning()));
    second.unpredictable = [1, 2, 3, 4];
    let mut card = rsa::Spec::older().issue();
    assert_eq!(replay(&config(), first, second, |c| card.answer(c)), FORGED);
    // Nor is a format that only quick signatures have.
    let mut spec = rsa::Spec::older();
    spec.format = 0x95;
    let mut card = spec.issue();
    let mut kernel = gate();
    assert_eq!(tap(&mut kernel, &World::new(), &mut |c| card.answer(c)), FORGED);
    let format = OdaFault::DynamicSignature(SuiteError::Rsa(RsaError::Format(0x95)));
    assert_eq!(kernel.facts().oda_fault, Some(format));
}

#[test]
fn a_supporting_card_whose_sign_was_taken_away_does_not_open_by_its_quick_answer() {
    // A man in the middle clears DF61; the card knows only the quick flow.
    let mut genuine = rsa::card();
    let mut stripped = rsa::Spec::new();
    stripped.df61 = None;
    let fci = stripped.issue().files.fci;
    let decision = first_tap(&World::new(), &mut |c| {
        let answer = genuine.answer(c);
        if c[1] == 0xA4 && c[5] == 0xA0 { ok(&fci) } else { answer }
    });
    assert_eq!(decision, Decision::Refuse(Reason::Unsupported));
}

#[test]
fn an_older_card_that_declines_or_was_never_used_does_not_open() {
    let run = |change: &dyn Fn(&mut rsa::Spec)| {
        let mut spec = rsa::Spec::older();
        change(&mut spec);
        let mut card = spec.issue();
        first_tap(&World::new(), &mut |c| card.answer(c))
    };
    assert_eq!(run(&|s| s.cid = Some(0x00)), Decision::Refuse(Reason::NoCryptogram));
    assert_eq!(run(&|s| s.cid = Some(0x40)), Decision::Refuse(Reason::NoCryptogram));
    assert_eq!(run(&|s| s.atc = 0), Decision::Refuse(Reason::UnusedCard));
    let mut card = rsa::Spec::older().issue();
    let changed =
        |c: &[u8], answer: Vec<u8>, other: &[u8]| if c[1] == 0xAE { other.to_vec() } else { answer };
    for other in [&[0x69, 0x85][..], &ok(&tlv(0x80, &[0x80, 0])), &ok(&tlv(0x77, &tlv(0x9F27, &[0x80])))] {
        let decision = first_tap(&World::new(), &mut |c| changed(c, card.answer(c), other));
        assert_eq!(decision, Decision::Refuse(Reason::CardError));
    }
    assert_eq!(run(&|s| s.older.as_mut().unwrap().cdol = vec![]), Decision::Refuse(Reason::CardError));
}

const SUSPECTED: Decision = Decision::Refuse(Reason::RelaySuspected);

/// The way to a card.
type Way<'a> = dyn Fn(&[u8]) -> Vec<u8> + 'a;
/// What one who relays answers himself.
type Relay<'a> = dyn FnMut(&[u8], &Way<'_>) -> Option<Vec<u8>> + 'a;
/// What one in the middle makes of the answer to a command.
type Change<'a> = dyn Fn(&[u8], Vec<u8>) -> Vec<u8> + 'a;

/// A card elsewhere: what is relayed to it takes 20 ms, and what the one at the gate answers himself takes 1 ms. `own`
/// gives his answers; it is handed the way to the card.
fn relayed(own: &mut Relay<'_>) -> Decision {
    let mut spec = p256::Spec::new();
    spec.timed = true;
    let card = spec.issue();
    let far = |c: &[u8]| card.answer(c);
    let mut near = |c: &[u8]| match own(c, &far) {
        Some(answer) => (answer, 1_000),
        None => (far(c), 20_000),
    };
    timed_tap(&timing_config(), input(morning()), &mut near).0
}

#[test]
fn a_relayed_card_is_suspected_whatever_its_relay_answers() {
    assert_eq!(relayed(&mut |_, _| None), SUSPECTED, "everything is relayed");
    let made_up = ok(&tlv(0x80, &[1, 2, 3, 4, 0, 1, 0, 20, 0, 10]));
    // He answers himself, and the card is not asked.
    assert_eq!(relayed(&mut |c, _| (c[1] == 0xEA).then(|| made_up.clone())), SUSPECTED);
    // He answers himself, and then asks the card.
    let asks_afterwards = &mut |c: &[u8], far: &Way<'_>| {
        (c[1] == 0xEA).then(|| {
            far(c);
            made_up.clone()
        })
    };
    assert_eq!(relayed(asks_afterwards), SUSPECTED);
    // He has asked the card before, with a number of his own.
    let asked_before =
        &mut |c: &[u8], far: &Way<'_>| (c[1] == 0xEA).then(|| far(&[0x80, 0xEA, 0, 0, 4, c[5], 1, 1, 1, 0]));
    assert_eq!(relayed(asked_before), SUSPECTED);
    // Late once with the card's answer, he repeats it at the second try.
    let mut said = None;
    let repeats = &mut |c: &[u8], far: &Way<'_>| match (c[1], &said) {
        (0xEA, None) => {
            said = Some(far(c));
            None
        }
        (0xEA, Some(said)) => Some(said.clone()),
        _ => None,
    };
    assert_eq!(relayed(repeats), SUSPECTED);
    // He lets the card claim more time, within the cap and beyond it.
    for max in [0x30, 0xFF] {
        let mut spec = p256::Spec::new();
        spec.timed = true;
        let card = spec.issue();
        let mut near = |c: &[u8]| {
            let mut answer = card.answer(c);
            if c[1] == 0xEA {
                answer[9] = max;
            }
            (answer, 7_000)
        };
        assert_eq!(timed_tap(&timing_config(), input(morning()), &mut near).0, SUSPECTED);
    }
}

#[test]
fn an_offer_to_be_timed_that_was_taken_away_or_put_in_is_noticed() {
    let with = |timed: bool| {
        let mut spec = p256::Spec::new();
        spec.timed = timed;
        spec.issue()
    };
    let run = |card: &p256::Card, change: &Change<'_>| {
        timed_tap(&timing_config(), input(morning()), &mut |c| (change(c, card.answer(c)), 1_000)).0
    };
    let selects = |c: &[u8]| c[1] == 0xA4 && c[5] == 0xF0;
    let (can, cannot) = (with(true), with(false));
    // Taken out of the answer to SELECT: the profile, which is signed, still says it.
    let stripped = |c: &[u8], answer| if selects(c) { ok(&cannot.files.fci) } else { answer };
    assert_eq!(run(&can, &stripped), SUSPECTED);
    // And out of the profile.
    let both = |c: &[u8], answer| patch(stripped(c, answer), 0x82, |aip| aip[1] = 0);
    assert_eq!(run(&can, &both), FORGED);
    // Put in, where only somebody else can have answered.
    let offered = |c: &[u8], answer| match c[1] {
        0xEA => ok(&tlv(0x80, &[1, 2, 3, 4, 0, 1, 0, 20, 0, 10])),
        _ if selects(c) => ok(&can.files.fci),
        _ => answer,
    };
    assert_eq!(run(&cannot, &offered), SUSPECTED);
    // What the card says of the exchange is under its signature.
    let changed = |_: &[u8], answer| patch(answer, 0xDF73, |exchange| exchange[5] ^= 1);
    assert_eq!(run(&can, &changed), FORGED);
}

#[test]
fn nonsense_in_answer_to_the_timed_command_is_an_error() {
    let mut spec = p256::Spec::new();
    spec.timed = true;
    let card = spec.issue();
    let answers = [
        vec![],
        vec![0x6D, 0x00],
        vec![0x61, 0x0C],
        vec![0x6C, 0x0C],
        ok(&[]),
        ok(&tlv(0x80, &[0; 9])),
        ok(&tlv(0x77, &[0; 10])),
        ok(&[&tlv(0x80, &[0; 10])[..], &[0]].concat()),
    ];
    for answer in answers {
        let mut near = |c: &[u8]| (if c[1] == 0xEA { answer.clone() } else { card.answer(c) }, 1_000);
        let decision = timed_tap(&timing_config(), input(morning()), &mut near).0;
        assert_eq!(decision, Decision::Refuse(Reason::CardError), "{answer:02X?}");
    }
}

#[test]
fn another_cards_certificate_is_refused() {
    let mut other = p256::Spec::new();
    other.card_seed = 4;
    let other = other.issue();
    let mut card = p256::card();
    card.files.records[1] = other.files.records[1].clone();
    let mut kernel = gate();
    assert_eq!(tap(&mut kernel, &World::new(), &mut |c| card.answer(c)), FORGED);
    assert_eq!(
        kernel.facts().oda_fault,
        Some(OdaFault::DynamicSignature(SuiteError::Ecc(CertError::Signature)))
    );

    let mut other = rsa::Spec::new();
    other.other_key = true;
    let other = other.issue();
    let mut card = rsa::card();
    card.files.records[1] = other.files.records[1].clone();
    assert_eq!(first_tap(&World::new(), &mut |c| card.answer(c)), FORGED);
}

#[test]
fn another_cards_token_under_ones_own_key_is_refused() {
    // The thief owns a genuine card and shows another card's static data.
    let mut victim = p256::Spec::new();
    victim.token = Token::from_digits("6212340000000001").unwrap();
    let victim = victim.issue();
    let mut thief = p256::Spec::new();
    thief.card_seed = 4;
    let mut thief = thief.issue();
    thief.files.records[2] = victim.files.records[2].clone();
    let mut kernel = gate();
    assert_eq!(tap(&mut kernel, &World::new(), &mut |c| thief.answer(c)), FORGED);
    assert_eq!(kernel.facts().oda_fault, Some(OdaFault::StaticData));
}

/// Records a tap of a card, then plays its answers at another tap with other inputs.
fn replay(
    config: &Config,
    recorded_at: TapInput,
    played_at: TapInput,
    mut card: impl FnMut(&[u8]) -> Vec<u8>,
) -> Decision {
    let mut tape = vec![];
    let world = World::new();
    let recorded = tap_by(Host::Late, &mut gate(), config, &world, recorded_at, &mut |c| {
        let answer = card(c);
        tape.push(answer.clone());
        answer
    });
    assert_eq!(recorded.0, OPEN);
    let mut tape = tape.into_iter();
    tap_by(Host::Late, &mut gate(), config, &world, played_at, &mut |_| tape.next().unwrap()).0
}

#[test]
fn replayed_answers_are_refused() {
    let (first, mut second) = (input(morning()), input(morning()));
    second.unpredictable = [1, 2, 3, 4];
    let (house, mut unionpay) = (p256::card(), rsa::card());
    assert_eq!(replay(&config(), first, second, |c| house.answer(c)), FORGED);
    assert_eq!(replay(&config(), first, second, |c| unionpay.answer(c)), FORGED);
}

/// A man in the middle changes what the card is asked.
fn asked_otherwise(at: usize, mut card: impl FnMut(&[u8]) -> Vec<u8>) -> Decision {
    first_tap(&World::new(), &mut |c| {
        let mut command = c.to_vec();
        if command[1] == 0xA8 {
            // Header 5, then `83 21`, then the values.
            command[7 + at] ^= 0x01;
        }
        card(&command)
    })
}

#[test]
fn an_amount_currency_or_unpredictable_number_other_than_sent_is_refused() {
    let (house, mut unionpay) = (p256::card(), rsa::card());
    // Places in the values: 9F66 0, 9F02 4, 9F03 10, 9F1A 16, 95 18, 5F2A 23, 9A 25, 9C 28, 9F37 29.
    for at in 0..33 {
        assert_eq!(asked_otherwise(at, |c| house.answer(c)), FORGED, "value byte {at}");
    }
    for at in (4..10).chain(23..25).chain(29..33) {
        assert_eq!(asked_otherwise(at, |c| unionpay.answer(c)), FORGED, "value byte {at}");
    }
}

#[test]
fn a_list_with_a_zero_filled_stand_in_for_the_unpredictable_number_is_refused() {
    // The thief's list asks for an unknown tag where 9F37 stood, so that a signature over zeros would serve.
    let stand_in = |pdol: &[u8]| {
        let mut pdol = pdol.to_vec();
        let len = pdol.len();
        pdol[len - 3..len - 1].copy_from_slice(&[0xDF, 0x01]);
        pdol
    };
    let mut spec = p256::Spec::new();
    spec.pdol = stand_in(p256::PDOL);
    let mut kernel = gate();
    let card = spec.issue();
    assert_eq!(tap(&mut kernel, &World::new(), &mut |c| card.answer(c)), FORGED);
    assert_eq!(kernel.facts().oda_fault, Some(OdaFault::UnprotectedPdol));

    // Even with 9F37 elsewhere, the certificate covers the genuine card's list alone.
    let genuine = p256::card();
    let mut other = p256::Spec::new();
    other.pdol = [&stand_in(p256::PDOL)[..], &[0x9F, 0x37, 4]].concat();
    let other = other.issue();
    let swapped = |c: &[u8]| if c[1] == 0xA4 { other.answer(c) } else { genuine.answer(c) };
    assert_eq!(tap(&mut kernel, &World::new(), &mut |c| swapped(c)), FORGED);
    assert_eq!(kernel.facts().oda_fault, Some(OdaFault::StaticData));
}

#[test]
fn a_list_that_leaves_out_what_must_be_signed_is_refused() {
    // In the list: 9F02 at 3, 5F2A at 14, 9F37 at the end; a length of another size does not protect either.
    let short = |at: usize| {
        let mut pdol = p256::PDOL.to_vec();
        pdol[at] -= 1;
        pdol
    };
    let end = p256::PDOL.len();
    for pdol in [short(5), short(16), short(end - 1), p256::PDOL[..end - 3].to_vec(), vec![]] {
        let mut spec = rsa::Spec::new();
        spec.pdol = pdol;
        let mut card = spec.issue();
        assert_eq!(first_tap(&World::new(), &mut |c| card.answer(c)), FORGED);
    }
}

#[test]
fn token_or_expiry_that_disagree_are_refused() {
    let with = |change: &dyn Fn(&mut rsa::Spec)| {
        let mut spec = rsa::Spec::new();
        change(&mut spec);
        let mut card = spec.issue();
        let mut kernel = gate();
        (tap(&mut kernel, &World::new(), &mut |c| card.answer(c)), kernel.facts().oda_fault)
    };
    use wavepass_protocol::tags;
    let track2_token = with(&|s| s.track2[7] = 0x35);
    assert_eq!(track2_token, (FORGED, Some(OdaFault::TokenDisagrees(tags::TRACK2))));
    assert_eq!(with(&|s| s.track2[8] = 0xD2), (FORGED, Some(OdaFault::ExpiryDisagrees)));
    assert_eq!(with(&|s| s.track2 = vec![0x62]), (FORGED, Some(OdaFault::TokenDisagrees(tags::TRACK2))));
    // An expiry that is not signed and is changed does not agree with track 2.
    assert_eq!(
        with(&|s| (s.expiry_signed, s.expiry) = (false, [0x40, 0x12, 0x31])),
        (FORGED, Some(OdaFault::ExpiryDisagrees))
    );
    // Changed in both, it is still bounded by the certificate's: here it has passed.
    let both = with(&|s| {
        (s.expiry_signed, s.expiry, s.card_expiry_mmyy) = (false, [0x40, 0x12, 0x31], [0x10, 0x26]);
        s.track2[8..10].copy_from_slice(&[0xD4, 0x01]);
    });
    assert_eq!(both, (Decision::Refuse(Reason::Expired), None));
}

#[test]
fn an_object_given_twice_is_refused() {
    let error = Decision::Refuse(Reason::CardError);
    // Across the answer to GET PROCESSING OPTIONS and the records, and within either; even the same value.
    let twice = [
        (0x5A, token().bcd_short().to_vec()),
        (0x5F24, vec![0x30, 0x12, 0x31]),
        (0x9F36, vec![0, 5]),
        (0x82, vec![0x21, 0x00]),
        (0x94, vec![8, 1, 2, 0]),
        (0x9F26, vec![0xAC; 8]),
        (0x9F4B, vec![0x15; 65]),
        (0x9F46, vec![0x14; 145]),
        (0xDF71, vec![1; 8]),
    ];
    for (tag, value) in &twice {
        let mut spec = p256::Spec::new();
        spec.more_options = tlv(*tag, value);
        let card = spec.issue();
        assert_eq!(first_tap(&World::new(), &mut |c| card.answer(c)), error, "{tag:X} in the options");
        let mut spec = p256::Spec::new();
        spec.more_signed = tlv(*tag, value);
        let card = spec.issue();
        assert_eq!(first_tap(&World::new(), &mut |c| card.answer(c)), error, "{tag:X} in a record");
    }
}

#[test]
fn an_object_moved_out_of_the_signed_record_does_not_count() {
    let mut spec = p256::Spec::new();
    spec.without = vec![0x5A];
    spec.more_options = tlv(0x5A, token().bcd_short());
    let card = spec.issue();
    assert_eq!(first_tap(&World::new(), &mut |c| card.answer(c)), FORGED);
}

#[test]
fn a_locator_that_takes_the_records_out_of_the_signature_is_refused() {
    let card = p256::card();
    let changed = |c: &[u8]| patch(card.answer(c), 0x94, |afl| afl[7] = 0);
    assert_eq!(first_tap(&World::new(), &mut |c| changed(c)), FORGED);
    // Even signed by the card: the certificate's hash covers the record.
    let mut spec = p256::Spec::new();
    spec.afl[7] = 0;
    let card = spec.issue();
    assert_eq!(first_tap(&World::new(), &mut |c| card.answer(c)), FORGED);
}

#[test]
fn a_revoked_issuer_is_refused() {
    let mut world = World::new();
    world.revoked.push(Revocation { rid: p256::RID, index: 1, serial: p256::SERIAL });
    world.revoked.push(Revocation { rid: rsa::RID, index: 8, serial: rsa::SERIAL });
    let (house, mut unionpay) = (p256::card(), rsa::card());
    let mut kernel = gate();
    assert_eq!(tap(&mut kernel, &world, &mut |c| house.answer(c)), FORGED);
    assert_eq!(kernel.facts().oda_fault, Some(OdaFault::IssuerRevoked));
    assert_eq!(tap(&mut kernel, &world, &mut |c| unionpay.answer(c)), FORGED);
    assert_eq!(kernel.facts().oda_fault, Some(OdaFault::IssuerRevoked));
}

#[test]
fn an_expired_unknown_or_wrong_authority_key_is_refused() {
    let (house, mut unionpay) = (p256::card(), rsa::card());
    let fault = |change: &dyn Fn(&mut Authority), card: &mut dyn FnMut(&[u8]) -> Vec<u8>| {
        let mut world = World::new();
        world.authorities.iter_mut().for_each(change);
        let mut kernel = gate();
        assert_eq!(tap(&mut kernel, &world, card), FORGED);
        kernel.facts().oda_fault
    };
    for card in [&mut (|c: &[u8]| house.answer(c)) as &mut dyn FnMut(&[u8]) -> Vec<u8>, &mut |c: &[u8]| {
        unionpay.answer(c)
    }] {
        assert_eq!(fault(&|a| a.expiry = [0x20, 0x26, 0x11, 0x23], card), Some(OdaFault::CaKeyExpired));
        assert_eq!(fault(&|a| a.expiry = [0x20, 0x26, 0x13, 0x23], card), Some(OdaFault::CaKeyExpired));
        assert_eq!(fault(&|a| a.index = 0x20, card), Some(OdaFault::CaKeyUnknown));
        assert_eq!(fault(&|a| a.check_value[0] ^= 1, card), Some(OdaFault::CaKeyCheckValue));
    }
    assert_eq!(first_tap(&World { authorities: vec![], ..World::new() }, &mut |c| house.answer(c)), FORGED);
}

#[test]
fn a_signed_data_format_that_the_scheme_does_not_allow_is_refused() {
    let run = |format: u8, accepted: &[u8]| {
        let mut spec = rsa::Spec::new();
        spec.format = format;
        let mut card = spec.issue();
        let mut config = config();
        let i = aid_config(&mut config, &UNIONPAY_AID);
        config.applications[i].formats = heapless::Vec::from_slice(accepted).unwrap();
        let mut kernel = gate();
        let decision = tap_by(Host::Late, &mut kernel, &config, &World::new(), input(morning()), &mut |c| {
            card.answer(c)
        })
        .0;
        (decision, kernel.facts().oda_fault)
    };
    let format = |byte| Some(OdaFault::DynamicSignature(SuiteError::Rsa(RsaError::Format(byte))));
    assert_eq!(run(0x05, &[0x05, 0x95]).0, OPEN);
    assert_eq!(run(0x95, &[0x05, 0x95]).0, OPEN);
    assert_eq!(run(0x95, &[0x05]), (FORGED, format(0x95)));
    assert_eq!(run(0x15, &[0x05, 0x95]), (FORGED, format(0x15)));
}

#[test]
fn fdda_version_00_is_refused() {
    let mut spec = rsa::Spec::new();
    spec.version = 0;
    let mut card = spec.issue();
    let mut kernel = gate();
    assert_eq!(tap(&mut kernel, &World::new(), &mut |c| card.answer(c)), FORGED);
    assert_eq!(
        kernel.facts().oda_fault,
        Some(OdaFault::DynamicSignature(SuiteError::Rsa(RsaError::FddaVersion(0))))
    );
}

#[test]
fn a_counter_other_than_the_signed_one_is_refused() {
    let mut spec = rsa::Spec::new();
    spec.signed_atc += 1;
    let mut card = spec.issue();
    let mut kernel = gate();
    assert_eq!(tap(&mut kernel, &World::new(), &mut |c| card.answer(c)), FORGED);
    assert_eq!(
        kernel.facts().oda_fault,
        Some(OdaFault::DynamicSignature(SuiteError::Rsa(RsaError::AtcMismatch)))
    );
}

#[test]
fn a_list_of_signed_objects_other_than_the_aip_is_refused() {
    for list in [&[0x82, 0x5A][..], &[0x94]] {
        let mut spec = rsa::Spec::new();
        spec.tag_list = Some(list.to_vec());
        let mut card = spec.issue();
        assert_eq!(first_tap(&World::new(), &mut |c| card.answer(c)), FORGED);
    }
    let mut spec = rsa::Spec::new();
    spec.tag_list = None;
    let mut card = spec.issue();
    assert_eq!(first_tap(&World::new(), &mut |c| card.answer(c)), OPEN, "no list: the AIP is not signed");
}

#[test]
fn a_certificate_of_one_suite_does_not_serve_the_other() {
    let (house, mut unionpay) = (p256::card(), rsa::card());
    let mut config = config();
    for application in &mut config.applications {
        application.suite = if application.suite == Suite::P256 { Suite::Rsa } else { Suite::P256 };
        application.domain_required = false;
    }
    let world = World::new();
    let run = |card: &mut dyn FnMut(&[u8]) -> Vec<u8>| {
        tap_by(Host::Late, &mut gate(), &config, &world, input(morning()), card).0
    };
    assert_eq!(run(&mut |c| house.answer(c)), FORGED);
    assert_eq!(run(&mut |c| unionpay.answer(c)), FORGED);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Random answers never panic, never open and always end (`tap_by` counts the commands).
    #[test]
    fn a_card_of_random_answers_is_refused(answers in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..600), 0..40)) {
        let mut answers = answers.into_iter();
        let decision = first_tap(&World::new(), &mut |_| answers.next().unwrap_or_default());
        prop_assert!(matches!(decision, Decision::Refuse(_)));
    }

    /// Genuine answers with bytes changed, cut or doubled: refused unless nothing that matters changed.
    #[test]
    fn a_card_of_mutated_answers_never_opens_with_another_token(
        house in any::<bool>(),
        changes in proptest::collection::vec((0usize..8, any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..4),
    ) {
        let (p256, mut rsa) = (p256::card(), rsa::card());
        let mut kernel = gate();
        let mut step = 0;
        let decision = tap(&mut kernel, &World::new(), &mut |c| {
            let mut answer = if house { p256.answer(c) } else { rsa.answer(c) };
            for (at, place, byte, how) in changes.iter().filter(|change| change.0 == step) {
                let place = place.index(answer.len() + at);
                let place = place.min(answer.len().saturating_sub(1));
                match how {
                    0 => answer[place] ^= byte,
                    1 => answer.truncate(place),
                    2 => answer.insert(place, *byte),
                    _ => answer.extend_from_within(place..),
                }
                if answer.is_empty() {
                    break;
                }
            }
            step += 1;
            answer
        });
        if decision == OPEN {
            prop_assert_eq!(kernel.facts().token, Some(token()));
        }
    }
}
