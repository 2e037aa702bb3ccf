//! The bank, as clearing sees it: a connector that debits e-accounts and answers for each attempt.
//!
//! [`BankConnector`] is all that clearing knows. [`embedded`] is a bank of our own behind it, with e-accounts, limits
//! and a double-entry ledger, for the city and for tests; [`http`] asks a bank at the other end of a socket.

pub mod cli;
pub mod embedded;
pub mod http;
pub mod wire;

use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;

use wavepass_fares::Fen;

use crate::input::{self, TextError};

pub use embedded::EmbeddedBank;

/// The name of an e-account: one word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountName(String);

impl AccountName {
    /// As the store has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccountName {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        input::word("an account's name", text)?;
        Ok(Self(text.to_owned()))
    }
}

/// What a future of the connector looks like, so that connectors can be exchanged at run time.
pub type Reply<'a, T> = Pin<Box<dyn Future<Output = Result<T, BankError>> + Send + 'a>>;

/// The name of an attempt to deduct a charge. A retry keeps it, a new attempt has the next number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId {
    /// The service day, in days since 1970-01-01.
    pub service_day: i32,
    /// The token's key.
    pub token_key: [u8; 16],
    /// The part of the day's charge.
    pub part: u32,
    /// The attempt's number, from 1.
    pub attempt: u32,
}

impl AttemptId {
    /// 28 bytes, in the order of the fields, whose order as bytes is the order of attempts from 1970 on.
    pub fn to_bytes(self) -> [u8; 28] {
        let mut bytes = [0; 28];
        bytes[..4].copy_from_slice(&self.service_day.to_be_bytes());
        bytes[4..20].copy_from_slice(&self.token_key);
        bytes[20..24].copy_from_slice(&self.part.to_be_bytes());
        bytes[24..].copy_from_slice(&self.attempt.to_be_bytes());
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote; `None` for another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 28] = bytes.try_into().ok()?;
        let word = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        let mut token_key = [0; 16];
        token_key.copy_from_slice(&bytes[4..20]);
        Some(Self {
            service_day: i32::from_be_bytes(word(0)),
            token_key,
            part: u32::from_be_bytes(word(20)),
            attempt: u32::from_be_bytes(word(24)),
        })
    }
}

/// A debit, or with a negative amount a credit, that the bank is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeductionRequest {
    /// The attempt.
    pub id: AttemptId,
    /// The e-account.
    pub account_id: String,
    /// What to take; negative: to give back.
    pub amount: Fen,
    /// The value date: the end of the service day, in milliseconds since 1970-01-01 UTC.
    pub value_ms: i64,
}

/// The name of a hold: a token's pre-authorisation. Asked for again, it keeps its name; a new one has the next number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldId {
    /// The token's key.
    pub token_key: [u8; 16],
    /// The hold's number, from 1.
    pub number: u32,
}

impl HoldId {
    /// 20 bytes, in the order of the fields.
    pub fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..16].copy_from_slice(&self.token_key);
        bytes[16..].copy_from_slice(&self.number.to_be_bytes());
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote; `None` for another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (token_key, number) = bytes.split_first_chunk::<16>()?;
        Some(Self { token_key: *token_key, number: u32::from_be_bytes(number.try_into().ok()?) })
    }
}

/// An amount that the bank is asked to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldRequest {
    /// The hold.
    pub id: HoldId,
    /// The e-account.
    pub account_id: String,
    /// What to hold; above zero.
    pub amount: Fen,
    /// When it ends by itself, in milliseconds since 1970-01-01 UTC.
    pub expires_ms: i64,
}

/// A deduction that a hold was made for. The hold ends with it, whatever the amounts and the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The hold; one that has ended or expired is no hindrance.
    pub hold: HoldId,
    /// The deduction.
    pub deduction: DeductionRequest,
}

/// A hold that is not needed any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The hold.
    pub hold: HoldId,
    /// The e-account.
    pub account_id: String,
}

