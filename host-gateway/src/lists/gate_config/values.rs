//! Single values of the file: how each is read, and written.

use jiff::SignedDuration;
use wavepass_hce::hex;
use wavepass_protocol::lists::TAP_LIMIT_MS;

/// How far civil time may be from UTC, minutes.
const MAX_OFFSET_MIN: i16 = 840;

pub(super) fn aid(text: &str) -> Option<heapless::Vec<u8, 16>> {
    let bytes = hex::decode(text).ok().filter(|bytes| bytes.len() >= 5)?;
    heapless::Vec::from_slice(&bytes).ok()
}

pub(super) fn array<const N: usize>(text: &str) -> Option<[u8; N]> {
    hex::decode(text).ok()?.try_into().ok()
}

/// Minutes east of UTC.
pub(super) fn offset(text: &str) -> Option<i16> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let two = |text: &str| (text.len() == 2).then(|| text.parse::<u8>().ok()).flatten().map(i16::from);
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes) = (two(hours)?, two(minutes).filter(|minutes| *minutes < 60)?);
    let offset = hours * 60 + minutes;
    (offset <= MAX_OFFSET_MIN).then_some(sign * offset)
}

pub(super) fn offset_text(minutes: i16) -> String {
    let sign = if minutes < 0 { '-' } else { '+' };
    let minutes = minutes.unsigned_abs();
    format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}

/// A number of ISO 4217 or 3166 as packed decimal, with its leading zero or without.
pub(super) fn code(text: &str) -> Option<u16> {
    let digits = matches!(text.len(), 3 | 4) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| u16::from_str_radix(text, 16).ok()).flatten()
}

pub(super) fn milliseconds(text: &str) -> Option<u64> {
    let duration: SignedDuration = text.parse().ok()?;
    let whole = duration.subsec_nanos() % 1_000_000 == 0;
    whole.then(|| u64::try_from(duration.as_millis()).ok()).flatten()
}

pub(super) fn short(text: &str) -> Option<u32> {
    milliseconds(text).and_then(|ms| u32::try_from(ms).ok())
}

pub(super) fn tap_limit(text: &str) -> Option<u32> {
    short(text).filter(|ms| TAP_LIMIT_MS.contains(ms))
}

pub(super) fn time_text(ms: u64) -> String {
    // Beyond 292 million years every time is the same.
    format!("{:#}", SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX)))
}
