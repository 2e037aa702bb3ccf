//! What can be wrong with a tariff, and where.

use super::{MAX_FILE_BYTES, ServiceDay, StationId};

/// What is wrong with a tariff.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Fault {
    /// The file is longer than [`MAX_FILE_BYTES`].
    #[error("the file has {0} bytes; the limit is {MAX_FILE_BYTES}")]
    TooLong(usize),
    /// Not TOML, a field missing, misspelt or of the wrong type.
    #[error("{0}")]
    Syntax(String),
    /// Not a time zone of the IANA database.
    #[error("`{0}` is not a time zone of the IANA database")]
    TimeZone(String),
    /// Not a local time of day.
    #[error("`{0}` is not a time of day like 04:00")]
    DayStart(String),
    /// Only CNY, whose hundredth part is the fen, is supported.
    #[error("currency `{0}`: only CNY is supported")]
    Currency(String),
    /// A number outside what its field allows.
    #[error("{field} is {value}; it must lie between {least} and {most}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// What the file says.
        value: i64,
        /// The least it may be.
        least: i64,
        /// The most it may be.
        most: i64,
    },
    /// The bands of the distance fare do not rise, or only the last may lack `to_m`.
    #[error("band {0} of the distance fare: `to_m` must rise, and only the last band has none")]
    Bands(usize),
    /// Two stations with one code.
    #[error("station `{0}` is there twice")]
    DuplicateStation(StationId),
    /// Two lines with one code.
    #[error("line `{0}` is there twice")]
    DuplicateLine(String),
    /// Two things of a kind with one name.
    #[error("{what} `{name}` is there twice")]
    Duplicate {
        /// What kind.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Two fares for the same riders between the same places at the same times.
    #[error("an earlier fare is for the same riders, places and times")]
    DuplicateFare,
    /// A line or transfer names a station that is not in the list.
    #[error("there is no station `{0}`")]
    UnknownStation(StationId),
    /// A name that is not in its list.
    #[error("there is no {what} `{name}`")]
    Unknown {
        /// Of what kind.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// There are networks, and a station says none.
    #[error("station `{0}` has no network")]
    NoNetwork(StationId),
    /// A fare of zones must say either which or how many.
    #[error("a zone fare has either `from` and `to`, or `crossed`")]
    ZoneFare,
    /// A fare between stations that no journey joins.
    #[error("stations `{0}` and `{1}` are in different networks")]
    TwoNetworks(StationId, StationId),
    /// A transfer names a line that is not in the list, or that does not call at the station.
    #[error("line `{line}` does not call at station `{station}`")]
    NotOnLine {
        /// The line.
        line: String,
        /// The station.
        station: StationId,
    },
    /// A line calls twice at one station in a row, or a transfer joins a line to itself.
    #[error("`{0}` is joined to itself")]
    Loop(String),
    /// A line needs two stations, and one distance less than stations.
    #[error(
        "line `{line}` has {stations} stations and {segments} distances; it needs at least 2, and one distance less"
    )]
    Segments {
        /// The line.
        line: String,
        /// Its stations.
        stations: usize,
        /// Its distances.
        segments: usize,
    },
    /// No way leads from one station to the other: no fare by distance could be told.
    #[error("no way leads from station `{0}` to station `{1}`")]
    NotConnected(StationId, StationId),
    /// No rule of the tariff prices a journey.
    #[error("no fare leads from station `{0}` to station `{1}`")]
    NoFare(StationId, StationId),
    /// A fare would be above the maximum fare, so that forgetting to tap out would pay.
    #[error("the fare from `{from}` to `{to}` is {fare_fen} fen, above maximum_fare_fen {maximum_fen}")]
    AboveMaximum {
        /// From.
        from: StationId,
        /// To.
        to: StationId,
        /// Its fare.
        fare_fen: i64,
        /// The maximum.
        maximum_fen: i64,
    },
    /// `week_starts` belongs to weeks, `days` and `from` to periods of days, which need both.
    #[error(
        "`week_starts` goes with period `week`; period `days` needs `days` and `from`, and no other has them"
    )]
    Period,
    /// A transfer discount says how much in exactly one way.
    #[error("a transfer discount has exactly one of `percent_off`, `take_off_fen` and `pay_dearest`")]
    TransferOff,
    /// The steps of the spend discount do not rise.
    #[error("step {0} of the spend discount: `from_fen` must rise")]
    Steps(usize),
    /// A rule about missing taps lacks its other half.
    #[error("`{0}` and `{1}` go together")]
    Together(&'static str, &'static str),
    /// Fares by category or time band for so many stations need too much memory.
    #[error("{stations} stations with {tables} tables of fares are more than {most} fares")]
    TooManyFares {
        /// Stations.
        stations: usize,
        /// Tables: one for each category and time band that fares name.
        tables: usize,
        /// The most fares.
        most: usize,
    },
    /// Two tariffs begin on one day.
    #[error("two tariffs are effective from {0}")]
    DuplicateDate(ServiceDay),
    /// All versions of a city's tariff share the time zone and the start of the day, or days would gap or overlap.
    #[error("version {0} has another time zone or start of the service day than the version before")]
    OtherDay(String),
    /// There is no tariff at all.
    #[error("there is no tariff")]
    None,
}

/// A fault and where it is.
#[derive(Debug, Clone, PartialEq)]
pub struct TariffError {
    /// The file's name as it was given.
    pub file: String,
    /// The line, from 1, where one is to blame.
    pub line: Option<usize>,
    /// What is wrong.
    pub fault: Fault,
}

impl std::fmt::Display for TariffError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.fault),
            None => write!(f, "{}: {}", self.file, self.fault),
        }
    }
}

impl std::error::Error for TariffError {}
