//! `wavepass-gateway price | tariff`: tries, checks and compares tariffs. Reads files itself; needs no store, but to try a
//! tariff on a day of the gateway's own.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use wavepass_fares::price_file::{PricedDay, Text, price_file};
use wavepass_fares::revenue::{Change, Difference, difference};
use wavepass_fares::tariff::MAX_FILE_BYTES;
use wavepass_fares::{ServiceDay, Tariff};
use wavepass_gtfs::import;
use zeroize::Zeroizing;

use super::tariff_day::difference_on;
use crate::cli::{App, CommandError, Output};

/// The largest file of taps that is priced: about ten million lines.
const MAX_TAPS_BYTES: u64 = 1 << 30;

/// Price a file of taps by a tariff, without a database.
#[derive(Debug, Args)]
pub struct PriceArgs {
    /// The tariff (TOML); several, where it changes from a date on.
    #[arg(long, value_name = "FILE", required = true)]
    tariff: Vec<PathBuf>,
    /// The taps, a JSON object a line; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    taps: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Check tariff files, compare two, or make one from a GTFS feed.
#[derive(Debug, Args)]
pub struct TariffArgs {
    #[command(subcommand)]
    command: Command,
}

impl TariffArgs {
    /// The file that the command would write.
    pub fn output(&self) -> Option<&Path> {
        match &self.command {
            Command::ImportGtfs { out, .. } => Some(out),
            _ => None,
        }
    }

