//! The command line: `wavepass-gateway serve | keys | gate | token | deny | import | …`.
//!
//! A command that needs the store takes the data folder itself, or, where a gateway runs on it, has that gateway run
//! the command and prints what it answers. Files are read and written here, by the caller, never by the gateway.

mod app;
pub(crate) mod backup;
mod before;
mod import;
mod out_file;
mod remote;

pub use app::{App, AppError};
pub(crate) use before::not_new_without_keys;
use out_file::Reserved;

use crate::config::{Config, ConfigError, Overrides};
use crate::keys::{self, Passphrase, PassphraseArgs, Role};
use crate::spool::{self, Spooled};
use crate::store::{Store, StoreError};
use crate::{bank, clearing, concentrators, desk, gates, input, keep, lists, reconcile, serve, tokens};
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Why a command failed, for the person who gave it.
pub type CommandError = Box<dyn std::error::Error + Send + Sync>;

/// What a command has to say, and the files it makes.
#[derive(Default)]
pub struct Output {
    /// Printed to standard output.
    pub text: String,
    /// Printed to standard error: what was done all the same, and should be looked at.
    pub warnings: Vec<String>,
    /// Written, readable by their owner only: no more than the file that the command line names.
    pub files: Vec<OutFile>,
}

/// A file that a command makes.
pub struct OutFile {
    /// Where.
    pub path: PathBuf,
    /// What.
    pub bytes: Zeroizing<Vec<u8>>,
}

impl Output {
    /// Something to print.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// And a file to write.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>, bytes: Zeroizing<Vec<u8>>) -> Self {
        self.files.push(OutFile { path: path.into(), bytes });
        self
    }

    /// And something to look at.
    #[must_use]
    pub fn warning(mut self, text: Option<String>) -> Self {
        self.warnings.extend(text);
        self
    }

    fn deliver(self) -> Result<(), CommandError> {
        use std::io::Write;
        for warning in &self.warnings {
            let _ = writeln!(std::io::stderr(), "warning: {warning}"); // nowhere left to say it
        }
        if self.text.is_empty() {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        let written = writeln!(out, "{}", self.text.trim_end_matches('\n')).and_then(|()| out.flush());
        match written {
            // A reader that closed early has seen what it wanted.
            Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(format!("standard output: {e}; the command itself is done").into())
            }
            _ => Ok(()),
        }
    }
}

/// The Wavepass host.
#[derive(Parser)]
#[command(name = "wavepass-gateway", version, about)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command that touches the data folder takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Common {
    /// Configuration file (TOML).
    #[arg(long, global = true, env = "WAVEPASS_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data folder [default: ./wavepass-data].
    #[arg(long, global = true, env = "WAVEPASS_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Database: `sqlite:PATH`, a path, or `postgres://USER@HOST/DATABASE` [default: wavepass.db in the data folder].
    ///
    /// A PostgreSQL server on another machine is asked for TLS and verified (`?sslmode=verify-full`), with `&sslrootcert=FILE` by an
    /// authority of your own. Other words for sslmode: disable, prefer, require, verify-ca.
    #[arg(long, global = true, env = "WAVEPASS_DATABASE", value_name = "URL")]
    database: Option<String>,
    /// Folder of the key files [default: keys in the data folder].
    #[arg(long, global = true, env = "WAVEPASS_KEYS", value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Who acts, for the audit log.
    #[arg(long, global = true, env = "WAVEPASS_USER", default_value = "operator", value_name = "NAME")]
    user: String,
}

impl Common {
    pub(crate) fn load(&self) -> Result<Config, ConfigError> {
        let config = Config::load(&Overrides {
            config: self.config.clone(),
            data: self.data.clone(),
            database: self.database.clone(),
            keys: self.keys.clone(),
        })?;
        before::check_sections(&config)?;
        Ok(config)
    }
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway.
    Serve(serve::ServeArgs),
    /// Make and inspect key files.
    Keys(keys::cli::KeysArgs),
    /// Hand in a file of sealed entries.
    Import(import::ImportArgs),
    Backup(backup::BackupArgs),
    Restore(backup::RestoreArgs),
    /// Price taps by a tariff, without a database.
    Price(clearing::tariff_cli::PriceArgs),
    #[command(flatten)]
    Store(StoreCommand),
}

