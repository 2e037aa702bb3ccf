//! The simulated PN532 by itself, asked by bytes as the manual has them (UM0701-02, and open drivers' examples).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use wavepass_hce::card::{Answer, Card, CardFault};
use wavepass_hce::pn532::{Chip, Presented, SimulatedChip, Switches};
use wavepass_pn532::frame::{ACK, Direction, MAX_FRAME, NACK, SYNTAX_ERROR, encode};

struct Fixed;

impl Card for Fixed {
    fn enter_field(&mut self) {}

    fn transmit(&mut self, command: &[u8]) -> Result<Answer, CardFault> {
        Ok(Answer { data: [command, &[0x90, 0x00]].concat(), delay_us: 30_000 })
    }
}

fn frame(direction: Direction, data: &[u8]) -> Vec<u8> {
    let mut out = [0; MAX_FRAME];
    let len = encode(direction, data, &mut out).unwrap();
    out[..len].to_vec()
}

struct Line {
    chip: Chip,
    now: Duration,
}

impl Line {
    /// A chip that was woken and set up.
    fn ready() -> Self {
        let mut line = Self { chip: Chip::new(1), now: Duration::ZERO };
        line.raw(&[0x55, 0x55, 0, 0, 0]);
        assert_eq!(line.ask(&[0x14, 0x01, 0x00, 0x01]), [0x15]);
        line
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.chip.receive(self.now, bytes);
    }

    fn send(&mut self, data: &[u8]) {
        self.raw(&frame(Direction::ToChip, data));
    }

    /// What comes within a second.
    fn hear(&mut self) -> Option<Vec<u8>> {
        let next = self.chip.next_event(self.now)?;
        let end = self.now + Duration::from_secs(1);
        self.now = next.max(self.now).min(end);
        self.chip.output(self.now)
    }

    fn ask(&mut self, data: &[u8]) -> Vec<u8> {
        self.send(data);
        assert_eq!(self.hear().unwrap(), ACK, "an acknowledgement comes first");
        // Something may be due only later, such as the end of a search.
        let answer = (0..3).find_map(|_| self.hear()).unwrap();
        assert_eq!(answer[5], 0xD5);
        answer[6..answer.len() - 2].to_vec()
    }

    fn present(&mut self) {
        self.chip.set_field(vec![Presented::phone(Box::new(Fixed))]);
    }
}

#[test]
fn it_sleeps_until_it_is_woken_and_the_field_waits_for_set_up() {
    let mut line = Line { chip: Chip::new(1), now: Duration::ZERO };
    line.send(&[0x02]);
    assert_eq!(line.hear(), None);
    line.raw(&[0x55, 0x55, 0, 0, 0]);
    assert_eq!(line.ask(&[0x02]), [0x03, 0x32, 0x01, 0x06, 0x07]);
    line.send(&[0x4A, 0x01, 0x00]);
    assert_eq!(line.hear(), None);
    assert_eq!(line.ask(&[0x14, 0x01]), [0x15]);
    line.chip.power_on();
    line.send(&[0x02]);
    assert_eq!(line.hear(), None);
}

#[test]
fn a_search_is_silent_without_a_card_until_retries_are_bounded() {
    let mut line = Line::ready();
    line.send(&[0x4A, 0x01, 0x00]);
    assert_eq!(line.hear().unwrap(), ACK);
    assert_eq!(line.hear(), None);
    line.present();
    let found = line.hear().unwrap();
    assert_eq!(found[6..9], [0x4B, 1, 1]);
    line.chip.set_field(Vec::new());
    assert_eq!(line.ask(&[0x32, 0x05, 0xFF, 0x01, 0x02]), [0x33]);
    assert_eq!(line.ask(&[0x4A, 0x01, 0x00]), [0x4B, 0]);
}

