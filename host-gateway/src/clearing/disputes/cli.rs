//! `wavepass-gateway dispute`: open, show and decide disputes.

use clap::{Args, Subcommand};
use wavepass_fares::{Fen, ServiceDay};

use super::{DisputeId, DisputeState, Wanted};
use crate::clearing::journey_id::JourneyId;
use crate::cli::{App, CommandError, Output};
use crate::cursor;
use crate::keys::TokenKey;
use crate::tokens::cli::parse_key;

/// Open, show and decide disputes.
#[derive(Debug, Args)]
pub struct DisputeArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Open a dispute of a journey of a closed day.
    Open {
        /// The token's key.
        #[arg(long, value_parser = parse_key, value_name = "KEY")]
        token_key: TokenKey,
        /// The service day of the journey, YYYY-MM-DD.
        #[arg(long)]
        day: ServiceDay,
        /// The journey: key id and sequence number of its first tap.
        #[arg(long, value_name = "ID")]
        journey: JourneyId,
        /// What the rider says; no numbers of cards, no names.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Show all that is known of a disputed journey, as JSON.
    Show {
        /// The dispute, as `dispute list` shows it.
        id: DisputeId,
    },
    /// Give an amount back.
    Accept {
        /// The dispute, as `dispute list` shows it.
        id: DisputeId,
        /// How much, at most what is charged and not refunded yet.
        #[arg(long, value_name = "FEN", value_parser = clap::value_parser!(i64).range(1..))]
        fen: i64,
        /// Why; no numbers of cards, no names.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Give nothing back.
    Reject {
        /// The dispute, as `dispute list` shows it.
        id: DisputeId,
        /// Why; no numbers of cards, no names.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// List disputes by token, day and journey, as JSON.
    List {
        /// Only this token's.
        #[arg(long, value_parser = parse_key, value_name = "KEY")]
        token_key: Option<TokenKey>,
        /// Only those.
        #[arg(long, value_enum)]
        state: Option<DisputeState>,
        /// From the dispute after this one.
        #[arg(long, value_name = "ID", value_parser = cursor::parse::<DisputeId>)]
        after: Option<DisputeId>,
        /// How many at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
}

/// Runs a `dispute` command as `user`.
pub async fn run(args: DisputeArgs, app: &App, user: &str) -> Result<Output, CommandError> {
    let text = match args.command {
        Command::Open { token_key, day, journey, reason } => {
            let of = (token_key, day, journey);
            serde_json::to_string_pretty(&super::open(app, user, of, &reason).await?)?
        }
        Command::Show { id } => serde_json::to_string_pretty(&super::evidence(app, &id).await?)?,
        Command::Accept { id, fen, reason } => {
            serde_json::to_string_pretty(&super::accept(app, user, &id, Fen(fen), &reason).await?)?
        }
        Command::Reject { id, reason } => {
            serde_json::to_string_pretty(&super::reject(app, user, &id, &reason).await?)?
        }
        Command::List { token_key, state, after, limit } => {
            let wanted = Wanted { token_key, state, after, limit };
            serde_json::to_string_pretty(&super::list(&app.store, wanted).await?)?
        }
    };
    Ok(Output::text(text))
}
