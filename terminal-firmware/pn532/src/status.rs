//! The status byte that begins many answers: an error code, and whether more is to come.
//!
//! Facts: NXP UM0701-02 chapter 7.1, the table of error codes.

/// Set where the answer goes on in another frame.
pub const MORE: u8 = 0x40;
/// Set where a node address follows.
pub const NAD: u8 = 0x80;

macro_rules! errors {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal,)+) => {
        /// The chip's own error codes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        pub enum StatusError {
            $($(#[doc = $doc])+ $name,)+
            /// A code that the manual does not list.
            Unlisted(u8),
        }

        impl StatusError {
            /// Every listed code.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The code.
            pub const fn code(self) -> u8 {
                match self {
                    $(Self::$name => $code,)+
                    Self::Unlisted(code) => code,
                }
            }

            const fn of(code: u8) -> Self {
                match code {
                    $($code => Self::$name,)+
                    other => Self::Unlisted(other),
                }
            }
        }
    };
}

errors! {
    /// The card has not answered.
    Timeout = 0x01,
    /// A checksum on the air is wrong.
    Crc = 0x02,
    /// A parity on the air is wrong.
    Parity = 0x03,
    /// A wrong number of bits during anticollision.
    BitCount = 0x04,
    /// A framing error (MIFARE).
    Framing = 0x05,
    /// A collision of bits that should not be.
    BitCollision = 0x06,
    /// The chip's buffer is too small for it.
    CommunicationBuffer = 0x07,
    /// The radio's buffer overflowed.
    RfBuffer = 0x09,
    /// The other side has not switched its field on in time.
    FieldNotOn = 0x0A,
    /// The card broke the protocol on the air.
    RfProtocol = 0x0B,
    /// Too hot: the antenna is switched off.
    Temperature = 0x0D,
    /// The chip's internal buffer overflowed.
    InternalBuffer = 0x0E,
    /// A parameter is out of range.
    InvalidParameter = 0x10,
    /// As a target: the initiator's command is not known (DEP).
    DepUnsupported = 0x12,
    /// What the card sent has a wrong format (DEP, MIFARE, ISO/IEC 14443-4).
    Format = 0x13,
    /// MIFARE authentication failed.
    Authentication = 0x14,
    /// The check byte of the UID is wrong.
    UidCheck = 0x23,
    /// The device is in a state that does not allow it (DEP).
    InvalidState = 0x25,
    /// Not allowed in this configuration.
    NotAllowed = 0x26,
    /// Not acceptable in this context: an unknown target, or one in another state.
    Context = 0x27,
    /// As a target: the initiator has released the chip.
    Released = 0x29,
    /// Another card stands where the expected one was (type B).
    CardExchanged = 0x2A,
    /// The activated card has gone (type B).
    CardDisappeared = 0x2B,
    /// The identifiers of initiator and target differ (DEP).
    Nfcid3Mismatch = 0x2C,
    /// Too much current.
    OverCurrent = 0x2D,
    /// The node address is missing (DEP).
    NadMissing = 0x2E,
}

impl StatusError {
    /// True where the likeliest cause is that the card left the field, or is leaving it.
    pub const fn is_card_gone(self) -> bool {
        matches!(
            self,
            Self::Timeout | Self::Released | Self::Context | Self::CardExchanged | Self::CardDisappeared
        )
    }

    /// True where what came over the air was no sound answer.
    pub const fn is_protocol(self) -> bool {
        !self.is_card_gone() && !matches!(self, Self::Temperature | Self::OverCurrent)
    }
}

/// A status byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Status {
    /// What went wrong, if anything did.
    pub error: Option<StatusError>,
    /// The answer goes on in another frame.
    pub more: bool,
    /// A node address follows.
    pub nad: bool,
}

impl Status {
    /// All is well and complete.
    pub const OK: Self = Self { error: None, more: false, nad: false };

    /// Reads the byte.
    pub const fn from_byte(byte: u8) -> Self {
        let error = match byte & !(MORE | NAD) {
            0 => None,
            code => Some(StatusError::of(code)),
        };
        Self { error, more: byte & MORE != 0, nad: byte & NAD != 0 }
    }

    /// The byte. Codes have six bits.
    pub const fn to_byte(self) -> u8 {
        let code = match self.error {
            None => 0,
            Some(error) => error.code() & !(MORE | NAD),
        };
        code | if self.more { MORE } else { 0 } | if self.nad { NAD } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back() {
        for byte in 0..=u8::MAX {
            assert_eq!(Status::from_byte(byte).to_byte(), byte);
        }
        assert_eq!(Status::from_byte(0x00), Status::OK);
        assert_eq!(Status::from_byte(0x40), Status { more: true, ..Status::OK });
    }

    #[test]
    fn the_manual_s_codes_have_names_and_no_two_share_one() {
        assert_eq!(StatusError::ALL.len(), 26);
        for error in StatusError::ALL {
            assert_eq!(Status::from_byte(error.code()).error, Some(*error));
            assert!(error.code() < MORE);
        }
        assert_eq!(Status::from_byte(0x08).error, Some(StatusError::Unlisted(0x08)));
    }
}
