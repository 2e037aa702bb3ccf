//! Cards that are really tapped, and what is told of them.

use super::opens;
use super::source::{self, Source};
use crate::show::{self, DIM, Options};
use crate::tap::{self, Exchanged, Tap};
use crate::terminal::Terminal;
use crate::way::{InProcess, Way};
use crate::words;
use std::fmt::{self, Write};

/// Waits for a card and taps it.
pub(super) fn tap(source: &Source) -> Result<(Tap, Terminal), String> {
    let (terminal, phone) = source.open()?;
    let tapped = match phone {
        Some(mut phone) => over(source, &terminal, &mut InProcess::new(&mut phone))?,
        None => on_reader(source, &terminal)?,
    };
    Ok((tapped, terminal))
}

/// Taps on a way, and shows each exchange as it ends.
fn over(source: &Source, terminal: &Terminal, way: &mut dyn Way) -> Result<Tap, String> {
    let input = source::input(terminal)?;
    let options = Options { numbers: source.show_numbers };
    let mut follower = show::follower(options);
    let mut seen = |exchanged: &Exchanged| {
        if source.json {
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
fn on_reader(source: &Source, terminal: &Terminal) -> Result<Tap, String> {
    let readers = crate::pcsc_way::Readers::open().map_err(|e| e.to_string())?;
    let name = readers.find(source.reader.as_deref()).map_err(|e| e.to_string())?;
    let way = &mut connect(source, &readers, &name, source.patience())?;
    over(source, terminal, way)
}

#[cfg(feature = "pcsc")]
fn connect<'r>(
    source: &Source,
    readers: &'r crate::pcsc_way::Readers,
    name: &str,
    patience: std::time::Duration,
) -> Result<crate::pcsc_way::PcscWay<'r>, String> {
    use crate::show::BOLD;
    use wavepass_hce::hex;
    if !source.json
        && !readers.list().map_err(|e| e.to_string())?.iter().any(|r| r.name == name && r.atr.is_some())
    {
        anstream::eprintln!("{DIM}waiting for a card on {name}{DIM:#}");
    }
    let way = readers.connect(name, patience).map_err(|e| e.to_string())?;
    if !source.json {
        anstream::println!("{BOLD}{name}{BOLD:#}  ATR {}", hex::encode(way.atr()));
    }
    Ok(way)
}

#[cfg(not(feature = "pcsc"))]
fn on_reader(_: &Source, _: &Terminal) -> Result<Tap, String> {
    Err(source::NO_PCSC.to_owned())
}

/// Taps every card that comes. Returns only where it cannot go on.
#[cfg(feature = "pcsc")]
pub(super) fn watch(source: &Source) -> Result<bool, String> {
    use std::time::Duration;
    // Until Ctrl-C; longer than any bench runs.
    const PATIENCE: Duration = Duration::from_secs(365 * 24 * 3600);
    if source.phone.is_some() {
        return Err("a phone in this process does not come and go: use `rig tap --phone`".to_owned());
    }
    let (terminal, _) = source.open()?;
    let readers = crate::pcsc_way::Readers::open().map_err(|e| e.to_string())?;
    let name = readers.find(source.reader.as_deref()).map_err(|e| e.to_string())?;
    loop {
        {
            let way = &mut connect(source, &readers, &name, PATIENCE)?;
            let tap = over(source, &terminal, way)?;
            tell(&tap, source)?;
        }
        readers.wait(&name, false, PATIENCE).map_err(|e| e.to_string())?;
    }
}

#[cfg(not(feature = "pcsc"))]
pub(super) fn watch(_: &Source) -> Result<bool, String> {
    Err(source::NO_PCSC.to_owned())
}

/// Tells what came of a tap.
pub(super) fn tell(tap: &Tap, source: &Source) -> Result<(), String> {
    let options = Options { numbers: source.show_numbers };
    if source.json {
        println!("{}", show::json(tap, options));
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
    show::certificates(out, tap)
}

/// What a fault means, in words.
pub(super) fn advice(tap: &Tap) -> Option<String> {
    words::advice(tap.verdict.fault?, &tap.verdict.chain)
}
