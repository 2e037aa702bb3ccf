//! ISO/IEC 7816-4 commands and responses, short and extended.

use core::fmt;

/// The longest command that [`Command::encode`] writes: header, extended length, 65,535 bytes, extended Le.
pub const MAX_COMMAND: usize = 4 + 3 + 65_535 + 2;
/// The name of the contactless directory (PPSE).
pub const PPSE: &[u8] = b"2PAY.SYS.DDF01";

/// Why bytes are not a command or a response, or why one cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ApduError {
    /// Fewer bytes than a header (command) or a status word (response).
    TooShort(usize),
    /// Lc or Le does not agree with the number of bytes.
    Length(usize),
    /// The buffer is too small, or the data exceed 65,535 bytes.
    Full,
}

impl fmt::Display for ApduError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort(n) => write!(f, "{n} bytes are too few for an APDU"),
            Self::Length(n) => write!(f, "the length fields do not agree with the {n} bytes of the APDU"),
            Self::Full => f.write_str("the APDU does not fit its buffer"),
        }
    }
}

impl core::error::Error for ApduError {}

/// A command.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Command<'a> {
    /// Class.
    pub cla: u8,
    /// Instruction.
    pub ins: u8,
    /// Parameter 1.
    pub p1: u8,
    /// Parameter 2.
    pub p2: u8,
    /// Data field, at most 65,535 bytes.
    pub data: &'a [u8],
    /// The longest answer expected: 1 to 65,536 bytes (256 = "whatever fits a short APDU"); `None`: none.
    pub le: Option<u32>,
}

// Data fields may hold what identifies a rider, so only their length is shown.
impl fmt::Debug for Command<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cla, ins, p1, p2, data, le } = self;
        write!(f, "{cla:02X}{ins:02X}{p1:02X}{p2:02X}[{}] le {le:?}", data.len())
    }
}

impl<'a> Command<'a> {
    /// SELECT by name, first occurrence.
    pub const fn select(name: &'a [u8]) -> Self {
        Self { cla: 0x00, ins: 0xA4, p1: 0x04, p2: 0x00, data: name, le: Some(256) }
    }

    /// READ RECORD `record` of the file `sfi` (1 to 30).
    pub const fn read_record(sfi: u8, record: u8) -> Self {
        Self { cla: 0x00, ins: 0xB2, p1: record, p2: sfi << 3 | 0x04, data: &[], le: Some(256) }
    }

    /// GET PROCESSING OPTIONS. `data` is the command template: `83 len values`.
    pub const fn get_processing_options(data: &'a [u8]) -> Self {
        Self { cla: 0x80, ins: 0xA8, p1: 0x00, p2: 0x00, data, le: Some(256) }
    }

    /// INTERNAL AUTHENTICATE with the DDOL's values.
    pub const fn internal_authenticate(data: &'a [u8]) -> Self {
        Self { cla: 0x00, ins: 0x88, p1: 0x00, p2: 0x00, data, le: Some(256) }
    }

    /// GENERATE AC with the CDOL's values; `p1` names the cryptogram (`80` ARQC, `40` TC, `00` AAC).
    pub const fn generate_ac(p1: u8, data: &'a [u8]) -> Self {
        Self { cla: 0x80, ins: 0xAE, p1, p2: 0x00, data, le: Some(256) }
    }

    /// EXCHANGE RELAY RESISTANCE DATA with the gate's entropy: the exchange that is timed.
    pub const fn exchange_relay_data(entropy: &'a [u8; 4]) -> Self {
        Self { cla: 0x80, ins: 0xEA, p1: 0x00, p2: 0x00, data: entropy, le: Some(256) }
    }

    /// GET RESPONSE after status `61xx`; 0 asks for 256 bytes.
    pub const fn get_response(len: u8) -> Self {
        let le = if len == 0 { 256 } else { len as u32 };
        Self { cla: 0x00, ins: 0xC0, p1: 0x00, p2: 0x00, data: &[], le: Some(le) }
    }

