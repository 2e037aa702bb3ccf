//! `wavepass-gateway close-day | deduct | settle | reconcile | report | price`.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use wavepass_fares::ServiceDay;

use super::price_file::{PricedDay, price_file};
use super::{DeductOptions, app};
use crate::cli::{App, CommandError, Output};

/// The largest file of taps that is priced: about ten million lines.
const MAX_TAPS_BYTES: u64 = 1 << 30;

/// Close a service day: price its taps, seal the batch and deduct it.
#[derive(Debug, Args)]
pub struct CloseDayArgs {
    /// The day, YYYY-MM-DD.
    day: ServiceDay,
    /// Close although journeys may still come or taps are not checked.
    #[arg(long)]
    force: bool,
    /// The day is closed: close what came late as a further batch.
    #[arg(long)]
    late: bool,
}

/// Deduct what of a closed day is not deducted.
#[derive(Debug, Args)]
pub struct DeductArgs {
    /// The day, YYYY-MM-DD.
    day: ServiceDay,
    /// Make new attempts for what the bank declined.
    #[arg(long)]
    retry_declined: bool,
}

/// Settle a closed day with the operators.
#[derive(Debug, Args)]
pub struct SettleArgs {
    /// The day, YYYY-MM-DD.
    day: ServiceDay,
}

/// Reconcile a closed day; every difference becomes a break.
#[derive(Debug, Args)]
pub struct ReconcileArgs {
    /// The day, YYYY-MM-DD.
    day: ServiceDay,
}

/// Show what a day, or everything so far, came to.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The day, YYYY-MM-DD; by default everything.
    day: Option<ServiceDay>,
}

/// Price a file of taps by a tariff, without a database.
#[derive(Debug, Args)]
pub struct PriceArgs {
    /// The tariff (TOML).
    #[arg(long, value_name = "FILE")]
    tariff: PathBuf,
    /// The taps, a JSON object a line.
    #[arg(long, value_name = "FILE")]
    taps: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn json(value: &impl Serialize) -> Result<Output, CommandError> {
    Ok(Output::text(serde_json::to_string_pretty(value)?))
}

/// `close-day`.
pub async fn close_day(args: CloseDayArgs, app: &App, user: &str) -> Result<Output, CommandError> {
    json(&app::close(app, user, args.day, args.force, args.late).await?)
}

/// `deduct`.
pub async fn deduct(args: DeductArgs, app: &App, user: &str) -> Result<Output, CommandError> {
    let options = DeductOptions { retry_declined: args.retry_declined };
    json(&app::deduct(app, user, args.day, options).await?)
}

/// `settle`.
pub async fn settle(args: SettleArgs, app: &App, user: &str) -> Result<Output, CommandError> {
    json(&app::settle(app, user, args.day).await?)
}

/// `reconcile`.
pub async fn reconcile(args: ReconcileArgs, app: &App, user: &str) -> Result<Output, CommandError> {
    json(&app::reconcile(app, user, args.day).await?)
}

/// `report`.
pub async fn report(args: ReportArgs, app: &App, _user: &str) -> Result<Output, CommandError> {
    json(&super::report(&app.store, args.day).await?)
}

/// `price`: reads both files itself; it needs no store.
pub fn price(args: PriceArgs) -> Result<Output, CommandError> {
    let name = |path: &Path| path.display().to_string();
    let read = |path: &Path, most: u64| -> Result<String, CommandError> {
        Ok(crate::input::read_text(path, most).map_err(|e| format!("{}: {e}", path.display()))?)
    };
    let tariff = read(&args.tariff, wavepass_fares::tariff::MAX_FILE_BYTES as u64)?;
    let taps = read(&args.taps, MAX_TAPS_BYTES)?;
    let days = price_file(&name(&args.tariff), &tariff, &name(&args.taps), &taps)?;
    if args.json {
        return json(&days);
    }
    table(&days)
}

fn table(days: &[PricedDay]) -> Result<Output, CommandError> {
    let mut text = String::new();
    for day in days {
        writeln!(text, "{}  {}  {} CNY", day.token, day.service_day, day.charge_fen)?;
        for j in &day.journeys {
            let place = |p: &Option<String>| p.clone().unwrap_or_else(|| "?".into());
            writeln!(
                text,
                "  {:>5} -> {:<5} {:>8}  {}",
                place(&j.from),
                place(&j.to),
                j.charged_fen,
                j.status
            )?;
        }
        for a in &day.adjustments {
            writeln!(text, "  {:<14} {:>8}", a.kind, a.fen)?;
        }
    }
    Ok(Output::text(text))
}
