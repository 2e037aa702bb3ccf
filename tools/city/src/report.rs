//! The day's report: as JSON for machines, as a short table for people.

use crate::player::Player;
use crate::world::{Expected, World};
use anstyle::{AnsiColor, Style};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Write};
use wavepass_protocol::tap::Reason;

const BOLD: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
/// How many surprises are listed; the rest are counted.
const LISTED: usize = 20;

/// Presentations by what came of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taps {
    /// All.
    pub presented: u64,
    /// The gate opened, again-openings included.
    pub opened: u64,
    /// Of these, opened again as the same tap.
    pub again: u64,
    /// The gate refused, by reason.
    pub refused: BTreeMap<String, u64>,
}

/// Time of the gate's own work for a tap, µs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateTime {
    /// Median.
    pub p50: u32,
    /// 99th percentile.
    pub p99: u32,
}

/// What the gateway's books say of the day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Books {
    /// Journeys.
    pub journeys: u64,
    /// Journeys by status.
    #[serde(default)]
    pub journeys_by_status: BTreeMap<String, u64>,
    /// What riders owe for the day.
    pub charged_fen: i64,
    /// What the bank has debited.
    pub deducted_fen: i64,
    /// What campaigns pay.
    pub sponsored_fen: i64,
    /// Declined or not yet asked for.
    pub owed_fen: i64,
    /// Asked for, without an answer.
    pub in_doubt_fen: i64,
    /// Given up: for riders' sake, and as lost.
    pub waived_fen: i64,
    /// What of it was given up as lost; absent from a report of before there was such.
    #[serde(default)]
    pub written_off_fen: i64,
    /// The part of owed or waived that the bank bears.
    pub covered_fen: i64,
    /// Due to operators.
    pub settled_fen: i64,
    /// Kept as fees.
    pub fees_fen: i64,
    /// Sum of all postings: 0.
    pub ledger_sum_fen: i64,
    /// Differences that reconciliation found.
    pub breaks: u64,
    /// Entries of the deny list.
    pub deny_list: u64,
}

/// The gateway's half of the report.
#[derive(Debug, Clone, Deserialize)]
pub struct HostReport {
    /// Opened taps that the host has, each once.
    pub taps_opened: u64,
    /// The rest.
    #[serde(flatten)]
    pub books: Books,
}

/// The report. Its names are fixed; others script against them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The service day, `YYYY-MM-DD`.
    pub service_day: String,
    /// Presentations.
    pub taps: Taps,
    /// Journeys and money.
    #[serde(flatten)]
    pub books: Books,
    /// Presentations that did not end as planned: 0.
    pub surprises: u64,
    /// The gate's own work.
    pub gate_us: GateTime,
    /// Presentations a second, from the first tap to the settled day.
    pub taps_per_second: f64,
}

/// A presentation that did not end as planned.
pub struct Surprise {
    gate: u32,
    card: String,
    expected: Expected,
    found: Option<Reason>,
    again: bool,
}

/// What the gates say of the day.
pub struct Tally {
    /// Presentations.
    pub taps: Taps,
    /// What did not end as planned.
    pub surprises: Vec<Surprise>,
    /// The gates' own work.
    pub gate_us: GateTime,
    /// Distinct taps that opened.
    pub opened_once: u64,
}

/// Counts what the gates noted, and compares it with the plan.
pub fn tally(players: &[Player], world: &World) -> Tally {
    let mut taps = Taps::default();
    let mut surprises = Vec::new();
    let mut times = Vec::new();
    for player in players {
        for (event, played) in player.played() {
            taps.presented += 1;
            match played.refusal() {
                None => taps.opened += 1,
                Some(reason) => *taps.refused.entry(reason.word().to_owned()).or_default() += 1,
            }
            taps.again += u64::from(played.again);
            times.extend(played.gate_us);
            if !played.is_as(event.expected) {
                surprises.push(Surprise {
                    gate: player.id(),
                    card: format!("{:?} {}", world.cards[event.card].kind, event.card),
                    expected: event.expected,
                    found: played.refusal(),
                    again: played.again,
                });
            }
        }
    }
    times.sort_unstable();
    let at =
        |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied();
    let gate_us = GateTime { p50: at(50).unwrap_or(0), p99: at(99).unwrap_or(0) };
    let opened_once = taps.opened - taps.again;
    Tally { taps, surprises, gate_us, opened_once }
}

impl Report {
    /// Joins both halves.
    pub fn new(service_day: String, tally: &Tally, host: &HostReport, taps_per_second: f64) -> Self {
        Self {
            service_day,
            taps: tally.taps.clone(),
            books: host.books.clone(),
            surprises: tally.surprises.len() as u64,
            gate_us: tally.gate_us.clone(),
            taps_per_second,
        }
    }

