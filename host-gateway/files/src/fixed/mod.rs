//! Files of fixed-width records, as clearing networks use, after a layout that a TOML file describes.
//!
//! A layout has at most one header, details, and at most one trailer. Fields lie side by side without gaps; widths are bytes. Those
//! who write give numbers, texts, dates and amounts; constants, running numbers, counts, totals and hashes follow from the layout and
//! the records, and reading checks them. A hash is SHA-256 over every byte before it, line ends and all, in hexadecimal, cut to
//! the field's width. What is read can be written again, and gives the same bytes. [`charges`] writes a batch so. The form of the
//! file: docs/files.md.

pub mod charges;
mod layout;
mod stamp;

use std::collections::BTreeMap;
use std::io::{BufRead, Write};

use encoding_rs::Encoding;
use jiff::civil::DateTime;
use sha2::{Digest, Sha256};

use layout::{Field, Kind, RecordLayout, Role};
pub use layout::{Layout, LayoutError, MAX_RECORD};

use crate::error::{Fault, FileError};
use crate::lines::{Hashed, Lines, hex};

/// A layout that shows every kind of field. It is made up: no network has such files.
pub const EXAMPLE: &str = include_str!("../../layouts/example.toml");
/// A layout by which the charges of a batch are written and read. It is made up, too.
pub const CHARGES: &str = include_str!("../../layouts/charges.toml");

/// A record: its name in the layout, and the fields that somebody gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name in the layout.
    pub name: String,
    /// Its numbers, texts, dates and amounts, by name.
    pub values: BTreeMap<String, Value>,
}

impl Record {
    /// A record of such values.
    pub fn new<const N: usize>(name: &str, values: [(&str, Value); N]) -> Self {
        Self { name: name.to_owned(), values: values.map(|(name, value)| (name.to_owned(), value)).into() }
    }
}

/// A field's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A whole number.
    Number(u64),
    /// Text that does not end with a space.
    Text(String),
    /// A date and time; of a date alone the time is midnight.
    Date(DateTime),
    /// Minor units of the file's currency.
    Amount(i64),
}

/// How far a file has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Start,
    Details,
    End,
}

/// What counts, totals and the order of records follow from.
struct Tally {
    at: At,
    details: u64,
    totals: BTreeMap<String, i64>,
}

impl Tally {
    const fn new() -> Self {
        Self { at: At::Start, details: 0, totals: BTreeMap::new() }
    }

    /// Goes on to a record, if it may come now.
    fn step(&mut self, layout: &Layout, role: Role) -> Result<(), Fault> {
        let needs_header = layout.records.iter().any(|record| record.role == Role::Header);
        self.at = match (self.at, role) {
            (At::End, _) => return Err(Fault::AfterEnd),
            (At::Start, Role::Header) => At::Details,
            (At::Start, _) if needs_header => return Err(Fault::Order),
            (_, Role::Detail) => At::Details,
            (_, Role::Trailer) => At::End,
            (_, Role::Header) => return Err(Fault::Order),
        };
        self.details += u64::from(role == Role::Detail);
        Ok(())
    }

    fn amount(&mut self, role: Role, field: &Field, minor: i64) -> Result<(), Fault> {
        if role == Role::Detail {
            let total = self.totals.entry(field.name.clone()).or_insert(0);
            *total = total.checked_add(minor).ok_or(Fault::TooLarge)?;
        }
        Ok(())
    }

    /// Whether the file may end here.
    fn end(&self, layout: &Layout) -> Result<(), Fault> {
        let has = |role| layout.records.iter().any(|record| record.role == role);
        let complete =
            if has(Role::Trailer) { self.at == At::End } else { self.at != At::Start || !has(Role::Header) };
        if complete { Ok(()) } else { Err(Fault::Unfinished) }
    }

    /// The text of a field that nobody gives; `hash` is that of all before it. `None` for other fields.
    fn computed(&self, field: &Field, hash: impl FnOnce() -> Sha256) -> Result<Option<String>, Fault> {
        let width = field.width;
        Ok(Some(match &field.kind {
            Kind::Constant(value) => value.clone(),
            Kind::Sequence | Kind::Count => digits(self.details, width)?,
            Kind::Total { of, signed } => amount(self.totals.get(of).copied().unwrap_or(0), width, *signed)?,
            Kind::Hash => {
                let mut text = hex(&hash().finalize());
                text.truncate(width);
                text
            }
            Kind::Number | Kind::Text | Kind::Date(_) | Kind::Amount { .. } => return Ok(None),
        }))
    }
}

