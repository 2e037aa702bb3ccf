//! A line without faults: what is in the field is found, and APDUs pass.

use crate::world::{Echo, Reader, Seen, World, answer_to, command, reader};
use std::time::Duration;
use wavepass_hce::pn532::{Injected, Kind, Presented, Switches};
use wavepass_pn532::response::Found;
use wavepass_pn532::status::StatusError;
use wavepass_pn532::{Detected, Pn532Error, Target};

pub fn found(world: &World, reader: &mut Reader) -> Target {
    match world.run(reader.wait_card()).unwrap() {
        Detected::One(target) => target,
        other => panic!("{other:?}"),
    }
}

pub fn card(kind: Kind) -> Presented {
    Presented { card: Box::new(Echo(Seen::default())), kind }
}

#[test]
fn a_phone_is_found_and_answers() {
    let world = World::new(1);
    let mut reader = reader(&world);
    let seen = Seen::default();
    world.present(&seen);
    let target = found(&world, &mut reader);
    assert!(target.card.takes_apdus());
    assert!(matches!(&target.card, Found::A(a) if a.uid.len() == 4 && a.uid[0] == 8 && a.ats.len() == 9));
    assert_eq!(reader.version().map(|v| (v.ic, v.version, v.revision)), Some((0x32, 1, 6)));
    let mut answer = [0; 300];
    for number in 0..20 {
        let command = command(number, 200);
        let len = world.run(reader.exchange(&target, &command, &mut answer)).unwrap();
        assert_eq!(answer[..len], answer_to(&command));
    }
    world.run(reader.release()).unwrap();
    assert_eq!(world.chip.borrow().counters().releases, 1);
    assert_eq!(seen.lock().unwrap().len(), 20);
    let gone = world.run(reader.exchange(&target, &command(99, 0), &mut answer));
    assert_eq!(gone, Err(Pn532Error::TargetForgotten));
}

#[test]
fn an_empty_field_a_type_b_card_and_a_ticket_are_told_apart() {
    let world = World::new(2);
    let mut reader = reader(&world);
    assert_eq!(world.run(reader.poll()).unwrap(), Detected::None);
    world.set_field(vec![card(Kind::B)]);
    let target = found(&world, &mut reader);
    assert!(matches!(target.card, Found::B(_)));
    let mut answer = [0; 64];
    let len = world.run(reader.exchange(&target, &command(1, 10), &mut answer)).unwrap();
    assert_eq!(answer[..len], answer_to(&command(1, 10)));
    world.set_field(vec![card(Kind::Ticket)]);
    assert!(!found(&world, &mut reader).card.takes_apdus());
}

#[test]
fn two_cards_are_several_until_one_is_taken_away() {
    let world = World::new(3);
    let mut reader = reader(&world);
    let pairs = [(Kind::A, Kind::A), (Kind::B, Kind::B), (Kind::A, Kind::B), (Kind::B, Kind::Ticket)];
    for (one, other) in pairs {
        world.set_field(vec![card(one), card(other)]);
        assert_eq!(world.run(reader.wait_card()).unwrap(), Detected::Several);
        assert_eq!(world.run(reader.wait_card()).unwrap(), Detected::Several);
    }
    world.set_field(vec![card(Kind::A)]);
    found(&world, &mut reader);
    world.set_field(Vec::new());
    world.run(reader.wait_gone()).unwrap();
}

#[test]
fn long_commands_and_answers_pass_in_parts() {
    let world = World::new(4);
    let mut reader = reader(&world);
    let seen = Seen::default();
    world.present(&seen);
    let mut answer = [0; 2048];
    for fragment in [1, 2, 16, 61, 255, 262] {
        world.switch(Switches { fragment, ..Switches::default() });
        let target = found(&world, &mut reader);
        for (number, answer_len, tail) in
            [(1, 0, 0), (2, 240, 255), (3, 253, 256), (4, 254, 257), (5, 400, 1500)]
        {
            let command = [command(number, answer_len), vec![0xC3; tail]].concat();
            let len = world.run(reader.exchange(&target, &command, &mut answer));
            let whole = answer_to(&command);
            if whole.len() > 512 * fragment {
                assert_eq!(len, Err(Pn532Error::TooManyParts));
                break;
            }
            assert_eq!(answer[..len.unwrap()], whole, "in parts of {fragment}");
        }
    }
    assert!(seen.lock().unwrap().iter().any(|command| command.len() == 1506));
}

