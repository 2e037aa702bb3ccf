//! Bad commands get a status word; none ends the phone, and none moves its counter but a good one.

use crate::cast::*;
use rand::Rng;
use wavepass_hce::card::Card;
use wavepass_hce::phone::Phone;
use wavepass_hce::reader::read;
use wavepass_protocol::apdu::{Command, PPSE, Response, Status};

fn send(phone: &mut Phone, command: &[u8]) -> Status {
    let answer = phone.transmit(command).unwrap().data;
    Response::parse(&answer).unwrap().status
}

fn encode(command: &Command<'_>) -> Vec<u8> {
    let mut out = [0; 512];
    let len = command.encode(&mut out).unwrap();
    out[..len].to_vec()
}

fn select_house(phone: &mut Phone) {
    assert_eq!(send(phone, &encode(&Command::select(b"\xF0WAVEPASS\x01"))), Status::Success);
}

fn options() -> Vec<u8> {
    let mut template = vec![0x83, 33];
    template.extend([0; 33]);
    encode(&Command::get_processing_options(&template))
}

#[test]
fn each_kind_of_malformed_command_has_its_status_word() {
    let mut phone = phone(&house(1));
    phone.enter_field();
    let cases: [(&[u8], Status); 19] = [
        (&[], Status::WrongLength),
        (&[0x00, 0xA4, 0x04], Status::WrongLength),
        (&[0x00, 0xA4, 0x04, 0x00, 5, 1, 2], Status::WrongLength),
        (&[0x00, 0xA4, 0x04, 0x00, 0, 0, 0, 0], Status::WrongLength),
        (&[0x00, 0xA4, 0x04, 0x00], Status::WrongLength),
        (&[0x00, 0xA4, 0x04, 0x00, 4, 1, 2, 3, 4, 0], Status::WrongLength),
        (&[0x00, 0xA4, 0x00, 0x00, 5, 1, 2, 3, 4, 5], Status::WrongParameters),
        (&[0x00, 0xA4, 0x04, 0x02, 5, 1, 2, 3, 4, 5], Status::WrongParameters),
        (&[0x00, 0xA4, 0x04, 0x00, 5, 1, 2, 3, 4, 5], Status::FileNotFound),
        (&[0x80, 0xA4, 0x04, 0x00, 5, 1, 2, 3, 4, 5], Status::ClassNotSupported),
        (&[0x00, 0xA8, 0x00, 0x00, 2, 0x83, 0x00, 0], Status::ClassNotSupported),
        (&[0x00, 0x84, 0x00, 0x00, 8], Status::InstructionNotSupported),
        (&[0xFF, 0xCA, 0x00, 0x00, 0], Status::InstructionNotSupported),
        (&[0x80, 0xA8, 0x00, 0x00, 2, 0x83, 0x00, 0], Status::ConditionsNotSatisfied),
        (&[0x00, 0xB2, 0x01, 0x0C, 0], Status::ConditionsNotSatisfied),
        (&[0x00, 0xC0, 0x00, 0x00, 0], Status::ConditionsNotSatisfied),
        (&[0x00, 0xC0, 0x01, 0x00, 0], Status::WrongParameters),
        (&[0x0C, 0xB2, 0x01, 0x0C, 0], Status::ClassNotSupported),
        (&[0x80, 0xAE, 0x80, 0x00, 0], Status::InstructionNotSupported),
    ];
    for (command, status) in cases {
        assert_eq!(send(&mut phone, command), status, "{command:02X?}");
    }
    assert_eq!(phone.atc(0).unwrap(), 0);
}

