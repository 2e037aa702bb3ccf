//! `wavepass-gateway ca-key`: the certification authorities whose cards gates take.

use super::{bytes, publish};
use crate::cli::{App, CommandError, Output};
use crate::keys::OwnedCaKey;
use crate::lists::gate_config::SuiteWord;
use crate::lists::key_file::{Stated, date, parse};
use crate::lists::{MAX_CA_KEYS, add_ca_keys_in, adopt_ca_keys_in, ca_keys_in, remove_ca_key_in, suite_word};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use wavepass_hce::hex;
use wavepass_protocol::lists::{Kind, Suite};
use wavepass_protocol::time::Date;

/// List, add and remove CA keys.
#[derive(Debug, Args)]
pub struct CaKeyArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List CA keys.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Add the keys of a file, or put them in place of those of the same provider, index and suite.
    Add {
        /// A terminal's file of the rig (TOML) or a transcript (JSON).
        file: PathBuf,
        /// The last day of keys whose file does not state it.
        #[arg(long, value_name = "YYYY-MM-DD", value_parser = parse_date)]
        expires: Option<Date>,
        /// The scheme's check value of a key whose file does not state it; one for each such key.
        #[arg(long, value_name = "HEX", value_parser = bytes::<20>())]
        check_value: Vec<[u8; 20]>,
    },
    /// Remove a key: every gate refuses cards under it.
    Remove {
        /// The provider, 10 hexadecimal digits.
        #[arg(long, value_name = "HEX", value_parser = bytes::<5>())]
        rid: [u8; 5],
        /// The key's index, 2 hexadecimal digits.
        #[arg(long, value_name = "HEX", value_parser = bytes::<1>())]
        index: [u8; 1],
        /// Its suite, where there are several keys of this provider and index.
        #[arg(long, value_enum)]
        suite: Option<SuiteWord>,
    },
}

impl CaKeyArgs {
    /// The file that the command reads.
    pub fn input(&self) -> Option<&Path> {
        match &self.command {
            Command::Add { file, .. } => Some(file),
            _ => None,
        }
    }
}

fn parse_date(text: &str) -> Result<Date, &'static str> {
    date(text).ok_or("a date is YYYY-MM-DD")
}

#[derive(Serialize)]
struct Row {
    rid: String,
    index: String,
    suite: &'static str,
    bits: usize,
    expires: Option<String>,
    check_value: String,
    own: bool,
}

impl Row {
    fn of(key: &OwnedCaKey, own: &[OwnedCaKey]) -> Self {
        let last = key.as_ca_key().last_day();
        Self {
            rid: hex::encode(&key.rid),
            index: hex::encode(&[key.index]),
            suite: suite_word(key.suite),
            bits: if key.suite == Suite::Rsa { key.key.len() * 8 } else { 256 },
            expires: last.map(day),
            check_value: hex::encode(&key.check_value),
            own: is_own(key, own),
        }
    }
}

/// True if it is a key of the house's own bank.
fn is_own(key: &OwnedCaKey, own: &[OwnedCaKey]) -> bool {
    own.iter().any(|own| (own.rid, own.index, own.suite) == (key.rid, key.index, key.suite))
}

fn day(date: Date) -> String {
    format!("{:04}-{:02}-{:02}", date.year, date.month, date.day)
}

fn name(key: &OwnedCaKey) -> String {
    format!("{} {:02X} ({})", hex::encode(&key.rid), key.index, suite_word(key.suite))
}

/// Runs a `ca-key` command as `user`; `text` is that of its file. A change is published at once.
pub async fn run(args: CaKeyArgs, app: &App, user: &str, text: Option<&str>) -> Result<Output, CommandError> {
    match args.command {
        Command::List { json } => {
            let mut conn = app.store.pool().acquire().await?;
            let own = app.bank.ca_keys();
            let rows: Vec<_> = ca_keys_in(&mut conn).await?.iter().map(|key| Row::of(key, &own)).collect();
            Ok(Output::text(if json { serde_json::to_string_pretty(&rows)? } else { table(&rows) }))
        }
        Command::Add { file, expires, check_value } => {
            let text = text.ok_or("the command came without its file")?;
            let stated = Stated { expires, check_values: check_value };
            let keys = parse(&file.display().to_string(), text, &stated)?;
            add(app, user, &keys).await
        }
        Command::Remove { rid, index: [index], suite } => {
            remove(app, user, (rid, index, suite.map(Suite::from))).await
        }
    }
}

async fn add(app: &App, user: &str, keys: &[OwnedCaKey]) -> Result<Output, CommandError> {
    let (now, own) = (app.now()?, app.bank.ca_keys());
    let today = Date::at(now, 0);
    for key in keys {
        if let Some(last) = key.as_ca_key().last_day().filter(|last| *last < today) {
            return Err(format!("CA key {}: its last day, {}, is past", name(key), day(last)).into());
        }
        if is_own(key, &own) && !own.contains(key) {
            return Err(format!("CA key {}: this place is the own bank's", name(key)).into());
        }
    }
    let mut tx = app.store.begin().await?;
    adopt_ca_keys_in(&mut tx, &own).await?;
    let new = add_ca_keys_in(&mut tx, keys, user, now).await?;
    tx.commit().await?;
    let published = publish(app, Kind::CaKeys).await?;
    let what = match &new[..] {
        [] => "every CA key of the file is there already".to_owned(),
        new => format!("added: CA key {}", new.iter().map(name).collect::<Vec<_>>().join(", ")),
    };
    Ok(Output::text(format!("{what}; {published}")))
}

async fn remove(
    app: &App,
    user: &str,
    (rid, index, suite): ([u8; 5], u8, Option<Suite>),
) -> Result<Output, CommandError> {
    let mut tx = app.store.begin().await?;
    let all = ca_keys_in(&mut tx).await?;
    let is_meant = |key: &&OwnedCaKey| {
        (key.rid, key.index) == (rid, index) && suite.is_none_or(|suite| key.suite == suite)
    };
    let mut found = all.iter().filter(is_meant);
    let key = match (found.next(), found.next()) {
        (Some(key), None) => key,
        (None, _) => return Err(format!("there is no such CA key {} {index:02X}", hex::encode(&rid)).into()),
        (Some(_), Some(_)) => return Err("there are several such keys: say which with --suite".into()),
    };
    if all.len() == 1 {
        let why = "the last CA key stays: without any, the own bank's would come back at the next start";
        return Err(why.into());
    }
    remove_ca_key_in(&mut tx, (&key.rid, key.index, key.suite), user, app.now()?).await?;
    tx.commit().await?;
    let published = publish(app, Kind::CaKeys).await?;
    let own = is_own(key, &app.bank.ca_keys());
    let warning =
        own.then(|| "it is the own bank's key: gates refuse the bank's own cards under it".to_owned());
    Ok(Output::text(format!("removed: CA key {}; {published}", name(key))).warning(warning))
}

fn table(rows: &[Row]) -> String {
    let mut out = format!(
        "CA keys: {} of {MAX_CA_KEYS}\n{:<10} index suite bits {:<10} {:<40} of",
        rows.len(),
        "rid",
        "expires",
        "check value"
    );
    for row in rows {
        let of = if row.own { "own bank" } else { "scheme" };
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "\n{} {:<5} {:<5} {:<4} {:<10} {} {of}",
            row.rid,
            row.index,
            row.suite,
            row.bits,
            row.expires.as_deref().unwrap_or("no date"),
            row.check_value
        );
    }
    out
}
