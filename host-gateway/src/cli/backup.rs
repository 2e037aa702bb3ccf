//! `backup` and `restore`: a copy of the database while it is served, and the copy back in a folder without one.
//!
//! Both work on files themselves, whether or not a gateway runs: SQLite lets another process read beside it, and a copy
//! is only put back where none can run.

use super::{CommandError, Output, Reserved};
use crate::clock::{Clock, System};
use crate::config::Config;
use crate::lists;
use crate::store::backup;
use crate::store::{Audit, audit_in};
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};
use wavepass_protocol::time::UnixMs;

/// Copy the SQLite database into one file, while it is served; the copy is checked.
///
/// The copy holds what was committed when it began. It has no key files in it: keep those apart, and keep both. On
/// PostgreSQL, use pg_dump.
#[derive(Args)]
pub(super) struct BackupArgs {
    /// The file to make; it must not exist.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Put a copy back where no database is, and begin a new epoch of the gates' lists.
///
/// The copy is checked first. Gates take the lists of the new epoch, and are asked for the taps that the copy lacks
/// when they connect. On PostgreSQL, use pg_restore and then `gate reissue-lists`.
#[derive(Args)]
pub(super) struct RestoreArgs {
    /// What `backup` made.
    file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What `backup --json` prints.
#[derive(Serialize)]
struct Copied<'a> {
    file: &'a Path,
    bytes: u64,
}

/// What `restore --json` prints.
#[derive(Serialize)]
struct Restored<'a> {
    database: &'a str,
    list_epoch: u32,
}

pub(super) async fn backup(args: BackupArgs, config: Config) -> Result<Output, CommandError> {
    // Readable by its owner only before a byte is in it, and gone again if the copy fails.
    let reserved = Reserved::take(&args.out)?;
    backup::copy(&config.database, reserved.path()).await?;
    let failed = |e: std::io::Error| format!("{}: {e}", args.out.display());
    let bytes = std::fs::metadata(reserved.path()).map_err(failed)?.len();
    reserved.keep().map_err(failed)?;
    Ok(Output::text(match args.json {
        true => serde_json::to_string_pretty(&Copied { file: &args.out, bytes })?,
        false => format!("{}: {bytes} bytes, checked", args.out.display()),
    }))
}

pub(super) async fn restore(args: RestoreArgs, config: Config, user: &str) -> Result<Output, CommandError> {
    let list_epoch = put_back(&args.file, &config.database, &config.data, user, System.now()).await?;
    Ok(Output::text(match args.json {
        true => serde_json::to_string_pretty(&Restored { database: &config.database, list_epoch })?,
        false => format!("{} is back, with epoch {list_epoch} of the gates' lists", config.database),
    }))
}

/// Puts a copy back and begins the epoch, in one step for whoever looks; gives the epoch.
pub(crate) async fn put_back(
    file: &Path,
    database: &str,
    data: &Path,
    user: &str,
    now: UnixMs,
) -> Result<u32, CommandError> {
    let restoring = backup::put_back(file, database, data).await?;
    let mut tx = restoring.store.begin().await?;
    let epoch = lists::begin_epoch_in(&mut tx, user, now).await?;
    let detail = format!("list epoch {epoch}");
    let line = Audit { at: now, user, action: "store.restore", subject: "database", detail: &detail };
    audit_in(&mut tx, &line).await?;
    tx.commit().await?;
    restoring.finish().await?;
    Ok(epoch)
}
