//! Rules of every format: what is written is read as it was, and what was cut or changed does not pass for whole.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::*;
use jiff::Timestamp;
use jiff::civil::{Date, date};
use proptest::prelude::*;
use wavepass_fares::{Fen, ServiceDay, Status as JourneyStatus};
use wavepass_files::fixed::{EXAMPLE, Layout, Record, Value};
use wavepass_files::iso20022::{
    self, Agent, Answer, Balance, Collection, DirectDebit, EntryDetail, Mandate, Message, Reason, Statement,
    StatementEntry, Status, StatusCount, StatusReport,
};
use wavepass_files::table::{self, Charge, Journey, Position, Row, TapName};
use wavepass_files::{AttemptId, Currency, FileError, fixed};

type Result<T> = std::result::Result<T, FileError>;

fn read_message<M: Message>(bytes: &[u8]) -> Result<Vec<M::Item>> {
    iso20022::Reader::<M, _>::new(bytes, Currency::CNY)?.collect()
}

fn read_table<T: Row>(bytes: &[u8]) -> Result<Vec<T>> {
    table::Reader::<T, _>::new(bytes)?.collect()
}

fn text() -> impl Strategy<Value = String> {
    "[A-Za-z0-9/?:().,'+-]([A-Za-z0-9/?:().,'+ -]{0,20}[A-Za-z0-9/?:().,'+-])?"
}

fn some_date() -> impl Strategy<Value = Date> {
    (1_970_i16..2_100, 1_i8..=12, 1_i8..=28).prop_map(|(year, month, day)| date(year, month, day))
}

fn instant() -> impl Strategy<Value = Timestamp> {
    (0_i64..4_000_000_000_000).prop_map(|ms| Timestamp::from_millisecond(ms).unwrap())
}

fn id() -> impl Strategy<Value = AttemptId> {
    (0_i64..376_200, any::<[u8; 16]>(), 0_u32..1_024, 0_u32..1_024).prop_map(
        |(number, token_key, part, attempt)| AttemptId {
            service_day: ServiceDay::from_number(number).unwrap(),
            token_key,
            part,
            attempt,
        },
    )
}

fn agent() -> impl Strategy<Value = Agent> {
    prop_oneof!["[A-Z0-9]{8}([A-Z0-9]{3})?".prop_map(Agent::Bic), "[0-9]{12}".prop_map(Agent::Cnaps)]
}

const FEN: std::ops::Range<i64> = 1..100_000_000_000;
const FEW: std::ops::Range<i64> = -1_000_000..1_000_000;

fn collections() -> impl Strategy<Value = (Collection, Vec<DirectDebit>)> {
    let mandate = (text(), some_date()).prop_map(|(id, signed)| Mandate { id, signed });
    let debit = (FEN, text(), agent(), prop::option::of(mandate));
    let debits = prop::collection::btree_map(id(), debit, 1..6);
    (debits, instant(), some_date(), agent()).prop_map(|(debits, created, collect_on, agent)| {
        let debits: Vec<_> = debits
            .into_iter()
            .map(|(id, (amount_minor, account, agent, mandate))| DirectDebit {
                id,
                amount_minor,
                account,
                agent,
                mandate,
            })
            .collect();
        let totals = totals(debits.len() as u64, debits.iter().map(|debit| debit.amount_minor).sum());
        let creditor = iso20022::Creditor { agent, ..collection().0.creditor };
        (Collection { created, collect_on, totals, creditor, ..collection().0 }, debits)
    })
}

fn status_reports() -> impl Strategy<Value = (StatusReport, Vec<Answer>)> {
    let status = prop::sample::select(vec![Status::Settled, Status::Pending, Status::Rejected]);
    let reason = text().prop_map(|code| Reason::of(&code));
    let answer = (id(), status, prop::option::of(reason), prop::option::of(FEN))
        .prop_map(|(id, status, reason, amount_minor)| Answer { id, status, reason, amount_minor });
    (prop::collection::vec(answer, 0..6), instant()).prop_map(|(answers, created)| {
        let count = |status| {
            let of: Vec<_> = answers.iter().filter(|answer| answer.status == status).collect();
            let sum_minor = of.iter().map(|answer| answer.amount_minor).sum();
            StatusCount { status, count: of.len() as u64, sum_minor }
        };
        let counts = vec![count(Status::Settled), count(Status::Rejected)];
        (StatusReport { created, counts, ..status_report().0 }, answers)
    })
}

