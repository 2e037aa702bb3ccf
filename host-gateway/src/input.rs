//! Text from outside: read with a limit, kept free of card numbers, and complained of without being repeated.
//!
//! Rule 9: what a person types as a note, a name or a value may be a card's number or a key. Such text is refused
//! before it is stored, and parsers' messages lose the values that they quote before anybody sees them.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The longest configuration file: a few kilobytes, and an API key for every depot of a country.
pub const MAX_CONFIG: u64 = 1 << 20;
/// A card's number has at least so many digits (ISO/IEC 7812-1 allows 8 to 19; payment cards and tokens have 13 to 19).
const NUMBER_DIGITS: usize = 13;
/// The longest name of a user or a machine, bytes.
const MAX_NAME: usize = 64;

/// The longest sentence of a person, such as a reason: a few lines. Bytes.
const MAX_SENTENCE: usize = 500;

/// Text that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// It may hold the number of a card or a token.
    #[error("{0} holds {NUMBER_DIGITS} or more digits in a row, which may be a card's number: leave it out")]
    Number(&'static str),
    /// A name that would spoil the audit log.
    #[error(
        "{0} is 1 to {MAX_NAME} bytes without line breaks, characters that nobody sees, or others that control a screen"
    )]
    Name(&'static str),
    /// A name that is no word.
    #[error("{0} is 1 to {MAX_NAME} printable ASCII characters without spaces")]
    Word(&'static str),
    /// A sentence that is none, or would spoil the audit log.
    #[error("{0} is 1 to {MAX_SENTENCE} bytes without line breaks or other control characters")]
    Sentence(&'static str),
}

/// Refuses text that may hold a card's number: 13 digits or more in a row, a space or dash between them or not.
/// Longer runs are refused, too: a number with its expiry behind it is one.
pub fn no_number(what: &'static str, text: &str) -> Result<(), TextError> {
    let between =
        |c: char| c.is_whitespace() || matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '_' | '.');
    let (mut digits, mut gap) = (0, false);
    for c in text.chars() {
        // Digits of any script: a number written full-width is one.
        if c.is_numeric() {
            (digits, gap) = (digits + 1, false);
            if digits >= NUMBER_DIGITS {
                return Err(TextError::Number(what));
            }
        } else if between(c) && !gap {
            gap = true;
        } else {
            (digits, gap) = (0, false);
        }
    }
    Ok(())
}

/// Checks a user's name for the audit log.
pub fn user(name: &str) -> Result<(), TextError> {
    self::name("a user's name", name)
}

/// Checks a name for the audit log. `what` says whose.
pub fn name(what: &'static str, name: &str) -> Result<(), TextError> {
    let unseen = |c: char| c.is_control() || is_unseen(c);
    if !(1..=MAX_NAME).contains(&name.len()) || name.chars().any(unseen) {
        return Err(TextError::Name(what));
    }
    no_number(what, name)
}

/// Checks a name of one word, such as an e-account's. `what` says whose.
pub fn word(what: &'static str, name: &str) -> Result<(), TextError> {
    if !(1..=MAX_NAME).contains(&name.len()) || !name.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(TextError::Word(what));
    }
    no_number(what, name)
}

