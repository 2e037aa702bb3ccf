//! `[authorisation]`: how long fares are gathered before the bank is asked for them, and what is held or refused until
//! then; for everybody, and otherwise for single operators. A token is under the terms of the operator at whose gate its service day began.

use crate::config::{Config, ConfigError};
use serde::Deserialize;
use wavepass_fares::Fen;

/// The longest that fares are gathered, and that a hold lasts, hours: a month.
const MAX_HOURS: u32 = 744;
const HOUR_MS: i64 = 3_600_000;

/// When the bank is asked for what a token owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Once the service day is closed.
    #[default]
    Day,
    /// For each fare, once its journey is complete.
    Single,
    /// Once fares of a day come to a limit, or are old enough; for the rest at the close.
    Aggregated,
}

/// What the bank is asked to hold from a token's first tap on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreAuthorise {
    /// Nothing.
    #[default]
    None,
    /// The nominal amount.
    Nominal,
    /// The most that the journey may cost.
    MaximumFare,
}

/// What is in force at one operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// When the bank is asked.
    pub mode: Mode,
    /// `Aggregated`: fares of this sum are asked for at once.
    pub cumulative_spend_limit: Fen,
    /// `Aggregated`: fares are asked for so many hours after the first tap among them.
    pub maximum_travel_hours: u32,
    /// What is held.
    pub pre_authorise: PreAuthorise,
    /// The nominal amount.
    pub nominal: Fen,
    /// How long a hold lasts.
    pub hold_hours: u32,
    /// The most that a token may have at risk that was never paid for; `None`: any.
    pub first_ride_limit: Option<Fen>,
}

impl Terms {
    /// True where a token has to be looked at before its day is closed.
    pub fn is_active(&self) -> bool {
        self.mode != Mode::Day || self.pre_authorise != PreAuthorise::None || self.first_ride_limit.is_some()
    }

    /// The maximum travel time, milliseconds.
    pub fn maximum_travel_ms(&self) -> i64 {
        i64::from(self.maximum_travel_hours) * HOUR_MS
    }

    /// How long a hold lasts, milliseconds.
    pub fn hold_ms(&self) -> i64 {
        i64::from(self.hold_hours) * HOUR_MS
    }
}

/// The terms of every operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorisation {
    everybody: Terms,
    operators: Vec<(u16, Terms)>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Section {
    mode: Mode,
    cumulative_spend_limit_fen: i64,
    maximum_travel_hours: u32,
    pre_authorise: PreAuthorise,
    nominal_fen: i64,
    hold_hours: u32,
    first_ride_limit_fen: Option<i64>,
    operators: Vec<Override>,
}

impl Default for Section {
    fn default() -> Self {
        Self {
            mode: Mode::Day,
            cumulative_spend_limit_fen: 5_000,
            maximum_travel_hours: 12,
            pre_authorise: PreAuthorise::None,
            nominal_fen: 100,
            hold_hours: 72,
            first_ride_limit_fen: None,
            operators: Vec::new(),
        }
    }
}

/// What is otherwise at one operator.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Override {
    operator: u16,
    mode: Option<Mode>,
    cumulative_spend_limit_fen: Option<i64>,
    maximum_travel_hours: Option<u32>,
    pre_authorise: Option<PreAuthorise>,
    nominal_fen: Option<i64>,
    hold_hours: Option<u32>,
    first_ride_limit_fen: Option<i64>,
}