fn statements() -> impl Strategy<Value = (Statement, Vec<StatementEntry>)> {
    let amount = FEW;
    let detail = (prop::option::of(text()), amount.clone())
        .prop_map(|(end_to_end_id, amount_minor)| EntryDetail { end_to_end_id, amount_minor });
    let details = prop::collection::vec(detail, 0..4);
    let entry =
        (amount.clone(), details, some_date(), prop::option::of(some_date()), prop::option::of(text()))
            .prop_map(|(amount, details, booked, value, bank_reference)| {
                let sum = details.iter().map(|detail| detail.amount_minor).sum();
                let amount_minor = if details.is_empty() { amount } else { sum };
                StatementEntry { amount_minor, booked, value, bank_reference, details }
            });
    (prop::collection::vec(entry, 0..6), amount, some_date()).prop_map(|(entries, opening, date)| {
        let closing = opening + entries.iter().map(|entry| entry.amount_minor).sum::<i64>();
        let balance = |minor| Balance { minor, date };
        let (opening, closing) = (balance(opening), balance(closing));
        (Statement { opening, closing, summary: None, ..statement().0 }, entries)
    })
}

fn station() -> impl Strategy<Value = String> {
    "\\PC{1,20}".prop_filter("no control characters", |code| !code.chars().any(char::is_control))
}

fn some_journeys() -> impl Strategy<Value = Vec<Journey>> {
    let tap = || (any::<[u8; 8]>(), any::<u64>()).prop_map(|(key_id, sequence)| TapName { key_id, sequence });
    let stop = || (prop::option::of(station()), prop::option::of(instant()));
    let rest = (prop::option::of(tap()), stop(), stop(), FEW, FEW, 0..JourneyStatus::ALL.len());
    prop::collection::btree_map((any::<[u8; 16]>(), tap(), any::<u32>()), rest, 0..6).prop_map(|journeys| {
        let journey = |(
            (token_key, first_tap, part),
            (second_tap, (from, entered), (to, left), nominal, charged, status),
        )| Journey {
            token_key,
            part,
            first_tap,
            second_tap,
            from,
            entered,
            to,
            left,
            nominal: Fen(nominal),
            charged: Fen(charged),
            status: JourneyStatus::ALL[status],
        };
        journeys.into_iter().map(journey).collect()
    })
}

fn some_charges() -> impl Strategy<Value = Vec<Charge>> {
    prop::collection::btree_map((any::<[u8; 16]>(), any::<u32>()), FEW, 0..6).prop_map(|charges| {
        let charge = |((token_key, part), fen)| Charge { token_key, part, amount: Fen(fen) };
        charges.into_iter().map(charge).collect()
    })
}

fn some_records() -> impl Strategy<Value = Vec<Record>> {
    let words = "([!-~中文字站]{0,2}[!-~])?";
    let time = (some_date(), 0_i8..24).prop_map(|(date, hour)| Value::Date(date.at(hour, 0, 0, 0)));
    let header = (words, time, 0_u64..100_000_000).prop_map(|(network, created, batch)| {
        let (network, batch) = (Value::Text(network), Value::Number(batch));
        let operator = Value::Text("运营".into());
        Record::new(
            "header",
            [("network", network), ("created", created), ("batch", batch), ("operator", operator)],
        )
    });
    let day = (2_000_i16..2_100, 1_i8..=12, 1_i8..=28)
        .prop_map(|(y, m, d)| Value::Date(date(y, m, d).at(0, 0, 0, 0)));
    let detail = (words, day, -99_999_999_999_i64..99_999_999_999).prop_map(|(station, day, minor)| {
        let (charge, station) = (Value::Text("C-1".into()), Value::Text(station));
        let amount = Value::Amount(minor);
        Record::new(
            "charge",
            [("charge", charge), ("service_day", day), ("amount", amount), ("station", station)],
        )
    });
    (header, prop::collection::vec(detail, 0..6)).prop_map(|(header, details)| {
        std::iter::once(header).chain(details).chain([Record::new("trailer", [])]).collect()
    })
}

fn written<M: Message + Clone>(head: &M, items: &[M::Item]) -> Vec<u8>
where
    M::Item: Clone,
{
    iso20022::write(Vec::new(), head.clone(), Currency::CNY, items.iter().cloned()).unwrap()
}

fn message_is_read_back<M: Message + Clone + PartialEq + std::fmt::Debug>(
    head: M,
    items: Vec<M::Item>,
) -> std::result::Result<(), TestCaseError>
where
    M::Item: Clone + PartialEq + std::fmt::Debug,
{
    let bytes = written(&head, &items);
    let mut reader = iso20022::Reader::<M, _>::new(&bytes[..], Currency::CNY).unwrap();
    prop_assert_eq!(reader.message(), &head);
    prop_assert_eq!(reader.by_ref().collect::<Result<Vec<_>>>().unwrap(), items);
    Ok(())
}

