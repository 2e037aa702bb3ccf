//! Every fault shows, and shows as what it is.

use crate::cast::*;
use crate::oracle::{check_house, check_rsa};
use wavepass_hce::card::{Answer, Card, CardFault};
use wavepass_hce::faults::{Astray, Broken, Fault, Step, certificate_of, recording};
use wavepass_hce::phone::{Phone, PhoneFile};
use wavepass_hce::reader::{ReadError, Reading, read};
use wavepass_protocol::apdu::Status;
use wavepass_protocol::ecc::CertError;
use wavepass_protocol::rsa::RsaError;
use wavepass_protocol::tags;
use wavepass_protocol::token::Token;

fn read_house(file: &PhoneFile) -> (Reading, Result<Token, CertError>) {
    let reading = read(&mut phone(file), &gate(1)).unwrap();
    let result = check_house(&reading, &HOUSE.ca_public_key());
    (reading, result)
}

fn read_rsa(file: &PhoneFile) -> (Reading, Result<Token, RsaError>) {
    let reading = read(&mut phone(file), &gate(1)).unwrap();
    let result = check_rsa(&reading, &RSA.ca_key(), &gate(1));
    (reading, result)
}

#[test]
fn a_forged_signature_does_not_verify_while_the_certificates_do() {
    assert_eq!(read_house(&house(1).with_fault(Fault::ForgedSignature)).1, Err(CertError::Signature));
    assert_eq!(read_rsa(&rsa(1).with_fault(Fault::ForgedSignature)).1, Err(RsaError::Hash));
}

#[test]
fn a_wrong_signed_counter_is_found() {
    let (reading, result) = read_house(&house(1).with_fault(Fault::WrongAtc));
    assert_eq!((reading.value(tags::ATC).unwrap(), result), (vec![0, 1], Err(CertError::Signature)));
    let (reading, result) = read_rsa(&rsa(1).with_fault(Fault::WrongAtc));
    assert_eq!((reading.value(tags::ATC).unwrap(), result), (vec![0, 1], Err(RsaError::AtcMismatch)));
}

#[test]
fn an_unused_card_is_genuine_and_answers_counter_0() {
    let mut phone = phone(&house(1).with_fault(Fault::Unused));
    for _ in 0..2 {
        let reading = read(&mut phone, &gate(1)).unwrap();
        assert_eq!(reading.value(tags::ATC).unwrap(), [0, 0]);
        assert!(check_house(&reading, &HOUSE.ca_public_key()).is_ok());
    }
    let (reading, result) = read_rsa(&rsa(1).with_fault(Fault::Unused));
    assert_eq!((reading.value(tags::ATC).unwrap(), result), (vec![0, 0], Ok(rsa_token(1))));
}

#[test]
fn a_card_that_declines_is_genuine_and_gives_an_aac() {
    for (reading, genuine) in [
        {
            let (r, c) = read_house(&house(1).with_fault(Fault::NoCryptogram));
            (r, c.is_ok())
        },
        {
            let (r, c) = read_rsa(&rsa(1).with_fault(Fault::NoCryptogram));
            (r, c.is_ok())
        },
    ] {
        assert!(genuine);
        assert_eq!(reading.value(tags::CID).unwrap(), [0x00]);
        assert_eq!(reading.value(tags::IAD).unwrap()[4] & 0x30, 0x00);
    }
}

#[test]
fn expired_and_not_yet_valid_phones_are_genuine_and_say_so() {
    let mut order = house_order(1);
    order.expiry.year = 26;
    order.expiry.month = 10;
    let (reading, result) = read_house(&HOUSE.issue(&order).unwrap());
    assert_eq!(
        (reading.value(tags::EXPIRY_DATE).unwrap(), result),
        (vec![0x26, 0x10, 0x31], Ok(house_token(1)))
    );
    let mut order = rsa_card_order(1);
    order.effective.year = 2027;
    let (reading, result) = read_rsa(&RSA.issue(&order, POOL.get(0).unwrap()).unwrap());
    assert_eq!(
        (reading.value(tags::EFFECTIVE_DATE).unwrap(), result),
        (vec![0x27, 0x01, 0x15], Ok(rsa_token(1)))
    );
}

#[test]
fn an_issuer_of_another_authority_is_found() {
    let stranger = house_authority(2);
    let (_, result) = read_house(&stranger.issue(&house_order(1)).unwrap());
    assert_eq!(result, Err(CertError::Signature));
}

#[test]
fn the_certificate_of_another_number_is_found() {
    let (_, result) = read_house(&certificate_of(house(1), &house(2)));
    assert_eq!(result, Err(CertError::StaticHash));
    let (_, result) = read_rsa(&certificate_of(rsa(1), &rsa(2)));
    assert_eq!(result, Err(RsaError::Hash));
}

