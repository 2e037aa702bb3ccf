//! The PN532's frames as both sides read them, and the reader driver under a chip that sends anything.

use std::hint::black_box;
use wavepass_journal::sim::block_on;
use wavepass_pn532::command::{Command, Modulation};
use wavepass_pn532::frame::{
    ACK, Decoder, Direction, Event, MAX_DATA, MAX_FRAME, NACK, SYNTAX_ERROR, encode,
};
use wavepass_pn532::response::{FirmwareVersion, parse_targets};
use wavepass_pn532::status::Status;
use wavepass_pn532::transport::{Expect, Transport};
use wavepass_pn532::{Detected, LineFault, Pn532, Settings, Timer};

pub(crate) fn frame(data: &[u8]) {
    let mut decoder = Decoder::new();
    for &byte in data {
        let Some(Event::Frame(direction)) = decoder.push(byte) else { continue };
        let found = decoder.data().to_vec();
        assert!((1..=MAX_DATA).contains(&found.len()));
        content(&found);
        // What was read is written, and read again.
        let mut out = [0; MAX_FRAME];
        let len = encode(direction, &found, &mut out).expect("what was read can be written");
        let mut again = Decoder::new();
        let events: Vec<_> = out[..len].iter().filter_map(|&byte| again.push(byte)).collect();
        assert_eq!(events, [Event::Frame(direction)]);
        assert_eq!(again.data(), found);
    }
    black_box(decoder.abandon());
}

fn content(data: &[u8]) {
    if let Ok(command) = Command::parse(data) {
        let mut out = [0; MAX_DATA];
        let len = command.write(&mut out).expect("what was read can be written");
        assert_eq!(Command::parse(&out[..len]), Ok(command));
    }
    if let Ok(version) = FirmwareVersion::parse(data) {
        assert_eq!(version.to_bytes(), data);
    }
    for modulation in [Modulation::A, Modulation::B] {
        for (_, card) in parse_targets(data, modulation).iter().flatten() {
            let mut out = [0; 128];
            assert!(card.write(&mut out).is_some_and(|len| len <= data.len()));
            black_box(card.takes_apdus());
        }
    }
    for &byte in data {
        assert_eq!(Status::from_byte(byte).to_byte(), byte);
    }
}

/// A line that plays what a chip might send, whatever it is asked, and is closed then.
struct Played<'a>(&'a [u8]);

impl Transport for Played<'_> {
    const WAKE_UP: &'static [u8] = &[0x55, 0x55];

    async fn send(&mut self, bytes: &[u8]) -> Result<usize, LineFault> {
        Ok(bytes.len())
    }

    async fn receive(&mut self, _: Expect, buffer: &mut [u8]) -> Result<usize, LineFault> {
        let (&len, rest) = self.0.split_first().ok_or(LineFault::Closed)?;
        let (now, later) = rest.split_at(usize::from(len % 64).min(rest.len()).min(buffer.len()));
        self.0 = later;
        buffer[..now.len()].copy_from_slice(now);
        // An empty read is a line that is closed: the driver must not ask for ever.
        if now.is_empty() { Err(LineFault::Closed) } else { Ok(now.len()) }
    }
}

/// A clock that moves whenever it is looked at.
struct Ticking(std::cell::Cell<u64>);

impl Timer for Ticking {
    fn now_ms(&self) -> u64 {
        self.0.set(self.0.get() + 1);
        self.0.get()
    }

    async fn wait_until(&mut self, at_ms: u64) {
        self.0.set(self.0.get().max(at_ms));
    }
}

pub(crate) fn reader(data: &[u8]) {
    let mut reader = Pn532::new(Played(data), Ticking(0.into()), Settings::default());
    let mut answer = [0; 258];
    for _ in 0..4 {
        match block_on(reader.wait_card()) {
            Ok(Detected::One(card)) => {
                if let Ok(len) = block_on(reader.exchange(&card, &[0; 300], &mut answer)) {
                    assert!(len <= answer.len());
                }
            }
            Ok(_) => {}
            Err(e) => assert!(!e.to_string().is_empty()),
        }
    }
}

fn framed(direction: Direction, data: &[u8]) -> Vec<u8> {
    let mut out = [0; MAX_FRAME];
    let len = encode(direction, data, &mut out).expect("a seed fits");
    out[..len].to_vec()
}

const FOUND: &[u8] = &[0x4B, 1, 1, 0x00, 0x04, 0x20, 4, 8, 1, 2, 3, 5, 0x78, 0x80, 0x70, 0x02];

pub(crate) fn frame_seeds() -> Vec<Vec<u8>> {
    let commands =
        [&[0x02][..], &[0x14, 1, 0, 1], &[0x4A, 2, 3, 0], &[0x40, 0x41, 0, 0xA4], &[0x32, 5, 0, 1, 1]];
    let answers = [&[0x03, 0x32, 1, 6, 7][..], FOUND, &[0x41, 0x40, 1, 2], &[0x4B, 0], &[0x41; MAX_DATA]];
    let commands = commands.map(|data| framed(Direction::ToChip, data));
    let answers = answers.map(|data| framed(Direction::FromChip, data));
    let bare = [ACK.to_vec(), NACK.to_vec(), SYNTAX_ERROR.to_vec()];
    let mut seeds = [&commands[..], &answers, &bare].concat();
    seeds.push(seeds.concat());
    seeds
}

pub(crate) fn reader_seeds() -> Vec<Vec<u8>> {
    // What a good chip sends through set-up, a search of each type and an exchange in parts; each read is preceded by
    // its length. Where the driver waits for silence it reads zeros, which are nothing before a frame.
    let answers: [&[u8]; 15] = [
        &[0x15],
        &[0x03, 0x32, 1, 6, 7],
        &[0x13],
        &[0x33],
        &[0x33],
        &[0x33],
        &[0x33],
        &[0x4B, 0],
        FOUND,
        &[0x41, 0x00],
        &[0x41, 0x40, 1, 2, 3],
        &[0x41, 0x00, 0x90, 0x00],
        &[0x53, 0x00],
        &[0x33],
        &[0x33],
    ];
    let mut good = [1, 0].repeat(60);
    for answer in answers {
        for frame in [ACK.to_vec(), framed(Direction::FromChip, answer)] {
            good.push(frame.len() as u8);
            good.extend(frame);
        }
        if answer == [0x33] {
            good.extend([1, 0].repeat(20));
        }
    }
    vec![good, vec![0; 16]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_good_seed_goes_through_a_tap() {
        let seed = &reader_seeds()[0];
        let mut reader = Pn532::new(Played(seed), Ticking(0.into()), Settings::default());
        let Ok(Detected::One(card)) = block_on(reader.wait_card()) else { panic!("one card") };
        let mut answer = [0; 258];
        let len = block_on(reader.exchange(&card, &[0; 300], &mut answer)).expect("an answer");
        assert_eq!(answer[..len], [1, 2, 3, 0x90, 0x00]);
    }
}
