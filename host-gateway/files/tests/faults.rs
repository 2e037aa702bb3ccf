//! Faults have a place and a name.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::*;
use wavepass_fares::Fen;
use wavepass_files::fixed::{EXAMPLE, Layout, LayoutError, Record, Value};
use wavepass_files::iso20022::{
    self, Agent, Collection, Message, Outcome, Reason, Statement, Status, StatusReport,
};
use wavepass_files::table::{self, Charge, Journey, Position, Row};
use wavepass_files::{Currency, fixed};

const COLLECTION: &str = include_str!("golden/collection.xml");
const STATUS: &str = include_str!("golden/status.xml");
const STATEMENT: &str = include_str!("golden/statement.xml");

/// The file with one thing in it changed, which must be there.
fn with(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from}");
    text.replacen(from, to, 1)
}

/// What reading a message comes to: the fault's text, or how many items.
fn read<M: Message>(text: &str) -> Result<usize, String> {
    let reader = iso20022::Reader::<M, _>::new(text.as_bytes(), Currency::CNY).map_err(|e| e.to_string())?;
    reader.collect::<Result<Vec<_>, _>>().map(|items| items.len()).map_err(|e| e.to_string())
}

fn fault<M: Message>(text: &str, from: &str, to: &str) -> String {
    read::<M>(&with(text, from, to)).expect_err(to)
}

#[test]
fn counts_and_sums_of_a_message_are_held_against_its_items() {
    let (two, three) = ("<NbOfTxs>2</NbOfTxs>", "<NbOfTxs>3</NbOfTxs>");
    let said = COLLECTION.replace(two, three);
    let error = read::<Collection>(&said).unwrap_err();
    assert_eq!(error, "line 104, column 1, NbOfTxs: does not agree with the content, which gives 2");
    let said = COLLECTION.replace("<CtrlSum>15.50<", "<CtrlSum>15.51<");
    let error = read::<Collection>(&said).unwrap_err();
    assert!(
        error.ends_with("CtrlSum: does not agree with the content, which gives 1550 minor units"),
        "{error}"
    );
    let error = fault::<Collection>(COLLECTION, two, three);
    assert!(error.contains("NbOfTxs or CtrlSum: does not agree"), "{error}");
    let error = fault::<StatusReport>(STATUS, "<DtldNbOfTxs>1<", "<DtldNbOfTxs>2<");
    assert!(error.ends_with("DtldNbOfTxs: does not agree with the content, which gives 1"), "{error}");
    let error = fault::<StatusReport>(STATUS, "<DtldCtrlSum>3.50<", "<DtldCtrlSum>3.49<");
    assert!(error.contains("DtldCtrlSum"), "{error}");
    let error = fault::<Statement>(STATEMENT, ">10.46<", ">10.47<");
    assert!(
        error.ends_with("CLBD: does not agree with the content, which gives 1046 minor units"),
        "{error}"
    );
    let error = fault::<Statement>(STATEMENT, "<Sum>11.50<", "<Sum>11.40<");
    assert!(error.contains("TtlCdtNtries/Sum"), "{error}");
    let error = fault::<Statement>(STATEMENT, "Ccy=\"CNY\">5.00", "Ccy=\"CNY\">5.01");
    assert!(error.contains("Amt: does not agree"), "{error}");
}

