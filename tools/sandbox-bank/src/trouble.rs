//! What may go wrong with a bank, to order.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use sha2::{Digest, Sha256};
use wavepass_gateway::bank::AttemptId;

/// Shares are in percent of requests, connections or attempts.
#[derive(Debug, Clone, Default, Args)]
pub struct Trouble {
    /// Each answer comes so much later, ms.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub delay_ms: u64,
    /// Requests whose answer is kept back after the money moved: the caller hears nothing.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub lose_answers: u8,
    /// Requests answered with 500 before anything is done.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub errors: u8,
    /// Connections that are closed as soon as they are made.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub refuse: u8,
    /// Attempts to debit that are declined as `no_funds`, whatever the account holds; which ones follows from their names.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub decline: u8,
    /// It knows no holds, as a bank that was made before them.
    #[arg(long)]
    pub no_holds: bool,
    /// What the shares are drawn from.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// What an event is drawn for.
#[derive(Clone, Copy)]
pub(crate) enum Draw {
    Connection,
    Error,
    Answer,
}

/// The draws of a running bank: the same seed draws the same, event by event.
pub(crate) struct Draws {
    trouble: Trouble,
    drawn: AtomicU64,
}

impl Draws {
    pub(crate) const fn new(trouble: Trouble) -> Self {
        Self { trouble, drawn: AtomicU64::new(0) }
    }

    /// True if this event goes wrong.
    pub(crate) fn hits(&self, what: Draw) -> bool {
        let percent = match what {
            Draw::Connection => self.trouble.refuse,
            Draw::Error => self.trouble.errors,
            Draw::Answer => self.trouble.lose_answers,
        };
        let number = self.drawn.fetch_add(1, Ordering::Relaxed);
        percent_of(self.trouble.seed, &number.to_be_bytes()) < percent
    }

    pub(crate) const fn delay(&self) -> Duration {
        Duration::from_millis(self.trouble.delay_ms)
    }
}

impl Trouble {
    /// True if this attempt is one of the share that is declined.
    pub(crate) fn declines(&self, id: &AttemptId) -> bool {
        percent_of(self.seed, &id.to_bytes()) < self.decline
    }
}

/// 0 to 99, evenly, by seed and name.
fn percent_of(seed: u64, name: &[u8]) -> u8 {
    let digest = Sha256::new().chain_update(seed.to_be_bytes()).chain_update(name).finalize();
    let number = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) % 100;
    // Below 100.
    number as u8
}
