//! The kernel's face to its hosts: one tap at a time, commands out, answers in, verification in slices.

use crate::card::Card;
use crate::config::Config;
use crate::decide::{self, Decision};
use crate::environment::{Asked, Environment, Lost, TapInput};
use crate::exchange::{Exchange, Inbox};
use crate::facts::{self, Facts};
use crate::oda::{Issuers, Oda};
use crate::path::{self, Fate, Phase};
use wavepass_protocol::ecc::Verifier;
use wavepass_protocol::select::Aid;

/// What the host does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Send this command to the card, and hand in its answer.
    Send(&'a [u8]),
    /// Send this command, do nothing else while the card answers, and hand in the answer and how long it took by
    /// [`Kernel::timed_answer`].
    Timed(&'a [u8]),
    /// No more commands: [`Kernel::work`] until idle, look up what [`Kernel::asks`], then [`Kernel::decision`].
    Last,
}

/// Whether there is verification to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// There may be more.
    More,
    /// Not now; after the next answer there may be.
    Idle,
}

/// The kernel of one gate. It owns its buffers and remembers issuers from tap to tap.
///
/// `Config` must not change between [`Kernel::begin`] and the decision.
pub struct Kernel<V> {
    verifier: V,
    issuers: Issuers,
    exchange: Exchange,
    inbox: Inbox,
    card: Card,
    oda: Oda,
}

impl<V> Kernel<V> {
    /// A kernel that has seen no card. It is large: a board makes it in a static, where it need not be moved.
    pub const fn new(verifier: V) -> Self {
        Self {
            verifier,
            issuers: Issuers::new(),
            exchange: Exchange::idle(),
            inbox: Inbox::new(),
            card: Card::new(),
            oda: Oda::new(),
        }
    }
}

impl<V: Verifier> Kernel<V> {
    /// The gate's verifier of P-256 signatures.
    pub const fn verifier(&mut self) -> &mut V {
        &mut self.verifier
    }

    /// Forgets the remembered issuers: to be called when authority keys or revocations change. A tap in progress
    /// verifies its issuer again.
    pub fn forget_issuers(&mut self) {
        self.issuers.forget();
        self.oda.restart();
    }

    /// Begins a tap, whatever became of the one before.
    pub fn begin(&mut self, config: &Config, tap: TapInput) -> Step<'_> {
        self.inbox.clear();
        self.card.clear();
        self.oda = Oda::new();
        self.exchange.begin(config, tap);
        self.step()
    }

    /// Takes the card's answer (data and status word) to the last command; `now_us` is the gate's running time.
    pub fn answer(&mut self, config: &Config, answer: &[u8], now_us: u64) -> Step<'_> {
        self.exchange.answer(config, &mut self.card, &mut self.inbox, answer, u32::MAX, now_us);
        self.step()
    }

    /// As [`Self::answer`], after [`Step::Timed`]: from the last byte sent to the first one received it took `took_us`
    /// microseconds, or what the reader adds to that each time, which the configuration has calibrated. A timed
    /// exchange whose answer comes by [`Self::answer`] counts as late.
    pub fn timed_answer(&mut self, config: &Config, answer: &[u8], took_us: u32, now_us: u64) -> Step<'_> {
        self.exchange.answer(config, &mut self.card, &mut self.inbox, answer, took_us, now_us);
        self.step()
    }

    /// Says that this command went out instead of the last step's: before the answer, by a bench that replays what
    /// another terminal recorded. That terminal filled the card's list with values of its own, and the card signed
    /// those. False, and nothing is changed, where it is not the same command with as many values.
    pub fn sent(&mut self, command: &[u8]) -> bool {
        self.exchange.sent(&mut self.card, command)
    }

    /// Ends the exchange: there will be no answer. After the last answer it changes nothing.
    pub fn lost(&mut self, why: Lost, now_us: u64) {
        self.exchange.lost(why.reason(), now_us);
    }

    fn step(&self) -> Step<'_> {
        match self.exchange.command() {
            Some(command) if self.exchange.is_timed() => Step::Timed(command),
            Some(command) => Step::Send(command),
            None => Step::Last,
        }
    }

    /// Does one slice of verification, at most one public key operation, if its inputs have arrived. What it finds
    /// never changes the commands that follow.
    pub fn work<E: Environment>(&mut self, env: &E) -> Work {
        let more = self.oda.step(&mut self.verifier, &mut self.issuers, &self.exchange, &self.card, env);
        if more { Work::More } else { Work::Idle }
    }

    /// What is to be looked up on the deny list once verification is idle after the last answer; `None` where the
    /// decision does not depend on it.
    pub fn asks(&self, config: &Config) -> Option<Asked> {
        decide::ask(config, &self.exchange, &self.card, &self.oda)?.ok()
    }

    /// The decision; `None` while the card still has to answer, verification is pending, or the environment cannot
    /// tell yet what [`Kernel::asks`] asked for.
    pub fn decision<E: Environment>(&self, config: &Config, env: &E) -> Option<Decision> {
        decide::decide(config, &self.exchange, &self.card, &self.oda, env)
    }

    /// What the command in flight is for.
    pub const fn phase(&self) -> Phase {
        self.exchange.phase()
    }

    /// The applications that both card and gate know, in the order in which they are tried, and what became of each.
    pub fn choices(&self) -> impl Iterator<Item = (Aid, Fate)> {
        path::choices(&self.exchange)
    }

    /// What is known of the card, until the next tap begins.
    pub fn facts(&self) -> Facts<'_> {
        facts::facts(&self.exchange, &self.card, &self.oda)
    }
}
