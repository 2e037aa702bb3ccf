//! One tap: the kernel's steps with a card on a way, with everything noted that a bench shows.
//!
//! The kernel is the gate's own. It verifies here between two commands instead of while the card answers, so that the
//! card's time and the kernel's are told apart; what is sent and decided is the same.

use crate::terminal::Terminal;
use crate::verdict::Verdict;
use crate::way::Way;
use std::time::Instant;
use wavepass_kernel::{Decision, Kernel, Lost, Step, TapInput, Work};
use wavepass_protocol::apdu::PPSE;
use wavepass_protocol::ecc::P256Verifier;
use wavepass_protocol::tap::Reason;
use wavepass_protocol::token::{Expiry, Token};

/// The kernel as the rig runs it.
pub type RigKernel = Kernel<P256Verifier>;

/// A kernel that has seen no card.
pub fn kernel() -> Box<RigKernel> {
    Box::new(Kernel::new(P256Verifier))
}

/// A part of the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// SELECT of the directory.
    Directory,
    /// SELECT of an application.
    Application,
    /// The timed exchange against relays.
    Relay,
    /// GET PROCESSING OPTIONS.
    Options,
    /// READ RECORD.
    Records,
    /// INTERNAL AUTHENTICATE.
    Authenticate,
    /// GENERATE AC.
    Cryptogram,
}

impl Phase {
    /// All, in their order.
    pub const ALL: [Self; 7] = [
        Self::Directory,
        Self::Application,
        Self::Relay,
        Self::Options,
        Self::Records,
        Self::Authenticate,
        Self::Cryptogram,
    ];

    /// Its word in machine output.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Application => "application",
            Self::Relay => "relay",
            Self::Options => "options",
            Self::Records => "records",
            Self::Authenticate => "authenticate",
            Self::Cryptogram => "cryptogram",
        }
    }

    /// The part to which a command belongs; chained answers and repetitions stay in the part before.
    fn of(command: &[u8], before: Self) -> Self {
        match command.get(..2) {
            Some([0x00, 0xA4]) if command.windows(PPSE.len()).any(|part| part == PPSE) => Self::Directory,
            Some([0x00, 0xA4]) => Self::Application,
            Some([0x80, 0xEA]) => Self::Relay,
            Some([0x80, 0xA8]) => Self::Options,
            Some([0x00, 0xB2]) => Self::Records,
            Some([0x00, 0x88]) => Self::Authenticate,
            Some([0x80, 0xAE]) => Self::Cryptogram,
            _ => before,
        }
    }
}

/// One command and what came of it.
#[derive(Clone)]
pub struct Exchanged {
    /// Where in the exchange.
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
    /// Why the card gave no further answer, where the exchange broke off.
    pub lost: Option<Lost>,
    /// From the first command to the decision, microseconds, modelled delays included.
    pub total_us: u64,
}

impl Tap {
    /// The card's time and the kernel's in a part of the exchange, microseconds; none where it did not come to it.
    pub fn phase_us(&self, phase: Phase) -> Option<u64> {
        let mut taken = self.exchanges.iter().filter(|e| e.phase == phase).map(|e| e.took_us).peekable();
        taken.peek()?;
        Some(taken.sum())
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
    let mut phase = Phase::Directory;
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
        phase = Phase::of(&sent, phase);
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
    Tap { exchanges, decision, verdict, known, lost: lost_by, total_us }
}

fn command(step: Step<'_>) -> Option<Vec<u8>> {
    match step {
        Step::Send(command) | Step::Timed(command) => Some(command.to_vec()),
        Step::Last => None,
    }
}
