//! The same taps give the same money, whatever the store, the number of gateways and the order of arrival.
//!
//! Some days of taps are made once and handed in to one house after another. Where all come before the days are closed,
//! everything that is content is the same byte for byte: tables, batches with their hashes, files. Where a tenth comes
//! later, both such houses are the same, and beside those without delay they have exactly the adjustments that the late
//! taps make, priced here by `wavepass-fares` alone.
//!
//! `WAVEPASS_LONG=1` does it with a million taps; `WAVEPASS_SAME_TAPS=N` with about N. `--nocapture` shows the times.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use rayon::prelude::*;
use serde_json::{Value, json};
use wavepass_fares::{
    AdjustmentKind, Fen, Kind, Passage, Periods, Priced, ServiceDay, Status, Tap, TapId, Tariff, Tariffs,
    Window, price,
};
use wavepass_gateway::gates::NewGate;
use wavepass_gateway::keys::{Cost, KeyOptions, KeySet, Passphrase};
use wavepass_gateway::lists::deny::{self, Addition, Cause};
use wavepass_gateway::store::Store;
use wavepass_protocol::tap::{Direction, Outcome};
use wavepass_test_postgres::{Options, Server};
use wavepass_tests::books::{self, compare, compare_folders, lines};
use wavepass_tests::days::{self, DAYS, Presented, START, What};
use wavepass_tests::journals::{Journals, Order, Part, found_for_days};
use wavepass_tests::processes::{Failure, House, PASSPHRASE, Plan, Programs};

const EVERYTHING: &str = include_str!("../../host-gateway/fares/tests/tariffs/everything.toml");
const SETTINGS: &str = "[settlement]\nmethod = \"passenger_km\"\noperators = [\n{ operator = 1, share = 1, code = \"east\" },\n\
                        { operator = 2, share = 1, code = \"west\" },\n]\n";
const SEED: u64 = 20_261_123;
/// 2026-11-23 in days since 1970-01-01.
const FIRST_DAY: i64 = 20_780;
const FEW: u64 = 2_000;
const MANY: u64 = 1_000_000;
/// Poor riders who are given money after all, the first of them; and those of them who ask to be let in at once.
const RESCUED: usize = 8;
const ASKING: usize = 3;

/// How one house gets the taps.
struct Way {
    name: &'static str,
    postgres: bool,
    gateways: usize,
    order: Order,
    late: bool,
}

const fn way(name: &'static str, postgres: bool, gateways: usize, order: Order, late: bool) -> Way {
    Way { name, postgres, gateways, order, late }
}

const IN_ORDER: Way = way("SQLite, in order", false, 1, Order::ByTime, false);
const SHUFFLED: Way = way("PostgreSQL, shuffled", true, 1, Order::Shuffled(1), false);
const AT_ONCE: Way = way("PostgreSQL, three gateways", true, 3, Order::Shuffled(2), false);
const LATE: Way = way("SQLite, a tenth late", false, 1, Order::Shuffled(3), true);
const LATE_AT_ONCE: Way = way("PostgreSQL, three gateways, a tenth late", true, 3, Order::Shuffled(4), true);

struct World {
    runtime: tokio::runtime::Runtime,
    server: Arc<Server>,
    folder: tempfile::TempDir,
    keys: KeySet,
    tariff: String,
    riders: u32,
    journals: Journals,
}

fn date(day: u64) -> Result<String, Failure> {
    Ok(ServiceDay::from_number(FIRST_DAY + i64::try_from(day)?)?.to_string())
}

fn poor(riders: u32) -> impl Iterator<Item = u32> {
    (0..riders).filter(|rider| days::is_poor(*rider))
}

impl World {
    fn new(taps: u64) -> Result<Self, Failure> {
        let (mut riders, mut planned) = (0, 0);
        while planned < taps {
            planned += days::days(SEED, riders).len() as u64;
            riders += 1;
        }
        // So low that it binds within three days, beside the caps of shorter periods.
        let tariff = EVERYTHING.replace("limit_fen = 2_400", "limit_fen = 1_700");
        let folder = tempfile::tempdir()?;
        let mut random = ChaCha12Rng::seed_from_u64(SEED);
        let keys = KeySet::generate(&mut random, &KeyOptions::house(2040))?;
        keys.write(&folder.path().join("keys"), &Passphrase::new(PASSPHRASE), Cost::Test, &mut random)?;
        let journals = folder.path().join("journals");
        fs::create_dir(&journals)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let journals = runtime.block_on(Journals::make(&journals, &keys, &tariff, riders, SEED))?;
        // Commits wait for the disk only where that is what times are taken of.
        let durable = taps >= MANY;
        let server = Arc::new(Server::start(Options { durable, tcp: true, ..Options::default() })?);
        Ok(Self { runtime, server, folder, keys, tariff, riders, journals })
    }

