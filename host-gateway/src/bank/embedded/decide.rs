//! Whether an account bears a debit or takes a credit.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use wavepass_fares::Fen;

use super::accounts::{AccountState, EAccount};
use super::limits::ClassLimits;
use crate::bank::{BankError, Decline};

/// The day and the year of a value date on the calendar by which limits turn over.
pub(super) fn calendar(zone: &TimeZone, value_ms: i64) -> Result<(i64, i64), BankError> {
    let instant = Timestamp::from_millisecond(value_ms).map_err(|e| BankError(e.to_string()))?;
    let date = zone.to_datetime(instant).date();
    Ok((i64::from(date.year()) * 1_000 + i64::from(date.day_of_year()), i64::from(date.year())))
}

/// Decides a debit or credit and books it on the account. Called with the account's present state, and with what of its
/// balance is held for others.
pub(super) fn decide(
    account: &mut EAccount,
    limits: ClassLimits,
    amount: Fen,
    (day, year): (i64, i64),
    held: Fen,
) -> Result<(), Decline> {
    match account.state {
        AccountState::Closed => return Err(Decline::Closed),
        AccountState::Frozen if amount > Fen::ZERO => return Err(Decline::Frozen),
        _ => {}
    }
    let balance = account.balance.minus(amount).map_err(|_| Decline::OverLimit)?;
    if amount <= Fen::ZERO {
        // A credit: money comes in, and only the class's balance is in its way.
        if limits.balance_fen.is_some_and(|most| balance.0 > most) {
            return Err(Decline::OverLimit);
        }
        account.balance = balance;
        return Ok(());
    }
    let spent = |on: i64, now: i64, sum: Fen| if on == now { sum } else { Fen::ZERO }.plus(amount);
    let day_spent = spent(account.spent_on, day, account.day_spent).map_err(|_| Decline::OverLimit)?;
    let year_spent = spent(account.spent_in, year, account.year_spent).map_err(|_| Decline::OverLimit)?;
    if day_spent.0 > limits.day_fen || year_spent.0 > limits.year_fen {
        return Err(Decline::OverLimit);
    }
    if balance < held {
        return Err(Decline::NoFunds);
    }
    account.balance = balance;
    (account.spent_on, account.day_spent) = (day, day_spent);
    (account.spent_in, account.year_spent) = (year, year_spent);
    Ok(())
}
