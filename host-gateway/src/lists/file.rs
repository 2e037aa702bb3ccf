//! Files that an operator hands in: what is wrong is named by file, line and column, without the value found.

use crate::input;
use std::fmt;
use std::ops::Range;

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    file: String,
    /// Line and column, from 1, where a place is to blame.
    place: Option<(usize, usize)>,
    why: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((line, column)) => write!(f, "{}:{line}:{column}: {}", self.file, self.why),
            None => write!(f, "{}: {}", self.file, self.why),
        }
    }
}

impl std::error::Error for FileError {}

/// A file's name and text, to turn a place in it into line and column.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) name: &'a str,
    pub(super) text: &'a str,
}

impl Source<'_> {
    /// An error at a place of the text.
    pub(super) fn error(&self, span: Option<Range<usize>>, why: impl Into<String>) -> FileError {
        let before = span.and_then(|span| self.text.get(..span.start));
        let place = before.map(|before| {
            let line = before.bytes().filter(|&b| b == b'\n').count() + 1;
            (line, before.rsplit('\n').next().unwrap_or_default().chars().count() + 1)
        });
        FileError { file: self.name.to_owned(), place, why: why.into() }
    }

    pub(super) fn toml<T: serde::de::DeserializeOwned>(&self) -> Result<T, FileError> {
        toml::from_str(self.text)
            .map_err(|e: toml::de::Error| self.error(e.span(), input::without_values(e.message())))
    }

    pub(super) fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, FileError> {
        serde_json::from_str(self.text).map_err(|e| {
            // serde_json puts the place behind its message.
            let message = e.to_string();
            let why = message.split(" at line ").next().unwrap_or_default();
            FileError {
                file: self.name.to_owned(),
                place: Some((e.line(), e.column())),
                why: input::without_values(why),
            }
        })
    }
}
