//! The clearing house's files: messages of the bank, tables, records of fixed width and their layouts.

use std::hint::black_box;
use std::sync::LazyLock;
use wavepass_files::fixed::{EXAMPLE, Layout, Reader, write};
use wavepass_files::iso20022::{self, Collection, Message, Statement, StatusReport};
use wavepass_files::table::{self, Charge, Journey, Position, Row};
use wavepass_files::{AttemptId, Currency, MessageId};

pub(crate) fn message(data: &[u8]) {
    fn read<M: Message>(data: &[u8]) {
        let Ok(reader) = iso20022::Reader::<M, _>::new(data, Currency::CNY) else { return };
        black_box(reader.filter(Result::is_ok).count());
    }
    read::<Collection>(data);
    read::<StatusReport>(data);
    read::<Statement>(data);
    if let Ok(name) = std::str::from_utf8(data) {
        black_box(MessageId::parse(name).is_ok());
        if let Ok(id) = AttemptId::parse(name) {
            assert_eq!(id.end_to_end_id().as_deref(), Ok(name));
        }
    }
}

pub(crate) fn table(data: &[u8]) {
    fn read<T: Row>(data: &[u8]) {
        let Ok(reader) = table::Reader::<T, _>::new(data) else { return };
        let head = *reader.head();
        // What was read is written again.
        if let Ok(rows) = reader.collect::<Result<Vec<T>, _>>() {
            black_box(table::write(Vec::new(), &head, rows).expect("what was read can be written"));
        }
    }
    read::<Charge>(data);
    read::<Journey>(data);
    read::<Position>(data);
}

/// A layout whose files have no hash, so that changed bytes get far.
const PLAIN: &str = r#"
format = 1
title = "Plain"
encoding = "gbk"
line_end = "lf"
[[record]]
name = "line"
role = "detail"
field = [
    { name = "number", start = 1, width = 3, kind = "number" },
    { name = "text", start = 4, width = 6, kind = "text" },
    { name = "day", start = 10, width = 10, kind = "date", format = "DD.MM.YYYY" },
    { name = "amount", start = 20, width = 5, kind = "amount", signed = true },
]
"#;

static LAYOUTS: LazyLock<[Layout; 2]> =
    LazyLock::new(|| [EXAMPLE, PLAIN].map(|text| Layout::parse(text).expect("a sound layout")));

pub(crate) fn fixed(data: &[u8]) {
    for layout in LAYOUTS.iter() {
        // What was read is written, and gives the same bytes.
        if let Ok(records) = Reader::new(data, layout).collect::<Result<Vec<_>, _>>() {
            let written = write(Vec::new(), layout, records).expect("what was read can be written");
            assert_eq!(written, data);
        }
    }
}

/// A layout, and its own text as a file of it.
pub(crate) fn layout(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(layout) = Layout::parse(text) {
        black_box(Reader::new(data, &layout).count());
    }
}

pub(crate) fn message_seeds() -> Vec<Vec<u8>> {
    vec![
        include_bytes!("../../../host-gateway/files/tests/golden/collection.xml").to_vec(),
        include_bytes!("../../../host-gateway/files/tests/golden/status.xml").to_vec(),
        include_bytes!("../../../host-gateway/files/tests/golden/statement.xml").to_vec(),
        b"W0M9C0A1850M2GA1850M2GA1850M2GA0101".to_vec(),
        b"WP-B42-1".to_vec(),
    ]
}

pub(crate) fn table_seeds() -> Vec<Vec<u8>> {
    vec![
        include_bytes!("../../../host-gateway/files/tests/golden/charges.csv").to_vec(),
        include_bytes!("../../../host-gateway/files/tests/golden/journeys.csv").to_vec(),
        include_bytes!("../../../host-gateway/files/tests/golden/settlement.csv").to_vec(),
    ]
}

pub(crate) fn fixed_seeds() -> Vec<Vec<u8>> {
    let example = include_bytes!("../../../host-gateway/files/tests/golden/fixed.txt").to_vec();
    let plain = b"001\xBA\xFE    23.11.2026+0350\n002UN    24.11.2026-0050\n".to_vec();
    vec![example, plain]
}

pub(crate) fn layout_seeds() -> Vec<Vec<u8>> {
    vec![EXAMPLE.as_bytes().to_vec(), PLAIN.as_bytes().to_vec()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_layout_has_a_seed_that_is_a_whole_file_of_it() {
        for (layout, seed) in LAYOUTS.iter().zip(fixed_seeds()) {
            let read: Result<Vec<_>, _> = Reader::new(&seed[..], layout).collect();
            assert!(read.is_ok_and(|records| records.len() > 1), "{}", layout.title());
        }
    }
}
