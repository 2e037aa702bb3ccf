//! Clearing: from taps to deducted charges.
//!
//! A service day is closed once, after its end plus the maximum journey time: taps are priced in token order
//! ([`close`]), the charges sealed into a batch ([`batch`]) and deducted through the bank's connector ([`deduct`]). What
//! comes late is priced again and closed as a further batch of the day; so is what riders tell of missing taps
//! ([`corrections`]). What a rider disputes is shown with all its evidence and may be given back ([`disputes`]). Where it is configured, the bank is asked earlier ([`authorisation`]). With the system's clock, what is due happens by itself ([`rounds`]). Each step commits in pieces and goes on where
//! a crash left it. Nothing here reads the wall clock: times of money are the end of the service day. Rules: docs/architecture.md.

pub mod answers;
pub mod api;
pub mod app;
pub mod authorisation;
pub mod batch;
pub(crate) mod changes;
pub mod cli;
pub mod close;
pub mod corrections;
pub mod debts;
pub mod deduct;
pub(crate) mod deleted;
pub mod deny;
pub mod disputes;
mod emergencies;
pub mod files;
mod given_back;
pub mod journey_id;
pub mod pay_out;
pub(crate) mod pricing;
mod refunds;
pub mod report;
pub mod rounds;
mod set_off;
mod taps;
pub mod tariff_cli;
pub mod tariff_day;
pub mod tariffs;
pub mod unfinished;

use std::sync::Arc;

use wavepass_fares::{Overflow, PriceError, ServiceDay, Tariffs};

use crate::bank::{BankConnector, BankError};
use crate::cli::AppError;
use crate::keys::TokenKey;
use crate::ledger::LedgerError;
use crate::settlement::SettlementConfig;
use crate::store::{Store, StoreError};

pub use batch::{Batch, verify_batches};
pub use close::{CloseOptions, CloseSummary};
pub use deduct::{DeductOptions, DeductSummary};
pub use deny::{Debtors, DebtorsError};
pub use report::{Report, report};

