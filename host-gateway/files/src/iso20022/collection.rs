//! The collection: direct debits that the bank is asked for (pain.008.001.08).

use std::io::Write;

use jiff::Timestamp;
use jiff::civil::Date;

use super::node::{Node, date, instant};
use super::sink::Sink;
use super::{ACCOUNT, Agent, Form, Message, read_account};
use crate::error::{Fault, FileError};
use crate::money::{Currency, Totals};
use crate::name::{AttemptId, MessageId};

/// A message to the bank: the charges of one batch that it should debit. Credits to riders do not fit in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// Its name. The one payment information in it has the same.
    pub id: MessageId,
    /// When the batch was sealed, or whatever else the batch says; never the clock of the moment.
    pub created: Timestamp,
    /// Who collects.
    pub creditor: Creditor,
    /// The day on which the bank should collect.
    pub collect_on: Date,
    /// The direct debits, counted and summed before they are written.
    pub totals: Totals,
}

/// Who collects, and where the money goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creditor {
    /// Its name, at most 140 characters.
    pub name: String,
    /// Its account, at most 34 characters.
    pub account: String,
    /// Who keeps the account.
    pub agent: Agent,
    /// Its number with the direct debit scheme, at most 35 characters, where there is one.
    pub scheme_id: Option<String>,
}

/// One direct debit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectDebit {
    /// Which attempt of which charge it is.
    pub id: AttemptId,
    /// What to take, in minor units: above zero.
    pub amount_minor: i64,
    /// The e-account, at most 34 characters.
    pub account: String,
    /// Who keeps it.
    pub agent: Agent,
    /// What the rider signed, where the bank wants to be told.
    pub mandate: Option<Mandate>,
}

/// A rider's consent to be debited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mandate {
    /// Its number, at most 35 characters.
    pub id: String,
    /// The day of the signature.
    pub signed: Date,
}

/// Direct debits so far, and the last of them.
#[doc(hidden)]
#[derive(Default)]
pub struct Tally {
    totals: Totals,
    last: Option<AttemptId>,
}

/// What stands for the rider's name, which the clearing house does not know.
const NO_NAME: &str = "NOTPROVIDED";

impl Message for Collection {
    type Item = DirectDebit;
    type Tally = Tally;
    const FORM: Form = Form {
        name: "pain.008.001.08",
        root: "CstmrDrctDbtInitn",
        group: "PmtInf",
        item: "DrctDbtTxInf",
        group_may_be_missing: false,
    };

    fn write_head<W: Write>(&self, sink: &mut Sink<W>) -> Result<(), FileError> {
        let id = self.id.to_string();
        sink.open("GrpHdr")?;
        sink.leaf(&["MsgId"], &id)?;
        sink.created(self.created)?;
        sink.totals("NbOfTxs", "CtrlSum", self.totals)?;
        sink.text(&["InitgPty", "Nm"], &self.creditor.name, 140)?;
        sink.close()?;
        sink.open("PmtInf")?;
        sink.leaf(&["PmtInfId"], &id)?;
        sink.leaf(&["PmtMtd"], "DD")?;
        sink.totals("NbOfTxs", "CtrlSum", self.totals)?;
        sink.leaf(&["ReqdColltnDt"], &self.collect_on.to_string())?;
        sink.text(&["Cdtr", "Nm"], &self.creditor.name, 140)?;
        sink.text(&["CdtrAcct", "Id", "Othr", "Id"], &self.creditor.account, ACCOUNT)?;
        self.creditor.agent.write(sink, "CdtrAgt")?;
        if let Some(scheme_id) = &self.creditor.scheme_id {
            sink.text(&["CdtrSchmeId", "Id", "PrvtId", "Othr", "Id"], scheme_id, 35)?;
        }
        Ok(())
    }