#[test]
fn what_is_wrong_in_a_message_is_named_with_its_place() {
    let collection = |from, to| fault::<Collection>(COLLECTION, from, to);
    for (from, to, expected) in [
        (
            "<InstdAmt Ccy=\"CNY\">3.50",
            "<InstdAmt Ccy=\"USD\">3.50",
            "line 47, column 5, InstdAmt: is in another currency than CNY",
        ),
        (">3.50<", ">3.505<", "line 47, column 5, InstdAmt: is not an amount with at most 2 decimals"),
        (">3.50<", ">0.00<", "line 43, column 4, InstdAmt: is not above zero"),
        (
            "<ReqdColltnDt>2026-11-24",
            "<ReqdColltnDt>24.11.2026",
            "is not a date or time of the form 2026-11-23",
        ),
        ("<MsgId>WP-B42-1<", "<MsgId>X<", "MsgId: is not an identifier of the form WP-B<batch>-<submission>"),
        ("<PmtMtd>DD", "<PmtMtd>CHK", "PmtMtd: is not `DD`"),
        ("ACC-1", "", "Id: is empty"),
        ("ACC-1", "ACC\u{7}1", "Id: has characters that the file cannot carry"),
        ("ACC-1", "99999999999999999999999999999999999", "Id: is longer than 34"),
        ("    <Dbtr>", "    <PmtId><EndToEndId/></PmtId><Dbtr>", "PmtId: is given twice"),
        ("<NbOfTxs>2", "<NbOfTxs>two", "NbOfTxs: is not a whole number"),
        ("pain.008.001.08", "pain.008.001.02", "is not a file of the kind `pain.008.001.08`"),
        ("W0M9C0A18", "W0M9CZZZZ", "EndToEndId: is not an identifier"),
    ] {
        let error = collection(from, to);
        assert!(error.contains(expected), "{error}\n{expected}");
    }
    let second = "W0M9C5GP2RB1C5GP2RB1C5GP2RB1C5G0101";
    let error = collection(second, "W0M9C0A1850M2GA1850M2GA1850M2GA0101");
    assert!(error.contains("EndToEndId: does not come after the one before it"), "{error}");
    let error = fault::<StatusReport>(STATUS, "<TxSts>ACSC", "<TxSts>GOOD");
    assert!(error.ends_with("TxSts: is not one of the codes of this field"), "{error}");
    let error = fault::<Statement>(STATEMENT, "<Cd>BOOK", "<Cd>PDNG");
    assert!(error.ends_with("Cd: is not `BOOK`"), "{error}");
    let error = fault::<Statement>(STATEMENT, "<CdtDbtInd>DBIT</CdtDbtInd>", "");
    assert!(error.ends_with("CdtDbtInd: is missing"), "{error}");
    let error = fault::<Statement>(STATEMENT, "<Cd>CLBD", "<Cd>OPBD");
    assert!(error.contains("OPBD: is given twice"), "{error}");
    let error = fault::<Statement>(STATEMENT, "<Cd>OPBD", "<Cd>ITBD");
    assert!(error.contains("OPBD: is missing"), "{error}");
}

#[test]
fn xml_that_these_messages_never_have_is_refused() {
    let doctype = "<!DOCTYPE Document [<!ENTITY a \"aaaa\">]>\n<Document ";
    let long = format!("<!--{}-->\n<Document ", "-".repeat(70_000).replace("--", "- "));
    let deep = format!("<Dbtr>{}", "<A>".repeat(40));
    for (from, to, expected) in [
        ("<Document ", doctype, "has a document type"),
        ("<Document ", &long, "is beyond the limit of 64 KiB"),
        ("encoding=\"UTF-8\"", "encoding=\"GB18030\"", "is in another encoding than UTF-8"),
        ("ACC-1", "&nobody;", "has characters or references that XML does not allow"),
        ("<Dbtr>", &deep, "is beyond the limit of 50000 elements, 32 deep"),
        ("</Dbtr>", "</Cdtr>", "is not well-formed XML"),
        ("</PmtInf>", "</PmtInf><PmtInf></PmtInf>", "PmtInf: is given twice"),
        ("</Document>", "</Document><Document/>", "comes after the end"),
        ("<GrpHdr>", "text<GrpHdr>", "has text between elements"),
        ("</Document>", "", "the file ends before it is complete"),
    ] {
        let error = fault::<Collection>(COLLECTION, from, to);
        assert!(error.contains(expected), "{error}\n{expected}");
    }
}

