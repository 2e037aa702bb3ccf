//! A house for tests: a store in a folder of its own, keys from a seed, gates that seal, cards that tap.

use crate::cli::{App, CommandError, Given, Output, parse_store_command, run_store_command};
use crate::clock::Driven;
use crate::config::{Config, Overrides};
use crate::gates::{self, NewGate};
use crate::intake::Source;
use crate::intake::sealer::Sealer;
use crate::keys::{KeyOptions, KeySet, TokenKey};
use crate::store::db::query;
use crate::store::testing::{Scratch, scratch, scratch_on_postgres};
use crate::tokens::{self, Registration};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::sync::Arc;
use wavepass_protocol::tap::{
    ClockQuality, Decision, Direction, Entry, OdaMethod, OdaResult, Outcome, Passage, Tap, Timings,
};
use wavepass_protocol::time::UnixMs;
use wavepass_protocol::token::{Expiry, Token};

/// 2026-11-23T08:00:00+08:00, a Monday morning.
pub(crate) const MORNING: u64 = 1_795_392_000_000;

/// The house.
pub(crate) struct House {
    pub(crate) app: App,
    pub(crate) scratch: Scratch,
}

impl House {
    /// A house without gates or tokens, its clock at [`MORNING`].
    pub(crate) async fn new() -> Self {
        Self::with("").await
    }

    /// The same on PostgreSQL, where others may stand beside it.
    pub(crate) async fn on_postgres() -> Self {
        let scratch = scratch_on_postgres().await;
        let app = app_over(&scratch, "").await;
        Self { app, scratch }
    }

    /// Another gateway on the same database, with a data folder of its own and the same keys.
    pub(crate) async fn beside(&self) -> Self {
        let scratch = self.scratch.beside().await;
        let app = app_over(&scratch, "").await;
        Self { app, scratch }
    }

    /// The same, configured.
    pub(crate) async fn with(toml: &str) -> Self {
        let scratch = scratch().await;
        let app = app_over(&scratch, toml).await;
        Self { app, scratch }
    }

    /// A house over a store that was there before.
    pub(crate) async fn over(scratch: Scratch) -> Self {
        let app = app_over(&scratch, "").await;
        Self { app, scratch }
    }

    /// A house whose clock was never told the time.
    pub(crate) async fn without_time() -> Self {
        let scratch = scratch().await;
        let app = app_at(&scratch, "", UnixMs(0)).await;
        Self { app, scratch }
    }

    /// Ends the process, as far as the store can tell, and starts it again.
    pub(crate) async fn restart(self) -> Self {
        let Self { app, scratch } = self;
        drop(app);
        let app = app_over(&scratch, "").await;
        Self { app, scratch }
    }

    /// The same, configured and at a time.
    pub(crate) async fn restart_with(self, toml: &str, now: UnixMs) -> Self {
        let Self { app, scratch } = self;
        drop(app);
        let app = app_at(&scratch, toml, now).await;
        Self { app, scratch }
    }

    /// Commissions a gate.
    pub(crate) async fn gate(&self, gate_id: u32) -> Sealer {
        Sealer::new(&self.provisioning(gate_id).await).unwrap()
    }

    /// Commissions a gate; gives its provisioning file.
    pub(crate) async fn provisioning(&self, gate_id: u32) -> Vec<u8> {
        let new = NewGate {
            gate_id,
            station: "A1".into(),
            direction: Direction::Entry,
            operator: 1,
            network: *b"WAVE",
        };
        let mut tx = self.app.store.begin().await.unwrap();
        let clearing = &*self.app.clearing;
        let (_, file) = gates::add_in(&mut tx, clearing, &new, "test", UnixMs(MORNING)).await.unwrap();
        tx.commit().await.unwrap();
        file.to_vec()
    }

    /// Registers a card.
    pub(crate) async fn register(&self, card: &Card) -> TokenKey {
        let registration = Registration {
            token: card.token,
            expiry: card.expiry,
            psn: 0,
            account_id: format!("account-{}", tokens::last_four(&card.token)),
            category: "adult".into(),
        };
        let mut tx = self.app.store.begin().await.unwrap();
        let clearing = &*self.app.clearing;
        let keys =
            tokens::register_in(&mut tx, clearing, &[registration], "test", UnixMs(MORNING)).await.unwrap();
        tx.commit().await.unwrap();
        keys[0]
    }

