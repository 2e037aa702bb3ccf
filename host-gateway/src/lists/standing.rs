//! What the deny list says of one token, as people are told it: by its table, and by the list that gates hold.
//!
//! Command line, HTTP and the list of debts answer from here, so that nobody is told that a rider owes nothing while gates
//! refuse the card. A gate that cannot tell a card's expiry for certain, since the card does not sign it, refuses the number
//! whatever the expiry: then the cause stands with another expiry than the card's own, and is told as well.

use super::deny::{DenyError, DenyRow, causes_in, number_in, rows_in};
use super::{ListsError, Published};
use crate::keys::{ClearingKeys, TokenKey};
use crate::store::db::Conn;
use serde::Serialize;
use std::fmt;
use wavepass_protocol::token::{Expiry, Token};

/// How a token stands with the deny list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = DenyState)]
pub struct Standing {
    /// The token's key.
    pub token: String,
    /// Why it is denied: `debt`, `clone`, `lost`, `manual`, `deleted`, `authorisation`, `written_off`, `passback`, `travel`; empty if it is
    /// not.
    pub causes: Vec<&'static str>,
    /// Whether a gate with the newest list refuses it, by the gate's own look-up; absent for a token that is neither
    /// registered nor denied.
    pub refused_at_gates: Option<bool>,
    /// The same of a card that does not sign its expiry: a gate refuses it if its number is denied with any expiry.
    pub refused_if_expiry_unsigned: Option<bool>,
    /// With which other expiries its number is denied, and why; empty where the number is not known.
    pub other_expiries: Vec<OtherExpiry>,
}

/// A number that is denied with another expiry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct OtherExpiry {
    /// The key under which it is denied.
    pub token: String,
    /// Its expiry, YYYY-MM.
    pub expiry: String,
    /// Why.
    pub causes: Vec<&'static str>,
}

/// Looks a token up. `number` is its number and expiry where the caller knows them; else those of the registry or the deny
/// list are taken.
pub async fn standing_in(
    conn: &mut Conn,
    keys: &dyn ClearingKeys,
    published: &Published,
    token_key: TokenKey,
    number: Option<(Token, Expiry)>,
) -> Result<Standing, StandingError> {
    let own = causes_in(conn, &token_key).await?;
    let number = match number {
        None => number_in(conn, keys, &token_key).await?,
        given => given,
    };
    let mut other_expiries: Vec<OtherExpiry> = Vec::new();
    if let Some((token, expiry)) = number {
        for row in with_other_expiries_in(conn, keys, &token, expiry).await? {
            let key = row.token_key.to_hex();
            match other_expiries.last_mut() {
                Some(last) if last.token == key => last.causes.push(row.cause.word()),
                _ => other_expiries.push(OtherExpiry {
                    token: key,
                    expiry: format!("20{:02}-{:02}", row.expiry.year, row.expiry.month),
                    causes: vec![row.cause.word()],
                }),
            }
        }
    }
    Ok(Standing {
        token: token_key.to_hex(),
        causes: own.iter().map(|row| row.cause.word()).collect(),
        refused_at_gates: number.map(|(token, expiry)| published.denies(&token, Some(expiry))),
        refused_if_expiry_unsigned: number.map(|(token, _)| published.denies(&token, None)),
        other_expiries,
    })
}

/// Keys are of number and expiry together, so every expiry that there is is asked for: 1,200 of them.
async fn with_other_expiries_in(
    conn: &mut Conn,
    keys: &dyn ClearingKeys,
    token: &Token,
    own: Expiry,
) -> Result<Vec<DenyRow>, DenyError> {
    let months = (0..=99).flat_map(|year| (1..=12).map(move |month| Expiry { year, month }));
    let cards: Vec<(Token, Expiry)> = months.filter(|e| *e != own).map(|expiry| (*token, expiry)).collect();
    rows_in(conn, &keys.token_keys(&cards)).await
}

/// Why a token cannot be looked up.
#[derive(Debug, thiserror::Error)]
pub enum StandingError {
    /// The deny list's table.
    #[error(transparent)]
    Deny(#[from] DenyError),
    /// The registry.
    #[error(transparent)]
    Lists(#[from] ListsError),
}

/// In one sentence.
impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.causes.as_slice() {
            [] => write!(f, "token {} is not denied", self.token)?,
            causes => write!(f, "token {} is denied: {}", self.token, causes.join(", "))?,
        }
        if let Some(refused) = self.refused_at_gates {
            let gates = if refused { "refuse" } else { "do not refuse" };
            write!(f, "; gates with the newest list {gates} it")?;
            if !refused && self.refused_if_expiry_unsigned == Some(true) {
                write!(f, ", but refuse a card of its number that does not sign its expiry")?;
            }
        }
        for OtherExpiry { token, expiry, causes } in &self.other_expiries {
            write!(f, "; with the expiry {expiry} the number is denied as {token}: {}", causes.join(", "))?;
        }
        Ok(())
    }
}
