//! Frames between a host and a PN532, both ways: an encoder, and a decoder that is fed byte by byte.
//!
//! It knows no command, no line and no time. A broken frame is an event with a name, never a panic, and the decoder
//! goes on with the next start code. Facts: NXP UM0701-02 chapter 6.2, and published open drivers.
//!
//! | frame | bytes |
//! | --- | --- |
//! | normal | `00` \| `00 FF` \| LEN \| LCS \| TFI, data \| DCS \| `00` |
//! | extended | `00` \| `00 FF` \| `FF FF` \| LEN 2 \| LCS \| TFI, data \| DCS \| `00` |
//! | acknowledgement | `00` \| `00 FF` \| `00 FF` \| `00` |
//! | refusal (NACK) | `00` \| `00 FF` \| `FF 00` \| `00` |
//! | error | `00` \| `00 FF` \| `01 FF` \| `7F` \| `81` \| `00` |
//!
//! LEN counts TFI and data. The bytes of LEN and LCS add up to 0, so do TFI, data and DCS (mod 256). TFI is `D4` to
//! the chip and `D5` from it.

/// The most data bytes of a frame, command code included, TFI not: the chip's buffer.
pub const MAX_DATA: usize = 264;
/// The most of them in a normal frame.
pub const MAX_NORMAL_DATA: usize = 254;
/// The longest frame: 8 bytes before the TFI, TFI, data, DCS, postamble.
pub const MAX_FRAME: usize = 8 + 1 + MAX_DATA + 2;
/// The acknowledgement. From the host it also ends a running command.
pub const ACK: [u8; 6] = [0x00, 0x00, 0xFF, 0x00, 0xFF, 0x00];
/// "Send your last response again."
pub const NACK: [u8; 6] = [0x00, 0x00, 0xFF, 0xFF, 0x00, 0x00];
/// The chip does not know the command, or its parameters are wrong.
pub const SYNTAX_ERROR: [u8; 8] = [0x00, 0x00, 0xFF, 0x01, 0xFF, 0x7F, 0x81, 0x00];

const ERROR_CODE: u8 = 0x7F;

/// Which way a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Direction {
    /// Host to chip, TFI `D4`.
    ToChip,
    /// Chip to host, TFI `D5`.
    FromChip,
}

impl Direction {
    /// The frame identifier.
    pub const fn tfi(self) -> u8 {
        match self {
            Self::ToChip => 0xD4,
            Self::FromChip => 0xD5,
        }
    }
}

/// What is wrong with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum FrameError {
    /// LEN and LCS do not add up.
    LengthChecksum,
    /// TFI, data and DCS do not add up.
    DataChecksum,
    /// A length of 0, or a TFI without a command code.
    Empty,
    /// A length beyond the chip's buffer.
    TooLong(u16),
    /// Neither `D4` nor `D5`.
    Identifier(u8),
    /// The line fell silent inside a frame.
    Truncated,
}

/// Why a frame cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum EncodeError {
    /// More data than 264 bytes, or none.
    Length(usize),
    /// The buffer given is too small.
    Buffer,
}

/// What the decoder found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Event {
    /// An acknowledgement.
    Ack,
    /// A request to send again.
    Nack,
    /// The chip's error frame.
    SyntaxError,
    /// A sound frame; [`Decoder::data`] has its data until the next byte is pushed.
    Frame(Direction),
    /// A broken frame.
    Broken(FrameError),
}

/// Writes a frame around `data` (command code first) and gives its length: a normal frame where it fits.
pub fn encode(direction: Direction, data: &[u8], out: &mut [u8]) -> Result<usize, EncodeError> {
    if data.is_empty() || data.len() > MAX_DATA {
        return Err(EncodeError::Length(data.len()));
    }
    let len = data.len() + 1;
    let [high, low] = (len as u16).to_be_bytes(); // at most 265
    let extended = [0x00, 0x00, 0xFF, 0xFF, 0xFF, high, low, complement(&[high, low])];
    let normal = [0x00, 0x00, 0xFF, low, complement(&[low])];
    let header: &[u8] = if data.len() <= MAX_NORMAL_DATA { &normal } else { &extended };
    let total = header.len() + len + 2;
    let out = out.get_mut(..total).ok_or(EncodeError::Buffer)?;
    let (head, body) = out.split_at_mut(header.len());
    head.copy_from_slice(header);
    body[0] = direction.tfi();
    body[1..len].copy_from_slice(data);
    body[len] = complement(&body[..len]);
    body[len + 1] = 0x00;
    Ok(total)
}

/// The byte that makes the sum 0.
fn complement(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_sub(byte))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Looking for `00 FF`; true after a `00`.
    Start {
        zero: bool,
    },
    Length,
    LengthCheck {
        len: u8,
    },
    ExtendedHigh,
    ExtendedLow {
        high: u8,
    },
    ExtendedCheck {
        len: u16,
    },
    Body {
        len: usize,
    },
    DataCheck {
        len: usize,
    },
}

