//! The charges of a batch as records of fixed width, and what a layout must have for them to be read back.
//!
//! A layout asks for a value by the name of a field: header and trailer for those of the batch, the detail for those of a charge
//! too. Of several details the first with a charge's name and amount is written. As in the CSV, nothing is written that the batch
//! did not seal.

use std::collections::BTreeMap;
use std::io::Write;

use jiff::tz::Offset;
use wavepass_fares::{Fen, ServiceDay};

use super::layout::{Kind, Layout, LayoutError, RecordLayout, Role};
use super::{Record, Value};
use crate::error::{Fault, FileError};
use crate::lines::hex;
use crate::money::Totals;
use crate::name::{AttemptId, NAME_LEN};
use crate::table::{Charge, Head, Row, Tally};

/// The field of a detail with the charge's name, a text.
pub const NAME: &str = "charge";
/// The field of a detail with what is charged, an amount.
pub const AMOUNT: &str = "amount";
/// The field of a detail with the charge's service day, a date.
pub const DAY: &str = "service_day";

/// Fields for which a batch has a value.
const OF_BATCH: [&str; 6] = [DAY, "created", "batch", "rank", "charges", "total"];
/// Fields for which a charge has one.
const OF_CHARGE: [&str; 4] = [NAME, AMOUNT, "token_key", "part"];

const NO_VALUE: &str = "has a name and kind for which there is no value: of a batch there are service_day, created, batch, rank, charges \
                        and total, of a charge also charge, amount, token_key and part";

/// Why charges are not written by a layout.
#[derive(Debug, thiserror::Error)]
pub enum ChargesError {
    /// The layout is not one for charges.
    #[error("the layout: {0}")]
    Layout(#[from] LayoutError),
    /// A value has no room, or the charges are others than the head says.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Whether charges can be read by a layout.
pub fn check(layout: &Layout) -> Result<(), LayoutError> {
    detail(layout)?;
    Ok(())
}

/// The record of a charge.
fn detail(layout: &Layout) -> Result<&RecordLayout, LayoutError> {
    let amount = |record: &RecordLayout| {
        record.fields.iter().any(|field| field.name == AMOUNT && matches!(field.kind, Kind::Amount { .. }))
    };
    for record in layout.records.iter().filter(|record| record.role == Role::Detail && amount(record)) {
        let name = record.fields.iter().find(|field| field.name == NAME && field.kind == Kind::Text);
        match name {
            Some(field) if field.width < NAME_LEN => {
                let why = "is narrower than a charge's name, which has 35 characters";
                return Err(fault(record, NAME, why));
            }
            Some(_) => return Ok(record),
            None => {}
        }
    }
    Err(LayoutError::Records("there is no detail with a text `charge` and an amount `amount`"))
}

fn fault(record: &RecordLayout, field: &str, why: &'static str) -> LayoutError {
    LayoutError::Field { record: record.name.clone(), field: field.to_owned(), why }
}

type Values = BTreeMap<&'static str, Value>;

/// The values of a batch; times are in UTC.
fn of_batch(head: &Head, totals: Totals) -> Values {
    let day = head.service_day.date();
    let created = Offset::UTC.to_datetime(head.created);
    let values = [
        Value::Date(day.at(0, 0, 0, 0)),
        Value::Date(created),
        Value::Number(head.batch.unwrap_or_default()),
        Value::Number(head.rank.into()),
        Value::Number(totals.count),
        Value::Amount(totals.sum_minor),
    ];
    OF_BATCH.into_iter().zip(values).collect()
}

/// The values of a charge.
fn of_charge(day: ServiceDay, charge: &Charge) -> Result<Values, Fault> {
    // The name of its first attempt, whether or not the bank was ever asked.
    let (token_key, part) = (charge.token_key, charge.part);
    let name = AttemptId { service_day: day, token_key, part, attempt: 1 }.end_to_end_id()?;
    let values = [
        Value::Text(name),
        Value::Amount(charge.amount.0),
        Value::Text(hex(&charge.token_key)),
        Value::Number(charge.part.into()),
    ];
    Ok(OF_CHARGE.into_iter().zip(values).collect())
}

/// A record with those of the values that it has fields for.
fn filled(record: &RecordLayout, values: &Values) -> Result<Record, LayoutError> {
    let mut given = BTreeMap::new();
    for field in record.fields.iter().filter(|field| field.kind.is_given()) {
        match values.get(field.name.as_str()) {
            Some(value) if field.kind.holds(value) => given.insert(field.name.clone(), value.clone()),
            _ => return Err(fault(record, &field.name, NO_VALUE)),
        };
    }
    Ok(Record { name: record.name.clone(), values: given })
}

/// Writes the charges of a batch one by one, in the order of their keys.
pub struct Writer<'l, W: Write> {
    out: super::Writer<'l, W>,
    detail: &'l RecordLayout,
    trailer: Option<Record>,
    day: ServiceDay,
    batch: Values,
    totals: Totals,
    tally: Tally<<Charge as Row>::Key>,
}

impl<'l, W: Write> Writer<'l, W> {
    /// Writes the header; before that, the layout must be one for charges, and ask for nothing that a batch has not.
    pub fn new(out: W, layout: &'l Layout, head: &Head, totals: Totals) -> Result<Self, ChargesError> {
        let batch = of_batch(head, totals);
        let only = |role| layout.records.iter().find(|record| record.role == role);
        let of_batch = |record| filled(record, &batch);
        let header = only(Role::Header).map(of_batch).transpose()?;
        let trailer = only(Role::Trailer).map(of_batch).transpose()?;
        let detail = detail(layout)?;
        let mut writer = Self {
            out: super::Writer::new(out, layout),
            detail,
            trailer,
            day: head.service_day,
            batch,
            totals,
            tally: Tally::new(),
        };
        // Found before a byte is written, and of a batch without a charge too.
        writer.record(&Charge { token_key: [0; 16], part: 1, amount: Fen::ZERO })?;
        if let Some(header) = header {
            writer.out.push(&header)?;
        }
        Ok(writer)
    }

    fn record(&mut self, charge: &Charge) -> Result<Record, ChargesError> {
        let number = self.out.record + 1;
        let mut values = of_charge(self.day, charge).map_err(|fault| fault.in_record(number, NAME))?;
        values.extend(self.batch.iter().map(|(name, value)| (*name, value.clone())));
        Ok(filled(self.detail, &values)?)
    }

    /// Writes a charge.
    pub fn push(&mut self, charge: &Charge) -> Result<(), ChargesError> {
        let record = self.record(charge)?;
        let number = self.out.record + 1;
        self.tally.add(charge).map_err(|(_, fault)| fault.in_record(number, NAME))?;
        Ok(self.out.push(&record)?)
    }

    /// Writes the trailer. It is an error where the charges are not those of the totals.
    pub fn finish(mut self) -> Result<W, ChargesError> {
        let (count, sum) = (self.tally.count, self.tally.total.0);
        if count != self.totals.count {
            return Err(Fault::Disagrees(count.to_string()).in_record(0, "charges").into());
        }
        if sum != self.totals.sum_minor {
            return Err(Fault::Disagrees(format!("{sum} minor units")).in_record(0, "total").into());
        }
        if let Some(trailer) = &self.trailer {
            self.out.push(trailer)?;
        }
        Ok(self.out.finish()?)
    }
}