/// Why clearing stops. Nothing is half done: what was committed stands, and the same call goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum ClearingError {
    /// The day may still get journeys.
    #[error(
        "service day {day} can be closed from {from} on, its end plus the maximum journey time; force it to close now"
    )]
    TooEarly {
        /// The day.
        day: ServiceDay,
        /// The instant, in the operator's time.
        from: String,
    },
    /// The day is in the future.
    #[error("service day {day} has not begun")]
    NotBegun {
        /// The day.
        day: ServiceDay,
    },
    /// Risk has not yet looked at every tap of the day.
    #[error("service day {day} has taps that risk has not checked yet")]
    Unchecked {
        /// The day.
        day: ServiceDay,
    },
    /// The day is not closed.
    #[error("service day {day} is not closed")]
    NotClosed {
        /// The day.
        day: ServiceDay,
    },
    /// What it takes to price the day, or to show its journeys, is deleted.
    #[error(
        "the taps of service day {day}, or of days that its caps count over, are deleted: what it came to stands"
    )]
    Deleted {
        /// The day.
        day: ServiceDay,
    },
    /// A close of the day was begun, and what it prices must not change under it.
    #[error("a close of service day {day} was begun and is not finished: close it late first")]
    Busy {
        /// The day.
        day: ServiceDay,
    },
    /// One token has more taps in a day than a person can make.
    #[error("token {token_key} has more than {limit} taps around service day {day}")]
    TooManyTaps {
        /// Its key.
        token_key: TokenKey,
        /// The day.
        day: ServiceDay,
        /// The limit.
        limit: usize,
    },
    /// The tariffs have another time zone or start of the service day than the gateway's configuration.
    #[error(
        "the published tariffs have another time zone or start of the service day than the configuration"
    )]
    OtherDay,
    /// The gateway does not know the time.
    #[error(transparent)]
    ClockUnset(AppError),
    /// The day's charges cannot be shared among the operators.
    #[error(transparent)]
    Sharing(Box<crate::settlement::SettlementError>),
    /// A part of the gateway that clearing works with fails.
    #[error("{what}: {source}")]
    Outside {
        /// Which.
        what: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No tariff is published.
    #[error("no tariff is published: publish one first")]
    NoTariff,
    /// A tariff file that is whole, and cannot be published here and now.
    #[error("{file}: {why}")]
    Publication {
        /// The file.
        file: String,
        /// Why.
        why: String,
    },
    /// A published tariff does not compile.
    #[error(transparent)]
    Tariff(#[from] wavepass_fares::TariffError),
    /// A token's taps cannot be priced.
    #[error("token {token_key}: {error}")]
    Price {
        /// Its key.
        token_key: TokenKey,
        /// Why.
        error: PriceError,
    },
    /// A sum is beyond 64 bits.
    #[error(transparent)]
    Overflow(#[from] Overflow),
    /// The ledger refuses.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The bank breaks its own rules; that it does not answer is no error here, but an attempt in doubt.
    #[error("the bank answered {answers} of {requests} requests")]
    Answers {
        /// Answers.
        answers: usize,
        /// Requests.
        requests: usize,
    },
    /// Nobody knows the token.
    #[error("no token {0} was issued here, and none of this key owes or owed anything")]
    NoToken(TokenKey),
    /// The token has no such debt.
    #[error("token {token_key} has no debt of service day {day}{}", part.map(|n| format!(", part {n}")).unwrap_or_default())]
    NoDebt {
        /// Its key.
        token_key: TokenKey,
        /// The day.
        day: ServiceDay,
        /// The part, if one was named.
        part: Option<u32>,
    },
    /// The debt may turn out to be paid.
    #[error(
        "the bank has not answered the last attempt for part {part} of service day {day} of token {token_key}: \
         recover it first, until the bank answers"
    )]
    DebtUnanswered {
        /// The token's key.
        token_key: TokenKey,
        /// The day.
        day: ServiceDay,
        /// The part.
        part: u32,
    },
    /// The debt is paid.
    #[error("what token {token_key} owed of service day {day} is paid: there is nothing to give up")]
    DebtPaid {
        /// The token's key.
        token_key: TokenKey,
        /// The day.
        day: ServiceDay,
    },
    /// The debt was given up otherwise.
    #[error("what token {token_key} owed of service day {day} is {state} already, and stays so")]
    DebtGivenUp {
        /// The token's key.
        token_key: TokenKey,
        /// The day.
        day: ServiceDay,
        /// `waived` or `written_off`.
        state: &'static str,
    },
    /// A reason or note that is not taken.
    #[error(transparent)]
    Text(#[from] crate::input::TextError),
    /// The bank's statement cannot be had.
    #[error(transparent)]
    Bank(#[from] BankError),
    /// The deny list refuses a debtor.
    #[error(transparent)]
    Debtors(#[from] DebtorsError),
    /// A worker thread died.
    #[error("a pricing thread died")]
    Worker,
    /// The store fails, or holds what clearing never wrote.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<AppError> for ClearingError {
    fn from(error: AppError) -> Self {
        match error {
            AppError::Store(error) => Self::Store(error),
            AppError::ClockUnset => Self::ClockUnset(error),
            error => Self::Outside { what: "lists", source: error.into() },
        }
    }
}

impl From<sqlx::Error> for ClearingError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl ClearingError {
    pub(crate) const fn damaged(what: &'static str) -> Self {
        Self::Store(StoreError::Damaged { what })
    }
}

/// What clearing works with.
#[derive(Clone)]
pub struct Clearing {
    /// The store.
    pub store: Store,
    /// The tariffs in force.
    pub tariffs: Arc<Tariffs>,
    /// The bank.
    pub bank: Arc<dyn BankConnector>,
    /// Who keeps debtors off the gates.
    pub debtors: Arc<dyn Debtors>,
    /// How the charges of days that are closed from now on are shared among operators.
    pub settlement: Arc<SettlementConfig>,
    /// The present, in milliseconds since 1970-01-01 UTC: when the bank was asked, never a time of money.
    pub now_ms: i64,
    /// Attempts in one call of the bank, and in one transaction; above zero.
    pub deduct_page: usize,
}

impl Clearing {
    /// The instant that rows of money of a day carry: its end.
    pub(crate) fn value_ms(&self, day: ServiceDay) -> i64 {
        self.tariffs.clock().end_ms(day)
    }
}

/// A token's key as a column of the store has it.
pub(crate) fn token_key(bytes: &[u8]) -> Result<TokenKey, ClearingError> {
    TokenKey::from_slice(bytes).ok_or_else(|| ClearingError::damaged("a token key"))
}

/// A service day as 32 bits, as attempts carry it.
pub(crate) fn day_number(day: ServiceDay) -> i32 {
    // Days lie within the years 1900 to 2999.
    i32::try_from(day.number()).unwrap_or(0)
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
pub(crate) mod tests;