impl Authorisation {
    /// Reads `[authorisation]`.
    pub fn of(config: &Config) -> Result<Self, ConfigError> {
        let section: Section = config.section("authorisation")?;
        let everybody = Terms {
            mode: section.mode,
            cumulative_spend_limit: Fen(section.cumulative_spend_limit_fen),
            maximum_travel_hours: section.maximum_travel_hours,
            pre_authorise: section.pre_authorise,
            nominal: Fen(section.nominal_fen),
            hold_hours: section.hold_hours,
            first_ride_limit: section.first_ride_limit_fen.map(Fen),
        };
        check(&everybody)?;
        let mut operators: Vec<(u16, Terms)> = Vec::with_capacity(section.operators.len());
        for other in section.operators {
            let base = everybody.clone();
            let terms = Terms {
                mode: other.mode.unwrap_or(base.mode),
                cumulative_spend_limit: other
                    .cumulative_spend_limit_fen
                    .map_or(base.cumulative_spend_limit, Fen),
                maximum_travel_hours: other.maximum_travel_hours.unwrap_or(base.maximum_travel_hours),
                pre_authorise: other.pre_authorise.unwrap_or(base.pre_authorise),
                nominal: other.nominal_fen.map_or(base.nominal, Fen),
                hold_hours: other.hold_hours.unwrap_or(base.hold_hours),
                first_ride_limit: other.first_ride_limit_fen.map(Fen).or(base.first_ride_limit),
            };
            check(&terms)?;
            if operators.iter().any(|(operator, _)| *operator == other.operator) {
                let why = "each operator stands here once".to_owned();
                return Err(wrong("authorisation.operators.operator", other.operator.to_string(), why));
            }
            operators.push((other.operator, terms));
        }
        Ok(Self { everybody, operators })
    }

    /// What is in force at an operator; `None`: at a gate that nobody knows.
    pub fn terms(&self, operator: Option<u16>) -> &Terms {
        let own = self.operators.iter().find(|(number, _)| Some(*number) == operator);
        own.map_or(&self.everybody, |(_, terms)| terms)
    }

    /// True where some token has to be looked at before its day is closed.
    pub fn is_active(&self) -> bool {
        self.everybody.is_active() || self.operators.iter().any(|(_, terms)| terms.is_active())
    }
}

fn wrong(name: &'static str, value: String, why: String) -> ConfigError {
    ConfigError::Value { name, value, why }
}

fn check(terms: &Terms) -> Result<(), ConfigError> {
    let amounts = [
        ("authorisation.cumulative_spend_limit_fen", Some(terms.cumulative_spend_limit)),
        ("authorisation.nominal_fen", Some(terms.nominal)),
        ("authorisation.first_ride_limit_fen", terms.first_ride_limit),
    ];
    for (name, amount) in amounts {
        if let Some(amount) = amount.filter(|amount| *amount <= Fen::ZERO) {
            return Err(wrong(name, amount.0.to_string(), "an amount is above zero".to_owned()));
        }
    }
    let times = [
        ("authorisation.maximum_travel_hours", terms.maximum_travel_hours),
        ("authorisation.hold_hours", terms.hold_hours),
    ];
    for (name, hours) in times {
        if !(1..=MAX_HOURS).contains(&hours) {
            return Err(wrong(name, hours.to_string(), format!("1 to {MAX_HOURS} hours")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    fn read(text: &str) -> Result<Authorisation, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.toml");
        std::fs::write(&path, text).unwrap();
        Authorisation::of(&Config::load(&Overrides { config: Some(path), ..Overrides::default() }).unwrap())
    }

    #[test]
    fn an_operator_has_its_own_terms_and_else_everybodys() {
        assert!(!read("").unwrap().is_active());
        let text = "[authorisation]\nmode = 'aggregated'\ncumulative_spend_limit_fen = 900\n\
                    [[authorisation.operators]]\noperator = 2\nmode = 'single'\npre_authorise = 'maximum_fare'";
        let read = read(text).unwrap();
        assert!(read.is_active());
        assert_eq!((read.terms(Some(1)).mode, read.terms(None).mode), (Mode::Aggregated, Mode::Aggregated));
        let own = read.terms(Some(2));
        assert_eq!((own.mode, own.pre_authorise), (Mode::Single, PreAuthorise::MaximumFare));
        assert_eq!(own.cumulative_spend_limit, Fen(900));
    }

    #[test]
    fn terms_that_cannot_be_are_named() {
        for (text, name) in [
            ("mode = 'weekly'", "[authorisation]"),
            ("modus = 'day'", "modus"),
            ("nominal_fen = 0", "authorisation.nominal_fen = `0`"),
            ("hold_hours = 0", "authorisation.hold_hours"),
            ("maximum_travel_hours = 9000", "1 to 744 hours"),
            ("operators = [{ operator = 1 }, { operator = 1 }]", "authorisation.operators"),
        ] {
            let refused = read(&format!("[authorisation]\n{text}")).unwrap_err().to_string();
            assert!(refused.contains(name), "{refused}");
        }
    }
}