#[test]
fn an_answer_longer_than_the_buffer_is_refused_and_the_next_card_is_served() {
    let world = World::new(5);
    let mut reader = reader(&world);
    world.present(&Seen::default());
    let target = found(&world, &mut reader);
    let mut answer = [0; 258];
    let too_long = world.run(reader.exchange(&target, &command(1, 300), &mut answer));
    assert_eq!(too_long, Err(Pn532Error::AnswerTooLong { limit: 258 }));
    assert!(too_long.unwrap_err().is_card_protocol());
    let target = found(&world, &mut reader);
    assert!(world.run(reader.exchange(&target, &command(2, 100), &mut answer)).is_ok());
}

#[test]
fn a_card_pulled_at_any_apdu_is_gone_and_found_when_it_comes_back() {
    for at in 0..5 {
        let world = World::new(6);
        let mut reader = reader(&world);
        world.switch(Switches { pull_at_apdu: Some(at), ..Switches::default() });
        world.present(&Seen::default());
        let target = found(&world, &mut reader);
        let mut answer = [0; 64];
        let results = (0..=at).map(|n| world.run(reader.exchange(&target, &command(n, 9), &mut answer)));
        let results: Vec<_> = results.collect();
        assert!(results[..at as usize].iter().all(Result::is_ok));
        let lost = results[at as usize].unwrap_err();
        assert_eq!(lost, Pn532Error::Status(StatusError::Timeout));
        assert!(lost.is_card_gone());
        assert_eq!(world.run(reader.poll()).unwrap(), Detected::None);
        world.switch(Switches::default());
        world.present(&Seen::default());
        found(&world, &mut reader);
    }
}

#[test]
fn a_card_pulled_while_it_answers_gives_no_part_of_an_answer() {
    let world = World::new(7);
    let mut reader = reader(&world);
    world.present(&Seen::default());
    world.switch(Switches { fragment: 16, ..Switches::one(Injected::PullMidAnswer, 0.2) });
    let mut answer = [0; 258];
    let (mut whole, mut lost) = (0, 0);
    for number in 0..100 {
        let target = found(&world, &mut reader);
        match world.run(reader.exchange(&target, &command(number, 100), &mut answer)) {
            Ok(len) => {
                assert_eq!(answer[..len], answer_to(&command(number, 100)));
                whole += 1;
            }
            Err(e) => {
                assert!(e.is_card_gone(), "{e}");
                lost += 1;
            }
        }
    }
    assert!(whole > 5 && lost > 5, "{whole} whole, {lost} lost");
}

#[test]
fn a_card_that_is_too_slow_is_a_timeout_and_the_reader_recovers() {
    let world = World::new(8);
    let mut reader = reader(&world);
    world.present(&Seen::default());
    world.switch(Switches { apdu_delay_ms: 1_500, ..Switches::default() });
    let target = found(&world, &mut reader);
    let begun = world.now();
    let slow = world.run(reader.exchange(&target, &command(1, 1), &mut [0; 64])).unwrap_err();
    assert!(slow.is_timeout() && slow.is_reader_fault() && !slow.is_card_gone());
    // Virtual time: the deadline itself is what is looked at.
    assert_eq!((world.now() - begun).as_millis() / 10, 100);
    world.switch(Switches::default());
    let target = found(&world, &mut reader);
    let mut answer = [0; 64];
    let len = world.run(reader.exchange(&target, &command(2, 1), &mut answer)).unwrap();
    assert_eq!(answer[..len], answer_to(&command(2, 1)), "not the late answer to the first");
    assert!(world.now() < Duration::from_secs(60));
}

#[test]
fn the_reader_fits_in_1_kib() {
    // The line itself comes to it: a serial line is a handle, I²C and SPI hold one more frame.
    assert!(size_of::<Reader>() <= 1024, "{} bytes", size_of::<Reader>());
}
