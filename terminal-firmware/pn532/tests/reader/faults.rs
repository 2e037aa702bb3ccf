//! Every fault alone and all at once: the reader never hangs, never takes a wrong answer for right, never sends a
//! card the same command twice, and finds its way back without help.

use crate::world::{Reader, Seen, World, answer_to, command, is_long, reader, reader_with};
use embassy_futures::select::{Either, select};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use std::time::Duration;
use wavepass_hce::pn532::{Injected, Switches};
use wavepass_pn532::frame::{Direction, MAX_FRAME, encode};
use wavepass_pn532::{Detected, Pn532Error, Settings};

/// Virtual time in which a call must have ended, with or without a card: all repeats and recoveries in a row.
const LONGEST_CALL: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct Came {
    right: u32,
    /// Wrong, by a change that the frames' checksums cannot show.
    unseen: u32,
    lost: u32,
    /// Why.
    errors: BTreeMap<String, u32>,
    /// Searches that ended with an error.
    gave_up: u32,
}

/// True of a wrong answer that no reader could tell from the right one: a frame's checksum is a sum of eight bits, and bytes
/// that change on the way to the chip or back may leave it as it was.
fn is_beyond_the_checksum(command: &[u8], answer: &[u8]) -> bool {
    let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    let right = answer_to(command);
    // The card answers with the command that it got.
    let on_the_way = answer
        .get(..command.len())
        .is_some_and(|got| got != command && sum(got) == sum(command) && answer == answer_to(got));
    let on_the_way_back = answer.len() == right.len() && sum(answer) == sum(&right);
    on_the_way || on_the_way_back
}

/// Taps with some exchanges each, until so many exchanges were tried.
fn play(world: &Rc<World>, reader: &mut Reader, exchanges: u32, seed: u64) -> Came {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let seen = Seen::default();
    world.present(&seen);
    let mut came = Came::default();
    let mut number = 0;
    while number < exchanges {
        let begun = world.now();
        let detected = world.run(reader.wait_card());
        assert!(world.now() - begun < LONGEST_CALL, "a search of {:?}", world.now() - begun);
        let target = match detected {
            Ok(Detected::One(target)) => target,
            Ok(other) => panic!("one card is there, not {other:?}"),
            Err(_) => {
                came.gave_up += 1;
                assert!(came.gave_up < 1_000, "the reader never finds its way back");
                continue;
            }
        };
        for _ in 0..random.random_range(1..8) {
            number += 1;
            let extra = if random.random_bool(0.1) { 300 } else { 0 };
            let command = [command(number, random.random_range(0..250)), vec![0x5A; extra]].concat();
            let mut answer = [0; 600];
            let begun = world.now();
            let result = world.run(reader.exchange(&target, &command, &mut answer));
            assert!(world.now() - begun < LONGEST_CALL);
            match result {
                Ok(len) if answer[..len] == answer_to(&command) => came.right += 1,
                Ok(len) => {
                    assert!(is_beyond_the_checksum(&command, &answer[..len]), "exchange {number}");
                    came.unseen += 1;
                    break;
                }
                Err(e) => {
                    came.lost += 1;
                    *came.errors.entry(e.to_string()).or_default() += 1;
                    break;
                }
            }
        }
    }
    let seen = seen.lock().unwrap();
    let distinct: HashSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "a card got a command twice");
    came
}

/// The reader is well again as soon as the line is.
fn recovers(world: &Rc<World>, reader: &mut Reader) {
    world.switch(Switches::default());
    world.host_noise.set(0.0);
    let came = play(world, reader, 20, 1);
    assert_eq!(came.gave_up, 0);
    assert!(came.lost <= 1 && came.right >= 19, "{came:?}");
}

fn exchanges() -> u32 {
    if is_long() { 20_000 } else { 400 }
}

#[test]
fn each_fault_alone_is_lived_with() {
    for (seed, fault) in (20..).zip(Injected::ALL) {
        let world = World::new(seed);
        let mut reader = reader(&world);
        world.switch(Switches { fragment: 100, ..Switches::one(fault, 0.1) });
        let came = play(&world, &mut reader, exchanges(), seed);
        let injected = world.chip.borrow().counters().injected(fault);
        println!("{fault:?}: {came:?}, injected {injected}");
        assert!(injected > 10, "{fault:?} happened {injected} times");
        assert!(came.right > exchanges() / 4, "{fault:?}: {came:?}");
        recovers(&world, &mut reader);
    }
}

