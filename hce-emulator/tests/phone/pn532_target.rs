//! A PN532 that plays the card, as a simulated chip sees it. No chip of NXP's was at hand: what is sent is what the
//! user manual UM0701-02 and published examples have.

use crate::cast::*;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use wavepass_hce::card::{Answer, Card, CardFault};
use wavepass_hce::contactless::{HISTORICAL, Identity, Surface};
use wavepass_hce::faults::{Broken, Fault};
use wavepass_hce::phone::Phone;
use wavepass_hce::pn532_target::{Event, Target, Trouble};
use wavepass_hce::reader::read;
use wavepass_pn532::frame::{self, ACK, Decoder, Direction, MAX_FRAME, NACK, SYNTAX_ERROR};
use wavepass_protocol::tags;

fn frame(data: &[u8]) -> Vec<u8> {
    let mut out = [0; MAX_FRAME];
    let len = frame::encode(Direction::FromChip, data, &mut out).unwrap();
    out[..len].to_vec()
}

/// What the reader on the air does next.
enum Do {
    Activate,
    ActivateAsPeer,
    Send(Vec<u8>),
    Release,
}

/// The chip.
#[derive(Default)]
struct Chip {
    decoder: Decoder,
    /// Every command of the host's.
    commands: Vec<Vec<u8>>,
    /// The command that waits for the reader.
    waiting: Option<u8>,
    reader: VecDeque<Do>,
    /// What of a command is still to come.
    rest: Vec<u8>,
    answer: Vec<u8>,
    /// The whole answer of the card.
    answered: Option<Vec<u8>>,
    nacks: usize,
}

impl Chip {
    /// Takes bytes from the host and gives those for it.
    fn receive(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for &byte in bytes {
            match self.decoder.push(byte) {
                Some(frame::Event::Frame(Direction::ToChip)) => {
                    let command = self.decoder.data().to_vec();
                    out.extend(ACK);
                    out.extend(self.carry_out(&command).map(|answer| frame(&answer)).unwrap_or_default());
                    self.commands.push(command);
                }
                Some(frame::Event::Ack) => self.waiting = None,
                Some(frame::Event::Nack) => self.nacks += 1,
                Some(other) => panic!("{other:?}"),
                None => {}
            }
        }
        out
    }

    fn carry_out(&mut self, command: &[u8]) -> Option<Vec<u8>> {
        match command[0] {
            0x8C | 0x86 => {
                self.waiting = Some(command[0]);
                self.go_on()
            }
            0x94 => {
                self.answer.extend(&command[1..]);
                Some(vec![0x95, 0x00])
            }
            0x8E => {
                self.answer.extend(&command[1..]);
                self.answered = Some(std::mem::take(&mut self.answer));
                Some(vec![0x8F, 0x00])
            }
            code => Some(vec![code + 1]),
        }
    }

    /// What the reader's doing brings for the command that waits.
    fn go_on(&mut self) -> Option<Vec<u8>> {
        let waiting = self.waiting?;
        if waiting == 0x86 && !self.rest.is_empty() {
            return Some(self.part());
        }
        let answer = match (waiting, self.reader.front()?) {
            (0x8C, Do::Activate) => vec![0x8D, 0x08, 0xE0, 0x80],
            (0x8C, Do::ActivateAsPeer) => vec![0x8D, 0x04, 0xD4, 0x00],
            (0x86, Do::Send(command)) => {
                self.rest = command.clone();
                self.part()
            }
            (0x86, Do::Release) => vec![0x87, 0x29],
            _ => return None,
        };
        self.reader.pop_front();
        self.waiting = None;
        Some(answer)
    }

    fn part(&mut self) -> Vec<u8> {
        self.waiting = None;
        let rest = self.rest.split_off(self.rest.len().min(200));
        let part = std::mem::replace(&mut self.rest, rest);
        let status = if self.rest.is_empty() { 0x00 } else { 0x40 };
        [&[0x87, status], part.as_slice()].concat()
    }
}

/// A card on the air: a phone behind a target behind a chip.
struct OnAir {
    phone: Phone,
    target: Target,
    chip: Chip,
    activations: usize,
    releases: usize,
}

impl OnAir {
    fn new(phone: Phone) -> Self {
        let surface = Surface { uid: vec![0x08, 1, 2, 3], ..Surface::default() };
        let mut target = Target::new(&Identity::new(&surface, [0; 32]));
        target.start(Duration::ZERO);
        let mut on_air = Self { phone, target, chip: Chip::default(), activations: 0, releases: 0 };
        on_air.pump();
        on_air
    }

