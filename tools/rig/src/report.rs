//! What came of a suite: for people, as a table, as JUnit XML, and as JSON that can be read again.

use crate::bench::Said;
use crate::suite::WayName;
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt::{self, Write};
use std::time::Duration;

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// What was expected.
    Passed(Said),
    /// Something else.
    Failed(Said),
    /// It could not be tried.
    NotTried(String),
    /// It is not for this way.
    Skipped(String),
}

impl Outcome {
    const fn mark(&self) -> &'static str {
        match self {
            Self::Passed(_) => "ok",
            Self::Failed(_) => "FAILED",
            Self::NotTried(_) => "NOT TRIED",
            Self::Skipped(_) => "–",
        }
    }
}

/// One case and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The case.
    pub case: String,
    /// What must come of it.
    pub expected: String,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took, the making of the phone included, microseconds.
    pub took_us: u64,
}

impl Row {
    /// What went wrong, in words.
    pub fn complaint(&self) -> Option<String> {
        match &self.outcome {
            Outcome::Failed(said) => {
                let method = said.method.as_ref().map_or(String::new(), |m| format!(" by {m}"));
                Some(format!("{} instead of {}{method}", said.word, self.expected))
            }
            Outcome::NotTried(why) => Some(format!("could not be tried: {why}")),
            Outcome::Passed(_) | Outcome::Skipped(_) => None,
        }
    }
}

/// What came of a suite on one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The suite.
    pub suite: String,
    /// The way.
    pub way: WayName,
    /// The cases, in the suite's order.
    pub rows: Vec<Row>,
}

impl Report {
    /// True if every case that was for this way came out as expected, and there was one.
    pub fn passed(&self) -> bool {
        self.count(|o| matches!(o, Outcome::Passed(_))) > 0
            && self.rows.iter().all(|row| row.complaint().is_none())
    }

    /// How many came out so.
    pub fn count(&self, so: impl Fn(&Outcome) -> bool) -> usize {
        self.rows.iter().filter(|row| so(&row.outcome)).count()
    }

    /// The last line of a run.
    pub fn summary(&self) -> String {
        format!(
            "{}: {} passed, {} failed, {} not tried, {} not for this way",
            self.way.word(),
            self.count(|o| matches!(o, Outcome::Passed(_))),
            self.count(|o| matches!(o, Outcome::Failed(_))),
            self.count(|o| matches!(o, Outcome::NotTried(_))),
            self.count(|o| matches!(o, Outcome::Skipped(_))),
        )
    }
}

/// Text of others in Markdown: nothing of it ends a cell or a line, or begins markup.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '|' | '<' | '*' | '[' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// The reports of one suite on several ways as a table in Markdown.
pub fn table(out: &mut impl Write, reports: &[Report]) -> fmt::Result {
    let Some(first) = reports.first() else { return Ok(()) };
    let ways: Vec<&str> = reports.iter().map(|report| report.way.word()).collect();
    writeln!(out, "# Suite {}\n", plain(&first.suite))?;
    for report in reports {
        writeln!(out, "- {}", report.summary())?;
    }
    writeln!(out, "\n| case | expected | {} |", ways.join(" | "))?;
    writeln!(out, "| --- | --- |{}", " --- |".repeat(ways.len()))?;
    for (i, row) in first.rows.iter().enumerate() {
        let cells: Vec<&str> =
            reports.iter().map(|r| r.rows.get(i).map_or("", |row| row.outcome.mark())).collect();
        writeln!(out, "| {} | {} | {} |", plain(&row.case), plain(&row.expected), cells.join(" | "))?;
    }
    let complaints = reports.iter().flat_map(|report| {
        let line = |row: &Row| {
            let complaint = plain(&row.complaint()?);
            Some(format!("- {}, {}: {complaint}", report.way.word(), plain(&row.case)))
        };
        report.rows.iter().filter_map(line)
    });
    let mut skipped: Vec<String> = reports
        .iter()
        .flat_map(|report| {
            report.rows.iter().filter_map(|row| match &row.outcome {
                Outcome::Skipped(why) => Some(format!("- not on {}: {}", report.way.word(), plain(why))),
                _ => None,
            })
        })
        .collect();
    skipped.sort();
    skipped.dedup();
    let lines: Vec<String> = complaints.chain(skipped).collect();
    if !lines.is_empty() {
        writeln!(out, "\n{}", lines.join("\n"))?;
    }
    Ok(())
}

