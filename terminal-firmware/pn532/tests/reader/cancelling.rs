//! Waiting for a card may be dropped at any moment.

use crate::exchanging::{card, found};
use crate::world::{Seen, World, answer_to, command, is_long, reader};
use embassy_futures::select::{Either, select};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::HashSet;
use std::time::Duration;
use wavepass_hce::pn532::{Kind, Switches};
use wavepass_pn532::{Detected, Pn532Error};

/// Other traffic wins the race at every so many microseconds, down to one.
#[test]
fn a_wait_that_is_dropped_again_and_again_still_finds_the_card() {
    // Set-up, the field off and on, a search for each type; for a type B card that is alone, release, the field off and
    // on, and another search.
    for (kind, commands) in [(Kind::A, 9), (Kind::B, 13)] {
        finds_though_dropped(kind, commands);
    }
}

fn finds_though_dropped(kind: Kind, commands: u64) {
    for every_us in [1, 40, 333, 1_000, 4_999, 20_000, 77_777] {
        let world = World::new(every_us);
        let mut reader = reader(&world);
        world.set_field(vec![card(kind)]);
        let mut drops = 0u32;
        let target = loop {
            let traffic = world.wait_until(world.now() + Duration::from_micros(every_us));
            match world.run(select(reader.wait_card(), traffic)) {
                Either::First(found) => break found.unwrap(),
                Either::Second(()) => drops += 1,
            }
            assert!(world.now() < Duration::from_secs(5), "no progress when dropped every {every_us} µs");
        };
        let Detected::One(target) = target else { panic!("{target:?}") };
        assert!(every_us > 4_999 || drops > 10, "{drops} drops");
        assert_eq!(world.chip.borrow().counters().commands, commands, "nothing is sent twice");
        let mut answer = [0; 64];
        let len = world.run(reader.exchange(&target, &command(1, 20), &mut answer)).unwrap();
        assert_eq!(answer[..len], answer_to(&command(1, 20)));
    }
}

#[test]
fn waits_that_are_dropped_on_a_bad_line_find_the_card_too() {
    let (worlds, taps) = if is_long() { (50, 100) } else { (5, 20) };
    for seed in 200..200 + worlds {
        let world = World::new(seed);
        let mut reader = reader(&world);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let seen = Seen::default();
        world.present(&seen);
        world.switch(Switches { fragment: 50, ..Switches::noise(0.02) });
        world.host_noise.set(0.001);
        let (mut number, mut right) = (0, 0);
        for _ in 0..taps {
            let begun = world.now();
            let target = loop {
                assert!(world.now() < begun + Duration::from_secs(300), "no progress");
                let traffic =
                    world.wait_until(world.now() + Duration::from_micros(random.random_range(1..40_000)));
                match world.run(select(reader.wait_card(), traffic)) {
                    Either::First(Ok(Detected::One(target))) => break target,
                    Either::First(Ok(other)) => panic!("one card is there, not {other:?}"),
                    // A search that gave up, or other traffic.
                    Either::First(Err(_)) | Either::Second(()) => {}
                }
            };
            let mut answer = [0; 258];
            for _ in 0..4 {
                number += 1;
                let command = command(number, 120);
                let Ok(len) = world.run(reader.exchange(&target, &command, &mut answer)) else { break };
                assert_eq!(answer[..len], answer_to(&command));
                right += 1;
            }
        }
        assert!(right > number / 2, "{right} of {number}");
        let seen = seen.lock().unwrap();
        let distinct: HashSet<_> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len(), "a card got a command twice");
    }
}

#[test]
fn release_and_waiting_for_an_empty_field_may_be_dropped_too() {
    let world = World::new(9);
    let mut reader = reader(&world);
    world.present(&Seen::default());
    found(&world, &mut reader);
    for _ in 0..3 {
        let now = world.now();
        world.run(select(reader.release(), world.wait_until(now + Duration::from_micros(100))));
    }
    world.set_field(Vec::new());
    while let Either::Second(()) = {
        let now = world.now();
        world.run(select(reader.wait_gone(), world.wait_until(now + Duration::from_millis(2))))
    } {
        assert!(world.now() < Duration::from_secs(5));
    }
    assert_eq!(world.chip.borrow().counters().releases, 1);
}

#[test]
fn an_exchange_that_was_dropped_is_aborted_and_its_target_forgotten() {
    let world = World::new(10);
    let mut reader = reader(&world);
    world.present(&Seen::default());
    world.switch(Switches { apdu_delay_ms: 300, ..Switches::default() });
    let target = found(&world, &mut reader);
    let now = world.now();
    let mut answer = [0; 64];
    let dropped = world.run(select(
        reader.exchange(&target, &command(1, 20), &mut answer),
        world.wait_until(now + Duration::from_millis(50)),
    ));
    assert!(matches!(dropped, Either::Second(())));
    let next = world.run(reader.exchange(&target, &command(2, 20), &mut answer));
    assert_eq!(next, Err(Pn532Error::TargetForgotten));
    let target = found(&world, &mut reader);
    let len = world.run(reader.exchange(&target, &command(3, 20), &mut answer)).unwrap();
    assert_eq!(answer[..len], answer_to(&command(3, 20)));
    // The abort before that was for a chip that slept.
    assert_eq!(world.chip.borrow().counters().aborts, 1);
}