/// Why the bank declined, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Decline {
    /// The balance is too small.
    NoFunds,
    /// A limit of the account's class would be broken: that is not a lack of funds.
    OverLimit,
    /// The account is frozen.
    Frozen,
    /// The account is closed.
    Closed,
    /// There is no such account.
    UnknownAccount,
    /// The token is suspended: the bank is not asked. Neither is it for a hold of a deleted one.
    TokenSuspended,
    /// The attempt's name came before with another amount.
    Mismatch,
    /// For a reason of its own.
    Refused,
}

impl Decline {
    const ALL: [Self; 8] = [
        Self::NoFunds,
        Self::OverLimit,
        Self::Frozen,
        Self::Closed,
        Self::UnknownAccount,
        Self::TokenSuspended,
        Self::Mismatch,
        Self::Refused,
    ];

    /// The word that stores and reports use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoFunds => "no_funds",
            Self::OverLimit => "over_limit",
            Self::Frozen => "frozen",
            Self::Closed => "closed",
            Self::UnknownAccount => "unknown_account",
            Self::TokenSuspended => "token_suspended",
            Self::Mismatch => "mismatch",
            Self::Refused => "refused",
        }
    }

    /// Reads a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|decline| decline.as_str() == word)
    }
}

/// The bank's answer for one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Approved,
    /// Finally not done.
    Declined(Decline),
    /// Nothing is known: the attempt is in doubt.
    NoAnswer,
}

/// A line of the bank's statement: a debit or credit that it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementLine {
    /// The attempt.
    pub id: AttemptId,
    /// What was taken; negative: given back.
    pub amount: Fen,
}

/// The bank could not be asked, or did not answer: nothing is known of any attempt of the call.
#[derive(Debug, thiserror::Error)]
#[error("the bank gave no answer: {0}")]
pub struct BankError(pub String);

/// A bank that holds e-accounts.
pub trait BankConnector: Send + Sync {
    /// Asks for a batch of deductions. Answers come in the order of the requests, one for each. An attempt that was
    /// answered before gets the same answer again and moves no money.
    fn deduct<'a>(&'a self, requests: &'a [DeductionRequest]) -> Reply<'a, Vec<Answer>>;

    /// Asks for a batch of holds. Answers come like those of [`Self::deduct`], and a hold that was answered before gets the
    /// same answer again. What is held is not available to others until it is completed, released or expired.
    fn authorise<'a>(&'a self, requests: &'a [HoldRequest]) -> Reply<'a, Vec<Answer>>;

    /// Deducts for a batch of holds; answers come like those of [`Self::deduct`], by the deductions' names.
    fn complete<'a>(&'a self, completions: &'a [Completion]) -> Reply<'a, Vec<Answer>>;

    /// Ends a batch of holds. Says of each, in the order of the releases, whether the bank answered: then it holds nothing any
    /// more. Ended again, nothing changes.
    fn release<'a>(&'a self, releases: &'a [Release]) -> Reply<'a, Vec<bool>>;

    /// What the bank did for a service day, in the order of attempts, from after one attempt on, at most `limit` lines.
    fn statement(
        &self,
        service_day: i32,
        after: Option<AttemptId>,
        limit: u32,
    ) -> Reply<'_, Vec<StatementLine>>;

    /// Differences inside the bank's own books, where it shows them: one line of text each.
    fn own_differences(&self) -> Reply<'_, Vec<String>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempts_name_survives_its_bytes_and_sorts_like_them() {
        let id = AttemptId { service_day: 20_780, token_key: [9; 16], part: 2, attempt: 3 };
        assert_eq!(AttemptId::from_bytes(&id.to_bytes()), Some(id));
        assert_eq!(AttemptId::from_bytes(&[0; 27]), None);
        let next = AttemptId { attempt: 4, ..id };
        assert!(id < next && id.to_bytes() < next.to_bytes());
    }

    #[test]
    fn a_holds_name_survives_its_bytes() {
        let id = HoldId { token_key: [9; 16], number: 258 };
        assert_eq!(HoldId::from_bytes(&id.to_bytes()), Some(id));
        assert_eq!([0, 16, 19, 21].map(|length| HoldId::from_bytes(&vec![0; length])), [None; 4]);
    }
}
