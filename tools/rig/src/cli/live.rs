//! Cards that are really tapped, and what is told of them.

use super::opens;
use super::source::{self, Front, Source};
use crate::show::{self, DIM, Options};
use crate::tap::{self, Exchanged, Tap};
use crate::terminal::Terminal;
use crate::way::{InProcess, Way};
use crate::words;
use std::fmt::{self, Write};

/// What came of waiting for a card.
pub(super) struct Tapped {
    pub(super) tap: Tap,
    pub(super) terminal: Terminal,
    /// The reader's name; none where the phone was in this process.
    pub(super) reader: Option<String>,
}

/// Waits for a card and taps it.
pub(super) fn tap(source: &Source) -> Result<Tapped, String> {
    let (terminal, phone) = source.open()?;
    let (tap, reader) = match phone {
        Some(mut phone) => (over(&source.front, &terminal, &mut InProcess::new(&mut phone))?, None),
        None => on_reader(source, &terminal)?,
    };
    Ok(Tapped { tap, terminal, reader })
}

/// Taps on a way, and shows each exchange as it ends.
pub(super) fn over(front: &Front, terminal: &Terminal, way: &mut dyn Way) -> Result<Tap, String> {
    let input = source::input(terminal)?;
    let options = Options { numbers: front.show_numbers };
    let mut follower = show::follower(options);
    let mut seen = |exchanged: &Exchanged| {
        if front.json {
            return;
        }
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = show::exchange(&mut text, &mut follower, exchanged, options);
        anstream::print!("{text}");
    };
    Ok(tap::tap(&mut tap::kernel(), terminal, input, way, &mut seen))
}

#[cfg(feature = "pcsc")]
use super::readers::on_reader;
#[cfg(feature = "pcsc")]
pub(super) use super::readers::watch;

#[cfg(not(feature = "pcsc"))]
fn on_reader(_: &Source, _: &Terminal) -> Result<(Tap, Option<String>), String> {
    Err(source::NO_PCSC.to_owned())
}

#[cfg(not(feature = "pcsc"))]
pub(super) fn watch(_: &Front) -> Result<bool, String> {
    Err(source::NO_PCSC.to_owned())
}

/// Tells what came of a tap, on a reader if it was on one.
pub(super) fn tell(tap: &Tap, reader: Option<&str>, front: &Front) -> Result<(), String> {
    let options = Options { numbers: front.show_numbers };
    if front.json {
        let mut told = show::json(tap, options);
        if let Some(reader) = reader {
            told["reader"] = reader.into();
        }
        anstream::println!("{told}");
        return Ok(());
    }
    let mut text = String::new();
    show::summary(&mut text, tap, options).map_err(|e| e.to_string())?;
    anstream::print!("{text}");
    if !options.numbers && opens(tap) {
        anstream::println!("{DIM}--show-numbers shows the whole number and every byte{DIM:#}");
    }
    Ok(())
}

/// A replayed tap: its exchanges and certificates.
pub(super) fn replayed(out: &mut impl Write, tap: &Tap, options: Options) -> fmt::Result {
    let mut follower = show::follower(options);
    for exchanged in &tap.exchanges {
        show::exchange(out, &mut follower, exchanged, options)?;
    }
    show::certificates(out, tap, "transcript")
}

/// What a fault of a replayed tap means, in words.
pub(super) fn advice(tap: &Tap) -> Option<String> {
    words::advice_on_recording(&tap.verdict)
}
