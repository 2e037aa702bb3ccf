//! The ledger: double-entry and append-only; every transaction sums to zero.
//!
//! It books what clearing and settlement did, one transaction for each charge, each outcome of an attempt and each
//! settlement. A transaction's name derives from what it books, so that booking the same thing twice is refused by the
//! primary key; triggers refuse changes. Debits are positive, credits negative. Rules: docs/architecture.md.

use crate::store::db::{Conn, query, write_many};
use wavepass_fares::{Fen, Overflow};

use crate::store::StoreError;

/// The accounts of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    /// What riders were charged, net of refunds (credit).
    Fares,
    /// Open, declined or not yet asked.
    Owed,
    /// Asked, and no answer yet.
    InDoubt,
    /// Debited by the bank.
    Deducted,
    /// Paid by a campaign.
    Sponsored,
    /// Given up for the rider's sake.
    Waived,
    /// Given up as lost.
    WrittenOff,
    /// The part of owed, waived or written off that the bank bears.
    Covered,
    /// What the operators' settlements were drawn from (debit).
    Settlement,
    /// The net amount due to operators (credit).
    Settled,
    /// What the bank keeps of a settlement (credit).
    Fees,
}

impl Account {
    /// Every account.
    pub const ALL: [Self; 11] = [
        Self::Fares,
        Self::Owed,
        Self::InDoubt,
        Self::Deducted,
        Self::Sponsored,
        Self::Waived,
        Self::WrittenOff,
        Self::Covered,
        Self::Settlement,
        Self::Settled,
        Self::Fees,
    ];

    /// The word the store uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fares => "fares",
            Self::Owed => "owed",
            Self::InDoubt => "in_doubt",
            Self::Deducted => "deducted",
            Self::Sponsored => "sponsored",
            Self::Waived => "waived",
            Self::WrittenOff => "written_off",
            Self::Covered => "covered",
            Self::Settlement => "settlement",
            Self::Settled => "settled",
            Self::Fees => "fees",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|account| account.as_str() == word)
    }
}

/// What a transaction books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A charge was made.
    Charged,
    /// Something of a charge was given back.
    Refunded,
    /// The attempt of this number got no answer.
    InDoubt(u32),
    /// The attempt of this number was approved.
    Deducted(u32),
    /// The attempt of this number, in doubt before, turned out declined.
    Declined(u32),
    /// The approved attempt of this number was reversed.
    Reversed(u32),
    /// The charge was given up for the rider's sake.
    Waived,
    /// The charge was given up as lost.
    WrittenOff,
    /// Something of a charge that was given up is not charged any more: the part of this number was set off against it.
    SetOff(u32),
    /// An operator was settled.
    Settled,
}

impl Event {
    /// Its place among the events of one charge, or of one settlement: four to an attempt, the others below, and what is set off
    /// below zero.
    pub const fn number(self) -> i64 {
        match self {
            Self::Charged | Self::Refunded | Self::Settled => 0,
            Self::Waived => 1,
            Self::WrittenOff => 2,
            Self::SetOff(part) => -(part as i64),
            Self::InDoubt(attempt) => attempt as i64 * 4,
            Self::Deducted(attempt) => attempt as i64 * 4 + 1,
            Self::Declined(attempt) => attempt as i64 * 4 + 2,
            Self::Reversed(attempt) => attempt as i64 * 4 + 3,
        }
    }

    /// The word the store uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Charged => "charged",
            Self::Refunded => "refunded",
            Self::InDoubt(_) => "in_doubt",
            Self::Deducted(_) => "deducted",
            Self::Declined(_) => "declined",
            Self::Reversed(_) => "reversed",
            Self::Waived => "waived",
            Self::WrittenOff => "written_off",
            Self::SetOff(_) => "set_off",
            Self::Settled => "settled",
        }
    }
}

/// Whose a transaction is: the first 16 bytes of every name, by which the ledger would be spread over machines.
pub type Shard = [u8; 16];

/// The shard of an operator's settlements. No token's key begins so: those are HMACs.
pub fn operator_shard(operator: u16) -> Shard {
    let mut shard = *b"operator........";
    shard[14..].copy_from_slice(&operator.to_be_bytes());
    shard
}

/// What names a transaction, and when it counts.
#[derive(Debug, Clone, Copy)]
pub struct Name {
    /// The service day, in days since 1970-01-01.
    pub service_day: i64,
    /// Whose.
    pub shard: Shard,
    /// The charge's part, or the settlement's rank.
    pub part: i64,
    /// What it books.
    pub event: Event,
    /// The end of the service day, in milliseconds since 1970-01-01 UTC: never the wall clock.
    pub at_ms: i64,
}

/// Why the ledger refuses.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The postings do not sum to zero.
    #[error("the postings of a {kind} transaction sum to {sum} fen, not to zero")]
    Unbalanced {
        /// What it would have booked.
        kind: &'static str,
        /// Their sum.
        sum: i64,
    },
    /// A sum is beyond 64 bits.
    #[error(transparent)]
    Overflow(#[from] Overflow),
    /// The store failed, or refused a name that is there already.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store holds an account that is none.
    #[error("the ledger holds an account `{0}` that this version does not know")]
    UnknownAccount(String),
}

impl From<sqlx::Error> for LedgerError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

struct Posting {
    name: Name,
    line: i64,
    account: Account,
    amount: Fen,
}

/// Transactions gathered to be written at once.
#[derive(Default)]
pub struct Entries {
    names: Vec<Name>,
    postings: Vec<Posting>,
}

