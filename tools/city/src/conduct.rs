//! The conductor: takes the day step by step, from its preparation to its report.
//!
//! In a step all gates play at once; then each brings its taps to the gateway; then the clock moves on, alerts
//! and lists take effect, and the next step begins when every gate has the lists. Whatever dies in between, the
//! step is done again and changes nothing that was done before.

use crate::admin::{Admin, AdminError};
use crate::args::Arguments;
use crate::data::{Folder, Progress, read_json, replace, writable, write_json};
use crate::player::{Cards, PlayError, Player};
use crate::report::{HostReport, Report, print_surprises, tally};
use crate::setup;
use crate::supervisor::Gateway;
use crate::world::{STEPS, World};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use wavepass_fares::Tariff;
use wavepass_protocol::lists::Version;
use wavepass_protocol::time::UnixMs;

const TARIFF: &str = include_str!("../../../host-gateway/tariffs/wavepass-city.toml");
/// The day that is played: 2026-11-23, from 04:00 in Shanghai.
const DAY: &str = "2026-11-23";
const DAY_START: UnixMs = UnixMs(1_795_377_600_000);
/// When it may be closed: a day and ten hours later, after its end and any maximum journey time.
const CLOSE_AT: UnixMs = UnixMs(DAY_START.0 + 34 * 3_600_000);
/// How often a request or a link is tried again, and how long apart.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Plays the day, or prints the report of one that is over. True if all is well.
pub fn play(arguments: &Arguments) -> Result<bool, Failure> {
    let size = arguments.size();
    let tariffs = Tariff::parse("wavepass-city.toml", TARIFF)?.compile()?;
    let world = Arc::new(World::plan(size, tariffs.stations().len(), DAY_START)?);
    // Before anything is made or played: a day's work is not lost to a slip in an option.
    if let Some(url) = &arguments.database {
        wavepass_gateway::store::check_url(url)?;
    }
    if let Some(file) = &arguments.report {
        writable(file)?;
    }
    let (folder, progress, _lock) = Folder::open(&arguments.data, size)?;
    let database = arguments.database.clone().unwrap_or_else(|| folder.database());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;

    let finished = folder.report().exists();
    let mut progress = progress.unwrap_or(Progress { size, ready: false, steps: 0 });
    if !progress.ready {
        anstream::eprintln!("Making keys, accounts, tokens, phones and gates …");
        folder.save(&progress)?;
        runtime.block_on(setup::make(&folder, &database, &world, tariffs.stations(), size.seed, TARIFF))?;
        progress.ready = true;
        folder.save(&progress)?;
    }
    let report: Report = if finished {
        read_json(&folder.report())?
    } else {
        let mut gateway = Gateway::start(&folder, database.clone())?;
        let report = Conductor::new(&folder, world, &mut gateway, &runtime)?.day(&mut progress)?;
        gateway.stop()?;
        write_json(&folder.report(), &report)?;
        report
    };
    report.print(folder.root())?;
    if let Some(file) = &arguments.report {
        // Named as it was asked for; the way it is written is nobody's business.
        let written = replace(file, serde_json::to_string_pretty(&report)?.as_bytes());
        written.map_err(|why| format!("the report {}: {why}", file.display()))?;
    }
    if arguments.serve {
        serve(&folder, database, &runtime)?;
    }
    Ok(report.faults().is_empty())
}

fn serve(folder: &Folder, database: String, runtime: &tokio::runtime::Runtime) -> Result<(), Failure> {
    let gateway = Gateway::start(folder, database)?;
    let addresses = gateway.addresses();
    // The store says when the day was settled; who has worked on it since has moved its clock further.
    Admin::new(folder)?.set_clock(addresses.http, CLOSE_AT)?;
    anstream::println!("\nThe gateway runs: http://{}  (gates: {})", addresses.http, addresses.link);
    anstream::println!("Administrator token: {}", folder.admin_token().display());
    anstream::println!("Ctrl-C ends it.");
    runtime.block_on(tokio::signal::ctrl_c())?;
    Ok(gateway.stop()?)
}

struct Conductor<'g> {
    folder: Folder,
    world: Arc<World>,
    cards: Arc<Cards>,
    players: Vec<Player>,
    gateway: &'g mut Gateway,
    runtime: &'g tokio::runtime::Runtime,
    admin: Admin,
}

impl<'g> Conductor<'g> {
    fn new(
        folder: &Folder,
        world: Arc<World>,
        gateway: &'g mut Gateway,
        runtime: &'g tokio::runtime::Runtime,
    ) -> Result<Self, Failure> {
        let cards = Arc::new(setup::phones(folder, &world)?);
        let mut players = Vec::with_capacity(world.gates.len());
        for (plan, events) in world.gates.iter().zip(&world.events) {
            players.push(runtime.block_on(Player::start(folder, plan.clone(), events.clone()))?);
        }
        let admin = Admin::new(folder)?;
        Ok(Self { folder: folder.clone(), world, cards, players, gateway, runtime, admin })
    }

