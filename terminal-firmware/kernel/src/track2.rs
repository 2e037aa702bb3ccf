//! Track 2 equivalent data (tag 57): the number, a separator `D`, the expiry as YYMM, and what we do not read.

use wavepass_protocol::token::{Expiry, Token, to_bcd};

const SEPARATOR: u8 = 0xD;

/// The token and expiry in track 2 equivalent data; `None` where it is malformed.
pub(crate) fn parse(value: &[u8]) -> Option<(Token, Expiry)> {
    let nibble = |i: usize| {
        let byte = *value.get(i / 2)?;
        Some(if i.is_multiple_of(2) { byte >> 4 } else { byte & 0xF })
    };
    let digit = |i: usize| nibble(i).filter(|&d| d < 10);
    let separator = (0..value.len() * 2).find(|&i| nibble(i) == Some(SEPARATOR))?;
    let mut bcd = [0xFF; 10];
    for i in 0..separator {
        let shift = if i.is_multiple_of(2) { 4 } else { 0 };
        let byte = bcd.get_mut(i / 2)?;
        *byte = *byte & !(0xF << shift) | digit(i)? << shift;
    }
    let two = |i: usize| Some(to_bcd(digit(i)? * 10 + digit(i + 1)?));
    let expiry = Expiry::from_yymm([two(separator + 1)?, two(separator + 3)?]).ok()?;
    Some((Token::from_bcd(&bcd).ok()?, expiry))
}

#[cfg(test)]
mod tests {
    use super::parse;
    use wavepass_protocol::token::{Expiry, Token};

    #[test]
    fn an_even_and_an_odd_number_of_digits_are_read() {
        let expiry = Expiry { year: 30, month: 12 };
        let even = [0x62, 0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0xD3, 0x01, 0x22, 0x01];
        assert_eq!(
            parse(&even),
            Some((Token::from_digits("6212345678901234").unwrap(), Expiry { year: 30, month: 12 }))
        );
        let odd = [0x62, 0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x3D, 0x30, 0x12, 0x20, 0x1F];
        assert_eq!(parse(&odd), Some((Token::from_digits("621234567890123").unwrap(), expiry)));
    }

    #[test]
    fn no_separator_no_expiry_or_a_thirteenth_month_is_not_track_2() {
        assert_eq!(parse(&[0x62; 19]), None);
        assert_eq!(parse(&[0x62, 0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0xD3]), None);
        assert_eq!(parse(&[0x62, 0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0xD3, 0x01, 0x32, 0x01]), None);
        assert_eq!(parse(&[]), None);
    }
}
