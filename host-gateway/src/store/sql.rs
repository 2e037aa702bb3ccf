//! Values as the database keeps them.

use wavepass_protocol::time::UnixMs;

/// An instant as the database keeps it. Instants beyond the year 292 million are held at that.
pub const fn ms(time: UnixMs) -> i64 {
    if time.0 > i64::MAX as u64 { i64::MAX } else { time.0 as i64 }
}

/// Milliseconds of a UTC day, by which `token_taps` is looked up.
pub const UTC_DAY_MS: i64 = 86_400_000;

/// The first and the last millisecond of a UTC day.
pub const fn utc_day_ms(day: i64) -> (i64, i64) {
    let first = day.saturating_mul(UTC_DAY_MS);
    (first, first.saturating_add(UTC_DAY_MS - 1))
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
