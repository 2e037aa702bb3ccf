//! The gateway's own work on a day of taps.

use crate::town::{LANES, Spool};
use crate::{Failure, START, TARIFF};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use wavepass_fares::Tariff;
use wavepass_gateway::clearing::{Clearing, CloseOptions, DeductOptions, app, report};
use wavepass_gateway::cli::App;
use wavepass_gateway::clock::Driven;
use wavepass_gateway::config::Config;
use wavepass_gateway::intake::Verdict;
use wavepass_gateway::keys::KeySet;
use wavepass_gateway::reconcile::slices;
use wavepass_gateway::store::Store;
use wavepass_protocol::time::UnixMs;

/// Entries handed in at once, as gates' sessions do together.
const BATCH: usize = 4096;

/// What a run came to.
pub(crate) struct Figures {
    taps: usize,
    intake_s: f64,
    /// Of which risk took `risk_s`.
    close_s: f64,
    risk_s: f64,
    deduct_s: f64,
    settle_s: f64,
    /// The day held against the bank, and slice by slice: beside what is overall.
    reconcile_s: f64,
    slices_s: f64,
    /// Taps a second, all stages together.
    pub(crate) rate: f64,
    pub(crate) charged_fen: i64,
    deducted_fen: i64,
    pub(crate) peak_rss_bytes: Option<u64>,
    reconcile_peak_rss_bytes: Option<u64>,
}

impl Figures {
    pub(crate) fn json(&self) -> Value {
        let rate = |seconds: f64| (self.taps as f64 / seconds).round();
        json!({
            "taps": self.taps,
            "charged_fen": self.charged_fen,
            "deducted_fen": self.deducted_fen,
            "taps_per_second": {
                "intake": rate(self.intake_s),
                "close": rate(self.close_s),
                "close_risk": rate(self.risk_s),
                "close_pricing": rate(self.close_s - self.risk_s),
                "deduct": rate(self.deduct_s),
                "settle": rate(self.settle_s),
                "overall": self.rate.round(),
                "reconcile": rate(self.reconcile_s),
                "slices": rate(self.slices_s),
            },
            "peak_rss_bytes": self.peak_rss_bytes,
            "reconcile_peak_rss_bytes": self.reconcile_peak_rss_bytes,
        })
    }
}

/// The most memory that a process (its number, or `self`) has had in RAM so far, bytes; none where the system does not say.
pub(crate) fn peak_rss_bytes(process: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// Measures the peak anew from here, where the system allows it.
pub(crate) fn forget_peak(process: &str) {
    // What cannot be forgotten only makes the figure larger.
    let _ = std::fs::write(format!("/proc/{process}/clear_refs"), "5");
}

pub(crate) async fn run(
    store: &Store,
    keys: &KeySet,
    data: &Path,
    spool: &Spool,
) -> Result<Figures, Failure> {
    let taps = spool.taps;
    forget_peak("self");
    let clock = Arc::new(Driven::new(START));
    let app =
        App::start(store.clone(), keys.clearing(), keys.bank(), Config::of(data)?, clock.clone()).await?;
    clock.set(UnixMs(START.0 + 34 * 3_600_000))?;
    let begin = Instant::now();
    let mut waiting = tokio::task::JoinSet::new();
    // As concentrators bring them: each gate's entries in order, several gates at once.
    for lane in 0..LANES {
        let intake = app.intake.clone();
        let batches = spool.lane(lane, BATCH)?;
        waiting.spawn(async move {
            let mut accepted = 0;
            for batch in batches {
                let receipt = intake.ingest(batch?).await?;
                accepted += receipt.verdicts.iter().filter(|v| matches!(v, Verdict::Accepted)).count();
            }
            Ok::<_, Failure>(accepted)
        });
    }
    let mut accepted = 0;
    while let Some(done) = waiting.join_next().await {
        accepted += done??;
    }
    if accepted != taps {
        return Err(format!("{accepted} of {taps} taps were accepted").into());
    }
    let intake_s = begin.elapsed().as_secs_f64();
    let day = Tariff::parse("wavepass-city.toml", TARIFF)?.clock.day_of(START.0 as i64)?;
    let begin = Instant::now();
    wavepass_gateway::risk::run(&app).await?;
    let risk_s = begin.elapsed().as_secs_f64();
    let clearing = Clearing::of(&app).await?;
    let options = CloseOptions { now_ms: i64::MAX, ..CloseOptions::default() };
    clearing.close_day(day, options).await?;
    let close_s = begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    clearing.deduct_day(day, DeductOptions::default()).await?;
    app.publish_lists().await?;
    let deduct_s = begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    app::settle(&app, "bench", day).await?;
    let settle_s = begin.elapsed().as_secs_f64();
    let report = report(store, Some(day)).await?;
    if report.charged_fen.0 == 0 || report.ledger_sum_fen.0 != 0 || !report.balances()? {
        return Err(format!("the day is not balanced: charged {:?}", report.charged_fen).into());
    }
    let peak_rss_bytes = peak_rss_bytes("self");
    forget_peak("self");
    let begin = Instant::now();
    let reconciled = app::reconcile(&app, "bench", day).await?;
    let reconcile_s = begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    let slices = slices::day(&app, "bench", day).await?;
    let slices_s = begin.elapsed().as_secs_f64();
    if !reconciled.differences.is_empty() || slices.slices.iter().any(|slice| !slice.differences.is_empty()) {
        return Err(format!("the day does not agree with itself: {reconciled:?} {slices:?}").into());
    }
    Ok(Figures {
        taps,
        intake_s,
        close_s,
        risk_s,
        deduct_s,
        settle_s,
        reconcile_s,
        slices_s,
        rate: taps as f64 / (intake_s + close_s + deduct_s + settle_s),
        charged_fen: report.charged_fen.0,
        deducted_fen: report.deducted_fen.0,
        peak_rss_bytes,
        reconcile_peak_rss_bytes: self::peak_rss_bytes("self"),
    })
}
