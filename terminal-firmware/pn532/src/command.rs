//! The commands that a reader uses, as values: written by the driver, read by the simulated chip.
//!
//! A command here is the data of a frame, code first. The answer's code is one more than the command's. Facts: NXP
//! UM0701-02 chapter 7, and published open drivers.

use crate::frame::MAX_DATA;

/// Command codes.
pub mod code {
    /// Self-tests, and whether the card is still there.
    pub const DIAGNOSE: u8 = 0x00;
    /// Which chip, which firmware.
    pub const GET_FIRMWARE_VERSION: u8 = 0x02;
    /// What the chip does by itself.
    pub const SET_PARAMETERS: u8 = 0x12;
    /// Whether a security module is used; the first command after waking up.
    pub const SAM_CONFIGURATION: u8 = 0x14;
    /// Field, timings, retries.
    pub const RF_CONFIGURATION: u8 = 0x32;
    /// A command to a card.
    pub const IN_DATA_EXCHANGE: u8 = 0x40;
    /// A card is put to rest and stays known.
    pub const IN_DESELECT: u8 = 0x44;
    /// Looks for cards.
    pub const IN_LIST_PASSIVE_TARGET: u8 = 0x4A;
    /// A card is put to rest and forgotten.
    pub const IN_RELEASE: u8 = 0x52;
    /// The chip as a card: what the reader sent.
    pub const TG_GET_DATA: u8 = 0x86;
    /// The chip becomes a card.
    pub const TG_INIT_AS_TARGET: u8 = 0x8C;
    /// The chip as a card: what to answer.
    pub const TG_SET_DATA: u8 = 0x8E;
}

/// Set in a target's number: more of the command follows in another frame.
pub const MORE: u8 = 0x40;
/// The most bytes for a card in one frame.
pub const MAX_EXCHANGE: usize = MAX_DATA - 2;
/// SetParameters: RATS is sent by the chip as a card is found.
pub const AUTO_RATS: u8 = 0x10;
/// SetParameters: the chip as a card speaks ISO/IEC 14443-4.
pub const ISO14443_4_PICC: u8 = 0x20;
/// Diagnose: an echo.
pub const TEST_LINE: u8 = 0x00;
/// Diagnose: is the activated card still in the field?
pub const TEST_PRESENCE: u8 = 0x06;
/// SAMConfiguration: no security module.
pub const SAM_NORMAL: u8 = 0x01;
/// Retries without end.
pub const FOR_EVER: u8 = 0xFF;

/// What InListPassiveTarget looks for, at 106 kbit/s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Modulation {
    /// ISO/IEC 14443 type A.
    A,
    /// Type B, all application families.
    B,
}

/// What RFConfiguration sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum RfItem {
    /// 01: the field.
    Field {
        /// On or off.
        on: bool,
        /// Whether the chip first listens for another field.
        avoid_collision: bool,
    },
    /// 02: timings. The chip waits 100 µs · 2^(n − 1); 0 is without limit.
    Timings {
        /// For ATR_RES.
        atr: u8,
        /// For an answer to InDataExchange.
        retry: u8,
    },
    /// 04: how often a lost answer is asked for again.
    CommunicationRetries(u8),
    /// 05: retries; [`FOR_EVER`] has no end.
    Retries {
        /// Of ATR_REQ.
        atr: u8,
        /// Of PSL_REQ.
        psl: u8,
        /// Of InListPassiveTarget.
        activation: u8,
    },
}

/// A command.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command<'a> {
    /// A test, [`TEST_LINE`] or [`TEST_PRESENCE`] among others.
    Diagnose {
        /// Which.
        test: u8,
        /// Its parameters.
        parameters: &'a [u8],
    },
    /// Which chip, which firmware.
    GetFirmwareVersion,
    /// Flags, [`AUTO_RATS`] among others.
    SetParameters(u8),
    /// The security module.
    SamConfiguration {
        /// [`SAM_NORMAL`] is without one.
        mode: u8,
        /// Units of 50 ms, for the virtual card mode.
        timeout: u8,
        /// Whether the interrupt line tells of an answer.
        irq: bool,
    },
    /// Field, timings, retries.
    RfConfiguration(RfItem),
    /// Looks for cards.
    InListPassiveTarget {
        /// At most so many, 1 or 2.
        max: u8,
        /// Of which kind.
        modulation: Modulation,
    },
    /// A command to a card, or a part of one.
    InDataExchange {
        /// The card's number.
        target: u8,
        /// More parts follow.
        more: bool,
        /// At most 262 bytes.
        data: &'a [u8],
    },
    /// A card is put to rest and stays known; 0 is all.
    InDeselect(u8),
    /// A card is put to rest and forgotten; 0 is all.
    InRelease(u8),
}

