//! Fares: what a token owes for its taps.
//!
//! Pure: no clock, no file, no database. It is handed tariffs and one token's taps and gives journeys, adjustments and
//! charges; the same taps in any order give the same answer. [`tariff`] reads and checks a tariff file, [`network`]
//! finds the shortest ways, [`price`](mod@price) pairs taps and prices the journeys, [`emergency`]
//! says when missing taps are forgiven. Formats: docs/formats.md.

pub mod day;
pub mod emergency;
pub mod fen;
pub mod network;
pub mod price;
pub mod tariff;

pub use day::{DayClock, DayError, ServiceDay};
pub use emergency::{Periods, Switch};
pub use fen::{Fen, Overflow, ShareError, split};
pub use network::StationId;
pub use price::{
    Adjustment, DayCharge, Journey, Kind, Passage, PriceError, Priced, Status, Tap, TapId, Window, price,
};
pub use tariff::{Fault, StationIndex, Tariff, TariffError, Tariffs};
