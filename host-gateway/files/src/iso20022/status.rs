//! The bank's answers to a collection (pain.002.001.10).

use std::collections::BTreeMap;
use std::io::Write;

use jiff::Timestamp;

use super::node::{Node, instant, number};
use super::sink::Sink;
use super::{Form, Message};
use crate::error::{Fault, FileError};
use crate::money::{Currency, Totals};
use crate::name::{AttemptId, MessageId};

/// What the bank says of a collection as a whole. A bank that refuses all of it may answer with no single direct debit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusReport {
    /// The bank's name for this report, at most 35 characters.
    pub id: String,
    /// When the bank made it.
    pub created: Timestamp,
    /// The collection that it answers.
    pub original: MessageId,
    /// The collection's totals, as the bank read them, where it repeats them.
    pub original_totals: Option<Totals>,
    /// What became of the collection as a whole, where the bank says it.
    pub status: Option<Status>,
    /// Why.
    pub reason: Option<Reason>,
    /// How many answers there are of each status. What a report counts, it must list.
    pub counts: Vec<StatusCount>,
}

/// How many answers of a status a report has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusCount {
    /// The status.
    pub status: Status,
    /// How many.
    pub count: u64,
    /// Their sum in minor units, where the bank says it.
    pub sum_minor: Option<i64>,
}

/// What the bank says of one direct debit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The attempt.
    pub id: AttemptId,
    /// What became of it.
    pub status: Status,
    /// Why.
    pub reason: Option<Reason>,
    /// What was asked for, in minor units, where the bank repeats it.
    pub amount_minor: Option<i64>,
}

/// A status of ISO 20022's code lists, of those that answer a direct debit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// RCVD: received.
    Received,
    /// PDNG: pending.
    Pending,
    /// ACTC: accepted after checks of its form.
    TechnicallyAccepted,
    /// ACCP: accepted after checks of the customer.
    Accepted,
    /// ACSP: being settled.
    Settling,
    /// ACWC: accepted with a change.
    AcceptedWithChange,
    /// ACSC: settled on the debtor's account.
    Settled,
    /// ACCC: settled on the creditor's account.
    Credited,
    /// PART: some of a collection is accepted and some is not.
    Partial,
    /// RJCT: refused.
    Rejected,
}

/// What a status means for an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The money has moved.
    Done,
    /// It will not move.
    Refused,
    /// Nothing is final: the attempt stays in doubt.
    Open,
}

const CODES: [(Status, &str); 10] = [
    (Status::Received, "RCVD"),
    (Status::Pending, "PDNG"),
    (Status::TechnicallyAccepted, "ACTC"),
    (Status::Accepted, "ACCP"),
    (Status::Settling, "ACSP"),
    (Status::AcceptedWithChange, "ACWC"),
    (Status::Settled, "ACSC"),
    (Status::Credited, "ACCC"),
    (Status::Partial, "PART"),
    (Status::Rejected, "RJCT"),
];

impl Status {
    /// Its code.
    pub fn code(self) -> &'static str {
        CODES.iter().find(|(status, _)| *status == self).map_or("", |(_, code)| code)
    }

    /// Reads a code.
    pub fn parse(code: &str) -> Result<Self, Fault> {
        CODES.iter().find(|(_, known)| *known == code).map(|(status, _)| *status).ok_or(Fault::Code)
    }

    /// What it means for an attempt.
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Settled | Self::Credited => Outcome::Done,
            Self::Rejected => Outcome::Refused,
            _ => Outcome::Open,
        }
    }
}

/// Why the bank refuses: a code of ISO 20022's list of reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// AC01: there is no such account.
    UnknownAccount,
    /// AC04: the account is closed.
    Closed,
    /// AC06: the account is blocked.
    Blocked,
    /// AM04: the balance is too small.
    InsufficientFunds,
    /// AM09: the attempt's name came before with another amount.
    WrongAmount,
    /// AM14: a limit of the account would be broken.
    LimitExceeded,
    /// Any other, at most 35 characters.
    Other(String),
}

impl Reason {
    /// Its code.
    pub fn code(&self) -> &str {
        match self {
            Self::UnknownAccount => "AC01",
            Self::Closed => "AC04",
            Self::Blocked => "AC06",
            Self::InsufficientFunds => "AM04",
            Self::WrongAmount => "AM09",
            Self::LimitExceeded => "AM14",
            Self::Other(code) => code,
        }
    }

    /// The reason of a code.
    pub fn of(code: &str) -> Self {
        match code {
            "AC01" => Self::UnknownAccount,
            "AC04" => Self::Closed,
            "AC06" => Self::Blocked,
            "AM04" => Self::InsufficientFunds,
            "AM09" => Self::WrongAmount,
            "AM14" => Self::LimitExceeded,
            other => Self::Other(other.to_owned()),
        }
    }

    fn write<W: Write>(&self, sink: &mut Sink<W>) -> Result<(), FileError> {
        // A code of the standard's list has at most four characters.
        let element = if self.code().len() <= 4 { "Cd" } else { "Prtry" };
        sink.text(&["StsRsnInf", "Rsn", element], self.code(), 35)
    }

    /// The first reason that a node gives.
    fn read(node: &Node) -> Result<Option<Self>, FileError> {
        let Some(information) = node.all("StsRsnInf").next() else { return Ok(None) };
        let code = match information.text(&["Rsn", "Cd"], 4)? {
            Some(code) => Some(code),
            None => information.text(&["Rsn", "Prtry"], 35)?,
        };
        Ok(code.as_deref().map(Self::of))
    }
}

/// Answers so far by status: how many, and their sum while all of them say it.
#[doc(hidden)]
pub type Tally = BTreeMap<Status, (u64, Option<i64>)>;