/// Reports for machines.
pub fn to_json(reports: &[Report]) -> Value {
    let one = |report: &Report| {
        let complaints =
            report.rows.iter().filter_map(|row| Some((row.case.clone(), row.complaint()?.into())));
        json!({
            "way": report.way,
            "passed": report.count(|o| matches!(o, Outcome::Passed(_))),
            "failed": report.count(|o| matches!(o, Outcome::Failed(_))),
            "not_tried": report.count(|o| matches!(o, Outcome::NotTried(_))),
            "skipped": report.count(|o| matches!(o, Outcome::Skipped(_))),
            "complaints": complaints.collect::<serde_json::Map<_, _>>(),
            "cases": report.rows,
        })
    };
    json!({
        "suite": reports.first().map(|report| report.suite.as_str()),
        "ways": reports.iter().map(one).collect::<Vec<_>>(),
    })
}

/// Why reports cannot be read, or not be put side by side.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// Not the JSON of reports; the message names line and column.
    #[error("no report: {0}")]
    Json(#[from] serde_json::Error),
    /// The cases of one way are not those of the first.
    #[error("what was run on {} are not the cases of {}", .0.word(), .1.word())]
    OtherCases(WayName, WayName),
    /// A way that is there twice.
    #[error("{} is there twice", .0.word())]
    Twice(WayName),
}

#[derive(Deserialize)]
struct Saved {
    suite: String,
    ways: Vec<SavedWay>,
}

#[derive(Deserialize)]
struct SavedWay {
    way: WayName,
    cases: Vec<Row>,
}

/// Reads what [`to_json`] made.
pub fn from_json(text: &str) -> Result<Vec<Report>, MergeError> {
    let Saved { suite, ways } = serde_json::from_str(text)?;
    Ok(ways.into_iter().map(|w| Report { suite: suite.clone(), way: w.way, rows: w.cases }).collect())
}

/// Puts reports side by side if they are of the same cases on different ways.
pub fn merge(reports: Vec<Report>) -> Result<Vec<Report>, MergeError> {
    for (i, report) in reports.iter().enumerate() {
        let first = &reports[0];
        let cases = |report: &Report| {
            report.rows.iter().map(|row| (row.case.clone(), row.expected.clone())).collect::<Vec<_>>()
        };
        if report.suite != first.suite || cases(report) != cases(first) {
            return Err(MergeError::OtherCases(report.way, first.way));
        }
        if reports[..i].iter().any(|before| before.way == report.way) {
            return Err(MergeError::Twice(report.way));
        }
    }
    Ok(reports)
}

