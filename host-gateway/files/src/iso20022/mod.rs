//! ISO 20022: the collection to the bank (pain.008), the bank's answers (pain.002), the bank's statement (camt.053).
//!
//! Each message is a head and items, written with [`Writer`] (or [`write()`] over an iterator) and read with [`Reader`]. We write the
//! versions of 2019 that most banks take. A reader takes any prefix and ignores elements that we have no use for; those that we use
//! must be there, once, and right. Both directions are here for all three, because the sandbox bank is the other end. Amounts are
//! minor units of the one currency that a reader or writer is told; a message in another is refused.
//!
//! Text that we write is held to the letters, digits and signs that every bank takes (`a-z A-Z 0-9 / - ? : ( ) . , ' +` and the
//! space), and to the standard's lengths. Text that we read is held to the lengths alone.
//!
//! Why no crate of message types: `open-payments-iso20022` 1.0 keeps amounts as `f64`, holds the whole message in memory, and takes
//! minutes to build; `mx20022-model` 0.3 lacks pain.008. We need some forty elements of thousands. So `quick-xml` reads and
//! writes the XML, and the elements are ours. What is written was checked against the standard's schemas.

mod collection;
mod node;
mod sink;
mod source;
mod statement;
mod status;

use std::io::{BufRead, Write};

pub use collection::{Collection, Creditor, DirectDebit, Mandate};
pub use statement::{Balance, EntryDetail, Statement, StatementEntry, Summary};
pub use status::{Answer, Outcome, Reason, Status, StatusCount, StatusReport};

use crate::error::{Fault, FileError};
use crate::money::{Currency, Totals};
use node::Node;
use sink::Sink;
use source::Source;

/// A message as this module reads and writes it: [`Collection`], [`StatusReport`] or [`Statement`].
pub trait Message: Sized {
    /// What it lists.
    type Item;
    /// What is counted of the items, to be held against the head.
    #[doc(hidden)]
    type Tally: Default;
    #[doc(hidden)]
    const FORM: Form;
    /// Reads the head: what comes before the group, and the group up to its first item.
    #[doc(hidden)]
    fn read_head(outer: &Node, group: Option<&Node>, currency: Currency) -> Result<Self, FileError>;
    /// Writes as much, and leaves the group open.
    #[doc(hidden)]
    fn write_head<W: Write>(&self, sink: &mut Sink<W>) -> Result<(), FileError>;
    #[doc(hidden)]
    fn read_item(node: &Node, currency: Currency) -> Result<Self::Item, FileError>;
    #[doc(hidden)]
    fn write_item<W: Write>(item: &Self::Item, sink: &mut Sink<W>) -> Result<(), FileError>;
    /// Counts an item; the fault names the field that it lies in.
    #[doc(hidden)]
    fn tally(tally: &mut Self::Tally, item: &Self::Item) -> Result<(), (&'static str, Fault)>;
    /// Holds what was counted against the head.
    #[doc(hidden)]
    fn agree(&self, tally: &Self::Tally) -> Result<(), (&'static str, Fault)>;
}

/// Where a message has its parts.
#[doc(hidden)]
pub struct Form {
    /// The name of the message, `pain.008.001.08`.
    name: &'static str,
    /// The element in `Document`.
    root: &'static str,
    /// The element that holds the items.
    group: &'static str,
    /// An item.
    item: &'static str,
    /// Whether a message may have no group.
    group_may_be_missing: bool,
}

impl Form {
    fn namespace(&self) -> String {
        format!("urn:iso:std:iso:20022:tech:xsd:{}", self.name)
    }
}

/// Writes a message item by item.
pub struct Writer<M: Message, W: Write> {
    message: M,
    sink: Sink<W>,
    tally: M::Tally,
}

impl<M: Message, W: Write> Writer<M, W> {
    /// Writes the head.
    pub fn new(out: W, message: M, currency: Currency) -> Result<Self, FileError> {
        let mut sink = Sink::new(out, &M::FORM, currency)?;
        message.write_head(&mut sink)?;
        Ok(Self { message, sink, tally: M::Tally::default() })
    }

    /// Writes an item.
    pub fn push(&mut self, item: &M::Item) -> Result<(), FileError> {
        self.sink.record += 1;
        let record = self.sink.record;
        M::tally(&mut self.tally, item).map_err(|(field, fault)| fault.in_record(record, field))?;
        M::write_item(item, &mut self.sink)
    }

    /// Holds the items against the head, and ends the file.
    pub fn finish(self) -> Result<W, FileError> {
        self.message.agree(&self.tally).map_err(|(field, fault)| fault.in_record(0, field))?;
        self.sink.finish()
    }
}

/// Writes a whole message.
pub fn write<M: Message, W: Write>(
    out: W,
    message: M,
    currency: Currency,
    items: impl IntoIterator<Item = M::Item>,
) -> Result<W, FileError> {
    let mut writer = Writer::new(out, message, currency)?;
    for item in items {
        writer.push(&item)?;
    }
    writer.finish()
}

/// Reads a message item by item; the first error is the last item.
pub struct Reader<M: Message, R: BufRead> {
    source: Source<R>,
    currency: Currency,
    message: M,
    tally: M::Tally,
    /// An item's element is open, or the group's end was read.
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    InItem,
    AfterGroup,
    Done,
}

impl<M: Message, R: BufRead> Reader<M, R> {
    /// Reads the head.
    pub fn new(input: R, currency: Currency) -> Result<Self, FileError> {
        let form = M::FORM;
        let mut source = Source::open(input, &form)?;
        let (outer, has_group) = source.head(form.group)?;
        let (group, state) = if has_group {
            let (group, has_item) = source.head(form.item)?;
            (Some(group), if has_item { State::InItem } else { State::AfterGroup })
        } else if form.group_may_be_missing {
            (None, State::Done)
        } else {
            return Err(outer.fault(form.group, Fault::Missing));
        };
        let message = M::read_head(&outer, group.as_ref(), currency)?;
        if !has_group {
            source.end()?;
        }
        Ok(Self { source, currency, message, tally: M::Tally::default(), state })
    }

    /// The head. Its counts and sums are the file's own until the file has been read to its end.
    pub fn message(&self) -> &M {
        &self.message
    }

    fn advance(&mut self) -> Result<Option<M::Item>, FileError> {
        let form = M::FORM;
        if self.state == State::InItem {
            let node = self.source.node()?;
            let item = M::read_item(&node, self.currency)?;
            M::tally(&mut self.tally, &item).map_err(|(field, fault)| node.fault(field, fault))?;
            // What may follow the items in their group is of no use to us.
            self.state = match self.source.head(form.item)?.1 {
                true => State::InItem,
                false => State::AfterGroup,
            };
            return Ok(Some(item));
        }
        if self.source.head(form.group)?.1 {
            return Err(self.source.fault(form.group, Fault::Twice));
        }
        self.source.end()?;
        self.message.agree(&self.tally).map_err(|(field, fault)| self.source.fault(field, fault))?;
        Ok(None)
    }
}

impl<M: Message, R: BufRead> Iterator for Reader<M, R> {
    type Item = Result<M::Item, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Done {
            return None;
        }
        let item = self.advance().transpose();
        if !matches!(item, Some(Ok(_))) {
            self.state = State::Done;
        }
        item
    }
}

/// Who keeps an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agent {
    /// A bank by its BIC, 8 or 11 characters.
    Bic(String),
    /// A bank by its number in China's payment system, 12 digits.
    Cnaps(String),
}

