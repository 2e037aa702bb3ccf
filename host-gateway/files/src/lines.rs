//! Lines of files that carry a hash: read and written one at a time, hashed on the way.

use std::io::{self, BufRead, Read, Write};

use sha2::{Digest, Sha256};

use crate::error::{Fault, FileError};

/// How lines end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineEnd {
    Lf,
    CrLf,
}

impl LineEnd {
    pub(crate) const fn bytes(self) -> &'static str {
        match self {
            Self::Lf => "\n",
            Self::CrLf => "\r\n",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Lf => "LF alone",
            Self::CrLf => "CR LF",
        }
    }
}

/// The lines of a file, with the hash of those before the current one.
pub(crate) struct Lines<R> {
    input: R,
    end: LineEnd,
    /// The most bytes of a line without its end.
    max: usize,
    raw: Vec<u8>,
    number: u64,
    before: Sha256,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(input: R, end: LineEnd, max: usize) -> Self {
        Self { input, end, max, raw: Vec::new(), number: 0, before: Sha256::new() }
    }

    /// Goes to the next line; false at the end of the file.
    pub(crate) fn advance(&mut self) -> Result<bool, FileError> {
        self.before.update(&self.raw);
        self.raw.clear();
        let end = self.end.bytes().as_bytes();
        let most = self.max + end.len();
        self.input.by_ref().take(most as u64 + 1).read_until(b'\n', &mut self.raw)?;
        if self.raw.is_empty() {
            return Ok(false);
        }
        self.number += 1;
        if self.raw.len() > most {
            return Err(Fault::TooLong { max: self.max }.at(self.number, 1, ""));
        }
        // A CR before it would be taken for the last cell's.
        let is_other = self.end == LineEnd::Lf && self.raw.ends_with(LineEnd::CrLf.bytes().as_bytes());
        if is_other || !self.raw.ends_with(end) {
            return Err(Fault::LineEnd(self.end.name()).at(self.number, self.raw.len() as u64, ""));
        }
        Ok(true)
    }

    /// The current line without its end.
    pub(crate) fn line(&self) -> &[u8] {
        &self.raw[..self.raw.len().saturating_sub(self.end.bytes().len())]
    }

    /// The current line with its end.
    pub(crate) fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Its number, from 1; after the last line, the last line's.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The hash of all lines before it, ends and all.
    pub(crate) fn before(&self) -> Sha256 {
        self.before.clone()
    }
}

/// A writer that hashes what goes through it.
pub(crate) struct Hashed<W> {
    pub(crate) out: W,
    pub(crate) hash: Sha256,
}

impl<W: Write> Hashed<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, hash: Sha256::new() }
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Bytes in hexadecimal, in small letters.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|b| [b >> 4, b & 15])
        .map(|d| char::from(b"0123456789abcdef"[usize::from(d)]))
        .collect()
}

/// So many bytes of hexadecimal in small letters.
pub(crate) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        for &digit in pair {
            let value = b"0123456789abcdef".iter().position(|&d| d == digit)?;
            *byte = *byte << 4 | value as u8;
        }
    }
    Some(bytes)
}
