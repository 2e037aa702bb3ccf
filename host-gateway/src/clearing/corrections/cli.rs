//! `wavepass-gateway correction`: take and list what riders tell of missing taps.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use wavepass_fares::ServiceDay;

use super::{CorrectionId, Told, Wanted};
use crate::clearing::journey_id::JourneyId;
use crate::cli::{App, CommandError, Output};
use crate::cursor;
use crate::keys::TokenKey;
use crate::tokens::cli::parse_key;

/// Take and list what riders tell of missing taps.
#[derive(Debug, Args)]
pub struct CorrectionArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take where a missing tap was. The journey then costs the fare between the two stations.
    Add {
        /// The token's key.
        #[arg(long, value_parser = parse_key, value_name = "KEY")]
        token_key: TokenKey,
        /// The service day of the journey, YYYY-MM-DD.
        #[arg(long)]
        day: ServiceDay,
        /// The journey: key id and sequence number of the tap that there is.
        #[arg(long, value_name = "ID")]
        journey: JourneyId,
        /// The code of the station where the missing tap was.
        #[arg(long, value_name = "CODE")]
        station: String,
        /// When it was, such as 2026-11-23T08:31:00+08:00, if the rider knows: for the record.
        #[arg(long, value_name = "TIME")]
        time: Option<Timestamp>,
    },
    /// List corrections by token, day and journey, as JSON.
    List {
        /// Only this token's.
        #[arg(long, value_parser = parse_key, value_name = "KEY")]
        token_key: Option<TokenKey>,
        /// From the correction after this one.
        #[arg(long, value_name = "ID", value_parser = cursor::parse::<CorrectionId>)]
        after: Option<CorrectionId>,
        /// How many at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
}

/// Runs a `correction` command as `user`.
pub async fn run(args: CorrectionArgs, app: &App, user: &str) -> Result<Output, CommandError> {
    let text = match args.command {
        Command::Add { token_key, day, journey, station, time } => {
            let of = CorrectionId { token_key, day, journey };
            let told = Told { of, station: &station, told_ms: time.map(Timestamp::as_millisecond) };
            serde_json::to_string_pretty(&super::add(app, user, told).await?)?
        }
        Command::List { token_key, after, limit } => {
            let wanted = Wanted { token_key, after, limit };
            serde_json::to_string_pretty(&super::list(&app.store, wanted).await?)?
        }
    };
    Ok(Output::text(text))
}
