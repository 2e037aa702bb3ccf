//! A tap as people read it, and as machines do.
//!
//! Nothing that identifies a rider is shown unless it was asked for: of a number the last four digits, of
//! certificates, signatures and track data their length.

use crate::relay;
use crate::scheme;
use crate::seen::Seen;
use crate::tap::{Exchanged, Tap, decision_word, phase_word};
use crate::text::suite_word;
use crate::verdict::method_word;
use crate::words;
use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};
use std::fmt::{self, Write};
use std::time::Duration;
use wavepass_hce::decode::{Follower, Numbers};
use wavepass_hce::hex;
use wavepass_kernel::{Decision, Fate};
use wavepass_protocol::tap::Reason;
use wavepass_protocol::token::{MAX_DIGITS, Token};

/// What is wrong.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// What is right.
pub const GOOD: Style = AnsiColor::Green.on_default().bold();
/// Headings.
pub const BOLD: Style = Style::new().bold();
/// What matters less.
pub const DIM: Style = Style::new().dimmed();
const BAR: Style = AnsiColor::Cyan.on_default();
/// Cells of the longest bar.
const BAR_WIDTH: u64 = 40;

/// What is shown beyond the usual.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Whole card numbers, and every byte.
    pub numbers: bool,
}

/// One exchange: the command, the values that the card asked for, the answer's objects. The follower has seen those
/// before.
pub fn exchange(
    out: &mut impl Write,
    follower: &mut Follower,
    exchanged: &Exchanged,
    options: Options,
) -> fmt::Result {
    let millis = Millis(exchanged.took_us);
    let decoded = follower.exchange(&exchanged.command, exchanged.answer.as_deref().unwrap_or_default());
    writeln!(out, "{BOLD}→ {}{BOLD:#}  {DIM}{millis}{DIM:#}", decoded.name())?;
    if options.numbers {
        writeln!(out, "  {DIM}{}{DIM:#}", hex::encode(&exchanged.command))?;
    }
    for line in decoded.sent() {
        writeln!(out, "{line}")?;
    }
    let style = if decoded.is_success() { GOOD } else { BAD };
    match (&exchanged.answer, decoded.status()) {
        (None, _) => return writeln!(out, "{BAD}← no answer{BAD:#}"),
        (Some(_), Some(status)) => writeln!(out, "{style}← {status}{style:#}")?,
        (Some(answer), None) => writeln!(out, "{style}← no status word, {} bytes{style:#}", answer.len())?,
    }
    if options.numbers
        && let Some(answer) = &exchanged.answer
    {
        writeln!(out, "  {DIM}{}{DIM:#}", hex::encode(answer))?;
    }
    for line in decoded.answered() {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// A follower that shows as much as is asked for.
pub fn follower(options: Options) -> Follower {
    Follower::new(if options.numbers { Numbers::Shown } else { Numbers::Masked })
}

/// Microseconds as milliseconds.
struct Millis(u64);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{:02} ms", self.0 / 1000, self.0 % 1000 / 10))
    }
}

fn number(token: &Token, options: Options) -> String {
    if options.numbers {
        token.write_digits(&mut [0; MAX_DIGITS]).to_owned()
    } else {
        token.last_four().to_string()
    }
}

