//! Hexadecimal text, as key files and columns shown to people have it.

pub(crate) use crate::store::sql::hex as encode;

/// Bytes of hexadecimal text in either case; `None` if it is not that.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// Exactly `N` bytes of hexadecimal text.
pub(crate) fn array<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

fn digit(c: u8) -> Option<u8> {
    // A hexadecimal digit is below 16.
    char::from(c).to_digit(16).map(|d| d as u8)
}
