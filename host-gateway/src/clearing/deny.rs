//! Debtors and the one deny list: clearing says who owes and who no longer does, the list's owner does the rest.

use std::future::Future;
use std::pin::Pin;

use crate::store::db::Conn;

use crate::keys::TokenKey;

/// The deny list's owner failed.
#[derive(Debug, thiserror::Error)]
#[error("the deny list: {0}")]
pub struct DebtorsError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// A change of the deny list in the caller's transaction.
pub type Change<'a> = Pin<Box<dyn Future<Output = Result<(), DebtorsError>> + Send + 'a>>;

/// Who keeps off the gates those whom the bank does not pay for. All changes are idempotent.
pub trait Debtors: Send + Sync {
    /// Puts tokens on the list for their debts.
    fn deny<'a>(&'a self, conn: &'a mut Conn, tokens: &'a [TokenKey]) -> Change<'a>;

    /// Takes tokens off that owe nothing any more, and says why. Entries for other causes stay.
    fn release<'a>(&'a self, conn: &'a mut Conn, tokens: &'a [TokenKey], why: &'static str) -> Change<'a>;

    /// Puts a token on the list whose debt is written off, by whose word and why; one that nobody registered cannot be.
    fn deny_written_off<'a>(
        &'a self,
        conn: &'a mut Conn,
        token: TokenKey,
        by: &'a str,
        why: &'a str,
    ) -> Change<'a>;

    /// Takes a token off that was denied for what was written off.
    fn readmit<'a>(&'a self, conn: &'a mut Conn, token: TokenKey, by: &'a str, why: &'a str) -> Change<'a>;

    /// Puts tokens on the list that the bank does not vouch for, each with the word that says why.
    fn distrust<'a>(&'a self, conn: &'a mut Conn, tokens: &'a [(TokenKey, &'static str)]) -> Change<'a>;

    /// Takes tokens off that the bank vouches for again, by a hold or a deduction.
    fn trust<'a>(&'a self, conn: &'a mut Conn, tokens: &'a [TokenKey]) -> Change<'a>;
}
