//! One text for both databases. Statements are written in what SQLite and PostgreSQL share, with
//!
//! - `?` for a value and `?1`, `?2`, … for one that is named twice,
//! - `IN ??` for a list, and `VALUES ??` for rows, whose columns are `column1`, `column2`, …,
//! - `x'00ff'` for bytes,
//! - `INDEXED BY name` where SQLite's planner must not guess; PostgreSQL keeps statistics and is not told,
//! - `FOR UPDATE` at the end, where other writers of PostgreSQL may want the same rows; SQLite has one writer.

use std::borrow::Cow;
use std::fmt::Write;

/// A piece of a statement.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    /// Text that both take as it is.
    Plain(&'a str),
    /// `?`.
    Value,
    /// `?7`.
    Named(usize),
    /// `??` after `IN`, or after `VALUES`: the word is still part of the plain text before it.
    Many,
    /// `x'…'`: the digits.
    Bytes(&'a str),
    /// `INDEXED BY name`.
    Index(&'a str),
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The length of the quoted text at the front, its quotes included; a doubled quote goes on.
fn quoted(text: &str) -> usize {
    let quote = text.as_bytes()[0];
    let mut i = 1;
    while let Some(at) = text.as_bytes()[i..].iter().position(|&b| b == quote) {
        i += at + 1;
        if text.as_bytes().get(i) != Some(&quote) {
            return i;
        }
        i += 1;
    }
    text.len()
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    const INDEXED: &str = "INDEXED BY ";
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let (mut start, mut i) = (0, 0);
    while i < bytes.len() {
        let rest = &text[i..];
        let word_begins = i == 0 || !is_word(bytes[i - 1]);
        let (piece, length) = match bytes[i] {
            b'\'' | b'"' => {
                i += quoted(rest);
                continue;
            }
            b'?' if rest.starts_with("??") => (Piece::Many, 2),
            b'?' => {
                let digits = bytes[i + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
                match rest[1..=digits].parse() {
                    Ok(number) => (Piece::Named(number), 1 + digits),
                    Err(_) => (Piece::Value, 1),
                }
            }
            b'x' | b'X' if word_begins && bytes.get(i + 1) == Some(&b'\'') => {
                let length = quoted(&rest[1..]);
                (Piece::Bytes(&rest[2..length]), 1 + length)
            }
            b'I' if word_begins && rest.starts_with(INDEXED) => {
                let name = bytes[i + INDEXED.len()..].iter().take_while(|b| is_word(**b)).count();
                (Piece::Index(&rest[..INDEXED.len() + name]), INDEXED.len() + name)
            }
            // Bytes of a character beyond ASCII are none of these; the plain text keeps them together.
            _ => {
                i += rest.chars().next().map_or(1, char::len_utf8);
                continue;
            }
        };
        if start < i {
            found.push(Piece::Plain(&text[start..i]));
        }
        found.push(piece);
        i += length;
        start = i;
    }
    if start < text.len() {
        found.push(Piece::Plain(&text[start..]));
    }
    found
}

/// The shape of one `??`: so many rows of so many columns.
pub(super) type Shape = (usize, usize);

/// The statement as SQLite takes it: without `FOR UPDATE`, and with as many places as there are rows.
pub(super) fn for_sqlite<'a>(text: &'a str, many: &[Shape]) -> Cow<'a, str> {
    let text = text.strip_suffix(" FOR UPDATE").unwrap_or(text);
    if many.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut many = many.iter();
    let mut out = String::with_capacity(text.len() + 64);
    for piece in pieces(text) {
        match piece {
            Piece::Plain(plain) | Piece::Index(plain) => out.push_str(plain),
            Piece::Value => out.push('?'),
            Piece::Named(number) => _ = write!(out, "?{number}"),
            Piece::Bytes(digits) => _ = write!(out, "x'{digits}'"),
            Piece::Many => {
                let (rows, columns) = many.next().copied().unwrap_or_default();
                let row = vec!["?"; columns].join(",");
                match out.ends_with("IN ") {
                    true => _ = write!(out, "({})", vec![row; rows].join(",")),
                    false => out.push_str(&vec![format!("({row})"); rows].join(",")),
                }
            }
        }
    }
    Cow::Owned(out)
}

/// The statement as PostgreSQL takes it: numbered values, arrays for lists and columns.
pub(super) fn for_postgres(text: &str, many: &[Shape]) -> String {
    let mut many = many.iter();
    let mut next = 1;
    let mut out = String::with_capacity(text.len() + 32);
    for piece in pieces(text) {
        match piece {
            Piece::Plain(plain) => out.push_str(plain),
            Piece::Value => {
                _ = write!(out, "${next}");
                next += 1;
            }
            Piece::Named(number) => _ = write!(out, "${number}"),
            Piece::Bytes(digits) => _ = write!(out, "'\\x{digits}'::bytea"),
            Piece::Index(_) => {}
            Piece::Many => {
                let (_, columns) = many.next().copied().unwrap_or_default();
                if out.ends_with("IN ") {
                    out.truncate(out.len() - 3);
                    _ = write!(out, "= ANY(${next})");
                } else {
                    if out.ends_with("VALUES ") {
                        out.truncate(out.len() - 7);
                    }
                    let list = |name: &str, from: usize| {
                        let names: Vec<String> =
                            (from..from + columns).map(|n| format!("{name}{n}")).collect();
                        names.join(",")
                    };
                    // The columns have the names that SQLite gives those of `VALUES`.
                    _ = write!(
                        out,
                        "SELECT * FROM UNNEST({}) AS rows({})",
                        list("$", next),
                        list("column", 1)
                    );
                }
                next += columns;
            }
        }
    }
    out
}

/// Where rows go that nothing but an `INSERT` of all of them is done with: the table and its columns.
pub(super) fn copied(text: &'static str) -> Option<&'static str> {
    text.strip_prefix("INSERT INTO ")?.strip_suffix(" VALUES ??").filter(|into| into.ends_with(')'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_marks_for_the_one_and_numbers_for_the_other() {
        let text = "SELECT '?', \"a?\" FROM t WHERE a = ? AND b = ? -- it''s";
        assert_eq!(for_sqlite(text, &[]), text);
        assert_eq!(for_postgres(text, &[]), "SELECT '?', \"a?\" FROM t WHERE a = $1 AND b = $2 -- it''s");
        assert_eq!(for_postgres("?1 IS NULL OR d = ?1 LIMIT ?12", &[]), "$1 IS NULL OR d = $1 LIMIT $12");
    }

    #[test]
    fn lists_and_rows_are_marks_for_the_one_and_arrays_for_the_other() {
        let list = "DELETE FROM t WHERE a = ? AND b IN ?? AND c = ?";
        assert_eq!(for_sqlite(list, &[(3, 1)]), "DELETE FROM t WHERE a = ? AND b IN (?,?,?) AND c = ?");
        assert_eq!(for_postgres(list, &[(3, 1)]), "DELETE FROM t WHERE a = $1 AND b = ANY($2) AND c = $3");
        let rows = "INSERT INTO t (a, b) VALUES ?? ON CONFLICT DO NOTHING";
        assert_eq!(
            for_sqlite(rows, &[(2, 2)]),
            "INSERT INTO t (a, b) VALUES (?,?),(?,?) ON CONFLICT DO NOTHING"
        );
        assert_eq!(
            for_postgres(rows, &[(2, 2)]),
            "INSERT INTO t (a, b) SELECT * FROM UNNEST($1,$2) AS rows(column1,column2) ON CONFLICT DO NOTHING"
        );
        let within = "SELECT 1 FROM t WHERE (a, b) IN (VALUES ??)";
        assert_eq!(for_sqlite(within, &[(1, 2)]), "SELECT 1 FROM t WHERE (a, b) IN (VALUES (?,?))");
        assert_eq!(
            for_postgres(within, &[(1, 2)]),
            "SELECT 1 FROM t WHERE (a, b) IN (SELECT * FROM UNNEST($1,$2) AS rows(column1,column2))"
        );
    }

    #[test]
    fn bytes_and_indexes_are_spelt_for_each() {
        let text = "UPDATE taps INDEXED BY taps_day SET a = x'00fF', b = 'x''q''' WHERE c = x''";
        assert_eq!(for_sqlite(text, &[]), text);
        assert_eq!(
            for_postgres(text, &[]),
            "UPDATE taps  SET a = '\\x00fF'::bytea, b = 'x''q''' WHERE c = '\\x'::bytea"
        );
        assert_eq!(for_postgres("SELECT max'x' é ?", &[]), "SELECT max'x' é $1");
    }

    #[test]
    fn only_a_plain_insert_of_rows_is_copied() {
        assert_eq!(copied("INSERT INTO t (a, b) VALUES ??"), Some("t (a, b)"));
        for text in [
            "INSERT INTO t (a, b) VALUES ?? ON CONFLICT DO NOTHING",
            "INSERT INTO t (a) SELECT column1 FROM (VALUES ??) AS v",
            "INSERT INTO t VALUES ??",
            "DELETE FROM t WHERE (a, b) IN (VALUES ??)",
        ] {
            assert_eq!(copied(text), None, "{text}");
        }
    }
}
