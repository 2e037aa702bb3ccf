//! What a store holds in the end, as text that can be compared: every column that is content, in the order of its table's key.
//! Times of arrival are left out, and so is how far a close had come.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use serde_json::Value;
use wavepass_gateway::store::db::{Query, Row, query_made};
use wavepass_gateway::store::{Store, sql};

use crate::processes::Failure;

/// Rows read at a time.
const PAGE: usize = 5_000;
/// Lines that are shown of a difference.
const SHOWN: usize = 5;

/// Kinds of columns.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Number,
    Bytes,
    Text,
}

use Kind::{Bytes, Number, Text};

/// A table: its name, its columns, and how many of them, the first, are its key.
struct Table {
    name: &'static str,
    key: usize,
    columns: &'static [(&'static str, Kind)],
}

const fn table(name: &'static str, key: usize, columns: &'static [(&'static str, Kind)]) -> Table {
    Table { name, key, columns }
}

const DAY: (&str, Kind) = ("service_day", Number);
const TOKEN: (&str, Kind) = ("token_key", Bytes);
const PART: (&str, Kind) = ("part", Number);
const AMOUNT: (&str, Kind) = ("amount_fen", Number);
const STATE: (&str, Kind) = ("state", Text);
const KEY_ID: (&str, Kind) = ("key_id", Bytes);
const SEQUENCE: (&str, Kind) = ("sequence", Number);
const RANK: (&str, Kind) = ("rank", Number);

const TABLES: &[Table] = &[
    table(
        "taps",
        2,
        &[
            KEY_ID,
            SEQUENCE,
            TOKEN,
            ("time_ms", Number),
            DAY,
            ("station", Text),
            ("direction", Number),
            ("opened", Number),
            ("reason", Number),
            ("atc", Number),
            ("cryptogram", Number),
            ("oda", Number),
            ("card_digest", Bytes),
            ("passage", Number),
            ("withheld", Number),
        ],
    ),
    table(
        "token_taps",
        5,
        &[
            ("utc_day", Number),
            TOKEN,
            ("time_ms", Number),
            KEY_ID,
            SEQUENCE,
            ("clock", Number),
            DAY,
            ("station", Text),
            ("direction", Number),
            ("atc", Number),
            ("cryptogram", Number),
            ("card_digest", Bytes),
            ("passage", Number),
            ("withheld", Number),
        ],
    ),
    table("watermarks", 1, &[KEY_ID, ("acked", Number), ("last_counter", Number), ("tail", Bytes)]),
    table("passages_waiting", 2, &[KEY_ID, ("of", Number), ("outcome", Number)]),
    table("set_aside", 1, &[("id", Text), ("why", Text)]),
    table("alerts", 1, &[("id", Text), ("kind", Text), TOKEN, KEY_ID, SEQUENCE, ("event_ms", Number), DAY]),
    table("deny_entries", 2, &[TOKEN, ("cause", Text)]),
    table("retaps", 1, &[TOKEN]),
    table(
        "journeys",
        5,
        &[
            DAY,
            TOKEN,
            ("first_key", Bytes),
            ("first_sequence", Number),
            PART,
            ("superseded_by", Number),
            ("second_key", Bytes),
            ("second_sequence", Number),
            ("from_station", Text),
            ("entered_ms", Number),
            ("to_station", Text),
            ("left_ms", Number),
            ("nominal_fen", Number),
            ("charged_fen", Number),
            ("status", Text),
        ],
    ),
    table(
        "charges",
        3,
        &[
            DAY,
            TOKEN,
            PART,
            RANK,
            AMOUNT,
            STATE,
            ("attempts", Number),
            ("kind", Text),
            ("of_part", Number),
            ("offset_fen", Number),
        ],
    ),
    table("charge_shares", 4, &[DAY, TOKEN, PART, ("operator", Number), AMOUNT]),
    table("set_offs", 4, &[DAY, TOKEN, PART, ("of_part", Number), AMOUNT]),
    table("set_off_shares", 5, &[DAY, TOKEN, PART, ("of_part", Number), ("operator", Number), AMOUNT]),
    table(
        "batches",
        2,
        &[
            DAY,
            RANK,
            ("number", Number),
            ("charges", Number),
            ("total_fen", Number),
            ("previous_hash", Bytes),
            ("hash", Bytes),
        ],
    ),
    table(
        "attempts",
        4,
        &[
            DAY,
            TOKEN,
            PART,
            ("attempt_no", Number),
            ("account_id", Text),
            AMOUNT,
            STATE,
            ("reason", Text),
            ("hold_number", Number),
        ],
    ),
    table("debts", 3, &[TOKEN, DAY, PART, AMOUNT, ("reason", Text), STATE]),
    table(
        "ledger_transactions",
        4,
        &[DAY, ("shard", Bytes), PART, ("event", Number), ("kind", Text), ("at_ms", Number)],
    ),
    table(
        "ledger_postings",
        5,
        &[DAY, ("shard", Bytes), PART, ("event", Number), ("line", Number), ("account", Text), AMOUNT],
    ),
    table(
        "settlements",
        3,
        &[
            ("operator", Number),
            DAY,
            RANK,
            ("deducted_fen", Number),
            ("sponsored_fen", Number),
            ("covered_fen", Number),
            ("fees_fen", Number),
            ("settled_fen", Number),
        ],
    ),
    table(
        "settlement_terms",
        1,
        &[DAY, ("from_rank", Number), ("fee_basis_points", Number), ("weights", Text)],
    ),
    table("breaks", 1, &[("id", Text), ("kind", Text), ("subject", Text), DAY, ("detail", Text)]),
    table("bank_accounts", 1, &[("account_id", Text), STATE, ("balance_fen", Number)]),
    table(
        "bank_postings",
        3,
        &[
            ("account_id", Text),
            ("entry", Bytes),
            ("line", Number),
            ("side", Text),
            AMOUNT,
            ("at_ms", Number),
        ],
    ),
    table("bank_answers", 2, &[("account_id", Text), ("entry", Bytes), DAY, AMOUNT, ("answer", Text)]),
];

/// One column of a row.
#[derive(Debug, Clone)]
enum Cell {
    Number(Option<i64>),
    Bytes(Option<Vec<u8>>),
    Text(Option<String>),
}

impl Cell {
    fn of(row: &Row, at: usize, kind: Kind) -> Result<Self, Failure> {
        Ok(match kind {
            Number => Self::Number(row.try_get(at)?),
            Bytes => Self::Bytes(row.try_get::<Option<Vec<u8>>>(at)?),
            Text => Self::Text(row.try_get::<Option<String>>(at)?),
        })
    }

    fn bind<'v>(&'v self, query: Query<'v>) -> Query<'v> {
        match self {
            Self::Number(number) => query.bind(*number),
            Self::Bytes(bytes) => query.bind(bytes.as_deref()),
            Self::Text(text) => query.bind(text.as_deref()),
        }
    }

    fn text(&self) -> String {
        let text = match self {
            Self::Number(number) => number.map(|n| n.to_string()),
            Self::Bytes(bytes) => bytes.as_deref().map(sql::hex),
            Self::Text(text) => text.clone(),
        };
        text.unwrap_or_else(|| "-".into())
    }
}

impl Table {
    /// A page of rows; after the key of the last one where that is given.
    async fn page(&self, store: &Store, after: Option<&[Cell]>) -> Result<Vec<Vec<Cell>>, Failure> {
        let quoted: Vec<String> = self.columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let key = quoted[..self.key].join(", ");
        let beyond = match after {
            Some(_) => format!("WHERE ({key}) > ({})", vec!["?"; self.key].join(", ")),
            None => String::new(),
        };
        let (columns, name) = (quoted.join(", "), self.name);
        let text = format!("SELECT {columns} FROM {name} {beyond} ORDER BY {key} LIMIT {PAGE}");
        let query = after.unwrap_or_default().iter().fold(query_made(text), |query, cell| cell.bind(query));
        let rows = query.fetch_all(store.pool()).await?;
        let cells = |row: &Row| {
            self.columns.iter().enumerate().map(|(i, (_, kind))| Cell::of(row, i, *kind)).collect()
        };
        rows.iter().map(cells).collect()
    }

    async fn write(&self, store: &Store, folder: &Path) -> Result<(), Failure> {
        let mut out = BufWriter::new(File::create(folder.join(format!("{}.txt", self.name)))?);
        let mut page = self.page(store, None).await?;
        while let Some(last) = page.last() {
            for row in &page {
                let cells: Vec<String> = row.iter().map(Cell::text).collect();
                writeln!(out, "{}", cells.join("|"))?;
            }
            page = self.page(store, Some(&last[..self.key])).await?;
        }
        Ok(out.flush()?)
    }
}

/// Writes every table of content into a folder, a file each, a row a line.
pub async fn write(store: &Store, folder: &Path) -> Result<(), Failure> {
    for table in TABLES {
        table.write(store, folder).await.map_err(|error| format!("{}: {error}", table.name))?;
    }
    Ok(())
}

/// The lines of a file of text, one at a time; one that is no text or cannot be read ends the test.
pub fn lines(file: &Path) -> Result<impl Iterator<Item = String> + use<>, Failure> {
    let name = file.display().to_string();
    let lines = opened(file)?.lines();
    Ok(lines.map(move |line| line.unwrap_or_else(|error| panic!("{name}: {error}"))))
}

fn opened(file: &Path) -> Result<BufReader<File>, Failure> {
    Ok(BufReader::new(File::open(file).map_err(|error| format!("{}: {error}", file.display()))?))
}

/// The bytes of a file, a line with its end at a time.
fn pieces(file: &Path) -> Result<impl Iterator<Item = Result<Vec<u8>, Failure>> + use<>, Failure> {
    let mut input = opened(file)?;
    Ok(std::iter::from_fn(move || {
        let mut piece = Vec::new();
        match input.read_until(b'\n', &mut piece) {
            Ok(0) => None,
            Ok(_) => Some(Ok(piece)),
            Err(error) => Some(Err(error.into())),
        }
    }))
}

/// Holds two runs of lines against each other; an error shows the first that differ.
pub fn compare(
    what: &str,
    ours: impl Iterator<Item = String>,
    theirs: impl Iterator<Item = String>,
) -> Result<(), Failure> {
    hold(what, ours.map(Ok), theirs.map(Ok), |line: &String| line.clone())
}

/// The same of lines of any kind, which may fail to come.
fn hold<T: PartialEq>(
    what: &str,
    mut ours: impl Iterator<Item = Result<T, Failure>>,
    mut theirs: impl Iterator<Item = Result<T, Failure>>,
    shown: impl Fn(&T) -> String,
) -> Result<(), Failure> {
    let mut found = Vec::new();
    for number in 1.. {
        match (ours.next().transpose()?, theirs.next().transpose()?) {
            (None, None) => break,
            (ours, theirs) if ours == theirs => {}
            (ours, theirs) => {
                let side = |line: Option<T>| line.as_ref().map_or_else(|| "(no line)".into(), &shown);
                found.push(format!("line {number}:\n  {}\n  {}", side(ours), side(theirs)));
                if found.len() == SHOWN {
                    break;
                }
            }
        }
    }
    match found.is_empty() {
        true => Ok(()),
        false => Err(format!("{what} differs; the first lines that do:\n{}", found.join("\n")).into()),
    }
}

/// Holds the files of two folders against each other, byte for byte.
pub fn compare_folders(ours: &Path, theirs: &Path) -> Result<(), Failure> {
    let names = |folder: &Path| -> Result<Vec<String>, Failure> {
        let files = fs::read_dir(folder)?.map(|file| Ok(file?.file_name().to_string_lossy().into_owned()));
        let mut names = files.collect::<Result<Vec<_>, Failure>>()?;
        names.sort_unstable();
        Ok(names)
    };
    let all = names(ours)?;
    compare("the list of files", all.iter().cloned(), names(theirs)?.into_iter())?;
    let shown = |piece: &Vec<u8>| piece.escape_ascii().to_string();
    let one = |name: &String| hold(name, pieces(&ours.join(name))?, pieces(&theirs.join(name))?, shown);
    let found: Vec<String> = all.iter().filter_map(|name| one(name).err()).map(|e| e.to_string()).collect();
    if found.is_empty() { Ok(()) } else { Err(found.join("\n\n").into()) }
}

/// Rule 6 by a report: the ledger sums to zero, and charged is deducted, sponsored, owed, in doubt and waived.
pub fn balanced(report: &Value) -> Result<(), Failure> {
    let fen = |name: &str| report[name].as_i64().ok_or_else(|| format!("no {name} in {report}"));
    let mut parts = 0;
    for name in ["deducted_fen", "sponsored_fen", "owed_fen", "in_doubt_fen", "waived_fen"] {
        parts += fen(name)?;
    }
    match fen("ledger_sum_fen")? == 0 && fen("charged_fen")? == parts {
        true => Ok(()),
        false => Err(format!("the books do not balance: {report}").into()),
    }
}

/// The same once the day is settled: settled is deducted, sponsored and covered less fees.
pub fn settled(report: &Value) -> Result<(), Failure> {
    balanced(report)?;
    let fen = |name: &str| report[name].as_i64().ok_or_else(|| format!("no {name} in {report}"));
    let due = fen("deducted_fen")? + fen("sponsored_fen")? + fen("covered_fen")? - fen("fees_fen")?;
    match fen("settled_fen")? == due {
        true => Ok(()),
        false => Err(format!("what is settled is not what is due: {report}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comparing two folders, each of one file with these bytes, finds.
    fn found(ours: &[u8], theirs: &[u8]) -> Option<String> {
        let folders = [ours, theirs].map(|bytes| {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("file"), bytes).unwrap();
            folder
        });
        let [ours, theirs] = &folders;
        compare_folders(ours.path(), theirs.path()).err().map(|error| error.to_string())
    }

    #[test]
    fn folders_are_the_same_where_every_byte_is() {
        for same in [&b""[..], b"a\nb\n", b"a\r\n\xFF\nb"] {
            assert_eq!(found(same, same), None);
        }
        for (ours, theirs, first) in [
            // A line end, no text, and what comes after it, an end that is missing, and one line more.
            (&b"a\nb\n"[..], &b"a\r\nb\n"[..], "line 1:\n  a\\n\n  a\\r\\n"),
            (b"a\n\xFF\nb\n", b"a\n\xFE\nb\n", "line 2:\n  \\xff\\n\n  \\xfe\\n"),
            (b"\xFF\nb\n", b"\xFF\nc\n", "line 2:\n  b\\n\n  c\\n"),
            (b"a\n", b"a", "line 1:\n  a\\n\n  a"),
            (b"a\n", b"a\nb\n", "line 2:\n  (no line)\n  b\\n"),
        ] {
            let expected = format!("file differs; the first lines that do:\n{first}");
            assert_eq!(found(ours, theirs), Some(expected));
        }
    }

    #[test]
    #[should_panic(expected = "stream did not contain valid UTF-8")]
    fn a_line_that_is_no_text_does_not_end_a_file_unseen() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("table.txt");
        fs::write(&file, b"a\n\xFF\nb\n").unwrap();
        assert_eq!(lines(&file).unwrap().count(), 3);
    }
}
