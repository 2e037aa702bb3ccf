//! The tariff file as it is written, field by field. Nothing is checked here but types and names.

use serde::Deserialize;
use toml::Spanned;

use crate::day::ServiceDay;
use crate::network::StationId;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) version: String,
    pub(super) effective_from: Spanned<ServiceDay>,
    pub(super) time_zone: Spanned<String>,
    pub(super) service_day_start: Spanned<String>,
    pub(super) currency: Spanned<String>,
    pub(super) maximum_fare_fen: Spanned<i64>,
    pub(super) single_fare_fen: Spanned<i64>,
    pub(super) maximum_journey_minutes: Spanned<u32>,
    pub(super) passback_seconds: Spanned<u32>,
    pub(super) round_to_fen: Option<Spanned<i64>>,
    pub(super) flat_fare_fen: Option<Spanned<i64>>,
    pub(super) same_station: SameStationFile,
    pub(super) distance_fare: Option<DistanceFile>,
    pub(super) missing_tap: Option<MissingTapFile>,
    pub(super) spend_discount: Option<Spanned<SpendFile>>,
    pub(super) station: Vec<StationFile>,
    #[serde(default)]
    pub(super) line: Vec<LineFile>,
    #[serde(default)]
    pub(super) transfer: Vec<TransferFile>,
    #[serde(default)]
    pub(super) network: Vec<NetworkFile>,
    #[serde(default)]
    pub(super) operator: Vec<OperatorFile>,
    #[serde(default)]
    pub(super) zone_fare: Vec<Spanned<ZoneFareFile>>,
    #[serde(default)]
    pub(super) pair_fare: Vec<PairFareFile>,
    #[serde(default)]
    pub(super) day_type: Vec<DayTypeFile>,
    #[serde(default)]
    pub(super) time_band: Vec<TimeBandFile>,
    #[serde(default)]
    pub(super) category: Vec<CategoryFile>,
    #[serde(default)]
    pub(super) transfer_discount: Vec<Spanned<TransferDiscountFile>>,
    #[serde(default)]
    pub(super) cap: Vec<Spanned<CapFile>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SameStationFile {
    pub(super) free_minutes: Spanned<u32>,
    pub(super) cheapest_minutes: Spanned<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DistanceFile {
    pub(super) base_fen: Spanned<i64>,
    pub(super) base_to_m: Spanned<u32>,
    pub(super) band: Vec<Spanned<BandFile>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BandFile {
    pub(super) to_m: Option<u32>,
    pub(super) every_m: u32,
    pub(super) add_fen: i64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MissingTapFile {
    pub(super) grace_hours: Option<Spanned<u32>>,
    pub(super) corrections_per_month: Option<Spanned<u32>>,
    pub(super) auto_complete_hours: Option<Spanned<u32>>,
    pub(super) auto_completions_per_month: Option<Spanned<u32>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SpendFile {
    pub(super) period: Spanned<PeriodWord>,
    pub(super) week_starts: Option<WeekdayWord>,
    pub(super) days: Option<Spanned<u32>>,
    pub(super) from: Option<ServiceDay>,
    #[serde(default)]
    pub(super) networks: Vec<Spanned<String>>,
    pub(super) step: Vec<Spanned<SpendStepFile>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SpendStepFile {
    pub(super) from_fen: i64,
    pub(super) percent: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StationFile {
    pub(super) code: Spanned<StationId>,
    pub(super) name: String,
    pub(super) network: Option<Spanned<String>>,
    pub(super) operator: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) zones: Vec<Spanned<u32>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LineFile {
    pub(super) code: Spanned<String>,
    pub(super) name: String,
    pub(super) operator: Option<Spanned<String>>,
    pub(super) stations: Vec<Spanned<StationId>>,
    pub(super) segments_m: Vec<Spanned<u32>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TransferFile {
    pub(super) station: Spanned<StationId>,
    pub(super) lines: [Spanned<String>; 2],
    pub(super) walk_m: Spanned<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NetworkFile {
    pub(super) code: Spanned<String>,
    pub(super) name: String,
    pub(super) maximum_fare_fen: Option<Spanned<i64>>,
    pub(super) single_fare_fen: Option<Spanned<i64>>,
    pub(super) maximum_journey_minutes: Option<Spanned<u32>>,
    pub(super) flat_fare_fen: Option<Spanned<i64>>,
    pub(super) distance_fare: Option<DistanceFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OperatorFile {
    pub(super) code: Spanned<String>,
    pub(super) name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ZoneFareFile {
    pub(super) from: Option<Spanned<u32>>,
    pub(super) to: Option<Spanned<u32>>,
    pub(super) crossed: Option<Spanned<u32>>,
    pub(super) fen: Spanned<i64>,
    pub(super) network: Option<Spanned<String>>,
    pub(super) category: Option<Spanned<String>>,
    pub(super) time_band: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PairFareFile {
    pub(super) from: Spanned<StationId>,
    pub(super) to: Spanned<StationId>,
    pub(super) fen: Spanned<i64>,
    #[serde(default)]
    pub(super) one_way: bool,
    pub(super) category: Option<Spanned<String>>,
    pub(super) time_band: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DayTypeFile {
    pub(super) name: Spanned<String>,
    #[serde(default)]
    pub(super) weekdays: Vec<WeekdayWord>,
    #[serde(default)]
    pub(super) dates: Vec<ServiceDay>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TimeBandFile {
    pub(super) name: Spanned<String>,
    #[serde(default)]
    pub(super) day_types: Vec<Spanned<String>>,
    pub(super) from: Spanned<String>,
    pub(super) to: Spanned<String>,
    pub(super) percent: Option<Spanned<u32>>,
    pub(super) add_fen: Option<Spanned<i64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CategoryFile {
    pub(super) name: Spanned<String>,
    pub(super) percent: Option<Spanned<u32>>,
    pub(super) maximum_fare_fen: Option<Spanned<i64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TransferDiscountFile {
    #[serde(default)]
    pub(super) from: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) to: Vec<Spanned<String>>,
    pub(super) within_minutes: Spanned<u32>,
    pub(super) measured_from: MeasuredFrom,
    pub(super) times: Spanned<u32>,
    pub(super) percent_off: Option<Spanned<u32>>,
    pub(super) take_off_fen: Option<Spanned<i64>>,
    #[serde(default)]
    pub(super) pay_dearest: bool,
}

/// What a transfer's time runs from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MeasuredFrom {
    /// The first tap of the first journey of the chain.
    ChainStart,
    /// The first tap of the journey before.
    Start,
    /// The last tap of the journey before.
    End,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CapFile {
    pub(super) name: String,
    pub(super) period: Spanned<PeriodWord>,
    pub(super) week_starts: Option<WeekdayWord>,
    pub(super) days: Option<Spanned<u32>>,
    pub(super) from: Option<ServiceDay>,
    pub(super) limit_fen: Spanned<i64>,
    #[serde(default)]
    pub(super) zones: Vec<Spanned<u32>>,
    #[serde(default)]
    pub(super) networks: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) categories: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) time_bands: Vec<Spanned<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PeriodWord {
    Day,
    Week,
    Days,
    Month,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WeekdayWord {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl From<WeekdayWord> for jiff::civil::Weekday {
    fn from(word: WeekdayWord) -> Self {
        match word {
            WeekdayWord::Monday => Self::Monday,
            WeekdayWord::Tuesday => Self::Tuesday,
            WeekdayWord::Wednesday => Self::Wednesday,
            WeekdayWord::Thursday => Self::Thursday,
            WeekdayWord::Friday => Self::Friday,
            WeekdayWord::Saturday => Self::Saturday,
            WeekdayWord::Sunday => Self::Sunday,
        }
    }
}