    /// Ingests and gives the words of the verdicts.
    pub(crate) async fn ingest(&self, entries: &[Vec<u8>]) -> Vec<&'static str> {
        let receipt = self.app.intake.ingest(entries.to_vec()).await.unwrap();
        receipt.verdicts.into_iter().map(crate::intake::Verdict::word).collect()
    }

    /// The same as over the gate's own link.
    pub(crate) async fn ingest_over_link(&self, gate: &Sealer, entries: &[Vec<u8>]) -> Vec<&'static str> {
        let source = Source::Gate(gate.key_id);
        let receipt = self.app.intake.ingest_from(source, entries.to_vec()).await.unwrap();
        receipt.verdicts.into_iter().map(crate::intake::Verdict::word).collect()
    }

    /// Runs a command of the store as anna, as the command line does; gives what it prints.
    pub(crate) async fn command(&self, args: &[&str]) -> String {
        self.output(args).await.unwrap().text
    }

    /// The same; gives why it is refused.
    pub(crate) async fn refusal(&self, args: &[&str]) -> String {
        self.output(args).await.err().unwrap().to_string()
    }

    /// The same; gives all that it has to say.
    pub(crate) async fn output(&self, args: &[&str]) -> Result<Output, CommandError> {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let command = parse_store_command(&args)?;
        run_store_command(command, &self.app, "anna", Given::default()).await
    }

    /// One number out of the store.
    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        query(sql).scalar(self.app.store.pool()).await.unwrap()
    }

    /// A column of text out of the store.
    pub(crate) async fn texts(&self, sql: &'static str) -> Vec<String> {
        query(sql).column(self.app.store.pool()).await.unwrap()
    }
}

async fn app_over(scratch: &Scratch, toml: &str) -> App {
    app_at(scratch, toml, UnixMs(MORNING)).await
}

async fn app_at(scratch: &Scratch, toml: &str, now: UnixMs) -> App {
    let path = scratch.dir.path().join("test.toml");
    std::fs::write(&path, toml).unwrap();
    let overrides =
        Overrides { config: Some(path), data: Some(scratch.dir.path().into()), ..Overrides::default() };
    let config = Config::load(&overrides).unwrap();
    let keys = KeySet::generate(&mut ChaCha20Rng::seed_from_u64(7), &KeyOptions::house(2036)).unwrap();
    let clock = Arc::new(Driven::new(now));
    App::start(scratch.store.clone(), keys.clearing(), keys.bank(), config, clock).await.unwrap()
}

/// A card whose cryptograms nobody here can check: another bank's.
#[derive(Clone)]
pub(crate) struct Card {
    pub(crate) token: Token,
    pub(crate) expiry: Expiry,
}

impl Card {
    pub(crate) fn new(n: u32) -> Self {
        Self {
            token: Token::from_digits(&format!("62220212{n:08}")).unwrap(),
            expiry: Expiry::new(31, 5).unwrap(),
        }
    }

    /// An opened tap, `at_ms` after [`MORNING`]. The gate's random number is `atc`, so that the same call gives the
    /// same card data.
    pub(crate) fn tap(&self, at_ms: u64, atc: u16) -> TapAt {
        TapAt {
            card: self.clone(),
            at_ms,
            atc,
            data: atc,
            clock: ClockQuality::Synchronised,
            decision: Decision::Open,
            station: "A1",
            direction: Direction::Entry,
        }
    }
}

/// A tap to be sealed.
#[derive(Clone)]
pub(crate) struct TapAt {
    pub(crate) card: Card,
    pub(crate) at_ms: u64,
    pub(crate) atc: u16,
    /// Tells one answer of the card from another.
    pub(crate) data: u16,
    pub(crate) clock: ClockQuality,
    pub(crate) decision: Decision,
    pub(crate) station: &'static str,
    pub(crate) direction: Direction,
}

impl TapAt {
    pub(crate) fn seal(&self, gate: &mut Sealer) -> Vec<u8> {
        self.with_entry(|entry| gate.seal(entry).unwrap())
    }

    pub(crate) fn with_entry<T>(&self, take: impl FnOnce(&Entry<'_>) -> T) -> T {
        let [a, b] = self.data.to_be_bytes();
        let mut values = [0; 33];
        (values[29], values[30]) = (a, b);
        take(&Entry::Tap(Tap {
            time: UnixMs(MORNING + self.at_ms),
            clock: self.clock,
            station: self.station,
            direction: self.direction,
            decision: self.decision,
            aid: &[0xF0, 0x57, 0x41, 0x56, 0x45, 0x50, 0x41, 0x53, 0x53, 1],
            token: Some(self.card.token),
            expiry: Some(self.card.expiry),
            expiry_signed: true,
            psn: Some(0),
            atc: Some(self.atc),
            cid: Some(0x80),
            cryptogram: Some([a, b, 0, 0, 0, 0, 0, 1]),
            iad: &[6, 1, 0x12, 3, 0xA0, 0, 0],
            aip: Some([0x21, 0]),
            track2: &[],
            pdol: &[0x9F, 0x37, 4],
            pdol_values: &values,
            oda_method: Some(OdaMethod::Ecc),
            oda_result: OdaResult::Passed,
            timings: Timings { exchange_us: 200_000, gate_us: 900 },
        }))
    }
}

/// A passage of an earlier tap, sealed.
pub(crate) fn passage(gate: &mut Sealer, of: u32, outcome: Outcome) -> Vec<u8> {
    gate.seal(&Entry::Passage(Passage { time: UnixMs(MORNING), of, outcome })).unwrap()
}