#[test]
fn what_banks_write_otherwise_than_we_do_is_read() {
    let prefixed = STATEMENT.replace("</", "</b:").replace('<', "<b:").replace("<b:/b:", "</b:");
    let prefixed = prefixed.replace("<b:?xml", "<?xml").replace("xmlns=", "xmlns:b=");
    assert_eq!(read::<Statement>(&prefixed), Ok(3));
    for (from, to) in [
        ("<CreDtTm>2026-11-25T00:10:00Z", "<CreDtTm>2026-11-25T08:10:00.000+08:00"),
        ("<CreDtTm>2026-11-25T00:10:00Z", "<CreDtTm>2026-11-25T00:10:00"),
        ("<BookgDt>\n     <Dt>2026-11-24</Dt>", "<BookgDt><DtTm>2026-11-24T23:59:59</DtTm>"),
        ("<Othr>\n      <Id>330100001234567890</Id>\n     </Othr>", "<IBAN>DE02120300000000202051</IBAN>"),
        ("   <Ntry>", "   <!-- first --><Ntry>"),
        ("<AcctSvcrRef>BANK-1", "<AcctSvcrRef><![CDATA[BANK]]>&#45;&amp;1"),
        ("  </Stmt>", "<AddtlStmtInf>more</AddtlStmtInf></Stmt>"),
    ] {
        assert_eq!(read::<Statement>(&with(STATEMENT, from, to)), Ok(3), "{to}");
    }
    // A payment in an entry may leave its direction to the entry, and an only one its amount.
    let amount = "</Refs>\n      <Amt Ccy=\"CNY\">3.50</Amt>\n      <CdtDbtInd>CRDT</CdtDbtInd>";
    for to in ["</Refs>", "</Refs><Amt Ccy=\"CNY\">3.50</Amt>"] {
        assert_eq!(read::<Statement>(&with(STATEMENT, amount, to)), Ok(3));
    }
}

#[test]
fn a_bank_may_refuse_a_collection_as_a_whole() {
    let (from, upto) =
        (STATUS.find("  <OrgnlPmtInfAndSts>").unwrap(), STATUS.find(" </CstmrPmtStsRpt>").unwrap());
    let whole = format!("{}{}", &STATUS[..from], &STATUS[upto..]).replace(
        "<GrpSts>PART</GrpSts>",
        "<GrpSts>RJCT</GrpSts><StsRsnInf><Rsn><Prtry>FORMAT-1</Prtry></Rsn></StsRsnInf>",
    );
    let report = |text: &str| {
        let reader = iso20022::Reader::<StatusReport, _>::new(text.as_bytes(), Currency::CNY).unwrap();
        assert!(reader.collect::<Vec<_>>().is_empty());
        iso20022::Reader::<StatusReport, _>::new(text.as_bytes(), Currency::CNY).unwrap().message().clone()
    };
    let refused = report(&whole);
    assert_eq!(refused.status.map(Status::outcome), Some(Outcome::Refused));
    assert_eq!(refused.reason, Some(Reason::Other("FORMAT-1".into())));
    assert_eq!(Status::Settling.outcome(), Outcome::Open);
    assert_eq!(Status::Credited.outcome(), Outcome::Done);
}

/// What writing the example collection comes to, once something in it was changed.
fn write_collection(change: impl FnOnce(&mut Collection, &mut Vec<iso20022::DirectDebit>)) -> String {
    let (mut head, mut items) = collection();
    change(&mut head, &mut items);
    iso20022::write(Vec::new(), head, Currency::CNY, items).unwrap_err().to_string()
}

#[test]
fn a_collection_that_no_bank_would_take_is_not_written() {
    let long = "x".repeat(141);
    for (error, expected) in [
        (write_collection(|head, _| head.creditor.name = "杭州".into()), "head, InitgPty/Nm: has characters"),
        (write_collection(|head, _| head.creditor.name = long), "head, InitgPty/Nm: is longer than 140"),
        (
            write_collection(|head, _| head.creditor.account = " 1".into()),
            "head, CdtrAcct/Id/Othr/Id: has characters",
        ),
        (
            write_collection(|_, items| items[1].account = String::new()),
            "record 2, DbtrAcct/Id/Othr/Id: is empty",
        ),
        (write_collection(|_, items| items[0].amount_minor = -50), "record 1, InstdAmt: is not above zero"),
        (write_collection(|_, items| items.swap(0, 1)), "record 2, EndToEndId: does not come after"),
        (write_collection(|_, items| items[0].id.part = 1_024), "record 1, EndToEndId: is too large"),
        (
            write_collection(|_, items| items[0].agent = Agent::Bic("icbk".into())),
            "record 1, DbtrAgt: is not an identifier of the form BIC",
        ),
        (
            write_collection(|_, items| drop(items.pop())),
            "head, NbOfTxs: does not agree with the content, which gives 1",
        ),
        (write_collection(|head, _| head.totals.sum_minor += 1), "head, CtrlSum: does not agree"),
        (write_collection(|_, items| items[1].amount_minor = i64::MAX), "record 2, InstdAmt: is too large"),
    ] {
        assert!(error.contains(expected), "{error}\n{expected}");
    }
}

