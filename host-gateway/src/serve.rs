//! `serve`: the gateway as a process. It owns the data folder, listens for gates and for HTTP, and ends in order.

use crate::api::{self, Credentials, admin_token, connections};
use crate::clearing::rounds::Rounds;
use crate::cli::{self, App, CommandError};
use crate::clock::{Clock, Driven, NEVER_TOLD, System};
use crate::config::Config;
use crate::intake::link::{self, LinkParts};
use crate::keys::PassphraseArgs;
use crate::lists;
use crate::risk;
use crate::store::Store;
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use wavepass_protocol::time::UnixMs;

/// How long sessions and requests have to end before the process does anyway.
const GRACE: Duration = Duration::from_secs(10);

/// The longest `gateway.json`: three short values.
const MAX_RUNNING: u64 = 4096;

/// Run the gateway.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// Where gates connect; port 0 takes a free one.
    #[arg(long, env = "WAVEPASS_LISTEN_LINK", value_name = "ADDR")]
    listen_link: Option<SocketAddr>,
    /// Where HTTP is served; port 0 takes a free one.
    #[arg(long, env = "WAVEPASS_LISTEN_HTTP", value_name = "ADDR")]
    listen_http: Option<SocketAddr>,
    /// The system's clock, or one that `POST /v1/clock` moves (simulations).
    #[arg(long, value_enum, default_value = "system")]
    clock: ClockKind,
    /// Where a driven clock begins, such as 2026-11-23T08:00:00+08:00; never before the newest time in the store
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    clock_at: Option<UnixMs>,
    /// End when standard input ends: with the process that started this one.
    #[arg(long)]
    exit_on_stdin_eof: bool,
    /// Once everything listens, write the bound addresses there, as JSON.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Publish this tariff first: checked together with those already published, in force from its own date.
    #[arg(long, env = "WAVEPASS_TARIFF", value_name = "FILE")]
    tariff: Option<PathBuf>,
    /// Log as JSON.
    #[arg(long, env = "WAVEPASS_LOG_JSON")]
    log_json: bool,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

