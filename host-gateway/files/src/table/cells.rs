//! Cells of a line, and values in the one form that we write.

use csv_core::ReadRecordResult;
use jiff::Timestamp;
use wavepass_fares::{Fen, ServiceDay};

use super::MAX_LINE;
use super::rows::{Journey, Row};
use crate::error::{Fault, FileError};
use crate::lines::unhex;

/// The cells of a line, taken one by one.
#[doc(hidden)]
pub struct Cells<'a> {
    line: u64,
    names: &'static [&'static str],
    text: &'a [u8],
    ends: &'a [usize],
    next: usize,
}

impl Cells<'_> {
    /// What a function makes of the next cell; its fault gets the cell's place.
    pub(super) fn take<T>(&mut self, parse: impl FnOnce(&str) -> Result<T, Fault>) -> Result<T, FileError> {
        let at = self.next;
        self.next += 1;
        let from = if at == 0 { 0 } else { self.ends[at - 1] };
        let name = self.names.get(at).copied().unwrap_or_default();
        let cell = std::str::from_utf8(&self.text[from..self.ends[at]]).map_err(|_| Fault::Characters);
        cell.and_then(parse).map_err(|fault| fault.at(self.line, self.next as u64, name))
    }

    pub(super) fn optional<T>(
        &mut self,
        parse: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Result<Option<T>, FileError> {
        self.take(|text| if text.is_empty() { Ok(None) } else { parse(text).map(Some) })
    }

    pub(super) fn constant(&mut self, value: &'static str) -> Result<(), FileError> {
        self.take(|text| if text == value { Ok(()) } else { Err(Fault::Constant(value.into())) })
    }

    pub(super) fn number<T: std::str::FromStr + ToString>(&mut self) -> Result<T, FileError> {
        self.take(number)
    }

    pub(super) fn fen(&mut self) -> Result<Fen, FileError> {
        self.take(number).map(Fen)
    }
}

/// A whole number as we write it: `+1`, `01` and `-0` are no such.
pub(super) fn number<T: std::str::FromStr + ToString>(text: &str) -> Result<T, Fault> {
    text.parse().ok().filter(|number: &T| number.to_string() == text).ok_or(Fault::Number)
}

pub(super) fn bytes<const N: usize>(text: &str) -> Result<[u8; N], Fault> {
    unhex(text).ok_or(Fault::Identifier("hexadecimal in small letters"))
}

pub(super) fn instant(text: &str) -> Result<Timestamp, Fault> {
    let instant: Option<Timestamp> = text.parse().ok();
    instant.filter(|i| i.to_string() == text).ok_or_else(|| Fault::Date("2026-11-24T05:00:00Z".into()))
}

pub(super) fn day(text: &str) -> Result<ServiceDay, Fault> {
    let day: Option<ServiceDay> = text.parse().ok();
    day.filter(|day| day.to_string() == text).ok_or_else(|| Fault::Date("2026-11-23".into()))
}

pub(super) fn optional<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// Splits lines into cells.
pub(super) struct Cutter {
    csv: csv_core::Reader,
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Cutter {
    pub(super) fn new() -> Self {
        let csv = csv_core::ReaderBuilder::new().terminator(csv_core::Terminator::Any(b'\n')).build();
        // A line's cells are no longer than the line; more cells than the widest row has are one too many.
        Self { csv, text: vec![0; MAX_LINE + 1], ends: vec![0; Journey::COLUMNS.len() + 1] }
    }

    /// The cells of a line with its end; a fault where they are not as many as the columns.
    pub(super) fn cut(
        &mut self,
        raw: &[u8],
        number: u64,
        names: &'static [&'static str],
    ) -> Result<Cells<'_>, FileError> {
        self.csv.reset();
        let (result, read, wrote, cells) = self.csv.read_record(raw, &mut self.text, &mut self.ends);
        match result {
            ReadRecordResult::Record if read == raw.len() && cells == names.len() => {}
            ReadRecordResult::InputEmpty if raw.len() > 1 => {
                return Err(Fault::Quote.at(number, cells as u64 + 1, ""));
            }
            _ => return Err(Fault::Width(names.len()).at(number, cells as u64, "")),
        }
        Ok(Cells { line: number, names, text: &self.text[..wrote], ends: &self.ends[..cells], next: 0 })
    }
}