    /// Writes the command, short where it can be, else extended. Returns its length.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, ApduError> {
        let short = self.data.len() <= 255 && self.le.is_none_or(|le| le <= 256);
        let lc = u16::try_from(self.data.len()).map_err(|_| ApduError::Full)?;
        if self.le.is_some_and(|le| le == 0 || le > 65_536) {
            return Err(ApduError::Full);
        }
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            let slot = out.get_mut(at..at + bytes.len()).ok_or(ApduError::Full)?;
            slot.copy_from_slice(bytes);
            at += bytes.len();
            Ok(())
        };
        put(&[self.cla, self.ins, self.p1, self.p2])?;
        if lc > 0 {
            let [high, low] = lc.to_be_bytes();
            if short {
                put(&[low])?
            } else {
                put(&[0, high, low])?
            }
            put(self.data)?;
        }
        if let Some(le) = self.le {
            // 256 and 65,536 are written as zeros.
            let [high, low] = (le as u16).to_be_bytes();
            match (short, lc) {
                (true, _) => put(&[low])?,
                (false, 0) => put(&[0, high, low])?,
                (false, _) => put(&[high, low])?,
            }
        }
        Ok(at)
    }

    /// Reads a command in any of the seven forms (cases 1, 2, 3 and 4; short and extended).
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ApduError> {
        let [cla, ins, p1, p2, body @ ..] = bytes else {
            return Err(ApduError::TooShort(bytes.len()));
        };
        let wrong = ApduError::Length(bytes.len());
        let short_le = |le: u8| if le == 0 { 256 } else { u32::from(le) };
        let long_le = |high: u8, low: u8| match u16::from_be_bytes([high, low]) {
            0 => 65_536,
            le => u32::from(le),
        };
        let (data, le): (&[u8], Option<u32>) = match *body {
            [] => (&[], None),
            [le] => (&[], Some(short_le(le))),
            [0, high, low] => (&[], Some(long_le(high, low))),
            [0, high, low, ref rest @ ..] => {
                let lc = usize::from(u16::from_be_bytes([high, low]));
                let (data, tail) = rest.split_at_checked(lc).ok_or(wrong)?;
                match *tail {
                    _ if lc == 0 => return Err(wrong),
                    [] => (data, None),
                    [high, low] => (data, Some(long_le(high, low))),
                    _ => return Err(wrong),
                }
            }
            [lc, ref rest @ ..] => {
                let (data, tail) = rest.split_at_checked(usize::from(lc)).ok_or(wrong)?;
                match *tail {
                    _ if lc == 0 => return Err(wrong),
                    [] => (data, None),
                    [le] => (data, Some(short_le(le))),
                    _ => return Err(wrong),
                }
            }
        };
        Ok(Self { cla: *cla, ins: *ins, p1: *p1, p2: *p2, data, le })
    }
}

/// A response: data and status word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Response<'a> {
    /// The data field.
    pub data: &'a [u8],
    /// The status word.
    pub status: Status,
}

impl fmt::Debug for Response<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {:?}", self.data.len(), self.status)
    }
}

impl<'a> Response<'a> {
    /// Splits data and status word.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ApduError> {
        let (data, sw) = bytes.split_last_chunk::<2>().ok_or(ApduError::TooShort(bytes.len()))?;
        Ok(Self { data, status: Status::from(u16::from_be_bytes(*sw)) })
    }
}

/// The status word (ISO/IEC 7816-4 section 5.6, EMV Book 3 section 6.3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// `9000`.
    Success,
    /// `61xx`: so many bytes wait for GET RESPONSE.
    MoreData(u8),
    /// `6283`: the selected file (the application) is blocked.
    SelectedFileInvalid,
    /// `6700`.
    WrongLength,
    /// `6982`.
    SecurityNotSatisfied,
    /// `6983`.
    AuthenticationBlocked,
    /// `6985`.
    ConditionsNotSatisfied,
    /// `6986`: used by phones to say "see phone".
    CommandNotAllowed,
    /// `6A80`.
    WrongData,
    /// `6A81`: function not supported; after SELECT, the card is blocked.
    NotSupported,
    /// `6A82`.
    FileNotFound,
    /// `6A83`.
    RecordNotFound,
    /// `6A86`.
    WrongParameters,
    /// `6A88`.
    ReferencedDataNotFound,
    /// `6Cxx`: ask again for exactly so many bytes.
    WrongLe(u8),
    /// `6D00`.
    InstructionNotSupported,
    /// `6E00`.
    ClassNotSupported,
    /// `6F00`.
    NoDiagnosis,
    /// Any other.
    Other(u16),
}

impl From<u16> for Status {
    fn from(sw: u16) -> Self {
        match sw {
            0x9000 => Self::Success,
            0x6100..=0x61FF => Self::MoreData(sw as u8),
            0x6283 => Self::SelectedFileInvalid,
            0x6700 => Self::WrongLength,
            0x6982 => Self::SecurityNotSatisfied,
            0x6983 => Self::AuthenticationBlocked,
            0x6985 => Self::ConditionsNotSatisfied,
            0x6986 => Self::CommandNotAllowed,
            0x6A80 => Self::WrongData,
            0x6A81 => Self::NotSupported,
            0x6A82 => Self::FileNotFound,
            0x6A83 => Self::RecordNotFound,
            0x6A86 => Self::WrongParameters,
            0x6A88 => Self::ReferencedDataNotFound,
            0x6C00..=0x6CFF => Self::WrongLe(sw as u8),
            0x6D00 => Self::InstructionNotSupported,
            0x6E00 => Self::ClassNotSupported,
            0x6F00 => Self::NoDiagnosis,
            _ => Self::Other(sw),
        }
    }
}

