//! What every command and every route works with.

use crate::clock::{self, Clock};
use crate::config::Config;
use crate::intake::{Board, Directory, Intake, IntakeError, Item, Parts, Receipt, Source};
use crate::keys::{BankKeys, ClearingKeys};
use crate::lists::{self, ListsError, Published};
use crate::risk;
use crate::store::{Audit, Store, StoreError, audit_in};
use std::sync::Arc;
use tokio::sync::watch;
use wavepass_protocol::lists::{Kind, Version};
use wavepass_protocol::time::UnixMs;

/// Why the application cannot start or publish.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A driven clock over an empty store.
    #[error("the gateway's clock was never told the time: tell it with POST /v1/clock or `serve --clock-at`")]
    ClockUnset,
    /// The signed lists.
    #[error(transparent)]
    Lists(#[from] ListsError),
    /// The registry of gates.
    #[error(transparent)]
    Gates(#[from] crate::gates::GatesError),
    /// Intake.
    #[error(transparent)]
    Intake(#[from] IntakeError),
}

impl From<sqlx::Error> for AppError {
    fn from(e: sqlx::Error) -> Self {
        Self::Store(e.into())
    }
}

/// The application: one store, its keys, and what runs on them. Clones share everything.
#[derive(Clone)]
pub struct App {
    /// The store.
    pub store: Store,
    /// Clearing's keys.
    pub clearing: Arc<dyn ClearingKeys>,
    /// The bank's keys.
    pub bank: Arc<dyn BankKeys>,
    /// The configuration in force.
    pub config: Arc<Config>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The signed lists in force.
    pub lists: Arc<Published>,
    /// The state of connected gates.
    pub gates: Arc<Board>,
    /// Which gates there are.
    pub directory: Arc<Directory>,
    /// Where sealed entries go in.
    pub intake: Intake,
    /// Held while risk looks at what came.
    pub(crate) risk_turn: Arc<tokio::sync::Mutex<risk::Turn>>,
    news: Arc<watch::Sender<u64>>,
}

impl App {
    /// Puts the parts together and starts intake on the running tokio runtime.
    pub async fn start(
        store: Store,
        clearing: Arc<dyn ClearingKeys>,
        bank: Arc<dyn BankKeys>,
        config: Config,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AppError> {
        let lists = {
            let mut conn = store.pool().acquire().await?;
            Arc::new(Published::load(&mut conn).await?)
        };
        let directory = Arc::new(Directory::load(&store).await?);
        let intake = Intake::start(Parts {
            store: store.clone(),
            clearing: clearing.clone(),
            bank: bank.clone(),
            clock: clock.clone(),
            day_clock: config.day_clock().clone(),
            directory: directory.clone(),
            set_aside_a_day: config.file.intake.set_aside_a_day,
        });
        Ok(Self {
            store,
            clearing,
            bank,
            config: Arc::new(config),
            clock,
            lists,
            gates: Arc::default(),
            directory,
            intake,
            risk_turn: Arc::default(),
            news: Arc::new(watch::channel(0).0),
        })
    }

    /// The time, for whatever is signed, booked or audited; an error from a clock that was never told it.
    pub fn now(&self) -> Result<UnixMs, AppError> {
        match self.clock.now() {
            clock::NEVER_TOLD => Err(AppError::ClockUnset),
            now => Ok(now),
        }
    }

    /// Takes entries of which a person says that whatever is missing before one that opens is lost: its place waits no more,
    /// and a break says which.
    pub async fn ingest_past_gaps(&self, entries: Vec<Vec<u8>>, by: &str) -> Result<Receipt, AppError> {
        let detail = format!("{} entries; what is missing before them is lost", entries.len());
        let line =
            Audit { at: self.now()?, user: by, action: "entries.past_gaps", subject: "", detail: &detail };
        let mut tx = self.store.begin().await?;
        audit_in(&mut tx, &line).await?;
        tx.commit().await?;
        let items = entries.into_iter().map(Item::PastGap).collect();
        Ok(self.intake.submit_and_wait(Source::Batch, items).await?)
    }

    /// Publishes the lists that have changed and sends them to every connected gate.
    pub async fn publish_lists(&self) -> Result<Vec<(Kind, Version)>, AppError> {
        let now = self.now()?;
        let mut tx = self.store.begin().await?;
        let published = lists::publish(&mut tx, &*self.clearing, now).await?;
        tx.commit().await?;
        if !published.is_empty() {
            let mut conn = self.store.pool().acquire().await?;
            self.lists.refresh(&mut conn).await?;
            self.spread_news();
        }
        Ok(published)
    }

    /// Takes over what another gateway on the same database has published or commissioned.
    pub async fn take_over(&self) -> Result<(), AppError> {
        let mut conn = self.store.pool().acquire().await?;
        let lists = self.lists.refresh(&mut conn).await?;
        drop(conn);
        let gates = self.directory.refresh_if_changed(&self.store).await?;
        if gates || !lists.is_empty() {
            self.spread_news();
        }
        Ok(())
    }

    /// Wakes every link session: lists or a driven clock have moved.
    pub(crate) fn spread_news(&self) {
        self.news.send_modify(|n| *n = n.wrapping_add(1));
    }

    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }
}