#[test]
fn a_recording_answers_as_the_card_did_and_fails_at_the_next_unpredictable_number() {
    for original in [house(1), rsa(1)] {
        let thief = recording(&mut phone(&original), &gate(1)).unwrap();
        // Whose file it is does not matter: nothing of it is used.
        let clone = PhoneFile::from_json(&house(7).with_fault(thief).to_json()).unwrap();
        let at_the_thief_s = read(&mut phone(&clone), &gate(1)).unwrap();
        let at_a_gate = read(&mut phone(&clone), &gate(2)).unwrap();
        assert_eq!(at_the_thief_s.options, at_a_gate.options);
        if original.token() == house_token(1) {
            let ca = HOUSE.ca_public_key();
            assert_eq!(check_house(&at_the_thief_s, &ca), Ok(house_token(1)));
            assert_eq!(check_house(&at_a_gate, &ca), Err(CertError::Signature));
        } else {
            assert_eq!(check_rsa(&at_the_thief_s, &RSA.ca_key(), &gate(1)), Ok(rsa_token(1)));
            assert_eq!(check_rsa(&at_a_gate, &RSA.ca_key(), &gate(2)), Err(RsaError::Hash));
        }
    }
}

#[test]
fn a_pdol_with_a_stand_in_for_the_unpredictable_number_is_not_the_certified_one() {
    let (reading, result) = read_house(&house(1).with_fault(Fault::StaleDol));
    assert!(!reading.pdol_values.windows(4).any(|w| w == gate(1).unpredictable));
    assert_eq!(result, Err(CertError::StaticHash));
    let (reading, result) = read_rsa(&rsa(1).with_fault(Fault::StaleDol));
    assert!(reading.pdol_tlv.windows(2).any(|w| w == [0xDF, 0x7F]));
    assert_eq!(result, Err(RsaError::Hash));
}

#[test]
fn a_slow_card_says_how_slow() {
    let mut phone = phone(&house(1).with_fault(Fault::Slow { delay_us: 250_000 }));
    phone.enter_field();
    assert_eq!(phone.transmit(&[0x00, 0xA4, 0x04, 0x00]).unwrap().delay_us, 250_000);
}

#[test]
fn a_lost_field_loses_the_answer_but_not_the_counter_and_ends_with_the_next_field() {
    // PPSE and SELECT are answered; GET PROCESSING OPTIONS is carried out.
    let mut phone = phone(&house(1).with_fault(Fault::FieldLost { after: 2 }));
    for tap in 1..=2 {
        assert!(matches!(read(&mut phone, &gate(1)), Err(ReadError::Card(CardFault::Removed))));
        assert_eq!(phone.atc(0).unwrap(), tap);
        assert!(matches!(phone.transmit(&[0x00, 0xA4, 0x04, 0x00]), Err(CardFault::Removed)));
    }
}

#[test]
fn a_locked_phone_refuses_and_does_not_count() {
    let mut phone = phone(&house(1).with_fault(Fault::Locked));
    let result = read(&mut phone, &gate(1)).err().unwrap();
    assert!(matches!(result, ReadError::Status { status: Status::CommandNotAllowed, .. }), "{result}");
    assert_eq!(phone.atc(0).unwrap(), 0);
}

#[test]
fn every_kind_of_nonsense_stops_a_reader_with_an_error() {
    let failed =
        |kind| read(&mut phone(&house(1).with_fault(Fault::Broken { kind })), &gate(1)).err().unwrap();
    assert!(matches!(failed(Broken::Noise), ReadError::Tlv { step: "SELECT", .. }));
    assert!(matches!(failed(Broken::Directory), ReadError::Tlv { step: "SELECT PPSE", .. }));
    assert!(matches!(failed(Broken::Truncated), ReadError::Tlv { step: "SELECT", .. }));
    assert!(matches!(failed(Broken::Empty), ReadError::Apdu(_)));
    assert!(matches!(failed(Broken::Endless), ReadError::Endless));
    let mut phone = phone(&house(1).with_fault(Fault::Broken { kind: Broken::Oversized }));
    assert!(phone.transmit(&[0x00, 0xB2, 0x01, 0x0C, 0x00]).unwrap().data.len() > 2048);
}

#[test]
fn faults_compose() {
    let file = rsa(1)
        .with_fault(Fault::Unused)
        .with_fault(Fault::NoCryptogram)
        .with_fault(Fault::Slow { delay_us: 7 });
    let (reading, result) = read_rsa(&file);
    assert_eq!(result, Ok(rsa_token(1)));
    assert_eq!((reading.value(tags::ATC).unwrap(), reading.value(tags::CID).unwrap()), (vec![0, 0], vec![0]));
}

fn transmit(phone: &mut Phone, command: &[u8]) -> Vec<u8> {
    phone.transmit(command).unwrap().data
}

const SELECT_HOUSE: &[u8] = b"\x00\xA4\x04\x00\x0A\xF0WAVEPASS\x01\x00";

