//! A recorded tap: the card signed the values of the terminal that recorded it, and the kernel verifies those.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::*;
use wavepass_kernel::{Decision, Step};
use wavepass_protocol::tap::Reason;

/// Plays a card's answers to the kernel. Its GET PROCESSING OPTIONS had these values, and the kernel is told so
/// where `told`.
fn play(
    world: &World,
    card: &mut dyn FnMut(&[u8]) -> Vec<u8>,
    change: &dyn Fn(&[u8]) -> Vec<u8>,
    told: bool,
) -> Decision {
    let mut kernel = gate();
    let config = config();
    let mut next = own(kernel.begin(&config, input(morning())));
    while let Some(command) = next {
        let sent = if command.starts_with(&[0x80, 0xA8]) { change(&command) } else { command };
        let answer = card(&sent);
        if told && sent.starts_with(&[0x80, 0xA8]) {
            assert!(kernel.sent(&sent));
        }
        next = own(kernel.answer(&config, &answer, 2_000));
    }
    work_off(&mut kernel, world);
    kernel.decision(&config, world).unwrap()
}

/// Another terminal's values: another unpredictable number, and a transaction type that this kernel never sends.
fn theirs(command: &[u8]) -> Vec<u8> {
    let mut command = command.to_vec();
    let le = command.len() - 1;
    for byte in &mut command[le - 5..le] {
        *byte ^= 0x21;
    }
    command
}

#[test]
fn a_signature_over_another_terminal_s_values_verifies_once_the_kernel_is_told_of_them() {
    let world = World::new();
    let card = p256::card();
    let mut p256 = |c: &[u8]| card.answer(c);
    assert_eq!(play(&world, &mut p256, &theirs, true), OPEN);
    assert_eq!(play(&world, &mut p256, &theirs, false), refused(Reason::AuthenticationFailed));
    let mut rsa = rsa::card();
    assert_eq!(play(&world, &mut |c| rsa.answer(c), &theirs, true), OPEN);
    let mut rsa = rsa::card();
    assert_eq!(play(&world, &mut |c| rsa.answer(c), &theirs, false), refused(Reason::AuthenticationFailed));
}

#[test]
fn only_values_of_the_same_length_in_the_same_command_are_taken() {
    let mut kernel = gate();
    let config = config();
    let card = p256::card();
    let mut command = own(kernel.begin(&config, input(morning()))).unwrap();
    assert!(!kernel.sent(&command), "a SELECT has no values");
    while !command.starts_with(&[0x80, 0xA8]) {
        match kernel.answer(&config, &card.answer(&command), 2_000) {
            Step::Send(next) => command = next.to_vec(),
            other => panic!("{other:?}"),
        }
    }
    assert!(kernel.sent(&command));
    for other in [&[0x80, 0xA8, 0, 0, 3, 0x83, 1, 0, 0][..], &[0x00, 0xB2, 1, 0x0C, 0], &[0x80]] {
        assert!(!kernel.sent(other), "{other:02X?}");
    }
}
