//! Fares: what a token owes for its taps.
//!
//! Pure: no clock, no file, no database. It is handed tariffs and one token's taps and gives journeys, adjustments and
//! charges; the same taps in any order give the same answer. [`tariff`] reads and checks a tariff file, [`network`]
//! finds the shortest ways, [`price`](mod@price) pairs taps and prices the journeys (its page says in which order),
//! [`period`] says over which days caps count, [`emergency`] when missing taps are forgiven, [`price_file`] prices
//! lines of taps, and [`revenue`] compares what two tariffs make of them. Formats: docs/formats.md.

mod adjust;
pub mod day;
pub mod emergency;
pub mod fen;
pub mod network;
mod pairing;
pub mod period;
pub mod price;
pub mod price_file;
pub mod revenue;
pub mod tariff;

pub use day::{DayClock, DayError, ServiceDay};
pub use emergency::{Periods, Switch};
pub use fen::{Fen, Overflow, ShareError, split};
pub use network::StationId;
pub use period::Period;
pub use price::{
    Adjustment, AdjustmentKind, Correction, DayCharge, Journey, Kind, Passage, Place, PriceError, Priced,
    Status, Tap, TapId, Window, price,
};
pub use tariff::{
    Category, CorrectionRules, Fault, Share, ShareMethod, Sharer, StationIndex, Tariff, TariffError, Tariffs,
};
