//! What happens at a served phone, live: for people on the error stream, or for machines on the output, one JSON object
//! a line.

use crate::{BOLD, DIM, ERROR};
use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};
use std::io::Write;
use std::time::{Duration, Instant};
use wavepass_hce::card::{Answer, Card, CardFault};
use wavepass_hce::decode::{Follower, Numbers};
use wavepass_hce::tcp::Event;

const SUCCESS: Style = AnsiColor::Green.on_default();

/// What to do where there is no reader.
pub(crate) const START_PCSCD: &str = "start pcscd with vpcd in it: `apt-get install pcscd vsmartcard-vpcd`, then, as \
    root, `systemctl start pcscd` or, without systemd, `pcscd --foreground`";

/// How a log looks.
#[derive(Clone, Copy)]
pub(crate) struct Look {
    pub(crate) quiet: bool,
    pub(crate) json: bool,
    pub(crate) numbers: Numbers,
}

/// The log of one phone.
pub(crate) struct Log {
    look: Look,
    follower: Follower,
}

impl Log {
    pub(crate) fn new(look: Look) -> Self {
        Self { look, follower: Follower::new(look.numbers) }
    }

    pub(crate) fn event(&mut self, event: &Event<'_>) {
        match event {
            // No APDU, and without it a quiet phone would seem to be in the reader.
            Event::NoReader { .. } if !self.look.json => self.show(event),
            _ if self.look.quiet => {}
            _ if self.look.json => self.write(event),
            _ => self.show(event),
        }
    }

    fn write(&mut self, event: &Event<'_>) {
        let line = match event {
            Event::Connected(from) => json!({ "event": "connected", "reader": from.to_string() }),
            Event::NoReader { why, patience } => json!({
                "event": "no_reader",
                "why": why.to_string(),
                "patience_s": patience.map(|patience| patience.as_secs()),
            }),
            Event::Field => json!({ "event": "field" }),
            Event::Exchange { command, answer, took } => {
                self.follower.exchange(command, answer).to_json(*took)
            }
            Event::Chip(why) => json!({ "event": "chip", "why": why.to_string() }),
            Event::Lost(why) => json!({ "event": "lost", "why": why.to_string() }),
            Event::Ended(why) => json!({ "event": "ended", "why": why.to_string() }),
            _ => return,
        };
        print(&line);
    }

    fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Connected(from) => anstream::eprintln!("{DIM}reader at {from}{DIM:#}"),
            Event::Field => anstream::eprintln!("{DIM}field on{DIM:#}"),
            Event::Exchange { command, answer, took } => {
                let exchange = self.follower.exchange(command, answer);
                let us = took.as_micros();
                anstream::eprintln!("{BOLD}{}{BOLD:#} {DIM}{us} µs{DIM:#}", exchange.name());
                for line in exchange.sent() {
                    anstream::eprintln!("{DIM}> {line}{DIM:#}");
                }
                let colour = if exchange.is_success() { SUCCESS } else { ERROR };
                match exchange.status() {
                    Some(status) => anstream::eprintln!("  {colour}{status}{colour:#}"),
                    None => anstream::eprintln!("  {colour}no status word, {} bytes{colour:#}", answer.len()),
                }
                for line in exchange.answered() {
                    anstream::eprintln!("  {line}");
                }
            }
            Event::NoReader { why, patience: Some(patience) } => {
                let s = patience.as_secs();
                anstream::eprintln!("no reader yet ({why}); waiting for it, {s} s at most\n{START_PCSCD}");
            }
            Event::NoReader { why, .. } => {
                anstream::eprintln!("no reader any more ({why}); waiting until it comes back");
            }
            Event::Chip(why) => anstream::eprintln!("{ERROR}{why}{ERROR:#}"),
            Event::Lost(why) => anstream::eprintln!("{DIM}{why}{DIM:#}"),
            Event::Ended(why) => anstream::eprintln!("{DIM}{why}{DIM:#}"),
            _ => {}
        }
    }
}

/// Prints a line for machines. Nobody may be reading any more, and the phone goes on.
pub(crate) fn print(line: &Value) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// A card whose exchanges are told of.
pub(crate) struct Logged<C> {
    pub(crate) card: C,
    pub(crate) log: Log,
}

impl<C: Card> Card for Logged<C> {
    fn enter_field(&mut self) {
        self.card.enter_field();
        self.log.event(&Event::Field);
    }

    fn transmit(&mut self, command: &[u8]) -> Result<Answer, CardFault> {
        let begun = Instant::now();
        let result = self.card.transmit(command);
        match &result {
            Ok(answer) => {
                let took = begun.elapsed() + Duration::from_micros(answer.delay_us);
                self.log.event(&Event::Exchange { command, answer: &answer.data, took });
            }
            Err(fault) => self.log.event(&Event::Lost(fault)),
        }
        result
    }
}