/// What a line does to a frame costs time and no tap.
#[test]
fn faults_of_the_line_that_can_be_mended_lose_no_exchange() {
    let mended = [
        Injected::LateAck,
        Injected::MissingAck,
        Injected::CorruptAck,
        Injected::Split,
        Injected::WrongDcs,
        Injected::WrongLcs,
        Injected::SpuriousNack,
    ];
    for (seed, fault) in (40..).zip(mended) {
        let world = World::new(seed);
        let mut reader = reader(&world);
        world.switch(Switches::one(fault, 0.1));
        let came = play(&world, &mut reader, exchanges(), seed);
        assert!(came.lost * 50 <= came.right, "{fault:?}: {came:?}");
        assert_eq!(came.gave_up, 0, "{fault:?}");
    }
}

#[test]
fn all_faults_at_random_never_give_an_answer_that_the_checksums_refute() {
    let mut unseen = 0;
    let worlds = if is_long() { 200 } else { 12 };
    for seed in 100..100 + worlds {
        let world = World::new(seed);
        let mut reader = reader(&world);
        let chance = [0.01, 0.03, 0.08][seed as usize % 3];
        world.switch(Switches {
            fragment: 1 + seed as usize % 262,
            keeps_last_answer: seed % 2 == 0,
            ..Switches::noise(chance)
        });
        world.host_noise.set(chance / 50.0);
        let came = play(&world, &mut reader, 200, seed);
        println!("seed {seed}, chance {chance}: {came:?}");
        unseen += came.unseen;
        recovers(&world, &mut reader);
    }
    // Two bytes of one frame must change, and by the same sum.
    assert!(unseen <= worlds as u32 / 20, "{unseen} in {worlds} worlds");
}

#[test]
fn a_fault_that_never_ends_has_a_name_and_an_end() {
    let named = |fault, is: fn(&Pn532Error) -> bool| {
        let world = World::new(60);
        let mut reader = reader(&world);
        world.switch(Switches::one(fault, 1.0));
        let error = world.run(reader.wait_card()).unwrap_err();
        assert!(is(&error), "{fault:?}: {error}");
        assert!(error.is_reader_fault());
        assert!(world.now() < LONGEST_CALL);
        recovers(&world, &mut reader);
    };
    named(Injected::LostAnswer, |e| matches!(e, Pn532Error::NoAnswer { command: 0x14 }));
    named(Injected::WrongDcs, |e| matches!(e, Pn532Error::Broken { command: 0x14, .. }));
    named(Injected::WrongLcs, |e| matches!(e, Pn532Error::Broken { command: 0x14, .. }));
    named(Injected::Reset, |e| matches!(e, Pn532Error::NotAcknowledged { command: 0x14 }));
}

/// Noise that looks like a broken frame while the card works, and a chip that repeats its last answer when asked.
#[test]
fn the_answer_before_is_not_taken_for_the_answer() {
    let world = World::new(65);
    let mut reader = reader(&world);
    world.present(&Seen::default());
    world.switch(Switches { apdu_delay_ms: 200, keeps_last_answer: true, ..Switches::default() });
    let Ok(Detected::One(target)) = world.run(reader.wait_card()) else { panic!("a card is there") };
    let mut answer = [0; 64];
    assert!(world.run(reader.exchange(&target, &command(1, 9), &mut answer)).is_ok());
    let begun = world.now();
    let noise = async {
        world.wait_until(begun + Duration::from_millis(50)).await;
        world.chip.borrow_mut().babble(world.now(), &[0x00, 0xFF, 0x12, 0x34]);
        core::future::pending::<()>().await;
    };
    let second = command(2, 9);
    let result = world.run(select(reader.exchange(&target, &second, &mut answer), noise));
    assert!(matches!(result, Either::First(Err(Pn532Error::Repeated { command: 0x40 }))));
    recovers(&world, &mut reader);
}

