//! What the phone reads beside its own file: profiles, scripts, a chip's line, and what its log decodes.

use std::hint::black_box;
use std::time::Duration;
use wavepass_hce::contactless::{Identity, Surface};
use wavepass_hce::decode::{Follower, Numbers};
use wavepass_hce::pn532_target::{Event, Target};
use wavepass_hce::profile::Profile;
use wavepass_hce::script::Script;

pub(crate) fn text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    black_box(Profile::parse(text).is_ok());
    black_box(Script::from_toml(text).is_ok());
    black_box(Script::from_json(text).is_ok());
}

/// The bytes are what the chip sends; after each event the host does as `serve` does.
pub(crate) fn chip(data: &[u8]) {
    let mut target = Target::new(&Identity::new(&Surface::default(), [0; 32]));
    target.start(Duration::ZERO);
    for part in data.chunks(16) {
        for event in target.receive(Duration::ZERO, part) {
            match event {
                Event::Command(command) => target.answer(Duration::ZERO, &command),
                Event::Released => target.wait_for_reader(Duration::ZERO),
                Event::Fault(_) => target.start(Duration::ZERO),
                _ => {}
            }
        }
        black_box(target.output());
    }
}

/// A first byte splits each command from its answer.
pub(crate) fn log(data: &[u8]) {
    let mut follower = Follower::new(Numbers::Masked);
    for part in data.chunks(300) {
        let Some((at, rest)) = part.split_first() else { return };
        let (command, answer) = rest.split_at(usize::from(*at).min(rest.len()));
        black_box(follower.exchange(command, answer).to_json(Duration::ZERO));
    }
}

pub(crate) fn text_seeds() -> Vec<Vec<u8>> {
    let profiles = Profile::names().filter_map(Profile::text).map(|text| text.as_bytes().to_vec());
    let script = b"[[answer]]\nmatch = \"00A4??\"\nanswer = \"9000\"\nonce = true\ndelay_ms = 5\n".to_vec();
    let json = br#"{"answer":[{"match":"00","answer":"6A82"}]}"#.to_vec();
    profiles.chain([script, json]).collect()
}

pub(crate) fn chip_seeds() -> Vec<Vec<u8>> {
    let mut line = Vec::new();
    for answer in [
        &[0x15][..],
        &[0x13],
        &[0x8D, 0x08, 0xE0, 0x80],
        &[0x87, 0x40, 0x00],
        &[0x87, 0x00, 0xA4, 4, 0],
        &[0x8F, 0],
        &[0x87, 0x29],
    ] {
        let mut frame = [0; wavepass_pn532::frame::MAX_FRAME];
        let direction = wavepass_pn532::frame::Direction::FromChip;
        line.extend(wavepass_pn532::frame::ACK);
        if let Ok(len) = wavepass_pn532::frame::encode(direction, answer, &mut frame) {
            line.extend(&frame[..len]);
        }
    }
    vec![line]
}

pub(crate) fn log_seeds() -> Vec<Vec<u8>> {
    let select = [&[10][..], b"\x00\xA4\x04\x00\x04abcd\x00", &[0x6F, 0, 0x90, 0x00]].concat();
    let record = vec![5, 0x00, 0xB2, 1, 0x0C, 0, 0x70, 3, 0x8C, 1, 0x9A, 0x90, 0x00];
    vec![select, record]
}
