//! The bank's statement of an account (camt.053.001.08).

use std::io::Write;

use jiff::Timestamp;
use jiff::civil::Date;

use super::node::{Node, instant, number};
use super::sink::Sink;
use super::{ACCOUNT, Form, Message, read_account};
use crate::error::{Fault, FileError};
use crate::money::{Currency, Totals};

/// What an account held before and after its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The bank's name for it, at most 35 characters.
    pub id: String,
    /// When the bank made it.
    pub created: Timestamp,
    /// Its number, from which a missing one is noticed, where the bank counts them.
    pub number: Option<u64>,
    /// The account, at most 34 characters.
    pub account: String,
    /// Before the first entry.
    pub opening: Balance,
    /// After the last: opening and entries must sum to it.
    pub closing: Balance,
    /// The entries, counted and summed, where the bank does so.
    pub summary: Option<Summary>,
}

/// What an account holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    /// Minor units; below zero, the account is overdrawn.
    pub minor: i64,
    /// On which day.
    pub date: Date,
}

/// The entries of a statement, credits and debits apart; both sums are above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Money that came.
    pub credits: Totals,
    /// Money that went.
    pub debits: Totals,
}

/// One booked entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementEntry {
    /// Minor units: above zero money came, below it went.
    pub amount_minor: i64,
    /// The day on which it was booked.
    pub booked: Date,
    /// The day from which it counts for interest.
    pub value: Option<Date>,
    /// The bank's own reference, at most 35 characters.
    pub bank_reference: Option<String>,
    /// What is gathered in the entry; where there is anything, it sums to the entry.
    pub details: Vec<EntryDetail>,
}

/// One payment in an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryDetail {
    /// The name that whoever asked for it gave it: for our collections that of an [`AttemptId`](crate::AttemptId).
    pub end_to_end_id: Option<String>,
    /// Minor units, signed like an entry's.
    pub amount_minor: i64,
}

impl Message for Statement {
    type Item = StatementEntry;
    type Tally = Summary;
    const FORM: Form = Form {
        name: "camt.053.001.08",
        root: "BkToCstmrStmt",
        group: "Stmt",
        item: "Ntry",
        group_may_be_missing: false,
    };

    fn write_head<W: Write>(&self, sink: &mut Sink<W>) -> Result<(), FileError> {
        sink.open("GrpHdr")?;
        sink.text(&["MsgId"], &self.id, 35)?;
        sink.created(self.created)?;
        sink.close()?;
        sink.open("Stmt")?;
        sink.text(&["Id"], &self.id, 35)?;
        if let Some(number) = self.number {
            sink.leaf(&["ElctrncSeqNb"], &number.to_string())?;
        }
        sink.created(self.created)?;
        sink.open("Acct")?;
        sink.text(&["Id", "Othr", "Id"], &self.account, ACCOUNT)?;
        let currency = sink.currency;
        sink.leaf(&["Ccy"], currency.code())?;
        sink.close()?;
        for (code, balance) in [("OPBD", self.opening), ("CLBD", self.closing)] {
            sink.open("Bal")?;
            sink.leaf(&["Tp", "CdOrPrtry", "Cd"], code)?;
            sink.amount("Amt", balance.minor)?;
            sink.direction(balance.minor)?;
            sink.leaf(&["Dt", "Dt"], &balance.date.to_string())?;
            sink.close()?;
        }
        if let Some(summary) = self.summary {
            sink.open("TxsSummry")?;
            for (element, totals) in [("TtlCdtNtries", summary.credits), ("TtlDbtNtries", summary.debits)] {
                sink.open(element)?;
                sink.totals("NbOfNtries", "Sum", totals)?;
                sink.close()?;
            }
            sink.close()?;
        }
        Ok(())
    }

    fn read_head(outer: &Node, group: Option<&Node>, currency: Currency) -> Result<Self, FileError> {
        let group = group.ok_or_else(|| outer.fault("Stmt", Fault::Missing))?;
        let totals = |element| {
            group.totals(&["TxsSummry", element, "NbOfNtries"], &["TxsSummry", element, "Sum"], currency)
        };
        let summary = totals("TtlCdtNtries")?.zip(totals("TtlDbtNtries")?);
        Ok(Self {
            id: group.need_text(&["Id"], 35)?,
            created: outer.need_parse(&["GrpHdr", "CreDtTm"], instant)?,
            number: group.parse(&["ElctrncSeqNb"], number)?,
            account: read_account(group, "Acct")?,
            opening: read_balance(group, "OPBD", currency)?,
            closing: read_balance(group, "CLBD", currency)?,
            summary: summary.map(|(credits, debits)| Summary { credits, debits }),
        })
    }

