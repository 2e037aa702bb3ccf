//! The charges of a batch by a layout: the bytes, the way back, and what cannot be written.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::*;
use wavepass_fares::Fen;
use wavepass_files::fixed::charges::{AMOUNT, ChargesError, NAME, Writer, check};
use wavepass_files::fixed::{self, CHARGES, EXAMPLE, Layout, Value};
use wavepass_files::table::Charge;
use wavepass_files::{AttemptId, Totals};

const GOLDEN: &[u8] = include_bytes!("golden/charges.txt");

/// The layout with one thing in it changed, which must be there.
fn layout(from: &str, to: &str) -> Layout {
    assert!(CHARGES.contains(from), "{from}");
    Layout::parse(&CHARGES.replacen(from, to, 1)).unwrap()
}

fn write_as(layout: &Layout, totals: Totals, charges: &[Charge]) -> Result<Vec<u8>, ChargesError> {
    let mut writer = Writer::new(Vec::new(), layout, &head(Some(42)), totals)?;
    charges.iter().try_for_each(|charge| writer.push(charge))?;
    writer.finish()
}

fn write(layout: &Layout, charges: &[Charge]) -> Result<Vec<u8>, String> {
    let sum = charges.iter().map(|charge| charge.amount.0).sum();
    write_as(layout, totals(charges.len() as u64, sum), charges).map_err(|error| error.to_string())
}

/// Names and amounts, as whoever reconciles takes them.
fn read(layout: &Layout, bytes: &[u8]) -> Vec<(AttemptId, i64)> {
    let records = fixed::Reader::new(bytes, layout).map(Result::unwrap);
    let line = |record: fixed::Record| match (record.values.get(NAME), record.values.get(AMOUNT)) {
        (Some(Value::Text(name)), Some(Value::Amount(minor))) => {
            Some((AttemptId::parse(name).unwrap(), *minor))
        }
        _ => None,
    };
    records.filter_map(line).collect()
}

#[test]
fn the_charges_of_a_batch_have_these_bytes_and_are_read_from_them() {
    let layout = Layout::parse(CHARGES).unwrap();
    assert_eq!(write(&layout, &charges()).unwrap(), GOLDEN);
    let expected = [(attempt(0x0A, 1, 1), 350), (attempt(0x0A, 2, 1), -50), (attempt(0xB0, 1, 1), 1_200)];
    assert_eq!(read(&layout, GOLDEN), expected);
}

#[test]
fn a_batch_without_a_charge_is_a_header_and_a_trailer() {
    let layout = Layout::parse(CHARGES).unwrap();
    let bytes = write(&layout, &[]).unwrap();
    assert_eq!(bytes.iter().filter(|&&byte| byte == b'\n').count(), 2);
    assert_eq!(read(&layout, &bytes), []);
}

#[test]
fn the_first_detail_with_a_name_and_an_amount_is_the_one_that_is_written() {
    let note = "[[record]]\nname = \"note\"\nrole = \"detail\"\nfield = [\n\
                { name = \"record_type\", start = 1, width = 1, kind = \"constant\", value = \"N\" },\n\
                { name = \"words\", start = 2, width = 91, kind = \"text\" },\n]\n\n";
    let charge = "[[record]]\nname = \"charge\"";
    assert_eq!(write(&layout(charge, &format!("{note}{charge}")), &charges()).unwrap(), GOLDEN);
}

/// A layout of one detail.
fn detail(fields: &str) -> Layout {
    let head = "format = 1\ntitle = \"T\"\nencoding = \"ascii\"\nline_end = \"lf\"\n[[record]]\nname = \"line\"\n\
                role = \"detail\"\nfield = [\n";
    Layout::parse(&format!("{head}{fields}]\n")).unwrap()
}