    /// The file that the command reads, where it works on the store.
    pub fn input(&self) -> Option<&Path> {
        match &self.command {
            Command::Diff { first, day: Some(_), .. } => Some(first),
            _ => None,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check tariff files: every fault is named with file and line.
    Check {
        /// The tariffs (TOML).
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Show what a new tariff makes of taps that an old one priced: `OLD NEW --taps FILE`, or `NEW --day DAY` for a
    /// closed day of the gateway's own.
    Diff {
        /// The tariff that was in force; with --day, the tariff to try.
        #[arg(value_name = "OLD")]
        first: PathBuf,
        /// The tariff to try.
        #[arg(value_name = "NEW", required_unless_present = "day", conflicts_with = "day")]
        second: Option<PathBuf>,
        /// The taps, a JSON object a line; `-` reads standard input.
        #[arg(long, value_name = "FILE", required_unless_present = "day", conflicts_with = "day")]
        taps: Option<PathBuf>,
        /// A closed service day of the gateway's own, YYYY-MM-DD: its taps, and the tariffs that were published for it.
        #[arg(long, value_name = "DAY")]
        day: Option<ServiceDay>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a tariff from a GTFS feed with Fares v2; what a tariff cannot say is told.
    ImportGtfs {
        /// The feed: a folder or a ZIP archive.
        #[arg(value_name = "FEED")]
        feed: PathBuf,
        /// The tariff to write; it must not exist.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// The first service day of the tariff, YYYY-MM-DD.
        #[arg(long, value_name = "DAY")]
        effective_from: ServiceDay,
    },
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

fn read(path: &Path, most: u64) -> Result<String, CommandError> {
    Ok(crate::input::read_text(path, most).map_err(|e| format!("{}: {e}", path.display()))?)
}

fn read_tariff(path: &Path) -> Result<(String, String), CommandError> {
    Ok((name(path), read(path, MAX_FILE_BYTES as u64)?))
}

fn read_taps(path: &Path) -> Result<(String, String), CommandError> {
    match path.to_str() {
        Some("-") => {
            let text = crate::input::text_of(std::io::stdin(), MAX_TAPS_BYTES);
            Ok(("standard input".into(), text.map_err(|e| format!("standard input: {e}"))?))
        }
        _ => Ok((name(path), read(path, MAX_TAPS_BYTES)?)),
    }
}

fn text((file, text): &(String, String)) -> Text<'_> {
    Text { file, text }
}

/// `price`.
pub fn price(args: PriceArgs) -> Result<Output, CommandError> {
    let tariffs = args.tariff.iter().map(|path| read_tariff(path)).collect::<Result<Vec<_>, _>>()?;
    let tariffs: Vec<Text<'_>> = tariffs.iter().map(text).collect();
    let taps = read_taps(&args.taps)?;
    let days = price_file(&tariffs, text(&taps))?;
    match args.json {
        true => Ok(Output::text(serde_json::to_string_pretty(&days)?)),
        false => table(&days),
    }
}

/// `tariff`.
pub fn tariff(args: TariffArgs) -> Result<Output, CommandError> {
    match args.command {
        Command::ImportGtfs { feed, out, effective_from } => import_gtfs(&feed, out, effective_from),
        Command::Check { files } => check(&files),
        Command::Diff { first, second: Some(new), taps: Some(taps), day: None, json } => {
            let (old, new) = (read_tariff(&first)?, read_tariff(&new)?);
            let taps = read_taps(&taps)?;
            told(&difference(text(&old), text(&new), text(&taps))?, json)
        }
        Command::Diff { .. } => Err("compare two tariffs with --taps, or try one on a --day".into()),
    }
}

/// `tariff diff NEW --day DAY`, where the store is; `new` is the text of the tariff.
pub async fn of_a_day(args: TariffArgs, app: &App, new: Option<&str>) -> Result<Output, CommandError> {
    let (Command::Diff { first, day: Some(day), json, .. }, Some(new)) = (args.command, new) else {
        return Err("this command works on files alone: it is not for the gateway".into());
    };
    let file = name(&first);
    let found = difference_on(app, day, Text { file: &file, text: new }).await?;
    let unknown = (found.unknown_taps > 0).then(|| {
        let taps = found.unknown_taps;
        format!("{taps} taps are at stations that {file} does not have, and cost nothing by it")
    });
    Ok(told(&found.difference, json)?.warning(unknown))
}

fn told(found: &Difference, json: bool) -> Result<Output, CommandError> {
    match json {
        true => Ok(Output::text(serde_json::to_string_pretty(found)?)),
        false => changes(found),
    }
}

fn import_gtfs(feed: &Path, out: PathBuf, effective_from: ServiceDay) -> Result<Output, CommandError> {
    let made = import(feed, &name(&out), effective_from)?;
    let unsound = (!made.faults.is_empty()).then(|| {
        let faults: Vec<String> = made.faults.iter().map(ToString::to_string).collect();
        format!("the file is no tariff yet; mend by hand:\n{}", faults.join("\n"))
    });
    let text = Output::text(made.notes.join("\n"));
    Ok(text.file(out, Zeroizing::new(made.text.into_bytes())).warning(unsound))
}

fn check(files: &[PathBuf]) -> Result<Output, CommandError> {
    let (mut good, mut faults) = (String::new(), Vec::new());
    for path in files {
        let (file, text) = match read_tariff(path) {
            Ok(read) => read,
            Err(unread) => {
                faults.push(unread.to_string());
                continue;
            }
        };
        match Tariff::check(&file, &text) {
            Ok(tariff) => writeln!(
                good,
                "{file}: version {}, from {}: {} stations, no fault",
                tariff.version,
                tariff.effective_from,
                tariff.stations.len()
            )?,
            Err(found) => faults.extend(found.iter().map(ToString::to_string)),
        }
    }
    if faults.is_empty() {
        return Ok(Output::text(good));
    }
    Err(format!("{} faults\n{}", faults.len(), faults.join("\n")).into())
}

/// A name out of a file, without what would control a screen.
fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn table(days: &[PricedDay]) -> Result<Output, CommandError> {
    let mut text = String::new();
    for day in days {
        writeln!(text, "{}  {}  {} CNY", printable(&day.token), day.service_day, day.charge_fen)?;
        for j in &day.journeys {
            let place = |p: &Option<String>| p.as_deref().map_or_else(|| "?".into(), printable);
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
        for share in &day.shares {
            writeln!(text, "  {:<14} {:>8}", share.operator, share.fen)?;
        }
    }
    Ok(Output::text(text))
}

fn changes(found: &Difference) -> Result<Output, CommandError> {
    let mut text = String::new();
    let mut row = |what: &str, change: &Change| {
        let (old, new, by) = (change.old_fen, change.new_fen, change.change_fen);
        writeln!(text, "{what:<20} {old:>14} {new:>14} {by:>14}")
    };
    for day in &found.days {
        row(&day.service_day.to_string(), &day.change)?;
    }
    row("all days", &found.total)?;
    for mover in &found.movers {
        row(&printable(&mover.token), &mover.change)?;
    }
    let Difference { old, new, journeys, journeys_changed, tokens_changed, .. } = found;
    let head = format!("{:<20} {:>14} {:>14} {:>14}\n", "CNY", "old", "new", "change");
    let tail = format!(
        "{journeys_changed} of {journeys} journeys change, and what {tokens_changed} riders pay\nold: {old}\nnew: {new}\n"
    );
    Ok(Output::text(format!("{head}{text}{tail}")))
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn a_tariff_that_cannot_be_read_hides_no_fault_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let [missing, wrong] = ["missing.toml", "wrong.toml"].map(|name| folder.path().join(name));
        std::fs::write(&wrong, "version = 3").unwrap();
        let told = check(&[missing, wrong]).err().unwrap().to_string();
        assert!(told.contains("missing.toml: ") && told.contains("wrong.toml:"), "{told}");
    }
}
