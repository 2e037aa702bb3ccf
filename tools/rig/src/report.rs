//! What came of a suite: for people, as a table, and as JUnit XML.

use crate::bench::Said;
use crate::suite::WayName;
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use std::fmt::{self, Write};
use std::time::Duration;

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone)]
pub struct Row {
    /// The case.
    pub case: String,
    /// What must come of it.
    pub expected: String,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took, the making of the phone included.
    pub took: Duration,
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
#[derive(Debug, Clone)]
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

/// The reports of one suite on several ways as a table in Markdown.
pub fn table(out: &mut impl Write, reports: &[Report]) -> fmt::Result {
    let Some(first) = reports.first() else { return Ok(()) };
    let ways: Vec<&str> = reports.iter().map(|report| report.way.word()).collect();
    writeln!(out, "# Suite {}\n", first.suite)?;
    for report in reports {
        writeln!(out, "- {}", report.summary())?;
    }
    writeln!(out, "\n| case | expected | {} |", ways.join(" | "))?;
    writeln!(out, "| --- | --- |{}", " --- |".repeat(ways.len()))?;
    for (i, row) in first.rows.iter().enumerate() {
        let cells: Vec<&str> =
            reports.iter().map(|r| r.rows.get(i).map_or("", |row| row.outcome.mark())).collect();
        writeln!(out, "| {} | {} | {} |", row.case, row.expected, cells.join(" | "))?;
    }
    let complaints = reports.iter().flat_map(|report| {
        let line = |row: &Row| Some(format!("- {}, {}: {}", report.way.word(), row.case, row.complaint()?));
        report.rows.iter().filter_map(line)
    });
    let mut skipped: Vec<String> = reports
        .iter()
        .flat_map(|report| {
            report.rows.iter().filter_map(|row| match &row.outcome {
                Outcome::Skipped(why) => Some(format!("- not on {}: {why}", report.way.word())),
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
            case.set_classname(format!("{}.{}", report.suite, report.way.word())).set_time(row.took);
            suite.add_test_case(case);
        }
        xml.add_test_suite(suite);
    }
    xml.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let said = |word: &str| Said { word: word.to_owned(), method: None };
        let row = |case: &str, outcome| Row {
            case: case.to_owned(),
            expected: "open".to_owned(),
            outcome,
            took: Duration::from_millis(2),
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
    fn the_table_and_the_xml_say_what_went_wrong() {
        let mut text = String::new();
        table(&mut text, &[report()]).unwrap();
        for line in [
            "- process: 1 passed, 1 failed, 1 not tried, 1 not for this way",
            "| bad <card> | open | FAILED |",
            "- process, bad <card>: expired instead of open",
            "- not on process: firmware only",
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