/// Characters that turn the direction of writing, break a line or have no width: a name with one looks like another name.
const fn is_unseen(c: char) -> bool {
    matches!(c, '\u{61C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

/// Checks what a person says for the record, such as why a debt is waived. `what` names it.
pub fn sentence(what: &'static str, text: &str) -> Result<(), TextError> {
    if text.trim().is_empty() || text.len() > MAX_SENTENCE || text.chars().any(char::is_control) {
        return Err(TextError::Sentence(what));
    }
    no_number(what, text)
}

/// Reads a text file of at most `most` bytes; a device or pipe without an end is not read beyond that either.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    text_of(File::open(path)?, most)
}

/// The same of what is open already, such as standard input.
pub fn text_of(source: impl Read, most: u64) -> io::Result<String> {
    let mut text = String::new();
    source.take(most + 1).read_to_string(&mut text)?;
    if text.len() as u64 > most {
        let why = format!("longer than {most} bytes, the most that is read");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(text)
}

/// A parser's message (serde's, with the values it found in quotes) without those values: what was expected stays.
pub fn without_values(message: &str) -> String {
    let text = told_of(message);
    let line = text.lines().next().unwrap_or_default();
    match no_number("", line) {
        Ok(()) => line.to_owned(),
        Err(_) => "a value is not of the form that is expected".to_owned(),
    }
}

fn told_of(message: &str) -> String {
    // These names are ours.
    if ["missing field `", "duplicate field `"].iter().any(|begin| message.starts_with(begin)) {
        return message.to_owned();
    }
    // What was found may say anything, so that only the last of these is the parser's own.
    let own = [", expected ", ", there are no fields"].iter().filter_map(|own| message.rfind(own)).max();
    let (found, expected) = message.split_at(own.unwrap_or(message.len()));
    let name = found.strip_prefix("unknown field `").and_then(|name| name.strip_suffix('`'));
    if name.is_some_and(is_slip) {
        return message.to_owned();
    }
    let end = found.find(['`', '"', '\'']).unwrap_or(found.len());
    format!("{}{expected}", found[..end].trim_end())
}

/// Whether the name of an unknown field can only be a slip of the pen: the name of a field, and no number or sentence.
pub fn is_slip(name: &str) -> bool {
    let letter = |c: u8| c.is_ascii_alphabetic() || matches!(c, b'_' | b'-' | b'.');
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_may_hold_a_cards_number_is_refused() {
        for bad in [
            "6217000012345678901",
            "test card 6217000012345678901 lost",
            "6217 0000 1234 5678",
            "6217-0000-1234-5",
            "card:6217000012345.",
            "６２１７００００１２３４５",
            "62170000123456789012805",
        ] {
            assert_eq!(no_number("a note", bad), Err(TextError::Number("a note")), "{bad}");
        }
        for good in ["", "lost on 2026-11-23 at 08:15", "line 12, gate 34", "E00000123", "call 021-6217 0000"]
        {
            assert_eq!(no_number("a note", good), Ok(()), "{good}");
        }
    }

    #[test]
    fn a_user_is_named_in_one_line_and_not_by_a_number() {
        for bad in [
            "",
            "anna\nroot",
            "a\u{1b}[31m",
            "anna\u{202E}b",
            "an\u{200B}na",
            "a\u{2066}b",
            "6217000012345678901",
        ] {
            assert!(user(bad).is_err(), "{bad:?}");
        }
        user("安娜").unwrap();
        user("anna.li@depot-1").unwrap();
    }

    #[test]
    fn a_word_is_printable_and_of_one_piece() {
        for bad in ["", "two words", "a\tb", "安娜", &"x".repeat(65)] {
            assert_eq!(word("a name", bad), Err(TextError::Word("a name")), "{bad:?}");
        }
        assert_eq!(word("a name", "6217000012345678901"), Err(TextError::Number("a name")));
        word("a name", "ACC-1").unwrap();
    }

    #[test]
    fn a_sentence_says_something_in_one_line_and_holds_no_number() {
        for bad in ["", "  ", "lost\nin full", &"long ".repeat(101)] {
            assert_eq!(sentence("a reason", bad), Err(TextError::Sentence("a reason")), "{bad:?}");
        }
        assert_eq!(sentence("a reason", "card 6217000012345678901"), Err(TextError::Number("a reason")));
        sentence("a reason", "rider died; 车费免除").unwrap();
    }

    #[test]
    fn a_message_keeps_what_was_expected_and_loses_what_was_found() {
        for (message, told) in [
            (
                "invalid type: integer `123456789012`, expected a string",
                "invalid type: integer, expected a string",
            ),
            ("invalid type: string \"hush, expected x\", expected u64", "invalid type: string, expected u64"),
            ("invalid value: integer `-5`, expected usize", "invalid value: integer, expected usize"),
            ("unknown field `litsen`, expected `listen`", "unknown field `litsen`, expected `listen`"),
            ("unknown variant `hush`, expected `a` or `b`", "unknown variant, expected `a` or `b`"),
            ("unknown field `dry_rum`, there are no fields", "unknown field `dry_rum`, there are no fields"),
            ("missing field `day`", "missing field `day`"),
            // What was sent is in the place of a name, or looks like the parser's own words.
            ("unknown field `6217000012345678901`, expected `a`", "unknown field, expected `a`"),
            ("unknown field `13800138000`, there are no fields", "unknown field, there are no fields"),
            ("unknown field `an` or `hu-sh, expected x`, expected `a`", "unknown field, expected `a`"),
            ("unknown field `hu\nsh`, expected `a`", "unknown field, expected `a`"),
            (
                "invalid type: string \"missing field `hush`\", expected u64",
                "invalid type: string, expected u64",
            ),
            ("no such day: 6217000012345678901", "a value is not of the form that is expected"),
        ] {
            assert_eq!(without_values(message), told);
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_device_without_an_end_is_not_read_to_it() {
        assert_eq!(read_text(Path::new("/dev/zero"), 1_000).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