// What goes to a card may identify a rider.
impl core::fmt::Debug for Command<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Diagnose { test, parameters } => write!(f, "Diagnose({test:02X}, [{}])", parameters.len()),
            Self::GetFirmwareVersion => f.write_str("GetFirmwareVersion"),
            Self::SetParameters(flags) => write!(f, "SetParameters({flags:02X})"),
            Self::SamConfiguration { mode, .. } => write!(f, "SamConfiguration({mode:02X})"),
            Self::RfConfiguration(item) => write!(f, "RfConfiguration({item:?})"),
            Self::InListPassiveTarget { max, modulation } => {
                write!(f, "InListPassiveTarget({max}, {modulation:?})")
            }
            Self::InDataExchange { target, more, data } => {
                write!(f, "InDataExchange({target}, [{}]{})", data.len(), if *more { ", more" } else { "" })
            }
            Self::InDeselect(target) => write!(f, "InDeselect({target})"),
            Self::InRelease(target) => write!(f, "InRelease({target})"),
        }
    }
}

/// Why bytes are no command, or a command no bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum CommandError {
    /// A code that is none of these.
    Unknown(u8),
    /// The parameters of this command are too many, too few or out of range.
    Parameters(u8),
    /// No byte at all.
    Empty,
    /// It does not fit in a frame.
    TooLong,
}

/// Bytes gathered in a buffer.
struct Out<'b> {
    buffer: &'b mut [u8],
    len: usize,
}

impl Out<'_> {
    fn put(mut self, bytes: &[u8]) -> Result<Self, CommandError> {
        let end = self.len + bytes.len();
        self.buffer.get_mut(self.len..end).ok_or(CommandError::TooLong)?.copy_from_slice(bytes);
        self.len = end;
        Ok(self)
    }
}

