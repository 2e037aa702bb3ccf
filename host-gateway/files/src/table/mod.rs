//! CSV files of the house: the charges of a batch, their journeys, and settlement positions.
//!
//! UTF-8, commas, lines that end with LF, quotes only where a cell needs them. The first line is the head, `wavepass`, the kind of
//! file, the format's version, service day, rank, batch number (empty for settlements), time; the second has the names of the
//! columns; the last is the trailer: `trailer`, the number of rows, their sum in fen, and the SHA-256 in hexadecimal of
//! every byte before the trailer's line. Rows are in the order of their keys, each key once.

mod cells;
mod rows;

use std::io::{BufRead, Write};
use std::marker::PhantomData;

use jiff::Timestamp;
use sha2::Digest;
use wavepass_fares::{Fen, ServiceDay};

use cells::{Cells, Cutter, day, instant, number, optional};
pub use rows::{Charge, Journey, Position, Row, TapName};

use crate::error::{Fault, FileError};
use crate::lines::{Hashed, LineEnd, Lines, hex};

/// The longest line: about ten times the longest that is written.
const MAX_LINE: usize = 8 << 10;

/// What a file is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The service day.
    pub service_day: ServiceDay,
    /// The batch's or the settlement's place in its day, from 0.
    pub rank: u32,
    /// The batch's number; settlements have none.
    pub batch: Option<u64>,
    /// When the batch was sealed, or whatever else the batch says; never the clock of the moment.
    pub created: Timestamp,
}

/// What the trailer says, as far as it has come; and the last key.
pub(crate) struct Tally<K> {
    pub(crate) count: u64,
    pub(crate) total: Fen,
    last: Option<K>,
}

impl<K: Ord + Copy> Tally<K> {
    pub(crate) const fn new() -> Self {
        Self { count: 0, total: Fen::ZERO, last: None }
    }

    pub(crate) fn add<T: Row<Key = K>>(&mut self, row: &T) -> Result<(), (&'static str, Fault)> {
        row.check()?;
        let key = row.key();
        if self.last.is_some_and(|last| last >= key) {
            return Err((T::COLUMNS[0], Fault::Order));
        }
        self.last = Some(key);
        self.total = self.total.plus(row.amount()).map_err(|_| ("", Fault::TooLarge))?;
        self.count += 1;
        Ok(())
    }

    fn trailer(&self, hash: sha2::Sha256) -> [String; 4] {
        [TRAILER.into(), self.count.to_string(), self.total.0.to_string(), hex(&hash.finalize())]
    }
}

const MARK: &str = "wavepass";
const TRAILER: &str = "trailer";
const HEAD: &[&str] = &[MARK, "kind", "version", "service_day", "rank", "batch", "created"];

/// Writes a file row by row.
pub struct Writer<T: Row, W: Write> {
    csv: csv::Writer<Hashed<W>>,
    tally: Tally<T::Key>,
}

/// What `csv` reports: its only errors here come from the place that it writes to.
fn written(result: Result<(), csv::Error>) -> Result<(), FileError> {
    result.map_err(|error| FileError::Io(error.into()))
}

impl<T: Row, W: Write> Writer<T, W> {
    /// Writes the head and the columns' names.
    pub fn new(out: W, head: &Head) -> Result<Self, FileError> {
        let mut csv = csv::WriterBuilder::new()
            .flexible(true)
            .terminator(csv::Terminator::Any(b'\n'))
            .from_writer(Hashed::new(out));
        written(csv.write_record([
            MARK,
            T::KIND,
            T::VERSION,
            &head.service_day.to_string(),
            &head.rank.to_string(),
            &optional(head.batch),
            &head.created.to_string(),
        ]))?;
        written(csv.write_record(T::COLUMNS))?;
        Ok(Self { csv, tally: Tally::new() })
    }

    /// Writes a row.
    pub fn push(&mut self, row: &T) -> Result<(), FileError> {
        let record = self.tally.count + 1;
        self.tally.add(row).map_err(|(column, fault)| fault.in_record(record, column))?;
        written(self.csv.write_record(row.cells()))
    }