impl From<Status> for u16 {
    fn from(status: Status) -> Self {
        match status {
            Status::Success => 0x9000,
            Status::MoreData(n) => 0x6100 | Self::from(n),
            Status::SelectedFileInvalid => 0x6283,
            Status::WrongLength => 0x6700,
            Status::SecurityNotSatisfied => 0x6982,
            Status::AuthenticationBlocked => 0x6983,
            Status::ConditionsNotSatisfied => 0x6985,
            Status::CommandNotAllowed => 0x6986,
            Status::WrongData => 0x6A80,
            Status::NotSupported => 0x6A81,
            Status::FileNotFound => 0x6A82,
            Status::RecordNotFound => 0x6A83,
            Status::WrongParameters => 0x6A86,
            Status::ReferencedDataNotFound => 0x6A88,
            Status::WrongLe(n) => 0x6C00 | Self::from(n),
            Status::InstructionNotSupported => 0x6D00,
            Status::ClassNotSupported => 0x6E00,
            Status::NoDiagnosis => 0x6F00,
            Status::Other(sw) => sw,
        }
    }
}

impl Status {
    /// The two bytes as a card sends them.
    pub fn to_bytes(self) -> [u8; 2] {
        u16::from(self).to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    extern crate std;
    use std::vec::Vec;

    fn encode(command: &Command<'_>) -> Vec<u8> {
        let mut out = std::vec![0; MAX_COMMAND];
        let len = command.encode(&mut out).unwrap();
        out.truncate(len);
        out
    }

    // The command of every contactless tap (EMV Book B section 3.3.2, SELECT PPSE).
    #[test]
    fn select_ppse_is_the_command_of_every_tap() {
        let wanted = b"\x00\xA4\x04\x00\x0E2PAY.SYS.DDF01\x00";
        assert_eq!(encode(&Command::select(PPSE)), wanted);
        assert_eq!(encode(&Command::read_record(2, 1)), [0x00, 0xB2, 0x01, 0x14, 0x00]);
        assert_eq!(
            encode(&Command::get_processing_options(&[0x83, 0x00])),
            [0x80, 0xA8, 0, 0, 2, 0x83, 0x00, 0]
        );
        assert_eq!(encode(&Command::get_response(0x10)), [0x00, 0xC0, 0x00, 0x00, 0x10]);
    }

    // ISO/IEC 7816-4 section 5.2, the seven forms of command.
    #[test]
    fn the_seven_forms_are_told_apart() {
        let big = std::vec![7; 300];
        let cases: [(&[u8], Option<u32>, usize); 7] = [
            (&[], None, 4),
            (&[], Some(256), 5),
            (&[1, 2], None, 7),
            (&[1, 2], Some(1), 8),
            (&[], Some(65_536), 7),
            (&big, None, 307),
            (&big, Some(65_536), 309),
        ];
        for (data, le, len) in cases {
            let command = Command { cla: 0x80, ins: 0xAE, p1: 1, p2: 2, data, le };
            let bytes = encode(&command);
            assert_eq!(bytes.len(), len);
            assert_eq!(Command::parse(&bytes), Ok(command));
        }
    }

    #[test]
    fn commands_whose_lengths_disagree_are_refused() {
        assert_eq!(Command::parse(&[0, 0xA4, 4]), Err(ApduError::TooShort(3)));
        for bytes in
            [&[0u8, 0xA4, 4, 0, 3, 1, 2][..], &[0, 0xA4, 4, 0, 1, 1, 2, 3], &[0, 0xA4, 4, 0, 0, 0, 0, 1]]
        {
            assert_eq!(Command::parse(bytes), Err(ApduError::Length(bytes.len())));
        }
        let none = Command { cla: 0, ins: 0, p1: 0, p2: 0, data: &[], le: Some(0) };
        assert_eq!(none.encode(&mut [0; 16]), Err(ApduError::Full));
        assert_eq!(Command::select(PPSE).encode(&mut [0; 19]), Err(ApduError::Full));
    }

    #[test]
    fn every_status_word_survives_its_name() {
        assert!((0..=u16::MAX).all(|sw| u16::from(Status::from(sw)) == sw));
        let response = Response::parse(&[0x6F, 0x00, 0x6A, 0x82]).unwrap();
        assert_eq!((response.data, response.status), (&[0x6F, 0x00][..], Status::FileNotFound));
        assert_eq!(Response::parse(&[0x90]), Err(ApduError::TooShort(1)));
    }

    proptest! {
        #[test]
        fn any_command_survives_the_wire(
            head in any::<[u8; 4]>(), data in prop::collection::vec(any::<u8>(), 0..600),
            le in prop::option::of(1u32..=65_536)
        ) {
            let [cla, ins, p1, p2] = head;
            let command = Command { cla, ins, p1, p2, data: &data, le };
            let bytes = encode(&command);
            prop_assert_eq!(Command::parse(&bytes), Ok(command));
        }

        #[test]
        fn any_bytes_are_a_command_or_an_error(data in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(command) = Command::parse(&data) {
                let bytes = encode(&command);
                prop_assert_eq!(Command::parse(&bytes), Ok(command));
            }
        }
    }
}
