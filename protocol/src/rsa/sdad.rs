//! The signed dynamic application data (9F4B): what proves that the card itself answered this tap.

use super::RsaError;
use super::certificate::{check_algorithms, check_frame, check_hash};
use super::public::{RsaKey, recover};

const PAD: u8 = 0xBB;
/// Where the ICC dynamic data begin in the recovered block.
const DATA_AT: usize = 4;
/// Bytes after them and their padding: hash and trailer.
const TAIL: usize = 21;

/// Genuine signed dynamic data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sdad<'b> {
    /// The format byte that the card signed: one of the accepted ones.
    pub format: u8,
    /// The ICC dynamic number, 2 to 8 bytes.
    pub icc_dynamic_number: &'b [u8],
    /// What follows it in the ICC dynamic data.
    pub rest: &'b [u8],
}

/// What a gate sent and a card answered that quick offline authentication (fDDA) signs, as sent and as answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fdda<'a> {
    /// Unpredictable number, 9F37.
    pub unpredictable: &'a [u8; 4],
    /// Amount, authorised, 9F02.
    pub amount: &'a [u8; 6],
    /// Transaction currency code, 5F2A.
    pub currency: &'a [u8; 2],
    /// Card authentication related data, 9F69: version 01, the card's unpredictable number, its qualifiers.
    pub card_data: &'a [u8],
    /// Application transaction counter, 9F36.
    pub atc: u16,
}

impl<'a> Fdda<'a> {
    /// The version in the card authentication related data; `None` unless they have 5 to 16 bytes.
    pub fn version(&self) -> Option<u8> {
        self.card_data.first().copied().filter(|_| (5..=16).contains(&self.card_data.len()))
    }

    /// What version 01 signs of the tap, in this order.
    pub const fn terminal_data(&self) -> [&'a [u8]; 4] {
        [self.unpredictable, self.amount, self.currency, self.card_data]
    }
}

impl<'b> Sdad<'b> {
    /// Recovers and checks the value of 9F4B with the card's key: one public key operation. `terminal_data`, joined,
    /// are the terminal dynamic data; `accepted` are the formats the scheme allows. The buffer should have as many
    /// bytes as the modulus.
    pub fn verify(
        key: &RsaKey<'_>,
        sdad: &[u8],
        terminal_data: &[&[u8]],
        accepted: &[u8],
        buf: &'b mut [u8],
    ) -> Result<Self, RsaError> {
        let len = recover(key, sdad, buf)?;
        let block = &buf[..len];
        check_frame(block, |format| accepted.contains(&format))?;
        check_hash(block, terminal_data)?;
        // The modulus has at least 128 bytes, so the head is there.
        let [_, format, hash, data_len, ..] = *block else { return Err(RsaError::Header) };
        // The block names no key algorithm; the key is the certificate's.
        check_algorithms(hash, 0x01)?;
        let (data, padding) = block[DATA_AT..len - TAIL]
            .split_at_checked(usize::from(data_len))
            .ok_or(RsaError::DynamicData)?;
        if padding.iter().any(|&byte| byte != PAD) {
            return Err(RsaError::Padding);
        }
        let (&number_len, data) = data.split_first().ok_or(RsaError::DynamicData)?;
        let (icc_dynamic_number, rest) =
            data.split_at_checked(usize::from(number_len)).ok_or(RsaError::DynamicData)?;
        if !(2..=8).contains(&icc_dynamic_number.len()) {
            return Err(RsaError::DynamicData);
        }
        Ok(Self { format, icc_dynamic_number, rest })
    }

    /// Checks quick offline authentication, version 01: [`Sdad::verify`] over 9F37, 9F02, 5F2A and 9F69, with the
    /// transaction counter of the response as the only dynamic data.
    pub fn verify_fdda(
        key: &RsaKey<'_>,
        sdad: &[u8],
        fdda: &Fdda<'_>,
        accepted: &[u8],
        buf: &'b mut [u8],
    ) -> Result<Self, RsaError> {
        let version = fdda.version().ok_or(RsaError::CardData(fdda.card_data.len()))?;
        // Version 00 signs the unpredictable number alone, not the amount.
        if version != 0x01 {
            return Err(RsaError::FddaVersion(version));
        }
        let sdad = Self::verify(key, sdad, &fdda.terminal_data(), accepted, buf)?;
        if sdad.icc_dynamic_number.len() != 2 || !sdad.rest.is_empty() {
            return Err(RsaError::DynamicData);
        }
        if sdad.icc_dynamic_number != fdda.atc.to_be_bytes() {
            return Err(RsaError::AtcMismatch);
        }
        Ok(sdad)
    }

    /// The signed transaction counter, where the dynamic number has two bytes as fDDA has it.
    pub fn atc(&self) -> Option<u16> {
        Some(u16::from_be_bytes(self.icc_dynamic_number.try_into().ok()?))
    }
}