#[test]
fn a_field_is_lost_at_the_named_step() {
    for (step, answers) in [(Step::Directory, 0), (Step::Select, 1), (Step::Options, 2), (Step::Record, 3)] {
        let mut phone = phone(&house(1).with_fault(Fault::FieldLostAt { step }));
        let mut heard = 0;
        let mut count = Counted { phone: &mut phone, heard: &mut heard };
        assert!(matches!(read(&mut count, &gate(1)), Err(ReadError::Card(CardFault::Removed))));
        assert_eq!(heard, answers, "{step:?}");
    }
}

struct Counted<'a> {
    phone: &'a mut Phone,
    heard: &'a mut usize,
}

impl Card for Counted<'_> {
    fn enter_field(&mut self) {
        self.phone.enter_field();
    }

    fn transmit(&mut self, command: &[u8]) -> Result<Answer, CardFault> {
        let answer = self.phone.transmit(command)?;
        *self.heard += 1;
        Ok(answer)
    }
}

#[test]
fn a_phone_that_met_too_many_errors_drops_the_link_until_the_next_field() {
    let mut phone = phone(&house(1).with_fault(Fault::ErrorLimit { errors: 2 }));
    for _ in 0..2 {
        phone.enter_field();
        assert_eq!(transmit(&mut phone, SELECT_HOUSE)[..1], [0x6F]);
        for _ in 0..2 {
            assert_eq!(transmit(&mut phone, &[0x00, 0x84, 0, 0, 8]), [0x6D, 0x00]);
        }
        assert!(matches!(phone.transmit(SELECT_HOUSE), Err(CardFault::Removed)));
    }
}

#[test]
fn a_status_word_stands_alone_at_its_step() {
    let fault = Fault::StatusWord { status: [0x62, 0x83], step: Step::Select };
    let mut phone = phone(&house(1).with_fault(fault));
    phone.enter_field();
    assert_eq!(transmit(&mut phone, SELECT_HOUSE), [0x62, 0x83]);
    assert_ne!(transmit(&mut phone, b"\x00\xA4\x04\x00\x0E2PAY.SYS.DDF01\x00").len(), 2);
}

#[test]
fn answers_come_in_parts_and_add_up_to_the_whole() {
    let whole = read(&mut phone(&rsa(1)), &gate(1)).unwrap();
    let parts = read(&mut phone(&rsa(1).with_fault(Fault::Chained { bytes: 60 })), &gate(1)).unwrap();
    assert_eq!(parts.records.len(), whole.records.len());
    assert!(parts.records.iter().zip(&whole.records).take(3).all(|(a, b)| a.1 == b.1));
    assert!(parts.exchanges.len() > whole.exchanges.len());
    assert!(parts.exchanges.iter().all(|e| e.r.len() <= 62));
}

#[test]
fn a_long_record_comes_whole_to_an_extended_length_and_in_parts_to_a_short_one() {
    let mut phone = phone(&house(1).with_fault(Fault::Extended));
    let reading = read(&mut phone, &gate(1)).unwrap();
    assert_eq!(check_house(&reading, &HOUSE.ca_public_key()), Ok(house_token(1)));
    let long = &reading.records[0].1;
    assert!(long.len() > 256);
    let whole = transmit(&mut phone, &[0x00, 0xB2, 1, 0x0C, 0, 0, 0]);
    assert_eq!(whole, [&long[..], &[0x90, 0x00]].concat());
    assert_eq!(transmit(&mut phone, &[0x00, 0xB2, 1, 0x0C, 0])[256], 0x61);
}

#[test]
fn only_the_first_answer_or_the_signature_is_slow() {
    let times = |file: &PhoneFile| {
        let mut phone = phone(file);
        let mut times = Vec::new();
        phone.enter_field();
        let reading = read(&mut self::phone(file), &gate(1)).unwrap();
        for exchange in reading.exchanges {
            times.push(phone.transmit(&exchange.c).unwrap().delay_us);
        }
        times
    };
    let first = times(&house(1).with_fault(Fault::SlowFirst { delay_us: 9 }));
    assert_eq!(first, [9, 0, 0, 0, 0, 0]);
    let mut file = house(1).with_fault(Fault::Wtx { count: 2 });
    file.surface.answer_us = 10;
    file.surface.sign_us = 100;
    assert_eq!(times(&file), [10, 10, 2 * 77_330 + 110, 10, 10, 10]);
}

#[test]
fn a_locator_that_never_ends_names_records_that_are_there() {
    let mut phone = phone(&rsa(1).with_fault(Fault::Afl { kind: Astray::Endless }));
    let error = read(&mut phone, &gate(1)).err().unwrap();
    assert!(matches!(error, ReadError::Afl(_)), "{error}");
    assert_eq!(transmit(&mut phone, &[0x00, 0xB2, 200, 20 << 3 | 4, 0]), [0x70, 0x00, 0x90, 0x00]);
    let mut phone = self::phone(&rsa(1).with_fault(Fault::Afl { kind: Astray::Nowhere }));
    let error = read(&mut phone, &gate(1)).err().unwrap();
    assert!(matches!(error, ReadError::Status { status: Status::RecordNotFound, .. }), "{error}");
}