fn digits(number: u64, width: usize) -> Result<String, Fault> {
    let text = format!("{number:0width$}");
    if text.len() > width { Err(Fault::TooLong { max: width }) } else { Ok(text) }
}

fn amount(minor: i64, width: usize, signed: bool) -> Result<String, Fault> {
    if !signed {
        return if minor < 0 { Err(Fault::Negative) } else { digits(minor.unsigned_abs(), width) };
    }
    let sign = if minor < 0 { '-' } else { '+' };
    Ok(format!("{sign}{}", digits(minor.unsigned_abs(), width - 1)?))
}

fn read_digits(bytes: &[u8]) -> Result<u64, Fault> {
    // A layout gives numbers at most 18 digits, which fit in 64 bits.
    bytes.iter().try_fold(0_u64, |sum, digit| {
        if digit.is_ascii_digit() { Ok(sum * 10 + u64::from(digit - b'0')) } else { Err(Fault::Number) }
    })
}

fn read_amount(bytes: &[u8], signed: bool) -> Result<i64, Fault> {
    let (negative, digits) = match bytes {
        [b'+', digits @ ..] if signed => (false, digits),
        [b'-', digits @ ..] if signed => (true, digits),
        _ if signed => return Err(Fault::Number),
        _ => (false, bytes),
    };
    let size = read_digits(digits)? as i64;
    // Zero has one form, so that a file that was read is written again as it was.
    if negative && size == 0 { Err(Fault::Number) } else { Ok(if negative { -size } else { size }) }
}

fn text(value: &str, width: usize, encoding: Option<&'static Encoding>) -> Result<Vec<u8>, Fault> {
    if value.ends_with(' ') || value.chars().any(char::is_control) {
        return Err(Fault::Characters);
    }
    let mut bytes = match encoding {
        None if value.is_ascii() => value.as_bytes().to_vec(),
        None => return Err(Fault::Characters),
        Some(encoding) => match encoding.encode(value) {
            (bytes, _, false) => bytes.into_owned(),
            (_, _, true) => return Err(Fault::Characters),
        },
    };
    if bytes.len() > width {
        return Err(Fault::TooLong { max: width });
    }
    bytes.resize(width, b' ');
    Ok(bytes)
}

fn read_text(bytes: &[u8], encoding: Option<&'static Encoding>) -> Result<String, Fault> {
    // A space is never the second byte of a character of these encodings.
    let end = bytes.iter().rposition(|&byte| byte != b' ').map_or(0, |last| last + 1);
    let value = match encoding {
        None => std::str::from_utf8(&bytes[..end]).ok().map(str::to_owned),
        Some(encoding) => encoding
            .decode_without_bom_handling_and_without_replacement(&bytes[..end])
            .map(std::borrow::Cow::into_owned),
    };
    let value = value.ok_or(Fault::Characters)?;
    // Some characters have two forms; only the one that we write is taken.
    if text(&value, bytes.len(), encoding)? == bytes { Ok(value) } else { Err(Fault::Characters) }
}

/// Writes a file record by record: the header, details, the trailer.
pub struct Writer<'l, W: Write> {
    layout: &'l Layout,
    out: Hashed<W>,
    tally: Tally,
    record: u64,
}

impl<'l, W: Write> Writer<'l, W> {
    /// A file without a record yet.
    pub fn new(out: W, layout: &'l Layout) -> Self {
        Self { layout, out: Hashed::new(out), tally: Tally::new(), record: 0 }
    }

    /// Writes a record.
    pub fn push(&mut self, record: &Record) -> Result<(), FileError> {
        self.record += 1;
        let number = self.record;
        let fault = |field: &str, fault: Fault| fault.in_record(number, field);
        let known = self.layout.records.iter().find(|known| known.name == record.name);
        let known = known.ok_or_else(|| fault("", Fault::Unknown))?;
        let given = |name: &String| known.fields.iter().any(|f| f.name == *name && f.kind.is_given());
        if let Some(name) = record.values.keys().find(|name| !given(name)) {
            return Err(fault(name, Fault::Unknown));
        }
        self.tally.step(self.layout, known.role).map_err(|f| fault("", f))?;
        let mut line = Vec::with_capacity(known.width + 2);
        for field in &known.fields {
            let bytes = self.bytes(known, field, record, &line).map_err(|f| fault(&field.name, f))?;
            line.extend(bytes);
        }
        line.extend(self.layout.end.bytes().as_bytes());
        Ok(self.out.write_all(&line)?)
    }

