//! Classes of e-accounts, and what each may do.

use serde::{Deserialize, Serialize};

/// The class of an e-account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Class II.
    Ii,
    /// Class III: small sums only.
    Iii,
}

impl Class {
    pub(super) const fn number(self) -> i64 {
        match self {
            Self::Ii => 2,
            Self::Iii => 3,
        }
    }

    pub(super) const fn from_number(number: i64) -> Option<Self> {
        match number {
            2 => Some(Self::Ii),
            3 => Some(Self::Iii),
            _ => None,
        }
    }
}

/// What a class of accounts may do, in fen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassLimits {
    /// The most it may hold; `None`: any.
    pub balance_fen: Option<i64>,
    /// The most it may spend in a calendar day.
    pub day_fen: i64,
    /// The most it may spend in a calendar year.
    pub year_fen: i64,
}

/// The limits of both classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of class II.
    pub class_ii: ClassLimits,
    /// Of class III.
    pub class_iii: ClassLimits,
}

impl Default for Limits {
    /// 银发〔2018〕16号, from secondary sources: 10,000 CNY a day and 200,000 a year; class III 2,000 and 50,000, holding at most 2,000.
    fn default() -> Self {
        Self {
            class_ii: ClassLimits { balance_fen: None, day_fen: 1_000_000, year_fen: 20_000_000 },
            class_iii: ClassLimits { balance_fen: Some(200_000), day_fen: 200_000, year_fen: 5_000_000 },
        }
    }
}

impl Limits {
    pub(super) const fn of(&self, class: Class) -> ClassLimits {
        match class {
            Class::Ii => self.class_ii,
            Class::Iii => self.class_iii,
        }
    }
}
