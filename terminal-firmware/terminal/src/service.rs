//! Commissioning over the line to the host, for boards without another way in: a gate that has no identity yet waits
//! for its provisioning file there.
//!
//! The file comes as one frame: COBS of file ‖ SHA-256 of the file, between zero bytes. The hash finds what the line
//! damaged; whether the file is a good one, [`crate::start()`] says. The gate answers in lines of text that begin with
//! `wavepass: `. A commissioned gate never listens for a file, whoever sends one.

use crate::hardware::Line;
use crate::start::{Provisioner, Refused};
use crate::stopped::FEED;
use core::fmt::{self, Write};
use embassy_futures::select::{Either, select};
use embassy_time::Timer;
use sha2::{Digest, Sha256};
use wavepass_protocol::link::FrameReader;
use wavepass_protocol::provisioning::MAX_FILE;
use zeroize::Zeroize;

const HASH: usize = 32;

/// The service mode on a line.
pub struct Service<'l, L, A> {
    line: &'l mut L,
    alive: A,
}

impl<'l, L: Line, A: FnMut()> Service<'l, L, A> {
    /// On this line. `alive` feeds the watchdog while a file is waited for.
    pub const fn new(line: &'l mut L, alive: A) -> Self {
        Self { line, alive }
    }

    fn say(&mut self, what: fmt::Arguments<'_>) {
        // A line with nobody at its other end fills up; what does not fit is not said.
        let _ = writeln!(Text(self.line), "wavepass: {what}");
    }
}

/// Text onto a line, as far as there is room.
struct Text<'l, L>(&'l mut L);

impl<L: Line> Write for Text<'_, L> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.room() < text.len() {
            return Err(fmt::Error);
        }
        self.0.queue(text.as_bytes());
        Ok(())
    }
}

/// What a frame holds, if its hash says so.
fn checked(frame: &[u8]) -> Option<&[u8]> {
    let (file, hash) = frame.split_at_checked(frame.len().checked_sub(HASH)?)?;
    (file.len() <= MAX_FILE && Sha256::digest(file)[..] == *hash).then_some(file)
}

impl<L: Line, A: FnMut()> Provisioner for Service<'_, L, A> {
    async fn file(&mut self, into: &mut [u8; MAX_FILE]) -> Option<usize> {
        self.say(format_args!("not commissioned; send the provisioning file"));
        let mut frames = FrameReader::new();
        loop {
            // Byte by byte: what follows the frame is the next call's.
            let mut byte = [0];
            while let Either::Second(()) = select(self.line.read(&mut byte), Timer::after(FEED)).await {
                (self.alive)();
            }
            (self.alive)();
            let Some(frame) = frames.push(byte[0]) else { continue };
            let file = frame.ok().and_then(checked);
            if let Some(file) = file {
                let len = file.len();
                into[..len].copy_from_slice(file);
                frames.zeroize();
                return Some(len);
            }
            self.say(format_args!("refused: the frame is damaged; send it again"));
        }
    }

    fn answer(&mut self, outcome: Result<(), Refused>) {
        match outcome {
            Ok(()) => self.say(format_args!("commissioned")),
            Err(why) => self.say(format_args!("refused: {why}")),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use core::cell::Cell;
    use core::future::poll_fn;
    use core::task::Poll;
    use std::collections::VecDeque;
    use std::string::String;
    use std::vec::Vec;
    use wavepass_journal::sim::block_on;

    /// A line whose other end has sent everything it ever will.
    pub(crate) struct Bench {
        sent: VecDeque<u8>,
        pub(crate) said: Vec<u8>,
    }

    pub(crate) fn bench(sent: &[u8]) -> Bench {
        Bench { sent: sent.iter().copied().collect(), said: Vec::new() }
    }

    impl Line for Bench {
        async fn read(&mut self, into: &mut [u8]) -> usize {
            into[0] = self.sent.pop_front().expect("the gate waits for more");
            1
        }

        fn room(&self) -> usize {
            1024 - self.said.len()
        }

        fn queue(&mut self, bytes: &[u8]) {
            self.said.extend_from_slice(bytes);
        }
    }

    /// The frame of a file, as the command in docs/gate.md makes it: each run of bytes without a zero behind one more
    /// than its length. (The whole is shorter than the 254 bytes at which COBS has a second rule.)
    pub(crate) fn sealed(file: &[u8]) -> Vec<u8> {
        let body = [file, &Sha256::digest(file)].concat();
        assert!(body.len() < 254);
        let runs = body.split(|&b| b == 0).flat_map(|run| [&[run.len() as u8 + 1], run].concat());
        [0].into_iter().chain(runs).chain([0]).collect()
    }

    #[test]
    fn a_file_arrives_whole_after_whatever_noise() {
        let mut damaged = sealed(b"the file");
        damaged[3] ^= 0x20;
        let long = sealed(&[7; MAX_FILE]);
        let noise = [&b"AT\r\n"[..], &damaged, &[1, 1, 1, 1], &[0x55; 2000], &long].concat();
        let mut bench = bench(&noise);
        let mut file = [0; MAX_FILE];
        let len = block_on(Service::new(&mut bench, || {}).file(&mut file)).unwrap();
        assert_eq!(&file[..len], [7; MAX_FILE]);
        let said = String::from_utf8(bench.said).unwrap();
        let refusals = said.matches("wavepass: refused: the frame is damaged; send it again\n").count();
        assert!(refusals >= 2, "{said}");
    }

    /// A line that says nothing until the watchdog was fed.
    struct Late<'a> {
        fed: &'a Cell<bool>,
        bench: Bench,
    }

    impl Line for Late<'_> {
        async fn read(&mut self, into: &mut [u8]) -> usize {
            poll_fn(|_| if self.fed.get() { Poll::Ready(()) } else { Poll::Pending }).await;
            self.bench.read(into).await
        }

        fn room(&self) -> usize {
            self.bench.room()
        }

        fn queue(&mut self, bytes: &[u8]) {
            self.bench.queue(bytes);
        }
    }

    #[test]
    fn the_watchdog_is_fed_while_nobody_sends_a_file() {
        let fed = Cell::new(false);
        let mut line = Late { fed: &fed, bench: bench(&sealed(b"the file")) };
        let len = block_on(Service::new(&mut line, || fed.set(true)).file(&mut [0; MAX_FILE]));
        assert_eq!(len, Some(8));
    }

    #[test]
    fn a_frame_longer_than_a_file_is_refused_however_sound_its_hash() {
        let hash = Sha256::digest([5; MAX_FILE + 1]);
        let frame = [&[5; MAX_FILE + 1][..], &hash].concat();
        assert_eq!(checked(&frame), None);
        assert_eq!(checked(&frame[..HASH - 1]), None);
    }
}