const CHARGES: &str = include_str!("golden/charges.csv");

fn read_table<T: Row>(text: &str) -> String {
    let reader = match table::Reader::<T, _>::new(text.as_bytes()) {
        Ok(reader) => reader,
        Err(error) => return error.to_string(),
    };
    reader.collect::<Result<Vec<_>, _>>().err().unwrap().to_string()
}

#[test]
fn what_is_wrong_in_a_table_is_named_with_row_and_column() {
    for (from, to, expected) in [
        ("1,350", "1,3.50", "line 3, column 3, amount_fen: is not a whole number"),
        ("b0b0,1", "B0b0,1", "line 5, column 1, token_key: is not an identifier of the form hexadecimal"),
        ("1,350", "1", "line 3, column 2: has another width than 3"),
        ("350", "\"350", "line 3, column 3: has a quote that is not closed in its line"),
        ("a,2,", "a,1,", "line 4, column 1, token_key: does not come after the one before it"),
        ("amount_fen", "amount", "line 2, column 3, amount_fen: is not `amount_fen`"),
        (
            "wavepass,charges,2,",
            "wavepass,charges,1,",
            "line 1, column 3, version: is not a file of the kind `wavepass charges 2`",
        ),
        ("2026-11-23", "2026-11-31", "line 1, column 4, service_day: is not a date"),
        ("trailer,3", "trailer,4", "line 6, column 2, rows: does not agree with the content, which gives 3"),
        (
            "3,1500",
            "3,1501",
            "line 6, column 3, total_fen: does not agree with the content, which gives 1500",
        ),
        ("84cec01f", "14cec01f", "line 6, column 4, sha256: does not agree with the content"),
        ("amount_fen\n", "amount_fen\r\n", "line 2, column 27: does not end with LF alone"),
    ] {
        let error = read_table::<Charge>(&with(CHARGES, from, to));
        assert!(error.contains(expected), "{error}\n{expected}");
    }
    assert!(read_table::<Charge>(&format!("{CHARGES}\n")).contains("line 7, column 1: comes after the end"));
    assert!(
        read_table::<Charge>(&CHARGES.replace('\n', "\r\n"))
            .contains("line 1, column 57: does not end with LF alone")
    );
    let endless = "a".repeat(10_000);
    assert!(read_table::<Charge>(&endless).contains("line 1, column 1: is longer than 8192"));
    let settlement = include_str!("golden/settlement.csv");
    let error = read_table::<Journey>(&with(include_str!("golden/journeys.csv"), ",complete", ",lost"));
    assert!(error.contains("line 3, column 11, status: is not one of the codes"), "{error}");
    let error = read_table::<Position>(&with(settlement, ",1,234", ",1,235"));
    assert!(
        error.contains("line 3, column 6, settled_fen: does not agree with the content, which gives 234 fen")
    );
}

#[test]
fn a_table_that_would_not_be_read_is_not_written() {
    let write = |change: &dyn Fn(&mut Vec<Charge>)| {
        let mut rows = charges();
        change(&mut rows);
        table::write(Vec::new(), &head(Some(42)), rows).unwrap_err().to_string()
    };
    assert!(write(&|rows| rows.swap(0, 2)).contains("record 2, token_key: does not come after"));
    let most = write(&|rows| rows.iter_mut().for_each(|row| row.amount = Fen(i64::MAX)));
    assert!(most.contains("record 2: is too large"), "{most}");
    let mut rows = journeys();
    rows[0].from = Some("H\nB".into());
    let error = table::write(Vec::new(), &head(Some(42)), rows).unwrap_err().to_string();
    assert!(error.contains("record 1, from: has characters that the file cannot carry"), "{error}");
}

fn read_fixed(bytes: &[u8]) -> Result<Vec<Record>, String> {
    let layout = Layout::parse(EXAMPLE).unwrap();
    fixed::Reader::new(bytes, &layout).collect::<Result<_, _>>().map_err(|error| error.to_string())
}

