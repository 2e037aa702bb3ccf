//! A phone in a virtual PC/SC reader. The reader is a stand-in here that speaks vpcd's protocol, and writes length
//! and payload apart, as vpcd does.

use crate::cast::*;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use wavepass_hce::card::{Answer, Card, CardFault};
use wavepass_hce::contactless::{Identity, atr};
use wavepass_hce::faults::{Broken, Fault};
use wavepass_hce::phone::{Phone, PhoneFile};
use wavepass_hce::reader::read;
use wavepass_hce::state::Counters;
use wavepass_hce::tcp::Event;
use wavepass_hce::vpcd::{Slot, serve};
use wavepass_protocol::apdu::PPSE;
use wavepass_protocol::tags;

/// vpcd with a card in it.
struct Inserted(TcpStream);

impl Inserted {
    fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self(stream)
    }

    fn say(&mut self, message: &[u8]) {
        self.0.write_all(&(message.len() as u16).to_be_bytes()).unwrap();
        self.0.write_all(message).unwrap();
    }

    /// `None` where the card was taken away.
    fn hear(&mut self) -> Option<Vec<u8>> {
        let mut len = [0; 2];
        self.0.read_exact(&mut len).ok()?;
        assert_ne!(len, [0, 0], "vpcd would wait for ever");
        let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
        self.0.read_exact(&mut answer).ok()?;
        Some(answer)
    }
}

impl Card for Inserted {
    fn enter_field(&mut self) {
        self.say(&[1]);
    }

    fn transmit(&mut self, command: &[u8]) -> Result<Answer, CardFault> {
        self.say(command);
        let data = self.hear().ok_or(CardFault::Removed)?;
        Ok(Answer { data, delay_us: 0 })
    }
}

struct Served {
    stop: Arc<AtomicBool>,
    events: Receiver<String>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn served(file: &PhoneFile, address: String, pause: Option<Duration>) -> Served {
    let mut phone = Phone::new(file, Counters::memory(), [9; 32]).unwrap();
    let mut identity = Identity::new(&file.surface, [7; 32]);
    let stop = Arc::new(AtomicBool::new(false));
    let (sender, events) = channel();
    let thread = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let mut log = |event: Event<'_>| {
                // Nobody may be listening any more.
                let _ = sender.send(match event {
                    Event::Connected(_) => "connected".to_owned(),
                    Event::NoReader { .. } => "no reader".to_owned(),
                    Event::Lost(_) => "lost".to_owned(),
                    Event::Ended(e) => format!("ended: {e}"),
                    Event::Field => "field".to_owned(),
                    _ => "exchange".to_owned(),
                });
            };
            serve(&Slot { address, pause }, &mut phone, &mut identity, &stop, &mut log);
        }
    });
    Served { stop, events, thread: Some(thread) }
}

fn reader() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[test]
fn a_phone_in_a_virtual_reader_says_its_atr_and_is_tapped() {
    let (listener, address) = reader();
    let _served = served(&house(1), address, None);
    let mut card = Inserted::accept(&listener);
    for _ in 0..2 {
        card.say(&[4]);
        assert_eq!(card.hear().unwrap(), atr(&[0x80, 0x31, 0x80, 0x73, 0x80, 0x01, 0x00]));
    }
    for tap in 1..=2 {
        let reading = read(&mut card, &gate(tap)).unwrap();
        assert_eq!(reading.value(tags::ATC).unwrap(), [0, tap]);
    }
    let uid = card.transmit(&[0xFF, 0xCA, 0, 0, 0]).unwrap().data;
    assert_eq!((uid.len(), uid[0], &uid[4..]), (6, 0x08, &[0x90, 0x00][..]));
    assert_eq!(card.transmit(&[0xFF, 0x00, 0x40, 0, 0]).unwrap().data, [0x6A, 0x81]);
    card.say(&[2]);
    // A reset forgets what was selected.
    assert_eq!(card.transmit(&[0x00, 0xB2, 0x01, 0x0C, 0]).unwrap().data, [0x69, 0x85]);
    card.say(&[0]);
    card.say(&[4]);
    assert!(card.hear().is_some(), "switched off, it is still there");
}

#[test]
fn the_delays_of_the_modelled_card_are_waited_for() {
    let (listener, address) = reader();
    let _served = served(&house(1).with_fault(Fault::Slow { delay_us: 120_000 }), address, None);
    let mut card = Inserted::accept(&listener);
    card.say(&[1]);
    let begun = Instant::now();
    card.transmit(&[0x00, 0xB2, 0x01, 0x0C, 0]).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(120));
}

#[test]
fn an_answer_without_a_byte_is_one_zero_to_a_virtual_reader() {
    let (listener, address) = reader();
    let _served = served(&house(1).with_fault(Fault::Broken { kind: Broken::Empty }), address, None);
    let mut card = Inserted::accept(&listener);
    let directory = [&[0x00, 0xA4, 0x04, 0x00, 14][..], PPSE, &[0]].concat();
    assert!(card.transmit(&directory).unwrap().data.ends_with(&[0x90, 0x00]), "the directory is whole");
    assert_eq!(card.transmit(&[0x00, 0xB2, 0x01, 0x0C, 0]).unwrap().data, [0]);
    assert_eq!(card.transmit(&[0x00, 0xB2, 0x01, 0x0C, 0]).unwrap().data, [0], "it goes on");
}

#[test]
fn a_reader_that_is_started_again_finds_the_phone_again() {
    let (listener, address) = reader();
    let served = served(&house(1), address.clone(), None);
    let mut card = Inserted::accept(&listener);
    assert_eq!(read(&mut card, &gate(1)).unwrap().value(tags::ATC).unwrap(), [0, 1]);
    drop(listener);
    drop(card);
    let told = served.events.iter().take_while(|event| event != "no reader").collect::<Vec<_>>();
    assert_eq!(told.last().unwrap(), "ended: the connection was closed");
    let listener = TcpListener::bind(&address).unwrap();
    let mut card = Inserted::accept(&listener);
    assert_eq!(read(&mut card, &gate(2)).unwrap().value(tags::ATC).unwrap(), [0, 2]);
}

#[test]
fn a_lost_field_takes_the_phone_out_of_the_reader_and_brings_it_back() {
    let (listener, address) = reader();
    let file = house(1).with_fault(Fault::FieldLost { after: 2 });
    let served = served(&file, address, Some(Duration::from_millis(1)));
    for _ in 0..2 {
        let mut card = Inserted::accept(&listener);
        assert!(read(&mut card, &gate(1)).is_err());
        assert_eq!(card.hear(), None);
    }
    assert!(served.events.iter().any(|event| event == "lost"));
}

#[test]
fn a_phone_with_a_pause_leaves_once_it_was_tapped_and_switched_off() {
    let (listener, address) = reader();
    let served = served(&house(1), address, Some(Duration::from_millis(1)));
    let mut card = Inserted::accept(&listener);
    card.say(&[0]);
    card.say(&[4]);
    assert!(card.hear().is_some(), "it was not tapped yet");
    assert!(read(&mut card, &gate(1)).is_ok());
    card.say(&[0]);
    assert_eq!(card.hear(), None);
    let mut card = Inserted::accept(&listener);
    assert!(read(&mut card, &gate(2)).is_ok());
    card.say(&[9]);
    assert_eq!(card.hear(), None);
    assert!(served.events.iter().any(|event| event == "ended: control byte 09 is unknown"));
}