/// Commands that work on the store, here or in the gateway that owns it.
#[derive(Subcommand)]
pub(crate) enum StoreCommand {
    /// Commission, list and retire gates.
    Gate(gates::cli::GateArgs),
    /// Add, list and retire concentrators, which hand in their gates' entries over HTTP.
    Concentrator(concentrators::cli::ConcentratorArgs),
    /// Issue, show and change tokens.
    Token(tokens::cli::TokenArgs),
    /// Open, fill, pay out, show and list e-accounts of the embedded bank.
    Account(bank::cli::AccountArgs),
    /// Look at and change the deny list.
    Deny(lists::cli::deny::DenyArgs),
    /// Show, check and set how gates work.
    GateConfig(lists::cli::gate_config::GateConfigArgs),
    /// Revoke issuer certificates, lift and list revocations.
    Revocation(lists::cli::revocation::RevocationArgs),
    /// List, add and remove CA keys: whose cards gates take.
    CaKey(lists::cli::ca_key::CaKeyArgs),
    /// Check tariff files, compare two, make one from a GTFS feed, or try one on a day of the gateway's own.
    Tariff(clearing::tariff_cli::TariffArgs),
    /// Close a service day: charges, sealed into a batch.
    CloseDay(clearing::cli::CloseDayArgs),
    /// Deduct the charges of a closed day from the e-accounts.
    Deduct(clearing::cli::DeductArgs),
    /// List, recover, waive and write off debts.
    Debt(clearing::debts::cli::DebtArgs),
    /// Take and list what riders tell of missing taps.
    Correction(clearing::corrections::cli::CorrectionArgs),
    /// Open, show and decide disputes.
    Dispute(clearing::disputes::cli::DisputeArgs),
    /// Settle a closed day with the operators.
    Settle(clearing::cli::SettleArgs),
    /// Compare taps, charges, deductions and ledger of a day; or a day with the bank's statement, with the network's file,
    /// or slice by slice.
    Reconcile(reconcile::cli::ReconcileArgs),
    /// Take in the bank's answers to a collection.
    Answers(clearing::answers::AnswersArgs),
    /// List, assign, note and end breaks.
    Break(desk::cli::BreakArgs),
    /// List and end alerts.
    Alert(desk::cli::AlertArgs),
    Audit(desk::cli::AuditArgs),
    /// Erase a person.
    Person(keep::cli::PersonArgs),
    /// Delete the taps of service days that are long over, as `[retention] days` says.
    Retention(keep::cli::RetentionArgs),
    /// Report a service day.
    Report(clearing::cli::ReportArgs),
    /// Write the files of a closed day: what the bank is asked for, charges, journeys, settlement.
    File(clearing::files::FileArgs),
}

impl StoreCommand {
    fn output(&self) -> Option<&std::path::Path> {
        match self {
            Self::Gate(args) => args.output(),
            Self::Concentrator(args) => args.output(),
            Self::Token(args) => args.output(),
            Self::File(args) => args.output(),
            _ => None,
        }
    }

    /// The file that the command reads.
    fn input(&self) -> Option<&std::path::Path> {
        match self {
            Self::GateConfig(args) => args.input(),
            Self::CaKey(args) => args.input(),
            Self::Reconcile(args) => args.layout(),
            Self::File(args) => args.layout(),
            Self::Tariff(args) => args.input(),
            _ => None,
        }
    }

    /// The file of another house that the command takes in, of any size.
    fn file(&self) -> Option<&std::path::Path> {
        match self {
            Self::Reconcile(args) => args.file(),
            Self::Answers(args) => Some(args.file()),
            _ => None,
        }
    }
}