    fn read_head(outer: &Node, group: Option<&Node>, currency: Currency) -> Result<Self, FileError> {
        let header = outer.need(&["GrpHdr"])?;
        let group = group.ok_or_else(|| outer.fault("PmtInf", Fault::Missing))?;
        let totals = |node: &Node| {
            let totals = node.totals(&["NbOfTxs"], &["CtrlSum"], currency)?;
            totals.ok_or_else(|| node.fault("NbOfTxs or CtrlSum", Fault::Missing))
        };
        let all = totals(header)?;
        if totals(group)? != all {
            return Err(group.fault("NbOfTxs or CtrlSum", Fault::Disagrees("other numbers in GrpHdr".into())));
        }
        group.need_parse(&["PmtMtd"], |code| {
            if code == "DD" { Ok(()) } else { Err(Fault::Constant("DD".into())) }
        })?;
        Ok(Self {
            id: header.need_parse(&["MsgId"], MessageId::parse)?,
            created: header.need_parse(&["CreDtTm"], instant)?,
            collect_on: group.need_parse(&["ReqdColltnDt"], date)?,
            creditor: Creditor {
                name: group.need_text(&["Cdtr", "Nm"], 140)?,
                account: read_account(group, "CdtrAcct")?,
                agent: Agent::read(group, "CdtrAgt")?,
                scheme_id: group.text(&["CdtrSchmeId", "Id", "PrvtId", "Othr", "Id"], 35)?,
            },
            totals: all,
        })
    }

    fn write_item<W: Write>(item: &DirectDebit, sink: &mut Sink<W>) -> Result<(), FileError> {
        let name = item.id.end_to_end_id().map_err(|fault| sink.fault("EndToEndId", fault))?;
        sink.open("DrctDbtTxInf")?;
        sink.leaf(&["PmtId", "EndToEndId"], &name)?;
        sink.amount("InstdAmt", item.amount_minor)?;
        if let Some(mandate) = &item.mandate {
            sink.open("DrctDbtTx")?;
            sink.open("MndtRltdInf")?;
            sink.text(&["MndtId"], &mandate.id, 35)?;
            sink.leaf(&["DtOfSgntr"], &mandate.signed.to_string())?;
            sink.close()?;
            sink.close()?;
        }
        item.agent.write(sink, "DbtrAgt")?;
        sink.leaf(&["Dbtr", "Nm"], NO_NAME)?;
        sink.text(&["DbtrAcct", "Id", "Othr", "Id"], &item.account, ACCOUNT)?;
        sink.close()
    }

    fn read_item(node: &Node, currency: Currency) -> Result<DirectDebit, FileError> {
        let mandate = match node.get(&["DrctDbtTx", "MndtRltdInf"])? {
            Some(mandate) => Some(Mandate {
                id: mandate.need_text(&["MndtId"], 35)?,
                signed: mandate.need_parse(&["DtOfSgntr"], date)?,
            }),
            None => None,
        };
        Ok(DirectDebit {
            id: node.need_parse(&["PmtId", "EndToEndId"], AttemptId::parse)?,
            amount_minor: node.need_amount(&["InstdAmt"], currency)?,
            account: read_account(node, "DbtrAcct")?,
            agent: Agent::read(node, "DbtrAgt")?,
            mandate,
        })
    }

    /// Attempts come in their order, so that none can be there twice.
    fn tally(tally: &mut Tally, item: &DirectDebit) -> Result<(), (&'static str, Fault)> {
        if item.amount_minor <= 0 {
            return Err(("InstdAmt", Fault::NotPositive));
        }
        if tally.last.is_some_and(|last| last >= item.id) {
            return Err(("EndToEndId", Fault::Order));
        }
        tally.last = Some(item.id);
        tally.totals.add(item.amount_minor).map_err(|fault| ("InstdAmt", fault))
    }

    fn agree(&self, tally: &Tally) -> Result<(), (&'static str, Fault)> {
        super::agree(tally.totals, self.totals, "NbOfTxs", "CtrlSum")
    }
}
