//! Made-up files of every kind, as values; their bytes are under `tests/golden`.

#![allow(dead_code)] // Not every test file asks for every one.

use jiff::Timestamp;
use jiff::civil::date;
use wavepass_fares::{Fen, ServiceDay, Status as JourneyStatus};
use wavepass_files::fixed::{Record, Value};
use wavepass_files::iso20022::{
    Agent, Answer, Balance, Collection, Creditor, DirectDebit, EntryDetail, Mandate, Reason, Statement,
    StatementEntry, Status, StatusCount, StatusReport, Summary,
};
use wavepass_files::table::{Charge, Head, Journey, Position, TapName};
use wavepass_files::{AttemptId, MessageId, Totals};

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub fn day() -> ServiceDay {
    "2026-11-23".parse().unwrap()
}

pub fn attempt(key: u8, part: u32, attempt: u32) -> AttemptId {
    AttemptId { service_day: day(), token_key: [key; 16], part, attempt }
}

pub fn totals(count: u64, sum_minor: i64) -> Totals {
    Totals { count, sum_minor }
}

const MESSAGE: MessageId = MessageId { batch: 42, submission: 1 };

pub fn collection() -> (Collection, Vec<DirectDebit>) {
    let debit = |key, amount_minor, account: &str| DirectDebit {
        id: attempt(key, 1, 1),
        amount_minor,
        account: account.into(),
        agent: Agent::Cnaps("102331000017".into()),
        mandate: None,
    };
    let mandate = Some(Mandate { id: "M-7".into(), signed: date(2026, 1, 31) });
    let debits = vec![debit(0x0A, 350, "ACC-1"), DirectDebit { mandate, ..debit(0xB0, 1_200, "ACC-2") }];
    let creditor = Creditor {
        name: "Wavepass City's Clearing House".into(),
        account: "330100001234567890".into(),
        agent: Agent::Bic("ICBKCNBJHAN".into()),
        scheme_id: Some("WAVEPASS-01".into()),
    };
    let created = at("2026-11-24T05:00:00Z");
    let head = Collection {
        id: MESSAGE,
        created,
        creditor,
        collect_on: date(2026, 11, 24),
        totals: totals(2, 1_550),
    };
    (head, debits)
}

pub fn status_report() -> (StatusReport, Vec<Answer>) {
    let count = |status, count, sum| StatusCount { status, count, sum_minor: Some(sum) };
    let report = StatusReport {
        id: "BANK-20261124-1".into(),
        created: at("2026-11-24T06:30:00Z"),
        original: MESSAGE,
        original_totals: Some(totals(2, 1_550)),
        status: Some(Status::Partial),
        reason: None,
        counts: vec![count(Status::Settled, 1, 350), count(Status::Rejected, 1, 1_200)],
    };
    let answer = |key, status, reason, amount| Answer {
        id: attempt(key, 1, 1),
        status,
        reason,
        amount_minor: Some(amount),
    };
    let answers = vec![
        answer(0x0A, Status::Settled, None, 350),
        answer(0xB0, Status::Rejected, Some(Reason::InsufficientFunds), 1_200),
    ];
    (report, answers)
}

pub fn statement() -> (Statement, Vec<StatementEntry>) {
    let date = date(2026, 11, 24);
    let detail = |key, amount_minor| EntryDetail {
        end_to_end_id: Some(attempt(key, 1, 1).end_to_end_id().unwrap()),
        amount_minor,
    };
    let entry = |amount_minor, reference: &str, details| StatementEntry {
        amount_minor,
        booked: date,
        value: Some(date),
        bank_reference: Some(reference.into()),
        details,
    };
    let entries = vec![
        entry(350, "BANK-1", vec![detail(0x0A, 350)]),
        entry(800, "BANK-2", vec![detail(0x0C, 500), detail(0x0D, 300)]),
        entry(-4, "BANK-3", Vec::new()),
    ];
    let statement = Statement {
        id: "STMT-2026-328".into(),
        created: at("2026-11-25T00:10:00Z"),
        number: Some(328),
        account: "330100001234567890".into(),
        opening: Balance { minor: -100, date },
        closing: Balance { minor: 1_046, date },
        summary: Some(Summary { credits: totals(2, 1_150), debits: totals(1, 4) }),
    };
    (statement, entries)
}

pub fn head(batch: Option<u64>) -> Head {
    Head { service_day: day(), rank: 0, batch, created: at("2026-11-24T05:00:00Z") }
}

pub fn charges() -> Vec<Charge> {
    let charge = |key, part, fen| Charge { token_key: [key; 16], part, amount: Fen(fen) };
    vec![charge(0x0A, 1, 350), charge(0x0A, 2, -50), charge(0xB0, 1, 1_200)]
}

pub fn journeys() -> Vec<Journey> {
    let tap = |gate, sequence| TapName { key_id: [0, 0, 0, 0, 0, 0, 0, gate], sequence };
    let complete = Journey {
        token_key: [0x0A; 16],
        part: 1,
        first_tap: tap(1, 17),
        second_tap: Some(tap(2, 40)),
        from: Some("HB".into()),
        entered: Some(at("2026-11-23T00:01:00Z")),
        to: Some("Union, \"U\"".into()),
        left: Some(at("2026-11-23T00:31:00.250Z")),
        nominal: Fen(400),
        charged: Fen(350),
        status: JourneyStatus::Complete,
    };
    let incomplete = Journey {
        token_key: [0xB0; 16],
        first_tap: tap(1, 18),
        second_tap: None,
        to: None,
        left: None,
        nominal: Fen(1_200),
        charged: Fen(1_200),
        status: JourneyStatus::Incomplete,
        ..complete.clone()
    };
    vec![complete, incomplete]
}

pub fn positions() -> Vec<Position> {
    let position = |operator, deducted, fees| Position {
        operator,
        deducted: Fen(deducted),
        sponsored: Fen(0),
        covered: Fen(0),
        fees: Fen(fees),
        settled: Fen(deducted - fees),
    };
    vec![position(1, 235, 1), position(2, 115, 0)]
}

pub fn records() -> Vec<Record> {
    let midnight = date(2026, 11, 23).at(0, 0, 0, 0);
    let charge = |key, fen, station: &str| {
        Record::new(
            "charge",
            [
                ("charge", Value::Text(attempt(key, 1, 1).end_to_end_id().unwrap())),
                ("service_day", Value::Date(midnight)),
                ("amount", Value::Amount(fen)),
                ("station", Value::Text(station.into())),
            ],
        )
    };
    let header = Record::new(
        "header",
        [
            ("network", Value::Text("EXAMPLE".into())),
            ("created", Value::Date(date(2026, 11, 24).at(5, 0, 0, 0))),
            ("batch", Value::Number(42)),
            ("operator", Value::Text("示例地铁".into())),
        ],
    );
    let trailer = Record::new("trailer", []);
    vec![header, charge(0x0A, 350, "湖滨"), charge(0x0B, -50, "UN"), trailer]
}