/// Finds frames in a stream of bytes.
pub struct Decoder {
    state: State,
    /// TFI and data of the frame being read, or just read.
    body: [u8; 1 + MAX_DATA],
    filled: usize,
}

// Data may identify a rider.
impl core::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Decoder({:?}, {})", self.state, self.filled)
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder that looks for a start code.
    pub const fn new() -> Self {
        Self { state: State::Start { zero: false }, body: [0; 1 + MAX_DATA], filled: 0 }
    }

    /// The data of the frame that was just found, command code first, TFI left out.
    pub fn data(&self) -> &[u8] {
        self.body.get(1..self.filled).unwrap_or_default()
    }

    /// True between a start code and the end of its frame.
    pub fn is_inside(&self) -> bool {
        !matches!(self.state, State::Start { .. })
    }

    /// Gives up what was begun, after the line fell silent. True if a frame had begun.
    pub fn abandon(&mut self) -> bool {
        let inside = self.is_inside();
        self.state = State::Start { zero: false };
        self.filled = 0;
        inside
    }

    /// Takes one byte.
    pub fn push(&mut self, byte: u8) -> Option<Event> {
        // What leaves a frame early looks for the next start code, the byte itself included.
        let start = State::Start { zero: byte == 0x00 };
        let (state, event) = match self.state {
            State::Start { zero: true } if byte == 0xFF => (State::Length, None),
            State::Start { .. } => (start, None),
            State::Length => (State::LengthCheck { len: byte }, None),
            State::LengthCheck { len } => match (len, byte) {
                (0x00, 0xFF) => (State::Start { zero: false }, Some(Event::Ack)),
                (0xFF, 0x00) => (start, Some(Event::Nack)),
                (0xFF, 0xFF) => (State::ExtendedHigh, None),
                _ if complement(&[len]) != byte => (start, Some(Event::Broken(FrameError::LengthChecksum))),
                _ => self.begin(u16::from(len), start),
            },
            State::ExtendedHigh => (State::ExtendedLow { high: byte }, None),
            State::ExtendedLow { high } => {
                (State::ExtendedCheck { len: u16::from_be_bytes([high, byte]) }, None)
            }
            State::ExtendedCheck { len } => {
                if complement(&len.to_be_bytes()) == byte {
                    self.begin(len, start)
                } else {
                    (start, Some(Event::Broken(FrameError::LengthChecksum)))
                }
            }
            State::Body { len } => {
                // `begin` has checked that `len` bytes fit.
                if let Some(place) = self.body.get_mut(self.filled) {
                    *place = byte;
                }
                self.filled += 1;
                (if self.filled < len { State::Body { len } } else { State::DataCheck { len } }, None)
            }
            State::DataCheck { len } => (start, Some(self.finish(len, byte))),
        };
        self.state = state;
        event
    }

    fn begin(&mut self, len: u16, start: State) -> (State, Option<Event>) {
        self.filled = 0;
        let error = match usize::from(len) {
            0 => FrameError::Empty,
            fits if fits <= self.body.len() => return (State::Body { len: fits }, None),
            _ => FrameError::TooLong(len),
        };
        (start, Some(Event::Broken(error)))
    }

    fn finish(&mut self, len: usize, check: u8) -> Event {
        let body = self.body.get(..len).unwrap_or_default();
        if complement(body) != check {
            return Event::Broken(FrameError::DataChecksum);
        }
        match *body {
            [ERROR_CODE] => Event::SyntaxError,
            [0xD4 | 0xD5] | [] => Event::Broken(FrameError::Empty),
            [0xD4, ..] => Event::Frame(Direction::ToChip),
            [0xD5, ..] => Event::Frame(Direction::FromChip),
            [other, ..] => Event::Broken(FrameError::Identifier(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn events(bytes: &[u8]) -> Vec<(Event, Vec<u8>)> {
        let mut decoder = Decoder::new();
        let mut found = Vec::new();
        for &byte in bytes {
            if let Some(event) = decoder.push(byte) {
                let data = match event {
                    Event::Frame(_) => decoder.data().to_vec(),
                    _ => Vec::new(),
                };
                found.push((event, data));
            }
        }
        found
    }

    fn kinds(bytes: &[u8]) -> Vec<Event> {
        events(bytes).into_iter().map(|(event, _)| event).collect()
    }

    fn encoded(direction: Direction, data: &[u8]) -> Vec<u8> {
        let mut out = [0; MAX_FRAME];
        let len = encode(direction, data, &mut out).unwrap();
        out[..len].to_vec()
    }

    /// The frame that every application note on the chip begins with (UM0701-02, GetFirmwareVersion).
    const GET_FIRMWARE_VERSION: [u8; 9] = [0x00, 0x00, 0xFF, 0x02, 0xFE, 0xD4, 0x02, 0x2A, 0x00];

    #[test]
    fn the_published_frame_is_written_and_read() {
        assert_eq!(encoded(Direction::ToChip, &[0x02]), GET_FIRMWARE_VERSION);
        assert_eq!(events(&GET_FIRMWARE_VERSION), [(Event::Frame(Direction::ToChip), [0x02].to_vec())]);
    }

    #[test]
    fn the_frames_without_data_are_told_apart() {
        assert_eq!(
            kinds(&[&ACK[..], &NACK, &SYNTAX_ERROR].concat()),
            [Event::Ack, Event::Nack, Event::SyntaxError]
        );
    }

    #[test]
    fn every_length_comes_back_normal_up_to_254_bytes_and_extended_up_to_264() {
        for len in 1..=MAX_DATA {
            let data: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            for direction in [Direction::ToChip, Direction::FromChip] {
                let frame = encoded(direction, &data);
                assert_eq!(frame.len(), len + if len <= MAX_NORMAL_DATA { 8 } else { 11 });
                assert_eq!(events(&frame), [(Event::Frame(direction), data.clone())]);
            }
        }
        let mut out = [0; MAX_FRAME + 8];
        let too_long = [0; MAX_DATA + 1];
        assert_eq!(encode(Direction::ToChip, &too_long, &mut out), Err(EncodeError::Length(265)));
        assert_eq!(encode(Direction::ToChip, &[], &mut out), Err(EncodeError::Length(0)));
        assert_eq!(encode(Direction::ToChip, &[1, 2], &mut out[..9]), Err(EncodeError::Buffer));
    }

    #[test]
    fn a_short_extended_frame_is_read_too() {
        let frame = [0x00, 0x00, 0xFF, 0xFF, 0xFF, 0x00, 0x02, 0xFE, 0xD4, 0x02, 0x2A, 0x00];
        assert_eq!(events(&frame), [(Event::Frame(Direction::ToChip), [0x02].to_vec())]);
    }

    #[test]
    fn garbage_and_long_preambles_before_a_start_code_are_skipped() {
        for garbage in
            [&[0x55, 0x55, 0x00, 0x00, 0x00][..], &[0xFF, 0xFF, 0xFF], &[0x12, 0x00, 0x34], &[0; 40]]
        {
            let line = [garbage, &GET_FIRMWARE_VERSION].concat();
            assert_eq!(kinds(&line), [Event::Frame(Direction::ToChip)]);
        }
        // Neither preamble nor postamble is needed.
        assert_eq!(kinds(&GET_FIRMWARE_VERSION[1..8]), [Event::Frame(Direction::ToChip)]);
    }

    #[test]
    fn what_is_broken_is_named_and_the_next_frame_is_read() {
        let broken = |at: usize, value: u8| {
            let mut frame = GET_FIRMWARE_VERSION;
            frame[at] = value;
            kinds(&[frame, GET_FIRMWARE_VERSION].concat())
        };
        let good = Event::Frame(Direction::ToChip);
        assert_eq!(broken(4, 0xFD), [Event::Broken(FrameError::LengthChecksum), good]);
        assert_eq!(broken(7, 0x2B), [Event::Broken(FrameError::DataChecksum), good]);
        assert_eq!(broken(6, 0x03), [Event::Broken(FrameError::DataChecksum), good]);
        let named = |frame: &[u8], error| {
            assert_eq!(kinds(&[frame, &GET_FIRMWARE_VERSION].concat()), [Event::Broken(error), good]);
        };
        named(&[0x00, 0xFF, 0x00, 0x00], FrameError::Empty);
        named(&[0x00, 0xFF, 0x01, 0xFF, 0xD4, 0x2C], FrameError::Empty);
        named(&[0x00, 0xFF, 0x02, 0xFE, 0xD6, 0x02, 0x28], FrameError::Identifier(0xD6));
        named(&[0x00, 0xFF, 0xFF, 0xFF, 0x01, 0x0A, 0xF5], FrameError::TooLong(266));
        named(&[0x00, 0xFF, 0xFF, 0xFF, 0x01, 0x09, 0x00], FrameError::LengthChecksum);
    }

    #[test]
    fn a_frame_that_was_abandoned_leaves_nothing_behind() {
        let mut decoder = Decoder::new();
        assert!(!decoder.abandon());
        for &byte in &GET_FIRMWARE_VERSION[..6] {
            assert_eq!(decoder.push(byte), None);
        }
        assert!(decoder.is_inside());
        assert!(decoder.abandon());
        assert_eq!(GET_FIRMWARE_VERSION.iter().filter_map(|&b| decoder.push(b)).count(), 1);
        assert_eq!(decoder.data(), [0x02]);
    }
}