#[test]
fn what_is_wrong_in_a_record_of_fixed_width_is_named_with_line_column_and_field() {
    let golden = include_bytes!("golden/fixed.txt");
    let change = |line: usize, column: usize, to: &[u8]| {
        let at = golden.split_inclusive(|&b| b == b'\n').take(line - 1).map(<[u8]>::len).sum::<usize>()
            + column
            - 1;
        let mut bytes = golden.to_vec();
        bytes[at..at + to.len()].copy_from_slice(to);
        read_fixed(&bytes).unwrap_err()
    };
    for (line, column, to, expected) in [
        (1, 1, "XX", "line 1, column 1: is no record of this file"),
        (1, 11, "20261324", "line 1, column 11, created: is not a date or time of the form YYYYMMDDhhmmss"),
        (1, 25, "x", "line 1, column 25, batch: is not a whole number"),
        (2, 9, "2", "line 2, column 3, number: does not agree with the content, which gives 0000001"),
        (2, 51, "-00000000000", "line 2, column 51, amount: is not a whole number"),
        (
            2,
            62,
            "1",
            "line 4, column 10, total: does not agree with the content, which gives +00000000000301",
        ),
        (3, 69, "\t", "line 3, column 63, station: has characters that the file cannot carry"),
        (4, 9, "3", "line 4, column 3, details: does not agree with the content, which gives 0000002"),
        (
            4,
            25,
            "f",
            "line 4, column 25, hash: does not agree with the content, which gives 5b4b31896eb9475c2a5f011257fe9c9c",
        ),
        (2, 70, " \n", "line 2, column 71: does not end with CR LF"),
    ] {
        assert!(
            change(line, column, to.as_bytes()).contains(expected),
            "{}\n{expected}",
            change(line, column, to.as_bytes())
        );
    }
    assert!(change(3, 63, &[0xFF]).contains("line 3, column 63, station: has characters"));
    let lines: Vec<&[u8]> = golden.split_inclusive(|&b| b == b'\n').collect();
    assert_eq!(
        read_fixed(&lines[..3].concat()).unwrap_err(),
        "line 4, column 1: the file ends before it is complete"
    );
    assert_eq!(
        read_fixed(&lines[1..].concat()).unwrap_err(),
        "line 1, column 1: does not come after the one before it"
    );
    let twice = [&golden[..], lines[3]].concat();
    assert_eq!(
        read_fixed(&twice).unwrap_err(),
        "line 5, column 1: comes after the end of the file's content"
    );
    assert_eq!(read_fixed(&[b'D'; 5_000]).unwrap_err(), "line 1, column 1: is longer than 69");
}

#[test]
fn a_record_that_does_not_fit_its_layout_is_not_written() {
    let layout = Layout::parse(EXAMPLE).unwrap();
    let write = |at: usize, name: &str, value: Option<Value>| {
        let mut records = records();
        match value {
            Some(value) => records[at].values.insert(name.into(), value),
            None => records[at].values.remove(name),
        };
        fixed::write(Vec::new(), &layout, records).unwrap_err().to_string()
    };
    let text = |value: &str| Some(Value::Text(value.into()));
    for (at, name, value, expected) in [
        (0, "batch", Some(Value::Number(100_000_000)), "record 1, batch: is longer than 8"),
        (0, "batch", text("42"), "record 1, batch: has a value of another kind than the field's"),
        (0, "operator", text("一二三四五六七八九十一"), "record 1, operator: is longer than 20"),
        (0, "operator", text("A "), "record 1, operator: has characters"),
        (1, "amount", Some(Value::Amount(100_000_000_000)), "record 2, amount: is longer than 11"),
        (1, "amount", None, "record 2, amount: is missing"),
        (1, "fare", text("1"), "record 2, fare: is not known here"),
        (1, "number", Some(Value::Number(1)), "record 2, number: is not known here"),
        (
            1,
            "service_day",
            Some(Value::Date(jiff::civil::date(1999, 1, 1).at(0, 0, 0, 0))),
            "record 2, service_day: is not a date",
        ),
    ] {
        assert!(write(at, name, value.clone()).contains(expected), "{}\n{expected}", write(at, name, value));
    }
    let order = |records: Vec<Record>| fixed::write(Vec::new(), &layout, records).unwrap_err().to_string();
    assert_eq!(order(records()[1..].to_vec()), "record 1: does not come after the one before it");
    assert_eq!(order(records()[..3].to_vec()), "record 3: the file ends before it is complete");
    assert_eq!(order(vec![Record::new("footer", [])]), "record 1: is not known here");
}