/// The reports as JUnit XML.
pub fn junit(reports: &[Report]) -> Result<String, quick_junit::SerializeError> {
    let name = reports.first().map_or("rig", |report| report.suite.as_str());
    let mut xml = quick_junit::Report::new(name);
    for report in reports {
        let mut suite = TestSuite::new(format!("{} on {}", report.suite, report.way.word()));
        for row in &report.rows {
            let mut status = match &row.outcome {
                Outcome::Passed(_) => TestCaseStatus::success(),
                Outcome::Failed(_) => TestCaseStatus::non_success(NonSuccessKind::Failure),
                Outcome::NotTried(_) => TestCaseStatus::non_success(NonSuccessKind::Error),
                Outcome::Skipped(_) => TestCaseStatus::skipped(),
            };
            match (&row.outcome, row.complaint()) {
                (Outcome::Skipped(why), _) => {
                    status.set_message(why.clone());
                }
                (_, Some(complaint)) => {
                    status.set_message(complaint);
                }
                _ => {}
            }
            let mut case = TestCase::new(row.case.clone(), status);
            case.set_classname(format!("{}.{}", report.suite, report.way.word()))
                .set_time(Duration::from_micros(row.took_us));
            suite.add_test_case(case);
        }
        xml.add_test_suite(suite);
    }
    xml.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::slice::from_ref;

    fn report() -> Report {
        let said = |word: &str| Said { word: word.to_owned(), method: None };
        let row = |case: &str, outcome| Row {
            case: case.to_owned(),
            expected: "open".to_owned(),
            outcome,
            took_us: 2_000,
        };
        Report {
            suite: "s".to_owned(),
            way: WayName::Process,
            rows: vec![
                row("good", Outcome::Passed(said("open"))),
                row("bad <card>", Outcome::Failed(said("expired"))),
                row("lost", Outcome::NotTried("no reader".to_owned())),
                row("other", Outcome::Skipped("firmware only".to_owned())),
            ],
        }
    }

    #[test]
    fn a_report_passes_only_where_everything_did() {
        let mut report = report();
        assert!(!report.passed());
        report.rows.truncate(1);
        assert!(report.passed());
        report.rows.clear();
        assert!(!report.passed(), "nothing was tried");
    }

    #[test]
    fn what_was_written_is_read_again_and_put_side_by_side() {
        let read = |reports: &[Report]| from_json(&to_json(reports).to_string()).unwrap();
        let here = report();
        let there = Report { way: WayName::Qemu, ..report() };
        let both = merge([&here, &there].into_iter().flat_map(|one| read(from_ref(one))).collect()).unwrap();
        assert_eq!(both, [here.clone(), there.clone()]);
        let mut text = String::new();
        table(&mut text, &both).unwrap();
        assert!(text.lines().any(|line| line == "| case | expected | process | qemu |"), "{text}");
        let error = |reports: [&Report; 2]| merge(reports.map(Clone::clone).into()).unwrap_err().to_string();
        assert_eq!(error([&here, &here]), "process is there twice");
        let mut other = there;
        other.rows[1].expected = "expired".to_owned();
        assert_eq!(error([&here, &other]), "what was run on qemu are not the cases of process");
        assert!(from_json("{}").unwrap_err().to_string().starts_with("no report: missing field"));
    }

    #[test]
    fn the_table_and_the_xml_say_what_went_wrong() {
        let mut text = String::new();
        table(&mut text, &[report()]).unwrap();
        for line in [
            "- process: 1 passed, 1 failed, 1 not tried, 1 not for this way",
            "| bad \\<card> | open | FAILED |",
            "- process, bad \\<card>: expired instead of open",
            "- not on process: firmware only",
        ] {
            assert!(text.lines().any(|l| l == line), "`{line}` is not in:\n{text}");
        }
        let mut odd = report();
        odd.rows[1].case = "a|b\nc `d`".to_owned();
        odd.rows[1].outcome = Outcome::NotTried("x|y\r\n- z".to_owned());
        text.clear();
        table(&mut text, &[odd]).unwrap();
        for line in [
            r"| a\|b c \`d\` | open | NOT TRIED |",
            r"- process, a\|b c \`d\`: could not be tried: x\|y  - z",
        ] {
            assert!(text.lines().any(|l| l == line), "`{line}` is not in:\n{text}");
        }
        let xml = junit(&[report()]).unwrap();
        for part in [
            "tests=\"4\"",
            "failures=\"1\"",
            "errors=\"1\"",
            "<testcase name=\"bad &lt;card&gt;\" classname=\"s.process\"",
            "message=\"expired instead of open\"",
            "<skipped message=\"firmware only\"",
        ] {
            assert!(xml.contains(part), "`{part}` is not in:\n{xml}");
        }
    }
}