/// Runs one command line (the first argument is the program's name); gives its exit code: 0 done, 1 failed, 2 misused.
///
/// Callable in any process: it starts its own runtime and ends nothing but itself.
pub fn main_from(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(e) => {
            let misused = e.use_stderr();
            // Help goes to standard output, a fault to standard error; where neither takes it, the code still says.
            let _ = e.print();
            return if misused { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    match run(cli, &args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli, args: &[OsString]) -> Result<(), CommandError> {
    // These need neither store nor configuration.
    if let Command::Store(StoreCommand::GateConfig(args)) = &cli.command
        && let Some(file) = args.check()
    {
        return lists::cli::gate_config::check(file)?.deliver();
    }
    let command = match cli.command {
        Command::Keys(args) => return keys::cli::run(args)?.deliver(),
        Command::Price(args) => return clearing::tariff_cli::price(args)?.deliver(),
        Command::Store(StoreCommand::Tariff(args)) if args.input().is_none() => {
            let reserved = args.output().map(Reserved::take).transpose()?;
            return filled(clearing::tariff_cli::tariff(args)?, reserved)?.deliver();
        }
        command => command,
    };
    input::user(&cli.common.user).map_err(|e| format!("--user: {e}"))?;
    let config = cli.common.load()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = match command {
        Command::Keys(_) | Command::Price(_) => return Ok(()),
        Command::Serve(args) => runtime.block_on(serve::run(args, config)).map(|()| Output::default()),
        Command::Backup(args) => runtime.block_on(backup::backup(args, config)),
        Command::Restore(args) => runtime.block_on(backup::restore(args, config, &cli.common.user)),
        Command::Import(args) => runtime.block_on(import::run(args, config, &cli.common.user)),
        Command::Store(command) => runtime.block_on(on_store(command, config, &cli.common.user, args)),
    };
    // Blocking work that still runs (a read of standard input) must not hold the process.
    runtime.shutdown_background();
    outcome?.deliver()
}

async fn on_store(
    command: StoreCommand,
    config: Config,
    user: &str,
    args: &[OsString],
) -> Result<Output, CommandError> {
    // Before anything is entered: a gate without its file would have to be commissioned anew.
    let reserved = command.output().map(Reserved::take).transpose()?;
    // Read here and not by a gateway that runs: it may work in another folder, as another user.
    let text = command.input().map(read_input).transpose()?;
    let outcome = match open_here(&config, &PassphraseArgs::default()).await? {
        None => remote::command(&config, args, remote::Given { text, file: command.file() }, user).await,
        Some(app) => {
            let outcome = run_here(command, &app, user, text.as_deref()).await;
            app.store.close().await;
            outcome
        }
    };
    filled(outcome?, reserved)
}

async fn run_here(
    command: StoreCommand,
    app: &App,
    user: &str,
    text: Option<&str>,
) -> Result<Output, CommandError> {
    let file = command.file().map(|path| spool::copy(&app.config.data, path)).transpose()?;
    run_store_command(command, app, user, Given { text, file }).await
}

/// Fills the file that was taken for a command with what it made.
fn filled(mut output: Output, reserved: Option<Reserved>) -> Result<Output, CommandError> {
    if let Some(reserved) = reserved {
        let file = output.files.pop().ok_or("the command made no file")?;
        reserved.fill(&file.bytes)?;
    }
    Ok(output)
}

fn read_input(path: &std::path::Path) -> Result<String, CommandError> {
    Ok(input::read_text(path, input::MAX_CONFIG).map_err(|e| format!("{}: {e}", path.display()))?)
}

/// Opens the application on the data folder; `None` where another process owns it.
pub(crate) async fn open_here(
    config: &Config,
    passphrase: &PassphraseArgs,
) -> Result<Option<App>, CommandError> {
    not_new_without_keys(config)?;
    let store = match Store::open(&config.database, &config.data).await {
        Ok(store) => store,
        Err(StoreError::Locked { .. }) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    open_with(store, config, passphrase, Arc::new(crate::clock::System)).await.map(Some)
}

/// Opens the keys and puts the application together over an open store.
pub(crate) async fn open_with(
    store: Store,
    config: &Config,
    passphrase: &PassphraseArgs,
    clock: Arc<dyn crate::clock::Clock>,
) -> Result<App, CommandError> {
    let file = passphrase.passphrase_file.clone().or_else(|| config.file.passphrase_file.clone());
    let passphrase = Passphrase::from_args(&PassphraseArgs { passphrase_file: file })?;
    let folder = config.keys.clone();
    // Argon2 takes a tenth of a second and 64 MiB for each file: not on the runtime's threads.
    let keys = tokio::task::spawn_blocking(move || {
        let clearing = keys::open_clearing(&Role::Clearing.path(&folder), &passphrase)?;
        let bank = keys::open_bank(&Role::Bank.path(&folder), &passphrase)?;
        Ok::<_, keys::KeysError>((clearing, bank))
    });
    let (clearing, bank) = keys.await??;
    Ok(App::start(store, clearing, bank, config.clone(), clock).await?)
}

/// Reads a store command that another process sent.
pub(crate) fn parse_store_command(args: &[String]) -> Result<StoreCommand, String> {
    let args = std::iter::once("wavepass-gateway").chain(args.iter().map(String::as_str));
    match Cli::try_parse_from(args).map_err(|e| e.to_string())?.command {
        Command::Store(command) => Ok(command),
        _ => Err("not a command of the store".into()),
    }
}

/// What the caller of a command has read for it.
#[derive(Default)]
pub(crate) struct Given<'a> {
    /// The text of the small file that it reads, if it reads one.
    pub(crate) text: Option<&'a str>,
    /// The file of another house that it takes in, if it takes one.
    pub(crate) file: Option<Spooled>,
}

/// Runs a store command in the process that owns the data folder.
pub(crate) async fn run_store_command(
    command: StoreCommand,
    app: &App,
    user: &str,
    given: Given<'_>,
) -> Result<Output, CommandError> {
    let Given { text, file } = given;
    let output = match command {
        StoreCommand::Gate(args) => gates::cli::run(args, app, user).await?,
        StoreCommand::Concentrator(args) => concentrators::cli::run(args, app, user).await?,
        StoreCommand::Token(args) => tokens::cli::run(args, app, user).await?,
        StoreCommand::Account(args) => bank::cli::run(args, app, user).await?,
        StoreCommand::Deny(args) => lists::cli::deny::run(args, app, user).await?,
        StoreCommand::GateConfig(args) => lists::cli::gate_config::run(args, app, user, text).await?,
        StoreCommand::Revocation(args) => lists::cli::revocation::run(args, app, user).await?,
        StoreCommand::CaKey(args) => lists::cli::ca_key::run(args, app, user, text).await?,
        StoreCommand::Tariff(args) => clearing::tariff_cli::of_a_day(args, app, text).await?,
        StoreCommand::Person(args) => keep::cli::person(args, app, user).await?,
        StoreCommand::Retention(args) => keep::cli::retention(args, app, user).await?,
        StoreCommand::CloseDay(args) => clearing::cli::close_day(args, app, user).await?,
        StoreCommand::Deduct(args) => clearing::cli::deduct(args, app, user).await?,
        StoreCommand::Debt(args) => clearing::debts::cli::run(args, app, user).await?,
        StoreCommand::Correction(args) => clearing::corrections::cli::run(args, app, user).await?,
        StoreCommand::Dispute(args) => clearing::disputes::cli::run(args, app, user).await?,
        StoreCommand::Settle(args) => clearing::cli::settle(args, app, user).await?,
        StoreCommand::Reconcile(args) => reconcile::cli::run(args, app, user, text, file).await?,
        StoreCommand::Answers(_) => clearing::answers::run(app, user, file).await?,
        StoreCommand::Break(args) => desk::cli::run_break(args, app, user).await?,
        StoreCommand::Alert(args) => desk::cli::run_alert(args, app, user).await?,
        StoreCommand::Audit(args) => desk::cli::run_audit(args, app).await?,
        StoreCommand::Report(args) => clearing::cli::report(args, app, user).await?,
        StoreCommand::File(args) => clearing::files::file(args, app, text).await?,
    };
    // A gate may have been added or retired.
    app.directory.refresh(&app.store).await?;
    Ok(output)
}
