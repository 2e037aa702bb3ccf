//! A part of a message that was read whole, and questions to it.

use jiff::civil::{Date, DateTime};
use jiff::{Timestamp, tz::TimeZone};

use crate::error::{Fault, FileError};
use crate::money::{Currency, Totals};

/// An element with everything in it.
#[doc(hidden)]
pub struct Node {
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    /// The attribute `Ccy` of an amount.
    pub(super) currency: Option<String>,
    pub(super) content: String,
    pub(super) children: Vec<Node>,
    line: u64,
    column: u64,
}

impl Node {
    pub(super) fn new(name: String, line: u64, column: u64) -> Self {
        Self {
            name,
            namespace: None,
            currency: None,
            content: String::new(),
            children: Vec::new(),
            line,
            column,
        }
    }

    /// A fault of this element, or of one in it that cannot be shown.
    pub(super) fn fault(&self, field: &str, fault: Fault) -> FileError {
        fault.at(self.line, self.column, field)
    }

    /// A fault of this element's own content.
    fn own(&self, fault: Fault) -> FileError {
        self.fault(&self.name, fault)
    }

    /// Every element of a name in this one.
    pub(super) fn all<'a>(&'a self, name: &'static str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The element at a path, if there is one; one that is there twice is a fault.
    pub(super) fn get(&self, path: &[&'static str]) -> Result<Option<&Self>, FileError> {
        let mut node = self;
        for name in path {
            let mut found = node.all(name);
            match (found.next(), found.next()) {
                (None, _) => return Ok(None),
                (Some(child), None) => node = child,
                (Some(_), Some(second)) => return Err(second.own(Fault::Twice)),
            }
        }
        Ok(Some(node))
    }

    pub(super) fn need(&self, path: &[&'static str]) -> Result<&Self, FileError> {
        self.get(path)?.ok_or_else(|| self.fault(&path.join("/"), Fault::Missing))
    }

    fn value(&self) -> &str {
        self.content.trim()
    }

    /// Text of 1 to `max` characters, none of them a control character.
    pub(super) fn text(&self, path: &[&'static str], max: usize) -> Result<Option<String>, FileError> {
        let Some(node) = self.get(path)? else { return Ok(None) };
        match node.value().chars().count() {
            0 => Err(node.own(Fault::Empty)),
            len if len > max => Err(node.own(Fault::TooLong { max })),
            _ if node.value().contains(char::is_control) => Err(node.own(Fault::Characters)),
            _ => Ok(Some(node.value().to_owned())),
        }
    }

    pub(super) fn need_text(&self, path: &[&'static str], max: usize) -> Result<String, FileError> {
        self.text(path, max)?.ok_or_else(|| self.fault(&path.join("/"), Fault::Missing))
    }

    /// What a function makes of an element's text.
    pub(super) fn parse<T>(
        &self,
        path: &[&'static str],
        parse: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Result<Option<T>, FileError> {
        let Some(node) = self.get(path)? else { return Ok(None) };
        parse(node.value()).map(Some).map_err(|fault| node.own(fault))
    }

    pub(super) fn need_parse<T>(
        &self,
        path: &[&'static str],
        parse: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Result<T, FileError> {
        self.parse(path, parse)?.ok_or_else(|| self.fault(&path.join("/"), Fault::Missing))
    }

    /// A count and a sum, where both are there.
    pub(super) fn totals(
        &self,
        count: &[&'static str],
        sum: &[&'static str],
        currency: Currency,
    ) -> Result<Option<Totals>, FileError> {
        let count = self.parse(count, number)?;
        let sum = self.parse(sum, |text| currency.minor(text))?;
        Ok(count.zip(sum).map(|(count, sum_minor)| Totals { count, sum_minor }))
    }

    /// An amount without a sign, in the one currency.
    pub(super) fn amount(&self, path: &[&'static str], currency: Currency) -> Result<Option<i64>, FileError> {
        let Some(node) = self.get(path)? else { return Ok(None) };
        if node.currency.as_deref() != Some(currency.code()) {
            return Err(node.own(Fault::Currency(currency.code().to_owned())));
        }
        currency.minor(node.value()).map(Some).map_err(|fault| node.own(fault))
    }

    pub(super) fn need_amount(&self, path: &[&'static str], currency: Currency) -> Result<i64, FileError> {
        self.amount(path, currency)?.ok_or_else(|| self.fault(&path.join("/"), Fault::Missing))
    }

    /// An amount whose direction is beside it: credit above zero, debit below. `inherited` has the sign of an amount that names none.
    pub(super) fn directed(&self, currency: Currency, inherited: Option<i64>) -> Result<i64, FileError> {
        let amount = self.need_amount(&["Amt"], currency)?;
        let direction = self.parse(&["CdtDbtInd"], |code| match code {
            "CRDT" => Ok(1),
            "DBIT" => Ok(-1),
            _ => Err(Fault::Code),
        })?;
        let sign = direction.or(inherited.map(|whole| if whole < 0 { -1 } else { 1 }));
        Ok(sign.ok_or_else(|| self.fault("CdtDbtInd", Fault::Missing))? * amount)
    }

    /// A date, or the date of a date and time as it is written.
    pub(super) fn date(&self, element: &'static str) -> Result<Option<Date>, FileError> {
        let Some(node) = self.get(&[element])? else { return Ok(None) };
        match node.parse(&["Dt"], date)? {
            Some(date) => Ok(Some(date)),
            None => node.need_parse(&["DtTm"], |text| date(text.get(..10).unwrap_or(text))).map(Some),
        }
    }
}

/// A whole number without a sign.
pub(super) fn number(text: &str) -> Result<u64, Fault> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Fault::Number);
    }
    text.parse().map_err(|_| Fault::TooLarge)
}

/// `2026-11-23`.
pub(super) fn date(text: &str) -> Result<Date, Fault> {
    let fault = || Fault::Date("2026-11-23".into());
    let date: Date = text.parse().map_err(|_| fault())?;
    // The parser takes other forms of ISO 8601 too.
    if date.to_string() == text { Ok(date) } else { Err(fault()) }
}

/// A date and time; one that names no offset is taken for UTC.
pub(super) fn instant(text: &str) -> Result<Timestamp, Fault> {
    let fault = |_| Fault::Date("2026-11-24T05:00:00Z".into());
    match text.parse::<Timestamp>() {
        Ok(instant) => Ok(instant),
        Err(_) => {
            let local: DateTime = text.parse().map_err(fault)?;
            TimeZone::UTC.to_timestamp(local).map_err(fault)
        }
    }
}
