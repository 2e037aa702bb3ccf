//! `wavepass-gateway close-day | deduct | settle | report`.

use clap::Args;
use serde::Serialize;
use wavepass_fares::ServiceDay;

use super::api::CloseBody;
use super::{DeductOptions, app};
use crate::cli::{App, CommandError, Output};

/// Close a service day: price its taps, seal the batch and, unless told otherwise, deduct it.
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
    /// Leave the deductions to `deduct`: to hold the batch against the bank's statement before.
    #[arg(long)]
    no_deduct: bool,
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

/// Show what a day, or everything so far, came to.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The day, YYYY-MM-DD; by default everything.
    day: Option<ServiceDay>,
}

pub(crate) fn json(value: &impl Serialize) -> Result<Output, CommandError> {
    Ok(Output::text(serde_json::to_string_pretty(value)?))
}

/// `close-day`.
pub async fn close_day(args: CloseDayArgs, app: &App, user: &str) -> Result<Output, CommandError> {
    let CloseDayArgs { day, force, late, no_deduct } = args;
    json(&app::carry_out(app, user, day, CloseBody { force, late, no_deduct }).await?)
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

/// `report`.
pub async fn report(args: ReportArgs, app: &App, _user: &str) -> Result<Output, CommandError> {
    json(&super::report(&app.store, args.day).await?)
}
