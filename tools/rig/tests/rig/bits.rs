//! Every bit that a signature covers: changed, it fails the replay.

use crate::cast::{debit, house, national, older, visa};
use crate::replays::recorded;
use rig::replay::replay;
use rig::transcript::Transcript;
use std::ops::Range;
use wavepass_hce::phone::PhoneFile;
use wavepass_protocol::apdu::Command;
use wavepass_protocol::dol::Dol;
use wavepass_protocol::lists::Suite;
use wavepass_protocol::select::{Afl, Fci, oda_part};
use wavepass_protocol::tags;
use wavepass_protocol::tap::OdaMethod;
use wavepass_protocol::tlv::{self, Tag};

/// Where in a transcript a signed byte is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Command(usize, Range<usize>),
    Answer(usize, Range<usize>),
    Key(usize),
}

/// Where `part` lies in `whole`, of which it is a part.
fn within(whole: &[u8], part: &[u8]) -> Range<usize> {
    let at = part.as_ptr().addr() - whole.as_ptr().addr();
    at..at + part.len()
}

const CERTIFIED: [Tag; 7] = [
    tags::ISSUER_CERTIFICATE,
    tags::ISSUER_REMAINDER,
    tags::ISSUER_EXPONENT,
    tags::CARD_CERTIFICATE,
    tags::CARD_REMAINDER,
    tags::CARD_EXPONENT,
    tags::SDAD,
];

/// What the card's and its authority's signatures cover, and the signatures themselves.
fn signed(transcript: &Transcript, method: OdaMethod) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    let mut afl = Afl::EMPTY;
    let mut pdol = Vec::new();
    for (i, exchange) in transcript.exchanges.iter().enumerate() {
        let command = Command::parse(&exchange.command).unwrap();
        let answer = &exchange.answer;
        let data = &answer[..answer.len() - 2];
        let mut objects = |content: &[u8], tags: &[Tag]| {
            for object in tlv::iter(content).map(Result::unwrap).filter(|o| tags.contains(&o.tag)) {
                places.push(Place::Answer(i, within(answer, object.value)));
            }
        };
        match command.ins {
            0xA4 if i > 0 => {
                let fci = Fci::parse(data).unwrap();
                pdol = fci.pdol.unwrap().to_vec();
                if method == OdaMethod::Ecc {
                    for part in [fci.df_name, fci.pdol_tlv.unwrap()] {
                        places.push(Place::Answer(i, within(answer, part)));
                    }
                }
            }
            0xA8 => {
                let content = tlv::get(data, tags::RESPONSE_2).or(tlv::get(data, tags::RESPONSE_1)).unwrap();
                if let Ok(value) = tlv::get(content, tags::AFL) {
                    afl = Afl::parse(value).unwrap();
                }
                let values = tlv::get(command.data, tags::COMMAND_TEMPLATE).unwrap();
                match method {
                    OdaMethod::Ecc => {
                        places.push(Place::Answer(i, within(answer, content)));
                        places.push(Place::Command(i, within(&exchange.command, values)));
                    }
                    OdaMethod::Fdda | OdaMethod::Sm2 => {
                        if method == OdaMethod::Sm2 {
                            objects(content, &[tags::AIP]);
                        }
                        objects(content, &[tags::SDAD, tags::ATC, tags::CARD_AUTHENTICATION_DATA]);
                        let dol = Dol::parse(&pdol).unwrap();
                        for tag in [tags::UNPREDICTABLE_NUMBER, tags::AMOUNT, tags::CURRENCY] {
                            let value = dol.locate(values, tag).unwrap();
                            places.push(Place::Command(i, within(&exchange.command, value)));
                        }
                    }
                    _ => {}
                }
            }
            0xB2 => {
                let (sfi, record) = (command.p2 >> 3, command.p1);
                if afl.records().any(|r| (r.sfi, r.record, r.is_oda) == (sfi, record, true)) {
                    places.push(Place::Answer(i, within(answer, oda_part(sfi, data).unwrap())));
                } else {
                    let content = tlv::get(data, tags::RECORD).unwrap();
                    objects(content, &CERTIFIED);
                    objects(content, &[tags::CARD_AUTHENTICATION_DATA]);
                }
            }
            0x88 => {
                objects(tlv::get(data, tags::RESPONSE_2).unwrap(), &[tags::SDAD]);
                places.push(Place::Command(i, within(&exchange.command, command.data)));
            }
            _ => {}
        }
    }
    // Of the provider's keys the one that signed.
    let sm2 = method == OdaMethod::Sm2;
    let signed = |key: &rig::keys::AuthorityKey| (key.suite == Suite::Sm2) == sm2;
    places.extend(transcript.keys.iter().enumerate().filter(|(_, k)| signed(k)).map(|(i, _)| Place::Key(i)));
    places
}

fn bytes<'t>(transcript: &'t mut Transcript, place: &Place) -> &'t mut [u8] {
    match place {
        Place::Command(i, range) => &mut transcript.exchanges[*i].command[range.clone()],
        Place::Answer(i, range) => &mut transcript.exchanges[*i].answer[range.clone()],
        Place::Key(i) => &mut transcript.keys[*i].key,
    }
}

/// All bits where full counts are asked for, else one in 29.
fn every() -> usize {
    if std::env::var_os("WAVEPASS_LONG").is_some_and(|v| v == "1") { 1 } else { 29 }
}

fn changed_bits_fail(file: &PhoneFile, at_least: usize) {
    let (tap, transcript) = recorded(file);
    assert!(replay(&transcript).verdict.passed());
    let mut bits = 0;
    for place in signed(&transcript, tap.verdict.method.unwrap()) {
        let count = bytes(&mut transcript.clone(), &place).len() * 8;
        for bit in (0..count).filter(|bit| (bits + bit) % every() == 0) {
            let mut changed = transcript.clone();
            bytes(&mut changed, &place)[bit / 8] ^= 0x80 >> (bit % 8);
            assert!(!replay(&changed).verdict.passed(), "bit {bit} of {place:?} passed");
        }
        bits += count;
    }
    println!("{bits} signed bits, one in {} changed", every());
    assert!(bits >= at_least * 8, "only {bits} bits were found to be signed");
}

#[test]
fn any_changed_bit_that_a_p256_card_s_signatures_cover_fails() {
    changed_bits_fail(&house(), 117 + 145 + 64 + 33 + 32);
}

#[test]
fn any_changed_bit_that_an_rsa_card_s_signatures_cover_fails() {
    changed_bits_fail(&debit(), 248 + 176 + 144 + 248);
    changed_bits_fail(&visa(), 248 + 176 + 144 + 248);
}

#[test]
fn any_changed_bit_that_a_national_card_s_signatures_cover_fails() {
    changed_bits_fail(&national(), 142 + 148 + 64 + 12 + 64);
}

#[test]
fn any_changed_bit_that_an_older_card_s_signatures_cover_fails() {
    changed_bits_fail(&older(), 248 + 176 + 144 + 248);
}