#[test]
fn processing_options_must_be_those_asked_for_once() {
    let mut phone = phone(&house(1));
    phone.enter_field();
    select_house(&mut phone);
    for (command, status) in [
        (&[0x80, 0xA8, 0x00, 0x00, 2, 0x83, 0x00, 0][..], Status::WrongLength),
        (&[0x80, 0xA8, 0x00, 0x00, 2, 0x84, 0x00, 0], Status::WrongData),
        (&[0x80, 0xA8, 0x00, 0x00, 2, 0x83, 0x05, 0], Status::WrongData),
        (&[0x80, 0xA8, 0x00, 0x00, 0], Status::WrongData),
        (&[0x80, 0xA8, 0x01, 0x00, 2, 0x83, 0x00, 0], Status::WrongParameters),
    ] {
        assert_eq!(send(&mut phone, command), status, "{command:02X?}");
    }
    assert_eq!(phone.atc(0).unwrap(), 0);
    assert_eq!(send(&mut phone, &options()), Status::Success);
    assert_eq!(send(&mut phone, &options()), Status::ConditionsNotSatisfied);
    assert_eq!(phone.atc(0).unwrap(), 1);
    for (command, status) in [
        ([0x00, 0xB2, 0x01, 0x0C, 0], Status::Success),
        ([0x00, 0xB2, 0x03, 0x0C, 0], Status::RecordNotFound),
        ([0x00, 0xB2, 0x00, 0x0C, 0], Status::RecordNotFound),
        ([0x00, 0xB2, 0x01, 0xFC, 0], Status::RecordNotFound),
        ([0x00, 0xB2, 0x01, 0x0D, 0], Status::WrongParameters),
    ] {
        assert_eq!(send(&mut phone, &command), status, "{command:02X?}");
    }
    phone.enter_field();
    assert_eq!(send(&mut phone, &[0x00, 0xB2, 0x01, 0x0C, 0]), Status::ConditionsNotSatisfied);
}

#[test]
fn a_name_s_first_bytes_select_and_the_directory_deselects() {
    let mut phone = phone(&house(1));
    phone.enter_field();
    assert_eq!(send(&mut phone, &encode(&Command::select(b"\xF0WAVE"))), Status::Success);
    assert_eq!(send(&mut phone, &encode(&Command::select(PPSE))), Status::Success);
    assert_eq!(send(&mut phone, &options()), Status::ConditionsNotSatisfied);
    assert_eq!(send(&mut phone, &encode(&Command::select(b"\xF0WAVEPASS\x01\x02"))), Status::FileNotFound);
}

#[test]
fn what_does_not_fit_the_length_asked_for_waits_for_get_response() {
    let mut phone = phone(&house(1));
    phone.enter_field();
    select_house(&mut phone);
    assert_eq!(send(&mut phone, &options()), Status::Success);
    let whole = phone.transmit(&[0x00, 0xB2, 0x02, 0x0C, 0]).unwrap().data;
    let mut joined = Vec::new();
    let mut command = vec![0x00, 0xB2, 0x02, 0x0C, 10];
    loop {
        let answer = phone.transmit(&command).unwrap().data;
        let Response { data, status } = Response::parse(&answer).unwrap();
        joined.extend_from_slice(data);
        match status {
            Status::MoreData(left) => command = vec![0x00, 0xC0, 0x00, 0x00, left.min(60)],
            status => break assert_eq!(status, Status::Success),
        }
    }
    assert_eq!(joined, whole[..whole.len() - 2]);
    // The extended form of the same command.
    assert_eq!(phone.transmit(&[0x00, 0xB2, 0x02, 0x0C, 0, 0, 0]).unwrap().data, whole);
    // Another command forgets what waited.
    assert!(matches!(send(&mut phone, &[0x00, 0xB2, 0x02, 0x0C, 10]), Status::MoreData(_)));
    select_house(&mut phone);
    assert_eq!(send(&mut phone, &[0x00, 0xC0, 0x00, 0x00, 0]), Status::ConditionsNotSatisfied);
}

/// Random bytes, and good commands with random changes: always a status word.
#[test]
fn no_command_harms_the_phone() {
    let mut phone = phone(&house(1).with(rsa(1)));
    let mut random = rng(42);
    let good = read(&mut phone, &gate(1)).unwrap().exchanges;
    for round in 0..20_000u32 {
        let mut command = good[random.next_u32() as usize % good.len()].c.clone();
        if round % 4 == 0 {
            command = vec![0; random.next_u32() as usize % 48];
            random.fill_bytes(&mut command);
        }
        for _ in 0..random.next_u32() % 3 {
            let at = random.next_u32() as usize % command.len().max(1);
            if let Some(byte) = command.get_mut(at) {
                *byte = random.next_u32() as u8;
            }
        }
        if round % 7 == 0 {
            command.truncate(random.next_u32() as usize % (command.len() + 1));
        }
        let answer = phone.transmit(&command).unwrap().data;
        assert!(Response::parse(&answer).is_ok(), "{command:02X?}");
    }
    assert!(read(&mut phone, &gate(2)).is_ok());
}