/// The way through the kernel: which applications the card has, which one was taken, and why not the others.
fn directory(out: &mut impl Write, seen: &Seen, tap: &Tap) -> fmt::Result {
    if seen.directory.is_empty() {
        return Ok(());
    }
    // A tap that ended before the choice says nothing of what the terminal accepts.
    let chose = !tap.choices.is_empty() || tap.decision == Decision::Refuse(Reason::NoApplication);
    writeln!(out, "\n{BOLD}applications of the card{BOLD:#}")?;
    for (entry, label) in &seen.directory {
        let choice = tap.choices.iter().find(|(aid, _)| *aid == entry.aid);
        let what = match choice.map(|(_, fate)| fate) {
            Some(Fate::Taken) => "chosen",
            Some(Fate::PassedOver) => "tried; the card refused it",
            Some(Fate::NotTried) => "accepted, but another comes first",
            None if chose => "this terminal does not accept it",
            None => "",
        };
        let label = label.as_deref().unwrap_or("");
        let priority = match entry.priority {
            0 => "no priority".to_owned(),
            n => format!("priority {n}"),
        };
        let line = format!("  {:<32} {label:<16} {priority:<12} {what}", entry.aid.to_string());
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// The certificates; `place` is where the authorities' keys are from: the terminal, or a transcript.
pub(crate) fn certificates(out: &mut impl Write, tap: &Tap, place: &str) -> fmt::Result {
    let chain = &tap.verdict.chain;
    let Some(authority) = &chain.authority else { return Ok(()) };
    writeln!(out, "\n{BOLD}certificates{BOLD:#}")?;
    let missing = format!("{BAD}not in this {place}{BAD:#}");
    let key = authority.key.as_deref().unwrap_or(&missing);
    writeln!(out, "  authority  {} {:02X}: {key}", hex::encode(&authority.rid), authority.index)?;
    for (who, certificate) in [("issuer", &chain.issuer), ("card", &chain.card)] {
        match certificate {
            Some(c) => {
                let issuer = c.issuer.as_ref().map_or(String::new(), |id| format!("numbers {id}…, "));
                let until = if c.expired {
                    format!("{BAD}expired {}{BAD:#}", c.until())
                } else {
                    format!("until {}", c.until())
                };
                writeln!(out, "  {who:<9}  {issuer}serial {}, {until}: {}", c.serial, c.key)?;
            }
            None => writeln!(out, "  {who:<9}  {DIM}not opened{DIM:#}")?,
        }
    }
    let method = tap.verdict.method.map_or("none", method_word);
    let format = chain.signed_format.map_or(String::new(), |f| format!(", signed data format {f:02X}"));
    match &tap.verdict.failure {
        None => writeln!(out, "  signature  {GOOD}right{GOOD:#} ({method}{format})"),
        Some(failure) => {
            writeln!(
                out,
                "  {BAD}failed{BAD:#}     at {}: {} ({method}{format})",
                failure.step, failure.reason
            )
        }
    }
}

fn times(out: &mut impl Write, tap: &Tap) -> fmt::Result {
    let mut rows = tap.phases_us();
    rows.push(("kernel's work", tap.work_us()));
    let longest = rows.iter().map(|(_, us)| *us).max().unwrap_or(0).max(1);
    writeln!(out, "\n{BOLD}time{BOLD:#}")?;
    for (name, us) in rows {
        let cells = us.saturating_mul(BAR_WIDTH).div_ceil(longest).min(BAR_WIDTH);
        let bar = "█".repeat(usize::try_from(cells).unwrap_or(0));
        writeln!(out, "  {name:<13} {:>11}  {BAR}{bar}{BAR:#}", Millis(us))?;
    }
    writeln!(out, "  {:<13} {:>11}", "in all", Millis(tap.total_us))
}

/// All after the exchanges: applications, card, certificates, times, decision, and what it means.
pub fn summary(out: &mut impl Write, tap: &Tap, options: Options) -> fmt::Result {
    let seen = Seen::of(&tap.exchanges);
    directory(out, &seen, tap)?;
    if let Some(token) = &tap.known.token {
        writeln!(out, "\n{BOLD}card{BOLD:#}")?;
        let good = tap.verdict.passed();
        let expiry = tap
            .known
            .expiry
            .map_or(String::new(), |e| format!(", good until 20{:02}-{:02}", e.year, e.month));
        let claim = if good { "" } else { " (only what it claims)" };
        writeln!(out, "  number {}{expiry}{claim}", number(token, options))?;
        let counter = tap.known.atc.map_or(String::new(), |atc| format!("transaction counter {atc}"));
        let kind = match tap.known.cid.map(|cid| cid >> 6) {
            Some(0) => ", declines (AAC)",
            Some(1) => ", approves off line (TC)",
            Some(2) => ", asks its bank (ARQC)",
            _ => "",
        };
        if !counter.is_empty() {
            writeln!(out, "  {counter}{kind}")?;
        }
    }
    certificates(out, tap, "terminal")?;
    times(out, tap)?;
    relay::show(out, tap)?;
    let sentence = words::sentence(tap.decision, tap.verdict.passed());
    match tap.decision {
        Decision::Open { .. } => writeln!(out, "\n{GOOD}OPEN{GOOD:#}  {sentence}")?,
        Decision::Refuse(reason) => writeln!(out, "\n{BAD}REFUSED {reason}{BAD:#}  {sentence}")?,
    }
    if let Some(advice) = words::advice(&tap.verdict) {
        writeln!(out, "{advice}")?;
    }
    if let Some(advice) = no_application(&seen, tap) {
        writeln!(out, "{advice}")?;
    }
    Ok(())
}

fn no_application(seen: &Seen, tap: &Tap) -> Option<String> {
    // Where both sides know one, the card itself did not select it.
    let refused = tap.decision == Decision::Refuse(Reason::NoApplication) && tap.choices.is_empty();
    let offered = || scheme::offered(&seen.directory.iter().map(|(entry, _)| entry.aid).collect::<Vec<_>>());
    refused.then(offered).flatten()
}

/// A tap for machines. Raw bytes only where numbers are asked for.
pub fn json(tap: &Tap, options: Options) -> Value {
    let mut follower = follower(options);
    let mut exchange = |e: &Exchanged| {
        let decoded = follower.exchange(&e.command, e.answer.as_deref().unwrap_or_default());
        let mut one = decoded.to_json(Duration::from_micros(e.took_us));
        one["phase"] = phase_word(e.phase).into();
        one["work_us"] = e.work_us.into();
        one
    };
    let certificate = |c: &crate::chain::Certificate| {
        json!({
            "issuer": c.issuer,
            "serial": c.serial,
            "until": c.until(),
            "expired": c.expired,
            "key": c.key,
        })
    };
    let chain = &tap.verdict.chain;
    let phases: serde_json::Map<String, Value> =
        tap.phases_us().into_iter().map(|(word, us)| (word.to_owned(), us.into())).collect();
    let open = matches!(tap.decision, Decision::Open { .. });
    json!({
        "decision": if open { "open" } else { "refuse" },
        "reason": (!open).then(|| decision_word(tap.decision)),
        "meaning": words::sentence(tap.decision, tap.verdict.passed()),
        "authentication": tap.verdict.to_json(),
        "application": hex::encode(&tap.known.aid),
        "card": {
            "number": tap.known.token.as_ref().map(|token| number(token, options)),
            "expiry": tap.known.expiry.map(|e| format!("20{:02}-{:02}", e.year, e.month)),
            "expiry_signed": tap.known.expiry_signed,
            "counter": tap.known.atc,
        },
        "authority": chain.authority.as_ref().map(|a| json!({
            "rid": hex::encode(&a.rid),
            "index": format!("{:02X}", a.index),
            "suite": suite_word(a.suite),
            "key": a.key,
        })),
        "issuer_certificate": chain.issuer.as_ref().map(certificate),
        "card_certificate": chain.card.as_ref().map(certificate),
        "relay": relay::to_json(tap),
        "time_us": { "phases": phases, "work": tap.work_us(), "total": tap.total_us },
        "exchange": tap.exchanges.iter().map(&mut exchange).collect::<Vec<_>>(),
    })
}
