//! Errors: what is wrong, and where. No text of a file is repeated in them, because it may name a rider or an account.

use std::fmt;

/// Why a file cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// What is in it, or should go into it, is wrong.
    #[error("{place}: {fault}")]
    Faulty {
        /// Where.
        place: Place,
        /// What.
        fault: Fault,
    },
    /// The bytes cannot be had or put away.
    #[error("the file cannot be read or written: {0}")]
    Io(#[from] std::io::Error),
}

/// Where in a file a fault lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a file that is read.
    Read {
        /// The line, from 1.
        line: u64,
        /// The column, from 1: of a CSV file its cell, else the byte of the line.
        column: u64,
        /// The field, element or column; empty where the fault is the whole line's.
        field: String,
    },
    /// In a value that should be written.
    Write {
        /// The number of the record, from 1; 0 is the head.
        record: u64,
        /// The field, element or column.
        field: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = match self {
            Self::Read { line, column, field } => {
                write!(f, "line {line}, column {column}")?;
                field
            }
            Self::Write { record: 0, field } => {
                write!(f, "head")?;
                field
            }
            Self::Write { record, field } => {
                write!(f, "record {record}")?;
                field
            }
        };
        if field.is_empty() { Ok(()) } else { write!(f, ", {field}") }
    }
}

/// What is wrong at a place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The file is of another kind or version.
    #[error("is not a file of the kind `{0}`")]
    Format(String),
    /// A field that must be there is not.
    #[error("is missing")]
    Missing,
    /// A field is there more than once.
    #[error("is given twice")]
    Twice,
    /// A field that nobody asked for.
    #[error("is not known here")]
    Unknown,
    /// Text that is empty.
    #[error("is empty")]
    Empty,
    /// Text, or a number as text, that does not fit.
    #[error("is longer than {max}")]
    TooLong {
        /// The most characters, or for fixed-width records bytes.
        max: usize,
    },
    /// Text with characters that the file cannot carry.
    #[error("has characters that the file cannot carry")]
    Characters,
    /// A value of another kind than the field's.
    #[error("has a value of another kind than the field's")]
    Kind,
    /// No whole number in its plain form.
    #[error("is not a whole number")]
    Number,
    /// No amount, or one with more decimals than its currency has.
    #[error("is not an amount with at most {decimals} decimals")]
    Amount {
        /// The currency's decimals.
        decimals: u8,
    },
    /// A number or an amount that is too large.
    #[error("is too large")]
    TooLarge,
    /// An amount that must be above zero.
    #[error("is not above zero")]
    NotPositive,
    /// An amount below zero where there is no room for a sign.
    #[error("is below zero")]
    Negative,
    /// An amount in another currency.
    #[error("is in another currency than {0}")]
    Currency(String),
    /// No date or time in the form of the field.
    #[error("is not a date or time of the form {0}")]
    Date(String),
    /// A code or word that is not one of those the field has.
    #[error("is not one of the codes of this field")]
    Code,
    /// An identifier that is not of ours.
    #[error("is not an identifier of the form {0}")]
    Identifier(&'static str),
    /// A field that is not the constant that the format has there.
    #[error("is not `{0}`")]
    Constant(String),
    /// A count, sum, balance or hash that does not agree with the content.
    #[error("does not agree with the content, which gives {0}")]
    Disagrees(String),
    /// A record that is out of order or there twice.
    #[error("does not come after the one before it")]
    Order,
    /// A line that is no record of the file.
    #[error("is no record of this file")]
    Record,
    /// Too few or too many cells or bytes in a line.
    #[error("has another width than {0}")]
    Width(usize),
    /// Quotes that are not as they should be.
    #[error("has a quote that is not closed in its line")]
    Quote,
    /// A line that does not end as it should, or not at all.
    #[error("does not end with {0}")]
    LineEnd(&'static str),
    /// The file ends before it is complete.
    #[error("the file ends before it is complete")]
    Unfinished,
    /// Something comes after the end.
    #[error("comes after the end of the file's content")]
    AfterEnd,
    /// Not XML, or XML that we do not take.
    #[error("{0}")]
    Xml(&'static str),
    /// More of something than we read at a time.
    #[error("is beyond the limit of {0}")]
    Limit(&'static str),
}

impl Fault {
    pub(crate) fn in_record(self, record: u64, field: impl Into<String>) -> FileError {
        FileError::Faulty { place: Place::Write { record, field: field.into() }, fault: self }
    }

    pub(crate) fn at(self, line: u64, column: u64, field: impl Into<String>) -> FileError {
        FileError::Faulty { place: Place::Read { line, column, field: field.into() }, fault: self }
    }
}
