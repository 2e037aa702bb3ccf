//! One tap: the kernel's steps with a card on a way, with everything noted that a bench shows.
//!
//! The kernel is the gate's own. It verifies here between two commands instead of while the card answers, so that the
//! card's time and the kernel's are told apart; what is sent and decided is the same.

use crate::terminal::Terminal;
use crate::verdict::Verdict;
use crate::way::Way;
use std::time::Instant;
use wavepass_kernel::{Decision, Fate, Kernel, Lost, Phase, Step, TapInput, Work};
use wavepass_protocol::ecc::P256Verifier;
use wavepass_protocol::lists::RelayLimits;
use wavepass_protocol::select::Aid;
use wavepass_protocol::tap::Reason;
use wavepass_protocol::token::{Expiry, Token};

/// The kernel as the rig runs it.
pub type RigKernel = Kernel<P256Verifier>;

/// A kernel that has seen no card.
pub fn kernel() -> Box<RigKernel> {
    Box::new(Kernel::new(P256Verifier))
}

/// A phase's word in output.
pub const fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Directory => "directory",
        Phase::Application => "application",
        Phase::Timed => "relay",
        Phase::Options => "options",
        Phase::Record(_) => "records",
        Phase::Authenticate => "authenticate",
        Phase::Cryptogram => "cryptogram",
        // A command is always for something.
        _ => "over",
    }
}

/// One command and what came of it.
#[derive(Clone)]
pub struct Exchanged {
    /// What the command was for.
    pub phase: Phase,
    /// The command.
    pub command: Vec<u8>,
    /// Data and status word; none where the card was lost.
    pub answer: Option<Vec<u8>>,
    /// How long the card took, microseconds.
    pub took_us: u64,
    /// How long the kernel verified after the answer, microseconds.
    pub work_us: u64,
}

/// What is known of the card. All but the last four digits names a rider.
#[derive(Clone)]
pub struct Known {
    /// The application that was selected; empty before.
    pub aid: Vec<u8>,
    /// The token.
    pub token: Option<Token>,
    /// Its expiry.
    pub expiry: Option<Expiry>,
    /// True if that expiry is signed.
    pub expiry_signed: bool,
    /// Sequence number.
    pub psn: Option<u8>,
    /// Transaction counter.
    pub atc: Option<u16>,
    /// Cryptogram information data.
    pub cid: Option<u8>,
}

/// A tap, as the rig saw it.
#[derive(Clone)]
pub struct Tap {
    /// Every exchange.
    pub exchanges: Vec<Exchanged>,
    /// What the kernel decided.
    pub decision: Decision,
    /// How authentication ended.
    pub verdict: Verdict,
    /// What is known of the card.
    pub known: Known,
    /// The applications that both sides know, in the order in which they are tried, and what became of each.
    pub choices: Vec<(Aid, Fate)>,
    /// Why the card gave no further answer, where the exchange broke off.
    pub lost: Option<Lost>,
    /// What the terminal allowed timed exchanges to take; none where it times no cards.
    pub relay: Option<RelayLimits>,
    /// From the first command to the decision, microseconds, modelled delays included.
    pub total_us: u64,
}

impl Tap {
    /// The card's time in each part of the exchange, microseconds, in the order in which the parts began.
    pub fn phases_us(&self) -> Vec<(&'static str, u64)> {
        let mut phases: Vec<(&'static str, u64)> = Vec::new();
        for exchanged in &self.exchanges {
            let word = phase_word(exchanged.phase);
            match phases.iter_mut().find(|(known, _)| *known == word) {
                Some((_, us)) => *us += exchanged.took_us,
                None => phases.push((word, exchanged.took_us)),
            }
        }
        phases
    }

    /// The kernel's own time, microseconds.
    pub fn work_us(&self) -> u64 {
        self.exchanges.iter().map(|e| e.work_us).sum()
    }
}

/// The words of a decision: `open`, or why not.
pub const fn decision_word(decision: Decision) -> &'static str {
    match decision {
        Decision::Open { .. } => "open",
        Decision::Refuse(reason) => reason.word(),
    }
}

/// Presents the card on a way to the kernel. `seen` is told of each exchange as it ends.
pub fn tap(
    kernel: &mut RigKernel,
    terminal: &Terminal,
    input: TapInput,
    way: &mut dyn Way,
    seen: &mut dyn FnMut(&Exchanged),
) -> Tap {
    let start_us = way.now_us();
    let input = TapInput { start_us, ..input };
    let config = &terminal.config;
    let mut exchanges = Vec::new();
    let mut next = command(kernel.begin(config, input));
    let mut lost_by = None;
    if next.is_some()
        && let Err(lost) = way.field()
    {
        kernel.lost(lost, way.now_us());
        lost_by = Some(lost);
        next = None;
    }
    while let Some(sent) = next {
        let phase = kernel.phase();
        let before_us = way.now_us();
        let mut answer = way.exchange(&sent);
        let now_us = way.now_us();
        let sent = match way.sent().map(<[u8]>::to_vec) {
            None => sent,
            Some(other) => {
                if !kernel.sent(&other) {
                    answer = Err(Lost::Protocol);
                }
                other
            }
        };
        let took_us = now_us.saturating_sub(before_us);
        let took = u32::try_from(took_us).unwrap_or(u32::MAX);
        next = match &answer {
            // What is not timed does not care how long it took.
            Ok(answer) => command(kernel.timed_answer(config, answer, took, now_us)),
            Err(lost) => {
                kernel.lost(*lost, now_us);
                lost_by = Some(*lost);
                None
            }
        };
        let begin = Instant::now();
        while kernel.work(terminal) == Work::More {}
        let exchanged = Exchanged {
            phase,
            command: sent,
            answer: answer.ok(),
            took_us,
            work_us: u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX),
        };
        seen(&exchanged);
        exchanges.push(exchanged);
    }
    // Idle after the last step: the kernel's contract is that it has decided.
    let decision = kernel.decision(config, terminal).unwrap_or(Decision::Refuse(Reason::OutOfService));
    let total_us = way.now_us().saturating_sub(start_us);
    let facts = kernel.facts();
    let known = Known {
        aid: facts.aid.to_vec(),
        token: facts.token,
        expiry: facts.expiry,
        expiry_signed: facts.expiry_signed,
        psn: facts.psn,
        atc: facts.atc,
        cid: facts.cid,
    };
    let verdict = Verdict::of(&facts, decision, &exchanges, terminal, input);
    let choices = kernel.choices().collect();
    Tap { exchanges, decision, verdict, known, choices, lost: lost_by, relay: config.relay, total_us }
}

fn command(step: Step<'_>) -> Option<Vec<u8>> {
    match step {
        Step::Send(command) | Step::Timed(command) => Some(command.to_vec()),
        Step::Last => None,
    }
}
