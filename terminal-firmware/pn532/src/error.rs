//! What can go wrong between a host and its chip. The chip's own word, the status byte, is kept apart from ours.

use crate::frame::FrameError;
use crate::status::StatusError;
use core::fmt;
use embedded_hal::{i2c, spi};

/// The line itself failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFault {
    /// The other end has closed it.
    Closed,
    /// Nothing could be sent in time.
    Stuck,
    /// The serial line reports this.
    Serial(embedded_io_async::ErrorKind),
    /// The I²C bus reports this.
    I2c(i2c::ErrorKind),
    /// The SPI bus reports this.
    Spi(spi::ErrorKind),
}

#[cfg(feature = "defmt")]
impl defmt::Format for LineFault {
    fn format(&self, f: defmt::Formatter<'_>) {
        // The kinds of the other crates have `Format` of one defmt or another, and `Debug` always.
        defmt::write!(f, "{}", defmt::Debug2Format(self));
    }
}

/// Why the reader could not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Pn532Error {
    /// The line failed.
    Line(LineFault),
    /// The chip has not acknowledged this command, however often it was sent.
    NotAcknowledged {
        /// The command's code.
        command: u8,
    },
    /// The chip has acknowledged this command and not answered in time.
    NoAnswer {
        /// The command's code.
        command: u8,
    },
    /// Every copy of the answer was broken.
    Broken {
        /// The command's code.
        command: u8,
        /// What was wrong with the last copy.
        error: FrameError,
    },
    /// Asked to send a broken answer again, the chip sent the answer before.
    Repeated {
        /// The command's code.
        command: u8,
    },
    /// The chip took the command for malformed.
    Syntax {
        /// The command's code.
        command: u8,
    },
    /// Only frames that belong to nothing came.
    Strays {
        /// The command's code.
        command: u8,
    },
    /// A sound frame whose content is no answer to this command.
    Malformed {
        /// The command's code.
        command: u8,
    },
    /// The chip reports an error.
    Status(StatusError),
    /// The answer speaks of a node address, which was not asked for.
    NodeAddress,
    /// The card's answer is longer than the buffer.
    AnswerTooLong {
        /// The buffer.
        limit: usize,
    },
    /// Command or answer come in more parts than the driver follows.
    TooManyParts,
    /// The target is of an earlier detection.
    TargetForgotten,
    /// The chip is no PN532 but this.
    NotPn532 {
        /// What it says of itself.
        ic: u8,
    },
}

impl Pn532Error {
    /// The card has left the field, or stopped answering as one that leaves does.
    pub const fn is_card_gone(&self) -> bool {
        match self {
            Self::Status(status) => status.is_card_gone(),
            Self::TargetForgotten => true,
            _ => false,
        }
    }

    /// The card broke the transmission protocol, or answers without end.
    pub const fn is_card_protocol(&self) -> bool {
        match self {
            Self::Status(status) => status.is_protocol(),
            Self::AnswerTooLong { .. } | Self::TooManyParts => true,
            _ => false,
        }
    }

    /// The answer did not come in time; the card may still be there.
    pub const fn is_timeout(&self) -> bool {
        matches!(self, Self::NoAnswer { .. } | Self::NotAcknowledged { .. })
    }

    /// Nothing is wrong with the card: reader or line are. The driver recovers at its next call.
    pub const fn is_reader_fault(&self) -> bool {
        !self.is_card_gone() && !self.is_card_protocol()
    }
}

impl fmt::Display for Pn532Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(fault) => write!(f, "the line to the PN532: {fault:?}"),
            Self::NotAcknowledged { command } => write!(f, "command {command:02X} was not acknowledged"),
            Self::NoAnswer { command } => write!(f, "command {command:02X} was not answered in time"),
            Self::Broken { command, error } => write!(f, "the answer to {command:02X} is broken: {error:?}"),
            Self::Repeated { command } => write!(f, "the answer to {command:02X} is that before it"),
            Self::Syntax { command } => write!(f, "the PN532 took command {command:02X} for malformed"),
            Self::Strays { command } => write!(f, "frames that do not belong to command {command:02X}"),
            Self::Malformed { command } => write!(f, "the answer to {command:02X} has another form"),
            Self::Status(status) => write!(f, "the PN532 reports {:02X}: {status:?}", status.code()),
            Self::NodeAddress => f.write_str("an answer with a node address"),
            Self::AnswerTooLong { limit } => write!(f, "the card answers more than {limit} bytes"),
            Self::TooManyParts => f.write_str("a command or answer in too many parts"),
            Self::TargetForgotten => f.write_str("the target is of an earlier detection"),
            Self::NotPn532 { ic } => write!(f, "the chip is no PN532 but {ic:02X}"),
        }
    }
}

impl core::error::Error for Pn532Error {}