    fn day(mut self, progress: &mut Progress) -> Result<Report, Failure> {
        let bar = bar(self.world.presentations());
        let begun = Instant::now();
        let before = self.presented();
        bar.set_position(before);
        // Whatever step the day stands at, every gate first gets the lists in force.
        let start = UnixMs(self.world.start.0 + progress.steps * crate::world::STEP_MS);
        let mut lists = self.ask(|admin, at| admin.end_step(at, start))?;
        self.gather(lists)?;
        for step in progress.steps..STEPS {
            let end = self.world.step_end(step);
            let played = self.play_step(end, &bar)?;
            if played > 0 || step + 1 == STEPS {
                self.gather(lists)?;
                lists = self.ask(|admin, at| admin.end_step(at, end))?;
                self.gather(lists)?;
            }
            progress.steps = step + 1;
            self.folder.save(progress)?;
        }
        bar.finish_and_clear();

        self.ask(|admin, at| admin.end_step(at, CLOSE_AT))?;
        for command in ["close", "deduct", "settle", "reconcile"] {
            let path = format!("/v1/days/{DAY}/{command}");
            self.ask(|admin, at| {
                // A gateway that was started again has forgotten the time it was told.
                admin.set_clock(at, CLOSE_AT)?;
                admin.post(at, &path, &serde_json::json!({}))
            })?;
        }
        // Debts are on the deny list now: the gates have it before the next morning.
        let lists = self.ask(|admin, at| admin.end_step(at, CLOSE_AT))?;
        self.gather(lists)?;
        let host = self.ask(|admin, at| admin.get(at, &format!("/v1/days/{DAY}/report")))?;
        let host: HostReport = serde_json::from_value(host)?;
        let tally = tally(&self.players, &self.world);
        print_surprises(&tally.surprises)?;
        if host.taps_opened != tally.opened_once {
            let (gates, gateway) = (tally.opened_once, host.taps_opened);
            return Err(format!("the gates opened for {gates} taps, but the gateway has {gateway}").into());
        }
        let seconds = begun.elapsed().as_secs_f64();
        let rate = (self.presented() - before) as f64 / seconds;
        Ok(Report::new(DAY.to_owned(), &tally, &host, rate))
    }

    fn presented(&self) -> u64 {
        self.players.iter().map(|p| p.played().count() as u64).sum()
    }

    /// All gates play a step at once.
    fn play_step(&mut self, end: UnixMs, bar: &ProgressBar) -> Result<u64, Failure> {
        let (cards, world) = (self.cards.clone(), self.world.clone());
        let counts = self.all(move |mut player| {
            let (cards, world) = (cards.clone(), world.clone());
            async move {
                let played = player.play(end, &cards, &world.cards).await;
                (player, played)
            }
        })?;
        let mut count = 0;
        for played in counts {
            count += played?;
        }
        bar.inc(count);
        Ok(count)
    }

    /// Every gate brings its taps and takes the lists; a gateway that died is started again.
    fn gather(&mut self, lists: [Version; 4]) -> Result<(), Failure> {
        for _ in 0..TRIES {
            let at = self.gateway.addresses().link;
            let results = self.all(move |mut player| async move {
                let done = player.synchronise(at, &lists).await;
                (player, done)
            })?;
            let mut broken = None;
            for result in results {
                match result {
                    Ok(()) => {}
                    Err(why @ PlayError::Link { .. }) => broken = Some(why),
                    Err(why) => return Err(why.into()),
                }
            }
            let Some(why) = broken else { return Ok(()) };
            tracing::warn!(%why, "a gate waits for the gateway");
            self.revive()?;
        }
        Err(format!(
            "the gates did not reach the gateway in {TRIES} tries; its log is {}",
            self.folder.gateway_log().display()
        )
        .into())
    }

    fn revive(&mut self) -> Result<(), Failure> {
        if self.gateway.revive()? {
            anstream::eprintln!(
                "The gateway had died; it runs again as process {}.",
                self.gateway.process_id()
            );
        } else {
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Asks the gateway; where no answer comes, starts it again and asks again. Every request may be repeated.
    fn ask<T>(
        &mut self,
        request: impl Fn(&Admin, std::net::SocketAddr) -> Result<T, AdminError>,
    ) -> Result<T, Failure> {
        for _ in 0..TRIES {
            match request(&self.admin, self.gateway.addresses().http) {
                Err(AdminError::NoAnswer { path, why }) => {
                    tracing::warn!(path, why, "no answer");
                    self.revive()?;
                }
                done => return Ok(done?),
            }
        }
        Err("the gateway does not answer".into())
    }

    /// Runs a task for every gate at once; the answers come in the gates' order.
    fn all<T, Fut>(&mut self, task: impl Fn(Player) -> Fut) -> Result<Vec<T>, Failure>
    where
        T: Send + 'static,
        Fut: Future<Output = (Player, T)> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        for (i, player) in self.players.drain(..).enumerate() {
            let work = task(player);
            tasks.spawn_on(async move { (i, work.await) }, self.runtime.handle());
        }
        let mut done: Vec<(usize, (Player, T))> = Vec::new();
        self.runtime.block_on(async {
            while let Some(joined) = tasks.join_next().await {
                done.push(joined?);
            }
            Ok::<(), tokio::task::JoinError>(())
        })?;
        done.sort_by_key(|d| d.0);
        let mut answers = Vec::with_capacity(done.len());
        for (_, (player, answer)) in done {
            self.players.push(player);
            answers.push(answer);
        }
        Ok(answers)
    }
}

fn bar(presentations: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(presentations);
    // The template is a constant; a bar without it is still a bar.
    if let Ok(style) =
        ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} taps  {per_sec}  {elapsed}")
    {
        bar.set_style(style);
    }
    bar
}
