//! A layout file: which records a file has, and where their fields lie.

use std::collections::BTreeSet;

use encoding_rs::Encoding;
use serde::Deserialize;

use super::Value;
use super::stamp::Stamp;
use crate::lines::LineEnd;

/// The most bytes of a record.
pub const MAX_RECORD: usize = 4_096;
/// The most fields of a record, and the most records of a layout.
const MAX_FIELDS: usize = 200;
/// The most digits of a number or an amount: what fits in 64 bits.
const MAX_DIGITS: usize = 18;
/// The hexadecimal digits of a whole SHA-256.
const HASH: usize = 64;
/// The fewest digits of a hash that still show every change but one in 65,536.
const MIN_HASH: usize = 4;

/// Why a layout file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// It is no TOML of this form; the text says where and why.
    #[error("{0}")]
    Toml(String),
    /// It says something that cannot be.
    #[error("record `{record}`, field `{field}`: {why}")]
    Field {
        /// The record.
        record: String,
        /// The field; empty for the record itself.
        field: String,
        /// Why.
        why: &'static str,
    },
    /// The records do not make a file.
    #[error("{0}")]
    Records(&'static str),
}

/// A record's place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    /// The first line.
    Header,
    /// Any line between.
    Detail,
    /// The last line.
    Trailer,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLayout {
    format: u8,
    title: String,
    encoding: RawEncoding,
    line_end: RawLineEnd,
    record: Vec<RawRecord>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawEncoding {
    Ascii,
    Gbk,
    Gb18030,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawLineEnd {
    Lf,
    Crlf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRecord {
    name: String,
    role: Role,
    field: Vec<RawField>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawField {
    name: String,
    start: usize,
    width: usize,
    kind: RawKind,
    value: Option<String>,
    format: Option<String>,
    signed: Option<bool>,
    of: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawKind {
    Number,
    Text,
    Date,
    Amount,
    Constant,
    Sequence,
    Count,
    Total,
    Hash,
}

/// What a field holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Number,
    Text,
    Date(Stamp),
    Amount { signed: bool },
    Constant(String),
    Sequence,
    Count,
    Total { of: String, signed: bool },
    Hash,
}

impl Kind {
    /// Whether the one who writes gives the value; others follow from the layout and the file.
    pub(super) const fn is_given(&self) -> bool {
        matches!(self, Self::Number | Self::Text | Self::Date(_) | Self::Amount { .. })
    }

    /// Whether a given value is of this kind.
    pub(super) const fn holds(&self, value: &Value) -> bool {
        matches!(
            (self, value),
            (Self::Number, Value::Number(_))
                | (Self::Text, Value::Text(_))
                | (Self::Date(_), Value::Date(_))
                | (Self::Amount { .. }, Value::Amount(_))
        )
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: String,
    /// The first byte, from 0.
    pub(super) at: usize,
    pub(super) width: usize,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecordLayout {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) fields: Vec<Field>,
    pub(super) width: usize,
}

impl RecordLayout {
    /// Whether a line of this width has all of this record's constants.
    pub(super) fn fits(&self, line: &[u8]) -> bool {
        let has = |field: &Field| match &field.kind {
            Kind::Constant(value) => line.get(field.at..field.at + field.width) == Some(value.as_bytes()),
            _ => true,
        };
        line.len() == self.width && self.fields.iter().all(has)
    }
}

/// A checked layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub(super) title: String,
    /// `None`: ASCII.
    pub(super) encoding: Option<&'static Encoding>,
    pub(super) end: LineEnd,
    pub(super) records: Vec<RecordLayout>,
}

impl Layout {
    /// Reads a layout file.
    pub fn parse(text: &str) -> Result<Self, LayoutError> {
        let raw: RawLayout = toml::from_str(text).map_err(|error| LayoutError::Toml(error.to_string()))?;
        if raw.format != 1 {
            return Err(LayoutError::Records("format is not 1"));
        }
        let records = raw.record.into_iter().map(record).collect::<Result<Vec<_>, _>>()?;
        check_records(&records)?;
        Ok(Self {
            title: raw.title,
            encoding: match raw.encoding {
                RawEncoding::Ascii => None,
                RawEncoding::Gbk => Some(encoding_rs::GBK),
                RawEncoding::Gb18030 => Some(encoding_rs::GB18030),
            },
            end: match raw.line_end {
                RawLineEnd::Lf => LineEnd::Lf,
                RawLineEnd::Crlf => LineEnd::CrLf,
            },
            records,
        })
    }

    /// What the layout calls itself.
    pub fn title(&self) -> &str {
        &self.title
    }
}

fn record(raw: RawRecord) -> Result<RecordLayout, LayoutError> {
    let fault =
        |field: &str, why| LayoutError::Field { record: raw.name.clone(), field: field.to_owned(), why };
    if raw.field.is_empty() || raw.field.len() > MAX_FIELDS {
        return Err(fault("", "has no field, or more than 200"));
    }
    let mut fields: Vec<Field> = Vec::with_capacity(raw.field.len());
    let (mut names, mut width) = (BTreeSet::new(), 0);
    for field in &raw.field {
        let fault = |why| fault(&field.name, why);
        // `filler` may come as often as a record has gaps.
        let filler = field.name == "filler" && field.kind == RawKind::Constant;
        if !filler && !names.insert(field.name.as_str()) {
            return Err(fault("the name is there twice"));
        }
        if field.start != width + 1 {
            return Err(fault(
                "does not start where the field before it ends; name a gap as a constant of spaces",
            ));
        }
        if field.width == 0 || field.width > MAX_RECORD - width {
            return Err(fault("the width is 0, or the record longer than 4096 bytes"));
        }
        let kind = kind(field, raw.role).map_err(fault)?;
        if fields.iter().any(|before| before.kind == Kind::Hash) && !matches!(kind, Kind::Constant(_)) {
            return Err(fault("comes after a hash, which would not cover it: only a constant can"));
        }
        fields.push(Field { name: field.name.clone(), at: width, width: field.width, kind });
        width += field.width;
    }
    Ok(RecordLayout { name: raw.name, role: raw.role, fields, width })
}

/// What of a field's options its kind has.
fn kind(raw: &RawField, role: Role) -> Result<Kind, &'static str> {
    let options = [raw.value.is_some(), raw.format.is_some(), raw.signed.is_some(), raw.of.is_some()];
    let allowed = match raw.kind {
        RawKind::Constant => [true, false, false, false],
        RawKind::Date => [false, true, false, false],
        RawKind::Amount => [false, false, true, false],
        RawKind::Total => [false, false, true, true],
        _ => [false; 4],
    };
    if options.iter().zip(allowed).any(|(&has, may)| has && !may) {
        return Err("has an option that its kind has not");
    }
    let signed = raw.signed.unwrap_or(false);
    let digits = raw.width - usize::from(signed);
    let is_number = !matches!(raw.kind, RawKind::Text | RawKind::Date | RawKind::Constant | RawKind::Hash);
    if is_number && !(1..=MAX_DIGITS).contains(&digits) {
        return Err("has no digit, or more than 18");
    }
    match raw.kind {
        RawKind::Sequence if role != Role::Detail => return Err("only a detail has a running number"),
        RawKind::Count | RawKind::Total | RawKind::Hash if role != Role::Trailer => {
            return Err("only a trailer has a count, a total or a hash");
        }
        _ => {}
    }
    Ok(match raw.kind {
        RawKind::Number => Kind::Number,
        RawKind::Text => Kind::Text,
        RawKind::Date => {
            let stamp = Stamp::parse(raw.format.as_deref().ok_or("needs a format")?)?;
            if stamp.width() != raw.width {
                return Err("the format has another width");
            }
            Kind::Date(stamp)
        }
        RawKind::Amount => Kind::Amount { signed },
        RawKind::Constant => {
            let value = raw.value.clone().ok_or("needs a value")?;
            if value.len() > raw.width || !value.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
                return Err("the value is longer than the field, or has other characters than ASCII's");
            }
            Kind::Constant(format!("{value:<width$}", width = raw.width))
        }
        RawKind::Sequence => Kind::Sequence,
        RawKind::Count => Kind::Count,
        RawKind::Total => {
            Kind::Total { of: raw.of.clone().ok_or("needs the amount that it sums: of")?, signed }
        }
        RawKind::Hash if (MIN_HASH..=HASH).contains(&raw.width) => Kind::Hash,
        RawKind::Hash => return Err("a hash has 4 to 64 digits"),
    })
}

/// A header and a trailer at most, details, records that can be told apart, and totals of what is there.
fn check_records(records: &[RecordLayout]) -> Result<(), LayoutError> {
    let count = |role| records.iter().filter(|record| record.role == role).count();
    if count(Role::Header) > 1
        || count(Role::Trailer) > 1
        || count(Role::Detail) == 0
        || records.len() > MAX_FIELDS
    {
        return Err(LayoutError::Records(
            "a layout has at most one header, at most one trailer, and details",
        ));
    }
    for (at, record) in records.iter().enumerate() {
        let fault = |field: &str, why| LayoutError::Field {
            record: record.name.clone(),
            field: field.to_owned(),
            why,
        };
        for other in &records[..at] {
            if other.name == record.name {
                return Err(fault("", "the name is there twice"));
            }
            if other.width == record.width && !apart(other, record) {
                return Err(fault("", "no constant tells it from the records before it"));
            }
        }
        for field in &record.fields {
            let Kind::Total { of, .. } = &field.kind else { continue };
            let summed = |r: &RecordLayout| {
                r.role == Role::Detail
                    && r.fields.iter().any(|f| f.name == *of && matches!(f.kind, Kind::Amount { .. }))
            };
            if !records.iter().any(summed) {
                return Err(fault(&field.name, "no detail has an amount of the name that it sums"));
            }
        }
    }
    Ok(())
}

/// Whether constants at the same bytes differ.
fn apart(one: &RecordLayout, other: &RecordLayout) -> bool {
    one.fields.iter().any(|a| {
        other.fields.iter().any(|b| match (&a.kind, &b.kind) {
            (Kind::Constant(x), Kind::Constant(y)) => a.at == b.at && a.width == b.width && x != y,
            _ => false,
        })
    })
}