    /// What is wrong with the books or the day; empty where all is well.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let accounted = self.books.deducted_fen
            + self.books.sponsored_fen
            + self.books.owed_fen
            + self.books.in_doubt_fen
            + self.books.waived_fen;
        if self.books.charged_fen != accounted {
            faults.push(format!(
                "charged {} fen, but {accounted} fen are accounted for",
                self.books.charged_fen
            ));
        }
        let settled =
            self.books.deducted_fen + self.books.sponsored_fen + self.books.covered_fen - self.books.fees_fen;
        if self.books.settled_fen != settled {
            faults.push(format!("settled {} fen instead of {settled}", self.books.settled_fen));
        }
        if self.books.ledger_sum_fen != 0 {
            faults.push(format!("the ledger sums to {} fen", self.books.ledger_sum_fen));
        }
        if self.books.breaks != 0 {
            faults.push(format!("reconciliation found {} breaks", self.books.breaks));
        }
        if self.surprises != 0 {
            faults.push(format!("{} presentations did not end as planned", self.surprises));
        }
        faults
    }

    /// Prints the table.
    pub fn print(&self, data: &std::path::Path) -> io::Result<()> {
        let mut out = anstream::stdout().lock();
        writeln!(out, "\n{BOLD}Service day {}{BOLD:#}", self.service_day)?;
        let count = |n: u64| grouped(i64::try_from(n).unwrap_or(i64::MAX));
        writeln!(out, "  taps presented    {:>14}", count(self.taps.presented))?;
        writeln!(
            out,
            "  opened            {:>14}   of these {} a second wave of the same tap",
            count(self.taps.opened),
            self.taps.again
        )?;
        let refused: u64 = self.taps.refused.values().sum();
        writeln!(out, "  refused           {:>14}", count(refused))?;
        for (reason, n) in &self.taps.refused {
            writeln!(out, "    {reason:<24}{:>6}", count(*n))?;
        }
        writeln!(out, "  journeys          {:>14}", count(self.books.journeys))?;
        for (status, n) in &self.books.journeys_by_status {
            writeln!(out, "    {status:<24}{:>6}", count(*n))?;
        }
        writeln!(out, "{BOLD}Money, CNY{BOLD:#}")?;
        for (name, fen) in [
            ("charged", self.books.charged_fen),
            ("deducted", self.books.deducted_fen),
            ("sponsored", self.books.sponsored_fen),
            ("owed", self.books.owed_fen),
            ("in doubt", self.books.in_doubt_fen),
            ("waived", self.books.waived_fen),
            ("settled", self.books.settled_fen),
            ("fees", self.books.fees_fen),
            ("ledger sum", self.books.ledger_sum_fen),
        ] {
            writeln!(out, "  {name:<17} {:>14}", yuan(fen))?;
        }
        writeln!(out, "{BOLD}Gate and host{BOLD:#}")?;
        writeln!(
            out,
            "  gate's own work   {:>11} µs   median; {} µs at the 99th percentile",
            self.gate_us.p50, self.gate_us.p99
        )?;
        writeln!(
            out,
            "  taps a second     {:>14.0}   phones, gates, gateway, close and settlement together",
            self.taps_per_second
        )?;
        writeln!(out, "  deny list         {:>14}", count(self.books.deny_list))?;
        writeln!(out, "  breaks            {:>14}", count(self.books.breaks))?;
        writeln!(out, "  data              {}", data.display())?;
        let faults = self.faults();
        if faults.is_empty() {
            writeln!(out, "{GOOD}The books balance, and every card was treated as it should be.{GOOD:#}")?;
        }
        for fault in faults {
            writeln!(out, "{BAD}{fault}{BAD:#}")?;
        }
        out.flush()
    }
}

/// Lists what did not end as planned.
pub fn print_surprises(surprises: &[Surprise]) -> io::Result<()> {
    let mut out = anstream::stderr().lock();
    for s in surprises.iter().take(LISTED) {
        let found = s.found.map_or(if s.again { "again" } else { "open" }, Reason::word);
        writeln!(out, "gate {}: card {}: planned {:?}, found {found}", s.gate, s.card, s.expected)?;
    }
    if surprises.len() > LISTED {
        writeln!(out, "… and {} more", surprises.len() - LISTED)?;
    }
    out.flush()
}

fn grouped(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    if n < 0 { format!("-{out}") } else { out }
}

fn yuan(fen: i64) -> String {
    let sign = if fen < 0 { "-" } else { "" };
    let fen = fen.unsigned_abs();
    format!("{sign}{}.{:02}", grouped(i64::try_from(fen / 100).unwrap_or(i64::MAX)), fen % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_written_in_yuan_and_fen() {
        assert_eq!(yuan(123_456_789), "1,234,567.89");
        assert_eq!(yuan(-5), "-0.05");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(-1_000), "-1,000");
    }
}
