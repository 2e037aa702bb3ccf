//! The bytes of every format, as they are in `tests/golden`, and what they are read as.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::*;
use wavepass_files::fixed::{CHARGES, EXAMPLE, Layout};
use wavepass_files::iso20022::{self, Message};
use wavepass_files::table::{self, Row};
use wavepass_files::{Currency, fixed};

/// Both ways: the values give the bytes, and the bytes the values.
fn message<M: Message + Clone + PartialEq + std::fmt::Debug>((head, items): (M, Vec<M::Item>), golden: &str)
where
    M::Item: Clone + PartialEq + std::fmt::Debug,
{
    let written = iso20022::write(Vec::new(), head.clone(), Currency::CNY, items.clone()).unwrap();
    assert_eq!(String::from_utf8(written).unwrap(), golden);
    let mut reader = iso20022::Reader::<M, _>::new(golden.as_bytes(), Currency::CNY).unwrap();
    assert_eq!(reader.message(), &head);
    assert_eq!(reader.by_ref().collect::<Result<Vec<_>, _>>().unwrap(), items);
    assert!(reader.next().is_none());
}

fn csv<T: Row + Clone + PartialEq + std::fmt::Debug>(batch: Option<u64>, rows: Vec<T>, golden: &str) {
    let written = table::write(Vec::new(), &head(batch), rows.clone()).unwrap();
    assert_eq!(String::from_utf8(written).unwrap(), golden);
    let reader = table::Reader::<T, _>::new(golden.as_bytes()).unwrap();
    assert_eq!(reader.head(), &head(batch));
    assert_eq!(reader.collect::<Result<Vec<_>, _>>().unwrap(), rows);
}

#[test]
fn a_collection_has_these_bytes() {
    message(collection(), include_str!("golden/collection.xml"));
}

#[test]
fn a_status_report_has_these_bytes() {
    message(status_report(), include_str!("golden/status.xml"));
}

#[test]
fn a_statement_has_these_bytes() {
    message(statement(), include_str!("golden/statement.xml"));
}

#[test]
fn the_tables_have_these_bytes() {
    csv(Some(42), charges(), include_str!("golden/charges.csv"));
    csv(Some(42), journeys(), include_str!("golden/journeys.csv"));
    csv(None, positions(), include_str!("golden/settlement.csv"));
}

#[test]
fn the_example_layout_has_these_bytes() {
    let layout = Layout::parse(EXAMPLE).unwrap();
    let golden = include_bytes!("golden/fixed.txt");
    assert_eq!(fixed::write(Vec::new(), &layout, records()).unwrap(), golden);
    let read: Result<Vec<_>, _> = fixed::Reader::new(&golden[..], &layout).collect();
    assert_eq!(read.unwrap(), records());
}

/// The lines without the spaces at their ends, as a page shows them.
fn trimmed(text: &str) -> String {
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_examples_in_the_documentation_are_parts_of_these_files() {
    let docs = include_str!("../../../docs/files.md");
    let (fixed, _) = encoding_rs::GB18030.decode_without_bom_handling(include_bytes!("golden/fixed.txt"));
    let golden = [
        include_str!("golden/collection.xml"),
        include_str!("golden/status.xml"),
        include_str!("golden/statement.xml"),
        include_str!("golden/charges.csv"),
        include_str!("golden/journeys.csv"),
        include_str!("golden/settlement.csv"),
        &trimmed(&fixed),
        EXAMPLE,
        &trimmed(include_str!("golden/charges.txt")),
        CHARGES,
    ];
    let mut shown = 0;
    for example in docs.split("```").skip(1).step_by(2) {
        let (kind, text) = example.split_once('\n').unwrap();
        // Commands and the gateway's configuration are no files of these.
        if matches!(kind, "sh" | "toml config") {
            continue;
        }
        let text = text.trim_end();
        assert!(golden.iter().any(|golden| golden.contains(text)), "{text}");
        shown += 1;
    }
    assert_eq!(shown, golden.len() + 1);
}