impl Entries {
    /// Adds a transaction; refused unless its postings sum to zero. Postings of zero are left out.
    pub fn add(&mut self, name: Name, postings: &[(Account, Fen)]) -> Result<(), LedgerError> {
        let sum = Fen::sum(postings.iter().map(|p| p.1))?;
        if !sum.is_zero() {
            return Err(LedgerError::Unbalanced { kind: name.event.as_str(), sum: sum.0 });
        }
        self.names.push(name);
        let lines = postings.iter().filter(|p| !p.1.is_zero()).zip(0..);
        self.postings.extend(lines.map(|(&(account, amount), line)| Posting { name, line, account, amount }));
        Ok(())
    }

    /// Adds a transaction that moves an amount from one account to another.
    pub fn transfer(
        &mut self,
        name: Name,
        amount: Fen,
        from: Account,
        to: Account,
    ) -> Result<(), LedgerError> {
        self.add(name, &[(to, amount), (from, amount.negated()?)])
    }

    /// Writes them all in the caller's transaction. A name that is there already fails the whole.
    pub async fn write_in(&self, conn: &mut Conn) -> Result<(), LedgerError> {
        let names = self
            .names
            .iter()
            .map(|n| (n.service_day, &n.shard, n.part, n.event.number(), n.event.as_str(), n.at_ms));
        let text = "INSERT INTO ledger_transactions (service_day, shard, part, event, kind, at_ms) VALUES ??";
        write_many(conn, text, names).await?;
        let postings = self.postings.iter().map(|p| {
            let n = &p.name;
            (n.service_day, &n.shard, n.part, n.event.number(), p.line, p.account.as_str(), p.amount.0)
        });
        let text = "INSERT INTO ledger_postings (service_day, shard, part, event, line, account, amount_fen) VALUES ??";
        write_many(conn, text, postings).await?;
        Ok(())
    }
}

/// The balance of every account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Balances([Fen; Account::ALL.len()]);

impl Balances {
    /// One account's balance: debits less credits.
    pub fn of(&self, account: Account) -> Fen {
        self.0[account as usize]
    }

    /// What riders were charged in all.
    pub fn charged(&self) -> Result<Fen, Overflow> {
        self.of(Account::Fares).negated()
    }

    /// The sum of all accounts: zero, always.
    pub fn sum(&self) -> Result<Fen, Overflow> {
        Fen::sum(self.0)
    }

    /// Rule 6, first half: charged less deducted, sponsored, owed, in doubt, waived and written off. Zero where it holds.
    pub fn charged_gap(&self) -> Result<Fen, Overflow> {
        use Account::{Deducted, InDoubt, Owed, Sponsored, Waived, WrittenOff};
        let parts = Fen::sum([Deducted, Sponsored, Owed, InDoubt, Waived, WrittenOff].map(|a| self.of(a)))?;
        self.charged()?.minus(parts)
    }
}

/// The balances of one service day, or of all of them.
pub async fn balances_in(conn: &mut Conn, service_day: Option<i64>) -> Result<Balances, LedgerError> {
    let text = "SELECT account, CAST(SUM(amount_fen) AS BIGINT) FROM ledger_postings WHERE service_day = ? GROUP BY account";
    let all = "SELECT account, CAST(SUM(amount_fen) AS BIGINT) FROM ledger_postings GROUP BY account";
    let rows = match service_day {
        Some(day) => query(text).bind(day).fetch_all(conn).await?,
        None => query(all).fetch_all(conn).await?,
    };
    let mut balances = Balances::default();
    for row in rows {
        let word: &str = row.try_get(0)?;
        let account = Account::parse(word).ok_or_else(|| LedgerError::UnknownAccount(word.to_owned()))?;
        balances.0[account as usize] = Fen(row.try_get(1)?);
    }
    Ok(balances)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::scratch;

    fn name(event: Event) -> Name {
        Name { service_day: 20_780, shard: [7; 16], part: 1, event, at_ms: 5 }
    }

    #[test]
    fn a_transaction_that_does_not_sum_to_zero_is_refused() {
        let mut entries = Entries::default();
        let refused =
            entries.add(name(Event::Charged), &[(Account::Owed, Fen(5)), (Account::Fares, Fen(-4))]);
        assert!(matches!(refused, Err(LedgerError::Unbalanced { sum: 1, .. })));
        assert!(entries.names.is_empty());
    }

    #[tokio::test]
    async fn the_same_event_is_booked_once_and_what_is_booked_stays() {
        let scratch = scratch().await;
        let mut tx = scratch.begin().await.unwrap();
        let mut entries = Entries::default();
        entries.transfer(name(Event::Charged), Fen(300), Account::Fares, Account::Owed).unwrap();
        entries.transfer(name(Event::Deducted(1)), Fen(300), Account::Owed, Account::Deducted).unwrap();
        entries.write_in(&mut tx).await.unwrap();
        let balances = balances_in(&mut tx, Some(20_780)).await.unwrap();
        assert_eq!(balances.of(Account::Deducted), Fen(300));
        assert_eq!(balances.of(Account::Owed), Fen(0));
        assert_eq!(balances.charged(), Ok(Fen(300)));
        assert_eq!((balances.sum(), balances.charged_gap()), (Ok(Fen(0)), Ok(Fen(0))));
        assert_eq!(balances_in(&mut tx, Some(1)).await.unwrap(), Balances::default());
        tx.commit().await.unwrap();

        let mut tx = scratch.begin().await.unwrap();
        assert!(entries.write_in(&mut tx).await.is_err());
        drop(tx);
        for change in ["UPDATE ledger_postings SET amount_fen = 1", "DELETE FROM ledger_transactions"] {
            let mut tx = scratch.begin().await.unwrap();
            let refused = query(change).execute(&mut *tx).await.unwrap_err().to_string();
            assert!(refused.contains("append-only"), "{refused}");
        }
    }
}