#[test]
fn a_layout_that_lacks_what_reading_needs_is_named() {
    let lacking = "there is no detail with a text `charge` and an amount `amount`";
    let named = "{ name = \"charge\", start = 1, width = 35, kind = \"text\" },\n";
    let amount = "{ name = \"amount\", start = 36, width = 9, kind = \"amount\" },\n";
    for (layout, expected) in [
        (detail(named), lacking),
        (detail(&format!("{named}{}", amount.replace("kind = \"amount\"", "kind = \"number\""))), lacking),
        (detail(&format!("{}{amount}", named.replace("\"charge\"", "\"reference\""))), lacking),
        (detail(&format!("{}{amount}", named.replace("\"text\"", "\"constant\", value = \"C\""))), lacking),
        (
            detail(&format!("{named}{amount}").replace("35", "34").replace("36", "35")),
            "record `line`, field `charge`: is narrower than a charge's name, which has 35 characters",
        ),
    ] {
        assert_eq!(check(&layout).unwrap_err().to_string(), expected);
        assert_eq!(write(&layout, &charges()).unwrap_err(), format!("the layout: {expected}"));
    }
    for layout in [detail(&format!("{named}{amount}")), Layout::parse(EXAMPLE).unwrap()] {
        assert_eq!(check(&layout), Ok(()));
    }
}

#[test]
fn what_a_layout_asks_for_beyond_a_batch_is_named_before_a_byte_is_written() {
    for (from, to, place) in [
        ("\"rank\"", "\"operator\"", "record `header`, field `operator`"),
        ("\"part\"", "\"batch_part\"", "record `charge`, field `batch_part`"),
        ("width = 4, kind = \"number\"", "width = 4, kind = \"text\"", "record `charge`, field `part`"),
        (
            "\"details\", start = 2, width = 8, kind = \"count\"",
            "\"token_key\", start = 2, width = 8, kind = \"text\"",
            "record `trailer`, field `token_key`",
        ),
    ] {
        // A batch without a charge shows that nothing depends on one.
        let refused = write(&layout(from, to), &[]).unwrap_err();
        assert!(refused.starts_with(&format!("the layout: {place}: has a name and kind for")), "{refused}");
    }
    let foreign = write(&Layout::parse(EXAMPLE).unwrap(), &[]).unwrap_err();
    assert!(foreign.starts_with("the layout: record `header`, field `network`: "), "{foreign}");
}

#[test]
fn a_field_that_is_too_narrow_for_a_value_is_named() {
    let example = Layout::parse(CHARGES).unwrap();
    let charge = |part, fen| Charge { token_key: [7; 16], part, amount: Fen(fen) };
    let unsigned = detail(
        "{ name = \"charge\", start = 1, width = 35, kind = \"text\" },\n\
         { name = \"amount\", start = 36, width = 3, kind = \"amount\" },\n\
         { name = \"token_key\", start = 39, width = 32, kind = \"text\" },\n",
    );
    for (layout, charge, expected) in [
        (&example, charge(1, 100_000_000_000), "record 2, amount: is longer than 11"),
        (&example, charge(1, -100_000_000_000), "record 2, amount: is longer than 11"),
        (&example, charge(1_024, 1), "record 2, charge: is too large"),
        (&unsigned, charge(1, 1_000), "record 1, amount: is longer than 3"),
        (&unsigned, charge(1, -1), "record 1, amount: is below zero"),
    ] {
        assert_eq!(write(layout, &[charge]).unwrap_err(), expected);
    }
    let width = "width = 8, kind = \"number\" },\n    { name = \"rank\", start = 40, width = 3";
    let narrow = "width = 1, kind = \"number\" },\n    { name = \"rank\", start = 33, width = 10";
    assert_eq!(write(&layout(width, narrow), &[]).unwrap_err(), "record 1, batch: is longer than 1");
}

#[test]
fn charges_that_are_not_those_of_the_head_or_out_of_order_are_refused() {
    let layout = Layout::parse(CHARGES).unwrap();
    let refused = |totals, charges: &[Charge]| write_as(&layout, totals, charges).unwrap_err().to_string();
    let (few, less) = (totals(2, 1_500), totals(3, 1_499));
    assert_eq!(refused(few, &charges()), "head, charges: does not agree with the content, which gives 3");
    let told = "head, total: does not agree with the content, which gives 1500 minor units";
    assert_eq!(refused(less, &charges()), told);
    let mut swapped = charges();
    swapped.swap(0, 1);
    let told = "record 3, charge: does not come after the one before it";
    assert_eq!(refused(totals(3, 1_500), &swapped), told);
}