    fn write_item<W: Write>(item: &StatementEntry, sink: &mut Sink<W>) -> Result<(), FileError> {
        sink.open("Ntry")?;
        sink.amount("Amt", item.amount_minor)?;
        sink.direction(item.amount_minor)?;
        sink.leaf(&["Sts", "Cd"], "BOOK")?;
        sink.leaf(&["BookgDt", "Dt"], &item.booked.to_string())?;
        if let Some(value) = item.value {
            sink.leaf(&["ValDt", "Dt"], &value.to_string())?;
        }
        if let Some(reference) = &item.bank_reference {
            sink.text(&["AcctSvcrRef"], reference, 35)?;
        }
        // The standard wants a code of the kind of transaction, and has one for "not available".
        sink.open("BkTxCd")?;
        sink.open("Domn")?;
        sink.leaf(&["Cd"], "PMNT")?;
        sink.open("Fmly")?;
        sink.leaf(&["Cd"], "NTAV")?;
        sink.leaf(&["SubFmlyCd"], "NTAV")?;
        (0..3).try_for_each(|_| sink.close())?;
        if !item.details.is_empty() {
            sink.open("NtryDtls")?;
            for detail in &item.details {
                sink.open("TxDtls")?;
                if let Some(name) = &detail.end_to_end_id {
                    sink.text(&["Refs", "EndToEndId"], name, 35)?;
                }
                sink.amount("Amt", detail.amount_minor)?;
                sink.direction(detail.amount_minor)?;
                sink.close()?;
            }
            sink.close()?;
        }
        sink.close()
    }

    fn read_item(node: &Node, currency: Currency) -> Result<StatementEntry, FileError> {
        node.need_parse(&["Sts", "Cd"], |code| match code {
            "BOOK" => Ok(()),
            _ => Err(Fault::Constant("BOOK".into())),
        })?;
        let amount_minor = node.directed(currency, None)?;
        let nodes: Vec<&Node> = node.all("NtryDtls").flat_map(|details| details.all("TxDtls")).collect();
        let mut details = Vec::with_capacity(nodes.len());
        for &detail in &nodes {
            let amount_minor = match (detail.get(&["Amt"])?, nodes.len()) {
                (None, 1) => amount_minor,
                _ => detail.directed(currency, Some(amount_minor))?,
            };
            details
                .push(EntryDetail { end_to_end_id: detail.text(&["Refs", "EndToEndId"], 35)?, amount_minor });
        }
        let booked = node.date("BookgDt")?.ok_or_else(|| node.fault("BookgDt", Fault::Missing))?;
        let bank_reference = node.text(&["AcctSvcrRef"], 35)?;
        Ok(StatementEntry { amount_minor, booked, value: node.date("ValDt")?, bank_reference, details })
    }

    fn tally(tally: &mut Summary, item: &StatementEntry) -> Result<(), (&'static str, Fault)> {
        let mut rest = item.amount_minor;
        for detail in &item.details {
            rest = rest.checked_sub(detail.amount_minor).ok_or(("TxDtls/Amt", Fault::TooLarge))?;
        }
        if rest != 0 && !item.details.is_empty() {
            return Err(("Amt", Fault::Disagrees(format!("{rest} minor units less in its details"))));
        }
        let totals = if item.amount_minor < 0 { &mut tally.debits } else { &mut tally.credits };
        let size = item.amount_minor.checked_abs().ok_or(("Amt", Fault::TooLarge))?;
        totals.add(size).map_err(|fault| ("Amt", fault))
    }

    fn agree(&self, tally: &Summary) -> Result<(), (&'static str, Fault)> {
        if let Some(said) = &self.summary {
            super::agree(tally.credits, said.credits, "TtlCdtNtries/NbOfNtries", "TtlCdtNtries/Sum")?;
            super::agree(tally.debits, said.debits, "TtlDbtNtries/NbOfNtries", "TtlDbtNtries/Sum")?;
        }
        let moved = i128::from(tally.credits.sum_minor) - i128::from(tally.debits.sum_minor);
        let closing = i128::from(self.opening.minor) + moved;
        if closing == i128::from(self.closing.minor) {
            Ok(())
        } else {
            Err(("CLBD", Fault::Disagrees(format!("{closing} minor units"))))
        }
    }
}

/// The one balance of a kind; a bank may show others beside it.
fn read_balance(group: &Node, code: &str, currency: Currency) -> Result<Balance, FileError> {
    let mut found = None;
    for node in group.all("Bal") {
        if node.text(&["Tp", "CdOrPrtry", "Cd"], 4)?.as_deref() == Some(code) {
            let date = node.date("Dt")?.ok_or_else(|| node.fault("Dt", Fault::Missing))?;
            if found.replace(Balance { minor: node.directed(currency, None)?, date }).is_some() {
                return Err(node.fault(code, Fault::Twice));
            }
        }
    }
    found.ok_or_else(|| group.fault(code, Fault::Missing))
}