    /// Writes the trailer.
    pub fn finish(mut self) -> Result<W, FileError> {
        self.csv.flush()?;
        let hash = self.csv.get_ref().hash.clone();
        written(self.csv.write_record(self.tally.trailer(hash)))?;
        let hashed = self.csv.into_inner().map_err(csv::IntoInnerError::into_error)?;
        Ok(hashed.out)
    }
}

/// Writes a whole file.
pub fn write<T: Row, W: Write>(
    out: W,
    head: &Head,
    rows: impl IntoIterator<Item = T>,
) -> Result<W, FileError> {
    let mut writer = Writer::new(out, head)?;
    for row in rows {
        writer.push(&row)?;
    }
    writer.finish()
}

/// Reads a file row by row; the first error is the last item.
pub struct Reader<T: Row, R: BufRead> {
    lines: Lines<R>,
    cutter: Cutter,
    head: Head,
    tally: Tally<T::Key>,
    done: bool,
    rows: PhantomData<T>,
}

impl<T: Row, R: BufRead> Reader<T, R> {
    /// Reads the head and the columns' names.
    pub fn new(input: R) -> Result<Self, FileError> {
        let mut lines = Lines::new(input, LineEnd::Lf, MAX_LINE);
        let mut cutter = Cutter::new();
        let cells = &mut line(&mut lines, &mut cutter, HEAD)?;
        let format = || Fault::Format(format!("{MARK} {} {}", T::KIND, T::VERSION));
        for value in [MARK, T::KIND, T::VERSION] {
            cells.take(|text| if text == value { Ok(()) } else { Err(format()) })?;
        }
        let head = Head {
            service_day: cells.take(day)?,
            rank: cells.number()?,
            batch: cells.optional(number)?,
            created: cells.take(instant)?,
        };
        let cells = &mut line(&mut lines, &mut cutter, T::COLUMNS)?;
        T::COLUMNS.iter().try_for_each(|name| cells.constant(name))?;
        Ok(Self { lines, cutter, head, tally: Tally::new(), done: false, rows: PhantomData })
    }

    /// What the file is about.
    pub fn head(&self) -> &Head {
        &self.head
    }

    fn advance(&mut self) -> Result<Option<T>, FileError> {
        if !self.lines.advance()? {
            return Err(Fault::Unfinished.at(self.lines.number() + 1, 1, TRAILER));
        }
        let number = self.lines.number();
        if self.lines.line().starts_with(TRAILER.as_bytes()) {
            self.trailer(number)?;
            return Ok(None);
        }
        let mut cells = self.cutter.cut(self.lines.raw(), number, T::COLUMNS)?;
        let row = T::read(&mut cells)?;
        self.tally.add(&row).map_err(|(name, fault)| {
            let column = T::COLUMNS.iter().position(|&column| column == name).map_or(1, |at| at + 1);
            fault.at(number, column as u64, name)
        })?;
        Ok(Some(row))
    }

    /// The trailer must be, cell by cell, what we would write.
    fn trailer(&mut self, number: u64) -> Result<(), FileError> {
        let ours = self.tally.trailer(self.lines.before());
        const NAMES: &[&str] = &[TRAILER, "rows", "total_fen", "sha256"];
        let mut cells = self.cutter.cut(self.lines.raw(), number, NAMES)?;
        for value in &ours {
            cells.take(|text| if text == value { Ok(()) } else { Err(Fault::Disagrees(value.clone())) })?;
        }
        // Not even the quotes may differ: they are no part of what the hash covers.
        if self.lines.line() != ours.join(",").as_bytes() {
            return Err(Fault::Record.at(number, 1, TRAILER));
        }
        if self.lines.advance()? {
            return Err(Fault::AfterEnd.at(self.lines.number(), 1, ""));
        }
        Ok(())
    }
}

fn line<'c, R: BufRead>(
    lines: &mut Lines<R>,
    cutter: &'c mut Cutter,
    names: &'static [&'static str],
) -> Result<Cells<'c>, FileError> {
    if !lines.advance()? {
        return Err(Fault::Unfinished.at(lines.number() + 1, 1, ""));
    }
    cutter.cut(lines.raw(), lines.number(), names)
}

impl<T: Row, R: BufRead> Iterator for Reader<T, R> {
    type Item = Result<T, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let row = self.advance().transpose();
        self.done = !matches!(row, Some(Ok(_)));
        row
    }
}