/// An answer that was asked for again comes once more, after the next command was sent and its acknowledgement lost.
#[test]
fn a_repetition_that_comes_late_is_not_taken_for_the_next_answer() {
    let world = World::new(66);
    let mut reader = reader(&world);
    world.present(&Seen::default());
    let Ok(Detected::One(target)) = world.run(reader.wait_card()) else { panic!("a card is there") };
    let (first, second) = (command(1, 9), command(2, 9));
    let mut answer = [0; 64];

    world.switch(Switches::one(Injected::WrongDcs, 1.0));
    let mend = async {
        while world.chip.borrow().counters().injected(Injected::WrongDcs) == 0 {
            world.wait_until(world.now() + Duration::from_millis(1)).await;
        }
        world.switch(Switches::default());
        core::future::pending::<()>().await;
    };
    let result = world.run(select(reader.exchange(&target, &first, &mut answer), mend));
    assert!(matches!(result, Either::First(Ok(_))));
    assert_eq!(world.chip.borrow().counters().nacks, 1);

    world.switch(Switches { apdu_delay_ms: 100, ..Switches::one(Injected::MissingAck, 1.0) });
    let begun = world.now();
    let late = async {
        world.wait_until(begun + Duration::from_millis(10)).await;
        let data = [&[0x41, 0x00][..], &answer_to(&first)].concat();
        let mut frame = [0; MAX_FRAME];
        let len = encode(Direction::FromChip, &data, &mut frame).unwrap();
        world.chip.borrow_mut().babble(world.now(), &frame[..len]);
        core::future::pending::<()>().await;
    };
    let result = world.run(select(reader.exchange(&target, &second, &mut answer), late));
    assert!(matches!(result, Either::First(Err(Pn532Error::NotAcknowledged { command: 0x40 }))));
    recovers(&world, &mut reader);
}

#[test]
fn a_chip_that_is_reset_at_any_point_is_set_up_again() {
    for commands in 1..30 {
        let world = World::new(70);
        let mut reader = reader(&world);
        let seen = Seen::default();
        world.present(&seen);
        let is_due = |world: &World| world.chip.borrow().counters().commands >= commands;
        let mut was_reset = false;
        let mut right = 0;
        for number in 0..60 {
            if !was_reset && is_due(&world) {
                world.chip.borrow_mut().power_on();
                was_reset = true;
            }
            let Ok(Detected::One(target)) = world.run(reader.wait_card()) else { continue };
            let mut answer = [0; 64];
            if let Ok(len) = world.run(reader.exchange(&target, &command(number, 9), &mut answer)) {
                assert_eq!(answer[..len], answer_to(&command(number, 9)));
                right += 1;
            }
        }
        assert!(was_reset && right >= 58, "{right} right after a reset at command {commands}");
    }
}

/// A chip that may repeat its search for ever acknowledges, and says nothing more while no card is there; and it looks for
/// cards of type B first, so that one of type A would never be found.
#[test]
fn a_search_that_was_set_to_have_no_end_still_has_one() {
    let world = World::new(72);
    let mut reader = reader_with(&world, Settings { activation_retries: 255, ..Settings::default() });
    for _ in 0..3 {
        let begun = world.now();
        let came = world.run(reader.poll());
        assert!(matches!(came, Ok(Detected::None) | Err(Pn532Error::NoAnswer { .. })), "{came:?}");
        assert!(world.now() - begun < LONGEST_CALL);
    }
    recovers(&world, &mut reader);
}

#[test]
fn a_chip_that_acknowledges_and_never_answers_is_given_up_in_time_and_serves_again() {
    let world = World::new(71);
    let mut reader = reader(&world);
    let seen = Seen::default();
    world.present(&seen);
    let Ok(Detected::One(target)) = world.run(reader.wait_card()) else { panic!("one card is there") };
    world.switch(Switches { never_answers: true, ..Switches::default() });
    let mut answer = [0; 64];
    for give_up in 0..3 {
        let begun = world.now();
        let why = match give_up {
            0 => world.run(reader.exchange(&target, &command(1, 9), &mut answer)).map(drop),
            1 => world.run(reader.poll()).map(drop),
            _ => world.run(reader.recover()),
        };
        assert!(matches!(why, Err(Pn532Error::NoAnswer { .. })), "{why:?}");
        assert!(world.now() - begun < LONGEST_CALL);
    }
    assert!(seen.lock().unwrap().is_empty(), "the card got a command");
    world.switch(Switches::default());
    recovers(&world, &mut reader);
}