impl Agent {
    /// Whether it can be one: its text, or what is wrong with it.
    pub fn check(&self) -> Result<&str, Fault> {
        match self {
            Self::Bic(bic) => {
                let plain = bic.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
                if plain && matches!(bic.len(), 8 | 11) { Ok(bic) } else { Err(Fault::Identifier("BIC")) }
            }
            Self::Cnaps(number) if number.len() == 12 && number.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(number)
            }
            Self::Cnaps(_) => Err(Fault::Identifier("12 digits")),
        }
    }

    fn write<W: Write>(&self, sink: &mut Sink<W>, element: &'static str) -> Result<(), FileError> {
        let value = self.check().map_err(|fault| sink.fault(element, fault))?;
        match self {
            Self::Bic(_) => sink.leaf(&[element, "FinInstnId", "BICFI"], value),
            Self::Cnaps(_) => {
                let member = [element, "FinInstnId", "ClrSysMmbId"];
                member.into_iter().try_for_each(|name| sink.open(name))?;
                sink.leaf(&["ClrSysId", "Cd"], "CNAPS")?;
                sink.leaf(&["MmbId"], value)?;
                member.iter().try_for_each(|_| sink.close())
            }
        }
    }

    fn read(parent: &Node, element: &'static str) -> Result<Self, FileError> {
        let node = parent.need(&[element])?;
        let agent = match node.text(&["FinInstnId", "BICFI"], 11)? {
            Some(bic) => Self::Bic(bic),
            None => Self::Cnaps(node.need_text(&["FinInstnId", "ClrSysMmbId", "MmbId"], 35)?),
        };
        agent.check().map_err(|fault| node.fault(element, fault))?;
        Ok(agent)
    }
}

/// The longest account number, `Max34Text`.
const ACCOUNT: usize = 34;

/// Whether a message carries an account of this number.
pub fn check_account(number: &str) -> Result<(), Fault> {
    sink::carries(number, ACCOUNT)
}

/// An account's number: what `Othr` holds, or an IBAN.
fn read_account(parent: &Node, element: &'static str) -> Result<String, FileError> {
    let node = parent.need(&[element, "Id"])?;
    match node.text(&["IBAN"], ACCOUNT)? {
        Some(iban) => Ok(iban),
        None => node.need_text(&["Othr", "Id"], ACCOUNT),
    }
}

/// Holds what was counted against what the head says.
fn agree(
    counted: Totals,
    said: Totals,
    count: &'static str,
    sum: &'static str,
) -> Result<(), (&'static str, Fault)> {
    if counted.count != said.count {
        return Err((count, Fault::Disagrees(counted.count.to_string())));
    }
    if counted.sum_minor != said.sum_minor {
        return Err((sum, Fault::Disagrees(format!("{} minor units", counted.sum_minor))));
    }
    Ok(())
}