fn table_is_read_back<T: Row + Clone + PartialEq + std::fmt::Debug>(
    rows: Vec<T>,
) -> std::result::Result<(), TestCaseError> {
    let bytes = table::write(Vec::new(), &head(None), rows.clone()).unwrap();
    prop_assert_eq!(read_table::<T>(&bytes).unwrap(), rows);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_collection_is_read_as_it_was_written((head, items) in collections()) {
        message_is_read_back(head, items)?;
    }

    #[test]
    fn a_status_report_is_read_as_it_was_written((head, items) in status_reports()) {
        message_is_read_back(head, items)?;
    }

    #[test]
    fn a_statement_is_read_as_it_was_written((head, items) in statements()) {
        message_is_read_back(head, items)?;
    }

    #[test]
    fn journeys_are_read_as_they_were_written(rows in some_journeys()) {
        table_is_read_back(rows)?;
    }

    #[test]
    fn charges_are_read_as_they_were_written(rows in some_charges()) {
        table_is_read_back(rows)?;
    }

    #[test]
    fn records_of_fixed_width_are_read_as_they_were_written(records in some_records()) {
        let layout = Layout::parse(EXAMPLE).unwrap();
        let bytes = fixed::write(Vec::new(), &layout, records.clone()).unwrap();
        prop_assert_eq!(fixed::Reader::new(&bytes[..], &layout).collect::<Result<Vec<_>>>().unwrap(), records);
    }
}

/// Calls with the file cut after each byte but those of its last white space, which XML does not need.
fn cut(bytes: &[u8], mut read: impl FnMut(&[u8], usize)) {
    for len in 0..bytes.trim_ascii_end().len() {
        read(&bytes[..len], len);
    }
}

/// Calls with each byte changed in turn, in so many ways of these: a bit, another bit, a digit, a quote, a line end, …
fn changed(bytes: &[u8], ways: usize, mut read: impl FnMut(&[u8], usize)) {
    let mut copy = bytes.to_vec();
    for (at, &byte) in bytes.iter().enumerate() {
        let all = [byte ^ 1, b'0', b'"', byte ^ 0x20, b'<', b'\n', b'\r', b' ', b',', 0xFF];
        for way in 0..ways {
            copy[at] = all[(at + way) % all.len()];
            if copy[at] != byte {
                read(&copy, at);
            }
        }
        copy[at] = byte;
    }
}

#[test]
fn a_message_that_was_cut_is_never_whole() {
    let (c, s, t) = (collection(), status_report(), statement());
    cut(&written(&c.0, &c.1), |b, at| assert!(read_message::<Collection>(b).is_err(), "cut at {at}"));
    cut(&written(&s.0, &s.1), |b, at| assert!(read_message::<StatusReport>(b).is_err(), "cut at {at}"));
    cut(&written(&t.0, &t.1), |b, at| assert!(read_message::<Statement>(b).is_err(), "cut at {at}"));
}

#[test]
fn no_changed_byte_of_a_message_changes_an_amount() {
    let (c, t) = (collection(), statement());
    changed(&written(&c.0, &c.1), 1, |bytes, at| {
        if let Ok(items) = read_message::<Collection>(bytes) {
            assert!(items.iter().map(|i| i.amount_minor).eq([350, 1_200]), "byte {at}");
        }
    });
    changed(&written(&t.0, &t.1), 1, |bytes, at| {
        if let Ok(items) = read_message::<Statement>(bytes) {
            assert!(items.iter().map(|i| i.amount_minor).eq([350, 800, -4]), "byte {at}");
        }
    });
}

#[test]
fn a_table_that_was_cut_or_changed_is_always_refused() {
    fn check<T: Row>(rows: Vec<T>) {
        let bytes = table::write(Vec::new(), &head(Some(42)), rows).unwrap();
        cut(&bytes, |bytes, at| assert!(read_table::<T>(bytes).is_err(), "cut at {at}"));
        assert!(read_table::<T>(bytes.trim_ascii_end()).is_err());
        changed(&bytes, 5, |bytes, at| assert!(read_table::<T>(bytes).is_err(), "byte {at}"));
    }
    check(charges());
    check(journeys());
    check::<Position>(positions());
}

#[test]
fn a_file_of_fixed_width_with_a_hash_that_was_cut_or_changed_is_always_refused() {
    let layout = Layout::parse(EXAMPLE).unwrap();
    let read = |bytes: &[u8]| fixed::Reader::new(bytes, &layout).collect::<Result<Vec<_>>>();
    let bytes = fixed::write(Vec::new(), &layout, records()).unwrap();
    cut(&bytes, |bytes, at| assert!(read(bytes).is_err(), "cut at {at}"));
    changed(&bytes, 5, |bytes, at| assert!(read(bytes).is_err(), "byte {at}"));
}
