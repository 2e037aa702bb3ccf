//! Pays out what an e-account of the embedded bank holds to its owner's bound account.
//!
//! Only once nothing of the account's tokens is open: a ride that is not deducted yet would become a debt. Asked again under
//! the same name, it gives the same answer and moves nothing, whatever has come to the account meanwhile.

pub mod api;
#[cfg(test)]
mod tests;

use super::unfinished::{self, Unfinished};
use crate::bank::embedded::pay_out as embedded;
use crate::bank::http::elsewhere;
use crate::cli::{App, AppError};
use crate::config::ConfigError;
use crate::input::{self, TextError};
use crate::store::{Audit, StoreError, audit_in, sql};
use crate::{keep, tokens};
use serde::Serialize;
use utoipa::ToSchema;
use wavepass_fares::Fen;

pub use embedded::Refusal;

/// Why nothing is paid out. The account's name is not repeated.
#[derive(Debug, thiserror::Error)]
pub enum PayOutError {
    /// A name that is none.
    #[error(transparent)]
    Text(#[from] TextError),
    /// Another bank keeps e-accounts.
    #[error("e-accounts are kept by the bank at {0}, not here ([bank] connector = \"http\"): pay out there")]
    Elsewhere(String),
    /// The person was erased.
    #[error("the person of an e-account of this name was erased")]
    Erased,
    /// Something of the account's tokens is open.
    #[error(transparent)]
    Unfinished(#[from] Unfinished),
    /// The bank refuses.
    #[error(transparent)]
    Bank(#[from] embedded::PayOutError),
    /// The account's tokens cannot be read.
    #[error(transparent)]
    Tokens(#[from] tokens::TokensError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The gateway.
    #[error(transparent)]
    App(#[from] AppError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for PayOutError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// What was paid out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PaidOut {
    /// The e-account.
    pub account: String,
    /// The pay-out's name.
    pub name: String,
    /// How much.
    #[schema(value_type = i64)]
    pub paid_fen: Fen,
    /// True where it was paid out before under this name, and nothing was moved now.
    pub already: bool,
}

/// Pays out all that an account holds, once under a name.
pub async fn pay_out(app: &App, user: &str, account: &str, name: &str) -> Result<PaidOut, PayOutError> {
    input::word("an account's name", account)?;
    input::word("a pay-out's name", name)?;
    if let Some(url) = elsewhere(&app.config)? {
        return Err(PayOutError::Elsewhere(url));
    }
    let at = app.now()?;
    let paid = |paid_fen, already| PaidOut { account: account.into(), name: name.into(), paid_fen, already };
    let mut tx = app.store.begin().await?;
    if let Some(before) = embedded::paid_in(&mut tx, account, name).await? {
        return Ok(paid(before, true));
    }
    let tokens = tokens::of_account_in(&mut tx, account).await?;
    let tokens: Vec<_> = tokens.into_iter().map(|token| token.token_key).collect();
    if let Some(first) = unfinished::of_tokens_in(&mut tx, &tokens).await?.into_iter().next() {
        return Err(first.into());
    }
    let amount = match embedded::pay_out_in(&mut tx, account, name, sql::ms(at)).await {
        Err(embedded::PayOutError::Refused(Refusal::Unknown))
            if keep::erased_ms_in(&mut tx, &*app.clearing, account).await?.is_some() =>
        {
            return Err(PayOutError::Erased);
        }
        outcome => outcome?,
    };
    let detail = format!("{name}: {} fen", amount.0);
    audit_in(&mut tx, &Audit { at, user, action: "account.pay_out", subject: account, detail: &detail })
        .await?;
    tx.commit().await?;
    Ok(paid(amount, false))
}