    fn bytes(
        &mut self,
        known: &RecordLayout,
        field: &Field,
        record: &Record,
        line: &[u8],
    ) -> Result<Vec<u8>, Fault> {
        let hash = || self.out.hash.clone().chain_update(line);
        if let Some(text) = self.tally.computed(field, hash)? {
            return Ok(text.into_bytes());
        }
        match (&field.kind, record.values.get(&field.name)) {
            (_, None) => Err(Fault::Missing),
            (Kind::Number, Some(Value::Number(number))) => {
                digits(*number, field.width).map(String::into_bytes)
            }
            (Kind::Text, Some(Value::Text(value))) => text(value, field.width, self.layout.encoding),
            (Kind::Date(stamp), Some(Value::Date(time))) => stamp.write(*time).map(String::into_bytes),
            (Kind::Amount { signed }, Some(Value::Amount(minor))) => {
                self.tally.amount(known.role, field, *minor)?;
                amount(*minor, field.width, *signed).map(String::into_bytes)
            }
            _ => Err(Fault::Kind),
        }
    }

    /// Ends the file.
    pub fn finish(mut self) -> Result<W, FileError> {
        self.tally.end(self.layout).map_err(|fault| fault.in_record(self.record, ""))?;
        self.out.flush()?;
        Ok(self.out.out)
    }
}

/// Writes a whole file.
pub fn write<W: Write>(
    out: W,
    layout: &Layout,
    records: impl IntoIterator<Item = Record>,
) -> Result<W, FileError> {
    let mut writer = Writer::new(out, layout);
    for record in records {
        writer.push(&record)?;
    }
    writer.finish()
}

/// Reads a file record by record; the first error is the last item.
pub struct Reader<'l, R: BufRead> {
    layout: &'l Layout,
    lines: Lines<R>,
    tally: Tally,
    done: bool,
}

impl<'l, R: BufRead> Reader<'l, R> {
    /// A file of which nothing is read yet.
    pub fn new(input: R, layout: &'l Layout) -> Self {
        let widest = layout.records.iter().map(|record| record.width).max().unwrap_or(0);
        Self { layout, lines: Lines::new(input, layout.end, widest), tally: Tally::new(), done: false }
    }

    fn advance(&mut self) -> Result<Option<Record>, FileError> {
        let more = self.lines.advance()?;
        let number = self.lines.number();
        if !more {
            self.tally.end(self.layout).map_err(|fault| fault.at(number + 1, 1, ""))?;
            return Ok(None);
        }
        let line = self.lines.line();
        let known = self.layout.records.iter().find(|known| known.fits(line));
        let known = known.ok_or_else(|| Fault::Record.at(number, 1, ""))?;
        self.tally.step(self.layout, known.role).map_err(|fault| fault.at(number, 1, ""))?;
        let mut values = BTreeMap::new();
        for field in &known.fields {
            let fault = |fault: Fault| fault.at(number, field.at as u64 + 1, &field.name);
            let bytes = &line[field.at..field.at + field.width];
            let hash = || self.lines.before().chain_update(&line[..field.at]);
            if let Some(text) = self.tally.computed(field, hash).map_err(fault)? {
                if text.as_bytes() != bytes {
                    return Err(fault(Fault::Disagrees(text)));
                }
                continue;
            }
            let value = match &field.kind {
                Kind::Number => read_digits(bytes).map(Value::Number),
                Kind::Date(stamp) => stamp.read(bytes).map(Value::Date),
                Kind::Amount { signed } => read_amount(bytes, *signed).and_then(|minor| {
                    self.tally.amount(known.role, field, minor).map(|()| Value::Amount(minor))
                }),
                _ => read_text(bytes, self.layout.encoding).map(Value::Text),
            };
            values.insert(field.name.clone(), value.map_err(fault)?);
        }
        Ok(Some(Record { name: known.name.clone(), values }))
    }
}

impl<R: BufRead> Iterator for Reader<'_, R> {
    type Item = Result<Record, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let record = self.advance().transpose();
        self.done = !matches!(record, Some(Ok(_)));
        record
    }
}
