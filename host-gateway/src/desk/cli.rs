//! `wavepass-gateway break | alert | audit`: list and end what a person must look at, and read who did what.

use super::alerts::{self, AlertRow};
use super::audit::{self, AuditRow};
use super::breaks::{self, BreakRow};
use super::{Change, Kinds, RowId, change, never_of};
use crate::cli::{App, CommandError, Output};
use crate::cursor;
use clap::{Args, Subcommand};
use std::fmt::Write;
use wavepass_fares::ServiceDay;

/// List, assign, note and end breaks.
#[derive(Debug, Args)]
pub struct BreakArgs {
    #[command(subcommand)]
    command: BreakCommand,
}

#[derive(Debug, Subcommand)]
enum BreakCommand {
    /// List breaks by id: the open ones.
    List {
        /// Only this day's, YYYY-MM-DD.
        #[arg(long)]
        day: Option<ServiceDay>,
        #[command(flatten)]
        page: Page,
    },
    /// Say who looks at a break.
    Assign {
        /// The break, as `break list` shows it.
        id: String,
        /// Who.
        #[arg(long, value_name = "NAME")]
        to: String,
    },
    /// Say something of a break, instead of what was said before.
    Note {
        /// The break, as `break list` shows it.
        id: String,
        /// What; no numbers of cards, no names.
        #[arg(long)]
        text: String,
    },
    /// End a break. One that reconciliation finds again is open again.
    End {
        /// The break, as `break list` shows it.
        id: String,
        /// Why, for the audit log; no numbers of cards, no names.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// List and end alerts.
#[derive(Debug, Args)]
pub struct AlertArgs {
    #[command(subcommand)]
    command: AlertCommand,
}

#[derive(Debug, Subcommand)]
enum AlertCommand {
    /// List alerts by id: those that nobody has ended.
    List {
        #[command(flatten)]
        page: Page,
    },
    /// End an alert. A token that it denied stays denied.
    End {
        /// The alert, as `alert list` shows it.
        id: String,
        /// Why, for the audit log; no numbers of cards, no names.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// Show who did what, the newest first.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Only what this one did: a user, or a part of the gateway such as `clearing`.
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Only this action, such as `debt.waive`; `debt` stands for all of its kind.
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Only what was done to this: a token's key, a gate's number, a day, an id, as the list shows it.
    #[arg(long, value_name = "TEXT")]
    subject: Option<String>,
    /// From the line before this number.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i64).range(1..))]
    before: Option<i64>,
    /// How many at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Page {
    /// Only of this kind.
    #[arg(long)]
    kind: Option<String>,
    /// Those that have ended, too.
    #[arg(long)]
    all: bool,
    /// From the one after this id.
    #[arg(long, value_name = "ID", value_parser = cursor::parse::<RowId>)]
    after: Option<RowId>,
    /// How many at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs a `break` command as `user`.
pub async fn run_break(args: BreakArgs, app: &App, user: &str) -> Result<Output, CommandError> {
    let (id, what, done) = match &args.command {
        BreakCommand::List { day, page } => {
            let Page { kind, all, after, limit, json } = page;
            let (kind, after) = (kind.clone(), after.clone());
            let wanted = breaks::Wanted { day: *day, kind, closed: *all, after, limit: *limit };
            let found = breaks::list(&app.store, wanted).await?;
            let text = if *json { serde_json::to_string_pretty(&found)? } else { break_table(&found.breaks) };
            let never = match found.breaks.is_empty() {
                true => never_of(&app.store, Kinds::Breaks, page.kind.as_deref()).await?,
                false => None,
            };
            return Ok(Output::text(text).warning(never));
        }
        BreakCommand::Assign { id, to } => (id, Change::AssignBreak(to), format!("assigned to {to}")),
        BreakCommand::Note { id, text } => (id, Change::NoteBreak(text), "noted so".to_owned()),
        BreakCommand::End { id, reason } => (id, Change::EndBreak(reason), "ended".to_owned()),
    };
    let changed = change(app, user, id, what).await?;
    Ok(said("break", id, changed, &done))
}

/// Runs an `alert` command as `user`.
pub async fn run_alert(args: AlertArgs, app: &App, user: &str) -> Result<Output, CommandError> {
    match args.command {
        AlertCommand::List { page: Page { kind, all, after, limit, json } } => {
            let wanted = alerts::Wanted { kind: kind.clone(), ended: all, after, limit };
            let found = alerts::list(&app.store, wanted).await?;
            let text = if json { serde_json::to_string_pretty(&found)? } else { alert_table(&found.alerts) };
            let never = match found.alerts.is_empty() {
                true => never_of(&app.store, Kinds::Alerts, kind.as_deref()).await?,
                false => None,
            };
            Ok(Output::text(text).warning(never))
        }
        AlertCommand::End { id, reason } => {
            let changed = change(app, user, &id, Change::EndAlert(&reason)).await?;
            Ok(said("alert", &id, changed, "ended"))
        }
    }
}

/// Runs `audit`.
pub async fn run_audit(args: AuditArgs, app: &App) -> Result<Output, CommandError> {
    let AuditArgs { by, action, subject, before, limit, json } = args;
    let found = audit::list(&app.store, audit::Wanted { by, action, subject, before, limit }).await?;
    Ok(Output::text(if json {
        serde_json::to_string_pretty(&found)?
    } else {
        audit_table(app, &found.lines)
    }))
}

fn said(what: &str, id: &str, changed: bool, done: &str) -> Output {
    let already = if changed { "" } else { " already" };
    Output::text(format!("{what} {id} is{already} {done}"))
}

fn day_or_dash(day: Option<ServiceDay>) -> String {
    day.map_or_else(|| "-".to_owned(), |day| day.to_string())
}

fn break_table(rows: &[BreakRow]) -> String {
    let mut out =
        format!("{:<32} {:<10} {:<20} {:<5} {:<12} what", "id", "day", "kind", "state", "assigned to");
    for row in rows {
        let state = if row.closed_ms.is_some() { "ended" } else { "open" };
        let note = if row.note.is_empty() { String::new() } else { format!(" [{}]", row.note) };
        let end =
            if row.end_reason.is_empty() { String::new() } else { format!(" (ended: {})", row.end_reason) };
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "\n{:<32} {:<10} {:<20} {state:<5} {:<12} {}: {}{note}{end}",
            row.id,
            day_or_dash(row.service_day),
            row.kind,
            row.assigned_to,
            row.subject,
            row.detail
        );
    }
    out
}

fn audit_table(app: &App, rows: &[AuditRow]) -> String {
    let mut out = format!("{:>8} {:<29} {:<16} {:<18} what", "number", "time", "user", "action");
    let clock = app.config.day_clock();
    for row in rows {
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "\n{:>8} {:<29} {:<16} {:<18} {}{}{}",
            row.number,
            clock.rfc3339(row.at_ms),
            row.user,
            row.action,
            row.subject,
            if row.detail.is_empty() { "" } else { ": " },
            row.detail
        );
    }
    out
}

fn alert_table(rows: &[AlertRow]) -> String {
    let mut out = format!("{:<32} {:<10} {:<18} {:<5} {:<32} what", "id", "day", "kind", "state", "token");
    for row in rows {
        let state = if row.cleared_ms.is_some() { "ended" } else { "open" };
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "\n{:<32} {:<10} {:<18} {state:<5} {:<32} {}",
            row.id,
            day_or_dash(row.service_day),
            row.kind,
            row.token_key.as_deref().unwrap_or("-"),
            row.detail
        );
    }
    out
}
