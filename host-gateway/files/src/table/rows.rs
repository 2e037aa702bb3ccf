//! The rows: the charges of a batch, their journeys, and settlement positions.

use jiff::Timestamp;
use wavepass_fares::{Fen, Status};

use super::cells::{Cells, bytes, instant, number, optional};
use crate::error::{Fault, FileError};
use crate::lines::hex;

/// The longest station code, in characters.
const MAX_STATION: usize = 64;

/// A charge, as its batch sealed it: what became of it since is in no file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The token's key: a keyed hash, never the token's number.
    pub token_key: [u8; 16],
    /// The part of the day's charge.
    pub part: u32,
    /// What is charged; below zero a refund.
    pub amount: Fen,
}

/// A tap's name: the key that sealed it, and its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TapName {
    /// The gate's initial key id.
    pub key_id: [u8; 8],
    /// The tap's sequence number.
    pub sequence: u64,
}

/// A journey that a charge is made of; a charge is the sum of its journeys' `charged`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journey {
    /// The charge's token.
    pub token_key: [u8; 16],
    /// The charge's part.
    pub part: u32,
    /// The tap that names the journey.
    pub first_tap: TapName,
    /// The other tap, where there is one.
    pub second_tap: Option<TapName>,
    /// Where and when it began, as far as taps tell.
    pub from: Option<String>,
    /// See `from`.
    pub entered: Option<Timestamp>,
    /// Where and when it ended, as far as taps tell.
    pub to: Option<String>,
    /// See `to`.
    pub left: Option<Timestamp>,
    /// Its price before transfers, caps and discounts.
    pub nominal: Fen,
    /// Its price after them.
    pub charged: Fen,
    /// How it came out.
    pub status: Status,
}

/// An operator's position: settled = deducted + sponsored + covered − fees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The operator.
    pub operator: u16,
    /// Its share of what was deducted.
    pub deducted: Fen,
    /// Its share of what campaigns paid.
    pub sponsored: Fen,
    /// Its share of what the bank bears.
    pub covered: Fen,
    /// The bank's fee.
    pub fees: Fen,
    /// What it gets; below zero what it owes.
    pub settled: Fen,
}
/// A row of a file: [`Charge`], [`Journey`] or [`Position`].
pub trait Row: Sized {
    /// What rows are ordered by.
    #[doc(hidden)]
    type Key: Ord + Copy;
    /// The word in the head.
    const KIND: &'static str;
    /// The version of the format that is written, and the only one that is read.
    const VERSION: &'static str = "1";
    /// The columns' names.
    const COLUMNS: &'static [&'static str];
    #[doc(hidden)]
    fn key(&self) -> Self::Key;
    /// What the trailer sums.
    #[doc(hidden)]
    fn amount(&self) -> Fen;
    #[doc(hidden)]
    fn cells(&self) -> Vec<String>;
    #[doc(hidden)]
    fn read(cells: &mut Cells<'_>) -> Result<Self, FileError>;
    /// What must hold within a row; the fault names its column.
    #[doc(hidden)]
    fn check(&self) -> Result<(), (&'static str, Fault)>;
}

fn tap(text: &str) -> Result<TapName, Fault> {
    let fault = Fault::Identifier("key id:sequence");
    let (key_id, sequence) = text.split_once(':').ok_or(fault)?;
    Ok(TapName { key_id: bytes(key_id)?, sequence: number(sequence)? })
}

fn station(text: &str) -> Result<String, Fault> {
    check_station(text)?;
    Ok(text.to_owned())
}

fn check_station(text: &str) -> Result<(), Fault> {
    match text.chars().count() {
        0 => Err(Fault::Empty),
        len if len > MAX_STATION => Err(Fault::TooLong { max: MAX_STATION }),
        _ if text.chars().any(char::is_control) => Err(Fault::Characters),
        _ => Ok(()),
    }
}

impl std::fmt::Display for TapName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", hex(&self.key_id), self.sequence)
    }
}