#[test]
fn ascii_files_take_no_other_characters_and_gbk_files_no_more_than_gbk() {
    let parse = |encoding| Layout::parse(&with(EXAMPLE, "encoding = \"gb18030\"", encoding)).unwrap();
    let write = |layout: &Layout| fixed::write(Vec::new(), layout, records());
    let error = write(&parse("encoding = \"ascii\"")).unwrap_err().to_string();
    assert_eq!(error, "record 1, operator: has characters that the file cannot carry");
    let gbk = parse("encoding = \"gbk\"");
    assert_eq!(write(&gbk).unwrap(), include_bytes!("golden/fixed.txt"));
    let mut rare = records();
    rare[0].values.insert("operator".into(), Value::Text("𠀀".into()));
    let error = fixed::write(Vec::new(), &gbk, rare.clone()).unwrap_err().to_string();
    assert_eq!(error, "record 1, operator: has characters that the file cannot carry");
    let layout = Layout::parse(EXAMPLE).unwrap();
    let bytes = fixed::write(Vec::new(), &layout, rare.clone()).unwrap();
    assert_eq!(read_fixed(&bytes).unwrap(), rare);
}

#[test]
fn a_layout_that_cannot_be_is_refused_by_record_and_field() {
    let layout = |from, to| Layout::parse(&with(EXAMPLE, from, to)).unwrap_err();
    for (from, to, record, field, why) in [
        ("start = 3, width = 8", "start = 4, width = 8", "header", "network", "does not start where"),
        ("width = 8, kind = \"text\"", "width = 0, kind = \"text\"", "header", "network", "the width is 0"),
        ("\"network\"", "\"record_type\"", "header", "record_type", "the name is there twice"),
        ("YYYYMMDDhhmmss", "YYYYMMDD", "header", "created", "the format has another width"),
        ("YYMMDD\" }", "YYMMxx\" }", "charge", "service_day", "the format has other parts"),
        ("kind = \"sequence\"", "kind = \"count\"", "charge", "number", "only a trailer has a count"),
        (
            "kind = \"count\"",
            "kind = \"sequence\"",
            "trailer",
            "details",
            "only a detail has a running number",
        ),
        ("of = \"amount\"", "of = \"station\"", "trailer", "total", "no detail has an amount"),
        (", of = \"amount\"", "", "trailer", "total", "needs the amount that it sums"),
        ("value = \"HD\"", "value = \"HDR\"", "header", "record_type", "the value is longer"),
        ("value = \"DT\"", "value = \"HD\"", "charge", "", "no constant tells it from"),
        (
            "kind = \"constant\", value = \"HD\"",
            "kind = \"number\", value = \"HD\"",
            "header",
            "record_type",
            "has an option",
        ),
        (
            "width = 32, kind = \"hash\"",
            "width = 3, kind = \"hash\"",
            "trailer",
            "hash",
            "a hash has 4 to 64 digits",
        ),
        (
            "width = 13, kind = \"constant\", value = \"\"",
            "width = 13, kind = \"number\"",
            "trailer",
            "filler",
            "comes after a hash",
        ),
        (
            "width = 8, kind = \"number\"",
            "width = 19, kind = \"number\"",
            "header",
            "batch",
            "has no digit, or more than 18",
        ),
    ] {
        match layout(from, to) {
            LayoutError::Field { record: r, field: f, why: w } => {
                assert_eq!((r.as_str(), f.as_str()), (record, field), "{w}");
                assert!(w.starts_with(why), "{w}");
            }
            other => panic!("{other}"),
        }
    }
    assert!(matches!(layout("format = 1", "format = 2"), LayoutError::Records(_)));
    assert!(matches!(
        layout("role = \"trailer\"", "role = \"header\""),
        LayoutError::Field { .. } | LayoutError::Records(_)
    ));
    let unknown = layout("line_end", "line_ending").to_string();
    assert!(unknown.contains("line_ending"), "{unknown}");
}