#[test]
fn an_acknowledgement_aborts_a_nack_repeats_and_nonsense_gets_the_error_frame() {
    let mut line = Line::ready();
    line.send(&[0x4A, 0x01, 0x00]);
    assert_eq!(line.hear().unwrap(), ACK);
    line.raw(&ACK);
    line.present();
    assert_eq!(line.hear(), None, "the search was aborted");
    assert_eq!(line.ask(&[0x02]), [0x03, 0x32, 0x01, 0x06, 0x07]);
    line.raw(&NACK);
    assert_eq!(line.hear().unwrap(), frame(Direction::FromChip, &[0x03, 0x32, 0x01, 0x06, 0x07]));
    for nonsense in [&[0x99][..], &[0x4A], &[0x32, 0x77]] {
        line.send(nonsense);
        assert_eq!(line.hear().unwrap(), ACK);
        assert_eq!(line.hear().unwrap(), SYNTAX_ERROR);
    }
    let counters = line.chip.counters();
    assert_eq!((counters.aborts, counters.nacks, counters.syntax_errors), (1, 1, 3));
}

#[test]
fn a_card_answers_in_parts_and_a_target_that_is_not_known_does_not() {
    let mut line = Line::ready();
    line.present();
    line.chip.set_switches(Switches { fragment: 3, ..Switches::default() });
    assert_eq!(line.ask(&[0x40, 0x01, 0xAA]), [0x41, 0x27]);
    assert_eq!(line.ask(&[0x4A, 0x01, 0x00])[..3], [0x4B, 1, 1]);
    assert_eq!(line.ask(&[0x00, 0x06]), [0x01, 0x00]);
    assert_eq!(line.ask(&[0x40, 0x41, 1, 2, 3]), [0x41, 0x00]);
    assert_eq!(line.ask(&[0x40, 0x01, 4, 5]), [0x41, 0x40, 1, 2, 3]);
    assert_eq!(line.ask(&[0x40, 0x01]), [0x41, 0x40, 4, 5, 0x90]);
    assert_eq!(line.ask(&[0x40, 0x01]), [0x41, 0x00, 0x00]);
    line.chip.set_field(Vec::new());
    assert_eq!(line.ask(&[0x40, 0x01, 9]), [0x41, 0x27]);
    assert_eq!(line.ask(&[0x52, 0x00]), [0x53, 0x00]);
}

#[test]
fn a_chip_that_hangs_acknowledges_and_carries_nothing_out_until_it_answers_again() {
    let mut line = Line::ready();
    line.present();
    line.chip.set_switches(Switches { never_answers: true, ..Switches::default() });
    for command in [&[0x02][..], &[0x4A, 0x01, 0x00], &[0x99]] {
        line.send(command);
        assert_eq!(line.hear().unwrap(), ACK);
        assert_eq!(line.hear(), None);
        line.raw(&NACK);
        assert_eq!(line.hear(), None);
    }
    assert_eq!(line.chip.counters().found, 0);
    line.chip.set_switches(Switches::default());
    assert_eq!(line.ask(&[0x4A, 0x01, 0x00])[..3], [0x4B, 1, 1]);
}

/// A command during another ends that one: nobody gets two answers.
#[test]
fn a_command_ends_the_one_before() {
    let mut line = Line::ready();
    line.present();
    line.ask(&[0x4A, 0x01, 0x00]);
    line.send(&[0x40, 0x01, 0xAA]);
    assert_eq!(line.hear().unwrap(), ACK);
    assert_eq!(line.ask(&[0x02])[0], 0x03);
    assert_eq!(line.hear(), None);
}

#[test]
fn a_phone_that_was_tapped_leaves_and_comes_back() {
    let mut line = Line::ready();
    line.present();
    line.chip.set_switches(Switches { tapped_away_ms: Some(500), ..Switches::default() });
    assert_eq!(line.ask(&[0x32, 0x05, 0xFF, 0x01, 0x00]), [0x33]);
    assert_eq!(line.ask(&[0x4A, 0x01, 0x00])[1], 1);
    assert_eq!(line.ask(&[0x52, 0x00]), [0x53, 0x00]);
    assert_eq!(line.ask(&[0x4A, 0x01, 0x00])[1], 1, "it was not tapped");
    line.ask(&[0x40, 0x01, 0xAA]);
    line.ask(&[0x52, 0x00]);
    assert_eq!(line.ask(&[0x4A, 0x01, 0x00])[1], 0);
    line.now += Duration::from_secs(1);
    assert_eq!(line.ask(&[0x4A, 0x01, 0x00])[1], 1);
}

