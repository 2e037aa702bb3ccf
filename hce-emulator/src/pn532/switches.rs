//! What can go wrong at a simulated chip, and the count of what did.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Injected {
    /// An acknowledgement came late.
    LateAck,
    /// None came.
    MissingAck,
    /// One came with a bit turned over.
    CorruptAck,
    /// A frame came in pieces with pauses between them.
    Split,
    /// A frame came with a wrong LCS.
    WrongLcs,
    /// A frame came with a wrong DCS.
    WrongDcs,
    /// A frame did not come.
    LostAnswer,
    /// A NACK stood before a frame.
    SpuriousNack,
    /// Random bytes stood before a frame.
    Garbage,
    /// The chip was reset and forgot everything.
    Reset,
    /// The card left before it got the command.
    Pull,
    /// The card left while it answered.
    PullMidAnswer,
}

impl Injected {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::LateAck,
        Self::MissingAck,
        Self::CorruptAck,
        Self::Split,
        Self::WrongLcs,
        Self::WrongDcs,
        Self::LostAnswer,
        Self::SpuriousNack,
        Self::Garbage,
        Self::Reset,
        Self::Pull,
        Self::PullMidAnswer,
    ];
}

/// How a simulated chip behaves. By default nothing is wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Switches {
    /// How likely each fault is at each opportunity, 0 to 1.
    pub chances: BTreeMap<Injected, f64>,
    /// How late a late acknowledgement is.
    pub late_ack_ms: u64,
    /// The pause between the pieces of a split frame.
    pub split_pause_ms: u64,
    /// How long a card that was pulled stays away; none stays away for good.
    pub away_ms: Option<u64>,
    /// How long a card that was tapped leaves the field once the reader has released it; none stays.
    pub tapped_away_ms: Option<u64>,
    /// The card in the field is pulled at this APDU since it was presented, from 0, for good.
    pub pull_at_apdu: Option<u32>,
    /// The most bytes of a card's answer in one frame.
    pub fragment: usize,
    /// How much longer each APDU takes.
    pub apdu_delay_ms: u64,
    /// A NACK during a command brings the answer to the one before. What the chip does then is not documented.
    pub keeps_last_answer: bool,
    /// Commands are acknowledged, and neither carried out nor answered: a chip that hangs.
    pub never_answers: bool,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            chances: BTreeMap::new(),
            late_ack_ms: 150,
            split_pause_ms: 3,
            away_ms: Some(200),
            tapped_away_ms: None,
            pull_at_apdu: None,
            // Code and status precede it in a frame of at most 264 bytes.
            fragment: 262,
            apdu_delay_ms: 0,
            keeps_last_answer: false,
            never_answers: false,
        }
    }
}

impl Switches {
    /// One fault with this chance.
    pub fn one(fault: Injected, chance: f64) -> Self {
        Self { chances: BTreeMap::from([(fault, chance)]), ..Self::default() }
    }

    /// Every fault, each with this chance.
    pub fn noise(chance: f64) -> Self {
        Self { chances: Injected::ALL.map(|fault| (fault, chance)).into(), ..Self::default() }
    }

    pub(super) fn chance(&self, fault: Injected) -> f64 {
        self.chances.get(&fault).copied().unwrap_or(0.0)
    }

    pub(super) fn apdu_delay(&self) -> Duration {
        Duration::from_millis(self.apdu_delay_ms)
    }
}

/// What has happened at a chip since it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Sound frames from the host that held a command.
    pub commands: u64,
    /// Broken frames from the host.
    pub broken: u64,
    /// Commands answered by the error frame.
    pub syntax_errors: u64,
    /// Acknowledgements from the host: aborts.
    pub aborts: u64,
    /// NACKs from the host.
    pub nacks: u64,
    /// Searches that found a card.
    pub found: u64,
    /// Searches that found none.
    pub empty: u64,
    /// APDUs that reached a card.
    pub apdus: u64,
    /// InRelease.
    pub releases: u64,
    /// SAMConfiguration: a reader sets the chip up.
    pub set_ups: u64,
    /// Faults, by kind.
    pub injected: BTreeMap<Injected, u64>,
}

impl Counters {
    /// How often this fault was injected.
    pub fn injected(&self, fault: Injected) -> u64 {
        self.injected.get(&fault).copied().unwrap_or(0)
    }
}