const AMOUNT: [&str; 3] = ["OrgnlTxRef", "Amt", "InstdAmt"];

impl Message for StatusReport {
    type Item = Answer;
    type Tally = Tally;
    const FORM: Form = Form {
        name: "pain.002.001.10",
        root: "CstmrPmtStsRpt",
        group: "OrgnlPmtInfAndSts",
        item: "TxInfAndSts",
        group_may_be_missing: true,
    };

    fn write_head<W: Write>(&self, sink: &mut Sink<W>) -> Result<(), FileError> {
        sink.open("GrpHdr")?;
        sink.text(&["MsgId"], &self.id, 35)?;
        sink.created(self.created)?;
        sink.close()?;
        let original = self.original.to_string();
        sink.open("OrgnlGrpInfAndSts")?;
        sink.leaf(&["OrgnlMsgId"], &original)?;
        sink.leaf(&["OrgnlMsgNmId"], super::Collection::FORM.name)?;
        if let Some(totals) = self.original_totals {
            sink.totals("OrgnlNbOfTxs", "OrgnlCtrlSum", totals)?;
        }
        if let Some(status) = self.status {
            sink.leaf(&["GrpSts"], status.code())?;
        }
        if let Some(reason) = &self.reason {
            reason.write(sink)?;
        }
        for count in &self.counts {
            sink.open("NbOfTxsPerSts")?;
            sink.leaf(&["DtldNbOfTxs"], &count.count.to_string())?;
            sink.leaf(&["DtldSts"], count.status.code())?;
            if let Some(sum) = count.sum_minor {
                sink.sum("DtldCtrlSum", sum)?;
            }
            sink.close()?;
        }
        sink.close()?;
        sink.open("OrgnlPmtInfAndSts")?;
        sink.leaf(&["OrgnlPmtInfId"], &original)
    }

    fn read_head(outer: &Node, group: Option<&Node>, currency: Currency) -> Result<Self, FileError> {
        let header = outer.need(&["GrpHdr"])?;
        let original = outer.need(&["OrgnlGrpInfAndSts"])?;
        // A bank may say in the group, which is the collection's only one, what it could say of the whole.
        let (mut status, mut reason) = (original.parse(&["GrpSts"], Status::parse)?, Reason::read(original)?);
        let mut counts = Vec::new();
        for node in [Some(original), group].into_iter().flatten() {
            if counts.is_empty() {
                counts = node
                    .all("NbOfTxsPerSts")
                    .map(|node| read_count(node, currency))
                    .collect::<Result<_, _>>()?;
            }
        }
        if let (Some(group), None) = (group, status) {
            status = group.parse(&["PmtInfSts"], Status::parse)?;
            reason = reason.or(Reason::read(group)?);
        }
        Ok(Self {
            id: header.need_text(&["MsgId"], 35)?,
            created: header.need_parse(&["CreDtTm"], instant)?,
            original: original.need_parse(&["OrgnlMsgId"], MessageId::parse)?,
            original_totals: original.totals(&["OrgnlNbOfTxs"], &["OrgnlCtrlSum"], currency)?,
            status,
            reason,
            counts,
        })
    }

    fn write_item<W: Write>(item: &Answer, sink: &mut Sink<W>) -> Result<(), FileError> {
        let name = item.id.end_to_end_id().map_err(|fault| sink.fault("OrgnlEndToEndId", fault))?;
        sink.open("TxInfAndSts")?;
        sink.leaf(&["OrgnlEndToEndId"], &name)?;
        sink.leaf(&["TxSts"], item.status.code())?;
        if let Some(reason) = &item.reason {
            reason.write(sink)?;
        }
        if let Some(amount) = item.amount_minor {
            sink.open("OrgnlTxRef")?;
            sink.open("Amt")?;
            sink.amount("InstdAmt", amount)?;
            sink.close()?;
            sink.close()?;
        }
        sink.close()
    }

    fn read_item(node: &Node, currency: Currency) -> Result<Answer, FileError> {
        Ok(Answer {
            id: node.need_parse(&["OrgnlEndToEndId"], AttemptId::parse)?,
            status: node.need_parse(&["TxSts"], Status::parse)?,
            reason: Reason::read(node)?,
            amount_minor: node.amount(&AMOUNT, currency)?,
        })
    }

    fn tally(tally: &mut Tally, item: &Answer) -> Result<(), (&'static str, Fault)> {
        if item.amount_minor.is_some_and(|amount| amount <= 0) {
            return Err(("InstdAmt", Fault::NotPositive));
        }
        let (count, sum) = tally.entry(item.status).or_insert((0, Some(0)));
        *count += 1;
        *sum = match (*sum, item.amount_minor) {
            (Some(sum), Some(amount)) => Some(sum.checked_add(amount).ok_or(("InstdAmt", Fault::TooLarge))?),
            _ => None,
        };
        Ok(())
    }

    fn agree(&self, tally: &Tally) -> Result<(), (&'static str, Fault)> {
        for said in &self.counts {
            let (count, sum) = tally.get(&said.status).copied().unwrap_or((0, Some(0)));
            if count != said.count {
                return Err(("DtldNbOfTxs", Fault::Disagrees(count.to_string())));
            }
            if let (Some(said), Some(sum)) = (said.sum_minor, sum)
                && said != sum
            {
                return Err(("DtldCtrlSum", Fault::Disagrees(format!("{sum} minor units"))));
            }
        }
        Ok(())
    }
}

fn read_count(node: &Node, currency: Currency) -> Result<StatusCount, FileError> {
    Ok(StatusCount {
        status: node.need_parse(&["DtldSts"], Status::parse)?,
        count: node.need_parse(&["DtldNbOfTxs"], number)?,
        sum_minor: node.parse(&["DtldCtrlSum"], |text| currency.minor(text))?,
    })
}