    fn token(&self, rider: u32) -> String {
        self.journals.tokens[rider as usize].to_hex()
    }

    /// Fills a store as the one was that the taps were made with.
    async fn fill(&self, store: &Store) -> Result<(), Failure> {
        found_for_days(store, &self.keys, &self.tariff, self.riders, |_, _| Ok(())).await?;
        let token_key = self.journals.tokens[days::DENIED as usize];
        let addition = Addition { token_key, number: None, cause: Cause::Lost, note: String::new() };
        let mut tx = store.begin().await?;
        deny::add_in(&mut tx, self.keys.clearing().as_ref(), &[addition], "test", START).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Plays the days one way; gives the folder of everything that came of it.
    fn play(&self, way: &Way, table: &mut String) -> Result<PathBuf, Failure> {
        let out = self.folder.path().join(way.name.replace([' ', ','], "-"));
        fs::create_dir(&out)?;
        let programs = Programs {
            town: env!("CARGO_BIN_EXE_town-gateway").into(),
            bank: env!("CARGO_BIN_EXE_town-bank").into(),
        };
        let keys = self.folder.path().join("keys");
        let plan = Plan {
            postgres: way.postgres.then(|| self.server.clone()),
            sandbox_bank: false,
            tariff: &self.tariff,
            settings: SETTINGS,
            keys: Some(&keys),
        };
        let mut house = House::lay(programs, &plan)?;
        let (url, data) = house.store();
        self.runtime.block_on(async {
            let store = Store::open(&url, &data).await?;
            self.fill(&store).await?;
            store.close().await;
            Ok::<_, Failure>(())
        })?;
        house.open(way.gateways)?;
        let mut seconds = [0.0; 3];
        let mut timed = |stage: usize, work: &dyn Fn() -> Result<(), Failure>| {
            let began = Instant::now();
            work()?;
            seconds[stage] += began.elapsed().as_secs_f64();
            Ok::<_, Failure>(())
        };
        let first = if way.late { Part::OnTime } else { Part::All };
        timed(0, &|| self.journals.hand_in(&house, first, way.order))?;
        timed(1, &|| close(&house, &[]))?;
        if way.late {
            timed(0, &|| self.journals.hand_in(&house, Part::Late, way.order))?;
            timed(1, &|| close(&house, &["--late"]))?;
        }
        timed(2, &|| self.ask_again(&house))?;
        settle(&house)?;
        write_files(&house, &out)?;
        house.close();
        self.runtime.block_on(async {
            let store = Store::open(&url, &data).await?;
            books::write(&store, &out).await?;
            store.close().await;
            Ok::<_, Failure>(())
        })?;
        let [intake, close, deduct] = seconds;
        let (name, taps) = (way.name, self.journals.taps);
        writeln!(table, "{name:<42}{taps:>9}{intake:>9.1}{close:>9.1}{deduct:>9.1}")?;
        Ok(out)
    }

    /// Some of the poor pay in; then the bank is asked again for what it declined.
    fn ask_again(&self, house: &House) -> Result<(), Failure> {
        for (n, number) in poor(self.riders).take(RESCUED).enumerate() {
            let account = days::rider(number).account;
            house.command(n, &["account", "deposit", &account, "--fen", "20000", "--name", "again"])?;
            if n < ASKING {
                house.command(n, &["debt", "recover", "--token", &self.token(number)])?;
            }
        }
        for day in 0..DAYS {
            house.command(0, &["deduct", &date(day)?, "--retry-declined"])?;
        }
        Ok(())
    }
}

/// Gives a command to all gateways at the same time.
fn at_once(house: &House, args: &[&str]) -> Result<(), Failure> {
    std::thread::scope(|threads| {
        let all: Vec<_> =
            (0..house.gateways()).map(|n| threads.spawn(move || house.command(n, args))).collect();
        all.into_iter().try_for_each(|one| one.join().map_err(|_| "a gateway's thread panicked")?.map(drop))
    })
}

fn close(house: &House, further: &[&str]) -> Result<(), Failure> {
    (0..DAYS).try_for_each(|day| at_once(house, &[&["close-day", &date(day)?], further].concat()))
}

/// Settles and reconciles the days, and looks whether all together is in order.
fn settle(house: &House) -> Result<(), Failure> {
    for day in 0..DAYS {
        let date = date(day)?;
        at_once(house, &["settle", &date])?;
        let found: Value = serde_json::from_str(&house.command(0, &["reconcile", &date])?)?;
        if found["differences"] != json!({}) {
            return Err(format!("reconciled, {found}").into());
        }
    }
    let report: Value = serde_json::from_str(&house.command(0, &["report"])?)?;
    books::settled(&report)?;
    match report["breaks"] == 0 && report["in_doubt_fen"] == 0 {
        true => Ok(()),
        false => Err(format!("not in order: {report}").into()),
    }
}

/// Writes every file that the gateways hand out, and the days' reports, each of which must be in order.
fn write_files(house: &House, out: &Path) -> Result<(), Failure> {
    for day in 0..DAYS {
        let date = date(day)?;
        let report = house.command(0, &["report", &date])?;
        fs::write(out.join(format!("{date}-report.json")), &report)?;
        let report: Value = serde_json::from_str(&report)?;
        books::settled(&report)?;
        let n = usize::try_from(day)? % house.gateways();
        let write = |kind: &str, more: &[&str]| -> Result<bool, Failure> {
            let args = [&["file", kind, &date, "--out", "f"], more].concat();
            match house.file_once(n, &args) {
                Ok(file) => fs::write(out.join(format!("{date}-{kind}{}", more.concat())), file)?,
                Err(refused) if refused.to_string().contains("nothing of that to write") => return Ok(false),
                Err(error) => return Err(error),
            }
            Ok(true)
        };
        for rank in 0..report["batches"].as_array().ok_or("no batches")?.len() {
            let rank = rank.to_string();
            write("charges", &["--rank", &rank])?;
            write("journeys", &["--rank", &rank])?;
            let mut submission = 1;
            while write("collection", &["--rank", &rank, "--submission", &submission.to_string()])? {
                submission += 1;
            }
        }
        write("settlement", &[])?;
    }
    Ok(())
}

/// A row of `charges` that is expected: day, token, part, rank, amount.
type Charge = (i64, String, usize, usize, i64);

/// What the fares say of some riders.
#[derive(Default)]
struct Expected {
    /// Where all taps were there before the close, and where those of gates off line came after it.
    in_time: Vec<Charge>,
    late: Vec<Charge>,
    statuses: BTreeSet<Status>,
    kinds: BTreeSet<AdjustmentKind>,
}

impl Expected {
    fn merge(mut self, other: Self) -> Self {
        self.in_time.extend(other.in_time);
        self.late.extend(other.late);
        self.statuses.extend(other.statuses);
        self.kinds.extend(other.kinds);
        self
    }
}

fn expect(world: &World) -> Result<Expected, Failure> {
    let tariffs = Tariff::parse("days.toml", &world.tariff)?.compile()?;
    let gates = days::gates();
    let one = |rider: u32| expect_rider(&tariffs, &gates, rider, world.token(rider));
    let all = (0..world.riders).into_par_iter().map(one);
    let mut all = all.try_reduce(Expected::default, |a, b| Ok(a.merge(b)))?;
    all.in_time.sort_unstable();
    all.late.sort_unstable();
    Ok(all)
}

fn expect_rider(
    tariffs: &Tariffs,
    gates: &[NewGate],
    rider: u32,
    token: String,
) -> Result<Expected, Failure> {
    let presented = days::days(SEED, rider);
    let taps = presented.iter().zip(1..).map(|(tap, n)| Ok((tap, opening(tariffs, gates, tap, n)?)));
    let taps: Vec<(&Presented, Tap)> = taps
        .filter_map(|tap: Result<_, Failure>| tap.map(|(p, tap)| Some((p, tap?))).transpose())
        .collect::<Result<_, _>>()?;
    let priced = |on_time_alone: bool| {
        let counts = |p: &Presented| !on_time_alone || p.at < days::off_line_from(p.gate);
        let mut taps: Vec<Tap> = taps.iter().filter(|(p, _)| counts(p)).map(|(_, tap)| *tap).collect();
        let last = FIRST_DAY + i64::try_from(DAYS)? - 1;
        let window = Window {
            taps: &mut taps,
            corrections: &[],
            category: tariffs.category(days::rider(rider).category).unwrap_or_default(),
            days: ServiceDay::from_number(FIRST_DAY)?..=ServiceDay::from_number(last)?,
            emergencies: &Periods::NONE,
        };
        Ok::<_, Failure>(price(tariffs, window)?)
    };
    let (all, on_time) = (priced(false)?, priced(true)?);
    let mut expected = Expected::default();
    expected.statuses.extend(all.journeys.iter().map(|journey| journey.status));
    expected.kinds.extend(all.days.iter().flat_map(|day| day.adjustments.iter().map(|a| a.kind)));
    for number in (FIRST_DAY..).take(usize::try_from(DAYS)?) {
        let (whole, before) = (of_day(&all, number), of_day(&on_time, number));
        let row = |part, rank, amount: Fen| (number, token.clone(), part, rank, amount.0);
        expected.in_time.extend(whole.1.map(|charge| row(1, 0, charge)));
        expected.late.extend(before.1.map(|charge| row(1, 0, charge)));
        if whole != before {
            let difference = whole.1.unwrap_or_default().minus(before.1.unwrap_or_default())?;
            expected.late.push(row(1 + usize::from(before.1.is_some()), 1, difference));
        }
    }
    Ok(expected)
}

/// The journeys of a day, and its charge if there are any.
fn of_day(priced: &Priced, number: i64) -> (&[wavepass_fares::Journey], Option<Fen>) {
    let day = priced.days.iter().find(|day| day.day.number() == number);
    day.map_or((&[][..], None), |day| (&priced.journeys[day.journeys.clone()], Some(day.charge)))
}

/// A tap as the fares see it; none where the gate did not open.
fn opening(
    tariffs: &Tariffs,
    gates: &[NewGate],
    presented: &Presented,
    sequence: u32,
) -> Result<Option<Tap>, Failure> {
    let What::Opened(told) = presented.what else { return Ok(None) };
    let NewGate { station, direction, .. } = &gates[presented.gate];
    Ok(Some(Tap {
        time_ms: i64::try_from(presented.at.0)?,
        station: tariffs.station(station).ok_or("a station that the tariff lacks")?,
        kind: match direction {
            Direction::Entry => Kind::Entry,
            Direction::Exit => Kind::Exit,
            Direction::Single => Kind::Single,
        },
        id: TapId { key: [0; 8], sequence },
        passage: match told.last() {
            Some(Outcome::NotPassed) => Passage::NotPassed,
            Some(Outcome::Passed) => Passage::Passed,
            Some(Outcome::Unknown) | None => Passage::Unknown,
        },
    }))
}

fn table(folder: &Path, name: &str) -> Result<impl Iterator<Item = String>, Failure> {
    lines(&folder.join(format!("{name}.txt")))
}

/// The columns of `charges` that [`Charge`] has.
fn charges(folder: &Path) -> Result<impl Iterator<Item = String>, Failure> {
    Ok(table(folder, "charges")?.map(|line| line.split('|').take(5).collect::<Vec<_>>().join("|")))
}

fn as_lines(charges: &[Charge]) -> impl Iterator<Item = String> {
    charges.iter().map(|(day, token, part, rank, fen)| format!("{day}|{token}|{part}|{rank}|{fen}"))
}

/// The journeys that stand, without the part that recorded them.
fn standing(folder: &Path) -> Result<impl Iterator<Item = String>, Failure> {
    let stands = |line: String| {
        let mut cells: Vec<&str> = line.split('|').collect();
        let (_, superseded_by) = (cells.remove(4), cells.remove(4));
        (superseded_by == "-").then(|| cells.join("|"))
    };
    Ok(table(folder, "journeys")?.filter_map(stands))
}

/// What each operator has of a token's day, all parts together.
fn shares(folder: &Path) -> Result<impl Iterator<Item = String>, Failure> {
    let mut rows = table(folder, "charge_shares")?.peekable();
    Ok(std::iter::from_fn(move || {
        let line = rows.next()?;
        let mut sums: BTreeMap<String, i64> = BTreeMap::new();
        let token_day = |line: &str| line.split('|').take(2).collect::<Vec<_>>().join("|");
        let of = token_day(&line);
        let mut add = |line: &str| {
            let mut cells = line.split('|').skip(3);
            let operator = cells.next().unwrap_or_default().to_owned();
            *sums.entry(operator).or_default() += cells.next().and_then(|fen| fen.parse().ok()).unwrap_or(0);
        };
        add(&line);
        while let Some(line) = rows.next_if(|line| token_day(line) == of) {
            add(&line);
        }
        sums.retain(|_, fen| *fen != 0);
        Some((of, sums))
    })
    .filter(|(_, sums)| !sums.is_empty())
    .map(|(of, sums)| format!("{of} {sums:?}")))
}

/// Whoever has money has paid everything.
fn all_is_paid(world: &World, folder: &Path) -> Result<(), Failure> {
    let without: HashSet<String> = poor(world.riders).skip(RESCUED).map(|rider| world.token(rider)).collect();
    for line in table(folder, "charges")? {
        let cells: Vec<&str> = line.split('|').collect();
        if cells[5] != "deducted" && !without.contains(cells[1]) {
            return Err(format!("{}: not deducted: {line}", folder.display()).into());
        }
    }
    Ok(())
}

fn taps() -> u64 {
    let given = std::env::var("WAVEPASS_SAME_TAPS").ok().map(|taps| taps.parse().expect("a number of taps"));
    let long = std::env::var_os("WAVEPASS_LONG").is_some_and(|long| long == "1");
    given.unwrap_or(if long { MANY } else { FEW })
}

fn the_same(taps: u64) -> Result<(), Failure> {
    let world = World::new(taps)?;
    let mut times =
        format!("{:<42}{:>9}{:>9}{:>9}{:>9}\n", "seconds of", "taps", "intake", "close", "deduct");
    let expected = expect(&world)?;
    let first = world.play(&IN_ORDER, &mut times)?;
    compare("what is charged", charges(&first)?, as_lines(&expected.in_time))?;
    all_is_paid(&world, &first)?;
    for way in [SHUFFLED, AT_ONCE] {
        let other = world.play(&way, &mut times)?;
        compare_folders(&first, &other).map_err(|found| format!("{}: {found}", way.name))?;
        fs::remove_dir_all(other)?;
    }
    let late = world.play(&LATE, &mut times)?;
    compare("what is charged with late taps", charges(&late)?, as_lines(&expected.late))?;
    compare("the journeys that stand", standing(&first)?, standing(&late)?)?;
    compare("the operators' shares", shares(&first)?, shares(&late)?)?;
    all_is_paid(&world, &late)?;
    let late_at_once = world.play(&LATE_AT_ONCE, &mut times)?;
    compare_folders(&late, &late_at_once)?;
    let Journals { taps, late: late_taps, .. } = world.journals;
    println!("{} riders, {late_taps} of {taps} taps late\n{times}", world.riders);

    // That the taps ask all of it; fewer may not.
    if taps < FEW {
        return Ok(());
    }
    let all_kinds = AdjustmentKind::ALL.into_iter().filter(|kind| *kind != AdjustmentKind::Forgiven);
    assert_eq!(expected.kinds, all_kinds.collect());
    let statuses = [Status::Complete, Status::SameStation, Status::Incomplete, Status::AutoCompleted];
    assert_eq!(expected.statuses, BTreeSet::from(statuses));
    assert!((taps / 20..taps / 5).contains(&late_taps), "{late_taps} of {taps} taps are late");
    let adjusted = || expected.late.iter().filter(|(_, _, _, rank, _)| *rank == 1).map(|charge| charge.4);
    assert!(adjusted().any(|fen| fen < 0) && adjusted().any(|fen| fen > 0));
    for state in ["open", "recovered"] {
        assert!(table(&first, "debts")?.any(|debt| debt.ends_with(state)), "no debt is {state}");
    }
    Ok(())
}

#[test]
fn the_same_taps_give_the_same_money_whatever_the_store_the_gateways_and_the_order_of_arrival() {
    if let Err(found) = the_same(taps()) {
        panic!("{found}");
    }
}
