//! `wavepass-gateway revocation`: issuer certificates that are no longer good.

use super::{bytes, publish};
use crate::cli::{App, CommandError, Output};
use crate::input::no_number;
use crate::lists::{RevocationRow, ca_keys_in, lift_in, revocations_in, revoke_in};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::fmt::Write;
use wavepass_hce::hex;
use wavepass_protocol::lists::{Kind, MAX_REVOCATIONS, Revocation};

/// Revoke issuer certificates, lift and list revocations.
#[derive(Debug, Args)]
pub struct RevocationArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Revoke an issuer certificate: every gate refuses the issuer's cards with it.
    Add {
        #[command(flatten)]
        which: Which,
        /// Why; no numbers, no names.
        #[arg(long, default_value = "")]
        note: String,
    },
    /// List revocations.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Lift a revocation.
    Remove {
        #[command(flatten)]
        which: Which,
        /// Why.
        #[arg(long, default_value = "")]
        note: String,
    },
}

#[derive(Debug, Args)]
struct Which {
    /// The provider of the CA key that signed the certificate, 10 hexadecimal digits.
    #[arg(long, value_name = "HEX", value_parser = bytes::<5>())]
    rid: [u8; 5],
    /// The index of that key, 2 hexadecimal digits.
    #[arg(long, value_name = "HEX", value_parser = bytes::<1>())]
    index: [u8; 1],
    /// The certificate's serial number, 6 hexadecimal digits.
    #[arg(long, value_name = "HEX", value_parser = bytes::<3>())]
    serial: [u8; 3],
}

impl From<Which> for Revocation {
    fn from(Which { rid, index: [index], serial }: Which) -> Self {
        Self { rid, index, serial }
    }
}

#[derive(Serialize)]
struct Row<'a> {
    rid: String,
    index: String,
    serial: String,
    since_ms: u64,
    by: &'a str,
    note: &'a str,
}

impl<'a> Row<'a> {
    fn of(row: &'a RevocationRow) -> Self {
        let Revocation { rid, index, serial } = &row.revocation;
        Self {
            rid: hex::encode(rid),
            index: hex::encode(&[*index]),
            serial: hex::encode(serial),
            since_ms: row.since.0,
            by: &row.by,
            note: &row.note,
        }
    }
}

fn name(Revocation { rid, index, serial }: &Revocation) -> String {
    format!("issuer certificate {} under CA key {} {index:02X}", hex::encode(serial), hex::encode(rid))
}

/// Runs a `revocation` command as `user`. A change is published at once.
pub async fn run(args: RevocationArgs, app: &App, user: &str) -> Result<Output, CommandError> {
    match args.command {
        Command::Add { which, note } => {
            no_number("a note", &note)?;
            let revocation = Revocation::from(which);
            let mut tx = app.store.begin().await?;
            let new = revoke_in(&mut tx, &revocation, user, &note, app.now()?).await?;
            let mut keys = ca_keys_in(&mut tx).await?.into_iter();
            let known = keys.any(|key| (key.rid, key.index) == (revocation.rid, revocation.index));
            tx.commit().await?;
            let published = publish(app, Kind::Revocations).await?;
            let already = if new { "" } else { " already" };
            let warning =
                (!known).then(|| "gates have no such CA key, and refuse its cards anyway".to_owned());
            Ok(Output::text(format!("{} is{already} revoked; {published}", name(&revocation)))
                .warning(warning))
        }
        Command::List { json } => {
            let mut conn = app.store.pool().acquire().await?;
            let rows = revocations_in(&mut conn).await?;
            let rows: Vec<_> = rows.iter().map(Row::of).collect();
            Ok(Output::text(if json { serde_json::to_string_pretty(&rows)? } else { table(&rows) }))
        }
        Command::Remove { which, note } => {
            no_number("a note", &note)?;
            let revocation = Revocation::from(which);
            let mut tx = app.store.begin().await?;
            let lifted = lift_in(&mut tx, &revocation, user, &note, app.now()?).await?;
            tx.commit().await?;
            let published = publish(app, Kind::Revocations).await?;
            let was = if lifted { "is no longer revoked" } else { "was not revoked" };
            Ok(Output::text(format!("{} {was}; {published}", name(&revocation))))
        }
    }
}

fn table(rows: &[Row<'_>]) -> String {
    let mut out = format!(
        "revocations: {} of {MAX_REVOCATIONS}\n{:<10} index serial {:<12} note",
        rows.len(),
        "rid",
        "by"
    );
    for row in rows {
        // Writing to a string cannot fail.
        let _ = write!(out, "\n{} {:<5} {} {:<12} {}", row.rid, row.index, row.serial, row.by, row.note);
    }
    out
}
