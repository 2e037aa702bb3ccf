//! Bytes in JSON: hexadecimal or base64, as a client likes.

/// Reads hexadecimal or base64 (RFC 4648, standard or URL alphabet, with or without padding). Text of an even length
/// that is all hexadecimal digits is hexadecimal: a sealed entry in base64 never is.
pub(crate) fn bytes(text: &str) -> Option<Vec<u8>> {
    unhex(text).or_else(|| unbase64(text))
}

/// Reads hexadecimal digits of either case.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let digit = |c: u8| char::from(c).to_digit(16);
    // Two digits are below 256.
    pairs.iter().map(|[high, low]| Some((digit(*high)? * 16 + digit(*low)?) as u8)).collect()
}

fn unbase64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=').as_bytes();
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    for group in text.chunks(4) {
        let mut bits = 0u32;
        for c in group {
            let value = match c {
                b'A'..=b'Z' => c - b'A',
                b'a'..=b'z' => c - b'a' + 26,
                b'0'..=b'9' => c - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        let bytes = (bits << (6 * (4 - group.len()))).to_be_bytes();
        match group.len() {
            4 => out.extend_from_slice(&bytes[1..]),
            3 if bytes[3] == 0 => out.extend_from_slice(&bytes[1..3]),
            2 if bytes[2] == 0 && bytes[3] == 0 => out.push(bytes[1]),
            // A single character is no byte, and spare bits must be zero.
            _ => return None,
        }
    }
    Some(out)
}

/// Bytes as base64, standard alphabet, with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let digit = |at: usize| match at <= group.len() {
            // Six bits are below 64.
            true => char::from(DIGITS[(bits >> (18 - 6 * at)) as usize & 63]),
            false => '=',
        };
        [digit(0), digit(1), digit(2), digit(3)]
    };
    bytes.chunks(3).flat_map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_encodings_are_read() {
        assert_eq!(bytes("00ffA1"), Some(vec![0, 0xFF, 0xA1]));
        // RFC 4648, section 10.
        for (text, plain) in
            [("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYmE", "fooba"), ("Zm9vYmFy", "foobar")]
        {
            assert_eq!(unbase64(text).as_deref(), Some(plain.as_bytes()), "{text}");
            assert_eq!(base64(plain.as_bytes()).trim_end_matches('='), text.trim_end_matches('='));
        }
        assert_eq!(base64(&[0xFB, 0xFF, 0xBF]), "+/+/");
        assert_eq!((base64(b"f"), base64(b"fo"), base64(b"")), ("Zg==".into(), "Zm8=".into(), String::new()));
        assert_eq!(bytes("-_+/"), Some(vec![0xFB, 0xFF, 0xBF]));
        for wrong in ["a!", "Zm9vY", "Zh", "Zm9="] {
            assert_eq!(unbase64(wrong), None, "{wrong}");
        }
    }
}
