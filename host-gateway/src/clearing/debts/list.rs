//! Debts as a person reads them: by token, day and part, a page at a time.

use std::fmt;
use std::str::FromStr;

use crate::store::db::{Row, query};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wavepass_fares::{Fen, ServiceDay};

use super::super::{ClearingError, token_key};
use super::debt_day;
use crate::cli::App;
use crate::keys::TokenKey;
use crate::lists::standing::{Standing, standing_in};
use crate::store::Store;

/// Hexadecimal digits of a token's key, and characters of a day: the fixed lengths in a debt's name.
const KEY_DIGITS: usize = 32;
const DAY_LETTERS: usize = 10;

/// What became of a debt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum DebtState {
    /// It is owed.
    Open,
    /// The bank took it after all.
    Recovered,
    /// It was given up for the rider's sake.
    Waived,
    /// It was given up as lost.
    #[value(name = "written_off")]
    WrittenOff,
}

impl DebtState {
    const ALL: [Self; 4] = [Self::Open, Self::Recovered, Self::Waived, Self::WrittenOff];

    /// The word that stores and screens use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Recovered => "recovered",
            Self::Waived => "waived",
            Self::WrittenOff => "written_off",
        }
    }

    /// Reads the word that the store has.
    pub(super) fn stored(word: &str) -> Result<Self, ClearingError> {
        let state = Self::ALL.into_iter().find(|state| state.as_str() == word);
        state.ok_or_else(|| ClearingError::damaged("a debt's state"))
    }
}

/// The name of a debt: `KEY-YYYY-MM-DD-PART`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DebtId {
    /// The token's key.
    pub token_key: TokenKey,
    /// The day.
    pub day: ServiceDay,
    /// The part.
    pub part: u32,
}

/// A name of a debt that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a debt's name is a token's key, a day and a part, such as 00112233445566778899aabbccddeeff-2026-11-23-1"
)]
pub struct DebtIdError;

impl fmt::Display for DebtId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.token_key.to_hex(), self.day, self.part)
    }
}

impl FromStr for DebtId {
    type Err = DebtIdError;

    fn from_str(text: &str) -> Result<Self, DebtIdError> {
        let key = text.get(..KEY_DIGITS).and_then(TokenKey::from_hex).ok_or(DebtIdError)?;
        let rest = text[KEY_DIGITS..].strip_prefix('-').ok_or(DebtIdError)?;
        let day = rest.get(..DAY_LETTERS).and_then(|day| day.parse().ok()).ok_or(DebtIdError)?;
        let part = rest[DAY_LETTERS..].strip_prefix('-').ok_or(DebtIdError)?;
        Ok(Self { token_key: key, day, part: part.parse().map_err(|_| DebtIdError)? })
    }
}

/// A debt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Debt {
    /// Its name; the next page begins after the last one.
    pub id: String,
    /// The token's key, 32 hexadecimal digits.
    pub token_key: String,
    /// The last four digits of its number; none where nobody registered it.
    pub last_four: Option<String>,
    /// The day.
    #[schema(value_type = String)]
    pub service_day: ServiceDay,
    /// The part of the day's charge.
    pub part: u32,
    /// How much.
    #[schema(value_type = i64)]
    pub amount_fen: Fen,
    /// What became of it.
    pub state: DebtState,
    /// Why the bank declined it last.
    pub reason: String,
    /// How often it was asked for, the deduction itself counted.
    pub attempts: u32,
    /// When the bank declined it last, in milliseconds since 1970-01-01 UTC.
    pub asked_ms: Option<i64>,
}

/// Debts, by token, day and part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Debts {
    /// The debts.
    pub debts: Vec<Debt>,
    /// Where one token's were asked for: what the deny list says of it. Who owes nothing may be refused for another cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deny_list: Option<Standing>,
}

/// Which debts.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Only this token's.
    pub token_key: Option<TokenKey>,
    /// Only those.
    pub state: Option<DebtState>,
    /// Only those after this one: the next page.
    pub after: Option<DebtId>,
    /// At most so many.
    pub limit: u32,
}

/// A page of debts, and how the token stands with the gates where one was asked for.
pub async fn list(app: &App, wanted: Wanted) -> Result<Debts, ClearingError> {
    let debts = page(&app.store, wanted).await?;
    let Some(key) = wanted.token_key else { return Ok(Debts { debts, deny_list: None }) };
    let mut conn = app.store.pool().acquire().await?;
    let standing = standing_in(&mut conn, &*app.clearing, &app.lists, key, None).await;
    let standing =
        standing.map_err(|e| ClearingError::Outside { what: "the deny list", source: e.into() })?;
    Ok(Debts { debts, deny_list: Some(standing) })
}

/// Reads a page of debts.
pub(super) async fn page(store: &Store, wanted: Wanted) -> Result<Vec<Debt>, ClearingError> {
    let after = wanted.after;
    let rows = query(
        "SELECT d.token_key, d.service_day, d.part, d.amount_fen, d.state, d.reason, d.asked_ms, \
         COALESCE(c.attempts, 0), t.last_four FROM debts AS d LEFT JOIN charges AS c \
         ON c.service_day = d.service_day AND c.token_key = d.token_key AND c.part = d.part \
         LEFT JOIN tokens AS t ON t.token_key = d.token_key \
         WHERE (d.token_key, d.service_day, d.part) > (?1, ?2, ?3) AND (?4 IS NULL OR d.token_key = ?4) \
         AND (?5 IS NULL OR d.state = ?5) ORDER BY d.token_key, d.service_day, d.part LIMIT ?6",
    )
    .bind(after.map_or_else(Vec::new, |id| id.token_key.as_slice().to_vec()))
    .bind(after.map_or(0, |id| id.day.number()))
    .bind(after.map_or(0, |id| id.part))
    .bind(wanted.token_key.map(|key| key.as_slice().to_vec()))
    .bind(wanted.state.map(DebtState::as_str))
    .bind(wanted.limit)
    .fetch_all(store.pool())
    .await?;
    rows.iter().map(debt).collect()
}

fn debt(row: &Row) -> Result<Debt, ClearingError> {
    let id = DebtId {
        token_key: token_key(row.try_get(0)?)?,
        day: debt_day(row.try_get(1)?)?,
        part: row.try_get(2)?,
    };
    Ok(Debt {
        id: id.to_string(),
        token_key: id.token_key.to_hex(),
        last_four: row.try_get(8)?,
        service_day: id.day,
        part: id.part,
        amount_fen: Fen(row.try_get(3)?),
        state: DebtState::stored(row.try_get(4)?)?,
        reason: row.try_get(5)?,
        attempts: row.try_get(7)?,
        asked_ms: row.try_get(6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debts_name_is_read_as_it_is_written() {
        let id = DebtId { token_key: TokenKey([0xAB; 16]), day: "2026-11-23".parse().unwrap(), part: 12 };
        assert_eq!(id.to_string(), format!("{}-2026-11-23-12", "ab".repeat(16)));
        assert_eq!(id.to_string().parse(), Ok(id));
        let key = "ab".repeat(16);
        for bad in ["", "ab-2026-11-23-1", &key, &format!("{key}-2026-11-23"), &format!("{key}-2026-13-23-1")]
        {
            assert_eq!(bad.parse::<DebtId>(), Err(DebtIdError), "{bad}");
        }
    }
}