impl<'a> Command<'a> {
    /// Its code.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Diagnose { .. } => code::DIAGNOSE,
            Self::GetFirmwareVersion => code::GET_FIRMWARE_VERSION,
            Self::SetParameters(_) => code::SET_PARAMETERS,
            Self::SamConfiguration { .. } => code::SAM_CONFIGURATION,
            Self::RfConfiguration(_) => code::RF_CONFIGURATION,
            Self::InListPassiveTarget { .. } => code::IN_LIST_PASSIVE_TARGET,
            Self::InDataExchange { .. } => code::IN_DATA_EXCHANGE,
            Self::InDeselect(_) => code::IN_DESELECT,
            Self::InRelease(_) => code::IN_RELEASE,
        }
    }

    /// Writes it as a frame's data and gives the length.
    pub fn write(&self, buffer: &mut [u8; MAX_DATA]) -> Result<usize, CommandError> {
        let out = Out { buffer, len: 0 }.put(&[self.code()])?;
        let out = match *self {
            Self::Diagnose { test, parameters } => out.put(&[test])?.put(parameters)?,
            Self::GetFirmwareVersion => out,
            Self::SetParameters(flags) => out.put(&[flags])?,
            Self::SamConfiguration { mode, timeout, irq } => out.put(&[mode, timeout, u8::from(irq)])?,
            Self::RfConfiguration(item) => match item {
                RfItem::Field { on, avoid_collision } => {
                    out.put(&[0x01, u8::from(avoid_collision) << 1 | u8::from(on)])?
                }
                RfItem::Timings { atr, retry } => out.put(&[0x02, 0x00, atr, retry])?,
                RfItem::CommunicationRetries(n) => out.put(&[0x04, n])?,
                RfItem::Retries { atr, psl, activation } => out.put(&[0x05, atr, psl, activation])?,
            },
            Self::InListPassiveTarget { max, modulation: Modulation::A } => out.put(&[max, 0x00])?,
            Self::InListPassiveTarget { max, modulation: Modulation::B } => out.put(&[max, 0x03, 0x00])?,
            Self::InDataExchange { target, more, data } => {
                out.put(&[target | if more { MORE } else { 0 }])?.put(data)?
            }
            Self::InDeselect(target) | Self::InRelease(target) => out.put(&[target])?,
        };
        Ok(out.len)
    }

    /// Reads a frame's data.
    pub fn parse(data: &'a [u8]) -> Result<Self, CommandError> {
        let (&code, rest) = data.split_first().ok_or(CommandError::Empty)?;
        let command = match (code, rest) {
            (code::DIAGNOSE, [test, parameters @ ..]) => Self::Diagnose { test: *test, parameters },
            (code::GET_FIRMWARE_VERSION, []) => Self::GetFirmwareVersion,
            (code::SET_PARAMETERS, &[flags]) => Self::SetParameters(flags),
            (code::SAM_CONFIGURATION, &[mode @ 1..=4]) => {
                Self::SamConfiguration { mode, timeout: 0, irq: true }
            }
            (code::SAM_CONFIGURATION, &[mode @ 1..=4, timeout]) => {
                Self::SamConfiguration { mode, timeout, irq: true }
            }
            (code::SAM_CONFIGURATION, &[mode @ 1..=4, timeout, irq @ 0..=1]) => {
                Self::SamConfiguration { mode, timeout, irq: irq == 1 }
            }
            (code::RF_CONFIGURATION, rest) => Self::RfConfiguration(match *rest {
                [0x01, flags @ 0..=3] => {
                    RfItem::Field { on: flags & 1 != 0, avoid_collision: flags & 2 != 0 }
                }
                [0x02, 0x00, atr, retry] => RfItem::Timings { atr, retry },
                [0x04, n] => RfItem::CommunicationRetries(n),
                [0x05, atr, psl, activation] => RfItem::Retries { atr, psl, activation },
                _ => return Err(CommandError::Parameters(code)),
            }),
            (code::IN_LIST_PASSIVE_TARGET, &[max @ 1..=2, 0x00]) => {
                Self::InListPassiveTarget { max, modulation: Modulation::A }
            }
            (code::IN_LIST_PASSIVE_TARGET, &[max @ 1..=2, 0x03, 0x00]) => {
                Self::InListPassiveTarget { max, modulation: Modulation::B }
            }
            (code::IN_DATA_EXCHANGE, [target, data @ ..]) if data.len() <= MAX_EXCHANGE => {
                Self::InDataExchange { target: target & !MORE, more: target & MORE != 0, data }
            }
            (code::IN_DESELECT, &[target]) => Self::InDeselect(target),
            (code::IN_RELEASE, &[target]) => Self::InRelease(target),
            (
                code::DIAGNOSE
                | code::GET_FIRMWARE_VERSION
                | code::SET_PARAMETERS
                | code::SAM_CONFIGURATION
                | code::IN_LIST_PASSIVE_TARGET
                | code::IN_DATA_EXCHANGE
                | code::IN_DESELECT
                | code::IN_RELEASE,
                _,
            ) => return Err(CommandError::Parameters(code)),
            _ => return Err(CommandError::Unknown(code)),
        };
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn written(command: &Command<'_>) -> Vec<u8> {
        let mut buffer = [0; MAX_DATA];
        let len = command.write(&mut buffer).unwrap();
        buffer[..len].to_vec()
    }

    /// The bytes are those of UM0701-02's examples and of open drivers in use.
    #[test]
    fn commands_have_the_bytes_that_drivers_in_use_send() {
        let known: [(Command<'_>, &[u8]); 12] = [
            (Command::Diagnose { test: TEST_PRESENCE, parameters: &[] }, &[0x00, 0x06]),
            (Command::GetFirmwareVersion, &[0x02]),
            (Command::SetParameters(AUTO_RATS), &[0x12, 0x10]),
            (Command::SamConfiguration { mode: SAM_NORMAL, timeout: 0x14, irq: true }, &[0x14, 1, 0x14, 1]),
            (Command::RfConfiguration(RfItem::Field { on: true, avoid_collision: false }), &[0x32, 1, 1]),
            (Command::RfConfiguration(RfItem::Timings { atr: 0x0B, retry: 0x0A }), &[0x32, 2, 0, 0x0B, 0x0A]),
            (Command::RfConfiguration(RfItem::CommunicationRetries(3)), &[0x32, 4, 3]),
            (
                Command::RfConfiguration(RfItem::Retries { atr: 0xFF, psl: 1, activation: 2 }),
                &[0x32, 5, 0xFF, 1, 2],
            ),
            (Command::InListPassiveTarget { max: 1, modulation: Modulation::A }, &[0x4A, 1, 0]),
            (Command::InListPassiveTarget { max: 2, modulation: Modulation::B }, &[0x4A, 2, 3, 0]),
            (Command::InDataExchange { target: 1, more: true, data: &[0, 0xA4] }, &[0x40, 0x41, 0, 0xA4]),
            (Command::InRelease(0), &[0x52, 0]),
        ];
        for (command, bytes) in known {
            assert_eq!(written(&command), bytes, "{command:?}");
            assert_eq!(Command::parse(bytes), Ok(command));
        }
    }

    #[test]
    fn what_is_no_command_is_refused_by_name() {
        assert_eq!(Command::parse(&[]), Err(CommandError::Empty));
        assert_eq!(Command::parse(&[0x99]), Err(CommandError::Unknown(0x99)));
        for bytes in [&[0x02, 0][..], &[0x14], &[0x32, 9], &[0x4A, 3, 0], &[0x4A, 1, 9], &[0x40], &[0x52]] {
            assert_eq!(Command::parse(bytes), Err(CommandError::Parameters(bytes[0])), "{bytes:02X?}");
        }
        let long = [0; MAX_EXCHANGE + 1];
        let command = Command::InDataExchange { target: 1, more: false, data: &long };
        assert_eq!(command.write(&mut [0; MAX_DATA]), Err(CommandError::TooLong));
    }
}