fn parse_time(text: &str) -> Result<UnixMs, String> {
    let time: Timestamp = text.parse().map_err(|_| "a time is like 2026-11-23T08:00:00+08:00".to_owned())?;
    match u64::try_from(time.as_millisecond()) {
        Ok(ms) if UnixMs(ms) > NEVER_TOLD => Ok(UnixMs(ms)),
        _ => Err("a time is after 1970".to_owned()),
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ClockKind {
    System,
    Driven,
}

/// Where a running gateway listens: `gateway.json` in its data folder, and the ready file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Running {
    /// Process number.
    pub pid: u32,
    /// Where gates connect.
    pub link: SocketAddr,
    /// Where HTTP is served.
    pub http: SocketAddr,
}

impl Running {
    /// Reads where the gateway of a data folder listens.
    pub fn read(data: &Path) -> std::io::Result<Self> {
        let path = data.join("gateway.json");
        let text = crate::input::read_text(&path, MAX_RUNNING)?;
        serde_json::from_str(&text).map_err(std::io::Error::other)
    }
}

/// Runs the gateway until it is told to stop.
pub(crate) async fn run(args: ServeArgs, config: Config) -> Result<(), CommandError> {
    log_to_stderr(args.log_json);
    api::metrics_handle();
    cli::not_new_without_keys(&config)?;
    let store = Store::open(&config.database, &config.data).await?;
    let clock: Arc<dyn Clock> = match args.clock {
        ClockKind::System => Arc::new(System),
        ClockKind::Driven => {
            let told = args.clock_at.unwrap_or(NEVER_TOLD);
            Arc::new(Driven::new(told.max(store.newest_time().await?)))
        }
    };
    let app = cli::open_with(store, &config, &args.passphrase, clock).await?;
    // Its settings are looked at, not the bank itself: taps are taken while it is away.
    crate::bank::http::connect(&config, &app.store, 0).map_err(|e| format!("[bank]: {}", e.0))?;
    adopt_ca_keys(&app).await?;
    if let Some(path) = &args.tariff {
        let name = path.display().to_string();
        let most = wavepass_fares::tariff::MAX_FILE_BYTES as u64;
        let text = crate::input::read_text(path, most).map_err(|e| format!("{name}: {e}"))?;
        crate::clearing::app::publish_tariff(&app, "serve --tariff", &name, &text).await?;
    }
    if let Err(missing) = crate::open_files::raise(config.file.link.max_connections) {
        tracing::warn!("[link] max_connections: {missing}");
    }
    let link = args.listen_link.unwrap_or(config.file.link.listen);
    let http = args.listen_http.unwrap_or(config.file.http.listen);
    let server = Server::start(app, link, http).await?;
    let running = serde_json::to_vec(server.running())?;
    api::write_private(&config.data.join("gateway.json"), &running)?;
    if let Some(path) = &args.ready_file {
        api::write_private(path, &running).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    tracing::info!(link = %server.running().link, http = %server.running().http, "the gateway runs");
    told_to_stop(args.exit_on_stdin_eof).await?;
    tracing::info!("stopping");
    server.stop().await;
    // Whoever reads it from now on finds nobody there.
    let _ = std::fs::remove_file(config.data.join("gateway.json"));
    Ok(())
}

/// A new house's gates trust its own bank. Later changes are an operator's.
async fn adopt_ca_keys(app: &App) -> Result<(), CommandError> {
    let mut tx = app.store.begin().await?;
    lists::adopt_ca_keys_in(&mut tx, &app.bank.ca_keys()).await?;
    tx.commit().await?;
    Ok(())
}

fn log_to_stderr(json: bool) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("WAVEPASS_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // A log in a file is read by programs and in editors: no colours there.
    let colours = std::io::stderr().is_terminal();
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    // A process that logs already (city runs this in its own) goes on as it does.
    let _ = if json { builder.json().try_init() } else { builder.try_init() };
}

async fn told_to_stop(on_stdin_eof: bool) -> std::io::Result<()> {
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    #[cfg(unix)]
    let terminated = terminate.recv();
    #[cfg(not(unix))]
    let terminated = std::future::pending::<Option<()>>();
    let stdin_ended = async {
        if on_stdin_eof {
            let (ended, end) = tokio::sync::oneshot::channel();
            // A thread of its own: a read of standard input cannot be called off.
            std::thread::spawn(move || {
                // What comes is of no interest, only that it ends.
                let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
                let _ = ended.send(());
            });
            let _ = end.await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminated => Ok(()),
        () = stdin_ended => Ok(()),
    }
}

/// A gateway that listens. Also for tests and benches in process.
pub struct Server {
    app: App,
    running: Running,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Server {
    /// Binds both listeners and starts to serve.
    pub async fn start(app: App, link: SocketAddr, http: SocketAddr) -> Result<Self, CommandError> {
        let by_itself = Rounds::of(&app.config)?;
        let link = bind(link, "gates").await?;
        let http = bind(http, "HTTP").await?;
        let running = Running { pid: std::process::id(), link: link.local_addr()?, http: http.local_addr()? };
        let (stop, stopping) = watch::channel(false);
        let token = admin_token(&app.config).map_err(|e| format!("the admin token: {e}"))?;
        let credentials = Credentials::new(&token, &app.config.file.http.api_keys);
        let router = api::router(app.clone(), credentials);
        let (config, http_stop) = (app.config.clone(), stopping.clone());
        let serve_http = async move { connections::serve(http, router, &config.file.http, http_stop).await };
        let mut tasks = vec![
            tokio::spawn(link::serve(link_parts(&app), link, stopping.clone())),
            tokio::spawn(serve_http),
        ];
        if app.store.is_shared() {
            tasks.push(tokio::spawn(neighbours(app.clone(), stopping.clone())));
        }
        if app.clock.driven().is_none() {
            tasks.push(tokio::spawn(rounds(app.clone(), by_itself, stopping)));
        }
        Ok(Self { app, running, stop, tasks })
    }

    /// Where it listens.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// What it serves.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Ends sessions and requests, then closes the store.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let all = async {
            for task in self.tasks {
                // A task that panicked has been logged by the runtime.
                let _ = task.await;
            }
        };
        if tokio::time::timeout(GRACE, all).await.is_err() {
            tracing::warn!("some connections did not end in time");
        }
        self.app.store.close().await;
    }
}

async fn bind(address: SocketAddr, for_whom: &str) -> Result<TcpListener, CommandError> {
    TcpListener::bind(address)
        .await
        .map_err(|e| format!("cannot listen on {address} for {for_whom}: {e}").into())
}

fn link_parts(app: &App) -> LinkParts {
    LinkParts {
        intake: app.intake.clone(),
        clearing: app.clearing.clone(),
        directory: app.directory.clone(),
        store: app.store.clone(),
        board: app.gates.clone(),
        lists: app.lists.clone(),
        clock: app.clock.clone(),
        limits: app.config.file.link.clone(),
        news: app.news(),
    }
}

/// Where other gateways may work on the same database: takes over, every second, the lists that they published and the
/// gates that they commissioned or retired.
async fn neighbours(app: App, mut stop: watch::Receiver<bool>) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            _ = every.tick() => {}
        }
        if let Err(error) = app.take_over().await {
            tracing::warn!(%error, "what other gateways have changed is not known");
        }
    }
}

/// With the system's clock, at regular times: a round.
async fn rounds(app: App, by_itself: Rounds, mut stop: watch::Receiver<bool>) {
    let mut every = tokio::time::interval(Duration::from_secs(app.config.file.risk.every_s.max(1)));
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            _ = every.tick() => {}
        }
        round(&app, &by_itself).await;
    }
}

/// Risk, what clearing does by itself, and lists that are due.
pub(crate) async fn round(app: &App, by_itself: &Rounds) {
    if let Err(error) = risk::run(app).await {
        tracing::error!(%error, "risk");
    }
    if let Err(error) = by_itself.run(app).await {
        tracing::error!(%error, "clearing");
    }
    if let Err(error) = app.publish_lists().await {
        tracing::error!(%error, "lists");
    }
}
