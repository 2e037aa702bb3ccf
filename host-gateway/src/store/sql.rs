//! Small helpers for batch-sized statements.

use wavepass_protocol::time::UnixMs;

/// The most rows in one statement: enough that its fixed cost no longer shows.
const MAX_ROWS: usize = 500;
/// SQLite's limit on parameters in one statement.
const MAX_BINDS: usize = 32_766;

/// `(?,?),(?,?)`: placeholders of a multi-row `VALUES`.
pub fn rows(rows: usize, columns: usize) -> String {
    let row = format!("({})", marks(columns));
    vec![row; rows].join(",")
}

/// `?,?,?`: so many placeholders.
pub fn marks(n: usize) -> String {
    vec!["?"; n].join(",")
}

/// How many rows of so many columns go into one statement.
pub const fn chunk(columns: usize) -> usize {
    let fit = MAX_BINDS / columns;
    if fit < MAX_ROWS { fit } else { MAX_ROWS }
}

/// An instant as the database keeps it. Instants beyond the year 292 million are held at that.
pub const fn ms(time: UnixMs) -> i64 {
    if time.0 > i64::MAX as u64 { i64::MAX } else { time.0 as i64 }
}

/// Bytes as lower-case hexadecimal text.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]])
        .map(char::from)
        .collect()
}
