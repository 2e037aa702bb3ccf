//! Amounts as files write them: minor units in 64 bits inside, decimals outside, never a float.

use std::fmt;

use crate::error::Fault;

/// The most digits of an amount: what ISO 20022 allows, and what fits in 64 bits.
const DIGITS: usize = 18;
const LARGEST: u64 = 10_u64.pow(DIGITS as u32) - 1;

/// A currency and how many decimals its amounts have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Currency {
    code: [u8; 3],
    decimals: u8,
}

impl Currency {
    /// The yuan, with two decimals: fen.
    pub const CNY: Self = Self { code: *b"CNY", decimals: 2 };

    /// A currency by its code of ISO 4217. Decimals are those of the standard's list as of 2026; a code that it does
    /// not set apart has two.
    pub fn new(code: &str) -> Result<Self, Fault> {
        let decimals = match code {
            "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI"
            | "VND" | "VUV" | "XAF" | "XOF" | "XPF" => 0,
            "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
            "CLF" | "UYW" => 4,
            _ => 2,
        };
        match <[u8; 3]>::try_from(code.as_bytes()) {
            Ok(code) if code.iter().all(u8::is_ascii_uppercase) => Ok(Self { code, decimals }),
            _ => Err(Fault::Code),
        }
    }

    /// Its code.
    pub fn code(&self) -> &str {
        // Three ASCII letters, by `new`.
        std::str::from_utf8(&self.code).unwrap_or_default()
    }

    /// So many minor units as a decimal number: `12.50`.
    pub(crate) fn decimal(self, minor: u64) -> Result<String, Fault> {
        if minor > LARGEST {
            return Err(Fault::TooLarge);
        }
        let (unit, decimals) = (10_u64.pow(u32::from(self.decimals)), usize::from(self.decimals));
        Ok(if decimals == 0 {
            minor.to_string()
        } else {
            format!("{}.{:0decimals$}", minor / unit, minor % unit)
        })
    }

    /// A decimal number as minor units: `12.5`, `12.50` and `12.500` are 1250. No sign.
    pub(crate) fn minor(self, text: &str) -> Result<i64, Fault> {
        let decimals = usize::from(self.decimals);
        let fault = Fault::Amount { decimals: self.decimals };
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.bytes().skip(decimals).any(|b| b != b'0') {
            return Err(fault);
        }
        let part: String = part.chars().chain(std::iter::repeat('0')).take(decimals).collect();
        let all = format!("{whole}{part}");
        if all.len() > DIGITS {
            return Err(Fault::TooLarge);
        }
        all.parse().map_err(|_| fault)
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// How many there are, and what they sum to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// How many.
    pub count: u64,
    /// Their sum, in minor units of the currency.
    pub sum_minor: i64,
}

impl Totals {
    pub(crate) fn add(&mut self, minor: i64) -> Result<(), Fault> {
        self.sum_minor = self.sum_minor.checked_add(minor).ok_or(Fault::TooLarge)?;
        self.count += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_their_currencys_decimals() {
        let (jpy, bhd) = (Currency::new("JPY").unwrap(), Currency::new("BHD").unwrap());
        assert_eq!(Currency::CNY.decimal(5).as_deref(), Ok("0.05"));
        assert_eq!(jpy.decimal(500).as_deref(), Ok("500"));
        assert_eq!(bhd.decimal(1_234).as_deref(), Ok("1.234"));
        for (text, fen) in [("12", 1_200), ("12.5", 1_250), ("12.500", 1_250), ("0.05", 5)] {
            assert_eq!(Currency::CNY.minor(text), Ok(fen), "{text}");
        }
        assert_eq!(jpy.minor("500.0"), Ok(500));
        for text in ["", ".5", "5.", "-1", "+1", "1e3", "1.005", "1,5", " 1", "１"] {
            assert_eq!(Currency::CNY.minor(text), Err(Fault::Amount { decimals: 2 }), "{text}");
        }
    }

    #[test]
    fn amounts_beyond_18_digits_are_refused_both_ways() {
        assert_eq!(Currency::CNY.decimal(LARGEST).as_deref(), Ok("9999999999999999.99"));
        assert_eq!(Currency::CNY.decimal(LARGEST + 1), Err(Fault::TooLarge));
        assert_eq!(Currency::CNY.minor("9999999999999999.99"), Ok(LARGEST as i64));
        assert_eq!(Currency::CNY.minor("10000000000000000.00"), Err(Fault::TooLarge));
    }

    #[test]
    fn a_currency_is_three_capital_letters() {
        assert_eq!(Currency::new("cny"), Err(Fault::Code));
        assert_eq!(Currency::new("EURO"), Err(Fault::Code));
        assert_eq!(Currency::new("CNY"), Ok(Currency::CNY));
    }
}