    fn act(&mut self, what: Do) {
        self.chip.reader.push_back(what);
        let bytes = self.chip.go_on().map(|answer| frame(&answer)).unwrap_or_default();
        self.hand(&bytes);
        self.pump();
    }

    fn pump(&mut self) {
        loop {
            let bytes = self.target.output();
            if bytes.is_empty() {
                return;
            }
            let bytes = self.chip.receive(&bytes);
            self.hand(&bytes);
        }
    }

    fn hand(&mut self, bytes: &[u8]) {
        for event in self.target.receive(Duration::ZERO, bytes) {
            match event {
                Event::Activated => {
                    self.activations += 1;
                    self.phone.enter_field();
                }
                Event::Command(command) => {
                    let answer = self.phone.transmit(&command).unwrap().data;
                    self.target.answer(Duration::ZERO, &answer);
                }
                Event::Released => {
                    self.releases += 1;
                    self.target.wait_for_reader(Duration::ZERO);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

impl Card for OnAir {
    fn enter_field(&mut self) {
        if self.activations > self.releases {
            self.act(Do::Release);
        }
        self.act(Do::Activate);
    }

    fn transmit(&mut self, command: &[u8]) -> Result<Answer, CardFault> {
        self.act(Do::Send(command.to_vec()));
        Ok(Answer { data: self.chip.answered.take().unwrap(), delay_us: 0 })
    }
}

#[test]
fn the_chip_is_woken_set_up_and_made_a_card() {
    let surface = Surface { uid: vec![0x08, 0x11, 0x22, 0x33], ..Surface::default() };
    let mut target = Target::new(&Identity::new(&surface, [0; 32]));
    target.start(Duration::ZERO);
    let out = target.output();
    assert_eq!(out[..5], [0x55, 0x55, 0, 0, 0]);
    let mut chip = Chip::default();
    let mut bytes = chip.receive(&out);
    for _ in 0..2 {
        assert_eq!(target.receive(Duration::ZERO, &bytes), []);
        bytes = chip.receive(&target.output());
    }
    assert_eq!(chip.commands[..2], [vec![0x14, 1, 0, 1], vec![0x12, 0x30]]);
    let mut wanted = vec![0x8C, 0x05, 0x04, 0x00, 0x11, 0x22, 0x33, 0x20];
    wanted.extend([0; 29]);
    wanted.push(7);
    wanted.extend(HISTORICAL);
    assert_eq!(chip.commands[2], wanted);
    target.receive(Duration::ZERO, &bytes);
    assert_eq!(target.check(Duration::from_secs(3_600)), None, "a reader may take its time");
}

#[test]
fn a_phone_is_tapped_through_a_chip_again_and_again() {
    let mut card = OnAir::new(phone(&house(1)));
    for tap in 1..=3 {
        assert_eq!(read(&mut card, &gate(tap)).unwrap().value(tags::ATC).unwrap(), [0, tap]);
    }
    assert_eq!((card.activations, card.releases), (3, 2));
    card.act(Do::Release);
    card.act(Do::ActivateAsPeer);
    assert_eq!((card.activations, card.releases), (3, 4), "no peer is taken for a reader");
}

#[test]
fn long_commands_and_long_answers_go_in_parts() {
    let mut card = OnAir::new(phone(&house(1).with_fault(Fault::Broken { kind: Broken::Oversized })));
    card.enter_field();
    // Extended: the phone knows no such file, and so got all of it.
    let mut long = vec![0x00, 0xA4, 0x04, 0x00, 0, 2, 0];
    long.extend([7; 512]);
    assert_eq!(card.transmit(&long).unwrap().data.len(), 2_050);
    let parts = card.chip.commands.iter().filter(|command| command[0] == 0x94);
    assert_eq!(parts.map(Vec::len).collect::<Vec<_>>(), [263; 7]);
    assert_eq!(card.chip.commands.iter().filter(|command| command[0] == 0x86).count(), 4);
}

/// A target whose first command was sent.
fn begun() -> Target {
    let mut target = Target::new(&Identity::new(&Surface::default(), [0; 32]));
    target.start(Duration::ZERO);
    target.output();
    target
}

#[test]
fn a_chip_that_is_silent_refuses_or_talks_nonsense_is_named_and_begun_with_again() {
    let second = Duration::from_secs(1);
    let mut target = begun();
    assert_eq!(target.check(Duration::from_millis(200)), None);
    assert_eq!(target.check(second), Some(Event::Fault(Trouble::Silent)));
    assert_eq!(target.check(10 * second), None, "told once");
    let mut target = begun();
    target.receive(Duration::ZERO, &ACK);
    assert_eq!(target.check(second), None);
    assert_eq!(target.check(3 * second), Some(Event::Fault(Trouble::NoAnswer(0x14))));
    let told = |bytes: &[u8]| {
        let mut target = begun();
        let events = target.receive(Duration::ZERO, &[&ACK, bytes].concat());
        target.start(Duration::ZERO);
        assert_eq!(target.output()[..2], [0x55, 0x55]);
        events
    };
    assert_eq!(told(&SYNTAX_ERROR), [Event::Fault(Trouble::Refused(0x14))]);
    assert_eq!(told(&frame(&[0x99])), [Event::Fault(Trouble::Unexpected(0x14))]);
}

#[test]
fn a_broken_frame_is_asked_for_again_and_not_for_ever() {
    let mut target = begun();
    target.receive(Duration::ZERO, &ACK);
    let mut broken = frame(&[0x15]);
    broken[7] ^= 1;
    for _ in 0..3 {
        assert_eq!(target.receive(Duration::ZERO, &broken), []);
        assert_eq!(target.output(), NACK);
    }
    assert_eq!(target.receive(Duration::ZERO, &broken), [Event::Fault(Trouble::Disturbed)]);
    let mut target = begun();
    target.receive(Duration::ZERO, &[&ACK[..], &broken, &frame(&[0x15])].concat());
    assert!(target.output().ends_with(&[0xD4, 0x12, 0x30, 0xEA, 0x00]), "it went on");
}

#[test]
fn the_reader_s_command_is_bounded() {
    let mut card = OnAir::new(phone(&house(1)));
    card.enter_field();
    card.chip.reader.push_back(Do::Send(vec![0; 4_000]));
    let mut bytes = card.chip.go_on().map(|answer| frame(&answer)).unwrap();
    let mut events = Vec::new();
    while events.is_empty() {
        events = card.target.receive(Duration::ZERO, &bytes);
        bytes = card.chip.receive(&card.target.output());
    }
    assert_eq!(events, [Event::Fault(Trouble::TooLong)]);
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

/// The chip's side of the line: lets the reader do this, and gives what the card answered, if it was asked.
fn over_the_line(chip: &mut Chip, line: &mut TcpStream, what: Do) -> Option<Vec<u8>> {
    chip.reader.push_back(what);
    let waited = chip.go_on().map(|answer| frame(&answer)).unwrap_or_default();
    line.write_all(&waited).unwrap();
    let mut buffer = [0; 512];
    while !chip.reader.is_empty() || chip.waiting.is_none() {
        let len = line.read(&mut buffer).unwrap();
        assert_ne!(len, 0, "the phone closed the line");
        let bytes = chip.receive(&buffer[..len]);
        line.write_all(&bytes).unwrap();
    }
    chip.answered.take()
}

#[test]
fn the_command_line_plays_a_phone_on_a_chip_and_loses_the_field_as_its_fault_says() {
    let folder = tempfile::tempdir().unwrap();
    let phone = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_phone"));
        command.args(args).current_dir(&folder);
        command
    };
    let fault = ["issue", "--out", "a.json", "--fault", "field-lost=record"];
    assert!(phone(&fault).output().unwrap().status.success());
    let nowhere = phone(&["serve", "a.json", "--pn532-target", "./no-such-port"]).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(1));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let args = ["serve", "a.json", "--pn532-target", &address, "--json", "--pause", "1"];
    let mut child = Running(phone(&args).stdout(Stdio::piped()).spawn().unwrap());
    let mut out = BufReader::new(child.0.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(line.contains("chip"), "{line}");
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut chip = Chip::default();
    over_the_line(&mut chip, &mut stream, Do::Activate);
    let select = b"\x00\xA4\x04\x00\x0E2PAY.SYS.DDF01\x00".to_vec();
    let answer = over_the_line(&mut chip, &mut stream, Do::Send(select)).unwrap();
    assert_eq!((answer[0], &answer[answer.len() - 2..]), (0x6F, &[0x90, 0x00][..]));
    // The phone leaves at READ RECORD: the chip is made a card anew, with another UID, and never gets an answer.
    assert_eq!(over_the_line(&mut chip, &mut stream, Do::Send(vec![0x00, 0xB2, 1, 0x0C, 0])), None);
    let cards: Vec<_> = chip.commands.iter().filter(|command| command[0] == 0x8C).collect();
    assert_eq!(cards.len(), 2);
    assert_ne!(cards[0], cards[1]);
}
