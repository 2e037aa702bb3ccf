//! Cards on the system's readers: waiting for the next one, wherever it appears.

use super::live::{over, tell};
use super::source::{Front, Source};
use crate::arrivals::Arrivals;
use crate::pcsc_way::{PcscWay, ReaderError, Readers};
use crate::show::{BAD, BOLD, DIM};
use crate::tap::Tap;
use crate::terminal::Terminal;
use serde_json::json;
use std::time::{Duration, Instant};
use wavepass_hce::hex;

/// How long a card that has appeared may need until it can be talked to: phones wake up.
const SETTLE: Duration = Duration::from_secs(2);

/// Taps the first card that appears on a reader. One that cannot be talked to makes way for the next.
pub(super) fn on_reader(source: &Source, terminal: &Terminal) -> Result<(Tap, Option<String>), String> {
    let readers = Readers::open().map_err(|e| e.to_string())?;
    let (front, mut arrivals) = (&source.front, Arrivals::default());
    let end = Instant::now() + source.patience();
    let mut bad: Option<ReaderError> = None;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let reader = match (wait(front, &readers, &mut arrivals, Some(left)), bad) {
            (Ok(reader), _) => reader,
            (Err(ReaderError::NotInTime { .. }), Some(bad)) => return Err(bad.to_string()),
            (Err(e), _) => return Err(e.to_string()),
        };
        match connect(front, &readers, &reader) {
            Ok(mut way) => return Ok((over(front, terminal, &mut way)?, Some(reader))),
            Err(e) => {
                anstream::eprintln!("{DIM}{e}; waiting for another card{DIM:#}");
                bad = Some(e);
            }
        }
    }
}

/// Taps every card that comes. Returns only where there is no reader or no pcscd any more.
pub(super) fn watch(front: &Front) -> Result<bool, String> {
    let terminal = front.open()?;
    let readers = Readers::open().map_err(|e| e.to_string())?;
    let mut arrivals = Arrivals::default();
    loop {
        let reader = wait(front, &readers, &mut arrivals, None).map_err(|e| e.to_string())?;
        match connect(front, &readers, &reader) {
            Ok(mut way) => tell(&over(front, &terminal, &mut way)?, Some(&reader), front)?,
            // The next wait finds out whether there is still something to wait for.
            Err(e) => complain(front, &reader, &e),
        }
    }
}

fn wait(
    front: &Front,
    readers: &Readers,
    arrivals: &mut Arrivals,
    patience: Option<Duration>,
) -> Result<String, ReaderError> {
    let mut waiting = |names: &[String]| {
        if !front.json {
            anstream::eprintln!("{DIM}waiting for a card on {}{DIM:#}", names.join(", "));
        }
    };
    readers.arrival(front.reader.as_deref(), arrivals, patience, &mut waiting)
}

fn connect<'r>(front: &Front, readers: &'r Readers, reader: &str) -> Result<PcscWay<'r>, ReaderError> {
    let way = readers.connect(reader, SETTLE)?;
    if !front.json {
        anstream::println!("{BOLD}{reader}{BOLD:#}  ATR {}", hex::encode(way.atr()));
    }
    Ok(way)
}

/// Tells of a card that could not be tapped.
fn complain(front: &Front, reader: &str, e: &ReaderError) {
    if front.json {
        anstream::println!("{}", json!({ "reader": reader, "error": e.to_string() }));
    } else {
        anstream::eprintln!("{BAD}error:{BAD:#} {e}");
    }
}
