//! Writing XML: elements in their order, text held to its characters and lengths.

use std::io::Write;

use jiff::Timestamp;
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};

use super::Form;
use crate::error::{Fault, FileError};
use crate::money::{Currency, Totals};

/// An XML file that is being written.
#[doc(hidden)]
pub struct Sink<W: Write> {
    writer: Writer<W>,
    open: Vec<&'static str>,
    pub(super) currency: Currency,
    /// The number of the item that is being written, 0 in the head.
    pub(super) record: u64,
}

impl<W: Write> Sink<W> {
    pub(super) fn new(out: W, form: &Form, currency: Currency) -> Result<Self, FileError> {
        let mut writer = Writer::new_with_indent(out, b' ', 1);
        writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
        let document = BytesStart::new("Document").with_attributes([("xmlns", form.namespace().as_str())]);
        writer.write_event(Event::Start(document))?;
        let mut sink = Self { writer, open: vec!["Document"], currency, record: 0 };
        sink.open(form.root)?;
        Ok(sink)
    }

    pub(super) fn fault(&self, field: &str, fault: Fault) -> FileError {
        fault.in_record(self.record, field)
    }

    pub(super) fn open(&mut self, element: &'static str) -> Result<(), FileError> {
        self.open.push(element);
        Ok(self.writer.write_event(Event::Start(BytesStart::new(element)))?)
    }

    pub(super) fn close(&mut self) -> Result<(), FileError> {
        if let Some(element) = self.open.pop() {
            self.writer.write_event(Event::End(BytesEnd::new(element)))?;
        }
        Ok(())
    }

    fn element(&mut self, start: BytesStart<'_>, value: &str) -> Result<(), FileError> {
        let end = start.to_end().into_owned();
        self.writer.write_event(Event::Start(start))?;
        self.writer.write_event(Event::Text(BytesText::new(value)))?;
        Ok(self.writer.write_event(Event::End(end))?)
    }

    /// A value of our own making in its element, which lies in the elements before it.
    pub(super) fn leaf(&mut self, path: &[&'static str], value: &str) -> Result<(), FileError> {
        let Some((last, outer)) = path.split_last() else { return Ok(()) };
        outer.iter().try_for_each(|name| self.open(name))?;
        self.element(BytesStart::new(*last), value)?;
        outer.iter().try_for_each(|_| self.close())
    }

    /// Text that somebody chose, of 1 to `max` characters.
    pub(super) fn text(&mut self, path: &[&'static str], value: &str, max: usize) -> Result<(), FileError> {
        match carries(value, max) {
            Err(fault) => Err(self.fault(&path.join("/"), fault)),
            Ok(()) => self.leaf(path, value),
        }
    }

    /// An amount with its currency, without its sign.
    pub(super) fn amount(&mut self, element: &'static str, minor: i64) -> Result<(), FileError> {
        let value = self.decimal(element, minor)?;
        let currency = self.currency;
        self.element(BytesStart::new(element).with_attributes([("Ccy", currency.code())]), &value)
    }

    /// An amount's direction.
    pub(super) fn direction(&mut self, minor: i64) -> Result<(), FileError> {
        self.leaf(&["CdtDbtInd"], if minor < 0 { "DBIT" } else { "CRDT" })
    }

    /// A count and a sum in two elements.
    pub(super) fn totals(
        &mut self,
        count: &'static str,
        sum: &'static str,
        totals: Totals,
    ) -> Result<(), FileError> {
        self.leaf(&[count], &totals.count.to_string())?;
        self.sum(sum, totals.sum_minor)
    }

    pub(super) fn sum(&mut self, element: &'static str, minor: i64) -> Result<(), FileError> {
        if minor < 0 {
            return Err(self.fault(element, Fault::Negative));
        }
        let value = self.decimal(element, minor)?;
        self.leaf(&[element], &value)
    }

    fn decimal(&self, element: &str, minor: i64) -> Result<String, FileError> {
        self.currency.decimal(minor.unsigned_abs()).map_err(|fault| self.fault(element, fault))
    }

    pub(super) fn created(&mut self, created: Timestamp) -> Result<(), FileError> {
        self.leaf(&["CreDtTm"], &created.to_string())
    }

    /// Closes what is open and ends the file with its last line.
    pub(super) fn finish(mut self) -> Result<W, FileError> {
        while !self.open.is_empty() {
            self.close()?;
        }
        let mut out = self.writer.into_inner();
        out.write_all(b"\n")?;
        out.flush()?;
        Ok(out)
    }
}

/// Whether a message carries a text that somebody chose, of 1 to `max` characters.
pub(super) fn carries(value: &str, max: usize) -> Result<(), Fault> {
    let known = |c: char| c.is_ascii_alphanumeric() || "/-?:().,'+ ".contains(c);
    if value.is_empty() {
        Err(Fault::Empty)
    } else if value.chars().count() > max {
        Err(Fault::TooLong { max })
    } else if !value.chars().all(known) || value.trim() != value {
        Err(Fault::Characters)
    } else {
        Ok(())
    }
}
