//! `wavepass-gateway gate`: commission, list and retire gates.

use super::{Gate, NewGate};
use crate::clearing::{ClearingError, tariffs};
use crate::cli::{App, CommandError, Output};
use clap::{Args, Subcommand, ValueEnum};
use std::fmt::Write;
use std::path::PathBuf;
use wavepass_protocol::tap::Direction;

/// Commission, list and retire gates.
#[derive(Debug, Args)]
pub struct GateArgs {
    #[command(subcommand)]
    command: Command,
}

impl GateArgs {
    /// The file that the command would write. It must not exist: what it holds is made once.
    pub fn output(&self) -> Option<&std::path::Path> {
        match &self.command {
            Command::Add(add) => Some(&add.out),
            _ => None,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Commission a gate: enter it and write its provisioning file, which holds its keys and is made this once.
    Add(AddArgs),
    /// List the gates.
    List {
        /// Retired ones too.
        #[arg(long)]
        all: bool,
    },
    /// After the database was restored from a backup: begin a new epoch, so that gates take its lists although they
    /// may hold later versions.
    ReissueLists,
    /// Take a gate out of service.
    Retire {
        /// The gate's number.
        #[arg(long)]
        id: u32,
    },
}

#[derive(Debug, Args)]
struct AddArgs {
    /// The gate's number, from 1.
    #[arg(long)]
    id: u32,
    /// Station code, 1 to 16 characters.
    #[arg(long, value_name = "CODE")]
    station: String,
    /// Which way the gate lets riders through.
    #[arg(long, value_enum)]
    direction: Way,
    /// Number of the operator whose gate it is.
    #[arg(long, value_name = "N", default_value_t = 1)]
    operator: u16,
    /// The network, four characters.
    #[arg(long, value_name = "CODE", default_value = "WAVE", value_parser = parse_network)]
    network: [u8; 4],
    /// Where the provisioning file goes; it must not exist.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Way {
    Entry,
    Exit,
    Single,
}

/// Reads a network's code: four printable ASCII characters.
pub(crate) fn parse_network(text: &str) -> Result<[u8; 4], String> {
    match <[u8; 4]>::try_from(text.as_bytes()) {
        Ok(code) if code.iter().all(u8::is_ascii_graphic) => Ok(code),
        _ => Err("a network's code has four printable characters".to_owned()),
    }
}

/// Runs a `gate` command as `user`.
pub async fn run(args: GateArgs, app: &App, user: &str) -> Result<Output, CommandError> {
    match args.command {
        Command::Add(args) => {
            let new = NewGate {
                gate_id: args.id,
                station: args.station,
                direction: match args.direction {
                    Way::Entry => Direction::Entry,
                    Way::Exit => Direction::Exit,
                    Way::Single => Direction::Single,
                },
                operator: args.operator,
                network: args.network,
            };
            let warning = unknown_station(app, &new.station).await?;
            let mut tx = app.store.begin().await?;
            let (gate, file) = super::add_in(&mut tx, app.clearing.as_ref(), &new, user, app.now()?).await?;
            tx.commit().await?;
            let text = format!(
                "gate {} commissioned, generation {}; {} holds its keys",
                gate.gate_id,
                gate.generation,
                args.out.display()
            );
            Ok(Output::text(text).file(args.out, file).warning(warning))
        }
        Command::List { all } => {
            let mut conn = app.store.pool().acquire().await?;
            let gates = super::all_in(&mut conn).await?;
            Ok(Output::text(table(gates.iter().filter(|gate| all || gate.retired.is_none()))))
        }
        Command::ReissueLists => {
            let mut tx = app.store.begin().await?;
            let epoch = crate::lists::begin_epoch_in(&mut tx, user, app.now()?).await?;
            tx.commit().await?;
            app.publish_lists().await?;
            Ok(Output::text(format!("every list is issued anew, in epoch {epoch}")))
        }
        Command::Retire { id } => {
            let mut tx = app.store.begin().await?;
            let gate = super::retire_in(&mut tx, id, user, app.now()?).await?;
            tx.commit().await?;
            Ok(Output::text(format!("gate {id} at {} is out of service", gate.station)))
        }
    }
}

/// What to say of a station that no published tariff has. Gates may be commissioned before their tariff.
async fn unknown_station(app: &App, station: &str) -> Result<Option<String>, CommandError> {
    let mut conn = app.store.pool().acquire().await?;
    let known = match tariffs::load_in(&mut conn).await {
        Ok(tariffs) => tariffs.station(station).is_some(),
        Err(ClearingError::NoTariff) => true,
        Err(e) => return Err(e.into()),
    };
    let warning =
        || format!("no published tariff has station {station}: its taps are not charged until one does");
    Ok((!known).then(warning))
}

fn table<'a>(gates: impl Iterator<Item = &'a Gate>) -> String {
    let mut out = format!(
        "{:>10} {:<16} {:<6} {:>8} {:<7} {:>10} state",
        "gate", "station", "way", "operator", "network", "generation"
    );
    for gate in gates {
        let way = match gate.direction {
            Direction::Entry => "entry",
            Direction::Exit => "exit",
            Direction::Single => "single",
        };
        let state = if gate.retired.is_some() { "retired" } else { "in service" };
        let network = String::from_utf8_lossy(&gate.network);
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "\n{:>10} {:<16} {way:<6} {:>8} {network:<7} {:>10} {state}",
            gate.gate_id, gate.station, gate.operator, gate.generation
        );
    }
    out
}