impl Row for Charge {
    type Key = ([u8; 16], u32);
    const KIND: &'static str = "charges";
    // The first had columns that changed after the batch was sealed.
    const VERSION: &'static str = "2";
    const COLUMNS: &'static [&'static str] = &["token_key", "part", "amount_fen"];

    fn key(&self) -> Self::Key {
        (self.token_key, self.part)
    }

    fn amount(&self) -> Fen {
        self.amount
    }

    fn cells(&self) -> Vec<String> {
        vec![hex(&self.token_key), self.part.to_string(), self.amount.0.to_string()]
    }

    fn read(cells: &mut Cells<'_>) -> Result<Self, FileError> {
        Ok(Self { token_key: cells.take(bytes)?, part: cells.number()?, amount: cells.fen()? })
    }

    fn check(&self) -> Result<(), (&'static str, Fault)> {
        Ok(())
    }
}

impl Row for Journey {
    type Key = ([u8; 16], TapName, u32);
    const KIND: &'static str = "journeys";
    const COLUMNS: &'static [&'static str] = &[
        "token_key",
        "part",
        "first_tap",
        "second_tap",
        "from",
        "entered",
        "to",
        "left",
        "nominal_fen",
        "charged_fen",
        "status",
    ];

    fn key(&self) -> Self::Key {
        (self.token_key, self.first_tap, self.part)
    }

    fn amount(&self) -> Fen {
        self.charged
    }

    fn cells(&self) -> Vec<String> {
        vec![
            hex(&self.token_key),
            self.part.to_string(),
            self.first_tap.to_string(),
            optional(self.second_tap),
            optional(self.from.as_deref()),
            optional(self.entered),
            optional(self.to.as_deref()),
            optional(self.left),
            self.nominal.0.to_string(),
            self.charged.0.to_string(),
            self.status.as_str().to_owned(),
        ]
    }

    fn read(cells: &mut Cells<'_>) -> Result<Self, FileError> {
        Ok(Self {
            token_key: cells.take(bytes)?,
            part: cells.number()?,
            first_tap: cells.take(tap)?,
            second_tap: cells.optional(tap)?,
            from: cells.optional(station)?,
            entered: cells.optional(instant)?,
            to: cells.optional(station)?,
            left: cells.optional(instant)?,
            nominal: cells.fen()?,
            charged: cells.fen()?,
            status: cells.take(|text| {
                Status::ALL.into_iter().find(|status| status.as_str() == text).ok_or(Fault::Code)
            })?,
        })
    }

    fn check(&self) -> Result<(), (&'static str, Fault)> {
        for (column, code) in [("from", &self.from), ("to", &self.to)] {
            code.as_deref().map_or(Ok(()), check_station).map_err(|fault| (column, fault))?;
        }
        Ok(())
    }
}

impl Row for Position {
    type Key = u16;
    const KIND: &'static str = "settlement";
    const COLUMNS: &'static [&'static str] =
        &["operator", "deducted_fen", "sponsored_fen", "covered_fen", "fees_fen", "settled_fen"];

    fn key(&self) -> u16 {
        self.operator
    }

    fn amount(&self) -> Fen {
        self.settled
    }

    fn cells(&self) -> Vec<String> {
        let amounts = [self.deducted, self.sponsored, self.covered, self.fees, self.settled];
        std::iter::once(self.operator.to_string()).chain(amounts.map(|fen| fen.0.to_string())).collect()
    }

    fn read(cells: &mut Cells<'_>) -> Result<Self, FileError> {
        Ok(Self {
            operator: cells.number()?,
            deducted: cells.fen()?,
            sponsored: cells.fen()?,
            covered: cells.fen()?,
            fees: cells.fen()?,
            settled: cells.fen()?,
        })
    }

    fn check(&self) -> Result<(), (&'static str, Fault)> {
        let column = "settled_fen";
        let due =
            Fen::sum([self.deducted, self.sponsored, self.covered]).and_then(|sum| sum.minus(self.fees));
        match due {
            Ok(due) if due == self.settled => Ok(()),
            Ok(due) => Err((column, Fault::Disagrees(format!("{} fen", due.0)))),
            Err(_) => Err((column, Fault::TooLarge)),
        }
    }
}
