//! `import FILE`: sealed entries from a file, through the same intake as everything else.

use super::{CommandError, Output, remote};
use crate::api::codec;
use crate::config::Config;
use crate::intake::{MAX_BATCH, Verdict};
use crate::keys::PassphraseArgs;
use clap::Args;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{BufRead, Read};
use std::path::PathBuf;
use wavepass_protocol::dukpt::KeyId;
use wavepass_protocol::seal::{Header, Sealed};

/// The longest line: a sealed entry in hexadecimal within JSON, with room.
const MAX_LINE: usize = 4096;

/// The most entries of one file: they are held in memory, half a kilobyte each.
const MAX_ENTRIES: usize = 4_000_000;

/// Hand in a file of sealed entries.
#[derive(Args)]
pub(super) struct ImportArgs {
    /// One entry a line: hexadecimal, base64, or JSON `{"sealed":"…"}`; `-` reads standard input.
    file: PathBuf,
    /// What is missing before an entry that opens is lost for good: note it so, with a break, and go on. Entries that are damaged in
    /// the file and were in no better copy stand in the way of those after them otherwise.
    #[arg(long)]
    past_gaps: bool,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

#[derive(Deserialize)]
struct Line {
    sealed: String,
}

#[derive(Deserialize)]
struct Answer {
    verdicts: Vec<AnswerVerdict>,
}

#[derive(Deserialize)]
struct AnswerVerdict {
    verdict: String,
    limit: Option<i64>,
}

pub(super) async fn run(args: ImportArgs, config: Config, user: &str) -> Result<Output, CommandError> {
    let mut entries = read(&args.file)?;
    in_order(&mut entries);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut limit = None;
    if let Some(app) = super::open_here(&config, &args.passphrase).await? {
        for batch in entries.chunks(MAX_BATCH) {
            let receipt = match args.past_gaps {
                true => app.ingest_past_gaps(batch.to_vec(), user).await?,
                false => app.intake.ingest(batch.to_vec()).await?,
            };
            for verdict in receipt.verdicts {
                if let Verdict::NotKept { limit: kept, .. } = verdict {
                    limit = Some(kept);
                }
                *counts.entry(verdict.word().into()).or_default() += 1;
            }
        }
        app.store.close().await;
    } else {
        for batch in entries.chunks(MAX_BATCH) {
            let entries: Vec<String> = batch.iter().map(|entry| crate::store::sql::hex(entry)).collect();
            let body = serde_json::json!({ "entries": entries, "past_gaps": args.past_gaps });
            let answer: Answer = remote::post(&config, "/v1/taps/batches", &body, user).await?;
            for verdict in answer.verdicts {
                limit = verdict.limit.or(limit);
                *counts.entry(verdict.verdict).or_default() += 1;
            }
        }
    }
    let count = |word: &str| counts.get(word).copied().unwrap_or_default();
    let (gaps, not_kept) = (count("gap"), count("not_kept"));
    let unopened = count("set_aside") + not_kept;
    let full = limit.map(|limit| {
        format!(
            "{not_kept} entries do not open and are counted only: a day keeps {limit} of API keys and files \
             ([intake] set_aside_a_day)"
        )
    });
    let told = counts.iter().map(|(word, n)| format!("{n} {word}")).collect::<Vec<_>>().join(", ");
    let told = if told.is_empty() { "none" } else { &told };
    let told = format!("{} entries: {told}", entries.len());
    let why = match (gaps, unopened) {
        (1.., _) => format!(
            "{gaps} of them are not taken, since entries of the same gates before them are missing; keep the file, and hand it in \
             again after those, or with --past-gaps if they are lost for good"
        ),
        (_, 1..) if !args.past_gaps => format!(
            "{unopened} of them do not open; a place of which no whole copy is here stays due: hand one in, or this file with \
             --past-gaps if there is none"
        ),
        _ => return Ok(Output::text(told).warning(full)),
    };
    let full = full.map(|full| format!("\n{full}")).unwrap_or_default();
    Err(format!("{told}: {why}{full}").into())
}

/// Puts each gate's entries into the order of its journal, which is how they are taken. What has no header comes last.
fn in_order(entries: &mut [Vec<u8>]) {
    entries.sort_by_cached_key(|entry| match Sealed::parse(entry) {
        Ok(Sealed { header: Header { ksn, sequence, .. }, .. }) => (false, ksn.key_id, sequence),
        Err(_) => (true, KeyId([0; 8]), 0),
    });
}

fn read(path: &PathBuf) -> Result<Vec<Vec<u8>>, CommandError> {
    let name = path.display();
    let mut input: Box<dyn BufRead> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::io::BufReader::new(std::fs::File::open(path).map_err(|e| format!("{name}: {e}"))?))
    };
    let mut entries = Vec::new();
    let mut line = Vec::new();
    for number in 1.. {
        let fault = |why: &str| format!("{name}, line {number}: {why}");
        line.clear();
        let read = (&mut input).take(MAX_LINE as u64 + 1).read_until(b'\n', &mut line);
        if read.map_err(|e| fault(&e.to_string()))? == 0 {
            break;
        }
        if line.len() > MAX_LINE {
            return Err(fault(&format!("longer than {MAX_LINE} bytes")).into());
        }
        if entries.len() == MAX_ENTRIES {
            return Err(fault(&format!("more than {MAX_ENTRIES} entries: hand them in in parts")).into());
        }
        let text = std::str::from_utf8(&line).map_err(|_| fault("not text"))?.trim();
        if !text.is_empty() {
            entries.push(entry(text).ok_or_else(|| fault("not a sealed entry"))?);
        }
    }
    Ok(entries)
}

fn entry(text: &str) -> Option<Vec<u8>> {
    match serde_json::from_str::<Line>(text) {
        Ok(line) => codec::bytes(&line.sealed),
        Err(_) => codec::bytes(text),
    }
}