#[test]
fn switches_are_read_as_they_are_written_and_unknown_ones_refused() {
    let switches = Switches { fragment: 7, ..Switches::noise(0.25) };
    let text = serde_json::to_string(&switches).unwrap();
    assert_eq!(serde_json::from_str::<Switches>(&text).unwrap(), switches);
    assert_eq!(serde_json::from_str::<Switches>("{}").unwrap(), Switches::default());
    assert!(serde_json::from_str::<Switches>(r#"{"chance":{}}"#).is_err());
}

/// A process that ends with the test, whatever becomes of it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

fn phone(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_phone"));
    command.args(args).current_dir(folder);
    command
}

/// Serves the phone `a.json` as a PN532, with more arguments, and connects to it.
fn served(folder: &Path, more: &[&str]) -> (Running, TcpStream) {
    let args = [&["serve", "a.json", "--pn532", "127.0.0.1:0", "--json", "--quiet"], more].concat();
    let mut child = Running(phone(folder, &args).stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let said: serde_json::Value = serde_json::from_str(&line).unwrap();
    let mut stream = TcpStream::connect(said["listening"].as_str().unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(&[0x55, 0x55, 0, 0, 0]).unwrap();
    (child, stream)
}

#[test]
fn the_command_line_serves_a_phone_in_the_field_of_a_pn532() {
    let folder = tempfile::tempdir().unwrap();
    assert!(phone(folder.path(), &["issue", "--out", "a.json"]).output().unwrap().status.success());
    for wrong in [
        &["serve", "a.json", "--pn532", "127.0.0.1:0", "--noise", "2"][..],
        &["serve", "a.json", "--pn532", "127.0.0.1:0", "--tcp", "127.0.0.1:0"],
        &["serve", "a.json", "--tcp", "127.0.0.1:0", "--noise", "0.1"],
        &["serve", "a.json", "--tcp", "127.0.0.1:0", "--never-answers"],
    ] {
        assert_eq!(phone(folder.path(), wrong).output().unwrap().status.code(), Some(2), "{wrong:?}");
    }
    let (_child, mut stream) = served(folder.path(), &[]);
    let commands = [&[0x14, 0x01][..], &[0x4A, 0x01, 0x00], &[0x40, 0x01, 0x00, 0xB2, 0x01, 0x0C, 0x00]];
    let mut answers = Vec::new();
    for command in commands {
        stream.write_all(&frame(Direction::ToChip, command)).unwrap();
        let mut start = [0; ACK.len() + 5];
        stream.read_exact(&mut start).unwrap();
        assert_eq!(start[..6], ACK);
        let mut rest = vec![0; usize::from(start[9]) + 2];
        stream.read_exact(&mut rest).unwrap();
        answers.push(rest);
    }
    assert_eq!(answers[1][1..4], [0x4B, 1, 1]);
    // Nothing is selected, so the phone answers with a status word that says so.
    assert_eq!(answers[2][1..3], [0x41, 0x00]);
    assert_eq!(answers[2].len(), 3 + 2 + 2);
}

#[test]
fn the_command_line_serves_a_chip_that_hangs() {
    let folder = tempfile::tempdir().unwrap();
    assert!(phone(folder.path(), &["issue", "--out", "a.json"]).output().unwrap().status.success());
    let (_child, mut stream) = served(folder.path(), &["--never-answers"]);
    // What came between two acknowledgements would be an answer.
    for _ in 0..3 {
        stream.write_all(&frame(Direction::ToChip, &[0x14, 0x01])).unwrap();
        let mut came = [0; ACK.len()];
        stream.read_exact(&mut came).unwrap();
        assert_eq!(came, ACK);
    }
}

#[test]
fn who_connects_before_the_chip_is_served_finds_it_as_it_was_asked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(&[0x55, 0x55, 0, 0, 0]).unwrap();
    stream.write_all(&frame(Direction::ToChip, &[0x14, 0x01])).unwrap();
    let hangs = Switches { never_answers: true, ..Switches::default() };
    let _chip = SimulatedChip::start_with(listener, 1, hangs, Vec::new()).unwrap();
    for _ in 0..2 {
        let mut came = [0; ACK.len()];
        stream.read_exact(&mut came).unwrap();
        assert_eq!(came, ACK);
        stream.write_all(&frame(Direction::ToChip, &[0x14, 0x01])).unwrap();
    }
}
